#!/bin/sh
# usage: snippets_test.sh BUILD   "Into your build" of examples/README.md: its blocks, each named behind its language,
# are taken out and built with the tools that are here: CMake, Meson, MinGW-w64, ctypes, mcs, and by ANDROID_NDK and
# GODOT_CPP, folders of these. gpt.c is compiled once for each compiler: a cc of our own, ahead in PATH, gives that
# object wherever gpt.c is asked for.
. tests/check.sh
page=examples/README.md
root=$(pwd)
model=$(find_model)
awk -v dir="$tmp" '/^## / { here = $0 == "## Into your build" }
    /^```/ { if (file) close(file); file = here && NF == 2 ? dir "/" $2 : ""; next }
    file { print > file }' $page
for file in gpt.c CMakeLists.txt meson.build windows.sh windows.bat macos.sh android.sh library.sh story.py \
    story.c plugin.sh Story.cs story.cpp story.gdextension; do
    check "$page has $file" test -s "$tmp/$file"
    check "$file: ten lines at most" test "$(wc -l <"$tmp/$file")" -le 10
    same "$file: lines of 130 characters at most" "" "$(awk 'length > 130' "$tmp/$file")"
done
same "story.gdextension names the entry of story.cpp" 1 \
    "$(grep -c "$(sed -n 's/^entry_symbol = "\(.*\)"/\1/p' "$tmp/story.gdextension")(" "$tmp/story.cpp")"

CC=${CC:-cc}
case "$CC:$CFLAGS" in *\ *:*|*mingw*:*|*-fsanitize*|*-m32*)
    skip "snippets: nothing is built with $CC $CFLAGS"; report snippets; exit ;;
esac
cp gpt.h "$tmp"
[ -n "$model" ] && cp "$model" "$tmp/model.gguf" && cp "$model" "$tmp/stories.gguf"
sed -n '/\*\//q; s/^ \*     //p' gpt.h | grep -v GPT_IMPLEMENTATION >"$tmp/app.c"     # the opening comment's program
cd "$tmp" || exit
mkdir bin

# stand_in NAME COMPILER FLAGS: bin/NAME is COMPILER, but for gpt.c, which is compiled here
stand_in() {
    check "gpt.c compiles: $2" $2 $3 -c gpt.c -o "$tmp/$1.o"
    {
        printf '%s\n' '#!/bin/sh' "object='$tmp/$1.o' real='$(command -v $2)'"       # a path: not itself again
        cat <<'END'
for arg; do
    case $before in -o) out=$arg ;; -MF) depend=$arg ;; esac
    case $arg in -c) compile=1 ;; gpt.c|*/gpt.c) gpt=1; arg=$object ;; esac
    before=$arg; shift; set -- "$@" "$arg"
done
[ "$gpt$compile" = 11 ] || exec "$real" "$@"
cp "$object" "$out" && { [ -z "$depend" ] || echo "$out:" >"$depend"; }
END
    } >"bin/$1"
    chmod +x "bin/$1"
}
# with NAME COMMAND...: bin/NAME in place of the compiler of that name
with() { PATH="$tmp/bin:$PATH" "$@"; }
# tells WHAT COMMAND...: it writes the story
tells() {
    what=$1; shift
    [ -n "$model" ] || { skip "snippets: no model: $what"; return; }
    "$@" >out 2>err || fail "$what: exit status $?: $(head -n 5 err)"
    same "$what: stderr" "" "$(head -n 5 err)"
    same "$what: the story" "$story" "$(cat out)"
}

stand_in cc "$CC" "-O1 -DGPT_NO_SIMD -fPIC $CFLAGS"
check "library.sh" with sh -e library.sh
check "a program with libgpt.so" with cc $CFLAGS app.c ./libgpt.so -o app $LDFLAGS -lm
[ -n "$model" ] && story=$(./app) && like "it tells a story" '^.{100}' "$story"

# gpt_struct_bytes knows every struct of the API.
structs=$(awk '/the API ends here/ { exit } /^typedef struct gpt_[a-z_]+ \{/ { print $3 }' gpt.h)
check "gpt.h has structs" test "$(echo "$structs" | wc -l)" -gt 20
{
    printf '#include "gpt.h"\n#include <stdio.h>\nint main(void) {\n'
    for s in $structs; do echo "    if (gpt_struct_bytes(\"$s\") != sizeof($s)) puts(\"$s\");"; done
    echo '    return 0; }'
} >structs.c
check "structs.c builds" with cc $CFLAGS structs.c ./libgpt.so -o structs $LDFLAGS
same "gpt_struct_bytes: wrong or missing" "" "$(./structs)"

if python3 -c 'import ctypes' 2>/dev/null; then
    tells "story.py" python3 story.py model.gguf
    like "story.py without a model" '^none.gguf: ' "$(python3 story.py none.gguf 2>&1)"
    sed 's/c_char \* 192/c_char * 188/' story.py >other.py
    like "another gpt_error than the library's" 'AssertionError: gpt_error has another size' \
        "$(python3 other.py model.gguf 2>&1)"
else
    skip "snippets: no python3 with ctypes: story.py"
fi

check "story.c" with cc -std=c99 -Wall -Wextra -Wpedantic -Wconversion -Werror $CFLAGS -c story.c -o story.o
check "plugin.sh" with sh -e plugin.sh
cat >engine.c <<'END'
#include <stdio.h>
const char *story_open(const char *, const char *), *story_step(void);
void story_close(void);
int main(void) {
    const char *text = story_open("none.gguf", "Once");
    if (!*text || *story_step()) return puts("a model that is not there"), 1;
    if (*(text = story_open("model.gguf", "Once upon a time"))) return puts(text), 1;
    while (*(text = story_step())) fputs(text, stdout);
    return story_close(), *story_step();
}
END
check "an engine of C" with cc $CFLAGS engine.c ./libstory.so -o engine $LDFLAGS
tells "the plug-in" ./engine

if command -v mcs >/dev/null 2>&1 && command -v mono >/dev/null 2>&1; then
    cat >Engine.cs <<'END'
namespace UnityEngine {
    public class MonoBehaviour { }
    public static class Application { public static string streamingAssetsPath = "."; }
    public static class Debug {
        public static string last;
        public static void Log(object o) { System.Console.Write(last = "" + o); }
    }
    class Engine {
        static void Main() {
            var story = new Story();
            var all = (System.Reflection.BindingFlags)(-1);
            System.Action<string> call = name => typeof(Story).GetMethod(name, all).Invoke(story, null);
            call("Start");
            do { Debug.last = null; call("Update"); } while (Debug.last != null);
            call("OnDestroy");
        }
    }
}
END
    check "Story.cs" mcs -warnaserror -out:engine.exe Story.cs Engine.cs
    tells "Story.cs" env LD_LIBRARY_PATH=. mono engine.exe
else
    skip "snippets: no mcs and mono: Story.cs"
fi
if ! command -v ${CXX:-c++} >/dev/null 2>&1; then
    skip "snippets: no C++ compiler: story.cpp"
elif [ -n "${GODOT_CPP:-}" ]; then
    check "story.cpp" ${CXX:-c++} -std=c++17 -fsyntax-only -I"$GODOT_CPP/include" -I"$GODOT_CPP/gen/include" \
        -I"$GODOT_CPP/gdextension" story.cpp
else    # what story.cpp uses of godot-cpp, as it is declared there
    mkdir -p godot_cpp/classes godot_cpp/core
    cat >godot_cpp/classes/node.hpp <<'END'
#define GDE_EXPORT
#define GDCLASS(c, base) private: void operator=(const c &) = delete; friend class ::godot::ClassDB; using up = base;
#define GDREGISTER_CLASS(c) ::godot::ClassDB::register_class<c>();
#define D_METHOD(...) ::godot::method({ __VA_ARGS__ })
typedef unsigned char GDExtensionBool; typedef void *GDExtensionClassLibraryPtr; struct GDExtensionInitialization { };
typedef void (*(*GDExtensionInterfaceGetProcAddress)(const char *))();
#include <initializer_list>
namespace godot {
enum ModuleInitializationLevel { MODULE_INITIALIZATION_LEVEL_CORE, MODULE_INITIALIZATION_LEVEL_SCENE };
struct CharString { const char *get_data() const; };
struct String { static String utf8(const char *, long long = -1); CharString utf8() const; };
struct Node { };
int method(std::initializer_list<const char *>);
class ClassDB { public: template <class M> static void bind_method(int, M);
    template <class T> static void register_class(bool = false) { T::_bind_methods(); } };
struct GDExtensionBinding { struct InitObject {
    InitObject(GDExtensionInterfaceGetProcAddress, GDExtensionClassLibraryPtr, GDExtensionInitialization *);
    void register_initializer(void (*)(ModuleInitializationLevel)) const;
    GDExtensionBool init() const; }; };
}
END
    : >godot_cpp/core/class_db.hpp
    check "story.cpp, with declarations in place of godot-cpp" \
        ${CXX:-c++} -std=c++17 -Wall -Wextra -Werror -fsyntax-only -I. story.cpp
    skip "snippets: GODOT_CPP names no godot-cpp"
fi

if command -v cmake >/dev/null 2>&1; then
    for shared in OFF ON; do
        check "cmake, shared $shared" cmake -B cmake$shared -DCMAKE_C_COMPILER="$tmp/bin/cc" \
            -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=$shared
        check "cmake --build, shared $shared" cmake --build cmake$shared
        tells "the program of CMake, shared $shared" cmake$shared/app
    done
else
    skip "snippets: no cmake"
fi
if command -v meson >/dev/null 2>&1 && command -v ninja >/dev/null 2>&1; then
    check "meson setup" env CC="$tmp/bin/cc" meson setup meson
    check "meson compile" ninja -C meson
    tells "the program of Meson" meson/app
else
    skip "snippets: no meson and ninja"
fi

mingw=x86_64-w64-mingw32
if command -v $mingw-gcc >/dev/null 2>&1; then
    stand_in $mingw-gcc $mingw-gcc "-O0 -DGPT_NO_SIMD -DGPT_API=__declspec(dllexport)"
    check "windows.sh" with sh -e windows.sh
    check "app.exe" test -s app.exe
    like "gpt.dll has the functions of gpt.h" ' gpt_struct_bytes$' "$($mingw-objdump -p gpt.dll)"
else
    skip "snippets: no $mingw-gcc: windows.sh"
fi
if command -v clang >/dev/null 2>&1; then     # whether it knows the options of MSVC's compiler; there are no headers
    same "windows.bat: options" "" "$(
        sed 's/^cl /clang --driver-mode=cl --target=x86_64-pc-windows-msvc -### /' windows.bat | sh -e 2>&1 |
        grep -E '(warning|error): ')"
else
    skip "snippets: no clang: windows.bat"
fi
if [ "$(uname)" = Darwin ]; then check "macos.sh" sh -e macos.sh
else skip "snippets: not macOS: macos.sh"; fi
if [ -n "${ANDROID_NDK:-}" ]; then check "android.sh" sh -e android.sh
else skip "snippets: ANDROID_NDK names no NDK: android.sh"; fi
cd "$root" || exit
report snippets

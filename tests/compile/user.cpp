// The same library from C++: empty braces for the defaults, a capture-less lambda as the callback.
#include "gpt.h"
#include <string>

extern "C" int user_cpp(const char *path) {
    gpt_error err = {};
    gpt_model_params load = {};
    gpt_model *m = nullptr;
    gpt_session *s = nullptr;
    if (gpt_model_load_memory(&m, "", 0, &load, &err) == GPT_OK || m || std::string(err.msg).empty()) return 1;
    if (!path) return 0;
    std::string text;
    gpt_session_params session = {};
    gpt_generate_params params = {};
    params.max_tokens = 4;
    params.ignore_end = 1;
    int bad = gpt_model_load(&m, path, &load, &err) || gpt_session_new(&s, m, &session, &err)
           || gpt_generate(s, "Once", &params, [](void *user, const char *p, size_t n) {
                  static_cast<std::string *>(user)->append(p, n);
                  return 0;
              }, &text, &err);
    gpt_session_free(s);
    gpt_model_free(m);
    return bad || text.empty();
}

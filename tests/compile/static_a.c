/* Two private copies in one program: no name of theirs may clash. */
#define GPT_STATIC
#define GPT_IMPLEMENTATION
#include "gpt.h"
int static_b(void);
int main(void) {
    gpt_model *m;
    return gpt_model_load_memory(&m, "GGU", 3, NULL, NULL) != GPT_E_FORMAT || static_b();
}

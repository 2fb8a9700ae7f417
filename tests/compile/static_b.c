/* The second of the two; see static_a.c. */
#define GPT_STATIC
#define GPT_IMPLEMENTATION
#include "gpt.h"
int static_b(void);
int static_b(void) {
    gpt_model *m;
    return gpt_model_load_memory(&m, "GGU", 3, NULL, NULL) != GPT_E_FORMAT;
}

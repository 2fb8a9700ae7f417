/* Adapters of random numbers for any model, for gguf_builder.h. Include it after gpt.h. */
#ifndef ADAPTER_H
#define ADAPTER_H

#include "gguf_builder.h"
#include <math.h>

static uint32_t adapter_seed = 1;
static float random_number(void) {                         /* between -1 and 1 */
    adapter_seed = adapter_seed * 1664525u + 1013904223u;
    return (float)(int32_t)adapter_seed / 2147483648.0f;
}

static void adapter_head(gb *g, const char *arch, float alpha) {
    gb_init(g, 3, 0);
    gb_kv_str(g, "general.architecture", arch);
    gb_kv_str(g, "general.type", "adapter");
    gb_kv_str(g, "adapter.type", "lora");
    gb_kv_f32(g, "adapter.lora.alpha", alpha);
}
static void random_low(gb *g, const char *name, char side, uint64_t d0, uint64_t d1, uint64_t d2) {
    char full[96];
    uint64_t i;
    snprintf(full, sizeof full, "%s.lora_%c", name, side);
    gb_tensor(g, full, GB_F32, d2 > 1 ? 3 : 2, d0, d1, d2, 1, NULL, 0);
    for (i = 0; i < d0 * d1 * d2; i++) gb_float(g, &g->data, random_number() / sqrtf((float)d0));
}
static int can_change(const gpt_model *m, const gpt_tensor *t) {
    const size_t n = strlen(t->name);
    return !gpti_is_next_layer(&m->hp, t->name) && n > 7 && !strcmp(t->name + n - 7, ".weight") && t->n_row > 1 && !strstr(t->name, "norm") &&
        !strstr(t->name, "position_embd") && !strstr(t->name, "shortconv.conv") &&
        !strstr(t->name, "ssm_conv1d") && !strstr(t->name, "attn_k_b") && !strstr(t->name, "attn_v_b") &&     /* of each head */
        (!strstr(t->name, "altup_") || strstr(t->name, "proj")) && !strstr(t->name, "attn_rel_b");
}
/* of every matrix, or of those whose name has a part; ranks 1 to 5 */
static void random_adapter(gb *g, const gpt_model *m, const char *part, int table, float alpha) {
    gpt_tensor t;
    size_t i;
    adapter_head(g, m->info.architecture, alpha);
    for (i = 0; !gpt_model_tensor(m, NULL, i, 0, 0, NULL, &t, NULL); i++) {
        const uint64_t rank = 1 + i % 5;
        const int embd = strstr(t.name, "token_embd.weight") != NULL;   /* or per_layer_token_embd, which nothing is tied to */
        if (!can_change(m, &t) || (part && !strstr(t.name, part)) || (t.name[0] == 't' && embd && !table)) continue;
        if (embd) random_low(g, t.name, 'a', rank, t.shape[1], 1);
        else random_low(g, t.name, 'a', t.shape[0], rank, t.shape[2]);
        random_low(g, t.name, 'b', rank, embd ? t.shape[0] : t.shape[1], t.shape[2]);
    }
}

#endif

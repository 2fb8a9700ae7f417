/* Malformed GGUF files, each with the code and the words that the loader must answer. Include after gguf_builder.h.
 * Each maker starts from an empty builder of version 3. `unit_gguf --write DIR` writes them out as files. */
#ifndef GGUF_CASES_H
#define GGUF_CASES_H

#include <math.h>

typedef struct bad_gguf {
    const char *name;
    void      (*make)(gb *g);
    int         code;           /* a gpt_result */
    const char *message;        /* must be part of gpt_error.msg */
} bad_gguf;

#define BAD(name) static void bad_##name(gb *g)

static void bad_base(gb *g) {                   /* something correct to stand beside */
    gb_kv_str(g, "general.architecture", "llama");
    gb_tensor(g, "token_embd.weight", GB_F32, 2, 16, 4, 1, 1, NULL, 256);
}

/* -- header -- */
BAD(only_data)     { bad_base(g); g->kv.n = g->info.n = 0; }
BAD(version_1)     { g->version = 1; bad_base(g); }
BAD(version_4)     { g->version = 4; bad_base(g); }
BAD(version_0)     { g->version = 0; bad_base(g); }
BAD(version_huge)  { g->version = 0xffffffffu; bad_base(g); }
BAD(kv_billions)   { gb_kv_str(g, "general.architecture", "llama"); g->n_kv = 4000000000u; }
BAD(kv_wrap)       { gb_kv_str(g, "general.architecture", "llama"); g->n_kv = UINT64_MAX; }
BAD(kv_wrap_size)  { gb_kv_str(g, "general.architecture", "llama"); g->n_kv = UINT64_MAX / 64 + 2; }
BAD(tensors_many)  { bad_base(g); g->n_tensor = 4000000000u; }
BAD(tensors_wrap)  { bad_base(g); g->n_tensor = UINT64_MAX / 80 + 2; }
BAD(kv_one_more)   { gb_kv_bool(g, "a", 1); gb_kv_bool(g, "b", 1); gb_kv_bool(g, "c", 1); g->kv.n -= 14; gb_text(g, &g->kv, "cccccc", 6); }

/* -- keys and values -- */
BAD(key_empty)     { gb_kv_bool(g, "", 1); gb_kv_bool(g, "long enough", 1); }
BAD(key_long)      { gb_uint(g, &g->kv, 65536, 8); g->n_kv = 1; while (g->kv.n < 70000) gb_raw(&g->kv, "k", 1); }
BAD(key_past_end)  { gb_uint(g, &g->kv, 60000, 8); gb_raw(&g->kv, "abcdefghijklmnop", 16); g->n_kv = 1; }
BAD(key_huge)      { gb_uint(g, &g->kv, UINT64_MAX, 8); gb_raw(&g->kv, "abcdefghijklmnop", 16); g->n_kv = 1; }
BAD(key_twice)     { gb_kv_u32(g, "llama.block_count", 1); gb_kv_u32(g, "x", 1); gb_kv_u32(g, "llama.block_count", 2); }
BAD(value_type)    { gb_key(g, "llama.block_count", 13); gb_uint(g, &g->kv, 0, 8); }
BAD(value_type_max){ gb_key(g, "llama.block_count", 0xffffffffu); gb_uint(g, &g->kv, 0, 8); }
BAD(value_cut)     { gb_key(g, "llama.block_count", GB_U64); gb_uint(g, &g->kv, 0, 4); }
BAD(string_huge)   { gb_key(g, "general.name", GB_STR); gb_uint(g, &g->kv, UINT64_MAX, 8); }
BAD(string_past)   { gb_key(g, "general.name", GB_STR); gb_uint(g, &g->kv, 1000, 8); gb_raw(&g->kv, "abc", 3); }
BAD(key_strange)   { gb_kv_bool(g, "a\n\x1b[31m\xff", 1); gb_kv_bool(g, "a\n\x1b[31m\xff", 1); }

/* -- arrays -- */
BAD(array_type)    { gb_kv_array(g, "tokenizer.ggml.tokens", 13, 0); }
BAD(array_count)   { gb_kv_array(g, "tokenizer.ggml.scores", GB_FLOAT, 1000000000u); }
BAD(array_wrap)    { gb_kv_array(g, "tokenizer.ggml.scores", GB_FLOAT, UINT64_MAX / 4 + 2); gb_uint(g, &g->kv, 0, 8); }
BAD(array_strings) { gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, UINT64_MAX / 8 + 2); gb_uint(g, &g->kv, 0, 8); }
BAD(array_string_past) {
    gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, 2);
    gb_text(g, &g->kv, "ok", 2);
    gb_uint(g, &g->kv, 9, 8);
    gb_raw(&g->kv, "short", 5);
}
BAD(array_string_huge) { gb_kv_array(g, "tokenizer.ggml.tokens", GB_STR, 1); gb_uint(g, &g->kv, UINT64_MAX, 8); }
BAD(nested_type)   { gb_kv_array(g, "a", GB_ARR, 1); gb_array(g, 99, 0); }
BAD(nested_count)  { gb_kv_array(g, "a", GB_ARR, 2); gb_array(g, GB_U8, 0); gb_array(g, GB_U64, 1u << 30); }
BAD(nested_many)   { gb_kv_array(g, "a", GB_ARR, 100); gb_array(g, GB_U8, 0); }
BAD(nested_deep) {
    int i;
    gb_kv_array(g, "deep", GB_ARR, 1);
    for (i = 0; i < 1000; i++) gb_array(g, GB_ARR, 1);
    gb_array(g, GB_U8, 0);
}

/* -- alignment and split keys -- */
BAD(align_0)       { gb_kv_u32(g, "general.alignment", 0); bad_base(g); }
BAD(align_3)       { gb_kv_u32(g, "general.alignment", 3); bad_base(g); }
BAD(align_huge)    { gb_kv_u32(g, "general.alignment", 1u << 21); bad_base(g); }
BAD(align_top)     { gb_kv_u32(g, "general.alignment", 1u << 31); bad_base(g); }
BAD(align_str)     { gb_kv_str(g, "general.alignment", "32"); bad_base(g); }
BAD(align_neg)     { gb_kv_uint(g, "general.alignment", GB_I32, 0xffffffe0u); bad_base(g); }
BAD(split_part)    { gb_kv_uint(g, "split.count", GB_U16, 3); gb_kv_uint(g, "split.no", GB_U16, 1); bad_base(g); }
BAD(split_no)      { gb_kv_uint(g, "split.no", GB_U16, 1); bad_base(g); }
BAD(split_tensors) { gb_kv_uint(g, "split.tensors.count", GB_I32, 5); bad_base(g); }

/* -- tensor infos -- */
#define TENSOR(type, n_dim, a, b, c, d, offset) bad_base(g); gb_info(g, "blk.0.attn_q.weight", type, n_dim, a, b, c, d, offset)
BAD(name_empty)    { bad_base(g); gb_info(g, "", GB_F32, 1, 1, 1, 1, 1, 0); }
BAD(no_extents)    { TENSOR(GB_F32, 0, 1, 1, 1, 1, 256); }
BAD(five_extents)  { TENSOR(GB_F32, 5, 1, 1, 1, 1, 256); }
BAD(many_extents)  { TENSOR(GB_F32, 2, 1, 1, 1, 1, 256); memset(g->info.p + g->info.n - 4 - 8 - 16 - 4, 0xff, 4); }
BAD(extent_0)      { TENSOR(GB_F32, 2, 16, 0, 1, 1, 256); }
BAD(extent_wrap)   { TENSOR(GB_F32, 2, (uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1, 0); }
BAD(extent_wrap4)  { TENSOR(GB_F32, 4, 65536, 65536, 65536, 65536, 0); }
BAD(extent_neg)    { TENSOR(GB_F32, 1, UINT64_MAX, 1, 1, 1, 0); }
BAD(bytes_wrap)    { TENSOR(GB_F32, 1, (uint64_t)1 << 62, 1, 1, 1, 0); }
BAD(zero_hides)    { TENSOR(GB_F32, 3, (uint64_t)1 << 63, 2, 0, 1, 0); }
BAD(type_unknown)  { TENSOR(99, 1, 32, 1, 1, 1, 256); }
BAD(type_removed)  { TENSOR(4, 1, 32, 1, 1, 1, 256); }
BAD(type_huge)     { TENSOR(0xffffffffu, 1, 32, 1, 1, 1, 256); }
BAD(row_length)    { TENSOR(GB_Q4_K, 2, 100, 64, 1, 1, 256); }
BAD(row_length_32) { TENSOR(GB_Q8_0, 2, 48, 2, 1, 1, 256); }
BAD(unaligned)     { TENSOR(GB_F32, 1, 4, 1, 1, 1, 260); }
BAD(past_end)      { TENSOR(GB_F32, 1, 4, 1, 1, 1, 256); }
BAD(offset_huge)   { TENSOR(GB_F32, 1, 4, 1, 1, 1, UINT64_MAX - 31); }
BAD(offset_wraps)  { TENSOR(GB_F32, 1, 16, 1, 1, 1, UINT64_MAX - 63); }
BAD(size_past)     { TENSOR(GB_F32, 1, 1 << 20, 1, 1, 1, 0); }
BAD(overlap)       { TENSOR(GB_F32, 1, 16, 1, 1, 1, 192); }
BAD(overlap_same)  { TENSOR(GB_F32, 1, 1, 1, 1, 1, 0); }
BAD(tensor_twice)  { bad_base(g); gb_tensor(g, "token_embd.weight", GB_F32, 1, 4, 1, 1, 1, NULL, 16); }
BAD(no_data)       { gb_info(g, "x", GB_F32, 1, 1, 1, 1, 1, 0); gb_kv_u32(g, "general.alignment", 1u << 20); }
#undef TENSOR
#undef BAD

static const bad_gguf bad_ggufs[] = {
    { "only_data", bad_only_data, -4, "metadata pair 1: key of 0 bytes, expected 1 to 65535" },
    { "version_1", bad_version_1, -5, "GGUF header: expected version 2 or 3, file has 1" },
    { "version_4", bad_version_4, -5, "GGUF header: expected version 2 or 3, file has 4" },
    { "version_0", bad_version_0, -5, "GGUF header: expected version 2 or 3, file has 0" },
    { "version_huge", bad_version_huge, -5, "GGUF header: expected version 2 or 3, file has 4294967295" },
    { "kv_billions", bad_kv_billions, -4, "GGUF header: 0 tensors and 4000000000 metadata pairs cannot fit the 45 bytes that follow" },
    { "kv_wrap", bad_kv_wrap, -4, "18446744073709551615 metadata pairs cannot fit" },
    { "kv_wrap_size", bad_kv_wrap_size, -4, "metadata pairs cannot fit" },
    { "tensors_many", bad_tensors_many, -4, "4000000000 tensors and 1 metadata pairs cannot fit" },
    { "tensors_wrap", bad_tensors_wrap, -4, "metadata pairs cannot fit" },
    { "kv_one_more", bad_kv_one_more, -4, "cccccc: 4 bytes expected at offset 66, 0 are left (cut short?)" },

    { "key_empty", bad_key_empty, -4, "metadata pair 1: key of 0 bytes, expected 1 to 65535" },
    { "key_long", bad_key_long, -4, "metadata pair 1: key of 65536 bytes, expected 1 to 65535" },
    { "key_past_end", bad_key_past_end, -4, "metadata pair 1: 60000 bytes expected at offset 32, 16 are left" },
    { "key_huge", bad_key_huge, -4, "metadata pair 1: key of 18446744073709551615 bytes" },
    { "key_twice", bad_key_twice, -4, "llama.block_count: the key is there twice" },
    { "value_type", bad_value_type, -4, "llama.block_count: expected a value type below 13, file has 13" },
    { "value_type_max", bad_value_type_max, -4, "llama.block_count: expected a value type below 13, file has 4294967295" },
    { "value_cut", bad_value_cut, -4, "llama.block_count: 8 bytes expected at offset 53, 4 are left" },
    { "string_huge", bad_string_huge, -4, "general.name: " },
    { "string_past", bad_string_past, -4, "general.name: 1000 bytes expected at offset 56, 3 are left" },
    { "key_strange", bad_key_strange, -4, "a\\x0a\\x1b[31m\\xff: the key is there twice" },

    { "array_type", bad_array_type, -4, "tokenizer.ggml.tokens: expected an element type below 13, file has 13" },
    { "array_count", bad_array_count, -4, "tokenizer.ggml.scores: 1000000000 elements of type f32 cannot fit the 0 bytes that are left" },
    { "array_wrap", bad_array_wrap, -4, "tokenizer.ggml.scores: 4611686018427387905 elements of type f32 cannot fit the 8 bytes" },
    { "array_strings", bad_array_strings, -4, "tokenizer.ggml.tokens: 2305843009213693953 elements of type string cannot fit the 8 bytes" },
    { "array_string_past", bad_array_string_past, -4, "tokenizer.ggml.tokens: 9 bytes expected at offset 87, 5 are left" },
    { "array_string_huge", bad_array_string_huge, -4, "tokenizer.ggml.tokens: 18446744073709551615 bytes expected" },
    { "nested_type", bad_nested_type, -4, "a: expected an element type below 13, file has 99" },
    { "nested_count", bad_nested_count, -4, "a: 1073741824 elements of type u64 cannot fit the 0 bytes" },
    { "nested_many", bad_nested_many, -4, "a: 100 elements of type array cannot fit the 12 bytes" },
    { "nested_deep", bad_nested_deep, -4, "deep: arrays nested deeper than 8" },

    { "align_0", bad_align_0, -4, "general.alignment: expected a power of two up to 1048576, file has 0" },
    { "align_3", bad_align_3, -4, "general.alignment: expected a power of two up to 1048576, file has 3" },
    { "align_huge", bad_align_huge, -4, "general.alignment: expected a power of two up to 1048576, file has 2097152" },
    { "align_top", bad_align_top, -4, "general.alignment: expected a power of two up to 1048576, file has 2147483648" },
    { "align_str", bad_align_str, -4, "general.alignment: expected an integer from 0 to 4294967295, file has string" },
    { "align_neg", bad_align_neg, -4, "general.alignment: expected an integer from 0 to 4294967295, file has i32" },
    { "split_part", bad_split_part, -4, "split.count: this is part 2 of 3, named NAME-00002-of-00003.gguf when split" },
    { "split_no", bad_split_no, 0, "" },           /* left over from when the file was a part of another */
    { "split_tensors", bad_split_tensors, 0, "" },

    { "name_empty", bad_name_empty, -4, "tensor info 2: name of 0 bytes, expected 1 to 65535" },
    { "no_extents", bad_no_extents, -4, "blk.0.attn_q.weight: expected 1 to 4 extents, file has 0" },
    { "five_extents", bad_five_extents, -4, "blk.0.attn_q.weight: expected 1 to 4 extents, file has 5" },
    { "many_extents", bad_many_extents, -4, "blk.0.attn_q.weight: expected 1 to 4 extents, file has 4294967295" },
    { "extent_0", bad_extent_0, -4, "blk.0.attn_q.weight: extents must not be 0, file has F32 [16, 0]" },
    { "extent_wrap", bad_extent_wrap, -4, "blk.0.attn_q.weight: extents too large for this machine: F32 [4294967296, 4294967296]" },
    { "extent_wrap4", bad_extent_wrap4, -4, "extents too large for this machine: F32 [65536, 65536, 65536, 65536]" },
    { "extent_neg", bad_extent_neg, -4, "blk.0.attn_q.weight: extents too large for this machine: F32 [18446744073709551615]" },
    { "bytes_wrap", bad_bytes_wrap, -4, "blk.0.attn_q.weight: extents too large for this machine: F32 [4611686018427387904]" },
    { "zero_hides", bad_zero_hides, -4, "extents must not be 0, file has F32 [9223372036854775808, 2, 0]" },
    { "type_unknown", bad_type_unknown, -5, "blk.0.attn_q.weight: unknown tensor type 99" },
    { "type_removed", bad_type_removed, -5, "blk.0.attn_q.weight: unknown tensor type 4" },
    { "type_huge", bad_type_huge, -5, "blk.0.attn_q.weight: unknown tensor type 4294967295" },
    { "row_length", bad_row_length, -4, "blk.0.attn_q.weight: Q4_K rows need a multiple of 256 columns, file has 100 in [100, 64]" },
    { "row_length_32", bad_row_length_32, -4, "blk.0.attn_q.weight: Q8_0 rows need a multiple of 32 columns, file has 48 in [48, 2]" },
    { "unaligned", bad_unaligned, -4, "blk.0.attn_q.weight: offset 260 is not a multiple of 32" },
    { "past_end", bad_past_end, -4, "blk.0.attn_q.weight: 16 bytes of data at 256, but the file has 256 there (cut short?)" },
    { "offset_huge", bad_offset_huge, -4, "blk.0.attn_q.weight: 16 bytes of data at 18446744073709551584" },
    { "offset_wraps", bad_offset_wraps, -4, "blk.0.attn_q.weight: 64 bytes of data at 18446744073709551552" },
    { "size_past", bad_size_past, -4, "blk.0.attn_q.weight: 4194304 bytes of data at 0, but the file has 256 there" },
    { "overlap", bad_overlap, -4, "blk.0.attn_q.weight: its data overlaps that of token_embd.weight" },
    { "overlap_same", bad_overlap_same, -4, ": its data overlaps that of " },
    { "tensor_twice", bad_tensor_twice, -4, "token_embd.weight: the tensor is there twice" },
    { "no_data", bad_no_data, -4, "x: 4 bytes of data at 0, but the file has 0 there" }
};
enum { N_BAD_GGUF = sizeof bad_ggufs / sizeof *bad_ggufs };

enum { N_F32 = 64 };

/* A correct file with every type of value and array: what the tests take apart. */
static void whole_file(gb *g, uint32_t version, int big, int align) {
    static const char *const words[] = { "<unk>", "", "a", "\xc3\xa9t\xc3\xa9" };
    static const float scores[] = { 0, -1.5f, 1099511627776.0f };
    static const int32_t types[] = { 2, -7, 2147483647 };
    float x[N_F32];
    unsigned char q[34 * 3];
    int i;
    gb_init(g, version, big);
    g->align = (uint32_t)align;
    gb_kv_str(g, "general.architecture", "llama");
    if (align != 32) gb_kv_u32(g, "general.alignment", (uint32_t)align);
    gb_kv_uint(g, "t.u8", GB_U8, 200);
    gb_kv_uint(g, "t.i8", GB_I8, 0xff);
    gb_kv_uint(g, "t.u16", GB_U16, 60000);
    gb_kv_uint(g, "t.i16", GB_I16, 0x8000);
    gb_kv_uint(g, "t.u32", GB_U32, 4000000000u);
    gb_kv_uint(g, "t.i32", GB_I32, 0xfffffffeu);
    gb_kv_uint(g, "t.u64", GB_U64, (uint64_t)1 << 40);
    gb_kv_uint(g, "t.u64max", GB_U64, UINT64_MAX);
    gb_kv_uint(g, "t.i64", GB_I64, 77);
    gb_kv_uint(g, "t.i64neg", GB_I64, UINT64_MAX - 4);
    gb_kv_f32(g, "t.f32", 0.15625f);
    gb_kv_f32(g, "t.nan", (float)NAN);
    gb_key(g, "t.f64", GB_DOUBLE); gb_double(g, &g->kv, 1e300);
    gb_key(g, "t.pi", GB_DOUBLE); gb_double(g, &g->kv, 3.140625);
    gb_kv_bool(g, "t.true", 1);
    gb_kv_bool(g, "t.false", 0);
    gb_kv_str(g, "t.empty", "");
    gb_kv_strs(g, "a.words", words, 4);
    gb_kv_strs(g, "a.none", words, 0);
    gb_kv_f32s(g, "a.scores", scores, 3);
    gb_kv_i32s(g, "a.types", types, 3);
    gb_kv_array(g, "a.big", GB_U32, 1); gb_uint(g, &g->kv, 0xffffffffu, 4);
    gb_kv_array(g, "a.u8", GB_U8, 3); gb_raw(&g->kv, "\1\2\3", 3);
    gb_kv_array(g, "a.bool", GB_BOOL, 2); gb_raw(&g->kv, "\1\0", 2);
    gb_kv_array(g, "a.nested", GB_ARR, 3);
    gb_array(g, GB_U16, 2); gb_uint(g, &g->kv, 0x0102, 4);
    gb_array(g, GB_ARR, 2); gb_array(g, GB_STR, 1); gb_text(g, &g->kv, "deep", 4); gb_array(g, GB_ARR, 0);
    gb_array(g, GB_U8, 0);
    gb_kv_u32(g, "z.last", 42);
    for (i = 0; i < N_F32; i++) x[i] = (float)i / 4;
    gb_tensor_f32(g, "token_embd.weight", 2, 16, 4, x);
    for (i = 0; i < (int)sizeof q; i++) q[i] = (unsigned char)i;
    for (i = 0; i < 3 && big; i++) { q[34 * i] = (unsigned char)(34 * i + 1); q[34 * i + 1] = (unsigned char)(34 * i); }
    gb_tensor(g, "blk.0.attn_q.weight", GB_Q8_0, 2, 32, 3, 1, 1, q, sizeof q);
    gb_tensor_f32(g, "output_norm.weight", 1, 3, 1, x + 5);
}

#endif

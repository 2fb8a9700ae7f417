/* gpt.h 0.2.0 - GPT-family language models on the CPU, inside any program. One C99 header, no
 * dependency.
 *
 *     #define GPT_IMPLEMENTATION              // in exactly one file of the program
 *     #include "gpt.h"
 *     #include <stdio.h>
 *     static int print(void *user, const char *text, size_t n) { return fwrite(text, 1, n, (FILE *)user) != n; }
 *     int main(void) {
 *         gpt_error err; gpt_model *m = NULL; gpt_session *s = NULL;
 *         if (gpt_model_load(&m, "model.gguf", NULL, &err) || gpt_session_new(&s, m, NULL, &err) ||
 *             gpt_generate(s, "Once upon a time", NULL, print, stdout, &err)) fprintf(stderr, "%s\n", err.msg);
 *         gpt_session_free(s); gpt_model_free(m);
 *         return 0;
 *     }
 *
 * Build: cc -O2 app.c -lm            (add -fopenmp to use more than one thread)
 *
 * Models are GGUF files as published; README.md lists architectures and number formats. A gpt_model
 * never changes after loading and may be used by any number of threads at once; a gpt_session holds
 * one running text and belongs to one thread at a time, together with all that share its work space;
 * a frozen one to any number of threads. The library prints nothing, never exits,
 * keeps no global state and reads no environment: every failure is a code and a message. The same
 * tokens give the same logits, to the bit, whatever the thread count, the chunking of the prompt,
 * the kernel set or the processor.
 *
 * Macros, all optional, seen only where GPT_IMPLEMENTATION is defined (GPT_STATIC and GPT_API:
 * everywhere alike):
 *   GPT_STATIC               every function static: the library private to one file
 *   GPT_API                  what stands before each public function (default: extern, or static)
 *   GPT_MALLOC(n) GPT_FREE(p)  the default allocator (both or none; a gpt_alloc in the params wins)
 *   GPT_ASSERT(x)            checks of our own logic, never of input (default: nothing)
 *   GPT_NO_STDIO             no file access: load from memory or through a reader
 *   GPT_NO_MMAP              no memory mapping (plain reads instead)
 *   GPT_NO_OPENMP            no OpenMP even where the compiler offers it
 *   GPT_NO_SIMD              plain C kernels only
 *   GPT_SELF                 how this file includes itself for each kernel set (default: "gpt.h")
 *
 * Limits: files up to 2^63 bytes; context up to 2^24 tokens; text up to 2^31 - 1 bytes a call.
 * Weights that are infinite or NaN load; what depends on them is NaN, and a logit that is NaN has
 * the same bits everywhere. Licence: MIT No Attribution or the Unlicense, at your choice; full text
 * and change list at the end of this file. */
#ifndef GPT_H
#define GPT_H

#include <stddef.h>
#include <stdint.h>

#define GPT_VERSION "0.2.0"
#define GPT_VERSION_NUMBER 0x000200     /* major << 16 | minor << 8 | patch */

#ifndef GPT_API
#  ifdef GPT_STATIC
#    define GPT_API static
#  else
#    define GPT_API extern
#  endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Results. Every fallible call returns a gpt_result and fills the caller's gpt_error if one is passed. ---- */

typedef enum gpt_result {
    GPT_OK            =   0,
    GPT_MORE          =   1,    /* gpt_step, gpt_work_step: call again; info.result: under way */
    GPT_E_ARG         =  -1,    /* an argument makes no sense */
    GPT_E_MEMORY      =  -2,    /* out of memory */
    GPT_E_IO          =  -3,    /* a file or reader could not be opened or read */
    GPT_E_FORMAT      =  -4,    /* a malformed file */
    GPT_E_UNSUPPORTED =  -5,    /* a valid file that this library cannot compute correctly */
    GPT_E_SHAPE       =  -6,    /* a tensor is missing or has another shape than its model demands */
    GPT_E_CONTEXT     =  -7,    /* does not fit the context */
    GPT_E_CANCELLED   =  -8,    /* a hook asked to stop; the session is as before the call's last chunk */
    GPT_E_STATE       =  -9,    /* the object is not in a state that allows this call */
    GPT_E_FOREIGN     = -10,    /* sound, but of another model, adapter, cache format or constraint */
    GPT_E_REFUSED     = -11     /* a text that the constraint, or messages that the chat template does not take */
} gpt_result;

typedef struct gpt_error {      /* always valid to read after a call that was given it; msg is "" on success */
    gpt_result code;
    char       msg[192];
} gpt_error;

/* ---- Hooks. All-zero means: the library's own. They may ask, not act: while a call runs, all sessions
 * of its work space are busy. From poll, trace and a text's fn one may read them (info, tokens, ready
 * logits), hold them, and end them (gpt_end: at the next look at poll, the others go on); all else
 * answers GPT_E_STATE or does nothing, freeing included. Sessions of other work spaces may be used
 * freely. A hook must not throw or longjmp. While a call runs, another thread may call nothing for the
 * same work space: set a flag of your own that poll looks at. ---- */

/* Memory: both functions or none. Called while a model, adapter or session is made or freed, and while text
 * is taken apart: gpt_tokenize, gpt_chat*, the prompt of gpt_generate and gpt_begin take at most
 * 240 times the text (or rendered conversation) and 1 KiB, gpt_chat* what a template may take as well, and
 * give it back before they return. gpt_model_tensor and gpt_constraint_check do likewise; so do gpt_embed and
 * gpt_choose, which takes 8 bytes for each token of the context as well. All else never allocates. */
typedef struct gpt_alloc {
    void *(*alloc)(void *user, size_t n);
    void  (*free)(void *user, void *p);
    void   *user;
} gpt_alloc;

typedef struct gpt_reader {     /* where the bytes of a model come from, e.g. an archive of the host */
    size_t (*read)(void *user, uint64_t offset, void *dst, size_t n);   /* bytes read; fewer: an error */
    void    *user;
    uint64_t size;              /* bytes in all */
} gpt_reader;

typedef void (*gpt_task)(void *arg, size_t begin, size_t end, int worker);

/* The host's own threads, as in examples/pool.h: run calls task(arg, begin, end, worker) on ranges
 * that cover [0, n) once, on any threads, and returns when all are done. No worker, 0 to n_worker -
 * 1, runs twice at once. cost is about the multiply-adds of one of n. Sessions of several threads
 * may call run at the same time. */
typedef struct gpt_parallel {
    void (*run)(void *user, size_t n, size_t cost, gpt_task task, void *arg);
    void  *user;
    int    n_worker;            /* 0 = 1; the session holds 116 KiB for each */
} gpt_parallel;

typedef enum gpt_poll { GPT_GO = 0, GPT_PAUSE = 1, GPT_CANCEL = 2 } gpt_poll;

typedef struct gpt_model   gpt_model;
typedef struct gpt_session gpt_session;
typedef int32_t            gpt_token;

/* One intermediate result, handed to the trace hook as it is computed. name, in this order: "embd" *;
 * of each layer "attn_norm" "q" * "k" * "v" * "q_rope" * "k_rope" "att_weights" "att" * "attn_out" * "resid"
 * "ffn_norm" "experts" "ffn_gate" * "ffn_up" * "ffn_act" "ffn_down" * "out" *; "norm" "logits".
 * att_weights, where the session asks for them: an event for each token, with a row for each head: how much of
 * each key up to the last that the token sees. experts [n_row, n_expert]: what each one's output counts, 0 of
 * those not chosen. Of a layer of experts ffn_gate, _up and _act have a row for each expert of a token, and there
 * is no ffn_down. Of a layer of short convolution q, k and v are what [FORWARD] calls b, c and x, and there is no
 * q_rope, k_rope, att_weights. What has a * the hook may change in place: what comes later is computed from it. It
 * says so by returning 1, and the text is marked (info.changed): saving and freezing it are GPT_E_STATE. */
typedef struct gpt_trace {
    const char  *name;
    int          layer;         /* -1 for embd, norm and logits */
    float       *data;          /* row r begins at data + r * stride; valid during the call */
    size_t       n_row, n_col, stride;
    size_t       position;      /* of row 0 in the text */
    const gpt_session *session; /* whose */
} gpt_trace;

/* poll is asked between slices of work of a few milliseconds at most: done of total tokens are
 * computed, of the prompt, then of one new token after the other; of all texts that take part.
 * GPT_PAUSE makes gpt_step and gpt_work_step return, and is ignored by calls that block; GPT_CANCEL
 * ends all texts that take part, in a step every one that is not held: with GPT_E_CANCELLED, a
 * generation with GPT_FINISH_HOST too. To end one of them: gpt_end. */
typedef struct gpt_hooks {
    gpt_parallel parallel;      /* the host's threads instead of OpenMP */
    gpt_poll   (*poll)(void *user, size_t done, size_t total);
    void        *poll_user;
    int        (*trace)(void *user, const gpt_trace *t);        /* 1 = it has changed t->data, else 0 */
    void        *trace_user;
} gpt_hooks;

/* ---- Model: weights and tokenizer, read-only after loading ---- */

typedef struct gpt_model_params {   /* NULL or {0}: sensible defaults */
    gpt_alloc    alloc;         /* memory of the model and of every session on it */
    gpt_parallel parallel;      /* threads for loading */
    int          n_threads;     /* OpenMP threads for loading; 0 = as many as OpenMP offers */

    /* 0 = weights are rearranged for speed while they are read; 1 = used in place, as mapped or as
     * given in memory: starts at once, runs slower; same bits */
    int          mapped;
    int          header_only;   /* 1 = no weights: tokenize, gpt_model_*, gpt_session_bytes work */

    /* NULL = the best set for this processor; "ref", "avx2" ... forces one. "amx" is taken only by
     * name, as it has Linux lend its registers to the whole process: a signal stack (sigaltstack)
     * that is made later then needs room for them, 8 KiB. */
    const char  *kernels;
    /* NULL = as the file says; else a tokenizer.ggml.pre such as "llama-bpe". Of BERT's kin: "uncased", no capitals
     * and no accents, which is also what a file means that says nothing; "cased", text as it is */
    const char  *pretokenizer;
    int        (*progress)(void *user, uint64_t done, uint64_t total);  /* bytes; not 0 cancels the load */
    void        *progress_user;
} gpt_model_params;

typedef struct gpt_model_info { /* strings live as long as the model */
    const char *architecture, *name, *kernels, *chat_template;   /* "" where the file has none */
    uint32_t    n_vocab, n_ctx, n_layer, n_head, n_kv_head, d_model, d_ff;   /* n_ctx: what the model was trained for */
    uint64_t    n_param, file_bytes, weight_bytes;               /* weight_bytes: as held in memory */
    gpt_token   bos, eos;                                        /* -1 = none */
    uint32_t    n_embd;                                          /* numbers of gpt_embed's vector */
    int         pool, encoder;  /* a gpt_pool as the file says; 1 = it makes vectors alone, and writes no text */
} gpt_model_info;

/* Load a GGUF file; of a split model, name any part. On failure *out is NULL and there is nothing
 * to free. */
GPT_API gpt_result gpt_model_load(gpt_model **out, const char *path, const gpt_model_params *params, gpt_error *err);

/* The same from bytes in memory. With params->mapped the bytes are borrowed and must outlive the
 * model. */
GPT_API gpt_result gpt_model_load_memory(gpt_model **out, const void *data, size_t size, const gpt_model_params *params,
                                         gpt_error *err);

/* The same through the host's own reader, one per part of a split model in order (n_part is 1
 * otherwise). */
GPT_API gpt_result gpt_model_load_reader(gpt_model **out, const gpt_reader *parts, int n_part,
                                         const gpt_model_params *params, gpt_error *err);

GPT_API uint32_t gpt_version(void);             /* GPT_VERSION_NUMBER of the code that is linked */
GPT_API size_t gpt_struct_bytes(const char *name);  /* sizeof one of these structs as compiled, for bindings; or 0 */
GPT_API void gpt_model_free(gpt_model *m);      /* NULL is fine; free the sessions first */
GPT_API void gpt_model_info_get(const gpt_model *m, gpt_model_info *info);

typedef struct gpt_meta {       /* one value of a file's metadata; strings live as long as the model */
    const char *key, *text;     /* text: of a string, n_text bytes and a NUL; else NULL */
    size_t      n_text, n;      /* n: elements of an array; 1 of a plain value */
    double      number;
    int         type;           /* GGUF's number of it: 6 = f32, 8 = string ...; of an array its elements' */
} gpt_meta;

typedef struct gpt_tensor {     /* of the file; strings live as long as the model */
    const char *name, *type;    /* such as "blk.0.attn_q.weight", "Q8_0" */
    uint64_t    shape[4];       /* as in the file: neighbours in memory first, 1 beyond the last */
    uint64_t    n_row, n_col;   /* the same as rows: n_col = shape[0] */
} gpt_tensor;

/* The value of a key, for an array of numbers its element i; key NULL: of the i-th key in the order of
 * names. GPT_E_ARG: there is none. GPT_E_STATE: an element, but the file is at hand only in a model that
 * uses it as mapped. */
GPT_API gpt_result gpt_model_meta(const gpt_model *m, const char *key, size_t i, gpt_meta *out);

/* Rows row to row + n - 1 of a tensor as floats [n, n_col], n 0: none; name NULL: of the i-th tensor in
 * the order of names. info: NULL is fine. Takes 120 KiB from the model's allocator and gives them back.
 * GPT_E_STATE: its numbers are not kept: rope factors, all of a model opened for its header alone. */
GPT_API gpt_result gpt_model_tensor(const gpt_model *m, const char *name, size_t i, size_t row, size_t n, float *rows,
                                    gpt_tensor *info, gpt_error *err);

/* ---- Tokens ---- */

enum {
    GPT_TOKENIZE_BOS     = 1,   /* add the begin (and end) token that the file asks for */
    GPT_TOKENIZE_SPECIAL = 2,   /* text that spells a control token becomes it: never for text from a user */
    GPT_TOKENIZE_CONTINUE = 4   /* the text goes on from other text: SentencePiece puts no space in front of it */
};

/* Text to tokens. Writes at most max ids and sets *n to the number the whole text needs, so max 0
 * asks for it. */
GPT_API gpt_result gpt_tokenize(const gpt_model *m, const char *text, size_t n_text, unsigned flags, gpt_token *ids,
                                size_t max, size_t *n, gpt_error *err);

/* Tokens to text: writes at most size bytes (no terminator) and returns the number the whole text
 * needs. Control tokens give nothing unless special is set; ids out of range give nothing. */
GPT_API size_t gpt_detokenize(const gpt_model *m, const gpt_token *ids, size_t n, int special, char *text, size_t size);

/* The bytes of one token, not NUL-terminated, perhaps part of a character; NULL and 0 when out of
 * range. */
GPT_API const char *gpt_token_text(const gpt_model *m, gpt_token id, size_t *n);
GPT_API gpt_token   gpt_token_find(const gpt_model *m, const char *text);   /* a token by its exact text, or -1 */
GPT_API int         gpt_token_is_control(const gpt_model *m, gpt_token id);
GPT_API int         gpt_token_is_end(const gpt_model *m, gpt_token id);     /* ends a text or a turn */

/* ---- Adapter: LoRA (Hu 2021, arXiv:2106.09685), small changes to a model ---- */

/* Matrices that it names, W, become W + scale alpha / rank B A in the sessions that it is given to. Read-only after
 * loading, for any number of sessions on any threads; free it after the last of them, before the model. */
typedef struct gpt_adapter gpt_adapter;

/* A GGUF file as llama.cpp reads them, from PEFT by tools/convert_weights.py; its numbers become F32. r->read NULL:
 * from r->user, memory of r->size bytes. GPT_E_FOREIGN: for another architecture; GPT_E_SHAPE: for a matrix that the
 * model does not have, or has in another shape. On failure *out is NULL and there is nothing to free. */
GPT_API gpt_result gpt_adapter_load(gpt_adapter **out, const gpt_model *m, const char *path, gpt_error *err);
GPT_API gpt_result gpt_adapter_load_reader(gpt_adapter **out, const gpt_model *m, const gpt_reader *r, gpt_error *err);
GPT_API void       gpt_adapter_free(gpt_adapter *a);    /* NULL is fine */
GPT_API uint32_t   gpt_adapter_rank(const gpt_adapter *a);      /* its largest: what n_rank has to be; NULL: 0 */

/* ---- Session: one running text ---- */

typedef enum gpt_kv { GPT_KV_F16 = 0, GPT_KV_F32 = 1, GPT_KV_Q8_0 = 2, GPT_KV_Q4_0 = 3 } gpt_kv;

/* The room that a pass is computed in. A session has one of its own unless it is given one to share:
 * sessions that name the same one are a batch. gpt_work_step computes one pass of all that is under
 * way in it (gpt_begin, gpt_chat_begin, gpt_eval_begin): a token of each session that writes, then
 * n_fill rows of prompts in equal shares, or n_batch where nobody writes; who began first has the
 * first turn, and with fewer rows than texts all have one in turn. What one session ends with, its
 * end, an error, a full context, never touches another. A call that blocks (gpt_eval, gpt_generate ...)
 * first ends the pass under way, in which fn of others may be called, then computes its session alone.
 *
 * Threads: at the same time go calls on different work spaces, and all that only reads a model or a
 * frozen session (as prefix, as src of a copy, to be saved). A work space and its sessions are one
 * object: one call at a time, from any thread, gpt_session_new, _free and _info_get included. Free
 * sessions, then the work space; a frozen session after all that begin with it; the model last. */
typedef struct gpt_work gpt_work;

typedef struct gpt_work_params {    /* NULL or {0}: sensible defaults */
    /* Rows of a pass; 0 = 256. Never changes results. A model whose rows see later ones takes a text as a whole:
     * 0 = what it was trained for, at most 2048, and a longer text is GPT_E_CONTEXT */
    uint32_t     n_batch;
    uint32_t     n_fill;        /* of them for prompts while another session writes; 0 = 32 */
    /* OpenMP threads; 0 = as many as OpenMP offers, at most 256: safe beside other work, as nobody
     * waits for a thread that does not run. Without OpenMP and parallel: always 1. */
    int          n_threads;
    gpt_hooks    hooks;
    uint32_t     n_rank;        /* largest rank of its sessions' adapters; 0 = none has one */
} gpt_work_params;

/* Exact size of a work space in bytes. As long as it has sessions, gpt_work_free does nothing. */
GPT_API size_t     gpt_work_bytes(const gpt_model *m, const gpt_work_params *params);
GPT_API gpt_result gpt_work_new(gpt_work **out, const gpt_model *m, const gpt_work_params *params, gpt_error *err);
GPT_API void       gpt_work_free(gpt_work *w);          /* NULL is fine */
/* One pass at most, or up to a GPT_PAUSE of the poll hook, in the middle of the pass if need be.
 * GPT_MORE while any session that is not held is under way; GPT_OK: nothing to do. What became of each
 * is in its gpt_session_info. GPT_E_CANCELLED: poll has ended all that are not held. */
GPT_API gpt_result gpt_work_step(gpt_work *w, gpt_error *err);

typedef struct gpt_session_params { /* NULL or {0}: sensible defaults */
    /* Tokens the session can hold; 0 = what the model was trained for, but at most 4096. Where a
     * file has factors for long texts (Phi-3 128k), more tokens than the original context take them
     * from the first on, as in llama.cpp: what is computed stays valid. */
    uint32_t     n_ctx;
    uint32_t     n_batch;

    /* Format of the key and value cache. Attention takes 13 significant bits of what it multiplies,
     * and all 24 with F32. A head of 64 takes 128 bytes as F16, 68 as Q8_0 (as good, but slow to
     * read), 36 as Q4_0: rotated by a Hadamard matrix, so that no number sticks out; texts get
     * worse (README.md has perplexities), more so where head sizes hold no large power of 2. */
    gpt_kv       kv;

    int          n_threads;     /* these two and n_batch as in gpt_work_params, of its own work space */
    gpt_hooks    hooks;
    int          beyond_training;   /* 1 = n_ctx may be more than trained for: texts get worse from there */
    gpt_work    *work;          /* NULL = one of its own; else n_batch, n_threads, n_rank and hooks must be 0 */
    /* A frozen session: this one's text begins with its text. n_ctx counts that too, but only what is
     * more takes memory. Same model, kv, adapter and scale (and, where a file has factors for long texts, n_ctx on the
     * same side of the original context), or GPT_E_FOREIGN; prefixes chain, up to 8. A rewind may go
     * back into it: that takes from the room. For chats: the tokens that two conversations share. */
    const gpt_session *prefix;
    /* 1 = [n_vocab] floats less: gpt_logits is NULL, generating works, for 8 to 64 of them in a pass */
    int          no_logits;
    uint32_t     n_nest;        /* how deep a constraint's arrays, objects, rules may go; 0 = 256, 144 bytes each */
    const gpt_adapter *adapter; /* NULL = none */
    float        adapter_scale; /* 0 = 1. Rows of texts with the same adapter and scale are computed together */
    uint32_t     n_rank;        /* of adapters that come later; 0 = as above. For a work space of its own */
    int          att_weights;   /* 1 = the trace hook gets them; takes n_ctx floats for each head, and time */
    /* Models with layers of state (qwen35, qwen3next, granitehybrid): older states that are kept, a snapshot from just
     * before the last answer and others spread over the text. A rewind computes again from the last one before.
     * 0 = 2. Each takes some MB (Qwen 3.5 0.8B: 20). There is no n_draft for such models */
    uint32_t     n_snapshot;
} gpt_session_params;

typedef enum gpt_finish {
    GPT_FINISH_NONE    = 0,     /* nothing generated yet, or still going */
    GPT_FINISH_END     = 1,     /* the model ended the text */
    GPT_FINISH_STOP    = 2,     /* a stop string came up */
    GPT_FINISH_LENGTH  = 3,     /* max_tokens reached */
    GPT_FINISH_CONTEXT = 4,     /* the context is full */
    /* the callback returned not 0, or poll cancelled, or gpt_end, a rewind or a reset came */
    GPT_FINISH_HOST    = 5,
    GPT_FINISH_REFUSED = 6      /* bans, or a constraint and bans, leave no token that could come */
} gpt_finish;

typedef struct gpt_session_info {
    uint32_t    n_ctx, n_batch;
    int         n_threads;      /* 0 = the host's own */
    const char *kernels;
    size_t      bytes, n_token; /* memory of the session; tokens of the running text */
    gpt_finish  finish;         /* of the last generation */
    size_t      n_prompt, n_generated;   /* tokens of the last generation */
    size_t      n_computed;     /* of n_token, those that are computed: a prompt's progress */
    gpt_result  result;         /* of what was begun last: GPT_MORE under way, GPT_OK, or why it ended */
    int         held, frozen;
    size_t      n_prefix;       /* tokens of its prefix */
    size_t      n_dropped;      /* tokens that went as the context was full, in all */
    size_t      n_omitted;      /* messages that the last gpt_chat left out, the oldest behind the system's */
    int         changed;        /* since the text was empty, a trace hook has changed what it is computed from */
} gpt_session_info;

/* Exact size of a session in bytes; 0 when the parameters make no sense for the model, or the file
 * lacks tensors of it. */
GPT_API size_t     gpt_session_bytes(const gpt_model *m, const gpt_session_params *params);
GPT_API gpt_result gpt_session_new(gpt_session **out, const gpt_model *m, const gpt_session_params *params,
                                   gpt_error *err);
/* The same in the caller's memory of at least gpt_session_bytes. gpt_session_free then frees nothing,
 * but has to be called where the work space is shared: the session leaves it. */
GPT_API gpt_result gpt_session_init(gpt_session **out, const gpt_model *m, const gpt_session_params *params,
                                    void *memory, size_t size, gpt_error *err);
GPT_API void       gpt_session_free(gpt_session *s);             /* NULL is fine */
GPT_API void       gpt_session_reset(gpt_session *s);            /* an empty text, or the prefix's */
/* Forget all but the first n tokens. What a sliding window or a short convolution has already let
 * go of, or no snapshot holds (params.n_snapshot), is computed again with the next tokens, see
 * info.n_computed. GPT_E_STATE when a prefix leaves no room for that. */
GPT_API gpt_result gpt_session_rewind(gpt_session *s, size_t n, gpt_error *err);
GPT_API const gpt_token *gpt_session_tokens(const gpt_session *s, size_t *n);    /* the running text */
GPT_API void       gpt_session_info_get(const gpt_session *s, gpt_session_info *info);
/* Compute what waits, then never change again (for good; made with a work space of its own it keeps
 * that memory): other sessions, on any threads, may begin with its
 * text (params.prefix) or copy it. It leaves its work space, which may be freed before it. Calls that
 * change it give GPT_E_STATE, gpt_logits are to be read alone. */
GPT_API gpt_result gpt_session_freeze(gpt_session *s, gpt_error *err);
/* This adapter (NULL: none) and scale (0 = 1) from now on: the text waits to be computed anew. GPT_E_ARG: its rank is
 * more than n_rank; GPT_E_FOREIGN: not the prefix's; GPT_E_STATE: the text has vectors, or something is under way. */
GPT_API gpt_result gpt_session_adapter(gpt_session *s, const gpt_adapter *a, float scale, gpt_error *err);
/* The text becomes the first n tokens of src's (n beyond its end: all), with what is computed of them:
 * what both have already is not copied. src, of the same model, kv and adapter (else GPT_E_FOREIGN), is only
 * read; it may be frozen, or under way. GPT_E_CONTEXT: no room; nothing has changed. */
GPT_API gpt_result gpt_session_copy(gpt_session *s, const gpt_session *src, size_t n, gpt_error *err);
/* Save and restore, also in the middle of a generation: its stop strings, what is held back and its
 * sampling go on with the same text. GPT_SAVE_CACHE resumes at once; GPT_SAVE_TOKENS is 4 bytes a token
 * and some hundred, and the text is computed again, to the same bits. A save names no pointers: a
 * restored generation is held until gpt_resume gives them. Every processor reads every save. The size
 * is exact; it grows with the text. A session may be saved while it is frozen or under way, but not
 * from a hook; of an evaluation the tokens are saved. It takes the same model file to read it, for
 * GPT_SAVE_CACHE the same prefix tokens too. Saving a cache takes milliseconds: not for a frame. */
enum { GPT_SAVE_TOKENS = 0, GPT_SAVE_CACHE = 1 };
typedef struct gpt_writer {     /* where the bytes go, in order; write NULL: to user, memory of size bytes */
    size_t (*write)(void *user, const void *src, size_t n);     /* bytes written; fewer: an error */
    void    *user;
    uint64_t size;
} gpt_writer;
GPT_API size_t     gpt_session_save_bytes(const gpt_session *s, int what);
GPT_API gpt_result gpt_session_save(const gpt_session *s, int what, const gpt_writer *w, gpt_error *err);
/* GPT_E_FORMAT: damaged; GPT_E_UNSUPPORTED: of another version; GPT_E_FOREIGN: of another model, kv,
 * adapter, its scale or prefix; GPT_E_CONTEXT: it does not fit. The text is then as after gpt_session_reset. r->size
 * is that of the save alone; r->read NULL: from user, memory of size bytes. Never
 * harmful, whatever the bytes are; but only who wrote them knows that they are what was computed. */
GPT_API gpt_result gpt_session_restore(gpt_session *s, const gpt_reader *r, gpt_error *err);
/* 1 = in steps of its work space it waits, behind the pass under way, until 0; nothing is lost. A call
 * that blocks computes it all the same. From hooks too. */
GPT_API void       gpt_session_hold(gpt_session *s, int on);
/* Of its work space: these hooks instead of all before (NULL: none), from the next call on, also between two
 * gpt_steps. GPT_E_ARG for a parallel of more workers than the session was made for. */
GPT_API gpt_result gpt_session_hooks(gpt_session *s, const gpt_hooks *hooks, gpt_error *err);

/* ---- Evaluate and sample ---- */

/* Append tokens to the text and compute. Afterwards gpt_logits speaks of what follows the last one.
 * On GPT_E_CANCELLED whole chunks stay, the rest is not appended; gpt_session_tokens tells. */
GPT_API gpt_result gpt_eval(gpt_session *s, const gpt_token *ids, size_t n, gpt_error *err);

/* The same, and logprob[i] = natural log of the probability of ids[i] after all before it. The
 * first token of an empty text has no prediction: its entry is 0. */
GPT_API gpt_result gpt_score(gpt_session *s, const gpt_token *ids, size_t n, float *logprob, gpt_error *err);

/* How the rows of a text become one vector: as the file says (GPT_E_ARG where it says nothing), their mean,
 * the first one, the last one. */
typedef enum gpt_pool { GPT_POOL_FILE = 0, GPT_POOL_MEAN = 1, GPT_POOL_FIRST = 2, GPT_POOL_LAST = 3 } gpt_pool;

typedef struct gpt_eval_params {    /* NULL or {0} */
    float       *logprob;           /* out: [n] as of gpt_score */
    float       *hidden;            /* out: [n, d_model] the rows after the last norm */
    float       *embedding;         /* out: [n_embd] all n rows as one vector of length 1 */
    gpt_pool     pool;
    /* 1 = the embedding as it is pooled: of any length, and without the dense layers that EmbeddingGemma has behind
     * it. Many of its files lack these: GPT_E_UNSUPPORTED without raw */
    int          raw;
    /* [n, d_model] in place of tokens (ids NULL), as if a table had given them: soft prompts, what an encoder
     * of the host's gives. They are tokens -1 of the text, and are not kept: what would compute them again
     * (some rewinds, a save as tokens) is GPT_E_STATE. Not with no_logits */
    const float *vectors;
} gpt_eval_params;

/* gpt_eval or gpt_score in slices: gpt_step or gpt_work_step compute, until info.result is no longer
 * GPT_MORE, which may be at once; then gpt_logits are ready, unless only hidden or embedding was wanted. So
 * long what params point to must stay valid; ids are copied. gpt_end gives it up, with GPT_E_CANCELLED.
 * Where rows see later ones (BERT and its kin) a text is evaluated once, as a whole: more tokens are
 * GPT_E_STATE, and what asks for a next token, a prefix or a copy is GPT_E_UNSUPPORTED. */
GPT_API gpt_result gpt_eval_begin(gpt_session *s, const gpt_token *ids, size_t n, const gpt_eval_params *params,
                                  gpt_error *err);

/* The text as one vector, to out [n_embd]: resets the session, tokenizes with the tokens that the file asks
 * for, evaluates. Of params (NULL is fine) pool and raw count. The dot product of two says how similar they are. */
GPT_API gpt_result gpt_embed(gpt_session *s, const char *text, const gpt_eval_params *params, float *out,
                             gpt_error *err);

/* One of n strings, as what comes behind the text and the prompt (NULL: nothing): out [n] (NULL is fine) gets
 * their log-probabilities, *best (NULL is fine) which is the likeliest, the first of equals. Prompt and choice
 * are cut into tokens as one text; beginnings that they share are computed once; all count from the first
 * token that the choice changes in one of them. The text is as before. GPT_E_CONTEXT: the room behind the
 * text has to hold the longest, and all of their tokens twice with 4 more for each. */
typedef struct gpt_choose_params {  /* NULL or {0} */
    int per_byte;                   /* 1 = the mean for each byte of the choice: length does not count */
    int softmax;                    /* 1 = out: probabilities among these, of either: their sum is 1 */
    int special;                    /* as of gpt_generate_params, for the prompt and the choices */
} gpt_choose_params;
GPT_API gpt_result gpt_choose(gpt_session *s, const char *prompt, const char *const *choice, size_t n,
                              const gpt_choose_params *params, float *out, size_t *best, gpt_error *err);
/* The same in slices, as gpt_eval_begin; the strings are copied. */
GPT_API gpt_result gpt_choose_begin(gpt_session *s, const char *prompt, const char *const *choice, size_t n,
                                    const gpt_choose_params *params, float *out, size_t *best, gpt_error *err);

/* The k likeliest of a row of logits [n_vocab], likeliest first, with their log-probabilities; returns how many.
 * Reads alone: any row, any thread, hooks too. */
typedef struct gpt_logprob { gpt_token token; float logprob; } gpt_logprob;
GPT_API size_t gpt_top(const float *logits, size_t n_vocab, size_t k, gpt_logprob *out);

/* The last norm and the vocabulary's matrix of any vector x [d_model], as of the residual stream at some layer
 * (the trace's "out"): logits [n_vocab]. The text is as before. */
GPT_API gpt_result gpt_head(gpt_session *s, const float *x, float *logits, gpt_error *err);

/* [n_vocab] unnormalised log-probabilities of the next token. The host may change them before
 * gpt_sample. Valid until a call changes this session. NULL with no_logits, in an empty text, and
 * while the last token waits to be computed, as it mostly does after gpt_generate and
 * gpt_session_rewind: gpt_eval of no tokens computes it. */
GPT_API float *gpt_logits(gpt_session *s);

typedef struct gpt_bias { gpt_token token; float bias; } gpt_bias;

typedef struct gpt_sample_params {  /* NULL or {0}: greedy. Biases first, the rest in the order that samplers says */
    const gpt_bias *bias;           /* added to logits; -INFINITY bans a token */
    size_t   n_bias;
    int      penalty_last_n;        /* tokens that the penalties look back on; 0 = 64, negative = the whole text */
    float    repeat_penalty;        /* logits of seen tokens / this (if > 0) or * this; 0 or 1 = off */
    float    frequency_penalty;     /* minus this times the count */
    float    presence_penalty;      /* minus this once */
    int      top_k;                 /* keep the k most likely; 0 = off */
    float    top_p;                 /* keep the smallest set whose probabilities sum to p; 0 or 1 = off */
    float    min_p;                 /* keep what has at least min_p of the most likely one's probability; 0 = off */
    float    temperature;           /* 0 or less = greedy: the most likely one, no filter is asked */
    uint64_t seed;                  /* 0 is a seed like any other, never "use the clock" */

    /* Filters. Each leaves at least one, and judges by probabilities among what is left where its turn is. */
    float    top_n_sigma;           /* keep logits within n standard deviations of the best (arXiv:2411.07641) */
    float    typical_p;             /* keep the most typical that sum to more than p; 0 or 1 = off. It may leave out the
                                     * likeliest (Meister 2022, arXiv:2202.00666); equally typical ones stay together */
    float    xtc_probability;       /* so often leave out all but the least likely of those at or above */
    float    xtc_threshold;         /* 0 = 0.1. A draw of its own, by seed and position, decides */
    /* DRY: a token that would go on with what the end of the text repeats, n tokens long, n at most 512, loses
     * multiplier * base ^ (n - allowed length) */
    float       dry_multiplier;     /* 0 or less = off */
    float       dry_base;           /* 0 = 1.75; below 1 = off */
    int         dry_allowed_length; /* repeats that cost nothing are shorter; 0 or less = 2 */
    int         dry_last_n;         /* tokens that it looks back on; 0 or less = the whole text */
    const char *dry_breakers;       /* characters, at most 63 bytes: no repeat goes over a token whose text has one, and
                                     * none of these costs; NULL = line end : " * */
    int         no_repeat_ngram;    /* leave out what would make n tokens, at most 513, that the text has; 0 = off */
    /* The temperature is between temperature - range and + range, as (entropy / its most) ^ exponent says of what is
     * left; 0 = off; exponent 0 = 1 */
    float       dynatemp_range, dynatemp_exponent;
    /* The order, as llama.cpp's --samplers; what it does not name is off (temperature: 1, or greedy), a second naming
     * does nothing; no_repeat_ngram is part of penalties. gpt_begin and its kin copy it: GPT_E_ARG for an unknown name,
     * which gpt_sample passes over. NULL: "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature" */
    const char *samplers;
} gpt_sample_params;

/* Choose the next token from gpt_logits. The draw depends on the seed and on the number of tokens
 * in the text (info.n_dropped included) alone, so it needs no state: a text that is rewound, saved
 * or generated in slices comes out the same. Never fails on strange logits (NaN counts as -infinity;
 * if nothing is left, the lowest id wins); -1 where gpt_logits is NULL, frozen, or a call at work. Does
 * not append the token: gpt_eval does. */
GPT_API gpt_token gpt_sample(gpt_session *s, const gpt_sample_params *params);

/* ---- Text ---- */

/* Receives generated text in pieces of whole UTF-8 characters, not NUL-terminated; not 0 stops the
 * generation. */
typedef int (*gpt_text_fn)(void *user, const char *text, size_t n);

/* What a generated text may be: a grammar, a JSON schema, any JSON, or one of some strings. Compiled
 * once, then immutable: any number of sessions on any threads may use it; free it after the last
 * generation that names it. Bounded: 1 MiB of text, arrays and objects, or rules, as deep as a session's
 * n_nest. Control tokens come only where the grammar names them, end tokens only where the text may end.
 * Written JSON has between its tokens nothing, a space, or a line end with at most 20 blanks, and
 * properties come in the schema's order, additional ones last. What a schema spells (const, enum, names)
 * comes as it stands there, without escapes that need not be, tuples whole; an integer has no point. */
typedef struct gpt_constraint gpt_constraint;
typedef struct gpt_constraint_params {  /* exactly one of the first four */
    const char        *gbnf;            /* a grammar in llama.cpp's notation; it begins with the rule root */
    const char        *schema;          /* JSON schema. Its keywords that are not supported are errors */
    int                json;            /* 1 = any JSON value */
    const char *const *strings;
    size_t             n_string;
    /* the text is free until this has come up in it; a control token's name: until that token. NULL: from its
     * beginning. JSON may begin with white space behind it */
    const char        *trigger;
} gpt_constraint_params;

/* m: whose tokens it is for; NULL: for gpt_constraint_check alone. On failure *out is NULL and the error
 * names the rule, or the path in the schema and the keyword. */
GPT_API gpt_result gpt_constraint_new(gpt_constraint **out, const gpt_model *m, const gpt_constraint_params *params,
                                      gpt_error *err);
/* Does it take this text? GPT_OK: whole; GPT_MORE: it is the beginning of one; GPT_E_REFUSED: byte *at
 * (NULL is fine) cannot stand there; GPT_E_UNSUPPORTED: before it there are too many readings of the text.
 * White space and digits in JSON as RFC 8259 has them, without the bounds of what is written; the trigger
 * does not count. Takes 300 KiB and gives them back. */
GPT_API gpt_result gpt_constraint_check(const gpt_constraint *c, const char *text, size_t n, size_t *at,
    gpt_error *err);
GPT_API void       gpt_constraint_free(gpt_constraint *c);

typedef struct gpt_generate_params {    /* NULL or {0}: greedy until the model ends the text or the context is full */
    gpt_sample_params  sample;
    size_t             max_tokens;      /* 0 = no limit of its own */
    const char *const *stop;            /* strings that end the text and are not part of it */
    size_t             n_stop;          /* at most 16, each at most 256 bytes */
    int                special;         /* control tokens may be spelled in the prompt: never for text from a user */
    int                ignore_end;      /* go on after an end token */
    /* 1 = when the context is full, keep the first n_keep tokens of the text (at least the prefix) and the
     * newest half of the others, compute these anew and go on: info.n_dropped tells. 0, and where nothing
     * can go: GPT_FINISH_CONTEXT */
    int                roll;
    size_t             n_keep;

    /* What is written is of this form, from its beginning or, in a chat, from behind its thinking part;
     * tokens are masked first, then filtered, then drawn. Bytes that are the only possible ones are
     * taken without asking the model, cut as the tokenizer cuts them. NULL: free. Not with roll */
    const gpt_constraint *constraint;
    /* 1 = what is written is whole: near max_tokens or the context's end it takes the shortest way.
     * GPT_E_REFUSED at the beginning where no way is so short */
    int                must_finish;
    size_t             min_tokens;      /* before so many no end token comes */
    const char *const *ban;             /* strings that what is written never has; case counts; bounds as of stop */
    size_t             n_ban;
    gpt_text_fn        think;           /* of a chat: gets the thinking part, without its markers; NULL: fn does */
    void              *think_user;
    /* Look-up: where the last tokens have come up before, up to so many that followed there are computed along
     * with the newest one, and count if they are what is chosen: the same text, sooner where it repeats itself
     * or its prompt. 16 is a good number; 0 = off, as with a hook of logits. A trace shows the rows of all guesses. */
    uint32_t           n_draft;
    /* NULL, or a hook that may change a copy of the logits [n_vocab] before biases, mask and filters: once for each
     * token chosen, in slices too (anew where a call in between, as gpt_sample, took the room of the choice) */
    void             (*logits)(void *user, const gpt_session *s, float *logits, size_t n_vocab);
    void              *logits_user;
} gpt_generate_params;

/* Append the prompt (NULL or "": nothing) to the session's text (with the file's BOS if the text is
 * empty), generate, hand the text to fn as it comes. GPT_OK whatever the finish reason:
 * gpt_session_info_get tells it. A prompt that does not fit is GPT_E_CONTEXT and changes nothing.
 * Several calls make one text: a second one goes on where the first ended. The session holds what
 * fn was given: its text ends before a stop string, and behind the piece at which fn said stop.
 * Only GPT_FINISH_LENGTH leaves a little more, half a character or the beginning of a stop string:
 * fn gets it in the next call. */
GPT_API gpt_result gpt_generate(gpt_session *s, const char *prompt, const gpt_generate_params *params, gpt_text_fn fn,
                                void *user, gpt_error *err);

/* The same in slices, without a thread: gpt_begin, then gpt_step until it returns something else
 * than GPT_MORE. A step returns when poll says GPT_PAUSE (in the middle of a forward pass if need
 * be) or, at the latest, after one token and what was forced or guessed along with it; in a batch
 * gpt_work_step is meant. Stop strings are copied; fn, the hook and the sampling bias must stay valid. gpt_end
 * gives up early, with GPT_FINISH_HOST: fn gets what was held back, the text stays; a blocking gpt_eval or
 * gpt_score, from a hook, with GPT_E_CANCELLED.
 * A reset, rewind, restore or free ends it too; other calls answer GPT_E_STATE. */
GPT_API gpt_result gpt_begin(gpt_session *s, const char *prompt, const gpt_generate_params *params, gpt_text_fn fn,
                             void *user, gpt_error *err);
GPT_API gpt_result gpt_step(gpt_session *s, gpt_error *err);
GPT_API void       gpt_end(gpt_session *s);
/* The generation under way goes on with these, after gpt_session_restore or where fn or the bias have
 * moved: fn and user, and of params, if not NULL, all but special, stop and ban. GPT_E_FOREIGN: not
 * the constraint that it began with; a restored generation needs it, and reads its text by it again. */
GPT_API gpt_result gpt_resume(gpt_session *s, const gpt_generate_params *params, gpt_text_fn fn, void *user,
                              gpt_error *err);

/* ---- Chat ---- */

typedef struct gpt_message {
    const char *role, *content;     /* "system", "user", "assistant" or what the template knows; UTF-8, never NULL */
    const char *json;               /* or, in their place, the whole message as a JSON object: tool calls, results */
} gpt_message;

/* How messages become one text: by the chat template in the model's file, a Jinja program, which is run as
 * transformers runs it; by a template of the caller's, one of the known families', or the caller's own strings,
 * where the message stands for "{text}", for example user = "<|user|>\n{text}<|end|>\n"; "{text|trim}" takes the
 * white space off its ends, "{bos}" and "{eos}" are the file's tokens. A template may take 16 MiB and 256 bytes
 * for each byte of itself, of messages and variables, 2^24 steps and 256 for each, and 100 loops and macros
 * within each other. */
typedef struct gpt_chat_params {    /* NULL or {0}: all from the file */
    /* For files without a template: chatml llama2 llama3 llama3.1 mistral-v1 mistral-v3 mistral-nemo mistral-v7
     * gemma phi3 phi4 phi4-mini zephyr olmo2 deepseek-v2 deepseek-v3 deepseek-r1 granite command-r gpt-oss
     * qwen2 qwen2.5 qwen3 smollm2 openchat vicuna and their kin */
    const char *family;
    const char *user, *assistant;   /* own strings: a turn */
    const char *system;         /* a system turn; NULL puts it ahead of the user's */
    const char *generation;     /* what the answer goes on from, as "<|assistant|>\n" */

    /* Today as "2025-01-31" for templates that ask for it; NULL = strftime_now is not defined: the library
     * has no clock. */
    const char *date;

    /* 1 = where a conversation leaves less than half of reserve free, gpt_chat leaves out the oldest turns
     * behind the system message until reserve tokens are (0 = half of the context): info.n_omitted tells.
     * They stay out in the next calls, so that what is computed stays of use: always give all messages. */
    int         drop;
    size_t      reserve;

    const char *jinja;          /* a chat template in place of the file's */
    const char *variables;      /* a JSON object: what the template finds by name, as "tools", "enable_thinking" */
    int         common;         /* format, tokenize: 1 = only what all conversations that go on from these begin with */
} gpt_chat_params;

/* "jinja" where the file has a chat template, which as a family means that one; NULL: it has none. */
GPT_API const char *gpt_chat_family(const gpt_model *m);

/* Messages to text, ready for an answer. For looking at: gpt_chat does not need it. m NULL: a template alone
 * (jinja, family or own strings), where bos_token is <s> and eos_token </s>; without messages it finds those of
 * variables. Writes at most size bytes (no terminator) and sets *n to the number the whole text needs.
 * GPT_E_REFUSED: the template has raised an error, whose text is the message. GPT_E_UNSUPPORTED: no template,
 * or a construct that is not known, with its line. GPT_E_FORMAT: the template fails, or takes more than it may. */
GPT_API gpt_result gpt_chat_format(const gpt_model *m, const gpt_message *messages, size_t n_message,
                                   const gpt_chat_params *chat, char *text, size_t size, size_t *n, gpt_error *err);

/* The same to tokens. Only the template's own strings become control tokens: no content can,
 * whatever it spells. */
GPT_API gpt_result gpt_chat_tokenize(const gpt_model *m, const gpt_message *messages, size_t n_message,
                                     const gpt_chat_params *chat, gpt_token *ids, size_t max, size_t *n,
                                     gpt_error *err);

/* Answer the last message. The session's text becomes the whole conversation: as far as it is the
 * same already (earlier turns, answers included), nothing is computed again. The host appends the
 * answer to its messages for the next turn. GPT_E_CONTEXT when the conversation does not fit,
 * GPT_E_ARG and GPT_E_REFUSED as above; then the session is as before. */
GPT_API gpt_result gpt_chat(gpt_session *s, const gpt_message *messages, size_t n_message, const gpt_chat_params *chat,
                            const gpt_generate_params *params, gpt_text_fn fn, void *user, gpt_error *err);

/* The same in slices: gpt_chat_begin, then gpt_step as after gpt_begin. The messages need not stay
 * valid. */
GPT_API gpt_result gpt_chat_begin(gpt_session *s, const gpt_message *messages, size_t n_message,
                                  const gpt_chat_params *chat, const gpt_generate_params *params, gpt_text_fn fn,
                                  void *user, gpt_error *err);

/* ---- JSON ---- */

/* The value in a JSON text at a path such as "choices[0].message.content", "" for all of it, to out [size]
 * with a NUL if it fits; *need (NULL is fine): its bytes. Returns its kind: 's' a string, without quotes
 * and escapes, 'n' number, 'b' true or false, 'z' null, 'a' array, 'o' object, these as they stand there;
 * 0: there is none; -1: the text is not JSON. Of equal keys the first counts; a key with . or [ in it has no path. */
GPT_API int gpt_json_get(const char *json, size_t n, const char *path, char *out, size_t size, size_t *need);

#ifdef __cplusplus
}
#endif
#endif /* GPT_H : the API ends here */

/* ====================================================================================================
 * The map: what happens to a text, and where (grep -n '\[NAME\]' finds a chapter)
 *
 *   text  "Once upon a"                         gpt_generate, gpti_begin                    [STORY] [GENERATE]
 *    |  tokenizer                               gpti_tokenizer_encode                       [TOKENIZER]
 *   ids  7454 2402 257
 *    |  for each id a row of a table            gpti_run_embed                              [FORWARD]
 *   x [T, D]  the residual stream
 *    |---> norm                                 gpti_run_attn_norm: gpti_norm_body            \
 *    |     q, k, v: products                    gpti_begin_qkv, gpti_run_jobs: [KERNELS]        |
 *    |     rope: q, k turn by their position;   gpti_run_rope: gpti_rope_body                  |
 *    |           k, v into the cache            gpti_kv_store_ref                              |
 *    |     attention: each token looks back     gpti_run_attend: gpti_attend_band              | n_layer
 *    |     product                              gpti_begin_attn_out, gpti_run_jobs             | times
 *    + <--                                      gpti_run_attn_add,                             |
 *    |---> norm                                 which has this norm too                        |
 *    |     feed-forward: up, activation, down   gpti_begin_ffn_up, gpti_run_act, ..._down      |
 *    + <--                                      gpti_run_ffn_add                              /
 *    |  norm                                    gpti_run_out_norm
 *    |  product with the vocabulary             gpti_begin_logits, gpti_run_jobs
 *   logits [n_vocab]
 *    |  choose one                              gpti_choose                                 [SAMPLING]
 *   id  640
 *    |  bytes, stop strings, whole characters   gpti_append_token, gpti_stream_push         [GENERATE]
 *   text  " time"
 *
 * To follow it, read in this order, always downwards, about 850 lines: [STORY]; [PLAIN], the arithmetic
 * as the papers write it; in [FORWARD] from "The stages" to its end, but for what is marked "skip at
 * first"; in [SAMPLING] its head, gpti_choose and gpti_draw; in [GENERATE] its head, then gpti_begin to
 * gpti_append_token (gpti_stream_push calls fn once for each token). What a stage calls through kern is
 * what [PLAIN] says, faster; small functions that stand before such a part do what their names say.
 * examples/naive.c is the same once more in one page of plain loops, examples/train_naive.c how such a
 * model learns.
 *
 * The other chapters: [PLATFORM] memory, errors, threads, files; [MATH] exp, tanh ... of our own;
 * [FORMATS] how weights of few bits lie in memory; [KERNELS] products with them in plain C; [GGUF] the
 * file; [MODEL] the table of architectures, loading; [SESSION] work spaces, sessions, prefixes, copies,
 * evaluating; [CONSTRAINT] grammars, schemas and JSON as masks of tokens; [GENERATE] has the saves too;
 * [CHAT] the chat template of the file, run; [SIMD] the same kernels, faster; [LICENCE] with the list of
 * changes.
 *
 * Letters      T rows of a chunk (naive.c: one row at a time); D d_model; Q K W widths of q, k, v over
 *              all heads, S of the three; O width of att; F width of the feed-forward; N vocabulary
 *              (naive.c: V); [T, D] is row-major, last index contiguous, f32 unless stated
 * chunk        the rows of one text that go through the layers together;  pass: those of all texts, at
 *              most n_batch
 * stage        a line of the story's list;  unit: a row, a panel, or a band of one kv head;  slice: the
 *              units between two looks at the poll hook;  share: those of a slice for one worker
 * job          a product that a stage has queued;  piece: what one thread claims of a loop at once
 * kv head      a head of keys and values; n_head / n_kv query heads share it (GPT-2: one)
 * panel, tile  16 rows of a matrix that lie interleaved; 32 columns of a panel, unpacked to bytes
 * band         rows of a chunk and heads of one kv head that meet their keys together
 * row, column  of a matrix: output, input. A format's block is some columns of one row with their scale;
 *              attention's block is 32 keys
 * slot         a row of the feed-forward: a token's, or that of one expert of a token
 * cap          positions that a layer's cache has room for; a window layer's wraps around. (soft_cap:
 *              a bound of scores by tanh)
 * scratch      what one worker unpacks and sums in
 * carve        to take a piece of a block of memory that is laid out, or only measured
 * word         what the pre-tokenizer cuts off for merging
 *
 * gpt.h is not for GPUs, not for serving many users from many machines, and not for training large
 * models: for those the same GGUF file moves to llama.cpp or vLLM.
 * ==================================================================================================== */
#ifdef GPT_IMPLEMENTATION
/* The end of [SIMD] includes this file again for each kernel set, and means its last part alone. */
#ifndef GPTI_KERNEL_SET

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>      /* vsnprintf; files unless GPT_NO_STDIO */
#include <stdlib.h>
#include <string.h>

/* Which SIMD chapters this compiler can build. The headers come before any option pragma: their
 * inline functions need the options they were written for. */
#if !defined(GPT_NO_SIMD) && !defined(__TINYC__) && (defined(__GNUC__) || defined(_MSC_VER))
#  if defined(__x86_64__) || defined(_M_X64) || defined(__i386__) || defined(_M_IX86)
#    define GPTI_X86 1
#    if defined(__clang__)
#      define GPTI_X86_VNNI (__clang_major__ >= 12)
#    elif defined(_MSC_VER)
#      define GPTI_X86_VNNI (_MSC_VER >= 1930)
#    else
#      define GPTI_X86_VNNI (__GNUC__ >= 11)
#    endif
#    if GPTI_X86_VNNI && defined(__x86_64__) && defined(__linux__)
#      define GPTI_AMX 1
#    endif
#    if defined(__GNUC__) && !defined(__clang__)     /* gcc warns about its own _mm512_undefined */
#      pragma GCC diagnostic push
#      pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#      include <immintrin.h>
#      pragma GCC diagnostic pop
#    else
#      include <immintrin.h>
#    endif
#    ifdef _MSC_VER
#      include <intrin.h>
#    else
#      include <cpuid.h>
#    endif
#  elif (defined(__aarch64__) && defined(__AARCH64EL__)) || defined(_M_ARM64)
#    define GPTI_NEON 1
#    if defined(__ARM_FEATURE_DOTPROD) || (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8)
#      define GPTI_NEON_DOT 1
#    endif
#    if defined(GPTI_NEON_DOT) && (defined(__ARM_FEATURE_MATMUL_INT8) || (!defined(__clang__) && __GNUC__ >= 10))
#      define GPTI_NEON_I8MM 1
#    endif
#    include <arm_neon.h>
#    ifdef __linux__
#      include <sys/auxv.h>
#    endif
#  elif defined(__wasm_simd128__)
#    define GPTI_WASM 1
#    include <wasm_simd128.h>
#  endif
#endif

/* Compiler dialects. GPTI_TARGET: the function may use these instructions, whatever the flags
 * say. */
#if defined(_MSC_VER) && !defined(__clang__)
#  define GPTI_TARGET(t)
#  define GPTI_UNROLL
#  define GPTI_ROLL
#  define GPTI_UNROLL4
#  define GPTI_ALIGN64 __declspec(align(64))
#  define GPTI_PREFETCH(p) ((void)(p))
#elif defined(__GNUC__) && !defined(__TINYC__)
#  define GPTI_TARGET(t) __attribute__((target(t)))
#  define GPTI_ALIGN64 __attribute__((aligned(64)))
#  define GPTI_PREFETCH(p) __builtin_prefetch(p)
#  ifdef __clang__
#    define GPTI_UNROLL _Pragma("clang loop unroll(full)")
#    define GPTI_ROLL _Pragma("clang loop unroll(disable)")
#    define GPTI_UNROLL4 _Pragma("clang loop unroll_count(4)")
#  else
#    define GPTI_UNROLL _Pragma("GCC unroll 16")
#    define GPTI_ROLL _Pragma("GCC unroll 1")
#    define GPTI_UNROLL4 _Pragma("GCC unroll 4")
#  endif
#else
#  define GPTI_ALIGN64
#endif

/* Every float that reaches a logit is one IEEE rounding of a stated operation. Compilers like to
 * fuse a * b + c into one rounding: not below here. -ffast-math would undo that silently. */
#if defined(__FAST_MATH__) || defined(_M_FP_FAST)
#  error "gpt.h: GPT_IMPLEMENTATION without -ffast-math (-Ofast, /fp:fast): results depend on the compiler"
#endif
#if defined(__i386__) && defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#  error "gpt.h: on 32-bit x86 compile with -msse2 -mfpmath=sse: x87 arithmetic rounds differently on every run"
#endif
#if defined(__clang__)
#  pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#  pragma GCC push_options
#  ifndef __OPTIMIZE__          /* a debug build without it would compute 20 times slower */
#    pragma GCC optimize ("O2")
#  endif
   /* gcc 12 forgets the first where it does the second */
#  pragma GCC optimize ("fp-contract=off", "no-tree-slp-vectorize")
   /* these processors choose their own order: quicker to compile, no slower */
#  if defined(__x86_64__) || defined(__i386__)
#    pragma GCC optimize ("no-schedule-insns2")
#  endif
#elif defined(_MSC_VER)
#  pragma float_control(push)
#  pragma fp_contract(off)
#endif

/* Chapters that run once or wait for a user: at -O1 by gcc, for size by clang, in half the time. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#  define GPTI_COLD _Pragma("GCC push_options") _Pragma("GCC optimize (\"O1\")")
#  define GPTI_COLD_END _Pragma("GCC pop_options")
#  define GPTI_SMALL _Pragma("GCC push_options") _Pragma("GCC optimize (\"Os\")")
#elif defined(__clang__) && defined(__OPTIMIZE__)
#  define GPTI_COLD _Pragma("clang attribute push(__attribute__((minsize)), apply_to = function)")
#  define GPTI_COLD_END _Pragma("clang attribute pop")
#  define GPTI_SMALL GPTI_COLD
#else
#  define GPTI_COLD
#  define GPTI_COLD_END
#  define GPTI_SMALL
#endif

/* GPTI_INLINE: gcc at -O2 makes SIMD code of a loop around a function only where it must inline it */
#if defined(__GNUC__)
#  define GPTI_UNUSED __attribute__((unused))
#  define GPTI_INLINE static inline __attribute__((always_inline, unused))
#elif defined(_MSC_VER)
#  define GPTI_UNUSED
#  define GPTI_INLINE static __forceinline
#else
#  define GPTI_UNUSED
#  define GPTI_INLINE static inline
#endif

/* 32-bit numbers that threads share. FETCH_ADD gives what was there before. */
#if defined(__GNUC__)
#  define GPTI_LOAD(p)         __atomic_load_n(p, __ATOMIC_ACQUIRE)
#  define GPTI_STORE(p, v)     __atomic_store_n(p, v, __ATOMIC_RELEASE)
#  define GPTI_FETCH_ADD(p, v) __atomic_fetch_add(p, (uint32_t)(v), __ATOMIC_ACQ_REL)
#elif defined(_MSC_VER)
#  include <intrin.h>
#  define GPTI_LOAD(p)         ((uint32_t)_InterlockedOr((volatile long *)(p), 0))
#  define GPTI_STORE(p, v)     ((void)_InterlockedExchange((volatile long *)(p), (long)(v)))
#  define GPTI_FETCH_ADD(p, v) ((uint32_t)_InterlockedExchangeAdd((volatile long *)(p), (long)(v)))
#else                                   /* a compiler without: no OpenMP, nothing is counted */
#  define GPTI_FETCH_ADD(p, v) ((void)(p))
#endif

#if defined(_OPENMP) && !defined(GPT_NO_OPENMP) && defined(GPTI_LOAD)
#  include <omp.h>
#  define GPTI_OPENMP
#  if defined(__unix__) || defined(__APPLE__)
#    include <sched.h>
#    define GPTI_YIELD() ((void)sched_yield())
#  else
#    define GPTI_YIELD() GPTI_RELAX()
#  endif
#  if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#    define GPTI_RELAX() __builtin_ia32_pause()
#  else
#    define GPTI_RELAX() ((void)0)
#  endif
#  define GPTI_THREADS(asked) ((asked) > 0 ? (asked) : omp_get_max_threads())
#else
#  define GPTI_THREADS(asked) ((void)(asked), 1)
#endif
#if defined(GPT_MALLOC) != defined(GPT_FREE)
#  error "gpt.h: define both GPT_MALLOC and GPT_FREE, or neither"
#elif !defined(GPT_MALLOC)
#  define GPT_MALLOC(n) malloc(n)
#  define GPT_FREE(p)   free(p)
#endif
#ifndef GPT_ASSERT
#  define GPT_ASSERT(x) ((void)0)
#endif

/* Errors. Functions that can fail return a gpt_result, and none of them prints or ends the program.
 * A public function clears the caller's err (which may be NULL) when it begins; whoever finds the
 * fault fills it and returns: return gpti_fail(err, CODE, "thing: expected X, file has Y"). So err
 * is filled once, and those in between hand the result on as it is: GPTI_TRY(call) where they hold
 * nothing, r = call and a common end where memory or a file must be given back. A message names the
 * thing (a key, a tensor, a function), what was expected and what was found; what a file spells
 * goes into it through gpti_show. Readers of a file's bytes return 1 or 0 instead and keep the
 * result in their cursor: its first failure sticks, see gpti_cursor. A failed call leaves what it
 * was given as it was, and nothing to free. */
#define GPTI_TRY(call) do { gpt_result gpti_r_ = (call); if (gpti_r_) return gpti_r_; } while (0)

/* ======================================================================
 * [STORY] One token's way: prompt, pass, choice, text
 * ====================================================================
 * gpt_generate takes a prompt apart into tokens and then goes one step after the other. A step computes
 * what waits (the prompt, then each time the newest token), chooses the next token from the logits and
 * hands out its text. */

typedef struct gpti_pool {              /* who works: the host's threads, OpenMP's, or the caller alone */
    gpt_parallel host;
    int          n_worker;              /* the caller included */
    unsigned     alone;                 /* the next calls of gpti_together that do without helpers */
    unsigned     more;                  /* how many those were after the last late one; 0: none was late */
    struct gpti_crew *crew;             /* OpenMP's helpers that are here now, or NULL */
} gpti_pool;

typedef struct gpti_pass_cursor {       /* how far a pass has come: it can stop between any two slices of units */
    int active;
    size_t stage, unit, n_unit;         /* n_unit: of the stage */
    size_t logits_at;                   /* of out_row: logits are computed n_logit_row rows at a time */
    uint32_t layer;                     /* n_layer: none */
} gpti_pass_cursor;

/* Units [begin, end) of a stage, for one worker. */
typedef struct gpti_share { size_t begin, end; union gpti_scratch *scratch; } gpti_share;
typedef struct gpti_stage {
    uint8_t id, kinds;          /* GPTI_STAGE_; layers of any of these kinds have it */
    void (*begin)(gpt_work *w);                         /* sets cursor.n_unit and cost */
    /* computes a share of the units, which do not depend on each other */
    void (*run)(gpt_work *w, const gpti_share *u);
} gpti_stage;

enum { GPTI_MOST_PRODUCTS = 4 };        /* that a stage multiplies a row of its input with: those of a delta net */
enum { GPTI_LOGITS_NONE, GPTI_LOGITS_LAST, GPTI_LOGITS_SCORE };
enum { GPTI_IDLE, GPTI_EVALUATES, GPTI_GENERATES };

typedef struct gpti_choices {           /* a gpt_choose under way, see [SESSION] */
    size_t             n, at;           /* 0: none; those before at are computed, in the order of their tokens */
    size_t             base;            /* tokens of the text without them */
    struct gpti_tail  *tail;            /* [n] */
    gpt_token         *token;           /* of all tails, and their log-probabilities */
    float             *score;
    gpt_choose_params  params;
    float             *out, *last;      /* last: the text's last_logits, which may be lent */
    size_t            *best;
    int                lent;
} gpti_choices;

struct gpt_session {                    /* a text */
    const gpt_model   *m;
    gpt_session_params params;
    gpt_work          *w, *own;         /* where it is computed, NULL: frozen; its own, or NULL */
    uint64_t           adapted;         /* digest of its adapter and scale; 0: none */
    uint32_t           group;           /* of such, in the pass under way; 0: none */
    gpt_session       *next;            /* of w's */
    size_t             bytes;
    void              *block;           /* what to free; NULL: the caller's */
    uint32_t           n_ctx;           /* tokens of the text at most */

    /* token[0, n_past) is in the cache, token[n_past, n_token) waits to be computed */
    gpt_token         *token;
    size_t             n_past, n_token;
    size_t             n_dropped, n_cut;        /* tokens that the text had before; messages that a chat leaves out: */
    uint64_t           cut_digest;              /* of those, so that another conversation keeps its own */
    size_t             n_committed;     /* a cancel takes back the waiting tokens from here on: those of the call */
    size_t             n_written;       /* positions ever written: a window layer still holds the last of those */
    size_t             origin, n_room;  /* of the cache: so many positions from there on; the prefix's lie before */
    size_t             n_shared;        /* tokens that are still the prefix's */
    size_t             kept_from;       /* a window layer holds nothing before this */
    struct gpti_cache *cache;           /* [n_layer] */
    /* what layers of state have, after state_of[i] tokens each (SIZE_MAX: nothing) */
    float             *state;           /* [n_state, hp.n_state] */
    size_t            *state_of, n_state, state_to;     /* state_to: which one the pass under way writes */
    size_t             state_kept;      /* tokens of one that stays: shortly before the last prompt's end */
    float             *logits;          /* [n_vocab] a row of its own, or NULL */
    float             *att_weights;     /* [n_head, n_ctx], of one token; NULL: not asked for */
    int                changed;         /* a trace hook has written into what the text is computed from */
    float             *last_logits;     /* [n_vocab] after token[n_past - 1], or NULL; perhaps in the work space */
    int                lent;            /* the host has had a pointer to them */

    /* what is under way */
    int                doing;           /* GPTI_IDLE, ... */
    int                held, stop;      /* it waits, 1: for the host, 2: for gpt_resume; a hook has called gpt_end */
    gpt_result         result;          /* of what was begun last; GPT_MORE: under way */
    size_t             from;            /* n_past when it came */
    size_t             n_in_pass;       /* rows in the pass under way */
    size_t             n_draft;         /* guesses, token[n_token, n_token + n_draft): the last rows of the pass, */
    float             *draft_logits;    /* then computed; logits behind the first of them */
    int                logits_wanted;   /* GPTI_LOGITS_ */
    gpt_eval_params    out;             /* what an evaluation gives of token[base] and on */
    size_t             base;
    gpti_choices       choices;
    struct gpti_generation *gen;
    struct gpti_live  *live;            /* where it is in its constraint */
};

/* A row of a pass: the token of that text at that place; s NULL: it has left. A text's rows stand together. */
typedef struct gpti_row { gpt_session *s; size_t position; } gpti_row;

struct gpt_work {                       /* the room that texts are computed in */
    const gpt_model   *m;
    gpt_work_params    params;
    gpti_pool          pool;
    int                n_most;          /* workers that there is scratch for */
    size_t             bytes;
    void              *block;           /* what to free; NULL: a part of its only session */
    uint32_t           n_batch, n_fill; /* rows of x; of them for prompts while somebody writes */
    uint32_t           n_slot_row, n_logit_row;         /* rows of y, ffn and xq; rows of logits */
    uint32_t           n_rank, n_group; /* widest adapter there is room for; adapters and scales in this pass */
    gpt_session       *first;           /* its sessions, in the order of their turn */
    gpt_session       *only;            /* a call that blocks computes this one alone; NULL: all */

    /* the pass under way */
    gpti_stage        *stage;           /* [GPTI_N_STAGE] */
    gpti_pass_cursor   cursor;
    gpti_row          *row;             /* [T] */
    size_t             n_row, cost;     /* T of this pass; multiply-adds of one unit */
    size_t             few;             /* a unit takes as long as so many: few rows wait for the weights */
    size_t             slice;           /* first unit of the slice under way */
    size_t             fence;           /* units from here on need all before them */
    struct gpti_matmul *job;            /* [n_job] the products of this stage, together n_unit panels */
    struct gpti_attend *attend;         /* [n_job] the same of attention: one for each text */
    size_t             n_job;
    size_t             n_slot, d_slot, n_shared;    /* rows of the feed-forward and their width; of the shared expert */
    uint32_t          *out_row;         /* [n_normed] rows of x that get the last norm, */
    size_t             n_kept, n_out, n_normed;         /* [n_out] of them logits; from n_kept on: only here */

    /* buffers; without a gate ffn is up alone, with experts y has a row for each expert of a
     * token */
    float             *x, *xn, *qkv;    /* [T, D] residual stream; [T, D] normed; [T, Q + K + W] */
    float             *between;         /* [d_dense] the two dense layers */
    float             *att, *y, *ffn;   /* [T, O]; [slots, D] what is added to x; [slots, 2F] gate, then up */
    /* the quantised input of the next product, [blocks of 32 columns][n_slot_row] */
    struct gpti_xblock *xq;
    /* [T, n_rope] cosines, then sines, for each table; [n_logit_row, n_vocab] */
    float             *rope[2], *logits;
    /* of adapters: A x [GPTI_MOST_PRODUCTS n_slot_row, n_rank]; the rows of their products' inputs, of their outputs */
    float             *low;
    uint32_t          *low_row, *add_row;
    float             *route, *gate, *shared_gate;  /* [T, 2 n_expert] router's scores; [T, n_used] weights; [T] */
    uint32_t          *chosen;          /* [T, n_used] experts of each token */
    /* grouped by expert, expert e's from first_slot[e] to first_slot[e + 1] */
    uint32_t          *expert_tok, *expert_slot, *first_slot;
    union gpti_scratch *scratch;        /* [n_most]; the tokenizer uses it too */

    struct gpti_candidate *cand;        /* [n_vocab] of the choice of a token under way */
    struct gpti_choice *choice;
    gpt_session       *choosing;        /* whose it is, or NULL */
    struct gpti_try   *trial;           /* of tokens in a constraint */

    int                busy, stop, can_pause;   /* a call is at work: its hooks may read and ask to stop */
    gpt_error         *err;             /* of that call */
};

/* The stages of a pass, from the bottom of the paper's figure (Radford 2018, "Improving Language
 * Understanding by Generative Pre-Training", fig. 1) to its top, but with each norm moved in front
 * of its half, as in GPT-2 (Radford 2019): buffers in -> out. gpti_list_stages says how each is
 * computed. Inputs may be scaled or rounded in place on the way; xn also serves as scratch where
 * nothing else needs it. */
enum {
    GPTI_STAGE_EMBED,           /* token -> x; positions -> rope */

    GPTI_STAGE_ATTN_NORM,       /* x -> xn, xq                  norm; from here on for each layer */
    GPTI_STAGE_QKV,             /* xn, xq -> qkv                products with three matrices */
    GPTI_STAGE_ROPE,            /* qkv, rope -> qkv, cache      q and k turn by their position; k and v are kept */
    GPTI_STAGE_ATTEND,          /* qkv, cache -> att            each token looks back */
    GPTI_STAGE_CONV_KEEP,       /* qkv -> cache                 layers of short convolution, instead of these two */
    GPTI_STAGE_CONV,            /* qkv, cache -> att            each token looks back on the last few */
    GPTI_STAGE_STATE_CONV,      /* qkv, state -> qkv, state     layers of state */
    GPTI_STAGE_STATE,           /* qkv, state -> att, state     each token changes what the state remembers */
    GPTI_STAGE_ATT_INPUT,       /* att -> xq                   rounded, where the product wants that */
    GPTI_STAGE_ATTN_OUT,        /* att, xq -> y                 product */
    GPTI_STAGE_ATTN_ADD,        /* x, y -> x, xn, xq            x + y; norm */

    GPTI_STAGE_FFN_UP,          /* xn, xq -> ffn                layers with one feed-forward: products */
    GPTI_STAGE_FFN_ACT,         /* ffn -> ffn, xq               activation */
    GPTI_STAGE_FFN_DOWN,        /* ffn, xq -> y                 product */
    GPTI_STAGE_FFN_ADD,         /* x, y -> x */

    GPTI_STAGE_ROUTER,          /* xn, xq -> route              layers of experts: a score for each expert */
    GPTI_STAGE_ROUTE,           /* route -> chosen, gate        the best of them, and their weights */
    GPTI_STAGE_EXPERTS_UP,      /* xn, xq -> ffn                as above, a row for each expert of a token */
    GPTI_STAGE_EXPERTS_ACT,     /* ffn -> ffn, xq */
    GPTI_STAGE_EXPERTS_DOWN,    /* ffn, xq -> y */
    GPTI_STAGE_EXPERTS_ADD,     /* x, y, gate -> x              to here */

    GPTI_STAGE_OUT_NORM,        /* x -> xn, xq                  only rows whose logits somebody wants */
    GPTI_STAGE_LOGITS,          /* xn, xq -> logits             product with the vocabulary */
    GPTI_STAGE_SCORES,          /* logits -> logits, score      scale and soft cap */
    GPTI_N_STAGE
};

static gpt_result gpti_advance(gpt_work *w);                               /* below */
static gpt_result gpti_write(gpt_session *s);
static gpt_result gpti_pass(void *work);
static gpt_result gpti_forward(gpt_work *w);                                /* [FORWARD] */
static void gpti_begin_stage(gpt_work *w);
static void gpti_run_slice(gpt_work *w);
static void gpti_trace_stage(const gpt_work *w);
static int gpti_next_stage(gpt_work *w);
static void gpti_end_pass(gpt_work *w);
static void gpti_give_up_pass(gpt_work *w);
static gpt_result gpti_ask(gpt_work *w);
static gpt_session *gpti_next_writer(const gpt_work *w);                   /* [SESSION] */
static gpt_result gpti_enter(gpt_session *s, const char *call, int doing, gpt_error *err);
static gpt_result gpti_leave(gpt_session *s, gpt_result r);
static gpt_result gpti_run(gpt_session *s, gpt_error *err);
static gpt_result gpti_draw(gpt_session *s, gpt_token *id);                 /* [SAMPLING] */
static gpt_result gpti_begin(gpt_session *s, const char *prompt, const gpt_generate_params *params, gpt_text_fn fn,
                             void *user, gpt_error *err);                   /* [GENERATE] */
static gpt_finish gpti_append_token(gpt_session *s, gpt_token id);
static size_t gpti_draft_rows(gpt_work *w, gpt_session *s, size_t n_homeless);
static gpt_finish gpti_enough(const gpt_session *s);
static void gpti_choices_score(gpt_session *s, const float *logits, size_t next);
static void gpti_choices_next(gpt_session *s);
static void gpti_choices_end(gpt_session *s);
static gpt_finish gpti_force(gpt_session *s);                               /* [CONSTRAINT] */
static gpt_finish gpti_ending(const gpt_session *s, gpt_finish why);
static void gpti_finish(gpt_session *s, gpt_finish why);
static void gpti_go_back(gpt_session *s, size_t n);                         /* [SESSION] */
static size_t gpti_held_before(const gpt_session *s, size_t n);
static size_t gpti_state_least(const gpt_session *s);
static const float *gpti_state_now(const gpt_session *s);
static float *gpti_state_next(const gpt_session *s);
static gpt_result gpti_can_repeat(const gpt_session *s, size_t from, size_t to, gpt_error *err);

GPT_API gpt_result gpt_generate(gpt_session *s, const char *prompt, const gpt_generate_params *params, gpt_text_fn fn,
                                void *user, gpt_error *err) {
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_generate", GPTI_IDLE, err));
    r = gpti_begin(s, prompt, params, fn, user, err);
    return gpti_leave(s, r ? r : gpti_run(s, err));             /* gpti_advance until it has finished */
}

/* A step of a work space, of all its texts that are under way: 1. compute what waits, in one pass,
 * 2. choose, 3. append and hand out. GPT_MORE: the poll hook wants a pause. */
static gpt_result gpti_advance(gpt_work *w) {
    gpt_session *s = gpti_next_writer(w);       /* one whose logits are there */
    gpt_result r = s ? GPT_OK : gpti_forward(w);
    while (!r && (s = gpti_next_writer(w)) != NULL) r = gpti_write(s);
    return r;
}

static gpt_result gpti_write(gpt_session *s) {
    gpt_finish why = gpti_enough(s);            /* gpt_end from a hook, or what gpti_begin has pushed, ends the text */
    gpt_token id = -1;
    if (why != GPT_FINISH_STOP && why != GPT_FINISH_HOST) {
        why = s->w->choosing == s ? GPT_FINISH_NONE : gpti_force(s);    /* what a constraint leaves no choice of */
        if (why == GPT_FINISH_NONE && s->n_past == s->n_token) {
            GPTI_TRY(gpti_draw(s, &id));
            if (s->doing != GPTI_GENERATES) return GPT_OK;      /* ended by a hook meanwhile */
            why = id < 0 ? GPT_FINISH_REFUSED : gpti_append_token(s, id);
            if (why == GPT_FINISH_NONE) why = gpti_force(s);
        }
        if (why != GPT_FINISH_NONE) why = gpti_ending(s, why);
    }
    if (why != GPT_FINISH_NONE) gpti_finish(s, why);
    return GPT_OK;
}

/* A pass: at most n_batch rows, of one text or of many, go through the stages, layer by layer. The
 * cursor lives in the work space. So one loop serves the calls that block, the slices of gpt_step
 * (GPT_MORE: the poll hook asked for a pause and can_pause is set; the next call goes on there), a
 * cancel (the pass is given up: what earlier ones computed stays) and the trace hook. */
static gpt_result gpti_pass(void *work) {
    gpt_work *w = (gpt_work *)work;
    do {
        if (w->cursor.unit == 0) gpti_begin_stage(w);
        while (w->cursor.unit < w->cursor.n_unit) {
            gpt_result r;
            gpti_run_slice(w);                  /* all units, or with a poll hook some milliseconds of them */
            r = gpti_ask(w);                    /* the poll hook */
            if (r < 0) gpti_give_up_pass(w);
            if (r || !w->cursor.active) return r;       /* all that were in it have left */
        }
        gpti_trace_stage(w);
    } while (gpti_next_stage(w));
    gpti_end_pass(w);
    return GPT_OK;
}

/* ======================================================================
 * [PLAIN] The arithmetic of a layer as the papers write it
 * ====================================================================
 * Nothing in gpt.h calls these: they are the lesson, and what tests/unit_plain.c compares the fast forms
 * with. A fast form differs in three ways: its order of sums is the same everywhere, it takes many numbers
 * at once, and what meets quantised or F16 weights is rounded first (gpti_prepare_input). */

/* y_i = sum_k w_ik x_k + b_i, w [n_row, n_col], b NULL = 0. Fast: gpti_matmul_ref and its like, 16
 * rows at a time, from weights of few bits. */
GPTI_UNUSED static void gpti_plain_product(double *y, const float *w, const float *x, const float *b, size_t n_row,
                                           size_t n_col) {
    size_t i, k;
    for (i = 0; i < n_row; i++) {
        y[i] = b ? (double)b[i] : 0.0;
        for (k = 0; k < n_col; k++) y[i] += (double)w[i * n_col + k] * (double)x[k];
    }
}

/* Norm: x minus its mean (LayerNorm; RMSNorm takes no mean), divided by the root of its mean
 * square. Fast: gpti_norm_body. */
GPTI_UNUSED static void gpti_plain_norm(double *y, const float *x, size_t n, const float *w, const float *b,
                                        int layer_norm, double eps) {
    double mean = 0.0, square = 0.0;
    size_t i;
    for (i = 0; layer_norm && i < n; i++) mean += (double)x[i] / (double)n;
    for (i = 0; i < n; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
    for (i = 0; i < n; i++)
        y[i] = ((double)x[i] - mean) / sqrt(square + eps) * (w ? (double)w[i] : 1.0) + (b ? (double)b[i] : 0.0);
}

/* Rope: the pair (a, b) turns like the hand of a clock, by position * frequency. Fast:
 * gpti_rope_body. */
GPTI_UNUSED static void gpti_plain_rope(double *a, double *b, double angle) {
    const double x = *a * cos(angle) - *b * sin(angle);
    *b = *a * sin(angle) + *b * cos(angle);
    *a = x;
}

/* GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415), tanh form: the bend between the two products of
 * a feed-forward; without one they could do no more than a single product. Fast: gpti_act, with
 * other bends. */
GPTI_UNUSED static double gpti_plain_gelu(double x) {
    return 0.5 * x * (1.0 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
}

/* Attention of the query q [d_k] at position n - 1 to the keys [n, d_k] of positions 0 to n - 1:
 * its own and all before, none later (causal). scale is 1 / sqrt(d_k). Each value [n, d_v] counts
 * by e^(scale q . key), divided by the sum of all: softmax, here as it goes: when a larger score
 * comes up, what was summed before is scaled down. Fast: gpti_attend_band. */
GPTI_UNUSED static void gpti_plain_attention(double *out, const float *q, const float *keys, const float *values,
                                             size_t n, size_t d_k, size_t d_v, double scale) {
    double largest = -INFINITY, sum = 0.0, score, weight, keep;
    size_t i, j;
    for (i = 0; i < d_v; i++) out[i] = 0.0;
    for (j = 0; j < n; j++) {
        for (score = 0.0, i = 0; i < d_k; i++) score += scale * (double)q[i] * (double)keys[j * d_k + i];
        keep = score > largest ? exp(largest - score) : 1.0;
        largest = score > largest ? score : largest;
        weight = exp(score - largest);
        sum = sum * keep + weight;
        for (i = 0; i < d_v; i++) out[i] = out[i] * keep + weight * (double)values[j * d_v + i];
    }
    for (i = 0; i < d_v; i++) out[i] /= sum;
}

/* Short convolution (LFM2 Technical Report 2025, arXiv:2511.23404) of one column at position n - 1: b x of
 * the last n_w positions, each with a weight of its own, summed, times c. Fast: gpti_convolve. */
GPTI_UNUSED static double gpti_plain_convolution(const float *w, size_t n_w, const float *b, const float *x, double c,
                                                 size_t n) {
    double sum = 0.0;
    size_t j;
    for (j = 1; j <= n_w && j <= n; j++) sum += (double)w[n_w - j] * (double)b[n - j] * (double)x[n - j];
    return c * sum;
}

/* The gated delta rule (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464, eq. 10) of one head. Its state [n, d]
 * remembers a value [d] for each key [n]: it fades (keep is below 1), what it has for k moves towards v (rate is 0 to
 * 1), and out [d] is what it has for q. Without corrects v is added, whatever is there: the scan of Mamba-2 (Dao & Gu
 * 2024, arXiv:2405.21060). Fast: gpti_delta_body. */
GPTI_UNUSED static void gpti_plain_delta(double *out, double *state, const float *q, const float *k, const float *v,
                                         size_t n, size_t d, double keep, double rate, int corrects) {
    size_t i, j;
    for (j = 0; j < d; j++) {
        double had = 0.0;
        for (i = 0; i < n; i++) had += (double)k[i] * (state[i * d + j] *= keep);
        if (!corrects) had = 0.0;
        for (i = 0; i < n; i++) state[i * d + j] += (double)k[i] * rate * ((double)v[j] - had);
        for (out[j] = 0.0, i = 0; i < n; i++) out[j] += (double)q[i] * state[i * d + j];
    }
}

/* ======================================================================
 * [PLATFORM] Memory, errors, checked sizes, parallel_for
 * ==================================================================== */

typedef struct gpti_str { const char *p; size_t n; } gpti_str;  /* bytes, borrowed, no NUL behind */
typedef gpt_alloc gpti_mem;
typedef unsigned long long gpti_ull;    /* what %llu takes: sizes and counts in messages */

static gpti_str gpti_str_of(const char *text) { gpti_str s; s.p = text; s.n = strlen(text); return s; }

/* A message that does not fit ends in "...". */
static gpt_result gpti_fail(gpt_error *err, gpt_result code, const char *fmt, ...) {
    va_list args;
    if (!err) return code;
    err->code = code;
    va_start(args, fmt);
    if ((size_t)vsnprintf(err->msg, sizeof err->msg, fmt, args) >= sizeof err->msg)
        memcpy(err->msg + sizeof err->msg - 4, "...", 4);
    va_end(args);
    return code;
}

enum { GPTI_SHOWN = 72 };

/* A text made fit for a message: bytes that are not printable ASCII as \x1b, "..." for what is cut. */
static const char *gpti_show(char buf[GPTI_SHOWN], gpti_str s) {
    size_t i, n = 0;
    for (i = 0; i < s.n && n < GPTI_SHOWN - 8; i++) {
        const unsigned char b = (unsigned char)s.p[i];
        n += (size_t)snprintf(buf + n, 5, b >= ' ' && b <= '~' ? "%c" : "\\x%02x", b);
    }
    memcpy(buf + n, i < s.n ? "..." : "", i < s.n ? 4 : 1);
    return buf;
}

static void gpti_clear(gpt_error *err) { if (err) { err->code = GPT_OK; err->msg[0] = 0; } }

/* 1 and the result, or 0 when it does not fit a size_t. */
static int gpti_mul(size_t *out, size_t a, size_t b) {
    if (b && a > SIZE_MAX / b) return 0;
    *out = a * b;
    return 1;
}
static int gpti_add(size_t *out, size_t a, size_t b) {
    if (a > SIZE_MAX - b) return 0;
    *out = a + b;
    return 1;
}

static size_t gpti_max(size_t a, size_t b) { return a > b ? a : b; }
GPTI_INLINE size_t gpti_min(size_t a, size_t b) { return a < b ? a : b; }

/* n bytes, or NULL; n == 0 gives memory too, so NULL always means failure. */
static void *gpti_alloc_raw(const gpti_mem *mem, size_t n) {
    return mem->alloc ? mem->alloc(mem->user, n ? n : 1) : GPT_MALLOC(n ? n : 1);
}

/* The same, zeroed. */
static void *gpti_alloc(const gpti_mem *mem, size_t n) {
    void *p = gpti_alloc_raw(mem, n);
    if (p) memset(p, 0, n);
    return p;
}

static void gpti_free(const gpti_mem *mem, void *p) {
    if (!p) return;
    /* in parentheses: to some hosts free, read and poll are macros */
    if (mem->free) (mem->free)(mem->user, p);
    else GPT_FREE(p);
}

/* n elements of `size` bytes, the product checked; zeroed */
static void *gpti_alloc_n(const gpti_mem *mem, size_t n, size_t size) {
    size_t bytes;
    return gpti_mul(&bytes, n, size) ? gpti_alloc(mem, bytes) : NULL;
}

static unsigned char *gpti_align(void *p, size_t n) { return (unsigned char *)p + (n - (uintptr_t)p % n) % n; }

/* Little-endian bytes to numbers */
#if defined(_MSC_VER) || (defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#  define GPTI_LITTLE 1     /* the processor's own order; 0: that is not known */
#else
#  define GPTI_LITTLE 0
#endif
static uint32_t gpti_load_u16(const void *p) {
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8;
}
static uint32_t gpti_load_u32(const void *p) {
    return gpti_load_u16(p) | gpti_load_u16((const unsigned char *)p + 2) << 16;
}

static uint64_t gpti_load_u64(const void *p) {
    return gpti_load_u32(p) | (uint64_t)gpti_load_u32((const unsigned char *)p + 4) << 32;
}

/* Goes on from h; any one byte that is another gives another result, as each step can be undone. */
static uint64_t gpti_digest(uint64_t h, const void *p, size_t n) {
    const unsigned char *b = (const unsigned char *)p;
    unsigned char rest[8] = { 0 };
    for (h ^= n; n >= 8; n -= 8, b += 8) { h = (h ^ gpti_load_u64(b)) * 0x9E3779B97F4A7C15u; h ^= h >> 29; }
    memcpy(rest, b, n);
    h = (h ^ gpti_load_u64(rest)) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static int gpti_str_is(gpti_str s, const char *text) { return strlen(text) == s.n && !memcmp(s.p, text, s.n); }

/* A run of memory handed out piece by piece at 64-byte steps. With base NULL it only measures, so
 * the code that lays an object out is also the code that says how large it is. */
typedef struct gpti_arena { unsigned char *base; size_t used; int overflow; } gpti_arena;

static void *gpti_carve(gpti_arena *a, size_t n, size_t size) {
    size_t bytes, end;
    void *p = a->base ? a->base + a->used : NULL;
    a->overflow |= !gpti_mul(&bytes, n, size) || !gpti_add(&end, a->used, bytes) || !gpti_add(&end, end, 63);
    if (a->overflow) return NULL;
    a->used = end & ~(size_t)63;
    return p;
}

/* The one way to be parallel: task(arg, b, e, worker) over ranges that cover [0, n). A loop is cut
 * into pieces, which the caller and its helpers claim one by one; the caller waits for claimed
 * pieces, never for a thread, so that a helper which the system does not run costs next to nothing.
 * gpt_parallel is the host's form of this; OpenMP's threads join in gpti_together. */
enum {
    GPTI_WORTH_SHARING = 1 << 18,       /* multiply-adds of a loop that are worth another thread */
    GPTI_SLICE = 1 << 22,       /* multiply-adds of a slice (see gpt_step), for each worker */
    GPTI_MAX_WORKER = 256,
    GPTI_PIECES = 4,            /* pieces of a loop for each worker */
    GPTI_SPIN = 2000,           /* a waiting thread looks so often before it yields its core */
    GPTI_QUIT = 1 << 15         /* the helpers' work is over; as a count of pieces: never reached */
};

static void gpti_pool_init(gpti_pool *pool, const gpt_parallel *host, int asked) {
    const int n = host->run ? host->n_worker : GPTI_THREADS(asked);
    memset(pool, 0, sizeof *pool);
    pool->host = *host;
    pool->n_worker = n < 1 ? 1 : n;
    if (n > GPTI_MAX_WORKER && !host->run) pool->n_worker = GPTI_MAX_WORKER;
}

#ifdef GPTI_OPENMP
typedef struct gpti_crew {
    GPTI_ALIGN64 uint32_t word;     /* n_piece << 16 | the next piece to be claimed; or GPTI_QUIT */
    GPTI_ALIGN64 uint32_t done;     /* finished pieces */
    GPTI_ALIGN64 size_t n;
    gpt_task task;
    void    *arg;
    double   late;                  /* seconds that the caller waited for others */
} gpti_crew;

/* Claims and does one piece after the other, until none is left. One word says all that claiming
 * needs, so that nothing a slow thread read long ago can be taken for the loop of now. Pieces begin
 * at a multiple of 4 (2 where they are short): matrix products compute so many panels at once. */
static void gpti_claim(gpti_crew *c, int worker) {
    for (;;) {
        const uint32_t word = GPTI_FETCH_ADD(&c->word, 1), n_piece = word >> 16, i = word & 0xFFFF;
        size_t unit, n_unit, end;
        if (i >= n_piece) return;
        unit = c->n / n_piece >= 8 ? 4 : 2;
        n_unit = (c->n + unit - 1) / unit;
        end = gpti_min(n_unit * (i + 1) / n_piece * unit, c->n);
        if (n_unit * i / n_piece * unit < end) c->task(c->arg, n_unit * i / n_piece * unit, end, worker);
        GPTI_FETCH_ADD(&c->done, 1);
    }
}

static void gpti_wait(int idle) {       /* a moment, in a loop that has looked idle times for news */
    if (idle < GPTI_SPIN) GPTI_RELAX();
    else GPTI_YIELD();
}

static void gpti_help(gpti_crew *c, int worker) {
    uint32_t word;
    int idle = 0;
    while (!((word = GPTI_LOAD(&c->word)) & GPTI_QUIT)) {
        if ((word & 0xFFFF) >= word >> 16) { gpti_wait(++idle); continue; }
        gpti_claim(c, worker);
        idle = 0;
    }
}

/* The loop in n_piece pieces, for the caller and its helpers. Each costs a trip between cores. */
static void gpti_crew_run(gpti_crew *c, size_t n_piece) {
    double since = 0;
    int idle;
    GPTI_STORE(&c->done, 0);
    GPTI_STORE(&c->word, (uint32_t)n_piece << 16);
    gpti_claim(c, 0);
    for (idle = 0; GPTI_LOAD(&c->done) != n_piece; idle++) {
        if (idle == GPTI_SPIN) since = omp_get_wtime();
        gpti_wait(idle);
    }
    if (idle > GPTI_SPIN) c->late += omp_get_wtime() - since;
}
#endif

/* work(arg), with OpenMP's threads at hand for all gpti_parallel_for in it. Where they come late, as
 * other programs have the cores, the next call does without them; then the next 2, 4 ... 64. */
static gpt_result gpti_together(gpti_pool *pool, gpt_result (*work)(void *arg), void *arg) {
#ifdef GPTI_OPENMP
    if (!pool->host.run && pool->n_worker > 1 && !pool->crew && !pool->alone) {
        double begin = omp_get_wtime(), end = begin;
        gpt_result r = GPT_OK;
        gpti_crew crew;
        memset(&crew, 0, sizeof crew);
        pool->crew = &crew;
        #pragma omp parallel num_threads(pool->n_worker)
        if (omp_get_thread_num() == 0) {
            crew.late = omp_get_wtime() - begin;
            r = work(arg);
            end = omp_get_wtime();
            GPTI_STORE(&crew.word, GPTI_QUIT);
        } else gpti_help(&crew, omp_get_thread_num());
        pool->crew = NULL;
        crew.late += omp_get_wtime() - end;
        if (crew.late < 0.1 * (end - begin)) pool->more = 0;
        else pool->alone = pool->more = (unsigned)gpti_min(pool->more ? 2 * pool->more : 1, 64);
        return r;
    }
    if (pool->alone) pool->alone--;
#endif
    (void)pool;
    return work(arg);
}

static void gpti_parallel_for(const gpti_pool *pool, size_t n, size_t cost, gpt_task task, void *arg) {
    const int alone = n < 2 || cost < GPTI_WORTH_SHARING / n;           /* stays on the caller's thread */
    if (!alone && pool->host.run) {
        pool->host.run(pool->host.user, n, cost, task, arg);
        return;
    }
#ifdef GPTI_OPENMP
    if (!alone && pool->crew) {
        const size_t n_worker = (size_t)pool->n_worker, worth = n * cost / GPTI_WORTH_SHARING * 2;
        const size_t n_piece = gpti_max(n_worker, gpti_min(worth, n_worker * GPTI_PIECES));
        pool->crew->n = n; pool->crew->task = task; pool->crew->arg = arg;
        gpti_crew_run(pool->crew, gpti_min(n_piece, (n + 1) / 2));
        return;
    }
#endif
    if (n) task(arg, 0, n, 0);
}

GPTI_COLD
/* ---- Files: where the bytes of a model come from. GPT_NO_MMAP leaves plain C behind. ---- */

#ifndef GPT_NO_STDIO
#  include <limits.h>
#  if defined(_WIN32)
#    ifndef WIN32_LEAN_AND_MEAN
#      define WIN32_LEAN_AND_MEAN
#    endif
#    ifndef NOMINMAX
#      define NOMINMAX
#    endif
#    include <windows.h>
#  elif !defined(GPT_NO_MMAP) && (defined(__unix__) || (defined(__APPLE__) && defined(__MACH__)))
#    include <fcntl.h>
#    include <sys/mman.h>
#    include <sys/types.h>
#    include <unistd.h>
#  endif
#endif

/* A file, a block of memory or the host's reader. One read at a time: a FILE has one position. */
typedef struct gpti_source {
    gpt_reader r;
    const unsigned char *map;           /* all r.size bytes; NULL where r.read must be called */
    int mapped;                         /* 1: map is a mapping of our own */
} gpti_source;

static void gpti_source_memory(gpti_source *s, const void *data, size_t size) {
    memset(s, 0, sizeof *s);
    s->map = (const unsigned char *)data; s->r.size = size;
}

static void gpti_source_reader(gpti_source *s, const gpt_reader *r) {
    memset(s, 0, sizeof *s);
    s->r = *r;
}

static gpt_result gpti_source_read(gpti_source *s, uint64_t offset, void *dst, size_t n, gpt_error *err) {
    if (offset > s->r.size || n > s->r.size - offset)
        return gpti_fail(err, GPT_E_FORMAT, "%llu bytes expected at offset %llu, the file ends at %llu", (gpti_ull)n,
            (gpti_ull)offset, (gpti_ull)s->r.size);
    if (n == 0) return GPT_OK;
    if (s->map) memcpy(dst, s->map + (size_t)offset, n);
    else if ((s->r.read)(s->r.user, offset, dst, n) != n)
        return gpti_fail(err, GPT_E_IO, "read error: %llu bytes at offset %llu", (gpti_ull)n, (gpti_ull)offset);
    return GPT_OK;
}

#ifndef GPT_NO_STDIO

/* Files above 2 GiB where long has 32 bits. POSIX hides fseeko from strict ISO modes. */
#if defined(_WIN32)
typedef long long gpti_off;
#  define GPTI_SEEK _fseeki64
#  define GPTI_TELL _ftelli64
#elif LONG_MAX <= 0x7fffffffL && \
    (!defined(__STRICT_ANSI__) || (defined(_POSIX_C_SOURCE) && _POSIX_C_SOURCE >= 200112L))
typedef off_t gpti_off;
#  define GPTI_SEEK fseeko
#  define GPTI_TELL ftello
#else
typedef long gpti_off;
#  define GPTI_SEEK fseek
#  define GPTI_TELL ftell
#endif

static size_t gpti_file_read(void *user, uint64_t offset, void *dst, size_t n) {
    FILE *f = (FILE *)user;
    gpti_off o = (gpti_off)offset;
    if (o < 0 || (uint64_t)o != offset || GPTI_SEEK(f, o, SEEK_SET)) return 0;
    return fread(dst, 1, n, f);
}

static uint64_t gpti_file_size(FILE *f) {       /* 0 when it cannot be told */
    gpti_off n = GPTI_SEEK(f, 0, SEEK_END) ? -1 : GPTI_TELL(f);
    return n < 0 ? 0 : (uint64_t)n;
}

#ifdef _WIN32
/* A path in UTF-8 for the calls of Windows that take UTF-16; NULL on failure. */
static wchar_t *gpti_wide(const char *path, const gpti_mem *mem) {
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *w = n > 0 ? (wchar_t *)gpti_alloc(mem, (size_t)n * sizeof *w) : NULL;
    if (w) MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, w, n);
    return w;
}
#endif

static FILE *gpti_file_open(const char *path, const gpti_mem *mem) {
#ifdef _WIN32
    FILE *f = NULL;
    wchar_t *w = gpti_wide(path, mem);
    if (w && _wfopen_s(&f, w, L"rb")) f = NULL;
    gpti_free(mem, w);
    return f;
#else
    (void)mem;
    return fopen(path, "rb");
#endif
}

/* gpti_map: the whole file, read-only, and its size; NULL when that is impossible, for whatever
 * reason: reading remains. Whoever cuts a mapped file short takes the pages away from under the
 * program, on every system. gpti_unmap: what it gave. */
#if !defined(GPT_NO_MMAP) && defined(_WIN32)
static void *gpti_map(const char *path, size_t *size, const gpti_mem *mem) {
    wchar_t *w = gpti_wide(path, mem);
    HANDLE view = NULL, file = INVALID_HANDLE_VALUE;
    LARGE_INTEGER end;
    void *map = NULL;
    if (w) file = CreateFileW(w, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    gpti_free(mem, w);
    if (file == INVALID_HANDLE_VALUE) return NULL;
    if (GetFileSizeEx(file, &end) && end.QuadPart > 0 && (uint64_t)end.QuadPart <= SIZE_MAX / 2)
        view = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (view) {
        *size = (size_t)end.QuadPart;
        map = MapViewOfFile(view, FILE_MAP_READ, 0, 0, 0);
        CloseHandle(view);              /* the mapping keeps what it needs open by itself */
    }
    CloseHandle(file);
    return map;
}

static void gpti_unmap(const void *map, size_t size) { (void)size; UnmapViewOfFile((void *)map); }
#elif !defined(GPT_NO_MMAP) && defined(PROT_READ)
static void *gpti_map(const char *path, size_t *size, const gpti_mem *mem) {
    int fd = open(path, O_RDONLY);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    void *map = MAP_FAILED;
    (void)mem;
    if (end > 0 && (uint64_t)end <= SIZE_MAX / 2) {
        *size = (size_t)end;
        map = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    if (fd >= 0) close(fd);
    return map == MAP_FAILED ? NULL : map;
}

static void gpti_unmap(const void *map, size_t size) { munmap((void *)map, size); }
#else
static void *gpti_map(const char *path, size_t *size, const gpti_mem *mem) {
    (void)path; (void)size; (void)mem;
    return NULL;
}

static void gpti_unmap(const void *map, size_t size) { (void)map; (void)size; }
#endif

/* A path made fit for a message: its end, where the name is, after "..." if there was more. */
static const char *gpti_show_path(char buf[GPTI_SHOWN], const char *path) {
    size_t n = strlen(path), cut = n < GPTI_SHOWN ? 0 : n - (GPTI_SHOWN - 4);
    while (cut && (path[cut] & 0xC0) == 0x80) cut++;
    snprintf(buf, GPTI_SHOWN, cut ? "...%s" : "%s", path + cut);
    return buf;
}

static gpt_result gpti_source_open(gpti_source *s, const char *path, int want_map,
                                   const gpti_mem *mem, gpt_error *err) {
    char shown[GPTI_SHOWN];
    size_t size = 0;
    void *map = want_map ? gpti_map(path, &size, mem) : NULL;
    FILE *f;
    gpti_source_memory(s, map, map ? size : 0);
    s->mapped = map != NULL;
    if (map) return GPT_OK;
    f = gpti_file_open(path, mem);
    gpti_show_path(shown, path);
    if (!f) return gpti_fail(err, GPT_E_IO, "%s: cannot open the file", shown);
    setvbuf(f, NULL, _IONBF, 0);        /* gpti_cursor has its own buffer, weights need none */
    s->r.read = gpti_file_read; s->r.user = f; s->r.size = gpti_file_size(f);
    if (s->r.size > 0) return GPT_OK;
    fclose(f);
    memset(s, 0, sizeof *s);
    return gpti_fail(err, GPT_E_IO, "%s: empty, not a regular file, or too large for this build", shown);
}

/* Parts of a split model are named NAME-00001-of-00003.gguf: 3 for this one, 1 for other names. */
static int gpti_split_count(const char *path) {
    static const char form[] = "-#####-of-#####.gguf";
    size_t i, n = strlen(path), k = sizeof form - 1;
    int count = 0;
    if (n < k) return 1;
    path += n - k;
    for (i = 0; i < k; i++) {
        if (form[i] == '#' ? path[i] < '0' || path[i] > '9' : path[i] != form[i]) return 1;
        if (form[i] == '#' && i >= 10) count = count * 10 + (path[i] - '0');
    }
    return count < 1 ? 1 : count;
}

/* Name of part 0, 1, ... given any part's; the caller frees it. NULL when out of memory. */
static char *gpti_split_path(const char *path, int part, const gpti_mem *mem) {
    size_t i, n = strlen(path);
    char *name = (char *)gpti_alloc(mem, n + 1);
    if (!name) return NULL;
    memcpy(name, path, n + 1);
    if (gpti_split_count(path) > 1)
        for (part++, i = n - 14; i-- > n - 19; part /= 10) name[i] = (char)('0' + part % 10);
    return name;
}

#endif /* GPT_NO_STDIO */

/* Every token reads all weights: asks Linux for 2 MiB pages, which cost less address translation. */
static void gpti_huge_pages(void *p, size_t n) {
#if defined(__linux__) && defined(PROT_READ)
    const uintptr_t page = (uintptr_t)1 << 21;
    const uintptr_t first = ((uintptr_t)p + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)p + n) & ~(page - 1);
#  ifndef MADV_HUGEPAGE               /* strict ISO modes hide both */
    extern int madvise(void *, size_t, int);
    enum { MADV_HUGEPAGE = 14 };
#  endif
    if (end > first) madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
    (void)p; (void)n;
#endif
}

/* A zeroed source and a second close are fine. */
static void gpti_source_close(gpti_source *s, const gpti_mem *mem) {
    (void)mem;
#ifndef GPT_NO_STDIO
    if (s->r.read == gpti_file_read) fclose((FILE *)s->r.user);
    if (s->mapped) gpti_unmap(s->map, (size_t)s->r.size);
#endif
    memset(s, 0, sizeof *s);
}

/* ---- The cursor: the one way in for bytes that somebody else wrote ---- */

/* The first failure sticks and fills err; later reads give zeros: read a record, then ask once. */
typedef struct gpti_cursor {
    gpti_source *src;
    uint64_t pos, end;                  /* from the start of the source; end lies within it */
    int big;                            /* numbers are big-endian */
    gpt_result fail;
    gpt_error *err;
    const char *what;                   /* for messages, what is being read: */
    uint64_t index;                     /* its name if it has one, else "what index" */
    gpti_str name;
    uint64_t win_pos;                   /* win[0 .. win_n) holds the bytes from win_pos on */
    size_t win_n;
    unsigned char win[4096];
} gpti_cursor;

static void gpti_cursor_init(gpti_cursor *c, gpti_source *src, const char *what, gpt_error *err) {
    memset(c, 0, offsetof(gpti_cursor, win));
    c->src = src; c->end = src->r.size; c->what = what; c->err = err;
}

/* Always 0, so that a reading function can return it. */
static int gpti_cursor_fail(gpti_cursor *c, gpt_result code, const char *fmt, ...) {
    char msg[192], name[GPTI_SHOWN];
    va_list ap;
    if (c->fail) return 0;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (c->name.n) gpti_show(name, c->name);
    else if (c->index) snprintf(name, sizeof name, "%s %llu", c->what, (gpti_ull)c->index);
    else snprintf(name, sizeof name, "%s", c->what);
    c->fail = gpti_fail(c->err, code, "%s: %s", name, msg);
    return 0;
}

static int gpti_cursor_want(gpti_cursor *c, uint64_t n) {              /* are n more bytes there? */
    if (c->fail) return 0;
    if (n <= c->end - c->pos) return 1;
    return gpti_cursor_fail(c, GPT_E_FORMAT, "%llu bytes expected at offset %llu, %llu are left (cut short?)",
        (gpti_ull)n, (gpti_ull)c->pos, (gpti_ull)(c->end - c->pos));
}

static int gpti_cursor_skip(gpti_cursor *c, uint64_t n) {
    if (!gpti_cursor_want(c, n)) return 0;
    c->pos += n;
    return 1;
}

static int gpti_cursor_bytes(gpti_cursor *c, void *dst, size_t n) {
    if (!gpti_cursor_want(c, n)) return 0;
    if (n == 0) return 1;
    if (c->src->map || n > sizeof c->win) {
        c->fail = gpti_source_read(c->src, c->pos, dst, n, c->err);
    } else {
        if (c->pos < c->win_pos || c->pos + n > c->win_pos + c->win_n) {
            c->win_pos = c->pos;
            c->win_n = sizeof c->win;
            if (c->win_n > c->end - c->pos) c->win_n = (size_t)(c->end - c->pos);
            c->fail = gpti_source_read(c->src, c->pos, c->win, c->win_n, c->err);
        }
        if (!c->fail) memcpy(dst, c->win + (size_t)(c->pos - c->win_pos), n);
    }
    c->pos += n;
    return c->fail == GPT_OK;
}

static uint64_t gpti_cursor_uint(gpti_cursor *c, int bytes) {          /* 1 to 8 bytes */
    unsigned char b[8];
    uint64_t v = 0;
    int i;
    if (!gpti_cursor_bytes(c, b, (size_t)bytes)) return 0;
    for (i = 0; i < bytes; i++) v = v << 8 | b[c->big ? i : bytes - 1 - i];
    return v;
}

/* ---- JSON (RFC 8259), for chat templates, schemas and the host ---- */

enum { GPTI_JSON_DEPTH = 512 };         /* arrays and objects within each other */
enum { GPTI_JSON_END, GPTI_JSON_NULL, GPTI_JSON_FALSE, GPTI_JSON_TRUE, GPTI_JSON_NUMBER, GPTI_JSON_STRING,
       GPTI_JSON_KEY /* of a member, its colon is read too */, GPTI_JSON_ARRAY, GPTI_JSON_OBJECT,
       GPTI_JSON_CLOSE /* of the array or object at hand */, GPTI_JSON_ERROR };

typedef struct gpti_json {              /* reads a text from its beginning to its end, item by item */
    const char *begin, *p, *end;
    gpti_str    raw;                    /* the item as it stands there; of strings and keys what the quotes enclose */
    const char *error;                  /* GPTI_JSON_ERROR: what was expected at p */
    int         depth, item, begun;     /* item: the last one; begun: the text's value has been read */
    unsigned char object[GPTI_JSON_DEPTH / 8];  /* a bit for each that is open */
} gpti_json;

static void gpti_json_init(gpti_json *j, gpti_str text) {
    memset(j, 0, sizeof *j);
    j->begin = j->p = text.p; j->end = text.p + text.n;
}

static int gpti_json_fail(gpti_json *j, const char *expected) {
    j->error = expected;
    return j->item = GPTI_JSON_ERROR;
}

static int gpti_json_in_object(const gpti_json *j) {
    return j->depth && j->object[(j->depth - 1) / 8] >> ((j->depth - 1) & 7) & 1;
}

static const char *gpti_json_digits(const char *p, const char *end) {
    while (p < end && *p >= '0' && *p <= '9') p++;
    return p;
}

static void gpti_json_space(gpti_json *j) {
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\t' || *j->p == '\r')) j->p++;
}

static int gpti_hex_digit(int c) {                      /* its value; 16: it is none */
    const int low = c | 32;
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : 16;
}

static int gpti_json_hex(const char *p, const char *end, uint32_t *value) {    /* four digits at p? */
    int i;
    for (*value = 0, i = 0; i < 4; i++) {
        const int digit = p + i < end ? gpti_hex_digit((unsigned char)p[i]) : 16;
        if (digit > 15) return 0;
        *value = *value << 4 | (uint32_t)digit;
    }
    return 1;
}

/* The string that begins at p, behind its quote. */
static int gpti_json_string(gpti_json *j, int item) {
    uint32_t u;
    j->raw.p = j->p;
    for (; j->p < j->end && *j->p != '"'; j->p++) {
        if ((unsigned char)*j->p < ' ') return gpti_json_fail(j, "no control character in a string");
        if (*j->p != '\\') continue;
        if (++j->p == j->end || !strchr("\"\\/bfnrtu", *j->p) || !*j->p)
            return gpti_json_fail(j, "one of \"\\/bfnrtu behind a backslash");
        if (*j->p != 'u') continue;
        if (!gpti_json_hex(j->p + 1, j->end, &u)) return gpti_json_fail(j, "four hexadecimal digits");
        j->p += 4;
    }
    if (j->p == j->end) return gpti_json_fail(j, "a quotation mark at the string's end");
    j->raw.n = (size_t)(j->p++ - j->raw.p);
    return j->item = item;
}

static int gpti_json_number(gpti_json *j) {
    const char *p = j->p, *q;
    j->raw.p = p;
    p += *p == '-';
    j->p = p;
    q = gpti_json_digits(p, j->end);
    if (q == p) return gpti_json_fail(j, "a value");
    if (*p == '0' && q > p + 1) return gpti_json_fail(j, "no digit behind a leading 0");
    if (q < j->end && *q == '.') {
        p = j->p = q + 1;
        if ((q = gpti_json_digits(p, j->end)) == p) return gpti_json_fail(j, "a digit behind the point");
    }
    if (q < j->end && (*q | 32) == 'e') {
        p = q + 1;
        p += p < j->end && (*p == '+' || *p == '-');
        j->p = p;
        if ((q = gpti_json_digits(p, j->end)) == p) return gpti_json_fail(j, "a digit in the exponent");
    }
    j->p = q;
    j->raw.n = (size_t)(q - j->raw.p);
    return j->item = GPTI_JSON_NUMBER;
}

/* The next item: GPTI_JSON_, at last _END or _ERROR. */
static int gpti_json_next(gpti_json *j) {
    static const char words[3][6] = { "null", "false", "true" };
    const int last = j->item, opened = last == GPTI_JSON_ARRAY || last == GPTI_JSON_OBJECT;
    const int object = gpti_json_in_object(j);
    int i, c;
    for (;; j->p++) {
        gpti_json_space(j);
        c = j->p < j->end ? (unsigned char)*j->p : 0;
        if (last == GPTI_JSON_ERROR) return last;
        if (!j->depth && j->begun) {
            if (j->p < j->end) return gpti_json_fail(j, "nothing behind the value");
            return j->item = GPTI_JSON_END;
        }
        if (j->depth && c == (object ? '}' : ']') && last != GPTI_JSON_KEY && j->item != GPTI_JSON_END) {
            j->p++; j->depth--;
            j->raw.p = j->p - 1; j->raw.n = 1;
            return j->item = GPTI_JSON_CLOSE;
        }
        if (!j->depth || opened || last == GPTI_JSON_KEY || j->item == GPTI_JSON_END) break;
        if (c != ',') return gpti_json_fail(j, object ? "',' or '}'" : "',' or ']'");
        j->item = GPTI_JSON_END;        /* behind a comma: one more round */
    }
    if (object && last != GPTI_JSON_KEY) {
        if (c != '"') return gpti_json_fail(j, "a name in quotation marks");
        j->p++;
        if (gpti_json_string(j, GPTI_JSON_KEY) == GPTI_JSON_ERROR) return GPTI_JSON_ERROR;
        gpti_json_space(j);
        if (j->p == j->end || *j->p != ':') return gpti_json_fail(j, "':' behind a name");
        j->p++;
        return GPTI_JSON_KEY;
    }
    j->begun = 1;
    if (c == '"') { j->p++; return gpti_json_string(j, GPTI_JSON_STRING); }
    if (c == '[' || c == '{') {
        if (j->depth == GPTI_JSON_DEPTH) return gpti_json_fail(j, "at most 512 arrays and objects within each other");
        j->raw.p = j->p++; j->raw.n = 1;
        i = j->depth++;
        j->object[i / 8] = (unsigned char)((j->object[i / 8] & ~(1u << (i & 7))) | (c == '{' ? 1u : 0u) << (i & 7));
        return j->item = c == '{' ? GPTI_JSON_OBJECT : GPTI_JSON_ARRAY;
    }
    for (i = 0; i < 3; i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(j->end - j->p) < n || memcmp(j->p, words[i], n)) continue;
        j->raw.p = j->p; j->raw.n = n; j->p += n;
        return j->item = GPTI_JSON_NULL + i;
    }
    if (c == '-' || (c >= '0' && c <= '9')) return gpti_json_number(j);
    return gpti_json_fail(j, "a value");
}

/* Over the rest of the value whose first item was read last. */
static int gpti_json_skip(gpti_json *j) {
    const int depth = j->depth - (j->item == GPTI_JSON_ARRAY || j->item == GPTI_JSON_OBJECT);
    while (j->depth > depth && gpti_json_next(j) != GPTI_JSON_ERROR) {}
    return j->item;
}

static size_t gpti_put_utf8(char *out, uint32_t u) {
    size_t n = 0;
    if (u < 0x80) { out[0] = (char)u; return 1; }
    if (u < 0x800) out[n++] = (char)(0xC0 | u >> 6);
    else {
        if (u < 0x10000) out[n++] = (char)(0xE0 | u >> 12);
        else { out[n++] = (char)(0xF0 | u >> 18); out[n++] = (char)(0x80 | (u >> 12 & 63)); }
        out[n++] = (char)(0x80 | (u >> 6 & 63));
    }
    out[n++] = (char)(0x80 | (u & 63));
    return n;
}

/* What a string's raw text stands for, at most raw.n bytes, to out; returns their number. Half of a
 * surrogate pair alone becomes U+FFFD. */
static size_t gpti_json_unescape(gpti_str raw, char *out) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *p = raw.p, *end = p + raw.n, *q;
    size_t n = 0;
    uint32_t u, v;
    while (p < end) {
        if (*p != '\\') { out[n++] = *p++; continue; }
        p += 2;
        if (p[-1] != 'u') {
            q = strchr(from, p[-1]);
            out[n++] = q ? to[q - from] : p[-1];
            continue;
        }
        gpti_json_hex(p, end, &u);
        p += 4;
        if (u >> 10 == 0xD800 >> 10 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' && gpti_json_hex(p + 2, end, &v) &&
            v >> 10 == 0xDC00 >> 10) { u = 0x10000 + ((u & 0x3FF) << 10 | (v & 0x3FF)); p += 6; }
        n += gpti_put_utf8(out + n, u >= 0xD800 && u <= 0xDFFF ? 0xFFFD : u);
    }
    return n;
}

/* Goes to the value that path names; the item it begins with, 0 where there is none. */
static int gpti_json_path(gpti_json *j, const char *path) {
    char part[256], name[256];
    int item = gpti_json_next(j);
    while (*path && item != GPTI_JSON_ERROR) {
        size_t n = 0, i, at = 0;
        const int index = *path == '[';
        path += index || *path == '.';
        while (*path && *path != '[' && (index ? *path != ']' : *path != '.') && n < sizeof part) part[n++] = *path++;
        if (index) {
            if (*path++ != ']' || !n || item != GPTI_JSON_ARRAY) return 0;
            for (i = 0; i < n; i++) {
                if (part[i] < '0' || part[i] > '9' || at > SIZE_MAX / 16) return 0;
                at = at * 10 + (size_t)(part[i] - '0');
            }
            while ((item = gpti_json_next(j)) != GPTI_JSON_CLOSE && item != GPTI_JSON_ERROR && at-- > 0)
                gpti_json_skip(j);
        } else {
            if (item != GPTI_JSON_OBJECT || n == sizeof part) return 0;
            while ((item = gpti_json_next(j)) == GPTI_JSON_KEY) {
                const int found = j->raw.n <= sizeof name && gpti_json_unescape(j->raw, name) == n &&
                    !memcmp(name, part, n);
                item = gpti_json_next(j);
                if (found) break;
                gpti_json_skip(j);
            }
        }
        if (item == GPTI_JSON_CLOSE) return 0;
    }
    return item;
}

GPT_API int gpt_json_get(const char *json, size_t n, const char *path, char *out, size_t size, size_t *need) {
    static const char kinds[] = "\0zbbns\0ao";
    gpti_json j, all;
    gpti_str text, value = { "", 0 };
    int item, kind;
    if (need) *need = 0;
    if (!json || !path || (size && !out)) return -1;
    text.p = json; text.n = n;
    gpti_json_init(&all, text);
    while ((item = gpti_json_next(&all)) != GPTI_JSON_END) if (item == GPTI_JSON_ERROR) return -1;
    gpti_json_init(&j, text);
    item = gpti_json_path(&j, path);
    kind = kinds[item];
    if (!kind) return 0;
    value = j.raw;
    if (gpti_json_skip(&j) == GPTI_JSON_CLOSE) value.n = (size_t)(j.p - value.p);
    if (kind == 's') {
        char four[8];
        gpti_str one;
        size_t at = 0, used = 0, k, m;
        for (; at < value.n; at += k) {         /* an escape, a pair of them or a byte: out may be too small */
            one.p = value.p + at;
            k = *one.p != '\\' ? 1 : one.p[1] != 'u' ? 2 : 6;
            if (k == 6 && value.n - at >= 12 && gpti_json_unescape((one.n = 12, one), four) == 4 &&
                (unsigned char)four[0] >= 0xF0) k = 12;
            one.n = k;
            m = gpti_json_unescape(one, four);
            if (used < size) memcpy(out + used, four, gpti_min(m, size - used));
            used += m;
        }
        value.n = used;
    } else if (size) memcpy(out, value.p, gpti_min(value.n, size));
    if (need) *need = value.n;
    if (value.n < size) out[value.n] = 0;
    return kind;
}

/* ---- [PLATFORM], sorted tables ---- */

static int gpti_str_cmp(gpti_str a, gpti_str b) {
    size_t n = gpti_min(a.n, b.n);
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* What sorts a table: two records, and the ctx that was given to gpti_sort. */
typedef int gpti_cmp(const void *a, const void *b, const void *ctx);

/* Records that begin with a gpti_str, by that name. */
static int gpti_name_cmp(const void *a, const void *b, const void *ctx) {
    (void)ctx;
    return gpti_str_cmp(*(const gpti_str *)a, *(const gpti_str *)b);
}

static void gpti_swap(unsigned char *a, unsigned char *b, size_t n) {
    while (n--) { unsigned char t = a[n]; a[n] = b[n]; b[n] = t; }
}

/* Heapsort: n log n on any input, no recursion, no memory. libc's qsort promises none of the three.
 * Bottom up (Wegener 1993): a record that sinks into the heap is small as a rule, so the way of the
 * larger children is gone to its end and then back to where the record belongs: half the compares. */
static void gpti_sort(void *base, size_t n, size_t size, gpti_cmp *cmp, const void *ctx) {
    unsigned char *a = (unsigned char *)base, *sinks;
    size_t start = n / 2, end = n, at, child;
    while (end > 1) {
        if (start > 0) start--;                                 /* first make the heap, */
        else gpti_swap(a, a + --end * size, size);              /* then take the largest away */
        sinks = a + start * size;
        for (at = start; (child = 2 * at + 1) < end; at = child)
            if (child + 1 < end && cmp(a + child * size, a + (child + 1) * size, ctx) < 0) child++;
        while (at > start && cmp(a + at * size, sinks, ctx) < 0) at = (at - 1) / 2;
        for (; at > start; at = (at - 1) / 2) gpti_swap(sinks, a + at * size, size);
    }
}

/* The record of that name in a table sorted by gpti_name_cmp, or NULL. */
static const void *gpti_find(const void *base, size_t n, size_t size, gpti_str name) {
    const unsigned char *a = (const unsigned char *)base;
    size_t lo = 0;
    while (lo < n) {
        size_t mid = lo + (n - lo) / 2;
        int c = gpti_name_cmp(a + mid * size, &name, NULL);
        if (c == 0) return a + mid * size;
        if (c < 0) lo = mid + 1;
        else n = mid;
    }
    return NULL;
}

/* Room for one more record in a table of n: the table, moved if it grew; NULL: the old one stays. */
static void *gpti_grow(void *old, size_t n, size_t *cap, size_t size, const gpti_mem *mem) {
    size_t more = *cap ? *cap : 32, want, bytes;
    void *p;
    if (n < *cap) return old;
    if (!gpti_add(&want, *cap, more) || !gpti_mul(&bytes, want, size)) return NULL;
    p = gpti_alloc(mem, bytes);
    if (!p) return NULL;
    if (n) memcpy(p, old, n * size);
    gpti_free(mem, old);
    *cap = want;
    return p;
}

GPTI_COLD_END

/* ======================================================================
 * [MATH] exp, tanh, erf, log, sin and cos of our own
 * ==================================================================== */

/* libm's exp, log, sin and tanh differ between machines, so logits and draws would too. Here each
 * function is a stated sequence of additions, multiplications, divisions and exact bit moves, each
 * rounded once by IEEE 754, so the bits are the same everywhere. sqrt is libm's: IEEE makes it
 * exact. The f32 ones choose by value and never branch, so that a loop of 16 lanes around them
 * becomes SIMD code; the f64 ones serve tables and sampling. The bounds were measured over every
 * seventh f32; tests/unit_math.c holds them. */

GPTI_INLINE uint32_t gpti_f32_bits(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
GPTI_INLINE float gpti_bits_f32(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }
GPTI_INLINE float gpti_abs(float x) { return gpti_bits_f32(gpti_f32_bits(x) & 0x7FFFFFFFu); }
/* cond ? a : b, which gcc would turn into a branch */
GPTI_INLINE float gpti_select(int cond, float a, float b) {
    const uint32_t m = 0u - (uint32_t)cond;
    return gpti_bits_f32((gpti_f32_bits(a) & m) | (gpti_f32_bits(b) & ~m));
}
static uint64_t gpti_f64_bits(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
static double gpti_bits_f64(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }

/* e^x within 1 ulp. x > 88.7228 gives infinity; x < -87.3365, where the result would leave the
 * normal range, gives 0, so that flush-to-zero modes of a host change nothing. NaN stays NaN. x = n
 * ln 2 + r with ln 2 in two parts (Cody & Waite 1980, ch. 6): n * 0.693359375 is exact. e^r = 1 + r
 * + r^2 P(r), P our own minimax fit on |r| <= ln 2 / 2, relative error 3.2e-9. n is rounded by
 * adding 1.5 * 2^23: it stands in the low bits of the sum, and reading it from there also holds
 * where a compiler keeps more precision than it should. */
GPTI_INLINE float gpti_exp_normal(float x) {    /* where the result is a normal number */
    const uint32_t t = gpti_f32_bits(x * 1.44269502f + 12582912.0f);
    const float n = gpti_bits_f32(t) - 12582912.0f;
    const float r = (x - n * 0.693359375f) - n * -2.12194442e-4f;
    float y = 1.38198258e-3f;
    y = y * r + 8.36868677e-3f;
    y = y * r + 4.16682772e-2f;
    y = y * r + 1.66665211e-1f;
    y = y * r + 4.99999940e-1f;
    y = (y * (r * r) + r) + 1.0f;
    return gpti_bits_f32(gpti_f32_bits(y) + (t << 23)); /* times 2^n; the sum's own bits leave at the top */
}
GPTI_INLINE float gpti_exp(float x) {
    return gpti_select(x < -87.3365f, 0.0f, gpti_select(x <= 88.7228317f, gpti_exp_normal(x), x + INFINITY));
}

/* 1 / (1 + e^-x), relative error under 2e-7 for x > -87, then falling to 0. */
GPTI_INLINE float gpti_sigmoid(float x) { return 1.0f / (1.0f + gpti_exp(-x)); }

/* (1 - e^-2|x|) / (1 + e^-2|x|), the series for small x; absolute error under 1e-7. */
GPTI_INLINE float gpti_tanh(float x) {
    const float a = gpti_abs(x), z = x * x, e = gpti_exp(-2.0f * a), big = (1.0f - e) / (1.0f + e);
    const float small_x = a + a * z * (-0.33333333f + z * (0.13333333f + z * (-0.053968254f + z * 0.021869489f)));
    const float y = gpti_select(a < 0.25f, small_x, big);
    return gpti_select(x < 0.0f, -y, y);
}

/* erf x, absolute error under 1e-7: 1 - e^(-a Q(a)), a = min(|x|, 4), Q = -ln(erfc a) / a our fit. */
GPTI_INLINE float gpti_erf(float x) {
    float a = gpti_abs(x), y = 3.07636401e-5f;
    a = gpti_select(a > 4.0f, 4.0f, a);
    y = y * a - 3.03982757e-4f;
    y = y * a + 1.01896550e-3f;
    y = y * a + 5.55639446e-4f;
    y = y * a - 1.95977055e-2f;
    y = y * a + 1.02924779e-1f;
    y = y * a + 6.36596859e-1f;
    y = y * a + 1.12838030f;
    y = 1.0f - gpti_exp(-(y * a));
    return gpti_select(x < 0.0f, -y, y);
}

/* e^x in f64, relative error under 1e-15; beyond 709.78 infinity, under -708 exactly 0. Taylor to
 * r^13 after the same reduction as gpti_exp. */
static double gpti_exp_d(double x) {
    static const double c[14] = {               /* 1/13! ... 1/0! */
        1.6059043836821613e-10, 2.08767569878681e-09, 2.505210838544172e-08, 2.755731922398589e-07,
        2.7557319223985893e-06, 2.48015873015873e-05, 1.984126984126984e-04, 1.388888888888889e-03,
        8.333333333333333e-03, 4.1666666666666664e-02, 1.6666666666666666e-01, 0.5, 1.0, 1.0 };
    double r, y = c[0];
    int32_t n;
    int i;
    if (!(x >= -708.0)) return x < 0.0 ? 0.0 : x;
    if (x > 709.78) return INFINITY;
    n = (int32_t)(x * 1.4426950408889634 + (x < 0.0 ? -0.5 : 0.5));
    r = (x - n * 0.693145751953125) - n * 1.428606820309417e-06;    /* ln 2: 20 bits, the rest */
    for (i = 1; i < 14; i++) y = y * r + c[i];
    return y * 2.0 * gpti_bits_f64((uint64_t)(1022 + n) << 52);     /* n may be 1024 */
}

/* ln x in f64, relative error under 1e-15. 0 gives -infinity, negative numbers and NaN give NaN.
 * x = m 2^e, m in [sqrt 1/2, sqrt 2); ln m = 2 artanh s, s = (m - 1) / (m + 1): series to s^23. */
static double gpti_log_d(double x) {
    double s, z, y = 0.0;
    int e = -1023, k;
    uint64_t u;
    if (!(x > 0.0)) return x == 0.0 ? -INFINITY : NAN;
    if (x > 1.7976931348623157e308) return x;
    if (x < 2.2250738585072014e-308) { x *= 18014398509481984.0; e -= 54; }     /* subnormal: times 2^54 */
    u = gpti_f64_bits(x);
    e += (int)(u >> 52);
    x = gpti_bits_f64((u & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    if (x > 1.4142135623730951) { x *= 0.5; e++; }
    s = (x - 1.0) / (x + 1.0);
    z = s * s;
    for (k = 23; k > 1; k -= 2) y = (y + 1.0 / k) * z;
    y = (y * s + s) * 2.0;
    return e * 0.693145751953125 + (e * 1.428606820309417e-06 + y);
}

/* ln(1 + x), also for x so small that 1 + x has lost it (Kahan) */
static double gpti_log1p_d(double x) {
    const double u = 1.0 + x;
    return u == 1.0 ? x : gpti_log_d(u) * x / (u - 1.0);
}

/* x^y for x >= 0, relative error about 2e-16 |y ln x|; negative x gives NaN unless y is 0. */
static double gpti_pow_d(double x, double y) {
    return y == 0.0 ? 1.0 : gpti_exp_d(y * gpti_log_d(x));
}

/* *s = sin x, *c = cos x in f64, absolute error under 1e-15, for |x| < 2^30; NaN beyond.
 * x = n pi/2 + r, pi/2 as 23 + 23 + 53 bits, so that n's first two products are exact; Taylor. */
static void gpti_sincos_d(double x, double *s, double *c) {
    double r, z, a = 0.0, b = 0.0;
    int32_t n;
    int k;
    if (!(x > -1073741824.0 && x < 1073741824.0)) { *s = *c = NAN; return; }
    n = (int32_t)(x * 0.6366197723675814 + (x < 0.0 ? -0.5 : 0.5));
    r = ((x - n * 1.570796251296997) - n * 7.549789415861596e-08) - n * 5.390302858158119e-15;
    z = r * r;
    for (k = 16; k > 0; k -= 2) {                       /* r^17 / 17! and r^16 / 16! downwards */
        a = (1.0 + a) * (-z / (k * (k + 1)));
        b = (1.0 + b) * (-z / (k * (k - 1)));
    }
    a = r + r * a;
    b = 1.0 + b;
    *s = (n & 1) ? b : a; *c = (n & 1) ? a : b;
    if (n & 2) *s = -*s;
    if ((n + 1) & 2) *c = -*c;
}

/* ======================================================================
 * [FORMATS] Number formats: how published files store weights
 * ====================================================================
 * A matrix [n_row, n_col] has n_row outputs; a file stores it row by row, each row a string of blocks. A product wants
 * the same column of many rows at once, one SIMD lane per row. So rows are kept in PANELS of 16: for each block column
 * the 16 blocks lie together, and each field of a block is dealt out across the rows in units:
 *     file, Q4_0    row 0: d d q0 q1 ... q15   d d q0 ...     row 1: d d q0 q1 ... q15   d d q0 ...
 *     panel, row    0     1     2         15
 *       field d   | d d | d d | d d | ... | d d |                      units of 2 bytes
 *       field q   | q0 q1 q2 q3 | q0 q1 q2 q3 | ... | q0 q1 q2 q3 |   units of 4: a GROUP, 64 bytes
 *                 | q4 q5 q6 q7 | q4 q5 q6 q7 | ... | q4 q5 q6 q7 |    the next group
 * A permutation of bytes: a panel is as large as its 16 rows; a last one with fewer is filled with zeros. Unpacking
 * makes TILES of 32 columns of the blocks, the one shape that kernels multiply, in steps; each set has its own steps.
 */
#define GPTI_PANEL 16     /* rows of a panel, lanes of a kernel                                   */
#define GPTI_COLUMNS 256  /* columns a kernel unpacks at a time: a multiple of every block length */

/* 32 columns of 16 rows: weight(row, k) = (q - zero) * d - m. A HALF of a tile is 16 columns: d and m are those of
 * half k / 16 when the format has two scales per tile, else [0]. q - zero lies in [-128, 127].
 *     q   row    0             1                   15
 *             | k = 0 1 2 3 | k = 0 1 2 3 | ... | k = 0 1 2 3 |    group 0
 *             | k = 4 5 6 7 | k = 4 5 6 7 | ... | k = 4 5 6 7 |    group 1    ... up to group 7 */
typedef struct gpti_tile {
    uint8_t q[512];       /* [k / 4 * 64 + row * 4 + k % 4] */
    float d[2][16];       /* exact: a 16-bit float times an integer of at most 8 bits */
    float m[2][16];       /* read only when the format has_min */
} gpti_tile;

/* Bits above nibbles. The next group of nibbles takes bits group_step bytes on, shifted right by group_shift more; the
 * next of n times begins `step` bytes on. With mask 3, shift { 0, 4 }:
 *     p    | 7 6 5 4 3 2 1 0 |        low nibble's  q = | . . 1 0 n n n n |
 *                                     high nibble's q = | . . 5 4 n n n n | */
typedef struct gpti_high_bits {
    const uint8_t *p; size_t step, group_step; int shift[2], group_shift, mask;
} gpti_high_bits;

/* The q that unpackers leave: none, those of Q8_0, all that products of one token fetch themselves. */
enum { GPTI_SKIP_NOTHING, GPTI_SKIP_Q8_0, GPTI_SKIP_FETCHED };

/* The steps that unpacking is made of: each kernel set has its own. All work on groups or on rows of 16, do the same n
 * times, and move their pointers on by the given steps (in elements) after each time. */
typedef struct gpti_unpack_steps {
    /* out[16] = the 16-bit floats p[16] */
    void (*f16)(float *out, size_t step, const uint8_t *p, size_t p_step, size_t n);
    /* out[16] = (c[16] - bias) * d[16], exact */
    void (*scales)(float *out, size_t step, const uint8_t *c, size_t c_step, size_t n, int bias, const float *d);
    /* q[64] = (p[64] >> shift & mask) << left, or'ed to what is there when `merge` */
    void (*bits)(uint8_t *q, const uint8_t *p, int shift, int mask, int left, int merge);
    /* low, high [64 * n_group] = nibbles of p, looked up in codes[16] or with upper bits unless NULL */
    void (*nibbles)(uint8_t *low, uint8_t *high, size_t step, const uint8_t *p, size_t p_step, size_t n,
                    size_t n_group, const uint8_t *codes, const gpti_high_bits *up);
    /* of p[2][512]: q of tile 4h + i is p[h] >> 2i & 3, above it bit 4h + i of third[512], if any */
    void (*pairs)(gpti_tile *t, const uint8_t *p, const uint8_t *third);
    int skip;
} gpti_unpack_steps;

typedef struct gpti_field {
    uint8_t offset, bytes;    /* place in the file's block */
    uint8_t unit;             /* bytes that stay together, or GPTI_DEAL; | GPTI_FLIP, GPTI_NUMBER */
} gpti_field;
#define GPTI_DEAL 32          /* four bytes: bit 4g + j goes to bit g of byte j                   */
#define GPTI_FLIP 64          /* signed bytes become unsigned: top bits are flipped               */
#define GPTI_NUMBER 128       /* the field is one number; units of 2 are 16-bit floats anyway   */

/* Where the product of one token finds the q of tile j, group e, in packed blocks. F32 is widened ahead of it, F16 and
 * BF16 while multiplying. Upper bits lie in groups too.
 *   Q8_0         group e of block j
 *   Q4_0, Q5_0   block j: low nibbles of group e for e < 4, else high ones of e - 4; fifth: bit e of the group ahead
 *   Q4_K, Q5_K   nibbles of group 8 (j / 2) + e of the block, low in even tiles; fifth: bit j of upper group e
 *   Q6_K         nibbles of group 16 (j / 4) + 8 (j % 2) + e, low if j % 4 < 2; pair j % 4 of upper group 8 (j / 4) + e
 *   TILE ...     not at all, but from tiles: one scale; one scale and q up to 255; two scales */
enum { GPTI_FETCH_F32, GPTI_FETCH_F16, GPTI_FETCH_BF16, GPTI_FETCH_Q8_0, GPTI_FETCH_Q4_0,
       GPTI_FETCH_Q5_0, GPTI_FETCH_Q4_K, GPTI_FETCH_Q5_K, GPTI_FETCH_Q6_K, GPTI_FETCH_TILE,
       GPTI_FETCH_TILE_Q8, GPTI_FETCH_TILE_2, GPTI_N_FETCH };
enum { GPTI_CODES_NONE, GPTI_CODES_IQ4, GPTI_CODES_MX4 };

typedef struct gpti_format {      /* a row without pointers: a table of these needs no relocation */
    char name[8];
    uint32_t type;                /* ggml's number for it, as in the file */
    uint16_t block_len;           /* weights per block */
    uint16_t block_bytes;
    uint8_t n_scale;              /* scales per 32 columns: 0 = plain floats, 1 or 2 */
    uint8_t zero;                 /* the q that stands for 0 */
    uint8_t q_max;                /* bound of q: SIMD sums are sized by it */
    uint8_t has_min;
    uint8_t fetch, unpack, codes; /* GPTI_FETCH_, GPTI_UNPACK_, GPTI_CODES_ */
    gpti_field field[5];          /* in order, without gaps; unit 0 ends the list */
} gpti_format;

typedef struct gpti_matrix {
    const gpti_format *fmt;
    size_t n_row, n_col;          /* n_col is a multiple of block_len */
    const uint8_t *data;    /* borrowed */
    int packed;                   /* 1: panels; 0: rows exactly as in the file */
} gpti_matrix;

/* ---- 16-bit floats ---- */

/* Exact. A NaN keeps its sign and becomes quiet. No f32 subnormal, so flush-to-zero cannot hurt. */
static float gpti_f16_f32(uint32_t h) {
    uint32_t sign = (h & 0x8000u) << 16, em = h & 0x7FFFu;
    uint32_t bits = (em << 13) + (112u << 23);
    if (em < 0x0400u) bits = gpti_f32_bits((float)em * (1.0f / 16777216.0f));
    if (em >= 0x7C00u) bits = 0x7F800000u | em << 13 | (em > 0x7C00u ? 0x00400000u : 0u);
    return gpti_bits_f32(sign | bits);
}

/* Rounds to nearest even, or to infinity; a NaN keeps its upper bits, quiet. No branch, for SIMD. */
GPTI_INLINE uint32_t gpti_f32_f16(float f) {
    const uint32_t u = gpti_f32_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7FFFFFFFu;
    const uint32_t low = gpti_f32_bits(gpti_bits_f32(a) + 0.5f) - 0x3F000000u; /* ulp 2^-24 */
    const uint32_t high = (a + 0x0FFFu + (a >> 13 & 1u) - (112u << 23)) >> 13;
    const uint32_t is_low = 0u - (uint32_t)(a < 0x38800000u), is_big = 0u - (uint32_t)(a >= 0x477FF000u);
    const uint32_t is_nan = 0u - (uint32_t)(a > 0x7F800000u), h = (low & is_low) | (high & ~is_low);
    const uint32_t n = (0x7C00u & ~is_nan) | ((0x7E00u | (a >> 13 & 0x03FFu)) & is_nan);
    return sign | (h & ~is_big) | (n & is_big);
}

GPTI_INLINE void gpti_store_u16(unsigned char *p, uint32_t v) {
    const uint16_t h = (uint16_t)v;
    if (GPTI_LITTLE) { memcpy(p, &h, 2); return; }
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
}

static void gpti_widen_f16(const uint8_t *p, size_t n, float *out) {
    size_t i;
    for (i = 0; i < n; i++) out[i] = gpti_f16_f32(gpti_load_u16(p + 2 * i));
}

/* out[n] = the weights p[n] of a float format */
static void gpti_widen(const gpti_format *fmt, const uint8_t *p, size_t n, float *out) {
    size_t i;
    if (fmt->fetch == GPTI_FETCH_F16) gpti_widen_f16(p, n, out);
    else if (fmt->fetch == GPTI_FETCH_BF16)
        for (i = 0; i < n; i++) out[i] = gpti_bits_f32((uint32_t)gpti_load_u16(p + 2 * i) << 16);
    else for (i = 0; i < n; i++) out[i] = gpti_bits_f32(gpti_load_u32(p + 4 * i));
}

/* ---- unpacking: the steps in plain C ---- */

static void gpti_step_f16_ref(float *out, size_t step, const uint8_t *p, size_t p_step, size_t n) {
    for (; n > 0; n--, out += step, p += p_step) gpti_widen_f16(p, 16, out);
}
static void gpti_step_scales_ref(float *out, size_t step, const uint8_t *c, size_t c_step, size_t n, int bias,
                                 const float *d) {
    int r;
    for (; n > 0; n--, out += step, c += c_step) for (r = 0; r < 16; r++) out[r] = (float)((int)c[r] - bias) * d[r];
}
static void gpti_step_bits_ref(uint8_t *q, const uint8_t *p, int shift, int mask, int left, int merge) {
    int i;
    for (i = 0; i < 64; i++) q[i] = (uint8_t)((merge ? q[i] : 0) | (p[i] >> shift & mask) << left);
}
static void gpti_step_nibbles_ref(uint8_t *low, uint8_t *high, size_t step, const uint8_t *p, size_t p_step, size_t n,
                                  size_t n_group, const uint8_t *codes, const gpti_high_bits *up) {
    size_t j, i;
    for (j = 0; j < n; j++, low += step, high += step, p += p_step) {
        for (i = 0; i < 64 * n_group; i++) {
            low[i] = (uint8_t)(codes != NULL ? codes[p[i] & 15] : p[i] & 15);
            high[i] = (uint8_t)(codes != NULL ? codes[p[i] >> 4] : p[i] >> 4);
            if (up != NULL) {
                unsigned b = up->p[j * up->step + i / 64 * up->group_step + i % 64];
                b >>= (int)(i / 64) * up->group_shift;
                low[i] = (uint8_t)(low[i] | (b >> up->shift[0] & (unsigned)up->mask) << 4);
                high[i] = (uint8_t)(high[i] | (b >> up->shift[1] & (unsigned)up->mask) << 4);
            }
        }
    }
}
static void gpti_step_pairs_ref(gpti_tile *t, const uint8_t *p, const uint8_t *third) {
    int n, i;
    for (n = 0; n < 8; n++, t++) {
        for (i = 0; i < 512; i++) {
            int high = third != NULL ? (third[i] >> n & 1) << 2 : 0;
            t->q[i] = (uint8_t)((p[512 * (n / 4) + i] >> (n % 4 * 2) & 3) | high);
        }
    }
}

static gpti_unpack_steps gpti_unpack_steps_ref(void) {
    gpti_unpack_steps steps;
    steps.skip = GPTI_SKIP_NOTHING; steps.f16 = gpti_step_f16_ref; steps.scales = gpti_step_scales_ref;
    steps.bits = gpti_step_bits_ref; steps.nibbles = gpti_step_nibbles_ref; steps.pairs = gpti_step_pairs_ref;
    return steps;
}

/* ---- unpacking: the formats. Offset o of the file's block is p + 16 * o of the panel's. ---- */

enum { GPTI_STEP = sizeof(gpti_tile), GPTI_FSTEP = sizeof(gpti_tile) / 4 }; /* to the next */

/* What nibbles stand for: ggml's non-linear values + 128; the doubled E2M1 values of OCP MX v1.0 + 12. */
static const uint8_t *gpti_codes(int kind) {
    static const uint8_t codes[2][16] = {
        { 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241 },
        { 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0 } };
    return kind == GPTI_CODES_NONE ? NULL : codes[kind - 1];
}

/* Blocks of 32: d, perhaps m (added in the file, subtracted here), perhaps fifth bits, nibbles: low ones are columns
 * 0-15, high ones 16-31. Bit g of the dealt byte k % 4 is the fifth bit of column 4g + k % 4. */
static void gpti_unpack_32(const gpti_unpack_steps *u, const uint8_t *p, size_t n, gpti_tile *t,
                           const gpti_format *fmt) {
    const size_t step = 16 * (size_t)fmt->block_bytes, at = step - 16 * 16;
    const gpti_high_bits up = { p + at - 16 * 4, step, 0, { 0, 4 }, 1, 1 };
    size_t i;
    int r;
    u->f16(t->d[0], GPTI_FSTEP, p, step, n);
    if (fmt->has_min) u->f16(t->m[0], GPTI_FSTEP, p + 16 * 2, step, n);
    for (i = 0; fmt->has_min && i < n; i++) for (r = 0; r < 16; r++) t[i].m[0][r] = -t[i].m[0][r];
    if (fmt->fetch < GPTI_FETCH_TILE && u->skip == GPTI_SKIP_FETCHED) return;
    u->nibbles(t->q, t->q + 256, GPTI_STEP, p + at, step, n, 4, gpti_codes(fmt->codes), fmt->q_max == 31 ? &up : NULL);
}

static void gpti_unpack_q8_0(const gpti_unpack_steps *u, const uint8_t *p, size_t n, gpti_tile *t) {
    u->f16(t->d[0], GPTI_FSTEP, p, 16 * 34, n);
    for (; n > 0 && u->skip == GPTI_SKIP_NOTHING; n--, t++, p += 16 * 34) memcpy(t->q, p + 16 * 2, 512);
}

/* 2^(e - 128): half of the E8M0 scale, for the doubled codes; the two smallest are subnormal. */
static void gpti_unpack_mxfp4(const gpti_unpack_steps *u, const uint8_t *p, size_t n, gpti_tile *t,
                              const gpti_format *fmt) {
    size_t i;
    for (i = 0; i < n; i++) {
        uint8_t e[16];
        uint32_t bits[16];
        int r;
        memcpy(e, p + 16 * 17 * i, 16);
        for (r = 0; r < 16; r++) bits[r] = e[r] < 2 ? (e[r] + 1u) << 21 : (e[r] - 1u) << 23;
        memcpy(t[i].d[0], bits, sizeof bits);
    }
    u->nibbles(t->q, t->q + 256, GPTI_STEP, p + 16, 16 * 17, n, 4, gpti_codes(fmt->codes), NULL);
}

/* The others: one block of 256. d of both halves of all tiles = (c[16][16 rows] - bias) * d */
static void gpti_half_scales(const gpti_unpack_steps *u, const uint8_t *c, int bias, const float *d, gpti_tile *t) {
    u->scales(t->d[0], GPTI_FSTEP, c, 32, 8, bias, d);
    u->scales(t->d[1], GPTI_FSTEP, c + 16, 32, 8, bias, d);
}

static void gpti_unpack_q2_k(const gpti_unpack_steps *u, const uint8_t *p, gpti_tile *t) {
    float d[2][16];
    uint8_t s[256], m[256];
    u->f16(d[0], 16, p + 16 * 80, 32, 2);
    u->nibbles(s, m, 0, p, 0, 1, 4, NULL, NULL);
    gpti_half_scales(u, s, 0, d[0], t);
    u->scales(t->m[0], GPTI_FSTEP, m, 32, 8, 0, d[1]);
    u->scales(t->m[1], GPTI_FSTEP, m + 16, 32, 8, 0, d[1]);
    u->pairs(t, p + 16 * 16, NULL);
}
static void gpti_unpack_q3_k(const gpti_unpack_steps *u, const uint8_t *p, gpti_tile *t) {
    float d[16];
    uint8_t s[256];
    int i;
    u->f16(d, 0, p + 16 * 108, 0, 1);
    u->nibbles(s, s + 128, 0, p + 16 * 96, 0, 1, 2, NULL, NULL); /* nibbles, then upper pairs */
    for (i = 0; i < 4; i++) u->bits(s + 64 * i, p + 16 * 104, 2 * i, 3, 4, 1);
    gpti_half_scales(u, s, 32, d, t);
    u->pairs(t, p + 16 * 32, p);
}

/* Scales and minima of Q4_K, Q5_K, p = d, dmin, then [12][16 rows]: eight pairs of six bits. The first four are the low
 * six bits of bytes 0-3 and 4-7; the others have their low nibbles in bytes 8-11, their upper bits on top of 0-7. */
static void gpti_scales_k(const gpti_unpack_steps *u, const uint8_t *p, gpti_tile *t) {
    const uint8_t *sc = p + 16 * 4;
    float d[2][16];
    uint8_t s[128], m[128];
    u->f16(d[0], 16, p, 32, 2);
    u->bits(s, sc, 0, 63, 0, 0);
    u->bits(m, sc + 64, 0, 63, 0, 0);
    u->nibbles(s + 64, m + 64, 0, sc + 128, 0, 1, 1, NULL, NULL);
    u->bits(s + 64, sc, 6, 3, 4, 1);
    u->bits(m + 64, sc + 64, 6, 3, 4, 1);
    u->scales(t->d[0], GPTI_FSTEP, s, 16, 8, 0, d[0]);
    u->scales(t->m[0], GPTI_FSTEP, m, 16, 8, 0, d[1]);
}

static void gpti_unpack_q4_k(const gpti_unpack_steps *u, const uint8_t *p, gpti_tile *t) {
    gpti_scales_k(u, p, t);
    if (u->skip == GPTI_SKIP_FETCHED) return;
    u->nibbles(t[0].q, t[1].q, 2 * GPTI_STEP, p + 16 * 16, 512, 4, 8, NULL, NULL);
}
static void gpti_unpack_q5_k(const gpti_unpack_steps *u, const uint8_t *p, gpti_tile *t) {
    int i;
    gpti_scales_k(u, p, t);
    for (i = 0; i < 8 && u->skip != GPTI_SKIP_FETCHED; i += 2) {
        gpti_high_bits up = { p + 16 * 16, 0, 64, { 0, 0 }, 0, 1 };
        up.shift[0] = i; up.shift[1] = i + 1;
        u->nibbles(t[i].q, t[i + 1].q, 0, p + 16 * 48 + 256 * i, 0, 1, 8, NULL, &up);
    }
}

/* 128 columns each time: 64 bytes with the low nibbles of columns 0-63, on top those of 64-127; 32 bytes with the upper
 * two bits of columns 0-31, 32-63, 64-95, 96-127. */
static void gpti_unpack_q6_k(const gpti_unpack_steps *u, const uint8_t *p, gpti_tile *t) {
    float d[16];
    int i;
    u->f16(d, 0, p + 16 * 208, 0, 1);
    gpti_half_scales(u, p + 16 * 192, 128, d, t);
    for (i = 0; i < 2 && u->skip != GPTI_SKIP_FETCHED; i++) {
        gpti_high_bits up = { p + 16 * 128, 512, 64, { 0, 4 }, 0, 3 };
        up.shift[0] = 2 * i; up.shift[1] = 2 * i + 4;
        u->nibbles(t[i].q, t[i + 2].q, 4 * GPTI_STEP, p + 512 * i, 1024, 2, 8, NULL, &up);
    }
}

static void gpti_unpack_iq4_xs(const gpti_unpack_steps *u, const uint8_t *p, gpti_tile *t, const gpti_format *fmt) {
    float d[16];
    uint8_t s[2][64], h[3][64];
    int i;
    u->f16(d, 0, p, 0, 1);
    u->nibbles(s[0], s[1], 0, p + 16 * 4, 0, 1, 1, NULL, NULL); /* scales 0, 2 .. and 1, 3 .. */
    u->nibbles(h[0], h[1], 0, p + 16 * 2, 0, 1, 1, NULL, NULL); /* pairs: 2 bytes [16 rows] */
    for (i = 0; i < 4; i++) memcpy(h[2] + 16 * i, h[i % 2] + 16 * (i / 2), 16);
    for (i = 0; i < 2; i++) {
        u->bits(s[i], h[2], 2 * i, 3, 4, 1);
        u->scales(t[i].d[0], 2 * GPTI_FSTEP, s[i], 16, 4, 32, d);
    }
    u->nibbles(t->q, t->q + 256, GPTI_STEP, p + 16 * 8, 256, 8, 4, gpti_codes(fmt->codes), NULL);
}

/* ---- unpacking: formats of one to three bits, which few files have and few tensors of these. Row by
 * row, in plain C: from a row's block b come q, zero added, and the scale of each tile, or half tile. ---- */

static float gpti_row_f16(const uint8_t *b) { return gpti_f16_f32(gpti_load_u16(b)); }

/* Q1_0: d, a bit for each of 128 columns, -d or d. Q2_0: d, two bits for each of 64: -d 0 d 2d. */
static void gpti_row_q1_0(const uint8_t *b, uint8_t *q, float *d) {
    int i;
    for (i = 0; i < 128; i++) q[i] = (uint8_t)((b[2 + i / 8] >> i % 8 & 1) * 2);
    for (i = 0; i < 4; i++) d[i] = gpti_row_f16(b);
}
static void gpti_row_q2_0(const uint8_t *b, uint8_t *q, float *d) {
    int i;
    for (i = 0; i < 64; i++) q[i] = b[2 + i / 4] >> i % 4 * 2 & 3;
    d[0] = d[1] = gpti_row_f16(b);
}

/* -d 0 d, and d at the end. TQ2_0: two bits, of 32 columns in a byte's lowest, then in the next. TQ1_0:
 * five digits of base 3 are a fraction of 256, first ones first: 32 bytes of 5, 16 of 5, 4 of 4. */
static void gpti_row_tq2_0(const uint8_t *b, uint8_t *q, float *d) {
    int i;
    for (i = 0; i < 256; i++) q[i] = b[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    for (i = 0; i < 8; i++) d[i] = gpti_row_f16(b + 64);
}
static void gpti_row_tq1_0(const uint8_t *b, uint8_t *q, float *d) {
    static const uint8_t power[] = { 1, 3, 9, 27, 81 };
    int i;
    for (i = 0; i < 256; i++) {
        const int at = i < 160 ? 0 : i < 240 ? 160 : 240, n = i < 160 ? 32 : i < 240 ? 16 : 4, k = i - at;
        q[i] = (uint8_t)((b[at / 5 + k % n] * power[k / n] & 255) * 3 >> 8);
    }
    for (i = 0; i < 8; i++) d[i] = gpti_row_f16(b + 52);
}

/* NVFP4: scales of 16 columns, unsigned floats of 4 + 3 bits, 127 is 0; then as in MXFP4, whose codes are doubled. */
static void gpti_row_nvfp4(const uint8_t *b, uint8_t *q, float *d) {
    int i;
    for (i = 0; i < 64; i++) q[i] = gpti_codes(GPTI_CODES_MX4)[b[4 + i / 16 * 8 + i % 8] >> i % 16 / 8 * 4 & 15];
    for (i = 0; i < 4; i++) {
        const int e = b[i] >> 3 & 15, m = b[i] & 7;
        d[i] = e ? (float)(8 + m) * gpti_bits_f32((uint32_t)(e + 116) << 23) : (float)m / 1024.0f;
        if (b[i] == 127) d[i] = 0.0f;
    }
}

/* The points of a grid in 8 or 4 dimensions, whose numbers and signs a file has: facts of llama.cpp's files.
 * A character, all but " ? and \, is four values out of three or two out of eight. */
static const char gpti_grid_iq2_xxs[] =
    "##%#'#)#+#-#/#5#7#;#=#@#B#H#N#R#T#Z#]#c#o#$$&$,$0$>$^$j$#%%%7%]%$&&&,&6&8&>&A&E&Q&[&^&d&p&#'%')'5'D'X'Z'e'*("
    ",(>(^(p(#)')))/);)@)B)H)J)a)&*>*%+/+$,&,,,6,>,Q,^,d,h,#-)-5-H-P-Z-8.C.#/)/5/9/F/Z/20S0#111$2&2,2>2[2#3'3m3I4"
    "#5%5+5B5R5Z5]5<6E6#7%7$8&8,8>8M8#9@9T9d:);5;g;B=$>&>,>2>6>8>>>E>M>Q>[>^>d>#@5@R@Z@_@$A,AEAMAWA#B)B5BZBkB.C8C"
    "#D$E&E,E>ECE#FNFRF]FCGdG#H)H-H3H5HZHaH&IAIpIeJdKfK+L$MKM#N-N3NTN>O)P&Q,Q>QWQ#RLR2SQS#T'T,U.U^UAW#Z%Z+Z@Z]Z&["
    "2[>[-]$^&^,^0^>^Q^#_D_g_*`>`Q`%a&b-c&d,d8d>dnd1eZeCf#g7gBgIh[j5k%mHm_m*n#o2pHs&t";
static const char gpti_grid_iq3_xxs[] =
    "##%#'#,#.#2#3#5#<#F#`#b#$$&$+$-$4$8$;$=$E$P$]$#%%%'%,%3%5%<%>%C%M%S%b%$&*&+&-&8&]&.'C'H'S'`'b'$(*(=(N(A)X)+*"
    "/*1*G*U*$+&+++-+4+6+;+=+@+K+L+#,%,,,3,5,$-&-+---4-;-_-#.%.3.<.J.Z.$/(/L/3070J0^0(152D2#3%3,3.3335393<3F3$4&4"
    "(4+4-444;4W4[4]4#5%5,5253555C5D5Q5$6+6/6]6a6A7O7&8:8E8a8$:&:1:I:$;+;-;4;6;L;Y;_;#<%<3<<<H<J<$=&=+=8=N=_=,>>>"
    ";@K@_@#A)A5AQA/BBBWB>CTC'D2DADCDODSDaE3FCFDFTFZF*GIG'HMHXH8IGI]I(K+K-K;K-LEL]L#M)M9MQM/N=N_N%OOO+P6P:P_P%Q<Q"
    "LR7SFS7THTJTXT4UUU2VXV;WBWHX(YNY>Z&[4[&](]*]+]=]N]9^D^-_I_N_#`0`>`T`4aEa#b%b7b;c";
static const char gpti_grid_iq3_s[] =
    "##$#%#(#*#+#,#-#/#1#3#4#8#>#D#F#I#K#M#O#T#V#^#a#d##$$$%$'$+$,$0$3$6$:$<$A$H$U$Y$_$#%$%(%*%+%.%1%4%8%;%@%F%I%"
    "K%M%O%]%`%&&,&0&3&5&<&>&B&H&L&N&[&^&b&#'.'2'4'7'='D'G'M']'%('(3(5(9(>(E(I(K(Z(`()),).)<)N)^)#*%*'*3*5*9*>*L*"
    "P*#+$+%+'+++,+.+0+2+3+5+<+@+B+P+R+U+_+#,$,&,),+,/,4,;,>,E,L,N,],c,#---0-2-3-7-=-D-G-Q-T-_-$.'.*.+...4.:.;.@."
    "E.V.].&/(/-///</>/F/J/L/P/$0+0.040;0=0M03171:1H1J1$2&2+2-242A2E2V2]2#3$3&3(3*3+3-3/3134363:3;3=3E3G3I3L3N3[3"
    "]3`3b3#4%4+4.4245484<4@4F4M4$5'5*54565;5C5E5O5S5^5a5#6%6(6,65676<6>6F6L6Z6$7*73767=7A7E7_7b7'8,858C8D8O8]8#9"
    "%9*949Q9U9(:,:9:;:G:L:%;,;.;0;2;5;<;>;A;F;H;K;M;W;^;$<&<(</<4<6<D<T<_<c<#=-=3===@=L=$>+>/>4>6>:>;>E>G>K>Q>`>"
    "&@,@1@5@<@N@T@X@$A+A-A8A=AHARA`A1BEB$C&C3C5CAC#D'D-D3D7D:D=DEDLD]D%E*E,E.E5E;EAEGEMEQE$F&F+F0F4F>FDFSFVF]F'G"
    ",G.G3G5G<GAG#H%H7HCHDH^H(I*I4IVI.J@JTJ+K0K;KGKMK%L+L/L5LDLHLKLNLZLaL$M&M(M-M4M=M_M#N,N6N;NBNON%O*O+O:OHOMOYO"
    "`O$P'P3P=PJP-Q9QMQOQFR%S'S5S,T.T0T<T>TTT#U3U:UXU-V@VFVQVVV]V#W/W4WDW8XGXVX#Y&Y@YTY(ZDZ,[.[#]']*]3]5]B]D]P]V]"
    "%^,^7^G^I^$_'_+_1_4_;_M_%`=`A`O`$a(a.a3aLa5bFb%c<c#d";
static int gpti_grid_digit(const char *point, int i, int n, int base) {
    int c = (unsigned char)point[i / n];
    c -= 35 + (c > 63) + (c > 92);
    for (i %= n; i > 0; i--) c /= base;
    return c % base;
}

/* Eight signs in seven bits: the last one makes their number even. */
static uint32_t gpti_grid_signs(uint32_t seven) {
    uint32_t odd = seven ^ seven >> 4;
    odd ^= odd >> 2;
    return seven | ((odd ^ odd >> 1) & 1) << 7;
}

/* 32 columns: IQ2_XXS has the numbers of four points, then four times seven bits of signs and a scale;
 * IQ3_XXS has eight points, those of all columns first. IQ3_S: points, their ninth bits, signs, scales. */
static void gpti_row_xxs(const uint8_t *points, const uint8_t *signs, size_t step, float scale, const char *grid,
                         const uint8_t *value, const int n_dim, uint8_t *q, float *d) {
    int g, i;
    for (g = 0; g < 8; g++, points += 8, signs += step) {
        const uint32_t x = gpti_load_u32(signs);
        d[g] = scale * (0.5f + (float)(x >> 28)) * (2.0f / (float)n_dim);
        for (i = 0; i < 32; i++) {
            const char *point = grid + 2 * points[i / n_dim];
            const int v = value[gpti_grid_digit(point, i % n_dim, n_dim / 2, n_dim == 8 ? 3 : 8)];
            q[32 * g + i] = (uint8_t)(gpti_grid_signs(x >> i / 8 * 7 & 127) >> i % 8 & 1 ? 128 - v : 128 + v);
        }
    }
}
static void gpti_row_iq2_xxs(const uint8_t *b, uint8_t *q, float *d) {
    static const uint8_t value[] = { 8, 25, 43 };
    gpti_row_xxs(b + 2, b + 6, 8, gpti_row_f16(b), gpti_grid_iq2_xxs, value, 8, q, d);
}
static void gpti_row_iq3_xxs(const uint8_t *b, uint8_t *q, float *d) {
    static const uint8_t value[] = { 4, 12, 20, 28, 36, 44, 52, 62 };
    gpti_row_xxs(b + 2, b + 66, 4, gpti_row_f16(b), gpti_grid_iq3_xxs, value, 4, q, d);
}
static void gpti_row_iq3_s(const uint8_t *b, uint8_t *q, float *d) {
    int g, i;
    for (g = 0; g < 8; g++) {
        d[g] = gpti_row_f16(b) * (float)(1 + 2 * (b[106 + g / 2] >> g % 2 * 4 & 15));
        for (i = 0; i < 32; i++) {
            const int k = b[2 + 8 * g + i / 4] | (b[66 + g] >> i / 4 & 1) << 8;
            const int v = 1 + 2 * gpti_grid_digit(gpti_grid_iq3_s + 2 * k, i % 4, 2, 8);
            q[32 * g + i] = (uint8_t)(b[74 + 4 * g + i / 8] >> i % 8 & 1 ? 15 - v : 15 + v);
        }
    }
}

/* n blocks of 16 rows to tiles */
static void gpti_unpack_rows(const uint8_t *p, size_t n, gpti_tile *t, const gpti_format *fmt,
                             void (*row)(const uint8_t *b, uint8_t *q, float *d)) {
    const size_t n_half = fmt->n_scale, n_tile = fmt->block_len / 32u;
    const gpti_field *f;
    uint8_t b[128], q[256];
    float d[16];
    size_t r, i;
    for (; n > 0; n--, p += 16 * (size_t)fmt->block_bytes, t += n_tile) for (r = 0; r < 16; r++) {
        for (f = fmt->field; f->unit != 0; f++) for (i = 0; i < f->bytes; i++)
            b[f->offset + i] = p[16 * (f->offset + i / f->unit * f->unit) + r * f->unit + i % f->unit];
        row(b, q, d);
        for (i = 0; i < fmt->block_len; i++) t[i / 32].q[i % 32 / 4 * 64 + 4 * r + i % 4] = q[i];
        for (i = 0; i < n_tile * n_half; i++) t[i / n_half].d[i % n_half][r] = d[i];
    }
}

/* The unpackers, each with its call */
#define GPTI_UNPACKERS(X) \
    X(32, gpti_unpack_32(u, p, n, t, fmt))  X(Q8_0, gpti_unpack_q8_0(u, p, n, t)) \
    X(Q2_K, gpti_unpack_q2_k(u, p, t))      X(Q3_K, gpti_unpack_q3_k(u, p, t)) \
    X(Q4_K, gpti_unpack_q4_k(u, p, t))      X(Q5_K, gpti_unpack_q5_k(u, p, t)) \
    X(Q6_K, gpti_unpack_q6_k(u, p, t))      X(IQ4_XS, gpti_unpack_iq4_xs(u, p, t, fmt)) \
    X(MXFP4, gpti_unpack_mxfp4(u, p, n, t, fmt)) \
    X(NVFP4, gpti_unpack_rows(p, n, t, fmt, gpti_row_nvfp4)) X(Q1_0, gpti_unpack_rows(p, n, t, fmt, gpti_row_q1_0)) \
    X(Q2_0, gpti_unpack_rows(p, n, t, fmt, gpti_row_q2_0)) X(TQ1_0, gpti_unpack_rows(p, n, t, fmt, gpti_row_tq1_0)) \
    X(TQ2_0, gpti_unpack_rows(p, n, t, fmt, gpti_row_tq2_0)) \
    X(IQ2_XXS, gpti_unpack_rows(p, n, t, fmt, gpti_row_iq2_xxs)) \
    X(IQ3_XXS, gpti_unpack_rows(p, n, t, fmt, gpti_row_iq3_xxs)) \
    X(IQ3_S, gpti_unpack_rows(p, n, t, fmt, gpti_row_iq3_s))
#define GPTI_UNPACK_NAME(name, call) GPTI_UNPACK_##name,
#define GPTI_UNPACK_CASE(name, call) case GPTI_UNPACK_##name: call; break;
enum { GPTI_UNPACK_NONE, GPTI_UNPACKERS(GPTI_UNPACK_NAME) GPTI_N_UNPACK };

/* n blocks of each of a panel's rows, at most 256 columns, to n * block_len / 32 tiles */
static void gpti_unpack(const gpti_unpack_steps *u, const uint8_t *p, size_t n, gpti_tile *t,
                        const gpti_format *fmt) {
    switch (fmt->unpack) {
        GPTI_UNPACKERS(GPTI_UNPACK_CASE)
        default: break;
    }
}

/* ---- the table ---- */

/* To add a number format:
 *   1. its row here. Fields as they lie in the block; unit: the bytes of a row that stay together in a
 *      panel, GPTI_FLIP makes signed bytes unsigned (zero is 128 then). fetch: TILE, TILE_Q8 where q_max
 *      is above 63 (zero is 128 then), TILE_2 with two scales per 32 columns: right for every kernel set;
 *      quicker ways are in [SIMD]
 *   2. where no unpacker fits: a gpti_unpack_ function above, or a gpti_row_ one, simpler and slower, and
 *      its line in GPTI_UNPACKERS. Each tile of 32 columns gets its scale, also where a block has more; all
 *      of q is written where fetch is a TILE. A new code book: gpti_codes
 *   3. where python's gguf knows it, NAMES in tests/make_format_goldens.py; unit_kernels and unit_formats
 *      go over all rows
 * The last ones, from NVFP4 on, needed all three. */
#define GPTI_BY(fetch, unpack, codes) GPTI_FETCH_##fetch, GPTI_UNPACK_##unpack, GPTI_CODES_##codes
static const gpti_format gpti_formats[] = {
/*    name     type  len bytes ns zero qmax min  fetch     unpack  codes  fields {offset, bytes, unit} */
    { "F32",     0,   1,   4,  0,   0,   0, 0, GPTI_BY(F32,  NONE, NONE), { {0,4,4|GPTI_NUMBER} } },
    { "F16",     1,   1,   2,  0,   0,   0, 0, GPTI_BY(F16,  NONE, NONE), { {0,2,2} } },
    { "BF16",   30,   1,   2,  0,   0,   0, 0, GPTI_BY(BF16, NONE, NONE), { {0,2,2} } },
    { "Q4_0",    2,  32,  18,  1,   8,  15, 0, GPTI_BY(Q4_0, 32,   NONE), { {0,2,2}, {2,16,4} } },
    { "Q4_1",    3,  32,  20,  1,   0,  15, 1, GPTI_BY(Q4_0, 32,   NONE), { {0,4,2}, {4,16,4} } },
    { "Q5_0",    6,  32,  22,  1,  16,  31, 0, GPTI_BY(Q5_0, 32,   NONE), { {0,2,2}, {2,4,GPTI_DEAL}, {6,16,4} } },
    { "Q5_1",    7,  32,  24,  1,   0,  31, 1, GPTI_BY(Q5_0, 32,   NONE), { {0,4,2}, {4,4,GPTI_DEAL}, {8,16,4} } },
    { "Q8_0",    8,  32,  34,  1, 128, 255, 0, GPTI_BY(Q8_0, Q8_0, NONE), { {0,2,2}, {2,32,4|GPTI_FLIP} } },
    { "Q2_K",   10, 256,  84,  2,   0,   3, 1, GPTI_BY(TILE_2, Q2_K, NONE), { {0,16,1}, {16,64,4}, {80,4,2} } },
    { "Q3_K",   11, 256, 110,  2,   4,   7, 0, GPTI_BY(TILE_2, Q3_K, NONE), { {0,96,4}, {96,12,1}, {108,2,2} } },
    { "Q4_K",   12, 256, 144,  1,   0,  15, 1, GPTI_BY(Q4_K, Q4_K, NONE), { {0,4,2}, {4,12,1}, {16,128,4} } },
    { "Q5_K",   13, 256, 176,  1,   0,  31, 1, GPTI_BY(Q5_K, Q5_K, NONE), { {0,4,2}, {4,12,1}, {16,160,4} } },
    { "Q6_K",   14, 256, 210,  2,  32,  63, 0, GPTI_BY(Q6_K, Q6_K, NONE),
                                               { {0,192,4}, {192,16,1|GPTI_FLIP}, {208,2,2} } },
    { "IQ4_NL", 20,  32,  18,  1, 128, 255, 0, GPTI_BY(TILE_Q8, 32, IQ4), { {0,2,2}, {2,16,4} } },
    { "IQ4_XS", 23, 256, 136,  1, 128, 255, 0, GPTI_BY(TILE_Q8, IQ4_XS, IQ4),
                                               { {0,2,2}, {2,2,1|GPTI_NUMBER}, {4,4,1}, {8,128,4} } },
    { "MXFP4",  39,  32,  17,  1,  12,  24, 0, GPTI_BY(TILE, MXFP4, MX4), { {0,1,1}, {1,16,4} } },
    { "NVFP4",  40,  64,  36,  2,  12,  24, 0, GPTI_BY(TILE_2, NVFP4, MX4), { {0,36,1} } },
    { "Q1_0",   41, 128,  18,  1,   1,   2, 0, GPTI_BY(TILE, Q1_0, NONE), { {0,2,2}, {2,16,1} } },
    { "Q2_0",   42,  64,  18,  1,   1,   3, 0, GPTI_BY(TILE, Q2_0, NONE), { {0,2,2}, {2,16,1} } },
    { "TQ1_0",  34, 256,  54,  1,   1,   2, 0, GPTI_BY(TILE, TQ1_0, NONE), { {0,52,1}, {52,2,2} } },
    { "TQ2_0",  35, 256,  66,  1,   1,   3, 0, GPTI_BY(TILE, TQ2_0, NONE), { {0,64,1}, {64,2,2} } },
    { "IQ2_XXS", 16, 256, 66,  1, 128, 255, 0, GPTI_BY(TILE_Q8, IQ2_XXS, NONE), { {0,2,2}, {2,64,1} } },
    { "IQ3_XXS", 18, 256, 98,  1, 128, 255, 0, GPTI_BY(TILE_Q8, IQ3_XXS, NONE), { {0,2,2}, {2,96,1} } },
    { "IQ3_S",  21, 256, 110,  1,  15,  30, 0, GPTI_BY(TILE, IQ3_S, NONE), { {0,2,2}, {2,108,1} } }
};
#define GPTI_N_FORMAT (sizeof gpti_formats / sizeof gpti_formats[0])

/* The format with ggml's type number, or NULL. */
static const gpti_format *gpti_format_find(uint32_t type) {
    size_t i;
    for (i = 0; i < GPTI_N_FORMAT; i++) if (gpti_formats[i].type == type) return &gpti_formats[i];
    return NULL;
}

/* Bytes of n columns of a row; n is a multiple of block_len, and the caller knows that they fit. */
static size_t gpti_row_bytes(const gpti_format *fmt, size_t n) { return n / fmt->block_len * fmt->block_bytes; }

static size_t gpti_n_panel(size_t n_row) { return n_row / GPTI_PANEL + (n_row % GPTI_PANEL != 0); }

/* Bytes of a packed matrix; 0 when they do not fit size_t or n_col is not whole blocks. */
static int gpti_packed_bytes(const gpti_format *fmt, size_t n_row, size_t n_col, size_t *bytes) {
    size_t row;
    if (n_col % fmt->block_len != 0) return 0;
    return gpti_mul(&row, n_col / fmt->block_len, (size_t)fmt->block_bytes * GPTI_PANEL) &&
        gpti_mul(bytes, row, gpti_n_panel(n_row));
}

/* Deals 8 times 4 bits to 4 bytes of 8: two perfect unshuffles (Warren, Hacker's Delight, 2nd ed., sec. 7-2). */
static uint32_t gpti_deal_bits(uint32_t x) {
    int i;
    for (i = 0; i < 2; i++) {
        uint32_t t = (x ^ x >> 1) & 0x22222222u;
        x ^= t ^ t << 1; t = (x ^ x >> 2) & 0x0C0C0C0Cu;
        x ^= t ^ t << 2; t = (x ^ x >> 4) & 0x00F000F0u;
        x ^= t ^ t << 4; t = (x ^ x >> 8) & 0x0000FF00u;
        x ^= t ^ t << 8;
    }
    return x;
}

/* One field, `bytes` long, of n_row blocks that lie `stride` bytes apart, to [unit][16 rows]: 64 bytes of each row at a
 * time, as rows that are a power of two apart share their places in the cache. */
static void gpti_pack_field(const uint8_t *src, size_t stride, size_t n_row, int unit, size_t bytes, uint8_t *dst) {
    const uint32_t flip = unit & GPTI_FLIP ? 0x80808080u : 0;
    size_t at, u, r, n;
    uint32_t x;
    uint16_t h;
    for (at = 0; at < bytes; at += n, src += n, dst += 16 * n) {
        const uint8_t *p = src;
        n = gpti_min(bytes - at, 64);
        for (r = 0; r < n_row; r++, p += stride) switch (unit & (GPTI_FLIP - 1)) {
        case 1: for (u = 0; u < n; u++) dst[16 * u + r] = (unsigned char)(p[u] ^ (flip & 255));
            break;
        case 2: for (u = 0; u < n; u += 2) {
                memcpy(&h, p + u, 2);
                memcpy(dst + 16 * u + 2 * r, &h, 2);
            } break;
        case 4: for (u = 0; u < n; u += 4) {
                memcpy(&x, p + u, 4);
                x ^= flip;
                memcpy(dst + 16 * u + 4 * r, &x, 4);
            } break;
        default:
            x = gpti_deal_bits(gpti_load_u32(p));
            gpti_store_u16(dst + 4 * r, x & 0xFFFFu);
            gpti_store_u16(dst + 4 * r + 2, x >> 16);
        }
    }
}

/* Packs n_col columns of n_row <= 16 rows that lie `stride` bytes apart; missing rows become zeros. */
static void gpti_pack_rows(const gpti_format *fmt, size_t n_col, const uint8_t *rows, size_t stride, size_t n_row,
                           uint8_t *panel) {
    size_t b, n = n_col / fmt->block_len;
    const gpti_field *f;
    if (n_row < GPTI_PANEL) memset(panel, 0, n * fmt->block_bytes * GPTI_PANEL);
    if (fmt->n_scale == 0) gpti_pack_field(rows, stride, n_row, fmt->field[0].unit, n * fmt->block_bytes, panel);
    else for (b = 0; b < n; b++, rows += fmt->block_bytes, panel += GPTI_PANEL * (size_t)fmt->block_bytes)
        for (f = fmt->field; f->unit != 0; f++)
            gpti_pack_field(rows + f->offset, stride, n_row, f->unit, f->bytes, panel + GPTI_PANEL * (size_t)f->offset);
}

/* Packs n_row <= 16 whole rows as they follow each other in a file; panel has room for 16. */
static void gpti_pack(const gpti_format *fmt, size_t n_col, const uint8_t *rows, size_t n_row, uint8_t *panel) {
    gpti_pack_rows(fmt, n_col, rows, gpti_row_bytes(fmt, n_col), n_row, panel);
}

/* Columns [k, k + n) of a panel, packed; n <= GPTI_COLUMNS, whole blocks: a pointer into the matrix, or scratch
 * [16 * 4 * GPTI_COLUMNS bytes] filled from the rows of a matrix that is used as mapped. */
static const uint8_t *gpti_panel_columns(const gpti_matrix *w, size_t panel, size_t k, size_t n, uint8_t *scratch) {
    size_t row = panel * GPTI_PANEL, row_bytes = gpti_row_bytes(w->fmt, w->n_col), n_row = w->n_row - row;
    const uint8_t *p = w->data + row * row_bytes;
    if (w->packed) return p + GPTI_PANEL * gpti_row_bytes(w->fmt, k);
    if (n_row > GPTI_PANEL) n_row = GPTI_PANEL;
    gpti_pack_rows(w->fmt, n, p + gpti_row_bytes(w->fmt, k), row_bytes, n_row, scratch);
    return scratch;
}

#define GPTI_TOKENS 128         /* tokens that a panel meets between two unpackings */
/* Tokens a kernel takes at once; panels that tokens in the nearest cache meet; what attention takes. */
enum { GPTI_MOST_TOKENS = 16, GPTI_STRIP = 4,
       GPTI_ATT_QUERIES = 32, GPTI_ATT_HEADS = 8, GPTI_ATT_KEYS = 32, GPTI_ATT_WIDTH = 256 };

/* What one worker unpacks and sums in: too much for the stack of a fiber or of WebAssembly. */
typedef union gpti_scratch {
    struct {
        union { gpti_tile t[GPTI_STRIP][GPTI_COLUMNS / 32]; float w[2][GPTI_COLUMNS][16]; } u;    /* unpacked */
        float acc[(GPTI_TOKENS + GPTI_MOST_TOKENS) * GPTI_STRIP][16];
        unsigned char packed[2 * GPTI_PANEL * 4 * GPTI_COLUMNS];  /* of a mapped matrix */
        unsigned char amx[GPTI_COLUMNS / 32 * GPTI_MOST_TOKENS * 64 + 2 * 4096];     /* sums, activations */
    } product;
    struct {              /* see gpti_attend_band; the last may be read beyond its end */
        float s[GPTI_ATT_QUERIES][GPTI_ATT_KEYS], sums[GPTI_ATT_QUERIES * GPTI_ATT_WIDTH];
        float key[GPTI_ATT_KEYS * GPTI_ATT_WIDTH], value[GPTI_ATT_KEYS * GPTI_ATT_WIDTH + 16];
    } attend;
} gpti_scratch;

/* out[n_col] = row `row`, dequantised. */
static void gpti_matrix_row(const gpti_matrix *w, size_t row, float *out, gpti_scratch *scratch) {
    const gpti_unpack_steps steps = gpti_unpack_steps_ref();
    const gpti_tile *tiles = scratch->product.u.t[0];
    const gpti_format *fmt = w->fmt;
    size_t k, i, n, lane = row % GPTI_PANEL;
    for (k = 0; k < w->n_col; k += n) {
        const uint8_t *p;
        n = gpti_min(w->n_col - k, GPTI_COLUMNS);
        p = gpti_panel_columns(w, row / GPTI_PANEL, k, n, scratch->product.packed);
        if (fmt->n_scale == 0) {
            size_t bytes = fmt->block_bytes;
            for (i = 0; i < n; i++) gpti_widen(fmt, p + (GPTI_PANEL * i + lane) * bytes, 1, out + k + i);
            continue;
        }
        gpti_unpack(&steps, p, n / fmt->block_len, scratch->product.u.t[0], fmt);
        for (i = 0; i < n; i++) {
            const gpti_tile *t = &tiles[i / 32];
            size_t h = fmt->n_scale == 2 ? i % 32 / 16 : 0;
            out[k + i] = (float)((int)t->q[i % 32 / 4 * 64 + lane * 4 + i % 4] - (int)fmt->zero) * t->d[h][lane];
            if (fmt->has_min) out[k + i] -= t->m[h][lane];
        }
    }
}

/* ======================================================================
 * [KERNELS] Matrix products in plain C, the oracle of every SIMD set
 * ====================================================================
 * out[T, n_row] = x[T, n_col] * w[n_row, n_col]^T (+ bias)
 *
 * What is computed is fixed to the last bit, so that kernel sets, thread counts and chunkings cannot
 * differ: every named operation is one IEEE rounding, nothing is fused or reassociated. For each output,
 * over its tiles in ascending columns:
 *   quantised   for each scale half h:  acc = acc + (float)isum * (d[h] * xd)
 *               where isum = sum (q - zero) * xq, exact
 *               then, with minima, for each h:  acc = acc - m[h] * xs[h]
 *   float       acc = acc + (((0 + w0*x0) + w1*x1) + ...)        over up to 32 columns
 * and at the end out = acc, or acc + bias.
 */

/* 32 columns of one row of activations: x = q * d. A cache line, so that a kernel streams it. */
typedef struct gpti_xblock {
    int8_t q[32];             /* in [-127, 127] */
    /* sums of q over all columns, columns 0-15, 16-31; [0] those with k%4 < 2, [1] the others */
    int16_t sum[3][2];
    float s[3];               /* d * (float)sum, the same three ranges: what a minimum is multiplied with */
    float d;                  /* max |x| / 127; NaN when an x is not finite (then q = 0) */
    uint32_t pad;
} gpti_xblock;

typedef struct gpti_matmul {
    gpti_matrix w;
    const float *x;           /* [*, n_col], read by float formats; by F16 with at most 13 bits */
    const gpti_xblock *xq;    /* [n_col / 32][ld_xq], read by quantised formats: column blocks major! */
    size_t ld_x, ld_xq;       /* floats between rows of x; rows of xq */
    size_t n_tok;
    const uint32_t *in_row;   /* [n_tok] row of x or xq for each token, NULL = 0, 1, 2 ... */
    const uint32_t *out_row;  /* [n_tok] row of out, NULL = 0, 1, 2 ... */
    float *out;               /* overwritten */
    size_t ld_out;            /* floats between rows of out */
    const float *bias;        /* [n_row] or NULL */
    int in_cache;             /* the weights stay in cache: no use in asking memory for them ahead */
    const struct gpti_linear *lin;  /* for adapters: whose product it is, and which expert's; */
    uint32_t expert, group;         /* the group whose adapter it is of, or 0; */
    float adds;                     /* not 0: out = out + sums * adds, by gpti_add_low */
} gpti_matmul;

#define GPTI_CACHED (2 << 20)   /* bytes of a model's weights that stay in a core's cache */

typedef struct gpti_attend gpti_attend;
typedef struct gpti_kernels {
    const char *name;
    int (*usable)(void);                                                            /* on this processor */
    /* any split */
    void (*matmul)(const gpti_matmul *job, size_t panel_begin, size_t panel_end, gpti_scratch *scratch);
    void (*quantize)(gpti_xblock *out, size_t ld, const float *x, size_t n_col);    /* one row, blocks ld apart */
    void (*round13)(float *x, size_t n);                                            /* to 13 bits */
    void (*attend)(const gpti_attend *a, size_t begin, size_t end, gpti_scratch *scratch);          /* [FORWARD] */
    void (*activate)(float *h, const float *up, size_t n, int kind);
    void (*norm)(float *out, const float *x, size_t n, const float *w, const float *b, int kind, float eps);
    void (*rope)(float *x, size_t n_head, size_t d, size_t n, const float *cs, int half);
    void (*kv_store)(int kv, unsigned char *p, const float *x, size_t d, size_t lanes, size_t lane);
    void (*delta)(float *out, float *state, const float *q, const float *k, const float *v, size_t n, size_t d,
                  float keep, float rate, int corrects);
} gpti_kernels;

/* (Inline, as SSE code called from AVX code with its upper halves in use costs hundreds of cycles
 * on some processors.) Clears a block and sets its scale; 0 when that was all: the largest |x| is
 * next to nothing, or not finite. */
GPTI_INLINE int gpti_quantize_scale(gpti_xblock *out, uint32_t top) {
    memset(out, 0, sizeof *out);
    if (top >= 0x7F800000u) out->d = out->s[0] = out->s[1] = out->s[2] = gpti_bits_f32(0x7FC00000u);
    if (top < 0x0C000000u || top >= 0x7F800000u) return 0;      /* below 2^-103 the scale would get subnormal */
    out->d = gpti_bits_f32(top) / 127.0f;
    return 1;
}

/* What follows from the scale and the sums of the halves. */
GPTI_INLINE void gpti_quantize_sums(gpti_xblock *out) {
    int r;
    for (r = 0; r < 2; r++) out->sum[0][r] = (int16_t)(out->sum[1][r] + out->sum[2][r]);
    for (r = 0; r < 3; r++) out->s[r] = out->d * (float)(out->sum[r][0] + out->sum[r][1]);
}

/* One row of activations to out[0], out[ld], out[2 ld] ...; n_col is a multiple of 32. */
static void gpti_quantize_ref(gpti_xblock *out, size_t ld, const float *x, size_t n_col) {
    int i;
    for (; n_col >= 32; n_col -= 32, x += 32, out += ld) {
        uint32_t top = 0;     /* the bits of |x| order like |x|, infinity and NaN on top */
        float id;
        for (i = 0; i < 32; i++) {
            uint32_t a = gpti_f32_bits(x[i]) & 0x7FFFFFFFu;
            top = a > top ? a : top;
        }
        if (!gpti_quantize_scale(out, top)) continue;
        id = 127.0f / gpti_bits_f32(top);
        for (i = 0; i < 32; i++) {                   /* adding 1.5 * 2^23 rounds to the nearest even integer */
            float y = x[i] * id + 12582912.0f;
            int q = (int)(gpti_f32_bits(y) & 0x7FFFFFu) - 0x400000;
            out->q[i] = (int8_t)q;
            out->sum[1 + i / 16][i % 4 / 2] = (int16_t)(out->sum[1 + i / 16][i % 4 / 2] + q);
        }
        gpti_quantize_sums(out);
    }
}

/* acc[16 rows] += one tile times one block of activations */
static void gpti_tile_ref(const gpti_format *fmt, const gpti_tile *t, const gpti_xblock *x, float *acc) {
    int h, g, r, n = 8 / fmt->n_scale, zero = fmt->zero;
    int first = fmt->n_scale == 2;                   /* sums of the halves start at [1] */
    for (h = 0; h < fmt->n_scale; h++) {
        int32_t isum[16] = { 0 };
        for (g = h * n; g < h * n + n; g++) {
            const int8_t *a = x->q + 4 * g;
            for (r = 0; r < 16; r++) {
                const uint8_t *q = t->q + 64 * g + 4 * r;
                isum[r] += (q[0] - zero) * a[0] + (q[1] - zero) * a[1] + (q[2] - zero) * a[2] + (q[3] - zero) * a[3];
            }
        }
        for (r = 0; r < 16; r++) {
            float scale = t->d[h][r] * x->d;
            float part = (float)isum[r] * scale;
            acc[r] = acc[r] + part;
        }
    }
    if (!fmt->has_min) return;
    for (h = 0; h < fmt->n_scale; h++) {
        for (r = 0; r < 16; r++) {
            float part = t->m[h][r] * x->s[first + h];
            acc[r] = acc[r] - part;
        }
    }
}

/* acc[16 rows] += w[n][16] times x[n], n <= 32 */
static void gpti_floats_ref(const float (*w)[16], const float *x, size_t n, float *acc) {
    float sum[16] = { 0.0f };
    size_t k;
    int r;
    for (k = 0; k < n; k++) {
        for (r = 0; r < 16; r++) {
            float part = w[k][r] * x[k];
            sum[r] = sum[r] + part;
        }
    }
    for (r = 0; r < 16; r++) acc[r] = acc[r] + sum[r];
}

/* scratch's acc[n_tok][16] += columns [k, k + n) of a panel times tokens [t0, t0 + n_tok), n <=
 * GPTI_COLUMNS */
static void gpti_columns_ref(const gpti_matmul *job, const unsigned char *p, size_t k, size_t n, size_t t0,
                             size_t n_tok, gpti_scratch *scratch) {
    const gpti_unpack_steps steps = gpti_unpack_steps_ref();
    gpti_tile *tile = scratch->product.u.t[0];
    float (*w)[16] = scratch->product.u.w[0], (*acc)[16] = scratch->product.acc;
    const gpti_format *fmt = job->w.fmt;
    size_t t, i;
    if (fmt->n_scale == 0) gpti_widen(fmt, p, n * GPTI_PANEL, w[0]);
    else gpti_unpack(&steps, p, n / fmt->block_len, tile, fmt);
    for (t = 0; t < n_tok; t++) {
        size_t row = job->in_row != NULL ? job->in_row[t0 + t] : t0 + t;
        for (i = 0; i < n; i += 32) {
            if (fmt->n_scale == 0)
                gpti_floats_ref((const float (*)[16])(w + i), job->x + row * job->ld_x + k + i,
                    gpti_min(n - i, 32), acc[t]);
            else
                gpti_tile_ref(fmt, &tile[i / 32], job->xq + (k + i) / 32 * job->ld_xq + row, acc[t]);
        }
    }
}

/* Writes the sums of one panel for tokens [t0, t0 + n_tok); acc [16], ld_acc floats from a token to
 * the next. */
static void gpti_matmul_store(const gpti_matmul *job, size_t panel, size_t t0, size_t n_tok, const float *acc,
                              size_t ld_acc) {
    size_t row = panel * GPTI_PANEL, n_row = job->w.n_row - row, t, r;
    float bias[GPTI_PANEL] = { 0.0f }, sum[GPTI_PANEL];
    if (n_row > GPTI_PANEL) n_row = GPTI_PANEL;
    if (job->bias != NULL) memcpy(bias, job->bias + row, n_row * sizeof *bias);
    for (t = 0; t < n_tok; t++, acc += ld_acc) {
        float *out = job->out + (job->out_row != NULL ? job->out_row[t0 + t] : t0 + t) * job->ld_out + row;
        if (job->bias == NULL && n_row == GPTI_PANEL) memcpy(out, acc, GPTI_PANEL * sizeof *out);
        else if (job->bias == NULL) memcpy(out, acc, n_row * sizeof *out);
        else {
            for (r = 0; r < GPTI_PANEL; r++) sum[r] = acc[r] + bias[r];
            if (n_row == GPTI_PANEL) memcpy(out, sum, sizeof sum);
            else memcpy(out, sum, n_row * sizeof *out);
        }
    }
}

static void gpti_matmul_ref(const gpti_matmul *job, size_t panel_begin, size_t panel_end, gpti_scratch *scratch) {
    float (*acc)[16] = scratch->product.acc;
    const gpti_matrix *w = &job->w;
    size_t panel, t0, n_tok, k, n;
    for (panel = panel_begin; panel < panel_end; panel++) {
        for (t0 = 0; t0 < job->n_tok; t0 += n_tok) {
            n_tok = gpti_min(job->n_tok - t0, GPTI_TOKENS);
            memset(acc, 0, n_tok * sizeof *acc);
            for (k = 0; k < w->n_col; k += n) {
                n = gpti_min(w->n_col - k, GPTI_COLUMNS);
                gpti_columns_ref(job, gpti_panel_columns(w, panel, k, n, scratch->product.packed), k, n, t0, n_tok,
                                 scratch);
            }
            gpti_matmul_store(job, panel, t0, n_tok, acc[0], 16);
        }
    }
}

static int gpti_cpu_ref(void) { return 1; }

GPTI_COLD
/* ======================================================================
 * [GGUF] The model file: metadata and the places of the tensors
 * ====================================================================== */

/* A file is: "GGUF", version, number of tensors, number of metadata pairs; the pairs; the tensor
 * infos; padding; data. Everything is checked here once, so that the rest of the library can trust
 * names, extents and places. Memory grows with the bytes really read, never with a count that the
 * file claims. Specification: github.com/ggml-org/ggml, docs/gguf.md. */

enum {
    GPTI_GGUF_BOOL = 7, GPTI_GGUF_STRING = 8, GPTI_GGUF_ARRAY = 9, GPTI_GGUF_N_TYPE = 13,
    GPTI_GGUF_NAME_MAX = 65535, GPTI_GGUF_DEPTH = 8, GPTI_GGUF_ALIGN_MAX = 1 << 20,
    GPTI_GGUF_ENTRY_MAX = 1 << 17,      /* of keys, of tensors: hostile names are sorted in a second */
    GPTI_GGUF_PAIR_MIN = 14, GPTI_GGUF_TENSOR_MIN = 33    /* bytes of the shortest possible entry */
};

/* bytes: of a string or an array, those of an empty one */
static const struct { char name[8]; unsigned char bytes; char kind; } gpti_gguf_type[GPTI_GGUF_N_TYPE] = {
    { "u8", 1, 'u' },  { "i8", 1, 'i' },  { "u16", 2, 'u' },  { "i16", 2, 'i' },
    { "u32", 4, 'u' }, { "i32", 4, 'i' }, { "f32", 4, 'f' },  { "bool", 1, 'u' },
    { "string", 8, 's' }, { "array", 12, 'a' }, { "u64", 8, 'u' }, { "i64", 8, 'i' }, { "f64", 8, 'f' }
};

typedef union gpti_value { uint64_t u; int64_t i; double f; gpti_str s; } gpti_value;  /* by kind */

typedef struct gpti_meta_pair {
    gpti_str key;                       /* first: the table is sorted by it */
    uint32_t type, elem;                /* of the value; of an array's elements */
    uint64_t count, offset, bytes;      /* array: elements; where they start in part 0; their bytes */
    gpti_value v;                       /* no array */
} gpti_meta_pair;

typedef struct gpti_tensor {
    gpti_str name;                      /* first: the table is sorted by it */
    const gpti_format *fmt;
    int      n_dim, part, big;          /* big: the data is big-endian, gpti_gguf_read turns it */
    uint64_t ne[4];                     /* extents, fastest first, 1 beyond n_dim; product fits size_t */
    uint64_t offset, size;              /* bytes, from the start of its part; size fits size_t */
} gpti_tensor;

/* Strings of the file, packed; the text follows the block's head. */
typedef struct gpti_text_block { struct gpti_text_block *next; size_t used, cap; } gpti_text_block;

typedef struct gpti_gguf {              /* the sources are the caller's, all else is owned */
    gpti_source     *part;
    int              n_part, big;       /* big: part 0 is big-endian */
    uint64_t         align;             /* of tensors in part 0; below 4, data may lie misaligned */
    gpti_meta_pair  *pair;              /* metadata of part 0, by key */
    size_t           n_pair, cap_pair;
    gpti_tensor     *tensor;            /* tensors of all parts, by name */
    size_t           n_tensor, cap_tensor;
    gpti_text_block *text;              /* keys, names and values of strings */
    const gpti_mem  *mem;
} gpti_gguf;

/* -- looking things up -- */

static const gpti_meta_pair *gpti_gguf_find(const gpti_gguf *g, const char *key) {
    return (const gpti_meta_pair *)gpti_find(g->pair, g->n_pair, sizeof *g->pair, gpti_str_of(key));
}

static const gpti_tensor *gpti_gguf_tensor(const gpti_gguf *g, const char *name) {
    return (const gpti_tensor *)gpti_find(g->tensor, g->n_tensor, sizeof *g->tensor, gpti_str_of(name));
}

static gpt_result gpti_gguf_expected(const gpti_meta_pair *pair, const char *what, gpt_error *err) {
    char key[GPTI_SHOWN];
    gpti_show(key, pair->key);
    if (pair->type != GPTI_GGUF_ARRAY)
        return gpti_fail(err, GPT_E_FORMAT, "%s: expected %s, file has %s", key, what, gpti_gguf_type[pair->type].name);
    return gpti_fail(err, GPT_E_FORMAT, "%s: expected %s, file has an array of %llu %s", key, what,
                     (gpti_ull)pair->count, gpti_gguf_type[pair->elem].name);
}

static int gpti_gguf_is_number(uint32_t type) {
    return type != GPTI_GGUF_STRING && type != GPTI_GGUF_ARRAY;
}

static void gpti_gguf_scalar(gpti_cursor *c, uint32_t type, gpti_value *v) {
    int bytes = gpti_gguf_type[type].bytes;
    uint64_t u = gpti_cursor_uint(c, bytes), sign = (uint64_t)1 << (8 * bytes - 1);
    uint32_t u32 = (uint32_t)u;
    float f;
    v->u = u;
    if (gpti_gguf_type[type].kind == 'i') v->i = (int64_t)((u ^ sign) - sign);
    if (gpti_gguf_type[type].kind != 'f') return;
    memcpy(&f, &u32, sizeof f);
    if (bytes == 4) v->f = (double)f;
    else memcpy(&v->f, &u, sizeof u);
}

static void gpti_gguf_element_cursor(const gpti_gguf *g, const gpti_meta_pair *pair, gpti_cursor *c, gpt_error *err) {
    gpti_cursor_init(c, &g->part[0], "array", err);
    c->name = pair->key; c->big = g->big; c->pos = pair->offset;
}

/* One number and its type: the plain value, or element i of an array, read from the file. 0 when
 * there is none, -1 when it could not be read. */
static int gpti_gguf_number(const gpti_gguf *g, const char *key, uint64_t i, uint32_t *type, gpti_value *v) {
    const gpti_meta_pair *pair = gpti_gguf_find(g, key);
    gpti_cursor c;
    if (!pair || pair->type == GPTI_GGUF_STRING || !gpti_gguf_is_number(pair->elem)) return 0;
    *type = pair->type; *v = pair->v;
    if (pair->type != GPTI_GGUF_ARRAY) return 1;
    if (i >= pair->count) return 0;
    *type = pair->elem;
    gpti_gguf_element_cursor(g, pair, &c, NULL);
    c.pos += i * gpti_gguf_type[pair->elem].bytes;
    gpti_gguf_scalar(&c, pair->elem, v);
    return c.fail == GPT_OK ? 1 : -1;
}

static int gpti_gguf_to_int(uint32_t type, const gpti_value *v, int64_t lo, int64_t hi, int64_t *out) {
    char kind = gpti_gguf_type[type].kind;
    if (kind != 'i' && (kind != 'u' || v->u > INT64_MAX)) return 0;
    *out = kind == 'i' ? v->i : (int64_t)v->u;
    return *out >= lo && *out <= hi;
}

static double gpti_gguf_to_double(uint32_t type, const gpti_value *v) {
    char kind = gpti_gguf_type[type].kind;
    if (kind == 'f') return v->f;
    return kind == 'i' ? (double)v->i : (double)v->u;
}

static float gpti_gguf_to_f32(uint32_t type, const gpti_value *v) {
    double f = gpti_gguf_to_double(type, v);
    if (f > (double)FLT_MAX) return (float)INFINITY;
    return f < -(double)FLT_MAX ? -(float)INFINITY : (float)f;
}

/* Getters give 1 and the value, or 0 and leave *out alone: the key is absent (gpti_gguf_find tells)
 * or its value is of another kind or out of range. _at: element i of an array with one for each
 * layer, or the plain value for every i; -1 when it could not be read. */
static int gpti_gguf_u32_at(const gpti_gguf *g, const char *key, uint64_t i, uint32_t *out) {
    uint32_t type;
    int64_t n;
    gpti_value v;
    int got = gpti_gguf_number(g, key, i, &type, &v);
    if (got != 1) return got;
    if (!gpti_gguf_to_int(type, &v, 0, UINT32_MAX, &n)) return 0;
    *out = (uint32_t)n;
    return 1;
}

static int gpti_gguf_u32(const gpti_gguf *g, const char *key, uint32_t *out) {
    return gpti_gguf_u32_at(g, key, UINT64_MAX, out);                   /* no array has that many */
}

static int gpti_gguf_f32(const gpti_gguf *g, const char *key, float *out) {
    uint32_t type;
    gpti_value v;
    if (!gpti_gguf_number(g, key, UINT64_MAX, &type, &v)) return 0;
    *out = gpti_gguf_to_f32(type, &v);
    return 1;
}

static int gpti_gguf_bool(const gpti_gguf *g, const char *key, int *out) {
    const gpti_meta_pair *pair = gpti_gguf_find(g, key);
    if (!pair || pair->type != GPTI_GGUF_BOOL) return 0;
    *out = pair->v.u != 0;
    return 1;
}

static int gpti_gguf_str(const gpti_gguf *g, const char *key, gpti_str *out) {
    const gpti_meta_pair *pair = gpti_gguf_find(g, key);
    if (!pair || pair->type != GPTI_GGUF_STRING) return 0;
    *out = pair->v.s;
    return 1;
}

/* Arrays: *out is one block that the caller frees. An absent key gives NULL and 0, and no error. */
static gpt_result gpti_gguf_numbers(const gpti_gguf *g, const char *key, int real, void **out,
                                    size_t *n, gpt_error *err) {
    const gpti_meta_pair *pair = gpti_gguf_find(g, key);
    const char *want = real ? "an array of numbers" : "an array of 32-bit integers";
    gpti_cursor c;
    gpti_value v;
    int64_t k = 0;
    size_t i;
    *out = NULL; *n = 0;
    if (!pair) return GPT_OK;
    if (pair->type != GPTI_GGUF_ARRAY || !gpti_gguf_is_number(pair->elem)) return gpti_gguf_expected(pair, want, err);
    if (pair->count <= SIZE_MAX) *out = gpti_alloc_n(g->mem, (size_t)pair->count, 4);
    if (!*out) return gpti_fail(err, GPT_E_MEMORY, "%s: out of memory", key);
    gpti_gguf_element_cursor(g, pair, &c, err);
    for (i = 0; i < (size_t)pair->count && !c.fail; i++) {
        gpti_gguf_scalar(&c, pair->elem, &v);
        if (real) ((float *)*out)[i] = gpti_gguf_to_f32(pair->elem, &v);
        else if (gpti_gguf_to_int(pair->elem, &v, INT32_MIN, INT32_MAX, &k)) ((int32_t *)*out)[i] = (int32_t)k;
        else c.fail = gpti_gguf_expected(pair, want, err);
    }
    if (!c.fail) { *n = i; return GPT_OK; }
    gpti_free(g->mem, *out);
    *out = NULL;
    return c.fail;
}

static gpt_result gpti_gguf_i32s(const gpti_gguf *g, const char *key, int32_t **out, size_t *n, gpt_error *err) {
    void *p;
    gpt_result r = gpti_gguf_numbers(g, key, 0, &p, n, err);
    *out = (int32_t *)p;
    return r;
}

static gpt_result gpti_gguf_f32s(const gpti_gguf *g, const char *key, float **out, size_t *n, gpt_error *err) {
    void *p;
    gpt_result r = gpti_gguf_numbers(g, key, 1, &p, n, err);
    *out = (float *)p;
    return r;
}

/* The strings lie behind the array, in the same block, without terminators. */
static gpt_result gpti_gguf_strings(const gpti_gguf *g, const char *key, gpti_str **out, size_t *n, gpt_error *err) {
    const gpti_meta_pair *pair = gpti_gguf_find(g, key);
    gpti_cursor c;
    size_t i, head, all, left;
    char *text;
    *out = NULL; *n = 0;
    if (!pair) return GPT_OK;
    if (pair->type != GPTI_GGUF_ARRAY || pair->elem != GPTI_GGUF_STRING)
        return gpti_gguf_expected(pair, "an array of strings", err);
    left = (size_t)(pair->bytes - 8 * pair->count);
    if (pair->bytes <= SIZE_MAX && gpti_mul(&head, (size_t)pair->count, sizeof **out) &&
        gpti_add(&all, head, left)) *out = (gpti_str *)gpti_alloc(g->mem, all);
    if (!*out) return gpti_fail(err, GPT_E_MEMORY, "%s: out of memory", key);
    gpti_gguf_element_cursor(g, pair, &c, err);
    for (i = 0, text = (char *)*out + head; i < (size_t)pair->count && !c.fail; i++) {
        uint64_t len = gpti_cursor_uint(&c, 8);
        if (len > left) gpti_cursor_fail(&c, GPT_E_IO, "the file changed while it was read");
        else gpti_cursor_bytes(&c, text, (size_t)len);
        if (c.fail) break;
        (*out)[i].p = text; (*out)[i].n = (size_t)len;
        text += (size_t)len; left -= (size_t)len;
    }
    if (!c.fail) { *n = i; return GPT_OK; }
    gpti_free(g->mem, *out);
    *out = NULL;
    return c.fail;
}

/* -- tensor data -- */

/* n bytes of a tensor's data from byte `from` on, little-endian whatever the file is. A block must not be cut. */
static gpt_result gpti_gguf_read(const gpti_gguf *g, const gpti_tensor *t, uint64_t from, void *dst, size_t n,
                                 gpt_error *err) {
    unsigned char *p = (unsigned char *)dst, *end = p + n, *at, *x, *y;
    const gpti_field *f;
    char name[GPTI_SHOWN];
    gpt_result r;
    if (from > t->size || n > t->size - from)
        return gpti_fail(err, GPT_E_ARG, "%s: no %llu bytes at %llu", gpti_show(name, t->name), (gpti_ull)n,
                         (gpti_ull)from);
    r = gpti_source_read(&g->part[t->part], t->offset + from, dst, n, err);
    if (r || !t->big) return r;
    for (; p < end; p += t->fmt->block_bytes)
        for (f = t->fmt->field; f->unit != 0; f++) {
            const size_t size = f->unit & GPTI_NUMBER ? f->bytes : f->unit;     /* of a number in the field */
            if (f->unit != 2 && !(f->unit & GPTI_NUMBER)) continue;
            for (at = p + f->offset; at < p + f->offset + f->bytes; at += size)
                for (x = at, y = at + size - 1; x < y; x++, y--) gpti_swap(x, y, 1);
        }
    return GPT_OK;
}

/* -- reading the file -- */

/* A string of lo to hi bytes, kept until gpti_gguf_close. */
static int gpti_gguf_text(gpti_gguf *g, gpti_cursor *c, const char *what, uint64_t lo, uint64_t hi, gpti_str *out) {
    uint64_t len = gpti_cursor_uint(c, 8);
    gpti_text_block *block = g->text;
    char *p;
    if (c->fail) return 0;
    if (len < lo || len > hi)
        return gpti_cursor_fail(c, GPT_E_FORMAT, "%s of %llu bytes, expected %llu to %llu", what,
                                (gpti_ull)len, (gpti_ull)lo, (gpti_ull)hi);
    if (!gpti_cursor_want(c, len)) return 0;
    if (!block || len >= block->cap - block->used) {        /* len <= hi: no overflow */
        const size_t cap = gpti_max((size_t)len + 1, 8192 - sizeof *block);
        block = (gpti_text_block *)gpti_alloc(g->mem, sizeof *block + cap);
        if (!block) return gpti_cursor_fail(c, GPT_E_MEMORY, "out of memory");
        block->cap = cap; block->next = g->text;
        g->text = block;
    }
    p = (char *)(block + 1) + block->used;
    if (!gpti_cursor_bytes(c, p, (size_t)len)) return 0;
    p[(size_t)len] = 0;                 /* for gpt_model_meta's callers: nothing here reads it */
    block->used += (size_t)len + 1;
    out->p = p; out->n = (size_t)len;
    return 1;
}

/* Reads the type of a value or of an array's elements. */
static int gpti_gguf_read_type(gpti_cursor *c, const char *what, uint32_t *type) {
    *type = (uint32_t)gpti_cursor_uint(c, 4);
    if (c->fail || *type < GPTI_GGUF_N_TYPE) return c->fail == GPT_OK;
    return gpti_cursor_fail(c, GPT_E_FORMAT, "expected %s type below %d, file has %llu", what,
                            (int)GPTI_GGUF_N_TYPE, (gpti_ull)*type);
}

/* Type and number of an array's elements, against the bytes that are left. */
static int gpti_gguf_array(gpti_cursor *c, uint32_t *elem, uint64_t *count) {
    if (!gpti_gguf_read_type(c, "an element", elem)) return 0;
    *count = gpti_cursor_uint(c, 8);
    if (c->fail) return 0;
    if (*count > (c->end - c->pos) / gpti_gguf_type[*elem].bytes)
        return gpti_cursor_fail(c, GPT_E_FORMAT, "%llu elements of type %s cannot fit the %llu bytes that are left",
            (gpti_ull)*count, gpti_gguf_type[*elem].name, (gpti_ull)(c->end - c->pos));
    return 1;
}

/* Go over an array: numbers at once, strings one by one, inner arrays with counts on a stack. */
static int gpti_gguf_skip(gpti_cursor *c, uint32_t elem, uint64_t count) {
    uint64_t left[GPTI_GGUF_DEPTH];
    int depth = 0;
    for (;;) {
        if (gpti_gguf_is_number(elem)) gpti_cursor_skip(c, count * gpti_gguf_type[elem].bytes);
        else if (elem == GPTI_GGUF_STRING)
            while (count-- && gpti_cursor_skip(c, gpti_cursor_uint(c, 8))) {}
        else if (depth < GPTI_GGUF_DEPTH) left[depth++] = count;
        else gpti_cursor_fail(c, GPT_E_FORMAT, "arrays nested deeper than %d", depth);
        while (depth && !left[depth - 1]) depth--;
        if (c->fail || !depth) return c->fail == GPT_OK;
        left[depth - 1]--;
        if (!gpti_gguf_array(c, &elem, &count)) return 0;
    }
}

static int gpti_gguf_read_pair(gpti_gguf *g, gpti_cursor *c, gpti_meta_pair *pair) {
    if (!gpti_gguf_text(g, c, "key", 1, GPTI_GGUF_NAME_MAX, &pair->key)) return 0;
    c->name = pair->key;
    if (!gpti_gguf_read_type(c, "a value", &pair->type)) return 0;
    if (pair->type == GPTI_GGUF_STRING) return gpti_gguf_text(g, c, "string", 0, SIZE_MAX / 4, &pair->v.s);
    if (pair->type == GPTI_GGUF_ARRAY) {
        if (!gpti_gguf_array(c, &pair->elem, &pair->count)) return 0;
        pair->offset = c->pos;
        gpti_gguf_skip(c, pair->elem, pair->count);
        pair->bytes = c->pos - pair->offset;
    } else gpti_gguf_scalar(c, pair->type, &pair->v);
    return c->fail == GPT_OK;
}

/* The first record of a sorted table that has the name of the one before; n when there is none. */
static size_t gpti_gguf_twice(const void *base, size_t n, size_t size) {
    const char *a = (const char *)base;
    size_t i = 1;
    while (i < n && gpti_name_cmp(a + (i - 1) * size, a + i * size, NULL)) i++;
    return i < n ? i : n;
}

/* Replace the metadata by the n pairs that come next. */
static int gpti_gguf_read_pairs(gpti_gguf *g, gpti_cursor *c, uint64_t n) {
    size_t i;
    c->what = "metadata pair";
    for (g->n_pair = 0; g->n_pair < n; g->n_pair++) {
        void *table = gpti_grow(g->pair, g->n_pair, &g->cap_pair, sizeof *g->pair, g->mem);
        c->index = g->n_pair + 1; c->name.n = 0;
        if (!table) return gpti_cursor_fail(c, GPT_E_MEMORY, "out of memory");
        g->pair = (gpti_meta_pair *)table;
        memset(&g->pair[g->n_pair], 0, sizeof *g->pair);
        if (!gpti_gguf_read_pair(g, c, &g->pair[g->n_pair])) return 0;
    }
    gpti_sort(g->pair, g->n_pair, sizeof *g->pair, gpti_name_cmp, NULL);
    i = gpti_gguf_twice(g->pair, g->n_pair, sizeof *g->pair);
    if (i == g->n_pair) return 1;
    c->name = g->pair[i].key;
    return gpti_cursor_fail(c, GPT_E_FORMAT, "the key is there twice");
}

/* "[64, 32, 1]" */
static const char *gpti_gguf_extents(char buf[96], const gpti_tensor *t) {
    int i, n = 0;
    for (i = 0; i < t->n_dim; i++) n += snprintf(buf + n, (size_t)(96 - n), i ? ", %llu" : "[%llu", (gpti_ull)t->ne[i]);
    memcpy(buf + n, "]", 2);
    return buf;
}

static int gpti_gguf_read_tensor(gpti_gguf *g, gpti_cursor *c, uint64_t align, gpti_tensor *t) {
    char shape[96];
    size_t n = 1, bytes = 0;
    uint32_t type;
    int i, fits = 1, empty = 0;
    if (!gpti_gguf_text(g, c, "name", 1, GPTI_GGUF_NAME_MAX, &t->name)) return 0;
    c->name = t->name;
    n = (size_t)gpti_cursor_uint(c, 4);
    if (c->fail) return 0;
    if (n < 1 || n > 4) return gpti_cursor_fail(c, GPT_E_FORMAT, "expected 1 to 4 extents, file has %llu", (gpti_ull)n);
    t->n_dim = (int)n;
    for (i = 0, n = 1; i < 4; i++) {
        t->ne[i] = i < t->n_dim ? gpti_cursor_uint(c, 8) : 1;
        empty |= t->ne[i] == 0;
        fits = fits && t->ne[i] <= (size_t)-1 / 2 && gpti_mul(&n, n, (size_t)t->ne[i]);
    }
    type = (uint32_t)gpti_cursor_uint(c, 4);
    t->offset = gpti_cursor_uint(c, 8);
    if (c->fail) return 0;
    t->fmt = gpti_format_find(type);
    if (!t->fmt) return gpti_cursor_fail(c, GPT_E_UNSUPPORTED, "unknown tensor type %llu", (gpti_ull)type);
    gpti_gguf_extents(shape, t);
    if (empty) return gpti_cursor_fail(c, GPT_E_FORMAT, "extents must not be 0, file has %s %s", t->fmt->name, shape);
    if (t->ne[0] % (uint64_t)t->fmt->block_len)
        return gpti_cursor_fail(c, GPT_E_FORMAT, "%s rows need a multiple of %d columns, file has %llu in %s",
            t->fmt->name, t->fmt->block_len, (gpti_ull)t->ne[0], shape);
    fits = fits && gpti_mul(&bytes, n / t->fmt->block_len, t->fmt->block_bytes);
    if (!fits || bytes > SIZE_MAX / 2)
        return gpti_cursor_fail(c, GPT_E_FORMAT, "extents too large for this machine: %s %s", t->fmt->name, shape);
    t->size = bytes;
    if (t->offset & (align - 1))
        return gpti_cursor_fail(c, GPT_E_FORMAT, "offset %llu is not a multiple of %llu",
                                (gpti_ull)t->offset, (gpti_ull)align);
    return 1;
}

/* Append the n tensor infos that come next, then find their data. */
static int gpti_gguf_read_tensors(gpti_gguf *g, gpti_cursor *c, uint64_t n, int part, uint64_t align) {
    size_t first = g->n_tensor, i;
    uint64_t data, room;
    c->what = "tensor info";
    for (; g->n_tensor - first < n; g->n_tensor++) {
        void *table = gpti_grow(g->tensor, g->n_tensor, &g->cap_tensor, sizeof *g->tensor, g->mem);
        c->index = g->n_tensor - first + 1; c->name.n = 0;
        if (!table) return gpti_cursor_fail(c, GPT_E_MEMORY, "out of memory");
        g->tensor = (gpti_tensor *)table;
        memset(&g->tensor[g->n_tensor], 0, sizeof *g->tensor);
        if (!gpti_gguf_read_tensor(g, c, align, &g->tensor[g->n_tensor])) return 0;
        g->tensor[g->n_tensor].part = part; g->tensor[g->n_tensor].big = c->big;
    }
    data = (c->pos + align - 1) & ~(align - 1);
    room = data < c->end ? c->end - data : 0;
    for (i = first; i < g->n_tensor; i++) {
        gpti_tensor *t = &g->tensor[i];
        c->name = t->name;
        if (t->offset > room || t->size > room - t->offset)
            return gpti_cursor_fail(c, GPT_E_FORMAT,
                "%llu bytes of data at %llu, but the file has %llu there (cut short?)",
                (gpti_ull)t->size, (gpti_ull)t->offset, (gpti_ull)room);
        t->offset += data;
    }
    return 1;
}

static int gpti_gguf_header(gpti_cursor *c, uint64_t *n_tensor, uint64_t *n_pair) {
    char magic[4] = { 0, 0, 0, 0 }, shown[GPTI_SHOWN];
    gpti_str m;
    uint64_t left;
    uint32_t v;
    m.p = magic; m.n = 4;
    if (!gpti_cursor_bytes(c, magic, 4)) return 0;
    if (memcmp(magic, "GGUF", 4))
        return gpti_cursor_fail(c, GPT_E_FORMAT,
            "expected the bytes GGUF, found %s (another kind of file?)", gpti_show(shown, m));
    v = (uint32_t)gpti_cursor_uint(c, 4);
    if (v && (v & 0xffff) == 0) {       /* a small number, turned round: a big-endian file */
        c->big = 1;
        v = v >> 24 | (v >> 8 & 0xff00);
    }
    if (!c->fail && v != 2 && v != 3)
        return gpti_cursor_fail(c, GPT_E_UNSUPPORTED, "expected version 2 or 3, file has %llu", (gpti_ull)v);
    *n_tensor = gpti_cursor_uint(c, 8); *n_pair = gpti_cursor_uint(c, 8);
    if (c->fail) return 0;
    left = c->end - c->pos;
    if (*n_pair > left / GPTI_GGUF_PAIR_MIN || *n_tensor > left / GPTI_GGUF_TENSOR_MIN)
        return gpti_cursor_fail(c, GPT_E_FORMAT,
            "%llu tensors and %llu metadata pairs cannot fit the %llu bytes that follow",
            (gpti_ull)*n_tensor, (gpti_ull)*n_pair, (gpti_ull)left);
    return 1;
}

/* Absent is fine, another kind of value is not. */
static gpt_result gpti_gguf_setting(const gpti_gguf *g, const char *key, uint32_t *out, gpt_error *err) {
    const gpti_meta_pair *pair = gpti_gguf_find(g, key);
    if (!pair || gpti_gguf_u32(g, key, out)) return GPT_OK;
    return gpti_gguf_expected(pair, "an integer from 0 to 4294967295", err);
}

/* What a part says of its model, against the parts there are. *all: tensors of all, if it says. */
static gpt_result gpti_gguf_check_split(const gpti_gguf *g, int part, uint32_t *all, gpt_error *err) {
    uint32_t no = 0, count = 0;
    GPTI_TRY(gpti_gguf_setting(g, "split.no", &no, err));
    GPTI_TRY(gpti_gguf_setting(g, "split.count", &count, err));
    GPTI_TRY(gpti_gguf_setting(g, "split.tensors.count", all, err));
    if (g->n_part == 1 && count <= 1) {         /* left over from when it was split */
        *all = UINT32_MAX;
        return GPT_OK;
    }
    if (g->n_part == 1)
        return gpti_fail(err, GPT_E_FORMAT, "split.count: this is part %llu of %llu, named "
            "NAME-%05llu-of-%05llu.gguf when split", (gpti_ull)no + 1, (gpti_ull)count,
            (gpti_ull)no + 1, (gpti_ull)count);
    if (count != (uint32_t)g->n_part)
        return gpti_fail(err, GPT_E_FORMAT, "split.count: expected %d, file has %llu", g->n_part, (gpti_ull)count);
    if (no == (uint32_t)part) return GPT_OK;
    return gpti_fail(err, GPT_E_FORMAT, "split.no: expected %d, file has %llu", part, (gpti_ull)no);
}

/* One part: its metadata replaces what g had, its tensors are added. */
static gpt_result gpti_gguf_read_part(gpti_gguf *g, int part, uint32_t *all, gpt_error *err) {
    gpti_cursor c;
    uint64_t n_tensor = 0, n_pair = 0;
    uint32_t align = 32;
    gpti_cursor_init(&c, &g->part[part], "GGUF header", err);
    if (!gpti_gguf_header(&c, &n_tensor, &n_pair)) return c.fail;
    if (n_pair > GPTI_GGUF_ENTRY_MAX || n_tensor > GPTI_GGUF_ENTRY_MAX - g->n_tensor)
        return gpti_fail(err, GPT_E_UNSUPPORTED,
            "GGUF header: %llu tensors and %llu metadata pairs, at most %d are read",
            (gpti_ull)(g->n_tensor + n_tensor), (gpti_ull)n_pair, (int)GPTI_GGUF_ENTRY_MAX);
    if (!gpti_gguf_read_pairs(g, &c, n_pair)) return c.fail;
    GPTI_TRY(gpti_gguf_setting(g, "general.alignment", &align, err));
    if (align < 1 || align > GPTI_GGUF_ALIGN_MAX || (align & (align - 1)))
        return gpti_fail(err, GPT_E_FORMAT, "general.alignment: expected a power of two up to %d, file has %llu",
            (int)GPTI_GGUF_ALIGN_MAX, (gpti_ull)align);
    GPTI_TRY(gpti_gguf_check_split(g, part, all, err));
    g->big = c.big; g->align = align;
    gpti_gguf_read_tensors(g, &c, n_tensor, part, align);
    return c.fail;
}

static int gpti_tensor_place_cmp(const void *a, const void *b, const void *ctx) {
    const gpti_tensor *x = (const gpti_tensor *)a, *y = (const gpti_tensor *)b;
    (void)ctx;
    if (x->part != y->part) return x->part - y->part;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* No two tensors share bytes or a name. Leaves the table sorted by name. */
static gpt_result gpti_gguf_check_tensors(gpti_gguf *g, gpt_error *err) {
    char a[GPTI_SHOWN], b[GPTI_SHOWN];
    gpti_tensor *t = g->tensor;
    size_t i;
    gpti_sort(t, g->n_tensor, sizeof *t, gpti_tensor_place_cmp, NULL);
    for (i = 1; i < g->n_tensor; i++)
        if (t[i].part == t[i - 1].part && t[i].offset < t[i - 1].offset + t[i - 1].size)
            return gpti_fail(err, GPT_E_FORMAT, "%s: its data overlaps that of %s",
                             gpti_show(a, t[i].name), gpti_show(b, t[i - 1].name));
    gpti_sort(t, g->n_tensor, sizeof *t, gpti_name_cmp, NULL);
    i = gpti_gguf_twice(t, g->n_tensor, sizeof *t);
    if (i == g->n_tensor) return GPT_OK;
    return gpti_fail(err, GPT_E_FORMAT, "%s: the tensor is there twice", gpti_show(a, t[i].name));
}

/* What a save is bound to: metadata, the tables and some of each tensor's bytes; of what is long the
 * two ends. */
static gpt_result gpti_gguf_fingerprint(const gpti_gguf *g, uint64_t *out, gpt_error *err) {
    enum { END = 1024 };
    unsigned char ends[2 * END];
    uint64_t h = 0, offset, size;
    size_t i, n;
    int part;
    for (i = 0; i < g->n_pair + g->n_tensor; i++) {
        if (i < g->n_pair) {
            const gpti_meta_pair *x = &g->pair[i];
            const uint64_t about[4] = { x->type, x->elem, x->count, x->type == GPTI_GGUF_STRING ? 0 : x->v.u };
            h = gpti_digest(h, x->key.p, x->key.n);
            for (n = 0; n < 4; n++) h = gpti_digest(h + about[n], "", 0);
            if (x->type == GPTI_GGUF_STRING) h = gpti_digest(h, x->v.s.p, x->v.s.n);
            part = 0; offset = x->offset; size = x->type == GPTI_GGUF_ARRAY ? x->bytes : 0;
        } else {
            const gpti_tensor *x = &g->tensor[i - g->n_pair];
            h = gpti_digest(gpti_digest(h, x->name.p, x->name.n), x->fmt->name, strlen(x->fmt->name));
            for (n = 0; n < 4; n++) h = gpti_digest(h + x->ne[n], "", 0);
            part = x->part; offset = x->offset; size = x->size;
        }
        n = (size_t)(size < 2 * END ? size : (uint64_t)END);
        GPTI_TRY(gpti_source_read(&g->part[part], offset, ends, n, err));
        if (size > n) {
            GPTI_TRY(gpti_source_read(&g->part[part], offset + size - END, ends + END, END, err));
            n = 2 * END;
        }
        h = gpti_digest(h, ends, n);
    }
    *out = h;
    return GPT_OK;
}

/* A zeroed one and a second close are fine. */
static void gpti_gguf_close(gpti_gguf *g, const gpti_mem *mem) {
    gpti_text_block *block, *next;
    for (block = g->text; block; block = next) {
        next = block->next;
        gpti_free(mem, block);
    }
    gpti_free(mem, g->pair);
    gpti_free(mem, g->tensor);
    memset(g, 0, sizeof *g);
}

/* Read and check the headers of a model, given its parts in order. They must stay until gpti_gguf_close,
 * what they read from as long as arrays and tensors are asked for. On failure g is closed. */
static gpt_result gpti_gguf_open(gpti_gguf *g, gpti_source *parts, int n_part, const gpti_mem *mem, gpt_error *err) {
    gpt_result r = GPT_OK;
    uint32_t all = UINT32_MAX;
    char msg[192];
    int i;
    memset(g, 0, sizeof *g);
    g->part = parts; g->n_part = n_part; g->mem = mem;
    for (i = n_part - 1; i >= 0 && !r; i--) {   /* part 0 last: the model's metadata is in it */
        if (parts[i].r.size <= INT64_MAX) r = gpti_gguf_read_part(g, i, &all, err);
        else r = gpti_fail(err, GPT_E_FORMAT, "a file of more than 2^63 bytes");
        if (!r || !err || n_part == 1) continue;
        memcpy(msg, err->msg, sizeof msg);
        gpti_fail(err, r, "part %d of %d: %s", i + 1, n_part, msg);
    }
    if (!r && all != UINT32_MAX && all != g->n_tensor)
        r = gpti_fail(err, GPT_E_FORMAT, "split.tensors.count: expected the %llu tensors there are, file has %llu",
            (gpti_ull)g->n_tensor, (gpti_ull)all);
    if (!r) r = gpti_gguf_check_tensors(g, err);
    if (r) gpti_gguf_close(g, mem);
    return r;
}

/* ======================================================================
 * [TOKENIZER] Text to token ids and back
 * ==================================================================== */
/* Four families: byte-level BPE ("gpt2"), SentencePiece BPE ("llama"), Unigram ("t5") and WordPiece ("bert"). Text
 * is cut:
 *     special tokens  ->  fragments between them  ->  words  ->  tokens of a word
 * Every stage is a loop over the text from left to right: no recursion, n log n at worst, total on
 * any bytes. Tokens are kept as the raw bytes they stand for (the byte alphabet of GPT-2 and
 * SentencePiece's U+2581 are undone once, when the vocabulary is read), so words are matched where
 * they lie and a token's piece of text is simply its bytes. */

/* Length in bytes of the character at p, n >= 1 bytes before the end; *cp gets its code point. A
 * byte that begins no well-formed character (RFC 3629: no surrogates, nothing overlong) is a
 * character by itself, U+FFFD of length 1. */
static size_t gpti_utf8(const char *p, size_t n, uint32_t *cp) {
    const unsigned char *s = (const unsigned char *)p;
    uint32_t c = s[0];
    size_t len, i;
    *cp = c;
    if (c < 0x80) return 1;
    len = (size_t)2 + (c >= 0xE0) + (c >= 0xF0);
    *cp = 0xFFFD;
    if (c < 0xC2 || c > 0xF4 || len > n) return 1;
    if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F)) return 1;
    if ((c == 0xF0 && s[1] < 0x90) || (c == 0xF4 && s[1] > 0x8F)) return 1;
    c &= 0xFFu >> (len + 1);
    for (i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 1;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    *cp = c;
    return len;
}

/* Length of the character that ends at p, n >= 1 bytes behind the start: gpti_utf8 backwards. */
static size_t gpti_utf8_back(const char *p, size_t n) {
    size_t len = 1;
    uint32_t cp;
    while (len < n && len < 4 && ((unsigned char)*(p - len) & 0xC0) == 0x80) len++;
    return gpti_utf8(p - len, len, &cp) == len ? len : 1;
}

/* General categories of code points, and SPACE: White_Space. */
enum { GPTI_UNI_OTHER, GPTI_UNI_LU, GPTI_UNI_LL, GPTI_UNI_LT, GPTI_UNI_LM, GPTI_UNI_LO, GPTI_UNI_M, GPTI_UNI_N,
       GPTI_UNI_P, GPTI_UNI_S, GPTI_UNI_SPACE, GPTI_UNI_PAIRS = 15 };
enum { GPTI_UNI_RUNS = 2583 };
enum { GPTI_UNI_PAGES = 0x110000 >> 8 };

typedef struct gpti_unicode {           /* the table under "data", unpacked for look-up */
    uint32_t run[GPTI_UNI_RUNS];        /* first code point << 4 | class */
    uint16_t page[GPTI_UNI_PAGES + 1];  /* the run that holds the first code point of each 256 */
} gpti_unicode;

static const char *gpti_unicode_row(unsigned i);

static void gpti_unicode_init(gpti_unicode *u) {
    const char *p = "";
    uint32_t cp = 0, page = 0, row = 0, i, n;
    for (i = 0; i < GPTI_UNI_RUNS; i++) {
        if (!*p) p = gpti_unicode_row(row++);
        u->run[i] = cp << 4 | (uint32_t)(*p++ - 'a');
        for (n = 0; *p >= '0' && *p <= '9'; p++) n = n * 10 + (uint32_t)(*p - '0');
        cp += n ? n : 1;
        while (page << 8 < cp) u->page[page++] = (uint16_t)i;
    }
    u->page[GPTI_UNI_PAGES] = GPTI_UNI_RUNS - 1;
}

static unsigned gpti_unicode_class(const gpti_unicode *u, uint32_t cp) {
    uint32_t lo = u->page[cp >> 8], hi = u->page[(cp >> 8) + 1], mid, kind;
    while (lo < hi) {                   /* the last run that begins at or before cp */
        mid = (lo + hi + 1) / 2;
        if (u->run[mid] >> 4 <= cp) lo = mid; else hi = mid - 1;
    }
    kind = u->run[lo] & 15;
    if (kind == GPTI_UNI_PAIRS) kind = (cp - (u->run[lo] >> 4)) & 1 ? GPTI_UNI_LL : GPTI_UNI_LU;
    return kind;
}

/* What WordPiece does to characters, see the table under "data". */
typedef struct gpti_char_run { uint32_t first, n, kind, to[3]; } gpti_char_run;
static uint32_t gpti_fold_digit(size_t i);
static uint32_t gpti_fold_end(int table);       /* runs up to the end of each of the four tables */
enum { GPTI_CHAR_CLEAN, GPTI_CHAR_FLIP, GPTI_CHAR_STRIP, GPTI_CHAR_LOWER };

static uint32_t gpti_fold_number(size_t *at) {
    uint32_t v = 0, d;
    do v = v * 31 + (d = gpti_fold_digit((*at)++)) % 31; while (d >= 31);
    return v;
}
static void gpti_fold_init(gpti_char_run *f) {
    size_t at = 0;
    uint32_t i = 0, j, n, end, last, u;
    int table;
    for (table = 0; table < 4; table++) for (end = last = 0; i < gpti_fold_end(table); i++, f++) {
        memset(f, 0, sizeof *f);
        f->first = end + gpti_fold_number(&at);
        n = gpti_fold_number(&at);
        f->kind = n % 6; f->n = n / 6 + 1;
        for (j = 0; f->kind && j < (f->kind == 5 ? f->n : 1); j++) {
            u = gpti_fold_number(&at);
            f->to[j] = last = u & 1 ? last - (u + 1) / 2 : last + u / 2;
        }
        end = f->first + (f->kind == 5 ? 1 : f->n);
    }
}

/* What a table makes of cp: to [3], and how many there are of them; -1: cp is not in it. */
static int gpti_fold_of(const gpti_char_run *f, int table, uint32_t cp, uint32_t to[3]) {
    uint32_t lo = table ? gpti_fold_end(table - 1) : 0, hi = gpti_fold_end(table), mid, i;
    to[0] = cp;
    while (hi - lo > 1) {                       /* the last run that begins at or before cp */
        mid = (lo + hi) / 2;
        if (f[mid].first <= cp) lo = mid; else hi = mid;
    }
    i = cp - f[lo].first;
    if (cp < f[lo].first || i >= (f[lo].kind == 5 ? 1 : f[lo].n)) return -1;
    memcpy(to, f[lo].to, sizeof f[lo].to);
    switch (f[lo].kind) {
        case 0:  return 0;
        case 2:  to[0] += i; return 1;
        case 3:  to[0] += 32 * (i & 1); return 1;
        case 4:  to[0] = f[lo].first + (i | 1); return 1;
        case 5:  return (int)f[lo].n;
        default: return 1;
    }
}

/* ---- Pre-tokenizer patterns: a small regular expression matcher ---- */

/* Byte-level BPE merges inside words only, and what a word is differs from model to model. A table
 * (under "data") keeps each family's own expressions, in the order in which they are applied: every
 * match becomes a piece, and so does every stretch between two matches; the next expression then
 * cuts each piece further. The matcher knows exactly what these expressions need:
 *     alternatives  a|b    sequences of  c  c?  c*  c+  c{m}  c{m,n}  (greedy, with backtracking)
 *     c: a character, \r \n \t \s \p{L} \p{Lu} ... \x{hex}, a class [a-z\s] or [^...]
 *     (?:ab|c) (?i:ab|c) and the same with ?: literals only, never re-tried
 *     (?!\S)   $ (end of the piece)
 * A class that repeats without limit in front of an alternative is not scanned again from inside a
 * run that has failed, so a piece of any content is cut in linear time. */
typedef struct gpti_pretokenizer {
    const char *names;
    int         bos, whole;             /* BOS is the default; a word that is a token is not merged */
    const char *pass[6];                /* the expressions */
} gpti_pretokenizer;
enum { GPTI_N_PRE = 32 };
static size_t gpti_list_pretokenizers(gpti_pretokenizer out[GPTI_N_PRE]);

enum { GPTI_RX_CLASS, GPTI_RX_LITERAL, GPTI_RX_WORDS, GPTI_RX_NOT_S, GPTI_RX_EOP };
/* The most that a row of the table needs; a test compares. */
enum { GPTI_RX_ITEMS = 48, GPTI_RX_CLASSES = 24, GPTI_RX_RANGES = 128, GPTI_RX_ALTS = 24,
       GPTI_RX_PASSES = 6, GPTI_RX_SEQ = 8 };

typedef struct gpti_rx_class {          /* a set of code points */
    uint32_t ascii[4];                  /* the answer for code points below 128 */
    uint16_t kinds, range, n_range;     /* bit set of GPTI_UNI_*; ranges [lo, hi] in rx.range */
    uint8_t  negate;
} gpti_rx_class;

typedef struct gpti_rx_item {
    uint8_t     kind, cls, fold;        /* CLASS: index; WORDS: compare without case */
    uint32_t    min, max, literal;      /* max = UINT32_MAX: no limit */
    const char *words;                  /* WORDS: behind "(?:" in the pattern */
} gpti_rx_item;

typedef struct gpti_rx {                /* the expressions of one row */
    gpti_rx_item  item[GPTI_RX_ITEMS];
    gpti_rx_class cls[GPTI_RX_CLASSES];
    uint32_t      range[GPTI_RX_RANGES][2];
    uint16_t      alt[GPTI_RX_ALTS + 1];        /* first item of each alternative, and the end */
    uint16_t      pass[GPTI_RX_PASSES + 1];     /* first alternative of each pass, and the end */
    unsigned      n_item, n_cls, n_range, n_alt, n_pass;
} gpti_rx;

static int gpti_rx_in(const gpti_rx *rx, const gpti_rx_class *c, const gpti_unicode *u, uint32_t cp) {
    unsigned i, in = c->kinds ? (unsigned)c->kinds >> gpti_unicode_class(u, cp) & 1u : 0u;
    for (i = c->range; !in && i < (unsigned)c->range + c->n_range; i++)
        in = cp >= rx->range[i][0] && cp <= rx->range[i][1];
    return (int)(in ^ c->negate);
}

/* One character of a pattern, plain or escaped; *kinds gets the classes of \s and \p{..}, or 0. */
static const char *gpti_rx_char(const char *p, uint32_t *cp, unsigned *kinds) {
    static const char names[][3] = { "", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S" };
    unsigned i;
    *kinds = 0; *cp = (unsigned char)*p++;
    if (*cp != '\\') return p;
    *cp = (unsigned char)*p++;
    if (*cp == 's') *kinds = 1u << GPTI_UNI_SPACE;
    if (*cp == 'r') *cp = '\r';
    if (*cp == 'n') *cp = '\n';
    if (*cp == 't') *cp = '\t';
    if (*cp == 'p') {                   /* \p{L} is every class whose name begins with L */
        for (i = 1; i < sizeof names / sizeof *names; i++)
            if (p[1] == names[i][0] && (p[2] == '}' || p[2] == names[i][1])) *kinds |= 1u << i;
        p += p[2] == '}' ? 3 : 4;
    }
    if (*cp == 'x') {
        for (*cp = 0, p++; *p != '}'; p++)
            *cp = *cp << 4 | (uint32_t)(*p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10);
        p++;
    }
    return p;
}

static const char *gpti_rx_number(const char *p, uint32_t *n) {
    for (*n = 0; *p >= '0' && *p <= '9'; p++) *n = *n * 10 + (uint32_t)(*p - '0');
    return p;
}

/* Reads "[...]", "\s" or "\p{..}" at p into a new class. */
static const char *gpti_rx_class_at(gpti_rx *rx, const char *p, const gpti_unicode *u) {
    gpti_rx_class *c = &rx->cls[rx->n_cls++];
    unsigned kinds, set = *p == '[';
    uint32_t lo, hi;
    memset(c, 0, sizeof *c);
    c->range = (uint16_t)rx->n_range;
    if (set) p++;
    if (set && *p == '^') { c->negate = 1; p++; }
    do {
        p = gpti_rx_char(p, &lo, &kinds);
        c->kinds = (uint16_t)(c->kinds | kinds);
        if (kinds) continue;
        hi = lo;
        if (*p == '-' && p[1] != ']') p = gpti_rx_char(p + 1, &hi, &kinds);
        rx->range[rx->n_range][0] = lo;
        rx->range[rx->n_range++][1] = hi;
        c->n_range++;
    } while (set && *p != ']');
    for (lo = 0; lo < 128; lo++)
        if (gpti_rx_in(rx, c, u, lo)) c->ascii[lo >> 5] |= 1u << (lo & 31);
    return p + set;
}

/* Compiles one expression as the next pass. The patterns are ours and correct; a test compiles them all. */
static void gpti_rx_compile(gpti_rx *rx, const char *p, const gpti_unicode *u) {
    unsigned kinds;
    rx->pass[rx->n_pass++] = (uint16_t)rx->n_alt;
    rx->alt[rx->n_alt++] = (uint16_t)rx->n_item;
    while (*p) {
        gpti_rx_item *it = &rx->item[rx->n_item];
        if (*p == '|') { rx->alt[rx->n_alt++] = (uint16_t)rx->n_item; p++; continue; }
        memset(it, 0, sizeof *it);
        it->min = it->max = 1;
        rx->n_item++;
        if (*p == '$') { it->kind = GPTI_RX_EOP; p++; continue; }
        if (*p == '(' && p[2] == '!') { it->kind = GPTI_RX_NOT_S; p += 6; continue; }
        if (*p == '(') {
            it->kind = GPTI_RX_WORDS; it->fold = p[2] == 'i'; it->words = p += it->fold ? 4 : 3;
            while (*p++ != ')') { }
        } else if (*p == '[' || (*p == '\\' && (p[1] == 's' || p[1] == 'p'))) {
            it->kind = GPTI_RX_CLASS; it->cls = (uint8_t)rx->n_cls;
            p = gpti_rx_class_at(rx, p, u);
        } else {
            it->kind = GPTI_RX_LITERAL;
            p = gpti_rx_char(p, &it->literal, &kinds);
        }
        if (*p == '?' || *p == '*') it->min = 0;
        if (*p == '*' || *p == '+') it->max = UINT32_MAX;
        if (*p == '?' || *p == '*' || *p == '+') p++;
        if (*p == '{') {
            p = gpti_rx_number(p + 1, &it->min);
            it->max = it->min;
            if (*p == ',') p = gpti_rx_number(p + 1, &it->max);
            p++;
        }
    }
    rx->alt[rx->n_alt] = (uint16_t)rx->n_item; rx->pass[rx->n_pass] = (uint16_t)rx->n_alt;
}

/* Length of the first of the words "ab|c)" that p begins with, or 0. Under (?i:) U+017F is an s. */
static size_t gpti_rx_words(const char *w, const char *p, const char *end, int fold) {
    const char *s = p;
    for (;;) {
        uint32_t cp = 0;
        size_t len = s < end ? gpti_utf8(s, (size_t)(end - s), &cp) : 0;
        if (fold && cp == 0x17F) cp = 's';
        if (fold && cp >= 'A' && cp <= 'Z') cp += 32;
        if (len && cp == (unsigned char)*w) {
            s += len;
            if (*++w != '|' && *w != ')') continue;
            return (size_t)(s - p);
        }
        while (*w != '|' && *w != ')') w++;
        if (*w++ == ')') return 0;
        s = p;
    }
}

/* The end of an item's repetition from p on, as far as it goes; *low is where it may end at the
 * least, NULL when the item does not match. */
static const char *gpti_rx_repeat(const gpti_rx *rx, const gpti_rx_item *it, const gpti_unicode *u,
                                  const char *p, const char *end, const char **low) {
    const gpti_rx_class *c = &rx->cls[it->cls];
    uint32_t count = 0, cp;
    size_t len;
    *low = it->min ? NULL : p;
    if (it->kind == GPTI_RX_WORDS) {
        len = gpti_rx_words(it->words, p, end, it->fold);
        if (len) *low = p + len;
        return p + len;
    }
    if (it->kind == GPTI_RX_NOT_S || it->kind == GPTI_RX_EOP) {
        cp = 0;                         /* no space */
        if (p < end && it->kind == GPTI_RX_NOT_S) gpti_utf8(p, (size_t)(end - p), &cp);
        if (p == end || gpti_unicode_class(u, cp) == GPTI_UNI_SPACE) *low = p;
        return p;
    }
    while (count < it->max && p < end) {
        cp = (unsigned char)*p;
        len = cp < 128 ? 1 : gpti_utf8(p, (size_t)(end - p), &cp);
        if (it->kind == GPTI_RX_LITERAL) { if (cp != it->literal) break; }
        else if (cp < 128 ? !(c->ascii[cp >> 5] >> (cp & 31) & 1) : !gpti_rx_in(rx, c, u, cp)) break;
        p += len;
        if (++count == it->min) *low = p;
    }
    return p;
}

/* Matches alternative a at p, inside a piece that ends at end: the end of the match, or NULL. On
 * failure *ran is how far an unlimited class in front of the alternative reached, else p. */
static const char *gpti_rx_match(const gpti_rx *rx, unsigned a, const gpti_unicode *u, const char *p,
                                 const char *end, const char **ran) {
    const char *low[GPTI_RX_SEQ], *top[GPTI_RX_SEQ];    /* of each item: gpti_rx_repeat */
    unsigned first = rx->alt[a], n = rx->alt[a + 1] - first, i = 0;
    *ran = p;
    while (i < n) {
        const gpti_rx_item *it = &rx->item[first + i];
        p = top[i] = gpti_rx_repeat(rx, it, u, p, end, &low[i]);
        if (i == 0 && it->kind <= GPTI_RX_LITERAL && it->max == UINT32_MAX && it->min <= 1) *ran = p;
        if (low[i]) { i++; continue; }
        do {                            /* the nearest earlier repetition that can give a character back */
            if (i == 0) return NULL;
            i--;
        } while (top[i] <= low[i]);
        p = top[i] -= gpti_utf8_back(top[i], (size_t)(top[i] - low[i]));
        i++;
    }
    return p;
}

typedef struct gpti_cutter {            /* a text being cut into words */
    const gpti_rx *rx;
    const gpti_unicode *u;
    unsigned depth;                     /* the pass that has a piece to cut */
    struct {
        const char *p, *end;            /* what is left of the piece */
        const char *match, *match_end;  /* found, but the stretch in front of it went out first */
        const char *dead[GPTI_RX_ALTS]; /* per alternative: it cannot match before this place */
    } level[GPTI_RX_PASSES];
} gpti_cutter;

static void gpti_cut_level(gpti_cutter *c, unsigned depth, const char *p, const char *end) {
    unsigned a;
    c->depth = depth; c->level[depth].p = p; c->level[depth].end = end; c->level[depth].match = NULL;
    for (a = c->rx->pass[depth]; a < c->rx->pass[depth + 1]; a++) c->level[depth].dead[a] = p;
}

static void gpti_cut_begin(gpti_cutter *c, const gpti_rx *rx, const gpti_unicode *u, const char *p, const char *end) {
    c->rx = rx; c->u = u;
    gpti_cut_level(c, 0, p, end);
}

/* The next piece of the current pass: a match, or the stretch in front of it; 0 when used up. */
static int gpti_cut_piece(gpti_cutter *c, const char **p, const char **end) {
    const gpti_rx *rx = c->rx;
    unsigned d = c->depth, a;
    const char *s = c->level[d].p, *stop = c->level[d].end, *m = NULL, *ran;
    uint32_t cp;
    *p = s;
    if (c->level[d].match) {
        *p = c->level[d].match; *end = c->level[d].p = c->level[d].match_end;
        c->level[d].match = NULL;
        return 1;
    }
    if (s == stop) return 0;
    for (; s < stop; s += gpti_utf8(s, (size_t)(stop - s), &cp)) {
        for (a = rx->pass[d]; a < rx->pass[d + 1]; a++) {
            if (s < c->level[d].dead[a]) continue;
            m = gpti_rx_match(rx, a, c->u, s, stop, &ran);
            if (m > s) break;
            c->level[d].dead[a] = ran;
        }
        if (a < rx->pass[d + 1]) break;
    }
    if (s > *p && s < stop) {
        c->level[d].match = s; c->level[d].match_end = m;
    }
    *end = c->level[d].p = s > *p || s == stop ? s : m;
    return 1;
}

/* The next word: a piece of the last pass. 0 at the end of the text. */
static int gpti_cut_word(gpti_cutter *c, const char **p, const char **end) {
    for (;;) {
        if (gpti_cut_piece(c, p, end)) {
            if (c->depth + 1 == c->rx->n_pass) return 1;
            gpti_cut_level(c, c->depth + 1, *p, *end);
        } else {
            if (c->depth == 0) return 0;
            c->depth--;
        }
    }
}

/* ---- The vocabulary ---- */

enum {                                  /* tokenizer.ggml.token_type; marks are in the same byte */
    GPTI_TOKEN_NORMAL = 1, GPTI_TOKEN_UNKNOWN, GPTI_TOKEN_CONTROL, GPTI_TOKEN_USER_DEFINED,
    GPTI_TOKEN_UNUSED, GPTI_TOKEN_BYTE, GPTI_TOKEN_TYPE /* the mask of these */,
    GPTI_TOKEN_END    = 8,              /* ends a text or an answer */
    GPTI_TOKEN_WHOLE  = 16,             /* a word with its text becomes this token, without merging */
    GPTI_TOKEN_RAW    = 32,             /* BPE: not spelled in byte letters, so no text becomes it */
    GPTI_TOKEN_RSTRIP = 64,             /* swallows the white space behind it */
    GPTI_TOKEN_MARKER = 128             /* of a chat template: no message's content becomes it */
};
/* What encoding is asked for; as GPT_TOKENIZE_*. */
enum { GPTI_TOK_BOS = 1, GPTI_TOK_SPECIAL = 2, GPTI_TOK_CONTINUE = 4, GPTI_TOK_NO_EOS = 8 };
enum {
    GPTI_TOK_SPAN = 256,                /* bytes; longer tokens have an id but no text becomes them */
    GPTI_TOK_PROBES = 512,              /* buckets a look-up may visit until a file counts as hostile */
    GPTI_TOK_GROW = 11                  /* a replacement is at most so many times what it replaces, */
};                                      /* as in NFKC: U+FDFA's 3 bytes become 33 */

enum { GPTI_TOK_NONE, GPTI_TOK_BPE, GPTI_TOK_SPM, GPTI_TOK_UNIGRAM, GPTI_TOK_WORDPIECE };
typedef struct gpti_family {            /* what the families differ in */
    char        name[16];               /* tokenizer.ggml.model */
    signed char kind;                   /* GPTI_TOK_* */
    signed char letters;                /* tokens are spelled in GPT-2's byte letters, merges are listed; */
                                        /* 0: bytes as <0x41>, spaces as U+2581, scores */
    signed char add_bos, add_eos, add_space;    /* unless the file says otherwise */
    signed char bos, eos, unk;          /* ids, unless the file has its own; -1 = none */
} gpti_family;
static const gpti_family gpti_families[] = {
    { "gpt2",          GPTI_TOK_BPE,     1, 0, 0, 0, -1, -1, -1 },
    { "llama",         GPTI_TOK_SPM,     0, 1, 0, 1,  1,  2,  0 },
    { "t5",            GPTI_TOK_UNIGRAM, 0, 0, 1, 1, -1,  1,  2 },
    { "bert",          GPTI_TOK_WORDPIECE, 0, 1, 1, 1, 101, 102, 100 },
    { "none no_vocab", GPTI_TOK_NONE,    0, 0, 0, 0, -1, -1, -1 }
};

typedef struct gpti_vocab {             /* what the file says; borrowed by gpti_tokenizer_init */
    gpti_str        model, pre;         /* tokenizer.ggml.model; .pre, or the caller's choice */
    size_t          n_token, n_merge;
    const gpti_str *token, *merge;
    const float    *score;              /* NULL when the file has none */
    const int32_t  *type;               /* the same */
    gpti_str        charsmap;           /* .precompiled_charsmap: SentencePiece's normaliser */
    gpti_str        chat_template, name;        /* tokenizer.chat_template; general.name */
    gpt_token       bos, eos, eot, eom, unk, cls, sep;  /* -1 = absent */
    int             add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;   /* the same */
    int             lowercase, strip_accents;   /* the same */
} gpti_vocab;

typedef struct gpti_merge { gpt_token left, right, id; uint32_t rank; } gpti_merge;   /* id < 0: free */

typedef struct gpti_sorted {            /* tokens of at most GPTI_TOK_SPAN bytes, in their order */
    gpt_token *id;
    uint32_t   n, first[257];           /* where the tokens of each first byte begin, and the end */
} gpti_sorted;

typedef struct gpti_tokenizer {         /* read-only after init, shared by threads; owns one block */
    int            family, letters;     /* GPTI_TOK_*; as in gpti_family */
    int            add_bos, add_eos, add_space_prefix, merge_spaces;
    int            words_begin_at_spaces;       /* no token goes on over a space */
    int            whole_words;         /* BPE: a word that is a token is not merged */
    gpt_token      bos, eos, eot, eom, unk, n_token;
    gpt_token      filler;              /* stands for what no token spells; -1: nothing does */
    gpt_token      byte[256];           /* the token of a byte, or -1 */
    void          *block;
    char          *text;                /* the tokens' bytes, one after the other */
    uint32_t      *at;                  /* [n_token + 1] offset of each token in text */
    uint8_t       *type;                /* [n_token] GPTI_TOKEN_* and marks */
    float         *score;               /* [n_token] SPM and Unigram */
    gpt_token     *text_bucket;         /* [n_text_bucket, a power of two] hash of the texts, -1 = free */
    gpti_merge    *merge_bucket;        /* [n_merge_bucket] hash of the pairs, BPE */
    gpti_sorted    special, piece;      /* found by text alone; the pieces of Unigram and WordPiece */
    gpti_char_run *fold;                /* WordPiece */
    int            lowercase, strip_accents;    /* the same */
    char          *charsmap;            /* [n_charsmap] */
    uint32_t       n_text_bucket, n_merge_bucket, n_charsmap;
    uint32_t       max_len;             /* bytes of the longest plain token, <= GPTI_TOK_SPAN */
    float          unk_score;           /* Unigram: ten below the lowest */
    gpti_unicode   unicode;
    gpti_rx        rx;
} gpti_tokenizer;

static gpti_str gpti_tokenizer_piece(const gpti_tokenizer *t, gpt_token id) {
    gpti_str s = { "", 0 };
    if (id < 0 || id >= t->n_token) return s;
    s.p = t->text + t->at[id]; s.n = t->at[id + 1] - t->at[id];
    return s;
}

static int gpti_tokenizer_type(const gpti_tokenizer *t, gpt_token id) {
    return id < 0 || id >= t->n_token ? 0 : t->type[id] & GPTI_TOKEN_TYPE;
}

/* Tokens that are no part of a text: control tokens and the unknown token. */
static int gpti_tokenizer_is_control(const gpti_tokenizer *t, gpt_token id) {
    int type = gpti_tokenizer_type(t, id);
    return type == GPTI_TOKEN_CONTROL || type == GPTI_TOKEN_UNKNOWN;
}

static int gpti_tokenizer_is_special(const gpti_tokenizer *t, gpt_token id) {
    return gpti_tokenizer_is_control(t, id) || gpti_tokenizer_type(t, id) == GPTI_TOKEN_USER_DEFINED;
}

static int gpti_tokenizer_is_end(const gpti_tokenizer *t, gpt_token id) {
    return id >= 0 && id < t->n_token && (t->type[id] & GPTI_TOKEN_END) != 0;
}

static uint32_t gpti_hash(const char *p, size_t n, uint32_t seed) {   /* FNV-1a with a final mix */
    uint32_t h = 2166136261u ^ seed;
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 16777619u;
    h ^= h >> 15;
    h *= 0x2C1B3C6Du;
    return h ^ h >> 13;
}

/* The bucket of a text among the special (control, unknown, user-defined) or the plain tokens: its
 * own, or a free one; n_text_bucket when too many other texts are in the way. */
static uint32_t gpti_text_bucket(const gpti_tokenizer *t, const char *p, size_t n, int special) {
    uint32_t mask = t->n_text_bucket - 1, probe;
    uint32_t i = gpti_hash(p, n, special ? 0x9E3779B9u : 0) & mask;
    for (probe = 0; probe < GPTI_TOK_PROBES && probe <= mask; probe++, i = (i + 1) & mask) {
        gpt_token id = t->text_bucket[i];
        uint32_t at;
        if (id == -1) return i;
        if ((id < 0) != special) continue;
        id = id < 0 ? -2 - id : id;
        at = t->at[id];
        if (t->at[id + 1] - at == n && memcmp(t->text + at, p, n) == 0) return i;
    }
    return t->n_text_bucket;
}

static gpt_token gpti_token_find(const gpti_tokenizer *t, const char *p, size_t n, int special) {
    uint32_t i = n ? gpti_text_bucket(t, p, n, special) : t->n_text_bucket;
    gpt_token id = i < t->n_text_bucket ? t->text_bucket[i] : -1;
    return id < -1 ? -2 - id : id;
}

/* The token with exactly this text (as gpti_tokenizer_piece gives it), special ones first, or -1. */
static gpt_token gpti_tokenizer_find(const gpti_tokenizer *t, const char *text, size_t n) {
    gpt_token id;
    if (!t->n_text_bucket) return -1;
    id = gpti_token_find(t, text, n, 1);
    if (id < 0) id = gpti_token_find(t, text, n, 0);
    return id < 0 && n == 1 ? t->byte[(unsigned char)*text] : id;
}

static gpti_merge *gpti_merge_bucket(const gpti_tokenizer *t, gpt_token left, gpt_token right) {
    uint32_t mask = t->n_merge_bucket - 1, probe;
    uint32_t h = (uint32_t)left * 0x9E3779B1u ^ (uint32_t)right * 0x85EBCA77u;
    h ^= h >> 15;
    h *= 0x2C1B3C6Du;
    h ^= h >> 12;
    for (probe = 0; probe < GPTI_TOK_PROBES && probe <= mask; probe++, h++) {
        gpti_merge *m = &t->merge_bucket[h & mask];
        if (m->id < 0 || (m->left == left && m->right == right)) return m;
    }
    return NULL;
}

/* Undoes GPT-2's byte alphabet, in which every byte is a printable character: those of Latin-1 stand
 * for themselves, the other 68 bytes follow in order from U+0100 (0 to 32, 127 to 160, 173). What is
 * not of that alphabet stays as it is and sets *raw. out has room for n bytes; returns its length. */
static size_t gpti_bytes_of_bpe(char *out, const char *p, size_t n, int *raw) {
    size_t i = 0, len, o = 0;
    uint32_t cp;
    for (; i < n; i += len) {
        len = gpti_utf8(p + i, n - i, &cp);
        if (cp >= 256 && cp < 256 + 68) {
            cp -= cp < 256 + 33 ? 256 : 256 + 33 - 127;
            if (cp > 160) cp = 173;
        } else if (!((cp > 32 && cp < 127) || (cp > 160 && cp < 256 && cp != 173))) {
            memcpy(out + o, p + i, len);
            o += len;
            *raw = 1;
            continue;
        }
        out[o++] = (char)(unsigned char)cp;
    }
    return o;
}

/* U+2581, SentencePiece's visible space, becomes a space. */
static size_t gpti_bytes_of_spm(char *out, const char *p, size_t n) {
    size_t i, o = 0;
    for (i = 0; i < n; i++) {
        if (n - i > 2 && memcmp(p + i, "\xE2\x96\x81", 3) == 0) { out[o++] = ' '; i += 2; }
        else out[o++] = p[i];
    }
    return o;
}

static int gpti_byte_token(gpti_str s) {        /* the byte that "<0x41>" names, or -1 */
    static const char digits[] = "00112233445566778899AaBbCcDdEeFf";
    const char *hi, *lo;
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    hi = (const char *)memchr(digits, s.p[3], 32);
    lo = (const char *)memchr(digits, s.p[4], 32);
    return hi && lo ? (int)((hi - digits) / 2 * 16 + (lo - digits) / 2) : -1;
}

/* Is s one of the words of a list that spaces separate? */
static int gpti_in_list(const char *list, gpti_str s) {
    size_t n;
    for (; *list; list += n + (list[n] == ' ')) {
        n = strcspn(list, " ");
        if (n == s.n && memcmp(list, s.p, n) == 0) return 1;
    }
    return 0;
}

static int gpti_names(gpti_str s, const char *word) {     /* does s contain the word, in capitals or not? */
    size_t i, k, n = strlen(word);
    for (i = 0; i + n <= s.n; i++) {
        for (k = 0; k < n && (s.p[i + k] | 32) == word[k]; k++) { }
        if (k == n) return 1;
    }
    return 0;
}

static void gpti_tokenizer_free(gpti_tokenizer *t, const gpti_mem *mem) {
    gpti_free(mem, t->block);
    memset(t, 0, sizeof *t);
}

/* Lays out what the tokenizer owns; with a measuring arena this only counts. */
static void gpti_tokenizer_layout(gpti_tokenizer *t, gpti_arena *a, size_t n_text, size_t n_special, size_t n_piece) {
    size_t n = (size_t)t->n_token;
    t->text = (char *)gpti_carve(a, n_text, 1);
    t->at = (uint32_t *)gpti_carve(a, n + 1, sizeof *t->at);
    t->type = (uint8_t *)gpti_carve(a, n, 1);
    t->score = (float *)gpti_carve(a, n, sizeof *t->score);
    t->text_bucket = (gpt_token *)gpti_carve(a, t->n_text_bucket, sizeof *t->text_bucket);
    t->merge_bucket = (gpti_merge *)gpti_carve(a, t->n_merge_bucket, sizeof *t->merge_bucket);
    t->special.id = (gpt_token *)gpti_carve(a, n_special, sizeof(gpt_token));
    t->piece.id = (gpt_token *)gpti_carve(a, n_piece, sizeof(gpt_token));
    t->charsmap = (char *)gpti_carve(a, t->n_charsmap, 1);
    t->fold = (gpti_char_run *)gpti_carve(a, t->family == GPTI_TOK_WORDPIECE ? gpti_fold_end(GPTI_CHAR_LOWER) : 0,
                                      sizeof *t->fold);
}

/* Tokens whose text ends a turn or a text whatever their type: a file that does not type one as
 * control is corrected, as a user's text must not be able to end a turn. Those of the second list
 * may be words of a text: they end it as control tokens only. */
static const char gpti_end_tokens[] = "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> "
    "<|calls|> <end_of_turn> <|endoftext|> <|eom_id|> <EOT> _<EOT> <|end_of_text|> <end_of_utterance> "
    "<turn|> <\xEF\xBD\x9C" "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C> "
    "<|END_OF_TURN_TOKEN|> <|eot|> <|eom|>";
static const char gpti_control_ends[] = "</s> <eos> [EOS] [EOT]";

/* A special token's id: the file's, or the family's where that is absent or out of range, as in
 * some published files; -1 where neither is a token. */
static gpt_token gpti_special_id(gpt_token id, gpt_token preset, size_t n_token) {
    if (id < 0 || (size_t)id >= n_token) id = preset;
    return id >= 0 && (size_t)id < n_token ? id : -1;
}

/* Step 1 of init: family, special ids and switches. */
static gpt_result gpti_tokenizer_head(gpti_tokenizer *t, const gpti_vocab *v, gpt_error *err) {
    const size_t n_row = sizeof gpti_families / sizeof *gpti_families;
    const gpti_family *row = gpti_families;
    char shown[GPTI_SHOWN];
    int is_bert;
    while (row < gpti_families + n_row && !gpti_in_list(row->name, v->model)) row++;
    if (row == gpti_families + n_row)
        return gpti_fail(err, GPT_E_UNSUPPORTED, "tokenizer.ggml.model '%s' is not supported (gpt2, llama, t5, bert "
            "are)", gpti_show(shown, v->model));
    if (v->n_token > 0x7FFFFFF0u || v->n_merge > 0x7FFFFFF0u)
        return gpti_fail(err, GPT_E_FORMAT, "tokenizer.ggml.tokens: too many tokens or merges");
    t->family = row->kind; t->letters = row->letters;
    t->n_token = t->family == GPTI_TOK_NONE ? 0 : (gpt_token)v->n_token;
    is_bert = t->family == GPTI_TOK_WORDPIECE;
    t->bos = gpti_special_id(is_bert && v->bos < 0 ? v->cls : v->bos, row->bos, (size_t)t->n_token);
    t->eos = gpti_special_id(is_bert && v->eos < 0 ? v->sep : v->eos, row->eos, (size_t)t->n_token);
    t->unk = gpti_special_id(v->unk, row->unk, (size_t)t->n_token);
    t->eot = gpti_special_id(v->eot, -1, (size_t)t->n_token);
    t->eom = gpti_special_id(v->eom, -1, (size_t)t->n_token);
    t->filler = t->letters ? -1 : t->unk;
    if (t->family == GPTI_TOK_NONE) return GPT_OK;
    t->add_bos = v->add_bos < 0 ? row->add_bos : v->add_bos != 0;
    t->add_eos = v->add_eos < 0 ? row->add_eos : v->add_eos != 0;
    t->add_space_prefix = !t->letters && (v->add_space_prefix < 0 ? row->add_space : v->add_space_prefix);
    t->merge_spaces = t->family == GPTI_TOK_UNIGRAM && v->remove_extra_whitespaces > 0;
    t->lowercase = v->lowercase != 0;           /* BERT's rule: accents go with the capitals */
    t->strip_accents = v->strip_accents < 0 ? t->lowercase : v->strip_accents;
    return GPT_OK;
}

/* Step 2: the pre-tokenizer of a byte-level BPE file. */
static gpt_result gpti_tokenizer_pre(gpti_tokenizer *t, const gpti_vocab *v, gpt_error *err) {
    gpti_pretokenizer rows[GPTI_N_PRE], *row = rows;
    const gpti_str name = v->pre.n ? v->pre : gpti_str_of("default");
    const size_t n_row = gpti_list_pretokenizers(rows);
    char shown[GPTI_SHOWN];
    int i;
    while (row < rows + n_row && !gpti_in_list(row->names, name)) row++;
    if (row == rows + n_row)
        return gpti_fail(err, GPT_E_UNSUPPORTED, "tokenizer.ggml.pre '%s' is not known; "
            "the load option 'pretokenizer' can choose another", gpti_show(shown, v->pre));
    t->whole_words = row->whole;
    if (v->add_bos < 0) t->add_bos = row->bos && t->bos >= 0;
    for (i = 0; i < GPTI_RX_PASSES && row->pass[i]; i++) gpti_rx_compile(&t->rx, row->pass[i], &t->unicode);
    return GPT_OK;
}

/* The type of a token and its marks: what the file says, with the faults of published files put
 * right. byte: the one that its text names, or -1. */
static unsigned gpti_token_marks(const gpti_tokenizer *t, const gpti_vocab *v, gpt_token id, int byte) {
    const gpti_str s = v->token[id];
    int32_t type = v->type ? v->type[id] : GPTI_TOKEN_NORMAL;
    int end;
    if (type < GPTI_TOKEN_NORMAL || type > GPTI_TOKEN_BYTE || (t->letters && type == GPTI_TOKEN_BYTE))
        type = GPTI_TOKEN_NORMAL;
    if (byte >= 0 && type == GPTI_TOKEN_NORMAL) type = GPTI_TOKEN_BYTE;
    if (id == t->unk && type == GPTI_TOKEN_NORMAL && !t->letters) type = GPTI_TOKEN_UNKNOWN;
    end = id == t->eos || id == t->eot || id == t->eom || gpti_in_list(gpti_end_tokens, s) ||
        (type == GPTI_TOKEN_CONTROL && gpti_in_list(gpti_control_ends, s));
    if (type != GPTI_TOKEN_UNKNOWN && (end || id == t->bos)) type = GPTI_TOKEN_CONTROL;
    if (type == GPTI_TOKEN_USER_DEFINED && s.n > 3 && !memcmp(s.p, "<|", 2) &&
        !memcmp(s.p + s.n - 2, "|>", 2)) return GPTI_TOKEN_USER_DEFINED | GPTI_TOKEN_MARKER;
    return (unsigned)(end ? type | GPTI_TOKEN_END : type);
}

/* Step 3: bytes, type and score of every token. */
static gpt_result gpti_tokenizer_tokens(gpti_tokenizer *t, const gpti_vocab *v, gpt_error *err) {
    char shown[GPTI_SHOWN];
    size_t at = 0, i;
    float lowest = 0;
    for (i = 0; i < 256; i++) t->byte[i] = -1;
    for (i = 0; i < v->n_token; i++) {
        const gpt_token id = (gpt_token)i;
        const gpti_str s = v->token[i];
        int byte = t->letters || t->family == GPTI_TOK_WORDPIECE ? -1 : gpti_byte_token(s), raw = 0, type;
        char *text = t->text + at;
        size_t n = s.n;
        t->at[i] = (uint32_t)at;
        t->type[i] = (uint8_t)gpti_token_marks(t, v, id, byte);
        type = gpti_tokenizer_type(t, id);
        if (type == GPTI_TOKEN_BYTE && byte < 0)
            return gpti_fail(err, GPT_E_FORMAT, "token %ld has the type of a byte: "
                "expected <0xHH>, found '%s'", (long)id, gpti_show(shown, s));
        if (type == GPTI_TOKEN_BYTE) {
            *text = (char)(unsigned char)byte;
            n = 1;
        } else if (type == GPTI_TOKEN_CONTROL || type == GPTI_TOKEN_UNKNOWN ||
                   (t->letters && type == GPTI_TOKEN_USER_DEFINED)) {
            memcpy(text, s.p, n);
            byte = -1;
        } else if (t->letters) {
            n = gpti_bytes_of_bpe(text, s.p, n, &raw);
            if (n == 1) byte = (unsigned char)*text;
            if (raw) t->type[i] |= GPTI_TOKEN_RAW;
        } else if (t->family == GPTI_TOK_WORDPIECE) {   /* what begins a word has a visible space in front */
            const size_t begins = n > 2 && !memcmp(s.p, "\xE2\x96\x81", 3);
            if (begins) *text = ' ';
            memcpy(text + begins, s.p + 3 * begins, n -= 3 * begins);
            n += begins;
            byte = -1;
        } else {
            n = gpti_bytes_of_spm(text, s.p, n);
            byte = -1;
        }
        at += n;
        if (byte >= 0 && t->byte[byte] < 0) t->byte[byte] = id;
        t->score[i] = v->score ? v->score[i] : 0.0f;
        if (!(t->score[i] > -1e30f && t->score[i] < 1e30f)) t->score[i] = -1e30f;   /* NaN, infinities */
        if (type == GPTI_TOKEN_NORMAL && t->score[i] < lowest) lowest = t->score[i];
    }
    t->at[v->n_token] = (uint32_t)at; t->unk_score = lowest - 10.0f;
    return GPT_OK;
}

/* Step 4: the hash of the texts. Of several tokens with one text the first is found. User-defined
 * tokens come twice: as special ones, and then as plain ones where no plain one has their text. */
static gpt_result gpti_tokenizer_texts(gpti_tokenizer *t, gpt_error *err) {
    gpt_token id;
    uint32_t i;
    int pass;
    size_t k;
    t->words_begin_at_spaces = 1;
    for (i = 0; i < t->n_text_bucket; i++) t->text_bucket[i] = -1;
    for (pass = 0; pass < 2; pass++)
        for (id = 0; id < t->n_token; id++) {
            const gpti_str s = gpti_tokenizer_piece(t, id);
            const int type = gpti_tokenizer_type(t, id), user = type == GPTI_TOKEN_USER_DEFINED;
            const int special = gpti_tokenizer_is_control(t, id) || (user && pass == 0);
            if (s.n == 0 || type == GPTI_TOKEN_BYTE || (pass == 1 && !user)) continue;
            if (t->type[id] & GPTI_TOKEN_RAW) continue;
            i = gpti_text_bucket(t, s.p, s.n, special);
            if (i == t->n_text_bucket)
                return gpti_fail(err, GPT_E_FORMAT, "tokenizer.ggml.tokens: too many with one hash, at %ld", (long)id);
            if (t->text_bucket[i] == -1) t->text_bucket[i] = special ? -2 - id : id;
            if (special || s.n > GPTI_TOK_SPAN) continue;
            if (s.n > t->max_len) t->max_len = (uint32_t)s.n;
            for (k = 1; t->words_begin_at_spaces && k < s.n; k++)
                if (s.p[k] == ' ' && s.p[k - 1] != ' ') t->words_begin_at_spaces = 0;
        }
    return GPT_OK;
}

/* Step 5: the merges, "left right" in the byte alphabet. One spelled otherwise is never used. */
static gpt_result gpti_tokenizer_merges(gpti_tokenizer *t, const gpti_vocab *v, const gpti_mem *mem, gpt_error *err) {
    size_t i, cut, n_left, n, longest = 0;
    char shown[GPTI_SHOWN], *s;
    gpt_result r = GPT_OK;
    for (i = 0; i < v->n_merge; i++) longest = gpti_max(longest, v->merge[i].n);
    s = (char *)gpti_alloc_raw(mem, longest);
    if (!s) return gpti_fail(err, GPT_E_MEMORY, "tokenizer: out of memory");
    for (i = 0; i < t->n_merge_bucket; i++) t->merge_bucket[i].id = -1;
    for (i = 0; i < v->n_merge && !r; i++) {
        const gpti_str m = v->merge[i];
        gpti_merge *bucket = NULL, made;
        int raw = 0, tokens;
        for (cut = 1; cut < m.n && m.p[cut] != ' '; cut++) { }
        n = n_left = gpti_bytes_of_bpe(s, m.p, gpti_min(cut, m.n), &raw);
        if (cut < m.n) n += gpti_bytes_of_bpe(s + n, m.p + cut + 1, m.n - cut - 1, &raw);
        if (raw && cut < m.n) continue;
        made.left = gpti_token_find(t, s, n_left, 0);
        made.right = gpti_token_find(t, s + n_left, n - n_left, 0);
        made.id = gpti_token_find(t, s, n, 0);
        made.rank = (uint32_t)i;
        tokens = made.left >= 0 && made.right >= 0 && made.id >= 0;
        if (tokens) bucket = gpti_merge_bucket(t, made.left, made.right);
        if (!bucket)
            r = gpti_fail(err, GPT_E_FORMAT, "tokenizer.ggml.merges: merge %llu, '%s': %s", (gpti_ull)i,
                gpti_show(shown, m), tokens ? "too many with one hash" : "expected two tokens that make a third");
        else if (bucket->id < 0) *bucket = made;
    }
    gpti_free(mem, s);
    return r;
}

/* Two tokens by their bytes, those with one text by id. */
static int gpti_token_cmp(const void *a, const void *b, const void *tokenizer) {
    const gpti_tokenizer *t = (const gpti_tokenizer *)tokenizer;
    const gpt_token x = *(const gpt_token *)a, y = *(const gpt_token *)b;
    const int c = gpti_str_cmp(gpti_tokenizer_piece(t, x), gpti_tokenizer_piece(t, y));
    return c ? c : (x > y) - (x < y);
}

/* Step 6: sorts a set of tokens by their bytes and indexes it by the first byte. Of one text the
 * first token stays, and the first user-defined one, which plain text may become. */
static void gpti_sorted_build(const gpti_tokenizer *t, gpti_sorted *set) {
    gpt_token *id = set->id;
    uint32_t end = 0, i, b;
    gpti_sort(id, set->n, sizeof *id, gpti_token_cmp, t);
    for (i = 0; i < set->n; i++) {
        const gpt_token last = end ? id[end - 1] : -1;
        if (gpti_str_cmp(gpti_tokenizer_piece(t, id[i]), gpti_tokenizer_piece(t, last)) ||
            (gpti_tokenizer_type(t, last) != GPTI_TOKEN_USER_DEFINED &&
             gpti_tokenizer_type(t, id[i]) == GPTI_TOKEN_USER_DEFINED)) id[end++] = id[i];
    }
    set->n = end;
    for (i = 0, b = 0; b <= 256; b++) {
        while (i < set->n && (unsigned char)gpti_tokenizer_piece(t, id[i]).p[0] < b) i++;
        set->first[b] = i;
    }
}

/* Narrows [*lo, *hi), tokens that agree in their first depth >= 1 bytes, to those whose next byte is c. */
static void gpti_sorted_narrow(const gpti_tokenizer *t, const gpti_sorted *set, uint32_t *lo,
                               uint32_t *hi, size_t depth, int c) {
    uint32_t bound[2] = { *lo, *hi };
    int side;
    for (side = 0; side < 2; side++) {  /* the first token whose byte at depth is >= c, then > c */
        uint32_t a = bound[0], b = *hi;
        while (a < b) {
            uint32_t mid = a + (b - a) / 2;
            gpti_str s = gpti_tokenizer_piece(t, set->id[mid]);
            int at = depth < s.n ? (unsigned char)s.p[depth] : -1;
            if (at < c + side) a = mid + 1; else b = mid;
        }
        bound[side] = a;
    }
    *lo = bound[0]; *hi = bound[1];
}

/* The longest special token that p begins with: its id and *len, or -1. Control tokens on demand. */
static gpt_token gpti_special_at(const gpti_tokenizer *t, const char *p, const char *end, int control, size_t *len) {
    const gpt_token *id = t->special.id;
    const uint32_t *first = &t->special.first[(unsigned char)*p];
    uint32_t lo = first[0], hi = first[1], i;
    gpt_token best = -1;
    size_t depth;
    for (depth = 1; lo < hi; depth++) {
        for (i = lo; i < hi && gpti_tokenizer_piece(t, id[i]).n == depth; i++)
            if (control || gpti_tokenizer_type(t, id[i]) == GPTI_TOKEN_USER_DEFINED) {
                best = id[i];
                *len = depth;
                break;
            }
        if ((size_t)(end - p) == depth) break;
        gpti_sorted_narrow(t, &t->special, &lo, &hi, depth, (unsigned char)p[depth]);
    }
    return best;
}

/* ---- Merging: BPE of one word ---- */

#define GPTI_NO_SYM 0xFFFFFFFFu
typedef struct gpti_sym {               /* a part of a word, in a list from left to right */
    uint32_t  at, prev, next, rank;     /* first byte; neighbours or GPTI_NO_SYM; rank of join */
    gpt_token id, join;                 /* its token, the token it makes with the next; or -1 */
} gpti_sym;

typedef struct gpti_merger {
    const gpti_tokenizer *t;
    const char *w;
    uint32_t    n, n_heap;              /* bytes of the word */
    uint64_t   *heap;                   /* [2 n] rank << 32 | symbol, least on top; may be stale */
    gpti_sym   *sym;                    /* [n] symbol 0 is always the first of the list */
} gpti_merger;
#define GPTI_MERGE_SCAN 24              /* words up to this length are searched, without a heap */
#define GPTI_MERGE_BYTES (2 * sizeof(uint64_t) + sizeof(gpti_sym))      /* per byte of a word */

static void gpti_heap_push(uint64_t *heap, uint32_t *n, uint64_t key) {
    uint32_t i = (*n)++, up;
    for (; i > 0 && heap[up = (i - 1) / 2] > key; i = up) heap[i] = heap[up];
    heap[i] = key;
}

static uint64_t gpti_heap_pop(uint64_t *heap, uint32_t *n) {
    uint64_t top = heap[0], key = heap[--*n];
    uint32_t i = 0, child;
    for (; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[i] = heap[child];
    }
    heap[i] = key;
    return top;
}

static uint32_t gpti_rank_of_score(float score) {  /* the higher the score, the lower the rank */
    uint32_t u;
    score += 0.0f;                               /* -0 ranks as 0 does */
    memcpy(&u, &score, sizeof u);
    return u >> 31 ? u : 0x7FFFFFFFu - u;
}

/* Finds what symbol i and its right neighbour make, and queues it. */
static void gpti_merge_pair(gpti_merger *m, uint32_t i) {
    gpti_sym *s = &m->sym[i], *r;
    s->join = -1;
    if (s->next == GPTI_NO_SYM) return;
    r = &m->sym[s->next];
    if (m->t->letters) {
        const gpti_merge *merge = s->id < 0 || r->id < 0 ? NULL : gpti_merge_bucket(m->t, s->id, r->id);
        if (!merge || merge->id < 0) return;
        s->join = merge->id; s->rank = merge->rank;
    } else {
        uint32_t n = (r->next == GPTI_NO_SYM ? m->n : m->sym[r->next].at) - s->at;
        if (n > m->t->max_len) return;
        s->join = gpti_token_find(m->t, m->w + s->at, n, 0);
        if (s->join < 0) return;
        s->rank = gpti_rank_of_score(m->t->score[s->join]);
    }
    if (m->n > GPTI_MERGE_SCAN) gpti_heap_push(m->heap, &m->n_heap, (uint64_t)s->rank << 32 | i);
}

/* The symbol whose merge comes next: the least rank, the leftmost of equals; or GPTI_NO_SYM. */
static uint32_t gpti_merge_next(gpti_merger *m) {
    uint32_t i = 0, best = GPTI_NO_SYM;
    if (m->n <= GPTI_MERGE_SCAN) {
        for (; i != GPTI_NO_SYM; i = m->sym[i].next)
            if (m->sym[i].join >= 0 && (best == GPTI_NO_SYM || m->sym[i].rank < m->sym[best].rank)) best = i;
        return best;
    }
    while (m->n_heap) {
        uint64_t key = gpti_heap_pop(m->heap, &m->n_heap);
        i = (uint32_t)key;
        if (m->sym[i].join >= 0 && m->sym[i].rank == (uint32_t)(key >> 32)) return i;
    }
    return best;
}

/* Bytes of the symbol that p begins with, before anything is merged. */
static size_t gpti_sym_bytes(const gpti_tokenizer *t, const char *p, size_t n) {
    uint32_t cp;
    return t->letters ? 1 : gpti_utf8(p, n, &cp);
}

/* Merges the word w [n >= 1 bytes] as far as it goes. buf holds n * GPTI_MERGE_BYTES, aligned to 8. */
static void gpti_merge_word(gpti_merger *m, const gpti_tokenizer *t, const char *w, uint32_t n, void *buf) {
    uint32_t i = 0, at = 0;
    m->t = t; m->w = w; m->n = n; m->n_heap = 0; m->heap = (uint64_t *)buf;
    m->sym = (gpti_sym *)(m->heap + 2 * (size_t)n);
    for (; at < n; i++) {               /* 1. bytes (BPE) or characters (SentencePiece) */
        m->sym[i].at = at;
        m->sym[i].prev = i - 1;         /* of the first: GPTI_NO_SYM */
        m->sym[i].next = i + 1;
        m->sym[i].id = t->letters ? t->byte[(unsigned char)w[at]] : -1;
        at += (uint32_t)gpti_sym_bytes(t, w + at, n - at);
    }
    m->sym[i - 1].next = GPTI_NO_SYM;
    for (at = i, i = 0; i < at; i++) gpti_merge_pair(m, i);     /* 2. every pair of neighbours */
    while ((i = gpti_merge_next(m)) != GPTI_NO_SYM) {           /* 3. the best pair becomes one symbol */
        gpti_sym *s = &m->sym[i], *r = &m->sym[s->next];
        s->id = s->join; s->next = r->next;
        r->join = -1;
        if (s->next != GPTI_NO_SYM) m->sym[s->next].prev = i;
        gpti_merge_pair(m, i);
        if (s->prev != GPTI_NO_SYM) gpti_merge_pair(m, s->prev);
    }
}

/* Step 7: marks tokens that a word with their text always becomes: one look-up, no merging. */
static void gpti_tokenizer_whole(gpti_tokenizer *t) {
    uint64_t buf[32 * GPTI_MERGE_BYTES / sizeof(uint64_t)];
    gpti_merger m;
    gpt_token id;
    for (id = 0; id < t->n_token; id++) {
        const gpti_str s = gpti_tokenizer_piece(t, id);
        const int type = t->type[id] & (GPTI_TOKEN_TYPE | GPTI_TOKEN_RAW);
        if (s.n == 0 || (type != GPTI_TOKEN_NORMAL && type != GPTI_TOKEN_UNUSED)) continue;
        if (!t->whole_words) {
            if (s.n > 32) continue;
            gpti_merge_word(&m, t, s.p, (uint32_t)s.n, buf);
            if (m.sym[0].next != GPTI_NO_SYM || (m.sym[0].id != id && m.sym[0].id >= 0)) continue;
        }
        t->type[id] |= GPTI_TOKEN_WHOLE;
    }
}

/* Step 8: what files do not say of their special tokens. */
static void gpti_tokenizer_special(gpti_tokenizer *t, const gpti_vocab *v) {
    const gpti_str s = v->chat_template;
    const gpt_token end = gpti_tokenizer_find(t, "<|end|>", 7);
    gpt_token id;
    size_t i, len;
    for (i = 0; t->special.n && i < s.n; i++) {
        id = gpti_special_at(t, s.p + i, s.p + s.n, 1, &len);
        if (id >= 0) t->type[id] |= GPTI_TOKEN_MARKER;
    }
    /* gpt-oss: it ends a message, the answer goes on with the next */
    if (end >= 0 && end != t->eos && gpti_tokenizer_is_end(t, gpti_tokenizer_find(t, "<|return|>", 10)) &&
        gpti_tokenizer_is_end(t, gpti_tokenizer_find(t, "<|call|>", 8))) t->type[end] &= (uint8_t)~GPTI_TOKEN_END;
    /* Phi-3: tokenizer.json's rstrip has no place in a GGUF file; known by name, as in llama.cpp */
    if (t->family != GPTI_TOK_SPM || (!gpti_names(v->name, "phi-3") && !gpti_names(v->name, "phi3"))) return;
    for (id = 0; id < t->n_token; id++)
        if (gpti_tokenizer_is_special(t, id) && id != t->bos && id != t->unk &&
            !gpti_str_is(v->token[id], "<|endoftext|>")) t->type[id] |= GPTI_TOKEN_RSTRIP;
}

static gpt_result gpti_tokenizer_fill(gpti_tokenizer *t, const gpti_vocab *v, const gpti_mem *mem, gpt_error *err) {
    gpt_token id;
    GPTI_TRY(gpti_tokenizer_tokens(t, v, err));
    GPTI_TRY(gpti_tokenizer_texts(t, err));
    if (t->letters) GPTI_TRY(gpti_tokenizer_merges(t, v, mem, err));
    for (id = 0; id < t->n_token; id++) {
        gpti_str s = gpti_tokenizer_piece(t, id);
        int type = gpti_tokenizer_type(t, id);
        if (s.n == 0 || s.n > GPTI_TOK_SPAN || type == GPTI_TOKEN_BYTE) continue;
        if (gpti_tokenizer_is_special(t, id)) t->special.id[t->special.n++] = id;
        else if (t->family >= GPTI_TOK_UNIGRAM) t->piece.id[t->piece.n++] = id;
    }
    gpti_sorted_build(t, &t->special);
    gpti_sorted_build(t, &t->piece);
    if (t->family < GPTI_TOK_UNIGRAM) gpti_tokenizer_whole(t);
    if (t->family == GPTI_TOK_WORDPIECE) gpti_fold_init(t->fold);
    if (t->n_charsmap) memcpy(t->charsmap, v->charsmap.p, t->n_charsmap);
    gpti_tokenizer_special(t, v);
    return GPT_OK;
}

static uint32_t gpti_buckets(size_t n) {        /* a power of two, twice n or more where that fits */
    uint32_t buckets = 16;
    while (buckets < 2 * n && buckets < 1u << 31) buckets *= 2;
    return buckets;
}

/* Reads a vocabulary; afterwards v is no longer needed. On failure nothing is left to free. */
static gpt_result gpti_tokenizer_init(gpti_tokenizer *t, const gpti_vocab *v, const gpti_mem *mem, gpt_error *err) {
    size_t n_text = 0, n_user = 0, n_special = 8, n_piece = 0, i;   /* 8: bos, eos ... typed otherwise */
    gpti_arena a;
    gpt_result r;
    memset(t, 0, sizeof *t);
    gpti_unicode_init(&t->unicode);
    GPTI_TRY(gpti_tokenizer_head(t, v, err));
    if (t->family == GPTI_TOK_NONE) return GPT_OK;
    if (t->letters) GPTI_TRY(gpti_tokenizer_pre(t, v, err));
    for (i = 0; i < v->n_token; i++) {
        const int32_t type = v->type ? v->type[i] : GPTI_TOKEN_NORMAL;
        if (!gpti_add(&n_text, n_text, v->token[i].n) || n_text > 0xFFFFFF00u)
            return gpti_fail(err, GPT_E_FORMAT, "tokenizer.ggml.tokens: the texts have more than 4 GB");
        n_user += type == GPTI_TOKEN_USER_DEFINED;
        n_special += type >= GPTI_TOKEN_UNKNOWN && type <= GPTI_TOKEN_USER_DEFINED;
    }
    t->n_text_bucket = gpti_buckets(v->n_token + n_user);
    if (t->letters) t->n_merge_bucket = gpti_buckets(v->n_merge);
    if (t->family >= GPTI_TOK_UNIGRAM) {
        n_piece = v->n_token;
        if (v->charsmap.n < 0xFFFFFF00u) t->n_charsmap = (uint32_t)v->charsmap.n;
    }
    memset(&a, 0, sizeof a);
    gpti_tokenizer_layout(t, &a, n_text, n_special, n_piece);
    t->block = a.overflow ? NULL : gpti_alloc(mem, a.used + 64);
    if (!t->block) return gpti_fail(err, GPT_E_MEMORY, "out of memory: %llu bytes for the tokenizer", (gpti_ull)a.used);
    a.base = gpti_align(t->block, 64); a.used = 0;
    gpti_tokenizer_layout(t, &a, n_text, n_special, n_piece);
    r = gpti_tokenizer_fill(t, v, mem, err);
    if (r) gpti_tokenizer_free(t, mem);
    return r;
}

/* ---- Text to tokens ---- */

typedef struct gpti_encoder {
    const gpti_tokenizer *t;
    gpt_token *ids;                     /* [max], the caller's */
    size_t     max, n;                  /* n counts on past max */
    gpt_token  last;
    int        edge, tight;             /* a space is due next; none is behind special tokens */
    gpti_str   marker;                  /* no content becomes a token that stands in it */
    char      *buf;                     /* [cap] the caller's scratch, or own for a longer word */
    size_t     cap;
    void      *own;
    const gpti_mem *mem;
    gpt_error *err;
} gpti_encoder;

static void gpti_put(gpti_encoder *e, gpt_token id) {
    if (e->n < e->max) e->ids[e->n] = id;
    e->n++;
    e->last = id;
}

/* What no token spells: its bytes, or the filler once; without a filler a byte is dropped. */
static void gpti_put_bytes(gpti_encoder *e, const char *p, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        gpt_token id = e->t->byte[(unsigned char)p[i]];
        if (id >= 0) gpti_put(e, id);
        else if (e->t->filler >= 0 && e->last != e->t->filler) gpti_put(e, e->t->filler);
    }
}

/* Makes e->buf hold extra + count * size bytes, aligned to 8; what was in it is lost. */
static gpt_result gpti_encoder_room(gpti_encoder *e, size_t extra, size_t count, size_t size) {
    size_t need;
    if (count > 0x7FFFFFFFu) return gpti_fail(e->err, GPT_E_ARG, "tokenize: a word of more than 2 GB");
    if (!gpti_mul(&need, count, size) || !gpti_add(&need, need, extra)) need = SIZE_MAX;
    if (need <= e->cap) return GPT_OK;
    gpti_free(e->mem, e->own);
    e->cap = 0; e->own = need == SIZE_MAX ? NULL : gpti_alloc(e->mem, need);
    if (!e->own) return gpti_fail(e->err, GPT_E_MEMORY, "tokenize: no %llu bytes for a long word", (gpti_ull)need);
    e->buf = (char *)e->own; e->cap = need;
    return GPT_OK;
}

/* One word of the BPE families. It lies in the caller's text, or it has to be copied: (prefix) with
 * a space in front, (visible) with spaces for U+2581, which sentencepiece takes for them. */
static gpt_result gpti_encode_word(gpti_encoder *e, const char *w, size_t n, int prefix, int visible) {
    const gpti_tokenizer *t = e->t;
    const int copy = prefix | visible;
    size_t room = copy ? (n + 8) & ~(size_t)7 : 0;
    gpti_merger m;
    uint32_t i;
    gpt_token id = copy || n > t->max_len ? -1 : gpti_token_find(t, w, n, 0);
    if (id >= 0 && t->type[id] & GPTI_TOKEN_WHOLE) {
        gpti_put(e, id);
        return GPT_OK;
    }
    GPTI_TRY(gpti_encoder_room(e, room, n + (size_t)prefix, GPTI_MERGE_BYTES));
    if (copy) {
        e->buf[0] = ' ';
        n = (size_t)prefix + gpti_bytes_of_spm(e->buf + prefix, w, n);
        w = e->buf;
    }
    gpti_merge_word(&m, t, w, (uint32_t)n, e->buf + room);
    for (i = 0; i != GPTI_NO_SYM; i = m.sym[i].next) {
        size_t at = m.sym[i].at, len = gpti_sym_bytes(t, w + at, n - at);
        id = m.sym[i].id;
        if (id < 0 && !t->letters) id = gpti_token_find(t, w + at, len, 0);
        if (id >= 0) gpti_put(e, id);
        else gpti_put_bytes(e, w + at, len);
    }
    return GPT_OK;
}

/* SentencePiece BPE: a space first, and behind special tokens; words begin at spaces if none spans. */
static gpt_result gpti_encode_spm(gpti_encoder *e, const char *p, const char *end) {
    int prefix = e->t->add_space_prefix && e->edge;
    while (p < end) {
        const char *q = p;
        int visible = 0;
        do visible |= end - q > 2 && !memcmp(q, "\xE2\x96\x81", 3);
        while (++q < end && !(e->t->words_begin_at_spaces && *q == ' ' && q[-1] != ' '));
        GPTI_TRY(gpti_encode_word(e, p, (size_t)(q - p), prefix, visible));
        prefix = 0;
        p = q;
    }
    return GPT_OK;
}

static gpt_result gpti_encode_bpe(gpti_encoder *e, const char *p, const char *end) {
    gpti_cutter c;
    gpti_cut_begin(&c, &e->t->rx, &e->t->unicode, p, end);
    while (gpti_cut_word(&c, &p, &end)) GPTI_TRY(gpti_encode_word(e, p, (size_t)(end - p), 0, 0));
    return GPT_OK;
}

/* ---- Unigram ---- */

typedef struct gpti_normal {            /* a text being normalised, byte by byte, as SentencePiece does */
    const gpti_tokenizer *t;
    const char *p, *end, *rep, *rep_end;        /* the text; the replacement being handed out */
    int held, space, started;           /* the next byte or -1; spaces were skipped; not the start */
} gpti_normal;

/* Longest key of the file's character map that p begins with: its length, and its replacement. The
 * map is SentencePiece's: a length, a double array of 32-bit units (XOR offsets; bit 8: has a value,
 * bits 0-7 and 31: label), zero-terminated texts. */
static size_t gpti_charsmap(const gpti_tokenizer *t, const char *p, size_t n, const char **rep, const char **rep_end) {
    const char *map = t->charsmap, *zero;
    uint32_t size = t->n_charsmap, table, node = 0, unit, i;
    size_t best = 0;
    if (size < 8 || (table = gpti_load_u32(map)) < 4 || table > size - 4) return 0;
    size -= 4 + table;                           /* bytes of the replacements */
    unit = gpti_load_u32(map + 4);
    for (i = 0; i < n && i < GPTI_TOK_SPAN; i++) {
        node ^= (unit >> 10 << (unit >> 6 & 8)) ^ (unsigned char)p[i];
        if (node >= table / 4 || p[i] == 0) break;
        unit = gpti_load_u32(map + 4 + 4 * (size_t)node);
        if ((unit & 0x800000FFu) != (unsigned char)p[i]) break;
        if (unit >> 8 & 1) {
            uint32_t leaf = node ^ (unit >> 10 << (unit >> 6 & 8)), value;
            size_t most;
            if (leaf >= table / 4) break;
            value = gpti_load_u32(map + 4 + 4 * (size_t)leaf) & 0x7FFFFFFFu;
            if (value >= size) break;
            most = gpti_min(size - value, GPTI_TOK_GROW * ((size_t)i + 1));
            *rep = map + 4 + table + value;
            zero = (const char *)memchr(*rep, 0, most);   /* a longer one is cut, so that texts stay bounded */
            *rep_end = zero ? zero : *rep + most;
            best = i + 1;
        }
    }
    return best;
}

/* The next byte after the character map, -1 at the end. */
static int gpti_normal_raw(gpti_normal *m) {
    while (m->rep == m->rep_end) {
        uint32_t cp;
        size_t n;
        if (m->p == m->end) return -1;
        n = gpti_charsmap(m->t, m->p, (size_t)(m->end - m->p), &m->rep, &m->rep_end);
        if (n == 0) {
            n = gpti_utf8(m->p, (size_t)(m->end - m->p), &cp);
            m->rep = cp == 0x2581 ? " " : m->p; /* the vocabulary's visible space, spelled out in a text */
            m->rep_end = m->rep + (cp == 0x2581 ? 1 : n);
        }
        m->p += n;
    }
    return (unsigned char)*m->rep++;
}

static int gpti_normal_next(gpti_normal *m) {   /* the next normalised byte, -1 at the end */
    int c = m->held;
    m->held = -1;
    if (c >= 0) return c;
    if (!m->t->merge_spaces) {
        if (m->started || !m->t->add_space_prefix || m->p == m->end) return gpti_normal_raw(m);
        m->started = 1;
        return ' ';
    }
    for (c = gpti_normal_raw(m); c == ' '; c = gpti_normal_raw(m)) m->space = m->started;
    if (c >= 0 && (m->started ? m->space : m->t->add_space_prefix)) {
        m->held = c;
        c = ' ';
    }
    m->started = 1; m->space = 0;
    return c;
}

/* Writes the next word, normalised, to out (NULL: only measures it) and returns its length, 0 at the end. */
static size_t gpti_normal_word(gpti_normal *m, char *out) {
    gpti_normal before = *m;
    size_t n = 0;
    int c, prev = ' ';
    while (n < 0x7FFFFFFFu && (c = gpti_normal_next(m)) >= 0) {   /* beyond, gpti_encoder_room refuses it */
        if (m->t->words_begin_at_spaces && c == ' ' && prev != ' ') {
            *m = before;
            break;
        }
        if (out) out[n] = (char)(unsigned char)c;
        prev = c;
        n++;
        before = *m;
    }
    return n;
}

typedef struct gpti_step {              /* the best way to a place in a word */
    double    score;
    uint32_t  from;                     /* where the last token begins; at the end: where the next ends */
    gpt_token id;                       /* that token, -1 for a character without one */
} gpti_step;

static void gpti_step_try(gpti_step *to, double score, uint32_t from, gpt_token id) {
    if (to->from != GPTI_NO_SYM && score <= to->score) return;
    to->score = score; to->from = from; to->id = id;
}

/* The most probable tokens of a normalised word (Viterbi; Kudo 2018, arXiv:1804.10959). Sums are
 * doubles: as floats, near ties would depend on the order of adding. step has room for n + 1. */
static void gpti_viterbi(gpti_encoder *e, const char *w, uint32_t n, gpti_step *step) {
    const gpti_tokenizer *t = e->t;
    uint32_t at, len, depth, lo, hi, cp;
    for (at = 1; at <= n; at++) step[at].from = GPTI_NO_SYM;
    step[0].score = 0.0;
    for (at = 0; at < n; at += len) {
        int single = 0;
        len = (uint32_t)gpti_utf8(w + at, n - at, &cp);
        lo = t->piece.first[(unsigned char)w[at]];
        hi = t->piece.first[(unsigned char)w[at] + 1];
        for (depth = 1; lo < hi; depth++) {
            gpt_token id = t->piece.id[lo];
            if (t->at[id + 1] - t->at[id] == depth) {
                gpti_step_try(&step[at + depth], step[at].score + (double)t->score[id], at, id);
                single |= depth == len;
            }
            if (at + depth == n) break;
            gpti_sorted_narrow(t, &t->piece, &lo, &hi, depth, (unsigned char)w[at + depth]);
        }
        if (!single) gpti_step_try(&step[at + len], step[at].score + (double)t->unk_score, at, -1);
    }
    for (at = hi = n; at > 0; hi = at, at = lo) {   /* the way, turned round */
        lo = step[at].from;
        step[at].from = hi;
    }
    for (; at < n; at = hi, hi = step[at].from) {
        gpt_token id = step[hi].id;
        if (id >= 0) gpti_put(e, id);
        else gpti_put_bytes(e, w + at, hi - at);
    }
}

static gpt_result gpti_encode_unigram(gpti_encoder *e, const char *p, const char *end) {
    gpti_normal m, ahead;
    size_t n, room;
    memset(&m, 0, sizeof m);
    m.t = e->t; m.p = p; m.end = end; m.started = !e->edge; m.held = -1;
    for (ahead = m; (n = gpti_normal_word(&ahead, NULL)) > 0; ahead = m) {
        room = (n + 7) & ~(size_t)7;
        GPTI_TRY(gpti_encoder_room(e, room, n + 1, sizeof(gpti_step)));
        gpti_normal_word(&m, e->buf);
        gpti_viterbi(e, e->buf, (uint32_t)n, (gpti_step *)(void *)(e->buf + room));
    }
    return GPT_OK;
}

/* ---- WordPiece ---- */

enum { GPTI_WORD_CHARS = 100 };         /* a longer word is unknown */
typedef struct gpti_word_buffer { char text[4 * GPTI_WORD_CHARS + 1]; size_t n, n_char; } gpti_word_buffer;

/* The longest tokens that make up the word, one after the other (Wu 2016, arXiv:1609.08144, sec. 4.1, as BERT
 * has it); if there are none, the unknown token alone. Its text begins with a space. */
static void gpti_put_word(gpti_encoder *e, gpti_word_buffer *w) {
    const gpti_tokenizer *t = e->t;
    const size_t before = e->n;
    size_t at, len, depth;
    gpt_token best = 0;
    for (at = 0; w->n_char && w->n_char <= GPTI_WORD_CHARS && best >= 0 && at < w->n; at += len) {
        uint32_t lo = t->piece.first[(unsigned char)w->text[at]], hi = t->piece.first[(unsigned char)w->text[at] + 1];
        for (best = -1, len = 0, depth = 1; lo < hi; depth++) {
            const gpt_token id = t->piece.id[lo];
            if (t->at[id + 1] - t->at[id] == depth && at + depth > 1) { best = id; len = depth; }
            if (at + depth == w->n) break;
            gpti_sorted_narrow(t, &t->piece, &lo, &hi, depth, (unsigned char)w->text[at + depth]);
        }
        if (best >= 0) gpti_put(e, best);
    }
    if (w->n_char > GPTI_WORD_CHARS || best < 0) {
        e->n = before;
        if (t->unk >= 0) gpti_put(e, t->unk);
    }
    w->n = 1; w->n_char = 0;
}

static int gpti_is_cjk(uint32_t c) {    /* ideographs: words of one character. 2B920: as tokenizers has it */
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
        (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
        (c >= 0x2F800 && c <= 0x2FA1F);
}

/* The decomposition without its marks; of a Hangul syllable its letters, by Unicode's formula (3.12). Where several
 * marks stay, which is so in a few scripts of India, they keep their order. */
static int gpti_strip(const gpti_tokenizer *t, uint32_t c, uint32_t to[3]) {
    const uint32_t s = c - 0xAC00;
    int n;
    to[0] = c;
    if (!t->strip_accents || c < 128) return 1;
    if (c < 0xAC00 || s >= 11172) return (n = gpti_fold_of(t->fold, GPTI_CHAR_STRIP, c, to)) < 0 ? 1 : n;
    to[0] = 0x1100 + s / 588; to[1] = 0x1161 + s % 588 / 28; to[2] = 0x11A7 + s % 28;
    return s % 28 ? 3 : 2;
}

/* BERT's BasicTokenizer as the package tokenizers has it: control characters go; white space, and each punctuation
 * mark and ideograph, end a word; accents go; capitals become small letters. */
static void gpti_encode_wordpiece(gpti_encoder *e, const char *p, const char *end) {
    const gpti_tokenizer *t = e->t;
    gpti_word_buffer w;
    uint32_t c, part[3], lower[3], none[3];
    int i, j, n, m;
    w.text[0] = ' '; w.n = 1; w.n_char = 0;
    while (p < end) {
        p += gpti_utf8(p, (size_t)(end - p), &c);
        if (gpti_fold_of(t->fold, GPTI_CHAR_CLEAN, c, part) == 0) continue;
        if (gpti_unicode_class(&t->unicode, c) == GPTI_UNI_SPACE) { gpti_put_word(e, &w); continue; }
        if (gpti_is_cjk(c)) gpti_put_word(e, &w);
        n = gpti_strip(t, c, part);
        for (i = 0; i < n; i++) {
            lower[0] = part[i];
            m = t->lowercase ? gpti_fold_of(t->fold, GPTI_CHAR_LOWER, part[i], lower) : 1;
            for (j = 0; j < (m < 0 ? 1 : m); j++) {
                const unsigned kind = gpti_unicode_class(&t->unicode, lower[j]);
                const int mark = (kind == GPTI_UNI_P || (kind == GPTI_UNI_S && lower[j] < 128)) !=
                    (gpti_fold_of(t->fold, GPTI_CHAR_FLIP, lower[j], none) == 0);
                if (mark) gpti_put_word(e, &w);
                if (++w.n_char <= GPTI_WORD_CHARS) w.n += gpti_put_utf8(w.text + w.n, lower[j]);
                if (mark) gpti_put_word(e, &w);
            }
        }
        if (gpti_is_cjk(c)) gpti_put_word(e, &w);
    }
    gpti_put_word(e, &w);
}

/* ---- Whole texts ---- */

static gpt_result gpti_encode_fragment(gpti_encoder *e, const char *p, const char *end) {
    if (p == end) return GPT_OK;
    e->last = -1;
    if (e->t->family == GPTI_TOK_BPE) GPTI_TRY(gpti_encode_bpe(e, p, end));
    if (e->t->family == GPTI_TOK_SPM) GPTI_TRY(gpti_encode_spm(e, p, end));
    if (e->t->family == GPTI_TOK_UNIGRAM) GPTI_TRY(gpti_encode_unigram(e, p, end));
    if (e->t->family == GPTI_TOK_WORDPIECE) gpti_encode_wordpiece(e, p, end);
    e->edge = 0;
    return GPT_OK;
}

/* May a content become this special token? Not if it is a control token, nor one that the template
 * itself writes, as which many files do not mark them; white space is the content's all the same. */
static int gpti_content_allows(const gpti_encoder *e, gpt_token id) {
    gpti_str s = gpti_tokenizer_piece(e->t, id);
    size_t k, space = 0;
    while (space < s.n && (s.p[space] == ' ' || s.p[space] == '\n' || s.p[space] == '\t')) space++;
    if (space == s.n) return 1;
    for (k = 0; k + s.n <= e->marker.n; k++) if (!memcmp(e->marker.p + k, s.p, s.n)) return 0;
    return !(e->t->type[id] & GPTI_TOKEN_MARKER);
}

/* Text to ids. GPTI_TOK_SPECIAL: text that spells a control token becomes it. GPTI_TOK_BOS: BOS and
 * EOS are added where the file asks for them, unless they are there. GPTI_TOK_CONTINUE: the text
 * goes on from other text. own [n] or NULL: 1 where the text is a template's, with control tokens,
 * 0 where it is a message's; what no special token separates is one text, as in training. */
static gpt_result gpti_encode_text(gpti_encoder *e, const char *text, const unsigned char *own,
                                   size_t n, unsigned flags) {
    const gpti_tokenizer *t = e->t;
    const char *p = text, *from = text, *end = text + n;
    const char *run = own ? text : end;         /* where own changes next */
    size_t len = 0;
    uint32_t cp;
    int control = (flags & GPTI_TOK_SPECIAL) != 0;
    if (t->family == GPTI_TOK_NONE) return gpti_fail(e->err, GPT_E_UNSUPPORTED, "the model file has no tokenizer");
    e->last = -1; e->edge = !(flags & GPTI_TOK_CONTINUE);
    if (flags & GPTI_TOK_BOS && t->add_bos && t->bos >= 0) gpti_put(e, t->bos);
    while (p < end) {
        const uint32_t *first = &t->special.first[(unsigned char)*p];
        gpt_token id = -1;
        if (p >= run)
            for (run = p, control = own[p - text]; run < end && own[run - text] == control; run++) { }
        if (first[0] < first[1]) id = gpti_special_at(t, p, run, control, &len);
        if (id < 0 || (own && !control && !gpti_content_allows(e, id))) { p++; continue; }
        GPTI_TRY(gpti_encode_fragment(e, from, p));
        if (!(p == text && e->n == 1 && id == t->bos)) gpti_put(e, id);
        e->edge = !e->tight;
        for (p += len, len = t->type[id] & GPTI_TOKEN_RSTRIP; len && p < end; p += len) {
            len = gpti_utf8(p, (size_t)(end - p), &cp);
            if (gpti_unicode_class(&t->unicode, cp) != GPTI_UNI_SPACE) break;
        }
        from = p;
    }
    GPTI_TRY(gpti_encode_fragment(e, from, end));
    if ((flags & (GPTI_TOK_BOS | GPTI_TOK_NO_EOS)) == GPTI_TOK_BOS && t->add_eos && t->eos >= 0 &&
        e->last != t->eos) gpti_put(e, t->eos);
    return GPT_OK;
}

/* The same to at most max ids; *n is how many the text has. Words that fit are merged in scratch,
 * only a longer one allocates, until the call returns. */
static gpt_result gpti_tokenizer_encode(const gpti_tokenizer *t, const char *text, size_t n_text, unsigned flags,
    gpt_token *ids, size_t max, size_t *n, void *scratch, size_t scratch_size, const gpti_mem *mem, gpt_error *err) {
    gpt_result r;
    gpti_encoder e;
    size_t skew = (size_t)(0 - (uintptr_t)scratch) & 7;
    memset(&e, 0, sizeof e);
    e.t = t; e.ids = ids; e.max = max; e.mem = mem; e.err = err;
    if (scratch && scratch_size > skew) {
        e.buf = (char *)scratch + skew; e.cap = scratch_size - skew;
    }
    r = gpti_encode_text(&e, n_text ? text : "", NULL, n_text, flags);
    gpti_free(mem, e.own);
    *n = e.n;
    return r;
}

/* The text of one token of a text: control tokens show their names only where special asks for it.
 * *edge: the space that encoding puts in front of a text is still to be taken off, as sentencepiece
 * does it: of the first token that is no control token and no byte, and never again. */
static gpti_str gpti_tokenizer_shown(const gpti_tokenizer *t, gpt_token id, int special, int *edge) {
    gpti_str s = gpti_tokenizer_piece(t, id);
    int type = gpti_tokenizer_type(t, id);
    if (type != GPTI_TOKEN_CONTROL) {
        if (*edge && type != GPTI_TOKEN_BYTE && s.n && *s.p == ' ') { s.p++; s.n--; }
        *edge = 0;
    }
    if (!special && gpti_tokenizer_is_control(t, id)) s.n = 0;
    return s;
}

/* Ids to text, at most max bytes of it into buf; returns how many bytes the text has. */
static size_t gpti_tokenizer_decode(const gpti_tokenizer *t, const gpt_token *ids, size_t n,
                                    int special, char *buf, size_t max) {
    size_t i, used = 0;
    int edge = t->add_space_prefix;
    for (i = 0; i < n; i++) {
        gpti_str s = gpti_tokenizer_shown(t, ids[i], special, &edge);
        if (used < max) memcpy(buf + used, s.p, gpti_min(s.n, max - used));
        used += s.n;
    }
    return used;
}

/* ---- data: classes of code points ---- */

/* General categories, as the engine of tokenizers 0.23.3 has them (10294 code points differ from
 * Unicode 14.0.0): runs from code point 0 upwards, a letter, 'a' + class, and the length if it is
 * not 1. Class 15 alternates Lu, Ll. Written by tests/make_unicode_tables.py. */
static const char gpti_unicode_rows[][96] = {
    "a9k5a18ki3ji6ji4h10i2j3i2b26i3jijc26ijija6ka26kij5ij2fijaj4h2jci2jhfih3ib23jb7c24jc8p56cp16c",
    "p47p6c2b2cp3p3b2c2b4cb2cb3c3b2cb2cp5p4cp3p3b2cp3bc2fbc3f4bdcbdcbdcp16cp18cbdcp3b2cp58c6b2cb2",
    "c2p3b3cp8c68fc27e18j4e12j14e5j7ejej17g112p4ejbca2ec3iba4j2bib3abab2cb17ab9c35bc2b3c3p24c4bcj",
    "p3bc2b51c48p34jg7p55p14cp96ab38a2ei6c41i2a2j3ag45igig2ig2iga8f27a4f4i2a17j3i2ji2j2g11iai3f32e",
    "f10g21h10i4f2gf99ifg7ajg6e2g2jg4f2h10f3j2fi14a2fgf30g27a2f89g11fa14h10f33g9e2ji3ea2gj2f22g4e",
    "g9eg3eg5a2i15af25g3a2iaf11a5f24jf6a8g9f41eg24ag33f54g3fg18fg7f10g2i2h10ief15g3af8a2f2a2f22af7",
    "afa3f4a2gfg7a2g2a2g3fa8ga4f2af3g2a2h10f2j2h6j2figa2g3af6a4f2a2f22af7af2af2af2a2gag5a4g2a2g3a3",
    "ga7f4afa7h10g2f3gia10g3af9af3af22af7af2af5a2gfg8ag3ag3a2fa15f2g2a2h10ija7fg6ag3af8a2f2a2f22a",
    "f7af2af5a2gfg7a2g2a2g3a7g3a4f2af3g2a2h10jfh6a10gfaf6a3f3af4a3f2afaf2a3f2a3f3a3f12a4g5a3g3ag4",
    "a2fa6ga14h13j8a5g5f8af3af23af16a2gfg7ag3ag4a7g2af3a2fa2f2g2a2h10a7ih7jfg3if8af3af23af10af5a2g",
    "fg7ag3ag4a7g2a6f2af2g2a2h10af2ga12g4f9af3af41g2fg7ag3ag4fja4f3gh7f3g2a2h19jf6ag3af18a3f24af9a",
    "fa2f7a3ga4g6agag8a6h10a2g2ia12f48gf2g7a4jf6eg8ih10i2a37f2afaf5af24afaf10gf2g9fa2f5aeag7ah10a2",
    "f4a32fj3i15jij3g2j6h20jgjgjgi4g2f8af36a4g20ig2f5g11ag36aj8gj6aj2i5j4i2a37f43g20fh10i6f6g4f4g3",
    "fg3f2g7f3g4f13g12fgh10g4j2b38aba5ba2c43iec3f329af4a2f7afaf4a2f41af4a2f33af4a2f7afaf4a2f15af57",
    "af4a2f67a2g3i9h20a3f16j10a6b86a2c6a2if620jif17kf26i2a3f75i3h3f8a7f18g4a9f19g3i2a9f18g2a12f13a",
    "f3ag2a12f52g32i3ei3jfga2h10a6h10a6i11g3agh10a6f35ef53a7f5g2f34gfa5f70a10f31ag12a4g12a4ja3i2",
    "h10f30a2f5a11f44a4f26a6h11a3j34f23g5a2i2f53g10ag29a2gh10a6h10a6i7ei6a2g31a49g5f47g17f8ai2h10",
    "i7j10g9j9i3g3f30g13f2h10f44g14a8i4f36g20a3i5h10a3f3h10f30e6i2c9bca5b43a2b3i8a8g3ig21f4gf6gf2",
    "g3fa5c44e63c13ec34e37g64p150c8p98c8b8c6a2b6a2c8b8c8b8c6a2b6a2c8ababababc8b8c14a2c8d8c8d8c8d8",
    "c5ac2b4djcj3c3ac2b4dj3c4a2c2b4aj3c8b5j3a2c3ac2b4dj2ak11a5i24k2a5ki20ji13ji12ka16hea2h6j3i2e",
    "h10j3i2ae13a3j33a15g33a15j2bj4bj2cb3c2b3cjbj3b5j6bjbjbjb4jcb4cf4cj2c2b2j5bc4j4cjh51bch5j2a4",
    "j376i4j29i2j255a22j11a21h60j78h22j616i14h30j49i2j31i10j403i22j63i4j32i2j374a2j32aj105b48c48p3",
    "b2c2p7b3cbc2bc6e2b3cp98cj6p4g3bca5i4hi2c38aca5ca2f56a7eia14gf23a9f7af7af7af7af7af7af7af7ag32",
    "i47ei32j2i12a34j26aj89a12j214a26j16ki3jefhi10j2i12jh9g6ie5j2h3efij2af86a2g2j2e2fif90ie3fa5f43",
    "af94aj2h4j10f32j38a9jf16j31ah10j30h8jh15j32h10j39h15j320f6592j64f21013ef1143a3j55a9f40e6i2",
    "f268ei3f16h10f2a20p46fg4ig10iep28e2g2f70h10g2i6a8j23e9j2p14c2p62ec8p5p10ej2p4fp4c2p21b4cb5c",
    "p15b3cp3bca2bcacacp7a21e3bcfe2cf7gf3gf4gf23g5j4ga3h6j4a6f52i4a8g2f50g18a8i2h10a6g18f6i3fif2g",
    "h10f28g8i2f23g13a11if29a3g4f47g14i13aeh10a4i2f5gef9h10f5af41g14a9f3gf8g2a2h10a2i4f16ef6j3fg3",
    "f50gfg3f2g2f5g2fgfa24f2ei2f11g5i2fe2g2a10f6a2f6a2f6a9f7af7ac43je4c9ej2a4c80f35g8ig2a2h10a6",
    "f11172a12f23a4f49a8452f366a2f106a38c7a12c5a5fgf10jf13af5afaf2af2af108j17a16f363i2j16f64a2f54",
    "a7ja32f12j4g16i10a6g16i35ai14jij3aiji2a4f5af135a4i3ji6ji4h10i2j3i2b26i3jijc26ijiji7f10ef45e2",
    "f31a3f6a2f6a2f6a2f3a3j7aj7a13j2a2f12af26af19af2af15a2f14a34f123a5i3a4h45a3j9h57j17h2j3aj13a3j",
    "a47j45ga130f29a3f49a15gh27a4f32h4a9f20hf8ha5f38g5a5f30aif36a4f8ih5a42b40c40f78a2h10a6b36a4c36",
    "a4f40a8f52a11ib11ab15ab7ab2ac11ac15ac7ac2a3f52a12f311a9f22a10f8a24e6ae42ae9a69f6a2faf44af2a3f",
    "a2f23aih8f23j2h7f31a8h9a48f19af2a5h5f22h6a3if26a5ia64f56a4h2f2h16a2h46fg3ag2a5g4f4af3af29a2g3",
    "a4gh9a7i9a7f29h2if29h3a32f8jf28g2a4h5i7a9f54a3i7f22a2h8f19a5h8f18a7i4a12h7a80f73a55b51a13c51",
    "a7h6f36g4a8h10a6h10f4efb22a3g5iec22a8j2a208h31af42ag2ia2f2a16f3a55g4f29h10fa8f22g11h4i5a22f18",
    "g4i4a38f21h7a20f23a9g3f53g15i7a4h30gf2g2fa9g4f45g11i2ai4ga13f25a7h10a6g3f36g14ah10i4fg2fa8f35",
    "gi2fa9g3f48g14f4i4g4ig2h10fifi3ah20a11f18af25g12i6gf2ga62f7afaf4af15af10ia6f47g12a5h10a6g4af8",
    "a2f2a2f22af7af2af5ag2fg7a2g2a2g3a2fa6ga5f5g2a2g7a3g5a11f10afa2faf38afg9aga2gag4ag5fgfi2ai2a8",
    "g2a29f53g18f4i5h10i2aigf3a30f48g20f2ifa8h10a166f47g7a2g9i23f4g2a34f48g17i3fa11h10a6i13a19f43",
    "g13fia6h10a6h20a28f27a2g15a4h12i3jf7a185f44g15ia100b32c32h19a12f8a2fa2f8af2af24g6ag2a2g4fgfg2",
    "i3a9h10a70f8a2f39g7a2g7fifga27fg10f40g7fg4i8ga8fg11f46g16i3fi5a13f73a7i10a182f33ia14h10a6f9a",
    "f37g8ag8fi5a10h29a3i2f30a2g22ag14a73f7af2af38g6a3gag2ag7fga8h10a6f6af2af32g5ag2ag5fa7h10a310",
    "f19g4i2a7g2fgf13af34g7a3g5i13h10ga85fa15h21j29a13if922a102h111ai5a11f196a2636f97i2a13f1072a16",
    "gf6g15a10f3995a5f583a6841f30g18h10a1734f569a7f31ah10a4i2f79ah10a6f30a2g5ia10f48g7i5j4e4ija10",
    "h10ah7af21a5f19a432e3f40e2i3h10a198b32c32h23i4a101f75a4gfg55a7g4e13a64e2iega11g2a14f6136a8",
    "f1238a41f10a8935e4ae7ae2af291a15fa29f3a2fa14f4a8f396a2308f107a5f13a3f9a7f10a2jg2ia3936j240h10",
    "a6j436a76g46a2g23a9j116a60j246a10j39a2j60g5j3g6a8g8j2g7j30g4j61a21j66g3ja122h20a12h20a12j87a9",
    "h25a135b26c26b26c7ac18b26c26bab2a2ba2b2a2b4ab8c4acac7ac11b26c26b2ab4a2b8ab7ac26b2ab4ab5aba3b7",
    "ac26b26c26b26c26b26c26b26c26b26c26b26c28a2b25jc25jc6b25jc25jc6b25jc25jc6b25jc25jc6b25jc25jc6b",
    "ca2h50j512g55j4g50j8gj14gj2i5a15g5ag15a1104c10fc20a6c6a213g7ag17a2g7ag2ag5a5e62a33ga112f45a3",
    "g7e7a2h10a4fja320f30ga17f44g4h10a5ja464f27eg4h10a214f30g2fh10a4ia480f7af4af2af15af197a2h9g7",
    "a41b34c34g7ea4h10a4i2a785h59jh3jh4a76h45jh15a194f4af27af2afa2faf10af4afafa6fa4fafafaf3af2afa2",
    "fafafafafaf2afa2f4af7af4af4afaf10af17a5f3af5af17a52j2a270j44a4j100a12j15a2j15aj15aj37a10h13",
    "j161a56j29a13j44a4j9a7j2a14j6a154j984a4j17a3j13a3j119a4j95a6j12a4ja15j12a4j56a8j10a6j40a8j30",
    "a2j12a4j2a62j340a12j14a2j13a3j10a5j56a7j15a2j11a6j9a7j147aj92h10a1030f42720a32f4154a6f222a2",
    "f5762a14f7473a15f622a2466f542a1506f4939a5f4192a712016g240a196112"
};
static const char *gpti_unicode_row(unsigned i) { return gpti_unicode_rows[i]; }

/* What WordPiece does to characters, as tokenizers 0.23.3 does it: clean (they go), flip (punctuation where the class
 * above is not P, or the other way round), strip (the decomposition without its marks), lower. Runs, each some numbers:
 * how far behind the last one it begins; 6 (length - 1) + kind, see gpti_fold_of; but for kind 0 a target, of kind 5
 * `length` of them, as the difference from the last one. Digits of 31, the second half of 62 characters: more follow.
 * Written by tests/make_unicode_tables.py. */
enum { GPTI_FOLD_WIDTH = 112,
       GPTI_FOLD_CLEAN = 25, GPTI_FOLD_FLIP = 41, GPTI_FOLD_STRIP = 1641, GPTI_FOLD_LOWER = 186 };
static const char gpti_fold_rows[][GPTI_FOLD_WIDTH + 1] = {
    "@aQBFAcIcBfFM@al^_V@fF@aR@dpJ@bc^XZXaRXAaWat`^ah}ParP@hALA@dnI@anxMRepZaKzxv_@_rLbfa^mfdYBmfdYasO@a`_@c[@pP@L@bs",
    "Y@aiHFaNLd~^bJBbDa|mB@jH@eLXaMRrQ@pZFAFcUXJFA@pRbJbN@lM@hPLe@@b_aKbULAXc@aWf^@cBXaKFtYFbLbJeT@dgTFpkULiPRjQ@a`nK",
    "@{YFfFa@dFAAD@SD@SHAHJ@SBBSL@AHBa@PAAD@SD@SHAHJ@SBBSL@AHAA@@aBcR@aND@IBBaZB@aND@IBBaTBCIB@IBAaBBDaBDCaBBBaBF@aNB",
    "@UBBbGB@ID@OD@aBBaBIUMIL]IaH@IP@IL@aZLAUaH@IhRBIhE@IH@UH@AwG@AnD@AadRCIbGBIN@IY@IhR@IaE@UiV@UH@UH@UL@UF@UF@IC@IB",
    "BIWFIM@IH@aNT@ITfRuODAahGIAajDFAgA@AaqB@AapB@AapK@AD@ADAALAAL@AH@AaAYAbA@AX@AX@AH@AD@AD@AXYAW@AX@AK@AL@AHDGRaLGd",
    "JAACCAYDAaI@AC@AVJAUa@AbBVGEAACCAbHDAaX@AC@AVWHcEKXaZIfAMUKBIJBHlR@IlO@IBBUB@ILBHmA@IlA@aBS@IHBIHd[hPA@AFAFA@bJa",
    "^GGaaX@AbD@AbC@AbHaEc[P@bQAh_AAaHPAaCBaEB_BFARaD@_eAb^a^a[aQaCRAaQALAXaLLdKf@aGAagRGAPBAFE@A@DaKD@CaE@Na]@AN@HJ@",
    "AT@AHBF^@a[@DRFKiYQ@KRaA@@NHcNAA]BF^FaQAhNBALE@DFDFBLC@GHbE@ALBA_QFC@KFaZ@DXAFD@TF^@a[@B@ARCArJBK@Q@KRaA@@H@EHcN",
    "DF_@QKgIdNaL@IKaBO@KRQ@KPaC@@aS@a_LELARGFKF^@a[@B@@ApLE@@H@AAaF@K@aG@FTF^@bAREKgIO@KRQ@KPaC@@TFcI@GLA@CAhLAK@S@K",
    "TS@KTLbT@BaELaKcE@B_AFK_bLF[@A@A@IAv]IATDAJDAJDAJLAaVGbPAXAFEa^AfXI@cBAnXFRA_AFBFYFDLPRM@BFF@O@vUL~PL^L^F_FbBFAa",
    "EH@Ba^I@aNLe@@cYLDFI@FLgBFB@a[@AaEA@A@BaKFaWB@aQbPbDRBKexScCAKb^b_AKbYbZAKbUbVAKbQbRCKbIbJaB@AX@A@@@@A@BKRQ@KTS@",
    "@@A@aHaQLFaARBFALaY@AFC@ALa[aKBFd]LAbJAaED@F@CFfLjHFR@InkD@aBB@IB@aZB@aZB@IB@IB@aZB@UB@aBD@aNB@aBB@aNB@aNB@UB@aN",
    "D@aZB@aNB@aZB@UB@aZB@UB@IB@aBB@A]@AX@AF@ADAAp]DdQtO@c@H@UH@dQL@bSL@aNHFaLaxG@aLbA@a@bJBa@bABaLbF@aLbA@aLbF@aLbA@",
    "a@bNBa@bABaLbNAAbAAA@AA@AA@@aLbJ@aLbA@GP@GH@GD@GD@GL@GL@GHBaLaP@aLbA@aLbN@aLbA@aLcG@aLbA@YPAG@@YbAAAbRBAasS@MasP",
    "AG@@GbE@MD@Mo`A@Sn|YBG@@SbAAMoc_@SoaC@GG@GH@SbA@AG@GarB@AdSBMayJAG@@GbU@MT@AaqYBHpuAfTbJD@CbDaVAocECAaxR@AScQAqw",
    "D@ADRAD_Ac[@AH@ACaUAcEDAJBAFWAaQAADZAaOBANBADAAFVArdGAAre[JAaH@ArdS@AD@Hrf@BH]BHHFHHBHPBHHaCAaY@HL@AFaQHc@@HaKFT",
    "bDa]HgcHbaPAbwJqCLdQ@cCf@q[R_Ab{UAADAADAADAADAADAADAADAADAADAADAADBAFAADAADFGNAGFAGFAGFAGFVAcLDFCAeSMA]AADAADAAD",
    "AADAADAADAADAADAADAADAADBAFAADAADFGNAGFAGFAGFAGFVAcLBTdVCA]a`hY@DaWaAFbRFhX@C@D@YFeB@[cIaUaKYa^aOLaQ@BRB@aI@bE_B",
    "FBFL@H@aP@aT@ALBFEFA@aKFH@gU@B@D@tpNAaqsY@As{O@Auf^@AabD@Ao}[@AqkW@AcaD@GaijP@Aafm^@A~cE@AaacV@Ab`@@AdsK@Aj{W@Ad",
    "zN@AcrC@AxN@AtP@AdaK@AtpU@AatE@Aa~Y@Aar[@AhvL@Ag`S@AdpZ@AaieZ@AbsW@AlqC@AcxC@AjuO@AlwM@AacpI@Ai|I@AktM@Aa|I@AtqR",
    "@App_@AcjU@Av`S@AdmC@AckN@Ab~@@Ao{P@AacxE@AaeF@AsA@AipS@AcgB@AczQ@Abq^@AdzJ@AcfM@AeQ@AdaC@Ad|_@Abh@@Aak@@As}E@Ao",
    "U@AbfF@AchW@AhcQ@AfcS@AjnU@AzsF@AchO@Aos]@Abf@@Agp@@AclY@AjsY@AemR@Aabb_@Aa{N@AgiD@Ab`L@As^@AgpI@AqA@AlyU@Aad}K@",
    "AxkE@Ax{@@Aa@@AunY@Aa}@@AciL@AizY@Aey^@AuuA@Acy]@AqqX@AaakT@Agh^@AbfZ@AjkK@Aa`Q@AriH@AteY@Au~@@AhnZ@AikY@ApkY@Ac",
    "|@@AlrZ@AvaH@AbnB@Apj@@AgbK@AclK@Apn^@Asd^@ArvS@AebP@Ap~]@AptM@AinO@AtsL@AanC@AfF@AlcG@Ajz]@Ab}K@AdnP@AcvM@AaboA",
    "@AuO@AbwW@Ab|L@ActC@AemZ@Ad{O@Aoe]@AbpH@Abf_@AcQ@AairO@AjwC@AboO@AsdG@AzbC@AatK@AgG@Aak_@Aes@@AadO@AavU@AbxX@Abf",
    "X@Aai_@AgzA@AemW@Ae~C@AauB@AacvY@AiA@AacV@An}E@Alx@@Aa`O@AwkU@AsK@Aa{F@AdkM@AhyQ@AduB@Asn]@AdiO@AbsM@A~D@AahK@Aj",
    "mO@AkY@Ae}Z@AkC@AiqD@AbpR@AeI@AmM@AagtG@Avm^@AlxX@AbtZ@A|uF@AixD@AagN@Ae{_@AeG@Ad~N@AbjZ@AddX@AbkQ@AgzG@Afc^@Ah`",
    "Z@A~kV@Ayk_@AaeaF@Akd^@AgW@AbyS@AvL@Ab{S@AuU@AasV@AbnV@Anp_@AafxT@Ah|V@A{zS@AafnB@Af{Q@Ah}W@AqvE@AykO@A|N@AcsV@A",
    "fb]@Art@@AaemB@Aa`K@AdmU@Aed[@AtJ@AvJ@Abh@@AcxW@A~V@AecL@Ad~F@AaE@AdwI@Abv@@AaeaB@Ans[@AneP@AoyP@Aan^@AihC@Ah{E@",
    "AcaF@AafU@A}i[@AciN@AjvF@AcxN@AeO@Aw[@AegE@AadP@AngW@AaahW@A{}N@Azc@@AcH@AfvN@Abf_@AmzS@AqwG@AikT@Acl]@AurK@AcuO",
    "@AgnI@AfxU@AvwP@AggE@AblJBAak_AAgo]BAj}_@Aqv^@Aa|[@AaiL@AbF@AN@AbV@AozY@AneF@AarOAAckRAAbr]BAbxV@AlVCAdgG@AZ@AbZ",
    "@AbmC@Afy_@AccR@AafzF@AtF@AfR@AxP@AaW@AgA@Aaf^@AfX@AfJ@A~N@AfV@Aa~U@AT@AbfP@AmU@AbN@AfN@AaxQ@AiO@AkI@AaaH@AbsU@A",
    "jP@AqA@Aaf^@AlF@AaaN@AbkG@AkE@AV@AA@AP@AL@AN@HcC@AkQ@AdF@AtR@AaeL@AaK@AcS@AsU@AiO@Aa`O@GiA@A~Z@Abp@@AhT@AwM@AcS@",
    "AzN@AcM@AamH@AhL@AcqD@ArJ@Ac[@A}vD@AhiaR@Agvd@BA{t]@Aa{X@Ad^@Aa`N@A}G@AcY@AuC@AcI@AalQ@AdS@AdL@AdV@AaiX@AeW@AiK@",
    "AaA@AqM@AlX@Aa}P@AN@AiI@AdL@AsI@AgS@AdO@AhT@Ab^@AiM@AdH@AyY@AeU@AcO@ApX@ArN@AjP@AH@AcY@AbfJ@AdF@AyG@AzN@Aa@@AeS@",
    "ApH@AuU@AciX@Ab{]@Ag[@Ag^@AuC@AiS@AcM@AnR@AD@AkA@AaC@AaS@AeQ@AS@AyQ@Aa`I@AqO@AlB@AnN@Ai[@AuI@AlZ@AawP@AjD@Aa{N@A",
    "}M@AdN@AaA@AsE@AcU@Ab[@AcO@AE@AaB@Ad]@AeG@AxT@AaeD@AtH@AsA@AnH@AbdN@AfT@AgM@AhR@AbJ@AX@AcC@Aao]@Abl_@AfwfQ@AK@Af",
    "eA@AhtsV@Abl@@AbD@AiclR@Aer[@ArcW@AhgoO@AdZbEAbs{S@@@AaSJSQ@MaR@aABAZNAALAHDAHFAZF@AaB@AG@AT@ARvGb]Pb]a`L@gI@dYX",
    "av[LAFERaILD@eJFakD@aWbVaYLXAdrb_AADNATGRBFbGLaEXAaKb@@LFaUaQKLcELB@AFeL@CaKUFa[@C@JKalOQ@KRaAYaECXjH_A@@AvZ@K@Q",
    "AKRH@FAFgURDKpFQ@KTS@FAF[FbWaKB@AFcM@A@B_A@cHLBRAXviWXa]aEad[RtpFFepJKcf~K]@KYZ@QYZR@QaLZT@QaNZV@QaPZX@QaRZZBLQa",
    "KBaE_RMKdReL@KeOeN@QeMeLR@Qd]eNR@QdZeLT@QdZeNTdELbaZjNDiOH@N@VXAbVcwTaEbjgHAfth^@AI@AR@AgnuP@Agnb_@AeA@AZ@AdR@Ag",
    "W@Ab@@AeA@AaP@Ao`R@Ah`bB@AgoxI@AN@AaA@AaG@AgocE@Ag~lZ@AohU@AbN@AgodX@AgodC@AZ@Aao^@AapO@AR@Ai{~@@Ai{yZ@A]@AopH@A",
    "os]@AV@AbZ@AJ@AotH@AoyN@AD@AaW@AaM@HV@AaE@AcG@AP@AR@AaS@AT@MD@AgpvG@AgaiF@AohD@AaK@AgqeC@AgqdI@AL@AaK@AiY@AfQ@Ia",
    "A@AeY@AeM@AaU@AdJ@AaA@GbD@AaK@AaE@AP@A_@Au^@AqP@AqS@AlW@AbH@AbkB@Acu@@ArQ@AbN@AaS@AhK@AjX@AA@Ag^@AgstX@AgspG@AJ@",
    "A_@AaI@AP@AdD@AgtgF@AdH@AgtbP@AcA@AX@AeB@AiE@Ar{X@A]@AsfK@GcO@Agt|C@AgtsO@AaK@A_@AX@AgugC@AgufI@AN@AawP@AauU@Aso",
    "^@Ass_@A]@AeI@AcH@AgvlK@Agv`R@Agv`W@Agu|^@AE@AaC@HfP@AtbQ@AtdL@AbX@AaK@AbZ@AthA@AhlrP@AhlpY@Atj_@AF@AF@AaI@Ai~mH",
    "@Ai~i[@Ggw|R@AgehI@Grq]@AtmN@AhuqF@AycN@Ahzc@@AR@AtpK@AtsM@AcI@AT@AbF@AhX@At|U@Aa]@Au`[@Agy`N@Agx|D@AhJ@AH@AD@AC",
    "@Ab_@AaI@AbJ@A[@AV@AcA@AaI@AH@AaU@AV@AdH@AeM@AbH@Ah@@Agyx_@AgyzE@AdE@Af_@AaW@AfH@Agy~F@AgyzE@Ae_@AaX@AvcB@AvoO@A",
    "aK@Ab@@AbM@AvlK@AvzJ@Aa[@Ag{jR@Ag{b[@Aq[@AkH@Aw`H@Awd^@Awf@@AbI@AlbR@AF@AklW@AfM@Am{P@AaalS@ArxB@AH@AL@Ac^@AU@Ag",
    "|iT@Ahtw_@AwyD@AgP@AmG@AcI@Ag|`[@Ag|`H@AgD@AoY@Axf[@Axi[@AfH@AdR@AlH@Ag|bC@Ag{}X@Ax|I@AyaZ@Ag|{R@Ag|xH@AyaS@AycR",
    "@Ab]@HaW@Ag}rB@AovJ@Ao}L@Ag}oP@Ag~mR@Ag~fH@A]@AfQ@AkI@AbR@AcU@AcN@AbR@A_@AZ@Ag}~Z@Ag~eA@ApF@AdB@AzgB@AzmC@AG@Ag~",
    "gD@Ag~tL@AxB@Ag~eN@AcC@Ag~bZ@AgM@AaV@AE@Az|K@A{`M@AcI@AK@AcO@Af}oH@Af}eM@Ag~x^@Ag~sI@Ah`iO@Ah``M@AZ@AaW@Ahae]@Ah",
    "abX@AaK@Ahat[@AnL@AhatN@AaC@A|eF@A|f]@G|fC@A|pR@AaK@AaK@AaI@AdN@A|rS@A|xN@Ahb~H@Ahb|Q@AhccP@Ahc`H@Agkc^@AgjxR@Ah",
    "diO@AaO@AiA@AibnD@AX@A}hC@AhdpR@AA@AbP@AaU@Hhdq_@AB@AbX@A}jN@A}nU@A}mY@AeE@AideX@AheoO@Ad@@AdD@A}xL@AiecM@AhfaB@",
    "AhfhR@AbX@AhfgT@Ae^@A~g@@A~lP@AT@AJ@AhgiD@GsI@AhgrD@A~jC@AignB@Ahgt_@AF@A~uZ@AigyM@AhgqM@Aa``D@Aa`aR@AI@Aa[@Ahib",
    "M@Ahh{@@Aa`cG@Aa`iV@AcY@AdJ@Aa`nP@AijhO@Ab@@AijhB@AijqP@AhipL@Ahiv^@AhiuE@AfP@AV@AhjiQ@AdV@AhjhK@Ahjp_@Ahjo]@Agn",
    "vM@Ahp`K@AaamG@AeG@Aaan^@AaarX@AtpM@Ai`uB@A]@A{x@@AR@Agn`N@AF@AggT@Aaia_@AabcN@AK@AaE@AypJ@AyqT@AD@AT@AbT@AhleM@",
    "AhleN@AcS@AdP@AdX@Ah[@Ai^@AbV@AgG@ApW@AgU@AD@AaA@AhleU@As^@AiT@Ain|J@Aab~I@AD@AbH@AhoqR@AholP@Ahl}I@AipaW@AH@Aip",
    "jC@ArT@Aip|B@AacqY@AX@AV@AD@AdD@AbC@AhT@AbY@AiW@AeF@AdJ@AaW@Aac~Y@IadeV@AadcO@AadkV@AF@AhofG@Ahn}V@AN@Aado^@Aadq",
    "X@Aam{L@Ai}~P@Ak[@Aitw[@AR@AaedR@Ad_@AjD@AmC@AhpmK@AhpgX@AaM@AeY@Ae^@AhqeL@AbaoE@AfooW@A^@AcK@Afo{N@AfolV@AfN@Ah",
    "sxA@AaW@AhscI@If@@AhsrA@AhsoI@ArL@HjH@AeZ@AxR@AaY@AhtnL@AhsuG@AainQ@AaiqM@Ahtl@@Ai}xE@Aai}O@A~lO@A~rV@AhutK@AmW@",
    "Aj`}_@AP@AajgR@Ahvv]@AjazR@AjbdT@Ghv}D@Aa^@AhwnY@AhwbZ@Aajl@@AajpS@AhD@AaW@Ac[@AajtJ@AjebK@AhxzE@AsO@AlF@AakvI@A",
    "b@@Aak{E@AhzrN@Ajgm[@AjgqN@AqC@AhN@AhzyR@AalkI@AaloJ@AJ@AN@AT@AN@AbL@Ah|lBxg~QaoHbCd]fHcHdJhFAaGaQaBiARAKiXalGA]",
    "~EBbZNBhTaCAAd[@]g^CAn@@PmLAAmO@AmDAHmI@Am@BAeG@Ah@@AD@Al^AAmI@AFAAL@AA@AmJCAmY@AFAAF@]mTAAnL@Am]AAnDBAmXAAnD@Am",
    "]AHnB@PmXAAnJ@Am_CAHGGRAGFAGFAbZDBcGaCBGaIAADAAfE@AbV@gOcWAAeZAcGhRGAvo^@AvnIAAjM@AvxZBAvm_AAlO@AqC@AF@aUdMiJPsG",
    "CALHAh@FAdQANBAAb@AHBAcEaXAaSaEaDAaIHdLDEAbCBAdDAAK@ARBNhG@b_mW@fBbAaQfJcEIjFbVAAdL@bNYBrJ_BgGiIc`FgGucLAAbPEALw",
    "IoKbehK@aAbruTbhYAdqQFhFfgTBNb]jJ|Xf|_IAopDArJozOIaMfDHaAaAJaMaAHaMaAHaAaAKAaCAADAADAADHaMRXaMbBHaMaAHaMaAHHaA@H",
    "dC@AdJKTdE@AeGKHZ@HeXLHfZ@HfQ@Af]KHg@@HH@AgUiRAo`DCAaxR@Ag[FAqhIaNb_bFSAaIzLd]awNa|KiEc|YaQAcEAAvk@@AnmC@Ank]B]v",
    "jJAIvmD@AA@ADAAvmYBAFHHvoF@sCvo^HPf]DANaaiVhTbbsOSeEdDdKbNjNCkWaAJPdRAAbkpH@aUbkpSDAZAAby~TBPbz`@CcSLAAbz`I@AS@A",
    "J@AV@ACAAcK@AaN@AaM@Ab{{N@bZa|VAAbC@Aby}I@AnlV@Pbks_AAbzcR@bZbzc^AAbzp[XAbzsQwfZd]aooWahLgSbr_dLfZkKeAb@lJAbXXAa",
    "GaAAHPazCiWcv^eBdDkKb~VfBf`ZvxBfBansFbBdVe[aaqXfNbcfS"
};
static uint32_t gpti_fold_digit(size_t i) {
    const uint32_t c = (unsigned char)gpti_fold_rows[i / GPTI_FOLD_WIDTH][i % GPTI_FOLD_WIDTH];
    return c - 64 - (c > 92);
}
static uint32_t gpti_fold_end(int table) {
    return (uint32_t)(GPTI_FOLD_CLEAN + (table > 0 ? GPTI_FOLD_FLIP : 0) + (table > 1 ? GPTI_FOLD_STRIP : 0) +
        (table > 2 ? GPTI_FOLD_LOWER : 0));
}

/* ---- data: pre-tokenizers ---- */

#define GPTI_RX_END "|\\s+(?!\\S)|\\s+"
#define GPTI_RX_TAIL "'(?i:s|t|re|ve|m|ll|d)"
#define GPTI_RX_GPT2 "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+" GPTI_RX_END
#define GPTI_RX_LLAMA(number, space) GPTI_RX_TAIL "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+" space
#define GPTI_RX_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define GPTI_RX_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define GPTI_RX_CASED(tail, number) "[^\\r\\n\\p{L}\\p{N}]?" GPTI_RX_UPPER "*" GPTI_RX_LOWER "+" tail \
    "|[^\\r\\n\\p{L}\\p{N}]?" GPTI_RX_UPPER "+" GPTI_RX_LOWER "*" tail "|" number \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+" GPTI_RX_END
#define GPTI_RX_TAILS "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#define GPTI_RX_CJK "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define GPTI_RX_KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define GPTI_RX_DEEPSEEK3 "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+" GPTI_RX_END
#define GPTI_RX_BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
#define GPTI_RX_CASED_LETTERS /* the letters with case that DeepSeek LLM lists; some scripts are left out */ \
    "\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}" \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}" \
    "\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}" \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}" \
    "\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}" \
    "\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}" \
    "\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}" \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}" \
    "\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}" \
    "\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}" \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}" \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}" \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}" \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+"


/* The table of families, copied out: a constant with pointers in it would need relocation, and so be no constant. */
static size_t gpti_list_pretokenizers(gpti_pretokenizer out[GPTI_N_PRE]) {
    const gpti_pretokenizer rows[] = {
        { "gpt-2 phi-2 mpt olmo jais exaone4 gigachat a.x-4.0 mellum modern-bert jina-es jina-de jina-v2-es jina-v2-de "
          "trillion granite-docling jina-v1-en jina-v2-code roberta-bpe", 0, 0, { GPTI_RX_GPT2 } },
        { "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", 1, 1,
          { GPTI_RX_LLAMA("\\p{N}{1,3}", GPTI_RX_END) } },
        { "dbrx smaug-bpe chatglm-bpe", 0, 0, { GPTI_RX_LLAMA("\\p{N}{1,3}", GPTI_RX_END) } },
        { "glm4 glm5", 0, 1, { GPTI_RX_LLAMA("\\p{N}{1,3}", GPTI_RX_END) } },
        { "qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan solar-open grok-2 kormo f2llmv2", 0, 0,
          { GPTI_RX_LLAMA("\\p{N}", GPTI_RX_END) } },
        { "qwen35", 0, 0, { GPTI_RX_TAIL "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
          "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+" GPTI_RX_END } },
        { "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", 0, 0, { "\\p{N}", GPTI_RX_GPT2 } },
        { "falcon", 0, 0, { "[\\p{P}$+<=>^~|`]+", GPTI_RX_GPT2, "[0-9]{3}" } },
        { "default", 0, 0, { "[\\p{P}$+<=>^~|]+", GPTI_RX_GPT2, "\\p{N}+", "[0-9]{3}" } },
        { "deepseek-llm", 0, 0, { "[\\r\\n]", GPTI_RX_CASED_LETTERS, "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}"
          "\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", "\\s+$", GPTI_RX_CJK, "\\p{N}+" } },
        { "deepseek-coder", 0, 0, { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", GPTI_RX_CJK, "\\p{N}" } },
        { "deepseek-v3 hunyuan-dense joyai-llm", 0, 0, { "\\p{N}{1,3}", GPTI_RX_KANA, GPTI_RX_DEEPSEEK3 } },
        { "tekken", 1, 1, { GPTI_RX_CASED("", "\\p{N}") } },
        { "gpt-4o llama4 minimax-m2 kanana2 talkie", 0, 0, { GPTI_RX_CASED(GPTI_RX_TAILS, "\\p{N}{1,3}") } },
        { "bloom gpt3-finnish poro-chat", 0, 0, { GPTI_RX_BLOOM } },
        { "viking", 0, 0, { GPTI_RX_BLOOM, "\\p{N}" } },
        { "jais-2", 0, 0, { GPTI_RX_LLAMA("\\p{N}{1,3}", "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)"
          "|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s") } },
        { "bailingmoe bailingmoe2 llada-moe", 0, 0, { GPTI_RX_TAIL "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
          "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]" GPTI_RX_END } },
        { "seed-coder", 0, 0, { GPTI_RX_TAIL "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+"
          "|\\s*[\\r\\n]+" GPTI_RX_END } },
        { "minicpm5", 0, 1, { "\\p{N}{1,3}", GPTI_RX_LLAMA("\\p{N}+", GPTI_RX_END) } }
    };
    memcpy(out, rows, sizeof rows);
    return sizeof rows / sizeof *rows;
}


/* ======================================================================
 * [MODEL] The architecture table, hyper-parameters, loading
 * ==================================================================== */

enum { GPTI_NORM_LAYER, GPTI_NORM_RMS };    /* LayerNorm (Ba 2016), RMSNorm (Zhang & Sennrich 2019) */
enum { GPTI_POS_NONE, GPTI_POS_PAIR, GPTI_POS_HALF, GPTI_POS_ALIBI };   /* rope on pairs (2i, 2i+1) or (i, i + d/2) */
enum { GPTI_GELU_TANH, GPTI_GELU_ERF, GPTI_SILU, GPTI_RELU_2, GPTI_SWIGLU_CLAMP };
enum { GPTI_NO, GPTI_IF_PRESENT, GPTI_YES };

/* One row per architecture: the choices in which GPT-family decoders differ. `has` says in words what
 * its models have; with a question mark: have where the file has the tensors.
 *   pre_norm     norms before attention and feed-forward     qkv_bias   q, k, v have a bias
 *   post_norm    norms after them, before the sum            out_bias   attention's output has one
 *   plain_norm   norms without weights                       ffn_bias   the feed-forward has one
 *   norm_bias    norms have a bias                           own_head   output.weight is there
 *   qk_norm      norms on q and k before rope                head_bias  so is output.bias
 *   late_norm    these come after rope                       experts    layers of kind GPTI_MOE
 *   embd_norm    a norm right after the embedding            shared     an expert that all tokens use
 *   embd_sqrt    embeddings times sqrt(d_model)              shared_gate  which has a gate
 *   positions    learned position embeddings                 sum_to_1   the experts' weights do
 *   full_rope    rope turns the whole head                   logit_div  logit_scale divides
 *   near_rope    where layers have windows, the others have no rope
 *   whole_ff     feed_forward_length is an expert's, not that of all that are used
 *   gated        down(act(gate x) * up x), not down(act(up x))
 *   parallel     x + attention(norm x) + ffn(norm x); with ?: where the file has no ffn_norm
 *   conv         layers without kv heads are of kind GPTI_CONV
 *   state        some layers are of a kind with a state:
 *   delta        of four layers, or as the file says, all but the last are of kind GPTI_DELTA
 *   mamba        layers without kv heads are of kind GPTI_MAMBA
 *   by_key_head  whose value heads stand by the key head that they read, not in turn
 *   gated_att    attn_q has, for each head, rows for q, then for a gate on what attention gives
 *   att_gate     that gate has a matrix of its own
 *   no_last      no norm after the last layer                sum_norm   norms after the sums: x = norm(x + y)
 *   embd_is_last token_embd_norm is that norm                types      a row for the kind of text, added to all
 *   both_ways    rows see later ones too: no decoder         dense      may have layers behind pooling
 *   router_bias  the router has one, for choosing alone
 *   sinks        one more score per head, with no value behind it
 *   post_is_ffn  post_attention_norm is the feed-forward's norm
 * Layers of letter w have a sliding window where the file has one, those of g see everything, those of
 * n have no rope. k_ words say whose keys a row reads (gpti_keys): k_parallel k_scales k_logit k_caps
 * k_query k_clamp k_oss k_window k_router k_softmax k_grow.
 *
 * To add an architecture: 1. a row here: a word that is left out is a no (a bias is then not required),
 * norm also says which epsilon key is read, a k_ word may bring several keys; 2. rows of
 * gpti_layer_tensors and gpti_keys for what no other has, with a word for them, which test_words in
 * unit_load.c wants to know; 3. a model in tests/make_goldens.py, which has transformers say what is
 * right, and its name in unit_model.c and unit_look.c. What words cannot say is a new layer kind. */
typedef struct gpti_arch {      /* texts stand in the rows of all tables: rows without pointers are truly constant */
    char    name[16];
    uint8_t norm, pos, act;
    char    pattern[7];         /* a letter for each layer, again and again: w, g or n, see above */
    uint8_t wide_at_layer;      /* a model of this many layers scales scores by 1/sqrt(d_model / n_head) */
    float   local_base;         /* rope base of window layers: 0 = as the others and scaled, 1 = as the others */
    char    has[128];
} gpti_arch;

#define GPTI_GPT2_LIKE  "pre_norm norm_bias qkv_bias out_bias ffn_bias "
#define GPTI_LLAMA_LIKE "pre_norm gated "
static const gpti_arch gpti_archs[] = {
    /* name         norm             position       activation    pattern  wide local_base */
    { "gpt2",       GPTI_NORM_LAYER, GPTI_POS_NONE,  GPTI_GELU_TANH, "w", 0, 0,
        GPTI_GPT2_LIKE "positions" },
    { "starcoder",  GPTI_NORM_LAYER, GPTI_POS_NONE,  GPTI_GELU_TANH, "w", 0, 0,
        GPTI_GPT2_LIKE "positions" },
    { "gptneox",    GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_GELU_ERF,  "w", 0, 0,
        GPTI_GPT2_LIKE "k_parallel own_head" },
    { "gptj",       GPTI_NORM_LAYER, GPTI_POS_PAIR,  GPTI_GELU_TANH, "w", 0, 0,
        "pre_norm norm_bias ffn_bias parallel" },
    { "bloom",      GPTI_NORM_LAYER, GPTI_POS_ALIBI, GPTI_GELU_TANH, "w", 0, 0,
        GPTI_GPT2_LIKE "embd_norm" },
    { "falcon",     GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_GELU_ERF,  "w", 0, 0,
        "pre_norm norm_bias parallel full_rope" },
    { "starcoder2", GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_GELU_TANH, "w", 0, 0, GPTI_GPT2_LIKE },
    { "nemotron",   GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_RELU_2,    "w", 0, 0, "pre_norm norm_bias" },
    { "jais2",      GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_RELU_2,    "w", 0, 0, GPTI_GPT2_LIKE },
    { "stablelm",   GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        "pre_norm norm_bias gated parallel? qk_norm? own_head" },
    { "phi2",       GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_GELU_TANH, "w", 0, 0,
        GPTI_GPT2_LIKE "parallel own_head head_bias" },
    { "phi3",       GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0, GPTI_LLAMA_LIKE },
    { "llama",      GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "experts? whole_ff sum_to_1 full_rope" },
    { "mistral3",   GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "k_grow" },
    { "arcee",      GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_RELU_2,    "w", 0, 0, "pre_norm" },
    { "ernie4_5",   GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0, GPTI_LLAMA_LIKE },
    { "ernie4_5-moe", GPTI_NORM_RMS, GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "experts? shared? sum_to_1 k_router k_softmax router_bias" },
    { "glm4",       GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "post_norm" },
    { "glm4moe",    GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm? post_is_ffn experts? shared? k_router router_bias own_head" },
    { "dots1",      GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm experts? shared? k_router own_head" },
    { "minimax-m2", GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm experts? whole_ff sum_to_1 k_router router_bias own_head" },
    { "qwen2",      GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qkv_bias" },
    { "qwen2vl",    GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qkv_bias" },
    { "seed_oss",   GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qkv_bias post_is_ffn" },
    { "qwen2moe",   GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qkv_bias experts? shared shared_gate own_head" },
    { "qwen3",      GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 1,
        GPTI_LLAMA_LIKE "qk_norm" },
    { "qwen3vl",    GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 1,
        GPTI_LLAMA_LIKE "qk_norm" },
    { "hunyuan-dense", GPTI_NORM_RMS, GPTI_POS_HALF, GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm late_norm" },
    { "hunyuan-moe", GPTI_NORM_RMS,  GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm late_norm experts? shared sum_to_1" },
    { "qwen3moe",   GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 1,
        GPTI_LLAMA_LIKE "qk_norm experts? sum_to_1" },
    { "qwen3vlmoe", GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 1,
        GPTI_LLAMA_LIKE "qk_norm experts? sum_to_1" },
    { "olmoe",      GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm experts? whole_ff own_head" },
    { "gemma",      GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_GELU_TANH, "w", 0, 0,
        GPTI_LLAMA_LIKE "embd_sqrt" },
    { "gemma2",     GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_GELU_TANH, "wg", 46, 0,
        GPTI_LLAMA_LIKE "post_norm embd_sqrt k_query k_caps" },
    { "gemma3",     GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_GELU_TANH, "wwwwwg", 62, 10000,
        GPTI_LLAMA_LIKE "post_norm qk_norm embd_sqrt k_query" },
    { "olmo",       GPTI_NORM_LAYER, GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "plain_norm k_clamp" },
    { "olmo2",      GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "wwwg", 0, 1,
        "post_norm gated qk_norm own_head" },
    { "exaone4",    GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "wwwg", 0, 0,
        "post_norm gated qk_norm near_rope" },
    { "afmoe",      GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "wwwg", 0, 0,
        GPTI_LLAMA_LIKE "post_norm qk_norm embd_sqrt att_gate near_rope k_window experts? shared? k_router router_bias "
        "own_head" },
    { "exaone-moe", GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "wwwg", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm near_rope k_window experts? shared? k_router own_head" },
    { "granite",    GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "logit_div k_scales k_logit" },
    { "granitemoe", GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "logit_div k_scales k_logit experts? whole_ff shared? sum_to_1" },
    { "granitehybrid", GPTI_NORM_RMS, GPTI_POS_PAIR, GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "logit_div k_scales k_logit experts? whole_ff shared? sum_to_1 state mamba by_key_head" },
    { "smollm3",    GPTI_NORM_RMS,   GPTI_POS_PAIR,  GPTI_SILU,      "wwwn", 0, 0, GPTI_LLAMA_LIKE },
    { "command-r",  GPTI_NORM_LAYER, GPTI_POS_PAIR,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "parallel qk_norm? k_logit" },
    { "cohere2",    GPTI_NORM_LAYER, GPTI_POS_PAIR,  GPTI_SILU,      "wwwg", 0, 0,
        GPTI_LLAMA_LIKE "parallel k_logit near_rope k_window" },
    { "qwen35",     GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm post_is_ffn state delta gated_att" },
    { "qwen35moe",  GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm post_is_ffn state delta gated_att experts? shared shared_gate sum_to_1 own_head" },
    { "qwen3next",  GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm post_is_ffn state delta by_key_head gated_att experts? shared shared_gate sum_to_1 "
        "own_head" },
    { "gpt-oss",    GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SWIGLU_CLAMP, "wg", 0, 0,
        GPTI_LLAMA_LIKE "qkv_bias out_bias sinks post_is_ffn experts? sum_to_1 own_head k_oss k_window" },
    { "lfm2",       GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm conv no_last embd_is_last" },
    { "lfm2moe",    GPTI_NORM_RMS,   GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        GPTI_LLAMA_LIKE "qk_norm conv no_last embd_is_last experts? sum_to_1 k_router" },
    { "bert",       GPTI_NORM_LAYER, GPTI_POS_NONE,  GPTI_GELU_ERF,  "w", 0, 0,
        "sum_norm norm_bias qkv_bias out_bias ffn_bias positions embd_norm types no_last both_ways" },
    { "nomic-bert", GPTI_NORM_LAYER, GPTI_POS_HALF,  GPTI_SILU,      "w", 0, 0,
        "sum_norm norm_bias gated embd_norm types no_last both_ways" },
    { "gemma-embedding", GPTI_NORM_RMS, GPTI_POS_HALF, GPTI_GELU_TANH, "wwwwwg", 0, 10000,
        GPTI_LLAMA_LIKE "post_norm qk_norm embd_sqrt k_query both_ways dense" }
};
enum { GPTI_N_ARCH = (int)(sizeof gpti_archs / sizeof gpti_archs[0]) };

/* Has the architecture what the word says? "" stands for all of them: GPTI_IF_PRESENT. */
static int gpti_has(const gpti_arch *a, const char *word) {
    const size_t n = strlen(word);
    const char *p = a->has;
    if (!n) return GPTI_IF_PRESENT;
    for (; *p; p += strcspn(p, " "), p += *p == ' ') {
        if (strncmp(p, word, n)) continue;
        if (p[n] == '?') return GPTI_IF_PRESENT;
        if (!p[n] || p[n] == ' ') return GPTI_YES;
    }
    return GPTI_NO;
}

/* Kinds of layers, a bit each: a layer is of one of the first four and of one of the last two. Tensors and
 * stages carry a mask of the kinds that have them.
 *
 * To add a kind: 1. a bit here, and where gpti_load_layer_hparams tells it; 2. its tensors below;
 * 3. its stages, in the story and in gpti_list_stages. */
enum { GPTI_ATTENTION = 1,
       GPTI_CONV = 2,           /* short convolution: the layers without kv heads */
       GPTI_DELTA = 4,          /* gated delta net: what such layers remember is a state, see [SESSION] */
       GPTI_MAMBA = 8,          /* Mamba-2: so it is with these */
       GPTI_STATE = 12,
       GPTI_DENSE = 16,         /* one feed-forward */
       GPTI_MOE = 32,           /* mixture of experts: the layers whose file has a router */
       GPTI_EVERY = 63 };

enum { GPTI_QK_SHARED, GPTI_QK_EACH, GPTI_QK_WHOLE };   /* q/k norm per head, same weights; own weights; all heads */

typedef struct gpti_vector { const float *w, *b; } gpti_vector;     /* weight and bias of a norm, or NULL */
typedef struct gpti_linear {
    gpti_matrix  w;             /* w.data NULL = absent */
    const float *b;             /* [n_row] or NULL; experts: [n_expert, n_row] */
    size_t       stride;        /* experts: bytes from one expert's matrix to the next */
} gpti_linear;

typedef struct gpti_layer {
    int          kind;          /* GPTI_ATTENTION, GPTI_CONV, GPTI_DELTA or GPTI_MAMBA, and GPTI_DENSE or GPTI_MOE */
    gpti_vector  attn_norm, attn_norm_2, q_norm, k_norm, attn_post, ffn_norm, ffn_post;
    gpti_linear  qkv, q, k, v, o, gate, up, down;
    gpti_linear  router, gate_exps, up_exps, down_exps, gate_shexp, up_shexp, down_shexp, shexp_gate;
    const float *sinks, *conv, *router_bias;    /* [n_head]; [D, l_cache]; [n_expert], for choosing alone */
    gpti_linear  z, beta, alpha, beta_alpha;    /* the gate of what attention gives, or a delta net; of its state */
    /* of layers of state: convolution [channels, d_conv], its bias; the others [n_value_head], skip: of Mamba-2 */
    const float *taps, *tap_bias, *decay, *dt_bias, *skip;
    gpti_vector  state_norm;
    size_t       state_at;      /* where its state begins, in floats */
    uint32_t     n_head, n_kv, d_ff;
    uint32_t     window;        /* 0 = sees everything; of a short convolution l_cache */
    int          rope;          /* -1 none, else which of the model's two frequency tables */
    int          qk_norm;       /* GPTI_QK_: what the q and k norms run over */
} gpti_layer;

typedef struct gpti_hparams {
    uint32_t n_layer, n_vocab, n_ctx, d_model;
    uint32_t n_next;                    /* layers behind those, which guess a token ahead: not read */
    uint32_t d_k, d_v, n_rope;          /* of a head: width of q and k, of v; rotated part of d_k */
    uint32_t max_head, max_kv, max_ff, max_qkv, max_att;    /* over the layers, for buffer sizes */
    size_t   ld_ffn;                    /* floats of a row that holds gate and up */
    uint32_t n_expert, n_expert_used, d_ff_exp, d_ff_shexp;
    uint32_t gating, n_group, n_group_used;     /* 2 = the experts' scores are sigmoids; groups of experts, 0 = none */
    uint32_t l_cache;                   /* positions that a short convolution sees */
    /* of layers of state: positions that the convolution sees; widths of a key head, of all value heads; heads */
    uint32_t d_conv, d_state, d_inner, n_key_head, n_value_head, full_every;
    size_t   n_state;                   /* floats of the states of all layers; 0: no layer has one */
    int      gated_att, att_gate, by_key_head;
    uint32_t pooling;                   /* as gpt_pool, 0, 4: the file does not say */
    uint32_t d_dense, n_type;           /* between the dense layers; kinds of text */
    float    expert_scale;
    float    eps, attn_scale, attn_cap, logit_cap, embd_scale, residual_scale, logit_scale, clamp_qkv;
    float    q_growth, yarn_log;        /* q *= 1 + q_growth log(1 + floor(position / n_ctx_orig)) */
    uint32_t window, n_ctx_orig;
    int      causal, with_rope, parallel, yarn_truncate;
    float    rope_base, local_base, rope_scale, rope_attn, yarn_fast, yarn_slow, yarn_attn;
    float    rope_mscale;               /* what cosines and sines are multiplied with */
} gpti_hparams;

struct gpt_model {
    gpti_mem         mem;
    gpti_arch        arch;      /* the row, copied: the file may settle the activation and the period of windows */
    int              pre_norm, late_norm, plain_norm, sum_norm, gated, parallel, sum_to_1;      /* words for a pass */
    gpti_hparams     hp;
    gpti_kernels     kern;      /* the set that computes */
    gpti_tokenizer   tok;
    gpti_linear      embd, head;            /* head.w == embd.w when tied */
    gpti_linear      pos_embd, type_embd, dense[2];     /* dense: behind pooling, data NULL = not in the file */
    gpti_vector      embd_norm, out_norm;
    gpti_layer      *layer;     /* [n_layer] */
    /* [n_rope / 2] radians per position: global, window layers, LongRoPE long */
    float           *rope_freq[3];
    void            *weights;   /* one block: packed matrices and vectors */
    int              quantized; /* some matrix is: what the rows that it multiplies become */
    gpti_source     *part;      /* kept open while weights are used as mapped */
    int              n_part;
    uint64_t         fingerprint;       /* gpti_gguf_fingerprint */
    gpti_gguf        gguf;      /* names of metadata and tensors; arrays and data only while parts are open */
    char            *text[3];   /* name, chat template, architecture: NUL-terminated copies */
    gpt_model_info   info;
    int              header_only, whole;    /* whole: the file has all tensors of a model that can be computed */
    /* calls at work on its sessions, on all threads: gpt_model_free from a hook does nothing */
    uint32_t         n_busy;
};

/* ---- Which tensors a model has. Extents are letters, fastest first; see gpti_extent. ---- */

typedef struct gpti_tensor_row {    /* of NAME.weight, and of NAME.bias */
    char     name[20];
    size_t   offset;                /* in gpti_layer or gpt_model */
    /* 'M' gpti_linear, 'N' gpti_vector, 'V' const float *, 'B' the same of a bias alone, 'P' of NAME alone,
     * 'F' rope factors */
    char     type;
    char     extents[4];            /* of the weight; a bias has all but the first, that of a norm all */
    uint8_t  kinds;                 /* of layers that have it */

    /* Words. who has it: "=word" these must and no others may, "-word" the other way round, "!word" these must,
     * "?word" only these may, "!" all must, "" all may. bias: who must have it, "" nobody; "none": there is no bias. */
    char     who[14], bias[12];
} gpti_tensor_row;

#define GPTI_L(field) offsetof(gpti_layer, field)
static const gpti_tensor_row gpti_layer_tensors[] = {
    { "attn_norm",           GPTI_L(attn_norm),     'N', "D",   GPTI_EVERY, "=pre_norm",    "norm_bias" },
    { "attn_norm_2",         GPTI_L(attn_norm_2),   'N', "D",   GPTI_EVERY, "?parallel",    "" },
    { "attn_qkv",            GPTI_L(qkv),           'M', "DS",  GPTI_ATTENTION, "",         "" },
    { "attn_q",              GPTI_L(q),             'M', "DP",  GPTI_ATTENTION, "",         "" },
    { "attn_k",              GPTI_L(k),             'M', "DK",  GPTI_ATTENTION, "",         "" },
    { "attn_v",              GPTI_L(v),             'M', "DW",  GPTI_ATTENTION, "",         "" },
    { "attn_q_norm",         GPTI_L(q_norm),        'N', "q",   GPTI_ATTENTION, "=qk_norm", "" },
    { "attn_k_norm",         GPTI_L(k_norm),        'N', "k",   GPTI_ATTENTION, "=qk_norm", "" },
    { "attn_output",         GPTI_L(o),             'M', "OD",  GPTI_ATTENTION, "!",        "out_bias" },
    { "attn_sinks",          GPTI_L(sinks),         'V', "H",   GPTI_ATTENTION, "=sinks",   "none" },
    { "attn_qkv",            GPTI_L(qkv),           'M', "DS",  GPTI_DELTA, "!",            "none" },
    { "attn_gate",           GPTI_L(z),             'M', "DO",  GPTI_DELTA, "!",            "none" },
    { "attn_gate",           GPTI_L(z),             'M', "DO",  GPTI_ATTENTION, "=att_gate", "none" },
    { "ssm_beta",            GPTI_L(beta),          'M', "Dh",  GPTI_DELTA, "-by_key_head", "none" },
    { "ssm_alpha",           GPTI_L(alpha),         'M', "Dh",  GPTI_DELTA, "-by_key_head", "none" },
    { "ssm_ba",              GPTI_L(beta_alpha),    'M', "Db",  GPTI_DELTA, "=by_key_head", "none" },
    { "ssm_in",              GPTI_L(qkv),           'M', "DS",  GPTI_MAMBA, "!",            "none" },
    { "ssm_a",               GPTI_L(decay),         'P', "h",   GPTI_DELTA, "!",            "none" },
    { "ssm_a",               GPTI_L(decay),         'P', "1h",  GPTI_MAMBA, "!",            "none" },
    { "ssm_d",               GPTI_L(skip),          'P', "1h",  GPTI_MAMBA, "!",            "none" },
    { "ssm_dt",              GPTI_L(dt_bias),       'B', "h",   GPTI_STATE, "!state",       "state" },
    { "ssm_conv1d",          GPTI_L(taps),          'V', "Tc",  GPTI_STATE, "!",            "none" },
    { "ssm_conv1d",          GPTI_L(tap_bias),      'B', "c",   GPTI_MAMBA, "",             "" },
    { "ssm_norm",            GPTI_L(state_norm),    'N', "v",   GPTI_DELTA, "!",            "none" },
    { "ssm_norm",            GPTI_L(state_norm),    'N', "gy",  GPTI_MAMBA, "!",            "none" },
    { "ssm_out",             GPTI_L(o),             'M', "OD",  GPTI_STATE, "!",            "none" },
    { "shortconv.in_proj",   GPTI_L(qkv),           'M', "DS",  GPTI_CONV,  "!",            "" },
    { "shortconv.conv",      GPTI_L(conv),          'V', "LD",  GPTI_CONV,  "!",            "none" },
    { "shortconv.out_proj",  GPTI_L(o),             'M', "OD",  GPTI_CONV,  "!",            "" },
    { "post_attention_norm", GPTI_L(attn_post),     'N', "D",   GPTI_EVERY, "=post_norm",   "none" },
    { "post_attention_norm", GPTI_L(ffn_norm),      'N', "D",   GPTI_EVERY, "=post_is_ffn", "none" },
    { "ffn_norm",            GPTI_L(ffn_norm),      'N', "D",   GPTI_EVERY, "?pre_norm",    "" },
    { "post_ffw_norm",       GPTI_L(ffn_post),      'N', "D",   GPTI_EVERY, "=post_norm",   "none" },
    { "attn_output_norm",    GPTI_L(attn_post),     'N', "D",   GPTI_EVERY, "=sum_norm",    "norm_bias" },
    { "layer_output_norm",   GPTI_L(ffn_post),      'N', "D",   GPTI_EVERY, "=sum_norm",    "norm_bias" },
    { "ffn_gate",            GPTI_L(gate),          'M', "DF",  GPTI_DENSE, "?gated",       "" },
    { "ffn_up",              GPTI_L(up),            'M', "DU",  GPTI_DENSE, "!",            "ffn_bias" },
    { "ffn_down",            GPTI_L(down),          'M', "FD",  GPTI_DENSE, "!",            "ffn_bias" },
    { "ffn_gate_inp",        GPTI_L(router),        'M', "DX",  GPTI_MOE,   "!",            "" },
    { "exp_probs_b",         GPTI_L(router_bias),   'B', "X",   GPTI_MOE,   "?k_router",    "router_bias" },
    { "ffn_gate_exps",       GPTI_L(gate_exps),     'M', "DEX", GPTI_MOE,   "!",            "" },
    { "ffn_up_exps",         GPTI_L(up_exps),       'M', "DEX", GPTI_MOE,   "!",            "" },
    { "ffn_down_exps",       GPTI_L(down_exps),     'M', "EDX", GPTI_MOE,   "!",            "" },
    { "ffn_gate_inp_shexp",  GPTI_L(shexp_gate),    'M', "D1",  GPTI_MOE,   "!shared_gate", "none" },
    { "ffn_gate_shexp",      GPTI_L(gate_shexp),    'M', "DZ",  GPTI_MOE,   "!shared",      "none" },
    { "ffn_up_shexp",        GPTI_L(up_shexp),      'M', "DZ",  GPTI_MOE,   "!shared",      "none" },
    { "ffn_down_shexp",      GPTI_L(down_shexp),    'M', "ZD",  GPTI_MOE,   "!shared",      "none" }
};
#define GPTI_M(field) offsetof(gpt_model, field)
static const gpti_tensor_row gpti_model_tensors[] = {
    { "token_embd",          GPTI_M(embd),          'M', "DN",  GPTI_EVERY, "!",            "none" },
    { "position_embd",       GPTI_M(pos_embd),      'M', "DC",  GPTI_EVERY, "=positions",   "none" },
    { "token_embd_norm",     GPTI_M(embd_norm),     'N', "D",   GPTI_EVERY, "=embd_norm",   "embd_norm" },
    { "token_embd_norm",     GPTI_M(out_norm),      'N', "D",   GPTI_EVERY, "=embd_is_last", "none" },
    { "output_norm",         GPTI_M(out_norm),      'N', "D",   GPTI_EVERY, "-no_last",     "norm_bias" },
    { "token_types",         GPTI_M(type_embd),     'M', "DY",  GPTI_EVERY, "?types",       "none" },
    { "dense_2",             GPTI_M(dense[0]),      'M', "DA",  GPTI_EVERY, "?dense",       "none" },
    { "dense_3",             GPTI_M(dense[1]),      'M', "AD",  GPTI_EVERY, "?dense",       "none" },
    { "output",              GPTI_M(head),          'M', "DN",  GPTI_EVERY, "!own_head",    "head_bias" },
    { "rope_freqs",          0,                     'F', "R",   GPTI_EVERY, "",             "none" },
    { "rope_factors_long",   0,                     'F', "R",   GPTI_EVERY, "",             "none" },
    { "rope_factors_short",  0,                     'F', "R",   GPTI_EVERY, "",             "none" }
};
enum {
    GPTI_N_LAYER_TENSOR = (int)(sizeof gpti_layer_tensors / sizeof gpti_layer_tensors[0]),
    GPTI_N_MODEL_TENSOR = (int)(sizeof gpti_model_tensors / sizeof gpti_model_tensors[0])
};

/* What the letters of the tensor tables stand for. */
static uint64_t gpti_extent(const gpti_hparams *hp, const gpti_layer *l, char letter) {
    const int conv = l && l->kind & GPTI_CONV;      /* b, c and x, D wide, stand where others have q, k and v */
    const int delta = l && l->kind & GPTI_DELTA, mamba = l && l->kind & GPTI_MAMBA;
    const uint64_t n_head = conv ? 1 : l ? l->n_head : 0, n_kv = conv ? 1 : l ? l->n_kv : 0;
    const uint64_t d_k = conv ? hp->d_model : hp->d_k, d_v = conv ? hp->d_model : hp->d_v;
    /* Mamba-2 has z and x there, then B, C and dt */
    const uint64_t keys = (uint64_t)hp->n_key_head * hp->d_state, inner = hp->d_inner;
    const uint64_t q = delta ? keys : mamba ? inner : n_head * d_k, k = delta || mamba ? q : n_kv * d_k;
    const uint64_t v = delta ? inner : mamba ? 2 * keys + hp->n_value_head : n_kv * d_v;
    const uint64_t o = delta || mamba ? inner : n_head * d_v;
    const uint64_t p = hp->gated_att && l && l->kind & GPTI_ATTENTION ? 2 * q : q;  /* with the gate */
    switch (letter) {
        case 'D': return hp->d_model;
        case 'N': return hp->n_vocab;
        case 'C': return hp->n_ctx;
        case 'R': return hp->n_rope / 2;
        case 'Q': return q;
        case 'P': return p;
        case 'K': return k;
        case 'W': return v;
        case 'S': return p + k + v;
        case 'G': return p + k + v + (delta ? o + 2 * (uint64_t)hp->n_value_head : hp->att_gate ? o : 0);
        case 'O': return o;
        case 'T': return hp->d_conv;
        case 'h': return hp->n_value_head;
        case 'b': return 2 * (uint64_t)hp->n_value_head;
        case 'v': return hp->n_value_head ? inner / hp->n_value_head : 0;
        case 'g': return hp->n_key_head ? inner / hp->n_key_head : 0;
        case 'y': return hp->n_key_head;
        case 'c': return 2 * keys + inner;
        case 'L': return hp->l_cache;
        case 'H': return n_head;
        case 'F': return l ? l->d_ff : 0;
        case 'X': return hp->n_expert;
        case 'E': return hp->d_ff_exp;
        case 'Z': return hp->d_ff_shexp;
        case 'Y': return hp->n_type;
        case 'A': return hp->d_dense;
        default:  return 1;
    }
}

/* ---- Hyper-parameters ---- */

typedef struct gpti_loader {        /* what loading needs and a loaded model does not */
    gpt_model              *m;
    gpti_gguf               g;
    const gpt_model_params *params;
    gpti_pool               pool;
    gpt_error              *err;
    unsigned char          *used;   /* [n_tensor] tensors that found their place */
    uint64_t                done, total;
    unsigned char          *strip;  /* file bytes on their way into panels */
    size_t                  strip_bytes;    /* a MiB or the largest matrix, but a whole panel */
    gpti_arena              arena;
    char                    shown[GPTI_SHOWN];      /* for gpti_show */
} gpti_loader;

/* ".name" is "ARCH.name" in buf; any other key stands for itself */
static const char *gpti_key(const gpti_loader *ld, const char *name, char buf[128]) {
    snprintf(buf, 128, "%.15s%.100s", name[0] == '.' ? ld->m->arch.name : "", name);
    return buf;
}

static gpt_result gpti_key_missing(gpti_loader *ld, const char *key) {
    return gpti_fail(ld->err, GPT_E_FORMAT, "%s: missing from the file", key);
}

/* What to say when a getter found nothing: fine where the key is absent, an error where it holds
 * something else. */
static gpt_result gpti_key_absent(gpti_loader *ld, const char *key, const char *expected) {
    if (!gpti_gguf_find(&ld->g, key)) return GPT_OK;
    return gpti_fail(ld->err, GPT_E_FORMAT, "%s: expected %s, file has something else", key, expected);
}

/* An integer for layer i, where the file may have one for all layers or an array with one for each.
 * Absent gives the default, or an error if that is not within min..max itself. */
static gpt_result gpti_hp_layer(gpti_loader *ld, const char *name, uint32_t i, uint32_t *out, uint32_t absent,
                                uint32_t min, uint32_t max) {
    char key[128];
    int got;
    *out = absent;
    got = gpti_gguf_u32_at(&ld->g, gpti_key(ld, name, key), i, out);
    if (got < 0) return gpti_fail(ld->err, GPT_E_IO, "%s: read error", key);
    if (!got) GPTI_TRY(gpti_key_absent(ld, key, "an integer from 0 to 4294967295, or one for each layer"));
    if (*out >= min && *out <= max) return GPT_OK;
    if (!gpti_gguf_find(&ld->g, key)) return gpti_key_missing(ld, key);
    return gpti_fail(ld->err, GPT_E_FORMAT, "%s: expected %llu to %llu, file has %llu", key, (gpti_ull)min,
                     (gpti_ull)max, (gpti_ull)*out);
}

/* The same for the whole model. */
static gpt_result gpti_hp_u32(gpti_loader *ld, const char *name, uint32_t *out, uint32_t absent, uint32_t min,
                              uint32_t max) {
    char key[128];
    const gpti_meta_pair *pair = gpti_gguf_find(&ld->g, gpti_key(ld, name, key));
    if (pair && pair->type == GPTI_GGUF_ARRAY)
        return gpti_fail(ld->err, GPT_E_FORMAT, "%s: expected one number, file has an array", key);
    return gpti_hp_layer(ld, name, 0, out, absent, min, max);
}

/* A number from min to max. Absent gives the default; so does 0, by which files that llama.cpp has
 * saved say so. Where the default is no such number itself, the file must have the key. */
static gpt_result gpti_hp_f32(gpti_loader *ld, const char *name, float *out, float absent, float min, float max) {
    char key[128];
    *out = 0.0f;
    if (!gpti_gguf_f32(&ld->g, gpti_key(ld, name, key), out)) GPTI_TRY(gpti_key_absent(ld, key, "a number"));
    if (*out == 0.0f) *out = absent;
    if (*out >= min && *out <= max) return GPT_OK;
    if (!gpti_gguf_find(&ld->g, key)) return gpti_key_missing(ld, key);
    return gpti_fail(ld->err, GPT_E_FORMAT, "%s: expected %g to %g, file has %g", key, (double)min, (double)max,
                     (double)*out);
}

static gpt_result gpti_hp_bool(gpti_loader *ld, const char *name, int *out, int absent) {
    char key[128];
    *out = absent;
    return gpti_gguf_bool(&ld->g, gpti_key(ld, name, key), out) ? GPT_OK : gpti_key_absent(ld, key, "a bool");
}

static gpt_result gpti_hp_str(gpti_loader *ld, const char *name, gpti_str *out, const char *absent) {
    char key[128];
    *out = gpti_str_of(absent);
    return gpti_gguf_str(&ld->g, gpti_key(ld, name, key), out) ? GPT_OK : gpti_key_absent(ld, key, "a string");
}

enum { GPTI_MAX_LAYER = 1024, GPTI_MAX_WIDTH = 1 << 20, GPTI_MAX_HEAD = 4096, GPTI_MAX_D_HEAD = 256,
       GPTI_MAX_CTX = 1 << 24, GPTI_MAX_STATE = 1 << 28 };

/* Keys of single values. absent: the value without the key; where that is not from min to max, the
 * file must have it. */
typedef struct gpti_key_row {
    char   key[44];
    char   type;            /* 'u' uint32_t, 'f' float, 'b' int 0 or 1, 't' gpt_token */
    char   only[12];        /* a word of the architectures that read it, "" for all */
    size_t offset;          /* of the field */
    double absent, min, max;
} gpti_key_row;

#define GPTI_H(field) offsetof(gpti_hparams, field)
#define GPTI_U32_MAX 4294967295.0
static const gpti_key_row gpti_shape_keys[] = {
    { ".block_count",              'u', "",           GPTI_H(n_layer),        0,      1,    GPTI_MAX_LAYER },
    { ".nextn_predict_layers",     'u', "",           GPTI_H(n_next),         0,      0,    GPTI_MAX_LAYER },
    { ".embedding_length",         'u', "",           GPTI_H(d_model),        0,      1,    GPTI_MAX_WIDTH },
    { ".context_length",           'u', "",           GPTI_H(n_ctx),          GPTI_U32_MAX, 0,    GPTI_U32_MAX - 1 },
    { ".attention.causal",         'b', "",           GPTI_H(causal),         1,      0,    1 },
    { ".attention.causal",         'b', "both_ways",  GPTI_H(causal),         0,      0,    1 },
    { "tokenizer.ggml.token_type_count", 'u', "types", GPTI_H(n_type),        0,      0,    GPTI_MAX_WIDTH },
    { ".dense_2_feat_out",         'u', "dense",      GPTI_H(d_dense),        0,      0,    GPTI_MAX_WIDTH },
    { ".use_parallel_residual",    'b', "k_parallel", GPTI_H(parallel),       -1,     0,    1 },
    { ".rope.scaling.finetuned",   'b', "k_scales",   GPTI_H(with_rope),      1,      0,    1 }
};
/* Where two rows fill one field, the later one counts. rope.global.freq_base is Ollama's name. */
static const gpti_key_row gpti_keys[] = {
    { ".attention.clamp_kqv",      'f', "k_clamp",    GPTI_H(clamp_qkv),      0,      0,    1e6 },
    { ".attn_logit_softcapping",   'f', "k_caps",     GPTI_H(attn_cap),       50,     0,    1e6 },
    { ".final_logit_softcapping",  'f', "k_query",    GPTI_H(logit_cap),      0,      0,    1e6 },
    { ".final_logit_softcapping",  'f', "k_caps",     GPTI_H(logit_cap),      30,     0,    1e6 },
    { ".attention.scale",          'f', "k_scales",   GPTI_H(attn_scale),     0,      0,    1e6 },
    { ".attention.scale",          'f', "k_query",    GPTI_H(attn_scale),     0,      0,    1e6 },
    { ".embedding_scale",          'f', "k_scales",   GPTI_H(embd_scale),     1,      0,    1e6 },
    { ".residual_scale",           'f', "k_scales",   GPTI_H(residual_scale), 1,      0,    1e6 },
    { ".logit_scale",              'f', "k_logit",    GPTI_H(logit_scale),    1,      0,    1e6 },
    { ".logit_scale",              'f', "logit_div",  GPTI_H(logit_scale),    -1,     0,    1e6 },
    { ".attention.sliding_window", 'u', "",           GPTI_H(window),         0,      0,    GPTI_U32_MAX },
    { ".attention.sliding_window", 'u', "k_window",   GPTI_H(window),         0,      1,    GPTI_U32_MAX },
    { ".shortconv.l_cache",        'u', "conv",       GPTI_H(l_cache),        0,      1,    GPTI_MAX_WIDTH },
    { ".ssm.conv_kernel",          'u', "state",      GPTI_H(d_conv),         0,      2,    16 },
    { ".ssm.state_size",           'u', "state",      GPTI_H(d_state),        0,      1,    GPTI_MAX_D_HEAD },
    { ".ssm.inner_size",           'u', "state",      GPTI_H(d_inner),        0,      1,    GPTI_MAX_WIDTH },
    { ".ssm.group_count",          'u', "state",      GPTI_H(n_key_head),     0,      1,    GPTI_MAX_HEAD },
    { ".ssm.time_step_rank",       'u', "state",      GPTI_H(n_value_head),   0,      1,    GPTI_MAX_HEAD },
    { ".full_attention_interval",  'u', "delta",      GPTI_H(full_every),     4,      1,    GPTI_MAX_LAYER },
    { ".expert_gating_func",       'u', "k_router",   GPTI_H(gating),         2,      1,    2 },
    { ".expert_gating_func",       'u', "k_softmax",  GPTI_H(gating),         1,      1,    1 },
    { ".expert_weights_scale",     'f', "k_router",   GPTI_H(expert_scale),   1,      0,    1e6 },
    { ".expert_group_count",       'u', "k_router",   GPTI_H(n_group),        0,      0,    GPTI_U32_MAX },
    { ".expert_group_used_count",  'u', "k_router",   GPTI_H(n_group_used),   0,      0,    GPTI_U32_MAX },
    { ".attention.temperature_scale", 'f', "k_grow",  GPTI_H(q_growth),       0,      0,    1e3 },
    { ".rope.scaling.yarn_log_multiplier", 'f', "k_grow", GPTI_H(yarn_log), 0,      0,    1e3 },
    { ".rope.scale_linear",        'f', "",           GPTI_H(rope_scale),     1,      1e-3, 1e6 },
    { ".rope.scaling.attn_factor", 'f', "",           GPTI_H(rope_attn),      1,      1e-3, 1e3 },
    { ".rope.scaling.yarn_beta_fast", 'f', "", GPTI_H(yarn_fast),      32,     1e-3, 1e6 },
    { ".rope.scaling.yarn_beta_slow", 'f', "", GPTI_H(yarn_slow),      1,      1e-3, 1e6 },
    { ".rope.scaling.yarn_attn_factor", 'f', "", GPTI_H(yarn_attn),      1,      0,    1e6 },
    { ".rope.scaling.yarn_truncate", 'b', "", GPTI_H(yarn_truncate),  1,      0,    1 },
    { ".rope.scaling.yarn_truncate", 'b', "k_oss", GPTI_H(yarn_truncate),  0,      0,    1 },
    { ".rope.scaling.original_context_length", 'u', "", GPTI_H(n_ctx_orig),     0,      0,    GPTI_U32_MAX },
    { ".rope.global.freq_base",    'f', "",           GPTI_H(rope_base),      10000,  1,    1e12 },
    { ".pooling_type",             'u', "",           GPTI_H(pooling),        0,      0,    4 }
};

static gpt_result gpti_load_keys(gpti_loader *ld, const gpti_key_row *row, size_t n, void *object) {
    char key[128];
    for (; n > 0; n--, row++) {
        void *field = (char *)object + row->offset;
        uint32_t id = UINT32_MAX;
        if (row->only[0] && !gpti_has(&ld->m->arch, row->only)) continue;
        switch (row->type) {
        case 'u': GPTI_TRY(gpti_hp_u32(ld, row->key, (uint32_t *)field, (uint32_t)row->absent, (uint32_t)row->min,
                                       (uint32_t)row->max));
            break;
        case 'f':
            GPTI_TRY(gpti_hp_f32(ld, row->key, (float *)field, (float)row->absent, (float)row->min, (float)row->max));
            break;
        case 'b': GPTI_TRY(gpti_hp_bool(ld, row->key, (int *)field, (int)row->absent));
            if (*(int *)field < row->min) return gpti_key_missing(ld, gpti_key(ld, row->key, key));
            break;
        default:
            if (!gpti_gguf_u32(&ld->g, row->key, &id)) GPTI_TRY(gpti_key_absent(ld, row->key, "a token id"));
            *(gpt_token *)field = id < 0x7fffffffu ? (gpt_token)id : -1;
        }
    }
    return GPT_OK;
}

/* Floats of the matrices that a layer of state keeps: [n_value_head, d_state, width of a value head] */
static size_t gpti_state_matrix(const gpti_hparams *hp) { return (size_t)hp->d_inner * hp->d_state; }

/* The layers: their kinds, shapes and windows, and the largest of them. */
static gpt_result gpti_load_layer_hparams(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpti_hparams *hp = &m->hp;
    const int rope = hp->with_rope && hp->n_rope > 0, by_file = gpti_has(&m->arch, "experts") != GPTI_NO;
    const uint32_t min_kv = gpti_has(&m->arch, "conv") || gpti_has(&m->arch, "mamba") ? 0 : 1;
    const int delta = gpti_has(&m->arch, "delta");
    const char *letters = m->arch.pattern;
    const uint32_t n_letter = (uint32_t)strlen(letters);
    uint32_t i, windowed, recurrent, period = 0;
    const gpti_meta_pair *pattern;
    char key[128];
    pattern = gpti_gguf_find(&ld->g, gpti_key(ld, ".attention.sliding_window_pattern", key));
    if (pattern && pattern->type != GPTI_GGUF_ARRAY)
        GPTI_TRY(gpti_hp_u32(ld, ".attention.sliding_window_pattern", &period, 0, 0, 255));
    for (i = 0; i < hp->n_layer; i++) {
        gpti_layer *l = &m->layer[i];
        GPTI_TRY(gpti_hp_layer(ld, ".attention.head_count", i, &l->n_head, 0, 1, GPTI_MAX_HEAD));
        GPTI_TRY(gpti_hp_layer(ld, ".attention.head_count_kv", i, &l->n_kv, l->n_head, min_kv, l->n_head));
        GPTI_TRY(gpti_hp_layer(ld, ".feed_forward_length", i, &l->d_ff, hp->d_ff_exp, 1, GPTI_MAX_WIDTH));
        if (l->n_kv && l->n_head % l->n_kv)
            return gpti_fail(ld->err, GPT_E_FORMAT, "layer %llu: %llu heads cannot share %llu key/value heads evenly",
                             (gpti_ull)i, (gpti_ull)l->n_head, (gpti_ull)l->n_kv);
        snprintf(key, sizeof key, "blk.%llu.ffn_gate_inp.weight", (gpti_ull)i);
        l->kind = by_file && gpti_gguf_tensor(&ld->g, key) ? GPTI_MOE : GPTI_DENSE;
        recurrent = delta && (i + 1) % hp->full_every;
        if (delta) GPTI_TRY(gpti_hp_layer(ld, ".attention.recurrent_layers", i, &recurrent, recurrent, 0, 1));
        l->kind |= recurrent ? GPTI_DELTA : l->n_kv ? GPTI_ATTENTION : gpti_has(&m->arch, "mamba") ? GPTI_MAMBA :
            GPTI_CONV;
        windowed = letters[i % n_letter] != 'g';
        if (pattern && pattern->type != GPTI_GGUF_ARRAY) windowed = !(period && i % period == period - 1);
        if (pattern && pattern->type == GPTI_GGUF_ARRAY)
            GPTI_TRY(gpti_hp_layer(ld, ".attention.sliding_window_pattern", i, &windowed, windowed, 0, 1));
        l->window = l->kind & GPTI_CONV ? hp->l_cache : windowed && !(l->kind & GPTI_STATE) ? hp->window : 0;
        l->rope = l->window && m->rope_freq[1] ? 1 : 0;
        if (!rope || letters[i % n_letter] == 'n' || !(l->kind & GPTI_ATTENTION)) l->rope = -1;
        if (hp->window && !l->window && gpti_has(&m->arch, "near_rope")) l->rope = -1;
        hp->max_head = (uint32_t)gpti_max(hp->max_head, l->n_head);
        hp->max_kv = (uint32_t)gpti_max(hp->max_kv, l->n_kv);
        hp->max_ff = (uint32_t)gpti_max(hp->max_ff, l->d_ff);
        hp->max_qkv = (uint32_t)gpti_max(hp->max_qkv, (size_t)gpti_extent(hp, l, 'G'));
        hp->max_att = (uint32_t)gpti_max(hp->max_att, (size_t)gpti_extent(hp, l, 'O'));
        l->state_at = hp->n_state;
        if (l->kind & GPTI_STATE)
            hp->n_state += gpti_state_matrix(hp) + (hp->d_conv - 1) * (size_t)gpti_extent(hp, l, 'c');
        if (hp->n_state > GPTI_MAX_STATE)
            return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s.ssm: states of more than %llu numbers", m->arch.name,
                             (gpti_ull)GPTI_MAX_STATE);
    }
    return gpti_hp_f32(ld, m->arch.norm == GPTI_NORM_RMS ? ".attention.layer_norm_rms_epsilon"
                           : ".attention.layer_norm_epsilon", &hp->eps, 0.0f, 1e-30f, 1.0f);
}

/* Widths of a head. d_head: what they are where the file does not say. */
static gpt_result gpti_load_head_widths(gpti_loader *ld, uint32_t d_head) {
    static const char same[][32] = { ".rope.dimension_count_swa", ".attention.key_length_swa",
                                     ".attention.value_length_swa" };
    gpt_model *m = ld->m;
    gpti_hparams *hp = &m->hp;
    const int full = gpti_has(&m->arch, "full_rope") == GPTI_YES;
    size_t i;
    GPTI_TRY(gpti_hp_u32(ld, ".attention.key_length", &hp->d_k, d_head, 1, GPTI_MAX_D_HEAD));
    GPTI_TRY(gpti_hp_u32(ld, ".attention.value_length", &hp->d_v, d_head, 1, GPTI_MAX_D_HEAD));
    GPTI_TRY(gpti_hp_u32(ld, ".rope.dimension_count", &hp->n_rope, hp->d_k, 0, hp->d_k));
    if (m->arch.pos != GPTI_POS_PAIR && m->arch.pos != GPTI_POS_HALF) hp->n_rope = 0;
    if (hp->n_rope & 1 || (full && hp->n_rope != hp->d_k))
        return gpti_fail(ld->err, GPT_E_FORMAT, "%s.rope.dimension_count: expected %s, file has %llu", m->arch.name,
                         hp->n_rope & 1 ? "an even number" : "the width of a head", (gpti_ull)hp->n_rope);
    for (i = 0; i < sizeof same / sizeof *same; i++) {      /* window layers are like the others */
        const uint32_t widths[] = { hp->n_rope, hp->d_k, hp->d_v };
        uint32_t has;
        if (!widths[i]) continue;               /* no rope */
        GPTI_TRY(gpti_hp_u32(ld, same[i], &has, widths[i], 0, UINT32_MAX));
        if (has != widths[i])
            return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s%s: expected %llu as in the other layers, file has %llu",
                             m->arch.name, same[i], (gpti_ull)widths[i], (gpti_ull)has);
    }
    return GPT_OK;
}

static gpt_result gpti_load_activation(gpti_loader *ld) {
    static const struct { char name[20]; uint8_t act; } rows[] = {
        { "silu", GPTI_SILU }, { "gelu", GPTI_GELU_ERF }, { "gelu_pytorch_tanh", GPTI_GELU_TANH } };
    gpt_model *m = ld->m;
    gpti_str act;
    size_t i;
    GPTI_TRY(gpti_hp_str(ld, ".hidden_activation", &act, ""));
    if (!act.n || gpti_has(&m->arch, "k_oss")) return GPT_OK;      /* gpt-oss says silu, and means that with clamps */
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        if (gpti_str_is(act, rows[i].name)) { m->arch.act = rows[i].act; return GPT_OK; }
    return gpti_fail(ld->err, GPT_E_UNSUPPORTED,
                     "%s.hidden_activation: expected silu, gelu or gelu_pytorch_tanh, file has %s", m->arch.name,
                     gpti_show(ld->shown, act));
}

static gpt_result gpti_load_expert_hparams(gpti_loader *ld) {
    const gpti_arch *a = &ld->m->arch;
    gpti_hparams *hp = &ld->m->hp;
    uint32_t d_ff = 0, n_shared;
    char key[128];
    GPTI_TRY(gpti_hp_u32(ld, ".expert_count", &hp->n_expert, 0, 0, 4096));
    if (!hp->n_expert) return GPT_OK;
    GPTI_TRY(gpti_hp_u32(ld, ".expert_used_count", &hp->n_expert_used, 0, 1, hp->n_expert));
    GPTI_TRY(gpti_hp_layer(ld, ".feed_forward_length", 0, &d_ff, 0, 0, GPTI_MAX_WIDTH));
    if (!gpti_has(a, "whole_ff")) d_ff /= hp->n_expert_used;
    if (gpti_has(a, "k_oss")) d_ff = 0;
    GPTI_TRY(gpti_hp_u32(ld, ".expert_feed_forward_length", &hp->d_ff_exp, d_ff, 0, GPTI_MAX_WIDTH));
    if (!hp->d_ff_exp) hp->d_ff_exp = d_ff;
    if (!hp->d_ff_exp) return gpti_key_missing(ld, gpti_key(ld, ".expert_feed_forward_length", key));
    GPTI_TRY(gpti_hp_u32(ld, ".expert_shared_feed_forward_length", &hp->d_ff_shexp, 0, 0, GPTI_MAX_WIDTH));
    if (!hp->d_ff_shexp && gpti_has(a, "shared") == GPTI_YES)
        GPTI_TRY(gpti_hp_layer(ld, ".feed_forward_length", 0, &hp->d_ff_shexp, 0, 0, GPTI_MAX_WIDTH));
    GPTI_TRY(gpti_hp_u32(ld, ".expert_shared_count", &n_shared, 0, 0, 1024));
    if (!hp->d_ff_shexp && gpti_has(a, "k_router") && n_shared)     /* as wide as so many others */
        hp->d_ff_shexp = (uint32_t)gpti_min((uint64_t)hp->d_ff_exp * n_shared, GPTI_MAX_WIDTH);
    if (gpti_has(a, "k_router"))
        GPTI_TRY(gpti_hp_bool(ld, ".expert_weights_norm", &ld->m->sum_to_1, ld->m->sum_to_1));
    return GPT_OK;
}

/* Groups are of the same size, two experts at least, and those that are used hold enough experts. */
static gpt_result gpti_check_groups(gpti_loader *ld) {
    const gpti_hparams *hp = &ld->m->hp;
    const uint32_t n = hp->n_group, n_used = hp->n_group_used;
    if (n <= 1 || !hp->n_expert) return GPT_OK;
    if (hp->n_expert % n || hp->n_expert / n < 2)
        return gpti_fail(ld->err, GPT_E_FORMAT, "%s.expert_group_count: expected groups of 2 or more of %llu experts, "
                         "file has %llu", ld->m->arch.name, (gpti_ull)hp->n_expert, (gpti_ull)n);
    if (n_used >= 1 && n_used <= n && hp->n_expert / n * n_used >= hp->n_expert_used) return GPT_OK;
    return gpti_fail(ld->err, GPT_E_FORMAT, "%s.expert_group_used_count: expected %llu to %llu, file has %llu",
                     ld->m->arch.name, ((gpti_ull)hp->n_expert_used - 1) / (hp->n_expert / n) + 1, (gpti_ull)n,
                     (gpti_ull)n_used);
}

static gpt_result gpti_load_hparams(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpti_hparams *hp = &m->hp;
    const gpti_arch *a = &m->arch;
    uint32_t n_head;
    hp->with_rope = 1;
    GPTI_TRY(gpti_load_keys(ld, gpti_shape_keys, sizeof gpti_shape_keys / sizeof *gpti_shape_keys, hp));
    if (hp->n_next >= hp->n_layer)
        return gpti_fail(ld->err, GPT_E_FORMAT, "%s.nextn_predict_layers: expected fewer than the %llu layers, file "
                         "has %llu", a->name, (gpti_ull)hp->n_layer, (gpti_ull)hp->n_next);
    hp->n_layer -= hp->n_next;
    if (!hp->n_ctx) hp->n_ctx = 4096;           /* 0: not known */
    if (hp->n_ctx > GPTI_MAX_CTX) hp->n_ctx = GPTI_MAX_CTX;
    GPTI_TRY(gpti_hp_layer(ld, ".attention.head_count", 0, &n_head, 0, 1, GPTI_MAX_HEAD));
    GPTI_TRY(gpti_load_head_widths(ld, hp->d_model / n_head));
    hp->n_vocab = (uint32_t)m->tok.n_token;
    if (!hp->n_vocab) GPTI_TRY(gpti_hp_u32(ld, ".vocab_size", &hp->n_vocab, 0, 1, 1u << 24));
    GPTI_TRY(gpti_load_activation(ld));
    m->sum_to_1 = gpti_has(a, "sum_to_1");
    if (gpti_has(a, "experts")) GPTI_TRY(gpti_load_expert_hparams(ld));
    hp->embd_scale = gpti_has(a, "embd_sqrt") ? sqrtf((float)hp->d_model) : 1.0f;
    hp->residual_scale = hp->logit_scale = hp->expert_scale = 1.0f;
    GPTI_TRY(gpti_load_keys(ld, gpti_keys, sizeof gpti_keys / sizeof *gpti_keys, hp));
    GPTI_TRY(gpti_check_groups(ld));
    hp->gated_att = gpti_has(a, "gated_att"); hp->att_gate = gpti_has(a, "att_gate");
    hp->by_key_head = gpti_has(a, "by_key_head");
    if (hp->gated_att && hp->d_k != hp->d_v)
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s.attention.value_length: expected %llu as of keys, file has "
                         "%llu", a->name, (gpti_ull)hp->d_k, (gpti_ull)hp->d_v);
    if (hp->n_value_head && (hp->n_value_head % hp->n_key_head || hp->d_inner % hp->n_value_head ||
                             hp->d_inner / hp->n_value_head > GPTI_MAX_D_HEAD))
        return gpti_fail(ld->err, GPT_E_FORMAT, "%s.ssm: %llu numbers in %llu value heads, which read %llu key heads, "
                         "is no even split in heads of at most %d", a->name, (gpti_ull)hp->d_inner,
                         (gpti_ull)hp->n_value_head, (gpti_ull)hp->n_key_head, (int)GPTI_MAX_D_HEAD);
    if (gpti_has(a, "logit_div")) hp->logit_scale = 1.0f / hp->logit_scale;
    if (hp->attn_scale == 0.0f)
        hp->attn_scale = 1.0f / sqrtf((float)(hp->n_layer == a->wide_at_layer ? hp->d_model / n_head : hp->d_k));
    if (!hp->window && gpti_has(a, "k_caps")) hp->window = 4096;
    if (!hp->n_ctx_orig) hp->n_ctx_orig = hp->n_ctx;
    GPTI_TRY(gpti_hp_f32(ld, ".rope.freq_base", &hp->rope_base, hp->rope_base, 1.0f, 1e12f));
    hp->local_base = hp->window ? a->local_base : 0.0f;
    if (hp->local_base == 1.0f) hp->local_base = hp->rope_base;
    GPTI_TRY(gpti_hp_f32(ld, ".rope.local.freq_base", &hp->local_base, hp->local_base, 0.0f, 1e12f));
    GPTI_TRY(gpti_hp_f32(ld, ".rope.freq_base_swa", &hp->local_base, hp->local_base, 0.0f, 1e12f));
    GPTI_TRY(gpti_hp_f32(ld, ".rope.scaling.factor", &hp->rope_scale, hp->rope_scale, 1e-3f, 1e6f));
    m->sum_norm = gpti_has(a, "sum_norm");
    if (gpti_has(a, "both_ways") ? hp->causal :
        !hp->causal && (hp->window || gpti_has(a, "conv") || gpti_has(a, "state")))
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s.attention.causal: expected %s, file has %s", a->name,
                         hp->causal ? "false" : "true", hp->causal ? "true" : "false");
    if (!hp->causal && hp->window) hp->window = hp->window / 2 + 1;     /* half of it on each side, and the row */
    m->pre_norm = gpti_has(a, "pre_norm"); m->plain_norm = gpti_has(a, "plain_norm"); m->gated = gpti_has(a, "gated");
    m->late_norm = gpti_has(a, "late_norm");
    m->parallel = hp->parallel || gpti_has(a, "parallel") == GPTI_YES;
    hp->ld_ffn = 2 * gpti_max(hp->d_ff_exp, hp->d_ff_shexp);
    return GPT_OK;
}

/* ---- Rope frequencies, with the scaling schemes that stretch a context ---- */

/* YaRN (Peng 2023, arXiv:2309.00071, sec. 3.2): the dimension at which a wave turns n times within
 * the original context */
static double gpti_yarn_dim(double n_turn, double n_rope, double base, double n_ctx) {
    return n_rope * gpti_log_d(n_ctx / (n_turn * 6.283185307179586)) / (2.0 * gpti_log_d(base));
}

/* freq[i] = base^(-2i / n_rope), i < n_rope / 2, then divided by factor [n_rope / 2] (or NULL) and
 * by scale */
static void gpti_rope_base(float *freq, uint32_t n_rope, double base, const float *factor, double scale) {
    uint32_t i;
    for (i = 0; i < n_rope / 2; i++) {
        double f = gpti_pow_d(base, -2.0 * i / n_rope) / scale;
        freq[i] = (float)(factor ? f / (double)factor[i] : f);
    }
}

/* YaRN: low dimensions keep their frequency, high ones are divided by the scale, those between the
 * two get a mixture. */
static void gpti_rope_yarn(float *freq, const gpti_hparams *hp, const float *factor) {
    const double base = hp->rope_base, scale = hp->rope_scale;
    double low = gpti_yarn_dim(hp->yarn_fast, hp->n_rope, base, hp->n_ctx_orig);
    double high = gpti_yarn_dim(hp->yarn_slow, hp->n_rope, base, hp->n_ctx_orig);
    uint32_t i;
    if (hp->yarn_truncate) { low = floor(low); high = ceil(high); }
    if (low < 0) low = 0;
    if (high > hp->n_rope - 1) high = hp->n_rope - 1;
    for (i = 0; i < hp->n_rope / 2; i++) {
        double f = gpti_pow_d(base, -2.0 * i / hp->n_rope) / (factor ? (double)factor[i] : 1.0);
        double ramp = ((double)i - low) / (high - low > 0.001 ? high - low : 0.001);
        if (ramp < 0) ramp = 0;
        if (ramp > 1) ramp = 1;
        freq[i] = (float)(f / scale * ramp + f * (1 - ramp));
    }
}

static gpt_result gpti_rope_factors(gpti_loader *ld, const char *name, float **out);

/* factor: rope_freqs, rope_factors_long, rope_factors_short; NULL where the file has none */
static gpt_result gpti_build_rope(gpti_loader *ld, gpti_str type, float *const factor[3]) {
    gpt_model *m = ld->m;
    const gpti_hparams *hp = &m->hp;
    const int has[3] = { 1, hp->local_base != 0.0f, factor[1] != NULL };
    int i;
    if (gpti_str_is(type, "longrope") && !(factor[1] && factor[2]) && !ld->params->header_only)
        return gpti_fail(ld->err, GPT_E_SHAPE, "%s.rope.scaling.type: longrope needs rope_factors_long and _short",
                         m->arch.name);
    for (i = 0; i < 3; i++) {
        if (!has[i]) continue;
        m->rope_freq[i] = (float *)gpti_alloc_n(&m->mem, hp->n_rope / 2, sizeof(float));
        if (!m->rope_freq[i]) return gpti_fail(ld->err, GPT_E_MEMORY, "rope frequencies: out of memory");
    }
    if (gpti_str_is(type, "yarn")) gpti_rope_yarn(m->rope_freq[0], hp, factor[0]);
    else gpti_rope_base(m->rope_freq[0], hp->n_rope, hp->rope_base, factor[2] ? factor[2] : factor[0],
                        gpti_str_is(type, "linear") ? hp->rope_scale : 1.0);
    if (has[1]) gpti_rope_base(m->rope_freq[1], hp->n_rope, hp->local_base, NULL, 1.0);
    if (has[2]) gpti_rope_base(m->rope_freq[2], hp->n_rope, hp->rope_base, factor[1], 1.0);
    return GPT_OK;
}

static gpt_result gpti_load_rope(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpti_hparams *hp = &m->hp;
    gpti_str type;
    float stretch, *factor[3] = { NULL, NULL, NULL };
    int yarn, i;
    gpt_result r = GPT_OK;
    if (!hp->n_rope) return GPT_OK;
    GPTI_TRY(gpti_hp_str(ld, ".rope.scaling.type", &type, hp->rope_scale != 1.0f ? "linear" : "none"));
    yarn = gpti_str_is(type, "yarn");
    stretch = 1.0f;
    if (yarn && hp->rope_scale > 1.0f) {
        const double wave = 0.1 * gpti_log_d(hp->rope_scale);
        stretch = (float)((1.0 + wave) / (1.0 + hp->yarn_log * wave));
    }
    if (hp->yarn_attn != 1.0f && !(gpti_abs(hp->yarn_attn - stretch) < 1e-4f))
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s.rope.scaling.yarn_attn_factor: expected %g, file has %g",
                         m->arch.name, (double)stretch, (double)hp->yarn_attn);
    if (!yarn && !gpti_str_is(type, "none") && !gpti_str_is(type, "linear") && !gpti_str_is(type, "longrope"))
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED,
                         "%s.rope.scaling.type: expected none, linear, yarn or longrope, file has %s", m->arch.name,
                         gpti_show(ld->shown, type));
    hp->rope_mscale = hp->rope_attn * stretch;
    r = gpti_rope_factors(ld, "rope_freqs.weight", &factor[0]);
    if (!r) r = gpti_rope_factors(ld, "rope_factors_long.weight", &factor[1]);
    if (!r) r = gpti_rope_factors(ld, "rope_factors_short.weight", &factor[2]);
    if (!r) r = gpti_build_rope(ld, type, factor);
    for (i = 0; i < 3; i++) gpti_free(&m->mem, factor[i]);
    return r;
}

/* ---- Weights ---- */

static gpt_result gpti_load_canceled(gpti_loader *ld) {
    if (ld->params->progress && ld->params->progress(ld->params->progress_user, ld->done, ld->total))
        return gpti_fail(ld->err, GPT_E_CANCELLED, "load cancelled by the progress hook");
    return GPT_OK;
}

/* A tensor's bytes where they lie in memory, or NULL where they must be read. */
static const unsigned char *gpti_tensor_data(const gpti_loader *ld, const gpti_tensor *t) {
    const unsigned char *map = ld->g.part[t->part].map;
    return map && !t->big ? map + (size_t)t->offset : NULL;
}

/* [n] floats of a tensor of any format, [n_row, n_col] flattened */
static gpt_result gpti_load_floats(gpti_loader *ld, const gpti_tensor *t, float *out) {
    size_t n = (size_t)t->ne[0], n_row = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]),
           row_bytes = (size_t)(t->size / n_row), i;
    gpti_matrix w;
    gpti_scratch *scratch = (gpti_scratch *)gpti_alloc_raw(&ld->m->mem, sizeof *scratch + row_bytes);
    unsigned char *bytes = (unsigned char *)(scratch + 1);
    gpt_result r =
        scratch ? GPT_OK : gpti_fail(ld->err, GPT_E_MEMORY, "%s: out of memory", gpti_show(ld->shown, t->name));
    memset(&w, 0, sizeof w);
    w.fmt = t->fmt; w.n_row = 1; w.n_col = n; w.data = bytes;
    for (i = 0; i < n_row && !r; i++) {
        r = gpti_gguf_read(&ld->g, t, (uint64_t)i * row_bytes, bytes, row_bytes, ld->err);
        if (!r) gpti_matrix_row(&w, 0, out + i * n, scratch);
    }
    gpti_free(&ld->m->mem, scratch);
    return r;
}

static gpt_result gpti_rope_factors(gpti_loader *ld, const char *name, float **out) {
    const gpti_tensor *t = gpti_gguf_tensor(&ld->g, name);
    size_t i, n = ld->m->hp.n_rope / 2;
    if (!t) return GPT_OK;
    ld->used[t - ld->g.tensor] = 1;
    if (t->ne[0] != n || t->n_dim != 1)
        return gpti_fail(ld->err, GPT_E_SHAPE, "%s: expected [%llu], file has [%llu]", name, (gpti_ull)n,
            (gpti_ull)t->ne[0]);
    if (ld->params->header_only) return GPT_OK;
    *out = (float *)gpti_alloc_n(&ld->m->mem, n, sizeof(float));
    if (!*out) return gpti_fail(ld->err, GPT_E_MEMORY, "%s: out of memory", name);
    GPTI_TRY(gpti_load_floats(ld, t, *out));
    for (i = 0; i < n; i++)
        if (!((*out)[i] >= 1e-3f))
            return gpti_fail(ld->err, GPT_E_FORMAT, "%s: expected numbers of 0.001 or more", name);
    return GPT_OK;
}

/* Extents that a tensor must have, by letters. l: NULL for a tensor of the whole model */
static void gpti_want_extents(const gpt_model *m, const char *extents, gpti_layer *l, const gpti_tensor *t,
                              int sets_style, uint64_t want[4]) {
    const size_t n = strlen(extents);
    const uint64_t d_k = m->hp.d_k, has = t->ne[0] * t->ne[1];
    uint64_t heads;
    size_t i;
    int style = GPTI_QK_WHOLE;
    for (i = 0; i < 4; i++) want[i] = i < n ? gpti_extent(&m->hp, l, extents[i]) : 1;
    if (extents[n - 1] == 'U') want[n - 1] = l->d_ff;     /* with gate and up in one: twice as much */
    if (extents[n - 1] == 'U' && m->gated && !l->gate.w.fmt && t->ne[n - 1] == 2 * (uint64_t)l->d_ff)
        want[n - 1] = t->ne[n - 1];
    if (extents[0] != 'q' && extents[0] != 'k') return;
    /* shared by the heads, one per head, or one over the whole projection: all fit, but one of them
     * in a layer */
    heads = extents[0] == 'q' ? l->n_head : l->n_kv;
    if (t->n_dim == 2) style = GPTI_QK_EACH;
    if (has == d_k) style = GPTI_QK_SHARED;
    if (sets_style) l->qk_norm = style;
    want[0] = d_k;
    if (t->n_dim > 2 || (has != d_k && has != heads * d_k) || (t->n_dim == 2 && t->ne[0] != d_k)) return;
    if (style == l->qk_norm || heads == 1) { want[0] = t->ne[0]; want[1] = t->ne[1]; }
    else if (l->qk_norm != GPTI_QK_SHARED) want[1] = heads;
}

/* Find one row's tensor and check its extents. *found is NULL when it is absent and not needed. */
static gpt_result gpti_find_tensor(gpti_loader *ld, const gpti_tensor_row *row, int bias, const char *name,
                                   gpti_layer *l, const gpti_tensor **found) {
    const gpti_tensor *t = gpti_gguf_tensor(&ld->g, name);
    const gpt_model *m = ld->m;
    const char *word = row->who + (row->who[0] != 0);
    const char sign = row->who[0];
    const int has = gpti_has(&m->arch, word);
    const int may = sign == '=' || sign == '?' ? has : sign == '-' && has ? GPTI_NO : GPTI_YES;
    uint64_t want[4];
    int must = sign == '=' || sign == '!' || sign == '-';
    *found = NULL;
    /* if it is there, gpti_check_layers names it */
    if ((l && !(l->kind & row->kinds)) || may == GPTI_NO) return GPT_OK;
    if (!t) {
        if (word[0] && sign != '-') must &= has == GPTI_YES;
        if (bias) must = may == GPTI_YES && row->bias[0] && gpti_has(&m->arch, row->bias) == GPTI_YES;
        if (m->plain_norm && row->type == 'N') must = 0;
        return must ? gpti_fail(ld->err, GPT_E_SHAPE, "%s: missing, and %s needs it", name, m->arch.name) : GPT_OK;
    }
    gpti_want_extents(m, row->extents + (bias && row->type == 'M'), l, t, !bias && !strcmp(row->name, "attn_q_norm"),
                      want);
    if (memcmp(t->ne, want, sizeof want))
        return gpti_fail(ld->err, GPT_E_SHAPE, "%s: expected a %s [%llu, %llu, %llu], file has %s [%llu, %llu, %llu]",
                         name, row->type == 'M' && !bias ? "matrix" : "vector", (gpti_ull)want[0], (gpti_ull)want[1],
                         (gpti_ull)want[2], t->fmt->name, (gpti_ull)t->ne[0], (gpti_ull)t->ne[1], (gpti_ull)t->ne[2]);
    ld->used[t - ld->g.tensor] = 1;
    *found = t;
    return GPT_OK;
}

typedef struct gpti_pack_job { const gpti_format *fmt; size_t n_col, n_row, row_bytes; const unsigned char *rows;
    unsigned char *panels; } gpti_pack_job;

static void gpti_pack_task(void *arg, size_t begin, size_t end, int worker) {
    const gpti_pack_job *j = (const gpti_pack_job *)arg;
    size_t p;
    (void)worker;
    for (p = begin; p < end; p++) {
        size_t n = j->n_row - p * GPTI_PANEL;
        gpti_pack(j->fmt, j->n_col, j->rows + p * GPTI_PANEL * j->row_bytes, gpti_min(n, GPTI_PANEL),
            j->panels + p * GPTI_PANEL * j->row_bytes);
    }
}

/* Read a matrix (or n of them, one after the other) in strips of whole panels and rearrange each
 * strip. */
static gpt_result gpti_load_panels(gpti_loader *ld, const gpti_tensor *t, const gpti_linear *lin, size_t n_matrix,
    unsigned char *out) {
    size_t n_row = lin->w.n_row, row_bytes = (size_t)(t->size / (n_row * n_matrix)), e, row;
    size_t step = ld->strip_bytes / (GPTI_PANEL * row_bytes) * GPTI_PANEL;
    const unsigned char *data = gpti_tensor_data(ld, t);
    for (e = 0; e < n_matrix; e++) for (row = 0; row < n_row; row += step) {
        size_t n = gpti_min(n_row - row, step);
        size_t at = (e * n_row + row) * row_bytes;
        gpti_pack_job j;
        j.fmt = t->fmt; j.n_col = lin->w.n_col; j.n_row = n; j.row_bytes = row_bytes;
        j.rows = data ? data + at : ld->strip; j.panels = out + e * lin->stride + row * row_bytes;
        if (!data) GPTI_TRY(gpti_gguf_read(&ld->g, t, at, ld->strip, n * row_bytes, ld->err));
        gpti_parallel_for(&ld->pool, gpti_n_panel(n), GPTI_PANEL * row_bytes, gpti_pack_task, &j);
        ld->done += n * row_bytes;
        GPTI_TRY(gpti_load_canceled(ld));
    }
    return GPT_OK;
}

static size_t gpti_field_offset(const gpti_tensor_row *row, int bias) {
    if (!bias || row->type == 'B') return row->offset;
    return row->offset + (row->type == 'M' ? offsetof(gpti_linear, b) : offsetof(gpti_vector, b));
}

/* Give one tensor its place in the model. With a measuring arena (base NULL) only the size is
 * counted. */
static gpt_result gpti_place_tensor(gpti_loader *ld, const gpti_tensor_row *row, int bias, const gpti_tensor *t,
                                    void *object, gpti_arena *a) {
    char *field = (char *)object + gpti_field_offset(row, bias);
    /* weights: bounded by the file */
    size_t n = (size_t)(t->size / (uint64_t)t->fmt->block_bytes) * (size_t)t->fmt->block_len;
    if (bias || row->type != 'M') {
        float *v = (float *)gpti_carve(a, n, sizeof(float));
        /* measuring: anything but NULL */
        *(const float **)(void *)field = a->base ? v : (const float *)(const void *)t;
        if (!a->base) return GPT_OK;
        ld->done += t->size;
        return gpti_load_floats(ld, t, v);
    } else {
        gpti_linear *lin = (gpti_linear *)(void *)field;
        size_t n_matrix = row->extents[2] ? (size_t)t->ne[2] : 1, row_bytes;
        lin->w.fmt = t->fmt; lin->w.n_col = (size_t)t->ne[0]; lin->w.n_row = (size_t)t->ne[1];
        row_bytes = lin->w.n_col / (size_t)t->fmt->block_len * (size_t)t->fmt->block_bytes;
        ld->m->quantized |= t->fmt->n_scale > 0;
        lin->w.packed = !ld->params->mapped || !gpti_tensor_data(ld, t);
        if (!lin->w.packed) {
            lin->stride = lin->w.n_row * row_bytes; lin->w.data = gpti_tensor_data(ld, t);
            return GPT_OK;
        }
        if (!gpti_packed_bytes(t->fmt, lin->w.n_row, lin->w.n_col, &lin->stride)) a->overflow = 1;
        {
            unsigned char *p = (unsigned char *)gpti_carve(a, n_matrix, lin->stride);
            size_t strip =
                gpti_max(GPTI_PANEL * row_bytes, lin->stride < (size_t)1 << 20 ? lin->stride : (size_t)1 << 20);
            ld->strip_bytes = gpti_max(ld->strip_bytes, strip);
            if (!a->base) return GPT_OK;
            lin->w.data = p;
            return gpti_load_panels(ld, t, lin, n_matrix, p);
        }
    }
}

/* attn_qkv with separate biases gets one: measuring, then filled where what is absent stays 0. */
static void gpti_fuse_bias(const gpt_model *m, gpti_layer *l, gpti_arena *a) {
    const size_t q = l->n_head * m->hp.d_k, k = l->n_kv * m->hp.d_k, v = l->n_kv * m->hp.d_v;
    float *b;
    if (!l->qkv.w.fmt || !(l->q.b || l->k.b || l->v.b)) return;
    b = (float *)gpti_carve(a, q + k + v, sizeof(float));
    if (!a->base) return;
    memset(b, 0, (q + k + v) * sizeof(float));
    if (l->q.b) memcpy(b, l->q.b, q * sizeof(float));
    if (l->k.b) memcpy(b + q, l->k.b, k * sizeof(float));
    if (l->v.b) memcpy(b + q + k, l->v.b, v * sizeof(float));
    l->qkv.b = b;
}

/* One row's weight and bias, of a layer or (l NULL) of the model: find them, give them their places. */
static gpt_result gpti_walk_row(gpti_loader *ld, const gpti_tensor_row *row, gpti_layer *l) {
    const gpti_tensor *t;
    char name[64], layer[24] = "";
    int bias, n = row->type == 'F' || !strcmp(row->bias, "none") ? 1 : 2;
    if (row->type == 'F') return GPT_OK;        /* gpti_load_rope reads those */
    if (l) snprintf(layer, sizeof layer, "blk.%llu.", (gpti_ull)(l - ld->m->layer));
    for (bias = row->type == 'B'; bias < n; bias++) {
        snprintf(name, sizeof name, "%s%.19s%s", layer, row->name,
                 row->type == 'P' ? "" : bias ? ".bias" : ".weight");
        GPTI_TRY(gpti_find_tensor(ld, row, bias, name, l, &t));
        if (t) GPTI_TRY(gpti_place_tensor(ld, row, bias, t, l ? (void *)l : (void *)ld->m, &ld->arena));
    }
    return GPT_OK;
}

/* Walk all tensors of the tables once: to measure, then to load. */
static gpt_result gpti_walk_tensors(void *loader) {
    gpti_loader *ld = (gpti_loader *)loader;
    gpt_model *m = ld->m;
    uint32_t i;
    int j;
    for (j = 0; j < GPTI_N_MODEL_TENSOR; j++) GPTI_TRY(gpti_walk_row(ld, &gpti_model_tensors[j], NULL));
    for (i = 0; i < m->hp.n_layer; i++) {
        for (j = 0; j < GPTI_N_LAYER_TENSOR; j++) GPTI_TRY(gpti_walk_row(ld, &gpti_layer_tensors[j], &m->layer[i]));
        gpti_fuse_bias(m, &m->layer[i], &ld->arena);
    }
    if (!ld->arena.overflow) return GPT_OK;
    return gpti_fail(ld->err, GPT_E_MEMORY, "weights: larger than this machine's address space");
}

/* What a layer lacks so that this library computes exactly what the model means: what no single
 * tensor can show. NULL: nothing */
static const char *gpti_layer_lacks(const gpt_model *m, const gpti_layer *l) {
    static const struct { size_t offset; int may_lack_bias; char what[32]; } norms[] = {
        { GPTI_L(attn_norm), 0, "attn_norm.weight and .bias" }, { GPTI_L(ffn_norm), 0, "ffn_norm.weight and .bias" },
        { GPTI_L(attn_norm_2), 0, "attn_norm_2.weight and .bias" }, { GPTI_L(q_norm), 1, "attn_q_norm.weight" },
        { GPTI_L(k_norm), 1, "attn_k_norm.weight" } };
    const gpti_arch *a = &m->arch;
    const int q = l->q.w.fmt != NULL, k = l->k.w.fmt != NULL, v = l->v.w.fmt != NULL, fused = l->qkv.w.fmt != NULL;
    const int some_bias = l->q.b || l->k.b || l->v.b;
    const int two_norms = m->pre_norm && (gpti_has(a, "k_parallel") || !(gpti_has(a, "parallel") || m->plain_norm ||
        gpti_has(a, "post_is_ffn")));
    size_t i;
    if (!fused && !(q && k && v)) return "attn_qkv, or attn_q, attn_k and attn_v";
    if (fused ? q || k || v || (l->qkv.b && some_bias) : l->qkv.b != NULL)
        return "either attn_qkv, or attn_q, attn_k and attn_v";
    if (fused && gpti_has(a, "qkv_bias") && !l->qkv.b && !some_bias) return "attn_qkv.bias";
    if (l->kind & GPTI_DENSE && m->gated && !l->gate.w.fmt && l->up.w.n_row != 2 * (size_t)l->d_ff) return "ffn_gate";
    if (!l->ffn_norm.w && two_norms) return "ffn_norm";
    if (l->kind & GPTI_MOE && m->hp.d_ff_shexp &&
        !(l->gate_shexp.w.fmt && l->up_shexp.w.fmt && l->down_shexp.w.fmt))
        return "ffn_gate_shexp, ffn_up_shexp and ffn_down_shexp";
    if (gpti_has(a, "parallel") == GPTI_IF_PRESENT && !l->ffn_norm.w != !m->layer[0].ffn_norm.w)
        return "ffn_norm, as another layer has it, or none has";
    if (!l->q_norm.w != !l->k_norm.w) return "both attn_q_norm and attn_k_norm";
    for (i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        const gpti_vector *n = (const gpti_vector *)(const void *)((const char *)l + norms[i].offset);
        const int must = n->w && gpti_has(a, "norm_bias") && !norms[i].may_lack_bias;
        if ((n->b && !n->w) || (must && !n->b)) return norms[i].what;
    }
    return NULL;
}

/* N of "blk.N.NAME", and NAME; of other names SIZE_MAX, and the whole */
static size_t gpti_layer_of(const char *tensor, const char **name) {
    const char *p = tensor + 4;
    size_t i = 0;
    *name = tensor;
    if (strncmp(tensor, "blk.", 4)) return SIZE_MAX;
    for (; *p >= '0' && *p <= '9' && i < GPTI_MAX_LAYER; p++) i = 10 * i + (size_t)(*p - '0');
    if (*p != '.' || p == tensor + 4) return SIZE_MAX;
    *name = p + 1;
    return i;
}

/* Is it a tensor of a layer that guesses a token ahead? */
static int gpti_is_next_layer(const gpti_hparams *hp, const char *tensor) {
    const char *name;
    const size_t i = gpti_layer_of(tensor, &name);
    return i >= hp->n_layer && i < (size_t)hp->n_layer + hp->n_next;
}

static gpt_result gpti_check_layers(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpti_hparams *hp = &m->hp;
    int routed = 0;
    size_t i;
    for (i = 0; i < hp->n_layer; i++) {
        const gpti_layer *l = &m->layer[i];
        const char *lacks = gpti_layer_lacks(m, l);
        if (lacks)
            return gpti_fail(ld->err, GPT_E_SHAPE, "blk.%llu: %s needs %s", (gpti_ull)i, m->arch.name, lacks);
        if (l->kind & GPTI_MOE) routed = 1;
        else hp->ld_ffn = gpti_max(hp->ld_ffn, 2 * (size_t)l->d_ff);
    }
    if (gpti_has(&m->arch, "parallel") == GPTI_IF_PRESENT) m->parallel = !m->layer[0].ffn_norm.w;
    if (!m->dense[0].w.fmt != !m->dense[1].w.fmt)
        return gpti_fail(ld->err, GPT_E_SHAPE, "%s needs dense_2.weight and dense_3.weight, or none", m->arch.name);
    if (hp->n_expert && !routed)
        return gpti_fail(ld->err, GPT_E_SHAPE, "%s.expert_count: no layer has ffn_gate_inp", m->arch.name);
    /* a session has such rows */
    if (hp->n_expert_used * (uint64_t)(hp->ld_ffn + hp->max_att) > m->info.n_param / 8)
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s.expert_used_count: too many for so small a file",
                         m->arch.name);
    if (hp->n_state > m->info.n_param)
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s.ssm: states of %llu numbers are too many for so small a file",
                         m->arch.name, (gpti_ull)hp->n_state);
    for (i = 0; i < ld->g.n_tensor; i++)
        if (!ld->used[i] && !gpti_is_next_layer(hp, ld->g.tensor[i].name.p))
            return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s: a tensor that %s has no use for",
                             gpti_show(ld->shown, ld->g.tensor[i].name), m->arch.name);
    return GPT_OK;
}

static gpt_result gpti_load_weights(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpti_arena *a = &ld->arena;
    gpt_result r;
    size_t i;
    ld->used = (unsigned char *)gpti_alloc(&m->mem, ld->g.n_tensor);
    if (!ld->used) return gpti_fail(ld->err, GPT_E_MEMORY, "tensor list: out of memory");
    GPTI_TRY(gpti_load_rope(ld));
    GPTI_TRY(gpti_load_layer_hparams(ld));
    if (ld->params->header_only && !ld->g.n_tensor) return GPT_OK;
    GPTI_TRY(gpti_walk_tensors(ld));
    for (i = 0; i < ld->g.n_tensor; i++) {
        const gpti_tensor *t = &ld->g.tensor[i];
        m->info.n_param += t->size / (uint64_t)t->fmt->block_bytes * (uint64_t)t->fmt->block_len;
    }
    m->info.weight_bytes = a->used;
    r = gpti_check_layers(ld);
    m->whole = !r;
    if (r || ld->params->header_only) return r;
    m->weights = gpti_alloc_raw(&m->mem, a->used + 64);
    ld->strip = (unsigned char *)gpti_alloc_raw(&m->mem, ld->strip_bytes);
    if (!m->weights || !ld->strip)
        return gpti_fail(ld->err, GPT_E_MEMORY, "weights: out of memory for %llu MiB",
            (gpti_ull)((a->used + ld->strip_bytes) >> 20));
    if (!m->mem.alloc) gpti_huge_pages(m->weights, a->used);
    a->base = (unsigned char *)gpti_align(m->weights, 64); a->used = 0;
    GPTI_TRY(gpti_together(&ld->pool, gpti_walk_tensors, ld));
    if (!m->head.w.data) m->head.w = m->embd.w;
    ld->done = ld->total;
    return gpti_load_canceled(ld);
}

/* ---- Tokenizer metadata ---- */

#define GPTI_T(name, type, field) { "tokenizer.ggml." name, type, "", offsetof(gpti_vocab, field), -1, -1, 1 }
static const gpti_key_row gpti_vocab_keys[] = {
    GPTI_T("bos_token_id", 't', bos), GPTI_T("eos_token_id", 't', eos), GPTI_T("eot_token_id", 't', eot),
    GPTI_T("eom_token_id", 't', eom), GPTI_T("unknown_token_id", 't', unk),
    GPTI_T("cls_token_id", 't', cls), GPTI_T("seperator_token_id", 't', sep),
    GPTI_T("normalizer.lowercase", 'b', lowercase), GPTI_T("normalizer.strip_accents", 'b', strip_accents),
    GPTI_T("add_bos_token", 'b', add_bos), GPTI_T("add_eos_token", 'b', add_eos),
    GPTI_T("add_space_prefix", 'b', add_space_prefix), GPTI_T("remove_extra_whitespaces", 'b', remove_extra_whitespaces)
};

static gpt_result gpti_load_tokenizer(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpti_gguf *g = &ld->g;
    gpti_vocab v;
    gpti_str *token = NULL, *merge = NULL;
    float *score = NULL;
    int32_t *type = NULL, *charsmap = NULL, *ends = NULL;
    size_t n = 0;
    uint32_t pooling = 0;
    char key[128];
    gpt_result r;
    memset(&v, 0, sizeof v);
    gpti_gguf_u32(g, gpti_key(ld, ".pooling_type", key), &pooling);
    r = gpti_hp_str(ld, "tokenizer.ggml.model", &v.model, "none");
    if (!r) r = gpti_hp_str(ld, "tokenizer.ggml.pre", &v.pre, "");
    v.chat_template = gpti_str_of(m->text[1]); v.name = gpti_str_of(m->text[0]);
    if (ld->params->pretokenizer) v.pre = gpti_str_of(ld->params->pretokenizer);
    if (!r) r = gpti_gguf_strings(g, "tokenizer.ggml.tokens", &token, &v.n_token, ld->err);
    if (!r) r = gpti_gguf_strings(g, "tokenizer.ggml.merges", &merge, &v.n_merge, ld->err);
    if (!r) r = gpti_gguf_f32s(g, "tokenizer.ggml.scores", &score, &n, ld->err);
    if (!r && score && n < v.n_token)
        r = gpti_fail(ld->err, GPT_E_FORMAT, "tokenizer.ggml.scores: expected %llu or more, file has %llu",
        (gpti_ull)v.n_token, (gpti_ull)n);
    if (!r) r = gpti_gguf_i32s(g, "tokenizer.ggml.token_type", &type, &n, ld->err);
    if (!r && type && n < v.n_token)
        r = gpti_fail(ld->err, GPT_E_FORMAT, "tokenizer.ggml.token_type: expected %llu or more, file has %llu",
        (gpti_ull)v.n_token, (gpti_ull)n);
    if (!r) r = gpti_gguf_i32s(g, "tokenizer.ggml.precompiled_charsmap", &charsmap, &v.charsmap.n, ld->err);
    if (!r && gpti_str_is(v.model, "gpt2") && v.n_token && !gpti_gguf_find(g, "tokenizer.ggml.merges"))
        r = gpti_fail(ld->err, GPT_E_FORMAT,
                      "tokenizer.ggml.merges: missing from the file, and byte-level BPE needs it");
    if (!r) {
        /* in place: bytes from 32-bit integers */
        for (n = 0; n < v.charsmap.n; n++) ((char *)charsmap)[n] = (char)charsmap[n];
        v.charsmap.p = (const char *)charsmap;
        v.token = token; v.merge = merge; v.score = score; v.type = type;
        r = gpti_load_keys(ld, gpti_vocab_keys, sizeof gpti_vocab_keys / sizeof *gpti_vocab_keys, &v);
        /* where the file does not say: what looks both ways was trained with both ends, and what its last token
         * stands for with the end token */
        if (v.add_bos < 0 && gpti_has(&m->arch, "both_ways")) v.add_bos = 1;
        if (v.add_eos < 0 && (gpti_has(&m->arch, "both_ways") || pooling == 3)) v.add_eos = 1;
        if (!r && ld->params->pretokenizer && gpti_str_is(v.model, "bert")) {
            v.lowercase = v.strip_accents = gpti_str_is(v.pre, "uncased");
            if (!v.lowercase && !gpti_str_is(v.pre, "cased"))
                r = gpti_fail(ld->err, GPT_E_UNSUPPORTED, "pretokenizer '%s': expected cased or uncased",
                              gpti_show(ld->shown, v.pre));
        }
        if (!r) r = gpti_tokenizer_init(&m->tok, &v, &m->mem, ld->err);
        m->info.bos = m->tok.bos; m->info.eos = m->tok.eos;
    }
    if (!r) r = gpti_gguf_i32s(g, "tokenizer.ggml.eos_token_ids", &ends, &n, ld->err);
    for (; ends && n > 0; n--)
        if (ends[n - 1] >= 0 && ends[n - 1] < m->tok.n_token) m->tok.type[ends[n - 1]] |= GPTI_TOKEN_END;
    gpti_free(&m->mem, ends);
    gpti_free(&m->mem, token); gpti_free(&m->mem, merge); gpti_free(&m->mem, score); gpti_free(&m->mem, type);
        gpti_free(&m->mem, charsmap);
    return r;
}

static gpt_result gpti_kernels_find(const char *name, gpti_kernels *out, gpt_error *err);

/* ---- Load ---- */

static gpt_result gpti_copy_text(gpti_loader *ld, int i, const char *key) {
    gpti_str s = { "", 0 };
    if (i == 2) GPTI_TRY(gpti_hp_str(ld, key, &s, ""));
    else gpti_gguf_str(&ld->g, key, &s);        /* a name or a template that is no string counts as absent */
    ld->m->text[i] = (char *)gpti_alloc(&ld->m->mem, s.n + 1);
    if (!ld->m->text[i]) return gpti_fail(ld->err, GPT_E_MEMORY, "%s: out of memory", key);
    memcpy(ld->m->text[i], s.p, s.n);
    return GPT_OK;
}

static gpt_result gpti_load_arch(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpti_str type;
    int i;
    if (gpti_gguf_str(&ld->g, "general.type", &type) && gpti_in_list("adapter imatrix mmproj", type) &&
        !ld->params->header_only)
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "general.type: expected a model, the file is \"%s\"",
                         gpti_show(ld->shown, type));
    for (i = 0; i < GPTI_N_ARCH; i++) if (!strcmp(gpti_archs[i].name, m->text[2])) m->arch = gpti_archs[i];
    if (m->arch.name[0] || ld->params->header_only) return GPT_OK;
    if (!m->text[2][0]) return gpti_fail(ld->err, GPT_E_FORMAT, "general.architecture: missing from the file");
    return gpti_fail(ld->err, GPT_E_UNSUPPORTED,
                     "general.architecture: \"%s\" is not among the %d this version computes",
                     gpti_show(ld->shown, gpti_str_of(m->text[2])), GPTI_N_ARCH);
}

/* All that a model has and a vocabulary may lack. */
static gpt_result gpti_load_layers(gpti_loader *ld) {
    gpt_model *m = ld->m;
    GPTI_TRY(gpti_load_hparams(ld));
    m->layer = (gpti_layer *)gpti_alloc_n(&m->mem, m->hp.n_layer, sizeof(gpti_layer));
    return m->layer ? gpti_load_weights(ld) : gpti_fail(ld->err, GPT_E_MEMORY, "layers: out of memory");
}

static gpt_result gpti_load_parts(gpti_loader *ld) {
    gpt_model *m = ld->m;
    gpt_model_info *info = &m->info;
    gpt_result r = GPT_OK;
    size_t n;
    int i;
    GPTI_TRY(gpti_kernels_find(ld->params->kernels, &m->kern, ld->err));
    GPTI_TRY(gpti_gguf_open(&ld->g, m->part, m->n_part, &m->mem, ld->err));
    for (n = 0; n < ld->g.n_tensor; n++) ld->total += ld->g.tensor[n].size;
    GPTI_TRY(gpti_load_canceled(ld));
    GPTI_TRY(gpti_copy_text(ld, 0, "general.name"));
    GPTI_TRY(gpti_copy_text(ld, 1, "tokenizer.chat_template"));
    GPTI_TRY(gpti_copy_text(ld, 2, "general.architecture"));
    GPTI_TRY(gpti_load_arch(ld));
    GPTI_TRY(gpti_load_tokenizer(ld));
    if (m->arch.name[0]) r = gpti_load_layers(ld);
    if (!r && !ld->params->header_only) r = gpti_gguf_fingerprint(&ld->g, &m->fingerprint, ld->err);
    if (r && (!ld->params->header_only || r == GPT_E_MEMORY || r == GPT_E_IO)) return r;
    gpti_clear(ld->err);                        /* header_only: the tokenizer is of use without the rest */
    info->name = m->text[0]; info->chat_template = m->text[1]; info->architecture = m->text[2];
    info->kernels = m->kern.name; info->n_vocab = m->hp.n_vocab ? m->hp.n_vocab : (uint32_t)m->tok.n_token;
    info->n_ctx = m->hp.n_ctx; info->n_layer = m->hp.n_layer; info->d_model = info->n_embd = m->hp.d_model;
    info->d_ff = m->hp.max_ff; info->encoder = !m->hp.causal;
    info->pool = m->hp.pooling <= GPT_POOL_LAST ? (int)m->hp.pooling : GPT_POOL_FILE;
    info->n_head = m->hp.max_head; info->n_kv_head = m->hp.max_kv;
    for (i = 0; i < m->n_part; i++) info->file_bytes += m->part[i].r.size;
    return GPT_OK;
}

static void gpti_close_parts(gpt_model *m) {
    int i;
    for (i = 0; i < m->n_part; i++) gpti_source_close(&m->part[i], &m->mem);
    gpti_free(&m->mem, m->part);
    m->part = m->gguf.part = NULL;
    m->n_part = 0;
}

GPT_API void gpt_model_free(gpt_model *m) {
    gpti_mem mem;
    int i;
    if (!m || m->n_busy) return;
    mem = m->mem;
    gpti_tokenizer_free(&m->tok, &mem);
    for (i = 0; i < 3; i++) { gpti_free(&mem, m->rope_freq[i]); gpti_free(&mem, m->text[i]); }
    gpti_free(&mem, m->layer);
    gpti_free(&mem, m->weights);
    gpti_gguf_close(&m->gguf, &mem);
    gpti_close_parts(m);
    gpti_free(&mem, m);
}

/* A model with room for n_part sources, still closed. */
static gpt_result gpti_model_new(gpt_model **out, const gpt_model_params *params, int n_part, gpt_error *err) {
    gpti_mem mem = params->alloc;
    gpt_model *m;
    if (!mem.alloc != !mem.free) return gpti_fail(err, GPT_E_ARG, "params.alloc: set both functions or none");
    m = (gpt_model *)gpti_alloc(&mem, sizeof *m);
    if (m) {
        m->mem = mem; m->part = (gpti_source *)gpti_alloc_n(&mem, (size_t)n_part, sizeof *m->part);
        m->info.bos = m->info.eos = -1; m->header_only = params->header_only;
        if (m->part) { *out = m; return GPT_OK; }
        gpti_free(&mem, m);
    }
    return gpti_fail(err, GPT_E_MEMORY, "model: out of memory");
}

/* The common end of the three ways to load: m's sources are open. */
static gpt_result gpti_model_finish(gpt_model **out, gpt_model *m, const gpt_model_params *params, gpt_error *err) {
    gpti_loader ld;
    gpt_result r;
    memset(&ld, 0, sizeof ld);
    ld.m = m; ld.params = params; ld.err = err;
    gpti_pool_init(&ld.pool, &params->parallel, params->n_threads);
    r = gpti_load_parts(&ld);
    m->gguf = ld.g;
    gpti_free(&m->mem, ld.used);
    gpti_free(&m->mem, ld.strip);
    if (r) { gpt_model_free(m); return r; }
    if (!params->mapped || params->header_only) gpti_close_parts(m);
    *out = m;
    return GPT_OK;
}

static gpt_model_params gpti_model_params_of(const gpt_model_params *params) {
    gpt_model_params none;
    memset(&none, 0, sizeof none);
    return params ? *params : none;
}

#ifndef GPT_NO_STDIO
/* The n parts of which path names one, or the file itself. */
static gpt_result gpti_load_files(gpt_model **out, const char *path, int n, const gpt_model_params *p, gpt_error *err) {
    gpt_error e;
    char shown[GPTI_SHOWN];
    gpt_model *m;
    gpt_result r = GPT_OK;
    int i;
    GPTI_TRY(gpti_model_new(&m, p, n, err));
    for (i = 0; i < n && !r; i++) {
        char *name = n > 1 ? gpti_split_path(path, i, &m->mem) : NULL;
        r = name || n == 1 ? gpti_source_open(&m->part[i], name ? name : path, p->mapped, &m->mem, err) : gpti_fail(err,
            GPT_E_MEMORY, "%s: out of memory", gpti_show_path(shown, path));
        if (!r) m->n_part = i + 1;
        gpti_free(&m->mem, name);
    }
    if (r) { gpt_model_free(m); return r; }
    gpti_clear(&e);
    r = gpti_model_finish(out, m, p, &e);
    return r ? gpti_fail(err, r, "%s: %s", gpti_show_path(shown, path), e.msg) : GPT_OK;
}

GPT_API gpt_result gpt_model_load(gpt_model **out, const char *path, const gpt_model_params *params, gpt_error *err) {
    gpt_model_params p = gpti_model_params_of(params);
    gpt_result r;
    int n;
    if (out) *out = NULL;
    gpti_clear(err);
    if (!out || !path) return gpti_fail(err, GPT_E_ARG, "gpt_model_load: out and path must not be NULL");
    n = gpti_split_count(path);                 /* 1 for a file that is no part of a split model */
    r = gpti_load_files(out, path, n, &p, err);
    if (r != GPT_E_IO || n == 1 || gpti_load_files(out, path, 1, &p, NULL)) return r;
    gpti_clear(err);                            /* whole, but named like a part */
    return GPT_OK;
}
#endif

GPT_API gpt_result gpt_model_load_memory(gpt_model **out, const void *data, size_t size, const gpt_model_params *params,
    gpt_error *err) {
    gpt_model_params p = gpti_model_params_of(params);
    gpt_model *m = NULL;
    if (out) *out = NULL;
    gpti_clear(err);
    if (!out || !data) return gpti_fail(err, GPT_E_ARG, "gpt_model_load_memory: out and data must not be NULL");
    GPTI_TRY(gpti_model_new(&m, &p, 1, err));
    gpti_source_memory(&m->part[0], data, size);
    m->n_part = 1;
    return gpti_model_finish(out, m, &p, err);
}

GPT_API gpt_result gpt_model_load_reader(gpt_model **out, const gpt_reader *parts, int n_part,
    const gpt_model_params *params, gpt_error *err) {
    gpt_model_params p = gpti_model_params_of(params);
    gpt_model *m;
    int i;
    if (out) *out = NULL;
    gpti_clear(err);
    if (!out || !parts || n_part < 1 || n_part > 65535)
        return gpti_fail(err, GPT_E_ARG, "gpt_model_load_reader: expected out, parts and 1 to 65535 of them");
    for (i = 0; i < n_part; i++) if (!parts[i].read)
        return gpti_fail(err, GPT_E_ARG, "gpt_model_load_reader: part %d has no read function", i);
    GPTI_TRY(gpti_model_new(&m, &p, n_part, err));
    for (i = 0; i < n_part; i++) gpti_source_reader(&m->part[i], &parts[i]);
    m->n_part = n_part;
    return gpti_model_finish(out, m, &p, err);
}

GPT_API uint32_t gpt_version(void) { return GPT_VERSION_NUMBER; }

GPT_API size_t gpt_struct_bytes(const char *name) {
#define GPTI_STRUCT(s) { #s, sizeof(s) }
    static const struct { char name[24]; size_t bytes; } structs[] = {
        GPTI_STRUCT(gpt_error), GPTI_STRUCT(gpt_alloc), GPTI_STRUCT(gpt_reader), GPTI_STRUCT(gpt_parallel),
        GPTI_STRUCT(gpt_trace), GPTI_STRUCT(gpt_hooks), GPTI_STRUCT(gpt_model_params), GPTI_STRUCT(gpt_model_info),
        GPTI_STRUCT(gpt_meta), GPTI_STRUCT(gpt_tensor), GPTI_STRUCT(gpt_work_params), GPTI_STRUCT(gpt_session_params),
        GPTI_STRUCT(gpt_session_info), GPTI_STRUCT(gpt_writer), GPTI_STRUCT(gpt_eval_params),
        GPTI_STRUCT(gpt_choose_params), GPTI_STRUCT(gpt_logprob), GPTI_STRUCT(gpt_bias), GPTI_STRUCT(gpt_sample_params),
        GPTI_STRUCT(gpt_constraint_params), GPTI_STRUCT(gpt_generate_params), GPTI_STRUCT(gpt_message),
        GPTI_STRUCT(gpt_chat_params)
    };
#undef GPTI_STRUCT
    size_t i;
    for (i = 0; name && i < sizeof structs / sizeof *structs; i++)
        if (!strcmp(name, structs[i].name)) return structs[i].bytes;
    return 0;
}

GPT_API void gpt_model_info_get(const gpt_model *m, gpt_model_info *info) {
    if (info) memset(info, 0, sizeof *info);
    if (info && m) *info = m->info;
}

GPT_API gpt_result gpt_model_meta(const gpt_model *m, const char *key, size_t i, gpt_meta *out) {
    const gpti_gguf *g = m ? &m->gguf : NULL;
    const gpti_meta_pair *pair = NULL;
    gpti_value v;
    if (out) memset(out, 0, sizeof *out);
    if (g && key) pair = gpti_gguf_find(g, key);
    else if (g && i < g->n_pair) pair = &g->pair[i];
    if (!pair || !out) return GPT_E_ARG;
    out->key = pair->key.p; out->n = 1; out->type = (int)pair->type;
    v = pair->v;
    if (pair->type == GPTI_GGUF_STRING) { out->text = v.s.p; out->n_text = v.s.n; return GPT_OK; }
    if (pair->type == GPTI_GGUF_ARRAY) {
        uint32_t type;
        out->n = (size_t)pair->count; out->type = (int)pair->elem;
        if (!key) return GPT_OK;                /* the list of keys has no elements */
        if (i >= out->n || pair->elem == GPTI_GGUF_STRING || pair->elem == GPTI_GGUF_ARRAY) return GPT_E_ARG;
        if (!g->part || gpti_gguf_number(g, key, i, &type, &v) != 1) return GPT_E_STATE;
    }
    out->number = gpti_gguf_to_double((uint32_t)out->type, &v);
    return GPT_OK;
}

/* Where the model keeps a tensor of the tables: its row, and its field; NULL: nowhere */
static const gpti_tensor_row *gpti_tensor_place(const gpt_model *m, const char *name, const char **field) {
    const gpti_tensor_row *rows = gpti_model_tensors;
    const char *object = (const char *)m, *dot;
    size_t i = gpti_layer_of(name, &name), n = GPTI_N_MODEL_TENSOR;
    if (i != SIZE_MAX) {
        if (i >= m->hp.n_layer) return NULL;
        object = (const char *)&m->layer[i];
        rows = gpti_layer_tensors; n = GPTI_N_LAYER_TENSOR;
    }
    dot = strrchr(name, '.');
    if (!dot) dot = name + strlen(name);
    for (i = 0; i < n; i++) {
        if (strncmp(rows[i].name, name, (size_t)(dot - name)) || rows[i].name[dot - name]) continue;
        *field = object + gpti_field_offset(&rows[i], !strcmp(dot, ".bias"));
        if (rows[i].type == 'F' || *(const void *const *)(const void *)*field) return &rows[i];
    }
    return NULL;
}

GPT_API gpt_result gpt_model_tensor(const gpt_model *m, const char *name, size_t i, size_t row, size_t n, float *rows,
                                    gpt_tensor *info, gpt_error *err) {
    const gpti_tensor *t = NULL;
    const gpti_tensor_row *place;
    const char *field;
    char shown[GPTI_SHOWN];
    size_t n_col, n_row;
    gpti_clear(err);
    if (info) memset(info, 0, sizeof *info);
    if (m && name) t = gpti_gguf_tensor(&m->gguf, name);
    else if (m && i < m->gguf.n_tensor) t = &m->gguf.tensor[i];
    if (!t)
        return gpti_fail(err, GPT_E_ARG, "gpt_model_tensor: the model has no tensor %s",
                         name ? name : "of that number");
    n_col = (size_t)t->ne[0]; n_row = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]);
    if (info) {
        info->name = t->name.p; info->type = t->fmt->name; info->n_row = n_row; info->n_col = n_col;
        memcpy(info->shape, t->ne, sizeof info->shape);
    }
    if (!n) return GPT_OK;
    gpti_show(shown, t->name);
    if (!rows || row > n_row || n > n_row - row)
        return gpti_fail(err, GPT_E_ARG, "gpt_model_tensor: expected rows within the %llu of %s, and room for them",
                         (gpti_ull)n_row, shown);
    place = m->weights ? gpti_tensor_place(m, t->name.p, &field) : NULL;
    if (!place || place->type == 'F')
        return gpti_fail(err, GPT_E_STATE, "gpt_model_tensor: %s is not kept in memory", shown);
    if (place->type != 'M' || strstr(t->name.p, ".bias")) {
        memcpy(rows, *(const float *const *)(const void *)field + row * n_col, n * n_col * sizeof *rows);
    } else {
        const gpti_linear *lin = (const gpti_linear *)(const void *)field;
        gpti_scratch *scratch = (gpti_scratch *)gpti_alloc_raw(&m->mem, sizeof *scratch);
        if (!scratch) return gpti_fail(err, GPT_E_MEMORY, "gpt_model_tensor: out of memory");
        for (i = 0; i < n; i++) {
            gpti_matrix w = lin->w;
            w.data += (row + i) / w.n_row * lin->stride;        /* experts lie one after the other */
            gpti_matrix_row(&w, (row + i) % w.n_row, rows + i * n_col, scratch);
        }
        gpti_free(&m->mem, scratch);
    }
    return GPT_OK;
}

/* ---- Adapters. Their matrices lie in panels of F32, whatever the file has. ---- */

typedef struct gpti_lora {          /* y += factor B (A x) */
    const gpti_linear *of;          /* beside this product; of the table of tokens A x is the token's row of A */
    gpti_linear        a, b;        /* of experts one after the other */
    float              factor;
} gpti_lora;

struct gpt_adapter {
    const gpt_model *m;
    gpti_lora *pair;                /* [n_pair] */
    size_t     n_pair;
    void      *weights;
    uint32_t   n_rank;              /* the largest, */
    char       widest[GPTI_SHOWN];  /* of this tensor */
    uint64_t   digest;              /* of names and numbers */
};

static const gpti_lora *gpti_lora_of(const gpt_adapter *a, const gpti_linear *lin) {
    size_t i = 0;
    while (i < a->n_pair && a->pair[i].of != lin) i++;
    return i < a->n_pair ? &a->pair[i] : NULL;
}

/* One of a pair's tensors, its extents checked; a measuring arena only counts. */
static gpt_result gpti_load_low(gpti_loader *ld, const gpti_tensor *t, size_t n_col, size_t n_row, size_t n_matrix,
                                gpti_linear *lin, gpt_adapter *out) {
    const size_t row_bytes = n_col * sizeof(float);
    unsigned char *to, *p;
    size_t i, e, n = n_col * n_row * n_matrix;
    gpt_result r;
    gpti_show(ld->shown, t->name);
    if (t->ne[0] != n_col || t->ne[1] != n_row || t->ne[2] != n_matrix || t->ne[3] != 1)
        return gpti_fail(ld->err, GPT_E_SHAPE, "%s: expected [%llu, %llu, %llu], file has [%llu, %llu, %llu]",
                         ld->shown, (gpti_ull)n_col, (gpti_ull)n_row, (gpti_ull)n_matrix, (gpti_ull)t->ne[0],
                         (gpti_ull)t->ne[1], (gpti_ull)t->ne[2]);
    lin->w.fmt = gpti_format_find(0); lin->w.n_row = n_row; lin->w.n_col = n_col; lin->w.packed = 1;
    if (!gpti_packed_bytes(lin->w.fmt, n_row, n_col, &lin->stride)) ld->arena.overflow = 1;
    to = (unsigned char *)gpti_carve(&ld->arena, n_matrix, lin->stride);
    lin->w.data = to;
    if (!ld->arena.base) return GPT_OK;
    p = (unsigned char *)gpti_alloc_n(&ld->m->mem, n, sizeof(float));
    if (!p) return gpti_fail(ld->err, GPT_E_MEMORY, "%s: out of memory", ld->shown);
    r = gpti_load_floats(ld, t, (float *)(void *)p);
    for (i = 0; i < n; i++) {                   /* little-endian, as panels are */
        const uint32_t u = gpti_f32_bits(((const float *)(const void *)p)[i]);
        gpti_store_u16(p + 4 * i, u & 0xFFFFu); gpti_store_u16(p + 4 * i + 2, u >> 16);
    }
    for (e = 0; e < n_matrix && !r; e++) for (i = 0; i < n_row; i += GPTI_PANEL)
        gpti_pack(lin->w.fmt, n_col, p + (e * n_row + i) * row_bytes, gpti_min(n_row - i, GPTI_PANEL),
                  to + e * lin->stride + i * row_bytes);
    gpti_free(&ld->m->mem, p);
    out->digest = gpti_digest(gpti_digest(out->digest, t->name.p, t->name.n), to, n_matrix * lin->stride);
    return r;
}

/* Tensor t of an adapter, NAME.lora_a or NAME.lora_b: the pair at a's. */
static gpt_result gpti_load_lora(gpti_loader *ld, const gpti_tensor *t, float alpha, gpt_adapter *out) {
    const gpt_model *m = ld->m;
    const size_t n = t->name.n > 7 ? t->name.n - 7 : 0;         /* bytes of NAME */
    const char *end = t->name.p + n, *field = NULL;
    const gpti_tensor_row *row = NULL;
    const gpti_tensor *other;
    const gpti_linear *of;
    gpti_lora *pair;
    size_t rank, n_matrix;
    char name[80];
    gpti_show(ld->shown, t->name);
    if (strcmp(end, ".lora_a") && strcmp(end, ".lora_b"))
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s: expected tensors named .lora_a and .lora_b", ld->shown);
    memcpy(name, t->name.p, gpti_min(n, 64)); name[gpti_min(n, 64)] = 0;
    if (strlen(name) == n && n > 7 && !strcmp(name + n - 7, ".weight") &&
        (gpti_gguf_tensor(&m->gguf, name) || !strcmp(name, "output.weight"))) row = gpti_tensor_place(m, name, &field);
    of = (const gpti_linear *)(const void *)field;
    if (!row || row->type != 'M' || of == &m->pos_embd)
        return gpti_fail(ld->err, GPT_E_SHAPE, "%s: the model has no such matrix to be adapted", ld->shown);
    snprintf(name + n, sizeof name - n, ".lora_%c", end[6] == 'a' ? 'b' : 'a');
    other = gpti_gguf_tensor(&ld->g, name);
    if (!other) return gpti_fail(ld->err, GPT_E_SHAPE, "%s: missing, and %s needs it", name, ld->shown);
    if (end[6] == 'b') return GPT_OK;
    pair = &out->pair[out->n_pair++];
    pair->of = of;
    rank = (size_t)(of == &m->embd ? t->ne[0] : t->ne[1]);
    n_matrix = row->extents[2] ? m->hp.n_expert : 1;
    if (rank > GPTI_MAX_WIDTH) return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "%s: rank %llu is more than %d", ld->shown,
        (gpti_ull)rank, (int)GPTI_MAX_WIDTH);
    pair->factor = alpha != 0.0f ? alpha / (float)rank : 1.0f;
    if (rank > out->n_rank) { out->n_rank = (uint32_t)rank; memcpy(out->widest, ld->shown, sizeof out->widest); }
    if (of == &m->embd) GPTI_TRY(gpti_load_low(ld, t, rank, of->w.n_row, 1, &pair->a, out));
    else GPTI_TRY(gpti_load_low(ld, t, of->w.n_col, rank, n_matrix, &pair->a, out));
    return gpti_load_low(ld, other, rank, of == &m->embd ? of->w.n_col : of->w.n_row, n_matrix, &pair->b, out);
}

static gpt_result gpti_load_adapter(gpti_loader *ld, gpt_adapter *a) {
    static const char keys[3][24] = { "general.type", "adapter.type", "general.architecture" };
    const char *const want[] = { "adapter", "lora", ld->m->text[2] };
    gpti_str has;
    float alpha = 0.0f;
    size_t i;
    for (i = 0; i < 3; i++) {
        GPTI_TRY(gpti_hp_str(ld, keys[i], &has, ""));
        if (!gpti_str_is(has, want[i]))
            return gpti_fail(ld->err, i < 2 ? GPT_E_UNSUPPORTED : GPT_E_FOREIGN, "%s: expected \"%s\", file has \"%s\"",
                             keys[i], want[i], gpti_show(ld->shown, has));
    }
    if (gpti_gguf_find(&ld->g, "adapter.alora.invocation_tokens"))
        return gpti_fail(ld->err, GPT_E_UNSUPPORTED, "adapter.alora.invocation_tokens: not supported");
    GPTI_TRY(gpti_hp_f32(ld, "adapter.lora.alpha", &alpha, 0.0f, -FLT_MAX, FLT_MAX));
    if (!ld->g.n_tensor) return gpti_fail(ld->err, GPT_E_FORMAT, "the adapter has no tensors");
    a->pair = (gpti_lora *)gpti_alloc_n(&ld->m->mem, ld->g.n_tensor, sizeof *a->pair);
    if (!a->pair) return gpti_fail(ld->err, GPT_E_MEMORY, "adapter: out of memory");
    for (i = 0; i < ld->g.n_tensor; i++) GPTI_TRY(gpti_load_lora(ld, &ld->g.tensor[i], alpha, a));
    if (!ld->arena.overflow) a->weights = gpti_alloc_raw(&ld->m->mem, ld->arena.used + 64);
    if (!a->weights) return gpti_fail(ld->err, GPT_E_MEMORY, "adapter: out of memory for %llu KiB",
        (gpti_ull)(ld->arena.used >> 10));
    ld->arena.base = (unsigned char *)gpti_align(a->weights, 64); ld->arena.used = a->n_pair = 0;
    a->digest = gpti_f32_bits(alpha);
    for (i = 0; i < ld->g.n_tensor; i++) GPTI_TRY(gpti_load_lora(ld, &ld->g.tensor[i], alpha, a));
    return GPT_OK;
}

GPT_API uint32_t gpt_adapter_rank(const gpt_adapter *a) { return a ? a->n_rank : 0; }

GPT_API void gpt_adapter_free(gpt_adapter *a) {
    if (!a) return;
    gpti_free(&a->m->mem, a->pair);
    gpti_free(&a->m->mem, a->weights);
    gpti_free(&a->m->mem, a);
}

static gpt_result gpti_adapter_new(gpt_adapter **out, const gpt_model *m, gpti_source *source, gpt_error *err) {
    gpt_adapter *a;
    gpti_loader ld;
    gpt_result r;
    memset(&ld, 0, sizeof ld);
    ld.m = (gpt_model *)m; ld.err = err;
    if (m->header_only) return gpti_fail(err, GPT_E_STATE, "adapter: the model was loaded with header_only");
    GPTI_TRY(gpti_gguf_open(&ld.g, source, 1, &m->mem, err));
    a = (gpt_adapter *)gpti_alloc(&m->mem, sizeof *a);
    if (a) { a->m = m; r = gpti_load_adapter(&ld, a); }
    else r = gpti_fail(err, GPT_E_MEMORY, "adapter: out of memory");
    gpti_gguf_close(&ld.g, &m->mem);
    if (r) gpt_adapter_free(a);
    else *out = a;
    return r;
}

#ifndef GPT_NO_STDIO
GPT_API gpt_result gpt_adapter_load(gpt_adapter **out, const gpt_model *m, const char *path, gpt_error *err) {
    char shown[GPTI_SHOWN];
    gpti_source source;
    gpt_error e;
    gpt_result r;
    gpti_clear(err);
    if (out) *out = NULL;
    if (!out || !m || !path) return gpti_fail(err, GPT_E_ARG, "gpt_adapter_load: out, model and path must not be NULL");
    GPTI_TRY(gpti_source_open(&source, path, 0, &m->mem, err));
    gpti_clear(&e);
    r = gpti_adapter_new(out, m, &source, &e);
    gpti_source_close(&source, &m->mem);
    return r ? gpti_fail(err, r, "%s: %s", gpti_show_path(shown, path), e.msg) : GPT_OK;
}
#endif

GPT_API gpt_result gpt_adapter_load_reader(gpt_adapter **out, const gpt_model *m, const gpt_reader *r, gpt_error *err) {
    gpti_source source;
    gpti_clear(err);
    if (out) *out = NULL;
    if (!out || !m || !r || (!r->read && !r->user))
        return gpti_fail(err, GPT_E_ARG, "gpt_adapter_load_reader: out, model and reader must not be NULL");
    if (r->read) gpti_source_reader(&source, r);
    else gpti_source_memory(&source, r->user, (size_t)r->size);
    return gpti_adapter_new(out, m, &source, err);
}

GPTI_COLD_END

/* ======================================================================
 * [FORWARD] Transformer stages: norm, rope, attention, feed-forward
 * ==================================================================== */

/* First the functions of one row that stages are made of, then the stages in the order of the
 * story. A stage is work over n units (rows, heads or weight panels) that do not depend on each
 * other, so gpti_parallel_for may split them anyhow. */

enum { GPTI_LANES = 16 };       /* sums run over 16 lanes, then fold in halves: the same order in every kernel set */

GPTI_INLINE float gpti_fold(float *lane) {
    int i;
    for (i = 0; i < 8; i++) lane[i] += lane[i + 8];
    for (i = 0; i < 4; i++) lane[i] += lane[i + 4];
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

/* sum of (x - shift)^power, power 1 or 2 */
GPTI_INLINE float gpti_sum(const float *x, float shift, size_t n, const int power) {
    float lane[GPTI_LANES] = { 0 };
    size_t i, j;
    for (i = 0; i + GPTI_LANES <= n; i += GPTI_LANES)
        for (j = 0; j < GPTI_LANES; j++) { float d = x[i + j] - shift; lane[j] += power == 2 ? d * d : d; }
    for (j = 0; i < n; i++, j++) { float d = x[i] - shift; lane[j] += power == 2 ? d * d : d; }
    return gpti_fold(lane);
}

/* LayerNorm (Ba 2016, arXiv:1607.06450): (x - mean) / sqrt(var + eps) * w + b. RMSNorm (Zhang &
 * Sennrich 2019, arXiv:1910.07467): x / sqrt(mean(x^2) + eps) * w. w and b may be NULL. out may be
 * x. To gpti_plain_norm this adds sums in 16 lanes. The SIMD sets are this same body, compiled for
 * their processors: hence always inline, hence the loops over 16 lanes. */
GPTI_INLINE void gpti_norm_body(float *out, const float *x, size_t n, const float *w, const float *b, int kind,
                                float eps) {
    float first = kind == GPTI_NORM_LAYER ? gpti_sum(x, 0.0f, n, 1) / (float)n : 0.0f;
    /* what rounding took */
    float mean = kind == GPTI_NORM_LAYER ? first + gpti_sum(x, first, n, 1) / (float)n : 0.0f;
    float scale = 1.0f / sqrtf(gpti_sum(x, mean, n, 2) / (float)n + eps), v[GPTI_LANES];
    size_t i = 0, j;
    for (; i + GPTI_LANES <= n; i += GPTI_LANES) {
        for (j = 0; j < GPTI_LANES; j++) v[j] = (x[i + j] - mean) * scale;
        if (w) for (j = 0; j < GPTI_LANES; j++) v[j] *= w[i + j];
        if (b) for (j = 0; j < GPTI_LANES; j++) v[j] += b[i + j];
        memcpy(out + i, v, sizeof v);
    }
    for (; i < n; i++) {
        float y = (x[i] - mean) * scale;
        if (w) y *= w[i];
        if (b) y += b[i];
        out[i] = y;
    }
}
static void gpti_norm_ref(float *out, const float *x, size_t n, const float *w, const float *b, int kind, float eps) {
    gpti_norm_body(out, x, n, w, b, kind, eps);
}

/* GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415): tanh form of sec. 2, x/2 (1 + tanh u) = x
 * sigmoid(2u), with which GPT-2 was trained; the erf form differs by up to 4.8e-4. SiLU = x
 * sigmoid(x). ReLU squared (So 2021, arXiv:2109.08668). gpt-oss: gate at most 7, up within 7,
 * (up + 1) gate sigmoid(1.702 gate). */
GPTI_INLINE float gpti_act(float x, float up, const int kind) {
    const float u2 = 1.5957691216f * (x + 0.044715f * (x * x * x));     /* 2u */
    switch (kind) {
        case GPTI_GELU_TANH: return x * gpti_sigmoid(u2) * up;
        case GPTI_GELU_ERF:  return 0.5f * x * (1.0f + gpti_erf(x * 0.70710678f)) * up;
        case GPTI_SILU:      return x * gpti_sigmoid(x) * up;
        case GPTI_RELU_2:    return gpti_select(x < 0.0f, 0.0f, x * x) * up;
        default:
            x = gpti_select(x > 7.0f, 7.0f, x);
            up = gpti_select(up > 7.0f, 7.0f, gpti_select(up < -7.0f, -7.0f, up));
            return (up + 1.0f) * (x * gpti_sigmoid(1.702f * x));
    }
}
GPTI_INLINE void gpti_activate_kind(float *h, const float *up, size_t n, const int kind) {
    float v[GPTI_LANES];
    size_t i = 0, j;
    for (; i + GPTI_LANES <= n; i += GPTI_LANES) {
        if (up) for (j = 0; j < GPTI_LANES; j++) v[j] = gpti_act(h[i + j], up[i + j], kind);
        else for (j = 0; j < GPTI_LANES; j++) v[j] = gpti_act(h[i + j], 1.0f, kind);
        memcpy(h + i, v, sizeof v);
    }
    for (; i < n; i++) h[i] = gpti_act(h[i], up ? up[i] : 1.0f, kind);
}
/* h [n] = act(h) * up, in place; up NULL = 1 */
GPTI_INLINE void gpti_activate_body(float *h, const float *up, size_t n, int kind) {
    switch (kind) {
        case GPTI_GELU_TANH: gpti_activate_kind(h, up, n, GPTI_GELU_TANH); break;
        case GPTI_GELU_ERF:  gpti_activate_kind(h, up, n, GPTI_GELU_ERF); break;
        case GPTI_SILU:      gpti_activate_kind(h, up, n, GPTI_SILU); break;
        case GPTI_RELU_2:    gpti_activate_kind(h, up, n, GPTI_RELU_2); break;
        default:             gpti_activate_kind(h, up, n, GPTI_SWIGLU_CLAMP); break;
    }
}
static void gpti_activate_ref(float *h, const float *up, size_t n, int kind) { gpti_activate_body(h, up, n, kind); }

/* m pairs of numbers, `step` apart and their partners `other` further on, turn by their angles */
GPTI_INLINE void gpti_rotate_pairs(float *x, const size_t step, const size_t other, const float *c, const float *s,
                                   const size_t m) {
    float a[GPTI_LANES], b[GPTI_LANES], p[GPTI_LANES], q[GPTI_LANES];
    size_t j;       /* products first, sums in loops of their own: gcc 12 at -O3 fuses them otherwise */
    for (j = 0; j < m; j++) a[j] = x[j * step], b[j] = x[j * step + other];
    for (j = 0; j < m; j++) p[j] = a[j] * c[j], q[j] = b[j] * s[j];
    for (j = 0; j < m; j++) x[j * step] = p[j] - q[j];
    for (j = 0; j < m; j++) p[j] = b[j] * c[j], q[j] = a[j] * s[j];
    for (j = 0; j < m; j++) x[j * step + other] = p[j] + q[j];
}

/* Rotary position embedding (Su 2021, arXiv:2104.09864) of each head's first n numbers; cs =
 * cosines [n / 2], sines [n / 2]; half: a number's partner is n / 2 further on, else next to it. To
 * gpti_plain_rope this adds 16 pairs at a time, and angles that are computed once for all heads. */
GPTI_INLINE void gpti_rope_body(float *x, size_t n_head, size_t d, size_t n, const float *cs, int half) {
    size_t h, i;
    n /= 2;
    for (h = 0; h < n_head; h++, x += d) {
        for (i = 0; half && i + GPTI_LANES <= n; i += GPTI_LANES)
            gpti_rotate_pairs(x + i, 1, n, cs + i, cs + n + i, GPTI_LANES);
        for (; half && i < n; i++) gpti_rotate_pairs(x + i, 1, n, cs + i, cs + n + i, 1);
        for (; i + GPTI_LANES <= n; i += GPTI_LANES) gpti_rotate_pairs(x + 2 * i, 2, 1, cs + i, cs + n + i, GPTI_LANES);
        for (; i < n; i++) gpti_rotate_pairs(x + 2 * i, 2, 1, cs + i, cs + n + i, 1);
    }
}
static void gpti_rope_ref(float *x, size_t n_head, size_t d, size_t n, const float *cs, int half) {
    gpti_rope_body(x, n_head, d, n, cs, half);
}

/* The gated delta rule of one head for one token, as gpti_plain_delta has it; to that this adds 16 columns of the state
 * at a time. */
GPTI_INLINE void gpti_delta_columns(float *out, float *state, const float *q, const float *k, const float *v, size_t n,
                                    size_t d, float keep, float rate, const int corrects, const size_t m) {
    float had[GPTI_LANES] = { 0 }, gives[GPTI_LANES] = { 0 };
    size_t i, j;
    for (i = 0; corrects && i < n; i++) for (j = 0; j < m; j++) had[j] += k[i] * state[i * d + j];
    for (j = 0; j < m; j++) had[j] = rate * (v[j] - keep * had[j]);
    for (i = 0; i < n; i++) {
        float *row = state + i * d, now[GPTI_LANES];
        for (j = 0; j < m; j++) now[j] = keep * row[j] + k[i] * had[j];
        for (j = 0; j < m; j++) gives[j] += q[i] * now[j];
        for (j = 0; j < m; j++) row[j] = now[j];
    }
    for (j = 0; j < m; j++) out[j] = gives[j];
}
GPTI_INLINE void gpti_delta_body(float *out, float *state, const float *q, const float *k, const float *v, size_t n,
                                 size_t d, float keep, float rate, int corrects) {
    size_t j = 0;
    for (; corrects && j + GPTI_LANES <= d; j += GPTI_LANES)
        gpti_delta_columns(out + j, state + j, q, k, v + j, n, d, keep, rate, 1, GPTI_LANES);
    for (; j + GPTI_LANES <= d; j += GPTI_LANES)
        gpti_delta_columns(out + j, state + j, q, k, v + j, n, d, keep, rate, 0, GPTI_LANES);
    for (; j < d; j++) gpti_delta_columns(out + j, state + j, q, k, v + j, n, d, keep, rate, corrects, 1);
}
static void gpti_delta_ref(float *out, float *state, const float *q, const float *k, const float *v, size_t n, size_t d,
                           float keep, float rate, int corrects) {
    gpti_delta_body(out, state, q, k, v, n, d, keep, rate, corrects);
}

/* ---- Attention over the cache ----
 * Keys of 16 neighbouring positions lie interleaved, [kv head][position / 16][d_k][16], so that one
 * lane is one key and a score is summed without crossing lanes; values lie plainly, [kv head]
 * [position][d_v]. A window layer keeps `cap` positions and wraps around; cap is a multiple of 16, so
 * the 16 never straddle the seam. */

typedef struct gpti_cache { unsigned char *k, *v; size_t cap; } gpti_cache;

GPTI_INLINE size_t gpti_cache_row(const gpti_cache *c, size_t position) {    /* seldom a division */
    return position < c->cap ? position : position % c->cap;
}

/* The text whose cache holds that position: s, or one of its prefixes. */
static const gpt_session *gpti_holder(const gpt_session *s, size_t position) {
    while (position < s->origin) s = s->params.prefix;
    return s;
}

struct gpti_attend {                /* one layer's attention for the rows of one text */
    const gpt_session *s;           /* whose; its rows of the pass begin at row */
    size_t       row;
    float       *q;                 /* [T, stride] row r: heads of d_k; scaled and shortened in place */
    float       *out;               /* [T, n_head * d_v] */
    const float *sinks;             /* [n_head] or NULL */
    gpti_cache   cache;             /* positions from origin on */
    size_t       layer, origin, stride, n_row, n_head, n_kv, d_k, d_v, position, window;      /* position: of row 0 */
    size_t       ahead;             /* keys behind its own that a query sees, up to the last row's; 0: causal */
    /* score = soft_cap tanh(q scale . k / soft_cap) + slope (key - query); 0: none */
    float        scale, soft_cap, alibi;
    int          kv;                /* gpt_kv */
};

/* Bytes of one head's d numbers at one position. Q8_0: int8 [d], then an F16 scale for each 32 of
 * them. Q4_0: the same of nibbles, 8 more than the number; of 32 numbers (the last may be fewer) the
 * first half lies in the low nibbles, the second in the high ones. */
static size_t gpti_kv_bytes(int kv, size_t d) {
    const size_t scales = (d + 31) / 32 * 2;
    switch (kv) {
        case GPT_KV_F32:  return 4 * d;
        case GPT_KV_Q8_0: return d + scales;
        case GPT_KV_Q4_0: return (d + 1) / 2 + scales;
        default:          return 2 * d;
    }
}
GPTI_INLINE int gpti_kv_in_blocks(int kv) { return kv == GPT_KV_Q8_0 || kv == GPT_KV_Q4_0; }

/* By how much a score may exceed the one that weights are measured against: so much that it seldom
 * happens, so little that e^32 times any number of F16 is far from infinite. */
#define GPTI_ATT_SLACK 32.0f

/* Where keys and values are no F32, attention multiplies numbers of 13 significant bits (queries,
 * weights) by numbers of 11, as F16 has; matrices of F16 do the same with the rows they meet. Such
 * products are exact in f32, so a fused multiply-add gives the bits of a product and a sum, and
 * sets with and without one agree. Nothing may leave f32's normal range on the way: below 2^-64 is
 * 0, from 2^64 on infinite. */
GPTI_INLINE float gpti_round13(float x) {
    const uint32_t u = gpti_f32_bits(x), a = u & 0x7FFFFFFFu;
    const float y = gpti_bits_f32((u + 0x400u) & 0xFFFFF800u);
    return gpti_select(a < 0x1F800000u, 0.0f, gpti_select(a < 0x5F800000u, y, x * INFINITY));
}

/* e^x to 13 bits for x <= GPTI_ATT_SLACK, as gpti_exp, but e^r, a minimax polynomial, only within
 * 2.7e-6. -44.3614f: 2^-64 and not less */
GPTI_INLINE float gpti_exp13(float x) {
    const uint32_t t = gpti_f32_bits(x * 1.44269502f + 12582912.0f);
    const float r = x - (gpti_bits_f32(t) - 12582912.0f) * 0.693147182f;
    float y = 4.14584018e-2f;
    y = y * r + 1.67910308e-1f;
    y = y * r + 5.00043690e-1f;
    y = y * r + 9.99963343e-1f;
    y = y * r + 9.99999285e-1f;
    y = gpti_bits_f32((gpti_f32_bits(y) + (t << 23) + 0x400u) & 0xFFFFF800u);
    return gpti_select(x < -44.3614f, 0.0f, gpti_select(x <= GPTI_ATT_SLACK, y, x));
}

GPTI_INLINE float gpti_clamp(float x, float most) {     /* NaN stays */
    return gpti_select(x > most, most, gpti_select(x < -most, -most, x));
}
GPTI_INLINE float gpti_within_f16(float x) { return gpti_clamp(x, 65504.0f); }  /* the nearest that F16 holds */

/* out [n] = x [n] * f */
GPTI_INLINE void gpti_scale(float *out, const float *x, size_t n, float f) {
    size_t i = 0, j;
    for (; i + GPTI_LANES <= n; i += GPTI_LANES) for (j = 0; j < GPTI_LANES; j++) out[i + j] = x[i + j] * f;
    for (; i < n; i++) out[i] = x[i] * f;
}

/* Of 16 levels one number that sticks out would take all. So what a Q4_0 cache takes is rotated, as
 * in QuaRot (Ashkboos 2024, arXiv:2404.00456): a Hadamard matrix spreads each number over its head.
 * Queries turn with their keys, so that scores stay; sums of values turn back, the matrix being its
 * own inverse. x [d], in pieces of n, the largest power of two in d: log2 n times, the sums and
 * differences of numbers n / 2 apart come to lie side by side; then all by 1 / sqrt n. */
GPTI_INLINE void gpti_hadamard_body(float *x, size_t d) {
    const size_t n = d & (0 - d), half = n / 2;
    float y[GPTI_ATT_WIDTH];
    size_t at, step, i, j;
    for (at = 0; at < d; at += n, x += n) {
        for (step = 1; step < n; step *= 2) {
            for (i = 0; i + GPTI_LANES <= half; i += GPTI_LANES) for (j = 0; j < GPTI_LANES; j++) {
                y[2 * (i + j)] = x[i + j] + x[half + i + j];
                y[2 * (i + j) + 1] = x[i + j] - x[half + i + j];
            }
            for (; i < half; i++) y[2 * i] = x[i] + x[half + i], y[2 * i + 1] = x[i] - x[half + i];
            memcpy(x, y, n * sizeof *x);
        }
        gpti_scale(x, x, n, 1.0f / sqrtf((float)n));
    }
}

/* out [16] = (nibbles of p [16] - 8) * f [16]: of low ones (shift 0) or high ones (4) */
GPTI_INLINE void gpti_nibbles_16(const unsigned char *p, const int shift, const float *f, float *out) {
    unsigned char q[GPTI_LANES];
    float v[GPTI_LANES];
    size_t j;
    memcpy(q, p, sizeof q);
    for (j = 0; j < GPTI_LANES; j++) v[j] = (float)((q[j] >> shift & 15) - 8) * f[j];
    memcpy(out, v, sizeof v);
}

/* As gpti_kv_load, compiled for each set; widen: what it has for F16. Scales have 8 bits, so that
 * the products have 11. */
GPTI_INLINE void gpti_kv_load_q4_0(const unsigned char *p, size_t d, size_t lanes, float *out,
                                   void (*widen)(const uint8_t *p, size_t n, float *out)) {
    const unsigned char *scales = p + (d + 1) / 2 * lanes;
    float f[GPTI_LANES];
    size_t i, j, n, low;
    for (i = 0; i < d; i += n, p += 16 * lanes, out += n * lanes, scales += 2 * lanes) {
        n = gpti_min(d - i, 32);
        low = (n + 1) / 2 * lanes;      /* numbers in low nibbles */
        if (lanes == 1) for (f[0] = gpti_f16_f32(gpti_load_u16(scales)), j = 1; j < GPTI_LANES; j++) f[j] = f[0];
        else widen(scales, lanes, f);
        for (j = 0; j + GPTI_LANES <= low; j += GPTI_LANES) gpti_nibbles_16(p + j, 0, f, out + j);
        for (; j < low; j++) out[j] = (float)((p[j] & 15) - 8) * f[0];
        for (j = 0; j + GPTI_LANES <= n * lanes - low; j += GPTI_LANES) gpti_nibbles_16(p + j, 4, f, out + low + j);
        for (; j < n * lanes - low; j++) out[low + j] = (float)((p[j] >> 4) - 8) * f[0];
    }
}

/* An entry as f32: 16 keys (lanes 16, out [d, 16]) or one value (lanes 1, out [d]) */
static void gpti_kv_load(int kv, const unsigned char *p, size_t d, size_t lanes, float *out) {
    size_t e, n = d * lanes;
    if (kv == GPT_KV_F32) memcpy(out, p, n * 4);
    else if (kv == GPT_KV_F16) gpti_widen_f16(p, n, out);
    else if (kv == GPT_KV_Q4_0) gpti_kv_load_q4_0(p, d, lanes, out, gpti_widen_f16);
    else for (e = 0; e < n; e++) {
        int q = p[e] < 128 ? p[e] : p[e] - 256;
        float x = (float)q * gpti_f16_f32(gpti_load_u16(p + n + 2 * (e / lanes / 32 * lanes + e % lanes)));
        out[e] = gpti_bits_f32((gpti_f32_bits(x) + 0x1000u) & 0xFFFFE000u);     /* to 11 bits */
    }
}

/* x [d] into an entry: key `lane` of a group of 16, or a value (lanes 1, lane 0) */
GPTI_INLINE void gpti_kv_store_f16(unsigned char *p, const float *x, size_t d, size_t lanes, size_t lane) {
    float rest[GPTI_LANES] = { 0 };
    uint32_t h[GPTI_LANES];
    size_t i, j, n;
    for (i = 0; i < d; i += n, x += n) {
        unsigned char *to = p + (i * lanes + lane) * 2;
        n = gpti_min(d - i, GPTI_LANES);
        if (n < GPTI_LANES) x = (const float *)memcpy(rest, x, n * sizeof *rest);
        for (j = 0; j < GPTI_LANES; j++) h[j] = gpti_f32_f16(gpti_within_f16(x[j]));
        if (lanes == 1) for (j = 0; j < n; j++) gpti_store_u16(to + 2 * j, h[j]);
        else for (j = 0; j < n; j++) gpti_store_u16(to + 32 * j, h[j]);
    }
}
GPTI_INLINE void gpti_kv_store_q4_0(unsigned char *p, const float *x, size_t d, size_t lanes, size_t lane) {
    unsigned char *scales = p + ((d + 1) / 2 * lanes + 2 * lane);
    float y[GPTI_ATT_WIDTH + GPTI_LANES];
    size_t i, j, n, half;
    for (i = 0; i < d; i++) y[i] = gpti_within_f16(x[i]);       /* so that the sums are finite */
    gpti_hadamard_body(y, d);
    for (i = 0, p += lane; i < d; i += n, p += 16 * lanes, scales += 2 * lanes) {
        float top = 0.0f, id;
        uint32_t h, q[33];
        n = gpti_min(d - i, 32);
        half = (n + 1) / 2;
        /* the number furthest from 0 becomes -8; NaN stays */
        for (j = 0; j < n; j++) top = gpti_abs(y[i + j]) > gpti_abs(top) || y[i + j] != y[i + j] ? y[i + j] : top;
        h = top == top ? (gpti_f32_f16(gpti_clamp(top / -8.0f, 65280.0f)) + 4) & 0xFFF8 : 0x7E00;
        gpti_store_u16(scales, h);
        id = gpti_f16_f32(h);
        id = id == id && id != 0.0f ? 1.0f / id : 0.0f;
        for (j = 0; j < n; j++) {           /* adding 1.5 * 2^23 rounds */
            const float v = id == 0.0f ? 0.0f : gpti_clamp(y[i + j] * id, 8.0f);
            q[j] = gpti_f32_bits((v > 7.0f ? 7.0f : v) + 12582920.0f) & 15;
        }
        for (j = 0, q[n] = 8; j < half; j++) p[j * lanes] = (unsigned char)(q[j] | q[half + j] << 4);
    }
}
static void gpti_kv_store_ref(int kv, unsigned char *p, const float *x, size_t d, size_t lanes, size_t lane) {
    size_t i, j, n;
    if (kv == GPT_KV_F32) for (i = 0; i < d; i++) memcpy(p + (i * lanes + lane) * 4, &x[i], 4);
    else if (kv == GPT_KV_F16) gpti_kv_store_f16(p, x, d, lanes, lane);
    else if (kv == GPT_KV_Q4_0) gpti_kv_store_q4_0(p, x, d, lanes, lane);
    else for (i = 0; i < d; i += n) {
        float top = 0.0f, scale, id;
        n = gpti_min(d - i, 32);
        for (j = 0; j < n; j++) top = gpti_abs(x[i + j]) > top || x[i + j] != x[i + j] ? gpti_abs(x[i + j]) : top;
        top = gpti_within_f16(top / 127.0f);
        gpti_store_u16(p + d * lanes + 2 * (i / 32 * lanes + lane), gpti_f32_f16(top));
        scale = gpti_f16_f32(gpti_f32_f16(top));
        id = scale > 0.0f && scale < INFINITY ? 1.0f / scale : 0.0f;
        for (j = 0; j < n; j++) {       /* adding 1.5 * 2^23 rounds; at most 127.06, as F16 rounds the scale */
            const float y = id > 0.0f ? gpti_clamp(x[i + j] * id, 127.0f) : 0.0f;
            const int q = (int)(gpti_f32_bits(y + 12582912.0f) & 0x7fffff) - 0x400000;
            p[(i + j) * lanes + lane] = (unsigned char)(q & 255);
        }
    }
}

/* ALiBi (Press 2021, arXiv:2108.12409): slopes 2^(-max i / n) for the largest power of two n <=
 * n_head, the rest in between */
static float gpti_alibi_slope(size_t head, size_t n_head, float max) {
    size_t n = 1;
    while (n * 2 <= n_head) n *= 2;
    return head < n ? (float)gpti_pow_d(2.0, -(double)max * (double)(head + 1) / (double)n)
                    : (float)gpti_pow_d(2.0, -(double)max * (double)(2 * (head - n) + 1) / (double)(2 * n));
}

/* x [n] to 13 bits */
GPTI_INLINE void gpti_round13_body(float *x, size_t n) {
    size_t i = 0, j;
    for (; i + GPTI_LANES <= n; i += GPTI_LANES) for (j = 0; j < GPTI_LANES; j++) x[i + j] = gpti_round13(x[i + j]);
    for (; i < n; i++) x[i] = gpti_round13(x[i]);
}
static void gpti_round13_ref(float *x, size_t n) { gpti_round13_body(x, n); }

/* The steps of attention that a kernel set may have its own of, with the same result to the bit:
 * gpti_kv_load, and these two, for n queries. exact: the products are. */
typedef struct gpti_attend_steps {
    void (*load)(int kv, const unsigned char *p, size_t d, size_t lanes, float *out);
    void (*scores)(const float *const *q, size_t n, const float *keys, size_t d_k, float (*s)[GPTI_ATT_KEYS],
                   int exact);
    void (*add_values)(float *const *o, size_t n, size_t d, float (*p)[GPTI_ATT_KEYS], const float *values, size_t lo,
                       size_t hi, int exact);
} gpti_attend_steps;

/* s [n, 2 * 16] = q [n, d_k] . keys [2, d_k, 16]: two partial sums, over even and odd d */
static void gpti_scores_ref(const float *const *q, size_t n, const float *keys, size_t d_k, float (*s)[GPTI_ATT_KEYS],
                            int exact) {
    size_t i, j, k, g;
    for (k = 0; k < n; k++) for (g = 0; g < GPTI_ATT_KEYS; g += 16) {
        const float *key = keys + g * d_k;
        float a[16] = { 0 }, b[16] = { 0 };
        for (i = 0; i + 2 <= d_k; i += 2) {
            for (j = 0; j < 16; j++) a[j] += q[k][i] * key[16 * i + j];
            for (j = 0; j < 16; j++) b[j] += q[k][i + 1] * key[16 * i + 16 + j];
        }
        if (i < d_k) for (j = 0; j < 16; j++) a[j] += q[k][i] * key[16 * i + j];
        for (j = 0; j < 16; j++) s[k][g + j] = a[j] + b[j];
    }
    (void)exact;
}

/* o [n, d] += sum of p[n, j] * values [j, d], j from lo to hi: two partial sums, over even and odd
 * j. o and values may be read and o written up to the end of a vector of 16. */
static void gpti_add_values_ref(float *const *o, size_t n, size_t d, float (*p)[GPTI_ATT_KEYS], const float *values,
                                size_t lo, size_t hi, int exact) {
    size_t i, j, e, m, k;
    for (k = 0; k < n; k++) for (i = 0; i < d; i += m) {
        float v[2][16] = { { 0 } };
        m = gpti_min(d - i, 16);
        for (j = lo; j <= hi; j++) {
            if (m == 16) for (e = 0; e < 16; e++) v[j % 2][e] += p[k][j] * values[j * d + i + e];
            else for (e = 0; e < m; e++) v[j % 2][e] += p[k][j] * values[j * d + i + e];
        }
        for (e = 0; e < m; e++) o[k][i + e] += v[0][e] + v[1][e];
    }
    (void)exact;
}

/* Of one query, while it meets block after block: the running maximum of its scores, from which
 * weights are measured as e^(score - top), and their sum in 16 lanes. */
typedef struct gpti_softmax { float top, sum[16]; } gpti_softmax;

/* One query meets a block of keys, of which it sees lo to hi. Softmax as it goes (Milakov &
 * Gimelshein 2018, arXiv:1805.02867): when a much larger score comes up, what was summed so far is
 * scaled down. s: products on entry, weights on return. */
GPTI_INLINE void gpti_softmax_block(const gpti_attend *a, gpti_softmax *sm, float *s, float *o, float slope,
                                    size_t behind, size_t lo, size_t hi) {
    float top, m[16];
    size_t j, n;
    if (a->soft_cap > 0.0f) for (j = 0; j < GPTI_ATT_KEYS; j++) s[j] = a->soft_cap * gpti_tanh(s[j] / a->soft_cap);
    if (a->alibi > 0.0f) for (j = 0; j < GPTI_ATT_KEYS; j++) s[j] -= slope * (float)((int)behind - (int)j);
    for (j = 0; j < lo; j++) s[j] = -INFINITY;
    for (j = hi + 1; j < GPTI_ATT_KEYS; j++) s[j] = -INFINITY;
    for (j = 0; j < 16; j++) m[j] = gpti_select(s[j] > s[j + 16], s[j], s[j + 16]);
    for (j = 0; j < 8; j++) m[j] = gpti_select(m[j] > m[j + 8], m[j], m[j + 8]);
    for (j = 0; j < 4; j++) m[j] = gpti_select(m[j] > m[j + 4], m[j], m[j + 4]);
    for (j = 0; j < 2; j++) m[j] = m[j] > m[j + 2] ? m[j] : m[j + 2];
    top = m[0] > m[1] ? m[0] : m[1];
    if (top - sm->top > GPTI_ATT_SLACK) {
        if (sm->top > -INFINITY) {      /* something was summed */
            const float f = gpti_exp(sm->top - top);
            for (j = 0; j < 16; j++) sm->sum[j] *= f;
            gpti_scale(o, o, a->d_v, f);
        }
        sm->top = top;
    }
    if (a->kv == GPT_KV_F32) for (j = 0; j < GPTI_ATT_KEYS; j++) s[j] = gpti_exp(s[j] - sm->top);
    else for (j = 0; j < GPTI_ATT_KEYS; j++) s[j] = gpti_exp13(s[j] - sm->top);
    for (n = 0; n < GPTI_ATT_KEYS; n += 16) for (j = 0; j < 16; j++) sm->sum[j] += s[n + j];
}

/* Of a block's n_key keys, from base on, those that a query at position pos sees: lo to hi of it. A window of 4
 * lets a query at 10 see keys 7 to 10, and 11 to 13 as well where rows see later ones. */
GPTI_INLINE void gpti_visible_keys(const gpti_attend *a, size_t pos, size_t base, size_t n_key, size_t *lo,
                                   size_t *hi) {
    const size_t from = a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
    *lo = base < from ? from - base : 0;
    *hi = gpti_min(pos + a->ahead - base, n_key - 1);
}

/* A band: rows r0 to r1 of the chunk, n_head heads from head on, all of one kv head. Its queries
 * meet their keys in blocks that are cut at absolute positions and taken in ascending order, so
 * that nothing depends on how the text was chunked. To gpti_plain_attention this adds 32 keys and
 * up to 32 queries at a time, so that a block is loaded once for all of them. */
typedef struct gpti_band {
    size_t       r0, r1, kv_head, head, n_head, ld_o;       /* ld_o: floats from one query's sums to the next's */
    gpti_softmax sm[GPTI_ATT_QUERIES];
    const float *q[GPTI_ATT_QUERIES];
    float       *o[GPTI_ATT_QUERIES], slope[GPTI_ATT_HEADS];
    float       *key, *value;                   /* one block as f32, [2, d_k, 16] and [keys, d_v] */
} gpti_band;

GPTI_INLINE void gpti_band_begin(const gpti_attend *a, gpti_band *b, gpti_scratch *scratch) {
    const size_t width = b->n_head * a->d_k;
    size_t row, h, i = 0, j;
    b->ld_o = (a->d_v + 15) & ~(size_t)15;
    b->key = scratch->attend.key; b->value = scratch->attend.value;
    for (h = 0; h < b->n_head; h++)
        b->slope[h] = a->alibi > 0.0f ? gpti_alibi_slope(b->head + h, a->n_head, a->alibi) : 0.0f;
    for (row = b->r0; row < b->r1; row++) {
        float *x = a->q + row * a->stride + b->head * a->d_k;
        gpti_scale(x, x, width, a->scale);      /* in place: nothing reads q again */
        for (h = 0; h < b->n_head && a->kv == GPT_KV_Q4_0; h++) gpti_hadamard_body(x + h * a->d_k, a->d_k);
        if (a->kv != GPT_KV_F32) gpti_round13_body(x, width);
        for (h = 0; h < b->n_head; h++, i++) {
            b->q[i] = x + h * a->d_k;
            b->o[i] = scratch->attend.sums + i * b->ld_o;
            b->sm[i].top = -INFINITY;
            for (j = 0; j < 16; j++) b->sm[i].sum[j] = 0.0f;
        }
    }
    memset(scratch->attend.sums, 0, i * b->ld_o * sizeof(float));
}

/* Keys and values of the block from base on, n_key of them, as f32 */
GPTI_INLINE void gpti_band_load(const gpti_attend *a, gpti_band *b, const gpti_attend_steps *steps, size_t base,
                                size_t n_key) {
    const size_t k_bytes = gpti_kv_bytes(a->kv, a->d_k), v_bytes = gpti_kv_bytes(a->kv, a->d_v);
    size_t i, j, n;
    for (i = 0; i < n_key; i += n) {            /* of plain floats, as many keys as lie in one piece */
        const gpti_cache *c = &a->cache;
        const unsigned char *k, *v;
        size_t origin = a->origin, at, left = (n_key - i + 15) & ~(size_t)15;
        if (base + i < origin) {                /* in a prefix */
            const gpt_session *s = gpti_holder(a->s, base + i);
            c = &s->cache[a->layer]; origin = s->origin; left = 16;
        }
        at = gpti_cache_row(c, base + i - origin);
        n = gpti_kv_in_blocks(a->kv) ? 16 : gpti_min(left, c->cap - at);
        k = c->k + (b->kv_head * c->cap + at) * k_bytes; v = c->v + (b->kv_head * c->cap + at) * v_bytes;
        steps->load(a->kv, k, n / 16 * a->d_k, 16, b->key + i * a->d_k);
        if (!gpti_kv_in_blocks(a->kv)) steps->load(a->kv, v, n * a->d_v, 1, b->value + i * a->d_v);
        else for (j = i; j < i + n && j < n_key; j++)
            steps->load(a->kv, v + (j - i) * v_bytes, a->d_v, 1, b->value + j * a->d_v);
    }
    if (i < GPTI_ATT_KEYS) memset(b->key + i * a->d_k, 0, 16 * a->d_k * sizeof(float));
}

/* Queries [i, end) of the band meet the block from base on that is loaded. */
GPTI_INLINE void gpti_band_block(const gpti_attend *a, gpti_band *b, const gpti_attend_steps *steps,
                                 float (*s)[GPTI_ATT_KEYS], size_t base, size_t n_key, size_t i, size_t end) {
    const int exact = a->kv != GPT_KV_F32;
    const size_t first = gpti_max(base, a->position + b->r0 + a->ahead) - a->ahead;     /* position of query i */
    size_t row = first, j, h, lo, hi, l, m;
    if (i < end) steps->scores(b->q + i, end - i, b->key, a->d_k, s + i, exact);
    for (j = i; j < end; row++) {
        gpti_visible_keys(a, row, base, n_key, &lo, &hi);
        for (h = 0; h < b->n_head; h++, j++)
            gpti_softmax_block(a, &b->sm[j], s[j], b->o[j], b->slope[h], row - base, lo, hi);
    }
    for (row = first; i < end; i = j) {         /* rows that see the same keys */
        gpti_visible_keys(a, row, base, n_key, &lo, &hi);
        j = i;
        do {
            row++;
            j += b->n_head;
            gpti_visible_keys(a, row, base, n_key, &l, &m);
        } while (j < end && l == lo && m == hi);
        steps->add_values(b->o + i, j - i, a->d_v, s + i, b->value, lo, hi, exact);
    }
}

GPTI_INLINE void gpti_attend_band(const gpti_attend *a, gpti_band *b, gpti_scratch *scratch,
                                  const gpti_attend_steps *steps) {
    const size_t pos = a->position + b->r0, last = a->position + b->r1 - 1, n_query = (b->r1 - b->r0) * b->n_head;
    const size_t first = a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
    const size_t sees = pos + a->ahead, end_key = gpti_min(last + a->ahead, a->position + a->n_row - 1);
    size_t base, i, h, row;
    gpti_band_begin(a, b, scratch);
    for (base = first - first % GPTI_ATT_KEYS; base <= end_key; base += GPTI_ATT_KEYS) {
        /* queries at base (less by what they see ahead) and after; the block's last key, base + 31, is seen up to
         * base + 30 + window */
        const size_t begin = base > sees ? (base - sees) * b->n_head : 0, reach = base + GPTI_ATT_KEYS - 1 + a->window;
        const size_t end = a->window && last + 1 > reach ? n_query - (last + 1 - reach) * b->n_head : n_query;
        const size_t n_key = gpti_min(end_key - base + 1, GPTI_ATT_KEYS);
        gpti_band_load(a, b, steps, base, n_key);
        gpti_band_block(a, b, steps, scratch->attend.s, base, n_key, begin, end);
    }
    for (i = 0, row = b->r0; row < b->r1; row++) for (h = 0; h < b->n_head; h++, i++) {
        float sum = gpti_fold(b->sm[i].sum), *out = a->out + (row * a->n_head + b->head + h) * a->d_v;
        /* a sink is a score that attends to nothing */
        if (a->sinks) sum += gpti_exp(a->sinks[b->head + h] - b->sm[i].top);
        gpti_scale(out, b->o[i], a->d_v, 1.0f / sum);
        if (a->kv == GPT_KV_Q4_0) gpti_hadamard_body(out, a->d_v);
    }
}

/* Unit: a kv head and a band of rows. Bands of a head are taken from both ends, as late ones see
 * more keys: any range of units costs about the same. */
GPTI_INLINE size_t gpti_band_rows(const gpti_attend *a) {
    return GPTI_ATT_QUERIES / gpti_min(a->n_head / a->n_kv, GPTI_ATT_HEADS);
}
static size_t gpti_attend_units(const gpti_attend *a) {
    return a->n_kv * ((a->n_row + gpti_band_rows(a) - 1) / gpti_band_rows(a));
}

GPTI_INLINE void gpti_attend_body(const gpti_attend *a, size_t begin, size_t end, gpti_scratch *scratch,
                                  const gpti_attend_steps *steps) {
    const size_t per_kv = a->n_head / a->n_kv, rows = gpti_band_rows(a), n_band = (a->n_row + rows - 1) / rows;
    gpti_band b;
    size_t unit, h;
    for (unit = begin; unit < end; unit++) {
        const size_t i = unit % n_band;
        b.r0 = (i % 2 ? n_band - 1 - i / 2 : i / 2) * rows;
        b.r1 = gpti_min(b.r0 + rows, a->n_row);
        b.kv_head = unit / n_band;
        for (h = 0; h < per_kv; h += GPTI_ATT_HEADS) {
            b.head = b.kv_head * per_kv + h;
            b.n_head = gpti_min(per_kv - h, GPTI_ATT_HEADS);
            gpti_attend_band(a, &b, scratch, steps);
        }
    }
}
static void gpti_attend_ref(const gpti_attend *a, size_t begin, size_t end, gpti_scratch *scratch) {
    const gpti_attend_steps steps = { gpti_kv_load, gpti_scores_ref, gpti_add_values_ref };
    gpti_attend_body(a, begin, end, scratch, &steps);
}

/* ---- The stages: begin_ sets cursor.n_unit and cost, run_ computes a share of the units. ---- */

static const gpti_layer *gpti_at_layer(const gpt_work *w) { return &w->m->layer[w->cursor.layer]; }

/* A width of this layer by its letter of the legend: Q K W S O */
static size_t gpti_width(const gpt_work *w, char letter) {
    return (size_t)gpti_extent(&w->m->hp, gpti_at_layer(w), letter);
}

static void gpti_norm(const gpt_work *w, float *out, const float *x, size_t n, gpti_vector v) {
    w->m->kern.norm(out, x, n, v.w, v.b, w->m->arch.norm, w->m->hp.eps);
}

static int gpti_is_f16(const gpti_linear *l) { return l->w.fmt && l->w.fmt->fetch == GPTI_FETCH_F16; }

/* Rows [begin, end) of x, n_col wide and ld apart, become the input of the next products: quantised
 * where the model has quantised matrices, then rounded in place to 13 bits where f16 is set: one of
 * the matrices that they meet next is F16. */
static void gpti_prepare_input(gpt_work *w, float *x, size_t n_col, size_t ld, size_t begin, size_t end, int f16) {
    const gpt_model *m = w->m;
    size_t t;
    for (t = begin; t < end; t++) {
        if (m->quantized && n_col % 32 == 0) m->kern.quantize(w->xq + t, w->n_slot_row, x + t * ld, n_col);
        if (f16) m->kern.round13(x + t * ld, n_col);
    }
}

/* Queue out[n_tok, n_row] = x * lin^T + b for this stage; rows through in_row and out_row where
 * they are not NULL. */
static void gpti_add_job(gpt_work *w, const gpti_linear *lin, size_t expert, const float *x, size_t ld_x, float *out,
                         size_t ld_out, size_t n_tok, const uint32_t *in_row, const uint32_t *out_row) {
    gpti_matmul *j = &w->job[w->n_job++];
    memset(j, 0, sizeof *j);
    j->w = lin->w; j->w.data += expert * lin->stride;
    j->x = x; j->ld_x = ld_x; j->xq = w->xq; j->ld_xq = w->n_slot_row;
    j->n_tok = n_tok; j->in_row = in_row; j->out_row = out_row;
    j->out = out; j->ld_out = ld_out;
    j->bias = lin->b ? lin->b + expert * lin->w.n_row : NULL; j->in_cache = w->m->info.weight_bytes <= GPTI_CACHED;
    j->lin = lin; j->expert = (uint32_t)expert;
    w->cursor.n_unit += gpti_n_panel(lin->w.n_row); w->cost = GPTI_PANEL * lin->w.n_col * n_tok;
    if (n_tok < 16) w->few = gpti_max(w->few, 16 / n_tok);
}

static void gpti_add_product(gpt_work *w, const gpti_linear *lin, const float *x, size_t ld_x, float *out,
                             size_t ld_out) {
    gpti_add_job(w, lin, 0, x, ld_x, out, ld_out, w->n_row, NULL, NULL);
}

/* What an adapter adds: panels [begin, end) of job, 16 tokens at a time */
static void gpti_add_low(const gpt_work *w, const gpti_matmul *job, size_t begin, size_t end, gpti_scratch *scratch) {
    float sum[16][GPTI_PANEL];
    gpti_matmul j = *job;
    size_t t, k, r;
    j.out = sum[0]; j.ld_out = GPTI_PANEL; j.out_row = NULL; j.bias = NULL;
    for (; begin < end; begin++) for (t = 0; t < job->n_tok; t += j.n_tok) {
        j.n_tok = gpti_min(job->n_tok - t, 16); j.x = job->x + t * job->ld_x;
        j.w.n_row = gpti_min(job->w.n_row - begin * GPTI_PANEL, GPTI_PANEL);
        j.w.data = job->w.data + begin * GPTI_PANEL * gpti_row_bytes(j.w.fmt, j.w.n_col);
        w->m->kern.matmul(&j, 0, 1, scratch);
        for (k = 0; k < j.n_tok; k++) {
            float *out = job->out + job->out_row[t + k] * job->ld_out + begin * GPTI_PANEL;
            for (r = 0; r < j.w.n_row; r++) out[r] = out[r] + sum[k][r] * job->adds;
        }
    }
}

static void gpti_run_jobs(gpt_work *w, const gpti_share *u) {
    size_t i, first = 0;
    for (i = 0; i < w->n_job && first < u->end; i++) {
        size_t n = gpti_n_panel(w->job[i].w.n_row), b = u->begin > first ? u->begin - first : 0;
        size_t e = gpti_min(u->end - first, n);
        if (b < e && w->job[i].adds != 0.0f) gpti_add_low(w, &w->job[i], b, e, u->scratch);
        else if (b < e && w->job[i].n_tok) w->m->kern.matmul(&w->job[i], b, e, u->scratch);
        first += n;
    }
}

/* ---- Adapters. Behind the products of a stage come those with A, of each product for each adapter and scale (a
 * group) among its rows; then, when all these are done, those with B, which add to what is there. ---- */

/* Whose row of a product's input that is; NULL: it has left */
static const gpt_session *gpti_whose(const gpt_work *w, const gpti_matmul *j, size_t row) {
    if (w->cursor.stage == GPTI_STAGE_LOGITS) row = w->out_row[w->cursor.logits_at + row];
    if (w->cursor.stage == GPTI_STAGE_EXPERTS_DOWN && j->in_row) row /= w->m->hp.n_expert_used;
    return w->row[row].s;
}

static void gpti_add_adapters(gpt_work *w) {
    const size_t n = w->n_job, most = GPTI_MOST_PRODUCTS * (size_t)w->n_slot_row;
    gpti_matmul *a = w->job + n, *const adds = w->job + 2 * (size_t)w->m->hp.n_expert + 4 + most, *b = adds;
    size_t i, k, m, used = 0;
    uint32_t g;
    if (w->stage[w->cursor.stage].run != gpti_run_jobs) return;
    for (i = 0; i < n; i++) for (g = 1; g <= w->n_group; g++) {
        const gpti_matmul *j = &w->job[i];
        const gpt_session *s = NULL, *owner;
        const gpti_lora *p;
        uint32_t *in = w->low_row + used, *out = w->add_row + used;
        for (m = k = 0; k < j->n_tok; k++) {
            const size_t row = j->in_row ? j->in_row[k] : k;
            if ((owner = gpti_whose(w, j, row)) == NULL || owner->group != g) continue;
            s = owner; in[m] = (uint32_t)row; out[m++] = j->out_row ? j->out_row[k] : (uint32_t)k;
        }
        p = s ? gpti_lora_of(s->params.adapter, j->lin) : NULL;
        if (!p || p->factor * s->params.adapter_scale == 0.0f) continue;
        *a = *b = *j;
        a->n_tok = b->n_tok = m; a->group = b->group = g;
        a->w = p->a.w; a->w.data += j->expert * p->a.stride; a->bias = NULL;
        a->in_row = in; a->out_row = NULL; a->out = w->low + used * w->n_rank; a->ld_out = p->a.w.n_row;
        b->w = p->b.w; b->w.data += j->expert * p->b.stride; b->adds = p->factor * s->params.adapter_scale;
        b->x = a->out; b->ld_x = a->ld_out; b->in_row = NULL; b->out_row = out;
        w->cursor.n_unit += gpti_n_panel(a->w.n_row);
        a++; b++; used += m;
    }
    w->n_job += 2 * (size_t)(b - adds);
    memmove(a, adds, (size_t)(b - adds) * sizeof *a);
    w->fence = w->cursor.n_unit;
    for (k = w->n_job - (size_t)(b - adds); k < w->n_job; k++) w->cursor.n_unit += gpti_n_panel(w->job[k].w.n_row);
}

/* The same for a token's row x [D] of the table, row t of the pass */
static void gpti_adapt_embd(gpt_work *w, const gpt_session *s, size_t t, gpti_scratch *scratch) {
    const gpti_lora *p = gpti_lora_of(s->params.adapter, &w->m->embd);
    const uint32_t row = (uint32_t)t;
    gpti_matmul j;
    memset(&j, 0, sizeof j);
    if (!p || (j.adds = p->factor * s->params.adapter_scale) == 0.0f) return;
    j.w = p->b.w; j.n_tok = 1; j.x = w->low + t * w->n_rank;
    j.out = w->x; j.ld_out = w->m->hp.d_model; j.out_row = &row;
    gpti_matrix_row(&p->a.w, (size_t)s->token[w->row[t].position], w->low + t * w->n_rank, scratch);
    gpti_add_low(w, &j, 0, gpti_n_panel(j.w.n_row), scratch);
}

/* s comes into the pass that begins: with which group? */
static void gpti_join_group(gpt_work *w, gpt_session *s) {
    const gpt_session *o;
    for (o = w->first; o; o = o->next)
        if (o != s && o->n_in_pass && o->params.adapter == s->params.adapter &&
            o->params.adapter_scale == s->params.adapter_scale) break;
    s->group = o ? o->group : ++w->n_group;
}

/* s has left the pass: the products of a group that nobody is in any more go, as its adapter may. */
static void gpti_leave_group(gpt_work *w, const gpt_session *s) {
    const gpt_session *o;
    size_t i;
    for (o = w->first; o; o = o->next) if (o->n_in_pass && o->group == s->group) return;
    if (w->stage[w->cursor.stage].run != gpti_run_jobs) return;
    for (i = 0; i < w->n_job; i++) if (w->job[i].group == s->group) w->job[i].n_tok = 0;
}

static void gpti_begin_rows(gpt_work *w) { w->cursor.n_unit = w->n_row; w->cost = 8 * w->m->hp.d_model; }

static void gpti_begin_embed(gpt_work *w) {      /* a sine takes as long as some hundred multiply-adds */
    w->cursor.n_unit = w->n_row; w->cost = 8 * w->m->hp.d_model + 512 * w->m->hp.n_rope;
}

/* LongRoPE: which texts take the factors for long ones */
static int gpti_is_long(const gpt_session *s) { return s->m->rope_freq[2] && s->n_ctx > s->m->hp.n_ctx_orig; }

/* The rope's cosines and sines of row t of the pass, for both tables of frequencies */
static void gpti_rope_angles(gpt_work *w, size_t t) {
    const gpt_model *m = w->m;
    const size_t n = m->hp.n_rope / 2;
    size_t table, i;
    for (table = 0; table < 2; table++) {
        const int lng = table == 0 && gpti_is_long(w->row[t].s);
        const float *freq = m->rope_freq[lng ? 2 : table], scale = table == 0 ? m->hp.rope_mscale : 1.0f;
        float *cs = w->rope[table] + t * m->hp.n_rope;
        for (i = 0; freq && i < n; i++) {
            double c, si;
            gpti_sincos_d((double)w->row[t].position * (double)freq[i], &si, &c);
            cs[i] = (float)c * scale; cs[n + i] = (float)si * scale;
        }
    }
}

static void gpti_run_embed(gpt_work *w, const gpti_share *u) {
    const gpt_model *m = w->m;
    const gpti_hparams *hp = &m->hp;
    size_t t, i, D = hp->d_model;
    for (t = u->begin; t < u->end; t++) {
        float *x = w->x + t * D, *p = w->xn + t * D;
        const gpti_row at = w->row[t];
        if (!at.s) { memset(x, 0, D * sizeof *x); continue; }
        if (at.s->token[at.position] < 0) memcpy(x, at.s->out.vectors + (at.position - at.s->base) * D, D * sizeof *x);
        else {
            gpti_matrix_row(&m->embd.w, (size_t)at.s->token[at.position], x, u->scratch);
            if (at.s->group) gpti_adapt_embd(w, at.s, t, u->scratch);
            if (hp->embd_scale != 1.0f) for (i = 0; i < D; i++) x[i] *= hp->embd_scale;
        }
        if (m->type_embd.w.data) {              /* of the first kind of text */
            gpti_matrix_row(&m->type_embd.w, 0, p, u->scratch);
            for (i = 0; i < D; i++) x[i] += p[i];
        }
        if (m->pos_embd.w.data) {
            gpti_matrix_row(&m->pos_embd.w, at.position, p, u->scratch);
            for (i = 0; i < D; i++) x[i] += p[i];
        }
        if (m->embd_norm.w) gpti_norm(w, x, x, D, m->embd_norm);
        gpti_rope_angles(w, t);
    }
}

/* xn = norm(x), in architectures with pre_norm, as GPT-2 is; elsewhere xn = x. */
static void gpti_run_attn_norm(gpt_work *w, const gpti_share *u) {
    const gpti_layer *l = gpti_at_layer(w);
    const int f16 = gpti_is_f16(&l->qkv) | gpti_is_f16(&l->q) | gpti_is_f16(&l->k) | gpti_is_f16(&l->v) |
        gpti_is_f16(&l->z) | gpti_is_f16(&l->beta) | gpti_is_f16(&l->alpha) | gpti_is_f16(&l->beta_alpha);
    size_t t, D = w->m->hp.d_model;
    for (t = u->begin; t < u->end; t++) {
        if (w->m->pre_norm)
            gpti_norm(w, w->xn + t * D, w->x + t * D, D, l->attn_norm_2.w ? l->attn_norm_2 : l->attn_norm);
        else memcpy(w->xn + t * D, w->x + t * D, D * sizeof(float));
    }
    gpti_prepare_input(w, w->xn, D, D, u->begin, u->end, f16);
}

static void gpti_begin_qkv(gpt_work *w) {
    const gpti_layer *l = gpti_at_layer(w);
    const size_t D = w->m->hp.d_model, ld = w->m->hp.max_qkv, q = gpti_width(w, 'P'), k = gpti_width(w, 'K');
    if (l->z.w.data) gpti_add_product(w, &l->z, w->xn, D, w->qkv + gpti_width(w, 'S'), ld);
    if (l->kind & GPTI_DELTA) {
        float *beta = w->qkv + gpti_width(w, 'S') + gpti_width(w, 'O');
        gpti_add_product(w, l->beta_alpha.w.data ? &l->beta_alpha : &l->beta, w->xn, D, beta, ld);
        if (!l->beta_alpha.w.data) gpti_add_product(w, &l->alpha, w->xn, D, beta + w->m->hp.n_value_head, ld);
    }
    if (l->qkv.w.data) { gpti_add_product(w, &l->qkv, w->xn, D, w->qkv, ld); return; }
    gpti_add_product(w, &l->q, w->xn, D, w->qkv, ld);
    gpti_add_product(w, &l->k, w->xn, D, w->qkv + q, ld);
    gpti_add_product(w, &l->v, w->xn, D, w->qkv + q + k, ld);
}

/* A norm over each head of x, or over all of them at once */
static void gpti_norm_heads(const gpt_work *w, float *x, size_t n_head, size_t d, gpti_vector v, int style) {
    size_t h;
    if (style == GPTI_QK_WHOLE) { gpti_norm(w, x, x, n_head * d, v); return; }
    for (h = 0; h < n_head; h++) {
        gpti_vector vh = v;
        if (style == GPTI_QK_EACH) vh.w += h * d;
        if (style == GPTI_QK_EACH && vh.b) vh.b += h * d;
        gpti_norm(w, x + h * d, x + h * d, d, vh);
    }
}

static void gpti_norm_qk(gpt_work *w, const gpti_layer *l, float *q, float *k) {
    if (l->q_norm.w) gpti_norm_heads(w, q, l->n_head, w->m->hp.d_k, l->q_norm, l->qk_norm);
    if (l->k_norm.w) gpti_norm_heads(w, k, l->n_kv, w->m->hp.d_k, l->k_norm, l->qk_norm);
}

/* [n_head][q, gate], each d wide, becomes q [n_head, d], gate [n_head, d]. gate: room */
static void gpti_part_gate(float *q, float *gate, size_t n_head, size_t d) {
    size_t h;
    for (h = 0; h < n_head; h++) {
        memcpy(gate + h * d, q + (2 * h + 1) * d, d * sizeof *q);
        memmove(q + h * d, q + 2 * h * d, d * sizeof *q);
    }
    memcpy(q + n_head * d, gate, n_head * d * sizeof *q);
}

/* Clamp q, k and v; norm and rope of q and k; k and v into the cache. (GPT-2 has the last
 * alone.) */
static void gpti_run_rope(gpt_work *w, const gpti_share *u) {
    const gpti_layer *l = gpti_at_layer(w);
    const gpti_kernels *kern = &w->m->kern;
    const gpti_hparams *hp = &w->m->hp;
    const int half = w->m->arch.pos == GPTI_POS_HALF;
    const size_t d_k = hp->d_k, d_v = hp->d_v, n_q = gpti_width(w, 'Q'), n_k = gpti_width(w, 'K'),
                 n = gpti_width(w, 'S');
    size_t t, h, i;
    for (t = u->begin; t < u->end; t++) {
        float *q = w->qkv + t * hp->max_qkv, *k = q + gpti_width(w, 'P'), *v = k + n_k;
        const gpt_session *s = w->row[t].s;
        const gpti_cache *c = s ? &s->cache[w->cursor.layer] : NULL;
        const size_t row = s ? gpti_cache_row(c, w->row[t].position - s->origin) : 0;
        if (!s) continue;
        if (hp->gated_att) gpti_part_gate(q, w->att + t * n_q, l->n_head, d_k);
        for (i = 0; hp->clamp_qkv > 0.0f && i < n; i++) {
            if (q[i] > hp->clamp_qkv) q[i] = hp->clamp_qkv;
            if (q[i] < -hp->clamp_qkv) q[i] = -hp->clamp_qkv;
        }
        if (!w->m->late_norm) gpti_norm_qk(w, l, q, k);
        if (l->rope >= 0) {
            const float *cs = w->rope[l->rope] + t * hp->n_rope;
            kern->rope(q, l->n_head, d_k, hp->n_rope, cs, half);
            kern->rope(k, l->n_kv, d_k, hp->n_rope, cs, half);
        }
        if (w->m->late_norm) gpti_norm_qk(w, l, q, k);
        if (hp->q_growth > 0.0f) {          /* (Llama 4) of use beyond the context that was trained first */
            const size_t times = w->row[t].position / hp->n_ctx_orig;
            const float grown = (float)(1.0 + hp->q_growth * gpti_log_d(1.0 + (double)times));
            for (i = 0; times && i < n_q; i++) q[i] *= grown;
        }
        for (h = 0; h < l->n_kv; h++) {     /* keys: place row & 15 of 16 that are interleaved; values plainly */
            const int kv = (int)s->params.kv;
            unsigned char *kp = c->k + (h * c->cap + (row & ~(size_t)15)) * gpti_kv_bytes(kv, d_k);
            kern->kv_store(kv, kp, k + h * d_k, d_k, 16, row & 15);
            kern->kv_store(kv, c->v + (h * c->cap + row) * gpti_kv_bytes(kv, d_v), v + h * d_v, d_v, 1, 0);
        }
    }
}

/* A row sees the keys of its text up to its own (gpti_visible_keys), though the cache already holds
 * those of later rows. Query head h reads kv head h / (n_head / n_kv). attn_scale: 1 / sqrt(d_k)
 * unless the file says otherwise. */
static void gpti_begin_attend(gpt_work *w) {
    const gpti_layer *l = gpti_at_layer(w);
    const gpti_hparams *hp = &w->m->hp;
    size_t row, n, total = 0;
    for (row = 0; row < w->n_row; row += n) {
        const gpti_row first = w->row[row];
        gpti_attend *a = &w->attend[w->n_job];
        for (n = 1; row + n < w->n_row && w->row[row + n].s == first.s; n++) {}
        if (!first.s) continue;
        w->n_job++;
        memset(a, 0, sizeof *a);
        a->s = first.s; a->row = row; a->q = w->qkv + row * hp->max_qkv; a->stride = hp->max_qkv;
        a->out = w->att + row * gpti_width(w, 'O'); a->sinks = l->sinks; a->cache = first.s->cache[w->cursor.layer];
        a->layer = w->cursor.layer; a->origin = first.s->origin;
        a->n_row = n; a->n_head = l->n_head; a->n_kv = l->n_kv; a->d_k = hp->d_k; a->d_v = hp->d_v;
        a->position = first.position; a->window = l->window; a->kv = (int)first.s->params.kv;
        a->ahead = hp->causal ? 0 : l->window ? l->window - 1 : n - 1;
        a->scale = hp->attn_scale; a->soft_cap = hp->attn_cap;
        a->alibi = w->m->arch.pos == GPTI_POS_ALIBI ? 8.0f : 0.0f;
        w->cursor.n_unit += gpti_attend_units(a);
        total += gpti_attend_units(a) * gpti_min(n, gpti_band_rows(a)) * (first.position + n);
    }
    w->cost = (hp->d_k + hp->d_v) * (l->n_head / l->n_kv) * (total / gpti_max(w->cursor.n_unit, 1));
}
static void gpti_run_attend(gpt_work *w, const gpti_share *u) {
    size_t i, first = 0;
    for (i = 0; i < w->n_job && first < u->end; i++) {
        const gpti_attend *a = &w->attend[i];
        const size_t n = gpti_attend_units(a), b = u->begin > first ? u->begin - first : 0;
        const size_t e = gpti_min(u->end - first, n);
        if (b < e && w->row[a->row].s) w->m->kern.attend(a, b, e, u->scratch);
        first += n;
    }
}

/* ---- Short convolution. The product of the stage before it gives b, c and x where others have q, k and
 * v; the cache's values are b x, f32 and D wide. Two stages, as a row reads what other rows of its text
 * keep. ---- */

/* What is kept [D] of a position of the text s */
static float *gpti_conv_at(const gpt_session *s, size_t layer, size_t position, size_t D) {
    const gpti_cache *c;
    s = gpti_holder(s, position);
    c = &s->cache[layer];
    return (float *)(void *)c->v + gpti_cache_row(c, position - s->origin) * D;
}

static void gpti_run_conv_keep(gpt_work *w, const gpti_share *u) {
    size_t t, i, D = w->m->hp.d_model;
    for (t = u->begin; t < u->end; t++) {
        const float *b = w->qkv + t * w->m->hp.max_qkv, *x = b + 2 * D;
        const gpti_row r = w->row[t];
        float *kept = r.s ? gpti_conv_at(r.s, w->cursor.layer, r.position, D) : NULL;
        for (i = 0; r.s && i < D; i++) kept[i] = b[i] * x[i];
    }
}

/* out [D] = c times the sum of what is kept of the n_w positions up to this one, with weights w [D, n_w]; what was
 * before the text counts as 0 */
static void gpti_convolve(float *out, const float *c, const float *w, size_t n_w, const gpt_session *s, size_t layer,
                          size_t position, size_t D) {
    size_t i, j = n_w - gpti_min(n_w, position + 1);
    memset(out, 0, D * sizeof *out);
    for (; j < n_w; j++) {
        const float *kept = gpti_conv_at(s, layer, position + 1 + j - n_w, D);
        for (i = 0; i < D; i++) out[i] += w[i * n_w + j] * kept[i];
    }
    for (i = 0; i < D; i++) out[i] *= c[i];
}
static void gpti_begin_conv(gpt_work *w) {
    w->cursor.n_unit = w->n_row; w->cost = ((size_t)w->m->hp.l_cache + 2) * w->m->hp.d_model;
}
static void gpti_run_conv(gpt_work *w, const gpti_share *u) {
    size_t t, D = w->m->hp.d_model;
    for (t = u->begin; t < u->end; t++)
        if (w->row[t].s)
            gpti_convolve(w->att + t * D, w->qkv + t * w->m->hp.max_qkv + D, gpti_at_layer(w)->conv, w->m->hp.l_cache,
                          w->row[t].s, w->cursor.layer, w->row[t].position, D);
}

/* ---- Layers of state: gated delta net (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464; as Qwen3-Next has it) and
 * Mamba-2 (Dao & Gu 2024, arXiv:2405.21060), whose C, B and x are q, k and v here. They go through a convolution of
 * their last few tokens and a SiLU; of a delta net q and k get length 1; then the rule that gpti_plain_delta shows, and
 * a norm and a gate. A unit is a head of one text, its tokens one after the other: so nothing depends on how a text is
 * cut into passes. ---- */

/* Where they stand in a row of qkv; v heads of d, q and k heads of d_state */
typedef struct gpti_state_row { size_t q, k, v, z, beta, dt, conv, n_head, d; } gpti_state_row;
static gpti_state_row gpti_state_row_of(const gpt_work *w) {
    const gpti_hparams *hp = &w->m->hp;
    const size_t keys = (size_t)hp->n_key_head * hp->d_state, inner = hp->d_inner;
    gpti_state_row r;
    r.n_head = hp->n_value_head; r.d = inner / r.n_head;
    if (gpti_at_layer(w)->kind & GPTI_DELTA) {
        r.conv = r.q = 0; r.k = keys; r.v = 2 * keys; r.z = r.v + inner; r.beta = r.z + inner;
        r.dt = r.beta + (hp->by_key_head ? r.n_head / hp->n_key_head : r.n_head);       /* ssm_ba goes by key heads */
    } else {
        r.z = r.beta = 0; r.conv = r.v = inner; r.k = 2 * inner; r.q = r.k + keys; r.dt = r.q + keys;
    }
    return r;
}

/* The texts of the pass, each with so many units */
static void gpti_begin_texts(gpt_work *w, size_t n_unit) {
    size_t row, n;
    for (row = 0; row < w->n_row; row += n) {
        gpti_attend *a = &w->attend[w->n_job++];
        for (n = 1; row + n < w->n_row && w->row[row + n].s == w->row[row].s; n++) {}
        a->s = w->row[row].s; a->row = row; a->n_row = n;
        w->cursor.n_unit += n_unit;
    }
}

/* x [n] to length 1 / root; eps: where it has next to none */
static void gpti_unit_length(float *x, size_t n, float eps, float root) {
    const float f = 1.0f / (sqrtf(gpti_sum(x, 0.0f, n, 2) + eps) * root);
    size_t i;
    for (i = 0; i < n; i++) x[i] *= f;
}

static void gpti_begin_state_conv(gpt_work *w) {
    const gpti_hparams *hp = &w->m->hp;
    gpti_begin_texts(w, 2 * (size_t)hp->n_key_head + hp->n_value_head);
    w->cost = (hp->d_conv + 16) * hp->d_state * w->n_row / w->n_job;
}
static void gpti_run_state_conv(gpt_work *w, const gpti_share *u) {
    const gpti_layer *l = gpti_at_layer(w);
    const gpti_hparams *hp = &w->m->hp;
    const gpti_state_row r = gpti_state_row_of(w);
    const size_t n_key = hp->n_key_head, n_unit = 2 * n_key + r.n_head, C = gpti_width(w, 'c'), past = hp->d_conv - 1;
    size_t unit, t, i, j;
    for (unit = u->begin; unit < u->end; unit++) {
        const gpti_attend *a = &w->attend[unit / n_unit];
        const size_t h = unit % n_unit, d = h < 2 * n_key ? hp->d_state : r.d;
        const size_t at = h < n_key ? r.q + h * d : h < 2 * n_key ? r.k + (h - n_key) * d : r.v + (h - 2 * n_key) * d;
        const size_t channel = at - r.conv, tail = l->state_at + gpti_state_matrix(hp) + channel;   /* [past, C] */
        const float *from;
        float *x = w->qkv + a->row * hp->max_qkv + at, *to;
        if (!w->row[a->row].s) continue;
        from = gpti_state_now(a->s); to = gpti_state_next(a->s);
        for (j = 0; j < past; j++) for (i = 0; i < d; i++) {
            const size_t k = a->n_row + j;      /* of the past ones, then of this pass */
            to[tail + j * C + i] = k >= past ? x[(k - past) * hp->max_qkv + i] : from ? from[tail + k * C + i] : 0.0f;
        }
        for (t = a->n_row; t-- > 0;) {          /* from the last on: each still finds those before it as they came */
            float *y = x + t * hp->max_qkv;
            for (i = 0; i < d; i++) {
                const float *tap = l->taps + (channel + i) * hp->d_conv;
                float sum = l->tap_bias ? l->tap_bias[channel + i] : 0.0f;
                for (j = 0; j < past; j++)
                    sum += tap[j] * (t + j >= past ? x[(t + j - past) * hp->max_qkv + i] :
                                     from ? from[tail + (t + j) * C + i] : 0.0f);
                y[i] = sum + tap[past] * y[i];
            }
            w->m->kern.activate(y, NULL, d, GPTI_SILU);
            if (l->kind & GPTI_DELTA && h < 2 * n_key)
                gpti_unit_length(y, d, hp->eps, h < n_key ? sqrtf((float)d) : 1.0f);
        }
    }
}

static void gpti_begin_state(gpt_work *w) {
    gpti_begin_texts(w, w->m->hp.n_value_head);
    w->cost = 4 * gpti_state_matrix(&w->m->hp) / w->m->hp.n_value_head * w->n_row / w->n_job;
}
static void gpti_run_state(gpt_work *w, const gpti_share *u) {
    const gpti_layer *l = gpti_at_layer(w);
    const gpti_hparams *hp = &w->m->hp;
    const gpti_state_row r = gpti_state_row_of(w);
    const size_t n = hp->d_state, d = r.d, per_key = r.n_head / hp->n_key_head;
    const int delta = (l->kind & GPTI_DELTA) != 0;
    size_t unit, t, i;
    for (unit = u->begin; unit < u->end; unit++) {
        const gpti_attend *a = &w->attend[unit / r.n_head];
        const size_t h = unit % r.n_head, state = l->state_at + h * n * d;
        const size_t key = hp->by_key_head ? h / per_key : h % hp->n_key_head;
        const size_t gate = delta && hp->by_key_head ? key * 2 * per_key + h % per_key : h;
        const float *from;
        float *to;
        if (!w->row[a->row].s) continue;
        from = gpti_state_now(a->s); to = gpti_state_next(a->s) + state;
        if (from) memcpy(to, from + state, n * d * sizeof *to);
        else memset(to, 0, n * d * sizeof *to);
        for (t = a->row; t < a->row + a->n_row; t++) {
            const float *x = w->qkv + t * hp->max_qkv, *v = x + r.v + h * d;
            const double wait = (double)x[r.dt + gate] + (double)l->dt_bias[h];
            const float dt = (float)(wait > 30.0 ? wait : gpti_log_d(1.0 + gpti_exp_d(wait)));
            float *out = w->att + t * hp->d_inner + h * d;
            w->m->kern.delta(out, to, x + r.q + key * n, x + r.k + key * n, v, n, d, gpti_exp(dt * l->decay[h]),
                             delta ? gpti_sigmoid(x[r.beta + gate]) : dt, delta);
            for (i = 0; !delta && i < d; i++) out[i] += l->skip[h] * v[i];
        }
    }
}

/* att *= silu(z), in groups of n that get a norm, which comes before that in a delta net: one weight for all groups */
static void gpti_gate_state(gpt_work *w, float *att, const float *z, size_t n, int delta) {
    const size_t inner = w->m->hp.d_inner;
    gpti_vector v = gpti_at_layer(w)->state_norm;
    float gate[64];
    size_t i, j, m;
    for (i = 0; delta && i < inner; i += n) gpti_norm(w, att + i, att + i, n, v);
    for (i = 0; i < inner; i += m) {
        m = gpti_min(inner - i, sizeof gate / sizeof *gate);
        memcpy(gate, z + i, m * sizeof *gate);
        w->m->kern.activate(gate, NULL, m, GPTI_SILU);
        for (j = 0; j < m; j++) att[i + j] *= gate[j];
    }
    for (i = 0; !delta && i < inner; i += n, v.w += n) gpti_norm(w, att + i, att + i, n, v);
}

/* What a layer does to att before the product: attention *= sigmoid(gate), which is behind q, k and v, or gpti_run_rope
 * has put it behind q; or the above */
static void gpti_gate_att(gpt_work *w, size_t begin, size_t end) {
    const int kind = gpti_at_layer(w)->kind, fused = w->m->hp.gated_att;
    const int gated = (fused || w->m->hp.att_gate) && kind & GPTI_ATTENTION;
    const size_t n = gpti_width(w, 'O'), ld = w->m->hp.max_qkv, gate = fused ? n : gpti_width(w, 'S');
    size_t t, i;
    for (t = begin; t < end; t++) {
        float *att = w->att + t * n;
        const float *qkv = w->qkv + t * ld;
        if (!w->row[t].s) continue;
        for (i = 0; gated && i < n; i++) att[i] *= gpti_sigmoid(qkv[gate + i]);
        if (kind & GPTI_STATE)
            gpti_gate_state(w, att, qkv + gpti_state_row_of(w).z, gpti_width(w, kind & GPTI_DELTA ? 'v' : 'g'),
                            kind & GPTI_DELTA);
    }
}

static void gpti_run_att_input(gpt_work *w, const gpti_share *u) {
    const size_t n = gpti_width(w, 'O');
    gpti_gate_att(w, u->begin, u->end);
    gpti_prepare_input(w, w->att, n, n, u->begin, u->end, gpti_is_f16(&gpti_at_layer(w)->o));
}

static void gpti_begin_attn_out(gpt_work *w) {
    gpti_add_product(w, &gpti_at_layer(w)->o, w->att, gpti_width(w, 'O'), w->y, w->m->hp.d_model);
}

/* x += scale * norm(y), the norm where the layer has one; with sum_norm x = norm(x + scale * y) */
static void gpti_add_residual(const gpt_work *w, float *x, float *y, gpti_vector post) {
    const float scale = w->m->hp.residual_scale;
    float v[GPTI_LANES];
    size_t i = 0, j, D = w->m->hp.d_model;
    if (post.w && !w->m->sum_norm) gpti_norm(w, y, y, D, post);
    for (; i + GPTI_LANES <= D; i += GPTI_LANES) {
        for (j = 0; j < GPTI_LANES; j++) v[j] = y[i + j] * scale;
        for (j = 0; j < GPTI_LANES; j++) x[i + j] += v[j];
    }
    for (; i < D; i++) x[i] += y[i] * scale;
    if (post.w && w->m->sum_norm) gpti_norm(w, x, x, D, post);
}

/* x += attention; xn = the feed-forward's input, norm(x). In a parallel block that is made of x
 * before the sum: with two norms attn_norm_2 is attention's and attn_norm the feed-forward's; with
 * one, both read the same xn. */
static void gpti_run_attn_add(gpt_work *w, const gpti_share *u) {
    const gpti_layer *l = gpti_at_layer(w);
    const int f16 = gpti_is_f16(&l->gate) | gpti_is_f16(&l->up) | gpti_is_f16(&l->router) | gpti_is_f16(&l->gate_exps) |
        gpti_is_f16(&l->up_exps) | gpti_is_f16(&l->gate_shexp) | gpti_is_f16(&l->up_shexp);
    const int parallel = w->m->parallel;
    const gpti_vector norm = parallel && l->attn_norm_2.w ? l->attn_norm : l->ffn_norm;
    size_t t, D = w->m->hp.d_model;
    for (t = u->begin; t < u->end; t++) {
        float *x = w->x + t * D, *xn = w->xn + t * D;
        if (parallel && norm.w) gpti_norm(w, xn, x, D, norm);
        gpti_add_residual(w, x, w->y + t * D, l->attn_post);
        if (!parallel && (norm.w || w->m->plain_norm)) gpti_norm(w, xn, x, D, norm);
        else if (!parallel) memcpy(xn, x, D * sizeof(float));
    }
    gpti_prepare_input(w, w->xn, D, D, u->begin, u->end, f16);
}

/* ---- The feed-forward. Its rows are slots: one for each token, or for each expert of a token, then
 * the shared expert's. ---- */

static void gpti_begin_ffn_up(gpt_work *w) {
    const gpti_layer *l = gpti_at_layer(w);
    const size_t D = w->m->hp.d_model, ld = w->m->hp.ld_ffn;
    w->n_slot = w->n_row; w->d_slot = l->d_ff; w->n_shared = 0;
    if (l->gate.w.data) gpti_add_product(w, &l->gate, w->xn, D, w->ffn, ld);
    gpti_add_product(w, &l->up, w->xn, D, w->ffn + (l->gate.w.data ? l->d_ff : 0), ld);
}

static void gpti_begin_act(gpt_work *w) { w->cursor.n_unit = w->n_slot + w->n_shared; w->cost = 16 * w->d_slot; }
static void gpti_run_act(gpt_work *w, const gpti_share *u) {
    const gpti_layer *l = gpti_at_layer(w);
    const size_t ld = w->m->hp.ld_ffn;
    size_t i;
    for (i = u->begin; i < u->end; i++) {
        const int shared = i >= w->n_slot;
        const int f16 = shared ? gpti_is_f16(&l->down_shexp) : gpti_is_f16(&l->down) | gpti_is_f16(&l->down_exps);
        const size_t F = shared ? w->m->hp.d_ff_shexp : w->d_slot;
        float *h = w->ffn + i * ld;
        w->m->kern.activate(h, w->m->gated ? h + F : NULL, F, w->m->arch.act);
        gpti_prepare_input(w, w->ffn, F, ld, i, i + 1, f16);
    }
}

static void gpti_begin_ffn_down(gpt_work *w) {
    gpti_add_product(w, &gpti_at_layer(w)->down, w->ffn, w->m->hp.ld_ffn, w->y, w->m->hp.d_model);
}

static void gpti_run_ffn_add(gpt_work *w, const gpti_share *u) {
    const size_t D = w->m->hp.d_model;
    size_t t;
    for (t = u->begin; t < u->end; t++)
        gpti_add_residual(w, w->x + t * D, w->y + t * D, gpti_at_layer(w)->ffn_post);
}

/* ---- The last norm and the vocabulary, only for the rows that somebody asked for ---- */

/* What is wanted of a row: logits that are scores or go to a row of their text; logits that have no other place
 * than where they are computed, until the next pass; the normed row itself. */
enum { GPTI_WANT_KEPT = 1, GPTI_WANT_HERE = 2, GPTI_WANT_HIDDEN = 4 };
static int gpti_is_pooled(const gpt_session *s, size_t next) {      /* the row in front of that token */
    if (s->doing != GPTI_EVALUATES || !s->out.embedding || next <= s->base) return 0;
    return s->out.pool == GPT_POOL_MEAN || next == (s->out.pool == GPT_POOL_LAST ? s->n_token : s->base + 1);
}
static unsigned gpti_row_wants(const gpti_row *r) {
    const gpt_session *s = r->s;
    const size_t next = r->position + 1;
    unsigned want = 0;
    if (!s) return 0;
    if (s->logits_wanted == GPTI_LOGITS_SCORE && next >= s->base) want = GPTI_WANT_KEPT;
    if (s->logits_wanted == GPTI_LOGITS_LAST && next >= s->n_token)     /* those of guesses stand together */
        want = s->logits && !s->n_draft ? GPTI_WANT_KEPT : GPTI_WANT_HERE;
    if (s->doing == GPTI_EVALUATES && s->out.hidden && next > s->base) want |= GPTI_WANT_HIDDEN;
    return gpti_is_pooled(s, next) ? want | GPTI_WANT_HIDDEN : want;
}

/* In that order; those that stay here are computed together, last. */
static void gpti_begin_out_norm(gpt_work *w) {
    size_t t, turn;
    w->n_normed = 0;
    for (turn = 0; turn < 3; turn++) {
        for (t = 0; t < w->n_row; t++) {
            const unsigned want = gpti_row_wants(&w->row[t]), first = want & (0u - want);
            if (first == 1u << turn) w->out_row[w->n_normed++] = (uint32_t)t;
        }
        if (turn == 0) w->n_kept = w->n_normed;
        if (turn == 1) w->n_out = w->n_normed;
    }
    w->cursor.n_unit = w->n_normed; w->cost = 8 * w->m->hp.d_model;
}
static void gpti_run_out_norm(gpt_work *w, const gpti_share *u) {
    size_t t, D = w->m->hp.d_model;
    for (t = u->begin; t < u->end; t++) {
        const gpti_row *r = &w->row[w->out_row[t]];
        float *xn = w->xn + t * D;
        if (w->m->sum_norm) memcpy(xn, w->x + w->out_row[t] * D, D * sizeof *xn);        /* normed already */
        else gpti_norm(w, xn, w->x + w->out_row[t] * D, D, w->m->out_norm);
        if (!(gpti_row_wants(r) & GPTI_WANT_HIDDEN)) continue;
        memcpy(w->y + t * D, xn, D * sizeof *xn);       /* for gpti_pool_rows; xn may be rounded now */
        if (r->s->out.hidden) memcpy(r->s->out.hidden + (r->position - r->s->base) * D, xn, D * sizeof *xn);
    }
    gpti_prepare_input(w, w->xn, D, D, u->begin, u->end, gpti_is_f16(&w->m->head));
}

/* Rows whose logits are computed together now */
static size_t gpti_n_logits_here(const gpt_work *w) {
    const size_t at = w->cursor.logits_at, end = at < w->n_kept ? w->n_kept : w->n_out;
    return gpti_min(end - at, w->n_logit_row);
}
static void gpti_begin_logits(gpt_work *w) {
    const size_t first = w->cursor.logits_at, D = w->m->hp.d_model;
    if (!w->n_out) return;
    gpti_add_job(w, &w->m->head, 0, w->xn + first * D, D, w->logits, w->m->hp.n_vocab, gpti_n_logits_here(w), NULL,
                 NULL);
    w->job[0].xq += first;                      /* as x; m->head is the vocabulary's matrix [N, D] */
}

/* log(sum(exp(x))) as the largest of x and what is left beside it, which is summed by itself: a p near 1 keeps
 * its digits */
typedef struct gpti_total { double top, rest; } gpti_total;
static gpti_total gpti_log_sum(const float *x, size_t n) {
    double lane[GPTI_LANES] = { 0 }, rest = 0;
    size_t best = 0, j;
    gpti_total t;
    for (j = 1; j < n; j++) if (x[j] > x[best]) best = j;
    for (j = 0; j < n; j++) if (j != best) lane[j % GPTI_LANES] += (double)gpti_exp(x[j] - x[best]);
    for (j = 0; j < GPTI_LANES; j++) rest += lane[j];
    t.top = x[best]; t.rest = gpti_log1p_d(rest);
    return t;
}
static double gpti_log_p(gpti_total t, float x) { return (double)x - t.top - t.rest; }

/* What a model's file asks for after the product: a scale, a soft cap. One NaN, as its bits would be each kernel
 * set's own. */
static void gpti_finish_logits(const gpti_hparams *hp, float *z) {
    size_t i, j, n, n_vocab = hp->n_vocab;
    if (hp->logit_scale != 1.0f) for (i = 0; i < n_vocab; i++) z[i] *= hp->logit_scale;
    if (hp->logit_cap > 0.0f) for (i = 0; i < n_vocab; i++) z[i] = hp->logit_cap * gpti_tanh(z[i] / hp->logit_cap);
    for (i = 0; i < n_vocab; i += n) {
        uint32_t bits[GPTI_LANES] = { 0 }, bad = 0;
        n = gpti_min(n_vocab - i, GPTI_LANES);
        memcpy(bits, z + i, n * sizeof *z);
        for (j = 0; j < GPTI_LANES; j++) bad |= 0x7f800000u - (bits[j] & 0x7fffffffu);
        for (j = 0; bad >> 31 && j < n; j++) if (z[i + j] != z[i + j]) z[i + j] = NAN;
    }
}

static void gpti_begin_scores(gpt_work *w) {
    w->cursor.n_unit = gpti_n_logits_here(w); w->cost = 8 * (size_t)w->m->hp.n_vocab;
}
static void gpti_run_scores(gpt_work *w, const gpti_share *u) {
    const size_t n_vocab = w->m->hp.n_vocab;
    size_t t;
    for (t = u->begin; t < u->end; t++) {
        float *z = w->logits + t * n_vocab;
        const gpti_row *r = &w->row[w->out_row[w->cursor.logits_at + t]];
        gpt_session *s = r->s;
        const size_t next = r->position + 1;
        if (!s) continue;
        gpti_finish_logits(&w->m->hp, z);
        if (s->choices.n) { gpti_choices_score(s, z, next); continue; }
        if (s->logits_wanted == GPTI_LOGITS_SCORE && next < s->n_token)
            s->out.logprob[next - s->base] = (float)gpti_log_p(gpti_log_sum(z, n_vocab), z[s->token[next]]);
        if (s->logits && next == s->n_token) memcpy(s->logits, z, n_vocab * sizeof *z);
    }
}

/* ---- Mixture of experts (skip at first) ---- */

static void gpti_begin_router(gpt_work *w) {
    gpti_add_product(w, &gpti_at_layer(w)->router, w->xn, w->m->hp.d_model, w->route,
                     2 * (size_t)w->m->hp.n_expert);
}

/* Leave only the n_used best of n_group groups in score [n_group, size], ties to the lower group; a group counts by its
 * two best experts (DeepSeek-V3, arXiv:2412.19437, sec. 2.1.2). */
static void gpti_leave_groups(float *score, size_t n_group, size_t size, size_t n_used) {
    for (; n_used < n_group; n_used++) {
        size_t worst = 0, g, e;
        float least = INFINITY;
        for (g = 0; g < n_group; g++) {
            float a = -INFINITY, b = -INFINITY;
            for (e = g * size; e < (g + 1) * size; e++)
                if (score[e] > a) { b = a; a = score[e]; } else if (score[e] > b) b = score[e];
            if (a > -INFINITY && a + b <= least) { least = a + b; worst = g; }
        }
        for (e = worst * size; e < (worst + 1) * size; e++) score[e] = -INFINITY;
    }
}

/* Of a token's scores p [2 n_expert] keep the n_used best, ties to the lower expert. p becomes a softmax over all
 * experts, or sigmoids, at last what each counts. For choosing alone the layer's bias [n_expert] is added (Wang 2024,
 * arXiv:2408.15664). The weights are what is left of p, made to sum to 1 or not (of a softmax over those kept, which
 * is the same). */
static void gpti_route(const gpti_hparams *hp, int sum_to_1, const float *bias, float *p, uint32_t *chosen, float *w) {
    const size_t n = hp->n_expert, used = hp->n_expert_used;
    float *score = p + n, sum = 0.0f, top = -INFINITY, all = 0.0f;
    size_t e, j;
    int bad = 0;
    for (e = 0; e < n; e++) { if (p[e] > top) top = p[e]; bad |= p[e] != p[e]; }
    bad |= !(top > -INFINITY && top < INFINITY);
    if (bad) { for (e = 0; e < n; e++) p[e] = 0.0f; top = 0.0f; }       /* NaN follows, whatever the experts */
    for (e = 0; e < n; e++) { p[e] = hp->gating == 2 ? gpti_sigmoid(p[e]) : gpti_exp(p[e] - top); all += p[e]; }
    if (hp->gating == 2) all = 1.0f;
    for (e = 0; e < n; e++) {
        score[e] = bias ? p[e] / all + bias[e] : p[e];
        if (score[e] != score[e]) { bad = 1; score[e] = -INFINITY; }
    }
    if (hp->n_group > 1) gpti_leave_groups(score, hp->n_group, n / hp->n_group, hp->n_group_used);
    for (j = 0; j < used; j++) {
        size_t best = 0;
        for (e = 1; e < n; e++) if (score[e] > score[best]) best = e;
        chosen[j] = (uint32_t)best;
        w[j] = p[best];
        sum += w[j];
        score[best] = -INFINITY;
    }
    if (!sum_to_1) sum = all;
    /* 1e-20: sigmoids may all be 0; it takes no bit from a softmax */
    for (j = 0; j < used; j++) w[j] = bad ? NAN : w[j] / (sum + 1e-20f) * hp->expert_scale;
    memset(p, 0, n * sizeof *p);
    for (j = 0; j < used; j++) p[chosen[j]] = w[j];         /* for the trace */
}
static void gpti_begin_route(gpt_work *w) { w->cursor.n_unit = w->n_row; w->cost = 16 * w->m->hp.n_expert; }
static void gpti_run_route(gpt_work *w, const gpti_share *u) {
    const size_t n = w->m->hp.n_expert, used = w->m->hp.n_expert_used;
    size_t t;
    for (t = u->begin; t < u->end; t++)
        gpti_route(&w->m->hp, w->m->sum_to_1, gpti_at_layer(w)->router_bias, w->route + t * 2 * n, w->chosen + t * used,
                   w->gate + t * used);
}

/* Each expert's tokens stand together, so that its weights are read once: expert e has those of
 * [first[e], first[e + 1]) */
static void gpti_group_by_expert(gpt_work *w) {
    size_t i, used = w->m->hp.n_expert_used, n = w->n_row * used, e, sum = 0, n_expert = w->m->hp.n_expert;
    for (e = 0; e <= n_expert; e++) w->first_slot[e] = 0;
    for (i = 0; i < n; i++) w->first_slot[w->chosen[i]]++;
    for (e = 0; e <= n_expert; e++) { size_t c = w->first_slot[e]; w->first_slot[e] = (uint32_t)sum; sum += c; }
    for (i = 0; i < n; i++) {
        uint32_t at = w->first_slot[w->chosen[i]]++;
        w->expert_slot[at] = (uint32_t)i; w->expert_tok[at] = (uint32_t)(i / used);
    }
    for (e = n_expert; e > 0; e--) w->first_slot[e] = w->first_slot[e - 1];
    w->first_slot[0] = 0;
}

static void gpti_begin_experts_up(gpt_work *w) {
    const gpti_layer *l = gpti_at_layer(w);
    const gpti_hparams *hp = &w->m->hp;
    const size_t D = hp->d_model, ld = hp->ld_ffn, n = w->n_row * hp->n_expert_used;
    size_t e;
    w->n_slot = n; w->d_slot = hp->d_ff_exp; w->n_shared = l->up_shexp.w.data ? w->n_row : 0;
    gpti_group_by_expert(w);
    for (e = 0; e < hp->n_expert; e++) {
        const uint32_t *tok = w->expert_tok + w->first_slot[e], *slot = w->expert_slot + w->first_slot[e];
        const size_t count = w->first_slot[e + 1] - w->first_slot[e];
        if (!count) continue;
        gpti_add_job(w, &l->gate_exps, e, w->xn, D, w->ffn, ld, count, tok, slot);
        gpti_add_job(w, &l->up_exps, e, w->xn, D, w->ffn + hp->d_ff_exp, ld, count, tok, slot);
    }
    if (!w->n_shared) return;
    gpti_add_product(w, &l->gate_shexp, w->xn, D, w->ffn + n * ld, ld);
    gpti_add_product(w, &l->up_shexp, w->xn, D, w->ffn + n * ld + hp->d_ff_shexp, ld);
    if (l->shexp_gate.w.data) gpti_add_product(w, &l->shexp_gate, w->xn, D, w->shared_gate, 1);
}

static void gpti_begin_experts_down(gpt_work *w) {
    const gpti_layer *l = gpti_at_layer(w);
    const size_t D = w->m->hp.d_model, ld = w->m->hp.ld_ffn, n = w->n_slot;
    size_t e;
    for (e = 0; e < w->m->hp.n_expert; e++) {
        const uint32_t *slot = w->expert_slot + w->first_slot[e];
        const size_t count = w->first_slot[e + 1] - w->first_slot[e];
        if (count) gpti_add_job(w, &l->down_exps, e, w->ffn, ld, w->y, D, count, slot, slot);
    }
    if (!w->n_shared) return;
    gpti_add_product(w, &l->down_shexp, w->ffn + n * ld, ld, w->y + n * D, D);
    w->job[w->n_job - 1].xq += n;
}

/* The experts' outputs, weighted, become one row; x += it */
static void gpti_run_experts_add(gpt_work *w, const gpti_share *u) {
    const gpti_layer *l = gpti_at_layer(w);
    const size_t D = w->m->hp.d_model, used = w->m->hp.n_expert_used;
    size_t t, i, j;
    for (t = u->begin; t < u->end; t++) {
        const float *g = w->gate + t * used, *row = w->y + t * used * D, *shared = w->y + (w->n_slot + t) * D;
        float *y = w->xn + t * D;               /* xn has done its work */
        for (i = 0; i < D; i++) y[i] = row[i] * g[0];
        for (j = 1; j < used; j++) for (i = 0; i < D; i++) y[i] += row[j * D + i] * g[j];
        if (w->n_shared) {
            const float open = l->shexp_gate.w.data ? gpti_sigmoid(w->shared_gate[t]) : 1.0f;
            for (i = 0; i < D; i++) y[i] += shared[i] * open;
        }
        gpti_add_residual(w, w->x + t * D, y, l->ffn_post);
    }
}

/* ---- The table ---- */

/* How each stage of the story is computed: its name, the kinds of layers that have it, what sets
 * its units, what computes them. */
static void gpti_list_stages(gpti_stage out[GPTI_N_STAGE]) {
    const gpti_stage rows[GPTI_N_STAGE] = {
        { GPTI_STAGE_EMBED,        GPTI_EVERY,   gpti_begin_embed,        gpti_run_embed },
        { GPTI_STAGE_ATTN_NORM,    GPTI_EVERY,   gpti_begin_rows,         gpti_run_attn_norm },
        { GPTI_STAGE_QKV,          GPTI_EVERY,   gpti_begin_qkv,          gpti_run_jobs },
        { GPTI_STAGE_ROPE,         GPTI_ATTENTION, gpti_begin_rows,       gpti_run_rope },
        { GPTI_STAGE_ATTEND,       GPTI_ATTENTION, gpti_begin_attend,     gpti_run_attend },
        { GPTI_STAGE_CONV_KEEP,    GPTI_CONV,    gpti_begin_rows,         gpti_run_conv_keep },
        { GPTI_STAGE_CONV,         GPTI_CONV,    gpti_begin_conv,         gpti_run_conv },
        { GPTI_STAGE_STATE_CONV,   GPTI_STATE,   gpti_begin_state_conv,   gpti_run_state_conv },
        { GPTI_STAGE_STATE,        GPTI_STATE,   gpti_begin_state,        gpti_run_state },
        { GPTI_STAGE_ATT_INPUT,    GPTI_EVERY,   gpti_begin_rows,         gpti_run_att_input },
        { GPTI_STAGE_ATTN_OUT,     GPTI_EVERY,   gpti_begin_attn_out,     gpti_run_jobs },
        { GPTI_STAGE_ATTN_ADD,     GPTI_EVERY,   gpti_begin_rows,         gpti_run_attn_add },
        { GPTI_STAGE_FFN_UP,       GPTI_DENSE,   gpti_begin_ffn_up,       gpti_run_jobs },
        { GPTI_STAGE_FFN_ACT,      GPTI_DENSE,   gpti_begin_act,          gpti_run_act },
        { GPTI_STAGE_FFN_DOWN,     GPTI_DENSE,   gpti_begin_ffn_down,     gpti_run_jobs },
        { GPTI_STAGE_FFN_ADD,      GPTI_DENSE,   gpti_begin_rows,         gpti_run_ffn_add },
        { GPTI_STAGE_ROUTER,       GPTI_MOE, gpti_begin_router,       gpti_run_jobs },
        { GPTI_STAGE_ROUTE,        GPTI_MOE, gpti_begin_route,        gpti_run_route },
        { GPTI_STAGE_EXPERTS_UP,   GPTI_MOE, gpti_begin_experts_up,   gpti_run_jobs },
        { GPTI_STAGE_EXPERTS_ACT,  GPTI_MOE, gpti_begin_act,          gpti_run_act },
        { GPTI_STAGE_EXPERTS_DOWN, GPTI_MOE, gpti_begin_experts_down, gpti_run_jobs },
        { GPTI_STAGE_EXPERTS_ADD,  GPTI_MOE, gpti_begin_rows,         gpti_run_experts_add },
        { GPTI_STAGE_OUT_NORM,     GPTI_EVERY,   gpti_begin_out_norm,     gpti_run_out_norm },
        { GPTI_STAGE_LOGITS,       GPTI_EVERY,   gpti_begin_logits,       gpti_run_jobs },
        { GPTI_STAGE_SCORES,       GPTI_EVERY,   gpti_begin_scores,       gpti_run_scores }
    };
    size_t i;
    for (i = 0; i < GPTI_N_STAGE; i++) out[rows[i].id] = rows[i];
}

/* ---- What the trace hook sees (skip at first) ----
 * After which stage, the name, how many rows, the buffer, which columns, floats of a row. Rows, by letters
 * of their own: T of the chunk, S slots, s slots of gated feed-forwards, O rows of the last norm, L of
 * logits. Columns: letters of widths (as gpti_extent; f d_slot, g where up begins, l ld_ffn, m max_qkv,
 * x 2 n_expert); those that lie ahead come first. */
#define GPTI_BUFFER(field) offsetof(gpt_work, field)
static const struct { uint8_t stage; char name[10], rows; size_t buffer; char ahead[3], col, stride; } gpti_traces[] = {
    { GPTI_STAGE_EMBED,        "embd",      'T', GPTI_BUFFER(x),      "",   'D', 'D' },
    { GPTI_STAGE_ATTN_NORM,    "attn_norm", 'T', GPTI_BUFFER(xn),     "",   'D', 'D' },
    { GPTI_STAGE_QKV,          "q",         'T', GPTI_BUFFER(qkv),    "",   'P', 'm' },
    { GPTI_STAGE_QKV,          "k",         'T', GPTI_BUFFER(qkv),    "P",  'K', 'm' },
    { GPTI_STAGE_QKV,          "v",         'T', GPTI_BUFFER(qkv),    "PK", 'W', 'm' },
    { GPTI_STAGE_ROPE,         "q_rope",    'T', GPTI_BUFFER(qkv),    "",   'Q', 'm' },
    { GPTI_STAGE_ROPE,         "k_rope",    'T', GPTI_BUFFER(qkv),    "P",  'K', 'm' },
    { GPTI_STAGE_ATTEND,       "att",       'T', GPTI_BUFFER(att),    "",   'O', 'O' },
    { GPTI_STAGE_CONV,         "att",       'T', GPTI_BUFFER(att),    "",   'O', 'O' },
    { GPTI_STAGE_STATE,        "att",       'T', GPTI_BUFFER(att),    "",   'O', 'O' },
    { GPTI_STAGE_ATTN_OUT,     "attn_out",  'T', GPTI_BUFFER(y),      "",   'D', 'D' },
    { GPTI_STAGE_ATTN_ADD,     "resid",     'T', GPTI_BUFFER(x),      "",   'D', 'D' },
    { GPTI_STAGE_ATTN_ADD,     "ffn_norm",  'T', GPTI_BUFFER(xn),     "",   'D', 'D' },
    { GPTI_STAGE_FFN_UP,       "ffn_gate",  's', GPTI_BUFFER(ffn),    "",   'f', 'l' },
    { GPTI_STAGE_FFN_UP,       "ffn_up",    'S', GPTI_BUFFER(ffn),    "g",  'f', 'l' },
    { GPTI_STAGE_FFN_ACT,      "ffn_act",   'S', GPTI_BUFFER(ffn),    "",   'f', 'l' },
    { GPTI_STAGE_FFN_DOWN,     "ffn_down",  'T', GPTI_BUFFER(y),      "",   'D', 'D' },
    { GPTI_STAGE_FFN_ADD,      "out",       'T', GPTI_BUFFER(x),      "",   'D', 'D' },
    { GPTI_STAGE_ROUTE,        "experts",   'T', GPTI_BUFFER(route),  "",   'X', 'x' },
    { GPTI_STAGE_EXPERTS_UP,   "ffn_gate",  's', GPTI_BUFFER(ffn),    "",   'f', 'l' },
    { GPTI_STAGE_EXPERTS_UP,   "ffn_up",    'S', GPTI_BUFFER(ffn),    "g",  'f', 'l' },
    { GPTI_STAGE_EXPERTS_ACT,  "ffn_act",   'S', GPTI_BUFFER(ffn),    "",   'f', 'l' },
    { GPTI_STAGE_EXPERTS_ADD,  "out",       'T', GPTI_BUFFER(x),      "",   'D', 'D' },
    { GPTI_STAGE_OUT_NORM,     "norm",      'O', GPTI_BUFFER(xn),     "",   'D', 'D' },
    { GPTI_STAGE_SCORES,       "logits",    'L', GPTI_BUFFER(logits), "",   'N', 'N' }
};

static size_t gpti_trace_width(const gpt_work *w, char letter) {
    const gpti_hparams *hp = &w->m->hp;
    switch (letter) {
        case 'f': return w->d_slot;
        case 'g': return w->m->gated ? w->d_slot : 0;
        case 'l': return hp->ld_ffn;
        case 'm': return hp->max_qkv;
        case 'x': return 2 * (size_t)hp->n_expert;
        default:  return (size_t)gpti_extent(hp, w->cursor.layer < hp->n_layer ? gpti_at_layer(w) : NULL, letter);
    }
}

/* How many rows there are by that letter, and which row of the pass row i of them is */
static size_t gpti_trace_rows(const gpt_work *w, char letter) {
    switch (letter) {
        case 'S': return w->n_slot;
        case 's': return w->m->gated ? w->n_slot : 0;
        case 'O': return w->n_normed;
        case 'L': return gpti_n_logits_here(w);
        default:  return w->n_row;
    }
}
static const gpti_row *gpti_trace_row(const gpt_work *w, char letter, size_t i) {
    switch (letter) {
        case 'S': case 's': return &w->row[i / (w->n_slot / w->n_row)];
        case 'O': return &w->row[w->out_row[i]];
        case 'L': return &w->row[w->out_row[w->cursor.logits_at + i]];
        default:  return &w->row[i];
    }
}

/* The weights of attention, which gpti_attend_band does not keep: computed again. Queries are scaled already. */
static void gpti_trace_weights(const gpt_work *w, const gpti_attend *a, size_t row) {
    gpt_session *s = w->row[a->row].s;
    const size_t pos = a->position + row, n_key = gpti_min(pos + a->ahead, a->position + a->n_row - 1) + 1;
    const size_t from = a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
    const gpti_attend_steps steps = { gpti_kv_load, gpti_scores_ref, gpti_add_values_ref };
    gpti_scratch *scratch = w->scratch;
    size_t h, base, lo, hi;
    gpt_trace t;
    gpti_band b;
    b.key = scratch->attend.key; b.value = scratch->attend.value;
    t.name = "att_weights"; t.layer = (int)a->layer; t.data = s->att_weights; t.n_row = a->n_head;
    t.n_col = t.stride = n_key; t.position = pos; t.session = s;
    memset(t.data, 0, t.n_row * n_key * sizeof(float));
    for (h = 0; h < a->n_head; h++) {
        const float *q = a->q + row * a->stride + h * a->d_k, slope = gpti_alibi_slope(h, a->n_head, a->alibi);
        float *out = t.data + h * n_key, *x = scratch->attend.s[0], sum;
        gpti_softmax sm = { -INFINITY, { 0 } };
        b.kv_head = h / (a->n_head / a->n_kv);
        for (base = from - from % GPTI_ATT_KEYS; base < n_key; base += GPTI_ATT_KEYS) {
            const size_t n = gpti_min(n_key - base, GPTI_ATT_KEYS);
            const float before = sm.top;
            gpti_band_load(a, &b, &steps, base, n);
            gpti_scores_ref(&q, 1, b.key, a->d_k, scratch->attend.s, 0);
            gpti_visible_keys(a, pos, base, n, &lo, &hi);
            gpti_softmax_block(a, &sm, x, scratch->attend.sums, slope, pos - base, lo, hi);
            if (sm.top > before) gpti_scale(out, out, base, before > -INFINITY ? gpti_exp(before - sm.top) : 0.0f);
            memcpy(out + base + lo, x + lo, (hi - lo + 1) * sizeof *x);
        }
        sum = gpti_fold(sm.sum) + (a->sinks ? gpti_exp(a->sinks[h] - sm.top) : 0.0f);
        gpti_scale(out, out, n_key, 1.0f / sum);
    }
    w->params.hooks.trace(w->params.hooks.trace_user, &t);
}

/* An event for each text's rows */
static void gpti_trace_stage(const gpt_work *w) {
    const gpt_hooks *hooks = &w->params.hooks;
    size_t i, j, n, n_row;
    for (i = 0; hooks->trace && w->cursor.stage == GPTI_STAGE_ATTEND && i < w->n_job; i++)
        for (j = 0; j < w->attend[i].n_row; j++) {      /* its text may leave in between */
            const gpt_session *s = w->row[w->attend[i].row].s;
            if (s && s->att_weights) gpti_trace_weights(w, &w->attend[i], j);
        }
    for (i = 0; hooks->trace && i < sizeof gpti_traces / sizeof *gpti_traces; i++) {
        const char rows = gpti_traces[i].rows;
        gpt_trace t;
        if (gpti_traces[i].stage != w->cursor.stage) continue;
        t.name = gpti_traces[i].name;
        t.data = *(float *const *)(const void *)((const char *)w + gpti_traces[i].buffer);
        for (j = 0; gpti_traces[i].ahead[j]; j++) t.data += gpti_trace_width(w, gpti_traces[i].ahead[j]);
        t.n_col = gpti_trace_width(w, gpti_traces[i].col); t.stride = gpti_trace_width(w, gpti_traces[i].stride);
        t.layer = w->cursor.layer < w->m->hp.n_layer ? (int)w->cursor.layer : -1;
        n_row = gpti_trace_rows(w, rows);
        for (j = 0; j < n_row; j += t.n_row, t.data += t.n_row * t.stride) {
            const gpti_row *r = gpti_trace_row(w, rows, j);
            for (n = 1; j + n < n_row && gpti_trace_row(w, rows, j + n)->s == r->s; n++) {}
            t.session = r->s; t.position = r->position; t.n_row = n;
            if (r->s && hooks->trace(hooks->trace_user, &t)) r->s->changed = 1;
        }
    }
}

/* ---- What the pass of the story is made of ---- */

static void gpti_stage_task(void *arg, size_t begin, size_t end, int worker) {
    gpt_work *w = (gpt_work *)arg;
    gpti_share u;
    u.begin = w->slice + begin; u.end = w->slice + end; u.scratch = &w->scratch[worker];
    w->stage[w->cursor.stage].run(w, &u);
}

/* Units of the stage up to the next look at the poll hook. */
static void gpti_run_slice(gpt_work *w) {
    const size_t left = (w->cursor.unit < w->fence ? w->fence : w->cursor.n_unit) - w->cursor.unit;
    const size_t cost = w->cost ? w->cost : 1;
    /* plain C takes its time */
    const size_t slice = w->m->kern.matmul == gpti_matmul_ref ? GPTI_SLICE / 4 : GPTI_SLICE;
    const size_t most = slice * (size_t)w->pool.n_worker / (cost * w->few) + 1;
    const size_t n = w->params.hooks.poll ? gpti_min(left, most) : left;
    w->slice = w->cursor.unit;
    gpti_parallel_for(&w->pool, n, cost, gpti_stage_task, w);
    w->cursor.unit += n;
}

static void gpti_begin_stage(gpt_work *w) {
    w->n_job = w->cursor.n_unit = w->fence = 0; w->few = 1;
    w->stage[w->cursor.stage].begin(w);
    if (w->n_group) gpti_add_adapters(w);
}

/* Where to go after a stage: to the next that this layer's kind has; 0 when the chunk is done. */
static int gpti_next_stage(gpt_work *w) {
    gpti_pass_cursor *c = &w->cursor;
    const uint32_t n_layer = w->m->hp.n_layer;
    c->unit = c->n_unit = 0;
    do {
        c->stage++;
        if (c->stage == GPTI_STAGE_ATTN_NORM) c->layer = 0;
        if (c->stage == GPTI_STAGE_OUT_NORM && ++c->layer < n_layer) c->stage = GPTI_STAGE_ATTN_NORM;
        if (c->stage == GPTI_N_STAGE) {
            if (!w->n_out || (c->logits_at += gpti_n_logits_here(w)) >= w->n_out) return 0;
            c->stage = GPTI_STAGE_LOGITS;
        }
    } while (c->layer < n_layer && !(w->stage[c->stage].kinds & w->m->layer[c->layer].kind));
    return 1;
}

/* A layer's cache in bytes: of a head's keys and of its values at one position, and how many heads. That of a
 * short convolution has no keys and one value, D wide and F32; that of a layer of state is empty. */
typedef struct gpti_cache_shape { size_t n_head, k_bytes, v_bytes; int words; } gpti_cache_shape;    /* words: F32 */
static gpti_cache_shape gpti_cache_shape_of(const gpt_model *m, size_t layer, gpt_kv kv) {
    const int conv = m->layer[layer].kind & GPTI_CONV;
    gpti_cache_shape x;
    x.n_head = conv ? 1 : m->layer[layer].kind & GPTI_STATE ? 0 : m->layer[layer].n_kv;
    x.words = conv || kv == GPT_KV_F32;
    x.k_bytes = conv ? 0 : gpti_kv_bytes((int)kv, m->hp.d_k);
    x.v_bytes = conv ? gpti_kv_bytes(GPT_KV_F32, m->hp.d_model) : gpti_kv_bytes((int)kv, m->hp.d_v);
    return x;
}

/* A group of 16 positions begins that may stay incomplete: nothing of what lay there goes into a save. */
static void gpti_clear_group(gpt_session *s, size_t position) {
    size_t i, h;
    for (i = 0; i < s->m->hp.n_layer; i++) {
        const gpti_cache_shape x = gpti_cache_shape_of(s->m, i, s->params.kv);
        const gpti_cache *c = &s->cache[i];
        for (h = 0; h < x.n_head; h++) {
            const size_t at = h * c->cap + gpti_cache_row(c, position - s->origin);
            memset(c->k + at * x.k_bytes, 0, 16 * x.k_bytes);
            memset(c->v + at * x.v_bytes, 0, 16 * x.v_bytes);
        }
    }
}

/* n rows of s are in the pass that begins. */
static void gpti_add_rows(gpt_work *w, gpt_session *s, size_t n) {
    const size_t group = (s->n_past + n - 1) & ~(size_t)15;
    size_t i;
    if (group >= s->n_past) gpti_clear_group(s, group);
    if (s->n_state) s->state_of[s->state_to = gpti_state_least(s)] = SIZE_MAX;
    s->group = 0;
    if (s->params.adapter) gpti_join_group(w, s);
    s->n_in_pass = n;
    for (i = 0; i < n; i++, w->n_row++) { w->row[w->n_row].s = s; w->row[w->n_row].position = s->n_past + i; }
    s->n_written = gpti_max(s->n_written, s->n_past + n);
    s->last_logits = NULL;
}

/* Where the logits of the last token are wanted but gone, after a rewind or a cancel: it must be
 * computed again. */
static void gpti_want_last(gpt_session *s) {
    if (s->n_past == s->n_token && s->n_token && !s->last_logits && s->logits_wanted == GPTI_LOGITS_LAST &&
        s->token[s->n_token - 1] >= 0) {
        const size_t to = gpti_held_before(s, s->n_past - 1);
        if (!gpti_can_repeat(s, to, s->n_past, NULL)) gpti_go_back(s, to);
    }
}

static int gpti_is_here(const gpt_work *w, const float *logits) {
    return logits >= w->logits && logits < w->logits + w->n_logit_row * w->m->hp.n_vocab;
}

/* The logits that the work space has no other place for are lost: its room is needed. */
static void gpti_drop_logits(gpt_work *w) {
    gpt_session *s;
    for (s = w->first; s; s = s->next) {
        s->n_draft = 0;
        if (gpti_is_here(w, s->last_logits)) s->last_logits = NULL;
    }
}

static int gpti_takes_part(const gpt_work *w, const gpt_session *s) {
    return s->doing && (w->only ? s == w->only : !s->held);
}

/* Tokens of s that wait for the next pass of w. With layers of state the last ones wait for a pass of their own: so one
 * lies in front of what a chat template puts behind the messages, and leaves out the next time. */
enum { GPTI_LAST_ROWS = 16 };
static size_t gpti_n_waiting(const gpt_work *w, const gpt_session *s) {
    const size_t n = gpti_takes_part(w, s) ? s->n_token - s->n_past : 0;
    return s->n_state && n > GPTI_LAST_ROWS ? n - GPTI_LAST_ROWS : n;
}

/* Is there room for n more rows of s? The last of them may get logits that have no other place. */
static int gpti_has_room(const gpt_work *w, const gpt_session *s, size_t n, size_t *n_homeless) {
    if (n > w->n_batch - w->n_row) return 0;
    if (s->logits || s->logits_wanted != GPTI_LOGITS_LAST || s->n_past + n < s->n_token) return 1;
    return *n_homeless < w->n_logit_row ? (int)++*n_homeless : 0;
}

/* Rows of prompts that make a share each. */
static size_t gpti_share_rows(const gpt_work *w, size_t share) {
    const gpt_session *s;
    size_t n, sum = 0;
    for (s = w->first; s; s = s->next) if ((n = gpti_n_waiting(w, s)) > 1) sum += gpti_min(n, share);
    return sum;
}

/* Who is in the next pass: a row of each text that writes, in the order of their turn, then rows of
 * prompts in equal shares, n_fill of them or, where nobody writes, n_batch. 0: nobody waits. Bits do
 * not depend on it, so it depends on no clock. */
static int gpti_begin_pass(gpt_work *w) {
    gpt_session *s, **left = NULL, **end;
    size_t n_homeless = 0, share = 0, n_first = 0, room, n;
    const int whole = !w->m->hp.causal;         /* texts whose rows see later ones enter whole, or wait */
    memset(&w->cursor, 0, sizeof w->cursor);
    w->cursor.layer = w->m->hp.n_layer;         /* none */
    w->n_row = w->n_group = 0;
    gpti_drop_logits(w);
    for (s = w->first; s; s = s->next) if (gpti_takes_part(w, s)) gpti_want_last(s);
    for (s = w->first; s; s = s->next) {        /* whose turn is the first gets a row, be it a prompt's */
        const size_t waiting = gpti_n_waiting(w, s);
        if (!n_first) n_first = waiting;
        if (waiting == 1 && !whole && w->n_row + (n_first > 1) < w->n_batch && gpti_has_room(w, s, 1, &n_homeless)) {
            s->n_draft = gpti_draft_rows(w, s, n_homeless);
            n_homeless += s->n_draft + (s->n_draft && s->logits);
            gpti_add_rows(w, s, 1 + s->n_draft);
        }
    }
    room = w->n_row ? gpti_min(w->n_fill, w->n_batch - w->n_row) : w->n_batch;
    while (!whole && share < room && gpti_share_rows(w, share + 1) <= room) share++;
    room -= gpti_share_rows(w, share);          /* what is left over: one row each */
    for (end = &w->first; (s = *end) != NULL; end = &s->next) {
        const size_t waiting = gpti_n_waiting(w, s);
        n = whole ? waiting : waiting > 1 ? gpti_min(waiting, share) : 0;
        if (waiting > 1 && n < waiting && room) { n++; room--; }
        if (n && !gpti_has_room(w, s, n, &n_homeless)) n = whole ? 0 : n - 1;
        if (n) gpti_add_rows(w, s, n);
        if (waiting && !s->n_in_pass && !left) left = end;
    }
    if (left && left != &w->first) {            /* who had no place is the first next time */
        s = *left; *left = NULL;
        *end = w->first; w->first = s;
    }
    w->cursor.active = w->n_row > 0;
    return w->cursor.active;
}

/* The rows of a text become one vector; the first n_normed rows of y are those that the pass has normed. */
static void gpti_pool_rows(gpt_work *w) {
    size_t t, i, D = w->m->hp.d_model;
    for (t = 0; t < w->n_normed; t++) {
        const gpti_row *r = &w->row[w->out_row[t]];
        float *e = r->s && gpti_is_pooled(r->s, r->position + 1) ? r->s->out.embedding : NULL;
        for (i = 0; e && i < D; i++) e[i] += w->y[t * D + i];
    }
}
/* out [n_row] = l x, for one row: of the layers behind pooling */
static void gpti_dense(gpt_work *w, const gpti_linear *l, float *x, float *out) {
    w->n_job = 0;
    gpti_prepare_input(w, x, l->w.n_col, l->w.n_col, 0, 1, gpti_is_f16(l));
    gpti_add_job(w, l, 0, x, l->w.n_col, out, l->w.n_row, 1, NULL, NULL);
    w->m->kern.matmul(w->job, 0, gpti_n_panel(l->w.n_row), w->scratch);
}
static void gpti_end_eval(gpt_session *s) {
    float *e = s->out.embedding;
    size_t i, D = s->m->hp.d_model;
    double sum = 0;
    s->doing = GPTI_IDLE; s->result = GPT_OK;
    if (e && s->out.pool == GPT_POOL_MEAN) gpti_scale(e, e, D, 1.0f / (float)(s->n_token - s->base));
    if (e && !s->out.raw && s->m->dense[0].w.data) {
        gpti_dense(s->w, &s->m->dense[0], e, s->w->between);
        gpti_dense(s->w, &s->m->dense[1], s->w->between, e);
    }
    for (i = 0; e && !s->out.raw && i < D; i++) sum += (double)e[i] * (double)e[i];
    if (sum > 0) gpti_scale(e, e, D, (float)(1.0 / sqrt(sum)));
}

static void gpti_end_pass(gpt_work *w) {
    gpt_session *s;
    size_t i;
    w->cursor.active = 0;
    gpti_pool_rows(w);
    for (i = 0; i < w->n_out; i++) {
        const gpti_row *r = &w->row[w->out_row[i]];
        float *here = w->logits + (i - gpti_min(i, w->n_kept)) * w->m->hp.n_vocab;
        if (!r->s || r->position + 1 < r->s->n_token) continue;
        if (r->position + 1 == r->s->n_token) r->s->last_logits = i < w->n_kept || r->s->logits ? r->s->logits : here;
        if (r->position == r->s->n_token) r->s->draft_logits = here;
    }
    for (s = w->first; s; s = s->next) {
        if (!s->n_in_pass) continue;
        s->n_past += s->n_in_pass - s->n_draft; s->lent = 0;
        if (s->n_state) s->state_of[s->state_to] = s->n_past;
        if (s->n_token - s->n_past == GPTI_LAST_ROWS) s->state_kept = s->n_past;
        s->n_in_pass = 0;
        if (s->doing != GPTI_EVALUATES || s->n_past < s->n_token) continue;
        if (s->choices.n) gpti_choices_next(s); else gpti_end_eval(s);
    }
}

/* Its rows are computed again another time. */
static void gpti_give_up_pass(gpt_work *w) {
    gpt_session *s;
    for (s = w->first; s; s = s->next) s->n_in_pass = s->n_draft = 0;
    w->cursor.active = 0;
}

/* s leaves the pass under way; the others' goes on. */
static void gpti_leave_pass(gpt_session *s) {
    gpt_work *w = s->w;
    size_t i;
    if (w->choosing == s) w->choosing = NULL;
    s->n_draft = 0;
    if (!s->n_in_pass) return;
    s->n_in_pass = 0;
    if (s->group) gpti_leave_group(w, s);
    w->cursor.active = 0;
    for (i = 0; i < w->n_row; i++) {
        if (w->row[i].s == s) w->row[i].s = NULL;
        w->cursor.active |= w->row[i].s != NULL;
    }
}

/* What is under way ends with r. What it brought and is not computed goes, but for the first
 * n_committed. */
static void gpti_give_up(gpt_session *s, gpt_result r) {
    gpti_leave_pass(s);
    if (s->choices.n) gpti_choices_end(s); else s->n_token = gpti_max(s->n_past, s->n_committed);
    if (s->doing == GPTI_GENERATES) gpti_finish(s, GPT_FINISH_HOST);
    s->doing = GPTI_IDLE; s->result = r; s->stop = 0;
}

/* Tokens that are computed, those of the pass under way by its layers. */
static size_t gpti_n_computed(const gpt_session *s) {
    size_t layers, n = s->m->hp.n_layer;
    if (!s->n_in_pass) return s->n_past;
    layers = s->w->cursor.stage ? s->w->cursor.layer : 0;
    return s->n_past + (s->n_in_pass - s->n_draft) * (s->w->cursor.stage >= GPTI_STAGE_OUT_NORM ? n : layers) / n;
}

/* What the poll hook says: GPT_MORE for a pause where the call can make one, GPT_E_CANCELLED. Texts
 * that a hook has ended leave. */
static gpt_result gpti_ask(gpt_work *w) {
    const gpt_hooks *h = &w->params.hooks;
    gpt_session *s;
    size_t done = 0, total = 0;
    gpt_poll p = GPT_GO;
    for (s = w->first; s && h->poll; s = s->next) {
        if (!gpti_takes_part(w, s)) continue;
        done += gpti_n_computed(s) - s->from; total += s->n_token - s->from;
    }
    if (h->poll) p = (h->poll)(h->poll_user, done, total);
    for (s = w->first; s && w->stop; s = s->next)
        if (s->stop && s->doing) gpti_give_up(s, s->doing == GPTI_GENERATES ? GPT_OK : GPT_E_CANCELLED);
    w->stop = 0;
    if (p == GPT_CANCEL) return GPT_E_CANCELLED;
    return p == GPT_PAUSE && w->can_pause ? GPT_MORE : GPT_OK;
}

/* One pass with the threads of the work space, unless no stage of it is worth sharing. */
static gpt_result gpti_forward(gpt_work *w) {
    if (!w->cursor.active && !gpti_begin_pass(w)) return GPT_OK;
    if ((uint64_t)w->n_row * w->m->info.n_param / w->m->hp.n_layer < 8 * GPTI_WORTH_SHARING) return gpti_pass(w);
    return gpti_together(&w->pool, gpti_pass, w);
}

GPTI_COLD
/* ======================================================================
 * [SESSION] One running text: its tokens, cache and scratch
 * ==================================================================== */

enum { GPTI_STOP_MAX = 16, GPTI_STOP_BYTES = 256, GPTI_PIECE = 512 };
enum { GPTI_STREAM_GO = 0, GPTI_STREAM_STOP = 1, GPTI_STREAM_HOST = 2 };

typedef struct gpti_stream {
    unsigned char stop[GPTI_STOP_MAX][GPTI_STOP_BYTES];
    unsigned char border[GPTI_STOP_MAX][GPTI_STOP_BYTES];   /* of the first k + 1 bytes: longest prefix that ends it */
    uint16_t      len[GPTI_STOP_MAX], at[GPTI_STOP_MAX];  /* bytes in all; bytes matched at the end of the text */
    int           n_stop, longest;                        /* longest: the one with the most bytes matched */
    int           state;                                  /* GPTI_STREAM_*; once it is not GO, the rest is dropped */
    unsigned char part[4], n_part, need, low, high;       /* a character's bytes so far, those to come, and what the */
    char          out[GPTI_PIECE];                        /* next one may be */
    size_t        n_out, n_raw, behind;                   /* bytes of the text that out stands for; that came in and */
} gpti_stream;                                            /* have not been given to the host */

typedef struct gpti_candidate { float logit; gpt_token id; } gpti_candidate;

enum { GPTI_REPEAT = 512, GPTI_BREAKERS = 64 };
typedef struct gpti_choice {        /* of a token, step by step: the poll hook is asked between them */
    /* what of: the text and its tokens, NULL: unknown; logits at the first step; scratch [n_vocab] for candidates */
    const gpt_sample_params *p;
    const gpti_tokenizer *tok;
    const gpt_token *history;
    const float    *logits;
    const char     *breakers;
    gpti_candidate *c;
    size_t          n_history, n_dropped, n_vocab;
    uint64_t        order;          /* samplers to come, GPTI_DO_, 4 bits each, the next one lowest */
    int             step, part;     /* GPTI_CHOOSE_; of the next sampler: how often it has run */
    /* candidates; those left; the best of them, in order, all or none between two samplers; those that make up head */
    size_t          n_all, n, sorted, n_head;
    double          sum, head;      /* of the weights of all, of the n_head best */
    float           by;             /* what the draw divides logits by; 0 = 1 */
    float           shift;          /* of typ_p: distances are from here; the bits of the one looked for are */
    uint32_t        low, high;      /* between these */
    gpti_candidate  best;
    uint16_t        z[GPTI_REPEAT]; /* tokens that the end of the text, and that i tokens before it, have in common */
} gpti_choice;

/* A text's place in its constraint, see [CONSTRAINT]: all ways in which the text so far can be read. */
typedef struct gpti_node { uint8_t op, flag; uint16_t none; uint32_t b; } gpti_node;
/* part: of a character, number, space */
typedef struct gpti_state { uint32_t node, frame; uint64_t part; } gpti_state;
typedef struct gpti_frame {         /* what comes behind the rule or round of a loop at hand; equal ones are one */
    /* where to return (GPTI_NONE), or a loop, its rounds; next: of the bucket */
    uint32_t node, count, parent, next;
    uint32_t depth, cost;                       /* frames up to the root; fewest tokens from the return to the end */
    uint64_t digest;
} gpti_frame;
enum { GPTI_STATES = 512, GPTI_SEEN = 4096, GPTI_N_MASK = 32, GPTI_N_SET = 128, GPTI_SET_STATES = 16, GPTI_NEST = 256,
    GPTI_MAX_NEST = 1 << 16, GPTI_SET_NONE = 255, GPTI_SET_LOST = 254,
       GPTI_TOKEN_LONG = 32 };  /* bytes of a token; longer ones are tried one by one */
typedef struct gpti_states { size_t n; int full; gpti_state s[GPTI_STATES]; } gpti_states;
typedef struct gpti_live {
    const gpt_constraint *c;
    int          lax;               /* gpt_constraint_check: JSON as RFC 8259 has it */
    gpti_frame  *frame;             /* [n_most]; 0 is the root's */
    uint32_t    *bucket;            /* [n_bucket, a power of two] */
    uint32_t     n_frame, n_most, n_bucket, depth;      /* depth: frames above each other at most */
    gpti_states  now;
} gpti_live;

typedef struct gpti_mask { uint64_t key[2]; size_t at; uint32_t more; int used; } gpti_mask;
typedef struct gpti_seen { uint32_t node, frame, stamp, none; uint64_t part; } gpti_seen;
typedef struct gpti_kept { size_t n; uint32_t cost; gpti_state s[GPTI_SET_STATES]; } gpti_kept;
typedef struct gpti_try {           /* room of a work space: what trying a token takes */
    gpti_states  set[2];
    gpti_seen    seen[GPTI_SEEN];
    uint32_t     stack[2 * GPTI_STATES][2], stamp, n_seen;
    /* masks of the vocabulary for states that come again: bits [n_vocab] each; more: tokens that the dearest of them
     * adds to the shortest way; at: tokens looked at so far */
    gpti_mask    mask[GPTI_N_MASK];
    uint32_t    *bits, turn;
    /* while one is made: sets that came up, 0 the first, and where each byte leads from there: the set's number and 1;
     * 0: not known yet; GPTI_SET_NONE, _LOST: refused, one that is not kept */
    gpti_kept    kept[GPTI_N_SET];
    uint8_t      to[GPTI_N_SET][256];
    size_t       n_kept;
} gpti_try;

typedef struct gpti_word { unsigned char text[256], border[256]; uint16_t len; } gpti_word;     /* as in gpti_stream */

/* _OVER: white space behind it is to go */
enum { GPTI_THINK_NONE, GPTI_THINK_MAY_BEGIN, GPTI_THINK_INSIDE, GPTI_THINK_OVER };
enum { GPTI_CON_NONE, GPTI_CON_MARK, GPTI_CON_TRIGGER, GPTI_CON_ACTIVE, GPTI_FORCE = 512 };

typedef struct gpti_generation {    /* a gpt_begin that gpt_step goes on with */
    gpt_generate_params params;
    gpt_text_fn         fn;
    void               *user;
    gpti_stream         stream;
    gpt_finish          finish;
    size_t              n_prompt, n_generated;
    int                 show;       /* control tokens are handed out as text too */
    int                 edge;       /* as of gpti_tokenizer_shown */
    int                 stale;      /* other tokens have been appended since */
    size_t              edge_at;    /* the token whose space was taken off */
    gpti_stream         ban;        /* its stop strings never come */
    uint64_t            order;      /* copies of params.sample.samplers, as of gpti_choice, and of dry_breakers */
    char                breakers[GPTI_BREAKERS];
    /* the constraint: GPTI_CON_, now and at token con_from, where what it looks at begins; bytes matched of what is
     * waited for, the host's mark or the trigger; edge at con_from. A restored one has the digest alone until
     * gpt_resume */
    int                 con_phase, con_begun, con_edge;
    size_t              con_from, con_at;
    uint64_t            con_digest;
    gpti_word           mark;
    uint16_t            mark_need[257]; /* tokens that spell mark from this byte on, at least */
    /* the thinking part: GPTI_THINK_; which of gpti_thoughts; bytes of its marker that have come up */
    int                 think, thought;
    size_t              think_at;
    /* guesses: tried at most, in the last pass, of them right; passes to go without, and before */
    size_t              credit;         /* to guess with, GPTI_DRAFT_PASS for a pass; see gpti_draft */
} gpti_generation;
enum { GPTI_DRAFT_PASS = 64 };

/* Positions that layer's cache holds: all, or the window and one chunk, so that a chunk never
 * overwrites what it sees */
static size_t gpti_cache_capacity(const gpti_layer *l, size_t n_room, size_t n_batch) {
    return l->window && l->window < n_room ? gpti_min((l->window + n_batch + 31) & ~(size_t)15, n_room) : n_room;
}

/* Lay a work space out in a: with a->base NULL this only measures. w itself is the first piece. */
static void gpti_work_layout(gpti_arena *a, const gpt_work *plan, gpt_work **out) {
    const gpt_model *m = plan->m;
    const gpti_hparams *hp = &m->hp;
    gpt_work *w = (gpt_work *)gpti_carve(a, 1, sizeof *w), measured;
    size_t B = plan->n_batch, S = plan->n_slot_row, V = hp->n_vocab, D = hp->d_model, used = B * hp->n_expert_used;
    size_t wide = gpti_max(gpti_max(D, hp->max_att), gpti_max(hp->ld_ffn / 2, hp->d_dense)), i;
    const size_t low = plan->n_rank ? GPTI_MOST_PRODUCTS * S : 0;
    uint32_t *bits;
    if (!a->base) w = &measured;
    memcpy(w, plan, sizeof *w);
    w->row = (gpti_row *)gpti_carve(a, B, sizeof *w->row);
    w->x = (float *)gpti_carve(a, B * D, sizeof(float));
    w->xn = (float *)gpti_carve(a, B * D, sizeof(float));
    w->qkv = (float *)gpti_carve(a, B * hp->max_qkv, sizeof(float));
    w->att = (float *)gpti_carve(a, B * hp->max_att, sizeof(float));
    w->y = (float *)gpti_carve(a, S * D, sizeof(float));
    w->between = (float *)gpti_carve(a, hp->d_dense, sizeof(float));
    w->ffn = (float *)gpti_carve(a, S * hp->ld_ffn, sizeof(float));
    for (i = 0; i < 2; i++) w->rope[i] = (float *)gpti_carve(a, m->rope_freq[i] ? B * hp->n_rope : 0, sizeof(float));
    w->out_row = (uint32_t *)gpti_carve(a, B, sizeof(uint32_t));
    w->logits = (float *)gpti_carve(a, plan->n_logit_row * V, sizeof(float));
    w->xq = (gpti_xblock *)gpti_carve(a, wide / 32 * S, sizeof *w->xq);
    w->job = (gpti_matmul *)gpti_carve(a, 2 * ((size_t)hp->n_expert + 2 + low), sizeof *w->job);
    w->low = (float *)gpti_carve(a, low * plan->n_rank, sizeof(float));
    w->low_row = (uint32_t *)gpti_carve(a, low, sizeof(uint32_t));
    w->add_row = (uint32_t *)gpti_carve(a, low, sizeof(uint32_t));
    w->attend = (gpti_attend *)gpti_carve(a, B, sizeof *w->attend);
    w->route = (float *)gpti_carve(a, 2 * B * hp->n_expert, sizeof(float));
    w->gate = (float *)gpti_carve(a, used, sizeof(float));
    w->shared_gate = (float *)gpti_carve(a, hp->d_ff_shexp ? B : 0, sizeof(float));
    w->chosen = (uint32_t *)gpti_carve(a, used, sizeof(uint32_t));
    w->expert_tok = (uint32_t *)gpti_carve(a, used, sizeof(uint32_t));
    w->expert_slot = (uint32_t *)gpti_carve(a, used, sizeof(uint32_t));
    w->first_slot = (uint32_t *)gpti_carve(a, (size_t)hp->n_expert + 1, sizeof(uint32_t));
    w->cand = (gpti_candidate *)gpti_carve(a, V, sizeof *w->cand);
    w->choice = (gpti_choice *)gpti_carve(a, 1, sizeof *w->choice);
    w->trial = (gpti_try *)gpti_carve(a, 1, sizeof *w->trial);
    bits = (uint32_t *)gpti_carve(a, GPTI_N_MASK * (V / 32 + 1), sizeof *bits);
    w->scratch = (gpti_scratch *)gpti_carve(a, (size_t)plan->n_most, sizeof *w->scratch);
    w->stage = (gpti_stage *)gpti_carve(a, GPTI_N_STAGE, sizeof *w->stage);
    if (a->base) { *out = w; memset(w->trial, 0, sizeof *w->trial); w->trial->bits = bits; }
}

/* The parts of a place in a constraint for n_nest, to l if that is not NULL */
static void gpti_live_layout(gpti_arena *a, gpti_live *l, uint32_t n_nest) {
    const uint32_t depth = 2 * (n_nest ? n_nest : (uint32_t)GPTI_NEST), n_most = depth + GPTI_STATES;
    uint32_t n_bucket = 1024;
    gpti_frame *frame;
    uint32_t *bucket;
    while (n_bucket < n_most) n_bucket *= 2;
    frame = (gpti_frame *)gpti_carve(a, n_most, sizeof *frame);
    bucket = (uint32_t *)gpti_carve(a, n_bucket, sizeof *bucket);
    if (!l || !a->base) return;
    memset(l, 0, sizeof *l);
    l->depth = depth; l->n_most = n_most; l->n_bucket = n_bucket; l->frame = frame; l->bucket = bucket;
}

/* The same for a session, without its work space. */
static void gpti_session_layout(gpti_arena *a, const gpt_session *plan, gpt_session **out) {
    const gpt_model *m = plan->m;
    const gpti_hparams *hp = &m->hp;
    gpt_session *s = (gpt_session *)gpti_carve(a, 1, sizeof *s), measured;
    size_t i;
    if (!a->base) s = &measured;
    memcpy(s, plan, sizeof *s);
    s->token = (gpt_token *)gpti_carve(a, plan->n_ctx, sizeof *s->token);
    if (!plan->params.no_logits) s->logits = (float *)gpti_carve(a, hp->n_vocab, sizeof(float));
    if (plan->params.att_weights)
        s->att_weights = (float *)gpti_carve(a, (size_t)hp->max_head * plan->n_ctx, sizeof(float));
    s->gen = (gpti_generation *)gpti_carve(a, 1, sizeof *s->gen);
    s->live = (gpti_live *)gpti_carve(a, 1, sizeof *s->live);
    gpti_live_layout(a, s->live, plan->params.n_nest);
    s->state_of = (size_t *)gpti_carve(a, plan->n_state, sizeof *s->state_of);
    if (hp->n_state > SIZE_MAX / sizeof(float) / gpti_max(plan->n_state, 1)) a->overflow = 1;
    else s->state = (float *)gpti_carve(a, plan->n_state * hp->n_state, sizeof(float));
    for (i = 0; a->base && i < plan->n_state; i++) s->state_of[i] = SIZE_MAX;
    s->cache = (gpti_cache *)gpti_carve(a, hp->n_layer, sizeof *s->cache);
    for (i = 0; i < hp->n_layer; i++) {
        const gpti_cache_shape x = gpti_cache_shape_of(m, i, plan->params.kv);
        gpti_cache c;
        size_t k, v;
        c.cap = gpti_cache_capacity(&m->layer[i], plan->n_room, plan->w->n_batch);
        if (c.cap > SIZE_MAX / GPTI_MAX_HEAD || !gpti_mul(&k, c.cap * x.n_head, x.k_bytes) ||
            !gpti_mul(&v, c.cap * x.n_head, x.v_bytes)) { a->overflow = 1; break; }
        c.k = (unsigned char *)gpti_carve(a, k, 1);
        c.v = (unsigned char *)gpti_carve(a, v, 1);
        if (a->base) s->cache[i] = c;
    }
    if (a->base) *out = s;
}

/* Rows of a pass where the host does not say: a text whose rows see later ones enters it whole. */
static uint32_t gpti_n_batch(const gpt_model *m, uint32_t asked) {
    return asked ? asked : m->hp.causal ? 256 : (uint32_t)gpti_min(m->hp.n_ctx, 2048);
}

/* Settle the parameters; the plan is a work space without memory. */
static gpt_result gpti_work_plan(gpt_work *plan, const gpt_model *m, const gpt_work_params *params, int measure,
                                 gpt_error *err) {
    /* elements of a buffer: no product below wraps, gpti_carve checks the bytes */
    const uint64_t limit = SIZE_MAX / 16;
    const uint32_t used = m->hp.n_expert ? m->hp.n_expert_used + (m->hp.d_ff_shexp != 0) : 1;
    memset(plan, 0, sizeof *plan);
    if (m->header_only && !measure)
        return gpti_fail(err, GPT_E_STATE, "session: the model was loaded with header_only and has no weights");
    if (!m->whole)
        return gpti_fail(err, GPT_E_STATE, "session: the file has no whole model that this version computes");
    plan->m = m;
    if (params) plan->params = *params;
    gpti_pool_init(&plan->pool, &plan->params.hooks.parallel, plan->params.n_threads);
    plan->n_most = plan->pool.n_worker;
    plan->n_batch = gpti_n_batch(m, plan->params.n_batch);
    plan->n_fill = (uint32_t)gpti_min(plan->params.n_fill ? plan->params.n_fill : 32, plan->n_batch);
    if ((uint64_t)plan->n_batch * used * gpti_max(gpti_max(m->hp.ld_ffn, m->hp.max_qkv),
        gpti_max(m->hp.max_att, (size_t)m->hp.d_model + 2 * (size_t)m->hp.n_expert)) > limit ||
        (uint64_t)plan->n_batch * used > UINT32_MAX)
        return gpti_fail(err, GPT_E_ARG, "session: n_batch %llu is too large for this model", (gpti_ull)plan->n_batch);
    plan->n_slot_row = plan->n_batch * used;
    plan->n_rank = plan->params.n_rank;
    if (plan->n_rank > GPTI_MAX_WIDTH || (uint64_t)plan->n_slot_row * GPTI_MOST_PRODUCTS * plan->n_rank > limit)
        return gpti_fail(err, GPT_E_ARG, "session: n_rank %llu is too large", (gpti_ull)plan->n_rank);
    plan->n_logit_row = (uint32_t)gpti_min(gpti_max(gpti_min(((size_t)1 << 20) / m->hp.n_vocab, 64), 8), plan->n_batch);
    return GPT_OK;
}

enum { GPTI_MAX_PREFIX = 8 };

/* Does the adapter suit the model and the work space? *scale 0 becomes 1, *adapted what stands for both. */
static gpt_result gpti_check_adapter(const gpt_work *w, const gpt_adapter *a, float *scale, uint64_t *adapted,
                                     gpt_error *err) {
    *adapted = 0;
    if (!a) return GPT_OK;
    if (a->m != w->m) return gpti_fail(err, GPT_E_FOREIGN, "session: the adapter is of another model");
    if (*scale == 0.0f) *scale = 1.0f;
    if (!(gpti_abs(*scale) <= FLT_MAX)) return gpti_fail(err, GPT_E_ARG, "session: the adapter's scale is not finite");
    if (a->n_rank > w->n_rank) return gpti_fail(err, GPT_E_ARG,
        "session: expected an adapter of rank %llu at most (n_rank), %s has %llu", (gpti_ull)w->n_rank, a->widest,
        (gpti_ull)a->n_rank);
    *adapted = gpti_digest(a->digest + gpti_f32_bits(*scale), "", 0) | 1;
    return GPT_OK;
}

/* May what other holds stand in s? err: what does not suit, of `what`. */
static gpt_result gpti_same_kind(const gpt_session *s, const gpt_session *other, const char *what, gpt_error *err) {
    if (s->m != other->m) return gpti_fail(err, GPT_E_FOREIGN, "%s is of another model", what);
    if (!s->m->hp.causal) return gpti_fail(err, GPT_E_UNSUPPORTED,
        "%s: %s reads a text as a whole, no other can go on from it", what, s->m->arch.name);
    if (s->params.kv != other->params.kv) return gpti_fail(err, GPT_E_FOREIGN, "%s has a cache of kv %d, expected %d",
        what, (int)other->params.kv, (int)s->params.kv);
    if (s->adapted != other->adapted)
        return gpti_fail(err, GPT_E_FOREIGN, "%s has another adapter, or another scale of it", what);
    if (gpti_is_long(s) != gpti_is_long(other)) return gpti_fail(err, GPT_E_FOREIGN,
        "%s has an n_ctx of %llu, this one of %llu: the model computes long contexts in another way", what,
        (gpti_ull)other->n_ctx, (gpti_ull)s->n_ctx);
    return GPT_OK;
}

/* Settle the parameters; the plans are a session and its work space without memory. measure: not
 * even the model's weights are needed. */
static gpt_result gpti_session_plan(gpt_session *plan, gpt_work *own, const gpt_model *m,
                                    const gpt_session_params *params, int measure, gpt_error *err) {
    gpt_session_params none;
    gpt_work_params work;
    const gpt_session *prefix, *up;
    int i;
    memset(&none, 0, sizeof none);
    memset(&work, 0, sizeof work);
    if (!params) params = &none;
    prefix = params->prefix;
    memset(plan, 0, sizeof *plan);
    plan->m = m; plan->params = *params; plan->w = params->work ? params->work : own;
    plan->n_ctx = params->n_ctx ? params->n_ctx : (uint32_t)gpti_min(m->hp.n_ctx, 4096);
    if (params->work && (params->n_batch || params->n_threads || params->n_rank || params->hooks.poll ||
        params->hooks.trace || params->hooks.parallel.run))
        return gpti_fail(err, GPT_E_ARG, "session: n_batch, n_threads, n_rank and hooks are those of its work space");
    if (params->work && params->work->m != m)
        return gpti_fail(err, GPT_E_ARG, "session: its work space is of another model");
    work.n_batch = (uint32_t)gpti_min(gpti_n_batch(m, params->n_batch), plan->n_ctx);
    work.n_threads = params->n_threads; work.hooks = params->hooks;
    work.n_rank = (uint32_t)gpti_max(params->n_rank, params->adapter ? params->adapter->n_rank : 0);
    GPTI_TRY(gpti_work_plan(own, m, &work, measure, err));
    GPTI_TRY(gpti_check_adapter(plan->w, params->adapter, &plan->params.adapter_scale, &plan->adapted, err));
    if (plan->n_ctx > GPTI_MAX_CTX) return gpti_fail(err, GPT_E_ARG, "session: n_ctx %llu is more than %llu",
        (gpti_ull)plan->n_ctx, (gpti_ull)GPTI_MAX_CTX);
    if (m->pos_embd.w.fmt && plan->n_ctx > m->hp.n_ctx)
        return gpti_fail(err, GPT_E_CONTEXT, "session: n_ctx %llu, but the model has positions for %llu only",
            (gpti_ull)plan->n_ctx, (gpti_ull)m->hp.n_ctx);
    if (plan->n_ctx > m->hp.n_ctx && m->arch.pos != GPTI_POS_ALIBI && !params->beyond_training)
        return gpti_fail(err, GPT_E_CONTEXT,
                         "session: n_ctx %llu, but the model was trained for %llu; beyond_training allows more",
                         (gpti_ull)plan->n_ctx, (gpti_ull)m->hp.n_ctx);
    if ((int)params->kv < GPT_KV_F16 || (int)params->kv > GPT_KV_Q4_0)
        return gpti_fail(err, GPT_E_ARG, "session: kv is none of the gpt_kv values");
    if (params->n_nest > GPTI_MAX_NEST) return gpti_fail(err, GPT_E_ARG, "session: n_nest %llu is more than %d",
        (gpti_ull)params->n_nest, (int)GPTI_MAX_NEST);
    plan->n_room = (plan->n_ctx + (size_t)15) & ~(size_t)15;
    if (!m->hp.causal) plan->params.no_logits = 1;
    /* one that a pass begins from, one that it leaves, and older ones */
    if (m->hp.n_state) plan->n_state = 2 + (size_t)(params->n_snapshot ? gpti_min(params->n_snapshot, 1u << 20) : 2);
    if (!prefix) return GPT_OK;
    if (prefix->w) return gpti_fail(err, GPT_E_STATE, "session: its prefix is not frozen");
    GPTI_TRY(gpti_same_kind(plan, prefix, "session: its prefix", err));
    for (i = 0, up = prefix; up; up = up->params.prefix) i++;
    if (i > GPTI_MAX_PREFIX)
        return gpti_fail(err, GPT_E_ARG, "session: a chain of more than %d prefixes", GPTI_MAX_PREFIX);
    if (plan->n_ctx < prefix->n_token) return gpti_fail(err, GPT_E_CONTEXT,
        "session: n_ctx %llu, but its prefix has %llu tokens", (gpti_ull)plan->n_ctx, (gpti_ull)prefix->n_token);
    /* without the prefix's logits its last token is computed again */
    plan->n_room -= (prefix->last_logits || !prefix->n_token ? prefix->n_token :
                     gpti_held_before(prefix, prefix->n_token - 1)) & ~(size_t)15;
    plan->n_room = gpti_max(plan->n_room, 16);
    return GPT_OK;
}

enum { GPTI_ALIGN = 64 };       /* room to align the first piece */

static size_t gpti_work_plan_bytes(const gpt_work *plan) {
    gpti_arena a;
    memset(&a, 0, sizeof a);
    gpti_work_layout(&a, plan, NULL);
    return a.overflow || a.used > SIZE_MAX - GPTI_ALIGN ? 0 : a.used + GPTI_ALIGN;
}

GPT_API size_t gpt_work_bytes(const gpt_model *m, const gpt_work_params *params) {
    gpt_work plan;
    return !m || gpti_work_plan(&plan, m, params, 1, NULL) ? 0 : gpti_work_plan_bytes(&plan);
}

GPT_API size_t gpt_session_bytes(const gpt_model *m, const gpt_session_params *params) {
    gpt_session plan;
    gpt_work own;
    gpti_arena a;
    size_t work = 0, all;
    memset(&a, 0, sizeof a);
    if (!m || gpti_session_plan(&plan, &own, m, params, 1, NULL)) return 0;
    gpti_session_layout(&a, &plan, NULL);
    if (!plan.params.work && (work = gpti_work_plan_bytes(&own)) == 0) return 0;
    return a.overflow || !gpti_add(&all, a.used, work) || !gpti_add(&all, all, GPTI_ALIGN) ? 0 : all;
}

static gpt_work *gpti_work_place(void *memory, const gpt_work *plan) {
    gpti_arena a;
    gpt_work *w = NULL;
    memset(&a, 0, sizeof a);
    a.base = (unsigned char *)gpti_align(memory, GPTI_ALIGN);
    gpti_work_layout(&a, plan, &w);
    w->bytes = a.used + GPTI_ALIGN;
    memset(w->choice, 0, sizeof *w->choice);
    gpti_list_stages(w->stage);
    return w;
}

GPT_API gpt_result gpt_work_new(gpt_work **out, const gpt_model *m, const gpt_work_params *params, gpt_error *err) {
    gpt_work plan;
    size_t need;
    void *block;
    gpti_clear(err);
    if (out) *out = NULL;
    if (!out || !m) return gpti_fail(err, GPT_E_ARG, "gpt_work_new: out and model must not be NULL");
    GPTI_TRY(gpti_work_plan(&plan, m, params, 0, err));
    need = gpti_work_plan_bytes(&plan);
    block = need ? gpti_alloc_raw(&m->mem, need) : NULL;
    if (!block) return gpti_fail(err, GPT_E_MEMORY, "work space: out of memory for %llu KiB", (gpti_ull)(need >> 10));
    *out = gpti_work_place(block, &plan);
    (*out)->block = block;
    return GPT_OK;
}

/* s is the last of w's sessions in the order of their turn; on 0: none of them. */
static void gpti_take_turn(gpt_work *w, gpt_session *s, int on) {
    gpt_session **p = &w->first;
    while (*p) if (*p == s) *p = s->next; else p = &(*p)->next;
    s->next = NULL;
    if (on) *p = s;
}

/* Groups of 16 positions that hold [from, to), from a multiple of 16: src's, or its prefixes', into s. */
static void gpti_copy_cache(gpt_session *s, const gpt_session *src, size_t layer, size_t from, size_t to) {
    const gpti_cache_shape x = gpti_cache_shape_of(s->m, layer, s->params.kv);
    const gpti_cache *c = &s->cache[layer];
    size_t p, h;
    for (p = from; p < to; p += 16) {
        const gpt_session *o = gpti_holder(src, p);
        const gpti_cache *d = &o->cache[layer];
        const size_t row = gpti_cache_row(c, p - s->origin), at = gpti_cache_row(d, p - o->origin);
        for (h = 0; h < x.n_head; h++) {
            memcpy(c->k + (h * c->cap + row) * x.k_bytes, d->k + (h * d->cap + at) * x.k_bytes, 16 * x.k_bytes);
            memcpy(c->v + (h * c->cap + row) * x.v_bytes, d->v + (h * d->cap + at) * x.v_bytes, 16 * x.v_bytes);
        }
    }
}

/* Whose cache is to be asked for the first n tokens: within its prefix they are that one's. */
static const gpt_session *gpti_origin(const gpt_session *s, size_t n) {
    while (s->params.prefix && n <= s->n_shared) s = s->params.prefix;
    return s;
}

/* ---- States. A layer of state has some matrices for all that was before, and those cannot go back. A session keeps
 * some states, each of all such layers after so many tokens: a pass reads that of n_past and writes another one, which
 * counts when the pass has ended; a text that goes back is computed again from the last state before. That is exact, as
 * nothing depends on how a text is cut into passes. ---- */

/* The state of the first n tokens, or that one's of its prefixes that has it; NULL: there is none, or n is 0 */
static const float *gpti_state_find(const gpt_session *s, size_t n) {
    size_t i;
    for (; n && s; s = n <= s->n_shared ? s->params.prefix : NULL)
        for (i = 0; i < s->n_state; i++)
            if (s->state_of[i] == n) return s->state + i * s->m->hp.n_state;
    return NULL;
}
static const float *gpti_state_now(const gpt_session *s) { return gpti_state_find(s, s->n_past); }
static float *gpti_state_next(const gpt_session *s) { return s->state + s->state_to * s->m->hp.n_state; }

/* The state that can be spared: an empty one, or that whose neighbours are nearest to each other. Never that of n_past,
 * of where choices begin, or before the last prompt's end. */
static size_t gpti_state_least(const gpt_session *s) {
    const size_t kept = s->choices.n ? s->choices.base : s->state_kept;
    size_t i, j, least = 0, room = SIZE_MAX;
    for (i = 0; i < s->n_state; i++) {
        const size_t n = s->state_of[i];
        size_t before = 0, behind = s->n_past;
        if (n == SIZE_MAX) return i;
        if (n == s->n_past || n == kept) continue;
        for (j = 0; j < s->n_state; j++) {
            if (s->state_of[j] < n) before = gpti_max(before, s->state_of[j]);
            if (s->state_of[j] > n) behind = gpti_min(behind, s->state_of[j]);
        }
        if (behind - before < room) { room = behind - before; least = i; }
    }
    return least;
}

static int gpti_is_held(const gpt_session *s, size_t n);

/* The last state up to n, its prefixes' too, from which the text can be computed */
static size_t gpti_state_before(const gpt_session *s, size_t n) {
    const gpt_session *h;
    size_t i, best = 0;
    for (h = s; h; n = gpti_min(n, h->n_shared), h = h->params.prefix)
        for (i = 0; i < h->n_state; i++) {
            const size_t at = h->state_of[i];
            if (at <= n && at > best && gpti_is_held(s, at)) best = at;
        }
    return best;
}

/* The first position that the layer's cache still holds: of a window the last so many groups of 16 */
static size_t gpti_held_from(const gpt_session *s, size_t layer) {
    const size_t end = (s->n_written + 15) & ~(size_t)15, cap = s->cache[layer].cap;
    if (!s->m->layer[layer].window) return s->origin;
    return gpti_max(s->kept_from, end <= s->origin + cap ? s->origin : end - cap);
}

/* The same, its prefixes included */
static size_t gpti_held_since(const gpt_session *s, size_t layer) {
    while (s->origin && gpti_held_from(s, layer) <= s->origin) s = gpti_origin(s->params.prefix, s->origin);
    return gpti_held_from(s, layer);
}

/* Can the text be computed from token n on: does each layer hold what that sees? */
static int gpti_is_held(const gpt_session *s, size_t n) {
    size_t i;
    if (!s->m->hp.causal) return n == 0 || n == s->n_token;     /* what sees later tokens is computed with them */
    if (s->m->hp.n_state && n && !gpti_state_find(s, n)) return 0;
    s = gpti_origin(s, n);
    for (i = 0; i < s->m->hp.n_layer; i++) {
        const size_t window = s->m->layer[i].window, from = window && n > window ? n - window : 0;
        const gpt_session *h = s;
        for (; window && h; h = from < h->origin ? gpti_origin(h->params.prefix, h->origin) : NULL)
            if (gpti_max(from, h->origin) < gpti_held_from(h, i) && n > h->origin) return 0;
    }
    return 1;
}

/* The last token up to n that the text can be computed from */
static size_t gpti_held_before(const gpt_session *s, size_t n) {
    if (n >= s->n_past || gpti_is_held(s, n)) return gpti_min(n, s->n_past);
    if (s->n_state) return gpti_state_before(s, n);
    return n > s->n_shared && gpti_is_held(s, s->n_shared) ? s->n_shared : 0;
}

/* What is computed ends at n. Within the prefix the group of 16 that n lies in becomes its own. */
static void gpti_go_back(gpt_session *s, size_t n) {
    size_t i;
    if (n < s->n_past) s->last_logits = NULL;
    for (i = 0; i < s->n_state; i++)            /* within the prefix none is its own: they may be of another text */
        if (s->state_of[i] > n || n <= s->n_shared) s->state_of[i] = SIZE_MAX;
    s->n_past = n; s->from = gpti_min(s->from, n); s->n_draft = 0;
    if (n > s->n_shared) return;
    s->n_shared = s->n_written = n; s->kept_from = 0;
    s->origin = n & ~(size_t)15;
    if (s->params.prefix && n == s->params.prefix->n_token) {
        s->last_logits = s->params.prefix->last_logits; s->lent = 0;
    }
    for (i = 0; n > s->origin && i < s->m->hp.n_layer; i++)
        gpti_copy_cache(s, gpti_origin(s->params.prefix, n), i, s->origin, n);
}

/* Tokens that the text may have when it is computed from token n on */
static size_t gpti_most_tokens(const gpt_session *s, size_t n) {
    const size_t origin = n <= s->n_shared ? n & ~(size_t)15 : s->origin;
    return gpti_min(s->n_ctx, origin + s->n_room);
}
static size_t gpti_n_free(const gpt_session *s) { return gpti_most_tokens(s, s->n_past) - s->n_token; }

/* Tokens of the text: those of a gpt_choose under way are none. */
static size_t gpti_text_end(const gpt_session *s) { return s->choices.n ? s->choices.base : s->n_token; }

/* Can tokens [from, to) be computed again? Vectors cannot. */
static gpt_result gpti_can_repeat(const gpt_session *s, size_t from, size_t to, gpt_error *err) {
    for (; from < to; from++) if (s->token[from] < 0) return gpti_fail(err, GPT_E_STATE,
        "token %llu of the text is a vector, which is no longer known, and would have to be computed again",
        (gpti_ull)from);
    return GPT_OK;
}

/* What is under way ends, because its text does. */
static void gpti_interrupt(gpt_session *s) {
    gpti_leave_pass(s);
    if (s->choices.n) gpti_choices_end(s);
    if (s->doing == GPTI_GENERATES) s->gen->finish = GPT_FINISH_HOST;
    if (s->doing) s->result = s->doing == GPTI_EVALUATES ? GPT_E_CANCELLED : GPT_OK;
    s->doing = GPTI_IDLE; s->held &= 1;
}

static void gpti_reset(gpt_session *s) {
    const gpt_session *prefix = s->params.prefix;
    const int generated = s->doing == GPTI_GENERATES;
    gpti_interrupt(s);
    memset(s->gen, 0, sizeof *s->gen);
    if (generated) s->gen->finish = GPT_FINISH_HOST;
    s->n_dropped = s->n_cut = 0; s->changed = 0;
    s->n_shared = prefix ? prefix->n_token : 0;
    if (prefix) memcpy(s->token, prefix->token, s->n_shared * sizeof *s->token);
    s->n_token = s->n_committed = s->from = s->n_shared;
    gpti_go_back(s, s->n_token);
    s->last_logits = prefix ? prefix->last_logits : NULL;
}

GPT_API gpt_result gpt_session_init(gpt_session **out, const gpt_model *m, const gpt_session_params *params,
    void *memory, size_t size, gpt_error *err) {
    gpt_session plan, *s = NULL;
    gpt_work own;
    gpti_arena a;
    size_t need;
    gpti_clear(err);
    if (out) *out = NULL;
    if (!out || !m || !memory)
        return gpti_fail(err, GPT_E_ARG, "gpt_session_init: out, model and memory must not be NULL");
    GPTI_TRY(gpti_session_plan(&plan, &own, m, params, 0, err));
    if (plan.w->busy) return gpti_fail(err, GPT_E_STATE, "session: its work space is at work");
    need = gpt_session_bytes(m, params);
    if (!need || size < need)
        return gpti_fail(err, GPT_E_MEMORY, "session: needs %llu bytes, given %llu", (gpti_ull)need, (gpti_ull)size);
    memset(&a, 0, sizeof a);
    a.base = (unsigned char *)gpti_align(memory, GPTI_ALIGN);
    gpti_session_layout(&a, &plan, &s);
    if (!plan.params.work) s->w = s->own = gpti_work_place(a.base + a.used, &own);
    s->bytes = need;
    memset(s->gen, 0, sizeof *s->gen);
    gpti_take_turn(s->w, s, 1);
    gpti_reset(s);
    *out = s;
    return GPT_OK;
}

GPT_API gpt_result gpt_session_new(gpt_session **out, const gpt_model *m, const gpt_session_params *params,
                                   gpt_error *err) {
    gpt_session plan;
    gpt_work own;
    size_t need;
    void *block;
    gpt_result r;
    gpti_clear(err);
    if (out) *out = NULL;
    if (!out || !m) return gpti_fail(err, GPT_E_ARG, "gpt_session_new: out and model must not be NULL");
    GPTI_TRY(gpti_session_plan(&plan, &own, m, params, 0, err));
    need = gpt_session_bytes(m, params);
    block = need ? gpti_alloc_raw(&m->mem, need) : NULL;
    if (!block) return gpti_fail(err, GPT_E_MEMORY, "session: out of memory for %llu KiB", (gpti_ull)(need >> 10));
    r = gpt_session_init(out, m, params, block, need, err);
    if (r) gpti_free(&m->mem, block);
    else (*out)->block = block;
    return r;
}

/* The beginning and the end of every call that changes a session or its work space. */
static gpt_result gpti_enter_work(gpt_work *w, const char *call, gpt_error *err) {
    gpti_clear(err);
    if (!w) return gpti_fail(err, GPT_E_ARG, "%s: work space must not be NULL", call);
    if (w->busy)
        return gpti_fail(err, GPT_E_STATE, "%s: the session is at work: its hooks may read, or call gpt_end", call);
    w->busy = 1; w->err = err; w->only = NULL; w->can_pause = 0;
    GPTI_FETCH_ADD(&((gpt_model *)w->m)->n_busy, 1);
    return GPT_OK;
}
static gpt_result gpti_leave_work(gpt_work *w, gpt_result r) {
    w->busy = 0; w->only = NULL;
    GPTI_FETCH_ADD(&((gpt_model *)w->m)->n_busy, -1);
    return r;
}

/* doing: what the call needs to be under way, GPTI_IDLE nothing, GPTI_GENERATES something, -1 either. */
static gpt_result gpti_enter(gpt_session *s, const char *call, int doing, gpt_error *err) {
    gpti_clear(err);
    if (!s) return gpti_fail(err, GPT_E_ARG, "%s: session must not be NULL", call);
    if (!s->w) return gpti_fail(err, GPT_E_STATE, "%s: the session is frozen", call);
    if (!s->w->busy && doing == GPTI_GENERATES && !s->doing)
        return gpti_fail(err, GPT_E_STATE, "%s: no generation is under way", call);
    if (!s->w->busy && doing == GPTI_IDLE && s->doing)
        return gpti_fail(err, GPT_E_STATE, "%s: %s is under way; gpt_end gives it up", call,
                         s->doing == GPTI_GENERATES ? "a generation" : "an evaluation");
    if (!s->w->busy && doing != GPTI_GENERATES) s->stop = 0;
    return gpti_enter_work(s->w, call, err);
}
static gpt_result gpti_leave(gpt_session *s, gpt_result r) { return gpti_leave_work(s->w, r); }

/* The next text whose turn it is to choose a token: its logits are there. */
static gpt_session *gpti_next_writer(const gpt_work *w) {
    gpt_session *s;
    for (s = w->first; s; s = s->next) {
        const gpt_finish why = gpti_enough(s);
        if (s->doing == GPTI_GENERATES && gpti_takes_part(w, s) &&
            (why == GPT_FINISH_STOP || why == GPT_FINISH_HOST || (s->n_past == s->n_token && s->last_logits))) return s;
    }
    return NULL;
}

/* All of the work space that take part give up. */
static gpt_result gpti_cancelled(gpt_work *w, gpt_result r, gpt_error *err) {
    gpt_session *s;
    size_t at = w->only ? w->only->n_past : w->first ? w->first->n_past : 0;
    for (s = w->first; s; s = s->next) if (gpti_takes_part(w, s)) gpti_give_up(s, r);
    return gpti_fail(err, r, "cancelled by a hook at token %llu", (gpti_ull)at);
}

/* A call that blocks: the pass under way ends, then s is computed alone. */
static gpt_result gpti_run(gpt_session *s, gpt_error *err) {
    gpt_work *w = s->w;
    gpt_result r = GPT_OK;
    while (!r && s->doing && (w->cursor.active || gpti_next_writer(w)) && w->first->next) r = gpti_advance(w);
    w->only = s;
    while (!r && s->doing) r = gpti_advance(w);
    if (r < 0) return gpti_cancelled(w, r, err);
    return s->result < 0 ? gpti_fail(err, s->result, "cancelled by a hook at token %llu", (gpti_ull)s->n_past) : GPT_OK;
}

GPT_API gpt_result gpt_work_step(gpt_work *w, gpt_error *err) {
    gpt_session *s;
    gpt_result r;
    GPTI_TRY(gpti_enter_work(w, "gpt_work_step", err));
    w->can_pause = 1;
    r = gpti_advance(w);
    if (r < 0) return gpti_leave_work(w, gpti_cancelled(w, r, err));
    for (r = GPT_OK, s = w->first; s; s = s->next) if (gpti_takes_part(w, s)) r = GPT_MORE;
    return gpti_leave_work(w, r);
}

GPT_API gpt_result gpt_step(gpt_session *s, gpt_error *err) {
    gpt_result r;
    size_t n;
    GPTI_TRY(gpti_enter(s, "gpt_step", GPTI_GENERATES, err));
    s->w->can_pause = 1;
    n = s->n_token;
    do r = gpti_advance(s->w); while (!r && s->doing && s->n_token == n && !s->held);
    if (r < 0) r = gpti_cancelled(s->w, r, err);
    else if ((r = s->result) < 0) gpti_fail(err, r, "cancelled by a hook at token %llu", (gpti_ull)s->n_past);
    return gpti_leave(s, r);
}

GPT_API void gpt_session_hold(gpt_session *s, int on) { if (s && s->w) s->held = on ? s->held | 1 : 0; }

GPT_API void gpt_session_free(gpt_session *s) {
    gpt_model *m = s ? (gpt_model *)s->m : NULL;
    gpt_work *w = s ? s->w : NULL;
    if (!s || (w && gpti_enter(s, "", -1, NULL))) return;      /* the host's allocator may come here again */
    if (w) { gpti_leave_pass(s); gpti_take_turn(w, s, 0); }
    else GPTI_FETCH_ADD(&m->n_busy, 1);
    if (w && w != s->own) w->busy = 0;
    if (s->block) gpti_free(&m->mem, s->block);
    GPTI_FETCH_ADD(&m->n_busy, -1);
}

GPT_API void gpt_work_free(gpt_work *w) {
    gpt_model *m = w ? (gpt_model *)w->m : NULL;
    if (!w || !w->block || w->first || gpti_enter_work(w, "", NULL)) return;
    gpti_free(&m->mem, w->block);
    GPTI_FETCH_ADD(&m->n_busy, -1);
}

GPT_API void gpt_session_reset(gpt_session *s) { if (s && s->w && !s->w->busy) gpti_reset(s); }

/* The text ends at token n. What is computed of it stays as far as the layers hold what goes on from
 * there sees; what a window has let go of waits to be computed again. */
static gpt_result gpti_rewind(gpt_session *s, size_t n, gpt_error *err) {
    size_t to;
    if (s->choices.n) gpti_interrupt(s);
    to = gpti_held_before(s, n);
    if (n > s->n_token) return gpti_fail(err, GPT_E_ARG, "rewind: to token %llu of a text of %llu", (gpti_ull)n,
        (gpti_ull)s->n_token);
    GPTI_TRY(gpti_can_repeat(s, to, n, err));
    if (gpti_most_tokens(s, to) < n) return gpti_fail(err, GPT_E_STATE,
        "rewind: to token %llu of %llu within its prefix: no room for them", (gpti_ull)n, (gpti_ull)s->n_token);
    gpti_interrupt(s);
    if (to < s->n_past) gpti_go_back(s, to);
    s->n_draft = 0;
    if (n < s->n_token) memset(&s->gen->stream, 0, sizeof s->gen->stream);
    s->n_token = n;
    return GPT_OK;
}
GPT_API gpt_result gpt_session_rewind(gpt_session *s, size_t n, gpt_error *err) {
    GPTI_TRY(gpti_enter(s, "gpt_session_rewind", -1, err));
    return gpti_leave(s, gpti_rewind(s, n, err));
}

GPT_API const gpt_token *gpt_session_tokens(const gpt_session *s, size_t *n) {
    if (n) *n = s ? gpti_text_end(s) : 0;
    return s ? s->token : NULL;
}

GPT_API void gpt_session_info_get(const gpt_session *s, gpt_session_info *info) {
    if (info) memset(info, 0, sizeof *info);
    if (!info || !s) return;
    info->n_ctx = s->n_ctx; info->kernels = s->m->kern.name;
    if (s->w) info->n_batch = s->w->n_batch;
    if (s->w) info->n_threads = s->w->pool.host.run ? 0 : s->w->pool.n_worker;
    info->bytes = s->bytes; info->n_token = gpti_text_end(s);
    info->n_computed = gpti_min(gpti_n_computed(s), info->n_token);
    info->finish = s->gen->finish; info->n_prompt = s->gen->n_prompt; info->n_generated = s->gen->n_generated;
    info->result = s->result; info->held = s->held != 0; info->frozen = !s->w;
    info->n_dropped = s->n_dropped; info->n_omitted = s->n_cut; info->changed = s->changed;
    info->n_prefix = s->params.prefix ? s->params.prefix->n_token : 0;
}

GPT_API gpt_result gpt_session_hooks(gpt_session *s, const gpt_hooks *hooks, gpt_error *err) {
    gpti_pool pool;
    gpt_hooks none;
    memset(&none, 0, sizeof none);
    if (!hooks) hooks = &none;
    GPTI_TRY(gpti_enter(s, "gpt_session_hooks", -1, err));
    gpti_pool_init(&pool, &hooks->parallel, s->w->n_most);
    if (pool.n_worker > s->w->n_most)
        return gpti_leave(s,
                          gpti_fail(err, GPT_E_ARG, "gpt_session_hooks: %d workers, but the session was made for %d",
                                    pool.n_worker, s->w->n_most));
    s->w->pool = pool; s->w->params.hooks = *hooks;
    return gpti_leave(s, GPT_OK);
}

GPT_API gpt_result gpt_session_adapter(gpt_session *s, const gpt_adapter *a, float scale, gpt_error *err) {
    uint64_t adapted;
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_session_adapter", GPTI_IDLE, err));
    r = gpti_check_adapter(s->w, a, &scale, &adapted, err);
    if (!r && adapted != s->adapted) {
        r = s->params.prefix ? gpti_fail(err, GPT_E_FOREIGN, "session: its prefix has another adapter or scale")
            : gpti_can_repeat(s, 0, s->n_past, err);
        if (!r) gpti_go_back(s, 0);
    }
    if (!r) { s->params.adapter = a; s->params.adapter_scale = scale; s->adapted = adapted; }
    return gpti_leave(s, r);
}

/* Append to the text, still to be computed, as all from token `from` on; ids NULL: vectors. All or nothing. */
static gpt_result gpti_append(gpt_session *s, const gpt_token *ids, size_t n, size_t from, gpt_error *err) {
    const size_t room = gpti_most_tokens(s, from) - s->n_token;
    size_t i;
    GPTI_TRY(gpti_can_repeat(s, from, s->n_past, err));
    if (n > room)
        return gpti_fail(err, GPT_E_CONTEXT, "%llu tokens do not fit: %llu of a context of %llu are free",
            (gpti_ull)n, (gpti_ull)room, (gpti_ull)s->n_ctx);
    for (i = 0; ids && i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->m->hp.n_vocab)
            return gpti_fail(err, GPT_E_ARG, "token %llu of the call: id %ld is not in 0 to %llu", (gpti_ull)i,
                (long)ids[i], (gpti_ull)s->m->hp.n_vocab - 1);
    if (ids) memmove(s->token + s->n_token, ids, n * sizeof *ids);
    else for (i = 0; i < n; i++) s->token[s->n_token + i] = -1;
    if (n) s->gen->stale = 1;
    s->n_committed = s->n_token; s->from = s->n_past; s->n_token += n;
    return GPT_OK;
}

/* A text whose rows see later ones is computed as a whole: it has no next token, and nothing can be added. */
static gpt_result gpti_check_whole(const gpt_session *s, size_t n, int predicts, gpt_error *err) {
    const char *name = s->m->arch.name;
    if (s->m->hp.causal) return GPT_OK;
    if (predicts) return gpti_fail(err, GPT_E_UNSUPPORTED, "%s reads texts, it does not write them: its rows see later "
                                   "ones, so that no token has a probability", name);
    if (n && s->n_token) return gpti_fail(err, GPT_E_STATE, "%s reads a text as a whole: the session has one of %llu "
                                          "tokens already, gpt_session_reset empties it", name, (gpti_ull)s->n_token);
    if (s->n_token - s->n_past + n <= s->w->n_batch) return GPT_OK;
    return gpti_fail(err, GPT_E_CONTEXT, "%llu tokens, but %s reads a text as a whole: n_batch is %llu",
                     (gpti_ull)(s->n_token - s->n_past + n), name, (gpti_ull)s->w->n_batch);
}

/* The text's last logits are gone for good: they were a vector's. */
static gpt_result gpti_is_lost(const gpt_session *s, gpt_error *err) {
    return s->n_token && s->n_past == s->n_token && !s->last_logits ?
        gpti_can_repeat(s, gpti_held_before(s, s->n_token - 1), s->n_token, err) : GPT_OK;
}

/* n tokens come, to be computed by the steps of the work space; what else params (or NULL) want of them. */
static gpt_result gpti_eval(gpt_session *s, const gpt_token *ids, size_t n, const gpt_eval_params *params,
                            gpt_error *err) {
    const gpt_session *prefix = s->params.prefix;
    const size_t base = s->n_token;
    float *last = s->lent ? NULL : s->last_logits;      /* lent: perhaps no longer what was computed */
    gpt_eval_params p;
    size_t from = s->n_past;
    memset(&p, 0, sizeof p);
    if (params) p = *params;
    if (!n) p.logprob = NULL;                   /* tokens that wait are not scored */
    GPTI_TRY(gpti_check_whole(s, n, p.logprob != NULL, err));
    if (p.embedding && !p.raw && gpti_has(&s->m->arch, "dense") && !s->m->dense[0].w.data)
        return gpti_fail(err, GPT_E_UNSUPPORTED, "embedding: dense_2.weight and dense_3.weight of %s are not in the "
                         "file; raw gives the vector in front of them", s->m->arch.name);
    if (n && !ids == !p.vectors) return gpti_fail(err, GPT_E_ARG, "expected either ids or vectors");
    if (p.vectors && (p.logprob || !s->logits))
        return gpti_fail(err, GPT_E_ARG, "vectors: not with logprob, nor in a session with no_logits");
    if (p.embedding && (int)p.pool == GPT_POOL_FILE) p.pool = (gpt_pool)s->m->hp.pooling;
    if (p.embedding && (!n || (int)p.pool < GPT_POOL_MEAN || (int)p.pool > GPT_POOL_LAST))
        return gpti_fail(err, GPT_E_ARG, !n ? "embedding: expected at least one token" :
            params->pool == GPT_POOL_FILE ? "embedding: the file does not say how to pool: pool must be given" :
            "embedding: pool is none of gpt_pool");
    if (prefix && base == s->n_shared && base == prefix->n_token) last = prefix->last_logits;
    if (p.logprob && base && s->n_past == base && !last) from = gpti_held_before(s, base - 1);
    if (!n && s->logits) GPTI_TRY(gpti_is_lost(s, err));
    GPTI_TRY(gpti_append(s, ids, n, from, err));
    s->logits_wanted = p.logprob ? GPTI_LOGITS_SCORE : s->logits && !p.hidden && !p.embedding ? GPTI_LOGITS_LAST :
        GPTI_LOGITS_NONE;
    s->result = GPT_OK; s->out = p; s->base = base;
    if (p.embedding) memset(p.embedding, 0, s->m->hp.d_model * sizeof *p.embedding);
    if (p.logprob) {
        p.logprob[0] = s->n_past == base && last
            ? (float)gpti_log_p(gpti_log_sum(last, s->m->hp.n_vocab), last[ids[0]]) : 0.0f;
        if (from < s->n_past) gpti_go_back(s, from);
    } else gpti_want_last(s);
    if (s->n_past == s->n_token) return GPT_OK;
    s->doing = GPTI_EVALUATES; s->result = GPT_MORE;
    gpti_take_turn(s->w, s, 1);
    return GPT_OK;
}

GPT_API gpt_result gpt_eval(gpt_session *s, const gpt_token *ids, size_t n, gpt_error *err) {
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_eval", GPTI_IDLE, err));
    r = gpti_eval(s, ids, n, NULL, err);
    return gpti_leave(s, r ? r : gpti_run(s, err));
}

GPT_API gpt_result gpt_score(gpt_session *s, const gpt_token *ids, size_t n, float *logprob, gpt_error *err) {
    gpt_eval_params p;
    gpt_result r;
    memset(&p, 0, sizeof p);
    p.logprob = logprob;
    GPTI_TRY(gpti_enter(s, "gpt_score", GPTI_IDLE, err));
    r = n && !logprob ? gpti_fail(err, GPT_E_ARG, "gpt_score: logprob must not be NULL") :
        gpti_eval(s, ids, n, &p, err);
    return gpti_leave(s, r ? r : gpti_run(s, err));
}

GPT_API gpt_result gpt_eval_begin(gpt_session *s, const gpt_token *ids, size_t n, const gpt_eval_params *params,
                                  gpt_error *err) {
    GPTI_TRY(gpti_enter(s, "gpt_eval_begin", GPTI_IDLE, err));
    return gpti_leave(s, gpti_eval(s, ids, n, params, err));
}

GPT_API gpt_result gpt_embed(gpt_session *s, const char *text, const gpt_eval_params *params, float *out,
                             gpt_error *err) {
    gpt_eval_params p;
    gpt_result r;
    size_t n = 0;
    memset(&p, 0, sizeof p);
    if (params) { p.pool = params->pool; p.raw = params->raw; }
    p.embedding = out;
    GPTI_TRY(gpti_enter(s, "gpt_embed", -1, err));
    if (!text || !out) return gpti_leave(s, gpti_fail(err, GPT_E_ARG, "gpt_embed: text and out must not be NULL"));
    gpti_reset(s);
    r = gpti_tokenizer_encode(&s->m->tok, text, strlen(text), GPTI_TOK_BOS, s->token + s->n_token, gpti_n_free(s), &n,
        s->w->scratch, sizeof *s->w->scratch, &s->m->mem, err);
    if (!r) r = gpti_eval(s, s->token + s->n_token, n, &p, err);
    return gpti_leave(s, r ? r : gpti_run(s, err));
}

GPT_API gpt_result gpt_head(gpt_session *s, const float *x, float *logits, gpt_error *err) {
    const gpt_model *m;
    gpt_work *w;
    gpt_result r = GPT_OK;
    size_t D;
    GPTI_TRY(gpti_enter(s, "gpt_head", -1, err));
    if (!x || !logits) return gpti_leave(s, gpti_fail(err, GPT_E_ARG, "gpt_head: x and logits must not be NULL"));
    if ((r = gpti_check_whole(s, 0, 1, err)) != GPT_OK) return gpti_leave(s, r);
    w = s->w; m = w->m; D = m->hp.d_model;
    while (!r && w->cursor.active) r = gpti_advance(w);
    if (r < 0) return gpti_leave(s, gpti_cancelled(w, r, err));
    gpti_drop_logits(w);
    gpti_norm(w, w->xn, x, D, m->out_norm);
    gpti_prepare_input(w, w->xn, D, D, 0, 1, gpti_is_f16(&m->head));
    memset(&w->cursor, 0, sizeof w->cursor);
    w->cursor.layer = m->hp.n_layer; w->cursor.stage = GPTI_STAGE_LOGITS;
    w->n_out = w->n_kept = 1;
    w->row[0].s = s; w->out_row[0] = 0;
    s->group = w->n_group = s->params.adapter != NULL;
    for (gpti_begin_stage(w); w->cursor.unit < w->cursor.n_unit;) gpti_run_slice(w);
    gpti_finish_logits(&m->hp, w->logits);
    memcpy(logits, w->logits, m->hp.n_vocab * sizeof *logits);
    return gpti_leave(s, GPT_OK);
}

/* How a prompt that goes on from the text is cut into tokens */
static unsigned gpti_prompt_flags(const gpt_session *s, int special) {
    const unsigned flags = GPTI_TOK_NO_EOS | (special ? (unsigned)GPTI_TOK_SPECIAL : 0u);
    if (!s->n_token) return flags | GPTI_TOK_BOS;
    return gpti_tokenizer_is_special(&s->m->tok, s->token[s->n_token - 1]) ? flags : flags | GPTI_TOK_CONTINUE;
}

/* ---- Choices. Their tokens behind the first that differs from the prompt's own, tails, are sorted, so that equal
 * beginnings stand together, and computed one after the other without their last token: from where one differs from
 * the one before it. A row's logits score all tails that go on from it. All this lies at the end of the room for the
 * text's tokens. ---- */

typedef struct gpti_tail { uint32_t index, n, bytes, at; } gpti_tail;   /* at: of the first of its n tokens */

/* Tokens at the beginning that two tails have in common */
static size_t gpti_tails_same(const gpti_tail *a, const gpti_tail *b, const gpt_token *token) {
    size_t k = 0;
    while (k < a->n && k < b->n && token[a->at + k] == token[b->at + k]) k++;
    return k;
}
static int gpti_tail_cmp(const void *a, const void *b, const void *ctx) {
    const gpti_tail *x = (const gpti_tail *)a, *y = (const gpti_tail *)b;
    const gpt_token *token = (const gpt_token *)ctx;
    const size_t i = gpti_tails_same(x, y, token);
    if (i < x->n && i < y->n) return token[x->at + i] < token[y->at + i] ? -1 : 1;
    return x->n != y->n ? (x->n < y->n ? -1 : 1) : x->index < y->index ? -1 : 1;
}

/* The logits in front of token next of the text score that token of the tail under way, and of all behind it that
 * begin alike. */
static void gpti_choices_score(gpt_session *s, const float *logits, size_t next) {
    const gpti_choices *c = &s->choices;
    const gpti_total total = gpti_log_sum(logits, s->m->hp.n_vocab);
    const size_t d = next - s->base, now = c->at - 1;
    size_t i;
    for (i = now; i < c->n && gpti_tails_same(&c->tail[now], &c->tail[i], c->token) >= d; i++)
        if (d < c->tail[i].n)
            c->score[c->tail[i].at + d] = (float)gpti_log_p(total, logits[c->token[c->tail[i].at + d]]);
}

/* The text is as before. */
static void gpti_choices_end(gpt_session *s) {
    gpti_choices *c = &s->choices;
    const size_t to = gpti_held_before(s, c->base);
    s->last_logits = NULL;                      /* rows of choices leave none */
    if (to < s->n_past) gpti_go_back(s, to);
    s->n_token = s->n_committed = c->base;
    if (s->n_past == c->base && c->last) { s->last_logits = c->last; s->lent = c->lent; }
    memset(c, 0, sizeof *c);
}

/* All are scored: sums in the order of the tokens, then what the caller wants of them. */
static void gpti_choices_sum(gpt_session *s) {
    gpti_choices *c = &s->choices;
    size_t i, j, best = 0;
    double top = -INFINITY, sum = 0;
    for (i = 0; i < c->n; i++) {
        const gpti_tail *t = &c->tail[i];
        double p = 0;
        for (j = 0; j < t->n; j++) p += c->score[t->at + j];
        if (c->params.per_byte) p /= t->bytes;
        if (p > top || (p >= top && t->index < best)) { top = p; best = t->index; }
        c->score[t->at] = (float)p;
    }
    for (j = 0; j < 2; j++) for (i = 0; i < c->n; i++) {        /* where none has a probability: all the same */
        const float p = c->score[c->tail[i].at], share = p >= (float)top ? 1.0f : gpti_exp(p - (float)top);
        if (!j) sum += share;
        else if (c->out) c->out[c->tail[i].index] = c->params.softmax ? (float)(share / sum) : p;
    }
    if (c->best) *c->best = best;
}

/* Go on to the next tail that has something to compute; behind the last one it is over. */
static void gpti_choices_next(gpt_session *s) {
    gpti_choices *c = &s->choices;
    for (; c->at < c->n; c->at++) {
        const gpti_tail *t = &c->tail[c->at];
        const size_t keep = s->base + (c->at ? gpti_tails_same(t - 1, t, c->token) : 0);
        const int ready = !c->at && s->n_past == s->base && s->base == c->base && c->last && !c->lent;
        size_t to = gpti_held_before(s, c->at || ready || s->n_past < s->base ? keep : keep - 1);
        memcpy(s->token + s->base, c->token + t->at, t->n * sizeof *c->token);
        s->n_token = s->base + t->n - 1;
        if (to < s->n_past) {
            if (gpti_can_repeat(s, to, s->base, NULL)) { gpti_give_up(s, GPT_E_STATE); return; }
            gpti_go_back(s, to);
        }
        if (ready) { c->at = 1; gpti_choices_score(s, c->last, s->base); c->at = 0; }
        if (s->n_past < s->n_token) { c->at++; return; }
    }
    gpti_choices_sum(s);
    gpti_choices_end(s);
    s->doing = GPTI_IDLE; s->result = GPT_OK;
}

/* The tails are cut and stored; text begins with the prompt and has room for any choice behind it, ids and id are
 * [n_ctx]. Two rounds: how many tokens there are, then the tokens. Nothing has changed if it fails. */
static gpt_result gpti_choices_set(gpt_session *s, char *text, size_t n_prompt, const char *const *choice, size_t n,
                                   gpt_token *ids, gpt_token *id, const gpt_choose_params *params, gpt_error *err) {
    const gpti_tokenizer *t = &s->m->tok;
    const size_t text_end = s->n_token;
    const unsigned flags = gpti_prompt_flags(s, params->special);
    size_t room = gpti_n_free(s), first, n_id, i, k, same, all = 0, at = 0, longest = 0;
    gpti_choices c;
    int round;
    memset(&c, 0, sizeof c);
    GPTI_TRY(gpti_tokenizer_encode(t, text, n_prompt, flags, ids, s->n_ctx, &first, NULL, 0, &s->m->mem, err));
    if (first > room) return gpti_fail(err, GPT_E_CONTEXT,
        "the prompt's %llu tokens do not fit: %llu of a context of %llu are free", (gpti_ull)first, (gpti_ull)room,
        (gpti_ull)s->n_ctx);
    same = first;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < n; i++) {
            const size_t bytes = strlen(choice[i]);
            memcpy(text + n_prompt, choice[i], bytes);
            GPTI_TRY(gpti_tokenizer_encode(t, text, n_prompt + bytes, flags, id, s->n_ctx, &n_id, NULL, 0, &s->m->mem,
                err));
            if (round) {
                gpti_tail *tail = &c.tail[i];
                tail->index = (uint32_t)i; tail->n = (uint32_t)(n_id - same); tail->bytes = (uint32_t)bytes;
                tail->at = (uint32_t)at;
                memcpy(c.token + at, id + same, tail->n * sizeof *id);
                at += tail->n;
                continue;
            }
            for (k = 0; k < same && k < n_id && ids[k] == id[k]; k++) {}
            same = gpti_min(k, n_id - (k == n_id && k));        /* each has a token of its own */
            if (!n_id || n_id > s->n_ctx) return gpti_fail(err, n_id ? GPT_E_CONTEXT : GPT_E_ARG,
                "choice[%llu] has %llu tokens with the prompt, expected 1 to %llu", (gpti_ull)i, (gpti_ull)n_id,
                (gpti_ull)s->n_ctx);
            longest = gpti_max(longest, n_id);
            all += n_id;
        }
        if (round) break;
        all -= n * same;
        if (!same && text_end) room = gpti_min(room, gpti_most_tokens(s, text_end - 1) - text_end);
        k = 4 * n + 2 * all;
        if (longest > room || k > s->n_ctx - text_end - longest) return gpti_fail(err, GPT_E_CONTEXT,
            "%llu choices of %llu tokens in all, with the prompt %llu at most: they take %llu of the context, %llu "
            "are free", (gpti_ull)n, (gpti_ull)all, (gpti_ull)longest, (gpti_ull)(longest + k), (gpti_ull)room);
        if (text_end + same == 0) return gpti_fail(err, GPT_E_ARG,
            "choose: the first token of a text has no probability: a prompt, or a text, must come before");
        c.tail = (gpti_tail *)(void *)(s->token + (s->n_ctx - k));
        c.token = (gpt_token *)(void *)(c.tail + n);
        c.score = (float *)(void *)(c.token + all);
    }
    c.n = n; c.base = text_end; c.params = *params;
    if (s->n_past == s->n_token && !gpti_is_here(s->w, s->last_logits)) c.last = s->last_logits;
    c.lent = s->lent;
    gpti_sort(c.tail, n, sizeof *c.tail, gpti_tail_cmp, c.token);
    memcpy(s->token + text_end, ids, same * sizeof *ids);
    s->base = text_end + same;
    s->choices = c;
    return GPT_OK;
}

static gpt_result gpti_choices_begin(gpt_session *s, const char *prompt, const char *const *choice, size_t n,
                                     const gpt_choose_params *params, float *out, size_t *best, gpt_error *err) {
    const gpti_mem *mem = &s->m->mem;
    gpt_choose_params none;
    size_t i, k, n_prompt, longest = 0;
    gpt_token *ids;
    char *text;
    gpt_result r;
    memset(&none, 0, sizeof none);
    if (!prompt) prompt = "";
    n_prompt = strlen(prompt);
    if (!choice || !n || n > s->n_ctx) return gpti_fail(err, GPT_E_ARG, "choose: %llu choices, expected 1 to %llu",
        (gpti_ull)(choice ? n : 0), (gpti_ull)s->n_ctx);
    for (i = 0; i < n; i++) {
        k = choice[i] ? strlen(choice[i]) : 0;
        if (!k) return gpti_fail(err, GPT_E_ARG, "choice[%llu] is empty", (gpti_ull)i);
        longest = gpti_max(longest, k);
    }
    if (n_prompt > 0x7fffffff || longest > 0x7fffffff - n_prompt)
        return gpti_fail(err, GPT_E_ARG, "choose: the prompt with a choice is longer than 2^31 - 1 bytes");
    GPTI_TRY(gpti_check_whole(s, 0, 1, err));
    GPTI_TRY(gpti_is_lost(s, err));
    text = (char *)gpti_alloc(mem, n_prompt + longest);
    ids = (gpt_token *)gpti_alloc(mem, 2 * (size_t)s->n_ctx * sizeof *ids);
    if (text && ids) {
        memcpy(text, prompt, n_prompt);
        r = gpti_choices_set(s, text, n_prompt, choice, n, ids, ids + s->n_ctx, params ? params : &none, err);
    } else r = gpti_fail(err, GPT_E_MEMORY, "choose: out of memory for %llu tokens", (gpti_ull)s->n_ctx);
    gpti_free(mem, ids);
    gpti_free(mem, text);
    if (r) return r;
    s->choices.out = out; s->choices.best = best;
    s->logits_wanted = GPTI_LOGITS_SCORE; s->from = s->n_past;
    s->doing = GPTI_EVALUATES; s->result = GPT_MORE;
    memset(&s->out, 0, sizeof s->out);
    gpti_take_turn(s->w, s, 1);
    gpti_choices_next(s);
    return s->result < 0 ? gpti_fail(err, s->result, "choose: vectors of the text would have to be computed again")
        : GPT_OK;
}

GPT_API gpt_result gpt_choose_begin(gpt_session *s, const char *prompt, const char *const *choice, size_t n,
                                    const gpt_choose_params *params, float *out, size_t *best, gpt_error *err) {
    GPTI_TRY(gpti_enter(s, "gpt_choose_begin", GPTI_IDLE, err));
    return gpti_leave(s, gpti_choices_begin(s, prompt, choice, n, params, out, best, err));
}

GPT_API gpt_result gpt_choose(gpt_session *s, const char *prompt, const char *const *choice, size_t n,
                              const gpt_choose_params *params, float *out, size_t *best, gpt_error *err) {
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_choose", GPTI_IDLE, err));
    r = gpti_choices_begin(s, prompt, choice, n, params, out, best, err);
    return gpti_leave(s, r ? r : gpti_run(s, err));
}

GPT_API float *gpt_logits(gpt_session *s) {
    if (!s || !s->logits || s->n_past != s->n_token || !s->last_logits) return NULL;
    if (!s->w) return s->last_logits;           /* frozen: to be read alone */
    if (s->last_logits != s->logits)            /* the prefix's */
        memcpy(s->logits, s->last_logits, s->m->hp.n_vocab * sizeof *s->logits);
    s->last_logits = s->logits;
    s->lent = 1;                                /* the host may change them */
    return s->logits;
}

GPT_API gpt_result gpt_session_freeze(gpt_session *s, gpt_error *err) {
    gpt_work *w;
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_session_freeze", GPTI_IDLE, err));
    w = s->w;
    if (s->changed)
        return gpti_leave(s, gpti_fail(err, GPT_E_STATE, "gpt_session_freeze: a trace hook has changed the text"));
    r = gpti_eval(s, NULL, 0, NULL, err);
    if (!r) r = gpti_run(s, err);
    if (!r && s->lent && s->last_logits) {      /* the host may have changed them */
        s->last_logits = NULL;
        r = gpti_eval(s, NULL, 0, NULL, err);
        if (!r) r = gpti_run(s, err);
    }
    if (!r) {
        if (!s->logits && (!s->params.prefix || s->last_logits != s->params.prefix->last_logits)) s->last_logits = NULL;
        gpti_take_turn(w, s, 0);
        s->w = NULL;
    }
    return gpti_leave_work(w, r);
}

GPT_API gpt_result gpt_session_copy(gpt_session *s, const gpt_session *src, size_t n, gpt_error *err) {
    const gpt_session *o;
    size_t i, same, done;
    gpt_result r = GPT_OK;
    GPTI_TRY(gpti_enter(s, "gpt_session_copy", GPTI_IDLE, err));
    if (!src) r = gpti_fail(err, GPT_E_ARG, "gpt_session_copy: src must not be NULL");
    else r = gpti_same_kind(s, src, "gpt_session_copy: the text", err);
    if (r || s == src) return gpti_leave(s, r ? r : n < s->n_token ? gpti_rewind(s, n, err) : GPT_OK);
    n = gpti_min(n, gpti_text_end(src));
    done = gpti_min(n, src->n_past);
    done = gpti_held_before(src, done);         /* its window has gone on: to be computed again */
    for (same = 0; same < gpti_min(n, s->n_past) && s->token[same] == src->token[same]; same++) {}
    same = gpti_held_before(s, same);
    if (gpti_most_tokens(s, same) < n)
        return gpti_leave(s, gpti_fail(err, GPT_E_CONTEXT, "gpt_session_copy: %llu tokens do not fit: at most %llu",
                                       (gpti_ull)n, (gpti_ull)gpti_most_tokens(s, same)));
    r = gpti_can_repeat(src, gpti_max(done, same), n, err);
    if (r) return gpti_leave(s, r);
    gpti_rewind(s, same, NULL);
    if (s->lent) s->last_logits = NULL;         /* the host may have changed them */
    o = gpti_origin(src, done);
    for (i = 0; done > same && i < s->m->hp.n_layer; i++) {
        const size_t cap = s->cache[i].cap, end = (done + 15) & ~(size_t)15;
        size_t from = same & ~(size_t)15;
        if (s->m->layer[i].window) {            /* as much as both hold */
            if (end > s->origin + cap) from = gpti_max(from, end - cap);
            from = gpti_max(from, gpti_held_since(o, i));
            if (from > same) s->kept_from = gpti_max(s->kept_from, from);
        }
        gpti_copy_cache(s, o, i, from, done);
    }
    for (i = done; s->n_state && i > same; i = gpti_state_before(src, i - 1)) {     /* older ones where there is room */
        const size_t to = gpti_state_least(s);
        if (i < done && s->state_of[to] != SIZE_MAX) break;
        memcpy(s->state + to * s->m->hp.n_state, gpti_state_find(src, i), s->m->hp.n_state * sizeof *s->state);
        s->state_of[to] = i;
    }
    if (done > same) s->state_kept = src->state_kept;
    memcpy(s->token + same, src->token + same, (n - same) * sizeof *s->token);
    if (done > same) { s->n_past = done; s->last_logits = NULL; s->changed |= src->changed; }
    s->n_written = gpti_max(s->n_written, s->n_past);
    s->n_token = s->n_committed = n; s->from = s->n_past;
    s->n_dropped = src->n_dropped; s->n_cut = src->n_cut; s->cut_digest = src->cut_digest;
    memset(&s->gen->stream, 0, sizeof s->gen->stream);
    if (s->logits && n == s->n_past && n == src->n_past && src->last_logits && !src->lent && !s->last_logits) {
        memcpy(s->logits, src->last_logits, s->m->hp.n_vocab * sizeof *s->logits);
        s->last_logits = s->logits;
    }
    return gpti_leave(s, r);
}

GPTI_COLD_END

/* ======================================================================
 * [CONSTRAINT] What a text may be: grammars, schemas, patterns, lists
 * ====================================================================
 * All become one kind of network: nodes in an array, of which the next one follows unless a node says otherwise. Some
 * read a byte (or stand for a control token, whose name is never read as bytes), the others lead on: choices, calls of
 * rules, loops. The state of a text is the set of all places that it may have come to: a node and what comes behind
 * its rule, a chain of frames. Equal chains are one, so readings that meet again are one state, and the set stays
 * small whatever the text. Counts of {m,n} lie in the frames, nothing is written out as copies.
 *
 * For each node it is known how many tokens and frames the shortest way to the end of its rule takes, and each frame
 * holds the sum of what follows it. So a place that could only end too late, or deeper than the session has room for,
 * is never entered: a text that is taken so far can always be ended.
 *
 * Written JSON has no white space in front of ',' and ':', elsewhere between tokens nothing, one space or a line end
 * with at most 20 blanks; numbers have at most 15 digits on each side of the point, exponents two. Within bounds
 * (minimum ...) a number has at most 17 digits and no exponent, of them behind the point as many as the bounds, at
 * least 6. Names and values that a schema spells (properties, const, enum, pattern) are taken as JSON spells them
 * shortest, without escapes that need not be. An integer is written without a point: 7.0 is none. Tuples have
 * all their items, no others unless something is said of these. Without "type" a schema is of the types that its
 * keywords speak of: properties means an object. */

static uint64_t gpti_mix64(uint64_t z);         /* [SAMPLING] */

/* Knuth, Morris & Pratt 1977: k bytes of a text were matched, b comes */
static size_t gpti_word_next(const unsigned char *text, const unsigned char *border, size_t k, unsigned char b) {
    while (k > 0 && text[k] != b) k = border[k - 1];
    return k + (text[k] == b);
}
static void gpti_word_border(const unsigned char *text, unsigned char *border, size_t n) {
    size_t k;
    for (border[0] = 0, k = 1; k < n; k++) border[k] = (unsigned char)gpti_word_next(text, border, border[k - 1],
        text[k]);
}
static void gpti_word_set(gpti_word *w, const char *text, size_t n) {
    w->len = (uint16_t)(n < sizeof w->text ? n : sizeof w->text);
    memcpy(w->text, text, w->len);
    gpti_word_border(w->text, w->border, w->len);
}

enum {
    GPTI_C_FAIL, GPTI_C_JUMP, GPTI_C_ALT, GPTI_C_CALL, GPTI_C_TAIL, GPTI_C_RET, GPTI_C_ENTER, GPTI_C_LOOP,
    GPTI_C_LAX,             /* white space that only gpt_constraint_check takes */
    GPTI_C_BYTE, GPTI_C_CLASS, GPTI_C_TOKEN, GPTI_C_NUM, GPTI_C_WS, GPTI_C_END,    /* from here on: they are states */
    GPTI_C_NODES = 1 << 20, /* nodes, bytes of text, numbers of sets at most */
    GPTI_C_SETS = 1 << 22, GPTI_C_LOOKS = 1 << 26,
    GPTI_C_PLAIN = 4        /* classes in loops whose tokens are known beforehand */
};
#define GPTI_NONE UINT32_MAX
#define GPTI_C_FAR ((uint32_t)1 << 28)  /* no way to the end */

typedef struct gpti_loop { uint32_t min, max, end; int lax; } gpti_loop;    /* max GPTI_NONE: no end; end: behind it */
typedef struct gpti_bounds { int64_t low, high; int scale, n_int; } gpti_bounds;   /* times 10^scale; digits */

struct gpt_constraint {
    gpti_mem         mem;
    const gpt_model *m;
    gpti_node       *node;
    uint32_t        *cost, *need;       /* [n_node] tokens and frames of the shortest way to the end of its rule */
    gpti_loop       *loop;
    gpti_bounds     *num;
    uint32_t        *set;               /* a set: 128 bits of ASCII, n, n times first and last code point */
    size_t           n_node, n_loop, n_num, n_set, root;
    gpti_word        trigger;
    gpt_token        trigger_token;     /* a control token of that name, or -1 */
    uint64_t         digest;            /* of what it was made of */
    /* sets; tokens all of whose characters they have */
    uint32_t         plain[GPTI_C_PLAIN], *plain_bits[GPTI_C_PLAIN];
    int              n_plain;
};

static const uint64_t gpti_pow10[19] = { 1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u,
    1000000000u, 10000000000u, 100000000000u, 1000000000000u, 10000000000000u, 100000000000000u, 1000000000000000u,
    10000000000000000u, 100000000000000000u, 1000000000000000000u };

/* ---- Bytes ---- */

static int gpti_set_meets(const uint32_t *set, uint32_t low, uint32_t high) {
    const uint32_t *pair = set + 5;
    size_t a = 0, b = set[4];
    while (a < b) {
        const size_t i = a + (b - a) / 2;
        if (pair[2 * i + 1] < low) a = i + 1; else b = i;
    }
    return a < set[4] && pair[2 * a] <= high;
}

/* Byte b of a character. *part: 0, or its bits so far, the bytes to come << 24, all its bytes << 28. 0: not in the set,
 * 1: it may become one that is, 2: it is one. */
static int gpti_set_byte(const uint32_t *set, uint64_t *part, unsigned b) {
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t cp, left, len, low, high;
    if (!*part) {
        if (b < 0x80) return set[b >> 5] >> (b & 31) & 1 ? 2 : 0;
        if (b < 0xC2 || b > 0xF4) return 0;
        len = 2u + (b >= 0xE0) + (b >= 0xF0); left = len - 1; cp = b & 0xFFu >> (len + 1);
    } else {
        if ((b & 0xC0) != 0x80) return 0;
        left = (uint32_t)(*part >> 24 & 7) - 1; len = (uint32_t)(*part >> 28);
        cp = (uint32_t)(*part & 0xFFFFFF) << 6 | (b & 63);
    }
    low = cp << 6 * left; high = low | ((1u << 6 * left) - 1);
    if (high < least[len] || !gpti_set_meets(set, low > least[len] ? low : least[len], high)) return 0;
    *part = left ? cp | left << 24 | (uint64_t)len << 28 : 0;
    return left ? 1 : 2;
}

static uint32_t gpti_set_bytes(const uint32_t *set) {   /* of its shortest character */
    return !set[4] ? GPTI_C_FAR : 1u + (set[5] >= 0x80) + (set[5] >= 0x800) + (set[5] >= 0x10000);
}

/* A number within bounds: its digits so far, its sign << 63, and << 58 the digits behind its point if that has been
 * read, else one of these. */
enum { GPTI_NUM_WHOLE = 29, GPTI_NUM_SIGN = 30, GPTI_NUM_BEGIN = 31 };
#define GPTI_NUM_FIRST ((uint64_t)GPTI_NUM_BEGIN << 58)
#define GPTI_NUM_MOST ((int64_t)1000000000 * 100000000 - 1)     /* 17 digits */

/* The fewest bytes that complete it, `all` 2: if it has some more; 0: any number of them. GPTI_C_FAR: none do. */
static uint32_t gpti_num_left(const gpti_bounds *k, uint64_t part, int all) {
    const int code = (int)(part >> 58 & 31), negative = (int)(part >> 63);
    const uint64_t digits = part & (((uint64_t)1 << 58) - 1);
    const int point = code < GPTI_NUM_WHOLE, f = point ? code : 0;
    uint64_t a = k->low > 0 ? (uint64_t)k->low : 0, b = (uint64_t)k->high;
    uint32_t best = GPTI_C_FAR, n;
    int j, g, n_digit = 0;
    if (code == GPTI_NUM_BEGIN) {
        best = gpti_num_left(k, (uint64_t)GPTI_NUM_SIGN << 58, all);
        n = 1 + gpti_num_left(k, (uint64_t)1 << 63 | (uint64_t)GPTI_NUM_SIGN << 58, all);
        return n < best ? n : best;
    }
    if (negative ? k->low >= 0 : k->high < 0) return best;
    if (negative) { a = k->high < 0 ? 0 - (uint64_t)k->high : 1; b = 0 - (uint64_t)k->low; }
    while (n_digit < 18 && digits >= gpti_pow10[n_digit]) n_digit++;
    if (code == GPTI_NUM_WHOLE && !digits) n_digit = k->n_int;         /* no digit behind a leading 0 */
    for (j = code == GPTI_NUM_SIGN; j == 0 || (!point && j + n_digit <= k->n_int); j++) {
        uint64_t low = digits * gpti_pow10[j], high = (digits + 1) * gpti_pow10[j] - 1;
        if (code == GPTI_NUM_SIGN) { low = j == 1 ? 0 : gpti_pow10[j - 1]; high = gpti_pow10[j] - 1; }
        for (g = all ? (point && !f) : k->scale - f; g <= k->scale - f; g++) {     /* more digits behind the point */
            const uint64_t unit = gpti_pow10[k->scale - f - g], from = low * gpti_pow10[g];
            const uint64_t to = high * gpti_pow10[g] + gpti_pow10[g] - 1, first = a / unit + (a % unit != 0);
            n = (uint32_t)(j + g + (g && !point));
            if (from <= b / unit && first <= to && first <= b / unit && n < best && (n || all < 2)) best = n;
        }
    }
    return best;
}

/* As gpti_set_byte; 3: it is whole, and may go on. lax: digits that are too many behind the point change nothing,
 * nor do those in front of it where there is no bound. */
static int gpti_num_byte(const gpti_bounds *k, uint64_t *part, unsigned b, int lax) {
    const int code = (int)(*part >> 58 & 31);
    const uint64_t sign = *part >> 63 << 63, digits = *part & (((uint64_t)1 << 58) - 1);
    if (lax && code && code == k->scale && b >= '0' && b <= '9')
        return b == '0' || digits < (sign ? 0 - (uint64_t)k->low : (uint64_t)k->high) ? 3 : 0;
    if (lax && code == GPTI_NUM_WHOLE && b >= '0' && b <= '9' && digits >= gpti_pow10[k->n_int - 1] &&
        (sign ? k->low == -GPTI_NUM_MOST : k->high == GPTI_NUM_MOST)) return gpti_num_left(k, *part, 1) ? 1 : 3;
    if (b == '-') {
        if (code != GPTI_NUM_BEGIN) return 0;
        *part = (uint64_t)1 << 63 | (uint64_t)GPTI_NUM_SIGN << 58;
    } else if (b == '.') {
        if (code != GPTI_NUM_WHOLE || !k->scale) return 0;
        *part = sign | digits;
    } else {
        if (b < '0' || b > '9' || (code == GPTI_NUM_WHOLE && (!digits || digits >= gpti_pow10[k->n_int - 1])) ||
            (code < GPTI_NUM_WHOLE && code >= k->scale)) return 0;
        *part = sign | (uint64_t)(code < GPTI_NUM_WHOLE ? code + 1 : GPTI_NUM_WHOLE) << 58 | (digits * 10 + (b - '0'));
    }
    if (gpti_num_left(k, *part, 0) == GPTI_C_FAR) return 0;
    return gpti_num_left(k, *part, 1) ? 1 : !lax && gpti_num_left(k, *part, 2) == GPTI_C_FAR ? 2 : 3;
}

/* Does the state take byte b? Bit 0: it stays where it is, with *part; bit 1: it goes on to the next node. */
static int gpti_match(const gpti_live *l, const gpti_state *st, unsigned b, uint64_t *part) {
    const gpti_node x = l->c->node[st->node];
    *part = st->part;
    switch (x.op) {
    case GPTI_C_BYTE: return x.b == b ? 2 : 0;
    case GPTI_C_CLASS: return gpti_set_byte(l->c->set + x.b, part, b);
    case GPTI_C_NUM: return gpti_num_byte(&l->c->num[x.b], part, b, l->lax);
    case GPTI_C_WS: case GPTI_C_LAX:
        if (l->lax) return b == ' ' || b == '\n' || b == '\t' || b == '\r' ? 3 : 0;
        if (!*part) { *part = 1; return b == '\n' ? 3 : b == ' ' ? 2 : 0; }
        return (b == ' ' || b == '\t') && *part <= 20 ? (++*part <= 20 ? 3 : 2) : 0;
    default: return 0;
    }
}

/* ---- Frames and states ---- */

static uint32_t gpti_far(uint64_t n) { return n < GPTI_C_FAR ? (uint32_t)n : GPTI_C_FAR; }

static uint32_t gpti_frame_slot(const gpti_live *l, uint32_t node, uint32_t count, uint32_t parent) {
    return (uint32_t)(gpti_mix64((uint64_t)node << 32 ^ (uint64_t)count << 20 ^ parent) & (l->n_bucket - 1));
}

/* The frame, made if there is none; GPTI_NONE: no room, or nothing may return there. */
static uint32_t gpti_frame_get(gpti_live *l, uint32_t node, uint32_t count, uint32_t parent, int *full) {
    const gpt_constraint *c = l->c;
    const gpti_frame *p = &l->frame[parent];
    const uint32_t slot = gpti_frame_slot(l, node, count, parent);
    uint32_t i, back = node, rest = 0, alike = count;
    gpti_frame *f;
    for (i = l->bucket[slot]; i != GPTI_NONE; i = l->frame[i].next)
        if (l->frame[i].node == node && l->frame[i].count == count && l->frame[i].parent == parent) return i;
    if (count != GPTI_NONE) {                   /* a loop's */
        const gpti_loop *o = &c->loop[c->node[node].b];
        back = o->end;
        if (o->min > count + 1) rest = gpti_far((uint64_t)(o->min - count - 1) * c->cost[node + 1]);
        /* counts that no token brings to a bound are alike */
        const uint32_t most = GPTI_TOKEN_LONG / (c->cost[node + 1] ? c->cost[node + 1] : 1) + 2;
        if (o->max - count > most && (count >= o->min || o->min - count > most)) alike = count >= o->min ? GPTI_NONE - 1
            : GPTI_NONE - 2;
    }
    if (p->depth + gpti_max(1, c->need[back]) > l->depth) return GPTI_NONE;
    if (l->n_frame == l->n_most) { *full = 1; return GPTI_NONE; }
    f = &l->frame[i = l->n_frame++];
    f->node = node; f->count = count; f->parent = parent; f->depth = p->depth + 1;
    f->cost = gpti_far((uint64_t)p->cost + c->cost[back] + rest);
    f->digest = gpti_mix64(p->digest * 31 + ((uint64_t)node << 32 | alike));
    f->next = l->bucket[slot]; l->bucket[slot] = i;
    return i;
}

/* The frames from n on go, last come first gone: each is the first of its bucket. */
static void gpti_frames_back(gpti_live *l, uint32_t n) {
    while (l->n_frame > n) {
        const gpti_frame *f = &l->frame[--l->n_frame];
        l->bucket[gpti_frame_slot(l, f->node, f->count, f->parent)] = f->next;
    }
}

/* Only the frames of the states stay; parents lie before their children. */
static void gpti_frames_compact(gpti_live *l) {
    uint32_t *to = l->bucket, i, n = 1;         /* as large as frame, and filled anew below */
    size_t k;
    for (i = 0; i < l->n_frame; i++) to[i] = 0;
    for (k = 0; k < l->now.n; k++) for (i = l->now.s[k].frame; i && !to[i]; i = l->frame[i].parent) to[i] = 1;
    for (i = 1; i < l->n_frame; i++) {
        if (!to[i]) continue;
        l->frame[n] = l->frame[i];
        l->frame[n].parent = to[l->frame[n].parent];
        to[i] = n++;
    }
    for (k = 0; k < l->now.n; k++) l->now.s[k].frame = to[l->now.s[k].frame];
    l->n_frame = n;
    for (i = 0; i < l->n_bucket; i++) l->bucket[i] = GPTI_NONE;
    for (i = 1; i < n; i++) {
        const uint32_t slot = gpti_frame_slot(l, l->frame[i].node, l->frame[i].count, l->frame[i].parent);
        l->frame[i].next = l->bucket[slot]; l->bucket[slot] = i;
    }
}

static int gpti_seen_before(gpti_try *t, uint32_t node, uint32_t frame, uint64_t part, int *full) {
    uint32_t i = (uint32_t)gpti_mix64((uint64_t)node << 32 ^ frame ^ part * 0x9E3779B97F4A7C15u) % GPTI_SEEN;
    for (; t->seen[i].stamp == t->stamp; i = (i + 1) % GPTI_SEEN)
        if (t->seen[i].node == node && t->seen[i].frame == frame && t->seen[i].part == part) return 1;
    if (t->n_seen++ > GPTI_SEEN * 3 / 4) { *full = 1; return 1; }
    t->seen[i].node = node; t->seen[i].frame = frame; t->seen[i].part = part; t->seen[i].stamp = t->stamp;
    return 0;
}

static void gpti_state_add(gpti_try *t, gpti_states *out, uint32_t node, uint32_t frame, uint64_t part) {
    gpti_state *st = &out->s[out->n];
    if (gpti_seen_before(t, node, frame, part, &out->full)) return;
    if (out->n == GPTI_STATES) { out->full = 1; return; }
    st->node = node; st->frame = frame; st->part = part;
    out->n++;
}

/* All states that node leads to without reading. */
static void gpti_close(gpti_live *l, gpti_try *t, gpti_states *out, uint32_t node, uint32_t frame) {
    const gpt_constraint *c = l->c;
    size_t n = 0;
    t->stack[n][0] = node; t->stack[n++][1] = frame;
    while (n && !out->full) {
        node = t->stack[--n][0]; frame = t->stack[n][1];
        while (frame != GPTI_NONE && l->frame[frame].depth + c->need[node] <= l->depth) {
            const gpti_node x = c->node[node];
            const gpti_frame *f = &l->frame[frame];
            if (n + 2 > sizeof t->stack / sizeof *t->stack) { out->full = 1; break; }
            if (x.op == GPTI_C_JUMP || x.op == GPTI_C_TAIL) { node = x.b; continue; }
            if (x.op == GPTI_C_RET) { node = f->node; frame = f->parent; continue; }
            if (x.op == GPTI_C_LAX && !l->lax) { node++; continue; }
            if (x.op >= GPTI_C_LAX) {
                gpti_state_add(t, out, node, frame, x.op == GPTI_C_NUM ? GPTI_NUM_FIRST : 0);
                if (x.op != GPTI_C_WS && x.op != GPTI_C_LAX) break;
                node++;
                continue;
            }
            if (gpti_seen_before(t, node, frame, 0, &out->full)) break;
            if (x.op == GPTI_C_ALT) { t->stack[n][0] = x.b; t->stack[n++][1] = frame; node++; continue; }
            if (x.op == GPTI_C_CALL) { frame = gpti_frame_get(l, node + 1, GPTI_NONE, frame, &out->full); node = x.b;
                continue; }
            if (x.op == GPTI_C_ENTER) {
                const gpti_loop *o = &c->loop[x.b];
                if (!o->min) { t->stack[n][0] = o->end; t->stack[n++][1] = frame; }
                frame = o->max ? gpti_frame_get(l, node, 0, frame, &out->full) : GPTI_NONE;
                node++;
                continue;
            }
            if (x.op == GPTI_C_LOOP) {          /* the end of a round: f is the loop's */
                const gpti_loop *o = &c->loop[c->node[x.b].b];
                const uint32_t max = l->lax && o->lax ? GPTI_NONE : o->max, count = f->count + 1;
                if (count >= o->min) { t->stack[n][0] = node + 1; t->stack[n++][1] = f->parent; }
                if (count >= max) break;
                frame = gpti_frame_get(l, x.b, max == GPTI_NONE && count > o->min ? o->min : count, f->parent,
                    &out->full);
                node = x.b + 1;
                continue;
            }
            break;                              /* GPTI_C_FAIL */
        }
    }
}

static void gpti_states_begin(gpti_try *t, gpti_states *out) {
    out->n = 0; out->full = 0; t->n_seen = 0;
    if (!++t->stamp) { memset(t->seen, 0, sizeof t->seen); t->stamp = 1; }
}

/* The states behind byte b; 0: it is refused, which a set that does not fit is too. */
static int gpti_con_step(gpti_live *l, gpti_try *t, const gpti_states *in, gpti_states *out, unsigned b) {
    uint64_t part;
    size_t i;
    int r;
    gpti_states_begin(t, out);
    for (i = 0; i < in->n; i++) {
        const gpti_state *st = &in->s[i];
        if ((r = gpti_match(l, st, b, &part)) == 0) continue;
        if (r & 1) gpti_state_add(t, out, st->node, st->frame, part);
        if (r & 2) gpti_close(l, t, out, st->node + 1, st->frame);
    }
    return out->n && !out->full;
}

static int gpti_step_token(gpti_live *l, gpti_try *t, const gpti_states *in, gpti_states *out, gpt_token id) {
    size_t i;
    gpti_states_begin(t, out);
    for (i = 0; i < in->n; i++)
        if (l->c->node[in->s[i].node].op == GPTI_C_TOKEN && l->c->node[in->s[i].node].b == (uint32_t)id)
            gpti_close(l, t, out, in->s[i].node + 1, in->s[i].frame);
    return out->n && !out->full;
}

/* The states behind these bytes, in one of t's sets (or in itself, n 0); NULL: refused. Frames that this makes stay. */
static const gpti_states *gpti_steps(gpti_live *l, gpti_try *t, const gpti_states *in, const char *p, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        gpti_states *out = in == &t->set[0] ? &t->set[1] : &t->set[0];
        if (!gpti_con_step(l, t, in, out, (unsigned char)p[i])) return NULL;
        in = out;
    }
    return in;
}

/* Fewest tokens to the end */
static uint32_t gpti_states_cost(const gpti_live *l, const gpti_states *in) {
    const gpt_constraint *c = l->c;
    uint32_t best = GPTI_C_FAR, n;
    size_t i;
    for (i = 0; i < in->n; i++) {
        const gpti_state *st = &in->s[i];
        const gpti_node x = c->node[st->node];
        n = c->cost[st->node];
        if (x.op == GPTI_C_NUM) n = gpti_num_left(&c->num[x.b], st->part, 1) + c->cost[st->node + 1];
        if (x.op == GPTI_C_CLASS && st->part) n = (uint32_t)(st->part >> 24 & 7) + c->cost[st->node + 1];
        n = gpti_far((uint64_t)n + l->frame[st->frame].cost);
        if (n < best) best = n;
    }
    return best;
}

/* 1: the text may end here, 2: it must */
static int gpti_states_end(const gpti_live *l, const gpti_states *in) {
    size_t i, n = 0;
    for (i = 0; i < in->n; i++) n += l->c->node[in->s[i].node].op == GPTI_C_END;
    return n ? n == in->n ? 2 : 1 : 0;
}

/* The bytes that may come next, a bit each. */
static void gpti_states_first(const gpti_live *l, const gpti_states *in, uint32_t bits[8]) {
    uint64_t part;
    size_t i;
    unsigned b;
    memset(bits, 0, 8 * sizeof *bits);
    for (i = 0; i < in->n; i++) {
        const gpti_state *st = &in->s[i];
        const gpti_node x = l->c->node[st->node];
        if (x.op == GPTI_C_BYTE) { bits[x.b >> 5] |= 1u << (x.b & 31); continue; }
        if (x.op == GPTI_C_TOKEN || x.op == GPTI_C_END) continue;
        if (x.op == GPTI_C_CLASS && !st->part) for (b = 0; b < 4; b++) bits[b] |= l->c->set[x.b + b];
        for (b = x.op == GPTI_C_CLASS ? 0x80 : 0; b < (x.op == GPTI_C_CLASS ? 0xF5u : 0x80u); b++)
            if (gpti_match(l, st, b, &part)) bits[b >> 5] |= 1u << (b & 31);
    }
}

static void gpti_live_begin(gpti_live *l, gpti_try *t, const gpt_constraint *c) {
    gpti_states_begin(t, &l->now);
    l->c = c; l->n_frame = 1;
    memset(&l->frame[0], 0, sizeof l->frame[0]);
    memset(l->bucket, 0xFF, l->n_bucket * sizeof *l->bucket);
    gpti_close(l, t, &l->now, (uint32_t)c->root, 0);
}

static void gpti_live_take(gpti_live *l, const gpti_states *now) {
    l->now.n = now->n;
    memcpy(l->now.s, now->s, now->n * sizeof *now->s);
    if (l->n_frame > l->n_most / 2) gpti_frames_compact(l);
}

GPTI_SMALL
/* ---- Compiling: networks ---- */

typedef struct gpti_rule { gpti_str name; uint32_t entry, node; } gpti_rule;    /* node: of a schema, the value it is */
typedef struct gpti_group { uint32_t slot, alt, jumps; const char *at; } gpti_group;
typedef struct gpti_jvalue { char kind; uint32_t parent, child, next, at, rule; gpti_str key, text; } gpti_jvalue;
typedef struct gpti_prop { gpti_str key; uint32_t value; int required; } gpti_prop;

typedef struct gpti_build {
    gpt_constraint *c;
    const gpti_mem *mem;
    gpt_error  *err;
    gpt_result  fail;               /* the first failure sticks */
    const char *begin, *p, *end;    /* the text at hand */
    int         json;               /* it is the grammar of JSON itself */
    size_t      cap_node, cap_loop, cap_num, cap_set, cap_rule, cap_group, cap_pair, cap_value, cap_prop;
    gpti_rule  *rule;
    gpti_group *group;
    uint32_t  (*pair)[2];           /* of the class being read */
    gpti_jvalue *value;              /* of the schema */
    gpti_prop  *prop;
    size_t      n_rule, n_group, n_pair, n_value, n_prop, looks;
    uint32_t    all;                /* the set of what a string of JSON holds without escapes, */
    size_t      n_all;              /* and its words, once it is there */
    uint32_t    here;               /* the value being compiled, for messages */
    const char *what;
} gpti_build;

static int gpti_bad(gpti_build *b, gpt_result code, const char *what, gpti_str name, const char *why) {
    char show[GPTI_SHOWN];
    if (!b->fail) b->fail = gpti_fail(b->err, code, "%s%s: %s", what, gpti_show(show, name), why);
    return 0;
}

/* Room for one more in one of the arrays above; 0: there is none */
#define GPTI_MORE(b, array, n, cap) \
    ((b)->fail == GPT_OK && gpti_more(b, &(array), n, &(cap), sizeof *(array)))
static int gpti_more(gpti_build *b, void *array, size_t n, size_t *cap, size_t size) {
    const gpti_str none = { "", 0 };
    void *p = NULL;
    memcpy(&p, array, sizeof p);                        /* array: where a pointer of any kind lies */
    p = n < GPTI_C_SETS ? gpti_grow(p, n, cap, size, b->mem) : NULL;
    if (!p) return gpti_bad(b, GPT_E_MEMORY, "constraint", none, "out of memory, or too large");
    memcpy(array, &p, sizeof p);
    return 1;
}

static uint32_t gpti_emit(gpti_build *b, int op, uint32_t arg) {
    gpt_constraint *c = b->c;
    const gpti_str none = { "", 0 };
    if (c->n_node >= GPTI_C_NODES) gpti_bad(b, GPT_E_UNSUPPORTED, "constraint", none, "more than 2^20 nodes");
    if (!GPTI_MORE(b, c->node, c->n_node, b->cap_node)) return 0;
    memset(&c->node[c->n_node], 0, sizeof *c->node);
    c->node[c->n_node].op = (uint8_t)op; c->node[c->n_node].b = arg;
    return (uint32_t)c->n_node++;
}
static uint32_t gpti_here(const gpti_build *b) { return (uint32_t)b->c->n_node; }
static void gpti_aim(gpti_build *b, uint32_t node, uint32_t to) { if (!b->fail) b->c->node[node].b = to; }
static uint32_t gpti_emit_slot(gpti_build *b) {         /* a node that may become a choice or a loop later */
    return gpti_emit(b, GPTI_C_JUMP, gpti_here(b) + 1);
}
/* A list of jumps, each naming the one before, to a place that is not known yet */
static void gpti_emit_jump(gpti_build *b, uint32_t *jumps) { *jumps = gpti_emit(b, GPTI_C_JUMP, *jumps); }
static void gpti_land(gpti_build *b, uint32_t jumps) {
    while (!b->fail && jumps != GPTI_NONE) {
        const uint32_t next = b->c->node[jumps].b;
        b->c->node[jumps].b = gpti_here(b);
        jumps = next;
    }
}
static void gpti_emit_bytes(gpti_build *b, const char *p, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) gpti_emit(b, GPTI_C_BYTE, (unsigned char)p[i]);
}

static void gpti_open(gpti_build *b) {                  /* a group of choices */
    gpti_group *g;
    if (!GPTI_MORE(b, b->group, b->n_group, b->cap_group)) return;
    g = &b->group[b->n_group++];
    g->at = b->p;
    g->slot = gpti_emit_slot(b); g->alt = gpti_emit(b, GPTI_C_ALT, 0); g->jumps = GPTI_NONE;
}
static void gpti_bar(gpti_build *b) {
    gpti_group *g = b->fail ? NULL : &b->group[b->n_group - 1];
    if (!g) return;
    gpti_emit_jump(b, &g->jumps);
    gpti_aim(b, g->alt, gpti_here(b));
    g->alt = gpti_emit(b, GPTI_C_ALT, 0);
}
static uint32_t gpti_close_group(gpti_build *b) {       /* its slot */
    gpti_group *g = b->fail ? NULL : &b->group[--b->n_group];
    if (!g) return 0;
    b->c->node[g->alt].op = GPTI_C_JUMP; b->c->node[g->alt].b = g->alt + 1;
    gpti_land(b, g->jumps);
    return g->slot;
}

/* What stands behind the slot comes low to high times, GPTI_NONE: without end. */
static void gpti_repeat(gpti_build *b, uint32_t slot, uint32_t low, uint32_t high) {
    gpt_constraint *c = b->c;
    gpti_loop *o;
    if (b->fail) return;
    if (!high) { c->node[slot].op = GPTI_C_JUMP; c->node[slot].b = slot + 1; c->n_node = slot + 1; return; }
    if (low == 1 && high == 1) return;
    if (high == GPTI_NONE && low <= 1 ) {
        gpti_emit(b, low ? GPTI_C_ALT : GPTI_C_JUMP, slot);
        if (!low && !b->fail) { c->node[slot].op = GPTI_C_ALT; gpti_aim(b, slot, gpti_here(b)); }
        return;
    }
    if (!low && high == 1) { c->node[slot].op = GPTI_C_ALT; gpti_aim(b, slot, gpti_here(b)); return; }
    if (!GPTI_MORE(b, c->loop, c->n_loop, b->cap_loop)) return;
    gpti_emit(b, GPTI_C_LOOP, slot);
    if (b->fail) return;
    o = &c->loop[c->n_loop];
    o->min = low; o->max = high; o->lax = b->json && low != high; o->end = gpti_here(b);
    c->node[slot].op = GPTI_C_ENTER; c->node[slot].b = (uint32_t)c->n_loop++;
}

static void gpti_pair(gpti_build *b, uint32_t low, uint32_t high) {
    if (!GPTI_MORE(b, b->pair, b->n_pair, b->cap_pair)) return;
    b->pair[b->n_pair][0] = low; b->pair[b->n_pair++][1] = high;
}
static int gpti_pair_cmp(const void *a, const void *b, const void *ctx) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    (void)ctx;
    return (x > y) - (x < y);
}
static int gpti_pairs_have(const gpti_build *b, uint32_t cp, int negate) {
    size_t i;
    for (i = 0; i < b->n_pair && !(b->pair[i][0] <= cp && cp <= b->pair[i][1]); i++) {}
    return (i < b->n_pair) != negate;
}

static void gpti_set_word(gpti_build *b, uint32_t x) {
    if (GPTI_MORE(b, b->c->set, b->c->n_set, b->cap_set)) b->c->set[b->c->n_set++] = x;
}
static void gpti_set_pair(gpti_build *b, uint32_t at, uint32_t low, uint32_t high) {
    uint32_t i, *set;
    if (low > high) return;
    gpti_set_word(b, low); gpti_set_word(b, high);
    if (b->fail) return;
    set = b->c->set + at;
    for (i = low; i <= high && i < 0x80; i++) set[i >> 5] |= 1u << (i & 31);
    set[4]++;
}
/* The set of the pairs, or of all other characters; no halves of surrogates. json: without what strings of JSON
 * escape */
static uint32_t gpti_set(gpti_build *b, int negate, int json) {
    static const uint32_t holes[4][2] = { { 0, 31 }, { '"', '"' }, { '\\', '\\' }, { 0xD800, 0xDFFF } };
    const uint32_t at = (uint32_t)b->c->n_set;
    const size_t n_pair = b->n_pair;
    uint32_t next = 0, low, high;
    size_t i, k, h = json ? 0 : 3;
    for (i = 0; i < 5; i++) gpti_set_word(b, 0);
    if (b->n_pair) gpti_sort(b->pair, b->n_pair, sizeof *b->pair, gpti_pair_cmp, NULL);
    if (!negate) {                              /* what the pairs leave out, then the others of that */
        for (i = k = 0; i < n_pair; i++) {      /* merged */
            if (k && b->pair[i][0] <= b->pair[k - 1][1] + 1) {
                if (b->pair[i][1] > b->pair[k - 1][1]) b->pair[k - 1][1] = b->pair[i][1];
            } else { b->pair[k][0] = b->pair[i][0]; b->pair[k++][1] = b->pair[i][1]; }
        }
        for (i = 0; i < k; i++)
            for (low = b->pair[i][0], high = b->pair[i][1]; low <= high;) {
                size_t j;
                uint32_t to = high;
                for (j = h; j < 4 && !(holes[j][0] <= low && low <= holes[j][1]); j++)
                    if (holes[j][0] > low && holes[j][0] <= to) to = holes[j][0] - 1;
                if (j < 4) { low = holes[j][1] + 1; continue; }
                gpti_set_pair(b, at, low, to);
                low = to + 1;
            }
    } else {
        for (i = h; i < 4; i++) gpti_pair(b, holes[i][0], holes[i][1]);
        if (b->fail) return 0;
        gpti_sort(b->pair, b->n_pair, sizeof *b->pair, gpti_pair_cmp, NULL);
        for (i = 0; i < b->n_pair; i++) {
            if (b->pair[i][0] > next) gpti_set_pair(b, at, next, b->pair[i][0] - 1);
            if (b->pair[i][1] + 1 > next) next = b->pair[i][1] + 1;
        }
        gpti_set_pair(b, at, next, 0x10FFFF);
        b->n_pair = n_pair;
    }
    if (!b->fail && b->n_all && b->c->n_set - at == b->n_all && !memcmp(b->c->set + at, b->c->set + b->all,
        4 * b->n_all)) {
        b->c->n_set = at;
        return b->all;
    }
    return at;
}

static uint32_t gpti_rule_new(gpti_build *b, gpti_str name, uint32_t node) {
    gpti_rule *r;
    if (!GPTI_MORE(b, b->rule, b->n_rule, b->cap_rule)) return 0;
    r = &b->rule[b->n_rule];
    r->name = name; r->node = node; r->entry = GPTI_NONE;
    return (uint32_t)b->n_rule++;
}

/* ---- GBNF ---- */

static int gpti_gbnf_fail(gpti_build *b, const char *why) {
    char what[64];
    gpti_str name = { "", 0 };
    const char *p;
    unsigned line = 1;
    for (p = b->begin; p < b->p; p++) line += *p == '\n';
    if (b->n_rule) name = b->rule[b->n_rule - 1].name;
    snprintf(what, sizeof what, "grammar: line %u%s", line, b->n_rule ? ", rule " : "");
    return gpti_bad(b, GPT_E_FORMAT, what, name, why);
}
static int gpti_is_name(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}
static int gpti_peek(const gpti_build *b, size_t i) { return (size_t)(b->end - b->p) > i ? (unsigned char)b->p[i] : 0; }

static void gpti_gbnf_space(gpti_build *b, int over_ends) {
    for (; b->p < b->end; b->p++) {
        if (*b->p == '#') while (b->p < b->end && *b->p != '\n' && *b->p != '\r') b->p++;
        if (b->p == b->end || !(*b->p == ' ' || *b->p == '\t' ||
                                (over_ends && (*b->p == '\n' || *b->p == '\r')))) break;
    }
}
static gpti_str gpti_gbnf_name(gpti_build *b) {
    gpti_str s;
    for (s.p = b->p; gpti_is_name(gpti_peek(b, 0));) b->p++;
    s.n = (size_t)(b->p - s.p);
    return s;
}

/* A character of a literal or class, escapes undone */
static uint32_t gpti_gbnf_char(gpti_build *b) {
    static const char from[] = "trn\\\"[]-^/'", to[] = "\t\r\n\\\"[]-^/'";
    uint32_t cp = 0;
    const char *q;
    int n, c;
    if (gpti_peek(b, 0) != '\\') {
        const size_t len = gpti_utf8(b->p, (size_t)(b->end - b->p), &cp);
        if (cp == 0xFFFD && len == 1) gpti_gbnf_fail(b, "expected UTF-8");
        b->p += len;
        return cp;
    }
    c = gpti_peek(b, 1);
    b->p += 2;
    n = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    q = c ? strchr(from, c) : NULL;
    if (!n) { if (!q) { b->p--; gpti_gbnf_fail(b, "an escape that is not known"); } return q
        ? (unsigned char)to[q - from] : 0; }
    for (; n > 0; n--, b->p++) {
        c = gpti_hex_digit(gpti_peek(b, 0));
        if (c > 15 || cp > 0x10FFFF) { gpti_gbnf_fail(b, "an escape wants hexadecimal digits"); return 0; }
        cp = cp << 4 | (uint32_t)c;
    }
    if (cp > 0x10FFFF) gpti_gbnf_fail(b, "an escape beyond U+10FFFF");
    return cp;
}

static void gpti_gbnf_class(gpti_build *b) {            /* behind its [ */
    const int negate = gpti_peek(b, 0) == '^';
    b->p += negate; b->n_pair = 0;
    while (!b->fail && b->p < b->end && *b->p != ']') {
        const uint32_t low = gpti_gbnf_char(b);
        uint32_t high = low;
        if (gpti_peek(b, 0) == '-' && gpti_peek(b, 1) && gpti_peek(b, 1) != ']') { b->p++; high = gpti_gbnf_char(b); }
        if (high < low) gpti_gbnf_fail(b, "a class's range ends before it begins");
        gpti_pair(b, low, high);
    }
    if (b->p == b->end) gpti_gbnf_fail(b, "expected ] at the end of a class");
    b->p++;
    gpti_emit(b, GPTI_C_CLASS, gpti_set(b, negate, 0));
}

static void gpti_gbnf_token(gpti_build *b) {            /* at its < */
    const char *p = b->p;
    const gpt_model *m = b->c->m;
    gpt_token id = -1;
    size_t i, n;
    for (n = 1; p + n < b->end && p[n] != '>' && p[n] != '\n'; n++) {}
    if (p + n == b->end || p[n] != '>') { gpti_gbnf_fail(b, "expected > at the end of a token's name"); return; }
    n++;
    if (p[1] == '[') {
        for (i = 2, id = 0; i + 2 < n && p[i] >= '0' && p[i] <= '9' && id < 1 << 26; i++) id = 10 * id + (p[i] - '0');
        if (i + 2 != n || p[i] != ']' || i == 2) { gpti_gbnf_fail(b, "expected a number in <[...]>"); return; }
        if (m && id >= m->tok.n_token) gpti_gbnf_fail(b, "a token's number beyond the vocabulary");
    } else if (m) {
        id = gpti_tokenizer_find(&m->tok, p, n);
        if (id < 0) gpti_gbnf_fail(b, "<...> names no token of the model");
    }
    b->p += n;
    gpti_emit(b, GPTI_C_TOKEN, (uint32_t)id);
}

static uint32_t gpti_number(gpti_build *b) {            /* GPTI_NONE: there is none; stops below 2^31 */
    uint32_t n = 0;
    const char *p = b->p;
    for (; gpti_peek(b, 0) >= '0' && gpti_peek(b, 0) <= '9'; b->p++)
        n = n < 0x7FFFFFFF / 10 ? n * 10 + (uint32_t)(*b->p - '0') : 0x7FFFFFFF;
    return b->p == p ? GPTI_NONE : n;
}

/* * + ? {m} {m,} {m,n} at p, in GBNF with blanks; 0: none of them, or an error */
static int gpti_bounds_read(gpti_build *b, int gbnf, uint32_t *low, uint32_t *high) {
    const int c = gpti_peek(b, 0);
    if (!c || !strchr("*+?{", c)) return 0;
    b->p++;
    *low = c == '+'; *high = c == '?' ? 1 : GPTI_NONE;
    if (c != '{') return 1;
    if (gbnf) gpti_gbnf_space(b, 0);
    *low = *high = gpti_number(b);
    if (gbnf) gpti_gbnf_space(b, 0);
    if (gpti_peek(b, 0) == ',') {
        b->p++;
        if (gbnf) gpti_gbnf_space(b, 0);
        *high = gpti_number(b);
        if (gbnf) gpti_gbnf_space(b, 0);
        if (*low == GPTI_NONE) *low = 0;
    }
    if (*low == GPTI_NONE || gpti_peek(b, 0) != '}' || *low > *high) return -1;
    b->p++;
    return 1;
}

/* One node more in front of the item from `at` on, which has no jumps of its own */
static void gpti_gbnf_slot(gpti_build *b, uint32_t at) {
    gpti_node *node;
    gpti_emit_slot(b);
    if (b->fail) return;
    node = b->c->node;
    memmove(node + at + 1, node + at, (b->c->n_node - 1 - at) * sizeof *node);
    memset(node + at, 0, sizeof *node);
    node[at].op = GPTI_C_JUMP; node[at].b = at + 1;
}

/* What follows "::=", up to the rule's end */
static void gpti_gbnf_body(gpti_build *b) {
    const size_t base = b->n_group;
    uint32_t item = GPTI_NONE, low = 0, high = 0;
    int slotted = 0, r;
    gpti_open(b);
    while (!b->fail) {
        int c;
        gpti_gbnf_space(b, b->n_group > base + 1);
        c = gpti_peek(b, 0);
        if (c == '|') { b->p++; gpti_bar(b); gpti_gbnf_space(b, 1); item = GPTI_NONE; continue; }
        if (c == '(') { b->p++; gpti_open(b); item = GPTI_NONE; continue; }
        if (c == ')' && b->n_group > base + 1) { b->p++; item = gpti_close_group(b); slotted = 1; }
        else if (item != GPTI_NONE && (r = gpti_bounds_read(b, 1, &low, &high)) != 0) {
            if (r < 0) { gpti_gbnf_fail(b, "expected {m}, {m,} or {m,n}, m no more than n"); return; }
            if (!slotted) gpti_gbnf_slot(b, item);
            gpti_repeat(b, item, low, high);
            item = GPTI_NONE;
            continue;
        } else if (c == '"') {
            b->p++; item = gpti_here(b); slotted = 0;
            while (!b->fail && b->p < b->end && *b->p != '"') {
                char out[4];
                gpti_emit_bytes(b, out, gpti_put_utf8(out, gpti_gbnf_char(b)));
            }
            if (b->p == b->end) gpti_gbnf_fail(b, "expected a quotation mark at the end of a text");
            b->p++;
        } else if (c == '[') { b->p++; item = gpti_here(b); slotted = 0; gpti_gbnf_class(b); }
        else if (c == '.') { b->p++; item = gpti_here(b); slotted = 0; b->n_pair = 0; gpti_emit(b, GPTI_C_CLASS,
            gpti_set(b, 1, 0)); }
        else if (c == '<') { item = gpti_here(b); slotted = 0; gpti_gbnf_token(b); }
        else if (gpti_is_name(c)) {
            const uint32_t at = (uint32_t)(b->p - b->begin);
            const gpti_str name = gpti_gbnf_name(b);
            item = gpti_here(b); slotted = 0;
            if (b->json && gpti_str_is(name, "ws")) gpti_emit(b, GPTI_C_WS, 0);
            else if (b->json && gpti_str_is(name, "lax")) gpti_emit(b, GPTI_C_LAX, 0);
            else gpti_emit(b, GPTI_C_CALL, at);
        } else break;
    }
    if (b->fail) return;
    if (b->n_group > base + 1) { gpti_gbnf_fail(b, "expected ) at the end of a group"); return; }
    if (b->p < b->end && *b->p != '\n' && *b->p != '\r') { gpti_gbnf_fail(b,
        "expected a text, a class, a rule or a group"); return; }
    gpti_close_group(b);
    gpti_emit(b, GPTI_C_RET, 0);
}

/* The rules of a text; names become numbers of rules. */
static void gpti_gbnf(gpti_build *b, gpti_str text) {
    gpti_rule *sorted;
    size_t i;
    b->begin = b->p = text.p; b->end = text.p + text.n;
    for (gpti_gbnf_space(b, 1); !b->fail && b->p < b->end; gpti_gbnf_space(b, 1)) {
        const gpti_str name = gpti_gbnf_name(b);
        if (!name.n) { gpti_gbnf_fail(b, "expected the name of a rule"); return; }
        gpti_gbnf_space(b, 0);
        if (b->end - b->p < 3 || memcmp(b->p, "::=", 3)) { gpti_gbnf_fail(b,
            "expected NAME ::= at the beginning of a rule"); return; }
        b->p += 3;
        gpti_rule_new(b, name, 0);
        if (b->fail) return;
        b->rule[b->n_rule - 1].entry = gpti_here(b);
        gpti_gbnf_space(b, 1);
        gpti_gbnf_body(b);
    }
    if (b->fail) return;
    sorted = (gpti_rule *)gpti_alloc_n(b->mem, b->n_rule, sizeof *sorted);
    if (!sorted) { gpti_bad(b, GPT_E_MEMORY, "grammar", text, "out of memory"); return; }
    for (i = 0; i < b->n_rule; i++) { sorted[i] = b->rule[i]; sorted[i].node = (uint32_t)i; }
    gpti_sort(sorted, b->n_rule, sizeof *sorted, gpti_name_cmp, NULL);
    for (i = 1; i < b->n_rule; i++)
        if (!gpti_str_cmp(sorted[i].name, sorted[i - 1].name))
            gpti_bad(b, GPT_E_FORMAT, "grammar: rule ", sorted[i].name, "it is defined twice");
    for (i = 0; i < b->c->n_node && !b->fail; i++) {
        const gpti_rule *r;
        gpti_str name;
        if (b->c->node[i].op != GPTI_C_CALL) continue;
        b->p = b->begin + b->c->node[i].b;
        name = gpti_gbnf_name(b);
        r = (const gpti_rule *)gpti_find(sorted, b->n_rule, sizeof *sorted, name);
        if (r) b->c->node[i].b = r->node;
        else gpti_bad(b, GPT_E_FORMAT, "grammar: rule ", name, "it is named, but not defined");
    }
    gpti_free(b->mem, sorted);
}

/* ---- Compiling: what is known of each node ---- */

static int gpti_goes_on(int op) { return op != GPTI_C_FAIL && op != GPTI_C_JUMP && op != GPTI_C_TAIL &&
    op != GPTI_C_RET &&
                                         op != GPTI_C_LOOP && op != GPTI_C_END; }

/* Tokens that spell the bytes at node i, in the way that is the shortest on to the end */
static uint32_t gpti_cost_bytes(const gpt_constraint *c, size_t i, int tokens) {
    const gpti_tokenizer *t = tokens ? &c->m->tok : NULL;
    uint32_t best = GPTI_C_FAR, x;
    char text[16];
    size_t n;
    if (!t) return gpti_far((uint64_t)c->cost[i + 1] + 1);
    for (n = 0; n < sizeof text && i + n + 1 < c->n_node && c->node[i + n].op == GPTI_C_BYTE; n++) {
        text[n] = (char)c->node[i + n].b;
        x = gpti_far((uint64_t)c->cost[i + n + 1] + 1);
        if (x < best && ((n == 0 && t->byte[(unsigned char)*text] >= 0) || gpti_token_find(t, text, n + 1,
            0) >= 0)) best = x;
    }
    return best;
}

static void gpti_relax(const gpt_constraint *c, size_t i, int tokens, uint32_t *cost, uint32_t *need) {
    const gpti_node x = c->node[i];
    const uint32_t *k = c->cost, *d = c->need, on = i + 1 < c->n_node ? k[i + 1] : 0, deep = i + 1 < c->n_node
        ? d[i + 1] : 0;
    *cost = 0; *need = 0;
    switch (x.op) {
    case GPTI_C_FAIL: *cost = *need = GPTI_C_FAR; break;
    case GPTI_C_JUMP: case GPTI_C_TAIL: *cost = k[x.b]; *need = d[x.b]; break;
    case GPTI_C_ALT: *cost = (uint32_t)gpti_min(on, k[x.b]); *need = (uint32_t)gpti_min(deep, d[x.b]); break;
    case GPTI_C_CALL: *cost = gpti_far((uint64_t)k[x.b] + on); *need = gpti_far(gpti_max((size_t)1 + d[x.b], deep));
        break;
    case GPTI_C_ENTER: {
        const gpti_loop *o = &c->loop[x.b];
        *cost = gpti_far((o->min ? (uint64_t)o->min * on : 0) + k[o->end]);
        *need = o->min ? gpti_far(gpti_max((size_t)1 + deep, d[o->end])) : d[o->end];
        break;
    }
    case GPTI_C_BYTE: *cost = gpti_cost_bytes(c, i, tokens); *need = deep; break;
    case GPTI_C_CLASS: *cost = gpti_far((uint64_t)gpti_set_bytes(c->set + x.b) + on); *need = deep; break;
    case GPTI_C_NUM: *cost = gpti_far((uint64_t)gpti_num_left(&c->num[x.b], GPTI_NUM_FIRST, 1) + on); *need = deep;
        break;
    case GPTI_C_TOKEN: *cost = gpti_far((uint64_t)on + 1); *need = deep; break;
    case GPTI_C_WS: case GPTI_C_LAX: *cost = on; *need = deep; break;
    default: break;
    }
}

/* cost and need of all nodes: they sink from far until none does any more (Bellman 1958), what changes first, first. */
static void gpti_weigh(gpti_build *b, int tokens) {
    gpt_constraint *c = b->c;
    const gpti_str none = { "", 0 };
    const size_t n = c->n_node;
    uint32_t *first = (uint32_t *)gpti_alloc_n(b->mem, n + 1, sizeof *first);      /* who asks for node i */
    uint32_t *who = (uint32_t *)gpti_alloc_n(b->mem, 2 * n, sizeof *who);
    uint32_t *queue = (uint32_t *)gpti_alloc_n(b->mem, n, sizeof *queue);
    uint8_t *in = (uint8_t *)gpti_alloc_n(b->mem, n, 1);
    size_t i, k, head = 0, waiting = n, steps = 0;
    if (!first || !who || !queue || !in) gpti_bad(b, GPT_E_MEMORY, "constraint", none, "out of memory");
    for (i = 0; i < n; i++) c->cost[i] = c->need[i] = GPTI_C_FAR;
    for (k = 0; k < 2 && !b->fail; k++) {
        for (i = 0; i < n; i++) {               /* count, then place: by counts that have become places */
            const gpti_node x = c->node[i];
            const uint32_t to = x.op == GPTI_C_ENTER ? c->loop[x.b].end : x.b;
            if (gpti_goes_on(x.op) && i + 1 < n) { if (k) who[--first[i + 1]] = (uint32_t)i; else first[i + 1]++; }
            if ((x.op >= GPTI_C_JUMP && x.op <= GPTI_C_TAIL) || x.op == GPTI_C_ENTER) { if (k) who[--first[to]] =
                (uint32_t)i; else first[to]++; }
        }
        for (i = 0; !k && i < n; i++) first[i + 1] += first[i];
    }
    for (i = 0; i < n && !b->fail; i++) { queue[i] = (uint32_t)(n - 1 - i); in[i] = 1; }
    for (; waiting && !b->fail; waiting--) {
        const size_t at = queue[head];
        uint32_t cost, need;
        head = (head + 1) % n; in[at] = 0;
        if (++steps > 200 * n + 10000) { gpti_bad(b, GPT_E_UNSUPPORTED, "constraint", none,
            "its rules are too entangled"); break; }
        gpti_relax(c, at, tokens, &cost, &need);
        if (cost >= c->cost[at] && need >= c->need[at]) continue;
        c->cost[at] = cost; c->need[at] = need;
        for (k = first[at]; k < first[at + 1]; k++)
            if (!in[who[k]]) { in[who[k]] = 1; queue[(head + waiting++ - 1) % n] = who[k]; }
        for (k = at; tokens && k-- > 0 && k + 16 > at && c->node[k].op == GPTI_C_BYTE;)
            if (!in[k]) { in[k] = 1; queue[(head + waiting++ - 1) % n] = (uint32_t)k; }
    }
    gpti_free(b->mem, first); gpti_free(b->mem, who); gpti_free(b->mem, queue); gpti_free(b->mem, in);
}

static size_t gpti_rule_of(const gpti_build *b, uint32_t node) {    /* rules lie one after the other, by their entry */
    size_t lo = 0, hi = b->n_rule;
    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;
        if (b->rule[mid].entry <= node) lo = mid; else hi = mid;
    }
    return lo;
}

static int gpti_rule_bad(gpti_build *b, size_t r, const char *why);

/* No rule may come back to itself before a byte is read: calls at the beginning of each rule, then a way around. */
static void gpti_no_left_recursion(gpti_build *b) {
    const gpt_constraint *c = b->c;
    const gpti_str none = { "", 0 };
    uint32_t *seen = (uint32_t *)gpti_alloc_n(b->mem, c->n_node, sizeof *seen);    /* the last rule that came by */
    uint32_t *todo = (uint32_t *)gpti_alloc_n(b->mem, c->n_node * 2 + b->n_rule + 1, sizeof *todo);
    uint32_t *first = (uint32_t *)gpti_alloc_n(b->mem, b->n_rule + 1, sizeof *first), *edge = NULL;
    uint32_t *at = (uint32_t *)gpti_alloc_n(b->mem, b->n_rule, sizeof *at);
    size_t r, n, n_edge = 0, cap = 0;
    if (!seen || !todo || !first || !at) gpti_bad(b, GPT_E_MEMORY, "constraint", none, "out of memory");
    for (r = 0; r < b->n_rule && !b->fail; r++) {
        for (todo[0] = b->rule[r].entry, n = 1; n;) {
            const uint32_t i = todo[--n];
            const gpti_node x = c->node[i];
            if (seen[i] == r + 1) continue;
            seen[i] = (uint32_t)r + 1;
            if (x.op == GPTI_C_CALL || x.op == GPTI_C_TAIL) {
                if (!GPTI_MORE(b, edge, n_edge, cap)) break;
                edge[n_edge++] = (uint32_t)gpti_rule_of(b, x.b);
            }
            if (x.op == GPTI_C_JUMP || x.op == GPTI_C_ALT) todo[n++] = x.b;
            if (x.op == GPTI_C_ALT || x.op == GPTI_C_ENTER || x.op == GPTI_C_LOOP || x.op == GPTI_C_WS ||
                x.op == GPTI_C_LAX ||
                (x.op == GPTI_C_CALL && !c->cost[x.b])) todo[n++] = i + 1;
            if (x.op == GPTI_C_ENTER && !c->loop[x.b].min) todo[n++] = c->loop[x.b].end;
        }
        first[r + 1] = (uint32_t)n_edge;
        at[r] = GPTI_NONE;                      /* not begun; n_edge: done */
    }
    for (r = 0; r < b->n_rule && !b->fail; r++) {
        if (at[r] != GPTI_NONE) continue;
        for (todo[0] = (uint32_t)r, at[r] = first[r], n = 1; n && !b->fail;) {
            const uint32_t x = todo[n - 1];
            if (at[x] == first[x + 1]) { at[x] = GPTI_NONE - 1; n--; continue; }
            if (at[edge[at[x]]] == GPTI_NONE) { const uint32_t to = edge[at[x]++]; at[to] = first[to]; todo[n++] = to;
                continue; }
            if (at[edge[at[x]]] != GPTI_NONE - 1) gpti_rule_bad(b, edge[at[x]],
                "it comes back to itself without reading a byte (left recursion)");
            else at[x]++;
        }
    }
    gpti_free(b->mem, seen); gpti_free(b->mem, todo); gpti_free(b->mem, first); gpti_free(b->mem, edge);
        gpti_free(b->mem, at);
}

/* Marks classes in loops of which they are the only way around: 1 without end, 2 counted. */
static void gpti_mark_loops(gpt_constraint *c) {
    uint32_t todo[16];
    size_t i, n, steps;
    for (i = 0; i < c->n_node; i++) {
        uint32_t loop = GPTI_NONE;
        if (c->node[i].op != GPTI_C_CLASS) continue;
        for (todo[0] = (uint32_t)i + 1, n = 1, steps = 0; n && steps < 32 && !c->node[i].flag; steps++) {
            const uint32_t at = todo[--n];
            const gpti_node x = c->node[at];
            if (at == i) c->node[i].flag = loop == GPTI_NONE ? 1 : 2;
            if (x.op == GPTI_C_JUMP || x.op == GPTI_C_ALT) { if (n < 14) todo[n++] = x.b; }
            if (x.op == GPTI_C_ALT && n < 15) todo[n++] = at + 1;
            if (x.op == GPTI_C_LOOP && loop == GPTI_NONE) { loop = x.b; n = 0; todo[n++] = x.b + 1; }
        }
    }
}

/* The classes in loops that come first, and the tokens that they take whole */
static void gpti_plain_tokens(gpti_build *b) {
    gpt_constraint *c = b->c;
    const gpti_str none = { "", 0 };
    size_t i, k;
    gpt_token id;
    for (i = 0; i < c->n_node && c->m; i++) {
        uint32_t *bits;
        /* with 'a' */
        if (c->node[i].op != GPTI_C_CLASS || !c->node[i].flag || !(c->set[c->node[i].b + 3] & 2)) continue;
        for (k = 0; k < (size_t)c->n_plain && c->plain[k] != c->node[i].b; k++) {}
        c->node[i].none = (uint16_t)(k + 1);
        if (k < (size_t)c->n_plain) continue;
        if (k == GPTI_C_PLAIN) { c->node[i].none = 0; continue; }
        bits = (uint32_t *)gpti_alloc_n(b->mem, (size_t)c->m->hp.n_vocab / 32 + 1, 4);
        if (!bits) { gpti_bad(b, GPT_E_MEMORY, "constraint", none, "out of memory"); return; }
        c->plain[k] = c->node[i].b; c->plain_bits[k] = bits; c->n_plain++;
        for (id = 0; id < c->m->tok.n_token && (uint32_t)id < c->m->hp.n_vocab; id++) {
            const gpti_str s = gpti_tokenizer_piece(&c->m->tok, id);
            uint64_t part = 0;
            size_t j;
            if (gpti_tokenizer_is_control(&c->m->tok, id) || !s.n) continue;
            for (j = 0; j < s.n && gpti_set_byte(c->set + c->plain[k], &part, (unsigned char)s.p[j]); j++) {}
            if (j == s.n && !part) bits[id >> 5] |= 1u << (id & 31);
        }
    }
}

/* The network is written: calls name rules. */
static void gpti_settle(gpti_build *b, size_t root) {
    gpt_constraint *c = b->c;
    size_t i;
    uint32_t at, hops;
    if (b->fail) return;
    for (i = 0; i < c->n_node; i++) {
        gpti_node *x = &c->node[i];
        if (x->op != GPTI_C_CALL) continue;
        x->b = b->rule[x->b].entry;
        for (at = (uint32_t)i + 1, hops = 0; c->node[at].op == GPTI_C_JUMP && hops < 64; hops++) at = c->node[at].b;
        if (c->node[at].op == GPTI_C_RET) x->op = GPTI_C_TAIL;
    }
    c->root = b->rule[root].entry;
    c->cost = (uint32_t *)gpti_alloc_n(b->mem, c->n_node, sizeof *c->cost);
    c->need = (uint32_t *)gpti_alloc_n(b->mem, c->n_node, sizeof *c->need);
    if (!c->cost || !c->need) { gpti_rule_bad(b, root, "out of memory"); return; }
    gpti_weigh(b, 0);
    for (i = 0; i < b->n_rule && !b->fail; i++)
        if (c->cost[b->rule[i].entry] >= GPTI_C_FAR && (!b->n_value || i == root))
            gpti_rule_bad(b, i, "it can never end, or not within 2^28 bytes");
    for (i = 0; i < c->n_node && !b->fail; i++) {
        gpti_loop *o = c->node[i].op == GPTI_C_ENTER ? &c->loop[c->node[i].b] : NULL;
        if (!o || c->cost[i + 1]) continue;
        if (o->max != GPTI_NONE && o->max > 64)
            gpti_rule_bad(b, gpti_rule_of(b, (uint32_t)i), "what may be empty is repeated more than 64 times");
        o->min = 0;
    }
    if (!b->fail) gpti_no_left_recursion(b);
    if (b->fail) return;
    if (c->m) gpti_weigh(b, 1);
    gpti_mark_loops(c);
    gpti_plain_tokens(b);
}

/* ---- Strings of JSON, patterns ---- */

/* A character as strings of JSON spell it; returns its bytes */
static size_t gpti_put_json(char out[8], uint32_t cp) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *q = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (q) { out[0] = '\\'; out[1] = to[q - from]; return 2; }
    if (cp < ' ') return (size_t)snprintf(out, 8, "\\u%04x", (unsigned)cp);
    return gpti_put_utf8(out, cp);
}

static void gpti_emit_text(gpti_build *b, gpti_str s) {         /* the same of a text, without quotes */
    char out[8];
    uint32_t cp;
    size_t i, len;
    for (i = 0; i < s.n; i += len) {
        len = gpti_utf8(s.p + i, s.n - i, &cp);
        gpti_emit_bytes(b, out, gpti_put_json(out, cp));
    }
}

enum { GPTI_R_VALUE, GPTI_R_OBJECT, GPTI_R_ARRAY, GPTI_R_STRING, GPTI_R_ESCAPE, GPTI_R_NUMBER, GPTI_R_INTEGER,
    GPTI_N_R };
static const char gpti_json_rules[] =
    "value ::= object | array | string | number | \"true\" | \"false\" | \"null\"\n"
    "object ::= \"{\" ws (string lax \":\" ws value (lax \",\" ws string lax \":\" ws value)* ws)? \"}\"\n"
    "array ::= \"[\" ws (value (lax \",\" ws value)* ws)? \"]\"\n"
    "string ::= \"\\\"\" ([^\"\\\\\\x00-\\x1F] | escape)* \"\\\"\"\n"
    "escape ::= \"\\\\\" ([\"\\\\/bfnrt] | \"u\" ([0-9a-cA-CefEF] hex{3} | [dD] [0-7] hex{2} | "
    "[dD] [89abAB] hex{2} \"\\\\u\" [dD] [c-fC-F] hex{2}))\n"
    "number ::= \"-\"? (\"0\" | [1-9] [0-9]{0,14}) (\".\" [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?\n"
    "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,14})\n"
    "hex ::= [0-9a-fA-F]\n";

/* Any characters of a string, low to high of them */
static void gpti_emit_chars(gpti_build *b, uint32_t low, uint32_t high) {
    const uint32_t slot = gpti_emit_slot(b), alt = gpti_emit(b, GPTI_C_ALT, 0);
    uint32_t jumps = GPTI_NONE;
    gpti_emit(b, GPTI_C_CLASS, b->all);
    gpti_emit_jump(b, &jumps);
    gpti_aim(b, alt, gpti_here(b));
    gpti_emit(b, GPTI_C_CALL, GPTI_R_ESCAPE);
    gpti_land(b, jumps);
    gpti_repeat(b, slot, low, high);
}

/* One character of the pairs (or none of them), plain or escaped */
static void gpti_emit_class(gpti_build *b, int negate) {
    static const char chars[] = "\"\\\b\f\n\r\t";
    char out[8];
    uint32_t alt = 0, jumps = GPTI_NONE;
    int i;
    uint32_t set;
    for (i = 0; i < 7; i++) {
        if (!gpti_pairs_have(b, (unsigned char)chars[i], negate)) continue;
        alt = gpti_emit(b, GPTI_C_ALT, 0);
        gpti_emit_bytes(b, out, gpti_put_json(out, (unsigned char)chars[i]));
        gpti_emit_jump(b, &jumps);
        gpti_aim(b, alt, gpti_here(b));
    }
    set = gpti_set(b, negate, 1);
    gpti_emit(b, b->fail || b->c->set[set + 4] ? GPTI_C_CLASS : GPTI_C_FAIL, set);
    gpti_land(b, jumps);
}

static int gpti_schema_bad(gpti_build *b, const char *keyword, const char *why);

/* \d \w \s and their opposites, as both ECMA 262 and Python read them: what one of them leaves out is not written. 0:
 * none of them. negate: they are in a class [^ ] */
static int gpti_regex_kind(gpti_build *b, int c, int negate) {
    /* what they surely are, then what they may be */
    static const uint32_t digit[3][2] = { { '0', '9' }, { 0x660, 0x1FFF }, { 0xA000, 0x10FFFF } };
    static const uint32_t word[6][2] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' }, { 0x80, 0x200F }, {
        0x202A, 0x10FFFF } };
    static const uint32_t sure[9][2] = { { 9, 13 }, { 32, 32 }, { 160, 160 }, { 0x1680, 0x1680 }, { 0x2000, 0x200A },
        { 0x2028, 0x2029 }, { 0x202F, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 } };
    static const uint32_t perhaps[10][2] = { { 9, 13 }, { 28, 32 }, { 0x85, 0x85 }, { 160, 160 }, { 0x1680, 0x1680 }, {
        0x2000, 0x200A },
        { 0x2028, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 }, { 0xFEFF, 0xFEFF } };
    const int upper = c < 'a', big = upper != negate, kind = c | 32;
    const uint32_t (*pair)[2] = kind == 'd' ? digit : kind == 'w' ? word : big ? perhaps : sure;
    const int n = kind == 'd' ? 1 + 2 * big : kind == 'w' ? 4 + 2 * big : 9 + big;
    uint32_t next = 0;
    int i;
    if (!c || !strchr("dDwWsS", c)) return 0;
    for (i = 0; i < n; i++) {
        if (!upper) gpti_pair(b, pair[i][0], pair[i][1]);
        else if (pair[i][0] > next) gpti_pair(b, next, pair[i][0] - 1);
        next = pair[i][1] + 1;
    }
    if (upper && next <= 0x10FFFF) gpti_pair(b, next, 0x10FFFF);
    return 1;
}

/* A character or escape of a pattern; *kind: it was one of those above, and its pairs are there */
static uint32_t gpti_regex_char(gpti_build *b, int in_class, int negate, int *kind) {
    static const char from[] = "tnrfv0", to[] = "\t\n\r\f\v";
    uint32_t cp = 0;
    const char *q;
    int c, i, n;
    *kind = 0;
    if (gpti_peek(b, 0) != '\\') { b->p += gpti_utf8(b->p, (size_t)(b->end - b->p), &cp); return cp; }
    c = gpti_peek(b, 1); b->p += b->end - b->p > 1 ? 2 : 1;
    if ((*kind = gpti_regex_kind(b, c, negate)) != 0) return 0;
    if (in_class && c == 'b') return '\b';
    if (c == 'x' || c == 'u') {
        for (n = c == 'x' ? 2 : 4, i = 0; i < n; i++, b->p++) {
            c = gpti_hex_digit(gpti_peek(b, 0));
            if (c > 15) { gpti_schema_bad(b, b->what, "an escape wants hexadecimal digits"); return 0; }
            cp = cp << 4 | (uint32_t)c;
        }
        return cp;
    }
    q = c ? strchr(from, c) : NULL;
    if (q) return (unsigned char)to[q - from];
    if (!c || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c >= 0x80)
        gpti_schema_bad(b, b->what, "the pattern has an escape that is not supported");
    return (uint32_t)c;
}

static void gpti_regex_class(gpti_build *b) {           /* behind its [ */
    const int negate = gpti_peek(b, 0) == '^';
    int kind, other;
    b->p += negate;
    while (!b->fail && b->p < b->end && *b->p != ']') {
        uint32_t low = gpti_regex_char(b, 1, negate, &kind), high = low;
        if (!kind && gpti_peek(b, 0) == '-' && gpti_peek(b, 1) && gpti_peek(b, 1) != ']') {
            b->p++;
            high = gpti_regex_char(b, 1, negate, &other);
            if (other || high < low) gpti_schema_bad(b, b->what, "the pattern has a range that makes no sense");
        }
        if (!kind) gpti_pair(b, low, high);
    }
    if (b->p >= b->end) gpti_schema_bad(b, b->what, "the pattern has a [ without its ]");
    b->p++;
    gpti_emit_class(b, negate);
}

/* What a pattern (ECMA 262's, as far as it is regular) matches, in a string: anywhere unless ^ and $ say otherwise */
static void gpti_regex(gpti_build *b, gpti_str text) {
    static const uint32_t line_ends[3][2] = { { '\n', '\n' }, { '\r', '\r' }, { 0x2028, 0x2029 } };
    const size_t base = b->n_group;
    uint32_t item = GPTI_NONE, low = 0, high = 0, i;
    int begin = 1, last = 0, kind, r;
    b->begin = b->p = text.p; b->end = text.p + text.n;
    gpti_open(b);
    while (!b->fail) {
        const int c = gpti_peek(b, 0), top = b->n_group == base + 1;
        if (begin && top && c != '^') gpti_emit_chars(b, 0, GPTI_NONE);
        if (begin && top && c == '^') { begin = 0; b->p++; continue; }
        begin = 0;
        if (b->p == b->end || (c == '|' && top)) {
            if (!top) break;
            if (!last) gpti_emit_chars(b, 0, GPTI_NONE);
            last = 0; item = GPTI_NONE;
            if (b->p == b->end) break;
            b->p++; gpti_bar(b);
            begin = 1;
            continue;
        }
        if (last || c == '^' || (c == '$' && !top)) { gpti_schema_bad(b, b->what, "the pattern has ^ or $ within it");
            return; }
        if (c == '$') { b->p++; last = 1; item = GPTI_NONE; continue; }
        if (item != GPTI_NONE && (r = gpti_bounds_read(b, 0, &low, &high)) != 0) {
            if (r < 0) { gpti_schema_bad(b, b->what, "the pattern has bounds {m,n} that make no sense"); return; }
            gpti_repeat(b, item, low, high);
            if (gpti_peek(b, 0) == '?') b->p++;          /* lazy: the same texts */
            item = GPTI_NONE;
            continue;
        }
        if (c == '|') { b->p++; gpti_bar(b); item = GPTI_NONE; continue; }
        if (c == '(') {
            b->p++;
            if (gpti_peek(b, 0) == '?' && gpti_peek(b, 1) != ':') { gpti_schema_bad(b, b->what,
                "the pattern has (?, which is not supported"); return; }
            if (gpti_peek(b, 0) == '?') b->p += 2;
            gpti_open(b);
            item = GPTI_NONE;
            continue;
        }
        if (c == ')') {
            if (top) break;
            b->p++;
            item = gpti_close_group(b);
            continue;
        }
        if (c == '*' || c == '+' || c == '?' || c == '{' || c == '}' || c == ']') { gpti_schema_bad(b, b->what,
            "the pattern has a sign that stands for nothing there"); return; }
        item = gpti_emit_slot(b);
        b->n_pair = 0;
        if (c == '[') { b->p++; gpti_regex_class(b); continue; }
        if (c == '.') {
            b->p++;
            for (i = 0; i < 3; i++) gpti_pair(b, line_ends[i][0], line_ends[i][1]);
            gpti_emit_class(b, 1);
            continue; }
        i = gpti_regex_char(b, 0, 0, &kind);
        if (kind) gpti_emit_class(b, 0);
        else {
            char out[8];
            if (i - 0xD800 < 0x800) gpti_schema_bad(b, b->what, "the pattern has half of a surrogate pair");
            gpti_emit_bytes(b, out, gpti_put_json(out, i));
        }
    }
    if (!b->fail && (b->p < b->end || b->n_group != base + 1)) gpti_schema_bad(b, b->what,
        "the pattern has brackets that do not match");
    gpti_close_group(b);
}

/* ---- JSON schema ---- */

/* " of the schema at /properties/a, keyword": the path of a value, written from its end */
static int gpti_schema_bad(gpti_build *b, const char *keyword, const char *why) {
    char path[104], show[GPTI_SHOWN];
    size_t at = sizeof path - 1, n;
    uint32_t i = b->here;
    path[at] = 0;
    for (; i < b->n_value && b->value[i].parent != GPTI_NONE; i = b->value[i].parent) {
        const gpti_jvalue *v = &b->value[i];
        if (b->value[v->parent].kind == 'o') gpti_show(show, v->key); else snprintf(show, sizeof show, "%lu",
            (unsigned long)v->at);
        n = strlen(show);
        if (n + 5 > at) { at -= 3; memcpy(path + at, "...", 3); break; }
        at -= n; memcpy(path + at, show, n);
        path[--at] = '/';
    }
    if (!b->fail) b->fail = gpti_fail(b->err, GPT_E_UNSUPPORTED, "schema: %s%s%s: %s", path[at] ? path + at : "/",
        *keyword ? ": " : "",
                                      keyword, why);
    return 0;
}

static int gpti_rule_bad(gpti_build *b, size_t r, const char *why) {
    if (!b->n_value) return gpti_bad(b, GPT_E_FORMAT, "grammar: rule ", b->rule[r].name, why);
    b->here = b->rule[r].node;
    return gpti_schema_bad(b, "", why);
}

/* The schema's text becomes values in an array, in their order; *text [n] takes its strings. */
static void gpti_values(gpti_build *b, gpti_str schema, char *text) {
    static const char kinds[] = "ezbbns ao";
    gpti_json j;
    uint32_t up = GPTI_NONE, last = GPTI_NONE, at;
    gpti_str key = { "", 0 };
    int item;
    gpti_json_init(&j, schema);
    while (!b->fail && (item = gpti_json_next(&j)) != GPTI_JSON_END) {
        gpti_jvalue *v;
        gpti_str s = j.raw;
        if (item == GPTI_JSON_ERROR) {
            if (!b->fail) b->fail = gpti_fail(b->err, GPT_E_FORMAT, "schema: byte %llu: expected %s",
                (gpti_ull)(j.p - j.begin), j.error);
            return;
        }
        if (item == GPTI_JSON_CLOSE) { last = up; up = b->value[up].parent; continue; }
        if (item == GPTI_JSON_KEY || item == GPTI_JSON_STRING) { s.n = gpti_json_unescape(j.raw, text); s.p = text;
            text += s.n; }
        if (item == GPTI_JSON_KEY) { key = s; continue; }
        if (!GPTI_MORE(b, b->value, b->n_value, b->cap_value)) return;
        at = (uint32_t)b->n_value++;
        v = &b->value[at];
        v->kind = kinds[item]; v->parent = up; v->child = v->next = v->rule = GPTI_NONE;
        v->key = key; v->text = s; v->at = 0;
        if (last != GPTI_NONE) { b->value[last].next = at; v->at = b->value[last].at + 1; }
        else if (up != GPTI_NONE) b->value[up].child = at;
        last = at;
        if (v->kind == 'a' || v->kind == 'o') { up = at; last = GPTI_NONE; }
    }
}

/* One more name or value of the schema is looked at; 0: no more, a schema of 1 MiB could make it a matter of hours */
static int gpti_look(gpti_build *b) {
    return b->looks++ < GPTI_C_LOOKS || gpti_schema_bad(b, "", "its names and values are too many to be compared");
}

static uint32_t gpti_member(gpti_build *b, uint32_t i, const char *name) {
    if (i == GPTI_NONE || b->value[i].kind != 'o') return GPTI_NONE;
    for (i = b->value[i].child; i != GPTI_NONE && !gpti_str_is(b->value[i].key, name); i = b->value[i].next)
        if (!gpti_look(b)) return GPTI_NONE;
    return i;
}
static int gpti_is_true(const gpti_build *b, uint32_t i) { return b->value[i].kind == 'b' && b->value[i].text.n == 4; }
static int gpti_is_false(const gpti_build *b, uint32_t i) { return b->value[i].kind == 'b' && b->value[i].text.n == 5; }

/* The rule of a schema, compiled later */
static uint32_t gpti_schema_rule(gpti_build *b, uint32_t i) {
    const gpti_str none = { "", 0 };
    if (b->fail) return 0;
    if (gpti_is_true(b, i) || (b->value[i].kind == 'o' && b->value[i].child == GPTI_NONE)) return GPTI_R_VALUE;
    if (b->value[i].rule == GPTI_NONE) b->value[i].rule = gpti_rule_new(b, none, i);
    return b->value[i].rule;
}

/* What a $ref names; GPTI_NONE: nothing */
static uint32_t gpti_ref(gpti_build *b, uint32_t ref) {
    const gpti_str s = b->value[ref].text;
    const char *p = s.p, *end = s.p + s.n;
    char part[256];
    uint32_t at = 0;
    if (b->value[ref].kind != 's' || !s.n || *p++ != '#') return GPTI_NONE;
    while (p < end && at != GPTI_NONE) {
        size_t n = 0;
        if (*p++ != '/') return GPTI_NONE;
        for (; p < end && *p != '/' && n < sizeof part - 1; p++) {
            uint32_t x = 0;
            part[n] = *p;
            if (*p == '~' && end - p > 1) part[n] = *++p == '0' ? '~' : '/';
            else if (*p == '%' && end - p > 2) {
                char four[4];
                memcpy(four, "00", 2); memcpy(four + 2, p + 1, 2);
                if (gpti_json_hex(four, four + 4, &x)) { part[n] = (char)x; p += 2; }
            }
            n++;
        }
        part[n] = 0;
        if (b->value[at].kind == 'o') at = gpti_member(b, at, part);
        else {
            const char *digits = part;
            uint32_t number = 0;
            for (; *digits >= '0' && *digits <= '9' && digits < part + 8; digits++)
                number = number * 10 + (uint32_t)(*digits - '0');
            at = b->value[at].kind == 'a' && digits > part && !*digits ? b->value[at].child : GPTI_NONE;
            while (at != GPTI_NONE && b->value[at].at != number) at = gpti_look(b) ? b->value[at].next : GPTI_NONE;
        }
    }
    return at;
}

enum { GPTI_T_NULL = 1, GPTI_T_BOOL = 2, GPTI_T_INTEGER = 4, GPTI_T_NUMBER = 8, GPTI_T_STRING = 16, GPTI_T_ARRAY = 32,
    GPTI_T_OBJECT = 64,
          GPTI_T_ALL = 127 };
static unsigned gpti_type_of(const gpti_jvalue *v) {     /* of a value */
    size_t i;
    if (v->kind != 'n') return v->kind == 'z' ? GPTI_T_NULL : v->kind == 'b' ? GPTI_T_BOOL : v->kind == 's'
        ? GPTI_T_STRING :
        v->kind == 'a' ? GPTI_T_ARRAY : GPTI_T_OBJECT;
    for (i = 0; i < v->text.n && v->text.p[i] != '.' && (v->text.p[i] | 32) != 'e'; i++) {}
    return i == v->text.n ? GPTI_T_INTEGER : GPTI_T_NUMBER;
}
static unsigned gpti_type_name(gpti_str s) {
    static const char names[7][8] = { "null", "boolean", "integer", "number", "string", "array", "object" };
    unsigned i;
    for (i = 0; i < 7; i++) if (gpti_str_is(s, names[i])) return i == 3 ? GPTI_T_INTEGER | GPTI_T_NUMBER : 1u << i;
    return 0;
}

/* The keywords, and which type each speaks of; '-': passed over, '?': only false does nothing */
static const struct { char name[24], of; } gpti_keywords[] = {
    { "$ref", '*' }, { "type", '*' }, { "enum", '*' }, { "const", '*' }, { "anyOf", '*' }, { "oneOf", '*' }, { "allOf",
        '*' },
    { "properties", 'o' }, { "required", 'o' }, { "additionalProperties", 'o' }, { "items", 'a' }, { "prefixItems",
        'a' },
    { "additionalItems", 'a' }, { "minItems", 'a' }, { "maxItems", 'a' }, { "minLength", 's' }, { "maxLength", 's' }, {
        "pattern", 's' },
    { "format", 's' }, { "minimum", 'n' }, { "maximum", 'n' }, { "exclusiveMinimum", 'n' }, { "exclusiveMaximum", 'n' },
        { "title", '-' },
    { "description", '-' }, { "default", '-' }, { "examples", '-' }, { "example", '-' }, { "$comment", '-' }, {
        "$schema", '-' }, { "$id", '-' },
    { "id", '-' }, { "$anchor", '-' }, { "deprecated", '-' }, { "readOnly", '-' }, { "writeOnly", '-' }, {
        "definitions", '-' }, { "$defs", '-' },
    { "contentMediaType", '-' }, { "contentEncoding", '-' }, { "uniqueItems", '?' }
};
static int gpti_keyword(gpti_str name) {
    size_t i;
    for (i = 0; i < sizeof gpti_keywords / sizeof *gpti_keywords; i++)
        if (gpti_str_is(name, gpti_keywords[i].name)) return gpti_keywords[i].of;
    return name.n > 2 && !memcmp(name.p, "x-", 2) ? '-' : 0;
}

/* The types that a schema's keywords allow; without "type" those that they speak of */
static unsigned gpti_types(gpti_build *b, uint32_t i) {
    unsigned of = 0, type = 0, values = 0;
    uint32_t k, v;
    int hops;
    for (hops = 0; hops < 32 && (k = gpti_member(b, i, "$ref")) != GPTI_NONE; hops++) if ((i = gpti_ref(b,
        k)) == GPTI_NONE) return GPTI_T_ALL;
    if (b->value[i].kind != 'o') return GPTI_T_ALL;
    for (k = b->value[i].child; k != GPTI_NONE; k = b->value[k].next) {
        const int c = gpti_keyword(b->value[k].key);
        if (c == 'o') of |= GPTI_T_OBJECT;
        if (c == 'a') of |= GPTI_T_ARRAY;
        if (c == 's') of |= GPTI_T_STRING;
        if (c == 'n') of |= GPTI_T_INTEGER | GPTI_T_NUMBER;
        if (gpti_str_is(b->value[k].key, "type")) {
            type = gpti_type_name(b->value[k].text);
            if (b->value[k].kind == 'a')
                for (v = b->value[k].child; v != GPTI_NONE; v =
                    b->value[v].next) type |= gpti_type_name(b->value[v].text);
        }
        if (gpti_str_is(b->value[k].key, "const")) values |= gpti_type_of(&b->value[k]);
        if (gpti_str_is(b->value[k].key, "enum"))
            for (v = b->value[k].child; v != GPTI_NONE; v = b->value[v].next) values |= gpti_type_of(&b->value[v]);
    }
    if (values) return type ? values & type : values;
    if (!type) type = of;
    return type ? type : (unsigned)GPTI_T_ALL;
}

/* The values that const or enum allow, one after the other: behind v, or the first (v GPTI_NONE) */
static uint32_t gpti_next_value(gpti_build *b, uint32_t schema, uint32_t v) {
    const uint32_t one = gpti_member(b, schema, "const"), list = gpti_member(b, schema, "enum");
    if (one != GPTI_NONE) return v == GPTI_NONE ? one : GPTI_NONE;
    return v != GPTI_NONE ? b->value[v].next : list != GPTI_NONE ? b->value[list].child : GPTI_NONE;
}

static int gpti_is_required(gpti_build *b, uint32_t i, gpti_str key) {
    uint32_t r = gpti_member(b, i, "required");
    for (r = r == GPTI_NONE ? r : b->value[r].child; r != GPTI_NONE && gpti_str_cmp(b->value[r].text, key); r =
        b->value[r].next) if (!gpti_look(b)) return 0;
    return r != GPTI_NONE;
}

/* Have these two values of schemas no value in common, as type, const, enum say? */
static int gpti_values_apart(gpti_build *b, uint32_t x, uint32_t y) {
    uint32_t v, w;
    if (!(gpti_types(b, x) & gpti_types(b, y))) return 1;
    if (gpti_next_value(b, x, GPTI_NONE) == GPTI_NONE || gpti_next_value(b, y, GPTI_NONE) == GPTI_NONE) return 0;
    for (v = gpti_next_value(b, x, GPTI_NONE); v != GPTI_NONE; v = gpti_next_value(b, x, v))
        for (w = gpti_next_value(b, y, GPTI_NONE); w != GPTI_NONE; w = gpti_next_value(b, y, w))
            if (!gpti_look(b) || (b->value[v].kind == b->value[w].kind && (strchr("aon", b->value[v].kind) ||
                !gpti_str_cmp(b->value[v].text, b->value[w].text)))) return 0;
    return 1;
}

/* Can no text be of both? */
static int gpti_apart(gpti_build *b, uint32_t x, uint32_t y) {
    uint32_t k, p, q, other;
    int turn, hops;
    for (hops = 0; hops < 32 && (k = gpti_member(b, x, "$ref")) != GPTI_NONE; hops++) if ((x = gpti_ref(b,
        k)) == GPTI_NONE) return 0;
    for (hops = 0; hops < 32 && (k = gpti_member(b, y, "$ref")) != GPTI_NONE; hops++) if ((y = gpti_ref(b,
        k)) == GPTI_NONE) return 0;
    if (gpti_is_false(b, x) || gpti_is_false(b, y) || gpti_values_apart(b, x, y)) return 1;
    for (turn = 0; turn < 2; turn++) {
        p = gpti_member(b, x, "properties"); q = gpti_member(b, y, "properties");
        for (k = p == GPTI_NONE ? p : b->value[p].child; k != GPTI_NONE; k = b->value[k].next) {
            const gpti_str key = b->value[k].key;
            uint32_t o = q == GPTI_NONE ? q : b->value[q].child;
            if (!gpti_is_required(b, x, key)) continue;
            for (; o != GPTI_NONE && gpti_str_cmp(b->value[o].key, key); o = b->value[o].next)
                if (!gpti_look(b)) return 0;
            other = gpti_member(b, y, "additionalProperties");
            if (o == GPTI_NONE && other != GPTI_NONE && gpti_is_false(b, other)) return 1;
            if (o != GPTI_NONE && gpti_is_required(b, y, key) && gpti_values_apart(b, k, o)) return 1;
        }
        k = x; x = y; y = k;
    }
    return 0;
}

/* A value as it stands, with white space between its tokens */
static void gpti_emit_value(gpti_build *b, uint32_t root) {
    uint32_t i = root;
    for (;;) {
        const gpti_jvalue *v = &b->value[i];
        const int open = v->kind == 'a' || v->kind == 'o';
        if (i != root && b->value[v->parent].kind == 'o') {
            gpti_emit_bytes(b, "\"", 1); gpti_emit_text(b, v->key); gpti_emit_bytes(b, "\"", 1);
            gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ":", 1); gpti_emit(b, GPTI_C_WS, 0);
        }
        if (v->kind == 's') { gpti_emit_bytes(b, "\"", 1); gpti_emit_text(b, v->text); gpti_emit_bytes(b, "\"", 1); }
        else if (!open) gpti_emit_bytes(b, v->text.p, v->text.n);
        else {
            gpti_emit_bytes(b, v->kind == 'a' ? "[" : "{", 1); gpti_emit(b, GPTI_C_WS, 0);
            if (v->child != GPTI_NONE) { i = v->child; continue; }
            gpti_emit_bytes(b, v->kind == 'a' ? "]" : "}", 1);
        }
        for (; i != root && b->value[i].next == GPTI_NONE; i = b->value[i].parent) {
            gpti_emit(b, GPTI_C_WS, 0);
            gpti_emit_bytes(b, b->value[b->value[i].parent].kind == 'a' ? "]" : "}", 1);
        }
        if (i == root || b->fail) return;
        gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ",", 1); gpti_emit(b, GPTI_C_WS, 0);
        i = b->value[i].next;
    }
}

/* Texts lo to hi - 1 of a sorted list, which begin with the same `depth` bytes, to be written; alt: the choice that
 * leads there, fork: what is none of them has been written */
typedef struct gpti_branch { size_t lo, hi, depth; uint32_t alt; int fork; } gpti_branch;

/* One of some texts, what they share written once. Ends at the next node. */
static void gpti_emit_texts(gpti_build *b, gpti_str *text, size_t n) {
    gpti_branch *todo = (gpti_branch *)gpti_alloc_n(b->mem, n + 1, sizeof *todo);
    uint32_t done = GPTI_NONE;
    size_t n_todo = 1, i, k;
    if (!todo) { gpti_bad(b, GPT_E_MEMORY, "constraint", text[0], "out of memory"); return; }
    gpti_sort(text, n, sizeof *text, gpti_name_cmp, NULL);
    for (i = k = 1; i < n; i++) if (gpti_str_cmp(text[i], text[k - 1])) text[k++] = text[i];
    todo[0].lo = todo[0].depth = 0; todo[0].hi = n ? k : 0; todo[0].alt = GPTI_NONE;
    while (n_todo && n && !b->fail) {
        gpti_branch x = todo[--n_todo];
        if (x.alt != GPTI_NONE) gpti_aim(b, x.alt, gpti_here(b));
        for (;;) {
            if (text[x.lo].n == x.depth) {
                if (x.hi == x.lo + 1) { gpti_emit_jump(b, &done); break; }
                todo[n_todo] = x; todo[n_todo].lo++;
                todo[n_todo++].alt = gpti_emit(b, GPTI_C_ALT, 0);
                gpti_emit_jump(b, &done);
                break;
            }
            for (k = x.lo + 1; k < x.hi && text[k].p[x.depth] == text[x.lo].p[x.depth]; k++) {}
            if (k < x.hi) { todo[n_todo] = x; todo[n_todo].lo = k; todo[n_todo++].alt = gpti_emit(b, GPTI_C_ALT, 0);
                x.hi = k; }
            gpti_emit(b, GPTI_C_BYTE, (unsigned char)text[x.lo].p[x.depth++]);
            if (b->fail) break;
        }
    }
    gpti_land(b, done);
    gpti_free(b->mem, todo);
}

/* A name that is none of these, sorted: while it is the beginning of one, no escapes, so that none can be spelled in
 * another way; from where it is no longer one on, any characters */
static void gpti_emit_other_name(gpti_build *b, const gpti_str *name, size_t n) {
    gpti_branch *todo = (gpti_branch *)gpti_alloc_n(b->mem, n + 1, sizeof *todo);
    const gpti_str none = { "", 0 };
    uint32_t other = GPTI_NONE, done = GPTI_NONE, alt, cp;
    size_t n_todo = n > 0, i, len, end;
    if (!todo) { gpti_bad(b, GPT_E_MEMORY, "schema", none, "out of memory"); return; }
    gpti_emit_bytes(b, "\"", 1);
    todo[0].hi = n; todo[0].alt = GPTI_NONE;
    while (n_todo && !b->fail) {
        gpti_branch x = todo[--n_todo];
        if (x.alt != GPTI_NONE) gpti_aim(b, x.alt, gpti_here(b));
        while (!b->fail) {                      /* names lo to hi - 1 have the same first `depth` bytes */
            if (!x.fork) {
                if (name[x.lo].n == x.depth) x.lo++;
                else {
                    alt = gpti_emit(b, GPTI_C_ALT, 0);
                    gpti_emit_bytes(b, "\"", 1); gpti_emit_jump(b, &done);
                    gpti_aim(b, alt, gpti_here(b));
                }
                b->n_pair = 0;
                for (i = x.lo; i < x.hi; i++) { gpti_utf8(name[i].p + x.depth, name[i].n - x.depth, &cp); gpti_pair(b,
                    cp, cp); }
                alt = gpti_emit(b, GPTI_C_ALT, 0);
                gpti_emit(b, GPTI_C_CLASS, gpti_set(b, 1, 1)); gpti_emit_jump(b, &other);
                gpti_aim(b, alt, gpti_here(b));
                if (x.lo == x.hi) { gpti_emit(b, GPTI_C_FAIL, 0); break; }
                x.fork = 1;
            }
            len = gpti_utf8(name[x.lo].p + x.depth, name[x.lo].n - x.depth, &cp);
            for (end = x.lo + 1; end < x.hi && name[end].n - x.depth >= len &&
                 !memcmp(name[end].p + x.depth, name[x.lo].p + x.depth, len); end++) {}
            if (end < x.hi) { todo[n_todo] = x; todo[n_todo].lo = end; todo[n_todo++].alt = gpti_emit(b, GPTI_C_ALT, 0);
                }
            if (cp < ' ' || cp == '"' || cp == '\\') { gpti_emit(b, GPTI_C_FAIL, 0); break; }
            gpti_emit_bytes(b, name[x.lo].p + x.depth, len);
            x.hi = end; x.depth += len; x.fork = 0;
        }
    }
    gpti_land(b, other);
    gpti_emit_chars(b, 0, GPTI_NONE);
    gpti_emit_bytes(b, "\"", 1);
    gpti_land(b, done);
    gpti_free(b->mem, todo);
}

/* A number of a schema, not negative; absent: otherwise */
static uint32_t gpti_count(gpti_build *b, uint32_t schema, const char *keyword, uint32_t otherwise) {
    const uint32_t i = gpti_member(b, schema, keyword);
    uint32_t n = 0;
    size_t k;
    if (i == GPTI_NONE) return otherwise;
    for (k = 0; k < b->value[i].text.n && b->value[i].text.p[k] >= '0' && b->value[i].text.p[k] <= '9' && n < 200000000;
        k++)
        n = n * 10 + (uint32_t)(b->value[i].text.p[k] - '0');
    if (b->value[i].kind != 'n' || k < b->value[i].text.n) gpti_schema_bad(b, keyword,
        "expected a whole number below 2000000000");
    return n;
}

/* The properties of an object, and of those that allOf adds: appended to b->prop. additional: their schema,
 * GPTI_NONE: any */
static void gpti_schema_props(gpti_build *b, uint32_t i, uint32_t *additional, int merged) {
    uint32_t p = gpti_member(b, i, "properties"), r = gpti_member(b, i, "required"), a = gpti_member(b, i,
        "additionalProperties");
    size_t k, base = 0;
    if (p != GPTI_NONE && b->value[p].kind != 'o') gpti_schema_bad(b, "properties", "expected an object");
    for (p = p == GPTI_NONE ? p : b->value[p].child; p != GPTI_NONE && !b->fail; p = b->value[p].next) {
        for (k = merged ? 0 : b->n_prop; k < b->n_prop && gpti_str_cmp(b->prop[k].key, b->value[p].key); k++) {}
        if (k < b->n_prop) gpti_schema_bad(b, "allOf", "a property in two of its schemas is not supported");
        if (b->n_prop >= 4096) { gpti_schema_bad(b, "properties", "more than 4096"); return; }
        if (!GPTI_MORE(b, b->prop, b->n_prop, b->cap_prop)) return;
        b->prop[b->n_prop].key = b->value[p].key; b->prop[b->n_prop].required = 0; b->prop[b->n_prop++].value = p;
    }
    if (r != GPTI_NONE && b->value[r].kind != 'a') gpti_schema_bad(b, "required", "expected an array");
    for (r = r == GPTI_NONE ? r : b->value[r].child; r != GPTI_NONE && !b->fail; r = b->value[r].next) {
        if (b->value[r].kind != 's') gpti_schema_bad(b, "required", "expected strings");
        for (k = base; k < b->n_prop && gpti_str_cmp(b->prop[k].key, b->value[r].text) && gpti_look(b); k++) {}
        if (k == b->n_prop) {                   /* any value, or what additionalProperties says */
            if (k >= 4096) gpti_schema_bad(b, "required", "more than 4096");
            if (!GPTI_MORE(b, b->prop, b->n_prop, b->cap_prop)) return;
            b->prop[k].key = b->value[r].text; b->prop[k].value = a; b->n_prop++;
        }
        b->prop[k].required = 1;
    }
    if (a != GPTI_NONE && !gpti_is_true(b, a)) {
        if (merged) gpti_schema_bad(b, "additionalProperties", "beside allOf it is not supported");
        *additional = a;
    }
}

static int gpti_key_cmp(const void *a, const void *b, const void *ctx) {
    (void)ctx;
    return gpti_str_cmp(((const gpti_prop *)a)->key, ((const gpti_prop *)b)->key);
}

/* { the properties in their order, each optional one by a choice to go on to the next, then others }. Node by node:
 * key, value, then the end or a comma, then the next key. */
static void gpti_emit_object(gpti_build *b, uint32_t additional) {
    const int more = additional == GPTI_NONE || !gpti_is_false(b, additional);
    const size_t n = b->n_prop;
    gpti_str *name;
    gpti_prop *prop = b->prop;
    uint32_t end = GPTI_NONE, skip = GPTI_NONE, next;
    size_t i, last = 0, run = 0;
    for (i = 0; i < n; i++) {
        if (prop[i].required) last = i + 1;
        run = prop[i].required ? 0 : run + 1;
        if (run > 400) { gpti_schema_bad(b, "properties", "more than 400 optional ones between required ones"); return;
            }
    }
    gpti_emit_bytes(b, "{", 1); gpti_emit(b, GPTI_C_WS, 0);
    if (!last) { next = gpti_emit(b, GPTI_C_ALT, 0); gpti_emit_jump(b, &end); gpti_aim(b, next, gpti_here(b)); }
    for (i = 0; i < n && !b->fail; i++) {
        if (!prop[i].required) skip = gpti_emit(b, GPTI_C_ALT, 0);
        gpti_emit_bytes(b, "\"", 1); gpti_emit_text(b, prop[i].key); gpti_emit_bytes(b, "\"", 1);
        gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ":", 1); gpti_emit(b, GPTI_C_WS, 0);
        gpti_emit(b, GPTI_C_CALL, prop[i].value == GPTI_NONE ? (uint32_t)GPTI_R_VALUE : gpti_schema_rule(b,
            prop[i].value));
        if (i + 1 >= last) { next = gpti_emit(b, GPTI_C_ALT, 0); gpti_emit_jump(b, &end); gpti_aim(b, next,
            gpti_here(b)); }
        if (i + 1 < n || more) { gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ",", 1); gpti_emit(b, GPTI_C_WS, 0); }
        if (!prop[i].required) gpti_aim(b, skip, gpti_here(b));
    }
    if (more && !b->fail) {                     /* here after a comma, or at the beginning */
        const uint32_t again = gpti_here(b);
        name = (gpti_str *)gpti_alloc_n(b->mem, n, sizeof *name);
        if (!name) { gpti_schema_bad(b, "", "out of memory"); return; }
        gpti_sort(prop, n, sizeof *prop, gpti_key_cmp, NULL);
        for (i = 0; i < n; i++) name[i] = prop[i].key;
        gpti_emit_other_name(b, name, n);
        gpti_free(b->mem, name);
        gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ":", 1); gpti_emit(b, GPTI_C_WS, 0);
        gpti_emit(b, GPTI_C_CALL, additional == GPTI_NONE ? (uint32_t)GPTI_R_VALUE : gpti_schema_rule(b, additional));
        next = gpti_emit(b, GPTI_C_ALT, 0); gpti_emit_jump(b, &end); gpti_aim(b, next, gpti_here(b));
        gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ",", 1); gpti_emit(b, GPTI_C_WS, 0);
        gpti_emit(b, GPTI_C_JUMP, again);
    } else gpti_emit(b, GPTI_C_FAIL, 0);
    gpti_land(b, end);
    gpti_emit(b, GPTI_C_WS, 0); gpti_emit_bytes(b, "}", 1);
}

static void gpti_emit_array(gpti_build *b, uint32_t i) {
    uint32_t tuple = gpti_member(b, i, "prefixItems"), item = gpti_member(b, i, "items"), v, slot, n = 0, end =
        GPTI_NONE;
    uint32_t low = gpti_count(b, i, "minItems", 0), high = gpti_count(b, i, "maxItems", GPTI_NONE), rule = GPTI_R_VALUE;
    int open = 1;
    if (tuple == GPTI_NONE && item != GPTI_NONE && b->value[item].kind == 'a') { tuple = item; item = gpti_member(b, i,
        "additionalItems"); }
    if (tuple != GPTI_NONE && item == GPTI_NONE) open = 0;
    if (item != GPTI_NONE) { if (gpti_is_false(b, item)) open = 0; else rule = gpti_schema_rule(b, item); }
    if (tuple != GPTI_NONE) for (v = b->value[tuple].child; v != GPTI_NONE; v = b->value[v].next) n++;
    if (n > high) { n = high; open = 0; }
    if (!open && low > n && item == GPTI_NONE) open = 1;      /* nothing is said of further ones: any */
    if (low > high || (!open && low > n)) { gpti_schema_bad(b, low > high ? "minItems" : "items",
        "no array is of this length"); return; }
    gpti_emit_bytes(b, "[", 1); gpti_emit(b, GPTI_C_WS, 0);
    if (n) for (v = b->value[tuple].child; b->value[v].at < n && !b->fail; v = b->value[v].next) {
        gpti_emit(b, GPTI_C_CALL, gpti_schema_rule(b, v));
        if (b->value[v].at + 1 == n) break;
        else { gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ",", 1); gpti_emit(b, GPTI_C_WS, 0); }
    }
    low = low > n ? low - n : 0;
    if (high != GPTI_NONE) high -= n;
    if (open && high) {
        if (!n) {                               /* the first one has no comma */
            if (!low) { v = gpti_emit(b, GPTI_C_ALT, 0); gpti_emit_jump(b, &end); gpti_aim(b, v, gpti_here(b)); }
            gpti_emit(b, GPTI_C_CALL, rule);
            low -= low > 0; high -= high != GPTI_NONE;
        }
        slot = gpti_emit_slot(b);
        gpti_emit(b, GPTI_C_LAX, 0); gpti_emit_bytes(b, ",", 1); gpti_emit(b, GPTI_C_WS, 0);
        gpti_emit(b, GPTI_C_CALL, rule);
        gpti_repeat(b, slot, low, high);
    }
    gpti_land(b, end);
    gpti_emit(b, GPTI_C_WS, 0); gpti_emit_bytes(b, "]", 1);
}

/* Formats, as patterns */
static const char *gpti_format_pattern(gpti_str name) {
#define GPTI_YEAR "(000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})"
#define GPTI_MONTH "((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))"
#define GPTI_LEAP "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29"
#define GPTI_DAY "(" GPTI_YEAR "-" GPTI_MONTH "|" GPTI_LEAP ")"
#define GPTI_TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define GPTI_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define GPTI_HEX "[0-9a-fA-F]"
#define GPTI_LOCAL "[A-Za-z0-9_%+-]{1,30}"
#define GPTI_OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define GPTI_PATH "([A-Za-z0-9._~!$&'()*+,;=:@-]|%" GPTI_HEX "{2})*"
#define GPTI_QUERY "([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%" GPTI_HEX "{2})*"
    const char *const rows[][2] = {
        { "date", "^" GPTI_DAY "$" }, { "time", "^" GPTI_TIME "$" }, { "date-time", "^" GPTI_DAY "T" GPTI_TIME "$" },
        { "uuid", "^" GPTI_HEX "{8}-" GPTI_HEX "{4}-" GPTI_HEX "{4}-" GPTI_HEX "{4}-" GPTI_HEX "{12}$" },
        { "email", "^" GPTI_LOCAL "(\\." GPTI_LOCAL ")?@" GPTI_LABEL "(\\." GPTI_LABEL "){0,2}\\.[A-Za-z]{2,24}$" },
        { "ipv4", "^(" GPTI_OCTET "\\.){3}" GPTI_OCTET "$" },
        { "ipv6", "^((H:){7}H|(H:){6}:H|(H:){5}(:H){1,2}|(H:){4}(:H){1,3}|(H:){3}(:H){1,4}|(H:){2}(:H){1,5}|"
          "H:(:H){1,6}|:(:H){1,7}|(H:){1,7}:|::)$" },
        { "hostname", "^" GPTI_LABEL "(\\." GPTI_LABEL "){0,3}$" },
        { "uri", "^[A-Za-z][A-Za-z0-9+.-]*:(//" GPTI_LABEL "(\\." GPTI_LABEL ")*(:\\d{1,4})?)?(/" GPTI_PATH ")+"
          "(\\?" GPTI_QUERY ")?(#" GPTI_QUERY ")?$" }
    };
#undef GPTI_YEAR
#undef GPTI_MONTH
#undef GPTI_LEAP
#undef GPTI_DAY
#undef GPTI_TIME
#undef GPTI_LABEL
#undef GPTI_HEX
#undef GPTI_LOCAL
#undef GPTI_OCTET
#undef GPTI_PATH
#undef GPTI_QUERY
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) if (gpti_str_is(name, rows[i][0])) return rows[i][1];
    return NULL;
}

static void gpti_emit_string(gpti_build *b, uint32_t i) {
    const uint32_t pattern = gpti_member(b, i, "pattern"), format = gpti_member(b, i, "format");
    const uint32_t low = gpti_count(b, i, "minLength", 0), high = gpti_count(b, i, "maxLength", GPTI_NONE);
    const int both = pattern != GPTI_NONE && format != GPTI_NONE;
    char text[640];
    gpti_str s;
    size_t n = 0;
    if (low > high) gpti_schema_bad(b, "minLength", "it is more than maxLength");
    if (both || ((pattern != GPTI_NONE || format != GPTI_NONE) && (low || high != GPTI_NONE))) {
        gpti_schema_bad(b, pattern != GPTI_NONE ? "pattern" : "format",
            "beside another keyword that limits the string it is not supported");
        return;
    }
    gpti_emit_bytes(b, "\"", 1);
    if (pattern != GPTI_NONE) {
        if (b->value[pattern].kind != 's') gpti_schema_bad(b, "pattern", "expected a string");
        b->what = "pattern";
        gpti_regex(b, b->value[pattern].text);
    } else if (format != GPTI_NONE) {
        const char *p = gpti_format_pattern(b->value[format].text);
        b->what = "format";
        if (!p) { gpti_schema_bad(b, "format",
            "it is none of date, time, date-time, uuid, email, ipv4, ipv6, hostname, uri"); return; }
        /* H: four digits at most */
        for (; *p && n + 24 < sizeof text && gpti_str_is(b->value[format].text, "ipv6"); p++)
            n += (size_t)snprintf(text + n, 24, *p == 'H' ? "[0-9a-fA-F]{1,4}" : "%c", *p);
        s.p = n ? text : p; s.n = n ? n : strlen(p);
        gpti_regex(b, s);
    } else gpti_emit_chars(b, low, high);
    gpti_emit_bytes(b, "\"", 1);
}

/* A bound as a whole number of 10^-scale, *rest: there is more of it; 0: too many digits */
static int gpti_decimal(gpti_str s, int scale, int64_t *out, int *rest) {
    const int64_t most = (int64_t)1000000000 * 10000000;
    size_t i = *s.p == '-', n = i, k;
    int64_t v = 0;
    long e = 0, keep;
    int point = 0;
    *rest = 0;
    while (n < s.n && (s.p[n] | 32) != 'e') n++;
    if (n < s.n) {
        for (k = n + 1 + (s.p[n + 1] == '-' || s.p[n + 1] == '+'); k < s.n && e < 1000; k++) e =
            e * 10 + (s.p[k] - '0');
        if (s.p[n + 1] == '-') e = -e;
    }
    keep = e += scale;
    for (; i < n; i++) {
        if (s.p[i] == '.') { point = 1; continue; }
        if (point && keep-- <= 0) { *rest |= s.p[i] != '0'; continue; }
        if (v >= most) return 0;
        v = v * 10 + (s.p[i] - '0');
    }
    for (; keep > 0 && v; keep--) { if (v >= most) return 0; v *= 10; }
    for (; e < 0 && v; e++) { *rest |= v % 10 != 0; v /= 10; }
    *out = *s.p == '-' ? -v : v;
    return 1;
}

/* Its digits in front of the point and behind it, were it written without an exponent; at least 1 and 0 */
static void gpti_decimal_digits(gpti_str s, int *before, int *behind) {
    const char *p = s.p + (*s.p == '-'), *end = s.p + s.n, *q = gpti_json_digits(p, end);
    int e = 0, minus;
    *before = (int)gpti_min((size_t)(q - p), 1000); *behind = 0;
    if (q < end && *q == '.') {
        p = q + 1;
        q = gpti_json_digits(p, end);
        *behind = (int)gpti_min((size_t)(q - p), 1000);
    }
    if (q < end) {
        minus = *++q == '-';
        for (q += minus || *q == '+'; q < end && e < 1000; q++) e = 10 * e + (*q - '0');
        if (minus) e = -e;
    }
    *before = *before + e > 1 ? *before + e : 1; *behind = *behind - e > 0 ? *behind - e : 0;
}

static void gpti_emit_number(gpti_build *b, uint32_t i, int integer) {
    static const char names[4][20] = { "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum" };
    gpt_constraint *c = b->c;
    gpti_bounds o;
    int k, rest, any = 0, behind = 0, before = 0, n, m;
    for (k = 0; k < 4; k++) {
        const uint32_t v = gpti_member(b, i, names[k]);
        if (v == GPTI_NONE) continue;
        if (b->value[v].kind != 'n') { gpti_schema_bad(b, names[k], "expected a number"); return; }
        any = 1;
        gpti_decimal_digits(b->value[v].text, &n, &m);
        if (n > before && n <= 16) before = n;          /* more of them are not written */
        if (m > behind) behind = m;
    }
    if (!any) { gpti_emit(b, GPTI_C_CALL, integer ? GPTI_R_INTEGER : GPTI_R_NUMBER); return; }
    o.scale = integer ? 0 : (int)gpti_min((size_t)(16 - before), (size_t)(behind > 6 ? behind : 6));
    o.n_int = 17 - o.scale;
    o.low = -GPTI_NUM_MOST; o.high = GPTI_NUM_MOST;
    for (k = 0; k < 4; k++) {
        const uint32_t v = gpti_member(b, i, names[k]);
        int64_t x;
        int minus;
        if (v == GPTI_NONE) continue;
        minus = *b->value[v].text.p == '-';
        rest = 0;
        if (!gpti_decimal(b->value[v].text, o.scale, &x, &rest)) {      /* beyond all that is written */
            if (minus != (k < 2)) { gpti_schema_bad(b, names[k], "it has too many digits"); return; }
            x = minus ? 1 - GPTI_NUM_MOST : GPTI_NUM_MOST - 1;
        }
        if (k < 2) {                            /* upwards to what can be written, or beyond it */
            x += rest ? !minus : k == 1;
            if (x > o.low) o.low = x;
        } else {
            x -= rest ? minus : k == 3;
            if (x < o.high) o.high = x;
        }
    }
    if (o.low > o.high || gpti_num_left(&o, GPTI_NUM_FIRST, 0) == GPTI_C_FAR) {
        gpti_schema_bad(b, "minimum", "no number lies within the bounds");
        return;
    }
    if (!GPTI_MORE(b, c->num, c->n_num, b->cap_num)) return;
    c->num[c->n_num] = o;
    gpti_emit(b, GPTI_C_NUM, (uint32_t)c->n_num++);
}

/* const or enum: those of its values that are of the types */
static void gpti_emit_enum(gpti_build *b, uint32_t i, unsigned types) {
    uint32_t v, n = 0, m = 0;
    gpti_str *text;
    char *spelled, *p;
    size_t bytes = 0, j, len;
    for (v = gpti_next_value(b, i, GPTI_NONE); v != GPTI_NONE; v = gpti_next_value(b, i, v)) { n++;
        bytes += 6 * b->value[v].text.n + 8; }
    if (!n) { gpti_schema_bad(b, "enum", "expected values"); return; }
    text = (gpti_str *)gpti_alloc_n(b->mem, n, sizeof *text);
    p = spelled = (char *)gpti_alloc_n(b->mem, bytes, 1);
    gpti_open(b);
    for (v = gpti_next_value(b, i, GPTI_NONE); v != GPTI_NONE && text && spelled; v = gpti_next_value(b, i, v)) {
        const gpti_str s = b->value[v].text;
        if (!(gpti_type_of(&b->value[v]) & types)) continue;
        if (b->value[v].kind == 'a' || b->value[v].kind == 'o') { gpti_emit_value(b, v); gpti_bar(b); continue; }
        text[m].p = p;
        if (b->value[v].kind != 's') { memcpy(p, s.p, s.n); p += s.n; }
        else {
            *p++ = '"';
            for (j = 0; j < s.n; j += len) { uint32_t cp; char out[8]; size_t w; len = gpti_utf8(s.p + j, s.n - j, &cp);
                w = gpti_put_json(out, cp); memcpy(p, out, w); p += w; }
            *p++ = '"';
        }
        text[m].n = (size_t)(p - text[m].p); m++;
    }
    if (!text || !spelled) gpti_schema_bad(b, "enum", "out of memory");
    else if (m) gpti_emit_texts(b, text, m);
    else gpti_emit(b, GPTI_C_FAIL, 0);
    gpti_close_group(b);
    gpti_free(b->mem, text); gpti_free(b->mem, spelled);
}

/* Only these of the keywords may stand beside `keyword`: annotations and those listed. */
static void gpti_schema_alone(gpti_build *b, uint32_t i, const char *keyword, const char *with) {
    char name[32];
    for (i = b->value[i].child; i != GPTI_NONE; i = b->value[i].next) {
        const gpti_str key = b->value[i].key;
        if (gpti_str_is(key, keyword) || gpti_keyword(key) == '-' || key.n > 24) continue;
        snprintf(name, sizeof name, " %.*s ", (int)key.n, key.p);
        if (!strstr(with, name)) { snprintf(name, sizeof name, "%.*s", (int)key.n, key.p); gpti_schema_bad(b, name,
            "beside $ref, enum, const, anyOf, oneOf or allOf it is not supported"); return; }
    }
}

/* allOf: of objects, with what stands beside it; each once, $refs followed, without end only within a $ref, which is
 * an error */
static void gpti_emit_all(gpti_build *b, uint32_t i) {
    uint32_t all = gpti_member(b, i, "allOf"), additional = GPTI_NONE, k, v, hops;
    if (b->value[all].kind != 'a' || b->value[all].child == GPTI_NONE) { gpti_schema_bad(b, "allOf",
        "expected schemas"); return; }
    gpti_schema_alone(b, i, "allOf", " type properties required ");
    if (b->value[b->value[all].child].next == GPTI_NONE && gpti_member(b, i, "properties") == GPTI_NONE &&
        gpti_member(b, i, "required") == GPTI_NONE) {
        gpti_emit(b, GPTI_C_CALL, gpti_schema_rule(b, b->value[all].child));
        return;
    }
    b->n_prop = 0;
    gpti_schema_props(b, i, &additional, 1);
    for (v = b->value[all].child; v != GPTI_NONE && !b->fail; v = b->value[v].next) {
        uint32_t x = v;
        for (hops = 0; (k = gpti_member(b, x, "$ref")) != GPTI_NONE; hops++) {
            if (hops == 32 || (x = gpti_ref(b, k)) == GPTI_NONE) { gpti_schema_bad(b, "allOf",
                "a $ref of it names nothing"); return; }
        }
        if (gpti_types(b, x) != GPTI_T_OBJECT) { gpti_schema_bad(b, "allOf", "it is supported of objects alone");
            return; }
        for (k = b->value[x].child; k != GPTI_NONE; k = b->value[k].next) {
            const int of = gpti_keyword(b->value[k].key);
            if (of != 'o' && of != '-' && !gpti_str_is(b->value[k].key, "type")) { gpti_schema_bad(b, "allOf",
                "it is supported of plain objects alone"); return; }
        }
        gpti_schema_props(b, x, &additional, 1);
    }
    if (!b->fail) gpti_emit_object(b, additional);
}

static void gpti_emit_any(gpti_build *b, uint32_t i, const char *keyword, int one) {
    uint32_t list = gpti_member(b, i, keyword), v, w;
    if (b->value[list].kind != 'a' || b->value[list].child == GPTI_NONE) { gpti_schema_bad(b, keyword,
        "expected schemas"); return; }
    gpti_schema_alone(b, i, keyword, " ");
    gpti_open(b);
    for (v = b->value[list].child; v != GPTI_NONE && !b->fail; v = b->value[v].next) {
        if (one && b->value[v].at > 200) { gpti_schema_bad(b, keyword, "more than 200 schemas"); return; }
        for (w = b->value[v].next; one && w != GPTI_NONE && !b->fail; w = b->value[w].next)
            if (!gpti_apart(b, v, w)) { gpti_schema_bad(b, keyword,
                "type, const, enum or required properties do not tell its schemas apart"); return; }
        gpti_emit(b, GPTI_C_CALL, gpti_schema_rule(b, v));
        if (b->value[v].next != GPTI_NONE) gpti_bar(b);
    }
    gpti_close_group(b);
}

/* One schema: its rule's nodes */
static void gpti_emit_schema(gpti_build *b, uint32_t i) {
    char name[40];
    unsigned types, t;
    uint32_t k, v;
    if (gpti_is_false(b, i)) { gpti_emit(b, GPTI_C_FAIL, 0); return; }
    if (gpti_is_true(b, i)) { gpti_emit(b, GPTI_C_CALL, GPTI_R_VALUE); return; }
    if (b->value[i].kind != 'o') { gpti_schema_bad(b, "", "expected a schema: an object, true or false"); return; }
    for (k = b->value[i].child; k != GPTI_NONE; k = b->value[k].next) {
        const int of = gpti_keyword(b->value[k].key);
        char show[GPTI_SHOWN];
        snprintf(name, sizeof name, "%.38s", gpti_show(show, b->value[k].key));
        if (!of) { gpti_schema_bad(b, name, "this keyword is not supported"); return; }
        if (of == '?' && !gpti_is_false(b, k)) { gpti_schema_bad(b, name,
            "it is not supported: an automaton cannot compare what was written"); return; }
        if (!strcmp(name, "type")) {
            int known = b->value[k].kind == 's' && gpti_type_name(b->value[k].text);
            if (b->value[k].kind == 'a')
                for (known = b->value[k].child != GPTI_NONE, v = b->value[k].child; v != GPTI_NONE; v =
                    b->value[v].next) known &= gpti_type_name(b->value[v].text) != 0;
            if (!known) { gpti_schema_bad(b, name, "expected names of types"); return; }
        }
    }
    if ((k = gpti_member(b, i, "$ref")) != GPTI_NONE) {
        gpti_schema_alone(b, i, "$ref", " ");
        v = gpti_ref(b, k);
        if (v == GPTI_NONE) gpti_schema_bad(b, "$ref", "it names nothing in this document");
        else gpti_emit(b, GPTI_C_CALL, gpti_schema_rule(b, v));
        return;
    }
    types = gpti_types(b, i);
    if (gpti_member(b, i, "const") != GPTI_NONE || gpti_member(b, i, "enum") != GPTI_NONE) {
        gpti_schema_alone(b, i, gpti_member(b, i, "const") != GPTI_NONE ? "const" : "enum", " type ");
        gpti_emit_enum(b, i, types);
        return;
    }
    if (gpti_member(b, i, "anyOf") != GPTI_NONE) { gpti_emit_any(b, i, "anyOf", 0); return; }
    if (gpti_member(b, i, "oneOf") != GPTI_NONE) { gpti_emit_any(b, i, "oneOf", 1); return; }
    if (gpti_member(b, i, "allOf") != GPTI_NONE) { gpti_emit_all(b, i); return; }
    if (types == GPTI_T_ALL && gpti_member(b, i, "type") == GPTI_NONE) {
        for (k = b->value[i].child; k != GPTI_NONE && gpti_keyword(b->value[k].key) == '-'; k = b->value[k].next) {}
        if (k == GPTI_NONE) { gpti_emit(b, GPTI_C_CALL, GPTI_R_VALUE); return; }
    }
    gpti_open(b);
    for (t = 1; t <= GPTI_T_OBJECT && !b->fail; t <<= 1) {
        uint32_t additional = GPTI_NONE;
        if (!(types & t) || (t == GPTI_T_INTEGER && types & GPTI_T_NUMBER)) continue;
        if (t == GPTI_T_NULL) gpti_emit_bytes(b, "null", 4);
        if (t == GPTI_T_BOOL) { gpti_emit_bytes(b, "true", 4); gpti_bar(b); gpti_emit_bytes(b, "false", 5); }
        if (t == GPTI_T_INTEGER) gpti_emit_number(b, i, 1);
        if (t == GPTI_T_NUMBER) gpti_emit_number(b, i, 0);
        if (t == GPTI_T_STRING) gpti_emit_string(b, i);
        if (t == GPTI_T_ARRAY) gpti_emit_array(b, i);
        b->n_prop = 0;
        if (t == GPTI_T_OBJECT) { gpti_schema_props(b, i, &additional, 0); if (!b->fail) gpti_emit_object(b,
            additional); }
        if (types > 2 * t - 1) gpti_bar(b);
    }
    gpti_close_group(b);
}

/* ---- Constraints ---- */

static void gpti_compile(gpti_build *b, const gpt_constraint_params *p) {
    const gpti_str none = { "", 0 };
    gpti_str text = none, *strings = NULL;
    char *room = NULL;
    size_t i, root = 0;
    if (p->gbnf || p->schema) text = gpti_str_of(p->gbnf ? p->gbnf : p->schema);
    for (i = 0; p->strings && i < p->n_string && text.n <= (1 << 20); i++) text.n += p->strings[i]
        ? strlen(p->strings[i]) : 0;
    if (text.n > (1 << 20)) { gpti_bad(b, GPT_E_UNSUPPORTED, "constraint", none, "more than 1 MiB of text"); return; }
    if (p->gbnf) {
        gpti_gbnf(b, text);
        for (root = 0; root < b->n_rule && !gpti_str_is(b->rule[root].name, "root"); root++) {}
        if (!b->fail && root == b->n_rule) gpti_bad(b, GPT_E_FORMAT, "grammar: rule ", gpti_str_of("root"),
            "it is not defined");
    } else if (p->strings) {
        strings = (gpti_str *)gpti_alloc_n(b->mem, p->n_string, sizeof *strings);
        for (i = 0; i < p->n_string && strings; i++) {
            if (!p->strings[i]) { gpti_bad(b, GPT_E_ARG, "constraint: strings", none, "one is NULL"); break; }
            strings[i] = gpti_str_of(p->strings[i]);
        }
        root = gpti_rule_new(b, gpti_str_of("strings"), 0);
        if (!strings) gpti_bad(b, GPT_E_MEMORY, "constraint", none, "out of memory");
        else if (!b->fail) { b->rule[0].entry = 0; gpti_emit_texts(b, strings, p->n_string); gpti_emit(b, GPTI_C_RET,
            0); }
        gpti_free(b->mem, strings);
    } else {
        b->all = gpti_set(b, 1, 1);
        b->n_all = b->c->n_set;
        b->json = 1;
        gpti_gbnf(b, gpti_str_of(gpti_json_rules));
        b->json = 0;
    }
    if (p->schema && !b->fail) {
        room = (char *)gpti_alloc_n(b->mem, text.n, 1);
        if (!room) gpti_bad(b, GPT_E_MEMORY, "schema", none, "out of memory");
        else gpti_values(b, text, room);
        root = b->fail ? 0 : gpti_schema_rule(b, 0);
        for (i = GPTI_N_R + 1; i < b->n_rule && !b->fail; i++) {
            b->rule[i].entry = gpti_here(b); b->here = b->rule[i].node;
            gpti_emit_schema(b, b->rule[i].node);
            gpti_emit(b, GPTI_C_RET, 0);
        }
    }
    if (!b->fail) {                             /* the text: nothing, the root, nothing */
        const uint32_t at = gpti_here(b), r = gpti_rule_new(b, gpti_str_of("text"), 0);
        if (!b->fail) b->rule[r].entry = at;
        gpti_emit(b, !p->schema && !p->json ? GPTI_C_JUMP : p->trigger ? GPTI_C_WS : GPTI_C_LAX, at + 1);
        gpti_emit(b, GPTI_C_CALL, (uint32_t)root);
        gpti_emit(b, p->schema || p->json ? GPTI_C_LAX : GPTI_C_JUMP, at + 3);
        gpti_emit(b, GPTI_C_END, 0);
        gpti_settle(b, r);
    }
    gpti_free(b->mem, room);
}

GPT_API void gpt_constraint_free(gpt_constraint *c) {
    gpti_mem mem;
    int i;
    if (!c) return;
    mem = c->mem;
    for (i = 0; i < c->n_plain; i++) gpti_free(&mem, c->plain_bits[i]);
    gpti_free(&mem, c->node); gpti_free(&mem, c->cost); gpti_free(&mem, c->need); gpti_free(&mem, c->loop);
    gpti_free(&mem, c->num); gpti_free(&mem, c->set); gpti_free(&mem, c);
}

GPT_API gpt_result gpt_constraint_new(gpt_constraint **out, const gpt_model *m, const gpt_constraint_params *p,
    gpt_error *err) {
    gpti_build b;
    gpti_mem mem;
    gpt_constraint *c;
    size_t i, n = 0;
    gpti_clear(err);
    if (out) *out = NULL;
    if (!out || !p || (p->gbnf != NULL) + (p->schema != NULL) + (p->json != 0) + (p->strings != NULL &&
        p->n_string > 0) != 1)
        return gpti_fail(err, GPT_E_ARG, "gpt_constraint_new: expected out and one of gbnf, schema, json and strings");
    if (p->trigger && (!*p->trigger || strlen(p->trigger) > GPTI_STOP_BYTES))
        return gpti_fail(err, GPT_E_ARG, "gpt_constraint_new: expected a trigger of 1 to %d bytes",
            (int)GPTI_STOP_BYTES);
    memset(&mem, 0, sizeof mem);
    if (m) mem = m->mem;
    c = (gpt_constraint *)gpti_alloc(&mem, sizeof *c);
    if (!c) return gpti_fail(err, GPT_E_MEMORY, "constraint: out of memory");
    c->mem = mem; c->m = m;
    memset(&b, 0, sizeof b);
    b.c = c; b.mem = &mem; b.err = err; b.what = "";
    c->trigger_token = -1;
    if (p->trigger) {
        gpti_word_set(&c->trigger, p->trigger, strlen(p->trigger));
        if (m) c->trigger_token = gpti_tokenizer_find(&m->tok, p->trigger, c->trigger.len);
        if (m && !gpti_tokenizer_is_control(&m->tok, c->trigger_token)) c->trigger_token = -1;
    }
    c->digest = gpti_digest(p->gbnf ? 1 : p->schema ? 2 : p->json ? 3 : 4, c->trigger.text, c->trigger.len);
    if (p->gbnf || p->schema) n = strlen(p->gbnf ? p->gbnf : p->schema);
    if (n) c->digest = gpti_digest(c->digest, p->gbnf ? p->gbnf : p->schema, n);
    for (i = 0; p->strings && i < p->n_string; i++) if (p->strings[i]) c->digest = gpti_digest(c->digest, p->strings[i],
        strlen(p->strings[i]));
    if (!c->digest) c->digest = 1;              /* 0: none */
    gpti_compile(&b, p);
    gpti_free(&mem, b.rule); gpti_free(&mem, b.group); gpti_free(&mem, b.pair); gpti_free(&mem, b.value);
        gpti_free(&mem, b.prop);
    if (b.fail) gpt_constraint_free(c);
    else *out = c;
    return b.fail;
}

typedef struct gpti_room { gpti_live l; gpti_try t; } gpti_room;

GPT_API gpt_result gpt_constraint_check(const gpt_constraint *c, const char *text, size_t n, size_t *at,
    gpt_error *err) {
    gpti_arena a;
    gpti_room *r;
    size_t i;
    int k;
    gpti_clear(err);
    if (at) *at = 0;
    if (!c || (n && !text)) return gpti_fail(err, GPT_E_ARG,
        "gpt_constraint_check: constraint and text must not be NULL");
    memset(&a, 0, sizeof a);
    gpti_live_layout(&a, NULL, 0);
    r = (gpti_room *)gpti_alloc_raw(&c->mem, sizeof *r + a.used + 64);
    if (!r) return gpti_fail(err, GPT_E_MEMORY, "constraint: out of memory");
    memset(r->t.seen, 0, sizeof r->t.seen);
    r->t.stamp = 0;
    a.used = 0; a.base = gpti_align((unsigned char *)r + sizeof *r, 64);
    gpti_live_layout(&a, &r->l, 0);
    r->l.lax = 1;
    gpti_live_begin(&r->l, &r->t, c);
    for (i = 0; i < n; i++) {
        if (!gpti_con_step(&r->l, &r->t, &r->l.now, &r->t.set[0], (unsigned char)text[i])) break;
        gpti_live_take(&r->l, &r->t.set[0]);
    }
    k = i < n ? -1 - (r->l.now.full | r->t.set[0].full) : gpti_states_end(&r->l, &r->l.now) != 0;
    gpti_free(&c->mem, r);
    if (at) *at = i;
    if (k < -1) return gpti_fail(err, GPT_E_UNSUPPORTED,
        "constraint: byte %llu: the text so far can be read in more ways than there is room for", (gpti_ull)i);
    if (k < 0) return gpti_fail(err, GPT_E_REFUSED, "constraint: byte %llu cannot stand there", (gpti_ull)i);
    return k ? GPT_OK : GPT_MORE;
}

GPTI_COLD_END
/* ---- The constraint of a session's text ---- */

/* Rooms that a token has behind it */
static uint32_t gpti_tokens_left(const gpt_session *s) {
    const gpti_generation *g = s->gen;
    size_t n = gpti_n_free(s);
    if (g->params.max_tokens) n = gpti_min(n, g->params.max_tokens - gpti_min(g->n_generated, g->params.max_tokens));
    return gpti_far(n);
}

/* What the generation asks of tokens at all */
static int gpti_has_mask(const gpt_session *s) {
    const gpti_generation *g = s->gen;
    return g->con_phase || g->ban.n_stop || g->n_generated < g->params.min_tokens;
}

static void gpti_con_begin(gpt_session *s) {            /* the automaton starts at the bytes that follow */
    s->gen->con_phase = GPTI_CON_ACTIVE;
    gpti_live_begin(s->live, s->w->trial, s->gen->params.constraint);
}

/* A generation begins, or its thinking part is over: the constraint waits for its trigger or starts. */
static void gpti_con_start(gpt_session *s) {
    gpti_generation *g = s->gen;
    const gpt_constraint *c = g->params.constraint;
    if (!c) { g->con_phase = GPTI_CON_NONE; return; }
    g->con_digest = c->digest; g->con_from = s->n_token; g->con_edge = g->edge; g->con_at = 0;
    g->con_phase = g->con_begun = c->trigger.len ? GPTI_CON_TRIGGER : GPTI_CON_ACTIVE;
    if (!c->trigger.len) gpti_con_begin(s);
}

/* The fewest tokens that spell the mark from each of its bytes on */
static void gpti_mark_weigh(const gpt_session *s, const gpti_word *mark, uint16_t need[257]) {
    size_t at = mark->len, n;
    for (need[at] = 0; at-- > 0;)
        for (need[at] = 1 + need[at + 1], n = 2; at + n <= mark->len; n++)
            if (gpti_tokenizer_find(&s->m->tok, (const char *)mark->text + at, n) >= 0 && need[at + n] < need[at])
                need[at] = 1 + need[at + n];
}

/* Until this text has been generated, or gpti_con_start is called, all is free: the end of a thinking part. "": until
 * that call alone. At most 256 bytes. To be called between gpti_begin and the first step. */
static void gpti_con_wait(gpt_session *s, const char *mark) {
    gpti_generation *g = s->gen;
    if (!g->params.constraint) return;
    gpti_word_set(&g->mark, mark, strlen(mark));
    gpti_mark_weigh(s, &g->mark, g->mark_need);
    g->con_phase = g->con_begun = GPTI_CON_MARK; g->con_at = 0;
}

/* How models mark the part of an answer that is thought. What a template has of these is what its model writes. */
static const struct { char open[32], close[56]; } gpti_thoughts[] = {
    { "<think>", "</think>" }, { "[THINK]", "[/THINK]" }, { "<|START_THINKING|>", "<|END_THINKING|>" },
    { "<thinking>", "</thinking>" }, { "<mm:think>", "</mm:think>" }, { "<seed:think>", "</seed:think>" },
    { "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>" } };
enum { GPTI_THOUGHT_CHANNEL = 6, GPTI_N_THOUGHT };

/* An answer under a constraint may begin with thinking instead, where a single token does. */
static int gpti_may_think(const gpt_session *s) {
    return s->gen->think == GPTI_THINK_MAY_BEGIN && !s->gen->n_generated;
}
static int gpti_opens_thought(const gpt_session *s, gpt_token id) {
    const gpti_str p = gpti_tokenizer_piece(&s->m->tok, id);
    return gpti_may_think(s) && gpti_str_is(p, gpti_thoughts[s->gen->thought].open);
}

/* What the host sees of a token: of control tokens only those that mark thinking, unless all are to be shown. */
static gpti_str gpti_shown(const gpt_session *s, gpt_token id, int *edge) {
    const gpti_generation *g = s->gen;
    const gpti_str p = gpti_tokenizer_piece(&s->m->tok, id);
    const int mark = g->think && (gpti_str_is(p, gpti_thoughts[g->thought].open) ||
                                  gpti_str_is(p, gpti_thoughts[g->thought].close));
    return gpti_tokenizer_shown(&s->m->tok, id, g->show || mark, edge);
}

/* The states behind a token, with take those of the session; 0: it may not come. *cost: tokens to the end from there */
static int gpti_con_token(gpt_session *s, gpt_token id, int take, uint32_t *cost) {
    gpti_generation *g = s->gen;
    gpti_live *l = s->live;
    gpti_try *t = s->w->trial;
    const gpt_constraint *c = g->params.constraint;
    const gpti_states *now = &l->now;
    int edge = g->edge, phase = g->con_phase, ok = 1;
    size_t at = g->con_at, i = 0;
    const uint32_t n_frame = l->n_frame;
    const gpti_str p = gpti_tokenizer_shown(&s->m->tok, id, phase == GPTI_CON_MARK, &edge);
    *cost = 0;
    if (gpti_tokenizer_is_control(&s->m->tok, id) && phase != GPTI_CON_MARK) {
        if (phase == GPTI_CON_ACTIVE) { ok = gpti_step_token(l, t, now, &t->set[0], id); now = &t->set[0]; }
        else if (phase == GPTI_CON_TRIGGER && id == c->trigger_token) {
            phase = GPTI_CON_ACTIVE;
            gpti_live_begin(l, t, c); now = &l->now;
        } else return 1;
    } else {
        if (phase == GPTI_CON_ACTIVE && !p.n) return 0;
        for (; i < p.n && phase != GPTI_CON_ACTIVE; i++) {      /* free, up to the end of what is waited for */
            const gpti_word *word = phase == GPTI_CON_MARK ? &g->mark : &c->trigger;
            at = gpti_word_next(word->text, word->border, at, (unsigned char)p.p[i]);
            if (!word->len || at < word->len) continue;
            at = 0;
            phase = phase == GPTI_CON_MARK && c->trigger.len ? GPTI_CON_TRIGGER : GPTI_CON_ACTIVE;
            if (phase == GPTI_CON_ACTIVE) { gpti_live_begin(l, t, c); now = &l->now; }
        }
        if (phase == GPTI_CON_ACTIVE) { now = gpti_steps(l, t, now, p.p + i, p.n - i); ok = now != NULL; }
    }
    if (ok && phase == GPTI_CON_ACTIVE) *cost = gpti_states_cost(l, now);
    if (take && ok) {
        g->con_phase = phase; g->con_at = at;
        if (phase == GPTI_CON_ACTIVE && now != &l->now) gpti_live_take(l, now);
    } else if (g->con_phase == GPTI_CON_ACTIVE) gpti_frames_back(l, n_frame);
    return ok;
}

/* Would these bytes complete a banned string? take: they have come. */
static int gpti_is_banned(gpti_stream *ban, gpti_str p, int take) {
    size_t i, k;
    int j, hit = 0;
    for (j = 0; j < ban->n_stop; j++) {
        for (k = ban->at[j], i = 0; i < p.n && k < ban->len[j]; i++) k = gpti_word_next(ban->stop[j], ban->border[j], k,
            (unsigned char)p.p[i]);
        hit |= k == ban->len[j];
        if (take) ban->at[j] = (uint16_t)(k == ban->len[j] ? 0 : k);
    }
    return hit;
}

/* Tokens that the shortest way takes from here on while the thinking part's mark is waited for, at: its bytes that have
 * come */
static uint32_t gpti_mark_left(const gpt_session *s, size_t at) {
    const gpt_constraint *c = s->gen->params.constraint;
    return s->gen->mark_need[at] + (c->trigger.len ? 0 : c->cost[c->root]);
}

/* May the token come next? A token that ends the text may where the text may end. */
static int gpti_allows(gpt_session *s, gpt_token id, uint32_t *more) {
    gpti_generation *g = s->gen;
    const int end = gpti_tokenizer_is_end(&s->m->tok, id), active = g->con_phase == GPTI_CON_ACTIVE;
    int edge = g->edge;
    uint32_t cost = 0;
    if (more) *more = 0;
    if (end && g->n_generated < g->params.min_tokens) return 0;
    if (end && active && !g->params.ignore_end && gpti_states_end(s->live, &s->live->now)) return 1;
    if (end && g->con_phase == GPTI_CON_MARK && g->mark.len && !g->params.constraint->trigger.len) return 0;
    if (g->ban.n_stop && gpti_is_banned(&g->ban, gpti_tokenizer_shown(&s->m->tok, id, 0, &edge), 0)) return 0;
    if (!g->con_phase) return 1;
    if (gpti_opens_thought(s, id)) {            /* its end takes no more tokens than bytes */
        const size_t n = strlen(gpti_thoughts[g->thought].close);
        const gpt_constraint *c = g->params.constraint;
        return !g->params.must_finish || n + (c->trigger.len ? 0 : c->cost[c->root]) < gpti_tokens_left(s);
    }
    if (g->con_phase == GPTI_CON_MARK && g->params.must_finish && g->mark.len) {
        const gpti_str p = gpti_tokenizer_shown(&s->m->tok, id, 1, &edge);
        size_t at = g->con_at, i;
        for (i = 0; i < p.n && at < g->mark.len; i++)
            at = gpti_word_next(g->mark.text, g->mark.border, at, (unsigned char)p.p[i]);
        if (at < g->mark.len) return gpti_mark_left(s, at) < gpti_tokens_left(s);
    }
    if (!gpti_con_token(s, id, 0, &cost)) return 0;
    if (more) *more = cost;
    return !g->params.must_finish || cost < gpti_tokens_left(s);
}

static void gpti_con_take(gpt_session *s, gpt_token id) {      /* it has come; before g->edge moves on */
    gpti_generation *g = s->gen;
    int edge = g->edge;
    uint32_t cost;
    if (g->ban.n_stop) gpti_is_banned(&g->ban, gpti_tokenizer_shown(&s->m->tok, id, 0, &edge), 1);
    if (g->con_phase && gpti_opens_thought(s, id)) gpti_con_wait(s, gpti_thoughts[g->thought].close);
    else if (g->con_phase) gpti_con_token(s, id, 1, &cost);
}

/* ---- Masks ---- */

static uint8_t gpti_kept_add(gpti_live *l, gpti_try *t, const gpti_states *in) {
    size_t k;
    for (k = 0; k < t->n_kept; k++)
        if (t->kept[k].n == in->n && !memcmp(t->kept[k].s, in->s, in->n * sizeof *in->s)) return (uint8_t)(k + 1);
    if (k == GPTI_N_SET || in->n > GPTI_SET_STATES) return GPTI_SET_LOST;
    t->kept[k].n = in->n; t->kept[k].cost = gpti_states_cost(l, in);
    memcpy(t->kept[k].s, in->s, in->n * sizeof *in->s);
    memset(t->to[k], 0, sizeof t->to[k]);
    return (uint8_t)++t->n_kept;
}

/* The same as gpti_steps from the states at hand, by what is kept: the set's number, GPTI_SET_NONE or _LOST */
static unsigned gpti_kept_steps(gpti_live *l, gpti_try *t, gpti_str p) {
    unsigned at = 0, next;
    size_t i;
    int ok;
    for (i = 0; i < p.n; i++, at = next - 1) {
        const unsigned char b = (unsigned char)p.p[i];
        if ((next = t->to[at][b]) == 0) {
            gpti_states *in = &t->set[0], *out = &t->set[1];
            in->n = t->kept[at].n;
            memcpy(in->s, t->kept[at].s, in->n * sizeof *in->s);
            ok = gpti_con_step(l, t, in, out, b);
            next = out->full ? GPTI_SET_LOST : GPTI_SET_NONE;
            if (ok) next = gpti_kept_add(l, t, out);
            t->to[at][b] = (uint8_t)next;
        }
        if (next >= GPTI_SET_LOST) return next;
    }
    return at;
}

/* The mask of the states at hand, in the work space: 1 when it is there. Some 100 microseconds to a millisecond a
 * call. */
static int gpti_mask_make(gpt_session *s, gpti_mask **out) {
    gpti_live *l = s->live;
    gpti_try *t = s->w->trial;
    const gpt_constraint *c = l->c;
    const size_t n_vocab = s->m->hp.n_vocab, n_word = n_vocab / 32 + 1;
    const uint32_t here = gpti_states_cost(l, &l->now);
    uint64_t key[2] = { 0, 0 };
    uint32_t first[8], *bits, plain[GPTI_C_PLAIN], cost, n_frame;
    size_t i, k;
    int kept;
    gpti_mask *m;
    for (i = 0; i < l->now.n; i++) {            /* of a set: the order does not count */
        const gpti_state *st = &l->now.s[i];
        const uint64_t x = gpti_mix64(l->frame[st->frame].digest + gpti_mix64(st->part * 31 + st->node));
        key[0] += x; key[1] += gpti_mix64(x ^ c->digest ^ (uint64_t)l->depth << 48);
    }
    key[1] ^= c->digest ^ (uint64_t)s->gen->edge;
    for (k = 0; k < GPTI_N_MASK && !(t->mask[k].used && t->mask[k].key[0] == key[0] && t->mask[k].key[1] == key[1]);
        k++) {}
    if (k == GPTI_N_MASK) {                     /* the one whose turn it is goes */
        k = t->turn++ % GPTI_N_MASK;
        m = &t->mask[k];
        m->key[0] = key[0]; m->key[1] = key[1]; m->used = 1; m->more = 0; m->at = 0;
        memset(t->bits + k * n_word, 0, n_word * sizeof *t->bits);
    }
    m = *out = &t->mask[k]; bits = t->bits + k * n_word;
    if (m->at == n_vocab) return 1;
    gpti_states_first(l, &l->now, first);
    memset(plain, 0, sizeof plain);
    for (i = 0; i < l->now.n; i++) {            /* bytes of the tokens that a loop takes whole */
        const gpti_node x = c->node[l->now.s[i].node];
        const gpti_frame *f = &l->frame[l->now.s[i].frame];
        uint32_t room = GPTI_NONE;
        if (x.op != GPTI_C_CLASS || !x.none || l->now.s[i].part) continue;
        if (x.flag == 2) { const gpti_loop *o = &c->loop[c->node[f->node].b]; if (o->max != GPTI_NONE) room =
            o->max - f->count; }
        if (room > plain[x.none - 1]) plain[x.none - 1] = room;
        cost = gpti_far((uint64_t)c->cost[l->now.s[i].node] + f->cost);
        if (cost > here + 1 && cost - here - 1 > m->more) m->more = cost - here - 1;
    }
    n_frame = l->n_frame;
    t->n_kept = 0;
    kept = l->now.n <= GPTI_SET_STATES && !s->gen->edge;
    if (kept) gpti_kept_add(l, t, &l->now);
    for (k = 0; k < 32768 && m->at < n_vocab; k++, m->at++) {
        const gpt_token id = (gpt_token)m->at;
        const gpti_str p = gpti_tokenizer_piece(&s->m->tok, id);
        int ok = 0;
        unsigned set = GPTI_SET_LOST;
        if (!p.n || p.n > GPTI_TOKEN_LONG || gpti_tokenizer_is_control(&s->m->tok, id)) continue;
        if (!s->gen->edge) {
            if (!(first[(unsigned char)*p.p >> 5] >> (*p.p & 31) & 1)) continue;
            for (i = 0; i < (size_t)c->n_plain; i++) ok |= p.n <= plain[i] &&
                c->plain_bits[i][id >> 5] >> (id & 31) & 1;
        }
        if (!ok) {
            if (kept && l->n_frame > l->n_most * 3 / 4) { gpti_frames_back(l, n_frame); t->n_kept = 0; gpti_kept_add(l,
                t, &l->now); }
            if (kept) set = gpti_kept_steps(l, t, p);
            k += set == GPTI_SET_LOST ? 64 : 3;
            if (set == GPTI_SET_NONE || (set == GPTI_SET_LOST && !gpti_con_token(s, id, 0, &cost))) continue;
            if (set != GPTI_SET_LOST) cost = t->kept[set].cost;
            if (cost > here && cost - here > m->more) m->more = cost - here;
        }
        bits[id >> 5] |= 1u << (id & 31);
    }
    gpti_frames_back(l, n_frame);
    return m->at == n_vocab;
}

/* ---- Text that is the only possible one ---- */

/* The only byte that may come behind these states; -1: there are several, or an end or a token may come */
static int gpti_only_byte(const gpti_live *l, const gpti_states *now) {
    uint32_t first[8];
    int b, found = -1;
    size_t i;
    for (i = 0; i < now->n; i++) {              /* the quick answers */
        const gpti_node x = l->c->node[now->s[i].node];
        if (x.op == GPTI_C_END || x.op == GPTI_C_TOKEN || x.op == GPTI_C_WS) return -1;
        if (x.op == GPTI_C_BYTE && found >= 0 && found != (int)x.b) return -1;
        if (x.op == GPTI_C_BYTE) found = (int)x.b;
    }
    gpti_states_first(l, now, first);
    for (b = 0, found = -1; b < 256; b++) {
        if (!(first[b >> 5] >> (b & 31) & 1)) continue;
        if (found >= 0) return -1;
        found = b;
    }
    return found;
}

/* Could a longer token that begins like this one come instead? */
static int gpti_is_open(gpt_session *s, gpt_token id) {
    const gpti_str p = gpti_tokenizer_piece(&s->m->tok, id);
    gpt_token i;
    for (i = 0; i < s->m->tok.n_token && (uint32_t)i < s->m->hp.n_vocab; i++) {
        const gpti_str q = gpti_tokenizer_piece(&s->m->tok, i);
        if (q.n > p.n && *q.p == *p.p && !memcmp(q.p, p.p, p.n) && !gpti_tokenizer_is_control(&s->m->tok, i) &&
            gpti_allows(s, i, NULL)) return 1;
    }
    return 0;
}

/* Bytes that are the only possible ones become tokens, as the tokenizer cuts them, or one by one where those do not
 * spell exactly these bytes. The last one is left to the model while a longer one could come in its place. They join
 * the text like chosen ones, and are computed together with the newest. GPT_FINISH_END: nothing but the end is
 * possible. */
static gpt_finish gpti_force(gpt_session *s) {
    gpti_generation *g = s->gen;
    const gpti_tokenizer *tok = &s->m->tok;
    gpti_live *l = s->live;
    gpti_try *t = s->w->trial;
    const gpti_states *now = &l->now;
    const uint32_t n_frame = l->n_frame;
    char text[GPTI_FORCE];
    gpt_token ids[GPTI_FORCE];
    size_t n = 0, n_id = 0, i, at;
    int b, edge = g->edge, over;
    gpt_finish why = GPT_FINISH_NONE;
    if (g->con_phase != GPTI_CON_ACTIVE || gpti_may_think(s)) return GPT_FINISH_NONE;
    for (; n < sizeof text && (b = gpti_only_byte(l, now)) >= 0; n++) {
        const gpti_states *next;
        text[n] = (char)b;
        next = gpti_steps(l, t, now, text + n, 1);
        if (!next) break;
        now = next;
    }
    over = gpti_states_end(l, now) == 2;
    gpti_frames_back(l, n_frame);
    if (!n) return over ? GPT_FINISH_END : GPT_FINISH_NONE;
    if (gpti_tokenizer_encode(tok, text, n, GPTI_TOK_NO_EOS | (edge ? 0u : (unsigned)GPTI_TOK_CONTINUE), ids,
        GPTI_FORCE, &n_id, s->w->scratch,
                              sizeof *s->w->scratch, &s->m->mem, NULL)) n_id = 0;
    for (i = at = 0; i < n_id && i < GPTI_FORCE; i++) {        /* do they spell it? */
        const gpti_str p = gpti_tokenizer_shown(tok, ids[i], 0, &edge);
        if (!p.n || p.n > n - at || memcmp(p.p, text + at, p.n) || gpti_tokenizer_is_control(tok, ids[i])) break;
        at += p.n;
    }
    if (i < n_id || at < n) for (n_id = 0; n_id < n; n_id++) {
        ids[n_id] = tok->byte[(unsigned char)text[n_id]];
        if (ids[n_id] < 0) ids[n_id] = gpti_token_find(tok, text + n_id, 1, 0);
        if (ids[n_id] < 0) break;
    }
    for (i = 0; i < n_id && why == GPT_FINISH_NONE; i++) {
        if ((i + 1 == n_id && !over && gpti_is_open(s, ids[i])) || !gpti_allows(s, ids[i], NULL)) return why;
        why = gpti_append_token(s, ids[i]);
    }
    return why != GPT_FINISH_NONE ? why : gpti_states_end(l, &l->now) == 2 ? GPT_FINISH_END : GPT_FINISH_NONE;
}

/* A text that is whole when its last token comes has not been cut, one that nothing may follow is over. */
static gpt_finish gpti_ending(const gpt_session *s, gpt_finish why) {
    const int cut = why == GPT_FINISH_LENGTH || why == GPT_FINISH_CONTEXT, sure = cut && !s->gen->params.must_finish;
    if (s->gen->con_phase != GPTI_CON_ACTIVE || (!cut && why != GPT_FINISH_REFUSED)) return why;
    return gpti_states_end(s->live, &s->live->now) > sure ? GPT_FINISH_END : why;
}

/* ======================================================================
 * [SAMPLING] From logits to a token
 * ==================================================================== */

/* Everything here is total: NaN is read as -infinity, +infinity as the largest f32, a parameter
 * that makes no sense as "off". Sums run over the candidates in a stated order in f64 and e^x is
 * our own, so a seed draws the same token on every machine. Candidates stand in order of id or, behind
 * top_k and top_p, sorted by logit, ties by id, so equal logits never depend on how the sort went about
 * it. */

/* Uniform in [0, 1) with 53 bits, a pure function of its arguments: SplitMix64 (Steele, Lea & Flood
 * 2014), whose state is a counter, so its n-th output needs no steps. The seed is mixed once
 * beforehand: neighbouring seeds share nothing. */
static uint64_t gpti_mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double gpti_uniform(uint64_t seed, uint64_t counter) {
    const uint64_t golden = 0x9E3779B97F4A7C15u;
    return (double)(gpti_mix64(gpti_mix64(seed + golden) + golden * (counter + 1)) >> 11) * (1.0 / 9007199254740992.0);
}

/* 1 when a comes after b in the order of preference. */
static int gpti_worse(const gpti_candidate *a, const gpti_candidate *b) {
    return a->logit < b->logit || (a->logit == b->logit && a->id > b->id);
}

/* Move element i of a heap of n down to its place. Elements lie `step` apart, 1 or -1; on top is
 * the best or the worst. */
static void gpti_sift(gpti_candidate *h, ptrdiff_t step, int best_on_top, size_t n, size_t i) {
    const gpti_candidate x = h[(ptrdiff_t)i * step];
    size_t c;
    while ((c = 2 * i + 1) < n) {
        const gpti_candidate *child = &h[(ptrdiff_t)c * step];
        if (c + 1 < n && gpti_worse(child, child + step) == best_on_top) { c++; child += step; }
        if (gpti_worse(&x, child) != best_on_top) break;
        h[(ptrdiff_t)i * step] = *child;
        i = c;
    }
    h[(ptrdiff_t)i * step] = x;
}

static void gpti_exchange(gpti_candidate *a, gpti_candidate *b) { const gpti_candidate x = *a; *a = *b; *b = x; }

/* Bring the k best of c[n] to the front, best first; the rest follow in any order. n log k at
 * worst, about n compares when k is small. The heap holds the k best so far with the worst of them
 * on top. */
static void gpti_best(gpti_candidate *c, size_t n, size_t k) {
    size_t i;
    for (i = k / 2; i-- > 0;) gpti_sift(c, 1, 0, k, i);
    for (i = k; i < n; i++) if (gpti_worse(&c[0], &c[i])) { gpti_exchange(&c[0], &c[i]); gpti_sift(c, 1, 0, k, 0); }
    for (i = k; i-- > 1;) { gpti_exchange(&c[0], &c[i]); gpti_sift(c, 1, 0, i, 0); }
}

/* The first of the largest of x[n]; NaN is never one. Most blocks of 16 have none that is larger
 * than those before. */
static size_t gpti_largest(const float *x, size_t n) {
    float max = -INFINITY;
    size_t i, j, m, best = 0;
    for (i = 0; i < n; i += m) {
        int more = 0;
        m = gpti_min(n - i, 16);
        if (m == 16) for (j = 0; j < 16; j++) more |= x[i + j] > max;
        if (more || m < 16) for (j = i; j < i + m; j++) if (x[j] > max) max = x[best = j];
    }
    return best;
}

/* The most likely of c[n], n > 0; ties go to the lowest id. */
static gpti_candidate gpti_best_one(const gpti_candidate *c, size_t n) {
    gpti_candidate best = c[0];
    size_t i;
    for (i = 1; i < n; i++) if (gpti_worse(&best, &c[i])) best = c[i];
    return best;
}

/* Sum of e^((logit - max) / t) over c[n] in order. With keep, each weight replaces its logit. */
static double gpti_softmax_sum(gpti_candidate *c, size_t n, float max, float t, int keep) {
    double sum = 0.0;
    size_t i, j;
    for (i = 0; i < n; i += 16) {
        float w[16];
        for (j = 0; j < 16; j++) w[j] = i + j < n ? (c[i + j].logit - max) / t : -INFINITY;
        for (j = 0; j < 16; j++) w[j] = gpti_exp(w[j]);
        for (j = 0; j < 16 && i + j < n; j++) {
            if (!(w[j] > 0.0f)) w[j] = 0.0f;            /* -infinity / +infinity was NaN */
            sum += w[j];
            if (keep) c[i + j].logit = w[j];
        }
    }
    return sum;
}

static float gpti_or_zero(float x) { return x == x ? x : 0.0f; }

static int gpti_penalises(const gpt_sample_params *p) {
    return (p->repeat_penalty > 0.0f && p->repeat_penalty != 1.0f) || gpti_or_zero(p->frequency_penalty) != 0.0f ||
        gpti_or_zero(p->presence_penalty) != 0.0f;
}

/* Each candidate to the place of its id: c[i] is token i, or its logit -infinity; ids are then 0, room for a number. */
static void gpti_spread(gpti_choice *t) {
    gpti_candidate *c = t->c;
    size_t i;
    for (i = t->n; i < t->n_vocab; i++) c[i].id = -1;
    for (i = 0; i < t->n_vocab; i++)
        while (c[i].id >= 0 && (size_t)c[i].id != i) gpti_exchange(&c[i], &c[c[i].id]);
    for (i = 0; i < t->n_vocab; i++) { if (c[i].id < 0) c[i].logit = -INFINITY; c[i].id = 0; }
}

/* And back, in order of id, without what is -infinity or NaN. If that is all, the best one of before stays. */
static void gpti_gather(gpti_choice *t) {
    gpti_candidate *c = t->c;
    size_t i, n = 0;
    for (i = 0; i < t->n_vocab; i++) {
        const float x = c[i].logit;
        if (!(x > -INFINITY)) continue;
        c[n].logit = x < FLT_MAX ? x : FLT_MAX;
        c[n++].id = (gpt_token)i;
    }
    if (!n && t->best.id >= 0) c[n++] = t->best;
    t->n = n; t->sorted = 0;
    if (n) t->best = gpti_best_one(c, n);
}

/* The first candidates: logits, which may lie in the upper half of c, and biases. */
static void gpti_candidates(gpti_choice *t) {
    const gpt_sample_params *p = t->p;
    size_t i;
    float x;
    for (i = 0; i < t->n_vocab; i++) { memcpy(&x, t->logits + i, sizeof x); t->c[i].logit = x; }
    for (i = 0; p->bias && i < p->n_bias; i++) {
        const gpt_token id = p->bias[i].token;
        if (id >= 0 && (size_t)id < t->n_vocab) t->c[id].logit += p->bias[i].bias;
    }
    t->best.id = -1;
    gpti_gather(t);
}

/* ---- The samplers. Each changes logits or leaves candidates out of c[n], of which best is the most likely one; 1: it
 * wants to be called again, as a call takes a few milliseconds at most. ---- */

static int gpti_penalties(gpti_choice *t) {
    const gpt_sample_params *p = t->p;
    const float repeat = p->repeat_penalty > 0.0f ? p->repeat_penalty : 1.0f;
    const float frequency = gpti_or_zero(p->frequency_penalty), presence = gpti_or_zero(p->presence_penalty);
    size_t last = p->penalty_last_n < 0 ? t->n_history : (size_t)p->penalty_last_n, i;
    last = gpti_min(last ? last : 64, t->n_history);
    gpti_spread(t);
    for (i = t->n_history - last; i < t->n_history; i++)
        if (t->history[i] >= 0 && (size_t)t->history[i] < t->n_vocab) t->c[t->history[i]].id++;
    for (i = 0; i < t->n_vocab; i++) if (t->c[i].id > 0) {
        const float x = t->c[i].logit > 0.0f ? t->c[i].logit / repeat : t->c[i].logit * repeat;
        t->c[i].logit = x - (float)t->c[i].id * frequency - presence;
    }
    gpti_gather(t);
    return 0;
}

/* For c spread out: where the text, in its last `window` tokens, had its end of `least` to `most` tokens before, the
 * token that followed gets their number and 1. The Z algorithm (Gusfield 1997, sec. 1.3) on the text read backwards:
 * z tokens from k on are those from 0 on; the match that reaches furthest is known from `from` to `to`. */
static void gpti_repeats(gpti_choice *t, size_t window, size_t most, size_t least) {
    const gpt_token *last = t->history + t->n_history - 1;
    size_t k, z, from = 0, to = 0;
    for (k = 0; k < gpti_min(most, window); k++) if (last[-(ptrdiff_t)k] < 0) most = k;     /* no token: is like none */
    for (k = 1; k <= window; k++) {
        const gpt_token id = last[1 - (ptrdiff_t)k];
        z = k < to ? gpti_min(t->z[k - from], to - k) : 0;
        while (z < most && k + z < window && last[-(ptrdiff_t)(k + z)] == last[-(ptrdiff_t)z]) z++;
        if (k < most) t->z[k] = (uint16_t)z;
        if (k + z > to) { from = k; to = k + z; }
        if (z < least || id < 0 || (size_t)id >= t->n_vocab) continue;
        if ((size_t)t->c[id].id <= z) t->c[id].id = (gpt_token)z + 1;
    }
}

static int gpti_no_repeat(gpti_choice *t) {
    const size_t n = gpti_min((size_t)t->p->no_repeat_ngram - 1, GPTI_REPEAT);
    size_t i;
    gpti_spread(t);
    gpti_repeats(t, t->n_history, n, n);
    for (i = 0; i < t->n_vocab; i++) if (t->c[i].id > 0) t->c[i].logit = -INFINITY;
    gpti_gather(t);
    return 0;
}

/* Does a repeat end at this token? */
static int gpti_breaks(const gpti_choice *t, gpt_token id) {
    const gpti_str s = t->tok ? gpti_tokenizer_piece(t->tok, id) : gpti_str_of("");
    const char *b;
    size_t n, i;
    uint32_t u;
    for (b = t->breakers; *b; b += n) {
        n = gpti_utf8(b, strlen(b), &u);
        for (i = 0; i + n <= s.n; i++) if (!memcmp(s.p + i, b, n)) return 1;
    }
    return id < 0;
}

static int gpti_dry(gpti_choice *t) {
    const gpt_sample_params *p = t->p;
    const size_t allowed = p->dry_allowed_length > 0 ? (size_t)p->dry_allowed_length : 2;
    const size_t window = p->dry_last_n > 0 ? gpti_min((size_t)p->dry_last_n, t->n_history) : t->n_history;
    const double base = p->dry_base > 0.0f ? p->dry_base : 1.75;
    size_t i, most = 0;
    while (most < gpti_min(window, GPTI_REPEAT) && !gpti_breaks(t, t->history[t->n_history - 1 - most])) most++;
    gpti_spread(t);
    gpti_repeats(t, window, most, allowed);
    for (i = 0; i < t->n_vocab; i++) {
        double x = t->c[i].logit;
        if (!t->c[i].id || !(x > -INFINITY) || gpti_breaks(t, (gpt_token)i)) continue;
        x -= p->dry_multiplier * gpti_pow_d(base, (double)((size_t)t->c[i].id - 1 - allowed));
        t->c[i].logit = x > -FLT_MAX ? (float)x : -FLT_MAX;     /* never gone: it may be all that there is */
    }
    gpti_gather(t);
    return 0;
}

static int gpti_top_n_sigma(gpti_choice *t) {
    gpti_candidate *c = t->c;
    double mean = 0.0, square = 0.0, low;
    size_t i, m = 0;
    for (i = 0; i < t->n; i++) mean += c[i].logit;
    mean /= (double)t->n;
    for (i = 0; i < t->n; i++) square += (c[i].logit - mean) * (c[i].logit - mean);
    low = t->best.logit - t->p->top_n_sigma * sqrt(square / (double)t->n);
    for (i = 0; i < t->n; i++) if (!(c[i].logit < low)) c[m++] = c[i];
    t->n = m; t->sorted = t->sorted ? m : 0;
    return 0;
}

static int gpti_top_k(gpti_choice *t) {
    if ((size_t)t->p->top_k > t->n) return 0;
    gpti_best(t->c, t->n, (size_t)t->p->top_k);
    t->n = t->sorted = (size_t)t->p->top_k;
    return 0;
}

/* The sum of the weights e^(logit - best), and the mean of logit - best under them: entropy is log(sum) - mean. */
static double gpti_mean_logit(const gpti_choice *t, double *sum) {
    double mean = 0.0;
    size_t i;
    for (*sum = 0.0, i = 0; i < t->n; i++) {
        const float x = t->c[i].logit - t->best.logit, w = gpti_exp(x);
        if (w > 0.0f) { *sum += w; mean += (double)w * x; }
    }
    return mean / *sum;
}

/* How far -log p is from the entropy decides: the bits of the least distance within which there is enough are looked
 * for by halving, what is further out goes at once. */
static int gpti_typ_p(gpti_choice *t) {
    gpti_candidate *c = t->c;
    const uint32_t middle = t->low + (t->high - t->low) / 2;
    double head = 0.0;
    size_t i, m = 0;
    int pass;
    if (!t->part) {
        t->shift = (float)gpti_mean_logit(t, &t->sum);
        t->low = 0; t->high = 0x7F800000;               /* infinity */
        return 1;
    }
    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < t->n; i++) {
            const float x = c[i].logit - t->best.logit, d = fabsf(t->shift - x);
            uint32_t bits;
            memcpy(&bits, &d, sizeof bits);
            if (bits <= middle && !pass) head += gpti_exp(x);
            if (bits <= middle && pass) c[m++] = c[i];
        }
        if (!(head > t->p->typical_p * t->sum)) break;
    }
    if (pass < 2) t->low = middle + 1;
    else { t->high = middle; t->n = m; t->sorted = t->sorted ? m : 0; }
    if (t->low < t->high) return 1;
    t->best = gpti_best_one(c, t->n);
    return 0;
}

/* Candidates are sorted in runs, until those in front make up p. */
static int gpti_top_p(gpti_choice *t) {
    gpti_candidate *c = t->c;
    const float p = t->p->top_p;
    size_t i, more = 9000, m = 0;
    if (!t->part) {
        t->sum = gpti_softmax_sum(c, t->n, t->best.logit, 1.0f, 0);
        t->head = 0.0; t->n_head = 0;
        if (!t->sorted) {      /* all that weigh less than (1 - p) / n make up less than 1 - p: not to be sorted */
            const double low = t->best.logit + gpti_log_d((1.0 - p) * t->sum / (double)t->n) - 0.001;
            for (i = 0; i < t->n; i++) if (c[i].logit >= low) c[m++] = c[i];
            t->n = m;
        }
        return 1;
    }
    if (t->n_head == t->sorted) {               /* some more: mostly few make up p */
        if (t->sorted < 3000) more = 3 * t->sorted;
        if (t->sorted < 16) more = 64;
        /* a heap from the end backwards: what is taken from it goes to the front, in order */
        if (!t->sorted) for (i = t->n / 2; i-- > 0;) gpti_sift(c + t->n - 1, -1, 1, t->n, i);
        for (i = 0; i < more && t->sorted < t->n; i++) {
            gpti_exchange(&c[t->sorted++], &c[t->n - 1]);
            gpti_sift(c + t->n - 1, -1, 1, t->n - t->sorted, 0);
        }
    }
    while (t->n_head < t->sorted && t->head < p * t->sum) t->head += gpti_exp(c[t->n_head++].logit - t->best.logit);
    if (t->n_head < t->n && t->head < p * t->sum) return 1;
    t->n = t->sorted = t->n_head;
    return 0;
}

static int gpti_min_p(gpti_choice *t) {
    gpti_candidate *c = t->c;
    size_t i, m = 0;
    for (i = 0; i < t->n; i++) {
        const float w = gpti_exp(c[i].logit - t->best.logit);
        if (w >= 1.0f || w >= t->p->min_p) c[m++] = c[i];
    }
    t->n = m; t->sorted = t->sorted ? m : 0;
    return 0;
}

static int gpti_xtc(gpti_choice *t) {
    gpti_candidate *c = t->c, least = t->best;
    const double p = t->p->xtc_threshold > 0.0f ? t->p->xtc_threshold : 0.1f;
    const double low = p * gpti_softmax_sum(c, t->n, t->best.logit, 1.0f, 0);
    size_t i, m = 0;
    const uint64_t seed = gpti_mix64(t->p->seed ^ 0x585443);    /* a stream of its own */
    if (!(gpti_uniform(seed, t->n_dropped + t->n_history) < t->p->xtc_probability)) return 0;
    for (i = 0; i < t->n; i++)
        if (gpti_exp(c[i].logit - t->best.logit) >= low && gpti_worse(&c[i], &least)) least = c[i];
    for (i = 0; i < t->n; i++) if (!gpti_worse(&least, &c[i])) c[m++] = c[i];
    t->n = m; t->sorted = t->sorted ? m : 0;
    t->best = least;
    return 0;
}

static int gpti_temperature(gpti_choice *t) {
    const gpt_sample_params *p = t->p;
    float by = p->temperature;
    size_t i;
    if (p->dynatemp_range > 0.0f && t->n > 1) {
        const double range = p->dynatemp_range, low = by > range ? by - range : 0.0;
        double sum, at = gpti_mean_logit(t, &sum);
        at = (gpti_log_d(sum) - at) / gpti_log_d((double)t->n);
        at = gpti_pow_d(at > 0.0 ? at : 0.0, p->dynatemp_exponent > 0.0f ? p->dynatemp_exponent : 1.0);
        at = low + (by + range - low) * at;
        by = !(at > FLT_MIN) ? FLT_MIN : at < FLT_MAX ? (float)at : FLT_MAX;
    }
    t->by = by;
    if (!(t->order >> 4)) return 0;             /* the last one: the draw divides, behind taking off the best */
    for (t->by = 1.0f, i = 0; i < t->n; i++) {
        const float x = t->c[i].logit / by;
        t->c[i].logit = x < -FLT_MAX ? -FLT_MAX : x < FLT_MAX ? x : FLT_MAX;
    }
    t->best = gpti_best_one(t->c, t->n);
    return 0;
}

/* In the default order. shifts: it changes logits and nothing else, so it may come ahead of a mask, and counts for a
 * greedy choice. To add a sampler: 1. its parameter in gpt_sample_params, 0 = off, no number makes it fail; 2. its
 * function above, at its place of the default order here and in gpti_walk, and its number; 3. when it is on, in
 * gpti_order_on; 4. its parameter in gpti_save_generation, with another GPTI_SAVE_VERSION. At most 15.
 * tests/unit_sampling.c tries it; its option is in examples/args.h. */
enum { GPTI_DO_PENALTIES = 1, GPTI_DO_NO_REPEAT, GPTI_DO_DRY, GPTI_DO_TOP_N_SIGMA, GPTI_DO_TOP_K, GPTI_DO_TYP_P,
       GPTI_DO_TOP_P, GPTI_DO_MIN_P, GPTI_DO_XTC, GPTI_DO_TEMPERATURE, GPTI_N_DO };
static const struct { char name[15]; uint8_t shifts; } gpti_samplers[GPTI_N_DO - 1] = {
    { "penalties", 1 }, { "penalties", 0 }, { "dry", 1 }, { "top_n_sigma", 0 }, { "top_k", 0 }, { "typ_p", 0 },
    { "top_p", 0 }, { "min_p", 0 }, { "xtc", 0 }, { "temperature", 0 }
};

/* The sampler whose turn it is. */
static void gpti_walk(gpti_choice *t) {
    int (*const run[GPTI_N_DO - 1])(gpti_choice *t) = {
        gpti_penalties, gpti_no_repeat, gpti_dry, gpti_top_n_sigma, gpti_top_k, gpti_typ_p, gpti_top_p, gpti_min_p,
        gpti_xtc, gpti_temperature };
    if (run[(t->order & 15) - 1](t)) { t->part++; return; }
    t->order >>= 4; t->part = 0;
}

#define GPTI_BREAK_AT "\n:\"*"

/* The samplers that names names, GPTI_DO_ of each in 4 bits; NULL: all. *unknown: the first that is none. */
static uint64_t gpti_order(const char *names, gpti_str *unknown) {
    uint64_t order = 0;
    unsigned used = 0, at = 0, i;
    const char *next;
    for (unknown->n = 0; !used || (names && *names); names = next) {
        const size_t n = names ? strcspn(names, ";") : 0;
        int known = !n;
        next = names ? names + n + (names[n] == ';') : NULL;
        for (i = 0; i < GPTI_N_DO - 1; i++) {
            if (names && (strlen(gpti_samplers[i].name) != n || memcmp(names, gpti_samplers[i].name, n))) continue;
            known = 1;
            if (used >> (i + 1) & 1) continue;
            used |= 2u << i;
            order |= (uint64_t)(i + 1) << at;
            at += 4;
        }
        used |= 1;
        if (!known && !unknown->n) { unknown->p = names; unknown->n = n; }
    }
    return order;
}

/* Those of the order that are on. */
static uint64_t gpti_order_on(uint64_t order, const gpt_sample_params *p) {
    const int draws = p->temperature > 0.0f;
    uint64_t left = 0;
    unsigned at = 0;
    int on[16];
    memset(on, 0, sizeof on);
    on[GPTI_DO_PENALTIES] = gpti_penalises(p);
    on[GPTI_DO_NO_REPEAT] = p->no_repeat_ngram > 0;
    on[GPTI_DO_DRY] = p->dry_multiplier > 0.0f && (p->dry_base == 0.0f || p->dry_base >= 1.0f);
    on[GPTI_DO_TOP_N_SIGMA] = draws && p->top_n_sigma > 0.0f;
    on[GPTI_DO_TOP_K] = draws && p->top_k > 0;
    on[GPTI_DO_TYP_P] = draws && p->typical_p > 0.0f && p->typical_p < 1.0f;
    on[GPTI_DO_TOP_P] = draws && p->top_p > 0.0f && p->top_p < 1.0f;
    on[GPTI_DO_MIN_P] = draws && p->min_p > 0.0f;
    on[GPTI_DO_XTC] = draws && p->xtc_probability > 0.0f;
    on[GPTI_DO_TEMPERATURE] = draws;
    for (; order; order >>= 4) {
        if (!on[order & 15]) continue;
        on[order & 15] = 0;
        left |= (order & 15) << at;
        at += 4;
    }
    return left;
}

enum { GPTI_CHOOSE_BEGIN, GPTI_CHOOSE_WALK, GPTI_CHOOSE_SHIFT, GPTI_CHOOSE_ASK, GPTI_CHOOSE_MASK };

/* The largest logit; 1: nothing could change that it is the choice. */
static int gpti_choose_largest(gpti_choice *t, gpt_token *id) {
    t->order = gpti_order_on(t->order, t->p);
    *id = (gpt_token)gpti_largest(t->logits, t->n_vocab);
    return !(t->p->temperature > 0.0f) && !t->order && !t->p->n_bias;
}

/* Choose a token: one step of it (the candidates with biases; the samplers in their order; the draw), 1 while there are
 * more, 0 when *id is chosen. The number of tokens of the text picks the number drawn. */
static int gpti_choose(gpti_choice *t, gpt_token *id) {
    gpti_candidate *c = t->c;
    double sum = 0.0, draw;
    size_t i;
    if (t->step == GPTI_CHOOSE_BEGIN) {
        if (gpti_choose_largest(t, id)) return 0;
        gpti_candidates(t);
        t->step = GPTI_CHOOSE_WALK; *id = 0;
        return t->n > 0;
    }
    if (t->order) { gpti_walk(t); return 1; }
    *id = t->best.id;
    if (!(t->p->temperature > 0.0f)) return 0;
    /* c[i].logit becomes the weight e^((logit - best) / by); the best weighs 1 */
    sum = gpti_softmax_sum(c, t->n, t->best.logit, t->by > 0.0f ? t->by : 1.0f, 1);
    draw = gpti_uniform(t->p->seed, t->n_dropped + t->n_history) * sum;
    for (i = 0, sum = 0.0; i < t->n; i++) {
        sum += c[i].logit;
        if (sum > draw) break;
    }
    if (i < t->n) *id = c[i].id;
    return 0;
}

/* Steps of a choice under a mask, until GPTI_CHOOSE_WALK goes on with what is left. What it comes to: candidates with
 * biases, then the mask, then the samplers. Those that only shift logits come first, to the same end. Where top_k or
 * min_p is next, or none, candidates are asked from the likeliest down until it is full; else, or where most are
 * refused, all are. 1: more to do; 0: *id is chosen, -1: none may come. */
static int gpti_choose_masked(gpt_session *s, gpt_token *id) {
    gpt_work *w = s->w;
    gpti_choice *t = w->choice;
    gpti_candidate *c = w->cand;
    const gpt_sample_params *p = t->p;
    const unsigned next = (unsigned)(t->order & 15);
    const int greedy = !(p->temperature > 0.0f);
    const int active = s->gen->con_phase == GPTI_CON_ACTIVE && !gpti_may_think(s);
    const size_t n_word = s->m->hp.n_vocab / 32 + 1;
    size_t i, k, want;
    if (t->step == GPTI_CHOOSE_BEGIN) {
        if (gpti_choose_largest(t, id) && gpti_allows(s, *id, NULL)) return 0;
        gpti_candidates(t);
        t->step = GPTI_CHOOSE_SHIFT;
        return 1;
    }
    if (t->step == GPTI_CHOOSE_SHIFT) {
        if (next && gpti_samplers[next - 1].shifts) { gpti_walk(t); return 1; }
        t->step = GPTI_CHOOSE_ASK; t->n_all = 0; t->n_head = 0;       /* asked; of them, allowed */
        return 1;
    }
    want = next == GPTI_DO_TOP_K ? (size_t)p->top_k : next == GPTI_DO_MIN_P || (greedy && !next);
    if (want > s->m->hp.n_vocab / 8) want = greedy ? 1 : 0;
    if (t->step == GPTI_CHOOSE_ASK) {           /* c: allowed ones, then the rest */
        if (!want || t->n_all > (active ? 0 : 8192)) {       /* one run where a mask is at hand */ t->step =
            GPTI_CHOOSE_MASK; t->n_all = t->n_head; return 1; }
        k = gpti_min(gpti_max(32 + want, 4 * t->n_all), t->n - t->n_head);     /* runs that grow */
        gpti_best(c + t->n_head, t->n - t->n_head, k);
        t->n_all += k;
        for (i = t->n_head, k += i; i < k && t->n_head < want; i++) if (gpti_allows(s, c[i].id, NULL)) c[t->n_head++] =
            c[i];
        if (t->n_head < want) {                 /* the refused ones go */
            memmove(c + t->n_head, c + k, (t->n - k) * sizeof *c);
            t->n -= k - t->n_head;
            if (t->n_head < t->n) return 1;
        } else if (next == GPTI_DO_MIN_P) {     /* who is left of those that are as likely */
            for (k = 1; i < t->n; i++) {
                const float x = gpti_exp(c[i].logit - c->logit);
                if (x >= 1.0f || x >= p->min_p) c[k++] = c[i];
            }
            t->n = k; t->n_all = 1; t->step = GPTI_CHOOSE_MASK;
            return 1;
        } else t->n = t->n_head;
    } else {                                    /* those before n_all have been asked */
        gpti_mask *m = NULL;
        const uint32_t *bits = NULL;
        const uint32_t left = gpti_tokens_left(s);
        int tight = !active || t->n - t->n_all < 256;
        if (!tight) {
            if (!gpti_mask_make(s, &m)) return 1;
            tight = s->gen->params.must_finish && gpti_states_cost(s->live, &s->live->now) + m->more >= left;
        }
        if (m) bits = w->trial->bits + (size_t)(m - w->trial->mask) * n_word;
        for (k = 0; t->n_all < t->n && k < 65536; t->n_all++, k += tight ? 256 : 1) {
            const gpt_token x = c[t->n_all].id;
            if (bits && bits[x >> 5] >> (x & 31) & 1) {
                if (!tight && !s->gen->ban.n_stop) { c[t->n_head++] = c[t->n_all]; continue; }
            } else if (bits && gpti_tokenizer_piece(&s->m->tok, x).n <= GPTI_TOKEN_LONG &&
                !gpti_tokenizer_is_control(&s->m->tok, x) &&
                       !gpti_tokenizer_is_end(&s->m->tok, x)) continue;
            if (gpti_allows(s, x, NULL)) c[t->n_head++] = c[t->n_all];
        }
        if (t->n_all < t->n) return 1;
        t->n = t->n_head;
    }
    *id = -1;
    if (!t->n) return 0;
    if (t->n > 1) { gpti_spread(t); gpti_gather(t); }       /* asking has changed their order */
    t->best = gpti_best_one(c, t->n);
    *id = t->best.id;
    t->n_head = 0; t->step = GPTI_CHOOSE_WALK;
    return !greedy || t->order;
}

/* For the step of the story: choose the next token, asking the poll hook now and then. GPT_MORE: go
 * on with the next call. */
static gpt_result gpti_draw(gpt_session *s, gpt_token *id) {
    gpt_work *w = s->w;
    gpti_choice *t = w->choice;
    const gpt_generate_params *p = &s->gen->params;
    const size_t n_vocab = s->m->hp.n_vocab;
    gpt_result r = GPT_OK;
    const int masked = gpti_has_mask(s);
    if (w->choosing != s) {
        memset(t, 0, sizeof *t);
        t->order = s->gen->order; t->logits = s->last_logits;
        if (p->logits) {                        /* a copy in the upper half of cand: candidates grow from below */
            float *copy = (float *)(void *)w->cand + n_vocab;
            memcpy(copy, t->logits, n_vocab * sizeof *copy);
            p->logits(p->logits_user, s, copy, n_vocab);
            t->logits = copy;
        }
    }
    w->choosing = s;
    t->p = &p->sample; t->tok = &s->m->tok; t->breakers = s->gen->breakers;
    t->history = s->token; t->n_history = s->n_token; t->n_dropped = s->n_dropped;
    t->c = w->cand; t->n_vocab = n_vocab;
    while (!r && s->doing == GPTI_GENERATES && (masked && t->step != GPTI_CHOOSE_WALK ? gpti_choose_masked(s, id) :
                                                gpti_choose(t, id)))
        r = gpti_ask(w);
    if (r != GPT_MORE) w->choosing = NULL;
    return r;
}

/* The same in one go. -1 only when n_vocab is 0. */
static gpt_token gpti_sample_logits(const float *logits, size_t n_vocab, const gpt_sample_params *p,
                                    const gpt_token *history, size_t n_history, size_t n_dropped,
                                    gpti_candidate *c, const gpti_tokenizer *tok) {
    gpti_choice t;
    gpt_sample_params none;
    gpti_str unknown;
    gpt_token id = -1;
    memset(&t, 0, sizeof t); memset(&none, 0, sizeof none);
    t.p = p ? p : &none; t.tok = tok; t.history = history; t.logits = logits; t.c = c;
    t.n_history = n_history; t.n_dropped = n_dropped; t.n_vocab = n_vocab;
    t.breakers = t.p->dry_breakers ? t.p->dry_breakers : GPTI_BREAK_AT;
    t.order = gpti_order(t.p->samplers, &unknown);
    while (n_vocab && gpti_choose(&t, &id)) {}
    return id;
}

GPTI_COLD
/* ======================================================================
 * [GENERATE] Text in, text out
 * ==================================================================== */

/* Generated text on its way to the host: bytes pass the stop strings, then become whole characters,
 * then pieces.
 *
 * Stop strings are compared byte by byte, so how the text was cut into tokens changes nothing. The
 * first one to be complete ends the text; of several that are complete at the same byte, the
 * longest, which began first. What precedes it has been or is handed out, the rest is dropped. Each
 * stop string has its own automaton (Knuth, Morris & Pratt 1977), so the work is linear in the
 * text, and what must be held back is the longest prefix that any of them has matched: no buffer,
 * the stop string itself is the copy.
 *
 * The host always receives valid UTF-8: bytes that are not become U+FFFD, one for each maximal
 * subpart (Unicode 15, sec. 3.9, "U+FFFD Substitution of Maximal Subparts"); so does a character
 * that the end of the text cuts short. */

static gpt_result gpti_stop_check(const char *const *stop, size_t n_stop, gpt_error *err) {
    size_t i, n;
    if (n_stop > GPTI_STOP_MAX) return gpti_fail(err, GPT_E_ARG, "at most %d stop strings", (int)GPTI_STOP_MAX);
    if (n_stop > 0 && !stop) return gpti_fail(err, GPT_E_ARG, "stop is NULL though n_stop is %d", (int)n_stop);
    for (i = 0; i < n_stop; i++) {
        for (n = 0; stop[i] && stop[i][n] && n <= GPTI_STOP_BYTES; n++) {}
        if (n == 0) return gpti_fail(err, GPT_E_ARG, "stop[%d] is empty", (int)i);
        if (n > GPTI_STOP_BYTES) return gpti_fail(err, GPT_E_ARG, "stop[%d] is longer than %d bytes", (int)i,
                                                  (int)GPTI_STOP_BYTES);
    }
    return GPT_OK;
}

/* border of stop string i, of n bytes, which are in place */
static void gpti_stream_border(gpti_stream *st, size_t i, size_t n) {
    st->len[i] = (uint16_t)n;
    gpti_word_border(st->stop[i], st->border[i], n);
}

static void gpti_stream_init(gpti_stream *st, const char *const *stop, size_t n_stop) {
    size_t i, n;
    memset(st, 0, sizeof *st);
    for (i = 0; i < n_stop; i++) {
        memcpy(st->stop[i], stop[i], n = strlen(stop[i]));
        gpti_stream_border(st, i, n);
    }
    st->n_stop = (int)n_stop;
}

static void gpti_stream_flush(gpti_stream *st, gpt_text_fn fn, void *user) {
    const size_t n = st->n_out;
    if (st->state != GPTI_STREAM_HOST) st->behind -= st->n_raw;
    st->n_out = st->n_raw = 0;
    if (n > 0 && fn && st->state != GPTI_STREAM_HOST && fn(user, st->out, n)) st->state = GPTI_STREAM_HOST;
}

/* Append one whole character, which stands for n_raw bytes of the text. */
static void gpti_stream_char(gpti_stream *st, const void *bytes, size_t n, size_t n_raw, gpt_text_fn fn, void *user) {
    if (st->n_out + n > GPTI_PIECE) gpti_stream_flush(st, fn, user);
    memcpy(st->out + st->n_out, bytes, n);
    st->n_out += n; st->n_raw += n_raw;
}

/* A character that will not be completed, if there is one. */
static void gpti_stream_broken(gpti_stream *st, gpt_text_fn fn, void *user) {
    if (st->need > 0) gpti_stream_char(st, "\xEF\xBF\xBD", 3, st->n_part, fn, user);
    st->need = 0;
}

/* One byte that is past the stop strings (Unicode 15, table 3-7: only the second byte's bounds
 * depend on the first). */
static void gpti_stream_byte(gpti_stream *st, unsigned char b, gpt_text_fn fn, void *user) {
    if (st->need > 0 && (b < st->low || b > st->high)) gpti_stream_broken(st, fn, user);
    if (st->need > 0) {
        st->part[st->n_part++] = b;
        st->low = 0x80; st->high = 0xBF;
        if (--st->need == 0) gpti_stream_char(st, st->part, st->n_part, st->n_part, fn, user);
    } else if (b < 0x80) {
        gpti_stream_char(st, &b, 1, 1, fn, user);
    } else {
        st->part[0] = b; st->n_part = 1;
        st->need = (unsigned char)(b < 0xC2 || b > 0xF4 ? 0 : 1 + (b >= 0xE0) + (b >= 0xF0));
        st->low = 0x80; st->high = 0xBF;
        if (b == 0xE0) st->low = 0xA0;
        if (b == 0xF0) st->low = 0x90;
        if (b == 0xED) st->high = 0x9F;
        if (b == 0xF4) st->high = 0x8F;
        if (st->need == 0) gpti_stream_char(st, "\xEF\xBF\xBD", 3, 1, fn, user);
    }
}

/* Hand on the first n of the bytes held back followed by b; b < 0 is none. */
static void gpti_stream_release(gpti_stream *st, const unsigned char *held, size_t n_held, int b, size_t n,
                                gpt_text_fn fn, void *user) {
    size_t i;
    for (i = 0; i < n && i < n_held; i++) gpti_stream_byte(st, held[i], fn, user);
    if (b >= 0 && n > n_held) gpti_stream_byte(st, (unsigned char)b, fn, user);
}

/* Take the bytes of one token. GPTI_STREAM_GO, _STOP when a stop string is complete, _HOST when fn
 * returned not 0. */
static int gpti_stream_push(gpti_stream *st, const char *bytes, size_t n, gpt_text_fn fn, void *user) {
    size_t i, k;
    int j;
    st->behind += n;
    for (i = 0; i < n && st->state == GPTI_STREAM_GO; i++) {
        const unsigned char b = (unsigned char)bytes[i], *held = st->stop[st->longest];
        const size_t n_held = st->at[st->longest];
        size_t keep = 0, match = 0;
        for (j = 0; j < st->n_stop; j++) {
            k = gpti_word_next(st->stop[j], st->border[j], st->at[j], b);
            st->at[j] = (uint16_t)k;
            if (k > keep) { keep = k; st->longest = j; }
            if (k == st->len[j] && k > match) match = k;
        }
        if (keep == 0) st->longest = 0;
        gpti_stream_release(st, held, n_held, b, n_held + 1 - (match > 0 ? match : keep), fn, user);
        if (match > 0) {
            gpti_stream_broken(st, fn, user);
            if (st->state == GPTI_STREAM_GO) st->state = GPTI_STREAM_STOP;
        }
    }
    gpti_stream_flush(st, fn, user);
    return st->state;
}

/* The call is over: what was held back goes out; a character that is not whole only where the text
 * is over too. Harmless after a stop string. */
static void gpti_stream_finish(gpti_stream *st, int over, gpt_text_fn fn, void *user) {
    if (st->state != GPTI_STREAM_GO) return;
    gpti_stream_release(st, st->stop[st->longest], st->at[st->longest], -1, st->at[st->longest], fn, user);
    if (over) gpti_stream_broken(st, fn, user);
    gpti_stream_flush(st, fn, user);
    memset(st->at, 0, sizeof st->at);
}

/* What has not been given yet goes on to the next call: the bytes of a character that is not whole,
 * then those that may begin a stop string. */
static size_t gpti_stream_pending(const gpti_stream *st, char out[GPTI_STOP_BYTES + 4]) {
    const size_t part = st->need ? st->n_part : 0;
    if (st->state != GPTI_STREAM_GO) return 0;
    memcpy(out, st->part, part);
    memcpy(out + part, st->stop[st->longest], st->at[st->longest]);
    return part + st->at[st->longest];
}

/* What the host gets of an answer with a thinking part: that part goes to think, without its markers, the rest
 * to fn. A marker may come in pieces: what may be its beginning waits. */
static int gpti_hand_out(void *user, const char *text, size_t n) {
    const gpt_session *s = (const gpt_session *)user;
    gpti_generation *g = s->gen;
    size_t i, from = 0, k;
    int stop = 0;
    for (i = 0; i < n && !stop && g->think; i++) {
        const int inside = g->think == GPTI_THINK_INSIDE;
        const char *mark = inside ? gpti_thoughts[g->thought].close : gpti_thoughts[g->thought].open;
        const gpt_text_fn fn = inside ? g->params.think : g->fn;
        void *to = inside ? g->params.think_user : g->user;
        const int space = text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t';
        if (g->think == GPTI_THINK_OVER) {
            if (space) from = i + 1;
            else { g->think = GPTI_THINK_NONE; i--; }
            continue;
        }
        if (text[i] == mark[g->think_at]) {
            if (!g->think_at && i > from && fn) stop = fn(to, text + from, i - from);
            from = i + 1;
            if (mark[++g->think_at]) continue;
            g->think = inside ? GPTI_THINK_OVER : GPTI_THINK_INSIDE;
            g->think_at = 0;
        } else if (g->think_at) {                       /* it was none: the longest end of it that could be one stays */
            for (k = g->think_at - 1; k && (memcmp(mark, mark + g->think_at - k, k) || mark[k] != text[i]); k--) {}
            if (fn) stop = fn(to, mark, g->think_at - k);
            g->think_at = k;
            i--;
        } else if (!inside && !space) g->think = GPTI_THINK_NONE;
    }
    if (n > from && !stop && !(g->think && g->think_at)) {
        const int inside = g->think == GPTI_THINK_INSIDE;
        const gpt_text_fn fn = inside ? g->params.think : g->fn;
        if (fn) stop = fn(inside ? g->params.think_user : g->user, text + from, n - from);
    }
    return stop;
}

/* The answer is over: the beginning of a marker that did not go on is text. */
static void gpti_hand_rest(gpt_session *s) {
    gpti_generation *g = s->gen;
    const int inside = g->think == GPTI_THINK_INSIDE;
    const gpt_text_fn fn = inside ? g->params.think : g->fn;
    const char *mark = inside ? gpti_thoughts[g->thought].close : gpti_thoughts[g->thought].open;
    if (g->think_at && fn && g->stream.state != GPTI_STREAM_HOST)
        fn(inside ? g->params.think_user : g->user, mark, g->think_at);
    g->think_at = 0;
}

/* Who gets the text, and with what. */
static gpt_text_fn gpti_receiver(gpt_session *s, void **user) {
    const int apart = s->gen->params.think && s->gen->think;
    *user = apart ? s : s->gen->user;
    return apart ? gpti_hand_out : s->gen->fn;
}

GPT_API gpt_result gpt_tokenize(const gpt_model *m, const char *text, size_t n_text, unsigned flags, gpt_token *ids,
    size_t max, size_t *n, gpt_error *err) {
    size_t count = 0;
    gpt_result r;
    gpti_clear(err);
    if (n) *n = 0;
    if (!m || (n_text && !text) || (max && !ids) || n_text > 0x7fffffff)
        return gpti_fail(err, GPT_E_ARG,
        "gpt_tokenize: expected a model, at most 2^31 - 1 bytes of text and room for ids");
    r = gpti_tokenizer_encode(&m->tok, text, n_text, flags & 7, ids, max, &count, NULL, 0, &m->mem, err);
    if (n) *n = count;
    return r;
}

GPT_API size_t gpt_detokenize(const gpt_model *m, const gpt_token *ids, size_t n, int special, char *text,
                              size_t size) {
    return m && (ids || !n) && (text || !size) ? gpti_tokenizer_decode(&m->tok, ids, n, special, text, size) : 0;
}

GPT_API const char *gpt_token_text(const gpt_model *m, gpt_token id, size_t *n) {
    const int known = m && id >= 0 && id < m->tok.n_token;
    if (n) *n = known ? gpti_tokenizer_piece(&m->tok, id).n : 0;
    return known ? gpti_tokenizer_piece(&m->tok, id).p : NULL;
}

GPT_API gpt_token gpt_token_find(const gpt_model *m, const char *text) {
    return m && text ? gpti_tokenizer_find(&m->tok, text, strlen(text)) : -1;
}
GPT_API int gpt_token_is_control(const gpt_model *m, gpt_token id) {
    return m && gpti_tokenizer_is_control(&m->tok, id);
}
GPT_API int gpt_token_is_end(const gpt_model *m, gpt_token id) { return m && gpti_tokenizer_is_end(&m->tok, id); }

/* 1 when a comes after b in the order of likelihood. */
static int gpti_top_worse(const gpt_logprob *a, const gpt_logprob *b) {
    return a->logprob < b->logprob || (a->logprob == b->logprob && a->token > b->token);
}

/* The worst of a heap of n on top: it moves down to its place. */
static void gpti_top_sift(gpt_logprob *h, size_t n) {
    const gpt_logprob x = h[0];
    size_t i = 0, c;
    while ((c = 2 * i + 1) < n) {
        if (c + 1 < n && gpti_top_worse(&h[c + 1], &h[c])) c++;
        if (!gpti_top_worse(&h[c], &x)) break;
        h[i] = h[c];
        i = c;
    }
    h[i] = x;
}

GPT_API size_t gpt_top(const float *logits, size_t n_vocab, size_t k, gpt_logprob *out) {
    size_t i, n = 0;
    gpti_total total;
    if (!logits || !n_vocab || !k || !out) return 0;
    total = gpti_log_sum(logits, n_vocab);
    for (i = 0; i < n_vocab; i++) {
        gpt_logprob x;
        size_t at = n;
        x.token = (gpt_token)i; x.logprob = logits[i];
        if (x.logprob != x.logprob || (n == k && gpti_top_worse(&x, out))) continue;
        if (n == k) { out[0] = x; gpti_top_sift(out, n); continue; }
        for (n++; at && gpti_top_worse(&x, &out[(at - 1) / 2]); at = (at - 1) / 2) out[at] = out[(at - 1) / 2];
        out[at] = x;
    }
    for (i = n; i-- > 1;) {
        const gpt_logprob x = out[0];
        out[0] = out[i]; out[i] = x;
        gpti_top_sift(out, i);
    }
    for (i = 0; i < n; i++) out[i].logprob = (float)gpti_log_p(total, out[i].logprob);
    return n;
}

GPT_API gpt_token gpt_sample(gpt_session *s, const gpt_sample_params *params) {
    if (!s || !s->w || !s->logits || s->n_past != s->n_token || !s->last_logits || s->w->busy) return -1;
    s->w->choosing = NULL;                      /* a choice under way begins again: it has the same scratch */
    return gpti_sample_logits(s->last_logits, s->m->hp.n_vocab, params, s->token, s->n_token, s->n_dropped,
                              s->w->cand, &s->m->tok);
}

/* Take the last n bytes of the generated text off again. What stays of the token in which they
 * begin is cut into tokens anew. */
static void gpti_take_back(gpt_session *s, size_t n) {
    const gpti_tokenizer *t = &s->m->tok;
    size_t at = s->n_token, kept = 0, room;
    gpti_str piece = { "", 0 };
    while (n && at) {
        int edge = --at == s->gen->edge_at;
        piece = gpti_shown(s, s->token[at], &edge);
        kept = piece.n > n ? piece.n - n : 0;
        n -= piece.n - kept;
    }
    if (gpti_rewind(s, at, NULL)) return;
    room = gpti_n_free(s);
    if (kept * GPTI_MERGE_BYTES > sizeof *s->w->scratch / 2 ||
        gpti_tokenizer_encode(t, piece.p, kept, GPTI_TOK_CONTINUE |
        GPTI_TOK_NO_EOS, s->token + at, room, &n, s->w->scratch, sizeof *s->w->scratch, &s->m->mem, NULL)) n = 0;
    s->n_committed = s->n_token = at + gpti_min(n, room);
}

/* The session's text is then what the host was given: all of it, or what comes before the stop
 * string, or before the callback said stop. Only GPT_FINISH_LENGTH, where the next call may go on,
 * leaves more: what was held back. */
static void gpti_finish(gpt_session *s, gpt_finish why) {
    gpti_generation *g = s->gen;
    gpti_stream *st = &g->stream;
    void *user;
    const gpt_text_fn fn = gpti_receiver(s, &user);
    if (why != GPT_FINISH_LENGTH) gpti_stream_finish(st, why == GPT_FINISH_END || why == GPT_FINISH_CONTEXT, fn, user);
    if (fn == gpti_hand_out) gpti_hand_rest(s);
    if (st->state != GPTI_STREAM_GO && st->behind) gpti_take_back(s, st->behind);
    g->finish = st->state == GPTI_STREAM_HOST ? GPT_FINISH_HOST : why;
    if (s->logits && gpti_is_here(s->w, s->last_logits))        /* a guess's: to the text's own row */
        s->last_logits = (float *)memcpy(s->logits, s->last_logits, s->m->hp.n_vocab * sizeof *s->logits);
    s->doing = GPTI_IDLE; s->result = GPT_OK; s->stop = 0; s->held &= 1; s->n_draft = 0;
}

/* The strings of p to g, if that is not NULL */
static gpt_result gpti_take_samplers(gpti_generation *g, const gpt_sample_params *p, gpt_error *err) {
    const char *breakers = p->dry_breakers ? p->dry_breakers : GPTI_BREAK_AT;
    gpti_str unknown;
    const uint64_t order = gpti_order(p->samplers, &unknown);
    if (unknown.n) return gpti_fail(err, GPT_E_ARG, "samplers: there is no '%.*s'", (int)gpti_min(unknown.n, 64),
        unknown.p);
    if (strlen(breakers) >= GPTI_BREAKERS)
        return gpti_fail(err, GPT_E_ARG, "dry_breakers: expected at most %d bytes", (int)GPTI_BREAKERS - 1);
    if (g) { g->order = order; strcpy(g->breakers, breakers); }
    return GPT_OK;
}

/* What does not go together, and a text that no way is short enough for; room: tokens that may come */
static gpt_result gpti_con_check(const gpt_session *s, const gpt_generate_params *p, gpt_error *err) {
    GPTI_TRY(gpti_take_samplers(NULL, &p->sample, err));
    if (p->constraint && p->roll) return gpti_fail(err, GPT_E_ARG,
        "roll: not with a constraint, which needs all of its text");
    if (p->constraint && p->constraint->m != s->m) return gpti_fail(err, GPT_E_ARG,
        "the constraint is of another model, or of none");
    if (gpti_stop_check(p->ban, p->n_ban, NULL))
        return gpti_fail(err, GPT_E_ARG, "ban: expected at most %d strings of 1 to %d bytes", (int)GPTI_STOP_MAX,
            (int)GPTI_STOP_BYTES);
    return GPT_OK;
}
/* before: tokens that come before the constraint's, at least */
static gpt_result gpti_con_fits(const gpt_generate_params *p, size_t before, size_t room, gpt_error *err) {
    const gpt_constraint *c = p->must_finish ? p->constraint : NULL;
    const size_t least = before + (c && !c->trigger.len ? c->cost[c->root] : 0);
    if (p->max_tokens) room = gpti_min(room, p->max_tokens);
    if (!c || least <= room) return GPT_OK;
    return gpti_fail(err, GPT_E_REFUSED, "must_finish: the shortest text takes %llu tokens, there is room for %llu",
                     (gpti_ull)least, (gpti_ull)room);
}

/* A generation begins: 1. the prompt becomes tokens behind the text; nothing has changed if that
 * fails. 2. What the call before held back (half a character, the beginning of a stop string) goes
 * on into this generation's stream, or, where other text follows it (stale), out to the host as it
 * is. 3. The tokens wait. 4. edge: where SentencePiece put a space in front of the text, the first
 * text that is generated loses its space. */
static gpt_result gpti_begin(gpt_session *s, const char *prompt, const gpt_generate_params *params, gpt_text_fn fn,
    void *user, gpt_error *err) {
    gpt_generate_params none;
    const gpti_tokenizer *t = &s->m->tok;
    gpti_generation *g = s->gen;
    char pending[GPTI_STOP_BYTES + 4];
    size_t n = 0, room = gpti_n_free(s), n_pending, i;
    const unsigned flags = gpti_prompt_flags(s, params && params->special);
    int go_on;
    if (!prompt) prompt = "";
    memset(&none, 0, sizeof none);
    if (!params) params = &none;
    GPTI_TRY(gpti_check_whole(s, 0, 1, err));
    GPTI_TRY(gpti_stop_check(params->stop, params->n_stop, err));
    GPTI_TRY(gpti_con_check(s, params, err));
    if (!*prompt) GPTI_TRY(gpti_is_lost(s, err));
    if (*prompt || !s->n_token)
        GPTI_TRY(gpti_tokenizer_encode(t, prompt, strlen(prompt), flags, s->token + s->n_token, room, &n, s->w->scratch,
            sizeof *s->w->scratch, &s->m->mem, err));
    if (n > room)
        return gpti_fail(err, GPT_E_CONTEXT,
            "the prompt's %llu tokens do not fit: %llu of a context of %llu are free", (gpti_ull)n, (gpti_ull)room,
            (gpti_ull)s->n_ctx);
    if (s->n_token + n == 0)
        return gpti_fail(err, GPT_E_ARG, "the prompt is empty, and the model has no token to begin a text with");
    GPTI_TRY(gpti_con_fits(params, 0, room - n, err));
    n_pending = gpti_stream_pending(&g->stream, pending);
    go_on = !n && !g->stale;
    memset(g, 0, sizeof *g);
    g->params = *params; g->credit = 2 * GPTI_DRAFT_PASS;
    g->fn = fn; g->user = user;
    gpti_take_samplers(g, &params->sample, NULL);
    gpti_stream_init(&g->stream, params->stop, params->n_stop);
    gpti_stream_init(&g->ban, params->ban, params->n_ban);
    if (go_on) gpti_stream_push(&g->stream, pending, n_pending, fn, user);
    else {                                      /* other text follows: this is given as it is */
        g->stream.behind = n_pending;
        for (i = 0; i < n_pending; i++) gpti_stream_byte(&g->stream, (unsigned char)pending[i], fn, user);
        gpti_stream_finish(&g->stream, 1, fn, user);
        g->stream.behind = 0;
    }
    if (n) s->from = s->n_past;
    s->n_committed = s->n_token; s->n_token += n;
    s->logits_wanted = GPTI_LOGITS_LAST;
    gpti_want_last(s);                          /* computes the last token again if its logits are gone */
    g->edge = t->add_space_prefix;
    for (i = 0; i < s->n_token && g->edge; i++) g->edge = gpti_tokenizer_type(t, s->token[i]) == GPTI_TOKEN_CONTROL;
    g->edge_at = SIZE_MAX; g->n_prompt = n;
    gpti_con_start(s);
    s->doing = GPTI_GENERATES; s->result = GPT_MORE;
    gpti_take_turn(s->w, s, 1);
    return GPT_OK;
}

GPT_API gpt_result gpt_begin(gpt_session *s, const char *prompt, const gpt_generate_params *params, gpt_text_fn fn,
    void *user, gpt_error *err) {
    GPTI_TRY(gpti_enter(s, "gpt_begin", GPTI_IDLE, err));
    return gpti_leave(s, gpti_begin(s, prompt, params, fn, user, err));
}

/* Has the text handed out so far ended the generation? */
static gpt_finish gpti_enough(const gpt_session *s) {
    const gpti_generation *g = s->gen;
    if (g->stream.state == GPTI_STREAM_STOP) return GPT_FINISH_STOP;
    if (g->stream.state == GPTI_STREAM_HOST || s->stop) return GPT_FINISH_HOST;
    if (g->con_digest && !g->params.constraint) return GPT_FINISH_HOST;         /* restored, and never resumed */
    return g->params.max_tokens && g->n_generated >= g->params.max_tokens ? GPT_FINISH_LENGTH : GPT_FINISH_NONE;
}

/* The context is full: the first n_keep tokens stay, and the prefix, and the newest half of the others,
 * which are computed anew, to the bits of a text that never had more. 0: nothing can go. */
static int gpti_roll(gpt_session *s) {
    gpti_generation *g = s->gen;
    const size_t keep = gpti_max(gpti_min(g->params.n_keep, s->n_token), s->n_shared), to = gpti_held_before(s, keep);
    size_t n = s->n_token, behind = g->stream.behind;
    int edge = 0;
    while (behind && n > keep)                  /* what the host has not been given stays */
        behind -= gpti_min(behind, gpti_shown(s, s->token[--n], &edge).n);
    n = gpti_min(n - keep, (s->n_token - keep + 1) / 2);
    if (!g->params.roll || !n || gpti_most_tokens(s, to) <= s->n_token - n) return 0;
    if (gpti_can_repeat(s, to, keep, NULL) || gpti_can_repeat(s, keep + n, s->n_token, NULL)) return 0;
    gpti_go_back(s, to);
    s->n_token -= n; s->n_dropped += n;
    memmove(s->token + keep, s->token + keep + n, (s->n_token - keep) * sizeof *s->token);
    if (g->edge_at != SIZE_MAX) g->edge_at = g->edge_at >= keep + n ? g->edge_at - n : SIZE_MAX;
    return 1;
}

/* Guesses at what follows the text, at most `most`, into the room behind it: what followed where its last tokens,
 * as many of them as can be, at least two, came up last. How many depends on how many were right: a right one saves
 * a pass, a guess is taken to cost half of one, a token without is given 1/64, so that texts without repeats lose a
 * sixtieth and two passes at most. (Saxena 2023, "Prompt Lookup Decoding") */
enum { GPTI_DRAFT_LOOK = 1 << 16, GPTI_DRAFT_MATCH = 16 };
static size_t gpti_draft(gpt_session *s, size_t most) {
    gpti_generation *g = s->gen;
    const size_t n = s->n_token, first = n > GPTI_DRAFT_LOOK ? n - GPTI_DRAFT_LOOK : 0;
    size_t i, k, best = 1, at = 0;
    g->credit = gpti_min(g->credit, (size_t)GPTI_DRAFT_PASS * g->params.n_draft);
    most = gpti_min(most, g->credit / GPTI_DRAFT_PASS);
    for (i = n - 1; most && i-- > first && best < GPTI_DRAFT_MATCH;) {
        for (k = 0; k <= i - first && k < GPTI_DRAFT_MATCH && s->token[i - k] == s->token[n - 1 - k]; k++) {}
        if (k > best) { best = k; at = i + 1; }
    }
    for (k = 0; at && k < most && s->token[at + k] >= 0; k++) s->token[n + k] = s->token[at + k];
    g->credit = k ? g->credit - GPTI_DRAFT_PASS / 2 * k : g->credit + 1;
    return k;
}

/* The same for a pass that has n_homeless rows whose logits stay here: the others that take part need a place each. */
static size_t gpti_draft_rows(gpt_work *w, gpt_session *s, size_t n_homeless) {
    const gpti_generation *g = s->gen;
    size_t most = gpti_n_free(s), n_other = 1, room = w->n_batch - w->n_row, here = w->n_logit_row - n_homeless;
    const gpt_session *o;
    if (s->doing != GPTI_GENERATES || !g->params.n_draft || g->params.logits || s->n_state) return 0;
    for (o = w->first; o; o = o->next) n_other += o != s && gpti_takes_part(w, o);
    if (g->params.max_tokens > g->n_generated) most = gpti_min(most, g->params.max_tokens - g->n_generated - 1);
    room = room > n_other ? room - n_other : 0;
    here = here > n_other ? here - n_other : 0;
    return gpti_draft(s, gpti_min(most, gpti_min(room, here)));
}

/* A chosen token joins the text, and the host gets its bytes, unless it ends the text or nothing
 * more fits. */
static gpt_finish gpti_append_token(gpt_session *s, gpt_token id) {
    gpti_generation *g = s->gen;
    const int edge = g->edge;
    gpt_text_fn fn;
    gpti_str piece;
    void *user;
    int n_stop;
    if (gpti_tokenizer_is_end(&s->m->tok, id) && !g->params.ignore_end) return GPT_FINISH_END;
    if (!gpti_n_free(s) && !gpti_roll(s)) return GPT_FINISH_CONTEXT;
    if (s->n_token == g->con_from) g->con_edge = edge;      /* a chat may have set it behind gpti_begin */
    if (gpti_has_mask(s)) gpti_con_take(s, id);
    g->n_generated++;
    piece = gpti_shown(s, id, &g->edge);
    if (edge > g->edge) g->edge_at = s->n_token;
    s->from = s->n_past;
    if (s->n_draft && s->token[s->n_token] == id && s->n_past == s->n_token) {     /* as guessed: it is computed */
        s->n_past++; s->n_draft--; g->credit += GPTI_DRAFT_PASS;
        s->last_logits = s->draft_logits; s->draft_logits += s->m->hp.n_vocab;
    } else s->n_draft = 0;
    s->token[s->n_token++] = id;
    s->n_committed = s->n_token;                /* the host sees it */
    n_stop = g->stream.n_stop;
    if (g->params.think && g->think) g->stream.n_stop = 0;     /* they end the answer, not what is thought */
    fn = gpti_receiver(s, &user);
    gpti_stream_push(&g->stream, piece.p, piece.n, fn, user);
    g->stream.n_stop = n_stop;
    return gpti_enough(s);
}

GPT_API void gpt_end(gpt_session *s) {
    if (s && s->w && s->w->busy) s->stop = s->w->stop = 1;
    if (!s || gpti_enter(s, "gpt_end", GPTI_GENERATES, NULL)) return;
    gpti_give_up(s, s->doing == GPTI_GENERATES ? GPT_OK : GPT_E_CANCELLED);
    gpti_leave(s, GPT_OK);
}

/* ---- Saves ----
 * A list of fields, little-endian: a head that names the version of the list, the model's fingerprint (with the
 * adapter's) and the kind of cache; the text and its generation; with GPT_SAVE_CACHE the logits and each layer's
 * positions in groups of 16, from the first that it holds on; a checksum. The same functions count, write and read
 * it. */
enum { GPTI_SAVE_VERSION = 3 };

typedef struct gpti_save {
    const gpt_writer *w;                /* not NULL: it is written */
    gpti_cursor      *c;                /* not NULL: it is read; both NULL: it is counted */
    uint64_t          n, sum;           /* bytes so far; their checksum */
    gpt_result        fail;
    gpt_error        *err;
} gpti_save;

static int gpti_save_fail(gpti_save *f, gpt_result code, const char *what) {
    if (!f->fail) f->fail = gpti_fail(f->err, code, "save: %s", what);
    return 0;
}

/* n bytes; 0 once something has failed */
static int gpti_save_bytes(gpti_save *f, void *p, size_t n) {
    if (f->fail) return 0;
    if (f->c && !gpti_cursor_bytes(f->c, p, n)) { f->fail = f->c->fail; return 0; }
    if (f->w && f->w->write && (f->w->write)(f->w->user, p, n) != n)
        return gpti_save_fail(f, GPT_E_IO, "the writer took less than it was given");
    if (f->w && !f->w->write) {
        if (n > f->w->size - f->n) return gpti_save_fail(f, GPT_E_ARG, "the room given is too small");
        memcpy((unsigned char *)f->w->user + f->n, p, n);
    }
    if (f->w || f->c) f->sum = gpti_digest(f->sum, p, n);
    f->n += n;
    return 1;
}

/* A number up to most; one that is larger is refused. */
static uint64_t gpti_save_u64(gpti_save *f, uint64_t v, uint64_t most) {
    unsigned char b[8];
    size_t i;
    for (i = 0; i < 8; i++) b[i] = (unsigned char)(v >> 8 * i);
    if (!gpti_save_bytes(f, b, 8)) return 0;
    v = gpti_load_u64(b);
    if (v > most) gpti_save_fail(f, GPT_E_FORMAT, "a number is out of its bounds");
    return f->fail ? 0 : v;
}
static size_t gpti_save_size(gpti_save *f, size_t v, size_t most) {     /* SIZE_MAX: none, though it was less there */
    const uint64_t x = gpti_save_u64(f, v, most == SIZE_MAX ? UINT64_MAX : most);
    return x > SIZE_MAX ? SIZE_MAX : (size_t)x;
}
static int gpti_save_int(gpti_save *f, int v) {
    return (int)(uint32_t)gpti_save_u64(f, (uint32_t)v, UINT32_MAX);
}
static float gpti_save_f32(gpti_save *f, float v) {
    return gpti_bits_f32((uint32_t)gpti_save_u64(f, gpti_f32_bits(v), UINT32_MAX));
}

/* n numbers of 4 bytes */
static int gpti_save_words(gpti_save *f, void *words, size_t n) {
    unsigned char *p = (unsigned char *)words, b[256];
    uint32_t x;
    size_t i, m;
    for (; n && !f->fail; n -= m, p += 4 * m) {
        m = gpti_min(n, sizeof b / 4);
        for (i = 0; i < m && !f->c; i++) {
            memcpy(&x, p + 4 * i, 4);
            gpti_store_u16(b + 4 * i, x & 0xFFFFu); gpti_store_u16(b + 4 * i + 2, x >> 16);
        }
        if (!gpti_save_bytes(f, b, 4 * m)) return 0;
        for (i = 0; i < m && f->c; i++) { x = gpti_load_u32(b + 4 * i); memcpy(p + 4 * i, &x, 4); }
    }
    return !f->fail;
}

/* The same in place: *v changes only where this reads. */
static void gpti_save_at_int(gpti_save *f, int *v) { const int x = gpti_save_int(f, *v); if (f->c) *v = x; }
static void gpti_save_at_f32(gpti_save *f, float *v) { const float x = gpti_save_f32(f, *v); if (f->c) *v = x; }
static void gpti_save_at_size(gpti_save *f, size_t *v) {
    const size_t x = gpti_save_size(f, *v, SIZE_MAX);
    if (f->c) *v = x;
}
static void gpti_save_at_byte(gpti_save *f, unsigned char *v, size_t most) {
    const size_t x = gpti_save_size(f, *v, most);
    if (f->c) *v = (unsigned char)x;
}

static int gpti_save_stops(gpti_save *f, gpti_stream *st) {
    const size_t n_stop = gpti_save_size(f, (size_t)st->n_stop, GPTI_STOP_MAX);
    size_t i, n, at;
    for (i = 0; i < n_stop && !f->fail; i++) {
        n = gpti_save_size(f, st->len[i], GPTI_STOP_BYTES);
        if (!n) return gpti_save_fail(f, GPT_E_FORMAT, "a stop string is empty");
        gpti_save_bytes(f, st->stop[i], n);
        at = gpti_save_size(f, st->at[i], n - 1);
        if (!f->c) continue;
        gpti_stream_border(st, i, n);
        st->at[i] = (uint16_t)at;
    }
    if (f->c) st->n_stop = (int)n_stop;
    return !f->fail;
}

static void gpti_save_stream(gpti_save *f, gpti_stream *st) {
    size_t n, longest, state;
    if (!gpti_save_stops(f, st)) return;
    longest = gpti_save_size(f, (size_t)st->longest, gpti_max((size_t)st->n_stop, 1) - 1);
    state = gpti_save_size(f, (size_t)st->state, GPTI_STREAM_HOST);
    if (f->c) { st->longest = (int)longest; st->state = (int)state; }
    gpti_save_at_byte(f, &st->need, 3);
    n = gpti_save_size(f, st->need ? st->n_part : 0, 4 - (size_t)st->need);
    if (f->c) st->n_part = (unsigned char)n;
    gpti_save_bytes(f, st->part, 4);
    gpti_save_at_byte(f, &st->low, 255);
    gpti_save_at_byte(f, &st->high, 255);
    n = gpti_save_size(f, st->behind, (size_t)1 << 30);
    if (f->c) st->behind = n;
}

/* What it takes to come to the same place of the same constraint again: gpt_resume gives that */
static void gpti_save_constraint(gpti_save *f, gpti_generation *g) {
    const uint64_t digest = gpti_save_u64(f, g->con_phase ? g->con_digest : 0, UINT64_MAX);
    size_t begun, from, n;
    if (f->c) g->con_digest = digest;
    gpti_save_at_int(f, &g->params.must_finish); gpti_save_at_size(f, &g->params.min_tokens);
    gpti_save_stops(f, &g->ban);
    if (!digest) return;
    begun = gpti_save_size(f, (size_t)g->con_begun, GPTI_CON_ACTIVE);
    from = gpti_save_size(f, g->con_from, GPTI_MAX_CTX);
    gpti_save_at_int(f, &g->con_edge);
    n = gpti_save_size(f, begun == GPTI_CON_MARK ? g->mark.len : 0, sizeof g->mark.text);
    if (f->fail) return;
    if (f->c) { g->con_begun = g->con_phase = (int)gpti_max(begun, GPTI_CON_MARK); g->con_from = from; g->mark.len =
        (uint16_t)n; }
    if (gpti_save_bytes(f, g->mark.text, n) && f->c && n) gpti_word_border(g->mark.text, g->mark.border, n);
}

static void gpti_save_generation(gpti_save *f, gpti_generation *g) {
    gpt_sample_params *p = &g->params.sample;
    uint64_t seed, order;
    size_t n, finish, edge_at, think, thought, think_at;
    const char *mark;
    gpti_save_constraint(f, g);
    gpti_save_at_int(f, &p->penalty_last_n); gpti_save_at_int(f, &p->top_k);
    gpti_save_at_f32(f, &p->repeat_penalty); gpti_save_at_f32(f, &p->frequency_penalty);
    gpti_save_at_f32(f, &p->presence_penalty); gpti_save_at_f32(f, &p->top_p);
    gpti_save_at_f32(f, &p->min_p); gpti_save_at_f32(f, &p->temperature);
    gpti_save_at_f32(f, &p->top_n_sigma); gpti_save_at_f32(f, &p->typical_p);
    gpti_save_at_f32(f, &p->xtc_probability); gpti_save_at_f32(f, &p->xtc_threshold);
    gpti_save_at_f32(f, &p->dry_multiplier); gpti_save_at_f32(f, &p->dry_base);
    gpti_save_at_int(f, &p->dry_allowed_length); gpti_save_at_int(f, &p->dry_last_n);
    gpti_save_at_int(f, &p->no_repeat_ngram);
    gpti_save_at_f32(f, &p->dynatemp_range); gpti_save_at_f32(f, &p->dynatemp_exponent);
    n = gpti_save_size(f, strlen(g->breakers), GPTI_BREAKERS - 1);
    gpti_save_bytes(f, g->breakers, n);
    order = gpti_save_u64(f, g->order, UINT64_MAX);
    seed = gpti_save_u64(f, p->seed, UINT64_MAX);
    gpti_save_at_size(f, &g->params.max_tokens);
    gpti_save_at_int(f, &g->params.ignore_end); gpti_save_at_int(f, &g->params.roll);
    gpti_save_at_size(f, &g->params.n_keep);
    finish = gpti_save_size(f, (size_t)g->finish, GPT_FINISH_REFUSED);
    gpti_save_at_size(f, &g->n_prompt); gpti_save_at_size(f, &g->n_generated);
    gpti_save_at_int(f, &g->show); gpti_save_at_int(f, &g->edge); gpti_save_at_int(f, &g->stale);
    edge_at = gpti_save_size(f, g->edge_at + 1, (size_t)GPTI_MAX_CTX) - 1;
    think = gpti_save_size(f, (size_t)g->think, GPTI_THINK_OVER);
    thought = gpti_save_size(f, (size_t)g->thought, GPTI_N_THOUGHT - 1);
    mark = gpti_thoughts[f->fail ? 0 : thought].open;
    if (think == GPTI_THINK_INSIDE) mark = gpti_thoughts[f->fail ? 0 : thought].close;
    think_at = gpti_save_size(f, g->think_at, strlen(mark) - 1);
    if (f->c && !f->fail) { g->think = (int)think; g->thought = (int)thought; g->think_at = think_at; }
    if (f->c) { p->seed = seed; g->order = order; g->breakers[f->fail ? 0 : n] = 0; }
    if (f->c) { g->finish = (gpt_finish)finish; g->edge_at = edge_at; }
    gpti_save_stream(f, &g->stream);
}

/* Layer i's positions of s from the multiple of 16 `from` to n_past */
static void gpti_save_cache(gpti_save *f, const gpt_session *s, size_t i, size_t from, size_t n_past) {
    const gpti_cache_shape x = gpti_cache_shape_of(s->m, i, s->params.kv);
    int (*const save)(gpti_save *f, void *p, size_t n) = x.words ? gpti_save_words : gpti_save_bytes;
    const size_t n = x.words ? 4 : 16;          /* 16 positions, in words or bytes */
    const gpti_cache *c = &s->cache[i];
    size_t p, h;
    for (p = from; p < n_past && !f->fail; p += 16) for (h = 0; h < x.n_head; h++) {
        const size_t at = h * c->cap + gpti_cache_row(c, p - s->origin);
        save(f, c->k + at * x.k_bytes, n * x.k_bytes);
        save(f, c->v + at * x.v_bytes, n * x.v_bytes);
    }
}

/* The states of more than n_shared tokens, up to n_past, in their order. Where there is room for fewer, the first ones
 * go. */
static int gpti_save_states(gpti_save *f, gpt_session *s, size_t n_shared, size_t n_past) {
    size_t i, n = 0, last = n_shared, floats = s->m->hp.n_state;
    for (i = 0; i < s->n_state; i++) n += s->state_of[i] > n_shared && s->state_of[i] <= n_past;
    n = gpti_save_size(f, n, n_past - n_shared);
    for (; n > 0 && !f->fail; n--) {
        size_t which = 0, least = SIZE_MAX, of;         /* an empty one (SIZE_MAX + 1 is 0), or the first; the next */
        for (i = 0; i < s->n_state; i++) {
            of = f->c ? s->state_of[i] + 1 : s->state_of[i] > last ? s->state_of[i] : SIZE_MAX;
            if (of < least) { least = of; which = i; }
        }
        of = gpti_save_size(f, s->state_of[which], n_past);
        if (!f->fail && of <= last) return gpti_save_fail(f, GPT_E_FORMAT, "its states are out of order");
        if (f->c && !f->fail) s->state_of[which] = of;
        gpti_save_words(f, s->state + which * floats, floats);
        last = of;
    }
    return !f->fail;
}

/* The head, which is checked here; 0: refused */
static int gpti_save_head(gpti_save *f, const gpt_session *s, int *what, uint64_t *size) {
    unsigned char magic[8] = { 'g', 'p', 't', ' ', 's', 'a', 'v', 'e' };
    const uint64_t stands_on = s->m->fingerprint + s->adapted;
    uint64_t version;
    gpti_save_bytes(f, magic, 8);
    if (!f->fail && memcmp(magic, "gpt save", 8))
        return gpti_save_fail(f, GPT_E_FORMAT, "expected the bytes \"gpt save\"");
    version = gpti_save_u64(f, GPTI_SAVE_VERSION, UINT64_MAX);
    if (!f->fail && version != GPTI_SAVE_VERSION) {
        f->fail = gpti_fail(f->err, GPT_E_UNSUPPORTED, "save: of version %llu, expected %d", (gpti_ull)version,
                            GPTI_SAVE_VERSION);
        return 0;
    }
    *size = gpti_save_u64(f, *size, UINT64_MAX);
    if (f->c && !f->fail && *size != f->c->end) {
        f->fail = gpti_fail(f->err, GPT_E_FORMAT, "save: expected %llu bytes, found %llu", (gpti_ull)*size,
                            (gpti_ull)f->c->end);
        return 0;
    }
    if (gpti_save_u64(f, stands_on, UINT64_MAX) != stands_on && !f->fail)
        return gpti_save_fail(f, GPT_E_FOREIGN, "it is of another model, adapter or scale of that");
    if (gpti_save_u64(f, (uint64_t)s->params.kv, UINT64_MAX) != (uint64_t)s->params.kv && !f->fail)
        return gpti_save_fail(f, GPT_E_FOREIGN, "its cache has another kv");
    if (gpti_save_u64(f, (uint64_t)gpti_is_long(s), 1) != (uint64_t)gpti_is_long(s) && !f->fail)
        return gpti_save_fail(f, GPT_E_FOREIGN, "the model computes a context of its length in another way");
    *what = (int)gpti_save_size(f, (size_t)*what, GPT_SAVE_CACHE);
    return !f->fail;
}

/* Where to go on from with the n_token tokens that have been read, n_past of them computed in the save,
 * n_shared in a prefix. */
static int gpti_save_place(gpti_save *f, gpt_session *s, int what, size_t n_token, size_t *n_past, size_t *n_shared) {
    const gpt_session *prefix = s->params.prefix;
    size_t i, same = 0;
    for (i = 0; i < n_token; i++)
        if (s->token[i] == -1 ? i >= *n_past : s->token[i] < 0 || (uint32_t)s->token[i] >= s->m->hp.n_vocab)
            return gpti_save_fail(f, GPT_E_FORMAT, "a token is not in the vocabulary");
    while (prefix && same < gpti_min(n_token, prefix->n_token) && s->token[same] == prefix->token[same]) same++;
    if (what == GPT_SAVE_TOKENS && gpti_is_held(s, same)) *n_shared = *n_past = same;
    if (same < *n_shared || !gpti_is_held(s, *n_shared))
        return gpti_save_fail(f, GPT_E_FOREIGN, "its text begins with another prefix");
    gpti_go_back(s, *n_shared);
    if (n_token > gpti_most_tokens(s, *n_shared)) return gpti_save_fail(f, GPT_E_CONTEXT, "its text does not fit");
    return 1;
}

/* Tokens, and what is computed of them: [0, n_shared) in a prefix that must be there, then s's own. s
 * changes only where this reads. */
static int gpti_save_text(gpti_save *f, gpt_session *s, int what) {
    const int cache = what == GPT_SAVE_CACHE;
    const size_t n_token = gpti_save_size(f, gpti_text_end(s), GPTI_MAX_CTX);
    const size_t n_committed = gpti_save_size(f, gpti_min(s->n_committed, gpti_text_end(s)), n_token);
    const size_t n_dropped = gpti_save_size(f, s->n_dropped, SIZE_MAX), n_cut = gpti_save_size(f, s->n_cut, SIZE_MAX);
    const uint64_t cut_digest = gpti_save_u64(f, s->cut_digest, UINT64_MAX);
    size_t n_past = gpti_save_size(f, cache ? gpti_held_before(s, gpti_text_end(s)) : 0, n_token);
    size_t n_shared = gpti_save_size(f, cache ? s->n_shared : 0, n_past), kept_from = 0, from, i;
    if (n_token > s->n_ctx) return gpti_save_fail(f, GPT_E_CONTEXT, "its text does not fit");
    if (!f->c && gpti_can_repeat(s, n_past, n_token, f->err)) { f->fail = GPT_E_STATE; return 0; }
    if (!gpti_save_words(f, s->token, n_token)) return 0;
    if (f->c && !gpti_save_place(f, s, what, n_token, &n_past, &n_shared)) return 0;
    for (i = 0; cache && n_past > n_shared && i < s->m->hp.n_layer; i++) {
        from = 16 * gpti_save_size(f, gpti_max(gpti_held_from(s, i), s->origin) / 16, n_past / 16);
        if (f->fail) return 0;
        if (from < s->origin || (from > s->origin && !s->m->layer[i].window))
            return gpti_save_fail(f, GPT_E_FORMAT, "a layer lacks positions");
        if (from > s->origin) kept_from = gpti_max(kept_from, from);
        gpti_save_cache(f, s, i, from, n_past);
    }
    if (cache && n_past > n_shared && s->m->hp.n_state && !gpti_save_states(f, s, n_shared, n_past)) return 0;
    if (!f->c || f->fail) return !f->fail;
    s->n_token = n_token; s->n_committed = n_committed; s->n_dropped = n_dropped;
    s->n_cut = n_cut; s->cut_digest = cut_digest;
    s->n_past = s->n_written = s->from = n_past; s->kept_from = kept_from;
    s->last_logits = NULL;
    return gpti_is_held(s, n_past) || gpti_save_fail(f, GPT_E_FORMAT, "a layer lacks positions");
}

static gpt_result gpti_save_all(gpti_save *f, gpt_session *s, int what, uint64_t size) {
    uint64_t sum;
    int doing, row;
    if (!gpti_save_head(f, s, &what, &size) || !gpti_save_text(f, s, what)) return f->fail;
    gpti_save_generation(f, s->gen);            /* where this reads it is empty, as after a reset */
    doing = (int)gpti_save_size(f, s->doing == GPTI_GENERATES, s->n_token > 0 && s->m->hp.causal);
    row = what == GPT_SAVE_CACHE && s->last_logits && s->n_past == s->n_token && !s->lent && !s->choices.n;
    row = (int)gpti_save_size(f, (size_t)row, what == GPT_SAVE_CACHE);
    if (f->c) s->w->choosing = NULL;            /* its room takes logits that the session has no row for */
    if (row) gpti_save_words(f, !f->c ? s->last_logits : s->logits ? s->logits : (float *)(void *)s->w->cand,
                             s->m->hp.n_vocab);
    sum = f->sum;
    if (gpti_save_u64(f, sum, UINT64_MAX) != sum) gpti_save_fail(f, GPT_E_FORMAT, "its checksum is wrong");
    if (f->fail || !f->c) return f->fail;
    if (row && s->n_token && s->n_past == s->n_token) s->last_logits = s->logits;
    s->lent = 0; s->logits_wanted = GPTI_LOGITS_LAST; s->result = GPT_OK;
    if (!doing) return GPT_OK;
    s->doing = GPTI_GENERATES; s->result = GPT_MORE; s->held |= 2;
    gpti_take_turn(s->w, s, 1);
    return GPT_OK;
}

GPT_API size_t gpt_session_save_bytes(const gpt_session *s, int what) {
    gpti_save f;
    memset(&f, 0, sizeof f);
    if (!s || (what != GPT_SAVE_TOKENS && what != GPT_SAVE_CACHE)) return 0;
    gpti_save_all(&f, (gpt_session *)s, what, 0);
    return f.n > SIZE_MAX ? 0 : (size_t)f.n;
}

GPT_API gpt_result gpt_session_save(const gpt_session *s, int what, const gpt_writer *w, gpt_error *err) {
    gpti_save f;
    gpti_clear(err);
    memset(&f, 0, sizeof f);
    if (!s || !w || (!w->write && !w->user) || (what != GPT_SAVE_TOKENS && what != GPT_SAVE_CACHE))
        return gpti_fail(err, GPT_E_ARG, "gpt_session_save: session, writer or what (GPT_SAVE_) make no sense");
    if (s->w && s->w->busy) return gpti_fail(err, GPT_E_STATE, "gpt_session_save: the session is at work");
    if (s->changed) return gpti_fail(err, GPT_E_STATE, "gpt_session_save: a trace hook has changed the text");
    f.w = w; f.err = err;
    return gpti_save_all(&f, (gpt_session *)s, what, gpt_session_save_bytes(s, what));
}

GPT_API gpt_result gpt_session_restore(gpt_session *s, const gpt_reader *reader, gpt_error *err) {
    gpti_save f;
    gpti_cursor c;
    gpti_source source;
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_session_restore", -1, err));
    if (!reader) return gpti_leave(s, gpti_fail(err, GPT_E_ARG, "gpt_session_restore: reader must not be NULL"));
    gpti_reset(s);
    s->gen->finish = GPT_FINISH_NONE;
    memset(&f, 0, sizeof f);
    if (reader->read) gpti_source_reader(&source, reader);
    else gpti_source_memory(&source, reader->user, (size_t)reader->size);
    gpti_cursor_init(&c, &source, "save", err);
    f.c = &c; f.err = err;
    r = gpti_save_all(&f, s, 0, 0);
    if (r) gpti_reset(s);
    return gpti_leave(s, r);
}

/* The constraint of what goes on is the one that it began with; a restored text is read by it again. */
static gpt_result gpti_con_resume(gpt_session *s, const gpt_generate_params *p, gpt_error *err) {
    gpti_generation *g = s->gen;
    const gpt_constraint *c = p ? p->constraint : g->params.constraint;
    const int edge = g->edge;
    size_t i;
    uint32_t cost;
    if ((c ? c->digest : 0) != (g->con_phase ? g->con_digest : 0) || (c && c->m != s->m))
        return gpti_fail(err, GPT_E_FOREIGN, "gpt_resume: the generation has %s", g->con_phase ? "another constraint"
            : "no constraint");
    if (p && p->roll && c) return gpti_fail(err, GPT_E_ARG, "roll: not with a constraint, which needs all of its text");
    if (!c || c == g->params.constraint) return GPT_OK;
    g->params.constraint = c;
    g->con_phase = g->con_begun; g->con_at = 0; g->edge = g->con_edge;
    if (g->con_phase == GPTI_CON_ACTIVE) gpti_con_begin(s);
    gpti_mark_weigh(s, &g->mark, g->mark_need);
    for (i = g->con_from; i < s->n_token; i++) {
        if (!gpti_con_token(s, s->token[i], 1, &cost)) break;
        gpti_tokenizer_shown(&s->m->tok, s->token[i], 0, &g->edge);
    }
    g->edge = edge;
    if (i >= s->n_token) return GPT_OK;
    g->params.constraint = NULL;
    return gpti_fail(err, GPT_E_FOREIGN, "gpt_resume: token %llu of the text is none that the constraint takes",
        (gpti_ull)i);
}

GPT_API gpt_result gpt_resume(gpt_session *s, const gpt_generate_params *params, gpt_text_fn fn, void *user,
                              gpt_error *err) {
    gpti_generation *g;
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_resume", GPTI_GENERATES, err));
    if (s->doing != GPTI_GENERATES)
        return gpti_leave(s, gpti_fail(err, GPT_E_STATE, "gpt_resume: an evaluation is under way"));
    g = s->gen;
    r = params ? gpti_take_samplers(NULL, &params->sample, err) : GPT_OK;
    if (!r) r = gpti_con_resume(s, params, err);
    if (r) return gpti_leave(s, r);
    if (params) gpti_take_samplers(g, &params->sample, NULL);
    if (params) { g->params = *params; if (s->w->choosing == s) s->w->choosing = NULL; }
    g->fn = fn; g->user = user;
    s->held &= 1;
    return gpti_leave(s, GPT_OK);
}

GPTI_SMALL
/* ======================================================================
 * [CHAT] Messages to text: the file's chat template is run
 * ==================================================================== */

/* A chat template is a program in Jinja. gpti_j_compile makes instructions of it, gpti_j_run works them off on a
 * stack of values; what they print is the text. Neither calls itself: what is open (brackets, tags, scopes, lists in
 * lists) is on stacks of their own.
 *
 * All bytes of all strings lie in one pool, text; own says of each whether the template wrote it (1) or a message, a
 * tool or a variable (0), so that no content can spell a control token. Strings and lists never change: a slice is a
 * place in the pool. Memory only grows, until all is given back at once; GPTI_J_ROOM and GPTI_J_STEPS are the
 * bounds, and a byte of template, messages and variables adds to them: what is copied costs steps too.
 *
 * The language is jinja2's as transformers sets it up: trim_blocks, lstrip_blocks, loop controls, tojson as
 * json.dumps writes, no changing of lists and dicts. What no published template uses is refused by name: include,
 * import, extends, block, recursive loops, chained comparisons, *args, **, % on strings, format's fields other than
 * {}, many filters and tests. Integers have 64 bits; upper and lower know Latin, Greek and Cyrillic letters. */
enum { GPTI_J_ROOM = 16 << 20, GPTI_J_STEPS = 1 << 24, GPTI_J_SHARE = 256, GPTI_J_DEPTH = 100, GPTI_J_TARGETS = 8 };

enum { GPTI_J_UNDEFINED, GPTI_J_NONE, GPTI_J_BOOL, GPTI_J_INT, GPTI_J_FLOAT, GPTI_J_STR, GPTI_J_LIST, GPTI_J_TUPLE,
       GPTI_J_DICT, GPTI_J_SPACE, GPTI_J_MACRO, GPTI_J_LOOP, GPTI_J_FUNC, GPTI_J_METHOD };

typedef struct gpti_jval {
    /* of a string 1: markup, what is added to it is escaped for HTML, 2: a number; of a list 1: a generator, 2: a view,
     * 3: a range */
    uint8_t  kind, mark;
    uint32_t n;         /* bytes; elements; pairs of key and value */
    union { int64_t i; double f; size_t at; } u;    /* at: of its bytes in text, of its elements in val */
} gpti_jval;

typedef struct gpti_jop { uint32_t a, b, line; int code; } gpti_jop;

/* Instructions. Values come from the stack and go there; a and b as the comment says. From ITEM to POPS they take the
 * value on top, from EQ to MOD, as ITEM, two. */
enum {
    GPTI_J_NOP, GPTI_J_CONST /* val[a] */, GPTI_J_LOAD /* name a */, GPTI_J_SLICE, GPTI_J_MAKE /* a values, kind b */,
    GPTI_J_CALL /* a arguments: positions, then << 16 names */, GPTI_J_CALL_METHOD /* the same, name b */,
    GPTI_J_FILTER, GPTI_J_TEST, GPTI_J_TEST_NOT, GPTI_J_AND /* to a if false, else drop it */, GPTI_J_OR,
    GPTI_J_JUMP /* to a */, GPTI_J_NEXT /* or to a */, GPTI_J_KEPT, GPTI_J_WHOLE /* the body has run to its end */,
    GPTI_J_END_FOR /* to a if it did so once */, GPTI_J_SCOPE /* b: what it prints becomes a value */,
    GPTI_J_END_SCOPE /* b: the value is dropped */, GPTI_J_MACRO_HERE /* macro a */,
    GPTI_J_UNLESS_GIVEN /* name a, else to b */, GPTI_J_RETURN,
    GPTI_J_ITEM, GPTI_J_STORE /* name a */, GPTI_J_STORE_ATTR /* namespace a, name b */, GPTI_J_UNPACK /* into a */,
    GPTI_J_ATTR /* name a */, GPTI_J_OUT, GPTI_J_UNLESS /* to a */, GPTI_J_NOT, GPTI_J_NEG, GPTI_J_POS, GPTI_J_FOR,
    GPTI_J_KEEP, GPTI_J_POPS = GPTI_J_KEEP,
    GPTI_J_EQ, GPTI_J_NE, GPTI_J_LT, GPTI_J_LE, GPTI_J_GT, GPTI_J_GE, GPTI_J_IN, GPTI_J_NOT_IN,
    GPTI_J_ADD, GPTI_J_SUB, GPTI_J_CONCAT, GPTI_J_MUL, GPTI_J_DIV, GPTI_J_IDIV, GPTI_J_MOD
};

typedef struct gpti_jname { uint32_t at, n, bind; } gpti_jname;        /* bind: its newest, 0 = none */
typedef struct gpti_jbind { gpti_jval v; uint32_t name, older, frame; } gpti_jbind;
typedef struct gpti_jmacro { uint32_t entry, param, n_param, name; } gpti_jmacro;    /* param: names in val */

typedef struct gpti_jframe {            /* a scope: its names are those bound since it began */
    size_t    parent, bind, out, stack, back;   /* the scope around it in the text; where all were; where to return */
    gpti_jval list, last;               /* of a loop; its item for loop.changed is not kept */
    size_t    index, kept;
    int       capture;
} gpti_jframe;

/* What is open while compiling: an expression's operators and brackets, or a tag. */
typedef struct gpti_jopen {
    uint8_t  kind, prec;
    uint32_t code, start, jump, count, names, line, target;
    size_t   pos;
} gpti_jopen;

typedef struct gpti_jinja {
    const gpti_mem *mem;
    gpt_error *err;
    gpt_result fail;
    size_t     bytes, most;             /* taken; allowed */
    uint64_t   steps, max_steps;
    char      *text;                    /* the template is its beginning, text[0, end) */
    unsigned char *own;
    gpti_jval *val, *stack;
    gpti_jop  *op;
    gpti_jname *name;
    uint32_t  *bucket;                  /* hash of names, 0 = free, else 1 + name */
    gpti_jbind *bind;
    gpti_jmacro *macro;
    gpti_jopen *open, no_open;          /* no_open stands for what there is no room for */
    gpti_jframe *frame;
    char      *out;                     /* printed text and its marks */
    unsigned char *out_own;
    size_t     n_text, n_val, n_stack, n_op, n_name, n_bind, n_macro, n_open, n_frame, n_out;
    size_t     c_text, c_own, c_val, c_stack, c_op, c_name, c_bucket, c_bind, c_macro, c_open, c_frame, c_out,
        c_out_own;
    size_t     end, pos, pc;
    uint32_t   line, line_at;           /* of the token or instruction at hand; of pos */
    int        tk, nest, line_start;    /* the token; brackets open in the tag; the text before pos ends a line */
    char       tag;                     /* % or {: the tag at hand */
    gpti_jval  tk_val;
    uint32_t   tk_name;
    const char *date;
} gpti_jinja;

static gpt_result gpti_j_fail(gpti_jinja *j, gpt_result code, const char *fmt, ...) {
    char msg[160], *p;
    va_list args;
    if (j->fail) return j->fail;
    va_start(args, fmt);
    vsnprintf(msg, sizeof msg, fmt, args);
    va_end(args);
    for (p = msg; *p; p++) if (*p < ' ' || *p > '~') *p = '?';
    return j->fail = j->line ? gpti_fail(j->err, code, "chat template, line %u: %s", j->line, msg) :
        gpti_fail(j->err, code, "chat: %s", msg);
}

static int gpti_j_spend(gpti_jinja *j, size_t n) {          /* n steps; 0: they are used up */
    j->steps += n;
    if (j->steps > j->max_steps) gpti_j_fail(j, GPT_E_FORMAT, "it takes more than %llu steps", (gpti_ull)j->max_steps);
    return !j->fail;
}

/* Room for `want` elements in a table of n; 0: there is none. */
static int gpti_j_room(gpti_jinja *j, void *table, size_t n, size_t *cap, size_t want, size_t size) {
    size_t more = *cap ? *cap : 64;
    void *p, *old;
    if (want <= *cap) return 1;
    if (j->fail) return 0;
    while (more < want && more < SIZE_MAX / 2) more *= 2;
    if (more > j->most / size || more * size > j->most - j->bytes) {
        gpti_j_fail(j, GPT_E_FORMAT, "it takes more than %llu bytes of memory", (gpti_ull)j->most);
        return 0;
    }
    p = gpti_alloc_raw(j->mem, more * size);
    if (!p) { gpti_j_fail(j, GPT_E_MEMORY, "out of memory"); return 0; }
    memcpy(&old, table, sizeof old);                    /* table: where a pointer of any kind lies */
    if (*cap) memcpy(p, old, n * size);
    gpti_free(j->mem, old);
    j->bytes += (more - *cap) * size;
    memcpy(table, &p, sizeof p);
    *cap = more;
    return 1;
}
#define GPTI_J_ROOM_FOR(j, table, more) \
    gpti_j_room(j, &(j)->table, (j)->n_##table, &(j)->c_##table, (j)->n_##table + (more), sizeof *(j)->table)

static gpti_jval gpti_j_val(int kind, size_t at, size_t n) {
    gpti_jval v;
    memset(&v, 0, sizeof v);
    v.kind = (uint8_t)kind; v.n = (uint32_t)n; v.u.at = at;
    return v;
}
static gpti_jval gpti_j_int(int64_t i) { gpti_jval v = gpti_j_val(GPTI_J_INT, 0, 0); v.u.i = i; return v; }
static gpti_jval gpti_j_bool(int on) { gpti_jval v = gpti_j_int(on != 0); v.kind = GPTI_J_BOOL; return v; }
static gpti_jval gpti_j_none(void) { return gpti_j_val(GPTI_J_NONE, 0, 0); }
static gpti_jval gpti_j_undefined(void) { return gpti_j_val(GPTI_J_UNDEFINED, 0, 0); }
static int gpti_j_is_list(gpti_jval v) { return v.kind == GPTI_J_LIST || v.kind == GPTI_J_TUPLE; }
static int gpti_j_is_number(gpti_jval v) { return v.kind >= GPTI_J_BOOL && v.kind <= GPTI_J_FLOAT; }
static int gpti_j_is_int(gpti_jval v) { return v.kind == GPTI_J_BOOL || v.kind == GPTI_J_INT; }
static double gpti_j_number(gpti_jval v) { return v.kind == GPTI_J_FLOAT ? v.u.f : (double)v.u.i; }

static void gpti_j_push(gpti_jinja *j, gpti_jval v) {
    if (GPTI_J_ROOM_FOR(j, stack, 1)) j->stack[j->n_stack++] = v;
}
static void gpti_j_push_from(gpti_jinja *j, size_t at, size_t n) {      /* val[at, at + n) */
    if (!GPTI_J_ROOM_FOR(j, stack, n)) return;
    if (n) memcpy(j->stack + j->n_stack, j->val + at, n * sizeof *j->val);
    j->n_stack += n;
}
static gpti_jval gpti_j_pop(gpti_jinja *j) { return j->n_stack ? j->stack[--j->n_stack] : gpti_j_undefined(); }

/* n bytes more at the end of text; p NULL: for the caller to fill. The mark is theirs. */
static gpti_jval gpti_j_string(gpti_jinja *j, const char *p, size_t n, int own) {
    const size_t at = j->n_text;
    if (n > 0x7FFFFFFF || !gpti_j_spend(j, n / 16) ||
        !gpti_j_room(j, &j->text, at, &j->c_text, at + n + 1, 1) ||
        !gpti_j_room(j, &j->own, at, &j->c_own, at + n + 1, 1)) {
        gpti_j_fail(j, GPT_E_FORMAT, "a string of more than 2^31 - 1 bytes");
        return gpti_j_val(GPTI_J_STR, 0, 0);
    }
    if (p && n) memcpy(j->text + at, p, n);
    memset(j->own + at, own, n);
    j->n_text += n;
    return gpti_j_val(GPTI_J_STR, at, n);
}
static gpti_jval gpti_j_cstring(gpti_jinja *j, const char *p, int own) { return gpti_j_string(j, p, strlen(p), own); }

/* The bytes text[from, from + n) with their marks once more, behind a string that ends the pool. */
static void gpti_j_append(gpti_jinja *j, gpti_jval *s, size_t from, size_t n) {
    const gpti_jval more = gpti_j_string(j, NULL, n, 0);
    if (j->fail) return;
    memmove(j->text + more.u.at, j->text + from, n);
    memmove(j->own + more.u.at, j->own + from, n);
    s->n += more.n;
}

static gpti_jval gpti_j_join2(gpti_jinja *j, gpti_jval a, gpti_jval b) {
    gpti_jval s = a;
    if (!b.n) return a;
    if (a.u.at + a.n != j->n_text || !a.n) {            /* else b goes behind it, and a is its beginning */
        s = gpti_j_val(GPTI_J_STR, j->n_text, 0);
        gpti_j_append(j, &s, a.u.at, a.n);
    }
    gpti_j_append(j, &s, b.u.at, b.n);
    return s;
}

static gpti_str gpti_j_span(const char *p, size_t n) { gpti_str s; s.p = p; s.n = n; return s; }
static gpti_str gpti_j_str(const gpti_jinja *j, gpti_jval v) {
    return v.kind == GPTI_J_STR ? gpti_j_span(j->text + v.u.at, v.n) : gpti_j_span("", 0);
}
static int gpti_j_is(const gpti_jinja *j, gpti_jval v, const char *text) {
    return v.kind == GPTI_J_STR && gpti_str_is(gpti_j_str(j, v), text);
}

static int gpti_j_str_cmp(gpti_jinja *j, gpti_jval a, gpti_jval b) {
    gpti_j_spend(j, gpti_min(a.n, b.n) / 16);
    return gpti_str_cmp(gpti_j_str(j, a), gpti_j_str(j, b));
}

/* Where the value of a key lies in val, or 0. */
static size_t gpti_j_find_key(gpti_jinja *j, gpti_jval dict, gpti_jval key) {
    size_t i;
    for (i = 0; i < dict.n && key.kind == GPTI_J_STR && gpti_j_spend(j, 1); i++)
        if (gpti_j_str_cmp(j, j->val[dict.u.at + 2 * i], key) == 0) return dict.u.at + 2 * i + 1;
    return 0;
}

/* The top n values of the stack become a list; or n / 2 pairs a dict, of equal keys the last value. */
static gpti_jval gpti_j_make(gpti_jinja *j, int kind, size_t n) {
    gpti_jval v = gpti_j_val(kind, j->n_val, 0), *from;
    size_t i, at;
    if (j->fail || n > j->n_stack || !gpti_j_spend(j, n) || !GPTI_J_ROOM_FOR(j, val, n)) return gpti_j_undefined();
    from = j->stack + j->n_stack - n;
    if (kind != GPTI_J_DICT) {
        if (n) memcpy(j->val + j->n_val, from, n * sizeof *from);
        v.n = (uint32_t)n;
    } else for (i = 0; i < n; i += 2) {
        if (from[i].kind != GPTI_J_STR) gpti_j_fail(j, GPT_E_UNSUPPORTED, "a dict with a key that is no string");
        at = gpti_j_find_key(j, v, from[i]);
        if (!at) { at = v.u.at + 2 * (size_t)v.n++ + 1; j->val[at - 1] = from[i]; }
        j->val[at] = from[i + 1];
    }
    j->n_val += v.n * (size_t)(kind == GPTI_J_DICT ? 2 : 1); j->n_stack -= n;
    return v;
}

/* Bytes of white space that Python's strip() would take off at p: what str.isspace says of it. */
static size_t gpti_chat_space(const char *p, size_t n) {
    uint32_t u;
    size_t k = n ? gpti_utf8(p, n, &u) : 0;
    if (!k) return 0;
    if ((u >= 9 && u <= 13) || (u >= 28 && u <= 32) || u == 0x85 || u == 0xA0 || u == 0x1680) return k;
    if ((u >= 0x2000 && u <= 0x200A) || u == 0x2028 || u == 0x2029 || u == 0x202F) return k;
    return u == 0x205F || u == 0x3000 ? k : 0;
}

/* ---- Numbers in JSON and as Python writes them, whatever the locale's decimal point is ---- */

static gpti_jval gpti_j_read_number(gpti_str raw) {
    char buf[400], *p;
    const size_t n = gpti_min(raw.n, sizeof buf - 1), sign = *raw.p == '-';
    gpti_jval v = gpti_j_int(0);
    size_t i;
    for (i = sign; i < n && raw.p[i] >= '0' && raw.p[i] <= '9' && v.u.i <= (INT64_MAX - (raw.p[i] - '0')) / 10; i++)
        v.u.i = v.u.i * 10 + (raw.p[i] - '0');
    if (sign) v.u.i = -v.u.i;
    if (i == n) return v;
    snprintf(buf, sizeof buf, "%.1f", 0.5);
    i = (unsigned char)buf[1];
    memcpy(buf, raw.p, n);
    buf[n] = 0;
    if ((p = strchr(buf, '.')) != NULL) *p = (char)i;
    v.kind = GPTI_J_FLOAT; v.u.f = strtod(buf, NULL);
    return v;
}

/* The fewest digits that read back as x. */
static size_t gpti_j_float_text(double x, int json, char out[40]) {
    int precision = 0, e;
    char *p;
    if (x != x || x - x != 0.0) {
        const char *word = x != x ? "NaN" : x > 0 ? "Infinity" : "-Infinity";
        return (size_t)snprintf(out, 40, "%s", json ? word : x != x ? "nan" : x > 0 ? "inf" : "-inf");
    }
    do snprintf(out, 40, "%.*e", precision, x); while (strtod(out, NULL) != x && precision++ < 17);
    e = atoi(strchr(out, 'e') + 1);
    if (e >= -4 && e < 16) snprintf(out, 40, "%.*f", precision > e ? precision - e : 1, x);
    for (p = out; *p; p++) if (!strchr("0123456789+-e", *p)) *p = '.';
    return strlen(out);
}

/* A number as it is written; an integer beyond 64 bits is a string that prints without quotes. */
static gpti_jval gpti_j_number_value(gpti_jinja *j, gpti_str raw) {
    gpti_jval v = gpti_j_read_number(raw);
    const size_t sign = *raw.p == '-';
    if (v.kind == GPTI_J_INT || gpti_json_digits(raw.p + sign, raw.p + raw.n) < raw.p + raw.n) return v;
    v = gpti_j_string(j, raw.p, raw.n, 0);
    v.mark = 2;
    return v;
}

static gpti_jval gpti_j_from_json(gpti_jinja *j, gpti_str text, const char *what) {
    gpti_json r;
    gpti_jval v = gpti_j_undefined();
    /* a mark for each that is open: its kind, where the one around it is */
    size_t base = j->n_stack, open = 0;
    int item;
    gpti_json_init(&r, text);
    while (!j->fail && (item = gpti_json_next(&r)) != GPTI_JSON_END) {
        switch (item) {
        case GPTI_JSON_ERROR:
            gpti_j_fail(j, GPT_E_ARG, "%s: JSON: expected %s at byte %llu", what, r.error, (gpti_ull)(r.p - r.begin));
            continue;
        case GPTI_JSON_ARRAY: case GPTI_JSON_OBJECT:
            gpti_j_push(j, gpti_j_val(item == GPTI_JSON_ARRAY ? GPTI_J_LIST : GPTI_J_DICT, open, 0));
            open = j->n_stack;
            continue;
        case GPTI_JSON_CLOSE: {
            const gpti_jval mark = j->stack[open - 1];
            v = gpti_j_make(j, mark.kind, j->n_stack - open);
            gpti_j_pop(j);
            open = mark.u.at;
            break;
        }
        case GPTI_JSON_KEY: case GPTI_JSON_STRING:
            v = gpti_j_string(j, NULL, r.raw.n, 0);
            if (!j->fail) { v.n = (uint32_t)gpti_json_unescape(r.raw, j->text + v.u.at); j->n_text = v.u.at + v.n; }
            break;
        case GPTI_JSON_NUMBER: v = gpti_j_number_value(j, r.raw); break;
        default: v = item == GPTI_JSON_NULL ? gpti_j_none() : gpti_j_bool(item == GPTI_JSON_TRUE);
        }
        gpti_j_push(j, v);
    }
    v = j->n_stack > base ? gpti_j_pop(j) : gpti_j_undefined();
    j->n_stack = base;
    return v;
}

/* ---- Names and scopes ---- */

static uint32_t gpti_j_name(gpti_jinja *j, gpti_str s) {
    size_t i, k, mask;
    if (2 * (j->n_name + 1) > j->c_bucket) {
        if (!gpti_j_room(j, &j->bucket, 0, &j->c_bucket, 4 * (j->n_name + 16), sizeof *j->bucket)) return 0;
        memset(j->bucket, 0, j->c_bucket * sizeof *j->bucket);
        for (k = 0; k < j->n_name; k++) {
            i = gpti_hash(j->text + j->name[k].at, j->name[k].n, 0) & (j->c_bucket - 1);
            while (j->bucket[i]) i = (i + 1) & (j->c_bucket - 1);
            j->bucket[i] = (uint32_t)k + 1;
        }
    }
    mask = j->c_bucket - 1;
    if (!gpti_j_spend(j, s.n / 16)) return 0;
    for (i = gpti_hash(s.p, s.n, 0) & mask; j->bucket[i]; i = (i + 1) & mask) {
        const gpti_jname *n = &j->name[j->bucket[i] - 1];
        if (n->n == s.n && !memcmp(j->text + n->at, s.p, s.n)) return j->bucket[i] - 1;
        if (!gpti_j_spend(j, 1)) return 0;
    }
    if (!GPTI_J_ROOM_FOR(j, name, 1)) return 0;
    k = s.p >= j->text && s.p < j->text + j->n_text ? (size_t)(s.p - j->text) : gpti_j_string(j, s.p, s.n, 1).u.at;
    j->name[j->n_name].at = (uint32_t)k; j->name[j->n_name].n = (uint32_t)s.n; j->name[j->n_name].bind = 0;
    j->bucket[i] = (uint32_t)++j->n_name;
    return (uint32_t)j->n_name - 1;
}

static gpti_str gpti_j_name_text(const gpti_jinja *j, uint32_t name) {
    return gpti_j_span(j->text + j->name[name].at, j->name[name].n);
}

static void gpti_j_bind(gpti_jinja *j, uint32_t name, gpti_jval v) {
    gpti_jbind *b;
    const uint32_t newest = j->n_name ? j->name[name].bind : 0;
    const size_t frame = j->n_frame - 1;
    if (j->fail) return;
    if (newest && j->bind[newest].frame == frame) { j->bind[newest].v = v; return; }
    if (!j->n_bind) j->n_bind = 1;                      /* 0 means none */
    if (!GPTI_J_ROOM_FOR(j, bind, 1)) return;
    b = &j->bind[j->n_bind];
    b->v = v; b->name = name; b->older = newest; b->frame = (uint32_t)frame;
    j->name[name].bind = (uint32_t)j->n_bind++;
}

/* The value of a name as the scope at hand sees it: of scopes around it in the text. */
static gpti_jval gpti_j_load(gpti_jinja *j, uint32_t name) {
    gpti_jval v;
    uint32_t b;
    for (b = j->name[name].bind; b; b = j->bind[b].older) {
        size_t f = j->n_frame - 1;
        while (f > j->bind[b].frame && gpti_j_spend(j, 1)) f = j->frame[f].parent;
        if (f == j->bind[b].frame) return j->bind[b].v;
    }
    v = gpti_j_undefined();
    v.u.at = j->name[name].at; v.n = j->name[name].n;
    return v;
}

static void gpti_j_unbind(gpti_jinja *j, size_t n) {        /* all but the first n */
    while (j->n_bind > gpti_max(n, 1)) {
        const gpti_jbind *b = &j->bind[--j->n_bind];
        j->name[b->name].bind = b->older;
    }
}

static gpti_jframe *gpti_j_enter(gpti_jinja *j, size_t parent) {
    gpti_jframe *f;
    if (j->n_frame == GPTI_J_DEPTH)
        gpti_j_fail(j, GPT_E_FORMAT, "more than %d loops, macros and blocks within each other", (int)GPTI_J_DEPTH);
    if (j->fail || !GPTI_J_ROOM_FOR(j, frame, 1)) return NULL;
    f = &j->frame[j->n_frame++];
    memset(f, 0, sizeof *f);
    f->parent = parent; f->bind = j->n_bind; f->out = j->n_out; f->stack = j->n_stack;
    return f;
}

static void gpti_j_leave(gpti_jinja *j) {
    if (j->n_frame < 2) return;
    gpti_j_unbind(j, j->frame[--j->n_frame].bind);
}

/* ---- Printing ---- */

static void gpti_j_put(gpti_jinja *j, const char *p, size_t n, int own) {
    if (!n || !gpti_j_spend(j, n / 16) || !GPTI_J_ROOM_FOR(j, out, n) ||
        !gpti_j_room(j, &j->out_own, j->n_out, &j->c_out_own, j->n_out + n, 1)) return;
    memcpy(j->out + j->n_out, p, n);
    memset(j->out_own + j->n_out, own, n);
    j->n_out += n;
}

static void gpti_j_put_string(gpti_jinja *j, gpti_jval v) {
    const size_t at = j->n_out;
    gpti_j_put(j, j->text + v.u.at, v.n, 0);
    if (!j->fail && v.n) memcpy(j->out_own + at, j->own + v.u.at, v.n);
}

static gpti_jval gpti_j_printed(gpti_jinja *j, size_t from) {          /* what was printed since, as a value */
    const size_t n = j->n_out - from;
    const gpti_jval v = gpti_j_string(j, j->out + from, n, 0);
    if (!j->fail && n) memcpy(j->own + v.u.at, j->out_own + from, n);
    j->n_out = from;
    return v;
}

typedef struct gpti_jform {             /* how lists and what is in them are printed */
    int json, ascii;
    int64_t indent;                     /* -1: all in one line */
    gpti_jval item, key;                /* separators, or undefined */
} gpti_jform;

/* A string in quotes, as JSON or as Python's repr. */
static void gpti_j_put_quoted(gpti_jinja *j, gpti_jval v, const gpti_jform *f) {
    static const char plain[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    const gpti_str s = gpti_j_str(j, v);
    const char quote = f->json || (memchr(s.p, '\'', s.n) && !memchr(s.p, '"', s.n)) ? '"' : '\'';
    size_t i, k;
    uint32_t u;
    gpti_j_put(j, &quote, 1, 0);
    for (i = 0; i < v.n && !j->fail; i += k) {
        const char *p = j->text + v.u.at + i, *c;
        const int own = j->own[v.u.at + i];
        char buf[16];
        int n = 0;
        k = gpti_utf8(p, v.n - i, &u);
        c = u && u < 128 ? strchr(plain, (int)u) : NULL;
        if (c && (f->json || (c > plain && c < plain + 5))) n = snprintf(buf, sizeof buf, "\\%c", letters[c - plain]);
        else if (!f->json && u == (uint32_t)quote) n = snprintf(buf, sizeof buf, "\\%c", quote);
        else if (u < 32 || (u == 127 && !f->json)) n = snprintf(buf, sizeof buf, f->json ? "\\u%04x" : "\\x%02x",
            (unsigned)u);
        else if (!f->json && (u >= 0x80 && (u < 0xA0 || u == 0xAD || gpti_chat_space(p, k) ||
            (u >= 0x200B && u <= 0x200F) ||
                 (u >= 0x202A && u <= 0x202E) || (u >= 0x2060 && u <= 0x206F) || u == 0xFEFF)))
            n = snprintf(buf, sizeof buf, u < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)u);
        else if (f->ascii && u >= 0x10000)
            n = snprintf(buf, sizeof buf, "\\u%04x\\u%04x", (unsigned)(0xD7C0 + (u >> 10)),
                (unsigned)(0xDC00 | (u & 0x3FF)));
        else if (f->ascii && u > 126) n = snprintf(buf, sizeof buf, "\\u%04x", (unsigned)u);
        gpti_j_put(j, n ? buf : p, n ? (size_t)n : k, own);
    }
    gpti_j_put(j, &quote, 1, 0);
}

static void gpti_j_put_scalar(gpti_jinja *j, gpti_jval v, const gpti_jform *f, int quoted) {
    char buf[48];
    const char *word = NULL;
    switch (v.kind) {
    case GPTI_J_UNDEFINED:
        if (f->json) gpti_j_fail(j, GPT_E_FORMAT, "tojson: a value is undefined");
        if (quoted) word = "Undefined";
        break;
    case GPTI_J_NONE: word = f->json ? "null" : "None"; break;
    case GPTI_J_BOOL: word = v.u.i ? f->json ? "true" : "True" : f->json ? "false" : "False"; break;
    case GPTI_J_INT: gpti_j_put(j, buf, (size_t)snprintf(buf, sizeof buf, "%lld", (long long)v.u.i), 1); break;
    case GPTI_J_FLOAT: gpti_j_put(j, buf, gpti_j_float_text(v.u.f, f->json, buf), 1); break;
    case GPTI_J_STR: if (quoted && v.mark != 2) gpti_j_put_quoted(j, v, f); else gpti_j_put_string(j, v); break;
    default:
        if (f->json) gpti_j_fail(j, GPT_E_FORMAT, "tojson: a function, macro or namespace is no JSON");
        word = v.kind == GPTI_J_SPACE ? "<Namespace>" : v.kind == GPTI_J_LOOP ? "<LoopContext>" : "<function>";
    }
    if (word) gpti_j_put(j, word, strlen(word), 0);
}

static void gpti_j_line(gpti_jinja *j, const gpti_jform *f, size_t depth) {
    size_t i;
    if (f->indent < 0) return;
    gpti_j_put(j, "\n", 1, 0);
    for (i = depth * (size_t)f->indent; i > 0 && !j->fail; i--) gpti_j_put(j, " ", 1, 0);
}

/* Print a value: lists as they are in Python or JSON. What is open lies on the stack, with the index of its
 * next element. */
static void gpti_j_write(gpti_jinja *j, gpti_jval v, const gpti_jform *f) {
    static const char begin[] = "[({", end[] = "])}";
    const size_t base = j->n_stack;
    int quoted = f->json;
    gpti_jval *at;
    for (;;) {
        if (v.kind == GPTI_J_LIST && v.mark)
            gpti_j_fail(j, GPT_E_FORMAT, "a generator, view or range is printed: it needs |list");
        if (v.kind < GPTI_J_LIST || v.kind > GPTI_J_DICT) gpti_j_put_scalar(j, v, f, quoted);
        else {
            quoted = 1;
            if (f->json && v.kind == GPTI_J_TUPLE) v.kind = GPTI_J_LIST;
            gpti_j_put(j, &begin[v.kind - GPTI_J_LIST], 1, 0);
            gpti_j_push(j, v);
            gpti_j_push(j, gpti_j_int(0));
        }
        for (; !j->fail && j->n_stack > base; j->n_stack -= 2) {
            at = j->stack + j->n_stack - 2;
            if (at[1].u.i < at->n) break;
            if (at->n) gpti_j_line(j, f, (j->n_stack - base) / 2 - 1);
            if (at->kind == GPTI_J_TUPLE && at->n == 1) gpti_j_put(j, ",", 1, 0);
            gpti_j_put(j, &end[at->kind - GPTI_J_LIST], 1, 0);
        }
        if (j->fail || j->n_stack == base) return;
        at = j->stack + j->n_stack - 2;
        if (at[1].u.i && f->item.kind == GPTI_J_STR) gpti_j_put_string(j, f->item);
        else if (at[1].u.i) gpti_j_put(j, ", ", f->indent < 0 ? 2 : 1, 0);
        gpti_j_line(j, f, (j->n_stack - base) / 2);
        if (at->kind == GPTI_J_DICT) {
            gpti_j_put_scalar(j, j->val[at->u.at + 2 * (size_t)at[1].u.i], f, 1);
            if (f->key.kind == GPTI_J_STR) gpti_j_put_string(j, f->key);
            else gpti_j_put(j, ": ", 2, 0);
        }
        v = j->val[at->u.at + (size_t)at[1].u.i++ * (at->kind == GPTI_J_DICT ? 2 : 1) + (at->kind == GPTI_J_DICT)];
    }
}

static void gpti_j_print(gpti_jinja *j, gpti_jval v) {
    gpti_jform f;
    memset(&f, 0, sizeof f);
    f.indent = -1;
    gpti_j_write(j, v, &f);
}

static gpti_jval gpti_j_to_string(gpti_jinja *j, gpti_jval v) {
    const size_t from = j->n_out;
    if (v.kind == GPTI_J_STR) return v;
    gpti_j_print(j, v);
    return gpti_j_printed(j, from);
}

/* ---- Values ---- */

static const char *gpti_j_kind(gpti_jval v) {
    static const char names[][12] = { "undefined", "none", "a boolean", "an integer", "a float", "a string", "a list",
        "a tuple", "a dict", "a namespace", "a macro", "a loop", "a function", "a method" };
    return names[v.kind];
}

/* An undefined value where one is needed: its name, if it has one. */
static gpti_jval gpti_j_bad(gpti_jinja *j, gpti_jval v, const char *what) {
    char name[GPTI_SHOWN];
    gpti_str s = { "", 0 };
    if (v.kind == GPTI_J_UNDEFINED && v.n) { s.p = j->text + v.u.at; s.n = v.n; }
    gpti_show(name, s);
    if (!strcmp(name, "strftime_now")) gpti_j_fail(j, GPT_E_FORMAT, "it asks for the date: give gpt_chat_params.date");
    else if (s.n) gpti_j_fail(j, GPT_E_FORMAT, "'%s' is undefined (%s)", name, what);
    else gpti_j_fail(j, GPT_E_FORMAT, "%s is not possible with %s", what, gpti_j_kind(v));
    return gpti_j_undefined();
}

static gpti_jval gpti_j_bad_pair(gpti_jinja *j, gpti_jval a, gpti_jval b, const char *what) {
    if (a.kind == GPTI_J_UNDEFINED || b.kind == GPTI_J_UNDEFINED) return gpti_j_bad(j, a.kind ? b : a, what);
    gpti_j_fail(j, GPT_E_FORMAT, "%s is not possible with %s and %s", what, gpti_j_kind(a), gpti_j_kind(b));
    return gpti_j_undefined();
}

static size_t gpti_j_length(gpti_jinja *j, gpti_jval v) {      /* of a string in characters */
    size_t i = 0, n = 0;
    uint32_t u;
    if (v.kind != GPTI_J_STR) return v.kind >= GPTI_J_LIST && v.kind <= GPTI_J_DICT ? v.n : 0;
    if (!gpti_j_spend(j, v.n / 16)) return 0;
    for (; i < v.n; n++) i += gpti_utf8(j->text + v.u.at + i, v.n - i, &u);
    return n;
}

static int gpti_j_truth(gpti_jval v) {
    if (v.kind <= GPTI_J_NONE) return 0;
    if (v.kind == GPTI_J_FLOAT) return v.u.f != 0.0;
    return v.kind <= GPTI_J_INT ? v.u.i != 0 : v.kind > GPTI_J_DICT || v.n > 0 || (v.kind == GPTI_J_LIST &&
        v.mark == 1);
}


static int gpti_j_number_cmp(gpti_jval a, gpti_jval b) {        /* 2: one is not a number */
    const double x = gpti_j_number(a), y = gpti_j_number(b);
    if (gpti_j_is_int(a) && gpti_j_is_int(b)) return (a.u.i > b.u.i) - (a.u.i < b.u.i);
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

static int gpti_j_equal(gpti_jinja *j, gpti_jval a, gpti_jval b) {
    const size_t base = j->n_stack;                     /* pairs still to be compared */
    size_t i, at;
    int equal = 1;
    gpti_j_push(j, a); gpti_j_push(j, b);
    while (equal && !j->fail && j->n_stack > base && gpti_j_spend(j, 1)) {
        b = gpti_j_pop(j); a = gpti_j_pop(j);
        if (gpti_j_is_number(a) && gpti_j_is_number(b)) equal = gpti_j_number_cmp(a, b) == 0;
        else if (a.kind != b.kind) equal = 0;
        else if (a.kind == GPTI_J_STR) equal = gpti_j_str_cmp(j, a, b) == 0;
        else if (a.kind >= GPTI_J_LIST && a.kind <= GPTI_J_DICT) {
            const size_t dict = a.kind == GPTI_J_DICT, step = dict + 1;
            equal = a.n == b.n && gpti_j_spend(j, a.n);
            for (i = 0; equal && i < a.n; i++) {
                at = dict ? gpti_j_find_key(j, b, j->val[a.u.at + 2 * i]) : b.u.at + i;
                equal = !dict || at;
                gpti_j_push(j, j->val[a.u.at + step * i + dict]); gpti_j_push(j, j->val[at]);
            }
        } else equal = a.kind <= GPTI_J_NONE || (a.u.at == b.u.at && a.n == b.n);
    }
    j->n_stack = base;
    return equal;
}

/* -1, 0 or 1; for what has no order an error. */
static int gpti_j_order(gpti_jinja *j, gpti_jval a, gpti_jval b) {
    if (gpti_j_is_number(a) && gpti_j_is_number(b)) return gpti_j_number_cmp(a, b);
    if (a.kind == GPTI_J_STR && b.kind == GPTI_J_STR) return gpti_j_str_cmp(j, a, b);
    gpti_j_bad_pair(j, a, b, "an order");
    return 0;
}

/* Where `what` begins in s from byte `from` on; SIZE_MAX: nowhere. */
static size_t gpti_j_search(gpti_jinja *j, gpti_str s, gpti_str what, size_t from) {
    const char *p;
    for (; from + what.n <= s.n && gpti_j_spend(j, 0); from++) {
        if (!what.n) return from;
        p = (const char *)memchr(s.p + from, *what.p, s.n - from - what.n + 1);
        if (!gpti_j_spend(j, 1 + ((p ? (size_t)(p - s.p) + what.n : s.n) - from) / 16) || !p) return SIZE_MAX;
        from = (size_t)(p - s.p);
        if (!memcmp(p, what.p, what.n)) return from;
    }
    return SIZE_MAX;
}

static int gpti_j_in(gpti_jinja *j, gpti_jval what, gpti_jval in) {
    size_t i;
    if (in.kind == GPTI_J_UNDEFINED) return 0;
    if (in.kind == GPTI_J_DICT) return gpti_j_find_key(j, in, what) != 0;
    if (in.kind == GPTI_J_STR && what.kind == GPTI_J_STR)
        return gpti_j_search(j, gpti_j_str(j, in), gpti_j_str(j, what), 0) != SIZE_MAX;
    if (!gpti_j_is_list(in)) gpti_j_bad(j, in.kind == GPTI_J_STR ? what : in, "'in'");
    for (i = 0; i < in.n && !j->fail; i++) if (gpti_j_equal(j, what, j->val[in.u.at + i])) return 1;
    return 0;
}

static gpti_jval gpti_j_part(gpti_jval s, size_t from, size_t n) { return gpti_j_val(GPTI_J_STR, s.u.at + from, n); }

/* A list of what a loop over v goes through. */
static gpti_jval gpti_j_elements(gpti_jinja *j, gpti_jval v) {
    size_t i, n = 0, k;
    uint32_t u;
    v.mark = 0;
    if (gpti_j_is_list(v)) return v;
    if (v.kind == GPTI_J_UNDEFINED) return gpti_j_val(GPTI_J_LIST, 0, 0);
    if (v.kind == GPTI_J_STR)
        for (i = 0; i < v.n && !j->fail; i += k, n++)
            gpti_j_push(j, gpti_j_part(v, i, k = gpti_utf8(j->text + v.u.at + i, v.n - i, &u)));
    else if (v.kind == GPTI_J_DICT) for (; n < v.n; n++) gpti_j_push(j, j->val[v.u.at + 2 * n]);
    else return gpti_j_bad(j, v, "a loop");
    return gpti_j_make(j, GPTI_J_LIST, n);
}

static gpti_jval gpti_j_pairs(gpti_jinja *j, gpti_jval dict, int what) {       /* 0: items, 1: keys, 2: values */
    size_t i;
    if (dict.kind == GPTI_J_UNDEFINED) return gpti_j_val(GPTI_J_LIST, 0, 0);
    if (dict.kind != GPTI_J_DICT) return gpti_j_bad(j, dict, "items");
    for (i = 0; i < dict.n && !j->fail; i++) {
        if (what != 2) gpti_j_push(j, j->val[dict.u.at + 2 * i]);
        if (what != 1) gpti_j_push(j, j->val[dict.u.at + 2 * i + 1]);
        if (!what) gpti_j_push(j, gpti_j_make(j, GPTI_J_TUPLE, 2));
    }
    return gpti_j_make(j, GPTI_J_LIST, dict.n);
}

static gpti_jval gpti_j_repeat(gpti_jinja *j, gpti_jval v, int64_t times) {
    const size_t from = j->n_out, base = j->n_stack;
    for (; times > 0 && v.n && !j->fail && gpti_j_spend(j, 1); times--) {
        if (v.kind == GPTI_J_STR) gpti_j_put_string(j, v);
        else gpti_j_push_from(j, v.u.at, v.n);
    }
    return v.kind == GPTI_J_STR ? gpti_j_printed(j, from) : gpti_j_make(j, v.kind, j->n_stack - base);
}

static gpti_jval gpti_j_path(gpti_jinja *j, gpti_jval v, gpti_jval path);

/* ---- Filters, methods and functions by their names ---- */

enum { GPTI_JF_LOWER, GPTI_JF_UPPER, GPTI_JF_CAPITAL, GPTI_JF_TITLE, GPTI_JF_TITLE_WORDS, GPTI_JF_LSTRIP = 9,
       GPTI_JF_RSTRIP, GPTI_JF_STRIP, GPTI_JF_SELECT, GPTI_JF_SELECTATTR, GPTI_JF_REJECT, GPTI_JF_REJECTATTR,
       GPTI_JF_MAP, GPTI_JF_UNIQUE /* the last one that may meet itself */, GPTI_JF_DEFAULT, GPTI_JF_DICT,
       GPTI_JF_DICTSORT, GPTI_JF_ENDSWITH, GPTI_JF_FIRST, GPTI_JF_FORMAT, GPTI_JF_GET, GPTI_JF_INDENT, GPTI_JF_INT,
       GPTI_JF_ITEMS, GPTI_JF_KEYS, GPTI_JF_VALUES, GPTI_JF_JOIN, GPTI_JF_JOIN_THESE, GPTI_JF_LAST,
       GPTI_JF_LENGTH, GPTI_JF_LIST, GPTI_JF_MIN, GPTI_JF_MAX, GPTI_JF_NAMESPACE, GPTI_JF_RAISE, GPTI_JF_RANGE,
       GPTI_JF_REPLACE, GPTI_JF_REVERSE, GPTI_JF_SAFE, GPTI_JF_SORT, GPTI_JF_SPLIT, GPTI_JF_STARTSWITH,
       GPTI_JF_STRFTIME, GPTI_JF_STRING, GPTI_JF_TOJSON };

/* of: f a filter, s a string's method, d a dict's, g a global function. keys: the names of the arguments in their
 * order; *: any number without a name, **: and with one. */
static const struct { char name[16], of[3]; uint8_t code; char keys[41]; } gpti_j_words[] = {
    { "capitalize", "fs", GPTI_JF_CAPITAL, "" }, { "count", "f", GPTI_JF_LENGTH, "" },
    { "d", "f", GPTI_JF_DEFAULT, "default_value boolean" },
    { "default", "f", GPTI_JF_DEFAULT, "default_value boolean" }, { "dict", "g", GPTI_JF_DICT, "**" },
    { "dictsort", "f", GPTI_JF_DICTSORT, "case_sensitive by reverse" }, { "endswith", "s", GPTI_JF_ENDSWITH, "end" },
    { "first", "f", GPTI_JF_FIRST, "" }, { "format", "s", GPTI_JF_FORMAT, "*" },
    { "get", "d", GPTI_JF_GET, "key default" },
    { "indent", "f", GPTI_JF_INDENT, "width first blank" }, { "int", "f", GPTI_JF_INT, "default" },
    { "items", "fd", GPTI_JF_ITEMS, "" }, { "join", "f", GPTI_JF_JOIN, "d attribute" },
    { "join", "s", GPTI_JF_JOIN_THESE, "list" }, { "keys", "d", GPTI_JF_KEYS, "" }, { "last", "f", GPTI_JF_LAST, "" },
    { "length", "f", GPTI_JF_LENGTH, "" }, { "list", "f", GPTI_JF_LIST, "" }, { "lower", "fs", GPTI_JF_LOWER, "" },
    { "lstrip", "s", GPTI_JF_LSTRIP, "chars" }, { "map", "f", GPTI_JF_MAP, "* attribute default" },
    { "max", "f", GPTI_JF_MAX, "case_sensitive attribute" }, { "min", "f", GPTI_JF_MIN, "case_sensitive attribute" },
    { "namespace", "g", GPTI_JF_NAMESPACE, "**" }, { "raise_exception", "g", GPTI_JF_RAISE, "message" },
    { "range", "g", GPTI_JF_RANGE, "start stop step" }, { "reject", "f", GPTI_JF_REJECT, "*" },
    { "rejectattr", "f", GPTI_JF_REJECTATTR, "*" }, { "replace", "fs", GPTI_JF_REPLACE, "old new count" },
    { "reverse", "f", GPTI_JF_REVERSE, "" }, { "rstrip", "s", GPTI_JF_RSTRIP, "chars" },
    { "safe", "f", GPTI_JF_SAFE, "" }, { "select", "f", GPTI_JF_SELECT, "*" },
    { "selectattr", "f", GPTI_JF_SELECTATTR, "*" }, { "sort", "f", GPTI_JF_SORT, "reverse case_sensitive attribute" },
    { "split", "s", GPTI_JF_SPLIT, "sep maxsplit" }, { "startswith", "s", GPTI_JF_STARTSWITH, "begin" },
    { "strftime_now", "g", GPTI_JF_STRFTIME, "format" }, { "string", "f", GPTI_JF_STRING, "" },
    { "strip", "s", GPTI_JF_STRIP, "chars" }, { "title", "f", GPTI_JF_TITLE_WORDS, "" },
    { "title", "s", GPTI_JF_TITLE, "" }, { "tojson", "f", GPTI_JF_TOJSON, "ensure_ascii indent separators" },
    { "trim", "f", GPTI_JF_STRIP, "chars" }, { "unique", "f", GPTI_JF_UNIQUE, "case_sensitive attribute" },
    { "upper", "fs", GPTI_JF_UPPER, "" }, { "values", "d", GPTI_JF_VALUES, "" }
};
enum { GPTI_J_N_WORD = sizeof gpti_j_words / sizeof *gpti_j_words };

static int gpti_j_find_word(char of, gpti_str name) {      /* its row, or -1 */
    int i = GPTI_J_N_WORD;
    while (i-- > 0 && !(of && strchr(gpti_j_words[i].of, of) && gpti_str_is(name, gpti_j_words[i].name))) {}
    return i;
}

static char gpti_j_methods(gpti_jval v) { return v.kind == GPTI_J_STR ? 's' : v.kind == GPTI_J_DICT ? 'd' : 0; }

static int gpti_j_which(const char *list, gpti_str word) {     /* its place in a list of words, or -1 */
    int i = 0;
    size_t n;
    for (; *list; list += n + (list[n] == ' '), i++) {
        n = strcspn(list, " ");
        if (n == word.n && !memcmp(list, word.p, n)) return i;
    }
    return -1;
}

/* on the stack: n values, then names, each with its value; keys as in gpti_j_words */
typedef struct gpti_jargs { size_t at; uint32_t n, names; const char *keys; } gpti_jargs;

static int gpti_j_arg(gpti_jinja *j, const gpti_jargs *a, uint32_t i, gpti_jval *out) {
    const gpti_jval *named = j->stack + a->at + a->n;
    uint32_t k;
    *out = gpti_j_undefined();
    if (i < a->n) { *out = j->stack[a->at + i]; return 1; }
    for (k = 0; k < a->names && gpti_j_which(a->keys, gpti_j_str(j, named[2 * k])) != (int)i; k++) {}
    if (k < a->names) *out = named[2 * k + 1];
    return k < a->names;
}

static int gpti_j_arg_truth(gpti_jinja *j, const gpti_jargs *a, uint32_t i) {
    gpti_jval v;
    return gpti_j_arg(j, a, i, &v) && gpti_j_truth(v);
}

static int64_t gpti_j_arg_int(gpti_jinja *j, const gpti_jargs *a, uint32_t i, int64_t otherwise) {
    gpti_jval v;
    if (!gpti_j_arg(j, a, i, &v) || v.kind == GPTI_J_NONE) return otherwise;
    if (!gpti_j_is_int(v)) gpti_j_bad(j, v, "an integer");
    return v.u.i;
}

/* ---- Strings ---- */

/* Capitals: each from first to last, or every second one, and how far behind it its small letter is. */
static const struct { uint16_t first, last, every; int16_t by; } gpti_j_letters[] = {
    { 'A', 'Z', 1, 32 }, { 0xC0, 0xD6, 1, 32 }, { 0xD8, 0xDE, 1, 32 }, { 0x100, 0x12E, 2, 1 }, { 0x132, 0x136, 2, 1 },
    { 0x139, 0x147, 2, 1 }, { 0x14A, 0x176, 2, 1 }, { 0x178, 0x178, 1, -121 }, { 0x179, 0x17D, 2, 1 },
    { 0x391, 0x3A1, 1, 32 }, { 0x3A3, 0x3A9, 1, 32 }, { 0x400, 0x40F, 1, 80 }, { 0x410, 0x42F, 1, 32 },
    { 0x460, 0x480, 2, 1 }, { 0x48A, 0x4BE, 2, 1 }, { 0x4D0, 0x52E, 2, 1 }
};

static uint32_t gpti_j_letter(uint32_t u, int upper) {
    size_t i;
    if (upper && u == 0x3C2) return 0x3A3;              /* sigma at a word's end */
    for (i = 0; i < sizeof gpti_j_letters / sizeof *gpti_j_letters; i++) {
        const uint32_t by = (uint32_t)gpti_j_letters[i].by, capital = upper ? u - by : u;
        if (capital >= gpti_j_letters[i].first && capital <= gpti_j_letters[i].last &&
            (capital - gpti_j_letters[i].first) % gpti_j_letters[i].every == 0) return upper ? capital : u + by;
    }
    return u;
}

static gpti_jval gpti_j_case(gpti_jinja *j, gpti_jval s, int how) {
    const size_t from = j->n_out;
    size_t i, k;
    uint32_t u, c;
    int begin = 1;                                      /* of the text, or of a word */
    for (i = 0; i < s.n && !j->fail; i += k) {
        char buf[4];
        const char *p = j->text + s.u.at + i;
        k = gpti_utf8(p, s.n - i, &u);
        c = gpti_j_letter(u, how == GPTI_JF_UPPER || (how > GPTI_JF_UPPER && begin));
        begin = how == GPTI_JF_TITLE ? gpti_j_letter(u, 0) == u && gpti_j_letter(u, 1) == u :
            how == GPTI_JF_TITLE_WORDS && (gpti_chat_space(p, k) || (u < 128 && strchr("-({[<", (int)u)));
        if (c == u) gpti_j_put_string(j, gpti_j_part(s, i, k));
        else gpti_j_put(j, buf, gpti_put_utf8(buf, c), j->own[s.u.at + i]);
    }
    return gpti_j_printed(j, from);
}

/* Does strip() take this character off? */
static int gpti_j_goes(gpti_jinja *j, gpti_jval chars, const char *p, size_t n) {
    if (chars.kind != GPTI_J_STR) return gpti_chat_space(p, n) > 0;
    return gpti_j_search(j, gpti_j_str(j, chars), gpti_j_span(p, n), 0) != SIZE_MAX;
}

/* Without white space, or the characters of `chars`, at its beginning (sides & 1) and end (sides & 2). */
static gpti_jval gpti_j_strip(gpti_jinja *j, gpti_jval s, gpti_jval chars, int sides) {
    const char *p = j->text + s.u.at;
    size_t from = 0, n = s.n, k;
    uint32_t u;
    for (; (sides & 1) && from < n; from += k) {
        k = gpti_utf8(p + from, n - from, &u);
        if (!gpti_j_goes(j, chars, p + from, k)) break;
    }
    for (; (sides & 2) && n > from; n -= k) {
        k = gpti_utf8_back(p + n, n - from);
        if (!gpti_j_goes(j, chars, p + n - k, k)) break;
    }
    gpti_j_spend(j, (s.n - (n - from)) / 16);
    return gpti_j_part(s, from, n - from);
}

static gpti_jval gpti_j_split(gpti_jinja *j, gpti_jval s, gpti_jval sep, int64_t most) {
    const size_t base = j->n_stack;
    size_t from = 0, to, k = sep.n;
    if (sep.kind == GPTI_J_STR && !sep.n) gpti_j_fail(j, GPT_E_FORMAT, "split: the separator is empty");
    for (; !j->fail; from = to + k) {
        const int rest = most >= 0 && (int64_t)(j->n_stack - base) >= most;
        to = SIZE_MAX;
        if (sep.kind != GPTI_J_STR) {
            s = gpti_j_strip(j, gpti_j_part(s, from, s.n - from), sep, 1);
            from = 0;
            if (!s.n) break;
            for (to = 0; to < s.n && !(k = gpti_chat_space(j->text + s.u.at + to, s.n - to)); to++) {}
            if (to == s.n || rest) to = SIZE_MAX;
        } else if (!rest) to = gpti_j_search(j, gpti_j_str(j, s), gpti_j_str(j, sep), from);
        gpti_j_push(j, gpti_j_part(s, from, (to == SIZE_MAX ? s.n : to) - from));
        if (to == SIZE_MAX) break;
    }
    return gpti_j_make(j, GPTI_J_LIST, j->n_stack - base);
}

static gpti_jval gpti_j_replace(gpti_jinja *j, gpti_jval s, gpti_jval a, gpti_jval b, int64_t most) {
    const size_t begin = j->n_out;
    size_t from = 0, to, k;
    uint32_t u;
    if (a.kind != GPTI_J_STR || b.kind != GPTI_J_STR) return gpti_j_bad(j, a.kind == GPTI_J_STR ? b : a, "replace");
    for (; !j->fail && most-- && from <= s.n; from = to + k) {
        to = gpti_j_search(j, gpti_j_str(j, s), gpti_j_str(j, a), from);
        if (to == SIZE_MAX) break;
        k = a.n;
        gpti_j_put_string(j, gpti_j_part(s, from, to - from));
        gpti_j_put_string(j, b);
        if (a.n) continue;                              /* an empty one is between any two characters */
        k = to < s.n ? gpti_utf8(j->text + s.u.at + to, s.n - to, &u) : 1;
        if (to < s.n) gpti_j_put_string(j, gpti_j_part(s, to, k));
    }
    if (from < s.n) gpti_j_put_string(j, gpti_j_part(s, from, s.n - from));
    return gpti_j_printed(j, begin);
}

static gpti_jval gpti_j_join(gpti_jinja *j, gpti_jval list, gpti_jval sep, gpti_jval attribute) {
    const size_t from = j->n_out;
    size_t i;
    list = gpti_j_elements(j, list);
    for (i = 0; i < list.n && gpti_j_spend(j, 1); i++) {
        if (i) gpti_j_print(j, sep);
        gpti_j_print(j, gpti_j_path(j, j->val[list.u.at + i], attribute));
    }
    return gpti_j_printed(j, from);
}

/* text.format(...), whose fields are {} */
static gpti_jval gpti_j_format(gpti_jinja *j, gpti_jval s, const gpti_jargs *a) {
    const size_t begin = j->n_out;
    gpti_jval v;
    size_t i;
    uint32_t next = 0;
    for (i = 0; i < s.n && !j->fail; i++) {
        const char *p = j->text + s.u.at + i, behind = i + 1 < s.n ? p[1] : ' ';
        const int brace = *p == '{' || *p == '}';
        if (!brace || behind == *p) gpti_j_put_string(j, gpti_j_part(s, i, 1));
        else if (*p == '}' || behind != '}') gpti_j_fail(j, GPT_E_UNSUPPORTED, "format: a field that is not {}");
        else if (!gpti_j_arg(j, a, next++, &v)) gpti_j_fail(j, GPT_E_FORMAT, "format: too few values");
        else gpti_j_print(j, v);
        i += (size_t)brace;
    }
    return gpti_j_printed(j, begin);
}

static int gpti_j_has_end(gpti_jinja *j, gpti_jval s, gpti_jval end, int front) {
    size_t i, n = end.kind == GPTI_J_TUPLE ? end.n : 1;
    for (i = 0; i < n; i++) {
        const gpti_jval e = end.kind == GPTI_J_TUPLE ? j->val[end.u.at + i] : end;
        if (!gpti_j_spend(j, 1 + e.n / 16)) return 0;
        if (e.kind != GPTI_J_STR) { gpti_j_bad(j, e, "startswith or endswith"); return 0; }
        if (e.n <= s.n && !memcmp(j->text + s.u.at + (front ? 0 : s.n - e.n), j->text + e.u.at, e.n)) return 1;
    }
    return 0;
}

static gpti_jval gpti_j_indent(gpti_jinja *j, gpti_jval s, const gpti_jargs *a) {
    const size_t from = j->n_out;
    const int first = gpti_j_arg_truth(j, a, 1), blank = gpti_j_arg_truth(j, a, 2);
    gpti_jval width;
    size_t i, n;
    if (!gpti_j_arg(j, a, 0, &width)) width = gpti_j_int(4);
    if (gpti_j_is_int(width)) width = gpti_j_repeat(j, gpti_j_cstring(j, " ", 1), width.u.i);
    if (width.kind != GPTI_J_STR) return gpti_j_bad(j, width, "an indent");
    for (i = 0; i <= s.n && !j->fail; i += n + 1) {
        for (n = 0; i + n < s.n && j->text[s.u.at + i + n] != '\n'; n++) {}
        if (i) gpti_j_put(j, "\n", 1, 0);
        if (i && i == s.n && !blank) break;
        if (i ? n || blank : first) gpti_j_put_string(j, width);
        gpti_j_put_string(j, gpti_j_part(s, i, n));
    }
    return gpti_j_printed(j, from);
}

static gpti_jval gpti_j_to_int(gpti_jinja *j, gpti_jval v, gpti_jval otherwise) {
    gpti_str s;
    const char *p, *end;
    if (v.kind == GPTI_J_UNDEFINED) return gpti_j_bad(j, v, "a number");
    if (v.kind == GPTI_J_STR) {
        s = gpti_j_str(j, gpti_j_strip(j, v, gpti_j_undefined(), 3));
        if (!gpti_j_spend(j, s.n / 16)) return v;
        if (s.n && *s.p == '+') { s.p++; s.n--; }
        p = s.p + (s.n && *s.p == '-'); end = s.p + s.n;
        if (gpti_json_digits(p, end) == p) return otherwise;
        p = gpti_json_digits(p, end);
        if (p < end && *p == '.') p = gpti_json_digits(p + 1, end);
        if (p < end && (*p | 32) == 'e') {
            p++;
            p = gpti_json_digits(p + (p < end && (*p == '-' || *p == '+')), end);
        }
        if (p != end) return otherwise;
        v = gpti_j_read_number(s);
    }
    if (gpti_j_is_int(v)) return gpti_j_int(v.u.i);
    return v.kind == GPTI_J_FLOAT && v.u.f > -9e18 && v.u.f < 9e18 ? gpti_j_int((int64_t)v.u.f) : otherwise;
}

/* The caller's date in strftime's form. */
static gpti_jval gpti_j_strftime(gpti_jinja *j, gpti_jval form) {
    static const char months[][10] = { "January", "February", "March", "April", "May", "June", "July", "August",
        "September", "October", "November", "December" };
    const size_t from = j->n_out;
    const char *d = j->date, *name = months[atoi(d + 5) - 1];
    size_t i;
    if (form.kind != GPTI_J_STR) return gpti_j_bad(j, form, "strftime_now");
    for (i = 0; i < form.n && !j->fail; i++) {
        const char *p = j->text + form.u.at + i;
        if (*p != '%') { gpti_j_put_string(j, gpti_j_part(form, i, 1)); continue; }
        switch (++i < form.n ? p[1] : 0) {
        case 'Y': gpti_j_put(j, d, 4, 1); break;
        case 'y': gpti_j_put(j, d + 2, 2, 1); break;
        case 'm': gpti_j_put(j, d + 5, 2, 1); break;
        case 'd': gpti_j_put(j, d + 8, 2, 1); break;
        case 'B': gpti_j_put(j, name, strlen(name), 1); break;
        case 'b': gpti_j_put(j, name, 3, 1); break;
        default: gpti_j_fail(j, GPT_E_UNSUPPORTED, "strftime_now: the format %%%c", i < form.n ? p[1] : ' ');
        }
    }
    return gpti_j_printed(j, from);
}

/* ---- Parts of values: attributes, items, slices ---- */

static gpti_jval gpti_j_loop_attr(gpti_jinja *j, gpti_jval loop, gpti_str name) {
    static const char names[] = "index index0 revindex revindex0 length first last previtem nextitem";
    const gpti_jframe *f = &j->frame[loop.u.at];
    const int64_t i = (int64_t)f->index - 1, n = f->list.n;
    const int which = gpti_j_which(names, name);
    const int64_t count[5] = { i + 1, i, n - i, n - i - 1, n };
    char shown[GPTI_SHOWN];
    if (which < 0) gpti_j_fail(j, GPT_E_UNSUPPORTED, "loop.%s", gpti_show(shown, name));
    else if (which < 5) return gpti_j_int(count[which]);
    else if (which < 7) return gpti_j_bool(which == 5 ? i == 0 : i == n - 1);
    else if (which == 7 ? i > 0 : i + 1 < n) return j->val[f->list.u.at + (size_t)(which == 7 ? i - 1 : i + 1)];
    return gpti_j_undefined();
}

/* obj.name */
static gpti_jval gpti_j_attr(gpti_jinja *j, gpti_jval v, gpti_str name) {
    size_t at = 0;
    if (v.kind == GPTI_J_UNDEFINED || v.kind == GPTI_J_MACRO) return gpti_j_bad(j, v, "an attribute");
    if (v.kind == GPTI_J_LOOP) return gpti_j_loop_attr(j, v, name);
    if (v.kind == GPTI_J_SPACE) v = j->val[v.u.at];
    else if (gpti_j_find_word(gpti_j_methods(v), name) >= 0) return gpti_j_val(GPTI_J_METHOD, 0, 0);
    if (v.kind == GPTI_J_DICT)
        at = gpti_j_find_key(j, v, gpti_j_val(GPTI_J_STR, (size_t)(name.p - j->text), name.n));
    return at ? j->val[at] : gpti_j_undefined();
}

static size_t gpti_j_offset(gpti_jinja *j, gpti_jval s, size_t characters) {    /* of that character in bytes */
    size_t i = 0;
    uint32_t u;
    while (characters-- && i < s.n) i += gpti_utf8(j->text + s.u.at + i, s.n - i, &u);
    return i;
}

/* obj[key] */
static gpti_jval gpti_j_item(gpti_jinja *j, gpti_jval v, gpti_jval key) {
    const int64_t n = (int64_t)gpti_j_length(j, v);
    int64_t i = key.u.i;
    size_t at = v.kind == GPTI_J_DICT ? gpti_j_find_key(j, v, key) : 0;
    uint32_t u;
    if (v.kind == GPTI_J_UNDEFINED) return gpti_j_bad(j, v, "an item");
    if (at) return j->val[at];
    if (key.kind == GPTI_J_STR) return gpti_j_attr(j, v, gpti_j_str(j, key));
    if (!gpti_j_is_int(key) || (v.kind != GPTI_J_STR && !gpti_j_is_list(v))) return gpti_j_undefined();
    if (i < 0) i += n;
    if (i < 0 || i >= n) return gpti_j_undefined();
    if (v.kind != GPTI_J_STR) return j->val[v.u.at + (size_t)i];
    at = gpti_j_offset(j, v, (size_t)i);
    return gpti_j_part(v, at, gpti_utf8(j->text + v.u.at + at, v.n - at, &u));
}

/* An attribute as filters name it: a path with points, or an index. */
static gpti_jval gpti_j_path(gpti_jinja *j, gpti_jval v, gpti_jval path) {
    size_t i, n;
    if (path.kind == GPTI_J_UNDEFINED) return v;
    if (path.kind != GPTI_J_STR) return gpti_j_item(j, v, path);
    for (i = 0; i <= path.n && !j->fail; i += n + 1) {
        gpti_jval key;
        gpti_str s;
        for (n = 0; i + n < path.n && j->text[path.u.at + i + n] != '.'; n++) {}
        key = gpti_j_part(path, i, n);
        s = gpti_j_str(j, key);
        gpti_j_spend(j, n / 16);
        if (n && gpti_json_digits(s.p, s.p + n) == s.p + n) key = gpti_j_read_number(s);
        v = gpti_j_item(j, v, key);
    }
    return v;
}

/* v[bound[0]:bound[1]:bound[2]] */
static gpti_jval gpti_j_slice(gpti_jinja *j, gpti_jval v, const gpti_jval bound[3]) {
    const int64_t n = (int64_t)gpti_j_length(j, v), given = bound[2].kind == GPTI_J_NONE ? 1 : bound[2].u.i;
    const int64_t step = given > n + 1 ? n + 1 : given < -n - 1 ? -n - 1 : given;       /* all beyond the end alike */
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    const int text = v.kind == GPTI_J_STR;
    const size_t base = j->n_stack;
    int64_t i[2], k;
    size_t at;
    int b;
    if ((!text && !gpti_j_is_list(v)) || (v.kind == GPTI_J_LIST && (v.mark == 1 || v.mark == 2)))
        return gpti_j_bad(j, v, "a slice");
    for (b = 0; b < 3; b++)
        if (!gpti_j_is_int(bound[b]) && bound[b].kind != GPTI_J_NONE) return gpti_j_bad(j, bound[b], "a slice");
    if (!step) gpti_j_fail(j, GPT_E_FORMAT, "a slice's step is 0");
    if (j->fail) return v;
    for (b = 0; b < 2; b++) {
        i[b] = bound[b].u.i + (bound[b].u.i < 0 ? n : 0);
        if (bound[b].kind == GPTI_J_NONE) i[b] = (step < 0) == (b == 0) ? high : low;
        if (i[b] < low) i[b] = low;
        if (i[b] > high) i[b] = high;
    }
    if (step == 1) {
        if (i[1] < i[0]) i[1] = i[0];
        if (!text) return gpti_j_val(v.kind, v.u.at + (size_t)i[0], (size_t)(i[1] - i[0]));
        at = gpti_j_offset(j, v, (size_t)i[0]);
        return gpti_j_part(v, at, gpti_j_offset(j, v, (size_t)i[1]) - at);
    }
    if (text) v = gpti_j_elements(j, v);
    for (k = i[0]; (step > 0 ? k < i[1] : k > i[1]) && !j->fail; k += step)
        gpti_j_push(j, j->val[v.u.at + (size_t)k]);
    v = gpti_j_make(j, v.kind, j->n_stack - base);
    return text ? gpti_j_join(j, v, gpti_j_undefined(), gpti_j_undefined()) : v;
}

/* ---- What filters, methods, functions and tests do ---- */

/* kinds: bit k stands for kind k; else an instruction that compares, or GPTI_J_ITEM: it has items, GPTI_J_NOT: false,
 * GPTI_J_AND: true. */
#define GPTI_JK(kind) 1 << GPTI_J_##kind
enum { GPTI_JK_LISTS = GPTI_JK(STR) | GPTI_JK(LIST) | GPTI_JK(TUPLE) | GPTI_JK(DICT) | GPTI_JK(UNDEFINED),
       GPTI_JK_ALL = (1 << (GPTI_J_METHOD + 1)) - 1 };
static const struct { char name[12]; uint8_t op; uint16_t kinds; } gpti_j_tests[] = {
    { "boolean", 0, GPTI_JK(BOOL) }, { "defined", 0, GPTI_JK_ALL ^ GPTI_JK(UNDEFINED) },
    { "false", GPTI_J_NOT, GPTI_JK(BOOL) }, { "float", 0, GPTI_JK(FLOAT) }, { "integer", 0, GPTI_JK(INT) },
    { "iterable", 0, GPTI_JK_LISTS | GPTI_JK(LOOP) }, { "mapping", 0, GPTI_JK(DICT) }, { "none", 0, GPTI_JK(NONE) },
    { "number", 0, GPTI_JK(BOOL) | GPTI_JK(INT) | GPTI_JK(FLOAT) }, { "sequence", GPTI_J_ITEM, GPTI_JK_LISTS },
    { "string", 0, GPTI_JK(STR) }, { "true", GPTI_J_AND, GPTI_JK(BOOL) }, { "undefined", 0, GPTI_JK(UNDEFINED) },
    { "==", GPTI_J_EQ, 0 }, { "eq", GPTI_J_EQ, 0 }, { "equalto", GPTI_J_EQ, 0 }, { "!=", GPTI_J_NE, 0 },
    { "ne", GPTI_J_NE, 0 }, { "<", GPTI_J_LT, 0 }, { "lt", GPTI_J_LT, 0 }, { "lessthan", GPTI_J_LT, 0 },
    { "<=", GPTI_J_LE, 0 }, { "le", GPTI_J_LE, 0 }, { ">", GPTI_J_GT, 0 }, { "gt", GPTI_J_GT, 0 },
    { "greaterthan", GPTI_J_GT, 0 }, { ">=", GPTI_J_GE, 0 }, { "ge", GPTI_J_GE, 0 }, { "in", GPTI_J_IN, 0 }
};
#undef GPTI_JK

static int gpti_j_compare(gpti_jinja *j, int op, gpti_jval a, gpti_jval b) {
    int c;
    if (op == GPTI_J_EQ || op == GPTI_J_NE) return gpti_j_equal(j, a, b) == (op == GPTI_J_EQ);
    if (op == GPTI_J_IN || op == GPTI_J_NOT_IN) return gpti_j_in(j, a, b) == (op == GPTI_J_IN);
    c = gpti_j_order(j, a, b);
    return op == GPTI_J_LT ? c < 0 : op == GPTI_J_LE ? c <= 0 : op == GPTI_J_GT ? c > 0 : c >= 0;
}

static int gpti_j_test(gpti_jinja *j, gpti_jval v, gpti_str name, const gpti_jargs *a) {
    char shown[GPTI_SHOWN];
    gpti_jval x;
    int i = sizeof gpti_j_tests / sizeof *gpti_j_tests, op;
    while (i-- > 0 && !gpti_str_is(name, gpti_j_tests[i].name)) {}
    if (i < 0) { gpti_j_fail(j, GPT_E_UNSUPPORTED, "the test '%s'", gpti_show(shown, name)); return 0; }
    op = gpti_j_tests[i].op;
    gpti_j_arg(j, a, 0, &x);
    if (!gpti_j_tests[i].kinds) return gpti_j_compare(j, op, v, x);
    if (op == GPTI_J_ITEM && v.kind == GPTI_J_LIST && (v.mark == 1 || v.mark == 2)) return 0;
    if ((op == GPTI_J_NOT || op == GPTI_J_AND) && gpti_j_truth(v) != (op == GPTI_J_AND)) return 0;
    return gpti_j_tests[i].kinds >> v.kind & 1;
}

/* What an element is ordered and told apart by. */
static gpti_jval gpti_j_key(gpti_jinja *j, gpti_jval v, gpti_jval attribute, int any_case) {
    v = gpti_j_path(j, v, attribute);
    return any_case && v.kind == GPTI_J_STR ? gpti_j_case(j, v, GPTI_JF_LOWER) : v;
}

typedef struct gpti_jsort { gpti_jinja *j; int reverse; } gpti_jsort;

static int gpti_j_sort_cmp(const void *a, const void *b, const void *ctx) {    /* records: key, place */
    const gpti_jsort *s = (const gpti_jsort *)ctx;
    const gpti_jval *x = (const gpti_jval *)a, *y = (const gpti_jval *)b;
    const int c = gpti_j_spend(s->j, 1) ? gpti_j_order(s->j, x[0], y[0]) : 0;
    if (c) return s->reverse ? -c : c;
    return x[1].u.i < y[1].u.i ? -1 : x[1].u.i > y[1].u.i;
}

/* A list in order; equal ones stay as they are. */
static gpti_jval gpti_j_sorted(gpti_jinja *j, gpti_jval list, gpti_jval attribute, int reverse, int any_case) {
    const size_t base = j->n_stack;
    gpti_jsort ctx;
    size_t i;
    ctx.j = j; ctx.reverse = reverse;
    for (i = 0; i < list.n && !j->fail; i++) {
        gpti_j_push(j, gpti_j_key(j, j->val[list.u.at + i], attribute, any_case));
        gpti_j_push(j, gpti_j_int((int64_t)i));
    }
    if (j->fail) return list;
    gpti_sort(j->stack + base, list.n, 2 * sizeof *j->stack, gpti_j_sort_cmp, &ctx);
    for (i = 0; i < list.n; i++) j->stack[base + i] = j->val[list.u.at + (size_t)j->stack[base + 2 * i + 1].u.i];
    j->n_stack = base + list.n;
    return gpti_j_make(j, GPTI_J_LIST, list.n);
}

static gpti_jval gpti_j_tojson(gpti_jinja *j, gpti_jval v, const gpti_jargs *a) {
    const size_t from = j->n_out;
    gpti_jform f;
    gpti_jval x;
    memset(&f, 0, sizeof f);
    f.json = 1;
    f.ascii = gpti_j_arg_truth(j, a, 0);
    if (gpti_j_arg(j, a, 1, &x) && x.kind == GPTI_J_STR)
        gpti_j_fail(j, GPT_E_UNSUPPORTED, "tojson with an indent that is a string");
    f.indent = gpti_j_arg_int(j, a, 1, INT64_MIN);
    f.indent = f.indent == INT64_MIN ? -1 : f.indent < 0 ? 0 : f.indent;        /* less than 0: lines without blanks */
    if (f.indent > 64) gpti_j_fail(j, GPT_E_FORMAT, "tojson: an indent of more than 64");
    if (gpti_j_arg(j, a, 2, &x) && gpti_j_is_list(x) && x.n == 2) {
        f.item = j->val[x.u.at]; f.key = j->val[x.u.at + 1];
    }
    gpti_j_write(j, v, &f);
    return gpti_j_printed(j, from);
}

static gpti_jval gpti_j_apply(gpti_jinja *j, gpti_jval v, int which, gpti_jargs *a);

/* select, reject, selectattr, rejectattr: the elements that pass a test or do not; map, unique. */
static gpti_jval gpti_j_list_filter(gpti_jinja *j, gpti_jval v, int code, const gpti_jargs *a) {
    const uint32_t attr = code == GPTI_JF_SELECTATTR || code == GPTI_JF_REJECTATTR, more = attr + 1;
    const int reject = code == GPTI_JF_REJECT || code == GPTI_JF_REJECTATTR, any_case = !gpti_j_arg_truth(j, a, 0);
    const size_t base = j->n_stack;
    gpti_jval path = gpti_j_undefined(), name = path, otherwise = path;
    gpti_jargs rest = *a;
    int filter = -1, has_test = 0, keep;
    char shown[GPTI_SHOWN];
    size_t i, k;
    if (code == GPTI_JF_UNIQUE || (code == GPTI_JF_MAP && !a->n)) {
        if (!gpti_j_arg(j, a, 1, &path) && code == GPTI_JF_MAP)
            gpti_j_fail(j, GPT_E_FORMAT, "map needs a filter or an attribute");
        if (code == GPTI_JF_MAP) gpti_j_arg(j, a, 2, &otherwise);
    } else {
        if (attr && !gpti_j_arg(j, a, 0, &path)) gpti_j_fail(j, GPT_E_FORMAT, "selectattr needs an attribute");
        has_test = gpti_j_arg(j, a, attr, &name);
        rest.at += more; rest.n = a->n > more ? a->n - more : 0;
    }
    if (code == GPTI_JF_MAP && has_test) {
        filter = gpti_j_find_word('f', gpti_j_str(j, name));
        if (filter < 0) gpti_j_fail(j, GPT_E_UNSUPPORTED, "the filter '%s'", gpti_show(shown, gpti_j_str(j, name)));
        else if (gpti_j_words[filter].code >= GPTI_JF_SELECT && gpti_j_words[filter].code <= GPTI_JF_UNIQUE)
            gpti_j_fail(j, GPT_E_UNSUPPORTED, "a filter of lists within map");
    }
    v = gpti_j_elements(j, gpti_j_truth(v) || code == GPTI_JF_UNIQUE ? v : gpti_j_undefined());
    for (i = 0; i < v.n && gpti_j_spend(j, 1); i++) {
        gpti_jval item = j->val[v.u.at + i], x = code == GPTI_JF_UNIQUE ? item : gpti_j_path(j, item, path);
        if (code == GPTI_JF_MAP) {
            gpti_jargs these = rest;
            keep = 1;
            item = filter >= 0 ? gpti_j_apply(j, x, filter, &these) : x.kind == GPTI_J_UNDEFINED ? otherwise : x;
        } else if (code == GPTI_JF_UNIQUE) {
            x = gpti_j_key(j, item, path, any_case);
            for (k = base, keep = 1; k < j->n_stack && keep; k++)
                keep = !gpti_j_equal(j, gpti_j_key(j, j->stack[k], path, any_case), x);
        } else keep = (has_test ? gpti_j_test(j, x, gpti_j_str(j, name), &rest) : gpti_j_truth(x)) != reject;
        if (keep) gpti_j_push(j, item);
    }
    v = gpti_j_make(j, GPTI_J_LIST, j->n_stack - base);
    v.mark = 1;
    return v;
}

static gpti_jval gpti_j_range(gpti_jinja *j, const gpti_jargs *a) {
    const size_t base = j->n_stack;
    int64_t from = gpti_j_arg_int(j, a, 0, 0), to = gpti_j_arg_int(j, a, 1, 0), by = gpti_j_arg_int(j, a, 2, 1);
    gpti_jval v;
    if (a->n == 1) { to = from; from = 0; }
    if (!a->n || !by) gpti_j_fail(j, GPT_E_FORMAT, "range needs a number, and a step that is not 0");
    for (; !j->fail && (by > 0 ? from < to : from > to); from += by) {
        if (j->n_stack - base == 100000) gpti_j_fail(j, GPT_E_FORMAT, "range: more than 100,000 numbers");
        gpti_j_push(j, gpti_j_int(from));
        if (by > 0 ? from > INT64_MAX - by : from < INT64_MIN - by) break;
    }
    v = gpti_j_make(j, GPTI_J_LIST, j->n_stack - base);
    v.mark = 3;
    return v;
}

/* dict(...) and namespace(...): of a dict and of arguments with names. */
static gpti_jval gpti_j_dict_of(gpti_jinja *j, int space, const gpti_jargs *a) {
    const size_t base = j->n_stack;
    gpti_jval v;
    size_t i;
    if (a->n) {
        v = j->stack[a->at];
        if (v.kind != GPTI_J_DICT) gpti_j_fail(j, GPT_E_UNSUPPORTED, "dict or namespace of %s", gpti_j_kind(v));
        else gpti_j_push_from(j, v.u.at, 2 * (size_t)v.n);
    }
    for (i = 0; i < 2 * (size_t)a->names && !j->fail; i++) gpti_j_push(j, j->stack[a->at + a->n + i]);
    v = gpti_j_make(j, GPTI_J_DICT, j->n_stack - base);
    if (!space || !GPTI_J_ROOM_FOR(j, val, 1)) return v;
    j->val[j->n_val] = v;
    return gpti_j_val(GPTI_J_SPACE, j->n_val++, 0);
}

static void gpti_j_set_member(gpti_jinja *j, gpti_jval space, gpti_str name, gpti_jval v) {
    const gpti_jval key = gpti_j_val(GPTI_J_STR, (size_t)(name.p - j->text), name.n), dict = j->val[space.u.at];
    const size_t at = gpti_j_find_key(j, dict, key), base = j->n_stack;
    if (at) { j->val[at] = v; return; }
    gpti_j_push_from(j, dict.u.at, 2 * (size_t)dict.n);
    gpti_j_push(j, key); gpti_j_push(j, v);
    v = gpti_j_make(j, GPTI_J_DICT, j->n_stack - base);
    if (!j->fail) j->val[space.u.at] = v;
}

/* The filter, method or function of a row of gpti_j_words, of v. */
static gpti_jval gpti_j_apply(gpti_jinja *j, gpti_jval v, int which, gpti_jargs *a) {
    const int code = gpti_j_words[which].code;
    const char *keys = gpti_j_words[which].keys, *p;
    const gpti_jval nothing = gpti_j_undefined();
    const uint8_t mark = v.mark;
    gpti_jval x, y, bound[3];
    uint32_t most = *keys != 0, k;
    for (p = keys; *p; p++) most += *p == ' ';
    a->keys = keys;
    for (k = 0; k < a->names && keys[0] && keys[1] != '*'; k++)
        if (gpti_j_which(keys, gpti_j_str(j, j->stack[a->at + a->n + 2 * k])) < 0) most = 0;
    if ((*keys != '*' && a->n + a->names > most) || (a->names && !most))
        gpti_j_fail(j, GPT_E_UNSUPPORTED, "%s with these arguments: it takes (%s)", gpti_j_words[which].name, keys);
    gpti_j_arg(j, a, 0, &x); gpti_j_arg(j, a, 1, &y);
    if (((code >= GPTI_JF_LSTRIP && code <= GPTI_JF_STRIP) || code == GPTI_JF_SPLIT) && x.kind > GPTI_J_NONE &&
        x.kind != GPTI_J_STR) gpti_j_bad(j, x, gpti_j_words[which].name);
    if (j->fail) return nothing;
    switch (code) {
    case GPTI_JF_LOWER: case GPTI_JF_UPPER: case GPTI_JF_CAPITAL: case GPTI_JF_TITLE: case GPTI_JF_TITLE_WORDS:
        return gpti_j_case(j, gpti_j_to_string(j, v), code);
    case GPTI_JF_LSTRIP: case GPTI_JF_RSTRIP: case GPTI_JF_STRIP:
        return gpti_j_strip(j, gpti_j_to_string(j, v), x, code & 3);
    case GPTI_JF_SELECT: case GPTI_JF_SELECTATTR: case GPTI_JF_REJECT: case GPTI_JF_REJECTATTR: case GPTI_JF_MAP:
    case GPTI_JF_UNIQUE: return gpti_j_list_filter(j, v, code, a);
    case GPTI_JF_DEFAULT:
        if (!a->n && !a->names) x = gpti_j_cstring(j, "", 1);
        return v.kind == GPTI_J_UNDEFINED || (gpti_j_truth(y) && !gpti_j_truth(v)) ? x : v;
    case GPTI_JF_STRING: return gpti_j_to_string(j, v);
    case GPTI_JF_SAFE: v = gpti_j_to_string(j, v); v.mark = 1; return v;
    case GPTI_JF_TOJSON: return gpti_j_tojson(j, v, a);
    case GPTI_JF_INDENT: return gpti_j_indent(j, gpti_j_to_string(j, v), a);
    case GPTI_JF_REPLACE: return gpti_j_replace(j, gpti_j_to_string(j, v), x, y, gpti_j_arg_int(j, a, 2, -1));
    case GPTI_JF_SPLIT: return gpti_j_split(j, v, x, gpti_j_arg_int(j, a, 1, -1));
    case GPTI_JF_STARTSWITH: case GPTI_JF_ENDSWITH:
        return gpti_j_bool(gpti_j_has_end(j, v, x, code == GPTI_JF_STARTSWITH));
    case GPTI_JF_FORMAT: return gpti_j_format(j, v, a);
    case GPTI_JF_JOIN: return gpti_j_join(j, v, x, y);
    case GPTI_JF_JOIN_THESE:
        x = gpti_j_elements(j, x);
        for (k = 0; k < x.n; k++)
            if (j->val[x.u.at + k].kind != GPTI_J_STR) return gpti_j_bad(j, j->val[x.u.at + k], "join");
        return gpti_j_join(j, x, v, nothing);
    case GPTI_JF_INT: return gpti_j_to_int(j, v, a->n + a->names ? x : gpti_j_int(0));
    case GPTI_JF_LENGTH:
        if (v.kind != GPTI_J_UNDEFINED && (v.kind < GPTI_J_STR || v.kind > GPTI_J_DICT || (v.kind == GPTI_J_LIST &&
            mark == 1))) return gpti_j_bad(j, v, "length");
        return gpti_j_int((int64_t)gpti_j_length(j, v));
    case GPTI_JF_GET:
        which = (int)gpti_j_find_key(j, v, x);
        return which ? j->val[which] : a->n + a->names > 1 ? y : gpti_j_none();
    case GPTI_JF_ITEMS: case GPTI_JF_KEYS: case GPTI_JF_VALUES:
        v = gpti_j_pairs(j, v, code - GPTI_JF_ITEMS);
        v.mark = 2;
        return v;
    case GPTI_JF_DICTSORT:
        if (v.kind != GPTI_J_DICT) return gpti_j_bad(j, v, "dictsort");
        return gpti_j_sorted(j, gpti_j_pairs(j, v, 0), gpti_j_int(gpti_j_is(j, y, "value")), gpti_j_arg_truth(j, a, 2),
                             !gpti_j_truth(x));
    case GPTI_JF_SORT: case GPTI_JF_MIN: case GPTI_JF_MAX: case GPTI_JF_FIRST: case GPTI_JF_LAST: case GPTI_JF_LIST:
        v = gpti_j_elements(j, v);
        if (code == GPTI_JF_MIN || code == GPTI_JF_MAX)
            v = gpti_j_sorted(j, v, y, code == GPTI_JF_MAX, !gpti_j_truth(x));
        if (code == GPTI_JF_SORT) {
            gpti_jval attribute;
            gpti_j_arg(j, a, 2, &attribute);
            return gpti_j_sorted(j, v, attribute, gpti_j_truth(x), !gpti_j_truth(y));
        }
        v.kind = GPTI_J_LIST;
        if (code == GPTI_JF_LIST) return v;
        return v.n ? j->val[v.u.at + (code == GPTI_JF_LAST ? v.n - 1 : 0)] : nothing;
    case GPTI_JF_REVERSE:                               /* of an iterator a list, of a list an iterator */
        bound[0] = bound[1] = gpti_j_none(); bound[2] = gpti_j_int(-1);
        if (gpti_j_is_list(v) && mark == 1) v.mark = 0;
        v = gpti_j_slice(j, v, bound);
        if (gpti_j_is_list(v)) v.mark = mark != 1;
        return v;
    case GPTI_JF_RAISE: {
        const gpti_str s = gpti_j_str(j, x = a->n ? gpti_j_to_string(j, x) : gpti_j_bad(j, x, "raise_exception"));
        if (!j->fail) j->fail = gpti_fail(j->err, GPT_E_REFUSED, "%.*s", (int)gpti_min(s.n, 0x7FFFFFFF), s.p);
        return x;
    }
    case GPTI_JF_STRFTIME: return gpti_j_strftime(j, x);
    case GPTI_JF_RANGE: return gpti_j_range(j, a);
    default: return gpti_j_dict_of(j, code == GPTI_JF_NAMESPACE, a);
    }
}

/* ---- The machine ---- */

/* A macro begins: its scope lies in the one that it was written in. */
static void gpti_j_call_macro(gpti_jinja *j, gpti_jval m, const gpti_jargs *a) {
    const gpti_jmacro macro = j->macro[m.u.at];
    gpti_jframe *f = gpti_j_enter(j, gpti_min(m.n, j->n_frame - 1));
    uint32_t i, k;
    if (!f) return;
    f->back = j->pc; f->stack = a->at - 1;
    if (a->n > macro.n_param) gpti_j_fail(j, GPT_E_FORMAT, "a macro takes at most %u values", macro.n_param);
    for (i = 0; i < a->n && !j->fail; i++) gpti_j_bind(j, (uint32_t)j->val[macro.param + i].u.i, j->stack[a->at + i]);
    for (i = 0; i < a->names && !j->fail; i++) {
        const gpti_jval *named = &j->stack[a->at + a->n + 2 * i];
        const uint32_t name = gpti_j_name(j, gpti_j_str(j, named[0]));
        for (k = 0; k < macro.n_param && j->val[macro.param + k].u.i != (int64_t)name; k++) {}
        if (k < a->n || (k == macro.n_param && !gpti_j_is(j, named[0], "caller")))
            gpti_j_fail(j, GPT_E_FORMAT, "a macro has no parameter of the name given, or has it already");
        else gpti_j_bind(j, name, named[1]);
    }
    j->n_stack = a->at - 1;                             /* its arguments and itself */
    j->pc = macro.entry;
}

/* The stack holds what is called, or the object of a filter, test or method, then the arguments. */
static void gpti_j_call(gpti_jinja *j, const gpti_jop *op) {
    gpti_jargs a;
    gpti_jval self, called, v = gpti_j_undefined();
    gpti_str name = { "", 0 };
    char shown[GPTI_SHOWN];
    int which = -1;
    a.n = op->a & 0xFFFF; a.names = op->a >> 16; a.keys = "";
    a.at = j->n_stack - a.n - 2 * a.names;
    called = self = j->stack[a.at - 1];
    if (op->code != GPTI_J_CALL) name = gpti_j_name_text(j, op->b);
    if (op->code == GPTI_J_FILTER) which = gpti_j_find_word('f', name);
    if (op->code == GPTI_J_CALL_METHOD) {
        which = gpti_j_find_word(gpti_j_methods(self), name);
        if (which < 0) called = gpti_j_attr(j, self, name);
    }
    if (which < 0 && called.kind == GPTI_J_FUNC && op->code <= GPTI_J_CALL_METHOD) which = (int)called.u.at;
    if (which >= 0) v = gpti_j_apply(j, self, which, &a);
    else if (op->code >= GPTI_J_TEST) v = gpti_j_bool(gpti_j_test(j, self, name, &a) == (op->code == GPTI_J_TEST));
    else if (op->code == GPTI_J_FILTER) gpti_j_fail(j, GPT_E_UNSUPPORTED, "the filter '%s'", gpti_show(shown, name));
    else if (called.kind == GPTI_J_MACRO) { gpti_j_call_macro(j, called, &a); return; }
    else if (called.kind == GPTI_J_UNDEFINED && op->code == GPTI_J_CALL_METHOD)
        gpti_j_fail(j, GPT_E_UNSUPPORTED, "the method '%s' of %s", gpti_show(shown, name), gpti_j_kind(self));
    else gpti_j_bad(j, called, "a call");
    j->n_stack = a.at - 1;
    gpti_j_push(j, v);
}

static gpti_jval gpti_j_escape(gpti_jinja *j, gpti_jval s) {
    static const char as[][6] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    const size_t from = j->n_out;
    size_t i;
    for (i = 0; i < s.n && !s.mark && !j->fail; i++) {
        const char *p = j->text[s.u.at + i] ? strchr("&<>'\"", j->text[s.u.at + i]) : NULL;
        if (!p) gpti_j_put_string(j, gpti_j_part(s, i, 1));
        else { p = as[strlen("&<>'\"") - strlen(p)]; gpti_j_put(j, p, strlen(p), j->own[s.u.at + i]); }
    }
    return s.mark ? s : gpti_j_printed(j, from);
}

static int64_t gpti_j_whole(int code, int64_t x, int64_t y) {
    int64_t rest = 0;
    if (code == GPTI_J_IDIV || code == GPTI_J_MOD) {    /* the rest has the divisor's sign */
        rest = x % y;
        if (rest && (rest < 0) != (y < 0)) rest += y;
    }
    return code == GPTI_J_ADD ? x + y : code == GPTI_J_SUB ? x - y : code == GPTI_J_MUL ? x * y :
        code == GPTI_J_MOD ? rest : (x - rest) / y;
}

static gpti_jval gpti_j_arithmetic(gpti_jinja *j, int code, gpti_jval a, gpti_jval b) {
    const int whole = gpti_j_is_int(a) && gpti_j_is_int(b) && code != GPTI_J_DIV;
    const int64_t most = (int64_t)1 << (code == GPTI_J_MUL ? 30 : 62);
    const uint8_t safe = a.mark | b.mark;
    double x, y;
    gpti_jval v = gpti_j_undefined();
    if (code == GPTI_J_ADD && a.kind == GPTI_J_STR && b.kind == GPTI_J_STR) {
        v = safe ? gpti_j_join2(j, gpti_j_escape(j, a), gpti_j_escape(j, b)) : gpti_j_join2(j, a, b);
        v.mark = safe;
        return v;
    }
    if (code == GPTI_J_ADD && gpti_j_is_list(a) && a.kind == b.kind) {
        gpti_j_push_from(j, a.u.at, a.n);
        gpti_j_push_from(j, b.u.at, b.n);
        return gpti_j_make(j, a.kind, (size_t)a.n + b.n);
    }
    if (code == GPTI_J_MOD && a.kind == GPTI_J_STR) gpti_j_fail(j, GPT_E_UNSUPPORTED, "a string %% values");
    if (code == GPTI_J_MUL && gpti_j_is_int(b) && (a.kind == GPTI_J_STR || gpti_j_is_list(a)))
        return gpti_j_repeat(j, a, b.u.i);
    if (code == GPTI_J_MUL && gpti_j_is_int(a) && (b.kind == GPTI_J_STR || gpti_j_is_list(b)))
        return gpti_j_repeat(j, b, a.u.i);
    if (!gpti_j_is_number(a) || !gpti_j_is_number(b)) return gpti_j_bad_pair(j, a, b, "a calculation");
    x = gpti_j_number(a); y = gpti_j_number(b);
    if (code >= GPTI_J_DIV && y == 0.0) gpti_j_fail(j, GPT_E_FORMAT, "a division by zero");
    else if (whole && (a.u.i <= -most || a.u.i >= most || b.u.i <= -most || b.u.i >= most))
        gpti_j_fail(j, GPT_E_FORMAT, "a number beyond 2^62, or a product of such beyond 2^30");
    if (j->fail) return v;
    if (whole) return gpti_j_int(gpti_j_whole(code, a.u.i, b.u.i));
    v.kind = GPTI_J_FLOAT;
    v.u.f = code == GPTI_J_ADD ? x + y : code == GPTI_J_SUB ? x - y : code == GPTI_J_MUL ? x * y :
        code == GPTI_J_DIV ? x / y : code == GPTI_J_IDIV ? floor(x / y) : x - y * floor(x / y);
    return v;
}

static void gpti_j_run(gpti_jinja *j) {
    gpti_jval a, b, bound[3];
    gpti_jframe *f;
    size_t i;
    for (j->pc = 0; j->pc < j->n_op && !j->fail && gpti_j_spend(j, 1);) {
        const gpti_jop op = j->op[j->pc++];
        const int two = op.code >= GPTI_J_EQ && op.code <= GPTI_J_MOD;
        j->line = op.line;
        a = b = gpti_j_undefined();
        f = &j->frame[j->n_frame - 1];
        if (two || op.code == GPTI_J_ITEM) b = gpti_j_pop(j);
        if (two || (op.code >= GPTI_J_ITEM && op.code <= GPTI_J_POPS)) a = gpti_j_pop(j);
        switch (op.code) {
        case GPTI_J_NOP: break;
        case GPTI_J_CONST: gpti_j_push(j, j->val[op.a]); break;
        case GPTI_J_LOAD: gpti_j_push(j, gpti_j_load(j, op.a)); break;
        case GPTI_J_STORE: gpti_j_bind(j, op.a, a); break;
        case GPTI_J_STORE_ATTR:
            b = gpti_j_load(j, op.a);
            if (b.kind != GPTI_J_SPACE) gpti_j_bad(j, b, "a namespace's attribute");
            else gpti_j_set_member(j, b, gpti_j_name_text(j, op.b), a);
            break;
        case GPTI_J_UNPACK:
            if (a.kind == GPTI_J_UNDEFINED) { gpti_j_bad(j, a, "unpacking"); break; }
            a = gpti_j_elements(j, a);
            if (!j->fail && a.n != op.a) gpti_j_fail(j, GPT_E_FORMAT, "%u names for %u values", op.a, a.n);
            for (i = op.a; i-- > 0 && !j->fail;) gpti_j_push(j, j->val[a.u.at + i]);
            break;
        case GPTI_J_ATTR: gpti_j_push(j, gpti_j_attr(j, a, gpti_j_name_text(j, op.a))); break;
        case GPTI_J_ITEM: gpti_j_push(j, gpti_j_item(j, a, b)); break;
        case GPTI_J_SLICE:
            for (i = 3; i-- > 0;) bound[i] = gpti_j_pop(j);
            gpti_j_push(j, gpti_j_slice(j, gpti_j_pop(j), bound));
            break;
        case GPTI_J_MAKE: gpti_j_push(j, gpti_j_make(j, (int)op.b, op.a)); break;
        case GPTI_J_OUT: gpti_j_print(j, a); break;
        case GPTI_J_CALL: case GPTI_J_CALL_METHOD: case GPTI_J_FILTER: case GPTI_J_TEST:
        case GPTI_J_TEST_NOT: gpti_j_call(j, &op); break;
        case GPTI_J_AND: case GPTI_J_OR:
            if (gpti_j_truth(j->stack[j->n_stack - 1]) == (op.code == GPTI_J_OR)) j->pc = op.a;
            else j->n_stack--;
            break;
        case GPTI_J_JUMP: j->pc = op.a; break;
        case GPTI_J_UNLESS: if (!gpti_j_truth(a)) j->pc = op.a; break;
        case GPTI_J_NOT: gpti_j_push(j, gpti_j_bool(!gpti_j_truth(a))); break;
        case GPTI_J_NEG: case GPTI_J_POS:
            if (!gpti_j_is_number(a)) gpti_j_bad(j, a, "a sign");
            if (op.code == GPTI_J_NEG && a.kind == GPTI_J_FLOAT) a.u.f = -a.u.f;
            else if (op.code == GPTI_J_NEG && a.u.i != INT64_MIN) a.u.i = -a.u.i;
            if (a.kind == GPTI_J_BOOL) a.kind = GPTI_J_INT;
            gpti_j_push(j, a);
            break;
        case GPTI_J_FOR:
            a = gpti_j_elements(j, a);
            f = gpti_j_enter(j, j->n_frame - 1);
            if (f) f->list = a;
            break;
        case GPTI_J_NEXT:
            gpti_j_unbind(j, f->bind);
            if (f->index == f->list.n) { j->pc = op.a; break; }
            gpti_j_push(j, j->val[f->list.u.at + f->index++]);
            if (op.b) gpti_j_bind(j, op.b, gpti_j_val(GPTI_J_LOOP, j->n_frame - 1, 0));
            break;
        case GPTI_J_KEEP:
            if (gpti_j_truth(a)) { f->kept++; gpti_j_push(j, j->val[f->list.u.at + f->index - 1]); }
            break;
        case GPTI_J_KEPT:
            i = f->kept;
            gpti_j_leave(j);
            gpti_j_push(j, gpti_j_make(j, GPTI_J_LIST, i));
            break;
        case GPTI_J_WHOLE: f->kept = 1; break;
        case GPTI_J_END_FOR: if (f->kept) j->pc = op.a; gpti_j_leave(j); break;
        case GPTI_J_SCOPE: f = gpti_j_enter(j, j->n_frame - 1); if (f) f->capture = (int)op.b; break;
        case GPTI_J_END_SCOPE:
            if (f->capture) { a = gpti_j_printed(j, f->out); if (!op.b) gpti_j_push(j, a); }
            gpti_j_leave(j);
            break;
        case GPTI_J_MACRO_HERE: gpti_j_push(j, gpti_j_val(GPTI_J_MACRO, op.a, j->n_frame - 1)); break;
        case GPTI_J_UNLESS_GIVEN:
            i = j->name[op.a].bind;
            if (i && j->bind[i].frame == j->n_frame - 1) j->pc = op.b;
            break;
        case GPTI_J_RETURN:
            j->pc = f->back; j->n_stack = f->stack;
            a = gpti_j_printed(j, f->out);
            gpti_j_leave(j);
            gpti_j_push(j, a);
            break;
        case GPTI_J_CONCAT:
            b = gpti_j_to_string(j, b);
            gpti_j_push(j, gpti_j_join2(j, gpti_j_to_string(j, a), b));
            break;
        default:
            if (op.code <= GPTI_J_NOT_IN) gpti_j_push(j, gpti_j_bool(gpti_j_compare(j, op.code, a, b)));
            else gpti_j_push(j, gpti_j_arithmetic(j, op.code, a, b));
        }
    }
}

/* ---- Compiling: tokens, expressions, tags ---- */

enum { GPTI_J_T_EOF, GPTI_J_T_NAME = 'n', GPTI_J_T_STR = 's', GPTI_J_T_NUM = '1', GPTI_J_T_END = '$' /* of the tag */,
       GPTI_J_T_IS = 'E', GPTI_J_T_IS_NOT = 'N', GPTI_J_T_AT_MOST = 'l', GPTI_J_T_AT_LEAST = 'g',
       GPTI_J_T_WHOLE = 'D' };          /* other tokens are their character */

/* What lies open, innermost last. Brackets and what stands for one come first; from TAG_SET on, tags with a SCOPE. */
enum { GPTI_J_BASE, GPTI_J_PAREN, GPTI_J_BRACKET, GPTI_J_BRACE, GPTI_J_INDEX, GPTI_J_ARGS, GPTI_J_ELSE_PART,
       GPTI_J_IF_PART, GPTI_J_OPERATOR, GPTI_J_SHORT /* and, or */, GPTI_J_TEST_ARG, GPTI_J_TAG_IF, GPTI_J_TAG_FOR,
       GPTI_J_TAG_FOR_ELSE, GPTI_J_TAG_MACRO, GPTI_J_TAG_CALL, GPTI_J_TAG_SET, GPTI_J_TAG_FILTER,
       GPTI_J_TAG_GENERATION, GPTI_J_TAG_WITH };

static int gpti_j_char(const gpti_jinja *j, size_t k) { return j->pos + k < j->end ?
    (unsigned char)j->text[j->pos + k] : 0; }

static void gpti_j_expected(gpti_jinja *j, const char *what) {
    char shown[GPTI_SHOWN];
    gpti_show(shown, gpti_j_span(j->text + j->pos, gpti_min(j->end - j->pos, 24)));
    gpti_j_fail(j, GPT_E_UNSUPPORTED, "expected %s before \"%s\"", what, shown);
}

static void gpti_j_go(gpti_jinja *j, size_t to) {           /* on to there, counting lines */
    for (; j->pos < to; j->pos++) j->line_at += j->text[j->pos] == '\n';
}

static size_t gpti_j_skip_space(gpti_jinja *j) {
    const size_t from = j->pos;
    size_t k;
    while (j->pos < j->end && (k = gpti_chat_space(j->text + j->pos, j->end - j->pos)) > 0) gpti_j_go(j, j->pos + k);
    return j->pos - from;
}

/* Behind a tag's end: with a minus all white space goes, else behind statements and comments a line end. */
static void gpti_j_trim(gpti_jinja *j, int sign, int line) {
    j->line_start = 0;
    if (sign == '-') j->line_start = gpti_j_skip_space(j) && j->text[j->pos - 1] == '\n';
    else if (line && sign != '+' && gpti_j_char(j, 0) == '\n') { j->pos++; j->line_at++; j->line_start = 1; }
}

/* The string in quotes at pos, its escapes undone as Python does it. */
static void gpti_j_string_token(gpti_jinja *j, int quote) {
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const size_t begin = ++j->pos;
    size_t i, n = 0;
    gpti_jval v;
    int escaped = 0;
    for (; j->pos < j->end && gpti_j_char(j, 0) != quote; j->pos++) {
        if (gpti_j_char(j, 0) == '\\') { escaped = 1; j->pos++; }
        j->line_at += gpti_j_char(j, 0) == '\n';
    }
    if (j->pos >= j->end) { gpti_j_expected(j, "a quotation mark"); return; }
    v = gpti_j_val(GPTI_J_STR, begin, j->pos++ - begin);
    j->tk_val = v;
    if (!escaped) return;
    v = gpti_j_string(j, NULL, v.n, 1);                 /* never longer than what it is spelled as */
    for (i = 0; i < j->tk_val.n && !j->fail;) {
        const char *p = j->text + begin + i, *q, *end = j->text + begin + j->tk_val.n;
        char *out = j->text + v.u.at;
        uint32_t u = 0;
        int k = 0, digits = 0;
        if (*p != '\\' || p + 1 == end) { out[n++] = *p; i++; continue; }
        q = p[1] ? strchr(from, p[1]) : NULL;
        i += 2;
        if (q) { out[n++] = to[q - from]; continue; }
        if (p[1] == '\n') continue;
        if (p[1] == 'N') gpti_j_fail(j, GPT_E_UNSUPPORTED, "the escape \\N in a string");
        digits = p[1] == 'x' ? 2 : p[1] == 'u' ? 4 : p[1] == 'U' ? 8 : 0;
        p += digits ? 2 : 1;
        for (; p + k < end && k < (digits ? digits : 3); k++) {
            const int value = gpti_hex_digit((unsigned char)p[k]);
            if (value > (digits ? 15 : 7)) break;
            u = u * (digits ? 16 : 8) + (uint32_t)value;
        }
        if (k < digits || u > 0x10FFFF) { gpti_j_fail(j, GPT_E_FORMAT, "a broken escape in a string"); return; }
        i += (size_t)(digits || !k ? k : k - 1);
        if (k) n += gpti_put_utf8(out + n, u >= 0xD800 && u <= 0xDFFF ? 0xFFFD : u);
        else { out[n++] = '\\'; out[n++] = *p; }
    }
    j->n_text = v.u.at + n;
    v.n = (uint32_t)n;
    j->tk_val = v;
}

static void gpti_j_number_token(gpti_jinja *j) {
    char buf[64];
    size_t n = 0, k;
    int c;
    for (k = 0; (c = gpti_j_char(j, k)) != 0 && n < sizeof buf; k++) {
        const int next = gpti_j_char(j, k + 1), low = c | 32;
        if (c == '_') continue;
        if (!(c >= '0' && c <= '9') && !(c == '.' && next >= '0' && next <= '9' && !memchr(buf, '.', n)) &&
            !(low == 'e' && !memchr(buf, 'e', n) && ((next >= '0' && next <= '9') || next == '-' || next == '+')) &&
            !((c == '-' || c == '+') && n && buf[n - 1] == 'e')) break;
        buf[n++] = (char)(c < 'A' ? c : low);
    }
    j->pos += k;
    j->tk_val = gpti_j_number_value(j, gpti_j_span(buf, n));
}

/* The next token of the tag; at the tag's end what trimming takes off behind it is gone too. */
static void gpti_j_next(gpti_jinja *j) {
    static const char twos[] = "==!=<=>=//", codes[] = "ENlgD";
    int c, d, i;
    gpti_j_skip_space(j);
    j->line = j->line_at;
    c = gpti_j_char(j, 0); d = gpti_j_char(j, 1);
    if (j->fail || j->pos >= j->end) { j->tk = GPTI_J_T_EOF; gpti_j_expected(j, "the end of a tag"); return; }
    if (!j->nest) {
        const size_t sign = c == '-' || c == '+';
        if (gpti_j_char(j, sign) == (j->tag == '{' ? '}' : '%') && gpti_j_char(j, sign + 1) == '}') {
            j->tk = GPTI_J_T_END;
            j->pos += sign + 2;
            gpti_j_trim(j, c, j->tag == '%');
            return;
        }
    }
    if (c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        size_t n = 1;
        for (; (d = gpti_j_char(j, n)) == '_' || (d >= 'a' && d <= 'z') || (d >= 'A' && d <= 'Z') ||
            (d >= '0' && d <= '9'); n++) {}
        j->tk = GPTI_J_T_NAME;
        j->tk_val = gpti_j_val(GPTI_J_STR, j->pos, n);
        j->tk_name = gpti_j_name(j, gpti_j_str(j, j->tk_val));
        j->pos += n;
        return;
    }
    if (c >= '0' && c <= '9') { j->tk = GPTI_J_T_NUM; gpti_j_number_token(j); return; }
    if (c == '\'' || c == '"') { j->tk = GPTI_J_T_STR; gpti_j_string_token(j, c); return; }
    for (i = 0; twos[2 * i]; i++) if (c == twos[2 * i] && d == twos[2 * i + 1]) { j->tk = codes[i]; j->pos += 2;
        return; }
    if (!strchr("+-*/%~<>=()[]{},:.|", c)) gpti_j_expected(j, "an expression");
    if (c == '(' || c == '[' || c == '{') j->nest++;
    if ((c == ')' || c == ']' || c == '}') && j->nest) j->nest--;
    j->tk = c;
    j->pos++;
}

static int gpti_j_word(const gpti_jinja *j, const char *word) {        /* is the token this word? */
    return j->tk == GPTI_J_T_NAME && gpti_str_is(gpti_j_str(j, j->tk_val), word);
}

static int gpti_j_take(gpti_jinja *j, int token) {          /* over this token, if it is the one at hand */
    if (j->tk != token || j->fail) return 0;
    gpti_j_next(j);
    return 1;
}

static void gpti_j_need(gpti_jinja *j, int token, const char *what) {
    if (!gpti_j_take(j, token)) gpti_j_expected(j, what);
}

static uint32_t gpti_j_emit(gpti_jinja *j, int code, size_t a, size_t b) {
    gpti_jop *op;
    if (!GPTI_J_ROOM_FOR(j, op, 1)) return 0;
    op = &j->op[j->n_op];
    op->a = (uint32_t)a; op->b = (uint32_t)b; op->line = j->line; op->code = code;
    return (uint32_t)j->n_op++;
}

static void gpti_j_const(gpti_jinja *j, gpti_jval v) {
    if (!GPTI_J_ROOM_FOR(j, val, 1)) return;
    j->val[j->n_val] = v;
    gpti_j_emit(j, GPTI_J_CONST, j->n_val++, 0);
}

static gpti_jopen *gpti_j_open(gpti_jinja *j, int kind, int prec, size_t code) {
    gpti_jopen *e = GPTI_J_ROOM_FOR(j, open, 1) ? &j->open[j->n_open++] : &j->no_open;
    memset(e, 0, sizeof *e);
    e->kind = (uint8_t)kind; e->prec = (uint8_t)prec; e->code = (uint32_t)code; e->line = j->line;
    return e;
}

/* A bracket: each of its expressions begins with a NOP, for a conditional one to jump from. */
static gpti_jopen *gpti_j_open_level(gpti_jinja *j, int kind, size_t code, size_t target) {
    gpti_jopen *e = gpti_j_open(j, kind, 0, code);
    if (j->n_open > GPTI_J_DEPTH + 1) gpti_j_fail(j, GPT_E_FORMAT, "more than %d brackets and tags within each other",
        (int)GPTI_J_DEPTH);
    e->target = (uint32_t)target;
    e->start = gpti_j_emit(j, GPTI_J_NOP, 0, 0);
    return e;
}

static gpti_jopen *gpti_j_top(gpti_jinja *j) { return j->n_open ? &j->open[j->n_open - 1] : &j->no_open; }
static void gpti_j_patch(gpti_jinja *j, uint32_t op) { if (!j->fail) j->op[op].a = (uint32_t)j->n_op; }

static void gpti_j_patch_all(gpti_jinja *j, uint32_t op) {     /* jumps that each lead to the one before, 0 the last */
    while (op && !j->fail) {
        const uint32_t older = j->op[op].a;
        gpti_j_patch(j, op);
        op = older;
    }
}

/* Operators that bind at least as strongly as prec have both their sides. */
static void gpti_j_reduce(gpti_jinja *j, int prec) {
    while (!j->fail) {
        const gpti_jopen e = *gpti_j_top(j);
        if (e.kind < GPTI_J_OPERATOR || e.kind > GPTI_J_TEST_ARG || e.prec < prec) return;
        j->n_open--;
        if (e.kind == GPTI_J_SHORT) gpti_j_patch(j, e.jump);
        else gpti_j_emit(j, (int)e.code, e.kind == GPTI_J_TEST_ARG, e.target);
    }
}

/* "a if c": c is there; what follows is its "else", or nothing. Code: JUMP c; a; JUMP end; c; UNLESS else;
 * JUMP a; else ...; end */
static void gpti_j_else(gpti_jinja *j) {
    gpti_jopen *e = gpti_j_top(j);
    const uint32_t unless = gpti_j_emit(j, GPTI_J_UNLESS, 0, 0);
    gpti_j_emit(j, GPTI_J_JUMP, e->start + 1, 0);
    gpti_j_patch(j, unless);
    e->kind = GPTI_J_ELSE_PART;
    e->start = gpti_j_emit(j, GPTI_J_NOP, 0, 0);
}

/* The expression at hand is complete: the bracket around it is on top then. */
static void gpti_j_complete(gpti_jinja *j) {
    for (gpti_j_reduce(j, 0); !j->fail; gpti_j_reduce(j, 0)) {
        const gpti_jopen *e = gpti_j_top(j);
        if (e->kind != GPTI_J_IF_PART && e->kind != GPTI_J_ELSE_PART) return;
        if (e->kind == GPTI_J_IF_PART) { gpti_j_else(j); gpti_j_const(j, gpti_j_undefined()); }
        gpti_j_patch(j, gpti_j_top(j)->jump);
        j->n_open--;
    }
}

/* An element of the bracket on top is complete. */
static void gpti_j_element(gpti_jinja *j) {
    gpti_jopen *e;
    gpti_j_complete(j);
    e = gpti_j_top(j);
    if (e->kind == GPTI_J_ARGS && !e->prec && e->names) gpti_j_fail(j, GPT_E_UNSUPPORTED,
        "a value behind one with a name");
    if (e->kind == GPTI_J_ARGS && e->prec) { e->names++; e->prec = 0; }
    else e->count++;
    if (e->count > 0xFFFF || e->names > 0x7FFF) gpti_j_fail(j, GPT_E_UNSUPPORTED,
        "more than 32,767 arguments or elements");
    e->start = gpti_j_emit(j, GPTI_J_NOP, 0, 0);
}

/* A bracket's end, in front of which an element is (have) or, as after a comma, is not. 2 behind a filter's or
 * test's, else 1. */
static int gpti_j_close(gpti_jinja *j, int token, int have) {
    static const char close[] = " )]}])";
    gpti_jopen e;
    if (have) gpti_j_complete(j);
    if (j->fail) return 1;
    e = *gpti_j_top(j);
    if (e.kind > GPTI_J_ARGS || close[e.kind] != token) { gpti_j_expected(j, "another bracket"); return 1; }
    if (e.kind == GPTI_J_INDEX) {
        if (!have && !e.count) gpti_j_expected(j, "an index");
        if (e.count && !have) gpti_j_const(j, gpti_j_none());
        if (e.count == 1) gpti_j_const(j, gpti_j_none());
        j->n_open--;
        gpti_j_emit(j, e.count ? GPTI_J_SLICE : GPTI_J_ITEM, 0, 0);
        return 1;
    }
    if (e.kind == GPTI_J_BRACE && e.names != (uint32_t)have) gpti_j_expected(j, "a value");
    if (have && e.kind != GPTI_J_PAREN) { gpti_j_element(j); e = *gpti_j_top(j); }
    j->n_open--;
    if (e.kind == GPTI_J_ARGS) gpti_j_emit(j, (int)e.code, e.count | e.names << 16, e.target);
    else if (e.kind == GPTI_J_BRACKET) gpti_j_emit(j, GPTI_J_MAKE, e.count, GPTI_J_LIST);
    else if (e.kind == GPTI_J_BRACE) gpti_j_emit(j, GPTI_J_MAKE, 2 * (size_t)e.count, GPTI_J_DICT);
    else if (e.count || !have) gpti_j_emit(j, GPTI_J_MAKE, e.count + (uint32_t)have, GPTI_J_TUPLE);
    return e.kind == GPTI_J_ARGS && e.code >= GPTI_J_FILTER ? 2 : 1;
}

/* A filter or test of this name: 2, or 0 where its arguments follow. */
static int gpti_j_named(gpti_jinja *j, int code) {
    const uint32_t target = j->tk_name;
    gpti_j_need(j, GPTI_J_T_NAME, "a name");
    if (j->tk == '.') gpti_j_fail(j, GPT_E_UNSUPPORTED, "a filter or test whose name has a point");
    if (j->tk == '(') {
        gpti_j_open_level(j, GPTI_J_ARGS, (size_t)code, target);
        gpti_j_next(j);
        return 0;
    }
    if (code != GPTI_J_FILTER && (j->tk == GPTI_J_T_STR || j->tk == GPTI_J_T_NUM || j->tk == '[' || j->tk == '{' ||
        (j->tk == GPTI_J_T_NAME && !gpti_in_list("else and or if is in not", gpti_j_str(j, j->tk_val))))) {
        gpti_j_open(j, GPTI_J_TEST_ARG, 11, (size_t)code)->target = target;
        return 0;
    }
    gpti_j_emit(j, code, 0, target);
    return 2;
}

static const char gpti_j_constants[] = "true True false False none None";

/* What a value begins with; 1 when it is there, 0 where more of it is wanted. */
static int gpti_j_operand(gpti_jinja *j) {
    const gpti_jopen *e = gpti_j_top(j);
    gpti_jval v = j->tk_val;
    int which;
    switch (j->tk) {
    case GPTI_J_T_NAME:
        if (gpti_j_word(j, "varargs") || gpti_j_word(j, "kwargs")) gpti_j_fail(j, GPT_E_UNSUPPORTED,
            "varargs or kwargs");
        if (gpti_j_word(j, "not")) { gpti_j_open(j, GPTI_J_OPERATOR, 3, GPTI_J_NOT); break; }
        which = gpti_j_which(gpti_j_constants, gpti_j_str(j, v));
        if (which >= 0) gpti_j_const(j, which < 4 ? gpti_j_bool(which < 2) : gpti_j_none());
        else gpti_j_emit(j, GPTI_J_LOAD, j->tk_name, 0);
        gpti_j_next(j);
        if (j->fail || j->tk != '=' || e->kind != GPTI_J_ARGS || e->prec) return 1;
        j->n_op--;                                      /* name=value */
        gpti_j_const(j, v);
        gpti_j_top(j)->prec = 1;
        gpti_j_top(j)->start = gpti_j_emit(j, GPTI_J_NOP, 0, 0);
        break;
    case GPTI_J_T_STR:
        for (gpti_j_next(j); j->tk == GPTI_J_T_STR && !j->fail; gpti_j_next(j)) v = gpti_j_join2(j, v, j->tk_val);
        gpti_j_const(j, v);
        return 1;
    case GPTI_J_T_NUM: gpti_j_const(j, v); gpti_j_next(j); return 1;
    case '(': gpti_j_open_level(j, GPTI_J_PAREN, 0, 0); break;
    case '[': gpti_j_open_level(j, GPTI_J_BRACKET, 0, 0); break;
    case '{': gpti_j_open_level(j, GPTI_J_BRACE, 0, 0); break;
    case '-': case '+': gpti_j_open(j, GPTI_J_OPERATOR, 10, j->tk == '-' ? GPTI_J_NEG : GPTI_J_POS); break;
    case ')': case ']': case '}':                       /* empty, or behind a comma */
        which = gpti_j_close(j, j->tk, 0);
        gpti_j_next(j);
        return which;
    case ':':
        if (e->kind == GPTI_J_INDEX && e->count < 2) {
            gpti_j_const(j, gpti_j_none());
            gpti_j_top(j)->count++;
            break;
        } /* fall through */
    default: gpti_j_expected(j, j->tk == '*' ? "no *" : "a value");
    }
    gpti_j_next(j);
    return 0;
}

static const struct { char token, word[4]; uint8_t prec, code; } gpti_j_operators[] = {
    { 0, "or", 1, GPTI_J_OR }, { 0, "and", 2, GPTI_J_AND }, { 0, "in", 4, GPTI_J_IN }, { 0, "not", 4, GPTI_J_NOT_IN },
    { GPTI_J_T_IS, "", 4, GPTI_J_EQ }, { GPTI_J_T_IS_NOT, "", 4, GPTI_J_NE }, { GPTI_J_T_AT_MOST, "", 4, GPTI_J_LE },
    { GPTI_J_T_AT_LEAST, "", 4, GPTI_J_GE }, { '<', "", 4, GPTI_J_LT }, { '>', "", 4, GPTI_J_GT },
    { '+', "", 5, GPTI_J_ADD }, { '-', "", 5, GPTI_J_SUB }, { '~', "", 6, GPTI_J_CONCAT }, { '*', "", 7, GPTI_J_MUL },
    { '/', "", 7, GPTI_J_DIV }, { '%', "", 7, GPTI_J_MOD }, { GPTI_J_T_WHOLE, "", 7, GPTI_J_IDIV } };

/* The operator at hand, if it is one, begins to wait for its right side; gpti_j_reduce ends that. */
static int gpti_j_operator(gpti_jinja *j) {
    int i = sizeof gpti_j_operators / sizeof *gpti_j_operators, prec, code;
    uint32_t jump;
    while (i-- > 0 && (j->tk == GPTI_J_T_NAME ? !gpti_j_word(j, gpti_j_operators[i].word) :
           gpti_j_operators[i].token != j->tk)) {}
    if (i < 0) return 0;
    prec = gpti_j_operators[i].prec; code = gpti_j_operators[i].code;
    if (code == GPTI_J_NOT_IN) {
        gpti_j_next(j);
        if (!gpti_j_word(j, "in")) gpti_j_expected(j, "in");
    }
    gpti_j_reduce(j, prec == 4 ? 5 : prec);
    if (prec == 4 && gpti_j_top(j)->kind == GPTI_J_OPERATOR && gpti_j_top(j)->prec == 4)
        gpti_j_fail(j, GPT_E_UNSUPPORTED, "comparisons in a chain");
    if (prec > 2) { gpti_j_open(j, GPTI_J_OPERATOR, prec, (size_t)code); return 1; }
    jump = gpti_j_emit(j, code, 0, 0);
    gpti_j_open(j, GPTI_J_SHORT, prec, 0)->jump = jump;
    return 1;
}

/* Behind a point: an attribute, a method or an index; 1 when it is there, 0 if a method's arguments follow. */
static int gpti_j_point(gpti_jinja *j) {
    const uint32_t name = j->tk_name;
    if (j->tk == GPTI_J_T_NUM) {
        gpti_j_const(j, j->tk_val);
        gpti_j_emit(j, GPTI_J_ITEM, 0, 0);
        gpti_j_next(j);
        return 1;
    }
    gpti_j_need(j, GPTI_J_T_NAME, "a name");
    if (j->tk != '(') { gpti_j_emit(j, GPTI_J_ATTR, name, 0); return 1; }
    gpti_j_open_level(j, GPTI_J_ARGS, GPTI_J_CALL_METHOD, name);
    gpti_j_next(j);
    return 0;
}

/* "a if": the code of a is there. */
static void gpti_j_if(gpti_jinja *j) {
    const uint32_t start = gpti_j_top(j)->start, jump = gpti_j_emit(j, GPTI_J_JUMP, 0, 0);
    gpti_jopen *e = gpti_j_open(j, GPTI_J_IF_PART, 0, 0);
    if (j->fail) return;
    j->op[start].code = GPTI_J_JUMP;
    gpti_j_patch(j, start);
    e->start = start; e->jump = jump;
}

enum { GPTI_J_NO_IF = 1, GPTI_J_NO_COMMA = 2, GPTI_J_PIPED = 4 };

/* A comma or colon in the bracket on top; 0: it has no place there. */
static int gpti_j_separator(gpti_jinja *j, int flags) {
    gpti_jopen *e = gpti_j_top(j);
    const int brace = e->kind == GPTI_J_BRACE, index = e->kind == GPTI_J_INDEX;
    if (j->tk == ',' && !index && (!brace || e->names) && (e->kind != GPTI_J_BASE || !(flags & GPTI_J_NO_COMMA))) {
        if (brace) e->names = 0;
        gpti_j_element(j);
        return 1;
    }
    if (j->tk != ':' || !(brace ? !e->names : index && e->count < 2)) return 0;
    if (brace) e->names = 1; else e->count++;
    e->start = gpti_j_emit(j, GPTI_J_NOP, 0, 0);
    return 1;
}

/* Compiles the expression that begins at the token at hand, up to the first token that is no part of it.
 * PIPED: it goes on from a value that is there with a filter's name. */
static void gpti_j_expression(gpti_jinja *j, int flags) {
    const size_t base = j->n_open;
    int have = 0;                   /* a value: 1; 2: behind a filter or test, of which no part can be taken */
    gpti_j_open_level(j, GPTI_J_BASE, 0, 0);
    if (flags & GPTI_J_PIPED) have = gpti_j_named(j, GPTI_J_FILTER);
    while (!j->fail) {
        if (!have) {
            if (gpti_j_top(j)->kind == GPTI_J_BASE && gpti_j_top(j)->count && (j->tk == GPTI_J_T_END || j->tk == '='))
                break;                                  /* behind a tuple's last comma */
            have = gpti_j_operand(j);
            continue;
        }
        if (have == 1 && gpti_j_take(j, '.')) { have = gpti_j_point(j); continue; }
        if (j->tk == '(' || (have == 1 && j->tk == '[')) {
            gpti_j_open_level(j, j->tk == '(' ? GPTI_J_ARGS : GPTI_J_INDEX, GPTI_J_CALL, 0);
            gpti_j_next(j);
            have = 0;
            continue;
        }
        gpti_j_reduce(j, 11);
        if (j->tk == '|' || gpti_j_word(j, "is")) {
            int code = j->tk == '|' ? GPTI_J_FILTER : GPTI_J_TEST;
            gpti_j_reduce(j, 10);
            gpti_j_next(j);
            if (code == GPTI_J_TEST && gpti_j_word(j, "not")) { code = GPTI_J_TEST_NOT; gpti_j_next(j); }
            have = gpti_j_named(j, code);
            continue;
        }
        if (j->tk == ')' || j->tk == ']' || j->tk == '}') {
            gpti_j_complete(j);
            if (j->n_open == base + 1) break;           /* a bracket around all of it */
            have = gpti_j_close(j, j->tk, 1);
            gpti_j_next(j);
            continue;
        }
        if (gpti_j_word(j, "if")) {
            gpti_j_reduce(j, 0);
            if (j->n_open == base + 1 && flags & GPTI_J_NO_IF) break;
            if (gpti_j_top(j)->kind == GPTI_J_IF_PART) gpti_j_expected(j, "else");
            gpti_j_if(j);
        } else if (gpti_j_word(j, "else")) {
            gpti_j_reduce(j, 0);
            /* the else of a conditional within: a finished one gives way to that around it */
            for (; !j->fail && gpti_j_top(j)->kind == GPTI_J_ELSE_PART; j->n_open--)
                gpti_j_patch(j, gpti_j_top(j)->jump);
            if (j->fail || gpti_j_top(j)->kind != GPTI_J_IF_PART) break;
            gpti_j_else(j);
        } else if (!gpti_j_operator(j)) {
            gpti_j_complete(j);
            if (j->fail || !gpti_j_separator(j, flags)) break;
        }
        gpti_j_next(j);
        have = 0;
    }
    if (j->n_open != base + 1) gpti_j_expected(j, "a closing bracket");
    gpti_j_complete(j);
    if (gpti_j_top(j)->count) gpti_j_emit(j, GPTI_J_MAKE, gpti_j_top(j)->count + (have != 0), GPTI_J_TUPLE);
    j->n_open = base;
}

/* attr: 1 + a name */
typedef struct gpti_jtargets { uint32_t name[GPTI_J_TARGETS], attr; int n, tuple; } gpti_jtargets;

static void gpti_j_targets(gpti_jinja *j, gpti_jtargets *t) {
    const int paren = gpti_j_take(j, '(');
    memset(t, 0, sizeof *t);
    do {
        if (t->n && j->tk != GPTI_J_T_NAME) break;
        t->tuple = t->n > 0;
        if (j->tk != GPTI_J_T_NAME || t->n == GPTI_J_TARGETS ||
            gpti_j_which(gpti_j_constants, gpti_j_str(j, j->tk_val)) >= 0) {
            gpti_j_expected(j, "a name, at most 8 of them"); return; }
        t->name[t->n++] = j->tk_name;
        gpti_j_next(j);
        if (j->tk == ',') t->tuple = 1;
    } while (gpti_j_take(j, ','));
    if (paren) gpti_j_need(j, ')', "')'");
    if (t->n == 1 && gpti_j_take(j, '.')) {
        t->attr = 1 + j->tk_name;
        gpti_j_need(j, GPTI_J_T_NAME, "a name");
    }
}

static void gpti_j_store(gpti_jinja *j, const gpti_jtargets *t) {
    int i;
    if (t->attr) { gpti_j_emit(j, GPTI_J_STORE_ATTR, t->name[0], t->attr - 1); return; }
    if (t->tuple) gpti_j_emit(j, GPTI_J_UNPACK, (size_t)t->n, 0);
    for (i = 0; i < t->n; i++) gpti_j_emit(j, GPTI_J_STORE, t->name[i], 0);
}

static void gpti_j_tag_for(gpti_jinja *j, uint32_t loop) {
    gpti_jtargets t;
    uint32_t next;
    gpti_j_targets(j, &t);
    if (!gpti_j_word(j, "in")) gpti_j_expected(j, "in");
    gpti_j_next(j);
    gpti_j_expression(j, GPTI_J_NO_IF);
    gpti_j_emit(j, GPTI_J_FOR, 0, 0);
    if (gpti_j_word(j, "if")) {                         /* first a loop that finds the elements */
        next = gpti_j_emit(j, GPTI_J_NEXT, 0, 0);
        gpti_j_store(j, &t);
        gpti_j_next(j);
        gpti_j_expression(j, 0);
        gpti_j_emit(j, GPTI_J_KEEP, 0, 0);
        gpti_j_emit(j, GPTI_J_JUMP, next, 0);
        gpti_j_patch(j, next);
        gpti_j_emit(j, GPTI_J_KEPT, 0, 0);
        gpti_j_emit(j, GPTI_J_FOR, 0, 0);
    }
    if (gpti_j_word(j, "recursive")) gpti_j_fail(j, GPT_E_UNSUPPORTED, "a recursive loop");
    next = gpti_j_emit(j, GPTI_J_NEXT, 0, loop);
    gpti_j_open(j, GPTI_J_TAG_FOR, 0, 0)->start = next;
    gpti_j_store(j, &t);
}

/* The loop's body is complete: end or else. Breaks go here. */
static void gpti_j_end_loop(gpti_jinja *j) {
    gpti_jopen *e = gpti_j_top(j);
    gpti_j_emit(j, GPTI_J_WHOLE, 0, 0);
    gpti_j_emit(j, GPTI_J_JUMP, e->start, 0);
    gpti_j_patch(j, e->start);
    gpti_j_patch_all(j, e->jump);
    e->jump = gpti_j_emit(j, GPTI_J_END_FOR, j->n_op + 1, 0);
    e->kind = GPTI_J_TAG_FOR_ELSE;
}

static void gpti_j_tag_break(gpti_jinja *j, int again) {
    size_t i = j->n_open;
    while (i > 0 && j->open[i - 1].kind != GPTI_J_TAG_FOR) {
        const int kind = j->open[--i].kind;
        if (kind == GPTI_J_TAG_MACRO || kind == GPTI_J_TAG_CALL) i = 0;
        else if (kind >= GPTI_J_TAG_SET) gpti_j_emit(j, GPTI_J_END_SCOPE, 0, 1);
    }
    if (!i) { gpti_j_fail(j, GPT_E_UNSUPPORTED, "break or continue outside of a loop"); return; }
    if (again) gpti_j_emit(j, GPTI_J_JUMP, j->open[i - 1].start, 0);
    else j->open[i - 1].jump = gpti_j_emit(j, GPTI_J_JUMP, j->open[i - 1].jump, 0);
}

/* A macro's body begins, with the parameters whose names lie on the stack from `from` on; those with a default
 * have its code already. */
static void gpti_j_begin_macro(gpti_jinja *j, int kind, size_t from, uint32_t over, uint32_t name) {
    const size_t n = j->n_stack - from;
    gpti_jmacro *m;
    gpti_jopen *e = gpti_j_open(j, kind, 0, 0);
    if (j->fail || !GPTI_J_ROOM_FOR(j, macro, 1) || !GPTI_J_ROOM_FOR(j, val, n)) return;
    m = &j->macro[j->n_macro];
    m->entry = over + 1; m->param = (uint32_t)j->n_val; m->n_param = (uint32_t)n; m->name = name;
    if (n) memcpy(j->val + j->n_val, j->stack + from, n * sizeof *j->val);
    j->n_val += n; j->n_stack = from;
    e->target = (uint32_t)j->n_macro++; e->jump = over;
}

/* Code for a parameter that is not given. */
static void gpti_j_default(gpti_jinja *j, uint32_t name, int has) {
    const uint32_t given = gpti_j_emit(j, GPTI_J_UNLESS_GIVEN, name, 0);
    if (has) gpti_j_expression(j, GPTI_J_NO_COMMA);
    else gpti_j_const(j, gpti_j_undefined());
    gpti_j_emit(j, GPTI_J_STORE, name, 0);
    if (!j->fail) j->op[given].b = (uint32_t)j->n_op;
}

static void gpti_j_parameters(gpti_jinja *j, int defaults) {
    if (!gpti_j_take(j, '(')) { if (defaults) gpti_j_expected(j, "'('"); return; }
    while (!j->fail && j->tk != ')') {
        const uint32_t name = j->tk_name;
        gpti_j_need(j, GPTI_J_T_NAME, "a parameter's name");
        gpti_j_push(j, gpti_j_int((int64_t)name));
        if (defaults) gpti_j_default(j, name, gpti_j_take(j, '='));
        if (j->tk != ')') gpti_j_need(j, ',', "',' or ')'");
    }
    gpti_j_need(j, ')', "')'");
}

static void gpti_j_tag_macro(gpti_jinja *j) {
    const uint32_t name = j->tk_name, over = gpti_j_emit(j, GPTI_J_JUMP, 0, 0);
    const size_t from = j->n_stack;
    gpti_j_need(j, GPTI_J_T_NAME, "the macro's name");
    gpti_j_parameters(j, 1);
    gpti_j_begin_macro(j, GPTI_J_TAG_MACRO, from, over, name);
}

/* {% call %}: its body is a macro, the argument "caller" of the call. */
static void gpti_j_tag_call(gpti_jinja *j) {
    const size_t from = j->n_stack;
    gpti_jop call;
    gpti_jopen *e;
    uint32_t over;
    size_t i;
    gpti_j_parameters(j, 0);
    gpti_j_expression(j, GPTI_J_NO_COMMA);
    if (j->fail) return;
    call = j->op[--j->n_op];
    if (call.code != GPTI_J_CALL && call.code != GPTI_J_CALL_METHOD) gpti_j_expected(j, "a call");
    gpti_j_const(j, gpti_j_cstring(j, "caller", 1));
    over = gpti_j_emit(j, GPTI_J_JUMP, 0, 0);
    for (i = from; i < j->n_stack; i++) gpti_j_default(j, (uint32_t)j->stack[i].u.i, 0);
    gpti_j_begin_macro(j, GPTI_J_TAG_CALL, from, over, 0);
    e = gpti_j_top(j);
    e->code = (uint32_t)call.code; e->count = call.a + (1u << 16); e->names = call.b;
}

static const char gpti_j_tags[] = "break call continue elif filter for generation if macro set with else endif endfor "
    "endmacro endcall endset endfilter endgeneration endwith";
enum { GPTI_J_BREAK, GPTI_J_CALL_TAG, GPTI_J_CONTINUE, GPTI_J_ELIF, GPTI_J_FILTER_TAG, GPTI_J_FOR_TAG,
       GPTI_J_GENERATION, GPTI_J_IF, GPTI_J_MACRO_TAG, GPTI_J_SET, GPTI_J_WITH, GPTI_J_ELSE, GPTI_J_ENDIF,
       GPTI_J_ENDFOR, GPTI_J_ENDMACRO, GPTI_J_ENDCALL, GPTI_J_ENDSET, GPTI_J_ENDFILTER };

static uint32_t gpti_j_condition(gpti_jinja *j) {
    gpti_j_expression(j, 0);
    return gpti_j_emit(j, GPTI_J_UNLESS, 0, 0);
}

/* {% filter %}: its text is there; its name and arguments are read only now, from where they stand. */
static void gpti_j_end_filter(gpti_jinja *j, const gpti_jopen *was) {
    const size_t pos = j->pos;
    const uint32_t line = j->line_at;
    const int start = j->line_start;
    j->pos = was->pos; j->line_at = was->count;
    gpti_j_next(j);
    gpti_j_expression(j, GPTI_J_PIPED | GPTI_J_NO_COMMA);
    if (j->tk != GPTI_J_T_END) gpti_j_expected(j, "the end of the tag");
    gpti_j_emit(j, GPTI_J_OUT, 0, 0);
    j->pos = pos; j->line_at = line; j->line_start = start;
}

static void gpti_j_end_tag(gpti_jinja *j, int which) {
    gpti_jopen was = *gpti_j_top(j);
    gpti_jtargets t;
    if (which == GPTI_J_ENDFOR && was.kind == GPTI_J_TAG_FOR) { gpti_j_end_loop(j); was = *gpti_j_top(j); }
    if (j->fail || !j->n_open || was.kind != (which == GPTI_J_ENDIF ? GPTI_J_TAG_IF :
                                              GPTI_J_TAG_FOR_ELSE + which - GPTI_J_ENDFOR)) {
        gpti_j_fail(j, GPT_E_UNSUPPORTED, "an end without its beginning");
        return;
    }
    j->n_open--;
    if (was.kind >= GPTI_J_TAG_SET) gpti_j_emit(j, GPTI_J_END_SCOPE, 0, 0);
    switch (which) {
    case GPTI_J_ENDIF:
        if (was.prec) gpti_j_patch(j, was.start);
        gpti_j_patch_all(j, was.jump);
        break;
    case GPTI_J_ENDFOR: gpti_j_patch(j, was.jump); break;
    case GPTI_J_ENDSET:
        memset(&t, 0, sizeof t);
        t.n = 1; t.name[0] = was.target; t.attr = was.names;
        gpti_j_store(j, &t);
        break;
    case GPTI_J_ENDMACRO: case GPTI_J_ENDCALL:
        gpti_j_emit(j, GPTI_J_RETURN, 0, 0);
        gpti_j_patch(j, was.jump);
        gpti_j_emit(j, GPTI_J_MACRO_HERE, was.target, 0);
        if (which == GPTI_J_ENDMACRO) gpti_j_emit(j, GPTI_J_STORE, j->fail ? 0 : j->macro[was.target].name, 0);
        else { gpti_j_emit(j, (int)was.code, was.count, was.names); gpti_j_emit(j, GPTI_J_OUT, 0, 0); }
        break;
    case GPTI_J_ENDFILTER: gpti_j_end_filter(j, &was); break;
    default: break;                                     /* endgeneration, endwith */
    }
}

static void gpti_j_tag(gpti_jinja *j, uint32_t loop) {
    gpti_jtargets t;
    gpti_jopen *e = gpti_j_top(j);
    char shown[GPTI_SHOWN];
    const int which = gpti_j_which(gpti_j_tags, gpti_j_str(j, j->tk_val));
    uint32_t k;
    if (j->tk != GPTI_J_T_NAME) gpti_j_expected(j, "a tag");
    if (which < 0) gpti_j_fail(j, GPT_E_UNSUPPORTED, "the tag '%s'", gpti_show(shown, gpti_j_str(j, j->tk_val)));
    gpti_j_next(j);
    if (j->fail) return;
    switch (which) {
    case GPTI_J_IF: k = gpti_j_condition(j); gpti_j_open(j, GPTI_J_TAG_IF, 1, 0)->start = k; break;
    case GPTI_J_ELIF: case GPTI_J_ELSE:                 /* prec: else is still to come */
        if (which == GPTI_J_ELSE && e->kind == GPTI_J_TAG_FOR && j->n_open) { gpti_j_end_loop(j); break; }
        if (!j->n_open || e->kind != GPTI_J_TAG_IF || !e->prec) {
            gpti_j_fail(j, GPT_E_UNSUPPORTED, "an else or elif without its if");
            break;
        }
        e->jump = gpti_j_emit(j, GPTI_J_JUMP, e->jump, 0);
        gpti_j_patch(j, e->start);
        e->prec = which == GPTI_J_ELIF;
        if (which == GPTI_J_ELIF) { k = gpti_j_condition(j); gpti_j_top(j)->start = k; }
        break;
    case GPTI_J_FOR_TAG: gpti_j_tag_for(j, loop); break;
    case GPTI_J_BREAK: case GPTI_J_CONTINUE: gpti_j_tag_break(j, which == GPTI_J_CONTINUE); break;
    case GPTI_J_SET:
        gpti_j_targets(j, &t);
        if (gpti_j_take(j, '=')) { gpti_j_expression(j, 0); gpti_j_store(j, &t); break; }
        if (j->tk != GPTI_J_T_END || t.tuple) gpti_j_expected(j, "'='");
        gpti_j_emit(j, GPTI_J_SCOPE, 0, 1);
        e = gpti_j_open(j, GPTI_J_TAG_SET, 0, 0);
        e->target = t.name[0]; e->names = t.attr;
        break;
    case GPTI_J_MACRO_TAG: gpti_j_tag_macro(j); break;
    case GPTI_J_CALL_TAG: gpti_j_tag_call(j); break;
    case GPTI_J_FILTER_TAG:
        if (j->tk != GPTI_J_T_NAME) { gpti_j_expected(j, "a filter's name"); break; }
        gpti_j_emit(j, GPTI_J_SCOPE, 0, 1);
        e = gpti_j_open(j, GPTI_J_TAG_FILTER, 0, 0);
        e->pos = (size_t)j->tk_val.u.at; e->count = j->line;
        while (!j->fail && j->tk != GPTI_J_T_END) gpti_j_next(j);
        break;
    case GPTI_J_WITH: case GPTI_J_GENERATION:
        gpti_j_emit(j, GPTI_J_SCOPE, 0, 0);
        gpti_j_open(j, which == GPTI_J_WITH ? GPTI_J_TAG_WITH : GPTI_J_TAG_GENERATION, 0, 0);
        while (which == GPTI_J_WITH && j->tk != GPTI_J_T_END && !j->fail) {
            k = j->tk_name;
            gpti_j_need(j, GPTI_J_T_NAME, "a name");
            gpti_j_need(j, '=', "'='");
            gpti_j_expression(j, GPTI_J_NO_COMMA);
            gpti_j_emit(j, GPTI_J_STORE, k, 0);
            if (j->tk != GPTI_J_T_END) gpti_j_need(j, ',', "','");
        }
        break;
    default: gpti_j_end_tag(j, which);
    }
    if (j->tk != GPTI_J_T_END) gpti_j_expected(j, "the end of the tag");
}

static void gpti_j_comment(gpti_jinja *j) {               /* over it, and what trimming takes off behind it */
    const size_t from = j->pos, end = gpti_j_search(j, gpti_j_span(j->text, j->end), gpti_str_of("#}"), from);
    if (end == SIZE_MAX) gpti_j_fail(j, GPT_E_UNSUPPORTED, "a comment without end");
    if (j->fail) return;
    gpti_j_go(j, end);
    j->pos += 2;
    gpti_j_trim(j, end > from ? j->text[end - 1] : 0, 1);
}

static void gpti_j_compile(gpti_jinja *j) {
    const uint32_t loop = gpti_j_name(j, gpti_str_of("loop"));
    j->line_at = 1;
    j->line_start = 1;
    while (j->pos < j->end && !j->fail) {
        const size_t from = j->pos;
        size_t to, k, at;
        const char *p;
        int tag = 0, sign = 0, line;
        for (to = from; to < j->end; to++) {            /* plain text up to the next tag */
            p = (const char *)memchr(j->text + to, '{', j->end - to);
            to = p ? (size_t)(p - j->text) : j->end;
            if (to + 1 < j->end && (j->text[to + 1] == '{' || j->text[to + 1] == '%' || j->text[to + 1] == '#')) break;
        }
        to = gpti_min(to, j->end);
        gpti_j_go(j, to);
        if (to < j->end) { tag = gpti_j_char(j, 1); sign = gpti_j_char(j, 2); }
        j->line = j->line_at;
        at = to;
        line = sign != '-' && sign != '+' && tag && tag != '{';       /* lstrip_blocks */
        while ((sign == '-' || line) && to > from && !(line && j->text[to - 1] == '\n') &&
               (k = gpti_utf8_back(j->text + to, to - from)) > 0 && gpti_chat_space(j->text + to - k, k)) to -= k;
        if (line && (to > from ? j->text[to - 1] != '\n' : !j->line_start)) to = at;
        if (to > from) { gpti_j_const(j, gpti_j_val(GPTI_J_STR, from, to - from)); gpti_j_emit(j, GPTI_J_OUT, 0, 0); }
        if (!tag) break;
        j->pos += 2 + (size_t)(sign == '-' || sign == '+');
        j->tag = (char)tag; j->nest = 0;
        if (tag == '#') { gpti_j_comment(j); continue; }
        gpti_j_next(j);
        if (tag == '{') {
            gpti_j_expression(j, 0);
            if (j->tk != GPTI_J_T_END) gpti_j_expected(j, "the end of the tag");
            gpti_j_emit(j, GPTI_J_OUT, 0, 0);
        } else gpti_j_tag(j, loop);
    }
    if (j->n_open && !j->fail) {
        j->line = gpti_j_top(j)->line;
        gpti_j_fail(j, GPT_E_UNSUPPORTED, "a tag that is not ended");
    }
    j->n_stack = 0;
}

static void gpti_j_free(gpti_jinja *j) {
    void *const table[] = { j->text, j->own, j->val, j->stack, j->op, j->name, j->bucket, j->bind, j->macro, j->open,
        j->frame, j->out, j->out_own };
    size_t i;
    for (i = 0; i < sizeof table / sizeof *table; i++) gpti_free(j->mem, table[i]);
}

/* A template's text, line ends as Jinja has them; n_more: bytes of messages and variables. */
static void gpti_j_init(gpti_jinja *j, gpti_str source, size_t n_more, const char *date, const gpti_mem *mem,
    gpt_error *err) {
    size_t i, n = 0;
    memset(j, 0, sizeof *j);
    j->mem = mem; j->err = err; j->date = date;
    j->most = GPTI_J_ROOM; j->max_steps = GPTI_J_STEPS;
    if (n_more < SIZE_MAX / GPTI_J_SHARE / 2 && source.n < SIZE_MAX / GPTI_J_SHARE / 2) {
        j->most += GPTI_J_SHARE * (n_more + source.n); j->max_steps += GPTI_J_SHARE * ((uint64_t)n_more + source.n);
    }
    gpti_j_string(j, NULL, source.n, 1);
    if (j->fail || !GPTI_J_ROOM_FOR(j, stack, 1) || !GPTI_J_ROOM_FOR(j, val, 1) || !GPTI_J_ROOM_FOR(j, out, 1)) return;
    for (i = 0; i < source.n; i++) {
        if (source.p[i] != '\r') j->text[n++] = source.p[i];
        else if (i + 1 == source.n || source.p[i + 1] != '\n') j->text[n++] = '\n';
    }
    if (n && j->text[n - 1] == '\n') n--;
    j->end = n;
    gpti_j_enter(j, 0);
    for (i = 0; i < GPTI_J_N_WORD; i++)
        if (*gpti_j_words[i].of == 'g' && (date || gpti_j_words[i].code != GPTI_JF_STRFTIME))
            gpti_j_bind(j, gpti_j_name(j, gpti_str_of(gpti_j_words[i].name)), gpti_j_val(GPTI_J_FUNC, i, 0));
}

/* ---- Conversations ---- */

typedef struct gpti_chat {              /* a conversation being rendered */
    gpti_jinja         j;               /* then j.out is the text */
    const gpt_model   *m;
    gpti_str           source;          /* the template */
    const gpt_chat_params *params;
    const gpt_message *msg;
    size_t             n_msg, n_drop;   /* n_drop of them, behind the system message, are left out */
    const gpt_message *more;            /* behind them, for what is common: at most 3 */
    size_t             n_more;
    int                tight;           /* SentencePiece: no space in front of what follows a control token */
    int                from_file;       /* the template is the model's: its markers are known */
    char              *own;             /* what to free: a template made of own strings */
} gpti_chat;

static const char *gpti_str_find(gpti_str s, const char *what) {
    const size_t n = strlen(what);
    size_t i;
    for (i = 0; i + n <= s.n; i++) if (!memcmp(s.p + i, what, n)) return s.p + i;
    return NULL;
}

static int gpti_chat_date_ok(const char *date) {        /* of the form 2025-01-31; or NULL */
    size_t i;
    for (i = 0; date && i < 10; i++)
        if (i == 4 || i == 7 ? date[i] != '-' : date[i] < '0' || date[i] > '9') return 0;
    return !date || (!date[10] && memcmp(date + 5, "01", 2) >= 0 && memcmp(date + 5, "12", 2) <= 0 &&
                     memcmp(date + 8, "01", 2) >= 0 && memcmp(date + 8, "31", 2) <= 0);
}

/* A template is put together of turns, in which {text} stands for the message: a family's row, or the caller's. */
typedef struct gpti_chat_row {
    const char *names;          /* separated by spaces; NULL: the caller's */
    const char *head;           /* Jinja, ahead of the messages */
    const char *system;         /* \1 and what goes before the user's next message, where it has no turn */
    const char *user, *assistant, *generation;
} gpti_chat_row;

enum { GPTI_N_CHAT = 28 };
static size_t gpti_list_chats(gpti_chat_row out[GPTI_N_CHAT]);

static size_t gpti_chat_raw(char *out, size_t size, size_t at, const char *p, size_t n) {
    if (at < size) memcpy(out + at, p, gpti_min(n, size - at));
    return at + n;
}

/* A turn's string as a string of Jinja, to out[at ...] as far as it fits; the end. The caller's know the first
 * GPTI_CHAT_OWN words alone. */
enum { GPTI_CHAT_OWN = 4, GPTI_CHAT_WORDS = 7 };
static size_t gpti_chat_piece(char *out, size_t size, size_t at, const char *p, size_t n_word) {
    static const char words[GPTI_CHAT_WORDS][14] = { "{text}", "{text|trim}", "{bos}", "{eos}", "{answer}",
        "{answer|line}", "{final}" };
    static const char code[GPTI_CHAT_WORDS][56] = { "'~text~'", "'~text|trim~'", "'~bos_token~'", "'~eos_token~'",
        "'~text.split('</think>')[-1]~'", "'~text.split('</think>')[-1].lstrip('\\n')~'",
        "'~text.split('<|channel|>final<|message|>')[-1]~'" };
    size_t w;
    for (; *p; p += w < n_word ? strlen(words[w]) : 1) {
        for (w = 0; w < n_word && strncmp(p, words[w], strlen(words[w])); w++) {}
        if (w < n_word) at = gpti_chat_raw(out, size, at, code[w], strlen(code[w]));
        else if (*p == '\n') at = gpti_chat_raw(out, size, at, "\\n", 2);
        else {
            if (*p == '\'' || *p == '\\') at = gpti_chat_raw(out, size, at, "\\", 1);
            at = gpti_chat_raw(out, size, at, p, 1);
        }
    }
    return at;
}

static size_t gpti_chat_compose(const gpti_chat_row *row, char *out, size_t size) {
    const char *const code[7] = { "{% set ns = namespace(s='') %}{% for m in messages %}{% set text = m.content %}"
        "{% if m.role == 'system' %}", *row->system == 1 ? "{% set ns.s = '" : "{{ '",
        *row->system == 1 ? "' %}" : "' }}",
        "{% elif m.role == 'user' %}{% set text = ns.s ~ text %}{% set ns.s = '' %}{{ '",
        "' }}{% elif m.role == 'assistant' %}{{ '",
        "' }}{% else %}{{ raise_exception('expected the role system, user or assistant, found ' ~ m.role) }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '", "' }}{% endif %}" };
    const size_t n_word = row->names ? GPTI_CHAT_WORDS : GPTI_CHAT_OWN;
    size_t at = gpti_chat_raw(out, size, 0, row->head, strlen(row->head)), i;
    for (i = 0; i < 7; i++) {
        at = gpti_chat_raw(out, size, at, code[i], strlen(code[i]));
        if (i == 1) at = gpti_chat_piece(out, size, at, row->system + (*row->system == 1), n_word);
        if (i == 3) at = gpti_chat_piece(out, size, at, row->user, n_word);
        if (i == 4) at = gpti_chat_piece(out, size, at, row->assistant, n_word);
        if (i == 5) at = gpti_chat_piece(out, size, at, row->generation, n_word);
    }
    return at;
}

/* The template for the parameters. */
static gpt_result gpti_chat_settle(gpti_chat *c, const gpt_model *m, const gpt_message *msg, size_t n_msg,
                                   const gpt_chat_params *params, const gpti_mem *mem, gpt_error *err) {
    static const gpt_chat_params none = { NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, 0 };
    gpti_chat_row rows[GPTI_N_CHAT], own;
    const char *turn[3];
    size_t i, n_row = gpti_list_chats(rows);
    char *out;
    memset(c, 0, sizeof *c);
    memset(&own, 0, sizeof own);
    c->params = params = params ? params : &none;
    c->m = m; c->msg = msg; c->n_msg = n_msg;
    if (!gpti_chat_date_ok(params->date))
        return gpti_fail(err, GPT_E_ARG, "chat: expected a date of the form 2025-01-31, found \"%s\"", params->date);
    for (i = 0; i < n_msg; i++)
        if (!msg || (!msg[i].json && (!msg[i].role || !msg[i].content)))
            return gpti_fail(err, GPT_E_ARG, "chat: message %llu: role and content must not be NULL", (gpti_ull)i);
    if (!n_msg && !params->variables) return gpti_fail(err, GPT_E_ARG, "chat: no messages");
    if ((params->jinja != NULL) + (params->family != NULL) + (params->user || params->assistant) > 1 ||
        ((params->system || params->generation) && !params->user && !params->assistant))
        return gpti_fail(err, GPT_E_ARG, "chat: expected one of jinja, family, and own strings for user and assistant");
    if (params->jinja) c->source = gpti_str_of(params->jinja);
    else if (params->family && strcmp(params->family, "jinja")) {
        for (i = 0; i < n_row && !gpti_in_list(rows[i].names, gpti_str_of(params->family)); i++) {}
        if (i == n_row)
            return gpti_fail(err, GPT_E_ARG, "chat: this version does not know the family \"%s\"", params->family);
        own = rows[i];
    } else if (params->user || params->assistant) {
        turn[0] = params->user; turn[1] = params->assistant; turn[2] = params->system ? params->system : "\1{text}\n\n";
        for (i = 0; i < 3; i++) {
            if (!turn[i] || (!strstr(turn[i], "{text}") && !strstr(turn[i], "{text|trim}")))
                return gpti_fail(err, GPT_E_ARG, "chat: %s: expected {text} somewhere, where the message goes",
                                 i == 0 ? "user" : i == 1 ? "assistant" : "system");
            if (strstr(turn[i], "{bos}")) own.head = "";
        }
        own.user = turn[0]; own.assistant = turn[1]; own.system = turn[2];
        own.generation = params->generation ? params->generation : "";
        if (!own.head) own.head = "{{ bos_token if add_bos_token }}";
    } else {
        c->source = gpti_str_of(m && m->info.chat_template ? m->info.chat_template : "");
        c->from_file = 1;
        if (!c->source.n)
            return gpti_fail(err, GPT_E_UNSUPPORTED, "chat: the file has no chat template; name a family, or give one "
                             "as jinja, or the turns as user = \"<|user|>{text}<|end|>\" and assistant");
    }
    if (own.user) {
        c->source.n = gpti_chat_compose(&own, NULL, 0);
        c->own = out = (char *)gpti_alloc_raw(mem, c->source.n);
        if (!out) return gpti_fail(err, GPT_E_MEMORY, "chat: out of memory");
        gpti_chat_compose(&own, out, c->source.n);
        c->source.p = out;
    }
    c->tight = gpti_str_find(c->source, "[/INST]") && !gpti_str_find(c->source, " [/INST]");
    return GPT_OK;
}

static void gpti_chat_free(gpti_chat *c, const gpti_mem *mem) { gpti_j_free(&c->j); gpti_free(mem, c->own); }

static void gpti_chat_name(gpti_jinja *j, const char *name, gpti_jval v) {
    gpti_j_bind(j, gpti_j_name(j, gpti_str_of(name)), v);
}

/* Whose message it is: 0 the system's, 1 the user's, 2 the assistant's, -1 another's. */
static int gpti_chat_role(const gpt_message *m) {
    char role[16] = "";
    if (!m->json) { if (strlen(m->role) < sizeof role) memcpy(role, m->role, strlen(m->role) + 1); }
    else if (gpt_json_get(m->json, strlen(m->json), "role", role, sizeof role, NULL) != 's') role[0] = 0;
    if (!strcmp(role, "system") || !strcmp(role, "developer")) return 0;
    if (!strcmp(role, "user")) return 1;
    return strcmp(role, "assistant") ? -1 : 2;
}

/* Roles that templates know may be a part of control tokens, as in '<|' + role + '|>'; no other content. */
static void gpti_chat_mark_roles(gpti_jinja *j) {
    static const char known[] = "system user assistant tool developer function ipython observation environment model "
        "tool_response tool_results";
    const gpti_jval list = gpti_j_load(j, gpti_j_name(j, gpti_str_of("messages")));
    const gpti_jval key = gpti_j_cstring(j, "role", 1);
    size_t i, at;
    for (i = 0; gpti_j_is_list(list) && i < list.n && !j->fail; i++) {
        const gpti_jval m = j->val[list.u.at + i];
        at = m.kind == GPTI_J_DICT ? gpti_j_find_key(j, m, key) : 0;
        if (at && j->val[at].kind == GPTI_J_STR && gpti_in_list(known, gpti_j_str(j, j->val[at])))
            memset(j->own + j->val[at].u.at, 1, j->val[at].n);
    }
}

/* Renders the conversation: the text is c->j.out. */
static gpt_result gpti_chat_render(gpti_chat *c, const gpti_mem *mem, gpt_error *err) {
    gpti_jinja *j = &c->j;
    const gpt_chat_params *p = c->params;
    const int begin = c->n_msg && !gpti_chat_role(&c->msg[0]);
    const gpti_tokenizer *t = c->m ? &c->m->tok : NULL;
    gpti_str bos = gpti_str_of("<s>"), eos = gpti_str_of("</s>");
    size_t i, more = p->variables ? strlen(p->variables) : 0, n;
    gpti_jval v;
    gpti_j_free(j);
    for (i = 0; i < c->n_msg; i++)
        more += c->msg[i].json ? strlen(c->msg[i].json) : 64 + strlen(c->msg[i].role) + strlen(c->msg[i].content);
    gpti_j_init(j, c->source, more, p->date, mem, err);
    if (t) { bos = gpti_tokenizer_piece(t, t->bos); eos = gpti_tokenizer_piece(t, t->eos); }
    gpti_chat_name(j, "bos_token", gpti_j_string(j, bos.p, bos.n, 1));
    gpti_chat_name(j, "eos_token", gpti_j_string(j, eos.p, eos.n, 1));
    gpti_chat_name(j, "add_bos_token", gpti_j_bool(t && t->add_bos));
    gpti_chat_name(j, "add_generation_prompt", gpti_j_bool(!p->common));
    gpti_chat_name(j, "tools", gpti_j_none());
    gpti_chat_name(j, "documents", gpti_j_none());
    for (i = n = 0; i < c->n_msg + c->n_more && !j->fail; i++) {
        const gpt_message *m = i < c->n_msg ? &c->msg[i] : &c->more[i - c->n_msg];
        if (i >= (size_t)begin && i < (size_t)begin + c->n_drop) continue;
        if (m->json) {
            v = gpti_j_from_json(j, gpti_str_of(m->json), "a message");
            if (v.kind != GPTI_J_DICT) gpti_j_fail(j, GPT_E_ARG, "a message's json is no object");
            gpti_j_push(j, v);
        } else {
            gpti_j_push(j, gpti_j_cstring(j, "role", 1)); gpti_j_push(j, gpti_j_cstring(j, m->role, 0));
            gpti_j_push(j, gpti_j_cstring(j, "content", 1)); gpti_j_push(j, gpti_j_cstring(j, m->content, 0));
            gpti_j_push(j, gpti_j_make(j, GPTI_J_DICT, 4));
        }
        n++;
    }
    v = gpti_j_make(j, GPTI_J_LIST, n);
    if (n) gpti_chat_name(j, "messages", v);
    if (p->variables && !j->fail) {
        v = gpti_j_from_json(j, gpti_str_of(p->variables), "variables");
        if (v.kind != GPTI_J_DICT) gpti_j_fail(j, GPT_E_ARG, "variables: expected a JSON object");
        for (i = 0; i < v.n && !j->fail; i++)
            gpti_j_bind(j, gpti_j_name(j, gpti_j_str(j, j->val[v.u.at + 2 * i])), j->val[v.u.at + 2 * i + 1]);
    }
    if (!j->fail) gpti_chat_mark_roles(j);
    if (!j->fail) gpti_j_compile(j);
    if (!j->fail) gpti_j_run(j);
    return j->fail;
}

/* The rendered text to ids. */
static gpt_result gpti_chat_encode(const gpti_chat *c, gpt_token *ids, size_t max, size_t *n_id, gpti_scratch *scratch,
                                   const gpti_mem *mem, gpt_error *err) {
    gpti_encoder e;
    gpt_result r;
    memset(&e, 0, sizeof e);
    e.t = &c->m->tok; e.ids = ids; e.max = max; e.mem = mem; e.err = err;
    e.buf = (char *)scratch; e.cap = scratch ? sizeof *scratch : 0;
    e.tight = c->tight;
    if (!c->from_file) e.marker = c->source;
    r = gpti_encode_text(&e, c->j.n_out ? c->j.out : "", c->j.out_own, c->j.n_out, GPTI_TOK_NO_EOS);
    gpti_free(mem, e.own);
    *n_id = r ? 0 : e.n;
    return r;
}

/* What was rendered, as ids or bytes, in memory for the caller to free. */
static gpt_result gpti_chat_take(const gpti_chat *c, int tokens, void **out, size_t *n, const gpti_mem *mem,
                                 gpt_error *err) {
    const size_t most = (tokens ? GPTI_TOK_GROW + 1 : 1) * c->j.n_out + 1;
    *out = gpti_alloc_n(mem, most, tokens ? sizeof(gpt_token) : 1);
    if (!*out) return gpti_fail(err, GPT_E_MEMORY, "chat: out of memory");
    if (tokens) return gpti_chat_encode(c, (gpt_token *)*out, most, n, NULL, mem, err);
    *n = c->j.n_out;
    if (*n) memcpy(*out, c->j.out, *n);
    return GPT_OK;
}

/* What every conversation begins with that goes on from this one: renders three of them and compares. */
static gpt_result gpti_chat_common(gpti_chat *c, int tokens, void **out, size_t *n, const gpti_mem *mem,
                                   gpt_error *err) {
    const gpt_message talk[2][4] = {
        { { "assistant", "a", NULL }, { "user", "a", NULL }, { "assistant", "a", NULL }, { "user", "a", NULL } },
        { { "assistant", "0. Z", NULL }, { "user", "0. Z", NULL }, { "assistant", "0. Z", NULL },
            { "user", "0. Z", NULL } } };
    const int after = c->n_msg ? gpti_chat_role(&c->msg[c->n_msg - 1]) == 1 : 0;
    const size_t size = tokens ? sizeof(gpt_token) : 1;
    gpt_result r;
    int i;
    for (i = 0; i < 3; i++) {           /* the next turn of two texts, and several turns */
        void *other = NULL;
        size_t k = 0, m = 0;
        c->more = talk[i & 1] + !after;
        c->n_more = after ? i == 2 ? 4 : 2 : i == 2 ? 3 : 1;
        GPTI_TRY(gpti_chat_render(c, mem, err));
        r = i ? gpti_chat_take(c, tokens, &other, &m, mem, err) : gpti_chat_take(c, tokens, out, n, mem, err);
        while (k < m && k < *n && !memcmp((char *)*out + k * size, (char *)other + k * size, size)) k++;
        if (i) *n = k;
        gpti_free(mem, other);
        if (r) return r;
    }
    return GPT_OK;
}

static const gpti_mem *gpti_chat_mem(const gpt_model *m) {
    static const gpti_mem none = { NULL, NULL, NULL };
    return m ? &m->mem : &none;
}

GPT_API const char *gpt_chat_family(const gpt_model *m) {
    return m && m->info.chat_template && *m->info.chat_template ? "jinja" : NULL;
}

/* gpt_chat_format and gpt_chat_tokenize: out has room for max bytes or ids. */
static gpt_result gpti_chat_give(const gpt_model *m, const gpt_message *messages, size_t n_message,
    const gpt_chat_params *chat, int tokens, void *out, size_t max, size_t *n, gpt_error *err) {
    const gpti_mem *mem = gpti_chat_mem(m);
    void *common = NULL;
    gpti_chat c;
    gpt_result r = gpti_chat_settle(&c, m, messages, n_message, chat, mem, err);
    *n = 0;
    if (!r && c.params->common) r = gpti_chat_common(&c, tokens, &common, n, mem, err);
    else if (!r) {
        r = gpti_chat_render(&c, mem, err);
        if (!r && tokens) r = gpti_chat_encode(&c, (gpt_token *)out, max, n, NULL, mem, err);
        else *n = c.j.n_out;
    }
    if (r) *n = 0;
    else if (gpti_min(*n, max) && (common || !tokens))
        memcpy(out, common ? common : c.j.out, gpti_min(*n, max) * (tokens ? sizeof(gpt_token) : 1));
    gpti_free(mem, common);
    gpti_chat_free(&c, mem);
    return r;
}

GPT_API gpt_result gpt_chat_format(const gpt_model *m, const gpt_message *messages, size_t n_message,
    const gpt_chat_params *chat, char *text, size_t size, size_t *n, gpt_error *err) {
    gpti_clear(err);
    if (n) *n = 0;
    if (!n || (size && !text))
        return gpti_fail(err, GPT_E_ARG, "gpt_chat_format: n must not be NULL, nor text with a size");
    return gpti_chat_give(m, messages, n_message, chat, 0, text, size, n, err);
}

GPT_API gpt_result gpt_chat_tokenize(const gpt_model *m, const gpt_message *messages, size_t n_message,
    const gpt_chat_params *chat, gpt_token *ids, size_t max, size_t *n, gpt_error *err) {
    gpti_clear(err);
    if (n) *n = 0;
    if (!m || !n || (max && !ids))
        return gpti_fail(err, GPT_E_ARG, "gpt_chat_tokenize: model and n must not be NULL, nor ids with a max");
    return gpti_chat_give(m, messages, n_message, chat, 1, ids, max, n, err);
}

/* The ids of the conversation, in memory for the caller to free. A byte is at most GPTI_TOK_GROW ids and one
 * for the space put in front of it. */
static gpt_result gpti_chat_ids(gpt_session *s, gpti_chat *c, gpt_token **ids, size_t *n, gpt_error *err) {
    const gpti_mem *mem = &s->m->mem;
    size_t most = s->n_ctx;
    *ids = NULL;
    GPTI_TRY(gpti_chat_render(c, mem, err));
    if (c->j.n_out < most / (GPTI_TOK_GROW + 1)) most = (GPTI_TOK_GROW + 1) * c->j.n_out + 1;
    *ids = (gpt_token *)gpti_alloc_raw(mem, most * sizeof **ids);
    if (!*ids) return gpti_fail(err, GPT_E_MEMORY, "chat: out of memory for %llu tokens", (gpti_ull)most);
    GPTI_TRY(gpti_chat_encode(c, *ids, most, n, s->w->scratch, mem, err));
    if (*n > most)
        return gpti_fail(err, GPT_E_CONTEXT, "the conversation's %llu tokens do not fit the context of "
                         "%llu", (gpti_ull)*n, (gpti_ull)s->n_ctx);
    return *n ? GPT_OK : gpti_fail(err, GPT_E_ARG, "chat: the conversation is empty");
}

static uint64_t gpti_chat_digest(const gpti_chat *c, size_t begin, size_t n) {
    uint64_t h = 0;
    for (; n-- > 0; begin++) {
        const char *p = c->msg[begin].json ? c->msg[begin].json : c->msg[begin].content;
        h = gpti_digest(h, p, strlen(p));
    }
    return h;
}

/* The same with the first n_drop messages left out; 1: then `want` tokens are free. Others *ids are given back. */
static int gpti_chat_fits(gpt_session *s, gpti_chat *c, size_t n_drop, size_t want, gpt_token **ids, size_t *n,
    gpt_result *r, gpt_error *err) {
    gpti_free(&s->m->mem, *ids);
    c->n_drop = n_drop;
    *r = gpti_chat_ids(s, c, ids, n, err);
    return !*r && *n + want <= s->n_ctx;
}

/* The same, with turns left out as chat wants it, no more than have to be: as a long conversation takes long to render,
 * ever more are tried, then what lies between the last two. *n_all: with those that were left out before. */
static gpt_result gpti_chat_fit(gpt_session *s, gpti_chat *c, gpt_token **ids, size_t *n, size_t *n_all,
    gpt_error *err) {
    const gpt_chat_params *chat = c->params;
    const size_t begin = c->n_msg && !gpti_chat_role(&c->msg[0]);
    const size_t reserve = gpti_min(chat->reserve ? chat->reserve : s->n_ctx / 2, s->n_ctx);
    size_t low = 0, high, top, at, step = 1, last = c->n_msg ? c->n_msg - begin - 1 : 0;        /* the last one stays */
    gpt_result r;
    int fits;
    if (chat->drop && s->n_cut <= last && s->cut_digest == gpti_chat_digest(c, begin, s->n_cut)) low = s->n_cut;
    fits = gpti_chat_fits(s, c, low, reserve / 2, ids, n, &r, err);
    *n_all = *n;
    if (chat->drop && !fits) {                  /* low are too few, from last on there is no other turn */
        while (last > 0 && gpti_chat_role(&c->msg[begin + last]) != 1) last--;
        for (; !fits && low < last && (!r || r == GPT_E_CONTEXT); step *= 2) {
            for (at = gpti_min(low + step, last); gpti_chat_role(&c->msg[begin + at]) != 1; at++) {}
            fits = gpti_chat_fits(s, c, at, reserve, ids, n, &r, err);
            if (!fits) low = at;
        }
        high = top = fits ? c->n_drop : 0;      /* high do, no turn begins from top to there */
        while (low + 1 < top && (!r || r == GPT_E_CONTEXT)) {
            const size_t middle = low + (top - low) / 2;
            for (at = middle; at < high && gpti_chat_role(&c->msg[begin + at]) != 1; at++) {}
            if (at == high) top = middle;
            else if (gpti_chat_fits(s, c, at, reserve, ids, n, &r, err)) high = top = at;
            else low = at;
        }
        if (fits && c->n_drop != high && (!r || r == GPT_E_CONTEXT))
            gpti_chat_fits(s, c, high, reserve, ids, n, &r, err);
    }
    if (!r) gpti_clear(err);
    return r;
}

static const char *gpti_str_last(gpti_str s, const char *what) {        /* the last place of what in s, or NULL */
    const char *p, *last = NULL;
    for (; (p = gpti_str_find(s, what)) != NULL; s.n -= (size_t)(p + 1 - s.p), s.p = p + 1) last = p;
    return last;
}

/* Does the answer begin with a thinking part? What the template has written last tells: it has begun one, or ended
 * one, or neither: then the model may. A constraint waits for its end. */
static int gpti_chat_thought(const gpti_chat *c, int *thought) {
    gpti_str tail = { "", 0 };
    const char *open, *close;
    size_t i, k;
    for (i = 0; i < GPTI_N_THOUGHT && !(gpti_str_find(c->source, gpti_thoughts[i].open) &&
         (i == GPTI_THOUGHT_CHANNEL || gpti_str_find(c->source, gpti_thoughts[i].close))); i++) {}
    *thought = 0;
    if (i == GPTI_N_THOUGHT) return GPTI_THINK_NONE;
    for (k = c->j.n_out; k > 0 && c->j.out_own[k - 1]; k--) {}
    if (c->j.n_out) { tail.p = c->j.out + k; tail.n = c->j.n_out - k; }
    open = gpti_str_last(tail, gpti_thoughts[i].open); close = gpti_str_last(tail, gpti_thoughts[i].close);
    *thought = (int)i;
    return open && (!close || close < open) ? GPTI_THINK_INSIDE : close ? GPTI_THINK_NONE : GPTI_THINK_MAY_BEGIN;
}

static gpt_result gpti_chat_begin(gpt_session *s, const gpt_message *messages, size_t n_message,
    const gpt_chat_params *chat, const gpt_generate_params *params, gpt_text_fn fn, void *user, gpt_error *err) {
    gpti_chat c;
    gpt_token *ids = NULL;
    size_t n = 0, n_all = 0, keep = 0, at;
    int think = GPTI_THINK_NONE, thought = 0, waits;
    gpti_word mark;
    uint16_t need[257];
    gpt_result r = gpti_chat_settle(&c, s->m, messages, n_message, chat, &s->m->mem, err);
    if (!r && c.params->common) r = gpti_fail(err, GPT_E_ARG,
        "chat: common is for gpt_chat_format and gpt_chat_tokenize");
    if (!r && params) r = gpti_stop_check(params->stop, params->n_stop, err);
    if (!r) r = gpti_check_whole(s, 0, 1, err);
    if (!r) r = gpti_chat_fit(s, &c, &ids, &n, &n_all, err);
    if (!r) think = gpti_chat_thought(&c, &thought);
    waits = think == GPTI_THINK_INSIDE || (think && thought == GPTI_THOUGHT_CHANNEL);
    if (!r && params) {
        gpti_word_set(&mark, gpti_thoughts[thought].close, waits ? strlen(gpti_thoughts[thought].close) : 0);
        gpti_mark_weigh(s, &mark, need);
        r = gpti_con_fits(params, need[0], s->n_ctx - gpti_min(n, s->n_ctx), err);
    }
    if (!r) {
        for (keep = 0; keep < n - 1 && keep < s->n_token && ids[keep] == s->token[keep]; keep++) {}
        at = gpti_most_tokens(s, gpti_held_before(s, keep));
        if (n > at)
            r = gpti_fail(err, GPT_E_CONTEXT, "the conversation's %llu tokens do not fit: there is room for %llu",
                          (gpti_ull)n, (gpti_ull)at);
        at = gpti_min(keep, s->n_past);
        if (!r) r = gpti_rewind(s, keep, err);
        if (!r) r = gpti_append(s, ids + keep, n - keep, s->n_past, err);
        if (s->n_past < at) keep = s->n_past;   /* its window was gone: all again */
    }
    if (!r) {
        memset(&s->gen->stream, 0, sizeof s->gen->stream);
        r = gpti_begin(s, NULL, params, fn, user, err);
    }
    if (!r) {
        const int begin = n_message && !gpti_chat_role(&messages[0]);
        s->n_dropped = (c.n_drop ? s->n_dropped : 0) + (n_all - n); s->n_cut = c.n_drop;
        s->cut_digest = gpti_chat_digest(&c, (size_t)begin, c.n_drop);
        s->gen->n_prompt = n - keep; s->n_committed = 0;
        /* gpt-oss: tokens that part an answer are handed out */
        s->gen->show = gpti_str_find(c.source, "<|channel|>") != NULL;
        s->gen->think = think; s->gen->thought = thought;
        if (waits) gpti_con_wait(s, gpti_thoughts[thought].close);
        /* a space behind the last marker is the marker's: no answer begins with it */
        if (s->m->tok.add_space_prefix && !c.tight && gpti_tokenizer_is_special(&s->m->tok, s->token[s->n_token - 1]))
            s->gen->edge = 1;
    }
    gpti_free(&s->m->mem, ids);
    gpti_chat_free(&c, &s->m->mem);
    return r;
}

GPT_API gpt_result gpt_chat_begin(gpt_session *s, const gpt_message *messages, size_t n_message,
    const gpt_chat_params *chat, const gpt_generate_params *params, gpt_text_fn fn, void *user, gpt_error *err) {
    GPTI_TRY(gpti_enter(s, "gpt_chat_begin", GPTI_IDLE, err));
    return gpti_leave(s, gpti_chat_begin(s, messages, n_message, chat, params, fn, user, err));
}

GPT_API gpt_result gpt_chat(gpt_session *s, const gpt_message *messages, size_t n_message,
    const gpt_chat_params *chat, const gpt_generate_params *params, gpt_text_fn fn, void *user, gpt_error *err) {
    gpt_result r;
    GPTI_TRY(gpti_enter(s, "gpt_chat", GPTI_IDLE, err));
    r = gpti_chat_begin(s, messages, n_message, chat, params, fn, user, err);
    return gpti_leave(s, r ? r : gpti_run(s, err));
}

/* ---- data: chat templates for files that have none ---- */

#define GPTI_BOS "{{ bos_token }}"
#define GPTI_MAY "{{ bos_token if add_bos_token }}"     /* as the file says, where published templates have none */
#define GPTI_FOLD "\1{text}\n\n"
#define GPTI_ML(role) "<|im_start|>" role "\n{text}<|im_end|>\n"
#define GPTI_ML_ROW(preset) GPTI_MAY "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\n" preset \
    "<|im_end|>\n' }}{% endif %}", GPTI_ML("system"), GPTI_ML("user"), GPTI_ML("assistant"), "<|im_start|>assistant\n"
#define GPTI_L3(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define GPTI_L3_ROW(head) GPTI_BOS head, GPTI_L3("system") "{text|trim}<|eot_id|>", GPTI_L3("user") \
    "{text|trim}<|eot_id|>", GPTI_L3("assistant") "{text|trim}<|eot_id|>", GPTI_L3("assistant")
#define GPTI_DS(word) "<\xEF\xBD\x9C" word "\xEF\xBD\x9C>"
#define GPTI_DS_ROW(answer, think) GPTI_BOS, "{text}", GPTI_DS("User") "{text}", GPTI_DS("Assistant") answer \
    GPTI_DS("end\xE2\x96\x81of\xE2\x96\x81sentence"), GPTI_DS("Assistant") think
#define GPTI_GRANITE(role) "<|start_of_role|>" role "<|end_of_role|>"
#define GPTI_GRANITE_ROW(head) GPTI_MAY head, GPTI_GRANITE("system") "{text}<|end_of_text|>\n", GPTI_GRANITE("user") \
    "{text}<|end_of_text|>\n", GPTI_GRANITE("assistant") "{text}<|end_of_text|>\n", GPTI_GRANITE("assistant")
#define GPTI_COHERE(role, text) "<|START_OF_TURN_TOKEN|><|" role "_TOKEN|>" text

static size_t gpti_list_chats(gpti_chat_row out[GPTI_N_CHAT]) {
    const gpti_chat_row rows[] = {
        { "chatml", GPTI_MAY, GPTI_ML("system"), GPTI_ML("user"), GPTI_ML("assistant"), "<|im_start|>assistant\n" },
        { "qwen2", GPTI_ML_ROW("You are a helpful assistant.") },
        { "qwen2.5", GPTI_ML_ROW("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.") },
        { "smollm2", GPTI_ML_ROW("You are a helpful AI assistant named SmolLM, trained by Hugging Face") },
        { "qwen3", GPTI_MAY, GPTI_ML("system"), GPTI_ML("user"), "<|im_start|>assistant\n{answer|line}<|im_end|>\n",
          "<|im_start|>assistant\n" },
        { "llama2", GPTI_BOS, "\1<<SYS>>\n{text}\n<</SYS>>\n\n", "[INST] {text|trim} [/INST]",
          " {text|trim} {eos}{bos}", "" },
        { "llama3", GPTI_L3_ROW("") },
        { "llama3.1 llama3.2 llama3.3", GPTI_L3_ROW("{{ '" GPTI_L3("system") "Cutting Knowledge Date: December 2023\n"
          "Today Date: ' ~ (strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024') ~ '\n\n' }}"
          "{% if messages[0].role == 'system' %}{{ messages[0].content|trim }}{% set messages = messages[1:] %}"
          "{% endif %}"
          "<|eot_id|>") },
        { "mistral-v1 mistral-v0.1 mistral-v0.2 mistral mixtral", GPTI_BOS, GPTI_FOLD, "[INST] {text} [/INST]",
          "{text}{eos}", "" },
        { "mistral-v3", GPTI_BOS, GPTI_FOLD, "[INST] {text}[/INST]", " {text|trim}{eos}", "" },
        { "mistral-v3-tekken mistral-nemo", GPTI_BOS, GPTI_FOLD, "[INST]{text}[/INST]", "{text}{eos}", "" },
        { "mistral-v7", GPTI_BOS, "[SYSTEM_PROMPT] {text}[/SYSTEM_PROMPT]", "[INST] {text}[/INST]", " {text}{eos}",
          "" },
        { "mistral-v7-tekken mistral-small", GPTI_BOS, "[SYSTEM_PROMPT]{text}[/SYSTEM_PROMPT]", "[INST]{text}[/INST]",
          "{text}{eos}", "" },
        { "gemma gemma2 gemma3", GPTI_BOS, GPTI_FOLD, "<start_of_turn>user\n{text|trim}<end_of_turn>\n",
          "<start_of_turn>model\n{text|trim}<end_of_turn>\n", "<start_of_turn>model\n" },
        { "phi3 phi3.5", GPTI_MAY, "<|system|>\n{text}<|end|>\n", "<|user|>\n{text}<|end|>\n",
          "<|assistant|>\n{text}<|end|>\n", "<|assistant|>\n" },
        { "phi4-mini", GPTI_MAY, "<|system|>{text}<|end|>", "<|user|>{text}<|end|>", "<|assistant|>{text}<|end|>",
          "<|assistant|>" },
        { "phi4", GPTI_MAY, "<|im_start|>system<|im_sep|>{text}<|im_end|>",
          "<|im_start|>user<|im_sep|>{text}<|im_end|>", "<|im_start|>assistant<|im_sep|>{text}<|im_end|>",
          "<|im_start|>assistant<|im_sep|>" },
        { "zephyr tinyllama stablelm2", GPTI_MAY, "<|system|>\n{text}{eos}\n", "<|user|>\n{text}{eos}\n",
          "<|assistant|>\n{text}{eos}\n", "<|assistant|>\n" },
        { "olmo2 falcon3 tulu3", GPTI_MAY, "<|system|>\n{text}\n", "<|user|>\n{text}\n", "<|assistant|>\n{text}{eos}\n",
          "<|assistant|>\n" },
        { "deepseek-v2", GPTI_BOS, "{text}\n\n", "User: {text}\n\n", "Assistant: {text}{eos}", "Assistant:" },
        { "deepseek-v3 deepseek-v2.5", GPTI_DS_ROW("{text}", "") },
        { "deepseek-r1", GPTI_DS_ROW("{answer}", "<think>\n") },
        { "granite granite3", GPTI_GRANITE_ROW("") },
        { "granite3.1", GPTI_GRANITE_ROW("{% if messages[0].role != 'system' %}{{ '" GPTI_GRANITE("system")
          "Knowledge Cutoff Date: April 2024.\n' ~ (\"Today's Date: \" ~ strftime_now('%B %d, %Y') ~ '.\n' if "
          "strftime_now is defined) ~ 'You are Granite, developed by IBM. You are a helpful AI "
          "assistant.<|end_of_text|>\n' }}{% endif %}") },
        { "command-r", GPTI_BOS, GPTI_COHERE("SYSTEM", "{text|trim}<|END_OF_TURN_TOKEN|>"), GPTI_COHERE("USER",
          "{text|trim}<|END_OF_TURN_TOKEN|>"), GPTI_COHERE("CHATBOT", "{text|trim}<|END_OF_TURN_TOKEN|>"),
          GPTI_COHERE("CHATBOT", "") },
        { "gpt-oss harmony", GPTI_MAY "{{ '<|start|>system<|message|>You are ChatGPT, a large language model trained "
          "by OpenAI.\nKnowledge cutoff: 2024-06\n' ~ ('Current date: ' ~ strftime_now('%Y-%m-%d') ~ '\n' "
          "if strftime_now is defined) ~ '\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. "
          "Channel must be included for every message.<|end|>' }}",
          "<|start|>developer<|message|># Instructions\n\n{text}\n\n<|end|>",
          "<|start|>user<|message|>{text}<|end|>", "<|start|>assistant<|channel|>final<|message|>{final}<|end|>",
          "<|start|>assistant" },
        { "openchat", GPTI_BOS, "GPT4 Correct System: {text}<|end_of_turn|>",
          "GPT4 Correct User: {text}<|end_of_turn|>", "GPT4 Correct Assistant: {text}<|end_of_turn|>",
          "GPT4 Correct Assistant:" },
        { "vicuna", GPTI_BOS, "{text} ", "USER: {text} ", "ASSISTANT: {text}{eos}", "ASSISTANT:" }
    };
    memcpy(out, rows, sizeof rows);
    return sizeof rows / sizeof *rows;
}

GPTI_COLD_END
GPTI_COLD_END

/* ======================================================================
 * [SIMD] Kernel sets: the same sums, more lanes
 * ====================================================================
 * A reader who stops here has missed nothing but speed: every set computes exactly what [KERNELS] states, to the bit.
 * A page for each set names its instructions, as gpti_add_avx512. The loops that use them, the last part of this file,
 * are compiled once for each page, which includes the file again with GPTI_KERNEL_SET = its suffix. In the loops
 *   GPTI_W(add)    is gpti_add_avx512, what all sets of one vector width share, and
 *   GPTI_K(dot)    is gpti_dot_avx512_vnni, the set's own.
 */
#ifndef GPT_SELF
#  define GPT_SELF "gpt.h"
#endif
#if defined(GPTI_X86) || defined(GPTI_NEON) || defined(GPTI_WASM)
#define GPTI_CAT2(a, b) a##b
#define GPTI_CAT(a, b) GPTI_CAT2(a, b)
#define GPTI_K(name) GPTI_CAT(gpti_##name, GPTI_KERNEL_SET)
#define GPTI_W(name) GPTI_CAT(gpti_##name, GPTI_WIDTH_OF)
#define GPTI_FN GPTI_K(target) static
#define GPTI_FN_INLINE GPTI_K(target) GPTI_INLINE
#define GPTI_OP(set) gpti_target_##set GPTI_INLINE        /* an operation of a page */
#define GPTI_EACH(i, n) GPTI_UNROLL for (i = 0; i < (n); i++)

/* What products of one token fetch, but floats: name, GPTI_FETCH_. */
#define GPTI_EACH_FETCH(X) X(q8_0, Q8_0) X(q4_0, Q4_0) X(q5_0, Q5_0) X(q4_k, Q4_K) X(q5_k, Q5_K) \
    X(q6_k, Q6_K) X(tile, TILE) X(tile_q8, TILE_Q8) X(tile_2, TILE_2)

GPTI_UNUSED static int gpti_load_i32(const void *p) { int v; memcpy(&v, p, 4); return v; }

/* A product of a few panels and a few tokens. */
typedef struct gpti_product_args {
    const gpti_tile *t;                     /* [panels][GPTI_COLUMNS / 32]                      */
    const uint8_t *const *q;                /* first q of each panel, q_step to the next tile's */
    size_t q_step;
    const float *w[GPTI_STRIP];             /* floats: [columns][16] of each panel              */
    const gpti_xblock *x[GPTI_MOST_TOKENS]; /* first block of each token, ld apart              */
    const float *xf[GPTI_MOST_TOKENS];      /* floats of each token                             */
    float *acc;                             /* [tokens][GPTI_STRIP][16]                         */
    size_t ld, n, n_panel;                  /* n columns                                        */
    int in_row, has_min, zero;              /* in_row: x[i] is x[0] + i                         */
    const uint8_t *next[GPTI_STRIP];  /* weights to come, asked for while multiplying: */
    size_t n_next;                          /* so many bytes per 32 columns                     */
    gpti_scratch *scratch;
} gpti_product_args;
typedef void (*gpti_product)(const gpti_product_args *args);

/* How a single token's product finds the q of a tile; see GPTI_FETCH_. n_scale per tile; bits of q, 8: bytes; q8: q may
 * exceed most_q; packed_scales: d, m from the block too; both nibbles are the tile's; n_line: cache lines of a tile. */
static const struct gpti_fetch { uint8_t n_scale, bits, q8, packed_scales, both, n_line; } gpti_fetches[] = {
    { 0, 0, 0, 1, 0, 0 }, { 0, 0, 0, 1, 0, 0 }, { 0, 0, 0, 1, 0, 0 },   /* F32   F16   BF16     */
    { 1, 8, 1, 1, 0, 9 }, { 1, 4, 0, 1, 1, 5 }, { 1, 5, 0, 1, 1, 6 },   /* Q8_0  Q4_0  Q5_0     */
    { 1, 4, 0, 0, 0, 5 }, { 1, 5, 0, 0, 0, 6 }, { 2, 6, 0, 0, 0, 7 },   /* Q4_K  Q5_K  Q6_K     */
    { 1, 8, 0, 0, 0, 0 }, { 1, 8, 1, 0, 0, 0 }, { 2, 8, 0, 0, 0, 0 }    /* TILE  _Q8   _2       */
};
/* Where the first group of tile j begins, and that of its upper bits. */
GPTI_INLINE size_t gpti_fetch_q(const int kind, size_t j, size_t q_step) {
    if (gpti_fetches[kind].both) return q_step * (j + 1) - 16 * 16;     /* the end of the block */
    if (kind == GPTI_FETCH_Q6_K) return 1024 * (j / 4) + 512 * (j % 2);
    if (kind == GPTI_FETCH_Q4_K) return 16 * 16 + 512 * (j / 2);
    if (kind == GPTI_FETCH_Q5_K) return 16 * 48 + 512 * (j / 2);
    return kind == GPTI_FETCH_Q8_0 ? q_step * j + 16 * 2 : q_step * j;
}
GPTI_INLINE size_t gpti_fetch_high(const int kind, size_t j, size_t q_step) {
    if (kind == GPTI_FETCH_Q5_0) return q_step * (j + 1) - 16 * 20;
    return kind == GPTI_FETCH_Q5_K ? 16 * 16 : 16 * 128 + 512 * (j / 4);
}

/* Memory would be idle during a product: asks for what the panels have ahead at the place of `tile`. */
GPTI_UNUSED static void gpti_prefetch(const gpti_product_args *args, size_t tile, int n_panel) {
    const size_t at = tile * args->n_next;
    size_t i;
    int v;
    for (v = 0; v < n_panel; v++) for (i = 0; i < args->n_next; i += 64) GPTI_PREFETCH(args->next[v] + at + i);
}

/* What a set multiplies with. Products of several tokens take n_tok of them and n_panel panels at a time; the last of a
 * chunk are filled up with repetitions whose sums are dropped. */
typedef struct gpti_matmul_steps {
    int n_panel, n_tok;         /* n_panel 0: any number of panels                              */
    int most_q;                 /* the most q that one_scale and two_scales can take            */
    /* q - zero of n tiles, from q `step` bytes apart; NULL: products subtract zero themselves */
    void (*centre)(gpti_tile *t, const uint8_t *q, size_t step, size_t n, int zero);
    gpti_product f32, f16;      /* weights as floats; f16: of 11 bits, so that products are exact */
    gpti_product one_scale, two_scales;     /* per 32 columns                                   */
    gpti_product q5, q8;        /* one scale: q up to 31 and zero 0; q above most_q             */
    gpti_product single_token[GPTI_N_FETCH];
    gpti_unpack_steps unpack;
    const float *(*widen)(const gpti_format *fmt, const uint8_t *p, size_t n, float *out);
    int packed_panels, tile_panels;     /* at once in single_token: scales from blocks, from tiles */
} gpti_matmul_steps;

/* How the panels of a matrix meet the tokens of a job. */
typedef struct gpti_matmul_plan {
    const gpti_matmul *job;
    const gpti_matmul_steps *set;
    gpti_product product;
    gpti_product_args args;
    gpti_unpack_steps unpack;
    int single, floats, centre, packed_q, packed_scales, ask;  /* ask: the product asks for the weights to come */
    size_t n_panel, n_strip;            /* panels of a product; those that are prepared together */
    size_t n_tok, n_col;                /* tokens of a product; columns prepared at a time      */
    size_t panel_bytes, chunk_bytes, end, bytes;    /* bytes: from a chunk to the next          */
    const uint8_t *q[GPTI_STRIP];
    const uint8_t *ahead[GPTI_STRIP];     /* the next chunk, asked for meanwhile, by several tokens */
} gpti_matmul_plan;

/* Step 1: the product, and what it needs. */
static void gpti_matmul_choose(gpti_matmul_plan *p, const gpti_matmul_steps *set, const gpti_matmul *job) {
    const gpti_format *fmt = job->w.fmt;
    const int single = p->single = job->n_tok == 1, floats = p->floats = fmt->n_scale == 0;
    if (single) p->product = set->single_token[fmt->fetch];
    else if (floats) p->product = fmt->fetch == GPTI_FETCH_F16 ? set->f16 : set->f32;
    else if (fmt->n_scale == 2) p->product = set->two_scales;
    else if (fmt->q_max > set->most_q) p->product = set->q8;
    else p->product = fmt->q_max == 31 && fmt->zero == 0 ? set->q5 : set->one_scale;
    p->job = job; p->set = set;
    p->centre = !single && !floats && set->centre != NULL;
    p->packed_q = single ? fmt->fetch < GPTI_FETCH_TILE : fmt->fetch == GPTI_FETCH_Q8_0 && !p->centre;
    p->packed_scales = single && fmt->fetch > GPTI_FETCH_F32 && fmt->fetch <= GPTI_FETCH_Q5_0;
    p->n_panel = set->n_panel ? (size_t)set->n_panel : 1;
    if (single) p->n_panel = (size_t)(floats || p->packed_scales ? set->packed_panels : set->tile_panels);
    p->n_strip = single || floats ? p->n_panel : (size_t)GPTI_STRIP;
    p->n_tok = single ? 1 : (size_t)set->n_tok;
    p->n_col = p->packed_scales && job->w.packed ? job->w.n_col : GPTI_COLUMNS;  /* all */
    p->panel_bytes = GPTI_PANEL * gpti_row_bytes(fmt, job->w.n_col);
    p->chunk_bytes = GPTI_PANEL * gpti_row_bytes(fmt, GPTI_COLUMNS);
    p->unpack = set->unpack; p->unpack.skip = single ? GPTI_SKIP_FETCHED : GPTI_SKIP_Q8_0;
    p->args.zero = fmt->zero; p->args.has_min = fmt->has_min; p->args.ld = job->ld_xq;
    p->ask = job->w.packed && !job->in_cache && job->n_tok <= p->n_tok;
    p->args.n_next = p->ask ? p->chunk_bytes / (GPTI_COLUMNS / 32) : 0;
    p->args.q_step = p->packed_q ? 16 * (size_t)fmt->block_bytes : sizeof(gpti_tile);
}

/* Step 2: columns [k, k + n) of panel `at`, the np-th of a strip, become what the product takes. */
static void gpti_matmul_prepare(gpti_matmul_plan *p, size_t np, size_t at, size_t k, size_t n) {
    gpti_scratch *scratch = p->args.scratch;
    const gpti_matrix *w = &p->job->w;
    const size_t slice = sizeof scratch->product.packed / (p->floats ? 2 : GPTI_STRIP);
    const uint8_t *b = w->packed ? w->data + at * p->panel_bytes + k / GPTI_COLUMNS * p->chunk_bytes
        : gpti_panel_columns(w, at, k, n, scratch->product.packed + np * slice);
    gpti_tile *t = scratch->product.u.t[np];
    const int zero = w->fmt->zero, q8_0 = w->fmt->fetch == GPTI_FETCH_Q8_0;
    if (!p->packed_scales && p->floats) p->args.w[np] = p->set->widen(w->fmt, b, n, scratch->product.u.w[np][0]);
    else if (!p->packed_scales) gpti_unpack(&p->unpack, b, n / w->fmt->block_len, t, w->fmt);
    if (p->centre && q8_0) p->set->centre(t, b + 16 * 2, 16 * (size_t)w->fmt->block_bytes, n / 32, zero);
    else if (p->centre && zero) p->set->centre(t, t->q, sizeof *t, n / 32, zero);
    p->q[np] = t->q;
    if (p->packed_q) p->q[np] = p->single ? b : b + 16 * 2;
    if (p->single) p->args.next[np] = p->args.n_next > 0 ? b + 3072 : b;
    p->ahead[np] = b + p->bytes;
}

/* Step 3: columns [k, k + n) of the n_here panels from `panel` on by tokens [t0, t0 + n_tok). */
static void gpti_matmul_run(gpti_matmul_plan *p, size_t panel, size_t n_here, size_t k, size_t n, size_t t0,
                            size_t n_tok) {
    const gpti_matmul *job = p->job;
    gpti_product_args *args = &p->args;
    const int last = k + n >= job->w.n_col, ask = !p->single && !p->ask && job->w.packed && !last;
    size_t t, i, np;
    args->n = n;
    args->n_panel = p->set->n_panel || p->single ? p->n_panel : n_here;
    for (t = 0; t < n_tok; t += p->n_tok) {
        args->in_row = job->in_row == NULL && t + p->n_tok <= n_tok;
        for (np = 0; np < n_here && ask; np++)
            for (i = p->bytes * t / n_tok & ~(size_t)63; i < p->bytes * (t + p->n_tok) / n_tok; i += 64)
                GPTI_PREFETCH(p->ahead[np] + i);
        for (i = 0; i < p->n_tok; i++) {
            const size_t at = t + i < n_tok ? t0 + t + i : t0, row = job->in_row != NULL ? job->in_row[at] : at;
            const float *out = job->out + (job->out_row != NULL ? job->out_row[at] : at) * job->ld_out;
            if (p->floats) args->xf[i] = job->x + row * job->ld_x + k;
            else args->x[i] = job->xq + k / 32 * job->ld_xq + row;
            if (p->single || !last) continue;       /* the last sums will soon be written */
            for (np = panel; np < panel + n_here && np < p->end; np++) GPTI_PREFETCH(out + GPTI_PANEL * np);
        }
        for (np = 0; np < n_here; np += args->n_panel) {
            args->t = args->scratch->product.u.t[np];
            args->q = p->q + np;
            for (i = 0; i < args->n_panel && p->ask && !p->single; i++) args->next[i] = p->ahead[np + i];
            args->acc = args->scratch->product.acc[t * GPTI_STRIP + np];
            p->product(args);
        }
    }
}

static void gpti_matmul_panels(const gpti_matmul_steps *set, const gpti_matmul *job, size_t begin, size_t end,
                               gpti_scratch *scratch) {
    float (*acc)[16] = scratch->product.acc;
    const size_t n_col = job->w.n_col;
    size_t panel, next, apart = 1, last = end, t0, n_tok, k, n, np, n_here;
    gpti_matmul_plan p;
    gpti_matmul_choose(&p, set, job);
    p.args.scratch = scratch; p.end = end; next = p.n_strip;
    if (p.single && p.n_panel == 2) {   /* half the range apart: two streams, 24.8 GB/s for 21.2 */
        apart = (end - begin + 1) / 2; last = begin + apart; next = 1;
    }
    for (panel = begin; panel < last; panel += next) {
        n_here = p.n_strip;
        if (next > 1 && end - panel < n_here) n_here = (end - panel + p.n_panel - 1) / p.n_panel * p.n_panel;
        for (t0 = 0; t0 < job->n_tok; t0 += n_tok) {
            n_tok = gpti_min(job->n_tok - t0, GPTI_TOKENS);
            memset(acc, 0, (n_tok + p.n_tok - 1) * GPTI_STRIP * sizeof *acc);
            for (k = 0; k < n_col; k += n) {
                n = gpti_min(n_col - k, p.n_col);
                p.bytes = k + n < n_col ? p.chunk_bytes : p.panel_bytes - k / GPTI_COLUMNS * p.chunk_bytes;
                for (np = 0; np < n_here; np++)         /* a panel without a partner is its own */
                    gpti_matmul_prepare(&p, np, panel + np * apart < end ? panel + np * apart : panel, k, n);
                gpti_matmul_run(&p, panel, n_here, k, n, t0, n_tok);
            }
            for (np = 0; np < n_here && panel + np * apart < end; np++)
                gpti_matmul_store(job, panel + np * apart, t0, n_tok, acc[np], 16 * GPTI_STRIP);
        }
    }
}

/* So few tokens take the panels one by one, while these are in cache: of two, 5.4 ms for 9.4 (135M, Q4_1). */
enum { GPTI_ONE_BY_ONE = 3, GPTI_ONE_BY_ONE_BYTES = 64 << 10 };
static gpti_matmul gpti_matmul_token(const gpti_matmul *job, size_t t) {
    gpti_matmul one = *job;
    one.n_tok = 1;
    if (job->in_row != NULL) one.in_row += t;
    else { one.x += t * job->ld_x; if (one.xq != NULL) one.xq += t; }
    if (job->out_row != NULL) one.out_row += t; else one.out += t * job->ld_out;
    return one;
}

static void gpti_matmul_set(const gpti_matmul_steps *set, const gpti_matmul *job, size_t begin, size_t end,
                            gpti_scratch *scratch) {
    const int few = job->n_tok > 1 && job->n_tok <= GPTI_ONE_BY_ONE;
    const size_t here = GPTI_ONE_BY_ONE_BYTES / (GPTI_PANEL * gpti_row_bytes(job->w.fmt, job->w.n_col));
    size_t next, t;
    if (!few) gpti_matmul_panels(set, job, begin, end, scratch);
    for (; few && begin < end; begin = next) {
        next = gpti_min(end, begin + gpti_max(here, 2));
        for (t = 0; t < job->n_tok; t++) {
            const gpti_matmul one = gpti_matmul_token(job, t);
            gpti_matmul_panels(set, &one, begin, next, scratch);
        }
    }
}
#endif

#ifdef GPTI_X86
/* What the processor has and the system saves. Intel SDM vol. 2A, CPUID; vol. 1, 14.3 and 15.2. */
enum { GPTI_HAS_AVX2 = 1, GPTI_HAS_AVX_VNNI = 2, GPTI_HAS_AVX512 = 4, GPTI_HAS_AVX512_VNNI = 8, GPTI_HAS_AMX = 16 };
static int gpti_cpu_x86(void) {
    uint32_t a[4] = { 0 }, b[4] = { 0 }, c[4] = { 0 }, xcr;   /* leaves 1, 7.0, 7.1: eax .. edx */
    int has = 0;
#if defined(_MSC_VER)
    __cpuid((int *)a, 0);
    if (a[0] < 7) return 0;
    __cpuid((int *)a, 1); __cpuidex((int *)b, 7, 0);
    if (b[0] >= 1) __cpuidex((int *)c, 7, 1);
    if ((a[2] >> 27 & 1) == 0) return 0;
    xcr = (uint32_t)_xgetbv(0);
#else
    uint32_t high;
    if (!__get_cpuid(1, a, a + 1, a + 2, a + 3) || !__get_cpuid_count(7, 0, b, b + 1, b + 2, b + 3)) return 0;
    if (b[0] >= 1) __get_cpuid_count(7, 1, c, c + 1, c + 2, c + 3);
    if ((a[2] >> 27 & 1) == 0) return 0;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(xcr), "=d"(high) : "c"(0));    /* xgetbv */
    (void)high;
#endif
    if ((xcr & 6) == 6 && (a[2] >> 12 & 1) && (a[2] >> 28 & 3) == 3 && (b[1] >> 5 & 1)) {    /* FMA, AVX F16C, AVX2 */
        has |= GPTI_HAS_AVX2;
        if (c[0] >> 4 & 1) has |= GPTI_HAS_AVX_VNNI;
        if ((xcr & 0xE6) == 0xE6 && (b[1] >> 16 & 3) == 3 && (b[1] >> 30 & 3) == 3) {        /* F DQ, BW VL */
            has |= GPTI_HAS_AVX512;
            if (b[2] >> 11 & 1) has |= GPTI_HAS_AVX512_VNNI;
            if ((b[2] >> 11 & 1) && (xcr >> 17 & 3) == 3 && (b[3] >> 24 & 3) == 3) has |= GPTI_HAS_AMX;
        }
    }
    return has;
}
#define GPTI_LOAD64(p) _mm_loadl_epi64((const __m128i *)(const void *)(p))
#define GPTI_LOAD128(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define GPTI_LOAD256(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))

/* ---- avx2: AVX2, FMA and F16C; every gcc, clang and MSVC has them ---------------------------- */
static int gpti_cpu_avx2(void) { return (gpti_cpu_x86() & GPTI_HAS_AVX2) != 0; }
#define gpti_target_avx2 GPTI_TARGET("avx2,fma,f16c")
typedef __m256i gpti_u8_avx2, gpti_i8_avx2, gpti_i32_avx2, gpti_sum_avx2;
typedef __m256 gpti_f32_avx2;
typedef __m128i gpti_shift_avx2;
enum { gpti_lanes_avx2 = 8, gpti_panels_avx2 = 1, gpti_tokens_avx2 = 4,
       gpti_packed_panels_avx2 = 2, gpti_tile_panels_avx2 = 1, gpti_att_queries_avx2 = 2, gpti_att_vectors_avx2 = 2 };
#define gpti_load_u8_avx2(p) GPTI_LOAD256(p)
#define gpti_store_u8_avx2(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define gpti_set_u8_avx2(c) _mm256_set1_epi8((char)(c))
#define gpti_and_avx2 _mm256_and_si256
#define gpti_or_avx2 _mm256_or_si256
#define gpti_shift_by_avx2 _mm_cvtsi32_si128
#define gpti_right_avx2 _mm256_srl_epi16
#define gpti_left_avx2 _mm256_sll_epi16
#define gpti_table_avx2(p) _mm256_broadcastsi128_si256(GPTI_LOAD128(p))
#define gpti_look_up_avx2 _mm256_shuffle_epi8
#define gpti_four_avx2(p) _mm256_set1_epi32(gpti_load_i32(p))
#define gpti_load_avx2 _mm256_loadu_ps
#define gpti_store_avx2 _mm256_storeu_ps
#define gpti_set_avx2 _mm256_set1_ps
#define gpti_mul_avx2 _mm256_mul_ps
#define gpti_add_avx2 _mm256_add_ps
#define gpti_sub_avx2 _mm256_sub_ps
#define gpti_fma_avx2 _mm256_fmadd_ps
#define gpti_from_i32_avx2 _mm256_cvtepi32_ps
#define gpti_from_u8_avx2(p) _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(GPTI_LOAD64(p)))
#define gpti_from_f16_avx2(p) _mm256_cvtph_ps(GPTI_LOAD128(p))
#define gpti_from_bf16_avx2(p) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(GPTI_LOAD128(p)), 16))

/* Unsigned by signed bytes to 16-bit sums. Started at -centre * (sum of x) they end below 2^15, so a sum that wraps
 * meanwhile does no harm: |q - centre| <= 16 by 127 by 16 columns is 32512 for five bits, <= 32 by 127 by 8 for six.
 * Above: |q - 128| by x with the sign of q - 128, in pairs of at most 128 * 127 * 2 = 32512, to 32-bit sums. */
enum { gpti_most_q_avx2 = 63, gpti_bias_q5_avx2 = 16 };
#define gpti_start_avx2(pairs, centre) _mm256_mullo_epi16(pairs, _mm256_set1_epi16((short)-(centre)))
GPTI_OP(avx2) __m256i gpti_dot_avx2(__m256i s, __m256i w, __m256i x, int centre, const int q8) {
    (void)centre;
    if (!q8) return _mm256_add_epi16(s, _mm256_maddubs_epi16(w, x));
    w = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
    w = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(s, _mm256_madd_epi16(w, _mm256_set1_epi16(1)));
}
GPTI_OP(avx2) __m256i gpti_total_avx2(__m256i s, __m256i pairs, int bias, const int q8) {
    if (q8) return s;
    s = _mm256_madd_epi16(s, _mm256_set1_epi16(1));
    return bias ? _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16((short)bias))) : s;
}

/* The bits of the largest |x| of 32. */
gpti_target_avx2 static uint32_t gpti_top_avx2(const float *x) {
    const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i a = _mm256_and_si256(GPTI_LOAD256(x), mask), b = _mm256_and_si256(GPTI_LOAD256(x + 8), mask);
    __m128i m;
    a = _mm256_max_epi32(a, _mm256_and_si256(GPTI_LOAD256(x + 16), mask));
    b = _mm256_max_epi32(b, _mm256_and_si256(GPTI_LOAD256(x + 24), mask));
    a = _mm256_max_epi32(a, b);
    m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}
/* q and the sums of its halves */
GPTI_OP(avx2) void gpti_store_q_avx2(__m256i q, gpti_xblock *out) {
    __m256i a = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    a = _mm256_add_epi16(a, _mm256_shuffle_epi32(a, 0x4E));
    a = _mm256_add_epi16(a, _mm256_shuffle_epi32(a, 0xB1));
    _mm256_storeu_si256((__m256i *)(void *)out->q, q);
    q = _mm256_permute4x64_epi64(a, 2);
    memcpy(out->sum[1], &a, 4);
    memcpy(out->sum[2], &q, 4);
}
/* q = x * id, rounded to the nearest even */
gpti_target_avx2 static void gpti_round_avx2(const float *x, float id, gpti_xblock *out) {
    const __m256 s = _mm256_set1_ps(id);
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), s));
    __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), s));
    __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16), s));
    __m256i d = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 24), s));
    a = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    gpti_store_q_avx2(_mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)), out);
}
#define GPTI_KERNEL_SET _avx2
#include GPT_SELF

#if GPTI_X86_VNNI
/* ---- avx-vnni: avx2 and a sum of four products; gcc 11, clang 12, Visual Studio 2022 --------- */
static int gpti_cpu_avx_vnni(void) { return (gpti_cpu_x86() & GPTI_HAS_AVX_VNNI) != 0; }
#define gpti_target_avx_vnni GPTI_TARGET("avx2,fma,f16c,avxvnni")
typedef __m256i gpti_sum_avx_vnni;
enum { gpti_most_q_avx_vnni = 255, gpti_bias_q5_avx_vnni = 0 };
#define gpti_start_avx_vnni(pairs, centre) _mm256_madd_epi16(pairs, _mm256_set1_epi16((short)-(centre)))
#define gpti_dot_avx_vnni(s, w, x, centre, q8) _mm256_dpbusd_avx_epi32(s, w, x)
#define gpti_total_avx_vnni(s, pairs, bias, q8) (s)
#define GPTI_KERNEL_SET _avx_vnni
#define GPTI_WIDTH_OF _avx2
#define GPTI_SINGLE_TOKEN_OF _avx2
#include GPT_SELF
#endif

/* ---- avx512: AVX-512 F, BW, VL and DQ -------------------------------------------------------- */
static int gpti_cpu_avx512(void) { return (gpti_cpu_x86() & GPTI_HAS_AVX512) != 0; }
#define GPTI_AVX512 "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"
#define gpti_target_avx512 GPTI_TARGET(GPTI_AVX512)
typedef __m512i gpti_u8_avx512, gpti_i8_avx512, gpti_i32_avx512, gpti_sum_avx512;
typedef __m512 gpti_f32_avx512;
typedef __m128i gpti_shift_avx512;
enum { gpti_lanes_avx512 = 16, gpti_panels_avx512 = 2, gpti_tokens_avx512 = 8,
       gpti_packed_panels_avx512 = 2, gpti_att_queries_avx512 = 4, gpti_att_vectors_avx512 = 2 };
#define gpti_load_u8_avx512(p) _mm512_loadu_si512((const void *)(p))
#define gpti_store_u8_avx512(p, v) _mm512_storeu_si512((void *)(p), v)
#define gpti_set_u8_avx512(c) _mm512_set1_epi8((char)(c))
#define gpti_and_avx512 _mm512_and_si512
#define gpti_or_avx512 _mm512_or_si512
#define gpti_shift_by_avx512 _mm_cvtsi32_si128
#define gpti_right_avx512 _mm512_srl_epi16
#define gpti_left_avx512 _mm512_sll_epi16
#define gpti_table_avx512(p) _mm512_broadcast_i32x4(GPTI_LOAD128(p))
#define gpti_look_up_avx512 _mm512_shuffle_epi8
#define gpti_four_avx512(p) _mm512_set1_epi32(gpti_load_i32(p))
#define gpti_load_avx512 _mm512_loadu_ps
#define gpti_store_avx512 _mm512_storeu_ps
#define gpti_set_avx512 _mm512_set1_ps
#define gpti_mul_avx512 _mm512_mul_ps
#define gpti_add_avx512 _mm512_add_ps
#define gpti_sub_avx512 _mm512_sub_ps
#define gpti_fma_avx512 _mm512_fmadd_ps
#define gpti_from_i32_avx512 _mm512_cvtepi32_ps
#define gpti_from_u8_avx512(p) _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(GPTI_LOAD128(p)))
#define gpti_from_f16_avx512(p) _mm512_maskz_cvtph_ps(0xFFFF, GPTI_LOAD256(p))
#define gpti_from_bf16_avx512(p) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(GPTI_LOAD256(p)), 16))

/* As avx2; what sign_epi8 does there takes a mask here. */
enum { gpti_most_q_avx512 = 63, gpti_bias_q5_avx512 = 16 };
#define gpti_start_avx512(pairs, centre) _mm512_mullo_epi16(pairs, _mm512_set1_epi16((short)-(centre)))
GPTI_OP(avx512) __m512i gpti_dot_avx512(__m512i s, __m512i w, __m512i x, int centre, const int q8) {
    (void)centre;
    if (!q8) return _mm512_add_epi16(s, _mm512_maddubs_epi16(w, x));
    w = _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80));
    x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    w = _mm512_maddubs_epi16(_mm512_abs_epi8(w), x);
    return _mm512_add_epi32(s, _mm512_madd_epi16(w, _mm512_set1_epi16(1)));
}
GPTI_OP(avx512) __m512i gpti_total_avx512(__m512i s, __m512i pairs, int bias, const int q8) {
    if (q8) return s;
    s = _mm512_madd_epi16(s, _mm512_set1_epi16(1));
    return bias ? _mm512_add_epi32(s, _mm512_madd_epi16(pairs, _mm512_set1_epi16((short)bias))) : s;
}

/* Two blocks of q = x * s0, x * s1, rounded; d: their scales, eight times each. */
GPTI_OP(avx512) void gpti_quantize_two(gpti_xblock *out, size_t ld, const __m512 *x, __m512 s0,
                                                      __m512 s1, __m512 d) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i fields = _mm512_setr_epi32(0, 1, 5, 2, 3, 7, 0, 0, 8, 9, 13, 10, 11, 15, 0, 0);
    const __m512i x0 = _mm512_cvtps_epi32(_mm512_mul_ps(x[0], s0)), x1 = _mm512_cvtps_epi32(_mm512_mul_ps(x[1], s0));
    const __m512i x2 = _mm512_cvtps_epi32(_mm512_mul_ps(x[2], s1)), x3 = _mm512_cvtps_epi32(_mm512_mul_ps(x[3], s1));
    __m512i a = _mm512_packs_epi32(x0, x1), b = _mm512_packs_epi32(x2, x3);
    const __m512i q = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b));
    a = _mm512_maddubs_epi16(_mm512_set1_epi8(1), q);  /* of a half: sum[1], sum[2]; b: of both: sum[0] */
    a = _mm512_add_epi16(a, _mm512_shuffle_epi32(a, (_MM_PERM_ENUM)0x4E));
    a = _mm512_add_epi16(a, _mm512_shuffle_epi32(a, (_MM_PERM_ENUM)0xB1));
    b = _mm512_add_epi16(a, _mm512_shuffle_i64x2(a, a, 0xB1));
    s0 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_madd_epi16(a, _mm512_set1_epi16(1))));
    s1 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_madd_epi16(b, _mm512_set1_epi16(1))));
    b = _mm512_mask_mov_epi32(_mm512_castps_si512(s1), 0x1111, b);
    b = _mm512_mask_mov_epi32(_mm512_mask_mov_epi32(b, 0x2222, a), 0x8888, _mm512_castps_si512(s0));
    b = _mm512_mask_mov_epi32(_mm512_maskz_permutexvar_epi32(0x3F3F, fields, b), 0x4040, _mm512_castps_si512(d));
    _mm512_storeu_si512(out, _mm512_shuffle_i64x2(q, b, 0x44));
    _mm512_storeu_si512(out + ld, _mm512_shuffle_i64x2(q, b, 0xEE));
}

/* Four blocks at a time: their largest numbers meet in a register, and each block is written once. */
gpti_target_avx512 static void gpti_quantize_avx512(gpti_xblock *out, size_t ld, const float *x, size_t n_col) {
    const __m512i mask = _mm512_set1_epi32(0x7FFFFFFF);
    for (; n_col >= 128; n_col -= 128, x += 128, out += 4 * ld) {
        __m512 v[8], d, id;
        __m512i m[4];
        __m256i half;
        __m128i top;
        int i;
        GPTI_EACH(i, 8) v[i] = _mm512_loadu_ps(x + 16 * i);
        GPTI_EACH(i, 4) m[i] = _mm512_max_epi32(_mm512_and_si512(mask, _mm512_castps_si512(v[2 * i])),
            _mm512_and_si512(mask, _mm512_castps_si512(v[2 * i + 1])));
        m[0] = _mm512_max_epi32(_mm512_unpacklo_epi32(m[0], m[1]), _mm512_unpackhi_epi32(m[0], m[1]));
        m[2] = _mm512_max_epi32(_mm512_unpacklo_epi32(m[2], m[3]), _mm512_unpackhi_epi32(m[2], m[3]));
        m[0] = _mm512_max_epi32(_mm512_unpacklo_epi64(m[0], m[2]), _mm512_unpackhi_epi64(m[0], m[2]));
        half = _mm256_max_epi32(_mm512_castsi512_si256(m[0]), _mm512_extracti64x4_epi64(m[0], 1));
        top = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        if (_mm_movemask_epi8(_mm_or_si128(_mm_cmplt_epi32(top, _mm_set1_epi32(0x0C000000)),
            _mm_cmpgt_epi32(top, _mm_set1_epi32(0x7F7FFFFF))))) {    /* see gpti_quantize_scale */
            gpti_quantize_avx2(out, ld, x, 128);
            continue;
        }
        d = _mm512_castps128_ps512(_mm_div_ps(_mm_castsi128_ps(top), _mm_set1_ps(127.0f)));
        id = _mm512_castps128_ps512(_mm_div_ps(_mm_set1_ps(127.0f), _mm_castsi128_ps(top)));
        GPTI_UNROLL for (i = 0; i < 4; i += 2) {
            const __m512i first = _mm512_set1_epi32(i), second = _mm512_set1_epi32(i + 1);
            const __m512 both = _mm512_permutexvar_ps(_mm512_mask_mov_epi32(first, 0xFF00, second), d);
            gpti_quantize_two(out + (size_t)i * ld, ld, v + 2 * i, _mm512_permutexvar_ps(first, id),
                              _mm512_permutexvar_ps(second, id), both);
        }
    }
    gpti_quantize_avx2(out, ld, x, n_col);
}

#define GPTI_KERNEL_SET _avx512
#define GPTI_HALF_WIDTH _avx2
#define GPTI_OWN_QUANTIZE
#define GPTI_SINGLE_TOKEN_OF _avx2      /* a single token waits for memory in any case */
#include GPT_SELF

#if GPTI_X86_VNNI
/* ---- avx512-vnni: as avx-vnni ---------------------------------------------------------------- */
static int gpti_cpu_avx512_vnni(void) { return (gpti_cpu_x86() & GPTI_HAS_AVX512_VNNI) != 0; }
#define gpti_target_avx512_vnni GPTI_TARGET(GPTI_AVX512 ",avx512vnni")
typedef __m512i gpti_sum_avx512_vnni;
enum { gpti_tile_panels_avx512_vnni = 2, gpti_most_q_avx512_vnni = 255, gpti_bias_q5_avx512_vnni = 0 };
#define gpti_start_avx512_vnni(pairs, centre) _mm512_madd_epi16(pairs, _mm512_set1_epi16((short)-(centre)))
#define gpti_dot_avx512_vnni(s, w, x, centre, q8) _mm512_dpbusd_epi32(s, w, x)
#define gpti_total_avx512_vnni(s, pairs, bias, q8) (s)
#define GPTI_KERNEL_SET _avx512_vnni
#define GPTI_WIDTH_OF _avx512
#include GPT_SELF
#endif

#ifdef GPTI_AMX
/* ---- amx: one instruction multiplies 16 tokens by the 16 rows of a panel over 32 columns -----
 * Intel SDM vol. 1, 18; gcc 11 or clang 12 on Linux. Scaling and adding the sums, in the order of [KERNELS], is most of
 * the work. In assembler, as the intrinsics of gcc 12 do not tell it that they touch memory. */

/* Linux lends the 8 KiB of registers to processes that ask, by arch_prctl (158) of 0x1023, state 18; it says no where a
 * signal stack is too small for them. In assembler, as strict ISO modes hide libc's syscall. */
static int gpti_cpu_amx(void) {
    long r = 158;
    if (!(gpti_cpu_x86() & GPTI_HAS_AMX)) return 0;
    __asm__ volatile("syscall" : "+a"(r) : "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
    return r == 0;
}

/* The eight registers, "tmm": 0 sums [16 tokens][16 rows] int32; 1 weights [8][16 rows][4] int8; 2 to 5 activations
 * [16 tokens][32] int8. Where a tile has two scales, 1 to 5 hold half as many columns. */
static void gpti_amx_begin(int n_half) {
    struct { uint8_t palette, start, zero[14]; uint16_t n_byte[16]; uint8_t n_row[16]; } shapes =
        { 1, 0, { 0 }, { 64, 64, 32, 32, 32, 32 }, { 16, 8, 16, 16, 16, 16 } };
    int i;
    shapes.n_row[1] = (uint8_t)(8 / n_half);
    for (i = 2; i < 6; i++) shapes.n_byte[i] = (uint16_t)(32 / n_half);
    __asm__ volatile("ldtilecfg %0" :: "m"(shapes));
}
static void gpti_amx_end(void) { __asm__ volatile("tilerelease" ::); }

#define GPTI_AMX_HELD 4     /* pieces of activations, 32 or 16 columns, stay in registers 2 to 5: */
#define GPTI_AMX_OF_PIECE(k, X) if (k == 0) X(2); else if (k == 1) X(3); else if (k == 2) X(4); else X(5)
#define GPTI_AMX_LOAD(i) __asm__ volatile("{tileloadd (%0,%1,1), %%tmm" #i "|tileloadd tmm" #i ", [%0+%1*1]}" \
    :: "r"(q), "r"((size_t)64) : "memory")
/* sum [16 tokens][16 rows] = activations of register i . q */
#define GPTI_AMX_SUM(i) __asm__ volatile( \
    "{tileloadd (%1,%2,1), %%tmm1|tileloadd tmm1, [%1+%2*1]}\n\t" \
    "{tilezero %%tmm0|tilezero tmm0}\n\t" \
    "{tdpbssd %%tmm1, %%tmm" #i ", %%tmm0|tdpbssd tmm0, tmm" #i ", tmm1}\n\t" \
    "{tilestored %%tmm0, (%0,%2,1)|tilestored [%0+%2*1], tmm0}" \
    :: "r"(sum), "r"(q), "r"((size_t)64) : "memory")

/* sum = the k-th of the pieces held . its q in tile t or beyond */
GPTI_OP(avx512) void gpti_amx_sum(const gpti_tile *t, size_t k, const int n_half, int32_t (*sum)[16]) {
    const uint8_t *q = t[k / (size_t)n_half].q + 256 * (k % (size_t)n_half);
    GPTI_AMX_OF_PIECE(k, GPTI_AMX_SUM);
}

/* Pieces [0, held) of all panels: while sums k are scaled, k + 1 and k + 2 are computed. */
GPTI_OP(avx512) void gpti_amx_pieces(const gpti_product_args *args, const gpti_tile *t, const gpti_xblock *x,
    size_t ld, const size_t held, const int n_half, int32_t (*sum)[16][16]) {
    const size_t n = args->n_panel;
    float *acc = args->acc;
    size_t i, k, np;
    int m;
    GPTI_EACH(k, held) {
        const int8_t *q = x[k / (size_t)n_half * ld].q + 16 * (k % (size_t)n_half);
        GPTI_AMX_OF_PIECE(k, GPTI_AMX_LOAD);
    }
    if (held == GPTI_AMX_HELD) GPTI_EACH(k, 2) gpti_amx_sum(t, k, n_half, sum[k]);
    for (np = 0; np < n; np++, t += GPTI_COLUMNS / 32, acc += 16) {
        __m512 f[16];
        GPTI_EACH(i, 16) f[i] = _mm512_loadu_ps(acc + 16 * GPTI_STRIP * i);
        GPTI_EACH(k, held) {
            const size_t j = k / (size_t)n_half, h = k % (size_t)n_half;
            const gpti_xblock *at = x + j * ld;
            const int32_t (*s)[16] = (const int32_t (*)[16])sum[k];
            const __m512 d = _mm512_loadu_ps(t[j].d[h]);
            __asm__("" : "+r"(at));       /* one address, not 16 that gcc would keep */
            if (held < GPTI_AMX_HELD) gpti_amx_sum(t, k, n_half, sum[k]);
            else if (k < 2) gpti_amx_sum(t, k + 2, n_half, sum[k + 2]);
            else if (np + 1 < n) gpti_amx_sum(t + GPTI_COLUMNS / 32, k - 2, n_half, sum[k - 2]);
            GPTI_EACH(i, 16) f[i] = _mm512_add_ps(f[i], _mm512_mul_ps(
                _mm512_cvtepi32_ps(_mm512_loadu_si512(s[i])), _mm512_mul_ps(d, _mm512_set1_ps(at[i].d))));
            if (args->has_min && h + 1 == (size_t)n_half) for (m = 0; m < n_half; m++) {
                const __m512 min = _mm512_loadu_ps(t[j].m[m]);
                GPTI_EACH(i, 16) f[i] = _mm512_sub_ps(f[i], _mm512_mul_ps(min,
                    _mm512_set1_ps(at[i].s[n_half == 2 ? m + 1 : 0])));
            }
        }
        GPTI_EACH(i, 16) _mm512_storeu_ps(acc + 16 * GPTI_STRIP * i, f[i]);
    }
}

GPTI_OP(avx512) void gpti_amx_product(const gpti_product_args *args, const int n_half) {
    /* 4 KiB aliasing: a load waits for a store under way whose address ends in the same 12 bits. The four sums fill a
     * page of their own, so tiles and activations that are read meanwhile seldom do. */
    int32_t (*sum)[16][16] = (int32_t (*)[16][16])(void *)gpti_align(args->scratch->product.amx, 4096);
    gpti_xblock (*copy)[16] = (gpti_xblock (*)[16])(void *)(sum + GPTI_AMX_HELD);
    const size_t n = args->n / 32, ld = args->in_row ? args->ld : 16, many = GPTI_AMX_HELD / (size_t)n_half;
    const gpti_xblock *x = args->in_row ? args->x[0] : copy[0];
    size_t i, j;
    if (!args->in_row) for (j = 0; j < n; j++) for (i = 0; i < 16; i++) copy[j][i] = args->x[i][j * args->ld];
    for (j = 0; j + many <= n; j += many)
        gpti_amx_pieces(args, args->t + j, x + j * ld, ld, GPTI_AMX_HELD, n_half, sum);
    for (; j < n; j++) gpti_amx_pieces(args, args->t + j, x + j * ld, ld, (size_t)n_half, n_half, sum);
}
gpti_target_avx512 static void gpti_one_scale_amx(const gpti_product_args *args) { gpti_amx_product(args, 1); }
gpti_target_avx512 static void gpti_two_scales_amx(const gpti_product_args *args) { gpti_amx_product(args, 2); }
gpti_target_avx512 static void gpti_centre_amx(gpti_tile *t, const uint8_t *q, size_t step, size_t n, int zero) {
    const __m512i z = _mm512_set1_epi8((char)zero);
    size_t i;
    for (; n > 0; n--, t++, q += step) for (i = 0; i < 512; i += 64)
        _mm512_storeu_si512(t->q + i, _mm512_sub_epi8(_mm512_loadu_si512(q + i), z));
}

static void gpti_matmul_amx(const gpti_matmul *job, size_t begin, size_t end, gpti_scratch *scratch) {
    gpti_matmul_steps steps;
    if (job->n_tok <= GPTI_ONE_BY_ONE || job->w.fmt->n_scale == 0) {
        gpti_matmul_avx512_vnni(job, begin, end, scratch);
        return;
    }
    memset(&steps, 0, sizeof steps);
    steps.n_tok = 16; steps.most_q = 255;
    steps.unpack = gpti_unpack_steps_avx512(); steps.centre = gpti_centre_amx;
    steps.one_scale = steps.q5 = gpti_one_scale_amx; steps.two_scales = gpti_two_scales_amx;
    gpti_amx_begin(job->w.fmt->n_scale);
    gpti_matmul_set(&steps, job, begin, end, scratch);
    gpti_amx_end();
}
static gpti_kernels gpti_kernels_amx(const char *name) {
    gpti_kernels k = gpti_kernels_avx512_vnni(name);
    k.usable = gpti_cpu_amx;
    k.matmul = gpti_matmul_amx;
    return k;
}
#endif /* GPTI_AMX */
#endif /* GPTI_X86 */

#ifdef GPTI_NEON
/* ---- neon: every 64-bit ARM ------------------------------------------------------------------ */
static int gpti_cpu_neon(void) { return 1; }
/* Whether Linux says so: bit of a word of the auxiliary vector. */
GPTI_UNUSED static int gpti_cpu_arm(int word, int bit) {
#  ifdef __linux__
    return (int)(getauxval((unsigned long)word) >> bit & 1);
#  else
    return word + bit < 0;
#  endif
}
#define gpti_target_neon
typedef uint8x16_t gpti_u8_neon;
typedef int8x16_t gpti_i8_neon, gpti_shift_neon;
typedef int32x4_t gpti_i32_neon;
typedef int32x4x2_t gpti_sum_neon;
typedef float32x4_t gpti_f32_neon;
enum { gpti_lanes_neon = 4, gpti_panels_neon = 1, gpti_tokens_neon = 4,
       gpti_packed_panels_neon = 1, gpti_tile_panels_neon = 1, gpti_att_queries_neon = 2, gpti_att_vectors_neon = 4 };
#define gpti_load_u8_neon vld1q_u8
#define gpti_store_u8_neon vst1q_u8
#define gpti_set_u8_neon(c) vdupq_n_u8((uint8_t)(c))
#define gpti_and_neon vandq_u8
#define gpti_or_neon vorrq_u8
#define gpti_shift_by_neon(n) vdupq_n_s8((int8_t)(n))
#define gpti_right_neon(a, n) vshlq_u8(a, vnegq_s8(n))
#define gpti_left_neon vshlq_u8
#define gpti_table_neon vld1q_u8
#define gpti_look_up_neon vqtbl1q_u8
#define gpti_four_neon(p) vreinterpretq_s8_s32(vdupq_n_s32(gpti_load_i32(p)))
#define gpti_load_neon vld1q_f32
#define gpti_store_neon vst1q_f32
#define gpti_set_neon vdupq_n_f32
#define gpti_mul_neon vmulq_f32
#define gpti_add_neon vaddq_f32
#define gpti_sub_neon vsubq_f32
#define gpti_fma_neon(a, b, c) vfmaq_f32(c, a, b)
#define gpti_from_i32_neon vcvtq_f32_s32
#define gpti_from_u8_neon(p) \
    vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_s32(vdup_n_s32(gpti_load_i32(p)))))))
#define gpti_from_f16_neon(p) vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)))
#define gpti_from_bf16_neon(p) vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16))
#define gpti_minus_neon(w, c) vreinterpretq_s8_u8(vsubq_u8(w, vdupq_n_u8((uint8_t)(c))))

/* One 16-bit sum per row and column of four: |q - zero| <= 31 by 127 by 8 groups is 31496 for five bits, <= 32 by 127
 * by 4 for six. Above, 32-bit sums of pairs. */
enum { gpti_most_q_neon = 63, gpti_bias_q5_neon = 0 };
GPTI_INLINE int32x4x2_t gpti_start_neon(int8x16_t pairs, int centre) {
    const int32x4x2_t s = { { vdupq_n_s32(0), vdupq_n_s32(0) } };
    (void)pairs; (void)centre;
    return s;
}
GPTI_INLINE int32x4x2_t gpti_dot_neon(int32x4x2_t s, uint8x16_t w, int8x16_t x, int centre, const int q8) {
    const int8x16_t c = gpti_minus_neon(w, q8 ? 128 : centre);
    if (q8) {
        s.val[0] = vpadalq_s16(s.val[0], vmull_s8(vget_low_s8(c), vget_low_s8(x)));
        s.val[1] = vpadalq_s16(s.val[1], vmull_high_s8(c, x));
    } else {
        s.val[0] = vreinterpretq_s32_s16(vmlal_s8(vreinterpretq_s16_s32(s.val[0]), vget_low_s8(c), vget_low_s8(x)));
        s.val[1] = vreinterpretq_s32_s16(vmlal_high_s8(vreinterpretq_s16_s32(s.val[1]), c, x));
    }
    return s;
}
GPTI_INLINE int32x4_t gpti_total_neon(int32x4x2_t s, int8x16_t pairs, int bias, const int q8) {
    (void)pairs; (void)bias;
    if (q8) return vpaddq_s32(s.val[0], s.val[1]);
    return vpaddq_s32(vpaddlq_s16(vreinterpretq_s16_s32(s.val[0])), vpaddlq_s16(vreinterpretq_s16_s32(s.val[1])));
}

/* The bits of the largest |x| of 32; q = x * id, rounded to the nearest even, and its sums. */
static uint32_t gpti_top_neon(const float *x) {
    uint32x4_t m = vdupq_n_u32(0);
    int i;
    for (i = 0; i < 32; i += 4)
        m = vmaxq_u32(m, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7FFFFFFF)));
    return vmaxvq_u32(m);
}
static void gpti_round_neon(const float *x, float id, gpti_xblock *out) {
    int h, i;
    for (h = 0; h < 2; h++) {
        int16x4_t v[4], sum = vdup_n_s16(0);
        for (i = 0; i < 4; i++) {
            v[i] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 16 * h + 4 * i), id)));
            sum = vadd_s16(sum, v[i]);
        }
        vst1q_s8(out->q + 16 * h,
            vcombine_s8(vmovn_s16(vcombine_s16(v[0], v[1])), vmovn_s16(vcombine_s16(v[2], v[3]))));
        sum = vpadd_s16(sum, sum);
        out->sum[1 + h][0] = vget_lane_s16(sum, 0);
        out->sum[1 + h][1] = vget_lane_s16(sum, 1);
    }
}
#define GPTI_KERNEL_SET _neon
#include GPT_SELF

#ifdef GPTI_NEON_DOT
/* ---- neon-dot: ARMv8.2 with the dot product; told by Linux or the compiler's options --------- */
#  ifdef __ARM_FEATURE_DOTPROD
static int gpti_cpu_neon_dot(void) { return 1; }
#    define gpti_target_neon_dot
#  else
static int gpti_cpu_neon_dot(void) { return gpti_cpu_arm(16, 20); }  /* AT_HWCAP ASIMDDP */
#    define gpti_target_neon_dot GPTI_TARGET("arch=armv8.2-a+dotprod")
#  endif
typedef int32x4_t gpti_sum_neon_dot;
enum { gpti_tile_panels_neon_dot = 1, gpti_most_q_neon_dot = 255, gpti_bias_q5_neon_dot = 0 };
#define gpti_start_neon_dot(pairs, centre) vdupq_n_s32(0)
#define gpti_dot_neon_dot(s, w, x, centre, q8) vdotq_s32(s, gpti_minus_neon(w, centre), x)
#define gpti_total_neon_dot(s, pairs, bias, q8) (s)
#define GPTI_KERNEL_SET _neon_dot
#define GPTI_WIDTH_OF _neon
#include GPT_SELF
#endif

#ifdef GPTI_NEON_I8MM
/* ---- neon-i8mm: neon-dot, with SMMLA for several tokens -------------------------------------- */
#  ifdef __ARM_FEATURE_MATMUL_INT8
static int gpti_cpu_neon_i8mm(void) { return gpti_cpu_neon_dot(); }
#    define gpti_target_neon_i8mm
#  else
static int gpti_cpu_neon_i8mm(void) { return gpti_cpu_neon_dot() && gpti_cpu_arm(26, 13); }  /* AT_HWCAP2 I8MM */
#    define gpti_target_neon_i8mm GPTI_TARGET("arch=armv8.2-a+dotprod+i8mm")
#  endif
typedef int32x4_t gpti_sum_neon_i8mm;
enum { gpti_most_q_neon_i8mm = 255, gpti_bias_q5_neon_i8mm = 0 };
#define gpti_start_neon_i8mm(pairs, centre) vdupq_n_s32(0)
#define gpti_total_neon_i8mm(s, pairs, bias, q8) (s)
/* In place of dot: SMMLA multiplies 2 x 8 bytes by 8 x 2, eight columns of two tokens by rows 0, 1 of w and u (in s[0])
 * and 2, 3 (in s[1]). At the end `apart` makes s[0] the sums of one token, s[1] those of the other. */
#define gpti_two_tokens_neon_i8mm(x, y) vcombine_s8(vld1_s8(x), vld1_s8(y))
GPTI_OP(neon_i8mm) void gpti_dots_neon_i8mm(int32x4_t s[2], uint8x16_t w, uint8x16_t u, int8x16_t x,
                                                           int centre) {
    const int32x4_t a = vreinterpretq_s32_s8(gpti_minus_neon(w, centre));
    const int32x4_t b = vreinterpretq_s32_s8(gpti_minus_neon(u, centre));
    s[0] = vmmlaq_s32(s[0], vreinterpretq_s8_s32(vzip1q_s32(a, b)), x);
    s[1] = vmmlaq_s32(s[1], vreinterpretq_s8_s32(vzip2q_s32(a, b)), x);
}
GPTI_OP(neon_i8mm) void gpti_apart_neon_i8mm(int32x4_t s[2]) {
    const int32x4x2_t both = vuzpq_s32(s[0], s[1]);
    s[0] = both.val[0];
    s[1] = both.val[1];
}
#define GPTI_KERNEL_SET _neon_i8mm
#define GPTI_WIDTH_OF _neon
#define GPTI_SINGLE_TOKEN_OF _neon_dot
#define GPTI_PAIRS_OF_TOKENS
#include GPT_SELF
#endif
#endif /* GPTI_NEON */

#ifdef GPTI_WASM
/* ---- wasm: WebAssembly's 128-bit vectors, -msimd128 ------------------------------------------ */
static int gpti_cpu_wasm(void) { return 1; }
#define gpti_target_wasm
typedef v128_t gpti_u8_wasm, gpti_i8_wasm, gpti_i32_wasm, gpti_f32_wasm;
typedef int gpti_shift_wasm;
typedef struct gpti_sum_wasm { v128_t lo, hi; } gpti_sum_wasm;
enum { gpti_lanes_wasm = 4, gpti_panels_wasm = 1, gpti_tokens_wasm = 2,
       gpti_packed_panels_wasm = 1, gpti_tile_panels_wasm = 1, gpti_att_queries_wasm = 1, gpti_att_vectors_wasm = 4 };
#define gpti_load_u8_wasm wasm_v128_load
#define gpti_store_u8_wasm wasm_v128_store
#define gpti_set_u8_wasm(c) wasm_i8x16_splat((int8_t)(c))
#define gpti_and_wasm wasm_v128_and
#define gpti_or_wasm wasm_v128_or
#define gpti_shift_by_wasm(n) (n)
#define gpti_right_wasm(a, n) wasm_u8x16_shr(a, (uint32_t)(n))
#define gpti_left_wasm(a, n) wasm_i8x16_shl(a, (uint32_t)(n))
#define gpti_table_wasm wasm_v128_load
#define gpti_look_up_wasm wasm_i8x16_swizzle
#define gpti_four_wasm wasm_v128_load32_splat
#define gpti_load_wasm wasm_v128_load
#define gpti_store_wasm wasm_v128_store
#define gpti_set_wasm wasm_f32x4_splat
#define gpti_mul_wasm wasm_f32x4_mul
#define gpti_add_wasm wasm_f32x4_add
#define gpti_sub_wasm wasm_f32x4_sub
#define gpti_fma_wasm(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)  /* for exact products */
#define gpti_from_i32_wasm wasm_f32x4_convert_i32x4
#define gpti_from_u8_wasm(p) \
    wasm_f32x4_convert_i32x4(wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p))))
#define gpti_from_bf16_wasm(p) wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16)
#define gpti_minus_wasm(w, c) wasm_i8x16_sub(w, wasm_i8x16_splat((int8_t)(c)))
GPTI_INLINE v128_t gpti_from_f16_wasm(const void *p) {      /* as gpti_f16_f32 */
    const v128_t h = wasm_u32x4_load16x4(p), em = wasm_v128_and(h, wasm_i32x4_splat(0x7FFF));
    const v128_t nan = wasm_i32x4_gt(em, wasm_i32x4_splat(0x7C00)), shifted = wasm_i32x4_shl(em, 13);
    const v128_t low = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(em), wasm_f32x4_splat(1.0f / 16777216.0f));
    const v128_t high = wasm_v128_or(wasm_v128_or(shifted, wasm_i32x4_splat(0x7F800000)),
                                     wasm_v128_and(nan, wasm_i32x4_splat(0x00400000)));
    v128_t f = wasm_i32x4_add(shifted, wasm_i32x4_splat(112 << 23));
    f = wasm_v128_bitselect(low, f, wasm_i32x4_lt(em, wasm_i32x4_splat(0x0400)));
    f = wasm_v128_bitselect(high, f, wasm_i32x4_ge(em, wasm_i32x4_splat(0x7C00)));
    return wasm_v128_or(f, wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_splat(0x8000)), 16));
}

/* as neon */
enum { gpti_most_q_wasm = 63, gpti_bias_q5_wasm = 0 };
GPTI_INLINE gpti_sum_wasm gpti_start_wasm(v128_t pairs, int centre) {
    const gpti_sum_wasm s = { wasm_i32x4_splat(0), wasm_i32x4_splat(0) };
    (void)pairs; (void)centre;
    return s;
}
GPTI_INLINE gpti_sum_wasm gpti_dot_wasm(gpti_sum_wasm s, v128_t w, v128_t x, int centre, const int q8) {
    const v128_t c = gpti_minus_wasm(w, q8 ? 128 : centre);
    const v128_t lo = wasm_i16x8_extmul_low_i8x16(c, x), hi = wasm_i16x8_extmul_high_i8x16(c, x);
    s.lo = q8 ? wasm_i32x4_add(s.lo, wasm_i32x4_extadd_pairwise_i16x8(lo)) : wasm_i16x8_add(s.lo, lo);
    s.hi = q8 ? wasm_i32x4_add(s.hi, wasm_i32x4_extadd_pairwise_i16x8(hi)) : wasm_i16x8_add(s.hi, hi);
    return s;
}
GPTI_INLINE v128_t gpti_total_wasm(gpti_sum_wasm s, v128_t pairs, int bias, const int q8) {    /* sums of neighbours */
    const v128_t a = q8 ? s.lo : wasm_i32x4_extadd_pairwise_i16x8(s.lo);
    const v128_t b = q8 ? s.hi : wasm_i32x4_extadd_pairwise_i16x8(s.hi);
    (void)pairs; (void)bias;
    return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

/* As gpti_top_neon and gpti_round_neon; adding 1.5 * 2^23 rounds to the nearest even. */
static uint32_t gpti_top_wasm(const float *x) {
    const v128_t mask = wasm_i32x4_splat(0x7FFFFFFF);
    v128_t m = wasm_i32x4_splat(0);
    int i;
    for (i = 0; i < 32; i += 4) m = wasm_u32x4_max(m, wasm_v128_and(wasm_v128_load(x + i), mask));
    m = wasm_u32x4_max(m, wasm_i32x4_shuffle(m, m, 2, 3, 0, 1));
    m = wasm_u32x4_max(m, wasm_i32x4_shuffle(m, m, 1, 0, 3, 2));
    return (uint32_t)wasm_i32x4_extract_lane(m, 0);
}
static void gpti_round_wasm(const float *x, float id, gpti_xblock *out) {
    const v128_t magic = wasm_f32x4_splat(12582912.0f), bits = wasm_i32x4_splat(0x4B400000);
    int h, i;
    for (h = 0; h < 2; h++) {
        v128_t v[4], sum = wasm_i32x4_splat(0);
        for (i = 0; i < 4; i++) {
            v[i] = wasm_f32x4_add(wasm_f32x4_mul(wasm_v128_load(x + 16 * h + 4 * i), wasm_f32x4_splat(id)), magic);
            v[i] = wasm_i32x4_sub(v[i], bits);
            sum = wasm_i32x4_add(sum, v[i]);
        }
        wasm_v128_store(out->q + 16 * h, wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(v[0], v[1]),
            wasm_i16x8_narrow_i32x4(v[2], v[3])));
        sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 1, 0, 3, 2));
        out->sum[1 + h][0] = (int16_t)wasm_i32x4_extract_lane(sum, 0);
        out->sum[1 + h][1] = (int16_t)wasm_i32x4_extract_lane(sum, 2);
    }
}
#define GPTI_KERNEL_SET _wasm
#include GPT_SELF
#endif /* GPTI_WASM */

/* ---- the list of sets ---- */

/* To add a kernel set:
 *   1. near the top of the implementation, the test of the compiler: a GPTI_ macro, and the header of the instructions
 *   2. a page above: gpti_cpu_<set>, its operations and numbers, #include GPT_SELF
 *   3. a row below; GPTI_MAX_SET counts the most rows that one processor's family can have
 * tests/unit_kernels.c and tests/unit_law.c then try it wherever it runs. */
enum { GPTI_MAX_SET = 8 };

/* All sets that were compiled, best first; the last runs anywhere. Returns how many. */
static size_t gpti_kernels_list(gpti_kernels out[GPTI_MAX_SET]) {
    gpti_kernels *k = out;
#ifdef GPTI_AMX
    *k++ = gpti_kernels_amx("amx");
#endif
#ifdef GPTI_X86
#  if GPTI_X86_VNNI
    *k++ = gpti_kernels_avx512_vnni("avx512-vnni");
#  endif
    *k++ = gpti_kernels_avx512("avx512");
#  if GPTI_X86_VNNI
    *k++ = gpti_kernels_avx_vnni("avx-vnni");
#  endif
    *k++ = gpti_kernels_avx2("avx2");
#endif
#ifdef GPTI_NEON_I8MM
    *k++ = gpti_kernels_neon_i8mm("neon-i8mm");
#endif
#ifdef GPTI_NEON_DOT
    *k++ = gpti_kernels_neon_dot("neon-dot");
#endif
#ifdef GPTI_NEON
    *k++ = gpti_kernels_neon("neon");
#endif
#ifdef GPTI_WASM
    *k++ = gpti_kernels_wasm("wasm");
#endif
    k->name = "ref"; k->usable = gpti_cpu_ref; k->matmul = gpti_matmul_ref;
    k->quantize = gpti_quantize_ref; k->round13 = gpti_round13_ref; k->attend = gpti_attend_ref;
    k->activate = gpti_activate_ref; k->norm = gpti_norm_ref; k->rope = gpti_rope_ref; k->delta = gpti_delta_ref;
    k->kv_store = gpti_kv_store_ref;
    return (size_t)(k + 1 - out);
}

/* The set of that name if this processor runs it; for NULL the best but AMX, which changes the process. */
static gpt_result gpti_kernels_find(const char *name, gpti_kernels *out, gpt_error *err) {
    gpti_kernels sets[GPTI_MAX_SET];
    char names[24 * GPTI_MAX_SET];
    size_t i, n = gpti_kernels_list(sets), at = 0;
    for (i = 0; i < n; i++) {
        const int by_name = name && !strcmp(name, sets[i].name);
        if ((!by_name && !strcmp(sets[i].name, "amx")) || !sets[i].usable()) continue;
        if (!name || by_name) { *out = sets[i]; return GPT_OK; }
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", sets[i].name);
    }
    return gpti_fail(err, GPT_E_ARG, "kernels: expected one of %s, found \"%s\"", names, name);
}

#if defined(__clang__)                          /* the rest of the file is the host's again */
#  pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#  pragma GCC pop_options
#elif defined(_MSC_VER)
#  pragma float_control(pop)
#endif
#else /* GPTI_KERNEL_SET: what follows is compiled once per kernel set */

/* What a page says of a vector width:
 *   u8 i8 i32 f32   types of vectors: weights, activations, `lanes` sums or floats; shift: of bits
 *   panels, tokens  the sums that fit the registers; packed_panels, tile_panels: for one token
 *   four(p)         four bytes, repeated; look_up(table, i); from_f16, from_u8 ...: to floats
 * and of its set:
 *   sum             type of sums: start(pairs, centre) is -centre * pairs, the sum of x; dot(s, w, x, centre, q8)
 *                   adds (w - centre) * x of four columns; total(s, pairs, bias, q8): int32, and bias * pairs.
 *                   A set subtracts centre in start or in dot. q8: q may exceed most_q, dot subtracts zero.
 *   bias_q5         not 0: sums of 5-bit q start from q - bias_q5, to fit 16 bits, and end at q
 *   GPTI_WIDTH_OF, GPTI_SINGLE_TOKEN_OF    the set whose loops it takes: of the width, of one token's products. If
 *                   none, they are compiled for this set. GPTI_HALF_WIDTH: the set for rows shorter than a vector */
#ifndef GPTI_WIDTH_OF
#  define GPTI_WIDTH_OF GPTI_KERNEL_SET
#  define GPTI_FIRST_OF_WIDTH
#endif

/* The same words for every set, so that they need not be taken back. KEEP: v is computed now; gcc would reorder
 * unrolled additions, so that more sums are under way than there are registers. */
#if defined(__GNUC__) && defined(GPTI_X86)
#  define GPTI_KEEP(v) __asm__("" : "+x"(v))
#else
#  define GPTI_KEEP(v)
#endif
#define GPTI_EACH_PAIR(i) GPTI_UNROLL for (i = 0; i < GPTI_W(tokens); i += 2)
#define GPTI_MADD(exact, a, b, c) ((exact) ? GPTI_W(fma)(a, b, c) : GPTI_W(add)(c, GPTI_W(mul)(a, b)))
#define GPTI_SINGLE(name) GPTI_CAT(gpti_##name, GPTI_SINGLE_TOKEN_OF)
#define GPTI_VECTORS (16 / GPTI_W(lanes))                   /* of a panel                       */
#define GPTI_MANY (GPTI_W(panels) * GPTI_VECTORS)           /* of several tokens' panels */
#define GPTI_FEW (GPTI_W(packed_panels) * GPTI_VECTORS)     /* of a single token's panels */
#define GPTI_MOST (GPTI_MANY > GPTI_FEW ? GPTI_MANY : GPTI_FEW)
#define GPTI_VECTOR_BYTES (4 * GPTI_W(lanes))
#define GPTI_PANEL_OF(v) ((v) / GPTI_VECTORS)     /* vector v is rows [ROW_OF, + lanes) of panel PANEL_OF */
#define GPTI_ROW_OF(v) ((v) % GPTI_VECTORS * GPTI_W(lanes))
#define GPTI_TILE_OF(t, v) ((t) + GPTI_PANEL_OF(v) * (GPTI_COLUMNS / 32))
#define GPTI_SUMS(args, i, v) ((args)->acc + 16 * GPTI_STRIP * (i) + GPTI_W(lanes) * (v))
#define GPTI_RANGE(h) (n_half == 2 ? (h) + 1 : 0)           /* of a block's sums: half h or all */

/* acc += tiles times blocks of `tokens` tokens. Constants: scales per tile; whether q exceeds most_q, has five bits. */
GPTI_FN_INLINE void GPTI_K(product)(const gpti_product_args *args, const int n_half, const int q8, const int q5) {
    GPTI_W(f32) f[GPTI_MANY][GPTI_W(tokens)];
    const gpti_xblock *x[GPTI_W(tokens)];
    const gpti_tile *t = args->t, *end = t + args->n / 32;
    const uint8_t *q[GPTI_W(panels)];
    const size_t ld = args->ld, q_step = args->q_step;
    const int bias = q5 ? GPTI_K(bias_q5) : 0, zero = q8 ? 0 : args->zero, centre = bias ? bias : zero;
    int i, v, g, h;
    GPTI_EACH(v, GPTI_W(panels)) q[v] = args->q[v];
    GPTI_EACH(i, GPTI_W(tokens)) {
        x[i] = args->x[i];
        GPTI_EACH(v, GPTI_MANY) f[v][i] = GPTI_W(load)(GPTI_SUMS(args, i, v));
    }
    for (; t < end; t++) {
        if (args->n_next) gpti_prefetch(args, (size_t)(t - args->t), GPTI_W(panels));
        GPTI_EACH(h, n_half) {
            const int first = 4 * h, last = n_half == 2 ? first + 4 : 8;
            GPTI_K(sum) s[GPTI_MANY][GPTI_W(tokens)];
            GPTI_EACH(i, GPTI_W(tokens)) {
                GPTI_K(sum) start = GPTI_K(start)(GPTI_W(four)(x[i]->sum[GPTI_RANGE(h)]), centre);
                GPTI_EACH(v, GPTI_MANY) s[v][i] = start;
            }
#ifdef GPTI_PAIRS_OF_TOKENS
            GPTI_ROLL for (g = first; g < last; g += 2) {
                GPTI_W(i8) a[GPTI_W(tokens)];
                GPTI_EACH_PAIR(i) a[i] = GPTI_K(two_tokens)(x[i]->q + 4 * g, x[i + 1]->q + 4 * g);
                GPTI_EACH(v, GPTI_MANY) {
                    const uint8_t *p = q[GPTI_PANEL_OF(v)] + 64 * g + 4 * GPTI_ROW_OF(v);
                    const GPTI_W(u8) w = GPTI_W(load_u8)(p), u = GPTI_W(load_u8)(p + 64);
                    GPTI_EACH_PAIR(i) GPTI_K(dots)(s[v] + i, w, u, a[i], centre);
                }
            }
            GPTI_EACH_PAIR(i) GPTI_EACH(v, GPTI_MANY) GPTI_K(apart)(s[v] + i);
#else
            GPTI_ROLL for (g = first; g < last; g += 2) {
                int e;
                GPTI_UNROLL for (e = g; e < g + 2; e++) {
                    GPTI_W(u8) w[GPTI_MANY];
                    GPTI_EACH(v, GPTI_MANY) w[v] = GPTI_W(load_u8)(q[GPTI_PANEL_OF(v)] + 64 * e + 4 * GPTI_ROW_OF(v));
                    GPTI_EACH(i, GPTI_W(tokens)) {
                        GPTI_W(i8) a = GPTI_W(four)(x[i]->q + 4 * e);
                        GPTI_EACH(v, GPTI_MANY) {
                            s[v][i] = GPTI_K(dot)(s[v][i], w[v], a, centre, q8);
                            GPTI_KEEP(s[v][i]);
                        }
                    }
                }
            }
#endif
            GPTI_EACH(i, GPTI_W(tokens)) {
                GPTI_W(f32) xd = GPTI_W(set)(x[i]->d);
                GPTI_EACH(v, GPTI_MANY) {
                    GPTI_W(f32) d = GPTI_W(load)(GPTI_TILE_OF(t, v)->d[h] + GPTI_ROW_OF(v));
                    GPTI_W(i32) sum = GPTI_K(total)(s[v][i], GPTI_W(four)(x[i]->sum[GPTI_RANGE(h)]), bias, q8);
                    f[v][i] = GPTI_W(add)(f[v][i], GPTI_W(mul)(GPTI_W(from_i32)(sum), GPTI_W(mul)(d, xd)));
                }
            }
        }
        if (args->has_min) GPTI_EACH(h, n_half) GPTI_EACH(i, GPTI_W(tokens)) {
            GPTI_W(f32) xs = GPTI_W(set)(x[i]->s[GPTI_RANGE(h)]);
            GPTI_EACH(v, GPTI_MANY) {
                const float *m = GPTI_TILE_OF(t, v)->m[h] + GPTI_ROW_OF(v);
                f[v][i] = GPTI_W(sub)(f[v][i], GPTI_W(mul)(GPTI_W(load)(m), xs));
            }
        }
        GPTI_EACH(i, GPTI_W(tokens)) x[i] += ld;
        GPTI_EACH(v, GPTI_W(panels)) q[v] += q_step;
    }
    GPTI_EACH(i, GPTI_W(tokens)) GPTI_EACH(v, GPTI_MANY) GPTI_W(store)(GPTI_SUMS(args, i, v), f[v][i]);
}
#define GPTI_PRODUCT(name, call) GPTI_FN void GPTI_K(name)(const gpti_product_args *args) { call; }
GPTI_PRODUCT(one_scale, GPTI_K(product)(args, 1, 0, 0))
GPTI_PRODUCT(two_scales, GPTI_K(product)(args, 2, 0, 0))
GPTI_PRODUCT(q5, GPTI_K(product)(args, 1, 0, 1))
GPTI_PRODUCT(q8, GPTI_K(product)(args, 1, 1, 0))

#ifdef GPTI_FIRST_OF_WIDTH
/* acc += w[columns][16] of np panels, or the 16-bit floats at q that `fetch` names, times x of nt tokens: columns
 * [k, k1) as one partial sum, or as nb = 2 of 32 columns at the same time, as a single token would wait for its
 * additions. exact: products are. */
GPTI_FN_INLINE void GPTI_K(floats)(const gpti_product_args *args, size_t k, size_t k1, const int np, const int nt,
    const int nb, const int fetch, const int exact) {
    GPTI_W(f32) s[GPTI_MOST][2 * GPTI_W(tokens)];
    const float *w[GPTI_MOST], *x[GPTI_W(tokens)];
    const int nr = np * GPTI_VECTORS;
    size_t at;
    int i, v, b;
    if (fetch == GPTI_FETCH_F32) GPTI_EACH(v, np) w[v] = args->w[v] + 16 * k;
    GPTI_EACH(i, nt) x[i] = args->xf[i] + k;
    GPTI_EACH(i, nt * nb) GPTI_EACH(v, nr) s[v][i] = GPTI_W(set)(0.0f);
    at = k; k1 = nb == 2 ? 32 : k1 - k;
    GPTI_UNROLL4 for (k = 0; k < k1; k++) {
        GPTI_EACH(b, nb) {
            const size_t column = k + 32 * (size_t)b;
            GPTI_W(f32) c[GPTI_MOST];
            GPTI_EACH(v, nr) {
                const uint8_t *p = args->q[GPTI_PANEL_OF(v)] + 32 * (at + column) + 2 * GPTI_ROW_OF(v);
                if (fetch == GPTI_FETCH_F16) c[v] = GPTI_W(from_f16)(p);
                else if (fetch == GPTI_FETCH_BF16) c[v] = GPTI_W(from_bf16)(p);
                else c[v] = GPTI_W(load)(w[GPTI_PANEL_OF(v)] + 16 * column + GPTI_ROW_OF(v));
            }
            GPTI_EACH(i, nt) {
                GPTI_W(f32) a = GPTI_W(set)(x[i][column]);
                GPTI_EACH(v, nr) {
                    s[v][i * nb + b] = GPTI_MADD(exact, c[v], a, s[v][i * nb + b]);
                    GPTI_KEEP(s[v][i * nb + b]);
                }
            }
        }
    }
    GPTI_EACH(i, nt) GPTI_EACH(v, nr) {
        GPTI_W(f32) f = GPTI_W(load)(GPTI_SUMS(args, i, v));
        GPTI_EACH(b, nb) f = GPTI_W(add)(f, s[v][i * nb + b]);
        GPTI_W(store)(GPTI_SUMS(args, i, v), f);
    }
}
GPTI_FN_INLINE void GPTI_K(many)(const gpti_product_args *args, const int exact) {
    size_t k;
    for (k = 0; k < args->n; k += 32)
        GPTI_K(floats)(args, k, gpti_min(args->n, k + 32), GPTI_W(panels), GPTI_W(tokens), 1, GPTI_FETCH_F32, exact);
}
GPTI_PRODUCT(many_f32, GPTI_K(many)(args, 0))
GPTI_PRODUCT(many_f16, GPTI_K(many)(args, 1))
/* one token, two blocks of columns at a time */
GPTI_FN_INLINE void GPTI_K(single)(const gpti_product_args *args, const int fetch) {
    const int np = GPTI_W(packed_panels), exact = fetch == GPTI_FETCH_F16;
    size_t k = 0;
    for (; k + 64 <= args->n; k += 64) {
        gpti_prefetch(args, k / 32, np);
        gpti_prefetch(args, k / 32 + 1, np);
        GPTI_K(floats)(args, k, k + 64, np, 1, 2, fetch, exact);
    }
    for (; k < args->n; k += 32) GPTI_K(floats)(args, k, gpti_min(args->n, k + 32), np, 1, 1, fetch, exact);
}
GPTI_PRODUCT(single_f32, GPTI_K(single)(args, GPTI_FETCH_F32))
GPTI_PRODUCT(single_f16, GPTI_K(single)(args, GPTI_FETCH_F16))
GPTI_PRODUCT(single_bf16, GPTI_K(single)(args, GPTI_FETCH_BF16))
#endif

#ifndef GPTI_SINGLE_TOKEN_OF
#define GPTI_SINGLE_TOKEN_OF GPTI_KERNEL_SET
/* acc += q times one token, q unpacked in registers as GPTI_FETCH_ has it */
GPTI_FN_INLINE void GPTI_K(fetch)(const gpti_product_args *args, const int kind) {
    const struct gpti_fetch *of = &gpti_fetches[kind];
    const int packed = of->packed_scales, n_half = of->n_scale, bits = of->bits, both = of->both;
    const int q8 = of->q8 && GPTI_K(most_q) < 255, bias = bits == 5 ? GPTI_K(bias_q5) : 0;
    const int zero = q8 ? 0 : args->zero, centre = bias ? bias : zero;
    const int n_group = n_half == 2 || both ? 4 : 8;        /* of 64 bytes: of a half, or of all */
    const int n_packed = GPTI_W(packed_panels), n_tile = GPTI_K(tile_panels);
    const int n_panel = packed ? n_packed : n_tile, n_vec = n_panel * GPTI_VECTORS;
    const GPTI_W(u8) low = GPTI_W(set_u8)(15), keep = GPTI_W(set_u8)(bits == 6 ? 48 : 16);
    const GPTI_W(shift) four = GPTI_W(shift_by)(4);
    const gpti_xblock *x = args->x[0];
    const gpti_tile *t = args->t;
    GPTI_W(f32) f[GPTI_FEW];
    int v, g, h, j, n = (int)(args->n / 32);
    GPTI_EACH(v, n_vec) f[v] = GPTI_W(load)(GPTI_SUMS(args, 0, v));
    for (j = 0; j < n; j++, t++, x += args->ld) {
        const GPTI_W(f32) xd = GPTI_W(set)(x->d);
        const GPTI_W(shift) nibble = GPTI_W(shift_by)(bits == 6 ? j % 4 / 2 * 4 : j % 2 * 4);
        const GPTI_W(shift) upper = GPTI_W(shift_by)(bits == 6 ? j % 4 * 2 : j);
        const size_t scales = args->q_step * (size_t)j, at = gpti_fetch_q(kind, (size_t)j, args->q_step);
        const size_t up = gpti_fetch_high(kind, (size_t)j, args->q_step);
        if (kind >= GPTI_FETCH_TILE) gpti_prefetch(args, (size_t)j, n_panel);
        else GPTI_EACH(v, n_panel) GPTI_EACH(g, of->n_line)
            GPTI_PREFETCH(args->next[v] + (size_t)j * args->n_next + 64 * g);
        GPTI_ROLL for (h = 0; h < n_half; h++) {
            GPTI_K(sum) s[GPTI_FEW], start = GPTI_K(start)(GPTI_W(four)(x->sum[GPTI_RANGE(h)]), centre);
            GPTI_EACH(v, n_vec) s[v] = start;
            GPTI_UNROLL for (g = 4 * h; g < 4 * h + n_group; g++) {
                const GPTI_W(i8) a = GPTI_W(four)(x->q + 4 * g), a1 = GPTI_W(four)(x->q + 4 * (both ? g + 4 : g));
                const GPTI_W(shift) bit = GPTI_W(shift_by)(g);
                GPTI_EACH(v, n_vec) {
                    const uint8_t *p = args->q[GPTI_PANEL_OF(v)] + 4 * GPTI_ROW_OF(v);
                    const GPTI_W(u8) q = GPTI_W(load_u8)(p + at + 64 * (size_t)g);
                    GPTI_W(u8) w = q, w1 = GPTI_W(and)(GPTI_W(right)(q, four), low);
                    if (bits < 8) w = GPTI_W(and)(both ? q : GPTI_W(right)(q, nibble), low);
                    if (kind == GPTI_FETCH_Q5_0) {
                        const GPTI_W(u8) u = GPTI_W(right)(GPTI_W(load_u8)(p + up), bit);
                        w = GPTI_W(or)(w, GPTI_W(and)(GPTI_W(left)(u, four), keep));
                        w1 = GPTI_W(or)(w1, GPTI_W(and)(u, keep));
                    } else if (bits == 5 || bits == 6) {
                        const GPTI_W(u8) u = GPTI_W(right)(GPTI_W(load_u8)(p + up + 64 * (size_t)g), upper);
                        w = GPTI_W(or)(w, GPTI_W(and)(GPTI_W(left)(u, four), keep));
                    }
                    s[v] = GPTI_K(dot)(s[v], w, a, centre, q8);
                    GPTI_KEEP(s[v]);
                    if (both) s[v] = GPTI_K(dot)(s[v], w1, a1, centre, q8);
                    GPTI_KEEP(s[v]);
                }
            }
            GPTI_EACH(v, n_vec) {
                const GPTI_W(f32) d = packed ? GPTI_W(from_f16)(args->q[GPTI_PANEL_OF(v)] + scales + 2 * GPTI_ROW_OF(v))
                    : GPTI_W(load)(GPTI_TILE_OF(t, v)->d[h] + GPTI_ROW_OF(v));
                const GPTI_W(i32) sum = GPTI_K(total)(s[v], GPTI_W(four)(x->sum[GPTI_RANGE(h)]),
                    args->zero == 0 ? bias : 0, q8);
                f[v] = GPTI_W(add)(f[v], GPTI_W(mul)(GPTI_W(from_i32)(sum), GPTI_W(mul)(d, xd)));
            }
        }
        if (args->has_min) GPTI_EACH(h, n_half) {
            const GPTI_W(f32) xs = GPTI_W(set)(x->s[GPTI_RANGE(h)]);
            GPTI_EACH(v, n_vec) {               /* a block's m is added, that of a tile subtracted */
                const uint8_t *p = args->q[GPTI_PANEL_OF(v)] + scales + 32 + 2 * GPTI_ROW_OF(v);
                const float *m = GPTI_TILE_OF(t, v)->m[h] + GPTI_ROW_OF(v);
                if (packed) f[v] = GPTI_W(add)(f[v], GPTI_W(mul)(GPTI_W(from_f16)(p), xs));
                else f[v] = GPTI_W(sub)(f[v], GPTI_W(mul)(GPTI_W(load)(m), xs));
            }
        }
    }
    GPTI_EACH(v, n_vec) GPTI_W(store)(GPTI_SUMS(args, 0, v), f[v]);
}
#define GPTI_FETCH_PRODUCT(name, kind) GPTI_PRODUCT(single_##name, GPTI_K(fetch)(args, GPTI_FETCH_##kind))
GPTI_EACH_FETCH(GPTI_FETCH_PRODUCT)
#endif

#ifdef GPTI_FIRST_OF_WIDTH
GPTI_FN void GPTI_K(step_f16)(float *out, size_t step, const uint8_t *p, size_t p_step, size_t n) {
    int r;
    for (; n > 0; n--, out += step, p += p_step)
        for (r = 0; r < 16; r += GPTI_W(lanes)) GPTI_W(store)(out + r, GPTI_W(from_f16)(p + 2 * r));
}
GPTI_FN void GPTI_K(step_scales)(float *out, size_t step, const uint8_t *c, size_t c_step, size_t n, int bias,
    const float *d) {
    const GPTI_W(f32) less = GPTI_W(set)((float)bias);
    int r;
    for (; n > 0; n--, out += step, c += c_step) for (r = 0; r < 16; r += GPTI_W(lanes)) {
        const GPTI_W(f32) x = GPTI_W(sub)(GPTI_W(from_u8)(c + r), less);
        GPTI_W(store)(out + r, GPTI_W(mul)(x, GPTI_W(load)(d + r)));
    }
}
GPTI_FN void GPTI_K(step_bits)(uint8_t *q, const uint8_t *p, int shift, int mask, int left, int merge) {
    const GPTI_W(u8) keep = GPTI_W(set_u8)(mask);
    const GPTI_W(shift) right = GPTI_W(shift_by)(shift), up = GPTI_W(shift_by)(left);
    size_t i;
    for (i = 0; i < 64; i += GPTI_VECTOR_BYTES) {
        GPTI_W(u8) v = GPTI_W(left)(GPTI_W(and)(GPTI_W(right)(GPTI_W(load_u8)(p + i), right), keep), up);
        GPTI_W(store_u8)(q + i, merge ? GPTI_W(or)(v, GPTI_W(load_u8)(q + i)) : v);
    }
}

/* 64 * n_group bytes with upper bits, which begin at b */
GPTI_FN void GPTI_K(step_high_bits)(uint8_t *low, uint8_t *high, const uint8_t *p, size_t n_group,
    const gpti_high_bits *up, const uint8_t *b) {
    const GPTI_W(u8) mask = GPTI_W(set_u8)(15), keep = GPTI_W(set_u8)(up->mask << 4);
    const GPTI_W(shift) four = GPTI_W(shift_by)(4);
    size_t g, i;
    for (g = 0; g < n_group; g++, b += up->group_step) {
        const GPTI_W(shift) s0 = GPTI_W(shift_by)(up->shift[0] + (int)g * up->group_shift);
        const GPTI_W(shift) s1 = GPTI_W(shift_by)(up->shift[1] + (int)g * up->group_shift);
        for (i = 0; i < 64; i += GPTI_VECTOR_BYTES) {
            const GPTI_W(u8) v = GPTI_W(load_u8)(p + i), v1 = GPTI_W(right)(v, four), h = GPTI_W(load_u8)(b + i);
            const GPTI_W(u8) h0 = GPTI_W(left)(GPTI_W(right)(h, s0), four);
            const GPTI_W(u8) h1 = GPTI_W(left)(GPTI_W(right)(h, s1), four);
            GPTI_W(store_u8)(low + i, GPTI_W(or)(GPTI_W(and)(v, mask), GPTI_W(and)(h0, keep)));
            GPTI_W(store_u8)(high + i, GPTI_W(or)(GPTI_W(and)(v1, mask), GPTI_W(and)(h1, keep)));
        }
        p += 64; low += 64; high += 64;
    }
}
GPTI_FN void GPTI_K(step_nibbles)(uint8_t *low, uint8_t *high, size_t step, const uint8_t *p, size_t p_step,
    size_t n, size_t n_group, const uint8_t *codes, const gpti_high_bits *up) {
    const GPTI_W(u8) mask = GPTI_W(set_u8)(15), table = codes != NULL ? GPTI_W(table)(codes) : mask;
    const GPTI_W(shift) four = GPTI_W(shift_by)(4);
    size_t j, i;
    for (j = 0; j < n; j++, low += step, high += step, p += p_step) {
        if (up != NULL) {
            GPTI_K(step_high_bits)(low, high, p, n_group, up, up->p + j * up->step);
            continue;
        }
        for (i = 0; i < 64 * n_group && codes == NULL; i += GPTI_VECTOR_BYTES) {
            const GPTI_W(u8) v = GPTI_W(load_u8)(p + i);
            GPTI_W(store_u8)(low + i, GPTI_W(and)(v, mask));
            GPTI_W(store_u8)(high + i, GPTI_W(and)(GPTI_W(right)(v, four), mask));
        }
        for (; i < 64 * n_group; i += GPTI_VECTOR_BYTES) {
            const GPTI_W(u8) v = GPTI_W(load_u8)(p + i);
            GPTI_W(store_u8)(low + i, GPTI_W(look_up)(table, GPTI_W(and)(v, mask)));
            GPTI_W(store_u8)(high + i, GPTI_W(look_up)(table, GPTI_W(and)(GPTI_W(right)(v, four), mask)));
        }
    }
}
GPTI_FN void GPTI_K(step_pairs)(gpti_tile *t, const uint8_t *p, const uint8_t *third) {
    const GPTI_W(u8) low = GPTI_W(set_u8)(3), high = GPTI_W(set_u8)(4);
    const GPTI_W(shift) one = GPTI_W(shift_by)(1), two = GPTI_W(shift_by)(2), four = GPTI_W(shift_by)(4);
    size_t i;
    int h, n;
    for (h = 0; h < 2; h++, t += 4, p += 512) {
        for (i = 0; i < 512; i += GPTI_VECTOR_BYTES) {
            GPTI_W(u8) v = GPTI_W(load_u8)(p + i), b = third != NULL ? GPTI_W(load_u8)(third + i) : v;
            if (h == 1) b = GPTI_W(right)(b, four);
            GPTI_EACH(n, 4) {
                GPTI_W(u8) q = GPTI_W(and)(v, low);
                if (third != NULL) q = GPTI_W(or)(q, GPTI_W(and)(GPTI_W(left)(b, two), high));
                GPTI_W(store_u8)(t[n].q + i, q);
                v = GPTI_W(right)(v, two);
                b = GPTI_W(right)(b, one);
            }
        }
    }
}

static gpti_unpack_steps GPTI_K(unpack_steps)(void) {
    gpti_unpack_steps steps;
    steps.skip = GPTI_SKIP_NOTHING; steps.f16 = GPTI_K(step_f16); steps.scales = GPTI_K(step_scales);
    steps.bits = GPTI_K(step_bits); steps.nibbles = GPTI_K(step_nibbles); steps.pairs = GPTI_K(step_pairs);
    return steps;
}

/* n weights of 16 rows to floats; F32 stays where it is */
GPTI_FN const float *GPTI_K(widen)(const gpti_format *fmt, const uint8_t *p, size_t n, float *out) {
    size_t i, f16 = fmt->fetch == GPTI_FETCH_F16 ? 16 * n : 0;
    if (fmt->fetch == GPTI_FETCH_F32) return (const float *)(const void *)p;
    for (i = 0; i < f16; i += GPTI_W(lanes)) GPTI_W(store)(out + i, GPTI_W(from_f16)(p + 2 * i));
    for (; i < 16 * n; i += GPTI_W(lanes)) GPTI_W(store)(out + i, GPTI_W(from_bf16)(p + 2 * i));
    return out;
}

#ifndef GPTI_OWN_QUANTIZE
GPTI_FN void GPTI_K(quantize)(gpti_xblock *out, size_t ld, const float *x, size_t n_col) {
    for (; n_col >= 32; n_col -= 32, x += 32, out += ld) {
        uint32_t top = GPTI_K(top)(x);
        if (!gpti_quantize_scale(out, top)) continue;
        GPTI_K(round)(x, 127.0f / gpti_bits_f32(top), out);
        gpti_quantize_sums(out);
    }
}
#endif

/* ---- attention, as gpti_scores_ref and gpti_add_values_ref: a sums over even i, b over odd ---- */
GPTI_FN void GPTI_K(kv_load_f16)(const uint8_t *p, size_t n, float *out) {
    size_t i = 0;
    for (; i + GPTI_W(lanes) <= n; i += GPTI_W(lanes)) GPTI_W(store)(out + i, GPTI_W(from_f16)(p + 2 * i));
    if (i < n) gpti_widen_f16(p + 2 * i, n - i, out + i);
}
GPTI_FN void GPTI_K(kv_load)(int kv, const uint8_t *p, size_t d, size_t lanes, float *out) {
    if (kv == GPT_KV_F16) GPTI_K(kv_load_f16)(p, d * lanes, out);
#ifdef GPTI_HALF_WIDTH      /* gcc 12 finds no vectors of 16 in it */
    else if (kv == GPT_KV_Q4_0) GPTI_CAT(gpti_kv_load, GPTI_HALF_WIDTH)(kv, p, d, lanes, out);
#endif
    else if (kv == GPT_KV_Q4_0) gpti_kv_load_q4_0(p, d, lanes, out, GPTI_K(kv_load_f16));
    else gpti_kv_load(kv, p, d, lanes, out);
}
#define GPTI_ATT_Q GPTI_W(att_queries)
#define GPTI_ATT_V GPTI_W(att_vectors)
#define GPTI_MADD_TO(sum, x, y) sum = GPTI_MADD(exact, GPTI_W(set)(x), y, sum)
#define GPTI_KEYS(p, v) GPTI_W(load)((p) + (size_t)GPTI_PANEL_OF(v) * 16 * d_k + GPTI_ROW_OF(v))
/* nq queries */
GPTI_FN_INLINE void GPTI_K(scores_of)(const float *const *q, const float *keys, size_t d_k, float (*s)[GPTI_ATT_KEYS],
    const int nq, const int exact) {
    GPTI_W(f32) a[GPTI_ATT_Q][GPTI_ATT_V], b[GPTI_ATT_Q][GPTI_ATT_V];
    size_t i, g;
    int v, k;
    for (g = 0; g < GPTI_ATT_KEYS; g += GPTI_ATT_V * GPTI_W(lanes)) {
        const float *p = keys + g * d_k;
        GPTI_EACH(k, nq) GPTI_EACH(v, GPTI_ATT_V) a[k][v] = b[k][v] = GPTI_W(set)(0.0f);
        for (i = 0; i + 2 <= d_k; i += 2, p += 32) {
            GPTI_W(f32) x[GPTI_ATT_V], y[GPTI_ATT_V];
            GPTI_EACH(v, GPTI_ATT_V) {
                x[v] = GPTI_KEYS(p, v);
                y[v] = GPTI_KEYS(p + 16, v);
            }
            GPTI_EACH(k, nq) GPTI_EACH(v, GPTI_ATT_V) {
                GPTI_MADD_TO(a[k][v], q[k][i], x[v]);
                GPTI_MADD_TO(b[k][v], q[k][i + 1], y[v]);
            }
        }
        if (i < d_k) GPTI_EACH(k, nq) GPTI_EACH(v, GPTI_ATT_V) GPTI_MADD_TO(a[k][v], q[k][i], GPTI_KEYS(p, v));
        GPTI_EACH(k, nq) GPTI_EACH(v, GPTI_ATT_V)
            GPTI_W(store)(s[k] + g + (size_t)(GPTI_W(lanes) * v), GPTI_W(add)(a[k][v], b[k][v]));
    }
}
GPTI_FN void GPTI_K(scores)(const float *const *q, size_t n, const float *keys, size_t d_k, float (*s)[GPTI_ATT_KEYS],
    int exact) {
    size_t i = 0;
    if (exact) for (; i + GPTI_ATT_Q <= n; i += GPTI_ATT_Q) GPTI_K(scores_of)(q + i, keys, d_k, s + i, GPTI_ATT_Q, 1);
    if (exact) for (; i < n; i++) GPTI_K(scores_of)(q + i, keys, d_k, s + i, 1, 1);
    for (; i < n; i++) GPTI_K(scores_of)(q + i, keys, d_k, s + i, 1, 0);
}
/* nv vectors of values for nq queries */
GPTI_FN_INLINE void GPTI_K(add_values_part)(float *const *o, size_t at, size_t d, float (*p)[GPTI_ATT_KEYS],
    const float *values, size_t lo, size_t hi, const int nq, const int nv, const int exact) {
    GPTI_W(f32) a[GPTI_ATT_Q][GPTI_ATT_V], b[GPTI_ATT_Q][GPTI_ATT_V];
    int v, k;
    values += lo * d;
    GPTI_EACH(k, nq) GPTI_EACH(v, nv) a[k][v] = b[k][v] = GPTI_W(set)(0.0f);
    if (lo % 2) {
        GPTI_EACH(k, nq) GPTI_EACH(v, nv) GPTI_MADD_TO(b[k][v], p[k][lo], GPTI_W(load)(values + GPTI_W(lanes) * v));
        lo++;
        values += d;
    }
    for (; lo < hi; lo += 2, values += 2 * d) {
        GPTI_EACH(v, nv) {
            const GPTI_W(f32) x = GPTI_W(load)(values + GPTI_W(lanes) * v);
            const GPTI_W(f32) y = GPTI_W(load)(values + d + GPTI_W(lanes) * v);
            GPTI_EACH(k, nq) {
                GPTI_MADD_TO(a[k][v], p[k][lo], x);
                GPTI_MADD_TO(b[k][v], p[k][lo + 1], y);
            }
        }
    }
    if (lo == hi) GPTI_EACH(k, nq) GPTI_EACH(v, nv)
        GPTI_MADD_TO(a[k][v], p[k][lo], GPTI_W(load)(values + GPTI_W(lanes) * v));
    GPTI_EACH(k, nq) GPTI_EACH(v, nv) {
        float *out = o[k] + at + GPTI_W(lanes) * v;
        GPTI_W(store)(out, GPTI_W(add)(GPTI_W(load)(out), GPTI_W(add)(a[k][v], b[k][v])));
    }
}
GPTI_FN_INLINE void GPTI_K(add_values_of)(float *const *o, size_t d, float (*p)[GPTI_ATT_KEYS], const float *values,
    size_t lo, size_t hi, const int nq, const int exact) {
    size_t i = 0, step = GPTI_ATT_V * GPTI_W(lanes);
    for (; i + step <= d; i += step)
        GPTI_K(add_values_part)(o, i, d, p, values + i, lo, hi, nq, GPTI_ATT_V, exact);
    for (; i < d; i += GPTI_W(lanes)) GPTI_K(add_values_part)(o, i, d, p, values + i, lo, hi, nq, 1, exact);
}
GPTI_FN void GPTI_K(add_values)(float *const *o, size_t n, size_t d, float (*p)[GPTI_ATT_KEYS], const float *values,
    size_t lo, size_t hi, int exact) {
    size_t i = 0;
#ifdef GPTI_HALF_WIDTH      /* a load that spans two stores would wait until both are done */
    if (d < GPTI_W(lanes)) { GPTI_CAT(gpti_add_values, GPTI_HALF_WIDTH)(o, n, d, p, values, lo, hi, exact); return; }
#endif
    if (exact) for (; i + GPTI_ATT_Q <= n; i += GPTI_ATT_Q)
        GPTI_K(add_values_of)(o + i, d, p + i, values, lo, hi, GPTI_ATT_Q, 1);
    if (exact) for (; i < n; i++) GPTI_K(add_values_of)(o + i, d, p + i, values, lo, hi, 1, 1);
    for (; i < n; i++) GPTI_K(add_values_of)(o + i, d, p + i, values, lo, hi, 1, 0);
}
GPTI_FN void GPTI_K(attend)(const gpti_attend *a, size_t begin, size_t end, gpti_scratch *scratch) {
    const gpti_attend_steps steps = { GPTI_K(kv_load), GPTI_K(scores), GPTI_K(add_values) };
    gpti_attend_body(a, begin, end, scratch, &steps);
}

/* ---- plain C of [FORWARD], compiled for this processor: loops of 16 lanes become vectors ---- */
GPTI_FN void GPTI_K(round13)(float *x, size_t n) { gpti_round13_body(x, n); }
GPTI_FN void GPTI_K(activate)(float *h, const float *up, size_t n, int kind) { gpti_activate_body(h, up, n, kind); }
GPTI_FN void GPTI_K(norm)(float *out, const float *x, size_t n, const float *w, const float *b, int kind, float eps) {
    gpti_norm_body(out, x, n, w, b, kind, eps);
}
GPTI_FN void GPTI_K(rope)(float *x, size_t n_head, size_t d, size_t n, const float *cs, int half) {
    gpti_rope_body(x, n_head, d, n, cs, half);
}
GPTI_FN void GPTI_K(delta)(float *out, float *state, const float *q, const float *k, const float *v, size_t n, size_t d,
                           float keep, float rate, int corrects) {
    gpti_delta_body(out, state, q, k, v, n, d, keep, rate, corrects);
}
GPTI_FN void GPTI_K(kv_store)(int kv, unsigned char *p, const float *x, size_t d, size_t lanes, size_t lane) {
    if (kv == GPT_KV_F16) gpti_kv_store_f16(p, x, d, lanes, lane);
    else if (kv == GPT_KV_Q4_0) gpti_kv_store_q4_0(p, x, d, lanes, lane);
    else gpti_kv_store_ref(kv, p, x, d, lanes, lane);
}
#endif

GPTI_FN void GPTI_K(matmul)(const gpti_matmul *job, size_t begin, size_t end, gpti_scratch *scratch) {
    gpti_matmul_steps steps;
    steps.n_panel = GPTI_W(panels); steps.n_tok = GPTI_W(tokens); steps.most_q = GPTI_K(most_q);
    steps.packed_panels = GPTI_W(packed_panels); steps.tile_panels = GPTI_SINGLE(tile_panels);
    steps.centre = NULL; steps.widen = GPTI_W(widen); steps.unpack = GPTI_W(unpack_steps)();
    steps.f32 = GPTI_W(many_f32); steps.f16 = GPTI_W(many_f16);
    steps.one_scale = GPTI_K(one_scale); steps.two_scales = GPTI_K(two_scales);
    steps.q5 = GPTI_K(bias_q5) > 0 ? GPTI_K(q5) : GPTI_K(one_scale);
    steps.q8 = GPTI_K(most_q) < 255 ? GPTI_K(q8) : GPTI_K(one_scale);
    steps.single_token[GPTI_FETCH_F32] = GPTI_W(single_f32); steps.single_token[GPTI_FETCH_F16] = GPTI_W(single_f16);
    steps.single_token[GPTI_FETCH_BF16] = GPTI_W(single_bf16);
#define GPTI_SET_FETCH(name, kind) steps.single_token[GPTI_FETCH_##kind] = GPTI_SINGLE(single_##name);
    GPTI_EACH_FETCH(GPTI_SET_FETCH)
    gpti_matmul_set(&steps, job, begin, end, scratch);
}

static gpti_kernels GPTI_K(kernels)(const char *name) {
    gpti_kernels k;
    k.name = name; k.usable = GPTI_K(cpu); k.matmul = GPTI_K(matmul);
    k.quantize = GPTI_W(quantize); k.round13 = GPTI_W(round13); k.attend = GPTI_W(attend); k.norm = GPTI_W(norm);
    k.activate = GPTI_W(activate); k.rope = GPTI_W(rope); k.delta = GPTI_W(delta);
    k.kv_store = GPTI_W(kv_store);
    return k;
}

#undef GPTI_KERNEL_SET
#undef GPTI_WIDTH_OF
#undef GPTI_FIRST_OF_WIDTH
#undef GPTI_HALF_WIDTH
#undef GPTI_OWN_QUANTIZE
#undef GPTI_SINGLE_TOKEN_OF
#undef GPTI_PAIRS_OF_TOKENS

#endif /* !GPTI_KERNEL_SET */
#endif /* GPT_IMPLEMENTATION */

/* ======================================================================
 * [LICENCE] Licence and changes
 * ==================================================================== */

/* Changes
 *   0.2.0  Your code has to change: the hooks of a session are one struct, params.hooks; poll(user,
 *          done, total) learns how far the call is, trace returns an int and gets the session; a session
 *          of more tokens than the model was trained for needs beyond_training. New: gpt_model_meta,
 *          gpt_model_tensor, gpt_session_hooks, gpt_version, gpt_struct_bytes, n_computed, GPT_TOKENIZE_CONTINUE,
 *          GPT_KV_Q4_0.
 *          Many texts: gpt_work, which sessions share to be one batch; gpt_eval_begin, gpt_session_hold;
 *          gpt_session_freeze with params.prefix, gpt_session_copy; gpt_session_save, _restore, gpt_resume;
 *          roll and drop for full contexts. A rewind never fails for a window's sake: what is gone is
 *          computed again. LFM2; layers of state (Qwen 3.5, Qwen3-Next, Granite 4 hybrid), n_snapshot.
 *          Forms: chat templates are run, with tools and thinking apart; gpt_constraint, ban, must_finish,
 *          min_tokens; gpt_json_get. Numbers: gpt_choose, gpt_embed, gpt_head, gpt_top, hidden states and
 *          vectors in gpt_eval_params; models that make vectors alone (bert, nomic-bert, gemma-embedding);
 *          adapters (LoRA), one for each session; n_draft; a hook for logits; typical_p, top_n_sigma, XTC, DRY,
 *          no_repeat_ngram, dynatemp, and samplers, their order. A seed draws other tokens under a
 *          constraint with min_p than before.
 *          Texts: several calls make one text, so that a character or stop string may go over from one to
 *          the next; after a stop string, a cancel or gpt_end the session holds what your callback was
 *          given. Files: a model's keys are read as llama.cpp and transformers read them, and what would
 *          be computed wrongly is refused by name.
 *   0.1.0  first version: GGUF, tokenizers, one decoder block described by data, sampling, streaming
 *
 * gpt.h is available under two licences. Choose the one you prefer.
 *
 * ==================== A: MIT No Attribution (SPDX: MIT-0) ====================
 *
 * Copyright (c) 2026 the gpt.h authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
 * associated documentation files (the "Software"), to deal in the Software without restriction,
 * including without limitation the rights to use, copy, modify, merge, publish, distribute,
 * sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
 * furnished to do so.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
 * NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 *
 * ===================== B: The Unlicense (SPDX: Unlicense) ====================
 *
 * This is free and unencumbered software released into the public domain.
 *
 * Anyone is free to copy, modify, publish, use, compile, sell, or distribute this software, either
 * in source code form or as a compiled binary, for any purpose, commercial or non-commercial, and
 * by any means.
 *
 * In jurisdictions that recognize copyright laws, the author or authors of this software dedicate
 * any and all copyright interest in the software to the public domain. We make this dedication for
 * the benefit of the public at large and to the detriment of our heirs and successors. We intend
 * this dedication to be an overt act of relinquishment in perpetuity of all present and future
 * rights to this software under copyright law.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
 * NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 * LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
 * CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 *
 * For more information, please refer to <https://unlicense.org/>
 */

/* What the mains of the fuzz targets share: without libFuzzer a target replays inputs from files, `make test` those of its corpus.
 * It comes behind LLVMFuzzerTestOneInput. */
#include "test.h"

/* The same numbers in every run (Marsaglia 2003, xorshift32). */
static uint32_t seed = 1;
static inline uint32_t next(void) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

/* A file in memory that is exactly as long, so that reading beyond it shows; NULL and a failed check where there is none. */
static uint8_t *read_whole(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    const long size = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
    uint8_t *p = size >= 0 ? (uint8_t *)malloc((size_t)size + !size) : NULL;
    const int whole = p && !fseek(f, 0, SEEK_SET) && fread(p, 1, (size_t)size, f) == (size_t)size;
    *n = whole ? (size_t)size : 0;
    CHECK(whole, "%s: cannot read", path);
    if (f) fclose(f);
    if (whole) return p;
    free(p);
    return NULL;
}

/* A file as it is; then its first `most` bytes one after the other: cut there, and changed there. */
static inline void replay(const char *path, size_t most) {
    size_t n, k;
    uint8_t *p = read_whole(path, &n);
    if (!p) return;
    LLVMFuzzerTestOneInput(p, n);
    for (k = 1; k < n && k < most; k++, test_passed += 2) {
        const uint8_t was = p[k];
        LLVMFuzzerTestOneInput(p, k);
        p[k] = (uint8_t)(was ^ (1 + k % 127));
        LLVMFuzzerTestOneInput(p, n);
        p[k] = was;
    }
    free(p);
}

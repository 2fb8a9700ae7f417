/* The library's own exp, tanh, erf, log, sin and cos: error bounds, special values, and the exact bits, which must be the same
 * on every machine. What judges single precision is libm in double precision, which has digits to spare on every system; what
 * judges double precision are values of 100 digits, as C libraries differ there: see make_math_goldens.py. */
#define GPT_IMPLEMENTATION
#include "gpt.h"
#include <math.h>
#include "test.h"

#if defined(__GNUC__) && !defined(__clang__)    /* what gets inlined here follows this file's options, not gpt.h's */
#  pragma GCC optimize("fp-contract=off")
#endif

static double worst(double a, double b) { return b > a || b != b ? b : a; }

/* One unit in the last place of an f32 near ref. */
static double ulp(double ref) {
    int e;
    (void)frexp(ref, &e);
    return ldexp(1.0, e - 24);
}

static uint64_t hash;
static void mix_begin(void) { hash = 14695981039346656037u; }
static void mix(uint32_t bits) {
    int i;
    for (i = 0; i < 4; i++) hash = (hash ^ (bits >> 8 * i & 255)) * 1099511628211u;
}
static void check_bits(uint64_t want) {
    CHECK(hash == want, "the bits differ from those of other machines: hash %08lx%08lx, kept is %08lx%08lx",
          (unsigned long)(hash >> 32), (unsigned long)(hash & 0xffffffffu), (unsigned long)(want >> 32),
          (unsigned long)(want & 0xffffffffu));
}
static void mix_d(double x) { mix((uint32_t)gpti_f64_bits(x)); mix((uint32_t)(gpti_f64_bits(x) >> 32)); }

static void test_f32(void) {
    double e_exp = 0, e_less = 0, e_sig = 0, e_tanh = 0, e_erf = 0;
    int range = 0;
    uint32_t u;
    for (u = 0; u < 0x7F800000u; u += 4099) {       /* every 4099th float of either sign */
        int sign;
        for (sign = 0; sign < 2; sign++) {
            const float x = gpti_bits_f32(u | (sign ? 0x80000000u : 0u));
            const double d = x;
            mix(gpti_f32_bits(gpti_exp(x)));
            mix(gpti_f32_bits(gpti_tanh(x)));
            mix(gpti_f32_bits(gpti_erf(x)));
            mix(gpti_f32_bits(gpti_sigmoid(x)));
            if (x >= -87.3365f && x <= 88.7228317f) {
                const float y = gpti_exp(x);
                e_exp = worst(e_exp, fabs(y - exp(d)) / ulp(exp(d)));
                if (!(y >= 1.17549435e-38f && y <= 3.40282347e38f)) range++;
            } else if (gpti_exp(x) != (x > 0.0f ? INFINITY : 0.0f)) range++;
            if (x <= 88.7228317f) {
                const double less = gpti_exp_minus_1(x);
                e_less = worst(e_less, less == expm1(d) ? 0.0 : fabs(less / expm1(d) - 1.0));
            }
            if (x > -87.0f) e_sig = worst(e_sig, fabs(gpti_sigmoid(x) * (1.0 + exp(-d)) - 1.0));
            e_tanh = worst(e_tanh, fabs(gpti_tanh(x) - tanh(d)));
            e_erf = worst(e_erf, fabs(gpti_erf(x) - erf(d)));
        }
    }
    CHECK(e_exp < 1.0, "gpti_exp: %g ulp", e_exp);
    CHECK(range == 0, "gpti_exp: %d values not normal, or not 0 or infinity outside of the range", range);
    CHECK(e_less < 4e-7, "gpti_exp_minus_1: relative error %g", e_less);
    CHECK(e_sig < 2e-7, "gpti_sigmoid: relative error %g", e_sig);
    CHECK(e_tanh < 1e-7, "gpti_tanh: error %g", e_tanh);
    CHECK(e_erf < 1e-7, "gpti_erf: error %g", e_erf);
    CHECK(gpti_exp(0.0f) == 1.0f && gpti_exp(-0.0f) == 1.0f, "e^0 is %g", gpti_exp(0.0f));
    CHECK(gpti_exp(88.73f) == INFINITY && gpti_exp(INFINITY) == INFINITY, "e^88.73 is %g", gpti_exp(88.73f));
    CHECK(gpti_exp(-87.4f) == 0.0f && gpti_exp(-INFINITY) == 0.0f, "e^-87.4 is %g", gpti_exp(-87.4f));
    CHECK(gpti_exp(NAN) != gpti_exp(NAN), "e^NaN is %g", gpti_exp(NAN));
    CHECK(gpti_tanh(INFINITY) == 1.0f && gpti_tanh(-INFINITY) == -1.0f, "tanh of infinity is %g", gpti_tanh(INFINITY));
    CHECK(gpti_tanh(0.0f) == 0.0f && gpti_tanh(NAN) != gpti_tanh(NAN), "tanh 0 is %g", gpti_tanh(0.0f));
    CHECK(gpti_erf(INFINITY) == 1.0f && gpti_erf(-INFINITY) == -1.0f, "erf of infinity is %g", gpti_erf(INFINITY));
    CHECK(gpti_erf(0.0f) == 0.0f && gpti_erf(NAN) != gpti_erf(NAN), "erf 0 is %g", gpti_erf(0.0f));
    CHECK(gpti_sigmoid(-INFINITY) == 0.0f && gpti_sigmoid(INFINITY) == 1.0f, "sigmoid: %g", gpti_sigmoid(-INFINITY));
    CHECK(gpti_sigmoid(NAN) != gpti_sigmoid(NAN), "sigmoid of NaN is %g", gpti_sigmoid(NAN));
}

#include "golden/math.inc"
#define ROWS(t) (sizeof t / sizeof t[0])

static void test_f64(void) {
    double e_exp = 0, e_log = 0, e_sin = 0, e_pow = 0, s, c;
    size_t i;
    for (i = 0; i < ROWS(golden_exp); i++)
        e_exp = worst(e_exp, fabs(gpti_exp_d(golden_exp[i][0]) / golden_exp[i][1] - 1.0));
    for (i = 0; i < ROWS(golden_log); i++)
        e_log = worst(e_log, fabs(gpti_log_d(golden_log[i][0]) / golden_log[i][1] - 1.0));
    for (i = 0; i < ROWS(golden_pow); i++)
        e_pow = worst(e_pow, fabs(gpti_pow_d(1e6, golden_pow[i][0]) / golden_pow[i][1] - 1.0));
    for (i = 0; i < ROWS(golden_sincos); i++) {
        gpti_sincos_d(golden_sincos[i][0], &s, &c);
        e_sin = worst(e_sin, fabs(s - golden_sincos[i][1]));
        e_sin = worst(e_sin, fabs(c - golden_sincos[i][2]));
    }
    for (i = 0; i < 262144; i++) {
        /* products of these are exact, so that a compiler that fuses them in this file changes nothing */
        const double u = (double)(i * 7919 % 262144) / 262144.0, x = u * 1417.0 - 708.0;
        const double v = i % 2 ? gpti_exp_d(x) : 0.5 + u;
        gpti_sincos_d(i % 2 ? (u * 2.0 - 1.0) * 1073741823.0 : u * 100.0, &s, &c);
        mix_d(v); mix_d(gpti_log_d(v)); mix_d(s); mix_d(c); mix_d(gpti_pow_d(1e4, -u));
    }
    CHECK(e_exp < 1e-15, "gpti_exp_d: relative error %g", e_exp);
    CHECK(e_log < 1e-15, "gpti_log_d: relative error %g", e_log);
    CHECK(e_pow < 1e-14, "gpti_pow_d: relative error %g", e_pow);
    CHECK(e_sin < 1e-15, "gpti_sincos_d: error %g", e_sin);
    CHECK(gpti_exp_d(0.0) == 1.0 && gpti_exp_d(710.0) == INFINITY && gpti_exp_d(-709.0) == 0.0, "e^0 is %g",
          gpti_exp_d(0.0));
    CHECK(gpti_exp_d(NAN) != gpti_exp_d(NAN) && gpti_exp_d(-INFINITY) == 0.0, "e^NaN is %g", gpti_exp_d(NAN));
    CHECK(gpti_log_d(1.0) == 0.0 && gpti_log_d(0.0) == -INFINITY, "ln 0 is %g", gpti_log_d(0.0));
    CHECK(gpti_log_d(INFINITY) == INFINITY && gpti_log_d(-1.0) != gpti_log_d(-1.0), "ln -1 is %g", gpti_log_d(-1.0));
    CHECK(gpti_log_d(NAN) != gpti_log_d(NAN), "ln NaN is %g", gpti_log_d(NAN));
    CHECK(fabs(gpti_log_d(4.9406564584124654e-324) + 744.44007192138127) < 1e-12, "ln of the least subnormal is %g",
          gpti_log_d(4.9406564584124654e-324));
    CHECK(gpti_pow_d(0.0, 0.0) == 1.0 && gpti_pow_d(0.0, 2.0) == 0.0 && gpti_pow_d(0.0, -1.0) == INFINITY, "0^2 is %g",
          gpti_pow_d(0.0, 2.0));
    gpti_sincos_d(0.0, &s, &c);
    CHECK(s == 0.0 && c == 1.0, "sin 0 is %g, cos 0 is %g", s, c);
    gpti_sincos_d(1e300, &s, &c);
    CHECK(s != s && c != c, "sin 1e300 is %g", s);
    gpti_sincos_d(-INFINITY, &s, &c);
    CHECK(s != s && c != c, "sin -infinity is %g", s);
}

static void f32(void) { mix_begin(); test_f32(); check_bits(0x4E9DB3C27A248B8Du); }
static void f64(void) { mix_begin(); test_f64(); check_bits(0xE2E0F1EA5E463E69u); }

static const test tests[] = { { "f32", f32 }, { "f64", f64 }, { NULL, NULL } };

int main(int argc, char **argv) {
    test_run(tests, argc, argv);
    return test_report("unit_math");
}

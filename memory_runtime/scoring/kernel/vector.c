/* What differs between CPUs: the first bound of sixteen rows, the second bound's product, the exact product, quantising.
 * Integer sums are equal everywhere; the exact product is, too, because its order of summation is fixed. Plain loops are
 * compiled once for each instruction set; only the first bound needs intrinsics.
 */
#include "vector.h"

#include "encode.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SOMA_X86 1
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* ---- first bound: 16 rows ---- */

INLINE unsigned mask_portable_body(const uint8_t *codes, const float *head, const float *weight, const int8_t *query,
                                   int64_t quads, const float *constants, float threshold) {
    int32_t sums[GROUP] = {0};
    unsigned mask = 0;
    for (int64_t quad = 0; quad < quads; quad++)
        for (int row = 0; row < GROUP; row++)
            for (int d = 0; d < 4; d++) sums[row] += codes[quad * 64 + row * 4 + d] * query[quad * 4 + d];
    for (int row = 0; row < GROUP; row++) {
        float estimate = ((float)sums[row] - constants[Q_ZERO]) * constants[Q_SCALE] * head[row];
        float bound = estimate + constants[Q_RESIDUAL] * head[GROUP + row] + constants[Q_PREFIX_SLACK];
        mask |= (unsigned)(bound * weight[row] >= threshold) << row;
    }
    return mask;
}

static unsigned mask_portable(const uint8_t *codes, const float *head, const float *weight, const int8_t *query,
                              int64_t quads, const float *constants, float threshold) {
    return mask_portable_body(codes, head, weight, query, quads, constants, threshold);
}

#ifdef SOMA_X86
__attribute__((target("avx2"))) static unsigned mask_avx2(const uint8_t *codes, const float *head, const float *weight,
                                                          const int8_t *query, int64_t quads, const float *constants,
                                                          float threshold) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i low = _mm256_setzero_si256(), high = low;
    unsigned mask = 0;
    for (int64_t quad = 0; quad < quads; quad++) {
        int32_t four;
        memcpy(&four, query + quad * 4, 4);
        __m256i q = _mm256_set1_epi32(four);
        __m256i a = _mm256_loadu_si256((const __m256i *)(codes + quad * 64));
        __m256i b = _mm256_loadu_si256((const __m256i *)(codes + quad * 64 + 32));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_maddubs_epi16(a, q), ones));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_maddubs_epi16(b, q), ones));
    }
    for (int half = 0; half < 2; half++) {
        __m256 sums = _mm256_cvtepi32_ps(half ? high : low);
        __m256 estimate = _mm256_mul_ps(_mm256_sub_ps(sums, _mm256_set1_ps(constants[Q_ZERO])),
                                        _mm256_set1_ps(constants[Q_SCALE]));
        __m256 bound = _mm256_add_ps(
            _mm256_mul_ps(estimate, _mm256_loadu_ps(head + half * 8)),
            _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(constants[Q_RESIDUAL]), _mm256_loadu_ps(head + GROUP + half * 8)),
                          _mm256_set1_ps(constants[Q_PREFIX_SLACK])));
        bound = _mm256_mul_ps(bound, _mm256_loadu_ps(weight + half * 8));
        mask |= (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(bound, _mm256_set1_ps(threshold), _CMP_GE_OQ)) << (half * 8);
    }
    return mask;
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) static unsigned
mask_vnni(const uint8_t *codes, const float *head, const float *weight, const int8_t *query, int64_t quads,
          const float *constants, float threshold) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    int64_t quad = 0;
    for (; quad + 1 < quads; quad += 2) {
        int32_t four[2];
        memcpy(four, query + quad * 4, 8);
        even = _mm512_dpbusd_epi32(even, _mm512_loadu_si512(codes + quad * 64), _mm512_set1_epi32(four[0]));
        odd = _mm512_dpbusd_epi32(odd, _mm512_loadu_si512(codes + quad * 64 + 64), _mm512_set1_epi32(four[1]));
    }
    if (quad < quads) {
        int32_t four;
        memcpy(&four, query + quad * 4, 4);
        even = _mm512_dpbusd_epi32(even, _mm512_loadu_si512(codes + quad * 64), _mm512_set1_epi32(four));
    }
    __m512 sums = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
    __m512 estimate =
        _mm512_mul_ps(_mm512_sub_ps(sums, _mm512_set1_ps(constants[Q_ZERO])), _mm512_set1_ps(constants[Q_SCALE]));
    __m512 rest = _mm512_fmadd_ps(_mm512_set1_ps(constants[Q_RESIDUAL]), _mm512_loadu_ps(head + GROUP),
                                  _mm512_set1_ps(constants[Q_PREFIX_SLACK]));
    __m512 bound = _mm512_mul_ps(_mm512_fmadd_ps(estimate, _mm512_loadu_ps(head), rest), _mm512_loadu_ps(weight));
    return _mm512_cmp_ps_mask(bound, _mm512_set1_ps(threshold), _CMP_GE_OQ);
}

/* Eight sums at once, because each takes five cycles from one product to the next. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) static void
masks_vnni(const uint8_t *codes, const float *head, const float *weight, const abreast *queries, int64_t quads,
           unsigned masks[PAIR][ABREAST]) {
    __m512i sum[PAIR][ABREAST];
    for (int group = 0; group < PAIR; group++)
        for (int at = 0; at < ABREAST; at++) sum[group][at] = _mm512_setzero_si512();
    for (int64_t quad = 0; quad < quads; quad++) {
        const __m512i first = _mm512_loadu_si512(codes + quad * 64);
        const __m512i second = _mm512_loadu_si512(codes + (quads + quad) * 64);
        const int32_t *fours = queries->packed + quad * ABREAST;
        for (int at = 0; at < ABREAST; at++) {
            const __m512i four = _mm512_set1_epi32(fours[at]);
            sum[0][at] = _mm512_dpbusd_epi32(sum[0][at], first, four);
            sum[1][at] = _mm512_dpbusd_epi32(sum[1][at], second, four);
        }
    }
    for (int group = 0; group < PAIR; group++) {
        const __m512 scale = _mm512_loadu_ps(head + group * 2 * GROUP), w = _mm512_loadu_ps(weight + group * GROUP);
        const __m512 residual = _mm512_loadu_ps(head + group * 2 * GROUP + GROUP);
        for (int at = 0; at < ABREAST; at++) {
            const float *c = queries->constants[at];
            __m512 estimate = _mm512_mul_ps(
                _mm512_sub_ps(_mm512_cvtepi32_ps(sum[group][at]), _mm512_set1_ps(c[Q_ZERO])), _mm512_set1_ps(c[Q_SCALE]));
            __m512 rest = _mm512_fmadd_ps(_mm512_set1_ps(c[Q_RESIDUAL]), residual, _mm512_set1_ps(c[Q_PREFIX_SLACK]));
            __m512 bound = _mm512_mul_ps(_mm512_fmadd_ps(estimate, scale, rest), w);
            masks[group][at] = _mm512_cmp_ps_mask(bound, _mm512_set1_ps(queries->thresholds[at]), _CMP_GE_OQ);
        }
    }
}
#endif

static void masks_singly(const uint8_t *codes, const float *head, const float *weight, const abreast *queries,
                         int64_t quads, unsigned masks[PAIR][ABREAST]) {
    for (int group = 0; group < PAIR; group++)
        for (int at = 0; at < ABREAST; at++)
            masks[group][at] =
                soma_mask(codes + group * quads * 64, head + group * 2 * GROUP, weight + group * GROUP, queries->narrow[at],
                          quads, queries->constants[at], queries->thresholds[at]);
}

/* ---- second bound and exact product: plain loops, compiled once for each instruction set ---- */

INLINE int32_t dot_body(const uint8_t *codes, const int16_t *query, int64_t dim) {
    int32_t sum = 0;
    for (int64_t d = 0; d < dim; d++) sum += (int32_t)codes[d] * query[d];
    return sum;
}

INLINE void exact_body(const float *row, const float *query, int64_t dim, double *out) {
    double lanes[32] = {0};
    int64_t d = 0;
    for (; d + 32 <= dim; d += 32)
        for (int lane = 0; lane < 32; lane++) lanes[lane] += (double)row[d + lane] * (double)query[d + lane];
    for (int lane = 0; d + lane < dim; lane++) lanes[lane] += (double)row[d + lane] * (double)query[d + lane];
    for (int width = 16; width; width /= 2)
        for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
    *out = lanes[0];
}

INLINE void codes_body(const float *v, int64_t dim, uint8_t *record, uint8_t *tail) {
    float scale, inverse, square = 0, lanes[16] = {0}, error;
    int64_t d;
    scale = soma_largest(v, dim) / 127;
    inverse = scale > 0 ? 1 / scale : 0;
    for (d = 0; d < dim; d++) record[d] = (uint8_t)(int32_t)(v[d] * inverse + 128.5f);
    /* Sixteen sums, because a single one cannot be vectorised without changing its order */
    for (d = 0; d + 16 <= dim; d += 16)
        for (int lane = 0; lane < 16; lane++) {
            float miss = v[d + lane] - (float)((int32_t)record[d + lane] - 128) * scale;
            lanes[lane] += miss * miss;
        }
    for (; d < dim; d++) {
        float miss = v[d] - (float)((int32_t)record[d] - 128) * scale;
        square += miss * miss;
    }
    for (int lane = 0; lane < 16; lane++) square += lanes[lane];
    /* 0.1 % covers the rounding of this sum */
    error = sqrtf(square) * 1.001f + 1e-6f;
    memcpy(tail + TAIL_SCALE, &scale, 4);
    memcpy(tail + TAIL_ERROR, &error, 4);
}

static int32_t dot_portable(const uint8_t *c, const int16_t *q, int64_t dim) { return dot_body(c, q, dim); }
static void exact_portable(const float *r, const float *q, int64_t dim, double *out) { exact_body(r, q, dim, out); }
static void codes_portable(const float *v, int64_t dim, uint8_t *r, uint8_t *t) { codes_body(v, dim, r, t); }
#ifdef SOMA_X86
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
AVX2 static int32_t dot_avx2(const uint8_t *c, const int16_t *q, int64_t dim) { return dot_body(c, q, dim); }
AVX2 static void exact_avx2(const float *r, const float *q, int64_t dim, double *out) { exact_body(r, q, dim, out); }
AVX2 static void codes_avx2(const float *v, int64_t dim, uint8_t *r, uint8_t *t) { codes_body(v, dim, r, t); }
AVX512 static int32_t dot_avx512(const uint8_t *c, const int16_t *q, int64_t dim) { return dot_body(c, q, dim); }
AVX512 static void exact_avx512(const float *r, const float *q, int64_t dim, double *out) { exact_body(r, q, dim, out); }
#endif

mask_function soma_mask = mask_portable;
masks_function soma_masks = masks_singly;
dot_function soma_dot = dot_portable;
static exact_function exact_of = exact_portable;
static codes_function codes_of = codes_portable;
static const char *variant = "portable";

const char *soma_variant(void) { return variant; }

int soma_force(const char *name) {
    soma_masks = masks_singly;
    if (!strcmp(name, "portable")) {
        soma_mask = mask_portable, soma_dot = dot_portable, exact_of = exact_portable, codes_of = codes_portable;
        soma_force_encode(0);
        variant = "portable";
        return 1;
    }
#ifdef SOMA_X86
    __builtin_cpu_init();
    if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        soma_mask = mask_avx2, soma_dot = dot_avx2, exact_of = exact_avx2, codes_of = codes_avx2;
        soma_force_encode(1);
        variant = "avx2";
        return 1;
    }
    if (!strcmp(name, "avx512-vnni") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        soma_mask = mask_vnni, soma_dot = dot_avx512, exact_of = exact_avx512, codes_of = codes_avx2;
        soma_masks = masks_vnni;
        soma_force_encode(2);
        variant = "avx512-vnni";
        return 1;
    }
#endif
    return 0;
}

void soma_exact_dots(const float *rows, int64_t dim, const int64_t *positions, int64_t count, const float *query,
                     double *dots) {
    for (int64_t at = 0; at < count; at++) exact_of(rows + positions[at] * dim, query, dim, dots + at);
}

void soma_log2(double *values, int64_t count, const double *centre_logs, const double *terms, int64_t term_count) {
    for (int64_t at = 0; at < count; at++) {
        int exponent, low;
        double mantissa = frexp(values[at], &exponent), step, centre, s, square, series = 0;
        low = mantissa < 0.7071067811865476;
        if (low) mantissa *= 2;
        step = (double)(int64_t)(mantissa * 64 + 0.5);
        centre = step / 64;
        s = (mantissa - centre) / (mantissa + centre);
        square = s * s;
        for (int64_t term = 0; term < term_count; term++) series = series * square + terms[term];
        values[at] = (double)(exponent - low) + (centre_logs[(int64_t)step] + (2.0 / 0.6931471805599453) * s * series);
    }
}

void soma_exp2(double *values, int64_t count, const double *powers, const double *terms, int64_t term_count) {
    for (int64_t at = 0; at < count; at++) {
        double step = (double)(int64_t)(values[at] * 256), x = (values[at] - step / 256) * 0.6931471805599453;
        double series = 0, base = powers[step < 255 ? (int64_t)step : 255], result;
        for (int64_t term = 0; term < term_count; term++) series = (series + terms[term]) * x;
        result = base + base * series;
        values[at] = result < 0x1.fffffffffffffp+0 ? result : 0x1.fffffffffffffp+0;
    }
}

void soma_wide_codes(const float *rows, int64_t count, int64_t dim, uint8_t *records, int64_t stride) {
    for (int64_t row = 0; row < count; row++) {
        uint8_t *record = records + row * stride;
        codes_of(rows + row * dim, dim, record, record + stride - TAIL_BYTES);
    }
}

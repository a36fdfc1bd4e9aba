/* The scan: a certified bound from 64 bytes a row, a tighter one from `dim` bytes for the few that pass, and the exact
 * dot product for the very few that are left (asked for by the caller).
 *
 * Rows lie in groups of 16; of each row the first dimensions of a basis are kept as 7-bit codes, four dimensions of
 * sixteen rows side by side, so that one instruction (VPDPBUSD, or VPMADDUBSW + VPMADDWD) advances sixteen rows and no
 * horizontal sum is needed. 7 bits, because 127 * 127 * 2 fits the 16 bits in which VPMADDUBSW saturates.
 * All sums are integers: every variant computes the same estimates. Bounds are inflated by more than float rounding.
 *
 * No libm: its log2 and exp2 would tie the binary to a recent glibc.
 */
#include "scan.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SOMA_X86 1
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Weights at or below this stand for "at most this": a row whose weight underflowed gives no lower bound. */
static const float CLAMPED = 0x1p-118f;
static const float INFLATE = 1.00001f;
static const float DEFLATE = 0.99999f;

typedef unsigned (*mask_function)(const uint8_t *codes, const float *head, const float *weight, const int8_t *query,
                                  int64_t quads, const float *constants, float threshold);
typedef int32_t (*dot_function)(const uint8_t *codes, const int16_t *query, int64_t dim);
typedef void (*exact_function)(const float *row, const float *query, int64_t dim, double *out);

/* ---- log2 and exp2 to about 1e-10, which the slack (at least 1e-6) covers ---- */

static double log2_of(double x) {
    int exponent;
    double m = frexp(x, &exponent), s, square;
    if (m < 0.7071067811865476) {
        m *= 2;
        exponent--;
    }
    s = (m - 1) / (m + 1);
    square = s * s;
    return exponent + 2.8853900817779268 * s *
                          (1 + square * (1 / 3. + square * (1 / 5. + square * (1 / 7. + square * (1 / 9. + square / 11)))));
}

static double exp2_of(double x) {
    double whole, f, term = 1, sum = 1;
    if (x < -1000) return 0;
    if (x > 1000) return ldexp(1, 1000);
    whole = (double)(int64_t)x;
    f = (x - whole) * 0.6931471805599453;
    for (int n = 1; n < 14; n++) {
        term *= f / n;
        sum += term;
    }
    return ldexp(sum, (int)whole);
}

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
#endif

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

static int32_t dot_portable(const uint8_t *c, const int16_t *q, int64_t dim) { return dot_body(c, q, dim); }
static void exact_portable(const float *r, const float *q, int64_t dim, double *out) { exact_body(r, q, dim, out); }
#ifdef SOMA_X86
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
AVX2 static int32_t dot_avx2(const uint8_t *c, const int16_t *q, int64_t dim) { return dot_body(c, q, dim); }
AVX2 static void exact_avx2(const float *r, const float *q, int64_t dim, double *out) { exact_body(r, q, dim, out); }
AVX512 static int32_t dot_avx512(const uint8_t *c, const int16_t *q, int64_t dim) { return dot_body(c, q, dim); }
AVX512 static void exact_avx512(const float *r, const float *q, int64_t dim, double *out) { exact_body(r, q, dim, out); }
#endif

static mask_function mask_of = mask_portable;
static dot_function dot_of = dot_portable;
static exact_function exact_of = exact_portable;
static const char *variant = "portable";

const char *soma_variant(void) { return variant; }

int soma_force(const char *name) {
    if (!strcmp(name, "portable")) {
        mask_of = mask_portable, dot_of = dot_portable, exact_of = exact_portable, variant = "portable";
        return 1;
    }
#ifdef SOMA_X86
    __builtin_cpu_init();
    if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        mask_of = mask_avx2, dot_of = dot_avx2, exact_of = exact_avx2, variant = "avx2";
        return 1;
    }
    if (!strcmp(name, "avx512-vnni") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        mask_of = mask_vnni, dot_of = dot_avx512, exact_of = exact_avx512, variant = "avx512-vnni";
        return 1;
    }
#endif
    return 0;
}

/* ---- the heap of lower bounds ---- */

static void heap_push(double *heap, int64_t *size, int64_t k, double value) {
    int64_t at;
    if (*size < k) {
        at = (*size)++;
        while (at && heap[(at - 1) / 2] > value) {
            heap[at] = heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }
        heap[at] = value;
        return;
    }
    if (value <= heap[0]) return;
    for (at = 0;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) break;
        if (child + 1 < k && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= value) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = value;
}

/* The least similarity * weight, in this block's units, that can still matter; 0 while fewer than k rows are known. */
static float threshold_of(const scan_job *job, int64_t query) {
    if (job->counters[query * COUNTERS + C_HEAP] < job->k) return 0;
    double log2_key = job->heap[query * job->k] / job->beta - job->offset - job->slack;
    if (log2_key > 100) return 0x1p100f;
    /* Above zero always: a row of similarity zero must never look like a candidate */
    return log2_key < -140 ? 0 : (float)exp2_of(log2_key) * DEFLATE;
}

static int visible(const scan_job *job, int64_t row, const uint8_t *tail) {
    double time, expiry;
    uint64_t death;
    if (job->allow && !job->allow[row]) return 0;
    memcpy(&time, tail + TAIL_TIME, 8);
    memcpy(&expiry, tail + TAIL_EXPIRY, 8);
    /* Another thread may be writing this death: whichever value is read, it is of another epoch than ours or older */
    death = __atomic_load_n((const uint64_t *)(const void *)(tail + TAIL_DEATH), __ATOMIC_RELAXED);
    return time <= job->latest && expiry > job->now && !(death && death <= job->epoch);
}

/* Second bound of one row: keeps it as a candidate if it can still be in the answer, and raises the threshold. */
static float consider(const scan_job *job, int64_t query, int64_t row, float threshold) {
    const uint8_t *record = job->records + row * job->stride, *tail = record + job->stride - TAIL_BYTES;
    const float *c = job->constants + query * CONSTANTS;
    int64_t *counters = job->counters + query * COUNTERS;
    float scale, error, estimate, upper, lower, weight = job->weight[row];
    if (!visible(job, row, tail)) return threshold;
    memcpy(&scale, tail + TAIL_SCALE, 4);
    memcpy(&error, tail + TAIL_ERROR, 4);
    int32_t sum = dot_of(record, job->wide + query * job->dim, job->dim);
    estimate = (float)((double)(sum - job->zero[query]) * c[Q_WIDE_SCALE]) * scale;
    error += c[Q_WIDE_SLACK];
    upper = (estimate + error) * weight * INFLATE;
    if (!(upper > 0) || upper < threshold) return threshold;
    int64_t slot = query * job->capacity + counters[C_CANDIDATES]++;
    job->positions[slot] = row;
    job->bounds[slot] = job->beta * (log2_of(upper) + job->offset + job->slack);
    lower = (estimate - error) * weight * DEFLATE;
    if (lower > threshold && lower > 0 && weight > CLAMPED) {
        heap_push(job->heap + query * job->k, counters + C_HEAP, job->k,
                  job->beta * (log2_of(lower) + job->offset - job->slack));
        return threshold_of(job, query);
    }
    return threshold;
}

/* Forgets candidates that the risen threshold has ruled out. Returns the room left. */
static int64_t compact(const scan_job *job, int64_t query) {
    int64_t *count = job->counters + query * COUNTERS + C_CANDIDATES, kept = 0;
    int64_t *positions = job->positions + query * job->capacity;
    double *bounds = job->bounds + query * job->capacity;
    if (job->counters[query * COUNTERS + C_HEAP] == job->k) {
        double least = job->heap[query * job->k];
        for (int64_t at = 0; at < *count; at++) {
            if (bounds[at] < least) continue;
            positions[kept] = positions[at];
            bounds[kept++] = bounds[at];
        }
        *count = kept;
    }
    return job->capacity - *count;
}

/* One chunk of rows for one query: first bound for all, second for those that pass. */
static void scan_chunk(const scan_job *job, int64_t query, int64_t first, int64_t last) {
    int64_t passing[CHUNK_GROUPS * GROUP], count = 0;
    const int8_t *narrow = job->narrow + query * job->quads * 4;
    const float *constants = job->constants + query * CONSTANTS;
    float threshold = threshold_of(job, query);
    for (int64_t group = first / GROUP; group * GROUP < last; group++) {
        int64_t base = group * GROUP;
        unsigned mask = mask_of(job->prefix + base * job->quads * 4, job->head + base * 2, job->weight + base, narrow,
                                job->quads, constants, threshold);
        if (base < first) mask &= ~0u << (first - base);
        if (base + GROUP > last) mask &= (1u << (last - base)) - 1;
        while (mask) {
            int64_t row = base + __builtin_ctz(mask);
            const uint8_t *record = job->records + row * job->stride;
            mask &= mask - 1;
            if (!(job->weight[row] > 0)) continue;
            for (int64_t byte = 0; byte < job->stride; byte += 64) __builtin_prefetch(record + byte);
            passing[count++] = row;
        }
    }
    for (int64_t at = 0; at < count; at++) threshold = consider(job, query, passing[at], threshold);
    job->counters[query * COUNTERS + C_SCANNED] += last - first;
}

int64_t soma_scan(const scan_job *job) {
    const int64_t chunk = CHUNK_GROUPS * GROUP;
    for (int64_t first = job->start; first < job->end;) {
        int64_t last = (first / chunk + 1) * chunk, running = 0;
        if (last > job->end) last = job->end;
        for (int64_t query = 0; query < job->queries; query++)
            if (job->capacity - job->counters[query * COUNTERS + C_CANDIDATES] < chunk && compact(job, query) < chunk)
                return first;
        for (int64_t query = 0; query < job->queries; query++) {
            int64_t *counters = job->counters + query * COUNTERS;
            if (counters[C_STOPPED]) continue;
            if (job->sorted && job->weight[first] * job->constants[query * CONSTANTS + Q_MAX_SIMILARITY] * INFLATE <
                                   threshold_of(job, query)) {
                counters[C_STOPPED] = 1;
                continue;
            }
            running++;
            scan_chunk(job, query, first, last);
        }
        if (!running) return job->end;
        first = last;
    }
    return job->end;
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
        const float *v = rows + row * dim;
        uint8_t *record = records + row * stride, *tail = record + stride - TAIL_BYTES;
        float largest = 0, scale, inverse, square = 0;
        for (int64_t d = 0; d < dim; d++) {
            float size = v[d] < 0 ? -v[d] : v[d];
            largest = size > largest ? size : largest;
        }
        scale = largest / 127;
        inverse = scale > 0 ? 1 / scale : 0;
        for (int64_t d = 0; d < dim; d++) {
            int32_t code = (int32_t)(v[d] * inverse + 128.5f);
            float miss = v[d] - (float)(code - 128) * scale;
            record[d] = (uint8_t)code;
            square += miss * miss;
        }
        /* The caller's slack covers the rounding of this sum */
        float error = sqrtf(square) * 1.001f + 1e-6f;
        memcpy(tail + TAIL_SCALE, &scale, 4);
        memcpy(tail + TAIL_ERROR, &error, 4);
    }
}

/* Quantising and moving rows. Only bounds are computed here (docs/scoring.md, "Two bounds"), so the order of a float sum
 * does not matter, but for soma_unit_rows: what it gives is stored and scored.
 */
#include "encode.h"

#include <math.h>
#include <string.h>

#include "vector.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SOMA_X86 1
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
enum { TILE = 4, LANES = 32 };

/* ---- unit vectors ---- */

#define UNIT_BODY(NAME, KIND)                                                                                 \
    INLINE void NAME(const KIND *row, int64_t dim, float *out, double *norm) {                                \
        double lanes[LANES] = {0}, length;                                                                    \
        int64_t d = 0;                                                                                        \
        for (; d + LANES <= dim; d += LANES)                                                                  \
            for (int lane = 0; lane < LANES; lane++) lanes[lane] += (double)row[d + lane] * (double)row[d + lane]; \
        for (int lane = 0; d + lane < dim; lane++) lanes[lane] += (double)row[d + lane] * (double)row[d + lane]; \
        for (int width = LANES / 2; width; width /= 2)                                                        \
            for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];                      \
        length = sqrt(lanes[0]);                                                                              \
        for (d = 0; d < dim; d++) out[d] = (float)((double)row[d] / length);                                  \
        *norm = length;                                                                                       \
    }
UNIT_BODY(unit_single_body, float)
UNIT_BODY(unit_double_body, double)

INLINE void unit_body(const void *rows, int is_double, int64_t count, int64_t dim, float *out, double *norms) {
    for (int64_t row = 0; row < count; row++)
        if (is_double)
            unit_double_body((const double *)rows + row * dim, dim, out + row * dim, norms + row);
        else
            unit_single_body((const float *)rows + row * dim, dim, out + row * dim, norms + row);
}

/* ---- projection: four rows at a time, so that the basis is read once for all of them ---- */

static void project_portable(const float *rows, int64_t count, int64_t dim, const float *columns, int64_t width, float *out) {
    memset(out, 0, (size_t)(count * width) * sizeof(float));
    for (int64_t row = 0; row < count; row++)
        for (int64_t d = 0; d < dim; d++)
            for (int64_t c = 0; c < width; c++) out[row * width + c] += rows[row * dim + d] * columns[d * width + c];
}

#ifdef SOMA_X86
/* `vectors` registers of `lanes` columns for each of TILE rows stay in registers through the whole of `dim`. */
#define PROJECT(NAME, TARGET, VECTOR, lanes, vectors, ZERO, LOAD, SET1, FMA, STORE)                                    \
    TARGET static void NAME##_tile(const float *const *row, int64_t dim, const float *columns, int64_t width, float *out) { \
        VECTOR sum[TILE][vectors];                                                                                     \
        for (int r = 0; r < TILE; r++)                                                                                 \
            for (int v = 0; v < vectors; v++) sum[r][v] = ZERO();                                                      \
        for (int64_t d = 0; d < dim; d++) {                                                                            \
            VECTOR column[vectors];                                                                                    \
            for (int v = 0; v < vectors; v++) column[v] = LOAD(columns + d * width + v * lanes);                       \
            for (int r = 0; r < TILE; r++) {                                                                           \
                VECTOR x = SET1(row[r][d]);                                                                            \
                for (int v = 0; v < vectors; v++) sum[r][v] = FMA(x, column[v], sum[r][v]);                            \
            }                                                                                                          \
        }                                                                                                              \
        for (int r = 0; r < TILE; r++)                                                                                 \
            for (int v = 0; v < vectors; v++) STORE(out + r * width + v * lanes, sum[r][v]);                           \
    }
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
PROJECT(project_avx512_wide, AVX512, __m512, 16, 4, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
        _mm512_storeu_ps)
PROJECT(project_avx512_thin, AVX512, __m512, 16, 1, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps,
        _mm512_storeu_ps)
PROJECT(project_avx2_thin, AVX2, __m256, 8, 2, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps,
        _mm256_storeu_ps)

/* `out` has room for TILE rows whatever the count: a short tile repeats its last row. */
static void tile_rows(const float *rows, int64_t count, int64_t dim, const float **row) {
    for (int64_t r = 0; r < TILE; r++) row[r] = rows + (r < count ? r : count - 1) * dim;
}

static void project_avx512(const float *rows, int64_t count, int64_t dim, const float *columns, int64_t width, float *out) {
    const float *row[TILE];
    int64_t c = 0;
    tile_rows(rows, count, dim, row);
    for (; c + 64 <= width; c += 64) project_avx512_wide_tile(row, dim, columns + c, width, out + c);
    for (; c < width; c += 16) project_avx512_thin_tile(row, dim, columns + c, width, out + c);
}

static void project_avx2(const float *rows, int64_t count, int64_t dim, const float *columns, int64_t width, float *out) {
    const float *row[TILE];
    tile_rows(rows, count, dim, row);
    for (int64_t c = 0; c < width; c += 16) project_avx2_thin_tile(row, dim, columns + c, width, out + c);
}
#endif

/* ---- codes of one projected row ---- */

/* Returns |p - codes|^2. `codes` has room for quads * 4 bytes. */
INLINE double quantise_body(const float *p, int64_t size, uint8_t *codes, float *scale, double *kept) {
    float step, inverse;
    double missed[16] = {0}, square[16] = {0};
    int64_t d;
    step = soma_largest(p, size) / 63;
    inverse = 1 / step;
    for (d = 0; d < size; d++) codes[d] = (uint8_t)(int32_t)(p[d] * inverse + 64.5f);
    for (d = 0; d + 16 <= size; d += 16)
        for (int lane = 0; lane < 16; lane++) {
            double x = p[d + lane], miss = x - (double)((int32_t)codes[d + lane] - 64) * (double)step;
            missed[lane] += miss * miss;
            square[lane] += x * x;
        }
    for (int lane = 0; d + lane < size; lane++) {
        double x = p[d + lane], miss = x - (double)((int32_t)codes[d + lane] - 64) * (double)step;
        missed[lane] += miss * miss;
        square[lane] += x * x;
    }
    for (int lane = 1; lane < 16; lane++) missed[0] += missed[lane], square[0] += square[lane];
    *scale = step;
    *kept = sqrt(square[0]);
    return missed[0];
}

static double quantise_portable(const float *p, int64_t size, uint8_t *codes, float *scale, double *kept) {
    return quantise_body(p, size, codes, scale, kept);
}
static void unit_portable(const void *rows, int is_double, int64_t count, int64_t dim, float *out, double *norms) {
    unit_body(rows, is_double, count, dim, out, norms);
}
#ifdef SOMA_X86
AVX2 static double quantise_avx2(const float *p, int64_t size, uint8_t *codes, float *scale, double *kept) {
    return quantise_body(p, size, codes, scale, kept);
}
AVX2 static void unit_avx2(const void *rows, int is_double, int64_t count, int64_t dim, float *out, double *norms) {
    unit_body(rows, is_double, count, dim, out, norms);
}
#endif

static void (*project)(const float *, int64_t, int64_t, const float *, int64_t, float *) = project_portable;
static double (*quantise)(const float *, int64_t, uint8_t *, float *, double *) = quantise_portable;
static void (*unit)(const void *, int, int64_t, int64_t, float *, double *) = unit_portable;

void soma_force_encode(int level) {
    project = project_portable, quantise = quantise_portable, unit = unit_portable;
#ifdef SOMA_X86
    if (level >= 1) project = project_avx2, quantise = quantise_avx2, unit = unit_avx2;
    if (level >= 2) project = project_avx512;
#else
    (void)level;
#endif
}

void soma_unit_rows(const void *rows, int is_double, int64_t count, int64_t dim, float *out, double *norms) {
    unit(rows, is_double, count, dim, out, norms);
}

void soma_project(const float *rows, int64_t count, int64_t dim, const float *columns, int64_t width, float *out,
                  float *scratch) {
    int64_t start = 0;
    for (; start + TILE <= count; start += TILE) project(rows + start * dim, TILE, dim, columns, width, out + start * width);
    if (start == count) return;
    project(rows + start * dim, count - start, dim, columns, width, scratch);
    memcpy(out + start * width, scratch, (size_t)((count - start) * width) * sizeof(float));
}

INLINE double dot_doubles(const double *a, const double *b, int64_t dim) {
    double lanes[16] = {0};
    int64_t d = 0;
    for (; d + 16 <= dim; d += 16)
        for (int lane = 0; lane < 16; lane++) lanes[lane] += a[d + lane] * b[d + lane];
    for (; d < dim; d++) lanes[0] += a[d] * b[d];
    for (int lane = 1; lane < 16; lane++) lanes[0] += lanes[lane];
    return lanes[0];
}

void soma_orthonormalise(double *rows, int64_t count, int64_t dim) {
    for (int64_t at = 0; at < count; at++) {
        double *row = rows + at * dim, length = 0;
        for (int turn = 0; turn < 2; turn++) {
            for (int64_t other = 0; other < at; other++) {
                double along = dot_doubles(row, rows + other * dim, dim);
                for (int64_t d = 0; d < dim; d++) row[d] -= along * rows[other * dim + d];
            }
            length = sqrt(dot_doubles(row, row, dim));
            for (int64_t d = 0; d < dim; d++) row[d] = length > 1e-30 ? row[d] / length : 0;
        }
    }
}

static float residual_of(double kept, double norm, double slack) {
    double least = kept > slack ? (kept - slack) / (1 + slack) : 0, rest = norm * norm - least * least;
    /* 2^-22 more than it is: rounding to float must not make an upper bound less */
    return (float)(((rest > 0 ? sqrt(rest) : 0) + 1e-7) * 1.0000003);
}

double soma_narrow_codes(const encode_job *job) {
    double worst = 0;
    uint8_t *codes = job->codes;
    memset(codes, 64, (size_t)job->quads * 4);
    for (int64_t start = 0; start < job->count; start += TILE) {
        int64_t tile = job->count - start < TILE ? job->count - start : TILE;
        const float *projected = job->rows + start * job->dim;
        int64_t width = job->dim;
        if (job->columns) {
            project(job->rows + start * job->dim, tile, job->dim, job->columns, job->width, job->scratch);
            projected = job->scratch, width = job->width;
        }
        for (int64_t r = 0; r < tile; r++) {
            int64_t at = job->first + start + r, group = at / GROUP, lane = at % GROUP;
            uint8_t *place = job->prefix + group * job->quads * 64 + lane * 4;
            float *head = job->head + group * 2 * GROUP + lane;
            double kept, missed = quantise(projected + r * width, job->size, codes, head, &kept);
            worst = missed > worst ? missed : worst;
            head[GROUP] = job->columns ? residual_of(kept, job->norm, job->slack) : 0;
            for (int64_t quad = 0; quad < job->quads; quad++) memcpy(place + quad * 64, codes + quad * 4, 4);
        }
    }
    return sqrt(worst);
}

/* ---- queries ---- */

/* `values` in whole steps of at most `most`, written by `put`; returns the distance that is left. */
#define QUANTISE(NAME, KIND)                                                                                  \
    static double NAME(const float *values, int64_t size, int32_t most, KIND *codes, float *step, int64_t *sum) { \
        float inverse;                                                                                        \
        double missed = 0;                                                                                    \
        *step = soma_largest(values, size) / (float)most;                                                     \
        inverse = 1 / *step;                                                                                  \
        *sum = 0;                                                                                             \
        for (int64_t d = 0; d < size; d++) {                                                                  \
            float scaled = values[d] * inverse;                                                               \
            int32_t level = (int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f));                                  \
            level = level > most ? most : level < -most ? -most : level;                                      \
            double miss = (double)values[d] - (double)level * (double)*step;                                  \
            codes[d] = (KIND)level;                                                                           \
            *sum += level;                                                                                    \
            missed += miss * miss;                                                                            \
        }                                                                                                     \
        return sqrt(missed);                                                                                  \
    }
QUANTISE(quantise_narrow, int8_t)
QUANTISE(quantise_wide, int16_t)

void soma_query_codes(const query_job *job) {
    for (int64_t query = 0; query < job->count; query++) {
        const float *whole = job->queries + query * job->dim, *projected = whole;
        float *c = job->constants + query * CONSTANTS;
        double kept = 0, missed;
        int64_t sum;
        if (job->columns) {
            project(whole, 1, job->dim, job->columns, job->width, job->scratch);
            projected = job->scratch;
        }
        for (int64_t d = 0; d < job->size; d++) kept += (double)projected[d] * (double)projected[d];
        missed = quantise_narrow(projected, job->size, 127, job->narrow + query * job->quads * 4, c + Q_SCALE, &sum);
        c[Q_ZERO] = (float)(64 * sum);
        c[Q_RESIDUAL] = job->columns ? residual_of(sqrt(kept), job->norm, job->slack) : 0;
        /* The rows' codes have norms of at most 1.1: that is what the query's own rounding is multiplied with */
        c[Q_PREFIX_SLACK] = (float)(missed * 1.1) + job->rounding;
        missed = quantise_wide(whole, job->dim, job->wide_most, job->wide + query * job->dim, c + Q_WIDE_SCALE, &sum);
        c[Q_WIDE_SLACK] = (float)(missed * 1.1) + job->rounding;
        c[Q_MAX_SIMILARITY] = 0;
        c[Q_PROJECTED] = (float)(sqrt(kept) * 1.001);
        job->zero[query] = 128 * sum;
    }
}

/* ---- moving rows ---- */

enum { AHEAD = 8 };

void soma_gather_rows(uint8_t *dst, int64_t bytes, const uint8_t *const *sources, const int32_t *owner,
                      const int64_t *place, int64_t count) {
    for (int64_t at = 0; at < count; at++) {
        if (at + AHEAD < count) {
            const uint8_t *next = sources[owner[at + AHEAD]] + place[at + AHEAD] * bytes;
            __builtin_prefetch(next);
            __builtin_prefetch(next + (bytes > 64 ? 64 : 0));
        }
        memcpy(dst + at * bytes, sources[owner[at]] + place[at] * bytes, (size_t)bytes);
    }
}

void soma_gather_groups(uint8_t *prefix, float *head, int64_t quads, const uint8_t *const *prefixes,
                        const float *const *heads, const int32_t *owner, const int64_t *place, int64_t count) {
    for (int64_t at = 0; at < count; at++) {
        int64_t from = place[at] / GROUP, lane = place[at] % GROUP, to = at / GROUP, slot = at % GROUP;
        const uint8_t *source = prefixes[owner[at]] + from * quads * 64 + lane * 4;
        const float *known = heads[owner[at]] + from * 2 * GROUP + lane;
        uint8_t *target = prefix + to * quads * 64 + slot * 4;
        for (int64_t quad = 0; quad < quads; quad++) memcpy(target + quad * 64, source + quad * 64, 4);
        head[to * 2 * GROUP + slot] = known[0];
        head[to * 2 * GROUP + GROUP + slot] = known[GROUP];
    }
}

/* ---- look-up by id ---- */

void soma_hash_ids(const uint64_t *ids, int64_t count, uint64_t *hashes) {
    for (int64_t at = 0; at < count; at++) {
        uint64_t mixed = ids[2 * at] * 0x9E3779B97F4A7C15u ^ (ids[2 * at + 1] + 0xD1B54A32D192ED03u);
        mixed = (mixed ^ (mixed >> 32)) * 0xBF58476D1CE4E5B9u;
        hashes[at] = mixed ^ (mixed >> 29);
    }
}

/* The first place whose hash is at least `wanted`: hashes are uniform, so the guess is near and the search short. */
static int64_t lower_bound(const uint64_t *hashes, int64_t rows, uint64_t wanted) {
    int64_t guess = (int64_t)((double)wanted * 0x1p-64 * (double)rows), step = 8, low, high;
    guess = guess < rows ? guess : rows - 1;
    if (hashes[guess] < wanted) {
        low = guess + 1;
        for (high = low + step; high < rows && hashes[high] < wanted; step *= 2, high = low + step) low = high + 1;
        high = high < rows ? high : rows;
    } else {
        high = guess;
        for (low = high - step; low >= 0 && hashes[low] >= wanted; step *= 2, low = high - step) high = low;
        low = low < 0 ? 0 : low + 1;
    }
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (hashes[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void soma_find(const lookup *in, const uint64_t *wanted, const uint64_t *wanted_hashes, int64_t count, int64_t *found) {
    for (int64_t at = 0; at < count; at++) {
        found[at] = -1;
        if (!in->rows) continue;
        /* Equal hashes stand side by side: the versions of one id that died here, and the rare collision */
        for (int64_t near = lower_bound(in->hashes, in->rows, wanted_hashes[at]);
             near < in->rows && in->hashes[near] == wanted_hashes[at]; near++) {
            int64_t row = in->order[near];
            uint64_t death;
            if (row >= in->rows || in->ids[2 * row] != wanted[2 * at] || in->ids[2 * row + 1] != wanted[2 * at + 1]) continue;
            memcpy(&death, in->records + row * in->stride + in->stride - TAIL_BYTES + TAIL_DEATH, 8);
            if (death && death <= in->epoch) continue;
            found[at] = row;
            break;
        }
    }
}

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
#include "vector.h"

#include <math.h>
#include <string.h>

/* Weights at or below this stand for "at most this": a row whose weight underflowed gives no lower bound. */
static const float CLAMPED = 0x1p-118f;
static const float INFLATE = 1.00001f;
static const float DEFLATE = 0.99999f;

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
    int32_t sum = soma_dot(record, job->wide + query * job->dim, job->dim);
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

/* Which of a group's rows are in [first, last). */
static unsigned inside(int64_t base, int64_t first, int64_t last) {
    unsigned mask = ~0u;
    if (base < first) mask &= ~0u << (first - base);
    if (base + GROUP > last) mask &= (1u << (last - base)) - 1;
    return mask;
}

/* The rows of a group that passed the first bound: their records will be wanted. Returns the new count. */
static int64_t note_passing(const scan_job *job, int64_t base, unsigned mask, int64_t *passing, int64_t count) {
    while (mask) {
        int64_t row = base + __builtin_ctz(mask);
        const uint8_t *record = job->records + row * job->stride;
        mask &= mask - 1;
        if (!(job->weight[row] > 0)) continue;
        for (int64_t byte = 0; byte < job->stride; byte += 64) __builtin_prefetch(record + byte);
        passing[count++] = row;
    }
    return count;
}

static void consider_all(const scan_job *job, int64_t query, float threshold, const int64_t *passing, int64_t count,
                         int64_t rows) {
    for (int64_t at = 0; at < count; at++) threshold = consider(job, query, passing[at], threshold);
    job->counters[query * COUNTERS + C_SCANNED] += rows;
}

/* One chunk of rows for one query: first bound for all, second for those that pass. */
static void scan_chunk(const scan_job *job, int64_t query, int64_t first, int64_t last) {
    int64_t passing[CHUNK_GROUPS * GROUP], count = 0;
    const int8_t *narrow = job->narrow + query * job->quads * 4;
    const float *constants = job->constants + query * CONSTANTS;
    float threshold = threshold_of(job, query);
    for (int64_t base = first / GROUP * GROUP; base < last; base += GROUP) {
        unsigned mask = soma_mask(job->prefix + base * job->quads * 4, job->head + base * 2, job->weight + base, narrow,
                                job->quads, constants, threshold);
        count = note_passing(job, base, mask & inside(base, first, last), passing, count);
    }
    consider_all(job, query, threshold, passing, count, last - first);
}

/* More dimensions than this are scanned query by query. */
enum { MOST_QUADS = 512 };

/* The same for ABREAST queries, which read each row's codes once; `packed` has room for quads * ABREAST. */
static void scan_abreast(const scan_job *job, const int64_t *queries, int64_t first, int64_t last, int32_t *packed) {
    int64_t passing[ABREAST][CHUNK_GROUPS * GROUP], count[ABREAST] = {0}, base = first / GROUP * GROUP;
    abreast asked = {.packed = packed};
    unsigned masks[PAIR][ABREAST];
    for (int at = 0; at < ABREAST; at++) {
        asked.narrow[at] = job->narrow + queries[at] * job->quads * 4;
        asked.constants[at] = job->constants + queries[at] * CONSTANTS;
        asked.thresholds[at] = threshold_of(job, queries[at]);
        for (int64_t quad = 0; quad < job->quads; quad++)
            memcpy(packed + quad * ABREAST + at, asked.narrow[at] + quad * 4, 4);
    }
    for (; base + GROUP < last; base += PAIR * GROUP) {
        soma_masks(job->prefix + base * job->quads * 4, job->head + base * 2, job->weight + base, &asked, job->quads,
                   masks);
        for (int group = 0; group < PAIR; group++) {
            const int64_t start = base + group * GROUP;
            const unsigned wanted = inside(start, first, last);
            for (int at = 0; at < ABREAST; at++)
                count[at] = note_passing(job, start, masks[group][at] & wanted, passing[at], count[at]);
        }
    }
    for (; base < last; base += GROUP)
        for (int at = 0; at < ABREAST; at++) {
            unsigned mask = soma_mask(job->prefix + base * job->quads * 4, job->head + base * 2, job->weight + base,
                                      asked.narrow[at], job->quads, asked.constants[at], asked.thresholds[at]);
            count[at] = note_passing(job, base, mask & inside(base, first, last), passing[at], count[at]);
        }
    for (int at = 0; at < ABREAST; at++)
        consider_all(job, queries[at], asked.thresholds[at], passing[at], count[at], last - first);
}

/* Several queries keep the processor busy for long enough to bring the next chunk's codes meanwhile. */
static void prefetch_codes(const scan_job *job, int64_t first, int64_t last) {
    const uint8_t *codes = job->prefix + first / GROUP * GROUP * job->quads * 4;
    const uint8_t *end = job->prefix + last / GROUP * GROUP * job->quads * 4;
    for (; codes < end; codes += 64) __builtin_prefetch(codes, 0, 2);
}

static int stopped(const scan_job *job, int64_t query, int64_t first) {
    int64_t *counters = job->counters + query * COUNTERS;
    if (!counters[C_STOPPED] && job->sorted &&
        job->weight[first] * job->constants[query * CONSTANTS + Q_MAX_SIMILARITY] * INFLATE < threshold_of(job, query))
        counters[C_STOPPED] = 1;
    return counters[C_STOPPED] != 0;
}

int64_t soma_scan(const scan_job *job) {
    const int64_t chunk = CHUNK_GROUPS * GROUP;
    int32_t packed[MOST_QUADS * ABREAST];
    for (int64_t first = job->start; first < job->end;) {
        int64_t last = (first / chunk + 1) * chunk, running = 0, waiting[ABREAST], together = 0;
        if (last > job->end) last = job->end;
        for (int64_t query = 0; query < job->queries; query++)
            if (job->capacity - job->counters[query * COUNTERS + C_CANDIDATES] < chunk && compact(job, query) < chunk)
                return first;
        if (job->queries >= ABREAST) prefetch_codes(job, last, last + chunk < job->end ? last + chunk : job->end);
        for (int64_t query = 0; query < job->queries; query++) {
            if (stopped(job, query, first)) continue;
            running++;
            waiting[together++] = query;
            if (job->quads > MOST_QUADS) scan_chunk(job, waiting[--together], first, last);
            if (together < ABREAST) continue;
            scan_abreast(job, waiting, first, last, packed);
            together = 0;
        }
        for (int64_t at = 0; at < together; at++) scan_chunk(job, waiting[at], first, last);
        if (!running) return job->end;
        first = last;
    }
    return job->end;
}

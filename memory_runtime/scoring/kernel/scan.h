/* The scan of one block of rows, without Python: see scan.c for the method and docs/scoring.md for the proof. */
#ifndef SOMA_SCAN_H
#define SOMA_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum { GROUP = 16, CHUNK_GROUPS = 16, CONSTANTS = 8, COUNTERS = 4 };

/* Where a row's record keeps what follows its codes: scale f32, error f32, event time f64, expiry f64, death u64. */
enum { TAIL_SCALE = 0, TAIL_ERROR = 4, TAIL_TIME = 8, TAIL_EXPIRY = 16, TAIL_DEATH = 24, TAIL_BYTES = 32 };

/* constants[query]: see ScanPlan in plan.py, which fills them. */
enum { Q_SCALE, Q_ZERO, Q_RESIDUAL, Q_PREFIX_SLACK, Q_WIDE_SCALE, Q_WIDE_SLACK, Q_MAX_SIMILARITY, Q_PROJECTED };

/* counters[query]: lower bounds in the heap, candidates written, 1 when no later row can matter, rows scanned. */
enum { C_HEAP, C_CANDIDATES, C_STOPPED, C_SCANNED };

typedef struct {
    const uint8_t *prefix;   /* [groups][quads][GROUP][4] codes 1..127 of the first dimensions of the basis */
    const float *head;       /* [groups][2][GROUP] scale and residual norm of each row */
    const float *weight;     /* [rows] 2^(L - reference), rounded up; 0 hides a row */
    const uint8_t *records;  /* [rows][stride] 8-bit codes of the whole vector, then the tail */
    const uint8_t *allow;    /* [rows] or NULL: 0 hides a row */
    int64_t start, end, dim, quads, stride;
    int64_t sorted;          /* weights descend from start to end */
    int64_t queries, k, capacity;
    uint64_t epoch;          /* rows that died at or before this write are dead */
    double now, latest;      /* rows expire at or before now; rows with a later event time than latest are hidden */
    double offset, beta;     /* log2 score = beta * (log2(similarity * weight) + offset) */
    double slack;            /* what rounding may do to log2(similarity * weight) + offset */
    const int8_t *narrow;    /* [queries][quads * 4] */
    const int16_t *wide;     /* [queries][dim] */
    const float *constants;  /* [queries][CONSTANTS] */
    const int64_t *zero;     /* [queries] 128 * sum of wide */
    double *heap;            /* [queries][k] min-heap of the k largest lower bounds, in log2 score */
    int64_t *counters;       /* [queries][COUNTERS] */
    int64_t *positions;      /* [queries][capacity] */
    double *bounds;          /* [queries][capacity] upper bounds in log2 score */
} scan_job;

/* Scans [start, end); returns the first row not scanned: end, or less when some query's candidates are full. */
int64_t soma_scan(const scan_job *job);

/* dots[i] = rows[positions[i]] . query, summed in the one order that formula.exact_dot fixes. */
void soma_exact_dots(const float *rows, int64_t dim, const int64_t *positions, int64_t count, const float *query,
                     double *dots);

/* portable.py's functions in place: the same operations in the same order, hence the same bits. */
void soma_log2(double *values, int64_t count, const double *centre_logs, const double *terms, int64_t term_count);
void soma_exp2(double *values, int64_t count, const double *powers, const double *terms, int64_t term_count);

/* Codes, scale and error of `count` rows into their records, as codes.wide_codes does. */
void soma_wide_codes(const float *rows, int64_t count, int64_t dim, uint8_t *records, int64_t stride);

/* "avx512-vnni", "avx2" or "portable": what soma_scan runs. `soma_force` picks one, and is 0 where the CPU lacks it. */
const char *soma_variant(void);
int soma_force(const char *variant);

#endif

/* What writing needs of C: unit vectors, codes, look-ups by id, and moving rows from segments into a merged one. */
#ifndef SOMA_ENCODE_H
#define SOMA_ENCODE_H

#include <stdint.h>

/* out = rows / |row|, norms = |row|. The sum of squares is taken in the order of formula.exact_dot: the same bits
 * everywhere. Rows whose norm is not finite or is zero come out as they may; the caller looks at the norms. */
void soma_unit_rows(const void *rows, int is_double, int64_t count, int64_t dim, float *out, double *norms);

/* out [count][width] = rows [count][dim] . columns [dim][width], width a multiple of GROUP; scratch is [4][width]. One
 * thread, unlike a BLAS: on a busy machine the barrier between two threads costs a scheduler's turn. */
void soma_project(const float *rows, int64_t count, int64_t dim, const float *columns, int64_t width, float *out,
                  float *scratch);

/* Makes the rows orthonormal, each against those before it (Gram-Schmidt, twice); a row that vanishes becomes zero. */
void soma_orthonormalise(double *rows, int64_t count, int64_t dim);

typedef struct {
    const float *rows;    /* [count][dim] */
    const float *columns; /* [dim][width]: the basis, a direction a column, zeros after `size`; NULL is the identity */
    int64_t count, dim, size, width, quads;
    int64_t first;        /* the place of rows[0] in `prefix` and `head` */
    double norm, slack;   /* the largest norm of a row, and what rounding may do to its projection */
    uint8_t *prefix;      /* [groups][quads][GROUP][4] */
    float *head;          /* [groups][2][GROUP] */
    float *scratch;       /* [4][width] */
    uint8_t *codes;       /* [quads * 4] */
} encode_job;

/* Codes 1..127 of the projected rows with scale and residual norm, as codes.narrow_codes makes them; returns the largest
 * distance between a projection and its codes. */
double soma_narrow_codes(const encode_job *job);

typedef struct {
    const float *queries; /* [count][dim], unit */
    const float *columns; /* as in encode_job */
    int64_t count, dim, size, width, quads;
    double norm, slack;   /* as in encode_job, the norm of a query */
    int32_t wide_most;    /* the largest wide code: 255 * it * dim must fit 31 bits */
    float rounding;       /* what the bounds' own arithmetic can lose */
    int8_t *narrow;       /* [count][quads * 4], zeroed */
    int16_t *wide;        /* [count][dim] */
    float *constants;     /* [count][CONSTANTS] */
    int64_t *zero;        /* [count] */
    float *scratch;       /* [4][width] */
} query_job;

/* The queries as plan.query_codes makes them. */
void soma_query_codes(const query_job *job);

/* dst[i] = sources[owner[i]][place[i]], rows of `bytes` bytes. */
void soma_gather_rows(uint8_t *dst, int64_t bytes, const uint8_t *const *sources, const int32_t *owner,
                      const int64_t *place, int64_t count);

/* The same for rows that lie in groups of GROUP: codes [groups][quads][GROUP][4] and heads [groups][2][GROUP]. */
void soma_gather_groups(uint8_t *prefix, float *head, int64_t quads, const uint8_t *const *prefixes,
                        const float *const *heads, const int32_t *owner, const int64_t *place, int64_t count);

/* segment.hash_ids of `count` ids. */
void soma_hash_ids(const uint64_t *ids, int64_t count, uint64_t *hashes);

typedef struct {
    const uint64_t *hashes;  /* [rows] ascending */
    const uint32_t *order;   /* [rows] the row of each hash */
    const uint64_t *ids;     /* [rows][2] */
    const uint8_t *records;  /* [rows][stride] */
    int64_t rows, stride;
    uint64_t epoch;
} lookup;

/* found[i] = the row of wanted[i] that lives at the epoch, or -1. Fastest when wanted_hashes ascend. */
void soma_find(const lookup *in, const uint64_t *wanted, const uint64_t *wanted_hashes, int64_t count, int64_t *found);

/* 0 portable, 1 AVX2 and FMA, 2 AVX-512: called by soma_force only. */
void soma_force_encode(int level);

#endif

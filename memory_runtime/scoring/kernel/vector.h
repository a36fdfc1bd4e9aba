/* The inner loops, one set for each instruction set; soma_force (scan.h) chooses. Used by scan.c only. */
#ifndef SOMA_VECTOR_H
#define SOMA_VECTOR_H

#include "scan.h"

/* Bit r of the result: the upper bound of row r of a group, times its weight, reaches the threshold. */
typedef unsigned (*mask_function)(const uint8_t *codes, const float *head, const float *weight, const int8_t *query,
                                  int64_t quads, const float *constants, float threshold);
/* Queries that read the codes together. `packed[quad][query]` holds the four codes of `narrow[query]` that belong
 * together, so that one pointer leads to all of them. */
enum { ABREAST = 4, PAIR = 2 };
typedef struct {
    const int8_t *narrow[ABREAST];
    const float *constants[ABREAST];
    float thresholds[ABREAST];
    const int32_t *packed; /* [quads][ABREAST] */
} abreast;
/* masks[group][query] for PAIR groups that follow one another, from the first one's codes, head and weight. */
typedef void (*masks_function)(const uint8_t *codes, const float *head, const float *weight, const abreast *queries,
                               int64_t quads, unsigned masks[PAIR][ABREAST]);
typedef int32_t (*dot_function)(const uint8_t *codes, const int16_t *query, int64_t dim);
/* Codes of a row, then its scale and error into the tail of its record. */
typedef void (*codes_function)(const float *row, int64_t dim, uint8_t *record, uint8_t *tail);
typedef void (*exact_function)(const float *row, const float *query, int64_t dim, double *out);

/* The largest magnitude of a row, at least 1e-30. Sixteen maxima, because a single one cannot be vectorised. */
static inline __attribute__((always_inline)) float soma_largest(const float *v, int64_t dim) {
    float lanes[16], largest = 1e-30f;
    int64_t d;
    for (int lane = 0; lane < 16; lane++) lanes[lane] = largest;
    for (d = 0; d + 16 <= dim; d += 16)
        for (int lane = 0; lane < 16; lane++) {
            float size = __builtin_fabsf(v[d + lane]);
            lanes[lane] = size > lanes[lane] ? size : lanes[lane];
        }
    for (; d < dim; d++) largest = __builtin_fabsf(v[d]) > largest ? __builtin_fabsf(v[d]) : largest;
    for (int lane = 0; lane < 16; lane++) largest = lanes[lane] > largest ? lanes[lane] : largest;
    return largest;
}

extern mask_function soma_mask;
extern masks_function soma_masks;
extern dot_function soma_dot;

#endif

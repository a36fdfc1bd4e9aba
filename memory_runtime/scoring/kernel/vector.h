/* The inner loops, one set for each instruction set; soma_force (scan.h) chooses. Used by scan.c only. */
#ifndef SOMA_VECTOR_H
#define SOMA_VECTOR_H

#include "scan.h"

/* Bit r of the result: the upper bound of row r of a group, times its weight, reaches the threshold. */
typedef unsigned (*mask_function)(const uint8_t *codes, const float *head, const float *weight, const int8_t *query,
                                  int64_t quads, const float *constants, float threshold);
typedef int32_t (*dot_function)(const uint8_t *codes, const int16_t *query, int64_t dim);
/* Codes of a row, then its scale and error into the tail of its record. */
typedef void (*codes_function)(const float *row, int64_t dim, uint8_t *record, uint8_t *tail);
typedef void (*exact_function)(const float *row, const float *query, int64_t dim, double *out);

extern mask_function soma_mask;
extern dot_function soma_dot;

#endif

/* The Python face of encode.c: checks every length, releases the GIL, computes nothing. Its methods are listed in
 * _scanmodule.c. */
#include "faces.h"

#include <stdlib.h>
#include <string.h>

#include "encode.h"
#include "scan.h"

PyObject *py_unit_rows(PyObject *self, PyObject *args) {
    Py_buffer rows, out, norms;
    Py_ssize_t count, dim;
    int is_double;
    PyObject *answer = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*pnnw*w*:unit_rows", &rows, &is_double, &count, &dim, &out, &norms)) return NULL;
    if (count < 0 || dim < 1 || rows.len < count * dim * (is_double ? 8 : 4) || out.len < count * dim * 4 ||
        norms.len < count * 8) {
        PyErr_SetString(PyExc_ValueError, "unit_rows: a buffer is too short for the rows");
    } else {
        Py_BEGIN_ALLOW_THREADS
        soma_unit_rows(rows.buf, is_double, count, dim, out.buf, norms.buf);
        Py_END_ALLOW_THREADS
        answer = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&rows), PyBuffer_Release(&out), PyBuffer_Release(&norms);
    return answer;
}

PyObject *py_project(PyObject *self, PyObject *args) {
    Py_buffer rows, columns, out;
    Py_ssize_t count, dim, width;
    PyObject *answer = NULL;
    float *scratch = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*nnnw*:project", &rows, &columns, &count, &dim, &width, &out)) return NULL;
    if (count < 0 || dim < 1 || width < GROUP || width % GROUP || rows.len < count * dim * 4 ||
        columns.len < dim * width * 4 || out.len < count * width * 4) {
        PyErr_SetString(PyExc_ValueError, "project: a buffer is too short for the rows");
    } else if (!(scratch = malloc((size_t)(4 * 4 * width)))) {
        PyErr_NoMemory();
    } else {
        Py_BEGIN_ALLOW_THREADS
        soma_project(rows.buf, count, dim, columns.buf, width, out.buf, scratch);
        Py_END_ALLOW_THREADS
        answer = Py_NewRef(Py_None);
    }
    free(scratch);
    PyBuffer_Release(&rows), PyBuffer_Release(&columns), PyBuffer_Release(&out);
    return answer;
}

PyObject *py_orthonormalise(PyObject *self, PyObject *args) {
    Py_buffer rows;
    Py_ssize_t count, dim;
    PyObject *answer = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*nn:orthonormalise", &rows, &count, &dim)) return NULL;
    if (count < 0 || dim < 1 || rows.len < count * dim * 8) {
        PyErr_SetString(PyExc_ValueError, "orthonormalise: a buffer is too short for the rows");
    } else {
        Py_BEGIN_ALLOW_THREADS
        soma_orthonormalise(rows.buf, count, dim);
        Py_END_ALLOW_THREADS
        answer = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&rows);
    return answer;
}

PyObject *py_narrow_codes(PyObject *self, PyObject *args) {
    Py_buffer rows, columns, prefix, head;
    Py_ssize_t count, dim, size, width, quads, first;
    double norm, slack, worst = 0;
    PyObject *answer = NULL;
    void *scratch = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*z*nnnnnnddw*w*:narrow_codes", &rows, &columns, &count, &dim, &size, &width, &quads, &first,
                          &norm, &slack, &prefix, &head))
        return NULL;
    const int64_t groups = (first + count + GROUP - 1) / GROUP;
    if (count < 0 || first < 0 || dim < 1 || size < 1 || quads < (size + 3) / 4 || rows.len < count * dim * 4 ||
        prefix.len < groups * quads * 64 || head.len < groups * 2 * GROUP * 4 ||
        (columns.buf ? width % GROUP || width < size || columns.len < dim * width * 4 : size != dim)) {
        PyErr_SetString(PyExc_ValueError, "narrow_codes: a buffer is too short for the rows");
    } else if (!(scratch = malloc((size_t)(4 * 4 * (columns.buf ? width : 0) + quads * 4 + 4)))) {
        PyErr_NoMemory();
    } else {
        float *projected = scratch;
        encode_job job = {.rows = rows.buf, .columns = columns.buf, .count = count, .dim = dim, .size = size,
                          .width = width, .quads = quads, .first = first, .norm = norm, .slack = slack,
                          .prefix = prefix.buf, .head = head.buf, .scratch = projected,
                          .codes = (uint8_t *)(projected + 4 * (columns.buf ? width : 0))};
        Py_BEGIN_ALLOW_THREADS
        worst = soma_narrow_codes(&job);
        Py_END_ALLOW_THREADS
        answer = PyFloat_FromDouble(worst);
    }
    free(scratch);
    PyBuffer_Release(&rows), PyBuffer_Release(&prefix), PyBuffer_Release(&head);
    if (columns.buf) PyBuffer_Release(&columns);
    return answer;
}

PyObject *py_query_codes(PyObject *self, PyObject *args) {
    Py_buffer queries, columns, narrow, wide, constants, zero;
    Py_ssize_t count, dim, size, width, quads;
    double norm, slack, rounding;
    int most;
    PyObject *answer = NULL;
    float *scratch = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*z*nnnnnddidw*w*w*w*:query_codes", &queries, &columns, &count, &dim, &size, &width, &quads,
                          &norm, &slack, &most, &rounding, &narrow, &wide, &constants, &zero))
        return NULL;
    if (count < 0 || dim < 1 || size < 1 || most < 1 || most > 32767 || quads < (size + 3) / 4 ||
        queries.len < count * dim * 4 || narrow.len < count * quads * 4 || wide.len < count * dim * 2 ||
        constants.len < count * CONSTANTS * 4 || zero.len < count * 8 ||
        (columns.buf ? width % GROUP || width < size || columns.len < dim * width * 4 : size != dim)) {
        PyErr_SetString(PyExc_ValueError, "query_codes: a buffer is too short for the queries");
    } else if (!(scratch = malloc((size_t)(4 * 4 * (columns.buf ? width : 1))))) {
        PyErr_NoMemory();
    } else {
        query_job job = {.queries = queries.buf, .columns = columns.buf, .count = count, .dim = dim, .size = size,
                         .width = width, .quads = quads, .norm = norm, .slack = slack, .wide_most = most,
                         .rounding = (float)rounding, .narrow = narrow.buf, .wide = wide.buf, .constants = constants.buf,
                         .zero = zero.buf, .scratch = scratch};
        soma_query_codes(&job);
        answer = Py_NewRef(Py_None);
    }
    free(scratch);
    PyBuffer_Release(&queries), PyBuffer_Release(&narrow), PyBuffer_Release(&wide);
    PyBuffer_Release(&constants), PyBuffer_Release(&zero);
    if (columns.buf) PyBuffer_Release(&columns);
    return answer;
}

/* ---- several source buffers ---- */

typedef struct {
    Py_ssize_t count;
    Py_buffer *views;
    const uint8_t **starts;
} sources;

static void close_sources(sources *s) {
    for (Py_ssize_t at = 0; at < s->count; at++) PyBuffer_Release(&s->views[at]);
    free(s->views), free(s->starts);
    s->views = NULL, s->starts = NULL, s->count = 0;
}

static int open_sources(PyObject *tuple, sources *s) {
    Py_ssize_t count = PyTuple_Size(tuple);
    memset(s, 0, sizeof *s);
    if (count < 0) return 0;
    s->views = calloc((size_t)count + 1, sizeof *s->views);
    s->starts = calloc((size_t)count + 1, sizeof *s->starts);
    if (!s->views || !s->starts) {
        close_sources(s);
        PyErr_NoMemory();
        return 0;
    }
    for (; s->count < count; s->count++) {
        if (PyObject_GetBuffer(PyTuple_GetItem(tuple, s->count), &s->views[s->count], PyBUF_SIMPLE)) {
            close_sources(s);
            return 0;
        }
        s->starts[s->count] = s->views[s->count].buf;
    }
    return 1;
}

/* Whether every (owner, place) is a row of `bytes` bytes (of a whole group, for `group` rows) inside its source. */
static int places_fit(const sources *s, const int32_t *owner, const int64_t *place, int64_t count, int64_t bytes,
                      int64_t group) {
    for (int64_t at = 0; at < count; at++) {
        if (owner[at] < 0 || owner[at] >= s->count || place[at] < 0) return 0;
        if ((place[at] / group + 1) * group * bytes > s->views[owner[at]].len) return 0;
    }
    return 1;
}

PyObject *py_gather_rows(PyObject *self, PyObject *args) {
    Py_buffer out, owner, place;
    Py_ssize_t bytes;
    PyObject *tuple, *answer = NULL;
    sources from;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*nO!y*y*:gather_rows", &out, &bytes, &PyTuple_Type, &tuple, &owner, &place)) return NULL;
    if (open_sources(tuple, &from)) {
        const int64_t count = place.len / 8;
        if (bytes < 1 || owner.len < count * 4 || out.len < count * bytes ||
            !places_fit(&from, owner.buf, place.buf, count, bytes, 1)) {
            PyErr_SetString(PyExc_ValueError, "gather_rows: a row is outside its source");
        } else {
            Py_BEGIN_ALLOW_THREADS
            soma_gather_rows(out.buf, bytes, from.starts, owner.buf, place.buf, count);
            Py_END_ALLOW_THREADS
            answer = Py_NewRef(Py_None);
        }
        close_sources(&from);
    }
    PyBuffer_Release(&out), PyBuffer_Release(&owner), PyBuffer_Release(&place);
    return answer;
}

PyObject *py_gather_groups(PyObject *self, PyObject *args) {
    Py_buffer prefix, head, owner, place;
    Py_ssize_t quads;
    PyObject *prefixes, *heads, *answer = NULL;
    sources codes, scales = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "w*w*nO!O!y*y*:gather_groups", &prefix, &head, &quads, &PyTuple_Type, &prefixes,
                          &PyTuple_Type, &heads, &owner, &place))
        return NULL;
    if (open_sources(prefixes, &codes)) {
        if (open_sources(heads, &scales)) {
            const int64_t count = place.len / 8, groups = (count + GROUP - 1) / GROUP;
            if (quads < 1 || codes.count != scales.count || owner.len < count * 4 || prefix.len < groups * quads * 64 ||
                head.len < groups * 2 * GROUP * 4 || !places_fit(&codes, owner.buf, place.buf, count, quads * 4, GROUP) ||
                !places_fit(&scales, owner.buf, place.buf, count, 8, GROUP)) {
                PyErr_SetString(PyExc_ValueError, "gather_groups: a row is outside its source");
            } else {
                Py_BEGIN_ALLOW_THREADS
                soma_gather_groups(prefix.buf, head.buf, quads, codes.starts, (const float *const *)scales.starts,
                                   owner.buf, place.buf, count);
                Py_END_ALLOW_THREADS
                answer = Py_NewRef(Py_None);
            }
            close_sources(&scales);
        }
        close_sources(&codes);
    }
    PyBuffer_Release(&prefix), PyBuffer_Release(&head), PyBuffer_Release(&owner), PyBuffer_Release(&place);
    return answer;
}

PyObject *py_hash_ids(PyObject *self, PyObject *args) {
    Py_buffer ids, hashes;
    PyObject *answer = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*:hash_ids", &ids, &hashes)) return NULL;
    const int64_t count = ids.len / 16;
    if (hashes.len < count * 8) {
        PyErr_SetString(PyExc_ValueError, "hash_ids: a buffer is too short");
    } else {
        soma_hash_ids(ids.buf, count, hashes.buf);
        answer = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&ids), PyBuffer_Release(&hashes);
    return answer;
}

PyObject *py_find(PyObject *self, PyObject *args) {
    Py_buffer hashes, order, ids, records, wanted, wanted_hashes, found;
    Py_ssize_t stride;
    long long epoch;
    PyObject *answer = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*nLy*y*w*:find", &hashes, &order, &ids, &records, &stride, &epoch, &wanted,
                          &wanted_hashes, &found))
        return NULL;
    const int64_t rows = hashes.len / 8, count = wanted_hashes.len / 8;
    if (stride < TAIL_BYTES || order.len < rows * 4 || ids.len < rows * 16 || records.len < rows * stride ||
        wanted.len < count * 16 || found.len < count * 8) {
        PyErr_SetString(PyExc_ValueError, "find: a buffer is too short");
    } else {
        lookup in = {.hashes = hashes.buf, .order = order.buf, .ids = ids.buf, .records = records.buf, .rows = rows,
                     .stride = stride, .epoch = (uint64_t)epoch};
        Py_BEGIN_ALLOW_THREADS
        soma_find(&in, wanted.buf, wanted_hashes.buf, count, found.buf);
        Py_END_ALLOW_THREADS
        answer = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&hashes), PyBuffer_Release(&order), PyBuffer_Release(&ids), PyBuffer_Release(&records);
    PyBuffer_Release(&wanted), PyBuffer_Release(&wanted_hashes), PyBuffer_Release(&found);
    return answer;
}

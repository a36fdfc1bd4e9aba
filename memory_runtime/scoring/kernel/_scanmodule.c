/* The Python face of scan.c, on the stable ABI of 3.11: checks every length, releases the GIL, computes nothing. */
#include "faces.h"
#include "scan.h"

/* What plan.py packs, in this order. */
typedef struct {
    int64_t start, end, dim, quads, stride, sorted, queries, k, capacity, epoch;
    double now, latest, offset, beta, slack;
} scalars;

enum { PREFIX, HEAD, WEIGHT, RECORDS, NARROW, WIDE, CONSTANT, ZERO, SCALARS, HEAP, COUNTER, POSITIONS, BOUNDS, BUFFERS };

static int lengths_fit(const Py_buffer *b, const Py_buffer *allow, const scalars *s) {
    const int64_t padded = (s->end + GROUP - 1) / GROUP * GROUP;
    if (s->start < 0 || s->end < s->start || s->dim < 1 || s->quads < 1 || s->queries < 1 || s->k < 1 ||
        s->capacity < CHUNK_GROUPS * GROUP || s->stride < s->dim + TAIL_BYTES || s->stride % 8)
        return 0;
    if (b[PREFIX].len < padded * s->quads * 4 || b[HEAD].len < padded * 8 || b[WEIGHT].len < padded * 4 ||
        b[RECORDS].len < s->end * s->stride || (allow->buf && allow->len < s->end))
        return 0;
    return b[NARROW].len >= s->queries * s->quads * 4 && b[WIDE].len >= s->queries * s->dim * 2 &&
           b[CONSTANT].len >= s->queries * CONSTANTS * 4 && b[ZERO].len >= s->queries * 8 &&
           b[HEAP].len >= s->queries * s->k * 8 && b[COUNTER].len >= s->queries * COUNTERS * 8 &&
           b[POSITIONS].len >= s->queries * s->capacity * 8 && b[BOUNDS].len >= s->queries * s->capacity * 8;
}

static PyObject *py_scan(PyObject *self, PyObject *args) {
    Py_buffer b[BUFFERS], allow;
    PyObject *answer = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*z*y*y*y*y*y*w*w*w*w*:scan", &b[PREFIX], &b[HEAD], &b[WEIGHT], &b[RECORDS],
                          &allow, &b[NARROW], &b[WIDE], &b[CONSTANT], &b[ZERO], &b[SCALARS], &b[HEAP], &b[COUNTER],
                          &b[POSITIONS], &b[BOUNDS]))
        return NULL;
    const scalars *s = b[SCALARS].buf;
    if (b[SCALARS].len != (Py_ssize_t)sizeof(scalars) || !lengths_fit(b, &allow, s)) {
        PyErr_SetString(PyExc_ValueError, "scan: a buffer is too short for the block");
    } else {
        scan_job job = {.prefix = b[PREFIX].buf, .head = b[HEAD].buf, .weight = b[WEIGHT].buf, .records = b[RECORDS].buf,
                        .allow = allow.buf, .start = s->start, .end = s->end, .dim = s->dim, .quads = s->quads,
                        .stride = s->stride, .sorted = s->sorted, .queries = s->queries, .k = s->k,
                        .capacity = s->capacity, .epoch = (uint64_t)s->epoch, .now = s->now, .latest = s->latest,
                        .offset = s->offset, .beta = s->beta, .slack = s->slack, .narrow = b[NARROW].buf, .wide = b[WIDE].buf,
                        .constants = b[CONSTANT].buf, .zero = b[ZERO].buf, .heap = b[HEAP].buf,
                        .counters = b[COUNTER].buf, .positions = b[POSITIONS].buf, .bounds = b[BOUNDS].buf};
        int64_t reached;
        Py_BEGIN_ALLOW_THREADS
        reached = soma_scan(&job);
        Py_END_ALLOW_THREADS
        answer = PyLong_FromLongLong(reached);
    }
    for (int at = 0; at < BUFFERS; at++) PyBuffer_Release(&b[at]);
    if (allow.buf) PyBuffer_Release(&allow);
    return answer;
}

static PyObject *py_exact_dots(PyObject *self, PyObject *args) {
    Py_buffer rows, positions, query, dots;
    PyObject *answer = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*w*:exact_dots", &rows, &positions, &query, &dots)) return NULL;
    const int64_t dim = query.len / 4, count = positions.len / 8;
    const int64_t *at = positions.buf;
    int good = dim > 0 && dots.len >= count * 8;
    for (int64_t i = 0; good && i < count; i++) good = at[i] >= 0 && (at[i] + 1) * dim * 4 <= rows.len;
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "exact_dots: a position is outside the rows");
    } else {
        Py_BEGIN_ALLOW_THREADS
        soma_exact_dots(rows.buf, dim, at, count, query.buf, dots.buf);
        Py_END_ALLOW_THREADS
        answer = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&rows), PyBuffer_Release(&positions), PyBuffer_Release(&query), PyBuffer_Release(&dots);
    return answer;
}

typedef void (*curve)(double *, int64_t, const double *, const double *, int64_t);

static PyObject *apply_curve(PyObject *args, curve function, Py_ssize_t table_length) {
    Py_buffer values, table, terms;
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "w*y*y*", &values, &table, &terms)) return NULL;
    if (table.len < table_length * 8) {
        PyErr_SetString(PyExc_ValueError, "the table is too short");
    } else {
        Py_BEGIN_ALLOW_THREADS
        function(values.buf, values.len / 8, table.buf, terms.buf, terms.len / 8);
        Py_END_ALLOW_THREADS
        answer = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&values), PyBuffer_Release(&table), PyBuffer_Release(&terms);
    return answer;
}

/* Arguments outside of the domain (log2: positive and finite; exp2: [0, 1)) are the caller's to refuse. */
static PyObject *py_log2(PyObject *self, PyObject *args) {
    (void)self;
    return apply_curve(args, soma_log2, 128);
}

static PyObject *py_exp2(PyObject *self, PyObject *args) {
    (void)self;
    return apply_curve(args, soma_exp2, 256);
}

static PyObject *py_wide_codes(PyObject *self, PyObject *args) {
    Py_buffer rows, records;
    Py_ssize_t count, dim, stride;
    PyObject *answer = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*nnw*n:wide_codes", &rows, &count, &dim, &records, &stride)) return NULL;
    if (count < 0 || dim < 1 || stride < dim + TAIL_BYTES || rows.len < count * dim * 4 || records.len < count * stride) {
        PyErr_SetString(PyExc_ValueError, "wide_codes: a buffer is too short for the rows");
    } else {
        Py_BEGIN_ALLOW_THREADS
        soma_wide_codes(rows.buf, count, dim, records.buf, stride);
        Py_END_ALLOW_THREADS
        answer = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&rows), PyBuffer_Release(&records);
    return answer;
}

static PyObject *py_variant(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    return PyUnicode_FromString(soma_variant());
}

static PyObject *py_force(PyObject *self, PyObject *args) {
    const char *name;
    (void)self;
    if (!PyArg_ParseTuple(args, "s:force", &name)) return NULL;
    return PyBool_FromLong(soma_force(name));
}

static PyMethodDef methods[] = {
    {"scan", py_scan, METH_VARARGS, "Scans one block of rows for several queries; returns the first row not scanned."},
    {"exact_dots", py_exact_dots, METH_VARARGS, "Exact float64 dot products of chosen float32 rows with a query."},
    {"wide_codes", py_wide_codes, METH_VARARGS, "Quantises rows to 8 bits into their records."},
    {"unit_rows", py_unit_rows, METH_VARARGS, "Rows over their norms, which are written too; the same bits everywhere."},
    {"project", py_project, METH_VARARGS, "Rows times columns in float32, on one thread."},
    {"orthonormalise", py_orthonormalise, METH_VARARGS, "Makes float64 rows orthonormal, in place."},
    {"query_codes", py_query_codes, METH_VARARGS, "Queries in the forms that the scan takes."},
    {"narrow_codes", py_narrow_codes, METH_VARARGS, "Projects and quantises rows to 7 bits; returns the largest error."},
    {"gather_rows", py_gather_rows, METH_VARARGS, "Copies rows from several buffers into one, in a given order."},
    {"gather_groups", py_gather_groups, METH_VARARGS, "The same for the codes and heads of rows that lie in groups."},
    {"hash_ids", py_hash_ids, METH_VARARGS, "segment.hash_ids."},
    {"find", py_find, METH_VARARGS, "The places of living rows by their ids, -1 where there is none."},
    {"log2", py_log2, METH_VARARGS, "portable.log2 of float64 values, in place."},
    {"exp2", py_exp2, METH_VARARGS, "portable.exp2_fraction of float64 values, in place."},
    {"variant", py_variant, METH_NOARGS, "The instruction set in use: avx512-vnni, avx2 or portable."},
    {"force", py_force, METH_VARARGS, "Chooses a variant; False where the CPU has no such instructions."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_scan", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__scan(void) {
    if (!soma_force("avx512-vnni") && !soma_force("avx2")) soma_force("portable");
    return PyModule_Create(&definition);
}

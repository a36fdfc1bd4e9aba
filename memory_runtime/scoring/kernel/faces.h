/* What the two Python faces share: one module, two files. */
#ifndef SOMA_FACES_H
#define SOMA_FACES_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

PyObject *py_unit_rows(PyObject *self, PyObject *args);
PyObject *py_project(PyObject *self, PyObject *args);
PyObject *py_orthonormalise(PyObject *self, PyObject *args);
PyObject *py_query_codes(PyObject *self, PyObject *args);
PyObject *py_narrow_codes(PyObject *self, PyObject *args);
PyObject *py_gather_rows(PyObject *self, PyObject *args);
PyObject *py_gather_groups(PyObject *self, PyObject *args);
PyObject *py_hash_ids(PyObject *self, PyObject *args);
PyObject *py_find(PyObject *self, PyObject *args);

#endif

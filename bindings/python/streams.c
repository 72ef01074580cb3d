/* wsgi.input and wsgi.errors. The body lies in memory that the worker received
 * it into: a read copies what is asked for, and no more. Lines of errors carry
 * the id of the request, so that the log tells which call wrote what. */
#include "wsgi.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cardea.h>

#define LINE_MAX_LEN 8192 /* a longer line is written in pieces */
#define TAG_MAX_LEN  100

struct wsgi_input {
    PyObject ob_base;
    const char *bytes; /* NULL: the call is over */
    size_t len, at;
};

struct wsgi_errors {
    PyObject ob_base;
    struct cardea_request *r; /* NULL: the call is over */
    char *line;               /* its beginning, or NULL */
    size_t len;
};

/* The call that this thread is in, or NULL. */
static _Thread_local const struct cardea_request *current;

/* Written once by wsgi_streams_setup(). */
static struct {
    PyTypeObject *input, *errors;
} types;

/* ----- wsgi.input ----- */

/* A size that may be missing, None or negative: all there is. False: an
 * exception is set. */
static bool
size_of(PyObject *args, size_t left, size_t *p_size)
{
    PyObject *arg = NULL;
    Py_ssize_t size;

    *p_size = left;
    if (!PyArg_UnpackTuple(args, "read", 0, 1, &arg)) {
        return false;
    }
    if (arg == NULL || arg == Py_None) {
        return true;
    }
    size = PyLong_AsSsize_t(arg);
    if (size == -1 && PyErr_Occurred() != NULL) {
        return false;
    }
    if (size >= 0 && (size_t)size < left) {
        *p_size = (size_t)size;
    }
    return true;
}

static bool
input_is_open(const struct wsgi_input *input)
{
    if (input->bytes == NULL) {
        PyErr_SetString(PyExc_ValueError, "wsgi.input was read after its call");
    }
    return input->bytes != NULL;
}

static PyObject *
input_take(struct wsgi_input *input, size_t size)
{
    PyObject *bytes =
        PyBytes_FromStringAndSize(input->bytes + input->at, (Py_ssize_t)size);

    if (bytes != NULL) {
        input->at += size;
    }
    return bytes;
}

/* The bytes up to and with the next newline, at most SIZE. */
static PyObject *
input_take_line(struct wsgi_input *input, size_t size)
{
    const char *from = input->bytes + input->at;
    const char *end = memchr(from, '\n', size);

    return input_take(input, end != NULL ? (size_t)(end - from) + 1 : size);
}

static PyObject *
input_read(PyObject *self, PyObject *args)
{
    struct wsgi_input *input = (struct wsgi_input *)self;
    size_t size;

    if (!input_is_open(input) ||
        !size_of(args, input->len - input->at, &size)) {
        return NULL;
    }
    return input_take(input, size);
}

static PyObject *
input_readline(PyObject *self, PyObject *args)
{
    struct wsgi_input *input = (struct wsgi_input *)self;
    size_t size;

    if (!input_is_open(input) ||
        !size_of(args, input->len - input->at, &size)) {
        return NULL;
    }
    return input_take_line(input, size);
}

/* Lines until at least as many bytes as the hint says. */
static PyObject *
input_readlines(PyObject *self, PyObject *args)
{
    struct wsgi_input *input = (struct wsgi_input *)self;
    size_t hint, from = input->at;
    PyObject *list;

    if (!input_is_open(input) || !size_of(args, input->len - from, &hint)) {
        return NULL;
    }
    hint = hint > 0 ? hint : input->len - from;
    list = PyList_New(0);
    while (list != NULL && input->at < input->len && input->at - from < hint) {
        PyObject *line = input_take_line(input, input->len - input->at);

        if (line == NULL || PyList_Append(list, line) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(line);
    }
    return list;
}

static PyObject *
input_close(PyObject *self, PyObject *none)
{
    Py_RETURN_NONE; /* it is the server's: an application's close is no end */
}

static PyObject *
input_iter(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

static PyObject *
input_next(PyObject *self)
{
    struct wsgi_input *input = (struct wsgi_input *)self;

    if (!input_is_open(input) || input->at == input->len) {
        return NULL;
    }
    return input_take_line(input, input->len - input->at);
}

static void
object_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject *
wsgi_input_new(struct cardea_request *r)
{
    struct wsgi_input *input = PyObject_New(struct wsgi_input, types.input);

    if (input != NULL) {
        input->bytes = cardea_body(r, &input->len);
        input->at = 0;
    }
    return (PyObject *)input;
}

void
wsgi_input_end(PyObject *self)
{
    ((struct wsgi_input *)self)->bytes = NULL;
}

/* ----- wsgi.errors ----- */

/* What a line about R begins with, as cardea_log(3) has it; its length. */
static int
tag_make(const struct cardea_request *r, char tag[TAG_MAX_LEN])
{
    int n = snprintf(tag, TAG_MAX_LEN, "request %s [%d]: ", cardea_id(r),
                     (int)getpid());

    return n < TAG_MAX_LEN ? n : TAG_MAX_LEN - 1;
}

void
wsgi_streams_in(const struct cardea_request *r)
{
    current = r;
}

PyObject *
wsgi_streams_tag(PyObject *self, PyObject *none)
{
    char tag[TAG_MAX_LEN];
    int n = current != NULL ? tag_make(current, tag) : 0;

    return PyBytes_FromStringAndSize(tag, n);
}

/* One line, in one write, so that lines of several processes do not mix. */
static void
line_write(const struct cardea_request *r, const char *text, size_t len)
{
    char line[LINE_MAX_LEN + TAG_MAX_LEN + 1];
    int n = r != NULL ? tag_make(r, line) : 0;

    len = len < LINE_MAX_LEN ? len : LINE_MAX_LEN;
    memcpy(line + n, text, len);
    line[(size_t)n + len] = '\n';
    if (write(2, line, (size_t)n + len + 1) < 0) {
        return; /* nobody listens */
    }
}

void
wsgi_say(const struct cardea_request *r, const char *format, ...)
{
    char text[1024];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n > 0) {
        line_write(r, text,
                   n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
    }
}

static void
errors_flush(struct wsgi_errors *errors)
{
    if (errors->len > 0) {
        line_write(errors->r, errors->line, errors->len);
        errors->len = 0;
    }
}

static int
errors_add(struct wsgi_errors *errors, const char *text, size_t len)
{
    if (errors->line == NULL) {
        errors->line = malloc(LINE_MAX_LEN);
        if (errors->line == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n' && errors->len == 0) {
            line_write(errors->r, "", 0);
        } else if (text[i] == '\n') {
            errors_flush(errors);
        } else {
            errors->line[errors->len++] = text[i];
            if (errors->len == LINE_MAX_LEN) {
                errors_flush(errors);
            }
        }
    }
    return 0;
}

static PyObject *
errors_write(PyObject *self, PyObject *text)
{
    PyObject *bytes;
    int rc;

    if (!PyUnicode_Check(text)) {
        return PyErr_Format(PyExc_TypeError, "wsgi.errors takes str");
    }
    bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (bytes == NULL) {
        return NULL;
    }
    rc = errors_add((struct wsgi_errors *)self, PyBytes_AsString(bytes),
                    (size_t)PyBytes_Size(bytes));
    Py_DECREF(bytes);
    return rc < 0 ? NULL : PyLong_FromSsize_t(PyUnicode_GetLength(text));
}

static PyObject *
errors_writelines(PyObject *self, PyObject *lines)
{
    PyObject *iter = PyObject_GetIter(lines), *line, *done;

    if (iter == NULL) {
        return NULL;
    }
    while ((line = PyIter_Next(iter)) != NULL) {
        done = errors_write(self, line);
        Py_DECREF(line);
        if (done == NULL) {
            break;
        }
        Py_DECREF(done);
    }
    Py_DECREF(iter);
    if (PyErr_Occurred() != NULL) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whole lines go out at once; the beginning of one waits for its end. */
static PyObject *
errors_flush_lines(PyObject *self, PyObject *none)
{
    Py_RETURN_NONE;
}

static void
errors_free(PyObject *self)
{
    free(((struct wsgi_errors *)self)->line);
    object_free(self);
}

PyObject *
wsgi_errors_new(struct cardea_request *r)
{
    struct wsgi_errors *errors = PyObject_New(struct wsgi_errors, types.errors);

    if (errors != NULL) {
        errors->r = r;
        errors->line = NULL;
        errors->len = 0;
    }
    return (PyObject *)errors;
}

void
wsgi_errors_end(PyObject *self)
{
    struct wsgi_errors *errors = (struct wsgi_errors *)self;

    errors_flush(errors);
    errors->r = NULL;
}

/* ----- the types ----- */

static PyMethodDef input_methods[] = {
    {"read", input_read, METH_VARARGS, NULL},
    {"readline", input_readline, METH_VARARGS, NULL},
    {"readlines", input_readlines, METH_VARARGS, NULL},
    {"close", input_close, METH_NOARGS, NULL},
    {0},
};
static PyType_Slot input_slots[] = {
    {Py_tp_dealloc, object_free}, {Py_tp_iter, input_iter},
    {Py_tp_iternext, input_next}, {Py_tp_methods, input_methods},
    {Py_tp_doc, "wsgi.input"},    {0},
};
static PyType_Spec input_spec = {"cardea._door.Input",
                                 sizeof(struct wsgi_input), 0,
                                 Py_TPFLAGS_DEFAULT, input_slots};

static PyMethodDef errors_methods[] = {
    {"write", errors_write, METH_O, NULL},
    {"writelines", errors_writelines, METH_O, NULL},
    {"flush", errors_flush_lines, METH_NOARGS, NULL},
    {0},
};
static PyType_Slot errors_slots[] = {
    {Py_tp_dealloc, errors_free},
    {Py_tp_methods, errors_methods},
    {Py_tp_doc, "wsgi.errors"},
    {0},
};
static PyType_Spec errors_spec = {"cardea._door.Errors",
                                  sizeof(struct wsgi_errors), 0,
                                  Py_TPFLAGS_DEFAULT, errors_slots};

int
wsgi_streams_setup(void)
{
    types.input = (PyTypeObject *)PyType_FromSpec(&input_spec);
    types.errors = (PyTypeObject *)PyType_FromSpec(&errors_spec);
    return types.input != NULL && types.errors != NULL ? 0 : -1;
}

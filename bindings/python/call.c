/* One call of the application, by PEP 3333: env, start_response, the
 * blocks of the body, close() whatever happened. An exception becomes a page
 * of 500 with the request's id; its traceback goes to the log under that id. */
#include "wsgi.h"
#include "call.h"

#include <cardea.h>

/* Written once by wsgi_call_setup(). */
static struct {
    PyObject *app, *file_wrapper, *place, *report;
} python;

int
wsgi_call_setup(PyObject *app, PyObject *file_wrapper, PyObject *place,
                PyObject *report)
{
    Py_INCREF(app);
    Py_INCREF(file_wrapper);
    Py_INCREF(place);
    Py_INCREF(report);
    python.app = app;
    python.file_wrapper = file_wrapper;
    python.place = place;
    python.report = report;
    return 0;
}

/* Sends the file that WRAPPER holds. 1: done; 0: it must be read, block by
 * block; -1: an exception is set. */
static int
take_file(struct wsgi_reply *reply, PyObject *wrapper)
{
    PyObject *place = PyObject_CallFunctionObjArgs(python.place, wrapper, NULL);
    unsigned long long offset, length;
    int fd, rc = 0;

    if (place == NULL) {
        return -1;
    }
    if (place != Py_None) {
        rc = -1;
        if (PyArg_ParseTuple(place, "iKK", &fd, &offset, &length) &&
            wsgi_reply_send_file(reply, fd, offset, length) == 0) {
            rc = 1;
        }
    }
    Py_DECREF(place);
    return rc;
}

/* A list or a tuple: the usual case, without an iterator. It may change while
 * the application's code runs, so its size is asked each time. */
static int
take_list(struct wsgi_reply *reply, PyObject *list)
{
    int rc = 1;

    for (Py_ssize_t i = 0; rc > 0 && i < PyList_Size(list); i++) {
        PyObject *block = PyList_GetItem(list, i);

        Py_INCREF(block);
        rc = wsgi_reply_write(reply, block);
        Py_DECREF(block);
    }
    return rc < 0 ? -1 : 0;
}

static int
take_blocks(struct wsgi_reply *reply, PyObject *result)
{
    PyObject *iter = PyObject_GetIter(result), *block;
    int rc = 1;

    if (iter == NULL) {
        return -1;
    }
    while (rc > 0 && (block = PyIter_Next(iter)) != NULL) {
        rc = wsgi_reply_write(reply, block);
        Py_DECREF(block);
    }
    Py_DECREF(iter);
    return rc < 0 || PyErr_Occurred() != NULL ? -1 : 0;
}

static int
take_body(struct wsgi_reply *reply, PyObject *result)
{
    if (PyList_CheckExact(result)) {
        return take_list(reply, result);
    }
    if ((PyObject *)Py_TYPE(result) == python.file_wrapper) {
        int rc = take_file(reply, result);

        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
    }
    return take_blocks(reply, result);
}

/* Writes the exception that is set to ERRORS and clears it. True: it was
 * SystemExit. */
static bool
report(PyObject *errors)
{
    PyObject *kind, *value, *trace, *done;
    bool is_exit;

    PyErr_Fetch(&kind, &value, &trace);
    PyErr_NormalizeException(&kind, &value, &trace);
    is_exit = PyErr_GivenExceptionMatches(kind, PyExc_SystemExit);
    if (trace != NULL) {
        PyException_SetTraceback(value, trace);
    }
    done = PyObject_CallFunctionObjArgs(python.report, errors, value, NULL);
    if (done == NULL) {
        PyErr_Clear(); /* the request's page tells of it all the same */
    }
    Py_XDECREF(done);
    Py_XDECREF(kind);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return is_exit;
}

/* Calls RESULT.close() where there is one. What it raises is logged, and no
 * more: the answer was complete before. */
static bool
close_result(PyObject *result, PyObject *errors)
{
    PyObject *kind, *value, *trace, *close, *done = NULL;
    bool is_exit = false;

    if (PyList_CheckExact(result)) {
        return false; /* a list has none */
    }
    PyErr_Fetch(&kind, &value, &trace);
    close = PyObject_GetAttrString(result, "close");
    if (close == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    if (close != NULL) {
        done = PyObject_CallFunctionObjArgs(close, NULL);
    }
    if (PyErr_Occurred() != NULL) {
        is_exit = report(errors);
    }
    Py_XDECREF(done);
    Py_XDECREF(close);
    PyErr_Restore(kind, value, trace);
    return is_exit;
}

/* True: the application asked for the end of its process. */
static bool
call(struct wsgi_reply *reply, PyObject *env, PyObject *errors)
{
    PyObject *result =
        PyObject_CallFunctionObjArgs(python.app, env, (PyObject *)reply, NULL);
    bool is_exit = false;
    int rc = -1;

    if (result != NULL && take_body(reply, result) == 0) {
        rc = wsgi_reply_finish(reply);
    }
    if (result != NULL) {
        is_exit = close_result(result, errors);
        Py_DECREF(result);
    }
    if (rc < 0) {
        bool has_left = report(errors);

        wsgi_reply_refuse(reply, has_left ? 502 : 500,
                          has_left ? "The program behind this page left."
                                   : "The program behind this page failed.");
        is_exit = is_exit || has_left;
    }
    return is_exit;
}

bool
wsgi_call(struct cardea_request *r)
{
    PyObject *input = wsgi_input_new(r), *errors = wsgi_errors_new(r);
    struct wsgi_reply *reply = wsgi_reply_new(r);
    PyObject *env = NULL;
    bool is_exit = false;

    wsgi_streams_in(r);
    if (input != NULL && errors != NULL && reply != NULL) {
        env = wsgi_environ_new(r, input, errors);
    }
    if (env != NULL) {
        is_exit = call(reply, env, errors);
        Py_DECREF(env);
    } else {
        PyErr_Clear();
        cardea_status(r, 503);
        cardea_puts(r, "No memory left for this request.\n");
    }
    /* Also where the application kept them. */
    if (input != NULL) {
        wsgi_input_end(input);
        Py_DECREF(input);
    }
    if (errors != NULL) {
        wsgi_errors_end(errors);
        Py_DECREF(errors);
    }
    if (reply != NULL) {
        wsgi_reply_end(reply);
        Py_DECREF((PyObject *)reply);
    }
    wsgi_streams_in(NULL);
    return is_exit;
}

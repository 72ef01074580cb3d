/* cardea._door: serves the door that Cardea named with a WSGI application. The
 * interpreter's lock is held while the application runs and at no other time,
 * so that threads which it starts can run while it waits for calls. */
#include "wsgi.h"
#include "call.h"

#include <cardea.h>

/* The interpreter's state of this thread while it does not hold the lock. */
static __thread PyThreadState *idle;

static void
lock_take(void)
{
    if (idle != NULL) {
        PyEval_RestoreThread(idle);
    } else {
        PyGILState_Ensure(); /* a new thread: it keeps its state */
    }
}

static void
lock_give(void)
{
    idle = PyEval_SaveThread();
}

static void
handle(struct cardea_request *r)
{
    lock_take();
    wsgi_call(r);
    lock_give();
}

static PyObject *
serve(PyObject *self, PyObject *args)
{
    PyObject *app, *template, *file_wrapper, *place, *report;
    int rc;

    if (!PyArg_ParseTuple(args, "OO!OOO:serve", &app, &PyDict_Type, &template,
                          &file_wrapper, &place, &report) ||
        wsgi_environ_setup(template) < 0 ||
        wsgi_call_setup(app, file_wrapper, place, report) < 0) {
        return NULL;
    }
    lock_give();
    rc = cardea_serve_threads(handle);
    lock_take();
    return PyLong_FromLong(rc);
}

static PyMethodDef methods[] = {
    {"serve", serve, METH_VARARGS,
     "serve(app, template, file_wrapper, place, report)\n\n"
     "Serves until the process is ended; returns a status on failure."},
    {0},
};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "cardea._door", NULL, -1, methods,
};

PyMODINIT_FUNC PyInit__door(void); /* Python's headers declare none */

PyMODINIT_FUNC
PyInit__door(void)
{
    if (wsgi_streams_setup() < 0 || wsgi_reply_setup() < 0) {
        return NULL;
    }
    return PyModule_Create(&module);
}

/* cardea._door: serves the door that Cardea named with a WSGI application. The
 * interpreter's lock is held while the application runs and at no other time,
 * so that threads which it starts in a copy can run while that waits for calls.
 *
 * A copy is made as os.fork() makes one: the interpreter is told before and
 * after it, so that its locks, its random generators and what libraries have
 * registered with it are right. */
#include "wsgi.h"
#include "call.h"

#include <unistd.h>

#include <cardea.h>

/* The interpreter's state of this thread while it does not hold the lock. */
static __thread PyThreadState *idle;

/* Python's functions for a copy; written once by serve(). */
static struct {
    PyObject *before, *start, *end;
} hooks;

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

/* Calls one of the functions. False: it raised what the log has now. */
static bool
hook_run(PyObject *function)
{
    PyObject *done = PyObject_CallFunctionObjArgs(function, NULL);

    if (done == NULL) {
        PyErr_WriteUnraisable(function);
        return false;
    }
    Py_DECREF(done);
    return true;
}

/* ----- copies ----- */

static void
before_fork(void *arg)
{
    lock_take();
    hook_run(hooks.before);
    PyOS_BeforeFork();
}

static void
after_fork(void *arg)
{
    PyOS_AfterFork_Parent();
    lock_give();
}

static int
copy_start(void *arg)
{
    bool good;

    PyOS_AfterFork_Child();
    good = hook_run(hooks.start);
    lock_give();
    return good ? 0 : 1;
}

static void
copy_end(void *arg)
{
    lock_take();
    hook_run(hooks.end);
    lock_give();
}

static void
handle_in_copy(struct cardea_request *r)
{
    bool is_exit;

    lock_take();
    is_exit = wsgi_call(r);
    lock_give();
    if (is_exit) {
        copy_end(NULL);
        _exit(1); /* which costs this client its answer, and no other */
    }
}

/* ----- threads ----- */

static void
handle_in_thread(struct cardea_request *r)
{
    lock_take();
    wsgi_call(r);
    lock_give();
}

/* ----- the module ----- */

static PyObject *
serve(PyObject *self, PyObject *args)
{
    static const struct cardea_hooks copy_hooks = {before_fork, after_fork,
                                                   copy_start, copy_end, NULL};
    PyObject *app, *template, *file_wrapper, *place, *report;
    int by_copies, rc;

    if (!PyArg_ParseTuple(args, "OO!OOOOOOp:serve", &app, &PyDict_Type,
                          &template, &file_wrapper, &place, &report,
                          &hooks.before, &hooks.start, &hooks.end,
                          &by_copies) ||
        wsgi_environ_setup(template) < 0 ||
        wsgi_call_setup(app, file_wrapper, place, report) < 0) {
        return NULL;
    }
    /* The caller's arguments live as long as the call; so they need no more. */
    lock_give();
    rc = by_copies ? cardea_serve(handle_in_copy, &copy_hooks)
                   : cardea_serve_threads(handle_in_thread);
    lock_take();
    return PyLong_FromLong(rc);
}

static PyMethodDef methods[] = {
    {"serve", serve, METH_VARARGS,
     "serve(app, template, file_wrapper, place, report, before, start, end, "
     "copies)\n\n"
     "Serves until the process is ended; returns a status on failure."},
    {"tag", wsgi_streams_tag, METH_NOARGS,
     "tag()\n\nWhat a line of the call in progress begins with: bytes."},
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

/* One call of the application. */
#pragma once

#include <stdbool.h>

struct cardea_request;

/* What is called: APP; FILE_WRAPPER, a type, and PLACE, which gives of one
 * (descriptor, offset, length) or None; REPORT(errors, exception). A reference
 * to each is kept. 0. Once. */
int wsgi_call_setup(PyObject *app, PyObject *file_wrapper, PyObject *place,
                    PyObject *report);

/* Answers R. Holds the interpreter's lock. True: the application raised
 * SystemExit; the answer is there nevertheless. */
bool wsgi_call(struct cardea_request *r);

/* What the files of cardea._door share. Only the limited interface of Python
 * 3.9 is used: one compiled file serves that version and each later one.
 *
 * Whatever is called here holds the interpreter's lock, but where it says so.
 * A PyObject that is returned is a new reference; NULL: an exception is set. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

struct cardea_request;

/* One call's start_response, and all that the application says by it. After
 * the call R is NULL: an application that keeps it gets an exception. */
struct wsgi_reply {
    PyObject ob_base;
    struct cardea_request *r;
    int status;       /* 0: start_response was not called yet */
    bool is_final;    /* a block came: status and fields stay as they are */
    bool is_head;     /* of a HEAD, nothing of the body is sent */
    bool is_cut;      /* blocks beyond Content-Length were left out */
    bool has_length;  /* there was a Content-Length: LENGTH */
    bool by_file;     /* the body is a descriptor's */
    uint64_t length;  /* as announced */
    uint64_t written; /* bytes of body so far */
    int spill;        /* where a large body lies, or -1 */
    char *fields;     /* name NUL value NUL ..., checked */
    size_t fields_len, fields_size;
    char fields_small[512];
};

/* ----- environ.c ----- */

/* Makes the names that environ has. TEMPLATE is a dict that each environ
 * starts as a copy of; a reference to it is kept. 0, or -1. Once. */
int wsgi_environ_setup(PyObject *template);

/* The environ of R, with INPUT and ERRORS in it. */
PyObject *wsgi_environ_new(struct cardea_request *r, PyObject *input,
                           PyObject *errors);

/* ----- streams.c ----- */

/* Makes the two types below. 0, or -1. Once. */
int wsgi_streams_setup(void);

/* wsgi.input over R's body, which is read where it lies. */
PyObject *wsgi_input_new(struct cardea_request *r);

/* Ends INPUT: nothing more can be read. */
void wsgi_input_end(PyObject *input);

/* wsgi.errors: lines on standard error, each with R's id. */
PyObject *wsgi_errors_new(struct cardea_request *r);

/* Ends ERRORS: writes a last line that has no newline. What comes later has no
 * request id. */
void wsgi_errors_end(PyObject *errors);

/* This thread is in R's call, which lives until it says another, or NULL. */
void wsgi_streams_in(const struct cardea_request *r);

/* A function of Python: bytes, what a line of the call that this thread is in
 * begins with; none outside of one. */
PyObject *wsgi_streams_tag(PyObject *self, PyObject *none);

/* Writes FORMAT's text as one line on standard error, behind R's id. R may be
 * NULL: then without one. Needs no lock of the interpreter. */
__attribute__((format(printf, 2, 3))) void
wsgi_say(const struct cardea_request *r, const char *format, ...);

/* ----- reply.c ----- */

/* Makes the type of start_response. 0, or -1. Once. */
int wsgi_reply_setup(void);

/* start_response for R. */
struct wsgi_reply *wsgi_reply_new(struct cardea_request *r);

/* Takes BLOCK, one piece of the body, which must be bytes. 1: more may follow;
 * 0: no more is wanted (the client has gone, or there is more than was
 * announced); -1: an exception is set. */
int wsgi_reply_write(struct wsgi_reply *reply, PyObject *block);

/* The body is what FD (borrowed) holds from OFFSET on, and no more than was
 * announced. 0, or -1 with an exception. */
int wsgi_reply_send_file(struct wsgi_reply *reply, int fd, uint64_t offset,
                         uint64_t length);

/* Nothing more comes: puts status, fields and what is left of the body into
 * the answer. 0, or -1 with an exception. */
int wsgi_reply_finish(struct wsgi_reply *reply);

/* Whatever there was, the answer is a page of STATUS with TEXT and R's id. */
void wsgi_reply_refuse(struct wsgi_reply *reply, int status, const char *text);

/* After the call: what the application may still hold refers to nothing. */
void wsgi_reply_end(struct wsgi_reply *reply);

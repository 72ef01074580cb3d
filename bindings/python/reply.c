/* start_response, its write(), and the body. Nothing is sent before the
 * application is done: so whatever fails, however late, is a clean page of its
 * own, and a length that was announced and not kept never reaches a client.
 *
 * Status and fields are judged when they come, where the traceback shows who
 * said them. They wait as text; the body goes straight into the reply memory,
 * and what that does not hold into a memory file. */
#include "wsgi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cardea.h>

#define MEMORY_MAX ((uint64_t)16 << 20)  /* cardea.h: of a body */
#define BODY_MAX   ((uint64_t)256 << 20) /* of one that is made in memory */
#define FIELDS_MAX ((size_t)31 * 1024)   /* cardea.h: 32 KB */

/* Written once by wsgi_reply_setup(). */
static PyTypeObject *type;

/* ----- status and fields ----- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The three digits of STATUS, or -1 with an exception. */
static int
status_of(PyObject *status)
{
    PyObject *bytes;
    const char *s;
    int code = -1;

    if (!PyUnicode_Check(status)) {
        PyErr_SetString(PyExc_TypeError, "the status must be str");
        return -1;
    }
    bytes = PyUnicode_AsLatin1String(status);
    if (bytes == NULL) {
        return -1;
    }
    s = PyBytes_AsString(bytes);
    if (is_digit(s[0]) && is_digit(s[1]) && is_digit(s[2]) &&
        (s[3] == ' ' || s[3] == '\0')) {
        code = (s[0] - '0') * 100 + (s[1] - '0') * 10 + (s[2] - '0');
    }
    for (Py_ssize_t i = 0, n = PyBytes_Size(bytes); i < n; i++) {
        code = (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? -1 : code;
    }
    Py_DECREF(bytes);
    if (code < 200 || code > 599) {
        PyErr_Format(PyExc_ValueError,
                     "the status must be like '200 OK', and not %R", status);
        return -1;
    }
    return code;
}

static int
fields_add(struct wsgi_reply *reply, const char *text, size_t len)
{
    size_t need = reply->fields_len + len + 1, size = reply->fields_size;
    char *larger;

    if (need > FIELDS_MAX) {
        PyErr_Format(PyExc_ValueError, "more than %zu bytes of fields",
                     FIELDS_MAX);
        return -1;
    }
    while (size < need) {
        size *= 2;
    }
    if (size > reply->fields_size) {
        larger = malloc(size);
        if (larger == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(larger, reply->fields, reply->fields_len);
        if (reply->fields != reply->fields_small) {
            free(reply->fields);
        }
        reply->fields = larger;
        reply->fields_size = size;
    }
    memcpy(reply->fields + reply->fields_len, text, len);
    reply->fields[need - 1] = '\0';
    reply->fields_len = need;
    return 0;
}

/* RFC 9110, 5.6.2: what a name is made of. */
static bool
name_is_token(const char *name, size_t len)
{
    static const bool good[256] = {
        ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true,
        ['!'] = true,         ['#'] = true,         ['$'] = true,
        ['%'] = true,         ['&'] = true,         ['\''] = true,
        ['*'] = true,         ['+'] = true,         ['-'] = true,
        ['.'] = true,         ['^'] = true,         ['_'] = true,
        ['`'] = true,         ['|'] = true,         ['~'] = true,
    };

    for (size_t i = 0; i < len; i++) {
        if (!good[(unsigned char)name[i]]) {
            return false;
        }
    }
    return len > 0;
}

static bool
value_is_clean(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

/* RFC 9110, 7.6.1: of one connection, which is not the application's. */
static bool
name_is_hop(const char *name)
{
    static const char *const hop[] = {
        "connection", "keep-alive",          "proxy-authenticate",
        "te",         "proxy-authorization", "proxy-connection",
        "trailer",    "transfer-encoding",   "trailers",
        "upgrade"};

    for (size_t i = 0; i < sizeof(hop) / sizeof(*hop); i++) {
        if (strcasecmp(name, hop[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int
length_take(struct wsgi_reply *reply, const char *value, size_t len)
{
    uint64_t length;

    if (len == 0 || len > 18 || strspn(value, "0123456789") != len) {
        PyErr_Format(PyExc_ValueError, "Content-Length is no number: '%.40s'",
                     value);
        return -1;
    }
    length = strtoull(value, NULL, 10);
    if (reply->has_length && reply->length != length) {
        PyErr_SetString(PyExc_ValueError, "two different Content-Length");
        return -1;
    }
    reply->has_length = true;
    reply->length = length;
    return 0;
}

/* One field, as text. */
static int
field_take(struct wsgi_reply *reply, const char *name, size_t name_len,
           const char *value, size_t len)
{
    if (!name_is_token(name, name_len)) {
        PyErr_Format(PyExc_ValueError, "not the name of a field: '%.60s'",
                     name);
        return -1;
    }
    if (!value_is_clean(value, len)) {
        PyErr_Format(PyExc_ValueError, "%s has a control character in it",
                     name);
        return -1;
    }
    switch (name[0] | 0x20) {
    case 'c':
        if (strcasecmp(name, "content-length") == 0) {
            return length_take(reply, value, len);
        }
        /* fall through */
    case 'k':
    case 'p':
    case 't':
    case 'u':
        if (name_is_hop(name)) {
            PyErr_Format(PyExc_ValueError,
                         "%s is hop-by-hop: the server's, not the "
                         "application's",
                         name);
            return -1;
        }
        break;
    case 'd':
        if (strcasecmp(name, "date") == 0) {
            return 0; /* Cardea sets it */
        }
        break;
    default:
        break;
    }
    return fields_add(reply, name, name_len) < 0
               ? -1
               : fields_add(reply, value, len);
}

/* One tuple of the list. */
static int
pair_take(struct wsgi_reply *reply, PyObject *pair)
{
    PyObject *name, *value, *name_bytes, *value_bytes = NULL;
    int rc = -1;

    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
        PyErr_Format(PyExc_TypeError,
                     "fields must be tuples (name, value), and not %R", pair);
        return -1;
    }
    name = PyTuple_GetItem(pair, 0);
    value = PyTuple_GetItem(pair, 1);
    if (!PyUnicode_Check(name) || !PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "fields must be of str, and not %R",
                     pair);
        return -1;
    }
    name_bytes = PyUnicode_AsLatin1String(name);
    if (name_bytes != NULL) {
        value_bytes = PyUnicode_AsLatin1String(value);
    }
    if (value_bytes != NULL) {
        rc = field_take(reply, PyBytes_AsString(name_bytes),
                        (size_t)PyBytes_Size(name_bytes),
                        PyBytes_AsString(value_bytes),
                        (size_t)PyBytes_Size(value_bytes));
    }
    Py_XDECREF(name_bytes);
    Py_XDECREF(value_bytes);
    return rc;
}

static int
fields_take(struct wsgi_reply *reply, PyObject *list)
{
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "the fields must be a list");
        return -1;
    }
    reply->fields_len = 0;
    reply->has_length = false;
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
        if (pair_take(reply, PyList_GetItem(list, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ----- start_response ----- */

/* Raises what the tuple EXC_INFO holds. */
static void
raise_info(PyObject *exc_info)
{
    PyObject *kind, *value, *trace;

    if (!PyArg_ParseTuple(exc_info, "OOO", &kind, &value, &trace)) {
        return;
    }
    Py_INCREF(kind);
    Py_INCREF(value);
    if (trace == Py_None) {
        trace = NULL;
    }
    Py_XINCREF(trace);
    PyErr_Restore(kind, value, trace);
}

/* May it be called now? */
static int
check_start(struct wsgi_reply *reply, PyObject *exc_info)
{
    if (reply->r == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "start_response was called after its call");
        return -1;
    }
    if (exc_info == NULL && reply->status != 0) {
        PyErr_SetString(PyExc_AssertionError,
                        "start_response was called twice without exc_info");
        return -1;
    }
    if (exc_info != NULL && !PyTuple_Check(exc_info)) {
        PyErr_SetString(PyExc_TypeError, "exc_info must be a tuple");
        return -1;
    }
    if (exc_info != NULL && reply->is_final) {
        raise_info(exc_info);
        return -1;
    }
    return 0;
}

static PyObject *
start_response(PyObject *self, PyObject *args, PyObject *words)
{
    static char *const names[] = {(char *)"status", (char *)"headers",
                                  (char *)"exc_info", NULL};
    struct wsgi_reply *reply = (struct wsgi_reply *)self;
    PyObject *status, *list, *exc_info = NULL;
    int code;

    if (words == NULL && PyTuple_Size(args) == 2) {
        status = PyTuple_GetItem(args, 0);
        list = PyTuple_GetItem(args, 1);
    } else if (!PyArg_ParseTupleAndKeywords(args, words, "OO|O:start_response",
                                            (char **)(uintptr_t)names, &status,
                                            &list, &exc_info)) {
        return NULL;
    }
    exc_info = exc_info == Py_None ? NULL : exc_info;
    if (check_start(reply, exc_info) < 0) {
        return NULL;
    }
    code = status_of(status);
    if (code < 0 || fields_take(reply, list) < 0) {
        return NULL;
    }
    reply->status = code;
    return PyObject_GetAttrString(self, "write");
}

/* ----- the body ----- */

static int
fail_errno(const char *what, int error)
{
    PyErr_Format(PyExc_OSError, "%s: %s", what, strerror(error));
    return -1;
}

static int
spill_write(struct wsgi_reply *reply, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(reply->spill, bytes, len);

        if (n < 0) {
            return fail_errno("no memory for a large body", errno);
        }
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Moves what lies in the reply memory into a memory file. */
static int
spill_start(struct wsgi_reply *reply)
{
    const char *end = cardea_room(reply->r, 0);

    reply->spill = memfd_create("cardea-body", MFD_CLOEXEC);
    if (reply->spill < 0 || end == NULL) {
        return fail_errno("no memory for a large body", errno);
    }
    return spill_write(reply, end - reply->written, (size_t)reply->written);
}

static int
body_add(struct wsgi_reply *reply, const char *bytes, size_t len)
{
    if (reply->written + len > BODY_MAX) {
        PyErr_Format(PyExc_ValueError, "a body of more than %llu bytes",
                     (unsigned long long)BODY_MAX);
        return -1;
    }
    if (reply->spill < 0 && reply->written + len > MEMORY_MAX &&
        spill_start(reply) < 0) {
        return -1;
    }
    if (reply->spill >= 0) {
        if (spill_write(reply, bytes, len) < 0) {
            return -1;
        }
    } else if (cardea_write(reply->r, bytes, len) < 0) {
        return fail_errno("no room for the body", errno);
    }
    reply->written += len;
    return 0;
}

/* 204 and 304 have no body, whatever the application gives. */
static bool
has_no_body(const struct wsgi_reply *reply)
{
    return reply->status == 204 || reply->status == 304;
}

int
wsgi_reply_write(struct wsgi_reply *reply, PyObject *block)
{
    size_t len;

    if (!PyBytes_Check(block)) {
        PyErr_Format(PyExc_TypeError,
                     "the body must be of bytes, and not of %R",
                     Py_TYPE(block));
        return -1;
    }
    len = (size_t)PyBytes_Size(block);
    if (len == 0) {
        return cardea_gone(reply->r) ? 0 : 1;
    }
    if (reply->status == 0) {
        PyErr_SetString(PyExc_AssertionError,
                        "a body before start_response was called");
        return -1;
    }
    reply->is_final = true;
    if (has_no_body(reply)) {
        return 0;
    }
    if (reply->has_length && len > reply->length - reply->written) {
        len = (size_t)(reply->length - reply->written);
        reply->is_cut = true;
    }
    if (body_add(reply, PyBytes_AsString(block), len) < 0) {
        return -1;
    }
    return reply->is_cut || cardea_gone(reply->r) ? 0 : 1;
}

static PyObject *
reply_write(PyObject *self, PyObject *block)
{
    struct wsgi_reply *reply = (struct wsgi_reply *)self;

    if (reply->r == NULL) {
        return PyErr_Format(PyExc_RuntimeError,
                            "write() was called after its call");
    }
    if (wsgi_reply_write(reply, block) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

int
wsgi_reply_send_file(struct wsgi_reply *reply, int fd, uint64_t offset,
                     uint64_t length)
{
    if (reply->status == 0) {
        PyErr_SetString(PyExc_AssertionError,
                        "a body before start_response was called");
        return -1;
    }
    reply->is_final = true;
    if (has_no_body(reply)) {
        return 0;
    }
    if (reply->has_length && length > reply->length) {
        length = reply->length;
    }
    if (cardea_send_file(reply->r, fd, (off_t)offset, (size_t)length) < 0) {
        return fail_errno("the file cannot be sent", errno);
    }
    reply->by_file = true;
    reply->written = length;
    return 0;
}

/* ----- the end ----- */

/* What a GET would have had as its length: a file of that size and no content,
 * of which the worker sends nothing. */
static void
pad_head(struct wsgi_reply *reply)
{
    int fd = memfd_create("cardea-head", MFD_CLOEXEC);

    if (fd >= 0 && !reply->by_file &&
        ftruncate(fd, (off_t)reply->length) == 0 &&
        cardea_send_file(reply->r, fd, 0, (size_t)reply->length) == 0) {
        reply->by_file = true;
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int
check_length(struct wsgi_reply *reply)
{
    if (reply->is_cut) {
        wsgi_say(reply->r,
                 "the application gave more than the %llu bytes that it "
                 "announced: the rest was left out",
                 (unsigned long long)reply->length);
    }
    if (!reply->has_length || has_no_body(reply) ||
        reply->written == reply->length || cardea_gone(reply->r)) {
        return 0;
    }
    if (reply->is_head) {
        pad_head(reply);
        return 0;
    }
    wsgi_say(reply->r, "the application announced %llu bytes and gave %llu",
             (unsigned long long)reply->length,
             (unsigned long long)reply->written);
    wsgi_reply_refuse(reply, 502,
                      "The program behind this page gave less than it "
                      "announced.");
    return 1;
}

int
wsgi_reply_finish(struct wsgi_reply *reply)
{
    const char *at = reply->fields, *end = at + reply->fields_len;

    if (reply->status == 0) {
        PyErr_SetString(PyExc_AssertionError, "start_response was not called");
        return -1;
    }
    if (check_length(reply) != 0) {
        return 0;
    }
    if (reply->spill >= 0 && cardea_send_file(reply->r, reply->spill, 0,
                                              (size_t)reply->written) < 0) {
        return fail_errno("the body cannot be sent", errno);
    }
    while (at < end) {
        const char *value = at + strlen(at) + 1;

        if (cardea_set(reply->r, at, value) < 0) {
            return fail_errno(at, errno);
        }
        at = value + strlen(value) + 1;
    }
    return cardea_status(reply->r, reply->status);
}

void
wsgi_reply_refuse(struct wsgi_reply *reply, int status, const char *text)
{
    struct cardea_request *r = reply->r;
    char page[512];
    int fd, n;

    n = snprintf(page, sizeof(page), "%s\nRequest id: %s\n", text,
                 cardea_id(r));
    n = n < (int)sizeof(page) ? n : (int)sizeof(page) - 1;
    cardea_status(r, status);
    if (reply->written == 0 && !reply->by_file) {
        cardea_write(r, page, (size_t)n);
        return;
    }
    /* A file's content takes the place of what was written. */
    fd = memfd_create("cardea-page", MFD_CLOEXEC);
    if (fd < 0 || write(fd, page, (size_t)n) != n ||
        cardea_send_file(r, fd, 0, (size_t)n) < 0) {
        wsgi_say(r, "the page of status %d has a wrong body", status);
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* ----- its life ----- */

struct wsgi_reply *
wsgi_reply_new(struct cardea_request *r)
{
    struct wsgi_reply *reply = PyObject_New(struct wsgi_reply, type);

    if (reply != NULL) {
        /* Not all of it: the buffer needs no zeroes. */
        memset((char *)reply + sizeof(PyObject), 0,
               offsetof(struct wsgi_reply, fields_small) - sizeof(PyObject));
        reply->r = r;
        reply->spill = -1;
        reply->is_head = strcmp(cardea_method(r), "HEAD") == 0;
        reply->fields = reply->fields_small;
        reply->fields_size = sizeof(reply->fields_small);
    }
    return reply;
}

void
wsgi_reply_end(struct wsgi_reply *reply)
{
    reply->r = NULL;
    if (reply->spill >= 0) {
        close(reply->spill);
        reply->spill = -1;
    }
    if (reply->fields != reply->fields_small) {
        free(reply->fields);
        reply->fields = reply->fields_small;
    }
}

static void
reply_free(PyObject *self)
{
    PyTypeObject *own = Py_TYPE(self);

    wsgi_reply_end((struct wsgi_reply *)self);
    PyObject_Free(self);
    Py_DECREF(own);
}

static PyMethodDef methods[] = {
    {"write", reply_write, METH_O, NULL},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_dealloc, reply_free},
    {Py_tp_call, start_response},
    {Py_tp_methods, methods},
    {Py_tp_doc, "start_response"},
    {0},
};
static PyType_Spec spec = {"cardea._door.StartResponse",
                           sizeof(struct wsgi_reply), 0, Py_TPFLAGS_DEFAULT,
                           slots};

int
wsgi_reply_setup(void)
{
    type = (PyTypeObject *)PyType_FromSpec(&spec);
    return type != NULL ? 0 : -1;
}

/* env, by PEP 3333: a dict that starts as a copy of what all calls have in
 * common. Names are made once. Of fields that clients send again and again the
 * names are remembered in a table of fixed size, so that a client who invents
 * names only makes its own calls slower. */
#include "wsgi.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <cardea.h>

#define N_NAMES   128 /* a power of two */
#define NAME_SIZE 48

/* Each name of environ that changes from call to call. */
enum environ_key {
    REQUEST_METHOD,
    SCRIPT_NAME,
    PATH_INFO,
    QUERY_STRING,
    REQUEST_URI,
    SERVER_NAME,
    SERVER_PORT,
    REMOTE_ADDR,
    REMOTE_PORT,
    CONTENT_TYPE,
    CONTENT_LENGTH,
    WSGI_INPUT,
    WSGI_ERRORS,
    REQUEST_ID,
    DEADLINE,
    N_KEYS
};

static const char *const key_names[N_KEYS] = {
    [REQUEST_METHOD] = "REQUEST_METHOD", [SCRIPT_NAME] = "SCRIPT_NAME",
    [PATH_INFO] = "PATH_INFO",           [QUERY_STRING] = "QUERY_STRING",
    [REQUEST_URI] = "REQUEST_URI",       [SERVER_NAME] = "SERVER_NAME",
    [SERVER_PORT] = "SERVER_PORT",       [REMOTE_ADDR] = "REMOTE_ADDR",
    [REMOTE_PORT] = "REMOTE_PORT",       [CONTENT_TYPE] = "CONTENT_TYPE",
    [CONTENT_LENGTH] = "CONTENT_LENGTH", [WSGI_INPUT] = "wsgi.input",
    [WSGI_ERRORS] = "wsgi.errors",       [REQUEST_ID] = "cardea.request_id",
    [DEADLINE] = "cardea.deadline",
};

/* Written once by wsgi_environ_setup(). */
static PyObject *keys[N_KEYS];
static struct environ_values {
    PyObject *empty, *get, *post, *template;
} values;

/* Fields' names, by a hash of the name: used under the interpreter's lock. */
static struct environ_field {
    char name[NAME_SIZE];
    PyObject *key;
} fields[N_NAMES];

/* The server as the last request named it. */
static struct environ_server {
    char host[256];
    PyObject *name, *port;
} server;

int
wsgi_environ_setup(PyObject *template)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        keys[i] = PyUnicode_InternFromString(key_names[i]);
        if (keys[i] == NULL) {
            return -1;
        }
    }
    values.empty = PyUnicode_InternFromString("");
    values.get = PyUnicode_InternFromString("GET");
    values.post = PyUnicode_InternFromString("POST");
    Py_INCREF(template);
    values.template = template;
    return values.empty != NULL && values.get != NULL && values.post != NULL
               ? 0
               : -1;
}

static PyObject *
text_new(const char *text, size_t len)
{
    if (len == 0) {
        Py_INCREF(values.empty);
        return values.empty;
    }
    return PyUnicode_DecodeLatin1(text, (Py_ssize_t)len, NULL);
}

/* Sets KEY to VALUE, whose reference is taken; NULL fails. */
static int
set_taken(PyObject *env, PyObject *key, PyObject *take_value)
{
    int rc = take_value == NULL ? -1 : PyDict_SetItem(env, key, take_value);

    Py_XDECREF(take_value);
    return rc;
}

static int
set_text(PyObject *env, PyObject *key, const char *text)
{
    return set_taken(env, key, text_new(text, strlen(text)));
}

static PyObject *
number_new(size_t n)
{
    char text[24], *at = text + sizeof(text);

    do {
        *--at = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return PyUnicode_DecodeLatin1(at, text + sizeof(text) - at, NULL);
}

static int
set_method(PyObject *env, const char *method)
{
    if (strcmp(method, "GET") == 0) {
        return PyDict_SetItem(env, keys[REQUEST_METHOD], values.get);
    }
    if (strcmp(method, "POST") == 0) {
        return PyDict_SetItem(env, keys[REQUEST_METHOD], values.post);
    }
    return set_text(env, keys[REQUEST_METHOD], method);
}

/* SCRIPT_NAME and PATH_INFO together are the path, and each is empty or starts
 * with '/'; SCRIPT_NAME never ends with one. */
static int
set_path(PyObject *env, const char *path, const char *route)
{
    size_t len = strlen(route);

    while (len > 0 && route[len - 1] == '/') {
        len--;
    }
    if (strncmp(path, route, len) != 0 ||
        (path[len] != '/' && path[len] != '\0')) {
        len = 0;
    }
    if (set_taken(env, keys[SCRIPT_NAME], text_new(path, len)) < 0) {
        return -1;
    }
    path += len;
    /* OPTIONS of "*" is about the server: a path that no route has. */
    return set_text(env, keys[PATH_INFO],
                    path[0] == '/' || (path[0] == '\0' && len > 0) ? path
                                                                   : "/");
}

static bool
host_is_sane(const char *host, size_t len)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_[]:";

    return len > 0 && strspn(host, good) >= len;
}

/* "name", "name:port" or "[v6]:port": of its own address a door learns
 * nothing. */
static int
server_learn(const char *host)
{
    const char *colon = strrchr(host, ':'), *bracket = strrchr(host, ']');
    size_t len = strlen(host);
    PyObject *name, *port = NULL;

    if (len >= sizeof(server.host)) {
        host = "";
        len = 0;
    } else if (colon != NULL && (bracket == NULL || bracket < colon)) {
        char *end;
        unsigned long n = strtoul(colon + 1, &end, 10);

        len = (size_t)(colon - host);
        if (*end == '\0' && n > 0 && n < 65536) {
            port = number_new(n);
        }
    }
    name = host_is_sane(host, len) ? text_new(host, len)
                                   : PyUnicode_FromString("localhost");
    port = port != NULL ? port : PyUnicode_FromString("80");
    if (name == NULL || port == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(port);
        return -1;
    }
    Py_XDECREF(server.name);
    Py_XDECREF(server.port);
    server.name = name;
    server.port = port;
    memcpy(server.host, host, strlen(host) + 1);
    return 0;
}

static int
set_server(PyObject *env, const char *host)
{
    if ((server.name == NULL || strcmp(host, server.host) != 0) &&
        server_learn(host) < 0) {
        return -1;
    }
    if (PyDict_SetItem(env, keys[SERVER_NAME], server.name) < 0) {
        return -1;
    }
    return PyDict_SetItem(env, keys[SERVER_PORT], server.port);
}

static int
set_peer(PyObject *env, struct cardea_request *r)
{
    const char *peer = cardea_peer(r);

    if (strcmp(peer, "unix") == 0) {
        return set_text(env, keys[REMOTE_ADDR], "");
    }
    if (set_text(env, keys[REMOTE_ADDR], peer) < 0) {
        return -1;
    }
    return set_taken(env, keys[REMOTE_PORT],
                     number_new((size_t)cardea_peer_port(r)));
}

/* What does not become HTTP_NAME: Content-* have names of their own, the others
 * belong to the connection, or fool libraries (Proxy). A name with '_' would
 * pass for another one's. */
static bool
field_is_left(const char *name)
{
    static const char *const left[] = {"Connection",       "Content-Length",
                                       "Content-Type",     "Expect",
                                       "Keep-Alive",       "Proxy",
                                       "Proxy-Connection", "TE",
                                       "Trailer",          "Transfer-Encoding",
                                       "Upgrade"};

    for (size_t i = 0; i < sizeof(left) / sizeof(*left); i++) {
        if (strcasecmp(name, left[i]) == 0) {
            return true;
        }
    }
    return strchr(name, '_') != NULL;
}

/* HTTP_NAME; None for a field that is left out. */
static PyObject *
key_new(const char *name, size_t len)
{
    char *text, *end;
    PyObject *key;

    if (field_is_left(name)) {
        Py_INCREF(Py_None);
        return Py_None;
    }
    text = malloc(len + sizeof("HTTP_"));
    if (text == NULL) {
        return PyErr_NoMemory();
    }
    end = (char *)mempcpy(text, "HTTP_", 5);
    for (; *name != '\0'; name++) {
        *end++ = (char)(*name == '-'                   ? '_'
                        : *name >= 'a' && *name <= 'z' ? *name - 32
                                                       : *name);
    }
    key = PyUnicode_DecodeLatin1(text, end - text, NULL);
    free(text);
    if (key != NULL) {
        PyUnicode_InternInPlace(&key);
    }
    return key;
}

/* The same from the table, which learns it. */
static PyObject *
key_of(const char *name)
{
    struct environ_field *field;
    uint32_t hash = 2166136261u;
    size_t len;
    PyObject *key;

    for (len = 0; name[len] != '\0'; len++) {
        hash = (hash ^ (unsigned char)name[len]) * 16777619u;
    }
    field = &fields[(hash ^ (hash >> 16)) & (N_NAMES - 1)];
    if (field->key != NULL && strcmp(field->name, name) == 0) {
        Py_INCREF(field->key);
        return field->key;
    }
    key = key_new(name, len);
    if (key != NULL && len < NAME_SIZE) {
        Py_XDECREF(field->key);
        Py_INCREF(key);
        field->key = key;
        memcpy(field->name, name, len + 1);
    }
    return key;
}

/* One field; a second one of its name is added to the first as RFC 9110, 5.3,
 * has it, and a cookie as RFC 6265bis, 5.8.3. */
static int
set_field(PyObject *env, const char *name, const char *text)
{
    PyObject *key = key_of(name), *value, *before;
    int rc = -1;

    if (key == NULL || key == Py_None) {
        Py_XDECREF(key);
        return key == NULL ? -1 : 0;
    }
    before = PyDict_GetItemWithError(env, key);
    if (before == NULL && PyErr_Occurred() != NULL) {
        Py_DECREF(key);
        return -1;
    }
    value = text_new(text, strlen(text));
    if (value != NULL && before != NULL) {
        PyObject *both = PyUnicode_FromFormat(
            strcasecmp(name, "cookie") == 0 ? "%U; %U" : "%U,%U", before,
            value);

        Py_DECREF(value);
        value = both;
    }
    rc = set_taken(env, key, value);
    Py_DECREF(key);
    return rc;
}

/* The fields, and what the body is. */
static int
set_fields(PyObject *env, struct cardea_request *r)
{
    const char *name, *text;
    bool has_length = false;
    size_t len;

    for (size_t i = 0; cardea_header_at(r, i, &name, &text) == 0; i++) {
        int rc;

        if (strcasecmp(name, "content-type") == 0) {
            rc = set_text(env, keys[CONTENT_TYPE], text);
        } else {
            has_length = has_length || strcasecmp(name, "content-length") == 0;
            rc = set_field(env, name, text);
        }
        if (rc < 0) {
            return -1;
        }
    }
    cardea_body(r, &len);
    if (len == 0 && !has_length) {
        return 0;
    }
    /* A chunked body has a length by now. */
    return set_taken(env, keys[CONTENT_LENGTH], number_new(len));
}

/* On the clock of Python's time.monotonic(). */
static int
set_deadline(PyObject *env, struct cardea_request *r)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return set_taken(env, keys[DEADLINE],
                     PyFloat_FromDouble((double)now.tv_sec +
                                        (double)now.tv_nsec / 1e9 +
                                        (double)cardea_time_left(r) / 1e9));
}

PyObject *
wsgi_environ_new(struct cardea_request *r, PyObject *input, PyObject *errors)
{
    PyObject *env = PyDict_Copy(values.template);

    if (env == NULL || set_method(env, cardea_method(r)) < 0 ||
        set_path(env, cardea_path(r), cardea_route(r)) < 0 ||
        set_text(env, keys[QUERY_STRING], cardea_query(r)) < 0 ||
        set_text(env, keys[REQUEST_URI], cardea_target(r)) < 0 ||
        set_text(env, keys[REQUEST_ID], cardea_id(r)) < 0 ||
        set_deadline(env, r) < 0 || set_server(env, cardea_host(r)) < 0 ||
        set_peer(env, r) < 0 || set_fields(env, r) < 0 ||
        PyDict_SetItem(env, keys[WSGI_INPUT], input) < 0 ||
        PyDict_SetItem(env, keys[WSGI_ERRORS], errors) < 0) {
        Py_XDECREF(env);
        return NULL;
    }
    return env;
}

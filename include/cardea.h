/* cardea.h: write a plain, blocking function that answers one request; Cardea
 * puts it on the network. Link with -ldoor. See cardea_serve_threads(3).
 *
 *     #include <cardea.h>
 *     static void hello(struct cardea_request *r)
 *     {
 *         cardea_puts(r, "Well, hello to you too!\n");
 *     }
 *     int main(void)
 *     {
 *         return cardea_serve_threads(hello);
 *     }
 */
#ifndef CARDEA_H
#define CARDEA_H

#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* One request, from the moment the handler is called until it returns. Each
 * pointer that an accessor gives is valid that long, and not longer. It may be
 * used only on the thread that the handler was called on. */
struct cardea_request;

typedef void cardea_handler(struct cardea_request *);

/* Serves the door that Cardea named in the environment (CARDEA_DOOR, a path)
 * until Cardea ends the process. HANDLER runs on many threads at once: as many
 * as there were calls waiting at the same time, and not more; what they share
 * needs a lock. Returns only on
 * failure: 1, after a line on standard error said why. Without CARDEA_DOOR the
 * line says how to start the program. The door of a module (CARDEA_MODULE is
 * set) has mode 0600; else as below. */
int cardea_serve_threads(cardea_handler *handler);

/* What a program adds whose requests are answered by forked copies. Each may be
 * NULL; all get ARG. A connection to a database belongs into START. */
struct cardea_hooks {
    void (*before_fork)(void *arg); /* in the parent, before each fork */
    void (*after_fork)(void *arg);  /* in the parent, after it */
    int (*start)(
        void *arg); /* in a new copy; not 0: it cannot serve, and ends */
    void (*end)(void *arg); /* in a copy that leaves */
    void *arg;
};

/* Serves the same door, each request in a forked copy of the program: HANDLER
 * is one of many processes that answer one request at a time, and needs no
 * lock. There are as many as there were requests waiting at the same time, at
 * least one; those that have nothing to do leave. The calling process itself
 * answers none: what it has made before the call (configuration, compiled
 * templates, a warm cache) each copy has from its first instruction. HOOKS
 * (borrowed) may be NULL.
 *
 * The program must have one thread. If it has more, a line on standard error
 * says so, and requests are answered in this process one at a time, after
 * START. A copy that ends within a request costs that client its answer (502),
 * and is replaced; one whose request is a second past its time is killed.
 * CARDEA_COPIES bounds their number (1000), CARDEA_START_TIMEOUT (seconds; 30)
 * what START may take, and CARDEA_RECYCLE_CALLS, CARDEA_RECYCLE_AGE (seconds)
 * and CARDEA_RECYCLE_MEMORY (bytes) how long one copy serves. Returns only on
 * failure, as above. */
int cardea_serve(cardea_handler *handler, const struct cardea_hooks *hooks);

/* The same at a door PATH of the caller's choice (made with mode 0666 & ~umask;
 * a dead door found there is replaced). */
int cardea_serve_threads_at(cardea_handler *handler, const char *path);

/* The request. Strings end with NUL and are never NULL but where it says so.
 * Where there is no memory for a large head (2 KB and more), all of it reads as
 * empty, and the client gets 503 whatever the handler answers. */
const char *cardea_method(const struct cardea_request *); /* "GET" */
const char *cardea_target(const struct cardea_request *); /* as sent */
const char *cardea_path(const struct cardea_request *);   /* decoded */
const char *cardea_query(const struct cardea_request *);  /* raw, no '?' */
const char *cardea_host(const struct cardea_request *);
const char *cardea_peer(const struct cardea_request *); /* address */
int cardea_peer_port(const struct cardea_request *);
const char *cardea_id(const struct cardea_request *); /* request id */
/* The route's prefix that matched, and what of the path follows it. */
const char *cardea_route(const struct cardea_request *);
const char *cardea_rest(const struct cardea_request *);

/* First field of that name, in any case; NULL if there is none. */
const char *cardea_header(const struct cardea_request *, const char *name);
/* The I-th field (from 0); 0 and both pointers set, or -1: no such field. */
int cardea_header_at(const struct cardea_request *, size_t i,
                     const char **p_name, const char **p_value);
/* The decoded value of NAME in the query, copied to OUT (at most SIZE - 1
 * bytes and NUL). Its length, or -1: not there, or it does not fit. */
ssize_t cardea_param(const struct cardea_request *, const char *name, char *out,
                     size_t size);

/* The body: bytes and length; memory that the worker received it into, to be
 * read only. Length 0 without one (the pointer is then not NULL). */
const void *cardea_body(const struct cardea_request *, size_t *p_len);

/* The W3C trace that the request is part of, as its field traceparent has it;
 * "" without one. */
const char *cardea_traceparent(const struct cardea_request *);

/* These three, and cardea_id, also take NULL: they tell of the call that the
 * calling thread serves, so the procedure of a plain door (door_create(3)) can
 * ask. Such a call is part of a request if it came from Cardea, or from a
 * thread that served such a call and made this one with door_call(3). Of no
 * request they say "", INT64_MAX and 0; what they return is valid until the
 * next such call of the thread. */

/* Nanoseconds left until the client gets 504; never negative. */
int64_t cardea_time_left(const struct cardea_request *);
/* Has the client gone, or its time passed? Then the answer goes nowhere. */
int cardea_gone(const struct cardea_request *);

/* The answer. 200, no fields and an empty body unless said. All return 0, or
 * -1 with errno: EINVAL (status not 200 to 599; a field name that is no token;
 * CR, LF or NUL in a value; a field that Cardea sets itself), ENOBUFS (over the
 * limits: 16 MB body, 32 KB of fields), EALREADY (cardea_send_file was called
 * before). What was set before an error stays. */
int cardea_status(struct cardea_request *, int status);
int cardea_set(struct cardea_request *, const char *name, const char *value);
/* Content-Type; "text/plain; charset=utf-8" unless set. */
int cardea_type(struct cardea_request *, const char *type);
/* Appends to the body, in place in the reply memory. */
int cardea_write(struct cardea_request *, const void *bytes, size_t len);
int cardea_puts(struct cardea_request *, const char *text);
int cardea_printf(struct cardea_request *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int cardea_vprintf(struct cardea_request *, const char *format, va_list)
    __attribute__((format(printf, 2, 0)));
/* Room for LEN more body bytes, to be written directly: the pointer, or NULL
 * with errno ENOBUFS. cardea_commit appends what was really written there. */
void *cardea_room(struct cardea_request *, size_t len);
int cardea_commit(struct cardea_request *, size_t len);
/* The body is LENGTH bytes of FD from OFFSET (a plain file or memfd); the
 * worker sends them. FD is duplicated: the caller keeps its own. Replaces what
 * was written. EBADF: not a plain file, or shorter than OFFSET + LENGTH. */
int cardea_send_file(struct cardea_request *, int fd, off_t offset,
                     size_t length);

/* The descriptor of the secret NAME of this module (`secret NAME from FILE` in
 * cardea.conf(5)), to be read from its start, with pread(2) where processes
 * share it; it stays open, and belongs to the library. Programs that are
 * executed from now on do not get it. -1 with errno: ENOENT, the module has
 * none of that name; EBADF, its descriptor was closed. See cardea_secret(3). */
int cardea_secret(const char *name);

/* Writes a line to standard error that Cardea's log shows with the id of the
 * request R (NULL: of none; within the procedure of a plain door, of the one
 * that its call is part of) and this process's number; several lines where
 * there are newlines within. At most 1,700 bytes. Any thread may, and errno
 * stays as it is. See cardea_log(3). */
void cardea_log(const struct cardea_request *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cardea_vlog(const struct cardea_request *r, const char *format, va_list)
    __attribute__((format(printf, 2, 0)));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

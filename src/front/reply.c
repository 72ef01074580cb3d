/* Replies on their way out: a head written in the arena, and a body that is
 * sent from where the door wrote it, from a file, or from behind the head; head
 * and body leave with one vectored write.
 *
 * Whatever a door wrote is hostile: its fields are copied, then judged; its
 * body is only passed on.
 */
#include "front/worker_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/util.h"
#include "front/files.h"
#include "http/http.h"

#define SEND_AT_ONCE (1u << 20)
#define SMALL_BODY   512u

/* A head being written. Over the end: `full`, and nothing more is put. */
struct head {
    char *at, *start, *end;
    bool full;
};

static void
put(struct head *h, const void *bytes, size_t len)
{
    if ((size_t)(h->end - h->at) < len) {
        h->full = true;
        return;
    }
    memcpy(h->at, bytes, len);
    h->at += len;
}

#define PUT(h, literal) put(h, literal, sizeof(literal) - 1)

static void
put_number(struct head *h, uint64_t value)
{
    char digits[20];
    size_t n = sizeof digits;

    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    put(h, digits + n, sizeof digits - n);
}

static void put_format(struct head *h, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
put_format(struct head *h, const char *format, ...)
{
    va_list args;
    size_t room = (size_t)(h->end - h->at);

    va_start(args, format);
    int n = vsnprintf(h->at, room, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= room) {
        h->full = true;
    } else {
        h->at += n;
    }
}

/* Begins in the request's own room, or with BIG in a run of segments. false: no
 * run is to be had. */
static bool
head_begin(struct worker *w, struct conn *c, struct head *h, bool big)
{
    if (big) {
        if (c->out_seg == ARENA_NONE) {
            c->out_seg = arena_take_run(&w->arena);
        }
        if (c->out_seg == ARENA_NONE) {
            return false;
        }
        h->start = arena_at(&w->arena, c->out_seg);
        h->end = h->start + ARENA_RUN * ARENA_SEGMENT;
    } else {
        uint32_t out = c->out_seg;
        c->out_seg = ARENA_NONE;
        if (out != ARENA_NONE) {
            arena_give(&w->arena, out);
        }
        h->start = (char *)arena_at(&w->arena, c->seg) + REQUEST_ROOM;
        h->end = h->start + OUT_ROOM;
    }
    h->at = h->start;
    h->full = false;
    return true;
}

static bool
has_no_body(int status)
{
    return status == 204 || status == 304 || status < 200;
}

static void
put_start(struct worker *w, struct head *h, int status)
{
    if (status == 200) {
        PUT(h, "HTTP/1.1 200 OK\r\nDate: ");
    } else {
        PUT(h, "HTTP/1.1 ");
        put_number(h, (uint64_t)status);
        PUT(h, " ");
        const char *reason = http_reason(status);
        put(h, reason, strlen(reason));
        PUT(h, "\r\nDate: ");
    }
    put(h, w->date, HTTP_DATE_LEN);
    PUT(h, "\r\n");
}

/* Length (-1: not known), what becomes of the connection, and the empty line. A
 * 204 carries no length; a 304 may, and does not. */
static void
put_end(struct worker *w, struct conn *c, struct head *h, int status,
        int64_t length)
{
    const struct request *r = request_of(w, c);

    if (w->core->stopping) {
        c->flags |= CONN_CLOSE;
    }
    if (!has_no_body(status) && length >= 0) {
        PUT(h, "Content-Length: ");
        put_number(h, (uint64_t)length);
        PUT(h, "\r\n");
    }
    if (c->flags & CONN_CLOSE) {
        PUT(h, "Connection: close\r\n");
    } else if (r->minor == 0 && r->parsed) {
        PUT(h, "Connection: keep-alive\r\n");
    }
    PUT(h, "\r\n");
}

/* The descriptor that came with the answer is the request's from now on. */
void
reply_keep_fd(struct worker *w, struct conn *c)
{
    const struct request *r = request_of(w, c);

    if (r->fd >= 0 && r->has_slot) {
        ring_fd_taken(&w->rings[c->ring], c->slot);
    }
}

/* The head is written: off it goes. BODY may be NULL, FD -1. Until the state is
 * stored nothing was given back, and an heir comes here again; then the reply
 * is what the record says, and what it does not need goes back. */
static void
launch(struct worker *w, uint32_t i, struct head *h, int status,
       const char *body, uint64_t body_len)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);

    r->status = (uint16_t)status;
    if (body && body_len <= SMALL_BODY && !r->head_only &&
        !has_no_body(status) && (size_t)(h->end - h->at) >= body_len) {
        /* A vectored write costs more than these few bytes. */
        put(h, body, body_len);
        body_len = 0;
    }
    r->out_len = (uint32_t)(h->at - h->start);
    r->body = body;
    r->body_len = r->head_only || has_no_body(status) ? 0 : body_len;
    r->sent = 0;
    r->tx_before = c->tx;
    r->log = LOG_DUE;
    r->cut = false;
    if (r->answered == 0) {
        r->answered = w->now;
    }
    conn_enter(c, CONN_SEND);
    if (r->body_len == 0 || r->fd >= 0) {
        reply_keep_fd(w, c);
        call_release(w, c);
    }
    worker_arm(w, i, w->conf->body_timeout_ns);
    reply_send(w, i);
}

/* ---- our own answers ---- */

static const char *
advice(int status, enum reply_cause cause)
{
    switch (cause) {
    case CAUSE_NO_DOOR:
        return "The program that answers here is not running just now. Try "
               "again in a moment.";
    case CAUSE_CRASH:
        return "The program that answers here ended in the middle of this "
               "request.";
    case CAUSE_LIED:
    case CAUSE_NO_ANSWER:
        return "The program that answers here gave no valid answer.";
    case CAUSE_DEADLINE:
        return "The program that answers here did not answer in time.";
    case CAUSE_FULL:
    case CAUSE_NO_TIME:
        return "Too much is waiting here already. Try again in a moment.";
    case CAUSE_TIMEOUT_CLIENT:
        return "The request did not arrive in time.";
    default:
        break;
    }
    switch (status) {
    case 404:
        return "Nothing is served at this address.";
    case 405:
        return "This address does not take that method.";
    case 411:
        return "A request with a body must say how long it is.";
    case 413:
        return "The body is larger than this server takes.";
    case 414:
        return "The address is longer than this server takes.";
    case 431:
        return "The header fields are larger than this server takes.";
    default:
        return "The request could not be served.";
    }
}

static int
error_body(char *to, size_t room, const struct request *r, int status,
           enum reply_cause cause)
{
    if (r->wants_json) {
        return snprintf(to, room,
                        "{\"status\":%d,\"error\":\"%s\",\"detail\":\"%s\","
                        "\"request\":\"%016llx\"}\n",
                        status, http_reason(status), advice(status, cause),
                        (unsigned long long)r->id);
    }
    return snprintf(
        to, room,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width\">"
        "<title>%d %s</title>\n<style>body{font:1.1em/1.5 system-ui,"
        "sans-serif;max-width:36em;margin:15vh auto;padding:0 1.5em;"
        "color-scheme:light dark}small{opacity:.7}</style>\n"
        "<h1>%d %s</h1>\n<p>%s</p>\n<p><small>Request %016llx</small></p>\n",
        status, http_reason(status), status, http_reason(status),
        advice(status, cause), (unsigned long long)r->id);
}

static void
error_head(struct worker *w, struct conn *c, struct head *h, int status, int n,
           const char *extra)
{
    const struct request *r = request_of(w, c);

    head_begin(w, c, h, false);
    put_start(w, h, status);
    if (n > 0) {
        put_format(h, "Content-Type: %s\r\n",
                   r->wants_json ? "application/json"
                                 : "text/html; charset=utf-8");
    }
    put_format(h, "X-Request-Id: %016llx\r\n", (unsigned long long)r->id);
    if (extra) {
        put(h, extra, strlen(extra));
    }
    put_end(w, c, h, status, n);
}

void
reply_error(struct worker *w, uint32_t i, int status, enum reply_cause cause,
            const char *extra)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct head h;
    char page[1024];

    if (r->raw) {
        raw_fail(w, i, cause);
        return;
    }
    r->fd = -1; /* if one came, it goes with its slot */
    r->cause = (uint8_t)cause;
    int n = has_no_body(status)
                ? 0
                : error_body(page, sizeof page, r, status, cause);
    error_head(w, c, &h, status, n, extra);
    if (!r->head_only && (size_t)(h.end - h.at) < (size_t)n) {
        /* A long Location or Allow: the fields matter, the page does not. */
        error_head(w, c, &h, status, 0, extra);
        n = 0;
    }
    if (!r->head_only) {
        put(&h, page, (size_t)n);
    }
    launch(w, i, &h, status, NULL, 0);
}

/* ---- a door's answer ---- */

/* Copies the door's field lines and judges the copy. false: they are not
 * valid. */
static bool
put_fields(struct head *h, const char *lines, size_t len)
{
    struct http_field fields[HTTP_MAX_FIELDS];
    uint32_t n = 0;
    char *copy = h->at;

    put(h, lines, len);
    if (h->full || http_fields_parse(copy, len, fields, &n) != HTTP_OK) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!http_field_is_free(copy + fields[i].name.off,
                                fields[i].name.len)) {
            return false;
        }
    }
    return true;
}

/* A body that is a descriptor needs nothing of the ring: the slot goes back at
 * once (launch), and the program may end meanwhile. */
static void
launch_body(struct worker *w, uint32_t i, struct head *h, int status,
            const struct ring_result *result, const char *body, uint64_t len)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);

    if (r->fd >= 0) {
        r->fd_off = result->fd_offset;
        body = NULL;
    }
    launch(w, i, h, status, body, len);
}

/* A cardea.h door: status, field lines, body. */
static void
reply_struct(struct worker *w, uint32_t i, struct ring_result *result)
{
    struct conn *c = &w->conns[i];
    struct head h;
    int status = (int)result->status;
    bool big = result->head_len > OUT_ROOM - 256;

    if (status < 200 || status > 599 || result->head_len > HTTP_MAX_HEAD ||
        !head_begin(w, c, &h, big)) {
        reply_error(w, i, 502, CAUSE_NO_ANSWER, NULL);
        return;
    }
    put_start(w, &h, status);
    bool valid = put_fields(&h, result->head, result->head_len);
    put_end(w, c, &h, status, (int64_t)result->data_len);
    if (!valid || h.full) {
        reply_error(w, i, 502, CAUSE_NO_ANSWER, NULL);
        return;
    }
    launch_body(w, i, &h, status, result, result->data, result->data_len);
}

/* A plain door: a whole HTTP/1.1 response. Its head is copied before it is
 * parsed; its framing is checked, then written anew. */
__attribute__((noinline)) static void
reply_bytes(struct worker *w, uint32_t i, struct ring_result *result)
{
    struct conn *c = &w->conns[i];
    struct head h;
    struct http_response p;
    char copy[HTTP_MAX_HEAD];
    size_t n = (size_t)MIN_OF(result->data_len, sizeof copy);

    memcpy(copy, result->data, n);
    if (http_response_parse(copy, n, &p) != HTTP_OK || p.status < 200 ||
        p.chunked) {
        reply_error(w, i, 502, CAUSE_NO_ANSWER, NULL);
        return;
    }
    uint64_t len = result->data_len - p.head_len;
    const struct request *r = request_of(w, c);
    bool bodiless = (r->head_only || p.status == 304) && len == 0;
    if (p.has_length && p.content_length != len && !bodiless) {
        reply_error(w, i, 502, CAUSE_LIED, NULL);
        return;
    }
    if (!head_begin(w, c, &h, p.head_len > OUT_ROOM - 256)) {
        reply_error(w, i, 503, CAUSE_FULL, "Retry-After: 1\r\n");
        return;
    }
    put_start(w, &h, p.status);
    for (uint32_t f = 0; f < p.n_fields; f++) {
        const struct http_field *field = &p.fields[f];
        const char *name = copy + field->name.off;
        if (http_field_is_free(name, field->name.len)) {
            put(&h, name, field->name.len);
            PUT(&h, ": ");
            put(&h, copy + field->value.off, field->value.len);
            PUT(&h, "\r\n");
        }
    }
    put_end(w, c, &h, p.status,
            p.has_length ? (int64_t)p.content_length
            : bodiless   ? -1
                         : (int64_t)len);
    if (h.full) {
        reply_error(w, i, 502, CAUSE_NO_ANSWER, NULL);
        return;
    }
    launch_body(w, i, &h, p.status, result, result->data + p.head_len, len);
}

/* A connection of forward tcp: the bytes as they are. */
static void
reply_raw(struct worker *w, uint32_t i, const struct ring_result *result)
{
    struct conn *c = &w->conns[i];
    struct head h;

    if (request_of(w, c)->passed) {
        raw_passed(w, i);
        return;
    }
    head_begin(w, c, &h, false);
    launch_body(w, i, &h, 200, result, result->data, result->data_len);
}

/* A descriptor that a door gave: a plain file, to be read, with enough in it.
 */
static bool
is_good_fd(const struct ring_result *result)
{
    struct stat st;
    int flags = fcntl(result->fd, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY &&
           (flags & O_PATH) == 0 && fstat(result->fd, &st) == 0 &&
           S_ISREG(st.st_mode) && result->fd_offset <= (uint64_t)st.st_size &&
           result->data_len <= (uint64_t)st.st_size - result->fd_offset;
}

void
reply_door(struct worker *w, uint32_t i, struct ring_result *result)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);

    r->fd = result->fd; /* the slot's, too, until the reply is launched */
    if (result->error == 0 && result->fd >= 0 &&
        (r->kind != RING_KIND_HTTP || !is_good_fd(result))) {
        result->error = EBADF;
    }
    if (result->error == EMFILE || result->error == ENOMEM) {
        /* No room for its descriptor, on a side, or for the request. */
        reply_error(w, i, 503, CAUSE_FULL, "Retry-After: 1\r\n");
    } else if (result->error != 0) {
        r->error = (uint16_t)result->error;
        reply_error(w, i, 502,
                    result->error == EINTR ? CAUSE_CRASH : CAUSE_NO_ANSWER,
                    NULL);
    } else if (r->raw) {
        reply_raw(w, i, result);
    } else if (r->kind == RING_KIND_HTTP) {
        reply_struct(w, i, result);
    } else {
        reply_bytes(w, i, result);
    }
}

/* ---- plain files ---- */

static struct files_text
text_of(const char *in, const struct http_request *h, const char *name)
{
    const struct http_field *f =
        http_field_find(in, h->fields, h->n_fields, name, strlen(name));

    if (!f) {
        return (struct files_text){NULL, 0};
    }
    return (struct files_text){in + f->value.off, f->value.len};
}

static void
put_file_fields(struct head *h, const struct files_answer *a)
{
    char date[HTTP_DATE_LEN + 1];

    http_date(a->mtime, date);
    if (a->status == 416) {
        put_format(h, "Content-Range: bytes */%llu\r\n",
                   (unsigned long long)a->total);
        return;
    }
    if (a->status != 304) {
        put_format(h, "Content-Type: %s\r\nAccept-Ranges: bytes\r\n", a->type);
    }
    put_format(h, "ETag: %s\r\nLast-Modified: %s\r\n", a->etag, date);
    if (a->status == 206) {
        put_format(h, "Content-Range: bytes %llu-%llu/%llu\r\n",
                   (unsigned long long)a->offset,
                   (unsigned long long)(a->offset + a->length - 1),
                   (unsigned long long)a->total);
    }
}

/* Why a folder answers STATUS, which is 400 or more. */
static enum reply_cause
cause_of_file(int status)
{
    switch (status) {
    case 403:
        return CAUSE_UNREADABLE;
    case 404:
        return CAUSE_NOT_FOUND;
    case 405:
        return CAUSE_BAD_METHOD;
    case 412:
    case 416:
        return CAUSE_UNMET;
    default:
        return CAUSE_FILE_FAILED;
    }
}

static void
reply_moved(struct worker *w, uint32_t i, const struct http_request *h,
            const char *path)
{
    char extra[OUT_ROOM / 2], location[OUT_ROOM / 2 - 16];
    const char *query = input_of(w, &w->conns[i]) + h->query.off;

    if (files_location(path, query, h->query.len, location, sizeof location) <
        0) {
        reply_error(w, i, 404, CAUSE_NOT_FOUND, NULL);
        return;
    }
    snprintf(extra, sizeof extra, "Location: %s\r\n", location);
    reply_error(w, i, 301, CAUSE_NONE, extra);
}

void
reply_file(struct worker *w, uint32_t i, const struct http_request *h,
           const char *rest, const char *path)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    const char *in = input_of(w, c);
    struct head head;
    struct files_answer a;
    struct files_query q = {
        .is_get = h->method == HTTP_GET,
        .now = (int64_t)w->wall_sec,
        .if_match = text_of(in, h, "if-match"),
        .if_none_match = text_of(in, h, "if-none-match"),
        .if_modified_since = text_of(in, h, "if-modified-since"),
        .if_unmodified_since = text_of(in, h, "if-unmodified-since"),
        .range = text_of(in, h, "range"),
        .if_range = text_of(in, h, "if-range"),
    };

    if (h->method != HTTP_GET && h->method != HTTP_HEAD) {
        reply_error(w, i, 405, CAUSE_BAD_METHOD, "Allow: GET, HEAD\r\n");
        return;
    }
    files_open(w->folder_fds[r->target], rest, &q, &a);
    if (a.status == 301) {
        reply_moved(w, i, h, path);
        return;
    }
    if (a.status != 200 && a.status != 206 && a.status != 304) {
        char range[64] = "";
        if (a.status == 416) {
            snprintf(range, sizeof range, "Content-Range: bytes */%llu\r\n",
                     (unsigned long long)a.total);
        }
        reply_error(w, i, a.status, cause_of_file(a.status), range);
        return;
    }
    head_begin(w, c, &head, false);
    put_start(w, &head, a.status);
    put_file_fields(&head, &a);
    put_end(w, c, &head, a.status, (int64_t)a.length);
    r->fd = a.fd;
    r->fd_off = a.offset;
    launch(w, i, &head, a.status, NULL, a.length);
}

/* ---- sending ---- */

/* Head and a body in memory, in one write. */
static ssize_t
send_memory(struct worker *w, uint32_t i, const struct request *r)
{
    struct conn *c = &w->conns[i];
    const char *head = c->out_seg != ARENA_NONE
                           ? arena_at(&w->arena, c->out_seg)
                           : (char *)arena_at(&w->arena, c->seg) + REQUEST_ROOM;
    struct iovec iov[2] = {
        {(void *)(uintptr_t)(head + out_pos(r)), r->out_len - out_pos(r)},
        {(void *)(uintptr_t)(r->body + body_pos(r)),
         MIN_OF(r->body_len - body_pos(r), SEND_AT_ONCE)},
    };
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (c->family == 0) {
        bool has_body = r->fd < 0 && r->body_len > body_pos(r);
        return local_send(w, i, r->sent, iov, has_body ? 2 : 1);
    }
    if (r->fd < 0 && r->body_len > body_pos(r)) {
        return sendmsg((int)i, &msg, MSG_NOSIGNAL);
    }
    /* A file's bytes follow at once: one packet with the head. */
    int more = r->fd >= 0 && r->body_len > 0 ? MSG_MORE : 0;
    return send((int)i, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | more);
}

static ssize_t
send_some(struct worker *w, uint32_t i, struct request *r)
{
    if (r->sent < r->out_len || r->fd < 0) {
        return send_memory(w, i, r);
    }
    off_t off = (off_t)(r->fd_off + body_pos(r));
    size_t len = (size_t)MIN_OF(r->body_len - body_pos(r), SEND_AT_ONCE);
    ssize_t n = w->conns[i].family == 0
                    ? local_send_file(w, i, r->sent, r->fd, off, len)
                    : sendfile((int)i, r->fd, &off, len);
    if (n == 0) {
        errno = EIO; /* the file has become shorter: the promise is broken */
        return -1;
    }
    return n;
}

void
reply_send(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);

    while (r->sent < r->out_len + r->body_len) {
        c->flags |= CONN_SENDING;
        KEEP_ORDER(); /* intent, call, record */
        ssize_t n = send_some(w, i, r);
        KEEP_ORDER();
        r->sent += n > 0 ? (uint64_t)n : 0;
        KEEP_ORDER();
        if (c->family == 0) {
            local_end(w);
        }
        c->flags &= (uint8_t)~CONN_SENDING;
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return; /* an edge will tell; the timer watches */
        }
        if (n < 0) {
            if (errno == EIO && r->sent >= r->out_len && r->fd >= 0) {
                r->cause = CAUSE_FILE_CUT; /* not the client's doing */
            }
            c->flags |= CONN_GONE; /* whoever called us goes on and sees it */
            return;
        }
        if (r->sent < r->out_len + r->body_len) {
            worker_arm_rate(w, i, w->conf->body_timeout_ns, r->answered,
                            r->sent);
        }
    }
    conn_done(w, i);
}

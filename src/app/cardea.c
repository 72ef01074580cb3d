/* cardea.h: the program's side. A request lies in the worker's memory; its head
 * is copied once, when the handler first looks at it (a handler that does not
 * look pays nothing), the body is read where it is. The answer is written in
 * place into the reply memory: body from its start, fields behind it at the
 * end.
 */
#include "cardea.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/app.h"
#include "door.h"
#include "base/hex.h"
#include "door/copy_output.h"
#include "door/dial.h"
#include "door/native.h"
#include "door/sys.h"
#include "door/wire.h"

#define HEAD_MAX   (72u * 1024)
#define FIELDS_MAX (32u * 1024)
#define BODY_MAX   (16u << 20)

struct cardea_request {
    struct door_task *task;
    char *head; /* private copy of struct door_http and what follows */
    uint32_t total;
    _Alignas(8) char small[2048]; /* where HEAD lies if it fits */
    int status;
    bool has_type;
    bool by_fd;
    bool is_short; /* no memory for the head: no answer to it can be right */
    size_t body_len, body_room;
    char *fields; /* text of the reply's field lines */
    size_t fields_len, fields_size;
    char fields_small[512];
    char peer[INET6_ADDRSTRLEN + 1];
};

/* ---- the request ---- */

static const struct door_http no_head = {.method_name = {0, 0}};

/* The head's private copy; an empty one if what came cannot be a head. */
static const struct door_http *
head_of(const struct cardea_request *cr)
{
    struct cardea_request *r = (struct cardea_request *)(uintptr_t)cr;
    struct door_task *task = r->task;
    uint32_t total;

    if (r->head) {
        return (const struct door_http *)(const void *)r->head;
    }
    if (r->is_short || task->args_len < sizeof(struct door_http)) {
        return &no_head;
    }
    memcpy(&total, task->args + offsetof(struct door_http, total),
           sizeof total);
    if (total < sizeof(struct door_http) || total > task->args_len ||
        total > HEAD_MAX) {
        return &no_head;
    }
    char *to = total < sizeof r->small ? r->small : malloc(total + 1);
    if (!to) {
        r->is_short = true; /* for all of this request, not for a part of it */
        return &no_head;
    }
    memcpy(to, task->args, total);
    to[total] = 0;
    r->head = to;
    r->total = total;
    return (const struct door_http *)(const void *)to;
}

/* A string within the private copy; "" if it lies outside. */
static const char *
string_at(const struct cardea_request *r, struct door_span span)
{
    if (!r->head || span.off < sizeof(struct door_http) ||
        span.off > r->total || span.len > r->total - span.off) {
        return "";
    }
    r->head[span.off + span.len] = 0;
    return r->head + span.off;
}

const char *
cardea_method(const struct cardea_request *r)
{
    return string_at(r, head_of(r)->method_name);
}

const char *
cardea_target(const struct cardea_request *r)
{
    return string_at(r, head_of(r)->target);
}

const char *
cardea_path(const struct cardea_request *r)
{
    return string_at(r, head_of(r)->path);
}

const char *
cardea_query(const struct cardea_request *r)
{
    return string_at(r, head_of(r)->query);
}

const char *
cardea_host(const struct cardea_request *r)
{
    return string_at(r, head_of(r)->host);
}

const char *
cardea_id(const struct cardea_request *r)
{
    static _Thread_local char id[17];
    struct door_context context;

    if (r) {
        return string_at(r, head_of(r)->id);
    }
    id[0] = 0;
    if (door_context(&context) && context.request_id != 0) {
        *hex_put(id, context.request_id, 16) = 0;
    }
    return id;
}

/* Writes the N BYTES of an id at TO, behind a dash; to where the next may go.
 * NULL: they are all zero, and no id. */
static char *
put_id(char *to, const uint8_t *bytes, size_t n)
{
    uint8_t any = 0;

    *to++ = '-';
    for (size_t i = 0; i < n; i++) {
        any |= bytes[i];
        to = hex_put(to, bytes[i], 2);
    }
    return any != 0 ? to : NULL;
}

const char *
cardea_traceparent(const struct cardea_request *r)
{
    static _Thread_local char text[56];
    struct door_context context;
    const char *field;
    char *at;

    if (r) {
        field = cardea_header(r, "traceparent");
        return field ? field : "";
    }
    if (!door_context(&context)) {
        return "";
    }
    at = hex_put(text, 0, 2);
    at = put_id(at, context.trace_id, sizeof context.trace_id);
    at = at ? put_id(at, context.span_id, sizeof context.span_id) : NULL;
    if (!at) {
        return "";
    }
    *at++ = '-';
    *hex_put(at, context.trace_flags & 1, 2) = 0;
    return text;
}

const char *
cardea_route(const struct cardea_request *r)
{
    return string_at(r, head_of(r)->route);
}

const char *
cardea_rest(const struct cardea_request *r)
{
    const char *path = cardea_path(r), *route = cardea_route(r);
    size_t len = strlen(route);

    if (len == 1) {
        return path; /* "/" leaves the whole path */
    }
    return strncmp(path, route, len) == 0 ? path + len : "";
}

const char *
cardea_peer(const struct cardea_request *cr)
{
    struct cardea_request *r = (struct cardea_request *)(uintptr_t)cr;
    const struct door_http *h = head_of(r);

    if (h->family != 4 && h->family != 6) {
        return "unix";
    }
    if (!inet_ntop(h->family == 4 ? AF_INET : AF_INET6, h->peer, r->peer,
                   sizeof r->peer)) {
        /* not reached: four and sixteen bytes always have a text */
        return "";
    }
    return r->peer;
}

int
cardea_peer_port(const struct cardea_request *r)
{
    return head_of(r)->peer_port;
}

/* The I-th field's spans; false: there is none. */
static bool
field_at(const struct cardea_request *r, size_t i,
         struct door_http_field *field)
{
    const struct door_http *h = head_of(r);

    if (!r->head || i >= h->n_fields || h->fields_off > r->total ||
        (r->total - h->fields_off) / sizeof *field <= i) {
        return false;
    }
    memcpy(field, r->head + h->fields_off + i * sizeof *field, sizeof *field);
    return true;
}

int
cardea_header_at(const struct cardea_request *r, size_t i, const char **p_name,
                 const char **p_value)
{
    struct door_http_field field;

    if (!field_at(r, i, &field)) {
        return -1;
    }
    *p_name = string_at(r, field.name);
    *p_value = string_at(r, field.value);
    return 0;
}

const char *
cardea_header(const struct cardea_request *r, const char *name)
{
    struct door_http_field field;
    size_t len = strlen(name);

    for (size_t i = 0; field_at(r, i, &field); i++) {
        if (field.name.len == len &&
            strcasecmp(string_at(r, field.name), name) == 0) {
            return string_at(r, field.value);
        }
    }
    return NULL;
}

static int
hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes one value up to '&' or the end. Its length, or -1. */
static ssize_t
decode_value(const char *p, char *out, size_t size)
{
    size_t n = 0;

    while (*p != 0 && *p != '&') {
        char c = *p++;
        if (c == '+') {
            c = ' ';
        } else if (c == '%' && hex(p[0]) >= 0 && hex(p[1]) >= 0) {
            c = (char)(hex(p[0]) * 16 + hex(p[1]));
            p += 2;
        }
        if (n + 1 >= size) {
            return -1;
        }
        out[n++] = c;
    }
    if (n + 1 > size) {
        return -1;
    }
    out[n] = 0;
    return (ssize_t)n;
}

ssize_t
cardea_param(const struct cardea_request *r, const char *name, char *out,
             size_t size)
{
    const char *p = cardea_query(r);
    size_t len = strlen(name);

    while (*p != 0) {
        if (strncmp(p, name, len) == 0 && p[len] == '=') {
            return decode_value(p + len + 1, out, size);
        }
        p = strchr(p, '&');
        if (!p) {
            break;
        }
        p++;
    }
    return -1;
}

const void *
cardea_body(const struct cardea_request *r, size_t *p_len)
{
    *p_len = (size_t)r->task->body_len;
    return r->task->body_len > 0 ? (const void *)r->task->body : "";
}

int64_t
cardea_time_left(const struct cardea_request *r)
{
    struct door_context context;
    uint64_t now = door_now(), until;

    if (r) {
        until = r->task->deadline;
    } else {
        door_context(&context);
        until = context.deadline != 0 ? context.deadline : UINT64_MAX;
    }
    if (until <= now) {
        return 0;
    }
    /* The caller's word: it may be past what the result can hold. */
    return until - now > INT64_MAX ? INT64_MAX : (int64_t)(until - now);
}

int
cardea_gone(const struct cardea_request *r)
{
    return (r ? door_task_withdrawn(r->task) : door_context_gone()) ||
           cardea_time_left(r) == 0;
}

/* ---- the answer ---- */

static int
fail(int e)
{
    errno = e;
    return -1;
}

int
cardea_status(struct cardea_request *r, int status)
{
    if (status < 200 || status > 599) {
        return fail(EINVAL);
    }
    r->status = status;
    return 0;
}

static bool
is_token(const char *s)
{
    static const char more[] = "!#$%&'*+-.^_`|~";

    if (*s == 0) {
        return false;
    }
    for (; *s; s++) {
        bool alnum = (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') ||
                     (*s >= 'A' && *s <= 'Z');
        if (!alnum && !strchr(more, *s)) {
            return false;
        }
    }
    return true;
}

/* Fields that frame the message or belong to the connection: Cardea's own. */
static bool
is_ours(const char *name)
{
    static const char *const own[] = {
        "connection",       "keep-alive", "transfer-encoding",
        "content-length",   "upgrade",    "te",
        "proxy-connection", "trailer",    "date"};

    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (strcasecmp(name, own[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool
is_value(const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static int
reserve_fields(struct cardea_request *r, size_t more)
{
    size_t need = r->fields_len + more, size = r->fields_size;

    if (need > FIELDS_MAX) {
        return fail(ENOBUFS);
    }
    if (need <= size) {
        return 0;
    }
    while (size < need) {
        size *= 2;
    }
    char *larger = malloc(size);
    if (!larger) {
        return fail(ENOBUFS);
    }
    memcpy(larger, r->fields, r->fields_len);
    if (r->fields != r->fields_small) {
        free(r->fields);
    }
    r->fields = larger;
    r->fields_size = size;
    return 0;
}

int
cardea_set(struct cardea_request *r, const char *name, const char *value)
{
    size_t n = strlen(name), v = strlen(value);

    if (!is_token(name) || !is_value(value) || is_ours(name)) {
        return fail(EINVAL);
    }
    if (reserve_fields(r, n + v + 5) < 0) {
        return -1;
    }
    char *to = r->fields + r->fields_len;
    memcpy(to, name, n);
    memcpy(to + n, ": ", 2);
    memcpy(to + n + 2, value, v);
    memcpy(to + n + 2 + v, "\r\n", 2);
    r->fields_len += n + v + 4;
    if (strcasecmp(name, "content-type") == 0) {
        r->has_type = true;
    }
    return 0;
}

int
cardea_type(struct cardea_request *r, const char *type)
{
    return cardea_set(r, "Content-Type", type);
}

void *
cardea_room(struct cardea_request *r, size_t len)
{
    size_t need = r->body_len + len;

    if (r->by_fd || len > BODY_MAX || need > BODY_MAX ||
        door_task_grow(r->task, r->body_len, need) != 0) {
        errno = ENOBUFS;
        return NULL;
    }
    r->body_room = len;
    return r->task->room + r->body_len;
}

int
cardea_commit(struct cardea_request *r, size_t len)
{
    if (len > r->body_room) {
        return fail(EINVAL);
    }
    r->body_len += len;
    r->body_room = 0;
    return 0;
}

int
cardea_write(struct cardea_request *r, const void *bytes, size_t len)
{
    if (r->by_fd) {
        return fail(EALREADY);
    }
    void *to = cardea_room(r, len);
    if (!to) {
        return -1;
    }
    memcpy(to, bytes, len);
    return cardea_commit(r, len);
}

int
cardea_puts(struct cardea_request *r, const char *text)
{
    return cardea_write(r, text, strlen(text));
}

int
cardea_vprintf(struct cardea_request *r, const char *format, va_list args)
{
    char small[512];
    va_list again;

    va_copy(again, args);
    int n = vsnprintf(small, sizeof small, format, args);
    int e = n < 0 ? fail(EINVAL) : 0;
    if (e == 0 && (size_t)n < sizeof small) {
        e = cardea_write(r, small, (size_t)n);
    } else if (e == 0) {
        errno = EALREADY;
        char *to = r->by_fd ? NULL : cardea_room(r, (size_t)n + 1);
        e = to ? 0 : -1;
        if (to) {
            vsnprintf(to, (size_t)n + 1, format, again);
            e = cardea_commit(r, (size_t)n);
        }
    }
    va_end(again);
    return e;
}

int
cardea_printf(struct cardea_request *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int e = cardea_vprintf(r, format, args);
    va_end(args);
    return e;
}

int
cardea_send_file(struct cardea_request *r, int fd, off_t offset, size_t length)
{
    struct stat st;

    if (r->by_fd) {
        return fail(EALREADY);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || offset < 0 ||
        offset > st.st_size || length > (uint64_t)(st.st_size - offset)) {
        return fail(EBADF);
    }
    int e = door_task_send_fd(r->task, fd, (uint64_t)offset, length);
    if (e != 0) {
        return fail(ENOBUFS);
    }
    r->by_fd = true;
    r->body_len = 0;
    return 0;
}

/* ---- one call ---- */

static const char default_type[] =
    "Content-Type: text/plain; charset=utf-8\r\n";

void
app_procedure(void *cookie, struct door_task *task)
{
    struct cardea_request r;
    cardea_handler *handler = *(cardea_handler **)cookie;

    /* Not all of it: the buffers need no zeroes. */
    r.task = task;
    r.head = NULL;
    r.total = 0;
    r.status = 200;
    r.has_type = r.by_fd = r.is_short = false;
    r.body_len = r.body_room = 0;
    r.fields = r.fields_small;
    r.fields_len = 0;
    r.fields_size = sizeof r.fields_small;
    handler(&r);
    if (!r.has_type && (r.body_len > 0 || r.by_fd)) {
        /* The usual case, without the checks that ours need not pass. */
        if (reserve_fields(&r, sizeof default_type - 1) == 0) {
            memcpy(r.fields + r.fields_len, default_type,
                   sizeof default_type - 1);
            r.fields_len += sizeof default_type - 1;
        }
    }
    task->status = (uint32_t)r.status;
    task->body_at = 0;
    task->body_size = r.body_len;
    task->head_off = r.body_len;
    task->head_len = r.fields_len;
    task->error = door_task_grow(task, r.body_len, r.body_len + r.fields_len);
    if (r.is_short) {
        task->error = ENOMEM;
    }
    if (task->error == 0) {
        memcpy(task->room + r.body_len, r.fields, r.fields_len);
    }
    if (r.head != r.small) {
        free(r.head);
    }
    if (r.fields != r.fields_small) {
        free(r.fields);
    }
}

/* ---- serving ---- */

/* Attaches D at PATH; a dead door found there is replaced. */
static int
attach(int d, const char *path, mode_t mode)
{
    if (door_attach(d, path, mode) == 0) {
        /* not reached: who attaches serves until it is killed */
        return 0;
    }
    if (errno != EEXIST) {
        return -1;
    }
    int there = door_dial(path);
    if (there >= 0) {
        close(there);
        return fail(EEXIST);
    }
    /* A plain file is refused too, and is no dead door: it stays. */
    struct stat st;
    if (errno != ECONNREFUSED || lstat(path, &st) < 0 ||
        !S_ISSOCK(st.st_mode) || unlink(path) < 0) {
        return fail(EEXIST);
    }
    return door_attach(d, path, mode);
}

/* How HANDLER's calls are served; the rest of serve() is the same. */
struct way {
    bool by_copies;
    const struct cardea_hooks *hooks;
};

/* The number in the environment's NAME, times UNIT; 0: none that can be. */
static uint64_t
number_of(const char *name, uint64_t unit)
{
    const char *text = getenv(name);
    char *end;
    double n;

    if (!text || *text < '0' || *text > '9') {
        return 0;
    }
    /* not reached: served until it is killed: scenarios */
    n = strtod(text, &end);
    return *end == 0 && n < 1e15 / (double)unit ? (uint64_t)(n * (double)unit)
                                                : 0;
}

/* At most so many calls at once, as the environment says; 0: no bound. */
static uint32_t
ceiling_of(const char *other)
{
    uint64_t a = number_of("CARDEA_CEILING", 1), b = number_of(other, 1);

    return (uint32_t)(a == 0 || (b > 0 && b < a) ? b : a);
}

/* not reached: only for copies, whose parent serves until it is killed */
static bool
floor_is_none(void)
{
    const char *text = getenv("CARDEA_FLOOR");

    return text && strcmp(text, "0") == 0;
}

/* Before the door is made. 0, or 1 after a line said why not. */
static int
prepare_copies(struct way *way)
{
    static const struct cardea_hooks none = {0};
    const struct cardea_hooks *h = way->hooks ? way->hooks : &none;
    struct door_copy_hooks hooks = {h->before_fork, h->after_fork, h->start,
                                    h->end, h->arg};
    struct door_copy_limits limits = {
        .most = ceiling_of("CARDEA_COPIES"),
        .floor = (uint32_t)number_of("CARDEA_FLOOR", 1),
        .to_none = floor_is_none(),
        .start_ns = number_of("CARDEA_START_TIMEOUT", 1000000000),
        .calls = number_of("CARDEA_RECYCLE_CALLS", 1),
        .age_ns = number_of("CARDEA_RECYCLE_AGE", 1000000000),
        .memory = number_of("CARDEA_RECYCLE_MEMORY", 1),
        .output = getenv(COPY_OUTPUT_VARIABLE),
    };
    int e = door_copies_prepare(&hooks, &limits);

    if (e == EBUSY) {
        fprintf(stderr, "cardea: this program has several threads, or a door "
                        "already, and cannot be copied: it answers one request "
                        "at a time; start threads in the hook `start`\n");
        way->by_copies = false;
        door_native_single();
        return h->start && h->start(h->arg) != 0 ? 1 : 0;
    }
    if (e != 0) {
        fprintf(stderr, "cardea: out of memory\n");
    }
    return e != 0;
}

/* not reached: serves until it is killed: scenarios */
static void
serve_calls(const struct way *way)
{
    if (way->by_copies) {
        int e = door_copies_serve();
        fprintf(stderr, "cardea: cannot serve: %s\n", strerror(e));
        return;
    }
    /* not reached: serves until it is killed: scenarios */
    door_native_serve();
}

static int
serve(cardea_handler *handler, const char *path, mode_t mode, struct way way)
{
    cardea_handler **cookie = malloc(sizeof(cardea_handler *));

    if (!cookie) {
        fprintf(stderr, "cardea: out of memory\n");
        return 1;
    }
    *cookie = handler;
    signal(SIGPIPE, SIG_IGN);
    if (way.by_copies && prepare_copies(&way) != 0) {
        /* not reached: scenarios */
        free((void *)cookie);
        return 1;
    }
    door_native_threads((uint32_t)number_of("CARDEA_FLOOR", 1),
                        ceiling_of("CARDEA_CALLS"));
    int d =
        door_create_native(app_procedure, (void *)cookie, 0, DOOR_FEATURE_HTTP);
    if (d < 0) {
        fprintf(stderr, "cardea: cannot make a door: %s\n", strerror(errno));
        free((void *)cookie);
        return 1;
    }
    if (attach(d, path, mode) < 0) {
        fprintf(stderr, "cardea: cannot put a door at %s: %s%s\n", path,
                strerror(errno),
                errno == EEXIST ? " (a living program serves it, or it is no "
                                  "door)"
                                : "");
        close(d);
        free((void *)cookie);
        return 1;
    }
    /* not reached: serves until it is killed: scenarios */
    serve_calls(&way);
    return 1;
}

int
cardea_serve_threads_at(cardea_handler *handler, const char *path)
{
    mode_t mask = umask(022);

    umask(mask);
    return serve(handler, path, 0666 & ~mask, (struct way){0});
}

static int
serve_named(cardea_handler *handler, struct way way)
{
    const char *path = getenv("CARDEA_DOOR");
    mode_t mask = umask(022);

    umask(mask);
    if (!path || *path == 0) {
        fprintf(stderr,
                "cardea: this program answers requests behind a door. Name it "
                "in cardea.conf:\n    module NAME { run \"PROGRAM\" }\nand "
                "start `cardea run`; or set CARDEA_DOOR to a path for its "
                "door.\n");
        return 1;
    }
    /* A keeper dials for its workers and is root or our own user: nobody else
     * needs the door, and could fill our descriptors by it. */
    /* not reached: serves until it is killed: scenarios */
    return serve(handler, path, getenv("CARDEA_MODULE") ? 0600 : 0666 & ~mask,
                 way);
}

int
cardea_serve_threads(cardea_handler *handler)
{
    return serve_named(handler, (struct way){0});
}

/* not reached: serves until it is killed: scenarios */
int
cardea_serve(cardea_handler *handler, const struct cardea_hooks *hooks)
{
    return serve_named(handler, (struct way){true, hooks});
}

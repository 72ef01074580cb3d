/* The verb call. A door that takes requests (cardea.h) is served by rings only,
 * so it is called as the worker calls it; any other as every program calls a
 * door. Which it is, the door says itself when a ring is opened. */
#include "ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/plain.h"
#include "base/util.h"
#include "base/world.h"
#include "ctl/call-descs.h"
#include "ctl/server.h"
#include "door.h"
#include "door/dial.h"
#include "door/ring.h"
#include "door/sys.h"
#include "http/http.h"

#define GREET_LIMIT (5 * NS_PER_SEC)
#define CALL_LIMIT  (24 * 3600 * NS_PER_SEC) /* CTRL-C ends it before */
#define INPUT_MAX   (64u << 20)

struct ask {
    struct ctl *ctl;
    struct server server;        /* of a module */
    const char *name;            /* as the user calls the door */
    char path[PATH_MAX + 64];    /* where it is */
    const char *method, *target; /* NULL: bytes alone were given */
    char *bytes;                 /* owned */
    size_t size;
    char head[HTTP_MAX_HEAD]; /* the request in text */
    size_t head_len;
};

static int
complain(const struct ask *ask, const char *what, int error)
{
    fprintf(ask->ctl->errors, "cardea call: %s: %s: %s (%s)\n", ask->name, what,
            strerrordesc_np(error), strerrorname_np(error));
    return CTL_FAILED;
}

/* --- What is asked ------------------------------------------------------ */

/* Says, for a module whose door does not answer, how it stands with it; it was
 * asked for meanwhile. false: there is nothing to say. */
static bool
explain_state(struct ask *ask)
{
    uint64_t deadline = world_real()->now(NULL) + GREET_LIMIT;
    size_t len = strlen(ask->name);
    bool is_said = false;
    char line[256];

    if (ask->server.folder[0] == '\0' || !server_again(&ask->server) ||
        server_ask(ask->ctl, "call", &ask->server, "modules") != CTL_OK) {
        return false;
    }
    while (!is_said &&
           server_line(&ask->server, line, sizeof(line), deadline) > 0) {
        if (strncmp(line, ask->name, len) == 0 && line[len] == ' ') {
            line[len + 1 + strcspn(line + len + 1, " ")] = '\0';
            fprintf(ask->ctl->errors,
                    "cardea call: %s: its door is not open; the module's state "
                    "is \"",
                    ask->name);
            plain_put(ask->ctl->errors, line + len + 1);
            fputs("\" (cardea status tells more)\n", ask->ctl->errors);
            is_said = true;
        }
    }
    return is_said;
}

/* A module's folder is there from its first start, its door later. */
static int
find_module(struct ask *ask)
{
    struct server *server = &ask->server;

    if (server->is_foreign) {
        fprintf(ask->ctl->errors,
                "cardea call: the server (pid %d) belongs to user %u; call its "
                "doors as that user\n",
                (int)server->pid, (unsigned)server->uid);
        return CTL_FAILED;
    }
    snprintf(ask->path, sizeof(ask->path), "%s/%s", server->folder, ask->name);
    if (access(ask->path, F_OK) < 0) {
        fprintf(ask->ctl->errors,
                "cardea call: the server has no module %s; cardea status "
                "lists them; a door's path has a '/'\n",
                ask->name);
        return CTL_FAILED;
    }
    strncat(ask->path, "/door", sizeof(ask->path) - strlen(ask->path) - 1);
    return CTL_OK;
}

static int
find_door(struct ask *ask)
{
    int status;

    ask->server.fd = -1;
    if (strchr(ask->name, '/') != NULL) {
        snprintf(ask->path, sizeof(ask->path), "%s", ask->name);
        return CTL_OK;
    }
    status = server_find(ask->ctl, "call", false, &ask->server);
    server_close(&ask->server); /* it waits for nobody */
    return status == CTL_OK ? find_module(ask) : status;
}

static int
read_all(struct ask *ask, int fd)
{
    size_t room = 0;

    for (;;) {
        ssize_t n;

        if (ask->size == room) {
            char *larger;

            room = room == 0 ? 65536 : room * 2;
            larger = realloc(ask->bytes, room);
            if (larger == NULL) {
                return ENOMEM;
            }
            ask->bytes = larger;
        }
        n = read(fd, ask->bytes + ask->size, room - ask->size);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        if (n == 0) {
            return 0;
        }
        ask->size += n > 0 ? (size_t)n : 0;
        if (ask->size > INPUT_MAX) {
            return EFBIG;
        }
    }
}

/* The one word WORD behind the door is no file: half of a request, perhaps. */
static int
explain_words(struct ask *ask, const char *word)
{
    bool is_path = word[0] == '/';
    bool is_method = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(word);

    if (!is_path && !is_method) {
        return complain(ask, word, ENOENT);
    }
    fprintf(ask->ctl->errors,
            "cardea call: %s: there is no file %s; a request is METHOD PATH: "
            "cardea call %s %s %s\n",
            ask->name, word, ask->name, is_path ? "GET" : word,
            is_path ? word : "/");
    return CTL_USAGE;
}

static int
read_input(struct ask *ask, const char *file)
{
    CLEAN_FD int fd = -1;
    int error;

    if (file == NULL && isatty(STDIN_FILENO)) {
        return CTL_OK;
    }
    if (file == NULL || strcmp(file, "-") == 0) {
        error = read_all(ask, STDIN_FILENO);
        error = file == NULL && error == EBADF ? 0 : error;
    } else {
        fd = open(file, O_RDONLY | O_CLOEXEC);
        error = fd < 0 ? errno : read_all(ask, fd);
    }
    if (error == ENOENT && file != NULL && ask->method == NULL) {
        return explain_words(ask, file);
    }
    return error == 0
               ? CTL_OK
               : complain(ask, file != NULL ? file : "standard input", error);
}

/* METHOD PATH (or what they are without words) as a request in text, judged as
 * the front judges one. */
static int
make_request(struct ask *ask, struct http_request *h)
{
    const char *method = ask->method != NULL ? ask->method
                         : ask->size > 0     ? "POST"
                                             : "GET";
    const char *target = ask->target != NULL ? ask->target : "/";
    uint32_t scan = 0;
    int n = snprintf(ask->head, sizeof(ask->head),
                     "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, target);

    if (n > 0 && (size_t)n < sizeof(ask->head) && ask->size > 0) {
        n += snprintf(ask->head + n, sizeof(ask->head) - (size_t)n,
                      "Content-Length: %zu\r\n", ask->size);
    }
    if (n > 0 && (size_t)n < sizeof(ask->head)) {
        n += snprintf(ask->head + n, sizeof(ask->head) - (size_t)n, "\r\n");
    }
    if (n < 0 || (size_t)n >= sizeof(ask->head) ||
        http_request_parse(ask->head, (size_t)n, &scan, h) != HTTP_OK ||
        h->path.len == 0 || ask->head[h->path.off] != '/') {
        fprintf(ask->ctl->errors,
                "cardea call: '%s %s' is no request; like GET /path?a=1\n",
                method, target);
        return CTL_USAGE;
    }
    ask->head_len = (size_t)n;
    return CTL_OK;
}

/* --- A door of cardea.h, by ring ----------------------------------------- */

struct put {
    char *base;
    uint32_t at;
};

static struct door_span
put_string(struct put *p, const void *bytes, size_t len)
{
    struct door_span span = {p->at, (uint32_t)len};

    memcpy(p->base + p->at, bytes, len);
    p->base[p->at + len] = '\0';
    p->at += (uint32_t)len + 1;
    return span;
}

static uint32_t
put_request(struct ask *ask, const struct http_request *h, const char *path,
            size_t path_len, char *at)
{
    uint32_t fields = h->n_fields * (uint32_t)sizeof(struct door_http_field);
    struct put p = {at, (uint32_t)sizeof(struct door_http) + fields};
    struct door_http *d = (void *)at;
    struct door_http_field *to = (void *)(at + sizeof(*d));
    uint32_t head = put_string(&p, ask->head, ask->head_len).off;

    memset(d, 0, sizeof(*d));
    d->size = sizeof(*d);
    d->method = h->method;
    d->minor = 1;
    d->method_name =
        (struct door_span){head + h->method_name.off, h->method_name.len};
    d->target = (struct door_span){head + h->target.off, h->target.len};
    d->host = (struct door_span){head + h->host.off, h->host.len};
    d->path = put_string(&p, path, path_len);
    d->query = put_string(&p, ask->head + h->query.off, h->query.len);
    d->route = put_string(&p, "/", 1);
    d->id = put_string(&p, "0000000000000000", 16);
    d->n_fields = h->n_fields;
    d->fields_off = sizeof(*d);
    for (uint32_t i = 0; i < h->n_fields; i++) {
        to[i].name = (struct door_span){head + h->fields[i].name.off,
                                        h->fields[i].name.len};
        to[i].value = (struct door_span){head + h->fields[i].value.off,
                                         h->fields[i].value.len};
    }
    d->total = p.at;
    return p.at;
}

/* The body that came as a descriptor, of at most LEN bytes. 0 or an errno. */
static int
copy_file(FILE *out, int fd, uint64_t from, uint64_t len)
{
    char bytes[65536];

    while (len > 0) {
        ssize_t n = pread(fd, bytes, MIN_OF(len, sizeof(bytes)), (off_t)from);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? EIO : errno;
        }
        fwrite(bytes, 1, (size_t)n, out);
        from += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int
print_result(struct ask *ask, struct ring_result *result)
{
    FILE *out = ask->ctl->out;
    int status = (int)MIN_OF(result->status, 999u);
    int error = 0;

    if (result->error != 0) {
        return complain(ask, "it gave no answer", result->error);
    }
    if (ask->ctl->with_head) {
        fprintf(out, "HTTP/1.1 %d %s\r\n", status, http_reason(status));
        fwrite(result->head, 1, result->head_len, out);
        fputs("\r\n", out);
    }
    if (result->fd >= 0) {
        /* It is closed with the ring, whose slot still has it. */
        error = copy_file(out, result->fd, result->fd_offset, result->data_len);
    } else {
        fwrite(result->data, 1, result->data_len, out);
    }
    if (error != 0) {
        return complain(ask, "its file", error);
    }
    if (status >= 400) {
        fprintf(ask->ctl->errors, "cardea call: %s answered %d %s\n", ask->name,
                status, http_reason(status));
        return CTL_FAILED;
    }
    return CTL_OK;
}

struct answer {
    bool there;
    uint32_t slot;
};

static void
answered(void *arg, struct ring *r, uint32_t owner, uint32_t slot)
{
    *(struct answer *)arg = (struct answer){true, slot};
}

/* Waits for the answer of the one call in flight. 0 or an errno. */
static int
wait_answer(struct ring *r, struct answer *answer)
{
    for (;;) {
        uint64_t now = world_real()->now(NULL);

        ring_poll(r, answered, answer);
        if (answer->there) {
            return 0;
        }
        if (door_hung_up(r->conn)) {
            return EINTR; /* it died in the call */
        }
        ring_nudge(r, now, NS_PER_MS);
        ring_sleep(r);
        if (!ring_has_answer(r)) {
            door_wait_readable(r->conn, 20 * NS_PER_MS);
        }
        ring_wake(r);
        ring_woken(r);
    }
}

static int
call_ring(struct ask *ask, struct ring *r)
{
    struct http_request h;
    struct answer answer = {0};
    struct ring_result result;
    CLEAN_FREE char *path = malloc(HTTP_MAX_HEAD + 1);
    int status = make_request(ask, &h);
    int path_len = -1;
    uint64_t room, off;
    int slot, error;
    struct ring_entry *e;

    if (status != CTL_OK || path == NULL) {
        return status != CTL_OK ? status : complain(ask, "the path", ENOMEM);
    }
    path_len = http_path_decode(ask->head + h.path.off, h.path.len, path);
    if (path_len < 0) {
        fprintf(ask->ctl->errors, "cardea call: '%s' is no path\n",
                ask->target);
        return CTL_USAGE;
    }
    room = ROUND_UP(sizeof(struct door_http) + 4096 + 2 * ask->head_len +
                        (size_t)path_len,
                    16);
    slot = ring_slot_take(r, 0);
    off = ring_area_take(r, room + ask->size);
    if (slot < 0 || off == 0) {
        return complain(ask, "the bytes", ENOMEM);
    }
    e = ring_entry(r, (uint32_t)slot);
    e->kind = RING_KIND_HTTP;
    e->deadline = world_real()->now(NULL) + CALL_LIMIT;
    e->args_off = off;
    e->args_len = put_request(ask, &h, path, (size_t)path_len, ring_at(r, off));
    e->body_off = ask->size > 0 ? off + room : 0;
    e->body_len = ask->size;
    if (ask->size > 0) {
        memcpy(ring_at(r, off + room), ask->bytes, ask->size);
    }
    ring_slot_area(r, (uint32_t)slot, off, room + ask->size);
    ring_publish(r, (uint32_t)slot);
    ring_flush(r);
    error = wait_answer(r, &answer);
    if (error == 0) {
        error = ring_result(r, answer.slot, &result);
    }
    return error != 0 ? complain(ask, "the call", error)
                      : print_result(ask, &result);
}

/* --- Any other door ------------------------------------------------------- */

static int
call_plain(struct ask *ask)
{
    CLEAN_FD int fd = door_open(ask->path);
    struct http_request h;
    door_arg_t arg = {.data_ptr = ask->bytes, .data_size = ask->size};
    CLEAN_FREE char *both = NULL;
    door_desc_t descs[CTL_FDS_MAX];
    int status;

    if (fd < 0) {
        return complain(ask, "cannot open it", errno);
    }
    if (ask->method != NULL) {
        status = make_request(ask, &h);
        both = status == CTL_OK ? malloc(ask->head_len + ask->size) : NULL;
        if (both == NULL) {
            return status != CTL_OK ? status
                                    : complain(ask, "the bytes", ENOMEM);
        }
        memcpy(both, ask->head, ask->head_len);
        if (ask->size > 0) {
            memcpy(both + ask->head_len, ask->bytes, ask->size);
        }
        arg.data_ptr = both;
        arg.data_size = ask->head_len + ask->size;
    }
    status = call_descs_open(ask->ctl, descs);
    if (status != CTL_OK) {
        return status;
    }
    arg.desc_ptr = descs;
    arg.desc_num = (unsigned)ask->ctl->n_fds;
    if (door_call(fd, &arg) < 0) {
        return complain(ask, "the call", errno);
    }
    if (arg.data_size > 0) {
        fwrite(arg.data_ptr, 1, arg.data_size, ask->ctl->out);
    }
    call_descs_show(ask->ctl, ask->name, arg.desc_ptr, arg.desc_num);
    if (arg.rbuf != NULL) {
        munmap(arg.rbuf, arg.rsize);
    }
    return CTL_OK;
}

/* --- Either ----------------------------------------------------------------
 */

static int
greet(struct ring *r)
{
    int error;

    do {
        if (door_wait_readable(r->conn, GREET_LIMIT) != 0) {
            return ETIMEDOUT;
        }
        error = ring_greeted(r);
    } while (error == EAGAIN);
    return error;
}

static int
call_door(struct ask *ask)
{
    struct ring_tables *tables = calloc(1, sizeof(*tables));
    struct ring *r = calloc(1, sizeof(*r));
    int fd = r != NULL && tables != NULL ? door_dial(ask->path) : -1;
    int status, error;

    if (fd < 0) {
        error = errno; /* of either */
        free(tables);
        free(r);
        if ((error == ENOENT || error == ECONNREFUSED) && explain_state(ask)) {
            return CTL_FAILED;
        }
        return complain(ask, "cannot reach it", error);
    }
    ring_init(r, tables);
    error = ring_open(r, fd, -1, NULL);
    if (error == 0) {
        error = greet(r);
    }
    if (error != 0) {
        status = complain(ask, "no door answers there", error);
    } else if ((r->features & DOOR_FEATURE_HTTP) && ask->ctl->n_fds > 0) {
        fprintf(ask->ctl->errors,
                "cardea call: %s takes requests, and no descriptors (--fd)\n",
                ask->name);
        status = CTL_FAILED;
    } else if (r->features & DOOR_FEATURE_HTTP) {
        status = call_ring(ask, r);
    } else {
        status = call_plain(ask);
    }
    ring_close(r);
    free(tables);
    free(r);
    return status;
}

int
ctl_call(struct ctl *ctl)
{
    struct ask *ask = calloc(1, sizeof(*ask));
    const char *file = NULL;
    int status;

    if (ask == NULL) {
        fprintf(ctl->errors, "cardea call: %s: no memory to ask it\n",
                ctl->words[0]);
        return CTL_FAILED;
    }
    ask->ctl = ctl;
    ask->name = ctl->words[0];
    if (ctl->n_words >= 3) {
        ask->method = ctl->words[1];
        ask->target = ctl->words[2];
    }
    if (ctl->n_words % 2 == 0) {
        file = ctl->words[ctl->n_words - 1];
    }
    status = find_door(ask);
    if (status == CTL_OK) {
        status = read_input(ask, file);
    }
    if (status == CTL_OK) {
        status = call_door(ask);
    }
    server_close(&ask->server);
    free(ask->bytes);
    free(ask);
    return status;
}

/* From a parsed head to a call in a door's ring. The head is written once, as a
 * fixed structure with offsets (a cardea.h door) or as HTTP/1.1 bytes (a plain
 * door), into the ring's memory; the body is received right behind it. */
#include "front/worker_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/probe.h"
#include "base/util.h"
#include "conf/route.h"
#include "http/http.h"

#define SIZED_START   16384u /* of a body whose room grows */
#define CHUNKED_START (3 * READ_MAX_CHUNKED)
#define ID_LEN        16u
#define TRACEPARENT   "traceparent"
#define TRACE_ROOM    (sizeof TRACEPARENT + HTTP_TRACE_LEN + 1)

struct target_path {
    const char *path; /* decoded, ends with NUL only in DECODED */
    size_t len;
    char decoded[HTTP_MAX_LINE + 1];
};

/* ---- the call's memory ---- */

void
call_release(struct worker *w, struct conn *c)
{
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];
    uint64_t off = area_off(r), len = area_len(r);
    bool had_slot = r->has_slot;

    /* First nobody names it: an heir then frees what was not given back. */
    r->has_slot = false;
    r->area = 0;
    KEEP_ORDER();
    waiting_remove(w, (uint32_t)(c - w->conns));
    if (g->state == RING_CLOSED || g->state == RING_DEAD) {
        /* It goes with the ring. */
    } else if (had_slot && ring_is_in_flight(g, c->slot)) {
        /* The slot and its memory stay the call's until it is answered. */
        ring_slot_disown(g, c->slot);
        ring_withdraw(g, c->slot);
    } else if (had_slot) {
        ring_slot_give(g, c->slot);
    } else if (off != 0) {
        ring_area_give(g, off, len);
    }
    c->slot = RING_NO_OWNER;
}

void
call_note_claim(struct worker *w, const struct conn *c)
{
    struct request *r = request_of(w, c);

    if (r->started == 0 && r->called != 0 &&
        ring_was_claimed(&w->rings[c->ring], r->number)) {
        r->started = r->called;
        r->taker = ring_taker(&w->rings[c->ring], c->slot, r->called);
    }
}

void
call_overdue(struct worker *w, const struct conn *c)
{
    const struct request *r = request_of(w, c);
    const struct ring *g = &w->rings[c->ring];

    call_note_claim(w, c);
    if (!ring_was_claimed(g, r->number) && ring_claims(g) == r->claims) {
        struct worker_message m = {.kind = WORKER_STALLED, .target = r->target};
        control_say(w, &m);
    }
}

/* The last eighth of the memory is for small requests: uploads must not shut a
 * door. */
static bool
has_reserve(const struct ring *g, uint64_t size)
{
    return size <= 65536u ||
           g->segments_used + size / RING_SEGMENT < RING_SEGMENTS / 8 * 7;
}

int
call_grow_body(struct worker *w, struct conn *c, uint64_t want)
{
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];
    uint64_t before = r->body_at, size = area_len(r);

    if (before + want <= size) {
        return 0;
    }
    while (size < before + want) {
        size *= 2;
    }
    if (!r->chunked) {
        size = MIN_OF(size, ROUND_UP(before + r->body_want, RING_SEGMENT));
    }
    uint64_t off = has_reserve(g, size) ? ring_area_take(g, size) : 0;
    if (off == 0) {
        return 503;
    }
    uint64_t old = area_off(r), old_len = area_len(r);
    memcpy(ring_at(g, off), ring_at(g, old), before + r->body_have);
    KEEP_ORDER();
    r->area = area_of(off, size);
    KEEP_ORDER();
    ring_area_give(g, old, old_len);
    return 0;
}

/* Room for ARGS bytes and the body behind them. 0 or a status. */
static int
take_area(struct worker *w, struct conn *c, uint64_t args)
{
    struct request *r = request_of(w, c);
    /* A body's whole room at once while there is plenty, so that it is never
     * moved; else only as it comes. */
    bool plenty = w->rings[c->ring].segments_used < RING_SEGMENTS / 2;
    uint64_t body = r->chunked ? CHUNKED_START
                    : plenty   ? r->body_want
                               : MIN_OF(r->body_want, (uint64_t)SIZED_START);
    uint64_t off = ring_area_take(&w->rings[c->ring], args + body);

    if (off == 0) {
        return 503;
    }
    r->area = area_of(off, ROUND_UP(args + body, RING_SEGMENT));
    r->body_at = args;
    return 0;
}

/* ---- the fixed structure ---- */

struct put {
    char *base; /* of the structure */
    uint32_t at;
};

static struct door_span
put_string(struct put *p, const void *bytes, size_t len)
{
    struct door_span span = {p->at, (uint32_t)len};

    memcpy(p->base + p->at, bytes, len);
    p->base[p->at + len] = 0;
    p->at += (uint32_t)len + 1;
    return span;
}

static struct door_span
shifted(uint32_t base, struct http_span s)
{
    return (struct door_span){base + s.off, s.len};
}

/* The site's own name is the host of a request that names none (HTTP/1.0). */
static struct door_span
put_host(struct put *p, const char *in, const struct http_request *h,
         const struct conf *conf, uint32_t head)
{
    if (h->host.len == 0 && conf->domain) {
        return put_string(p, conf->domain, (uint32_t)strlen(conf->domain));
    }
    /* A part of an absolute target cannot end with a NUL of its own there. */
    return h->host.off >= h->target.off &&
                   h->host.off < h->target.off + h->target.len
               ? put_string(p, in + h->host.off, h->host.len)
               : shifted(head, h->host);
}

/* Into TO, which has room for one more than H has. How many there are: the
 * client's, but that the trace is told by us. */
static uint32_t
put_fields(struct put *p, struct door_http_field *to, const struct request *r,
           const struct http_request *h, const char *in, uint32_t head)
{
    char trace[HTTP_TRACE_LEN + 1];
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i];

        if (trace_is_field(in + f->name.off, f->name.len, r->keeps_state)) {
            continue;
        }
        to[n].name = shifted(head, f->name);
        to[n++].value = shifted(head, f->value);
    }
    if (n < HTTP_MAX_FIELDS) { /* what programs are built for */
        trace_print(r, trace);
        to[n].name = put_string(p, TRACEPARENT, sizeof TRACEPARENT - 1);
        to[n++].value = put_string(p, trace, HTTP_TRACE_LEN);
    }
    return n;
}

static int
build_http(struct worker *w, struct conn *c, const struct http_request *h,
           const struct target_path *t, const struct conf_route *route)
{
    struct request *r = request_of(w, c);
    const char *in = input_of(w, c);
    const struct conf *conf = w->conf;
    uint32_t fields =
        (h->n_fields + 1) * (uint32_t)sizeof(struct door_http_field);
    uint64_t size = sizeof(struct door_http) + fields + h->head_len + 1 +
                    t->len + 1 + h->query.len + 1 + h->host.len + 1 +
                    (conf->domain ? strlen(conf->domain) + 1 : 0) +
                    route->path_len + 1 + ID_LEN + 1 + TRACE_ROOM;
    int e = take_area(w, c, ROUND_UP(size, 16));

    if (e != 0) {
        return e;
    }
    char id[ID_LEN];
    struct put p = {ring_at(&w->rings[c->ring], area_off(r)),
                    (uint32_t)sizeof(struct door_http) + fields};
    struct door_http *d = (struct door_http *)(void *)p.base;
    struct door_http_field *to =
        (struct door_http_field *)(void *)(p.base + sizeof *d);
    uint32_t head = put_string(&p, in, h->head_len).off;
    memset(d, 0, sizeof *d);
    d->size = sizeof *d;
    d->method = h->method;
    d->minor = h->minor;
    d->family = c->family;
    memcpy(d->peer, c->peer, 16);
    d->peer_port = c->peer_port;
    d->server_port = w->ports[c->listener];
    d->method_name = shifted(head, h->method_name);
    d->target = shifted(head, h->target);
    d->host = put_host(&p, in, h, conf, head);
    d->path =
        h->query.len == 0 && h->path_is_plain && h->path.len == h->target.len
            ? d->target
            : put_string(&p, t->path, t->len);
    d->query = put_string(&p, in + h->query.off, h->query.len);
    d->route = put_string(&p, route->path, route->path_len);
    hex_put(id, r->id, ID_LEN);
    d->id = put_string(&p, id, ID_LEN);
    d->fields_off = sizeof *d;
    d->n_fields = put_fields(&p, to, r, h, in, head);
    d->total = p.at;
    r->args_len = p.at;
    r->kind = RING_KIND_HTTP;
    return 0;
}

/* ---- HTTP/1.1 bytes, for a plain door ---- */

static bool
goes_on(const char *name, size_t len)
{
    return http_field_is_free(name, len) &&
           !(len == 6 && strncasecmp(name, "expect", 6) == 0);
}

static size_t
put_text(char *to, const void *bytes, size_t len)
{
    memcpy(to, bytes, len);
    return len;
}

/* The head as the door sees it: no field that frames the message or belongs to
 * the connection; the length written when it is known, in 20 columns. */
__attribute__((noinline)) static int
build_bytes(struct worker *w, struct conn *c, const struct http_request *h)
{
    static const char length[] = "Content-Length: ";
    struct request *r = request_of(w, c);
    const char *in = input_of(w, c);
    char head[HTTP_MAX_HEAD + 256], trace[HTTP_TRACE_LEN + 1];
    size_t n = 0, length_at = 0;

    n += put_text(head, in + h->method_name.off, h->method_name.len);
    head[n++] = ' ';
    n += put_text(head + n, in + h->target.off, h->target.len);
    n += put_text(head + n, " HTTP/1.1\r\n", 11);
    for (uint32_t i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i];
        if (!goes_on(in + f->name.off, f->name.len) ||
            trace_is_field(in + f->name.off, f->name.len, r->keeps_state)) {
            continue;
        }
        n += put_text(head + n, in + f->name.off, f->name.len);
        n += put_text(head + n, ": ", 2);
        n += put_text(head + n, in + f->value.off, f->value.len);
        n += put_text(head + n, "\r\n", 2);
    }
    trace_print(r, trace);
    n += put_text(head + n, TRACEPARENT ": ", sizeof TRACEPARENT + 1);
    n += put_text(head + n, trace, HTTP_TRACE_LEN);
    n += put_text(head + n, "\r\n", 2);
    if (h->chunked || h->has_length) {
        n += put_text(head + n, length, sizeof length - 1);
        length_at = n;
        n += (size_t)snprintf(head + n, 24, "%20llu\r\n",
                              (unsigned long long)r->body_want);
    }
    n += put_text(head + n, "\r\n", 2);
    int e = take_area(w, c, n);
    if (e != 0) {
        return e;
    }
    memcpy(ring_at(&w->rings[c->ring], area_off(r)), head, n);
    r->args_len = n;
    r->length_at = h->chunked ? length_at : 0;
    r->kind = RING_KIND_BYTES;
    return 0;
}

/* ---- routing ---- */

static void
refuse(struct worker *w, uint32_t i, int status, enum reply_cause cause,
       const char *extra)
{
    struct conn *c = &w->conns[i];
    const struct request *r = request_of(w, c);

    /* A body that nobody will read stands between us and the next request. */
    if (r->chunked || r->body_want > 0) {
        c->flags |= CONN_CLOSE;
    }
    reply_error(w, i, status, cause, extra);
}

void
call_give_up(struct worker *w, uint32_t i)
{
    if (request_of(w, &w->conns[i])->retried) {
        refuse(w, i, 502, CAUSE_CRASH, NULL); /* what came of its call */
    } else {
        refuse(w, i, 503, CAUSE_NO_DOOR, "Retry-After: 1\r\n");
    }
}

static bool
wants_body_length(const struct http_request *h)
{
    return (h->method == HTTP_POST || h->method == HTTP_PUT ||
            h->method == HTTP_PATCH) &&
           !h->has_length && !h->chunked;
}

static bool
accepts_json(const char *in, const struct http_request *h)
{
    const struct http_field *f =
        http_field_find(in, h->fields, h->n_fields, "accept", 6);

    return f &&
           memmem(in + f->value.off, f->value.len, "application/json", 16) !=
               NULL &&
           memmem(in + f->value.off, f->value.len, "text/html", 9) == NULL;
}

static void
note_request(struct worker *w, struct conn *c, const struct http_request *h)
{
    struct request *r = request_of(w, c);

    r->method = h->method;
    r->minor = h->minor;
    r->head_only = h->method == HTTP_HEAD;
    r->method_name = h->method_name;
    r->uri = h->target;
    r->host = h->host;
    r->chunked = h->chunked;
    r->continued = h->expect_continue;
    r->body_want = h->chunked ? UINT64_MAX : h->content_length;
    r->wants_json = accepts_json(input_of(w, c), h);
    if (!h->keep_alive) {
        c->flags |= CONN_CLOSE;
    }
    trace_note(r, input_of(w, c), h);
}

static void
call_door(struct worker *w, uint32_t i, const struct http_request *h,
          const struct target_path *t, const struct conf_route *route)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];

    if (ring_is_coming(w, r->target)) {
        ring_queue(w, i);
        return;
    }
    if (g->state != RING_READY) {
        call_give_up(w, i);
        return;
    }
    int e = g->features & DOOR_FEATURE_HTTP ? build_http(w, c, h, t, route)
                                            : build_bytes(w, c, h);
    if (e != 0) {
        refuse(w, i, e, CAUSE_FULL, "Retry-After: 1\r\n");
        return;
    }
    if (r->body_want == 0) {
        call_publish(w, i);
        return;
    }
    r->due = r->ready = 0; /* how long the body takes is its own */
    r->body_began = w->now;
    r->body_have = 0;
    r->steps[0] = (struct body_step){.in_pos = c->in_pos};
    r->step = 0;
    r->raw_len = 0;
    conn_enter(c, CONN_BODY);
    worker_arm(w, i, w->conf->body_timeout_ns);
}

/* The path that routes and doors see. 0, or a status. */
static int
find_path(struct worker *w, const struct conn *c, const struct http_request *h,
          struct target_path *t)
{
    const char *raw = input_of(w, c) + h->path.off;

    if (h->path_is_plain) {
        t->path = raw;
        t->len = h->path.len;
        return 0;
    }
    int n = http_path_decode(raw, h->path.len, t->decoded);
    if (n < 0) {
        return 400;
    }
    t->path = t->decoded;
    t->len = (size_t)n;
    return 0;
}

void
call_route(struct worker *w, uint32_t i, const struct http_request *h)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    const char *in = input_of(w, c);
    struct target_path t;
    struct conf_match match;

    note_request(w, c, h);
    if (h->method == HTTP_CONNECT || h->method == HTTP_TRACE) {
        refuse(w, i, 501, CAUSE_BAD_REQUEST, NULL);
        return;
    }
    if (h->method == HTTP_OPTIONS && h->path.len == 1 &&
        in[h->path.off] == '*') {
        refuse(w, i, 204, CAUSE_NONE,
               "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n");
        return;
    }
    if (wants_body_length(h)) {
        c->flags |= CONN_CLOSE;
        refuse(w, i, 411, CAUSE_BAD_REQUEST, NULL);
        return;
    }
    if (!h->chunked && h->content_length > w->conf->body_limit) {
        refuse(w, i, 413, CAUSE_LIMIT, NULL);
        return;
    }
    if (find_path(w, c, h, &t) != 0) {
        c->flags |= CONN_CLOSE;
        refuse(w, i, 400, CAUSE_BAD_REQUEST, NULL);
        return;
    }
    if (!conf_route_match(&w->conf->listens[c->listener],
                          in + h->method_name.off, h->method_name.len, t.path,
                          t.len, &match)) {
        char allow[CONF_ALLOW_MAX + 16];
        if (match.status == 405) {
            snprintf(allow, sizeof allow, "Allow: %.*s\r\n",
                     (int)match.allow_len, match.allow);
        }
        refuse(w, i, match.status, CAUSE_NO_ROUTE,
               match.status == 405 ? allow : NULL);
        return;
    }
    r->target = (uint32_t)match.route->target;
    r->routed = true;
    c->ring = (uint16_t)r->target;
    if (w->conf->targets[r->target].kind != CONF_TARGET_FILES) {
        call_door(w, i, h, &t, match.route);
        return;
    }
    /* A body sent to a file is of no use to anybody. */
    if (r->body_want > 0) {
        c->flags |= CONN_CLOSE;
    }
    if (t.path != t.decoded) {
        memcpy(t.decoded, t.path, t.len);
        t.decoded[t.len] = 0;
    }
    size_t prefix = match.route->path_len == 1 ? 0 : match.route->path_len;
    reply_file(w, i, h, t.decoded + prefix, t.decoded);
}

/* ---- publishing and answers ---- */

uint64_t
call_timeout(const struct worker *w, uint32_t target)
{
    const struct conf_target *t = &w->conf->targets[target];

    return t->kind == CONF_TARGET_MODULE
               ? w->conf->modules[t->module].timeout_ns
               : w->conf->call_timeout_ns;
}

void
call_publish(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);

    /* Of one that waited before, what is left. */
    if (r->due == 0) {
        r->due = w->now + call_timeout(w, r->target);
    } else if (r->due <= w->now) {
        r->due = w->now + NS_PER_MS;
    }
    call_is_ready(w, r);
    /* A descriptor that went ahead belongs to a slot: it cannot wait. */
    if (!r->has_slot && waiting_must(w, c->ring)) {
        waiting_begin(w, i);
    } else {
        call_publish_now(w, i);
    }
}

void
call_publish_now(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];
    int slot = r->has_slot ? (int)c->slot : ring_slot_take(g, i);

    if (slot < 0) {
        waiting_refuse(w, i, CAUSE_FULL);
        return;
    }
    struct ring_entry *e = ring_entry(g, (uint32_t)slot);
    if (r->length_at != 0) {
        char digits[24];
        snprintf(digits, sizeof digits, "%20llu",
                 (unsigned long long)r->body_have);
        memcpy(ring_at(g, area_off(r) + r->length_at), digits, 20);
    }
    e->kind = r->kind;
    e->deadline = r->due;
    e->args_off = area_off(r);
    /* To a plain door the body is simply what follows the head. */
    e->args_len = r->args_len + (r->kind == RING_KIND_BYTES ? r->body_have : 0);
    e->body_off = r->kind == RING_KIND_HTTP ? body_off(r) : 0;
    e->body_len = r->kind == RING_KIND_HTTP ? r->body_have : 0;
    e->request_id = r->id;
    trace_fill(r, e);
    e->route = r->target;
    ring_slot_area(g, (uint32_t)slot, area_off(r), area_len(r));
    c->slot = (uint32_t)slot;
    r->has_slot = true;
    r->number = g->pub;
    r->claims = ring_claims(g);
    r->taker = 0;
    r->called = w->now;
    conn_enter(c, CONN_CALL); /* and an heir publishes it, if we do not */
    ring_publish(g, (uint32_t)slot);
    PROBE3(call, r->id, r->target, slot);
    struct tally *t = tally_of(w, r->target);
    tally_add(&t->calls, 1);
    tally_in_flight(t, ring_in_flight(g));
    w->active[c->ring / 64] |= 1ull << (c->ring % 64);
    worker_arm(w, i, r->due - w->now);
}

/* When the call of R began, as its server says it: within what is possible. */
static void
note_start(struct request *r, uint64_t began)
{
    r->started =
        began == 0 ? r->called : MIN_OF(MAX_OF(began, r->called), r->answered);
}

/* Its answer was taken from the ring. What it brings is not let go of before
 * the reply is launched, so that all this can be done again. */
void
call_take_answer(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];
    struct ring_result result;
    /* All of a lying door's calls fail together, when the poll is over. */
    int e = g->lied ? EPROTO : ring_result(g, c->slot, &result);

    g->lied |= e != 0;
    r->answered = w->now;
    if (e == 0) {
        note_start(r, result.began);
        r->taker = result.taker;
    }
    if (e != 0) {
        reply_error(w, i, 502, CAUSE_LIED, NULL);
    } else {
        reply_door(w, i, &result);
    }
    conn_go(w, i);
}

void
call_answered(void *worker, struct ring *g, uint32_t i, uint32_t slot)
{
    struct worker *w = worker;
    struct tally *t = tally_of(w, (uint32_t)(g - w->rings));

    /* Counted, not subtracted: who died may not have counted it. */
    tally_in_flight(t, ring_in_flight(g));
    if (i == RING_NO_OWNER) { /* withdrawn: nobody waits for it */
        struct ring_result result;
        /* What comes with it is looked for, to be closed with the slot. */
        if (!g->lied) {
            g->lied = ring_result(g, slot, &result) != 0;
        }
        ring_slot_give(g, slot);
        return;
    }
    if (w->polls_new) {
        /* What was called in this very pass took more than no time. */
        w->now = w->world->now(w->world->ctx);
        w->polls_new = false;
    }
    call_take_answer(w, i);
}

/* A connection's life: bytes in, heads parsed, bodies received where the door
 * will read them, and what becomes of it all when time or the client runs out.
 * No I/O but recv(2) and close(2) is here; replies leave in reply.c.
 */
#include "front/worker_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rights.h"
#include "base/util.h"
#include "http/http.h"

/* ---- memory ---- */

bool
conn_take_segment(struct worker *w, struct conn *c)
{
    uint32_t seg = arena_take(&w->arena);

    if (seg == ARENA_NONE) {
        return false;
    }
    conn_wipe_request(arena_at(&w->arena, seg));
    c->in_pos = c->in_len = 0;
    KEEP_ORDER();
    c->seg = seg;
    return true;
}

/* Moves the request and its input to a run of segments. */
static bool
take_run(struct worker *w, struct conn *c)
{
    uint32_t old = c->seg, run = arena_take_run(&w->arena);

    if (run == ARENA_NONE) {
        return false;
    }
    memcpy(arena_at(&w->arena, run), arena_at(&w->arena, old),
           INPUT_AT + c->in_len);
    KEEP_ORDER();
    c->seg = run;
    arena_give(&w->arena, old);
    return true;
}

void
conn_give_segments(struct worker *w, struct conn *c)
{
    if (c->out_seg != ARENA_NONE) {
        uint32_t seg = c->out_seg;
        c->out_seg = ARENA_NONE;
        arena_give(&w->arena, seg);
    }
    if (c->seg != ARENA_NONE) {
        uint32_t seg = c->seg;
        c->seg = ARENA_NONE;
        arena_give(&w->arena, seg);
    }
}

/* ---- the end ---- */

/* The number is free for others as soon as it is closed: so this is the last of
 * it, and an heir does it again before it opens anything. */
void
conn_shut(struct worker *w, uint32_t i)
{
    close((int)i);
    conn_enter(&w->conns[i], CONN_FREE);
    w->core->shutting = 0;
}

/* Gives back what the request of C has. Its descriptor is closed when nobody
 * names it any more, and so never twice. */
static void
give_back(struct worker *w, struct conn *c)
{
    struct request *r = request_of(w, c);
    int fd = r->fd;

    call_release(w, c);
    r->fd = -1;
    KEEP_ORDER();
    if (fd >= 0) {
        close(fd);
    }
}

/* In ENDING. Everything here can be done again. */
void
conn_end(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->seg != ARENA_NONE) {
        struct request *r = request_of(w, c);
        if (r->log == LOG_DUE) {
            access_log(w, c, r);
        }
        give_back(w, c);
        if (r->cut) {
            raw_cut(w, i);
        }
        if (r->passed && !r->handed) {
            rights_no_linger((int)i); /* the door may have set one */
        }
    }
    conn_give_segments(w, c);
    wheel_disarm(&w->wheel, i);
    w->core->live--;
    atomic_store_explicit(&w->setup->seats[w->setup->index].connections,
                          w->core->live, memory_order_relaxed);
    w->core->shutting = i + 1;
    conn_enter(c, CONN_SHUT);
    conn_shut(w, i);
}

void
conn_close(struct worker *w, uint32_t i)
{
    conn_enter(&w->conns[i], CONN_ENDING);
    conn_end(w, i);
}

void
conn_fail(struct worker *w, uint32_t i, enum reply_cause cause)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);

    r->cause = (uint8_t)cause;
    r->cut = r->raw; /* it may be there, and only slow */
    r->log = LOG_DUE;
    conn_close(w, i);
}

/* The client has left, with or without an answer due. */
static void
client_gone(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->state == CONN_HEAD || c->state == CONN_BODY ||
        c->state == CONN_WAIT || c->state == CONN_QUEUE ||
        c->state == CONN_CALL || c->state == CONN_SEND ||
        (c->state == CONN_RAW && c->seg != ARENA_NONE)) {
        struct request *r = request_of(w, c);
        if (c->state == CONN_CALL) {
            call_note_claim(w, c);
        }
        if (c->state != CONN_SEND) {
            r->status = 499;
        }
        r->answered = w->now;
        conn_fail(w, i,
                  r->cause == CAUSE_FILE_CUT ? CAUSE_FILE_CUT
                                             : CAUSE_CLIENT_GONE);
        return;
    }
    conn_close(w, i);
}

/* ---- reading ---- */

ssize_t
conn_read(struct conn *c, uint32_t i, void *to, size_t room)
{
    c->target_len = (uint32_t)room;
    c->rx_at = c->rx;
    KEEP_ORDER();
    c->target = (uint64_t)(uintptr_t)to;
    KEEP_ORDER(); /* intent, call, record */
    ssize_t n = recv((int)i, to, room, c->family == 0 ? MSG_PEEK : 0);
    KEEP_ORDER();
    if (n > 0) {
        /* A short read has emptied the socket, or ended before an urgent byte
         * (tcp(7)); what comes later is a new edge. */
        if ((size_t)n < room && !(c->flags & (CONN_HALF | CONN_URGENT))) {
            c->flags &= (uint8_t)~CONN_READABLE;
        }
    } else if (n == 0) {
        c->flags = (uint8_t)((c->flags | CONN_HALF) & ~CONN_READABLE);
        n = -1;
    } else if (errno == EAGAIN || errno == EINTR) {
        if (errno == EAGAIN) {
            c->flags &= (uint8_t) ~(CONN_READABLE | CONN_URGENT);
        }
        n = 0;
    } else {
        c->flags |= CONN_GONE;
        n = -1;
    }
    if (n <= 0) {
        c->target = 0;
    }
    return n;
}

void
conn_recorded(struct conn *c, uint32_t i, size_t n)
{
    KEEP_ORDER();
    c->rx = c->rx_at + n;
    KEEP_ORDER();
    if (c->family == 0) {
        /* Seen, and now taken: the same bytes to the same place. */
        (void)!recv((int)i, (void *)(uintptr_t)c->target, n, 0);
        KEEP_ORDER();
    }
    c->target = 0;
    KEEP_ORDER();
}

/* ---- heads ---- */

void
conn_wipe_request(struct request *r)
{
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

/* In SHIFT. Pieces no longer than the gap, each recorded: what a piece is
 * copied from is not overwritten before the piece is there. */
void
conn_go_shift(struct worker *w, struct conn *c, enum conn_state then)
{
    char *in = input_of(w, c);

    while (c->moved < c->rest) {
        uint32_t n = MIN_OF(c->in_pos, c->rest - c->moved);
        memcpy(in + c->moved, in + c->moved + c->in_pos, n);
        KEEP_ORDER();
        c->moved += n;
        KEEP_ORDER();
    }
    c->in_len = c->rest;
    KEEP_ORDER();
    c->in_pos = 0;
    conn_enter(c, then);
}

void
conn_shift(struct worker *w, struct conn *c, enum conn_state then)
{
    c->rest = c->in_len - c->in_pos;
    c->moved = 0;
    conn_enter(c, CONN_SHIFT);
    conn_go_shift(w, c, then);
}

/* Parses what is there. true: go on (the state changed); false: more bytes are
 * needed, or somebody else continues. */
static bool
parse_head(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct http_request h;
    char *in = input_of(w, c);

    size_t skip = r->scan == 0 ? http_skip_empty(in, c->in_len) : 0;
    if (skip > 0) {
        c->in_pos = (uint32_t)skip;
        conn_shift(w, c, (enum conn_state)c->state);
    }
    if (c->in_len == 0) {
        return false;
    }
    if (c->state == CONN_IDLE) {
        r->began = w->now;
        r->id = ++w->core->request_id;
        conn_enter(c, CONN_HEAD);
        worker_arm(w, i, w->conf->header_timeout_ns);
    }
    int verdict = http_request_parse(in, c->in_len, &r->scan, &h);
    if (verdict == HTTP_MORE) {
        return false;
    }
    if (verdict != HTTP_OK) {
        c->flags |= CONN_CLOSE;
        r->head_len = 0;
        reply_error(w, i, verdict, CAUSE_BAD_REQUEST, NULL);
        return true;
    }
    c->in_pos = r->head_len = h.head_len;
    r->parsed = true;
    call_route(w, i, &h);
    return true;
}

/* The input is full and the head is not whole. */
static bool
make_room(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->in_len < input_size(w, c)) {
        return true;
    }
    if (!arena_is_run(&w->arena, c->seg) && take_run(w, c)) {
        return true;
    }
    c->flags |= CONN_CLOSE;
    if (arena_is_run(&w->arena, c->seg)) {
        reply_error(w, i, 431, CAUSE_LIMIT, NULL);
    } else {
        reply_error(w, i, 503, CAUSE_FULL, NULL);
    }
    return false;
}

/* IDLE and HEAD. true: go on. */
static bool
go_head(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->seg != ARENA_NONE && c->in_len > 0 &&
        !(c->state == CONN_HEAD && request_of(w, c)->scan == c->in_len) &&
        parse_head(w, i)) {
        return true;
    }
    if (!(c->flags & CONN_READABLE)) {
        if (c->state == CONN_IDLE && c->seg != ARENA_NONE) {
            conn_give_segments(w, c);
        }
        if (c->flags & CONN_HALF) {
            client_gone(w, i);
        }
        return false;
    }
    if (c->seg == ARENA_NONE && !conn_take_segment(w, c)) {
        conn_close(w, i); /* out of segments: nothing can be said either */
        return false;
    }
    if (!make_room(w, i)) {
        return true;
    }
    ssize_t n = conn_read(c, i, input_of(w, c) + c->in_len,
                          input_size(w, c) - c->in_len);
    if (n > 0) {
        c->in_len += (uint32_t)n;
        conn_recorded(c, i, (size_t)n);
        if (!parse_head(w, i) && !(c->flags & CONN_READABLE)) {
            return (c->flags & CONN_HALF) != 0;
        }
    }
    return true;
}

/* ---- bodies ---- */

/* Where bytes of a chunked body are read to: far enough behind what is decoded
 * that decoding never writes there. */
char *
conn_raw_at(const struct worker *w, const struct conn *c)
{
    const struct request *r = request_of(w, c);

    return ring_at(&w->rings[c->ring],
                   body_off(r) + r->steps[r->step].have + READ_MAX_CHUNKED);
}

static bool
has_raw(const struct request *r)
{
    return r->chunked && r->raw_len > 0 && r->raw_step == r->step;
}

void
conn_stepped(struct conn *c, struct request *r)
{
    const struct body_step *s = &r->steps[r->step];

    r->body_have = s->have;
    c->in_pos = s->in_pos;
    r->body_want = s->whole ? s->have : UINT64_MAX;
}

/* Bytes behind a chunked body are the next request's: back to the input. */
static bool
return_surplus(struct worker *w, struct conn *c, const char *from, size_t len)
{
    if (c->in_pos + len > input_size(w, c) &&
        (arena_is_run(&w->arena, c->seg) || !take_run(w, c))) {
        return false;
    }
    if (c->in_pos + len > input_size(w, c)) {
        return false;
    }
    memcpy(input_of(w, c) + c->in_pos, from, len);
    KEEP_ORDER();
    c->in_len = c->in_pos + (uint32_t)len;
    return true;
}

/* Decodes LEN fresh bytes at FROM to behind the body so far. They stay as they
 * are until the step is made, so that it can be made again. false: the request
 * has ended with an error. */
static bool
take_chunked(struct worker *w, uint32_t i, const char *from, size_t len,
             bool from_input)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct body_step next = r->steps[r->step];
    char *to = ring_at(&w->rings[c->ring], body_off(r) + next.have);
    size_t out = 0, used = 0;
    int verdict = http_chunk_copy(&next.chunk, to, from, len, &out, &used);

    next.have += out;
    if (verdict != HTTP_MORE && verdict != HTTP_CHUNK_DONE) {
        c->flags |= CONN_CLOSE;
        reply_error(w, i, verdict, CAUSE_BAD_REQUEST, NULL);
        return false;
    }
    if (next.have > w->conf->body_limit) {
        c->flags |= CONN_CLOSE;
        reply_error(w, i, 413, CAUSE_LIMIT, NULL);
        return false;
    }
    next.whole = verdict == HTTP_CHUNK_DONE;
    if (from_input) {
        next.in_pos += (uint32_t)used;
    } else if (used < len && !return_surplus(w, c, from + used, len - used)) {
        c->flags |= CONN_CLOSE;
    }
    r = request_of(w, c); /* it may have moved */
    r->steps[!r->step] = next;
    KEEP_ORDER();
    r->step = !r->step;
    KEEP_ORDER();
    conn_stepped(c, r);
    return true;
}

/* What of the body came with the head: copied once. false: ended. */
static bool
take_early_body(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    size_t there = c->in_len - c->in_pos;

    if (!r->chunked) {
        there = MIN_OF(there, r->body_want);
    }
    int e = call_grow_body(w, c, (r->chunked ? r->body_have : 0) + there);
    if (e != 0) {
        c->flags |= CONN_CLOSE;
        reply_error(w, i, e, CAUSE_FULL, "Retry-After: 1\r\n");
        return false;
    }
    const char *from = input_of(w, c) + c->in_pos;
    if (r->chunked) {
        return take_chunked(w, i, from, there, true);
    }
    /* The first bytes of all, even if this is done a second time. */
    memcpy(ring_at(&w->rings[c->ring], body_off(r)), from, there);
    r->body_have = there;
    KEEP_ORDER();
    c->in_pos = r->head_len + (uint32_t)there;
    return true;
}

static void
grow_failed(struct worker *w, uint32_t i, int status)
{
    w->conns[i].flags |= CONN_CLOSE;
    reply_error(w, i, status, CAUSE_FULL, "Retry-After: 1\r\n");
}

/* After a read: N as from conn_read. true: go on. */
static bool
body_came(struct worker *w, uint32_t i, ssize_t n)
{
    struct conn *c = &w->conns[i];
    const struct request *r;

    if (n > 0) {
        r = request_of(w, c);
        worker_arm_rate(w, i, w->conf->body_timeout_ns, r->body_began,
                        r->body_have);
        return true;
    }
    if (n < 0) {
        client_gone(w, i);
    }
    return n == 0 && (c->flags & CONN_READABLE);
}

static bool
read_chunked(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    int e = call_grow_body(w, c, r->body_have + 2 * READ_MAX_CHUNKED);

    if (e != 0) {
        grow_failed(w, i, e);
        return true;
    }
    r->raw_len = 0;
    KEEP_ORDER();
    r->raw_step = r->step;
    char *at = conn_raw_at(w, c);
    ssize_t n = conn_read(c, i, at, READ_MAX_CHUNKED);
    if (n > 0) {
        r->raw_len = (uint32_t)n;
        conn_recorded(c, i, (size_t)n);
        if (!take_chunked(w, i, at, (size_t)n, false)) {
            return true;
        }
    }
    return body_came(w, i, n);
}

/* Reads into the memory that the door maps. true: go on. */
static bool
read_body(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    uint64_t room = MIN_OF(r->body_want - r->body_have, 65536u);
    int e = call_grow_body(w, c, r->body_have + room);

    if (e != 0) {
        grow_failed(w, i, e);
        return true;
    }
    /* As much as there is room for anyway. */
    room = MIN_OF(r->body_want - r->body_have,
                  area_len(r) - r->body_at - r->body_have);
    room = MIN_OF(room, 1u << 20);
    ssize_t n =
        conn_read(c, i, ring_at(&w->rings[c->ring], body_off(r) + r->body_have),
                  (size_t)room);
    if (n > 0) {
        r->body_have += (uint64_t)n;
        conn_recorded(c, i, (size_t)n);
    }
    return body_came(w, i, n);
}

static void
say_continue(struct worker *w, uint32_t i)
{
    static const char text[] = CONTINUE_TEXT;
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);

    c->flags |= CONN_SENDING;
    KEEP_ORDER();
    const struct iovec all = {(void *)(uintptr_t)text, sizeof text - 1};
    ssize_t n = c->family == 0
                    ? local_send(w, i, 0, &all, 1)
                    : send((int)i, text, sizeof text - 1, MSG_NOSIGNAL);
    KEEP_ORDER();
    r->continued = false;
    KEEP_ORDER();
    if (n > 0) {
        c->tx += (uint64_t)n;
        if (n != (ssize_t)(sizeof text - 1)) {
            c->flags |= CONN_GONE; /* half of it: nothing can follow */
        }
    }
    KEEP_ORDER();
    if (c->family == 0) {
        local_end(w);
    }
    c->flags &= (uint8_t)~CONN_SENDING;
}

static bool
go_body(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    bool whole =
        r->chunked ? r->body_want != UINT64_MAX : r->body_have == r->body_want;

    if (whole) {
        call_publish(w, i);
        return true;
    }
    if (has_raw(r)) { /* an heir finds what was read and not decoded */
        take_chunked(w, i, conn_raw_at(w, c), r->raw_len, false);
        return true;
    }
    if (c->in_pos < c->in_len) {
        take_early_body(w, i);
        return true;
    }
    if (r->continued) {
        say_continue(w, i);
    }
    if (!(c->flags & CONN_READABLE)) {
        if (c->flags & CONN_HALF) {
            client_gone(w, i);
        }
        return false;
    }
    return r->chunked ? read_chunked(w, i) : read_body(w, i);
}

/* ---- after an early answer: drop what still comes, then close ---- */

static bool
go_linger(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    char dropped[8192];

    if (!(c->flags & CONN_READABLE) && !(c->flags & CONN_HALF)) {
        return false;
    }
    ssize_t n = conn_read(c, i, dropped, sizeof dropped);
    if (n > 0) {
        c->in_len += (uint32_t)n;
        conn_recorded(c, i, (size_t)n);
    }
    /* Not before the end of what it sent: a close with bytes unread resets. */
    if (n < 0 || c->in_len > LINGER_MAX) {
        conn_close(w, i);
        return false;
    }
    return (c->flags & CONN_READABLE) != 0;
}

/* ---- the machine ---- */

/* How many requests of one connection this pass takes: the fewer, the more
 * connections have more of them, for everybody waits for the pass's end. */
static uint32_t
share(const struct worker *w)
{
    return w->n_sharing <= SHARE_ALL / SHARE ? SHARE : SHARE_ALL / w->n_sharing;
}

void
conn_go(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    uint32_t gen = c->gen;
    uint32_t until = c->requests + share(w);
    bool on = true;

    while (on && c->state != CONN_FREE && c->gen == gen) {
        if (c->flags & CONN_GONE) {
            client_gone(w, i);
            return;
        }
        if ((int32_t)(c->requests - until) >= 0 && c->state <= CONN_BODY) {
            /* Others first: nobody is served for ever in one pass. */
            worker_again(w, i);
            return;
        }
        switch ((enum conn_state)c->state) {
        case CONN_IDLE:
        case CONN_HEAD:
            on = go_head(w, i);
            break;
        case CONN_BODY:
            on = go_body(w, i);
            break;
        case CONN_LINGER:
            on = go_linger(w, i);
            break;
        case CONN_RAW:
            on = raw_go(w, i);
            break;
        case CONN_FREE:
        case CONN_WAIT:
        case CONN_QUEUE:
        case CONN_CALL:
        case CONN_SEND:
        case CONN_DONE:
        case CONN_SHIFT:
        case CONN_ENDING:
        case CONN_SHUT:
            return;
        }
    }
}

/* The client may still be sending; closing now would reset the connection and
 * take the answer with it. */
static void
linger(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    shutdown((int)i, SHUT_WR);
    conn_give_segments(w, c);
    c->in_len = c->in_pos = 0;
    c->flags |= CONN_READABLE;
    conn_enter(c, CONN_LINGER);
    worker_arm(w, i, 2 * NS_PER_SEC);
}

/* In DONE. Everything here can be done again; the segment goes last. */
void
conn_finish(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    bool has_segment = c->seg != ARENA_NONE;

    if (has_segment) {
        struct request *r = request_of(w, c);
        access_log(w, c, r);
        c->tx = r->tx_before + r->sent;
        give_back(w, c);
    }
    if ((c->flags & CONN_CLOSE) || w->core->stopping) {
        linger(w, i);
        return;
    }
    if (has_segment && c->in_pos < c->in_len) {
        uint32_t out = c->out_seg;
        c->out_seg = ARENA_NONE;
        if (out != ARENA_NONE) {
            arena_give(&w->arena, out);
        }
        conn_shift(w, c, CONN_IDLE);
        conn_wipe_request(request_of(w, c));
    } else {
        conn_give_segments(w, c);
        conn_enter(c, CONN_IDLE);
    }
    worker_arm(w, i, w->conf->idle_timeout_ns);
}

void
conn_done(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    c->requests++;
    conn_enter(c, CONN_DONE);
    conn_finish(w, i);
}

void
conn_event(struct worker *w, uint32_t i, uint32_t events)
{
    struct conn *c = &w->conns[i];

    if (events & (EPOLLERR | EPOLLHUP)) {
        /* A Unix socket says so with bytes still to be read: the read tells.
         * And who sent bytes to a door and left has called it. */
        bool is_raw = c->state == CONN_RAW ||
                      ((c->state == CONN_CALL || c->state == CONN_QUEUE) &&
                       request_of(w, c)->raw && (events & EPOLLERR) == 0);
        c->flags |= is_raw ? CONN_HALF | CONN_READABLE : CONN_GONE;
    }
    if (events & EPOLLRDHUP) {
        bool left = !(c->flags & CONN_HALF) && waiting_has_left(w, i);
        c->flags |= CONN_HALF | CONN_READABLE | (left ? CONN_GONE : 0);
    }
    if (events & EPOLLIN) {
        c->flags |= CONN_READABLE;
    }
    if (events & EPOLLPRI) {
        c->flags |= CONN_URGENT | CONN_READABLE;
    }
    if ((events & EPOLLOUT) && c->state == CONN_SEND &&
        !(c->flags & CONN_GONE)) {
        reply_send(w, i);
    }
    conn_go(w, i);
}

void
conn_due(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    switch ((enum conn_state)c->state) {
    case CONN_HEAD:
    case CONN_BODY:
        c->flags |= CONN_CLOSE;
        reply_error(w, i, 408, CAUSE_TIMEOUT_CLIENT, NULL);
        break;
    case CONN_WAIT:
        call_give_up(w, i);
        break;
    case CONN_QUEUE:
        waiting_due(w, i);
        break;
    case CONN_CALL:
        call_overdue(w, c);
        reply_error(w, i, 504, CAUSE_DEADLINE, NULL);
        break;
    case CONN_SEND: /* no progress: a client that does not read */
        client_gone(w, i);
        break;
    case CONN_FREE:
    case CONN_DONE:
    case CONN_SHIFT:
    case CONN_ENDING:
    case CONN_SHUT:
        break;
    case CONN_IDLE:
    case CONN_LINGER:
        conn_close(w, i);
        break;
    case CONN_RAW:
        raw_due(w, i);
        break;
    }
    conn_go(w, i);
}

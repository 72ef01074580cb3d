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

#define READ_MAX_CHUNKED 16384u

/* ---- memory ---- */

bool
conn_take_segment(struct worker *w, struct conn *c)
{
    c->seg = arena_take(&w->arena);
    if (c->seg == ARENA_NONE) {
        return false;
    }
    struct request *r = request_of(w, c);
    memset(r, 0, sizeof *r);
    r->fd = -1;
    c->in_pos = c->in_len = 0;
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
    c->seg = run;
    arena_give(&w->arena, old);
    return true;
}

void
conn_give_segments(struct worker *w, struct conn *c)
{
    if (c->out_seg != ARENA_NONE) {
        arena_give(&w->arena, c->out_seg);
        c->out_seg = ARENA_NONE;
    }
    if (c->seg != ARENA_NONE) {
        uint32_t seg = c->seg;
        c->seg = ARENA_NONE;
        arena_give(&w->arena, seg);
    }
}

/* ---- the end ---- */

void
conn_close(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->seg != ARENA_NONE) {
        struct request *r = request_of(w, c);
        if (c->state == CONN_CALL) {
            call_drop(w, c); /* its slot is still the door's */
        }
        call_release(w, c);
        if (r->fd >= 0) {
            close(r->fd);
        }
        if (r->passed && !r->handed) {
            rights_no_linger((int)i); /* the door may have set one */
        }
    }
    conn_give_segments(w, c);
    wheel_disarm(&w->wheel, i);
    c->state = CONN_FREE;
    w->core->live--;
    atomic_store_explicit(&w->setup->seats[w->setup->index].connections,
                          w->core->live, memory_order_relaxed);
    close((int)i);
}

/* The client has left, with or without an answer due. */
static void
client_gone(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->state == CONN_CALL) {
        call_drop(w, c);
    }
    if (c->state == CONN_HEAD || c->state == CONN_BODY ||
        c->state == CONN_WAIT || c->state == CONN_CALL ||
        c->state == CONN_SEND ||
        (c->state == CONN_RAW && c->seg != ARENA_NONE)) {
        struct request *r = request_of(w, c);
        if (c->state != CONN_SEND) {
            r->status = 499;
        }
        if (r->cause != CAUSE_FILE_CUT) {
            r->cause = CAUSE_CLIENT_GONE;
        }
        r->answered = w->now;
        access_log(w, c, r);
        if (r->raw) {
            raw_cut(w, i); /* it may be there, and only slow */
        }
    }
    conn_close(w, i);
}

/* ---- reading ---- */

ssize_t
conn_read(struct conn *c, uint32_t i, void *to, size_t room)
{
    c->target = (uint64_t)(uintptr_t)to;
    c->target_len = (uint32_t)room;
    atomic_signal_fence(memory_order_seq_cst); /* intent, call, record */
    ssize_t n = recv((int)i, to, room, 0);
    atomic_signal_fence(memory_order_seq_cst);
    if (n > 0) {
        c->rx += (uint64_t)n;
        /* A short read has emptied the socket; what comes later is a new
         * edge. */
        if ((size_t)n < room && !(c->flags & CONN_HALF)) {
            c->flags &= (uint8_t)~CONN_READABLE;
        }
    } else if (n == 0) {
        c->flags = (uint8_t)((c->flags | CONN_HALF) & ~CONN_READABLE);
        n = -1;
    } else if (errno == EAGAIN || errno == EINTR) {
        if (errno == EAGAIN) {
            c->flags &= (uint8_t)~CONN_READABLE;
        }
        n = 0;
    } else {
        c->flags |= CONN_GONE;
        n = -1;
    }
    c->target = 0;
    return n;
}

/* ---- heads ---- */

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
        memmove(in, in + skip, c->in_len - skip);
        c->in_len -= (uint32_t)skip;
    }
    if (c->in_len == 0) {
        return false;
    }
    if (c->state == CONN_IDLE) {
        c->state = CONN_HEAD;
        r->began = w->now;
        r->id = ++w->core->request_id;
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
        if (!parse_head(w, i) && !(c->flags & CONN_READABLE)) {
            return (c->flags & CONN_HALF) != 0;
        }
    }
    return true;
}

/* ---- bodies ---- */

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
    c->in_len = c->in_pos + (uint32_t)len;
    return true;
}

/* Decodes LEN fresh bytes that lie behind the body so far, in place. false: the
 * request has ended with an error. */
static bool
take_chunked(struct worker *w, uint32_t i, size_t len, bool from_input)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    char *at = ring_at(&w->rings[c->ring], r->body_off + r->body_have);
    size_t out = 0, used = 0;
    int verdict = http_chunk_decode(&r->chunk, at, len, &out, &used);

    if (verdict != HTTP_MORE && verdict != HTTP_CHUNK_DONE) {
        c->flags |= CONN_CLOSE;
        reply_error(w, i, verdict, CAUSE_BAD_REQUEST, NULL);
        return false;
    }
    r->body_have += out;
    if (r->body_have > w->conf->body_limit) {
        c->flags |= CONN_CLOSE;
        reply_error(w, i, 413, CAUSE_LIMIT, NULL);
        return false;
    }
    if (verdict == HTTP_CHUNK_DONE) {
        r->body_want = r->body_have;
        if (from_input) {
            c->in_pos += (uint32_t)used;
        } else if (!return_surplus(w, c, at + used, len - used)) {
            c->flags |= CONN_CLOSE;
        }
    } else if (from_input) {
        c->in_pos += (uint32_t)len;
    }
    return true;
}

/* What of the body came with the head: copied once. false: ended. */
static bool
take_early_body(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    size_t there = c->in_len - c->in_pos;

    if (there == 0) {
        return true;
    }
    if (!r->chunked) {
        there = MIN_OF(there, r->body_want - r->body_have);
    }
    int e = call_grow_body(w, c, r->body_have + there);
    if (e != 0) {
        c->flags |= CONN_CLOSE;
        reply_error(w, i, e, CAUSE_FULL, "Retry-After: 1\r\n");
        return false;
    }
    memcpy(ring_at(&w->rings[c->ring], r->body_off + r->body_have),
           input_of(w, c) + c->in_pos, there);
    if (r->chunked) {
        return take_chunked(w, i, there, true);
    }
    r->body_have += there;
    c->in_pos += (uint32_t)there;
    return true;
}

/* Reads into the memory that the door maps. true: go on. */
static bool
read_body(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    uint64_t room = r->chunked ? READ_MAX_CHUNKED
                               : MIN_OF(r->body_want - r->body_have, 65536u);
    int e = call_grow_body(w, c, r->body_have + room);

    if (e != 0) {
        c->flags |= CONN_CLOSE;
        reply_error(w, i, e, CAUSE_FULL, "Retry-After: 1\r\n");
        return true;
    }
    if (!r->chunked) { /* as much as there is room for anyway */
        room = MIN_OF(r->body_want - r->body_have,
                      r->area_off + r->area_len - r->body_off - r->body_have);
        room = MIN_OF(room, 1u << 20);
    }
    ssize_t n =
        conn_read(c, i, ring_at(&w->rings[c->ring], r->body_off + r->body_have),
                  (size_t)room);
    if (n <= 0) {
        if (n < 0) {
            client_gone(w, i);
        }
        return n == 0 && (c->flags & CONN_READABLE);
    }
    if (r->chunked) {
        if (!take_chunked(w, i, (size_t)n, false)) {
            return true;
        }
    } else {
        r->body_have += (uint64_t)n;
    }
    r = request_of(w, c); /* it may have moved */
    worker_arm_rate(w, i, w->conf->body_timeout_ns, r->body_began,
                    r->body_have);
    return true;
}

static void
say_continue(struct worker *w, uint32_t i)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct conn *c = &w->conns[i];

    c->flags |= CONN_SENDING;
    ssize_t n = send((int)i, text, sizeof text - 1, MSG_NOSIGNAL);
    c->flags &= (uint8_t)~CONN_SENDING;
    if (n > 0) {
        c->tx += (uint64_t)n;
        if (n != (ssize_t)(sizeof text - 1)) {
            c->flags |= CONN_GONE; /* half of it: nothing can follow */
        }
    }
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
    if (c->in_pos < c->in_len) {
        if (!take_early_body(w, i)) {
            return true;
        }
        return true;
    }
    if (r->continued) {
        r->continued = false;
        say_continue(w, i);
    }
    if (!(c->flags & CONN_READABLE)) {
        if (c->flags & CONN_HALF) {
            client_gone(w, i);
        }
        return false;
    }
    return read_body(w, i);
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
    c->in_len += n > 0 ? (uint32_t)n : 0;
    /* Not before the end of what it sent: a close with bytes unread resets. */
    if (n < 0 || c->in_len > LINGER_MAX) {
        conn_close(w, i);
        return false;
    }
    return (c->flags & CONN_READABLE) != 0;
}

/* ---- the machine ---- */

void
conn_go(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    uint32_t gen = c->gen;
    uint32_t until = c->requests + SHARE;
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
        case CONN_CALL:
        case CONN_SEND:
            return;
        }
    }
}

void
conn_done(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    uint32_t rest = c->in_len - c->in_pos;

    access_log(w, c, r);
    call_release(w, c);
    if (r->fd >= 0) {
        close(r->fd);
        r->fd = -1;
    }
    c->requests++;
    if (c->out_seg != ARENA_NONE) {
        arena_give(&w->arena, c->out_seg);
        c->out_seg = ARENA_NONE;
    }
    if ((c->flags & CONN_CLOSE) || w->core->stopping) {
        /* The client may still be sending; closing now would reset the
         * connection and take the answer with it. */
        shutdown((int)i, SHUT_WR);
        c->state = CONN_LINGER;
        c->in_len = c->in_pos = 0;
        c->flags |= CONN_READABLE;
        conn_give_segments(w, c);
        worker_arm(w, i, 2 * NS_PER_SEC);
        return;
    }
    c->state = CONN_IDLE;
    if (rest > 0) {
        char *in = input_of(w, c);
        memmove(in, in + c->in_pos, rest);
        memset(r, 0, sizeof *r);
        r->fd = -1;
    } else {
        conn_give_segments(w, c);
    }
    c->in_len = rest;
    c->in_pos = 0;
    worker_arm(w, i, w->conf->idle_timeout_ns);
}

void
conn_event(struct worker *w, uint32_t i, uint32_t events)
{
    struct conn *c = &w->conns[i];

    if (events & (EPOLLERR | EPOLLHUP)) {
        /* A Unix socket says so with bytes still to be read: the read tells.
         * And who sent bytes to a door and left has called it. */
        bool is_raw = c->state == CONN_RAW ||
                      (c->state == CONN_CALL && request_of(w, c)->raw &&
                       (events & EPOLLERR) == 0);
        c->flags |= is_raw ? CONN_HALF | CONN_READABLE : CONN_GONE;
    }
    if (events & EPOLLRDHUP) {
        c->flags |= CONN_HALF | CONN_READABLE;
    }
    if (events & EPOLLIN) {
        c->flags |= CONN_READABLE;
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
    case CONN_CALL:
        call_overdue(w, c);
        call_drop(w, c);
        reply_error(w, i, 504, CAUSE_DEADLINE, NULL);
        break;
    case CONN_SEND: /* no progress: a client that does not read */
        client_gone(w, i);
        break;
    case CONN_FREE:
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

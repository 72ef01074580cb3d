/* `forward tcp`: connections whose protocol only the door knows.
 *
 * `to`: what one read gives is the arguments of one call; what it returns is
 * sent; then the connection is closed. The read goes straight into the ring's
 * memory, and only when the door is there, so that bytes wait in the kernel and
 * never in two places.
 *
 * `pass`: nothing is read; the connection itself is the call's argument. The
 * worker keeps its copy until a thread of the door has claimed the call: before
 * that it can still cut the connection, after that it is the door's alone,
 * whose close(2) is what the client must see. The record stays until the
 * answer, so that a stop waits for connections that are served within their
 * call; its number is kept by a placeholder.
 *
 * A failure has no words in a protocol that we do not know. It must not look
 * like an answer, not even like one of no bytes: the connection is reset.
 */
#include "front/worker_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rights.h"
#include "base/util.h"

#define RAW_READ  65536u
#define RAW_TRIES 20u /* of 25 to 50 ms, to send a descriptor */
#define ID_LEN    16

static bool
is_passing(const struct worker *w, const struct conn *c)
{
    return w->conf->listens[c->listener].protocol == CONF_TCP_PASS;
}

/* The segment and the request in it. false: there is none. */
static bool
begin(struct worker *w, struct conn *c)
{
    uint32_t seg = arena_take(&w->arena);

    if (seg == ARENA_NONE) {
        return false;
    }
    struct request *r = arena_at(&w->arena, seg);
    conn_wipe_request(r);
    c->in_pos = c->in_len = 0;
    r->raw = r->routed = true;
    r->began = w->now;
    r->id = ++w->core->request_id;
    r->target = (uint32_t)w->conf->listens[c->listener].routes[0].target;
    c->ring = (uint16_t)r->target;
    c->flags |= CONN_CLOSE;
    KEEP_ORDER();
    c->seg = seg;
    return true;
}

/* ---- the end without an answer ---- */

void
raw_cut(struct worker *w, uint32_t i)
{
    const struct sockaddr none = {.sa_family = AF_UNSPEC};
    const struct conn *c = &w->conns[i];

    /* TCP: a reset, now, whoever else holds the connection. A Unix socket knows
     * no reset: its end. */
    if (c->family == 0 || connect((int)i, &none, sizeof none) < 0) {
        shutdown((int)i, SHUT_RDWR);
    }
}

void
raw_fail(struct worker *w, uint32_t i, enum reply_cause cause)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    /* A procedure that had the connection may have given it to others. A ring
     * that is not mapped here (an heir's) does not say whether it had. */
    bool theirs =
        r->passed && (r->handed || cause == CAUSE_CRASH ||
                      cause == CAUSE_LIED || !w->rings[c->ring].reply);

    r->cause = (uint8_t)cause;
    r->answered = w->now;
    r->cut = !theirs;
    r->log = LOG_DUE;
    conn_close(w, i);
}

void
raw_cut_all(struct worker *w)
{
    raw_hand_over(w);
    for (uint32_t i = 0; i < w->core->top; i++) {
        const struct conn *c = &w->conns[i];
        if (c->state != CONN_WAIT && c->state != CONN_QUEUE &&
            c->state != CONN_CALL && c->state != CONN_SEND) {
            continue;
        }
        const struct request *r = request_of(w, c);
        if (r->raw && !r->handed) {
            raw_cut(w, i);
        }
    }
}

/* ---- to: one read, one call ---- */

/* What a cardea.h handler finds instead of a request's head: who it is, and the
 * id; no method, no path, no fields. */
static void
put_head(struct worker *w, struct conn *c, const struct request *r,
         uint64_t off)
{
    struct door_http *d = ring_at(&w->rings[c->ring], off);
    char *id = (char *)(d + 1);

    memset(d, 0, sizeof *d);
    d->size = sizeof *d;
    d->family = c->family;
    memcpy(d->peer, c->peer, 16);
    d->peer_port = c->peer_port;
    d->server_port = w->ports[c->listener];
    d->fields_off = sizeof *d;
    d->id = (struct door_span){sizeof *d, ID_LEN};
    snprintf(id, ID_LEN + 1, "%016llx", (unsigned long long)r->id);
    d->total = sizeof *d + ID_LEN + 1;
}

static bool
take_room(struct worker *w, struct conn *c)
{
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];
    bool native = (g->features & DOOR_FEATURE_HTTP) != 0;
    uint64_t head =
        native ? ROUND_UP(sizeof(struct door_http) + ID_LEN + 1, 16) : 0;

    uint64_t len = ROUND_UP(head + RAW_READ, RING_SEGMENT);
    uint64_t off = ring_area_take(g, len);

    if (off == 0) {
        return false;
    }
    r->kind = native ? RING_KIND_HTTP : RING_KIND_BYTES;
    r->args_len = r->body_at = head;
    r->body_have = 0;
    if (native) {
        put_head(w, c, r, off);
    }
    KEEP_ORDER();
    r->area = area_of(off, len);
    return true;
}

/* What the read did not need goes back at once. */
static void
give_rest(struct worker *w, struct conn *c)
{
    struct request *r = request_of(w, c);
    uint64_t used = MAX_OF(ROUND_UP(r->args_len + r->body_have, RING_SEGMENT),
                           (uint64_t)RING_SEGMENT);
    uint64_t off = area_off(r), len = area_len(r);

    if (len > used) {
        r->area = area_of(off, used);
        KEEP_ORDER();
        ring_area_give(&w->rings[c->ring], off + used, len - used);
    }
}

/* true: go on. */
static bool
read_and_call(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];

    if (r->area == 0 && !take_room(w, c)) {
        raw_fail(w, i, CAUSE_FULL);
        return false;
    }
    /* An heir may find what a dead worker had read. */
    if (r->body_have == 0) {
        ssize_t n = conn_read(c, i, ring_at(g, body_off(r)), RAW_READ);
        if (n == 0) {
            call_release(w, c);
            conn_give_segments(w, c);
            return (c->flags & CONN_READABLE) != 0;
        }
        if (c->flags & CONN_GONE) {
            return true;
        }
        if (n > 0) { /* else the end: a call of no bytes */
            r->body_have = (uint64_t)n;
            conn_recorded(c, i, (size_t)n);
        }
    }
    give_rest(w, c);
    call_publish(w, i);
    return false;
}

/* ---- pass: the connection is the argument ---- */

/* The way to the door is full just now. */
static void
try_later(struct worker *w, uint32_t i)
{
    struct request *r = request_of(w, &w->conns[i]);

    if (++r->tries > RAW_TRIES) {
        raw_fail(w, i, CAUSE_FULL);
    } else {
        worker_arm(w, i, TICK_NS);
    }
}

static void
pass(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];

    if (!(g->features & DOOR_FEATURE_DESCS)) {
        raw_fail(w, i, CAUSE_TAKES_NO_DESCS);
        return;
    }
    if (!r->has_slot) {
        int slot = ring_slot_take(g, i);
        if (slot < 0) {
            try_later(w, i);
            return;
        }
        c->slot = (uint32_t)slot;
        KEEP_ORDER();
        r->has_slot = true;
    }
    /* Users write plain blocking programs; and O_NONBLOCK belongs to the open
     * connection, not to our copy. We never read it. */
    fcntl((int)i, F_SETFL, 0);
    int e = ring_pass(g, c->slot, (int)i);
    if (e == EAGAIN || e == ETOOMANYREFS) {
        try_later(w, i);
        return;
    }
    if (e != 0) {
        r->error = (uint16_t)e;
        raw_fail(w, i, CAUSE_NO_DOOR);
        return;
    }
    r->passed = true;
    r->kind = RING_KIND_BYTES;
    w->n_passed++;
    call_publish(w, i);
}

/* Connection I's call has been claimed: it is the door's alone now. */
static void
hand_over(struct worker *w, uint32_t i)
{
    struct request *r = request_of(w, &w->conns[i]);

    /* Ours may be the last copy, and what the door set must not hold us up. */
    rights_no_linger((int)i);
    /* The record's number stays ours; any descriptor will do. */
    if (dup3(w->core->epoll, (int)i, O_CLOEXEC) >= 0) {
        r->handed = true;
        wheel_disarm(&w->wheel, i); /* what it does now takes its time */
    }
}

/* How many of ring G's calls have a connection that is not claimed yet. */
static uint32_t
hand_over_claimed(struct worker *w, const struct ring *g)
{
    uint32_t left = 0;

    for (uint32_t word = 0; word < RING_SLOTS / 64; word++) {
        for (uint64_t bits = g->in_flight[word]; bits; bits &= bits - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            uint32_t i = ring_slot_owner(g, slot);
            if (i == RING_NO_OWNER) {
                continue;
            }
            struct request *r = request_of(w, &w->conns[i]);
            if (r->passed && !r->handed && ring_was_claimed(g, r->number)) {
                hand_over(w, i);
            }
            left += r->passed && !r->handed;
        }
    }
    return left;
}

void
raw_hand_over(struct worker *w)
{
    w->n_passed = 0;
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        if (w->active[g / 64] >> (g % 64) & 1) {
            w->n_passed += hand_over_claimed(w, &w->rings[g]);
        }
    }
}

void
raw_passed(struct worker *w, uint32_t i)
{
    struct request *r = request_of(w, &w->conns[i]);

    r->log = LOG_DUE;
    r->cut = false;
    conn_close(w, i);
}

/* ---- the machine's step ---- */

bool
raw_go(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    bool passing = is_passing(w, c);

    if (!passing && !(c->flags & CONN_READABLE)) {
        return false;
    }
    if (c->seg == ARENA_NONE && !begin(w, c)) {
        raw_cut(w, i);
        conn_close(w, i);
        return false;
    }
    const struct ring *g = &w->rings[c->ring];
    if (ring_is_coming(w, c->ring)) {
        ring_queue(w, i);
        return false;
    }
    if (g->state != RING_READY) {
        raw_fail(w, i, CAUSE_NO_DOOR);
        return false;
    }
    if (passing) {
        pass(w, i);
        return false;
    }
    return read_and_call(w, i);
}

void
raw_due(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (is_passing(w, c)) {
        return; /* conn_go tries again */
    }
    if (c->seg != ARENA_NONE || begin(w, c)) {
        struct request *r = request_of(w, c);
        r->cause = CAUSE_TIMEOUT_CLIENT;
        r->began = w->now - w->conf->header_timeout_ns;
        r->cut = false;
        r->log = LOG_DUE;
    }
    conn_close(w, i); /* it asked nothing: no answer is cut */
}

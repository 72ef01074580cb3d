/* Settling: a kill fell between two instructions of a worker, and its heir
 * makes the records say what is so.
 *
 * Each change of a connection has one store that makes it (conn_enter, mostly):
 * a record in state S is whole as far as S promises, and the rest of it counts
 * for nothing and is wiped here. Of a system call that was cut, the kernel's
 * own counters tell how far it came (TCP_INFO, SIOCINQ, SIOCOUTQ), counted from
 * the socket's birth; the bytes of a read lie where its target says. What is
 * recorded from that is set, never added to: so it is right whether or not the
 * dead worker had begun to record it.
 */
#include "front/worker_priv.h"

#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "front/counters.h"

#define CONTINUE_LEN (sizeof CONTINUE_TEXT - 1)

/* ---- records ---- */

static bool
is_pass(const struct worker *w, const struct conn *c)
{
    return w->conf->listens[c->listener].protocol == CONF_TCP_PASS;
}

/* Does the record of I name SLOT of G as its own? */
static bool
is_owned(void *arg, const struct ring *g, uint32_t i, uint32_t slot)
{
    const struct worker *w = arg;

    if (i >= w->core->top) {
        return false;
    }
    const struct conn *c = &w->conns[i];
    if (c->seg == ARENA_NONE || c->slot != slot || &w->rings[c->ring] != g ||
        !request_of(w, c)->has_slot) {
        return false;
    }
    return c->state == CONN_CALL || c->state == CONN_SEND ||
           c->state == CONN_DONE || c->state == CONN_ENDING ||
           (c->state == CONN_RAW && is_pass(w, c));
}

static void
forget_call(struct conn *c, struct request *r)
{
    r->has_slot = false;
    r->fd = -1; /* if there is one, nobody names it */
    c->slot = RING_NO_OWNER;
}

/* A request whose head is read again from the input. */
static void
restart(struct conn *c, struct request *r, bool keep_id)
{
    uint64_t id = r->id, began = r->began;

    conn_wipe_request(r);
    if (keep_id) {
        r->id = id;
        r->began = began;
    }
    c->in_pos = 0;
    c->slot = RING_NO_OWNER;
    c->flags &= (uint8_t)~CONN_CLOSE;
}

/* The states after the call: does the slot that the request names still have
 * this owner, and so not go back already? */
static void
check_slot(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    const struct ring *g = &w->rings[c->ring];

    if (r->has_slot && (c->slot >= RING_SLOTS ||
                        !(g->used[c->slot / 64] >> (c->slot % 64) & 1) ||
                        ring_slot_owner(g, c->slot) != i)) {
        r->has_slot = false;
    }
}

/* What the state of connection I does not promise is wiped. */
static void
restore(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    c->flags |= CONN_URGENT; /* whoever knew is dead: read on to the end */
    if (c->state == CONN_FREE || c->seg == ARENA_NONE) {
        return;
    }
    if (c->state == CONN_SHIFT) {
        conn_go_shift(w, c, CONN_IDLE);
    }
    struct request *r = request_of(w, c);
    switch ((enum conn_state)c->state) {
    case CONN_IDLE:
        restart(c, r, false);
        break;
    case CONN_HEAD:
        restart(c, r, true);
        break;
    case CONN_BODY:
        forget_call(c, r);
        if (r->chunked) {
            conn_stepped(c, r);
        }
        break;
    case CONN_WAIT:
        forget_call(c, r);
        r->area = 0;
        break;
    case CONN_QUEUE:
        forget_call(c, r);
        break;
    case CONN_RAW:
        if (!is_pass(w, c)) {
            forget_call(c, r);
        }
        check_slot(w, i);
        break;
    case CONN_CALL:
        r->fd = -1;
        check_slot(w, i);
        break;
    case CONN_SEND:
        check_slot(w, i);
        reply_keep_fd(w, c);
        break;
    case CONN_DONE:
    case CONN_ENDING:
        check_slot(w, i);
        break;
    case CONN_FREE:
    case CONN_LINGER:
    case CONN_SHIFT:
    case CONN_SHUT:
        break;
    }
}

void
settle_shut(struct worker *w)
{
    uint32_t i = w->core->shutting - 1;

    if (i < w->core->n_conns && w->conns[i].state == CONN_SHUT) {
        conn_shut(w, i);
    }
}

void
settle_records(struct worker *w)
{
    for (uint32_t i = 0; i < w->core->top; i++) {
        restore(w, i);
    }
    FOR_EACH_RING (w, g) {
        if (w->rings[g].state != RING_CLOSED) {
            ring_resume(&w->rings[g], is_owned, w);
        }
    }
}

/* ---- calls that were cut ---- */

/* N bytes came at C's target. false: they cannot have. */
static bool
settle_read(struct worker *w, struct conn *c, uint64_t seen)
{
    uint64_t n = seen - c->rx_at;
    const char *at = (const char *)(uintptr_t)c->target;

    if (n > c->target_len) {
        return false;
    }
    c->rx = seen;
    if (n == 0 || c->seg == ARENA_NONE) {
        return true;
    }
    struct request *r = request_of(w, c);
    const struct ring *g = &w->rings[c->ring];
    if (c->state == CONN_IDLE || c->state == CONN_HEAD) {
        c->in_len = (uint32_t)(at - input_of(w, c)) + (uint32_t)n;
    } else if (c->state == CONN_BODY && r->chunked) {
        r->raw_len = (uint32_t)n;
    } else if (c->state == CONN_BODY && g->request) {
        r->body_have = (uint64_t)(at - (char *)ring_at(g, body_off(r))) + n;
    } else if (c->state == CONN_RAW) {
        r->body_have = n;
    }
    return true;
}

/* SEEN bytes were written. false: they cannot have been. */
static bool
settle_written(struct worker *w, struct conn *c, uint64_t seen)
{
    uint64_t n = seen - c->tx;

    if (c->state == CONN_BODY && n <= CONTINUE_LEN) {
        if (n > 0) {
            request_of(w, c)->continued = false;
            c->tx = seen;
        }
        return n == 0 || n == CONTINUE_LEN;
    }
    if (c->state != CONN_SEND) {
        return false;
    }
    struct request *r = request_of(w, c);
    if (n > r->out_len + r->body_len) {
        return false;
    }
    r->sent = n;
    return true;
}

/* A read of a Unix socket that was cut: what was seen lies at its target, and
 * was recorded whole, or not; what of it was not taken is taken. false: it
 * cannot be known. */
static bool
settle_peek(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    char taken[4096];
    int seen = -1;
    socklen_t len = sizeof seen;

    if (getsockopt((int)i, SOL_SOCKET, SO_PEEK_OFF, &seen, &len) < 0 ||
        seen < 0) {
        return c->state == CONN_LINGER;
    }
    if (c->rx == c->rx_at && !settle_read(w, c, c->rx_at + (uint64_t)seen)) {
        return false;
    }
    while (seen > 0) {
        ssize_t n = recv((int)i, taken, MIN_OF((size_t)seen, sizeof taken), 0);
        if (n <= 0) {
            return false;
        }
        seen -= (int)n;
    }
    return true;
}

/* A send on a Unix socket that was cut. Between the call and its record the
 * pipe knows; before and after, the record is right. */
static bool
settle_local(struct worker *w, struct conn *c)
{
    uint64_t written = 0;
    bool good = local_settle(w, &written);

    if (good && w->core->pipe_have > 0) {
        good = settle_written(w, c, c->tx + written);
    }
    KEEP_ORDER();
    local_end(w);
    return good;
}

/* A read or a send that was cut. false: what it did cannot be known. */
static bool
settle_open(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct counters seen;

    /* What happens on a passed connection is the door's; its note, if it was
     * sent without a record, is sent again. */
    if (is_pass(w, c)) {
        return true;
    }
    if (c->family == 0) {
        return c->flags & CONN_SENDING ? settle_local(w, c) : settle_peek(w, i);
    }
    return counters_read((int)i, &seen) &&
           (c->target == 0 || settle_read(w, c, seen.read)) &&
           (!(c->flags & CONN_SENDING) || settle_written(w, c, seen.written));
}

/* The call of I: was it published; was its answer taken, and not used? */
static void
settle_call(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    const struct request *r = request_of(w, c);
    struct ring *g = &w->rings[c->ring];

    if (g->state != RING_READY || !g->request || !r->has_slot) {
        return; /* its calls fail */
    }
    if (r->number == g->pub) {
        ring_publish(g, c->slot);
        w->active[c->ring / 64] |= 1ull << (c->ring % 64);
    } else if (!ring_is_in_flight(g, c->slot)) {
        call_take_answer(w, i);
    }
}

static void
settle(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->target != 0 || (c->flags & CONN_SENDING)) {
        bool good = settle_open(w, i);
        c->target = 0;
        c->flags = (uint8_t)((c->flags & ~CONN_SENDING) | CONN_READABLE);
        if (!good) {
            worker_event(w, LOG_WARN, "settle-failed", NULL, NULL);
            conn_close(w, i);
            return;
        }
    }
    if (c->state == CONN_CALL) {
        settle_call(w, i);
    } else if (c->state == CONN_DONE) {
        conn_finish(w, i);
    } else if (c->state == CONN_ENDING) {
        conn_end(w, i);
    }
}

void
settle_all(struct worker *w)
{
    /* First what is half counted: nothing else may be counted before. */
    for (uint32_t i = 0; i < w->core->top; i++) {
        uint8_t state = w->conns[i].state;
        if (state == CONN_DONE || state == CONN_ENDING) {
            settle(w, i);
        }
    }
    for (uint32_t i = 0; i < w->core->top; i++) {
        if (w->conns[i].state != CONN_FREE) {
            settle(w, i);
        }
    }
}

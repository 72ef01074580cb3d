/* Calls that wait for a thread. A ring holds only as many as a door can take at
 * once; the rest waits here, where it can still be withdrawn, refused and put
 * in another order: clients in turn, and of one client the oldest first, or the
 * newest where the oldest has waited long. After a stall whoever still waits
 * for an answer is served, and not first those who have long given up.
 *
 * What a waiting call is stands in its record (CONN_QUEUE): built, in the
 * ring's memory, with a deadline and without a slot.
 */
#include "front/worker_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "front/counters.h"

/* Published and not claimed, in one ring. A pass may publish as many, so that a
 * door that is quick never has to wait for us. */
#define UNCLAIMED_MAX 64u

/* Who has waited as long is served after those who came later; and whoever ends
 * its half of a connection later than LEFT_NS after its request has left: a
 * client that only says that it has no more to ask says so at once. */
#define STALE_NS (1000 * NS_PER_MS)
#define LEFT_NS  (100 * NS_PER_MS)

#define RETRY_MAX 60u /* s */

static struct queue *
queue_of(const struct worker *w, uint32_t target)
{
    return &w->queues[target];
}

/* How many calls may wait here for TARGET's door: this worker's share. */
static uint32_t
limit(const struct worker *w, uint32_t target)
{
    const struct conf_target *t = &w->conf->targets[target];
    uint64_t all =
        t->kind == CONF_TARGET_MODULE && w->conf->modules[t->module].queue > 0
            ? w->conf->modules[t->module].queue
            : w->conf->queue;
    uint32_t share = (uint32_t)all / (uint32_t)w->setup->n_workers;

    return MAX_OF(share, 1u);
}

/* How many are in the queue of TARGET. That of a door that nobody waits for
 * stays memory never touched: to read it is enough to have it. */
static uint32_t
n_in_queue(const struct worker *w, uint32_t target)
{
    bool some = (w->lines[target / 64] >> (target % 64) & 1) != 0;

    return some ? queue_of(w, target)->n : 0;
}

uint32_t
waiting_n(const struct worker *w, uint32_t target)
{
    return n_in_queue(w, target) +
           (ring_was_used(w, target) ? w->rings[target].n_queued : 0);
}

void
waiting_tell(struct worker *w, uint32_t target)
{
    atomic_store_explicit(&tally_of(w, target)->queued, waiting_n(w, target),
                          memory_order_relaxed);
}

void
waiting_add(struct worker *w, uint32_t i)
{
    uint32_t target = w->conns[i].ring;

    w->core->lines_used[target / 64] |= 1ull << (target % 64);
    KEEP_ORDER(); /* then the queue */
    queue_add(queue_of(w, target), w, i);
    w->lines[target / 64] |= 1ull << (target % 64);
    w->n_waiting++;
    waiting_tell(w, target);
}

static void
left(struct worker *w, uint32_t target)
{
    if (queue_of(w, target)->n == 0) {
        w->lines[target / 64] &= ~(1ull << (target % 64));
    }
    w->n_waiting--;
    waiting_tell(w, target);
}

void
waiting_remove(struct worker *w, uint32_t i)
{
    if (request_of(w, &w->conns[i])->line.is_in) {
        queue_remove(queue_of(w, w->conns[i].ring), w, i);
        left(w, w->conns[i].ring);
    }
}

void
waiting_park(struct worker *w, uint32_t target)
{
    uint64_t bit = 1ull << (target % 64);

    if ((w->core->lines_used[target / 64] & bit) != 0 &&
        (w->lines[target / 64] & bit) == 0) {
        unuse(w, target, w->queues, sizeof *w->queues, w->core->lines_used);
    }
}

void
waiting_forget(struct worker *w)
{
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        struct queue *q = queue_of(w, g);
        bool used = ((w->core->lines_used[g / 64] >> (g % 64)) & 1) != 0;
        if (used && q->n != 0) {
            memset(q, 0, sizeof *q);
        }
        if (tally_is_used(w, g) && tally_of(w, g)->queued != 0) {
            waiting_tell(w, g);
        }
    }
    memset(w->lines, 0, sizeof w->lines);
    w->n_waiting = 0;
}

/* ---- refusals ---- */

/* When it is worth to ask again: when all that wait have had their turn. */
static uint32_t
retry_after(const struct worker *w, uint32_t target)
{
    const struct ring *g = &w->rings[target];
    uint32_t unclaimed = ring_n_unclaimed(g);
    uint32_t busy = ring_in_flight(g);
    uint64_t before = n_in_queue(w, target) + (uint64_t)unclaimed;
    uint64_t run = tally_median(w, target);

    busy = busy > unclaimed ? busy - unclaimed : 1;
    return (uint32_t)MIN_OF(before * run / busy / NS_PER_SEC + 1,
                            (uint64_t)RETRY_MAX);
}

void
waiting_refuse(struct worker *w, uint32_t i, enum reply_cause cause)
{
    char extra[32];

    snprintf(extra, sizeof extra, "Retry-After: %u\r\n",
             retry_after(w, w->conns[i].ring));
    reply_error(w, i, 503, cause, extra);
}

void
waiting_due(struct worker *w, uint32_t i)
{
    call_overdue(w, &w->conns[i]);
    waiting_refuse(w, i, CAUSE_NO_TIME);
}

/* Is what is left until R's deadline less than half of the calls take? */
static bool
has_no_time(const struct worker *w, const struct request *r)
{
    return r->due <= w->now || r->due - w->now < tally_median(w, r->target);
}

/* ---- in and out ---- */

bool
waiting_must(const struct worker *w, uint32_t target)
{
    return w->setup->queue_all || n_in_queue(w, target) > 0 ||
           ring_n_unclaimed(&w->rings[target]) >= UNCLAIMED_MAX;
}

void
waiting_begin(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    const struct ring *g = &w->rings[c->ring];
    uint64_t run = tally_median(w, r->target);

    if (has_no_time(w, r)) {
        waiting_refuse(w, i, CAUSE_NO_TIME);
        return;
    }
    if (n_in_queue(w, c->ring) >= limit(w, c->ring)) {
        waiting_refuse(w, i, CAUSE_FULL);
        return;
    }
    r->number = g->pub + RING_SLOTS; /* no call of the ring is this one */
    r->claims = ring_claims(g);
    conn_enter(c, CONN_QUEUE);
    waiting_add(w, i);
    worker_arm(w, i, r->due - w->now - run);
}

/* Whose turn it is of those that wait for TARGET; QUEUE_NONE: nobody waits. */
static uint32_t
next(const struct worker *w, uint32_t target)
{
    const struct queue *q = queue_of(w, target);
    uint32_t i = queue_oldest(q);

    if (i == QUEUE_NONE) {
        return i;
    }
    const struct request *r = request_of(w, &w->conns[i]);
    return w->now - r->ready > STALE_NS || w->now > r->due ||
                   w->now - r->ready > r->due - w->now
               ? queue_newest(q, w, i)
               : i;
}

static void
go_on(struct worker *w, uint32_t target)
{
    struct queue *q = queue_of(w, target);
    const struct ring *g = &w->rings[target];

    /* Who asks again at once comes again next time. */
    for (uint32_t most = q->n; most > 0 && g->state == RING_READY; most--) {
        uint32_t i = next(w, target);
        if (i == QUEUE_NONE || ring_n_unclaimed(g) >= UNCLAIMED_MAX ||
            g->n_used >= RING_SLOTS) {
            return;
        }
        queue_take(q, w, i);
        left(w, target);
        worker_at(w, i);
        if (has_no_time(w, request_of(w, &w->conns[i]))) {
            waiting_refuse(w, i, CAUSE_NO_TIME);
            conn_go(w, i);
        } else {
            call_publish_now(w, i);
        }
    }
}

void
waiting_go_on(struct worker *w)
{
    for (uint32_t word = 0; word * 64 < w->core->n_rings; word++) {
        for (uint64_t bits = w->lines[word]; bits; bits &= bits - 1) {
            go_on(w, word * 64 + (uint32_t)__builtin_ctzll(bits));
        }
    }
}

bool
waiting_has_left(const struct worker *w, uint32_t i)
{
    const struct conn *c = &w->conns[i];
    const struct request *r;
    uint64_t gap;

    if (c->state != CONN_QUEUE && c->state != CONN_WAIT &&
        c->state != CONN_CALL) {
        return false;
    }
    r = request_of(w, c);
    /* Not by when we come to see it: that may be late, and so was its heir. */
    if (c->family == 0 || !counters_end_gap((int)i, &gap)) {
        gap = w->now - r->began;
    }
    if (r->raw || gap < LEFT_NS) {
        return false;
    }
    return c->state != CONN_CALL ||
           (w->rings[c->ring].state == RING_READY &&
            !ring_was_claimed(&w->rings[c->ring], r->number));
}

/* The worker's rings: one for each door that a route leads to. The door comes
 * from the keeper as a connected descriptor; it is lost when its server hangs
 * up or lies. */
#include "front/worker_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

/* Memory that a ring may keep while nobody uses it: arguments, or large
 * replies. What is above it goes back after some seconds. */
#define FAT_SEGMENTS  1024u
#define FAT_TICKS     3
#define LEAN_SEGMENTS 16u /* and when nothing was called for longer */
#define LEAN_TICKS    10

/* Calls of one worker that may wait for one door. */
#define QUEUE_MAX  1024u
#define QUEUE_TIME (2 * NS_PER_SEC) /* for one that should be there soon */

static const struct conf_module *
module_of(const struct worker *w, uint32_t target)
{
    const struct conf_target *t = &w->conf->targets[target];

    return t->kind == CONF_TARGET_MODULE ? &w->conf->modules[t->module] : NULL;
}

struct ring *
ring_use(struct worker *w, uint32_t target)
{
    struct ring *g = &w->rings[target];

    if (!ring_was_used(w, target)) {
        ring_init(g, (struct ring_tables *)(void *)(w->arena.base +
                                                    w->core->tables_off) +
                         target);
        KEEP_ORDER(); /* cut here, it is made again */
        w->core->rings_used[target / 64] |= 1ull << (target % 64);
    }
    return g;
}

/* A module that is started by its calls may be parked: the keeper knows. */
static void
want(struct worker *w, uint32_t target)
{
    struct ring *g = &w->rings[target];
    const struct conf_module *m = module_of(w, target);
    struct worker_message wanted = {.kind = WORKER_WANTED, .target = target};

    if (m != NULL && m->has_idle && g->state == RING_CLOSED && !g->asked) {
        g->asked = true;
        control_say(w, &wanted);
    }
}

bool
ring_is_coming(const struct worker *w, uint32_t target)
{
    const struct ring *g = &w->rings[target];

    return g->state == RING_GREETING ||
           (g->state == RING_READY && g->draining) ||
           (g->state == RING_CLOSED && !g->absent);
}

void
ring_queue(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    struct ring *g = ring_use(w, c->ring);
    const struct conf_module *m = module_of(w, c->ring);
    uint64_t left;

    if (g->n_queued >= QUEUE_MAX) {
        call_give_up(w, i);
        return;
    }
    g->n_queued++;
    call_is_ready(w, r);
    if (r->due == 0) {
        r->due = w->now + call_timeout(w, r->target);
    }
    left = r->due > w->now ? r->due - w->now : NS_PER_MS;
    c->state = CONN_WAIT;
    worker_arm(w, i,
               m != NULL && m->has_idle ? left : MIN_OF(left, QUEUE_TIME));
    want(w, c->ring);
}

static void
wait_over(struct worker *w, uint32_t target, bool ready)
{
    w->rings[target].n_queued = 0;
    waiting_tell(w, target);
    for (uint32_t i = 0; i < w->core->top; i++) {
        struct conn *c = &w->conns[i];
        if (c->state != CONN_WAIT || c->ring != target) {
            continue;
        }
        if (ready) {
            /* As if the head had just come: it is parsed once more. */
            struct request *r = request_of(w, c);
            c->state = r->raw ? CONN_RAW : CONN_HEAD;
            r->scan = 0;
            c->in_pos = 0;
            conn_go(w, i);
        } else {
            call_give_up(w, i);
            conn_go(w, i);
        }
    }
}

/* In use by a call, or by a body on its way in: that has memory, and no slot
 * yet. */
static bool
is_used(const struct ring *g)
{
    return g->n_used > 0 || g->segments_used > 0;
}

/* Carries which opening it is: an event of the ring before may still be in the
 * same round. */
static uint64_t
ring_data(const struct worker *w, uint32_t target)
{
    return EVENT_DATA(TAG_RING, w->rings[target].epoch & 0xffffff, target);
}

static void
end_ring(struct worker *w, uint32_t target)
{
    struct ring *g = &w->rings[target];
    uint32_t n_queued = g->n_queued; /* those wait for the next one */

    if (g->draining) {
        w->n_draining--;
    }
    epoll_ctl(w->core->epoll, EPOLL_CTL_DEL, g->conn, NULL);
    ring_close(g);
    g->n_queued = n_queued;
    w->active[target / 64] &= ~(1ull << (target % 64));
    tally_in_flight(tally_of(w, target), 0);
    tally_of(w, target)->threads = 0;
}

/* The door's threads, now and at most, where people see them. */
static void
note_threads(struct tally *t, const struct ring *g)
{
    uint32_t now = 0, most = 0;

    ring_threads(g, &now, &most);
    if (t->threads != now || t->threads_high != most) {
        t->threads = now;
        t->threads_high = most;
    }
}

void
rings_look(struct worker *w)
{
    FOR_EACH_RING (w, g) {
        struct tally *t = tally_of(w, g);
        uint32_t unclaimed = ring_n_unclaimed(&w->rings[g]);

        note_threads(t, &w->rings[g]);
        if (t->unclaimed != unclaimed || t->queued != waiting_n(w, g)) {
            t->unclaimed = unclaimed;
            t->queued = waiting_n(w, g);
        }
        uint32_t overdue = ring_n_overdue(&w->rings[g], w->now);
        if (t->overdue != overdue) {
            t->overdue = overdue;
        }
    }
}

bool
ring_is_alive(const struct worker *w, uint32_t target)
{
    const struct ring *g = &w->rings[target];

    return g->state == RING_READY && !door_hung_up(g->conn);
}

void
ring_no_door(struct worker *w, uint32_t target)
{
    struct ring *g = ring_use(w, target);
    struct worker_message lost = {
        .kind = WORKER_DOOR_LOST, .target = target, .cause = WORKER_CAUSE_GONE};

    if (g->state == RING_CLOSED) {
        g->absent = true;
        wait_over(w, target, false);
    }
    control_say(w, &lost);
}

void
ring_take_door(struct worker *w, uint32_t target, int fd)
{
    struct ring *g = ring_use(w, target);

    if (is_used(g) && ring_is_alive(w, target)) {
        close(fd); /* what we have is alive and in use: it stays */
        return;
    }
    if (g->state == RING_GREETING) {
        end_ring(w, target); /* who waits for it waits for this one now */
    } else if (g->state != RING_CLOSED) {
        ring_lost(w, target, 0);
    }
    int e = ring_open(g, fd, w->setup->cpu, NULL);
    if (e == 0) {
        /* Edge-triggered: a wake need not be read to have done its work. */
        e = worker_watch(w, g->conn, EPOLLIN | EPOLLRDHUP | EPOLLET,
                         ring_data(w, target));
        if (e != 0) {
            ring_close(g);
        }
    }
    if (e != 0) {
        ring_no_door(w, target);
    }
}

/* May the call of C, which no longer is in its ring, be made once more? Not
 * taken: it never began. Taken: only a safe method (RFC 9110, 9.2.1), once, and
 * nothing of an answer was sent. A body went with the ring's memory. */
static bool
may_call_again(const struct worker *w, const struct conn *c, bool taken,
               enum worker_cause cause)
{
    const struct request *r = request_of(w, c);
    bool safe = r->method == HTTP_GET || r->method == HTTP_HEAD ||
                r->method == HTTP_OPTIONS;

    return !r->raw && r->body_want == 0 && r->due > w->now &&
           !w->core->stopping && module_of(w, c->ring) != NULL &&
           (!taken || (safe && !r->retried && cause != WORKER_CAUSE_LIED));
}

/* The call of connection I ended with its door. */
static void
fail_call(struct worker *w, uint32_t i, enum worker_cause cause)
{
    struct conn *c = &w->conns[i];
    struct request *r = request_of(w, c);
    bool taken = ring_was_claimed(&w->rings[c->ring], r->number);

    /* A ring that is not mapped here (an heir's) does not say. */
    bool began = taken || w->rings[c->ring].reply == NULL;

    if (may_call_again(w, c, began, cause)) {
        ring_queue(w, i);
        if (c->state == CONN_WAIT) {
            r->retried |= began;
            call_release(w, c);
        }
        conn_go(w, i);
        return;
    }
    call_note_claim(w, c);
    reply_error(w, i, taken ? 502 : 503,
                !taken                       ? CAUSE_NO_DOOR
                : cause == WORKER_CAUSE_LIED ? CAUSE_LIED
                                             : CAUSE_CRASH,
                taken ? NULL : "Retry-After: 1\r\n");
    conn_go(w, i);
}

/* What a connection that waits for this door is answered. */
static void
fail_calls(struct worker *w, uint32_t target, enum worker_cause cause)
{
    for (uint32_t i = 0; i < w->core->top; i++) {
        struct conn *c = &w->conns[i];
        if (c->ring != target || c->seg == ARENA_NONE) {
            continue;
        }
        struct request *r = request_of(w, c);
        if (c->state == CONN_CALL || c->state == CONN_QUEUE) {
            fail_call(w, i, cause);
        } else if (c->state == CONN_BODY) {
            c->flags |= CONN_CLOSE;
            reply_error(w, i, 503, CAUSE_NO_DOOR, "Retry-After: 1\r\n");
            conn_go(w, i);
        } else if (c->state == CONN_RAW) {
            /* A descriptor on its way to the door, or bytes that a worker
             * before us had read: that memory is gone with the ring. */
            raw_fail(w, i, CAUSE_NO_DOOR);
        } else if (c->state == CONN_SEND && r->has_slot) {
            /* The body's memory goes with the ring: what has not left is
             * lost, and the client must see that it was cut. */
            conn_fail(w, i, CAUSE_CRASH);
        }
    }
}

void
ring_lost(struct worker *w, uint32_t target, enum worker_cause cause)
{
    struct ring *g = ring_use(w, target);

    if (g->state == RING_CLOSED) {
        g->absent = true;
        wait_over(w, target, false);
        return;
    }
    if (cause != WORKER_CAUSE_LIED && g->state == RING_READY) {
        /* What was answered before the end is still good. */
        ring_poll(g, call_answered, w);
    }
    g->state = RING_DEAD;
    g->n_queued = 0;
    fail_calls(w, target, cause);
    end_ring(w, target);
    /* A module is started again, and calls wait for it, until the keeper says
     * that it takes longer. */
    g->absent = module_of(w, target) == NULL || w->core->stopping;
    if (g->absent) {
        wait_over(w, target, false);
    }
    if (cause != 0) {
        struct worker_message lost = {
            .kind = WORKER_DOOR_LOST, .target = target, .cause = cause};
        control_say(w, &lost);
    }
}

void
ring_park(struct worker *w, uint32_t target)
{
    struct ring *g = &w->rings[target];
    struct worker_message parked = {.kind = WORKER_DOOR_LOST,
                                    .target = target,
                                    .cause = WORKER_CAUSE_PARKED};

    if (g->state != RING_READY || is_used(g) || module_of(w, target) == NULL) {
        return;
    }
    end_ring(w, target);
    g->absent = false;
    /* Nothing in it counts while the ring is closed. */
    (void)madvise(g->tables, sizeof *g->tables, MADV_REMOVE);
    if (g->n_queued == 0) {
        unuse(w, target, w->rings, sizeof *w->rings, w->core->rings_used);
        waiting_park(w, target);
    }
    control_say(w, &parked);
}

bool
ring_retire(struct worker *w, uint32_t target)
{
    struct ring *g = &w->rings[target];

    if (!ring_was_used(w, target)) {
        return true;
    }
    if (g->state != RING_CLOSED && g->state != RING_DEAD && !is_used(g)) {
        end_ring(w, target);
    }
    return g->state == RING_CLOSED;
}

void
rings_renewed(struct worker *w)
{
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        bool gone =
            g < w->conf->n_targets && w->conf->targets[g].presence != CONF_LIVE;

        if (!gone) {
            continue;
        }
        if (ring_use(w, g)->n_queued > 0) {
            wait_over(w, g, true);
        }
        if (w->rings[g].state == RING_CLOSED) {
            w->rings[g].absent = true;
        }
    }
}

void
ring_drain(struct worker *w, uint32_t target, bool drain)
{
    struct ring *g = &w->rings[target];

    if (g->state != RING_READY || g->draining == drain ||
        module_of(w, target) == NULL) {
        return;
    }
    g->draining = drain;
    if (drain) {
        w->n_draining++;
        return;
    }
    w->n_draining--;
    wait_over(w, target, true);
}

void
rings_drained(struct worker *w)
{
    FOR_EACH_RING (w, g) {
        if (w->rings[g].draining) {
            ring_park(w, g);
        }
    }
}

/* A door that takes no descriptors is told of once it is there, and not only in
 * the line of each connection that it cannot be passed. */
static void
tell_no_descs(struct worker *w, uint32_t target)
{
    const struct conf *conf = w->conf;
    struct worker_message none = {.kind = WORKER_NO_DESCS, .target = target};

    if (w->rings[target].features & DOOR_FEATURE_DESCS) {
        return;
    }
    for (size_t l = 0; l < conf->n_listens; l++) {
        if (conf->listens[l].protocol == CONF_TCP_PASS &&
            (uint32_t)conf->listens[l].routes[0].target == target) {
            control_say(w, &none);
            return;
        }
    }
}

static bool
has_welcome(const struct worker *w, uint32_t target)
{
    return (w->welcomes[target / 64] >> (target % 64) & 1) != 0;
}

void
ring_expect(struct worker *w, uint32_t target)
{
    w->welcomes[target / 64] |= 1ull << (target % 64);
    w->greeted = true;
}

static void
forget_welcome(struct worker *w, uint32_t target)
{
    w->welcomes[target / 64] &= ~(1ull << (target % 64));
}

void
ring_event(struct worker *w, uint32_t target, uint32_t events)
{
    struct ring *g = &w->rings[target];

    if (g->state == RING_GREETING) {
        /* Read in the base frame: its memory must be in the heirs first. */
        ring_expect(w, target);
        return; /* an end that came with it is seen there, too */
    }
    if (events & EPOLLIN) {
        ring_woken(g);
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        ring_lost(w, target, WORKER_CAUSE_GONE);
    }
}

static void
greet(struct worker *w, uint32_t target)
{
    struct ring *g = &w->rings[target];
    int e = ring_greeted(g);

    if (e == 0) {
        w->mapped[target] = g->epoch;
        succession_mapped(w);
        return;
    }
    forget_welcome(w, target);
    if (e != EAGAIN || door_hung_up(g->conn)) {
        ring_lost(w, target,
                  e == EPROTO ? WORKER_CAUSE_LIED : WORKER_CAUSE_GONE);
    }
}

void
rings_greet(struct worker *w)
{
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        if (!has_welcome(w, g)) {
            continue;
        }
        if (w->rings[g].state == RING_GREETING) {
            greet(w, g);
        } else if (w->rings[g].state != RING_READY) {
            forget_welcome(w, g);
        }
    }
}

void
rings_admit(struct worker *w)
{
    w->greeted = false;
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        if (!has_welcome(w, g)) {
            continue;
        }
        forget_welcome(w, g);
        if (w->rings[g].state != RING_READY) {
            continue;
        }
        if (door_hung_up(w->rings[g].conn)) {
            ring_lost(w, g, WORKER_CAUSE_GONE);
        } else {
            tell_no_descs(w, g);
            wait_over(w, g, true);
        }
    }
}

static void
take_answer(void *worker, struct ring *g, uint32_t i, uint32_t slot)
{
    worker_at(worker, i);
    call_answered(worker, g, i, slot);
}

void
rings_flush(struct worker *w)
{
    for (uint32_t word = 0; word * 64 < w->core->n_rings; word++) {
        for (uint64_t bits = w->active[word]; bits; bits &= bits - 1) {
            ring_flush(&w->rings[word * 64 + (uint32_t)__builtin_ctzll(bits)]);
        }
    }
}

uint32_t
rings_poll(struct worker *w)
{
    uint32_t n = 0;

    w->polls_new = true;
    for (uint32_t word = 0; word * 64 < w->core->n_rings; word++) {
        for (uint64_t bits = w->active[word]; bits; bits &= bits - 1) {
            uint32_t g = word * 64 + (uint32_t)__builtin_ctzll(bits);
            uint32_t n_new = ring_poll(&w->rings[g], take_answer, w);
            if (n_new > 0) {
                note_threads(tally_of(w, g), &w->rings[g]);
                n += n_new;
            }
            if (w->rings[g].lied) {
                ring_lost(w, g, WORKER_CAUSE_LIED);
            } else if (!ring_is_busy(&w->rings[g])) {
                w->active[word] &= ~(1ull << (g % 64));
            }
        }
    }
    return n;
}

/* Has more than SEGMENTS, by large bodies or by many calls at once, and nobody
 * uses it? */
static bool
is_above(const struct ring *r, uint32_t segments)
{
    return r->state == RING_READY && !is_used(r) &&
           (r->high_segment > segments ||
            r->high_reply - r->heap_off > segments * RING_SEGMENT);
}

bool
rings_want_tidying(const struct worker *w)
{
    FOR_EACH_RING (w, g) {
        if (w->rings[g].asked || is_above(&w->rings[g], LEAN_SEGMENTS) ||
            w->rings[g].state == RING_GREETING) {
            return true;
        }
    }
    return false;
}

/* Counts the ticks for which RING had too much; true when it is to be made
 * anew. */
static bool
is_to_be_renewed(struct ring *r)
{
    if (r->pub != r->quiet_pub) {
        r->quiet_pub = r->pub;
        r->quiet = 0;
    }
    if (r->n_used > 0) {
        r->ticks = 0;
    }
    if (is_above(r, FAT_SEGMENTS) && ++r->ticks > FAT_TICKS) {
        return true;
    }
    return is_above(r, LEAN_SEGMENTS) && ++r->quiet > LEAN_TICKS;
}

void
rings_slow_tick(struct worker *w)
{
    FOR_EACH_RING (w, g) {
        struct ring *r = &w->rings[g];
        /* A door that never answers the hello holds up nobody for long; and a
         * fat ring is made anew while it is idle, which is how its memory goes
         * back (sealed memory has no holes). */
        if (r->asked && r->state == RING_CLOSED) {
            r->asked = false; /* it may not have been heard */
            if (r->n_queued > 0) {
                want(w, g);
            }
        } else if (r->state == RING_GREETING && ++r->ticks > 5) {
            ring_lost(w, g, WORKER_CAUSE_STUCK);
        } else if (is_to_be_renewed(r)) {
            /* The old one serves until the new connection is here. */
            struct worker_message ask = {.kind = WORKER_DOOR_LOST,
                                         .target = g,
                                         .cause = WORKER_CAUSE_IDLE};
            r->ticks = r->quiet = 0;
            control_say(w, &ask);
        }
    }
}

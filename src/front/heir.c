/* Taking a dead worker's place. What the kernel needs is in the shared
 * descriptor table; what we need is in the arena. Nothing else is trusted:
 * lists, maps and the wheel are made anew from the connection records, which
 * settle.c puts right first. */
#include "front/heir.h"

#include <unistd.h>

#include "front/worker_priv.h"

/* Rings that were opened after the clone are not mapped here, and sealed memory
 * cannot be mapped for writing again: they are given up and opened anew. */
static void
drop_unmapped_rings(struct worker *w)
{
    FOR_EACH_RING (w, g) {
        struct ring *r = &w->rings[g];
        if (r->state == RING_CLOSED || w->mapped[g] == r->epoch) {
            continue;
        }
        r->request = NULL;
        r->reply = NULL;
        r->state = RING_DEAD;
    }
}

static void
lose_dead_rings(struct worker *w)
{
    FOR_EACH_RING (w, g) {
        if (w->rings[g].state == RING_DEAD) {
            ring_lost(w, g, WORKER_CAUSE_HEIR);
        }
    }
}

/* Welcomes may have come, and their edge is gone; or they were read, and nobody
 * who waited was told. */
static void
expect_welcomes(struct worker *w)
{
    FOR_EACH_RING (w, g) {
        if (w->rings[g].state == RING_GREETING ||
            w->rings[g].state == RING_READY) {
            ring_expect(w, g);
        }
    }
}

/* All that has work goes on at once; those that only wait for a request are
 * looked at in slices (worker_pass), in case an edge was lost with the dead. */
static void
go_on_with_work(struct worker *w)
{
    for (uint32_t i = 0; i < w->core->top; i++) {
        struct conn *c = &w->conns[i];
        if (c->state == CONN_FREE || c->state == CONN_IDLE) {
            continue;
        }
        c->flags |= CONN_READABLE;
        worker_at(w, i);
        if (c->state == CONN_SEND) {
            reply_send(w, i);
        }
        conn_go(w, i);
    }
}

static void
say_took_over(struct worker *w, const struct sweep_count *swept)
{
    const uint64_t crowned_at = w->core->succession.crowned_at;
    struct log_line line;

    log_begin(&line, w->world->wall(w->world->ctx), LOG_WARN, "took-over");
    log_num(&line, "worker", (uint64_t)w->setup->index);
    log_num(&line, "pid", (uint64_t)getpid());
    log_num(&line, "connections", w->core->live);
    log_num(&line, "adopted", swept->adopted);
    log_num(&line, "closed", swept->closed);
    log_num(&line, "crowned_ns", crowned_at);
    log_ms(&line, "took_ms", w->world->now(w->world->ctx) - crowned_at);
    log_end(&line, w->setup->log_fd);
}

void
heir_begin(struct worker *w)
{
    struct seat *seat = &w->setup->seats[w->setup->index];

    settle_shut(w); /* before any descriptor is opened or closed */
    w->is_heir = true;
    w->now = w->world->now(w->world->ctx);
    w->core->takeovers++;
    atomic_store_explicit(&seat->pid, (uint32_t)getpid(), memory_order_relaxed);
    atomic_store_explicit(&seat->takeovers, (uint32_t)w->core->takeovers,
                          memory_order_relaxed);
    succession_rebuild(w);
}

void
heir_take_over(struct worker *w)
{
    struct core *core = w->core;
    struct sweep_count swept;

    w->is_heir = false;
    renew_inherit(w);
    control_say_heir(w);
    drop_unmapped_rings(w);
    settle_records(w);
    worker_rebuild(w);
    settle_all(w);
    heir_sweep(w, &swept);
    say_took_over(w, &swept);
    renew_settle(w);
    fault_judge(w);
    lose_dead_rings(w);
    expect_welcomes(w);
    worker_replay(w);
    go_on_with_work(w);
    core->listeners_pending = (uint32_t)((1ull << w->conf->n_listens) - 1);
    control_event(w);
    rings_flush(w);
    rings_poll(w);
}

pid_t
heir_clone(struct worker *w)
{
    pid_t pid = succession_clone(w);

    if (pid == 0) {
        heir_begin(w);
        heir_take_over(w);
    }
    return pid;
}

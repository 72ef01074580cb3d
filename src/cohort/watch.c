/* A worker that stands still holds up all its connections. It writes when it is
 * in a pass and counts its passes, two plain stores; the keeper looks once a
 * second, and not at all while every worker sleeps: one that slept longer says
 * so before its pass. What a worker claims here can only harm itself.
 *
 * In the same pass at two looks: a signal, which ends a wait within a system
 * call (the close of somebody's lingering socket). In it for STUCK_PATIENCE: it
 * is killed like one that died. A worker that a signal stopped stands still as
 * well, wherever it was. One that a debugger holds is left alone: somebody
 * looks at it. Afterwards it has its whole patience again. */
#include "cohort/keeper_priv.h"

#include <stdatomic.h>

#include "base/util.h"
#include "cohort/procs.h"

#define LOOK_GAP       (1 * NS_PER_SEC)
#define STUCK_PATIENCE (5 * NS_PER_SEC)

/* Says once that the process TRACER holds W, which would be killed else. */
static void
tell_traced(struct keeper_worker *w, pid_t tracer)
{
    struct log_line line;

    if (w->told_traced) {
        return;
    }
    w->told_traced = true;
    keeper_log_begin(w->keeper, &line, LOG_WARN, "traced");
    log_num(&line, "worker", (uint64_t)w->index);
    log_num(&line, "pid", (uint64_t)w->unit.pid);
    log_num(&line, "tracer", (uint64_t)tracer);
    keeper_log_end(w->keeper, &line);
}

/* W stands still. True if it must be looked at again. */
static bool
judge(struct keeper_worker *w, uint64_t now)
{
    pid_t tracer = procs_held_by(w->unit.pid);

    if (w->frozen_at == 0) {
        w->frozen_at = w->stopped ? now : now - LOOK_GAP;
    }
    if (tracer == 0 && w->traced) {
        w->frozen_at = now;
    }
    w->traced = tracer != 0;
    if (now - w->frozen_at >= STUCK_PATIENCE) {
        if (!w->traced) {
            worker_end_trust(w, "stuck");
            w->watched = false;
            return false;
        }
        tell_traced(w, tracer);
    }
    if (!w->stopped && !w->traced) {
        worker_poke(w);
    }
    return true;
}

/* Looks at W; true if it must be looked at again. */
static bool
look(struct keeper_worker *w, uint64_t now)
{
    const struct seat *seat = &w->keeper->seats[w->index];
    uint64_t pass = atomic_load_explicit(&seat->pass, memory_order_relaxed);
    bool awake = atomic_load_explicit(&seat->awake, memory_order_relaxed) != 0;
    bool same = w->watched && pass == w->last_pass;

    w->watched = true;
    w->last_pass = pass;
    if (!w->stopped && !(same && awake)) {
        w->frozen_at = 0;
        w->traced = w->told_traced = false;
        return !same || awake;
    }
    return judge(w, now);
}

void
watch_tick(struct keeper *k, uint64_t now)
{
    bool again = false;

    if (k->look_at > now) {
        return;
    }
    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if (w->unit.pid > 0 && w->unit.state != RESTART_KILLED &&
            w->said.fd >= 0) {
            again |= look(w, now);
        }
    }
    k->look_at = again ? now + LOOK_GAP : UINT64_MAX;
}

void
watch_awake(struct keeper_worker *w)
{
    struct keeper *k = w->keeper;

    if (k->look_at == UINT64_MAX) {
        for (int i = 0; i < k->n_workers; i++) {
            k->workers[i].watched = false; /* of long ago */
        }
        k->look_at = keeper_now(k);
    }
}

void
watch_forget(struct keeper_worker *w)
{
    w->watched = w->stopped = false;
    w->traced = w->told_traced = false;
    w->frozen_at = 0;
    atomic_store_explicit(&w->keeper->seats[w->index].awake, 0,
                          memory_order_relaxed);
}

void
watch_stopped(struct keeper *k, pid_t pid, bool stopped)
{
    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if (w->unit.pid == pid) {
            w->stopped = stopped;
            w->frozen_at = 0;
            w->watched = false;
            watch_awake(w);
        }
    }
}

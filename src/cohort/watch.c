/* A worker that stands still holds up all its connections. It writes when it is
 * in a pass and counts its passes, two plain stores; the keeper looks once a
 * second, and not at all while every worker sleeps: one that slept longer says
 * so before its pass. What a worker claims here can only harm itself.
 *
 * In the same pass at two looks: a signal, which ends a wait within a system
 * call (the close of somebody's lingering socket). If that does not help one
 * with heirs, it is killed at the next look, which comes soon, and an heir goes
 * on. One without is in it for STUCK_PATIENCE first, since its connections end
 * with it. A worker that a signal stopped stands still as well, wherever it
 * was. One that a debugger holds is left alone: somebody
 * looks at it. Afterwards it has its whole patience again. */
#include "cohort/keeper_priv.h"

#include <stdatomic.h>

#include "base/util.h"
#include "cohort/procs.h"

#define LOOK_GAP       (1 * NS_PER_SEC)
#define POKE_GAP       (100 * NS_PER_MS) /* until a signal has helped */
#define STUCK_PATIENCE (5 * NS_PER_SEC)  /* without heirs */
#define HEIR_PATIENCE  (1 * NS_PER_SEC)  /* stopped, with heirs */

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

/* As the worker says; who lies is ended without one. */
static bool
has_heirs(const struct keeper_worker *w)
{
    return atomic_load_explicit(&w->keeper->seats[w->index].heirs,
                                memory_order_relaxed) > 0;
}

static void
end(struct keeper_worker *w, uint64_t patience)
{
    if (patience == STUCK_PATIENCE) {
        worker_end_trust(w, "stuck");
    } else {
        worker_replace(w, "stuck");
    }
    w->watched = false;
}

/* W stands still. True if it must be looked at again. */
static bool
judge(struct keeper_worker *w, uint64_t now)
{
    pid_t tracer = procs_held_by(w->unit.pid);
    uint64_t patience = !has_heirs(w) ? STUCK_PATIENCE
                        : w->stopped  ? HEIR_PATIENCE
                                      : LOOK_GAP + POKE_GAP;

    if (w->frozen_at == 0) {
        w->frozen_at = w->stopped ? now : now - LOOK_GAP;
    }
    if (tracer == 0 && w->traced) {
        w->frozen_at = now;
    }
    w->traced = tracer != 0;
    if (now - w->frozen_at >= patience) {
        if (!w->traced) {
            end(w, patience);
            return false;
        }
        tell_traced(w, tracer);
    } else if (patience != STUCK_PATIENCE) {
        w->look_at = w->frozen_at + patience;
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
    bool is_time = k->look_at <= now;
    bool again = false;

    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if (!is_time && w->look_at > now) {
            continue;
        }
        w->look_at = UINT64_MAX;
        if (w->unit.pid > 0 && w->unit.state != RESTART_KILLED &&
            w->said.fd >= 0 && !heirs_wait(w)) {
            again |= look(w, now);
        }
    }
    if (is_time) {
        growth_look(k);
        k->look_at = again ? now + LOOK_GAP : UINT64_MAX;
    }
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

uint64_t
watch_deadline(const struct keeper *k)
{
    uint64_t first = k->look_at;

    for (int i = 0; i < k->n_workers; i++) {
        first = MIN_OF(first, k->workers[i].look_at);
    }
    return first;
}

static void
begin_anew(struct keeper_worker *w)
{
    w->watched = w->stopped = false;
    w->traced = w->told_traced = false;
    w->frozen_at = 0;
    w->look_at = UINT64_MAX;
}

void
watch_passed(struct keeper_worker *w, bool stopped)
{
    begin_anew(w);
    w->stopped = stopped;
    watch_awake(w);
}

void
watch_forget(struct keeper_worker *w)
{
    begin_anew(w);
    atomic_store_explicit(&w->keeper->seats[w->index].awake, 0,
                          memory_order_relaxed);
}

void
watch_stopped(struct keeper *k, pid_t pid, bool stopped)
{
    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if (w->unit.pid == pid && !heirs_wait(w)) {
            w->stopped = stopped;
            w->frozen_at = 0;
            w->watched = false;
            w->look_at = keeper_now(k);
            watch_awake(w);
        }
    }
}

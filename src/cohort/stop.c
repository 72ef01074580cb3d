/* The order of the end: workers first, so that every request they hold still
 * finds its module; then the modules; then whatever these left behind. Each
 * step has a time after which it is killed, so the end always comes. */
#include "cohort/keeper_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/procs.h"

#define WORKER_EXTRA (1 * NS_PER_SEC) /* beyond the grace it was told */
#define MODULE_GRACE (5 * NS_PER_SEC)
#define FORCED_GRACE (500 * NS_PER_MS)
#define ORPHAN_TRIES 200 /* of 10 ms */

static void
stop_worker(struct keeper *k, struct keeper_worker *w, uint64_t grace_ns)
{
    struct worker_message stop = {
        .kind = k->forced ? WORKER_NOW : WORKER_STOP,
        .grace_ns = grace_ns,
    };
    uint64_t patience = k->forced ? FORCED_GRACE : grace_ns + WORKER_EXTRA;
    bool told = w->unit.pid > 0 && worker_send(w, &stop, -1) == 0;

    restart_stop(&w->unit, told ? 0 : SIGTERM, patience, keeper_now(k));
}

void
stop_tell_again(struct keeper_worker *w)
{
    struct keeper *k = w->keeper;
    uint64_t now = keeper_now(k);
    uint64_t left = w->unit.deadline > now ? w->unit.deadline - now : 0;
    struct worker_message stop = {
        .kind = k->forced ? WORKER_NOW : WORKER_STOP,
        .grace_ns = left > WORKER_EXTRA ? left - WORKER_EXTRA : 0,
    };

    if (w->unit.state == RESTART_STOPPING) {
        (void)worker_send(w, &stop, -1); /* else it is killed in time */
    }
}

static void
log_stop(struct keeper *k, const char *cause, uint64_t grace_ns)
{
    struct log_line line;

    keeper_log_begin(k, &line, LOG_INFO, "stop");
    log_text(&line, "cause", cause);
    if (grace_ns != STOP_NO_LIMIT) {
        log_ms(&line, "grace_ms", grace_ns);
    }
    keeper_log_end(k, &line);
}

void
stop_begin(struct keeper *k, const char *cause, uint64_t grace_ns)
{
    if (k->phase != PHASE_RUN) {
        return;
    }
    log_stop(k, cause, grace_ns);
    if (!k->failed || !k->was_ready) { /* else the next keeper starts */
        notify_say(&k->notify, NOTIFY_STOPPING);
    }
    k->phase = PHASE_DRAIN;
    for (int i = 0; i < k->n_workers; i++) {
        stop_worker(k, &k->workers[i], grace_ns);
    }
}

static void
stop_modules(struct keeper *k)
{
    FOR_EACH_MODULE (k, m) {
        restart_stop(&m->unit, SIGTERM, k->forced ? FORCED_GRACE : MODULE_GRACE,
                     keeper_now(k));
    }
}

void
stop_force(struct keeper *k, const char *cause)
{
    if (k->forced) {
        return;
    }
    k->forced = true;
    log_stop(k, cause, 0);
    if (k->phase == PHASE_DRAIN) {
        for (int i = 0; i < k->n_workers; i++) {
            stop_worker(k, &k->workers[i], 0);
        }
    } else if (k->phase == PHASE_MODULES) {
        stop_modules(k);
    }
}

static bool
workers_stopped(const struct keeper *k)
{
    for (int i = 0; i < k->n_workers; i++) {
        if (k->workers[i].unit.state != RESTART_STOPPED) {
            return false;
        }
    }
    return true;
}

static bool
modules_stopped(const struct keeper *k)
{
    FOR_EACH_MODULE (k, m) {
        if (m->unit.state != RESTART_STOPPED) {
            return false;
        }
    }
    return true;
}

void
stop_advance(struct keeper *k)
{
    if (k->phase == PHASE_DRAIN && workers_stopped(k)) {
        k->phase = PHASE_MODULES;
        stop_modules(k);
    }
    if (k->phase == PHASE_MODULES && modules_stopped(k)) {
        k->phase = PHASE_DONE;
    }
}

void
stop_note_end(struct keeper *k, const struct restart *unit, int status,
              bool killed)
{
    bool fine;

    if (unit->state != RESTART_STOPPING && unit->state != RESTART_KILLED) {
        return;
    }
    if (WIFEXITED(status)) {
        fine = WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 128 + SIGTERM;
    } else {
        fine = WTERMSIG(status) == SIGTERM;
    }
    /* One that was seen to crash before was not ended by the stop, however long
     * its end took (a core file is written first). */
    if (killed || (!fine && !unit->doomed)) {
        k->errors = true;
    }
}

int
stop_kill_children(pid_t but)
{
    pid_t pids[PROCS_CHILDREN], self = getpid();
    char tid[16];
    int n_killed = 0;
    uint32_t n;

    snprintf(tid, sizeof(tid), "%d", (int)self);
    n = procs_children(self, tid, pids, ARRAY_LEN(pids));
    for (uint32_t i = 0; i < n; i++) {
        if (pids[i] != but) {
            kill(pids[i], SIGKILL);
            n_killed++;
        }
    }
    return n_killed;
}

void
stop_orphans(void)
{
    for (int i = 0; i < ORPHAN_TRIES; i++) {
        static const struct timespec wait = {0, 10 * 1000 * 1000};
        sigset_t child;
        pid_t pid;

        (void)stop_kill_children(0);
        do {
            pid = waitpid(-1, NULL, WNOHANG);
        } while (pid > 0);
        if (pid < 0) {
            return;
        }
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigtimedwait(&child, NULL, &wait); /* blocked all along */
    }
}

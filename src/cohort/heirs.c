/* A worker's seat: the process that serves, and its heirs, which wait for its
 * death (src/front/heir.h). All of them are our children and one process group,
 * whose number is that of the first process of this life. It is nobody else's
 * while one of them is there, dead and not reaped at the least; so a seat lives
 * as long as its group, and only then is the worker started again.
 *
 *      serves --dies, group empty--> died: back-off, start
 *      serves --dies, group lives--> waits --an heir said so--> serves
 *                                    waits --1 s, or too many--> group killed
 *
 * An heir may say that it has taken over before we see the death of the one
 * before: it is woken at the beginning of that one's exit. It is noted then,
 * and becomes the seat's process once the other is reaped: so each takeover
 * that costs us something has a death that we saw. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/control.h"
#include "cohort/procs.h"

#define HEIR_PATIENCE (1 * NS_PER_SEC)
#define POKE_GAP      (100 * NS_PER_MS)
/* Deaths in a second that end a seat. Who kills by hand or for a test may do so
 * often; a fault that comes back in each heir never ends by itself. */
#define HASTE_MAX     200
#define HASTE_KILLED  1
#define HASTE_FAULT   10

static int
signal_group(const struct keeper_worker *w, int signal)
{
    return w->heirs.group > 0 ? kill(-w->heirs.group, signal) : -1;
}

/* Is one of W's processes there? One that is dead and not reaped is. */
static bool
group_lives(const struct keeper_worker *w)
{
    return w->heirs.group > 0 && (signal_group(w, 0) == 0 || errno == EPERM);
}

bool
heirs_wait(const struct keeper_worker *w)
{
    return w->heirs.empty_at != 0;
}

void
heirs_begin(struct keeper_worker *w, pid_t pid)
{
    struct keeper_heirs *h = &w->heirs;

    h->group = pid;
    h->next = 0;
    h->empty_at = 0;
    h->look_at = UINT64_MAX;
    h->killed = h->told = false;
    h->haste = 0;
    h->looks_spare = 0;
}

int
heirs_kill_all(struct keeper_worker *w, int signal)
{
    if (signal == SIGKILL) {
        w->heirs.killed = true;
    }
    return signal_group(w, signal) < 0 ? -errno : 0;
}

struct keeper_worker *
heirs_find(struct keeper *k, pid_t pid)
{
    pid_t group = getpgid(pid);

    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if ((w->unit.pid == pid && !heirs_wait(w)) ||
            (group > 0 && w->heirs.group == group)) {
            return w;
        }
    }
    return NULL;
}

/* --- Deaths ----------------------------------------------------------- */

static void
log_cause(struct log_line *line, int status)
{
    const struct restart_cause cause = restart_cause_of(status);
    char text[RESTART_CAUSE_MAX];

    restart_cause_text(&cause, text);
    log_text(line, "cause", text);
}

/* Counts a death in W's group by STATUS. true: there are too many. */
static bool
is_too_fast(struct keeper_worker *w, int status, uint64_t now)
{
    struct keeper_heirs *h = &w->heirs;

    if (now - h->second >= NS_PER_SEC) {
        h->second = now;
        h->haste = 0;
    }
    h->haste += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                    ? HASTE_KILLED
                    : HASTE_FAULT;
    return h->haste > HASTE_MAX;
}

/* An heir of W ended. With 0 it was dismissed, or went with its worker. One
 * that served and died before it could say so is seen as an heir too: so each
 * death counts, and the next of a process that serves ends it. */
static void
heir_died(struct keeper_worker *w, pid_t pid, int status, uint64_t now)
{
    struct log_line line;

    if (w->heirs.next == pid) {
        w->heirs.next = 0;
    }
    if (w->heirs.killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        return;
    }
    (void)is_too_fast(w, status, now);
    w->heirs.n_deaths++;
    keeper_log_begin(w->keeper, &line, LOG_WARN, "heir-died");
    log_num(&line, "worker", (uint64_t)w->index);
    log_num(&line, "pid", (uint64_t)pid);
    log_cause(&line, status);
    keeper_log_core(&line, status);
    keeper_log_end(w->keeper, &line);
}

/* The process that served W died, and heirs are there. Once. */
static void
tell_death(struct keeper_worker *w)
{
    struct log_line line;

    if (w->heirs.told) {
        return;
    }
    w->heirs.told = true;
    restart_lost(&w->unit, w->heirs.status);
    keeper_log_begin(w->keeper, &line, LOG_ERROR, "died");
    log_num(&line, "worker", (uint64_t)w->index);
    log_num(&line, "pid", (uint64_t)w->unit.pid);
    keeper_log_cause(&line, &w->unit);
    log_text(&line, "heir", "yes");
    keeper_log_core(&line, w->heirs.status);
    keeper_log_end(w->keeper, &line);
}

/* What the dead process has not answered comes from its heir, or never. */
static void
forget_looks(struct keeper_worker *w)
{
    w->heirs.looks_spare += w->looks_asked - w->looks_done;
    w->looks_asked = w->looks_done = 0;
    control_looked(w->keeper);
}

/* PID serves W now, in the place of a process that was reaped. */
static void
pass_to(struct keeper_worker *w, pid_t pid)
{
    struct keeper_heirs *h = &w->heirs;
    int pidfd = pidfd_open(pid, 0);

    if (pidfd < 0) {
        return; /* dead and reaped: another one will say so, or nobody */
    }
    tell_death(w);
    restart_passed(&w->unit, pid, pidfd);
    h->next = 0;
    h->empty_at = 0;
    h->look_at = UINT64_MAX;
    h->n_takeovers++;
    watch_passed(w, procs_is_stopped(pid));
    forget_looks(w);
    worker_is_ready(w);
    stop_tell_again(w);
    doors_tell_again(w->keeper, w->index);
}

/* The process that served W was reaped, and others of its group were not. */
static void
wait_for_heir(struct keeper_worker *w, uint64_t now)
{
    struct keeper_heirs *h = &w->heirs;

    h->told = false;
    h->empty_at = now;
    h->look_at = h->killed ? UINT64_MAX : now + POKE_GAP;
    if (h->killed) {
        return; /* they follow */
    }
    if (WIFSIGNALED(h->status)) {
        tell_death(w);
    }
    if (is_too_fast(w, h->status, now)) {
        h->look_at = UINT64_MAX;
        worker_end_trust(w, "too-many-deaths");
    } else if (h->next > 0) {
        pass_to(w, h->next);
    }
}

void
heirs_reaped(struct keeper_worker *w, pid_t pid, int status)
{
    struct keeper_heirs *h = &w->heirs;
    uint64_t now = keeper_now(w->keeper);
    bool served = w->unit.pid == pid && !heirs_wait(w);

    if (served) {
        h->status = status;
        h->told = false;
    } else {
        heir_died(w, pid, status, now);
        if (h->empty_at != 0) {
            h->empty_at = now; /* the next one has its whole time */
        }
    }
    if (!group_lives(w)) {
        h->group = 0;
        h->empty_at = 0;
        h->look_at = UINT64_MAX;
        worker_died(w, h->status);
    } else if (served) {
        wait_for_heir(w, now);
    }
}

/* --- What an heir says -------------------------------------------------- */

int
heirs_said(struct keeper_worker *w, uint32_t number)
{
    pid_t pid = (pid_t)number;
    pid_t group;

    if (pid <= 0) {
        return -EPROTO;
    }
    if (pid == w->unit.pid && !heirs_wait(w)) {
        return 0; /* known */
    }
    group = getpgid(pid);
    if (group != w->heirs.group) {
        return group < 0 ? 0 : -EPROTO; /* dead already, or a stranger */
    }
    if (heirs_wait(w)) {
        pass_to(w, pid);
    } else {
        w->heirs.next = pid;
    }
    return 0;
}

bool
heirs_looked(struct keeper_worker *w)
{
    if (w->heirs.looks_spare == 0) {
        return false;
    }
    w->heirs.looks_spare--;
    return true;
}

void
heirs_tick(struct keeper_worker *w, uint64_t now)
{
    struct keeper_heirs *h = &w->heirs;

    if (h->look_at > now) {
        return;
    }
    if (now - h->empty_at >= HEIR_PATIENCE) {
        h->look_at = UINT64_MAX;
        worker_end_trust(w, WIFEXITED(h->status) ? "heirs-left" : "no-heir");
        return;
    }
    /* One that a signal stopped, or that missed the death. */
    (void)signal_group(w, SIGCONT);
    (void)signal_group(w, WORKER_POKE);
    h->look_at = now + POKE_GAP;
}

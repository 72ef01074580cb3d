/* The machine of restart.h. Its invariants:
 *   - pid > 0 exactly in STARTING, RUNNING, PARKING, STOPPING and KILLED;
 *   - between two starts of one version lie at least the back-off of the first
 *     one's end, unless it was parked or recycled;
 *   - in STARTING there is a deadline;
 *   - after restart_stop() there is no start;
 *   - every end and every failed start is counted once, under one cause; where
 *     nobody took the place of a process that was lost, that is one more.
 * restart.dot draws it. */
#include "cohort/restart.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "base/world.h"
#include "module/spawn.h"

#define WAIT_MIN   (20 * NS_PER_MS)
#define WAIT_MAX   (5 * NS_PER_SEC)
#define RAN_WELL   (10 * NS_PER_SEC)
#define KILL_AGAIN (1 * NS_PER_SEC)

uint64_t
backoff_next(struct backoff *backoff, uint64_t ran_ns)
{
    uint64_t wait;

    if (ran_ns >= RAN_WELL || backoff->next == 0) {
        backoff->next = WAIT_MIN;
    }
    wait = backoff->next;
    backoff->next = MIN_OF(wait * 2, WAIT_MAX);
    return wait;
}

static uint64_t
time_after(uint64_t now, uint64_t wait)
{
    return wait > UINT64_MAX - now ? UINT64_MAX : now + wait;
}

static void
count_cause(struct restart *r, enum restart_why why, int code)
{
    for (size_t i = 0; i < r->n_causes; i++) {
        if (r->causes[i].why == why && r->causes[i].code == code) {
            r->causes[i].count++;
            r->last = i;
            return;
        }
    }
    if (r->n_causes >= RESTART_CAUSES - 1 && why != RESTART_OTHER) {
        count_cause(r, RESTART_OTHER, 0);
        return;
    }
    r->causes[r->n_causes] = (struct restart_cause){why, code, 1};
    r->last = r->n_causes++;
    assert(r->n_causes <= RESTART_CAUSES);
}

static void
wait_next(struct restart *r, uint64_t ran_ns, uint64_t now)
{
    r->wait_ns = backoff_next(&r->backoff, ran_ns);
    r->deadline = time_after(now, r->wait_ns);
    r->state = RESTART_WAITING;
}

static enum restart_act
try_start(struct restart *r, uint64_t now)
{
    const struct world *w = r->world;
    int rc = w->spawn(w->ctx, r->plan, &r->pid, &r->pidfd);

    if (rc < 0) {
        r->pid = 0;
        r->pidfd = -1;
        count_cause(r, RESTART_NO_START, -rc);
        wait_next(r, 0, now);
        return RESTART_NOT_STARTED;
    }
    r->state = RESTART_STARTING;
    r->started_at = now;
    r->deadline = time_after(now, r->start_timeout_ns);
    memset(&r->ending, 0, sizeof(r->ending)); /* RESTART_EXIT */
    r->wanted = r->doomed = false;
    r->n_starts++;
    if (r->start_timeout_ns == 0) {
        restart_ready(r);
    }
    return RESTART_STARTED;
}

static void
send_signal(struct restart *r, int signal)
{
    const struct world *w = r->world;

    /* An error means that it is gone; its end will be reported. */
    (void)w->kill(w->ctx, r->pid, r->pidfd, signal, r->group);
}

void
restart_init(struct restart *r, const struct world *world,
             const struct spawn_plan *plan, bool group)
{
    memset(r, 0, sizeof(*r));
    r->world = world;
    r->plan = plan;
    r->group = group;
    r->pidfd = -1;
    r->deadline = UINT64_MAX;
}

enum restart_act
restart_start(struct restart *r, uint64_t now)
{
    assert(r->state == RESTART_IDLE);
    return try_start(r, now);
}

void
restart_ready(struct restart *r)
{
    if (r->state == RESTART_STARTING && r->ending.why == RESTART_EXIT) {
        r->state = RESTART_RUNNING;
        r->deadline = UINT64_MAX;
    }
}

void
restart_version(struct restart *r, uint64_t version, uint64_t now)
{
    if (r->version == version) {
        return;
    }
    r->version = version;
    r->backoff = (struct backoff){0};
    if (r->state == RESTART_WAITING) {
        r->deadline = MIN_OF(r->deadline, now);
    }
}

void
restart_park(struct restart *r, uint64_t grace_ns, uint64_t now)
{
    if (r->state == RESTART_IDLE) {
        r->state = RESTART_PARKED;
    } else if (r->state == RESTART_RUNNING && r->ending.why == RESTART_EXIT) {
        r->state = RESTART_PARKING;
        r->deadline = time_after(now, grace_ns);
        r->ending.why = RESTART_UNUSED;
        send_signal(r, SIGTERM);
    }
}

void
restart_recycle(struct restart *r, enum restart_recycled code,
                uint64_t grace_ns, uint64_t now)
{
    if (r->state == RESTART_RUNNING && r->ending.why == RESTART_EXIT) {
        restart_park(r, grace_ns, now);
        r->ending.why = RESTART_RECYCLED;
        r->ending.code = (int)code;
        r->wanted = true;
    }
}

void
restart_want(struct restart *r, uint64_t now)
{
    if (r->state == RESTART_PARKED) {
        r->state = RESTART_WAITING;
        r->wait_ns = 0;
        r->deadline = now;
    } else if (r->state == RESTART_PARKING) {
        r->wanted = true;
    }
}

bool
restart_is_up(const struct restart *r)
{
    return r->state == RESTART_STARTING || r->state == RESTART_RUNNING;
}

enum restart_act
restart_tick(struct restart *r, uint64_t now)
{
    if (now < r->deadline) {
        return RESTART_NOTHING;
    }
    switch (r->state) {
    case RESTART_WAITING:
        return try_start(r, now);
    case RESTART_STARTING:
        r->deadline = time_after(now, KILL_AGAIN);
        if (r->ending.why == RESTART_EXIT) {
            r->ending.why = RESTART_LATE;
        }
        send_signal(r, SIGKILL);
        return RESTART_TOO_LATE;
    case RESTART_PARKING:
        r->deadline = time_after(now, KILL_AGAIN);
        send_signal(r, SIGKILL);
        return RESTART_KILLING;
    case RESTART_STOPPING:
    case RESTART_KILLED:
        r->state = RESTART_KILLED;
        r->deadline = time_after(now, KILL_AGAIN);
        send_signal(r, SIGKILL);
        return RESTART_KILLING;
    case RESTART_IDLE:
    case RESTART_PARKED:
    case RESTART_RUNNING:
    case RESTART_STOPPED:
        break;
    }
    return RESTART_NOTHING;
}

struct restart_cause
restart_cause_of(int status)
{
    bool by_signal = WIFSIGNALED(status);

    return (struct restart_cause){
        .why = by_signal ? RESTART_SIGNAL : RESTART_EXIT,
        .code = by_signal ? WTERMSIG(status) : WEXITSTATUS(status)};
}

static void
count_status(struct restart *r, int status)
{
    if (r->ending.why != RESTART_EXIT) {
        count_cause(r, r->ending.why, r->ending.code);
    } else {
        struct restart_cause cause = restart_cause_of(status);
        count_cause(r, cause.why, cause.code);
    }
}

void
restart_blame_memory(struct restart *r)
{
    if (restart_is_up(r) && r->ending.why == RESTART_EXIT) {
        r->ending.why = RESTART_MEMORY;
    }
}

void
restart_died(struct restart *r, int status, uint64_t now)
{
    assert(r->pid > 0);
    if (r->pidfd >= 0) {
        close(r->pidfd);
    }
    r->pidfd = -1;
    r->pid = 0;
    count_status(r, status);
    if (r->state == RESTART_STARTING &&
        (r->ending.why == RESTART_EXIT || r->ending.why == RESTART_MEMORY)) {
        r->n_early++;
    }
    if (restart_is_up(r)) {
        wait_next(r, now - r->started_at, now);
    } else if (r->state == RESTART_PARKING) {
        r->state = RESTART_PARKED;
        r->deadline = UINT64_MAX;
        if (r->wanted) {
            restart_want(r, now);
        }
    } else {
        r->state = RESTART_STOPPED;
        r->deadline = UINT64_MAX;
    }
}

void
restart_lost(struct restart *r, int status)
{
    assert(r->pid > 0);
    restart_deinit(r);
    count_status(r, status);
    r->ending.why = RESTART_NO_HEIR;
    r->ending.code = 0;
}

void
restart_passed(struct restart *r, pid_t pid, int take_pidfd)
{
    assert(r->pid > 0 && pid > 0 && r->pidfd < 0);
    r->pid = pid;
    r->pidfd = take_pidfd;
    memset(&r->ending, 0, sizeof(r->ending)); /* RESTART_EXIT */
}

void
restart_stop(struct restart *r, int signal, uint64_t grace_ns, uint64_t now)
{
    uint64_t deadline = time_after(now, grace_ns);

    switch (r->state) {
    case RESTART_IDLE:
    case RESTART_WAITING:
    case RESTART_PARKED:
        r->state = RESTART_STOPPED;
        r->deadline = UINT64_MAX;
        return;
    case RESTART_STARTING:
        r->doomed = true; /* it may be failing its start just now */
        r->state = RESTART_STOPPING;
        memset(&r->ending, 0, sizeof(r->ending)); /* RESTART_EXIT */
        r->deadline = deadline;
        break;
    case RESTART_RUNNING:
    case RESTART_PARKING:
        r->state = RESTART_STOPPING;
        if (r->ending.why != RESTART_NO_HEIR) {       /* counted already */
            memset(&r->ending, 0, sizeof(r->ending)); /* RESTART_EXIT */
        }
        r->deadline = deadline;
        break;
    case RESTART_STOPPING:
        r->deadline = MIN_OF(r->deadline, deadline);
        break;
    case RESTART_KILLED:
    case RESTART_STOPPED:
        return;
    }
    if (signal != 0) {
        send_signal(r, signal);
    }
}

void
restart_replace(struct restart *r, enum restart_why why, int code)
{
    assert(why != RESTART_EXIT);
    if (restart_is_up(r) && r->ending.why == RESTART_EXIT) {
        r->ending.why = why;
        r->ending.code = code;
        r->doomed = true;
        send_signal(r, SIGKILL);
    }
}

void
restart_doom(struct restart *r, bool doomed)
{
    if (restart_is_up(r) && r->ending.why == RESTART_EXIT) {
        r->doomed = doomed;
    }
}

void
restart_deinit(struct restart *r)
{
    if (r->pidfd >= 0) {
        close(r->pidfd);
    }
    r->pidfd = -1;
}

void
restart_cause_text(const struct restart_cause *cause,
                   char out[RESTART_CAUSE_MAX])
{
    const char *name = NULL;

    switch (cause->why) {
    case RESTART_EXIT:
        snprintf(out, RESTART_CAUSE_MAX, "exit-%d", cause->code);
        return;
    case RESTART_SIGNAL:
        name = sigabbrev_np(cause->code);
        snprintf(out, RESTART_CAUSE_MAX, "signal-%s", name ? name : "other");
        return;
    case RESTART_NO_START:
        name = strerrorname_np(cause->code);
        snprintf(out, RESTART_CAUSE_MAX, "no-start-%s", name ? name : "other");
        return;
    case RESTART_REPLACED:
        snprintf(out, RESTART_CAUSE_MAX, "replaced-%d", cause->code);
        return;
    case RESTART_RECYCLED:
        snprintf(out, RESTART_CAUSE_MAX, "recycled-%s",
                 cause->code == RESTART_BY_CALLS    ? "calls"
                 : cause->code == RESTART_BY_MEMORY ? "memory"
                 : cause->code == RESTART_BY_CONF   ? "configuration"
                                                    : "age");
        return;
    case RESTART_LATE:
        name = "late";
        break;
    case RESTART_FROZEN:
        name = "frozen";
        break;
    case RESTART_WEDGED:
        name = "wedged";
        break;
    case RESTART_MEMORY:
        name = "out-of-memory";
        break;
    case RESTART_UNUSED:
        name = "unused";
        break;
    case RESTART_NO_HEIR:
        name = "no-heir";
        break;
    case RESTART_OTHER:
        break;
    }
    snprintf(out, RESTART_CAUSE_MAX, "%s", name ? name : "other");
}

const char *
restart_state_name(enum restart_state state)
{
    static const char *const names[] = {
#define X(id, name) [RESTART_##id] = name,
        RESTART_STATES(X)
#undef X
    };

    return names[state];
}

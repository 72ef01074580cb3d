/* Keeping one process alive, as a machine without a clock of its own: when to
 * start it, how long to wait after it died, why it died how often, and how it
 * is ended. It touches the outside only through struct world. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn_plan;
struct world;

/* Waiting times that double from 20 ms to 5 s. All zero is a fresh one. */
struct backoff {
    uint64_t next; /* ns; 0: the shortest */
};

/* The wait before the next try, after one that went well for RAN_NS (0: it did
 * not begin). One that went well for 10 s starts the series anew. */
uint64_t backoff_next(struct backoff *backoff, uint64_t ran_ns);

#define RESTART_STATES(X)                                                      \
    X(IDLE, "idle")         /* never started */                                \
    X(STARTING, "starting") /* a process; not ready, killed at the deadline */ \
    X(RUNNING, "running")   /* a process that is ready */                      \
    X(WAITING, "waiting")   /* none; the next start is at the deadline */      \
    X(PARKING, "parking")   /* told to end until it is wanted again */         \
    X(PARKED, "parked")     /* none; started when it is wanted */              \
    X(STOPPING, "stopping") /* told to end; killed at the deadline */          \
    X(KILLED, "killed")     /* SIGKILL sent, its end not yet seen */           \
    X(STOPPED, "stopped")   /* none, and never again */

enum restart_state {
#define X(id, name) RESTART_##id,
    RESTART_STATES(X)
#undef X
};

enum restart_why {
    RESTART_EXIT,     /* code: exit status */
    RESTART_SIGNAL,   /* code: signal number */
    RESTART_NO_START, /* code: errno of the start */
    RESTART_REPLACED, /* code: the caller's own; as are all of the next: */
    RESTART_LATE,     /* not ready in time */
    RESTART_FROZEN,   /* stopped by a signal for too long */
    RESTART_WEDGED,   /* took no call and did not compute */
    RESTART_RECYCLED, /* code: enum restart_recycled */
    RESTART_MEMORY,   /* killed by the kernel for want of memory */
    RESTART_UNUSED,   /* ended because nobody called it */
    RESTART_NO_HEIR,  /* it died, and those that were to take its place, too */
    RESTART_OTHER,    /* more kinds than the table holds */
};

/* Why a process was replaced that did nothing wrong. */
enum restart_recycled {
    RESTART_BY_CALLS = 1,
    RESTART_BY_MEMORY,
    RESTART_BY_AGE,
    RESTART_BY_CONF, /* its configuration has changed */
};

struct restart_cause {
    enum restart_why why;
    int code;
    uint64_t count;
};

#define RESTART_CAUSES 16

struct restart {
    const struct world *world;
    const struct spawn_plan *plan; /* borrowed, must outlive this */
    bool group;                    /* signals go to the whole process group */
    enum restart_state state;
    pid_t pid; /* > 0 while there is a process */
    int pidfd; /* owned; -1 without */
    uint64_t started_at;
    uint64_t deadline; /* of the state; UINT64_MAX: none */
    uint64_t wait_ns;  /* the last back-off given */
    uint64_t n_starts; /* that succeeded: also the incarnation's number */
    uint64_t n_early;  /* processes that ended before they were ready */
    uint64_t start_timeout_ns; /* until ready; 0: ready at once */
    uint64_t version; /* of what was started last: the back-off is its own */
    bool wanted;      /* called for while it was being parked */
    bool doomed;      /* no stop is to blame for how it ends */
    struct backoff backoff;
    struct {
        enum restart_why why;
        int code;
    } ending; /* why we killed it; RESTART_EXIT: we did not */
    struct restart_cause causes[RESTART_CAUSES];
    size_t n_causes;
    size_t last; /* index of the latest cause */
};

/* What restart_tick or restart_start did. */
enum restart_act {
    RESTART_NOTHING,
    RESTART_STARTED,     /* pid and pidfd are new */
    RESTART_NOT_STARTED, /* counted; causes[last] says why; waits */
    RESTART_KILLING,     /* the grace is over: SIGKILL was sent */
    RESTART_TOO_LATE,    /* not ready in time: SIGKILL was sent */
};

/* A machine in state IDLE. The caller may then set start_timeout_ns. */
void restart_init(struct restart *r, const struct world *world,
                  const struct spawn_plan *plan, bool group);

/* First start; only in IDLE. STARTED or NOT_STARTED. */
enum restart_act restart_start(struct restart *r, uint64_t now);

/* The process serves: no deadline any more. Nothing but in STARTING. */
void restart_ready(struct restart *r);

/* What would be started is VERSION now, any number that differs between two
 * contents. Another than before has failed never: its first start is due at
 * once, if one is waited for. */
void restart_version(struct restart *r, uint64_t version, uint64_t now);

/* No process until restart_want. In IDLE at once. In RUNNING the process is
 * told by SIGTERM, and killed after GRACE_NS; it ends in PARKED and is counted
 * as unused. Nothing in other states. */
void restart_park(struct restart *r, uint64_t grace_ns, uint64_t now);

/* The same of a process that is replaced for CODE: it is counted as recycled,
 * and the next one is due at its end. */
void restart_recycle(struct restart *r, enum restart_recycled code,
                     uint64_t grace_ns, uint64_t now);

/* Somebody wants the process. In PARKED it is due at once (restart_tick); what
 * is being parked is started again after its end. Nothing in other states. */
void restart_want(struct restart *r, uint64_t now);

/* Is there a process that serves, or is about to? */
bool restart_is_up(const struct restart *r);

/* Does what is due at NOW, which may be earlier or later than the deadline. */
enum restart_act restart_tick(struct restart *r, uint64_t now);

/* The kernel killed the process, which is up, for want of memory: its end, that
 * restart_died tells of next, has that cause, if we did not kill it. */
void restart_blame_memory(struct restart *r);

/* The process ended with wait(2) STATUS and is reaped. Counts the cause, closes
 * the pidfd. The state is then WAITING or STOPPED. */
void restart_died(struct restart *r, int status, uint64_t now);

/* The process ended with wait(2) STATUS and is reaped, but others of its group
 * are there to go on as it. Counts the cause and closes the pidfd; the state
 * stays. Unless restart_passed() follows, restart_died() counts "no-heir". */
void restart_lost(struct restart *r, int status);

/* After restart_lost(): the process PID, of the same group, has gone on as the
 * one that ended. TAKE_PIDFD is owned from now on (-1: none). */
void restart_passed(struct restart *r, pid_t pid, int take_pidfd);

/* End it: SIGNAL is sent (0: the caller told it some other way), SIGKILL after
 * GRACE_NS. Without a process STOPPED at once. A second call may only shorten
 * the grace. Nothing is started ever after. */
void restart_stop(struct restart *r, int signal, uint64_t grace_ns,
                  uint64_t now);

/* Kills the process, which is up, so that it is started anew; WHY with CODE is
 * counted as the cause instead of the signal. The first such call of a life
 * counts. Nothing in other states. */
void restart_replace(struct restart *r, enum restart_why why, int code);

/* The process, if it is up, closed its door (DOOMED), as one does that ends: a
 * stop that comes before its end is reported is not what ended it. Or it has
 * one all the same. */
void restart_doom(struct restart *r, bool doomed);

/* Closes the pidfd. Signals nothing. */
void restart_deinit(struct restart *r);

/* Why a process ended that has STATUS (wait(2)), by that alone; not counted. */
struct restart_cause restart_cause_of(int status);

/* "exit-1", "signal-SEGV", "no-start-ENOENT", "replaced-2", "late", "frozen",
 * "wedged", "out-of-memory", "recycled-age", "unused", "no-heir", "other" in
 * OUT. */
#define RESTART_CAUSE_MAX 40
void restart_cause_text(const struct restart_cause *cause,
                        char out[RESTART_CAUSE_MAX]);
const char *restart_state_name(enum restart_state state);

/* Has nobody called R, so that it has ended, or is about to? */
static inline bool
restart_is_parked(const struct restart *r)
{
    return r->state == RESTART_PARKED || r->state == RESTART_PARKING;
}

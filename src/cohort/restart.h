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
    X(RUNNING, "running")   /* there is a process */                           \
    X(WAITING, "waiting")   /* none; the next start is at the deadline */      \
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
    RESTART_REPLACED, /* code: the caller's own (restart_replace) */
    RESTART_OTHER,    /* more kinds than the table holds */
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
    struct backoff backoff;
    int replace_code; /* nonzero: killed by restart_replace */
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
};

/* A machine in state IDLE. */
void restart_init(struct restart *r, const struct world *world,
                  const struct spawn_plan *plan, bool group);

/* First start; only in IDLE. STARTED or NOT_STARTED. */
enum restart_act restart_start(struct restart *r, uint64_t now);

/* Does what is due at NOW, which may be earlier or later than the deadline. */
enum restart_act restart_tick(struct restart *r, uint64_t now);

/* The process ended with wait(2) STATUS and is reaped. Counts the cause, closes
 * the pidfd. The state is then WAITING or STOPPED. */
void restart_died(struct restart *r, int status, uint64_t now);

/* End it: SIGNAL is sent (0: the caller told it some other way), SIGKILL after
 * GRACE_NS. Without a process STOPPED at once. A second call may only shorten
 * the grace. Nothing is started ever after. */
void restart_stop(struct restart *r, int signal, uint64_t grace_ns,
                  uint64_t now);

/* Kills the running process so that it is started anew; CODE (not 0) is counted
 * as the cause instead of the signal. Nothing in other states. */
void restart_replace(struct restart *r, int code);

/* Closes the pidfd. Signals nothing. */
void restart_deinit(struct restart *r);

/* "exit-1", "signal-SEGV", "no-start-ENOENT", "replaced-2", "other" in OUT. */
#define RESTART_CAUSE_MAX 40
void restart_cause_text(const struct restart_cause *cause,
                        char out[RESTART_CAUSE_MAX]);
const char *restart_state_name(enum restart_state state);

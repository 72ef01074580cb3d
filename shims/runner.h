/* Runs one command: feeds its standard input from memory, collects its standard
 * output, and ends it, with all that it started, at a deadline. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* How often, at most, plan.gone is asked: every 250 ms. */
#define RUNNER_ASK_MS 250

struct limits; /* base/limits.h */

struct runner_plan {
    char *const *argv;  /* looked up in PATH, or below FOLDER if it has a '/' */
    char *const *envp;  /* the whole environment of the command */
    const char *folder; /* working folder; NULL: ours */
    const struct limits *limits; /* bounds of each command; NULL: ours */
    int first_closed; /* the command gets no descriptor from here on; 0: 3 */
    const void *in;   /* standard input; /dev/null if IN_LEN is 0 */
    size_t in_len;
    bool has_fd;     /* FD is standard input and output: no IN, no output */
    int fd;          /* borrowed */
    size_t out_max;  /* more output than this ends the run */
    int64_t time_ns; /* from now until nothing of it lives any more */
    /* Takes what comes on its standard error; NULL: that is ours. */
    void (*err)(void *arg, const char *bytes, size_t len);
    void *err_arg;
    /* Does nobody wait for the answer any more? NULL: somebody always does. */
    int (*gone)(void *arg);
    void *gone_arg;
    /* Holds the process group's number while it may have members, else what it
     * held before: another process may end them after ours. NULL: not told. */
    _Atomic pid_t *group;
};

enum runner_end {
    RUNNER_EXITED, /* by itself: exit_code or signal says how */
    RUNNER_FAILED, /* never ran, or our memory ended: error says why */
    RUNNER_LATE,   /* killed: the time was over */
    RUNNER_GONE,   /* killed: plan.gone said so */
    RUNNER_BIG,    /* killed: more than out_max bytes of output */
};

struct runner_result {
    enum runner_end end;
    int error;     /* errno, with RUNNER_FAILED */
    int exit_code; /* 0 to 255; 0 if a signal ended it */
    int signal;    /* that ended the command, or 0 */
    pid_t pid;     /* the command's; gone, and perhaps another's by now */
    char *out;     /* the output, OUT_LEN bytes; NULL if there is none */
    size_t out_len;
};

/* Runs PLAN to its end; blocks the calling thread, and may be called on many at
 * once. SIGPIPE must be ignored and SIGCHLD at its default in this process, and
 * descriptors 0, 1 and 2 must be open; the command gets default signals and an
 * empty mask. Fills *RESULT, which the caller clears with
 * runner_result_clear().
 *
 * The command leads a process group of its own. When it has exited the rest of
 * the group is killed; at a tenth of the time before its end (200 ms at most),
 * or when nobody waits, the group gets SIGTERM, and at the end SIGKILL. */
void runner_run(const struct runner_plan *plan, struct runner_result *result);

/* Frees what runner_run() put there. */
void runner_result_clear(struct runner_result *result);

/* Whose end a line of a module's standard error tells of: a forked copy's,
 * which only its parent sees, or that of a shim's command, which only the shim
 * does. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Why, as counters name it. */
#define ENDED_WHY(X)                                                           \
    X(DEADLINE, "deadline") /* killed: its call was past its time */           \
    X(LATE, "late")         /* killed: it was not ready in time */             \
    X(FROZEN, "frozen")     /* killed: a signal had stopped it */              \
    X(SIGNAL, "signal")     /* code: the signal's number */                    \
    X(EXIT, "exit")         /* code: its status */

enum ended_why {
#define X(id, name) ENDED_##id,
    ENDED_WHY(X)
#undef X
        ENDED_N
};

struct ended {
    enum ended_why why;
    int code;
    const char *pid; /* digits within the line; NULL: it does not tell */
    size_t pid_len;
    const char *request; /* its id within the line; NULL: none */
    size_t request_len;
};

#define ENDED_CAUSE_MAX 32

/* Reads a line of LEN bytes, as src/door/copies.c and shims/exec.c write it.
 * False: it is none. */
bool ended_parse(const char *line, size_t len, struct ended *ended);

/* The word of the counter; and, with the signal or the status, of the log. */
const char *ended_name(enum ended_why why);
void ended_cause(const struct ended *ended, char out[ENDED_CAUSE_MAX]);

/* The one program behind the shim: started, known to be ready, watched,
 * restarted, ended. */
#pragma once

#include "groups.h"
#include "inherit.h"
#include "pool.h"

#include <stdbool.h>
#include <stdint.h>

enum program_protocol {
    PROGRAM_FASTCGI,
    PROGRAM_SCGI,
    PROGRAM_HTTP,
};

struct program_plan {
    const char *name; /* before each line that is said */
    enum program_protocol protocol;
    char *const *argv;   /* NULL: it runs already, and is not ours */
    const char *folder;  /* NULL: ours */
    const char *address; /* "unix:/path" or "host:port"; NULL: we choose */
    int64_t start_ns;    /* how long it may take to be ready */
    const struct inherit *inherit;
    struct groups *groups;
    struct pool *pool; /* is pointed at each new one */
};

struct program;

/* Is ADDRESS one that program_start() can use? */
bool program_address_is_valid(const char *address);

/* Starts PLAN (which must outlive the process) and waits until it is ready.
 * Must be called by a thread that lives as long as the process, with SIGTERM
 * blocked, which belongs to us: at SIGTERM the program is ended, and the
 * process exits with 0. NULL, after a line on standard error: it did not become
 * ready, and nothing of it is left. */
struct program *program_start(const struct program_plan *plan);

/* Waits until the program is ready, to DEADLINE (monotonic ns) at most. */
bool program_wait(struct program *program, int64_t deadline);

/* A request had no answer in time: if the program is stopped, it is replaced.
 */
void program_suspect(struct program *program);

/* There are idle connections, which somebody has to close one day. */
void program_idle(struct program *program);

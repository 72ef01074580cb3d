/* What the words of the log mean, in sentences for people. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One process of a module, now. */
struct why_copy {
    pid_t pid;
    const char *state; /* what it does; static */
    uint64_t threads, started_s /* since 1970 */, rss_kb;
};

#define WHY_COPIES 256

/* The process PID and its descendants, as many as there is room for, parents
 * before their children. How many. */
size_t why_copies(pid_t pid, struct why_copy copies[WHY_COPIES]);

/* What the cause WORD of a request means; NULL: no sentence is known. */
const char *why_request(const char *word);
/* The same of the end of a process, "signal-SEGV" and so on, and of an event of
 * a module. */
const char *why_end(const char *word);
const char *why_event(const char *word);
/* And of why a process was started. */
const char *why_start(const char *word);

/* The outermost process of a server: process 1 of a container, the main process
 * of a unit. It starts the keeper, and starts it anew when it dies; it reaps
 * what nobody else can, and writes down how each ended. What must outlive a
 * keeper was opened before the first one, and lies with it unread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct conf;
struct keeper_options;
struct reaper;
struct restart; /* cohort/restart.h */

/* Runs CONF (borrowed) with OPTIONS (borrowed), as keeper_run() does, but in a
 * child, below this process. The exit status as there; 3 also if the keeper was
 * killed while it stopped. A status of 1 means a failed start only until the
 * server was ready once: later keepers are started until one can. */
int reaper_run(const struct conf *conf, const struct keeper_options *options);

/* How a process ended that the reaper has reaped. */
struct reaper_end {
    pid_t pid;
    int status; /* of wait(2) */
    uint64_t wall_ns;
    bool was_keeper;
};

#define REAPER_ENDS 64 /* are kept */

/* The latest of them, the last one first, in ENDS; at most N of REAPER_ENDS.
 * Returns how many; *P_ALL: how many there were. */
size_t reaper_ends(const struct reaper *reaper, struct reaper_end *ends,
                   size_t n, uint64_t *p_all);

/* The keeper as the reaper sees it: its counts of deaths by cause. */
const struct restart *reaper_unit(const struct reaper *reaper);

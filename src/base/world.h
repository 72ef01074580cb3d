/* The table of functions through which timers, restarts, rolls and growth
 * touch the outside: clock, network, spawn. It has a real form (world_real.c)
 * and a simulated one (test-world.c), so that a test can run simulated hours in
 * milliseconds. Code that decides WHEN or WHETHER calls only this table. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn_plan; /* module/spawn.h */

struct world {
    void *ctx;
    /* Monotonic nanoseconds; never goes back. */
    uint64_t (*now)(void *ctx);
    /* Wall clock, nanoseconds since 1970 UTC; only for dates that people see.
     */
    uint64_t (*wall)(void *ctx);
    /* Starts a process as PLAN says. 0, *P_PID its number (> 0) and *P_PIDFD a
     * descriptor that the caller owns (-1 where the world has none); or a
     * negative errno. Who is told of its end: the caller, by the pidfd (or by
     * the simulator's event). */
    int (*spawn)(void *ctx, const struct spawn_plan *plan, pid_t *p_pid,
                 int *p_pidfd);
    /* Sends SIGNAL to the process (group true: to its group).
     * 0 or a negative errno (-ESRCH: it is gone). */
    int (*kill)(void *ctx, pid_t pid, int pidfd, int signal, int group);
    /* Sends at most LEN bytes on FD without blocking. The count, or a negative
     * errno (-EAGAIN: full). */
    ssize_t (*send)(void *ctx, int fd, const void *bytes, size_t len);
};

/* The real world: CLOCK_MONOTONIC, CLOCK_REALTIME, kill, send; its spawn gives
 * -ENOSYS (module/spawn.h: spawn_world() is this table with fork and exec).
 * Static storage, never freed. */
const struct world *world_real(void);

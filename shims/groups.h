/* A second process that outlives ours by a moment and kills the process groups
 * that we would otherwise leave behind, however we end. */
#pragma once

#include <stdatomic.h>
#include <sys/types.h>

/* More commands at once than this run without the watch. */
#define GROUPS_MAX 1024

/* Shared with the watching process. 0: free; -1: taken, no group yet; else the
 * number of a process group. */
struct groups {
    _Atomic pid_t group[GROUPS_MAX];
    pid_t watcher; /* the watching process */
};

/* Starts the watching process; must be called before there are threads. The
 * table lives as long as this process. NULL with errno: could not. */
struct groups *groups_start(void);

/* A place in the table that reads -1, to be written by the caller and given
 * back with groups_leave(). NULL: none is free, or GROUPS is NULL. */
_Atomic pid_t *groups_enter(struct groups *groups);

/* NULL is allowed. */
void groups_leave(_Atomic pid_t *place);

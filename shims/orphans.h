/* Processes that a command started and that left its process group: they are
 * found, ended and reaped when no command that they can belong to runs. */
#pragma once

#include "groups.h"

/* Begins. The shim becomes the parent of what its commands leave behind, and
 * the calling thread, which must be the main one, does nothing but reap them;
 * SERVE(ARG) is called on a thread of its own, and what it returns is the exit
 * status of the process. GROUPS is what groups_start() gave. Returns only if
 * the thread cannot be started: 1, with errno. */
int orphans_serve(struct groups *groups, int (*serve)(void *arg), void *arg);

/* Which running command an orphan belongs to says its environment, as far as it
 * kept it. MARK ("NAME=value") stands in the environment of a command that is
 * about to start; the number is for orphans_leave(). -1: too many at once. The
 * string must live until then. */
int orphans_enter(const char *mark);

/* The command of PLACE (-1 is allowed) has ended: ends what it left. */
void orphans_leave(int place);

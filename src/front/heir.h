/* The seam for heirs: a copy of a worker that shares its descriptors and arena,
 * waits for its death and goes on as the worker. See heirs in HACKING.md. */
#pragma once

#include <sys/types.h>

struct worker;

/* Clones an heir of the calling worker, between two passes (descriptor table
 * shared, memory copied, arena shared). In the worker: the heir's pid, or -1
 * with errno. In the heir: 0, once the worker has died and the heir has made
 * its private state anew; it must then enter worker_loop from its base
 * frame. */
pid_t heir_clone(struct worker *w);

/* Makes private state anew from the arena and looks at everything that the dead
 * worker may have left: every connection counts as readable and writable. */
void heir_take_over(struct worker *w);

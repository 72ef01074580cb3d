/* An heir becomes the worker: what the kernel needs is in the shared descriptor
 * table, what we need is in the arena. Who becomes it, and when, is
 * succession.h. See docs/heirs.md. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct worker;

/* The caller has the crown, and nothing else yet: its heirs are counted, and
 * the others are told that it serves. */
void heir_begin(struct worker *w);

/* Makes private state anew from the arena and goes on with all that the dead
 * worker may have left. From then on it is a worker like any other. */
void heir_take_over(struct worker *w);

struct sweep_count {
    uint32_t adopted, closed;
};

/* Takes in, or closes, descriptors that no record names. */
void heir_sweep(struct worker *w, struct sweep_count *count);

/* For tests: succession_clone, and in the heir all that makes it the worker.
 * The heir's pid, -1 with errno, or 0 in the heir. */
pid_t heir_clone(struct worker *w);

/* How many descriptors our processes may have. */
#pragma once

#include <stdint.h>
#include <sys/resource.h>

/* What a worker's table has room for if nobody says otherwise: 100,000
 * connections, should all come to one worker, and its own. */
#define DESCRIPTORS     131072u
#define DESCRIPTORS_MAX 1048576u

/* Less connections a worker than that is worth a warning. */
#define DESCRIPTORS_FEW 8192u

/* The limits to ask for and, if that is refused, those that need no right.
 * GIVEN: those we were started with; NR_OPEN: the kernel's bound. Pure. */
struct descriptors_wish {
    struct rlimit first, second;
};
struct descriptors_wish descriptors_wish(const struct rlimit *given,
                                         uint64_t nr_open);

/* Raises the calling process's limit of descriptors: the soft one as far as it
 * was asked for (its own value, at least DESCRIPTORS), the hard one where that
 * is less and we may. *P_GIVEN: the limits before, for programs that are not
 * ours. The soft limit from now on. */
uint32_t descriptors_raise(struct rlimit *p_given);

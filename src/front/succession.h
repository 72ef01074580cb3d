/* Who serves when a worker dies: its heirs wait on robust words of the arena,
 * and the kernel wakes each of them at the worker's death. One takes the crown
 * by a compare-and-swap and is the worker then. See docs/heirs.md.
 *
 * Only the serving process writes here, but for the crown, which an heir takes
 * from a dead one. The words are robust futexes, held by the serving process:
 * its thread id with FUTEX_WAITERS (set_robust_list(2), and robust-futex-ABI in
 * the kernel's documentation).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/futex.h>

#include "front/worker.h"

struct worker;

/* Twice as many as may be kept: new ones are there before the old ones go. */
#define HEIR_SLOTS (2 * HEIRS_MAX)

/* As the kernel walks it at the death of its holder. */
struct robust_word {
    struct robust_list link;
    _Atomic uint32_t word;
};

enum heir_state {
    HEIR_NONE = 0,
    HEIR_CLONING, /* it may exist or not: never counted on */
    HEIR_READY,
};

struct heir_slot {
    struct robust_word guard; /* this heir sleeps on it */
    _Atomic uint32_t epoch;   /* which heir is meant: all others leave */
    uint32_t state;           /* enum heir_state; the last that is stored */
    int32_t pid, pidfd;
    uint32_t maps; /* succession->maps at its clone */
};

/* In the arena. */
struct succession {
    struct robust_word crown; /* whose it is, serves */
    struct heir_slot slots[HEIR_SLOTS];
    uint32_t next_slot;
    uint32_t maps;         /* how often memory was mapped: an heir that was
                            * cloned before the last time is stale */
    _Atomic uint32_t over; /* the worker leaves in good order: heirs, too */
    int32_t self_fd;       /* pidfd of the process that serves, by itself */
    uint32_t self_tid;     /* whose that is */
    uint64_t cloned_at;    /* ns: when the last heir was made */
    uint64_t crowned_at;   /* ns: when an heir had got the crown */
    uint32_t n_cloned;     /* since the beginning */
};

/* Makes the calling process the one that serves, with no heir yet. */
void succession_begin(struct worker *w);

/* Clones one heir into a free slot; from the base frame only. >0: its pid; -1
 * with errno (ENOSPC: no slot is free). 0: the caller is an heir, and the
 * worker has died: heir_take_over() is due. An heir that is not wanted any more
 * never returns. */
pid_t succession_clone(struct worker *w);

/* Has as many heirs as the setup wants, none of them stale: clones and
 * dismisses. false: the caller is an heir that has become the worker. */
bool succession_tend(struct worker *w);

/* Memory was mapped that the heirs do not have: succession_tend is due. */
void succession_mapped(struct worker *w);

/* An heir's pidfd became readable. GEN: low bits of its slot's epoch. */
void succession_event(struct worker *w, uint32_t slot, uint32_t gen);

/* Puts the records of a dead worker right: the heirs that can be counted on
 * stay and are watched over by the caller from now on. */
void succession_rebuild(struct worker *w);

/* The worker leaves in good order: whoever sleeps leaves when it is gone. */
void succession_end(struct worker *w);

/* Heirs that can be counted on. */
uint32_t succession_count(const struct worker *w);

/* Is FD one of succession's descriptors? */
bool succession_owns(const struct worker *w, int fd);

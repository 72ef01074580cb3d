/* The workers' counters, as the keeper adds them up. A worker may write
 * anything into its own block at any time; what is taken from it is bounded,
 * and hurts nothing but the sums. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "front/worker.h"

/* Plain numbers, of one target or of several together. */
struct tally_sum {
    uint64_t requests;
    uint64_t calls;
    uint64_t answers[4];
    uint64_t run_ns, wait_ns;
    uint64_t wait[HISTOGRAM_N], run[HISTOGRAM_N];
    uint64_t causes[CAUSE_N];
    uint64_t in_flight, unclaimed, queued, overdue;
    uint64_t median_ns;             /* the largest that a worker knows */
    uint32_t threads, threads_high; /* the largest that a worker knows */
};

struct tallies {
    char *memory;  /* shared: STRIDE bytes a worker */
    size_t stride; /* whole pages: others' can be unmapped */
    int n_workers;
    size_t n_blocks;        /* targets, and one more */
    struct tally_sum *base; /* of workers that died, for each block */
    uint64_t *requests;     /* that dead lives of each worker */
};

/* Makes room for N_WORKERS and N_TARGETS. 0 or a negative errno. Memory that
 * nobody counts in is never touched. */
int tallies_init(struct tallies *t, int n_workers, size_t n_targets);
/* Frees all; a zeroed one too. */
void tallies_deinit(struct tallies *t);

/* The table of WORKER, for its setup. */
struct tally_table *tallies_of(const struct tallies *t, int worker);

/* In the worker's process: the others' counters go out of reach. */
void tallies_keep_only(struct tallies *t, int worker);

/* WORKER is dead: its counts join the sums and its block is empty again. */
void tallies_fold(struct tallies *t, int worker);

/* The sum of TARGET (TALLY_NONE: of requests without one) since the start. */
#define TALLY_NONE SIZE_MAX
struct tally_sum tallies_sum(const struct tallies *t, size_t target);
/* Of these few, which is cheaper: the calls so far, the time that their
 * requests waited, ns, and of now the calls in flight and the door's threads.
 * The other fields are not set. */
void tallies_growth(const struct tallies *t, size_t target,
                    struct tally_sum *sum);
/* TARGET's number is to be another's: what the dead counted of it goes. */
void tallies_forget(struct tallies *t, size_t target);
/* Requests that WORKER has answered, in all its lives. */
uint64_t tallies_requests(const struct tallies *t, int worker);

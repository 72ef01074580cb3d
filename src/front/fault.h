/* What a worker was doing when it died, written by itself into the arena: its
 * heir says it in one log line, and gives up a connection that has killed two
 * workers in the same step. See docs/heirs.md. */
#pragma once

#include <stdint.h>

#define FAULT_NOBODY 0xffffffffu

struct worker;

/* A step of one request: what is done again by the next worker after a death in
 * it, and must not be done for ever. */
struct fault_step {
    uint32_t conn; /* FAULT_NOBODY: of no connection */
    uint32_t gen, request;
    uint32_t state; /* enum conn_state */
};

/* In the arena; the last members are written by a signal handler. */
struct fault_report {
    uint32_t at; /* whose work this is: index, or FAULT_NOBODY */
    struct fault_step
        suspect;       /* the last fault was in it; .conn nobody: none */
    uint64_t poisoned; /* connections that were given up */
    int32_t code;      /* si_code */
    uint64_t address;  /* si_addr, of a fault in memory */
    struct fault_step step;
    /* The signal; 0: none. Stored last. A signal that somebody else sent is no
     * fault, and is not written here. */
    volatile int32_t signal;
};

/* Lets SEGV, BUS, ILL, FPE and ABRT write into the arena before they kill. For
 * the calling process and its heirs. */
void fault_watch(struct worker *w);

/* For an heir, once its records are right: says what the dead worker was doing;
 * closes the connection whose request has now killed two in the same step. */
void fault_judge(struct worker *w);

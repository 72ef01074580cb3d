/* Forked copies: what the parent (copies.c) and a copy (copy.c) share. */
#pragma once

#include "door/growth.h"
#include "door/native.h"
#include "door/server.h"

/* What the parent knows of one copy. Its note lies at the same index. */
struct copy {
    pid_t pid; /* 0: none */
    int pidfd;
    bool killed;        /* by us, and told */
    uint32_t n_sources; /* door_server.n_sources when it was made */
    uint64_t started_at;
    uint64_t woken_at;     /* 0, or: since when it is to take a call */
    uint64_t calls;        /* that it had served then */
    struct growth_nap nap; /* in the call after its CALLS */
};

/* How many serve at once, as they count it themselves: the kernel wakes those
 * that wait for a ring's bell in turn, so that few calls keep many of them from
 * being idle for long. */
struct copy_crowd {
    _Atomic int32_t serving; /* about: who is killed may be counted on */
    _Atomic int32_t peak;    /* of that, since the parent last looked */
};

struct copies {
    struct door_copy_hooks hooks;
    struct door_copy_limits limits;
    uint32_t size; /* one more than may serve: it renews a full house */
    struct copy_note *notes;  /* SIZE of them, shared */
    struct copy_crowd *crowd; /* shared */
    uint64_t crowd_since;     /* since when its peak counts */
    uint32_t spare;           /* more than that: they leave one by one */
    struct copy *list;        /* and as many */
    uint32_t n;               /* that live */
    uint64_t calls;           /* of those that have ended */
    struct growth growth;     /* how many there may be */
    uint32_t measured; /* index of the last that was looked at for that */
    uint64_t measured_at;
    int held_us;         /* until the next look, while they compute */
    uint64_t told_at;    /* that there is no memory for more */
    uint64_t look_at;    /* when one may leave, or start again; 0: never */
    uint32_t failures;   /* starts that failed, in a row */
    uint64_t not_before; /* no start before that */
    pid_t pid;           /* the parent's */
};

/* The rest of a new copy's life: serves as NOTE until it is to leave. */
void copy_main(struct copies *copies, struct copy_note *note, uint64_t seed)
    __attribute__((noreturn));

/* Forked copies: what the parent (copies.c) and a copy (copy.c) share. */
#pragma once

#include "door/growth.h"
#include "door/native.h"
#include "door/server.h"

/* What the parent knows of one copy. Its note lies at the same index. */
struct copy {
    pid_t pid; /* 0: none */
    int pidfd;
    uint32_t n_sources; /* door_server.n_sources when it was made */
    uint64_t started_at;
    uint64_t woken_at;     /* 0, or: since when it is to take a call */
    uint64_t calls;        /* that it had served then */
    struct growth_nap nap; /* in the call after its CALLS */
};

struct copies {
    struct door_copy_hooks hooks;
    struct door_copy_limits limits;
    uint32_t size; /* one more than may serve: it renews a full house */
    struct copy_note *notes; /* SIZE of them, shared */
    struct copy *list;       /* and as many */
    uint32_t n;              /* that live */
    uint64_t calls;          /* of those that have ended */
    struct growth growth;    /* how many there may be */
    uint32_t measured;       /* index of the last that was looked at for that */
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

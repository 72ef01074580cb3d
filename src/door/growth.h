/* How many copies (threads, or forked processes) a pool may have, and how long
 * a spare one stays: the rules of growth that both kinds share. docs/growth.md
 * tells why. The clock is the caller's, and so is the lock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "door/room.h"

/* A spare copy leaves after this at the soonest. */
#define GROWTH_QUIET_NS  10000000000ull
/* And after this at the latest, where bursts come again and again. */
#define GROWTH_QUIET_MAX (8 * GROWTH_QUIET_NS)

struct growth {
    uint32_t floor;   /* so many stay */
    uint32_t ceiling; /* at most so many; 0: as many as there is memory for */
    uint64_t size;    /* bytes that one more takes */
    uint64_t quiet_ns;
    uint64_t left_at;      /* when the last one left; 0: none did */
    uint32_t peak;         /* as many as there were in the last burst */
    uint64_t peak_at;      /* when */
    struct room room;      /* as it was at room_at */
    uint64_t room_at;      /* 0: never looked at */
    uint32_t n_since;      /* made since then */
    uint32_t n_waits;      /* looks in a row at which memory held one back */
    const char *room_root; /* room_read() */
};

#define GROWTH_NULL                                                            \
    {                                                                          \
        .floor = 1, .quiet_ns = GROWTH_QUIET_NS, .room_root = ""               \
    }

/* How many more may be made now, of N that live; YOUNG of these are so new that
 * they have yet to take their memory. At least one where there is none. Looks
 * at the machine at most ten times a second. */
uint32_t growth_room(struct growth *g, uint32_t n, uint32_t young,
                     uint64_t now);

/* Of N_CPUS that this process may run on: how many its quota lets it use. Looks
 * at the machine as above. */
uint32_t growth_cpus(struct growth *g, uint32_t n_cpus, uint64_t now);

/* N calls are in copies, or wait: how many copies there should be at once,
 * which is more where it looks like the last burst. */
uint32_t growth_wanted(const struct growth *g, uint32_t n, uint64_t now);

/* How many of N copies are missing to the last burst's, while CALLS look like
 * another: so many more need no proof that they help. */
uint32_t growth_missing(const struct growth *g, uint32_t calls, uint32_t n,
                        uint64_t now);

/* One was made: there are N now. */
void growth_made(struct growth *g, uint32_t n, uint64_t now);

/* One leaves, for it had nothing to do. */
void growth_left(struct growth *g, uint64_t now);

/* A copy that has worked has SIZE bytes for itself. */
void growth_measured(struct growth *g, uint64_t size);

/* One copy that was seen asleep in a call. All zero: none was. */
struct growth_nap {
    uint64_t call, at, ns; /* believed from AT on, for so long */
};

/* Is a copy in its CALL believed to sleep, without another look at it? */
bool growth_sleeps(const struct growth_nap *nap, uint64_t call, uint64_t now);

/* It was looked at. One that sleeps on is believed twice as long each time. */
void growth_saw(struct growth_nap *nap, uint64_t call, bool sleeps,
                uint64_t now);

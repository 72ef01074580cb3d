/* A coarse timer wheel for many records that are nearly always re-armed before
 * they are due. A record's own `due` is the truth; the lists only say where to
 * look, so that re-arming to a later time is one store and the lists can be
 * made anew from the records at any time (an heir does). Pure: time is given.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_SLOTS 256u
#define WHEEL_NONE  0xffffffffu

/* Embedded in each record. All zero: not armed. */
struct wheel_link {
    uint32_t next, prev; /* index + 1; 0: none */
    uint32_t due;        /* tick; 0: not armed */
    uint32_t place;      /* slot + 1 where it is linked; 0: nowhere */
};

struct wheel {
    char *base; /* of the records */
    size_t stride, offset;
    uint32_t tick; /* all due at or before this has been given out */
    uint32_t heads[WHEEL_SLOTS + 1];   /* the last: the list being looked at */
    uint64_t filled[WHEEL_SLOTS / 64]; /* slots with a list */
};

/* Records lie at BASE + i * STRIDE, each with a struct wheel_link at OFFSET.
 * TICK is the present. Links are not touched. */
void wheel_init(struct wheel *w, void *base, size_t stride, size_t offset,
                uint32_t tick);

/* Arms record I for tick DUE (at least one tick ahead of the present). */
void wheel_arm(struct wheel *w, uint32_t i, uint32_t due);

/* I is due no more. Safe if it never was. */
void wheel_disarm(struct wheel *w, uint32_t i);

/* Makes the lists anew from the `due` of record I (call for every record, after
 * wheel_init; what its links say is ignored). */
void wheel_relink(struct wheel *w, uint32_t i);

/* Moves to tick NOW; calls DUE(arg, i), disarmed, for each record whose time
 * has come. DUE may arm and disarm any record. */
typedef void wheel_due(void *arg, uint32_t i);
void wheel_advance(struct wheel *w, uint32_t now, wheel_due *due, void *arg);

/* The first tick at which wheel_advance has something to look at, or WHEEL_NONE
 * if nothing is armed. */
uint32_t wheel_next(const struct wheel *w);

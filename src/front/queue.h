/* Who waits for a door, fairly: one line for each client, told apart by its
 * address, and the lines take turns. A line is linked through the records of
 * its connections; the records are the truth, and an heir makes the lines anew
 * (worker_rebuild). No system call, no memory of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct conn;

#define QUEUE_LINES 256u
#define QUEUE_NONE  UINT32_MAX

/* In each connection's record. */
struct queue_link {
    uint32_t older, newer; /* index, plus one; 0: none */
    uint16_t line;
    uint16_t is_in;
};

struct queue_line {
    uint32_t oldest, newest; /* index, plus one; 0: none */
};

/* One of each door; all zero: nobody waits. */
struct queue {
    uint32_t n;
    uint32_t turn;                   /* the line that is looked at first */
    uint64_t some[QUEUE_LINES / 64]; /* lines that somebody is in */
    struct queue_line lines[QUEUE_LINES];
};

/* Puts connection I of the table CONNS, which is in no line, behind all others
 * of its client. SEED: a number that clients cannot guess, always the same. */
void queue_add(struct queue *q, struct conn *conns, uint32_t i, uint64_t seed);

/* Takes connection I out of its line. */
void queue_remove(struct queue *q, struct conn *conns, uint32_t i);

/* The connection that waits longest in the line whose turn it is, or
 * QUEUE_NONE. It stays there. */
uint32_t queue_oldest(const struct queue *q);

/* The one that came last of all in the line of connection I. */
uint32_t queue_newest(const struct queue *q, const struct conn *conns,
                      uint32_t i);

/* Takes connection I out of its line; the others have their turn first. */
void queue_take(struct queue *q, struct conn *conns, uint32_t i);

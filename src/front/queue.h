/* Who waits for a door, fairly: one line for each client, told apart by its
 * address, and the lines take turns. A line is linked through the requests of
 * those that wait, so an idle connection has nothing of it; the records are the
 * truth, and an heir makes the lines anew (worker_rebuild). No system call, no
 * memory of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct worker;

#define QUEUE_LINES 256u
#define QUEUE_NONE  UINT32_MAX

/* In the request of each connection that waits. */
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

/* Puts connection I of W, which is in no line, behind all others of its client:
 * which line that is nobody can guess who does not know W's seed. */
void queue_add(struct queue *q, struct worker *w, uint32_t i);

/* Takes connection I out of its line. */
void queue_remove(struct queue *q, struct worker *w, uint32_t i);

/* The connection that waits longest in the line whose turn it is, or
 * QUEUE_NONE. It stays there. */
uint32_t queue_oldest(const struct queue *q);

/* The one that came last of all in the line of connection I. */
uint32_t queue_newest(const struct queue *q, const struct worker *w,
                      uint32_t i);

/* Takes connection I out of its line; the others have their turn first. */
void queue_take(struct queue *q, struct worker *w, uint32_t i);

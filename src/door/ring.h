/* The calling side of a door ring, for an event loop: many calls in flight, one
 * wake a pass. Everything that a loop must know of its ring stands in struct
 * ring, which lies in shared memory (a worker's arena), so that an heir finds
 * it; there are no lists, only bit maps that can be made anew. The larger part
 * of it lies apart, in struct ring_tables, and is touched only as far as calls
 * used it: a ring that nobody calls costs its head, some 700 bytes.
 *
 * One call: ring_slot_take, ring_area_take, fill ring_entry(), ring_publish;
 * once a pass ring_flush; when ring_poll gives the slot back, ring_result, send
 * the bytes, ring_slot_give and ring_area_give.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "door/wire.h"

#define RING_ENTRIES_OFF 4096u
#define RING_ORDER_OFF                                                         \
    (RING_ENTRIES_OFF + RING_SLOTS * (uint32_t)sizeof(struct ring_entry))
#define RING_AREA_OFF 0x100000u
#define RING_SIZE     ((size_t)RING_AREA_OFF + RING_AREA)
#define RING_SEGMENTS (RING_AREA / RING_SEGMENT)
#define RING_WAKES    64u /* the socket holds more */
#define RING_NO_OWNER 0xffffffffu

enum ring_state {
    RING_CLOSED = 0,
    RING_GREETING, /* hello sent, no welcome yet */
    RING_READY,
    RING_DEAD, /* hung up or lied; its calls end, then ring_close */
};

/* What a ring knows of a slot, while the slot is used. */
struct ring_slot {
    uint64_t area_off, area_len; /* its segments; 0: none */
    uint64_t fd_cookie;          /* the call that FD came for */
    uint32_t fd; /* came ahead of its answer, plus one; 0: none; all ones: there
                  * was no room for it here */
    uint32_t owner; /* the loop's own word */
};

/* All zero at the beginning. A slot's entry is made when the slot is taken. */
struct ring_tables {
    uint64_t area[RING_SEGMENTS / 64]; /* segments in use */
    struct ring_slot slots[RING_SLOTS];
};

struct ring {
    struct ring_tables *tables; /* the caller's; zeroes when first given */
    uint32_t state;             /* enum ring_state */
    int door_fd, conn, request_fd, reply_fd;
    uint64_t features; /* of the door: DOOR_FEATURE_... */
    uint64_t epoch;    /* which opening this is: tells an heir what it maps */
    struct ring_request *request;
    const struct ring_reply_head *reply;
    uint64_t reply_size;
    uint64_t replies_off;
    uint32_t pub;     /* published so far */
    uint32_t flushed; /* of those, told to the server */
    uint32_t sleep;   /* number of our last sleep */
    uint32_t n_used;
    uint32_t segments_used;
    uint32_t ticks; /* the loop's own, as are the next two: */
    uint32_t quiet; /* for how many ticks nothing was published */
    uint32_t quiet_pub;
    bool lied;         /* the loop's own: an answer could not be */
    bool absent;       /* the loop's own: closed, and no door is on its way */
    bool draining;     /* the loop's own: makes no more calls */
    bool asked;        /* the loop's own: somebody was told that it is wanted */
    uint32_t n_queued; /* the loop's own: calls that began to wait for it */
    uint64_t cookie;
    uint64_t waiting_since; /* when the oldest unclaimed call was seen */
    uint32_t waiting_head;  /* and which it was */
    uint32_t high_segment;  /* highest segment ever used, plus one */
    uint32_t wakes;         /* notes that came since they were last read */
    uint64_t heap_off;      /* where the server's larger replies lie */
    uint64_t high_reply;    /* end of the highest of them so far */
    uint64_t used[RING_SLOTS / 64];      /* slots that somebody has */
    uint64_t in_flight[RING_SLOTS / 64]; /* published, not answered */
    uint64_t seen[RING_SLOTS / 64];      /* the done bits as last seen */
};

/* A ring that was never opened: RING_CLOSED, owning nothing but TABLES, which
 * are the caller's, stay where they are, and hold zeroes. */
void ring_init(struct ring *r, struct ring_tables *tables);

/* Opens a ring on DOOR_FD (taken, also on failure): makes the request memory
 * and says hello. CPU: where the loop runs, -1: anywhere. AT: address for
 * RING_SIZE bytes, or NULL. R: from ring_init or ring_close. The welcome comes
 * on r->conn, which the loop must watch. 0, or an errno (EPIPE: the door is
 * dead; EAGAIN: it is flooded, try later).
 */
int ring_open(struct ring *r, int door_fd, int cpu, void *at);

/* r->conn became readable in state RING_GREETING. 0: ready; EAGAIN: not yet;
 * else an errno, and the ring is dead. EPROTO: the server lies; all others are
 * no fault of its making (EPIPE: it is gone; EMFILE, ENOMEM: we, or it, had no
 * room). */
int ring_greeted(struct ring *r);

/* Closes everything. Its slots are gone with it; it can be opened again. */
void ring_close(struct ring *r);

/* Who takes a dead loop's place puts right what a kill may have torn, before
 * ring_rebuild. IS_OWNED says whether OWNER's own record names SLOT. One that
 * nobody names is free again; if its call was published, its answer is dropped
 * as if it were disowned. Everything that was published is told once more. The
 * two memories are mapped, or r->request and r->reply are NULL. */
typedef bool ring_is_owned(void *arg, const struct ring *r, uint32_t owner,
                           uint32_t slot);
void ring_resume(struct ring *r, ring_is_owned *is_owned, void *arg);

/* Makes the map of segments anew from the slots that are used; then
 * ring_area_claim names what no slot has yet. */
void ring_rebuild(struct ring *r);
void ring_area_claim(struct ring *r, uint64_t off, uint64_t len);

/* A free slot, with OWNER noted; or -1: RING_SLOTS calls are in flight. */
int ring_slot_take(struct ring *r, uint32_t owner);

/* Who that is, while the slot is used. */
static inline uint32_t
ring_slot_owner(const struct ring *r, uint32_t slot)
{
    return r->tables->slots[slot].owner;
}

/* Is the call in SLOT published, and its answer not taken by ring_poll? */
static inline bool
ring_is_in_flight(const struct ring *r, uint32_t slot)
{
    return (r->in_flight[slot / 64] >> (slot % 64) & 1) != 0;
}

/* Nobody waits for what comes of SLOT: it is told to nobody. */
static inline void
ring_slot_disown(struct ring *r, uint32_t slot)
{
    r->tables->slots[slot].owner = RING_NO_OWNER;
}

/* The area belongs to the slot from now on and goes with it. */
void ring_slot_area(struct ring *r, uint32_t slot, uint64_t off, uint64_t len);

/* The reply of this slot is no longer read (also: never published). */
void ring_slot_give(struct ring *r, uint32_t slot);

static inline struct ring_entry *
ring_entry(const struct ring *r, uint32_t slot)
{
    return (struct ring_entry *)((char *)r->request + RING_ENTRIES_OFF) + slot;
}

/* LEN bytes of adjacent segments. The offset from the start of the request
 * memory, or 0: no room. */
uint64_t ring_area_take(struct ring *r, uint64_t len);
void ring_area_give(struct ring *r, uint64_t off, uint64_t len);

static inline void *
ring_at(const struct ring *r, uint64_t off)
{
    return (char *)r->request + off;
}

/* The call in SLOT, which must be published next, brings FD (borrowed): it is
 * sent ahead. Only where r->features has DOOR_FEATURE_DESCS. Said again for the
 * same call, the later one counts. 0; EAGAIN or ETOOMANYREFS: nothing was sent,
 * try again later; else an errno of sendmsg (EPIPE: the server is gone). */
int ring_pass(struct ring *r, uint32_t slot, int fd);

/* The entry is complete: kind, arguments, deadline, request id. Sets generation
 * and cookie. Nobody is told before ring_flush. */
void ring_publish(struct ring *r, uint32_t slot);

/* Tells the server of what was published in this pass: nothing if it is awake,
 * one futex wake if it waits, one message if nobody attends. */
void ring_flush(struct ring *r);

/* Nobody wants this answer any more: the server may skip it, its handler can
 * ask; the server's listening thread is rung, in case the handler is stuck. The
 * slot stays taken until ring_poll gives it back. */
void ring_withdraw(struct ring *r, uint32_t slot);

/* Calls ANSWERED(arg, r, owner, slot) for every call answered since. */
typedef void ring_answered(void *arg, struct ring *r, uint32_t owner,
                           uint32_t slot);
uint32_t ring_poll(struct ring *r, ring_answered *answered, void *arg);

/* r->conn became readable in state RING_READY: the wake has done its work.
 * Reads the notes now and then, before they fill the socket. */
void ring_woken(struct ring *r);

/* Is there an answer that ring_poll would find? */
bool ring_has_answer(const struct ring *r);

/* Before and after the loop blocks. */
void ring_sleep(struct ring *r);
void ring_wake(struct ring *r);

/* Have calls waited, unclaimed, for LIMIT_NS at NOW? Then the server's
 * listening thread is rung, so that it finds them a thread. */
void ring_nudge(struct ring *r, uint64_t now, uint64_t limit_ns);

/* The threads of the server now, and the most that it ever had: its own word,
 * for people to read. false: an older one, which does not tell. */
bool ring_threads(const struct ring *r, uint32_t *p_now, uint32_t *p_most);

/* Calls published and not answered. */
uint32_t ring_in_flight(const struct ring *r);

/* Are there calls published and not answered? (And: not even claimed?) */
bool ring_is_busy(const struct ring *r);
bool ring_is_waiting(const struct ring *r);
/* How many of them were not claimed, by the server's own word. */
uint32_t ring_n_unclaimed(const struct ring *r);
/* How many of those that were claimed nobody waits for, and NOW is past their
 * deadlines: threads that do not come back. */
uint32_t ring_n_overdue(const struct ring *r, uint64_t now);
/* Was the call that was the NUMBERth to be published (r->pub before
 * ring_publish) taken by a thread of the server? */
bool ring_was_claimed(const struct ring *r, uint32_t number);

/* Which thread took the call in SLOT, published at SINCE and not answered: by
 * the server's own word, as gettid(2) says. 0: not told. */
uint32_t ring_taker(const struct ring *r, uint32_t slot, uint64_t since);

/* How many calls the server took so far, by its own word; wraps. */
uint32_t ring_claims(const struct ring *r);

/* An answer, fetched once and checked. */
struct ring_result {
    int error; /* an errno of the server's, 0: answered */
    uint32_t status;
    const char *head, *data; /* in the reply memory: hostile, may change */
    uint64_t head_len, data_len;
    int fd; /* the body instead of data; the slot's, until ring_fd_taken. -1:
             * none */
    uint64_t fd_offset;
    uint64_t began; /* by its own word, CLOCK_MONOTONIC ns; 0: not told */
    uint32_t taker; /* the same of the thread, as gettid(2) says; 0: not told */
};

/* 0, or EPROTO: it lies (lengths, generation, cookie), or the descriptor that
 * it promised is not there. result->error is EMFILE, and nothing else of the
 * answer to be used, where it came and our own table had no room for it. */
int ring_result(struct ring *r, uint32_t slot, struct ring_result *result);

/* The descriptor in SLOT is the caller's from now on: it is no longer closed
 * with the slot. */
void ring_fd_taken(struct ring *r, uint32_t slot);

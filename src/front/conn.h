/* A connection's record and the request it is answering. The record is all that
 * an idle connection costs; a request lives at the start of the segment that
 * was taken when its first bytes came. Both lie in the arena and are the truth:
 * every list is made from them.
 *
 * A kill can fall between any two stores. So each change of a connection has
 * one store that makes it, nearly always that of the state (conn_enter): what
 * is stored before it counts for nothing until then, and what is done after it
 * can be done again. Which store that is, for each state: docs/heirs.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "front/queue.h"
#include "http/chunk.h"
#include "http/http.h"
#include "loop/arena.h"
#include "loop/wheel.h"

enum conn_state {
    CONN_FREE = 0,
    CONN_IDLE,   /* no byte of a request yet: no segment */
    CONN_HEAD,   /* part of a head is there */
    CONN_BODY,   /* the head is understood, its body arrives */
    CONN_WAIT,   /* complete; the door is on its way */
    CONN_QUEUE,  /* built; waits for a thread that takes it */
    CONN_CALL,   /* published: slot names the call */
    CONN_SEND,   /* the reply is leaving */
    CONN_LINGER, /* answered early: what still comes is dropped, then close */
    CONN_RAW,    /* forward tcp: nothing read, or passed, yet */
    CONN_DONE,   /* the reply has left: what it used is given back */
    CONN_SHIFT,  /* the rest of the input moves to its start */
    CONN_ENDING, /* all that it has is given back */
    CONN_SHUT,   /* only its descriptor is left, or not even that */
};

enum conn_flags {
    CONN_READABLE = 1, /* there may be more to read than we took */
    CONN_HALF = 2,     /* the client sends no more */
    CONN_GONE = 4,     /* the client is gone */
    CONN_CLOSE = 8,    /* close when the reply has left */
    CONN_AGAIN = 16,   /* had its share; goes on in the next pass */
    CONN_SENDING = 32, /* within a send: what left is not recorded yet */
    CONN_URGENT = 64,  /* an urgent byte came: a read may end before it */
};

struct conn { /* its index is its descriptor */
    uint8_t state, flags;
    uint8_t listener;
    uint8_t family; /* 4, 6, 0 */
    uint16_t peer_port;
    uint16_t ring;    /* target, in BODY, WAIT, QUEUE and CALL */
    uint32_t gen;     /* which use of this descriptor: in the epoll data */
    uint32_t seg;     /* input and request; ARENA_NONE */
    uint32_t out_seg; /* a reply head too long for seg; ARENA_NONE */
    uint32_t slot;    /* in CALL, and in SEND while the body is the door's */
    struct wheel_link timer;
    uint8_t peer[16];
    /* Bytes read; and when the read in progress began. Bytes written before the
     * reply that is in SEND. What the kernel's counters say more is what that
     * read, or that reply, moved. */
    uint64_t rx, rx_at, tx;
    /* Where a read in progress puts its bytes: address (the same in every
     * heir) and length; 0: none is in progress. */
    uint64_t target;
    uint32_t target_len;
    uint32_t in_pos, in_len; /* in the input: parsed, arrived */
    uint32_t rest, moved;    /* in SHIFT: to move from in_pos on, and done */
    uint32_t requests;
};
_Static_assert(sizeof(struct conn) <= 128, "an idle connection is one record");

/* What stands before the input in a segment. */
#define REQUEST_ROOM 512u
#define OUT_ROOM     1024u
#define INPUT_AT     (REQUEST_ROOM + OUT_ROOM)

/* How far a chunked body was decoded. There are two, so that a step is made by
 * one store that says which of them counts. */
struct body_step {
    struct http_chunk chunk;
    uint64_t have;   /* decoded bytes */
    uint32_t in_pos; /* of the input */
    bool whole;
};

enum request_log {
    LOG_NOT_YET = 0,
    LOG_DUE, /* a line is written when it ends */
    LOG_DONE,
};

struct request {
    uint64_t id;
    uint64_t began, body_began, called, answered; /* ns */
    uint64_t ready; /* ns: nothing but a free thread was missing; 0: not yet */
    uint64_t started; /* ns: a thread took the call that was answered */
    uint32_t scan;    /* how far the head's end was searched */
    uint32_t target;
    uint16_t status;
    uint8_t method, minor;
    bool head_only, wants_json, chunked, continued, parsed, routed, has_slot;
    bool raw;                                /* of forward tcp */
    bool retried;                            /* called once more */
    bool passed, handed;                     /* sent to the door; it alone */
    bool cut;                                /* reset when it is closed */
    uint8_t log;                             /* enum request_log */
    uint8_t tries;                           /* to send it */
    uint8_t cause;                           /* enum reply_cause, for the log */
    uint16_t error;                          /* errno with it; 0: none */
    struct http_span method_name, uri, host; /* in the input */
    struct queue_link line;                  /* in QUEUE */
    uint64_t trace[2];                       /* of calls: trace.c */
    uint8_t trace_flags;
    bool keeps_state; /* the client's own, with what it says of it */
    uint32_t head_len;
    uint32_t number; /* of the call, as it was published */
    uint32_t claims; /* and how many the door had taken then */
    uint32_t taker;  /* the thread that took it, as its door says; 0: unknown */
    uint64_t due;    /* the call's deadline; 0: not in a queue yet */
    /* The body on its way in. */
    uint64_t area;      /* in the ring's memory, see area_off(); 0: none */
    uint64_t args_len;  /* from the area's start */
    uint64_t body_at;   /* from there, too, as is the next: */
    uint64_t length_at; /* where a chunked body's length is to be written */
    uint64_t body_have, body_want;
    struct body_step steps[2]; /* of a chunked body */
    uint8_t step;              /* which of them counts */
    uint8_t raw_step;          /* the step that RAW_LEN bytes wait for */
    uint32_t raw_len;          /* read and not decoded, at raw_at() */
    uint32_t kind;             /* enum ring_kind */
    /* The reply on its way out. */
    uint32_t out_len;
    const char *body;
    uint64_t body_len;
    int fd; /* in SEND and DONE: the body's, or -1 */
    uint64_t fd_off;
    uint64_t sent;      /* of head and body: the one record of a send */
    uint64_t tx_before; /* the connection's tx, when it began */
};
_Static_assert(sizeof(struct request) <= REQUEST_ROOM, "fits before the input");

/* C is in STATE from here on: all stores before count now. */
static inline void
conn_enter(struct conn *c, enum conn_state state)
{
    KEEP_ORDER();
    c->state = (uint8_t)state;
    KEEP_ORDER();
}

/* An area of a ring's memory in one word, so that it changes by one store. */
static inline uint64_t
area_of(uint64_t off, uint64_t len)
{
    return off << 32 | len;
}

static inline uint64_t
area_off(const struct request *r)
{
    return r->area >> 32;
}

static inline uint64_t
area_len(const struct request *r)
{
    return r->area & UINT32_MAX;
}

static inline uint64_t
body_off(const struct request *r)
{
    return area_off(r) + r->body_at;
}

/* Of the reply: what of its head, and of its body, has left. */
static inline uint32_t
out_pos(const struct request *r)
{
    return (uint32_t)MIN_OF(r->sent, (uint64_t)r->out_len);
}

static inline uint64_t
body_pos(const struct request *r)
{
    return r->sent - out_pos(r);
}

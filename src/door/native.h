/* Doors whose procedure works in the caller's memory and in its reply memory,
 * without copies: what cardea.h stands on. Such a door is served by ring; a
 * channel call to it fails with ENOTSUP. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "door/wire.h"

struct call;

/* One call. What lies in args and body belongs to the caller and may change at
 * any time: fetch once, check, use the copy (bytes that are merely passed on
 * need no copy). */
struct door_task {
    const uint8_t *args, *body;
    uint64_t args_len, body_len;
    uint64_t deadline; /* CLOCK_MONOTONIC ns */
    uint64_t request_id;
    uint32_t kind; /* enum ring_kind */

    /* The answer, filled by the procedure before it returns. */
    uint8_t *room; /* reply memory to write in place */
    size_t room_size;
    size_t head_off, head_len; /* within room */
    size_t body_at, body_size; /* within room */
    uint32_t status;
    int error; /* an errno instead of an answer */

    struct call *call; /* libdoor's own */
};

typedef void door_native_procedure(void *cookie, struct door_task *task);

/* Like door_create for a native procedure; FEATURES are told to callers. Starts
 * no thread: the caller's own thread serves when it calls door_native_serve.
 * The door's descriptor, or -1 with errno as door_create. */
int door_create_native(door_native_procedure *procedure, void *cookie,
                       unsigned int attributes, uint64_t features);

/* Makes the calling thread one of the server threads. Does not return. */
void door_native_serve(void) __attribute__((noreturn));

/* Makes task->room at least WANT bytes, keeping the first USED bytes. 0, or
 * ENOBUFS: the reply memory has no such run. */
int door_task_grow(struct door_task *task, size_t used, size_t want);

/* Has the caller withdrawn the call? (Client gone, time over.) */
bool door_task_withdrawn(const struct door_task *task);

/* The body will be LENGTH bytes of FD from OFFSET. FD is borrowed. 0 or an
 * errno. */
int door_task_send_fd(struct door_task *task, int fd, uint64_t offset,
                      uint64_t length);

/* What the call that the calling thread serves is part of, native or not, by
 * channel or by ring. false, and all zero: it serves none, or one that says
 * nothing. */
bool door_context(struct door_context *context);

/* Has whoever made the call that the calling thread serves withdrawn it, or
 * gone? */
bool door_context_gone(void);

/* Does the calling thread serve a call of a door that is not native? */
bool door_context_plain(void);

/* What a program whose calls are served by forked copies may add. Each may be
 * NULL; all get ARG. */
struct door_copy_hooks {
    void (*before_fork)(void *arg); /* in the parent */
    void (*after_fork)(void *arg);  /* in the parent */
    int (*start)(void *arg);        /* in the copy; not 0: it cannot serve */
    void (*end)(void *arg);         /* in the copy that leaves */
    void *arg;
};

/* How many copies, and how long each lives. 0: no bound, or the usual one. */
struct door_copy_limits {
    uint32_t most;          /* copies at once; 1000, or what fits */
    uint32_t floor;         /* that stay without calls; 1 */
    bool to_none;           /* none stays: FLOOR is 0, and means it */
    uint64_t start_ns;      /* until `start` has returned; 30 s */
    uint64_t calls, age_ns; /* of one copy, up to a tenth more or less */
    uint64_t memory;        /* bytes resident */
    const char *output;     /* path, outlives all: copy_output_ask(); or NULL */
};

/* Says that calls will be served by copies: before the door is made, and while
 * the process has one thread. 0, or an errno: EBUSY (a door was made before, or
 * there are more threads), ENOMEM. */
int door_copies_prepare(const struct door_copy_hooks *hooks,
                        const struct door_copy_limits *limits);

/* How many threads serve: at least FLOOR, once the program serves, and at most
 * MOST at once (0: as many as there is memory for). Before the first door. */
void door_native_threads(uint32_t floor, uint32_t most);

/* Native calls are served by the thread that calls door_native_serve(), one at
 * a time: for a handler that is not safe with threads, in a program that has
 * some and so cannot be forked. */
void door_native_single(void);

/* Makes the calling thread, the only one, the parent of copies: it forks one
 * when a call has waited and no copy is free, and serves no call itself. Copies
 * are made by fork(2) and answer calls of every ring. Returns only on failure:
 * an errno. */
int door_copies_serve(void);

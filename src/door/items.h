/* What the listening thread watches, one item an epoll entry: the list of them,
 * and what comes to sources. hello.c has the rest of the events. */
#pragma once

#include "door/server.h"

/* What an epoll event names. */
enum item_kind {
    ITEM_KICK,
    ITEM_DOOR,
    ITEM_LISTENER,
    ITEM_SOURCE,
    ITEM_NAMES,
    ITEM_COPY
};

struct item {
    struct item *next, *prev; /* all of them, for the child of a fork */
    enum item_kind kind;
    bool proved; /* of a connection through a file: it may open the file */
    bool is_strangers; /* a connection by name: neither root's nor our user's */
    bool greeted;      /* it has said a hello */
    bool counted;      /* it is one of its door's descriptions */
    uid_t uid;         /* with is_strangers: whose */
    uint64_t until;    /* with is_strangers: gone then unless greeted */
    int fd;
    struct door *door;
    struct source *src;
    struct name_listener *listener;
};

/* All of them: the listening thread's and the lock's. */
extern struct item *all_items;

/* Watches FD for EVENTS, as a copy of LIKE. 0 or an errno. Lock held. */
int item_add(enum item_kind kind, int fd, struct item *like, uint32_t events);
/* Out of epoll and the list, and freed. The descriptor stays the caller's. Lock
 * held. */
void item_remove(struct item *item);
/* The same, and closes the descriptor. Lock not held. */
void item_drop(struct item *item);
/* Frees listeners that were removed. Lock held; by the listening thread between
 * two rounds of events, when no event names them. */
void items_sweep_locked(void);

/* ---- hello.c ---- */

/* A message or the end of a connection that hellos come on. */
void hello_event(struct item *item);
/* Somebody connects by name. */
void hello_listener_event(struct item *item);
/* Microseconds that the listening thread may sleep, -1 without end: at most US,
 * and less if listeners rest for want of room and must be asked again, or if a
 * silent connection is to be dropped. What is due is done. */
int hello_timers(int us);

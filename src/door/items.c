/* The list of what the listening thread watches. See items.h. */
#include "door/items.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* How often the set is asked to let a descriptor go. */
#define REMOVE_TRIES 100

struct item *all_items;

int
item_add(enum item_kind kind, int fd, struct item *like, uint32_t events)
{
    struct item *item = malloc(sizeof *item);

    if (!item) {
        return ENOMEM;
    }
    *item = *like;
    item->kind = kind;
    item->fd = fd;
    struct epoll_event ev = {.events = events, .data.ptr = item};
    if (epoll_ctl(door_server.epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        int e = errno;
        free(item);
        return e;
    }
    item->prev = NULL;
    item->next = all_items;
    if (item->next) {
        item->next->prev = item;
    }
    all_items = item;
    if (item->door) {
        door_ref(item->door);
    }
    return 0;
}

void
item_remove(struct item *item)
{
    /* What is freed must not be in the set; its descriptor may be closed much
     * later. epoll_ctl(2) has ENOMEM for every operation; ENOENT and EBADF say
     * that it is not there. */
    for (int i = 0; i < REMOVE_TRIES; i++) {
        if (epoll_ctl(door_server.epoll, EPOLL_CTL_DEL, item->fd, NULL) == 0 ||
            errno == ENOENT || errno == EBADF) {
            break;
        }
    }
    if (item->prev) {
        item->prev->next = item->next;
    } else {
        all_items = item->next;
    }
    if (item->next) {
        item->next->prev = item->prev;
    }
    if (item->counted) {
        item->door->n_descriptions--;
        unref_check_locked(item->door);
    }
    door_unref(item->door);
    free(item);
}

int
server_add_door_locked(struct door *door, int fd)
{
    struct item like = {.door = door, .counted = true};
    int e = item_add(ITEM_DOOR, fd, &like, EPOLLIN | EPOLLRDHUP);

    door->n_descriptions += e == 0;
    return e;
}

int
server_add_listener_locked(struct name_listener *listener, int fd)
{
    struct item like = {.listener = listener};

    return item_add(ITEM_LISTENER, fd, &like, EPOLLIN);
}

int
server_add_names_locked(int fd)
{
    struct item like = {0};

    return item_add(ITEM_NAMES, fd, &like, EPOLLIN);
}

void
server_remove_listener_locked(struct name_listener *listener)
{
    for (struct item *i = all_items, *next; i; i = next) {
        next = i->next;
        if (i->listener != listener) {
            continue;
        }
        i->listener = NULL;
        if (i->kind == ITEM_LISTENER) {
            /* The item itself stays until the end of the round of events that
             * this may be running inside of. */
            epoll_ctl(door_server.epoll, EPOLL_CTL_DEL, i->fd, NULL);
            close(i->fd);
            i->fd = -1;
            door_server.has_dead = true;
        }
    }
    server_kick();
}

void
items_sweep_locked(void)
{
    if (!door_server.has_dead) {
        return;
    }
    door_server.has_dead = false;
    for (struct item *i = all_items, *next; i; i = next) {
        next = i->next;
        if (i->kind == ITEM_LISTENER && !i->listener) {
            item_remove(i);
        }
    }
}

void
server_tell_threads_locked(void)
{
    uint32_t n = door_server.n_threads;

    if (n > door_server.most_threads) {
        door_server.most_threads = n;
    }
    for (struct item *i = all_items; i; i = i->next) {
        if (i->kind == ITEM_SOURCE && i->src->kind == SOURCE_RING) {
            ring_tell_threads(i->src, n, door_server.most_threads);
        }
    }
}

void
item_drop(struct item *item)
{
    int fd = item->fd;

    pthread_mutex_lock(&door_server.lock);
    item_remove(item);
    pthread_mutex_unlock(&door_server.lock);
    close(fd);
}

void
server_tell_limits_locked(struct door *d)
{
    for (struct item *i = all_items; i; i = i->next) {
        if (i->kind == ITEM_SOURCE && i->src->kind == SOURCE_CHANNEL &&
            i->src->door == d) {
            channel_tell_limits(i->src);
        }
    }
}

uint32_t
server_attributes_locked(const struct door *d)
{
    bool unreferenced = d->n_descriptions + d->n_names <= 1;

    return d->attributes | (unreferenced ? DOOR_IS_UNREF : 0);
}

uint64_t
server_calls_locked(const struct door *d)
{
    uint64_t n = atomic_load(&d->calls);

    for (const struct item *i = all_items; i; i = i->next) {
        if (i->kind == ITEM_SOURCE && i->src->door == d) {
            n += atomic_load(&i->src->calls);
        }
    }
    if (door_server.copies && d->native) {
        n += copies_calls();
    }
    return n;
}

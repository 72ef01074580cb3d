/* The listening thread: set-up, bells and hang-ups of every door of this
 * process. It is made with the first door, blocks all signals, and sleeps in
 * epoll without a time limit unless a source waits for a thread. See server.h.
 */
#include "door/server.h"
#include "door/items.h"
#include "door/name.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct server door_server = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .growth = GROWTH_NULL,
    .epoll = -1,
    .kick = -1,
};

#define PAUSE_NS 20000000ull /* until what failed is tried again */
#define QUIET_NS                                                               \
    10000000000ull /* without a door: the listening thread ends                \
                    */

/* ---- references ---- */

void
server_kick(void)
{
    const uint64_t one = 1;

    if (write(door_server.kick, &one, sizeof one) < 0) {
        /* not reached: 2^64 - 1 wakes at once */
        return; /* it is signalled already */
    }
}

static void
tell_unused(void)
{
    atomic_store(&door_server.unused, true);
    server_kick();
}

void
door_ref(struct door *d)
{
    atomic_fetch_add(&d->refs, 1);
}

void
door_unref(struct door *d)
{
    if (d && atomic_fetch_sub(&d->refs, 1) == 1) {
        tell_unused();
    }
}

void
server_free_unused_locked(void)
{
    if (!atomic_exchange(&door_server.unused, false)) {
        return;
    }
    for (struct door **p = &door_server.doors; *p;) {
        struct door *d = *p;
        /* Under the lock nobody finds a door that nothing refers to. */
        if (atomic_load(&d->refs) > 0 ||
            (d->unref && atomic_load(&d->unref->refs) > 1)) {
            p = &d->next;
            continue;
        }
        *p = d->next;
        source_unref(d->unref);
        free(d);
    }
    if (!door_server.doors) {
        pool_no_door_locked();
    }
}

void
source_ref(struct source *src)
{
    atomic_fetch_add(&src->refs, 1);
}

void
source_unref(struct source *src)
{
    if (!src) {
        return;
    }
    struct door *d = src->door;
    bool is_doors = src->kind == SOURCE_UNREF; /* part of it, no reference */
    uint32_t left = atomic_fetch_sub(&src->refs, 1) - 1;
    if (is_doors && left == 1) {
        /* not reached: its thread serves it for the last time as the door goes
         */
        tell_unused(); /* D itself may be gone by now */
    }
    if (left != 0) {
        return;
    }
    if (d) {
        atomic_fetch_add(&d->calls, atomic_load(&src->calls));
    }
    if (src->request) {
        munmap((void *)(uintptr_t)src->request, src->request_size);
    }
    if (src->reply) {
        munmap(src->reply, src->reply_size);
    }
    if (src->turn) {
        munmap(src->turn, DOOR_SHARED_SIZE);
    }
    if (src->conn >= 0) {
        door_close_connection(src->conn);
    }
    ring_drop_held(src, true);
    pthread_mutex_destroy(&src->held_lock);
    if (src->runs) {
        munmap(src->runs, RING_SLOTS * sizeof *src->runs);
    }
    free(src);
    if (!is_doors) {
        door_unref(d);
    }
}

/* ---- sources that wait for a thread ---- */

static bool
has_work(const struct source *src)
{
    return !atomic_load(&src->dead) && source_has_work(src);
}

static void
watch_locked(struct source *src)
{
    if (!src->watched) {
        src->watched = true;
        source_ref(src);
        src->watch_next = door_server.watch;
        door_server.watch = src;
    }
}

void
server_watch_locked(struct source *src)
{
    watch_locked(src);
    server_kick();
}

void
server_watch(struct source *src)
{
    pthread_mutex_lock(&door_server.lock);
    server_watch_locked(src);
    pthread_mutex_unlock(&door_server.lock);
}

/* Finds a thread for SRC. Returns after how many microseconds to look again; 0:
 * nothing more to do for it; -1: when a thread parks. */
static int
help_locked(struct source *src)
{
    if (!has_work(src)) {
        return 0;
    }
    if (atomic_load(&src->attendant)) {
        /* Somebody waits on its bell; a caller that did not wake it (or whose
         * wake was lost) must not leave the call lying. */
        pool_rouse_locked(src);
        return 1000;
    }
    bool grows = pool_grows(src->door);
    /* As many as the last burst needed are made without a proof anew. */
    bool again = grows && pool_is_burst_locked(source_n_waiting(src));
    if (grows && !again &&
        (atomic_load(&src->serving) > 0 || src->door->pool->idle == NULL) &&
        !pool_has_cpu_locked() && !pool_is_held_up_locked(src->door)) {
        atomic_store(&door_server.crowded, true);
        return 1000;
    }
    if (pool_assign_locked(src)) {
        return src->kind == SOURCE_RING ? 50 : 0;
    }
    if (!grows) {
        /* not reached: tests/conformance does, its processes do not count */
        door_server.stuck = true;
        return -1;
    }
    /* Threads that have answered and are not yet back take these calls: a
     * caller that sends its next one at once has not made a new high-water
     * mark. */
    if (!pool_is_short_locked(src)) {
        return 50;
    }
    if (!pool_has_room_locked()) {
        /* not reached: as many threads as may be: tests/test_growth.py */
        atomic_store(&door_server.crowded, true);
        return 1000;
    }
    source_ref(src);
    if (pool_spawn_locked(src) != 0) {
        /* not reached: no thread can be made */
        source_unref(src);
        return 10000;
    }
    return src->kind == SOURCE_RING ? 50 : 0;
}

/* One look at every source that waits. Microseconds until the next; -1: none.
 */
static int
help_all(void)
{
    int wait = -1;

    pthread_mutex_lock(&door_server.lock);
    for (struct source **p = &door_server.watch; *p;) {
        struct source *src = *p;
        int us = help_locked(src);
        if (us == 0) {
            *p = src->watch_next;
            src->watched = false;
            source_unref(src);
            continue;
        }
        wait = us >= 0 && (wait < 0 || us < wait) ? us : wait;
        p = &src->watch_next;
    }
    server_free_unused_locked();
    items_sweep_locked();
    pthread_mutex_unlock(&door_server.lock);
    return wait;
}

static void
source_event(struct item *item, uint32_t events)
{
    struct source *src = item->src;

    if (src->kind == SOURCE_RING) {
        ring_read_notes(src);
    }
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        pthread_mutex_lock(&door_server.lock);
        item_remove(item);
        door_server.n_sources += src->kind == SOURCE_RING;
        atomic_store(&src->dead, true);
        pool_cancel_locked(src);
        pool_rouse_locked(src);
        pthread_mutex_unlock(&door_server.lock);
        ring_drop_held(src, true); /* calls that nobody will take now */
        source_unref(src);
        return;
    }
    pthread_mutex_lock(&door_server.lock);
    watch_locked(src);
    pthread_mutex_unlock(&door_server.lock);
}

static void
handle(struct item *item, uint32_t events)
{
    uint64_t count;

    switch (item->kind) {
    case ITEM_KICK:
        if (read(door_server.kick, &count, sizeof count) < 0) {
            /* not reached: it has counted, or no event came */
            return;
        }
        break;
    case ITEM_DOOR:
        hello_event(item);
        break;
    case ITEM_LISTENER:
        hello_listener_event(item);
        break;
    case ITEM_SOURCE:
        source_event(item, events);
        break;
    case ITEM_NAMES:
        name_changed(item->fd);
        break;
    /* not reached: a parent of copies: counters are lost: test-copies */
    case ITEM_COPY:
        copies_ended(item->fd);
        break;
    }
}

int
server_turn(int epoll, int us)
{
    struct epoll_event events[64];
    struct timespec ts = {us / 1000000, (long)(us % 1000000) * 1000};
    int n = epoll_pwait2(epoll, events, 64, us < 0 ? NULL : &ts, NULL);

    if (n < 0 && errno == ENOSYS) {
        /* not reached: memcheck, and other emulated kernels */
        n = epoll_wait(epoll, events, 64, us < 0 ? -1 : (us + 999) / 1000);
    }
    if (n < 0) {
        /* not reached: all signals are blocked */
        return errno == EINTR ? 0 : -1;
    }
    /* What the events point to was written under the lock. */
    pthread_mutex_lock(&door_server.lock);
    pthread_mutex_unlock(&door_server.lock);
    for (int i = 0; i < n; i++) {
        handle(events[i].data.ptr, events[i].events);
    }
    return n;
}

/* Is there nothing to listen for? With LEAVE the listening thread ends then:
 * a process whose main thread has ended would never end otherwise. What it
 * waited on stays, for the next one. */
static bool
is_needless(bool leave)
{
    pthread_mutex_lock(&door_server.lock);
    bool needless = !door_server.doors && !door_server.watch;
    if (needless && leave) {
        /* not reached: ten seconds without a door */
        door_server.running = false;
        pthread_detach(door_server.listener);
    }
    pthread_mutex_unlock(&door_server.lock);
    return needless;
}

static void *
listen_main(void *arg)
{
    int epoll = door_server.epoll;

    (void)arg;
    for (;;) {
        int us = hello_timers(help_all());
        bool needless = us < 0 && is_needless(false);
        int n = server_turn(epoll, needless ? (int)(QUIET_NS / 1000) : us);
        if (n == 0 && needless && is_needless(true)) {
            /* not reached: ten seconds without a door */
            return NULL;
        }
        if (n < 0) {
            /* Without this thread all doors of the process are mute. */
            /* not reached: only a signal makes it fail, and all are blocked */
            usleep(PAUSE_NS / 1000);
        }
    }
}

/* ---- the start ---- */

/* Closes and forgets what belongs to the parent, in a child of fork. With COPY
 * its rings stay, which the child will serve. */
/* not reached: a child of fork: counters are lost */
static void
forget(bool copy)
{
    pthread_mutex_init(&door_server.lock, NULL);
    if (door_server.epoll >= 0) {
        close(door_server.epoll);
        close(door_server.kick);
    }
    for (struct item *i = all_items; i; i = i->next) {
        bool stays = i->kind == ITEM_KICK || (copy && i->kind == ITEM_SOURCE);
        if (!stays && i->fd >= 0) {
            close(i->fd);
        }
        if (i->src && !stays) {
            ring_drop_held(i->src, false); /* connections that hang otherwise */
        }
    }
    all_items = NULL;
    name_forget_after_fork();
    pool_forget_after_fork();
    door_server.epoll = door_server.kick = -1;
    door_server.running = false;
    door_server.by_hand = false;
    door_server.pid = 0;
    door_server.doors = NULL;
    door_server.threads = NULL;
    door_server.shared = (struct pool){0};
    door_server.stuck = door_server.created = false;
    door_server.unused = false;
    door_server.watch = NULL;
    door_server.n_threads = door_server.n_starting = 0;
    door_server.most_threads = 0;
    door_server.silent_at = 0;
    door_server.copies = NULL;
}

/* In a child of fork the parent's doors are not ours: forget all, close what
 * would keep the parent's hang-ups from being seen. */
static void
forget_after_fork(void)
{
    forget(false);
}

void
server_forget_in_copy(void)
{
    forget(true);
}

static void
before_fork(void)
{
    pthread_mutex_lock(&door_server.lock);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&door_server.lock);
}

static void
close_listener(void)
{
    if (door_server.epoll >= 0) {
        close(door_server.epoll);
    }
    if (door_server.kick >= 0) {
        close(door_server.kick);
    }
    door_server.epoll = door_server.kick = -1;
}

int
server_open_locked(void)
{
    struct item like = {0};

    door_server.epoll = epoll_create1(EPOLL_CLOEXEC);
    door_server.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int e = door_server.epoll < 0 || door_server.kick < 0 ? errno : 0;
    if (e == 0) {
        e = item_add(ITEM_KICK, door_server.kick, &like, EPOLLIN);
    }
    if (e != 0) {
        close_listener();
    }
    door_server.pid = getpid();
    return e;
}

static int
start_listener(void)
{
    sigset_t all, old;
    bool again = door_server.epoll >= 0; /* it has left, for want of doors */
    int e = again ? 0 : server_open_locked();

    if (e != 0) {
        return e;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    door_server.mask = old;
    e = pthread_create(&door_server.listener, NULL, listen_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e != 0 && !again) {
        item_remove(all_items);
        close_listener();
    }
    return e;
}

int
server_start_locked(void)
{
    int e = 0;

    pthread_mutex_lock(&door_server.lock);
    if (door_server.running) {
        return 0;
    }
    if (!door_server.cpus) {
        door_server.cpus = calloc(1, sizeof *door_server.cpus);
        if (!door_server.cpus) {
            e = ENOMEM;
        } else {
            sched_getaffinity(0, sizeof *door_server.cpus, door_server.cpus);
            door_server.n_cpus = CPU_COUNT(door_server.cpus);
            door_server.n_cpus += door_server.n_cpus == 0;
        }
        if (!door_server.by_hand && !door_server.told_fork) {
            door_server.told_fork = true;
            pthread_atfork(before_fork, after_fork_parent, forget_after_fork);
        }
    }
    if (e == 0 && door_server.by_hand) {
        /* not reached: a parent of copies: counters are lost: test-copies */
        e = server_open_locked();
    } else if (e == 0) {
        e = start_listener();
    }
    if (e != 0) {
        pthread_mutex_unlock(&door_server.lock);
        return e;
    }
    door_server.running = true;
    return 0;
}

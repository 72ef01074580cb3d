/* The listening thread: set-up, bells and hang-ups of every door of this
 * process. It is made with the first door, blocks all signals, and sleeps in
 * epoll without a time limit unless a source waits for a thread. See server.h.
 */
#include "door/server.h"
#include "door/name.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct server door_server = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .epoll = -1, .kick = -1};

#define PAUSE_NS  20000000ull   /* until what failed is tried again */
#define SILENT_NS 5000000000ull /* a stranger's connection without a hello */
#define STRANGERS 256           /* connections by name, of one other user */

/* What an epoll event names. */
enum item_kind { ITEM_KICK, ITEM_DOOR, ITEM_LISTENER, ITEM_SOURCE };

struct item {
    struct item *next, *prev; /* all of them, for the child of a fork */
    enum item_kind kind;
    bool proved; /* of a connection through a file: it may open the file */
    bool is_strangers; /* a connection by name: neither root's nor our user's */
    bool greeted;      /* it has said a hello */
    uid_t uid;         /* with is_strangers: whose */
    uint64_t until;    /* with is_strangers: gone then unless greeted */
    int fd;
    struct door *door;
    struct source *src;
    struct name_listener *listener;
};

static struct item *all_items; /* the listening thread's and the lock's */

/* ---- references ---- */

void
source_ref(struct source *src)
{
    atomic_fetch_add(&src->refs, 1);
}

void
source_unref(struct source *src)
{
    if (!src || atomic_fetch_sub(&src->refs, 1) != 1) {
        return;
    }
    if (src->request) {
        munmap((void *)(uintptr_t)src->request, src->request_size);
    }
    if (src->reply) {
        munmap(src->reply, src->reply_size);
    }
    if (src->conn >= 0) {
        door_close_connection(src->conn);
    }
    ring_drop_held(src, true);
    pthread_mutex_destroy(&src->held_lock);
    free(src->runs);
    free(src);
}

/* ---- sources that wait for a thread ---- */

static bool
has_work(const struct source *src)
{
    return !atomic_load(&src->dead) &&
           (src->kind == SOURCE_RING ? ring_has_work(src)
                                     : channel_has_work(src));
}

/* How many of SRC's calls nobody has taken, as its caller says. */
static uint32_t
calls_waiting(const struct source *src)
{
    return src->kind == SOURCE_RING ? ring_n_waiting(src) : 1;
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
server_watch(struct source *src)
{
    const uint64_t one = 1;

    pthread_mutex_lock(&door_server.lock);
    watch_locked(src);
    pthread_mutex_unlock(&door_server.lock);
    if (write(door_server.kick, &one, sizeof one) < 0) {
        /* not reached: 2^64 - 1 wakes at once */
        return; /* it is signalled already */
    }
}

/* Finds a thread for SRC. Returns after how many microseconds to look again; 0:
 * nothing more to do for it. */
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
    if (atomic_load(&src->serving) > 0 || door_server.idle == NULL) {
        if (!pool_has_cpu_locked()) {
            return 1000;
        }
    }
    if (pool_assign_locked(src)) {
        return src->kind == SOURCE_RING ? 50 : 0;
    }
    /* Threads that have answered and are not yet back take these calls: a
     * caller that sends its next one at once has not made a new high-water
     * mark. */
    if (calls_waiting(src) <= pool_returning_locked()) {
        return 50;
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
        wait = wait < 0 || us < wait ? us : wait;
        p = &src->watch_next;
    }
    pthread_mutex_unlock(&door_server.lock);
    return wait;
}

/* ---- set-up ---- */

static int
add_item(enum item_kind kind, int fd, struct item *like, uint32_t events)
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
    return 0;
}

/* Out of epoll and the list. The descriptor stays the caller's. */
static void
remove_item(struct item *item)
{
    epoll_ctl(door_server.epoll, EPOLL_CTL_DEL, item->fd, NULL);
    if (item->prev) {
        item->prev->next = item->next;
    } else {
        all_items = item->next;
    }
    if (item->next) {
        item->next->prev = item->prev;
    }
    free(item);
}

int
server_add_door_locked(struct door *door, int fd)
{
    struct item like = {.door = door};

    return add_item(ITEM_DOOR, fd, &like, EPOLLIN | EPOLLRDHUP);
}

int
server_add_listener_locked(struct name_listener *listener, int fd)
{
    struct item like = {.listener = listener};

    return add_item(ITEM_LISTENER, fd, &like, EPOLLIN);
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
            /* The item itself stays until the next event finds it dead: this
             * may be running inside a round of events. */
            epoll_ctl(door_server.epoll, EPOLL_CTL_DEL, i->fd, NULL);
            close(i->fd);
            i->fd = -1;
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

static void
welcome_init(struct door_welcome *w, const struct door *d, int error)
{
    memset(w, 0, sizeof *w);
    w->magic = DOOR_WIRE_MAGIC;
    w->major = DOOR_WIRE_MAJOR;
    w->error = error;
    w->features = d->features | (ring_takes_descs(d) ? DOOR_FEATURE_DESCS : 0);
    w->proc = (uint64_t)(uintptr_t)d->procedure;
    w->cookie = (uint64_t)(uintptr_t)d->cookie;
    w->uniquifier = d->uniquifier;
    w->data_max = SIZE_MAX;
    w->desc_max = (d->attributes & DOOR_REFUSE_DESC) ? 0 : INT32_MAX;
    w->attributes = d->attributes;
    w->pid = getpid();
}

/* A caller opens a channel or a ring; FDS is taken (set to -1 what is kept). */
static int
open_source(struct door *d, const struct door_hello *hello, int *fds,
            size_t n_fds, const struct door_sender *peer)
{
    bool ring = hello->kind == DOOR_HELLO_RING;
    struct item like = {0};
    int memory = -1;

    if (n_fds != 2 || hello->size < 4096 || hello->size > (4ull << 30) ||
        !door_is_connection(fds[0])) {
        return EPROTO;
    }
    struct source *src = calloc(1, sizeof *src);
    if (!src) {
        return ENOMEM;
    }
    atomic_init(&src->refs, 1);
    pthread_mutex_init(&src->held_lock, NULL);
    src->kind = ring ? SOURCE_RING : SOURCE_CHANNEL;
    src->door = d;
    src->peer = *peer;
    src->request_size = hello->size;
    src->conn = fds[0];
    fds[0] = -1;
    int e = ring ? ring_accept(src, fds[1], &memory)
                 : channel_accept(src, fds[1], &memory);
    if (e == 0) {
        struct door_welcome w;
        welcome_init(&w, d, 0);
        w.features |= ring ? DOOR_FEATURE_THREADS : 0;
        w.size = src->reply_size;
        like.src = src;
        pthread_mutex_lock(&door_server.lock);
        e = add_item(ITEM_SOURCE, src->conn, &like,
                     EPOLLIN | EPOLLRDHUP | EPOLLET);
        if (e == 0 && ring) {
            ring_tell_threads(src, door_server.n_threads,
                              door_server.most_threads);
        }
        pthread_mutex_unlock(&door_server.lock);
        if (e == 0) {
            /* Registered: what goes wrong now, the hang-up will tell. */
            door_send(src->conn, &w, sizeof w, &memory, 1);
        }
    } else {
        struct door_welcome w;
        welcome_init(&w, d, e);
        door_send(src->conn, &w, sizeof w, NULL, 0);
    }
    if (memory >= 0) {
        close(memory);
    }
    if (e != 0) {
        source_unref(src);
    }
    return e;
}

/* A hello on a door's connection (DOOR) or on one made through a name. */
static void
greet(struct door *d, struct name_listener *via, const struct door_hello *hello,
      int *fds, size_t n_fds, const struct door_sender *peer)
{
    struct door_welcome w;
    int minted = -1;

    if (hello->kind == DOOR_HELLO_CHANNEL || hello->kind == DOOR_HELLO_RING) {
        open_source(d, hello, fds, n_fds, peer);
        return;
    }
    if (n_fds != 1) {
        return;
    }
    int e = 0;
    if (hello->kind == DOOR_HELLO_OPEN) {
        minted = name_mint(d);
        e = minted < 0 ? errno : 0;
    } else if (hello->kind == DOOR_HELLO_DETACH) {
        e = via ? name_detach_asked(via, peer) : EINVAL;
    } else if (hello->kind != DOOR_HELLO_INFO) {
        e = EPROTO;
    }
    welcome_init(&w, d, e);
    door_send(fds[0], &w, sizeof w, minted >= 0 ? &minted : NULL,
              minted >= 0 ? 1 : 0);
    if (minted >= 0) {
        close(minted);
    }
}

/* What comes on a connection that was made through an attached file: until the
 * file was shown, opened, only that and a detach are heard. */
static bool
may_greet(struct item *item, const struct door_hello *hello, const int *fds,
          size_t n_fds)
{
    bool may = true;

    pthread_mutex_lock(&door_server.lock);
    const struct name_listener *via = item->listener;
    if (hello->kind == DOOR_HELLO_PROOF) {
        item->proved |= via && n_fds == 1 && name_is_proof(via, fds[0]);
        may = false; /* no answer */
    } else if (via && name_needs_proof(via) && !item->proved &&
               hello->kind != DOOR_HELLO_DETACH) {
        may = false;
    }
    pthread_mutex_unlock(&door_server.lock);
    if (!may && hello->kind != DOOR_HELLO_PROOF && n_fds > 0) {
        struct door_welcome w;
        welcome_init(&w, item->door, EACCES);
        door_send(fds[0], &w, sizeof w, NULL, 0);
    }
    return may;
}

static void
drop_item(struct item *item)
{
    int fd = item->fd;

    pthread_mutex_lock(&door_server.lock);
    remove_item(item);
    pthread_mutex_unlock(&door_server.lock);
    close(fd);
}

static void
door_event(struct item *item)
{
    struct door_hello hello;
    struct door_sender peer;
    int fds[DOOR_MESSAGE_FDS];
    size_t n = DOOR_MESSAGE_FDS;
    int e = door_receive(item->fd, &hello, sizeof hello, fds, &n, &peer,
                         MSG_DONTWAIT);

    if (e == EAGAIN) {
        return;
    }
    if (e == EPIPE || e == ECONNRESET) {
        drop_item(item);
        return;
    }
    /* Identity comes with each set-up message; without one (pid 0: sent before
     * the mark was on the socket) it is refused. */
    if (e == 0 && hello.magic == DOOR_WIRE_MAGIC &&
        hello.major == DOOR_WIRE_MAJOR && peer.pid != 0 &&
        may_greet(item, &hello, fds, n)) {
        item->greeted = true;
        greet(item->door, item->listener, &hello, fds, n, &peer);
    }
    for (size_t i = 0; i < n; i++) {
        if (fds[i] >= 0) {
            door_close_connection(fds[i]);
        }
    }
}

/* No descriptor is left for who waits at LISTENER: it would be told of them
 * without end. They wait until it is asked again. */
static void
pause_listener(struct item *item)
{
    struct epoll_event none = {.events = 0, .data.ptr = item};

    pthread_mutex_lock(&door_server.lock);
    if (item->listener) { /* else it is on its way out */
        epoll_ctl(door_server.epoll, EPOLL_CTL_MOD, item->fd, &none);
    }
    pthread_mutex_unlock(&door_server.lock);
    door_server.resume_at = door_now() + PAUSE_NS;
}

/* US: microseconds that we may sleep, -1 without end. The same, less if
 * listeners rest and must be asked again before. */
static int
resume_listeners(int us)
{
    uint64_t now = door_now();

    if (door_server.resume_at == 0) {
        return us;
    }
    if (now < door_server.resume_at) {
        int left = (int)((door_server.resume_at - now) / 1000) + 1;
        return us < 0 || left < us ? left : us;
    }
    pthread_mutex_lock(&door_server.lock);
    for (struct item *i = all_items; i; i = i->next) {
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = i};
        if (i->kind == ITEM_LISTENER && i->listener) {
            epoll_ctl(door_server.epoll, EPOLL_CTL_MOD, i->fd, &ev);
        }
    }
    pthread_mutex_unlock(&door_server.lock);
    door_server.resume_at = 0;
    return us;
}

/* US as above: less if a silent connection is to be dropped before. Those whose
 * time is over are dropped now; between rounds, so no event names them. */
static int
drop_silent(int us)
{
    uint64_t now = door_now(), first = 0;

    if (door_server.silent_at == 0) {
        return us;
    }
    if (now >= door_server.silent_at) {
        pthread_mutex_lock(&door_server.lock);
        for (struct item *i = all_items, *next; i; i = next) {
            next = i->next;
            if (!i->is_strangers || i->greeted) {
                continue;
            }
            if (i->until <= now) {
                int fd = i->fd;
                remove_item(i);
                close(fd);
            } else if (first == 0 || i->until < first) {
                first = i->until;
            }
        }
        pthread_mutex_unlock(&door_server.lock);
        door_server.silent_at = first;
        if (first == 0) {
            return us;
        }
    }
    uint64_t left = (door_server.silent_at - now) / 1000 + 1;
    return us < 0 || left < (uint64_t)us ? (int)left : us;
}

/* May one more connection of ITEM's user stay? Lock held. */
static bool
has_place(const struct item *item)
{
    int n = 0;

    for (const struct item *i = all_items; item->is_strangers && i;
         i = i->next) {
        n += i->is_strangers && i->uid == item->uid;
    }
    return n < STRANGERS;
}

/* Whose is the connection FD? Another user's must not fill our descriptors with
 * silence. */
static void
look_at_peer(struct item *item, int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
        /* not reached: it is a Unix socket */
        return;
    }
    item->is_strangers = who.uid != 0 && who.uid != geteuid();
    item->uid = who.uid;
    item->until = door_now() + SILENT_NS;
}

static bool
is_full(int e)
{
    return e == EMFILE || e == ENFILE || e == ENOBUFS || e == ENOMEM;
}

static void
listener_event(struct item *item)
{
    int fd = accept4(item->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct item like = {0};

    if (fd < 0) {
        if (is_full(errno)) {
            pause_listener(item);
        }
        return;
    }
    look_at_peer(&like, fd);
    pthread_mutex_lock(&door_server.lock);
    like.listener = item->listener;
    if (!like.listener) {
        /* not reached: detached between event and turn */
        pthread_mutex_unlock(&door_server.lock);
        close(fd);
        return;
    }
    like.door = name_listener_door(item->listener);
    int e = EAGAIN;
    if (has_place(&like)) {
        e = add_item(ITEM_DOOR, fd, &like, EPOLLIN | EPOLLRDHUP);
    }
    pthread_mutex_unlock(&door_server.lock);
    if (e != 0) {
        close(fd);
    } else if (like.is_strangers && door_server.silent_at == 0) {
        door_server.silent_at = like.until;
    }
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
        remove_item(item);
        atomic_store(&src->dead, true);
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
        door_event(item);
        break;
    case ITEM_LISTENER:
        listener_event(item);
        break;
    case ITEM_SOURCE:
        source_event(item, events);
        break;
    }
}

int
server_turn(int epoll, int us)
{
    struct epoll_event events[64];
    struct timespec ts = {us / 1000000, (long)(us % 1000000) * 1000};
    int n = epoll_pwait2(epoll, events, 64, us < 0 ? NULL : &ts, NULL);

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

static void *
listen_main(void *arg)
{
    int epoll = door_server.epoll;

    (void)arg;
    for (;;) {
        if (server_turn(epoll, drop_silent(resume_listeners(help_all()))) < 0) {
            /* Without this thread all doors of the process are mute. */
            /* not reached: only a signal makes it fail, and all are blocked */
            usleep(PAUSE_NS / 1000);
        }
    }
    return NULL;
}

/* ---- the start ---- */

/* In a child of fork the parent's doors are not ours: forget all, close what
 * would keep the parent's hang-ups from being seen. */
/* not reached: a child of fork: counters are lost */
static void
forget_after_fork(void)
{
    pthread_mutex_init(&door_server.lock, NULL);
    if (door_server.epoll >= 0) {
        close(door_server.epoll);
        close(door_server.kick);
    }
    for (struct item *i = all_items; i; i = i->next) {
        if (i->kind != ITEM_KICK && i->fd >= 0) {
            close(i->fd);
        }
        if (i->src) {
            ring_drop_held(i->src, false); /* connections that hang otherwise */
        }
    }
    all_items = NULL;
    name_forget_after_fork();
    pool_forget_after_fork();
    door_server.epoll = door_server.kick = -1;
    door_server.running = false;
    door_server.doors = NULL;
    door_server.threads = door_server.idle = NULL;
    door_server.watch = NULL;
    door_server.n_threads = door_server.n_idle = door_server.n_starting = 0;
    door_server.most_threads = 0;
    door_server.silent_at = 0;
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
        e = add_item(ITEM_KICK, door_server.kick, &like, EPOLLIN);
    }
    if (e != 0) {
        close_listener();
    }
    return e;
}

static int
start_listener(void)
{
    sigset_t all, old;
    int e = server_open_locked();

    if (e != 0) {
        return e;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    door_server.mask = old;
    e = pthread_create(&door_server.listener, NULL, listen_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e != 0) {
        remove_item(all_items);
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
            pthread_atfork(before_fork, after_fork_parent, forget_after_fork);
        }
    }
    if (e == 0) {
        e = start_listener();
    }
    if (e != 0) {
        pthread_mutex_unlock(&door_server.lock);
        return e;
    }
    door_server.running = true;
    return 0;
}

/* Set-up: hellos, who may say one, and what they are answered. */
#include "door/items.h"
#include "door/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_NS  20000000ull   /* until what failed is tried again */
#define SILENT_NS 5000000000ull /* a stranger's connection without a hello */
#define STRANGERS 256           /* connections by name, of one other user */

static void
welcome_init(struct door_welcome *w, struct door *d, int error)
{
    memset(w, 0, sizeof *w);
    w->magic = DOOR_WIRE_MAGIC;
    w->major = DOOR_WIRE_MAJOR;
    w->error = error;
    w->features = d->features | (ring_takes_descs(d) ? DOOR_FEATURE_DESCS : 0);
    w->proc = (uint64_t)(uintptr_t)d->procedure;
    w->cookie = (uint64_t)(uintptr_t)d->cookie;
    w->uniquifier = d->uniquifier;
    pthread_mutex_lock(&door_server.lock);
    w->data_min = d->data_min;
    w->data_max = d->data_max;
    w->desc_max = d->desc_max;
    w->attributes = server_attributes_locked(d);
    pthread_mutex_unlock(&door_server.lock);
    w->pid = getpid();
}

/* For who asks about D: a look at every channel and ring. */
static void
welcome_counts(struct door_welcome *w, struct door *d)
{
    w->features |= DOOR_FEATURE_COUNTS;
    pthread_mutex_lock(&door_server.lock);
    w->threads = door_server.n_threads;
    w->threads_high = door_server.most_threads;
    w->references = d->n_descriptions + d->n_names;
    w->calls = server_calls_locked(d);
    pthread_mutex_unlock(&door_server.lock);
}

/* A caller opens a channel or a ring; FDS is taken (set to -1 what is kept). */
static int
open_source(struct door *d, const struct door_hello *hello, int *fds,
            size_t n_fds, const struct door_sender *peer)
{
    bool ring = hello->kind == DOOR_HELLO_RING;
    struct item like = {0};
    int memories[2] = {-1, -1};

    if (n_fds != 2 || hello->size < 4096 || hello->size > (4ull << 30) ||
        !door_is_connection(fds[0])) {
        return EPROTO;
    }
    int refused = (d->attributes & DOOR_REVOKED) != 0 ? EBADF
                  : door_server.by_hand && !ring
                      ? ENOTSUP /* copies take none */
                      : 0;
    if (refused != 0) {
        struct door_welcome w;
        welcome_init(&w, d, refused);
        door_send(fds[0], &w, sizeof w, NULL, 0);
        return refused;
    }
    struct source *src = calloc(1, sizeof *src);
    if (!src) {
        return ENOMEM;
    }
    atomic_init(&src->refs, 1);
    pthread_mutex_init(&src->held_lock, NULL);
    src->kind = ring ? SOURCE_RING : SOURCE_CHANNEL;
    src->door = d;
    door_ref(d);
    src->peer = *peer;
    src->peer_tid = hello->tid > 0 && hello->tid < INT32_MAX ? (pid_t)hello->tid
                                                             : peer->pid;
    cred_origin(&src->origin, fds[0], peer);
    src->request_size = hello->size;
    src->conn = fds[0];
    fds[0] = -1;
    bool knows_turn = (hello->features & DOOR_FEATURE_TURN) != 0;
    src->has_context = !ring && (hello->features & DOOR_FEATURE_CONTEXT) != 0;
    int e = ring ? ring_accept(src, fds[1], memories)
                 : channel_accept(src, fds[1], knows_turn, memories);
    if (e == 0) {
        struct door_welcome w;
        welcome_init(&w, d, 0);
        w.features |= ring ? DOOR_FEATURE_THREADS : DOOR_FEATURE_LIMITS;
        w.features |= src->turn ? DOOR_FEATURE_TURN : 0;
        w.features |= src->has_context ? DOOR_FEATURE_CONTEXT : 0;
        w.size = src->reply_size;
        like.src = src;
        pthread_mutex_lock(&door_server.lock);
        src->number = ring ? ++door_server.n_sources : 0;
        e = item_add(ITEM_SOURCE, src->conn, &like,
                     EPOLLIN | EPOLLRDHUP | EPOLLET);
        if (e == 0 && ring) {
            ring_tell_threads(src, door_server.n_threads,
                              door_server.most_threads);
        } else if (e == 0) {
            channel_tell_limits(src);
        }
        pthread_mutex_unlock(&door_server.lock);
        if (e == 0) {
            /* Registered: what goes wrong now, the hang-up will tell. */
            door_send(src->conn, &w, sizeof w, memories, src->turn ? 2 : 1);
        }
    } else {
        struct door_welcome w;
        welcome_init(&w, d, e);
        door_send(src->conn, &w, sizeof w, NULL, 0);
    }
    for (int i = 0; i < 2; i++) {
        if (memories[i] >= 0) {
            close(memories[i]);
        }
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
    if (n_fds != (hello->kind == DOOR_HELLO_ATTACH ? 2 : 1)) {
        return;
    }
    int e = 0;
    if (hello->kind == DOOR_HELLO_ATTACH) {
        e = name_attach_asked(d, fds[1], peer);
        fds[1] = e == 0 ? -1 : fds[1];
    } else if (hello->kind == DOOR_HELLO_OPEN) {
        minted = name_mint(d);
        e = minted < 0 ? errno : 0;
    } else if (hello->kind == DOOR_HELLO_DETACH) {
        e = via ? name_detach_asked(via, peer) : EINVAL;
    } else if (hello->kind != DOOR_HELLO_INFO) {
        e = EPROTO;
    }
    welcome_init(&w, d, e);
    if (hello->kind == DOOR_HELLO_INFO) {
        welcome_counts(&w, d);
    }
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

void
hello_event(struct item *item)
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
        item_drop(item);
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

/* ---- connections by name ---- */

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
                item_remove(i);
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

void
hello_listener_event(struct item *item)
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
        e = item_add(ITEM_DOOR, fd, &like, EPOLLIN | EPOLLRDHUP);
    }
    pthread_mutex_unlock(&door_server.lock);
    if (e != 0) {
        close(fd);
    } else if (like.is_strangers && door_server.silent_at == 0) {
        door_server.silent_at = like.until;
    }
}

int
hello_timers(int us)
{
    return drop_silent(resume_listeners(us));
}

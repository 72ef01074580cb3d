/* Accepting. All workers share each listening socket; every one is told of new
 * connections (edge-triggered), and one that has clearly more than the mean of
 * live connections leaves them to the others. What is left in a queue is tried
 * again shortly, so nobody waits for an edge that was taken by another. */
#include "front/worker_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "http/http.h"

#define BATCH    64
#define LEAVE_NS (20 * NS_PER_MS) /* how long others may take it instead */

/* Is somebody clearly less busy? */
static bool
has_enough(const struct worker *w)
{
    const struct worker_setup *s = w->setup;
    uint64_t sum = 0;

    if (s->n_workers < 2 || w->now - w->core->pending_since > LEAVE_NS) {
        return false;
    }
    for (int i = 0; i < s->n_workers; i++) {
        sum += atomic_load_explicit(&s->seats[i].connections,
                                    memory_order_relaxed);
    }
    uint64_t mean = sum / (uint64_t)s->n_workers;
    return w->core->live > mean + MAX_OF(2u, mean / 16);
}

static void
note_peer(struct conn *c, const struct sockaddr_storage *peer)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0,    0,
                                       0, 0, 0, 0, 0xff, 0xff};

    if (peer->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        c->family = 4;
        memcpy(c->peer, &in->sin_addr, 4);
        c->peer_port = ntohs(in->sin_port);
    } else if (peer->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        c->family = 6;
        memcpy(c->peer, &in6->sin6_addr, 16);
        if (memcmp(c->peer, mapped, 12) == 0) {
            c->family = 4;
            memmove(c->peer, c->peer + 12, 4);
        }
        c->peer_port = ntohs(in6->sin6_port);
    } else {
        c->family = 0;
    }
}

/* 0 or an errno. A dead worker may have had FD watched, and not recorded. */
static int
watch(struct worker *w, int fd, uint32_t gen)
{
    struct epoll_event ev = {
        .events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.u64 = EVENT_DATA(TAG_CONN, gen, fd),
    };
    int e = worker_watch(w, fd, ev.events, ev.data.u64);

    if (e == EEXIST) {
        e = epoll_ctl(w->core->epoll, EPOLL_CTL_MOD, fd, &ev) < 0 ? errno : 0;
    }
    return e;
}

/* SO_OOBINLINE and TCP_NODELAY come from the
 * listener; an accepted socket's counters start at nothing read and nothing
 * written. */
void
accept_adopt(struct worker *w, int fd, uint32_t listener,
             const struct sockaddr_storage *peer)
{
    struct core *core = w->core;
    uint32_t i = (uint32_t)fd;

    if (i >= core->n_conns) {
        close(fd);
        return;
    }
    struct conn *c = &w->conns[i];
    memset(c, 0, sizeof *c);
    c->listener = (uint8_t)listener;
    c->seg = c->out_seg = ARENA_NONE;
    c->slot = RING_NO_OWNER;
    c->gen = ++core->next_gen & 0xffffff;
    note_peer(c, peer);
    enum conf_protocol protocol = w->conf->listens[listener].protocol;
    core->top = MAX_OF(core->top, i + 1);
    /* The events of one that is passed are the door's. In our set they would be
     * ours as well, even after our copy is closed. */
    if (protocol != CONF_TCP_PASS && watch(w, fd, c->gen) != 0) {
        close(fd);
        return;
    }
    if (c->family == 0 && protocol != CONF_TCP_PASS) {
        /* How much was seen of it and not taken: socket(7). */
        const int none = 0;
        (void)setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof none);
    }
    core->live++;
    conn_enter(c, protocol == CONF_HTTP ? CONN_IDLE : CONN_RAW);
    if (protocol == CONF_TCP_PASS) {
        conn_go(w, i);
        return;
    }
    worker_arm(w, i,
               protocol == CONF_HTTP ? w->conf->idle_timeout_ns
                                     : w->conf->header_timeout_ns);
}

/* false: the queue is empty (or cannot be read just now). */
static bool
accept_one(struct worker *w, uint32_t listener)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    int fd = accept4(w->listen_fds[listener], (struct sockaddr *)&peer, &len,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        accept_adopt(w, fd, listener, &peer);
        return true;
    }
    if (errno == EAGAIN || errno == EINVAL || errno == EBADF) {
        w->core->listeners_pending &= ~(1u << listener);
        return false;
    }
    /* EMFILE and the like: it stays pending and is tried again soon;
     * ECONNABORTED and network errors: the next one. */
    return errno == ECONNABORTED || errno == EINTR;
}

static void
publish_live(struct worker *w)
{
    atomic_store_explicit(&w->setup->seats[w->setup->index].connections,
                          w->core->live, memory_order_relaxed);
}

void
accept_some(struct worker *w)
{
    if (w->core->stopping) {
        w->core->listeners_pending = 0;
        return;
    }
    for (uint32_t l = 0; l < w->conf->n_listens; l++) {
        if (w->listen_fds[l] < 0) { /* its module accepts; or it has gone */
            w->core->listeners_pending &= ~(1u << l);
            continue;
        }
        for (int n = 0; n < BATCH; n++) {
            if (!(w->core->listeners_pending >> l & 1) || has_enough(w) ||
                !accept_one(w, l)) {
                break;
            }
            publish_live(w);
        }
    }
    publish_live(w);
}

void
accept_rest(struct worker *w, uint32_t listener)
{
    w->core->listeners_pending |= 1u << listener;
    for (int n = 0; n < BATCH && accept_one(w, listener); n++) {
    }
    publish_live(w);
}

static uint16_t
port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;

    if (getsockname(fd, (struct sockaddr *)&at, &len) < 0) {
        return 0;
    }
    /* Both kinds of address have the port in the same place. */
    return at.ss_family == AF_INET || at.ss_family == AF_INET6
               ? ntohs(((struct sockaddr_in *)(void *)&at)->sin_port)
               : 0;
}

int
accept_watch(struct worker *w, uint32_t listener)
{
    w->ports[listener] = port_of(w->listen_fds[listener]);
    int e = worker_watch(w, w->listen_fds[listener], EPOLLIN | EPOLLET,
                         EVENT_DATA(TAG_LISTENER, 0, listener));

    return e == EEXIST ? 0 : e;
}

void
accept_stop(struct worker *w)
{
    for (size_t l = 0; l < w->conf->n_listens; l++) {
        epoll_ctl(w->core->epoll, EPOLL_CTL_DEL, w->listen_fds[l], NULL);
    }
    w->core->listeners_pending = 0;
}

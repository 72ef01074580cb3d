/* Descriptors that no record names: the dead worker made them and was killed
 * before it said so. Each is the lowest number that was free, so none lies far
 * above those that are known. What is a connection of one of our listeners was
 * accepted and is adopted; all else is closed, and what it was for is done
 * again. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "front/heir.h"
#include "front/worker_priv.h"

#define BEYOND 64u /* above the highest that was ever recorded */

/* One bit a descriptor, as far as it is used: some 30 kB of stack for a
 * quarter of a million. */
struct known {
    uint32_t end;
    uint64_t bits[TABLE_MAX / 64];
};

static void
know(struct known *k, int fd)
{
    if (fd >= 0 && (uint32_t)fd < k->end) {
        k->bits[fd / 64] |= 1ull << (fd % 64);
    }
}

static void
know_setup(const struct worker *w, struct known *k)
{
    const struct worker_setup *s = w->setup;

    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        know(k, fd);
    }
    know(k, s->control_fd);
    know(k, s->say_fd);
    know(k, s->log_fd);
    know(k, w->arena.fd);
    know(k, w->core->epoll);
    for (size_t l = 0; l < w->conf->n_listens; l++) {
        know(k, w->listen_fds[l]);
    }
    for (size_t t = 0; t < w->conf->n_targets; t++) {
        know(k, w->folder_fds[t]);
    }
}

static void
know_rings(const struct worker *w, struct known *k)
{
    FOR_EACH_RING (w, g) {
        const struct ring *r = &w->rings[g];
        if (r->state == RING_CLOSED) {
            continue;
        }
        know(k, r->door_fd);
        know(k, r->conn);
        know(k, r->request_fd);
        know(k, r->reply_fd);
        for (uint32_t n = 0; n < RING_SLOTS; n++) {
            if (r->used[n / 64] >> (n % 64) & 1) {
                know(k, (int)r->tables->slots[n].fd - 1);
            }
        }
    }
}

static void
know_connections(const struct worker *w, struct known *k)
{
    for (uint32_t i = 0; i < w->core->top; i++) {
        const struct conn *c = &w->conns[i];
        if (c->state == CONN_FREE) {
            continue;
        }
        know(k, (int)i);
        if (c->seg != ARENA_NONE) {
            know(k, request_of(w, c)->fd);
        }
    }
}

/* Is A, where a connection was accepted, what LISTENER listens on? An address
 * of a family with a port stands for all addresses if it is the "any". */
static bool
is_at(const struct sockaddr_storage *a, socklen_t a_len, int listener)
{
    struct sockaddr_storage b;
    socklen_t b_len = sizeof b;

    memset(&b, 0, sizeof b);
    if (getsockname(listener, (struct sockaddr *)&b, &b_len) < 0 ||
        a->ss_family != b.ss_family) {
        return false;
    }
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *x = (const void *)a, *y = (const void *)&b;
        return x->sin_port == y->sin_port &&
               (y->sin_addr.s_addr == htonl(INADDR_ANY) ||
                x->sin_addr.s_addr == y->sin_addr.s_addr);
    }
    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *x = (const void *)a, *y = (const void *)&b;
        return x->sin6_port == y->sin6_port &&
               (IN6_IS_ADDR_UNSPECIFIED(&y->sin6_addr) ||
                IN6_ARE_ADDR_EQUAL(&x->sin6_addr, &y->sin6_addr));
    }
    return a_len == b_len && a_len > sizeof(sa_family_t) &&
           memcmp(a, &b, a_len) == 0;
}

/* The listener that FD was accepted from; -1: it was not. */
static int
listener_of(const struct worker *w, int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    int type = 0;
    socklen_t type_len = sizeof type;

    memset(&at, 0, sizeof at);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 ||
        type != SOCK_STREAM ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0) {
        return -1;
    }
    for (size_t l = 0; l < w->conf->n_listens; l++) {
        if (w->listen_fds[l] >= 0 && is_at(&at, len, w->listen_fds[l])) {
            return (int)l;
        }
    }
    return -1;
}

static void
adopt_or_close(struct worker *w, int fd, struct sweep_count *count)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    int l = listener_of(w, fd);

    if (l < 0) {
        close(fd);
        count->closed++;
        return;
    }
    memset(&peer, 0, sizeof peer);
    if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0) {
        close(fd); /* reset in between: nobody waits for it */
        count->closed++;
        return;
    }
    count->adopted++;
    accept_adopt(w, fd, (uint32_t)l, &peer);
}

void
heir_sweep(struct worker *w, struct sweep_count *count)
{
    struct known k;

    k.end = MIN_OF(w->core->n_conns, w->core->top + BEYOND);
    memset(k.bits, 0, (k.end + 63) / 64 * sizeof *k.bits);
    know_setup(w, &k);
    know_rings(w, &k);
    know_connections(w, &k);
    *count = (struct sweep_count){0};
    for (uint32_t fd = 0; fd < k.end; fd++) {
        if (!(k.bits[fd / 64] >> (fd % 64) & 1) &&
            !succession_owns(w, (int)fd) && !local_owns(w, (int)fd) &&
            fcntl((int)fd, F_GETFD) >= 0) {
            adopt_or_close(w, (int)fd, count);
        }
    }
}

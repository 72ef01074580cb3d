/* A connection that is kept saves both sides work, but two things can go wrong.
 * The program may close it at the moment when a request is sent: the caller
 * may try again where nothing was done yet. And a program of N processes, each
 * of which serves one connection until its end, starves a connection N + 1 for
 * as long as the others are kept: so none is kept while a new one has had no
 * byte of answer yet.
 *
 * Sockets block for POOL_ASK_MS at most: one system call then both waits and
 * reads. */
#include "pool.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE 16384

int64_t
pool_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
}

void
pool_init(struct pool *pool)
{
    memset(pool, 0, sizeof(*pool));
    pthread_mutex_init(&pool->lock, NULL);
}

unsigned
pool_expire(struct pool *pool, int64_t before)
{
    unsigned n = 0, left;

    pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < pool->n_idle; i++) {
        if (pool->idle[i].since < before) {
            close(pool->idle[i].fd);
        } else {
            pool->idle[n++] = pool->idle[i];
        }
    }
    left = pool->n_idle = n;
    pthread_mutex_unlock(&pool->lock);
    return left;
}

void
pool_point(struct pool *pool, const struct sockaddr_storage *addr,
           socklen_t len)
{
    pool_expire(pool, INT64_MAX);
    pthread_mutex_lock(&pool->lock);
    pool->addr = *addr;
    pool->addr_len = len;
    pool->generation++;
    pthread_mutex_unlock(&pool->lock);
}

/* ----- taking and giving ----- */

/* Nothing may come on a connection that waits for a request. */
static bool
looks_alive(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* The kept connection that was used last, or -1. */
static int
idle_take(struct pool *pool, unsigned *p_generation)
{
    int fd = -1;

    pthread_mutex_lock(&pool->lock);
    if (pool->n_idle > 0) {
        fd = pool->idle[--pool->n_idle].fd;
    }
    *p_generation = pool->generation;
    pthread_mutex_unlock(&pool->lock);
    return fd;
}

/* Waits until FD is connected. 0 or -1 with errno. */
static int
connect_wait(int fd, int64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int64_t left = deadline - pool_now();
    int error = 0;
    socklen_t len = sizeof(error);

    if (left <= 0 || poll(&p, 1, (int)(left / (int64_t)NS_PER_MS) + 1) <= 0) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
        return -1;
    }
    errno = error;
    return error != 0 ? -1 : 0;
}

/* A Unix socket with a full queue says EAGAIN and cannot be waited for. */
static int
connect_until(int fd, const struct sockaddr_storage *addr, socklen_t len,
              int64_t deadline)
{
    while (connect(fd, (const struct sockaddr *)addr, len) < 0) {
        if (errno == EINPROGRESS) {
            return connect_wait(fd, deadline);
        }
        if (errno != EAGAIN && errno != EINTR) {
            return -1;
        }
        if (pool_now() >= deadline) {
            errno = ETIMEDOUT;
            return -1;
        }
        poll(NULL, 0, 5);
    }
    return 0;
}

/* A new connection, ready to be used, or -1 with errno. */
static int
connect_new(const struct sockaddr_storage *addr, socklen_t len,
            int64_t deadline)
{
    struct timeval ask = {.tv_usec = POOL_ASK_MS * 1000};
    int fd, error, one = 1;

    fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect_until(fd, addr, len, deadline) < 0 ||
        fcntl(fd, F_SETFL, 0) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &ask, sizeof(ask)) < 0) {
        error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    if (addr->ss_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    return fd;
}

int
pool_take(struct pool *pool, bool fresh, int64_t deadline,
          struct pool_conn *conn)
{
    struct sockaddr_storage addr;
    socklen_t len;

    *conn = (struct pool_conn){.fd = -1};
    while (!fresh && (conn->fd = idle_take(pool, &conn->generation)) >= 0) {
        if (looks_alive(conn->fd)) {
            conn->kept = true;
            return 0;
        }
        close(conn->fd);
    }
    pthread_mutex_lock(&pool->lock);
    addr = pool->addr;
    len = pool->addr_len;
    conn->generation = pool->generation;
    pool->n_fresh++;
    pthread_mutex_unlock(&pool->lock);
    conn->fresh = true;
    conn->fd = connect_new(&addr, len, deadline);
    if (conn->fd < 0) {
        int error = errno;

        pool_give(pool, conn, false);
        errno = error;
        return -1;
    }
    return 0;
}

static void
fresh_end(struct pool *pool, struct pool_conn *conn)
{
    if (conn->fresh) {
        conn->fresh = false;
        pthread_mutex_lock(&pool->lock);
        pool->n_fresh--;
        pthread_mutex_unlock(&pool->lock);
    }
}

void
pool_give(struct pool *pool, struct pool_conn *conn, bool keep)
{
    int fd = conn->fd;

    fresh_end(pool, conn);
    conn->fd = -1;
    if (keep && fd >= 0) {
        pthread_mutex_lock(&pool->lock);
        if (pool->n_fresh == 0 && pool->n_idle < POOL_IDLE_MAX &&
            conn->generation == pool->generation) {
            pool->idle[pool->n_idle++] = (struct pool_idle){fd, pool_now()};
            fd = -1;
        }
        pthread_mutex_unlock(&pool->lock);
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* ----- the exchange ----- */

static bool
is_sent(const struct pool_exchange *x)
{
    return x->sent == x->head_len + x->body_len;
}

/* Sends what the socket takes now. false: the connection is dead. */
static bool
send_more(int fd, struct pool_exchange *x)
{
    size_t in_body = x->sent > x->head_len ? x->sent - x->head_len : 0;
    size_t in_head = MIN_OF(x->sent, x->head_len);
    struct iovec iov[2] = {
        {(char *)(uintptr_t)x->head + in_head, x->head_len - in_head},
        {(char *)(uintptr_t)x->body + in_body, x->body_len - in_body},
    };
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

    x->sent += n > 0 ? (size_t)n : 0;
    return n >= 0 || errno == EAGAIN || errno == EINTR;
}

/* Waits, if there is still something to send, and reads. 1: go on; else an end
 * is in *P_END. */
static int
receive(struct pool *pool, struct pool_conn *conn, struct pool_exchange *x,
        enum pool_end *p_end)
{
    char buf[READ_SIZE];
    int flags = 0, rc;
    ssize_t n;

    if (!is_sent(x)) {
        struct pollfd p = {.fd = conn->fd, .events = POLLIN | POLLOUT};

        poll(&p, 1, POOL_ASK_MS);
        flags = MSG_DONTWAIT;
    }
    n = recv(conn->fd, buf, sizeof(buf), flags);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 1;
    }
    if (n > 0) {
        x->got_any = true;
        fresh_end(pool, conn);
    }
    rc = n < 0 ? 1 : x->take(x->take_arg, buf, (size_t)n);
    if (rc > 0 && n > 0) {
        return 1;
    }
    *p_end = rc > 0 ? POOL_CLOSED : rc == 0 ? POOL_DONE : POOL_REFUSED;
    return 0;
}

enum pool_end
pool_run(struct pool *pool, struct pool_conn *conn, struct pool_exchange *x)
{
    int64_t now = pool_now();
    int64_t ask_at = now + POOL_ASK_MS * (int64_t)NS_PER_MS;
    bool can_send = true;
    enum pool_end end = POOL_CLOSED;

    x->sent = 0;
    x->got_any = false;
    for (;;) {
        /* One that no longer reads may have answered before. */
        if (can_send && !is_sent(x) && !send_more(conn->fd, x)) {
            can_send = false;
        }
        if (!receive(pool, conn, x, &end)) {
            return end;
        }
        now = pool_now();
        if (now >= x->deadline) {
            return POOL_LATE;
        }
        if (now >= ask_at) {
            ask_at = now + POOL_ASK_MS * (int64_t)NS_PER_MS;
            if (x->gone(x->gone_arg)) {
                return POOL_GONE;
            }
        }
    }
}

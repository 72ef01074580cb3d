/* Closing what a hostile peer sent, without being held up. A TCP socket with
 * SO_LINGER holds whoever closes its last descriptor; that is switched off. In
 * the queue of a Unix socket, or of one in the queue of that, it cannot be: the
 * kernel closes it with the socket. But a task that is ending never lingers
 * (inet_release(), Linux 2.4 to 6.18), so a thread that ends with a table of
 * descriptors of its own gives up the last reference.
 */
#include "door/sys.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WAITING, COPIED, FAILED, CLOSED };

struct closer {
    int fd;
    _Atomic uint32_t state; /* futex */
};

static void
say(struct closer *c, uint32_t state)
{
    atomic_store(&c->state, state);
    door_futex_wake(&c->state, 1, false);
}

static void *
close_by_ending(void *arg)
{
    struct closer *c = arg;

    /* No other descriptor stays in the copy: a hang-up would be late. */
    if (close_range((unsigned)c->fd + 1, ~0u, CLOSE_RANGE_UNSHARE) < 0 ||
        (c->fd > 0 && close_range(0, (unsigned)c->fd - 1, 0) < 0)) {
        say(c, FAILED); /* a sandbox forbids it */
        return NULL;
    }
    say(c, COPIED);
    while (atomic_load(&c->state) == COPIED) {
        door_futex_wait(&c->state, COPIED, 1000000000ull, false);
    }
    return NULL;
}

/* Closes FD, with the last reference by a thread's end. false: that cannot be
 * had, FD is still open. */
static bool
close_in_thread(int fd)
{
    struct closer c = {.fd = fd, .state = WAITING};
    pthread_attr_t attr;
    pthread_t id;
    sigset_t all, before;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN + 16384);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&id, &attr, close_by_ending, &c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (e != 0) {
        return false;
    }
    while (atomic_load(&c.state) == WAITING) {
        door_futex_wait(&c.state, WAITING, 1000000000ull, false);
    }
    bool copied = atomic_load(&c.state) == COPIED;
    if (copied) {
        close(fd);
        say(&c, CLOSED);
    }
    pthread_join(id, NULL);
    return copied;
}

static int
domain_of(int fd)
{
    int domain = AF_UNSPEC;
    socklen_t len = sizeof domain;

    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
    return domain;
}

void
door_close_foreign(int fd)
{
    const struct linger none = {0, 0};

    if (domain_of(fd) == AF_UNIX && close_in_thread(fd)) {
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fd);
}

/* Is nothing in the queue of FD, to which nothing can be added? A message
 * brings its sender's identity, which tells it from the end. */
static bool
is_drained(int fd)
{
    union {
        char room[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof control.room};
    ssize_t n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);

    return n < 0 ? errno == EAGAIN : n == 0 && msg.msg_controllen == 0;
}

bool
door_is_connection(int fd)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name, type_len = sizeof(int);
    int type = 0;

    return getpeername(fd, (struct sockaddr *)&name, &len) == 0 &&
           len == sizeof name.sun_family && name.sun_family == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 &&
           type == SOCK_SEQPACKET;
}

void
door_close_connection(int fd)
{
    const int on = 1;

    if (door_is_connection(fd) && shutdown(fd, SHUT_RD) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 &&
        is_drained(fd)) {
        close(fd);
    } else {
        door_close_foreign(fd);
    }
}

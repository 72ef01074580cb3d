/* libdoor's use of the kernel. Nothing here knows what a door is but its
 * socket's name. */
#include "door/sys.h"

#include "door.h"

#include "door/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

uint64_t
door_clock(clockid_t clock)
{
    struct timespec ts = {0};

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t
door_now(void)
{
    return door_clock(CLOCK_MONOTONIC);
}

uint64_t
door_now_coarse(void)
{
    return door_clock(CLOCK_MONOTONIC_COARSE);
}

int
door_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns,
                bool shared)
{
    struct timespec ts = {(time_t)(timeout_ns / 1000000000u),
                          (long)(timeout_ns % 1000000000u)};
    int op = FUTEX_WAIT | (shared ? 0 : FUTEX_PRIVATE_FLAG);

    if (syscall(SYS_futex, word, op, value, &ts, NULL, 0) == 0 ||
        errno == EAGAIN) {
        return 0;
    }
    return errno;
}

#define FUTEX_IS_32 2u

struct door_futex
door_futex_on(const _Atomic uint32_t *word, uint32_t value)
{
    return (struct door_futex){value, (uint64_t)(uintptr_t)word, FUTEX_IS_32,
                               0};
}

/* not reached: a word that changes meanwhile, or a signal, by chance */
static bool
lacks_waitv(int e)
{
    return e == ENOSYS || e == EPERM; /* before 5.16, and some sandboxes */
}

int
door_futex_wait_any(const struct door_futex *words, uint32_t n,
                    uint64_t timeout_ns)
{
    uint64_t until = timeout_ns + door_now();
    struct timespec ts = {(time_t)(until / 1000000000u),
                          (long)(until % 1000000000u)};

    if (syscall(SYS_futex_waitv, words, n, 0, timeout_ns > 0 ? &ts : NULL,
                CLOCK_MONOTONIC) >= 0 ||
        errno == EAGAIN) {
        return 0;
    }
    /* not reached: a word that changes meanwhile, or a signal, by chance */
    if (!lacks_waitv(errno)) {
        return errno;
    }
    /* not reached: older kernels than 5.16, and some sandboxes */
    door_futex_wait((_Atomic uint32_t *)(uintptr_t)words[0].word,
                    (uint32_t)words[0].value, 50000000u, true);
    return 0;
}

int
door_futex_wait_two(_Atomic uint32_t *shared, uint32_t value,
                    _Atomic uint32_t *own, uint64_t timeout_ns)
{
    struct door_futex both[2] = {door_futex_on(shared, value),
                                 door_futex_on(own, 0)};

    both[1].flags |= FUTEX_PRIVATE_FLAG;
    if (atomic_load(own) != 0) {
        return 0; /* without futex_waitv(2) nobody else looks */
    }
    return door_futex_wait_any(both, 2, timeout_ns);
}

void
door_futex_wake(_Atomic uint32_t *word, int count, bool shared)
{
    int op = FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG);

    syscall(SYS_futex, word, op, count, NULL, NULL, 0);
}

#define SEALS_SHARED (F_SEAL_SHRINK | F_SEAL_GROW)
#define SEALS_OWN    (SEALS_SHARED | F_SEAL_FUTURE_WRITE)

static void *
make(const char *name, size_t size, void *at, int seals, int *p_fd)
{
    int fd =
        memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        /* not reached: older kernels than 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (fd < 0) {
        return NULL;
    }
    void *map = MAP_FAILED;
    if (ftruncate(fd, (off_t)size) == 0) {
        map = mmap(at, size, PROT_READ | PROT_WRITE,
                   MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
    }
    if (map == MAP_FAILED || fcntl(fd, F_ADD_SEALS, seals | F_SEAL_SEAL) < 0) {
        int saved = errno;
        if (map != MAP_FAILED) {
            /* not reached: a new memfd can always be sealed */
            munmap(map, size);
        }
        close(fd);
        errno = saved;
        return NULL;
    }
    *p_fd = fd;
    return map;
}

void *
door_memory_make(const char *name, size_t size, void *at, int *p_fd)
{
    return make(name, size, at, SEALS_OWN, p_fd);
}

void *
door_shared_make(const char *name, int *p_fd)
{
    return make(name, DOOR_SHARED_SIZE, NULL, SEALS_SHARED, p_fd);
}

static void *
map_foreign(int fd, size_t size, void *at, int need, int how)
{
    struct stat st;
    struct statfs fs;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & need) != need || raw_fstat(fd, &st) < 0 ||
        st.st_size != (off_t)size || fstatfs(fd, &fs) < 0 ||
        fs.f_type != TMPFS_MAGIC) {
        errno = EINVAL;
        return NULL;
    }
    void *map = mmap(at, size, how, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
    if (map != MAP_FAILED) {
        return map;
    }
    if (errno == EACCES || errno == EPERM) {
        errno = EINVAL; /* opened, or sealed, for another use */
    }
    return NULL;
}

const void *
door_memory_map(int fd, size_t size, void *at)
{
    return map_foreign(fd, size, at, SEALS_OWN, PROT_READ);
}

void *
door_shared_map(int fd)
{
    return map_foreign(fd, DOOR_SHARED_SIZE, NULL, SEALS_SHARED,
                       PROT_READ | PROT_WRITE);
}

int
door_send(int fd, const void *bytes, size_t len, const int *fds, size_t n_fds)
{
    union {
        char room[CMSG_SPACE(sizeof(int) * 253)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {(void *)bytes, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        memset(control.room, 0, msg.msg_controllen); /* the padding too */
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    for (;;) {
        if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
            return 0;
        }
        if (errno != EINTR) {
            return errno;
        }
    }
}

/* Takes the control part of MSG: descriptors to FDS, credentials to SENDER. 0;
 * EPROTO if there were more descriptors than room; EMFILE if the kernel could
 * not give them all (the room for them here is the largest there can be). All
 * are closed then. */
static int
take_control(struct msghdr *msg, int *fds, size_t room, size_t *p_n,
             struct door_sender *sender)
{
    int e = (msg->msg_flags & MSG_CTRUNC) != 0 ? EMFILE : 0;
    size_t n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET) {
            /* not reached: the kernel sends SOL_SOCKET alone */
            continue;
        }
        if (c->cmsg_type == SCM_RIGHTS) {
            size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < count; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
                if (n < room) {
                    fds[n++] = fd;
                } else {
                    door_close_foreign(fd);
                    e = EPROTO;
                }
            }
        } else if (c->cmsg_type == SCM_CREDENTIALS && sender) {
            struct ucred cred;
            memcpy(&cred, CMSG_DATA(c), sizeof cred);
            sender->pid = cred.pid;
            sender->uid = cred.uid;
            sender->gid = cred.gid;
        }
    }
    while (e != 0 && n > 0) {
        door_close_foreign(fds[--n]);
    }
    *p_n = n;
    return e;
}

static int
receive(int fd, void *bytes, size_t len, int *fds, size_t *p_n_fds,
        struct door_sender *sender, int flags)
{
    union {
        char room[CMSG_SPACE(sizeof(int) * 253) +
                  CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {bytes, len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof control.room};
    size_t room = *p_n_fds;
    ssize_t n;

    *p_n_fds = 0;
    if (sender) {
        *sender = (struct door_sender){0, (uid_t)-1, (gid_t)-1};
    }
    do {
        n = recvmsg(fd, &msg, flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == ECONNRESET ? EPIPE : errno;
    }
    int e = take_control(&msg, fds, room, p_n_fds, sender);
    /* The end, or an empty message? That one brings its sender's identity where
     * it was asked for, and must not pass for the end: a door would be closed
     * for all its callers. */
    if (n == 0 && msg.msg_controllen == 0 && door_hung_up(fd)) {
        return EPIPE;
    }
    if ((size_t)n != len || (msg.msg_flags & MSG_TRUNC) != 0) {
        e = EPROTO;
    }
    if (e != 0) {
        while (*p_n_fds > 0) {
            door_close_foreign(fds[--*p_n_fds]);
        }
    }
    return e;
}

int
door_receive(int fd, void *bytes, size_t len, int *fds, size_t *p_n_fds,
             struct door_sender *sender, int flags)
{
    return receive(fd, bytes, len, fds, p_n_fds, sender,
                   flags | MSG_CMSG_CLOEXEC);
}

int
door_receive_user(int fd, struct door_note *note, int *fds, size_t *p_n_fds)
{
    return receive(fd, note, sizeof *note, fds, p_n_fds, NULL, MSG_DONTWAIT);
}

int
door_wait_readable(int fd, uint64_t timeout_ns)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ms = (int)((timeout_ns + 999999u) / 1000000u);
    int n = poll(&p, 1, ms);

    if (n > 0) {
        return 0;
    }
    /* not reached: five seconds of silence */
    return n == 0 ? ETIMEDOUT : errno;
}

bool
door_hung_up(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    return poll(&p, 1, 0) != 0 &&
           (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

bool
door_is_marked(int fd, uint64_t *p_uniquifier, uint32_t *p_attributes)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    const size_t prefix = sizeof DOOR_NAME_PREFIX - 1;
    char digits[17];

    memset(&name, 0, sizeof name);
    if (getpeername(fd, (struct sockaddr *)&name, &len) < 0 ||
        name.sun_family != AF_UNIX ||
        len != offsetof(struct sockaddr_un, sun_path) + 1 + DOOR_NAME_LEN ||
        memcmp(name.sun_path, "\0" DOOR_NAME_PREFIX, 1 + prefix) != 0) {
        return false;
    }
    memcpy(digits, name.sun_path + 1 + prefix, 16);
    digits[16] = 0;
    *p_uniquifier = strtoull(digits, NULL, 16);
    memcpy(digits, name.sun_path + 1 + prefix + 17, 8);
    digits[8] = 0;
    /* Whoever bound the name chose it: not more than a door may have. */
    *p_attributes =
        (uint32_t)strtoul(digits, NULL, 16) & (DOOR_CREATE_MASK | DOOR_REVOKED);
    return true;
}

uint64_t
door_random(void)
{
    uint64_t bits = 0;

    while (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits) {
        /* not reached: the pool of random bits is ready */
        if (errno != EINTR) {
            /* Before the pool is ready or in a broken sandbox: still unique
             * enough to be a name, never a secret. */
            return door_now() ^ ((uint64_t)getpid() << 40);
        }
    }
    return bits;
}

/* ---- the program's memory ---- */

#define NEAR 65536u

/* In the frames of whoever called us: readable and writable, if the program
 * runs at all. */
static bool
is_on_stack(const void *p, size_t n)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), at = (uintptr_t)p;

    return at > here && at - here < NEAR && n < NEAR - (at - here);
}

/* The pages of the last copy each way that went well: a program that calls
 * again mostly names the same. */
struct known {
    uintptr_t from, to;
};

static _Thread_local struct known known[2];

static bool
is_known(const struct known *k, const void *p, size_t n)
{
    uintptr_t at = (uintptr_t)p;

    return at >= k->from && at <= k->to && n <= k->to - at;
}

static void
now_known(struct known *k, const void *p, size_t n)
{
    const uintptr_t page = 4095;

    *k =
        (struct known){(uintptr_t)p & ~page, ((uintptr_t)p + n + page) & ~page};
}

static int
copy(void *to, const void *from, size_t n, bool in)
{
    const void *theirs = in ? from : to;
    struct known *k = &known[in];
    struct iovec local = {in ? to : (void *)(uintptr_t)from, n};
    struct iovec remote = {in ? (void *)(uintptr_t)from : to, n};
    ssize_t done;

    if (n == 0) {
        return 0;
    }
    if (is_on_stack(theirs, n) || is_known(k, theirs, n)) {
        memcpy(to, from, n);
        return 0;
    }
    done = in ? process_vm_readv(getpid(), &local, 1, &remote, 1, 0)
              : process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
    if (done == (ssize_t)n) {
        now_known(k, theirs, n);
        return 0;
    }
    if (done < 0 && errno != EFAULT) {
        /* not reached: a sandbox that forbids it */
        memcpy(to, from, n); /* then it may fault */
        return 0;
    }
    return EFAULT;
}

int
door_copy_in(void *to, const void *from, size_t n)
{
    return copy(to, from, n, true);
}

int
door_copy_out(void *to, const void *from, size_t n)
{
    return copy(to, from, n, false);
}

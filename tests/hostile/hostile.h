/* The tools of the hostile programs: the wire spoken by hand, so that every
 * word of it can be wrong. They exit 0 when the door bore it, 1 with a line of
 * text when not; `SURE` is what a program itself needs to work. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "door/wire.h"

#define SURE(x)                                                                \
    do {                                                                       \
        if (!(x)) {                                                            \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #x,        \
                    strerror(errno));                                          \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

#define AREA_OFF  0x100000u
#define RING_SIZE ((size_t)AREA_OFF + RING_AREA)
#define ORDER_OFF (4096u + 1024u * 256u)

static inline uint64_t
now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* A connection to the door at PATH. */
static inline int
dial(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    SURE(fd >= 0 && strlen(path) < sizeof sun.sun_path);
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", path);
    SURE(connect(fd, (struct sockaddr *)&sun, sizeof sun) == 0);
    return fd;
}

/* One message with N descriptors. 0 or an errno. */
static inline int
say(int fd, const void *bytes, size_t len, const int *fds, size_t n, int flags)
{
    union {
        char room[CMSG_SPACE(sizeof(int) * 253)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n > 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL | flags) < 0 ? errno : 0;
}

/* One message of LEN bytes and at most two descriptors (-1: none), within 10 s.
 * Its length, 0 at the end, -1 when none came. */
static inline ssize_t
hear(int fd, void *bytes, size_t len, int fds[2])
{
    union {
        char room[CMSG_SPACE(sizeof(int) * 253)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {bytes, len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof control.room};
    struct pollfd look = {.fd = fd, .events = POLLIN};

    fds[0] = fds[1] = -1;
    if (poll(&look, 1, 10000) != 1) {
        return -1;
    }
    ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_type == SCM_RIGHTS) {
        SURE(c->cmsg_len <= CMSG_LEN(2 * sizeof(int)));
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    }
    return n < 0 ? 0 : n;
}

/* Request memory as the protocol wants it: sealed, mapped for us to write. */
static inline void *
good_memory(size_t size, int *p_fd)
{
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    SURE(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SURE(map != MAP_FAILED);
    SURE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | 0x10) == 0);
    *p_fd = fd;
    return map;
}

static inline struct door_hello
good_hello(uint32_t kind, uint64_t size)
{
    return (struct door_hello){.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = kind,
                               .size = size};
}

static inline void
keep(int *p_fd, int fd)
{
    if (p_fd) {
        *p_fd = fd;
    } else if (fd >= 0) {
        close(fd);
    }
}

/* Says HELLO with MEMORY on DOOR and waits for the answer: its error, 0 with
 * the connection, the reply memory and the page that both write (*P_FD and
 * *P_TURN; closed if they are NULL), -1 if the door closed the connection
 * without a word. */
static inline int
greet_turn(int door, const struct door_hello *hello, int memory, int *p_conn,
           int *p_fd, int *p_turn, uint64_t *p_size)
{
    struct door_welcome w;
    int pair[2], got[2];

    SURE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    int fds[2] = {pair[1], memory};
    SURE(say(door, hello, sizeof *hello, fds, 2, 0) == 0);
    close(pair[1]);
    ssize_t n = hear(pair[0], &w, sizeof w, got);
    SURE(n >= 0); /* it answers or closes, within 10 s */
    int error = n != sizeof w ? -1 : w.error;
    if (p_size) {
        *p_size = w.size;
    }
    keep(error == 0 ? p_fd : NULL, got[0]);
    keep(error == 0 ? p_turn : NULL, got[1]);
    if (p_conn && error == 0) {
        *p_conn = pair[0];
    } else {
        close(pair[0]);
    }
    return error;
}

/* The same as a caller that knows of no such page. */
static inline int
greet(int door, const struct door_hello *hello, int memory, int *p_conn,
      int *p_fd, uint64_t *p_size)
{
    return greet_turn(door, hello, memory, p_conn, p_fd, NULL, p_size);
}

/* ---- a ring by hand ---- */

struct hand_ring {
    int door, conn;
    struct ring_request *request;
    const struct ring_reply_head *reply;
    uint64_t reply_size;
    uint32_t pub;
};

static inline void
ring_head(struct ring_request *q)
{
    q->magic = DOOR_WIRE_MAGIC;
    q->major = DOOR_WIRE_MAJOR;
    q->n_slots = 1024;
    q->entries_off = 4096;
    q->order_off = ORDER_OFF;
    q->area_off = AREA_OFF;
    q->size = RING_SIZE;
    q->cpu = -1;
}

static inline void
hand_ring_open(struct hand_ring *r, const char *path)
{
    struct door_hello hello = good_hello(DOOR_HELLO_RING, RING_SIZE);
    int memory, reply;

    memset(r, 0, sizeof *r);
    r->door = dial(path);
    r->request = good_memory(RING_SIZE, &memory);
    ring_head(r->request);
    SURE(greet(r->door, &hello, memory, &r->conn, &reply, &r->reply_size) == 0);
    close(memory);
    r->reply = mmap(NULL, r->reply_size, PROT_READ, MAP_SHARED, reply, 0);
    SURE(r->reply != MAP_FAILED);
    close(reply);
}

static inline void
hand_ring_close(struct hand_ring *r)
{
    munmap(r->request, RING_SIZE);
    munmap((void *)(uintptr_t)r->reply, r->reply_size);
    close(r->conn);
    close(r->door);
}

static inline struct ring_entry *
hand_entry(struct hand_ring *r, uint32_t slot)
{
    return (struct ring_entry *)(void *)((char *)r->request + 4096) + slot;
}

static inline const struct ring_reply *
hand_reply(struct hand_ring *r, uint32_t slot)
{
    return (const struct ring_reply *)(const void *)((const char *)r->reply +
                                                     r->reply->replies_off) +
           slot;
}

static inline void
hand_bell(struct hand_ring *r)
{
    struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = r->pub};

    say(r->conn, &bell, sizeof bell, NULL, 0, MSG_DONTWAIT);
}

/* Publishes SLOT as its entry stands and waits for the bit. false: no answer
 * within MS. */
static inline bool
hand_call(struct hand_ring *r, uint32_t slot, uint64_t ms)
{
    uint32_t *order = (uint32_t *)(void *)((char *)r->request + ORDER_OFF);
    uint64_t bit = 1ull << (slot % 64), end = now_ms() + ms;
    uint64_t was = atomic_load(
        &((struct ring_reply_head *)(uintptr_t)r->reply)->done[slot / 64]);

    order[r->pub % 1024] = slot;
    atomic_store(&r->request->pub, ++r->pub);
    hand_bell(r);
    for (;;) {
        uint64_t is = atomic_load(
            &((struct ring_reply_head *)(uintptr_t)r->reply)->done[slot / 64]);
        if (((is ^ was) & bit) != 0) {
            return true;
        }
        if (now_ms() > end) {
            return false;
        }
        usleep(200);
    }
}

/* An entry that a good caller would write. */
static inline void
hand_good(struct hand_ring *r, uint32_t slot, uint32_t kind, const char *text)
{
    struct ring_entry *e = hand_entry(r, slot);

    memset(e, 0, sizeof *e);
    e->generation = r->pub + 1;
    e->kind = kind;
    e->cookie = 0x1234567800000000ull + r->pub;
    e->deadline = (now_ms() + 10000) * 1000000;
    e->args_off = AREA_OFF + slot * 4096u;
    e->args_len = strlen(text);
    memcpy((char *)r->request + e->args_off, text, e->args_len + 1);
}

/* Is the answer the echo of TEXT? */
static inline bool
hand_echoed(struct hand_ring *r, uint32_t slot, const char *text)
{
    const struct ring_reply *a = hand_reply(r, slot);

    return a->error == 0 && a->data_len == strlen(text) &&
           a->data_off + a->data_len <= r->reply_size &&
           memcmp((const char *)r->reply + a->data_off, text, strlen(text)) ==
               0;
}

/* What libdoor needs of the kernel: futexes on shared words, sealed memory,
 * messages with descriptors, the names of sockets. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "door/wire.h"

/* CLOCK in nanoseconds; 0: there is no such clock. */
uint64_t door_clock(clockid_t clock);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t door_now(void);

/* The same as of the last tick of the kernel (1 to 10 ms ago), for a tenth of
 * the price. */
uint64_t door_now_coarse(void);

/* Waits while *WORD == VALUE, at most TIMEOUT_NS (never restarted over a signal
 * handler, which a wait without a time limit would be). 0 woken or changed,
 * ETIMEDOUT, EINTR. */
int door_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns,
                    bool shared);

/* Waits while *SHARED == VALUE and *OWN == 0 (OWN is private memory: a second
 * way to be woken, out of reach of whoever shares the first word); how long,
 * and what it returns, as of door_futex_wait_any(). */
int door_futex_wait_two(_Atomic uint32_t *shared, uint32_t value,
                        _Atomic uint32_t *own, uint64_t timeout_ns);

/* Words to wait on, of memory that processes share: as the kernel takes them
 * (struct futex_waitv of futex_waitv(2)). */
struct door_futex {
    uint64_t value, word;
    uint32_t flags, spare;
};

/* WORD, while it is VALUE. */
struct door_futex door_futex_on(const _Atomic uint32_t *word, uint32_t value);

/* Waits while all of the N (1 to 128) words have their values, at most
 * TIMEOUT_NS (0: without end). ETIMEDOUT: that was all; 0 or EINTR: look again.
 * Without futex_waitv (5.16; some sandboxes) it waits on the first, for at most
 * 50 ms, and returns 0. */
int door_futex_wait_any(const struct door_futex *words, uint32_t n,
                        uint64_t timeout_ns);

void door_futex_wake(_Atomic uint32_t *word, int count, bool shared);

/* A memfd of SIZE bytes, mapped read-write at the returned address and then
 * sealed (SHRINK, GROW, FUTURE_WRITE, SEAL) so that nobody else can write or
 * resize it. *P_FD is the caller's. NULL with errno. The map is shared. With AT
 * it is laid there (over a reservation of the caller's). */
void *door_memory_make(const char *name, size_t size, void *at, int *p_fd);

/* Maps a peer's memory of exactly SIZE bytes for reading; refuses what is not a
 * tmpfs file with at least SHRINK, GROW and FUTURE_WRITE sealed. NULL, with
 * EINVAL if it is refused. AT as above. */
const void *door_memory_map(int fd, size_t size, void *at);

/* The same for DOOR_SHARED_SIZE bytes that both sides write: hints, never data.
 * Nobody can resize it. */
#define DOOR_SHARED_SIZE 4096u
void *door_shared_make(const char *name, int *p_fd);
void *door_shared_map(int fd);

#define DOOR_MESSAGE_FDS 8

struct door_sender {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/* Sends one datagram with descriptors (borrowed). 0 or an errno (EAGAIN: full;
 * ETOOMANYREFS: too many in flight, try later). Never raises SIGPIPE. */
int door_send(int fd, const void *bytes, size_t len, const int *fds,
              size_t n_fds);

/* Receives one datagram of exactly LEN bytes. *P_N_FDS holds the room in FDS
 * and becomes the count received (close-on-exec; the caller's). Anything else
 * closes what came and is EPROTO. SENDER may be NULL. FLAGS: MSG_DONTWAIT,
 * MSG_PEEK. 0, EAGAIN, EPIPE (end), or an errno. EMFILE: BYTES are good, but
 * our own table had no room for what came with them; none of it is left. */
int door_receive(int fd, void *bytes, size_t len, int *fds, size_t *p_n_fds,
                 struct door_sender *sender, int flags);

/* The same for many descriptors that belong to the program: not close-on-exec,
 * as doors give them. */
int door_receive_user(int fd, struct door_note *note, int *fds,
                      size_t *p_n_fds);

/* Copies N bytes from or to memory that the program named, which may be none of
 * its own. What lies a little above the stack pointer, or in the pages of this
 * thread's last copy, is simply copied; else it costs one system call. 0 or
 * EFAULT. */
int door_copy_in(void *to, const void *from, size_t n);
int door_copy_out(void *to, const void *from, size_t n);

/* Closes a descriptor that a peer sent and nobody wants. It may be anything, so
 * also a socket that holds up its last closer for as long as the peer set
 * (SO_LINGER), or a Unix socket with such a one in its queue. Neither holds up
 * the caller. */
void door_close_foreign(int fd);

/* Is FD one end of a fresh socket pair? Its peer has no name. Whatever else a
 * caller sends might never hang up, above all an end of a door's own
 * connections, and what was made for it would stay for ever. */
bool door_is_connection(int fd);

/* As door_close_foreign(), for what may be a connection: who has the other end
 * cannot send any more, so that one with an empty queue costs no thread. */
void door_close_connection(int fd);

/* Waits until FD is readable. 0, ETIMEDOUT, EINTR. */
int door_wait_readable(int fd, uint64_t timeout_ns);

/* Has the peer of this socket closed or died? */
bool door_hung_up(int fd);

/* Does the socket's peer name say that it is a door? Then its uniquifier and
 * attributes (as the name tells them). */
bool door_is_marked(int fd, uint64_t *p_uniquifier, uint32_t *p_attributes);

/* 64 random bits from the kernel. */
uint64_t door_random(void);

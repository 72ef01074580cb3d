/* Descriptors that nobody asked for. Who drops a descriptor that came beside a
 * message closes it, and the last close of a TCP socket with unsent data waits
 * for as long as its owner set (SO_LINGER): a peer stops whoever reads past its
 * descriptors, or closes with them unread. Linux 6.16 lets a socket refuse them
 * (docs/kernels.md has the whole story, and what holds before). */
#pragma once

#include <sys/socket.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* on every machine but alpha, mips, parisc, sparc */
#endif

/* From now on who sends to the Unix socket FD gets EPERM for a descriptor; what
 * connects to a listener inherits it. Older kernels let it be. */
static inline void
rights_refuse(int fd)
{
    const int off = 0;

    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
}

/* Before a close that must not wait: a lingering that its owner set on FD is
 * switched off. A linger of 0 stays: that close is a reset, and does not wait.
 * Nothing for what is no socket. */
static inline void
rights_no_linger(int fd)
{
    const struct linger none = {0, 0};
    struct linger set = {0, 0};
    socklen_t len = sizeof(set);

    if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &set, &len) == 0 &&
        set.l_onoff != 0 && set.l_linger > 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    }
}

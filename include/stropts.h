/* stropts.h: where illumos declares fattach(3C) and fdetach(3C), and what
 * programs take with them. Linux has no STREAMS: the requests exist so that
 * sources compile, and ioctl(2) refuses them. */
#ifndef CARDEA_STROPTS_H
#define CARDEA_STROPTS_H

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define I_RECVFD (('S' << 8) | 16)
#define I_SENDFD (('S' << 8) | 17)

/* What I_RECVFD fills. */
struct strrecvfd {
    int fd;
    uid_t uid;
    gid_t gid;
    char fill[8];
};

int fattach(int fd, const char *path);
int fdetach(const char *path);
int isastream(int fd);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif

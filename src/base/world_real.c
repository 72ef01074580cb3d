/* The real world: the table of world.h over the kernel's own calls. Starting a
 * process belongs to a layer above (module/spawn.h, spawn_world()); this form
 * refuses it, which is also what a worker should have. */
#include "base/world.h"

#include <errno.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

static uint64_t
clock_ns(clockid_t clock)
{
    struct timespec t = {0};

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static uint64_t
real_now(void *ctx)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t
real_wall(void *ctx)
{
    return clock_ns(CLOCK_REALTIME);
}

static int
real_spawn(void *ctx, const struct spawn_plan *plan, pid_t *p_pid, int *p_pidfd)
{
    return -ENOSYS;
}

/* A group has no pidfd of its own: the number is safe as long as its leader is
 * not reaped, which is the caller's to know. */
static int
real_kill(void *ctx, pid_t pid, int pidfd, int signal, int group)
{
    int rc;

    if (pid <= 0) {
        return -ESRCH;
    }
    if (group) {
        rc = kill(-pid, signal);
    } else if (pidfd >= 0) {
        rc = pidfd_send_signal(pidfd, signal, NULL, 0);
    } else {
        rc = kill(pid, signal);
    }
    return rc < 0 ? -errno : 0;
}

static ssize_t
real_send(void *ctx, int fd, const void *bytes, size_t len)
{
    ssize_t sent;

    do {
        sent = send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

const struct world *
world_real(void)
{
    static const struct world real = {
        .now = real_now,
        .wall = real_wall,
        .spawn = real_spawn,
        .kill = real_kill,
        .send = real_send,
    };

    return &real;
}

/* Sends on Unix sockets. The kernel does not count what was written to one, so
 * bytes go through a pipe: what is in it no more has been sent. The pipe is the
 * worker's, and empty between two sends; what a socket did not take is thrown
 * away, and comes again from where it lies.
 *
 * An heir reads two words: how many bytes were put into the pipe (none of them
 * is sent while it is zero), and what was sent before them. */
#include "front/worker_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/util.h"

static int
out_of_pipe(const struct core *core)
{
    return (int)(core->pipes >> 32);
}

static int
into_pipe(const struct core *core)
{
    return (int)(uint32_t)core->pipes;
}

/* false: nobody would ask it, or no descriptor is free. A sweep closes what was
 * not recorded. */
static bool
open_pipe(const struct worker *w)
{
    struct core *core = w->core;
    int fds[2];

    if (w->setup->heirs == 0) {
        return false;
    }
    if (core->pipes == 0 && pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0) {
        core->pipes = (uint64_t)(uint32_t)fds[0] << 32 | (uint32_t)fds[1];
    }
    return core->pipes != 0;
}

bool
local_owns(const struct worker *w, int fd)
{
    const struct core *core = w->core;

    return core->pipes != 0 &&
           (fd == out_of_pipe(core) || fd == into_pipe(core));
}

/* N bytes are in the pipe, FROM bytes of the reply have left. */
static ssize_t
pass_on(struct worker *w, uint32_t i, uint64_t from, ssize_t n)
{
    struct core *core = w->core;

    if (n <= 0) {
        return n;
    }
    w->pipe_left = true;
    core->pipe_from = from;
    KEEP_ORDER();
    core->pipe_have = (uint64_t)n;
    KEEP_ORDER();
    ssize_t sent = splice(out_of_pipe(core), NULL, (int)i, NULL, (size_t)n,
                          SPLICE_F_NONBLOCK);
    w->pipe_left = sent != n;
    return sent;
}

ssize_t
local_send(struct worker *w, uint32_t i, uint64_t from, const struct iovec *iov,
           int n_iov)
{
    if (!open_pipe(w)) {
        const struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                                   .msg_iovlen = (size_t)n_iov};
        return sendmsg((int)i, &msg, MSG_NOSIGNAL);
    }
    return pass_on(w, i, from, writev(into_pipe(w->core), iov, n_iov));
}

ssize_t
local_send_file(struct worker *w, uint32_t i, uint64_t from, int fd, off_t off,
                size_t len)
{
    if (!open_pipe(w)) {
        return sendfile((int)i, fd, &off, len);
    }
    return pass_on(
        w, i, from,
        splice(fd, &off, into_pipe(w->core), NULL, len, SPLICE_F_NONBLOCK));
}

void
local_end(struct worker *w)
{
    struct core *core = w->core;
    char unsent[16384];
    int e = errno;

    core->pipe_have = 0;
    KEEP_ORDER();
    while (w->pipe_left && core->pipes != 0 &&
           read(out_of_pipe(core), unsent, sizeof unsent) > 0) {
    }
    w->pipe_left = false;
    errno = e;
}

bool
local_settle(struct worker *w, uint64_t *p_written)
{
    struct core *core = w->core;
    int left = 0;

    w->pipe_left = true;
    if (core->pipes == 0 || ioctl(out_of_pipe(core), FIONREAD, &left) < 0 ||
        (core->pipe_have > 0 && (uint64_t)left > core->pipe_have)) {
        return false;
    }
    *p_written = core->pipe_from + core->pipe_have - (uint64_t)left;
    return true;
}

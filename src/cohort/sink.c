/* A stuck terminal or a full pipe behind standard error must not stop the
 * keeper, and setting O_NONBLOCK on it would change it for everyone who shares
 * it (the user's shell). So a pipe or terminal is opened a second time through
 * /proc, which gives a description of our own; a socket is written with
 * MSG_DONTWAIT; a plain file never blocks for ever. Where the second opening
 * is refused, we poll and write one page, which a pipe that polls as writable
 * takes.
 * Invariants: the ring holds whole lines only; len <= SINK_ROOM. */
#include "cohort/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/pages.h"
#include "base/util.h"

#define LOST_ROOM 256 /* kept free for the line that tells of lost ones */

static void
open_own(struct sink *sink)
{
    char path[32];
    int fd;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", sink->fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0) {
        sink->fd = fd;
        sink->own_fd = true;
    }
}

int
sink_init(struct sink *sink, int fd)
{
    struct stat st;

    memset(sink, 0, sizeof(*sink));
    sink->fd = fd;
    if (fstat(fd, &st) < 0) {
        sink->dead = true;
    } else if (S_ISREG(st.st_mode)) {
        sink->is_file = true;
    } else if (S_ISSOCK(st.st_mode)) {
        sink->is_socket = true;
    } else {
        open_own(sink);
    }
    sink->ring = pages_alloc_unshared(SINK_ROOM);
    return sink->ring != NULL ? 0 : -ENOMEM;
}

void
sink_deinit(struct sink *sink)
{
    pages_free(sink->ring, SINK_ROOM);
    sink->ring = NULL;
    if (sink->own_fd) {
        close(sink->fd);
        sink->own_fd = false;
    }
}

static void
ring_add(struct sink *sink, const char *text, size_t len)
{
    size_t at = (sink->head + sink->len) % SINK_ROOM;
    size_t first = MIN_OF(len, SINK_ROOM - at);

    memcpy(sink->ring + at, text, first);
    memcpy(sink->ring, text + first, len - first);
    sink->len += len;
}

void
sink_line(struct sink *sink, const char *text, size_t len)
{
    if (len > 0 && sink->sees != NULL && !sink->sees(sink->arg, text, len)) {
        return;
    }
    if (len == 0 || sink->dead) {
        return;
    }
    if (sink->len + len > SINK_ROOM - LOST_ROOM) {
        sink->lost++;
        return;
    }
    if (sink->cut) {
        sink->cut = false;
        ring_add(sink, "\n", 1);
    }
    ring_add(sink, text, len);
}

/* The line in the carry is whole, or too long to wait for more of it. */
static void
give_carry(struct sink *sink)
{
    if (sink->carry[sink->carry_len - 1] != '\n') {
        sink->carry[sink->carry_len - 1] = '\n';
    }
    sink_line(sink, sink->carry, sink->carry_len);
    sink->carry_len = 0;
}

/* Whoever wrote them may not command the terminal that they are shown on. An
 * honest worker writes printable ASCII only (base/log.h). */
static void
tame(char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];

        bytes[i] = (c >= ' ' && c <= '~') || c == '\n' ? c : '?';
    }
}

void
sink_stream(struct sink *sink, char *bytes, size_t len)
{
    tame(bytes, len);
    while (len > 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t part = end != NULL ? (size_t)(end - bytes) + 1 : len;

        if (sink->carry_len == 0 && end != NULL && part <= SINK_CARRY) {
            sink_line(sink, bytes, part);
        } else {
            part = MIN_OF(part, SINK_CARRY - sink->carry_len);
            memcpy(sink->carry + sink->carry_len, bytes, part);
            sink->carry_len += part;
            if (sink->carry_len == SINK_CARRY || bytes[part - 1] == '\n') {
                give_carry(sink);
            }
        }
        bytes += part;
        len -= part;
    }
}

static ssize_t
write_some(struct sink *sink, const char *bytes, size_t len)
{
    struct pollfd room = {.fd = sink->fd, .events = POLLOUT};

    if (sink->is_socket) {
        return send(sink->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (!sink->is_file && !sink->own_fd) {
        if (poll(&room, 1, 0) <= 0) {
            errno = EAGAIN;
            return -1;
        }
        len = MIN_OF(len, 4096);
    }
    return write(sink->fd, bytes, len);
}

/* What is in the ring cannot be written: dropped, its lines counted. A line of
 * which a part was written is ended before the next. */
static void
drop_all(struct sink *sink)
{
    size_t before = (sink->head + SINK_ROOM - 1) % SINK_ROOM;

    sink->cut = sink->cut || (sink->written && sink->ring[before] != '\n');
    for (size_t i = 0; i < sink->len; i++) {
        sink->lost += sink->ring[(sink->head + i) % SINK_ROOM] == '\n';
    }
    sink->head = sink->len = 0;
    sink->written = false;
}

void
sink_flush(struct sink *sink)
{
    sink->stuck = false;
    while (sink->len > 0 && !sink->dead) {
        size_t part = MIN_OF(sink->len, SINK_ROOM - sink->head);
        ssize_t n = write_some(sink, sink->ring + sink->head, part);

        if (n > 0) {
            sink->head = (sink->head + (size_t)n) % SINK_ROOM;
            sink->len -= (size_t)n;
            sink->written = true;
        } else if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            sink->stuck = true;
            return;
        } else if (n < 0 && errno != EINTR) {
            /* EIO: the terminal is gone; of a disk, it may pass. */
            sink->dead = errno == EPIPE || errno == EBADF ||
                         (errno == EIO && !sink->is_file);
            drop_all(sink);
            return;
        }
    }
}

void
sink_finish(struct sink *sink, int patience_ms)
{
    sink_flush(sink);
    for (int waited = 0; sink->stuck && waited < patience_ms; waited += 10) {
        struct pollfd room = {.fd = sink->fd, .events = POLLOUT};

        poll(&room, 1, 10);
        sink_flush(sink);
    }
}

uint64_t
sink_take_lost(struct sink *sink)
{
    uint64_t lost = sink->lost;

    if (lost == 0 || sink->len > SINK_ROOM / 2) {
        return 0;
    }
    sink->lost = 0;
    return lost;
}

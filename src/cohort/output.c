/* What modules print: two pipes for each life, and two for each forked copy
 * (writers.c), cut into lines, each a line of the log with module, stream and,
 * where the pipe or the line tells, copy and request.
 *
 * A program may write without end. It is not stopped for that, since one that
 * only talks much should not stand still: what is over the rate is read,
 * counted and dropped. What is over a rate far above that is left in the pipe
 * until the second is over, so that the keeper's time is bounded too, whatever
 * the program does.
 *
 * Invariant: a stream that is paused has a descriptor that is in no epoll set;
 * output_tick() resumes it, or output_drain() closes it. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/tag.h"
#include "cohort/writers.h"

/* A line of this cost (lines.h) has room in the log for the fields of a tag
 * beside its text. */
#define TAGGED_COST 1800

#define DRAIN_BYTES (1 << 20) /* of a stream, when its module has ended */

/* Whose pipe it is counts more than what the line says. */
static void
add_tag(struct log_line *line, const struct keeper_stream *stream,
        const struct tag *tag)
{
    pid_t pid = stream->writer != NULL ? writer_pid(stream->writer) : 0;

    if (pid > 0) {
        log_num(line, "pid", (uint64_t)pid);
    } else if (tag->pid != NULL) {
        log_bytes(line, "pid", tag->pid, tag->pid_len);
    }
    if (tag->request != NULL) {
        log_bytes(line, "request", tag->request, tag->request_len);
    }
}

/* One of M's copies or commands has ended, as the line TEXT says. */
static void
tell_end(struct keeper_module *m, const struct ended *end, const char *text,
         size_t len)
{
    struct log_line line;
    char cause[ENDED_CAUSE_MAX];

    m->copy_ends[end->why]++;
    ended_cause(end, cause);
    keeper_log_begin(m->keeper, &line, LOG_WARN, "copy-ended");
    log_text(&line, "module", m->conf->name);
    log_bytes(&line, "pid", end->pid, end->pid_len);
    log_text(&line, "cause", cause);
    if (end->request != NULL) {
        log_bytes(&line, "request", end->request, end->request_len);
    }
    log_bytes(&line, "text", text, len);
    keeper_log_end(m->keeper, &line);
}

static void
take_line(void *arg, const char *text, size_t len, bool more)
{
    struct keeper_stream *stream = arg;
    struct keeper_module *m = stream->source.owner;
    struct log_line line;
    struct tag tag;
    struct ended end;

    if (m->output.lines >= OUTPUT_LINES) {
        m->output.dropped++;
        return;
    }
    m->output.lines++;
    (void)tag_parse(text, len, &tag);
    if (tag.len == 0 && stream->lines->cost > TAGGED_COST) {
        tag = (struct tag){0}; /* the text is more than its fields */
    }
    if (!more && stream == &m->streams[1] && ended_parse(text, len, &end)) {
        tell_end(m, &end, text, len);
        return;
    }
    keeper_log_begin(m->keeper, &line, LOG_INFO, "output");
    log_text(&line, "module", m->conf->name);
    log_text(&line, "stream", stream->name);
    add_tag(&line, stream, &tag);
    if (more) {
        log_text(&line, "more", "yes");
    }
    log_bytes(&line, "text", text + tag.len, len - tag.len);
    keeper_log_end(m->keeper, &line);
}

static void
tell_dropped(struct keeper_module *m)
{
    struct log_line line;

    if (m->output.dropped == 0) {
        return;
    }
    keeper_log_begin(m->keeper, &line, LOG_WARN, "output-dropped");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "lines", m->output.dropped);
    log_num(&line, "most_a_second", OUTPUT_LINES);
    keeper_log_end(m->keeper, &line);
    m->output.dropped = 0;
}

void
output_resume(struct keeper_stream *stream)
{
    struct keeper_module *m = stream->source.owner;

    if (stream->paused) {
        stream->paused = false;
        (void)keeper_watch(m->keeper, &stream->source, EPOLLIN);
    }
}

void
output_begin_second(struct keeper_module *m)
{
    uint64_t now = keeper_now(m->keeper);

    if (now - m->output.began < NS_PER_SEC) {
        return;
    }
    tell_dropped(m);
    m->output.began = now;
    m->output.lines = 0;
    m->output.bytes = 0;
    output_resume(&m->streams[0]);
    output_resume(&m->streams[1]);
    writers_resume(m);
}

void
output_close(struct keeper_stream *stream)
{
    struct keeper_module *m = stream->source.owner;

    if (stream->source.fd >= 0) {
        lines_end(stream->lines, take_line, stream);
        keeper_unwatch(m->keeper, &stream->source);
    }
    free(stream->lines);
    stream->lines = NULL;
    stream->paused = false;
}

/* Reads one portion, of at most MOST bytes; how many. 0: there is nothing, or
 * no more: then it is closed. */
static size_t
read_stream(struct keeper_stream *stream, size_t most)
{
    struct keeper_module *m = stream->source.owner;
    char bytes[16384];
    ssize_t n;

    if (stream->source.fd < 0) {
        return 0;
    }
    n = read(stream->source.fd, bytes, MIN_OF(most, sizeof(bytes)));
    if (n > 0) {
        m->output.bytes += (size_t)n;
        lines_add(stream->lines, bytes, (size_t)n, take_line, stream);
        return (size_t)n;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        output_close(stream);
    }
    return 0;
}

void
output_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper_stream *stream = (struct keeper_stream *)source;
    struct keeper_module *m = source->owner;

    output_begin_second(m);
    if (read_stream(stream, SIZE_MAX) == 0) {
        if (stream->source.fd < 0 && stream->writer != NULL) {
            writer_stream_ended(stream->writer);
        }
    } else if (m->output.bytes >= OUTPUT_BYTES) {
        /* Out of the set: a hang-up would be told again and again. */
        epoll_ctl(m->keeper->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        stream->paused = true;
    }
}

void
output_read(struct keeper_stream *stream, size_t most)
{
    size_t n;

    while (most > 0 && (n = read_stream(stream, most)) > 0) {
        most -= n;
    }
    if (stream->lines != NULL) {
        lines_end(stream->lines, take_line, stream);
    }
}

int
output_pipe(struct keeper_module *m, struct keeper_stream *stream, int *p_end)
{
    int ends[2];

    if (stream->lines == NULL) {
        stream->lines = calloc(1, sizeof(*stream->lines));
    }
    if (stream->lines == NULL) {
        return -ENOMEM;
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    *p_end = ends[1];
    stream->source = (struct keeper_source){ends[0], output_ready, m};
    stream->paused = false;
    fcntl(ends[0], F_SETFL, O_NONBLOCK); /* this end alone */
    return keeper_watch(m->keeper, &stream->source, EPOLLIN);
}

int
output_open(struct keeper_module *m, struct spawn_fd fds[2])
{
    for (int i = 0; i < 2; i++) {
        int rc;

        fds[i] = (struct spawn_fd){-1, i + 1};
        rc = output_pipe(m, &m->streams[i], &fds[i].from);
        if (rc < 0) {
            return rc;
        }
    }
    writers_open(m);
    return 0;
}

void
output_drain(struct keeper_module *m)
{
    output_begin_second(m);
    for (int i = 0; i < 2; i++) {
        output_read(&m->streams[i], DRAIN_BYTES);
        output_close(&m->streams[i]);
    }
    writers_close(m);
    writers_drain(m);
    tell_dropped(m);
}

/* Is the end of this second awaited? */
static bool
is_due(const struct keeper_module *m)
{
    return m->output.dropped > 0 || m->streams[0].paused ||
           m->streams[1].paused || writers_wait(m);
}

void
output_tick(struct keeper *k, uint64_t now)
{
    FOR_EACH_MODULE (k, m) {
        if (is_due(m)) {
            output_begin_second(m);
        }
    }
}

uint64_t
output_deadline(const struct keeper *k)
{
    uint64_t first = UINT64_MAX;

    FOR_EACH_MODULE (k, m) {
        if (is_due(m)) {
            first = MIN_OF(first, m->output.began + NS_PER_SEC);
        }
    }
    return first;
}

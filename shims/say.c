/* A command may write to its standard error for ever. What it wrote is read and
 * counted, since to leave it in the pipe would stop a command that only talks
 * much; what is over the rate goes nowhere. The rate for all commands together
 * keeps many such clients from filling the log, the one for each keeps a loud
 * command from silencing the others. */
#include "say.h"

#include "base/util.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 1024

/* What all commands of this process passed on in the second. */
static struct say_all {
    pthread_mutex_t lock;
    int64_t second;
    unsigned n;
} say_all = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
say_args(const char *name, const char *about, const char *format, va_list args)
{
    char line[LINE_SIZE];
    int n = 0;

    if (about != NULL) {
        n = snprintf(line, sizeof(line), "%s: %s: ", name, about);
    } else {
        n = snprintf(line, sizeof(line), "%s: ", name);
    }
    n = MIN_OF(n, LINE_SIZE - 2);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    n = MIN_OF(n, LINE_SIZE - 2);
    line[n++] = '\n';
    if (write(2, line, (size_t)n) < 0) {
        return; /* nobody listens */
    }
}

void
say(const char *name, const char *about, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_args(name, about, format, args);
    va_end(args);
}

/* Counts one more line of second NOW; false: there were RATE already. */
static bool
count(int64_t *second, unsigned *n, int64_t now, unsigned rate)
{
    if (*second != now) {
        *second = now;
        *n = 0;
    }
    if (*n >= rate) {
        return false;
    }
    (*n)++;
    return true;
}

static bool
may_pass(struct say_stream *stream)
{
    struct timespec ts;
    bool yes;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    if (!count(&stream->second, &stream->n, ts.tv_sec, SAY_COMMAND_RATE)) {
        return false;
    }
    pthread_mutex_lock(&say_all.lock);
    yes = count(&say_all.second, &say_all.n, ts.tv_sec, SAY_ALL_RATE);
    pthread_mutex_unlock(&say_all.lock);
    return yes;
}

static void
tell_dropped(struct say_stream *stream)
{
    if (stream->dropped > 0) {
        say(stream->name, stream->about,
            "%" PRIu64 " lines of standard error dropped: there were too many "
            "a second",
            stream->dropped);
        stream->dropped = 0;
    }
}

static void
line_pass(struct say_stream *stream)
{
    if (may_pass(stream)) {
        tell_dropped(stream);
        say(stream->name, stream->about, "%.*s", (int)stream->len,
            stream->text);
    } else {
        stream->dropped++;
    }
    stream->len = 0;
}

void
say_stream_add(void *arg, const char *bytes, size_t len)
{
    struct say_stream *stream = arg;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '\n') {
            line_pass(stream);
            continue;
        }
        if (stream->len == SAY_LINE_MAX) {
            line_pass(stream);
        }
        /* A NUL would end what is printed. */
        stream->text[stream->len++] = (char)(bytes[i] != '\0' ? bytes[i] : ' ');
    }
}

void
say_stream_end(struct say_stream *stream)
{
    if (stream->len > 0) {
        line_pass(stream);
    }
    tell_dropped(stream);
}

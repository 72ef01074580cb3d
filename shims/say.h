/* Lines on standard error, which Cardea puts in its log: a shim's own, and what
 * its commands write to theirs, bounded. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* One line "NAME: ABOUT: ..." in one write, so that lines of several threads do
 * not mix; without ABOUT if that is NULL. Cut at 1,023 bytes. */
__attribute__((format(printf, 3, 4))) void
say(const char *name, const char *about, const char *format, ...);

/* The same with the arguments of a function that is called like it. */
__attribute__((format(printf, 3, 0))) void
say_args(const char *name, const char *about, const char *format, va_list args);

/* How many lines a second are passed on: of one command, and of all. */
#define SAY_COMMAND_RATE 100
#define SAY_ALL_RATE     1000

/* Longer ones are passed on in pieces. */
#define SAY_LINE_MAX 900

/* The standard error of one command, cut into lines. A zeroed one with NAME and
 * ABOUT set (strings of the caller, which outlive it) is ready. */
struct say_stream {
    const char *name, *about;
    char text[SAY_LINE_MAX];
    size_t len;
    int64_t second; /* in which N lines were passed on */
    unsigned n;
    uint64_t dropped; /* lines, and not said yet */
};

/* Passes LEN bytes on, whole lines alone; ARG is a struct say_stream. Lines
 * over a rate are dropped and counted; the next line that is passed on comes
 * behind one that says how many. */
void say_stream_add(void *arg, const char *bytes, size_t len);

/* The command has ended: passes on a line that has no end, and says how many
 * were dropped. */
void say_stream_end(struct say_stream *stream);

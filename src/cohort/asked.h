/* What is asked on the control socket: one line of words. */
#pragma once

#include <stddef.h>

/* CONTROL_ASKED(id, words, what it answers) */
#define CONTROL_ASKED(X)                                                       \
    X(HELP, "help", "this list")                                               \
    X(STATUS, "status", "the state of the server, for people")                 \
    X(STATUS_JSON, "status json", "the same as JSON")                          \
    X(MODULES, "modules", "a line a module: name, state, state of its door")   \
    X(PROCESSES, "processes", "a line a worker and module: what, which, pid")  \
    X(NUMBERS, "numbers", "the state as lines for programs")                   \
    X(LOG, "log", "the latest lines of the log")                               \
    X(LOG_FOLLOW, "log follow", "these, and each further one as it comes")     \
    X(CONFIGURATION, "configuration", "what it serves, as a configuration")    \
    X(RELOAD, "reload", "read the configuration again, and serve by it")       \
    X(STOP, "stop", "stop, and say what is waited for until the end")          \
    X(STOP_NOW, "stop now", "stop at once")

enum control_asked {
    ASKED_NOTHING, /* a sentence says why */
#define X(id, words, text) ASKED_##id,
    CONTROL_ASKED(X)
#undef X
};

#define ASKED_LINE_MAX 4096 /* bytes, with the newline */
#define ASKED_WHY_MAX  256

/* Understands the LEN bytes of LINE, without its newline (a carriage return at
 * its end is none of it). Words may stand any number of blanks apart. On
 * ASKED_NOTHING there is a sentence in WHY, of printable ASCII and without a
 * newline. */
enum control_asked control_asked(const char *line, size_t len,
                                 char why[ASKED_WHY_MAX]);
/* The words of ASKED, as they are sent. */
const char *control_words(enum control_asked asked);

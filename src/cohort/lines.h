/* Cutting a stream of bytes into lines of bounded length. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* So long that the line, with every byte written as \xNN, still fits into one
 * log line beside its other fields. */
#define LINES_MAX  2048
#define LINES_COST 1900

struct lines {
    char text[LINES_MAX];
    size_t len;
    size_t cost; /* of text, quoted */
};

/* One line, without its newline. MORE: it goes on in the next one, because it
 * was too long. TEXT is valid during the call. */
typedef void lines_take(void *arg, const char *text, size_t len, bool more);

/* Adds LEN bytes and calls TAKE for every line that is now whole. A zeroed
 * struct lines is an empty one. */
void lines_add(struct lines *lines, const char *bytes, size_t len,
               lines_take *take, void *arg);

/* The stream ended: calls TAKE for what is left, if anything. */
void lines_end(struct lines *lines, lines_take *take, void *arg);

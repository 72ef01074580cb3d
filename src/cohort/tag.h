/* Whose line of a module's output it is, if the line says so. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct tag {
    const char *request; /* its id within the line; NULL: none */
    size_t request_len;
    const char *pid; /* digits; NULL: none */
    size_t pid_len;
    size_t len; /* of what only tags: the text goes on behind it */
};

/* Reads the beginning of a line of LEN bytes: what cardea_log() writes,
 *
 *     request ID [PID]: text          ID is "-" where there is no request
 *
 * without "[PID]", or, as our shims write it, with a program's name before it:
 *
 *     cardea-exec: request ID: text
 *
 * then the name stays part of the text, and TAG->len is 0. False: it is no
 * such line; *TAG then names nothing. */
bool tag_parse(const char *line, size_t len, struct tag *tag);

/* Event and access lines: key=value, one line each, written with one write(2)
 * to a descriptor that may lose them (full pipe). Format:
 *   2026-11-20T17:00:00.123Z level=info event=door-open key=value ...
 * A value with a blank, '"', '=' or a byte outside 0x21..0x7e is quoted, with
 * \" \\ and \xNN inside. Nothing here allocates; errno is preserved. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

#define LOG_LINE_MAX 2048

struct log_line {
    char text[LOG_LINE_MAX];
    size_t len; /* a field that does not fit is left out whole */
};

/* The word for LEVEL. */
const char *log_level_name(enum log_level level);

/* Starts a line. WALL_NS: time since 1970. EVENT is a word of [a-z0-9-]. */
void log_begin(struct log_line *line, uint64_t wall_ns, enum log_level level,
               const char *event);
void log_text(struct log_line *line, const char *key, const char *value);
void log_bytes(struct log_line *line, const char *key, const char *value,
               size_t len);
void log_num(struct log_line *line, const char *key, uint64_t value);
/* Adds errno's name-like text under "error": `error="No such file ..."`. */
void log_errno(struct log_line *line, int error);
/* Milliseconds with three digits behind the point, of NS nanoseconds. */
void log_ms(struct log_line *line, const char *key, uint64_t ns);
/* Ends the line with a newline and writes it to FD. 0, or -1: lost. */
int log_end(struct log_line *line, int fd);

/* Mistakes found in a file: gathered in any order, written sorted by place. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "conf/conf.h"

#define CONF_MISTAKES_MAX 20
#define CONF_MESSAGE_MAX  320
#define CONF_SHOWN_MAX    72
#define CONF_THERE_MAX    (CONF_SHOWN_MAX + 24)

struct conf_mistake {
    struct conf_where where;
    char text[CONF_MESSAGE_MAX];
};

struct conf_report {
    const struct conf *conf; /* for names of files and macros */
    struct conf_mistake list[CONF_MISTAKES_MAX];
    size_t n;
    bool more; /* there were others */
};

/* Part of a message: a piece of the file, cut where it is long. */
struct conf_shown {
    char text[CONF_SHOWN_MAX];
};

/* Adds a mistake. A second one at the same place is left out: it follows from
 * the first. */
void conf_report_add(struct conf_report *report, struct conf_where where,
                     const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes one "file:line:column: message" a mistake, with the macro that the
 * place came from; "file: message" of line 0, and the message alone of line 0
 * in the first file. */
void conf_report_write(struct conf_report *report, FILE *errors);

/* By file, line and column. */
int conf_where_compare(struct conf_where a, struct conf_where b);

/* Part of a message: where something else stands. */
struct conf_there {
    char text[CONF_THERE_MAX];
};

/* "in line 3", or "in conf.d/x.conf:3" if THERE is in another file than HERE.
 */
struct conf_there conf_there(const struct conf_report *report,
                             struct conf_where here, struct conf_where there);

/* LEN bytes of TEXT to stand in a message; "..." at the end where it was cut
 * (never inside a UTF-8 sequence). */
struct conf_shown conf_shown(const char *text, size_t len);

/* The same of a path, cut at its beginning. */
struct conf_shown conf_shown_end(const char *path);

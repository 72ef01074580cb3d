/* Mistakes found in a file: gathered in any order, written sorted by place. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "conf/conf.h"

#define CONF_MISTAKES_MAX 20
#define CONF_MESSAGE_MAX  320
#define CONF_SHOWN_MAX    72

struct conf_mistake {
    struct conf_where where;
    char text[CONF_MESSAGE_MAX];
};

struct conf_report {
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

/* Writes one "NAME:line:column: message" a mistake. */
void conf_report_write(struct conf_report *report, const char *name,
                       FILE *errors);

/* LEN bytes of TEXT to stand in a message; "..." at the end where it was cut
 * (never inside a UTF-8 sequence). */
struct conf_shown conf_shown(const char *text, size_t len);

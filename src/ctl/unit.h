/* The systemd unit of a configuration. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct conf;

struct unit {
    const char *program; /* absolute: cardea */
    const char *file;    /* absolute: the configuration */
    const char *user;    /* whose file it is; NULL: root's */
    bool is_system;      /* else of one user's manager */
};

/* Writes the unit that runs UNIT (borrowed), whose file says CONF (borrowed),
 * to OUT. What the configuration needs is left open, all else is closed. See
 * systemd.exec(5). */
void unit_print(const struct unit *unit, const struct conf *conf, FILE *out);

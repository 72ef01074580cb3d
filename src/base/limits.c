/* The bounds of a module's program, or of each command of a shim. Who starts a
 * process sets them; a shim is itself no command, so it gets them as text and
 * sets them in its children.
 *
 * Invariants: n <= LIMITS_MAX, each resource of the table below at most once.
 */
#include "base/limits.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static const struct {
    int resource;
    const char *name;
} names[LIMITS_MAX] = {
    {RLIMIT_AS, "memory"},
    {RLIMIT_NOFILE, "files"},
    {RLIMIT_NPROC, "processes"},
    {RLIMIT_CPU, "cpu"},
};

void
limits_add(struct limits *limits, int resource, rlim_t value)
{
    if (limits->n < LIMITS_MAX) {
        limits->list[limits->n].resource = resource;
        limits->list[limits->n].bound.rlim_cur = value;
        limits->list[limits->n].bound.rlim_max =
            value + (resource == RLIMIT_CPU ? 1 : 0);
        limits->n++;
    }
}

int
limits_apply(const struct limits *limits)
{
    for (size_t i = 0; i < limits->n; i++) {
        struct rlimit now;
        struct rlimit bound = limits->list[i].bound;

        if (getrlimit((__rlimit_resource_t)limits->list[i].resource, &now) <
            0) {
            return -errno;
        }
        bound.rlim_max = MIN_OF(bound.rlim_max, now.rlim_max);
        bound.rlim_cur = MIN_OF(bound.rlim_cur, bound.rlim_max);
        if (setrlimit((__rlimit_resource_t)limits->list[i].resource, &bound) <
            0) {
            return -errno;
        }
    }
    return 0;
}

static const char *
name_of(int resource)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (names[i].resource == resource) {
            return names[i].name;
        }
    }
    return NULL;
}

void
limits_format(const struct limits *limits, char out[LIMITS_TEXT])
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < limits->n; i++) {
        const char *name = name_of(limits->list[i].resource);

        if (name != NULL) {
            /* The longest: 4 times a name of 9, 20 digits and 2 others. */
            len += (size_t)snprintf(out + len, LIMITS_TEXT - len,
                                    "%s%s=%" PRIu64, len > 0 ? " " : "", name,
                                    (uint64_t)limits->list[i].bound.rlim_cur);
        }
    }
}

/* Adds the bound at TEXT ("cpu=10"). What follows it, or NULL: it is none. */
static const char *
parse_one(const char *text, struct limits *limits)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i].name);
        unsigned long long value;
        char *end;

        if (strncmp(text, names[i].name, len) != 0 || text[len] != '=' ||
            !isdigit((unsigned char)text[len + 1])) {
            continue;
        }
        for (size_t other = 0; other < limits->n; other++) {
            if (limits->list[other].resource == names[i].resource) {
                return NULL;
            }
        }
        errno = 0;
        value = strtoull(text + len + 1, &end, 10);
        if (errno != 0 || value > INT64_MAX) {
            return NULL;
        }
        limits_add(limits, names[i].resource, (rlim_t)value);
        return end;
    }
    return NULL;
}

int
limits_parse(const char *text, struct limits *limits)
{
    limits->n = 0;
    while (text != NULL && text[0] != '\0') {
        text = parse_one(text, limits);
        if (text != NULL && text[0] == ' ' && text[1] != '\0') {
            text++;
        } else if (text == NULL || text[0] != '\0') {
            limits->n = 0;
            return -EINVAL;
        }
    }
    return 0;
}

/* Reading a line of the log: the other way of base/log.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIELDS_MAX      96
#define FIELDS_LINE_MAX 4096

struct json;

struct fields {
    char text[FIELDS_LINE_MAX + 1]; /* what the list points into */
    struct {
        const char *key, *value; /* end with a NUL */
    } list[FIELDS_MAX];
    size_t n;
};

/* Takes LINE apart: its first word becomes "time", the others key=value. false:
 * it is none of the log. Bytes that were escaped are themselves again, but for
 * NUL, which is '?'. */
bool fields_parse(struct fields *f, const char *line);
/* The value of KEY, or "" if there is none. */
const char *fields_text(const struct fields *f, const char *key);
/* The same as a whole number; what is behind a point is left out. 0: none. */
uint64_t fields_num(const struct fields *f, const char *key);
/* All of them into the object that is open in J: numbers as numbers. */
void fields_json(const struct fields *f, struct json *j);

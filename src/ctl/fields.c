/* A line comes from a server of our own user, and from what its programs print:
 * it may hold anything. No I/O, no memory but the caller's. */
#include "ctl/fields.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"

static int
hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Takes the quoted value at *P_AT, which is behind the first quote, in place.
 */
static bool
unquote(char **p_at)
{
    char *from = *p_at, *to = *p_at;

    while (*from != '"') {
        if (*from == '\0') {
            return false;
        }
        if (from[0] != '\\') {
            *to++ = *from++;
        } else if (from[1] == 'x' && hex(from[2]) >= 0 && hex(from[3]) >= 0) {
            char c = (char)(hex(from[2]) << 4 | hex(from[3]));

            *to++ = c;
            if (c == '\0') {
                to[-1] = '?';
            }
            from += 4;
        } else if (from[1] != '\0') {
            *to++ = from[1];
            from += 2;
        } else {
            return false;
        }
    }
    *to = '\0';
    *p_at = from + 1;
    return true;
}

/* One field at *P_AT. */
static bool
parse_field(struct fields *f, char **p_at)
{
    char *key = *p_at;
    char *equals = key + strcspn(key, "= ");
    char *value = equals + 1;
    char *end;

    if (*equals != '=' || equals == key) {
        return false;
    }
    *equals = '\0';
    if (*value == '"') {
        end = ++value;
        if (!unquote(&end) || (*end != ' ' && *end != '\0')) {
            return false;
        }
    } else {
        end = value + strcspn(value, " ");
    }
    *p_at = end + (*end == ' ');
    *end = '\0';
    if (f->n < FIELDS_MAX) {
        f->list[f->n].key = key;
        f->list[f->n++].value = value;
    }
    return true;
}

bool
fields_parse(struct fields *f, const char *line)
{
    size_t len = strnlen(line, FIELDS_LINE_MAX + 1);
    char *at = f->text;

    f->n = 0;
    if (len > FIELDS_LINE_MAX) {
        return false;
    }
    memcpy(f->text, line, len);
    f->text[len] = '\0';
    at += strcspn(at, " =");
    if (at == f->text || *at != ' ') {
        return false;
    }
    *at++ = '\0';
    f->list[f->n].key = "time";
    f->list[f->n++].value = f->text;
    while (*at != '\0') {
        if (!parse_field(f, &at)) {
            return false;
        }
    }
    return true;
}

const char *
fields_text(const struct fields *f, const char *key)
{
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->list[i].key, key) == 0) {
            return f->list[i].value;
        }
    }
    return "";
}

uint64_t
fields_num(const struct fields *f, const char *key)
{
    const char *value = fields_text(f, key);

    return *value >= '0' && *value <= '9' ? strtoull(value, NULL, 10) : 0;
}

/* Words that may look like numbers. */
static bool
is_word(const char *key)
{
    static const char *const words[] = {"id",   "request", "name", "module",
                                        "text", "target",  "host", "trace"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(words[i], key) == 0) {
            return true;
        }
    }
    return false;
}

void
fields_json(const struct fields *f, struct json *j)
{
    for (size_t i = 0; i < f->n; i++) {
        const char *key = f->list[i].key, *value = f->list[i].value;
        size_t whole = strspn(value, "0123456789");
        bool is_number = whole > 0 && whole < 16 && !is_word(key) &&
                         (value[0] != '0' || whole == 1);

        if (is_number && value[whole] == '\0') {
            json_num(j, key, strtoull(value, NULL, 10));
        } else if (is_number && whole < 12 && value[whole] == '.' &&
                   strspn(value + whole + 1, "0123456789") == 3 &&
                   value[whole + 4] == '\0') {
            uint64_t us = strtoull(value, NULL, 10) * 1000 +
                          strtoull(value + whole + 1, NULL, 10);

            json_ms(j, key, us * 1000);
        } else {
            json_text(j, key, value);
        }
    }
}

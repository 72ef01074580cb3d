/* Field lines (RFC 9112 section 5): name, colon, value. Nothing is mended: no
 * space before the colon, no folded lines, no control bytes. A value's bytes
 * are the bulk of a head, so eight are tested at a time. */
#include "http/http_priv.h"

#include <string.h>

#define ONES  0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* Is any byte of W below 0x20, or 0x7f? (HTAB too: the caller looks again.) */
static inline bool
word_has_control(uint64_t w)
{
    uint64_t del = w ^ (ONES * 0x7f);

    return ((((w - ONES * 0x20) & ~w) | ((del - ONES) & ~del)) & HIGHS) != 0;
}

/* The first byte from P on that no value may hold; there is one before END. */
static const char *
value_end(const char *p, const char *end)
{
    for (;;) {
        uint64_t w;

        while (end - p >= 8) {
            memcpy(&w, p, 8);
            if (word_has_control(w)) {
                break;
            }
            p += 8;
        }
        while (http_is(*p, HTTP_C_VALUE)) {
            p++;
            if (p[-1] == '\t') {
                break;
            }
        }
        if (!http_is(*p, HTTP_C_VALUE)) {
            return p;
        }
    }
}

int
http_field_line(const char *buf, const char **p_at, const char *end,
                bool lf_is_end, struct http_field *field)
{
    const char *line = *p_at, *p = line, *value, *stop;

    while (http_is(*p, HTTP_C_TOKEN)) {
        p++;
    }
    if (p == line || *p != ':') {
        return 400;
    }
    field->name.off = (uint32_t)(line - buf);
    field->name.len = (uint32_t)(p - line);
    p++;
    while (http_is_ows(*p)) {
        p++;
    }
    value = p;
    stop = value_end(p, end);
    if (stop[0] == '\r' && stop[1] == '\n') {
        *p_at = stop + 2;
    } else if (lf_is_end && stop[0] == '\n') {
        *p_at = stop + 1;
    } else {
        return 400;
    }
    p = stop;
    while (p > value && http_is_ows(p[-1])) {
        p--;
    }
    field->value.off = (uint32_t)(value - buf);
    field->value.len = (uint32_t)(p - value);
    return stop - line > HTTP_MAX_LINE ? 431 : HTTP_OK;
}

int
http_fields_parse(const char *buf, size_t len, struct http_field *fields,
                  uint32_t *p_n_fields)
{
    const char *p = buf, *end = buf + len;
    uint32_t n = 0;

    *p_n_fields = 0;
    if (len == 0) {
        return HTTP_OK;
    }
    if (len > HTTP_MAX_HEAD || end[-1] != '\n') {
        return 502;
    }
    while (p < end) {
        if (n == HTTP_MAX_FIELDS ||
            http_field_line(buf, &p, end, false, &fields[n]) != HTTP_OK) {
            return 502;
        }
        n++;
    }
    *p_n_fields = n;
    return HTTP_OK;
}

const struct http_field *
http_field_find(const char *buf, const struct http_field *fields,
                uint32_t n_fields, const char *name, size_t len)
{
    for (uint32_t i = 0; i < n_fields; i++) {
        if (fields[i].name.len == len &&
            http_token_is(buf + fields[i].name.off, name, len)) {
            return &fields[i];
        }
    }
    return NULL;
}

bool
http_field_is_free(const char *name, size_t len)
{
    static const char bound[][18] = {
        "te",
        "date",
        "trailer",
        "upgrade",
        "connection",
        "keep-alive",
        "content-length",
        "proxy-connection",
        "transfer-encoding",
    };

    for (size_t i = 0; i < sizeof(bound) / sizeof(bound[0]); i++) {
        if (strlen(bound[i]) == len && http_token_is(name, bound[i], len)) {
            return false;
        }
    }
    return true;
}

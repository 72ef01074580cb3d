/* What the fuzz programs of HTTP share. */
#pragma once

#include "base/fuzz.h"
#include "http/http.h"

/* Fields lie within BUF[0..LEN), names are not empty, and no value holds a
 * line's end or NUL. */
static inline void
fields_check(const char *buf, size_t len, const struct http_field *fields,
             uint32_t n)
{
    MUST(n <= HTTP_MAX_FIELDS);
    for (uint32_t i = 0; i < n; i++) {
        struct http_span name = fields[i].name, value = fields[i].value;

        MUST(name.len > 0 && name.off + name.len < len);
        MUST(value.off > name.off && value.off + value.len < len);
        MUST(memchr(buf + name.off, ' ', name.len) == NULL);
        MUST(memchr(buf + name.off, ':', name.len) == NULL);
        MUST(memchr(buf + value.off, '\r', value.len) == NULL);
        MUST(memchr(buf + value.off, '\n', value.len) == NULL);
        MUST(memchr(buf + value.off, '\0', value.len) == NULL);
    }
}

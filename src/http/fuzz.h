/* What the fuzz programs share. Each defines LLVMFuzzerTestOneInput(), which
 * libFuzzer or fuzz-replay.c calls; a broken invariant aborts. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                \
    do {                                                                       \
        if (!(x)) {                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

/* A copy with nothing behind it. To be freed. */
static inline char *
copy_exact(const void *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    MUST(copy != NULL);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    return copy;
}

/* A place to cut, anywhere in 0..SIZE, that the bytes themselves choose. */
static inline size_t
cut_of(const uint8_t *data, size_t size)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < size; i++) {
        h = (h ^ data[i]) * 16777619u;
    }
    return h % (size + 1);
}

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

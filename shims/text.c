/* Doubles, so that many small pieces cost no more than few large ones. */
#include "text.h"

#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST ((size_t)16 * 1024)

int
text_room(struct text *text, size_t n)
{
    size_t cap = MAX_OF(text->cap, FIRST);
    char *bytes;

    if (n > text->max - text->len) {
        errno = EMSGSIZE;
        return -1;
    }
    if (text->cap - text->len >= n) {
        return 0;
    }
    while (cap - text->len < n) {
        cap *= 2;
    }
    bytes = realloc(text->bytes, cap);
    if (bytes == NULL) {
        /* not reached: memory is gone */
        return -1;
    }
    text->bytes = bytes;
    text->cap = cap;
    return 0;
}

int
text_add(struct text *text, const char *bytes, size_t n)
{
    if (text_room(text, n) < 0) {
        return -1;
    }
    memcpy(text->bytes + text->len, bytes, n);
    text->len += n;
    return 0;
}

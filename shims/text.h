/* Bytes that grow up to a bound. */
#pragma once

#include <stddef.h>

/* A zeroed one with MAX set is ready; BYTES is freed by the owner. */
struct text {
    char *bytes;
    size_t len, cap, max;
};

/* Room for N more bytes behind LEN. 0; or -1 with errno: EMSGSIZE, that would
 * be more than MAX; ENOMEM. */
int text_room(struct text *text, size_t n);

/* Adds N bytes. As text_room(). */
int text_add(struct text *text, const char *bytes, size_t n);

/* SCGI, the side of the web server, as data. */
#pragma once

#include <stddef.h>

/* The headers of a request as a netstring: CONTENT_LENGTH first, then SCGI,
 * then ENV ("NAME=value" strings, NULL-terminated; its own CONTENT_LENGTH and
 * SCGI are left out). BODY_LEN bytes of body follow it on the connection.
 * *P_LEN bytes that the caller frees with free(). NULL: no memory. */
char *scgi_head_new(char *const *env, size_t body_len, size_t *p_len);

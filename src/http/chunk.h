/* Chunked transfer coding (RFC 9112 section 7.1), decoded in place or
 * to another place. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct http_chunk {
    uint8_t state;  /* of chunk.c's table; 0 at start */
    uint8_t digits; /* hex digits of the size so far */
    uint32_t line;  /* bytes of this size line or of all trailers so far */
    uint64_t left;  /* bytes left of the current chunk */
};

#define HTTP_CHUNK_DONE 2 /* with HTTP_OK 0 and HTTP_MORE 1 of http.h */

/* Decodes what arrived at BUF[0..LEN) in place: body bytes are moved to the
 * front. *P_OUT: how many body bytes now stand at BUF; *P_USED: how many of the
 * LEN bytes were consumed (all, unless DONE: the rest belongs to the next
 * request). HTTP_MORE: send more; HTTP_CHUNK_DONE: the last chunk and the
 * trailers (checked, then dropped) are behind us; 400: answer and close.
 * Strict: 1 to 15 hex digits, CRLF only, extensions parsed and dropped (at most
 * 1 KiB a line), trailers at most 8 KiB. The state is all in C. */
int http_chunk_decode(struct http_chunk *c, char *buf, size_t len,
                      size_t *p_out, size_t *p_used);

/* The same from FROM[0..LEN) to TO, which may be FROM, or not overlap: FROM
 * stays as it is then, so that the step can be made again from a copy of C. */
int http_chunk_copy(struct http_chunk *c, char *to, const char *from,
                    size_t len, size_t *p_out, size_t *p_used);

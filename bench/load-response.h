/*
 * The check of one HTTP/1.1 response, for the load generator.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define RESPONSE_BAD  (-1)
#define RESPONSE_MORE 0

/* What responses must be, and what the last good one looked like.  Zeroed by
 * its owner, who sets body (borrowed; NULL: any body will do). */
struct response_check {
    const char *body;
    size_t body_len;

    /* Learned from the last response that was read in full. */
    size_t total;
    size_t head;
    size_t length_at;
    size_t length_len;
    char length_line[64];
    bool close;
};

/*
 * Looks at the n bytes at buf, the start of a response (RFC 9112 section 4
 * and 6).  Good is: version 1.1, status 200, exactly one Content-Length of
 * digits only, no Transfer-Encoding, all bytes of the body there, and the
 * body equal to check->body if one is asked for.  Sets check->close if the
 * response carries "Connection: close".
 *
 * Returns the response's size in bytes when it is complete and good,
 * RESPONSE_MORE when bytes are missing, RESPONSE_BAD otherwise.  Neither
 * allocates nor keeps buf.
 */
long response_check(struct response_check *check, const char *buf, size_t n);

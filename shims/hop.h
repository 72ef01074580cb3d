/* HTTP/1.1 towards a program behind us, as data: the request's head, and the
 * verdict on what comes back, with the framing of the one connection taken off
 * (RFC 9110 section 7.6, RFC 9112). No I/O, no clock. */
#pragma once

#include "cgi.h"
#include "http/chunk.h"
#include "http/http.h"
#include "text.h"

#include <stdbool.h>
#include <stddef.h>

/* The head for REQ, of which method, target, host, peer, id, fields and
 * body_len count. Not passed are the fields of one connection, and what says
 * who asks (Forwarded, X-Forwarded-*, X-Real-IP): that we say ourselves.
 * *P_LEN bytes that the caller frees with free(). NULL: no memory. */
char *hop_head_new(const struct cgi_request *req, size_t *p_len);

enum hop_verdict {
    HOP_MORE,
    HOP_DONE,   /* HEAD and BODY are whole */
    HOP_BAD,    /* WHY says what is wrong */
    HOP_BIG,    /* more than text.max bytes */
    HOP_SCARCE, /* no memory */
};

struct hop {
    bool is_head; /* the request was HEAD: no body follows */
    bool keep;    /* with HOP_DONE: the connection can take another request */
    bool has_head;
    unsigned n_interim; /* answers 1xx that were dropped */
    struct text text;   /* head, and body without its framing */
    struct http_response head;
    struct http_chunk chunk;
    const char *why;
};

/* Takes LEN bytes that came; 0 stands for the connection's end. *HOP is zeroed
 * but for is_head and text.max before the first. Bytes behind the answer are
 * dropped, and keep is false then. */
enum hop_verdict hop_read(struct hop *hop, const char *bytes, size_t len);

/* Is NAME one of the names in a Connection field of HEAD, which was parsed from
 * BUF? Such a field belongs to the connection alone. */
bool hop_is_named(const char *buf, const struct http_response *head,
                  const struct http_span *name);

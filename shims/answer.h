/* Between a request of cardea.h and CGI: what shims that answer by CGI's rules
 * have in common. */
#pragma once

#include "cgi.h"

#include <stddef.h>

/* The most bytes of body that are sent. */
#define ANSWER_MAX ((size_t)16 * 1024 * 1024)

struct cardea_request; /* cardea.h */

/* Fills *REQ from R; FIELDS has room for HTTP_MAX_FIELDS. Strings are R's.
 * inherit and script are NULL, body_len is 0. */
void answer_describe(const struct cardea_request *r, struct cgi_field *fields,
                     struct cgi_request *req);

/* A page of ours: STATUS, the sentence TEXT and the request's id. */
void answer_refuse(struct cardea_request *r, int status, const char *text);

/* Sends ANSWER, whose spans lie in OUT: each name and value there gets a NUL
 * behind it. A body shorter than announced, or fields that cannot be sent, are
 * 502 after a line on standard error in NAME's name. */
void answer_send(struct cardea_request *r, const char *name, char *out,
                 const struct cgi_answer *answer);

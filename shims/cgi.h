/* CGI/1.1 (RFC 3875) as data: the environment of a command for one request, and
 * the verdict on what it wrote. No process and no door is touched here. */
#pragma once

#include "http/http.h"

#include <stddef.h>
#include <stdint.h>

struct cgi_field {
    const char *name, *value;
};

/* Strings end with NUL and are not NULL but where it says so. */
struct cgi_request {
    const char *method, *target, *query, *host, *peer, *id;
    int peer_port;
    uint64_t ms_left;         /* until the client is told 504; 0: not passed */
    const char *route, *rest; /* the path: what the route matched, and after */
    const char *script;       /* the command's own path; NULL: not passed */
    const struct cgi_field *fields;
    size_t n_fields;
    size_t body_len;
    char *const *inherit; /* "NAME=value" strings to pass on; NULL: none */
};

/* The environment for execve: NULL-terminated, in one block of memory that the
 * caller frees with free(). NULL: no memory. RFC 3875 section 4.1, and:
 * fields of the same name are joined; not passed are fields with a name of
 * other than letters, digits and '-' (an '_' could pose as a '-'), Proxy (a
 * library would take HTTP_PROXY for its settings), credentials, and those that
 * belong to the connection. CONTENT_LENGTH and CONTENT_TYPE are set only with a
 * body. */
char **cgi_env_new(const struct cgi_request *req);

struct cgi_answer {
    struct http_response head; /* spans are offsets into the output */
    int status;
    const char *body; /* within the output */
    size_t body_len;
};

#define CGI_WHY_SIZE 256

/* Judges OUT[0..LEN), all that a command wrote. 0 and *ANSWER is filled. Else
 * 502, and WHY says what was wrong, the first bad line quoted; printable, no
 * newline. A Location that is a path, without a Status, becomes a 302. */
int cgi_answer_parse(const char *out, size_t len, struct cgi_answer *answer,
                     char why[CGI_WHY_SIZE]);

/* The same for a command that need not know of CGI: OUT is judged as above only
 * if it begins with a valid head that has a Content-Type, a Status or a
 * Location. Anything else, as nothing at all, is the body of a 200, and its
 * head has no fields and no type. */
void cgi_answer_parse_plain(const char *out, size_t len,
                            struct cgi_answer *answer);

/* Copies LEN bytes to OUT (SIZE bytes, at least 8) for a person to read: what
 * is not printable becomes \xNN, what does not fit "...". Ends with NUL. */
void cgi_quote(const char *text, size_t len, char *out, size_t size);

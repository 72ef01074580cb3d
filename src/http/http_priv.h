/* What the files of src/http share among themselves: character classes, the
 * search for a head's end, one field line, and the framing rules that requests
 * and replies have in common. Nobody outside src/http includes this. */
#pragma once

#include "http/http.h"

/* Classes of http_class[]; a byte may be in several. */
#define HTTP_C_TOKEN  1  /* tchar, RFC 9110 5.6.2 */
#define HTTP_C_TARGET 2  /* visible ASCII but '#' */
#define HTTP_C_PLAIN  4  /* of TARGET: means nothing to a path */
#define HTTP_C_VALUE  8  /* HTAB, SP, visible ASCII, obs-text */
#define HTTP_C_HOST   16 /* unreserved and sub-delims, RFC 3986 2.2, 2.3 */
#define HTTP_C_DIGIT  32
#define HTTP_C_HEX    64

extern const uint8_t http_class[256];

static inline bool
http_is(char c, int classes)
{
    return (http_class[(unsigned char)c] & classes) != 0;
}

static inline bool
http_is_ows(char c)
{
    return c == ' ' || c == '\t';
}

/* The value of one hex digit; 0 to 15, or -1. */
static inline int
http_hex(char c)
{
    if (!http_is(c, HTTP_C_HEX)) {
        return -1;
    }
    return http_is(c, HTTP_C_DIGIT) ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Is the token at P, already known to have the length of NAME, this NAME
 * (lower case)? Setting bit 0x20 folds letters, and folds no other byte of a
 * token onto a letter, a digit or '-'. */
static inline bool
http_token_is(const char *p, const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((p[i] | 0x20) != name[i]) {
            return false;
        }
    }
    return true;
}

/* Looks for the empty line that ends a head, from *P_SCAN on, which it moves to
 * the start of the first line that is not complete. Verdicts depend on the
 * bytes only and not on how they were cut into calls.
 * HTTP_OK: *P_END is behind the empty line (or at the first line's end, if that
 * is empty). HTTP_MORE. 400: a bare CR, a bare LF or NUL. 414: the first line
 * is too long. 431: another line, the count of lines or the head is. */
int http_head_scan(const char *buf, size_t len, uint32_t *p_scan,
                   size_t *p_end);

/* Parses one field line at *P_AT and moves *P_AT behind its CRLF (or LF, with
 * LF_IS_END). END[-1] must be LF. HTTP_OK, 400 or 431 (line too long). */
int http_field_line(const char *buf, const char **p_at, const char *end,
                    bool lf_is_end, struct http_field *field);

/* What the fields said about the message's length and the connection. */
struct http_framing {
    struct http_span length, coding; /* the last seen */
    uint8_t n_lengths, n_codings;    /* seen; 2 stands for more */
    bool close, keep_alive;          /* Connection options */
    bool wrong;                      /* a Connection that is no list */
};

/* Takes note of FIELD if it is Content-Length, Transfer-Encoding or
 * Connection. *FRAMING is zeroed before the first. */
void http_framing_note(struct http_framing *framing, const char *buf,
                       const struct http_field *field);

/* The verdict on all that was noted, for a message of HTTP/1.MINOR (RFC 9112
 * section 6, without its leniency). HTTP_OK: *P_CHUNKED tells the coding and
 * *P_LENGTH the length (0 if there was none). 400. 501: one other transfer
 * coding, well written. */
int http_framing_judge(const struct http_framing *framing, const char *buf,
                       int minor, bool *p_chunked, uint64_t *p_length);

/* May the connection stay, by its version and the options noted? */
bool http_framing_keeps(const struct http_framing *framing, int minor);

/* Is this a Host value: uri-host [ ":" port ] of RFC 3986 3.2.2, not empty,
 * port at most 65535? */
bool http_host_is_valid(const char *host, size_t len);

/* Judges req->target, which is not of origin form and holds only bytes of
 * HTTP_C_TARGET, and fills path, query and (absolute form) host. HTTP_OK or
 * 400. */
int http_target_parse(const char *buf, struct http_request *req);

/* HTTP/1.1 (RFC 9110, 9112): the model of a request head and of a reply head,
 * and the strict parsers that fill them. Bytes in, verdict out: no I/O, no
 * allocation, no clock, no logging. Spans are offsets from the buffer's start.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_MAX_FIELDS 100
#define HTTP_MAX_LINE   8192  /* request line, and each field line */
#define HTTP_MAX_HEAD   32768 /* whole head, with its last empty line */

struct http_span {
    uint32_t off, len;
};

struct http_field {
    struct http_span name, value; /* value without surrounding white space */
};

enum http_method {
    HTTP_OTHER = 0, /* a valid token that is none of these */
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_PATCH,
    HTTP_OPTIONS,
    HTTP_CONNECT,
    HTTP_TRACE,
};

struct http_request {
    uint32_t head_len;       /* bytes of the head, with the empty line */
    uint8_t method;          /* enum http_method */
    uint8_t minor;           /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;         /* the client lets the connection stay */
    bool expect_continue;    /* Expect: 100-continue */
    bool chunked;            /* Transfer-Encoding: chunked */
    bool has_length;         /* a Content-Length was given */
    bool path_is_plain;      /* path needs no decoding: no % . .. // in it */
    uint64_t content_length; /* 0 without has_length */
    struct http_span method_name, target;
    struct http_span path, query; /* raw, within target; query without '?' */
    struct http_span host;        /* Host field, or absolute-form authority */
    uint32_t n_fields;
    struct http_field fields[HTTP_MAX_FIELDS];
};

/* What a parser says. A status (400, 414, 417, 431, 501, 505) means: answer so
 * and close. */
#define HTTP_OK   0
#define HTTP_MORE 1

/* Parses one request head at BUF[0..LEN). *P_SCAN is where the search for the
 * head's end goes on (0 at first; the caller keeps it between calls on the
 * same growing buffer, so that slow senders cost no rescans). Empty lines
 * before the request line must be skipped by the caller with
 * http_skip_empty(), before every call while *P_SCAN is 0.
 * HTTP_OK: *REQ is filled, REQ->head_len bytes are the head, *P_SCAN is 0 again
 * for the next one. path: "*" in asterisk-form, empty with CONNECT.
 * HTTP_MORE: the end is not there yet (and nothing seen so far is wrong in
 * length). Else the status to answer with before closing. */
int http_request_parse(const char *buf, size_t len, uint32_t *p_scan,
                       struct http_request *req);

/* How many bytes of empty lines (CRLF) stand at the start: RFC 9112 2.2. */
size_t http_skip_empty(const char *buf, size_t len);

/* First field of this name (lower case, LEN bytes), or NULL. Case-insensitive
 * in the request. BUF is what was parsed. */
const struct http_field *http_field_find(const char *buf,
                                         const struct http_field *fields,
                                         uint32_t n_fields, const char *name,
                                         size_t len);

struct http_response {
    uint32_t head_len;
    uint16_t status; /* 100 to 599 */
    uint8_t minor;
    bool chunked, has_length, keep_alive;
    uint64_t content_length;
    uint32_t n_fields;
    struct http_field fields[HTTP_MAX_FIELDS];
};

/* Parses a response head (what a plain door returns). HTTP_OK, HTTP_MORE
 * (incomplete), or 502: not a valid head. Same strictness as requests. */
int http_response_parse(const char *buf, size_t len,
                        struct http_response *resp);

/* Parses a CGI reply's header lines (RFC 3875 section 6): ends at the first
 * empty line; LF or CRLF ends a line. Status sets resp->status (default 200;
 * 302 with a Location of absolute form and no Status) and is not in fields.
 * HTTP_OK, HTTP_MORE, or 502: also with Transfer-Encoding, a Status below 200,
 * no field at all, or Status, Location or Content-Type given twice. */
int http_cgi_parse(const char *buf, size_t len, struct http_response *resp);

/* Parses bare field lines "Name: value\r\n"* of exactly LEN bytes (what a
 * cardea.h door gives). HTTP_OK or 502 (bad name, CR, LF or NUL within, no
 * last CRLF, too many, a line or all of them longer than a head's may be). */
int http_fields_parse(const char *buf, size_t len, struct http_field *fields,
                      uint32_t *p_n_fields);

/* May a door set this field? false for those that frame the message or belong
 * to one connection: Connection, Keep-Alive, Transfer-Encoding,
 * Content-Length, Upgrade, Proxy-Connection, TE, Trailer, Date. */
bool http_field_is_free(const char *name, size_t len);

/* Decodes %XX, removes "." and ".." segments and doubled slashes. OUT has room
 * for LEN + 1 bytes. The length, or -1: an escape that is not two hex digits,
 * %2F, %00, a backslash (plain or %5C), a control byte, not UTF-8, or ".."
 * above the root. OUT is terminated with NUL and starts with '/'. */
int http_path_decode(const char *path, size_t len, char *out);

/* A place in a trace of calls (W3C Trace Context, level 1). */
struct http_trace {
    uint64_t id[2]; /* of the trace, not all zero */
    uint64_t span;  /* of the caller, not zero */
    uint8_t flags;
};
#define HTTP_TRACE_LEN   55
#define HTTP_TRACE_FLAGS 1 /* that we know: sampled */

/* The value of a field traceparent: LEN bytes at TEXT. false: it is not valid,
 * and the trace is to begin anew. */
bool http_trace_parse(const char *text, size_t len, struct http_trace *trace);
/* The same as text of version 00, with a NUL behind. */
void http_trace_print(const struct http_trace *trace,
                      char out[HTTP_TRACE_LEN + 1]);

/* "Not Found" for 404; "" for a status that has no registered phrase. */
const char *http_reason(int status);

/* Writes "Fri, 20 Nov 2026 17:00:00 GMT" (29 bytes and NUL) for SECONDS since
 * 1970 (RFC 9110 section 5.6.7). */
#define HTTP_DATE_LEN 29
void http_date(int64_t seconds, char out[HTTP_DATE_LEN + 1]);

/* The reverse, all three forms of RFC 9110 5.6.7. Seconds, or -1. */
int64_t http_date_parse(const char *text, size_t len);

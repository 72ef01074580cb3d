/* Heads of replies that programs behind the server give: a whole HTTP/1.1
 * reply (RFC 9112 section 4), or the header lines of a CGI script (RFC 3875
 * section 6). Both are as hostile as a request: a reply that could be read in
 * two ways becomes 502 and never reaches a client. */
#include "http/http_priv.h"

#include <string.h>

/* Three digits, 100 to 599; else 0. */
static uint16_t
status_parse(const char *p)
{
    if (p[0] < '1' || p[0] > '5' || !http_is(p[1], HTTP_C_DIGIT) ||
        !http_is(p[2], HTTP_C_DIGIT)) {
        return 0;
    }
    return (uint16_t)((p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0'));
}

/* HTTP-version SP status-code SP [ reason-phrase ] CRLF, ending at *P_AT. */
static bool
line_dissect(const char *buf, const char **p_at, const char *end,
             struct http_response *resp)
{
    const char *p = buf;

    if (end - p < 15 || memcmp(p, "HTTP/1.", 7) != 0 ||
        !http_is(p[7], HTTP_C_DIGIT) || p[8] != ' ' || p[12] != ' ') {
        return false;
    }
    resp->minor = p[7] != '0';
    resp->status = status_parse(p + 9);
    p += 13;
    while (http_is(*p, HTTP_C_VALUE)) {
        p++;
    }
    *p_at = p + 2;
    return resp->status != 0 && p[0] == '\r' && p[1] == '\n';
}

/* Fields up to the empty line; *P_AT moves behind it. */
static bool
fields_dissect(const char *buf, const char **p_at, const char *end,
               struct http_framing *framing, struct http_response *resp)
{
    uint32_t n = 0;

    while (**p_at != '\r') {
        if (n == HTTP_MAX_FIELDS ||
            http_field_line(buf, p_at, end, false, &resp->fields[n]) !=
                HTTP_OK) {
            return false;
        }
        http_framing_note(framing, buf, &resp->fields[n]);
        n++;
    }
    *p_at += 2;
    resp->n_fields = n;
    return (*p_at)[-1] == '\n';
}

/* RFC 9112 6.1 and RFC 9110 8.6: no body may be announced with 1xx and 204. */
static bool
may_have_body(const struct http_response *resp)
{
    return resp->status >= 200 && resp->status != 204;
}

int
http_response_parse(const char *buf, size_t len, struct http_response *resp)
{
    struct http_framing framing = {0};
    const char *p = NULL;
    uint32_t scan = 0;
    size_t end;
    int rc = http_head_scan(buf, len, &scan, &end);

    if (rc == HTTP_MORE) {
        return HTTP_MORE;
    }
    if (rc != HTTP_OK || !line_dissect(buf, &p, buf + end, resp) ||
        !fields_dissect(buf, &p, buf + end, &framing, resp) ||
        http_framing_judge(&framing, buf, resp->minor, &resp->chunked,
                           &resp->content_length) != HTTP_OK) {
        return 502;
    }
    if (!may_have_body(resp) && (resp->chunked || resp->content_length > 0)) {
        return 502;
    }
    resp->head_len = (uint32_t)(p - buf);
    resp->has_length = framing.n_lengths != 0;
    resp->keep_alive = http_framing_keeps(&framing, resp->minor);
    return HTTP_OK;
}

/* The end of the first empty line, whatever ends its lines; 0: not there. */
static size_t
cgi_end(const char *buf, size_t len)
{
    const char *p = buf, *end = buf + len;

    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));

        if (lf == NULL) {
            return 0;
        }
        if (lf == p || (lf == p + 1 && *p == '\r')) {
            return (size_t)(lf + 1 - buf);
        }
        p = lf + 1;
    }
    return 0;
}

/* scheme ":" at the start (RFC 3986 3.1): a client redirect, no local one. */
static bool
is_absolute(const char *p, size_t len)
{
    size_t i = 0;

    while (i < len &&
           (http_is(p[i], HTTP_C_DIGIT) || p[i] == '+' || p[i] == '-' ||
            p[i] == '.' || ((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'z'))) {
        i++;
    }
    return i > 0 && i < len && p[i] == ':' && (p[0] | 0x20) >= 'a';
}

/* What a script may say once only (RFC 3875 6.3). */
struct cgi_notes {
    struct http_framing framing;
    bool type, location, status, absolute;
};

/* Notes FIELD. False: not allowed. *P_KEEP: it goes on to the client. */
static bool
cgi_note(struct cgi_notes *notes, const char *buf,
         const struct http_field *field, struct http_response *resp,
         bool *p_keep)
{
    const char *name = buf + field->name.off, *value = buf + field->value.off;
    uint32_t len = field->value.len;
    bool *p_once = NULL;
    bool again;

    *p_keep = true;
    if (field->name.len == 6 && http_token_is(name, "status", 6)) {
        *p_keep = false;
        p_once = &notes->status;
        resp->status = len < 3 ? 0 : status_parse(value);
        if (resp->status < 200 || (len > 3 && value[3] != ' ')) {
            return false;
        }
    } else if (field->name.len == 8 && http_token_is(name, "location", 8)) {
        p_once = &notes->location;
        notes->absolute = is_absolute(value, len);
    } else if (field->name.len == 12 &&
               http_token_is(name, "content-type", 12)) {
        p_once = &notes->type;
    } else {
        http_framing_note(&notes->framing, buf, field);
    }
    again = p_once != NULL && *p_once;
    if (p_once != NULL) {
        *p_once = true;
    }
    return !again;
}

/* The lines of BUF[0..END), with the empty one. False: not a CGI reply. */
static bool
cgi_dissect(const char *buf, const char *end, struct cgi_notes *notes,
            struct http_response *resp)
{
    const char *p = buf;
    uint32_t n = 0;

    while (*p != '\n' && (*p != '\r' || p[1] != '\n')) {
        struct http_field field;
        bool keep;

        if (http_field_line(buf, &p, end, true, &field) != HTTP_OK ||
            !cgi_note(notes, buf, &field, resp, &keep)) {
            return false;
        }
        if (keep) {
            if (n == HTTP_MAX_FIELDS) {
                return false;
            }
            resp->fields[n++] = field;
        }
    }
    resp->n_fields = n;
    return n > 0 || notes->status;
}

int
http_cgi_parse(const char *buf, size_t len, struct http_response *resp)
{
    struct cgi_notes notes = {0};
    size_t max = len < HTTP_MAX_HEAD ? len : HTTP_MAX_HEAD;
    size_t end = cgi_end(buf, max);

    if (end == 0) {
        return len >= HTTP_MAX_HEAD ? 502 : HTTP_MORE;
    }
    resp->status = 200;
    if (!cgi_dissect(buf, buf + end, &notes, resp) ||
        notes.framing.n_codings > 0 ||
        http_framing_judge(&notes.framing, buf, 1, &resp->chunked,
                           &resp->content_length) != HTTP_OK) {
        return 502;
    }
    if (notes.absolute && !notes.status) {
        resp->status = 302;
    }
    if (!may_have_body(resp) && resp->content_length > 0) {
        return 502;
    }
    resp->head_len = (uint32_t)end;
    resp->minor = 1;
    resp->has_length = notes.framing.n_lengths != 0;
    resp->keep_alive = true;
    return HTTP_OK;
}

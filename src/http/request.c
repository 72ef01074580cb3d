/* The head of a request, by RFC 9112 (sections 2, 3, 6, 9) and RFC 9110 (7.2,
 * 10.1.1).
 *
 * Three stages. Complete: http_head_scan() finds the empty line. Dissect: one
 * pass over the bytes makes spans. Judge: the few fields that mean something to
 * the server itself are checked against each other. Heads that come in one
 * piece are the rule, so when an empty line is there at the first call a quick
 * look takes the place of the first stage; when such a head turns out to be
 * bad, the stage is made up for, so that the status does not depend on how the
 * bytes were cut.
 *
 * Invariant of the dissection: BUF[0..end) holds an empty line that ends the
 * head, so its LF stops every loop over a class and no loop looks for END. */
#include "http/http_priv.h"

#include <string.h>

#define VERSION_LEN 8

struct notes {
    struct http_framing framing;
    struct http_span host;
    uint8_t n_hosts; /* 2 stands for more */
    bool expects_continue, expects_other;
};

static uint8_t
method_of(const char *name, size_t len)
{
    static const struct {
        char name[8];
        uint8_t len, method;
    } table[] = {
        {"GET", 3, HTTP_GET},         {"HEAD", 4, HTTP_HEAD},
        {"POST", 4, HTTP_POST},       {"PUT", 3, HTTP_PUT},
        {"DELETE", 6, HTTP_DELETE},   {"PATCH", 5, HTTP_PATCH},
        {"OPTIONS", 7, HTTP_OPTIONS}, {"CONNECT", 7, HTTP_CONNECT},
        {"TRACE", 5, HTTP_TRACE},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].len == len && memcmp(table[i].name, name, len) == 0) {
            return table[i].method;
        }
    }
    return HTTP_OTHER;
}

/* A target that starts with '/': path, query and whether the path is plain in
 * one go. Returns behind the target. */
static const char *
origin_dissect(const char *buf, const char *p, struct http_request *req)
{
    const char *start = p;
    bool plain = true;

    for (;;) {
        while (http_is(*p, HTTP_C_PLAIN)) {
            p++;
        }
        if (*p == '/') {
            plain &= p[1] != '/' && p[1] != '.';
        } else if (*p == '%' || *p == '\\') {
            plain = false;
        } else {
            break;
        }
        p++;
    }
    req->path_is_plain = plain;
    req->path.off = (uint32_t)(start - buf);
    req->path.len = (uint32_t)(p - start);
    if (*p == '?') {
        start = ++p;
        while (http_is(*p, HTTP_C_TARGET)) {
            p++;
        }
        req->query.off = (uint32_t)(start - buf);
        req->query.len = (uint32_t)(p - start);
    }
    return p;
}

/* HTTP-version and CRLF at P. */
static int
version_parse(const char *p, const char *end, struct http_request *req)
{
    if (end - p < VERSION_LEN + 2 || memcmp(p, "HTTP/", 5) != 0 ||
        !http_is(p[5], HTTP_C_DIGIT) || p[6] != '.' ||
        !http_is(p[7], HTTP_C_DIGIT) || p[8] != '\r' || p[9] != '\n') {
        return 400;
    }
    req->minor = p[7] != '0';
    return p[5] == '1' ? HTTP_OK : 505;
}

static int
line_dissect(const char *buf, const char **p_at, const char *end,
             struct http_request *req)
{
    const char *p = buf;
    int rc;

    while (http_is(*p, HTTP_C_TOKEN)) {
        p++;
    }
    if (p == buf || *p != ' ') {
        return 400;
    }
    req->method_name.off = 0;
    req->method_name.len = (uint32_t)(p - buf);
    req->method = method_of(buf, req->method_name.len);
    p++;
    req->target.off = (uint32_t)(p - buf);
    req->path = req->query = req->host = (struct http_span){0, 0};
    if (*p == '/') {
        p = origin_dissect(buf, p, req);
    } else {
        while (http_is(*p, HTTP_C_TARGET)) {
            p++;
        }
    }
    req->target.len = (uint32_t)(p - buf) - req->target.off;
    if (req->target.len == 0 || *p != ' ') {
        return 400;
    }
    rc = version_parse(p + 1, end, req);
    *p_at = p + 1 + VERSION_LEN + 2;
    if (rc == HTTP_OK && p + 1 + VERSION_LEN - buf > HTTP_MAX_LINE) {
        rc = 414;
    }
    return rc;
}

static void
field_note(struct notes *notes, const char *buf, const struct http_field *field)
{
    const char *name = buf + field->name.off;

    switch (field->name.len) {
    case 4:
        if (http_token_is(name, "host", 4)) {
            notes->host = field->value;
            notes->n_hosts = notes->n_hosts == 0 ? 1 : 2;
        }
        break;
    case 6:
        if (http_token_is(name, "expect", 6)) {
            if (field->value.len == 12 &&
                http_token_is(buf + field->value.off, "100-continue", 12)) {
                notes->expects_continue = true;
            } else {
                notes->expects_other = true;
            }
        }
        break;
    case 10:
    case 14:
    case 17:
        http_framing_note(&notes->framing, buf, field);
        break;
    default:
        break;
    }
}

static bool
hosts_agree(const char *buf, struct http_span a, struct http_span b)
{
    if (a.len != b.len) {
        return false;
    }
    for (uint32_t i = 0; i < a.len; i++) {
        char x = buf[a.off + i], y = buf[b.off + i];

        if (x != y && ((x | 0x20) != (y | 0x20) || (x | 0x20) < 'a' ||
                       (x | 0x20) > 'z')) {
            return false;
        }
    }
    return true;
}

/* Exactly one Host in HTTP/1.1, at most one in 1.0; it agrees with the target.
 */
static int
host_judge(const char *buf, const struct notes *notes, struct http_request *req)
{
    if (notes->n_hosts == 0) {
        return req->minor == 0 ? HTTP_OK : 400;
    }
    if (notes->n_hosts > 1 ||
        !http_host_is_valid(buf + notes->host.off, notes->host.len)) {
        return 400;
    }
    if (req->host.len != 0) {
        return hosts_agree(buf, req->host, notes->host) ? HTTP_OK : 400;
    }
    req->host = notes->host;
    return HTTP_OK;
}

static int
request_judge(const char *buf, const struct notes *notes,
              struct http_request *req)
{
    int rc;

    if (buf[req->target.off] != '/' || req->method == HTTP_CONNECT) {
        if (http_target_parse(buf, req) != HTTP_OK) {
            return 400;
        }
    }
    if (host_judge(buf, notes, req) != HTTP_OK) {
        return 400;
    }
    rc = http_framing_judge(&notes->framing, buf, req->minor, &req->chunked,
                            &req->content_length);
    if (rc != HTTP_OK) {
        return rc;
    }
    req->has_length = notes->framing.n_lengths != 0;
    req->keep_alive = http_framing_keeps(&notes->framing, req->minor);
    req->expect_continue = notes->expects_continue && req->minor >= 1;
    return notes->expects_other ? 417 : HTTP_OK;
}

static int
request_dissect(const char *buf, const char *end, struct http_request *req)
{
    struct notes notes = {0};
    const char *p = NULL;
    uint32_t n = 0;
    int rc = line_dissect(buf, &p, end, req);

    if (rc != HTTP_OK) {
        return rc;
    }
    while (*p != '\r') {
        if (n == HTTP_MAX_FIELDS) {
            return 431;
        }
        rc = http_field_line(buf, &p, end, false, &req->fields[n]);
        if (rc != HTTP_OK) {
            return rc;
        }
        field_note(&notes, buf, &req->fields[n]);
        n++;
    }
    if (p[1] != '\n') {
        return 400;
    }
    req->n_fields = n;
    req->head_len = (uint32_t)(p + 2 - buf);
    if (req->head_len > HTTP_MAX_HEAD) {
        return 431;
    }
    return request_judge(buf, &notes, req);
}

/* Where an empty line ends that may be the head's, or 0: a quick look, without
 * the checks of http_head_scan(). */
static size_t
end_guess(const char *buf, size_t len)
{
    const char *p = buf, *end;

    if (len >= 4 && memcmp(buf + len - 4, "\r\n\r\n", 4) == 0) {
        return len;
    }
    end = buf + (len < HTTP_MAX_HEAD ? len : HTTP_MAX_HEAD);
    while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        p++;
        if (end - p >= 2 && p[0] == '\r' && p[1] == '\n' && p - buf >= 2 &&
            p[-2] == '\r') {
            return (size_t)(p + 2 - buf);
        }
    }
    return 0;
}

int
http_request_parse(const char *buf, size_t len, uint32_t *p_scan,
                   struct http_request *req)
{
    size_t guess = *p_scan == 0 ? end_guess(buf, len) : 0, end = guess;
    int rc, early;

    if (guess == 0) {
        rc = http_head_scan(buf, len, p_scan, &end);
        if (rc != HTTP_OK) {
            return rc;
        }
    }
    rc = request_dissect(buf, buf + end, req);
    if (rc != HTTP_OK && guess != 0) {
        early = http_head_scan(buf, len, p_scan, &end);
        if (early != HTTP_OK) {
            return early;
        }
    }
    *p_scan = 0;
    return rc;
}

size_t
http_skip_empty(const char *buf, size_t len)
{
    size_t n = 0;

    while (len - n >= 2 && buf[n] == '\r' && buf[n + 1] == '\n') {
        n += 2;
    }
    return n;
}

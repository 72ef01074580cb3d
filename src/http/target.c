/* Request targets that are not a path (RFC 9112 3.2.2 to 3.2.4), and the
 * syntax of a host. Which host a request is for must have one answer only, so
 * user information, empty hosts and other schemes are refused. */
#include "http/http_priv.h"

#include <arpa/inet.h>
#include <string.h>

/* The length of "[...]" at the start of S, or 0 if no IPv6 address is in it. */
static size_t
ip6_literal(const char *s, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[16];
    const char *close = memchr(s, ']', len);
    size_t n;

    if (close == NULL) {
        return 0;
    }
    n = (size_t)(close - s) - 1;
    if (n >= sizeof(text)) {
        return 0;
    }
    memcpy(text, s + 1, n);
    text[n] = '\0';
    if (strlen(text) != n || inet_pton(AF_INET6, text, address) != 1) {
        return 0;
    }
    return n + 2;
}

static size_t
reg_name(const char *s, size_t len)
{
    size_t i = 0;

    for (;;) {
        while (i < len && http_is(s[i], HTTP_C_HOST)) {
            i++;
        }
        if (len - i < 3 || s[i] != '%' || !http_is(s[i + 1], HTTP_C_HEX) ||
            !http_is(s[i + 2], HTTP_C_HEX)) {
            return i;
        }
        i += 3;
    }
}

bool
http_host_is_valid(const char *host, size_t len)
{
    uint32_t port = 0;
    size_t i;

    if (len == 0) {
        return false;
    }
    i = host[0] == '[' ? ip6_literal(host, len) : reg_name(host, len);
    if (i == 0) {
        return false;
    }
    if (i == len) {
        return true;
    }
    if (host[i] != ':') {
        return false;
    }
    for (i++; i < len; i++) {
        if (!http_is(host[i], HTTP_C_DIGIT)) {
            return false;
        }
        port = port * 10 + (uint32_t)(host[i] - '0');
        if (port > 65535) {
            return false;
        }
    }
    return true;
}

/* Is there a port behind this valid host, as CONNECT must have? */
static bool
has_port(const char *host, size_t len)
{
    return http_is(host[len - 1], HTTP_C_DIGIT) &&
           memchr(host, ':', len) != NULL;
}

static bool
path_is_plain(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '/') {
            if (i + 1 < len && (p[i + 1] == '/' || p[i + 1] == '.')) {
                return false;
            }
        } else if (!http_is(p[i], HTTP_C_PLAIN)) {
            return false;
        }
    }
    return true;
}

/* http://HOST/PATH?QUERY. An empty path stands for "/" (RFC 9110 4.2.3): the
 * span then shows the last slash of "://". */
static int
absolute_parse(const char *buf, struct http_request *req)
{
    const char *s = buf + req->target.off, *end = s + req->target.len;
    const char *p, *host;

    if (req->target.len > 7 && http_token_is(s, "http", 4) &&
        memcmp(s + 4, "://", 3) == 0) {
        host = s + 7;
    } else if (req->target.len > 8 && http_token_is(s, "https", 5) &&
               memcmp(s + 5, "://", 3) == 0) {
        host = s + 8;
    } else {
        return 400;
    }
    for (p = host; p < end && *p != '/' && *p != '?';) {
        p++;
    }
    if (!http_host_is_valid(host, (size_t)(p - host))) {
        return 400;
    }
    req->host.off = (uint32_t)(host - buf);
    req->host.len = (uint32_t)(p - host);
    req->path.off = (uint32_t)(p - buf);
    while (p < end && *p != '?') {
        p++;
    }
    req->path.len = (uint32_t)(p - buf) - req->path.off;
    if (req->path.len == 0) {
        req->path.off = req->host.off - 1;
        req->path.len = 1;
    }
    if (p < end) {
        req->query.off = (uint32_t)(p + 1 - buf);
        req->query.len = (uint32_t)(end - p - 1);
    }
    req->path_is_plain = path_is_plain(buf + req->path.off, req->path.len);
    return HTTP_OK;
}

int
http_target_parse(const char *buf, struct http_request *req)
{
    const char *s = buf + req->target.off;
    size_t len = req->target.len;

    req->path_is_plain = false;
    if (req->method == HTTP_CONNECT) {
        return http_host_is_valid(s, len) && has_port(s, len) ? HTTP_OK : 400;
    }
    if (len == 1 && *s == '*') {
        req->path = req->target;
        return req->method == HTTP_OPTIONS ? HTTP_OK : 400;
    }
    return absolute_parse(buf, req);
}

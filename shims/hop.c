/* A reply is parsed as strictly as a request: what could be read in two ways is
 * refused, and never reaches a client. */
#include "hop.h"

#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define INTERIM_MAX 8
#define HEAD_MAX    ((size_t)256 * 1024)

/* ----- the request ----- */

static void
put(struct text *text, bool *p_failed, const char *s)
{
    *p_failed = *p_failed || text_add(text, s, strlen(s)) < 0;
}

static void
put_field(struct text *text, bool *p_failed, const char *name,
          const char *value)
{
    put(text, p_failed, name);
    put(text, p_failed, ": ");
    put(text, p_failed, value);
    put(text, p_failed, "\r\n");
}

static bool
is_passed(const char *name)
{
    static const char *const not_passed[] = {
        "Connection",
        "Content-Length",
        "Expect",
        "Forwarded",
        "Host",
        "Keep-Alive",
        "Proxy",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Real-IP",
        "X-Request-Id",
        "X-Request-Timeout-Ms",
    };

    for (size_t i = 0; i < ARRAY_LEN(not_passed); i++) {
        if (strcasecmp(name, not_passed[i]) == 0) {
            return false;
        }
    }
    return strncasecmp(name, "X-Forwarded-", 12) != 0;
}

/* NAME among the words of LIST, which commas and white space part? */
static bool
is_listed(const char *list, size_t len, const char *name, size_t name_len)
{
    size_t at = 0;

    while (at < len) {
        size_t n = 0;

        while (at + n < len && strchr(", \t", list[at + n]) == NULL) {
            n++;
        }
        if (n == name_len && n > 0 && strncasecmp(list + at, name, n) == 0) {
            return true;
        }
        at += n + 1;
    }
    return false;
}

static bool
is_of_connection(const struct cgi_request *req, const char *name)
{
    for (size_t i = 0; i < req->n_fields; i++) {
        const char *value = req->fields[i].value;

        if (strcasecmp(req->fields[i].name, "Connection") == 0 &&
            is_listed(value, strlen(value), name, strlen(name))) {
            return true;
        }
    }
    return false;
}

/* The target in origin form (RFC 9112 3.2.1): of an absolute one, what follows
 * the authority. */
static void
put_target(struct text *text, bool *p_failed, const char *target)
{
    const char *at = target;

    if (target[0] != '/' && strstr(target, "://") != NULL) {
        at = strstr(target, "://") + 3;
        at += strcspn(at, "/?");
        if (*at != '/') {
            put(text, p_failed, "/");
        }
    }
    put(text, p_failed, at);
}

static bool
wants_length(const struct cgi_request *req)
{
    return req->body_len > 0 || strcmp(req->method, "POST") == 0 ||
           strcmp(req->method, "PUT") == 0 || strcmp(req->method, "PATCH") == 0;
}

char *
hop_head_new(const struct cgi_request *req, size_t *p_len)
{
    struct text text = {.max = HEAD_MAX};
    bool failed = false;
    char number[24];

    put(&text, &failed, req->method);
    put(&text, &failed, " ");
    put_target(&text, &failed, req->target);
    put(&text, &failed, " HTTP/1.1\r\n");
    put_field(&text, &failed, "Host", req->host);
    for (size_t i = 0; i < req->n_fields; i++) {
        if (is_passed(req->fields[i].name) &&
            !is_of_connection(req, req->fields[i].name)) {
            put_field(&text, &failed, req->fields[i].name,
                      req->fields[i].value);
        }
    }
    put_field(&text, &failed, "X-Forwarded-For", req->peer);
    put_field(&text, &failed, "X-Forwarded-Host", req->host);
    put_field(&text, &failed, "X-Request-Id", req->id);
    if (req->ms_left > 0) {
        snprintf(number, sizeof(number), "%llu",
                 (unsigned long long)req->ms_left);
        put_field(&text, &failed, "X-Request-Timeout-Ms", number);
    }
    if (wants_length(req)) {
        snprintf(number, sizeof(number), "%zu", req->body_len);
        put_field(&text, &failed, "Content-Length", number);
    }
    put(&text, &failed, "\r\n");
    if (failed) {
        free(text.bytes);
        return NULL;
    }
    *p_len = text.len;
    return text.bytes;
}

/* ----- the answer ----- */

bool
hop_is_named(const char *buf, const struct http_response *head,
             const struct http_span *name)
{
    for (uint32_t i = 0; i < head->n_fields; i++) {
        const struct http_field *f = &head->fields[i];

        if (f->name.len == 10 &&
            strncasecmp(buf + f->name.off, "Connection", 10) == 0 &&
            is_listed(buf + f->value.off, f->value.len, buf + name->off,
                      name->len)) {
            return true;
        }
    }
    return false;
}

static enum hop_verdict
bad(struct hop *hop, const char *why)
{
    hop->why = why;
    return HOP_BAD;
}

static enum hop_verdict
done(struct hop *hop, bool is_framed, size_t n_behind)
{
    hop->text.len -= n_behind;
    hop->keep = is_framed && n_behind == 0 && hop->head.keep_alive;
    return HOP_DONE;
}

/* Takes an answer 1xx off the front. */
static enum hop_verdict
interim_drop(struct hop *hop)
{
    uint32_t n = hop->head.head_len;

    if (hop->head.status == 101) {
        return bad(hop, "it changes to another protocol, which nobody asked");
    }
    if (++hop->n_interim > INTERIM_MAX) {
        return bad(hop, "too many answers of status 1xx");
    }
    memmove(hop->text.bytes, hop->text.bytes + n, hop->text.len - n);
    hop->text.len -= n;
    return HOP_MORE;
}

/* Looks for a head at the front until there is one. */
static enum hop_verdict
head_read(struct hop *hop)
{
    while (!hop->has_head) {
        enum hop_verdict verdict = HOP_MORE;
        int rc;

        if (hop->text.len == 0) {
            return HOP_MORE;
        }
        rc = http_response_parse(hop->text.bytes, hop->text.len, &hop->head);
        if (rc == HTTP_MORE) {
            return HOP_MORE;
        }
        if (rc != HTTP_OK) {
            return bad(hop, "no valid head of an HTTP/1.1 answer");
        }
        if (hop->head.status >= 200) {
            hop->has_head = true;
        } else {
            verdict = interim_drop(hop);
        }
        if (verdict != HOP_MORE) {
            return verdict;
        }
    }
    return HOP_MORE;
}

/* The last N bytes of the text are chunks still. */
static enum hop_verdict
chunks_read(struct hop *hop, size_t n)
{
    size_t start = hop->text.len - n, n_out = 0, used = 0;
    int rc = HTTP_MORE;

    if (n > 0) {
        rc = http_chunk_decode(&hop->chunk, hop->text.bytes + start, n, &n_out,
                               &used);
        hop->text.len = start + n_out;
    }
    if (rc == HTTP_CHUNK_DONE) {
        enum hop_verdict verdict = done(hop, true, 0);

        hop->keep = hop->keep && used == n;
        return verdict;
    }
    return rc == HTTP_MORE ? HOP_MORE : bad(hop, "its chunks are not valid");
}

/* The last N bytes of the text are new, and of the body. */
static enum hop_verdict
body_read(struct hop *hop, size_t n)
{
    const struct http_response *head = &hop->head;
    size_t len = hop->text.len - head->head_len;

    if (hop->is_head || head->status == 204 || head->status == 304) {
        return done(hop, true, len);
    }
    if (head->chunked) {
        return chunks_read(hop, n);
    }
    if (!head->has_length) {
        return HOP_MORE; /* it ends with the connection */
    }
    if (head->content_length > hop->text.max) {
        return HOP_BIG;
    }
    if (len < head->content_length) {
        return HOP_MORE;
    }
    return done(hop, true, len - head->content_length);
}

static enum hop_verdict
end_read(struct hop *hop)
{
    if (!hop->has_head) {
        return bad(hop, hop->text.len > 0 ? "it ends within the head"
                                          : "it ends before a head");
    }
    if (hop->head.chunked || hop->head.has_length) {
        return bad(hop, "it ends within the body");
    }
    return done(hop, false, 0);
}

enum hop_verdict
hop_read(struct hop *hop, const char *bytes, size_t len)
{
    enum hop_verdict verdict;

    if (len == 0) {
        return end_read(hop);
    }
    if (text_add(&hop->text, bytes, len) < 0) {
        return errno == EMSGSIZE ? HOP_BIG : HOP_SCARCE;
    }
    if (!hop->has_head) {
        verdict = head_read(hop);
        if (verdict != HOP_MORE || !hop->has_head) {
            return verdict;
        }
        len = hop->text.len - hop->head.head_len;
    }
    return body_read(hop, len);
}

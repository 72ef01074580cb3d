/* The program behind FastCGI is as hostile as any peer. A record's lengths are
 * two small fields, so no record is large; how many there are bounds the caller
 * by what he keeps of them and by time. Specification: FastCGI 1.0, sections 3
 * to 5. */
#include "fcgi.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define VERSION     1
#define REQUEST_ID  1
#define CONTENT_MAX 65528 /* the most that needs no padding */

enum record {
    BEGIN_REQUEST = 1,
    END_REQUEST = 3,
    PARAMS = 4,
    STDIN = 5,
    STDOUT = 6,
    STDERR = 7,
    MANAGEMENT = 9, /* the first of those that are about no request */
    LAST = 11,
};

/* ----- the request ----- */

/* Bytes that a stream of LEN bytes takes with its headers. */
static size_t
stream_size(size_t len)
{
    size_t n = (len + CONTENT_MAX - 1) / CONTENT_MAX;

    return len + (n + 1) * FCGI_HEADER;
}

static char *
header_put(char *at, enum record type, size_t len)
{
    unsigned char *p = (unsigned char *)at;

    p[0] = VERSION;
    p[1] = (unsigned char)type;
    p[2] = 0;
    p[3] = REQUEST_ID;
    p[4] = (unsigned char)(len >> 8);
    p[5] = (unsigned char)len;
    p[6] = 0;
    p[7] = 0;
    return at + FCGI_HEADER;
}

static char *
stream_put(char *at, enum record type, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t n = MIN_OF(len, (size_t)CONTENT_MAX);

        at = header_put(at, type, n);
        memcpy(at, bytes, n);
        at += n;
        bytes += n;
        len -= n;
    }
    return header_put(at, type, 0);
}

/* Section 3.4: one byte below 128, else four with the highest bit set. */
static char *
length_put(char *at, size_t len)
{
    unsigned char *p = (unsigned char *)at;

    if (len < 128) {
        p[0] = (unsigned char)len;
        return at + 1;
    }
    p[0] = (unsigned char)(0x80 | (len >> 24));
    p[1] = (unsigned char)(len >> 16);
    p[2] = (unsigned char)(len >> 8);
    p[3] = (unsigned char)len;
    return at + 4;
}

/* How ENV is cut at its equals signs: NAME_LEN and VALUE_LEN of one. */
static void
pair_cut(const char *pair, size_t *p_name_len, size_t *p_value_len)
{
    *p_name_len = strcspn(pair, "=");
    *p_value_len =
        pair[*p_name_len] == '=' ? strlen(pair + *p_name_len + 1) : 0;
}

static size_t
params_size(char *const *env)
{
    size_t size = 0, name, value;

    for (; *env != NULL; env++) {
        pair_cut(*env, &name, &value);
        size += name + value + (name < 128 ? 1 : 4) + (value < 128 ? 1 : 4);
    }
    return size;
}

static void
params_put(char *at, char *const *env)
{
    size_t name, value;

    for (; *env != NULL; env++) {
        pair_cut(*env, &name, &value);
        at = length_put(at, name);
        at = length_put(at, value);
        memcpy(at, *env, name);
        at += name;
        if (value > 0) {
            memcpy(at, *env + name + 1, value);
            at += value;
        }
    }
}

char *
fcgi_request_new(char *const *env, const char *body, size_t body_len,
                 size_t *p_len)
{
    /* The responder's role, and FCGI_KEEP_CONN (section 5.1). */
    static const char begin[8] = {0, 1, 1};
    size_t n_params = params_size(env);
    CLEAN_FREE char *params = malloc(n_params + 1);
    char *block, *at;

    *p_len = FCGI_HEADER + sizeof(begin) + stream_size(n_params) +
             stream_size(body_len);
    block = params == NULL ? NULL : malloc(*p_len);
    if (block == NULL) {
        /* not reached: memory is gone */
        return NULL;
    }
    params_put(params, env);
    at = header_put(block, BEGIN_REQUEST, sizeof(begin));
    memcpy(at, begin, sizeof(begin));
    at = stream_put(at + sizeof(begin), PARAMS, params, n_params);
    stream_put(at, STDIN, body, body_len);
    return block;
}

/* ----- the answer ----- */

static uint32_t
header_number(const uint8_t *p)
{
    return ((uint32_t)p[0] << 8) | p[1];
}

/* A header is complete. false: it cannot be meant for us. */
static bool
header_judge(struct fcgi_reader *reader)
{
    const uint8_t *h = reader->header;
    uint32_t id = header_number(h + 2);

    reader->left = header_number(h + 4);
    reader->padding = h[6];
    if (h[0] != VERSION || h[1] > LAST) {
        return false;
    }
    if (h[1] >= MANAGEMENT) {
        return true; /* nothing that we asked for: skipped */
    }
    if (id != REQUEST_ID) {
        return false;
    }
    reader->n_end = 0;
    return h[1] == STDOUT || h[1] == STDERR ||
           (h[1] == END_REQUEST && reader->left == sizeof(reader->end));
}

/* Content of the record, N bytes at BYTES, N > 0. */
static enum fcgi_verdict
content_take(struct fcgi_reader *reader, const char *bytes, size_t n)
{
    switch (reader->header[1]) {
    case STDOUT:
        return FCGI_OUT;
    case STDERR:
        return FCGI_ERR;
    case END_REQUEST:
        memcpy(reader->end + reader->n_end, bytes, n);
        reader->n_end += (uint32_t)n;
        return FCGI_MORE;
    default:
        return FCGI_MORE;
    }
}

static bool
is_over(const struct fcgi_reader *reader)
{
    return reader->n_header == FCGI_HEADER && reader->left == 0 &&
           reader->padding == 0;
}

/* The record has been read whole. */
static enum fcgi_verdict
record_end(struct fcgi_reader *reader)
{
    const uint8_t *end = reader->end;

    reader->n_header = 0;
    if (reader->header[1] != END_REQUEST) {
        return FCGI_MORE;
    }
    reader->app = (header_number(end) << 16) | header_number(end + 2);
    reader->protocol = end[4];
    return end[4] <= 3 ? FCGI_ENDED : FCGI_BAD;
}

enum fcgi_verdict
fcgi_read(struct fcgi_reader *reader, const char *buf, size_t len,
          size_t *p_used, size_t *p_piece)
{
    size_t used = 0;
    enum fcgi_verdict verdict = FCGI_MORE;

    *p_piece = 0;
    while (verdict == FCGI_MORE && (used < len || is_over(reader))) {
        size_t n = 0;

        if (is_over(reader)) {
            verdict = record_end(reader);
        } else if (reader->n_header < FCGI_HEADER) {
            reader->header[reader->n_header++] = (uint8_t)buf[used++];
            if (reader->n_header == FCGI_HEADER && !header_judge(reader)) {
                verdict = FCGI_BAD;
            }
        } else if (reader->left > 0) {
            n = MIN_OF(len - used, (size_t)reader->left);
            verdict = content_take(reader, buf + used, n);
            *p_piece = n;
            reader->left -= (uint32_t)n;
        } else {
            n = MIN_OF(len - used, (size_t)reader->padding);
            reader->padding -= (uint32_t)n;
        }
        used += n;
    }
    *p_used = used;
    return verdict;
}

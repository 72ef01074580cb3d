/* Requests: whole, in two pieces and (short ones) byte by byte must agree, and
 * what is accepted must keep its promises. */
#include "fuzz.h"

static int
parse_piece(const uint8_t *data, size_t size, uint32_t *p_scan,
            struct http_request *req)
{
    char *copy = copy_exact(data, size);
    int rc = http_request_parse(copy, size, p_scan, req);

    free(copy);
    return rc;
}

static void
same(const struct http_request *a, const struct http_request *b)
{
    MUST(a->head_len == b->head_len && a->n_fields == b->n_fields);
    MUST(a->method == b->method && a->minor == b->minor);
    MUST(a->keep_alive == b->keep_alive && a->chunked == b->chunked);
    MUST(a->has_length == b->has_length);
    MUST(a->content_length == b->content_length);
    MUST(memcmp(&a->path, &b->path, sizeof(a->path)) == 0);
    MUST(memcmp(&a->query, &b->query, sizeof(a->query)) == 0);
    MUST(memcmp(&a->host, &b->host, sizeof(a->host)) == 0);
    MUST(memcmp(a->fields, b->fields, a->n_fields * sizeof(a->fields[0])) == 0);
}

static void
check(const char *buf, size_t size, const struct http_request *req)
{
    MUST(req->head_len <= size && req->head_len <= HTTP_MAX_HEAD);
    MUST(memcmp(buf + req->head_len - 4, "\r\n\r\n", 4) == 0);
    MUST(req->path.off + req->path.len <= req->target.off + req->target.len);
    MUST(req->query.off + req->query.len <= req->target.off + req->target.len);
    MUST(req->host.off + req->host.len <= req->head_len);
    MUST(!(req->chunked && (req->has_length || req->minor == 0)));
    MUST(req->minor == 0 || req->host.len > 0);
    fields_check(buf, req->head_len, req->fields, req->n_fields);
    if (req->path_is_plain) {
        char *out = malloc(req->path.len + 1);
        int n = http_path_decode(buf + req->path.off, req->path.len, out);

        MUST(n == (int)req->path.len);
        MUST(memcmp(out, buf + req->path.off, req->path.len) == 0);
        free(out);
    }
}

/* Feeds FIRST bytes, then STEP at a time, and compares. */
static void
feed(const uint8_t *data, size_t size, size_t first, size_t step, int expected,
     const struct http_request *whole)
{
    static struct http_request part;
    uint32_t scan = 0;
    size_t at = first;
    int rc = parse_piece(data, at, &scan, &part);

    while (rc == HTTP_MORE && at < size) {
        at = size - at < step ? size : at + step;
        rc = parse_piece(data, at, &scan, &part);
    }
    MUST(rc == expected);
    if (rc == HTTP_OK) {
        same(whole, &part);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_request whole;
    uint32_t scan = 0;
    int rc = parse_piece(data, size, &scan, &whole);

    if (rc == HTTP_OK) {
        check((const char *)data, size, &whole);
    } else {
        MUST(rc == HTTP_MORE || rc == 400 || rc == 414 || rc == 417 ||
             rc == 431 || rc == 501 || rc == 505);
    }
    feed(data, size, cut_of(data, size), size + 1, rc, &whole);
    if (size < 300) {
        feed(data, size, 0, 1, rc, &whole);
    }
    return 0;
}

/* Chunked bodies: whole, in two pieces and byte by byte must agree. */
#include "fuzz.h"

#include "http/chunk.h"

struct result {
    char *body;
    size_t out, used;
    int rc;
};

static struct result
decode(const uint8_t *data, size_t size, size_t first, size_t step)
{
    struct result r = {copy_exact("", 0), 0, 0, HTTP_MORE};
    struct http_chunk c = {0};
    size_t at = 0, n = first;

    r.body = realloc(r.body, size + 1);
    while (r.rc == HTTP_MORE && at < size) {
        size_t piece = size - at < n ? size - at : n, out, used;
        char *copy = copy_exact(data + at, piece);

        r.rc = http_chunk_decode(&c, copy, piece, &out, &used);
        MUST(out <= used && used <= piece);
        MUST(r.rc != HTTP_MORE || used == piece);
        memcpy(r.body + r.out, copy, out);
        free(copy);
        r.out += out;
        r.used += used;
        at += piece;
        n = step;
    }
    return r;
}

static void
compare(const struct result *whole, struct result part)
{
    MUST(whole->rc == part.rc);
    MUST(whole->out == part.out && whole->used == part.used);
    MUST(memcmp(whole->body, part.body, part.out) == 0);
    free(part.body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result whole = decode(data, size, size, size);

    MUST(whole.rc == HTTP_MORE || whole.rc == HTTP_CHUNK_DONE ||
         whole.rc == 400);
    compare(&whole, decode(data, size, cut_of(data, size), size));
    if (size < 300) {
        compare(&whole, decode(data, size, 1, 1));
    }
    free(whole.body);
    return 0;
}

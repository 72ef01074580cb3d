/* Heads of replies: a verdict never changes with more bytes behind it, and what
 * is accepted must keep its promises. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_response resp, part;
    const char *buf = (const char *)data;
    size_t cut = cut_of(data, size);
    int rc = http_response_parse(buf, size, &resp), early;
    char *copy = copy_exact(data, cut);

    MUST(rc == HTTP_OK || rc == HTTP_MORE || rc == 502);
    early = http_response_parse(copy, cut, &part);
    MUST(early == HTTP_MORE || early == rc);
    if (rc == HTTP_OK) {
        MUST(resp.head_len <= size && resp.head_len <= HTTP_MAX_HEAD);
        MUST(memcmp(buf + resp.head_len - 4, "\r\n\r\n", 4) == 0);
        MUST(resp.status >= 100 && resp.status <= 599);
        MUST(!(resp.chunked && resp.has_length));
        MUST((early == HTTP_MORE) == (cut < resp.head_len));
        fields_check(buf, resp.head_len, resp.fields, resp.n_fields);
    }
    free(copy);
    return 0;
}

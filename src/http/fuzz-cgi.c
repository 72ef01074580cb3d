/* CGI heads: a verdict never changes with more bytes behind it. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_response resp, part;
    const char *buf = (const char *)data;
    size_t cut = cut_of(data, size);
    int rc = http_cgi_parse(buf, size, &resp), early;
    char *copy = copy_exact(data, cut);

    MUST(rc == HTTP_OK || rc == HTTP_MORE || rc == 502);
    early = http_cgi_parse(copy, cut, &part);
    MUST(early == HTTP_MORE || early == rc);
    if (rc == HTTP_OK) {
        MUST(resp.head_len <= size && resp.head_len <= HTTP_MAX_HEAD);
        MUST(buf[resp.head_len - 1] == '\n');
        MUST(resp.status >= 200 && resp.status <= 599);
        MUST(!resp.chunked && resp.minor == 1);
        MUST((early == HTTP_MORE) == (cut < resp.head_len));
        MUST(http_field_find(buf, resp.fields, resp.n_fields, "status", 6) ==
             NULL);
        fields_check(buf, resp.head_len, resp.fields, resp.n_fields);
    }
    free(copy);
    return 0;
}

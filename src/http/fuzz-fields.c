/* Bare field lines, and dates, which are values of some. */
#include "fuzz.h"

static void
date_check(const char *text, size_t len)
{
    char out[HTTP_DATE_LEN + 1];
    int64_t seconds = http_date_parse(text, len);

    MUST(seconds >= -1);
    if (seconds >= 0) {
        http_date(seconds, out);
        MUST(strlen(out) == HTTP_DATE_LEN);
        MUST(seconds > 253402300799 ||
             http_date_parse(out, HTTP_DATE_LEN) == seconds);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_field fields[HTTP_MAX_FIELDS];
    const char *buf = (const char *)data;
    uint32_t n = 0;
    int rc = http_fields_parse(buf, size, fields, &n);

    MUST(rc == HTTP_OK || rc == 502);
    date_check(buf, size);
    if (rc == HTTP_OK) {
        MUST(size == 0 || n > 0);
        fields_check(buf, size, fields, n);
        for (uint32_t i = 0; i < n; i++) {
            http_field_is_free(buf + fields[i].name.off, fields[i].name.len);
            date_check(buf + fields[i].value.off, fields[i].value.len);
        }
    }
    return 0;
}

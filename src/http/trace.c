/* The field traceparent (W3C Trace Context, level 1, section 3.2.2). */
#include "http/http.h"

#include "base/hex.h"

#define VERSION_0_LEN 55

static int
hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* N digits at TEXT, most significant first. false: not all are digits. */
static bool
number(const char *text, size_t n, uint64_t *p_value)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n; i++) {
        int digit = hex(text[i]);

        if (digit < 0) {
            return false;
        }
        value = value << 4 | (unsigned)digit;
    }
    *p_value = value;
    return true;
}

bool
http_trace_parse(const char *text, size_t len, struct http_trace *trace)
{
    uint64_t version, flags;

    if (len < VERSION_0_LEN || text[2] != '-' || text[35] != '-' ||
        text[52] != '-' || !number(text, 2, &version) ||
        !number(text + 3, 16, &trace->id[0]) ||
        !number(text + 19, 16, &trace->id[1]) ||
        !number(text + 36, 16, &trace->span) || !number(text + 53, 2, &flags)) {
        return false;
    }
    trace->flags = (uint8_t)flags;
    if (version == 0xff || (trace->id[0] == 0 && trace->id[1] == 0) ||
        trace->span == 0) {
        return false;
    }
    /* A later version may go on behind another dash. */
    return len == VERSION_0_LEN || (version > 0 && text[VERSION_0_LEN] == '-');
}

void
http_trace_print(const struct http_trace *trace, char out[HTTP_TRACE_LEN + 1])
{
    char *at = out;

    at = hex_put(at, 0, 2);
    *at++ = '-';
    at = hex_put(at, trace->id[0], 16);
    at = hex_put(at, trace->id[1], 16);
    *at++ = '-';
    at = hex_put(at, trace->span, 16);
    *at++ = '-';
    at = hex_put(at, trace->flags & HTTP_TRACE_FLAGS, 2);
    *at = '\0';
}

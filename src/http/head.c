/* The end of a head, searched line by line as bytes come in, and its limits.
 *
 * The search is the first of three stages (complete, dissect, judge). It looks
 * only at CR, LF, NUL and lengths, and stops at the first byte that no later
 * byte can mend, so a peer that sends slowly is refused as early as one that
 * sends at once, and with the same status. A line ends at its first CR, which
 * LF must follow; the offset kept between calls is that of a line's start, so a
 * call looks again at one unfinished line at most. */
#include "http/http_priv.h"

#include <string.h>

/* One line at BUF[0..LEN). HTTP_OK: *P_LEN is its length without CRLF. */
static int
line_scan(const char *buf, size_t len, int too_long, size_t *p_len)
{
    size_t n = len > HTTP_MAX_LINE ? HTTP_MAX_LINE + 1 : len;
    const char *cr = memchr(buf, '\r', n);
    size_t text = cr != NULL ? (size_t)(cr - buf) : n;

    if (memchr(buf, '\n', text) != NULL || memchr(buf, '\0', text) != NULL) {
        return 400;
    }
    if (cr == NULL) {
        return n > HTTP_MAX_LINE ? too_long : HTTP_MORE;
    }
    if (text + 1 == len) {
        return HTTP_MORE;
    }
    *p_len = text;
    return cr[1] == '\n' ? HTTP_OK : 400;
}

/* BUF[0..LEN) was seen before: whole lines, not many. */
static unsigned
lines_count(const char *buf, size_t len)
{
    const char *end = buf + len;
    unsigned n = 0;

    for (const char *p = buf; p < end; n++) {
        p = (const char *)memchr(p, '\n', (size_t)(end - p)) + 1;
    }
    return n;
}

int
http_head_scan(const char *buf, size_t len, uint32_t *p_scan, size_t *p_end)
{
    size_t max = len < HTTP_MAX_HEAD ? len : HTTP_MAX_HEAD;
    size_t at = *p_scan < max ? *p_scan : 0;
    unsigned n_lines = lines_count(buf, at);

    for (;;) {
        size_t n;
        int rc;

        if (n_lines > HTTP_MAX_FIELDS && at < max && buf[at] != '\r') {
            return 431;
        }
        rc = line_scan(buf + at, max - at, n_lines == 0 ? 414 : 431, &n);
        if (rc != HTTP_OK) {
            *p_scan = (uint32_t)at;
            return rc == HTTP_MORE && len >= HTTP_MAX_HEAD ? 431 : rc;
        }
        at += n + 2;
        n_lines++;
        if (n == 0) {
            *p_scan = (uint32_t)(at - 2);
            *p_end = at;
            return HTTP_OK;
        }
    }
}

/* How long a message is and whether its connection stays: Content-Length,
 * Transfer-Encoding and Connection, together (RFC 9112 sections 6 and 9).
 *
 * Two programs that read these differently are what request smuggling needs,
 * so whatever could be read in two ways is refused: both fields at once, a
 * field given twice (with the same value too), a coding in HTTP/1.0, a number
 * with anything but digits. */
#include "http/http_priv.h"

#include <string.h>

/* Reads a list of tokens. False: it is none. Empty elements are allowed (RFC
 * 9110 5.6.1.2). */
static bool
connection_note(struct http_framing *framing, const char *p, const char *end)
{
    while (p < end) {
        const char *token = p;

        while (p < end && http_is(*p, HTTP_C_TOKEN)) {
            p++;
        }
        if (p - token == 5 && http_token_is(token, "close", 5)) {
            framing->close = true;
        } else if (p - token == 10 && http_token_is(token, "keep-alive", 10)) {
            framing->keep_alive = true;
        }
        while (p < end && http_is_ows(*p)) {
            p++;
        }
        if (p < end && *p != ',') {
            return false;
        }
        while (p < end && (*p == ',' || http_is_ows(*p))) {
            p++;
        }
    }
    return true;
}

void
http_framing_note(struct http_framing *framing, const char *buf,
                  const struct http_field *field)
{
    const char *name = buf + field->name.off, *value = buf + field->value.off;

    if (field->name.len == 10) {
        if (http_token_is(name, "connection", 10) &&
            !connection_note(framing, value, value + field->value.len)) {
            framing->wrong = true;
        }
    } else if (field->name.len == 14) {
        if (http_token_is(name, "content-length", 14)) {
            framing->length = field->value;
            framing->n_lengths = framing->n_lengths == 0 ? 1 : 2;
        }
    } else if (field->name.len == 17) {
        if (http_token_is(name, "transfer-encoding", 17)) {
            framing->coding = field->value;
            framing->n_codings = framing->n_codings == 0 ? 1 : 2;
        }
    }
}

/* 1*DIGIT up to the largest off_t. */
static bool
length_parse(const char *text, size_t len, uint64_t *p_length)
{
    uint64_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (!http_is(text[i], HTTP_C_DIGIT)) {
            return false;
        }
        if (n > (INT64_MAX - (uint64_t)(text[i] - '0')) / 10) {
            return false;
        }
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    *p_length = n;
    return len > 0;
}

static bool
is_chunked(const char *text, size_t len)
{
    return len == 7 && http_token_is(text, "chunked", 7);
}

/* HTTP_OK for "chunked"; 501 for one other coding, alone or before chunked,
 * which RFC 9112 6.1 asks for; 400 for all that is neither. */
static int
coding_judge(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && http_is(text[i], HTTP_C_TOKEN)) {
        i++;
    }
    if (is_chunked(text, i)) {
        return i == len ? HTTP_OK : 400;
    }
    if (i == 0 || i == len) {
        return i == 0 ? 400 : 501;
    }
    while (i < len && http_is_ows(text[i])) {
        i++;
    }
    if (i == len || text[i] != ',') {
        return 400;
    }
    i++;
    while (i < len && http_is_ows(text[i])) {
        i++;
    }
    return is_chunked(text + i, len - i) ? 501 : 400;
}

int
http_framing_judge(const struct http_framing *framing, const char *buf,
                   int minor, bool *p_chunked, uint64_t *p_length)
{
    *p_chunked = false;
    *p_length = 0;
    if (framing->wrong || framing->n_lengths + framing->n_codings > 1) {
        return 400;
    }
    if (framing->n_lengths == 1) {
        return length_parse(buf + framing->length.off, framing->length.len,
                            p_length)
                   ? HTTP_OK
                   : 400;
    }
    if (framing->n_codings == 1) {
        *p_chunked = true;
        return minor == 0 ? 400
                          : coding_judge(buf + framing->coding.off,
                                         framing->coding.len);
    }
    return HTTP_OK;
}

bool
http_framing_keeps(const struct http_framing *framing, int minor)
{
    if (framing->close) {
        return false;
    }
    return minor >= 1 || framing->keep_alive;
}

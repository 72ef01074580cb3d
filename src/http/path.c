/* A path made plain: escapes decoded once, "." and ".." and empty segments
 * taken out, so that two spellings of one name cannot get different rights.
 * What could mean another thing to a later reader (an encoded slash, NUL, a
 * backslash, control bytes, bytes that are not UTF-8) is refused. Dots and
 * slashes are judged behind the decoding, so "%2e%2e" climbs like "..". */
#include "http/http_priv.h"

/* How many bytes follow a lead byte of UTF-8, and the range of the first of
 * them: shorter forms, surrogates and more than U+10FFFF fall out by it
 * (RFC 3629 section 4). Less than 0: no lead byte. */
static int
utf8_lead(unsigned char b, unsigned char *p_low, unsigned char *p_high)
{
    *p_low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    *p_high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    if (b < 0x80) {
        return 0;
    }
    if (b < 0xc2 || b > 0xf4) {
        return -1;
    }
    return b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
}

static bool
is_utf8(const char *text, const char *end)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *stop = (const unsigned char *)end;

    while (p < stop) {
        unsigned char low, high;
        int n = utf8_lead(*p++, &low, &high);

        if (n < 0 || n > stop - p) {
            return false;
        }
        for (; n > 0; n--, p++) {
            if (*p < low || *p > high) {
                return false;
            }
            low = 0x80;
            high = 0xbf;
        }
    }
    return true;
}

/* The byte at *P, decoded, moving *P on; -1: refused. */
static int
byte_decode(const char **p, const char *end)
{
    unsigned char b = (unsigned char)*(*p)++;

    if (b == '%') {
        int high, low;

        if (end - *p < 2) {
            return -1;
        }
        high = http_hex((*p)[0]);
        low = http_hex((*p)[1]);
        if (high < 0 || low < 0) {
            return -1;
        }
        *p += 2;
        b = (unsigned char)(high << 4 | low);
        if (b == '/') {
            return -1;
        }
    }
    return b < 0x20 || b == 0x7f || b == '\\' ? -1 : b;
}

/* Ends the segment at [SEGMENT..O): returns where the next byte goes, or NULL.
 * ROOT is behind the first slash; O[0] becomes the segment's slash by the
 * caller, if *P_KEPT. */
static char *
segment_end(char *root, char *segment, char *o, bool *p_kept)
{
    *p_kept = false;
    if (o == segment || (o - segment == 1 && segment[0] == '.')) {
        return segment;
    }
    if (o - segment == 2 && segment[0] == '.' && segment[1] == '.') {
        if (segment == root) {
            return NULL;
        }
        for (o = segment - 1; o[-1] != '/';) {
            o--;
        }
        return o;
    }
    *p_kept = true;
    return is_utf8(segment, o) ? o : NULL;
}

int
http_path_decode(const char *path, size_t len, char *out)
{
    const char *p = path, *end = path + len;
    char *o = out, *segment;
    bool kept;

    if (len == 0 || *p++ != '/') {
        return -1;
    }
    *o++ = '/';
    segment = o;
    while (p < end) {
        int b = byte_decode(&p, end);

        if (b < 0) {
            return -1;
        }
        if (b != '/') {
            *o++ = (char)b;
            continue;
        }
        o = segment_end(out + 1, segment, o, &kept);
        if (o == NULL) {
            return -1;
        }
        if (kept) {
            *o++ = '/';
        }
        segment = o;
    }
    o = segment_end(out + 1, segment, o, &kept);
    if (o == NULL) {
        return -1;
    }
    *o = '\0';
    return (int)(o - out);
}

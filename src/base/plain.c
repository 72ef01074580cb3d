/* A name from a file system or from another process may hold bytes that a
 * terminal obeys. Here a character is one column; that some are wider or
 * narrower only bends a table. */
#include "base/plain.h"

#include <string.h>

#include "base/json.h"
#include "base/util.h"

/* The bytes of the character at S, at least 1. */
static size_t
step(const char *s)
{
    size_t n = json_char_len(s);

    return MAX_OF(n, 1u);
}

static void
put_char(FILE *out, const char *s)
{
    size_t n = json_char_len(s);

    if (n == 0 || (unsigned char)*s < 0x20 || *s == 0x7f ||
        ((unsigned char)*s == 0xc2 && (unsigned char)s[1] < 0xa0)) {
        fputc('?', out);
    } else {
        fwrite(s, 1, n, out);
    }
}

void
plain_put(FILE *out, const char *text)
{
    for (const char *s = text; *s != '\0'; s += step(s)) {
        put_char(out, s);
    }
}

int
plain_put_short(FILE *out, const char *text, int columns)
{
    int head = (columns - 3) / 2;
    int tail = columns - 3 - head;
    int len = 0, i = 0;

    for (const char *s = text; *s != '\0'; s += step(s)) {
        len++;
    }
    if (len <= columns) {
        plain_put(out, text);
        return len;
    }
    for (const char *s = text; *s != '\0'; s += step(s), i++) {
        if (i == head) {
            fputs("...", out);
        }
        if (i < head || i >= len - tail) {
            put_char(out, s);
        }
    }
    return columns;
}

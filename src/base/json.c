/* Invariant: `more` is false exactly behind an opening bracket and at the very
 * beginning, so that a comma stands between two values and nowhere else. */
#include "base/json.h"

#include <string.h>

#include "base/util.h"

#define EXACT_MAX ((1ull << 53) - 1)

size_t
json_char_len(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n = s[0] < 0x80                    ? 1
               : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
               : s[0] >= 0xe0 && s[0] <= 0xef ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;

    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Too long a form, a surrogate, or beyond U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
        return 0;
    }
    return n;
}

void
json_init(struct json *json, FILE *out)
{
    *json = (struct json){.out = out};
}

static void
put_string(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    fputc('"', out);
    while (*s != '\0') {
        size_t n = json_char_len((const char *)s);

        if (n == 0) {
            fputs("\\ufffd", out);
            n = 1;
        } else if (*s < 0x20 || *s == 0x7f) {
            fprintf(out, "\\u%04x", *s);
        } else if (*s == '"' || *s == '\\') {
            fprintf(out, "\\%c", *s);
        } else {
            fwrite(s, 1, n, out);
        }
        s += n;
    }
    fputc('"', out);
}

static void
begin(struct json *json, const char *key)
{
    if (json->more) {
        fputc(',', json->out);
    }
    json->more = true;
    if (key != NULL) {
        put_string(json->out, key);
        fputc(':', json->out);
    }
}

static void
open_with(struct json *json, const char *key, char bracket)
{
    begin(json, key);
    fputc(bracket, json->out);
    json->more = false;
}

static void
close_with(struct json *json, char bracket)
{
    fputc(bracket, json->out);
    json->more = true;
}

void
json_object(struct json *json, const char *key)
{
    open_with(json, key, '{');
}

void
json_object_end(struct json *json)
{
    close_with(json, '}');
}

void
json_list(struct json *json, const char *key)
{
    open_with(json, key, '[');
}

void
json_list_end(struct json *json)
{
    close_with(json, ']');
}

void
json_text(struct json *json, const char *key, const char *text)
{
    begin(json, key);
    if (text != NULL) {
        put_string(json->out, text);
    } else {
        fputs("null", json->out);
    }
}

void
json_num(struct json *json, const char *key, uint64_t value)
{
    begin(json, key);
    fprintf(json->out, "%llu", (unsigned long long)MIN_OF(value, EXACT_MAX));
}

/* VALUE thousandths. */
static void
put_thousandths(struct json *json, const char *key, uint64_t value)
{
    begin(json, key);
    fprintf(json->out, "%llu.%03u", (unsigned long long)(value / 1000),
            (unsigned)(value % 1000));
}

void
json_seconds(struct json *json, const char *key, uint64_t ns)
{
    put_thousandths(json, key, ns / NS_PER_MS);
}

void
json_ms(struct json *json, const char *key, uint64_t ns)
{
    put_thousandths(json, key, ns / 1000);
}

void
json_bool(struct json *json, const char *key, bool value)
{
    begin(json, key);
    fputs(value ? "true" : "false", json->out);
}

void
json_null(struct json *json, const char *key)
{
    json_text(json, key, NULL);
}

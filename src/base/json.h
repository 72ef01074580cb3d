/* Writing JSON, so small that no library is needed: the caller gives the
 * structure, this gives commas, quotes and escapes. What comes out is valid
 * UTF-8 and valid JSON whatever bytes go in: a byte that is no UTF-8 becomes
 * U+FFFD. Numbers are whole and below 2^53, or have three digits behind the
 * point, so that every reader keeps them exactly. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool more; /* the next value needs a comma before it */
};

/* A writer to OUT (borrowed), which keeps the error if one occurs. */
void json_init(struct json *json, FILE *out);

/* How many bytes at TEXT are one character of UTF-8; 0: they are none. A NUL is
 * one character; nothing behind it is read. */
size_t json_char_len(const char *text);

/* KEY is NULL in a list and for the outermost value. */
void json_object(struct json *json, const char *key);
void json_object_end(struct json *json);
void json_list(struct json *json, const char *key);
void json_list_end(struct json *json);
/* TEXT ends with a NUL; NULL becomes null. */
void json_text(struct json *json, const char *key, const char *text);
/* More than 2^53 - 1 becomes that. */
void json_num(struct json *json, const char *key, uint64_t value);
/* NS nanoseconds in seconds or milliseconds: 12.345 */
void json_seconds(struct json *json, const char *key, uint64_t ns);
void json_ms(struct json *json, const char *key, uint64_t ns);
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

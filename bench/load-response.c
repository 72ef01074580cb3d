/*
 * Checks responses, and cheaply: the load generator is half the machine.
 *
 * A server gives the same answer a hundred thousand times; only the date in
 * it moves, at a fixed place and of fixed size.  So the first response is
 * read field by field, and what was learned (size, end of the head, place
 * and text of the Content-Length line) is compared with the next ones.  All
 * that is promised is still verified: status, stated length, real length,
 * end of the head, and the body if asked for.  Whatever differs is read in
 * full again, so the short way never decides that a response is bad.
 */
#include "load-response.h"

#include <string.h>
#include <strings.h>

#define RESPONSE_STATUS     "HTTP/1.1 200 "
#define RESPONSE_STATUS_LEN (sizeof(RESPONSE_STATUS) - 1)
#define RESPONSE_BODY_MAX   (1 << 20)

static bool
response_same(const struct response_check *check, const char *buf, size_t n)
{
    return n == check->total && n != 0 && !check->close &&
           memcmp(buf, RESPONSE_STATUS, RESPONSE_STATUS_LEN) == 0 &&
           memcmp(buf + check->length_at, check->length_line,
                  check->length_len) == 0 &&
           memcmp(buf + check->head - 4, "\r\n\r\n", 4) == 0 &&
           (check->body == NULL ||
            memcmp(buf + check->head, check->body, check->body_len) == 0);
}

/* If the line is the named field, returns its value without the blanks on
 * both sides, and its size in plen. */
static const char *
response_value(const char *line, size_t n, const char *name, size_t *plen)
{
    size_t skip = strlen(name);
    size_t end = n;

    if (n <= skip || strncasecmp(line, name, skip) != 0 || line[skip] != ':') {
        return NULL;
    }
    skip++;
    while (skip < end && (line[skip] == ' ' || line[skip] == '\t')) {
        skip++;
    }
    while (end > skip && (line[end - 1] == ' ' || line[end - 1] == '\t')) {
        end--;
    }
    *plen = end - skip;
    return line + skip;
}

/* Digits only, at most RESPONSE_BODY_MAX; else RESPONSE_BAD. */
static long
response_number(const char *text, size_t n)
{
    long value = 0;

    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9' || value > RESPONSE_BODY_MAX) {
            return RESPONSE_BAD;
        }
        value = value * 10 + (text[i] - '0');
    }
    return n == 0 || value > RESPONSE_BODY_MAX ? RESPONSE_BAD : value;
}

/* Reads one field line at offset at; false if the response is bad by it.
 * *plength is -1 until a Content-Length was seen. */
static bool
response_field(struct response_check *check, const char *buf, size_t at,
               size_t n, long *plength)
{
    const char *value;
    size_t len;

    if (response_value(buf + at, n, "Transfer-Encoding", &len) != NULL) {
        return false;
    }
    value = response_value(buf + at, n, "Connection", &len);
    if (value != NULL && len == 5 && strncasecmp(value, "close", 5) == 0) {
        check->close = true;
    }
    value = response_value(buf + at, n, "Content-Length", &len);
    if (value == NULL) {
        return true;
    }
    if (*plength >= 0 || n > sizeof(check->length_line)) {
        return false;
    }
    *plength = response_number(value, len);
    check->length_at = at;
    check->length_len = n;
    memcpy(check->length_line, buf + at, n);
    return *plength >= 0;
}

/* Reads the head's lines; returns the length of the body or RESPONSE_BAD. */
static long
response_head(struct response_check *check, const char *buf, size_t head)
{
    const char *eol;
    size_t at;
    long length = -1;

    check->close = false;
    if (buf == NULL || head < RESPONSE_STATUS_LEN) {
        return RESPONSE_BAD; /* what UBSan would look for, and gcc warn of */
    }
    eol = memmem(buf, head, "\r\n", 2);
    if (eol == NULL || memcmp(buf, RESPONSE_STATUS, RESPONSE_STATUS_LEN) != 0) {
        return RESPONSE_BAD;
    }
    at = (size_t)(eol - buf) + 2;
    while (at < head - 2) {
        eol = memmem(buf + at, head - at, "\r\n", 2);
        if (eol == NULL || !response_field(check, buf, at,
                                           (size_t)(eol - buf) - at, &length)) {
            return RESPONSE_BAD;
        }
        at = (size_t)(eol - buf) + 2;
    }
    return length;
}

long
response_check(struct response_check *check, const char *buf, size_t n)
{
    const char *end;
    size_t head;
    long length;

    if (response_same(check, buf, n)) {
        return (long)n;
    }
    check->total = 0;
    end = memmem(buf, n, "\r\n\r\n", 4);
    if (end == NULL) {
        return RESPONSE_MORE;
    }
    head = (size_t)(end - buf) + 4;
    if (head < RESPONSE_STATUS_LEN + 4) {
        return RESPONSE_BAD;
    }
    length = response_head(check, buf, head);
    if (length < 0) {
        return RESPONSE_BAD;
    }
    if (check->body != NULL && (size_t)length != check->body_len) {
        return RESPONSE_BAD;
    }
    if (n - head < (size_t)length) {
        return RESPONSE_MORE;
    }
    if (check->body != NULL &&
        memcmp(buf + head, check->body, check->body_len) != 0) {
        return RESPONSE_BAD;
    }
    check->head = head;
    check->total = head + (size_t)length;
    return (long)check->total;
}

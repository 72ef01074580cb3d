/* One log line is built in a buffer of the caller and leaves with one write(2),
 * so that lines of many processes never mix in a pipe (2048 < PIPE_BUF).
 *
 * Invariants: text[0..len) is a whole line so far; one byte is always kept for
 * the newline; a field is added whole or not at all; a value can never start a
 * second line or forge a field (whatever it holds is quoted). This runs once a
 * request: no printf, no allocation, no locale, no static state. */
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define ROOM (LOG_LINE_MAX - 1) /* the last byte is the newline's */

static const char hex_digits[] = "0123456789abcdef";

static void
put_digits(char *to, uint64_t value, int digits)
{
    while (digits > 0) {
        to[--digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* Days since 1970-01-01 to a date of the Gregorian calendar; years are counted
 * from the first of March, so that the leap day is a year's last. */
static void
put_date(char *to, uint64_t days)
{
    uint64_t shifted = days + 719468; /* days since 0000-03-01 */
    uint64_t era = shifted / 146097;
    uint64_t day_of_era = shifted % 146097;
    uint64_t year_of_era = (day_of_era - day_of_era / 1460 +
                            day_of_era / 36524 - day_of_era / 146096) /
                           365;
    uint64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t month = (5 * day_of_year + 2) / 153; /* 0 is March */

    put_digits(to, era * 400 + year_of_era + (month >= 10), 4);
    to[4] = '-';
    put_digits(to + 5, month < 10 ? month + 3 : month - 9, 2);
    to[7] = '-';
    put_digits(to + 8, day_of_year - (153 * month + 2) / 5 + 1, 2);
}

static void
put_time(char *to, uint64_t wall_ns)
{
    uint64_t ms = wall_ns / NS_PER_MS;
    uint64_t second = ms / 1000 % 86400;

    put_date(to, ms / 86400000);
    to[10] = 'T';
    put_digits(to + 11, second / 3600, 2);
    to[13] = ':';
    put_digits(to + 14, second / 60 % 60, 2);
    to[16] = ':';
    put_digits(to + 17, second % 60, 2);
    to[19] = '.';
    put_digits(to + 20, ms % 1000, 3);
    to[23] = 'Z';
}

/* Room for " key=" and LEN bytes more: where these go, or NULL. */
static char *
put_key(struct log_line *line, const char *key, size_t len)
{
    size_t key_len = strlen(key);
    size_t blank = line->len > 0;
    char *to = line->text + line->len;

    if (len > ROOM || key_len > ROOM ||
        line->len + blank + key_len + 1 + len > ROOM) {
        return NULL;
    }
    if (blank) {
        *to++ = ' ';
    }
    memcpy(to, key, key_len);
    to[key_len] = '=';
    line->len += blank + key_len + 1 + len;
    return to + key_len + 1;
}

const char *
log_level_name(enum log_level level)
{
    static const char *const names[] = {
        [LOG_DEBUG] = "debug",
        [LOG_INFO] = "info",
        [LOG_WARN] = "warn",
        [LOG_ERROR] = "error",
    };

    return names[level];
}

void
log_begin(struct log_line *line, uint64_t wall_ns, enum log_level level,
          const char *event)
{
    put_time(line->text, wall_ns);
    line->len = 24;
    log_text(line, "level", log_level_name(level));
    log_text(line, "event", event);
}

void
log_text(struct log_line *line, const char *key, const char *value)
{
    log_bytes(line, key, value, strlen(value));
}

static int
is_plain(unsigned char byte)
{
    return byte >= 0x21 && byte <= 0x7e && byte != '"' && byte != '=';
}

/* How many bytes VALUE takes inside of quotes. */
static size_t
quoted_len(const char *value, size_t len)
{
    size_t sum = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)value[i];

        if (byte == '"' || byte == '\\') {
            sum += 2;
        } else {
            sum += byte >= 0x20 && byte <= 0x7e ? 1 : 4;
        }
    }
    return sum;
}

static void
put_quoted(char *to, const char *value, size_t len)
{
    *to++ = '"';
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)value[i];

        if (byte == '"' || byte == '\\') {
            *to++ = '\\';
            *to++ = (char)byte;
        } else if (byte >= 0x20 && byte <= 0x7e) {
            *to++ = (char)byte;
        } else {
            *to++ = '\\';
            *to++ = 'x';
            *to++ = hex_digits[byte >> 4];
            *to++ = hex_digits[byte & 15];
        }
    }
    *to = '"';
}

void
log_bytes(struct log_line *line, const char *key, const char *value, size_t len)
{
    size_t plain = 0;
    char *to;

    while (plain < len && is_plain((unsigned char)value[plain])) {
        plain++;
    }
    if (plain == len && len > 0) {
        to = put_key(line, key, len);
        if (to != NULL) {
            memcpy(to, value, len);
        }
        return;
    }
    if (len > LOG_LINE_MAX) {
        return;
    }
    to = put_key(line, key, quoted_len(value, len) + 2);
    if (to != NULL) {
        put_quoted(to, value, len);
    }
}

static int
count_digits(uint64_t value)
{
    int digits = 1;

    while (value >= 10) {
        value /= 10;
        digits++;
    }
    return digits;
}

void
log_num(struct log_line *line, const char *key, uint64_t value)
{
    int digits = count_digits(value);
    char *to = put_key(line, key, (size_t)digits);

    if (to != NULL) {
        put_digits(to, value, digits);
    }
}

void
log_errno(struct log_line *line, int error)
{
    const char *text = strerrordesc_np(error);

    if (text != NULL) {
        log_text(line, "error", text);
    } else {
        log_num(line, "error", (uint64_t)(unsigned)error);
    }
}

void
log_ms(struct log_line *line, const char *key, uint64_t ns)
{
    uint64_t us = ns / 1000;
    int digits = count_digits(us / 1000);
    char *to = put_key(line, key, (size_t)digits + 4);

    if (to != NULL) {
        put_digits(to, us / 1000, digits);
        to[digits] = '.';
        put_digits(to + digits + 1, us % 1000, 3);
    }
}

int
log_end(struct log_line *line, int fd)
{
    int saved = errno;
    ssize_t sent;

    line->text[line->len++] = '\n';
    do {
        sent = write(fd, line->text, line->len);
    } while (sent < 0 && errno == EINTR);
    errno = saved;
    return sent == (ssize_t)line->len ? 0 : -1;
}

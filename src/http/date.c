/* Dates of HTTP (RFC 9110 section 5.6.7), without the C library's time zone
 * and locale. Days are counted from 1 March, year by year, so that the leap day
 * is a year's last and needs no case of its own. */
#include "http/http_priv.h"

#include <string.h>

#define DAY         86400
#define YEARS_400   146097 /* days */
#define EPOCH       719468 /* days from 0000-03-01 to 1970-01-01 */
#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31 23:59:59 */

static const char days[7][10] = {"Thursday", "Friday",  "Saturday", "Sunday",
                                 "Monday",   "Tuesday", "Wednesday"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct date {
    int year, month, day; /* month from 1 */
    int hour, minute, second;
    int weekday; /* index of days[]; 0 is Thursday, as 1970-01-01 was */
};

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t
days_of(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t m = month > 2 ? month - 3 : month + 9; /* from March */
    int64_t in_year = (153 * m + 2) / 5 + day - 1;

    return y * 365 + y / 4 - y / 100 + y / 400 + in_year - EPOCH;
}

/* The reverse, for N days that are not before 1970. */
static void
date_of(int64_t n, struct date *date)
{
    int64_t z = n + EPOCH;
    int64_t era = z / YEARS_400, d = z % YEARS_400;
    int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365;
    int64_t in_year = d - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * in_year + 2) / 153;

    date->day = (int)(in_year - (153 * m + 2) / 5 + 1);
    date->month = (int)(m < 10 ? m + 3 : m - 9);
    date->year = (int)(era * 400 + y + (date->month <= 2));
    date->weekday = (int)(n % 7);
}

static void
put2(char *out, int n)
{
    out[0] = (char)('0' + n / 10);
    out[1] = (char)('0' + n % 10);
}

void
http_date(int64_t seconds, char out[HTTP_DATE_LEN + 1])
{
    struct date date;
    int rest;

    seconds = seconds < 0 ? 0 : seconds > LAST_SECOND ? LAST_SECOND : seconds;
    date_of(seconds / DAY, &date);
    rest = (int)(seconds % DAY);
    memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", HTTP_DATE_LEN + 1);
    memcpy(out, days[date.weekday], 3);
    put2(out + 5, date.day);
    memcpy(out + 8, months[date.month - 1], 3);
    put2(out + 12, date.year / 100);
    put2(out + 14, date.year % 100);
    put2(out + 17, rest / 3600);
    put2(out + 20, rest / 60 % 60);
    put2(out + 23, rest % 60);
}

/* Reads the text by a pattern: d day, m month, Y and y year of four and two
 * digits, H N S the time, w and W the short and the full name of the day, D the
 * day with a blank for a leading 0; all else stands for itself. */
struct reader {
    const char *p, *end;
};

/* N digits, or -1. BLANK: the first may be a space. */
static int
digits_read(struct reader *r, int n, bool blank)
{
    int value = 0;

    if (r->end - r->p < n) {
        return -1;
    }
    if (blank && *r->p == ' ') {
        r->p++;
        n--;
    }
    for (; n > 0; n--, r->p++) {
        if (!http_is(*r->p, HTTP_C_DIGIT)) {
            return -1;
        }
        value = value * 10 + (*r->p - '0');
    }
    return value;
}

static int
weekday_read(struct reader *r, bool full)
{
    for (int i = 0; i < 7; i++) {
        size_t n = full ? strlen(days[i]) : 3;

        if ((size_t)(r->end - r->p) >= n && memcmp(r->p, days[i], n) == 0) {
            r->p += n;
            return i;
        }
    }
    return -1;
}

static int
month_read(struct reader *r)
{
    for (int i = 0; i < 12; i++) {
        if (r->end - r->p >= 3 && memcmp(r->p, months[i], 3) == 0) {
            r->p += 3;
            return i + 1;
        }
    }
    return -1;
}

static bool
item_read(struct reader *r, char item, struct date *date)
{
    int n;

    switch (item) {
    case 'w':
    case 'W':
        return (date->weekday = weekday_read(r, item == 'W')) >= 0;
    case 'd':
    case 'D':
        return (date->day = digits_read(r, 2, item == 'D')) > 0;
    case 'm':
        return (date->month = month_read(r)) > 0;
    case 'Y':
        return (date->year = digits_read(r, 4, false)) >= 0;
    case 'y':
        n = digits_read(r, 2, false);
        date->year = n + (n < 70 ? 2000 : 1900);
        return n >= 0;
    case 'H':
        return (date->hour = digits_read(r, 2, false)) >= 0;
    case 'N':
        return (date->minute = digits_read(r, 2, false)) >= 0;
    case 'S':
        return (date->second = digits_read(r, 2, false)) >= 0;
    default:
        return r->p < r->end && *r->p++ == item;
    }
}

static bool
pattern_read(const char *pattern, const char *text, size_t len,
             struct date *date)
{
    struct reader r = {text, text + len};

    for (; *pattern != '\0'; pattern++) {
        if (!item_read(&r, *pattern, date)) {
            return false;
        }
    }
    return r.p == r.end;
}

int64_t
http_date_parse(const char *text, size_t len)
{
    static const char patterns[3][24] = {
        "w, d m Y H:N:S GMT", /* IMF-fixdate */
        "W, d-m-y H:N:S GMT", /* RFC 850; 70 to 99 mean 19xx */
        "w m D H:N:S Y",      /* asctime */
    };
    struct date date = {0};
    int64_t n, next;
    int i = 0;

    while (!pattern_read(patterns[i], text, len, &date)) {
        if (++i == 3) {
            return -1;
        }
    }
    n = days_of(date.year, date.month, date.day);
    next = date.month < 12 ? days_of(date.year, date.month + 1, 1)
                           : days_of(date.year + 1, 1, 1);
    if (n < 0 || n >= next || n % 7 != date.weekday || date.hour > 23 ||
        date.minute > 59 || date.second > 60) {
        return -1;
    }
    return n * DAY + date.hour * 3600 + date.minute * 60 + date.second;
}

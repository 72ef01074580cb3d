/* Mistakes are kept in a fixed table, so that reporting one cannot fail. */
#include "conf/report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void
conf_report_add(struct conf_report *report, struct conf_where where,
                const char *format, ...)
{
    struct conf_mistake *mistake;
    va_list args;

    for (size_t i = 0; i < report->n; i++) {
        if (report->list[i].where.line == where.line &&
            report->list[i].where.column == where.column) {
            return;
        }
    }
    if (report->n == CONF_MISTAKES_MAX) {
        report->more = true;
        return;
    }
    mistake = &report->list[report->n++];
    mistake->where = where;
    va_start(args, format);
    vsnprintf(mistake->text, sizeof(mistake->text), format, args);
    va_end(args);
}

static int
mistake_compare(const void *a, const void *b)
{
    const struct conf_mistake *x = a, *y = b;

    if (x->where.line != y->where.line) {
        return x->where.line < y->where.line ? -1 : 1;
    }
    return (x->where.column > y->where.column) -
           (x->where.column < y->where.column);
}

void
conf_report_write(struct conf_report *report, const char *name, FILE *errors)
{
    qsort(report->list, report->n, sizeof(report->list[0]), mistake_compare);
    for (size_t i = 0; i < report->n; i++) {
        const struct conf_mistake *mistake = &report->list[i];

        fprintf(errors, "%s:%d:%d: %s\n", name, mistake->where.line,
                mistake->where.column, mistake->text);
    }
    if (report->more) {
        fprintf(errors, "%s: too many mistakes: only the first %d are shown\n",
                name, CONF_MISTAKES_MAX);
    }
}

struct conf_shown
conf_shown(const char *text, size_t len)
{
    struct conf_shown shown;
    size_t keep = len;

    if (len >= sizeof(shown.text)) {
        keep = sizeof(shown.text) - sizeof("...");
        while (keep > 0 && ((unsigned char)text[keep] & 0xc0) == 0x80) {
            keep--;
        }
    }
    if (keep > 0) {
        memcpy(shown.text, text, keep);
    }
    snprintf(shown.text + keep, sizeof(shown.text) - keep, "%s",
             keep < len ? "..." : "");
    return shown;
}

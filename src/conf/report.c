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

    for (size_t i = 0; i < report->n && where.line > 0; i++) {
        if (conf_where_compare(report->list[i].where, where) == 0) {
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

int
conf_where_compare(struct conf_where a, struct conf_where b)
{
    if (a.file != b.file) {
        return a.file < b.file ? -1 : 1;
    }
    if (a.line != b.line) {
        return a.line < b.line ? -1 : 1;
    }
    return (a.column > b.column) - (a.column < b.column);
}

static int
mistake_compare(const void *a, const void *b)
{
    const struct conf_mistake *x = a, *y = b;

    return conf_where_compare(x->where, y->where);
}

struct conf_there
conf_there(const struct conf_report *report, struct conf_where here,
           struct conf_where there)
{
    struct conf_there text;

    if (here.file == there.file) {
        snprintf(text.text, sizeof(text.text), "in line %d", there.line);
    } else {
        snprintf(text.text, sizeof(text.text), "in %s:%d",
                 conf_shown_end(conf_where_file(report->conf, there)).text,
                 there.line);
    }
    return text;
}

/* From which macro the text of a place came. */
static void
write_macro(const struct conf_report *report, struct conf_where where,
            FILE *errors)
{
    const struct conf_macro *macro;

    if (where.macro == 0) {
        return;
    }
    macro = &report->conf->macros[where.macro - 1];
    fprintf(errors, " (from macro '%s' %s%s)", macro->name,
            macro->is_given ? "of -D"
                            : conf_there(report, where, macro->where).text,
            where.is_mixed ? " and others" : "");
}

void
conf_report_write(struct conf_report *report, FILE *errors)
{
    if (report->n > 0) {
        qsort(report->list, report->n, sizeof(report->list[0]),
              mistake_compare);
    }
    for (size_t i = 0; i < report->n; i++) {
        const struct conf_mistake *mistake = &report->list[i];
        struct conf_where where = mistake->where;

        if (where.line > 0) {
            fprintf(errors, "%s:%d:%d: ", conf_where_file(report->conf, where),
                    where.line, where.column);
        } else if (where.file > 0) {
            fprintf(errors, "%s: ", conf_where_file(report->conf, where));
        }
        fputs(mistake->text, errors);
        write_macro(report, where, errors);
        fputc('\n', errors);
    }
    if (report->more) {
        fprintf(errors, "%s: too many mistakes: only the first %d are shown\n",
                report->conf->file, CONF_MISTAKES_MAX);
    }
}

struct conf_shown
conf_shown_end(const char *path)
{
    struct conf_shown shown;
    size_t len = strlen(path);
    bool is_cut = len >= sizeof(shown.text);

    if (is_cut) {
        path += len - (sizeof(shown.text) - sizeof("..."));
        while (((unsigned char)*path & 0xc0) == 0x80) {
            path++;
        }
    }
    snprintf(shown.text, sizeof(shown.text), "%s%s", is_cut ? "..." : "", path);
    return shown;
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

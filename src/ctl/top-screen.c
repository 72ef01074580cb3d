/* Samples, what lies between two, and the table of it. Touches neither server
 * nor terminal. */
#include "ctl/top.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/plain.h"
#include "base/util.h"
#include "ctl/fields.h"

#define LAST_AT   67 /* columns before the last one */
#define FIRST_MIN 14

static const struct {
    char key;
    const char *word;
} orders[TOP_ORDERS] = {
    [TOP_BY_NAME] = {'n', "name"}, [TOP_BY_COPIES] = {'c', "copies"},
    [TOP_BY_BUSY] = {'b', "busy"}, [TOP_BY_QUEUE] = {'w', "queue"},
    [TOP_BY_RATE] = {'r', "rate"}, [TOP_BY_MEMORY] = {'m', "memory"},
};

/* --- Samples ----------------------------------------------------------- */

static void
copy_text(char *to, size_t size, const struct fields *f, const char *key)
{
    snprintf(to, size, "%s", fields_text(f, key));
}

/* "1,2,3": as many counts as there are. */
static void
read_counts(const struct fields *f, const char *key,
            uint64_t counts[HISTOGRAM_N])
{
    const char *at = fields_text(f, key);
    char *end;

    for (size_t i = 0; i < HISTOGRAM_N && *at >= '0' && *at <= '9'; i++) {
        counts[i] = strtoull(at, &end, 10);
        at = end + (*end == ',');
    }
}

/* "full:3,crash:1": the sum. */
static uint64_t
sum_causes(const struct fields *f, const char *key)
{
    uint64_t n = 0;

    for (const char *at = strchr(fields_text(f, key), ':'); at != NULL;
         at = strchr(at + 1, ':')) {
        n += strtoull(at + 1, NULL, 10);
    }
    return n;
}

static bool
add_row(struct top_sample *s, const struct fields *f, bool calls)
{
    struct top_row *rows, *row;

    if (s->n == TOP_ROWS_MAX) {
        return true;
    }
    if ((s->n & (s->n - 1)) == 0) { /* a power of two: full */
        rows = realloc(s->rows, (s->n > 0 ? 2 * s->n : 1) * sizeof(*rows));
        if (rows == NULL) {
            return false;
        }
        s->rows = rows;
    }
    row = &s->rows[s->n++];
    memset(row, 0, sizeof(*row));
    copy_text(row->name, sizeof(row->name), f, "name");
    copy_text(row->state, sizeof(row->state), f, "state");
    copy_text(row->last_end, sizeof(row->last_end), f, "last_end");
    row->calls = calls;
    row->copies = fields_num(f, "copies");
    row->copies_high = fields_num(f, "copies_high");
    row->busy = fields_num(f, "busy");
    row->stuck = fields_num(f, "stuck");
    row->waiting = fields_num(f, "waiting");
    row->requests = fields_num(f, "requests");
    row->errors = sum_causes(f, "errors");
    row->rss_kb = fields_num(f, "rss_kb");
    row->starts = fields_num(f, "starts");
    read_counts(f, "run", row->run);
    read_counts(f, "wait", row->wait);
    return true;
}

bool
top_add(struct top_sample *s, const struct fields *f)
{
    const char *event = fields_text(f, "event");

    if (strcmp(event, "server") == 0) {
        copy_text(s->version, sizeof(s->version), f, "version");
        copy_text(s->configuration, sizeof(s->configuration), f,
                  "configuration");
        s->pid = fields_num(f, "pid");
        s->up_s = fields_num(f, "up_s");
    } else if (strcmp(event, "worker") == 0) {
        s->workers++;
        s->connections += fields_num(f, "connections");
        s->requests += fields_num(f, "requests");
    } else if (strcmp(event, "module") == 0 || strcmp(event, "door") == 0) {
        return add_row(s, f, true);
    } else if (strcmp(event, "files") == 0) {
        return add_row(s, f, false);
    }
    return true;
}

void
top_free(struct top_sample *s)
{
    free(s->rows);
    memset(s, 0, sizeof(*s));
}

/* --- Between two -------------------------------------------------------- */

static void __attribute__((format(printf, 4, 5)))
tell(struct top_screen *screen, const char *clock, const char *name,
     const char *format, ...)
{
    char *line = screen->news[TOP_NEWS - 1];
    va_list args;
    int n;

    memmove(screen->news[0], screen->news[1],
            sizeof(screen->news) - sizeof(screen->news[0]));
    n = snprintf(line, TOP_NEWS_MAX, "%.8s  %.60s ", clock, name);
    va_start(args, format);
    vsnprintf(line + n, TOP_NEWS_MAX - (size_t)n, format, args);
    va_end(args);
}

static const struct top_row *
find_row(const struct top_sample *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->rows[i].name, name) == 0) {
            return &s->rows[i];
        }
    }
    return NULL;
}

static uint64_t
share_between(const uint64_t now[HISTOGRAM_N],
              const uint64_t before[HISTOGRAM_N], uint64_t permille)
{
    uint64_t counts[HISTOGRAM_N];

    for (size_t i = 0; i < HISTOGRAM_N; i++) {
        counts[i] = now[i] > before[i] ? now[i] - before[i] : 0;
    }
    return histogram_share(counts, permille);
}

static void
tell_changes(struct top_screen *screen, const char *clock,
             const struct top_row *now, const struct top_row *before)
{
    if (now->copies_high > before->copies_high) {
        tell(screen, clock, now->name, "grew: new high-water mark %" PRIu64,
             now->copies_high);
    } else if (now->copies > before->copies) {
        tell(screen, clock, now->name, "grew to %" PRIu64 " copies",
             now->copies);
    } else if (now->copies < before->copies) {
        tell(screen, clock, now->name, "fell back to %" PRIu64 " copies",
             now->copies);
    }
    if (now->starts > before->starts) {
        tell(screen, clock, now->name, "was started again: %s",
             now->last_end[0] != '\0' ? now->last_end : "a call came");
    }
    if (now->errors > before->errors) {
        tell(screen, clock, now->name,
             "failed %" PRIu64 " requests: cardea why %s",
             now->errors - before->errors, now->name);
    }
}

static double
rate_of(uint64_t now, uint64_t before, uint64_t ns)
{
    return ns > 0 && now > before
               ? (double)(now - before) * (double)NS_PER_SEC / (double)ns
               : 0;
}

void
top_compare(struct top_sample *now, const struct top_sample *before,
            struct top_screen *screen, const char *clock)
{
    uint64_t ns = before->at > 0 ? now->at - before->at : 0;

    now->rate = rate_of(now->requests, before->requests, ns);
    for (size_t i = 0; i < now->n; i++) {
        struct top_row *row = &now->rows[i];
        const struct top_row *was = find_row(before, row->name);

        if (was != NULL) {
            row->rate = rate_of(row->requests, was->requests, ns);
            row->run_ns = share_between(row->run, was->run, 500);
            row->wait_ns = share_between(row->wait, was->wait, 990);
            tell_changes(screen, clock, row, was);
        } else {
            row->run_ns = histogram_share(row->run, 500);
            row->wait_ns = histogram_share(row->wait, 990);
        }
    }
}

/* --- The table --------------------------------------------------------- */

static double
rank(const struct top_row *row, enum top_order order)
{
    switch (order) {
    case TOP_BY_COPIES:
        return (double)row->copies;
    case TOP_BY_BUSY:
        return (double)row->busy;
    case TOP_BY_QUEUE:
        return (double)row->waiting;
    case TOP_BY_RATE:
        return row->rate;
    case TOP_BY_MEMORY:
        return (double)row->rss_kb;
    case TOP_BY_NAME:
    case TOP_ORDERS:
        break;
    }
    return 0;
}

static int
compare_rows(const void *a, const void *b, void *arg)
{
    enum top_order order = *(const enum top_order *)arg;
    double left = rank(a, order), right = rank(b, order);

    if (left > right || left < right) {
        return left > right ? -1 : 1;
    }
    return strcmp(((const struct top_row *)a)->name,
                  ((const struct top_row *)b)->name);
}

/* NS in at most seven columns. */
static void
put_time(FILE *out, uint64_t ns)
{
    char text[16];

    if (ns == 0) {
        snprintf(text, sizeof(text), "-");
    } else if (ns < 1000 * 1000) {
        snprintf(text, sizeof(text), "%" PRIu64 "us", ns / 1000);
    } else if (ns < NS_PER_SEC) {
        snprintf(text, sizeof(text), "%.1fms", (double)ns / 1e6);
    } else {
        snprintf(text, sizeof(text), "%.1fs", (double)ns / 1e9);
    }
    fprintf(out, " %7.7s", text);
}

static void
put_size(FILE *out, uint64_t kb)
{
    if (kb == 0) {
        fprintf(out, " %6s", "-");
    } else if (kb < 10000) {
        fprintf(out, " %5" PRIu64 "K", kb);
    } else if (kb < 10000 * 1024ull) {
        fprintf(out, " %5" PRIu64 "M", kb / 1024);
    } else {
        fprintf(out, " %5" PRIu64 "G", kb / 1024 / 1024);
    }
}

static void
put_row(FILE *out, const struct top_row *row, int columns)
{
    const char *last = row->last_end;
    char stuck[32];
    int n = plain_put_short(out, row->name, FIRST_MIN);

    fprintf(out, "%*s", FIRST_MIN - n, "");
    if (row->calls) {
        fprintf(out, " %6" PRIu64 " %4" PRIu64 " %4" PRIu64 " %5" PRIu64,
                row->copies, row->copies_high, row->busy, row->waiting);
    } else {
        fprintf(out, " %6s %4s %4s %5s", "-", "-", "-", "-");
    }
    fprintf(out, " %6.0f", row->rate);
    put_time(out, row->wait_ns);
    put_time(out, row->run_ns);
    put_size(out, row->rss_kb);
    if (row->state[0] != '\0' && strcmp(row->state, "running") != 0) {
        last = row->state;
    }
    if (row->stuck > 0) { /* what is, before what was */
        snprintf(stuck, sizeof(stuck), "%" PRIu64 " stuck", row->stuck);
        last = stuck;
    }
    if (columns >= LAST_AT + 9) {
        fputc(' ', out);
        plain_put_short(out, last, columns - LAST_AT - 1);
    }
}

/* The end of a line: on a terminal what stood there before is wiped. */
static void
put_end(FILE *out, const struct top_screen *screen)
{
    fputs(screen->is_terminal ? "\x1b[K\n" : "\n", out);
}

static void
put_head(const struct top_sample *now, const struct top_screen *screen,
         FILE *out)
{
    fputs("cardea ", out);
    plain_put(out, now->version);
    fprintf(out,
            "  pid %" PRIu64 "  up %" PRIu64 " s  %" PRIu64 " workers  %" PRIu64
            " connections  %.0f requests/s",
            now->pid, now->up_s, now->workers, now->connections, now->rate);
    put_end(out, screen);
    plain_put_short(out, now->configuration, MAX_OF(screen->columns - 1, 8));
    put_end(out, screen);
    put_end(out, screen);
    fprintf(out, "%s%-*s %6s %4s %4s %5s %6s %7s %7s %6s %s%s",
            screen->is_terminal ? "\x1b[7m" : "", FIRST_MIN, "NAME", "COPIES",
            "HIGH", "BUSY", "QUEUE", "REQ/S", "WAIT99", "RUN50", "RSS",
            "LAST END", screen->is_terminal ? "\x1b[0m" : "");
    put_end(out, screen);
}

void
top_draw(struct top_sample *now, const struct top_screen *screen, FILE *out)
{
    enum top_order order = screen->order;
    size_t room = SIZE_MAX;

    if (now->n > 0) {
        qsort_r(now->rows, now->n, sizeof(*now->rows), compare_rows, &order);
    }
    if (screen->is_terminal) {
        int left = screen->rows - 4 - TOP_NEWS - 2;

        room = left > 3 ? (size_t)left : 3;
        fputs("\x1b[H", out);
    }
    put_head(now, screen, out);
    for (size_t i = 0; i < now->n && i < room; i++) {
        put_row(out, &now->rows[i], screen->columns);
        put_end(out, screen);
    }
    if (!screen->is_terminal) {
        return;
    }
    if (now->n > room) {
        fprintf(out, "and %zu more", now->n - room);
    }
    put_end(out, screen);
    for (size_t i = 0; i < TOP_NEWS; i++) {
        plain_put_short(out, screen->news[i], MAX_OF(screen->columns - 1, 8));
        put_end(out, screen);
    }
    fprintf(out,
            "by %s%s  sort: n)ame c)opies b)usy w)aiting r)ate m)emory  "
            "h)old  q)uit\x1b[K\x1b[J",
            orders[order].word, screen->held ? ", HELD" : "");
}

bool
top_key(struct top_screen *screen, int key)
{
    if (key == 'h' || key == ' ') {
        screen->held = !screen->held;
    }
    for (size_t i = 0; i < TOP_ORDERS; i++) {
        if (orders[i].key == key) {
            screen->order = (enum top_order)i;
        }
    }
    return key != 'q' && key != 'Q' && key != 3; /* ^C */
}

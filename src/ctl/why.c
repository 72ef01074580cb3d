/* cardea why: the lines that the server remembers of one module or one request,
 * put together and explained. */
#include "ctl/why.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/plain.h"
#include "base/util.h"
#include "base/world.h"
#include "ctl/ctl.h"
#include "ctl/fields.h"
#include "ctl/server.h"

#define WHY_LIMIT (10 * NS_PER_SEC)
#define ID_LEN    16
#define KEPT      24 /* lines of each sort: the latest */
#define GREW_S    10 /* so late the first answer tells that a module grew */
#define AROUND_S  2  /* events of its module so long before a request */

/* The latest lines of one sort. */
struct kept {
    char *lines[KEPT]; /* owned; NULL: none */
    uint64_t n;        /* that there were */
};

struct why {
    struct ctl *ctl;
    struct server server;
    struct fields f;    /* of the line that is looked at */
    struct kept events; /* of the module */
    struct kept failed; /* requests of the module, or the one that is meant */
    struct kept output;
    char start[FIELDS_LINE_MAX + 1];   /* of its latest process; "": unknown */
    char numbers[FIELDS_LINE_MAX + 1]; /* of the module; "": none */
};

static void
keep(struct kept *kept, const char *line)
{
    char **place = &kept->lines[kept->n % KEPT];

    free(*place);
    *place = strdup(line);
    kept->n += *place != NULL;
}

static void
forget(struct kept *kept)
{
    for (size_t i = 0; i < KEPT; i++) {
        free(kept->lines[i]);
    }
    memset(kept, 0, sizeof(*kept));
}

/* The Ith of those that are kept, oldest first; NULL: there are no more. */
static const char *
kept_line(const struct kept *kept, size_t i)
{
    size_t n = (size_t)MIN_OF(kept->n, (uint64_t)KEPT);

    return i < n ? kept->lines[(kept->n - n + i) % KEPT] : NULL;
}

static bool
is(const struct fields *f, const char *key, const char *value)
{
    return strcmp(fields_text(f, key), value) == 0;
}

static bool
is_event(const struct fields *f)
{
    return !is(f, "event", "request") && !is(f, "event", "output");
}

/* --- Asking ------------------------------------------------------------ */

typedef void take_line(struct why *why, const char *line, void *arg);

/* Asks WORDS and calls TAKE for each line of the answer that is one of the log.
 * An exit status. */
static int
ask(struct why *why, const char *words, take_line *take, void *arg)
{
    uint64_t deadline = world_real()->now(NULL) + WHY_LIMIT;
    char line[FIELDS_LINE_MAX + 1];
    int rc, status;

    if (why->server.fd < 0 && !server_again(&why->server)) {
        fputs("cardea why: the server has ended\n", why->ctl->errors);
        return CTL_FAILED;
    }
    status = server_ask(why->ctl, "why", &why->server, words);
    if (status != CTL_OK) {
        return status;
    }
    while ((rc = server_line(&why->server, line, sizeof(line), deadline)) > 0) {
        if (fields_parse(&why->f, line)) {
            take(why, line, arg);
        }
    }
    if (rc < 0) {
        return server_broke_off(why->ctl, "why");
    }
    server_close(&why->server);
    return CTL_OK;
}

/* --- Lines ------------------------------------------------------------- */

static const char *
meaning_of(const struct fields *f)
{
    const char *cause = fields_text(f, "cause");
    const char *meaning = NULL;

    if (is(f, "event", "request")) {
        return why_request(cause);
    }
    if (is(f, "event", "start")) {
        return why_start(fields_text(f, "why"));
    }
    if (cause[0] != '\0') {
        meaning = why_end(cause);
    }
    return meaning != NULL ? meaning : why_event(fields_text(f, "event"));
}

/* One line as "  20:17:01.123 died cause=exit-1 ...", and what it means. */
static void
print_line(struct why *why, const char *line)
{
    FILE *out = why->ctl->out;
    const char *meaning;

    if (!fields_parse(&why->f, line)) {
        return;
    }
    const char *time = strchr(fields_text(&why->f, "time"), 'T');
    meaning = meaning_of(&why->f);
    fprintf(out, "  %.12s ", time != NULL ? time + 1 : "");
    if (is(&why->f, "event", "output")) {
        plain_put(out, fields_text(&why->f, "stream"));
        fputs(": ", out);
        plain_put(out, fields_text(&why->f, "text"));
        fputc('\n', out);
        return;
    }
    plain_put(out, fields_text(&why->f, "event"));
    for (size_t i = 1; i < why->f.n; i++) {
        const char *key = why->f.list[i].key;

        if (strcmp(key, "level") != 0 && strcmp(key, "event") != 0 &&
            strcmp(key, "module") != 0) {
            fprintf(out, " %s=", key);
            plain_put(out, why->f.list[i].value);
        }
    }
    fputc('\n', out);
    if (meaning != NULL) {
        fprintf(out, "               %s\n", meaning);
    }
}

static void
print_kept(struct why *why, const struct kept *kept, const char *title)
{
    const char *line;

    if (kept->n == 0) {
        return;
    }
    fprintf(why->ctl->out, "\n%s", title);
    if (kept->n > KEPT) {
        fprintf(why->ctl->out, ", the latest %d of %llu", KEPT,
                (unsigned long long)kept->n);
    }
    fputs(":\n", why->ctl->out);
    for (size_t i = 0; (line = kept_line(kept, i)) != NULL; i++) {
        print_line(why, line);
    }
}

static void
json_line(struct why *why, struct json *j, const char *key, const char *line)
{
    const char *meaning;

    if (!fields_parse(&why->f, line)) {
        return;
    }
    meaning = meaning_of(&why->f);
    json_object(j, key);
    fields_json(&why->f, j);
    if (meaning != NULL) {
        json_text(j, "meaning", meaning);
    }
    json_object_end(j);
}

static void
json_kept(struct why *why, struct json *j, const char *key,
          const struct kept *kept)
{
    const char *line;

    json_list(j, key);
    for (size_t i = 0; (line = kept_line(kept, i)) != NULL; i++) {
        json_line(why, j, NULL, line);
    }
    json_list_end(j);
}

/* --- A request --------------------------------------------------------- */

static void
take_request(struct why *why, const char *line, void *arg)
{
    if (is(&why->f, "id", arg)) {
        keep(&why->failed, line);
    }
}

/* What was around it: what its module printed for it, and events. */
struct around {
    const char *id;
    char module[256];
    char from[32], until[32]; /* times as the log has them */
};

static void
take_around(struct why *why, const char *line, void *arg)
{
    const struct around *a = arg;
    const char *time = fields_text(&why->f, "time");

    if (is(&why->f, "event", "output") && is(&why->f, "request", a->id)) {
        keep(&why->output, line);
    } else if (is(&why->f, "event", "copy-ended") &&
               is(&why->f, "request", a->id)) {
        /* Also what came of it later: it ran on, and was killed. */
        keep(&why->events, line);
    } else if (is_event(&why->f) && a->module[0] != '\0' &&
               is(&why->f, "module", a->module) && strcmp(time, a->from) >= 0 &&
               strcmp(time, a->until) <= 0) {
        keep(&why->events, line);
    }
}

/* The time S (since 1970) as the log has it, without what is behind seconds. */
static void
log_time(uint64_t s, char out[32])
{
    time_t at = (time_t)s;
    struct tm tm = {0};

    out[0] = '\0';
    if (gmtime_r(&at, &tm) != NULL) {
        strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    }
}

/* The time that the log has as TEXT, less S seconds; TEXT itself if that cannot
 * be. */
static void
time_before(const char *text, uint64_t s, char out[32])
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    snprintf(out, 32, "%.31s", text);
    if (rest != NULL) {
        log_time((uint64_t)timegm(&tm) - MIN_OF(s, 1000000000ull), out);
    }
}

static void
print_time(struct why *why, const char *before, const char *key)
{
    if (fields_text(&why->f, key)[0] != '\0') {
        fprintf(why->ctl->out, "%s%s ms", before, fields_text(&why->f, key));
    }
}

static void
print_request(struct why *why, const char *id)
{
    const struct fields *f = &why->f;
    FILE *out = why->ctl->out;
    const char *cause, *meaning;

    (void)fields_parse(&why->f, kept_line(&why->failed, 0));
    cause = fields_text(f, "cause");
    meaning = why_request(cause);
    fprintf(out, "request %s, ended ", id);
    plain_put(out, fields_text(f, "time"));
    fputs("\n  ", out);
    plain_put(out, fields_text(f, "method"));
    fputc(' ', out);
    plain_put(out, fields_text(f, "target"));
    fputs(" of ", out);
    plain_put(out, fields_text(f, "client"));
    if (fields_text(f, "module")[0] != '\0') {
        fputs(" for module ", out);
        plain_put(out, fields_text(f, "module"));
    }
    fputs("\n  answered ", out);
    plain_put(out, fields_text(f, "status"));
    print_time(why, " after ", "total_ms");
    print_time(why, ": waited ", "queue_ms");
    print_time(why, ", ran ", "run_ms");
    if (fields_text(f, "copy")[0] != '\0') {
        fputs("\n  its call was taken by process or thread ", out);
        plain_put(out, fields_text(f, "copy"));
    }
    if (cause[0] != '\0') {
        fputs("\n  cause ", out);
        plain_put(out, cause);
        fprintf(out, ": %s", meaning != NULL ? meaning : "see cardea(1)");
    } else {
        fputs("\n  nothing went wrong", out);
    }
    if (fields_text(f, "waiting")[0] != '\0') {
        fprintf(out,
                "\n  at that moment: %llu copies, %llu calls in flight, %llu "
                "waiting, runs take %s ms (median)",
                (unsigned long long)fields_num(f, "copies"),
                (unsigned long long)fields_num(f, "in_flight"),
                (unsigned long long)fields_num(f, "waiting"),
                fields_text(f, "median_ms"));
    }
    fputc('\n', out);
    print_kept(why, &why->output, "What the program printed for it");
    print_kept(why, &why->events, "What happened to the module then");
}

static int
why_this_request(struct why *why, const char *id)
{
    struct around around = {.id = id};
    struct json j;
    int status = ask(why, "log", take_request, (void *)(uintptr_t)id);

    if (status != CTL_OK) {
        return status;
    }
    if (why->failed.n == 0) {
        fprintf(why->ctl->errors,
                "cardea why: the server remembers no request %s: it is too "
                "long ago, in progress, or another server's\n",
                id);
        return CTL_FAILED;
    }
    (void)fields_parse(&why->f, kept_line(&why->failed, 0));
    snprintf(around.module, sizeof(around.module), "%s",
             fields_text(&why->f, "module"));
    snprintf(around.until, sizeof(around.until), "%s",
             fields_text(&why->f, "time"));
    time_before(around.until, fields_num(&why->f, "total_ms") / 1000 + AROUND_S,
                around.from);
    status = ask(why, "log", take_around, &around);
    if (status != CTL_OK) {
        return status;
    }
    if (!why->ctl->as_json) {
        print_request(why, id);
        return CTL_OK;
    }
    json_init(&j, why->ctl->out);
    json_object(&j, NULL);
    json_line(why, &j, "request", kept_line(&why->failed, 0));
    json_kept(why, &j, "output", &why->output);
    json_kept(why, &j, "events", &why->events);
    json_object_end(&j);
    fputc('\n', why->ctl->out);
    return CTL_OK;
}

/* --- A module ---------------------------------------------------------- */

static void
take_numbers(struct why *why, const char *line, void *arg)
{
    if (is(&why->f, "event", "module") && is(&why->f, "name", arg)) {
        snprintf(why->numbers, sizeof(why->numbers), "%s", line);
    }
}

static void
take_module(struct why *why, const char *line, void *arg)
{
    if (!is(&why->f, "module", arg)) {
        return;
    }
    if (is(&why->f, "event", "output")) {
        if (is(&why->f, "stream", "stderr")) {
            keep(&why->output, line);
        }
    } else if (!is(&why->f, "event", "request")) {
        keep(&why->events, line);
        if (is(&why->f, "event", "start")) {
            snprintf(why->start, sizeof(why->start), "%s", line);
        }
    } else if (fields_text(&why->f, "cause")[0] != '\0') {
        keep(&why->failed, line);
    }
}

/* The line that tells why the Ith of COPIES was started: by the keeper, if it
 * is the first, else by the module, which was seen to grow soon after. NULL: it
 * is not remembered, or it is one of those that are there from the start. */
static const char *
start_line(struct why *why, const struct why_copy *copies, size_t i)
{
    char from[32], until[32];
    const char *line;

    if (i == 0) {
        return fields_parse(&why->f, why->start) &&
                       fields_num(&why->f, "pid") == (uint64_t)copies[0].pid
                   ? why->start
                   : NULL;
    }
    if (copies[i].started_s <= copies[0].started_s + 1) {
        return NULL;
    }
    log_time(copies[i].started_s, from);
    log_time(copies[i].started_s + GREW_S, until);
    for (size_t j = 0; (line = kept_line(&why->events, j)) != NULL; j++) {
        if (fields_parse(&why->f, line) && is(&why->f, "event", "grew") &&
            strcmp(fields_text(&why->f, "time"), from) >= 0 &&
            strcmp(fields_text(&why->f, "time"), until) <= 0) {
            return line;
        }
    }
    return NULL;
}

/* Its processes now, the keeper's child first. */
static void
print_copies(struct why *why, pid_t pid)
{
    struct why_copy copies[WHY_COPIES];
    size_t n = why_copies(pid, copies);
    FILE *out = why->ctl->out;

    for (size_t i = 0; i < n; i++) {
        char when[32];
        const char *line = start_line(why, copies, i);
        const char *meaning = line != NULL ? meaning_of(&why->f) : NULL;

        log_time(copies[i].started_s, when);
        fprintf(out,
                "  process %d %s, with %llu threads and %llu KB; started %sZ "
                "by the %s%s%s\n",
                (int)copies[i].pid, copies[i].state,
                (unsigned long long)copies[i].threads,
                (unsigned long long)copies[i].rss_kb, when,
                i == 0 ? "keeper" : "module", meaning != NULL ? ": " : "",
                meaning != NULL ? meaning : "");
    }
}

static void
json_copies(struct why *why, struct json *j, pid_t pid)
{
    struct why_copy copies[WHY_COPIES];
    size_t n = pid > 0 ? why_copies(pid, copies) : 0;

    json_list(j, "processes");
    for (size_t i = 0; i < n; i++) {
        json_object(j, NULL);
        json_num(j, "pid", (uint64_t)copies[i].pid);
        json_text(j, "state", copies[i].state);
        json_num(j, "threads", copies[i].threads);
        json_num(j, "rss_kb", copies[i].rss_kb);
        json_num(j, "started_s", copies[i].started_s);
        const char *line = start_line(why, copies, i);
        if (line != NULL) {
            json_line(why, j, "start", line);
        }
        json_object_end(j);
    }
    json_list_end(j);
}

static void
print_module(struct why *why, const char *name)
{
    const struct fields *f = &why->f;
    FILE *out = why->ctl->out;

    (void)fields_parse(&why->f, why->numbers);
    fprintf(out, "module %s: ", name);
    plain_put(out, fields_text(f, "state"));
    if (fields_num(f, "pid") > 0) {
        fprintf(out, ", pid %s, up %s s", fields_text(f, "pid"),
                fields_text(f, "up_s"));
    }
    fprintf(out,
            "\n  %llu copies (at most %llu so far), %llu busy, %llu calls "
            "waiting\n  %llu calls so far, median run %llu us\n",
            (unsigned long long)fields_num(f, "copies"),
            (unsigned long long)fields_num(f, "copies_high"),
            (unsigned long long)fields_num(f, "busy"),
            (unsigned long long)fields_num(f, "waiting"),
            (unsigned long long)fields_num(f, "calls"),
            (unsigned long long)fields_num(f, "median_us"));
    if (fields_num(f, "pid") > 0) {
        print_copies(why, (pid_t)fields_num(f, "pid"));
        (void)fields_parse(&why->f, why->numbers);
    }
    if (fields_num(f, "stuck") > 0) {
        fprintf(out,
                "  %llu of them are stuck: their calls were to be answered "
                "before now\n",
                (unsigned long long)fields_num(f, "stuck"));
    }
    if (fields_text(f, "ends")[0] != '\0') {
        fputs("  its processes ended so often: ", out);
        plain_put(out, fields_text(f, "ends"));
        fputc('\n', out);
    }
    if (fields_text(f, "copy_ends")[0] != '\0') {
        fputs("  its copies ended so often: ", out);
        plain_put(out, fields_text(f, "copy_ends"));
        fputc('\n', out);
    }
    if (fields_text(f, "errors")[0] != '\0') {
        fputs("  its requests failed so often: ", out);
        plain_put(out, fields_text(f, "errors"));
        fputc('\n', out);
    }
    print_kept(why, &why->events, "What happened to it");
    print_kept(why, &why->output, "What it printed on standard error");
    print_kept(why, &why->failed, "Requests that ended badly");
}

static int
why_this_module(struct why *why, const char *name)
{
    void *arg = (void *)(uintptr_t)name;
    struct json j;
    int status = ask(why, "numbers", take_numbers, arg);

    if (status != CTL_OK) {
        return status;
    }
    if (why->numbers[0] == '\0') {
        fputs("cardea why: no module ", why->ctl->errors);
        plain_put(why->ctl->errors, name);
        fputs(", and no request has such an id; cardea status lists the "
              "modules\n",
              why->ctl->errors);
        return CTL_FAILED;
    }
    status = ask(why, "log", take_module, arg);
    if (status != CTL_OK) {
        return status;
    }
    if (!why->ctl->as_json) {
        print_module(why, name);
        return CTL_OK;
    }
    json_init(&j, why->ctl->out);
    json_object(&j, NULL);
    json_line(why, &j, "module", why->numbers);
    (void)fields_parse(&why->f, why->numbers);
    json_copies(why, &j, (pid_t)fields_num(&why->f, "pid"));
    json_kept(why, &j, "events", &why->events);
    json_kept(why, &j, "output", &why->output);
    json_kept(why, &j, "requests", &why->failed);
    json_object_end(&j);
    fputc('\n', why->ctl->out);
    return CTL_OK;
}

static bool
is_id(const char *word)
{
    return strlen(word) == ID_LEN && strspn(word, "0123456789abcdef") == ID_LEN;
}

int
ctl_why(struct ctl *ctl)
{
    CLEAN_FREE struct why *why = calloc(1, sizeof(*why));
    const char *word = ctl->words[0];
    int status;

    if (why == NULL) {
        fputs("cardea why: out of memory\n", ctl->errors);
        return CTL_FAILED;
    }
    why->ctl = ctl;
    status = server_find(ctl, "why", false, &why->server);
    if (status == CTL_OK) {
        status = is_id(word) ? why_this_request(why, word)
                             : why_this_module(why, word);
    }
    server_close(&why->server);
    forget(&why->events);
    forget(&why->failed);
    forget(&why->output);
    return status;
}

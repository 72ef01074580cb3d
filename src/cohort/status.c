/* The state as JSON and as a table. Both read the same sums; numbers that a
 * worker or a door claims were bounded where they came in (tally.c). */
#include "cohort/status.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/plain.h"
#include "base/util.h"
#include "cohort/keeper_priv.h"
#include "cohort/listeners.h"
#include "cohort/reaper.h"
#include "front/causes.h"

#define ENDS_SHOWN     16
#define NAME_COLUMNS   14
#define WORKER_COLUMNS 6
#define DOOR_COLUMNS   28
#define FILES_COLUMNS  49

static const char *const protocols[] = {
    [CONF_HTTP] = "http",
    [CONF_TCP_CALL] = "tcp",
    [CONF_TCP_PASS] = "tcp-pass",
    [CONF_TCP_WAIT] = "tcp-wait",
};

/* As the configuration says it. */
static const char *const protocol_words[] = {
    [CONF_HTTP] = "http",
    [CONF_TCP_CALL] = "tcp to",
    [CONF_TCP_PASS] = "tcp pass",
    [CONF_TCP_WAIT] = "tcp to",
};

/* --- Both ------------------------------------------------------------- */

static uint64_t
n_restarts(const struct restart *unit)
{
    return unit->n_starts > 0 ? unit->n_starts - 1 : 0;
}

/* How UNIT ended last, in OUT; NULL if it never did. */
static const char *
last_cause(const struct restart *unit, char out[RESTART_CAUSE_MAX])
{
    if (unit->n_causes == 0) {
        return NULL;
    }
    restart_cause_text(&unit->causes[unit->last], out);
    return out;
}

static const char *
door_state(const struct keeper *k, const struct keeper_target *t)
{
    int n_open = 0;

    for (int w = 0; t->links != NULL && w < k->n_workers; w++) {
        n_open += t->links[w].open;
    }
    return n_open == k->n_workers ? "open" : n_open > 0 ? "partly" : "waiting";
}

static struct tally_sum
sum_of(const struct keeper *k, const struct keeper_target *t)
{
    static const struct tally_sum none;

    return t != NULL ? tallies_sum(&k->tallies, (size_t)(t - k->targets))
                     : none;
}

/* How many ended for a cause that is WHOSE. */
static uint64_t
n_ended(const struct tally_sum *sum, bool ours)
{
    uint64_t n = 0;

    for (unsigned i = CAUSE_NONE + 1; i < CAUSE_N; i++) {
        n += cause_is_ours(i) == ours ? sum->causes[i] : 0;
    }
    return n;
}

static uint32_t
connections_of(const struct keeper *k, int worker)
{
    return atomic_load_explicit(&k->seats[worker].connections,
                                memory_order_relaxed);
}

/* That wait; as the worker says, and at most what they can be. */
static uint32_t
heirs_of(const struct keeper_worker *w)
{
    uint32_t n = atomic_load_explicit(&w->keeper->seats[w->index].heirs,
                                      memory_order_relaxed);

    return w->unit.pid > 0 ? MIN_OF(n, HEIRS_MAX) : 0;
}

static const char *
phase_name(const struct keeper *k)
{
    return k->phase != PHASE_RUN ? "stopping"
           : k->ready_said       ? "running"
                                 : "starting";
}

/* The address of listener INDEX as a client writes it: a URL for HTTP. */
static const char *
address_of(const struct keeper *k, size_t index, char url[LISTENERS_URL_MAX])
{
    const struct conf_listen *l = &k->conf->listens[index];

    listeners_url(l, k->listen_fds[index], url);
    return url[0] != '\0' ? url : l->text;
}

/* --- JSON ------------------------------------------------------------- */

/* Why processes of UNIT ended. */
static void
json_ends(struct json *j, const struct restart *unit)
{
    char cause[RESTART_CAUSE_MAX];

    json_text(j, "last_cause", last_cause(unit, cause));
    json_object(j, "causes");
    for (size_t i = 0; i < unit->n_causes; i++) {
        restart_cause_text(&unit->causes[i], cause);
        json_num(j, cause, unit->causes[i].count);
    }
    json_object_end(j);
}

static void
json_unit(struct json *j, const struct keeper *k, const struct restart *unit)
{
    json_text(j, "state", restart_state_name(unit->state));
    if (unit->pid > 0) {
        json_num(j, "pid", (uint64_t)unit->pid);
        json_seconds(j, "up_s", keeper_now(k) - unit->started_at);
    } else {
        json_null(j, "pid");
        json_null(j, "up_s");
    }
    json_num(j, "restarts", n_restarts(unit));
    json_ends(j, unit);
}

/* How many starts there were, and of those that did not become ready why. */
static void
json_starts(struct json *j, const struct restart *unit)
{
    uint64_t by[RESTART_OTHER + 1] = {0};

    for (size_t i = 0; i < unit->n_causes; i++) {
        by[unit->causes[i].why] += unit->causes[i].count;
    }
    json_object(j, "starts");
    json_num(j, "done", unit->n_starts);
    json_num(j, "failed", by[RESTART_NO_START]);
    json_num(j, "early_ends", unit->n_early);
    json_num(j, "late", by[RESTART_LATE]);
    json_object_end(j);
    json_object(j, "ends");
    json_num(j, "crashes", by[RESTART_SIGNAL] + by[RESTART_MEMORY]);
    json_num(j, "exits", by[RESTART_EXIT]);
    json_num(j, "kills",
             by[RESTART_REPLACED] + by[RESTART_LATE] + by[RESTART_FROZEN] +
                 by[RESTART_WEDGED]);
    json_num(j, "recycled", by[RESTART_RECYCLED]);
    json_num(j, "unused", by[RESTART_UNUSED]);
    json_object_end(j);
}

/* Why its copies and commands ended, as it says. */
static void
json_copy_ends(struct json *j, const uint64_t *ends)
{
    json_object(j, "copy_ends");
    for (int i = 0; i < ENDED_N; i++) {
        json_num(j, ended_name((enum ended_why)i), ends[i]);
    }
    json_object_end(j);
}

static void
json_causes(struct json *j, const char *key, const struct tally_sum *sum,
            bool ours)
{
    json_object(j, key);
    for (unsigned i = CAUSE_NONE + 1; i < CAUSE_N; i++) {
        if (cause_is_ours(i) == ours && sum->causes[i] > 0) {
            json_num(j, cause_word(i), sum->causes[i]);
        }
    }
    json_object_end(j);
}

static void
json_answers(struct json *j, const struct tally_sum *sum)
{
    static const char *const classes[] = {"2xx", "3xx", "4xx", "5xx"};

    json_num(j, "requests", sum->requests);
    json_object(j, "answers");
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        json_num(j, classes[i], sum->answers[i]);
    }
    json_object_end(j);
    json_causes(j, "errors", sum, true);
    json_causes(j, "client_errors", sum, false);
}

/* How many took less than 1024 ns, 2048 ns and so on; the last: all longer. */
static void
json_buckets(struct json *j, const char *key,
             const uint64_t counts[HISTOGRAM_N])
{
    json_list(j, key);
    for (size_t i = 0; i < HISTOGRAM_N; i++) {
        json_num(j, NULL, counts[i]);
    }
    json_list_end(j);
}

static void
json_calls(struct json *j, const struct tally_sum *sum)
{
    if (sum->threads_high > 0) {
        json_num(j, "threads", sum->threads);
        json_num(j, "threads_high", sum->threads_high);
    } else {
        json_null(j, "threads");
        json_null(j, "threads_high");
    }
    json_num(j, "calls", sum->calls);
    json_num(j, "in_flight", sum->in_flight);
    json_num(j, "queued", sum->queued);
    json_num(j, "stuck", sum->overdue);
    json_ms(j, "run_ms", sum->run_ns);
    json_ms(j, "wait_ms", sum->wait_ns);
    json_ms(j, "median_run_ms", sum->median_ns);
    json_buckets(j, "run_buckets", sum->run);
    json_buckets(j, "wait_buckets", sum->wait);
    json_answers(j, sum);
}

/* The keeper, as its reaper counts; what that one reaped besides. */
static void
json_reaper(struct json *j, const struct keeper *k)
{
    const struct restart *unit = reaper_unit(k->reaper);
    struct reaper_end ends[ENDS_SHOWN];
    uint64_t all;
    size_t n = reaper_ends(k->reaper, ends, ENDS_SHOWN, &all);
    char cause[RESTART_CAUSE_MAX];

    json_object(j, "keeper");
    json_num(j, "pid", (uint64_t)getpid());
    json_seconds(j, "up_s", keeper_now(k) - k->started_at);
    json_num(j, "restarts", unit->n_starts);
    json_ends(j, unit);
    json_num(j, "reaped", all);
    json_list(j, "ends");
    for (size_t i = 0; i < n; i++) {
        struct restart_cause why = restart_cause_of(ends[i].status);

        restart_cause_text(&why, cause);
        json_object(j, NULL);
        json_num(j, "pid", (uint64_t)ends[i].pid);
        json_text(j, "cause", cause);
        json_bool(j, "was_keeper", ends[i].was_keeper);
        json_seconds(j, "at_s", ends[i].wall_ns);
        json_object_end(j);
    }
    json_list_end(j);
    json_object_end(j);
}

static void
json_reload(struct json *j, const struct keeper *k)
{
    const struct keeper_reload *r = &k->reload;

    json_object(j, "reload");
    json_num(j, "generation", k->generation);
    json_num(j, "done", r->n_done);
    json_num(j, "refused", r->n_refused);
    json_num(j, "changed_at", r->wall_ns / NS_PER_SEC);
    json_text(j, "error", r->error);
    json_num(j, "gone", r->n_gone);
    json_object_end(j);
}

static void
json_server(struct json *j, const struct keeper *k)
{
    json_text(j, "version", CARDEA_VERSION);
    json_num(j, "pid", (uint64_t)k->main_pid);
    json_text(j, "state", phase_name(k));
    json_seconds(j, "uptime_s", keeper_now(k) - k->born_at);
    json_text(j, "configuration", k->file);
    json_reload(j, k);
    json_text(j, "run_folder", k->folder.path);
    json_list(j, "listeners");
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        char url[LISTENERS_URL_MAX];

        if (k->conf->listens[i].presence != CONF_LIVE) {
            continue;
        }
        json_object(j, NULL);
        json_text(j, "url", address_of(k, i, url));
        json_text(j, "protocol", protocols[k->conf->listens[i].protocol]);
        json_text(j, "written", k->conf->listens[i].text);
        json_object_end(j);
    }
    json_list_end(j);
    if (k->reaper != NULL) {
        json_reaper(j, k);
    }
}

static void
json_workers(struct json *j, const struct keeper *k)
{
    json_list(j, "workers");
    for (int i = 0; i < k->n_workers; i++) {
        const struct keeper_worker *w = &k->workers[i];

        json_object(j, NULL);
        json_num(j, "index", (uint64_t)i);
        json_unit(j, k, &w->unit);
        json_bool(j, "ready", w->ready);
        json_num(j, "cpu", (uint64_t)w->setup.cpu);
        json_num(j, "connections", connections_of(k, i));
        json_num(j, "requests", tallies_requests(&k->tallies, i));
        json_num(j, "heirs", heirs_of(w));
        json_num(j, "takeovers", w->heirs.n_takeovers);
        json_num(j, "heir_deaths", w->heirs.n_deaths);
        json_object_end(j);
    }
    json_list_end(j);
}

static void
json_modules(struct json *j, const struct keeper *k)
{
    json_list(j, "modules");
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        const struct conf_module *conf = &k->conf->modules[i];
        struct restart room;
        const struct restart *unit = modules_unit(k, i, &room);
        const struct keeper_target *t = doors_target(k, i);
        struct tally_sum sum = sum_of(k, t);
        char door[PATH_MAX + 64];

        if (conf->presence == CONF_FREE || conf->is_hidden) {
            continue;
        }
        snprintf(door, sizeof(door), "%s/%s/door", k->folder.path, conf->name);
        json_object(j, NULL);
        json_text(j, "name", conf->name);
        json_text(j, "kind", conf_kind_name(conf->kind));
        json_unit(j, k, unit);
        json_starts(j, unit);
        json_copy_ends(j, modules_copy_ends(k, i));
        json_text(j, "door", door);
        json_text(j, "door_state", t != NULL ? door_state(k, t) : NULL);
        json_calls(j, &sum);
        json_object_end(j);
    }
    json_list_end(j);
}

/* Targets that are no modules: doors at paths, folders of files. */
static void
json_targets(struct json *j, const struct keeper *k, enum conf_target_kind kind)
{
    json_list(j, kind == CONF_TARGET_DOOR ? "doors" : "files");
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct tally_sum sum = tallies_sum(&k->tallies, i);

        if (k->conf->targets[i].kind != kind ||
            k->conf->targets[i].presence != CONF_LIVE) {
            continue;
        }
        json_object(j, NULL);
        json_text(j, kind == CONF_TARGET_DOOR ? "path" : "folder",
                  k->conf->targets[i].path);
        if (kind == CONF_TARGET_DOOR) {
            json_text(j, "state", door_state(k, &k->targets[i]));
            json_calls(j, &sum);
        } else {
            json_answers(j, &sum);
        }
        json_object_end(j);
    }
    json_list_end(j);
}

void
status_json(const struct keeper *k, FILE *out)
{
    struct tally_sum unrouted = tallies_sum(&k->tallies, TALLY_NONE);
    struct json j;

    json_init(&j, out);
    json_object(&j, NULL);
    json_server(&j, k);
    json_workers(&j, k);
    json_modules(&j, k);
    json_targets(&j, k, CONF_TARGET_DOOR);
    json_targets(&j, k, CONF_TARGET_FILES);
    json_object(&j, "unrouted");
    json_answers(&j, &unrouted);
    json_object_end(&j);
    json_object_end(&j);
    fputc('\n', out);
}

/* --- Text ------------------------------------------------------------- */

/* The first column; a name that is longer has a line of its own: it is needed
 * whole, for the verb call. */
static void
put_first(FILE *out, const char *name)
{
    size_t len = strlen(name);

    plain_put(out, name);
    if (len > NAME_COLUMNS) {
        fputc('\n', out);
        len = 0;
    }
    fprintf(out, "%*s", (int)(NAME_COLUMNS - len), "");
}

/* A path in WIDTH columns; the state as JSON has it whole. */
static void
put_path(FILE *out, const char *path, int width)
{
    fprintf(out, "%*s", width - plain_put_short(out, path, width), "");
}

/* N in at most WIDTH (>= 5) columns, with a blank before. */
static void
put_count(FILE *out, uint64_t n, int width)
{
    static const char units[] = "kMGTPE";
    char text[24];
    int i = -1;

    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    while ((int)strlen(text) > width && units[i + 1] != '\0') {
        n /= 1000;
        snprintf(text, sizeof(text), "%llu%c", (unsigned long long)n,
                 units[++i]);
    }
    fprintf(out, " %*s", width, text);
}

static void
put_pid(FILE *out, pid_t pid)
{
    if (pid > 0) {
        fprintf(out, " %7d", (int)pid);
    } else {
        fprintf(out, " %7s", "-");
    }
}

static void
put_span(FILE *out, uint64_t ns)
{
    unsigned long long s = ns / NS_PER_SEC;

    if (s >= 86400) {
        fprintf(out, "%llu d %llu h", s / 86400, s / 3600 % 24);
    } else if (s >= 3600) {
        fprintf(out, "%llu h %llu min", s / 3600, s / 60 % 60);
    } else if (s >= 60) {
        fprintf(out, "%llu min %llu s", s / 60, s % 60);
    } else {
        fprintf(out, "%llu s", s);
    }
}

static void
text_keeper(const struct keeper *k, FILE *out)
{
    const struct restart *unit;
    char cause[RESTART_CAUSE_MAX];
    const char *last;

    if (k->reaper == NULL) {
        return;
    }
    unit = reaper_unit(k->reaper);
    last = last_cause(unit, cause);
    fprintf(out, "\nkeeper         pid %d", (int)getpid());
    if (last != NULL) {
        fprintf(out, ", started anew %llu time%s, last end %s",
                (unsigned long long)unit->n_starts,
                unit->n_starts == 1 ? "" : "s", last);
    }
}

/* Nothing of a server whose configuration nobody tried to change. */
static void
text_reload(const struct keeper *k, FILE *out)
{
    const struct keeper_reload *r = &k->reload;

    if (r->n_done > 0) {
        fprintf(out, " (generation %llu, ", (unsigned long long)k->generation);
        put_span(out, k->real->wall(k->real->ctx) - r->wall_ns);
        fputs(" old)", out);
    }
    if (r->error != NULL) {
        fputs("\nlast reload    refused: ", out);
        plain_put_short(out, r->error, strcspn(r->error, "\n"));
    }
}

static void
text_server(const struct keeper *k, FILE *out)
{
    int n = 0;

    fprintf(out, "cardea %s, pid %d, %s, up ", CARDEA_VERSION, (int)k->main_pid,
            phase_name(k));
    put_span(out, keeper_now(k) - k->born_at);
    fputs("\nconfiguration  ", out);
    plain_put(out, k->file);
    text_keeper(k, out);
    text_reload(k, out);
    fputs("\nrun folder     ", out);
    plain_put(out, k->folder.path);
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        char url[LISTENERS_URL_MAX];

        if (k->conf->listens[i].presence != CONF_LIVE) {
            continue;
        }
        fputs(n++ == 0 ? "\nlistens on     " : "\n               ", out);
        plain_put(out, address_of(k, i, url));
        fprintf(out, " (%s)", protocol_words[k->conf->listens[i].protocol]);
    }
    fputc('\n', out);
}

static void
text_workers(const struct keeper *k, FILE *out)
{
    fprintf(out, "\n%-*s %7s %-8s %11s %9s %5s %9s %8s %s\n", WORKER_COLUMNS,
            "WORKER", "PID", "STATE", "CONNECTIONS", "REQUESTS", "HEIRS",
            "TAKEOVERS", "RESTARTS", "LAST END");
    for (int i = 0; i < k->n_workers; i++) {
        const struct keeper_worker *w = &k->workers[i];
        char cause[RESTART_CAUSE_MAX];
        const char *last = last_cause(&w->unit, cause);

        fprintf(out, "%-*d", WORKER_COLUMNS, i);
        put_pid(out, w->unit.pid);
        fprintf(out, " %-8s", restart_state_name(w->unit.state));
        put_count(out, connections_of(k, i), 11);
        put_count(out, tallies_requests(&k->tallies, i), 9);
        put_count(out, heirs_of(w), 5);
        put_count(out, w->heirs.n_takeovers, 9);
        put_count(out, n_restarts(&w->unit), 8);
        fprintf(out, " %s\n", last != NULL ? last : "-");
    }
}

static void
text_calls(FILE *out, const struct tally_sum *sum)
{
    if (sum->threads_high > 0) {
        put_count(out, sum->threads, 7);
        put_count(out, sum->threads_high, 5);
    } else {
        fprintf(out, " %7s %5s", "-", "-");
    }
    put_count(out, sum->calls, 8);
    put_count(out, sum->in_flight, 4);
    put_count(out, n_ended(sum, true), 6);
}

static void
text_causes(FILE *out, const char *before, const struct tally_sum *sum,
            bool ours)
{
    if (n_ended(sum, ours) == 0) {
        return;
    }
    for (unsigned i = CAUSE_NONE + 1; i < CAUSE_N; i++) {
        if (cause_is_ours(i) == ours && sum->causes[i] > 0) {
            fprintf(out, "%s%s %llu", before, cause_word(i),
                    (unsigned long long)sum->causes[i]);
            before = ", ";
        }
    }
    fputc('\n', out);
}

/* What went wrong, behind the row that counts it; and what clients did. */
static void
text_errors(FILE *out, const struct tally_sum *sum)
{
    if (sum->overdue > 0) {
        fprintf(out, "  stuck: %llu calls run on after their time\n",
                (unsigned long long)sum->overdue);
    }
    text_causes(out, "  errors: ", sum, true);
    text_causes(out, "  client errors: ", sum, false);
}

static void
text_copy_ends(FILE *out, const uint64_t *ends)
{
    const char *before = "  copies ended: ";

    for (int i = 0; i < ENDED_N; i++) {
        if (ends[i] > 0) {
            fprintf(out, "%s%s %llu", before, ended_name((enum ended_why)i),
                    (unsigned long long)ends[i]);
            before = ", ";
        }
    }
    fputs(*before == ',' ? "\n" : "", out);
}

static void
text_modules(const struct keeper *k, FILE *out)
{
    if (k->conf->n_modules == 0) {
        return;
    }
    fprintf(out, "\n%-*s %-4s %7s %-8s %7s %5s %8s %4s %6s %s\n", NAME_COLUMNS,
            "MODULE", "KIND", "PID", "STATE", "THREADS", "HIGH", "CALLS", "NOW",
            "ERRORS", "RESTARTS");
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        const struct conf_module *conf = &k->conf->modules[i];
        struct restart room;
        const struct restart *unit = modules_unit(k, i, &room);
        const struct keeper_target *t = doors_target(k, i);
        struct tally_sum sum = sum_of(k, t);
        char cause[RESTART_CAUSE_MAX];
        const char *last = last_cause(unit, cause);

        if (conf->presence == CONF_FREE || conf->is_hidden) {
            continue;
        }
        put_first(out, conf->name);
        fprintf(out, " %-4s", conf_kind_name(conf->kind));
        put_pid(out, unit->pid);
        fprintf(out, " %-8s", restart_state_name(unit->state));
        text_calls(out, &sum);
        put_count(out, n_restarts(unit), 8);
        fputc('\n', out);
        if (last != NULL) {
            fprintf(out, "  last end: %s\n", last);
        }
        text_copy_ends(out, modules_copy_ends(k, i));
        if (t != NULL && !restart_is_parked(unit) &&
            strcmp(door_state(k, t), "open") != 0) {
            fprintf(out, "  its door is not open%s yet\n",
                    strcmp(door_state(k, t), "partly") == 0 ? " everywhere"
                                                            : "");
        }
        text_errors(out, &sum);
    }
}

static void
text_doors(const struct keeper *k, FILE *out)
{
    bool titled = false;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct tally_sum sum = tallies_sum(&k->tallies, i);

        if (k->conf->targets[i].kind != CONF_TARGET_DOOR ||
            k->conf->targets[i].presence != CONF_LIVE) {
            continue;
        }
        if (!titled) {
            fprintf(out, "\n%-*s %-8s %7s %5s %8s %4s %6s\n", DOOR_COLUMNS,
                    "DOOR", "STATE", "THREADS", "HIGH", "CALLS", "NOW",
                    "ERRORS");
            titled = true;
        }
        put_path(out, k->conf->targets[i].path, DOOR_COLUMNS);
        fprintf(out, " %-8s", door_state(k, &k->targets[i]));
        text_calls(out, &sum);
        fputc('\n', out);
        text_errors(out, &sum);
    }
}

static void
text_files(const struct keeper *k, FILE *out)
{
    bool titled = false;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct tally_sum sum = tallies_sum(&k->tallies, i);

        if (k->conf->targets[i].kind != CONF_TARGET_FILES ||
            k->conf->targets[i].presence != CONF_LIVE) {
            continue;
        }
        if (!titled) {
            fprintf(out, "\n%-*s %9s %6s\n", FILES_COLUMNS, "FILES", "REQUESTS",
                    "ERRORS");
            titled = true;
        }
        put_path(out, k->conf->targets[i].path, FILES_COLUMNS);
        put_count(out, sum.requests, 9);
        put_count(out, n_ended(&sum, true), 6);
        fputc('\n', out);
        text_errors(out, &sum);
    }
}

void
status_text(const struct keeper *k, FILE *out)
{
    text_server(k, out);
    text_workers(k, out);
    text_modules(k, out);
    text_doors(k, out);
    text_files(k, out);
}

void
status_modules(const struct keeper *k, FILE *out)
{
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        const struct conf_module *conf = &k->conf->modules[i];
        const struct keeper_target *t = doors_target(k, i);
        struct restart room;

        if (conf->presence != CONF_LIVE) {
            continue;
        }
        plain_put(out, conf->name);
        fprintf(out, " %s %s\n",
                restart_state_name(modules_unit(k, i, &room)->state),
                t != NULL ? door_state(k, t) : "unused");
    }
}

void
status_processes(const struct keeper *k, FILE *out)
{
    fprintf(out, "keeper - %d\n", (int)getpid());
    for (int i = 0; i < k->n_workers; i++) {
        if (k->workers[i].unit.pid > 0 && !heirs_wait(&k->workers[i])) {
            fprintf(out, "worker %d %d\n", i, (int)k->workers[i].unit.pid);
        }
    }
    FOR_EACH_MODULE (k, m) {
        if (m->unit.pid > 0) {
            fputs("module ", out);
            plain_put(out, m->conf->name);
            fprintf(out, " %d\n", (int)m->unit.pid);
        }
    }
}

/* --- Stopping ---------------------------------------------------------- */

static void __attribute__((format(printf, 3, 4)))
append(char *text, size_t size, const char *format, ...)
{
    size_t len = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + len, size - len, format, args);
    va_end(args);
}

/* A connection that a stop still waits for is a request in progress, if it
 * speaks HTTP. */
static void
waiting_workers(const struct keeper *k, char *text, size_t size)
{
    const char *what = "request";
    uint64_t n = 0;

    for (int i = 0; i < k->n_workers; i++) {
        n += k->workers[i].unit.pid > 0 ? connections_of(k, i) : 0;
    }
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        if (k->conf->listens[i].protocol != CONF_HTTP) {
            what = "connection";
        }
    }
    if (n == 0) {
        append(text, size, "waiting for the workers to end");
    } else {
        append(text, size, "waiting for %llu %s%s", (unsigned long long)n, what,
               n == 1 ? "" : "s");
    }
}

static void
waiting_modules(const struct keeper *k, char *text, size_t size)
{
    int n = 0;

    FOR_EACH_MODULE (k, m) {
        n += m->unit.pid > 0;
    }
    if (n == 0) {
        append(text, size, "waiting for the modules to end");
        return;
    }
    append(text, size, "waiting for module%s", n == 1 ? "" : "s");
    n = 0;
    FOR_EACH_MODULE (k, m) {
        if (m->unit.pid > 0 && ++n <= 4) {
            append(text, size, "%s %s", n > 1 ? "," : "", m->conf->name);
        }
    }
    if (n > 4) {
        append(text, size, " and %d more", n - 4);
    }
}

void
status_waiting(const struct keeper *k, char *text, size_t size)
{
    text[0] = '\0';
    if (k->phase == PHASE_DRAIN) {
        waiting_workers(k, text, size - 1);
    } else if (k->phase == PHASE_MODULES) {
        waiting_modules(k, text, size - 1);
    } else {
        append(text, size - 1, "waiting for the last processes to end");
    }
    append(text, size, "\n");
}

/* All numbers that a server has, each with its unit in its name. What workers
 * claim was bounded where it came in (tally.c). */
#include "cohort/numbers.h"

#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/keeper_priv.h"
#include "cohort/listeners.h"
#include "cohort/procs.h"
#include "front/causes.h"

#define LIST_MAX 640

static void
begin(struct keeper *k, struct log_line *line, const char *what)
{
    keeper_log_begin(k, line, LOG_INFO, what);
}

static void
end(struct log_line *line, FILE *out)
{
    line->text[line->len++] = '\n';
    fwrite(line->text, 1, line->len, out);
}

/* Counts of a histogram, with commas between and without the zeroes at its end.
 */
static void
put_histogram(struct log_line *line, const char *key,
              const uint64_t counts[HISTOGRAM_N])
{
    char text[LIST_MAX];
    size_t n = 0, last = HISTOGRAM_N;

    while (last > 0 && counts[last - 1] == 0) {
        last--;
    }
    text[0] = '\0';
    for (size_t i = 0; i < last && n < sizeof(text); i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llu",
                              i > 0 ? "," : "", (unsigned long long)counts[i]);
    }
    log_text(line, key, text);
}

/* A list as of "full:3,crash:1"; what does not fit is cut. */
struct list {
    char text[LIST_MAX];
    size_t n;
};

static void
add_count(struct list *list, const char *word, uint64_t count)
{
    if (list->n < sizeof(list->text)) {
        list->n += (size_t)snprintf(
            list->text + list->n, sizeof(list->text) - list->n, "%s%s:%llu",
            list->n > 0 ? "," : "", word, (unsigned long long)count);
    }
}

static void
put_causes(struct log_line *line, const char *key, const struct tally_sum *sum,
           bool ours)
{
    struct list list = {.n = 0};

    for (unsigned i = CAUSE_NONE + 1; i < CAUSE_N; i++) {
        if (cause_is_ours(i) == ours && sum->causes[i] > 0) {
            add_count(&list, cause_word(i), sum->causes[i]);
        }
    }
    log_text(line, key, list.text);
}

static void
put_answers(struct log_line *line, const struct tally_sum *sum)
{
    static const char *const keys[] = {"2xx", "3xx", "4xx", "5xx"};

    log_num(line, "requests", sum->requests);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        log_num(line, keys[i], sum->answers[i]);
    }
    put_causes(line, "errors", sum, true);
    put_causes(line, "client_errors", sum, false);
}

static void
put_calls(struct log_line *line, const struct tally_sum *sum)
{
    uint64_t unclaimed = MIN_OF(sum->unclaimed, sum->in_flight);
    uint64_t running = sum->in_flight - unclaimed;

    log_num(line, "copies", sum->threads);
    log_num(line, "copies_high", sum->threads_high);
    log_num(line, "busy",
            sum->threads_high > 0 ? MIN_OF(running, (uint64_t)sum->threads)
                                  : running);
    log_num(line, "stuck", sum->overdue);
    log_num(line, "waiting", unclaimed + sum->queued);
    log_num(line, "in_flight", sum->in_flight);
    log_num(line, "calls", sum->calls);
    log_num(line, "run_us", sum->run_ns / 1000);
    log_num(line, "wait_us", sum->wait_ns / 1000);
    log_num(line, "median_us", sum->median_ns / 1000);
    put_answers(line, sum);
    put_histogram(line, "run", sum->run);
    put_histogram(line, "wait", sum->wait);
}

/* Starts, and why processes ended: "exit-1:2,signal-SEGV:1". */
static void
put_unit(struct log_line *line, const struct keeper *k,
         const struct restart *unit)
{
    char cause[RESTART_CAUSE_MAX];
    struct list list = {.n = 0};

    log_text(line, "state", restart_state_name(unit->state));
    if (unit->pid > 0) {
        log_num(line, "pid", (uint64_t)unit->pid);
        log_num(line, "up_s", (keeper_now(k) - unit->started_at) / NS_PER_SEC);
    }
    log_num(line, "starts", unit->n_starts);
    for (size_t i = 0; i < unit->n_causes; i++) {
        restart_cause_text(&unit->causes[i], cause);
        add_count(&list, cause, unit->causes[i].count);
    }
    log_text(line, "ends", list.text);
    if (unit->n_causes > 0) {
        restart_cause_text(&unit->causes[unit->last], cause);
        log_text(line, "last_end", cause);
    }
}

/* Why copies and commands ended, as the module says. */
static void
put_copy_ends(struct log_line *line, const uint64_t *ends)
{
    struct list list = {.n = 0};

    list.text[0] = '\0';
    for (int i = 0; i < ENDED_N; i++) {
        if (ends[i] > 0) {
            add_count(&list, ended_name((enum ended_why)i), ends[i]);
        }
    }
    log_text(line, "copy_ends", list.text);
}

static void
put_memory(struct log_line *line, pid_t pid)
{
    struct procs_family family = {0};

    if (pid > 0) {
        family = procs_family(pid);
    }
    log_num(line, "processes", family.n);
    log_num(line, "rss_kb", family.memory / 1024);
}

static void
put_module(struct log_line *line, const struct keeper *k, size_t index)
{
    const struct conf_module *conf = &k->conf->modules[index];
    struct restart room;
    const struct restart *unit = modules_unit(k, index, &room);

    log_text(line, "name", conf->name);
    log_text(line, "kind", conf_kind_name(conf->kind));
    put_unit(line, k, unit);
    put_copy_ends(line, modules_copy_ends(k, index));
    put_memory(line, unit->pid);
}

static void
write_workers(struct keeper *k, FILE *out)
{
    for (int i = 0; i < k->n_workers; i++) {
        const struct keeper_worker *w = &k->workers[i];
        struct log_line line;

        begin(k, &line, "worker");
        log_num(&line, "index", (uint64_t)i);
        put_unit(&line, k, &w->unit);
        log_num(&line, "connections",
                atomic_load_explicit(&k->seats[i].connections,
                                     memory_order_relaxed));
        log_num(&line, "requests", tallies_requests(&k->tallies, i));
        log_num(&line, "takeovers", w->heirs.n_takeovers);
        log_num(&line, "rss_kb",
                w->unit.pid > 0 ? procs_memory(w->unit.pid) / 1024 : 0);
        end(&line, out);
    }
}

static void
write_target(struct keeper *k, size_t i, FILE *out)
{
    const struct conf_target *t = &k->conf->targets[i];
    struct tally_sum sum = tallies_sum(&k->tallies, i);
    struct log_line line;

    if (t->kind == CONF_TARGET_MODULE &&
        k->conf->modules[t->module].is_hidden) {
        return;
    }
    begin(k, &line,
          t->kind == CONF_TARGET_MODULE ? "module"
          : t->kind == CONF_TARGET_DOOR ? "door"
                                        : "files");
    if (t->kind == CONF_TARGET_MODULE) {
        put_module(&line, k, t->module);
    } else {
        log_text(&line, "name", t->path);
    }
    if (t->kind == CONF_TARGET_FILES) {
        put_answers(&line, &sum);
    } else {
        put_calls(&line, &sum);
    }
    end(&line, out);
}

/* A module that no route leads to. */
static void
write_unused(struct keeper *k, size_t index, FILE *out)
{
    struct log_line line;

    if (doors_target(k, index) != NULL) {
        return;
    }
    begin(k, &line, "module");
    put_module(&line, k, index);
    end(&line, out);
}

void
numbers_write(struct keeper *k, FILE *out)
{
    struct tally_sum unrouted = tallies_sum(&k->tallies, TALLY_NONE);
    struct log_line line;

    begin(k, &line, "server");
    log_text(&line, "version", CARDEA_VERSION);
    log_num(&line, "pid", (uint64_t)k->main_pid);
    log_num(&line, "up_s", (keeper_now(k) - k->started_at) / NS_PER_SEC);
    log_text(&line, "configuration", k->file);
    log_num(&line, "rss_kb", procs_memory(getpid()) / 1024);
    end(&line, out);
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        char url[LISTENERS_URL_MAX];

        if (k->conf->listens[i].presence != CONF_LIVE) {
            continue;
        }
        listeners_url(&k->conf->listens[i], k->listen_fds[i], url);
        begin(k, &line, "listener");
        log_text(&line, "url", url[0] != '\0' ? url : k->conf->listens[i].text);
        end(&line, out);
    }
    write_workers(k, out);
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->conf->targets[i].presence == CONF_LIVE) {
            write_target(k, i, out);
        }
    }
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        if (k->conf->modules[i].presence == CONF_LIVE) {
            write_unused(k, i, out);
        }
    }
    begin(k, &line, "unrouted");
    put_answers(&line, &unrouted);
    end(&line, out);
}

/* cardea metrics: the numbers of a server in the text format of Prometheus
 * (exposition format 0.0.4). As a command of an `exec` module it is a page that
 * a Prometheus reads: no process waits for that, and the keeper reads no byte
 * of the network. */
#include "ctl/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "base/world.h"
#include "ctl/fields.h"
#include "ctl/server.h"
#include "front/histogram.h"

#define METRICS_LIMIT (5 * NS_PER_SEC)
#define LINES_MAX     8192

struct metrics {
    FILE *out;
    char *lines[LINES_MAX]; /* of the answer; owned */
    size_t n;
    struct fields f; /* of the line that is written */
};

/* A value behind a label: what the format needs escaped is. */
static void
put_value(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"') {
            fprintf(out, "\\%c", *value);
        } else if (*value == '\n') {
            fputs("\\n", out);
        } else {
            fputc(*value, out);
        }
    }
}

/* NAME{KEY="name of the line" and the open end of the labels. */
static void
put_name(struct metrics *m, const char *name, const char *key)
{
    fprintf(m->out, "%s{%s=\"", name, key);
    put_value(m->out, fields_text(&m->f, strcmp(key, "worker") == 0 ? "index"
                                                                    : "name"));
    fputc('"', m->out);
}

static bool
is(const struct metrics *m, const char *event)
{
    return strcmp(fields_text(&m->f, "event"), event) == 0;
}

static bool
is_app(const struct metrics *m)
{
    return is(m, "module") || is(m, "door") || is(m, "files");
}

/* --- Families ----------------------------------------------------------- */

enum shape {
    NUMBER,  /* FIELD as it is, times SCALE */
    CLASSES, /* 2xx to 5xx */
    LIST,    /* "word:count,...": a label REASON each */
    BUCKETS, /* a histogram, and the field of its sum */
    STATES,  /* copies: busy, stuck, idle, starting */
};

static const struct family {
    const char *name, *type, *help;
    const char *of; /* "app", "worker", or "server": which lines have it */
    enum shape shape;
    const char *field, *sum;
    double scale;
} families[] = {
    {"cardea_uptime_seconds", "gauge", "Since the server was started.",
     "server", NUMBER, "up_s", NULL, 1},
    {"cardea_keeper_resident_memory_bytes", "gauge",
     "Resident memory of the keeper.", "server", NUMBER, "rss_kb", NULL, 1024},
    {"cardea_worker_connections", "gauge", "Open connections.", "worker",
     NUMBER, "connections", NULL, 1},
    {"cardea_worker_requests_total", "counter", "Requests that ended.",
     "worker", NUMBER, "requests", NULL, 1},
    {"cardea_worker_takeovers_total", "counter",
     "Deaths after which an heir went on.", "worker", NUMBER, "takeovers", NULL,
     1},
    {"cardea_worker_resident_memory_bytes", "gauge", "Resident memory.",
     "worker", NUMBER, "rss_kb", NULL, 1024},
    {"cardea_requests_total", "counter",
     "Requests that were answered, by the class of their status.", "app",
     CLASSES, "requests", NULL, 1},
    {"cardea_request_errors_total", "counter",
     "Requests that ended badly by the server's or the app's doing.", "app",
     LIST, "errors", NULL, 1},
    {"cardea_client_errors_total", "counter",
     "Requests that ended badly by the client's doing.", "app", LIST,
     "client_errors", NULL, 1},
    {"cardea_calls_total", "counter", "Calls handed to the app.", "app", NUMBER,
     "calls", NULL, 1},
    {"cardea_calls_in_flight", "gauge", "Calls that are not answered yet.",
     "app", NUMBER, "in_flight", NULL, 1},
    {"cardea_queue_length", "gauge",
     "Requests that wait for a copy, or for the app to start.", "app", NUMBER,
     "waiting", NULL, 1},
    {"cardea_queue_wait_seconds", "histogram",
     "From a request being complete until a copy took it.", "app", BUCKETS,
     "wait", "wait_us", 1},
    {"cardea_run_seconds", "histogram",
     "From a copy taking a call until its answer was seen.", "app", BUCKETS,
     "run", "run_us", 1},
    {"cardea_copies", "gauge", "Threads or forked copies, by state.", "app",
     STATES, "copies", NULL, 1},
    {"cardea_copies_peak", "gauge", "The most copies that there ever were.",
     "app", NUMBER, "copies_high", NULL, 1},
    {"cardea_processes", "gauge", "Processes of the app.", "app", NUMBER,
     "processes", NULL, 1},
    {"cardea_resident_memory_bytes", "gauge",
     "Resident memory of the app's processes; what they share counts for "
     "each.",
     "app", NUMBER, "rss_kb", NULL, 1024},
    {"cardea_starts_total", "counter", "Processes that were started.", "app",
     NUMBER, "starts", NULL, 1},
    {"cardea_ends_total", "counter", "Processes that ended, by reason.", "app",
     LIST, "ends", NULL, 1},
    {"cardea_copy_ends_total", "counter",
     "Forked copies and commands that ended otherwise than they should, by "
     "reason.",
     "app", LIST, "copy_ends", NULL, 1},
};

static void
put_classes(struct metrics *m, const struct family *family, const char *key)
{
    static const char *const classes[] = {"2xx", "3xx", "4xx", "5xx"};

    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        put_name(m, family->name, key);
        fprintf(m->out, ",code=\"%s\"} %llu\n", classes[i],
                (unsigned long long)fields_num(&m->f, classes[i]));
    }
}

static void
put_list(struct metrics *m, const struct family *family, const char *key)
{
    const char *at = fields_text(&m->f, family->field);

    while (*at != '\0') {
        size_t len = strcspn(at, ":,");

        if (at[len] != ':') {
            return;
        }
        put_name(m, family->name, key);
        fprintf(m->out, ",reason=\"%.*s\"} %llu\n", (int)len, at,
                strtoull(at + len + 1, NULL, 10));
        at += len + strcspn(at + len, ",");
        at += *at == ',';
    }
}

static void
put_buckets(struct metrics *m, const struct family *family, const char *key)
{
    const char *at = fields_text(&m->f, family->field);
    unsigned long long n = 0;
    char name[128], *end;

    snprintf(name, sizeof(name), "%s_bucket", family->name);
    for (unsigned b = 0; b < HISTOGRAM_N; b++) {
        if (*at >= '0' && *at <= '9') {
            n += strtoull(at, &end, 10);
            at = end + (*end == ',');
        }
        put_name(m, name, key);
        if (b + 1 < HISTOGRAM_N) {
            fprintf(m->out, ",le=\"%.9g\"} %llu\n",
                    (double)histogram_end(b) / 1e9, n);
        } else {
            fprintf(m->out, ",le=\"+Inf\"} %llu\n", n);
        }
    }
    snprintf(name, sizeof(name), "%s_sum", family->name);
    put_name(m, name, key);
    fprintf(m->out, "} %.6f\n", (double)fields_num(&m->f, family->sum) / 1e6);
    snprintf(name, sizeof(name), "%s_count", family->name);
    put_name(m, name, key);
    fprintf(m->out, "} %llu\n", n);
}

static void
put_states(struct metrics *m, const struct family *family, const char *key)
{
    unsigned long long copies = fields_num(&m->f, "copies");
    unsigned long long busy = fields_num(&m->f, "busy");
    unsigned long long stuck = fields_num(&m->f, "stuck");
    const char *state = fields_text(&m->f, "state");
    const struct {
        const char *word;
        unsigned long long n;
    } states[] = {
        {"busy", busy > stuck ? busy - stuck : 0},
        {"stuck", stuck},
        {"idle", copies > busy ? copies - busy : 0},
        {"starting", strcmp(state, "starting") == 0},
        {"ending",
         strcmp(state, "parking") == 0 || strcmp(state, "stopping") == 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        put_name(m, family->name, key);
        fprintf(m->out, ",state=\"%s\"} %llu\n", states[i].word, states[i].n);
    }
}

/* What FAMILY has of the line that is taken apart. */
static void
put_samples(struct metrics *m, const struct family *family)
{
    const char *key = family->of;

    /* Folders have no calls, doors no processes of ours. */
    if (fields_text(&m->f, family->field)[0] == '\0' &&
        family->shape != BUCKETS) {
        return;
    }
    if (family->shape == BUCKETS &&
        fields_text(&m->f, family->sum)[0] == '\0') {
        return;
    }
    switch (family->shape) {
    case NUMBER:
        if (strcmp(key, "server") == 0) {
            fputs(family->name, m->out);
        } else {
            put_name(m, family->name, key);
            fputc('}', m->out);
        }
        fprintf(m->out, " %.0f\n",
                (double)fields_num(&m->f, family->field) * family->scale);
        return;
    case CLASSES:
        put_classes(m, family, key);
        return;
    case LIST:
        put_list(m, family, key);
        return;
    case BUCKETS:
        put_buckets(m, family, key);
        return;
    case STATES:
        put_states(m, family, key);
        return;
    }
}

static bool
has(const struct metrics *m, const struct family *family)
{
    return strcmp(family->of, "app") == 0 ? is_app(m) : is(m, family->of);
}

static void
put_all(struct metrics *m)
{
    fputs("# HELP cardea_info The server's version.\n"
          "# TYPE cardea_info gauge\n",
          m->out);
    for (size_t i = 0; i < m->n; i++) {
        if (fields_parse(&m->f, m->lines[i]) && is(m, "server")) {
            fputs("cardea_info{version=\"", m->out);
            put_value(m->out, fields_text(&m->f, "version"));
            fputs("\"} 1\n", m->out);
        }
    }
    for (size_t k = 0; k < ARRAY_LEN(families); k++) {
        fprintf(m->out, "# HELP %s %s\n# TYPE %s %s\n", families[k].name,
                families[k].help, families[k].name, families[k].type);
        for (size_t i = 0; i < m->n; i++) {
            if (fields_parse(&m->f, m->lines[i]) && has(m, &families[k])) {
                put_samples(m, &families[k]);
            }
        }
    }
}

/* --- Asking -------------------------------------------------------------- */

static int
read_lines(struct ctl *ctl, struct metrics *m, struct server *server)
{
    uint64_t deadline = world_real()->now(NULL) + METRICS_LIMIT;
    char line[FIELDS_LINE_MAX + 1];
    int rc = 0;

    while (m->n < LINES_MAX &&
           (rc = server_line(server, line, sizeof(line), deadline)) > 0) {
        m->lines[m->n] = strdup(line);
        if (m->lines[m->n] == NULL) {
            fputs("cardea metrics: out of memory\n", ctl->errors);
            return CTL_FAILED;
        }
        m->n++;
    }
    return rc < 0 ? server_broke_off(ctl, "metrics") : CTL_OK;
}

int
ctl_metrics(struct ctl *ctl)
{
    CLEAN_FREE struct metrics *m = calloc(1, sizeof(*m));
    struct server server;
    int status;

    if (m == NULL) {
        fputs("cardea metrics: out of memory\n", ctl->errors);
        return CTL_FAILED;
    }
    m->out = ctl->out;
    status = server_find(ctl, "metrics", false, &server);
    if (status == CTL_OK) {
        status = server_ask(ctl, "metrics", &server, "numbers");
    }
    if (status == CTL_OK) {
        status = read_lines(ctl, m, &server);
    }
    if (status == CTL_OK) {
        if (getenv("GATEWAY_INTERFACE") != NULL) {
            fputs("Content-Type: text/plain; version=0.0.4; charset=utf-8\n\n",
                  m->out);
        }
        put_all(m);
    }
    for (size_t i = 0; i < m->n; i++) {
        free(m->lines[i]);
    }
    server_close(&server);
    return status;
}

/* cardea-exec: a door behind which each request runs one command, CGI/1.1. The
 * shim is an ordinary cardea.h program; what is special is that the command may
 * be anything, so runner.c bounds it and cgi.c judges what it wrote. See
 * cardea-exec(8).
 *
 * Whatever goes wrong with a command is said in one line on standard error,
 * which Cardea puts in its log, and the client gets 502, 503 or 504. */
#include "cgi.h"
#include "groups.h"
#include "runner.h"

#include "base/util.h"

#include <cardea.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 64
#define OUT_MAX    ((size_t)16 * 1024 * 1024)
#define TIME_MAX_S 86400.0
#define N_INHERIT  5 /* and a NULL */
#define LINE_SIZE  1024

/* Written once by main(), before there are threads. */
static struct exec_setup {
    char *const *argv;
    const char *folder;
    int64_t time_ns;
    char *inherit[N_INHERIT];
    struct groups *groups;
} setup;

/* One line, in one write, so that lines of several threads do not mix. */
__attribute__((format(printf, 2, 3))) static void
say(const struct cardea_request *r, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list args;
    int n = 0;

    if (r != NULL) {
        n = snprintf(line, sizeof(line),
                     "cardea-exec: request %s: ", cardea_id(r));
    } else {
        n = snprintf(line, sizeof(line), "cardea-exec: ");
    }
    n = MIN_OF(n, LINE_SIZE - 2);
    va_start(args, format);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    va_end(args);
    n = MIN_OF(n, LINE_SIZE - 2);
    line[n++] = '\n';
    if (write(2, line, (size_t)n) < 0) {
        return; /* nobody listens */
    }
}

/* ----- one request ----- */

static void
refuse(struct cardea_request *r, int status, const char *text)
{
    cardea_status(r, status);
    cardea_printf(r, "%s\nRequest id: %s\n", text, cardea_id(r));
}

static int
request_gone(void *arg)
{
    return cardea_gone(arg);
}

/* NULL: no memory. */
static char **
request_env(struct cardea_request *r, size_t body_len)
{
    struct cgi_field fields[HTTP_MAX_FIELDS];
    struct cgi_request req = {
        .method = cardea_method(r),
        .target = cardea_target(r),
        .query = cardea_query(r),
        .host = cardea_host(r),
        .peer = cardea_peer(r),
        .peer_port = cardea_peer_port(r),
        .id = cardea_id(r),
        .route = cardea_route(r),
        .rest = cardea_rest(r),
        .fields = fields,
        .body_len = body_len,
        .inherit = setup.inherit,
    };

    while (req.n_fields < HTTP_MAX_FIELDS &&
           cardea_header_at(r, req.n_fields, &fields[req.n_fields].name,
                            &fields[req.n_fields].value) == 0) {
        req.n_fields++;
    }
    return cgi_env_new(&req);
}

/* One field of the command's head, made a string in place: behind a name stands
 * a colon and behind a value at least its line's end. Content-Type waits in
 * *P_TYPE. */
static int
field_send(struct cardea_request *r, char *out, const struct http_field *f,
           const char **p_type)
{
    char *name = out + f->name.off, *value = out + f->value.off;

    if (!http_field_is_free(name, f->name.len)) {
        return 0; /* Cardea sets it itself */
    }
    name[f->name.len] = '\0';
    value[f->value.len] = '\0';
    if (strcasecmp(name, "Content-Type") == 0) {
        *p_type = value;
        return 0;
    }
    return cardea_set(r, name, value);
}

/* The type comes last: it must not be there if a text of ours has to replace
 * the command's. */
static void
answer_send(struct cardea_request *r, char *out, struct cgi_answer *answer)
{
    const struct http_response *head = &answer->head;
    const char *type = NULL;
    int rc = 0;
    uint32_t i;

    if (head->has_length && head->content_length != answer->body_len &&
        strcmp(cardea_method(r), "HEAD") != 0) {
        say(r, "the command announced %llu bytes and wrote %zu",
            (unsigned long long)head->content_length, answer->body_len);
    }
    for (i = 0; i < head->n_fields && rc == 0; i++) {
        rc = field_send(r, out, &head->fields[i], &type);
    }
    if (rc == 0) {
        rc = cardea_write(r, answer->body, answer->body_len);
    }
    if (rc == 0 && type != NULL) {
        rc = cardea_type(r, type);
    }
    if (rc == 0) {
        rc = cardea_status(r, answer->status);
    }
    if (rc < 0) {
        say(r, "the command's answer cannot be sent: %s", strerror(errno));
        refuse(r, 502,
               "The program behind this page gave an answer that "
               "cannot be sent.");
    }
}

/* The command ended by itself. */
static void
exited_send(struct cardea_request *r, struct runner_result *res)
{
    struct cgi_answer answer;
    char why[CGI_WHY_SIZE];

    if (res->signal != 0) {
        say(r, "the command was ended by signal %d (%s)", res->signal,
            strsignal(res->signal));
        refuse(r, 502, "The program behind this page crashed.");
        return;
    }
    if (res->exit_code != 0) {
        say(r, "the command exited with status %d", res->exit_code);
    }
    if (cgi_answer_parse(res->out, res->out_len, &answer, why) != 0) {
        say(r, "not a CGI answer: %s", why);
        refuse(r, 502, "The program behind this page gave no valid answer.");
        return;
    }
    answer_send(r, res->out, &answer);
}

static void
result_send(struct cardea_request *r, struct runner_result *res)
{
    bool is_short = false;

    switch (res->end) {
    case RUNNER_EXITED:
        exited_send(r, res);
        break;
    case RUNNER_FAILED:
        is_short = res->error == EAGAIN || res->error == ENOMEM ||
                   res->error == EMFILE || res->error == ENFILE;
        say(r, "cannot run %s: %s", setup.argv[0], strerror(res->error));
        refuse(r, is_short ? 503 : 502,
               "The program behind this page cannot be run.");
        break;
    case RUNNER_LATE:
        say(r, "the command was killed: its time was over");
        refuse(r, 504, "The program behind this page took too long.");
        break;
    case RUNNER_GONE:
        say(r, "the command was killed: the client has gone");
        refuse(r, 504, "Nobody waits for this answer.");
        break;
    case RUNNER_BIG:
        say(r, "the command was killed: more than %zu bytes of output",
            OUT_MAX);
        refuse(r, 502, "The program behind this page wrote too much.");
        break;
    }
}

static void
handle(struct cardea_request *r)
{
    struct runner_result res;
    struct runner_plan plan = {
        .argv = setup.argv,
        .folder = setup.folder,
        .out_max = OUT_MAX,
        .gone = request_gone,
        .gone_arg = r,
    };
    CLEAN_FREE char **env = NULL;

    plan.in = cardea_body(r, &plan.in_len);
    plan.time_ns = MIN_OF(setup.time_ns, cardea_time_left(r));
    plan.envp = env = request_env(r, plan.in_len);
    if (env == NULL) {
        say(r, "no memory");
        refuse(r, 503, "No memory left for this request.");
        return;
    }
    plan.group = groups_enter(setup.groups);
    runner_run(&plan, &res);
    groups_leave(plan.group);
    result_send(r, &res);
    runner_result_clear(&res);
}

/* ----- the start ----- */

static int
usage(const char *why)
{
    say(NULL, "%s", why);
    say(NULL, "usage: cardea-exec [--timeout SECONDS] [--folder FOLDER] -- "
              "COMMAND [ARGUMENT ...]");
    return EXIT_USAGE;
}

/* SECONDS with an optional fraction; -1: not a number of (0, one day]. */
static int64_t
seconds_parse(const char *text)
{
    char *end;
    double s;

    if (!isdigit((unsigned char)text[0])) {
        return -1;
    }
    s = strtod(text, &end);
    if (*end != '\0' || !(s > 0) || s > TIME_MAX_S) {
        return -1;
    }
    return (int64_t)(s * (double)NS_PER_SEC);
}

/* Descriptors 0 to 2 must be open, or a pipe would get one of those numbers;
 * standard input is nobody's but the command's. */
static int
process_prepare(void)
{
    static const char *const names[] = {"PATH", "LANG", "TZ", "CARDEA_STATE"};
    size_t i, n = 0;
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            return -1;
        }
    } while (fd <= 2 && fcntl(fd, F_SETFD, 0) == 0);
    close(fd);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    for (i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);

        if (value != NULL &&
            asprintf(&setup.inherit[n], "%s=%s", names[i], value) < 0) {
            return -1;
        }
        n += value != NULL;
    }
    setup.groups = groups_start();
    return setup.groups == NULL ? -1 : 0;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"timeout", required_argument, NULL, 't'},
        {"folder", required_argument, NULL, 'f'},
        {0},
    };
    struct stat st;
    int c;

    setup.time_ns = 30 * (int64_t)NS_PER_SEC;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (c == 't') {
            setup.time_ns = seconds_parse(optarg);
        } else if (c == 'f') {
            setup.folder = optarg;
        } else {
            return usage("unknown option, or one without its value");
        }
    }
    if (setup.time_ns < 0) {
        return usage("--timeout wants seconds, more than 0, at most 86400");
    }
    if (optind >= argc) {
        return usage("no command");
    }
    if (setup.folder != NULL &&
        (stat(setup.folder, &st) < 0 || !S_ISDIR(st.st_mode))) {
        say(NULL, "--folder %s: not a folder", setup.folder);
        return EXIT_USAGE;
    }
    setup.argv = argv + optind;
    if (process_prepare() < 0) {
        say(NULL, "cannot start: %s", strerror(errno));
        return 1;
    }
    return cardea_serve_threads(handle);
}

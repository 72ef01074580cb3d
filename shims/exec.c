/* cardea-exec: a door behind which each request runs one command, CGI/1.1. The
 * shim is an ordinary cardea.h program; what is special is that the command may
 * be anything, so runner.c bounds it and cgi.c judges what it wrote. See
 * cardea-exec(8).
 *
 * Whatever goes wrong with a command is said in one line on standard error,
 * which Cardea puts in its log, and the client gets 502, 503 or 504. */
#include "answer.h"
#include "cgi.h"
#include "groups.h"
#include "inherit.h"
#include "orphans.h"
#include "runner.h"
#include "say.h"
#include "scripts.h"
#include "start.h"

#include "base/util.h"

#include <cardea.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_MAX    ((size_t)16 * 1024 * 1024)
#define ABOUT_SIZE 64

/* Written once by main(), before there are threads. */
static struct exec_setup {
    char *const *argv;
    const char *folder;
    const char *scripts; /* a folder of commands; NULL: argv is the command */
    int scripts_fd;
    bool is_plain;
    int64_t time_ns;
    struct inherit inherit;
    struct groups *groups;
} setup;

#define NAME "cardea-exec"

static void
about_put(const struct cardea_request *r, char about[ABOUT_SIZE])
{
    snprintf(about, ABOUT_SIZE, "request %s", cardea_id(r));
}

/* A line about R. */
__attribute__((format(printf, 2, 3))) static void
say_of(const struct cardea_request *r, const char *format, ...)
{
    char about[ABOUT_SIZE];
    va_list args;

    about_put(r, about);
    va_start(args, format);
    say_args(NAME, about, format, args);
    va_end(args);
}

/* ----- one request ----- */

static int
request_gone(void *arg)
{
    return cardea_gone(arg);
}

/* SCRIPT is NULL unless the command is one of a folder. NULL: no memory. */
static char **
request_env(struct cardea_request *r, const struct script *script,
            size_t body_len)
{
    struct cgi_field fields[HTTP_MAX_FIELDS];
    struct cgi_request req;

    answer_describe(r, fields, &req);
    req.body_len = body_len;
    req.inherit = setup.inherit.env;
    if (script != NULL) {
        req.route = script->route;
        req.rest = script->info;
        req.script = script->path;
    }
    return cgi_env_new(&req);
}

/* Of a command that need not know of CGI. Its text is no page, whatever a
 * browser would make of it. */
static void
plain_send(struct cardea_request *r, struct runner_result *res)
{
    struct cgi_answer answer;

    cgi_answer_parse_plain(res->out, res->out_len, &answer);
    if (answer.body == res->out &&
        (cardea_type(r, "text/plain; charset=utf-8") < 0 ||
         cardea_set(r, "X-Content-Type-Options", "nosniff") < 0)) {
        /* not reached: memory is gone */
        say_of(r, "no memory");
    }
    answer_send(r, NAME, res->out, &answer);
}

/* The command ended by itself. */
static void
exited_send(struct cardea_request *r, struct runner_result *res)
{
    struct cgi_answer answer;
    char why[CGI_WHY_SIZE];

    if (res->signal != 0) {
        say_of(r, "the command was ended by signal %d (%s)", res->signal,
               strsignal(res->signal));
        answer_refuse(r, 502, "The program behind this page crashed.");
        return;
    }
    if (res->exit_code != 0) {
        say_of(r, "the command exited with status %d", res->exit_code);
    }
    if (setup.is_plain && (res->exit_code == 0 || res->out_len > 0)) {
        plain_send(r, res);
        return;
    }
    if (cgi_answer_parse(res->out, res->out_len, &answer, why) != 0) {
        say_of(r, "not a CGI answer: %s", why);
        answer_refuse(r, 502,
                      "The program behind this page gave no valid answer.");
        return;
    }
    answer_send(r, NAME, res->out, &answer);
}

static void
result_send(struct cardea_request *r, const char *command,
            struct runner_result *res)
{
    bool is_short = false;

    switch (res->end) {
    case RUNNER_EXITED:
        exited_send(r, res);
        break;
    case RUNNER_FAILED:
        is_short = res->error == EAGAIN || res->error == ENOMEM ||
                   res->error == EMFILE || res->error == ENFILE;
        say_of(r, "cannot run %s: %s", command, strerror(res->error));
        answer_refuse(r, is_short ? 503 : 502,
                      "The program behind this page cannot be run.");
        break;
    case RUNNER_LATE:
        if (res->pid > 0) {
            say_of(r, "the command was killed: its time was over (process %d)",
                   (int)res->pid);
        } else {
            say_of(r, "the command was not run: its time was over");
        }
        answer_refuse(r, 504, "The program behind this page took too long.");
        break;
    case RUNNER_GONE:
        say_of(r, "the command was killed: the client has gone");
        answer_refuse(r, 504, "Nobody waits for this answer.");
        break;
    case RUNNER_BIG:
        say_of(r, "the command was killed: more than %zu bytes of output",
               OUT_MAX);
        answer_refuse(r, 502, "The program behind this page wrote too much.");
        break;
    }
}

/* Runs ARGV, or SCRIPT without arguments, for R. */
static void
command_run(struct cardea_request *r, char *const *argv,
            const struct script *script)
{
    struct runner_result res;
    struct runner_plan plan = {
        .argv = argv,
        .folder = setup.folder,
        .limits = &setup.inherit.limits,
        .first_closed = setup.inherit.first_closed,
        .out_max = OUT_MAX,
        .gone = request_gone,
        .gone_arg = r,
    };
    CLEAN_FREE char **env = NULL;
    char about[ABOUT_SIZE], mark[ABOUT_SIZE];
    struct say_stream err = {.name = NAME, .about = about};
    int place;

    about_put(r, about);
    plan.err = say_stream_add;
    plan.err_arg = &err;
    plan.in = cardea_body(r, &plan.in_len);
    plan.time_ns = MIN_OF(setup.time_ns, cardea_time_left(r));
    plan.envp = env = request_env(r, script, plan.in_len);
    if (env == NULL) {
        say_of(r, "no memory");
        answer_refuse(r, 503, "No memory left for this request.");
        return;
    }
    snprintf(mark, sizeof(mark), "CARDEA_REQUEST_ID=%s", cardea_id(r));
    place = orphans_enter(mark);
    plan.group = groups_enter(setup.groups);
    runner_run(&plan, &res);
    groups_leave(plan.group);
    orphans_leave(place);
    say_stream_end(&err);
    result_send(r, argv[0], &res);
    runner_result_clear(&res);
}

static void
script_run(struct cardea_request *r)
{
    struct script script;
    int status = script_find(setup.scripts_fd, setup.scripts, cardea_route(r),
                             cardea_rest(r), &script);
    char *argv[] = {script.path, NULL};

    if (status == 0) {
        command_run(r, argv, &script);
    } else if (status == 403) {
        say_of(r, "%s is not executable for this user: chmod +x may help",
               script.path);
        answer_refuse(r, 403, "This program may not be run.");
    } else if (status == 404) {
        answer_refuse(r, 404, "There is no such program.");
    } else {
        say_of(r, "no memory");
        answer_refuse(r, 503, "No memory left for this request.");
    }
    script_clear(&script);
}

static void
handle(struct cardea_request *r)
{
    if (setup.scripts != NULL) {
        script_run(r);
    } else {
        command_run(r, setup.argv, NULL);
    }
}

/* ----- the start ----- */

static int
usage(const char *why)
{
    say(NAME, NULL, "%s", why);
    say(NAME, NULL,
        "usage: cardea-exec [--plain] [--timeout SECONDS] [--folder FOLDER] -- "
        "COMMAND [ARGUMENT ...], or --scripts FOLDER");
    return START_EXIT_USAGE;
}

/* What a command inherits, and the watch over commands. */
static int
process_prepare(void)
{
    if (start_process() < 0 || inherit_read(&setup.inherit) < 0) {
        return -1;
    }
    setup.groups = groups_start();
    return setup.groups == NULL ? -1 : 0;
}

static int
serve(void *arg)
{
    return cardea_serve_threads(handle);
}

/* Reads the options. 0, or an exit status after a sentence. */
static int
options_read(int argc, char **argv)
{
    static const struct option options[] = {
        {"timeout", required_argument, NULL, 't'},
        {"folder", required_argument, NULL, 'f'},
        {"scripts", required_argument, NULL, 's'},
        {"plain", no_argument, NULL, 'p'},
        {0},
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (c == 't') {
            setup.time_ns = start_seconds(optarg);
        } else if (c == 'f') {
            setup.folder = optarg;
        } else if (c == 's') {
            setup.scripts = optarg;
        } else if (c == 'p') {
            setup.is_plain = true;
        } else {
            return usage("unknown option, or one without its value");
        }
    }
    if (setup.time_ns < 0) {
        return usage("--timeout wants seconds, more than 0, at most 86400");
    }
    if (setup.scripts == NULL && optind >= argc) {
        return usage("no command");
    }
    if (setup.scripts != NULL && optind < argc) {
        return usage("--scripts has no command beside it");
    }
    setup.argv = argv + optind;
    return 0;
}

/* Looks at the folders. 0, or an exit status after a sentence. */
static int
folders_open(void)
{
    int rc = start_folder(NAME, setup.folder);

    return rc != 0 ? rc
                   : start_folder_open(NAME, "--scripts", &setup.scripts,
                                       &setup.scripts_fd);
}

int
main(int argc, char **argv)
{
    int rc;

    setup.time_ns = 30 * (int64_t)NS_PER_SEC;
    rc = options_read(argc, argv);
    if (rc != 0) {
        return rc;
    }
    if (process_prepare() < 0) {
        say(NAME, NULL, "cannot start: %s", strerror(errno));
        return 1;
    }
    rc = folders_open();
    if (rc != 0) {
        return rc;
    }
    rc = orphans_serve(setup.groups, serve, NULL);
    say(NAME, NULL, "cannot start: %s", strerror(errno));
    return rc;
}

/* Command lines and what they answer, with the verbs' work replaced. */
#include "ctl/ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

struct run {
    struct ctl ctl; /* first: the functions get it back */
    char called[128];
};

static int
fake_run(struct ctl *ctl, const char *file)
{
    struct run *run = (struct run *)ctl;

    snprintf(run->called, sizeof(run->called), "run %s", file);
    return 3;
}

static int
fake_check(struct ctl *ctl, const char *file)
{
    struct run *run = (struct run *)ctl;

    snprintf(run->called, sizeof(run->called), "check %s%s%s%s%s", file,
             ctl->is_verbose ? " verbose" : "", ctl->n_defines ? " " : "",
             ctl->n_defines ? ctl->defines[0] : "",
             ctl->n_defines > 1 ? ctl->defines[1] : "");
    if (strstr(file, "bad") != NULL) {
        fprintf(ctl->errors, "%s:1:1: bad\n", file);
        return 78;
    }
    return 0;
}

/* What the verbs that ask a server were given. */
static int
note(struct ctl *ctl, const char *verb)
{
    struct run *run = (struct run *)ctl;
    int n = snprintf(run->called, sizeof(run->called), "%s%s%s%s%s", verb,
                     ctl->file != NULL ? " -f" : "",
                     ctl->file != NULL ? ctl->file : "",
                     ctl->as_json ? " json" : "", ctl->now ? " now" : "");

    if (ctl->with_head) {
        n += snprintf(run->called + n, sizeof(run->called) - (size_t)n, " -i");
    }
    if (ctl->wait_ns != UINT64_MAX) {
        n += snprintf(run->called + n, sizeof(run->called) - (size_t)n, " %llu",
                      (unsigned long long)ctl->wait_ns);
    }
    for (size_t i = 0; i < ctl->n_words; i++) {
        n += snprintf(run->called + n, sizeof(run->called) - (size_t)n, " %s",
                      ctl->words[i]);
    }
    return 0;
}

static int
fake_serve(struct ctl *ctl)
{
    int n = note(ctl, ctl->only_print ? "serve print" : "serve");
    struct run *run = (struct run *)ctl;

    if (ctl->as_kind != NULL) {
        size_t len = strlen(run->called);

        snprintf(run->called + len, sizeof(run->called) - len, " as %s",
                 ctl->as_kind);
    }
    return n;
}

static int
fake_save(struct ctl *ctl)
{
    int n = note(ctl, "save");
    struct run *run = (struct run *)ctl;
    size_t len = strlen(run->called);

    if (ctl->unit != NULL) {
        snprintf(run->called + len, sizeof(run->called) - len, " unit %s %s",
                 ctl->unit, ctl->output != NULL ? ctl->output : "-");
    }
    return n;
}

static int
fake_status(struct ctl *ctl)
{
    return note(ctl, "status");
}

static int
fake_stop(struct ctl *ctl)
{
    return note(ctl, "stop");
}

static int
fake_call(struct ctl *ctl)
{
    return note(ctl, "call");
}

static int
fake_doctor(struct ctl *ctl)
{
    return note(ctl, "doctor");
}

static int
fake_chaos(struct ctl *ctl)
{
    int n = note(ctl, "chaos");
    struct run *run = (struct run *)ctl;
    size_t len = strlen(run->called);

    if (ctl->signals != NULL) {
        snprintf(run->called + len, sizeof(run->called) - len, " %s %s %s",
                 ctl->signals, ctl->seed, ctl->probability);
    }
    return n;
}

/* Runs the words of LINE (at most 9); the texts are the caller's to free. */
static int
run_line(struct run *run, const char *line, const char *const *files,
         char **p_out, char **p_errors)
{
    static const char *const standard[] = {"/nowhere/a", "/dev/null", NULL};
    char words[128];
    char *argv[10] = {0};
    size_t lens[2];
    int argc = 0;
    int status;

    memset(run, 0, sizeof(*run));
    snprintf(words, sizeof(words), "%s", line);
    for (char *w = strtok(words, " "); w != NULL; w = strtok(NULL, " ")) {
        argv[argc++] = w;
    }
    run->ctl = (struct ctl){
        .out = open_memstream(p_out, &lens[0]),
        .errors = open_memstream(p_errors, &lens[1]),
        .run = fake_run,
        .serve = fake_serve,
        .save = fake_save,
        .check = fake_check,
        .status = fake_status,
        .stop = fake_stop,
        .call = fake_call,
        .doctor = fake_doctor,
        .chaos = fake_chaos,
        .files = files != NULL ? files : standard,
    };
    status = ctl_main(&run->ctl, argc, argv);
    fclose(run->ctl.out);
    fclose(run->ctl.errors);
    return status;
}

static const struct row {
    const char *line;
    int status;
    const char *called, *out, *errors; /* out and errors: beginnings */
} rows[] = {
    {"cardea run", 3, "run /dev/null", "", ""},
    {"cardea run -f a.conf", 3, "run a.conf", "", ""},
    {"cardea run -fa.conf", 3, "run a.conf", "", ""},
    {"cardea run -n -f a.conf", 0, "check a.conf", "a.conf: ok\n", ""},
    {"cardea serve a", 0, "serve a", "", ""},
    {"cardea serve a 80 3", 0, "serve a 80 3", "", ""},
    {"cardea serve --print --as http a", 0, "serve print a as http", "", ""},
    {"cardea serve --as", 64, "", "", "cardea serve: no KIND behind --as\n"},
    {"cardea serve", 64, "", "", "cardea serve: missing: FILE|FOLDER"},
    {"cardea serve a 80 3 4", 64, "", "", "cardea serve: one word too many"},
    {"cardea save", 0, "save", "", ""},
    {"cardea save -f a b", 0, "save -fa b", "", ""},
    {"cardea save --unit=user", 0, "save unit user -", "", ""},
    {"cardea save --unit system --output x", 0, "save unit system x", "", ""},
    {"cardea save --unit both", 64, "", "",
     "cardea save: neither system nor user: both\n"},
    {"cardea check", 0, "check /dev/null", "/dev/null: ok\n", ""},
    {"cardea check -f bad.conf", 78, "check bad.conf", "", "bad.conf:1:1: bad"},
    {"cardea -n -f a.conf", 0, "check a.conf", "a.conf: ok\n", ""},
    {"cardea check -v -f a", 0, "check a verbose", "", ""},
    {"cardea check -D a=1 -Db= -f a", 0, "check a a=1b=", "a: ok\n", ""},
    {"cardea run -n -D a=1 -f a", 0, "check a a=1", "a: ok\n", ""},
    {"cardea check -D", 64, "", "", "cardea check: no NAME=VALUE behind -D\n"},
    {"cardea status", 0, "status", "", ""},
    {"cardea status --json -f a", 0, "status -fa json", "", ""},
    {"cardea status --jsn", 64, "", "", "cardea status: no option --jsn\n"},
    {"cardea status --json=1", 64, "", "", "cardea status: no option --json=1"},
    {"cardea stop", 0, "stop", "", ""},
    {"cardea stop --now --wait 10s", 0, "stop now 10000000000", "", ""},
    {"cardea stop --wait=500ms", 0, "stop 500000000", "", ""},
    {"cardea stop --wait 10", 64, "", "", "cardea stop: no time (10s, 2m): 10"},
    {"cardea stop --wait", 64, "", "", "cardea stop: no TIME behind --wait\n"},
    {"cardea call a", 0, "call a", "", ""},
    {"cardea call a -", 0, "call a -", "", ""},
    {"cardea call -i a GET /x b", 0, "call -i a GET /x b", "", ""},
    {"cardea call a GET /x b c", 64, "", "", "cardea call: one word too many"},
    {"cardea call", 64, "", "", "cardea call: missing: DOOR [METHOD PATH]"},
    {"cardea chaos worker,heir", 0, "chaos worker,heir", "", ""},
    {"cardea chaos --signal kill --seed 1 --probability .5 heir", 0,
     "chaos heir kill 1 .5", "", ""},
    {"cardea chaos --time 5 heir", 64, "", "",
     "cardea chaos: no time (10s, 2m"},
    {"cardea chaos", 64, "", "", "cardea chaos: missing: ROLE[,ROLE...]"},
    {"cardea doctor --json", 0, "doctor json", "", ""},
    {"cardea doctor -f a", 64, "", "", "cardea doctor: no option -f\n"},
    {"cardea help stop", 0, "",
     "usage: cardea stop [--now] [--wait TIME] [-f FILE]\n", ""},
    {"cardea stauts", 64, "", "", "cardea: no verb stauts; did you mean stat"},
    {"cardea run -v", 64, "", "", "cardea run: no option -v\n"},
    {"cardea version", 0, "", "cardea 0.", ""},
    {"cardea --version", 0, "", "cardea 0.", ""},
    {"cardea -V", 0, "", "cardea 0.", ""},
    {"cardea help", 0, "", "usage: cardea VERB", ""},
    {"cardea --help", 0, "", "usage: cardea VERB", ""},
    {"cardea help run", 0, "",
     "usage: cardea run [-n] [-D NAME=VALUE] [-f FILE]\n", ""},
    {"cardea help check", 0, "",
     "usage: cardea check [-v] [-D NAME=VALUE] [-f FILE]\n", ""},
    {"cardea help help", 0, "", "usage: cardea help [VERB]\n", ""},
    {"cardea run --help", 0, "", "usage: cardea run", ""},
    {"cardea check -h", 0, "", "usage: cardea check", ""},
    {"cardea", 64, "", "", "usage: cardea VERB"},
    {"cardea rum", 64, "", "", "cardea: no verb rum; did you mean run?\n"},
    {"cardea chekc", 64, "", "", "cardea: no verb chekc; did you mean check?"},
    {"cardea verison", 64, "", "", "cardea: no verb verison; did you mean ver"},
    {"cardea frobnicate", 64, "", "",
     "cardea: no verb frobnicate; cardea help"},
    {"cardea help rum", 64, "", "", "cardea: no verb rum; did you mean run?\n"},
    {"cardea run -f", 64, "", "", "cardea run: no FILE behind -f\nusage: card"},
    {"cardea run -x", 64, "", "", "cardea run: no option -x\nusage: cardea ru"},
    {"cardea check -n", 64, "", "", "cardea check: no option -n\n"},
    {"cardea version -f a", 64, "", "", "cardea version: no option -f\n"},
    {"cardea run a.conf", 64, "", "", "cardea run: one word too many: a.conf"},
    {"cardea help run run", 64, "", "", "cardea help: one word too many: run"},
};

static void
test_rows(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct run run;
        char *out;
        char *errors;

        assert_int_equal(run_line(&run, row->line, NULL, &out, &errors),
                         row->status);
        assert_string_equal(run.called, row->called);
        assert_memory_equal(out, row->out, strlen(row->out));
        assert_memory_equal(errors, row->errors, strlen(row->errors));
        assert_true(row->out[0] != '\0' || out[0] == '\0');
        assert_true(row->errors[0] != '\0' || errors[0] == '\0');
        free(out);
        free(errors);
    }
}

static void
test_no_file(void **state)
{
    static const char *const none[] = {"/nowhere/a", "/nowhere/b", NULL};
    struct run run;
    char *out;
    char *errors;

    assert_int_equal(run_line(&run, "cardea run", none, &out, &errors), 78);
    assert_string_equal(errors, "cardea run: no configuration: /nowhere/a and "
                                "/nowhere/b do not exist; name one with "
                                "-f FILE\n");
    assert_string_equal(run.called, "");
    free(out);
    free(errors);
}

/* The list names every verb once, with its line. */
static void
test_list(void **state)
{
    struct run run;
    char *out;
    char *errors;

    run_line(&run, "cardea help", NULL, &out, &errors);
    assert_non_null(strstr(out, "\n  run       start the server and keep"));
    assert_non_null(strstr(out, "\n  check     check a configuration and"));
    assert_non_null(strstr(out, "\n  status    show what a running server"));
    assert_non_null(strstr(out, "\n  stop      stop a running server and"));
    assert_non_null(strstr(out, "\n  call      call a door and print what"));
    assert_non_null(strstr(out, "\n  doctor    tell what this system lacks"));
    assert_non_null(strstr(out, "\n  version   print the version\n"));
    assert_non_null(strstr(out, "\n  help      explain a verb, or list"));
    free(out);
    free(errors);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The command line: verbs, their options, exit statuses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CTL_DEFINES_MAX 64
#define CTL_WORDS_MAX   4
#define CTL_FDS_MAX     16

enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1, /* also: the start failed */
    CTL_FORCED = 2,
    CTL_STOPPED_WITH_ERRORS = 3,
    CTL_USAGE = 64,
    CTL_CONFIG = 78,
};

/* What an option of verbs.def sets. */
enum ctl_option {
    CTL_OPTION_FILE,
    CTL_OPTION_ONLY_CHECK,
    CTL_OPTION_DEFINE,
    CTL_OPTION_VERBOSE,
    CTL_OPTION_JSON,
    CTL_OPTION_MODULES,
    CTL_OPTION_NOW,
    CTL_OPTION_WAIT,
    CTL_OPTION_HEAD,
    CTL_OPTION_FD,
    CTL_OPTION_AS,
    CTL_OPTION_PRINT,
    CTL_OPTION_UNIT,
    CTL_OPTION_OUTPUT,
    CTL_OPTION_SIGNAL,
    CTL_OPTION_PROBABILITY,
    CTL_OPTION_SEED,
    CTL_OPTION_TIME,
    CTL_OPTION_FOLLOW,
    CTL_OPTION_MODULE,
    CTL_OPTION_EVENT,
    CTL_OPTION_REQUEST,
    CTL_OPTION_LEVEL,
};

/* What verbs write to and call; a test gives its own. */
struct ctl {
    FILE *out;
    FILE *errors;
    /* Runs the server with the configuration at FILE (never NULL). The exit
     * status. */
    int (*run)(struct ctl *ctl, const char *file);
    /* Checks FILE, mistakes to errors. 0, or CTL_CONFIG. */
    int (*check)(struct ctl *ctl, const char *file);
    /* The other verbs, which read what is set below. The exit status. */
    int (*serve)(struct ctl *ctl);
    int (*save)(struct ctl *ctl);
    int (*status)(struct ctl *ctl);
    int (*stop)(struct ctl *ctl);
    int (*top)(struct ctl *ctl);
    int (*why)(struct ctl *ctl);
    int (*log)(struct ctl *ctl);
    int (*metrics)(struct ctl *ctl);
    int (*reload)(struct ctl *ctl);
    int (*call)(struct ctl *ctl);
    int (*doctor)(struct ctl *ctl);
    int (*doors)(struct ctl *ctl);
    int (*chaos)(struct ctl *ctl);
    /* Where a configuration is looked for; NULL-terminated. */
    const char *const *files;
    /* Set by ctl_main() before it calls one of them: */
    const char *verb;
    const char *file;                     /* -f; NULL without */
    const char *defines[CTL_DEFINES_MAX]; /* of -D: "name=value" */
    size_t n_defines;
    bool only_check;     /* -n */
    bool is_verbose;     /* -v: print the configuration as it is understood */
    bool as_json;        /* --json */
    bool as_modules;     /* --modules */
    bool now;            /* --now */
    bool with_head;      /* -i */
    bool only_print;     /* --print */
    const char *as_kind; /* --as; NULL without */
    const char *unit;    /* --unit: "system" or "user"; NULL without */
    const char *output;  /* --output: a folder; NULL without */
    const char *fds[CTL_FDS_MAX]; /* --fd: a number or a path */
    size_t n_fds;
    uint64_t wait_ns;                 /* --wait; UINT64_MAX: for ever */
    uint64_t time_ns;                 /* --time; UINT64_MAX: not given */
    const char *signals;              /* --signal; NULL without */
    const char *probability;          /* --probability; NULL without */
    const char *seed;                 /* --seed; NULL without */
    bool follow;                      /* --follow */
    const char *module, *event;       /* --module, --event; NULL without */
    const char *request, *level;      /* --request, --level; the same */
    const char *words[CTL_WORDS_MAX]; /* what is no option */
    size_t n_words;
};

/* Dispatches the words of a command line (ARGV[0] is our name). The exit
 * status: one of enum ctl_exit. */
int ctl_main(struct ctl *ctl, int argc, char *const *argv);

/* The verb nearest to WORD (at most two letters' difference), or NULL. */
const char *ctl_nearest(const char *word);

/* run.c, serve.c, save.c, ask.c, top.c, why.c, log.c, metrics.c, call.c,
 * doctor.c, doors.c, chaos.c: what the program itself calls. */
int ctl_check(struct ctl *ctl, const char *file);
int ctl_run(struct ctl *ctl, const char *file);
int ctl_serve(struct ctl *ctl);
int ctl_save(struct ctl *ctl);
int ctl_status(struct ctl *ctl);
int ctl_stop(struct ctl *ctl);
int ctl_top(struct ctl *ctl);
int ctl_why(struct ctl *ctl);
int ctl_log(struct ctl *ctl);
int ctl_metrics(struct ctl *ctl);
int ctl_reload(struct ctl *ctl);
int ctl_call(struct ctl *ctl);
int ctl_doctor(struct ctl *ctl);
int ctl_doors(struct ctl *ctl);
int ctl_chaos(struct ctl *ctl);

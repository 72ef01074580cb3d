/* The command line: verbs, their options, exit statuses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CTL_DEFINES_MAX 64

enum ctl_exit {
    CTL_OK = 0,
    CTL_START_FAILED = 1,
    CTL_FORCED = 2,
    CTL_STOPPED_WITH_ERRORS = 3,
    CTL_USAGE = 64,
    CTL_CONFIG = 78,
};

/* What verbs write to and call; a test gives its own. */
struct ctl {
    FILE *out;
    FILE *errors;
    /* Runs the server with the configuration at FILE (never NULL). The exit
     * status. */
    int (*serve)(struct ctl *ctl, const char *file);
    /* Checks FILE, mistakes to errors. 0, or CTL_CONFIG. */
    int (*check)(struct ctl *ctl, const char *file);
    /* Where a configuration is looked for; NULL-terminated. */
    const char *const *files;
    /* Set by ctl_main() before it calls one of the two: */
    const char *defines[CTL_DEFINES_MAX]; /* of -D: "name=value" */
    size_t n_defines;
    bool is_verbose; /* -v: print the configuration as it is understood */
};

/* Dispatches the words of a command line (ARGV[0] is our name). The exit
 * status: one of enum ctl_exit. */
int ctl_main(struct ctl *ctl, int argc, char *const *argv);

/* The verb nearest to WORD (at most two letters' difference), or NULL. */
const char *ctl_nearest(const char *word);

/* conf.c and serve.c: the real check and serve. */
int ctl_check(struct ctl *ctl, const char *file);
int ctl_serve(struct ctl *ctl, const char *file);

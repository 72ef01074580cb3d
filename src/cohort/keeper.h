/* The keeper: opens what needs a path or a right, starts workers and modules,
 * keeps them alive, hands doors to the workers, and ends it all in order. It
 * never reads a network byte. */
#pragma once

#include <stdio.h>

struct conf;
struct worker_setup;

struct keeper_options {
    /* worker_main() of front/worker.h. */
    int (*worker)(const struct worker_setup *setup);
    /* door_dial_in() of door/dial.h: a connected, non-blocking, close-on-exec
     * descriptor of the door at PATH in FOLDER_FD (-1: anywhere), or -1 with
     * errno. */
    int (*dial)(int folder_fd, const char *path);
    int out_fd;      /* gets the one ready line */
    int log_fd;      /* gets sentences about a failed start, and the log */
    int max_workers; /* 0: one a CPU that we may use */
    /* conf_print() of conf/conf.h. */
    void (*print)(const struct conf *conf, FILE *out);
    /* conf_load() of the same file, once more, with LOAD_CTX; and conf_free().
     * NULL: it cannot be read again. */
    struct conf *(*load)(void *ctx, FILE *errors);
    void *load_ctx;
    void (*release)(struct conf *conf);
    const char *text; /* of a configuration that is in no file; NULL: CONF's
                       * file has it */
    const char *shim; /* path of cardea-exec; NULL: beside our program */
};

/* Runs CONF (borrowed) until a signal ends it, in this process, with no reaper
 * above it (cohort/reaper.h has one). The caller must be
 * single-threaded and have no children. Blocks signals meanwhile and restores
 * the mask. The exit status: 0 stopped as asked, 1 start failed (a sentence
 * says why), 2 forced by a second SIGINT, 3 something failed while stopping. */
int keeper_run(const struct conf *conf, const struct keeper_options *options);

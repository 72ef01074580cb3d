/* What checking a configuration asks of the world outside: through this table
 * only, so that tests and the fuzzer need no files, users or root. */
#pragma once

#include <stdbool.h>

#include "conf/conf.h"

enum conf_file {
    CONF_FILE_FOLDER,
    CONF_FILE_PROGRAM, /* a plain file that we may execute */
    CONF_FILE_PLAIN,   /* a plain file that we may not execute */
    CONF_FILE_OTHER,   /* sockets, devices ... */
};

struct conf_outside {
    void *ctx;
    bool is_root;       /* may processes be given other users? */
    const char *folder; /* absolute: where a relative file name starts */
    const char *path;   /* $PATH */
    /* What PATH (absolute) is: enum conf_file, or a negative errno. */
    int (*file)(void *ctx, const char *path);
    /* Is there a user NAME on this system? */
    bool (*user)(void *ctx, const char *name);
};

/* The real one. FOLDER has PATH_MAX bytes and lives as long as the result is
 * used. 0, or a negative errno: the working folder is gone. */
int conf_outside_real(struct conf_outside *outside, char *folder);

/* conf_parse() with the world of the caller's choice. */
struct conf *conf_parse_with(const struct conf_outside *outside,
                             const char *name, const char *text, size_t len,
                             FILE *errors);

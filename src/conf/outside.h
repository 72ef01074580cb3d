/* What checking a configuration asks of the world outside: through this table
 * only, so that tests and the fuzzer need no files, users or root. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"

enum conf_file {
    CONF_FILE_FOLDER,
    CONF_FILE_PROGRAM, /* a plain file that we may execute */
    CONF_FILE_PLAIN,   /* a plain file that we may not execute */
    CONF_FILE_OTHER,   /* sockets, devices ... */
};

struct conf_outside {
    void *ctx;
    bool is_root;        /* may processes be given other users? */
    const char *folder;  /* absolute: where a relative file name starts */
    const char *path;    /* $PATH */
    char self[PATH_MAX]; /* the program of `cardea`, absolute */
    /* What PATH (absolute) is: enum conf_file, or a negative errno. */
    int (*file)(void *ctx, const char *path);
    /* Reads the plain file at PATH into BUFFER, at most SIZE bytes; what it is
     * goes to *P_DEVICE and *P_INODE. The number of bytes, or a negative errno;
     * -EINVAL: it is no plain file. Never waits. */
    ssize_t (*read)(void *ctx, const char *path, char *buffer, size_t size,
                    uint64_t *p_device, uint64_t *p_inode);
    /* Calls EACH with ARG and every name in the folder at PATH, in any order,
     * until it gives other than 0. What EACH gave last, or a negative errno. */
    int (*list)(void *ctx, const char *path,
                int (*each)(void *arg, const char *name), void *arg);
    /* Is there a user NAME on this system? */
    bool (*user)(void *ctx, const char *name);
    /* Is there a group NAME? */
    bool (*group)(void *ctx, const char *name);
};

/* The real one. FOLDER has PATH_MAX bytes and lives as long as the result is
 * used. 0, or a negative errno: the working folder is gone. */
int conf_outside_real(struct conf_outside *outside, char *folder);

/* Reads FD to its end into BUFFER, at most SIZE bytes. Their number, or a
 * negative errno. */
ssize_t conf_outside_fill(int fd, char *buffer, size_t size);

/* conf_parse() with the world of the caller's choice, and OPTIONS (NULL:
 * none). */
struct conf *conf_parse_with(const struct conf_outside *outside,
                             const struct conf_options *options,
                             const char *name, const char *text, size_t len,
                             FILE *errors);

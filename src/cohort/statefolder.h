/* Where modules keep what is to outlive a restart: one folder a configuration,
 * in it one a module. */
#pragma once

#include <limits.h>
#include <stddef.h>

struct conf;

struct statefolder {
    char path[PATH_MAX]; /* absolute */
    int fd;              /* owned; -1: there is none */
};

/* Makes (or takes over) the folder of CONF, mode 0711. 0; or a negative errno
 * after one sentence in WHY. */
int statefolder_open(struct statefolder *folder, const struct conf *conf,
                     char *why, size_t why_size);

/* Makes (or takes over) the folder of module NAME: mode 0700, owned by USER
 * (NULL: us). What is in it stays as it is. 0 or a negative errno (-EBADF:
 * there is no state folder). */
int statefolder_module(const struct statefolder *folder, const char *name,
                       const char *user);

/* Closes it. The folders of CONF's modules in which nothing was kept are
 * removed, and the whole with them if nothing else is left. */
void statefolder_close(struct statefolder *folder, const struct conf *conf);

/* Which part of the file system a process reaches: landlock(7). */
#pragma once

#include <stddef.h>

enum sandbox_right {
    SANDBOX_READ = 1,    /* files and folders */
    SANDBOX_EXECUTE = 2, /* and programs */
    SANDBOX_WRITE = 4,   /* change, make, rename and remove */
};

struct sandbox_path {
    const char *path; /* a file, or a folder and all beneath it */
    unsigned rights;  /* of enum sandbox_right */
    int is_optional;  /* nothing where it is not there */
};

/* The kernel's version of Landlock, from 1 on; 0: it has none, or it is
 * switched off. */
int sandbox_version(void);

/* A ruleset that allows the N PATHS and, of the file system, nothing else; what
 * a kernel of a later version knows beyond that is used too: from 6 on no
 * signals to processes outside, and no abstract Unix sockets of theirs.
 *
 * *P_FD (the caller closes it), and 0; or -EOPNOTSUPP, no Landlock; or the
 * error of a path that cannot be opened, whose index is then in *P_BAD (N: of
 * none). */
int sandbox_make(const struct sandbox_path *paths, size_t n, int *p_fd,
                 size_t *p_bad);

/* Confines the calling thread, and all that it starts, to the ruleset FD, for
 * good. It must have no_new_privs. Only system calls: may run between fork and
 * exec. 0 or a negative errno. */
int sandbox_enter(int fd);

/* Who a process that is started becomes. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define IDENTITY_GROUPS 256

struct identity {
    bool change; /* else nothing is to be done */
    uid_t uid;
    gid_t gid;
    gid_t groups[IDENTITY_GROUPS];
    int n_groups;
};

/* Looks up USER (NULL: ours) and GROUP (NULL: the user's, or ours) in *WHO.
 * 0; or -ESRCH, no such user; -ENODATA, no such group; -E2BIG, in more groups
 * than IDENTITY_GROUPS. */
int identity_find(const char *user, const char *group, struct identity *who);

/* Becomes WHO for good: first the groups, then the group, at last the user, who
 * could do neither of them. Only system calls: may run between fork and exec,
 * in a process of one thread. 0 or a negative errno: -EPERM, that needs root
 * (CAP_SETGID, CAP_SETUID). */
int identity_become(const struct identity *who);

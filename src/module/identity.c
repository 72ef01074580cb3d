/* Names are looked up before the fork, in the keeper: the libraries that know
 * users may allocate and open files. After it there are three system calls, in
 * the only order in which each is still allowed; credentials(7).
 *
 * Without root one may stay who one is. A name that says so is no change and
 * always works, also where setgroups(2) is refused. */
#include "module/identity.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <unistd.h>

#include "base/util.h"

static int
find_group(const char *group, gid_t *p_gid)
{
    char room[16384];
    struct group entry;
    struct group *found = NULL;

    if (getgrnam_r(group, &entry, room, sizeof(room), &found) != 0 ||
        found == NULL) {
        return -ENODATA;
    }
    *p_gid = found->gr_gid;
    return 0;
}

int
identity_find(const char *user, const char *group, struct identity *who)
{
    char room[4096];
    struct passwd entry;
    struct passwd *found = NULL;
    int rc = 0;

    who->change = false;
    who->uid = geteuid();
    who->gid = getegid();
    if (user != NULL) {
        if (getpwnam_r(user, &entry, room, sizeof(room), &found) != 0 ||
            found == NULL) {
            return -ESRCH;
        }
        who->change = found->pw_uid != who->uid;
        if (who->change) {
            who->gid = found->pw_gid;
        }
        who->uid = found->pw_uid;
    } else if (group != NULL) {
        (void)getpwuid_r(who->uid, &entry, room, sizeof(room), &found);
    }
    if (group != NULL) {
        gid_t before = who->gid;

        rc = find_group(group, &who->gid);
        who->change = who->change || who->gid != before;
    }
    if (rc < 0 || !who->change) {
        return rc;
    }
    who->n_groups = (int)ARRAY_LEN(who->groups);
    if (found == NULL) { /* a user without a name is in no other group */
        who->groups[0] = who->gid;
        who->n_groups = 1;
        return 0;
    }
    return getgrouplist(found->pw_name, who->gid, who->groups, &who->n_groups) <
                   0
               ? -E2BIG
               : 0;
}

int
identity_become(const struct identity *who)
{
    if (!who->change) {
        return 0;
    }
    if (setgroups((size_t)who->n_groups, who->groups) < 0 ||
        setresgid(who->gid, who->gid, who->gid) < 0 ||
        setresuid(who->uid, who->uid, who->uid) < 0) {
        return -errno;
    }
    return 0;
}

/* Here lies what a program must not lose: nothing in it is ever removed by us
 * but a folder that is empty. It has the configuration's own name (that of the
 * run folder), so that two configurations with a module `visits` each do not
 * share its data.
 *
 * The parent is what the service manager gave ($STATE_DIRECTORY), for root
 * /var/lib/cardea, else $XDG_STATE_HOME/cardea or ~/.local/state/cardea. None
 * of them need be possible (a user without a home): then modules are told of no
 * folder, and the log says so; only a folder that the configuration names must
 * be there. */
#include "cohort/statefolder.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/folder.h"
#include "cohort/runfolder.h"
#include "conf/conf.h"

#define NAME_MAX_OURS 96

static const char *
absolute_env(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] == '/' ? value : NULL;
}

/* The folders above PATH, as the XDG specification wants them: 0700. Failures
 * show when the last one is made. */
static void
make_above(char *path)
{
    for (char *p = path + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0700);
            *p = '/';
        }
    }
}

/* The first folder of GIVEN, which systemd(1) made. For a user that it made too
 * (DynamicUser=) that is a link of its own to the folder. */
static int
choose_given(const char *given, char *out, size_t size)
{
    CLEAN_FREE char *first = strndup(given, strcspn(given, ":"));
    CLEAN_FREE char *real = first != NULL ? realpath(first, NULL) : NULL;

    return snprintf(out, size, "%s",
                    real != NULL    ? real
                    : first != NULL ? first
                                    : given);
}

/* The folder that holds one folder a configuration. -ENOENT: nobody said where
 * it could be. */
static int
choose_parent(char *out, size_t size)
{
    const char *given = absolute_env("STATE_DIRECTORY");
    const char *xdg = absolute_env("XDG_STATE_HOME");
    const char *home = absolute_env("HOME");
    int n;

    if (given != NULL) {
        n = choose_given(given, out, size);
    } else if (geteuid() == 0) {
        n = snprintf(out, size, "/var/lib/cardea");
    } else if (xdg != NULL) {
        n = snprintf(out, size, "%s/cardea", xdg);
    } else if (home != NULL) {
        n = snprintf(out, size, "%s/.local/state/cardea", home);
    } else {
        return -ENOENT;
    }
    if (n < 0 || (size_t)n >= size) {
        return -ENAMETOOLONG;
    }
    if (geteuid() != 0 && given == NULL) {
        make_above(out);
    }
    return folder_make(out, 0711);
}

static int
choose_path(struct statefolder *folder, const struct conf *conf, char *why,
            size_t why_size)
{
    char parent[PATH_MAX - NAME_MAX_OURS - 1] = "";
    char name[NAME_MAX_OURS];
    int rc;

    if (conf->state_folder != NULL) {
        snprintf(folder->path, PATH_MAX, "%s", conf->state_folder);
        return 0;
    }
    rc = choose_parent(parent, sizeof(parent));
    if (rc < 0 && parent[0] == '\0') {
        return folder_say(rc, why, why_size,
                          "neither XDG_STATE_HOME nor HOME is an absolute "
                          "path: name a folder, set state-folder PATH");
    }
    if (rc < 0) {
        return folder_say(rc, why, why_size,
                          "%s: %s (it must be a folder of this user that "
                          "nobody else may write to; or name another: set "
                          "state-folder PATH)",
                          parent, strerrordesc_np(-rc));
    }
    runfolder_name(conf->file, name, sizeof(name));
    snprintf(folder->path, PATH_MAX, "%s/%s", parent, name);
    return 0;
}

int
statefolder_open(struct statefolder *folder, const struct conf *conf, char *why,
                 size_t why_size)
{
    int rc;

    folder->fd = -1;
    folder->path[0] = '\0';
    rc = choose_path(folder, conf, why, why_size);
    if (rc < 0) {
        return rc;
    }
    rc = folder_make(folder->path, 0711);
    if (rc == 0) {
        folder->fd = open(folder->path, FOLDER_OPEN);
        rc = folder->fd < 0 ? -errno : 0;
    }
    /* Each module's user must get to its folder, whatever our umask is. */
    if (rc == 0 && fchmod(folder->fd, 0711) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        if (folder->fd >= 0) {
            close(folder->fd);
        }
        folder->fd = -1;
        folder_say(rc, why, why_size, "state folder %s: %s%s", folder->path,
                   strerrordesc_np(-rc),
                   rc == -EPERM ? " (another's, or others may write to it)"
                                : "");
    }
    return rc;
}

int
statefolder_module(const struct statefolder *folder, const char *name,
                   const char *user)
{
    CLEAN_FD int fd = folder_open_in(folder->fd, name, 0700);
    int rc;

    if (fd < 0) {
        return fd;
    }
    /* What another user kept there is not made this one's own: its files were
     * written for other eyes, or against these. */
    rc = folder_whose(fd, user);
    if (rc < 0) {
        return rc;
    }
    if (user == NULL && fchown(fd, geteuid(), getegid()) < 0) {
        return -errno;
    }
    rc = folder_give(fd, user);
    if (rc == 0 && fchmod(fd, 0700) < 0) {
        rc = -errno;
    }
    return rc;
}

void
statefolder_close(struct statefolder *folder, const struct conf *conf)
{
    if (folder->fd < 0) {
        return;
    }
    for (size_t i = 0; i < conf->n_modules; i++) {
        (void)unlinkat(folder->fd, conf->modules[i].name, AT_REMOVEDIR);
    }
    (void)rmdir(folder->path);
    close(folder->fd);
    folder->fd = -1;
}

/* The real outside of a configuration. Nothing here is kept or written. */
#include "conf/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int
outside_file(void *ctx, const char *path)
{
    struct stat st;

    (void)ctx;
    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return CONF_FILE_FOLDER;
    }
    if (!S_ISREG(st.st_mode)) {
        return CONF_FILE_OTHER;
    }
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 ? CONF_FILE_PROGRAM
                                                            : CONF_FILE_PLAIN;
}

static bool
outside_user(void *ctx, const char *name)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    (void)ctx;
    return getpwnam_r(name, &entry, buffer, sizeof(buffer), &found) == 0 &&
           found;
}

int
conf_outside_real(struct conf_outside *outside, char *folder)
{
    const char *path = getenv("PATH");

    if (!getcwd(folder, PATH_MAX)) {
        return -errno;
    }
    *outside = (struct conf_outside){
        .is_root = geteuid() == 0,
        .folder = folder,
        .path = path && *path ? path : "/usr/local/bin:/usr/bin:/bin",
        .file = outside_file,
        .user = outside_user,
    };
    return 0;
}

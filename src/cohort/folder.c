/* Folders whose owner and mode matter: others may have been there before us. */
#include "cohort/folder.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int
folder_make(const char *path, mode_t mode)
{
    struct stat st;
    int error = 0;

    if (mkdir(path, mode) < 0) {
        error = errno;
    }
    if (lstat(path, &st) < 0) {
        return error != 0 ? -error : -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return -ENOTDIR;
    }
    if (st.st_uid != geteuid() || (st.st_mode & 022) != 0) {
        return -EPERM;
    }
    return 0;
}

int
folder_give(int fd, const char *user)
{
    struct passwd entry;
    struct passwd *found = NULL;
    char room[4096];

    if (user == NULL || geteuid() != 0) {
        return 0;
    }
    if (getpwnam_r(user, &entry, room, sizeof(room), &found) != 0 ||
        found == NULL) {
        return -ESRCH;
    }
    return fchown(fd, found->pw_uid, found->pw_gid) < 0 ? -errno : 0;
}

int
folder_say(int rc, char *why, size_t why_size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return rc;
}

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
        if (errno == ENOENT && (error == 0 || error == EEXIST)) {
            return -EAGAIN;
        }
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
folder_open_in(int fd, const char *name, mode_t mode)
{
    int opened;

    if (mkdirat(fd, name, mode) < 0 && errno != EEXIST) {
        return -errno;
    }
    opened = openat(fd, name, FOLDER_OPEN);
    return opened < 0 ? -errno : opened;
}

/* 0 or -ESRCH: no such user. */
static int
find_user(const char *user, uid_t *p_uid, gid_t *p_gid)
{
    struct passwd entry;
    struct passwd *found = NULL;
    char room[4096];

    if (getpwnam_r(user, &entry, room, sizeof(room), &found) != 0 ||
        found == NULL) {
        return -ESRCH;
    }
    *p_uid = found->pw_uid;
    *p_gid = found->pw_gid;
    return 0;
}

int
folder_give(int fd, const char *user)
{
    uid_t uid;
    gid_t gid;
    int rc;

    if (user == NULL || geteuid() != 0) {
        return 0;
    }
    rc = find_user(user, &uid, &gid);
    return rc == 0 && fchown(fd, uid, gid) < 0 ? -errno : rc;
}

int
folder_whose(int fd, const char *user)
{
    uid_t uid = 0;
    gid_t gid;
    struct stat st;
    int rc = user != NULL ? find_user(user, &uid, &gid) : 0;

    if (rc == 0 && fstat(fd, &st) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        return rc;
    }
    return st.st_uid == 0 || st.st_uid == geteuid() || st.st_uid == uid
               ? 0
               : -EPERM;
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

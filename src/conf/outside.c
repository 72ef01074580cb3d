/* The real outside of a configuration. Nothing here is kept or written. */
#include "conf/outside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

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

/* Reads FD into BUFFER, at most SIZE bytes. Their number, or -errno. */
ssize_t
conf_outside_fill(int fd, char *buffer, size_t size)
{
    size_t n = 0;

    while (n < size) {
        ssize_t r = read(fd, buffer + n, size - n);

        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return -errno;
        }
        if (r == 0) {
            break;
        }
        n += (size_t)r;
    }
    return (ssize_t)n;
}

/* Looked at before it is opened, since opening some devices does something; and
 * again behind O_NONBLOCK, since a pipe may have taken its place. */
static ssize_t
outside_read(void *ctx, const char *path, char *buffer, size_t size,
             uint64_t *p_device, uint64_t *p_inode)
{
    CLEAN_FD int fd = -1;
    struct stat st;

    (void)ctx;
    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -EINVAL;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -EINVAL;
    }
    *p_device = st.st_dev;
    *p_inode = st.st_ino;
    return conf_outside_fill(fd, buffer, size);
}

static int
outside_list(void *ctx, const char *path,
             int (*each)(void *arg, const char *name), void *arg)
{
    DIR *folder = opendir(path);
    int rc = 0;

    (void)ctx;
    if (!folder) {
        return -errno;
    }
    while (rc == 0) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(folder);
        if (!entry) {
            rc = -errno;
            break;
        }
        rc = each(arg, entry->d_name);
    }
    closedir(folder);
    return rc;
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

static bool
outside_group(void *ctx, const char *name)
{
    struct group entry, *found = NULL;
    char buffer[16384];

    (void)ctx;
    return getgrnam_r(name, &entry, buffer, sizeof(buffer), &found) == 0 &&
           found;
}

/* Where our own program lies. One that an upgrade has replaced since is told of
 * with a word behind it. */
static void
find_self(char self[PATH_MAX])
{
    static const char gone[] = " (deleted)";
    ssize_t n = readlink("/proc/self/exe", self, PATH_MAX - 1);

    if (n <= 0) {
        /* not reached: there is /proc, or not much of Cardea runs */
        snprintf(self, PATH_MAX, "/usr/bin/cardea");
        return;
    }
    self[n] = '\0';
    if ((size_t)n >= sizeof(gone) &&
        strcmp(self + n - (sizeof(gone) - 1), gone) == 0) {
        /* not reached: an upgrade: by hand */
        self[(size_t)n - (sizeof(gone) - 1)] = '\0';
    }
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
        .read = outside_read,
        .list = outside_list,
        .user = outside_user,
        .group = outside_group,
    };
    find_self(outside->self);
    return 0;
}

/* The folder lies where its parent belongs to us alone or to root: /run/cardea,
 * $XDG_RUNTIME_DIR/cardea, else /tmp/cardea-UID, whose owner and mode are
 * checked because anyone may make things in /tmp. The lock is flock(2) on the
 * folder itself; since another process may remove it between our open and our
 * lock, we look again after locking whether the path still means it. A folder
 * that nobody holds was left by a server that was killed: the next server with
 * a folder beside it removes it, holding its lock meanwhile.
 *
 * A module's folder belongs to the module's user, who may put anything there at
 * any time: everything below works on descriptors and follows no link. */
#include "cohort/runfolder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/folder.h"
#include "conf/conf.h"

#define DEPTH_MAX  16
#define LOOK_MAX   256   /* entries of a folder that is only looked through */
#define REMOVE_MAX 65536 /* entries of each folder at the end: about 0.3 s */

/* How long a locked folder in which nobody answers is asked for: 1 s. */
#define RETRIES   100
#define RETRY_GAP (10 * 1000000L) /* ns */

void
runfolder_name(const char *file, char *out, size_t size)
{
    char *whole = realpath(file, NULL);
    const char *path = whole != NULL ? whole : file;
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t len = strlen(base);
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (const char *p = path; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    }
    if (len > 5 && strcmp(base + len - 5, ".conf") == 0) {
        len -= 5;
    }
    snprintf(out, size, "%.*s-%08x", (int)MIN_OF(len, 64), base, hash);
    free(whole);
}

void
runfolder_parent(char *out, size_t size)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    struct stat st;

    if (geteuid() == 0) {
        snprintf(out, size, "/run/cardea");
    } else if (xdg != NULL && xdg[0] == '/' && strlen(xdg) < size - 64 &&
               lstat(xdg, &st) == 0 && st.st_uid == geteuid()) {
        snprintf(out, size, "%s/cardea", xdg);
    } else {
        snprintf(out, size, "/tmp/cardea-%u", (unsigned)geteuid());
    }
}

void
runfolder_path(const struct conf *conf, const char *file, char out[PATH_MAX])
{
    char parent[PATH_MAX - 128];
    char name[96];

    if (conf == NULL || conf->run_folder == NULL) {
        runfolder_parent(parent, sizeof(parent));
        runfolder_name(file, name, sizeof(name));
        snprintf(out, PATH_MAX, "%s/%s", parent, name);
    } else if (conf->run_folder[0] == '/') {
        snprintf(out, PATH_MAX, "%s", conf->run_folder);
    } else {
        snprintf(out, PATH_MAX, "%s/%s", conf->folder, conf->run_folder);
    }
}

static int
choose_path(struct runfolder *folder, const struct conf *conf, char *why,
            size_t why_size)
{
    char parent[PATH_MAX - 128];
    int rc;

    runfolder_path(conf, conf->file, folder->path);
    if (conf->run_folder != NULL) {
        return 0;
    }
    runfolder_parent(parent, sizeof(parent));
    rc = folder_make(parent, geteuid() == 0 ? 0755 : 0711);
    if (rc < 0) {
        return folder_say(
            rc, why, why_size,
            "%s: %s (it must be a folder of this user that nobody "
            "else may write to; or name another: run-folder PATH)",
            parent, strerrordesc_np(-rc));
    }
    return 0;
}

/* Opens and locks the folder NAME in the folder AT (borrowed). A descriptor;
 * -ENOENT: it is not there, or was removed meanwhile; -EWOULDBLOCK: another has
 * the lock; else a negative errno. */
static int
lock_at(int at, const char *name)
{
    CLEAN_FD int fd = openat(at, name, FOLDER_OPEN);
    struct stat mine;
    struct stat there;
    int taken;

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &mine) < 0) {
        return -errno;
    }
    if (fstatat(at, name, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
        mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) {
        return -ENOENT;
    }
    taken = fd;
    fd = -1;
    return taken;
}

/* 1: locked, 0: it was removed meanwhile, else a negative errno. */
static int
try_lock(struct runfolder *folder)
{
    CLEAN_FD int fd = -1;
    int rc = folder_make(folder->path, 0711);

    if (rc < 0) {
        return rc == -EAGAIN ? 0 : rc;
    }
    fd = lock_at(AT_FDCWD, folder->path);
    if (fd < 0) {
        return fd == -ENOENT ? 0 : fd;
    }
    if (fchmod(fd, 0711) < 0) {
        return -errno;
    }
    folder->fd = fd;
    fd = -1;
    return 1;
}

/* The process that listens on the control socket in FOLDER; 0: none does yet,
 * or not in time. */
static pid_t
holder_of(const char *folder)
{
    CLEAN_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    CLEAN_FD int pidfd = -1;
    struct pollfd ended = {.events = POLLIN};
    struct ucred who = {0};
    socklen_t len = sizeof(who);
    int n = snprintf(at.sun_path, sizeof(at.sun_path), "%s/control", folder);

    if (fd < 0 || n >= (int)sizeof(at.sun_path) ||
        connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
        return 0;
    }
    /* Made by one that has been killed, it is open until its keeper ends too.
     */
    pidfd = pidfd_open(who.pid, 0);
    ended.fd = pidfd;
    return pidfd >= 0 && poll(&ended, 1, 0) == 0 ? who.pid : 0;
}

static int
say_locked(const struct runfolder *folder, const struct conf *conf, pid_t pid,
           char *why, size_t why_size)
{
    if (pid <= 0) {
        return folder_say(-EWOULDBLOCK, why, why_size,
                          "another cardea runs on this configuration (%s is "
                          "locked)",
                          folder->path);
    }
    return folder_say(-EWOULDBLOCK, why, why_size,
                      "another cardea runs on this configuration, pid %d: see "
                      "cardea status -f %s; cardea stop -f %s ends it",
                      (int)pid, conf->file, conf->file);
}

/* Removes what is in the folder FD (taken), at most *LEFT entries of it; each
 * folder at the top has a bound of its own. */
static void
empty_folder(int take_fd, int depth, unsigned *left)
{
    DIR *dir = fdopendir(take_fd);
    struct dirent *entry;

    if (dir == NULL) {
        close(take_fd);
        return;
    }
    rewinddir(dir); /* the description may be shared, its position too */
    while (*left > 0 && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        unsigned inner_left = REMOVE_MAX;
        struct stat st;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            fstatat(take_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        --*left;
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            int inner = openat(take_fd, name, FOLDER_OPEN);

            if (inner >= 0) {
                empty_folder(inner, depth + 1, depth == 0 ? &inner_left : left);
            }
            unlinkat(take_fd, name, AT_REMOVEDIR);
        } else {
            unlinkat(take_fd, name, 0);
        }
    }
    closedir(dir);
}

/* Is NAME one that runfolder_name() gives? */
static bool
is_run_name(const char *name)
{
    size_t len = strlen(name);

    return len > 9 && name[len - 9] == '-' &&
           strspn(name + len - 8, "0123456789abcdef") == 8;
}

/* Removes NAME in the folder FD (borrowed), a server's, if it has ended without
 * doing so. Its lock ends with its last process. */
static void
sweep_one(int fd, const char *name)
{
    unsigned left = REMOVE_MAX;
    struct stat st;
    int dead;
    int copy;

    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
        return;
    }
    dead = lock_at(fd, name);
    if (dead < 0) {
        return;
    }
    copy = fcntl(dead, F_DUPFD_CLOEXEC, 3);
    if (copy >= 0) {
        empty_folder(copy, 0, &left);
    }
    unlinkat(fd, name, AT_REMOVEDIR);
    close(dead);
}

/* Removes the folders that servers which were killed left beside FOLDER, as far
 * as a short look finds them. */
static void
sweep(const struct runfolder *folder)
{
    const char *own = strrchr(folder->path, '/') + 1;
    int fd = openat(folder->fd, "..", FOLDER_OPEN);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (dir == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    for (int i = 0; i < LOOK_MAX && (entry = readdir(dir)) != NULL; i++) {
        if (is_run_name(entry->d_name) && strcmp(entry->d_name, own) != 0) {
            sweep_one(fd, entry->d_name);
        }
    }
    closedir(dir);
}

int
runfolder_open(struct runfolder *folder, const struct conf *conf, char *why,
               size_t why_size)
{
    const struct timespec gap = {0, RETRY_GAP};
    int rc;

    folder->fd = -1;
    folder->path[0] = '\0';
    rc = choose_path(folder, conf, why, why_size);
    if (rc < 0) {
        return rc;
    }
    for (int tries = 0; tries < RETRIES; tries++) {
        rc = try_lock(folder);
        if (rc == 1) {
            if (conf->run_folder == NULL) {
                sweep(folder);
            }
            return 0;
        }
        if (rc == -EWOULDBLOCK) {
            /* Another's sweep, unless somebody answers there. */
            pid_t pid = holder_of(folder->path);

            if (pid > 0 || tries == RETRIES - 1) {
                return say_locked(folder, conf, pid, why, why_size);
            }
            (void)nanosleep(&gap, NULL);
        } else if (rc < 0) {
            break;
        }
    }
    return folder_say(rc < 0 ? rc : -EAGAIN, why, why_size, "%s: %s",
                      folder->path, strerrordesc_np(rc < 0 ? -rc : EAGAIN));
}

/* Removes NAME in the folder FD where it is what an earlier life may have left
 * as its door: a file stays, which the program may lay its door over. */
static void
remove_door(int fd, const char *name)
{
    struct stat st;

    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (S_ISSOCK(st.st_mode) || S_ISLNK(st.st_mode))) {
        unlinkat(fd, name, 0);
    }
}

/* Is it how door_attach() calls a door that is not whole yet? */
static bool
is_unfinished(const char *name)
{
    return strncmp(name, "door.", 5) == 0 && strlen(name) == 13 &&
           strspn(name + 5, "0123456789abcdef") == 8;
}

/* Removes the door in the folder FD (borrowed), and those that an earlier life
 * was killed over, as far as a short look finds them: the folder is as long as
 * its owner likes, and the keeper waits. */
static void
remove_doors(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;

    remove_door(fd, "door");
    if (dir == NULL) {
        if (copy >= 0) {
            close(copy);
        }
        return;
    }
    for (int i = 0; i < LOOK_MAX && (entry = readdir(dir)) != NULL; i++) {
        if (is_unfinished(entry->d_name)) {
            remove_door(fd, entry->d_name);
        }
    }
    closedir(dir);
}

int
runfolder_module(const struct runfolder *folder, const char *name,
                 const char *user)
{
    CLEAN_FD int fd = folder_open_in(folder->fd, name, 0711);
    int rc = fd < 0 ? fd : folder_give(fd, user);

    if (rc == 0 && fchmod(fd, 0711) < 0) {
        rc = -errno;
    }
    if (rc == 0) {
        remove_doors(fd);
    }
    return rc;
}

void
runfolder_remove(struct runfolder *folder)
{
    unsigned left = REMOVE_MAX;
    int fd;

    if (folder->fd < 0) {
        return;
    }
    fd = fcntl(folder->fd, F_DUPFD_CLOEXEC, 3);
    if (fd >= 0) {
        empty_folder(fd, 0, &left);
    }
    rmdir(folder->path);
    runfolder_close(folder);
}

void
runfolder_close(struct runfolder *folder)
{
    if (folder->fd >= 0) {
        close(folder->fd);
    }
    folder->fd = -1;
}

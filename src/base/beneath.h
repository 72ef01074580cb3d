/* Opening what lies below a folder, so that no name leads out of it:
 * openat2(2). Where that is forbidden, the path is walked part by part, with
 * the same verdicts. systemd forbids it to every unit with DynamicUser= or
 * RestrictSUIDSGID= (its filter cannot see the mode in a structure), and old
 * containers forbid what they do not know. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The mount that FD lies in: statx(2), since Linux 5.8. 0: cannot be told. */
static inline uint64_t
beneath_mount(int fd)
{
    struct statx st;

    return syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0
               ? st.stx_mnt_id
               : 0;
}

/* One step: PART of the folder AT. O_NOFOLLOW with O_PATH would open a symbolic
 * link itself. The descriptor, or -1 with errno. */
static inline int
beneath_step(int at, const char *part, int flags, bool one_mount)
{
    int fd = (int)syscall(SYS_openat, at, part, flags | O_NOFOLLOW, 0);
    int error = 0;
    struct stat st;

    if (fd < 0) {
        /* With O_DIRECTORY a link is told of as no folder. */
        error = errno;
        if (error == ENOTDIR &&
            syscall(SYS_newfstatat, at, part, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(st.st_mode)) {
            error = ELOOP;
        }
    } else if (syscall(SYS_fstat, fd, &st) < 0) {
        error = errno;
    } else if (S_ISLNK(st.st_mode)) {
        error = ELOOP;
    } else if (one_mount && beneath_mount(fd) != beneath_mount(at)) {
        error = EXDEV;
    }
    if (error != 0 && fd >= 0) {
        close(fd);
        fd = -1;
    }
    errno = error;
    return fd;
}

/* As beneath_open(), without openat2. A ".." is EXDEV wherever it leads. */
static inline int
beneath_walk(int folder_fd, const char *path, int flags, bool one_mount)
{
    const int through = O_PATH | O_DIRECTORY | O_CLOEXEC;
    int at = folder_fd;
    int fd = -1;

    if (path[0] == '/' || path[0] == '\0') {
        errno = path[0] == '/' ? EXDEV : ENOENT;
        return -1;
    }
    while (*path != '\0') {
        char part[NAME_MAX + 1];
        size_t len = strcspn(path, "/");
        size_t gap = strspn(path + len, "/");
        bool is_last = path[len + gap] == '\0';

        fd = -1;
        if (len > NAME_MAX) {
            errno = ENAMETOOLONG;
        } else if (len == 2 && path[0] == '.' && path[1] == '.') {
            errno = EXDEV;
        } else {
            memcpy(part, path, len);
            part[len] = '\0';
            fd = beneath_step(at, part,
                              !is_last  ? through
                              : gap > 0 ? flags | O_DIRECTORY
                                        : flags,
                              one_mount);
        }
        if (at != folder_fd) {
            int error = errno;

            close(at);
            errno = error;
        }
        if (fd < 0) {
            return -1;
        }
        at = fd;
        path += len + gap;
    }
    return fd;
}

/* Opens PATH, relative to the folder FOLDER_FD, with FLAGS of open(2) (no
 * O_CREAT). No symbolic link is followed, and nothing above the folder reached;
 * ONE_MOUNT: nor what is mounted below it. The descriptor, the caller's; or -1
 * with errno as openat2(2): ELOOP, a link; EXDEV, it leads out; EAGAIN, to be
 * tried again. Safe in signal handlers. */
static inline int
beneath_open(int folder_fd, const char *path, int flags, bool one_mount)
{
    const struct open_how how = {
        .flags = (uint64_t)flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                   RESOLVE_NO_MAGICLINKS |
                   (one_mount ? (uint64_t)RESOLVE_NO_XDEV : 0),
    };
    int fd = (int)syscall(SYS_openat2, folder_fd, path, &how, sizeof(how));

    /* EPERM: of a filter, or the file's own, which the walk finds again */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
        fd = beneath_walk(folder_fd, path, flags, one_mount);
    }
    return fd;
}

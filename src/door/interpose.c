/* open() and stat() of paths and descriptors that mean doors, for programs that
 * link libdoor (or load it first). The kernel's answer comes first, with its
 * own checks and errors; what it opened is looked at once more: a lock at a far
 * offset marks a file that a door lies over (name.c).
 *
 * Nothing here allocates, and errno is that of the call. libdoor itself uses
 * the calls of raw.h, and cardea is linked without this file.
 */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include "door/name.h"
#include "door/raw.h"
#include "door/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stropts.h"

#define VISIBLE __attribute__((visibility("default")))

int __open64(const char *path, int flags, ...);
VISIBLE int __open_2(const char *path, int flags);
VISIBLE int __open64_2(const char *path, int flags);
VISIBLE int __openat_2(int at, const char *path, int flags);
VISIBLE int __openat64_2(int at, const char *path, int flags);

/* ---- open ---- */

static bool
takes_mode(int flags)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

/* The door at a path where the kernel saw a socket. -1: none. */
static int
open_socket(int at, const char *path)
{
    int held = raw_openat(at, path, O_PATH | O_CLOEXEC, 0);
    int door = held < 0 ? -1 : name_open_socket(held);

    if (held >= 0) {
        close(held);
    }
    return door;
}

/* Puts DOOR in the place of FD (-1: of the lowest free number), close-on-exec
 * as FLAGS ask. DOOR is closed. */
static int
replace(int fd, int door, int flags)
{
    int to =
        fd >= 0
            ? dup3(door, fd, flags & O_CLOEXEC)
            : fcntl(door, (flags & O_CLOEXEC) ? F_DUPFD_CLOEXEC : F_DUPFD, 0);

    close(door);
    return to;
}

static int
open_any(int at, const char *path, int flags, mode_t mode)
{
    int fd = at == AT_FDCWD ? __open64(path, flags, mode)
                            : raw_openat(at, path, flags, mode);
    int saved = errno, door = -1;

    if (fd < 0 && saved == ENXIO) {
        door = open_socket(at, path);
    } else if (fd >= 0 && (flags & (O_PATH | O_DIRECTORY)) == 0 &&
               name_is_attached(fd)) {
        door = name_open_file(fd);
    }
    errno = saved;
    return door < 0 ? fd : replace(fd, door, flags);
}

#define OPEN_WITH_MODE(at)                                                     \
    mode_t mode = 0;                                                           \
    if (takes_mode(flags)) {                                                   \
        va_list args;                                                          \
        va_start(args, flags);                                                 \
        mode = va_arg(args, mode_t);                                           \
        va_end(args);                                                          \
    }                                                                          \
    return open_any(at, path, flags, mode)

VISIBLE int
open(const char *path, int flags, ...)
{
    OPEN_WITH_MODE(AT_FDCWD);
}

VISIBLE int
open64(const char *path, int flags, ...)
{
    OPEN_WITH_MODE(AT_FDCWD);
}

VISIBLE int
openat(int at, const char *path, int flags, ...)
{
    OPEN_WITH_MODE(at);
}

VISIBLE int
openat64(int at, const char *path, int flags, ...)
{
    OPEN_WITH_MODE(at);
}

VISIBLE int
creat(const char *path, mode_t mode)
{
    return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

VISIBLE int
creat64(const char *path, mode_t mode)
{
    return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* What open() becomes under _FORTIFY_SOURCE where no mode is given. */
VISIBLE int
__open_2(const char *path, int flags)
{
    return open_any(AT_FDCWD, path, flags, 0);
}

VISIBLE int
__open64_2(const char *path, int flags)
{
    return open_any(AT_FDCWD, path, flags, 0);
}

VISIBLE int
__openat_2(int at, const char *path, int flags)
{
    return open_any(at, path, flags, 0);
}

VISIBLE int
__openat64_2(int at, const char *path, int flags)
{
    return open_any(at, path, flags, 0);
}

/* STREAMS, of which there are none here. 0; -1 with EBADF. */
VISIBLE int
isastream(int fd)
{
    return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

/* ---- stat ---- */

_Static_assert(sizeof(struct stat) == sizeof(struct stat64),
               "one layout for both names");

/* Does a door lie over the regular file at PATH? */
static bool
has_door(int at, const char *path, int flags)
{
    int how = O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
              (flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0);
    int saved = errno;
    int fd = raw_openat(at, path, O_RDONLY | how, 0);

    if (fd < 0 && errno == EACCES) {
        fd = raw_openat(at, path, O_WRONLY | how, 0);
    }
    bool has = fd >= 0 && name_is_attached(fd);
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return has;
}

static bool
is_door(int fd)
{
    int saved = errno;
    uint64_t uniquifier;
    uint32_t attributes;
    bool is = door_is_marked(fd, &uniquifier, &attributes);

    errno = saved;
    return is;
}

/* A descriptor: the door itself, which belongs to nobody. A path: the owner,
 * the mode and the times are those of the file below. */
static bool
means_door(int at, const char *path, int flags, mode_t mode, bool *p_is_bare)
{
    bool by_fd = (flags & AT_EMPTY_PATH) != 0 && (!path || path[0] == 0);

    *p_is_bare = by_fd;
    return by_fd ? S_ISSOCK(mode) && is_door(at)
                 : S_ISREG(mode) && has_door(at, path, flags);
}

static int
stat_any(int at, const char *path, struct stat *st, int flags)
{
    bool is_bare;

    if (raw_fstatat(at, path, st, flags) < 0) {
        return -1;
    }
    if (means_door(at, path, flags, st->st_mode, &is_bare)) {
        st->st_mode = S_IFDOOR | (is_bare ? 0777 : st->st_mode & 07777);
        st->st_uid = is_bare ? 0 : st->st_uid;
        st->st_gid = is_bare ? 0 : st->st_gid;
        st->st_nlink = 1;
        st->st_size = 0;
        st->st_blocks = 0;
    }
    return 0;
}

VISIBLE int
stat(const char *path, struct stat *st)
{
    return stat_any(AT_FDCWD, path, st, 0);
}

VISIBLE int
lstat(const char *path, struct stat *st)
{
    return stat_any(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

VISIBLE int
fstat(int fd, struct stat *st)
{
    return stat_any(fd, "", st, AT_EMPTY_PATH);
}

VISIBLE int
fstatat(int at, const char *path, struct stat *st, int flags)
{
    return stat_any(at, path, st, flags);
}

VISIBLE int
stat64(const char *path, struct stat64 *st)
{
    return stat_any(AT_FDCWD, path, (struct stat *)st, 0);
}

VISIBLE int
lstat64(const char *path, struct stat64 *st)
{
    return stat_any(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

VISIBLE int
fstat64(int fd, struct stat64 *st)
{
    return stat_any(fd, "", (struct stat *)st, AT_EMPTY_PATH);
}

VISIBLE int
fstatat64(int at, const char *path, struct stat64 *st, int flags)
{
    return stat_any(at, path, (struct stat *)st, flags);
}

VISIBLE int
statx(int at, const char *path, int flags, unsigned mask, struct statx *st)
{
    bool is_bare;

    if (syscall(SYS_statx, at, path, flags, mask, st) < 0) {
        return -1;
    }
    if ((st->stx_mask & STATX_TYPE) != 0 &&
        means_door(at, path, flags, st->stx_mode, &is_bare)) {
        st->stx_mode =
            (uint16_t)(S_IFDOOR | (is_bare ? 0777 : st->stx_mode & 07777));
        st->stx_uid = is_bare ? 0 : st->stx_uid;
        st->stx_gid = is_bare ? 0 : st->stx_gid;
        st->stx_nlink = 1;
        st->stx_size = 0;
        st->stx_blocks = 0;
    }
    return 0;
}

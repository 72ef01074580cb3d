/* open() and stat() of paths and descriptors that mean doors, for programs that
 * link libdoor (or load it first). The kernel's answer comes first, with its
 * own checks and errors. What it opened is looked at once more: a lock at a far
 * offset marks a file that a door lies over (name.c). stat() asks for the name
 * of that file's server instead: whoever opens and closes a file loses all its
 * record locks on it, and a program's stat() must not cost it those.
 *
 * Nothing here allocates, nothing is written but the stack, and errno is that
 * of the call: signal handlers and the child of a vfork may use it. libdoor
 * itself uses the calls of raw.h, and cardea is linked without this file.
 */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include "door/name.h"
#include "door/raw.h"
#include "door/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "stropts.h"

#define VISIBLE __attribute__((visibility("default")))

int __open64(const char *path, int flags, ...);
VISIBLE int __open_2(const char *path, int flags);
VISIBLE int __open64_2(const char *path, int flags);
VISIBLE int __openat_2(int at, const char *path, int flags);
VISIBLE int __openat64_2(int at, const char *path, int flags);

/* name.c refers to it, where it is built with this file. */
extern const char interpose_is_here;
const char interpose_is_here = 1;

/* ---- open ---- */

static bool
takes_mode(int flags)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

/* The C library's where it can be named: it is a cancellation point. */
static int
kernel_open(int at, const char *path, int flags, mode_t mode)
{
    if (at == AT_FDCWD) {
        return __open64(path, flags, mode);
    }
    pthread_testcancel();
    return raw_openat(at, path, flags, mode);
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
    int saved = errno;

    close(door);
    errno = saved;
    return to;
}

/* What open() returns for FD, which carries the mark. Where its server cannot
 * be had for now (ETIMEDOUT, EMFILE) that is an error: who writes to a door
 * must not find the file below it. Who only set the mark is no server. */
static int
open_marked(int fd, int flags)
{
    int door = name_open_file(fd);

    if (door >= 0) {
        return replace(fd, door, flags);
    }
    if (errno == ECONNREFUSED || errno == EPERM) {
        return fd;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static bool
has_door(int at, const char *path, int flags)
{
    struct stat st;

    return raw_fstatat(at, path, &st, flags) == 0 && S_ISREG(st.st_mode) &&
           name_is_served(&st);
}

static int
open_any(int at, const char *path, int flags, mode_t mode)
{
    int saved = errno, cancel;

    /* The file below a door keeps what is in it. */
    if ((flags & (O_TRUNC | O_EXCL | O_PATH)) == O_TRUNC &&
        has_door(at, path, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0)) {
        flags &= ~O_TRUNC;
    }
    errno = saved;
    int fd = kernel_open(at, path, flags, mode);
    bool is_marked = fd >= 0 && (flags & (O_PATH | O_DIRECTORY)) == 0 &&
                     name_is_attached(fd);
    bool is_socket = fd < 0 && errno == ENXIO;
    if (!is_marked && !is_socket) {
        errno = fd < 0 ? errno : saved;
        return fd;
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    if (is_marked) {
        fd = open_marked(fd, flags);
    } else {
        int door = open_socket(at, path);
        fd = door < 0 ? -1 : replace(-1, door, flags);
        errno = door < 0 ? ENXIO : errno;
    }
    errno = fd < 0 ? errno : saved;
    pthread_setcancelstate(cancel, NULL);
    return fd;
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

/* What open() becomes under _FORTIFY_SOURCE where no mode is given. The C
 * library too ends a program that needs one. */
static int
open_without_mode(int at, const char *path, int flags)
{
    if (takes_mode(flags)) {
        abort();
    }
    return open_any(at, path, flags, 0);
}

VISIBLE int
__open_2(const char *path, int flags)
{
    return open_without_mode(AT_FDCWD, path, flags);
}

VISIBLE int
__open64_2(const char *path, int flags)
{
    return open_without_mode(AT_FDCWD, path, flags);
}

VISIBLE int
__openat_2(int at, const char *path, int flags)
{
    return open_without_mode(at, path, flags);
}

VISIBLE int
__openat64_2(int at, const char *path, int flags)
{
    return open_without_mode(at, path, flags);
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

/* What a mode says of the answer: a door itself, which belongs to nobody, or
 * one at a path, where owner, mode and times are those of the file below. */
enum face { FACE_PLAIN, FACE_BARE, FACE_NAMED };

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

/* The file that ST tells of: does its owner, or root, serve a door over it? No
 * cancellation point, as stat() is none. */
static bool
is_served(const struct stat *st)
{
    int saved = errno, cancel;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    bool is = name_is_served(st);
    pthread_setcancelstate(cancel, NULL);
    errno = saved;
    return is;
}

static enum face
face_of(int at, const char *path, int flags, const struct stat *st)
{
    if ((flags & AT_EMPTY_PATH) != 0 && (!path || path[0] == 0)) {
        return S_ISSOCK(st->st_mode) && is_door(at) ? FACE_BARE : FACE_PLAIN;
    }
    return S_ISREG(st->st_mode) && is_served(st) ? FACE_NAMED : FACE_PLAIN;
}

static int
stat_any(int at, const char *path, struct stat *st, int flags)
{
    if (raw_fstatat(at, path, st, flags) < 0) {
        return -1;
    }
    enum face face = face_of(at, path, flags, st);
    if (face == FACE_PLAIN) {
        return 0;
    }
    if (face == FACE_BARE) {
        st->st_mode = 0777;
        st->st_uid = 0;
        st->st_gid = 0;
    }
    st->st_mode = S_IFDOOR | (st->st_mode & 07777);
    st->st_nlink = 1;
    st->st_size = 0;
    st->st_blocks = 0;
    return 0;
}

/* The calls below go here and not to one another: what a program or a sanitizer
 * put before them would be asked again, without end. */
static int
stat_path(const char *path, void *st, int flags)
{
    return stat_any(AT_FDCWD, path, st, flags);
}

/* AT_FDCWD with AT_EMPTY_PATH would be the working folder, not a bad number. */
static int
stat_fd(int fd, void *st)
{
    if (fd < 0) {
        errno = EBADF;
        return -1;
    }
    return stat_any(fd, "", st, AT_EMPTY_PATH);
}

VISIBLE int
stat(const char *path, struct stat *st)
{
    return stat_path(path, st, 0);
}

VISIBLE int
lstat(const char *path, struct stat *st)
{
    return stat_path(path, st, AT_SYMLINK_NOFOLLOW);
}

VISIBLE int
fstat(int fd, struct stat *st)
{
    return stat_fd(fd, st);
}

VISIBLE int
fstatat(int at, const char *path, struct stat *st, int flags)
{
    return stat_any(at, path, st, flags);
}

VISIBLE int
stat64(const char *path, struct stat64 *st)
{
    return stat_path(path, st, 0);
}

VISIBLE int
lstat64(const char *path, struct stat64 *st)
{
    return stat_path(path, st, AT_SYMLINK_NOFOLLOW);
}

VISIBLE int
fstat64(int fd, struct stat64 *st)
{
    return stat_fd(fd, st);
}

VISIBLE int
fstatat64(int at, const char *path, struct stat64 *st, int flags)
{
    return stat_any(at, path, (struct stat *)st, flags);
}

/* What stat() was in programs built with the C library before 2.33; VERSION is
 * that of struct stat, of which there is one. */
#define OLD_STAT(name, type, call, ...)                                        \
    VISIBLE int name(int version, __VA_ARGS__, struct type *st);               \
    VISIBLE int name(int version, __VA_ARGS__, struct type *st)                \
    {                                                                          \
        if (version != 0 && version != 1) {                                    \
            errno = EINVAL;                                                    \
            return -1;                                                         \
        }                                                                      \
        return call;                                                           \
    }

OLD_STAT(__xstat, stat, stat_path(path, st, 0), const char *path)
OLD_STAT(__xstat64, stat64, stat_path(path, st, 0), const char *path)
OLD_STAT(__lxstat, stat, stat_path(path, st, AT_SYMLINK_NOFOLLOW),
         const char *path)
OLD_STAT(__lxstat64, stat64, stat_path(path, st, AT_SYMLINK_NOFOLLOW),
         const char *path)
OLD_STAT(__fxstat, stat, stat_fd(fd, st), int fd)
OLD_STAT(__fxstat64, stat64, stat_fd(fd, st), int fd)

#define OLD_STAT_AT(name, type)                                                \
    VISIBLE int name(int version, int at, const char *path, struct type *st,   \
                     int flags);                                               \
    VISIBLE int name(int version, int at, const char *path, struct type *st,   \
                     int flags)                                                \
    {                                                                          \
        if (version != 0 && version != 1) {                                    \
            errno = EINVAL;                                                    \
            return -1;                                                         \
        }                                                                      \
        return stat_any(at, path, (struct stat *)st, flags);                   \
    }

OLD_STAT_AT(__fxstatat, stat)
OLD_STAT_AT(__fxstatat64, stat64)

VISIBLE int
statx(int at, const char *path, int flags, unsigned mask, struct statx *st)
{
    /* Whoever asks for less than the type may get less. */
    if (syscall(SYS_statx, at, path, flags, mask, st) < 0) {
        return -1;
    }
    struct stat like = {
        .st_dev = makedev(st->stx_dev_major, st->stx_dev_minor),
        .st_ino = st->stx_ino,
        .st_mode = st->stx_mode,
        .st_uid = st->stx_uid,
    };
    const unsigned need = STATX_TYPE | STATX_INO | STATX_UID;
    if ((st->stx_mask & need) != need) {
        return 0;
    }
    enum face face = face_of(at, path, flags, &like);
    if (face == FACE_PLAIN) {
        return 0;
    }
    if (face == FACE_BARE) {
        st->stx_mode = 0777;
        st->stx_uid = 0;
        st->stx_gid = 0;
    }
    st->stx_mode = (uint16_t)(S_IFDOOR | (st->stx_mode & 07777));
    st->stx_nlink = 1;
    st->stx_size = 0;
    st->stx_blocks = 0;
    return 0;
}

/* The kernel's own answers, where libdoor gives programs others (interpose.c):
 * what libdoor calls itself. As open(2) and stat(2). */
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int
raw_openat(int at, const char *path, int flags, mode_t mode)
{
    return (int)syscall(SYS_openat, at, path, flags, mode);
}

static inline int
raw_fstatat(int at, const char *path, struct stat *st, int flags)
{
    return (int)syscall(SYS_newfstatat, at, path, st, flags);
}

static inline int
raw_open(const char *path, int flags)
{
    return raw_openat(AT_FDCWD, path, flags, 0);
}

static inline int
raw_stat(const char *path, struct stat *st)
{
    return raw_fstatat(AT_FDCWD, path, st, 0);
}

static inline int
raw_fstat(int fd, struct stat *st)
{
    return (int)syscall(SYS_fstat, fd, st);
}

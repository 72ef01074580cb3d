/* For tests: the nth call that gives memory, a descriptor or a thread fails,
 * for every n until a case needs no nth one. The linker sends the code's calls
 * here
 * (--wrap, scarce_args of src/base/meson.build); calls that libc makes within
 * itself stay whole. Included by one file of a test program.
 *
 *     for (SCARCE_EACH(n)) {
 *         int rc = object_make(&object);
 *         if (SCARCE_WAS_SHORT()) { assert rc is the defined error }
 *     }
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/types.h>

/* The names end in 64 where Meson asks for large files: always. */

/* How many more calls succeed, plus one; 0: all. */
static _Atomic long scarce_left;
static _Atomic bool scarce_short;

/* How many descriptors the process has. The one that reads them is always among
 * them. Ends the program if they cannot be read. */
static inline int
scarce_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    if (dir == NULL) {
        abort();
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

static inline bool
scarce_fails(void)
{
    if (atomic_load(&scarce_left) > 0 &&
        atomic_fetch_sub(&scarce_left, 1) == 1) {
        atomic_store(&scarce_short, true);
        return true;
    }
    return false;
}

/* From now on the Nth call fails, and only that one. */
static inline void
scarce_begin(long n)
{
    atomic_store(&scarce_short, false);
    atomic_store(&scarce_left, n);
}

/* No more. true: one has failed. */
static inline bool
scarce_end(void)
{
    atomic_store(&scarce_left, 0);
    return atomic_load(&scarce_short);
}

#define SCARCE_WRAP(result, failed, error, name, params, args)                 \
    result __real_##name params;                                               \
    result __wrap_##name params;                                               \
    result __wrap_##name params                                                \
    {                                                                          \
        if (scarce_fails()) {                                                  \
            errno = error;                                                     \
            return failed;                                                     \
        }                                                                      \
        return __real_##name args;                                             \
    }

SCARCE_WRAP(void *, NULL, ENOMEM, malloc, (size_t size), (size))
SCARCE_WRAP(void *, NULL, ENOMEM, calloc, (size_t n, size_t size), (n, size))
SCARCE_WRAP(void *, NULL, ENOMEM, realloc, (void *p, size_t size), (p, size))
SCARCE_WRAP(void *, (void *)-1, ENOMEM, mmap64,
            (void *at, size_t len, int prot, int flags, int fd, off_t off),
            (at, len, prot, flags, fd, off))
SCARCE_WRAP(int, -1, EMFILE, memfd_create, (const char *name, unsigned flags),
            (name, flags))
SCARCE_WRAP(int, -1, ENOSPC, ftruncate64, (int fd, off_t size), (fd, size))
SCARCE_WRAP(int, -1, EMFILE, socket, (int family, int type, int protocol),
            (family, type, protocol))
SCARCE_WRAP(int, -1, ENFILE, socketpair,
            (int family, int type, int protocol, int *pair),
            (family, type, protocol, pair))
SCARCE_WRAP(int, -1, EMFILE, eventfd, (unsigned count, int flags),
            (count, flags))
SCARCE_WRAP(int, -1, EMFILE, epoll_create1, (int flags), (flags))
SCARCE_WRAP(int, -1, EMFILE, pipe2, (int *ends, int flags), (ends, flags))
SCARCE_WRAP(int, EAGAIN, EAGAIN, pthread_create,
            (pthread_t * id, const pthread_attr_t *attr, void *(*run)(void *),
             void *arg),
            (id, attr, run, arg))
SCARCE_WRAP(pid_t, -1, EAGAIN, fork, (void), ())
SCARCE_WRAP(int, -1, EMFILE, pidfd_open, (pid_t pid, unsigned flags),
            (pid, flags))
SCARCE_WRAP(int, -1, EMFILE, dup, (int fd), (fd))
SCARCE_WRAP(int, -1, ENFILE, inotify_init1, (int flags), (flags))
SCARCE_WRAP(char *, NULL, ENOMEM, strdup, (const char *text), (text))
SCARCE_WRAP(FILE *, NULL, ENOMEM, open_memstream, (char **text, size_t *len),
            (text, len))
SCARCE_WRAP(FILE *, NULL, ENOMEM, fopen64, (const char *path, const char *mode),
            (path, mode))
SCARCE_WRAP(DIR *, NULL, ENOMEM, opendir, (const char *path), (path))
SCARCE_WRAP(DIR *, NULL, ENOMEM, fdopendir, (int fd), (fd))

/* Only adding takes memory. */
int __real_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int
__wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && scarce_fails()) {
        errno = ENOSPC;
        return -1;
    }
    return __real_epoll_ctl(epoll, op, fd, event);
}

int __wrap_asprintf(char **to, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int
__wrap_asprintf(char **to, const char *format, ...)
{
    va_list args;

    if (scarce_fails()) {
        *to = NULL;
        errno = ENOMEM;
        return -1;
    }
    va_start(args, format);
    int n = vasprintf(to, format, args);
    va_end(args);
    return n;
}

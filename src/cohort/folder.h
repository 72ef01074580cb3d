/* Folders that the keeper makes for itself and for its modules: what the run
 * folder and the state folder have in common. */
#pragma once

#include <fcntl.h>
#include <stddef.h>
#include <sys/types.h>

/* How a folder is opened that somebody else may have put there. */
#define FOLDER_OPEN (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* Makes the folder PATH with MODE if it is missing. 0: it is there, ours, and
 * nobody else may write to it; -ENOTDIR: something else lies there (a link to a
 * folder is something else); -EPERM: another's, or others may write to it;
 * -EAGAIN: somebody removed it meanwhile; else what mkdir said. */
int folder_make(const char *path, mode_t mode);

/* Opens the folder NAME in the folder FD (borrowed), made with MODE (as umask
 * allows) if it is missing; whose it is does not matter. A descriptor, the
 * caller's; else a negative errno: what mkdirat or openat said. */
int folder_open_in(int fd, const char *name, mode_t mode);

/* Gives the folder FD (borrowed) to USER. Nothing happens without root or with
 * NULL. 0; -ESRCH: no such user; else a negative errno. */
int folder_give(int fd, const char *user);

/* 0: the folder FD (borrowed) belongs to us, to root or to USER (NULL: to one
 * of the first two); -EPERM: to another; -ESRCH: no such user; else a negative
 * errno. */
int folder_whose(int fd, const char *user);

/* Prints one sentence into WHY and returns RC. */
int folder_say(int rc, char *why, size_t why_size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

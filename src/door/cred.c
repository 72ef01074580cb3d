/* Who calls: door_cred(), door_ucred() and the accessors of ucred.h. The kernel
 * vouches for the process that opened the channel (SCM_CREDENTIALS); the
 * numbers are those of its calling thread as they are now, from /proc. That it
 * is still that process is told by its start time, and by its pidfd where the
 * kernel has SO_PEERPIDFD (Linux 6.5).
 */
#include "door/cred.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "door.h"
#include "door/raw.h"
#include "door/server.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define TEXT_MAX (1u << 20) /* 65,536 groups of 10 digits, and the rest */

struct door_ucred {
    pid_t pid;
    uid_t uid[3]; /* real, effective, saved */
    gid_t gid[3];
    int n_groups;
    gid_t groups[NGROUPS_MAX];
};

/* ---- /proc ---- */

/* The file at PATH as a string, to be freed. NULL with errno. */
static char *
read_all(const char *path)
{
    int fd = raw_open(path, O_RDONLY | O_CLOEXEC);
    size_t have = 0, room = 4096;
    char *text = fd < 0 ? NULL : malloc(room);
    int e = fd < 0 ? errno : text ? 0 : ENOMEM;

    while (e == 0) {
        ssize_t n = read(fd, text + have, room - have - 1);
        if (n <= 0) {
            e = n < 0 ? errno : 0;
            break;
        }
        have += (size_t)n;
        if (room - have > 1) {
            continue;
        }
        char *larger = room < TEXT_MAX ? realloc(text, room * 2) : NULL;
        if (!larger) {
            /* not reached: memory is gone */
            e = ENOMEM;
            break;
        }
        text = larger;
        room *= 2;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (e != 0) {
        free(text);
        errno = e;
        return NULL;
    }
    text[have] = 0;
    return text;
}

uint64_t
cred_started(pid_t pid)
{
    char path[48];
    uint64_t started = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    char *text = read_all(path);
    char *at = text ? strrchr(text, ')') : NULL;
    /* The 22nd field; the name is the second. */
    for (int i = 0; at && i < 20; i++) {
        at = strchr(at + 1, ' ');
    }
    if (at) {
        started = strtoull(at, NULL, 10);
    }
    free(text);
    return started;
}

/* N numbers behind the line's NAME. false: there is no such line. */
static bool
numbers(const char *text, const char *name, uint32_t *to, int n, int *p_n)
{
    const char *at = strstr(text, name);
    int have = 0;

    if (!at) {
        return false;
    }
    at += strlen(name);
    while (have < n) {
        while (*at == ' ' || *at == '\t') {
            at++;
        }
        if (*at < '0' || *at > '9') {
            break;
        }
        char *end;
        to[have++] = (uint32_t)strtoul(at, &end, 10);
        at = end;
    }
    *p_n = have;
    return true;
}

/* Reads who thread TID of PID is. 0 or an errno. */
static int
read_cred(pid_t pid, pid_t tid, struct door_ucred *cred)
{
    char path[64];
    int n_uids = 0, n_gids = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)tid);
    char *text = read_all(path);
    if (!text) {
        return errno == ENOENT ? ESRCH : errno;
    }
    cred->pid = pid;
    bool ok =
        numbers(text, "\nUid:", cred->uid, 3, &n_uids) && n_uids == 3 &&
        numbers(text, "\nGid:", cred->gid, 3, &n_gids) && n_gids == 3 &&
        numbers(text, "\nGroups:", cred->groups, NGROUPS_MAX, &cred->n_groups);
    free(text);
    return ok ? 0 : EINVAL;
}

/* ---- the caller ---- */

/* Has the process that made this connection ended? Then its pid may be
 * another's. */
static bool
has_ended(const struct source *src)
{
    int fd = -1;
    socklen_t len = sizeof fd;

    if (cred_started(src->peer.pid) != src->peer_started) {
        return true;
    }
    if (getsockopt(src->conn, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) < 0) {
        return errno != ENOPROTOOPT; /* before Linux 6.5 */
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bool ended = poll(&p, 1, 0) != 0;
    close(fd);
    return ended;
}

/* 0, or an errno: EINVAL (no caller), EAGAIN, ENOMEM. */
static int
caller(struct door_ucred *cred)
{
    struct thread *t = pool_self();

    if (!t || !t->call.open || t->call.src->kind == SOURCE_UNREF ||
        atomic_load(&t->call.src->dead)) {
        return EINVAL;
    }
    const struct source *src = t->call.src;
    int e = read_cred(src->peer.pid, src->peer_tid, cred);
    if (e == ESRCH && src->peer_tid != src->peer.pid) {
        e = read_cred(src->peer.pid, src->peer.pid, cred);
    }
    /* Read first, then looked at: what was read is the caller's. */
    if (e == ESRCH || e == EACCES || has_ended(src)) {
        return EINVAL;
    }
    return e;
}

int
door_ucred(ucred_t **p_cred)
{
    if (!p_cred) {
        errno = EFAULT;
        return -1;
    }
    ucred_t *cred = *p_cred ? *p_cred : malloc(sizeof *cred);
    if (!cred) {
        errno = ENOMEM;
        return -1;
    }
    int e = caller(cred);
    if (e != 0) {
        if (cred != *p_cred) {
            free(cred);
        }
        errno = e;
        return -1;
    }
    *p_cred = cred;
    return 0;
}

int
door_cred(door_cred_t *cred)
{
    ucred_t *full = NULL;

    if (!cred) {
        errno = EFAULT;
        return -1;
    }
    if (door_ucred(&full) < 0) {
        return -1;
    }
    memset(cred, 0, sizeof *cred);
    cred->dc_euid = full->uid[1];
    cred->dc_egid = full->gid[1];
    cred->dc_ruid = full->uid[0];
    cred->dc_rgid = full->gid[0];
    cred->dc_pid = full->pid;
    ucred_free(full);
    return 0;
}

/* ---- ucred.h ---- */

ucred_t *
ucred_get(pid_t pid)
{
    ucred_t *cred = malloc(sizeof *cred);

    if (!cred) {
        errno = ENOMEM;
        return NULL;
    }
    pid = pid == P_MYID ? getpid() : pid;
    int e = pid <= 0 ? ESRCH : read_cred(pid, pid, cred);
    if (e != 0) {
        free(cred);
        errno = e;
        return NULL;
    }
    return cred;
}

void
ucred_free(ucred_t *cred)
{
    free(cred);
}

size_t
ucred_size(void)
{
    return sizeof(ucred_t);
}

uid_t
ucred_getruid(const ucred_t *cred)
{
    return cred->uid[0];
}

uid_t
ucred_geteuid(const ucred_t *cred)
{
    return cred->uid[1];
}

uid_t
ucred_getsuid(const ucred_t *cred)
{
    return cred->uid[2];
}

gid_t
ucred_getrgid(const ucred_t *cred)
{
    return cred->gid[0];
}

gid_t
ucred_getegid(const ucred_t *cred)
{
    return cred->gid[1];
}

gid_t
ucred_getsgid(const ucred_t *cred)
{
    return cred->gid[2];
}

int
ucred_getgroups(const ucred_t *cred, const gid_t **p_groups)
{
    *p_groups = cred->groups;
    return cred->n_groups;
}

pid_t
ucred_getpid(const ucred_t *cred)
{
    return cred->pid;
}

projid_t
ucred_getprojid(const ucred_t *cred)
{
    (void)cred;
    return 0;
}

zoneid_t
ucred_getzoneid(const ucred_t *cred)
{
    (void)cred;
    return 0;
}

uint_t
ucred_getpflags(const ucred_t *cred, uint_t flag)
{
    (void)cred;
    (void)flag;
    return 0;
}

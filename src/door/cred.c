/* Who calls: door_cred(), door_ucred() and the accessors of ucred.h. The kernel
 * vouches for the process that opened the channel (SCM_CREDENTIALS); the
 * numbers are those of its calling thread as they are now, from /proc. Three
 * things must hold, or there is no caller to tell of:
 *
 *  - it is still that process: its start time tells, and where the kernel has
 *    SO_PEERPIDFD (Linux 6.5) its pidfd;
 *  - who sent the hello has made the connection too. Else a process could say
 *    hello with the connection of another, end, and leave its number to whoever
 *    gets it next;
 *  - the numbers are among those it had, unless it may change them. Else it
 *    could share its channel with a child, execute a set-user-id program, and
 *    let the child call with that program's identity. (An honest caller that
 *    executes a program loses its channel.)
 */
#include "door/cred.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
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
/* Bits of CapPrm: the numbers of linux/capability.h. */
#define MAY_SET_GID (1ull << 6)
#define MAY_SET_UID (1ull << 7)

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

/* The status of thread TID of PID as a string, to be freed. NULL with errno. */
static char *
read_status(pid_t pid, pid_t tid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)tid);
    return read_all(path);
}

/* Real, effective and saved ones of a status. */
static bool
read_ids(const char *text, uid_t *uid, gid_t *gid)
{
    int n_uids = 0, n_gids = 0;

    return numbers(text, "\nUid:", uid, 3, &n_uids) && n_uids == 3 &&
           numbers(text, "\nGid:", gid, 3, &n_gids) && n_gids == 3;
}

/* Reads who thread TID of PID is. 0 or an errno. */
static int
read_cred(pid_t pid, pid_t tid, struct door_ucred *cred)
{
    char *text = read_status(pid, tid);

    if (!text) {
        return errno == ENOENT ? ESRCH : errno;
    }
    cred->pid = pid;
    bool ok =
        read_ids(text, cred->uid, cred->gid) &&
        numbers(text, "\nGroups:", cred->groups, NGROUPS_MAX, &cred->n_groups);
    free(text);
    return ok ? 0 : EINVAL;
}

/* ---- where a source comes from ---- */

void
cred_origin(struct cred_origin *o, int conn, const struct door_sender *peer)
{
    struct ucred made = {0};
    socklen_t len = sizeof made;
    uid_t uid[3];
    gid_t gid[3];

    memset(o, 0, sizeof *o);
    if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &made, &len) < 0 ||
        made.pid != peer->pid) {
        return;
    }
    o->started = cred_started(peer->pid);
    /* What the kernel vouches for: its real ones, and its effective ones. */
    o->uid[0] = peer->uid;
    o->uid[1] = o->uid[2] = made.uid;
    o->gid[0] = peer->gid;
    o->gid[1] = o->gid[2] = made.gid;
    /* The rest is believed only where it agrees with that. */
    char *text = read_status(peer->pid, peer->pid);
    if (text && read_ids(text, uid, gid) && uid[0] == peer->uid &&
        uid[1] == made.uid && gid[0] == peer->gid && gid[1] == made.gid) {
        const char *caps = strstr(text, "\nCapPrm:");
        uint64_t bits = caps ? strtoull(caps + 8, NULL, 16) : 0;
        o->uid[2] = uid[2];
        o->gid[2] = gid[2];
        o->may_set_uid = (bits & MAY_SET_UID) != 0;
        o->may_set_gid = (bits & MAY_SET_GID) != 0;
    }
    free(text);
}

/* Is each of IS one of those that there WERE? */
static bool
are_among(const uint32_t *is, const uint32_t *were)
{
    for (int i = 0; i < 3; i++) {
        if (is[i] != were[0] && is[i] != were[1] && is[i] != were[2]) {
            return false;
        }
    }
    return true;
}

/* Can who made O have become CRED without executing anything? */
static bool
is_possible(const struct cred_origin *o, const struct door_ucred *cred)
{
    return (o->may_set_uid || are_among(cred->uid, o->uid)) &&
           (o->may_set_gid || are_among(cred->gid, o->gid));
}

/* ---- the caller ---- */

/* Has the process that made this connection ended? Then its pid may be
 * another's. */
static bool
has_ended(const struct source *src)
{
    int fd = -1;
    socklen_t len = sizeof fd;

    if (src->origin.started == 0 ||
        cred_started(src->peer.pid) != src->origin.started) {
        return true;
    }
    if (getsockopt(src->conn, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) < 0) {
        /* Before Linux 6.5; or no descriptor for it: its start time serves. */
        return errno != ENOPROTOOPT && errno != EMFILE && errno != ENFILE;
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bool ended = poll(&p, 1, 0) != 0;
    close(fd);
    return ended;
}

/* 0, or an errno: EINVAL (no caller), EMFILE, ENFILE, ENOMEM. */
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
    if (e == ESRCH || e == EACCES || has_ended(src) ||
        (e == 0 && !is_possible(&src->origin, cred))) {
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
    /* What the program has stays as it is where this fails. */
    ucred_t *cred = malloc(sizeof *cred);
    int e = cred ? caller(cred) : ENOMEM;
    if (e == 0 && *p_cred) {
        memcpy(*p_cred, cred,
               offsetof(struct door_ucred, groups) +
                   (size_t)cred->n_groups * sizeof *cred->groups);
    } else if (e == 0) {
        *p_cred = cred;
        return 0;
    }
    free(cred);
    errno = e;
    return e == 0 ? 0 : -1;
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

const priv_set_t *
ucred_getprivset(const ucred_t *cred, priv_ptype_t type)
{
    (void)cred;
    (void)type;
    errno = EINVAL;
    return NULL;
}

uint_t
ucred_getpflags(const ucred_t *cred, uint_t flag)
{
    (void)cred;
    (void)flag;
    return 0;
}

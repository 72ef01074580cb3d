/* A number of a process is not its name: it may be another's by the time that a
 * signal arrives. So a pidfd is opened first; what /proc says of the number
 * afterwards is of the same process if the pidfd's has not ended then; and only
 * the pidfd is signalled. The server's are those that stand in a group of one
 * that it names, and whose ancestors lead to it. A module could put a stranger
 * into neither. */
#include "ctl/chaos-targets.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/procs.h"

#define ANCESTORS_MAX 16
#define NO_GROUP      SIZE_MAX

int
chaos_targets_init(struct chaos_targets *t, pid_t server, uint32_t roles)
{
    *t = (struct chaos_targets){
        .server = server,
        .roles = roles,
        .groups = calloc(CHAOS_GROUPS_MAX, sizeof(*t->groups)),
        .targets = calloc(CHAOS_TARGETS_MAX, sizeof(*t->targets)),
    };
    if (t->groups == NULL || t->targets == NULL) {
        chaos_targets_deinit(t);
        return -ENOMEM;
    }
    return 0;
}

static void
drop(struct chaos_targets *t, size_t i)
{
    close(t->targets[i].pidfd);
    t->targets[i] = t->targets[--t->n_targets];
}

void
chaos_targets_deinit(struct chaos_targets *t)
{
    while (t->n_targets > 0) {
        const struct chaos_target *target = &t->targets[t->n_targets - 1];

        if (target->is_stopped) {
            chaos_target_signal(target, SIGCONT);
        }
        drop(t, t->n_targets - 1);
    }
    free(t->groups);
    free(t->targets);
    t->groups = NULL;
    t->targets = NULL;
}

int
chaos_target_signal(const struct chaos_target *target, int signal)
{
    return syscall(SYS_pidfd_send_signal, target->pidfd, signal, NULL, 0) < 0
               ? -errno
               : 0;
}

static bool
has_ended(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    return poll(&p, 1, 0) != 0;
}

/* --- Proof -------------------------------------------------------------- */

/* The parent of PID; 0: it is gone, or has ended and waits for its parent. */
static pid_t
parent_of(pid_t pid)
{
    struct procs_stat stat;

    return procs_stat(pid, &stat) && stat.state != 'Z' ? stat.parent : 0;
}

static bool
descends(pid_t pid, pid_t server)
{
    for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
        pid = parent_of(pid);
        if (pid == server) {
            return true;
        }
    }
    return false;
}

/* Opens a pidfd of PID, if that is a process of the keeper's in group GROUP (0:
 * in any). -1: it is not. */
static int
prove(const struct chaos_targets *t, pid_t pid, pid_t group)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (pidfd < 0) {
        return -1;
    }
    if (!descends(pid, t->server) || (group != 0 && getpgid(pid) != group) ||
        has_ended(pidfd)) {
        close(pidfd);
        return -1;
    }
    return pidfd;
}

/* --- What the server says --------------------------------------------------
 */

static size_t
group_of(const struct chaos_targets *t, pid_t id)
{
    for (size_t i = 0; i < t->n_groups; i++) {
        if (t->groups[i].id == id) {
            return i;
        }
    }
    return NO_GROUP;
}

static void
learn(struct chaos_targets *t, pid_t pid, bool is_module, const char *which)
{
    CLEAN_FD int pidfd = prove(t, pid, 0);
    pid_t id = getpgid(pid);
    struct chaos_group *group;
    size_t i;

    if (pidfd < 0 || id <= 1 || id == getpgrp() || id == getpgid(t->server) ||
        id == getpgid(t->keeper)) {
        /* Not ours, or of a group that others are in; or gone. */
        if (t->refused != pid && (pidfd >= 0 || parent_of(pid) > 0)) {
            t->n_refused++;
            t->refused = pid;
        }
        return;
    }
    i = group_of(t, id);
    if (i == NO_GROUP) {
        if (t->n_groups == CHAOS_GROUPS_MAX) {
            return;
        }
        i = t->n_groups++;
    }
    group = &t->groups[i];
    group->id = id;
    group->serving = pid;
    group->is_module = is_module;
    snprintf(group->which, sizeof(group->which), "%s", which);
}

/* It is the server's main process, or below that. */
static void
learn_keeper(struct chaos_targets *t, pid_t pid)
{
    CLEAN_FD int pidfd = pid != t->server ? prove(t, pid, 0) : -1;

    if (pid == t->server || pidfd >= 0) {
        t->keeper = pid;
    }
}

void
chaos_targets_line(struct chaos_targets *t, char *line)
{
    char *rest = line;
    const char *kind = strsep(&rest, " ");
    const char *which = strsep(&rest, " ");
    long pid = rest != NULL ? strtol(rest, NULL, 10) : 0;
    bool is_module;

    if (which == NULL || pid <= 1 || pid > INT32_MAX) {
        return;
    }
    if (strcmp(kind, "keeper") == 0) {
        learn_keeper(t, (pid_t)pid);
        return;
    }
    is_module = strcmp(kind, "module") == 0;
    if (is_module || strcmp(kind, "worker") == 0) {
        learn(t, (pid_t)pid, is_module, which);
    }
}

/* --- What lives ------------------------------------------------------------
 */

enum chaos_role
chaos_target_role(const struct chaos_targets *t,
                  const struct chaos_target *target)
{
    const struct chaos_group *group;

    if (target->group == NO_GROUP) {
        return CHAOS_KEEPER;
    }
    group = &t->groups[target->group];
    if (group->is_module) {
        return target->pid == group->serving ? CHAOS_MODULE : CHAOS_COPY;
    }
    return target->pid == group->serving ? CHAOS_WORKER : CHAOS_HEIR;
}

const char *
chaos_target_which(const struct chaos_targets *t,
                   const struct chaos_target *target)
{
    return target->group == NO_GROUP ? "-" : t->groups[target->group].which;
}

/* The wanted roles that a member of GROUP may have. */
static bool
is_wanted(const struct chaos_targets *t, size_t group)
{
    const uint32_t worker = 1u << CHAOS_WORKER | 1u << CHAOS_HEIR;
    const uint32_t module = 1u << CHAOS_MODULE | 1u << CHAOS_COPY;

    return (t->roles & (t->groups[group].is_module ? module : worker)) != 0;
}

/* Is PID a target already? Then it is marked as seen. */
static bool
is_known(struct chaos_targets *t, pid_t pid)
{
    for (size_t i = 0; i < t->n_targets; i++) {
        if (t->targets[i].pid == pid && !has_ended(t->targets[i].pidfd)) {
            t->targets[i].is_seen = true;
            return true;
        }
    }
    return false;
}

static struct chaos_target *
add(struct chaos_targets *t, pid_t pid, int pidfd, size_t group)
{
    struct chaos_target *target = &t->targets[t->n_targets++];

    *target = (struct chaos_target){
        .pid = pid, .pidfd = pidfd, .is_seen = true, .group = group};
    return target;
}

/* A pidfd of PID, if it is to be a target; its group in *P_GROUP. */
static int
consider(const struct chaos_targets *t, pid_t pid, size_t *p_group)
{
    pid_t id;

    if (pid == t->keeper) {
        *p_group = NO_GROUP;
        return (t->roles & 1u << CHAOS_KEEPER) != 0
                   ? (int)syscall(SYS_pidfd_open, pid, 0)
                   : -1;
    }
    id = getpgid(pid);
    *p_group = id > 1 ? group_of(t, id) : NO_GROUP;
    return *p_group != NO_GROUP && is_wanted(t, *p_group) ? prove(t, pid, id)
                                                          : -1;
}

int
chaos_targets_look(struct chaos_targets *t,
                   void (*fresh)(void *arg, struct chaos_target *target),
                   void *arg)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;

    if (dir == NULL) {
        return -errno;
    }
    for (size_t i = 0; i < t->n_targets; i++) {
        t->targets[i].is_seen = false;
    }
    while ((entry = readdir(dir)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        size_t group;
        int pidfd;

        if (pid <= 1 || t->n_targets == CHAOS_TARGETS_MAX || is_known(t, pid)) {
            continue;
        }
        pidfd = consider(t, pid, &group);
        if (pidfd >= 0) {
            fresh(arg, add(t, pid, pidfd, group));
        }
    }
    closedir(dir);
    for (size_t i = t->n_targets; i > 0; i--) {
        if (!t->targets[i - 1].is_seen && has_ended(t->targets[i - 1].pidfd)) {
            drop(t, i - 1);
        }
    }
    return 0;
}

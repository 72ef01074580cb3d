/* A control group (cgroups(7), version 2) for each module, where we may make
 * them: what a module started is ended with it, however it hid, and bounds hold
 * for all of it together. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Our own group, which has those of the modules below it. */
struct cgroup {
    int fd;        /* its folder, locked; -1: there is none */
    int parent_fd; /* the group that we were started in; -1 without */
    char name[32];
    bool has_memory; /* modules can be bounded in memory, */
    bool has_pids;   /* and in processes and threads */
    bool is_inside;  /* we live in it, since its parent must be empty then */
};

#define CGROUP_NULL                                                            \
    {                                                                          \
        .fd = -1, .parent_fd = -1                                              \
    }

/* The folder of the version 2 group that this process is in, into PATH. 0; or
 * -ENOENT, no such file system is mounted, or no such group is seen here; or
 * what reading /proc said. */
int cgroup_find(char *path, size_t size);

/* Makes a group in the one that we are in. WANTS_BOUNDS: tries to get the
 * controllers for those of modules, for which this process moves into a group
 * of its own; only before it has children. Afterwards *GROUP is to be given to
 * cgroup_deinit(). 0; or, and *GROUP is CGROUP_NULL: as cgroup_find(); -EACCES,
 * -EROFS or -EPERM, the group is not delegated to us. */
int cgroup_init(struct cgroup *group, bool wants_bounds);

/* Removes the groups beside OURS whose keepers are no more, with what still
 * runs in them. Nothing where there is none of ours. */
void cgroup_remove_stale(const struct cgroup *ours);

/* Ends all that is left in the groups, and removes them. */
void cgroup_deinit(struct cgroup *group);

/* The group of MODULE (a file name), made if it is not there, with bounds
 * (0: none; memory is then all that it has: none of it is swapped out) where
 * its controllers are: *P_FD, a descriptor for cgroup_enter()
 * that the caller closes. 0 or a negative errno. */
int cgroup_module(const struct cgroup *group, const char *module,
                  uint64_t memory, uint64_t processes, int *p_fd);

/* What a group's bounds did. */
enum cgroup_event {
    CGROUP_KILLED,  /* a process, for want of memory */
    CGROUP_REFUSED, /* a process or thread, of which there were enough */
    CGROUP_EVENTS,
};

/* A descriptor, the caller's, of the file that counts EVENT for MODULE's group
 * (Linux: memory.events, pids.events). EPOLLPRI tells that it has changed since
 * it was last read. A negative errno: there is none. */
int cgroup_watch(const struct cgroup *group, const char *module,
                 enum cgroup_event event);

/* How often EVENT has happened, of FD from cgroup_watch(), into *P_N. 0; or a
 * negative errno, the group is gone; -EPROTO, the file says nothing of it. */
int cgroup_count(int fd, enum cgroup_event event, uint64_t *p_n);

/* Moves the calling process there. Only system calls: may run between fork and
 * exec. 0 or a negative errno. */
int cgroup_enter(int fd);

/* Kills what is in MODULE's group. Nothing where there is none. */
void cgroup_kill(const struct cgroup *group, const char *module);

/* What a process to be started looks like, and starting it. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct limits; /* base/limits.h */
struct rlimit; /* sys/resource.h */

struct spawn_fd {
    int from; /* ours */
    int to;   /* number in the child */
};

struct spawn_plan {
    char *const *argv;
    char *const *envp;
    const char *folder;         /* working folder; NULL: ours */
    const char *user;           /* NULL: ours; else its uid, gid and groups */
    const char *group;          /* NULL: the user's */
    const struct spawn_fd *fds; /* all others are closed */
    size_t n_fds;
    const struct rlimit *files;  /* RLIMIT_NOFILE; NULL: ours */
    const struct limits *limits; /* NULL: ours; stronger than FILES */
    int sandbox;                 /* a ruleset of sandbox_make(); 0: none */
    int group_fd;                /* of cgroup_module(); 0: none */
    /* Instead of an exec: run in the fork (a worker). Its return value is the
     * exit status. argv is then only the name. */
    int (*run)(void *arg);
    void *run_arg;
};

struct world; /* base/world.h */

/* Forks and executes PLAN in a new process group, default signals, empty mask,
 * RLIMIT_CORE as it is. A program (not the run form) gets SIGKILL when the
 * thread that called this ends, and no_new_privs: what it executes gains no
 * rights by a file's mode or capabilities. A failure between fork and exec (no
 * such program, no such user) comes back as this call's error, told over a
 * close-on-exec pipe. 0, 1 and 2 are /dev/null where PLAN does not name them.
 * 0: *P_PID and *P_PIDFD (owned by the caller). Else a negative errno: -ESRCH
 * no such user, -ENODATA no such group, -EPERM not allowed to become them, else
 * what fork, chdir or execve said. */
int spawn_start(const struct spawn_plan *plan, pid_t *p_pid, int *p_pidfd);

/* world_real() with spawn_start() as its spawn. Static storage. */
const struct world *spawn_world(void);

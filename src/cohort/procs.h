/* What proc(5) tells of other processes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The process that holds PID in a ptrace stop; 0: none does, or proc(5) cannot
 * be read. One that is only traced, as by strace(1), runs. */
pid_t procs_held_by(pid_t pid);

/* Is PID stopped by a signal? false too where it is gone, or held by ptrace. */
bool procs_is_stopped(pid_t pid);

/* What /proc/PID/stat tells of a process. */
struct procs_stat {
    char state; /* its letter in proc_pid_stat(5) */
    pid_t parent, group;
    uint64_t cpu_ticks; /* sysconf(_SC_CLK_TCK) a second, since its start */
    uint64_t threads;
    uint64_t started_ticks; /* since the boot */
};

/* false: PID is gone, or cannot be read; *STAT means nothing. */
bool procs_stat(pid_t pid, struct procs_stat *stat);

/* The processes of a group together. */
struct procs_group {
    uint64_t cpu_ticks; /* sysconf(_SC_CLK_TCK) a second, since their starts */
    pid_t tracer;       /* of one that a debugger holds; 0: none is held */
    uint32_t n_alive;   /* that have not ended */
};

/* Looks at all processes whose group is GROUP. Reads one file for each process
 * of the system: for rare use. All zero where /proc cannot be read. */
struct procs_group procs_group(pid_t group);

/* The children of the thread TID of PID, as far as the kernel tells them
 * (proc_pid_children(5)), into PIDS, which has room for MOST. How many. */
#define PROCS_CHILDREN 512
uint32_t procs_children(pid_t pid, const char *tid, pid_t *pids, uint32_t most);

/* PID and its descendants, parents before their children, as far as the kernel
 * tells them of the first THREADS threads of each, into PIDS, which has room
 * for MOST (1 or more). How many. */
uint32_t procs_descendants(pid_t pid, uint32_t threads, pid_t *pids,
                           uint32_t most);

/* A process with all that descend from it. */
struct procs_family {
    uint32_t n;
    uint64_t memory; /* resident, bytes; what they share counts for each */
};

/* Looks at PID and its descendants, at most 512 of them, as far as the kernel
 * tells children (proc_pid_children(5)). All zero: it is gone. */
struct procs_family procs_family(pid_t pid);

/* Resident memory of PID in bytes; 0: it is gone, or not told. */
uint64_t procs_memory(pid_t pid);

/* A number for what the files named by ARGV (NULL at its end) hold, as far as
 * their owners, sizes and times tell; words that name no regular file count for
 * nothing. Relative names are looked for in FOLDER. Opens nothing. */
uint64_t procs_version(char *const *argv, const char *folder);

/* What the machine, or the control groups that this process is in (cgroups(7),
 * version 2 and 1), leave it: processors, and memory. Read from the kernel's
 * files when a pool wants to grow, and never otherwise. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct room {
    uint32_t
        cpus; /* that may be used at once: a quota rounded up; 0: no quota */
    uint64_t total; /* bytes: the narrowest bound of memory there is */
    uint64_t left;  /* bytes until the first bound is reached */
};

/* Reads what there is now into *ROOM. What cannot be read bounds nothing: left
 * and total are UINT64_MAX then. ROOT stands before the paths of /proc and of
 * mounts ("" but in tests). Costs some tens of microseconds. */
void room_read(struct room *room, const char *root);

/* Bytes of memory that PID has for itself (proc_pid_smaps_rollup(5); where that
 * may not be read, what is resident and not of a file). 0: not known. Costs up
 * to some milliseconds for a large process. */
uint64_t room_private(pid_t pid);

/* Bytes of PID's memory that are no file's, shared or not. 0: not known. */
uint64_t room_anonymous(pid_t pid);

/* The processes of a module as proc(5) tells of them now: the one that the
 * keeper started, and what descends from it, which are forked copies, or
 * commands of a shim. Read here and not by the keeper: who asks `why` waits for
 * it alone. */
#include "ctl/why.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/procs.h"

/* What its letter in proc_pid_stat(5) means. */
static const char *
state_word(char letter)
{
    return letter == 'R'   ? "computes"
           : letter == 'S' ? "waits"
           : letter == 'D' ? "waits for a device"
           : letter == 'T' ? "is stopped"
           : letter == 't' ? "is traced"
                           : "has ended";
}

/* Seconds since 1970 when a process was started that says so many clock ticks
 * since the boot. */
static uint64_t
started_at(uint64_t ticks)
{
    struct timespec boot, wall;
    uint64_t up, at = ticks / (uint64_t)sysconf(_SC_CLK_TCK);

    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_REALTIME, &wall);
    up = (uint64_t)boot.tv_sec;
    return (uint64_t)wall.tv_sec - (up > at ? up - at : 0);
}

/* false: it is gone, or cannot be read. */
static bool
look(pid_t pid, struct why_copy *copy)
{
    unsigned long long threads = 0, ticks = 0;
    char path[64], text[1024], letter = 0;
    const char *end;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (n <= 0) {
        return false;
    }
    text[n] = '\0';
    end = strrchr(text, ')'); /* of its name, which may have any byte */
    if (end == NULL || sscanf(end + 1,
                              " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                              "%*s %*s %*s %*s %*s %llu %*s %llu",
                              &letter, &threads, &ticks) != 3) {
        return false;
    }
    *copy = (struct why_copy){.pid = pid,
                              .state = state_word(letter),
                              .threads = threads,
                              .started_s = started_at(ticks),
                              .rss_kb = procs_memory(pid) / 1024};
    return true;
}

/* The children of all threads of PID, at most MOST. */
static uint32_t
children(pid_t pid, pid_t *pids, uint32_t most)
{
    const struct dirent *task;
    char path[64];
    uint32_t n = 0;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && n < most && (task = readdir(tasks)) != NULL) {
        if (task->d_name[0] != '.') {
            n += procs_children(pid, task->d_name, pids + n, most - n);
        }
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
    return n;
}

size_t
why_copies(pid_t pid, struct why_copy copies[WHY_COPIES])
{
    pid_t pids[WHY_COPIES];
    uint32_t n = 1;
    size_t found = 0;

    pids[0] = pid;
    for (uint32_t i = 0; i < n; i++) {
        n += children(pids[i], pids + n, WHY_COPIES - n);
        found += look(pids[i], &copies[found]);
    }
    return found;
}

/* The processes of a module as proc(5) tells of them now: the one that the
 * keeper started, and what descends from it, which are forked copies, or
 * commands of a shim. Read here and not by the keeper: who asks `why` waits for
 * it alone. */
#include "ctl/why.h"

#include <time.h>
#include <unistd.h>

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

size_t
why_copies(pid_t pid, struct why_copy copies[WHY_COPIES])
{
    pid_t pids[WHY_COPIES];
    uint32_t n = procs_descendants(pid, UINT32_MAX, pids, WHY_COPIES);
    size_t found = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct procs_stat stat;

        if (procs_stat(pids[i], &stat)) {
            copies[found++] = (struct why_copy){
                .pid = pids[i],
                .state = state_word(stat.state),
                .threads = stat.threads,
                .started_s = started_at(stat.started_ticks),
                .rss_kb = procs_memory(pids[i]) / 1024,
            };
        }
    }
    return found;
}

/* Readers of proc(5). A process can give itself any name, so that nothing is
 * taken from before the last bracket of a stat line, and its status file cannot
 * get a line of its own: proc(5) escapes the newline. */
#include "cohort/procs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/util.h"

/* The beginning of /proc/PID/NAME in TEXT, ended by a NUL. */
static void
read_text(pid_t pid, const char *name, char *text, size_t size)
{
    char path[128];
    CLEAN_FD int fd = -1;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, text, size - 1) : 0;
    text[MAX_OF(n, 0)] = '\0';
}

/* What follows KEY, a line's beginning, in TEXT, or NULL. */
static const char *
status_value(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at != NULL ? at + strlen(key) : NULL;
}

pid_t
procs_held_by(pid_t pid)
{
    char text[4096];
    const char *state;
    const char *tracer;

    read_text(pid, "status", text, sizeof(text));
    state = status_value(text, "\nState:\t");
    tracer = status_value(text, "\nTracerPid:\t");
    return state != NULL && *state == 't' && tracer != NULL
               ? (pid_t)strtol(tracer, NULL, 10)
               : 0;
}

bool
procs_is_stopped(pid_t pid)
{
    char text[4096];
    const char *state;

    read_text(pid, "status", text, sizeof(text));
    state = status_value(text, "\nState:\t");
    return state != NULL && *state == 'T';
}

bool
procs_stat(pid_t pid, struct procs_stat *stat)
{
    char text[1024];
    unsigned long long user, system, threads, started;
    const char *at;

    read_text(pid, "stat", text, sizeof(text));
    at = strrchr(text, ')'); /* of its name, which may have any byte */
    if (at == NULL || sscanf(at + 1,
                             " %c %d %d %*d %*d %*d %*u %*u %*u %*u %*u %llu "
                             "%llu %*d %*d %*d %*d %llu %*d %llu",
                             &stat->state, &stat->parent, &stat->group, &user,
                             &system, &threads, &started) != 7) {
        return false;
    }
    stat->cpu_ticks = user + system;
    stat->threads = threads;
    stat->started_ticks = started;
    return true;
}

/* Adds process PID to SUM if its group is GROUP. */
static void
add_process(struct procs_group *sum, pid_t pid, pid_t group)
{
    struct procs_stat stat;

    if (!procs_stat(pid, &stat) || stat.group != group) {
        return;
    }
    sum->cpu_ticks += stat.cpu_ticks;
    sum->n_alive += stat.state != 'Z' && stat.state != 'X';
    if (stat.state == 't' && sum->tracer == 0) {
        sum->tracer = procs_held_by(pid);
    }
}

struct procs_group
procs_group(pid_t group)
{
    struct procs_group sum = {0};
    DIR *dir = opendir("/proc");
    const struct dirent *e;

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        if (isdigit((unsigned char)e->d_name[0])) {
            add_process(&sum, (pid_t)strtol(e->d_name, NULL, 10), group);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return sum;
}

uint64_t
procs_memory(pid_t pid)
{
    char text[128];
    unsigned long long pages = 0;

    read_text(pid, "statm", text, sizeof(text));
    if (sscanf(text, "%*u %llu", &pages) != 1) {
        return 0;
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t
mix(uint64_t sum, uint64_t value)
{
    return fnv_add(sum, &value, sizeof(value));
}

uint64_t
procs_version(char *const *argv, const char *folder)
{
    CLEAN_FD int dir =
        open(folder != NULL ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    uint64_t sum = FNV_BASIS;

    for (; argv != NULL && *argv != NULL; argv++) {
        struct stat st;

        if (fstatat(dir, *argv, &st, 0) < 0 || !S_ISREG(st.st_mode)) {
            continue;
        }
        sum = mix(sum, st.st_dev);
        sum = mix(sum, st.st_ino);
        sum = mix(sum, st.st_mode);
        sum = mix(sum, (uint64_t)st.st_size);
        sum = mix(sum, (uint64_t)st.st_mtim.tv_sec);
        sum = mix(sum, (uint64_t)st.st_mtim.tv_nsec);
    }
    return sum;
}

/* --- Families ----------------------------------------------------------- */

#define FAMILY_MAX  PROCS_CHILDREN
#define THREADS_MAX 64 /* of a process, whose children are looked for */

uint32_t
procs_children(pid_t pid, const char *tid, pid_t *pids, uint32_t most)
{
    char name[64], text[4096];
    const char *at = text;
    uint32_t n = 0;
    char *end;

    snprintf(name, sizeof(name), "task/%.20s/children", tid);
    read_text(pid, name, text, sizeof(text));
    while (n < most) {
        long child = strtol(at, &end, 10);

        if (end == at || child <= 0 || *end == '\0') {
            return n; /* a number that ends with the room may be cut */
        }
        pids[n++] = (pid_t)child;
        at = end;
    }
    return n;
}

uint32_t
procs_descendants(pid_t pid, uint32_t threads, pid_t *pids, uint32_t most)
{
    uint32_t n = 1;

    pids[0] = pid;
    for (uint32_t i = 0; i < n; i++) {
        const struct dirent *task;
        char path[64];
        DIR *tasks;

        snprintf(path, sizeof(path), "/proc/%d/task", (int)pids[i]);
        tasks = opendir(path);
        for (uint32_t t = 0;
             tasks != NULL && t < threads && (task = readdir(tasks)) != NULL;
             t++) {
            if (task->d_name[0] != '.') {
                n += procs_children(pids[i], task->d_name, pids + n, most - n);
            }
        }
        if (tasks != NULL) {
            closedir(tasks);
        }
    }
    return n;
}

struct procs_family
procs_family(pid_t pid)
{
    struct procs_family family = {0};
    pid_t pids[FAMILY_MAX];
    uint32_t n = procs_descendants(pid, THREADS_MAX, pids, FAMILY_MAX);

    for (uint32_t i = 0; i < n; i++) {
        uint64_t memory = procs_memory(pids[i]);

        family.n += memory > 0;
        family.memory += memory;
    }
    return family;
}

/* See room.h. A bound may stand at each level between the group that we are in
 * and the one at which the file system is mounted, so all are read. Memory of a
 * group counts the cache of files that it read, which the kernel gives up
 * first: what of it was not used lately counts as free.
 */
#include "door/room.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "door/raw.h"

#define TEXT_MAX 8192 /* of memory.stat; what is looked for comes early */

/* The whole file FOLDER/NAME as a string, at most SIZE - 1 bytes. */
static bool
read_text(const char *folder, const char *name, char *text, size_t size)
{
    char path[PATH_MAX];
    size_t len = 0;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >=
        (int)sizeof path) {
        return false;
    }
    int fd = raw_open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    while (len < size - 1) {
        ssize_t n = read(fd, text + len, size - 1 - len);
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
    }
    close(fd);
    text[len] = 0;
    return len > 0;
}

/* The number at the start of TEXT; false: there is none ("max", "-1"). */
static bool
get_number(const char *text, uint64_t *p_n)
{
    char *end;

    *p_n = strtoull(text, &end, 10);
    return end != text && *text >= '0' && *text <= '9';
}

static bool
read_number(const char *folder, const char *name, uint64_t *p_n)
{
    char text[64];

    return read_text(folder, name, text, sizeof text) && get_number(text, p_n);
}

/* The number behind KEY, at the start of a line of TEXT; 0: it is not there. */
static uint64_t
number_after(const char *text, const char *key)
{
    size_t len = strlen(key);
    uint64_t n = 0;

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0) {
            const char *value = line + len + strspn(line + len, " \t:");
            return get_number(value, &n) ? n : 0;
        }
    }
    return 0;
}

/* ---- one group ---- */

/* The names of one version's files. */
struct files {
    const char *most, *used, *stat, *cache;
};

static const struct files version_2 = {"memory.max", "memory.current",
                                       "memory.stat", "inactive_file"};
static const struct files version_1 = {"memory.limit_in_bytes",
                                       "memory.usage_in_bytes", "memory.stat",
                                       "total_inactive_file"};

static void
look_at_memory(struct room *room, const char *folder, const struct files *files)
{
    char text[TEXT_MAX];
    uint64_t most, used, cache = 0;

    /* Version 1 says 2^63 less a page where there is no bound. */
    if (!read_number(folder, files->most, &most) || most > INT64_MAX / 2 ||
        !read_number(folder, files->used, &used)) {
        return;
    }
    if (read_text(folder, files->stat, text, sizeof text)) {
        cache = number_after(text, files->cache);
    }
    used -= MIN_OF(used, cache);
    room->total = MIN_OF(room->total, most);
    room->left = MIN_OF(room->left, most - MIN_OF(most, used));
}

/* TIME of each PERIOD, of all processors together. */
static void
bound_cpus(struct room *room, uint64_t time, uint64_t period)
{
    uint64_t n = period > 0 ? (time + period - 1) / period : 0;

    if (n > 0 && n < UINT32_MAX && (room->cpus == 0 || n < room->cpus)) {
        room->cpus = (uint32_t)n;
    }
}

static void
look_at_cpus(struct room *room, const char *folder)
{
    char text[64];
    uint64_t time, period;
    const char *space;

    if (read_text(folder, "cpu.max", text, sizeof text)) {
        space = strchr(text, ' ');
        if (space && get_number(text, &time) &&
            get_number(space + 1, &period)) {
            bound_cpus(room, time, period);
        }
    } else if (read_number(folder, "cpu.cfs_quota_us", &time) &&
               read_number(folder, "cpu.cfs_period_us", &period)) {
        bound_cpus(room, time, period);
    }
}

/* ---- where the groups are ---- */

/* Is WORD one of LIST, which commas divide? */
static bool
is_in_list(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, word, len) == 0 && (p[len] == ',' || p[len] == 0)) {
            return true;
        }
    }
    return false;
}

/* The group of this process in the hierarchy of CONTROLLER ("": version 2),
 * from TEXT, which is /proc/self/cgroup and is changed. NULL: there is none. */
static const char *
own_group(char *text, const char *controller)
{
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) {
            continue;
        }
        *path++ = 0;
        list++;
        if (*controller == 0 ? *list == 0 : is_in_list(list, controller)) {
            return path;
        }
    }
    return NULL;
}

/* What a line of proc_pid_mountinfo(5) says of a hierarchy of groups. */
struct mount {
    char at[PATH_MAX], group[PATH_MAX];
    const char *controllers; /* NULL: version 2 */
};

/* LINE is changed, and MOUNT points into it. */
static bool
parse_mount(char *line, struct mount *mount)
{
    char *more = strstr(line, " - ");
    char *last;

    line[strcspn(line, "\n")] = 0;
    if (!more || sscanf(line, "%*s %*s %*s %4095s %4095s", mount->group,
                        mount->at) != 2) {
        return false;
    }
    more += 3;
    last = strrchr(more, ' ');
    mount->controllers = last ? last + 1 : NULL;
    if (strncmp(more, "cgroup2 ", 8) == 0) {
        mount->controllers = NULL;
        return true;
    }
    return strncmp(more, "cgroup ", 7) == 0 && last;
}

/* Looks at the groups from our own up to that of MOUNT. */
static void
look_upwards(struct room *room, const char *root, const struct mount *mount,
             const char *groups, const char *controller)
{
    char text[4096], folder[PATH_MAX * 2 + 64];
    size_t top,
        skip = strcmp(mount->group, "/") == 0 ? 0 : strlen(mount->group);
    const char *own;

    snprintf(text, sizeof text, "%s", groups);
    own = own_group(text, controller);
    if (!own) {
        return;
    }
    /* Of a group above the mount nothing is seen but what is mounted. */
    own = strncmp(own, mount->group, skip) == 0 ? own + skip : "";
    top = (size_t)snprintf(folder, sizeof folder, "%s%s", root, mount->at);
    if (strncmp(own, "/..", 3) != 0) {
        snprintf(folder + top, sizeof folder - top, "%s", own);
    }
    for (;;) {
        size_t len = strlen(folder);
        while (len > top && folder[len - 1] == '/') {
            folder[--len] = 0;
        }
        if (*controller == 0 || strcmp(controller, "memory") == 0) {
            look_at_memory(room, folder, *controller ? &version_1 : &version_2);
        }
        if (*controller == 0 || strcmp(controller, "cpu") == 0) {
            look_at_cpus(room, folder);
        }
        if (len <= top) {
            return;
        }
        *strrchr(folder, '/') = 0;
    }
}

static void
look_at_groups(struct room *room, const char *root)
{
    static const char *const controllers[] = {"memory", "cpu"};
    char folder[PATH_MAX], groups[4096];
    struct mount *mount = malloc(sizeof *mount);
    char *line = NULL;
    size_t size = 0;
    FILE *mounts = NULL;
    int fd = -1;

    snprintf(folder, sizeof folder, "%s/proc/self", root);
    if (mount && read_text(folder, "cgroup", groups, sizeof groups)) {
        snprintf(folder, sizeof folder, "%s/proc/self/mountinfo", root);
        fd = raw_open(folder, O_RDONLY | O_CLOEXEC);
        mounts = fd >= 0 ? fdopen(fd, "r") : NULL;
    }
    while (mounts && getline(&line, &size, mounts) > 0) {
        if (!parse_mount(line, mount)) {
            continue;
        }
        if (!mount->controllers) {
            look_upwards(room, root, mount, groups, "");
        }
        for (size_t i = 0; mount->controllers && i < ARRAY_LEN(controllers);
             i++) {
            if (is_in_list(mount->controllers, controllers[i])) {
                look_upwards(room, root, mount, groups, controllers[i]);
            }
        }
    }
    if (mounts) {
        fclose(mounts);
    } else if (fd >= 0) {
        close(fd);
    }
    free(line);
    free(mount);
}

void
room_read(struct room *room, const char *root)
{
    char folder[PATH_MAX], text[TEXT_MAX];

    *room = (struct room){0, UINT64_MAX, UINT64_MAX};
    snprintf(folder, sizeof folder, "%s/proc", root);
    if (read_text(folder, "meminfo", text, sizeof text)) {
        uint64_t total = number_after(text, "MemTotal:");
        uint64_t left = number_after(text, "MemAvailable:");
        if (total > 0) {
            room->total = total * 1024;
            room->left = left * 1024;
        }
    }
    look_at_groups(room, root);
}

/* ---- one process ---- */

/* The sum of two lines of the file NAME of PID, which are in KiB, in bytes. */
static uint64_t
sum_of(pid_t pid, const char *name, const char *one, const char *other)
{
    char folder[32], text[TEXT_MAX];

    snprintf(folder, sizeof folder, "/proc/%d", (int)pid);
    if (!read_text(folder, name, text, sizeof text)) {
        return 0;
    }
    return (number_after(text, one) + number_after(text, other)) * 1024;
}

uint64_t
room_anonymous(pid_t pid)
{
    return sum_of(pid, "status", "RssAnon:", "RssShmem:");
}

uint64_t
room_private(pid_t pid)
{
    uint64_t n =
        sum_of(pid, "smaps_rollup", "Private_Clean:", "Private_Dirty:");

    return n > 0 ? n : sum_of(pid, "status", "RssAnon:", "RssAnon:") / 2;
}

/* A keeper's group "cardea.PID" lies in the group that it was started in, and
 * holds one for each module. Nothing but this has to be allowed, so it works in
 * every group that belongs to us: that of a systemd unit with Delegate=yes, of
 * the system or of a user, of a container, of a root shell without systemd.
 *
 * Controllers are harder: a group that gives them to those below it may have no
 * processes itself, so the keeper moves below it too, and where others are in
 * the same group nothing can be done. Groups without controllers are then still
 * of use: cgroup.kill (Linux 5.14) reaches what left the process group, the
 * session and its parent.
 *
 * The folder's lock says that its keeper lives, also to one in another pid
 * namespace; it ends with the keeper, since no child gets its descriptor. */
#include "module/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

#define PREFIX "cardea."
#define OWN    "keeper" /* where we live; modules have a letter before theirs */

/* Writes TEXT to the file NAME of the folder DIR. 0 or a negative errno. */
static int
put(int dir, const char *name, const char *text)
{
    CLEAN_FD int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    size_t len = strlen(text);

    if (fd < 0) {
        return -errno;
    }
    return write(fd, text, len) == (ssize_t)len ? 0 : -errno;
}

/* The beginning of the file NAME of DIR; false: it cannot be read. */
static bool
get(int dir, const char *name, char *text, size_t size)
{
    CLEAN_FD int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;

    text[n > 0 ? n : 0] = '\0';
    return n >= 0;
}

static int
open_folder(int dir, const char *name)
{
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Where the file system is mounted, and which of its groups is there. */
static int
find_mount(char mount[PATH_MAX], char root[PATH_MAX])
{
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    int rc = -ENOENT;

    if (mounts == NULL) {
        return -errno;
    }
    while (rc < 0 && getline(&line, &size, mounts) > 0) {
        if (strstr(line, " - cgroup2 ") != NULL &&
            sscanf(line, "%*d %*d %*s %4095s %4095s", root, mount) == 2) {
            rc = 0;
        }
    }
    free(line);
    fclose(mounts);
    return rc;
}

int
cgroup_find(char *path, size_t size)
{
    char mount[PATH_MAX];
    char root[PATH_MAX];
    char text[PATH_MAX];
    char *own;
    size_t skip;
    int rc = find_mount(mount, root);

    if (rc < 0) {
        return rc;
    }
    if (!get(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text))) {
        return -errno;
    }
    own = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (own == NULL) {
        return -ENOENT;
    }
    own += own == text ? 3 : 4;
    own[strcspn(own, "\n")] = '\0';
    skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(own, root, skip) != 0 ||
        snprintf(path, size, "%s%s", mount, own + skip) >= (int)size ||
        access(path, X_OK) < 0) {
        return -ENOENT;
    }
    return 0;
}

/* Kills what is in DIR and waits until it is gone, for half a second. */
static void
empty(int dir)
{
    static const struct timespec wait = {0, 5 * 1000 * 1000};
    char text[256];

    for (int i = 0; i < 100; i++) {
        if (!get(dir, "cgroup.events", text, sizeof(text)) ||
            strstr(text, "populated 0") != NULL) {
            return;
        }
        (void)put(dir, "cgroup.kill", "1");
        nanosleep(&wait, NULL);
    }
}

/* Removes the group NAME of DIR with those below it, and what runs in them but
 * ourselves. */
static void
remove_group(int dir, const char *name)
{
    int fd = open_folder(dir, name);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (list == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    while ((entry = readdir(list)) != NULL) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            CLEAN_FD int below = open_folder(fd, entry->d_name);

            if (below >= 0) {
                empty(below);
                (void)unlinkat(fd, entry->d_name, AT_REMOVEDIR);
            }
        }
    }
    closedir(list);
    (void)unlinkat(dir, name, AT_REMOVEDIR);
}

void
cgroup_remove_stale(const struct cgroup *ours)
{
    int dir = ours->parent_fd;
    int fd = dir >= 0 ? open_folder(dir, ".") : -1;
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (list == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    while ((entry = readdir(list)) != NULL) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            strcmp(entry->d_name, ours->name) != 0) {
            CLEAN_FD int group = open_folder(dir, entry->d_name);

            if (group >= 0 && flock(group, LOCK_EX | LOCK_NB) == 0) {
                remove_group(dir, entry->d_name);
            }
        }
    }
    closedir(list);
}

/* Is the only process in DIR ourselves? */
static bool
is_alone(int dir)
{
    char text[64];
    char *end;
    long pid;

    if (!get(dir, "cgroup.procs", text, sizeof(text))) {
        return false;
    }
    pid = strtol(text, &end, 10);
    return pid == getpid() && strcmp(end, "\n") == 0;
}

/* Has the group DIR this controller to give? */
static bool
has_controller(int dir, const char *name)
{
    char text[512];

    if (!get(dir, "cgroup.controllers", text, sizeof(text))) {
        return false;
    }
    for (char *rest = text, *word; (word = strsep(&rest, " \n")) != NULL;) {
        if (strcmp(word, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Hands CONTROLLER on from the group that we came from to those of modules. */
static bool
hand_on(struct cgroup *group, const char *controller)
{
    char text[32];

    snprintf(text, sizeof(text), "+%s", controller);
    return has_controller(group->parent_fd, controller) &&
           put(group->parent_fd, "cgroup.subtree_control", text) == 0 &&
           put(group->fd, "cgroup.subtree_control", text) == 0;
}

/* Controllers come only to the first group of all, or through one without
 * processes. The kernel would refuse some of them otherwise, but give others
 * (pids) to threads alone, and no process could enter a group below then. */
static bool
can_hand_on(const struct cgroup *group)
{
    return group->is_inside ||
           faccessat(group->parent_fd, "cgroup.type", F_OK, 0) < 0;
}

static void
get_controllers(struct cgroup *group)
{
    if (!has_controller(group->parent_fd, "memory") &&
        !has_controller(group->parent_fd, "pids")) {
        return;
    }
    if (is_alone(group->parent_fd) && mkdirat(group->fd, OWN, 0755) == 0) {
        CLEAN_FD int own = open_folder(group->fd, OWN);

        group->is_inside = own >= 0 && put(own, "cgroup.procs", "0") == 0;
    }
    if (can_hand_on(group)) {
        group->has_memory = hand_on(group, "memory");
        group->has_pids = hand_on(group, "pids");
    }
}

/* On a system with systemd root may write everywhere, but only a group that was
 * delegated is left alone by it. */
static bool
is_ours(const char *path)
{
    char value[8];

    if (geteuid() != 0 || access("/run/systemd/system", F_OK) < 0) {
        return true; /* or mkdir says no */
    }
    return getxattr(path, "trusted.delegate", value, sizeof(value)) > 0 ||
           getxattr(path, "user.delegate", value, sizeof(value)) > 0;
}

/* Can a process be moved from the group that we are in to our own? */
static bool
can_move(const struct cgroup *group)
{
    char type[64];

    return faccessat(group->parent_fd, "cgroup.procs", W_OK, AT_EACCESS) == 0 &&
           get(group->fd, "cgroup.type", type, sizeof(type)) &&
           strcmp(type, "domain\n") == 0;
}

int
cgroup_init(struct cgroup *group, bool wants_bounds)
{
    char path[PATH_MAX];
    int rc = cgroup_find(path, sizeof(path));

    *group = (struct cgroup)CGROUP_NULL;
    if (rc < 0) {
        return rc;
    }
    if (!is_ours(path)) {
        return -EPERM;
    }
    group->parent_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (group->parent_fd < 0) {
        return -errno;
    }
    snprintf(group->name, sizeof(group->name), PREFIX "%d", (int)getpid());
    if (mkdirat(group->parent_fd, group->name, 0755) == 0) {
        group->fd = open_folder(group->parent_fd, group->name);
    }
    if (group->fd < 0) {
        rc = -errno;
    } else if (!can_move(group)) {
        rc = -EACCES;
        (void)unlinkat(group->parent_fd, group->name, AT_REMOVEDIR);
        close(group->fd);
    }
    if (rc < 0) {
        close(group->parent_fd);
        *group = (struct cgroup)CGROUP_NULL;
        return rc;
    }
    (void)flock(group->fd, LOCK_EX | LOCK_NB);
    if (wants_bounds) {
        get_controllers(group);
    }
    return 0;
}

void
cgroup_deinit(struct cgroup *group)
{
    if (group->fd < 0) {
        return;
    }
    if (group->is_inside) {
        /* Back: from the leaves up, since no group may have both. */
        (void)put(group->fd, "cgroup.subtree_control", "-memory -pids");
        (void)put(group->parent_fd, "cgroup.subtree_control", "-memory -pids");
        (void)put(group->parent_fd, "cgroup.procs", "0");
    }
    remove_group(group->parent_fd, group->name);
    close(group->fd);
    close(group->parent_fd);
    *group = (struct cgroup)CGROUP_NULL;
}

/* "m-NAME": none of them can be called as a file of the kernel's, or OWN. */
static void
name_of(const char *module, char name[NAME_MAX + 1])
{
    snprintf(name, NAME_MAX + 1, "m-%s", module);
}

static int
bound(int fd, const char *file, uint64_t most)
{
    char text[24] = "max";

    if (most > 0) {
        snprintf(text, sizeof(text), "%" PRIu64, most);
    }
    return put(fd, file, text);
}

int
cgroup_module(const struct cgroup *group, const char *module, uint64_t memory,
              uint64_t processes, int *p_fd)
{
    char name[NAME_MAX + 1];
    CLEAN_FD int fd = -1;
    int rc = 0;

    name_of(module, name);
    if (mkdirat(group->fd, name, 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    fd = open_folder(group->fd, name);
    if (fd < 0) {
        return -errno;
    }
    if (group->has_memory) {
        rc = bound(fd, "memory.max", memory);
        /* Or it would grow on into the swap space, ever slower. The file is
         * missing where the kernel was told swapaccount=0. */
        (void)put(fd, "memory.swap.max", memory > 0 ? "0" : "max");
    }
    if (rc == 0 && group->has_pids) {
        rc = bound(fd, "pids.max", processes);
    }
    if (rc == 0) {
        *p_fd = fd;
        fd = -1;
    }
    return rc;
}

static const struct {
    const char *file;
    const char *key; /* a line of it: key, space, number */
} event_places[CGROUP_EVENTS] = {
    [CGROUP_KILLED] = {"memory.events", "oom_kill "},
    [CGROUP_REFUSED] = {"pids.events", "max "},
};

int
cgroup_watch(const struct cgroup *group, const char *module,
             enum cgroup_event event)
{
    char name[NAME_MAX + 1];
    CLEAN_FD int dir = -1;
    int fd;

    name_of(module, name);
    dir = open_folder(group->fd, name);
    if (dir < 0) {
        return -errno;
    }
    fd = openat(dir, event_places[event].file, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

int
cgroup_count(int fd, enum cgroup_event event, uint64_t *p_n)
{
    const char *key = event_places[event].key;
    char text[512];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    if (n < 0) {
        return -errno;
    }
    text[n] = '\0';
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (strncmp(line, key, strlen(key)) == 0) {
            char *end;
            uint64_t count = strtoull(line + strlen(key), &end, 10);

            if (*end == '\0' && end != line + strlen(key)) {
                *p_n = count;
                return 0;
            }
        }
    }
    return -EPROTO;
}

int
cgroup_enter(int fd)
{
    return put(fd, "cgroup.procs", "0");
}

void
cgroup_kill(const struct cgroup *group, const char *module)
{
    char name[NAME_MAX + 1];
    CLEAN_FD int fd = -1;

    if (group->fd < 0) {
        return;
    }
    name_of(module, name);
    fd = open_folder(group->fd, name);
    if (fd >= 0) {
        (void)put(fd, "cgroup.kill", "1");
    }
}

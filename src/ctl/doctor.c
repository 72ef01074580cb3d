/* The verb doctor: what this kernel, container or user lacks. Checks are real
 * tries, none needs another to have gone well, and each must work where /proc,
 * /dev and /etc are missing: that is what it is to tell. Nothing is left
 * behind. */
#include "ctl/doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"
#include "cohort/descriptors.h"
#include "cohort/runfolder.h"
#include "ctl/ctl.h"

struct doctor {
    FILE *out;
    struct json json;
    bool as_json;
    int counts[DOCTOR_FAIL + 1];
};

static const char *const level_names[] = {"ok", "info", "warn", "fail"};

void
doctor_say(struct doctor *d, enum doctor_level level, const char *name,
           const char *mend, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    d->counts[level]++;
    if (d->as_json) {
        json_object(&d->json, NULL);
        json_text(&d->json, "check", name);
        json_text(&d->json, "level", level_names[level]);
        json_text(&d->json, "found", text);
        json_text(&d->json, "mend", mend);
        json_object_end(&d->json);
        return;
    }
    fprintf(d->out, "%-4s  %-14s %s\n", level_names[level], name, text);
    if (mend != NULL) {
        fprintf(d->out, "      mend: %s\n", mend);
    }
}

bool
doctor_read(const char *path, char *text, size_t size)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;

    if (n < 0) {
        return false;
    }
    text[n] = '\0';
    if (n > 0 && text[n - 1] == '\n') {
        text[n - 1] = '\0';
    }
    return true;
}

long long
doctor_read_number(const char *path)
{
    char text[64];
    char *end;
    long long n;

    if (!doctor_read(path, text, sizeof(text))) {
        return -1;
    }
    n = strtoll(text, &end, 10);
    return end != text && n >= 0 ? n : -1;
}

/* --- Limits ------------------------------------------------------------- */

static void
check_descriptors(struct doctor *d)
{
    long long most = doctor_read_number("/proc/sys/fs/nr_open");
    struct rlimit limit = {0, 0};
    unsigned long long n;

    getrlimit(RLIMIT_NOFILE, &limit);
    n = limit.rlim_max;
    if (most > 0 && (limit.rlim_max == RLIM_INFINITY ||
                     limit.rlim_max > (unsigned long long)most)) {
        n = (unsigned long long)most;
    }
    /* A worker uses the hard limit, up to a million; some are not clients. */
    n = MIN_OF(n, 1ull << 20);
    n = n > 64 ? n - 64 : 0;
    if (n < DESCRIPTORS_FEW) {
        doctor_say(d, DOCTOR_WARN, "descriptors",
                   "raise the hard limit: LimitNOFILE= of the unit, nofile in "
                   "limits.conf, --ulimit nofile= of the container",
                   "about %llu connections a worker (limit %llu, hard %llu)", n,
                   (unsigned long long)limit.rlim_cur,
                   (unsigned long long)limit.rlim_max);
        return;
    }
    doctor_say(d, DOCTOR_OK, "descriptors", NULL,
               "about %llu connections a worker (limit %llu, hard %llu)", n,
               (unsigned long long)limit.rlim_cur,
               (unsigned long long)limit.rlim_max);
}

static void
check_backlog(struct doctor *d)
{
    long long n = doctor_read_number("/proc/sys/net/core/somaxconn");

    if (n < 0) {
        doctor_say(d, DOCTOR_INFO, "backlog", NULL,
                   "net.core.somaxconn cannot be read");
    } else if (n < 1024) {
        doctor_say(d, DOCTOR_WARN, "backlog", "sysctl net.core.somaxconn=4096",
                   "only %lld connections may wait to be accepted", n);
    } else {
        doctor_say(d, DOCTOR_OK, "backlog", NULL,
                   "%lld connections may wait to be accepted", n);
    }
}

static void
check_inotify(struct doctor *d)
{
    CLEAN_FD int fd = inotify_init1(IN_CLOEXEC);
    long long n = doctor_read_number("/proc/sys/fs/inotify/max_user_watches");

    if (fd < 0) {
        doctor_say(d, DOCTOR_WARN, "inotify",
                   errno == EMFILE ? "sysctl fs.inotify.max_user_instances=512"
                                   : "allow inotify_init1 in the container",
                   "no watch of folders: %s", strerrordesc_np(errno));
    } else if (n >= 0 && n < 1024) {
        doctor_say(d, DOCTOR_WARN, "inotify",
                   "sysctl fs.inotify.max_user_watches=65536",
                   "only %lld folders can be watched", n);
    } else {
        doctor_say(d, DOCTOR_OK, "inotify", NULL, "folders can be watched");
    }
}

/* --- Files and users ----------------------------------------------------- */

static void
check_user(struct doctor *d)
{
    const struct passwd *entry = getpwnam("nobody");

    if (geteuid() != 0) {
        doctor_say(d, DOCTOR_OK, "user", NULL,
                   "uid %u: workers and modules run as this user",
                   (unsigned)geteuid());
    } else if (entry == NULL) {
        doctor_say(d, DOCTOR_FAIL, "user",
                   "make the user nobody (/etc/passwd), or name another in "
                   "the configuration: set user NAME",
                   "root, and no user nobody for the workers to become");
    } else {
        doctor_say(d, DOCTOR_OK, "user", NULL,
                   "root; workers become nobody (uid %u)",
                   (unsigned)entry->pw_uid);
    }
}

static void
check_null(struct doctor *d)
{
    struct stat st;

    if (stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode) &&
        st.st_rdev == makedev(1, 3) && access("/dev/null", R_OK | W_OK) == 0) {
        doctor_say(d, DOCTOR_OK, "dev-null", NULL, "/dev/null");
    } else {
        doctor_say(d, DOCTOR_FAIL, "dev-null",
                   "mknod -m 666 /dev/null c 1 3, or mount /dev",
                   "/dev/null is missing or is something else");
    }
}

static void
check_proc(struct doctor *d)
{
    char text[8192];
    const char *hidden;

    if (!doctor_read("/proc/self/stat", text, sizeof(text))) {
        doctor_say(d, DOCTOR_FAIL, "proc", "mount -t proc proc /proc",
                   "/proc is not mounted");
        return;
    }
    hidden = doctor_read("/proc/self/mounts", text, sizeof(text))
                 ? strstr(text, "hidepid=")
                 : NULL;
    if (hidden != NULL && hidden[8] != '0' &&
        strncmp(hidden + 8, "off", 3) != 0) {
        doctor_say(d, DOCTOR_INFO, "proc", NULL,
                   "mounted with hidepid: other users' processes are unseen");
    } else {
        doctor_say(d, DOCTOR_OK, "proc", NULL, "/proc is mounted");
    }
}

/* The nearest folder at or above PATH that exists, into FOUND. */
static void
nearest_folder(const char *path, char *found, size_t size)
{
    struct stat st;

    snprintf(found, size, "%s", path);
    while (found[0] != '\0' && (stat(found, &st) < 0 || !S_ISDIR(st.st_mode))) {
        char *slash = strrchr(found, '/');

        if (slash == NULL || slash == found) {
            snprintf(found, size, "/");
            return;
        }
        *slash = '\0';
    }
}

/* Can a file be made there? Tried, for a read-only mount says no by itself. */
static bool
can_write(const char *folder)
{
    char path[PATH_MAX + 64];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        snprintf(path, sizeof(path), "%s/.cardea-doctor-%d", folder,
                 (int)getpid());
        fd = open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC,
                  0600);
        if (fd >= 0) {
            unlink(path);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static void
check_folder(struct doctor *d, const char *name, const char *path,
             enum doctor_level level, const char *mend)
{
    char there[PATH_MAX];

    nearest_folder(path, there, sizeof(there));
    if (can_write(there)) {
        doctor_say(d, DOCTOR_OK, name, NULL, "%s %s", path,
                   strcmp(path, there) == 0 ? "can be written" : "can be made");
    } else {
        doctor_say(d, level, name, mend, "%s cannot be made: %s: %s", path,
                   there, strerrordesc_np(errno));
    }
}

static void
check_run(struct doctor *d)
{
    char parent[PATH_MAX - 300];

    runfolder_parent(parent, sizeof(parent));
    check_folder(d, "run-folder", parent, DOCTOR_FAIL,
                 "set run-folder PATH in the configuration, or give this user "
                 "an XDG_RUNTIME_DIR, or mount a tmpfs there");
    if (strncmp(parent, "/tmp/", 5) != 0) {
        check_folder(d, "tmp", "/tmp", DOCTOR_INFO, NULL);
    }
}

static void
check_state(struct doctor *d)
{
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    char path[PATH_MAX];

    if (geteuid() == 0) {
        snprintf(path, sizeof(path), "/var/lib/cardea");
    } else if (xdg != NULL && xdg[0] == '/') {
        snprintf(path, sizeof(path), "%s/cardea", xdg);
    } else if (home != NULL && home[0] == '/') {
        snprintf(path, sizeof(path), "%s/.local/state/cardea", home);
    } else {
        doctor_say(d, DOCTOR_WARN, "state-folder",
                   "set HOME or XDG_STATE_HOME, or set state-folder PATH in "
                   "the configuration",
                   "neither XDG_STATE_HOME nor HOME is set");
        return;
    }
    check_folder(d, "state-folder", path, DOCTOR_WARN,
                 "set state-folder PATH in the configuration; without it "
                 "modules keep nothing across restarts");
}

static void
check_shim(struct doctor *d)
{
    static const char *const places[] = {
        "cardea-exec", "../libexec/cardea/cardea-exec", "shims/cardea-exec"};
    char exe[PATH_MAX - 64];
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;

    exe[n > 0 ? n : 0] = '\0';
    slash = strrchr(exe, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    for (size_t i = 0; slash != NULL && i < ARRAY_LEN(places); i++) {
        snprintf(path, sizeof(path), "%s/%s", exe, places[i]);
        if (access(path, X_OK) == 0) {
            doctor_say(d, DOCTOR_OK, "cardea-exec", NULL, "%s", path);
            return;
        }
    }
    doctor_say(d, DOCTOR_WARN, "cardea-exec",
               "install it beside cardea, or in ../libexec/cardea",
               "not found: modules with exec cannot start");
}

/* --- Network -------------------------------------------------------------- */

bool
doctor_has_capability(int capability)
{
    struct __user_cap_header_struct header = {.version =
                                                  _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    return syscall(SYS_capget, &header, data) == 0 &&
           (data[capability / 32].effective >> (capability % 32) & 1) != 0;
}

static void
check_ports(struct doctor *d)
{
    long long first =
        doctor_read_number("/proc/sys/net/ipv4/ip_unprivileged_port_start");

    if (doctor_has_capability(CAP_NET_BIND_SERVICE)) {
        doctor_say(d, DOCTOR_OK, "low-ports", NULL,
                   "every port, by CAP_NET_BIND_SERVICE");
    } else if (first >= 0 && first <= 80) {
        doctor_say(d, DOCTOR_OK, "low-ports", NULL, "ports from %lld on",
                   first);
    } else {
        doctor_say(d, DOCTOR_INFO, "low-ports",
                   "for 80 and 443: AmbientCapabilities=CAP_NET_BIND_SERVICE "
                   "in the unit, or sysctl net.ipv4.ip_unprivileged_port_start="
                   "80",
                   "ports from %lld on", first >= 0 ? first : 1024ll);
    }
}

/* Binds to the loopback address of FAMILY, listens and connects. 0 or an
 * errno. */
static int
try_loopback(int family)
{
    CLEAN_FD int server =
        socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CLEAN_FD int client =
        socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *at =
        family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
    socklen_t len = family == AF_INET ? sizeof(in) : sizeof(in6);

    if (server < 0 || client < 0 || bind(server, at, len) < 0 ||
        listen(server, 1) < 0 || getsockname(server, at, &len) < 0) {
        return errno;
    }
    return connect(client, at, len) < 0 && errno != EINPROGRESS ? errno : 0;
}

static void
check_network(struct doctor *d)
{
    int error = try_loopback(AF_INET);

    doctor_say(d, error != 0 ? DOCTOR_FAIL : DOCTOR_OK, "ipv4",
               error != 0 ? "ip link set lo up; or allow network sockets in "
                            "the container"
                          : NULL,
               "127.0.0.1%s%s", error != 0 ? ": " : "",
               error != 0 ? strerrordesc_np(error) : "");
    error = try_loopback(AF_INET6);
    doctor_say(d, error != 0 ? DOCTOR_INFO : DOCTOR_OK, "ipv6", NULL,
               "[::1]%s%s", error != 0 ? ": " : "",
               error != 0 ? strerrordesc_np(error) : "");
}

/* --- What the machine gives ------------------------------------------------
 */

/* The folder of our cgroup (version 2), into PATH. false: none. */
static bool
own_cgroup(char *path, size_t size)
{
    char text[PATH_MAX];
    const char *line;

    if (!doctor_read("/proc/self/cgroup", text, sizeof(text))) {
        return false;
    }
    line = strstr(text, "0::");
    if (line == NULL || (line != text && line[-1] != '\n')) {
        return false;
    }
    snprintf(path, size, "/sys/fs/cgroup%.*s", (int)strcspn(line + 3, "\n"),
             line + 3);
    return access(path, X_OK) == 0;
}

static long long
cgroup_number(const char *group, const char *name)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", group, name);
    return doctor_read_number(path);
}

static void
check_cgroup(struct doctor *d)
{
    char group[PATH_MAX];
    long long pids, bytes;

    if (!own_cgroup(group, sizeof(group))) {
        doctor_say(d, DOCTOR_INFO, "cgroup", NULL,
                   "no cgroup of version 2 is seen here");
        return;
    }
    pids = cgroup_number(group, "pids.max");
    bytes = cgroup_number(group, "memory.max");
    if (pids >= 0 && pids < 64) {
        doctor_say(d, DOCTOR_WARN, "cgroup",
                   "raise TasksMax= of the unit or --pids-limit of the "
                   "container",
                   "at most %lld processes and threads", pids);
    } else if (bytes >= 0 && bytes < (64ll << 20)) {
        doctor_say(d, DOCTOR_WARN, "cgroup",
                   "raise MemoryMax= of the unit or --memory of the container",
                   "at most %lld MiB of memory", bytes >> 20);
    } else {
        char most[2][32] = {"any number of", "any amount"};

        if (pids >= 0) {
            snprintf(most[0], sizeof(most[0]), "%lld", pids);
        }
        if (bytes >= 0) {
            snprintf(most[1], sizeof(most[1]), "%lld MiB", bytes >> 20);
        }
        doctor_say(d, DOCTOR_OK, "cgroup", NULL,
                   "version 2; %s threads, %s of memory", most[0], most[1]);
    }
}

static void
check_cpus(struct doctor *d)
{
    char group[PATH_MAX];
    char path[PATH_MAX + 64];
    char text[64];
    long long quota = 0;
    long long period = 0;
    cpu_set_t set;
    int n;

    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    n = CPU_COUNT(&set);
    if (own_cgroup(group, sizeof(group))) {
        snprintf(path, sizeof(path), "%s/cpu.max", group);
        if (doctor_read(path, text, sizeof(text))) {
            (void)sscanf(text, "%lld %lld", &quota, &period);
        }
    }
    if (quota > 0 && period > 0 && quota < period * n) {
        doctor_say(d, DOCTOR_WARN, "cpus",
                   "let the quota be whole CPUs, or bind it to fewer CPUs "
                   "(AllowedCPUs=, --cpuset-cpus): one worker runs on each",
                   "%d CPUs, and a quota of %lld.%02lld", n, quota / period,
                   quota * 100 / period % 100);
        return;
    }
    doctor_say(d, DOCTOR_OK, "cpus", NULL, "%d, one worker on each", n);
}

static void
check_cores(struct doctor *d)
{
    char text[256];

    if (!doctor_read("/proc/sys/kernel/core_pattern", text, sizeof(text))) {
        doctor_say(d, DOCTOR_INFO, "core-files", NULL,
                   "where they go cannot be read");
    } else {
        doctor_say(d, DOCTOR_INFO, "core-files", NULL,
                   "of modules, where their limit allows: %s",
                   text[0] != '\0' ? text : "nowhere");
    }
}

static void
check_clock(struct doctor *d)
{
    struct timespec wall = {0, 0};
    struct timespec mono[2] = {{0, 0}, {0, 0}};
    bool runs;

    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &mono[0]);
    clock_gettime(CLOCK_MONOTONIC, &mono[1]);
    runs = mono[0].tv_sec > 0 || mono[0].tv_nsec > 0;
    runs = runs && (mono[1].tv_sec > mono[0].tv_sec ||
                    mono[1].tv_nsec >= mono[0].tv_nsec);
    if (!runs) {
        doctor_say(d, DOCTOR_FAIL, "clock", NULL,
                   "the monotonic clock does not run");
    } else if (wall.tv_sec < 1704067200) {
        doctor_say(d, DOCTOR_WARN, "clock",
                   "set the clock (timedatectl set-ntp true): dates in answers "
                   "and files will be wrong",
                   "the time of day is before 2024");
    } else {
        doctor_say(d, DOCTOR_OK, "clock", NULL, "the time of day is set");
    }
}

static void (*const checks[])(struct doctor *d) = {
    probe_kernel,  probe_memory,      probe_calls,       probe_clone,
    probe_sockets, probe_confinement, check_descriptors, check_backlog,
    check_inotify, probe_users,       check_user,        check_null,
    check_proc,    check_run,         check_state,       check_shim,
    check_ports,   check_network,     check_cgroup,      probe_groups,
    check_cpus,    check_cores,       check_clock,
};

int
ctl_doctor(struct ctl *ctl)
{
    struct doctor d = {.out = ctl->out, .as_json = ctl->as_json};

    json_init(&d.json, ctl->out);
    if (d.as_json) {
        json_object(&d.json, NULL);
        json_list(&d.json, "checks");
    }
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        checks[i](&d);
    }
    if (d.as_json) {
        json_list_end(&d.json);
        json_bool(&d.json, "ok", d.counts[DOCTOR_FAIL] == 0);
        json_object_end(&d.json);
        fputc('\n', ctl->out);
    } else {
        fprintf(ctl->out, "%d failed, %d warned, %d to know, %d fine\n",
                d.counts[DOCTOR_FAIL], d.counts[DOCTOR_WARN],
                d.counts[DOCTOR_INFO], d.counts[DOCTOR_OK]);
    }
    return d.counts[DOCTOR_FAIL] > 0 ? CTL_FAILED : CTL_OK;
}

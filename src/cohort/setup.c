/* What the keeper needs before it starts anything, as a table of steps in their
 * order. Nothing is undone here: keeper.c takes down a half-made state too. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/control.h"
#include "cohort/descriptors.h"
#include "cohort/listeners.h"
#include "cohort/reload.h"

static int
setup_process(struct keeper *k)
{
    if (k->conf->core_files) {
        struct rlimit limit;

        getrlimit(RLIMIT_CORE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_CORE, &limit);
    } else if (!SANITIZED) {
        prctl(PR_SET_DUMPABLE, 0);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    k->n_files = descriptors_raise(&k->given_files);
    return 0;
}

static int
setup_epoll(struct keeper *k)
{
    k->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return k->epoll_fd < 0 ? -errno : 0;
}

/* What workers have to log. Those of a keeper that died say it to the next. */
static int
hold_log(struct keeper *k)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    fcntl(ends[0], F_SETPIPE_SZ, 1024 * 1024); /* as much as we may */
    k->log_pipe = (struct keeper_source){ends[0], keeper_log_ready, k};
    k->log_write_fd = ends[1];
    return 0;
}

static int
setup_log(struct keeper *k)
{
    int rc = keeper_watch(k, &k->log_pipe, EPOLLIN);

    /* A plain file cannot be polled, and need not be. */
    k->out = (struct keeper_source){dup(k->sink.fd), keeper_out_ready, k};
    if (k->out.fd >= 0) {
        fcntl(k->out.fd, F_SETFD, FD_CLOEXEC);
        (void)keeper_watch(k, &k->out, 0);
    }
    return rc;
}

static int
setup_signals(struct keeper *k)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGCHLD);
    k->signals =
        (struct keeper_source){signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC),
                               keeper_signals_ready, k};
    if (k->signals.fd < 0) {
        return -errno;
    }
    sigaddset(&set, SIGPIPE);
    sigaddset(&set, SIGTTOU); /* our group is not the terminal's */
    sigprocmask(SIG_BLOCK, &set, NULL);
    return keeper_watch(k, &k->signals, EPOLLIN);
}

static int
setup_seats(struct keeper *k)
{
    CLEAN_FD int fd = memfd_create("cardea-seats", MFD_CLOEXEC);
    size_t size = SEATS_MAX * sizeof(struct seat);
    void *at;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        return -errno;
    }
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    k->seats = at;
    return 0;
}

static int
setup_listeners(struct keeper *k)
{
    char why[1024];
    int rc = listeners_open_soon(k->conf, k->listen_fds, k->listen_files, why,
                                 sizeof(why));

    if (rc < 0) {
        keeper_say(k, why);
    }
    return rc;
}

static int
setup_folders(struct keeper *k)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        const struct conf_target *t = &k->conf->targets[i];
        char why[PATH_MAX + 256];

        if (t->kind != CONF_TARGET_FILES) {
            continue;
        }
        k->folder_fds[i] = open(t->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (k->folder_fds[i] < 0) {
            int error = errno;

            snprintf(why, sizeof(why), "%s:%d:%d: folder %s: %s",
                     conf_where_file(k->conf, t->where), t->where.line,
                     t->where.column, t->path, strerrordesc_np(error));
            keeper_say(k, why);
            return -error;
        }
    }
    return 0;
}

static int
setup_run_folder(struct keeper *k)
{
    char why[2 * PATH_MAX + 256];
    int rc = runfolder_open(&k->folder, k->conf, why, sizeof(why));

    /* For people who ask a server what it serves. */
    if (realpath(k->conf->file, k->file) == NULL) {
        snprintf(k->file, sizeof(k->file), "%s", k->conf->file);
    }

    if (rc < 0) {
        keeper_say(k, why);
    }
    return rc;
}

/* Only a folder that somebody named must be possible; without one, modules get
 * none, which those that need it will say. */
static int
setup_state_folder(struct keeper *k)
{
    char why[PATH_MAX + 256];
    struct log_line line;
    int rc;

    if (k->conf->n_modules == 0) {
        return 0;
    }
    rc = statefolder_open(&k->state, k->conf, why, sizeof(why));
    if (rc < 0 && k->conf->state_folder != NULL) {
        keeper_say(k, why);
        return rc;
    }
    if (rc < 0) {
        keeper_log_begin(k, &line, LOG_WARN, "no-state");
        log_text(&line, "cause", why);
        keeper_log_end(k, &line);
    }
    return 0;
}

/* Is there a program at PLACE, seen from FOLDER? It is the shim then. */
static bool
try_shim(struct keeper *k, const char *folder, const char *place)
{
    snprintf(k->shim, sizeof(k->shim), "%s/%s", folder, place);
    return access(k->shim, X_OK) == 0;
}

/* The shim lies beside our program, or where the installation or the build puts
 * it. Never taken from PATH. If there is none, the first place is named when a
 * module fails to start. */
static int
setup_shim(struct keeper *k)
{
    char exe[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;

    if (k->options.shim != NULL) {
        snprintf(k->shim, sizeof(k->shim), "%s", k->options.shim);
        return 0;
    }
    if (n < 0) {
        return -errno;
    }
    exe[n] = '\0';
    slash = strrchr(exe, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    if (!try_shim(k, exe, "cardea-exec") &&
        !try_shim(k, exe, "../libexec/cardea/cardea-exec") &&
        !try_shim(k, exe, "shims/cardea-exec")) {
        (void)try_shim(k, exe, "cardea-exec");
    }
    return 0;
}

static int
setup_arrays(struct keeper *k)
{
    size_t n = k->bounds.listens;
    size_t m = k->bounds.targets;

    k->listen_fds = malloc((n + 1) * sizeof(int));
    k->folder_fds = malloc((m + 1) * sizeof(int));
    k->listen_files = calloc(n + 1, sizeof(*k->listen_files));
    if (k->listen_fds == NULL || k->listen_files == NULL ||
        k->folder_fds == NULL) {
        return -ENOMEM;
    }
    memset(k->listen_fds, 0xff, (n + 1) * sizeof(int)); /* all -1 */
    memset(k->folder_fds, 0xff, (m + 1) * sizeof(int));
    return 0;
}

/* SAID: the step itself explains its failure. */
struct step {
    const char *what;
    int (*init)(struct keeper *k);
    bool said;
};

static const struct step held[] = {
    {"memory", setup_arrays, false},
    {"log", hold_log, false},
    {"folders", setup_folders, true},
    /* First the lock: of two on one configuration, the second is told so. */
    {"run folder", setup_run_folder, true},
    {"secrets", secrets_check, true},
    {"listeners", setup_listeners, true},
    {"control socket", control_hold, false},
    {"control groups", isolate_init, false},
};

static const struct step rest[] = {
    {"event loop", setup_epoll, false},
    {"log", setup_log, false},
    {"signals", setup_signals, false},
    {"state folder", setup_state_folder, true},
    {"program folder", setup_shim, false},
    {"process", setup_process, false},
    {"seats", setup_seats, false},
    {"user", workers_find_user, true},
    {"workers", workers_init, false},
    {"control socket", control_init, false},
    {"modules", modules_init, false},
    {"doors", doors_init, false},
    {"reload", reload_init, false},
};

static int
take_steps(struct keeper *k, const struct step *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int rc = steps[i].init(k);

        if (rc < 0 && !steps[i].said) {
            char why[256];

            snprintf(why, sizeof(why), "%s: %s", steps[i].what,
                     strerrordesc_np(-rc));
            keeper_say(k, why);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

int
setup_hold(struct keeper *k)
{
    return take_steps(k, held, ARRAY_LEN(held));
}

int
setup_rest(struct keeper *k)
{
    return take_steps(k, rest, ARRAY_LEN(rest));
}

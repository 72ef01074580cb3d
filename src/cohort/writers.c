/* Forked copies that have pipes of their own for what they print, so that each
 * line of the log tells whose it is (door/copy_output.h has the other side).
 *
 * A module's programs are hostile. So nothing is ever read from a connection
 * here, and no descriptor taken: who connects is answered at once, or not at
 * all, with pipes that we made. Who it is says the kernel, and that it is this
 * module's its process group, which it cannot have entered from outside. A
 * pidfd holds its number for as long as lines are tagged with it: what comes
 * through its pipes after its end is of a process that it started, and has no
 * tag.
 *
 * Bounds: so many writers of a module and of all; so many answers a second. The
 * pipes are small, and read within the rates of the module (output.c).
 *
 * Invariants: a writer with pid 0 has no pidfd; one without streams is freed.
 */
#include "cohort/writers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/rights.h"
#include "base/util.h"
#include "door/copy_output.h"

#define OF_MODULE 256  /* writers of one module */
#define OF_ALL    2048 /* writers of all; three descriptors each */
#define ASKED     1000 /* answers of a module in a second */
#define PIPE_SIZE                                                              \
    16384 /* bytes: of the pages that our user's pipes may have                \
           */

struct keeper_writer {
    struct keeper_source end; /* its pidfd; owner: this */
    struct keeper_module *module;
    struct keeper_writer *next;
    struct keeper_stream streams[2];
    pid_t pid;     /* 0: it has ended */
    uint64_t life; /* of the module when it came */
    bool waits;    /* its end is looked at when the second is over */
};

/* --- Writers ----------------------------------------------------------- */

pid_t
writer_pid(const struct keeper_writer *w)
{
    return w->pid;
}

static void
forget_end(struct keeper_writer *w)
{
    keeper_unwatch(w->module->keeper, &w->end);
    w->pid = 0;
    w->waits = false;
}

/* Takes W out of its list and frees it, with what is open. */
static void
drop(struct keeper_writer *w)
{
    struct keeper_module *m = w->module;
    struct keeper_writer **p = &m->writers.list;

    while (*p != w) {
        p = &(*p)->next;
    }
    *p = w->next;
    m->writers.n--;
    m->keeper->n_writers--;
    forget_end(w);
    for (int i = 0; i < 2; i++) {
        output_close(&w->streams[i]);
    }
    free(w);
}

void
writer_stream_ended(struct keeper_writer *w)
{
    if (w->streams[0].source.fd < 0 && w->streams[1].source.fd < 0) {
        drop(w);
    }
}

/* Logs what is in W's pipes now. */
static void
read_rest(struct keeper_writer *w)
{
    for (int i = 0; i < 2; i++) {
        int left = 0;

        if (w->streams[i].source.fd >= 0 &&
            ioctl(w->streams[i].source.fd, FIONREAD, &left) == 0) {
            output_read(&w->streams[i], (size_t)left);
        }
    }
}

/* Its process has ended. Where others have its pipes, they are read on. */
static void
end_writer(struct keeper_writer *w)
{
    read_rest(w);
    forget_end(w);
    if (w->life != w->module->unit.n_starts) {
        drop(w);
    } else {
        writer_stream_ended(w);
    }
}

static void
writer_ended(struct keeper_source *source, uint32_t events)
{
    struct keeper_writer *w = source->owner;
    struct keeper *k = w->module->keeper;

    if (w->module->output.bytes >= OUTPUT_BYTES) {
        epoll_ctl(k->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        w->waits = true;
        return;
    }
    end_writer(w);
}

/* --- Who asks ---------------------------------------------------------- */

/* The process behind the connection FD, and in *P_PIDFD (the caller's) a hold
 * on it; 0: it is none of M's, or has ended. */
static pid_t
asker(const struct keeper_module *m, int fd, int *p_pidfd)
{
    struct ucred who = {0};
    socklen_t len = sizeof(who);
    struct pollfd ended;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
        who.pid <= 0) {
        return 0;
    }
#ifdef SO_PEERPIDFD
    len = sizeof(*p_pidfd);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, p_pidfd, &len) < 0) {
        *p_pidfd = -1;
    }
#endif
    if (*p_pidfd < 0) {
        /* Before Linux 6.5. Its number could be another's only if all numbers
         * were given away since it connected, a moment ago. */
        *p_pidfd = (int)syscall(SYS_pidfd_open, who.pid, 0);
    }
    ended = (struct pollfd){.fd = *p_pidfd, .events = POLLIN};
    return *p_pidfd >= 0 && getpgid(who.pid) == m->unit.pid &&
                   poll(&ended, 1, 0) == 0
               ? who.pid
               : 0;
}

static bool
is_full(const struct keeper_module *m)
{
    const struct keeper *k = m->keeper;

    return m->writers.n >= OF_MODULE || k->n_writers >= OF_ALL ||
           k->n_writers * 12 >= k->n_files; /* three each, of a quarter */
}

/* Makes W's pipes; the writing ends are in ENDS, the caller's, also if it
 * fails. 0 or a negative errno. */
static int
open_streams(struct keeper_writer *w, int ends[2])
{
    static const char *const names[] = {"stdout", "stderr"};

    for (int i = 0; i < 2; i++) {
        int rc = output_pipe(w->module, &w->streams[i], &ends[i]);

        if (rc < 0) {
            return rc;
        }
        w->streams[i].name = names[i];
        w->streams[i].writer = w;
        (void)fcntl(ends[i], F_SETPIPE_SZ, PIPE_SIZE);
    }
    return keeper_watch(w->module->keeper, &w->end, EPOLLIN);
}

static int
send_ends(const struct keeper_module *m, int fd, const int ends[2])
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct copy_output_note note = {0};
    struct iovec part = {&note, sizeof(note)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};

    for (int i = 0; i < 2; i++) {
        struct stat st = {0};

        /* One that the module closed is none of the copy's: no file has 0. */
        if (fstat(m->streams[i].source.fd, &st) == 0) {
            note.device = st.st_dev;
        }
        note.inodes[i] = st.st_ino;
    }
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(&control.header), ends, 2 * sizeof(int));
    return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Makes process PID of M, which PIDFD (taken) holds, a writer, and tells it by
 * the connection FD. 0 or a negative errno. */
static int
add_writer(struct keeper_module *m, pid_t pid, int take_pidfd, int fd)
{
    struct keeper_writer *w = calloc(1, sizeof(*w));
    int ends[2] = {-1, -1};
    int rc;

    if (w == NULL) {
        close(take_pidfd);
        return -ENOMEM;
    }
    w->module = m;
    w->pid = pid;
    w->life = m->unit.n_starts;
    w->end = (struct keeper_source){take_pidfd, writer_ended, w};
    w->streams[0].source.fd = w->streams[1].source.fd = -1;
    w->next = m->writers.list;
    m->writers.list = w;
    m->writers.n++;
    m->keeper->n_writers++;
    rc = open_streams(w, ends);
    if (rc == 0) {
        rc = send_ends(m, fd, ends);
    }
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            close(ends[i]);
        }
    }
    if (rc < 0) {
        drop(w);
    }
    return rc;
}

static void
pause_listener(struct keeper_module *m)
{
    epoll_ctl(m->keeper->epoll_fd, EPOLL_CTL_DEL, m->writers.listener.fd, NULL);
    m->writers.paused = true;
}

static void
listener_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper_module *m = source->owner;
    CLEAN_FD int fd =
        accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int pidfd = -1;
    pid_t pid;

    output_begin_second(m);
    if (fd < 0 || ++m->writers.asked >= ASKED) {
        pause_listener(m); /* out of descriptors, or too much of it */
    }
    if (fd < 0 || is_full(m) || m->keeper->phase != PHASE_RUN) {
        return;
    }
    pid = asker(m, fd, &pidfd);
    if (pid > 0) {
        (void)add_writer(m, pid, pidfd, fd); /* else it keeps what it has */
    } else if (pidfd >= 0) {
        close(pidfd);
    }
}

/* --- A module's life --------------------------------------------------- */

bool
writers_path(const struct keeper_module *m, char path[WRITERS_PATH])
{
    const struct conf_module *conf = m->conf;
    char whole[PATH_MAX + 320];
    int n = snprintf(whole, sizeof(whole), "%s/%s/output",
                     m->keeper->folder.path, conf->name);

    if (n < 0 || n >= WRITERS_PATH ||
        (conf->kind != CONF_MODULE_RUN && conf->kind != CONF_MODULE_WSGI)) {
        return false;
    }
    memcpy(path, whole, (size_t)n + 1);
    return true;
}

/* What lies at its path is of an earlier life, or the module's own doing: then
 * it has its lines without a pid. The mode says nothing: asker() judges. */
static int
open_listener(struct keeper_module *m)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    CLEAN_FD int fd =
        socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t before;
    int rc;

    if (fd < 0) {
        return -errno;
    }
    (void)writers_path(m, at.sun_path);
    (void)unlink(at.sun_path);
    before = umask(0111);
    rc = bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ? -errno : 0;
    umask(before);
    if (rc < 0) {
        return rc;
    }
    rights_refuse(fd);
    if (listen(fd, 64) < 0) {
        return -errno;
    }
    m->writers.listener = (struct keeper_source){fd, listener_ready, m};
    fd = -1;
    return keeper_watch(m->keeper, &m->writers.listener, EPOLLIN);
}

void
writers_open(struct keeper_module *m)
{
    char path[WRITERS_PATH];
    struct log_line line;
    int rc;

    if (!writers_path(m, path)) {
        return;
    }
    rc = open_listener(m);
    if (rc < 0) {
        writers_close(m);
        keeper_log_begin(m->keeper, &line, LOG_WARN, "output-untold");
        log_text(&line, "module", m->conf->name);
        log_text(&line, "path", path);
        log_errno(&line, -rc);
        keeper_log_end(m->keeper, &line);
    }
}

void
writers_close(struct keeper_module *m)
{
    keeper_unwatch(m->keeper, &m->writers.listener);
    m->writers.paused = false;
}

void
writers_drain(struct keeper_module *m)
{
    struct keeper_writer *next;

    for (struct keeper_writer *w = m->writers.list; w != NULL; w = next) {
        next = w->next;
        read_rest(w);
        if (!left_is_there(m)) {
            drop(w);
        } else {
            writer_stream_ended(w);
        }
    }
}

void
writers_deinit(struct keeper_module *m)
{
    writers_close(m);
    while (m->writers.list != NULL) {
        drop(m->writers.list);
    }
}

void
writers_resume(struct keeper_module *m)
{
    m->writers.asked = 0;
    if (m->writers.paused) {
        m->writers.paused = false;
        (void)keeper_watch(m->keeper, &m->writers.listener, EPOLLIN);
    }
    for (struct keeper_writer *w = m->writers.list; w != NULL; w = w->next) {
        output_resume(&w->streams[0]);
        output_resume(&w->streams[1]);
        if (w->waits) {
            w->waits = false;
            (void)keeper_watch(m->keeper, &w->end, EPOLLIN);
        }
    }
}

bool
writers_wait(const struct keeper_module *m)
{
    bool any = m->writers.paused;

    for (const struct keeper_writer *w = m->writers.list; w != NULL && !any;
         w = w->next) {
        any = w->waits || w->streams[0].paused || w->streams[1].paused;
    }
    return any;
}

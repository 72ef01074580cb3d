/* The program may die at once, never listen, stop, or leave children behind.
 * One thread owns it: it starts it, waits for its end by a pidfd, and starts
 * the next one. Requests find out by program_wait().
 *
 * Ready means that it has taken a connection: for a listening socket of ours,
 * that nothing waits in its queue any more; for an address, that connecting
 * works; and with HTTP that it answered HEAD.
 *
 * Invariants: the leader of the group is not reaped before its group got
 * SIGKILL, so that the number cannot have passed to a stranger; no program is
 * started once the lock is held for good by the thread that waits for SIGTERM.
 */
#include "program.h"

#include "base/limits.h"
#include "base/util.h"
#include "listen.h"
#include "orphans.h"
#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GRACE_MS   1000 /* from SIGTERM to SIGKILL */
#define IDLE_MS    5000 /* how often kept connections are looked at */
#define IDLE_NS    (60 * (int64_t)NS_PER_SEC)
#define WELL_NS    (10 * (int64_t)NS_PER_SEC) /* then back-off begins anew */
#define BACK_FIRST 20
#define BACK_MAX   5000
#define N_OWN      8 /* variables that we add */
#define MARK       "CARDEA_BACKEND=1"

/* Where the program may be found. */
struct place {
    struct sockaddr_storage addr;
    socklen_t len;
    int listener; /* ours, that the program inherits; -1: it listens itself */
    int path_fd;  /* listen_unix() */
    int probe;    /* a connection of ours that waits; -1 */
};

struct program {
    const struct program_plan *plan;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ready;
    pid_t pid; /* 0: none */
    int pidfd;
    _Atomic pid_t *group;
    int mark;
    int64_t ready_at;
    int wake; /* eventfd: the watching thread has something to look at */
    atomic_bool suspect, sleeping;
    struct place places[2];
    size_t n_places;
};

static void
fd_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

bool
program_address_is_valid(const char *address)
{
    struct sockaddr_storage addr;
    socklen_t len;

    return listen_parse(address, &addr, &len) == 0;
}

/* ----- places ----- */

static void
places_close(struct program *program)
{
    for (size_t i = 0; i < program->n_places; i++) {
        fd_close(&program->places[i].listener);
        fd_close(&program->places[i].path_fd);
        fd_close(&program->places[i].probe);
    }
    program->n_places = 0;
}

static struct place *
place_add(struct program *program)
{
    struct place *place = &program->places[program->n_places++];

    memset(place, 0, sizeof(*place));
    place->listener = place->path_fd = place->probe = -1;
    return place;
}

/* A socket on descriptor 3, unless secrets are there, and a port that is free
 * now. */
static int
places_http(struct program *program)
{
    struct place *place;
    int fd;

    if (program->plan->inherit->first_closed <= 3) {
        place = place_add(program);
        place->listener = listen_loopback(&place->addr, &place->len);
        if (place->listener < 0) {
            return -1;
        }
    }
    place = place_add(program);
    fd = listen_loopback(&place->addr, &place->len);
    if (fd < 0) {
        return -1;
    }
    close(fd);
    return 0;
}

/* 0 or -1 with errno. */
static int
places_open(struct program *program)
{
    const struct program_plan *plan = program->plan;
    struct place *place;

    if (plan->address == NULL && plan->protocol == PROGRAM_HTTP) {
        return places_http(program);
    }
    place = place_add(program);
    if (plan->address != NULL) {
        return listen_parse(plan->address, &place->addr, &place->len);
    }
    place->listener = listen_unix(getenv("CARDEA_DOOR"), &place->addr,
                                  &place->len, &place->path_fd);
    return place->listener < 0 ? -1 : 0;
}

/* ----- starting ----- */

/* The variables of the program. LISTEN_PID's digits are the child's to write.
 */
struct variables {
    char port[16], listen_pid[32];
    char *list[]; /* ours, then those inherited, NULL */
};

static bool
is_variable(const char *pair, const char *name)
{
    size_t len = strlen(name);

    return strncmp(pair, name, len) == 0 && pair[len] == '=';
}

/* The port that an HTTP program is asked to listen at; 0: none. */
static unsigned
port_of(const struct program *program)
{
    const struct place *place = &program->places[program->n_places - 1];

    if (program->plan->protocol != PROGRAM_HTTP) {
        return 0;
    }
    if (place->addr.ss_family == AF_INET) {
        return ntohs(((const struct sockaddr_in *)&place->addr)->sin_port);
    }
    return place->addr.ss_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)&place->addr)->sin6_port)
               : 0;
}

static struct variables *
variables_new(const struct program *program)
{
    char *const *inherit = program->plan->inherit->env;
    unsigned port = port_of(program);
    struct variables *v;
    size_t n = 0;

    while (inherit[n] != NULL) {
        n++;
    }
    v = calloc(1, sizeof(*v) + (n + N_OWN + 1) * sizeof(char *));
    if (v == NULL) {
        return NULL;
    }
    n = 0;
    v->list[n++] = (char *)(uintptr_t)MARK;
    if (port != 0) {
        snprintf(v->port, sizeof(v->port), "PORT=%u", port);
        v->list[n++] = v->port;
        v->list[n++] = (char *)(uintptr_t) "HOST=127.0.0.1";
    }
    if (program->plan->protocol == PROGRAM_HTTP &&
        program->places[0].listener >= 0) {
        snprintf(v->listen_pid, sizeof(v->listen_pid), "LISTEN_PID=");
        v->list[n++] = v->listen_pid;
        v->list[n++] = (char *)(uintptr_t) "LISTEN_FDS=1";
    }
    for (size_t i = 0; inherit[i] != NULL; i++) {
        if (port == 0 || (!is_variable(inherit[i], "PORT") &&
                          !is_variable(inherit[i], "HOST"))) {
            v->list[n++] = inherit[i];
        }
    }
    return v;
}

/* Digits of a positive NUMBER at AT; only what may run after a fork. */
static void
number_put(char *at, pid_t number)
{
    char digits[16];
    int n = 0;

    for (; number > 0; number /= 10) {
        digits[n++] = (char)('0' + number % 10);
    }
    while (n > 0) {
        *at++ = digits[--n];
    }
    *at = '\0';
}

static void
child_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++) {
        sigaction(sig, &action, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Standard input: the listening socket of FastCGI and SCGI, else nothing. */
static int
child_descriptors(const struct program *program)
{
    bool is_http = program->plan->protocol == PROGRAM_HTTP;
    int listener = program->places[0].listener;
    int first = MAX_OF(program->plan->inherit->first_closed, 3);
    int in = listener >= 0 && !is_http
                 ? listener
                 : open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (in < 0 || dup2(in, 0) < 0) {
        return -1;
    }
    if (is_http && listener >= 0) {
        /* No secrets are there then. */
        if ((listener == 3 && fcntl(3, F_SETFD, 0) < 0) ||
            (listener != 3 && dup2(listener, 3) < 0)) {
            return -1;
        }
        first = 4;
    }
    return close_range((unsigned)first, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* In the child: system calls alone, and its copy of our memory. */
static _Noreturn void
child_main(const struct program *program, struct variables *v, pid_t parent,
           int told)
{
    const struct program_plan *plan = program->plan;
    int error;

    /* TOLD may be 3, which the listening socket is about to become. */
    told = fcntl(told, F_DUPFD_CLOEXEC, 4);
    setpgid(0, 0);
    if (program->group != NULL) {
        atomic_store(program->group, getpid());
    }
    if (getppid() != parent) {
        _exit(127);
    }
    if (v->listen_pid[0] != '\0') {
        number_put(v->listen_pid + 11, getpid());
    }
    if (told >= 0 && child_descriptors(program) == 0 &&
        (plan->folder == NULL || chdir(plan->folder) == 0)) {
        child_signals();
        error = -limits_apply(&plan->inherit->limits);
        if (error == 0) {
            execvpe(plan->argv[0], plan->argv, v->list);
        } else {
            errno = error;
        }
    }
    error = errno;
    if (write(told, &error, sizeof(error)) < 0) {
        _exit(126);
    }
    _exit(127);
}

/* Takes the number out of the table and reaps the process. */
static void
reap(struct program *program, siginfo_t *info)
{
    kill(-program->pid, SIGKILL);
    memset(info, 0, sizeof(*info));
    while (waitid(P_PID, (id_t)program->pid, info, WEXITED) < 0 &&
           errno == EINTR) {
    }
    groups_leave(program->group);
    program->group = NULL;
    pthread_mutex_lock(&program->lock);
    fd_close(&program->pidfd);
    program->pid = 0;
    pthread_mutex_unlock(&program->lock);
    orphans_leave(program->mark);
    program->mark = -1;
}

/* Forks with the lock held. 0 or an errno. */
static int
fork_it(struct program *program, struct variables *v, int told[2])
{
    pid_t parent = getpid(), pid;
    int error = 0;

    pthread_mutex_lock(&program->lock);
    pid = fork();
    if (pid == 0) {
        child_main(program, v, parent, told[1]);
    }
    error = pid < 0 ? errno : 0;
    if (pid > 0) {
        program->pid = pid;
        program->pidfd = pidfd_open(pid, 0);
    }
    pthread_mutex_unlock(&program->lock);
    return error;
}

/* Starts the process. 0; or an errno, and there is none. */
static int
spawn(struct program *program)
{
    CLEAN_FREE struct variables *v = variables_new(program);
    int told[2], error = 0;
    siginfo_t info;

    if (v == NULL || pipe2(told, O_CLOEXEC) < 0) {
        return errno;
    }
    program->mark = orphans_enter(MARK);
    program->group = groups_enter(program->plan->groups);
    error = fork_it(program, v, told);
    close(told[1]);
    if (error != 0) {
        groups_leave(program->group);
        program->group = NULL;
        orphans_leave(program->mark);
    } else if (read(told[0], &error, sizeof(error)) > 0) {
        reap(program, &info);
    } else {
        error = program->pidfd < 0 ? EMFILE : 0;
    }
    close(told[0]);
    return error;
}

/* ----- is it ready? ----- */

/* A connection to PLACE, or -1. */
static int
probe_open(const struct place *place)
{
    int fd = socket(place->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval most = {.tv_sec = 1};

    if (fd < 0) {
        return -1;
    }
    /* SO_SNDTIMEO bounds connect(2) as well. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most)) < 0 ||
        connect(fd, (const struct sockaddr *)&place->addr, place->len) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Has the program answered HEAD with something like HTTP/1.1? */
static bool
http_is_ready(struct place *place)
{
    static const char head[] = "HEAD / HTTP/1.1\r\nHost: localhost\r\n"
                               "User-Agent: cardea-backend\r\n"
                               "Connection: close\r\n\r\n";
    char buf[7];
    ssize_t n;

    if (place->probe < 0) {
        place->probe = probe_open(place);
        if (place->probe >= 0 && send(place->probe, head, sizeof(head) - 1,
                                      MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            fd_close(&place->probe);
        }
        return false;
    }
    n = recv(place->probe, buf, sizeof(buf), MSG_DONTWAIT);
    if (n == sizeof(buf) && memcmp(buf, "HTTP/1.", sizeof(buf)) == 0) {
        return true;
    }
    if (n >= 0 || errno != EAGAIN) {
        fd_close(&place->probe);
    }
    return false;
}

static bool
place_is_ready(const struct program *program, struct place *place)
{
    if (program->plan->protocol == PROGRAM_HTTP) {
        return http_is_ready(place);
    }
    if (place->probe < 0) {
        place->probe = probe_open(place);
    }
    return place->probe >= 0 &&
           (place->listener < 0 || !listen_is_awaited(place->listener));
}

/* The place where it is ready, or NULL. */
static struct place *
place_ready(struct program *program)
{
    for (size_t i = 0; i < program->n_places; i++) {
        if (place_is_ready(program, &program->places[i])) {
            return &program->places[i];
        }
    }
    return NULL;
}

/* Requests go to PLACE from now on; the other one is nobody's. Descriptors of
 * ours that lead to it stay until the program's end. */
static void
ready_set(struct program *program, struct place *place)
{
    for (size_t i = 0; i < program->n_places; i++) {
        fd_close(&program->places[i].probe);
        if (&program->places[i] != place) {
            fd_close(&program->places[i].listener);
        }
    }
    pool_point(program->plan->pool, &place->addr, place->len);
    pthread_mutex_lock(&program->lock);
    program->ready = true;
    program->ready_at = pool_now();
    pthread_cond_broadcast(&program->changed);
    pthread_mutex_unlock(&program->lock);
}

/* Has it ended? Waits MS milliseconds for it. */
static bool
has_ended(const struct program *program, int ms)
{
    struct pollfd p = {.fd = program->pidfd, .events = POLLIN};

    return poll(&p, 1, ms) > 0;
}

static void
say_end(const struct program *program, const siginfo_t *info, const char *when)
{
    const char *name = program->plan->name;

    if (info->si_code == CLD_EXITED) {
        say(name, NULL, "the program exited with status %d%s", info->si_status,
            when);
    } else {
        say(name, NULL, "the program was ended by signal %d (%s)%s",
            info->si_status, strsignal(info->si_status), when);
    }
}

/* Ends what runs. */
static void
end_it(struct program *program)
{
    siginfo_t info;

    kill(-program->pid, SIGTERM);
    kill(-program->pid, SIGCONT);
    has_ended(program, GRACE_MS);
    reap(program, &info);
}

/* 0; or -1, it has been said why, and nothing runs. */
static int
ready_wait(struct program *program)
{
    const struct program_plan *plan = program->plan;
    int64_t deadline = pool_now() + plan->start_ns;
    struct place *place;
    siginfo_t info;
    int pause = 1;

    while ((place = place_ready(program)) == NULL) {
        if (has_ended(program, pause)) {
            reap(program, &info);
            say_end(program, &info, " before it was ready");
            return -1;
        }
        if (pool_now() >= deadline) {
            say(plan->name, NULL, "the program was not ready within %.3g s%s",
                (double)plan->start_ns / (double)NS_PER_SEC,
                plan->argv != NULL ? ": ended" : "");
            if (plan->argv != NULL) {
                end_it(program);
            }
            return -1;
        }
        pause = MIN_OF(pause * 2, 20);
    }
    ready_set(program, place);
    return 0;
}

/* One program, from nothing to ready. 0 or -1, and it was said why. */
static int
start_once(struct program *program)
{
    const struct program_plan *plan = program->plan;
    int error = 0;

    places_close(program);
    if (places_open(program) < 0) {
        say(plan->name, NULL, "no socket for the program: %s", strerror(errno));
        return -1;
    }
    if (plan->argv != NULL) {
        error = spawn(program);
    }
    if (error != 0) {
        say(plan->name, NULL, "cannot run %s: %s", plan->argv[0],
            strerror(error));
        return -1;
    }
    return ready_wait(program);
}

/* ----- the watch ----- */

/* It ended while it was in use: the next one. */
static void
replace(struct program *program, int *p_back)
{
    bool was_well = pool_now() - program->ready_at >= WELL_NS;
    siginfo_t info;

    pthread_mutex_lock(&program->lock);
    program->ready = false;
    pthread_mutex_unlock(&program->lock);
    reap(program, &info);
    say_end(program, &info, ": it is started again");
    *p_back = was_well ? BACK_FIRST : *p_back;
    do {
        poll(NULL, 0, *p_back);
        *p_back = MIN_OF(*p_back * 2, BACK_MAX);
    } while (start_once(program) < 0);
}

/* Is it stopped (SIGSTOP)? Then it serves nobody, and is ended. */
static void
stopped_end(struct program *program)
{
    siginfo_t info = {0};

    if (program->pid == 0 ||
        waitid(P_PID, (id_t)program->pid, &info, WSTOPPED | WNOHANG | WNOWAIT) <
            0 ||
        info.si_pid == 0) {
        return;
    }
    say(program->plan->name, NULL,
        "the program is stopped and a request had no answer: killed");
    kill(-program->pid, SIGKILL);
}

/* How long the watch may sleep, in ms; -1: until it is woken. */
static int
sleep_ms(struct program *program)
{
    struct pool *pool = program->plan->pool;

    atomic_store(&program->sleeping, false);
    if (pool_expire(pool, pool_now() - IDLE_NS) > 0) {
        return IDLE_MS;
    }
    atomic_store(&program->sleeping, true);
    if (pool_expire(pool, 0) > 0) { /* one came in between */
        atomic_store(&program->sleeping, false);
        return IDLE_MS;
    }
    return -1;
}

static _Noreturn void *
watch_main(void *arg)
{
    struct program *program = arg;
    int back = BACK_FIRST;

    for (;;) {
        struct pollfd fds[2] = {{.fd = program->wake, .events = POLLIN},
                                {.fd = program->pidfd, .events = POLLIN}};
        uint64_t n;

        poll(fds, 2, sleep_ms(program));
        if ((fds[0].revents & POLLIN) != 0 &&
            read(program->wake, &n, sizeof(n)) > 0 &&
            atomic_exchange(&program->suspect, false)) {
            stopped_end(program);
        }
        if (fds[1].revents != 0) {
            replace(program, &back);
        }
    }
}

/* Waits for SIGTERM, then ends the program and the process. What is left of the
 * group is killed by the watching process of groups.c. */
static _Noreturn void *
term_main(void *arg)
{
    struct program *program = arg;
    sigset_t set;
    int sig;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    while (sigwait(&set, &sig) != 0) {
    }
    pthread_mutex_lock(&program->lock);
    if (program->pid > 0) {
        kill(-program->pid, SIGTERM);
        kill(-program->pid, SIGCONT);
        has_ended(program, GRACE_MS);
    }
    _exit(0);
}

static int
program_init(struct program *program, const struct program_plan *plan)
{
    pthread_condattr_t attr;
    pthread_t thread;

    program->plan = plan;
    program->pidfd = program->mark = -1;
    program->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&program->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&program->changed, &attr);
    pthread_condattr_destroy(&attr);
    return program->wake < 0 ||
                   pthread_create(&thread, NULL, term_main, program) != 0
               ? -1
               : 0;
}

struct program *
program_start(const struct program_plan *plan)
{
    struct program *program = calloc(1, sizeof(*program));
    pthread_t thread;

    if (program == NULL || program_init(program, plan) < 0) {
        say(plan->name, NULL, "cannot start: %s", strerror(errno));
        free(program);
        return NULL;
    }
    /* The other threads know it from now on: it is never freed. */
    if (start_once(program) < 0) {
        return NULL;
    }
    if (pthread_create(&thread, NULL, watch_main, program) != 0) {
        say(plan->name, NULL, "cannot start: %s", strerror(errno));
        return NULL;
    }
    return program;
}

/* ----- what requests ask ----- */

bool
program_wait(struct program *program, int64_t deadline)
{
    struct timespec ts = {.tv_sec = deadline / (int64_t)NS_PER_SEC,
                          .tv_nsec = deadline % (int64_t)NS_PER_SEC};
    bool ready;

    pthread_mutex_lock(&program->lock);
    while (!program->ready &&
           pthread_cond_timedwait(&program->changed, &program->lock, &ts) !=
               ETIMEDOUT) {
    }
    ready = program->ready;
    pthread_mutex_unlock(&program->lock);
    return ready;
}

static void
wake(struct program *program)
{
    const uint64_t one = 1;

    if (write(program->wake, &one, sizeof(one)) < 0) {
        return; /* it has been woken often enough */
    }
}

void
program_suspect(struct program *program)
{
    atomic_store(&program->suspect, true);
    wake(program);
}

void
program_idle(struct program *program)
{
    if (atomic_exchange(&program->sleeping, false)) {
        wake(program);
    }
}

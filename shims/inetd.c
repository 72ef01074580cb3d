/* cardea-inetd: one command for each connection, which is its standard input
 * and output; or, with --wait, one for a listening socket, which accepts for
 * itself. The command is a plain filter and knows nothing of us, so runner.c
 * bounds its time, orphans.c ends what it leaves, and this file how many are
 * started. See cardea-inetd(8).
 *
 * A connection comes with a call to our door (`forward tcp ... pass`), and the
 * call lasts as long as the command: so Cardea waits for it when it stops, and
 * its log says how long it took. A listening socket is a descriptor that we are
 * started with; the door is there to say that we are ready, and refuses
 * connections. */
#include "groups.h"
#include "inherit.h"
#include "orphans.h"
#include "rate.h"
#include "runner.h"
#include "say.h"
#include "start.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <door.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME         "cardea-inetd"
#define RATE_DEFAULT 256
#define MOST         256 /* commands at once */
#define NUMBER_MAX   1000000
#define LISTENERS    32 /* listening sockets, as descriptors below the next */
#define FD_MAX       128
#define ABOUT_SIZE   80
#define N_OWN        6         /* variables of a connection */
#define DRAIN_MAX    (1 << 18) /* unread bytes that we take away */
/* Without a time of its own a command with a listening socket may stay. */
#define FOREVER_NS   (INT64_MAX / 4)

/* Written once by main(), before there are threads, but for what has the lock.
 */
static struct inetd_setup {
    char *const *argv;
    const char *folder;
    int64_t time_ns; /* 0: none */
    struct inherit inherit;
    size_t n_inherit; /* variables */
    bool is_wait;
    int stop_fd; /* readable when we are to end */
    atomic_bool stopping;
    struct groups *groups;
    pthread_mutex_t lock;
    struct rate rate;
    int64_t told_at; /* when it was said that too many run */
    unsigned running;
    _Atomic uint64_t number;
} setup = {.lock = PTHREAD_MUTEX_INITIALIZER, .stop_fd = -1};

static int64_t
clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
}

/* ----- the bounds ----- */

/* May one more run? Then it is counted, and the caller says when it has
 * ended. */
static bool
enter(void)
{
    int64_t now = clock_now();
    enum rate_verdict verdict = RATE_NO;
    bool tell = false;

    pthread_mutex_lock(&setup.lock);
    if (setup.running >= MOST) {
        tell = now - setup.told_at >= 60 * (int64_t)NS_PER_SEC;
        setup.told_at = tell ? now : setup.told_at;
    } else {
        verdict = rate_take(&setup.rate, now);
        setup.running += verdict == RATE_YES;
    }
    pthread_mutex_unlock(&setup.lock);
    if (tell) {
        say(NAME, NULL,
            "%d commands run at once: more connections are closed (said once "
            "a minute)",
            MOST);
    }
    if (verdict == RATE_NO_FIRST) {
        say(NAME, NULL,
            "more than %" PRIu64 " starts within a minute: none until it is "
            "over",
            setup.rate.max);
    }
    return verdict == RATE_YES;
}

static void
leave(void)
{
    pthread_mutex_lock(&setup.lock);
    setup.running--;
    pthread_mutex_unlock(&setup.lock);
}

/* ----- one command ----- */

/* The variables of one command, and room for those of its connection: the names
 * are those that ucspi-tcp gave them. */
struct variables {
    char own[N_OWN][INET6_ADDRSTRLEN + 40];
    char *list[]; /* n_inherit, own, NULL */
};

/* An address as text and the port; "" for one without. */
static int
address_text(const struct sockaddr_storage *addr, char text[INET6_ADDRSTRLEN])
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;

    text[0] = '\0';
    if (addr->ss_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, text, INET6_ADDRSTRLEN);
        return ntohs(in->sin_port);
    }
    if (addr->ss_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, text,
                      INET6_ADDRSTRLEN);
        } else {
            inet_ntop(AF_INET6, &in6->sin6_addr, text, INET6_ADDRSTRLEN);
        }
        return ntohs(in6->sin6_port);
    }
    return 0;
}

/* The addresses of both ends of FD into VARS from number I on; ABOUT for log
 * lines. */
static int
describe(int fd, struct variables *vars, int i, char about[ABOUT_SIZE])
{
    struct sockaddr_storage ends[2] = {{0}, {0}};
    socklen_t len = sizeof(ends[0]);
    char local[INET6_ADDRSTRLEN], peer[INET6_ADDRSTRLEN];
    int local_port, peer_port;

    if (getsockname(fd, (struct sockaddr *)&ends[0], &len) < 0) {
        ends[0].ss_family = AF_UNSPEC;
    }
    len = sizeof(ends[1]);
    if (getpeername(fd, (struct sockaddr *)&ends[1], &len) < 0) {
        ends[1].ss_family = AF_UNSPEC;
    }
    local_port = address_text(&ends[0], local);
    peer_port = address_text(&ends[1], peer);
    if (local[0] == '\0') {
        snprintf(vars->own[i++], sizeof(vars->own[0]), "PROTO=UNIX");
        snprintf(about, ABOUT_SIZE, "a client of a Unix socket");
        return i;
    }
    snprintf(vars->own[i++], sizeof(vars->own[0]), "PROTO=TCP");
    snprintf(vars->own[i++], sizeof(vars->own[0]), "TCPLOCALIP=%s", local);
    snprintf(vars->own[i++], sizeof(vars->own[0]), "TCPLOCALPORT=%d",
             local_port);
    if (peer[0] == '\0') {
        snprintf(about, ABOUT_SIZE, "port %d", local_port);
        return i;
    }
    snprintf(vars->own[i++], sizeof(vars->own[0]), "TCPREMOTEIP=%s", peer);
    snprintf(vars->own[i++], sizeof(vars->own[0]), "TCPREMOTEPORT=%d",
             peer_port);
    snprintf(about, ABOUT_SIZE, "%s port %d", peer, peer_port);
    return i;
}

/* NULL: no memory. Freed with free(). */
static struct variables *
variables_new(int fd, char about[ABOUT_SIZE])
{
    struct variables *vars =
        calloc(1, sizeof(*vars) +
                      (setup.n_inherit + N_OWN + 1) * sizeof(vars->list[0]));
    int n;

    if (vars == NULL) {
        return NULL;
    }
    snprintf(vars->own[0], sizeof(vars->own[0]),
             "CARDEA_CONNECTION=%d-%" PRIu64, (int)getpid(),
             atomic_fetch_add(&setup.number, 1));
    n = describe(fd, vars, 1, about);
    memcpy(vars->list, setup.inherit.env,
           setup.n_inherit * sizeof(vars->list[0]));
    for (int i = 0; i < n; i++) {
        vars->list[setup.n_inherit + (size_t)i] = vars->own[i];
    }
    return vars;
}

static int
is_stopping(void *arg)
{
    return atomic_load(&setup.stopping);
}

static void
tell_end(const struct runner_result *res, const char *about)
{
    if (res->end == RUNNER_FAILED) {
        say(NAME, about, "cannot run %s: %s", setup.argv[0],
            strerror(res->error));
    } else if (res->end == RUNNER_LATE) {
        say(NAME, about, "the command was killed: its time was over");
    } else if (res->signal != 0 && res->end == RUNNER_EXITED) {
        say(NAME, about, "the command was ended by signal %d (%s)", res->signal,
            strsignal(res->signal));
    } else if (res->exit_code != 0 && res->end == RUNNER_EXITED) {
        say(NAME, about, "the command exited with status %d", res->exit_code);
    }
}

/* Runs the command on FD, until its end and that of all that it started. */
static void
command_run(int fd)
{
    char about[ABOUT_SIZE];
    CLEAN_FREE struct variables *vars = variables_new(fd, about);
    struct say_stream err = {.name = NAME, .about = about};
    struct runner_result res;
    struct runner_plan plan = {
        .argv = setup.argv,
        .folder = setup.folder,
        .limits = &setup.inherit.limits,
        .first_closed = setup.inherit.first_closed,
        .has_fd = true,
        .fd = fd,
        .time_ns = setup.time_ns > 0 ? setup.time_ns : FOREVER_NS,
        .gone = setup.is_wait ? is_stopping : NULL,
        .err = say_stream_add,
        .err_arg = &err,
    };
    int place;

    if (vars == NULL) {
        say(NAME, NULL, "no memory: a connection is closed");
        return;
    }
    plan.envp = vars->list;
    place = orphans_enter(vars->own[0]);
    plan.group = groups_enter(setup.groups);
    runner_run(&plan, &res);
    groups_leave(plan.group);
    orphans_leave(place);
    say_stream_end(&err);
    tell_end(&res, about);
    runner_result_clear(&res);
}

/* ----- a command for each connection ----- */

/* What the client sent and nobody read would make the close a reset, and that
 * takes away what the client has not read yet. */
static void
drain(int fd)
{
    char bytes[4096];
    int left = DRAIN_MAX;
    ssize_t n;

    shutdown(fd, SHUT_WR);
    do {
        n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        left -= (int)MAX_OF(n, 0);
    } while (n > 0 && left > 0);
}

static void
connection_serve(int fd)
{
    if (!enter()) {
        close(fd);
        return;
    }
    command_run(fd);
    drain(fd);
    close(fd);
    leave();
}

/* The door's procedure. Its descriptor would pass an exec; runner.c sees to
 * that. */
static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    int fd = -1, type = 0, is_listening = 1;
    socklen_t len = sizeof(type);

    for (unsigned int i = 0; i < n_desc; i++) {
        if (fd >= 0) {
            close(fd); /* more than one is none of Cardea's */
        }
        fd = dp[i].d_data.d_desc.d_descriptor;
    }
    if (n_desc == 1 && !setup.is_wait &&
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
        type == SOCK_STREAM &&
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) == 0 &&
        !is_listening) {
        connection_serve(fd);
    } else if (fd >= 0) {
        close(fd);
    }
    door_return(NULL, 0, NULL, 0);
}

/* ----- a command for a listening socket ----- */

/* Waits for FD (-1: for nothing) until the time AT (0: for ever). False: we are
 * to end. */
static bool
wait_for(int fd, int64_t at)
{
    struct pollfd fds[2] = {{.fd = setup.stop_fd, .events = POLLIN},
                            {.fd = fd, .events = POLLIN}};

    for (;;) {
        int64_t left = at != 0 ? at - clock_now() : -1;
        int n;

        if (at != 0 && left <= 0) {
            return true;
        }
        n = poll(fds, 2, at != 0 ? (int)(left / (int64_t)NS_PER_MS + 1) : -1);
        if (n > 0 && fds[0].revents != 0) {
            return false;
        }
        if (n > 0) {
            return true;
        }
    }
}

/* One listening socket: waits for a connection without taking it, runs the
 * command, and again. */
static void *
listener_main(void *arg)
{
    int fd = (int)(intptr_t)arg;

    while (wait_for(fd, 0)) {
        if (enter()) {
            /* The command may be one that blocks in accept(2). */
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
            command_run(fd);
            leave();
        } else if (!wait_for(-1, setup.rate.ends_at)) {
            break;
        }
    }
    return NULL;
}

static void
on_term(int sig)
{
    int before = errno;
    const uint64_t one = 1;

    atomic_store(&setup.stopping, true);
    if (write(setup.stop_fd, &one, sizeof(one)) < 0) {
        _exit(1); /* cannot be: its counter is far from full */
    }
    errno = before;
}

static bool
is_listening(int fd)
{
    int value = 0;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) == 0 &&
           value;
}

/* Serves all listening sockets that we were started with, until SIGTERM. The
 * exit status. */
static int
listeners_serve(const int *fds, size_t n)
{
    pthread_t threads[LISTENERS];

    for (size_t i = 0; i < n; i++) {
        int rc = pthread_create(&threads[i], NULL, listener_main,
                                (void *)(intptr_t)fds[i]);

        if (rc != 0) {
            say(NAME, NULL, "cannot start: %s", strerror(rc));
            return 1;
        }
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}

/* ----- the start ----- */

/* As cardea_serve_threads(3) does for its programs. */
static int
door_serve(void)
{
    const char *path = getenv("CARDEA_DOOR");
    struct stat st;
    int d;

    if (path == NULL || path[0] == '\0') {
        say(NAME, NULL,
            "no CARDEA_DOOR: start it by `cardea run`, or set CARDEA_DOOR to "
            "a path for its door");
        return 1;
    }
    d = door_create(procedure, NULL, 0);
    if (d >= 0 && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        unlink(path);
    }
    if (d < 0 || door_attach(d, path, 0600) < 0) {
        say(NAME, NULL, "cannot serve a door at %s: %s", path, strerror(errno));
        return 1;
    }
    return 0;
}

static int
serve(void *arg)
{
    int fds[LISTENERS];
    size_t n = 0;
    int rc;

    /* Before the door: its descriptors are not among those. */
    for (int fd = 3; setup.is_wait && fd < FD_MAX; fd++) {
        if (n < LISTENERS && is_listening(fd)) {
            fcntl(fd, F_SETFD, FD_CLOEXEC);
            fds[n++] = fd;
        }
    }
    if (setup.is_wait && n == 0) {
        say(NAME, NULL, "--wait: no listening socket among the descriptors");
        return 1;
    }
    rc = door_serve();
    if (rc != 0) {
        return rc;
    }
    if (setup.is_wait) {
        return listeners_serve(fds, n);
    }
    for (;;) {
        pause();
    }
}

static int
usage(const char *why)
{
    say(NAME, NULL, "%s", why);
    say(NAME, NULL,
        "usage: cardea-inetd [--wait] [--rate N] [--timeout SECONDS] "
        "[--folder FOLDER] -- COMMAND [ARGUMENT ...]");
    return START_EXIT_USAGE;
}

static int
process_prepare(void)
{
    struct sigaction action = {.sa_handler = on_term};

    setup.told_at = INT64_MIN / 2;
    if (start_process() < 0 || inherit_read(&setup.inherit) < 0) {
        return -1;
    }
    while (setup.inherit.env[setup.n_inherit] != NULL) {
        setup.n_inherit++;
    }
    setup.groups = groups_start();
    if (setup.groups == NULL || !setup.is_wait) {
        return setup.groups == NULL ? -1 : 0;
    }
    setup.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return setup.stop_fd < 0 ? -1 : sigaction(SIGTERM, &action, NULL);
}

static uint64_t
number_parse(const char *text)
{
    uint64_t n = 0;

    for (const char *at = text; *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || n > NUMBER_MAX) {
            return 0;
        }
        n = n * 10 + (uint64_t)(*at - '0');
    }
    return n > NUMBER_MAX ? 0 : n;
}

/* Reads the options. 0, or an exit status after a sentence. */
static int
options_read(int argc, char **argv)
{
    static const struct option options[] = {
        {"wait", no_argument, NULL, 'w'},
        {"rate", required_argument, NULL, 'r'},
        {"timeout", required_argument, NULL, 't'},
        {"folder", required_argument, NULL, 'f'},
        {0},
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (c == 'w') {
            setup.is_wait = true;
        } else if (c == 'r') {
            setup.rate.max = number_parse(optarg);
        } else if (c == 't') {
            setup.time_ns = start_seconds(optarg);
        } else if (c == 'f') {
            setup.folder = optarg;
        } else {
            return usage("unknown option, or one without its value");
        }
    }
    if (setup.rate.max == 0) {
        return usage("--rate wants a number from 1 to 1000000");
    }
    if (setup.time_ns < 0) {
        return usage("--timeout wants seconds, more than 0, at most 86400");
    }
    return optind >= argc ? usage("no command") : 0;
}

int
main(int argc, char **argv)
{
    int rc;

    setup.rate.max = RATE_DEFAULT;
    rc = options_read(argc, argv);
    if (rc != 0) {
        return rc;
    }
    rc = start_folder(NAME, setup.folder);
    if (rc != 0) {
        return rc;
    }
    setup.argv = argv + optind;
    if (process_prepare() < 0) {
        say(NAME, NULL, "cannot start: %s", strerror(errno));
        return 1;
    }
    rc = orphans_serve(setup.groups, serve, NULL);
    say(NAME, NULL, "cannot start: %s", strerror(errno));
    return rc;
}

/* A keeper in a process of its own, for tests of it: modules that are shells or
 * the test program itself (--door: a thing that listens), and its log read as
 * an operator reads it. Every wait has an end (20 s) and ends as soon as the
 * expected line is there. */
#pragma once

#include "cohort/keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "conf/conf.h"
#include "front/worker.h"

/* What a worker does, as the test wants it: MANNER of server_new() comes to it
 * as the configuration's body limit. */
int fake_worker(const struct worker_setup *setup);

static inline void
tell(const struct worker_setup *setup, uint32_t kind, uint32_t target,
     uint32_t cause)
{
    struct worker_message m = {.kind = kind, .target = target, .cause = cause};

    if (write(setup->say_fd, &m, sizeof(m)) < 0) {
        _exit(9);
    }
}

/* --- A door and a way to it -------------------------------------------- */

static inline void
fill_un(struct sockaddr_un *un, const char *path)
{
    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path, sizeof(un->sun_path), "%.100s", path);
}

static inline int
stand_in_dial(int folder_fd, const char *path)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un un;

    fill_un(&un, path);
    if (folder_fd >= 0) {
        snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/%.60s",
                 folder_fd, path);
    }
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* A server that accepts and keeps; what a module runs with --door. */
static inline int
serve_door(void)
{
    const char *path = getenv("CARDEA_DOOR");
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    struct sockaddr_un un;

    if (path == NULL) {
        return 2;
    }
    fill_un(&un, path);
    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ||
        listen(fd, 16) < 0) {
        perror("door");
        return 3;
    }
    printf("door at %s of %s\n", path, getenv("CARDEA_MODULE"));
    fflush(stdout);
    for (;;) {
        if (accept(fd, NULL, NULL) < 0) {
            return 4;
        }
    }
}

/* --- A running keeper ---------------------------------------------------- */

struct server {
    struct conf conf;
    struct conf_listen listen;
    struct conf_module modules[2];
    struct conf_target targets[1];
    char top[64];
    char run_folder[96];
    char state_folder[96];
    pid_t pid;
    int log_fd, out_fd;
    char log[1 << 18]; /* all of it so far */
    size_t log_len;
    const char *shim;
    int max_workers;
    bool not_alone; /* another one runs meanwhile */
    char out[4096];
};

static char self[4096];
static char door_flag[] = "--door";
static char standard_folder[] = "/";

static inline void
add_module(struct server *s, const char *name, char **argv)
{
    struct conf_module *m = &s->modules[s->conf.n_modules++];

    m->name = strdup(name);
    m->argv = argv;
    m->folder = standard_folder;
    m->timeout_ns = 30000000000ull;
    s->conf.modules = s->modules;
}

static inline void
add_door(struct server *s)
{
    static char *argv[] = {self, door_flag, NULL};

    add_module(s, "hello", argv);
    s->targets[0].kind = CONF_TARGET_MODULE;
    s->targets[0].module = s->conf.n_modules - 1;
    s->conf.targets = s->targets;
    s->conf.n_targets = 1;
}

static inline struct server *
server_new(int manner)
{
    static char file[] = "/nowhere/test.conf";
    static char text[] = "127.0.0.1:0";
    struct server *s = calloc(1, sizeof(*s));
    struct sockaddr_in *in = (struct sockaddr_in *)&s->listen.addr;

    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->listen.addr_len = sizeof(*in);
    s->listen.text = text;
    s->conf.listens = &s->listen;
    s->conf.n_listens = 1;
    s->conf.file = file;
    s->conf.folder = standard_folder;
    s->conf.grace_ns = 3000000000ull;
    s->conf.body_limit = (uint64_t)manner;
    s->max_workers = 2;
    snprintf(s->top, sizeof(s->top), "/tmp/test-keeper-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    snprintf(s->run_folder, sizeof(s->run_folder), "%s/run", s->top);
    s->conf.run_folder = s->run_folder;
    snprintf(s->state_folder, sizeof(s->state_folder), "%s/state", s->top);
    s->conf.state_folder = s->state_folder;
    return s;
}

static inline void
server_start(struct server *s)
{
    int log[2];
    int out[2];

    assert_int_equal(pipe2(log, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    fflush(NULL);
    s->pid = fork();
    if (s->pid == 0) {
        static struct server *keep; /* what exit() finds in use */

        keep = s;
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* after a test that failed */
        struct keeper_options options = {
            .worker = fake_worker,
            .dial = stand_in_dial,
            .out_fd = out[1],
            .log_fd = log[1],
            .max_workers = s->max_workers,
            .shim = s->shim,
        };

        exit(keeper_run(&keep->conf, &options)); /* with the leak check */
    }
    close(log[1]);
    close(out[1]);
    s->log_fd = log[0];
    s->out_fd = out[0];
    s->log_len = 0;
    s->log[0] = '\0';
}

static inline uint64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Reads more log; false at its end or when there was none until DEADLINE. */
static inline bool
read_log(struct server *s, uint64_t deadline)
{
    struct pollfd in = {s->log_fd, POLLIN, 0};
    uint64_t now = now_ms();
    ssize_t n;

    if (poll(&in, 1, now < deadline ? (int)(deadline - now) : 0) <= 0) {
        return false;
    }
    n = read(s->log_fd, s->log + s->log_len, sizeof(s->log) - 1 - s->log_len);
    if (n <= 0) {
        return false;
    }
    s->log_len += (size_t)n;
    s->log[s->log_len] = '\0';
    return true;
}

/* The first line behind FROM that has all words of FORMAT's blank-separated
 * list; waits for it. */
static inline const char *
wait_line(struct server *s, const char *from, const char *words)
{
    uint64_t deadline = now_ms() + 20000;

    if (from == NULL) {
        from = s->log;
    }
    for (;;) {
        const char *line = from;
        const char *end;

        for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            char copy[512];
            char *rest = NULL;
            bool all = true;

            snprintf(copy, sizeof(copy), "%s", words);
            for (char *w = strtok_r(copy, " ", &rest); w != NULL && all;
                 w = strtok_r(NULL, " ", &rest)) {
                const char *at = strstr(line, w);

                all = at != NULL && at < end;
            }
            if (all) {
                return line;
            }
        }
        if (!read_log(s, deadline)) {
            fprintf(stderr, "no line with: %s\nin:\n%s\n", words, s->log);
            fail();
        }
    }
}

static inline const char *
wait_ready(struct server *s)
{
    size_t len = 0;

    wait_line(s, NULL, "event=ready took_ms= workers=");
    while (len == 0 || s->out[len - 1] != '\n') {
        ssize_t n = read(s->out_fd, s->out + len, sizeof(s->out) - 1 - len);

        assert_true(n > 0);
        len += (size_t)n;
    }
    s->out[len] = '\0';
    return s->out;
}

static inline pid_t
pid_in(const char *line)
{
    const char *at = strstr(line, " pid=");

    assert_non_null(at);
    return (pid_t)strtol(at + 5, NULL, 10);
}

static inline void
server_free(struct server *s)
{
    close(s->log_fd);
    close(s->out_fd);
    for (size_t i = 0; i < s->conf.n_modules; i++) {
        free(s->modules[i].name);
    }
    free(s);
}

/* Waits for the keeper's end; nothing may be left of it. Frees S. */
static inline void
server_end(struct server *s, int want)
{
    int status;

    while (read_log(s, now_ms() + 20000)) {
    }
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != want) {
        fprintf(stderr, "status %x\n%s\n", (unsigned)status, s->log);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), want);
    for (const char *at = s->log; (at = strstr(at, "event=start ")) != NULL;
         at++) {
        assert_int_equal(kill(-pid_in(at), 0), -1);
        assert_int_equal(errno, ESRCH);
    }
    /* We are a subreaper: an orphan would have become our child. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), s->not_alone ? 0 : -1);
    assert_int_equal(access(s->run_folder, F_OK), -1);
    assert_int_equal(rmdir(s->top), 0);
    server_free(s);
}

/* The whole of a test program, which is also the program of its modules. */
static inline int
test_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n)
{
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (argc > 1 && strcmp(argv[1], "--door") == 0) {
        return serve_door();
    }
    self[len > 0 ? len : 0] = '\0';
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setenv("PATH", "/usr/bin:/bin", 1);
    return _cmocka_run_group_tests("keeper", tests, n, NULL, NULL);
}

/* The keeper's whole life, from the first allocation to the last reaping, with
 * each call for memory or a descriptor failing once: either the start fails
 * with a sentence and 1, or it gets ready all the same and ends as asked. The
 * sanitizer looks for leaks at each end. */
#include "cohort/keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/test-scarce.h"
#include "base/util.h"
#include "cohort/runfolder.h"
#include "cohort/sink.h"
#include "cohort/statefolder.h"
#include "conf/conf.h"
#include "door/copy_output.h"
#include "front/worker.h"

static int
good_worker(const struct worker_setup *setup)
{
    struct worker_message m = {.kind = WORKER_READY};

    if (write(setup->say_fd, &m, sizeof(m)) < 0) {
        return 9;
    }
    do {
        struct pollfd p = {.fd = setup->control_fd, .events = POLLIN};
        ssize_t n = poll(&p, 1, -1) == 1
                        ? recv(setup->control_fd, &m, sizeof(m), 0)
                        : -1;
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            return 0; /* the keeper is gone */
        }
        if (m.kind == WORKER_LOOK) {
            m.kind = WORKER_LOOKED;
            (void)!write(setup->say_fd, &m, sizeof(m));
        }
    } while (m.kind != WORKER_STOP && m.kind != WORKER_NOW);
    return 0;
}

/* Something that can be sent to a worker as a door's connection, once the
 * module below has come so far. */
static int
any_door(int folder_fd, const char *path)
{
    if (faccessat(folder_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

struct site {
    struct conf conf;
    struct conf_listen listen;
    struct conf_module module;
    struct conf_target target;
    char top[64], run[96], state[96];
};

static char file[] = "/nowhere/test.conf", folder[] = "/",
            text[] = "127.0.0.1:0";
static char name[] = "mute", self[4096], ask[] = "--ask";
static char *argv[] = {self, ask, NULL};

/* The module: asks for pipes of its own as a copy does, begins a line, makes
 * what passes for its door, and stays. */
static int
be_module(void)
{
    const char *path = getenv("CARDEA_OUTPUT"), *door = getenv("CARDEA_DOOR");

    copy_output_ask(path);
    if (write(1, "half a line", 11) < 0 || door == NULL ||
        symlink("nowhere", door) < 0) {
        return 2;
    }
    for (;;) {
        pause();
    }
}

static void
site_make(struct site *s)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&s->listen.addr;

    memset(s, 0, sizeof(*s));
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->listen.addr_len = sizeof(*in);
    s->listen.text = text;
    s->module.name = name;
    s->module.argv = argv;
    s->module.folder = folder;
    s->module.timeout_ns = NS_PER_SEC;
    s->target.kind = CONF_TARGET_MODULE;
    s->conf.listens = &s->listen;
    s->conf.n_listens = 1;
    s->conf.modules = &s->module;
    s->conf.n_modules = 1;
    s->conf.targets = &s->target;
    s->conf.n_targets = 1;
    s->conf.file = file;
    s->conf.folder = folder;
    s->conf.grace_ns = NS_PER_SEC;
    snprintf(s->top, sizeof(s->top), "/tmp/test-scarce-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    snprintf(s->run, sizeof(s->run), "%s/run", s->top);
    snprintf(s->state, sizeof(s->state), "%s/state", s->top);
    s->conf.run_folder = s->run;
    s->conf.state_folder = s->state;
}

/* In the child: the keeper's status, and 16 if a call has failed. */
static void __attribute__((noreturn))
be_keeper(const struct site *s, long n, int log_fd, int out_fd)
{
    struct keeper_options options = {
        .worker = good_worker,
        .dial = any_door,
        .out_fd = out_fd,
        .log_fd = log_fd,
        .max_workers = 1,
    };

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    scarce_begin(n);
    int status = keeper_run(&s->conf, &options);
    exit(status + (scarce_end() ? 16 : 0)); /* through the leak check */
}

/* Asks the keeper of S for its status by its control socket; what it answered
 * is in *P_FIRST and *P_LAST: the first four bytes and the last two. false:
 * closed without a word. */
static bool
ask_status(const struct site *s, char first[5], char *p_last)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    static const char request[] = "status json\n";
    char bytes[4096];
    ssize_t n;
    size_t len = 0;
    int fd = __real_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s/control", s->run);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
        close(fd); /* the start goes on without a control socket */
        return false;
    }
    send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
        if (len == 0) {
            snprintf(first, 5, "%.4s", bytes);
        }
        len += (size_t)n;
        *p_last = bytes[n - 1];
    }
    close(fd);
    return len > 0;
}

/* Asks until it gets a whole answer; once it may get none, or another. */
static bool
ask_all(const struct site *s)
{
    for (int i = 0; i < 2; i++) {
        char first[5] = "", last = 0;
        if (ask_status(s, first, &last) && strncmp(first, "ok\n{", 4) == 0 &&
            last == '\n') {
            return true;
        }
    }
    return false;
}

static time_t
now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

/* Runs one life; true: a call had failed. What it said is in SAID. *P_ASKED is
 * counted up where it answered on its control socket. */
static bool
live(const struct site *s, long n, char said[65536], int *p_asked)
{
    struct pollfd fds[2] = {{.events = POLLIN}, {.events = POLLIN}};
    int log[2], out[2], status, open_ends = 2, asked = 0;
    size_t len = 0;
    time_t end = now_s() + 40;

    assert_int_equal(__real_pipe2(log, O_CLOEXEC), 0);
    assert_int_equal(__real_pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(log[0]);
        close(out[0]);
        be_keeper(s, n, log[1], out[1]);
    }
    close(log[1]);
    close(out[1]);
    fds[0].fd = out[0];
    fds[1].fd = log[0];
    while (open_ends > 0) {
        if (poll(fds, 2, 40000) == 0 || now_s() > end) {
            kill(pid, SIGKILL);
            said[len] = '\0';
            fail_msg("n=%ld: neither ready nor at an end\n%s", n, said);
        }
        char line[4096];
        if (fds[0].revents != 0) {
            if (read(out[0], line, sizeof(line)) > 0) { /* it is ready */
                asked += ask_all(s);
                kill(pid, SIGTERM);
            } else {
                open_ends--;
                fds[0].fd = -1;
            }
        }
        if (fds[1].revents != 0) {
            ssize_t got = read(log[0], line, sizeof(line));
            if (got <= 0) {
                open_ends--;
                fds[1].fd = -1;
            } else if (len + (size_t)got < 65536) {
                memcpy(said + len, line, (size_t)got);
                len += (size_t)got;
            }
        }
    }
    said[len] = '\0';
    close(log[0]);
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) & 15) > 1) {
        fail_msg("n=%ld: status %#x\n%s", n, (unsigned)status, said);
    }
    if ((WEXITSTATUS(status) & 15) == 1 && strstr(said, "cardea: ") == NULL) {
        fail_msg("n=%ld: failed without a word\n%s", n, said);
    }
    assert_null(strstr(said, "Sanitizer"));
    /* Only without the socket is nobody answered, and that is said. */
    if (WEXITSTATUS(status) % 16 == 0 && asked == 0 &&
        strstr(said, "event=control-missing") == NULL) {
        fail_msg("n=%ld: no status\n%s", n, said);
    }
    *p_asked += asked;
    return (WEXITSTATUS(status) & 16) != 0;
}

static void
test_life(void **state)
{
    static char said[65536];
    struct site s;
    long n = 0;
    int failed = 0, ready = 0, asked = 0, untold = 0;

    site_make(&s);
    do {
        n++;
        bool was_short = live(&s, n, said, &asked);
        if (strstr(said, "event=end cause=stopped") != NULL) {
            ready++;
            untold +=
                strstr(said, "stream=stdout text=\"half a line\"") != NULL;
        } else {
            failed++;
        }
        if (!was_short) {
            break;
        }
    } while (n < 1000);
    print_message("# keeper: %ld calls, %d starts failed, %d lived on, %d told "
                  "their status, %d lines without a pid\n",
                  n - 1, failed, ready, asked, untold);
    assert_in_range(n, 20, 500);
    assert_true(failed > 5 && ready > 5 && asked > 5);
    /* Its memory, two pipes, three watches: the line came without. */
    assert_true(untold >= 6);
    assert_non_null(strstr(said, "module=mute stream=stdout pid="));
    assert_non_null(strstr(said, "text=\"half a line\""));
    /* Nothing of the last life lies about. */
    assert_int_equal(access(s.run, F_OK), -1);
    rmdir(s.state);
    assert_int_equal(rmdir(s.top), 0);
}

/* ---- parts of it by themselves ---- */

static void
test_sink(void **state)
{
    struct sink *sink = __real_calloc(1, sizeof(*sink));
    int ends[2], before;
    bool was_short = true;
    long n;

    assert_int_equal(__real_pipe2(ends, O_CLOEXEC), 0);
    before = scarce_count_fds();
    for (n = 1; n < 100 && was_short; n++) {
        scarce_begin(n);
        int rc = sink_init(sink, ends[1]);
        was_short = scarce_end();
        assert_int_equal(rc, was_short ? -ENOMEM : 0);
        sink_deinit(sink);
        assert_int_equal(scarce_count_fds(), before);
    }
    print_message("# sink: %ld\n", n - 2);
    assert_int_equal(n, 3);
    close(ends[0]);
    close(ends[1]);
    free(sink);
}

/* Folders ask for descriptors by open(2), which libc's own calls and
 * tests/test_inject.py make fail; what is left to fail is memory for the list
 * of what lies in one. */
static void
test_folders(void **state)
{
    static char said[256];
    struct site s;
    bool was_short = true;
    long n;

    site_make(&s);
    int before = scarce_count_fds();
    for (n = 1; n < 100 && was_short; n++) {
        struct runfolder run;
        struct statefolder kept;
        scarce_begin(n);
        int rc = runfolder_open(&run, &s.conf, said, sizeof(said));
        assert_true(rc == 0 || (scarce_end() && said[0] != '\0'));
        if (rc == 0) {
            runfolder_module(&run, name, NULL);
            rc = statefolder_open(&kept, &s.conf, said, sizeof(said));
            if (rc == 0) {
                statefolder_module(&kept, name, NULL);
                statefolder_close(&kept, &s.conf);
            }
            runfolder_remove(&run);
        }
        was_short = scarce_end();
        assert_int_equal(scarce_count_fds(), before);
        if (!was_short) {
            assert_int_equal(access(s.run, F_OK), -1);
        }
    }
    print_message("# folders: %ld\n", n - 2);
    assert_in_range(n, 2, 20);
    rmdir(s.state);
    assert_int_equal(rmdir(s.top), 0);
}

int
main(int argc, char **args)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_sink),
        cmocka_unit_test(test_folders),
    };
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    self[n > 0 ? n : 0] = '\0';
    if (argc > 1 && strcmp(args[1], ask) == 0) {
        return be_module();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

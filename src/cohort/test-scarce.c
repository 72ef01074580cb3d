/* The keeper's whole life, from the first allocation to the last reaping, with
 * each call for memory or a descriptor failing once: either the start fails
 * with a sentence and 1, or it gets ready all the same and ends as asked. The
 * sanitizer looks for leaks at each end. */
#include "cohort/keeper.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/test-scarce.h"
#include "base/util.h"
#include "cohort/sink.h"
#include "conf/conf.h"
#include "front/worker.h"

static int
good_worker(const struct worker_setup *setup)
{
    struct worker_message m = {.kind = WORKER_READY};

    if (send(setup->control_fd, &m, sizeof(m), MSG_NOSIGNAL) < 0) {
        return 9;
    }
    do {
        if (recv(setup->control_fd, &m, sizeof(m), 0) <= 0) {
            return 0; /* the keeper is gone */
        }
    } while (m.kind != WORKER_STOP && m.kind != WORKER_NOW);
    return 0;
}

/* Something that can be sent to a worker as a door's connection. */
static int
any_door(const char *path)
{
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
static char name[] = "mute", sleep_path[] = "/bin/sleep", forever[] = "1000";
static char *argv[] = {sleep_path, forever, NULL};

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

/* Runs one life; true: a call had failed. What it said is in SAID. */
static bool
live(const struct site *s, long n, char said[65536])
{
    struct pollfd fds[2] = {{.events = POLLIN}, {.events = POLLIN}};
    int log[2], out[2], status, open_ends = 2;
    size_t len = 0;

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
    while (open_ends > 0 && poll(fds, 2, 40000) > 0) {
        char line[4096];
        if (fds[0].revents != 0) {
            if (read(out[0], line, sizeof(line)) > 0) {
                kill(pid, SIGTERM); /* it is ready */
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
    return (WEXITSTATUS(status) & 16) != 0;
}

static void
test_life(void **state)
{
    static char said[65536];
    struct site s;
    long n = 0;
    int failed = 0, ready = 0;

    site_make(&s);
    do {
        n++;
        bool was_short = live(&s, n, said);
        if (strstr(said, "event=end cause=stopped") != NULL) {
            ready++;
        } else {
            failed++;
        }
        if (!was_short) {
            break;
        }
    } while (n < 1000);
    print_message("# keeper: %ld calls, %d starts failed, %d lived on\n", n - 1,
                  failed, ready);
    assert_in_range(n, 20, 500);
    assert_true(failed > 5 && ready > 5);
    /* Nothing of the last life lies about. */
    assert_int_equal(access(s.run, F_OK), -1);
    rmdir(s.state);
    assert_int_equal(rmdir(s.top), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The runner against real scripts that behave well, badly and worse. Times are
 * upper bounds only, wide enough for a sanitizer on a busy machine; nothing
 * sleeps for a fixed time. */
#include "groups.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000000ll

static char *environ_plain[] = {"PATH=/usr/bin:/bin", "GREETING=hello", NULL};

struct script {
    char *argv[4];
    struct runner_plan plan;
};

static struct runner_plan *
script(struct script *s, const char *text, int64_t time_ns)
{
    s->argv[0] = "/bin/sh";
    s->argv[1] = "-c";
    s->argv[2] = (char *)text;
    s->argv[3] = NULL;
    s->plan = (struct runner_plan){
        .argv = s->argv,
        .envp = environ_plain,
        .out_max = 16 << 20,
        .time_ns = time_ns,
    };
    return &s->plan;
}

static int64_t
now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 * MS + ts.tv_nsec;
}

static int
fds_open(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

/* Waits until process PID is no more, or a zombie that its new parent has not
 * reaped yet; fails after 10 s. */
static void
assert_gone(pid_t pid)
{
    int64_t end = now_ns() + 10000 * MS;
    char path[64], line[256];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    while (now_ns() < end) {
        FILE *f = fopen(path, "r");
        char *paren;

        if (f == NULL) {
            return;
        }
        paren = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
        fclose(f);
        if (paren == NULL || paren[2] == 'Z') {
            return;
        }
        poll(NULL, 0, 1);
    }
    fail_msg("process %d lives", (int)pid);
}

static void
output_and_environment(void **state)
{
    struct script s;
    struct runner_result res;

    (void)state;
    runner_run(script(&s, "echo $GREETING; pwd; cat; exit 3", 20000 * MS),
               &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.exit_code, 3);
    assert_int_equal(res.signal, 0);
    assert_true(res.out_len > 6);
    assert_memory_equal(res.out, "hello\n", 6);
    runner_result_clear(&res);
    assert_null(res.out);
}

static void
folder_and_relative_command(void **state)
{
    char folder[] = "/tmp/test-runner-XXXXXX", path[64];
    char *argv[] = {"./say.sh", "a b", NULL};
    struct script s;
    struct runner_result res;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/say.sh", folder);
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\nprintf '[%%s]' \"$1\"\n");
    fclose(f);
    assert_int_equal(chmod(path, 0755), 0);
    script(&s, "", 20000 * MS);
    s.plan.argv = argv;
    s.plan.folder = folder;
    runner_run(&s.plan, &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.out_len, 5);
    assert_memory_equal(res.out, "[a b]", 5);
    runner_result_clear(&res);
    unlink(path);
    rmdir(folder);
}

static void
cannot_run(void **state)
{
    static const struct {
        const char *command;
        int error;
    } table[] = {
        {"/no/such/command", ENOENT},
        {"no-such-command-at-all", ENOENT},
        {"/etc/passwd", EACCES},
    };
    size_t i;

    (void)state;
    for (i = 0; i < 3; i++) {
        struct script s;
        struct runner_result res;
        int before = fds_open();

        script(&s, "", 20000 * MS);
        s.argv[0] = (char *)table[i].command;
        runner_run(&s.plan, &res);
        assert_int_equal(res.end, RUNNER_FAILED);
        assert_int_equal(res.error, table[i].error);
        assert_null(res.out);
        runner_result_clear(&res);
        assert_int_equal(fds_open(), before);
    }
}

static void
no_time_no_start(void **state)
{
    struct script s;
    struct runner_result res;

    (void)state;
    runner_run(script(&s, "echo x", 0), &res);
    assert_int_equal(res.end, RUNNER_LATE);
    assert_int_equal(res.out_len, 0);
    runner_result_clear(&res);
}

static void
big_output(void **state)
{
    struct script s;
    struct runner_result res;

    (void)state;
    runner_run(script(&s, "head -c 10000000 /dev/zero", 60000 * MS), &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.out_len, 10000000);
    runner_result_clear(&res);
}

static void
output_at_the_limit(void **state)
{
    static const struct {
        const char *text;
        size_t max;
        enum runner_end end;
    } table[] = {
        {"head -c 100000 /dev/zero", 100000, RUNNER_EXITED},
        {"head -c 100001 /dev/zero", 100000, RUNNER_BIG},
        {"cat /dev/zero", 1 << 20, RUNNER_BIG},
        {"trap '' TERM PIPE; cat /dev/zero; while :; do :; done", 1 << 20,
         RUNNER_BIG},
        {"exit 0", 0, RUNNER_EXITED},
        {"echo", 0, RUNNER_BIG},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct script s;
        struct runner_result res;

        script(&s, table[i].text, 60000 * MS);
        s.plan.out_max = table[i].max;
        runner_run(&s.plan, &res);
        assert_int_equal(res.end, table[i].end);
        runner_result_clear(&res);
    }
}

/* Both pipes are full at once, many times over. */
static void
big_echo(void **state)
{
    size_t len = 10 << 20, i;
    unsigned char *in = malloc(len);
    struct script s;
    struct runner_result res;

    (void)state;
    assert_non_null(in);
    for (i = 0; i < len; i++) {
        in[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    script(&s, "cat", 60000 * MS);
    s.plan.in = in;
    s.plan.in_len = len;
    runner_run(&s.plan, &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.out_len, len);
    assert_memory_equal(res.out, in, len);
    runner_result_clear(&res);
    free(in);
}

/* 10 MB to scripts that do not read, or not all, or close it at once. */
static void
input_not_wanted(void **state)
{
    static const char *const table[] = {
        "echo fine",
        "exec <&-; echo fine",
        "head -c 10 >/dev/null; echo fine",
        "exec </dev/null; head -c 300000 /dev/zero >/dev/null; echo fine",
    };
    size_t len = 10 << 20, i;
    char *in = calloc(1, len);

    (void)state;
    assert_non_null(in);
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct script s;
        struct runner_result res;

        script(&s, table[i], 60000 * MS);
        s.plan.in = in;
        s.plan.in_len = len;
        runner_run(&s.plan, &res);
        assert_int_equal(res.end, RUNNER_EXITED);
        assert_int_equal(res.exit_code, 0);
        assert_int_equal(res.out_len, 5);
        assert_memory_equal(res.out, "fine\n", 5);
        runner_result_clear(&res);
    }
    free(in);
}

static void
ends_by_signal(void **state)
{
    struct script s;
    struct runner_result res;

    (void)state;
    runner_run(script(&s, "echo half; kill -SEGV $$", 20000 * MS), &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.signal, SIGSEGV);
    runner_result_clear(&res);
}

/* Our SIGPIPE is ignored and our mask may be anything: not so the command's. */
static void
signals_are_default(void **state)
{
    sigset_t set, before;
    struct script s;
    struct runner_result res;

    (void)state;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &before);
    runner_run(
        script(&s, "grep -E 'Sig(Blk|Ign)' /proc/self/status", 20000 * MS),
        &res);
    sigprocmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.out_len, 2 * (8 + 16 + 1));
    assert_int_equal(strtoull(res.out + 8, NULL, 16), 0);
    /* 32 and 33 are the C library's own. */
    assert_int_equal(strtoull(res.out + 25 + 8, NULL, 16) & 0x7fffffff, 0);
    runner_result_clear(&res);
}

/* The command has descriptors 0, 1, 2 and no other of ours. */
static void
descriptors_stay_here(void **state)
{
    struct script s;
    struct runner_result res;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 3);
    script(&s, "cd /proc/self/fd; echo *", 20000 * MS);
    s.plan.in = "x";
    s.plan.in_len = 1;
    runner_run(&s.plan, &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_true(res.out_len >= 6);
    /* The shell opens the folder itself: one more, or 10 for its own use. */
    assert_memory_equal(res.out, "0 1 2", 5);
    assert_true(res.out_len <= 9);
    runner_result_clear(&res);
    close(fd);
}

/* Descriptor 0 and 1 are one of ours, a plain file here. */
static void
a_descriptor_as_input_and_output(void **state)
{
    char path[] = "/tmp/test-runner-XXXXXX", text[32] = "";
    int fd = mkstemp(path), before = fds_open();
    struct script s;
    struct runner_result res;

    (void)state;
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(pwrite(fd, "five\n", 5, 0), 5);
    script(&s, "read -r line; echo got $line", 20000 * MS);
    s.plan.has_fd = true;
    s.plan.fd = fd;
    runner_run(&s.plan, &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.exit_code, 0);
    assert_null(res.out);
    assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), 14);
    assert_string_equal(text, "five\ngot five\n");
    assert_int_equal(fds_open(), before);
    close(fd);
}

struct errors {
    size_t len;
    char text[1 << 20];
};

static void
take_errors(void *arg, const char *bytes, size_t len)
{
    struct errors *errors = arg;

    assert_true(len <= sizeof(errors->text) - errors->len);
    memcpy(errors->text + errors->len, bytes, len);
    errors->len += len;
}

static void
standard_error_is_taken(void **state)
{
    static struct errors errors;
    int before = fds_open();
    struct script s;
    struct runner_result res;

    (void)state;
    script(&s, "echo out; head -c 300000 /dev/zero >&2; echo end >&2",
           20000 * MS);
    s.plan.err = take_errors;
    s.plan.err_arg = &errors;
    runner_run(&s.plan, &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_int_equal(res.out_len, 4);
    assert_int_equal(errors.len, 300004);
    assert_memory_equal(errors.text + 300000, "end\n", 4);
    runner_result_clear(&res);
    assert_int_equal(fds_open(), before);
}

static void
never_ends(void **state)
{
    static const char *const table[] = {
        "while :; do sleep 1000; done",
        "while :; do :; done",
        "exec >&-; sleep 1000",
        "sleep 1000 & sleep 1000 & wait",
        "trap '' TERM; while :; do sleep 1000; done",
        "trap '' TERM HUP INT; while :; do :; done",
        "kill -STOP $$; sleep 1000",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct script s;
        struct runner_result res;
        int64_t start = now_ns(), took;

        runner_run(script(&s, table[i], 300 * MS), &res);
        took = now_ns() - start;
        assert_int_equal(res.end, RUNNER_LATE);
        assert_true(took >= 200 * MS);
        assert_true(took < 10000 * MS);
        runner_result_clear(&res);
    }
}

/* SIGTERM comes first, and what is left of the time is for cleaning up. */
static void
term_comes_first(void **state)
{
    struct script s;
    struct runner_result res;

    (void)state;
    script(&s,
           "trap 'echo swept; exit 0' TERM; echo start;"
           "while :; do sleep 0.01; done",
           1500 * MS);
    runner_run(&s.plan, &res);
    assert_int_equal(res.end, RUNNER_LATE);
    assert_int_equal(res.signal, 0);
    assert_int_equal(res.exit_code, 0);
    runner_result_clear(&res);
}

/* A child that outlives the command and holds its output open: the answer is
 * there at once, and the child is killed. */
static void
late_child(void **state)
{
    struct script s;
    struct runner_result res;
    int64_t start = now_ns();
    char text[32] = "";

    (void)state;
    runner_run(script(&s, "sleep 1000 & echo $!", 60000 * MS), &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_true(now_ns() - start < 30000 * MS);
    assert_true(res.out_len > 1 && res.out_len < sizeof(text));
    memcpy(text, res.out, res.out_len);
    assert_gone(atoi(text));
    runner_result_clear(&res);
}

/* One that left the group cannot be killed so, but does not hold us up. */
static void
late_child_in_another_group(void **state)
{
    struct script s;
    struct runner_result res;
    int64_t start = now_ns();
    char text[32] = "";
    pid_t pid;

    (void)state;
    runner_run(script(&s,
                      "setsid sh -c 'echo $$; exec sleep 1000' & "
                      "while ! kill -0 -$! 2>/dev/null; do :; done; "
                      "sleep 0.1",
                      60000 * MS),
               &res);
    assert_int_equal(res.end, RUNNER_EXITED);
    assert_true(now_ns() - start < 30000 * MS);
    assert_true(res.out_len > 1 && res.out_len < sizeof(text));
    memcpy(text, res.out, res.out_len);
    pid = atoi(text);
    assert_true(pid > 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    runner_result_clear(&res);
}

static int
gone_after(void *arg)
{
    int *asked = arg;

    return ++*asked > 2;
}

static void
client_gone(void **state)
{
    int asked = 0;
    int64_t start = now_ns();
    struct script s;
    struct runner_result res;

    (void)state;
    script(&s, "trap '' TERM; while :; do sleep 1000; done", 600000 * MS);
    s.plan.gone = gone_after;
    s.plan.gone_arg = &asked;
    runner_run(&s.plan, &res);
    assert_int_equal(res.end, RUNNER_GONE);
    assert_true(now_ns() - start < 20000 * MS);
    assert_int_equal(asked, 3);
    runner_result_clear(&res);
}

static void *
thread_main(void *arg)
{
    int64_t i, *wrong = arg;

    for (i = 0; i < 25; i++) {
        struct script s;
        struct runner_result res;
        char in[48], want[64];

        snprintf(in, sizeof(in), "%p-%d", arg, (int)i);
        snprintf(want, sizeof(want), "<%s>", in);
        script(&s, "printf '<'; cat; printf '>'", 60000 * MS);
        s.plan.in = in;
        s.plan.in_len = strlen(in);
        runner_run(&s.plan, &res);
        *wrong += res.end != RUNNER_EXITED || res.out_len != strlen(want) ||
                  memcmp(res.out, want, res.out_len) != 0;
        runner_result_clear(&res);
    }
    return NULL;
}

/* Many at once: no descriptor of one run reaches another's command (it would
 * hold the input open for ever), and none is left. */
static void
many_threads(void **state)
{
    pthread_t threads[16];
    int64_t wrong[16] = {0};
    int before = fds_open(), i;

    (void)state;
    for (i = 0; i < 16; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, thread_main, &wrong[i]), 0);
    }
    for (i = 0; i < 16; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
    assert_int_equal(fds_open(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* A shim that is killed while its command runs. */
static _Noreturn void
shim_main(int fd)
{
    struct groups *groups = groups_start();
    struct script s;
    struct runner_result res;

    if (groups == NULL || dup2(fd, 2) != 2) {
        _exit(1);
    }
    script(&s, "echo $$ >&2; trap '' TERM HUP PIPE; sleep 1000", 600000 * MS);
    s.plan.group = groups_enter(groups);
    runner_run(&s.plan, &res);
    _exit(2);
}

static void
nothing_outlives_a_killed_shim(void **state)
{
    int fds[2], i;

    (void)state;
    for (i = 0; i < 2; i++) {
        char text[32];
        ssize_t n;
        pid_t shim, command;
        int status;

        assert_int_equal(pipe(fds), 0);
        shim = fork();
        assert_true(shim >= 0);
        if (shim == 0) {
            shim_main(fds[1]);
        }
        close(fds[1]);
        n = read(fds[0], text, sizeof(text) - 1);
        assert_true(n > 1);
        text[n] = '\0';
        command = atoi(text);
        assert_int_equal(kill(command, 0), 0);
        assert_int_equal(kill(shim, i == 0 ? SIGKILL : SIGTERM), 0);
        assert_int_equal(waitpid(shim, &status, 0), shim);
        assert_gone(command);
        close(fds[0]);
    }
}

static void
groups_have_places(void **state)
{
    static struct groups groups;
    _Atomic pid_t *first = groups_enter(&groups), *place = NULL;
    int i;

    (void)state;
    assert_non_null(first);
    assert_int_equal(*first, -1);
    for (i = 1; i < 1024; i++) {
        place = groups_enter(&groups);
        assert_non_null(place);
        assert_ptr_not_equal(place, first);
    }
    assert_null(groups_enter(&groups));
    groups_leave(place);
    assert_ptr_equal(groups_enter(&groups), place);
    assert_null(groups_enter(NULL));
    groups_leave(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_environment),
        cmocka_unit_test(folder_and_relative_command),
        cmocka_unit_test(cannot_run),
        cmocka_unit_test(no_time_no_start),
        cmocka_unit_test(big_output),
        cmocka_unit_test(output_at_the_limit),
        cmocka_unit_test(big_echo),
        cmocka_unit_test(input_not_wanted),
        cmocka_unit_test(ends_by_signal),
        cmocka_unit_test(signals_are_default),
        cmocka_unit_test(descriptors_stay_here),
        cmocka_unit_test(a_descriptor_as_input_and_output),
        cmocka_unit_test(standard_error_is_taken),
        cmocka_unit_test(never_ends),
        cmocka_unit_test(term_comes_first),
        cmocka_unit_test(late_child),
        cmocka_unit_test(late_child_in_another_group),
        cmocka_unit_test(client_gone),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(nothing_outlives_a_killed_shim),
        cmocka_unit_test(groups_have_places),
    };

    signal(SIGPIPE, SIG_IGN);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); /* whatever we inherited */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

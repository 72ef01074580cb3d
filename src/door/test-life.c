/* Life and death around calls: servers that die, signals, procedures that do
 * not return properly, nested calls, fork and exec. The program in the first
 * argument is test-peer.c. */
#include "test-door.h"

#include <semaphore.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

static const char *peer_program;

struct world {
    char folder[64], path[96];
    struct test_peer peer;
    int d;
};

static void
serve(struct world *w)
{
    test_folder(w->folder);
    snprintf(w->path, sizeof w->path, "%s/door", w->folder);
    test_peer_start(&w->peer, peer_program, -1, "serve", w->path, "plain");
    assert_int_equal(test_peer_says(&w->peer), 'R');
    w->d = door_open(w->path);
    assert_true(w->d >= 0);
}

static void
end(struct world *w)
{
    close(w->d);
    test_folder_remove(w->folder);
}

static int
call_text(int d, const char *text)
{
    char room[64];
    door_arg_t arg = {.data_ptr = (char *)(uintptr_t)text,
                      .data_size = strlen(text) + 1,
                      .rbuf = room,
                      .rsize = sizeof room};

    return door_call(d, &arg) < 0 ? errno : 0;
}

static void
test_another_process(void **state)
{
    struct world w;
    door_info_t info;

    serve(&w);
    assert_int_equal(call_text(w.d, "echo"), 0);
    assert_int_equal(door_info(w.d, &info), 0);
    assert_int_equal(info.di_target, w.peer.pid);
    assert_int_equal(info.di_attributes, 0);
    test_peer_kill(&w.peer);
    end(&w);
}

/* The server's end: -1 and REVOKED, and calls are EBADF. */
static void
test_dead_server(void **state)
{
    struct world w;
    door_info_t info, was;

    serve(&w);
    assert_int_equal(call_text(w.d, "echo"), 0);
    assert_int_equal(door_info(w.d, &was), 0);
    test_peer_kill(&w.peer);
    assert_int_equal(door_info(w.d, &info), 0);
    assert_int_equal(info.di_target, -1);
    assert_int_equal(info.di_attributes, 0x8);
    assert_true(info.di_uniquifier == was.di_uniquifier);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(call_text(w.d, "echo"), EBADF);
        assert_int_equal(door_call(w.d, NULL), -1);
        assert_int_equal(errno, EBADF);
    }
    end(&w);
}

struct caller {
    int d;
    const char *text;
    sem_t started;
    int result;
    _Atomic bool over;
    _Atomic pid_t tid;
};

static void *
caller_main(void *arg)
{
    struct caller *c = arg;

    c->tid = gettid();
    c->result = call_text(c->d, "echo"); /* a channel, before the real one */
    sem_post(&c->started);
    if (c->result == 0) {
        c->result = call_text(c->d, c->text);
    }
    c->over = true;
    return NULL;
}

static pthread_t
caller_start(struct caller *c, int d, const char *text)
{
    memset(c, 0, sizeof *c);
    c->d = d;
    c->text = text;
    sem_init(&c->started, 0, 0);
    pthread_t id = test_thread(caller_main, c);
    while (sem_wait(&c->started) < 0) {
    }
    return id;
}

static int
caller_end(struct caller *c, pthread_t id)
{
    pthread_join(id, NULL);
    sem_destroy(&c->started);
    return c->result;
}

static void
test_killed_in_a_call(void **state)
{
    struct world w;
    struct caller c;

    serve(&w);
    pthread_t id = caller_start(&c, w.d, "hang");
    assert_int_equal(test_peer_says(&w.peer), 'h');
    int64_t at = test_now();
    test_peer_kill(&w.peer);
    assert_int_equal(caller_end(&c, id), EINTR);
    assert_true(test_now() - at < 5000000000ll);
    end(&w);
    serve(&w);
    assert_int_equal(call_text(w.d, "kill"), EINTR);
    assert_int_equal(test_peer_end(&w.peer), 256 + SIGKILL);
    end(&w);
}

/* Is the thread asleep in the kernel? */
static bool
is_asleep(void *arg)
{
    struct caller *c = arg;
    char path[64], text[512];

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)c->tid);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) {
        fclose(f);
    }
    text[n] = 0;
    const char *state = strrchr(text, ')');
    return c->over || (state && state[2] == 'S');
}

static void
test_killed_before_it_took_the_call(void **state)
{
    struct world w;
    struct caller c;

    serve(&w);
    pthread_t id = caller_start(&c, w.d, "echo");
    assert_int_equal(caller_end(&c, id), 0);
    assert_int_equal(call_text(w.d, "echo"), 0);
    assert_int_equal(kill(w.peer.pid, SIGSTOP), 0);
    int status;
    assert_int_equal(waitpid(w.peer.pid, &status, WUNTRACED), w.peer.pid);
    assert_true(WIFSTOPPED(status));
    /* A channel cannot be made with a stopped server: this thread has one. */
    struct caller killer = {.tid = gettid()};
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        /* Ends the server when the caller waits. */
        char path[64], text[512];
        for (;;) {
            snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)getppid(),
                     (int)killer.tid);
            int fd = open(path, O_RDONLY);
            ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
            close(fd);
            text[n < 0 ? 0 : n] = 0;
            const char *at = strrchr(text, ')');
            if (!at || at[2] == 'S') {
                kill(w.peer.pid, SIGKILL);
                _exit(0);
            }
            usleep(1000);
        }
    }
    assert_int_equal(call_text(w.d, "echo"), EBADF);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(test_peer_end(&w.peer), 256 + SIGKILL);
    end(&w);
}

/* ---- signals ---- */

static void
handler(int sig)
{
}

static void
on_signal(int sig, void (*what)(int), int flags)
{
    struct sigaction action = {.sa_handler = what, .sa_flags = flags};

    assert_int_equal(sigaction(sig, &action, NULL), 0);
}

/* A caught signal ends the call with EINTR, SA_RESTART or not; the door, and
 * this thread, go on. */
static void
test_signal(void **state)
{
    static const int flags[] = {0, SA_RESTART};
    struct world w;

    serve(&w);
    for (int i = 0; i < 2; i++) {
        struct caller c;
        on_signal(SIGUSR1, handler, flags[i]);
        pthread_t id = caller_start(&c, w.d, "hang");
        assert_int_equal(test_peer_says(&w.peer), 'h');
        assert_true(test_until(is_asleep, &c));
        int64_t at = test_now();
        while (!c.over && test_now() - at < TEST_LIMIT_NS) {
            pthread_kill(id, SIGUSR1);
            usleep(1000);
        }
        assert_int_equal(caller_end(&c, id), EINTR);
        assert_int_equal(call_text(w.d, "echo"), 0);
    }
    on_signal(SIGUSR1, SIG_DFL, 0);
    test_peer_kill(&w.peer);
    end(&w);
}

/* Ignored signals, stops and continues end no call. */
static void
test_ignored_signals(void **state)
{
    struct world w;
    struct caller c;

    serve(&w);
    on_signal(SIGUSR1, SIG_IGN, 0);
    pthread_t id = caller_start(&c, w.d, "g2");
    assert_true(test_until(is_asleep, &c));
    for (int i = 0; i < 20; i++) {
        pthread_kill(id, SIGUSR1);
        usleep(1000);
    }
    assert_false(c.over);
    assert_int_equal(call_text(w.d, "g2"), 0);
    assert_int_equal(caller_end(&c, id), 0);
    on_signal(SIGUSR1, SIG_DFL, 0);
    test_peer_kill(&w.peer);
    end(&w);
}

/* While all threads compute and none may be made, a caller waits for a thread:
 * a signal there is EAGAIN. */
static _Atomic int spinning;
static _Atomic bool spin_on;

static void
spin(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    if (argp && argp[0] == 's') {
        int64_t end_of_start = test_now() + 20000000;
        while (test_now() < end_of_start) {
        }
        spinning++;
        while (spin_on) {
        }
    }
    door_return(NULL, 0, NULL, 0);
}

static void
test_signal_while_waiting_for_a_thread(void **state)
{
    struct caller busy[64];
    pthread_t ids[64];
    int n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int d = door_create(spin, NULL, 0);
    int64_t limit = test_now() + TEST_LIMIT_NS;

    if (n > 16) {
        close(d);
        skip();
    }
    assert_int_equal(call_text(d, "e"), 0); /* this thread's channel */
    spinning = 0;
    spin_on = true;
    for (int i = 0; i < n; i++) {
        ids[i] = caller_start(&busy[i], d, "spin");
    }
    while (spinning < n && test_now() < limit) {
        usleep(1000);
    }
    assert_int_equal(spinning, n);
    struct sigaction old, action = {.sa_handler = handler};
    sigaction(SIGALRM, &action, &old);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = SIGALRM};
    event._sigev_un._tid = gettid();
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    struct itimerspec again = {{0, 20000000}, {0, 20000000}};
    timer_settime(timer, 0, &again, NULL);
    int e = call_text(d, "e");
    timer_delete(timer);
    sigaction(SIGALRM, &old, NULL);
    spin_on = false;
    for (int i = 0; i < n; i++) {
        assert_int_equal(caller_end(&busy[i], ids[i]), 0);
    }
    assert_int_equal(e, EAGAIN);
    assert_int_equal(call_text(d, "e"), 0);
    close(d);
}

/* ---- procedures that end badly ---- */

static void
ends_badly(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
           unsigned int n_desc)
{
    if (argp[0] == 'r') {
        return;
    }
    if (argp[0] == 'x') {
        pthread_exit(NULL);
    }
    door_return(argp, arg_size, NULL, 0);
}

static void
test_procedure_returns_or_exits(void **state)
{
    int d = door_create(ends_badly, NULL, 0);

    for (int i = 0; i < 20; i++) {
        assert_int_equal(call_text(d, "return"), EINTR);
        assert_int_equal(call_text(d, "echo"), 0);
        assert_int_equal(call_text(d, "xit"), EINTR);
        assert_int_equal(call_text(d, "xit"), EINTR);
        assert_int_equal(call_text(d, "echo"), 0);
    }
    close(d);
}

/* ---- nested calls ---- */

/* Calls its own door, one level less, down to 0; the sum comes back. */
static void
nest(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    uint64_t depth, below = 0;
    int d;

    test_reads();
    d = *(int *)cookie;
    memcpy(&depth, argp, sizeof depth);
    if (depth > 0 && test_call_word(d, depth - 1, &below) != 0) {
        below = 1000000;
    }
    depth += below;
    door_return((char *)&depth, sizeof depth, NULL, 0);
}

static void
test_nested_calls(void **state)
{
    int d = -1;
    uint64_t out = 0;

    d = door_create(nest, &d, 0);
    test_wrote();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(test_call_word(d, 0, &out), 0);
        assert_int_equal(out, 0);
        assert_int_equal(test_call_word(d, 1, &out), 0);
        assert_int_equal(out, 1);
        assert_int_equal(test_call_word(d, 30, &out), 0);
        assert_int_equal(out, 465);
    }
    close(d);
}

/* ---- fork and exec ---- */

static void
who(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
    unsigned int n_desc)
{
    uint64_t pid = (uint64_t)getpid();

    if (argp == NULL) {
        door_return(NULL, 0, NULL, 0);
    }
    door_return((char *)&pid, sizeof pid, NULL, 0);
}

static int
child_status(pid_t pid)
{
    int status;

    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* A child's inherited descriptor calls the parent, with or without a channel
 * of the parent's thread. */
static void
test_fork_calls_the_parent(void **state)
{
    int d = door_create(who, NULL, 0);
    int fresh = door_create(who, NULL, 0);
    uint64_t out = 0;

    assert_int_equal(test_call_word(d, 0, &out), 0);
    assert_int_equal(out, getpid());
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            door_info_t info;
            int bad =
                test_call_word(d, 0, &out) != 0 || out != (uint64_t)getppid();
            bad |= (test_call_word(fresh, 0, &out) != 0 ||
                    out != (uint64_t)getppid())
                   << 1;
            bad |= (door_info(d, &info) != 0 || info.di_target != getppid())
                   << 2;
            bad |= ((info.di_attributes & 0x4) != 0) << 3;
            _exit(bad);
        }
        assert_int_equal(child_status(pid), 0);
        assert_int_equal(test_call_word(d, 0, &out), 0);
    }
    close(d);
    close(fresh);
}

#ifndef UNDER_TSAN
/* A child of a server becomes a server of its own doors. TSan allows no threads
 * in the child of a threaded process. */
static void
test_fork_serves_its_own(void **state)
{
    int parents = door_create(who, NULL, 0);
    pid_t pid = fork();

    if (pid == 0) {
        uint64_t out = 0;
        int d = door_create(who, NULL, 0);
        int bad = d < 0 || test_call_word(d, 0, &out) != 0 ||
                  out != (uint64_t)getpid();
        bad |= (test_call_word(parents, 0, &out) != 0 ||
                out != (uint64_t)getppid())
               << 1;
        _exit(bad);
    }
    assert_int_equal(child_status(pid), 0);
    close(parents);
}
#endif

/* fork within a procedure: in the child the thread has no caller. */
static void
fork_inside(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
            unsigned int n_desc)
{
    pid_t pid = fork();

    if (pid == 0) {
        door_info_t info;
        int d = *(int *)cookie;
        _exit(door_info(d, &info) == 0 && info.di_target == getppid() ? 0 : 1);
    }
    uint64_t status = (uint64_t)child_status(pid);
    door_return((char *)&status, sizeof status, NULL, 0);
}

static void
test_fork_in_a_procedure(void **state)
{
    int d = -1;
    uint64_t out = 1;

    d = door_create(fork_inside, &d, 0);
    test_wrote();
    assert_int_equal(test_call_word(d, 0, &out), 0);
    assert_int_equal(out, 0);
    close(d);
}

/* A server's children do not keep its doors alive, and a hang-up is seen. */
static void
test_exec_inherits(void **state)
{
    struct test_peer p;
    struct world w;
    int d = door_create(ends_badly, NULL, 0);

    test_peer_start(&p, peer_program, d, "call", "hello", NULL);
    assert_int_equal(test_peer_end(&p), 0);
    test_peer_start(&p, peer_program, d, "call", "return", NULL);
    assert_int_equal(test_peer_end(&p), EINTR);
    close(d);
    serve(&w);
    test_peer_start(&p, peer_program, w.d, "call", "echo", NULL);
    assert_int_equal(test_peer_end(&p), 0);
    test_peer_kill(&w.peer);
    test_peer_start(&p, peer_program, w.d, "call", "echo", NULL);
    assert_int_equal(test_peer_end(&p), EBADF);
    end(&w);
    int null = open("/dev/null", O_RDWR);
    test_peer_start(&p, peer_program, null, "call", "hello", NULL);
    assert_int_equal(test_peer_end(&p), EBADF);
    close(null);
}

/* A caller that is killed in its call costs its server nothing that stays. */
static void
test_killed_caller(void **state)
{
    struct world w;
    struct test_peer p;

    serve(&w);
    assert_int_equal(call_text(w.d, "echo"), 0);
    test_peer_start(&p, peer_program, w.d, "call", "hang", NULL);
    assert_int_equal(test_peer_says(&w.peer), 'h');
    test_peer_kill(&p);
    assert_int_equal(call_text(w.d, "echo"), 0);
    assert_int_equal(call_text(w.d, "g1"), 0);
    test_peer_kill(&w.peer);
    end(&w);
}

/* The server has no descriptors left for what a call brings: EMFILE. */
static void
test_server_is_full(void **state)
{
    door_desc_t descs[60];
    struct world w;
    char room[64];

    test_folder(w.folder);
    snprintf(w.path, sizeof w.path, "%s/door", w.folder);
    test_peer_start(&w.peer, peer_program, -1, "serve", w.path, "few");
    assert_int_equal(test_peer_says(&w.peer), 'R');
    w.d = door_open(w.path);
    assert_true(w.d >= 0);
    for (int i = 0; i < 60; i++) {
        memset(&descs[i], 0, sizeof descs[i]);
        descs[i].d_attributes = DOOR_DESCRIPTOR;
        descs[i].d_data.d_desc.d_descriptor = 0;
    }
    for (int i = 0; i < 3; i++) {
        door_arg_t arg = {.desc_ptr = descs,
                          .desc_num = 60,
                          .rbuf = room,
                          .rsize = sizeof room};
        assert_int_equal(door_call(w.d, &arg), -1);
        assert_int_equal(errno, EMFILE);
        arg = (door_arg_t){.desc_ptr = descs,
                           .desc_num = 5,
                           .rbuf = room,
                           .rsize = sizeof room};
        assert_int_equal(door_call(w.d, &arg), 0);
    }
    test_peer_kill(&w.peer);
    end(&w);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_process),
        cmocka_unit_test(test_dead_server),
        cmocka_unit_test(test_killed_in_a_call),
        cmocka_unit_test(test_killed_before_it_took_the_call),
        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_ignored_signals),
        cmocka_unit_test(test_signal_while_waiting_for_a_thread),
        cmocka_unit_test(test_procedure_returns_or_exits),
        cmocka_unit_test(test_nested_calls),
        cmocka_unit_test(test_fork_calls_the_parent),
#ifndef UNDER_TSAN
        cmocka_unit_test(test_fork_serves_its_own),
#endif
        cmocka_unit_test(test_fork_in_a_procedure),
        cmocka_unit_test(test_exec_inherits),
        cmocka_unit_test(test_killed_caller),
        cmocka_unit_test(test_server_is_full),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s TEST-PEER\n", argv[0]);
        return 64;
    }
    peer_program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

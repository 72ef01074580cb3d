/* Signals, cancellation, fork, exec, death of either side. Sections 3.3 and 9.
 */
#include "conformance.h"

static void
handler(int signum)
{
    (void)signum;
    atomic_fetch_add(&shared[12], 1);
}

static void
catches(int signum, int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    sigaction(signum, &action, NULL);
}

/* The result of C's call, which a signal ends; seldom it takes another, since
 * one that comes as the caller looks whether its server lives ends nothing
 * (docs/doors.md). */
static int
interrupted(struct caller *c)
{
    for (int i = 0; i < 5; i++) {
        struct timespec until;

        pthread_kill(c->id, SIGUSR1);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        if (pthread_timedjoin_np(c->id, NULL, &until) == 0) {
            return c->result;
        }
    }
    return -1;
}

CASE("signals: EINTR in a call, also over SA_RESTART", in_a_call)
{
    static const int flags[] = {0, SA_RESTART};

    for (int i = 0; i < 2; i++) {
        struct caller c;
        int d = door_create(stay, NULL, 0);
        catches(SIGUSR1, flags[i]);
        atomic_store(&shared[0], 0);
        caller_start(&c, d);
        await(&shared[0], 1);
        await_sleep(c.tid);
        SAME(interrupted(&c), EINTR);
    }
    CHECK(shared[12] >= 2);
}

CASE("signals: EAGAIN while it waits for a free thread", no_thread)
{
    struct caller c;

    catches(SIGUSR1, SA_RESTART);
    door_server_create(no_threads);
    caller_start(&c, door_create(echo, NULL, 0));
    while (atomic_load(&c.tid) == 0) {
        usleep(1000);
    }
    await_sleep(c.tid);
    /* Again and again: it may sleep before it has come to that wait. */
    do {
        usleep(20000);
        pthread_kill(c.id, SIGUSR1);
    } while (pthread_tryjoin_np(c.id, NULL) != 0);
    SAME(c.result, EAGAIN);
}

CASE("signals: ignored ones and stops do not end a call", ignored)
{
    int d = door_create(stay, NULL, 0);
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGUSR1, SIG_IGN);
        _exit(call_empty(d));
    }
    await(&shared[0], 1);
    usleep(20000);
    kill(pid, SIGUSR1);
    kill(pid, SIGSTOP);
    usleep(20000);
    kill(pid, SIGCONT);
    usleep(20000);
    SAME(waitpid(pid, NULL, WNOHANG), 0);
    atomic_store(&shared[1], 1);
    SAME(end_of(pid), 0);
}

CASE("signals: a parked server thread that handles one serves on", parked)
{
    int d = door_create(echo, NULL, 0);

    catches(SIGUSR1, 0);
    SAME(call_text(d, "before"), 0);
    kill(getpid(), SIGUSR1);
    await(&shared[12], 1);
    SAME(call_text(d, "after"), 0);
}

/* ---- cancellation ---- */

static void
cleans_up(void *arg)
{
    (void)arg;
    atomic_store(&shared[2], 1);
}

static void
can_be_cancelled(void *cookie, char *argp, size_t size, door_desc_t *dp,
                 uint_t n)
{
    (void)cookie, (void)argp, (void)dp, (void)n;
    if (size == 0) {
        pthread_cleanup_push(cleans_up, NULL);
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        atomic_store(&shared[0], 1);
        for (int i = 0; i < 3000; i++) {
            usleep(1000);
            pthread_testcancel();
        }
        pthread_cleanup_pop(0);
        atomic_store(&shared[3], 1);
    }
    door_return(argp, size, NULL, 0);
}

static void
dies_in_call(uint_t attributes)
{
    if (is_under_tsan()) {
        return;
    }
    int d = door_create(can_be_cancelled, NULL, attributes);
    die_in_call(d);
    if (attributes == 0) {
        await(&shared[2], 1);
        SAME(shared[3], 0);
    } else {
        await(&shared[3], 1);
        SAME(shared[2], 0);
    }
    SAME(call_text(d, "and it serves on"), 0);
}

CASE("cancellation: a caller's death cancels the server thread", client_dies)
{
    dies_in_call(0);
}

CASE("cancellation: not with DOOR_NO_CANCEL", no_cancel)
{
    dies_in_call(DOOR_NO_CANCEL);
}

CASE("cancellation: a caller that gives up cancels it too", client_gives_up)
{
    struct caller c;

    if (is_under_tsan()) {
        return;
    }
    int d = door_create(can_be_cancelled, NULL, 0);

    catches(SIGUSR1, 0);
    caller_start(&c, d);
    await(&shared[0], 1);
    await_sleep(c.tid);
    SAME(interrupted(&c), EINTR);
    await(&shared[2], 1);
}

CASE("cancellation: with it disabled the call runs to its end", disabled)
{
    int d = door_create(stay, NULL, 0);
    die_in_call(d);
    atomic_store(&shared[1], 1);
    SAME(call_empty(d), 0);
}

/* ---- death of the server ---- */

static void
hangs(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    atomic_store(&shared[0], 1);
    for (;;) {
        pause();
    }
}

CASE("death: of the server in a call: EINTR", server_dies)
{
    struct caller c;
    int d;
    pid_t pid = server_start(hangs, 0, &d);

    caller_start(&c, d);
    await(&shared[0], 1);
    kill(pid, SIGKILL);
    SAME(caller_end(&c), EINTR);
    FAILS(door_call(d, NULL), EBADF);
    server_end(pid);
}

static void
never_serves(void)
{
    door_server_create(no_threads);
    int d = door_create(echo, NULL, 0);
    CHECK(fattach(d, server_path) == 0);
    atomic_store(&shared[10], 1);
    for (;;) {
        pause();
    }
}

CASE("death: of the server while callers wait for a thread: EBADF",
     server_dies_early)
{
    struct caller c;

    server_path = free_path();
    make_file(server_path, 0666);
    pid_t pid = spawn(never_serves);
    await(&shared[10], 1);
    caller_start(&c, open(server_path, O_RDWR));
    while (atomic_load(&c.tid) == 0) {
        usleep(1000);
    }
    await_sleep(c.tid);
    usleep(50000);
    kill(pid, SIGKILL);
    SAME(caller_end(&c), EBADF);
    server_end(pid);
}

CASE("death: of a server before the call: EBADF", server_dead)
{
    int d;
    pid_t pid = server_start(echo, 0, &d);

    SAME(call_text(d, "alive"), 0);
    kill(pid, SIGKILL);
    end_of(pid);
    FAILS(door_call(d, NULL), EBADF);
    remove_path(server_path);
}

static void
execs(void)
{
    int d = door_create(echo, NULL, 0);

    CHECK(fattach(d, server_path) == 0);
    atomic_store(&shared[10], 1);
    await(&shared[11], 1);
    execl("/bin/sleep", "sleep", "30", (char *)NULL);
}

CASE("exec: of the server revokes its doors", server_execs)
{
    door_info_t info;

    server_path = free_path();
    make_file(server_path, 0666);
    pid_t pid = spawn(execs);
    await(&shared[10], 1);
    int d = open(server_path, O_RDWR);
    SAME(call_text(d, "before"), 0);
    atomic_store(&shared[11], 1);
    do {
        SAME(door_info(d, &info), 0);
    } while (info.di_target != -1);
    SAME((long long)(info.di_attributes & DOOR_REVOKED), DOOR_REVOKED);
    FAILS(door_call(d, NULL), EBADF);
    server_end(pid);
}

CASE("exec: of a client: descriptors without FD_CLOEXEC go on", client_execs)
{
    char number[16], self[4096];
    int d = door_create(echo, NULL, 0), copy = dup(d);
    /* By name: under memcheck the link itself leads to memcheck. */
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    CHECK(n > 0);
    self[n] = 0;
    snprintf(number, sizeof number, "%d", copy);
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, "again", "--call", number, (char *)NULL);
        _exit(99);
    }
    SAME(end_of(pid), 0);
}

/* ---- fork ---- */

CASE("fork: the child's descriptors call the parent", child_calls)
{
    int d = door_create(echo, NULL, 0);

    SAME(call_text(d, "the parent has a channel"), 0);
    pid_t pid = fork();
    if (pid == 0) {
        door_info_t info;
        SAME(door_info(d, &info), 0);
        SAME(info.di_target, getppid());
        SAME((long long)(info.di_attributes & DOOR_LOCAL), 0);
        _exit(call_text(d, "from the child"));
    }
    SAME(end_of(pid), 0);
    SAME(call_text(d, "and from the parent"), 0);
}

CASE("fork: a child with doors of its own", child_serves)
{
    int d = door_create(echo, NULL, 0);

    SAME(call_text(d, "parent"), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int mine = door_create(echo, NULL, 0);
        CHECK(mine >= 0);
        SAME(call_text(mine, "child"), 0);
        _exit(0);
    }
    SAME(end_of(pid), 0);
}

static int forked_status;

static void
forks(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    pid_t pid = fork();
    if (pid == 0) {
        door_cred_t cred;
        FAILS(door_cred(&cred), EINVAL); /* it has no caller */
        int mine = door_create(echo, NULL, 0);
        SAME(call_text(mine, "a server of its own"), 0);
        _exit(7);
    }
    forked_status = end_of(pid);
    door_return((char *)&forked_status, sizeof forked_status, NULL, 0);
}

CASE("fork: in a procedure: the child has no caller, the parent answers",
     in_procedure)
{
    int status = 0;
    door_arg_t arg = {.rbuf = (char *)&status, .rsize = sizeof status};

    SAME(door_call(door_create(forks, NULL, 0), &arg), 0);
    SAME(status, 7);
}

static void
serves_and_forks(void)
{
    int d = door_create(echo, NULL, 0);

    CHECK(fattach(d, server_path) == 0);
    if (fork() == 0) {
        pause();
    }
    atomic_store(&shared[10], 1);
    pause();
}

CASE("fork: the parent's end is seen though a child lives on", parent_dies)
{
    door_info_t info;
    int d;

    server_path = free_path();
    make_file(server_path, 0666);
    pid_t pid = spawn(serves_and_forks);
    await(&shared[10], 1);
    d = open(server_path, O_RDWR);
    SAME(call_text(d, "parent"), 0);
    kill(pid, SIGKILL);
    end_of(pid);
    do {
        SAME(door_info(d, &info), 0);
    } while (info.di_target != -1);
    FAILS(door_call(d, NULL), EBADF);
    remove_path(server_path);
}

CASE("close: the last descriptor of an unattached door ends it", last_close)
{
    int d = door_create(echo, NULL, 0), copy = dup(d);

    close(d);
    SAME(call_text(copy, "a copy is left"), 0);
    close(copy);
    FAILS(door_call(copy, NULL), EBADF);
}

static void
serves_without_main(void)
{
    int d = door_create(echo, NULL, 0);

    CHECK(fattach(d, server_path) == 0);
    atomic_store(&shared[10], 1);
    pthread_exit(NULL);
}

CASE("main: pthread_exit of it leaves the doors served", main_exits)
{
    int d;

    server_path = free_path();
    make_file(server_path, 0666);
    pid_t pid = spawn(serves_without_main);
    await(&shared[10], 1);
    d = open(server_path, O_RDWR);
    SAME(call_text(d, "without main"), 0);
    server_end(pid);
}

static const struct conformance_case *const all[] = {
    &case_in_a_call,       &case_no_thread,
    &case_ignored,         &case_parked,
    &case_client_dies,     &case_no_cancel,
    &case_client_gives_up, &case_disabled,
    &case_server_dies,     &case_server_dies_early,
    &case_server_dead,     &case_server_execs,
    &case_client_execs,    &case_child_calls,
    &case_child_serves,    &case_in_procedure,
    &case_parent_dies,     &case_last_close,
    &case_main_exits};

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--call") == 0) {
        return call_text(atoi(argv[2]), "after exec");
    }
    return conformance_main(argc, argv, all, sizeof all / sizeof *all);
}

/* Cases of the conformance table (table.txt): each is a process of its own,
 * named after the call and what it shows, that uses only what programs have:
 * door.h and its kin, and the shared library.
 *
 *     CASE("door_create: EINVAL for an unknown attribute", unknown_attribute)
 *     {
 *         FAILS(door_create(echo, NULL, 0x800), EINVAL);
 *     }
 *     ...
 *     CASES(&case_unknown_attribute, ...)
 *
 * --list prints the names alone.
 */
#pragma once

#include <door.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stropts.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <ucred.h>
#include <unistd.h>

struct conformance_case {
    const char *name;
    void (*run)(void);
};

#define CASE(text, id)                                                         \
    static void run_##id(void);                                                \
    static const struct conformance_case case_##id = {text, run_##id};         \
    static void run_##id(void)

#define CASES(...)                                                             \
    int main(int argc, char **argv)                                            \
    {                                                                          \
        const struct conformance_case *const all[] = {__VA_ARGS__};            \
        return conformance_main(argc, argv, all, sizeof all / sizeof *all);    \
    }

#define CHECK(condition)                                                       \
    ((condition) ? (void)0                                                     \
                 : (printf("# %s:%d: %s (errno %d, %s)\n", __FILE__, __LINE__, \
                           #condition, errno, strerror(errno)),                \
                    fflush(stdout), _exit(1)))

#define SAME(is, expected) conformance_same(__LINE__, #is, is, expected)

/* CALL gives -1 with errno ERROR. */
#define FAILS(call, error)                                                     \
    do {                                                                       \
        errno = 0;                                                             \
        long long conformance_got = (call);                                    \
        conformance_same(__LINE__, #call, conformance_got, -1);                \
        conformance_same(__LINE__, "errno of " #call, errno, error);           \
    } while (0)

static inline void
conformance_same(int line, const char *what, long long is, long long expected)
{
    if (is != expected) {
        printf("# line %d: %s is %lld (0x%llx), not %lld\n", line, what, is,
               (unsigned long long)is, expected);
        fflush(stdout);
        _exit(1);
    }
}

/* TSan: a child of fork may go on. */
const char *__tsan_default_options(void) __attribute__((visibility("default")));
const char *
__tsan_default_options(void)
{
    return "die_after_fork=0";
}

/* There thread sizes, fstat() and vfork() are its own, and it loses count of a
 * thread that is cancelled. */
void __tsan_init(void) __attribute__((weak));

static inline bool
is_under_tsan(void)
{
    return __tsan_init != NULL;
}

/* Words that all processes of a case see. */
static _Atomic int *shared;

/* Waits until WORD is at least VALUE. The alarm of the case is the limit. */
static inline void
await(_Atomic int *word, int value)
{
    while (atomic_load(word) < value) {
        usleep(500);
    }
}

static inline bool
conformance_one(const struct conformance_case *c)
{
    int status = 0;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        alarm(60);
        shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        c->run();
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL); /* what it may have left */
    if (WIFSIGNALED(status)) {
        printf("# ended by signal %d\n", WTERMSIG(status));
    }
    return status == 0;
}

static inline int
conformance_main(int argc, char **argv,
                 const struct conformance_case *const *all, size_t n)
{
    size_t failed = 0;

    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < n; i++) {
            puts(all[i]->name);
        }
        return 0;
    }
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && !strstr(all[i]->name, argv[1])) {
            continue;
        }
        bool ok = conformance_one(all[i]);
        failed += !ok;
        printf("%s %zu - %s\n", ok ? "ok" : "not ok", i + 1, all[i]->name);
    }
    return failed > 0;
}

/* ---- procedures ---- */

static inline void
echo(void *cookie, char *argp, size_t arg_size, door_desc_t *dp, uint_t n_desc)
{
    (void)cookie;
    door_return(argp, arg_size, dp, n_desc);
}

/* Stays inside until word 1 is set; word 0 counts who came. */
static inline void
stay(void *cookie, char *argp, size_t arg_size, door_desc_t *dp, uint_t n_desc)
{
    (void)cookie;
    (void)dp;
    (void)n_desc;
    atomic_fetch_add(&shared[0], 1);
    await(&shared[1], 1);
    door_return(argp, arg_size, NULL, 0);
}

/* ---- calls ---- */

/* A call with TEXT, whose result is checked to be the same. 0 or an errno. */
static inline int
call_text(int d, const char *text)
{
    char room[256];
    door_arg_t arg = {0};

    arg.data_ptr = (char *)(uintptr_t)text;
    arg.data_size = strlen(text) + 1;
    arg.rbuf = room;
    arg.rsize = sizeof room;
    if (door_call(d, &arg) < 0) {
        return errno;
    }
    return strcmp(arg.data_ptr, text) == 0 ? 0 : EPROTO;
}

static inline int
call_empty(int d)
{
    return door_call(d, NULL) < 0 ? errno : 0;
}

/* A thread that calls D with nothing; what it got is in RESULT afterwards. */
struct caller {
    pthread_t id;
    int d, result;
    _Atomic int tid;
};

static inline void *
caller_main(void *arg)
{
    struct caller *c = arg;

    atomic_store(&c->tid, gettid());
    c->result = call_empty(c->d);
    return NULL;
}

static inline void
caller_start(struct caller *c, int d)
{
    c->d = d;
    c->result = -1;
    c->tid = 0;
    SAME(pthread_create(&c->id, NULL, caller_main, c), 0);
}

static inline int
caller_end(struct caller *c)
{
    pthread_join(c->id, NULL);
    return c->result;
}

/* A creation function that makes no thread. */
static inline void
no_threads(door_info_t *info)
{
    (void)info;
}

/* Until thread TID of this process is in a wait, so that a signal finds it
 * there. */
static inline void
await_sleep(pid_t tid)
{
    char path[64], text[256];
    bool sleeps = false;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    while (!sleeps) {
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        close(fd);
        text[n < 0 ? 0 : n] = 0;
        sleeps = strstr(text, ") S ") != NULL;
        usleep(sleeps ? 20000 : 1000);
    }
}

/* ---- processes ---- */

/* RUN in a child; its pid. */
static inline pid_t
spawn(void (*run)(void))
{
    pid_t pid = fork();

    if (pid == 0) {
        alarm(60);
        run();
        fflush(stdout);
        _exit(0);
    }
    return pid;
}

static inline int
end_of(pid_t pid)
{
    int status;

    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* A child calls D, whose procedure says in word 0 that it is inside, and is
 * killed there. */
static inline void
die_in_call(int d)
{
    pid_t pid = fork();

    if (pid == 0) {
        door_call(d, NULL);
        _exit(1);
    }
    await(&shared[0], 1);
    kill(pid, SIGKILL);
    end_of(pid);
}

/* A folder that any user may enter, and a free name in it. */
static inline const char *
free_path(void)
{
    static char path[64];

    snprintf(path, sizeof path, "/tmp/doors-XXXXXX");
    CHECK(mkdtemp(path) != NULL);
    CHECK(chmod(path, 0755) == 0);
    strncat(path, "/door", sizeof path - strlen(path) - 1);
    return path;
}

static inline void
remove_path(const char *path)
{
    char folder[64];

    snprintf(folder, sizeof folder, "%s", path);
    unlink(folder);
    *strrchr(folder, '/') = 0;
    rmdir(folder);
}

static inline void
make_file(const char *path, mode_t mode)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

    CHECK(fd >= 0);
    CHECK(fchmod(fd, mode) == 0);
    close(fd);
}

/* A server in a child, with PROCEDURE attached at PATH (made here). */
static const char *server_path;
static door_server_procedure_t *server_procedure;
static uint_t server_attributes;

static inline void
server_main(void)
{
    int d = door_create(server_procedure, NULL, server_attributes);

    CHECK(d >= 0 && fattach(d, server_path) == 0);
    atomic_store(&shared[10], 1);
    for (;;) {
        pause();
    }
}

static inline pid_t
server_start(door_server_procedure_t *procedure, uint_t attributes, int *p_d)
{
    server_path = free_path();
    make_file(server_path, 0666);
    server_procedure = procedure;
    server_attributes = attributes;
    pid_t pid = spawn(server_main);
    await(&shared[10], 1);
    *p_d = open(server_path, O_RDWR);
    CHECK(*p_d >= 0);
    return pid;
}

static inline void
server_end(pid_t pid)
{
    kill(pid, SIGKILL);
    end_of(pid);
    remove_path(server_path);
}

static inline int
count_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 4096; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

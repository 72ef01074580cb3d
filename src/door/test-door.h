/* What the tests of libdoor share: waiting without fixed sleeps, counting
 * descriptors and threads, and peers that are other processes (test-peer.c,
 * whose path meson gives as the first argument). */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "door.h"

#define TEST_LIMIT_NS 20000000000ll

extern char **environ;

static inline int64_t
test_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

/* Looks again and again until IS() is true, for 20 s. */
static inline bool
test_until(bool (*is)(void *), void *arg)
{
    int64_t end = test_now() + TEST_LIMIT_NS;

    while (!is(arg)) {
        if (test_now() > end) {
            return false;
        }
        usleep(1000);
    }
    return true;
}

static inline int
test_count_entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;

    if (!d) {
        return -1;
    }
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    return n - 2;
}

/* Descriptors of this process (the one that counts them is in it, always). */
static inline int
test_fds(void)
{
    return test_count_entries("/proc/self/fd");
}

static inline int
test_threads(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return test_count_entries(path);
}

static inline bool
test_fds_at_most(void *arg)
{
    return test_fds() <= *(int *)arg;
}

/* Room for many descriptors. */
static inline void
test_raise_limit(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- a folder for paths ---- */

static inline void
test_folder(char *room)
{
    static const char name[] = "/tmp/door-XXXXXX";

    memcpy(room, name, sizeof name);
    assert_non_null(mkdtemp(room));
    assert_int_equal(chmod(room, 0755), 0);
}

static inline void
test_folder_remove(const char *folder)
{
    struct dirent *e;
    char path[512];
    DIR *d = opendir(folder);

    while (d && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (unlink(path) < 0) {
                rmdir(path);
            }
        }
    }
    if (d) {
        closedir(d);
    }
    rmdir(folder);
}

/* ---- other processes ---- */

struct test_peer {
    pid_t pid;
    int out; /* what it prints */
};

/* Runs the helper program with up to three arguments; FD, if not negative, is
 * its descriptor 3. */
static inline void
test_peer_start(struct test_peer *p, const char *program, int fd, const char *a,
                const char *b, const char *c)
{
    posix_spawn_file_actions_t actions;
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)a,
                    (char *)(uintptr_t)b, (char *)(uintptr_t)c, NULL};
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    if (fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, fd, 3);
    }
    assert_int_equal(
        posix_spawn(&p->pid, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    p->out = ends[0];
}

/* The next byte that it prints; -1 at its end or after 20 s. */
static inline int
test_peer_says(struct test_peer *p)
{
    struct pollfd look = {.fd = p->out, .events = POLLIN};
    unsigned char c;

    if (poll(&look, 1, (int)(TEST_LIMIT_NS / 1000000)) != 1) {
        return -1;
    }
    return read(p->out, &c, 1) == 1 ? c : -1;
}

/* Waits for its end; its exit status, or 256 + signal. */
static inline int
test_peer_end(struct test_peer *p)
{
    int status;

    close(p->out);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static inline void
test_peer_kill(struct test_peer *p)
{
    kill(p->pid, SIGKILL);
    assert_int_equal(test_peer_end(p), 256 + SIGKILL);
}

/* ---- threads ---- */

/* A call orders what the procedure wrote before what its caller reads, but by
 * words that TSan sees at two addresses: these tell it so. */
static _Atomic int test_order;

static inline void
test_wrote(void)
{
    test_order++;
}

static inline void
test_reads(void)
{
    (void)test_order;
}

static inline int
test_door_call(int d, door_arg_t *arg)
{
    test_wrote();
    int result = door_call(d, arg);
    test_reads();
    return result;
}

/* A procedure that uses what the test wrote begins with test_reads(). */
#define door_call        test_door_call
#define door_return(...) (test_wrote(), door_return(__VA_ARGS__))

static inline pthread_t
test_thread(void *(*body)(void *), void *arg)
{
    pthread_t id;

    assert_int_equal(pthread_create(&id, NULL, body, arg), 0);
    return id;
}

/* A call that carries one word and brings one back. 0 or an errno. */
static inline int
test_call_word(int d, uint64_t in, uint64_t *out)
{
    char room[64];
    door_arg_t arg = {.data_ptr = (char *)&in,
                      .data_size = sizeof in,
                      .rbuf = room,
                      .rsize = sizeof room};

    if (door_call(d, &arg) < 0) {
        return errno;
    }
    if (arg.data_size != sizeof *out || arg.data_ptr != room) {
        return EPROTO;
    }
    memcpy(out, arg.data_ptr, sizeof *out);
    return 0;
}

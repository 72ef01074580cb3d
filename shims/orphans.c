/* A command's process group dies with it (runner.c). What made itself another
 * group or session would live on. But when its parent has ended it becomes a
 * child of the nearest "subreaper", and that is us; so every child of our main
 * thread is such a process (commands are children of the threads that started
 * them), or the watching process of groups.c.
 *
 * It may belong to a command that still runs: in the group of one, or with its
 * mark in the environment. Then it may stay until that has ended. Every other
 * one gets SIGKILL. Its own children come to us then, so each one that is
 * reaped starts another look: nothing is missed for having been someone's child
 * at the first one.
 *
 * Invariant: who is in the list of children cannot be reaped while the lock is
 * held, so that no number can have passed to a stranger. */
#include "orphans.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENVIRON_MAX  ((size_t)64 * 1024)
#define CHILDREN_MAX 8192

static struct orphans {
    pthread_mutex_t lock;
    struct groups *groups;
    int list; /* /proc's list of our children; -1: the kernel has none */
    const char *marks[GROUPS_MAX];
    int (*serve)(void *arg);
    void *arg;
} orphans = {.lock = PTHREAD_MUTEX_INITIALIZER, .list = -1};

/* Is MARK one of the strings in TEXT? */
static bool
has_string(const char *text, size_t len, const char *mark)
{
    size_t size = strlen(mark) + 1;

    for (const char *at = text, *end = text + len; at < end;) {
        size_t left = (size_t)(end - at);

        if (left >= size && memcmp(at, mark, size) == 0) {
            return true;
        }
        at += strnlen(at, left) + 1;
    }
    return false;
}

/* Does the environment of PID bear the mark of a running command? */
static bool
is_marked(pid_t pid)
{
    CLEAN_FREE char *text = malloc(ENVIRON_MAX);
    char path[32];
    CLEAN_FD int fd = -1;
    size_t len = 0;
    ssize_t n = 0;

    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (text == NULL || fd < 0) {
        return false;
    }
    do {
        n = read(fd, text + len, ENVIRON_MAX - len);
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    for (int i = 0; i < GROUPS_MAX; i++) {
        if (orphans.marks[i] != NULL &&
            has_string(text, len, orphans.marks[i])) {
            return true;
        }
    }
    return false;
}

static bool
is_in_group(pid_t pid)
{
    pid_t group = getpgid(pid);

    for (int i = 0; i < GROUPS_MAX; i++) {
        if (group > 1 && atomic_load(&orphans.groups->group[i]) == group) {
            return true;
        }
    }
    return false;
}

/* Ends every orphan that no running command can call its own. More than fit
 * into one reading are found when the first of them have been reaped. */
static void
look(void)
{
    char text[CHILDREN_MAX + 1];
    ssize_t n;
    char *at, *end;

    n = pread(orphans.list, text, CHILDREN_MAX, 0);
    text[MAX_OF(n, 0)] = '\0';
    for (at = text;; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);

        /* Each number has a space behind it: one without was cut. */
        if (end == at || *end == '\0') {
            return;
        }
        if (pid != orphans.groups->watcher && !is_in_group(pid) &&
            !is_marked(pid)) {
            kill(pid, SIGKILL);
        }
    }
}

static void *
serve_main(void *arg)
{
    exit(orphans.serve(orphans.arg));
}

/* Reaps our children, those of this thread alone. */
static _Noreturn void
reap(void)
{
    siginfo_t info;

    for (;;) {
        memset(&info, 0, sizeof(info));
        if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | __WNOTHREAD) < 0) {
            if (errno == ECHILD) {
                pause(); /* the watching process has been killed */
            }
            continue;
        }
        pthread_mutex_lock(&orphans.lock);
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
        look();
        pthread_mutex_unlock(&orphans.lock);
    }
}

int
orphans_serve(struct groups *groups, int (*serve)(void *arg), void *arg)
{
    pthread_t thread;
    char path[64];
    int rc;

    orphans.groups = groups;
    orphans.serve = serve;
    orphans.arg = arg;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    orphans.list = open(path, O_RDONLY | O_CLOEXEC);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    rc = pthread_create(&thread, NULL, serve_main, NULL);
    if (rc != 0) {
        errno = rc;
        return 1;
    }
    reap();
}

int
orphans_enter(const char *mark)
{
    int place = -1;

    pthread_mutex_lock(&orphans.lock);
    for (int i = 0; i < GROUPS_MAX && place < 0; i++) {
        if (orphans.marks[i] == NULL) {
            orphans.marks[i] = mark;
            place = i;
        }
    }
    pthread_mutex_unlock(&orphans.lock);
    return place;
}

void
orphans_leave(int place)
{
    pthread_mutex_lock(&orphans.lock);
    if (place >= 0) {
        orphans.marks[place] = NULL;
    }
    look();
    pthread_mutex_unlock(&orphans.lock);
}

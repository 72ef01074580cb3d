/* Commands run in process groups of their own, so whoever kills the shim's
 * group does not reach them, and after SIGKILL the shim cannot. The watching
 * process waits for the shim's end by a pidfd, and has the table of groups in
 * shared memory: each group that is left then gets SIGKILL.
 *
 * None is missed: a command's number is stored by its process before it becomes
 * the command, and it goes on only if the shim is still its parent then; the
 * pidfd tells the end after the children have lost their parent. (A
 * parent-death signal would not do: it is bound to the thread that started the
 * command, and threads come and go.) */
#include "groups.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

static _Noreturn void
watch_main(struct groups *groups, int pidfd)
{
    struct pollfd shim = {.fd = 0, .events = POLLIN};
    sigset_t all;
    int i;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    setpgid(0, 0);
    prctl(PR_SET_NAME, "cardea-shim-end");
    if (dup2(pidfd, 0) == 0) {
        close_range(1, ~0U, 0);
    }
    while (poll(&shim, 1, -1) < 0 && errno == EINTR) {
    }
    for (i = 0; i < GROUPS_MAX; i++) {
        pid_t group = atomic_load(&groups->group[i]);

        if (group > 1) {
            kill(-group, SIGKILL);
        }
    }
    _exit(0);
}

struct groups *
groups_start(void)
{
    struct groups *groups;
    int pidfd;
    pid_t pid;

    pidfd = pidfd_open(getpid(), 0);
    if (pidfd < 0) {
        return NULL;
    }
    groups = mmap(NULL, sizeof(*groups), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid = groups == MAP_FAILED ? -1 : fork();
    if (pid == 0) {
        watch_main(groups, pidfd);
    }
    close(pidfd);
    if (pid > 0) {
        groups->watcher = pid;
    }
    if (pid < 0 && groups != MAP_FAILED) {
        munmap(groups, sizeof(*groups));
    }
    return pid < 0 ? NULL : groups;
}

_Atomic pid_t *
groups_enter(struct groups *groups)
{
    int i;

    for (i = 0; groups != NULL && i < GROUPS_MAX; i++) {
        pid_t none = 0;

        if (atomic_compare_exchange_strong(&groups->group[i], &none, -1)) {
            return &groups->group[i];
        }
    }
    return NULL;
}

void
groups_leave(_Atomic pid_t *place)
{
    if (place != NULL) {
        atomic_store(place, 0);
    }
}

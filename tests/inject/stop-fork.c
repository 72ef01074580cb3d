/* Preloaded into a server under test: each child that it or its keeper forks
 * writes its number to the FIFO that STOP_FORK names and stops, before its
 * first own system call, so that strace can be attached to exactly that process
 * from its birth on. Whoever runs the test continues it (tests/lib/inject.py).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

__attribute__((visibility("default"))) pid_t
fork(void)
{
    pid_t (*real)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
    pid_t pid = real();

    if (pid == 0) {
        const char *path = getenv("STOP_FORK");
        pid_t self = getpid();
        int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

        if (fd < 0 || write(fd, &self, sizeof self) != sizeof self) {
            abort();
        }
        close(fd);
        raise(SIGSTOP);
    }
    return pid;
}

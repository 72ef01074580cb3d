/* Probes of the kernel: each does what Cardea will do, on a small scale, and
 * looks at what comes of it, since a container may refuse what the version
 * promises. Numbers of calls and options are written out where the headers of
 * the build may be older than the kernel. */
#include "ctl/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define CALL_EPOLL_PWAIT2 441
#define CALL_FUTEX_WAITV  449
#define OPTION_PASSPIDFD  76
#define OPTION_PEERPIDFD  77
#define OPTION_PASSRIGHTS 83

#define NEWER_KERNEL "run Linux 6.1 or newer (Debian 12 has it)"
void
probe_kernel(struct doctor *d)
{
    struct utsname name;
    unsigned major = 0;
    unsigned minor = 0;

    if (uname(&name) < 0 ||
        sscanf(name.release, "%u.%u", &major, &minor) != 2) {
        doctor_say(d, DOCTOR_WARN, "kernel", NEWER_KERNEL,
                   "its version cannot be told");
        return;
    }
    if (major < 6 || (major == 6 && minor < 1)) {
        doctor_say(d, DOCTOR_FAIL, "kernel", NEWER_KERNEL, "%s %s, %s",
                   name.sysname, name.release, name.machine);
        return;
    }
    doctor_say(d, DOCTOR_OK, "kernel", NULL, "%s %s, %s", name.sysname,
               name.release, name.machine);
}

/* What is wrong with sealed memory, or NULL. */
static const char *
try_sealed(int fd)
{
    void *writer;
    void *other;

    if (ftruncate(fd, 4096) < 0) {
        return "it cannot be sized";
    }
    writer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (writer == MAP_FAILED) {
        return "it cannot be mapped";
    }
    *(volatile char *)writer = 1;
    if (fcntl(fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) <
        0) {
        munmap(writer, 4096);
        return "it cannot be sealed";
    }
    other = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (other != MAP_FAILED) {
        munmap(other, 4096);
        munmap(writer, 4096);
        return "a seal does not hold";
    }
    munmap(writer, 4096);
    return NULL;
}

void
probe_memory(struct doctor *d)
{
    CLEAN_FD int fd =
        memfd_create("cardea-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const char *wrong;

    if (fd < 0) {
        doctor_say(d, DOCTOR_FAIL, "memfd", SECCOMP_MEND,
                   "memory files cannot be made: %s", strerrordesc_np(errno));
        return;
    }
    wrong = try_sealed(fd);
    doctor_say(d, wrong != NULL ? DOCTOR_FAIL : DOCTOR_OK, "memfd",
               wrong != NULL ? NEWER_KERNEL : NULL,
               "memory files with seals%s%s", wrong != NULL ? ": " : "",
               wrong != NULL ? wrong : "");
}

/* CALL answered with ERRNO where it is there, since it was called wrongly. */
static void
say_call(struct doctor *d, const char *name, long rc, int expected,
         const char *what)
{
    int error = errno;

    if (rc >= 0 || error == expected) {
        doctor_say(d, DOCTOR_OK, name, NULL, "%s", what);
    } else {
        doctor_say(d, DOCTOR_FAIL, name,
                   error == ENOSYS ? NEWER_KERNEL "; or " SECCOMP_MEND
                                   : SECCOMP_MEND,
                   "%s: %s", what, strerrordesc_np(error));
    }
}

void
probe_calls(struct doctor *d)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    say_call(d, "pidfd", fd, 0, "processes as descriptors");
    if (fd >= 0) {
        close(fd);
    }
    say_call(d, "futex-waitv", syscall(CALL_FUTEX_WAITV, NULL, 0, 0, NULL, 0),
             EINVAL, "waiting for two words at once");
    say_call(d, "epoll-pwait2",
             syscall(CALL_EPOLL_PWAIT2, -1, NULL, 1, NULL, NULL, 0), EBADF,
             "waiting with nanoseconds");
}

void
probe_clone(struct doctor *d)
{
    long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    int status = 0;

    if (pid == 0) {
        _exit(7);
    }
    if (pid < 0) {
        doctor_say(d, DOCTOR_FAIL, "clone-files", SECCOMP_MEND,
                   "a process that shares descriptors: %s",
                   strerrordesc_np(errno));
        return;
    }
    waitpid((pid_t)pid, &status, 0);
    doctor_say(d, DOCTOR_OK, "clone-files", NULL,
               "a process that shares descriptors");
}

static void
say_newer(struct doctor *d, const char *name, bool there, const char *what,
          const char *since, const char *instead)
{
    if (there) {
        doctor_say(d, DOCTOR_OK, name, NULL, "%s", what);
    } else {
        doctor_say(d, DOCTOR_INFO, name, NULL, "%s: not here (Linux %s); %s",
                   what, since, instead);
    }
}

void
probe_sockets(struct doctor *d)
{
    int pair[2];
    int on = 1;
    int fd = -1;
    socklen_t len = sizeof(fd);

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        doctor_say(d, DOCTOR_FAIL, "unix-sockets", SECCOMP_MEND, "%s",
                   strerrordesc_np(errno));
        return;
    }
    doctor_say(d, DOCTOR_OK, "unix-sockets", NULL,
               "messages between processes");
    say_newer(d, "peer-pidfd",
              getsockopt(pair[0], SOL_SOCKET, OPTION_PEERPIDFD, &fd, &len) == 0,
              "who connected, as a descriptor", "6.5", "its number is used");
    say_newer(
        d, "message-pidfd",
        setsockopt(pair[0], SOL_SOCKET, OPTION_PASSPIDFD, &on, sizeof(on)) == 0,
        "who sent a message, as a descriptor", "6.5", "its number is used");
    say_newer(d, "pass-rights",
              getsockopt(pair[0], SOL_SOCKET, OPTION_PASSRIGHTS, &on,
                         &(socklen_t){sizeof(on)}) == 0,
              "refusing descriptors at a socket", "6.16",
              "they are closed when they come");
    if (fd >= 0) {
        close(fd);
    }
    close(pair[0]);
    close(pair[1]);
}

/* Writes the workers' system call filter as C, at build time: libseccomp knows
 * how to make a good one, and nothing of it is needed at run time.
 *
 * What is listed is allowed. What a confined process has no business with kills
 * it. All else is answered EACCES, so that a library that tries something for
 * comfort goes on without it. */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* How heirs are cloned (src/front/succession.c), and in no other way. */
#define HEIR_FLAGS (CLONE_FILES | CLONE_PARENT | CLONE_PIDFD | SIGCHLD)

static const int allowed[] = {
    /* the loop */
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(futex),
    SCMP_SYS(futex_waitv),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_yield),
    /* connections, doors, the keeper */
    SCMP_SYS(accept4),
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendfile),
    SCMP_SYS(splice),
    SCMP_SYS(shutdown),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fcntl),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(pipe2),
    SCMP_SYS(connect), /* to nothing: a reset */
    /* files beneath the folders that it was given */
    SCMP_SYS(openat),
    SCMP_SYS(openat2),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(readlinkat),
    SCMP_SYS(lseek),
    SCMP_SYS(fstatfs),
    SCMP_SYS(fadvise64),
    /* memory */
    SCMP_SYS(munmap),
    SCMP_SYS(madvise),
    SCMP_SYS(mremap),
    SCMP_SYS(brk),
    SCMP_SYS(memfd_create),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    /* itself and its heirs */
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(pidfd_open),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(tgkill),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

static const int deadly[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(bpf),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(setuid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setresgid),
    SCMP_SYS(bind),
    SCMP_SYS(listen),
};

static int
add_all(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t n)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = seccomp_rule_add(ctx, action, calls[i], 0);
    }
    return rc;
}

/* Calls that are right with some arguments only. */
static int
add_checked(scmp_filter_ctx ctx)
{
    const struct scmp_arg_cmp heir = SCMP_A0_64(SCMP_CMP_EQ, HEIR_FLAGS);
    const struct scmp_arg_cmp no_exec =
        SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    const struct scmp_arg_cmp unix_pair = SCMP_A0_64(SCMP_CMP_EQ, AF_UNIX);
    /* The counters of heirs.md, and how much waits in a pipe or socket. */
    static const unsigned long asks[] = {0x541b /* SIOCINQ, FIONREAD */,
                                         0x5411 /* SIOCOUTQ */};
    int rc =
        seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &heir);

    if (rc == 0) {
        rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                    &no_exec);
    }
    if (rc == 0) {
        rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                    &no_exec);
    }
    if (rc == 0) {
        rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair),
                                    1, &unix_pair);
    }
    for (size_t i = 0; i < sizeof asks / sizeof *asks && rc == 0; i++) {
        const struct scmp_arg_cmp ask = SCMP_A1_64(SCMP_CMP_EQ, asks[i]);
        rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                    &ask);
    }
    if (rc == 0) { /* libc falls back to clone */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    }
    return rc;
}

/* The program, as FD holds it, eight bytes an instruction. */
static int
print_program(FILE *from)
{
    unsigned char b[8];
    size_t n = 0;

    puts("/* Made by make-filter.c. */");
    while (fread(b, sizeof b, 1, from) == 1) {
        unsigned code, k;
        unsigned short word;
        memcpy(&word, b, 2);
        memcpy(&k, b + 4, 4);
        code = word;
        printf("    {0x%02x, %u, %u, 0x%08x},\n", code, b[2], b[3], k);
        n++;
    }
    return n > 0 && !ferror(from) && fflush(stdout) == 0 ? 0 : -EIO;
}

int
main(void)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EACCES));
    FILE *file = tmpfile();
    int rc = ctx == NULL || file == NULL ? -ENOMEM : 0;

    if (rc == 0) { /* a tree: a call costs a few steps, not a hundred */
        (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        rc = add_all(ctx, SCMP_ACT_ALLOW, allowed,
                     sizeof allowed / sizeof *allowed);
    }
    if (rc == 0) {
        rc = add_all(ctx, SCMP_ACT_KILL_PROCESS, deadly,
                     sizeof deadly / sizeof *deadly);
    }
    if (rc == 0) {
        rc = add_checked(ctx);
    }
    if (rc == 0) {
        rc = seccomp_export_bpf(ctx, fileno(file));
    }
    if (ctx != NULL) {
        seccomp_release(ctx);
    }
    if (rc == 0) {
        rewind(file);
        rc = print_program(file);
    }
    if (file != NULL) {
        fclose(file);
    }
    if (rc != 0) {
        fprintf(stderr, "make-filter: %s\n", strerror(-rc));
    }
    return rc != 0;
}

/* The program must run on Linux 6.1 and is written and tested on newer ones. A
 * seccomp filter makes such a kernel answer as the old one would, for us and
 * for every child, whatever libc or a module's own code asks.
 *
 * A filter sees a call's number and arguments, not what a pointer leads to. So
 * it hides: whole calls, by their number (from 424 on the same on all
 * machines); options of sockets, prctl and fcntl; flags that are arguments. It
 * cannot hide flags in a structure (clone3, openat2, statx's answer), nor
 * change a result (Landlock's version): docs/kernels.md.
 *
 * System calls above the highest number that we know are hidden too. */
#include "base/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#define OUR_ARCH 0
#endif

#define MINOR_MAX 19
#define CODE_MAX  512

/* The last system call of Linux 6.MINOR. */
static const struct {
    int minor;
    uint32_t last;
} calls[] = {
    {1, 450},  /* set_mempolicy_home_node */
    {5, 451},  /* cachestat */
    {6, 453},  /* fchmodat2, map_shadow_stack */
    {7, 456},  /* futex_wake, futex_wait, futex_requeue */
    {8, 461},  /* statmount, listmount, lsm_* */
    {10, 462}, /* mseal */
    {13, 466}, /* *xattrat */
    {15, 467}, /* open_tree_attr */
    {17, 469}, /* file_getattr, file_setattr */
    {19, 470}, /* listns */
};

enum test_kind {
    TEST_NONE,
    TEST_IS,      /* the argument is VALUE */
    TEST_FROM,    /* it is VALUE or more */
    TEST_BELOW,   /* it is less than VALUE */
    TEST_HAS_ANY, /* it has a bit of VALUE */
    TEST_KIND_IS, /* its bits 8 to 15, an ioctl's kind, are VALUE */
};

/* A call that answers ERROR before 6.MINOR where all tests are true. */
static const struct rule {
    uint32_t nr;
    int minor;
    int error;
    struct {
        enum test_kind kind;
        uint32_t argument, value;
    } tests[3];
} rules[] = {
/* Socket options: SO_PASSPIDFD 76 and SO_PEERPIDFD, SO_DEVMEM_* 78,
 * SO_RCVPRIORITY 82, SO_PASSRIGHTS 83, SO_INQ 84. */
#define OPTION(call, level, first, minor)                                      \
    {                                                                          \
        call, minor, ENOPROTOOPT,                                              \
        {                                                                      \
            {TEST_IS, 1, level}, {TEST_FROM, 2, first},                        \
            {                                                                  \
                TEST_BELOW, 2, 1024                                            \
            }                                                                  \
        }                                                                      \
    }
    OPTION(SYS_setsockopt, SOL_SOCKET, 76, 5),
    OPTION(SYS_getsockopt, SOL_SOCKET, 76, 5),
    OPTION(SYS_setsockopt, SOL_SOCKET, 78, 12),
    OPTION(SYS_getsockopt, SOL_SOCKET, 78, 12),
    OPTION(SYS_setsockopt, SOL_SOCKET, 82, 14),
    OPTION(SYS_getsockopt, SOL_SOCKET, 82, 14),
    OPTION(SYS_setsockopt, SOL_SOCKET, 83, 16),
    OPTION(SYS_getsockopt, SOL_SOCKET, 83, 16),
    /* TCP_AO_* 38 */
    OPTION(SYS_setsockopt, 6, 38, 7),
    OPTION(SYS_getsockopt, 6, 38, 7),
#undef OPTION
    /* PR_SET_MDWE 65, PR_SET_MEMORY_MERGE 67, shadow stacks 74; below 1024,
     * where the options with a spelled number are not; PR_GET_AUXV. */
    {SYS_prctl, 3, EINVAL, {{TEST_FROM, 0, 65}, {TEST_BELOW, 0, 1024}}},
    {SYS_prctl, 4, EINVAL, {{TEST_FROM, 0, 67}, {TEST_BELOW, 0, 1024}}},
    {SYS_prctl, 13, EINVAL, {{TEST_FROM, 0, 74}, {TEST_BELOW, 0, 1024}}},
    {SYS_prctl, 4, EINVAL, {{TEST_IS, 0, 0x41555856}}},
    /* MFD_NOEXEC_SEAL and MFD_EXEC, F_SEAL_EXEC */
    {SYS_memfd_create, 3, EINVAL, {{TEST_HAS_ANY, 1, 0x18}}},
    {SYS_fcntl, 3, EINVAL, {{TEST_IS, 1, F_ADD_SEALS}, {TEST_HAS_ANY, 2, 32}}},
    /* F_DUPFD_QUERY, F_CREATED_QUERY and what followed */
    {SYS_fcntl, 10, EINVAL, {{TEST_IS, 1, 1027}}},
    {SYS_fcntl, 12, EINVAL, {{TEST_IS, 1, 1028}}},
    {SYS_fcntl, 19, EINVAL, {{TEST_FROM, 1, 1039}, {TEST_BELOW, 1, 1100}}},
    /* PIDFD_THREAD; flags of pidfd_send_signal */
    {SYS_pidfd_open, 9, EINVAL, {{TEST_HAS_ANY, 1, O_EXCL}}},
    {SYS_pidfd_send_signal, 9, EINVAL, {{TEST_FROM, 3, 1}}},
    /* A pidfd's ioctls (0xff), epoll's (0x8a) */
    {SYS_ioctl, 11, ENOTTY, {{TEST_KIND_IS, 1, 0xff}}},
    {SYS_ioctl, 9, ENOTTY, {{TEST_KIND_IS, 1, 0x8a}}},
    /* RWF_NOAPPEND, RWF_ATOMIC, RWF_DONTCACHE */
    {SYS_pwritev2, 9, EOPNOTSUPP, {{TEST_HAS_ANY, 5, 0x20}}},
    {SYS_pwritev2, 11, EOPNOTSUPP, {{TEST_HAS_ANY, 5, 0x40}}},
    {SYS_pwritev2, 14, EOPNOTSUPP, {{TEST_HAS_ANY, 5, 0x80}}},
    {SYS_preadv2, 14, EOPNOTSUPP, {{TEST_HAS_ANY, 5, 0x80}}},
};

struct code {
    struct sock_filter at[CODE_MAX];
    unsigned short n;
};

/* One instruction; a program that is too long is never installed. */
static void
emit(struct code *c, unsigned kind, uint32_t k, unsigned yes, unsigned no)
{
    if (c->n < CODE_MAX) {
        c->at[c->n] =
            (struct sock_filter){(uint16_t)kind, (uint8_t)yes, (uint8_t)no, k};
    }
    c->n++;
}

static void
emit_load(struct code *c, size_t offset)
{
    emit(c, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void
emit_error(struct code *c, int error)
{
    emit(c, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error, 0, 0);
}

static unsigned
test_length(enum test_kind kind)
{
    return kind == TEST_NONE ? 0 : kind == TEST_KIND_IS ? 4 : 2;
}

/* Goes on with the next instruction if the test is true; else SKIP more. The
 * low half of the argument is what these calls look at. */
static void
emit_test(struct code *c, enum test_kind kind, uint32_t argument,
          uint32_t value, unsigned skip)
{
    emit_load(c, offsetof(struct seccomp_data, args) +
                     argument * sizeof(uint64_t));
    switch (kind) {
    case TEST_NONE:
        break;
    case TEST_IS:
        emit(c, BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip);
        break;
    case TEST_FROM:
        emit(c, BPF_JMP | BPF_JGE | BPF_K, value, 0, skip);
        break;
    case TEST_BELOW:
        emit(c, BPF_JMP | BPF_JGE | BPF_K, value, skip, 0);
        break;
    case TEST_HAS_ANY:
        emit(c, BPF_JMP | BPF_JSET | BPF_K, value, 0, skip);
        break;
    case TEST_KIND_IS:
        emit(c, BPF_ALU | BPF_RSH | BPF_K, 8, 0, 0);
        emit(c, BPF_ALU | BPF_AND | BPF_K, 0xff, 0, 0);
        emit(c, BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip);
        break;
    }
}

static void
emit_rule(struct code *c, const struct rule *rule)
{
    unsigned left = 1; /* the error itself */

    for (size_t i = 0; i < ARRAY_LEN(rule->tests); i++) {
        left += test_length(rule->tests[i].kind);
    }
    emit_load(c, offsetof(struct seccomp_data, nr));
    emit(c, BPF_JMP | BPF_JEQ | BPF_K, rule->nr, 0, left);
    for (size_t i = 0; i < ARRAY_LEN(rule->tests); i++) {
        if (rule->tests[i].kind != TEST_NONE) {
            left -= test_length(rule->tests[i].kind);
            emit_test(c, rule->tests[i].kind, rule->tests[i].argument,
                      rule->tests[i].value, left);
        }
    }
    emit_error(c, rule->error);
}

/* The whole filter. Programs of another machine (32 bits) have other numbers
 * for old calls: of theirs only new ones are hidden. */
static void
emit_all(struct code *c, int minor)
{
    uint32_t last = 0;

    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        last = calls[i].minor <= minor ? calls[i].last : last;
    }
    emit_load(c, offsetof(struct seccomp_data, nr));
    emit(c, BPF_JMP | BPF_JGT | BPF_K, last, 0, 1);
    emit_error(c, ENOSYS);
    emit_load(c, offsetof(struct seccomp_data, arch));
    emit(c, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
    emit(c, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (rules[i].minor > minor) {
            emit_rule(c, &rules[i]);
        }
    }
    emit(c, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* The N of "6.N", or -1. */
static int
read_minor(const char *version)
{
    char *end;
    long minor;

    if (strncmp(version, "6.", 2) != 0 || version[2] < '1' ||
        version[2] > '9') {
        return -1;
    }
    minor = strtol(version + 2, &end, 10);
    return *end == '\0' && minor <= MINOR_MAX ? (int)minor : -1;
}

static int __attribute__((format(printf, 4, 5)))
refuse(int rc, char *why, size_t why_size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return rc;
}

/* 0 or a negative errno. With CAP_SYS_ADMIN it works without no_new_privs,
 * which then stays as it is. */
static int
install(struct code *c)
{
    struct sock_fprog program = {c->n, c->at};

    if (c->n > CODE_MAX) {
        return -E2BIG;
    }
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) {
        return 0;
    }
    if (errno != EACCES || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
        return -errno;
    }
    return 0;
}

int
kernel_hide(const char *version, char *why, size_t why_size)
{
    struct code code = {.n = 0};
    int minor;
    int rc;

    if (version == NULL || version[0] == '\0') {
        return 0;
    }
    minor = read_minor(version);
    if (minor < 0) {
        return refuse(-EINVAL, why, why_size,
                      "CARDEA_KERNEL=%.32s: no kernel that can be feigned; "
                      "known are 6.1 to 6.%d",
                      version, MINOR_MAX);
    }
    if (OUR_ARCH == 0) {
        return refuse(-ENOTSUP, why, why_size,
                      "CARDEA_KERNEL is there for x86-64 and arm64 only");
    }
    emit_all(&code, minor);
    rc = install(&code);
    if (rc < 0) {
        return refuse(rc, why, why_size, "CARDEA_KERNEL=%s: seccomp: %s",
                      version, strerrordesc_np(-rc));
    }
    return 0;
}

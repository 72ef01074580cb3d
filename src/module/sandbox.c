/* A ruleset is made by the keeper, who may open every path, and entered by the
 * child, whose last call before that it is. Rules hold on to what lies at a
 * path now: so a ruleset is made for each start.
 *
 * Each version of Landlock knows more kinds of access, and refuses a ruleset
 * that names one it does not know. What a version does not know is allowed; so
 * each kind is refused from the version on that knows it, and docs/isolation.md
 * says what that leaves. Numbers and structures are written out, since the
 * headers of the build may be older than the kernel. */
#include "module/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

/* The same numbers on all machines. */
#define CALL_CREATE   444
#define CALL_ADD      445
#define CALL_RESTRICT 446
#define ASK_VERSION   1
#define RULE_PATH     1

#define FS_EXECUTE     (1ull << 0)
#define FS_WRITE_FILE  (1ull << 1)
#define FS_READ_FILE   (1ull << 2)
#define FS_READ_DIR    (1ull << 3)
#define FS_REMOVE_DIR  (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_CHAR   (1ull << 6)
#define FS_MAKE_DIR    (1ull << 7)
#define FS_MAKE_REG    (1ull << 8)
#define FS_MAKE_SOCK   (1ull << 9)
#define FS_MAKE_FIFO   (1ull << 10)
#define FS_MAKE_BLOCK  (1ull << 11)
#define FS_MAKE_SYM    (1ull << 12)
#define FS_REFER       (1ull << 13) /* rename to another folder: version 2 */
#define FS_TRUNCATE    (1ull << 14) /* version 3 */
#define FS_IOCTL_DEV   (1ull << 15) /* ioctl of devices: version 5 */
#define FS_ALL_1       ((1ull << 13) - 1)

#define SCOPE_ABSTRACT (1ull << 0) /* version 6 */
#define SCOPE_SIGNAL   (1ull << 1)

/* What a rule about a plain file may allow. */
#define FS_OF_FILES                                                            \
    (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

/* Nobody of ours makes devices. */
#define FS_WRITING                                                             \
    (FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |            \
     FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM | FS_REFER |      \
     FS_TRUNCATE | FS_IOCTL_DEV)

struct ruleset {
    uint64_t fs;
    uint64_t net; /* version 4: not used, all stays allowed */
    uint64_t scoped;
};

struct path_rule {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

int
sandbox_version(void)
{
    long version = syscall(CALL_CREATE, NULL, 0, ASK_VERSION);

    return version > 0 ? (int)version : 0;
}

/* All kinds of access to files that VERSION knows. */
static uint64_t
known_access(int version)
{
    uint64_t known = FS_ALL_1;

    known |= version >= 2 ? FS_REFER : 0;
    known |= version >= 3 ? FS_TRUNCATE : 0;
    known |= version >= 5 ? FS_IOCTL_DEV : 0;
    return known;
}

/* The structure as long as VERSION has it. */
static size_t
ruleset_size(int version)
{
    return version >= 6   ? sizeof(struct ruleset)
           : version >= 4 ? offsetof(struct ruleset, scoped)
                          : offsetof(struct ruleset, net);
}

static uint64_t
access_of(unsigned rights)
{
    uint64_t access = 0;

    access |= (rights & SANDBOX_READ) != 0 ? FS_READ_FILE | FS_READ_DIR : 0;
    access |= (rights & SANDBOX_EXECUTE) != 0 ? FS_EXECUTE : 0;
    access |= (rights & SANDBOX_WRITE) != 0 ? FS_WRITING : 0;
    return access;
}

static int
add_path(int ruleset, uint64_t known, const struct sandbox_path *path)
{
    CLEAN_FD int fd = open(path->path, O_PATH | O_CLOEXEC);
    struct path_rule rule = {access_of(path->rights) & known, fd};
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return path->is_optional ? 0 : -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        rule.allowed &= FS_OF_FILES;
    }
    return syscall(CALL_ADD, ruleset, RULE_PATH, &rule, 0) < 0 ? -errno : 0;
}

int
sandbox_make(const struct sandbox_path *paths, size_t n, int *p_fd,
             size_t *p_bad)
{
    int version = sandbox_version();
    struct ruleset set = {.fs = known_access(version),
                          .scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL};
    CLEAN_FD int fd = -1;

    *p_bad = n;
    if (version == 0) {
        return -EOPNOTSUPP;
    }
    fd = (int)syscall(CALL_CREATE, &set, ruleset_size(version), 0);
    if (fd < 0) {
        return -errno;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    for (size_t i = 0; i < n; i++) {
        int rc = add_path(fd, set.fs, &paths[i]);

        if (rc < 0) {
            *p_bad = i;
            return rc;
        }
    }
    *p_fd = fd;
    fd = -1;
    return 0;
}

int
sandbox_enter(int fd)
{
    return syscall(CALL_RESTRICT, fd, 0) < 0 ? -errno : 0;
}

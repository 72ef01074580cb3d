/* fattach, fdetach, open and stat. Section 8. */
#include "conformance.h"

CASE("fattach: the path is the door from then on", attached)
{
    const char *path = free_path();
    int d = door_create(echo, NULL, 0);

    make_file(path, 0644);
    SAME(fattach(d, path), 0);
    int fd = open(path, O_RDWR);
    SAME(call_text(fd, "through the name"), 0);
    SAME(fcntl(fd, F_GETFD), 0); /* not close-on-exec */
    close(fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    SAME(fcntl(fd, F_GETFD), FD_CLOEXEC);
    SAME(call_text(fd, "opened for reading alone"), 0);
    remove_path(path);
}

CASE("fattach: EBADF, EINVAL, ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG", errors)
{
    static char longest[5000];
    const char *path = free_path();
    char below[80];
    int d = door_create(echo, NULL, 0);

    make_file(path, 0644);
    snprintf(below, sizeof below, "%s/below", path);
    memset(longest, 'n', sizeof longest - 1);
    FAILS(fattach(-1, path), EBADF);
    FAILS(fattach(999, path), EBADF);
    FAILS(fattach(0, path), EINVAL);
    FAILS(fattach(d, ""), ENOENT);
    FAILS(fattach(d, NULL), ENOENT);
    FAILS(fattach(d, "/no/such/file"), ENOENT);
    FAILS(fattach(d, below), ENOTDIR);
    FAILS(fattach(d, longest), ENAMETOOLONG);
    remove_path(path);
    path = free_path();
    CHECK(symlink(path, path) == 0);
    FAILS(fattach(d, path), ELOOP);
    remove_path(path);
}

CASE("fattach: EBUSY where one is attached", busy)
{
    const char *path = free_path();
    int d = door_create(echo, NULL, 0), e = door_create(echo, NULL, 0);

    make_file(path, 0644);
    SAME(fattach(d, path), 0);
    FAILS(fattach(d, path), EBUSY);
    FAILS(fattach(e, path), EBUSY);
    SAME(fdetach(path), 0);
    SAME(fattach(e, path), 0);
    remove_path(path);
}

static const char *the_path;
static int expected_error;

static void
attaches_as_nobody(void)
{
    CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    int d = door_create(echo, NULL, 0);
    FAILS(fattach(d, the_path), expected_error);
}

CASE("fattach: EPERM for who does not own the file", not_owner)
{
    if (geteuid() != 0) {
        return;
    }
    the_path = free_path();
    make_file(the_path, 0666);
    expected_error = EPERM;
    SAME(end_of(spawn(attaches_as_nobody)), 0);
    remove_path(the_path);
}

CASE("fattach: EACCES for the owner without write permission", not_writable)
{
    if (geteuid() != 0) {
        return;
    }
    the_path = free_path();
    make_file(the_path, 0400);
    CHECK(chown(the_path, 65534, 65534) == 0);
    expected_error = EACCES;
    SAME(end_of(spawn(attaches_as_nobody)), 0);
    remove_path(the_path);
}

CASE("fattach: one door at many paths", many_names)
{
    const char *first = free_path();
    char paths[20][64];
    int d = door_create(echo, NULL, 0);

    for (int i = 0; i < 20; i++) {
        snprintf(paths[i], sizeof paths[i], "%s%d", first, i);
        make_file(paths[i], 0644);
        SAME(fattach(d, paths[i]), 0);
    }
    for (int i = 0; i < 20; i++) {
        int fd = open(paths[i], O_RDONLY);
        SAME(call_text(fd, "each of them"), 0);
        close(fd);
        SAME(fdetach(paths[i]), 0);
        unlink(paths[i]);
    }
    remove_path(first);
}

static int passed;

static void
attaches_passed(void)
{
    SAME(fattach(passed, the_path), 0);
}

CASE("fattach: any holder of a door may attach it", any_holder)
{
    the_path = free_path();
    make_file(the_path, 0644);
    passed = door_create(echo, NULL, 0);
    SAME(end_of(spawn(attaches_passed)), 0);
    int fd = open(the_path, O_RDONLY);
    SAME(call_text(fd, "attached by another process"), 0);
    SAME(fdetach(the_path), 0);
    remove_path(the_path);
}

CASE("fdetach: the file comes back as it was, descriptors go on", detached)
{
    const char *path = free_path();
    char text[8] = {0};
    int d = door_create(echo, NULL, 0);
    int file = open(path, O_RDWR | O_CREAT, 0640);
    struct stat st;

    CHECK(write(file, "before", 6) == 6);
    close(file);
    SAME(fattach(d, path), 0);
    int fd = open(path, O_RDONLY);
    SAME(fdetach(path), 0);
    SAME(call_text(fd, "still open"), 0);
    file = open(path, O_RDONLY);
    SAME(read(file, text, 7), 6);
    SAME(strcmp(text, "before"), 0);
    SAME(stat(path, &st), 0);
    SAME((long long)st.st_mode, S_IFREG | 0640);
    remove_path(path);
}

CASE("fdetach: EINVAL where nothing is attached, and the errors of paths",
     detach_errors)
{
    const char *path = free_path();

    make_file(path, 0644);
    FAILS(fdetach(path), EINVAL);
    FAILS(fdetach("/"), EINVAL);
    FAILS(fdetach(""), ENOENT);
    FAILS(fdetach(NULL), ENOENT);
    FAILS(fdetach("/no/such/file"), ENOENT);
    FAILS(fdetach("/etc/passwd/below"), ENOTDIR);
    remove_path(path);
}

static void
detaches(void)
{
    SAME(fdetach(the_path), 0);
}

static void
detaches_as_nobody(void)
{
    CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    FAILS(fdetach(the_path), EPERM);
}

CASE("fdetach: by any process of the owner, EPERM for others", detach_others)
{
    int d = door_create(echo, NULL, 0);

    the_path = free_path();
    make_file(the_path, 0644);
    SAME(fattach(d, the_path), 0);
    if (geteuid() == 0) {
        SAME(end_of(spawn(detaches_as_nobody)), 0);
    }
    SAME(end_of(spawn(detaches)), 0);
    FAILS(fdetach(the_path), EINVAL);
    remove_path(the_path);
}

static void
opens_as_nobody(void)
{
    CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    FAILS(open(the_path, O_RDWR), EACCES);
    FAILS(open(the_path, O_WRONLY), EACCES);
    int fd = open(the_path, O_RDONLY);
    CHECK(fd >= 0);
    SAME(call_text(fd, "the mode bits let it"), 0);
}

static void
opens_nothing(void)
{
    CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    FAILS(open(the_path, O_RDONLY), EACCES);
}

CASE("open: needs the mode bits for what is asked", mode_bits)
{
    int d = door_create(echo, NULL, 0);

    if (geteuid() != 0) {
        return;
    }
    the_path = free_path();
    make_file(the_path, 0644);
    SAME(fattach(d, the_path), 0);
    SAME(end_of(spawn(opens_as_nobody)), 0);
    CHECK(chmod(the_path, 0600) == 0);
    SAME(end_of(spawn(opens_nothing)), 0);
    remove_path(the_path);
}

CASE("open: EEXIST for O_CREAT with O_EXCL", exclusive)
{
    const char *path = free_path();

    make_file(path, 0644);
    SAME(fattach(door_create(echo, NULL, 0), path), 0);
    FAILS(open(path, O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    remove_path(path);
}

CASE("open: openat and creat too, the number that open would give", openat_too)
{
    char folder[64];
    int d;
    pid_t pid = server_start(echo, 0, &d); /* no thread here takes numbers */

    snprintf(folder, sizeof folder, "%s", server_path);
    *strrchr(folder, '/') = 0;
    int at = open(folder, O_RDONLY | O_DIRECTORY);
    int lowest = dup(0);
    close(lowest);
    int fd = openat(at, "door", O_RDONLY);
    SAME(fd, lowest);
    SAME(call_text(fd, "openat"), 0);
    close(fd);
    lowest = dup(0); /* the call has made a channel */
    close(lowest);
    fd = creat(server_path, 0644);
    SAME(fd, lowest);
    SAME(call_text(fd, "creat"), 0);
    server_end(pid);
}

CASE("open: plain files stay what they are", plain_file)
{
    const char *path = free_path();
    char text[8] = {0};

    make_file(path, 0644);
    int fd = open(path, O_RDWR);
    SAME(write(fd, "plain", 5), 5);
    SAME(lseek(fd, 0, SEEK_SET), 0);
    SAME(read(fd, text, 7), 5);
    FAILS(open("/no/such/file", O_RDONLY), ENOENT);
    FAILS(door_call(fd, NULL), EBADF);
    remove_path(path);
}

CASE("stat: a door, with the owner and mode of the file, one link, size 0",
     stat_path)
{
    const char *path = free_path();
    struct stat before, st;
    int file = open(path, O_RDWR | O_CREAT, 0600);

    CHECK(write(file, "text", 4) == 4 && fchmod(file, 0664) == 0);
    close(file);
    SAME(stat(path, &before), 0);
    SAME(fattach(door_create(echo, NULL, 0), path), 0);
    SAME(stat(path, &st), 0);
    CHECK(S_ISDOOR(st.st_mode));
    SAME((long long)(st.st_mode & 07777), 0664);
    SAME(st.st_uid, before.st_uid);
    SAME((long long)st.st_nlink, 1);
    SAME(st.st_size, 0);
    SAME(st.st_mtim.tv_sec, before.st_mtim.tv_sec);
    SAME(lstat(path, &st), 0);
    CHECK(S_ISDOOR(st.st_mode));
    SAME(fstatat(AT_FDCWD, path, &st, 0), 0);
    CHECK(S_ISDOOR(st.st_mode));
    remove_path(path);
}

CASE("stat: statx says so too", statx_path)
{
    const char *path = free_path();
    struct statx st;

    make_file(path, 0644);
    SAME(fattach(door_create(echo, NULL, 0), path), 0);
    SAME(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st), 0);
    CHECK(S_ISDOOR(st.stx_mode));
    remove_path(path);
}

CASE("fstat: a fresh door is S_IFDOOR|0777 of user 0, size 0", fstat_door)
{
    struct stat st;

    if (is_under_tsan()) {
        return;
    }
    SAME(fstat(door_create(echo, NULL, 0), &st), 0);
    SAME((long long)st.st_mode, S_IFDOOR | 0777);
    SAME(st.st_uid, 0);
    SAME(st.st_gid, 0);
    SAME(st.st_size, 0);
}

CASE("lseek: an error on a door", lseek_door)
{
    FAILS(lseek(door_create(echo, NULL, 0), 0, SEEK_SET), ESPIPE);
}

CASE("unlink: detaches, and the path is free", unlinked)
{
    const char *path = free_path();
    int d = door_create(echo, NULL, 0);

    make_file(path, 0644);
    SAME(fattach(d, path), 0);
    int fd = open(path, O_RDONLY);
    SAME(unlink(path), 0);
    FAILS(open(path, O_RDONLY), ENOENT);
    SAME(call_text(fd, "open descriptors go on"), 0);
    make_file(path, 0644);
    SAME(fattach(d, path), 0);
    remove_path(path);
}

CASE("names: after the server's end calls are EBADF, the path can be attached",
     dead_name)
{
    int d;
    pid_t pid = server_start(echo, 0, &d);

    kill(pid, SIGKILL);
    end_of(pid);
    FAILS(door_call(d, NULL), EBADF);
    int fd = open(server_path, O_RDONLY);
    CHECK(fd >= 0);
    FAILS(door_call(fd, NULL), EBADF);
    SAME(fattach(door_create(echo, NULL, 0), server_path), 0);
    remove_path(server_path);
}

CASE("names: an inode that is used again is no door", inode_again)
{
    const char *path = free_path();
    int d = door_create(echo, NULL, 0);

    for (int i = 0; i < 20; i++) {
        make_file(path, 0644);
        SAME(fattach(d, path), 0);
        SAME(unlink(path), 0);
        make_file(path, 0644);
        int fd = open(path, O_RDONLY);
        FAILS(door_call(fd, NULL), EBADF);
        close(fd);
        unlink(path);
    }
    remove_path(path);
}

CASES(&case_attached, &case_errors, &case_busy, &case_not_owner,
      &case_not_writable, &case_many_names, &case_any_holder, &case_detached,
      &case_detach_errors, &case_detach_others, &case_mode_bits,
      &case_exclusive, &case_openat_too, &case_plain_file, &case_stat_path,
      &case_statx_path, &case_fstat_door, &case_lseek_door, &case_unlinked,
      &case_dead_name, &case_inode_again)

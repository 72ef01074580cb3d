/* The run folder: names, the lock, modules' folders, removal. */
#include "cohort/runfolder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"

static void
test_names(void **state)
{
    char a[96];
    char b[96];

    runfolder_name("/nowhere/site.conf", a, sizeof(a));
    assert_int_equal(strlen(a), 13);
    assert_memory_equal(a, "site-", 5);
    assert_int_equal(strspn(a + 5, "0123456789abcdef"), 8);
    runfolder_name("/nowhere/site.conf", b, sizeof(b));
    assert_string_equal(a, b);
    runfolder_name("/elsewhere/site.conf", b, sizeof(b));
    assert_memory_equal(b, "site-", 5);
    assert_string_not_equal(a, b);
    /* FNV-1a of "a" is e40c292c */
    runfolder_name("a", a, sizeof(a));
    assert_string_equal(a, "a-e40c292c");
}

static void
make_socket(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    close(fd);
}

static void
test_life(void **state)
{
    char top[] = "/tmp/test-run-XXXXXX";
    char path[128];
    char text[256];
    char why[512];
    struct stat st;
    struct conf conf = {.run_folder = path};
    struct runfolder one;
    struct runfolder two;

    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/run", top);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), 0);
    assert_string_equal(one.path, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);

    assert_int_equal(runfolder_open(&two, &conf, why, sizeof(why)),
                     -EWOULDBLOCK);
    assert_non_null(strstr(why, "another cardea runs on this configuration"));
    assert_int_equal(two.fd, -1);

    assert_int_equal(runfolder_module(&one, "hello", NULL), 0);
    snprintf(text, sizeof(text), "%s/hello/door", path);
    make_socket(text);
    snprintf(text, sizeof(text), "%s/hello/kept", path);
    close(open(text, O_WRONLY | O_CREAT, 0600));
    assert_int_equal(runfolder_module(&one, "hello", NULL), 0);
    assert_int_equal(access(text, F_OK), 0);
    snprintf(text, sizeof(text), "%s/hello/door", path);
    assert_int_equal(access(text, F_OK), -1);

    /* A link to elsewhere: removed, not followed. */
    snprintf(why, sizeof(why), "%s/precious", top);
    assert_int_equal(mkdir(why, 0700), 0);
    snprintf(text, sizeof(text), "%s/precious/file", top);
    close(open(text, O_WRONLY | O_CREAT, 0600));
    snprintf(why, sizeof(why), "%s/hello/link", path);
    assert_int_equal(symlink("../../precious", why), 0);
    if (geteuid() == 0) {
        assert_int_equal(runfolder_module(&one, "other", "nobody"), 0);
        snprintf(why, sizeof(why), "%s/other", path);
        assert_int_equal(stat(why, &st), 0);
        assert_int_equal(st.st_uid, 65534);
        assert_int_equal(st.st_mode & 07777, 0711);
        assert_int_equal(runfolder_module(&one, "x", "no-such-user-x"), -ESRCH);
    }
    snprintf(why, sizeof(why), "%s/folder-link", path);
    assert_int_equal(symlink("../precious", why), 0);
    assert_true(runfolder_module(&one, "folder-link", NULL) < 0);

    runfolder_remove(&one);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(text, F_OK), 0);
    runfolder_remove(&one); /* idempotent */
    unlink(text);
    snprintf(text, sizeof(text), "%s/precious", top);
    rmdir(text);
    assert_int_equal(rmdir(top), 0);
}

static void
make_files(const char *folder, const char *format, int n)
{
    char path[256];
    char name[32];

    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), format, i);
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        assert_int_equal(mknod(path, S_IFSOCK | 0600, 0), 0);
    }
}

static int
count_in(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = -2; /* "." and ".." */

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

/* A module fills its folder: no restart reads it all, no end removes it all. */
static void
test_crowded(void **state)
{
    char top[] = "/tmp/test-run-XXXXXX";
    char path[64];
    char module[96];
    char text[128];
    char why[512];
    struct conf conf = {.run_folder = path};
    struct runfolder one;

    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/run", top);
    snprintf(module, sizeof(module), "%s/full", path);
    snprintf(text, sizeof(text), "%s/door", module);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), 0);
    assert_int_equal(runfolder_module(&one, "full", NULL), 0);
    /* Of an earlier life: the door, unfinished ones, and what is not ours. */
    make_socket(text);
    make_files(module, "door.%08x", 3);
    make_files(module, "door.%07x", 1);
    make_files(module, "mine.%08x", 1);
    assert_int_equal(runfolder_module(&one, "full", NULL), 0);
    assert_int_equal(access(text, F_OK), -1);
    assert_int_equal(count_in(module), 2);
    assert_int_equal(symlink("elsewhere", text), 0);
    make_files(module, "door.%08x", 2000);
    assert_int_equal(runfolder_module(&one, "full", NULL), 0);
    assert_int_equal(readlink(text, why, sizeof(why)), -1);
    assert_in_range(count_in(module), 2002 - 256, 2001);

    make_files(module, "%d", 70000);
    runfolder_remove(&one);
    assert_in_range(count_in(module), 70000 + 2002 - 256 - 65536,
                    70000 + 2001 - 65536);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), 0);
    runfolder_remove(&one);
    assert_int_equal(rmdir(top), 0);
}

/* A folder that others may write to, or a link, is refused. */
static void
test_refused(void **state)
{
    char top[] = "/tmp/test-run-XXXXXX";
    char path[128];
    char why[512];
    struct conf conf = {.run_folder = path};
    struct runfolder one;

    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/run", top);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, 0777), 0);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), -EPERM);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), -ENOTDIR);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/no/run", top);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, "/no/run: No such file or directory"));
    assert_int_equal(rmdir(top), 0);
}

/* What make_files(folder, "%d", n) made, and the folder. */
static void
remove_files(const char *folder, int n)
{
    char path[256];

    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%d", folder, i);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* A folder whose server was killed goes when the next server starts; one that
 * is locked, has another kind of name or is a link stays. */
static void
test_sweep(void **state)
{
    char top[] = "/tmp/test-run-XXXXXX";
    char parent[128];
    char dead[160];
    char live[160];
    char other[160];
    char link[160];
    char why[512];
    struct conf conf = {.file = "/nowhere/site.conf"};
    struct runfolder one;
    int fd;

    if (getuid() == 0) { /* root's folders lie in the system's place */
        assert_int_equal(seteuid(65534), 0);
    }
    assert_non_null(mkdtemp(top));
    assert_int_equal(setenv("XDG_RUNTIME_DIR", top, 1), 0);
    snprintf(parent, sizeof(parent), "%s/cardea", top);
    snprintf(dead, sizeof(dead), "%s/dead-0123abcd", parent);
    snprintf(live, sizeof(live), "%s/live-0123abcd", parent);
    snprintf(other, sizeof(other), "%s/other", parent);
    snprintf(link, sizeof(link), "%s/link-0123abcd", parent);
    assert_int_equal(mkdir(parent, 0700), 0);
    assert_int_equal(mkdir(dead, 0700), 0);
    assert_int_equal(mkdir(live, 0700), 0);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(symlink("other", link), 0);
    make_files(dead, "%d", 3);
    make_files(live, "%d", 3);
    make_files(other, "%d", 3);
    fd = open(live, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);

    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), 0);
    assert_int_equal(access(dead, F_OK), -1);
    assert_int_equal(count_in(live), 3);
    assert_int_equal(count_in(other), 3);
    assert_int_equal(access(link, F_OK), 0);

    /* Nobody lives there any more. */
    close(fd);
    runfolder_remove(&one);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), 0);
    assert_int_equal(access(live, F_OK), -1);
    runfolder_remove(&one);
    assert_int_equal(unlink(link), 0);
    remove_files(other, 3);
    assert_int_equal(rmdir(parent), 0);
    assert_int_equal(rmdir(top), 0);
    assert_int_equal(seteuid(getuid()), 0);
    assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
}

static void *
let_go(void *arg)
{
    const struct timespec gap = {0, 100 * 1000 * 1000};

    nanosleep(&gap, NULL);
    close(*(int *)arg);
    return NULL;
}

/* One who sweeps a folder has its lock for a moment: that is waited out. */
static void
test_swept_at_start(void **state)
{
    char top[] = "/tmp/test-run-XXXXXX";
    char why[512];
    struct conf conf = {.run_folder = top};
    struct runfolder one;
    pthread_t thread;
    int fd;

    assert_non_null(mkdtemp(top));
    fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(pthread_create(&thread, NULL, let_go, &fd), 0);
    assert_int_equal(runfolder_open(&one, &conf, why, sizeof(why)), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    runfolder_remove(&one);
    assert_int_equal(access(top, F_OK), -1);
}

/* Opens and removes the folder of FILE again and again. 0, or what the first
 * that failed said. */
static int
come_and_go(char *file)
{
    char why[512];
    struct conf conf = {.file = file};
    struct runfolder one;

    for (int i = 0; i < 2000; i++) {
        int rc = runfolder_open(&one, &conf, why, sizeof(why));

        if (rc < 0) {
            fprintf(stderr, "%d. %s\n", i, why);
            return rc;
        }
        runfolder_remove(&one);
    }
    return 0;
}

/* Two servers that start at once take one another's folder, made but not yet
 * locked, for one of a killed server's: none fails for that. */
static void
test_two_start(void **state)
{
    char top[] = "/tmp/test-run-XXXXXX";
    char parent[128];
    int status;
    pid_t pid;

    if (getuid() == 0) {
        assert_int_equal(seteuid(65534), 0);
    }
    assert_non_null(mkdtemp(top));
    assert_int_equal(setenv("XDG_RUNTIME_DIR", top, 1), 0);
    snprintf(parent, sizeof(parent), "%s/cardea", top);
    pid = fork();
    if (pid == 0) {
        _exit(come_and_go("/nowhere/two.conf") == 0 ? 0 : 1);
    }
    assert_int_equal(come_and_go("/nowhere/one.conf"), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(rmdir(parent), 0);
    assert_int_equal(rmdir(top), 0);
    if (getuid() == 0) {
        assert_int_equal(seteuid(0), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),     cmocka_unit_test(test_life),
        cmocka_unit_test(test_crowded),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_sweep),     cmocka_unit_test(test_swept_at_start),
        cmocka_unit_test(test_two_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

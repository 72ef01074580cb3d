/* The state folder: where it lies for whom, whose it is, and that nothing that
 * was kept is ever lost. */
#include "cohort/statefolder.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"

static char top[64];

static int
make_top(void **state)
{
    unsetenv("STATE_DIRECTORY");
    unsetenv("XDG_STATE_HOME");
    snprintf(top, sizeof(top), "/tmp/test-state-XXXXXX");
    return mkdtemp(top) == NULL ? -1 : chmod(top, 0711);
}

static int
remove_top(void **state)
{
    char command[96];

    snprintf(command, sizeof(command), "rm -rf %s", top);
    return system(command);
}

static void
assert_folder(const char *path, mode_t mode, uid_t uid)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, mode);
    assert_int_equal(st.st_uid, uid);
}

static void
test_kept(void **state)
{
    static char visits[] = "visits";
    static char idle[] = "idle";
    struct conf_module modules[] = {{.name = visits}, {.name = idle}};
    char path[96];
    char file[128];
    char why[512];
    struct conf conf = {
        .state_folder = path, .modules = modules, .n_modules = 2};
    struct statefolder f;

    snprintf(path, sizeof(path), "%s/state", top);
    umask(077);
    assert_int_equal(statefolder_open(&f, &conf, why, sizeof(why)), 0);
    umask(022);
    assert_string_equal(f.path, path);
    assert_folder(path, 0711, geteuid());
    assert_int_equal(statefolder_module(&f, "visits", NULL), 0);
    assert_int_equal(statefolder_module(&f, "idle", NULL), 0);
    snprintf(file, sizeof(file), "%s/visits", path);
    assert_folder(file, 0700, geteuid());
    snprintf(file, sizeof(file), "%s/visits/kept", path);
    close(open(file, O_WRONLY | O_CREAT, 0600));

    /* A second life finds it; only the empty folder goes. */
    for (int life = 0; life < 2; life++) {
        statefolder_close(&f, &conf);
        assert_int_equal(f.fd, -1);
        statefolder_close(&f, &conf); /* idempotent */
        assert_int_equal(access(file, F_OK), 0);
        snprintf(why, sizeof(why), "%s/idle", path);
        assert_int_equal(access(why, F_OK), -1);
        assert_int_equal(statefolder_open(&f, &conf, why, sizeof(why)), 0);
        assert_int_equal(statefolder_module(&f, "visits", NULL), 0);
        assert_int_equal(access(file, F_OK), 0);
    }
    /* Nothing kept at all: nothing stays. */
    unlink(file);
    statefolder_close(&f, &conf);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(errno, ENOENT);
}

/* Where it lies for whom. The half without root runs as nobody. */
static void
test_places(void **state)
{
    char file[] = "/nowhere/site.conf";
    char why[512];
    char want[128];
    struct conf conf = {.file = file};
    struct statefolder f;
    int status;
    pid_t pid;

    /* A service manager's folder counts for everybody, the first of them. */
    snprintf(want, sizeof(want), "%s:/other", top);
    assert_int_equal(chmod(top, 0755), 0);
    setenv("STATE_DIRECTORY", want, 1);
    assert_int_equal(statefolder_open(&f, &conf, why, sizeof(why)), 0);
    snprintf(want, sizeof(want), "%s/site-", top);
    assert_memory_equal(f.path, want, strlen(want));
    assert_int_equal(strlen(f.path), strlen(want) + 8);
    statefolder_close(&f, &conf);
    /* For a dynamic user it is a link, that the manager made. */
    snprintf(want, sizeof(want), "%s/link", top);
    assert_int_equal(symlink(top, want), 0);
    setenv("STATE_DIRECTORY", want, 1);
    assert_int_equal(statefolder_open(&f, &conf, why, sizeof(why)), 0);
    assert_int_equal(unlink(want), 0);
    snprintf(want, sizeof(want), "%s/site-", top);
    assert_memory_equal(f.path, want, strlen(want));
    statefolder_close(&f, &conf);
    unsetenv("STATE_DIRECTORY");

    assert_int_equal(chmod(top, 0777), 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        bool good = geteuid() != 0 || setuid(65534) == 0;

        setenv("HOME", top, 1);
        good = good && statefolder_open(&f, &conf, why, sizeof(why)) == 0;
        snprintf(want, sizeof(want), "%s/.local/state/cardea/site-", top);
        good = good && strncmp(f.path, want, strlen(want)) == 0;
        statefolder_close(&f, &conf);

        snprintf(want, sizeof(want), "%s/xdg", top);
        setenv("XDG_STATE_HOME", want, 1);
        good = good && statefolder_open(&f, &conf, why, sizeof(why)) == 0;
        snprintf(want, sizeof(want), "%s/xdg/cardea/site-", top);
        good = good && strncmp(f.path, want, strlen(want)) == 0;
        statefolder_close(&f, &conf);

        unsetenv("XDG_STATE_HOME");
        setenv("HOME", "", 1);
        good = good &&
               statefolder_open(&f, &conf, why, sizeof(why)) == -ENOENT &&
               strstr(why, "set state-folder PATH") != NULL && f.fd == -1;
        setenv("HOME", "/proc", 1);
        good = good && statefolder_open(&f, &conf, why, sizeof(why)) < 0 &&
               strstr(why, "/proc/.local/state/cardea: ") != NULL;
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* What others may have put there is refused, and never followed. */
static void
test_refused(void **state)
{
    char path[96];
    char link[160];
    char why[512];
    struct conf conf = {.state_folder = path};
    struct statefolder f;

    snprintf(path, sizeof(path), "%s/open", top);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, 0777), 0);
    assert_int_equal(statefolder_open(&f, &conf, why, sizeof(why)), -EPERM);
    assert_non_null(strstr(why, "others may write to it"));
    assert_int_equal(f.fd, -1);

    assert_int_equal(chmod(path, 0711), 0);
    assert_int_equal(statefolder_open(&f, &conf, why, sizeof(why)), 0);
    snprintf(link, sizeof(link), "%s/visits", path);
    assert_int_equal(symlink("/tmp", link), 0);
    assert_true(statefolder_module(&f, "visits", NULL) < 0);
    assert_int_equal(unlink(link), 0);
    if (geteuid() == 0) {
        assert_int_equal(statefolder_module(&f, "visits", "nobody"), 0);
        assert_folder(link, 0700, 65534);
        /* What is nobody's goes neither to us nor to a third: their kept files
         * would be believed. It stays as it is. */
        assert_int_equal(statefolder_module(&f, "visits", NULL), -EPERM);
        assert_int_equal(statefolder_module(&f, "visits", "daemon"), -EPERM);
        assert_folder(link, 0700, 65534);
        assert_int_equal(statefolder_module(&f, "visits", "nobody"), 0);
        /* Root's may be given away, and is root's again by root's hand. */
        assert_int_equal(chown(link, 0, 0), 0);
        assert_int_equal(statefolder_module(&f, "visits", NULL), 0);
        assert_folder(link, 0700, 0);
        assert_int_equal(statefolder_module(&f, "x", "no-such-user-x"), -ESRCH);
    }
    statefolder_close(&f, &conf);

    snprintf(path, sizeof(path), "%s/link", top);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_int_equal(statefolder_open(&f, &conf, why, sizeof(why)), -ENOTDIR);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, make_top, remove_top),
        cmocka_unit_test_setup_teardown(test_places, make_top, remove_top),
        cmocka_unit_test_setup_teardown(test_refused, make_top, remove_top),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

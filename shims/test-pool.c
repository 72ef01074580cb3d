/* Connections and exchanges with peers that hang up, stall, never read, or have
 * one process; and scripts below a root. */
#include "document.h"
#include "listen.h"
#include "pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND ((int64_t)1000000000)

static struct fixture {
    struct pool pool;
    int listener, path_fd;
} f;

static int
setup(void **state)
{
    struct sockaddr_storage addr;
    socklen_t len;

    f.listener = listen_unix(NULL, &addr, &len, &f.path_fd);
    assert_true(f.listener >= 0);
    pool_init(&f.pool);
    pool_point(&f.pool, &addr, len);
    return 0;
}

static int
teardown(void **state)
{
    pool_expire(&f.pool, INT64_MAX);
    close(f.listener);
    close(f.path_fd);
    return 0;
}

/* A connection and the peer's end of it. */
static int
connected(struct pool_conn *conn)
{
    assert_int_equal(pool_take(&f.pool, false, pool_now() + SECOND, conn), 0);
    return accept(f.listener, NULL, NULL);
}

/* Whole at a '.', wrong at a '!'. */
static int
take(void *arg, const char *bytes, size_t len)
{
    if (len == 0) {
        return 1;
    }
    return bytes[len - 1] == '.' ? 0 : bytes[len - 1] == '!' ? -1 : 1;
}

static int
gone(void *arg)
{
    return arg != NULL;
}

static struct pool_exchange
asking(const char *text)
{
    return (struct pool_exchange){.head = text,
                                  .head_len = strlen(text),
                                  .body = "",
                                  .deadline = pool_now() + 10 * SECOND,
                                  .take = take,
                                  .gone = gone};
}

/* What becomes of a request to a peer that writes TEXT, and hangs up if
 * IS_CLOSED. */
static enum pool_end
end_of(const char *text, bool is_closed)
{
    struct pool_exchange x = asking("hello");
    struct pool_conn conn;
    int peer = connected(&conn);
    enum pool_end end;

    assert_int_equal(write(peer, text, strlen(text)), strlen(text));
    if (is_closed) {
        close(peer);
    } else {
        x.deadline = pool_now() + SECOND / 10;
    }
    end = pool_run(&f.pool, &conn, &x);
    assert_int_equal(x.got_any, text[0] != '\0');
    pool_give(&f.pool, &conn, false);
    if (!is_closed) {
        close(peer);
    }
    return end;
}

static void
each_end_has_a_name(void **state)
{
    assert_int_equal(end_of("yes.", false), POOL_DONE);
    assert_int_equal(end_of("yes.", true), POOL_DONE);
    assert_int_equal(end_of("no!", true), POOL_REFUSED);
    assert_int_equal(end_of("half", true), POOL_CLOSED);
    assert_int_equal(end_of("", true), POOL_CLOSED);
    assert_int_equal(end_of("half", false), POOL_LATE);
    assert_int_equal(end_of("", false), POOL_LATE);
}

static void
a_client_that_has_gone_is_noticed(void **state)
{
    struct pool_exchange x = asking("hello");
    struct pool_conn conn;
    int peer = connected(&conn);

    x.gone_arg = &x;
    assert_int_equal(pool_run(&f.pool, &conn, &x), POOL_GONE);
    pool_give(&f.pool, &conn, false);
    close(peer);
}

/* More than any socket holds is sent to one that only writes. */
static void
an_answer_is_read_from_a_peer_that_does_not_read(void **state)
{
    size_t size = (size_t)8 << 20;
    char *body = calloc(1, size);
    struct pool_exchange x = asking("");
    struct pool_conn conn;
    int peer = connected(&conn);

    x.body = body;
    x.body_len = size;
    assert_int_equal(write(peer, "early.", 6), 6);
    assert_int_equal(pool_run(&f.pool, &conn, &x), POOL_DONE);
    assert_true(x.sent < size);
    pool_give(&f.pool, &conn, false);
    close(peer);
    free(body);
}

static void
a_kept_connection_is_used_again_unless_it_has_been_closed(void **state)
{
    struct pool_conn conn;
    int peer = connected(&conn), fd = conn.fd;

    pool_give(&f.pool, &conn, true);
    assert_int_equal(pool_take(&f.pool, false, 0, &conn), 0);
    assert_true(conn.kept);
    assert_int_equal(conn.fd, fd);
    pool_give(&f.pool, &conn, true);
    close(peer);
    peer = connected(&conn);
    assert_false(conn.kept);
    pool_give(&f.pool, &conn, true);
    /* Bytes that nobody asked for. */
    assert_int_equal(write(peer, "x", 1), 1);
    close(peer);
    peer = connected(&conn);
    assert_false(conn.kept);
    pool_give(&f.pool, &conn, false);
    close(peer);
}

static void
none_is_kept_while_a_new_one_waits(void **state)
{
    struct pool_conn first, second;
    int one = connected(&first), two = connected(&second);

    pool_give(&f.pool, &first, true);
    assert_int_equal(f.pool.n_idle, 0);
    pool_give(&f.pool, &second, true);
    assert_int_equal(f.pool.n_idle, 1);
    close(one);
    close(two);
}

static void
connections_to_the_program_before_are_closed(void **state)
{
    struct sockaddr_storage addr = f.pool.addr;
    struct pool_conn conn;
    int peer = connected(&conn);

    pool_point(&f.pool, &addr, f.pool.addr_len);
    pool_give(&f.pool, &conn, true);
    assert_int_equal(f.pool.n_idle, 0);
    close(peer);
}

static void
nobody_there_is_an_error(void **state)
{
    struct pool_conn conn;

    close(f.listener);
    f.listener = -1;
    assert_int_equal(pool_take(&f.pool, false, pool_now() + SECOND, &conn), -1);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(f.pool.n_fresh, 0);
}

/* ----- scripts ----- */

static void
file_make(const char *folder, const char *name)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static const struct {
    const char *rest;
    int status;
    const char *file, *info;
} paths[] = {
    {"", 0, "index.php", ""},       {"/", 0, "index.php", ""},
    {"/a.php", 0, "a.php", ""},     {"/a.php/x/y.php", 0, "a.php", "/x/y.php"},
    {"/none.php", 404, NULL, NULL}, {"/a.txt", 404, NULL, NULL},
    {"/../a.php", 404, NULL, NULL}, {"/.a.php", 404, NULL, NULL},
    {"/.php", 404, NULL, NULL},     {"/x//a.php", 404, NULL, NULL},
    {"/link.php", 404, NULL, NULL}, {"/a.phpx", 404, NULL, NULL},
};

static void
paths_name_scripts(void **state)
{
    char folder[] = "/tmp/test-pool-XXXXXX", command[64];
    int root;

    assert_non_null(mkdtemp(folder));
    root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    file_make(folder, "index.php");
    file_make(folder, "a.php");
    file_make(folder, "a.txt");
    file_make(folder, ".a.php");
    assert_int_equal(symlinkat("/etc/passwd", root, "link.php"), 0);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct document d;

        assert_int_equal(document_find(root, paths[i].rest, "index.php", &d),
                         paths[i].status);
        if (paths[i].status == 0) {
            assert_string_equal(d.file, paths[i].file);
            assert_string_equal(d.info, paths[i].info);
        }
        document_clear(&d);
    }
    close(root);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

/* ----- addresses ----- */

static void
addresses_are_read(void **state)
{
    static const char *const good[] = {"unix:/a", "127.0.0.1:80", "[::1]:80"};
    static const char *const bad[] = {"",     "unix:", "127.0.0.1", ":80",
                                      "a:80", "80",    "1.2.3.4:x"};
    struct sockaddr_storage addr;
    socklen_t len;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(listen_parse(good[i], &addr, &len), 0);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(listen_parse(bad[i], &addr, &len), -1);
    }
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(each_end_has_a_name),
        WITH(a_client_that_has_gone_is_noticed),
        WITH(an_answer_is_read_from_a_peer_that_does_not_read),
        WITH(a_kept_connection_is_used_again_unless_it_has_been_closed),
        WITH(none_is_kept_while_a_new_one_waits),
        WITH(connections_to_the_program_before_are_closed),
        WITH(nobody_there_is_an_error),
        cmocka_unit_test(paths_name_scripts),
        cmocka_unit_test(addresses_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

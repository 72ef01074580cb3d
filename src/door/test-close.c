/* Closing what a peer sent never holds up who closes. */
#include "test-door.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include "door/sys.h"

#define LINGER_S 2

/* A connected TCP socket that holds up its last closer: it has bytes that the
 * other end does not take. *P_OTHER is that end. */
static int
lingering(int *p_other)
{
    const struct linger on = {1, LINGER_S};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    static const char bytes[65536];
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(l, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(connect(s, (struct sockaddr *)&at, sizeof at), 0);
    *p_other = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    assert_true(*p_other >= 0);
    close(l);
    while (send(s, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    assert_int_equal(setsockopt(s, SOL_SOCKET, SO_LINGER, &on, sizeof on), 0);
    return s;
}

/* A Unix socket with FD in its queue, which only that holds then. */
static int
holding(int fd)
{
    int pair[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(door_send(pair[0], NULL, 0, &fd, 1), 0);
    close(fd);
    close(pair[0]);
    return pair[1];
}

static double
seconds_of(void (*closes)(int fd), int fd)
{
    uint64_t began = door_now();

    closes(fd);
    return (double)(door_now() - began) / 1e9;
}

static void
just_close(int fd)
{
    close(fd);
}

/* What the other cases avoid is real. */
static void
test_the_last_closer_lingers(void **state)
{
    int other;

    assert_true(seconds_of(just_close, holding(lingering(&other))) >
                LINGER_S * 0.9);
    close(other);
}

static void
test_a_lingering_socket(void **state)
{
    int other, fds = test_fds();

    assert_true(seconds_of(door_close_foreign, lingering(&other)) < 1);
    close(other);
    assert_true(test_until(test_fds_at_most, &fds));
}

static void
test_one_in_the_queue_of_a_unix_socket(void **state)
{
    int other, fds = test_fds();

    assert_true(seconds_of(door_close_foreign, holding(lingering(&other))) < 1);
    close(other);
    assert_true(test_until(test_fds_at_most, &fds));
}

static void
test_one_in_the_queue_of_one_in_a_queue(void **state)
{
    int other, fds = test_fds();

    assert_true(seconds_of(door_close_foreign,
                           holding(holding(lingering(&other)))) < 1);
    close(other);
    assert_true(test_until(test_fds_at_most, &fds));
}

static void
test_connections(void **state)
{
    int other, peer, pair[2];

    assert_true(seconds_of(door_close_connection, holding(lingering(&other))) <
                1);
    close(other);
    assert_true(seconds_of(door_close_connection, lingering(&other)) < 1);
    close(other);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    /* An empty message is not the end. */
    assert_int_equal(send(pair[0], "", 0, 0), 0);
    other = lingering(&peer);
    assert_int_equal(door_send(pair[0], NULL, 0, &other, 1), 0);
    close(other);
    assert_true(seconds_of(door_close_connection, pair[1]) < 1);
    assert_int_equal(send(pair[0], "x", 1, MSG_NOSIGNAL), -1);
    close(pair[0]);
    close(peer);
}

/* A door whose caller sends such sockets serves the next one at once. */
static void
answer(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
       unsigned int n_desc)
{
    door_return(argp, arg_size, NULL, 0);
}

static void
test_a_door_is_not_held_up(void **state)
{
    int d = door_create(answer, NULL, 0), other, fd;
    uint64_t out = 0, began;

    assert_true(d >= 0);
    fd = holding(lingering(&other));
    assert_int_equal(door_send(d, "no hello", 8, &fd, 1), 0);
    close(fd);
    began = door_now();
    assert_int_equal(test_call_word(d, 7, &out), 0);
    assert_int_equal(out, 7);
    assert_true(door_now() - began < 1000000000ull);
    close(other);
    close(d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_last_closer_lingers),
        cmocka_unit_test(test_a_lingering_socket),
        cmocka_unit_test(test_one_in_the_queue_of_a_unix_socket),
        cmocka_unit_test(test_one_in_the_queue_of_one_in_a_queue),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_a_door_is_not_held_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The sink before readers of every kind: quick, slow, stuck, gone. */
#include "cohort/sink.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"

static void
test_stream(void **state)
{
    static const char *const pieces[] = {"one\ntw", "o", "\nthree\nfo", "ur\n"};
    char got[64] = "";
    struct sink sink;
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(sink_init(&sink, ends[1]), 0);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        char piece[16];

        snprintf(piece, sizeof(piece), "%s", pieces[i]);
        sink_stream(&sink, piece, strlen(piece));
        sink_line(&sink, "own\n", 4); /* never inside of another line */
    }
    sink_flush(&sink);
    assert_true(read(ends[0], got, sizeof(got) - 1) > 0);
    assert_string_equal(got, "one\nown\nown\ntwo\nthree\nown\nfour\nown\n");
    sink_deinit(&sink);
    close(ends[0]);
    close(ends[1]);
}

/* What a worker writes does not command the terminal that shows the log. */
static void
test_control_bytes(void **state)
{
    char bytes[] = "a\0b\033[2J\r\tc\177 \303\251\nd\n";
    char got[64] = "";
    struct sink sink;
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(sink_init(&sink, ends[1]), 0);
    sink_stream(&sink, bytes, sizeof(bytes) - 1);
    sink_flush(&sink);
    assert_int_equal(read(ends[0], got, sizeof(got)), 17);
    assert_string_equal(got, "a?b?[2J??c? ??\nd\n");
    sink_deinit(&sink);
    close(ends[0]);
    close(ends[1]);
}

/* A line without an end becomes lines of 4096 bytes. */
static void
test_endless(void **state)
{
    char bytes[10000];
    char got[16384];
    struct sink sink;
    int ends[2];

    memset(bytes, 'x', sizeof(bytes));
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(sink_init(&sink, ends[1]), 0);
    sink_stream(&sink, bytes, sizeof(bytes));
    sink_flush(&sink);
    assert_int_equal(read(ends[0], got, sizeof(got)), 8192);
    assert_int_equal(got[4094], 'x');
    assert_int_equal(got[4095], '\n');
    assert_int_equal(got[8191], '\n');
    sink_deinit(&sink);
    close(ends[0]);
    close(ends[1]);
}

/* Nobody reads: it does not block, it keeps a bounded part, it counts the rest;
 * and when reading begins, whole lines come, in order. */
static void
check_stuck(int write_fd, int read_fd)
{
    struct sink sink;
    char line[100];
    char got[101];
    unsigned next = 0;
    uint64_t told = 0;
    FILE *in;

    memset(line, '.', sizeof(line));
    line[99] = '\n';
    assert_int_equal(sink_init(&sink, write_fd), 0);
    for (unsigned i = 0; i < 20000; i++) { /* 2 MB */
        snprintf(line, 6, "%05u", i);
        line[5] = '.';
        sink_line(&sink, line, sizeof(line));
        sink_flush(&sink);
    }
    assert_true(sink.stuck);
    assert_true(sink.lost > 0);
    assert_int_equal(sink_take_lost(&sink), 0); /* no room to tell */
    in = fdopen(read_fd, "r");
    while (sink.len > 0 || next < 20000 - sink.lost - told) {
        assert_non_null(fgets(got, sizeof(got), in));
        assert_int_equal(strlen(got), 100);
        assert_int_equal(strtoul(got, NULL, 10), next);
        next++;
        sink_flush(&sink);
        told += sink_take_lost(&sink);
    }
    assert_int_equal(sink.lost, 0);
    assert_int_equal(next + told, 20000);
    sink_deinit(&sink);
    fclose(in);
}

static void
test_stuck_pipe(void **state)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    check_stuck(ends[1], ends[0]);
    /* and the shared description is as blocking as it was */
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    close(ends[1]);
}

static void
test_stuck_socket(void **state)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    check_stuck(ends[1], ends[0]);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    close(ends[1]);
}

static void
test_file_and_gone(void **state)
{
    char path[] = "/tmp/test-sink-XXXXXX";
    int fd = mkstemp(path);
    struct sink sink;
    char got[32] = "";
    int ends[2];

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "before\n", 7), 7);
    assert_int_equal(sink_init(&sink, fd), 0);
    sink_line(&sink, "line\n", 5);
    sink_flush(&sink);
    assert_false(sink.stuck);
    assert_int_equal(pread(fd, got, sizeof(got), 0), 12);
    assert_string_equal(got, "before\nline\n");
    sink_deinit(&sink);
    unlink(path);
    close(fd);

    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(sink_init(&sink, ends[1]), 0);
    close(ends[0]);
    sink_line(&sink, "line\n", 5);
    sink_flush(&sink);
    assert_true(sink.dead);
    assert_int_equal(sink.len, 0);
    sink_line(&sink, "line\n", 5);
    assert_int_equal(sink.len, 0);
    sink_deinit(&sink);
    close(ends[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_control_bytes),
        cmocka_unit_test(test_endless),
        cmocka_unit_test(test_stuck_pipe),
        cmocka_unit_test(test_stuck_socket),
        cmocka_unit_test(test_file_and_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

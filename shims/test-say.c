/* Lines on standard error: whole, cut, bounded, counted. Descriptor 2 is a file
 * while a test runs. */
#include "say.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct heard {
    int before, fd;
    char text[1 << 20];
};

static void
hear(struct heard *heard)
{
    char path[] = "/tmp/test-say-XXXXXX";

    heard->fd = mkstemp(path);
    assert_true(heard->fd >= 0);
    unlink(path);
    heard->before = dup(2);
    assert_int_equal(dup2(heard->fd, 2), 2);
}

/* What was written since; how many lines. */
static size_t
heard_end(struct heard *heard)
{
    size_t n = 0;
    ssize_t len;

    assert_int_equal(dup2(heard->before, 2), 2);
    close(heard->before);
    len = pread(heard->fd, heard->text, sizeof(heard->text) - 1, 0);
    close(heard->fd);
    assert_true(len >= 0);
    heard->text[len] = '\0';
    for (ssize_t i = 0; i < len; i++) {
        n += heard->text[i] == '\n';
    }
    return n;
}

static struct heard heard;

static void
lines_are_whole(void **state)
{
    struct say_stream stream = {.name = "shim", .about = "request 1"};

    hear(&heard);
    say_stream_add(&stream, "one\ntw", 6);
    say_stream_add(&stream, "o\n\nthr", 6);
    say_stream_add(&stream, "e\0e", 3);
    say_stream_end(&stream);
    say("shim", NULL, "%s", "by itself");
    assert_int_equal(heard_end(&heard), 5);
    assert_string_equal(heard.text, "shim: request 1: one\n"
                                    "shim: request 1: two\n"
                                    "shim: request 1: \n"
                                    "shim: request 1: thre e\n"
                                    "shim: by itself\n");
}

static void
long_lines_come_in_pieces(void **state)
{
    struct say_stream stream = {.name = "shim", .about = "x"};
    char text[2000];

    memset(text, 'a', sizeof(text));
    hear(&heard);
    say_stream_add(&stream, text, sizeof(text));
    say_stream_end(&stream);
    say("shim", "x", "%.*s", (int)sizeof(text), text);
    assert_int_equal(heard_end(&heard), 4);
    assert_int_equal(strlen(heard.text),
                     2000 + 3 * strlen("shim: x: \n") + 1023);
}

static void
lines_over_the_rate_are_counted(void **state)
{
    struct say_stream stream = {.name = "shim", .about = "x"};
    unsigned long dropped = 0, passed = 0;
    size_t n;

    hear(&heard);
    for (int i = 0; i < 5000; i++) {
        say_stream_add(&stream, "line\n", 5);
    }
    say_stream_end(&stream);
    say_stream_end(&stream); /* says nothing more */
    n = heard_end(&heard);
    for (const char *at = heard.text; n > 0; n--) {
        unsigned long more;

        if (sscanf(at, "shim: x: %lu lines of standard error dropped", &more) ==
            1) {
            dropped += more;
        } else {
            assert_memory_equal(at, "shim: x: line\n", 14);
            passed++;
        }
        at = strchr(at, '\n') + 1;
    }
    assert_int_equal(passed + dropped, 5000);
    /* A busy machine may have needed some seconds. */
    assert_in_range(passed, 100, 2000);
}

static void
all_commands_share_a_rate(void **state)
{
    unsigned long passed = 0;

    hear(&heard);
    for (int i = 0; i < 50; i++) {
        struct say_stream stream = {.name = "shim", .about = "x"};

        for (int j = 0; j < 90; j++) {
            say_stream_add(&stream, "line\n", 5);
        }
    }
    passed = heard_end(&heard);
    assert_in_range(passed, 800, 4000); /* within one second, or a few */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_whole),
        cmocka_unit_test(long_lines_come_in_pieces),
        cmocka_unit_test(lines_over_the_rate_are_counted),
        cmocka_unit_test(all_commands_share_a_rate),
    };

    return cmocka_run_group_tests_name("say", tests, NULL, NULL);
}

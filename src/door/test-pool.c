/* How many threads serve: as many as calls sleep at once, and the same ones
 * again in the next burst. The server is another process (test-peer.c), so that
 * its threads can be counted. */
#include "test-door.h"

#define CALLERS 200

static const char *peer_program;

struct caller {
    int d;
    const char *text;
    int result;
};

static void *
caller_main(void *arg)
{
    struct caller *c = arg;
    char room[64];
    door_arg_t a = {.data_ptr = (char *)(uintptr_t)c->text,
                    .data_size = strlen(c->text) + 1,
                    .rbuf = room,
                    .rsize = sizeof room};

    c->result = door_call(c->d, &a) < 0 ? errno : 0;
    return NULL;
}

/* N calls that sleep until all N are inside. */
static void
burst(int d, int n)
{
    static struct caller callers[CALLERS];
    static pthread_t ids[CALLERS];
    char text[16];

    snprintf(text, sizeof text, "g%d", n);
    for (int i = 0; i < n; i++) {
        callers[i] = (struct caller){d, text, -1};
        ids[i] = test_thread(caller_main, &callers[i]);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(ids[i], NULL);
        assert_int_equal(callers[i].result, 0);
    }
}

static void
test_as_many_threads_as_sleeping_calls(void **state)
{
    char folder[64], path[96];
    struct test_peer peer;

    test_raise_limit();
    test_folder(folder);
    snprintf(path, sizeof path, "%s/door", folder);
    test_peer_start(&peer, peer_program, -1, "serve", path, "plain");
    assert_int_equal(test_peer_says(&peer), 'R');
    int d = door_open(path);
    assert_true(d >= 0);
    /* Besides its server threads it has main and the listening thread; a
     * sanitizer may have one more. */
    int before = test_threads(peer.pid);
    assert_in_range(before, 3, 4);
    burst(d, 20);
    int small = test_threads(peer.pid);
    assert_in_range(small, before - 1 + 20, before - 1 + 21);
    burst(d, CALLERS);
    int many = test_threads(peer.pid);
    assert_in_range(many, before - 1 + CALLERS, before - 1 + CALLERS + 1);
    for (int i = 0; i < 3; i++) {
        burst(d, CALLERS);
        assert_true(test_threads(peer.pid) <= many);
    }
    close(d);
    test_peer_kill(&peer);
    test_folder_remove(folder);
}

/* Calls that follow each other from one thread bring no thread each. */
static void
test_one_caller_few_threads(void **state)
{
    char folder[64], path[96];
    struct test_peer peer;
    struct caller c = {.text = "echo"};

    test_folder(folder);
    snprintf(path, sizeof path, "%s/door", folder);
    test_peer_start(&peer, peer_program, -1, "serve", path, "plain");
    assert_int_equal(test_peer_says(&peer), 'R');
    c.d = door_open(path);
    for (int i = 0; i < 100; i++) {
        caller_main(&c);
    }
    int before = test_threads(peer.pid);
    for (int i = 0; i < 2000; i++) {
        caller_main(&c);
        assert_int_equal(c.result, 0);
    }
    /* A call that comes in the instant between an answer and the thread's
     * parking may bring a spare thread; then there is one for the next. */
    assert_in_range(before, 3, 8);
    assert_in_range(test_threads(peer.pid), before, 8);
    close(c.d);
    test_peer_kill(&peer);
    test_folder_remove(folder);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_many_threads_as_sleeping_calls),
        cmocka_unit_test(test_one_caller_few_threads),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s TEST-PEER\n", argv[0]);
        return 64;
    }
    peer_program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* How many threads serve: as many as calls sleep at once, and the same ones
 * again in the next burst. The server is another process (test-peer.c), so that
 * its threads can be counted. */
#include "test-ring.h"

#include <semaphore.h>

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
test_one_caller_one_thread(void **state)
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
    /* Besides the one: main, the listening thread, a sanitizer's. */
    assert_in_range(before, 3, 4);
    assert_int_equal(test_threads(peer.pid), before);
    close(c.d);
    test_peer_kill(&peer);
    test_folder_remove(folder);
}

/* ---- one call at a time, and none of them where the last one was ---- */

#define TAKERS 4
#define TURNS  1000

struct taker {
    struct caller c;
    sem_t turn, *next;
};

static void *
taker_main(void *arg)
{
    struct taker *t = arg;

    for (int i = 0; i < TURNS / TAKERS && t->c.result == 0; i++) {
        sem_wait(&t->turn);
        test_reads();
        caller_main(&t->c);
        test_wrote();
        sem_post(t->next);
    }
    return NULL;
}

static void
take_turns(int d, const char *text)
{
    static struct taker takers[TAKERS];
    pthread_t ids[TAKERS];

    for (int i = 0; i < TAKERS; i++) {
        sem_init(&takers[i].turn, 0, i == 0);
        takers[i].next = &takers[(i + 1) % TAKERS].turn;
        takers[i].c = (struct caller){d, text, 0};
    }
    for (int i = 0; i < TAKERS; i++) {
        ids[i] = test_thread(taker_main, &takers[i]);
    }
    for (int i = 0; i < TAKERS; i++) {
        pthread_join(ids[i], NULL);
        assert_int_equal(takers[i].c.result, 0);
    }
}

static void
ring_turns(int d, const char *text)
{
    struct test_ring *rings[2] = {test_ring_open_on(d, 0),
                                  test_ring_open_on(d, 1)};
    struct ring_result result;
    uint32_t now, most;

    for (int i = 0; i < TURNS; i++) {
        struct test_ring *t = rings[i % 2];
        uint32_t slot = test_ring_post(t, 1, text, strlen(text) + 1, 0);

        assert_true(test_ring_wait(t));
        assert_int_equal(ring_result(&t->r, slot, &result), 0);
        assert_int_equal(result.error, 0);
        ring_slot_give(&t->r, slot);
    }
    assert_true(ring_threads(&rings[0]->r, &now, &most));
    assert_int_equal(most, 1);
    test_ring_close(rings[0]);
    test_ring_close(rings[1]);
}

/* Its thread waits at one place, is called at another, and has to be found by
 * the listening thread, while it may be on its way there already. */
static void
test_turns_are_no_crowd(void **state)
{
    char folder[64], path[96];
    struct test_peer peer;

    test_folder(folder);
    snprintf(path, sizeof path, "%s/door", folder);
    test_peer_start(&peer, peer_program, -1, "serve", path, "plain");
    assert_int_equal(test_peer_says(&peer), 'R');
    int d = door_open(path);
    int before = test_threads(peer.pid);
    ring_turns(d, "echo");
    ring_turns(d, "sleep");
    take_turns(d, "echo");
    take_turns(d, "sleep");
    assert_int_equal(test_threads(peer.pid), before);
    close(d);
    test_peer_kill(&peer);
    test_folder_remove(folder);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_many_threads_as_sleeping_calls),
        cmocka_unit_test(test_one_caller_one_thread),
        cmocka_unit_test(test_turns_are_no_crowd),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s TEST-PEER\n", argv[0]);
        return 64;
    }
    peer_program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

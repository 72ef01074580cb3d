/* Sums over workers and lives, with a worker that lies. */
#include "cohort/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Entry AT of WORKER, as the worker gets it to count in it. */
static struct tally *
entry(const struct tallies *t, int worker, size_t at)
{
    struct tally_table *table = tallies_of(t, worker);

    atomic_fetch_or(&table->used[at / 64], 1ull << (at % 64));
    return &table->entries[at];
}

static void
test_sums_survive_a_death(void **state)
{
    struct tallies t = {0};
    struct tally_sum sum;

    assert_int_equal(tallies_init(&t, 2, 3), 0);
    entry(&t, 0, 2)->calls = 5;
    entry(&t, 0, 2)->requests = 5;
    entry(&t, 0, 2)->answers[0] = 4;
    entry(&t, 0, 2)->answers[3] = 1;
    entry(&t, 0, 2)->causes[CAUSE_CRASH] = 1;
    entry(&t, 0, 2)->run_ns = 100;
    entry(&t, 0, 2)->wait_ns = 30;
    entry(&t, 0, 2)->run[3] = 4;
    entry(&t, 0, 2)->wait[27] = 5;
    entry(&t, 0, 2)->median_ns = 8000;
    entry(&t, 1, 2)->wait[27] = 1;
    entry(&t, 1, 2)->median_ns = 7000;
    entry(&t, 0, 2)->in_flight = 2;
    entry(&t, 0, 2)->queued = 3;
    entry(&t, 1, 2)->queued = 4;
    entry(&t, 0, 2)->threads = 7;
    entry(&t, 0, 2)->threads_high = 9;
    entry(&t, 1, 2)->calls = 10;
    entry(&t, 1, 2)->threads = 6;
    entry(&t, 1, 2)->threads_high = 11;
    entry(&t, 1, 0)->requests = 1;
    entry(&t, 1, 0)->answers[2] = 1; /* led to no target */
    sum = tallies_sum(&t, 1);
    assert_int_equal(sum.calls, 15);
    assert_int_equal(sum.answers[0], 4);
    assert_int_equal(sum.in_flight, 2);
    assert_int_equal(sum.queued, 7);
    assert_int_equal(sum.threads, 7);
    assert_int_equal(sum.threads_high, 11);
    assert_int_equal(sum.wait[27], 6);
    assert_int_equal(sum.median_ns, 8000);
    assert_int_equal(tallies_requests(&t, 0), 5);
    assert_int_equal(tallies_requests(&t, 1), 1);

    tallies_fold(&t, 0);
    assert_int_equal(entry(&t, 0, 2)->calls, 0);
    tallies_growth(&t, 1, &sum);
    assert_int_equal(sum.calls, 15); /* of the dead, too */
    assert_int_equal(sum.wait_ns, 30);
    assert_int_equal(sum.in_flight, 0);
    assert_int_equal(sum.threads, 6);
    sum = tallies_sum(&t, 1);
    assert_int_equal(sum.calls, 15);
    assert_int_equal(sum.answers[3], 1);
    assert_int_equal(sum.causes[CAUSE_CRASH], 1);
    assert_int_equal(sum.run_ns, 100);
    assert_int_equal(sum.wait_ns, 30);
    assert_int_equal(sum.run[3], 4);
    assert_int_equal(sum.wait[27], 6);
    assert_int_equal(sum.median_ns, 7000); /* of who serves now */
    assert_int_equal(sum.in_flight, 0);    /* nobody waits for them any more */
    assert_int_equal(sum.threads, 6);
    assert_int_equal(tallies_requests(&t, 0), 5);

    entry(&t, 0, 2)->calls = 1; /* the next life */
    entry(&t, 0, 2)->requests = 1;
    assert_int_equal(tallies_sum(&t, 1).calls, 16);
    assert_int_equal(tallies_requests(&t, 0), 6);
    assert_int_equal(tallies_sum(&t, TALLY_NONE).answers[2], 1);
    tallies_deinit(&t);
}

static void
test_a_liar_is_bounded(void **state)
{
    struct tallies t = {0};
    struct tally_sum sum;

    assert_int_equal(tallies_init(&t, 2, 1), 0);
    for (int i = 0; i < 3; i++) {
        memset(tallies_of(&t, 0), 0xff,
               sizeof(struct tally_table) + sizeof(struct tally));
        tallies_fold(&t, 0);
    }
    memset(tallies_of(&t, 0), 0xff,
           sizeof(struct tally_table) + sizeof(struct tally));
    memset(tallies_of(&t, 1), 0xff,
           sizeof(struct tally_table) + sizeof(struct tally));
    sum = tallies_sum(&t, TALLY_NONE);
    assert_true(sum.calls == 4611686018427387904ull);
    assert_true(sum.causes[1] == 4611686018427387904ull);
    assert_int_equal(sum.in_flight, 2048);
    assert_int_equal(sum.queued, 2097152);
    assert_int_equal(sum.threads, 4194304);
    tallies_deinit(&t);
}

/* A worker's process has its own counters and no others'. */
static void
test_others_are_out_of_reach(void **state)
{
    struct tallies t = {0};
    unsigned char there;
    int status;
    pid_t pid;

    assert_int_equal(tallies_init(&t, 3, 100), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        tallies_keep_only(&t, 1);
        entry(&t, 1, 100)->calls = 8;
        _exit(mincore(tallies_of(&t, 0), 1, &there) == 0   ? 1
              : mincore(tallies_of(&t, 2), 1, &there) == 0 ? 2
              : mincore(tallies_of(&t, 1), 1, &there) != 0 ? 3
                                                           : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(tallies_sum(&t, 99).calls, 8);
    tallies_deinit(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_survive_a_death),
        cmocka_unit_test(test_a_liar_is_bounded),
        cmocka_unit_test(test_others_are_out_of_reach),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

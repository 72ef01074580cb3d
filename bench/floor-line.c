/*
 * Floor: what it costs to move one cache line from one CPU to another and
 * back.  Two threads, each pinned, take turns at storing the next number
 * into the same word; the even numbers are one's, the odd the other's.  Two
 * transfers a round trip: the physical limit of any call between CPUs.
 */
#include "bench-util.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define LINE_BATCH 1000

struct line_ball {
    _Alignas(64) _Atomic uint64_t word;
    _Alignas(64) atomic_bool stop;
    int cpu;
};

static inline void
line_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void *
line_peer(void *arg)
{
    struct line_ball *ball = arg;
    uint64_t want = 1;

    bench_pin(ball->cpu);
    for (;;) {
        while (atomic_load_explicit(&ball->word, memory_order_acquire) !=
               want) {
            if (atomic_load_explicit(&ball->stop, memory_order_relaxed)) {
                return NULL;
            }
            line_pause();
        }
        atomic_store_explicit(&ball->word, want + 1, memory_order_release);
        want += 2;
    }
}

static uint64_t
line_batch(struct line_ball *ball, uint64_t *turn)
{
    uint64_t start = bench_now();

    for (int i = 0; i < LINE_BATCH; i++) {
        atomic_store_explicit(&ball->word, *turn + 1, memory_order_release);
        *turn += 2;
        while (atomic_load_explicit(&ball->word, memory_order_acquire) !=
               *turn) {
            line_pause();
        }
    }
    return bench_now() - start;
}

static void
line_play(struct line_ball *ball, uint64_t ns)
{
    uint64_t start = bench_now();
    uint64_t turn = 0;
    uint64_t best = UINT64_MAX;
    uint64_t took;

    do {
        uint64_t batch = line_batch(ball, &turn);

        best = batch < best ? batch : best;
        took = bench_now() - start;
    } while (took < ns);
    printf("{\"round_trips\": %llu, \"best_ns\": %.1f, \"mean_ns\": %.1f}\n",
           (unsigned long long)turn / 2, (double)best / LINE_BATCH,
           (double)took / ((double)turn / 2));
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"cpu", required_argument, NULL, 'c'},
        {"cpu2", required_argument, NULL, 'd'},
        {"ms", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    static struct line_ball ball = {.cpu = 1};
    pthread_t peer;
    int cpu = 0;
    long ms = 200;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'c') {
            cpu = (int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1);
        } else if (opt == 'd') {
            ball.cpu = (int)bench_number("cpu2", optarg, 0, CPU_SETSIZE - 1);
        } else if (opt == 'm') {
            ms = bench_number("ms", optarg, 1, 60000);
        } else {
            fprintf(stderr, "usage: floor-line [--cpu N] [--cpu2 N]"
                            " [--ms N]\n");
            return 2;
        }
    }
    if (cpu == ball.cpu) {
        fprintf(stderr, "floor-line: two different CPUs are needed\n");
        return 2;
    }
    bench_pin(cpu);
    errno = pthread_create(&peer, NULL, line_peer, &ball);
    if (errno != 0) {
        bench_die("pthread_create");
    }
    line_play(&ball, (uint64_t)ms * 1000000u);
    atomic_store(&ball.stop, true);
    pthread_join(peer, NULL);
    return 0;
}

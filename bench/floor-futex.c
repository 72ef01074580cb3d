/*
 * Floor: what it costs to hand over to a sleeping process and to get the
 * turn back.  Two processes share a page with two words; each publishes its
 * word, wakes the other and sleeps on the other's word: two system calls a
 * leg, two legs a round trip.  With both on one CPU this is the least a
 * synchronous call between processes can cost without spinning.
 *
 * Each word is written by one process only and only grows; the sleeper
 * waits on the value it has seen, so no wake is lost.
 */
#include "bench-util.h"

#include <getopt.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The two words lie on lines of their own. */
struct futex_page {
    _Alignas(64) _Atomic uint32_t ping;
    _Alignas(64) _Atomic uint32_t pong;
};

static void
futex_publish(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void
futex_await(_Atomic uint32_t *word, uint32_t value)
{
    uint32_t seen;

    while ((seen = atomic_load_explicit(word, memory_order_acquire)) != value) {
        syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
    }
}

static void __attribute__((noreturn))
futex_child(struct futex_page *page, int cpu, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    bench_pin(cpu);
    for (uint32_t turn = 1;; turn++) {
        futex_await(&page->ping, turn);
        futex_publish(&page->pong, turn);
    }
}

struct futex_game {
    struct futex_page *page;
    uint32_t turn;
};

static void
futex_turn(void *arg)
{
    struct futex_game *game = arg;

    game->turn++;
    futex_publish(&game->page->ping, game->turn);
    futex_await(&game->page->pong, game->turn);
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
    struct futex_page *page;
    int cpu = 0;
    int cpu2 = -1;
    long ms = 1000;
    pid_t me = getpid();
    pid_t child;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'c') {
            cpu = (int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1);
        } else if (opt == 'd') {
            cpu2 = (int)bench_number("cpu2", optarg, 0, CPU_SETSIZE - 1);
        } else if (opt == 'm') {
            ms = bench_number("ms", optarg, 1, 60000);
        } else {
            fprintf(stderr, "usage: floor-futex [--cpu N] [--cpu2 N]"
                            " [--ms N]\n");
            return 2;
        }
    }
    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        bench_die("mmap");
    }
    bench_pin(cpu);
    child = fork();
    if (child < 0) {
        bench_die("fork");
    }
    if (child == 0) {
        futex_child(page, cpu2 < 0 ? cpu : cpu2, me);
    }
    bench_round_trips(futex_turn, &(struct futex_game){.page = page},
                      (uint64_t)ms * 1000000u);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}

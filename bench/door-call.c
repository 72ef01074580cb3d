/*
 * A call of a door and its answer, between two processes: what floor-futex does
 * with bare words, with arguments and results of SIZE bytes copied there and
 * back.  The server is a child; caller and server are bound to a CPU, or run
 * where they like.
 */
#include "bench-util.h"

#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "door.h"

static char path[64];

static void
echo(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    (void)cookie;
    (void)dp;
    (void)n_desc;
    door_return(argp, arg_size, NULL, 0);
}

static void __attribute__((noreturn)) serve(int ready, pid_t parent)
{
    int d;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    d = door_create(echo, NULL, 0);
    if (d < 0 || door_attach(d, path, 0600) < 0 || write(ready, "r", 1) != 1) {
        bench_die(path);
    }
    for (;;) {
        pause();
    }
}

struct call {
    int d;
    char *bytes;
    size_t size;
};

static void
turn(void *arg)
{
    struct call *c = arg;
    door_arg_t args = {c->bytes, c->size, NULL, 0, c->bytes, c->size};

    if (door_call(c->d, &args) < 0 || args.data_size != c->size) {
        bench_die("door_call");
    }
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"cpu", required_argument, NULL, 'c'},
        {"cpu2", required_argument, NULL, 'd'},
        {"ms", required_argument, NULL, 'm'},
        {"size", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    static char bytes[65536];
    int cpu = -1, cpu2 = -1, opt, ends[2], d;
    long ms = 1000, size = 16;
    pid_t me = getpid(), child;
    char byte;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'c') {
            cpu = (int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1);
        } else if (opt == 'd') {
            cpu2 = (int)bench_number("cpu2", optarg, 0, CPU_SETSIZE - 1);
        } else if (opt == 'm') {
            ms = bench_number("ms", optarg, 1, 60000);
        } else if (opt == 's') {
            size = bench_number("size", optarg, 0, sizeof(bytes));
        } else {
            fprintf(stderr, "usage: door-call [--cpu N [--cpu2 N]] [--size N]"
                            " [--ms N]\n");
            return 2;
        }
    }
    snprintf(path, sizeof(path), "/tmp/door-call-%d", (int)me);
    if (pipe(ends) < 0) {
        bench_die("pipe");
    }
    child = fork();
    if (child < 0) {
        bench_die("fork");
    }
    if (child == 0) {
        bench_pin(cpu2 < 0 ? cpu : cpu2);
        serve(ends[1], me);
    }
    bench_pin(cpu);
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1) {
        return 1; /* the child has said why */
    }
    d = door_open(path);
    unlink(path);
    if (d < 0) {
        bench_die(path);
    }
    bench_round_trips(turn, &(struct call){d, bytes, (size_t)size},
                      (uint64_t)ms * 1000000u);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}

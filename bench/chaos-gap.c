/*
 * How long a killed worker is missed: kills the worker 0 of a server again and
 * again and asks at once on a kept connection; the time to the answer is the
 * gap.  Connections that idle beside it (--idle) are counted at the end: those
 * that were ended are lost.  The process to be killed is asked for on the
 * control socket before each time.  Besides: until there are as many heirs as
 * before.  From the kill to the answer it has a real-time priority where it
 * may, so that what it waits for is the server and not its own turn; not
 * longer, since then the server would wait for us: counting processes in /proc
 * was seen to hold a CPU for 100 ms.
 */
#include "bench-net.h"

#include <dirent.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/un.h>

#define LIMIT_MS 5000
#define NET      77 /* 127.77.1.x: where idle connections come from */

struct gap {
    const char *control;
    int port, rounds, n_idle;
    long least_us, most_us;
    int *idle;
    int fd;
    uint64_t *samples, *renewed, *kills; /* of kills: the clock */
    size_t n_samples, n_renewed, n_kills;
    int n_lost, n_unchanged;
};

/* The process that serves as worker 0 now; 0: not known. */
static pid_t
ask(const struct gap *g)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {LIMIT_MS / 1000, 0};
    char text[4096] = "";
    size_t have = 0;
    ssize_t n = 1;
    const char *line;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", g->control);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        send(fd, "processes\n", 10, MSG_NOSIGNAL) < 0) {
        bench_die("control socket");
    }
    while (n > 0 && have < sizeof(text) - 1) {
        n = recv(fd, text + have, sizeof(text) - 1 - have, 0);
        have += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    line = strstr(text, "\nworker 0 ");
    return line != NULL ? (pid_t)strtol(line + 10, NULL, 10) : 0;
}

/* One request and its answer on the kept connection. */
static bool
request(struct gap *g)
{
    static const char text[] = "GET /chaos?n=8&seed=1 HTTP/1.1\r\n"
                               "Host: localhost\r\n\r\n";
    char answer[4096];
    size_t have = 0;
    ssize_t n;

    if (send(g->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) < 0) {
        return false;
    }
    for (;;) {
        const char *end;

        n = recv(g->fd, answer + have, sizeof(answer) - 1 - have, 0);
        if (n <= 0) {
            return false;
        }
        have += (size_t)n;
        answer[have] = '\0';
        end = strstr(answer, "\r\n\r\n");
        if (end != NULL && have >= (size_t)(end + 4 + 8 - answer)) {
            return strncmp(answer, "HTTP/1.1 200 ", 13) == 0;
        }
    }
}

static void
reconnect(struct gap *g)
{
    struct timeval limit = {LIMIT_MS / 1000, 0};
    uint64_t end = bench_now() + LIMIT_MS * 1000000ull;

    if (g->fd >= 0) {
        close(g->fd);
    }
    do {
        g->fd = bench_connect(g->port, NET, 0, 0);
    } while (g->fd < 0 && bench_now() < end);
    if (g->fd < 0) {
        bench_die("connect");
    }
    setsockopt(g->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static void
sleep_us(long us)
{
    struct timespec ts = {us / 1000000, us % 1000000 * 1000};

    nanosleep(&ts, NULL);
}

/* Waits until another than WAS serves. Its number, or 0. */
static pid_t
await_other(struct gap *g, pid_t was)
{
    uint64_t end = bench_now() + LIMIT_MS * 1000000ull;
    pid_t pid;

    do {
        pid = ask(g);
        if (pid != 0 && pid != was) {
            return pid;
        }
        sleep_us(500);
    } while (bench_now() < end);
    return 0;
}

static bool
is_alive(pid_t pid)
{
    char path[32];
    char text[256] = "";
    const char *name_end;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    name_end =
        fgets(text, sizeof(text), file) != NULL ? strrchr(text, ')') : NULL;
    fclose(file);
    return name_end != NULL && strlen(name_end) > 2 && name_end[2] != 'Z';
}

/* How many processes of GROUP live: a worker and its heirs. */
static int
count_group(pid_t group)
{
    DIR *dir = opendir("/proc");
    const struct dirent *entry;
    int n = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        n += pid > 0 && getpgid(pid) == group && is_alive(pid);
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n;
}

/* Waits until GROUP is as large as before the kill at START. */
static void
await_renewed(struct gap *g, pid_t group, int size, uint64_t start)
{
    uint64_t end = start + 1000000000u;
    uint64_t now;

    do {
        now = bench_now();
        if (count_group(group) >= size) {
            g->renewed[g->n_renewed++] = now - start;
            return;
        }
        sleep_us(100);
    } while (now < end);
}

static void
hurry(bool on)
{
    const struct sched_param own = {.sched_priority = on};

    sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &own);
}

static void
play(struct gap *g)
{
    pid_t was = 0;

    for (int i = 0; i < g->rounds; i++) {
        pid_t pid = await_other(g, was);
        pid_t group = pid > 0 ? getpgid(pid) : -1;
        int size;
        uint64_t start;

        if (pid == 0) {
            g->n_unchanged++;
            was = 0;
            continue;
        }
        sleep_us(g->least_us + random() % (g->most_us - g->least_us + 1));
        size = count_group(group);
        hurry(true);
        start = g->kills[g->n_kills++] = bench_now();
        kill(pid, SIGKILL);
        if (request(g)) {
            g->samples[g->n_samples++] = bench_now() - start;
        } else {
            g->n_lost++;
            reconnect(g);
        }
        hurry(false);
        if (size > 1) {
            await_renewed(g, group, size, start);
        }
        was = pid;
    }
}

static int
count_lost(const struct gap *g)
{
    int lost = 0;

    for (int i = 0; i < g->n_idle; i++) {
        struct pollfd p = {.fd = g->idle[i], .events = POLLIN | POLLRDHUP};

        lost += poll(&p, 1, 0) != 0;
    }
    return lost;
}

static void
report(struct gap *g)
{
    size_t n = g->n_samples;
    const uint64_t *s = g->samples;

    qsort(g->samples, n, sizeof(*g->samples), bench_compare);
    printf("{\"rounds\": %d, \"served\": %zu, \"lost\": %d, \"unchanged\": %d, "
           "\"idle\": %d, \"idle_lost\": %d",
           g->rounds, n, g->n_lost, g->n_unchanged, g->n_idle, count_lost(g));
    if (n > 0) {
        printf(", \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": %.3f, "
               "\"max_ms\": %.3f",
               (double)s[n / 2] / 1e6, (double)s[n * 9 / 10] / 1e6,
               (double)s[n * 99 / 100] / 1e6, (double)s[n - 1] / 1e6);
    }
    s = g->renewed;
    n = g->n_renewed;
    qsort(g->renewed, n, sizeof(*g->renewed), bench_compare);
    printf(", \"renewed\": %zu", n);
    if (n > 0) {
        printf(", \"renewed_p50_ms\": %.3f, \"renewed_p99_ms\": %.3f, "
               "\"renewed_max_ms\": %.3f",
               (double)s[n / 2] / 1e6, (double)s[n * 99 / 100] / 1e6,
               (double)s[n - 1] / 1e6);
    }
    printf(", \"kills_ns\": [");
    for (size_t i = 0; i < g->n_kills; i++) {
        printf("%s%llu", i > 0 ? ", " : "", (unsigned long long)g->kills[i]);
    }
    printf("]}\n");
}

static void
read_options(struct gap *g, int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"control", required_argument, NULL, 'c'},
        {"rounds", required_argument, NULL, 'n'},
        {"idle", required_argument, NULL, 'i'},
        {"least-us", required_argument, NULL, 'l'},
        {"most-us", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    int c, at;

    *g = (struct gap){
        .rounds = 200, .least_us = 20000, .most_us = 60000, .fd = -1};
    while ((c = getopt_long(argc, argv, "", options, &at)) != -1) {
        const char *name = c != '?' ? options[at].name : "";

        switch (c) {
        case 'p':
            g->port = (int)bench_number(name, optarg, 1, 65535);
            break;
        case 'c':
            g->control = optarg;
            break;
        case 'n':
            g->rounds = (int)bench_number(name, optarg, 1, 1000000);
            break;
        case 'i':
            g->n_idle = (int)bench_number(name, optarg, 0, 1000000);
            break;
        case 'l':
            g->least_us = bench_number(name, optarg, 0, 10000000);
            break;
        case 'm':
            g->most_us = bench_number(name, optarg, 0, 10000000);
            break;
        default:
            exit(2);
        }
    }
    if (g->port == 0 || g->control == NULL || g->most_us < g->least_us) {
        fputs("chaos-gap: --port and --control are needed\n", stderr);
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    struct gap g;

    read_options(&g, argc, argv);
    bench_want_files(g.n_idle + 64);
    g.samples = calloc((size_t)g.rounds, sizeof(*g.samples));
    g.renewed = calloc((size_t)g.rounds, sizeof(*g.renewed));
    g.kills = calloc((size_t)g.rounds, sizeof(*g.kills));
    g.idle = calloc((size_t)g.n_idle + 1, sizeof(*g.idle));
    if (g.samples == NULL || g.renewed == NULL || g.kills == NULL ||
        g.idle == NULL) {
        bench_die("calloc");
    }
    for (int i = 0; i < g.n_idle; i++) {
        g.idle[i] = bench_connect(g.port, NET, i, 0);
        if (g.idle[i] < 0) {
            bench_die("connect");
        }
    }
    reconnect(&g);
    if (!request(&g)) {
        bench_die("first request");
    }
    play(&g);
    report(&g);
    return 0;
}

/* The verb that harms a server on purpose, so that its users can see what it
 * does then. Each process has its own random moments, drawn when it is first
 * seen and again after each blow it survives: a process is hit with the chance
 * that was asked for in every second of its life, its first ones as well. */
#include "ctl/ctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/json.h"
#include "base/plain.h"
#include "base/util.h"
#include "base/world.h"
#include "ctl/chaos-targets.h"
#include "ctl/server.h"

#define TICK         (10 * NS_PER_MS) /* of the draws */
#define LOOK_GAP     (5 * NS_PER_MS)  /* between looks at what lives */
#define SILENT_MAX   20
#define ASK_GAP      (50 * NS_PER_MS) /* between questions to the server */
#define ASK_LIMIT    (5 * NS_PER_SEC)
#define LATE         (20 * NS_PER_MS)
#define STOP_MAX     (2 * NS_PER_SEC)
#define TIME_DEFAULT (10 * NS_PER_SEC)
#define NEVER        UINT64_MAX

/* CHAOS_SIGNAL(word, signal) */
#define CHAOS_SIGNALS(X)                                                       \
    X("kill", SIGKILL)                                                         \
    X("abort", SIGABRT)                                                        \
    X("stop", SIGSTOP)

static const struct {
    const char *word;
    int signal;
} signals[] = {
#define X(word, signal) {word, signal},
    CHAOS_SIGNALS(X)
#undef X
};

static const char *const roles[] = {
#define X(id, word) word,
    CHAOS_ROLES(X)
#undef X
};

#define N_SIGNALS ARRAY_LEN(signals)

struct chaos {
    struct ctl *ctl;
    struct server server;
    int n_silent; /* questions in a row without an answer */
    struct chaos_targets targets;
    uint32_t signals; /* bits of the table above */
    double tick_chance;
    uint64_t seed, random;
    uint64_t start, end, ask_at, look_at;
    uint64_t counts[CHAOS_ROLE_N][N_SIGNALS];
    uint64_t n_missed; /* ended before the signal came */
};

/* --- Random numbers --------------------------------------------------------
 */

/* The next of a sequence that SEED begins: splitmix64 (Steele, Lea and Flood,
 * 2014). */
static uint64_t
draw(struct chaos *c)
{
    uint64_t x = c->random += 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* From 0 to below 1. */
static double
draw_part(struct chaos *c)
{
    return (double)(draw(c) >> 11) * 0x1p-53;
}

/* The chance in one tick that makes P in the ticks of a second. */
static double
chance_of_tick(double p)
{
    double low = 0;
    double high = 1;

    for (int i = 0; i < 60; i++) {
        double q = (low + high) / 2;
        double none = 1;

        for (uint64_t t = 0; t < NS_PER_SEC / TICK; t++) {
            none *= 1 - q;
        }
        if (1 - none < p) {
            low = q;
        } else {
            high = q;
        }
    }
    return high;
}

/* When a process that lives at NOW is hit. */
static uint64_t
draw_due(struct chaos *c, uint64_t now)
{
    uint64_t due = now + draw(c) % TICK;

    while (due < c->end && draw_part(c) >= c->tick_chance) {
        due += TICK;
    }
    return due < c->end ? due : NEVER;
}

/* The signal of a blow. */
static size_t
draw_signal(struct chaos *c)
{
    size_t nth = draw(c) % (uint64_t)__builtin_popcount(c->signals);

    for (size_t i = 0;; i++) {
        if ((c->signals & 1u << i) != 0 && nth-- == 0) {
            return i;
        }
    }
}

/* --- Words -----------------------------------------------------------------
 */

static const char *
signal_word(size_t i)
{
    return signals[i].word;
}

static const char *
role_word(size_t i)
{
    return roles[i];
}

/* The bits of the words in LIST, of which there are N. 0: one is none. */
static uint32_t
bits_of(const char *list, size_t n, const char *(*word)(size_t i))
{
    uint32_t bits = 0;

    for (;;) {
        size_t len = strcspn(list, ",");
        size_t i = 0;

        while (i < n &&
               (strlen(word(i)) != len || memcmp(word(i), list, len) != 0)) {
            i++;
        }
        if (i == n) {
            return 0;
        }
        bits |= 1u << i;
        if (list[len] == '\0') {
            return bits;
        }
        list += len + 1;
    }
}

static int
refuse(const struct ctl *ctl, const char *what, const char *word)
{
    fprintf(ctl->errors, "cardea chaos: %s: %s\n", what, word);
    return CTL_USAGE;
}

static int
read_numbers(struct chaos *c)
{
    const struct ctl *ctl = c->ctl;
    const char *text = ctl->probability != NULL ? ctl->probability : "0.1";
    char *end;
    double p = strtod(text, &end);

    if (end == text || *end != '\0' || !(p > 0 && p <= 1)) {
        return refuse(ctl, "no probability above 0 and up to 1", text);
    }
    c->tick_chance = p < 1 ? chance_of_tick(p) : 1;
    if (ctl->seed == NULL) {
        if (getrandom(&c->seed, sizeof(c->seed), 0) != sizeof(c->seed)) {
            return refuse(ctl, "no random seed", strerrordesc_np(errno));
        }
        c->seed >>= 32; /* short enough to be typed */
    } else {
        errno = 0;
        c->seed = strtoull(ctl->seed, &end, 10);
        if (errno != 0 || *end != '\0' ||
            strspn(ctl->seed, "0123456789") != strlen(ctl->seed)) {
            return refuse(ctl, "no number", ctl->seed);
        }
    }
    c->random = c->seed;
    return CTL_OK;
}

static int
read_options(struct chaos *c, uint32_t *p_roles)
{
    const struct ctl *ctl = c->ctl;
    const char *list = ctl->signals != NULL ? ctl->signals : "abort";
    const char *words = ctl->n_words > 0 ? ctl->words[0] : "";

    *p_roles = bits_of(words, ARRAY_LEN(roles), role_word);
    if (*p_roles == 0) {
        return refuse(ctl, "no list of worker, heir, module, copy and keeper",
                      words);
    }
    c->signals = bits_of(list, N_SIGNALS, signal_word);
    if (c->signals == 0) {
        return refuse(ctl, "no list of kill, abort and stop", list);
    }
    return read_numbers(c);
}

/* --- Printing --------------------------------------------------------------
 */

static void
say_begin(struct chaos *c)
{
    FILE *out = c->ctl->out;

    if (!c->ctl->as_json) {
        fputs("harming the server of ", out);
        plain_put(out, c->server.file);
        fprintf(out, " (pid %d) for %llu ms, seed %llu\n", (int)c->server.pid,
                (unsigned long long)((c->end - c->start) / NS_PER_MS),
                (unsigned long long)c->seed);
        fflush(out);
    }
}

static void
say_blow(struct chaos *c, const struct chaos_target *target, const char *word,
         uint64_t now)
{
    const char *role = roles[chaos_target_role(&c->targets, target)];
    const char *which = chaos_target_which(&c->targets, target);
    FILE *out = c->ctl->out;
    struct json j;

    if (c->ctl->as_json) {
        json_init(&j, out);
        json_object(&j, NULL);
        json_seconds(&j, "at_s", now - c->start);
        json_text(&j, "role", role);
        json_text(&j, "which", which);
        json_num(&j, "pid", (uint64_t)target->pid);
        json_text(&j, "signal", word);
        json_object_end(&j);
        fputc('\n', out);
    } else {
        fprintf(out, "%8.3f s  %-8s  %s ", (double)(now - c->start) / 1e9, word,
                role);
        plain_put(out, which);
        fprintf(out, "  (pid %d)\n", (int)target->pid);
    }
    fflush(out);
}

static void
say_table(const struct chaos *c)
{
    FILE *out = c->ctl->out;
    uint64_t sum = 0;

    fputs("\nrole      signal       count\n", out);
    for (size_t r = 0; r < CHAOS_ROLE_N; r++) {
        for (size_t s = 0; s < N_SIGNALS; s++) {
            if (c->counts[r][s] > 0) {
                fprintf(out, "%-8s  %-8s  %8llu\n", roles[r], signals[s].word,
                        (unsigned long long)c->counts[r][s]);
            }
            sum += c->counts[r][s];
        }
    }
    fprintf(out, "%-18s  %8llu\n", "together", (unsigned long long)sum);
    if (c->n_missed > 0) {
        fprintf(out, "%-18s  %8llu\n", "ended before",
                (unsigned long long)c->n_missed);
    }
    if (c->targets.n_refused > 0) {
        fprintf(out, "%-18s  %8llu  (not proven to be the server's)\n",
                "refused", (unsigned long long)c->targets.n_refused);
    }
}

static void
say_counts(const struct chaos *c, uint64_t now)
{
    struct json j;

    json_init(&j, c->ctl->out);
    json_object(&j, NULL);
    json_num(&j, "seed", c->seed);
    json_seconds(&j, "seconds", now - c->start);
    json_num(&j, "ended_before", c->n_missed);
    json_num(&j, "refused", c->targets.n_refused);
    json_list(&j, "counts");
    for (size_t r = 0; r < CHAOS_ROLE_N; r++) {
        for (size_t s = 0; s < N_SIGNALS; s++) {
            if (c->counts[r][s] > 0) {
                json_object(&j, NULL);
                json_text(&j, "role", roles[r]);
                json_text(&j, "signal", signals[s].word);
                json_num(&j, "count", c->counts[r][s]);
                json_object_end(&j);
            }
        }
    }
    json_list_end(&j);
    json_object_end(&j);
    fputc('\n', c->ctl->out);
}

/* --- Blows -----------------------------------------------------------------
 */

static uint64_t
now_ns(void)
{
    return world_real()->now(NULL);
}

static void
fresh(void *arg, struct chaos_target *target)
{
    target->due = draw_due(arg, now_ns());
}

static void
hit(struct chaos *c, struct chaos_target *target, uint64_t now)
{
    enum chaos_role role = chaos_target_role(&c->targets, target);
    size_t i = draw_signal(c);
    int rc;

    if (now - target->due > LATE && !target->is_stopped) {
        target->due = draw_due(c, now); /* we were held up: no salvo */
        return;
    }
    if (target->is_stopped) {
        chaos_target_signal(target, SIGCONT);
        say_blow(c, target, "go on", now);
        target->is_stopped = false;
        target->due = draw_due(c, now);
        return;
    }
    if ((c->targets.roles & 1u << role) == 0) {
        target->due = draw_due(c, now); /* it became the other of the two */
        return;
    }
    say_blow(c, target, signals[i].word, now);
    rc = chaos_target_signal(target, signals[i].signal);
    if (rc == -EPERM) {
        c->targets.n_refused++;
    } else if (rc < 0) {
        c->n_missed++;
    } else {
        c->counts[role][i]++;
    }
    /* Who serves now is known soon. */
    c->ask_at = MIN_OF(c->ask_at, now + LOOK_GAP);
    target->is_stopped = rc == 0 && signals[i].signal == SIGSTOP;
    target->due = target->is_stopped ? now + draw(c) % STOP_MAX : NEVER;
}

/* Asks which processes there are. false: the server has ended. */
static bool
ask(struct chaos *c)
{
    uint64_t deadline = now_ns() + ASK_LIMIT;
    pid_t pid = c->server.pid;
    char file[PATH_MAX];
    char line[512];
    int rc;

    if (c->server.fd < 0) {
        memcpy(file, c->server.file, sizeof(file));
        if (!server_again(&c->server) || c->server.pid != pid) {
            return false;
        }
        memcpy(c->server.file, file, sizeof(file));
    }
    if (server_ask(c->ctl, "chaos", &c->server, "processes") != CTL_OK) {
        server_close(&c->server);
        return ++c->n_silent < SILENT_MAX; /* its keeper may have been killed */
    }
    c->n_silent = 0;
    while ((rc = server_line(&c->server, line, sizeof(line), deadline)) > 0) {
        chaos_targets_line(&c->targets, line);
    }
    server_close(&c->server);
    return rc >= 0 || ++c->n_silent < SILENT_MAX;
}

/* One round at NOW. When to be back, or 0: the server has ended. */
static uint64_t
play(struct chaos *c, uint64_t now)
{
    uint64_t next = c->end;

    if (now >= c->ask_at) {
        if (!ask(c)) {
            return 0;
        }
        c->ask_at = now + ASK_GAP;
    }
    if (now >= c->look_at) {
        if (chaos_targets_look(&c->targets, fresh, c) < 0) {
            return 0;
        }
        c->look_at = now + LOOK_GAP;
    }
    for (size_t i = 0; i < c->targets.n_targets; i++) {
        struct chaos_target *target = &c->targets.targets[i];

        if (now >= target->due) {
            hit(c, target, now);
        }
        next = MIN_OF(next, target->due);
    }
    return MIN_OF(next, MIN_OF(c->ask_at, c->look_at));
}

/* Until the time is over, or INT or TERM comes on SIGNAL_FD. */
static int
play_all(struct chaos *c, int signal_fd)
{
    struct pollfd p = {.fd = signal_fd, .events = POLLIN};
    uint64_t now = c->start;

    while (now < c->end) {
        uint64_t next = play(c, now);
        struct timespec wait = {0};

        if (next == 0) {
            fputs("cardea chaos: the server has ended, or does not answer\n",
                  c->ctl->errors);
            return CTL_FAILED;
        }
        now = now_ns();
        if (next > now) {
            wait.tv_sec = (time_t)((next - now) / NS_PER_SEC);
            wait.tv_nsec = (long)((next - now) % NS_PER_SEC);
        }
        if (ppoll(&p, 1, &wait, NULL) > 0) {
            break;
        }
        now = now_ns();
    }
    return CTL_OK;
}

static int
harm(struct chaos *c)
{
    CLEAN_FD int signal_fd = -1;
    sigset_t set, before;
    int status;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &before);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    c->start = now_ns();
    c->end = c->start + MIN_OF(c->ctl->time_ns == UINT64_MAX ? TIME_DEFAULT
                                                             : c->ctl->time_ns,
                               UINT64_MAX / 4);
    say_begin(c);
    status = play_all(c, signal_fd);
    if (c->ctl->as_json) {
        say_counts(c, now_ns());
    } else {
        say_table(c);
    }
    /* Who presses INT twice means us. */
    while (signal_fd >= 0 && read(signal_fd, &(struct signalfd_siginfo){0},
                                  sizeof(struct signalfd_siginfo)) > 0) {
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

int
ctl_chaos(struct ctl *ctl)
{
    struct chaos c = {.ctl = ctl};
    uint32_t wanted;
    int status = read_options(&c, &wanted);

    if (status == CTL_OK) {
        status = server_find(ctl, "chaos", true, &c.server);
    }
    if (status != CTL_OK) {
        return status;
    }
    if (c.server.is_foreign) {
        fprintf(ctl->errors,
                "cardea chaos: the server is of user %u; run it as that user\n",
                (unsigned)c.server.uid);
        status = CTL_FAILED;
    } else if (chaos_targets_init(&c.targets, c.server.pid, wanted) < 0) {
        fputs("cardea chaos: out of memory\n", ctl->errors);
        status = CTL_FAILED;
    } else {
        status = harm(&c);
        chaos_targets_deinit(&c.targets);
    }
    server_close(&c.server);
    return status;
}

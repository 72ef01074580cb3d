/* A worker is killed at any instruction, and no client notices: each script of
 * a client is played with the worker traced from the moment the client acts,
 * one instruction or one system call at a time; at a chosen one it is killed.
 * Its heir goes on, and every byte that the client gets is compared, every call
 * counted, every log line.
 *
 *   test-front-exact [SECONDS [SEED]]
 *   test-front-exact TIMES SEED SCRIPT PHASE IS-SYSTEM-CALL STEPS
 *
 * Where a kill was noticed, the place in the code is printed with addr2line(1),
 * and how to repeat it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "front/test-site.h"

/* ---- the scripts ---- */

/* Called before the client acts and when it has acted: the worker is held, or
 * goes on, or is traced and killed. */
static void before(struct client *c);
static void after(struct client *c);

#define ACT(c, what)                                                           \
    do {                                                                       \
        before(c);                                                             \
        what;                                                                  \
        after(c);                                                              \
    } while (0)

#define HOST "HTTP/1.1\r\nHost: a\r\n"

static void
check_in_step(struct client *c)
{
    uint32_t n = new_number(c);

    say(c, "GET /app/%u " HOST "\r\n", n);
    expect_answer(c, "GET", n, "", 0);
}

static void
play_get(struct client *c)
{
    uint32_t n = new_number(c);

    ACT(c, dial(c, HTTP));
    ACT(c, say(c, "GET /app/%u " HOST "\r\n", n));
    expect_answer(c, "GET", n, "", 0);
    check_in_step(c);
}

static void
play_pipelined(struct client *c)
{
    uint32_t a = new_number(c), b = new_number(c), d = new_number(c);

    dial(c, HTTP);
    ACT(c, say(c,
               "\r\nGET /app/%u " HOST "\r\nGET /app/%u " HOST
               "X-Longer: %0200d\r\n\r\nGET /app/%u HT",
               a, b, 7, d));
    expect_answer(c, "GET", a, "", 0);
    expect_answer(c, "GET", b, "", 0);
    ACT(c, say(c, "TP/1.1\r\nHost: a\r\n\r\n"));
    expect_answer(c, "GET", d, "", 0);
    check_in_step(c);
}

static char upload[200000];

static void
fill_upload(void)
{
    for (size_t i = 0; i < sizeof upload; i++) {
        upload[i] = pattern(i * 3 + 1);
    }
}

static void
play_post(struct client *c)
{
    uint32_t n = new_number(c);

    dial(c, HTTP);
    ACT(c, {
        say(c, "POST /app/%u " HOST "Content-Length: 150000\r\n\r\n", n);
        say_bytes(c, upload, 1000);
    });
    ACT(c, say_bytes(c, upload + 1000, 70000));
    ACT(c, say_bytes(c, upload + 71000, 79000));
    expect_answer(c, "POST", n, upload, 150000);
    check_in_step(c);
}

static void
play_small_post(struct client *c)
{
    uint32_t n = new_number(c);

    dial(c, HTTP);
    ACT(c, say(c, "POST /app/%u " HOST "Content-Length: 10\r\n\r\n01234", n));
    ACT(c, say(c, "56789"));
    expect_answer(c, "POST", n, "0123456789", 10);
    check_in_step(c);
}

static void
chunk(struct client *c, size_t at, size_t len)
{
    say(c, "%zx;e=\"x\"\r\n", len);
    say_bytes(c, upload + at, len);
    say(c, "\r\n");
}

static void
play_chunked(struct client *c)
{
    uint32_t n = new_number(c), next = new_number(c);

    dial(c, HTTP);
    ACT(c, {
        say(c, "POST /app/%u " HOST "Transfer-Encoding: chunked\r\n\r\n", n);
        chunk(c, 0, 700);
        say(c, "4e");
    });
    ACT(c, {
        say(c, "20\r\n");
        say_bytes(c, upload + 700, 20000);
        say(c, "\r\n");
        chunk(c, 20700, 30000);
    });
    ACT(c, {
        chunk(c, 50700, 300);
        say(c, "0\r\nT: v\r\n\r\nGET /app/%u " HOST "\r\n", next);
    });
    expect_answer(c, "POST", n, upload, 51000);
    expect_answer(c, "GET", next, "", 0);
    check_in_step(c);
}

static void
big_at(struct client *c, enum port port)
{
    uint32_t n = new_number(c);

    dial(c, port);
    ACT(c, say(c, "GET /app/%u?big=1 " HOST "\r\n", n));
    if (expect_head(c, 200) != BIG_SIZE) {
        wrong(c, "not the big length");
    }
    size_t at = 0;
    ACT(c, at = drain(c, at));
    ACT(c, at = drain(c, at));
    expect_pattern(c, at, BIG_SIZE - at);
    check_in_step(c);
}

static void
play_big(struct client *c)
{
    big_at(c, HTTP);
}

static void
play_local_big(struct client *c)
{
    big_at(c, LOCAL);
}

static void
file_at(struct client *c, enum port port)
{
    dial(c, port);
    ACT(c, say(c, "GET /www/f.txt " HOST "\r\n"));
    if (expect_head(c, 200) != FILE_SIZE) {
        wrong(c, "not the file's length");
    }
    size_t at = 0;
    ACT(c, at = drain(c, at));
    expect_pattern(c, at, FILE_SIZE - at);
    check_in_step(c);
}

static void
play_file(struct client *c)
{
    file_at(c, HTTP);
}

static void
play_local_file(struct client *c)
{
    file_at(c, LOCAL);
}

static void
continue_at(struct client *c, enum port port)
{
    uint32_t n = new_number(c);

    dial(c, port);
    ACT(c, say(c,
               "POST /app/%u " HOST
               "Expect: 100-continue\r\nContent-Length: 6\r\n\r\n",
               n));
    expect_text(c, "HTTP/1.1 100 Continue\r\n\r\n");
    ACT(c, say(c, "abcdef"));
    expect_answer(c, "POST", n, "abcdef", 6);
    check_in_step(c);
}

static void
play_continue(struct client *c)
{
    continue_at(c, HTTP);
}

static void
play_local_continue(struct client *c)
{
    continue_at(c, LOCAL);
}

/* Refused before its body has come: what still comes is dropped. */
static void
play_early_answer(struct client *c)
{
    dial(c, HTTP);
    ACT(c, {
        say(c, "POST /nowhere " HOST "Content-Length: 100000\r\n\r\n");
        say_bytes(c, upload, 20000);
    });
    for (size_t n = expect_head(c, 404); n > 0 && c->wrong[0] == 0; n--) {
        get_byte(c);
    }
    ACT(c, say_bytes(c, upload + 20000, 50000));
    expect_end(c);
    ACT(c, shutdown(c->fd, SHUT_WR));
}

static void
play_half_close(struct client *c)
{
    uint32_t n = new_number(c);

    dial(c, HTTP);
    ACT(c, {
        say(c, "GET /app/%u " HOST "\r\n", n);
        shutdown(c->fd, SHUT_WR);
    });
    expect_answer(c, "GET", n, "", 0);
    expect_end(c);
}

/* Its client leaves by a reset: nobody minds. */
static void
play_reset(struct client *c)
{
    const struct linger at_once = {1, 0};

    dial(c, HTTP);
    ACT(c, say(c, "POST /app/0 " HOST "Content-Length: 5000\r\n\r\n01234"));
    ACT(c, {
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(c->fd);
        c->fd = -1;
    });
}

static void
play_urgent(struct client *c)
{
    uint32_t n = new_number(c);

    dial(c, HTTP);
    ACT(c, {
        if (send(c->fd, "G", 1, MSG_OOB) != 1) {
            wrong(c, "urgent: %s", strerror(errno));
        }
        say(c, "ET /app/%u " HOST, n);
    });
    ACT(c, {
        if (send(c->fd, "\r", 1, MSG_OOB) != 1) {
            wrong(c, "urgent: %s", strerror(errno));
        }
        say(c, "\n");
    });
    expect_answer(c, "GET", n, "", 0);
    check_in_step(c);
}

static void
play_close(struct client *c)
{
    uint32_t n = new_number(c);

    dial(c, HTTP);
    ACT(c, say(c, "GET /app/%u " HOST "Connection: close\r\n\r\n", n));
    expect_answer(c, "GET", n, "", 0);
    expect_end(c);
    ACT(c, {
        close(c->fd);
        c->fd = -1;
    });
}

static void
play_call(struct client *c)
{
    uint32_t n = new_number(c);
    char text[32];

    snprintf(text, sizeof text, "raw %u", n);
    ACT(c, dial(c, CALL));
    ACT(c, say(c, "%s", text));
    expect_text(c, text);
    expect_end(c);
    ACT(c, {
        close(c->fd);
        c->fd = -1;
    });
}

static void
play_pass(struct client *c)
{
    ACT(c, dial(c, PASS));
    ACT(c, say(c, "one"));
    expect_text(c, "one");
    ACT(c, shutdown(c->fd, SHUT_WR));
    expect_end(c);
}

static void
play_local(struct client *c)
{
    uint32_t n = new_number(c);

    ACT(c, {
        dial(c, LOCAL);
        say(c, "POST /app/%u HTTP/1.1\r\nHo", n);
    });
    ACT(c, {
        say(c, "st: a\r\nContent-Length: 150000\r\n\r\n");
        say_bytes(c, upload, 70000);
    });
    ACT(c, say_bytes(c, upload + 70000, 70000));
    ACT(c, say_bytes(c, upload + 140000, 10000));
    expect_answer(c, "POST", n, upload, 150000);
    check_in_step(c);
}

static const struct script {
    const char *name;
    void (*play)(struct client *c);
    int phases;
} scripts[] = {
    {"get", play_get, 2},
    {"pipelined", play_pipelined, 2},
    {"post", play_post, 3},
    {"small-post", play_small_post, 2},
    {"chunked", play_chunked, 3},
    {"big", play_big, 3},
    {"file", play_file, 2},
    {"continue", play_continue, 2},
    {"early-answer", play_early_answer, 3},
    {"half-close", play_half_close, 1},
    {"reset", play_reset, 2},
    {"urgent", play_urgent, 2},
    {"close", play_close, 2},
    {"call", play_call, 3},
    {"pass", play_pass, 3},
    {"local", play_local, 4},
    {"local-big", play_local_big, 3},
    {"local-file", play_local_file, 2},
    {"local-continue", play_local_continue, 2},
};

/* ---- the kill ---- */

extern const char __ehdr_start, etext; /* where this program was loaded */

/* What is to happen in this round. */
struct plan {
    const struct script *script;
    int phase;
    bool by_call;   /* steps are system calls, not instructions */
    uint32_t steps; /* until the kill; ends earlier where the worker rests */
    pid_t traced;
    uint32_t taken;  /* steps */
    bool rested;     /* it had nothing more to do */
    uint64_t at, sp; /* where it was killed */
    uint64_t up[5];  /* callers */
    long within;     /* the system call, or -1 */
};

static struct plan plan;

static volatile sig_atomic_t timed_out;

static void
on_alarm(int signal)
{
    timed_out = 1;
}

static void
arm_alarm(long ms)
{
    struct itimerval t = {.it_value = {ms / 1000, ms % 1000 * 1000}};

    timed_out = 0;
    setitimer(ITIMER_REAL, &t, NULL);
}

/* Until the traced worker stops. false: it sleeps. */
static bool
wait_stop(void)
{
    int status;

    for (;;) {
        pid_t pid = waitpid(plan.traced, &status, __WALL);
        if (pid == plan.traced) {
            return WIFSTOPPED(status);
        }
        if (timed_out || (pid < 0 && errno != EINTR)) {
            return false;
        }
    }
}

static void
before(struct client *c)
{
    struct site *s = c->site;

    if (c->phase++ != plan.phase) {
        return;
    }
    wait_until(s, has_heirs, "heirs");
    plan.traced = (pid_t)atomic_load(&s->seats[0].pid);
    arm_alarm(LIMIT_MS);
    if (ptrace(PTRACE_SEIZE, plan.traced, NULL, PTRACE_O_TRACESYSGOOD) < 0 ||
        ptrace(PTRACE_INTERRUPT, plan.traced, NULL, NULL) < 0 || !wait_stop()) {
        wrong(c, "cannot trace the worker: %s", strerror(errno));
    }
    arm_alarm(0);
}

static void
note_place(void)
{
    struct user_regs_struct regs;

    memset(&regs, 0, sizeof regs);
    ptrace(PTRACE_GETREGS, plan.traced, NULL, &regs);
    plan.at = regs.rip;
    plan.sp = regs.rsp;
    plan.within = (long)regs.orig_rax;
    /* Return addresses on its stack, or what looks like them. */
    for (uint64_t n = 0, k = 0; n < 200 && k < ARRAY_LEN(plan.up); n++) {
        errno = 0;
        uint64_t word = (uint64_t)ptrace(PTRACE_PEEKDATA, plan.traced,
                                         (void *)(regs.rsp + 8 * n), NULL);
        if (errno == 0 && word > (uint64_t)(uintptr_t)&__ehdr_start &&
            word < (uint64_t)(uintptr_t)&etext) {
            plan.up[k++] = word;
        }
    }
}

static void
after(struct client *c)
{
    int how = plan.by_call ? PTRACE_SYSCALL : PTRACE_SINGLESTEP;

    if (c->phase - 1 != plan.phase) {
        return;
    }
    for (plan.taken = 0; plan.taken < plan.steps && c->wrong[0] == 0;
         plan.taken++) {
        arm_alarm(60);
        if (ptrace(how, plan.traced, NULL, NULL) < 0 || !wait_stop()) {
            plan.rested = true;
            break;
        }
    }
    arm_alarm(0);
    if (!plan.rested) {
        note_place();
    }
    kill(plan.traced, SIGKILL);
    killed = plan.traced;
    while (waitpid(plan.traced, NULL, __WALL) < 0 && errno == EINTR) {
    }
    c->killed = true;
}

/* ---- rounds ---- */

static void
print_place(void)
{
    char command[256];
    uint64_t base = (uint64_t)(uintptr_t)&__ehdr_start;

    if (plan.rested) {
        printf("    it was asleep\n");
        return;
    }
    printf("    system call %ld; killed at:\n", plan.within);
    for (size_t k = 0; k <= ARRAY_LEN(plan.up); k++) {
        uint64_t at = k == 0 ? plan.at : plan.up[k - 1] - 1;
        snprintf(command, sizeof command,
                 "addr2line -fip -e /proc/%d/exe 0x%llx 2>/dev/null | "
                 "sed 's/^/      /'",
                 getpid(), (unsigned long long)(at - base));
        fflush(stdout);
        if (at > base && system(command) != 0) {
            printf("      %llx\n", (unsigned long long)at);
        }
    }
}

static bool
is_idle(const struct site *s)
{
    const struct seat *seat = &s->seats[0];

    return seat->connections == 0 && seat->segments == 0 && seat->slots == 0 &&
           seat->areas == 0;
}

static void
check_calls(struct client *c)
{
    for (uint32_t n = c->first; n < c->site->next; n++) {
        if (c->site->calls[n] != 1 && c->wrong[0] == 0) {
            wrong(c, "call %u was made %u times", n, c->site->calls[n]);
        }
    }
}

/* Plays one script, with one kill. false: somebody noticed it. */
static bool
round_of(struct site *s)
{
    struct client c = {.site = s, .fd = -1, .first = s->next};

    plan.taken = 0;
    plan.rested = false;
    plan.at = 0;
    memset(plan.up, 0, sizeof plan.up);
    plan.script->play(&c);
    if (c.fd >= 0) {
        close(c.fd);
    }
    check_calls(&c);
    for (uint64_t end = now_ms() + 5000; !is_idle(s) && c.wrong[0] == 0;) {
        if (now_ms() > end) {
            wrong(&c, "left: %u connections, %u segments, %u slots, %u areas",
                  s->seats[0].connections, s->seats[0].segments,
                  s->seats[0].slots, s->seats[0].areas);
        }
        usleep(300);
    }
    tidy(s);
    if (c.wrong[0] == 0) {
        return true;
    }
    printf("  %s, phase %d, %s %u of %u: %s\n", plan.script->name, plan.phase,
           plan.by_call ? "system call" : "instruction", plan.taken, plan.steps,
           c.wrong);
    print_place();
    return false;
}

/* How many steps a phase takes until the worker rests, as far as it is known:
 * learned on the way, for it differs with each build. */
static uint32_t lengths[ARRAY_LEN(scripts)][4][2];

static bool
random_round(struct site *s)
{
    size_t k = pick(s, ARRAY_LEN(scripts));

    plan.script = &scripts[k];
    plan.phase = (int)pick(s, (uint64_t)scripts[k].phases);
    plan.by_call = pick(s, 4) == 0;
    uint32_t *length = &lengths[k][plan.phase][plan.by_call];
    if (*length == 0) {
        *length = plan.by_call ? 12 : 6000;
    }
    plan.steps = 1 + (uint32_t)pick(s, *length + *length / 4 + 2);
    bool good = round_of(s);
    if (plan.rested || plan.steps > *length) {
        *length = plan.taken;
    }
    return good;
}

/* Every request that was answered has its line in the access log. A kill within
 * the one write of a batch may leave it there twice. How many are. */
static uint32_t
check_log(struct site *s)
{
    off_t size = lseek(s->log_fd, 0, SEEK_END);
    char *text = mmap(NULL, (size_t)size + 1, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE, s->log_fd, 0);
    uint8_t *seen = calloc(1, CALLS_MAX);
    uint32_t twice = 0;

    assert_true(text != MAP_FAILED && size > 0);
    for (char *at = text; (at = strstr(at, "target=/app/")); at++) {
        unsigned long n = strtoul(at + 12, NULL, 10) % CALLS_MAX;
        seen[n] += seen[n] < 255;
    }
    for (uint32_t n = 1; n < s->next; n++) {
        if (s->logged[n] && seen[n] == 0) {
            fail_msg("request %u has no line in the log", n);
        }
        twice += seen[n] > 1;
    }
    munmap(text, (size_t)size + 1);
    free(seen);
    return twice;
}

/* An answer of each door: its ring is there, and in the heirs. */
static void
warm_up(struct site *s)
{
    struct client http = {.site = s, .fd = -1}, call = {.site = s, .fd = -1};
    char answer[64];
    uint64_t end = now_ms() + LIMIT_MS;

    for (bool there = false; !there;) {
        assert_true(now_ms() < end);
        dial(&http, HTTP);
        say(&http, "GET /app/0 " HOST "Connection: close\r\n\r\n");
        there = recv(http.fd, answer, sizeof answer, MSG_WAITALL) > 12 &&
                memcmp(answer, "HTTP/1.1 200", 12) == 0;
        close(http.fd);
    }
    end = now_ms() + LIMIT_MS;
    for (bool there = false; !there;) {
        assert_true(now_ms() < end);
        dial(&http, LOCAL);
        say(&http, "GET /app/0 " HOST "Connection: close\r\n\r\n");
        there = recv(http.fd, answer, sizeof answer, MSG_WAITALL) > 12 &&
                memcmp(answer, "HTTP/1.1 200", 12) == 0;
        close(http.fd);
    }
    dial(&call, CALL);
    say(&call, "raw 0");
    expect_text(&call, "raw 0");
    close(call.fd);
    assert_string_equal(call.wrong, "");
    assert_string_equal(http.wrong, "");
}

static uint64_t seconds = 10, seed;
static struct plan chosen; /* by the command line */

static void
killed_at_any_instruction(void **state)
{
    struct site *s = site_begin(seed);
    uint64_t rounds = 0, bad = 0, slept = 0;

    fill_upload();
    wait_until(s, has_rings, "rings and heirs");
    warm_up(s);
    if (chosen.script) {
        plan = chosen;
        for (uint64_t n = 0; n < seconds; n++) {
            bad += !round_of(s);
        }
        site_end(s);
        assert_int_equal(bad, 0);
        return;
    }
    uint64_t end = now_ms() + seconds * 1000;
    while (now_ms() < end && bad < 20) {
        bad += !random_round(s);
        slept += plan.rested;
        rounds++;
    }
    printf("# %llu kills (%llu of them asleep), seed %llu, %u requests, "
           "%u takeovers, %u lines twice, noticed: %llu\n",
           (unsigned long long)rounds, (unsigned long long)slept,
           (unsigned long long)seed, s->next - 1, s->seats[0].takeovers,
           check_log(s), (unsigned long long)bad);
    fflush(stdout);
    site_end(s);
    assert_int_equal(bad, 0);
}

int
main(int argc, char **argv)
{
    const struct sigaction alarm = {.sa_handler = on_alarm};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_instruction),
    };

    sigaction(SIGALRM, &alarm, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : seconds;
    seed =
        argc > 2 ? strtoull(argv[2], NULL, 10) : now_ms() ^ (uint64_t)getpid();
    for (size_t k = 0; argc > 6 && k < ARRAY_LEN(scripts); k++) {
        if (strcmp(argv[3], scripts[k].name) == 0) {
            chosen = (struct plan){.script = &scripts[k],
                                   .phase = atoi(argv[4]),
                                   .by_call = atoi(argv[5]) != 0,
                                   .steps = (uint32_t)atoi(argv[6])};
        }
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

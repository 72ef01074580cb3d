/* The handler does as little as can be: plain stores into shared memory, from
 * words that are always whole. It runs on a stack of its own, because a stack
 * that ran over is a fault too. */
#include "front/fault.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "front/worker_priv.h"

#define STACK_SIZE 16384u
#define HEAD_SAID  256u /* of the request, in the log */

/* A handler is given no argument. */
static struct worker *fault_worker;

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

static void
note(struct worker *w, int signal, const siginfo_t *info)
{
    struct fault_report *f = &w->core->fault;
    uint32_t i = f->at;

    f->code = info->si_code;
    f->address = signal == SIGSEGV || signal == SIGBUS
                     ? (uint64_t)(uintptr_t)info->si_addr
                     : 0;
    f->step = (struct fault_step){.conn = FAULT_NOBODY};
    if (i < w->core->n_conns) {
        const struct conn *c = &w->conns[i];
        f->step = (struct fault_step){.conn = i,
                                      .gen = c->gen,
                                      .request = c->requests,
                                      .state = c->state};
    }
    f->signal = signal;
}

static void
on_fault(int signal, siginfo_t *info, void *context)
{
    pid_t own = getpid();

    /* Sent by another process: a death like any other, and no fault. abort()
     * sends it to itself. */
    if (info->si_code > 0 || info->si_pid == own) {
        note(fault_worker, signal, info);
    }
    /* The handler is gone by now (SA_RESETHAND): this one kills. */
    (void)syscall(SYS_tgkill, own, (pid_t)syscall(SYS_gettid), signal);
}

void
fault_watch(struct worker *w)
{
    struct sigaction act = {.sa_sigaction = on_fault,
                            .sa_flags =
                                (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)};
    stack_t stack = {.ss_size = STACK_SIZE};

    fault_worker = w;
    w->core->fault.at = w->core->fault.suspect.conn = FAULT_NOBODY;
    stack.ss_sp = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) < 0) {
        act.sa_flags &= (int)~SA_ONSTACK;
    }
    sigfillset(&act.sa_mask);
    for (size_t n = 0; n < ARRAY_LEN(signals); n++) {
        sigaction(signals[n], &act, NULL);
    }
}

/* ---- the heir's side ---- */

static const char *
state_name(uint32_t state)
{
    static const char *const names[] = {
        [CONN_FREE] = "free",     [CONN_IDLE] = "idle",
        [CONN_HEAD] = "head",     [CONN_BODY] = "body",
        [CONN_WAIT] = "wait",     [CONN_QUEUE] = "queue",
        [CONN_CALL] = "call",     [CONN_SEND] = "send",
        [CONN_LINGER] = "linger", [CONN_RAW] = "raw",
        [CONN_DONE] = "done",     [CONN_SHIFT] = "shift",
        [CONN_ENDING] = "ending", [CONN_SHUT] = "shut",
    };

    return state < ARRAY_LEN(names) && names[state] ? names[state] : "other";
}

/* "idle:12,call:3": how many connections are in each state. */
static void
say_states(struct worker *w, struct log_line *line)
{
    uint32_t counts[256] = {0};
    char text[160];
    size_t n = 0;

    for (uint32_t i = 0; i < w->core->top; i++) {
        counts[w->conns[i].state]++;
    }
    text[0] = 0;
    for (uint32_t s = CONN_IDLE; s < ARRAY_LEN(counts); s++) {
        if (counts[s] == 0 || n >= sizeof text) {
            continue;
        }
        int more = snprintf(text + n, sizeof text - n, "%s%s:%u",
                            n > 0 ? "," : "", state_name(s), counts[s]);
        n += more > 0 ? (size_t)more : 0;
    }
    log_text(line, "states", n > 0 ? text : "none");
}

static void
say_step(struct worker *w, struct log_line *line, const struct fault_step *step)
{
    log_num(line, "connection", step->conn);
    log_text(line, "state", state_name(step->state));
    log_num(line, "requests", step->request);
    if (step->conn < w->core->n_conns) {
        const struct conn *c = &w->conns[step->conn];
        if (c->state != CONN_FREE && c->gen == step->gen) {
            access_client(line, c);
        }
    }
}

/* One line: what the dead one did when it died, and what it leaves. */
static void
say_report(struct worker *w)
{
    const struct fault_report *f = &w->core->fault;
    struct log_line line;

    log_begin(&line, w->world->wall(w->world->ctx),
              f->signal != 0 ? LOG_ERROR : LOG_WARN, "dead-worker");
    log_num(&line, "worker", (uint64_t)w->setup->index);
    if (f->signal != 0) {
        log_text(&line, "fault", sigabbrev_np(f->signal));
        log_num(&line, "code", (uint64_t)(uint32_t)f->code);
        if (f->address != 0) {
            char at[24];
            snprintf(at, sizeof at, "0x%llx", (unsigned long long)f->address);
            log_text(&line, "address", at);
        }
        if (f->step.conn != FAULT_NOBODY) {
            say_step(w, &line, &f->step);
        }
    }
    log_ms(&line, "last_pass_ms", w->now - w->core->last_pass);
    say_states(w, &line);
    log_end(&line, w->setup->log_fd);
}

static bool
is_same(const struct fault_step *a, const struct fault_step *b)
{
    return a->conn == b->conn && a->gen == b->gen && a->request == b->request &&
           a->state == b->state;
}

static void
give_up(struct worker *w, const struct fault_step *step)
{
    struct conn *c = &w->conns[step->conn];
    struct log_line line;

    if (step->conn >= w->core->top || c->state == CONN_FREE ||
        c->gen != step->gen) {
        return;
    }
    log_begin(&line, w->world->wall(w->world->ctx), LOG_ERROR, "poison");
    log_num(&line, "worker", (uint64_t)w->setup->index);
    say_step(w, &line, step);
    if (c->seg != ARENA_NONE && c->in_len > 0) {
        log_bytes(&line, "head", input_of(w, c),
                  MIN_OF(MIN_OF(c->in_len, input_size(w, c)), HEAD_SAID));
    }
    log_end(&line, w->setup->log_fd);
    w->core->fault.poisoned++;
    conn_close(w, step->conn);
}

void
fault_judge(struct worker *w)
{
    struct fault_report *f = &w->core->fault;

    say_report(w);
    f->at = FAULT_NOBODY;
    if (f->signal == 0) {
        return;
    }
    const struct fault_step step = f->step;
    bool again = step.conn != FAULT_NOBODY && is_same(&step, &f->suspect);

    f->suspect = step;
    f->signal = 0;
    if (again) {
        give_up(w, &step);
    }
}

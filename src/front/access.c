/* The access log: one line a request, gathered over a pass and written at once.
 * What the log cannot take is lost and counted, the loop never waits for it. */
#include "front/worker_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/util.h"
#include "front/causes.h"

#define LATE_WAIT_NS (100 * NS_PER_MS)
#define LATE_NS      NS_PER_SEC

void
access_flush(struct worker *w)
{
    struct core *core = w->core;

    if (core->log_len == 0) {
        return;
    }
    if (write(w->setup->log_fd, core->log, core->log_len) < 0) {
        core->log_lost++;
    }
    KEEP_ORDER();
    core->log_len = 0;
}

void
access_client(struct log_line *line, const struct conn *c)
{
    char text[INET6_ADDRSTRLEN + 16];
    size_t n;

    if (c->family == 4) {
        n = (size_t)snprintf(text, sizeof text, "%u.%u.%u.%u:%u", c->peer[0],
                             c->peer[1], c->peer[2], c->peer[3], c->peer_port);
        log_bytes(line, "client", text, n);
    } else if (c->family == 6) {
        text[0] = '[';
        inet_ntop(AF_INET6, c->peer, text + 1, INET6_ADDRSTRLEN);
        n = strlen(text);
        n += (size_t)snprintf(text + n, sizeof text - n, "]:%u", c->peer_port);
        log_bytes(line, "client", text, n);
    } else {
        log_text(line, "client", "unix");
    }
}

static void
log_target(struct worker *w, struct log_line *line, const struct request *r)
{
    const struct conf_target *t = &w->conf->targets[r->target];

    if (!r->routed) {
        return;
    }
    if (t->kind == CONF_TARGET_MODULE) {
        log_text(line, "module", w->conf->modules[t->module].name);
    } else {
        log_text(line, t->kind == CONF_TARGET_DOOR ? "door" : "files", t->path);
    }
}

/* Nothing is known of the protocol, so there is no status: how it came to the
 * door, and for `to` the bytes of the read. */
static void
log_raw(struct worker *w, struct log_line *line, const struct conn *c,
        const struct request *r)
{
    bool pass = w->conf->listens[c->listener].protocol == CONF_TCP_PASS;

    log_text(line, "proto", "tcp");
    log_text(line, "how", pass ? "pass" : "call");
    if (!pass) {
        log_num(line, "in", r->body_have);
    }
}

static inline uint64_t
now_at(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* How long R waited until a thread took it, or it was given up. */
static uint64_t
wait_of(const struct request *r)
{
    uint64_t until = r->started != 0 ? r->started : r->answered;

    return r->ready != 0 && until > r->ready ? until - r->ready : 0;
}

/* How long the procedure ran, of a call that was answered. */
static uint64_t
run_of(const struct request *r)
{
    return r->started != 0 && r->answered > r->started
               ? r->answered - r->started
               : 0;
}

/* Where the counters stand before the request R is counted. An heir that finds
 * it half counted goes on from there. */
static void
note_before(struct worker *w, const struct request *r)
{
    struct ending *e = &w->core->ending;
    struct tally *t = tally_of(w, r->routed ? r->target : NO_TARGET);

    if (e->id == r->id) {
        return;
    }
    e->id = 0;
    KEEP_ORDER();
    e->log_at = w->core->log_len;
    e->seat_requests = atomic_load_explicit(
        &w->setup->seats[w->setup->index].requests, memory_order_relaxed);
    e->requests = now_at(&t->requests);
    e->run_ns = now_at(&t->run_ns);
    e->wait_ns = now_at(&t->wait_ns);
    e->median_ns = now_at(&t->median_ns);
    e->wait = now_at(&t->wait[histogram_index(wait_of(r))]);
    e->run = now_at(&t->run[histogram_index(run_of(r))]);
    e->answers = r->status >= 200 && r->status < 600
                     ? now_at(&t->answers[r->status / 100 - 2])
                     : 0;
    e->causes = r->cause < CAUSE_N ? now_at(&t->causes[r->cause]) : 0;
    KEEP_ORDER();
    e->id = r->id;
    KEEP_ORDER();
}

static inline void
set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* Every request that began ends here, once: what is stored is what stood there
 * before and one more, so that it can be stored again. */
static void
count_end(struct worker *w, const struct request *r)
{
    const struct ending *e = &w->core->ending;
    struct tally *t = tally_of(w, r->routed ? r->target : NO_TARGET);

    atomic_store_explicit(&w->setup->seats[w->setup->index].requests,
                          e->seat_requests + 1, memory_order_relaxed);
    set(&t->requests, e->requests + 1);
    if (r->status >= 200 && r->status < 600) {
        set(&t->answers[r->status / 100 - 2], e->answers + 1);
    }
    if (r->cause != CAUSE_NONE && r->cause < CAUSE_N) {
        set(&t->causes[r->cause], e->causes + 1);
    }
    if (r->ready != 0) {
        set(&t->wait_ns, e->wait_ns + wait_of(r));
        set(&t->wait[histogram_index(wait_of(r))], e->wait + 1);
    }
    if (r->started != 0) {
        set(&t->run_ns, e->run_ns + run_of(r));
        set(&t->run[histogram_index(run_of(r))], e->run + 1);
        set(&t->median_ns, histogram_follow(e->median_ns, run_of(r)));
    }
}

/* Puts LINE behind the lines of the pass, in the place that was noted. */
static void
put_line(struct worker *w, const struct log_line *line)
{
    struct core *core = w->core;
    char *to = core->log + core->ending.log_at;

    if (core->ending.log_at + line->len + 1 > sizeof core->log) {
        return; /* an heir's, which became longer than its place */
    }
    memcpy(to, line->text, line->len);
    to[line->len] = '\n';
    KEEP_ORDER();
    core->log_len = core->ending.log_at + (uint32_t)line->len + 1;
}

/* Is the line of R of use even where nobody wants one of each access? Then the
 * keeper remembers it, for `cardea why`. */
static bool
is_telling(const struct worker *w, const struct request *r)
{
    return cause_is_ours(r->cause) || wait_of(r) >= LATE_WAIT_NS ||
           w->now - r->began >= LATE_NS;
}

/* How it stood with the target of R, whose request ended badly, when it did. */
static void
log_moment(struct worker *w, struct log_line *line, const struct request *r)
{
    const struct ring *g;
    uint32_t now = 0, most = 0;

    if (!r->routed || !cause_is_ours(r->cause) ||
        w->conf->targets[r->target].kind == CONF_TARGET_FILES) {
        return;
    }
    g = &w->rings[r->target];
    if (ring_threads(g, &now, &most)) {
        log_num(line, "copies", now);
    }
    log_num(line, "in_flight", tally_of(w, r->target)->in_flight);
    log_num(line, "waiting", ring_n_unclaimed(g) + waiting_n(w, r->target));
    log_ms(line, "median_ms", tally_median(w, r->target));
}

/* The client's trace. One that began here is found by its span, which is the
 * request's id; a line is written for each request and should be short. */
static void
log_trace(struct log_line *line, const struct request *r)
{
    char trace[HTTP_TRACE_LEN + 1];

    if (r->keeps_state) {
        trace_print(r, trace);
        log_bytes(line, "trace", trace + 3, 32);
    }
}

static void
build_line(struct worker *w, struct log_line *line, const struct conn *c,
           const struct request *r)
{
    struct core *core = w->core;
    const char *in = input_of(w, c);
    char id[16];

    log_begin(line, w->world->wall(w->world->ctx), LOG_INFO, "request");
    hex_put(id, r->id, sizeof id);
    log_bytes(line, "id", id, sizeof id);
    access_client(line, c);
    if (r->parsed) {
        log_bytes(line, "method", in + r->method_name.off, r->method_name.len);
        log_bytes(line, "target", in + r->uri.off, MIN_OF(r->uri.len, 512u));
        log_bytes(line, "host", in + r->host.off, MIN_OF(r->host.len, 256u));
        log_trace(line, r);
    }
    if (r->raw) {
        log_raw(w, line, c, r);
    } else {
        log_num(line, "status", r->status);
    }
    log_num(line, "bytes", r->sent);
    log_target(w, line, r);
    if (r->ready != 0) {
        log_ms(line, "queue_ms", wait_of(r));
    }
    if (r->called != 0 && r->answered >= r->called) {
        uint64_t from = r->started != 0 ? r->started : r->called;

        log_ms(line, "wait_ms", from - r->began);
        log_ms(line, "run_ms", r->answered - from);
    }
    if (r->taker != 0 && r->taker <= INT32_MAX) {
        log_num(line, "copy", r->taker);
    }
    /* Not w->now, which may be from before the work of this pass. */
    log_ms(line, "total_ms", w->world->now(w->world->ctx) - r->began);
    if (r->cause != CAUSE_NONE) {
        log_text(line, "cause", cause_word(r->cause));
    }
    if (r->raw && r->error != 0) {
        const char *name = strerrorname_np(r->error);
        log_text(line, "error", name ? name : "unknown");
    }
    log_moment(w, line, r);
    if (core->log_lost > 0) {
        log_num(line, "lost_before", core->log_lost);
        core->log_lost = 0;
    }
}

void
access_log(struct worker *w, const struct conn *c, struct request *r)
{
    struct core *core = w->core;
    struct log_line line;

    if (r->log == LOG_DONE) {
        return;
    }
    if (!w->conf->access_log && !is_telling(w, r)) {
        note_before(w, r);
        count_end(w, r);
        r->log = LOG_DONE;
        return;
    }
    build_line(w, &line, c, r);
    if (core->ending.id != r->id &&
        core->log_len + line.len + 1 > sizeof core->log) {
        access_flush(w);
    }
    note_before(w, r);
    count_end(w, r);
    put_line(w, &line);
    KEEP_ORDER();
    r->log = LOG_DONE;
}

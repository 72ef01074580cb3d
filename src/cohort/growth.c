/* Tells in the log when a module has more copies than before, or fewer, and how
 * its calls fared meanwhile. The workers note the door's own word as they take
 * answers; the keeper looks once a second, with watch.c, and not while every
 * worker sleeps. So a fall is told of when somebody calls again. */
#include "cohort/keeper_priv.h"

#include "base/util.h"

static void
tell(struct keeper_module *m)
{
    struct keeper_growth *g = &m->growth;
    bool more = g->now > g->copies;
    uint64_t calls = g->now_calls - MIN_OF(g->calls, g->now_calls);
    uint64_t wait_ns = g->now_wait_ns - MIN_OF(g->wait_ns, g->now_wait_ns);
    struct log_line line;

    keeper_log_begin(m->keeper, &line, LOG_INFO, more ? "grew" : "shrank");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "copies", g->now);
    log_num(&line, "was", g->copies);
    if (more) {
        log_num(&line, "in_flight", g->now_in_flight);
        log_num(&line, "calls", calls);
        log_ms(&line, "queue_ms", calls > 0 ? wait_ns / calls : 0);
    }
    keeper_log_end(m->keeper, &line);
}

static void
look(struct keeper *k)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_module *m = k->targets[i].module;
        struct tally_sum sum;

        if (m == NULL || left_is_there(m)) {
            continue; /* the copies of a dead process are not of this one */
        }
        tallies_growth(&k->tallies, i, &sum);
        m->growth.now = MAX_OF(m->growth.now, sum.threads);
        m->growth.now_calls += sum.calls;
        m->growth.now_wait_ns += sum.wait_ns;
        m->growth.now_in_flight += sum.in_flight;
    }
}

void
growth_look(struct keeper *k)
{
    look(k);
    FOR_EACH_MODULE (k, m) {
        struct keeper_growth *g = &m->growth;
        uint32_t now = g->now;

        if (now != g->copies && now != 0 && g->copies != 0) {
            tell(m);
        }
        *g = (struct keeper_growth){.copies = now != 0 ? now : g->copies,
                                    .calls = g->now_calls,
                                    .wait_ns = g->now_wait_ns};
    }
}

void
growth_begin(struct keeper_module *m)
{
    struct keeper *k = m->keeper;

    m->growth = (struct keeper_growth){.copies = 1};
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->targets[i].module == m) {
            struct tally_sum sum;

            tallies_growth(&k->tallies, i, &sum);
            m->growth.calls += sum.calls;
            m->growth.wait_ns += sum.wait_ns;
        }
    }
}

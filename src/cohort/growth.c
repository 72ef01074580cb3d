/* Tells in the log when a module has more copies than before, or fewer, and how
 * its calls fared meanwhile. The workers note the door's own word as they take
 * answers; the keeper looks once a second, with watch.c, and not while every
 * worker sleeps. So a fall is told of when somebody calls again. */
#include "cohort/keeper_priv.h"

#include "base/util.h"

/* What the workers know of M now: of the sum the fields of tallies_growth(). */
static struct tally_sum
sum_of(const struct keeper_module *m)
{
    const struct keeper *k = m->keeper;
    struct tally_sum sum = {0};

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->targets[i].module == m) {
            struct tally_sum one;

            tallies_growth(&k->tallies, i, &one);
            sum.threads = MAX_OF(sum.threads, one.threads);
            sum.calls += one.calls;
            sum.wait_ns += one.wait_ns;
            sum.in_flight += one.in_flight;
        }
    }
    return sum;
}

static void
tell(struct keeper_module *m, const struct tally_sum *now)
{
    const struct keeper_growth *g = &m->growth;
    bool more = now->threads > g->copies;
    uint64_t calls = now->calls - MIN_OF(g->calls, now->calls);
    uint64_t wait_ns = now->wait_ns - MIN_OF(g->wait_ns, now->wait_ns);
    struct log_line line;

    keeper_log_begin(m->keeper, &line, LOG_INFO, more ? "grew" : "shrank");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "copies", now->threads);
    log_num(&line, "was", g->copies);
    if (more) {
        log_num(&line, "in_flight", now->in_flight);
        log_num(&line, "calls", calls);
        log_ms(&line, "queue_ms", calls > 0 ? wait_ns / calls : 0);
    }
    keeper_log_end(m->keeper, &line);
}

void
growth_look(struct keeper *k)
{
    FOR_EACH_MODULE (k, m) {
        struct keeper_growth *g = &m->growth;
        struct tally_sum now;

        if (left_is_there(m)) {
            continue; /* the copies of a dead process are not of this one */
        }
        now = sum_of(m);
        if (now.threads != g->copies && now.threads != 0 && g->copies != 0) {
            tell(m, &now);
        }
        g->copies = now.threads != 0 ? now.threads : g->copies;
        g->calls = now.calls;
        g->wait_ns = now.wait_ns;
    }
}

void
growth_begin(struct keeper_module *m)
{
    struct tally_sum now = sum_of(m);

    m->growth = (struct keeper_growth){1, now.calls, now.wait_ns};
}

/* From what a module's block says to what its processes may. A program of ours
 * that runs others (a shim) is itself bounded by nothing that counts up over
 * its life: its commands are. docs/isolation.md has the whole table. */
#include "cohort/keeper_priv.h"

#include "base/limits.h"
#include "base/util.h"

bool
module_has_shim(const struct conf_module *conf)
{
    return conf->kind != CONF_MODULE_RUN && conf->kind != CONF_MODULE_WSGI;
}

/* The bounds that each process has; those of the whole module are others. */
static void
make_limits(struct keeper_module *m)
{
    static const struct {
        enum conf_amount amount;
        int resource;
        uint64_t unit;
    } table[] = {
        {CONF_LIMIT_MEMORY, RLIMIT_AS, 1},
        {CONF_LIMIT_FILES, RLIMIT_NOFILE, 1},
        {CONF_LIMIT_PROCESSES, RLIMIT_NPROC, 1},
        {CONF_LIMIT_CPU, RLIMIT_CPU, NS_PER_SEC},
    };

    m->limits.n = 0;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        uint64_t value = m->conf->amounts[table[i].amount];

        if (value > 0) {
            limits_add(&m->limits, table[i].resource,
                       (value + table[i].unit - 1) / table[i].unit);
        }
    }
}

void
isolate_plan(struct keeper_module *m)
{
    make_limits(m);
    m->plan.user = m->conf->user;
    m->plan.group = m->conf->group;
    m->plan.folder = m->conf->folder;
    m->plan.files = &m->keeper->given_files;
    m->plan.limits = module_has_shim(m->conf) ? NULL : &m->limits;
}

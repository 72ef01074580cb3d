/* From what a module's block says to what its processes may. A program of ours
 * that runs others (a shim) is itself bounded by nothing that counts up over
 * its life: its commands are. docs/isolation.md has the whole table. */
#include "cohort/keeper_priv.h"

#include "base/limits.h"
#include "base/util.h"
#include "module/sandbox.h"

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

/* That MODULE goes without WHAT, and how to mend it. */
static void
tell_missing(struct keeper *k, const char *module, const char *what,
             const char *cause, const char *hint)
{
    struct log_line line;

    keeper_log_begin(k, &line, LOG_WARN, "not-isolated");
    log_text(&line, "module", module);
    log_text(&line, "option", what);
    log_text(&line, "cause", cause);
    log_text(&line, "hint", hint);
    keeper_log_end(k, &line);
}

void
isolate_tell(struct keeper *k)
{
    const bool has_landlock = sandbox_version() > 0;

    for (size_t i = 0; i < k->conf->n_modules; i++) {
        const struct keeper_module *m = &k->modules[i];

        if (confine_wanted(m) && !has_landlock) {
            tell_missing(k, m->conf->name, "read, write",
                         "the kernel has no Landlock, or it is switched off: "
                         "the module reaches what its user does",
                         "Linux 5.13 or newer with landlock in the boot "
                         "parameter lsm=");
        }
    }
}

/* From what a module's block says to what its processes may. A program of ours
 * that runs others (a shim) is itself bounded by nothing that counts up over
 * its life: its commands are. docs/isolation.md has the whole table. */
#include "cohort/keeper_priv.h"

#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/util.h"
#include "module/sandbox.h"

bool
module_has_shim(const struct conf_module *conf)
{
    return conf->kind != CONF_MODULE_RUN && conf->kind != CONF_MODULE_WSGI;
}

/* Is AMOUNT bounded for the whole module, by its control group? */
static bool
is_by_group(const struct keeper *k, enum conf_amount amount)
{
    return (amount == CONF_LIMIT_MEMORY && k->cgroup.has_memory) ||
           (amount == CONF_LIMIT_PROCESSES && k->cgroup.has_pids);
}

int
isolate_init(struct keeper *k)
{
    bool wants_bounds = false;

    for (size_t i = 0; i < k->conf->n_modules; i++) {
        const struct conf_module *conf = &k->conf->modules[i];

        wants_bounds = wants_bounds ||
                       conf_amount(conf, CONF_LIMIT_MEMORY) > 0 ||
                       conf_amount(conf, CONF_LIMIT_PROCESSES) > 0;
    }
    if (k->conf->n_modules > 0) {
        (void)cgroup_init(&k->cgroup, wants_bounds);
        cgroup_remove_stale(&k->cgroup);
    }
    return 0;
}

int
isolate_group(const struct keeper_module *m, int *p_fd)
{
    const struct cgroup *group = &m->keeper->cgroup;
    int rc;

    if (group->fd < 0) {
        return 0;
    }
    rc = cgroup_module(group, m->conf->name,
                       conf_amount(m->conf, CONF_LIMIT_MEMORY),
                       conf_amount(m->conf, CONF_LIMIT_PROCESSES), p_fd);
    /* Without bounds it is only there to end what is left. */
    return group->has_memory || group->has_pids ? rc : 0;
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
        uint64_t value = conf_amount(m->conf, table[i].amount);

        if (value > 0 && !is_by_group(m->keeper, table[i].amount)) {
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

/* Do the module's processes run as root? */
static bool
is_root(const struct conf_module *conf)
{
    return geteuid() == 0 &&
           (conf->user == NULL || strcmp(conf->user, "root") == 0);
}

void
isolate_tell(struct keeper *k)
{
    const bool has_landlock = sandbox_version() > 0;

    for (size_t i = 0; i < k->conf->n_modules; i++) {
        const struct conf_module *conf = &k->conf->modules[i];

        if (confine_wanted(conf) && !has_landlock) {
            tell_missing(k, conf->name, "read, write",
                         "the kernel has no Landlock, or it is switched off: "
                         "the module reaches what its user does",
                         "Linux 5.13 or newer with landlock in the boot "
                         "parameter lsm=");
        }
        if (conf_amount(conf, CONF_LIMIT_PROCESSES) > 0 &&
            !k->cgroup.has_pids && is_root(conf)) {
            tell_missing(k, conf->name, "limit processes",
                         "root's processes are bounded by a control group "
                         "alone, and none with pids is delegated",
                         "give the module a user; or Delegate=yes in the "
                         "unit of systemd");
        }
    }
}

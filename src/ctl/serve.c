/* The verbs that touch the system: here the parts are put together, the keeper
 * with the worker it starts and the doors it dials. */
#include "ctl/ctl.h"

#include <unistd.h>

#include "cohort/keeper.h"
#include "conf/conf.h"
#include "door/dial.h"
#include "front/worker.h"

static struct conf *
load(struct ctl *ctl, const char *file)
{
    struct conf_options options = {
        .defines = ctl->defines,
        .n_defines = ctl->n_defines,
    };

    return conf_load(file, &options, ctl->errors);
}

int
ctl_check(struct ctl *ctl, const char *file)
{
    struct conf *conf = load(ctl, file);

    if (conf == NULL) {
        return CTL_CONFIG;
    }
    if (ctl->is_verbose) {
        conf_print(conf, ctl->out);
    }
    conf_free(conf);
    return CTL_OK;
}

int
ctl_serve(struct ctl *ctl, const char *file)
{
    static const struct keeper_options options = {
        .worker = worker_main,
        .dial = door_dial,
        .out_fd = STDOUT_FILENO,
        .log_fd = STDERR_FILENO,
    };
    struct conf *conf = load(ctl, file);
    int status;

    if (conf == NULL) {
        return CTL_CONFIG;
    }
    fflush(ctl->out);
    fflush(ctl->errors);
    status = keeper_run(conf, &options);
    conf_free(conf);
    return status;
}

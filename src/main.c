/* cardea: see cardea(1). */
#include <stdio.h>
#include <stdlib.h>

#include "base/kernel.h"
#include "ctl/ctl.h"

int
main(int argc, char **argv)
{
    static const char *const files[] = {
        "./cardea.conf",
        "/etc/cardea/cardea.conf",
        NULL,
    };
    struct ctl ctl = {
        .out = stdout,
        .errors = stderr,
        .run = ctl_run,
        .serve = ctl_serve,
        .save = ctl_save,
        .check = ctl_check,
        .status = ctl_status,
        .stop = ctl_stop,
        .top = ctl_top,
        .why = ctl_why,
        .log = ctl_log,
        .metrics = ctl_metrics,
        .reload = ctl_reload,
        .call = ctl_call,
        .doors = ctl_doors,
        .chaos = ctl_chaos,
        .doctor = ctl_doctor,
        .files = files,
    };
    char why[128];

    if (kernel_hide(getenv("CARDEA_KERNEL"), why, sizeof(why)) < 0) {
        fprintf(stderr, "cardea: %s\n", why);
        return CTL_FAILED;
    }
    return ctl_main(&ctl, argc, argv);
}

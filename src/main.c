/* cardea: see cardea(1). */
#include <stdio.h>

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
        .serve = ctl_serve,
        .check = ctl_check,
        .files = files,
    };

    return ctl_main(&ctl, argc, argv);
}

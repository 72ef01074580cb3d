/* hide-kernel VERSION PROGRAM ARGUMENT…: runs PROGRAM as on Linux VERSION. For
 * tests of what has no switch of its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/kernel.h"

int
main(int argc, char **argv)
{
    char why[128];

    if (argc < 3) {
        fputs("usage: hide-kernel VERSION PROGRAM [ARGUMENT...]\n", stderr);
        return 64;
    }
    if (kernel_hide(argv[1], why, sizeof(why)) < 0) {
        fprintf(stderr, "hide-kernel: %s\n", why);
        return 1;
    }
    execvp(argv[2], argv + 2);
    fprintf(stderr, "hide-kernel: %s: %s\n", argv[2], strerror(errno));
    return 127;
}

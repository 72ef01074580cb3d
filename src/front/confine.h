/* A worker gives up what it does not need: see docs/isolation.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What the calling process is confined by, from now on and for good. */
enum confine_by {
    CONFINE_PRIVILEGES = 1, /* none to be gained by exec */
    CONFINE_PATHS = 2,      /* Landlock: only what lies beneath the folders */
    CONFINE_CALLS = 4,      /* seccomp: the calls of a worker */
};

/* Confines the calling thread, and all that it starts, as far as the kernel
 * can: of the file system it reads what lies beneath the N FOLDERS
 * (descriptors, -1: none), if HIDES; else all of it. What it is confined by:
 * bits of enum confine_by. */
unsigned confine(const int *folders, size_t n, bool hides);

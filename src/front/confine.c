/* Landlock first, then the filter, which no longer lets Landlock be changed.
 * Neither is a reason not to serve: an old kernel, or one where they are
 * switched off, has less (`cardea doctor` says so). */
#include "front/confine.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/util.h"
#include "module/sandbox.h"

#if defined(CARDEA_FILTER) && !defined(__SANITIZE_ADDRESS__) &&                \
    !defined(__SANITIZE_THREAD__)
static const struct sock_filter filter[] = {
#include CARDEA_FILTER
};

static unsigned
filter_calls(void)
{
    const struct sock_fprog program = {
        .len = ARRAY_LEN(filter),
        .filter = (struct sock_filter *)(uintptr_t)filter};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0
               ? CONFINE_CALLS
               : 0;
}
#else
/* A sanitizer needs calls of its own. */
static unsigned
filter_calls(void)
{
    return 0;
}
#endif

static unsigned
hide_paths(const int *folders, size_t n)
{
    CLEAN_FREE struct sandbox_path *paths = calloc(n + 1, sizeof *paths);
    CLEAN_FREE char *names = calloc(n + 1, 32);
    CLEAN_FD int ruleset = -1;
    size_t used = 0, bad = 0;

    if (paths == NULL || names == NULL) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (folders[i] < 0) {
            continue;
        }
        /* What the descriptor is of, not what its path leads to now. */
        char *name = names + used * 32;
        snprintf(name, 32, "/proc/self/fd/%d", folders[i]);
        paths[used++] =
            (struct sandbox_path){.path = name, .rights = SANDBOX_READ};
    }
    return sandbox_make(paths, used, &ruleset, &bad) == 0 &&
                   sandbox_enter(ruleset) == 0
               ? CONFINE_PATHS
               : 0;
}

unsigned
confine(const int *folders, size_t n, bool hides)
{
    unsigned by = 0;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
        by = CONFINE_PRIVILEGES;
        by |= hides ? hide_paths(folders, n) : 0;
        by |= filter_calls();
    }
    return by;
}

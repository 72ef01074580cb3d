/* Seems to be an older kernel than it is: for tests of what we do without the
 * newer calls. */
#pragma once

#include <stddef.h>

/* Hides from this process, and from all that it starts from now on, what came
 * to Linux after VERSION ("6.1" to "6.19"; NULL or "": nothing is hidden):
 * newer system calls fail with ENOSYS, newer options and flags of old ones as
 * on that kernel. Cannot be undone. The caller is single-threaded. Without
 * CAP_SYS_ADMIN the process gets no_new_privs.
 *
 * 0; or, after one sentence in WHY: -EINVAL, VERSION is none that is known;
 * -ENOTSUP, not built for this machine; what prctl or seccomp said. */
int kernel_hide(const char *version, char *why, size_t why_size);

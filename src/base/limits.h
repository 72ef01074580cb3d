/* Bounds of a process, setrlimit(2): as numbers, and as a line of text with
 * which the keeper tells a shim what its commands may use. */
#pragma once

#include <stddef.h>
#include <sys/resource.h>

#define LIMITS_MAX  4
#define LIMITS_TEXT 160 /* room for any line, with its NUL */

struct limits {
    struct {
        int resource; /* RLIMIT_... */
        struct rlimit bound;
    } list[LIMITS_MAX];
    size_t n;
};

/* Adds RESOURCE (one of those that limits_format() knows, each once): at most
 * VALUE. Of CPU time the hard bound lies a second above, so that SIGXCPU comes
 * before SIGKILL. */
void limits_add(struct limits *limits, int resource, rlim_t value);

/* Sets them for the calling process; a bound above the hard one that is in
 * force becomes that one. Only system calls: may run between fork or vfork and
 * exec. 0 or a negative errno of setrlimit. */
int limits_apply(const struct limits *limits);

/* "cpu=10 memory=268435456 files=64 processes=20" in OUT; "" if there are none.
 */
void limits_format(const struct limits *limits, char out[LIMITS_TEXT]);

/* Reads such a line. 0; or -EINVAL, it is none, and *LIMITS is without any. */
int limits_parse(const char *text, struct limits *limits);

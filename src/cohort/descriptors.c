/* A worker's table of descriptors is made as large as the limit at its birth
 * (heirs.md), 8 bytes of kernel memory an entry, so the limit is what a server
 * needs and not what it could have: many systems give each process a hard limit
 * of a million, and two idle workers would hold 16 MB for it. Who wants more
 * raises the soft limit, which nobody does by accident.
 *
 * The hard limit is raised only as far as that, and only with the right to do
 * it. Programs that we start get back what we were given: some close every
 * number up to the limit, one by one. */
#include "cohort/descriptors.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/util.h"

struct descriptors_wish
descriptors_wish(const struct rlimit *given, uint64_t nr_open)
{
    rlim_t want = MAX_OF(given->rlim_cur, (rlim_t)DESCRIPTORS);

    want = MIN_OF(want, MIN_OF((rlim_t)DESCRIPTORS_MAX, (rlim_t)nr_open));
    return (struct descriptors_wish){
        .first = {want, MAX_OF(given->rlim_max, want)},
        .second = {MIN_OF(want, given->rlim_max), given->rlim_max},
    };
}

/* The kernel's bound; DESCRIPTORS_MAX, which is its default, where /proc is
 * missing. */
static uint64_t
read_nr_open(void)
{
    char text[32] = "";
    CLEAN_FD int fd = open("/proc/sys/fs/nr_open", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    uint64_t value = n > 0 ? strtoull(text, NULL, 10) : 0;

    return value > 0 ? value : DESCRIPTORS_MAX;
}

uint32_t
descriptors_raise(struct rlimit *p_given)
{
    struct descriptors_wish wish;
    struct rlimit now = {1024, 1024};

    if (getrlimit(RLIMIT_NOFILE, p_given) < 0) {
        *p_given = now;
        return (uint32_t)now.rlim_cur;
    }
    wish = descriptors_wish(p_given, read_nr_open());
    if (setrlimit(RLIMIT_NOFILE, &wish.first) < 0) {
        (void)setrlimit(RLIMIT_NOFILE, &wish.second);
    }
    getrlimit(RLIMIT_NOFILE, &now);
    return (uint32_t)MIN_OF(now.rlim_cur, (rlim_t)DESCRIPTORS_MAX);
}

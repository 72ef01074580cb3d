/* What the doctor's checks write into. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum doctor_level { DOCTOR_OK, DOCTOR_INFO, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor;

/* One finding of check NAME: what was found, and what mends it (NULL: nothing
 * to mend). */
void doctor_say(struct doctor *d, enum doctor_level level, const char *name,
                const char *mend, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The text of the small file PATH without its last newline. false: there is
 * none, or it cannot be read. */
bool doctor_read(const char *path, char *text, size_t size);
/* The number at its beginning; -1 where there is none. */
long long doctor_read_number(const char *path);

/* Has this process the CAPABILITY (linux/capability.h) in effect? */
bool doctor_has_capability(int capability);

#define SECCOMP_MEND                                                           \
    "a container's seccomp filter may refuse it: update the container's "      \
    "runtime, or allow the call there"

/* probe.c: what the kernel can. Each tries it and undoes what it did. */
void probe_kernel(struct doctor *d);
void probe_memory(struct doctor *d);
void probe_calls(struct doctor *d);
void probe_clone(struct doctor *d);
void probe_sockets(struct doctor *d);

/* probe-confine.c: what bounds workers and modules. */
void probe_confinement(struct doctor *d);
void probe_users(struct doctor *d);
void probe_groups(struct doctor *d);

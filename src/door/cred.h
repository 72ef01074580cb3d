/* Who calls. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* When process PID began, in ticks since the boot; 0: it is gone, or /proc does
 * not tell. With the pid, this names a process for good. */
uint64_t cred_started(pid_t pid);

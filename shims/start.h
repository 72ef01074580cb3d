/* What shims that run commands have in common at their start. */
#pragma once

#include <stdint.h>

/* The exit status for a wrong command line. */
#define START_EXIT_USAGE 64

/* Seconds with an optional fraction as nanoseconds; -1: TEXT is no number of
 * (0, one day]. */
int64_t start_seconds(const char *text);

/* Descriptors 0 to 2 are open afterwards (else a pipe would get one of those
 * numbers), standard input is nobody's, and signals are as runner.h wants them.
 * Before there are threads. 0, or -1 with errno. */
int start_process(void);

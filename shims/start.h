/* What shims that run commands have in common at their start. */
#pragma once

#include <stdint.h>

/* The exit status for a wrong command line. */
#define START_EXIT_USAGE 64

/* Seconds with an optional fraction as nanoseconds; -1: TEXT is no number of
 * (0, one day]. */
int64_t start_seconds(const char *text);

/* The folder that --folder named; NULL: none. 0, or an exit status after
 * program NAME said that it is none. */
int start_folder(const char *name, const char *folder);

/* Opens the folder *P_PATH that OPTION named, O_PATH, into *P_FD (the
 * caller's), and makes *P_PATH absolute, in memory that is kept: what looks at
 * it later has another working folder. NULL: nothing is done. 0, or an exit
 * status after program NAME said why not. */
int start_folder_open(const char *name, const char *option, const char **p_path,
                      int *p_fd);

/* Descriptors 0 to 2 are open afterwards (else a pipe would get one of those
 * numbers), standard input is nobody's, and signals are as runner.h wants them.
 * Before there are threads. 0, or -1 with errno. */
int start_process(void);

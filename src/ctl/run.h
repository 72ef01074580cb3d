/* Running a configuration that is not in a file. */
#pragma once

#include <stddef.h>

struct ctl;

/* Checks the LEN bytes of TEXT, a configuration of the name NAME (an absolute
 * path, by which the server is known), prints it to ctl->out, and runs it as
 * ctl_run() does. Everything is borrowed. The exit status; mistakes are on
 * ctl->errors. */
int run_text(struct ctl *ctl, const char *name, const char *text, size_t len);

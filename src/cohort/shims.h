/* Which program serves a module's door, and with what arguments. */
#pragma once

struct conf_module;

/* The arguments for MODULE, which is no CONF_MODULE_RUN: those of the shim of
 * its kind, which lies beside EXEC (the path of cardea-exec), or of the
 * interpreter. NULL-terminated, freed with shims_free_argv(). NULL: no
 * memory. */
char **shims_make_argv(const struct conf_module *module, const char *exec);

/* ARGV may be NULL. */
void shims_free_argv(char **argv);

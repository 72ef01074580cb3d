/* Forked copies that have pipes of their own for what they print. */
#pragma once

#include "cohort/keeper_priv.h"

/* Room for the path of a module's socket, with NUL: what unix(7) takes. */
#define WRITERS_PATH 108

/* Where M's copies ask for pipes (copy_output.h). false: its kind has none, or
 * the path would be too long. */
bool writers_path(const struct keeper_module *m, char path[WRITERS_PATH]);

/* For one life of M, before its process is started: listens there. Where that
 * fails a line says so, and its copies have no pipes of their own. */
void writers_open(struct keeper_module *m);
/* Listens no more. Nothing where it does not. */
void writers_close(struct keeper_module *m);
/* M's process has ended: logs what its copies wrote, and closes their pipes,
 * unless those live on (left.h). */
void writers_drain(struct keeper_module *m);
/* Closes all. */
void writers_deinit(struct keeper_module *m);

/* A second is over: what waited for it goes on. Does anything of M? */
void writers_resume(struct keeper_module *m);
bool writers_wait(const struct keeper_module *m);

/* Who W is; 0: it has ended, and others have its pipes. */
pid_t writer_pid(const struct keeper_writer *w);
/* A stream of W was closed; W may be freed here. */
void writer_stream_ended(struct keeper_writer *w);

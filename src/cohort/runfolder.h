/* The folder of a running cardea: locked, with one folder a module in it. */
#pragma once

#include <limits.h>
#include <stddef.h>

struct conf;

struct runfolder {
    char path[PATH_MAX]; /* absolute */
    int fd;              /* owned; holds the lock; -1: none */
};

/* NAME of FILE's configuration: its base name without ".conf", a '-' and eight
 * hexadecimal digits that differ for files of other folders. */
void runfolder_name(const char *file, char *out, size_t size);

/* Where run folders of this user lie; it need not exist. SIZE: above 128. */
void runfolder_parent(char *out, size_t size);
/* Where the run folder of CONF (NULL: FILE cannot be read, so the usual place
 * for it) is or would be. Makes nothing. */
void runfolder_path(const struct conf *conf, const char *file,
                    char out[PATH_MAX]);

/* Makes (or takes over) the folder of CONF, mode 0711, and locks it; a lock
 * that another holds without answering there is waited for, up to a second. In
 * the usual place it then removes the folders of servers that were killed,
 * among the first 256 entries. 0; or a negative errno after one sentence in WHY
 * (-EWOULDBLOCK: another cardea runs on this configuration). */
int runfolder_open(struct runfolder *folder, const struct conf *conf, char *why,
                   size_t why_size);

/* Makes the folder of module NAME, mode 0711, owned by USER (NULL: us), and
 * removes the door that an earlier life left there, and doors that it had not
 * finished as far as a look at 256 entries finds them; nothing else. 0 or a
 * negative errno. */
int runfolder_module(const struct runfolder *folder, const char *name,
                     const char *user);

/* Removes it with all that is in it, and unlocks. Symbolic links are removed,
 * never followed. Of each module's folder at most 65,536 entries go, so that no
 * module holds up the end; the next life goes on with the rest. */
void runfolder_remove(struct runfolder *folder);

/* Closes the descriptor and leaves the files. */
void runfolder_close(struct runfolder *folder);

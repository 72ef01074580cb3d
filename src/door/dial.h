/* Reaching a door by its path, without waiting for its server. */
#pragma once

/* Connects to the door at PATH: a Unix socket made by door_attach, or a file
 * that fattach laid a door over. The connection takes the hello of a channel or
 * a ring like a door descriptor, but carries no mark.
 * The descriptor (close-on-exec, non-blocking, the caller's), or -1 with errno:
 * ENOENT, EACCES, ENOTDIR, ELOOP, ENAMETOOLONG (the path); ECONNREFUSED (a
 * socket or a file that nobody serves); EAGAIN (the server's queue is full);
 * EPERM (what listens belongs neither to the file's owner nor to root; a file
 * of /proc; no /proc to open the file through); EINVAL (neither a socket nor a
 * plain file).
 * Symbolic links are followed, and what they led to is what is judged, shown
 * and connected to. A file is shown, opened, only to its owner or root: a root
 * that dials gives nobody what was not already theirs. */
int door_dial(const char *path);

/* The same for a door in the folder FOLDER_FD (borrowed) that another user
 * writes to: PATH leads nowhere else. ELOOP: a symbolic link is in it; EXDEV:
 * it leaves the folder or its file system; EPERM: no /proc. FOLDER_FD -1:
 * door_dial(). */
int door_dial_in(int folder_fd, const char *path);

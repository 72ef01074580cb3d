/* Reaching a door by its path, without waiting for its server. */
#pragma once

/* Connects to the door at PATH: a Unix socket made by door_attach, or a file
 * that fattach laid a door over. The connection takes the hello of a channel or
 * a ring like a door descriptor, but carries no mark.
 * The descriptor (close-on-exec, non-blocking, the caller's), or -1 with errno:
 * ENOENT, EACCES, ENOTDIR, ELOOP, ENAMETOOLONG (the path); ECONNREFUSED (a
 * socket or a file that nobody serves); EAGAIN (the server's queue is full);
 * EPERM (what listens belongs neither to the file's owner nor to root);
 * EINVAL (neither a socket nor a plain file). */
int door_dial(const char *path);

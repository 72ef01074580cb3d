/* What names (name.c) and those who dial them (dial.c) share: addresses, and
 * the first messages. */
#pragma once

#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct door_welcome;

#define DIAL_BY_FD_MAX 40

/* Fills SUN with the abstract name TEXT (under 100 bytes). Its length. */
socklen_t dial_abstract_name(struct sockaddr_un *sun, const char *text);

/* The same for the server of a door that lies over the file of ST (device and
 * inode). */
socklen_t dial_attach_name(struct sockaddr_un *sun, const struct stat *st);

/* The path of HELD itself, whatever lies at the path that it was opened by. */
void dial_by_descriptor(char out[DIAL_BY_FD_MAX], int held);

/* A SOCK_SEQPACKET Unix socket, close-on-exec and non-blocking; -1 with errno.
 */
int dial_new_socket(void);

/* The connection to what the file of ST is attached by; HELD proves that we may
 * open it, -1: no proof. The caller's; -1 with errno: ECONNREFUSED (nobody
 * serves it), EAGAIN (too many wait), EPERM (who serves it is neither the
 * file's owner nor root, or no /proc), EACCES (HELD may not be opened), EMFILE,
 * ENFILE, ENOMEM. */
int dial_file(const struct stat *st, int held);

/* Says a hello of KIND on FD, with the descriptor MORE (borrowed) unless that
 * is negative, and waits at most 5 s for the welcome; *P_FD is the descriptor
 * that came with it, the caller's, or -1. 0, or an errno: the server's own,
 * EPIPE or ECONNREFUSED (it is gone), ETIMEDOUT, EPROTO, EMFILE, EAGAIN,
 * ETOOMANYREFS. */
int dial_ask(int fd, uint32_t kind, struct door_welcome *w, int more,
             int *p_fd);

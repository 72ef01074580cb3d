/* A forked copy's own output. All copies of a program have the pipes of their
 * parent as standard output and error, and a pipe does not tell who wrote. So a
 * copy connects to the socket that the keeper names (SOCK_SEQPACKET), says
 * nothing, and gets one message: the note below, and beside it the writing ends
 * of two new pipes, for 1 and for 2. Or the end: then it keeps what it has. Who
 * connected tells the kernel (SO_PEERCRED), so no copy can pass for another.
 */
#pragma once

#include <stdint.h>

/* In the environment: the path of the socket. */
#define COPY_OUTPUT_VARIABLE "CARDEA_OUTPUT"

/* The pipes that the new ones stand for. A descriptor that is another file by
 * now (the program redirected it) is left alone. */
struct copy_output_note {
    uint64_t device, inodes[2]; /* fstat(2) of the keeper's two */
};

/* In a copy: asks at PATH and lays what comes over 1 and 2, where these are the
 * keeper's. Waits at most 200 ms. Nothing changes where it gets no answer, or
 * PATH is NULL. */
void copy_output_ask(const char *path);

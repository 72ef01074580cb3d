/* A kernel of their own for the fuzz programs of doors, put between libdoor and
 * src/door/sys.c by the linker (--wrap): a descriptor is a number in a table, a
 * message is what the input says, memory is what the program has. So a call
 * costs no system call, and what leaks or is closed twice is known at once.
 * fuzz-hello.c goes the same ways with real descriptors. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fuzz.h"
#include "door/sys.h"

#define FAKE_FIRST 500000 /* no real descriptor is as high */
#define FAKE_FDS   2048

/* What each program answers. FD is a fake one. */
struct fake_kernel {
    /* A message of LEN bytes: filled, with *P_N_FDS of at most ROOM descriptors
     * (made by the kernel). 0 or an errno. */
    int (*receive)(int fd, void *bytes, size_t len, size_t room,
                   size_t *p_n_fds);
    /* A message was sent. 0 or an errno. */
    int (*send)(int fd, const void *bytes, size_t len, size_t n_fds);
    /* A peer's memory of SIZE bytes, or NULL. Borrowed until the munmap. */
    void *(*map)(size_t size);
    /* A page that both sides write, or NULL. */
    void *(*map_shared)(void);
    /* Our own. */
    void *(*make)(size_t size);
    /* A wait for a descriptor, or for a word: 0, ETIMEDOUT, EINTR. */
    int (*wait)(_Atomic uint32_t *word);
    /* Has the peer hung up? Is it a door? */
    bool (*hung_up)(int fd);
    bool (*marked)(int fd, uint64_t *p_uniquifier, uint32_t *p_attributes);
};

/* All descriptors are closed, nothing is mapped. */
void fake_begin(const struct fake_kernel *kernel);
/* How many are open, and how many memories are mapped. */
unsigned fake_open_count(void);
unsigned fake_map_count(void);
bool fake_is_open(int fd);
/* A new one; never fails. */
int fake_open(void);
/* Closes one that must be open. */
void fake_close(int fd);

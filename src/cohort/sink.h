/* Where log lines end: standard error, behind a bounded buffer. Never blocks,
 * whatever the reader of standard error does; what does not fit is counted. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SINK_ROOM  (1024 * 1024)
#define SINK_CARRY 4096

struct sink {
    int fd; /* owned if own_fd */
    bool own_fd;
    bool is_file; /* always ready, cannot be polled */
    bool is_socket;
    bool stuck;   /* the last write did not take all: wait for POLLOUT */
    bool dead;    /* the reader is gone */
    bool written; /* the byte before head was */
    bool cut;     /* a line's beginning was written, its end was dropped */
    char *ring;   /* SINK_ROOM bytes */
    size_t head;  /* first byte to be written */
    size_t len;
    char carry[SINK_CARRY]; /* the beginning of a line not yet whole */
    size_t carry_len;
    uint64_t lost; /* lines dropped and not yet told */
    /* Is shown each line first (NULL: nobody is). false: it goes no further. */
    bool (*sees)(void *arg, const char *text, size_t len);
    void *arg;
};

/* Lines go to FD (borrowed). 0, or a negative errno. */
int sink_init(struct sink *sink, int fd);
void sink_deinit(struct sink *sink);

/* Adds whole lines: LEN bytes that end with a newline. */
void sink_line(struct sink *sink, const char *text, size_t len);

/* Adds bytes of a stream of lines, which may end amid a line. In BYTES
 * (changed) what is neither printable ASCII nor a newline becomes a '?'. */
void sink_stream(struct sink *sink, char *bytes, size_t len);

/* Writes what can be written without blocking. Where the disk is full or broken
 * the lines are dropped and counted. */
void sink_flush(struct sink *sink);

/* The last flush: waits for a slow reader, but at most PATIENCE_MS. */
void sink_finish(struct sink *sink, int patience_ms);

/* Takes the count of lost lines if there is room to tell of it, else 0. */
uint64_t sink_take_lost(struct sink *sink);

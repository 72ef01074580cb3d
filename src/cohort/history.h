/* The latest lines of the log, in the keeper's memory, for who asks what
 * happened: `cardea log` and `cardea why`. Lines of each kind have room of
 * their own, so that many accesses do not drive out what is rare. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_LINE 4096 /* bytes: no line of the log is longer */

enum history_kind {
    HISTORY_EVENT,  /* what is none of the others */
    HISTORY_OUTPUT, /* event=output */
    HISTORY_TELLS,  /* event=request that ended badly, or late */
    HISTORY_ACCESS, /* event=request, else */
    HISTORY_N,
};

struct history_ring {
    char *bytes; /* SIZE of them, touched only as far as they were used */
    size_t size;
    uint64_t first, end; /* of the records in it, counted since the start */
};

struct history {
    struct history_ring rings[HISTORY_N];
    uint64_t n_lines; /* ever */
};

/* How far somebody has read. All zero: nothing. */
struct history_mark {
    uint64_t at[HISTORY_N];
};

/* 0 or -ENOMEM. */
int history_init(struct history *h);
/* Frees all; a zeroed one too. */
void history_deinit(struct history *h);

/* Adds a line of LEN bytes, which ends with a newline. The oldest of its kind
 * make room. */
void history_add(struct history *h, const char *text, size_t len);
/* Which kind it is. */
enum history_kind history_kind(const char *text, size_t len);

/* The oldest line behind MARK, of whatever kind, into LINE with its newline (no
 * NUL); MARK moves behind it. Its length; 0: there is none. */
size_t history_next(const struct history *h, struct history_mark *mark,
                    char line[HISTORY_LINE]);

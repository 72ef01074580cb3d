/* What `cardea top` shows: two samples of a server's numbers, as a screen. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "front/histogram.h"

#define TOP_ROWS_MAX 4096
#define TOP_NEWS     6 /* lines about what changed */
#define TOP_NEWS_MAX 160

struct fields;

struct top_row {
    char name[128], state[16], last_end[40];
    uint64_t copies, copies_high, busy, stuck, waiting, requests, errors,
        rss_kb;
    uint64_t starts;
    uint64_t run[HISTOGRAM_N], wait[HISTOGRAM_N];
    bool calls; /* a module or a door: has copies */
    /* Since the sample before: */
    double rate;              /* requests a second */
    uint64_t run_ns, wait_ns; /* median of runs; 99th of a hundred waits; 0 */
};

struct top_sample {
    struct top_row *rows; /* owned */
    size_t n;
    char version[32], configuration[256];
    uint64_t pid, up_s, connections, requests, workers, at; /* at: ns */
    double rate;
};

enum top_order {
    TOP_BY_NAME,
    TOP_BY_COPIES,
    TOP_BY_BUSY,
    TOP_BY_QUEUE,
    TOP_BY_RATE,
    TOP_BY_MEMORY,
    TOP_ORDERS,
};

struct top_screen {
    int rows, columns; /* of the terminal */
    enum top_order order;
    bool held, is_terminal;
    char news[TOP_NEWS][TOP_NEWS_MAX]; /* oldest first; "": none */
};

/* Adds a line of the answer to `numbers`. false: no memory. */
bool top_add(struct top_sample *sample, const struct fields *f);
void top_free(struct top_sample *sample);
/* Works out what NOW has since BEFORE (zeroed: the first), and tells what
 * changed as news of SCREEN, with the time CLOCK before. */
void top_compare(struct top_sample *now, const struct top_sample *before,
                 struct top_screen *screen, const char *clock);
/* Sorts NOW as SCREEN says, and writes it: of a terminal at most its rows. */
void top_draw(struct top_sample *now, const struct top_screen *screen,
              FILE *out);
/* What KEY does to SCREEN. false: it ends the program. */
bool top_key(struct top_screen *screen, int key);

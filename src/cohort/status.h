/* What the server tells of itself. */
#pragma once

#include <stddef.h>
#include <stdio.h>

struct keeper;

/* The state of K on OUT: a table for 80 columns, or one line of JSON with the
 * keys that cardea-control(5) documents. */
void status_text(const struct keeper *k, FILE *out);
void status_json(const struct keeper *k, FILE *out);

/* A line a module: its name, its state and its door's, which is "unused" where
 * no address leads to it. */
void status_modules(const struct keeper *k, FILE *out);

/* A line for each worker and module that lives: "worker" or "module", its index
 * or name, its pid. */
void status_processes(const struct keeper *k, FILE *out);

/* One line, with its newline, that says what the stop of K waits for. */
void status_waiting(const struct keeper *k, char *text, size_t size);

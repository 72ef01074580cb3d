/* The state as lines for programs: `cardea top`, `cardea why` and the metrics.
 */
#pragma once

#include <stdio.h>

struct keeper;

/* A line each for the server, its listeners, workers, modules, doors, folders
 * of files, and for requests without a target; written as lines of the log are
 * (base/log.h), with the names of cardea-control(5). */
void numbers_write(struct keeper *k, FILE *out);

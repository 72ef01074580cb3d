/* The control socket: what another program asks of a running server, and how it
 * is answered without the keeper ever waiting for it. See cardea-control(5). */
#pragma once

#include <stdint.h>

struct keeper;

/* Makes the socket `control` in the run folder, which listens. 0, also where it
 * cannot be made; or -ENOMEM. */
int control_hold(struct keeper *k);
/* Takes what comes on it, from now on. Always 0; where there is none, it is
 * logged, and the server runs without. */
int control_init(struct keeper *k);
/* Who followed the stop is told STATUS; then all is closed and removed. */
void control_deinit(struct keeper *k, int status);
/* Drops who is too slow, and tells followers of a stop how it goes. */
void control_tick(struct keeper *k, uint64_t now);
uint64_t control_deadline(const struct keeper *k);
/* What was asked of reload.h may have ended: answers may be due. */
void control_reloaded(struct keeper *k);
/* A worker has shown its counters, or died: answers may be due. */
void control_looked(struct keeper *k);

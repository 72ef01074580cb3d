/* Another configuration while the server runs; see docs/reload.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct keeper;
struct keeper_worker;
struct worker_message;

/* What is needed to tell which folders may be added. 0 or -ENOMEM. */
int reload_init(struct keeper *k);
/* Frees all; last, as the configuration may be in it. */
void reload_deinit(struct keeper *k);

/* Asks that the configuration is read anew, as soon as that can be. A number
 * for reload_is_done(). */
uint64_t reload_ask(struct keeper *k);
/* Has what was asked ended? Then k->reload.error says why it was refused; NULL:
 * it was not. */
bool reload_is_done(const struct keeper *k, uint64_t ticket);

void reload_tick(struct keeper *k, uint64_t now);
/* When that is due next; UINT64_MAX: not. */
uint64_t reload_deadline(const struct keeper *k);

/* W says that it has the configuration of GENERATION. */
void reload_worker_has(struct keeper_worker *w, uint64_t generation);
/* Another process serves W, with that of GENERATION. */
void reload_worker_passed(struct keeper_worker *w, uint32_t generation);
/* W says that it does not use what M names, which went. 0, or -EPROTO: that
 * cannot be. */
int reload_unused(struct keeper_worker *w, const struct worker_message *m);

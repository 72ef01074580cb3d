/* Descriptors that the verb call passes and gets. */
#pragma once

#include "ctl/ctl.h"
#include "door.h"

/* Opens what --fd named into DESCS; what a path opened is closed once passed.
 * CTL_OK, or CTL_USAGE or CTL_FAILED after a sentence: then nothing is left
 * open. */
int call_descs_open(struct ctl *ctl, door_desc_t descs[CTL_FDS_MAX]);

/* Tells on the error stream what N descriptors are that came back, and closes
 * them. */
void call_descs_show(struct ctl *ctl, const char *name,
                     const door_desc_t *descs, unsigned n);

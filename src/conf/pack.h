/* A configuration as one block of bytes that holds its own places: it can be
 * handed to another process by a memory file, and compared. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"

/* CONF, all that it points to but macros and the places of its settings, as one
 * block of *P_LEN bytes, the caller's (free). Equal configurations give equal
 * bytes. NULL: no memory. */
void *conf_pack(const struct conf *conf, size_t *p_len);

/* Makes a packed BLOCK of LEN bytes, which is aligned as malloc's, usable where
 * it lies. The conf is in it and is never freed apart. NULL: it is no such
 * block. */
struct conf *conf_unpack(void *block, size_t len);

/* Are two strings the same, or both NULL? */
bool conf_same_text(const char *a, const char *b);

/* Do A and B say the same of a module, wherever it stands? false also where
 * there is no memory to compare. */
bool conf_same_module(const struct conf_module *a, const struct conf_module *b);

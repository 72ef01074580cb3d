/* The small languages inside a word: numbers with units, commands, paths,
 * addresses, names that were almost right. No I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/memory.h"

#define CONF_PATH_MAX 4095

enum conf_number {
    CONF_NUMBER_OK,
    CONF_NUMBER_BAD,     /* does not start with a digit, or a sign or point */
    CONF_NUMBER_NO_UNIT, /* digits only */
    CONF_NUMBER_UNIT,    /* digits and a unit that is none */
    CONF_NUMBER_SUM,     /* several, of which one has no unit that may follow */
    CONF_NUMBER_RANGE,   /* does not fit 64 bits */
};

/* "16M" to bytes (K, M, G: powers of 1024); "30s" or "1m30s" to nanoseconds (d
 * h m s ms, each at most once, in this order). *P_VALUE is set only with
 * CONF_NUMBER_OK. */
enum conf_number conf_size_parse(const char *text, size_t len,
                                 uint64_t *p_value);
enum conf_number conf_time_parse(const char *text, size_t len,
                                 uint64_t *p_value);

/* The one of UNITS (ends with NULL) that was probably meant by what follows the
 * digits of TEXT: "sec", "MB", "k". NULL: none. */
const char *conf_unit_near(const char *text, size_t len,
                           const char *const *units);

/* The one of NAMES (ends with NULL) that TEXT was probably meant to be: fewest
 * letters left out, added, changed or swapped, at most a third of its length.
 * NULL: none is near. */
const char *conf_name_near(const char *const *names, const char *text,
                           size_t len);

/* Is TEXT one of the words that the grammar is made of? (Of scan.c.) */
bool conf_word_is_key(const char *text, size_t len);

/* Does TEXT look like the start of another language's comment? A dash counts
 * only with DASHES: commands have arguments like that. */
bool conf_comment_like(const char *text, size_t len, bool dashes);

/* What is wrong with TEXT as a path, as a phrase; NULL: nothing. */
const char *conf_path_wrong(const char *text, size_t len);

/* Words of a command, separated by blanks; '...' takes bytes as they are, a
 * backslash takes the next one. *P_ARGV (ends with NULL) belongs to MEMORY.
 * NULL: done. Else what is wrong, as a phrase; NULL as well when memory is out
 * (MEMORY->failed). */
const char *conf_command_split(struct conf_memory *memory, const char *text,
                               size_t len, char ***p_argv);

/* PATH made absolute (FOLDER, which is absolute, before it if it is not) and
 * without ".", ".." and doubled slashes, by its letters only: links are not
 * followed. Ends without '/', except "/". NULL: no memory. */
char *conf_path_absolute(struct conf_memory *memory, const char *folder,
                         const char *path, size_t len);

/* Fills ADDR, ADDR_LEN and IS_DEFAULT_PORT of LISTEN from host:port, :port,
 * IPv4, [IPv6], [IPv6]:port, localhost or localhost:port. :port is the IPv6
 * address "any". NULL: done. Else what is wrong and how to mend it. */
const char *conf_address_parse(const char *text, size_t len,
                               struct conf_listen *listen);

/* Does TEXT look like an address, and not like a word or an URL? */
bool conf_address_like(const char *text, size_t len);

/* Would one of the two take connections meant for the other? Ports of 0 are
 * free ones, and so never the same. */
bool conf_address_overlap(const struct conf_listen *a,
                          const struct conf_listen *b);

/* Where the first byte stands that a configuration may not hold (control
 * bytes but newline and tab, NUL, bytes that are no UTF-8), and *P_WHY a phrase
 * for it; or LEN: there is none. */
size_t conf_bytes_check(const char *text, size_t len, const char **p_why);

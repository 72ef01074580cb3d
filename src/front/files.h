/* Plain files beneath a folder: which file a path names, whether it may be
 * seen, and which part of it is asked for. No HTTP head is written here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values of request fields; text NULL if the field is not there. */
struct files_text {
    const char *text;
    size_t len;
};

struct files_query {
    bool is_get; /* false (HEAD): Range does not count, no fd is wanted */
    int64_t now; /* seconds since 1970 */
    struct files_text if_match, if_none_match;
    struct files_text if_modified_since, if_unmodified_since;
    struct files_text range, if_range;
};

#define FILES_ETAG_SIZE 64 /* with its quotes and NUL */

struct files_answer {
    /* 200, 206, 301 (add a '/': see files_location), 304, 403, 404, 412, 416,
     * 500 or 503. All below but FD are set with 200, 206, 304, 412 and 416
     * only, and 0 or "" otherwise. */
    int status;
    int fd; /* the caller's, with 200 and 206 that have bytes to send; or -1 */
    uint64_t offset, length; /* what to send; with HEAD, what GET would send */
    uint64_t total;          /* size of the file, for Content-Range */
    int64_t mtime;           /* seconds, for Last-Modified; not after NOW */
    const char *type;        /* Content-Type; static storage */
    char etag[FILES_ETAG_SIZE];
};

/* Opens what PATH names beneath FOLDER_FD and judges the QUERY against it.
 * PATH is decoded, ends with NUL, and is "" or starts with '/'; it is what
 * follows the mapped prefix (for the prefix "/": the whole path). Returns
 * ANSWER->status. May wait for the disk, never for anything else.
 *
 * Only regular files are served, reached without a symbolic link and never
 * from outside the folder; "index.html" stands for a folder whose name ends
 * with '/', one without gives 301. A segment that starts with a dot is not
 * there. Conditions in the order of RFC 9110 section 13.2.2; one byte range as
 * in section 14 (several are answered with the whole file, as it allows). */
int files_open(int folder_fd, const char *path, const struct files_query *query,
               struct files_answer *answer);

/* The Location of a 301: PATH (the whole decoded one, not what follows the
 * prefix), encoded, '/', and "?QUERY" if that is not empty, NUL. It never names
 * another host. Its length, or -1: more than SIZE. */
int files_location(const char *path, const char *query, size_t query_len,
                   char *out, size_t size);

/* Content-Type by NAME's extension; "application/octet-stream" if unknown. */
const char *files_type(const char *name);

/* multipart/form-data (RFC 7578) as browsers send it: bytes in, parts out. No
 * memory of its own: every pointer leads into the body. */
#ifndef MULTIPART_H
#define MULTIPART_H

#include <stddef.h>

#define MULTIPART_BOUNDARY_MAX 70 /* RFC 2046 */

struct multipart {
    const char *at, *end;
    char delimiter[MULTIPART_BOUNDARY_MAX + 5]; /* CR LF "--" boundary */
    size_t delimiter_len;
};

struct multipart_part {
    const char *name; /* of the field; as sent, not decoded */
    size_t name_len;
    const char *file; /* name of the file; NULL: the part is no file */
    size_t file_len;
    const char *body;
    size_t len;
};

/* Is TYPE (a Content-Type, or NULL) a form's? */
int multipart_is(const char *type);

/* Begins with the form BODY of LEN bytes. 0; -1: TYPE names no boundary that
 * could be one, or the body does not have it. */
int multipart_begin(struct multipart *m, const char *type, const char *body,
                    size_t len);

/* The next part. 1; 0: there are no more; -1: the bytes are not what TYPE
 * promised. */
int multipart_next(struct multipart *m, struct multipart_part *part);

#endif

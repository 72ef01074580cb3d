/* What detect.c and detect-language.c share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct detect_asked;
struct detect_found;

enum detect_python {
    DETECT_PYTHON_NONE, /* no application */
    DETECT_PYTHON_WSGI, /* one; or an error, which FOUND->why tells */
};

/* Says why in FOUND->why. STATUS. */
__attribute__((format(printf, 3, 4))) int
detect_fail(struct detect_found *found, int status, const char *format, ...);
/* The suffix of PATH's last name, with its dot; "" without. Within PATH. */
const char *detect_suffix(const char *path);
/* Is there a program NAME in an absolute folder of $PATH? */
bool detect_has_program(const struct detect_asked *asked, const char *name);
/* The first SIZE - 1 bytes of the file at PATH, and a NUL, into TEXT. How many
 * there are; 0 as well where it cannot be read. */
size_t detect_read(const char *path, char *text, size_t size);

/* detect-language.c */
/* Looks for NAME (NULL: application or app) in the source FOUND->file, and
 * fills kind, text and callable. */
enum detect_python detect_python(const struct detect_asked *asked,
                                 struct detect_found *found, const char *name);
/* Fills in how the pages of FOUND->folder are served, PAGE first. 0, or a
 * status. */
int detect_php(const struct detect_asked *asked, struct detect_found *found,
               const char *page);
/* The program of the folder's package.json into NAME (NAME_MAX + 1 bytes): its
 * "main", or server.js. */
void detect_package_main(const char *folder, char *name);

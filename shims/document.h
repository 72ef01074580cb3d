/* Which script below a document root answers a path. */
#pragma once

struct document {
    char *file; /* below the root, without a slash at its start */
    char *info; /* what of the path follows it; "" or begins with '/' */
};

/* REST (a decoded path, or "") below ROOT_FD, an O_PATH descriptor; INDEX
 * answers for a folder. The script ends with the first part of the path that
 * has the same ending as INDEX (".php"); what follows is its info. It must be a
 * plain file, and lie below the root even where links are followed; no part may
 * begin with a dot. 0 and *DOCUMENT, or a status for the client: 404, 503 no
 * memory. document_clear() in any case. */
int document_find(int root_fd, const char *rest, const char *index,
                  struct document *document);

void document_clear(struct document *document);

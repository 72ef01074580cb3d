/* A folder of CGI scripts: which of them a request means. */
#pragma once

/* What is run; script_clear() frees it. */
struct script {
    char *path;       /* FOLDER/NAME */
    char *route;      /* the path up to its name: SCRIPT_NAME */
    const char *info; /* what follows that: PATH_INFO; within REST */
};

/* Finds what the path ROUTE (as the map has it) and REST (what of the decoded
 * path follows it) mean in the folder FOLDER, which FOLDER_FD (borrowed) leads
 * to: the part of REST before its next '/' is a name there. 0 and *SCRIPT is
 * filled; else a status, and *SCRIPT is empty unless said: 404, no
 * plain file has that name, or it begins with '.', or a symbolic link leads out
 * of the folder; 403, we may not execute it (path is set then, for the log);
 * 503, no memory or no descriptor. */
int script_find(int folder_fd, const char *folder, const char *route,
                const char *rest, struct script *script);

/* Frees what script_find() put there. */
void script_clear(struct script *script);

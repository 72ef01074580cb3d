/* `cardea serve`: what kind of thing a file or folder is, told by looking at it
 * and never by running it. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"

enum detect_kind {
    /* The first are those of conf.h, in its order. */
    DETECT_FILES = CONF_MODULE_KINDS, /* a folder of plain files */
    DETECT_DOOR,                      /* a door that somebody serves */
};

struct detect_asked {
    const char *word;    /* as the user wrote it */
    const char *as;      /* the kind that it is to be; NULL: look */
    const char *folder;  /* absolute: where a relative WORD starts */
    const char *path;    /* $PATH, for interpreters */
    const char *sockets; /* the folder of php-fpm's sockets */
    /* Is there a door at PATH (a socket)? */
    bool (*is_door)(const char *path);
};

struct detect_found {
    int kind;                 /* enum conf_module_kind or enum detect_kind */
    const char *text;         /* what it is, for people; static */
    bool is_plain;            /* exec: it need not know of CGI */
    char served[PATH_MAX];    /* absolute: what was named */
    char file[PATH_MAX];      /* the same, or the program that is in it */
    char folder[PATH_MAX];    /* of the file; or FILE, if that is a folder */
    const char *program;      /* what runs the file: "node"; NULL: itself */
    char callable[64];        /* wsgi */
    char index[NAME_MAX + 1]; /* fastcgi: the page; "": no page, a program */
    char address[PATH_MAX];   /* where a program is found that is not started;
                               * "": none */
    char name[33];            /* for the module */
    char why[PATH_MAX + 512]; /* on an error: one sentence, with its mend; the
                               * bytes of names are in it as they are */
};

/* Looks at ASKED->word (everything in ASKED is borrowed). 0: FOUND is filled.
 * CTL_CONFIG (the file is the fault) or CTL_USAGE (the words are): FOUND->why
 * says why. Reads at most some 100 KiB of a file and 4,096 names of a
 * folder. */
int detect(const struct detect_asked *asked, struct detect_found *found);

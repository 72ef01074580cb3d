/* Cuts a program between any two of its instructions: a child is single-stepped
 * (ptrace), and whenever memory that it shares with us has changed, what an
 * heir would find is judged. Memory is put back before the child goes on. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fuzz.h"

#define CUT_REGIONS 4

struct cut {
    struct {
        unsigned char *at; /* shared with the child */
        size_t len;
        unsigned char *shadow;
    } regions[CUT_REGIONS];
    void (*run)(void *arg);   /* in the child */
    void (*judge)(void *arg); /* in us: may change the memory */
    void *arg;
    unsigned long steps, cuts; /* instructions; states that were judged */
};

static inline bool
cut_has_changed(struct cut *c)
{
    bool changed = false;

    for (int i = 0; i < CUT_REGIONS && c->regions[i].at; i++) {
        if (memcmp(c->regions[i].at, c->regions[i].shadow, c->regions[i].len)) {
            memcpy(c->regions[i].shadow, c->regions[i].at, c->regions[i].len);
            changed = true;
        }
    }
    return changed;
}

static inline void
cut_put_back(struct cut *c)
{
    for (int i = 0; i < CUT_REGIONS && c->regions[i].at; i++) {
        memcpy(c->regions[i].at, c->regions[i].shadow, c->regions[i].len);
    }
}

/* Runs C's child to its end, which is status 0, and leaves memory as it did. */
static inline void
cut_everywhere(struct cut *c)
{
    int status;
    pid_t pid = fork();

    MUST(pid >= 0);
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        c->run(c->arg);
        _exit(0);
    }
    for (int i = 0; i < CUT_REGIONS && c->regions[i].at; i++) {
        c->regions[i].shadow = malloc(c->regions[i].len);
        memcpy(c->regions[i].shadow, c->regions[i].at, c->regions[i].len);
    }
    MUST(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL);
    while (WIFSTOPPED(status)) {
        if (c->steps++ > 0) {
            MUST(WSTOPSIG(status) == SIGTRAP);
        }
        if (cut_has_changed(c)) {
            c->cuts++;
            c->judge(c->arg);
            cut_put_back(c);
        }
        MUST(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
        MUST(waitpid(pid, &status, 0) == pid);
    }
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < CUT_REGIONS && c->regions[i].at; i++) {
        free(c->regions[i].shadow);
    }
}

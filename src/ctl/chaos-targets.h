/* Which processes chaos may harm: those that are proven to be the server's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHAOS_GROUPS_MAX  2048
#define CHAOS_TARGETS_MAX 4096
#define CHAOS_WHICH_MAX   48

/* CHAOS_ROLE(id, word) */
#define CHAOS_ROLES(X)                                                         \
    X(KEEPER, "keeper")                                                        \
    X(WORKER, "worker")                                                        \
    X(HEIR, "heir")                                                            \
    X(MODULE, "module")                                                        \
    X(COPY, "copy")

enum chaos_role {
#define X(id, word) CHAOS_##id,
    CHAOS_ROLES(X)
#undef X
        CHAOS_ROLE_N,
};

/* A process group that the server made, one for each worker and module. */
struct chaos_group {
    pid_t id;
    pid_t serving; /* the worker or the module itself */
    bool is_module;
    char which[CHAOS_WHICH_MAX]; /* its index or its name */
};

struct chaos_target {
    pid_t pid;
    int pidfd; /* owned */
    bool is_stopped, is_seen;
    uint64_t due; /* when it is harmed, or goes on */
    size_t group; /* of GROUPS; SIZE_MAX: the keeper */
};

struct chaos_targets {
    pid_t server;   /* its main process */
    pid_t keeper;   /* that, or below it; 0: not known yet */
    uint32_t roles; /* bits of enum chaos_role: those that are wanted */
    struct chaos_group *groups;
    size_t n_groups;
    struct chaos_target *targets;
    size_t n_targets;
    uint64_t n_refused; /* numbers that were named and not proven */
    pid_t refused;      /* the last of them */
};

/* Targets among the processes of KEEPER, none yet. 0, or -ENOMEM. */
int chaos_targets_init(struct chaos_targets *t, pid_t server, uint32_t roles);
/* Lets stopped ones go on, and frees all. */
void chaos_targets_deinit(struct chaos_targets *t);

/* Takes LINE of the reply to "processes" (cardea-control(5)), which is changed.
 * A number that is no process of the keeper's is counted and left alone. */
void chaos_targets_line(struct chaos_targets *t, char *line);

/* Looks through /proc for what lives: drops those that ended, adds new ones,
 * each proven by its group and its ancestors while its pidfd is held; FRESH is
 * called for each that was added. 0, or a negative errno of /proc. */
int chaos_targets_look(struct chaos_targets *t,
                       void (*fresh)(void *arg, struct chaos_target *target),
                       void *arg);

/* What TARGET is now. */
enum chaos_role chaos_target_role(const struct chaos_targets *t,
                                  const struct chaos_target *target);
/* Its worker's index or its module's name; "-" for the keeper. */
const char *chaos_target_which(const struct chaos_targets *t,
                               const struct chaos_target *target);
/* Sends SIGNAL to it. 0, or a negative errno (-ESRCH: it ended before). */
int chaos_target_signal(const struct chaos_target *target, int signal);

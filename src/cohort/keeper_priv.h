/* What the keeper's files share: its state. One process, one thread, one epoll
 * set; every part is an object that embeds its event source. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/world.h"
#include "cohort/ended.h"
#include "cohort/history.h"
#include "cohort/keeper.h"
#include "cohort/lines.h"
#include "cohort/notify.h"
#include "cohort/restart.h"
#include "cohort/runfolder.h"
#include "cohort/sink.h"
#include "cohort/statefolder.h"
#include "cohort/tally.h"
#include "conf/conf.h"
#include "conf/merge.h"
#include "front/worker.h"
#include "module/cgroup.h"
#include "module/spawn.h"

struct keeper;
struct keeper_writer;
struct reaper;
struct listeners_file;

/* A descriptor in the epoll set. READY is called with the source itself, which
 * is the first member of what it belongs to or found by its OWNER. */
struct keeper_source {
    int fd; /* owned; -1: none */
    void (*ready)(struct keeper_source *source, uint32_t events);
    void *owner;
};

/* What heirs.c knows of the processes of a worker's life. */
struct keeper_heirs {
    pid_t group;          /* of them all; 0: there is none */
    pid_t next;           /* took over from one that is not reaped; 0: none */
    uint64_t empty_at;    /* that one was reaped then; 0: one serves */
    uint64_t look_at;     /* for an heir; UINT64_MAX: not */
    int status;           /* of wait(2), of the last that served */
    bool told;            /* its death is counted and logged */
    bool killed;          /* all of them were */
    uint64_t second;      /* in which deaths are counted */
    uint32_t haste;       /* their weight */
    uint32_t looks_spare; /* asked of one that died, and perhaps taken by it */
    uint64_t n_takeovers, n_deaths; /* of heirs; of all lives */
};

struct keeper_worker {
    struct keeper *keeper;
    int index;
    struct restart unit;
    struct world world; /* whose spawn makes the ways to and from it */
    struct spawn_plan plan;
    struct worker_setup setup;
    struct keeper_source control; /* to it */
    struct keeper_source said;    /* from it: the pipe's end */
    bool stopped;                 /* by a signal, and not continued */
    bool watched;                 /* its passes were last read at a look */
    bool traced;                  /* a debugger held it at the last look */
    bool told_traced;             /* ... and the log says so */
    uint64_t last_pass;
    uint64_t look_at;       /* at it alone; UINT64_MAX: with the others */
    uint64_t frozen_at;     /* stands still since; 0: it does not */
    uint64_t deaf_deadline; /* it closed its control: killed then */
    bool ready;
    uint32_t looks_asked, looks_done; /* in this life */
    struct keeper_heirs heirs;
    uint64_t generation; /* of the configuration that it has */
    uint64_t conf_at;    /* then it is sent a newer one (again) */
};

/* One of the two output streams of a module, or of a copy of it. */
struct keeper_stream {
    struct keeper_source source; /* owner: the module */
    const char *name;
    struct keeper_writer *writer; /* whose it is; NULL: all of the module's */
    struct lines *lines; /* while it is open: most modules are parked */
    bool paused;         /* not read until the second is over */
};

/* Its forked copies with streams of their own (writers.c). */
struct keeper_writers {
    struct keeper_source listener; /* owner: the module */
    struct keeper_writer *list;
    uint32_t n, asked; /* asked: in this second */
    bool paused;       /* none is answered until the second is over */
};

/* What a module printed in this second. */
struct keeper_output {
    uint64_t began;
    uint32_t lines; /* that came into the log */
    size_t bytes;   /* that were read */
    uint64_t dropped;
};

/* What life.c knows of the module's process, or of the wait for one. */
struct keeper_life {
    uint64_t look_at; /* UINT64_MAX: nothing to look for */
    bool frozen;      /* stopped by a signal, and not continued */
    bool told_traced;
    uint64_t cpu_ticks; /* when it was told of that it takes no calls */
    uint64_t idle_at;   /* next look at its calls; UINT64_MAX: none */
    uint64_t idle_since, n_calls; /* as many since then */
    uint64_t back_by; /* its doors were asked back, until then; 0: not */
    enum restart_recycled recycled; /* ... for that; 0: to park it */
    uint64_t recycle_at;            /* next look; UINT64_MAX: none */
    uint64_t n_calls_begin;         /* of its earlier processes */
    uint64_t jitter;                /* thousandths more than configured */
    bool renews;                    /* its configuration has changed */
    uint64_t patience;              /* ... and calls wait so long for it */
};

/* What an earlier process of a module left: others of its group (left.c). */
struct keeper_left {
    int pidfd;            /* of the dead leader; -1: nothing is left */
    uint64_t incarnation; /* whose doors those others serve */
    bool drains;          /* workers were asked to give them back */
    uint64_t look_at, by; /* when that changes; and when it all ends */
};

/* A counter of its control group: what a bound did (bounds.c). */
struct keeper_bound {
    struct keeper_source source; /* owner: the module */
    uint64_t seen, seen_at;      /* its number, and when that last rose */
    uint64_t untold, told_at;    /* in the log */
};

/* What is remembered of a module that is parked and has no record (past.c). */
struct keeper_past_more;
struct keeper_past {
    uint32_t n_starts, n_unused;
    struct keeper_past_more *more; /* owned; all of it. NULL: no more */
};

/* How many copies a module had when that was last looked at (growth.c). */
struct keeper_growth {
    uint32_t copies;
    uint64_t calls, wait_ns; /* so far */
};

/* A module that parks has no record, but zeroes that were never touched (CONF
 * is NULL), until it is called: of 500 apps most are not. */
struct keeper_module {
    struct keeper *keeper;
    const struct conf_module *conf;
    struct restart unit;
    struct keeper_life life;
    struct keeper_left left;
    struct keeper_growth growth;
    struct world world; /* whose spawn makes pipes and folder first */
    struct spawn_plan plan;
    struct keeper_stream streams[2];
    struct keeper_output output;
    uint64_t copy_ends[ENDED_N]; /* of copies and commands, as it says */
    struct keeper_bound bounds[CGROUP_EVENTS];
    struct keeper_writers writers;
    char *door;           /* path */
    char *state;          /* path; NULL: there is no state folder */
    struct limits limits; /* of the program, or of its shim's commands */
    char **envp;
    char **argv; /* owned; for a shim, else NULL */
};

/* A door's connection as one worker holds it. */
struct keeper_link {
    bool open;
    bool told_none;
    bool renews;       /* not lost: the worker asked for a fresh one */
    bool asked;        /* back, at least once since it is open */
    uint64_t deadline; /* next try; UINT64_MAX: none due */
    uint64_t tried_at, opened_at;
    uint64_t incarnation; /* of the module when it was dialled */
    struct backoff backoff;
};

struct keeper_target {
    const char *path;             /* the door's; NULL: a folder of files, or a
                                   * module that has no record */
    const char *name;             /* what people call it: module or path */
    struct keeper_module *module; /* NULL: not ours */
    struct keeper_link *links;    /* one a worker */
    int watch;                    /* inotify, of the parent folder; -1 */
    bool announced;               /* open at all workers, and logged */
    bool waiting_told;
    uint64_t
        no_descs_told; /* the start of its module, or 1, told of; 0: none */
    uint32_t causes[WORKER_CAUSE_HEIR + 1];
    uint64_t generation;             /* in which it came; of the start: 0 */
    uint64_t unused[SEATS_MAX / 64]; /* it went, and those do not use it */
};

/* What reload.c knows. Who asks gets a number; all up to BEGUN were read, and
 * up to DONE have ended. */
struct keeper_reload {
    uint64_t asked, begun, done;
    uint64_t at;       /* not before */
    uint64_t began_at; /* the latest */
    bool sent;         /* not every worker has it yet */
    int n_again;       /* so often it is tried if it is refused */
    int n_waits;       /* for a module that is on its way out */
    char *error;       /* why the latest was refused; NULL: it was not */
    uint64_t n_done, n_refused;
    uint64_t wall_ns; /* of the latest that was not refused */
    uint64_t n_comes, n_changes, n_goes; /* modules, of that */
    uint64_t n_gone;                     /* things that may still be in use */
    struct conf *conf;                   /* keeper.conf, in BLOCK */
    void *block;
    size_t len;
    int file;                           /* of the same bytes */
    int closing[CONF_LISTENS_MAX];      /* sockets of listeners that went; -1 */
    uint64_t listens[CONF_LISTENS_MAX]; /* generations in which they came */
    uint64_t unused[CONF_LISTENS_MAX][SEATS_MAX / 64];
};

enum keeper_phase {
    PHASE_RUN,
    PHASE_DRAIN,   /* workers finish their requests */
    PHASE_MODULES, /* no worker is left; modules end */
    PHASE_DONE,
};

struct keeper {
    const struct conf *conf;
    uint64_t generation;       /* of it; 1 at the start */
    struct conf_bounds bounds; /* of all that may follow */
    struct keeper_reload reload;
    char **read; /* folders that workers may read, as they really are */
    size_t n_read;
    struct keeper_options options;
    const struct world *real;
    pid_t main_pid;              /* the server's: the reaper, else we */
    const struct reaper *reaper; /* above us, as it was; NULL: there is none */
    bool was_ready;              /* a keeper before us was */
    uint64_t born_at;            /* the server */
    int epoll_fd;
    struct keeper_source log_pipe; /* reading end */
    int log_write_fd;
    struct keeper_source out; /* the sink's, only polled while it is stuck */
    struct keeper_source signals;
    struct keeper_source inotify; /* -1: there is none to be had */
    bool unwatched_told;
    struct sink sink;
    struct history history; /* the latest lines of the log */
    struct runfolder folder;
    struct statefolder state;
    int *listen_fds;                     /* bounds.listens */
    struct listeners_file *listen_files; /* as many */
    int *folder_fds;                     /* bounds.targets */
    struct seat *seats;
    struct tallies tallies;
    struct notify notify;
    struct control *control; /* control.c */
    char file[PATH_MAX];     /* the configuration, absolute */
    struct keeper_worker *workers;
    int n_workers;
    uint64_t look_at; /* at the workers' passes; UINT64_MAX: all sleep */
    bool workers_change_user; /* they become UID and GID */
    uid_t workers_uid;
    gid_t workers_gid;
    struct cgroup cgroup;          /* that of each module lies below it */
    struct keeper_module *modules; /* bounds.modules */
    struct keeper_past *pasts;     /* as many */
    struct keeper_target *targets; /* bounds.targets */
    char shim[PATH_MAX];
    struct rlimit given_files; /* descriptors: what our modules have */
    uint32_t n_files;          /* and what a worker has */
    uint32_t n_writers;        /* of all modules */
    enum keeper_phase phase;
    bool ready_said;
    bool failed; /* could not start */
    bool forced;
    bool errors; /* while stopping */
    uint64_t started_at;
};

/* keeper.c */
uint64_t keeper_now(const struct keeper *k);
/* Adds the source's fd (EVENTS of epoll) to the set. 0 or a negative errno. */
int keeper_watch(struct keeper *k, struct keeper_source *source,
                 uint32_t events);
/* Takes it out and closes it; nothing if it has none. */
void keeper_unwatch(struct keeper *k, struct keeper_source *source);
/* A log line about the whole, about a worker, about a module. */
void keeper_log_begin(struct keeper *k, struct log_line *line,
                      enum log_level level, const char *event);
void keeper_log_end(struct keeper *k, struct log_line *line);
/* The latest death of UNIT: cause, count, wait_ms where it will be restarted.
 */
void keeper_log_cause(struct log_line *line, const struct restart *unit);
/* That a process, whose end had wait(2) STATUS, left a core file, if so. */
void keeper_log_core(struct log_line *line, int status);
/* One sentence about a failed start, on log_fd. */
void keeper_say(struct keeper *k, const char *sentence);
/* A keeper that nothing is open of, the caller's; NULL after a sentence. CONF
 * and OPTIONS as for keeper_run(). */
struct keeper *keeper_new(const struct conf *conf,
                          const struct keeper_options *options);
/* After setup_hold(): the rest, until a signal ends it. Takes down all of K and
 * frees it. The exit status, as of keeper_run(). */
int keeper_keep(struct keeper *k);
/* Takes down and frees K, however much of it there is. */
void keeper_free(struct keeper *k, int status);
/* The same, of what another process has taken down or goes on with: removes no
 * file. */
void keeper_forget(struct keeper *k, int status);
/* Handlers of the sources that setup.c makes. */
void keeper_log_ready(struct keeper_source *source, uint32_t events);
void keeper_out_ready(struct keeper_source *source, uint32_t events);
void keeper_signals_ready(struct keeper_source *source, uint32_t events);

/* setup.c: everything up to the first process. First what outlives a keeper
 * that dies: it is made once, and the next keeper has it by its fork; then the
 * rest. 0; or a negative errno after a sentence was said. */
int setup_hold(struct keeper *k);
int setup_rest(struct keeper *k);

/* ready.c: says ready, once, or gives up a start that takes too long. */
void ready_check(struct keeper *k, uint64_t now);
uint64_t ready_deadline(const struct keeper *k);

/* A grace for requests that is none; small enough to be added to a time. */
#define STOP_NO_LIMIT (1ull << 60)

/* stop.c: TERM and INT; a failed start; progress after a death. */
void stop_begin(struct keeper *k, const char *cause, uint64_t grace_ns);
void stop_force(struct keeper *k, const char *cause);
void stop_advance(struct keeper *k);
/* Remembers what UNIT's end with STATUS means for our exit status. */
void stop_note_end(struct keeper *k, const struct restart *unit, int status,
                   bool killed);
/* W has another process, which may not know that it is to stop. */
void stop_tell_again(struct keeper_worker *w);
/* Kills those who have become our children because their own parents died; all
 * children but BUT (0: but none). How many. Allocates nothing. */
int stop_kill_children(pid_t but);
/* Kills and reaps every process that is still below us. */
void stop_orphans(void);

/* workers.c */
/* Who the workers will be. Asked once, in the keeper: in each worker the
 * answer's libraries and buffers would stay. */
int workers_find_user(struct keeper *k);
int workers_init(struct keeper *k);
void workers_start(struct keeper *k);
void workers_deinit(struct keeper *k);
void workers_tick(struct keeper *k, uint64_t now);
/* When it is to be called next; UINT64_MAX: no worker needs it. */
uint64_t workers_deadline(const struct keeper *k);
/* W has no process any more; the last that served ended with STATUS. */
void worker_died(struct keeper_worker *w, int status);
/* It accepts connections; nothing if that is known. */
void worker_is_ready(struct keeper_worker *w);
/* Takes what W has said and is not heard yet. */
void worker_hear(struct keeper_worker *w);
bool workers_all_ready(const struct keeper *k);
/* Sends MESSAGE with FD (-1: none; borrowed). 0 or a negative errno. */
int worker_send(struct keeper_worker *w, const struct worker_message *message,
                int fd);

/* Logs a kill for CAUSE, kills it with its heirs, and hears no more. */
void worker_end_trust(struct keeper_worker *w, const char *cause);
/* Logs a kill for CAUSE and kills the process that serves: an heir goes on. */
void worker_replace(struct keeper_worker *w, const char *cause);
/* Ends a wait that it may be in within a system call. */
void worker_poke(struct keeper_worker *w);

/* heirs.c: the processes of a worker's seat. */
/* A life of W begins, with process PID, the leader of its group. */
void heirs_begin(struct keeper_worker *w, pid_t pid);
/* Is nobody serving, and an heir expected to? */
bool heirs_wait(const struct keeper_worker *w);
/* The worker that PID, which may be dead but not reaped, is a process of; NULL:
 * of none. */
struct keeper_worker *heirs_find(struct keeper *k, pid_t pid);
/* PID, found by that, was reaped: it ended with wait(2) STATUS. */
void heirs_reaped(struct keeper_worker *w, pid_t pid, int status);
/* W says that process NUMBER serves now. 0, or -EPROTO if that cannot be. */
int heirs_said(struct keeper_worker *w, uint32_t number);
/* Is a look that nobody waits for what a dead process was asked? Once each. */
bool heirs_looked(struct keeper_worker *w);
void heirs_tick(struct keeper_worker *w, uint64_t now);
/* Sends SIGNAL to W's processes. 0 or a negative errno (-ESRCH: none is left).
 */
int heirs_kill_all(struct keeper_worker *w, int signal);

/* watch.c: workers that stand still. */
void watch_tick(struct keeper *k, uint64_t now);
uint64_t watch_deadline(const struct keeper *k);
/* growth.c: looks how many copies each module has, and tells what changed. */
void growth_look(struct keeper *k);
/* M's process is another: it begins with one. */
void growth_begin(struct keeper_module *m);

/* W has woken from a long sleep, or began: looks until all sleep again. */
void watch_awake(struct keeper_worker *w);
/* W's process has ended, and no heir is left. */
void watch_forget(struct keeper_worker *w);
/* Another process serves W; STOPPED: a signal has stopped it. */
void watch_passed(struct keeper_worker *w, bool stopped);
/* PID, if it is a worker, was stopped by a signal (or continued). */
void watch_stopped(struct keeper *k, pid_t pid, bool stopped);

/* modules.c */
/* The record after M (NULL: the first) that there is; NULL: there is none. */
static inline struct keeper_module *
modules_next(const struct keeper *k, const struct keeper_module *m)
{
    for (size_t i = m == NULL ? 0 : (size_t)(m - k->modules) + 1;
         i < k->conf->n_modules; i++) {
        if (k->modules[i].conf != NULL) {
            return &k->modules[i];
        }
    }
    return NULL;
}

/* M goes over them. */
#define FOR_EACH_MODULE(k, m)                                                  \
    for (struct keeper_module *m = modules_next(k, NULL); m != NULL;           \
         m = modules_next(k, m))

/* past.c: for modules without a record, all zero at first. */
int past_init(struct keeper *k); /* 0 or -ENOMEM */
void past_deinit(struct keeper *k);
/* M's record is to go: notes what counts. 0 or -ENOMEM. */
int past_keep(struct keeper_module *m);
/* M's record is new: takes over what was noted. */
void past_restore(struct keeper_module *m);
/* Module INDEX is another's from now on. */
void past_forget(struct keeper *k, size_t index);
/* How module INDEX is, parked; perhaps made in ROOM. */
const struct restart *past_unit(const struct keeper *k, size_t index,
                                struct restart *room);
const uint64_t *past_copy_ends(const struct keeper *k, size_t index);

/* Why copies of module INDEX ended, with or without a record: ENDED_N numbers.
 */
const uint64_t *modules_copy_ends(const struct keeper *k, size_t index);
/* How module INDEX is: parked, where it has no record; then perhaps made in
 * ROOM. */
const struct restart *modules_unit(const struct keeper *k, size_t index,
                                   struct restart *room);
/* The record of module INDEX, made if there is none. NULL after a line in the
 * log. */
struct keeper_module *modules_need(struct keeper *k, size_t index);
int modules_init(struct keeper *k);
void modules_start(struct keeper *k);
void modules_deinit(struct keeper *k);
void modules_tick(struct keeper *k, uint64_t now);
/* The module whose leader PID is, or NULL. */
struct keeper_module *modules_find(struct keeper *k, pid_t pid);
void module_reaped(struct keeper_module *m, int status);
/* Module INDEX, which has no record, has come with k->conf. */
void modules_add(struct keeper *k, size_t index);
/* k->conf is another; CHANGED: what it says of M, too. */
void modules_renew(struct keeper_module *m, bool changed);
/* Starts those that have come. */
void modules_begin(struct keeper *k);
/* M is stopped, and its number free. */
void modules_free(struct keeper_module *m);

/* environ.c */
/* M's environment, of m->door, m->state and m->limits; the caller frees it with
 * environ_free() (NULL is allowed). NULL: no memory. */
char **environ_make(const struct keeper_module *m);
void environ_free(char **env);

/* isolate.c */
/* Is CONF's command started by a program of ours, and not by the keeper? */
bool module_has_shim(const struct conf_module *conf);
/* Makes the control groups where that is possible; before anything is started.
 * Always 0. */
int isolate_init(struct keeper *k);
/* M's group for its next start, in *P_FD (the caller closes it), which stays as
 * it was where there is none. 0; or the error of a group that is to bound M. */
int isolate_group(const struct keeper_module *m, int *p_fd);
/* Says once, at the start, what a module's block asks for and this system does
 * not give. */
void isolate_tell(struct keeper *k);
/* Fills m->limits, and of m->plan what bounds the process. */
void isolate_plan(struct keeper_module *m);

/* output.c */
#define OUTPUT_LINES 1000      /* a second, of a module, into the log */
#define OUTPUT_BYTES (4 << 20) /* a second, of a module, are read */
/* Opens M's streams for one life; the program's ends come back in FDS, the
 * caller's. 0 or a negative errno; what is open then the caller closes too. */
int output_open(struct keeper_module *m, struct spawn_fd fds[2]);
/* The same for one STREAM; the writing end comes back in *P_END. */
int output_pipe(struct keeper_module *m, struct keeper_stream *stream,
                int *p_end);
void output_ready(struct keeper_source *source, uint32_t events);
/* Reads up to MOST bytes of what is there, whatever the rates are, and ends
 * the last line. */
void output_read(struct keeper_stream *stream, size_t most);
/* Logs the beginning of a line that it has, and closes it. Nothing if it is
 * closed. */
void output_close(struct keeper_stream *stream);
/* Reads on, if it is paused. */
void output_resume(struct keeper_stream *stream);
/* Begins a new second of M's rates if the last one is over. */
void output_begin_second(struct keeper_module *m);
/* Logs what M wrote before its end, and closes its streams; bounded, since a
 * process that left the group may write on for ever. */
void output_drain(struct keeper_module *m);
/* Tells of dropped lines when their second is over, and reads on. */
void output_tick(struct keeper *k, uint64_t now);
/* When that is due next; UINT64_MAX: not. */
uint64_t output_deadline(const struct keeper *k);

/* bounds.c */
void bounds_init(struct keeper_module *m);
/* Watches the counters of M's group, which was made, if they are not watched.
 */
void bounds_watch(struct keeper_module *m);
/* M's process ended with wait(2) STATUS: was that for want of memory? */
bool bounds_killed(struct keeper_module *m, int status);
/* Tells what a line a second had no room for. */
void bounds_tick(struct keeper *k, uint64_t now);
/* When that is due next; UINT64_MAX: not. */
uint64_t bounds_deadline(const struct keeper *k);
/* Was all told that is to be? */
bool bounds_are_told(const struct keeper_module *m);
void bounds_deinit(struct keeper_module *m);

/* left.c */
/* Nothing is left of M. */
void left_init(struct keeper_module *m);
/* M's process has died and is not reaped yet. true: others of its group serve
 * on, and are ended later. false: its group is to be ended now. */
bool left_begin(struct keeper_module *m);
bool left_is_there(const struct keeper_module *m);
/* Ends what is left, if anything. */
void left_end(struct keeper_module *m);
void left_tick(struct keeper *k, uint64_t now);
uint64_t left_deadline(const struct keeper *k);

/* secrets.c */
#define SECRETS_MAX      32        /* a module */
#define SECRETS_SIZE     (1 << 20) /* bytes of one */
#define SECRETS_VARIABLE 80        /* its variable's name, with NUL */
/* Can every secret be opened? Warns of those that every user may read. 0, or a
 * negative errno after one sentence with place and mend was said. */
int secrets_check(struct keeper *k);
/* The name of the variable that tells the number of secret NAME. */
void secrets_variable(const char *name, char out[SECRETS_VARIABLE]);
/* The number that secret INDEX has in the program. */
int secrets_number(size_t index);
/* Opens M's secrets for one start, into FDS (room for SECRETS_MAX), which
 * secrets_close() closes. 0, or a negative errno after a line in the log, and
 * none is open. */
int secrets_open(struct keeper_module *m, struct spawn_fd *fds);
void secrets_close(const struct spawn_fd *fds, size_t n);

/* confine.c */
/* Does the block of CONF say which paths it reaches? */
bool confine_wanted(const struct conf_module *conf);
/* The ruleset for M's next start, in *P_FD (the caller closes it), which stays
 * as it was where none is wanted or the kernel has no Landlock. 0; -ENOMEM; or,
 * after a line in the log, the error of a path that M names. */
int confine_make(struct keeper_module *m, int *p_fd);

/* life.c */
void life_init(struct keeper_module *m);
void life_tick(struct keeper *k, uint64_t now);
uint64_t life_deadline(const struct keeper *k);
/* What M is to be started with has changed: its process is replaced, as soon as
 * that loses no call. */
void life_renew(struct keeper_module *m);
/* Is module INDEX one that is ended when nobody calls it, and started by a
 * call?
 */
bool life_parks_at(const struct keeper *k, size_t index);
bool life_parks(const struct keeper_module *m);
/* First start, or none yet. */
enum restart_act life_begin(struct keeper_module *m);
/* Is it without a process until a call comes? And: are its doors asked back? */
bool life_is_parking(const struct keeper_module *m);
/* A call waits at a worker for TARGET (checked here). 0, or -EPROTO if the
 * message cannot be. */
int life_wanted(struct keeper *k, uint32_t target);
/* Its door was dialled: it is ready. */
void life_ready(struct keeper_module *m);
/* Its process was started, or not, or has ended and was reaped. */
void life_changed(struct keeper_module *m);
/* PID, if it is a module's, was stopped by a signal (or continued). */
void life_stopped(struct keeper *k, pid_t pid, bool stopped);
/* Worker WORKER saw a call of TARGET (checked here) wait for its whole time
 * while the door took none. 0, or -EPROTO if the message cannot be. */
int life_stalled(struct keeper *k, int worker, uint32_t target);

/* doors.c */
int doors_init(struct keeper *k);
void doors_deinit(struct keeper *k);
void doors_tick(struct keeper *k, uint64_t now);
uint64_t doors_deadline(const struct keeper *k);
/* A worker was started (all its doors are due) or died (it holds none). */
void doors_worker_started(struct keeper *k, int worker);
void doors_worker_died(struct keeper *k, int worker);
/* Another process serves WORKER: it is told again what its doors were asked. */
void doors_tell_again(struct keeper *k, int worker);
void doors_module_started(struct keeper_module *m);
/* The target that leads to module MODULE, whether that has a record or not; of
 * several the first; NULL: none does. */
const struct keeper_target *doors_target(const struct keeper *k, size_t module);
/* M has a record now: its doors are known. 0 or -ENOMEM. Or it has none any
 * more: they are not. */
int doors_module_begins(struct keeper_module *m);
void doors_module_ends(struct keeper_module *m);
/* May TARGET have a door, so that a worker may speak of one? */
bool doors_is_one(const struct keeper *k, uint32_t target);
/* M has no process: workers are told if that is for long. */
void doors_module_died(struct keeper_module *m);
/* Asks all workers to give M's doors back, where no call uses them (DRAIN: when
 * none does any more); have they all? Or gives them out once more. */
void doors_ask_back(struct keeper_module *m, bool drain);
bool doors_are_back(const struct keeper_module *m);
void doors_give_again(struct keeper_module *m);
/* Worker WORKER lost the door of TARGET (checked here). 0, or -EPROTO if the
 * message cannot be: the worker is not to be trusted. */
int doors_lost(struct keeper *k, int worker, uint32_t target, uint32_t cause);
/* A worker found that the door of TARGET (checked here), to which a listener
 * passes connections, takes no descriptors: logged, once for each start of its
 * module. 0, or -EPROTO as above. */
int doors_no_descs(struct keeper *k, uint32_t target);
/* k->conf is another: names are in it. Target INDEX has come with it. */
void doors_point(struct keeper *k);
void doors_add(struct keeper *k, size_t index);
/* WORKER has k->conf, too: it can be given doors of it. */
void doors_renewed(struct keeper *k, int worker);
/* WORKER has closed the door of TARGET, which went; and nobody has any. */
void doors_unused(struct keeper *k, int worker, size_t target);
void doors_free(struct keeper *k, size_t target);
/* Is TARGET's door at all workers? (true for folders) */
bool doors_open_all(const struct keeper *k, size_t target);

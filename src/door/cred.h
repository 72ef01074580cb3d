/* Who calls. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct door_sender;

/* When process PID began, in ticks since the boot; 0: it is gone, or /proc does
 * not tell. With the pid, this names a process for good. */
uint64_t cred_started(pid_t pid);

/* Who opened a source, as it was then. */
struct cred_origin {
    uint64_t started; /* cred_started(); 0: it is not to be believed */
    uid_t uid[3];     /* real, effective, saved */
    gid_t gid[3];
    bool may_set_uid, may_set_gid;
};

/* O is PEER, who said hello with CONN, an end of a socket pair. */
void cred_origin(struct cred_origin *o, int conn,
                 const struct door_sender *peer);

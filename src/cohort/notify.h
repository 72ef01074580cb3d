/* What systemd is told of a service of Type=notify: ready, stopping, alive. See
 * sd_notify(3), whose library is not needed for a datagram. */
#pragma once

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* What there is to say. */
enum notify_word {
    NOTIFY_READY = 1,
    NOTIFY_STOPPING,
    NOTIFY_ALIVE,
    NOTIFY_RELOADING, /* until NOTIFY_READY */
};

struct notify {
    int fd;    /* -1: nobody wants to be told */
    pid_t via; /* says it for us, as it is the unit's main process; 0: nobody */
    struct sockaddr_un to;
    socklen_t to_len;
    uint64_t gap; /* ns between signs of life; 0: none are wanted */
    uint64_t due; /* monotonic ns; UINT64_MAX: none */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of the environment. What
 * cannot be is taken as if it were not there. NOTIFY ends with
 * notify_deinit(). */
void notify_init(struct notify *notify);
void notify_deinit(struct notify *notify);

/* The signal by which a keeper gives its word to NOTIFY->via, as the value of
 * sigqueue(3). */
#define NOTIFY_SIGNAL SIGRTMIN

/* Says WORD ("READY=1"), or hands it to NOTIFY->via. Never waits; who does not
 * read misses it. Nothing for a number that is no word. */
void notify_say(const struct notify *notify, enum notify_word word);

/* Says that we live if that is due at NOW (monotonic ns), twice as often as it
 * has to be. */
void notify_tick(struct notify *notify, uint64_t now);

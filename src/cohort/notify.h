/* What systemd is told of a service of Type=notify: ready, stopping, alive. See
 * sd_notify(3), whose library is not needed for a datagram. */
#pragma once

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody wants to be told */
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

/* Sends TEXT ("READY=1"). Never waits; who does not read misses it. */
void notify_say(const struct notify *notify, const char *text);

/* Says that we live if that is due at NOW (monotonic ns), twice as often as it
 * has to be. */
void notify_tick(struct notify *notify, uint64_t now);

/* One datagram a state. The socket's path comes from who starts us, so it is
 * trusted as much as the command line; an '@' is the abstract namespace. */
#include "cohort/notify.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

#define GAP_MAX (3600 * NS_PER_SEC)

/* The number in TEXT, 1 to INT64_MAX / 1000; 0: none. */
static uint64_t
number_of(const char *text)
{
    char *end;
    unsigned long long n;

    if (text == NULL || text[0] < '0' || text[0] > '9') {
        return 0;
    }
    n = strtoull(text, &end, 10);
    return *end == '\0' && n <= INT64_MAX / 1000 ? n : 0;
}

/* How often we have to say that we live, in ns; 0: never. */
static uint64_t
watchdog_gap(void)
{
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t usec = number_of(getenv("WATCHDOG_USEC"));

    if (pid != NULL && number_of(pid) != (uint64_t)getpid()) {
        return 0;
    }
    return MIN_OF(usec * 1000 / 2, GAP_MAX);
}

void
notify_init(struct notify *notify)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path != NULL ? strlen(path) : 0;

    *notify = (struct notify){.fd = -1, .due = UINT64_MAX};
    if (len < 2 || len >= sizeof(notify->to.sun_path) ||
        (path[0] != '/' && path[0] != '@')) {
        return;
    }
    notify->to.sun_family = AF_UNIX;
    memcpy(notify->to.sun_path, path, len);
    if (path[0] == '@') {
        notify->to.sun_path[0] = '\0';
    }
    notify->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
                                 (path[0] == '/'));
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    notify->gap = notify->fd >= 0 ? watchdog_gap() : 0;
    notify->due = notify->gap > 0 ? 0 : UINT64_MAX;
}

void
notify_deinit(struct notify *notify)
{
    if (notify->fd >= 0) {
        close(notify->fd);
    }
    *notify = (struct notify){.fd = -1, .due = UINT64_MAX};
}

/* With the time, by which systemd knows that the READY=1 that follows is of
 * this one. */
static const char *
reload_text(char out[64])
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(out, 64, "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)now.tv_sec * 1000000 +
                 (unsigned long long)now.tv_nsec / 1000);
    return out;
}

void
notify_say(const struct notify *notify, enum notify_word word)
{
    static const char *const texts[] = {
        [NOTIFY_READY] = "READY=1",
        [NOTIFY_STOPPING] = "STOPPING=1",
        [NOTIFY_ALIVE] = "WATCHDOG=1",
    };

    char reloading[64];
    const char *text;

    if (word < NOTIFY_READY || word > NOTIFY_RELOADING) {
        return;
    }
    if (notify->via > 0) {
        (void)sigqueue(notify->via, NOTIFY_SIGNAL,
                       (union sigval){.sival_int = (int)word});
    } else if (notify->fd >= 0) {
        text = word == NOTIFY_RELOADING ? reload_text(reloading) : texts[word];
        (void)!sendto(notify->fd, text, strlen(text),
                      MSG_DONTWAIT | MSG_NOSIGNAL,
                      (const struct sockaddr *)&notify->to, notify->to_len);
    }
}

void
notify_tick(struct notify *notify, uint64_t now)
{
    if (now >= notify->due) {
        notify_say(notify, NOTIFY_ALIVE);
        notify->due = now + notify->gap;
    }
}

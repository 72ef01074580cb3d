/* A plain door whose program does to it what no program should. By signal: USR1
 * closes the descriptor and lives on, USR2 makes the door anew, HUP detaches it
 * (fdetach), WINCH removes its name, URG gives it another one. A request with
 * ?exit ends the program with status 0 in the middle of the call. It says on
 * standard output what it has done. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <door.h>
#include <stropts.h>

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    static char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    (void)cookie;
    (void)dp;
    (void)n_desc;
    if (memmem(argp, arg_size, "?exit ", 6) != NULL) {
        exit(0);
    }
    door_return(answer, sizeof(answer) - 1, NULL, 0);
}

static void
say(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
}

static int
open_door(const char *path)
{
    int d = door_create(procedure, NULL, 0);

    fdetach(path); /* what is there, if anything is */
    if (d < 0 || door_attach(d, path, 0666) < 0) {
        perror("closer");
        exit(1);
    }
    return d;
}

int
main(void)
{
    const char *path = getenv("CARDEA_DOOR");
    const int orders[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGWINCH, SIGURG};
    char away[4096];
    sigset_t set;
    int sig;

    if (path == NULL) {
        return 1;
    }
    snprintf(away, sizeof(away), "%s.away", path);
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
        sigaddset(&set, orders[i]);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    int d = open_door(path);
    while (sigwait(&set, &sig) == 0) {
        switch (sig) {
        case SIGUSR1:
            close(d);
            d = -1;
            say("closed");
            break;
        case SIGUSR2:
            if (d >= 0) {
                close(d);
            }
            d = open_door(path);
            say("opened");
            break;
        case SIGHUP:
            say(fdetach(path) == 0 ? "detached" : "not detached");
            break;
        case SIGWINCH:
            say(unlink(path) == 0 ? "unlinked" : "not unlinked");
            break;
        default:
            say(rename(path, away) == 0 && unlink(away) == 0 ? "renamed"
                                                             : "not renamed");
        }
    }
    return 1;
}

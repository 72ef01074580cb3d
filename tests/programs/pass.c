/* A door for `forward tcp ... pass`: plain blocking reads and writes on the
 * connection that it is handed. The first argument says how:
 *
 *   serve    within the call: lines come back, until the client ends or says
 *            "bye"; "crash" ends the program; then close, "closed" in the log,
 *            and some time in the call ("stay N" milliseconds, if it was said)
 *   keep     answers at once; a thread of its own serves the connection
 *   refuse   the door takes no descriptors
 *   drop     returns without looking at what it was given
 *   quit     closes it and returns without door_return */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <door.h>

static const char *how = "serve";

static void
say(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0) {
            return;
        }
        text += n;
        len -= (size_t)n;
    }
}

/* Lines, with the client's port before them. How long to stay then, in ms. */
static int
serve(int fd)
{
    struct sockaddr_in peer = {.sin_port = 0};
    socklen_t size = sizeof peer;
    char line[4096], out[4200];
    int stay = 0;

    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0 ||
        (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0) {
        say(fd, "bad\n", 4);
    }
    for (;;) {
        ssize_t n = read(fd, line, sizeof line - 1);
        if (n <= 0) {
            break;
        }
        line[n] = 0;
        if (strncmp(line, "crash", 5) == 0) {
            raise(SIGKILL);
        }
        if (sscanf(line, "stay %d", &stay) == 1 ||
            strncmp(line, "bye", 3) == 0) {
            say(fd, "bye\n", 4);
            break;
        }
        int len = snprintf(
            out, sizeof out, "%d %s",
            peer.sin_family == AF_INET ? ntohs(peer.sin_port) : 0, line);
        say(fd, out, (size_t)len);
    }
    close(fd);
    return stay;
}

static void *
serve_alone(void *arg)
{
    serve((int)(intptr_t)arg);
    return NULL;
}

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    pthread_t id;

    (void)cookie;
    (void)argp;
    if (n_desc != 1 || arg_size != 0 || dp[0].d_attributes != DOOR_DESCRIPTOR) {
        abort();
    }
    int fd = dp[0].d_data.d_desc.d_descriptor;
    if (strcmp(how, "drop") == 0) {
        close(fd);
        door_return(NULL, 0, NULL, 0);
    }
    if (strcmp(how, "quit") == 0) {
        close(fd);
        return;
    }
    if (strcmp(how, "keep") == 0) {
        if (pthread_create(&id, NULL, serve_alone, (void *)(intptr_t)fd) == 0) {
            pthread_detach(id);
        }
        door_return(NULL, 0, NULL, 0);
    }
    int stay = serve(fd);
    if (stay > 0) {
        fprintf(stderr, "closed, staying %d\n", stay);
        usleep((useconds_t)stay * 1000);
    }
    door_return(NULL, 0, NULL, 0);
}

int
main(int argc, char **argv)
{
    const char *path = argc > 2 ? argv[2] : getenv("CARDEA_DOOR");
    int d;

    if (argc > 1) {
        how = argv[1];
    }
    signal(SIGPIPE, SIG_IGN);
    d = door_create(procedure, NULL,
                    strcmp(how, "refuse") == 0 ? DOOR_REFUSE_DESC : 0);
    if (!path || d < 0 || door_attach(d, path, 0666) < 0) {
        perror("pass");
        return 1;
    }
    puts("attached");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

/* Clients that pipeline as fast as the server takes it, and read as fast as it
 * answers: as many as the second argument says, at the port in the first. Ends
 * when the server closes one of them, or it is ended. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MAX 1024

static int
client(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        perror("pipeline");
        exit(1);
    }
    return fd;
}

/* Whole requests, so that where a write was cut the next one goes on. */
static size_t
fill(char *to, size_t size)
{
    static const char one[] = "GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    size_t n = 0;

    while (n + sizeof one < size) {
        memcpy(to + n, one, sizeof one - 1);
        n += sizeof one - 1;
    }
    return n;
}

int
main(int argc, char **argv)
{
    static struct pollfd polls[MAX];
    static size_t at[MAX];
    static char out[1 << 18], in[1 << 18];
    size_t size = fill(out, sizeof out);
    int n = argc == 3 ? atoi(argv[2]) : 0;

    for (int i = 0; i < n && i < MAX; i++) {
        polls[i].fd = client(atoi(argv[1]));
        polls[i].events = POLLIN | POLLOUT;
    }
    puts("ready");
    fflush(stdout);
    while (poll(polls, (nfds_t)n, -1) >= 0) {
        for (int i = 0; i < n; i++) {
            ssize_t got = recv(polls[i].fd, in, sizeof in, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN)) {
                return 1;
            }
            ssize_t put = send(polls[i].fd, out + at[i], size - at[i],
                               MSG_DONTWAIT | MSG_NOSIGNAL);
            at[i] = (at[i] + (put > 0 ? (size_t)put : 0)) % size;
        }
    }
    return 1;
}

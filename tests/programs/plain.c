/* A plain door that knows nothing of Cardea: gets the bytes of a request and
 * returns the bytes of a response. Its path is the last argument; with -f
 * before it, the door is laid over the file there (fattach).
 *
 * Most paths are answered with what was asked, byte for byte. Those in the
 * table get these bytes, right or wrong; for /big the body is larger than most
 * buffers, for /nobody a HEAD is answered as RFC 9110 wants it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <door.h>
#include <stropts.h>

#define BIG 150000

static const struct {
    const char *path, *answer;
} answers[] = {
    {"/lie", "HTTP/1.1 banana\r\n\r\n"},
    {"/nothing", ""},
    {"/half", "HTTP/1.1 200 OK\r\nContent-Le"},
    {"/noise", "Well, hello!\n"},
    {"/short", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"},
    {"/long", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"},
    {"/interim", "HTTP/1.1 100 Continue\r\n\r\n"},
    {"/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "3\r\nabc\r\n0\r\n\r\n"},
    {"/split", "HTTP/1.1 200 OK\r\nX-A: a\rX-B: b\r\n\r\nabc"},
    {"/nolength", "HTTP/1.1 203 Well\r\nX-A: a\r\n\r\nabc"},
    {"/hops", "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\n"
              "Keep-Alive: 5\r\nX-A: a\r\n\r\nabc"},
    {"/nobody", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"},
    {"/empty", "HTTP/1.1 204 No Content\r\n\r\n"},
};

static void
copy_path(const char *argp, size_t arg_size, char path[64])
{
    const char *from = memchr(argp, ' ', arg_size);
    size_t n = 0;

    while (from && ++from < argp + arg_size && n < 63 && *from != ' ' &&
           *from != '?') {
        path[n++] = *from;
    }
    path[n] = 0;
}

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    static __thread char out[1000000];
    size_t body = arg_size;
    char path[64];
    int n;

    (void)cookie;
    for (unsigned int i = 0; i < n_desc; i++) {
        close(dp[i].d_data.d_desc.d_descriptor);
    }
    copy_path(argp, arg_size, path);
    for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
        if (strcmp(path, answers[i].path) == 0) {
            n = snprintf(out, sizeof(out), "%s", answers[i].answer);
            door_return(out, (size_t)n, NULL, 0);
        }
    }
    if (strcmp(path, "/big") == 0) {
        body = BIG;
    }
    if (body > sizeof(out) - 200) {
        body = sizeof(out) - 200;
    }
    n = snprintf(out, 200,
                 "HTTP/1.1 200 OK\r\nX-Door: plain\r\n"
                 "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                 body);
    if (body == arg_size) {
        memcpy(out + n, argp, body);
    } else {
        memset(out + n, 'b', body);
    }
    door_return(out, (size_t)n + body, NULL, 0);
}

int
main(int argc, char **argv)
{
    int d = door_create(procedure, NULL, 0);
    int over = argc == 3 && strcmp(argv[1], "-f") == 0;

    if (argc != 2 + over || d < 0 ||
        (over ? fattach(d, argv[2]) : door_attach(d, argv[1], 0666))) {
        perror("plain");
        return 1;
    }
    puts("attached");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

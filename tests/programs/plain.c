/* A plain door that knows nothing of Cardea, at the path in its first argument:
 * gets the bytes of a request and returns the bytes of a response. For the path
 * /lie the response is none; for /big it is larger than most buffers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <door.h>

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    static const char lie[] = "HTTP/1.1 banana\r\n\r\n";
    static __thread char out[200000];
    size_t len, body = arg_size;
    int n;

    (void)cookie;
    (void)dp;
    (void)n_desc;
    if (arg_size > 9 && memcmp(argp, "GET /lie ", 9) == 0) {
        memcpy(out, lie, sizeof(lie) - 1);
        door_return(out, sizeof(lie) - 1, NULL, 0);
    }
    if (arg_size > 9 && memcmp(argp, "GET /big ", 9) == 0) {
        body = 150000;
    }
    if (body > sizeof(out) - 200) {
        body = sizeof(out) - 200;
    }
    n = snprintf(out, 200,
                 "HTTP/1.1 200 OK\r\nX-Door: plain\r\n"
                 "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                 body);
    len = (size_t)n;
    if (body == arg_size) {
        memcpy(out + len, argp, body);
    } else {
        memset(out + len, 'b', body);
    }
    door_return(out, len + body, NULL, 0);
}

int
main(int argc, char **argv)
{
    int d = door_create(procedure, NULL, 0);

    if (argc != 2 || d < 0 || door_attach(d, argv[1], 0666)) {
        perror("plain");
        return 1;
    }
    puts("attached");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

/* A plain door for `forward tcp ... to`: what it is called with decides what it
 * returns. Its path is the last argument or CARDEA_DOOR.
 *
 *   big N      N bytes of 'b'          sleep N   waits N ms, says "slept"
 *   crash      ends in the call        quit      returns without door_return
 *   size       how many bytes came     nothing   an empty answer
 *   anything else comes back as it is, with its length before it */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <door.h>

static size_t
number_after(const char *argp, size_t arg_size, const char *word)
{
    char text[32] = "";
    size_t n = strlen(word);

    if (arg_size < n || arg_size > 30 || memcmp(argp, word, n) != 0) {
        return 0;
    }
    memcpy(text, argp + n, arg_size - n);
    return strtoul(text, NULL, 10);
}

static int
is(const char *argp, size_t arg_size, const char *word)
{
    return arg_size == strlen(word) && memcmp(argp, word, arg_size) == 0;
}

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    static __thread char *room;
    size_t n;

    (void)cookie;
    (void)dp;
    free(room);
    room = NULL;
    if (n_desc != 0) {
        abort(); /* nobody passes any here */
    }
    if ((n = number_after(argp, arg_size, "big ")) > 0) {
        room = malloc(n);
        memset(room, 'b', n);
        door_return(room, n, NULL, 0);
    }
    if ((n = number_after(argp, arg_size, "sleep ")) > 0) {
        char text[] = "slept\n";
        fprintf(stderr, "sleeping %zu\n", n);
        usleep((useconds_t)n * 1000);
        door_return(text, 6, NULL, 0);
    }
    if (is(argp, arg_size, "crash")) {
        raise(SIGKILL);
    }
    if (is(argp, arg_size, "quit")) {
        return;
    }
    if (is(argp, arg_size, "nothing")) {
        door_return(NULL, 0, NULL, 0);
    }
    room = malloc(arg_size + 32);
    n = (size_t)snprintf(room, 32, "%zu:", arg_size);
    if (arg_size > 0) {
        memcpy(room + n, argp, arg_size);
    }
    door_return(room, n + arg_size, NULL, 0);
}

int
main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : getenv("CARDEA_DOOR");
    int d = door_create(procedure, NULL, 0);

    if (!path || d < 0 || door_attach(d, path, 0666) < 0) {
        perror("raw");
        return 1;
    }
    puts("attached");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

/* Doors that call doors. `nested door PATH [NEXT]`: a plain door at PATH that
 * tells what its call is part of, one word a line, and then what the door at
 * NEXT answers. `nested run|copies NEXT`: a program behind Cardea that answers
 * with what NEXT tells. Arguments of a call are the path asked for; /hold is
 * never answered by the last door, which says when its time is over. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cardea.h>
#include <door.h>

static const char *next;

/* Calls the door at NEXT with PATH, for R or for a plain door's call; what it
 * tells is added to OUT. */
static void
call_next(const struct cardea_request *r, const char *path, char *out,
          size_t size)
{
    char room[2000], what[300];
    size_t len = strlen(out);
    int d = door_open(next);

    snprintf(what, sizeof(what), "%s", path);
    door_arg_t arg = {.data_ptr = what,
                      .data_size = strlen(what) + 1,
                      .rbuf = room,
                      .rsize = sizeof(room)};
    if (d < 0 || door_call(d, &arg) < 0) {
        cardea_log(r, "no answer: errno %d", errno);
        snprintf(out + len, size - len, "errno=%d\n", errno);
    } else {
        snprintf(out + len, size - len, "%.*s", (int)arg.data_size,
                 arg.data_ptr);
    }
    close(d);
}

static void
tell(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    static __thread char out[4000];

    (void)cookie, (void)dp, (void)n_desc;
    if (arg_size == 0) {
        door_return(NULL, 0, NULL, 0);
    }
    cardea_log(NULL, "called");
    snprintf(out, sizeof(out), "id=%s\ntrace=%s\nleft=%" PRId64 "\ngone=%d\n",
             cardea_id(NULL), cardea_traceparent(NULL), cardea_time_left(NULL),
             cardea_gone(NULL));
    if (next) {
        call_next(NULL, argp, out, sizeof(out));
    } else if (strncmp(argp, "/hold", 5) == 0) {
        while (!cardea_gone(NULL)) {
            usleep(1000);
        }
        cardea_log(NULL, "over");
        for (;;) {
            pause();
        }
    }
    door_return(out, strlen(out), NULL, 0);
}

/* Behind Cardea as a plain door: a request comes, a response is returned. */
static void
respond(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
        unsigned int n_desc)
{
    static __thread char out[5000], all[6000];
    char path[300] = "";

    (void)cookie, (void)arg_size, (void)dp, (void)n_desc;
    sscanf(argp, "%*s %299s", path);
    out[0] = 0;
    call_next(NULL, path, out, sizeof(out));
    int n = snprintf(all, sizeof(all),
                     "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(out), out);
    door_return(all, (size_t)n, NULL, 0);
}

static void
answer(struct cardea_request *r)
{
    char out[5000];

    snprintf(out, sizeof(out), "own=%s\n", cardea_traceparent(r));
    call_next(r, cardea_path(r), out, sizeof(out));
    cardea_puts(r, out);
}

static int
serve(door_server_procedure_t *procedure, const char *path)
{
    int d = door_create(procedure, NULL, 0);

    if (d < 0 || door_attach(d, path, 0666) < 0) {
        perror(path);
        return 1;
    }
    puts("attached");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        return 2;
    }
    if (strcmp(argv[1], "run") == 0 || strcmp(argv[1], "copies") == 0) {
        next = argv[2];
        return argv[1][0] == 'r' ? cardea_serve_threads(answer)
                                 : cardea_serve(answer, NULL);
    }
    next = argc > 3 ? argv[3] : NULL;
    return serve(strcmp(argv[1], "plain") == 0 ? respond : tell, argv[2]);
}

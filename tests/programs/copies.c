/* A program of cardea_serve(): says which process answers, and does what the
 * query asks. */
#include <cardea.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compute.h"

static int calls; /* of this process */
static long warm; /* made before the first fork */
static pthread_mutex_t forever = PTHREAD_MUTEX_INITIALIZER;

static int
start(void *arg)
{
    const char *fails = getenv("COPIES_FAIL");

    fprintf(stderr, "copy %d of %d starts\n", (int)getpid(), (int)getppid());
    return fails && access(fails, F_OK) == 0;
}

static void
end(void *arg)
{
    fprintf(stderr, "copy %d ends\n", (int)getpid());
}

/* Writes what a test looks for in the log, as many do: by stdio, by a child,
 * by hand, and with no end. */
static void
say(struct cardea_request *r, const char *what)
{
    if (strcmp(what, "lines") == 0) {
        fprintf(stderr, "copy %d errs\n", (int)getpid());
        printf("copy %d prints\n", (int)getpid());
        fflush(stdout);
        if (system("echo a child of $PPID") != 0) {
            abort();
        }
    } else if (strcmp(what, "buffered") == 0) {
        printf("copy %d has printed\nand more\n", (int)getpid());
    } else if (strcmp(what, "lie") == 0) {
        fprintf(stderr, "request some-id [1]: copy %d lies\n", (int)getpid());
    } else if (strcmp(what, "log") == 0) {
        cardea_log(r, "copy %d logs", (int)getpid());
    } else {
        fprintf(stderr, "half a line of copy %d", (int)getpid());
    }
}

static void
handle(struct cardea_request *r)
{
    char value[32];
    size_t len;

    calls++;
    if (cardea_param(r, "first", value, sizeof value) >= 0) {
        say(r, value);
    }
    if (cardea_param(r, "ms", value, sizeof value) >= 0) {
        usleep((useconds_t)atoi(value) * 1000);
    }
    if (cardea_param(r, "us", value, sizeof value) >= 0) {
        compute(atoi(value));
    }
    if (cardea_param(r, "say", value, sizeof value) >= 0) {
        say(r, value);
    }
    if (cardea_param(r, "signal", value, sizeof value) >= 0) {
        raise(atoi(value));
    }
    if (cardea_param(r, "exit", value, sizeof value) >= 0) {
        exit(atoi(value));
    }
    cardea_body(r, &len);
    cardea_printf(r, "%d %d %ld %zu\n", (int)getpid(), calls, warm, len);
}

static void *
wait_forever(void *arg)
{
    pthread_mutex_lock(&forever);
    return NULL;
}

int
main(int argc, char **argv)
{
    struct cardea_hooks hooks = {.start = start, .end = end};
    pthread_t thread;

    warm = getpid();
    if (argc > 1 && strcmp(argv[1], "threads") == 0) {
        pthread_mutex_lock(&forever);
        pthread_create(&thread, NULL, wait_forever, NULL);
    }
    return cardea_serve(handle, &hooks);
}

/* ?ms=N sleeps, ?crash dies, ?once dies
 * if the folder LIFE_ONCE is not there yet, and makes it; ?fill=N takes N MiB
 * for good, ?hang and ?spin let this call and all that follow end never,
 * waiting or computing. Answers with its process number. The environment may
 * say how long it needs until it is ready: LIFE_START_MS. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cardea.h>

static atomic_bool hangs, spins;

/* In place of the C library's, for the threads that serve: no more of them once
 * the program hangs. */
int
pthread_create(pthread_t *id, const pthread_attr_t *attr,
               void *(*run)(void *arg), void *arg)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                void *) = dlsym(RTLD_NEXT, "pthread_create");

    return hangs ? EAGAIN : real(id, attr, run, arg);
}

static void
stand_still(void)
{
    for (;;) {
        if (!spins) {
            pause();
        }
    }
}

static void
serve(struct cardea_request *r)
{
    char text[16];
    const char *once;

    if (cardea_param(r, "fill", text, sizeof(text)) >= 0) {
        size_t size = (size_t)strtoul(text, NULL, 10) << 20;
        char *memory = malloc(size);

        if (memory != NULL) {
            memset(memory, 1, size);
        }
        fprintf(stderr, "filled %p\n", (void *)memory);
    }
    if (cardea_param(r, "ms", text, sizeof(text)) >= 0) {
        fprintf(stderr, "sleeping %s\n", text);
        usleep((useconds_t)strtol(text, NULL, 10) * 1000);
    }
    if (cardea_param(r, "spin", text, sizeof(text)) >= 0) {
        hangs = spins = true;
    } else if (cardea_param(r, "hang", text, sizeof(text)) >= 0) {
        hangs = true;
    }
    if (hangs) {
        fputs("stands still\n", stderr);
        stand_still();
    }
    if (cardea_param(r, "crash", text, sizeof(text)) >= 0) {
        abort();
    }
    once = getenv("LIFE_ONCE");
    if (once != NULL && cardea_param(r, "once", text, sizeof(text)) >= 0 &&
        mkdir(once, 0700) == 0) {
        abort();
    }
    if (cardea_param(r, "n", text, sizeof(text)) >= 0) {
        cardea_printf(r, "%d %s\n", (int)getpid(), text);
        return;
    }
    cardea_printf(r, "%d\n", (int)getpid());
}

int
main(void)
{
    const char *start = getenv("LIFE_START_MS");

    if (start != NULL) {
        usleep((useconds_t)strtol(start, NULL, 10) * 1000);
    }
    return cardea_serve_threads(serve);
}

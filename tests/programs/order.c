/* Answers with how many calls it was given before this one, says what it was
 * asked for, and takes one call at a time. */
#include <pthread.h>
#include <stdio.h>

#include <cardea.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int calls;

static void
answer(struct cardea_request *r)
{
    pthread_mutex_lock(&lock);
    fprintf(stderr, "called %s\n", cardea_path(r));
    cardea_printf(r, "%d", calls++);
    pthread_mutex_unlock(&lock);
}

int
main(void)
{
    return cardea_serve_threads(answer);
}

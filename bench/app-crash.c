/*
 * An app that dies in every call: what the rows about faults put beside a good
 * one.  No core file: writing one is not what is measured.
 */
#include <cardea.h>

#include <signal.h>
#include <sys/resource.h>

static void
crash(struct cardea_request *r)
{
    (void)r;
    raise(SIGSEGV);
}

int
main(void)
{
    struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
    return cardea_serve_threads(crash);
}

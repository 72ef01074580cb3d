/* Pools: door_server_create, door_xcreate, door_bind, door_unbind, depletion.
 * Sections 2.2 to 2.5. */
#include "conformance.h"

static void *
serve(void *arg)
{
    (void)arg;
    door_return(NULL, 0, NULL, 0);
    return NULL;
}

static void
start_thread(void *(*body)(void *), void *arg)
{
    pthread_t id;

    SAME(pthread_create(&id, NULL, body, arg), 0);
    pthread_detach(id);
}

/* ---- door_server_create ---- */

static door_info_t *last_info;

/* Counts in word 4, keeps what it was told, makes a thread. */
static void
creates(door_info_t *info)
{
    last_info = info;
    atomic_fetch_add(&shared[4], 1);
    start_thread(serve, NULL);
}

static void
creates_none(door_info_t *info)
{
    last_info = info;
    atomic_fetch_add(&shared[4], 1);
}

CASE("door_server_create: gives the previous function, first the default",
     previous)
{
    door_server_func_t *first = door_server_create(creates);

    CHECK(first != NULL && first != creates);
    CHECK(door_server_create(creates_none) == creates);
    CHECK(door_server_create(first) == creates_none); /* put back */
    SAME(call_text(door_create(echo, NULL, 0), "by default threads"), 0);
    SAME(shared[4], 0);
}

CASE("door_server_create: the default function makes a thread that serves",
     default_function)
{
    door_server_func_t *first = door_server_create(creates_none);
    int d = door_create(echo, NULL, 0);

    first(NULL);
    SAME(call_text(d, "by that thread"), 0);
}

CASE("door_server_create: called with NULL for the first door alone",
     first_door)
{
    door_server_create(creates_none);
    CHECK(door_create(echo, NULL, 0) >= 0);
    SAME(shared[4], 1);
    CHECK(last_info == NULL);
    CHECK(door_create(echo, NULL, 0) >= 0);
    SAME(shared[4], 1);
}

static void
child_counts_anew(void)
{
    atomic_store(&shared[4], 0);
    CHECK(door_create(echo, NULL, 0) >= 0);
    SAME(shared[4], 1); /* the function survives, the count does not */
}

CASE("door_server_create: survives fork, whose child counts anew", forked)
{
    door_server_create(creates_none);
    CHECK(door_create(echo, NULL, 0) >= 0);
    SAME(end_of(spawn(child_counts_anew)), 0);
}

CASE("door_server_create: called at once for each private door, with its info",
     private_doors)
{
    door_info_t info;

    door_server_create(creates_none);
    for (int i = 1; i <= 3; i++) {
        int d = door_create(echo, NULL, DOOR_PRIVATE);
        CHECK(d >= 0);
        SAME(shared[4], i);
        CHECK(last_info != NULL);
        SAME(door_info(d, &info), 0);
        CHECK(last_info->di_uniquifier == info.di_uniquifier);
        SAME((long long)(last_info->di_attributes & DOOR_PRIVATE),
             DOOR_PRIVATE);
        SAME((long long)(last_info->di_attributes & DOOR_DEPLETION_CB), 0);
    }
}

static void *
reads_info(void *arg)
{
    await(&shared[6], 1);
    atomic_store(&shared[7], (int)((door_info_t *)arg)->di_target);
    return NULL;
}

static void
looks_later(door_info_t *info)
{
    start_thread(reads_info, info);
}

CASE("door_server_create: the info may be read later", info_stays)
{
    door_server_create(looks_later);
    CHECK(door_create(echo, NULL, DOOR_PRIVATE) >= 0);
    atomic_store(&shared[6], 1);
    await(&shared[7], 1);
    SAME(shared[7], getpid());
}

static pthread_t within;

static void
notes_thread(door_info_t *info)
{
    (void)info;
    within = pthread_self();
    atomic_fetch_add(&shared[4], 1);
    if (shared[4] < 3) {
        start_thread(serve, NULL);
    }
}

static void
same_thread(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    atomic_store(&shared[8], pthread_equal(within, pthread_self()) ? 1 : 2);
    door_return(NULL, 0, NULL, 0);
}

CASE("door_server_create: at depletion, on the serving thread, before the "
     "procedure",
     depletion)
{
    door_server_create(notes_thread);
    int d = door_create(same_thread, NULL, 0);

    SAME(shared[4], 1);
    SAME(call_empty(d), 0);
    SAME(shared[4], 2);
    SAME(shared[8], 1);
}

CASE("door_server_create: with no more threads, calls serialise", serialises)
{
    struct caller c[4];

    door_server_create(notes_thread);
    atomic_store(&shared[4], 2); /* so that door_create's is the only one */
    start_thread(serve, NULL);
    int d = door_create(stay, NULL, 0);
    for (int i = 0; i < 4; i++) {
        caller_start(&c[i], d);
    }
    await(&shared[0], 1);
    usleep(50000);
    SAME(shared[0], 1); /* the others wait */
    atomic_store(&shared[1], 1);
    for (int i = 0; i < 4; i++) {
        SAME(caller_end(&c[i]), 0);
    }
    SAME(shared[0], 4);
}

CASE("pool: a procedure may call its own process's doors by default", own_doors)
{
    struct caller c;
    int d = door_create(stay, NULL, 0), e = door_create(echo, NULL, 0);

    caller_start(&c, d);
    await(&shared[0], 1);
    SAME(call_text(e, "another thread serves"), 0);
    atomic_store(&shared[1], 1);
    SAME(caller_end(&c), 0);
}

static _Atomic int who;

static void
tells_who(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    atomic_store(&who, gettid());
    door_return(NULL, 0, NULL, 0);
}

CASE("pool: last in, first served", lifo)
{
    struct caller c;
    int last = 0;
    int d = door_create(tells_who, NULL, 0);

    for (int i = 0; i < 20; i++) {
        caller_start(&c, d);
        SAME(caller_end(&c), 0);
        CHECK(i == 0 || atomic_load(&who) == last || i < 3);
        last = atomic_load(&who);
    }
}

static void
tells_cancel(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    int state;

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    door_return((char *)&state, sizeof state, NULL, 0);
}

CASE("pool: default threads have cancellation disabled", default_cancel)
{
    int state = -1;
    door_arg_t arg = {.rbuf = (char *)&state, .rsize = sizeof state};

    SAME(door_call(door_create(tells_cancel, NULL, 0), &arg), 0);
    SAME(state, PTHREAD_CANCEL_DISABLE);
}

static void
tells_mask(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    sigset_t mask;
    char blocked;

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    blocked = (char)sigismember(&mask, SIGUSR2);
    door_return(&blocked, 1, NULL, 0);
}

CASE("pool: default threads inherit the signal mask of who made the first door",
     mask)
{
    char blocked = 9;
    sigset_t set;
    door_arg_t arg = {.rbuf = &blocked, .rsize = 1};

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    SAME(door_call(door_create(tells_mask, NULL, 0), &arg), 0);
    SAME(blocked, 1);
}

/* ---- door_xcreate ---- */

static int
one_thread(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    (void)cookie;
    last_info = info;
    atomic_fetch_add(&shared[4], 1);
    start_thread(start, arg);
    return 1;
}

static int answer_of_create;

static int
answers(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    (void)info, (void)start, (void)arg, (void)cookie;
    return answer_of_create;
}

static int
second_fails(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    if (atomic_load(&shared[4]) == 1) {
        return 0;
    }
    return one_thread(info, start, arg, cookie);
}

CASE("door_xcreate: EINVAL without a thread, without a creation function",
     x_arguments)
{
    FAILS(door_xcreate(echo, NULL, 0, one_thread, NULL, NULL, 0), EINVAL);
    FAILS(door_xcreate(echo, NULL, 0, one_thread, NULL, NULL, -1), EINVAL);
    FAILS(door_xcreate(echo, NULL, 0, NULL, NULL, NULL, 1), EINVAL);
    SAME(shared[4], 0);
}

CASE("door_xcreate: EINVAL for DOOR_PRIVCREATE and unknown attributes", x_bits)
{
    FAILS(door_xcreate(echo, NULL, DOOR_PRIVCREATE, one_thread, NULL, NULL, 1),
          EINVAL);
    FAILS(door_xcreate(echo, NULL, 0x800, one_thread, NULL, NULL, 1), EINVAL);
    FAILS(door_xcreate(echo, NULL, DOOR_UNREF | DOOR_UNREF_MULTI, one_thread,
                       NULL, NULL, 1),
          EINVAL);
}

CASE("door_xcreate: EINVAL where the creation function chose not to", x_zero)
{
    answer_of_create = 0;
    FAILS(door_xcreate(echo, NULL, 0, answers, NULL, NULL, 1), EINVAL);
}

CASE("door_xcreate: EPIPE where it tried and failed", x_minus_one)
{
    answer_of_create = -1;
    FAILS(door_xcreate(echo, NULL, 0, answers, NULL, NULL, 1), EPIPE);
}

static void
x_two(void)
{
    answer_of_create = 2;
    freopen("/dev/null", "w", stderr);
    door_xcreate(echo, NULL, 0, answers, NULL, NULL, 1);
}

CASE("door_xcreate: any other answer ends the process", x_panics)
{
    SAME(end_of(spawn(x_two)), 256 + SIGABRT);
}

CASE("door_xcreate: all threads come up, or none serves and the door is gone",
     x_all_or_none)
{
    int fds = count_fds();

    CHECK(door_create(echo, NULL, 0) >= 0); /* what the library keeps */
    fds = count_fds();
    FAILS(door_xcreate(echo, NULL, 0, second_fails, NULL, NULL, 2), EINVAL);
    while (count_fds() > fds) {
        usleep(1000);
    }
}

CASE("door_xcreate: the creation function is called nthread times", x_n_threads)
{
    struct caller c[5];
    door_info_t info;
    int d = door_xcreate(stay, NULL, DOOR_NO_DEPLETION_CB, one_thread, NULL,
                         NULL, 5);

    CHECK(d >= 0);
    SAME(shared[4], 5);
    SAME(door_info(d, &info), 0);
    SAME((long long)info.di_attributes, DOOR_PRIVATE | DOOR_PRIVCREATE |
                                            DOOR_NO_DEPLETION_CB | DOOR_LOCAL |
                                            DOOR_IS_UNREF);
    for (int i = 0; i < 5; i++) {
        caller_start(&c[i], d);
    }
    await(&shared[0], 5);
    atomic_store(&shared[1], 1);
    for (int i = 0; i < 5; i++) {
        SAME(caller_end(&c[i]), 0);
    }
    SAME(shared[4], 5); /* never again with DOOR_NO_DEPLETION_CB */
}

static void
sets_up(void *cookie)
{
    CHECK(cookie == (void *)shared);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    atomic_fetch_add(&shared[5], 1);
}

CASE("door_xcreate: setupf runs in each thread, with the cookie", x_setup)
{
    int state = -1;
    door_arg_t arg = {.rbuf = (char *)&state, .rsize = sizeof state};
    int d = door_xcreate(tells_cancel, NULL, 0, one_thread, sets_up,
                         (void *)shared, 3);

    CHECK(d >= 0);
    SAME(shared[5], 3);
    SAME(door_call(d, &arg), 0);
    SAME(state, PTHREAD_CANCEL_ENABLE);
}

CASE("door_xcreate: without setupf cancellation is disabled and deferred",
     x_no_setup)
{
    int state = -1;
    door_arg_t arg = {.rbuf = (char *)&state, .rsize = sizeof state};
    int d = door_xcreate(tells_cancel, NULL, 0, one_thread, NULL, NULL, 1);

    SAME(door_call(d, &arg), 0);
    SAME(state, PTHREAD_CANCEL_DISABLE);
}

static int
first_only(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    int n = atomic_fetch_add(&shared[4], 1);

    (void)cookie;
    last_info = info;
    if (n > 0) {
        return n == 1 ? 0 : -1; /* tolerated at depletion */
    }
    start_thread(start, arg);
    return 1;
}

CASE("door_xcreate: depletion calls it once, with DOOR_DEPLETION_CB",
     x_depletion)
{
    int d = door_xcreate(echo, NULL, 0, first_only, NULL, NULL, 1);

    CHECK(d >= 0);
    SAME((long long)(last_info->di_attributes & DOOR_DEPLETION_CB), 0);
    SAME(call_text(d, "0 is tolerated"), 0);
    SAME(shared[4], 2);
    SAME((long long)(last_info->di_attributes & DOOR_DEPLETION_CB),
         DOOR_DEPLETION_CB);
    SAME(call_text(d, "and so is -1"), 0);
    SAME(shared[4], 3);
}

CASE("door_xcreate: the threads of one private door serve no other", x_apart)
{
    struct caller c;
    int d = door_xcreate(stay, NULL, DOOR_NO_DEPLETION_CB, one_thread, NULL,
                         NULL, 1);
    int e = door_xcreate(echo, NULL, DOOR_NO_DEPLETION_CB, one_thread, NULL,
                         NULL, 1);

    caller_start(&c, d);
    await(&shared[0], 1);
    SAME(call_text(e, "its own thread is free"), 0);
    atomic_store(&shared[1], 1);
    SAME(caller_end(&c), 0);
}

/* ---- door_bind, door_unbind ---- */

static int private_door = -1;

static void *
binds(void *arg)
{
    (void)arg;
    await(&shared[9], 1);
    SAME(door_bind(private_door), 0);
    door_return(NULL, 0, NULL, 0);
    return NULL;
}

static void
bound_threads(door_info_t *info)
{
    if (info) {
        start_thread(binds, NULL);
    }
}

CASE("door_bind: a bound thread serves its private door", bind_serves)
{
    door_server_create(bound_threads);
    private_door = door_create(echo, NULL, DOOR_PRIVATE);
    atomic_store(&shared[9], 1);
    SAME(call_text(private_door, "by the bound thread"), 0);
}

CASE("door_bind: EBADF for what is no door, EINVAL where it is not private",
     bind_errors)
{
    int d = door_create(echo, NULL, 0);

    FAILS(door_bind(-1), EBADF);
    FAILS(door_bind(0), EBADF);
    FAILS(door_bind(d), EINVAL);
}

CASE("door_bind: EINVAL for a door of another process", bind_foreign)
{
    int d;
    pid_t pid = server_start(echo, DOOR_PRIVATE, &d);

    FAILS(door_bind(d), EINVAL);
    server_end(pid);
}

CASE("door_bind: bound to another door, it leaves the first", bind_moves)
{
    door_info_t info, query;
    int a, b;

    door_server_create(creates_none);
    a = door_create(echo, NULL, DOOR_PRIVATE);
    b = door_create(echo, NULL, DOOR_PRIVATE);
    SAME(door_bind(a), 0);
    SAME(door_bind(b), 0);
    SAME(door_info(b, &info), 0);
    SAME(door_info(DOOR_QUERY, &query), 0);
    CHECK(query.di_uniquifier == info.di_uniquifier);
    SAME(door_unbind(), 0);
    FAILS(door_unbind(), EBADF);
}

CASE("door_unbind: EBADF where nothing is bound", unbind_errors)
{
    FAILS(door_unbind(), EBADF);
}

CASE("door_bind: the binding is no reference", bind_no_reference)
{
    door_info_t info;

    door_server_create(creates_none);
    int d = door_create(echo, NULL, DOOR_PRIVATE);
    SAME(door_bind(d), 0);
    SAME(door_info(d, &info), 0);
    SAME((long long)(info.di_attributes & DOOR_IS_UNREF), DOOR_IS_UNREF);
}

static void
bound_to_nothing(void)
{
    FAILS(door_return(NULL, 0, NULL, 0), EINVAL);
    SAME(door_unbind(), 0); /* and now it could serve */
    FAILS(door_unbind(), EBADF);
}

CASE("door_bind: in a child of fork the thread is bound to nothing",
     bind_forked)
{
    door_server_create(creates_none);
    int d = door_create(echo, NULL, DOOR_PRIVATE);
    SAME(door_bind(d), 0);
    SAME(end_of(spawn(bound_to_nothing)), 0);
}

static void *
binds_and_ends(void *arg)
{
    (void)arg;
    SAME(door_bind(private_door), 0);
    return NULL;
}

CASE("door_bind: the thread's end unbinds it", bind_ends)
{
    pthread_t id;

    door_server_create(creates_none);
    private_door = door_create(echo, NULL, DOOR_PRIVATE);
    pthread_create(&id, NULL, binds_and_ends, NULL);
    SAME(pthread_join(id, NULL), 0);
    FAILS(door_info(DOOR_QUERY, &(door_info_t){0}), EBADF);
}

CASES(&case_previous, &case_default_function, &case_first_door, &case_forked,
      &case_private_doors, &case_info_stays, &case_depletion, &case_serialises,
      &case_own_doors, &case_lifo, &case_default_cancel, &case_mask,
      &case_x_arguments, &case_x_bits, &case_x_zero, &case_x_minus_one,
      &case_x_panics, &case_x_all_or_none, &case_x_n_threads, &case_x_setup,
      &case_x_no_setup, &case_x_depletion, &case_x_apart, &case_bind_serves,
      &case_bind_errors, &case_bind_foreign, &case_bind_moves,
      &case_unbind_errors, &case_bind_no_reference, &case_bind_forked,
      &case_bind_ends)

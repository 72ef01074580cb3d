/* The thread calls of Solaris, each once, and a door whose threads are made by
 * thr_create(). */
#include <door.h>
#include <errno.h>
#include <stdio.h>
#include <stropts.h>
#include <synch.h>
#include <thread.h>

static int n, failed;

static void
check(int ok, const char *what)
{
    n++;
    failed += !ok;
    printf("%s %d - %s\n", ok ? "ok" : "not ok", n, what);
}

static mutex_t lock = DEFAULTMUTEX;
static cond_t changed = DEFAULTCV;
static rwlock_t rwlock = DEFAULTRWLOCK;
static sema_t sema;
static thread_key_t key;
static int state;
static thread_t server_thread;
static uint_t n_made;

static void *
sets_state(void *arg)
{
    void *mine = NULL;

    thr_setspecific(key, arg);
    thr_getspecific(key, &mine);
    thr_yield();
    mutex_lock(&lock);
    state = mine == arg;
    cond_broadcast(&changed);
    mutex_unlock(&lock);
    sema_post(&sema);
    thr_exit(arg);
    return NULL;
}

static void
test_threads(void)
{
    thread_t id = 0, departed = 0;
    void *status = NULL;
    int here;
    sigset_t set;

    check(thr_keycreate(&key, NULL) == 0, "thr_keycreate");
    check(sema_init(&sema, 0, USYNC_THREAD, NULL) == 0, "sema_init");
    check(sema_trywait(&sema) == EBUSY, "sema_trywait: EBUSY");
    check(thr_create(NULL, 0, sets_state, &here, THR_SUSPENDED, NULL) ==
              ENOTSUP,
          "thr_create: no THR_SUSPENDED");
    check(thr_create(NULL, 0, sets_state, &here, THR_BOUND | THR_NEW_LWP,
                     &id) == 0,
          "thr_create");
    mutex_lock(&lock);
    while (!state) {
        cond_wait(&changed, &lock);
    }
    mutex_unlock(&lock);
    check(thr_join(id, &departed, &status) == 0 && departed == id &&
              status == &here,
          "thr_join");
    check(sema_wait(&sema) == 0 && sema_destroy(&sema) == 0, "sema_wait");
    check(thr_create(NULL, thr_min_stack() + 65536, sets_state, NULL,
                     THR_DETACHED, &id) == 0,
          "thr_create, THR_DETACHED");
    sigemptyset(&set);
    check(thr_sigsetmask(SIG_BLOCK, &set, NULL) == 0, "thr_sigsetmask");
    check(thr_kill(thr_self(), 0) == 0, "thr_kill, thr_self");
    check(thr_setconcurrency(4) == 0 && thr_setconcurrency(-1) == EINVAL,
          "thr_setconcurrency");
}

static void
test_locks(void)
{
    struct timespec past = {1, 0};
    mutex_t recursive;
    cond_t cond;

    check(mutex_init(&recursive, USYNC_THREAD | LOCK_RECURSIVE, NULL) == 0 &&
              mutex_lock(&recursive) == 0 && mutex_trylock(&recursive) == 0 &&
              mutex_unlock(&recursive) == 0 && mutex_unlock(&recursive) == 0 &&
              mutex_destroy(&recursive) == 0,
          "mutex_init, LOCK_RECURSIVE");
    check(mutex_lock(&lock) == 0 && mutex_trylock(&lock) == EBUSY,
          "mutex_trylock: EBUSY");
    check(cond_init(&cond, USYNC_PROCESS, NULL) == 0 &&
              cond_timedwait(&cond, &lock, &past) == ETIME &&
              cond_destroy(&cond) == 0,
          "cond_timedwait: ETIME");
    mutex_unlock(&lock);
    check(rw_rdlock(&rwlock) == 0 && rw_tryrdlock(&rwlock) == 0 &&
              rw_trywrlock(&rwlock) == EBUSY && rw_unlock(&rwlock) == 0 &&
              rw_unlock(&rwlock) == 0 && rw_wrlock(&rwlock) == 0 &&
              rw_unlock(&rwlock) == 0,
          "rwlock_t");
}

static void
server(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n_desc)
{
    thread_t self = thr_self();

    (void)cookie, (void)size, (void)dp, (void)n_desc;
    server_thread = self;
    door_return(argp ? "served" : NULL, argp ? 7 : 0, NULL, 0);
}

static void *
serves(void *arg)
{
    (void)arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    door_return(NULL, 0, NULL, 0);
    return NULL;
}

static void
makes_threads(door_info_t *info)
{
    (void)info;
    mutex_lock(&lock);
    n_made++;
    mutex_unlock(&lock);
    thr_create(NULL, 0, serves, NULL, THR_BOUND | THR_DETACHED, NULL);
}

static void
test_door(void)
{
    char in[] = "in", out[64];
    door_arg_t arg = {in, sizeof in, NULL, 0, out, sizeof out};

    door_server_create(makes_threads);
    int d = door_create(server, NULL, 0);
    check(d >= 0 && isastream(d) == 0, "door_create");
    check(door_call(d, &arg) == 0 && arg.data_size == 7, "door_call");
    mutex_lock(&lock);
    check(n_made > 0, "threads by thr_create serve");
    mutex_unlock(&lock);
}

int
main(void)
{
    test_threads();
    test_locks();
    test_door();
    printf("1..%d\n", n);
    return failed != 0;
}

/* thread.h: the threads of Solaris and illumos, over POSIX threads, as far as
 * programs that use doors take them. All of it is in this header. The calls
 * return 0 or an error number, as their namesakes; see thr_create(3). */
#ifndef CARDEA_THREAD_H
#define CARDEA_THREAD_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef CARDEA_UINT_T
#define CARDEA_UINT_T
typedef unsigned int uint_t;
#endif

typedef pthread_t thread_t;
typedef pthread_key_t thread_key_t;
typedef pthread_mutex_t mutex_t;
typedef pthread_cond_t cond_t;
typedef sem_t sema_t;
#ifdef PTHREAD_RWLOCK_INITIALIZER /* not with -std=c99 alone */
typedef pthread_rwlock_t rwlock_t;
#define DEFAULTRWLOCK PTHREAD_RWLOCK_INITIALIZER
#endif

#define THR_BOUND     0x00000001
#define THR_NEW_LWP   0x00000002
#define THR_DETACHED  0x00000040
#define THR_SUSPENDED 0x00000080
#define THR_DAEMON    0x00000100

#define USYNC_THREAD    0x00
#define USYNC_PROCESS   0x01
#define LOCK_NORMAL     0x00
#define LOCK_ERRORCHECK 0x02
#define LOCK_RECURSIVE  0x04

#define DEFAULTMUTEX PTHREAD_MUTEX_INITIALIZER
#define DEFAULTCV    PTHREAD_COND_INITIALIZER

/* ---- threads ---- */

/* ENOTSUP for THR_SUSPENDED and for a STACK of the program's own; THR_BOUND and
 * THR_NEW_LWP are always so, THR_DAEMON is not heeded. */
static __inline__ int
thr_create(void *stack, size_t size, void *(*start)(void *), void *arg,
           long flags, thread_t *p_id)
{
    pthread_attr_t attr;
    thread_t id = 0;
    int e;

    if ((flags & THR_SUSPENDED) || stack) {
        return ENOTSUP;
    }
    e = pthread_attr_init(&attr);
    if (e != 0) {
        return e;
    }
    if (flags & THR_DETACHED) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    }
    if (size != 0) {
        e = pthread_attr_setstacksize(&attr, size);
    }
    if (e == 0) {
        e = pthread_create(&id, &attr, start, arg);
    }
    pthread_attr_destroy(&attr);
    if (e == 0 && p_id) {
        *p_id = id;
    }
    return e;
}

static __inline__ thread_t
thr_self(void)
{
    return pthread_self();
}

static __inline__ void
thr_yield(void)
{
    sched_yield();
}

static __inline__ void
thr_exit(void *status)
{
    pthread_exit(status);
}

/* Of the thread ID: any thread (ID 0) cannot be waited for, ENOTSUP. */
static __inline__ int
thr_join(thread_t id, thread_t *p_departed, void **p_status)
{
    int e = id == 0 ? ENOTSUP : pthread_join(id, p_status);

    if (e == 0 && p_departed) {
        *p_departed = id;
    }
    return e;
}

#ifdef SIG_BLOCK /* signals of POSIX: not with -std=c99 alone */
static __inline__ int
thr_kill(thread_t id, int signum)
{
    return pthread_kill(id, signum);
}

static __inline__ int
thr_sigsetmask(int how, const sigset_t *set, sigset_t *old)
{
    return pthread_sigmask(how, set, old);
}
#endif

static __inline__ size_t
thr_min_stack(void)
{
    return (size_t)sysconf(_SC_THREAD_STACK_MIN);
}

static __inline__ int
thr_setconcurrency(int n)
{
    return n < 0 ? EINVAL : 0;
}

static __inline__ int
thr_getconcurrency(void)
{
    return 0;
}

static __inline__ int
thr_keycreate(thread_key_t *p_key, void (*destructor)(void *))
{
    return pthread_key_create(p_key, destructor);
}

static __inline__ int
thr_setspecific(thread_key_t key, void *value)
{
    return pthread_setspecific(key, value);
}

static __inline__ int
thr_getspecific(thread_key_t key, void **p_value)
{
    *p_value = pthread_getspecific(key);
    return 0;
}

/* ---- locks ---- */

static __inline__ int
mutex_init(mutex_t *lock, int type, void *arg)
{
    pthread_mutexattr_t attr;
    int e = pthread_mutexattr_init(&attr);

    (void)arg;
    if (e != 0) {
        return e;
    }
    pthread_mutexattr_setpshared(&attr, type & USYNC_PROCESS);
#ifdef PTHREAD_RWLOCK_INITIALIZER /* not with -std=c99 alone */
    pthread_mutexattr_settype(
        &attr, type & LOCK_RECURSIVE    ? PTHREAD_MUTEX_RECURSIVE
               : type & LOCK_ERRORCHECK ? PTHREAD_MUTEX_ERRORCHECK
                                        : PTHREAD_MUTEX_DEFAULT);
#else
    if (type & (LOCK_RECURSIVE | LOCK_ERRORCHECK)) {
        pthread_mutexattr_destroy(&attr);
        return ENOTSUP;
    }
#endif
    e = pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return e;
}

static __inline__ int
mutex_destroy(mutex_t *lock)
{
    return pthread_mutex_destroy(lock);
}

static __inline__ int
mutex_lock(mutex_t *lock)
{
    return pthread_mutex_lock(lock);
}

static __inline__ int
mutex_trylock(mutex_t *lock)
{
    return pthread_mutex_trylock(lock);
}

static __inline__ int
mutex_unlock(mutex_t *lock)
{
    return pthread_mutex_unlock(lock);
}

static __inline__ int
cond_init(cond_t *cond, int type, void *arg)
{
    pthread_condattr_t attr;
    int e = pthread_condattr_init(&attr);

    (void)arg;
    if (e != 0) {
        return e;
    }
    pthread_condattr_setpshared(&attr, type & USYNC_PROCESS);
    e = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return e;
}

static __inline__ int
cond_destroy(cond_t *cond)
{
    return pthread_cond_destroy(cond);
}

static __inline__ int
cond_wait(cond_t *cond, mutex_t *lock)
{
    return pthread_cond_wait(cond, lock);
}

/* ETIME when the time of day UNTIL has come. */
static __inline__ int
cond_timedwait(cond_t *cond, mutex_t *lock, struct timespec *until)
{
    int e = pthread_cond_timedwait(cond, lock, until);

    return e == ETIMEDOUT ? ETIME : e;
}

static __inline__ int
cond_signal(cond_t *cond)
{
    return pthread_cond_signal(cond);
}

static __inline__ int
cond_broadcast(cond_t *cond)
{
    return pthread_cond_broadcast(cond);
}

#ifdef PTHREAD_RWLOCK_INITIALIZER
static __inline__ int
rwlock_init(rwlock_t *lock, int type, void *arg)
{
    pthread_rwlockattr_t attr;
    int e = pthread_rwlockattr_init(&attr);

    (void)arg;
    if (e != 0) {
        return e;
    }
    pthread_rwlockattr_setpshared(&attr, type & USYNC_PROCESS);
    e = pthread_rwlock_init(lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    return e;
}

static __inline__ int
rwlock_destroy(rwlock_t *lock)
{
    return pthread_rwlock_destroy(lock);
}

static __inline__ int
rw_rdlock(rwlock_t *lock)
{
    return pthread_rwlock_rdlock(lock);
}

static __inline__ int
rw_wrlock(rwlock_t *lock)
{
    return pthread_rwlock_wrlock(lock);
}

static __inline__ int
rw_tryrdlock(rwlock_t *lock)
{
    return pthread_rwlock_tryrdlock(lock);
}

static __inline__ int
rw_trywrlock(rwlock_t *lock)
{
    return pthread_rwlock_trywrlock(lock);
}

static __inline__ int
rw_unlock(rwlock_t *lock)
{
    return pthread_rwlock_unlock(lock);
}
#endif

/* ---- semaphores ---- */

static __inline__ int
sema_init(sema_t *sema, unsigned int count, int type, void *arg)
{
    (void)arg;
    return sem_init(sema, type & USYNC_PROCESS, count) < 0 ? errno : 0;
}

static __inline__ int
sema_destroy(sema_t *sema)
{
    return sem_destroy(sema) < 0 ? errno : 0;
}

static __inline__ int
sema_wait(sema_t *sema)
{
    return sem_wait(sema) < 0 ? errno : 0;
}

/* EBUSY when the count is 0. */
static __inline__ int
sema_trywait(sema_t *sema)
{
    if (sem_trywait(sema) < 0) {
        return errno == EAGAIN ? EBUSY : errno;
    }
    return 0;
}

static __inline__ int
sema_post(sema_t *sema)
{
    return sem_post(sema) < 0 ? errno : 0;
}

#ifdef __cplusplus
}
#endif
#endif

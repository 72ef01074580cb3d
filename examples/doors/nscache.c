/*
 * nscache: a daemon that remembers what the password file says of users.
 *
 *    nscache -s path          serves at path, until the name is taken away
 *    nscache path user ...     asks it for the numbers of users
 *    nscache -k path          takes the name away: then the daemon ends
 *
 * The door is private: the program makes its threads, at most MAXTHREADS, and
 * each binds itself to the door. That its last reference but the daemon's own
 * is gone is told to the daemon by DOOR_UNREF.
 *
 *    cc nscache.c -o nscache -ldoor -lpthread
 */
#include <door.h>
#include <stropts.h>
#include <thread.h>
#include <synch.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAXTHREADS 4
#define NSLOTS     64
#define MAXNAME    32

struct answer {
    int found;
    int cached;
    uid_t uid;
};

struct slot {
    char name[MAXNAME];
    struct answer answer;
};

static mutex_t lock = DEFAULTMUTEX;
static cond_t changed = DEFAULTCV;
static int door = -1; /* under the lock, as all that follows */
static int nthreads;
static int finished;
static struct slot slots[NSLOTS];

static unsigned
hash(const char *name)
{
    unsigned h = 5381;

    while (*name != '\0')
        h = h * 33 + (unsigned char)*name++;
    return (h % NSLOTS);
}

/* The lock is held: getpwnam() has one buffer for all threads. */
static struct answer
look_up(const char *name)
{
    struct slot *slot = &slots[hash(name)];
    struct passwd *pw;

    if (strcmp(slot->name, name) == 0) {
        slot->answer.cached = 1;
        return (slot->answer);
    }
    memset(slot, 0, sizeof(*slot));
    pw = getpwnam(name);
    if (pw != NULL) {
        slot->answer.found = 1;
        slot->answer.uid = pw->pw_uid;
    }
    snprintf(slot->name, sizeof(slot->name), "%s", name);
    return (slot->answer);
}

static void
lookup(void *cookie, char *arg, size_t size, door_desc_t *desc, uint_t ndesc)
{
    struct answer answer;

    if (arg == DOOR_UNREF_DATA) {
        mutex_lock(&lock);
        finished = 1;
        cond_broadcast(&changed);
        mutex_unlock(&lock);
        door_return(NULL, 0, NULL, 0);
        return;
    }
    memset(&answer, 0, sizeof(answer));
    if (size > 1 && size <= MAXNAME && arg[size - 1] == '\0') {
        mutex_lock(&lock);
        answer = look_up(arg);
        mutex_unlock(&lock);
    }
    door_return((char *)&answer, sizeof(answer), NULL, 0);
}

static void *
servant(void *arg)
{
    int d;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    mutex_lock(&lock);
    while (door < 0)
        cond_wait(&changed, &lock);
    d = door;
    mutex_unlock(&lock);
    if (door_bind(d) < 0) {
        perror("door_bind");
        return (NULL);
    }
    door_return(NULL, 0, NULL, 0);
    door_unbind();
    return (NULL);
}

/* Called when the door is made, and whenever its last thread has taken a call.
   At first there is no descriptor yet: the thread waits for it. */
static void
more(door_info_t *info)
{
    thread_t id;
    int wanted;

    if (info == NULL)
        return;
    mutex_lock(&lock);
    wanted = nthreads < MAXTHREADS;
    if (wanted)
        nthreads++;
    mutex_unlock(&lock);
    if (wanted &&
        thr_create(NULL, 0, servant, NULL, THR_BOUND | THR_DETACHED, &id)) {
        mutex_lock(&lock);
        nthreads--;
        mutex_unlock(&lock);
    }
}

static int
serve(const char *path)
{
    int d, fd;

    door_server_create(more);
    d = door_create(lookup, NULL, DOOR_PRIVATE | DOOR_UNREF | DOOR_REFUSE_DESC);
    if (d < 0) {
        perror("door_create");
        return (1);
    }
    fdetach(path);
    fd = open(path, O_RDWR | O_CREAT, 0644);
    if (fd < 0 || fattach(d, path) < 0) {
        perror(path);
        return (1);
    }
    close(fd);
    mutex_lock(&lock);
    door = d;
    cond_broadcast(&changed);
    while (!finished)
        cond_wait(&changed, &lock);
    mutex_unlock(&lock);
    door_revoke(d);
    printf("nobody is left\n");
    return (0);
}

static int
ask(const char *path, char **names, int n)
{
    struct answer answer;
    door_arg_t args;
    int i, d, bad = 0;

    d = open(path, O_RDONLY);
    if (d < 0) {
        perror(path);
        return (1);
    }
    for (i = 0; i < n; i++) {
        memset(&args, 0, sizeof(args));
        args.data_ptr = names[i];
        args.data_size = strlen(names[i]) + 1;
        args.rbuf = (char *)&answer;
        args.rsize = sizeof(answer);
        if (door_call(d, &args) < 0) {
            perror("door_call");
            return (1);
        }
        if (args.data_size != sizeof(answer) || !answer.found) {
            printf("%s: no such user\n", names[i]);
            bad = 1;
        } else {
            printf("%s: %ld%s\n", names[i], (long)answer.uid,
                   answer.cached ? ", remembered" : "");
        }
    }
    close(d);
    return (bad);
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "-s") == 0)
        return (serve(argv[2]));
    if (argc == 3 && strcmp(argv[1], "-k") == 0) {
        if (fdetach(argv[2]) == 0)
            return (0);
        perror(argv[2]);
        return (1);
    }
    if (argc >= 3)
        return (ask(argv[1], argv + 2, argc - 2));
    fprintf(stderr, "usage: nscache -s path | nscache -k path | "
                    "nscache path user ...\n");
    return (2);
}

/* Connections to one program: kept ones, and new ones; and the exchange of one
 * request and its answer over them, with a deadline. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Kept connections that wait for a request; more are closed. */
#define POOL_IDLE_MAX 64

/* How often, at most, an exchange asks whether somebody still waits. */
#define POOL_ASK_MS 250

struct pool {
    pthread_mutex_t lock;
    struct sockaddr_storage addr;
    socklen_t addr_len;
    unsigned generation; /* of the program; older connections are closed */
    unsigned n_fresh;    /* new ones of which nothing has come yet */
    unsigned n_idle;
    struct pool_idle {
        int fd;
        int64_t since;
    } idle[POOL_IDLE_MAX];
};

struct pool_conn {
    int fd;
    unsigned generation;
    bool kept;  /* it has answered before */
    bool fresh; /* counted in n_fresh */
};

void pool_init(struct pool *pool);

/* From now on connections lead to ADDR; the kept ones are closed, and those in
 * use when they come back. */
void pool_point(struct pool *pool, const struct sockaddr_storage *addr,
                socklen_t len);

/* A kept connection that looks alive, unless FRESH; else a new one. 0; or -1
 * with errno of socket(2) or connect(2), ETIMEDOUT: none until DEADLINE
 * (monotonic ns). */
int pool_take(struct pool *pool, bool fresh, int64_t deadline,
              struct pool_conn *conn);

/* Gives CONN back. KEEP: it may take another request; it is closed all the same
 * while new connections wait for their first byte: a program of few processes
 * takes them only when it has lost an old one. */
void pool_give(struct pool *pool, struct pool_conn *conn, bool keep);

/* Closes what has been idle since before BEFORE (monotonic ns). How many are
 * left. */
unsigned pool_expire(struct pool *pool, int64_t before);

enum pool_end {
    POOL_DONE,
    POOL_REFUSED, /* take() said that the answer is wrong */
    POOL_CLOSED,  /* the program hung up before the answer was whole */
    POOL_LATE,
    POOL_GONE, /* nobody waits for the answer */
};

struct pool_exchange {
    const char *head, *body; /* what is sent */
    size_t head_len, body_len;
    int64_t deadline; /* monotonic ns */
    /* Takes LEN bytes of the answer; 0 is its end. 1: go on, 0: it is whole,
     * -1: it is wrong. Goes on at the end: POOL_CLOSED. */
    int (*take)(void *arg, const char *bytes, size_t len);
    void *take_arg;
    int (*gone)(void *arg); /* does nobody wait any more? */
    void *gone_arg;
    size_t sent;  /* out: bytes that the kernel took */
    bool got_any; /* out: a byte of the answer came */
};

/* Sends the request over CONN and takes the answer; both at the same time, so
 * that neither side waits for ever for the other to read. */
enum pool_end pool_run(struct pool *pool, struct pool_conn *conn,
                       struct pool_exchange *x);

/* Monotonic nanoseconds. */
int64_t pool_now(void);

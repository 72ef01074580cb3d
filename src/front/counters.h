/* What the kernel itself counts of a TCP socket: how an heir knows what the
 * dead worker read and wrote but did not record. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct counters {
    uint64_t read, written; /* bytes since the socket's birth */
};

/* Reads what this side has taken from FD and given to it, both at one instant:
 * the looks are repeated until two agree. A FIN counts for neither side. A
 * socket that connected starts with one byte written. FD needs SO_OOBINLINE
 * from its birth: an urgent byte would shift what was read. false: FD is no TCP
 * socket, or the counters did not stand still in a thousand looks. tcp(7). */
bool counters_read(int fd, struct counters *out);

/* The peer of FD has said that it sends no more: *P_NS is how long after its
 * last byte, as the kernel saw both come (and in its milliseconds), whenever
 * that is noticed here. Too much if it has acknowledged something since. false:
 * FD is no TCP socket. */
bool counters_end_gap(int fd, uint64_t *p_ns);

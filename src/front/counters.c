/* Two questions (TCP_INFO and the queues) make one answer, and data or an
 * acknowledgement may come between them; so the first is asked again until both
 * answers to it agree. */
#include "front/counters.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/util.h"

#define TCP_STATES_OF_FIN_RECEIVED                                             \
    ((1u << 8) | (1u << 9) | (1u << 11) | (1u << 6)) /* CLOSE_WAIT, LAST_ACK,  \
                                                        CLOSING, TIME_WAIT */
#define TCP_STATES_OF_FIN_SENT                                                 \
    ((1u << 4) | (1u << 5) | (1u << 11) | (1u << 9) | (1u << 6))

static bool
look(int fd, struct tcp_info *info)
{
    socklen_t len = sizeof *info;

    memset(info, 0, sizeof *info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

bool
counters_end_gap(int fd, uint64_t *p_ns)
{
    struct tcp_info info;

    if (!look(fd, &info)) {
        return false;
    }
    /* Both are ages. A FIN without data is an acknowledgement like others. */
    *p_ns =
        info.tcpi_last_data_recv > info.tcpi_last_ack_recv
            ? (uint64_t)(info.tcpi_last_data_recv - info.tcpi_last_ack_recv) *
                  NS_PER_MS
            : 0;
    return true;
}

bool
counters_read(int fd, struct counters *out)
{
    struct tcp_info a, b;
    int in = 0, unsent = 0;

    if (!look(fd, &a)) {
        return false;
    }
    for (int i = 0; i < 1000; i++) {
        if (ioctl(fd, SIOCINQ, &in) < 0 || ioctl(fd, SIOCOUTQ, &unsent) < 0 ||
            !look(fd, &b)) {
            return false;
        }
        if (a.tcpi_bytes_received == b.tcpi_bytes_received &&
            a.tcpi_bytes_acked == b.tcpi_bytes_acked &&
            a.tcpi_state == b.tcpi_state) {
            uint32_t state = 1u << b.tcpi_state;
            out->read = b.tcpi_bytes_received - (uint64_t)in -
                        ((state & TCP_STATES_OF_FIN_RECEIVED) != 0);
            out->written = b.tcpi_bytes_acked + (uint64_t)unsent -
                           ((state & TCP_STATES_OF_FIN_SENT) != 0);
            return true;
        }
        a = b;
    }
    return false;
}

/* An honest caller beside the hostile ones: calls the door at PATH until its
 * input ends, checks every answer, and prints how many were right. Exit status
 * 1 at the first that is wrong, late by more than 10 s, or an error. */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "door.h"

static double
seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
    struct pollfd in = {.fd = 0, .events = POLLIN};
    unsigned long n = 0;
    int d = argc == 2 ? door_open(argv[1]) : -1;
    static char data[3000], room[3000];

    if (d < 0) {
        perror("honest: door_open");
        return 1;
    }
    while (poll(&in, 1, 0) == 0) {
        size_t len = 20 + n % 2900;
        memset(data, 'a' + (int)(n % 26), len);
        snprintf(data, sizeof data, "honest %lu", n);
        door_arg_t arg = {.data_ptr = data,
                          .data_size = len,
                          .rbuf = room,
                          .rsize = sizeof room};
        double began = seconds();
        if (door_call(d, &arg) < 0) {
            fprintf(stderr, "honest: call %lu: %s\n", n, strerror(errno));
            return 1;
        }
        if (arg.data_size != len || arg.data_ptr != room ||
            memcmp(room, data, len) != 0) {
            fprintf(stderr, "honest: call %lu got another answer\n", n);
            return 1;
        }
        if (seconds() - began > 10) {
            fprintf(stderr, "honest: call %lu waited too long\n", n);
            return 1;
        }
        n++;
        if (n == 1) {
            puts("ready");
            fflush(stdout);
        }
    }
    printf("%lu\n", n);
    return 0;
}

/* Opens rings to the door at the path in its argument, publishes no call, and
 * sends bells, wakes and descriptors over them as fast as it can, until it is
 * ended. The first descriptor of each is one that is slow to close. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attacks.h"
#include "door/dial.h"
#include "door/ring.h"
#include "door/sys.h"

#define RINGS 4

static void *
flood(void *arg)
{
    const struct ring *r = arg;
    int fd = lingering(), e;
    struct door_note first = {.kind = DOOR_NOTE_FDS, .n_fds = 1};

    SURE(door_send(r->conn, &first, sizeof first, &fd, 1) == 0);
    close(fd);
    SURE((fd = memfd_create("file", MFD_CLOEXEC)) >= 0);
    e = 0;
    for (uint32_t i = 0; e == 0 || e == EAGAIN || e == ETOOMANYREFS; i++) {
        struct door_note note = {.kind = 1 + i % 3, .seq = i, .n_fds = i % 5};
        e = door_send(r->conn, &note, i % 11 == 0 ? 3 : sizeof note, &fd,
                      i % 7 == 0);
    }
    fprintf(stderr, "caller: the door is gone (%d)\n", e);
    exit(1);
}

int
main(int argc, char **argv)
{
    static struct ring rings[RINGS];
    static struct ring_tables tables[RINGS];

    for (int i = 0; argc == 2 && i < RINGS; i++) {
        pthread_t thread;
        int e, door = door_dial(argv[1]);

        ring_init(&rings[i], &tables[i]);
        if (door < 0 || ring_open(&rings[i], door, -1, NULL) != 0) {
            perror("caller");
            return 1;
        }
        while ((e = ring_greeted(&rings[i])) == EAGAIN) {
            door_wait_readable(rings[i].conn, 1000000000u);
        }
        if (e != 0 || pthread_create(&thread, NULL, flood, &rings[i]) != 0) {
            fprintf(stderr, "caller: no ring (%d)\n", e);
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

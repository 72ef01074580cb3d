/* Answers with a file in memory of ?size=N bytes (byte i is i modulo 251), from
 * ?from=N on; with ?over=N it claims that there are N bytes more. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cardea.h>

#define PERIOD 251
#define PART   (PERIOD * 1024)

static size_t
number(struct cardea_request *r, const char *name)
{
    char text[32];

    return cardea_param(r, name, text, sizeof(text)) > 0
               ? strtoul(text, NULL, 10)
               : 0;
}

static int
make_file(size_t size)
{
    static __thread unsigned char part[PART];
    int fd = memfd_create("file", MFD_CLOEXEC);

    for (size_t i = 0; i < PART; i++) {
        part[i] = (unsigned char)(i % PERIOD);
    }
    while (fd >= 0 && size > 0) {
        size_t n = size < PART ? size : PART;

        ssize_t put = write(fd, part, n);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put != (ssize_t)n) {
            close(fd);
            return -1;
        }
        size -= n;
    }
    return fd;
}

static void
answer(struct cardea_request *r)
{
    size_t size = number(r, "size"), from = number(r, "from");
    int fd = make_file(size);

    if (fd < 0) {
        cardea_status(r, 500);
        return;
    }
    cardea_type(r, "application/octet-stream");
    cardea_puts(r, "this is replaced");
    if (cardea_send_file(r, fd, (off_t)from, size - from + number(r, "over"))) {
        cardea_printf(r, ", but for %s", strerrorname_np(errno));
    } else if (cardea_puts(r, "too late") == 0 || errno != EALREADY) {
        abort();
    }
    close(fd);
}

int
main(void)
{
    return cardea_serve_threads(answer);
}

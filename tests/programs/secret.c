/* Answers with the secret that the path names. No real program would. */
#include <cardea.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void
answer(struct cardea_request *r)
{
    char text[256];
    int fd = cardea_secret(cardea_path(r) + 1);
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text), 0);

    if (n < 0) {
        cardea_printf(r, "%s\n", strerror(errno));
    } else {
        cardea_write(r, text, (size_t)n);
    }
}

int
main(void)
{
    return cardea_serve_threads(answer);
}

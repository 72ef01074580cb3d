/* An honest program, used in ways that once went wrong. By the last word of the
 * path:
 *
 *   words   ?id=N&kb=N&room=N  that much of the word N, at the start of so much
 *                       room, written at once, then a pause
 *   file    ?mb=N&ms=N  a file of that size, then a pause before the answer
 *   slow    ?ms=N       a pause
 *   target              what was asked of whom
 *   fast                nothing but "fast" */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cardea.h>

static unsigned long
number(struct cardea_request *r, const char *name)
{
    char text[16];

    return cardea_param(r, name, text, sizeof text) > 0
               ? strtoul(text, NULL, 10)
               : 0;
}

static void
answer_words(struct cardea_request *r)
{
    size_t len = (size_t)number(r, "kb") << 10;
    uint32_t id = (uint32_t)number(r, "id");
    uint32_t *words = cardea_room(r, (size_t)number(r, "room") << 10);

    if (!words) {
        cardea_status(r, 507);
        return;
    }
    for (size_t i = 0; i < len / sizeof id; i++) {
        words[i] = id;
    }
    usleep(30000); /* others ask for room meanwhile */
    cardea_commit(r, len);
}

static void
answer_file(struct cardea_request *r)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    size_t size = (size_t)number(r, "mb") << 20;

    if (ftruncate(fd, (off_t)size) < 0 ||
        cardea_send_file(r, fd, 0, size) < 0) {
        cardea_status(r, 507);
    }
    close(fd);
}

static void
answer(struct cardea_request *r)
{
    const char *word = strrchr(cardea_path(r), '/');

    if (strcmp(word, "/words") == 0) {
        answer_words(r);
    } else if (strcmp(word, "/file") == 0) {
        answer_file(r);
    } else if (strcmp(word, "/target") == 0) {
        cardea_printf(r, "%s of %s", cardea_target(r), cardea_host(r));
    } else {
        cardea_puts(r, word + 1);
    }
    usleep((useconds_t)number(r, "ms") * 1000);
}

int
main(void)
{
    return cardea_serve_threads(answer);
}

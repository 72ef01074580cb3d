/* Lines for Cardea's log that tell whose they are: see cohort/tag.h, which
 * reads them. One write each, no longer than what a pipe takes whole (pipe(7)),
 * so that those of other threads and copies do not come between. */
#include "cardea.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "door/native.h"

#define TEXT_MAX 1700 /* with its tag a line that the log takes whole */
#define TAG_MAX  100

/* Adds one line with TAG before it to LINES; the length then. One that does not
 * fit is left out. */
static size_t
add_line(char *lines, size_t len, const char *tag, const char *text, size_t n)
{
    size_t tag_len = strlen(tag);

    if (len + tag_len + n + 1 > PIPE_BUF) {
        return len;
    }
    memcpy(lines + len, tag, tag_len);
    memcpy(lines + len + tag_len, text, n);
    lines[len + tag_len + n] = '\n';
    return len + tag_len + n + 1;
}

void
cardea_vlog(const struct cardea_request *r, const char *format, va_list args)
{
    int error = errno;
    const char *id = r || door_context_plain() ? cardea_id(r) : "";
    char text[TEXT_MAX + 1];
    char tag[TAG_MAX];
    char lines[PIPE_BUF];
    size_t len = 0;
    char *at = text;

    if (vsnprintf(text, sizeof(text), format, args) < 0) {
        errno = error;
        return;
    }
    snprintf(tag, sizeof(tag), "request %.64s [%d]: ", id[0] != '\0' ? id : "-",
             (int)getpid());
    for (;;) {
        size_t n = strcspn(at, "\n");

        /* A newline at the end is not another line. */
        if (n > 0 || at == text || at[n] != '\0') {
            len = add_line(lines, len, tag, at, n);
        }
        if (at[n] == '\0') {
            break;
        }
        at += n + 1;
    }
    if (write(2, lines, len) < 0) {
        /* nobody listens */
    }
    errno = error;
}

void
cardea_log(const struct cardea_request *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    cardea_vlog(r, format, args);
    va_end(args);
}

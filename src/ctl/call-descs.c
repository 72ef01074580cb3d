/* Descriptors that the verb call passes and gets. See call-descs.h. */
#include "ctl/call-descs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/plain.h"

/* The number that WORD is; -1: it is a path. */
static int
number(const char *word)
{
    size_t digits = strspn(word, "0123456789");

    return digits > 0 && digits < 7 && word[digits] == '\0' ? atoi(word) : -1;
}

static int
refuse(struct ctl *ctl, const char *word, const char *why, int error)
{
    fputs("cardea call: --fd ", ctl->errors);
    plain_put(ctl->errors, word);
    fprintf(ctl->errors, ": %s: %s (%s)\n", why, strerrordesc_np(error),
            strerrorname_np(error));
    return error == EBADF ? CTL_USAGE : CTL_FAILED;
}

int
call_descs_open(struct ctl *ctl, door_desc_t descs[CTL_FDS_MAX])
{
    int status = CTL_OK;
    size_t n = 0;

    for (; n < ctl->n_fds && status == CTL_OK; n++) {
        const char *word = ctl->fds[n];
        int fd = number(word);

        descs[n] = (door_desc_t){.d_attributes = DOOR_DESCRIPTOR};
        if (fd < 0) {
            fd = open(word, O_RDONLY | O_CLOEXEC | O_NOCTTY);
            descs[n].d_attributes |= DOOR_RELEASE;
            status = fd < 0 ? refuse(ctl, word, "cannot open it", errno) : 0;
        } else if (fcntl(fd, F_GETFD) < 0) {
            status = refuse(ctl, word, "no such descriptor", errno);
        }
        descs[n].d_data.d_desc.d_descriptor = fd;
    }
    for (size_t i = 0; i < n && status != CTL_OK; i++) {
        if ((descs[i].d_attributes & DOOR_RELEASE) != 0 &&
            descs[i].d_data.d_desc.d_descriptor >= 0) {
            close(descs[i].d_data.d_desc.d_descriptor);
        }
    }
    return status;
}

void
call_descs_show(struct ctl *ctl, const char *name, const door_desc_t *descs,
                unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int fd = descs[i].d_data.d_desc.d_descriptor;
        char link[64], what[PATH_MAX];
        ssize_t len;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        len = readlink(link, what, sizeof(what) - 1);
        what[len > 0 ? len : 0] = '\0';
        fprintf(ctl->errors,
                "cardea call: %s returned descriptor %u of %u: ", name, i + 1,
                n);
        if (descs[i].d_attributes == DOOR_DESCRIPTOR) {
            plain_put(ctl->errors, what[0] != '\0' ? what : "unknown");
        } else {
            fprintf(ctl->errors, "door %llx",
                    (unsigned long long)descs[i].d_data.d_desc.d_id);
        }
        fputs(" (closed here)\n", ctl->errors);
        close(fd);
    }
}

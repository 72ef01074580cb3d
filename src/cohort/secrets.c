/* `secret NAME from FILE`: the keeper opens the file, which the module's user
 * need not be able to read, and the program finds its content behind a
 * descriptor. Environment and command line are no place for it: both are
 * copied to every child, into core files and into what people send each other.
 *
 * The content is copied into sealed memory, for each start anew: the file may
 * be changed or replaced while a program runs, nobody can write through the
 * descriptor, and a file system that fails later does not matter.
 *
 * Invariants: the keeper keeps no content between two starts; descriptors of
 * secrets are numbers from SECRETS_FIRST on, without a gap, in the order of the
 * file. */
#include "cohort/keeper_priv.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

#define SECRETS_FIRST 3

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u /* Linux 6.3 */
#endif

void
secrets_variable(const char *name, char out[SECRETS_VARIABLE])
{
    size_t len = 0;

    snprintf(out, SECRETS_VARIABLE, "CARDEA_SECRET_");
    for (len = strlen(out); *name != '\0' && len < SECRETS_VARIABLE - 1;
         name++) {
        out[len++] = (char)(*name == '-' ? '_' : toupper((unsigned char)*name));
    }
    out[len] = '\0';
}

int
secrets_number(size_t index)
{
    return SECRETS_FIRST + (int)index;
}

/* Opens PATH, which must be a plain file of at most SECRETS_SIZE bytes. A
 * descriptor, or a negative errno; then *P_WHY is what to say, if not errno's
 * text. */
static int
open_file(const char *path, const char **p_why, mode_t *p_mode)
{
    /* O_NONBLOCK: a FIFO must not hold us up until it is known as one. */
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int rc;

    *p_why = NULL;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        *p_why = "it is no plain file";
        return -EINVAL;
    }
    if (st.st_size > SECRETS_SIZE) {
        *p_why = "it has more than 1 MB";
        return -EFBIG;
    }
    *p_mode = st.st_mode;
    rc = fd;
    fd = -1;
    return rc;
}

/* Copies what FROM gives to TO; no trace stays on our stack. */
static int
copy(int from, int to)
{
    char bytes[4096];
    size_t total = 0;
    int rc = 0;

    while (rc == 0) {
        ssize_t n = read(from, bytes, sizeof(bytes));

        if (n <= 0) {
            rc = n == 0 ? 1 : errno == EINTR ? 0 : -errno;
            continue;
        }
        total += (size_t)n;
        if (total > SECRETS_SIZE) { /* it grows while we read */
            rc = -EFBIG;
        } else if (write(to, bytes, (size_t)n) != n) {
            rc = -EIO; /* memory takes all or is full */
        }
    }
    explicit_bzero(bytes, sizeof(bytes));
    return rc < 0 ? rc : 0;
}

/* The content of PATH as sealed memory, read from its start. */
static int
open_secret(const char *path, const char **p_why)
{
    mode_t mode;
    CLEAN_FD int file = open_file(path, p_why, &mode);
    CLEAN_FD int memory = -1;
    int rc = file;

    if (rc < 0) {
        return rc;
    }
    memory = memfd_create("secret",
                          MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (memory < 0 && errno == EINVAL) {
        memory = memfd_create("secret", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (memory < 0) {
        return -errno;
    }
    rc = copy(file, memory);
    if (rc == 0 &&
        (lseek(memory, 0, SEEK_SET) < 0 ||
         fcntl(memory, F_ADD_SEALS,
               F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)) {
        rc = -errno;
    }
    if (rc == 0) {
        rc = memory;
        memory = -1;
    }
    return rc;
}

int
secrets_open(struct keeper_module *m, struct spawn_fd *fds)
{
    const struct conf_entries *secrets = &m->conf->secrets;

    for (size_t i = 0; i < secrets->n; i++) {
        const char *why = NULL;
        int fd = open_secret(secrets->list[i].value, &why);

        fds[i] = (struct spawn_fd){fd, secrets_number(i)};
        if (fd < 0) {
            struct log_line line;

            keeper_log_begin(m->keeper, &line, LOG_ERROR, "no-secret");
            log_text(&line, "module", m->conf->name);
            log_text(&line, "secret", secrets->list[i].name);
            log_text(&line, "path", secrets->list[i].value);
            log_text(&line, "cause", why != NULL ? why : strerrordesc_np(-fd));
            keeper_log_end(m->keeper, &line);
            secrets_close(fds, i);
            return fd;
        }
    }
    return 0;
}

void
secrets_close(const struct spawn_fd *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        close(fds[i].from);
    }
}

/* One sentence about a secret of MODULE, with its place in the file. */
static void
say(struct keeper *k, const struct conf_entry *secret, const char *why,
    const char *mend)
{
    char text[PATH_MAX + 512];

    snprintf(text, sizeof(text), "%s:%d:%d: secret %s from %s: %s: %s",
             conf_where_file(k->conf, secret->where), secret->where.line,
             secret->where.column, secret->name, secret->value, why, mend);
    keeper_say(k, text);
}

/* Two names that are one variable would be one secret. */
static bool
is_told_apart(const struct conf_entries *secrets, size_t index)
{
    char ours[SECRETS_VARIABLE];
    char other[SECRETS_VARIABLE];

    secrets_variable(secrets->list[index].name, ours);
    for (size_t i = 0; i < index; i++) {
        secrets_variable(secrets->list[i].name, other);
        if (strcmp(ours, other) == 0) {
            return false;
        }
    }
    return true;
}

static void
warn_open(struct keeper *k, const struct conf_module *module,
          const struct conf_entry *secret)
{
    struct log_line line;

    keeper_log_begin(k, &line, LOG_WARN, "open-secret");
    log_text(&line, "module", module->name);
    log_text(&line, "secret", secret->name);
    log_text(&line, "path", secret->value);
    log_text(&line, "cause", "every user may read the file");
    log_text(&line, "hint", "chmod o= on it");
    keeper_log_end(k, &line);
}

static int
check_one(struct keeper *k, const struct conf_module *module, size_t index)
{
    const struct conf_entry *secret = &module->secrets.list[index];
    const char *why = NULL;
    mode_t mode = 0;
    int fd;

    if (index >= SECRETS_MAX) {
        say(k, secret, "a module has at most 32", "put several into one file");
        return -E2BIG;
    }
    if (!is_told_apart(&module->secrets, index)) {
        say(k, secret, "its variable is another's of the module",
            "give it another name; case, '-' and '_' do not count");
        return -EINVAL;
    }
    fd = open_file(secret->value, &why, &mode);
    if (fd < 0) {
        say(k, secret, why != NULL ? why : strerrordesc_np(-fd),
            fd == -EACCES ? "let the user whom Cardea runs as read it"
                          : "name a plain file of at most 1 MB");
        return fd;
    }
    close(fd);
    if ((mode & S_IROTH) != 0) {
        warn_open(k, module, secret);
    }
    return 0;
}

int
secrets_check(struct keeper *k)
{
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        const struct conf_module *module = &k->conf->modules[i];

        for (size_t j = 0; j < module->secrets.n; j++) {
            int rc = check_one(k, module, j);

            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

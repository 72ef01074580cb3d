/* The verb save: asks a server what it serves, and writes that behind what the
 * file says already; the unit of systemd beside it. Nothing that was there is
 * changed: what would clash is refused before a byte is written, and what was
 * written in part is taken back.
 *
 * What another process says becomes a configuration that somebody will run. So
 * only this user's own server and root's are asked, and the text must pass as a
 * configuration. */
#include "ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/plain.h"
#include "base/util.h"
#include "base/world.h"
#include "conf/conf.h"
#include "conf/text.h"
#include "ctl/server.h"
#include "ctl/unit.h"

#define TEXT_MAX   (1u << 20) /* as a configuration */
#define TEXT_LIMIT (10 * NS_PER_SEC)
#define UNIT_NAME  "cardea.service"

struct save {
    struct ctl *ctl;
    struct server server;
    const char *file; /* to be written */
    bool is_there;    /* it exists */
    bool is_its_own;  /* it is the server's own already */
    char *text;       /* what the server said; LEN bytes and a NUL */
    size_t len;
};

/* "cardea save: WHAT: WHY"; the status of a failure. */
static int
refuse(const struct ctl *ctl, const char *what, const char *why)
{
    fputs("cardea save: ", ctl->errors);
    plain_put(ctl->errors, what);
    fputs(": ", ctl->errors);
    plain_put(ctl->errors, why);
    fputc('\n', ctl->errors);
    return CTL_FAILED;
}

/* --- The server ----------------------------------------------------------- */

static int
read_text(struct save *save)
{
    uint64_t deadline = world_real()->now(NULL) + TEXT_LIMIT;
    CLEAN_FREE char *line = malloc(TEXT_MAX);
    int rc = 1;

    save->text = malloc(TEXT_MAX + 1);
    if (line == NULL || save->text == NULL) {
        /* not reached: memory is gone */
        return refuse(save->ctl, save->file, "out of memory");
    }
    while (rc == 1) {
        rc = server_line(&save->server, line, TEXT_MAX, deadline);
        if (rc == 1 && strlen(line) + 1 > TEXT_MAX - save->len) {
            errno = EFBIG;
            rc = -1;
        }
        if (rc == 1) {
            size_t n = strlen(line);

            memcpy(save->text + save->len, line, n);
            save->text[save->len + n] = '\n';
            save->len += n + 1;
        }
    }
    save->text[save->len] = '\0';
    return rc == 0 ? CTL_OK
                   : refuse(save->ctl, "the server stopped answering",
                            strerrordesc_np(errno));
}

/* Whose server it is, and what it serves. */
static int
ask(struct save *save)
{
    static const char *const none[] = {NULL};
    const char *const *files = save->ctl->files;
    struct stat a, b;
    int status;

    save->ctl->files = none; /* what is in this folder is where it goes */
    status = server_find(save->ctl, "save", false, &save->server);
    save->ctl->files = files;
    if (status != CTL_OK) {
        return status;
    }
    if (save->server.is_foreign ||
        (save->server.uid != geteuid() && save->server.uid != 0)) {
        return refuse(save->ctl, save->server.file,
                      "the server of another user; save it as that user");
    }
    save->is_its_own = stat(save->server.file, &a) == 0 &&
                       stat(save->file, &b) == 0 && a.st_dev == b.st_dev &&
                       a.st_ino == b.st_ino;
    if (save->is_its_own) {
        return CTL_OK;
    }
    status = server_ask(save->ctl, "save", &save->server, "configuration");
    return status == CTL_OK ? read_text(save) : status;
}

/* --- The file ------------------------------------------------------------- */

/* What of NEW is in OLD already, as a sentence in WHY. */
static bool
clashes(const struct conf *old, const struct conf *new, char *why, size_t size)
{
    for (size_t i = 0; i < new->n_modules * old->n_modules; i++) {
        const char *name = new->modules[i % new->n_modules].name;

        if (strcmp(name, old->modules[i / new->n_modules].name) == 0) {
            snprintf(why, size,
                     "it has a module %s already, and stays as it is; write "
                     "into another file: cardea save FILE",
                     name);
            return true;
        }
    }
    for (size_t i = 0; i < new->n_listens * old->n_listens; i++) {
        const struct conf_listen *listen = &new->listens[i % new->n_listens];

        if (conf_address_overlap(listen, &old->listens[i / new->n_listens])) {
            snprintf(why, size,
                     "it listens at %.256s already, and stays as it is; serve "
                     "at another address, or write into another file: cardea "
                     "save FILE",
                     listen->text);
            return true;
        }
    }
    return false;
}

/* Would the file still be a configuration with the new text behind the old? */
static int
check_file(struct save *save)
{
    struct ctl *ctl = save->ctl;
    struct conf *new =
        conf_parse(save->file, save->text, save->len, ctl->errors);
    struct conf *old =
        save->is_there ? conf_load(save->file, NULL, ctl->errors) : NULL;
    char why[512];
    int status = CTL_OK;

    if (new == NULL) {
        status = refuse(ctl, save->server.file,
                        "what this server says is no configuration; nothing "
                        "was written");
    } else if (save->is_there && old == NULL) {
        status = refuse(ctl, save->file,
                        "it has mistakes; mend them first; nothing was "
                        "written");
    } else if (old != NULL && clashes(old, new, why, sizeof(why))) {
        status = refuse(ctl, save->file, why);
    }
    conf_free(new);
    conf_free(old);
    return status;
}

/* Writes TEXT behind what is at PATH (IS_NEW: nothing may be), all or nothing.
 * 0, or an errno. */
static int
append(const char *path, bool is_new, const char *text, size_t len)
{
    CLEAN_FD int fd = open(path,
                           O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK |
                               O_NOCTTY | (is_new ? O_CREAT | O_EXCL : 0),
                           0644);
    struct stat st;
    size_t done = 0;
    ssize_t n = 0;
    int error;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return EINVAL;
    }
    while (done < len) {
        n = write(fd, text + done, len - done);
        if (n < 0 && errno != EINTR) {
            break;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (done == len && fsync(fd) == 0) {
        return 0;
    }
    error = errno;
    if (is_new) {
        unlink(path);
    } else if (ftruncate(fd, st.st_size) < 0) {
        return error; /* what the disk does not take back stays */
    }
    return error;
}

static int
write_file(struct save *save)
{
    int status = check_file(save);
    CLEAN_FREE char *text = NULL;
    int len, error;

    if (status != CTL_OK) {
        return status;
    }
    len = asprintf(&text, "%s%s", save->is_there ? "\n" : "", save->text);
    if (len < 0) {
        /* not reached: memory is gone */
        text = NULL;
        return refuse(save->ctl, save->file, "out of memory");
    }
    error = append(save->file, !save->is_there, text, (size_t)len);
    if (error != 0) {
        return refuse(save->ctl, save->file, strerrordesc_np(error));
    }
    plain_put(save->ctl->out, save->file);
    fprintf(save->ctl->out, ": %s; run it with: cardea run -f ",
            save->is_there ? "more was written behind what it says"
                           : "written");
    plain_put(save->ctl->out, save->file);
    fputc('\n', save->ctl->out);
    return CTL_OK;
}

/* --- The unit ------------------------------------------------------------- */

/* Makes the folder at PATH, and those above it. */
static void
make_folders(char *path)
{
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '\0';
            mkdir(path, 0755);
            *at = '/';
        }
    }
    mkdir(path, 0755);
}

/* The folder of the unit. false: there is none, and it was said. */
static bool
unit_folder(struct ctl *ctl, char folder[PATH_MAX])
{
    const char *home = getenv("HOME");
    const char *config = getenv("XDG_CONFIG_HOME");

    if (ctl->output != NULL) {
        snprintf(folder, PATH_MAX, "%s", ctl->output);
        return true;
    }
    if (strcmp(ctl->unit, "system") == 0) {
        snprintf(folder, PATH_MAX, "/etc/systemd/system");
        return true;
    }
    if (config != NULL && config[0] == '/') {
        snprintf(folder, PATH_MAX, "%s/systemd/user", config);
    } else if (home != NULL && home[0] == '/') {
        snprintf(folder, PATH_MAX, "%s/.config/systemd/user", home);
    } else {
        refuse(ctl, "--unit user",
               "there is no $HOME; name a folder: --output FOLDER");
        return false;
    }
    make_folders(folder);
    return true;
}

/* The text of the unit, to be freed; NULL after a sentence. */
static char *
unit_text(struct save *save)
{
    struct ctl *ctl = save->ctl;
    CLEAN_FREE char *file = realpath(save->file, NULL);
    struct conf *conf =
        file != NULL ? conf_load(file, NULL, ctl->errors) : NULL;
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    struct unit unit = {program, file, NULL, strcmp(ctl->unit, "system") == 0};
    const struct passwd *owner = NULL;
    struct stat st;
    char *text = NULL;
    size_t len;
    FILE *out;

    if (conf == NULL || n < 0 || stat(file, &st) < 0) {
        refuse(ctl, save->file, "it cannot be read, so there is no unit");
        conf_free(conf);
        return NULL;
    }
    program[n] = '\0';
    owner = st.st_uid != 0 ? getpwuid(st.st_uid) : NULL;
    unit.user = owner != NULL ? owner->pw_name : NULL;
    out = open_memstream(&text, &len);
    if (out != NULL) {
        unit_print(&unit, conf, out);
        fclose(out);
    }
    conf_free(conf);
    return text;
}

static int
write_unit(struct save *save)
{
    struct ctl *ctl = save->ctl;
    bool is_system = strcmp(ctl->unit, "system") == 0;
    CLEAN_FREE char *text = unit_text(save);
    char folder[PATH_MAX];
    char path[PATH_MAX + sizeof(UNIT_NAME)];
    int error;

    if (text == NULL || !unit_folder(ctl, folder)) {
        return CTL_FAILED;
    }
    snprintf(path, sizeof(path), "%s/%s", folder, UNIT_NAME);
    error = append(path, true, text, strlen(text));
    if (error == EEXIST) {
        return refuse(ctl, path,
                      "there is one already, and it stays; remove it, or name "
                      "another folder: --output FOLDER");
    }
    if (error != 0) {
        return refuse(ctl, path,
                      error == EACCES
                          ? "no right to write there; do it as root, or write "
                            "a unit of your own: --unit user"
                          : strerrordesc_np(error));
    }
    plain_put(ctl->out, path);
    fprintf(ctl->out, ": written; start it with: systemctl %senable --now %s\n",
            is_system ? "" : "--user ", UNIT_NAME);
    return CTL_OK;
}

int
ctl_save(struct ctl *ctl)
{
    struct save save = {
        .ctl = ctl,
        .server = {.fd = -1},
        .file = ctl->n_words > 0 ? ctl->words[0] : "./cardea.conf",
    };
    int status;

    if (ctl->output != NULL && ctl->unit == NULL) {
        fputs("cardea save: --output is of use with --unit only\n",
              ctl->errors);
        return CTL_USAGE;
    }
    save.is_there = access(save.file, F_OK) == 0;
    status = ask(&save);
    server_close(&save.server);
    if (status == CTL_OK && save.is_its_own && ctl->unit == NULL) {
        status = refuse(ctl, save.file,
                        "the server runs on this file, so it is saved already");
    } else if (status == CTL_OK && !save.is_its_own) {
        status = write_file(&save);
    }
    if (status == CTL_OK && ctl->unit != NULL) {
        status = write_unit(&save);
    }
    free(save.text);
    return status;
}

/* The address of a forward: a host and port, or the path of a Unix socket and
 * the mode of its file. */
#include "conf/check.h"

#include <string.h>
#include <sys/un.h>

#include "conf/text.h"

/* As open as a port: whoever can reach an address may talk to it. Who wants
 * less writes a mode, or puts the socket into a folder that few may enter. With
 * less by default, a server in front that runs as another user would fail with
 * a "permission denied" that nothing here explains. */
#define MODE_DEFAULT 0666

#define UNIX     "unix:"
#define UNIX_LEN 5

static bool
is_unix(const struct conf_word *word)
{
    return word->len >= UNIX_LEN && memcmp(word->text, UNIX, UNIX_LEN) == 0;
}

/* Three octal digits, with or without a 0 before them. */
static bool
mode_parse(const struct conf_word *word, mode_t *p_mode)
{
    size_t at = word->len == 4 && word->text[0] == '0';
    mode_t mode = 0;

    if (word->len != at + 3) {
        return false;
    }
    for (; at < word->len; at++) {
        if (word->text[at] < '0' || word->text[at] > '7') {
            return false;
        }
        mode = mode * 8 + (mode_t)(word->text[at] - '0');
    }
    *p_mode = mode;
    return true;
}

static void
address_mode(struct conf_check *check, struct conf_listen *listen,
             const struct conf_node *node)
{
    const struct conf_word *word = &node->mode;

    listen->mode = MODE_DEFAULT;
    if (!word->text) {
        return;
    }
    listen->mode_where = word->where;
    if (!is_unix(&node->value)) {
        conf_report_add(check->report, word->where,
                        "only a unix: address has a mode: the others have no "
                        "file");
    } else if (!mode_parse(word, &listen->mode)) {
        conf_report_add(check->report, word->where,
                        "'%s' is no mode: write three octal digits, such as "
                        "660 or 0660",
                        conf_shown(word->text, word->len).text);
    } else if ((listen->mode & 0222) == 0) {
        conf_report_add(check->report, word->where,
                        "with mode %04o nobody may connect: that takes the "
                        "right to write, such as 0660",
                        (unsigned)listen->mode);
    }
}

/* What is in the way of a socket at PATH, or of its folder; NULL: nothing. */
static const char *
unix_taken(struct conf_check *check, const char *path)
{
    const struct conf_outside *outside = check->outside;
    const char *slash = strrchr(path, '/');
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)] = "/";
    int kind = outside->file(outside->ctx, path);

    if (kind == CONF_FILE_FOLDER) {
        return "is a folder: write the path of the socket itself";
    }
    if (kind == CONF_FILE_PLAIN || kind == CONF_FILE_PROGRAM) {
        return "is a file that is no socket: it will not be replaced";
    }
    if (slash > path) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = '\0';
    }
    kind = outside->file(outside->ctx, folder);
    return kind == CONF_FILE_FOLDER ? NULL
           : kind < 0 ? "lies in a folder that does not exist, or "
                        "cannot be entered: make it first"
                      : "does not lie in a folder";
}

/* WORD is unix:PATH. */
static bool
address_unix(struct conf_check *check, struct conf_listen *listen,
             const struct conf_word *word)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&listen->addr;
    struct conf_word rest = *word;
    const char *taken;
    char *path;

    rest.text += UNIX_LEN;
    rest.len -= UNIX_LEN;
    if (rest.len > 0 && rest.text[0] == '@') {
        conf_report_add(check->report, word->where,
                        "addresses without a file (unix:@NAME) are not taken, "
                        "since anybody may take one first: write a path");
        return false;
    }
    path = conf_check_path(check, &rest);
    if (!path) {
        return false;
    }
    if (strlen(path) >= sizeof(un->sun_path)) {
        conf_report_add(
            check->report, word->where,
            "the socket's path '%s' has %zu bytes: the system takes "
            "at most %zu",
            conf_shown_end(path).text, strlen(path), sizeof(un->sun_path) - 1);
        return false;
    }
    taken = unix_taken(check, path);
    if (taken) {
        conf_report_add(check->report, word->where, "'%s' %s",
                        conf_shown_end(path).text, taken);
        return false;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    listen->addr_len = sizeof(*un);
    listen->text = conf_memory_join(check->memory, UNIX, path);
    return listen->text != NULL;
}

/* WORD is a host and port. */
static bool
address_port(struct conf_check *check, struct conf_listen *listen,
             const struct conf_word *word)
{
    const char *wrong = conf_address_parse(word->text, word->len, listen);

    if (wrong) {
        conf_report_add(check->report, word->where, "address '%s': %s",
                        conf_shown(word->text, word->len).text, wrong);
        return false;
    }
    listen->text = conf_memory_text(check->memory, word->text, word->len);
    return listen->text != NULL;
}

bool
conf_check_address(struct conf_check *check, struct conf_listen *listen,
                   const struct conf_node *node)
{
    const struct conf *conf = check->conf;
    const struct conf_word *word = &node->value;
    bool ok = is_unix(word) ? address_unix(check, listen, word)
                            : address_port(check, listen, word);

    address_mode(check, listen, node);
    if (!ok) {
        return false;
    }
    listen->where = word->where;
    for (size_t i = 0; i < conf->n_listens; i++) {
        const struct conf_listen *other = &conf->listens[i];

        if (conf_address_overlap(other, listen)) {
            conf_report_add(
                check->report, word->where,
                "address '%s' is already taken by '%s' %s",
                conf_shown_end(listen->text).text,
                conf_shown_end(other->text).text,
                conf_there(check->report, word->where, other->where).text);
            return false;
        }
    }
    return true;
}

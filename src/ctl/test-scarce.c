/* The verbs where memory or a descriptor is short: each ends with its answer,
 * or with a sentence and its exit status, and leaks nothing (each try is a
 * process that ends through the leak check). The server and the doors that they
 * ask are real. */
#include "ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/test-scarce.h"
#include "base/util.h"
#include "cardea.h"
#include "door.h"

#define SAID_MAX 65536

struct site {
    char top[64], file[96], body[96], app_door[96], plain_door[96];
    pid_t server, app, plain;
    _Atomic bool *was_short; /* shared with the process that tries */
};

/* ---- what is asked ---- */

static void
handler(struct cardea_request *r)
{
    size_t len;

    cardea_body(r, &len);
    cardea_printf(r, "app got %zu", len);
}

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    static __thread char text[64];
    int n = snprintf(text, sizeof(text), "plain got %s",
                     arg_size > 1000 ? "much" : "little");

    door_return(text, (size_t)n, NULL, 0);
}

static pid_t
start_app(const char *door)
{
    pid_t pid = __real_fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(cardea_serve_threads_at(handler, door));
    }
    return pid;
}

static pid_t
start_plain(const char *door)
{
    pid_t pid = __real_fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int d = door_create(procedure, NULL, 0);
        if (d < 0 || door_attach(d, door, 0666) < 0) {
            _exit(1);
        }
        for (;;) {
            pause();
        }
    }
    return pid;
}

/* A whole server on FILE; returns when it has said that it is ready. */
static pid_t
start_server(const char *file)
{
    struct ctl ctl = {.out = stdout, .errors = stderr};
    char line[512];
    int ready[2];

    assert_int_equal(__real_pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = __real_fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(ready[1], STDOUT_FILENO);
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, STDERR_FILENO);
        _exit(ctl_run(&ctl, file));
    }
    close(ready[1]);
    assert_true(read(ready[0], line, sizeof(line)) > 0);
    close(ready[0]);
    return pid;
}

static void
write_file(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_int_equal(write(fd, text, len), (int)len);
    close(fd);
}

static void
wait_for(const char *path)
{
    for (int i = 0; access(path, F_OK) < 0; i++) {
        assert_in_range(i, 0, 20000);
        usleep(1000);
    }
}

static void
site_make(struct site *s)
{
    static char body[100000];
    char text[512];

    snprintf(s->top, sizeof s->top, "/tmp/cardea-ctl-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    chmod(s->top, 0755);
    snprintf(s->file, sizeof(s->file), "%s/cardea.conf", s->top);
    snprintf(s->body, sizeof(s->body), "%s/body", s->top);
    snprintf(s->app_door, sizeof(s->app_door), "%s/app.door", s->top);
    snprintf(s->plain_door, sizeof(s->plain_door), "%s/plain.door", s->top);
    int n = snprintf(text, sizeof(text),
                     "set run-folder \"%s/run\"\n"
                     "set state-folder \"%s/state\"\n"
                     "forward http 127.0.0.1:0 to \"%s\"\n",
                     s->top, s->top, s->app_door);
    write_file(s->file, text, (size_t)n);
    memset(body, 'b', sizeof(body));
    write_file(s->body, body, sizeof(body));
    s->was_short = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(s->was_short, MAP_FAILED);
    s->app = start_app(s->app_door);
    s->plain = start_plain(s->plain_door);
    s->server = start_server(s->file);
    wait_for(s->app_door);
    wait_for(s->plain_door);
}

static void
site_end(struct site *s)
{
    char command[96];
    int status;

    kill(s->server, SIGTERM);
    assert_int_equal(waitpid(s->server, &status, 0), s->server);
    assert_int_equal(status, 0);
    kill(s->app, SIGKILL);
    kill(s->plain, SIGKILL);
    assert_int_equal(waitpid(s->app, NULL, 0), s->app);
    assert_int_equal(waitpid(s->plain, NULL, 0), s->plain);
    munmap((void *)s->was_short, 4096);
    snprintf(command, sizeof(command), "rm -rf %s", s->top);
    assert_int_equal(system(command), 0);
}

/* ---- one try ---- */

struct verb_case {
    const char *name;
    int (*verb)(struct ctl *ctl);
    const char *words[5];
    size_t n_words;
    bool as_json, with_head;
    const char *answer; /* is in the output of one that went well */
    long least;         /* so many calls at least can fail */
};

static void __attribute__((noreturn))
be_verb(const struct site *s, const struct verb_case *c, long n, int said)
{
    static const char *const files[] = {NULL};
    struct ctl ctl = {.out = stdout,
                      .errors = stderr,
                      .files = files,
                      .file = c->verb != ctl_doctor ? s->file : NULL,
                      .n_words = c->n_words,
                      .as_json = c->as_json,
                      .with_head = c->with_head};

    memcpy(ctl.words, c->words, c->n_words * sizeof(c->words[0]));
    dup2(said, STDOUT_FILENO);
    dup2(said, STDERR_FILENO);
    scarce_begin(n);
    int status = c->verb(&ctl);
    *s->was_short = scarce_end();
    exit(status); /* through the leak check */
}

static int
check_file(struct ctl *ctl)
{
    return ctl_check(ctl, ctl->file);
}

/* The status; what was said on either stream is in SAID. */
static int
try_verb(const struct site *s, const struct verb_case *c, long n,
         char said[SAID_MAX])
{
    int ends[2], status;
    size_t len = 0;
    ssize_t got;

    assert_int_equal(__real_pipe2(ends, O_CLOEXEC), 0);
    fflush(stdout);
    fflush(stderr);
    pid_t pid = __real_fork();
    if (pid == 0) {
        close(ends[0]);
        be_verb(s, c, n, ends[1]);
    }
    close(ends[1]);
    while ((got = read(ends[0], said + len, SAID_MAX - 1 - len)) > 0) {
        len += (size_t)got;
    }
    said[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || strstr(said, "Sanitizer") != NULL) {
        fail_msg("%s, n=%ld: status %#x\n%s", c->name, n, (unsigned)status,
                 said);
    }
    return WEXITSTATUS(status);
}

/* A sentence for people: "cardea VERB: ...", "FILE:...: message", or a line of
 * the doctor's. */
static bool
is_sentence(const struct verb_case *c, const char *said)
{
    if (c->verb == ctl_doctor) {
        return strstr(said, "fail") != NULL && strstr(said, c->answer) != NULL;
    }
    return strncmp(said, "cardea", 6) == 0 || strstr(said, ".conf:") != NULL;
}

static void
try_each(const struct site *s, const struct verb_case *c)
{
    static char said[SAID_MAX];
    int usual = try_verb(s, c, 0, said), failed = 0;
    bool was_short = true;
    long n;

    if (strstr(said, c->answer) == NULL ||
        (usual != CTL_OK && c->verb != ctl_doctor)) {
        fail_msg("%s: status %d\n%s", c->name, usual, said);
    }
    for (n = 1; n < 3000 && was_short; n++) {
        int status = try_verb(s, c, n, said);
        was_short = *s->was_short;
        bool is_good = status == usual && strstr(said, c->answer) != NULL;
        int bad = c->verb == check_file ? CTL_CONFIG : CTL_FAILED;
        if (!is_good &&
            (!was_short || status != bad || !is_sentence(c, said))) {
            fail_msg("%s, n=%ld: status %d\n%s", c->name, n, status, said);
        }
        failed += !is_good || (status == bad && usual == CTL_OK);
    }
    print_message("# %s: %ld, %d failed\n", c->name, n - 2, failed);
    assert_true(n - 2 >= c->least && failed > 0);
}

static void
test_verbs(void **state)
{
    struct site s;

    site_make(&s);
    const struct verb_case cases[] = {
        {.name = "status",
         .verb = ctl_status,
         .answer = "LAST END",
         .least = 10},
        {.name = "status --json",
         .verb = ctl_status,
         .as_json = true,
         .answer = "\"workers\"",
         .least = 10},
        {.name = "call of cardea.h",
         .verb = ctl_call,
         .words = {s.app_door, "POST", "/x", s.body},
         .n_words = 4,
         .with_head = true,
         .answer = "app got 100000",
         .least = 8},
        {.name = "call of a plain door",
         .verb = ctl_call,
         .words = {s.plain_door, "POST", "/x", s.body},
         .n_words = 4,
         .answer = "plain got much",
         .least = 10},
        {.name = "doctor", .verb = ctl_doctor, .answer = " fine\n", .least = 4},
        {.name = "doctor --json",
         .verb = ctl_doctor,
         .as_json = true,
         .answer = "\"ok\"",
         .least = 4},
        {.name = "check", .verb = check_file, .answer = "", .least = 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        try_each(&s, &cases[i]);
    }
    site_end(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

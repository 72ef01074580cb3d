/* Both directions of CGI: the environment made of a hostile request, and the
 * verdict on what a command wrote. The input's first bytes choose; its rest is
 * cut into the request's strings, or is the output. */
#include "base/fuzz.h"
#include "cgi.h"

#include <strings.h>

#define FIELDS 8

static struct fuzz_in in;

/* ---- the environment ---- */

/* The next string, to be freed; it may hold anything but NUL. */
static char *
text(void)
{
    size_t n = fuzz_byte(&in);
    char *s = calloc(1, n + 1);

    MUST(s != NULL);
    fuzz_bytes(&in, s, n);
    return s;
}

static bool
is_name(const char *s, size_t len)
{
    return len > 0 && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") >= len;
}

static unsigned
count(char *const *env, const char *name)
{
    size_t len = strlen(name);
    unsigned n = 0;

    for (; *env; env++) {
        n += strncmp(*env, name, len) == 0 && (*env)[len] == '=';
    }
    return n;
}

static const char *
value(char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (; *env; env++) {
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=') {
            return *env + len + 1;
        }
    }
    return NULL;
}

static void
check_env(char *const *env, const struct cgi_request *req)
{
    static const char *const always[] = {
        "GATEWAY_INTERFACE", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
        "SERVER_NAME",       "SERVER_PORT",     "REQUEST_METHOD",
        "REQUEST_URI",       "SCRIPT_NAME",     "PATH_INFO",
        "QUERY_STRING",      "REMOTE_ADDR",     "REMOTE_PORT",
        "CARDEA_REQUEST_ID"};
    static const char *const never[] = {"HTTP_PROXY",
                                        "HTTP_AUTHORIZATION",
                                        "HTTP_CONTENT_LENGTH",
                                        "HTTP_CONTENT_TYPE",
                                        "HTTP_CONNECTION",
                                        "HTTP_EXPECT",
                                        "HTTP_TRANSFER_ENCODING"};

    for (size_t i = 0; i < sizeof always / sizeof *always; i++) {
        MUST(count(env, always[i]) == 1);
    }
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        MUST(count(env, never[i]) == 0);
    }
    for (char *const *p = env; *p; p++) {
        const char *equals = strchr(*p, '=');
        MUST(equals != NULL && is_name(*p, (size_t)(equals - *p)));
        for (char *const *q = env; q < p; q++) {
            MUST(strncmp(*p, *q, (size_t)(equals - *p) + 1) != 0);
        }
    }
    MUST(count(env, "CONTENT_LENGTH") == (req->body_len > 0));
    MUST(count(env, "CONTENT_TYPE") <= (req->body_len > 0));
    MUST(strcmp(value(env, "QUERY_STRING"), req->query) == 0);
    const char *path = value(env, "PATH_INFO");
    MUST(path[0] == '/' || path[0] == '\0');
    unsigned long port = strtoul(value(env, "SERVER_PORT"), NULL, 10);
    MUST(port > 0 && port < 65536);
}

static void
make_env(void)
{
    char *strings[8], *fields[2 * FIELDS];
    struct cgi_field list[FIELDS];
    uint8_t how = fuzz_byte(&in);

    for (int i = 0; i < 8; i++) {
        strings[i] = text();
    }
    for (int i = 0; i < FIELDS; i++) {
        list[i].name = fields[2 * i] = text();
        list[i].value = fields[2 * i + 1] = text();
    }
    struct cgi_request req = {.method = strings[0],
                              .target = strings[1],
                              .query = strings[2],
                              .host = strings[3],
                              .peer = strings[4],
                              .id = strings[5],
                              .route = how & 1 ? "/" : strings[6],
                              .rest = strings[7],
                              .peer_port = how,
                              .fields = list,
                              .n_fields = how % (FIELDS + 1),
                              .body_len = how >> 4};
    char **env = cgi_env_new(&req);
    MUST(env != NULL);
    check_env(env, &req);
    free(env);
    for (int i = 0; i < 8; i++) {
        free(strings[i]);
    }
    for (int i = 0; i < 2 * FIELDS; i++) {
        free(fields[i]);
    }
}

/* ---- the answer ---- */

static void
check_text(const char *s, size_t size)
{
    size_t len = strnlen(s, size);

    MUST(len < size);
    for (size_t i = 0; i < len; i++) {
        MUST(s[i] >= 0x20 && s[i] < 0x7f);
    }
}

static void
judge(const uint8_t *data, size_t len)
{
    static struct cgi_answer whole, part, plain;
    char why[CGI_WHY_SIZE], again[CGI_WHY_SIZE];
    char *out = copy_exact(data, len);
    size_t cut = cut_of(data, len);
    int rc = cgi_answer_parse(out, len, &whole, why);

    MUST(rc == 0 || rc == 502);
    cgi_answer_parse_plain(out, len, &plain);
    MUST(plain.body + plain.body_len == out + len);
    MUST(plain.body == out || (rc == 0 && plain.body == whole.body));
    check_text(why, sizeof why);
    MUST((rc == 0) == (why[0] == '\0'));
    char *copy = copy_exact(data, cut);
    int early = cgi_answer_parse(copy, cut, &part, again);
    check_text(again, sizeof again);
    if (rc == 0) {
        MUST(whole.status >= 200 && whole.status <= 599);
        MUST(whole.head.head_len + whole.body_len == len);
        MUST(whole.body == out + whole.head.head_len);
        MUST((early == 0) == (cut >= whole.head.head_len));
        MUST(early != 0 || part.status == whole.status);
    } else {
        MUST(early == 502);
    }
    free(copy);
    free(out);
}

static void
quote(void)
{
    char in_text[256], out[300];
    size_t size = 8 + fuzz_byte(&in), n = fuzz_byte(&in);

    n = fuzz_bytes(&in, in_text, n);
    cgi_quote(in_text, n, out, size);
    check_text(out, size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    in = (struct fuzz_in){data, data + size};
    switch (fuzz_byte(&in) % 4) {
    case 0:
        make_env();
        break;
    case 1:
        quote();
        break;
    default:
        judge(in.at, (size_t)(in.end - in.at));
    }
    return 0;
}

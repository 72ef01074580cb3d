/* `set metrics ADDRESS` stands for a module and a forward that nobody need
 * write: `cardea metrics` for each request of that address. They are marked as
 * hidden, and are in every other way what anybody could have written. */
#include "conf/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/util.h"
#include "conf/text.h"

/* Can nobody but this machine's own programs reach ADDR? */
static bool
is_local(const struct sockaddr_storage *addr)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;

    return addr->ss_family == AF_INET
               ? ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET
               : addr->ss_family == AF_INET6 &&
                     IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

/* Is WORD, an address, to be taken? What cannot be one is told where it is made
 * a listener. */
static bool
address_is_fit(struct conf_check *check, const struct conf_word *word,
               bool is_public)
{
    struct conf_listen listen = {0};

    if (is_public || (word->len >= 5 && memcmp(word->text, "unix:", 5) == 0) ||
        conf_address_parse(word->text, word->len, &listen) ||
        is_local(&listen.addr)) {
        return true;
    }
    conf_report_add(check->report, word->where,
                    "other machines can reach '%s', and would read all numbers "
                    "of this server: write 127.0.0.1:PORT or a unix: address; "
                    "or 'public' behind it, if that is meant",
                    conf_shown(word->text, word->len).text);
    return false;
}

void
conf_check_metrics(struct conf_check *check, const struct conf_node *node,
                   const char *example)
{
    const struct conf_words *words = node->words;
    bool is_public = words && words->next && !words->next->next &&
                     conf_word_is(&words->next->word, "public");
    const struct conf_word *word =
        is_public ? &words->word
                  : conf_check_single(check, &node->name, words, example);

    if (!word || !address_is_fit(check, word, is_public)) {
        return;
    }
    check->conf->metrics =
        conf_memory_text(check->memory, word->text, word->len);
    check->conf->metrics_public = is_public;
    check->metrics = word;
}

void
conf_check_metrics_module(struct conf_check *check)
{
    struct conf *conf = check->conf;
    struct conf_module *module = &conf->modules[conf->n_modules];
    const char *const words[] = {check->outside->self, "metrics", "-f",
                                 conf->files[0].path};

    if (!conf_check_module_room(check, module)) {
        /* not reached: memory is gone */
        return;
    }
    module->name = conf_memory_text(check->memory, CONF_METRICS_NAME,
                                    strlen(CONF_METRICS_NAME));
    module->kind = CONF_MODULE_EXEC;
    module->is_hidden = true;
    module->argv = conf_memory_take(check->memory, ARRAY_LEN(words) + 1,
                                    sizeof(*module->argv));
    for (size_t i = 0; module->argv && i < ARRAY_LEN(words); i++) {
        module->argv[i] =
            conf_memory_text(check->memory, words[i], strlen(words[i]));
    }
    module->folder = conf_memory_text(check->memory, "/", 1);
    module->timeout_ns = 10 * NS_PER_SEC;
    module->start_timeout_ns = 30 * NS_PER_SEC;
    module->where = check->metrics->where;
    module->set = 1u << CONF_OPTION_EXEC;
    module->wheres[CONF_OPTION_EXEC] = check->metrics->where;
    conf->n_modules += !check->memory->failed;
}

struct conf_node
conf_check_metrics_node(const struct conf_check *check)
{
    struct conf_node node = {.kind = CONF_NODE_FORWARD,
                             .value = *check->metrics,
                             .aim = CONF_AIM_MODULE};

    node.name = node.target = *check->metrics;
    node.name.text = "http";
    node.name.len = 4;
    node.target.text = CONF_METRICS_NAME;
    node.target.len = strlen(CONF_METRICS_NAME);
    return node;
}

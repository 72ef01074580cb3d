/* Sentences: one row a word, the longest beginning that fits. */
#include "ctl/why.h"

#include <stddef.h>
#include <string.h>

#include "base/util.h"

struct word {
    const char *word, *sentence;
};

static const struct word requests[] = {
    {"no-door", "the program had no open door: it was being started, had just "
                "ended, or could not be started"},
    {"full", "as many calls were waiting already as may wait, or there was no "
             "room left for this one: it was refused at once"},
    {"no-time", "the time that it had left was less than the program needs as "
                "a rule: it was refused instead of run in vain"},
    {"crash", "the program ended, or closed its door, while it had this call"},
    {"lied", "the program's answer could not be what it said it was; the "
             "program is replaced"},
    {"deadline", "no answer came within the module's time (timeout)"},
    {"no-answer", "what the program answered is no valid answer, or it gave "
                  "none"},
    {"limit", "the request is larger than this server takes"},
    {"client-gone", "the client left before the answer"},
    {"client-slow", "the client did not send its request in time"},
    {"bad-request", "the request is not valid HTTP"},
    {"no-route", "no forward of the configuration leads this address and "
                 "method anywhere"},
    {"not-found", "there is no such file in the folder"},
    {"bad-method", "a file takes GET and HEAD only"},
    {"unmet", "the client asked for it under a condition that does not hold"},
    {"unreadable", "the workers' user may not read that file"},
    {"file-failed", "the file could not be opened or read"},
    {"file-cut", "the file became shorter while it was sent"},
    {"takes-no-descriptors", "the program's door takes no connections"},
};

static const struct word ends[] = {
    {"exit-0", "it ended by itself, with status 0"},
    {"exit-", "it ended by itself, with a status that says failure"},
    {"signal-KILL", "somebody, or the kernel, killed it"},
    {"signal-SEGV", "it used memory that it does not have"},
    {"signal-ABRT", "it gave itself up (abort, or an assertion)"},
    {"signal-TERM", "somebody told it to end"},
    {"signal-", "a signal ended it"},
    {"no-start-ENOENT", "there is no such program, or no interpreter for it"},
    {"no-start-EACCES", "the program may not be executed"},
    {"no-start-", "it could not be started"},
    {"late", "it was not ready in the time that a start may take"},
    {"frozen", "a signal had stopped it, and nothing made it go on"},
    {"wedged", "it took no call and did not compute"},
    {"deadline", "it was past the deadline of its call"},
    {"out-of-memory", "it needed more memory than it may have"},
    {"recycled-", "it was replaced as configured, by its age, calls or memory"},
    {"unused", "nobody had called it for its idle time"},
    {"replaced-", "its door answered what cannot be"},
    {"no-heir", "it died, and those that were to take its place, too"},
};

static const struct word starts[] = {
    {"configured", "the configuration has it, and it is to be there at once"},
    {"called", "there was no process, and somebody called it"},
    {"ended", "the process before it had ended"},
    {"recycled", "the process before it was to be replaced, as configured"},
    {"changed", "its configuration had changed"},
};

static const struct word events[] = {
    {"ready", "its process is started and its door open"},
    {"died", "its process ended"},
    {"kill", "its process is killed"},
    {"park", "nobody called it for its idle time: its process is told to end"},
    {"copy-ended", "one of its copies or commands ended"},
    {"parked", "its process has ended because nobody calls it; the next call "
               "starts it"},
    {"serves-on", "its process ended, and a copy of it goes on serving"},
    {"door-open", "all workers are connected to its door"},
    {"door-wait", "its door is not open yet"},
    {"door-lost", "a worker lost its door"},
    {"door-renewed", "a worker opened a fresh ring, to give memory back"},
    {"out-of-memory", "it reached its limit of memory"},
    {"no-process", "it reached its limit of processes"},
    {"output-dropped", "it printed more lines than are kept"},
    {"grew", "calls waited and no copy was free: more were started"},
    {"shrank", "it had more copies than were needed for a while"},
};

static const char *
find(const struct word *words, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(words[i].word);

        if (strcmp(words[i].word, word) == 0 ||
            (words[i].word[len - 1] == '-' &&
             strncmp(words[i].word, word, len) == 0)) {
            return words[i].sentence;
        }
    }
    return NULL;
}

const char *
why_request(const char *word)
{
    return find(requests, ARRAY_LEN(requests), word);
}

const char *
why_end(const char *word)
{
    return find(ends, ARRAY_LEN(ends), word);
}

const char *
why_start(const char *word)
{
    return find(starts, ARRAY_LEN(starts), word);
}

const char *
why_event(const char *word)
{
    return find(events, ARRAY_LEN(events), word);
}

/* Records of a hostile FastCGI program. However they are cut, the verdict and
 * the bytes of both streams are the same. */
#include "base/fuzz.h"
#include "fcgi.h"

struct sum {
    enum fcgi_verdict verdict;
    size_t used, n[2];
    uint32_t hash[2];
};

static void
add(struct sum *sum, int stream, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sum->hash[stream] = sum->hash[stream] * 31 + (uint8_t)bytes[i];
    }
    sum->n[stream] += n;
}

/* Reads BYTES until the end, or until nothing more is read. */
static void
part(struct fcgi_reader *reader, const char *bytes, size_t len, struct sum *sum)
{
    size_t used, piece, at = 0;

    do {
        sum->verdict = fcgi_read(reader, bytes + at, len - at, &used, &piece);
        MUST(used <= len - at);
        at += used;
        if (sum->verdict == FCGI_OUT || sum->verdict == FCGI_ERR) {
            MUST(piece > 0 && piece <= used);
            add(sum, sum->verdict == FCGI_ERR, bytes + at - piece, piece);
        }
    } while (sum->verdict == FCGI_OUT || sum->verdict == FCGI_ERR);
    MUST(sum->verdict != FCGI_MORE || at == len);
    sum->used += at;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fcgi_reader one = {0}, two = {0};
    struct sum whole = {0}, cut = {0};
    size_t at = cut_of(data, size);
    char *bytes = copy_exact(data, size);
    char *front = copy_exact(data, at),
         *back = copy_exact(data + at, size - at);

    part(&one, bytes, size, &whole);
    part(&two, front, at, &cut);
    if (cut.verdict == FCGI_MORE) {
        part(&two, back, size - at, &cut);
    }
    MUST(whole.verdict == cut.verdict && whole.used == cut.used);
    for (int i = 0; i < 2; i++) {
        MUST(whole.n[i] == cut.n[i] && whole.hash[i] == cut.hash[i]);
    }
    MUST(whole.verdict != FCGI_ENDED ||
         (one.protocol == two.protocol && one.app == two.app &&
          one.protocol <= 3));
    free(bytes);
    free(front);
    free(back);
    return 0;
}

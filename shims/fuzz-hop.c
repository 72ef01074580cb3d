/* Answers of a hostile HTTP program. The first byte says whether the request
 * was HEAD; however the rest is cut, verdict and body are the same. */
#include "base/fuzz.h"
#include "hop.h"

static enum hop_verdict
take(struct hop *hop, bool is_head, const uint8_t *data, size_t cut,
     size_t size)
{
    enum hop_verdict verdict = HOP_MORE;
    char *front = copy_exact(data, cut);
    char *back = copy_exact(data + cut, size - cut);

    *hop = (struct hop){.is_head = is_head, .text = {.max = 4096}};
    if (cut > 0) {
        verdict = hop_read(hop, front, cut);
    }
    if (verdict == HOP_MORE && size > cut) {
        verdict = hop_read(hop, back, size - cut);
    }
    if (verdict == HOP_MORE) {
        verdict = hop_read(hop, "", 0);
    }
    free(front);
    free(back);
    MUST(hop->text.len <= 4096);
    MUST(verdict != HOP_MORE && verdict != HOP_SCARCE);
    MUST((verdict == HOP_BAD) == (hop->why != NULL));
    return verdict;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hop whole, cut;
    enum hop_verdict one, two;
    bool is_head;

    if (size == 0) {
        return 0;
    }
    is_head = data[0] & 1;
    data++;
    size--;
    one = take(&whole, is_head, data, 0, size);
    two = take(&cut, is_head, data, cut_of(data, size), size);
    if (one == HOP_DONE) {
        size_t n = whole.text.len - whole.head.head_len;

        MUST(two == HOP_DONE);
        MUST(whole.head.status >= 200 && whole.head.status <= 599);
        MUST(n == cut.text.len - cut.head.head_len);
        MUST(n == 0 || memcmp(whole.text.bytes + whole.head.head_len,
                              cut.text.bytes + cut.head.head_len, n) == 0);
        MUST(!whole.keep || cut.keep);
        MUST(n == 0 || (!is_head && whole.head.status != 204 &&
                        whole.head.status != 304));
    }
    free(whole.text.bytes);
    free(cut.text.bytes);
    return 0;
}

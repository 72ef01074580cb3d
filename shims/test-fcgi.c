/* FastCGI and SCGI as bytes: what is sent, and the verdict on records, cut at
 * every place. All literals. */
#include "fcgi.h"
#include "scgi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *env_two[] = {(char *)"A=bc", (char *)"LONGER_NAME=", NULL};

static void
request_is_as_specified(void **state)
{
    static const char want[] = "\1\1\0\1\0\10\0\0"
                               "\0\1\1\0\0\0\0\0"
                               "\1\4\0\1\0\22\0\0"
                               "\1\2Abc"
                               "\13\0LONGER_NAME"
                               "\1\4\0\1\0\0\0\0"
                               "\1\5\0\1\0\3\0\0"
                               "xyz"
                               "\1\5\0\1\0\0\0\0";
    size_t len;
    char *got = fcgi_request_new(env_two, "xyz", 3, &len);

    assert_int_equal(len, sizeof(want) - 1);
    assert_memory_equal(got, want, len);
    free(got);
}

static void
long_values_have_four_bytes_of_length(void **state)
{
    char pair[2 + 128 + 1] = "N=";
    char *env[] = {pair, NULL};
    size_t len;
    char *got;

    memset(pair + 2, 'v', 128);
    got = fcgi_request_new(env, "", 0, &len);
    assert_int_equal(len, 16 + 8 + (1 + 4 + 1 + 128) + 8 + 8);
    assert_memory_equal(got + 24, "\1\200\0\0\200Nvvv", 9);
    free(got);
}

static void
long_bodies_are_cut_into_records(void **state)
{
    char *env[] = {NULL};
    size_t size = 65528 + 5, len;
    char *body = calloc(1, size);
    char *got = fcgi_request_new(env, body, size, &len);

    assert_int_equal(len, 16 + 8 + (8 + 65528) + (8 + 5) + 8);
    assert_memory_equal(got + 24, "\1\5\0\1\377\370\0\0", 8);
    assert_memory_equal(got + 24 + 8 + 65528, "\1\5\0\1\0\5\0\0", 8);
    free(got);
    free(body);
}

/* Reads LEN bytes, the first CUT of them alone. The last verdict; what came on
 * both streams is in OUT as text, that of standard error in capitals before. */
static enum fcgi_verdict
read_cut(const char *bytes, size_t len, size_t cut, char out[64],
         struct fcgi_reader *reader)
{
    enum fcgi_verdict verdict = FCGI_MORE;
    size_t at = 0, end = cut, n = 0, used, piece;

    memset(reader, 0, sizeof(*reader));
    while (verdict != FCGI_ENDED && verdict != FCGI_BAD) {
        verdict = fcgi_read(reader, bytes + at, end - at, &used, &piece);
        at += used;
        assert_true(at <= end && piece <= used);
        if (verdict == FCGI_OUT || verdict == FCGI_ERR) {
            assert_true(piece > 0 && n + piece < 60);
            memcpy(out + n, bytes + at - piece, piece);
            n += piece;
        }
        if (verdict == FCGI_MORE) {
            assert_int_equal(at, end);
            if (end == len) {
                break;
            }
            end = len;
        }
    }
    out[n] = '\0';
    return verdict;
}

#define END "\1\3\0\1\0\10\0\0\0\0\0\0\0\0\0\0"

static const struct {
    const char *bytes;
    size_t len;
    enum fcgi_verdict verdict;
    const char *out;
} cases[] = {
#define CASE(text, verdict, out)                                               \
    {                                                                          \
        text, sizeof(text) - 1, verdict, out                                   \
    }
    CASE("\1\6\0\1\0\2\0\0ok" END, FCGI_ENDED, "ok"),
    CASE("\1\6\0\1\0\2\3\0okxxx" END, FCGI_ENDED, "ok"),
    CASE("\1\7\0\1\0\1\0\0e\1\6\0\1\0\1\0\0o\1\6\0\1\0\0\0\0" END, FCGI_ENDED,
         "eo"),
    CASE("\1\6\0\1\0\0\0\0\1\6\0\1\0\0\2\0xx" END, FCGI_ENDED, ""),
    CASE("\1\12\0\0\0\2\0\0xx" END, FCGI_ENDED, ""),
    CASE("\1\13\0\0\0\10\0\0xxxxxxxx" END, FCGI_ENDED, ""),
    CASE(END "more", FCGI_ENDED, ""),
    CASE("\1\3\0\1\0\10\0\0\0\0\0\0\3\0\0\0", FCGI_ENDED, ""),
    CASE("\1\3\0\1\0\10\0\0\0\0\0\0\4\0\0\0", FCGI_BAD, ""),
    CASE("\1\3\0\1\0\7\0\0", FCGI_BAD, ""),
    CASE("\1\3\0\1\0\0\0\0", FCGI_BAD, ""),
    CASE("\2\6\0\1\0\2\0\0", FCGI_BAD, ""),
    CASE("\1\6\0\2\0\2\0\0", FCGI_BAD, ""),
    CASE("\1\6\1\1\0\2\0\0", FCGI_BAD, ""),
    CASE("\1\4\0\1\0\2\0\0", FCGI_BAD, ""),
    CASE("\1\14\0\0\0\2\0\0", FCGI_BAD, ""),
    CASE("\1\0\0\1\0\2\0\0", FCGI_BAD, ""),
    CASE("HTTP/1.1 200 OK", FCGI_BAD, ""),
    CASE("\1\6\0\1\377\377\0\0ab", FCGI_MORE, "ab"),
    CASE("\1\6\0\1\0", FCGI_MORE, ""),
    CASE("\1\3\0\1\0\10\0\0\0\0\0\0", FCGI_MORE, ""),
};

static void
records_are_judged_wherever_they_are_cut(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t cut = 0; cut <= cases[i].len; cut++) {
            struct fcgi_reader reader;
            char out[64];
            enum fcgi_verdict verdict =
                read_cut(cases[i].bytes, cases[i].len, cut, out, &reader);

            if (verdict != cases[i].verdict || strcmp(out, cases[i].out) != 0) {
                fail_msg("case %zu cut at %zu: %d, \"%s\"", i, cut, verdict,
                         out);
            }
        }
    }
}

static void
the_end_tells_both_statuses(void **state)
{
    static const char bytes[] = "\1\3\0\1\0\10\0\0\1\2\3\4\2\0\0\0";
    struct fcgi_reader reader;
    char out[64];

    assert_int_equal(read_cut(bytes, 16, 0, out, &reader), FCGI_ENDED);
    assert_int_equal(reader.app, 0x01020304);
    assert_int_equal(reader.protocol, 2);
}

static void
scgi_counts_its_netstring(void **state)
{
    static const char want[] = "43:CONTENT_LENGTH\0"
                               "27\0SCGI\0"
                               "1\0A\0bc\0LONGER_NAME\0\0,";
    char *env[] = {(char *)"A=bc", (char *)"CONTENT_LENGTH=9", (char *)"SCGI=7",
                   (char *)"LONGER_NAME=", NULL};
    size_t len;
    char *got = scgi_head_new(env, 27, &len);

    assert_int_equal(len, sizeof(want) - 1);
    assert_memory_equal(got, want, len);
    free(got);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_is_as_specified),
        cmocka_unit_test(long_values_have_four_bytes_of_length),
        cmocka_unit_test(long_bodies_are_cut_into_records),
        cmocka_unit_test(records_are_judged_wherever_they_are_cut),
        cmocka_unit_test(the_end_tells_both_statuses),
        cmocka_unit_test(scgi_counts_its_netstring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

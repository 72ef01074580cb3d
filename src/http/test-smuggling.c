/* Requests that two programs might read in two ways: each must be refused, in
 * one piece and byte by byte. */
#include "test-request.h"

struct vector {
    const char *why, *bytes;
    size_t len;
    int status;
};

#define HOST "Host: example.org\r\n"
#define GET  "GET / HTTP/1.1\r\n" HOST
#define POST "POST / HTTP/1.1\r\n" HOST

static void
check(const struct vector *v, size_t n)
{
    struct http_request req;

    for (size_t i = 0; i < n; i++) {
        int rc = parse(v[i].bytes, v[i].len, &req);

        if (rc != v[i].status) {
            fail_msg("%s: %d, not %d", v[i].why, rc, v[i].status);
        }
    }
}

static void
test_lengths(void **state)
{
    static const struct vector table[] = {
        {"no length", TEXT(POST "\r\n"), 0},
        {"zero", TEXT(POST "Content-Length: 0\r\n\r\n"), 0},
        {"leading zeros", TEXT(POST "Content-Length: 0007\r\n\r\n"), 0},
        {"largest", TEXT(POST "Content-Length: 9223372036854775807\r\n\r\n"),
         0},
        {"one more", TEXT(POST "Content-Length: 9223372036854775808\r\n\r\n"),
         400},
        {"2^64", TEXT(POST "Content-Length: 18446744073709551616\r\n\r\n"),
         400},
        {"2^64 + 5", TEXT(POST "Content-Length: 18446744073709551621\r\n\r\n"),
         400},
        {"30 digits",
         TEXT(POST "Content-Length: 100000000000000000000000000000\r\n\r\n"),
         400},
        {"plus", TEXT(POST "Content-Length: +5\r\n\r\n"), 400},
        {"minus", TEXT(POST "Content-Length: -5\r\n\r\n"), 400},
        {"minus zero", TEXT(POST "Content-Length: -0\r\n\r\n"), 400},
        {"underscore", TEXT(POST "Content-Length: 1_0\r\n\r\n"), 400},
        {"0x", TEXT(POST "Content-Length: 0x10\r\n\r\n"), 400},
        {"hex", TEXT(POST "Content-Length: a\r\n\r\n"), 400},
        {"empty", TEXT(POST "Content-Length:\r\n\r\n"), 400},
        {"blank", TEXT(POST "Content-Length:  \t \r\n\r\n"), 400},
        {"dot", TEXT(POST "Content-Length: 5.0\r\n\r\n"), 400},
        {"exponent", TEXT(POST "Content-Length: 5e1\r\n\r\n"), 400},
        {"quoted", TEXT(POST "Content-Length: \"5\"\r\n\r\n"), 400},
        {"space within", TEXT(POST "Content-Length: 1 0\r\n\r\n"), 400},
        {"list", TEXT(POST "Content-Length: 5, 5\r\n\r\n"), 400},
        {"list, no space", TEXT(POST "Content-Length: 5,5\r\n\r\n"), 400},
        {"comma behind", TEXT(POST "Content-Length: 5,\r\n\r\n"), 400},
        {"wide digit", TEXT(POST "Content-Length: \xef\xbc\x95\r\n\r\n"), 400},
        {"NUL behind", TEXT(POST "Content-Length: 5\0\r\n\r\n"), 400},
        {"twice, same",
         TEXT(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), 400},
        {"twice, other",
         TEXT(POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n"), 400},
        {"thrice",
         TEXT(POST "Content-Length: 5\r\nContent-Length: 5\r\n"
                   "Content-Length: 5\r\n\r\n"),
         400},
        {"space before colon", TEXT(POST "Content-Length : 5\r\n\r\n"), 400},
        {"tab before colon", TEXT(POST "Content-Length\t: 5\r\n\r\n"), 400},
        {"vertical tab", TEXT(POST "Content-Length:\v5\r\n\r\n"), 400},
        {"GET may have one", TEXT(GET "Content-Length: 5\r\n\r\n"), 0},
        {"underscored name is another", TEXT(POST "Content_Length: x\r\n\r\n"),
         0},
    };

    (void)state;
    check(table, COUNT(table));
}

static void
test_codings(void **state)
{
    static const struct vector table[] = {
        {"chunked", TEXT(POST "Transfer-Encoding: chunked\r\n\r\n"), 0},
        {"case", TEXT(POST "TRANSFER-ENCODING: Chunked\r\n\r\n"), 0},
        {"CL.TE",
         TEXT(POST "Content-Length: 5\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n"),
         400},
        {"TE.CL",
         TEXT(POST "Transfer-Encoding: chunked\r\n"
                   "Content-Length: 5\r\n\r\n"),
         400},
        {"0.CL and TE",
         TEXT(GET "Transfer-Encoding: chunked\r\n"
                  "Content-Length: 0\r\n\r\n"),
         400},
        {"TE.TE",
         TEXT(POST "Transfer-Encoding: chunked\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n"),
         400},
        {"TE.TE other",
         TEXT(POST "Transfer-Encoding: chunked\r\n"
                   "Transfer-Encoding: identity\r\n\r\n"),
         400},
        {"TE.TE first other",
         TEXT(POST "Transfer-Encoding: gzip\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n"),
         400},
        {"chunked twice",
         TEXT(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"), 400},
        {"chunked not last",
         TEXT(POST "Transfer-Encoding: chunked, gzip\r\n\r\n"), 400},
        {"chunked, identity",
         TEXT(POST "Transfer-Encoding: chunked, identity\r\n\r\n"), 400},
        {"parameter", TEXT(POST "Transfer-Encoding: chunked;q=1\r\n\r\n"), 400},
        {"quoted", TEXT(POST "Transfer-Encoding: \"chunked\"\r\n\r\n"), 400},
        {"comma before", TEXT(POST "Transfer-Encoding: , chunked\r\n\r\n"),
         400},
        {"comma behind", TEXT(POST "Transfer-Encoding: chunked,\r\n\r\n"), 400},
        {"empty", TEXT(POST "Transfer-Encoding:\r\n\r\n"), 400},
        {"colon", TEXT(POST "Transfer-Encoding: : chunked\r\n\r\n"), 400},
        {"space within", TEXT(POST "Transfer-Encoding: chunked x\r\n\r\n"),
         400},
        {"vertical tab", TEXT(POST "Transfer-Encoding:\vchunked\r\n\r\n"), 400},
        {"form feed", TEXT(POST "Transfer-Encoding: chunked\f\r\n\r\n"), 400},
        {"NUL", TEXT(POST "Transfer-Encoding: chunked\0\r\n\r\n"), 400},
        {"high byte", TEXT(POST "Transfer-Encoding: chunked\xff\r\n\r\n"), 400},
        {"no-break space",
         TEXT(POST "Transfer-Encoding: \xa0"
                   "chunked\r\n\r\n"),
         400},
        {"space before colon", TEXT(POST "Transfer-Encoding : chunked\r\n\r\n"),
         400},
        {"space before name", TEXT(POST " Transfer-Encoding: chunked\r\n\r\n"),
         400},
        {"folded", TEXT(POST "Transfer-Encoding:\r\n chunked\r\n\r\n"), 400},
        {"folded by tab", TEXT(POST "Transfer-Encoding:\r\n\tchunked\r\n\r\n"),
         400},
        {"bare CR", TEXT(POST "X: y\rTransfer-Encoding: chunked\r\n\r\n"), 400},
        {"bare LF", TEXT(POST "X: y\nTransfer-Encoding: chunked\r\n\r\n"), 400},
        {"HTTP/1.0",
         TEXT("POST / HTTP/1.0\r\n"
              "Transfer-Encoding: chunked\r\n\r\n"),
         400},
        {"HTTP/1.0 gzip",
         TEXT("POST / HTTP/1.0\r\n"
              "Transfer-Encoding: gzip\r\n\r\n"),
         400},
        {"gzip", TEXT(POST "Transfer-Encoding: gzip\r\n\r\n"), 501},
        {"identity", TEXT(POST "Transfer-Encoding: identity\r\n\r\n"), 501},
        {"xchunked", TEXT(POST "Transfer-Encoding: xchunked\r\n\r\n"), 501},
        {"chunke", TEXT(POST "Transfer-Encoding: chunke\r\n\r\n"), 501},
        {"gzip, chunked", TEXT(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"),
         501},
        {"gzip,chunked", TEXT(POST "Transfer-Encoding: gzip,chunked\r\n\r\n"),
         501},
        {"gzip , chunked",
         TEXT(POST "Transfer-Encoding: gzip \t,\t chunked\r\n\r\n"), 501},
        {"gzip with a parameter",
         TEXT(POST "Transfer-Encoding: gzip;q=1, chunked\r\n\r\n"), 400},
        {"gzip and space",
         TEXT(POST "Transfer-Encoding: gzip chunked\r\n"
                   "\r\n"),
         400},
        {"gzip then nothing", TEXT(POST "Transfer-Encoding: gzip,\r\n\r\n"),
         400},
        {"two others", TEXT(POST "Transfer-Encoding: gzip, br\r\n\r\n"), 400},
        {"gzip and CL",
         TEXT(POST "Content-Length: 5\r\n"
                   "Transfer-Encoding: gzip\r\n\r\n"),
         400},
        {"underscored name is another",
         TEXT(POST "Transfer_Encoding: gzip\r\n\r\n"), 0},
    };

    (void)state;
    check(table, COUNT(table));
}

static void
test_lines(void **state)
{
    static const struct vector table[] = {
        {"bare LF ends the request line",
         TEXT("GET / HTTP/1.1\nHost: example.org\r\n\r\n"), 400},
        {"bare LF ends a field", TEXT("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400},
        {"bare LF ends the head", TEXT(GET "\n"), 400},
        {"LF CR", TEXT(GET "\n\r"), 400},
        {"CR CR LF", TEXT(GET "A: b\r\r\n\r\n"), 400},
        {"bare CR in a value", TEXT(GET "A: b\rc\r\n\r\n"), 400},
        {"bare CR in a name", TEXT(GET "A\rB: c\r\n\r\n"), 400},
        {"bare CR before the end", TEXT(GET "\rA: b\r\n\r\n"), 400},
        {"bare CR in the target", TEXT("GET /\r HTTP/1.1\r\n" HOST "\r\n"),
         400},
        {"NUL in the request line", TEXT("GET /\0 HTTP/1.1\r\n" HOST "\r\n"),
         400},
        {"NUL in a name", TEXT(GET "A\0: b\r\n\r\n"), 400},
        {"NUL in a value", TEXT(GET "A: b\0c\r\n\r\n"), 400},
        {"folded", TEXT(GET "A: b\r\n c\r\n\r\n"), 400},
        {"folded by tab", TEXT(GET "A: b\r\n\tc\r\n\r\n"), 400},
        {"folded to nothing", TEXT(GET "A: b\r\n \r\n\r\n"), 400},
        {"space before the first field",
         TEXT("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400},
        {"space before colon", TEXT(GET "A : b\r\n\r\n"), 400},
        {"tab before colon", TEXT(GET "A\t: b\r\n\r\n"), 400},
        {"empty name", TEXT(GET ": b\r\n\r\n"), 400},
        {"no colon", TEXT(GET "A\r\n\r\n"), 400},
        {"no colon, with value", TEXT(GET "A b\r\n\r\n"), 400},
        {"name with slash", TEXT(GET "A/B: c\r\n\r\n"), 400},
        {"name with quote", TEXT(GET "\"A\": c\r\n\r\n"), 400},
        {"name with bracket", TEXT(GET "A(B): c\r\n\r\n"), 400},
        {"name with high byte", TEXT(GET "\xc3\x84: c\r\n\r\n"), 400},
        {"escape in a value", TEXT(GET "A: \x1b[0m\r\n\r\n"), 400},
        {"DEL in a value", TEXT(GET "A: b\x7f\r\n\r\n"), 400},
        {"backspace deep in a value",
         TEXT(GET "A: abcdefghijklmnop\bq\r\n\r\n"), 400},
        {"DEL deep in a value", TEXT(GET "A: abcdefghijklmnop\x7fq\r\n\r\n"),
         400},
        {"tab in a value", TEXT(GET "A: b\tc\td efghijklm\tn\r\n\r\n"), 0},
        {"high bytes in a value",
         TEXT(GET "A: \xc3\xa4\xff\x80 abcdefgh\xff\r\n\r\n"), 0},
        {"all token marks in a name",
         TEXT(GET "!#$%&'*+-.^_`|~09azAZ: c\r\n\r\n"), 0},
        {"empty value", TEXT(GET "A:\r\n\r\n"), 0},
        {"empty line first", TEXT("\r\n" GET "\r\n"), 400},
        {"only an empty line", TEXT("\r\n\r\n"), 400},
        {"only line ends", TEXT("\n\n"), 400},
    };

    (void)state;
    check(table, COUNT(table));
}

/* Every byte that is no part of a value, in every place of a long value, must
 * be refused: the search goes eight bytes at a time. */
static void
test_value_bytes(void **state)
{
    char head[] = GET "A: 0123456789abcdefghi\r\n\r\n";
    size_t first = sizeof(GET) - 1 + 3;
    struct http_request req;

    (void)state;
    for (int b = 0; b < 256; b++) {
        bool good = b == '\t' || (b >= 0x20 && b != 0x7f);

        for (size_t i = first; i < first + 19; i++) {
            char kept = head[i];
            int rc;

            head[i] = (char)b;
            rc = parse_whole(head, sizeof(head) - 1, &req);
            head[i] = kept;
            assert_int_equal(rc, good ? 0 : 400);
        }
    }
}

static void
test_hosts(void **state)
{
    static const struct vector table[] = {
        {"none in 1.1", TEXT("GET / HTTP/1.1\r\n\r\n"), 400},
        {"none in 1.1 with others", TEXT("GET / HTTP/1.1\r\nA: b\r\n\r\n"),
         400},
        {"none in 1.0", TEXT("GET / HTTP/1.0\r\n\r\n"), 0},
        {"twice, same", TEXT(GET HOST "\r\n"), 400},
        {"twice, other", TEXT(GET "host: b\r\n\r\n"), 400},
        {"twice in 1.0", TEXT("GET / HTTP/1.0\r\n" HOST HOST "\r\n"), 400},
        {"empty", TEXT("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400},
        {"blank", TEXT("GET / HTTP/1.1\r\nHost: \t \r\n\r\n"), 400},
        {"only a port", TEXT("GET / HTTP/1.1\r\nHost: :80\r\n\r\n"), 400},
        {"list", TEXT("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), 400},
        {"space", TEXT("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400},
        {"slash", TEXT("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400},
        {"user", TEXT("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), 400},
        {"scheme", TEXT("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n"), 400},
        {"query", TEXT("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"), 400},
        {"high byte", TEXT("GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n"), 400},
        {"bad escape", TEXT("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n"), 400},
        {"worse escape", TEXT("GET / HTTP/1.1\r\nHost: a%xyb\r\n\r\n"), 400},
        {"escape", TEXT("GET / HTTP/1.1\r\nHost: a%2Db\r\n\r\n"), 0},
        {"port", TEXT("GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n"), 0},
        {"empty port", TEXT("GET / HTTP/1.1\r\nHost: a:\r\n\r\n"), 0},
        {"largest port", TEXT("GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n"), 0},
        {"port too large", TEXT("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
         400},
        {"port of 2^32", TEXT("GET / HTTP/1.1\r\nHost: a:4294967376\r\n\r\n"),
         400},
        {"bad port", TEXT("GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n"), 400},
        {"two ports", TEXT("GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"), 400},
        {"signed port", TEXT("GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n"), 400},
        {"IPv4", TEXT("GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n"), 0},
        {"IPv6", TEXT("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"), 0},
        {"IPv6 and port",
         TEXT("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n"
              "\r\n"),
         0},
        {"longest IPv6",
         TEXT("GET / HTTP/1.1\r\n"
              "Host: [0000:0000:0000:0000:0000:ffff:255.255.255.255]\r\n\r\n"),
         0},
        {"IPv6 open", TEXT("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), 400},
        {"IPv6 empty", TEXT("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), 400},
        {"IPv6 bad", TEXT("GET / HTTP/1.1\r\nHost: [::1::]\r\n\r\n"), 400},
        {"IPv6 zone", TEXT("GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n"),
         400},
        {"IPv6 bare", TEXT("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"), 400},
        {"IPv6 and rubbish", TEXT("GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n"),
         400},
        {"IPv6 too long",
         TEXT("GET / HTTP/1.1\r\nHost: [0000000000000000000"
              "0000000000000000000000000000000::1]\r\n\r\n"),
         400},
    };

    (void)state;
    check(table, COUNT(table));
}

static void
test_others(void **state)
{
    static const struct vector table[] = {
        {"Expect", TEXT(POST "Expect: 100-Continue\r\n\r\n"), 0},
        {"Expect other", TEXT(POST "Expect: 101-continue\r\n\r\n"), 417},
        {"Expect empty", TEXT(POST "Expect:\r\n\r\n"), 417},
        {"Expect list", TEXT(POST "Expect: 100-continue, x\r\n\r\n"), 417},
        {"Expect twice, second other",
         TEXT(POST "Expect: 100-continue\r\nExpect: x\r\n\r\n"), 417},
        {"Expect other in 1.0", TEXT("POST / HTTP/1.0\r\nExpect: x\r\n\r\n"),
         417},
        {"Expect other and CL twice",
         TEXT(POST "Expect: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n"
                   "\r\n"),
         400},
        {"Connection no list", TEXT(GET "Connection: close x\r\n\r\n"), 400},
        {"Connection parameter", TEXT(GET "Connection: close;a\r\n\r\n"), 400},
        {"Connection empty", TEXT(GET "Connection:\r\n\r\n"), 0},
        {"Connection commas", TEXT(GET "Connection: ,, close ,,\r\n\r\n"), 0},
    };

    (void)state;
    check(table, COUNT(table));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_codings),
        cmocka_unit_test(test_lines),   cmocka_unit_test(test_value_bytes),
        cmocka_unit_test(test_hosts),   cmocka_unit_test(test_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Forms as bytes and what is found in them: `name=file:body` a part
 * (`name:body` for what is no file), `end`, or `bad` where the reading stops.
 */
#include "multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FORM "multipart/form-data; boundary=b"
#define D    "Content-Disposition: form-data; "

static const struct {
    const char *type, *body, *want;
} rows[] = {
    {FORM,
     "--b\r\n" D "name=\"f\"; filename=\"a.txt\"\r\n\r\nhello\r\n--b--\r\n",
     "f=a.txt:hello end"},
    {FORM,
     "--b\r\n" D "name=\"t\"\r\n\r\nx\r\n--b\r\n" D
     "name=\"f\"; filename=\"\"\r\nContent-Type: a/b\r\n\r\n\r\n--b--",
     "t:x f=: end"},
    /* Bodies that look like the delimiter, and nearly. */
    {FORM, "--b\r\n" D "name=f;filename=x\r\n\r\n\r\n--a--b\r\n-\r\n--b--",
     "f=x:\r\n--a--b\r\n- end"},
    /* An empty body with only one CR LF between head and delimiter. */
    {FORM, "--b\r\n" D "name=f;filename=x\r\n\r\n--b--", "f=x: end"},
    /* What browsers send for quotes, and what older curl did. */
    {FORM, "--b\r\n" D "name=\"f\"; filename=\"a%22b\"\r\n\r\n1\r\n--b--",
     "f=a%22b:1 end"},
    {FORM, "--b\r\n" D "name=\"f\"; filename=\"a\\\"b\"\r\n\r\n1\r\n--b--",
     "f=a\\\"b:1 end"},
    {FORM, "--b\r\n" D "name=\"f\"; filename=\"C:\\a;b\"\r\n\r\n1\r\n--b--",
     "f=C:\\a;b:1 end"},
    /* Preamble, padding, epilogue (RFC 2046). */
    {FORM, "before\r\n--b \t\r\n" D "name=f\r\n\r\n1\r\n--b--after", "f:1 end"},
    {"Multipart/Form-Data ; charset=utf-8; boundary=\"x y\"",
     "--x y\r\nCONTENT-DISPOSITION:form-data;NAME=f\r\n\r\n1\r\n--x y--",
     "f:1 end"},
    {FORM, "--b--", "end"},
    /* What is not a form. */
    {"multipart/form-data", "--b--", "bad"},
    {"multipart/form-data; boundary=", "----", "bad"},
    {"multipart/form-data; boundary=\"b", "--b--", "bad"},
    {"multipart/form-data; boundary=12345678901234567890123456789012345678901"
     "23456789012345678901234567890",
     "--b--", "bad"},
    {"multipart/form-datax; boundary=b", "--b--", "bad"},
    {FORM, "", "bad"},
    {FORM, "--b", "bad"},
    {FORM, "--b\r\n", "bad"},
    {FORM, "--bc\r\n" D "name=f\r\n\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\n" D "name=f\r\n\r\n1", "bad"},
    {FORM, "--b\r\n" D "name=f\r\n\r\n1\r\n--b", "bad"},
    {FORM, "--b\r\n" D "name=f\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\n\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\n" D "name=\"f\r\n\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\n" D "=f\r\n\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\n" D "name\r\n\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\n" D "name=f\r\n" D "name=g\r\n\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\nContent-Disposition: file; name=f\r\n\r\n1\r\n--b--", "bad"},
    {FORM, "--b\r\n" D "name=f\r\n\r\n1\r\n--b\r\nx\r\n\r\n", "f:1 bad"},
};

static void put(char *out, size_t size, const char *text, size_t len)
{
    size_t n = strlen(out);

    assert_true(n + len < size);
    memcpy(out + n, text, len);
    out[n + len] = '\0';
}

/* BODY is copied to its exact size, so that ASan sees a byte too far. */
static void read_form(const char *type, const char *bytes, size_t len,
                      char *out, size_t size)
{
    char *body = malloc(len > 0 ? len : 1);
    struct multipart m;
    struct multipart_part part;
    int rc;

    assert_non_null(body);
    memcpy(body, bytes, len);
    out[0] = '\0';
    rc = multipart_begin(&m, type, body, len) < 0 ? -1 : 1;
    while (rc == 1) {
        rc = multipart_next(&m, &part);
        if (rc != 1) {
            break;
        }
        put(out, size, part.name, part.name_len);
        if (part.file != NULL) {
            put(out, size, "=", 1);
            put(out, size, part.file, part.file_len);
        }
        put(out, size, ":", 1);
        put(out, size, part.body, part.len);
        put(out, size, " ", 1);
    }
    put(out, size, rc < 0 ? "bad" : "end", 3);
    free(body);
}

static void test_forms(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char got[512];

        read_form(rows[i].type, rows[i].body, strlen(rows[i].body), got,
                  sizeof(got));
        if (strcmp(got, rows[i].want) != 0) {
            fail_msg("row %zu: got %s, want %s", i, got, rows[i].want);
        }
    }
}

/* Cut anywhere, or with any byte changed: never a byte read too far, and each
 * cut before the last hyphens is bad. */
static void test_broken_forms(void **state)
{
    static const char form[] = "--b\r\n" D "name=\"f\"; filename=\"a\"\r\n\r\n"
                               "xy\r\n--b\r\n" D "name=g\r\n\r\n\r\n--b--";
    size_t len = sizeof(form) - 1;
    char copy[sizeof(form)];
    char got[512];

    for (size_t n = 0; n < len; n++) {
        read_form(FORM, form, n, got, sizeof(got));
        assert_string_equal(got + strlen(got) - 3, "bad");
    }
    for (size_t i = 0; i < len; i++) {
        for (int c = 0; c < 256; c++) {
            memcpy(copy, form, sizeof(form));
            copy[i] = (char)c;
            read_form(FORM, copy, len, got, sizeof(got));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_broken_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

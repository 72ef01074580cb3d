/* Takes a file and answers its size and SHA-256:
 *
 *     curl --data-binary @FILE http://127.0.0.1:8080/upload
 *
 * or with the form that a browser gets. The body arrives whole, in memory that
 * Cardea received it into; how large it may be says cardea.conf (body-limit),
 * and what is larger never comes here. */
#include "multipart.h"
#include "page.h"

#include <stdio.h>
#include <string.h>
#include <openssl/evp.h>

#define FILES_MAX 32

struct file {
    const char *name; /* anything: the client chose it */
    size_t name_len;
    size_t size;
    char sha256[65];
};

/* 0, or -1: the library cannot. */
static int digest(const void *bytes, size_t len, char out[65])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_Digest(bytes, len, sum, &n, EVP_sha256(), NULL) != 1 || n != 32) {
        return -1;
    }
    for (unsigned i = 0; i < n; i++) {
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
    }
    return 0;
}

static int take(struct file *f, const char *name, size_t name_len,
                const void *bytes, size_t len)
{
    f->name = name;
    f->name_len = name_len;
    f->size = len;
    return digest(bytes, len, f->sha256);
}

static void form(struct cardea_request *r)
{
    const char *host = cardea_host(r);

    cardea_puts(r, "<form class=\"panel controls\" method=\"post\" "
                   "action=\"/upload\" enctype=\"multipart/form-data\">\n"
                   "<label>File <input type=\"file\" name=\"file\" multiple "
                   "required></label>\n"
                   "<button type=\"submit\">Send it</button>\n</form>\n"
                   "<p>Or from a terminal:</p>\n<pre tabindex=\"0\" "
                   "aria-label=\"Command\"><code>curl --data-binary @FILE "
                   "http://");
    page_text(r, host, strlen(host));
    cardea_puts(r,
                "/upload</code></pre>\n"
                "<p class=\"quiet\">The file is not kept. How large it may be "
                "says <code>set body-limit</code> in "
                "<code>cardea.conf</code>: 16&nbsp;MiB unless set.</p>\n");
}

static const char lead[] =
    "A C program answers its size and SHA-256. It reads the file where Cardea "
    "received it, in memory that both share.";

static void answer_page(struct cardea_request *r, const struct file *files,
                        int n)
{
    page_begin(r, "Send a file", lead);
    for (int i = 0; i < n; i++) {
        cardea_puts(r, "<dl class=\"facts\">\n<div><dt>Name</dt>"
                       "<dd class=\"small\">");
        page_text(r, files[i].name, files[i].name_len);
        cardea_printf(r,
                      "</dd></div>\n<div><dt>Bytes</dt><dd>%zu</dd></div>\n"
                      "<div class=\"wide\"><dt>SHA-256</dt>"
                      "<dd class=\"small\"><code>%s</code></dd></div>\n"
                      "</dl>\n",
                      files[i].size, files[i].sha256);
    }
    if (n > 0) {
        cardea_puts(r, "<h2>Another one</h2>\n");
    }
    form(r);
    page_end(r);
}

static void answer_text(struct cardea_request *r, const struct file *files,
                        int n)
{
    for (int i = 0; i < n; i++) {
        if (files[i].name_len > 0) {
            cardea_puts(r, "name ");
            page_plain(r, files[i].name, files[i].name_len);
            cardea_puts(r, "\n");
        }
        cardea_printf(r, "size %zu\nsha256 %s\n", files[i].size,
                      files[i].sha256);
    }
}

/* SAID is a sentence in plain ASCII without anything that HTML would read. */
static void refuse(struct cardea_request *r, int status, const char *said)
{
    cardea_status(r, status);
    if (page_wanted(r)) {
        page_begin(r, "Send a file", said);
        form(r);
        page_end(r);
    } else {
        cardea_printf(r, "%s\n", said);
    }
}

/* The files of a form. Their number, or -1: answered. */
static int take_form(struct cardea_request *r, struct file *files,
                     const char *body, size_t len)
{
    struct multipart m;
    struct multipart_part part;
    int n = 0;
    int rc = multipart_begin(&m, cardea_header(r, "Content-Type"), body, len);

    while (rc == 0 && (rc = multipart_next(&m, &part)) == 1) {
        rc = 0;
        /* A field of text, or one where no file was chosen. */
        if (part.file == NULL || (part.file_len == 0 && part.len == 0)) {
            continue;
        }
        if (n == FILES_MAX) {
            refuse(r, 400, "More than 32 files at once.");
            return -1;
        }
        if (take(&files[n++], part.file, part.file_len, part.body, part.len) <
            0) {
            refuse(r, 500, "The SHA-256 cannot be computed here.");
            return -1;
        }
    }
    if (rc < 0) {
        refuse(r, 400, "This is not the form that its Content-Type says.");
        return -1;
    }
    if (n == 0) {
        refuse(r, 400, "There is no file in this form.");
        return -1;
    }
    return n;
}

static void upload(struct cardea_request *r)
{
    struct file files[FILES_MAX];
    const char *name = cardea_rest(r);
    const char *body;
    size_t len;
    int n;

    cardea_set(r, "Cache-Control", "no-store");
    if (strcmp(cardea_method(r), "POST") != 0) {
        page_begin(r, "Send a file", lead);
        form(r);
        page_end(r);
        return;
    }
    body = cardea_body(r, &len);
    if (multipart_is(cardea_header(r, "Content-Type"))) {
        n = take_form(r, files, body, len);
    } else {
        name += *name == '/';
        n = take(&files[0], name, strlen(name), body, len) < 0 ? -1 : 1;
        if (n < 0) {
            refuse(r, 500, "The SHA-256 cannot be computed here.");
        }
    }
    if (n < 0) {
        return;
    }
    if (page_wanted(r)) {
        answer_page(r, files, n);
    } else {
        answer_text(r, files, n);
    }
}

int main(void)
{
    return cardea_serve_threads(upload);
}

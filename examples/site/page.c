#include "page.h"

#include <string.h>

int page_wanted(struct cardea_request *r)
{
    const char *accept = cardea_header(r, "Accept");

    cardea_set(r, "Vary", "Accept");
    return accept != NULL && strstr(accept, "text/html") != NULL;
}

void page_begin(struct cardea_request *r, const char *title, const char *lead)
{
    cardea_type(r, "text/html; charset=utf-8");
    cardea_set(r, "Content-Security-Policy",
               "default-src 'none'; style-src 'self'; script-src 'self'; "
               "connect-src 'self'; img-src data:; form-action 'self'; "
               "base-uri 'none'; frame-ancestors 'none'");
    cardea_set(r, "X-Content-Type-Options", "nosniff");
    cardea_printf(
        r,
        "<!doctype html>\n"
        "<html lang=\"en\">\n"
        "<head>\n"
        "<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, "
        "initial-scale=1\">\n"
        "<title>%s</title>\n"
        "<link rel=\"icon\" href=\"data:,\">\n"
        "<link rel=\"stylesheet\" href=\"/style.css\">\n"
        "</head>\n"
        "<body>\n"
        "<main class=\"page\">\n"
        "<p class=\"back\"><a href=\"/\">Back to the front page</a></p>\n"
        "<h1>%s</h1>\n"
        "<p class=\"lead\">%s</p>\n",
        title, title, lead);
}

void page_end(struct cardea_request *r)
{
    cardea_puts(r, "</main>\n</body>\n</html>\n");
}

void page_text(struct cardea_request *r, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *as = c == '&'                ? "&amp;"
                         : c == '<'              ? "&lt;"
                         : c == '>'              ? "&gt;"
                         : c == '"'              ? "&quot;"
                         : c == '\''             ? "&#39;"
                         : c < 0x20 || c == 0x7f ? "?"
                                                 : NULL;

        if (as != NULL) {
            cardea_puts(r, as);
        } else {
            cardea_write(r, text + i, 1);
        }
    }
}

void page_plain(struct cardea_request *r, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        cardea_write(r, c < 0x20 || c == 0x7f ? "?" : text + i, 1);
    }
}

/* What the pages of this site have in common: their frame, and text that HTML
 * takes for text. */
#ifndef PAGE_H
#define PAGE_H

#include <cardea.h>

#include <stddef.h>

/* Does the client want a page (a browser), rather than plain text (curl)? The
 * answer says that it depends on it. */
int page_wanted(struct cardea_request *r);

/* The head of a page up to its first paragraph. TITLE and LEAD are HTML. */
void page_begin(struct cardea_request *r, const char *title, const char *lead);

/* The end of it. */
void page_end(struct cardea_request *r);

/* LEN bytes of TEXT, which may be anything: what HTML would take for its own is
 * escaped, and control bytes become question marks. */
void page_text(struct cardea_request *r, const char *text, size_t len);

/* The same for plain text: control bytes become question marks, so that no
 * terminal obeys them. */
void page_plain(struct cardea_request *r, const char *text, size_t len);

/* The text of a number that is a macro. */
#define PAGE_STRING(x)  PAGE_STRING_(x)
#define PAGE_STRING_(x) #x

#endif

/* FastCGI 1.0, the side of the web server, as data: the records of one request
 * of a responder, and the verdict on what comes back. No I/O, no clock; one
 * request a connection at a time, its id is 1. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FCGI_HEADER 8

/* What a responder is sent: FCGI_BEGIN_REQUEST that asks it to keep the
 * connection, FCGI_PARAMS with ENV ("NAME=value" strings, NULL-terminated, as
 * cgi_env_new() makes them) and FCGI_STDIN with BODY, each stream with its
 * empty last record. *P_LEN bytes that the caller frees with free(). NULL: no
 * memory. */
char *fcgi_request_new(char *const *env, const char *body, size_t body_len,
                       size_t *p_len);

enum fcgi_verdict {
    FCGI_MORE,  /* all bytes are used up */
    FCGI_OUT,   /* a piece of the answer */
    FCGI_ERR,   /* a piece of the standard error */
    FCGI_ENDED, /* the request is over: reader.protocol and .app say how */
    FCGI_BAD,   /* not FastCGI, or not about our request */
};

/* Where we are among the records; zeroed before the first byte. */
struct fcgi_reader {
    uint8_t header[FCGI_HEADER];
    uint8_t end[FCGI_HEADER]; /* body of FCGI_END_REQUEST */
    uint32_t n_header;        /* bytes of the header that are there */
    uint32_t n_end;
    uint32_t left, padding; /* of the record's content, and behind it */
    uint32_t app;           /* exit status that the program gave */
    uint8_t protocol; /* 0 done, 1 and 2 refused for now, 3 no responder */
};

/* Reads BUF[0..LEN). *P_USED of them are consumed; with FCGI_OUT and FCGI_ERR
 * the last *P_PIECE of those are the piece. To be called again with the rest
 * until FCGI_MORE. After FCGI_ENDED and FCGI_BAD nothing more is read. */
enum fcgi_verdict fcgi_read(struct fcgi_reader *reader, const char *buf,
                            size_t len, size_t *p_used, size_t *p_piece);

/* Reason phrases, as registered with IANA for HTTP status codes (RFC 9110
 * section 15 and its extensions). */
#include "http/http.h"

#include <stddef.h>

#define MAX 31 /* the longest phrase */

/* Arrays of text, not of pointers: nothing to relocate, so read-only. */

static const char early[][MAX + 1] = {
    [0] = "Continue",
    [1] = "Switching Protocols",
    [2] = "Processing",
    [3] = "Early Hints",
};

static const char success[][MAX + 1] = {
    [0] = "OK",
    [1] = "Created",
    [2] = "Accepted",
    [3] = "Non-Authoritative Information",
    [4] = "No Content",
    [5] = "Reset Content",
    [6] = "Partial Content",
    [7] = "Multi-Status",
    [8] = "Already Reported",
    [26] = "IM Used",
};

static const char redirect[][MAX + 1] = {
    [0] = "Multiple Choices",   [1] = "Moved Permanently",  [2] = "Found",
    [3] = "See Other",          [4] = "Not Modified",       [5] = "Use Proxy",
    [7] = "Temporary Redirect", [8] = "Permanent Redirect",
};

static const char client[][MAX + 1] = {
    [0] = "Bad Request",
    [1] = "Unauthorized",
    [2] = "Payment Required",
    [3] = "Forbidden",
    [4] = "Not Found",
    [5] = "Method Not Allowed",
    [6] = "Not Acceptable",
    [7] = "Proxy Authentication Required",
    [8] = "Request Timeout",
    [9] = "Conflict",
    [10] = "Gone",
    [11] = "Length Required",
    [12] = "Precondition Failed",
    [13] = "Content Too Large",
    [14] = "URI Too Long",
    [15] = "Unsupported Media Type",
    [16] = "Range Not Satisfiable",
    [17] = "Expectation Failed",
    [21] = "Misdirected Request",
    [22] = "Unprocessable Content",
    [23] = "Locked",
    [24] = "Failed Dependency",
    [25] = "Too Early",
    [26] = "Upgrade Required",
    [28] = "Precondition Required",
    [29] = "Too Many Requests",
    [31] = "Request Header Fields Too Large",
    [51] = "Unavailable For Legal Reasons",
};

static const char server[][MAX + 1] = {
    [0] = "Internal Server Error",
    [1] = "Not Implemented",
    [2] = "Bad Gateway",
    [3] = "Service Unavailable",
    [4] = "Gateway Timeout",
    [5] = "HTTP Version Not Supported",
    [6] = "Variant Also Negotiates",
    [7] = "Insufficient Storage",
    [8] = "Loop Detected",
    [10] = "Not Extended",
    [11] = "Network Authentication Required",
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define PHRASE(a, i) ((i) < COUNT(a) ? (a)[i] : "")

const char *
http_reason(int status)
{
    size_t i = status < 0 ? 0 : (size_t)status % 100;

    switch (status < 0 ? 0 : status / 100) {
    case 1:
        return PHRASE(early, i);
    case 2:
        return PHRASE(success, i);
    case 3:
        return PHRASE(redirect, i);
    case 4:
        return PHRASE(client, i);
    case 5:
        return PHRASE(server, i);
    default:
        return "";
    }
}

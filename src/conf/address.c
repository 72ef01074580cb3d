/* Addresses to listen at. Names are not resolved: a server that waits for a
 * resolver at its start does not start on the day the network is down. */
#include "conf/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#define DEFAULT_PORT 8080

/* A port of digits only, 0 to 65535, without zeros before it; -1 otherwise. */
static int
port_parse(const char *text, size_t len)
{
    int port = 0;

    if (len == 0 || len > 5 || (len > 1 && text[0] == '0')) {
        return -1;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        port = port * 10 + (text[i] - '0');
    }
    return port <= 65535 ? port : -1;
}

static void
address_set6(struct conf_listen *listen, const struct in6_addr *host, int port)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&listen->addr;

    in6->sin6_family = AF_INET6;
    in6->sin6_addr = *host;
    in6->sin6_port = htons((uint16_t)port);
    listen->addr_len = sizeof(*in6);
}

static void
address_set4(struct conf_listen *listen, struct in_addr host, int port)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)&listen->addr;

    in4->sin_family = AF_INET;
    in4->sin_addr = host;
    in4->sin_port = htons((uint16_t)port);
    listen->addr_len = sizeof(*in4);
}

/* "[...]" of IPv6. */
static const char *
address_host6(const char *text, size_t len, int port,
              struct conf_listen *listen)
{
    char host[INET6_ADDRSTRLEN];
    struct in6_addr in6;

    if (len - 2 >= sizeof(host)) {
        return "not an IPv6 address";
    }
    memcpy(host, text + 1, len - 2);
    host[len - 2] = '\0';
    if (strchr(host, '%')) {
        return "IPv6 addresses with a zone (%) are not available";
    }
    if (inet_pton(AF_INET6, host, &in6) != 1) {
        return "not an IPv6 address";
    }
    address_set6(listen, &in6, port);
    return NULL;
}

static const char *
address_host4(const char *text, size_t len, int port,
              struct conf_listen *listen)
{
    char host[INET_ADDRSTRLEN] = "127.0.0.1";
    struct in_addr in4;

    if (len != strlen("localhost") || memcmp(text, "localhost", len) != 0) {
        if (len >= sizeof(host)) {
            goto name;
        }
        memcpy(host, text, len);
        host[len] = '\0';
    }
    if (inet_pton(AF_INET, host, &in4) != 1) {
        if (strspn(host, "0123456789.") == strlen(host)) {
            return "not an IPv4 address";
        }
        goto name;
    }
    address_set4(listen, in4, port);
    return NULL;
name:
    return "names are not resolved: write an IP address, or :PORT for all "
           "addresses";
}

bool
conf_address_like(const char *text, size_t len)
{
    return (len > 5 && memcmp(text, "unix:", 5) == 0) ||
           (memchr(text, ':', len) && !memchr(text, '/', len));
}

const char *
conf_address_parse(const char *text, size_t len, struct conf_listen *listen)
{
    const char *bracket =
        len > 0 && text[0] == '[' ? memchr(text, ']', len) : NULL;
    const char *colon;
    size_t host_len = len;
    int port = DEFAULT_PORT;

    if (memchr(text, '/', len)) {
        return "the path of a socket is written behind unix:, such as "
               "unix:/run/app.sock";
    }
    if (len > 0 && text[0] == '[' && !bracket) {
        return "']' is missing";
    }
    colon = bracket ? bracket + 1 : memchr(text, ':', len);
    if (bracket && colon < text + len && *colon != ':') {
        return "after ']' only :PORT may follow";
    }
    listen->is_default_port = !colon || colon == text + len;
    if (!listen->is_default_port) {
        host_len = (size_t)(colon - text);
        if (memchr(colon + 1, ':', len - host_len - 1)) {
            return "write IPv6 addresses in brackets, such as [::1]:8080";
        }
        port = port_parse(colon + 1, len - host_len - 1);
        if (port < 0) {
            return "the port must be a number from 0 to 65535";
        }
    } else if (port_parse(text, len) >= 0) {
        return "a port alone is written with a colon, such as :8080";
    }
    if (host_len == 0) {
        if (len == 0) {
            return "an address is missing, such as :8080";
        }
        address_set6(listen, &in6addr_any, port);
        return NULL;
    }
    return bracket ? address_host6(text, host_len, port, listen)
                   : address_host4(text, host_len, port, listen);
}

/* In the byte order of the network; 0 of a Unix socket. */
static int
address_port(const struct conf_listen *listen)
{
    if (listen->addr.ss_family == AF_INET6) {
        return ((const struct sockaddr_in6 *)&listen->addr)->sin6_port;
    }
    if (listen->addr.ss_family == AF_INET) {
        return ((const struct sockaddr_in *)&listen->addr)->sin_port;
    }
    return 0;
}

/* Does A listen at every address of B's family? [::] takes IPv4 as well. */
static bool
address_is_any(const struct conf_listen *a, const struct conf_listen *b)
{
    if (a->addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)&a->addr;

        return memcmp(&in6->sin6_addr, &in6addr_any, sizeof(in6addr_any)) == 0;
    }
    return b->addr.ss_family == AF_INET &&
           ((const struct sockaddr_in *)&a->addr)->sin_addr.s_addr ==
               htonl(INADDR_ANY);
}

bool
conf_address_overlap(const struct conf_listen *a, const struct conf_listen *b)
{
    if (a->addr.ss_family == AF_UNIX && b->addr.ss_family == AF_UNIX) {
        return strcmp(((const struct sockaddr_un *)&a->addr)->sun_path,
                      ((const struct sockaddr_un *)&b->addr)->sun_path) == 0;
    }
    if (address_port(a) != address_port(b) || address_port(a) == 0) {
        return false;
    }
    if (a->addr_len == b->addr_len &&
        memcmp(&a->addr, &b->addr, a->addr_len) == 0) {
        return true;
    }
    if (a->is_default_port || b->is_default_port) {
        return false; /* that one gives way to a free port */
    }
    return address_is_any(a, b) || address_is_any(b, a);
}

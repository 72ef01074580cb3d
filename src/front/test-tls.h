/* What OpenSSL makes before a worker is cloned: contexts, a certificate, all
 * that it makes once; and counts that must not come down to nothing. */
#pragma once

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/fuzz.h"

static EVP_PKEY *key;
static X509 *cert;

/* ---- contexts ---- */

static inline SSL_CTX *
make_context(int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    MUST(ctx != NULL);
    MUST(SSL_CTX_use_certificate(ctx, cert) == 1);
    MUST(SSL_CTX_use_PrivateKey(ctx, key) == 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    MUST(SSL_CTX_set_min_proto_version(ctx, version) == 1);
    MUST(SSL_CTX_set_max_proto_version(ctx, version) == 1);
    return ctx;
}

static inline SSL_CTX *
make_client_context(int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    MUST(ctx != NULL);
    MUST(SSL_CTX_set_min_proto_version(ctx, version) == 1);
    MUST(SSL_CTX_set_max_proto_version(ctx, version) == 1);
    return ctx;
}

static inline void
make_certificate(void)
{
    key = EVP_EC_gen("P-256");
    cert = X509_new();
    MUST(key && cert);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    MUST(X509_set_pubkey(cert, key) == 1);
    MUST(X509_sign(cert, key, EVP_sha256()) > 0);
}

/* One handshake and one message each way, with both ends here: what OpenSSL
 * makes once is made, outside of any connection's heap. */
static inline void
warm_up(int version)
{
    SSL_CTX *server = make_context(version),
            *client = make_client_context(version);
    SSL *s = SSL_new(server), *c = SSL_new(client);
    BIO *a, *b;
    char message[100] = "warm";

    MUST(BIO_new_bio_pair(&a, 0, &b, 0) == 1);
    SSL_set_bio(s, a, a);
    SSL_set_bio(c, b, b);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    for (int i = 0; i < 20; i++) {
        SSL_do_handshake(c);
        SSL_do_handshake(s);
    }
    MUST(SSL_is_init_finished(s) && SSL_is_init_finished(c));
    for (int i = 0; i < 3; i++) {
        MUST(SSL_write(c, message, sizeof message) == sizeof message);
        MUST(SSL_read(s, message, sizeof message) == sizeof message);
        MUST(SSL_write(s, message, sizeof message) == sizeof message);
        MUST(SSL_read(c, message, sizeof message) == sizeof message);
    }
    SSL_read(s, message, sizeof message);
    SSL_free(c);
    SSL_free(s);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    ERR_clear_error();
}

/* ---- counts of what lies in each process ----
 *
 * OpenSSL counts who uses an algorithm, in memory that each process has of its
 * own. What was counted up in the dead process and is given back in its heir
 * would be counted down to nothing there, and freed while others use it. So all
 * are raised, far above what connections can take: once at the start, and at
 * each takeover as much as the connections that came along might. */

#define HOLD(type)                                                             \
    static inline void hold_##type(type *p, void *arg)                         \
    {                                                                          \
        for (int i = 0; i < *(const int *)arg; i++) {                          \
            type##_up_ref(p);                                                  \
        }                                                                      \
    }
HOLD(EVP_MD)
HOLD(EVP_CIPHER)
HOLD(EVP_MAC)
HOLD(EVP_KDF)
HOLD(EVP_RAND)
HOLD(EVP_KEYMGMT)
HOLD(EVP_KEYEXCH)
HOLD(EVP_SIGNATURE)
HOLD(EVP_ASYM_CIPHER)
HOLD(EVP_KEM)

static inline void
hold_all(int n)
{
    EVP_MD_do_all_provided(NULL, hold_EVP_MD, &n);
    EVP_CIPHER_do_all_provided(NULL, hold_EVP_CIPHER, &n);
    EVP_MAC_do_all_provided(NULL, hold_EVP_MAC, &n);
    EVP_KDF_do_all_provided(NULL, hold_EVP_KDF, &n);
    EVP_RAND_do_all_provided(NULL, hold_EVP_RAND, &n);
    EVP_KEYMGMT_do_all_provided(NULL, hold_EVP_KEYMGMT, &n);
    EVP_KEYEXCH_do_all_provided(NULL, hold_EVP_KEYEXCH, &n);
    EVP_SIGNATURE_do_all_provided(NULL, hold_EVP_SIGNATURE, &n);
    EVP_ASYM_CIPHER_do_all_provided(NULL, hold_EVP_ASYM_CIPHER, &n);
    EVP_KEM_do_all_provided(NULL, hold_EVP_KEM, &n);
    for (int i = 0; i < n; i++) {
        EVP_PKEY_up_ref(key);
        X509_up_ref(cert);
    }
    ERR_clear_error();
}

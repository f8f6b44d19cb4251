/* SHA-1 (RFC 3174, FIPS 180-4), for the handshake of RFC 6455 only: it proves
 * that the other side speaks WebSocket and secures nothing. */
#ifndef SHA1_H
#define SHA1_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Digest of n bytes into out. */
void sha1(uint8_t out[20], const void *p, size_t n);

#ifdef __cplusplus
}
#endif
#endif

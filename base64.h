/* Base64, the standard alphabet with padding (RFC 4648 section 4). */
#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Characters that n bytes encode to. */
static inline size_t base64_size(size_t n) { return (n + 2) / 3 * 4; }

/* Encode n bytes into out, which has room for base64_size(n); no NUL is
 * added. Returns the characters written. */
size_t base64_encode(char *out, const uint8_t *p, size_t n);

/* Decode n characters into out, room for n / 4 * 3 bytes. Strict: length a
 * multiple of four, padding only where it belongs, unused bits zero, nothing
 * outside the alphabet. Returns the bytes written, or SIZE_MAX. */
size_t base64_decode(uint8_t *out, const char *p, size_t n);

#ifdef __cplusplus
}
#endif
#endif

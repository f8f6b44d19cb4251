/* SipHash-1-3 (Aumasson and Bernstein, 2012): hashes that clients cannot make collide. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>

/* Hash of n bytes under a secret key. The same on every processor. */
uint64_t hash_bytes(const uint64_t key[2], const void *p, size_t n);

#endif

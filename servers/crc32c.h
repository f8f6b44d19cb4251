/* CRC-32C (Castagnoli; RFC 3720 appendix B.4), by the processor's own instruction
 * where it has one, else by tables; chosen at the first call. */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Checksum of n bytes that follow those whose checksum is crc; 0 to begin.
 * So crc32c(crc32c(0, a, n), b, m) is the checksum of a and b together. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

/* The same by tables alone: what the instruction is tested against. */
uint32_t crc32c_tables(uint32_t crc, const void *p, size_t n);

#endif

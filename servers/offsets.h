/* File offsets and times of 64 bits on 32-bit machines, for logs over 2 GiB and for years
 * after 2037. Included before anything else; 64-bit machines keep the calls' plain names. */
#ifndef OFFSETS_H
#define OFFSETS_H

#if __SIZEOF_POINTER__ == 4 && !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64
#endif

#endif

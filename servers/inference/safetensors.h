/* The safetensors file format: u64 little-endian n, n bytes of JSON, data
 * (docs/models.md). Nothing in the file is trusted: the table is checked
 * whole before any tensor can be had, every weight is checked to be finite as it
 * is read. Numbers are little-endian in the file and turned where the machine's are not. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../utf8.h"

#define TENSOR_DIMS 8
#define SAFETENSORS_HEADER_MAX 100000000u
#define SAFETENSORS_MAX 100000u     /* tensors: what nobody has must not take our time */

struct fault;

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_OTHER };

struct tensor {
    struct slice name;
    enum dtype dtype;
    char dtype_name[12];
    uint8_t element_bytes;
    uint8_t dims;
    uint64_t shape[TENSOR_DIMS];
    uint64_t begin, end;        /* bytes from the start of the data */
    const uint8_t *data;        /* row-major; not aligned */
};

struct safetensors {
    char path[256];             /* for messages; cut when longer */
    const uint8_t *file;        /* [size] */
    size_t size;
    const uint8_t *data;
    size_t data_bytes;
    struct tensor *tensor;      /* [n] by name, in byte order */
    size_t n;
    char *header;               /* copy of the JSON, names point into it */
    bool mapped;
};

/* Read the table of a file that lies at file[0..size) and stays there; path is for
 * messages. 0, or -1 with f filled (exit 65). In both cases safetensors_close() frees. */
int safetensors_read(struct safetensors *s, const uint8_t *file, size_t size, const char *path,
                     struct fault *f);

/* Map a file read-only and read its table. When somebody cuts the file off while it is
 * mapped, the process ends with exit 65 and a line on stderr: one mapping at a time. */
int safetensors_map(struct safetensors *s, const char *path, struct fault *f);

void safetensors_close(struct safetensors *s);

const struct tensor *safetensors_find(const struct safetensors *s, const char *name);

/* Fill f for this tensor (NULL: the whole file); -1, exit 65. */
int tensor_bad(const struct safetensors *s, const struct tensor *t, const char *why,
               struct fault *f);

/* Check that a tensor holds weights (F32, F16, BF16) of this shape; cols 0: one
 * dimension. 0, or -1 with f filled. */
int tensor_check(const struct safetensors *s, const struct tensor *t, uint64_t rows,
                 uint64_t cols, struct fault *f);

/* Elements first .. first + n as floats; false when one of them is not finite. */
bool tensor_floats(const struct tensor *t, uint64_t first, size_t n, float *out);

/* Are they finite? */
bool tensor_finite(const struct tensor *t, uint64_t first, size_t n);

/* tensor_floats() of a checked tensor: 0, or -1 with f filled when something is not finite. */
int tensor_read(const struct safetensors *s, const struct tensor *t, uint64_t first, size_t n,
                float *out, struct fault *f);

#endif

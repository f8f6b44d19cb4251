#include "servers/memory/record.h"

#include <string.h>

#include "servers/crc32c.h"

static const uint8_t file_magic[8] = { 0x89, 'R', 'C', 'L', 0x0d, 0x0a, 0x1a, 0x0a };
static const uint8_t record_magic[4] = { 'R', 'E', 'C', '1' };

#define HEAD_COPY_BYTES 84   /* with its checksum */
#define HEAD_COPY_AT    2048 /* where it stands once more */
#define ELEMENT_FLOAT32 1
#define FLAG_PINNED     1u   /* in the fixed fields */

/* n bytes of v, least significant first; returns the place behind them. */
static uint8_t *put_le(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
    return p + n;
}

static uint64_t get_le(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static uint32_t get32(const uint8_t *p) { return (uint32_t)get_le(p, 4); }
static uint16_t get16(const uint8_t *p) { return (uint16_t)get_le(p, 2); }

static uint32_t float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static float bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

void head_put(uint8_t *out, const struct journal_head *h)
{
    memset(out, 0, JOURNAL_HEAD_BYTES);
    memcpy(out, file_magic, 8);
    put_le(out + 8, h->major, 2);
    put_le(out + 10, h->minor, 2);
    put_le(out + 12, JOURNAL_HEAD_BYTES, 4);
    put_le(out + 16, h->dimension, 4);
    put_le(out + 20, ELEMENT_FLOAT32, 4);
    memcpy(out + 24, h->file_id, 16);
    memcpy(out + 40, h->fingerprint, 32);
    put_le(out + 72, h->base, 8);
    put_le(out + 80, crc32c(0, out, 80), 4);
    memcpy(out + HEAD_COPY_AT, out, HEAD_COPY_BYTES);
}

static bool copy_get(const uint8_t *p, struct journal_head *h)
{
    if (memcmp(p, file_magic, 8) != 0) return false;
    if (get32(p + 80) != crc32c(0, p, 80)) return false;
    h->major = get16(p + 8);
    h->minor = get16(p + 10);
    h->dimension = get32(p + 16);
    h->element = get32(p + 20);
    memcpy(h->file_id, p + 24, 16);
    memcpy(h->fingerprint, p + 40, 32);
    h->base = get_le(p + 72, 8);
    return true;
}

int head_get(const uint8_t *p, struct journal_head *h)
{
    if (copy_get(p, h)) return 0;
    return copy_get(p + HEAD_COPY_AT, h) ? 1 : -1;
}

static uint32_t payload_bytes(enum record_type type, uint32_t dimension, uint64_t bytes)
{
    if (type == RECORD_CHANGE) return RECORD_FIXED_BYTES;
    if (type != RECORD_PUT) return 0;
    uint64_t n = RECORD_FIXED_BYTES + 4ull * dimension + bytes + 63;
    return (uint32_t)(n & ~63ull);
}

size_t record_bytes(enum record_type type, uint32_t dimension, const struct memory *m)
{
    uint64_t n = type == RECORD_PUT ? (uint64_t)m->text.len + m->metadata.len + m->tags.len : 0;
    return RECORD_HEAD_BYTES + (size_t)payload_bytes(type, dimension, n);
}

static void put_fixed(uint8_t *p, const struct memory_fields *f)
{
    uint64_t significance;
    memcpy(&significance, &f->significance, 8);
    memset(p, 0, RECORD_FIXED_BYTES);
    p = put_le(p, (uint64_t)f->time_ms, 8);
    p = put_le(p, (uint64_t)f->stored_ms, 8);
    p = put_le(p, (uint64_t)f->last_access_ms, 8);
    p = put_le(p, significance, 8);
    p = put_le(p, float_bits(f->surprise), 4);
    p = put_le(p, float_bits(f->diversity), 4);
    p = put_le(p, float_bits(f->information), 4);
    p = put_le(p, float_bits(f->floor), 4);
    p = put_le(p, f->access_count, 4);
    put_le(p, f->pinned ? FLAG_PINNED : 0, 4);
}

static void get_fixed(const uint8_t *p, struct memory_fields *f)
{
    uint64_t significance = get_le(p + 24, 8);
    memcpy(&f->significance, &significance, 8);
    if (!(f->significance >= 0)) f->significance = 0;   /* of a log that is not ours */
    if (f->significance > 1) f->significance = 1;
    f->time_ms = (int64_t)get_le(p, 8);
    f->stored_ms = (int64_t)get_le(p + 8, 8);
    f->last_access_ms = (int64_t)get_le(p + 16, 8);
    f->surprise = bits_float(get32(p + 32));
    f->diversity = bits_float(get32(p + 36));
    f->information = bits_float(get32(p + 40));
    f->floor = bits_float(get32(p + 44));
    f->access_count = get32(p + 48);
    f->pinned = (get32(p + 52) & FLAG_PINNED) != 0;
}

static uint8_t *put_slice(uint8_t *p, struct slice s)
{
    if (s.len) memcpy(p, s.p, s.len);
    return p + s.len;
}

static void put_payload(uint8_t *p, uint32_t dimension, const struct memory *m)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(p, m->vector, (size_t)4 * dimension);
    p += (size_t)4 * dimension;
#else
    for (uint32_t i = 0; i < dimension; i++) p = put_le(p, float_bits(m->vector[i]), 4);
#endif
    p = put_slice(p, m->text);
    p = put_slice(p, m->metadata);
    put_slice(p, m->tags);
}

size_t record_put(uint8_t *out, enum record_type type, uint32_t dimension, const struct memory *m)
{
    size_t size = record_bytes(type, dimension, m);
    uint8_t *payload = out + RECORD_HEAD_BYTES;
    memset(out, 0, RECORD_HEAD_BYTES);
    memset(out + size - 64, 0, 64);
    if (type == RECORD_PUT || type == RECORD_CHANGE) put_fixed(payload, &m->f);
    if (type == RECORD_PUT) {
        put_payload(payload + RECORD_FIXED_BYTES, dimension, m);
        put_le(out + 56, m->text.len, 4);
        put_le(out + 60, m->metadata.len, 2);
        put_le(out + 62, m->tags.len, 2);
    }
    memcpy(out + 4, record_magic, 4);
    put_le(out + 8, size - RECORD_HEAD_BYTES, 4);
    put_le(out + 12, type, 2);
    put_le(out + 14, type == RECORD_MARK ? RECORD_FLAG_SKIP : 0, 2);
    put_le(out + 24, crc32c(0, payload, size - RECORD_HEAD_BYTES), 4);
    if (m) memcpy(out + 40, m->id, MEMORY_ID);
    return size;
}

static uint32_t head_checksum(const uint8_t *p, const uint8_t file_id[16])
{
    return crc32c(crc32c(0, file_id, 16), p + 4, RECORD_HEAD_BYTES - 4);
}

size_t record_seal(uint8_t *p, struct record_seal *s)
{
    put_le(p + 16, ++s->seq, 8);
    put_le(p + 28, s->chain, 4);
    put_le(p + 32, s->watermark, 8);
    s->chain = head_checksum(p, s->file_id);
    put_le(p, s->chain, 4);
    return RECORD_HEAD_BYTES + (size_t)get32(p + 8);
}

static bool length_fits(const struct record_head *r, uint32_t dimension)
{
    if (r->payload_bytes > RECORD_MAX_PAYLOAD || r->payload_bytes % 64) return false;
    if (r->type > RECORD_MARK) return true;
    uint64_t n = (uint64_t)r->text_bytes + r->metadata_bytes + r->tags_bytes;
    return n <= RECORD_MAX_PAYLOAD &&
           r->payload_bytes == payload_bytes((enum record_type)r->type, dimension, n);
}

bool record_get(const uint8_t *p, const uint8_t file_id[16], uint32_t dimension,
                struct record_head *r)
{
    if (memcmp(p + 4, record_magic, 4) != 0) return false;
    r->crc = get32(p);
    if (r->crc != head_checksum(p, file_id)) return false;
    r->payload_bytes = get32(p + 8);
    r->type = get16(p + 12);
    r->flags = get16(p + 14);
    r->seq = get_le(p + 16, 8);
    r->payload_crc = get32(p + 24);
    r->chain = get32(p + 28);
    r->watermark = get_le(p + 32, 8);
    memcpy(r->id, p + 40, MEMORY_ID);
    r->text_bytes = get32(p + 56);
    r->metadata_bytes = get16(p + 60);
    r->tags_bytes = get16(p + 62);
    return r->type != 0 && length_fits(r, dimension);
}

bool record_whole(const struct record_head *r, const uint8_t *payload)
{
    return r->payload_crc == crc32c(0, payload, r->payload_bytes);
}

void record_memory(const struct record_head *r, uint8_t *payload, uint32_t dimension,
                   struct memory *m)
{
    memset(m, 0, sizeof *m);
    memcpy(m->id, r->id, MEMORY_ID);
    if (r->type != RECORD_PUT && r->type != RECORD_CHANGE) return;
    get_fixed(payload, &m->f);
    if (r->type != RECORD_PUT) return;
    uint8_t *vector = payload + RECORD_FIXED_BYTES;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    for (uint32_t i = 0; i < dimension; i++) {
        float x = bits_float(get32(vector + 4 * i));
        memcpy(vector + 4 * i, &x, 4);
    }
#endif
    const char *text = (const char *)vector + (size_t)4 * dimension;
    m->vector = (const float *)(const void *)vector;
    m->text = (struct slice){ text, r->text_bytes };
    m->metadata = (struct slice){ text + r->text_bytes, r->metadata_bytes };
    m->tags = (struct slice){ text + r->text_bytes + r->metadata_bytes, r->tags_bytes };
}

#include "servers/memory/walk.h"

#include <errno.h>
#include <stdlib.h>

#include "json.h"
#include "servers/memory/disk_work.h"

#define CHUNK    ((size_t)1 << 20)
#define RECORD_MAX (RECORD_HEAD_BYTES + (size_t)RECORD_MAX_PAYLOAD)

int walk_begin(struct walk *w, int fd, uint64_t size, const struct journal_head *h)
{
    size_t cap = size < CHUNK ? ((size_t)size + 64) / 64 * 64 : CHUNK + RECORD_MAX;
    *w = (struct walk){ .fd = fd, .size = size, .head = *h, .at = JOURNAL_HEAD_BYTES,
                        .seq = h->base, .cap = cap };
    w->buf = aligned_alloc(64, w->cap);
    return w->buf ? 0 : -1;
}

void walk_end(struct walk *w)
{
    free(w->buf);
    w->buf = NULL;
}

/* n bytes of the file from at, at most RECORD_MAX, 64-byte aligned where at is;
 * NULL when the file ends before them or cannot be read (w->error). */
static uint8_t *bytes(struct walk *w, uint64_t at, size_t n)
{
    if (at + n > w->size || w->error) return NULL;
    if (at < w->from || at + n > w->from + w->len) {
        uint64_t left = w->size - at;
        w->from = at;
        w->len = left < w->cap ? (size_t)left : w->cap;
        if (disk_read_all(w->fd, w->buf, w->len, at) < 0) {
            w->error = errno;
            w->len = 0;
            return NULL;
        }
    }
    return w->buf + (at - w->from);
}

/* A header of this file at `at`, into w->r. */
static bool header(struct walk *w, uint64_t at)
{
    const uint8_t *p = bytes(w, at, RECORD_HEAD_BYTES);
    if (!p || !record_get(p, w->head.file_id, w->head.dimension, &w->r)) return false;
    if (w->r.watermark > w->watermark) w->watermark = w->r.watermark;
    return true;
}

static bool json_of(const char *p, size_t n, size_t most, char bracket)
{
    size_t at;
    return n && n <= most && *p == bracket && !json_check(p, n, &at);
}

/* Are a put's contents such as the server writes? A right checksum does not say that: memory may
 * fail before it is made, and others can make one. */
static bool sane(const struct walk *w)
{
    const struct record_head *r = &w->r;
    const uint8_t *vector = w->p + RECORD_HEAD_BYTES + RECORD_FIXED_BYTES;
    const uint8_t *text = vector + (size_t)4 * w->head.dimension;
    const char *metadata = (const char *)text + r->text_bytes;
    bool finite = true;
    for (const uint8_t *p = vector; p < text; p += 4) finite &= (p[3] & 127) < 127 || p[2] < 128;
    return finite && r->text_bytes && r->text_bytes <= MEMORY_TEXT &&
           utf8_valid(text, r->text_bytes) &&
           json_of(metadata, r->metadata_bytes, MEMORY_METADATA, '{') &&
           json_of(metadata + r->metadata_bytes, r->tags_bytes, MEMORY_LIST, '[');
}

/* Its payload too. */
static bool whole(struct walk *w, uint64_t at)
{
    if (!header(w, at)) return false;
    w->p = bytes(w, at, RECORD_HEAD_BYTES + (size_t)w->r.payload_bytes);
    return w->p && record_whole(&w->r, w->p + RECORD_HEAD_BYTES) &&
           (w->r.type != RECORD_PUT || sane(w));
}

static enum walk_found take(struct walk *w, uint64_t at)
{
    w->at = at + RECORD_HEAD_BYTES + w->r.payload_bytes;
    w->seq = w->r.seq;
    w->chain = w->r.crc;
    return WALK_RECORD;
}

enum walk_found walk_next(struct walk *w)
{
    if (w->at >= w->size) return WALK_END;
    bool good = whole(w, w->at) && w->r.seq == w->seq + 1 && w->r.chain == w->chain;
    if (w->error) return WALK_ERROR;
    return good ? take(w, w->at) : WALK_BROKEN;
}

bool walk_torn(struct walk *w)
{
    if (!w->looked)
        for (uint64_t at = w->at; at + RECORD_HEAD_BYTES <= w->size && !w->error; at += 64)
            if (header(w, at) && w->r.type == RECORD_CLOSE) w->close_at = at;
    w->looked = true;
    return w->watermark <= w->seq && w->close_at < w->at;
}

enum walk_found walk_skip(struct walk *w)
{
    for (uint64_t at = w->at; at + RECORD_HEAD_BYTES <= w->size && !w->error; at += 64)
        if (whole(w, at) && w->r.seq > w->seq) return take(w, at);
    return w->error ? WALK_ERROR : WALK_END;
}

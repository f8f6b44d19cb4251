#include "servers/memory/lines.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base64.h"
#include "servers/values.h"

/* Bytes of a line at most. */
#define LINE (MEMORY_TEXT * 6 + MEMORY_METADATA + 8192 + MEMORY_DIMENSION * 6 + 1024)
#define ROOM 131072

int lines_export(struct memory_service *ms, const char *path, struct fault *f)
{
    bool std = !strcmp(path, "-");
    FILE *file = std ? stdout : fopen(path, "wbe");
    char *line = malloc(LINE);
    if (!file || !line) {
        if (file && !std) fclose(file);
        free(line);
        return fault_set(f, 74, "--export %.200s: %s", path, strerror(errno));
    }
    for (uint32_t row = store_oldest(ms->store); row != ROW_NONE;
         row = store_younger(ms->store, row)) {
        struct memory m;
        struct json_out out;
        store_view(ms->store, row, &m);
        json_out(&out, line, LINE - 1);
        json_open(&out, '{');
        memory_put(ms, &m, 0, MEMORY_EXPORT, &out);
        json_close(&out, '}');
        line[out.len++] = '\n';
        if (fwrite(line, 1, out.len, file) != out.len) break;
    }
    free(line);
    bool bad = fflush(file) || ferror(file);
    if (!std && fclose(file)) bad = true;
    return bad ? fault_set(f, 74, "--export %.200s: %s", path, strerror(errno)) : 0;
}

/* ---- import */

/* One line as it is read. */
struct line {
    struct memory m;
    struct slice id;
    bool significant, timed, embedded;
    float  *vector;              /* [dimension] */
    uint32_t dimension;
    char    tags[MEMORY_TAGS * (6 * MEMORY_TAG + 3) + 2];
};

static bool take_number(struct json *in, float *out)
{
    bool right = in->type == JSON_NUMBER;
    double v = json_number(in);
    *out = (float)v;
    return right && v >= 0 && v <= 1;
}

/* A list of numbers or base64; one of another length is another embedder's. */
static bool take_vector(struct line *l, struct json *in)
{
    if (in->type == JSON_ARRAY) {
        l->embedded = json_f32s(in, l->vector, l->dimension) == (long)l->dimension;
    } else {
        struct slice s = json_slice(in);
        size_t bytes = l->dimension * sizeof(float);
        uint8_t *b = (uint8_t *)s.p;
        l->embedded = s.len == (bytes + 2) / 3 * 4 && base64_decode(b, s.p, s.len) == bytes;
        for (size_t i = 0; l->embedded && i < l->dimension; i++) {
            uint32_t u = (uint32_t)b[4 * i] | (uint32_t)b[4 * i + 1] << 8 |
                         (uint32_t)b[4 * i + 2] << 16 | (uint32_t)b[4 * i + 3] << 24;
            memcpy(&l->vector[i], &u, sizeof u);
        }
    }
    if (!l->embedded) return true;
    /* What has unit length already stays as it is, to the bit. */
    double square = cosine_exact(l->vector, l->vector, l->dimension);
    if (!(fabs(square - 1) < 1e-5))
        l->embedded = !cosine_normalise(l->vector, l->vector, l->dimension);
    return true;
}

static bool take_bool(struct json *in, uint8_t *out)
{
    if (in->type != JSON_TRUE && in->type != JSON_FALSE) return false;
    *out = json_bool(in);
    return true;
}

/* Tags as json_put_str() writes them. */
static bool take_tags(struct line *l, struct json *in)
{
    struct json_out out;
    int n = 0;
    if (in->type != JSON_ARRAY) return false;
    json_out(&out, l->tags, sizeof l->tags);
    json_open(&out, '[');
    json_enter(in);
    while (json_next(in) > JSON_END) {
        struct slice s = json_slice(in);
        if (!s.len || s.len > MEMORY_TAG || ++n > MEMORY_TAGS) return false;
        json_put_str(&out, s.p, s.len);
    }
    json_close(&out, ']');
    l->m.tags = (struct slice){ l->tags, out.len };
    return true;
}

static bool take(struct line *l, struct json *in)
{
    struct memory_fields *f = &l->m.f;
    int64_t n = 0;
    if (in->type == JSON_NULL) return true;
    if (json_key(in, "text") || json_key(in, "content")) l->m.text = trim_ascii(json_slice(in));
    else if (json_key(in, "id")) l->id = json_slice(in);
    else if (json_key(in, "timestamp")) return l->timed = json_time(in, &f->time_ms);
    else if (json_key(in, "last_access")) return json_time(in, &f->last_access_ms);
    else if (json_key(in, "surprise")) return take_number(in, &f->surprise);
    else if (json_key(in, "diversity")) return take_number(in, &f->diversity);
    else if (json_key(in, "information")) return take_number(in, &f->information);
    else if (json_key(in, "pinned")) return take_bool(in, &f->pinned);
    else if (json_key(in, "embedding")) return take_vector(l, in);
    else if (json_key(in, "tags")) return take_tags(l, in);
    else if (json_key(in, "metadata")) {
        if (in->type != JSON_OBJECT) return false;
        l->m.metadata = json_compact(json_raw(in));
        return l->m.metadata.len <= MEMORY_METADATA;
    } else if (json_key(in, "access_count")) {
        if (!json_int(in, &n) || n < 0 || n > UINT32_MAX) return false;
        f->access_count = (uint32_t)n;
    } else if (json_key(in, "significance")) {
        f->significance = json_number(in);
        return l->significant =
                   in->type == JSON_NUMBER && f->significance >= 0 && f->significance <= 1;
    }
    return true;
}

/* NULL, or what is wrong with a line. */
static const char *read_line(struct line *l, char *text, size_t len)
{
    struct json in;
    size_t at;
    l->m = (struct memory){ .metadata = { "{}", 2 }, .tags = { "[]", 2 }, .vector = l->vector };
    l->id = (struct slice){ NULL, 0 };
    l->significant = l->timed = l->embedded = false;
    const char *why = json_check(text, len, &at);
    if (why) return why;
    json_init(&in, text, len);
    if (json_next(&in) != JSON_OBJECT) return "no object";
    json_enter(&in);
    while (json_next(&in) > JSON_END) {
        if (!take(l, &in)) return "a value that is out of range or of the wrong type";
    }
    if (!l->m.text.len) return "no text";
    return l->m.text.len > MEMORY_TEXT ? "the text is too long" : NULL;
}

/* Its own id where it has one of our form that is free, else a new one. */
static bool take_id(struct memory_service *ms, struct line *l)
{
    if (l->id.p && memory_id_parse(l->id, l->m.id) && store_find(ms->store, l->m.id) == ROW_NONE)
        return true;
    return memory_id_new(l->m.id);
}

static int embed(struct memory_service *ms, struct line *l)
{
    struct embed_request ask = { .text = &l->m.text, .n = 1, .adapter = -1, .normalize = true,
                                 .truncate = true, .vector = l->vector };
    return l->embedded || embedder_run(ms->embedder, &ask) == EMBED_DONE ? 0 : -1;
}

/* One memory into the store: a store_status, or 1 for a duplicate. What has no
 * significance of its own is rated like a new text. */
static int keep(struct memory_service *ms, struct line *l)
{
    struct memory_fields *f = &l->m.f;
    uint64_t seq;
    int64_t now = memory_wall(&ms->ep);
    if (store_duplicate(ms->store, l->m.text, l->m.metadata) != ROW_NONE) return 1;
    if (!take_id(ms, l) || embed(ms, l)) return STORE_NO_ROOM;
    if (!journal_room(ms->journal, ROOM) && journal_wait(ms->journal, now)) return STORE_LOG;
    if (l->significant) {
        f->stored_ms = now;
        if (!l->timed) f->time_ms = now;
        if (!f->last_access_ms) f->last_access_ms = f->time_ms;
        return store_import(ms->store, &l->m, &seq);
    }
    struct store_added a;
    f->significance = -1;
    if (!l->timed) f->time_ms = INT64_MIN;
    return store_add(ms->store, &l->m, NULL, &a);
}

static int import_from(struct memory_service *ms, FILE *file, struct line *l, const char *path,
                       struct fault *f)
{
    char *text = NULL;
    size_t cap = 0;
    long n = 0, stored = 0, same = 0;
    size_t before = store_records(ms->store)->live;
    int bad = 0;
    for (ssize_t len; !bad && (len = getline(&text, &cap, file)) >= 0;) {
        n++;
        if (!trim_ascii((struct slice){ text, (size_t)len }).len) continue;
        const char *why = read_line(l, text, (size_t)len);
        int status = why ? 0 : keep(ms, l);
        if (why) bad = fault_set(f, 65, "--import %.200s, line %ld: %s", path, n, why);
        else if (status == STORE_FULL)
            bad = fault_set(f, 65,
                            "--import %.200s, line %ld: Memory store full; raise --max-memories",
                            path, n);
        else if (status < 0)
            bad = fault_set(f, 74, "--import %.200s, line %ld: %s%s", path, n,
                            status == STORE_LOG ? "Storage failed: " : "the text cannot be kept: ",
                            status == STORE_LOG ? journal_why(ms->journal)
                                                : "no memory, or no numbers from the model");
        else if (status) same++;
        else stored++;
    }
    if (!bad && !feof(file)) bad = fault_set(f, 74, "--import %.200s: %s", path, strerror(errno));
    if (journal_wait(ms->journal, loop_clock()) && !bad)
        bad = fault_set(f, 74, "--import %.200s: Storage failed: %s", path,
                        journal_why(ms->journal));
    if (bad) stored = (long)(store_records(ms->store)->live - before);  /* a batch may be undone */
    free(text);
    printf("imported %ld memories, skipped %ld duplicates\n", stored, same);
    return bad;
}

int lines_import(struct memory_service *ms, const char *path, struct fault *f)
{
    uint32_t dimension = store_records(ms->store)->dimension;
    bool std = !strcmp(path, "-");
    FILE *file = std ? stdin : fopen(path, "rbe");
    struct line *l = file ? malloc(sizeof *l + dimension * sizeof(float)) : NULL;
    if (!l) {
        if (file && !std) fclose(file);
        return fault_set(f, file ? 71 : 74, "--import %.200s: %s", path, strerror(errno));
    }
    l->dimension = dimension;
    l->vector = (float *)(void *)(l + 1);
    int bad = import_from(ms, file, l, path, f);
    if (!std) fclose(file);
    free(l);
    return bad;
}

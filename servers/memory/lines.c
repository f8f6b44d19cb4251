#include "servers/offsets.h"
#include "servers/memory/lines.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/memory/task.h"
#include "servers/values.h"

/* Bytes of a line at most. */
#define LINE (MEMORY_TEXT * 6 + MEMORY_METADATA + MEMORY_LIST + MEMORY_DIMENSION * 6 + 1024)
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
    const struct records *rs = store_records(ms->store);
    for (uint32_t row = rs->first; row != ROW_NONE; row = records_at(rs, row)->next) {
        struct memory m = records_view(rs, row);
        struct json_out out = json_out(line, LINE - 1);
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
    struct call  c;
    struct slice id, embedding;  /* as they stand */
    double  surprise, diversity, information;
    int64_t last_access, access_count;
    uint32_t dimension;
    float  *vector;              /* [dimension] */
};

#define AT(field) .at = offsetof(struct line, field)

static const struct param line_params[] = {
    { "id",           PARAM_ANY,    AT(id) },
    { "text",         PARAM_TEXT,   AT(c.text) },
    { "content",      PARAM_TEXT,   AT(c.text) },
    { "metadata",     PARAM_OBJECT, AT(c.metadata), .max = MEMORY_METADATA },
    { "tags",         PARAM_TAGS,   AT(c.tags) },
    { "embedding",    PARAM_ANY,    AT(embedding) },
    { "timestamp",    PARAM_TIME,   AT(c.timestamp) },
    { "last_access",  PARAM_TIME,   AT(last_access) },
    { "significance", PARAM_NUMBER, AT(c.significance), .max = 1 },
    { "surprise",     PARAM_NUMBER, AT(surprise), .max = 1 },
    { "diversity",    PARAM_NUMBER, AT(diversity), .max = 1 },
    { "information",  PARAM_NUMBER, AT(information), .max = 1 },
    { "access_count", PARAM_INT,    AT(access_count), .max = UINT32_MAX },
    { "pinned",       PARAM_BOOL,   AT(c.confirm) },
    { 0 }
};

/* NULL, or what is wrong with a line. */
static const char *read_line(struct line *l, char *text, size_t len, struct param_fault *f)
{
    size_t at;
    *l = (struct line){ .c = { .significance = -1, .timestamp = INT64_MIN },
                        .dimension = l->dimension, .vector = l->vector };
    const char *why = json_check(text, len, &at);
    if (why) return why;
    struct json in;
    if (json_before(&in, (struct slice){ text, len }) != JSON_OBJECT) return "no object";
    json_enter(&in);
    if (!params_take(&in, line_params, l, f)) return f->text;
    if (l->c.text.p) l->c.text = trim_ascii(l->c.text);
    if (l->c.tags.p) call_tags(&l->c);
    if (!l->c.text.len) return "no text";
    return l->c.text.len > MEMORY_TEXT ? "the text is too long" : NULL;
}

/* Its own id where it has one of our form that is free, else a new one. */
static bool take_id(struct memory_service *ms, const struct line *l, uint8_t id[MEMORY_ID])
{
    bool quoted = l->id.len > 2 && *l->id.p == '"';
    return (quoted && memory_id_parse((struct slice){ l->id.p + 1, l->id.len - 2 }, id) &&
            records_find(store_records(ms->store), id) == ROW_NONE) || memory_id_new(id);
}

/* Has it a vector of this embedder? One of another length is another's. */
static bool take_vector(struct line *l)
{
    struct param_vector v = { .v = l->vector, .cap = l->dimension };
    if (!l->embedding.p) return false;
    struct json in;
    json_before(&in, l->embedding);
    if (!params_vector(&in, &v) || v.n != l->dimension) return false;
    /* What has unit length already stays as it is, to the bit. */
    double square = cosine_exact(l->vector, l->vector, l->dimension);
    return fabs(square - 1) < 1e-5 || !cosine_normalise(l->vector, l->vector, l->dimension);
}

/* One memory into the store: a store_status, or 1 for a duplicate. What has no
 * significance of its own is rated like a new text. */
static int keep(struct memory_service *ms, struct line *l)
{
    struct memory m = call_memory(&l->c, l->vector);
    struct store_added a;
    struct meta meta;
    uint64_t seq;
    int64_t now = memory_wall(&ms->ep);
    if (store_duplicate(ms->store, m.text, m.metadata) != ROW_NONE) return 1;
    if (!take_id(ms, l, m.id)) return STORE_NO_ROOM;
    if (!take_vector(l) && embedder_text(ms->ep.embedder, m.text, l->vector)) return STORE_NO_ROOM;
    if (!journal_room(ms->journal, ROOM) && journal_wait(ms->journal, now)) return STORE_LOG;
    m.f.access_count = (uint32_t)l->access_count;
    m.f.last_access_ms = l->last_access;
    if (m.f.significance < 0) return store_add(ms->store, &m, NULL, &a);
    m.f.stored_ms = now;
    if (m.f.time_ms == INT64_MIN) m.f.time_ms = now;
    if (!l->last_access) m.f.last_access_ms = m.f.time_ms;
    m.f.surprise = (float)l->surprise;
    m.f.diversity = (float)l->diversity;
    m.f.information = (float)l->information;
    meta_read(&meta, m.metadata);        /* lines have no floor: it is what text and metadata say */
    m.f.floor = (float)significance_floor(m.text, meta.importance);
    return store_import(ms->store, &m, &seq);
}

static int import_from(struct memory_service *ms, FILE *file, struct line *l, const char *path,
                       struct fault *f)
{
    char *text = NULL;
    size_t cap = 0;
    long n = 0, stored = 0, same = 0;
    size_t before = store_records(ms->store)->live;
    struct param_fault wrong;
    int bad = 0;
    for (ssize_t len; !bad && (len = getline(&text, &cap, file)) >= 0;) {
        n++;
        if (!trim_ascii((struct slice){ text, (size_t)len }).len) continue;
        const char *why = read_line(l, text, (size_t)len, &wrong);
        int status = why ? 0 : keep(ms, l);
        if (status == STORE_FULL) why = "Memory store full; raise --max-memories";
        if (why) bad = fault_set(f, 65, "--import %.200s, line %ld: %s", path, n, why);
        else if (status == STORE_LOG)
            bad = fault_set(f, 74, "--import %.200s, line %ld: Storage failed: %s", path, n,
                            journal_why(ms->journal));
        else if (status < 0)
            bad = fault_set(f, 74, "--import %.200s, line %ld: the text cannot be kept: no memory, "
                            "or no numbers from the model", path, n);
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

#include "wordpiece.h"

#include <string.h>

#include "../log.h"
#include "unicode.h"

enum { MARKS = 2 * WORDPIECE_CHARS };   /* more of them make a word too long anyway */

/* The cutting of one text: where it stands, and the word that is being gathered. */
struct cut {
    const struct wordpiece *w;
    const unsigned char *text;
    struct wordpiece_token *out;
    size_t cap, n;

    uint32_t chars, bytes;                      /* of the word; chars may pass WORDPIECE_CHARS */
    uint32_t end;                               /* of the word in the text */
    char word[4 * WORDPIECE_CHARS];
    uint16_t at[WORDPIECE_CHARS + 1];           /* [chars + 1] where each begins in word */
    uint32_t from[WORDPIECE_CHARS], to[WORDPIECE_CHARS];  /* and what it was in the text */

    struct mark { uint32_t c, from, to; unsigned order; } mark[MARKS];
    size_t marks;                               /* that wait for canonical ordering */
};

static void push(struct cut *t, uint32_t id, uint32_t start, uint32_t end)
{
    if (t->n < t->cap) t->out[t->n] = (struct wordpiece_token){ id, start, end };
    t->n++;
}

/* Push what characters first..last of the word are; marks that were moved may stand before
 * what they stood behind. */
static void push_chars(struct cut *t, uint32_t id, uint32_t first, uint32_t last)
{
    uint32_t start = t->from[first], end = t->to[last - 1];
    for (uint32_t i = first; i < last; i++) {
        if (t->from[i] < start) start = t->from[i];
        if (t->to[i] > end) end = t->to[i];
    }
    push(t, id, start, end);
}

/* The longest token at character `start` of the word, or VOCAB_NONE; *stop is behind it. */
static uint32_t longest(const struct cut *t, uint32_t start, uint32_t *stop)
{
    const struct vocab *v = &t->w->vocab;
    struct slice prefix = start ? t->w->prefix : (struct slice){ "", 0 };
    uint32_t hash[WORDPIECE_CHARS], h = start ? t->w->prefix_hash : VOCAB_HASH, end = start;
    size_t begin = t->at[start], room = v->longest < prefix.len ? 0 : v->longest - prefix.len;
    for (; end < t->chars && t->at[end + 1] - begin <= room; end++) {
        for (size_t i = t->at[end]; i < t->at[end + 1]; i++)
            h = vocab_hash(h, (unsigned char)t->word[i]);
        hash[end] = h;
    }
    for (; end > start; end--) {
        uint32_t id = vocab_find(v, hash[end - 1], prefix, t->word + begin, t->at[end] - begin);
        if (id == VOCAB_NONE) continue;
        *stop = end;
        return id;
    }
    return VOCAB_NONE;
}

/* Step 6: greedy longest match; a place where nothing matches makes the word one [UNK]. */
static void cut_word(struct cut *t)
{
    if (!t->chars) return;
    size_t before = t->n;
    bool whole = t->chars <= WORDPIECE_CHARS;
    for (uint32_t start = 0, stop = 0; whole && start < t->chars; start = stop) {
        uint32_t id = longest(t, start, &stop);
        whole = id != VOCAB_NONE;
        if (whole) push_chars(t, id, start, stop);
    }
    if (!whole) {
        uint32_t kept = t->chars;
        if (kept > WORDPIECE_CHARS) kept = WORDPIECE_CHARS;
        t->to[kept - 1] = t->end;
        t->n = before;
        push_chars(t, t->w->special[WP_UNK].id, 0, kept);
    }
    t->chars = t->bytes = 0;
}

static void append(struct cut *t, uint32_t c, uint32_t from, uint32_t to)
{
    if (!t->chars || to > t->end) t->end = to;
    if (t->chars >= WORDPIECE_CHARS) {
        t->chars = WORDPIECE_CHARS + 1;
        return;
    }
    t->from[t->chars] = from;
    t->to[t->chars] = to;
    t->bytes += (uint32_t)utf8_put((uint8_t *)t->word + t->bytes, c);
    t->at[++t->chars] = (uint16_t)t->bytes;
}

/* Steps 4 and 5: lower case; punctuation stands alone. */
static void emit(struct cut *t, uint32_t c, enum unicode_kind kind, uint32_t from, uint32_t to)
{
    bool dotted = c == 0x130 && t->w->lower;    /* its lower case is two code points */
    if (t->w->lower) c = unicode_lower(c);
    if (kind == UNICODE_PUNCT) cut_word(t);
    append(t, c, from, to);
    if (dotted) append(t, 0x307, from, to);
    if (kind == UNICODE_PUNCT) cut_word(t);
}

static void flush_marks(struct cut *t)
{
    for (size_t i = 0; i < t->marks; i++)
        emit(t, t->mark[i].c, UNICODE_ORDERED, t->mark[i].from, t->mark[i].to);
    t->marks = 0;
}

static void end_word(struct cut *t)
{
    flush_marks(t);
    cut_word(t);
}

/* One code point of the decomposed text: what moves waits for its place (Unicode 3.11). */
static void place(struct cut *t, uint32_t c, enum unicode_kind kind, uint32_t from, uint32_t to)
{
    if (kind != UNICODE_ORDERED) {
        flush_marks(t);
        emit(t, c, kind, from, to);
        return;
    }
    if (t->marks == MARKS) flush_marks(t);
    struct mark m = { c, from, to, unicode_order_of(c) };
    size_t i = t->marks++;
    for (; i > 0 && t->mark[i - 1].order > m.order; i--) t->mark[i] = t->mark[i - 1];
    t->mark[i] = m;
}

/* Step 3: NFD, and Mn is dropped. */
static void strip(struct cut *t, uint32_t c, enum unicode_kind kind, uint32_t from, uint32_t to)
{
    uint32_t base[4];
    if (kind == UNICODE_MARK_STARTER) flush_marks(t);
    if (kind == UNICODE_MARK_STARTER || kind == UNICODE_MARK) return;
    size_t n = unicode_base(c, base);
    for (size_t i = 0; i < n; i++)
        place(t, base[i], base[i] == c ? kind : unicode_kind(base[i]), from, to);
}

/* Steps 1 and 2: what is dropped, white space, ideographs. */
static void take(struct cut *t, uint32_t c, uint32_t from, uint32_t to)
{
    enum unicode_kind kind = unicode_kind(c);
    bool alone = t->w->ideographs && kind == UNICODE_IDEOGRAPH;
    if (kind == UNICODE_DROP) return;
    if (alone || kind == UNICODE_SPACE) end_word(t);
    if (kind == UNICODE_SPACE) return;
    if (t->w->strip_accents) strip(t, c, kind, from, to);
    else emit(t, c, kind, from, to);
    if (alone) end_word(t);
}

/* A run of plain ASCII goes straight into the word. */
static const unsigned char *take_ascii(struct cut *t, const unsigned char *p,
                                       const unsigned char *end)
{
    uint32_t from = (uint32_t)(p - t->text), chars = t->chars, bytes = t->bytes;
    unsigned char c;
    flush_marks(t);
    for (; p < end && *p < 0x80 && (c = t->w->ascii[*p]) != 0 && chars < WORDPIECE_CHARS; p++) {
        t->word[bytes++] = (char)c;
        t->from[chars] = from++;
        t->to[chars] = from;
        t->at[++chars] = (uint16_t)bytes;
    }
    t->chars = chars;
    t->bytes = bytes;
    t->end = from;
    return p;
}

/* The pieces between two special tokens. */
static void cut_part(struct cut *t, const unsigned char *p, const unsigned char *end)
{
    while (p < end && t->n <= t->cap) {
        if (*p < 0x80 && t->w->ascii[*p] && t->chars < WORDPIECE_CHARS && !t->marks) {
            p = take_ascii(t, p, end);
            continue;
        }
        const unsigned char *begin = p;
        uint32_t c = unicode_next(&p, end);
        take(t, c, (uint32_t)(begin - t->text), (uint32_t)(p - t->text));
    }
    end_word(t);
}

/* Step 0: the special token that stands at p, or WP_SPECIALS; of several the longest. */
static size_t special_at(const struct wordpiece *w, const unsigned char *p,
                         const unsigned char *end)
{
    size_t found = WP_SPECIALS;
    for (size_t i = 0; i < WP_SPECIALS; i++) {
        size_t len = w->special[i].len;
        if (w->special[i].id == VOCAB_NONE || len > (size_t)(end - p)) continue;
        if (memcmp(p, w->special[i].name, len) != 0) continue;
        if (found == WP_SPECIALS || len > w->special[found].len) found = i;
    }
    return found;
}

size_t wordpiece_cut(const struct wordpiece *w, struct slice text, struct wordpiece_token *out,
                     size_t cap)
{
    struct cut t;   /* large: only what has to be zero is set */
    t.w = w;
    t.text = (const unsigned char *)text.p;
    t.out = out;
    t.cap = cap;
    t.n = t.marks = 0;
    t.chars = t.bytes = t.end = 0;
    t.at[0] = 0;
    const unsigned char *part = t.text, *end = part + text.len;
    for (const unsigned char *p = part; p < end && t.n <= cap;) {
        size_t found = w->opens[*p] ? special_at(w, p, end) : WP_SPECIALS;
        if (found == WP_SPECIALS) {
            p++;
            continue;
        }
        cut_part(&t, part, p);
        uint32_t start = (uint32_t)(p - t.text);
        p += w->special[found].len;
        push(&t, w->special[found].id, start, (uint32_t)(p - t.text));
        part = p;
    }
    cut_part(&t, part, end);
    return t.n;
}

void wordpiece_defaults(struct wordpiece *w)
{
    static const char *const names[WP_SPECIALS] = { "[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]" };
    *w = (struct wordpiece){ .lower = true, .strip_accents = true, .ideographs = true,
                             .prefix = { "##", 2 } };
    for (size_t i = 0; i < WP_SPECIALS; i++) {
        w->special[i].len = strlen(names[i]);
        memcpy(w->special[i].name, names[i], w->special[i].len);
    }
}

int wordpiece_ready(struct wordpiece *w, struct fault *f)
{
    for (size_t i = 0; i < WP_SPECIALS; i++) {
        struct slice name = { w->special[i].name, w->special[i].len };
        w->special[i].id = vocab_id(&w->vocab, name);
        if (w->special[i].id != VOCAB_NONE) w->opens[(unsigned char)name.p[0]] = true;
        else if (i <= WP_UNK)
            return fault_set(f, 65, "the vocabulary has no %s", w->special[i].name);
    }
    w->prefix_hash = VOCAB_HASH;
    for (size_t i = 0; i < w->prefix.len; i++)
        w->prefix_hash = vocab_hash(w->prefix_hash, (unsigned char)w->prefix.p[i]);
    for (uint32_t c = 0; c < 128; c++) {
        bool plain = unicode_kind(c) == UNICODE_OTHER;
        w->ascii[c] = (unsigned char)(!plain ? 0 : w->lower ? unicode_lower(c) : c);
    }
    return 0;
}

// uses: servers/inference/tokenizer.c servers/inference/wordpiece.c servers/inference/vocab.c servers/inference/unicode.c servers/inference/config_file.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
#include "servers/inference/wordpiece.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "files.h"
#include "test.h"
#include "tokenizers.h"

/* ---- a vocabulary of our own: golden ids ---- */

static const char small[] = SPECIALS                               /* 0 to 4 */
    "hello\nwor\n##ld\nun\n##aff\n##able\n!\n,\ncafe\nco\n##ok\n"  /* 5 to 15 */
    "\xe6\x97\xa5\n\xe6\x9c\xac\n##\xe6\x9c\xac\n"                 /* 16 to 18: 日 本 ##本 */
    "\xe1\x84\x92\n##\xe1\x85\xa1\n##\xe1\x86\xab\n"               /* 19 to 21: jamo of 한 */
    "\xcf\x83\n##\xcf\x83\n##\xcf\x82\n"                           /* 22 to 24: σ ##σ ##ς */
    "i\n##\xcc\x87\nCaf\xc3\xa9\n\xc3\xa9\n`\na\n##a\n[\ncls\n]\n" /* 25 to 34 */
    "\xe2\x80\x94\n\xe8\xb1\x88\n\xf0\xa0\x80\x80\n"               /* 35 to 37: — 豈 U+20000 */
    "\xf0\x9d\x85\x98\n##\xf0\x9d\x85\xa5\n##\xf0\x9d\x85\xae\n"   /* 38 to 40 */
    "x\n##\xe1\xad\x84\n##\xf0\x9d\x85\xad\n"                      /* 41 to 43: ccc 9 and 226 */
    "A\n##B\n";                                                    /* 44, 45 */

enum { LOWER = 0, CASED = 1, KEEP = 2, WHOLE = 3 };
static const char *const modes[] = {
    "{}",
    "{\"do_lower_case\":false}",
    "{\"strip_accents\":false}",
    "{\"tokenize_chinese_chars\":false}",
};

static const struct { const char *text; int mode; const char *pieces;
} golden[] = {
    {"", LOWER, ""},
    {" \t\r\n\xe3\x80\x80\xc2\xa0", LOWER, ""},
    {"hello", LOWER, "5:0-5"},
    {"  Hello WORLD  ", LOWER, "5:2-7 6:8-11 7:11-13"},
    {"hello!hello", LOWER, "5:0-5 11:5-6 5:6-11"},
    {"hello,, !", LOWER, "5:0-5 12:5-6 12:6-7 11:8-9"},
    {"unaffable", LOWER, "8:0-2 9:2-5 10:5-9"},
    {"unaffablex", LOWER, "1:0-10"},
    {"xyz hello", LOWER, "1:0-3 5:4-9"},
    {"caf\xc3\xa9", LOWER, "13:0-5"},
    {"cafe\xcc\x81", LOWER, "13:0-4"},
    {"CAF\xc3\x89", LOWER, "13:0-5"},
    {"Caf\xc3\xa9", CASED, "27:0-5"},
    {"Cafe\xcc\x81", CASED, "1:0-6"},
    {"\xc3\x89", KEEP, "28:0-2"},
    {"\xc3\x89", LOWER, "1:0-2"},
    {"he\0llo", LOWER, "1:0-2"},           /* C string ends there */
    {"he\x01l\xc2\xadlo", LOWER, "5:0-8"}, /* Cc and Cf are dropped */
    {"hel\xef\xbf\xbdlo", LOWER, "5:0-8"},
    {"hel\xee\x80\x80lo", LOWER, "5:0-8"},             /* private use */
    {"hel\xfflo", LOWER, "5:0-6"},                     /* no UTF-8 */
    {"hello\xe2\x80\xa8hello", LOWER, "5:0-5 5:8-13"}, /* U+2028 is white space */
    {"hello\x0bhello", LOWER, "1:0-11"},               /* VT is a control */
    {"\xe6\x97\xa5\xe6\x9c\xac", LOWER, "16:0-3 17:3-6"},
    {"hello\xe6\x97\xa5hello", LOWER, "5:0-5 16:5-8 5:8-13"},
    {"\xe6\x97\xa5\xe6\x9c\xac", WHOLE, "16:0-3 18:3-6"},
    {"\xef\xa4\x80", LOWER, "36:0-3"},                            /* U+F900 to U+8C48 */
    {"\xf0\xa0\x80\x80\xf0\xa0\x80\x80", LOWER, "37:0-4 37:4-8"}, /* one each */
    {"\xed\x95\x9c", LOWER, "19:0-3 20:0-3 21:0-3"},
    {"\xed\x95\x9c", CASED, "1:0-3"},
    {"\xce\xa3\xce\xa3", LOWER, "22:0-2 23:2-4"}, /* no final sigma */
    {"\xce\xa3\xcf\x82", LOWER, "22:0-2 24:2-4"},
    {"\xc4\xb0", LOWER, "25:0-2"}, /* I with dot */
    {"\xc4\xb0", KEEP, "25:0-2 26:0-2"},
    {"\xe1\xbf\xaf", LOWER, "29:0-3"}, /* decomposes to ` */
    {"a\xe2\x80\x94"
     "a",
     LOWER, "30:0-1 35:1-4 30:4-5"},
    {"[CLS]", LOWER, "2:0-5"},
    {"[cls]", LOWER, "32:0-1 33:1-4 34:4-5"},
    {"hello[SEP]world", LOWER, "5:0-5 3:5-10 6:10-13 7:13-15"},
    {"hel[MASK]lo", LOWER, "1:0-3 4:3-9 1:9-11"},
    {"[PAD][UNK][", LOWER, "0:0-5 1:5-10 32:10-11"},
    {"[CLS", LOWER, "32:0-1 33:1-4"},
    {"[[CLS]]", LOWER, "32:0-1 2:1-6 34:6-7"},
    {"\xf0\x9d\x85\xa0", LOWER, "38:0-4 39:0-4 40:0-4"},              /* U+1D160 in three parts */
    {"x\xf0\x9d\x85\xad\xe1\xad\x84", LOWER, "41:0-1 42:5-8 43:1-5"}, /* canonical ordering */
    {"x\xe1\xad\x84\xf0\x9d\x85\xad", LOWER, "41:0-1 42:1-4 43:4-8"},
    {"x\xf0\x9d\x85\xad\xf3\xa0\x84\x80\xe1\xad\x84", LOWER, "41:0-1 43:1-5 42:9-12"}, /* parted */
    {"x\xf0\x9d\x85\xad\xcc\x80\xe1\xad\x84", LOWER, "41:0-1 42:7-10 43:1-5"},
    {"\xf0\x9d\x85\xad\xe1\xad\x84", LOWER, "1:0-7"}, /* an [UNK] holds all of it */
    {"AB", CASED, "44:0-1 45:1-2"},
    {"AB", LOWER, "1:0-2"},
};

static void print_pieces(const struct wordpiece *w, struct slice text, char *out, size_t cap)
{
    struct wordpiece_token piece[300];
    size_t n = wordpiece_cut(w, text, piece, 300), len = 0;
    *out = 0;
    for (size_t i = 0; i < n && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%u:%u-%u", i ? " " : "", piece[i].id,
                                piece[i].start, piece[i].end);
}

Test(wordpiece_cut, gives_the_golden_pieces_and_where_they_stood)
{
    for (size_t i = 0; i < COUNT(golden); i++) {
        struct made m;
        char got[400];
        make(&m, small, modes[golden[i].mode], NULL);
        cr_assert_eq(m.r, 0, "%s", m.f.why);
        print_pieces(&m.t.wordpiece, text_of(golden[i].text), got, sizeof got);
        cr_assert_str_eq(got, golden[i].pieces, "row %zu, \"%s\": %s", i, golden[i].text, got);
        put_away(&m);
    }
}

static const struct { size_t chars; const char *ends; size_t pieces; } lengths[] = {
    { 99, "", 99 }, { 100, "", 100 }, { 101, "", 1 }, { 400, "", 1 }, { 100, "!", 101 },
    { 101, "!", 2 }, { 100, "\xcc\x81", 100 }, { 100, "\xc3\xa1", 1 }, { 99, "\xc3\xa1", 100 },
    { 101, " a", 2 }, { 100, "\xe2\x80\x8b", 100 },
};

Test(wordpiece_cut, a_word_over_a_hundred_code_points_is_one_unk)
{
    struct made m;
    make(&m, small, NULL, NULL);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        char text[500];
        memset(text, 'a', lengths[i].chars);
        strcpy(text + lengths[i].chars, lengths[i].ends);
        struct wordpiece_token out[500];
        size_t n = wordpiece_cut(&m.t.wordpiece, text_of(text), out, 500);
        cr_assert_eq(n, lengths[i].pieces, "row %zu gives %zu", i, n);
        if (lengths[i].chars > 100) {
            cr_assert_eq(out[0].id, 1);
            cr_assert_eq(out[0].end, lengths[i].chars);
        }
    }
    put_away(&m);
}

Test(wordpiece_cut, more_than_the_room_is_counted_and_not_written)
{
    struct made m;
    make(&m, small, NULL, NULL);
    const char *text = "hello world hello [SEP] world!";    /* 5 6 7 5 3 6 7 11 */
    static const uint32_t ids[] = { 5, 6, 7, 5, 3, 6, 7, 11 };
    for (size_t cap = 0; cap <= 10; cap++) {
        struct wordpiece_token out[11] = {{0}};
        memset(out, 0xee, sizeof out);
        size_t n = wordpiece_cut(&m.t.wordpiece, text_of(text), out, cap);
        cr_assert(cap < 8 ? n > cap : n == 8, "cap %zu gives %zu", cap, n);
        for (size_t i = 0; i < 11; i++)
            cr_assert_eq(out[i].id, i < cap && i < 8 ? ids[i] : 0xeeeeeeee, "cap %zu, piece %zu",
                         cap, i);
    }
    char many[3001];
    for (size_t i = 0; i < 3000; i++) many[i] = "a b"[i % 2];
    many[3000] = 0;
    cr_assert(wordpiece_cut(&m.t.wordpiece, text_of(many), NULL, 0) < 10, "it stops looking");
    put_away(&m);
}

Test(wordpiece_cut, an_unk_takes_back_the_pieces_of_its_word)
{
    struct made m;
    char got[100];
    make(&m, small, NULL, NULL);
    print_pieces(&m.t.wordpiece, text_of("hello unaffq hello"), got, sizeof got);
    cr_assert_str_eq(got, "5:0-5 1:6-12 5:13-18");
    struct wordpiece_token out[2];
    size_t n = wordpiece_cut(&m.t.wordpiece, text_of("unaffq hello"), out, 2);
    cr_assert_eq(n, 2);
    cr_assert_eq(out[1].id, 5);
    put_away(&m);
}

static uint64_t seed = 1;
static uint32_t rnd(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

Test(wordpiece_cut, any_bytes_give_pieces_inside_the_text_in_order)
{
    static const char parts[][8] = {
        "[CLS]",        "hello", " ", "\xe6\x97", "\xf0\x9d", "\x85\xa0", "\xcc\x80",
        "\xe1\xad\x84", "A",     "!", "\0\0",     "[SE",      "P]",       "\xed\x95\x9c"};
    struct made m;
    make(&m, small, NULL, NULL);
    for (int round = 0; round < 20000; round++) {
        char text[256];
        size_t len = 0;
        while (len < 240 && rnd(30)) {
            if (rnd(3)) text[len++] = (char)rnd(256);
            else {
                const char *p = parts[rnd(COUNT(parts))];
                len += (size_t)snprintf(text + len, 8, "%s", p);
            }
        }
        struct wordpiece_token out[256];
        size_t n = wordpiece_cut(&m.t.wordpiece, (struct slice){ text, len }, out, 256);
        cr_assert(n <= len, "%zu pieces of %zu bytes", n, len);
        for (size_t i = 0; i < n; i++)
            cr_assert(out[i].start < out[i].end && out[i].end <= len &&
                      out[i].id < m.t.wordpiece.vocab.n);
    }
    put_away(&m);
}

/* ---- the real vocabulary, beside npm's @huggingface/tokenizers ---- */

static const struct { const char *script; uint32_t first, last;
} scripts[] = {
    {"latin", 0x41, 0x7a},
    {"latin 1", 0xc0, 0xff},
    {"latin extended", 0x100, 0x24f},
    {"ipa", 0x250, 0x2af},
    {"greek", 0x3ac, 0x3ce},
    {"greek extended", 0x1f80, 0x1faf},
    {"cyrillic", 0x400, 0x52f},
    {"armenian", 0x561, 0x586},
    {"hebrew", 0x5d0, 0x5ea},
    {"arabic", 0x620, 0x64a},
    {"syriac", 0x712, 0x72f},
    {"thaana", 0x780, 0x7a5},
    {"nko", 0x7ca, 0x7ea},
    {"devanagari", 0x900, 0x97f},
    {"bengali", 0x995, 0x9a8},
    {"bengali signs", 0x9c7, 0x9cc},
    {"gurmukhi", 0xa59, 0xa5c},
    {"gujarati", 0xa95, 0xaa8},
    {"oriya", 0xb15, 0xb28},
    {"tamil", 0xbbe, 0xbc2},
    {"telugu", 0xc15, 0xc28},
    {"kannada", 0xcbe, 0xcc4},
    {"malayalam", 0xd15, 0xd3a},
    {"sinhala", 0xdcf, 0xdd4},
    {"thai", 0xe01, 0xe3a},
    {"lao", 0xe94, 0xea3},
    {"tibetan", 0xf40, 0xf47},
    {"myanmar", 0x1000, 0x109f},
    {"georgian", 0x10d0, 0x10fa},
    {"hangul jamo", 0x1100, 0x11ff},
    {"ethiopic", 0x1200, 0x1248},
    {"cherokee", 0x13a0, 0x13f5},
    {"canadian", 0x1401, 0x167f},
    {"ogham", 0x1681, 0x169c},
    {"runic", 0x16a0, 0x16ea},
    {"khmer", 0x1780, 0x17b3},
    {"mongolian", 0x1820, 0x1877},
    {"balinese", 0x1b05, 0x1b44},
    {"vietnamese", 0x1ea0, 0x1ef9},
    {"punctuation", 0x2010, 0x2027},
    {"currency", 0x20a0, 0x20bf},
    {"letterlike", 0x2100, 0x214f},
    {"arrows", 0x2190, 0x21ff},
    {"glagolitic", 0x2c00, 0x2c5f},
    {"coptic", 0x2c80, 0x2ce3},
    {"hiragana", 0x3041, 0x3096},
    {"katakana", 0x30a1, 0x30fa},
    {"bopomofo", 0x3105, 0x312f},
    {"cjk", 0x4e00, 0x9fa5},
    {"cjk compatibility", 0xf900, 0xfaca},
    {"yi", 0xa000, 0xa48c},
    {"hangul", 0xac00, 0xd7a3},
    {"halfwidth", 0xff21, 0xff9d},
    {"linear b", 0x10000, 0x1000b},
    {"gothic", 0x10330, 0x10349},
    {"deseret", 0x10400, 0x1044f},
    {"music", 0x1d15e, 0x1d172},
    {"mathematical", 0x1d400, 0x1d454},
    {"emoji", 0x1f600, 0x1f64f},
    {"controls", 0x1, 0x1f},
    {"marks", 0x300, 0x36f},
    {"spaces", 0x2000, 0x200f},
    {"symbols", 0x21, 0x2f},
};
enum { PER_SCRIPT = 50, TEXT = 600 };

static size_t put(char *out, uint32_t c)
{
    if (c == 0x3a3 || (c >= 0x1d15e && c < 0x1d160 && !rnd(2)))
        c = 'a'; /* Σ: see the golden rows */
    return utf8_put((uint8_t *)out, c);
}

/* Words of one script, with words of the vocabulary, marks and ASCII between. */
static size_t write_text(char *out, size_t script, const struct vocab *v)
{
    size_t len = 0, words = 1 + rnd(8);
    for (size_t w = 0; w < words && len < TEXT - 150; w++) {
        size_t n = 1 + rnd(w % 3 ? 4 : 9);
        for (size_t i = 0; i < n; i++) {
            len += put(out + len, scripts[script].first +
                                      rnd(scripts[script].last - scripts[script].first + 1));
            if (!rnd(6)) len += put(out + len, 0x300 + rnd(0x30));
        }
        if (!rnd(3)) out[len++] = " .,-'!\t[]A"[rnd(10)];
        if (!rnd(2)) {
            struct slice t = v->token[999 + rnd(v->n - 999)];
            if (t.len > 2 && !memcmp(t.p, "##", 2)) t = (struct slice){ t.p + 2, t.len - 2 };
            if (t.len < 40) memcpy(out + len, t.p, t.len), len += t.len;
        }
        if (!rnd(25)) len += (size_t)sprintf(out + len, "[MASK]");
        if (rnd(3)) out[len++] = ' ';
    }
    return len;
}

static const char *vocab_path(void)
{
    const char *path = getenv("RECALLD_VOCAB");
    return path ? path : "../shared/data/bert-base-uncased-vocab.txt";
}

static void write_json(const char *path, char (*text)[TEXT], const size_t *len, size_t n)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ",\"" : "[\"", file);
        for (size_t k = 0; k < len[i]; k++) {
            unsigned char c = (unsigned char)text[i][k];
            if (c < 0x20 || c == '"' || c == '\\') fprintf(file, "\\u%04x", c);
            else putc(c, file);
        }
        putc('"', file);
    }
    fputs("]", file);
    fclose(file);
}

/* The ids that npm's tokenizer gives, line by line, against ours; -1: it is not there. */
static long compare(const struct wordpiece *w, char (*text)[TEXT], const size_t *len, size_t n)
{
    char path[] = "/tmp/recalld-ids-XXXXXX", command[600], line[8 * TEXT], ours[8 * TEXT];
    close(mkstemp(path));
    write_json(path, text, len, n);
    snprintf(command, sizeof command, "node tests/inference/ids.mjs '%s' %s %d 2>/dev/null",
             vocab_path(), path, w->lower);
    FILE *ids = popen(command, "r");
    size_t same = 0;
    for (size_t i = 0; i < n && fgets(line, sizeof line, ids); i++, same++) {
        struct wordpiece_token out[TEXT];
        size_t got = wordpiece_cut(w, (struct slice){ text[i], len[i] }, out, TEXT), at = 0;
        ours[0] = 0;
        for (size_t k = 0; k < got; k++)
            at += (size_t)sprintf(ours + at, "%s%u", k ? " " : "", out[k].id);
        line[strcspn(line, "\n")] = 0;
        cr_assert_str_eq(ours, line, "%s, \"%.*s\":\n ours %s\n npm  %s",
                         scripts[i / PER_SCRIPT].script, (int)len[i], text[i], ours, line);
    }
    pclose(ids);
    unlink(path);
    return same ? (long)same : -1;
}

static void against_npm(const char *config)
{
    enum { N = COUNT(scripts) * PER_SCRIPT };
    struct fault f;
    struct tokenizer t = {0};
    struct tokenizer_text file = {0}, none = {0};
    file.p = (char *)read_file(vocab_path(), &file.len);
    if (!file.p) cr_skip_test("no vocabulary at %s", vocab_path());
    struct tokenizer_text options_text = copy(config);
    cr_assert_eq(tokenizer_read(&t, file, options_text, none, &f), 0, "%s", f.why);
    char (*text)[TEXT] = malloc(N * sizeof *text);
    size_t *len = malloc(N * sizeof *len);
    seed = 7;
    for (size_t i = 0; i < N; i++) len[i] = write_text(text[i], i / PER_SCRIPT, &t.wordpiece.vocab);
    long same = compare(&t.wordpiece, text, len, N);
    free(text);
    free(len);
    tokenizer_close(&t);
    free(file.p);
    free(options_text.p);
    if (same < 0) cr_skip_test("node or @huggingface/tokenizers is not installed");
    cr_assert_eq(same, N, "%ld of %d texts compared", same, (int)N);
}

Test(wordpiece_npm, same_ids_lower_cased)
{
    against_npm("{}");
}

Test(wordpiece_npm, same_ids_cased)
{
    against_npm("{\"do_lower_case\":false}");
}

Test(wordpiece_speed, english_is_cut_at_20_megabytes_a_second)
{
    struct fault f;
    struct tokenizer t = {0};
    struct tokenizer_text file = {0}, none = {0};
    file.p = (char *)read_file(vocab_path(), &file.len);
    if (!file.p) cr_skip_test("no vocabulary at %s", vocab_path());
    cr_assert_eq(tokenizer_read(&t, file, none, none, &f), 0);
    size_t len = 0, pieces = 0;
    char *text = (char *)read_file("tests/data/sentences.txt", &len);
    struct wordpiece_token *out = malloc(len * sizeof *out);
    clock_t begin = clock();
    int rounds = 200;
    for (int i = 0; i < rounds; i++)
        pieces += wordpiece_cut(&t.wordpiece, (struct slice){text, len}, out, len);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC,
           rate = (double)len * rounds / seconds / 1e6;
    printf("wordpiece: %.1f MB/s, %.2f bytes a piece\n", rate, (double)len * rounds / (double)pieces);
#if defined __OPTIMIZE__ && !defined SANITIZED && !defined TEST_MINI
    cr_assert(rate >= 20, "%.1f MB/s", rate);
#endif
    free(out);
    free(text);
    tokenizer_close(&t);
    free(file.p);
}

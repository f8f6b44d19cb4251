// uses: json.c number.c http.c utf8.c base64.c servers/log.c servers/values.c servers/inference/model.c servers/inference/lora_config.c
/* Configuration files of models and adapters: the input holds them one after the other,
 * with a zero byte between; an empty one is not there. What is taken is within bounds. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

static const char *const names[] = { "d/config.json", "d/modules.json", "d/1_Pooling/config.json",
                                     "d/sentence_bert_config.json", "d/tokenizer_config.json",
                                     "d/adapter_config.json" };
static const uint8_t *input, *file;
static size_t input_len, file_len;

/* The files come from memory, one open at a time. */
static int memory_open(const char *path, int flags)
{
    const uint8_t *p = input, *end = input + input_len;
    (void)flags;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const uint8_t *stop = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;
        file = p;
        file_len = (size_t)((stop ? stop : end) - p);
        if (!strcmp(path, names[i]) && file_len) return 3;
        p = stop ? stop + 1 : end;
    }
    errno = ENOENT;
    return -1;
}

static int memory_fstat(int fd, struct stat *st)
{
    CHECK(fd == 3);
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFREG;
    st->st_size = (off_t)file_len;
    return 0;
}

static ssize_t memory_read(int fd, void *to, size_t n)
{
    size_t got = n < file_len ? n : file_len;
    CHECK(fd == 3);
    if (got > 100) got = 100;   /* falls short */
    memcpy(to, file, got);
    file += got;
    file_len -= got;
    return (ssize_t)got;
}

#define open(path, flags) memory_open(path, flags)
#define fstat(fd, st)     memory_fstat(fd, st)
#define read(fd, to, n)   memory_read(fd, to, n)
#define close(fd)         ((void)(fd))
#include "../../servers/inference/config_file.c"
#undef open
#undef fstat
#undef read
#undef close

#include "../../servers/inference/lora_config.h"
#include "../../servers/inference/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model m;
    struct lora_config c;
    struct fault f;
    input = data;
    input_len = size;
    if (!model_read(&m, "d", &f)) {
        CHECK(m.hidden && m.layers && m.heads && m.intermediate && m.vocabulary && m.types);
        CHECK(m.hidden % m.heads == 0 && m.eps >= 0 && m.eps <= 1);
        CHECK(m.max_tokens >= 2 && m.max_tokens <= m.positions && m.positions <= 65536);
    } else CHECK(f.exit == 65 && !strncmp(f.why, "d/", 2) && !strchr(f.why, '\n'));
    if (!lora_config_read(&c, "d", &f)) {
        static const char *const modules[] = { "encoder.layer.0.attention.self.query", "dense" };
        for (int i = 0; i < 2; i++) {
            uint32_t rank = lora_config_rank(&c, modules[i]);
            double scale = lora_config_scale(&c, modules[i]);
            CHECK(rank >= 1 && rank <= LORA_RANK_MAX && scale > 0 && scale < INFINITY);
        }
    } else CHECK(f.exit == 65 && !strncmp(f.why, "d/", 2) && !strchr(f.why, '\n'));
    lora_config_free(&c);
    return 0;
}

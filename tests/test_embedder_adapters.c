// uses: servers/inference/embedder.c servers/inference/embedder_queue.c servers/inference/embedder_adapters.c servers/inference/builtin.c servers/inference/tokenizer.c servers/inference/wordpiece.c servers/inference/vocab.c servers/inference/unicode.c servers/inference/encoder.c servers/inference/weights.c servers/inference/kernels.c servers/inference/processor.c servers/inference/lora.c servers/inference/lora_config.c servers/inference/model.c servers/inference/config_file.c servers/inference/safetensors.c servers/inference/fingerprint.c servers/crc32c.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
#include "servers/inference/embedder.h"

#include <math.h>
#include <stdio.h>

#include "test.h"
#include "asks.h"

static int adapter(const struct embedder *e, const char *name)
{
    return embedder_adapter(e, (struct slice){ name, strlen(name) });
}

static void vector_with(struct embedder *e, int index, float *v)
{
    struct ask *a = ask_one(1, "hello world");
    a->rq.adapter = index;
    cr_assert_eq(embedder_run(e, &a->rq), EMBED_DONE);
    memcpy(v, a->vector, DIM * sizeof *v);
    free(a);
}

Test(embedder_adapters, are_found_by_name_and_change_vectors)
{
    struct embedder *e = open_with(TINY, 10, 0);
    struct fault f;
    float base[DIM], qv[DIM], all[DIM];
    cr_assert_eq(adapter(e, "qv"), -1);
    int first = embedder_load_adapter(e, "qv", TINY "/adapters/qv", &f);
    int second = embedder_load_adapter(e, "all", TINY "/adapters/all", &f);
    cr_assert(first >= 0 && second >= 0 && first != second, "%s", f.why);
    cr_assert(adapter(e, "qv") == first && adapter(e, "all") == second);
    cr_assert(adapter(e, "q") == -1 && adapter(e, "qvv") == -1 && adapter(e, "") == -1);
    vector_with(e, -1, base);
    vector_with(e, first, qv);
    vector_with(e, second, all);
    cr_assert(memcmp(base, qv, sizeof base) && memcmp(base, all, sizeof base) &&
              memcmp(qv, all, sizeof qv));
    struct embedder_adapter info;
    cr_assert(embedder_adapter_get(e, first, &info));
    cr_assert_str_eq(info.name, "qv");
    cr_assert(info.rank == 4 && fabs(info.alpha - 8) < 1e-9);
    int seen = 0;
    for (int i = -1; embedder_adapter_next(e, &i, &info);) seen++;
    cr_assert_eq(seen, 2);
    cr_assert(!embedder_adapter_get(e, 2, &info) && !embedder_adapter_get(e, -1, &info)
              && !embedder_adapter_get(e, EMBED_ADAPTERS, &info));
    embedder_close(e);
}

Test(embedder_adapters, one_that_is_unloaded_serves_those_who_asked_before)
{
    struct embedder *e = open_with(TINY, 10, 0);
    struct fault f;
    float qv[DIM];
    int index = embedder_load_adapter(e, "x", TINY "/adapters/qv", &f);
    vector_with(e, index, qv);
    struct ask *a = ask_one(1, "hello world");
    a->rq.adapter = index;
    cr_assert_eq(embedder_submit(e, &a->rq, 0), EMBED_QUEUED);
    cr_assert(embedder_unload_adapter(e, index));
    cr_assert_eq(adapter(e, "x"), -1);
    struct embedder_adapter info;
    cr_assert(!embedder_adapter_next(e, &(int){ -1 }, &info));
    cr_assert(!embedder_unload_adapter(e, index), "it has gone already");
    cr_assert(embedder_load_adapter(e, "x", TINY "/adapters/all", &f) != index,
              "its place is taken until then");
    run_all(e);
    cr_assert_arr_eq(a->vector, qv, sizeof qv);
    cr_assert_eq(embedder_load_adapter(e, "y", TINY "/adapters/qv", &f), index, "and free after");
    embedder_close(e);
    free(a);
}

Test(embedder_adapters, one_of_the_same_name_replaces_it)
{
    struct embedder *e = open_with(TINY, 10, 0);
    struct fault f;
    float qv[DIM], all[DIM], now[DIM];
    vector_with(e, embedder_load_adapter(e, "x", TINY "/adapters/qv", &f), qv);
    vector_with(e, embedder_load_adapter(e, "x", TINY "/adapters/all", &f), all);
    cr_assert(memcmp(qv, all, sizeof qv));
    vector_with(e, adapter(e, "x"), now);
    cr_assert_arr_eq(now, all, sizeof now);
    cr_assert_eq(embedder_load_adapter(e, "x", TINY "/adapters/none", &f), -1);
    cr_assert_eq(f.exit, 65);
    vector_with(e, adapter(e, "x"), now);
    cr_assert_arr_eq(now, all, sizeof now, "one that fails replaces nothing");
    embedder_close(e);
}

Test(embedder_adapters, at_most_64_and_names_have_a_length)
{
    struct embedder *e = open_with(TINY, 10, 0);
    struct fault f;
    char name[100];
    for (int i = 0; i <= EMBED_ADAPTERS; i++) {
        snprintf(name, sizeof name, "a%d", i);
        int index = embedder_load_adapter(e, name, TINY "/adapters/qv", &f);
        cr_assert_eq(index, i < EMBED_ADAPTERS ? i : -1, "adapter %d is %d", i, index);
    }
    cr_assert_str_eq(f.why, "64 adapters are loaded, no more are taken");
    memset(name, 'n', sizeof name);
    name[EMBED_NAME + 1] = 0;
    cr_assert_eq(embedder_load_adapter(e, name, TINY "/adapters/qv", &f), -1);
    cr_assert_eq(embedder_load_adapter(e, "", TINY "/adapters/qv", &f), -1);
    cr_assert_str_eq(f.why, "an adapter's name has 1 to 64 bytes of UTF-8");
    embedder_unload_adapter(e, 7);
    name[EMBED_NAME] = 0;
    cr_assert_eq(embedder_load_adapter(e, name, TINY "/adapters/qv", &f), 7);
    embedder_close(e);
}

static int load_index[3], loads;
static char load_why[400];
static void on_load(struct embed_load *l, int index, const struct fault *f)
{
    load_index[*(int *)l->user] = index;
    loads++;
    if (index < 0) snprintf(load_why, sizeof load_why, "%s", f->why);
}

Test(embedder_adapters, load_in_granules_beside_texts)
{
    struct embedder *e = open_with(TINY, 100, 0);
    struct fault f;
    static int number[3] = { 0, 1, 2 };
    struct embed_load l[3] = {{ .done = on_load, .user = number, .name = "one" },
                              { .done = on_load, .user = number + 1, .name = "two" },
                              { .done = on_load, .user = number + 2, .name = "three" }};
    struct ask *a = ask(1, 60, letters);
    loads = 0;
    cr_assert_eq(embedder_begin_load(e, l, TINY "/adapters/qv", &f), 0, "%s", f.why);
    cr_assert_eq(embedder_begin_load(e, l + 1, TINY "/adapters/all", &f), 0, "%s", f.why);
    cr_assert_eq(embedder_begin_load(e, l + 2, TINY "/adapters/none", &f), -1);
    embedder_submit(e, &a->rq, 0);
    int steps = 0;
    while (embedder_step(e, 0)) steps++;
    cr_assert(steps > 3 && loads == 2 && a->done == 1, "%d steps, %d loads", steps, loads);
    cr_assert(adapter(e, "one") == load_index[0] && adapter(e, "two") == load_index[1]);
    free(a);
    cr_assert_eq(embedder_begin_load(e, l + 2, TINY "/adapters/pattern", &f), 0, "%s", f.why);
    embedder_step(e, 0);
    embedder_close(e);      /* in the middle of it */
    cr_assert_eq(loads, 2);
}

/* LoRA adapters by name: loading in pieces, and keeping those that are in use. */
#include <string.h>

#include "../../http.h"
#include "../log.h"
#include "embedder_parts.h"

int embedder_adapter(const struct embedder *e, struct slice name)
{
    for (int i = 0; name.len && i < EMBED_ADAPTERS; i++)
        if (e->adapter[i].lora && slice_is(name, e->adapter[i].name)) return i;
    return -1;
}

bool embedder_adapter_get(const struct embedder *e, int index, struct embedder_adapter *out)
{
    struct lora *l = adapter_lora(e, index);
    if (!l) return false;
    *out = (struct embedder_adapter){ e->adapter[index].name, lora_fingerprint(l), lora_rank(l),
                                      lora_alpha(l), lora_targets(l) };
    return true;
}

bool embedder_adapter_next(const struct embedder *e, int *index, struct embedder_adapter *out)
{
    while (++*index < EMBED_ADAPTERS)
        if (embedder_adapter_get(e, *index, out) && *out->name) return true;
    return false;
}

struct lora *adapter_lora(const struct embedder *e, int index)
{
    return index >= 0 && index < EMBED_ADAPTERS ? e->adapter[index].lora : NULL;
}

void adapter_use(struct embedder *e, int index)
{
    if (index >= 0) e->adapter[index].uses++;
}

static void free_unused(struct embedder *e, int index)
{
    if (e->adapter[index].uses || *e->adapter[index].name) return;
    lora_free(e->adapter[index].lora);
    e->adapter[index].lora = NULL;
}

void adapter_release(struct embedder *e, int index)
{
    if (index < 0) return;
    e->adapter[index].uses--;
    free_unused(e, index);
}

bool embedder_unload_adapter(struct embedder *e, int index)
{
    if (!adapter_lora(e, index) || !*e->adapter[index].name) return false;
    *e->adapter[index].name = 0;
    free_unused(e, index);
    return true;
}

/* Give a loaded adapter its name, which one that had it loses. Index, or -1: no slot. */
static int enter(struct embedder *e, const char *name, struct lora *l, struct fault *f)
{
    struct slice s = { name, strlen(name) };
    int old = embedder_adapter(e, s), slot = 0;
    while (slot < EMBED_ADAPTERS && e->adapter[slot].lora && (slot != old || e->adapter[slot].uses))
        slot++;
    if (slot == EMBED_ADAPTERS) {
        lora_free(l);
        return fault_set(f, 65, "%d adapters are loaded, no more are taken", EMBED_ADAPTERS);
    }
    embedder_unload_adapter(e, old);
    memcpy(e->adapter[slot].name, name, s.len + 1);
    e->adapter[slot].lora = l;
    e->adapter[slot].uses = 0;
    return slot;
}

/* May one of this name be loaded? */
static bool check(const struct embedder *e, const char *name, struct fault *f)
{
    size_t len = strlen(name);
    if (!len || len > EMBED_NAME || !utf8_valid((const uint8_t *)name, len))
        fault_set(f, 65, "an adapter's name has 1 to %d bytes of UTF-8", EMBED_NAME);
    else if (!e->encoder) fault_set(f, 65, "the builtin embedder takes no adapters");
    else return true;
    return false;
}

int embedder_load_adapter(struct embedder *e, const char *name, const char *dir, struct fault *f)
{
    struct lora *l = check(e, name, f) ? lora_load(e->encoder, dir, f) : NULL;
    return l ? enter(e, name, l, f) : -1;
}

int embedder_begin_load(struct embedder *e, struct embed_load *l, const char *dir, struct fault *f)
{
    bool idle = embedder_idle(e);
    if (!check(e, l->name, f) || !(l->lora = lora_open(e->encoder, dir, f))) return -1;
    struct embed_load **end = &e->load;
    while (*end) end = &(*end)->next;
    l->next = NULL;
    *end = l;
    if (idle) embedder_wake(e);
    return 0;
}

void adapters_step(struct embedder *e)
{
    struct embed_load *l = e->load;
    struct fault f = {0};
    if (!l) return;
    int r = lora_step(l->lora, &f), index = -1;
    if (r > 0) return;
    e->load = l->next;
    if (r) lora_free(l->lora);
    else index = enter(e, l->name, l->lora, &f);
    l->done(l, index, &f);
}

void adapters_close(struct embedder *e)
{
    for (; e->load; e->load = e->load->next) lora_free(e->load->lora);
    for (int i = 0; i < EMBED_ADAPTERS; i++) lora_free(e->adapter[i].lora);
}

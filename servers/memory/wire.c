/* A memory and its id in JSON, and back. */
#include <string.h>
#include <sys/random.h>

#include "servers/inference/work.h"
#include "servers/memory/service.h"
#include "servers/values.h"

void memory_put_id(const uint8_t id[MEMORY_ID], struct json_out *out)
{
    static const char hex[] = "0123456789abcdef";
    char text[36], *p = text;
    for (int i = 0; i < MEMORY_ID; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *p++ = '-';
        *p++ = hex[id[i] >> 4];
        *p++ = hex[id[i] & 15];
    }
    json_put_str(out, text, sizeof text);
}

void memory_put(const struct memory_service *ms, const struct memory *m, double strength,
                enum memory_form form, struct json_out *out)
{
    const struct memory_fields *f = &m->f;
    json_put_key(out, "id"), memory_put_id(m->id, out);
    json_put_key(out, "text"), json_put_str(out, m->text.p, m->text.len);
    json_put_key(out, "timestamp"), json_put_time(out, f->time_ms);
    member_double(out, "significance", f->significance);
    if (form != MEMORY_EXPORT) member_double(out, "strength", strength);
    member_f32(out, "surprise", f->surprise);
    member_f32(out, "diversity", f->diversity);
    member_f32(out, "information", f->information);
    json_put_key(out, "metadata"), json_put_raw(out, m->metadata.p, m->metadata.len);
    json_put_key(out, "tags"), json_put_raw(out, m->tags.p, m->tags.len);
    member_bool(out, "pinned", f->pinned);
    member_int(out, "access_count", f->access_count);
    json_put_key(out, "last_access"), json_put_time(out, f->last_access_ms);
    if (form == MEMORY_PLAIN) return;
    json_put_key(out, "embedding");
    put_vector(out, m->vector, store_records(ms->store)->dimension, form == MEMORY_EXPORT);
}

void memory_member(struct memory_service *ms, const struct memory *m, enum memory_form form,
                   struct json_out *out)
{
    double age = (double)memory_wall(&ms->ep) - (double)m->f.time_ms;
    member_open(out, "memory", '{');
    memory_put(ms, m, significance_strength(m->f.significance, age), form, out);
    json_close(out, '}');
}

bool memory_id_parse(struct slice text, uint8_t id[MEMORY_ID])
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    size_t n = 0;
    memset(id, 0, MEMORY_ID);
    if (text.len != sizeof form - 1) return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i], low = (char)(c | 32);
        int v = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (form[i] == '-' ? c != '-' : v < 0) return false;
        if (form[i] == '-') continue;
        id[n / 2] = (uint8_t)(id[n / 2] << 4 | v);
        n++;
    }
    return true;
}

bool memory_id_new(uint8_t id[MEMORY_ID])
{
    if (getrandom(id, MEMORY_ID, 0) != MEMORY_ID) return false;
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    return true;
}

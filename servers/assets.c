#include "servers/assets.h"

#include <string.h>

#include "http.h"

/* assets.inc is made by the makefile: a line `ASSET(number, "clients/file")` for each
 * file. The assembler puts the bytes in; a NUL stands behind them. */
#define ASSET(n, file)                                                 \
    __asm__(".section .rodata\n"                                       \
            "asset_" #n ": .incbin \"" file "\"\n"                     \
            "asset_end_" #n ": .byte 0\n"                              \
            ".previous\n");                                            \
    extern const char asset_##n[] __asm__("asset_" #n);                \
    extern const char asset_end_##n[] __asm__("asset_end_" #n);
#include "assets.inc"
#undef ASSET

static const struct { const char *file, *p, *end; } files[] = {
#define ASSET(n, file) { "/" file, asset_##n, asset_end_##n },
#include "assets.inc"
#undef ASSET
};

static const char *type_of(const char *file)
{
    const char *dot = strrchr(file, '.');
    if (!strcmp(dot, ".html")) return "text/html; charset=utf-8";
    if (!strcmp(dot, ".css")) return "text/css; charset=utf-8";
    return "text/javascript; charset=utf-8";
}

bool asset_find(struct slice path, struct asset *a)
{
    if (slice_is(path, "/")) path = (struct slice){ "/clients/index.html", 19 };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (slice_is(path, files[i].file)) {
            a->type = type_of(files[i].file);
            a->body = (struct slice){ files[i].p, (size_t)(files[i].end - files[i].p) };
            return true;
        }
    return false;
}

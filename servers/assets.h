/* The files of clients/, carried inside the binary as they are. */
#ifndef ASSETS_H
#define ASSETS_H

#include "utf8.h"

struct asset { const char *path, *type; struct slice body; };

/* The file that is served at this path, or NULL. */
const struct asset *asset_find(struct slice path);

#endif

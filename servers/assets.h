/* The page and the clients of clients/, carried inside the binary as they are. */
#ifndef ASSETS_H
#define ASSETS_H

#include <stdbool.h>

#include "utf8.h"

struct asset { const char *type; struct slice body; };

/* The file that is served at this path; `/` is the page. */
bool asset_find(struct slice path, struct asset *a);

#endif

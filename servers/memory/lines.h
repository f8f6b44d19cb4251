/* Memories as JSON lines, for --export, --import and the `export` command (SPEC 7):
 * one memory each as on the wire, without strength, plus its embedding in base64. */
#ifndef LINES_H
#define LINES_H

#include "servers/memory/service.h"

/* Write all, in the order of storing, to a file or `-`. 0, or -1 with f. */
int lines_export(struct memory_service *ms, const char *path, struct fault *f);

/* Read them, older forms too (`content` for `text`, times in seconds or milliseconds):
 * embeds what has no vector of this embedder, keeps ids that are free, skips
 * duplicates, prints how many. 0, or -1 with f and its line. */
int lines_import(struct memory_service *ms, const char *path, struct fault *f);

#endif

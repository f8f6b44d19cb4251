/* jansson beside our own json.h, where it is installed (HAVE_JANSSON). */
#ifndef JANSSON_BESIDE_H
#define JANSSON_BESIDE_H

#ifdef HAVE_JANSSON
/* Both have names for the types. */
#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY  JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_TRUE   JANSSON_TRUE
#define JSON_FALSE  JANSSON_FALSE
#define JSON_NULL   JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_TRUE
#undef JSON_FALSE
#undef JSON_NULL
#endif

#endif

/* The texts of one target: each series text with its slot, each metadata line, and what followed it last time.
 *
 * The bytes lie one after the other in an arena, the entries in a slab in the order in which they were first met,
 * an open-addressing index beside them. A dropped text stays, marked, until enough of them make compacting worth it.
 */
#ifndef TRUNKLINE_TEXTS_H
#define TRUNKLINE_TEXTS_H

#include "_bytes.h"

#define NO_TEXT UINT32_MAX
#define LINE (INT32_MIN)     /* instead of a slot: a metadata line */
#define GONE (INT32_MIN + 1) /* instead of a slot: dropped */

typedef struct {
    uint32_t offset, length, hash;
    int32_t slot;        /* negative for a series nobody wants */
    uint32_t next;       /* the text that followed in the last body that had both */
    uint32_t generation; /* of a metadata line: the last body that had it */
} Text;

typedef struct {
    char *arena;
    size_t arena_used, arena_size;
    Text *slab;
    uint32_t used, size; /* entries of the slab */
    uint32_t *index;     /* entry + 1, 0 for none */
    size_t index_size;
    uint32_t lines, gone;          /* how many entries are metadata lines, are dropped */
    uint32_t first, last, touched; /* of this body: where it begins, what was read last, what was asked for last */
    uint32_t generation, lines_met;
    uint32_t layouts; /* how often the entries have moved */
} Texts;

static void texts_free(Texts *texts) {
    free(texts->arena);
    free(texts->slab);
    free(texts->index);
    memset(texts, 0, sizeof *texts);
    texts->first = texts->last = texts->touched = NO_TEXT;
}

static void texts_begin_body(Texts *texts) {
    texts->last = NO_TEXT;
    texts->generation++;
    texts->lines_met = 0;
}

static uint32_t texts_find(const Texts *texts, const char *data, size_t size) {
    if (texts->index_size == 0) return NO_TEXT;
    uint64_t hash = hash_bytes(data, size);
    for (size_t at = hash & (texts->index_size - 1);; at = (at + 1) & (texts->index_size - 1)) {
        uint32_t entry = texts->index[at];
        if (entry == 0) return NO_TEXT;
        const Text *text = &texts->slab[entry - 1];
        if (text->hash == (uint32_t)hash && text->length == size && text->slot != GONE &&
            memcmp(texts->arena + text->offset, data, size) == 0)
            return entry - 1;
    }
}

static void texts_put_in_index(uint32_t *index, size_t index_size, uint32_t hash, uint32_t entry) {
    size_t at = hash & (index_size - 1);
    while (index[at]) at = (at + 1) & (index_size - 1);
    index[at] = entry + 1;
}

/* The power of two of which `count` are at most three quarters. */
static size_t texts_index_size(size_t count) {
    size_t size = 16;
    while (3 * size < 4 * count) size *= 2;
    return size;
}

/* An index of this size for the entries there are. Returns 0 without memory: nothing has changed then. */
static int texts_make_index(Texts *texts, size_t index_size) {
    if (index_size == texts->index_size) {
        memset(texts->index, 0, index_size * sizeof *texts->index);
    } else {
        uint32_t *index = calloc(index_size, sizeof *index);
        if (!index) return 0;
        free(texts->index);
        texts->index = index, texts->index_size = index_size;
    }
    for (uint32_t entry = 0; entry < texts->used; entry++)
        if (texts->slab[entry].slot != GONE)
            texts_put_in_index(texts->index, index_size, texts->slab[entry].hash, entry);
    return 1;
}

/* Gives back what is far more than needed; without memory for that everything stays as large as it is. */
static void texts_shrink(Texts *texts) {
    size_t size = (size_t)texts->used + texts->used / 4 + 16;
    size_t arena_size = texts->arena_used + texts->arena_used / 4 + 256;
    if (texts->size > 2 * size) {
        Text *slab = realloc(texts->slab, size * sizeof *slab);
        if (slab) texts->slab = slab, texts->size = (uint32_t)size;
    }
    if (texts->arena_size > 2 * arena_size) {
        char *arena = realloc(texts->arena, arena_size);
        if (arena) texts->arena = arena, texts->arena_size = arena_size;
    }
}

/* Moves everything together, over what was dropped, where it is: a copy would double the memory meanwhile. Returns 0
 * without memory: nothing has changed then. */
static int texts_compact(Texts *texts) {
    uint32_t used = 0;
    size_t arena_used = 0;
    uint32_t *moved = malloc(((size_t)texts->used + 1) * sizeof *moved);
    if (!moved) return 0;
    for (uint32_t old = 0; old < texts->used; old++) {
        Text text = texts->slab[old];
        moved[old] = text.slot == GONE ? NO_TEXT : used;
        if (text.slot == GONE) continue;
        memmove(texts->arena + arena_used, texts->arena + text.offset, text.length);
        text.offset = (uint32_t)arena_used;
        arena_used += text.length;
        texts->slab[used++] = text;
    }
    for (uint32_t entry = 0; entry < used; entry++)
        if (texts->slab[entry].next != NO_TEXT) texts->slab[entry].next = moved[texts->slab[entry].next];
    if (texts->first != NO_TEXT) texts->first = moved[texts->first];
    if (texts->last != NO_TEXT) texts->last = moved[texts->last];
    if (texts->touched != NO_TEXT) texts->touched = moved[texts->touched];
    free(moved);
    texts->used = used, texts->gone = 0, texts->arena_used = arena_used;
    texts->layouts++;
    texts_shrink(texts);
    if (texts->index_size && !texts_make_index(texts, texts_index_size(texts->size)))
        texts_make_index(texts, texts->index_size); /* larger than needed, but needs no memory */
    return 1;
}

/* Compacts if it pays: more than one entry in eight is gone. */
static void texts_tidy(Texts *texts) {
    if (texts->gone > 32 && texts->gone > texts->used / 8) texts_compact(texts);
}

static int texts_reserve(Texts *texts, size_t length) {
    if (texts->used == texts->size || texts->arena_used + length > texts->arena_size) texts_tidy(texts);
    if (texts->used == texts->size) {
        size_t size = (size_t)texts->used + texts->used / 4 + 16;
        if (size >= NO_TEXT) return 0;
        Text *slab = realloc(texts->slab, size * sizeof *slab);
        if (!slab) return 0;
        texts->slab = slab;
        if (texts_index_size(size) > texts->index_size && !texts_make_index(texts, texts_index_size(size))) return 0;
        texts->size = (uint32_t)size;
    }
    size_t needed = texts->arena_used + length;
    if (texts->arena && needed <= texts->arena_size) return 1;
    size_t size = needed + needed / 4 + 256;
    if (size > UINT32_MAX) return 0; /* offsets have 32 bits: no target needs 4 GiB of names */
    char *arena = realloc(texts->arena, size);
    if (!arena) return 0;
    texts->arena = arena;
    texts->arena_size = size;
    return 1;
}

/* Adds a text that is not there; returns its entry, or NO_TEXT without memory. */
static uint32_t texts_add(Texts *texts, const char *data, size_t length, int32_t slot) {
    if (!texts_reserve(texts, length)) return NO_TEXT;
    uint32_t entry = texts->used++;
    uint32_t hash = (uint32_t)hash_bytes(data, length);
    texts->slab[entry] = (Text){(uint32_t)texts->arena_used, (uint32_t)length, hash, slot, NO_TEXT, 0};
    memcpy(texts->arena + texts->arena_used, data, length);
    texts->arena_used += length;
    texts_put_in_index(texts->index, texts->index_size, hash, entry);
    texts->lines += slot == LINE;
    return entry;
}

static void texts_meet_line(Texts *texts, uint32_t entry) {
    Text *line = &texts->slab[entry];
    texts->lines_met += line->generation != texts->generation;
    line->generation = texts->generation;
}

static void texts_drop(Texts *texts, uint32_t entry) {
    Text *text = &texts->slab[entry];
    if (text->slot == LINE) {
        texts->lines--;
        texts->lines_met -= text->generation == texts->generation;
    }
    text->slot = GONE;
    texts->gone++;
}

/* Drops every series for which `freed[slot]` is set; one that nobody wants is asked for by `unwanted`. */
static void texts_forget(Texts *texts, const char *freed, size_t slots, int unwanted) {
    for (uint32_t entry = 0; entry < texts->used; entry++) {
        int32_t slot = texts->slab[entry].slot;
        if (slot >= 0 ? (size_t)slot < slots && freed[slot] : unwanted && slot > GONE) texts_drop(texts, entry);
    }
}

/* What the body is expected to go on with. */
static inline uint32_t texts_expected(const Texts *texts) {
    return texts->last == NO_TEXT ? texts->first : texts->slab[texts->last].next;
}

/* Remembers that `entry` came next. */
static inline void texts_follow(Texts *texts, uint32_t entry) {
    if (texts->last == NO_TEXT)
        texts->first = entry;
    else
        texts->slab[texts->last].next = entry;
    texts->last = entry;
}

#endif

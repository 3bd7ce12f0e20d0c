/* Label sets by slot and slots by label set: `LabelSets` of label_sets.py.
 *
 * A set is the numbers of its labels, and a label is kept once, however many sets have it: of a target's series most
 * have most labels from each other.
 */
#ifndef TRUNKLINE_LABEL_SETS_H
#define TRUNKLINE_LABEL_SETS_H

#include "_labels.h"

/* Texts with numbers that stay, while their entries move. */
typedef struct {
    Texts texts;
    uint32_t *entries; /* by number, one more than the entry; 0 for none */
    size_t size;
    uint32_t layouts;
} Numbered;

typedef struct {
    Numbered sets, labels; /* the text of a set is numbers of labels */
    uint32_t *uses;        /* by label: how many sets have it; of a free number the next free one, plus one */
    size_t uses_size;
    uint32_t numbers, first_free; /* how many numbers were ever given, and a free one plus one */
    uint32_t *members;            /* of the set at hand */
    size_t member_count, members_size;
} LabelSets;

/* ---- numbered texts ---- */

static void numbered_free(Numbered *numbered) {
    texts_free(&numbered->texts);
    free(numbered->entries);
    numbered->entries = NULL;
    numbered->size = 0;
}

/* The number of a text, or -1. */
static int64_t numbered_find(const Numbered *numbered, const char *data, size_t size) {
    uint32_t entry = texts_find(&numbered->texts, data, size);
    return entry == NO_TEXT ? -1 : numbered->texts.slab[entry].slot;
}

/* The text of a number, or NULL. */
static const Text *numbered_get(const Numbered *numbered, size_t number) {
    uint32_t entry = number < numbered->size ? numbered->entries[number] : 0;
    return entry ? &numbered->texts.slab[entry - 1] : NULL;
}

static void numbered_follow(Numbered *numbered) {
    if (numbered->layouts == numbered->texts.layouts) return;
    numbered->layouts = numbered->texts.layouts;
    for (uint32_t entry = 0; entry < numbered->texts.used; entry++) {
        int32_t number = numbered->texts.slab[entry].slot;
        if (number > GONE) numbered->entries[number] = entry + 1;
    }
}

/* Gives a number that has none a new text. Returns 0 without memory. */
static int numbered_put(Numbered *numbered, uint32_t number, const char *data, size_t size) {
    if (number >= INT32_MAX) return 0;
    if (number >= numbered->size) {
        size_t larger = (size_t)number + number / 8 + 16;
        uint32_t *entries = realloc(numbered->entries, larger * sizeof *entries);
        if (!entries) return 0;
        memset(entries + numbered->size, 0, (larger - numbered->size) * sizeof *entries);
        numbered->entries = entries, numbered->size = larger;
    }
    uint32_t entry = texts_add(&numbered->texts, data, size, (int32_t)number);
    numbered_follow(numbered);
    if (entry == NO_TEXT) return 0;
    numbered->entries[number] = entry + 1;
    return 1;
}

static void numbered_drop(Numbered *numbered, uint32_t number) {
    texts_drop(&numbered->texts, numbered->entries[number] - 1);
    numbered->entries[number] = 0;
    texts_tidy(&numbered->texts);
    numbered_follow(numbered);
}

static size_t numbered_bytes(const Numbered *numbered) {
    const Texts *texts = &numbered->texts;
    return texts->arena_size + texts->size * sizeof *texts->slab +
           (texts->index_size + numbered->size) * sizeof(uint32_t);
}

/* ---- labels ---- */

/* A number for a label; returns 0 without memory. */
static int new_number(LabelSets *sets, uint32_t *number) {
    if (sets->first_free) {
        *number = sets->first_free - 1;
        sets->first_free = sets->uses[*number];
        return 1;
    }
    if (sets->numbers == sets->uses_size) {
        size_t larger = sets->uses_size + sets->uses_size / 4 + 16;
        uint32_t *uses = realloc(sets->uses, larger * sizeof *uses);
        if (!uses) return 0;
        sets->uses = uses, sets->uses_size = larger;
    }
    *number = sets->numbers++;
    return 1;
}

static void release_label(LabelSets *sets, uint32_t number) {
    if (--sets->uses[number]) return;
    numbered_drop(&sets->labels, number);
    sets->uses[number] = sets->first_free;
    sets->first_free = number + 1;
}

/* Uses a label once more; returns 0 without memory. */
static int use_label(LabelSets *sets, const char *label, size_t size, uint32_t *number) {
    int64_t known = numbered_find(&sets->labels, label, size);
    if (known >= 0) {
        *number = (uint32_t)known;
        sets->uses[*number]++;
        return 1;
    }
    if (!new_number(sets, number)) return 0;
    sets->uses[*number] = 1;
    if (numbered_put(&sets->labels, *number, label, size)) return 1;
    sets->uses[*number] = sets->first_free;
    sets->first_free = *number + 1;
    return 0;
}

static int add_member(LabelSets *sets, uint32_t number) {
    if (sets->member_count == sets->members_size) {
        size_t larger = 2 * sets->members_size + 16;
        uint32_t *members = realloc(sets->members, larger * sizeof *members);
        if (!members) return 0;
        sets->members = members, sets->members_size = larger;
    }
    sets->members[sets->member_count++] = number;
    return 1;
}

static void release_members(LabelSets *sets) {
    for (size_t member = 0; member < sets->member_count; member++) release_label(sets, sets->members[member]);
}

/* ---- sets ---- */

enum { SETS_DONE, SETS_NO_MEMORY, SETS_NO_LABELS, SETS_NOT_FOUND };

static void sets_free(LabelSets *sets) {
    numbered_free(&sets->sets);
    numbered_free(&sets->labels);
    free(sets->uses);
    free(sets->members);
    sets->uses = sets->members = NULL;
}

/* Makes the labels the set at hand: as they are known, or else used once more each. */
static int take_members(LabelSets *sets, const char *labels, size_t size, int use) {
    LabelText text;
    sets->member_count = 0;
    for (const char *at = labels, *end = labels + size, *next; at < end; at = next) {
        uint32_t number = 0;
        next = read_encoded_label(at, end, &text);
        if (!next) return SETS_NO_LABELS;
        if (use) {
            if (!use_label(sets, at, (size_t)(next - at), &number)) return SETS_NO_MEMORY;
        } else {
            int64_t known = numbered_find(&sets->labels, at, (size_t)(next - at));
            if (known < 0) return SETS_NOT_FOUND;
            number = (uint32_t)known;
        }
        if (!add_member(sets, number)) {
            if (use) release_label(sets, number);
            return SETS_NO_MEMORY;
        }
    }
    return SETS_DONE;
}

static const char *members_text(const LabelSets *sets) { return sets->members ? (const char *)sets->members : ""; }

static int sets_find(LabelSets *sets, const char *labels, size_t size, int64_t *slot) {
    int outcome = take_members(sets, labels, size, 0);
    *slot = -1;
    if (outcome == SETS_DONE)
        *slot = numbered_find(&sets->sets, members_text(sets), sets->member_count * sizeof(uint32_t));
    return outcome == SETS_NOT_FOUND ? SETS_DONE : outcome;
}

static int sets_put(LabelSets *sets, uint32_t slot, const char *labels, size_t size) {
    int outcome = take_members(sets, labels, size, 1);
    if (outcome == SETS_DONE &&
        !numbered_put(&sets->sets, slot, members_text(sets), sets->member_count * sizeof(uint32_t)))
        outcome = SETS_NO_MEMORY;
    if (outcome != SETS_DONE) release_members(sets);
    return outcome;
}

static uint32_t member_of(const LabelSets *sets, const Text *set, size_t place) {
    uint32_t number;
    memcpy(&number, sets->sets.texts.arena + set->offset + place * sizeof number, sizeof number);
    return number;
}

/* Takes away the labels of a slot that has some. */
static int sets_drop(LabelSets *sets, uint32_t slot) {
    const Text *set = numbered_get(&sets->sets, slot);
    size_t count = set->length / sizeof(uint32_t);
    sets->member_count = 0;
    for (size_t place = 0; place < count; place++)
        if (!add_member(sets, member_of(sets, set, place))) return SETS_NO_MEMORY;
    numbered_drop(&sets->sets, slot);
    release_members(sets);
    return SETS_DONE;
}

/* How many bytes the labels of a set take; written to `out` if that is given. */
static size_t sets_write(const LabelSets *sets, const Text *set, char *out) {
    size_t size = 0;
    for (size_t place = 0; place < set->length / sizeof(uint32_t); place++) {
        const Text *label = numbered_get(&sets->labels, member_of(sets, set, place));
        if (out) memcpy(out + size, sets->labels.texts.arena + label->offset, label->length);
        size += label->length;
    }
    return size;
}

#endif

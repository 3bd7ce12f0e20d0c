/* Compresses the series of a lane, one after the other: `_Lane` of template.py, step by step and byte by byte.
 *
 * `raw` is what has been said so far, with zeros in the holes. Its end is either a literal of `said` bytes not yet
 * written, or a copy of `copied` bytes from `source` on, or neither.
 */
#ifndef TRUNKLINE_LANE_H
#define TRUNKLINE_LANE_H

#include "_bytes.h"

#define MAX_OFFSET 0xFFFF
#define NO_LABEL UINT32_MAX
#define NOWHERE (-1)

enum { LANE_DONE, LANE_NO_MEMORY, LANE_NO_LABELS };

typedef struct {
    const char *bytes; /* where it was first met in what the caller holds */
    uint32_t length, hash;
    int64_t at; /* where in `raw` it was last, or NOWHERE */
} Label;

typedef struct {
    uint64_t key, value; /* key 0 for none */
} Pair;

typedef struct {
    Pair *pairs;
    size_t used, size;
} Pairs;

typedef struct {
    uint32_t *items;
    size_t used, size;
} Places;

typedef struct {
    int width, lead, sample_bytes, hole_bytes, aligned, failed;
    char tail[3], hole[24]; /* what stands before a value; and the hole with what follows it */
    char *raw, *out;
    size_t raw_used, raw_size, room_size, out_used, out_size;
    size_t said, source, copied;
    int64_t last_stamp;
    Places holes, stamps;
    size_t holes_written, stamps_written; /* the others lie in the literal, where they are in `raw` */
    Label *labels;
    uint32_t label_count, label_size;
    uint32_t *label_index; /* label + 1 */
    size_t label_index_size;
    Pairs heads, words;
    uint32_t previous[16]; /* the first labels of the last series, which mostly are those of the next */
    size_t previous_count;
} Lane;

static size_t varint_length(uint64_t number) {
    size_t length = 1;
    for (; number >= 0x80; number >>= 7) length++;
    return length;
}

/* An integer in exactly `width` bytes, the shortest form or longer. */
static void put_varint(char *at, uint64_t number, int width) {
    for (int byte = 0; byte < width - 1; byte++, number >>= 7) at[byte] = (char)(number | 0x80);
    at[width - 1] = (char)(number & 0x7F);
}

/* Room for `more` items beyond `used`; returns the block, moved or not, or NULL with `failed` set. */
static void *lane_reserve(Lane *lane, void *block, size_t *size, size_t used, size_t more, size_t item) {
    if (block && used + more <= *size) return block;
    size_t larger = used + more + used / 2 + 64;
    void *moved = realloc(block, larger * item);
    if (moved)
        *size = larger;
    else
        lane->failed = 1;
    return moved ? moved : block;
}

static void add_place(Lane *lane, Places *places, size_t place) {
    places->items = lane_reserve(lane, places->items, &places->size, places->used, 1, sizeof *places->items);
    if (!lane->failed) places->items[places->used++] = (uint32_t)place;
}

static Pair *pair_at(const Pairs *pairs, uint64_t key) {
    size_t at = hash_number(key) & (pairs->size - 1);
    while (pairs->pairs[at].key && pairs->pairs[at].key != key) at = (at + 1) & (pairs->size - 1);
    return &pairs->pairs[at];
}

/* Where the pair of `key` is or belongs; its key is 0 if it is new. NULL without memory. */
static Pair *pairs_find(Lane *lane, Pairs *pairs, uint64_t key) {
    if (2 * pairs->used >= pairs->size) {
        Pairs larger = {NULL, pairs->used, index_size_for(pairs->used + 1, pairs->size ? 2 * pairs->size : 256)};
        larger.pairs = calloc(larger.size, sizeof *larger.pairs);
        if (!larger.pairs) {
            lane->failed = 1;
            return NULL;
        }
        for (size_t at = 0; at < pairs->size; at++)
            if (pairs->pairs[at].key) *pair_at(&larger, pairs->pairs[at].key) = pairs->pairs[at];
        free(pairs->pairs);
        *pairs = larger;
    }
    return pair_at(pairs, key);
}

static void pair_set(Pairs *pairs, Pair *pair, uint64_t key, uint64_t value) {
    pairs->used += pair->key == 0;
    *pair = (Pair){key, value};
}

/* ---- labels ---- */

static int index_labels(Lane *lane) {
    size_t size = index_size_for(lane->label_size, 64);
    uint32_t *index = calloc(size, sizeof *index);
    if (!index) return 0;
    for (uint32_t label = 0; label < lane->label_count; label++) {
        size_t at = lane->labels[label].hash & (size - 1);
        while (index[at]) at = (at + 1) & (size - 1);
        index[at] = label + 1;
    }
    free(lane->label_index);
    lane->label_index = index;
    lane->label_index_size = size;
    return 1;
}

static int grow_labels(Lane *lane) {
    size_t size = lane->label_size;
    lane->labels = lane_reserve(lane, lane->labels, &size, lane->label_count, 1, sizeof *lane->labels);
    if (lane->failed || size >= NO_LABEL) return 0;
    lane->label_size = (uint32_t)size;
    return index_labels(lane);
}

/* The number of this label, a new one if it was never met. */
static uint32_t label_of(Lane *lane, const char *bytes, size_t length) {
    if (lane->label_count == lane->label_size && !grow_labels(lane)) {
        lane->failed = 1;
        return NO_LABEL;
    }
    uint32_t hash = (uint32_t)hash_bytes(bytes, length);
    size_t at = hash & (lane->label_index_size - 1);
    for (; lane->label_index[at]; at = (at + 1) & (lane->label_index_size - 1)) {
        uint32_t known = lane->label_index[at] - 1;
        const Label *label = &lane->labels[known];
        if (label->hash == hash && label->length == length && memcmp(label->bytes, bytes, length) == 0) return known;
    }
    lane->labels[lane->label_count] = (Label){bytes, (uint32_t)length, hash, NOWHERE};
    lane->label_index[at] = ++lane->label_count;
    return lane->label_count - 1;
}

/* ---- snappy elements ---- */

static void put_copy_2(Lane *lane, size_t offset, size_t length) {
    lane->out[lane->out_used++] = (char)(2 | (length - 1) << 2);
    lane->out[lane->out_used++] = (char)offset;
    lane->out[lane->out_used++] = (char)(offset >> 8);
}

static void put_copy(Lane *lane, size_t offset, size_t length) {
    lane->out = lane_reserve(lane, lane->out, &lane->out_size, lane->out_used, 3 * (length / 60 + 2), 1);
    if (lane->failed) return;
    for (; length >= 68; length -= 64) put_copy_2(lane, offset, 64);
    if (length > 64) {
        put_copy_2(lane, offset, 60);
        length -= 60;
    }
    if (length >= 4 && length <= 11 && offset < 2048) {
        lane->out[lane->out_used++] = (char)(1 | (length - 4) << 2 | offset >> 8 << 5);
        lane->out[lane->out_used++] = (char)offset;
    } else {
        put_copy_2(lane, offset, length);
    }
}

static void put_literal_tag(Lane *lane, size_t length) {
    size_t rest = length - 1, size = 0;
    if (length > 60)
        for (size_t left = rest; left; left >>= 8) size++;
    lane->out[lane->out_used++] = (char)((size ? 59 + size : rest) << 2);
    for (; size; size--, rest >>= 8) lane->out[lane->out_used++] = (char)rest;
}

/* Moves the places of the literal from where they are in `raw` to where they are in `out`. */
static void move_places(Places *places, size_t *written, size_t from, size_t to) {
    for (; *written < places->used; ++*written)
        places->items[*written] = (uint32_t)(places->items[*written] - from + to);
}

static void put_literal(Lane *lane) {
    lane->out = lane_reserve(lane, lane->out, &lane->out_size, lane->out_used, lane->said + 9, 1);
    if (lane->failed) return;
    put_literal_tag(lane, lane->said);
    size_t start = lane->raw_used - lane->said;
    memcpy(lane->out + lane->out_used, lane->raw + start, lane->said);
    move_places(&lane->holes, &lane->holes_written, start, lane->out_used);
    move_places(&lane->stamps, &lane->stamps_written, start, lane->out_used);
    lane->out_used += lane->said;
}

/* Writes the literal or the copy. */
static void flush(Lane *lane) {
    if (lane->said)
        put_literal(lane);
    else if (lane->copied)
        put_copy(lane, lane->raw_used - lane->copied - lane->source, lane->copied);
    lane->said = lane->copied = 0;
}

/* ---- what is said ---- */

static int has_room(Lane *lane, size_t length) {
    lane->failed |= length > lane->raw_size - lane->raw_used;
    return !lane->failed;
}

static void say(Lane *lane, const char *data, size_t length) {
    if (length == 0 || !has_room(lane, length)) return;
    if (lane->copied) flush(lane);
    memcpy(lane->raw + lane->raw_used, data, length);
    lane->said += length;
    lane->raw_used += length;
}

/* Says again what is at `source`; it lies before the end of `raw`, whole. */
static void copy(Lane *lane, size_t source, size_t length, int aligned) {
    lane->failed |= source > lane->raw_used || length > lane->raw_used - source;
    if (!has_room(lane, length)) return;
    if (!lane->copied || source != lane->source + lane->copied) {
        flush(lane);
        lane->source = source;
    }
    memcpy(lane->raw + lane->raw_used, lane->raw + source, length);
    lane->raw_used += length;
    lane->copied += length;
    lane->aligned = aligned;
}

/* Makes the copy longer by `data` if that is what comes next at its source. */
static int go_on(Lane *lane, const char *data, size_t length) {
    size_t next = lane->source + lane->copied;
    if (!lane->copied || !lane->aligned || length > lane->raw_used - next || !has_room(lane, length) ||
        memcmp(lane->raw + next, data, length) != 0)
        return 0;
    memcpy(lane->raw + lane->raw_used, data, length);
    lane->raw_used += length;
    lane->copied += length;
    return 1;
}

static int reaches(const Lane *lane, int64_t source) {
    return source != NOWHERE && (int64_t)lane->raw_used - source <= MAX_OFFSET;
}

/* The shared timestamp: said where none is in reach, otherwise copied. */
static void add_stamp(Lane *lane) {
    size_t start = lane->raw_used;
    if (reaches(lane, lane->last_stamp)) {
        copy(lane, (size_t)lane->last_stamp, (size_t)lane->lead, 0);
    } else {
        static const char field[1 + 10] = "\x10";
        add_place(lane, &lane->stamps, start + 1);
        say(lane, field, 1 + (size_t)lane->width);
    }
    lane->last_stamp = (int64_t)start;
}

/* What stands before the labels: the timestamp of the series before, and the length. */
static void add_head(Lane *lane, uint64_t length, uint32_t first) {
    char head[11] = "\x0a";
    size_t head_bytes = 1 + varint_length(length), start = lane->raw_used;
    put_varint(head + 1, length, (int)head_bytes - 1);
    uint64_t key = length << 32 | NO_LABEL, own_key = length << 32 | first;
    Pair *own = pairs_find(lane, &lane->heads, own_key);
    int64_t source = own && own->key ? (int64_t)own->value : NOWHERE;
    if (source == NOWHERE && lane->lead && !lane->failed) {
        const Pair *any = pairs_find(lane, &lane->heads, key);
        if (any && any->key) source = (int64_t)any->value;
    }
    if (reaches(lane, source)) {
        copy(lane, (size_t)source, (size_t)lane->lead + head_bytes, 1);
    } else {
        if (start && lane->lead) add_stamp(lane);
        say(lane, head, head_bytes);
    }
    if ((start == 0 && lane->lead) || lane->failed) return;
    if ((own = pairs_find(lane, &lane->heads, own_key))) pair_set(&lane->heads, own, own_key, start);
    if ((own = pairs_find(lane, &lane->heads, key))) pair_set(&lane->heads, own, key, start);
    lane->last_stamp = (int64_t)start;
}

static size_t common_length(const char *left, const char *right, size_t limit) {
    size_t done = 0;
    for (; done + 8 <= limit; done += 8) {
        uint64_t difference = load_8(left + done) ^ load_8(right + done);
        if (difference) return done + (size_t)__builtin_ctzll(difference) / 8;
    }
    while (done < limit && left[done] == right[done]) done++;
    return done;
}

/* A label not in reach: copies what it has in common with others, four bytes or more at a time. */
static void add_new_label(Lane *lane, uint32_t number) {
    const Label label = lane->labels[number];
    size_t position = 0, said = 0;
    while (position + 4 <= label.length && !lane->failed) {
        uint64_t key = (uint64_t)load_4(label.bytes + position) + 1;
        Pair *word = pairs_find(lane, &lane->words, key);
        if (!word) return;
        uint32_t other = word->key ? (uint32_t)(word->value >> 32) : number;
        size_t at = (uint32_t)word->value;
        pair_set(&lane->words, word, key, (uint64_t)number << 32 | position);
        int64_t source = lane->labels[other].at + (int64_t)at;
        int64_t offset = (int64_t)(lane->raw_used + position - said) - source;
        if (other == number || offset > MAX_OFFSET) {
            position++;
            continue;
        }
        size_t limit = lane->labels[other].length - at;
        if (limit > label.length - position) limit = label.length - position;
        size_t length = common_length(lane->labels[other].bytes + at, label.bytes + position, limit);
        say(lane, label.bytes + said, position - said);
        copy(lane, (size_t)source, length, at + length == lane->labels[other].length);
        position = said = position + length;
    }
    say(lane, label.bytes + said, label.length - said);
}

static void add_label(Lane *lane, uint32_t number) {
    const Label label = lane->labels[number];
    size_t start = lane->raw_used;
    if (!go_on(lane, label.bytes, label.length)) {
        if (reaches(lane, label.at))
            copy(lane, (size_t)label.at, label.length, 1);
        else
            add_new_label(lane, number);
    }
    lane->labels[number].at = (int64_t)start;
}

/* The same for the label at `place` in a series: first the one that was there in the series before is tried. */
static uint32_t label_at(Lane *lane, size_t place, const char *bytes, size_t length) {
    const size_t most = sizeof lane->previous / sizeof *lane->previous;
    if (place < lane->previous_count) {
        const Label *label = &lane->labels[lane->previous[place]];
        if (label->length == length && memcmp(label->bytes, bytes, length) == 0) return lane->previous[place];
    }
    uint32_t number = label_of(lane, bytes, length);
    if (place < most && place <= lane->previous_count && number != NO_LABEL) {
        lane->previous[place] = number;
        if (place == lane->previous_count) lane->previous_count++;
    }
    return number;
}

/* The length of the Label field at `at`, or 0 if there is none. */
static size_t label_length(const char *at, const char *end) {
    if (end - at < 2 || *at != 0x0A) return 0;
    uint64_t length = 0;
    for (int byte = 1; byte <= 10 && byte < end - at; byte++) {
        uint64_t seven = at[byte] & 0x7F;
        if (byte == 10 && seven > 1) return 0; /* more than 64 bits */
        length |= seven << 7 * (byte - 1);
        if (!(at[byte] & 0x80)) {
            size_t left = (size_t)(end - at) - 1 - (size_t)byte;
            return length > left ? 0 : 1 + (size_t)byte + length;
        }
    }
    return 0;
}

/* ---- back again ---- */

/* Uncompresses what a lane has become; returns whether it is whole and exactly `raw_size` bytes. */
static int unpack(const char *data, size_t size, char *raw, size_t raw_size) {
    size_t at = 0, used = 0;
    while (at < size) {
        unsigned char tag = (unsigned char)data[at++];
        size_t length = (size_t)(tag >> 2) + 1, offset = 0, more = tag & 3;
        if (more == 0) { /* a literal: its length less one is in the tag, or in the 1 to 4 bytes behind it */
            more = length > 60 ? length - 60 : 0;
            if (more > size - at) return 0;
            if (more) length = 1;
            for (size_t byte = 0; byte < more; byte++) length += (size_t)(unsigned char)data[at++] << 8 * byte;
            if (length > size - at || length > raw_size - used) return 0;
            memcpy(raw + used, data + at, length);
            at += length;
        } else { /* a copy: its offset is in the 1 or 2 bytes behind the tag, and in the short kind in the tag too */
            if (more > 2 || more > size - at) return 0;
            offset = (unsigned char)data[at];
            offset |= more == 2 ? (size_t)(unsigned char)data[at + 1] << 8 : (size_t)(tag >> 5) << 8;
            if (more == 1) length = (tag >> 2 & 7) + 4;
            at += more;
            if (offset == 0 || offset > used || length > raw_size - used) return 0;
            if (offset >= length)
                memcpy(raw + used, raw + used - offset, length);
            else
                for (size_t byte = 0; byte < length; byte++) raw[used + byte] = raw[used + byte - offset];
        }
        used += length;
    }
    return used == raw_size;
}

/* ---- room to work in ---- */

#define SPARE_BYTES 1048576

/* What the last lane was compiled in, kept for the next one: to get as much from the system each time would cost as
 * much as the rest. Only one thread at a time is here: Python's lock is held. */
static char *spare;
static size_t spare_size;

static char *take_room(size_t size, size_t *room_size) {
    if (spare && spare_size >= size) {
        char *room = spare;
        *room_size = spare_size;
        spare = NULL;
        return room;
    }
    *room_size = size;
    return malloc(size);
}

static void return_room(char *room, size_t room_size) {
    if (!room || room_size > SPARE_BYTES || (spare && spare_size >= room_size)) {
        free(room);
        return;
    }
    free(spare);
    spare = room, spare_size = room_size;
}

/* ---- the three steps ---- */

/* How long a series of this size of labels is in `raw` at most, its timestamp and that of the one before included. */
static size_t series_room(size_t labels_bytes) { return labels_bytes + 64; }

/* `raw_size` is the sum of `series_room`. A lane that began must be ended with lane_free. */
static int lane_begin(Lane *lane, int width, int each, size_t raw_size) {
    memset(lane, 0, sizeof *lane);
    lane->width = width;
    lane->lead = each ? 0 : 1 + width;
    lane->sample_bytes = 10 + width;
    lane->hole_bytes = each ? 9 + width : 8;
    lane->hole[8] = 0x10;
    lane->tail[0] = 0x12, lane->tail[1] = (char)lane->sample_bytes, lane->tail[2] = 0x09;
    lane->last_stamp = NOWHERE;
    lane->raw_size = raw_size;
    lane->raw = take_room(raw_size + 1, &lane->room_size);
    return lane->raw && raw_size < UINT32_MAX / 2 ? LANE_DONE : LANE_NO_MEMORY;
}

static int lane_add(Lane *lane, const char *labels, size_t size) {
    const char *at = labels, *end = labels + size;
    for (size_t length; at < end; at += length)
        if (!(length = label_length(at, end))) return LANE_NO_LABELS;
    uint32_t first = size ? label_at(lane, 0, labels, label_length(labels, end)) : NO_LABEL;
    if (lane->failed) return LANE_NO_MEMORY;
    add_head(lane, size + 2 + (size_t)lane->sample_bytes, first);
    size_t place = 0;
    for (at = labels; at < end && !lane->failed; place++) {
        size_t length = label_length(at, end);
        uint32_t number = label_at(lane, place, at, length);
        if (number != NO_LABEL) add_label(lane, number);
        at += length;
    }
    if (!go_on(lane, lane->tail, sizeof lane->tail)) say(lane, lane->tail, sizeof lane->tail);
    if (lane->copied) flush(lane);
    add_place(lane, &lane->holes, lane->raw_used);
    say(lane, lane->hole, (size_t)lane->hole_bytes);
    return lane->failed ? LANE_NO_MEMORY : LANE_DONE;
}

static int lane_finish(Lane *lane) {
    if (lane->lead && lane->raw_used) add_stamp(lane);
    flush(lane);
    return lane->failed ? LANE_NO_MEMORY : LANE_DONE;
}

static void lane_free(Lane *lane) {
    return_room(lane->raw, lane->room_size);
    free(lane->out), free(lane->labels), free(lane->label_index);
    free(lane->heads.pairs), free(lane->words.pairs), free(lane->holes.items), free(lane->stamps.items);
    memset(lane, 0, sizeof *lane);
}

#endif

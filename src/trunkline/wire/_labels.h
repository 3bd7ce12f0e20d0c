/* Labels from text to bytes: a plain series of exposition text taken apart, its labels sorted and encoded as remote
 * write has them (see remote_write.py), and two encoded label sets merged.
 */
#ifndef TRUNKLINE_LABELS_H
#define TRUNKLINE_LABELS_H

#include "_lane.h"
#include "_scan.h"

#define MAX_LABELS 64 /* series with more are left to the twin */

typedef struct {
    const char *name, *value;
    size_t name_size, value_size;
} LabelText;

typedef struct {
    LabelText labels[MAX_LABELS];
    size_t count, name_size; /* the name of the series is where it begins */
    const char *end;
} SeriesText;

/* ---- from text ---- */

enum { NAME_START = 1, NAME_PART = 2, COLON = 4 };

static inline int kind_of(char byte) {
    unsigned char lower = (unsigned char)byte | 0x20;
    if ((lower >= 'a' && lower <= 'z') || byte == '_') return NAME_START | NAME_PART;
    if (is_digit(byte)) return NAME_PART;
    return byte == ':' ? COLON : 0;
}

static const char *read_name(const char *at, const char *end, int more) {
    if (at == end || !(kind_of(*at) & (NAME_START | more))) return at;
    while (at < end && kind_of(*at) & (NAME_PART | more)) at++;
    return at;
}

static int same_bytes(const char *left, size_t left_size, const char *right, size_t right_size) {
    return left_size == right_size && memcmp(left, right, left_size) == 0;
}

/* The label at `at` without white space or escapes; returns what follows it, or NULL. */
static const char *read_label(const char *at, const char *end, LabelText *label) {
    const char *name_end = read_name(at, end, 0);
    if (name_end == at || end - name_end < 3 || name_end[0] != '=' || name_end[1] != '"') return NULL;
    const char *value = name_end + 2, *value_end = value;
    while (value_end < end && *value_end != '"' && *value_end != '\\' && *value_end != '\n') value_end++;
    if (value_end == end || *value_end != '"') return NULL;
    *label = (LabelText){at, value, (size_t)(name_end - at), (size_t)(value_end - value)};
    return value_end + 1;
}

static int is_new_name(const SeriesText *series, const LabelText *label) {
    if (same_bytes(label->name, label->name_size, "__name__", 8)) return 0;
    for (size_t other = 0; other < series->count; other++)
        if (same_bytes(label->name, label->name_size, series->labels[other].name, series->labels[other].name_size))
            return 0;
    return 1;
}

/* `name{label="value",...}` with neither white space nor escapes nor a name twice; whether it is that. */
static int read_series_text(const char *at, const char *end, SeriesText *series) {
    const char *name_end = read_name(at, end, COLON);
    series->name_size = (size_t)(name_end - at);
    series->count = 0;
    series->end = name_end;
    if (name_end == at || name_end == end || *name_end != '{') return name_end != at;
    at = name_end + 1;
    while (at < end && *at != '}') {
        LabelText *label = &series->labels[series->count];
        if (series->count == MAX_LABELS || !(at = read_label(at, end, label)) || at == end) return 0;
        if (!is_new_name(series, label)) return 0;
        series->count++;
        if (*at == ',')
            at++;
        else if (*at != '}')
            return 0;
    }
    series->end = at + 1;
    return at < end;
}

/* Whether the line at hand is a plain series, one space, a number, and perhaps one space and a timestamp. */
static int read_plain_line(const Scan *scan, SeriesText *series) {
    double value;
    int64_t timestamp_ms;
    int stamped;
    if (!read_series_text(scan->at, scan->end, series)) return 0;
    const char *at = series->end;
    if (at == scan->end || *at != ' ') return 0;
    return read_sample(scan, at + 1, &value, &timestamp_ms, &stamped) != NULL;
}

/* ---- to bytes ---- */

static int compare_bytes(const char *left, size_t left_size, const char *right, size_t right_size) {
    int order = memcmp(left, right, left_size < right_size ? left_size : right_size);
    return order ? order : (left_size > right_size) - (left_size < right_size);
}

static size_t label_inner_size(const LabelText *label) {
    return 2 + varint_length(label->name_size) + label->name_size + varint_length(label->value_size) +
           label->value_size;
}

static size_t label_size(const LabelText *label) {
    size_t inner = label_inner_size(label);
    return 1 + varint_length(inner) + inner;
}

static char *put_number(char *at, char tag, size_t number) {
    int width = (int)varint_length(number);
    *at++ = tag;
    put_varint(at, number, width);
    return at + width;
}

static char *put_label(char *at, const LabelText *label) {
    at = put_number(at, 0x0A, label_inner_size(label));
    at = put_number(at, 0x0A, label->name_size);
    memcpy(at, label->name, label->name_size);
    at = put_number(at + label->name_size, 0x12, label->value_size);
    memcpy(at, label->value, label->value_size);
    return at + label->value_size;
}

/* By name, as bytes: the order of UTF-8 is that of its code points. Few labels, often sorted: insertion. */
static void sort_labels(LabelText *labels, size_t count) {
    for (size_t next = 1; next < count; next++) {
        LabelText label = labels[next];
        size_t at = next;
        for (; at && compare_bytes(labels[at - 1].name, labels[at - 1].name_size, label.name, label.name_size) > 0; at--)
            labels[at] = labels[at - 1];
        labels[at] = label;
    }
}

/* ---- merged ---- */

/* A bytes field with this tag; returns what follows it, or NULL. */
static const char *read_text_field(const char *at, const char *end, char tag, const char **text, size_t *size) {
    if (end - at < 2 || *at++ != tag) return NULL;
    uint64_t number = 0;
    for (int shift = 0;; shift += 7) {
        if (at == end || shift > 28) return NULL; /* a label is shorter than 4 GiB */
        number |= (uint64_t)(*at & 0x7F) << shift;
        if (!(*at++ & 0x80)) break;
    }
    if (number > (size_t)(end - at)) return NULL;
    *text = at, *size = number;
    return at + number;
}

/* One encoded label as `encode_labels` makes it; returns what follows it, or NULL. */
static const char *read_encoded_label(const char *at, const char *end, LabelText *label) {
    const char *inner;
    size_t size;
    at = read_text_field(at, end, 0x0A, &inner, &size);
    if (!at) return NULL;
    inner = read_text_field(inner, inner + size, 0x0A, &label->name, &label->name_size);
    if (inner) inner = read_text_field(inner, at, 0x12, &label->value, &label->value_size);
    return inner == at ? at : NULL;
}

/* Both sets, sorted; a label of `own` stands for one of that name in `others`, and an empty one for none at all.
 * `out` has room for both. Returns where it ends, or NULL if one is no set of labels. */
static char *merge(const char *others, size_t others_size, const char *own, size_t own_size, char *out) {
    const char *others_end = others + others_size, *own_end = own + own_size;
    LabelText other, mine;
    while (own < own_end) {
        const char *own_next = read_encoded_label(own, own_end, &mine);
        if (!own_next) return NULL;
        while (others < others_end) {
            const char *next = read_encoded_label(others, others_end, &other);
            if (!next) return NULL;
            int order = compare_bytes(other.name, other.name_size, mine.name, mine.name_size);
            if (order > 0) break;
            if (order < 0) {
                memcpy(out, others, (size_t)(next - others));
                out += next - others;
            }
            others = next;
        }
        if (mine.value_size) {
            memcpy(out, own, (size_t)(own_next - own));
            out += own_next - own;
        }
        own = own_next;
    }
    memcpy(out, others, (size_t)(others_end - others));
    out += others_end - others;
    while (others && others < others_end) others = read_encoded_label(others, others_end, &other);
    return others ? out : NULL;
}

#endif

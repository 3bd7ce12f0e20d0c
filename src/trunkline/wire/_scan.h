/* One pass over a body: lines whose text is known, as far as they go. Whatever is not one of these plain things is
 * left to the twin's own code: a known metadata line; a known series, one space, a number; the same, one space and a
 * timestamp. No byte at or after `end` is read.
 */
#ifndef TRUNKLINE_SCAN_H
#define TRUNKLINE_SCAN_H

#include "_number.h"
#include "_texts.h"

enum { TAKEN, DONE, ODD_LINE, NEEDS_TIMESTAMPS };

typedef struct {
    const char *at, *end;
    double *values;
    char *present;
    int64_t *timestamps_ms; /* NULL until a sample has one */
    size_t slots;           /* how long each column is */
    int openmetrics, honor_timestamps;
    size_t samples, duplicates;
} Scan;

static inline const char *read_milliseconds(const char *at, const char *end, int64_t *timestamp_ms) {
    uint64_t number = 0;
    const char *start = at;
    at = read_digits(at, end, &number);
    *timestamp_ms = (int64_t)number;
    return at == start || at - start > 18 ? NULL : at;
}

static inline const char *read_seconds(const char *at, const char *end, int64_t *timestamp_ms) {
    double number;
    at = read_number(at, end, &number);
    if (!at) return NULL;
    number *= 1000.0;
    if (!(number >= -0x1p63 && number < 0x1p63)) return NULL;
    *timestamp_ms = (int64_t)number;
    return at;
}

static inline int put(Scan *scan, int32_t slot, double value) {
    if (scan->present[slot]) {
        scan->duplicates++;
    } else {
        scan->values[slot] = value;
        scan->present[slot] = 1;
    }
    return TAKEN;
}

static inline int put_stamped(Scan *scan, int32_t slot, double value, int64_t timestamp_ms) {
    if (scan->present[slot] || timestamp_ms == 0) return ODD_LINE; /* does not fit the columns */
    if (!scan->timestamps_ms) return NEEDS_TIMESTAMPS;
    scan->values[slot] = value;
    scan->timestamps_ms[slot] = timestamp_ms;
    scan->present[slot] = 1;
    return TAKEN;
}

/* A value and perhaps a timestamp, from `at` to the end of the line, which is returned; or NULL. `*stamped` says
 * whether there is a timestamp. */
static inline const char *read_sample(const Scan *scan, const char *at, double *value, int64_t *timestamp_ms,
                                      int *stamped) {
    *stamped = 0;
    at = read_number(at, scan->end, value);
    if (at && at < scan->end && *at == ' ') {
        *stamped = 1;
        at = (scan->openmetrics ? read_seconds : read_milliseconds)(at + 1, scan->end, timestamp_ms);
    }
    return !at || (at < scan->end && *at != '\n') ? NULL : at;
}

/* The rest of a line, from its value on. */
static inline int take_sample(Scan *scan, int32_t slot, const char *at) {
    double value;
    int64_t timestamp_ms;
    int stamped, outcome = TAKEN;
    at = read_sample(scan, at, &value, &timestamp_ms, &stamped);
    if (!at) return ODD_LINE;
    if (slot >= 0) {
        if ((size_t)slot >= scan->slots) return ODD_LINE;
        outcome = stamped && scan->honor_timestamps ? put_stamped(scan, slot, value, timestamp_ms) : put(scan, slot, value);
    }
    if (outcome == TAKEN) {
        scan->samples++;
        scan->at = at < scan->end ? at + 1 : at;
    }
    return outcome;
}

/* The line if it begins with the text that followed last time. */
static inline int take_expected(Texts *texts, Scan *scan) {
    uint32_t expected = texts_expected(texts);
    if (expected == NO_TEXT) return ODD_LINE;
    const Text *text = &texts->slab[expected];
    if (text->slot == GONE || (size_t)(scan->end - scan->at) <= text->length ||
        memcmp(scan->at, texts->arena + text->offset, text->length) != 0)
        return ODD_LINE;
    const char *after = scan->at + text->length;
    int outcome = ODD_LINE;
    if (text->slot == LINE) {
        if (*after != '\n') return ODD_LINE;
        texts_meet_line(texts, expected);
        scan->at = after + 1;
        outcome = TAKEN;
    } else if (*after == ' ') {
        outcome = take_sample(scan, text->slot, after + 1);
    }
    if (outcome == TAKEN) texts->last = expected;
    return outcome;
}

/* The line if it is the text up to `space`, a value, and perhaps a timestamp. */
static int take_series(Texts *texts, Scan *scan, const char *space) {
    uint32_t found = texts_find(texts, scan->at, (size_t)(space - scan->at));
    if (found == NO_TEXT || texts->slab[found].slot == LINE) return ODD_LINE;
    int outcome = take_sample(scan, texts->slab[found].slot, space + 1);
    if (outcome == TAKEN) texts_follow(texts, found);
    return outcome;
}

/* The line if it is a metadata line that holds already, or blank where that is allowed. */
static int take_line(Texts *texts, Scan *scan, const char *line_end) {
    const char *after = line_end < scan->end ? line_end + 1 : line_end;
    if (line_end == scan->at && !scan->openmetrics) {
        scan->at = after;
        return TAKEN;
    }
    if ((unsigned char)*scan->at > '#') return ODD_LINE; /* it begins with neither white space nor the sign */
    uint32_t found = texts_find(texts, scan->at, (size_t)(line_end - scan->at));
    if (found == NO_TEXT || texts->slab[found].slot != LINE) return ODD_LINE;
    texts_meet_line(texts, found);
    texts_follow(texts, found);
    scan->at = after;
    return TAKEN;
}

/* The line if its text is known at all. */
static int take_known(Texts *texts, Scan *scan) {
    const char *line_end = memchr(scan->at, '\n', (size_t)(scan->end - scan->at));
    if (!line_end) line_end = scan->end;
    int outcome = take_line(texts, scan, line_end);
    const char *space = line_end;
    for (int fields = 0; outcome == ODD_LINE && fields < 2; fields++) { /* a value; or a value and a timestamp */
        do {
            if (space == scan->at) return ODD_LINE;
        } while (*--space != ' ');
        outcome = take_series(texts, scan, space);
    }
    return outcome;
}

static int scan_lines(Texts *texts, Scan *scan) {
    while (scan->at < scan->end) {
        int outcome = take_expected(texts, scan);
        if (outcome == ODD_LINE) outcome = take_known(texts, scan);
        if (outcome != TAKEN) return outcome;
    }
    return DONE;
}

#endif

# cython: language_level=3, freethreading_compatible=False
"""The compiled kernel: the fast paths of `exposition.py` and `template.py`, which stay the specification.

The work is in plain C beside this file (`_scan.h`, `_texts.h`, `_number.h`, `_labels.h`, `_lane.h`); here it meets Python: buffers,
errors, and the twin's own methods for every line that is not a plain one. See docs/decisions/0004-kernel.md.
"""

from array import array
from os import urandom

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from trunkline.errors import ExpositionError, WireError
from trunkline.wire import exposition, label_sets, remote_write, template
from trunkline.wire.template import join  # one pass over a few fragments: there is nothing to win

__all__ = ["ExpositionParser", "LabelSets", "Template", "encode_labels", "encode_scraped", "join", "merge_labels"]


cdef extern from "_scan.h" nogil:
    uint64_t hash_seeds[2]

    enum: MAX_POWER
    ctypedef struct Power:
        uint64_t high
        uint64_t low
    Power powers[]
    const char *read_number(const char *at, const char *end, double *value)

    const uint32_t NO_TEXT
    const int32_t LINE
    const int32_t GONE
    ctypedef struct Text:
        uint32_t offset
        uint32_t length
        int32_t slot
        uint32_t generation
    ctypedef struct CTexts "Texts":
        char *arena
        Text *slab
        uint32_t used
        uint32_t lines
        uint32_t gone
        uint32_t touched
        uint32_t generation
        uint32_t lines_met
        size_t arena_used
        size_t arena_size
        uint32_t size
        size_t index_size
    void texts_free(CTexts *texts)
    void texts_begin_body(CTexts *texts)
    uint32_t texts_find(const CTexts *texts, const char *data, size_t size)
    uint32_t texts_add(CTexts *texts, const char *data, size_t size, int32_t slot)
    void texts_meet_line(CTexts *texts, uint32_t entry)
    void texts_drop(CTexts *texts, uint32_t entry)
    void texts_forget(CTexts *texts, const char *freed, size_t slots, int unwanted)
    int texts_compact(CTexts *texts)
    void texts_tidy(CTexts *texts)
    void texts_follow(CTexts *texts, uint32_t entry)

    enum: DONE
    enum: ODD_LINE
    enum: NEEDS_TIMESTAMPS
    ctypedef struct CScan "Scan":
        const char *at
        const char *end
        double *values
        char *present
        int64_t *timestamps_ms
        size_t slots
        int openmetrics
        int honor_timestamps
        size_t samples
        size_t duplicates
    int scan_lines(CTexts *texts, CScan *scan)


cdef extern from "_labels.h" nogil:
    enum: MAX_LABELS
    ctypedef struct LabelText:
        const char *name
        const char *value
        size_t name_size
        size_t value_size
    ctypedef struct SeriesText:
        LabelText labels[MAX_LABELS]
        size_t count
        size_t name_size
        const char *end
    int read_plain_line(const CScan *scan, SeriesText *series)
    size_t label_size(const LabelText *label)
    char *put_label(char *at, const LabelText *label)
    const char *read_text_field(const char *at, const char *end, char tag, const char **text, size_t *size)
    void sort_labels(LabelText *labels, size_t count)
    char *merge(const char *others, size_t others_size, const char *own, size_t own_size, char *out)


cdef extern from "_label_sets.h" nogil:
    ctypedef struct Numbered:
        CTexts texts
    ctypedef struct CLabelSets "LabelSets":
        Numbered sets
        Numbered labels
        size_t uses_size
        size_t members_size
    enum: SETS_DONE
    enum: SETS_NO_MEMORY
    void sets_free(CLabelSets *sets)
    int sets_find(CLabelSets *sets, const char *labels, size_t size, int64_t *slot)
    int sets_put(CLabelSets *sets, uint32_t slot, const char *labels, size_t size)
    int sets_drop(CLabelSets *sets, uint32_t slot)
    const Text *numbered_get(const Numbered *numbered, size_t number)
    size_t numbered_bytes(const Numbered *numbered)
    size_t sets_write(const CLabelSets *sets, const Text *set, char *out)


cdef extern from "_lane.h" nogil:
    enum: LANE_DONE
    enum: LANE_NO_LABELS
    ctypedef struct Places:
        uint32_t *items
        size_t used
    ctypedef struct Lane:
        char *out
        size_t out_used
        size_t raw_used
        Places holes
        Places stamps
    char *take_room(size_t size, size_t *room_size)
    void return_room(char *room, size_t room_size)
    size_t series_room(size_t labels_bytes)
    int lane_begin(Lane *lane, int width, int each, size_t raw_size)
    int lane_add(Lane *lane, const char *labels, size_t size)
    int lane_finish(Lane *lane)
    int unpack(const char *data, size_t size, char *raw, size_t raw_size)
    void lane_free(Lane *lane)
    size_t varint_length(uint64_t number)
    void put_varint(char *at, uint64_t number, int width)


def _power_of_five(exponent):
    """5**exponent cut to 128 bits; down to -27, where an exact tie is possible, the reciprocal is rounded up."""
    if exponent < 0:
        divisor = 5**-exponent
        return (1 << 127 + (divisor - 1).bit_length()) // divisor + (exponent >= -27)
    power = 5**exponent << 128
    return power >> power.bit_length() - 128


cdef compute_powers():
    """Fill the table of `_number.h`."""
    cdef object power
    cdef int entry
    for entry in range(2 * MAX_POWER + 1):
        power = _power_of_five(entry - MAX_POWER)
        powers[entry].high = power >> 64
        powers[entry].low = power & 0xFFFF_FFFF_FFFF_FFFF


cdef extern from *:
    """
    #ifdef __GLIBC__
    #include <malloc.h>
    static void map_large_blocks(int size) { mallopt(M_MMAP_THRESHOLD, size), mallopt(M_TRIM_THRESHOLD, 8 * size); }
    #else
    static void map_large_blocks(int size) { (void)size; }
    #endif
    """
    void map_large_blocks(int size)


# By itself the C library moves ever larger blocks from mappings of their own into the heap, where tables that have
# been outgrown leave holes which nothing fits: a fifth of the memory at 100,000 series that come and go.
map_large_blocks(128 * 1024)
compute_powers()
hash_seeds[0] = int.from_bytes(urandom(8), "little") | 1
hash_seeds[1] = int.from_bytes(urandom(8), "little") | 1


def read_decimal(bytes text not None):
    """The float64 of a text, or None where the kernel leaves it to Python; for tests."""
    cdef double value
    cdef const char *start = PyBytes_AS_STRING(text)
    cdef const char *end = start + PyBytes_GET_SIZE(text)
    return value if read_number(start, end, &value) == end else None


# ---- the parser ----


cdef class Texts:
    """The map from the text of a series to its slot, as the twin's code uses it, with metadata lines beside."""

    cdef CTexts c
    cdef bint scanning

    def __cinit__(self):
        texts_free(&self.c)  # the state of nothing

    def __dealloc__(self):
        texts_free(&self.c)

    def __len__(self):
        return self.c.used - self.c.gone - self.c.lines

    def __iter__(self):
        return iter([text for text, _ in self.items()])

    def __sizeof__(self):
        return sizeof(CTexts) + self.c.arena_size + self.c.size * (sizeof(Text) + 8) + self.c.index_size * 4

    def items(self):
        """Every series as (text, slot)."""
        cdef Text *text
        cdef uint32_t entry
        found = []
        for entry in range(self.c.used):
            text = &self.c.slab[entry]
            if text.slot > GONE:
                found.append((PyBytes_FromStringAndSize(self.c.arena + text.offset, text.length), text.slot))
        return found

    def get(self, bytes text not None):
        cdef uint32_t entry = self.find(text)
        if entry == NO_TEXT or self.c.slab[entry].slot == LINE:
            return None
        self.c.touched = entry
        return self.c.slab[entry].slot

    def __setitem__(self, bytes text not None, slot):
        self.add(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), -1 if slot < 0 else slot)

    def __delitem__(self, bytes text not None):
        self.drop(text)

    def clear(self):
        """Drop every series."""
        cdef uint32_t entry
        self.change()
        for entry in range(self.c.used):
            if self.c.slab[entry].slot > GONE:
                texts_drop(&self.c, entry)
        texts_compact(&self.c)

    def forget(self, slots):
        """Drop every series of these slots. One pass over the slab."""
        self.change()
        wanted = [slot for slot in slots if slot >= 0]
        freed = bytearray(max(wanted, default=-1) + 1)
        for slot in wanted:
            freed[slot] = 1
        texts_forget(&self.c, freed, len(freed), len(wanted) < len(slots))
        texts_tidy(&self.c)

    cdef change(self):
        if self.scanning:
            raise RuntimeError("a parser serves one thread at a time, and another one is reading a body with it")

    cdef uint32_t find(self, bytes text) noexcept:
        return texts_find(&self.c, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))

    cdef add(self, const char *text, size_t size, int32_t slot):
        self.change()
        cdef uint32_t entry = texts_find(&self.c, text, size)
        if entry == NO_TEXT:
            entry = texts_add(&self.c, text, size, slot)
        if entry == NO_TEXT:
            raise MemoryError
        self.c.slab[entry].slot = slot
        self.c.touched = entry

    cdef drop(self, bytes text):
        self.change()
        cdef uint32_t entry = self.find(text)
        if entry == NO_TEXT:
            raise KeyError(text)
        texts_drop(&self.c, entry)
        texts_tidy(&self.c)

    cdef int scan(self, CScan *scan) except -1:
        self.change()
        cdef int outcome
        self.scanning = True
        with nogil:
            outcome = scan_lines(&self.c, scan)
        self.scanning = False
        return outcome

    def begin_body(self):
        self.change()
        texts_begin_body(&self.c)

    def follow(self):
        """Remember the text asked for last as the one that came next, if there was any."""
        if self.c.touched != NO_TEXT:
            texts_follow(&self.c, self.c.touched)

    def lines_are_all_met(self):
        return self.c.lines_met == self.c.lines

    def is_met(self, bytes line not None):
        """Whether this body had the metadata line."""
        cdef uint32_t entry = self.find(line)
        return entry != NO_TEXT and self.c.slab[entry].generation == self.c.generation


class _Lines(dict):
    """The metadata lines in force, kept among the texts too so that one met again costs a comparison."""

    def __init__(self, texts):
        self._texts = texts

    def __setitem__(self, bytes line not None, entry):
        cdef Texts texts = self._texts
        super().__setitem__(line, entry)
        texts.add(PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line), LINE)
        texts_meet_line(&texts.c, texts.c.touched)

    def pop(self, line, *default):
        cdef Texts texts = self._texts
        if line in self:
            texts.drop(line)
        return super().pop(line, *default)


cdef class Column:
    """A buffer of numbers, held open while this lives."""

    cdef Py_buffer view
    cdef size_t size

    def __cinit__(self, owner, bytes format not None, int flags):
        PyObject_GetBuffer(owner, &self.view, PyBUF_FORMAT | flags)
        self.size = self.view.len // self.view.itemsize
        if self.view.format[0] != format[0] or self.view.format[1] != 0:
            raise TypeError(f"expected an array of {format.decode()!r}, not of {self.view.format.decode()!r}")

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef str same_or_new(str known, const char *text, size_t size):
    """The text, which may be this one."""
    cdef Py_ssize_t known_size
    cdef const char *known_text = PyUnicode_AsUTF8AndSize(known, &known_size)
    if <size_t>known_size == size and memcmp(known_text, text, size) == 0:
        return known
    return PyUnicode_DecodeUTF8(text, size, NULL)


cdef class Body:
    """One pass over one body; what the twin's `_Scan` is to the twin's methods. `close` it: it holds the buffer."""

    cdef readonly object body
    cdef readonly object parsed
    cdef CScan c
    cdef Py_buffer view
    cdef const char *start
    cdef Py_ssize_t at, counted_to, counted, lines_taken
    cdef Column values, present, stamps
    cdef str name  # of the last series
    cdef tuple labels
    cdef tuple family  # of that name, if it is known; what of Exposed follows the labels
    cdef str bound  # the label that is a number there

    def __cinit__(self, body not None, parsed, *, bint openmetrics, bint honor_timestamps):
        self.body = body if type(body) is bytes else memoryview(body).cast("B")
        self.name, self.labels = "", ()
        self.parsed = parsed
        PyObject_GetBuffer(self.body, &self.view, PyBUF_SIMPLE)
        self.start = <const char *>self.view.buf
        self.c.at = self.start
        self.c.end = self.start + self.view.len
        self.c.openmetrics = openmetrics
        self.c.honor_timestamps = honor_timestamps

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    def close(self):
        """Let go of the buffer; nothing is read afterwards."""
        PyBuffer_Release(&self.view)
        if type(self.body) is memoryview:
            self.body.release()
        self.body = None
        self.start = self.c.at = self.c.end = NULL

    cdef bint cut_end(self):
        """Leave out the line that ends OpenMetrics; whether it was there."""
        cdef const char *end = self.c.end
        if end > self.start and end[-1] == b"\n":
            end -= 1
        if end - self.start < 5 or memcmp(end - 5, b"# EOF", 5) != 0:
            return False
        self.c.end = end - 5
        return self.c.end == self.start or self.c.end[-1] == b"\n"

    cdef int scan(self, Texts texts) except -1:
        """Read on as far as the lines are plain. The columns cannot move meanwhile: their buffers are held."""
        if self.values is None:
            self.hold_columns()
        return texts.scan(&self.c)

    cdef hold_columns(self):
        self.values = Column(self.parsed.values, b"d", PyBUF_WRITABLE)
        self.present = Column(self.parsed.present, b"B", PyBUF_WRITABLE)
        self.c.values = <double *>self.values.view.buf
        self.c.present = <char *>self.present.view.buf
        self.c.slots = min(self.values.size, self.present.size)
        self.c.timestamps_ms = NULL
        if self.parsed.timestamps_ms is not None:
            self.stamps = Column(self.parsed.timestamps_ms, b"q", PyBUF_WRITABLE)
            self.c.timestamps_ms = <int64_t *>self.stamps.view.buf
            self.c.slots = min(self.c.slots, self.stamps.size)

    cdef let_columns_go(self):
        """Somebody else is going to change them."""
        self.values = self.present = self.stamps = None

    cdef grow(self, Py_ssize_t slot):
        """Make the columns reach the slot, and some more that may follow; `_read` cuts them to their length."""
        if slot >= 0 and <size_t>slot >= self.c.slots:
            self.let_columns_go()
            self.parsed.grow(slot + slot // 8)

    cdef bytes text(self, Py_ssize_t start, Py_ssize_t end):
        """The body from `start` to the end of the line, or to `end`."""
        cdef const char *found = <const char *>memchr(self.start + start, c"\n", end - start)
        return PyBytes_FromStringAndSize(self.start + start, (found - self.start if found else end) - start)

    cdef Py_ssize_t count_lines(self, Py_ssize_t start, Py_ssize_t end):
        """How many line ends there are."""
        cdef Py_ssize_t count = 0
        cdef const char *at = self.start + start
        cdef const char *stop = self.start + end
        while at < stop:
            at = <const char *>memchr(at, c"\n", stop - at)
            if at == NULL:
                break
            count += 1
            at += 1
        return count

    def take_line(self):
        """The line at hand, whatever it is."""
        self.at = self.c.at - self.start
        cdef bytes line = self.text(self.at, self.c.end - self.start)
        self.go_on(self.at + len(line))
        self.lines_taken = 1
        return line

    cdef go_on(self, Py_ssize_t line_end):
        self.c.at = min(self.start + line_end + 1, self.c.end)

    def skip_to(self, Py_ssize_t end):
        """Take the further lines of a sample that ends at `end` in the body: a quoted text may hold line ends."""
        further = self.count_lines(self.at, end - 1)
        if further:
            self.lines_taken += further
            self.go_on(end - 1)

    def line(self):
        """The 1-based number of the line last taken; cheap, because it goes on from the last answer."""
        if self.counted_to > self.at:
            self.counted_to = self.counted = 0
        self.counted += self.count_lines(self.counted_to, self.at)
        self.counted_to = self.at
        return self.counted + self.lines_taken

    cdef tuple words(self, SeriesText *series):
        """The labels, which mostly are those of the series before, as its name is. Raises UnicodeDecodeError."""
        cdef tuple known = self.labels, pair
        cdef Py_ssize_t place
        cdef LabelText *label
        cdef list found = []
        for place in range(<Py_ssize_t>series.count):
            label = &series.labels[place]
            pair = known[place] if place < len(known) else ("", "")
            key = same_or_new(pair[0], label.name, label.name_size)
            value = same_or_new(pair[1], label.value, label.value_size)
            found.append(pair if key is pair[0] and value is pair[1] else (key, value))
        self.labels = tuple(found)
        name = same_or_new(self.name, self.c.at, series.name_size)
        if name is not self.name:
            self.name, self.family = name, None
        return self.labels

    def offset(self):
        """Where in the body the line last taken begins."""
        return self.at

    def error(self, why, position=None):
        line = self.text(self.at, self.view.len)
        column = "" if position is None else f", column {position - self.at + 1}"
        return ExpositionError(f"line {self.line()}{column}: {why}: {exposition._shown(line)}")

    def count(self, others):
        """The line taken was a sample, but for `others` of its lines."""
        self.c.samples += self.lines_taken - others


cdef bint decide_plain(parser, Body scan, Texts texts) except -1:
    """Decide the series of the line at hand, if that is a new one in plain words, so that it is known; or not."""
    cdef SeriesText series
    cdef const char *start = scan.c.at
    if not read_plain_line(&scan.c, &series) or texts_find(&texts.c, start, series.end - start) != NO_TEXT:
        return False
    try:
        labels = scan.words(&series)
    except UnicodeDecodeError:
        return False
    if scan.family is None:
        found = parser._metadata.find(scan.name)
        scan.bound = exposition._BOUND_LABEL.get(found.kind)
        scan.family = tuple(found)
        parser._names.add(scan.name)
    if scan.bound is not None:
        labels = exposition._with_bound(labels, scan.bound)
    exposed = tuple.__new__(exposition.Exposed, (scan.name, labels) + scan.family)
    cdef int32_t slot = parser._decide(exposed)
    if slot >= parser._size:
        parser._size = slot + 1
    texts.add(start, series.end - start, -1 if slot < 0 else slot)
    scan.grow(slot)
    return True


class ExpositionParser(exposition.ExpositionParser):
    """The twin with a map in C and a fast path over it."""

    def __init__(self, decide, *, honor_timestamps=True):
        super().__init__(decide, honor_timestamps=honor_timestamps)
        self._slots = Texts()
        self._metadata.lines = _Lines(self._slots)

    def parse(self, body, *, openmetrics):
        if openmetrics is not self._openmetrics:
            self._start_anew(openmetrics=openmetrics)
        parsed = exposition.Parsed(array("d", bytes(8 * self._size)), bytearray(self._size))
        cdef Body scan = Body(
            body, parsed, openmetrics=openmetrics, honor_timestamps=self._honor_timestamps
        )
        try:
            if openmetrics and not scan.cut_end():
                raise ExpositionError(exposition._CUT_SHORT)
            self._metadata.begin()
            self._slots.begin_body()
            self._read(scan)
        finally:
            scan.close()
        self._forget_vanished(parsed.samples)
        return parsed

    def forget(self, slots):
        self._slots.forget(slots if isinstance(slots, (list, tuple, set)) else list(slots))
        # The names only narrow a search, so that a few too many do no harm.
        if len(self._names) > 2 * len(self._slots) + 100:
            self._names = {exposition._name_of(text) for text in self._slots}

    def _start_anew(self, *, openmetrics):
        self._slots = Texts()
        super()._start_anew(openmetrics=openmetrics)
        self._metadata.lines = _Lines(self._slots)

    def _read(self, Body scan):
        cdef Texts texts = self._slots
        cdef int outcome = scan.scan(texts)
        while outcome != DONE:
            if outcome == NEEDS_TIMESTAMPS:
                scan.let_columns_go()
                scan.parsed.timestamps_ms = array("q", bytes(8 * len(scan.parsed.present)))
            elif not decide_plain(self, scan, texts):
                scan.let_columns_go()
                scan.family = None
                self._read_line(scan, texts)
            outcome = scan.scan(texts)
        scan.let_columns_go()
        scan.parsed.cut(self._size)
        scan.parsed.samples = scan.c.samples
        scan.parsed.duplicates += scan.c.duplicates

    def _read_line(self, Body scan, Texts texts):
        """Any line but a plain one, as the twin reads it."""
        texts.c.touched = NO_TEXT
        line = scan.take_line()
        series, _, text = line.rpartition(b" ")
        scan.count(self._read_odd(scan, line, series, text))
        texts.follow()

    def _forget_vanished(self, samples):
        cdef Texts texts = self._slots
        if texts.lines_are_all_met() and len(texts) <= 4 * samples + 1000:
            return  # nothing would change, so nobody needs to look at every line
        for line, entry in self._metadata.lines.items():
            if texts.is_met(line):
                entry.seen = self._metadata.generation
        super()._forget_vanished(samples)


# ---- the template ----


def encode_labels(labels):
    """The Label fields of one TimeSeries, as `remote_write.encode_labels`."""
    cdef LabelText texts[MAX_LABELS]
    cdef size_t count = 0
    labels = labels if type(labels) is tuple else tuple(labels)
    if len(labels) > MAX_LABELS:
        return remote_write.encode_labels(labels)
    for name, value in labels:
        label_text(&texts[count], name, value)
        count += 1
    return encoded(texts, count)


def encode_scraped(str name not None, tuple labels not None, reserved):
    """As `label_sets.encode_scraped`."""
    cdef LabelText texts[MAX_LABELS]
    cdef size_t count = 1
    if len(labels) >= MAX_LABELS:
        return label_sets.encode_scraped(name, labels, reserved)
    label_text(&texts[0], "__name__", name)
    for label, value in labels:
        if not value or label in reserved:
            return None
        label_text(&texts[count], label, value)
        count += 1
    sort_labels(texts, count)
    return encoded(texts, count)


def merge_labels(bytes others not None, bytes own not None):
    """As `label_sets.merge_labels`."""
    cdef Py_ssize_t others_size = PyBytes_GET_SIZE(others), own_size = PyBytes_GET_SIZE(own)
    cdef bytes room = PyBytes_FromStringAndSize(NULL, others_size + own_size)
    cdef char *out = PyBytes_AS_STRING(room)
    cdef char *end = merge(PyBytes_AS_STRING(others), others_size, PyBytes_AS_STRING(own), own_size, out)
    if end == NULL:
        return label_sets.merge_labels(others, own)  # says what is wrong
    return room if end - out == others_size + own_size else room[: end - out]


cdef int label_text(LabelText *text, str name, str value) except -1:
    """Where both are in memory, as long as nobody lets go of them."""
    cdef Py_ssize_t size
    text.name = PyUnicode_AsUTF8AndSize(name, &size)
    text.name_size = size
    text.value = PyUnicode_AsUTF8AndSize(value, &size)
    text.value_size = size
    return 0


cdef bytes encoded(LabelText *texts, size_t count):
    cdef size_t size = 0, place
    for place in range(count):
        size += label_size(&texts[place])
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
    cdef char *at = PyBytes_AS_STRING(out)
    for place in range(count):
        at = put_label(at, &texts[place])
    return out


cdef class LabelSets:
    """As `label_sets.LabelSets`."""

    cdef CLabelSets c

    def __cinit__(self):
        sets_free(&self.c)  # the state of nothing

    def __dealloc__(self):
        sets_free(&self.c)

    def __len__(self):
        return self.c.sets.texts.used - self.c.sets.texts.gone

    def __sizeof__(self):
        arrays = (self.c.uses_size + self.c.members_size) * sizeof(uint32_t)
        return sizeof(CLabelSets) + numbered_bytes(&self.c.sets) + numbered_bytes(&self.c.labels) + arrays

    def find(self, bytes labels not None):
        cdef int64_t slot
        self.check(sets_find(&self.c, PyBytes_AS_STRING(labels), PyBytes_GET_SIZE(labels), &slot), labels)
        return slot

    def get(self, uint32_t slot):
        cdef const Text *found = numbered_get(&self.c.sets, slot)
        if found == NULL:
            return None
        cdef bytes labels = PyBytes_FromStringAndSize(NULL, sets_write(&self.c, found, NULL))
        sets_write(&self.c, found, PyBytes_AS_STRING(labels))
        return labels

    def put(self, uint32_t slot, bytes labels not None):
        if numbered_get(&self.c.sets, slot) != NULL or self.find(labels) >= 0:
            raise ValueError(f"slot {slot} or its labels are taken")
        self.check(sets_put(&self.c, slot, PyBytes_AS_STRING(labels), PyBytes_GET_SIZE(labels)), labels)

    def drop(self, uint32_t slot):
        if numbered_get(&self.c.sets, slot) == NULL:
            raise KeyError(slot)
        self.check(sets_drop(&self.c, slot), b"")

    cdef check(self, int outcome, bytes labels):
        if outcome == SETS_NO_MEMORY:
            raise MemoryError
        if outcome != SETS_DONE:
            raise WireError(f"{labels!r} is not a list of labels with a name and a value each")


cdef class Stream:
    """A compiled lane, as the twin's `_Stream`; the places are counted from the start of `data`."""

    cdef readonly bytes data
    cdef readonly Py_ssize_t raw_bytes
    cdef readonly int width
    cdef uint32_t *holes
    cdef uint32_t *stamps
    cdef size_t hole_count, stamp_count

    def __dealloc__(self):
        free(self.holes)
        free(self.stamps)

    def labels(self):
        """The encoded labels of every series, in order."""
        cdef size_t room_size
        cdef char *raw = take_room(self.raw_bytes + 1, &room_size)
        if raw == NULL:
            raise MemoryError
        try:
            return self.labels_in(raw)
        finally:
            return_room(raw, room_size)

    cdef list labels_in(self, char *raw):
        cdef const char *at = raw
        cdef const char *end = raw + self.raw_bytes
        cdef const char *text
        cdef size_t size
        cdef list found = []
        if not unpack(PyBytes_AS_STRING(self.data), PyBytes_GET_SIZE(self.data), raw, self.raw_bytes):
            raise AssertionError("a compiled lane cannot be read again")
        while at < end:
            at = read_text_field(at, end, 0x0A, &text, &size)
            if at == NULL or size < <size_t>self.width + 12:
                raise AssertionError("a compiled lane is not a list of series")
            found.append(PyBytes_FromStringAndSize(text, size - self.width - 12))
        return found


cdef Stream compile_lane(labels, int width, bint each):
    cdef list encoded = list(labels)  # the lane points into them
    cdef bytes one
    cdef Lane lane
    cdef size_t room = 0
    for one in encoded:
        room += series_room(len(one))
    cdef int outcome = lane_begin(&lane, width, each, room)
    try:
        for one in encoded:
            if outcome == LANE_DONE:
                outcome = lane_add(&lane, PyBytes_AS_STRING(one), PyBytes_GET_SIZE(one))
            if outcome == LANE_NO_LABELS:
                remote_write.split_labels(one)  # says what is wrong
        if outcome == LANE_DONE:
            outcome = lane_finish(&lane)
        if outcome != LANE_DONE:
            raise MemoryError
        return stream_of(&lane, width)
    finally:
        lane_free(&lane)


cdef Stream stream_of(Lane *lane, int width):
    """What the lane has become; takes its places away."""
    cdef Stream stream = Stream.__new__(Stream)
    stream.data = PyBytes_FromStringAndSize(lane.out, lane.out_used)
    stream.raw_bytes = lane.raw_used
    stream.width = width
    stream.holes, stream.hole_count = places_of(&lane.holes), lane.holes.used
    stream.stamps, stream.stamp_count = places_of(&lane.stamps), lane.stamps.used
    return stream


cdef uint32_t *places_of(Places *places):
    """The places, no longer the lane's, in no more memory than they need."""
    cdef uint32_t *items = places.items
    cdef uint32_t *smaller = <uint32_t *>realloc(items, (places.used + 1) * sizeof(uint32_t)) if items else NULL
    places.items = NULL
    return smaller if smaller != NULL else items


cdef array_of(numbers, typecode):
    """An array as it is, any other sequence as one."""
    return numbers if type(numbers) is array and numbers.typecode == typecode else array(typecode, numbers)


cdef class Template:
    """The series of one lane, compressed once; the interface is the twin's."""

    cdef Stream shared, each, filled
    cdef readonly tuple span_ms

    def __init__(self, labels):
        self.span_ms = 0, 0
        self.shared = self.filled = compile_lane(labels, template._USUAL_WIDTH, False)

    def __len__(self):
        return self.shared.hole_count

    @property
    def raw_bytes(self):
        return self.filled.raw_bytes

    @property
    def compressed_bytes(self):
        return len(self.filled.data)

    def labels(self):
        return self.shared.labels()

    def fill(self, values, slots, timestamp_ms):
        cdef uint64_t stamp = timestamp_ms & 0xFFFF_FFFF_FFFF_FFFF
        cdef int width = <int>varint_length(stamp)
        if self.shared.width != width:
            self.shared = compile_lane(self.shared.labels(), width, False)
        cdef Stream stream = self.shared
        self.filled = stream
        cdef bytes filled = copy_of(stream)
        cdef char *out = PyBytes_AS_STRING(filled)
        fill_values(stream, out, values, array_of(slots, "I"))
        cdef size_t place
        for place in range(stream.stamp_count):
            put_varint(out + stream.stamps[place], stamp, width)
        return filled

    def fill_each(self, values, slots, timestamps_ms):
        slots = array_of(slots, "I")
        cdef Column columns = Column(slots, b"I", PyBUF_SIMPLE)
        cdef Column stamps = Column(array_of(timestamps_ms, "q"), b"q", PyBUF_SIMPLE)
        cdef int64_t oldest = 0, newest = 0
        cdef int width = width_of(stamps, columns, &oldest, &newest)
        self.span_ms = oldest, newest
        if self.each is None or self.each.width < width:
            width = max(width, template._USUAL_WIDTH)
            self.each = compile_lane((self.each or self.shared).labels(), width, True)
        cdef Stream stream = self.each
        self.filled = stream
        cdef bytes filled = copy_of(stream)
        cdef char *out = PyBytes_AS_STRING(filled)
        fill_values(stream, out, values, slots)
        cdef uint32_t *slot = <uint32_t *>columns.view.buf
        cdef int64_t *stamp = <int64_t *>stamps.view.buf
        cdef size_t place
        for place in range(stream.hole_count):
            put_varint(out + stream.holes[place] + 9, stamp[slot[place]], stream.width)
        return filled


cdef bytes copy_of(Stream stream):
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(stream.data), PyBytes_GET_SIZE(stream.data))


cdef int fill_values(Stream stream, char *out, values, slots) except -1:
    """Put `values[slots[i]]` into hole `i`."""
    cdef Column numbers = Column(values, b"d", PyBUF_SIMPLE)
    cdef Column columns = Column(slots, b"I", PyBUF_SIMPLE)
    cdef uint32_t *slot = <uint32_t *>columns.view.buf
    cdef size_t place
    if columns.size != stream.hole_count:
        raise ValueError(f"the template has {stream.hole_count} series, but {columns.size} slots were given")
    for place in range(columns.size):
        if slot[place] >= numbers.size:
            raise IndexError(f"slot {slot[place]} is beyond the column of {numbers.size} values")
        memcpy(out + stream.holes[place], <double *>numbers.view.buf + slot[place], 8)
    return 0


cdef int width_of(Column stamps, Column columns, int64_t *oldest, int64_t *newest) except -1:
    """How many bytes the longest of these timestamps takes; and the oldest and newest."""
    cdef uint32_t *slot = <uint32_t *>columns.view.buf
    cdef size_t place
    cdef int64_t stamp
    cdef int width = 0
    for place in range(columns.size):
        if slot[place] >= stamps.size:
            raise IndexError(f"slot {slot[place]} is beyond the column of {stamps.size} timestamps")
        stamp = (<int64_t *>stamps.view.buf)[slot[place]]
        width = max(width, <int>varint_length(stamp))
        oldest[0] = stamp if place == 0 else min(oldest[0], stamp)
        newest[0] = stamp if place == 0 else max(newest[0], stamp)
    return width

# cython: language_level=3, freethreading_compatible=False
"""The compiled kernel: the fast paths of `exposition.py` and `template.py`, which stay the specification.

The work is in plain C beside this file (`_scan.h`, `_texts.h`, `_number.h`, `_lane.h`); here it meets Python: buffers,
errors, and the twin's own methods for every line that is not a plain one. See docs/decisions/0004-kernel.md.
"""

from array import array
from os import urandom

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from trunkline.errors import ExpositionError
from trunkline.wire import exposition, remote_write, template, varint
from trunkline.wire.template import join  # one pass over a few fragments: there is nothing to win

__all__ = ["ExpositionParser", "Template", "encode_labels", "join"]


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
    int texts_compact(CTexts *texts, uint32_t more)
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
        self.add(text, -1 if slot < 0 else slot)

    def __delitem__(self, bytes text not None):
        self.drop(text)

    def clear(self):
        """Drop every series."""
        cdef uint32_t entry
        self.change()
        for entry in range(self.c.used):
            if self.c.slab[entry].slot > GONE:
                texts_drop(&self.c, entry)
        texts_compact(&self.c, 0)

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

    cdef add(self, bytes text, int32_t slot):
        self.change()
        cdef uint32_t entry = self.find(text)
        if entry == NO_TEXT:
            entry = texts_add(&self.c, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), slot)
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

    def __setitem__(self, line, entry):
        cdef Texts texts = self._texts
        super().__setitem__(line, entry)
        texts.add(line, LINE)
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


cdef class Body:
    """One pass over one body; what the twin's `_Scan` is to the twin's methods."""

    cdef readonly bytes body
    cdef readonly object parsed
    cdef CScan c
    cdef const char *start
    cdef Py_ssize_t at, counted_to, counted, lines_taken

    def __cinit__(self, bytes body not None, Py_ssize_t end, parsed, *, bint openmetrics, bint honor_timestamps):
        self.body = body
        self.parsed = parsed
        self.start = PyBytes_AS_STRING(body)
        self.c.at = self.start
        self.c.end = self.start + end
        self.c.openmetrics = openmetrics
        self.c.honor_timestamps = honor_timestamps

    cdef int scan(self, Texts texts) except -1:
        """Read on as far as the lines are plain. The columns cannot move meanwhile: their buffers are held."""
        cdef Column values = Column(self.parsed.values, b"d", PyBUF_WRITABLE)
        cdef Column present = Column(self.parsed.present, b"B", PyBUF_WRITABLE)
        cdef Column stamps = None
        self.c.values = <double *>values.view.buf
        self.c.present = <char *>present.view.buf
        self.c.slots = min(values.size, present.size)
        self.c.timestamps_ms = NULL
        if self.parsed.timestamps_ms is not None:
            stamps = Column(self.parsed.timestamps_ms, b"q", PyBUF_WRITABLE)
            self.c.timestamps_ms = <int64_t *>stamps.view.buf
            self.c.slots = min(self.c.slots, stamps.size)
        return texts.scan(&self.c)

    def take_line(self):
        """The line at hand, whatever it is."""
        self.at = self.c.at - self.start
        end = self.body.find(b"\n", self.at, self.c.end - self.start)
        line = self.body[self.at : self.c.end - self.start if end < 0 else end]
        self.go_on(self.at + len(line))
        self.lines_taken = 1
        return line

    cdef go_on(self, Py_ssize_t line_end):
        self.c.at = min(self.start + line_end + 1, self.c.end)

    def skip_to(self, Py_ssize_t end):
        """Take the further lines of a sample that ends at `end` in the body: a quoted text may hold line ends."""
        further = self.body.count(b"\n", self.at, end - 1)
        if further:
            self.lines_taken += further
            self.go_on(end - 1)

    def line(self):
        """The 1-based number of the line last taken; cheap, because it goes on from the last answer."""
        if self.counted_to > self.at:
            self.counted_to = self.counted = 0
        self.counted += self.body.count(b"\n", self.counted_to, self.at)
        self.counted_to = self.at
        return self.counted + self.lines_taken

    def offset(self):
        """Where in the body the line last taken begins."""
        return self.at

    def error(self, why, position=None):
        line = self.body[self.at :].partition(b"\n")[0]
        column = "" if position is None else f", column {position - self.at + 1}"
        return ExpositionError(f"line {self.line()}{column}: {why}: {exposition._shown(line)}")

    def count(self, others):
        """The line taken was a sample, but for `others` of its lines."""
        self.c.samples += self.lines_taken - others


class ExpositionParser(exposition.ExpositionParser):
    """The twin with a map in C and a fast path over it."""

    def __init__(self, decide, *, honor_timestamps=True):
        super().__init__(decide, honor_timestamps=honor_timestamps)
        self._slots = Texts()
        self._metadata.lines = _Lines(self._slots)

    def parse(self, body, *, openmetrics):
        if openmetrics is not self._openmetrics:
            self._start_anew(openmetrics=openmetrics)
        body = bytes(body)
        parsed = exposition.Parsed(array("d", bytes(8 * self._size)), bytearray(self._size))
        scan = Body(
            body,
            self._end_of(body),
            parsed,
            openmetrics=openmetrics,
            honor_timestamps=self._honor_timestamps,
        )
        self._metadata.begin()
        self._slots.begin_body()
        self._read(scan)
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

    def _end_of(self, body):
        """Where the lines to read end."""
        if not self._openmetrics:
            return len(body)
        end = len(body) - 5 - body.endswith(b"\n")
        if end < 0 or not body.startswith(b"# EOF", end) or (end > 0 and not body.endswith(b"\n", 0, end)):
            self._split(body)  # says what is wrong
        return end

    def _read(self, Body scan):
        cdef Texts texts = self._slots
        cdef int outcome = scan.scan(texts)
        while outcome != DONE:
            if outcome == NEEDS_TIMESTAMPS:
                scan.parsed.timestamps_ms = array("q", bytes(8 * len(scan.parsed.present)))
            else:
                self._read_line(scan, texts)
            outcome = scan.scan(texts)
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


cdef char *put_text(char *at, int tag, const char *text, Py_ssize_t size):
    """A bytes field: its tag, how long it is, and what it says."""
    cdef int width = <int>varint_length(size)
    at[0] = tag
    put_varint(at + 1, size, width)
    memcpy(at + 1 + width, text, size)
    return at + 1 + width + size


def encode_labels(labels):
    """The Label fields of one TimeSeries, as `remote_write.encode_labels`."""
    return b"".join([encode_label(name, value) for name, value in labels])


cdef bytes encode_label(str name, str value):
    cdef Py_ssize_t name_size, value_size
    cdef const char *name_text = PyUnicode_AsUTF8AndSize(name, &name_size)
    cdef const char *value_text = PyUnicode_AsUTF8AndSize(value, &value_size)
    cdef size_t inner = 2 + varint_length(name_size) + name_size + varint_length(value_size) + value_size
    cdef bytes encoded = PyBytes_FromStringAndSize(NULL, 1 + varint_length(inner) + inner)
    cdef char *at = PyBytes_AS_STRING(encoded)
    at[0] = 0x0A
    put_varint(at + 1, inner, <int>varint_length(inner))
    at = put_text(at + 1 + varint_length(inner), 0x0A, name_text, name_size)
    put_text(at, 0x12, value_text, value_size)
    return encoded


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
        cdef bytes raw = PyBytes_FromStringAndSize(NULL, self.raw_bytes)
        if not unpack(PyBytes_AS_STRING(self.data), len(self.data), PyBytes_AS_STRING(raw), self.raw_bytes):
            raise AssertionError("a compiled lane cannot be read again")
        found = []
        position = 0
        while position < len(raw):
            length, start = varint.decode(raw, position + 1)
            position = start + length
            found.append(raw[start : position - self.width - 12])
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
    stream.holes, stream.hole_count = lane.holes.items, lane.holes.used
    stream.stamps, stream.stamp_count = lane.stamps.items, lane.stamps.used
    lane.holes.items = lane.stamps.items = NULL
    return stream


cdef array_of(numbers, typecode):
    """An array as it is, any other sequence as one."""
    return numbers if type(numbers) is array and numbers.typecode == typecode else array(typecode, numbers)


cdef class Template:
    """The series of one lane, compressed once; the interface is the twin's."""

    cdef Stream shared, each, filled

    def __init__(self, labels):
        self.shared = self.filled = compile_lane(labels, template._USUAL_WIDTH, False)

    def __len__(self):
        return self.shared.hole_count

    @property
    def raw_bytes(self):
        return self.filled.raw_bytes

    @property
    def compressed_bytes(self):
        return len(self.filled.data)

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
        cdef int width = width_of(stamps, columns)
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


cdef int width_of(Column stamps, Column columns) except -1:
    """How many bytes the longest of these timestamps takes."""
    cdef uint32_t *slot = <uint32_t *>columns.view.buf
    cdef size_t place
    cdef int width = 0
    for place in range(columns.size):
        if slot[place] >= stamps.size:
            raise IndexError(f"slot {slot[place]} is beyond the column of {stamps.size} timestamps")
        width = max(width, <int>varint_length((<int64_t *>stamps.view.buf)[slot[place]]))
    return width

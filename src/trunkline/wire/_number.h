/* Text to float64, correctly rounded, for the numbers that metrics have; the rest is left to Python.
 *
 * The method is Eisel and Lemire's (D. Lemire, "Number Parsing at a Gigabyte per Second", 2021): the decimal
 * significand times a 128-bit approximation of the power of ten decides the rounding, but for rare cases that are
 * recognised. Where it cannot decide, or beyond 19 digits or 10**±MAX_POWER, NULL says: ask somebody exact.
 */
#ifndef TRUNKLINE_NUMBER_H
#define TRUNKLINE_NUMBER_H

#include "_bytes.h"

#define MAX_POWER 128
#define MAX_DIGITS 19 /* as many always fit 64 bits */

typedef struct {
    uint64_t high, low;
} Power;

/* 5**q for q from -MAX_POWER on, scaled to 128 bits; computed exactly when the module is imported. */
static Power powers[2 * MAX_POWER + 1];

static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static inline double double_of_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static inline int is_digit(char byte) { return (unsigned char)(byte - '0') < 10; }

static inline int are_eight_digits(uint64_t word) {
    return ((word & 0xF0F0F0F0F0F0F0F0u) | (((word + 0x0606060606060606u) & 0xF0F0F0F0F0F0F0F0u) >> 4)) ==
           0x3333333333333333u;
}

/* The value of eight ASCII digits: pairs, then fours, then all, each with one multiplication. */
static inline uint32_t eight_digits(uint64_t word) {
    word -= 0x3030303030303030u;
    word = word * 10 + (word >> 8);
    uint64_t outer = (word & 0x000000FF000000FFu) * 0x000F424000000064u;         /* 100 + (1000000 << 32) */
    uint64_t inner = ((word >> 16) & 0x000000FF000000FFu) * 0x0000271000000001u; /* 1 + (10000 << 32) */
    return (uint32_t)((outer + inner) >> 32);
}

static inline const char *read_digits(const char *at, const char *end, uint64_t *number) {
    while (end - at >= 8 && are_eight_digits(load_8(at))) {
        *number = *number * 100000000 + eight_digits(load_8(at));
        at += 8;
    }
    for (; at < end && is_digit(*at); at++) *number = *number * 10 + (uint64_t)(*at - '0');
    return at;
}

static inline const char *read_exponent(const char *at, const char *end, int64_t *exponent) {
    int negative = at < end && *at == '-';
    if (negative || (at < end && *at == '+')) at++;
    uint64_t number = 0;
    const char *start = at;
    at = read_digits(at, end, &number);
    if (at == start || at - start > 4) return NULL;
    *exponent += negative ? -(int64_t)number : (int64_t)number;
    return at;
}

/* How many digits from the first that is not zero on; the text has digits and at most one point. */
static inline ptrdiff_t significant_digits(const char *at, const char *end) {
    while (at < end && (*at == '0' || *at == '.')) at++;
    return end - at - (memchr(at, '.', (size_t)(end - at)) != NULL);
}

/* number * 10**exponent by Eisel and Lemire; `number` is not 0 and the exponent within ±MAX_POWER, so that the
 * result is neither subnormal nor infinite. Returns 0 where the approximation does not tell. */
static inline int scale(uint64_t number, int64_t exponent, double *value) {
    Power power = powers[exponent + MAX_POWER];
    int zeros = __builtin_clzll(number);
    number <<= zeros;
    uint128 product = (uint128)number * power.high;
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1FF) == 0x1FF) { /* the bits below the result are all ones: the rest of the power may carry */
        uint64_t carry = (uint64_t)(((uint128)number * power.low) >> 64);
        low += carry;
        high += low < carry;
        if (low == UINT64_MAX) return 0;
    }
    int top = (int)(high >> 63), shift = top + 9;
    uint64_t mantissa = high >> shift; /* 54 bits: one more than the result has */
    int64_t binary = ((217706 * exponent) >> 16) + 63 + top - zeros + 1023;
    /* Exactly between two floats only with these powers: then the even one. */
    if (low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1 && mantissa << shift == high)
        mantissa &= ~(uint64_t)1;
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >> 53) {
        mantissa >>= 1;
        binary++;
    }
    *value = double_of_bits((mantissa & (((uint64_t)1 << 52) - 1)) | (uint64_t)binary << 52);
    return 1;
}

static inline int to_double(uint64_t number, int64_t exponent, double *value) {
    if (exponent == 0 || number == 0) {
        *value = (double)number;
        return 1;
    }
    if (number >> 53 == 0 && exponent >= -22 && exponent <= 22) { /* both are exact, so one rounding is right */
        *value = exponent < 0 ? (double)number / exact_powers[-exponent] : (double)number * exact_powers[exponent];
        return 1;
    }
    return exponent >= -MAX_POWER && exponent <= MAX_POWER && scale(number, exponent, value);
}

static inline int is_word(const char *at, const char *end, const char *lower) {
    for (; *lower; at++, lower++)
        if (at == end || (*at | 0x20) != *lower) return 0;
    return 1;
}

/* NaN without a sign, inf and infinity with or without, in any case; every NaN is the one of Prometheus. */
static const char *read_word(const char *at, const char *end, double *value) {
    if (is_word(at, end, "nan")) {
        *value = double_of_bits(0x7FF8000000000001u);
        return at + 3;
    }
    int negative = at < end && *at == '-';
    if (negative || (at < end && *at == '+')) at++;
    if (!is_word(at, end, "inf")) return NULL;
    *value = double_of_bits(negative ? 0xFFF0000000000000u : 0x7FF0000000000000u);
    return at + (is_word(at, end, "infinity") ? 8 : 3);
}

/* Reads a number from `at`, never touching `end`; returns what follows it, or NULL: ask somebody exact. */
static inline const char *read_number(const char *at, const char *end, double *value) {
    const char *text = at;
    int negative = at < end && *at == '-';
    if (negative || (at < end && *at == '+')) at++;
    const char *start = at;
    uint64_t number = 0;
    int64_t exponent = 0;
    at = read_digits(at, end, &number);
    ptrdiff_t digits = at - start;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        at = read_digits(at, end, &number);
        digits += at - fraction;
        exponent = fraction - at;
    }
    if (digits == 0) return at == start ? read_word(text, end, value) : NULL;
    if (digits > MAX_DIGITS && significant_digits(start, at) > MAX_DIGITS) return NULL;
    if (at < end && (*at | 0x20) == 'e' && !(at = read_exponent(at + 1, end, &exponent))) return NULL;
    if (!to_double(number, exponent, value)) return NULL;
    if (negative) *value = -*value;
    return at;
}

#endif

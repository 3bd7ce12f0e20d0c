/* Words out of bytes, and a hash nobody outside can steer: what the other headers share. */
#ifndef TRUNKLINE_BYTES_H
#define TRUNKLINE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel is for 64-bit little-endian machines; all others run the pure-Python twin"
#endif

typedef unsigned __int128 uint128;

static inline uint64_t load_8(const char *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

static inline uint32_t load_4(const char *at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

static inline uint64_t mix(uint64_t left, uint64_t right) {
    uint128 product = (uint128)left * right;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Random for each process, so that no target can make its texts collide on purpose. Both are odd. */
static uint64_t hash_seeds[2] = {0x9E3779B97F4A7C15u, 0xD1B54A32D192ED03u};

static inline uint64_t hash_number(uint64_t number) {
    return mix(number ^ hash_seeds[0], hash_seeds[1]);
}

static inline uint64_t hash_bytes(const char *data, size_t size) {
    uint64_t hash = hash_seeds[0] ^ size, tail = 0;
    if (size >= 8) {
        const char *last = data + size - 8;
        for (; data < last; data += 8) hash = mix(hash ^ load_8(data), hash_seeds[1]);
        tail = load_8(last); /* may overlap the word before it */
    } else {
        memcpy(&tail, data, size);
    }
    return mix(hash ^ tail, hash_seeds[1]);
}

/* The power of two, at least `least` (itself one), that is at least twice `count`. */
static inline size_t index_size_for(size_t count, size_t least) {
    size_t size = least;
    while (size < 2 * count) size *= 2;
    return size;
}

#endif

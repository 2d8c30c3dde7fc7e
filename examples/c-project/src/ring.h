#ifndef RING_H
#define RING_H

#include <stddef.h>

/* A ring buffer of bytes over memory that the caller owns. */
struct ring {
    unsigned char *bytes;
    size_t capacity;
    size_t start;
    size_t length;
};

void ring_init(struct ring *ring, unsigned char *bytes, size_t capacity);

/* Returns how many of `count` bytes found room. */
size_t ring_write(struct ring *ring, const unsigned char *from, size_t count);

/* Returns how many bytes were there to take, at most `count`. */
size_t ring_read(struct ring *ring, unsigned char *to, size_t count);

#endif

#include "ring.h"

void ring_init(struct ring *ring, unsigned char *bytes, size_t capacity)
{
    ring->bytes = bytes;
    ring->capacity = capacity;
    ring->start = 0;
    ring->length = 0;
}

size_t ring_write(struct ring *ring, const unsigned char *from, size_t count)
{
    size_t written = 0;
    while (written < count && ring->length < ring->capacity) {
        ring->bytes[(ring->start + ring->length) % ring->capacity] = from[written];
        ring->length++;
        written++;
    }
    return written;
}

size_t ring_read(struct ring *ring, unsigned char *to, size_t count)
{
    size_t taken = 0;
    while (taken < count && ring->length > 0) {
        to[taken] = ring->bytes[ring->start];
        ring->start = (ring->start + 1) % ring->capacity;
        ring->length--;
        taken++;
    }
    return taken;
}

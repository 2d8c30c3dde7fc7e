#include <stdio.h>
#include <string.h>

#include "ring.h"

static int failures;

static void check(int holds, const char *what)
{
    printf("%s %s\n", holds ? "ok  " : "FAIL", what);
    failures += !holds;
}

int main(void)
{
    unsigned char memory[4];
    unsigned char out[8] = {0};
    struct ring ring;

    ring_init(&ring, memory, sizeof memory);
    check(ring_read(&ring, out, 1) == 0, "an empty ring gives nothing");
    check(ring_write(&ring, (const unsigned char *)"abcdef", 6) == 4, "a full ring takes no more");
    check(ring_read(&ring, out, 2) == 2 && memcmp(out, "ab", 2) == 0, "bytes come out in order");
    check(ring_write(&ring, (const unsigned char *)"xy", 2) == 2, "room is used again");
    check(ring_read(&ring, out, 8) == 4 && memcmp(out, "cdxy", 4) == 0, "order survives the wrap");
    return failures != 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Data of a job server, over a real socket pair: no data makes the reader read beyond it, and the result does
 * not depend on how it is split. The first byte determines where the stream is split.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gman/connection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t hash_packet(uint64_t hash, const struct packet *packet) {
    struct slice parts[4];
    hash = hash * 31 + (uint64_t)packet->type;
    for (size_t count = 1; count <= 4; count++) {
        bool enough = packet_split(packet, parts, count);
        hash = hash * 31 + enough;
        for (size_t i = 0; enough && i < count; i++)
            for (size_t at = 0; at < parts[i].length; at++)
                hash = (hash ^ (unsigned char)parts[i].data[at]) * 0x100000001b3;
    }
    return hash;
}

static bool pending(int fd) {
    int bytes = 0;
    return ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* All packets of the stream, sent in two pieces. */
static uint64_t play(const uint8_t *data, size_t size, size_t cut) {
    int pair[2];
    uint64_t hash = 0;
    struct packet packet;
    enum io_result result = IO_TIMEOUT;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        abort();
    struct connection *connection = connection_wrap(pair[0]);
    if (!connection)
        abort();
    for (int piece = 0; piece < 2; piece++) {
        const uint8_t *start = piece ? data + cut : data;
        size_t length = piece ? size - cut : cut;
        if (length && write(pair[1], start, length) != (ssize_t)length)
            abort();
        /* A call reads one piece of an incomplete packet. */
        while ((result = connection_receive(connection, &packet, 0)) == IO_OK ||
               (result == IO_TIMEOUT && pending(pair[0])))
            if (result == IO_OK)
                hash = hash_packet(hash, &packet);
        if (result != IO_TIMEOUT)
            break;
    }
    close(pair[1]);
    connection_close(connection);
    return hash * 31 + (uint64_t)result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 100000)
        return 0;
    size_t cut = data[0] * (size - 1) / 256;
    if (play(data + 1, size - 1, size - 1) != play(data + 1, size - 1, cut))
        abort();
    return 0;
}

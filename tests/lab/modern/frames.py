"""ClickHouse's own framing of compressed data (`compress=1`, `decompress=1`), with LZ4: 16 bytes of checksum (CityHash128 of what
follows), the method, the size of the frame without the checksum, the size of the data, and the data."""

import struct

import lz4.block
from clickhouse_cityhash.cityhash import CityHash128

LZ4, NONE = 0x82, 0x02
HEADER = 9
CHECKSUM = 16
# As the server's `max_compress_block_size`.
LARGEST = 1 << 20


def checksum(data):
    """As it stands before a frame: two numbers of 64 bits in little endian, in the order in which 18.16 checks them."""
    number = CityHash128(data)
    return struct.pack("<QQ", number >> 64, number & (1 << 64) - 1)


def framed(data):
    """The frames that hold some bytes."""
    for start in range(0, len(data), LARGEST):
        plain = data[start : start + LARGEST]
        packed = lz4.block.compress(plain, store_size=False)
        frame = struct.pack("<BII", LZ4, len(packed) + HEADER, len(plain)) + packed
        yield checksum(frame) + frame


class Unframed:
    """Takes frames in pieces of any size, and gives what they hold."""

    def __init__(self):
        self._held = bytearray()

    @property
    def is_whole(self):
        """Whether no frame is begun."""
        return not self._held

    def take(self, piece):
        """What is complete with these bytes. ValueError where it is no frame, or a damaged one."""
        self._held += piece
        plain = []
        while len(self._held) >= CHECKSUM + HEADER:
            method, size, data_size = struct.unpack_from("<BII", self._held, CHECKSUM)
            if method not in (LZ4, NONE) or size < HEADER:
                raise ValueError("this is no compressed frame")
            if len(self._held) < CHECKSUM + size:
                break
            frame = bytes(self._held[CHECKSUM : CHECKSUM + size])
            if checksum(frame) != self._held[:CHECKSUM]:
                raise ValueError("Checksum doesn't match: corrupted data.")
            del self._held[: CHECKSUM + size]
            packed = frame[HEADER:]
            plain.append(packed if method == NONE else lz4.block.decompress(packed, uncompressed_size=data_size))
        return b"".join(plain)

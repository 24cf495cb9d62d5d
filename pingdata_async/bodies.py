"""Outputs of jobs as they came over the wire, and what is in them (pure)."""

from __future__ import annotations

import io

import msgspec

from pingdata_async.byte_order_mark import without_bom
from pingdata_async.config import MAX_BODY_BYTES
from pingdata_async.exceptions import DecodeError
from pingdata_async.inflating import Inflater

# A usual output is one block; of a bomb, not much more than this is ever made.
INFLATED_AT_ONCE_BYTES = 16 * 1024 * 1024

LIKELY_RATIO = 8  # of outputs, compressed in the usual ways: 6 to 11

_GZIP = frozenset({"gzip", "x-gzip"})
_PLAIN = frozenset({"", "identity"})


class OutputBody(msgspec.Struct, frozen=True):
    """An output as it came: most are compressed, and can be kept on disk like that.

    Attributes:
        wire: Its bytes.
        encoding: Their Content-Encoding, "" where there is none.
        what: The request in a few words, for messages.
        max_bytes: The largest content that is taken.
    """

    wire: bytes
    encoding: str = ""
    what: str = "an output"
    max_bytes: int = MAX_BODY_BYTES

    @property
    def is_gzip(self) -> bool:
        """Whether the bytes are a gzip file."""
        return self.encoding.strip().lower() in _GZIP

    @property
    def likely_bytes(self) -> int:
        """About how much is in it; what gzip says of itself is not believed, if it is less."""
        if self._is_plain:
            return len(self.wire)
        return max(LIKELY_RATIO * len(self.wire), self._said_bytes)

    def at_most(self, max_bytes: int) -> OutputBody:
        """The same, of which no more content is taken."""
        return msgspec.structs.replace(self, max_bytes=min(max_bytes, self.max_bytes))

    @property
    def _said_bytes(self) -> int:
        """What gzip says at its end: the size of what is in it, of its last member."""
        return int.from_bytes(self.wire[-4:], "little") if self.is_gzip else 0

    @property
    def _is_plain(self) -> bool:
        return self.encoding.strip().lower() in _PLAIN

    @property
    def _block_bytes(self) -> int:
        """The size of the block to inflate into: all of it, where gzip says how much that is.

        A block of just that size is memory that the allocator has at hand from the output before;
        one that has to grow is new memory each time, and the system clears each page of it.
        """
        size_bytes = self._said_bytes
        is_likely = len(self.wire) <= size_bytes <= INFLATED_AT_ONCE_BYTES
        return size_bytes if is_likely else INFLATED_AT_ONCE_BYTES

    def content(self) -> bytes:
        """What is in it, without a byte order mark before it.

        Takes a millisecond or so a megabyte: large ones in a thread.

        Raises:
            DecodeError: When it is cut off, damaged, a compression bomb or too large.
        """
        if self._is_plain:
            return without_bom(self.wire)
        inflater = Inflater(self.encoding, self.what, self._block_bytes)
        first = b""
        # Unlike a list, it never holds everything twice; closed, it holds nothing where an error
        # keeps this frame alive. Nor is a block held that has been written.
        with io.BytesIO() as joined:
            for block in inflater.feed(self.wire):
                if inflater.bytes_out > self.max_bytes:
                    raise too_large(self.what, self.max_bytes)
                if not joined.tell() and not first:
                    first = block
                else:
                    joined.write(first)
                    joined.write(block)
                    first = b""
                del block
            inflater.finish()
            return without_bom(joined.getvalue() or first)


def too_large(what: str, max_bytes: int) -> DecodeError:
    """The error for an answer above the limit."""
    return DecodeError(f"{what}: the answer is larger than {max_bytes} bytes", is_too_large=True)

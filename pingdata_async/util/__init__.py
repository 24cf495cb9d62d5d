"""Helpers that know nothing of locations.

compression      Compressed files, read and written as streams; zstd frames
encoding         Bodies in a Content-Encoding, inflated within bounds
files            Files that survive a crash: fsync, atomic writes, unnamed temporary files, locks
loop             The event loop's time, and a thread beside it for CPU-bound work
redaction        Secrets that never show themselves, and texts of others without them
standard_output  Standard output, whose reader may take any time
text             How numbers, bytes, urls and paths are shown in messages
validation       Refuses settings that cannot work, when they are given
"""

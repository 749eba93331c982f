"""Files of one header with the samples behind it: AU (.snd) and NIST SPHERE."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from lingvo_lite.inputs.speech.formats import stream

AU = {b'.snd': '>', b'dns.': '<'}  # {magic: order of bytes}
NIST = b'NIST_1A\n'
_FIELD = rb'^%s -(?:i|s[0-9]+) ([0-9]{1,18})\s*$'  # libsndfile writes a number as a text


def ReadAu(file: BinaryIO) -> stream.Stream:
    """Magic, byte at which the samples begin, their size in bytes, ...; all of 32 bits."""
    order = AU[stream.ReadAt(file, 0, 4)]
    head = stream.ReadAt(file, 4, 8)
    if len(head) < 8:
        raise ValueError('an AU file that is cut short within its header')
    begin, length = struct.unpack(order + 'II', head)
    there = stream.Size(file) - begin
    if not stream.IsUnknown(length):
        stream.CheckCut(there, length)
        return stream.Stream()
    known = struct.pack(order + 'I', min(max(there, 0), (1 << 32) - 1))
    return stream.Stream(patches=((8, known),))


def ReadNist(file: BinaryIO) -> stream.Stream:
    """Lines of text: NIST_1A, the size of the header, and `name -type value` each."""
    size = stream.ReadAt(file, len(NIST), 8).strip()
    begin = int(size) if re.fullmatch(rb'[0-9]{1,7}', size) else 0
    head = stream.ReadAt(file, 0, begin)
    if len(head) < begin or b'end_head' not in head:
        raise ValueError('a NIST SPHERE file that is cut short within its header')
    found = [
        re.search(_FIELD % name, head, re.MULTILINE)
        for name in (b'sample_count', b'channel_count', b'sample_n_bytes')
    ]
    if all(found):
        count, channels, width = (int(match[1]) for match in found if match)
        stream.CheckCut(stream.Size(file) - begin, count * channels * width)
    return stream.Stream()

"""What kind of audio file it is, told by its content, not by its name; what it holds; is it whole?

libsndfile says rate, channels and number of samples. It takes part of a file for the whole, so
`formats/` looks where a file ends.
"""

from __future__ import annotations

import dataclasses
import io
import re
from typing import BinaryIO, Callable, Optional

from lingvo_lite.inputs.speech import libsndfile
from lingvo_lite.inputs.speech.formats import chunks, flac, mp3, ogg, single_header, stream

FLAC = 'flac'
READ = 'FLAC, WAV, MP3, AIFF, AU, CAF, NIST SPHERE, Ogg Vorbis and Ogg Opus'
ENDINGS = (
    *('.flac', '.wav', '.mp3', '.aif', '.aiff', '.aifc', '.au', '.snd', '.caf', '.sph', '.nist'),
    *('.ogg', '.oga', '.opus', '.rf64'),
)
_HEAD = 1 << 16  # bytes by which a kind is told
_LOWEST, _HIGHEST = 1000, 1_000_000  # hertz: anything else is a damaged header
_GZIP = b'\x1f\x8b'
_CONTROL = re.compile(rb'[\x00-\x08\x0e-\x1a\x1c-\x1f]')
_Check = Callable[[BinaryIO], stream.Stream]
_CHECKS: dict[bytes, _Check] = {
    **dict.fromkeys(chunks.KINDS, chunks.Read),
    **dict.fromkeys(single_header.AU, single_header.ReadAu),
    single_header.NIST: single_header.ReadNist,
    flac.MAGIC: flac.Read,
    ogg.MAGIC: ogg.Read,
}
# (byte, what stands there, what the file is), of what people try.
_OTHERS = (
    (4, b'ftyp', 'M4A or MP4'),
    (0, b'\x1aE\xdf\xa3', 'Matroska or WebM'),
    (0, b'0&\xb2u\x8ef\xcf\x11', 'WMA'),
    (0, b'\xff\xf1', 'AAC'),
    (0, b'\xff\xf9', 'AAC'),
    (0, b'#!AMR', 'AMR'),
    (0, b'wvpk', 'WavPack'),
    (0, b'MAC ', "Monkey's Audio"),
    (0, b'\x0bw', 'AC-3'),
    (0, b'riff', 'Wave64'),
)


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
      info: what libsndfile says.
      stream: what of the file a decoder is given.
    """

    info: libsndfile.Info
    stream: stream.Stream

    @property
    def format(self) -> str:
        """'flac', 'wav', 'mp3', 'aiff', ...: libsndfile's name in lower case."""
        return self.info.format.lower()

    @property
    def rate(self) -> int:
        """Samples a second of each channel."""
        return self.info.rate

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.info.channels

    @property
    def num_samples(self) -> int:
        """Of each channel."""
        own = self.stream.num_samples
        return self.info.num_samples if own is None else own

    @property
    def bits(self) -> int:
        """Of a sample that is an integer; 0 of others."""
        return libsndfile.BITS.get(self.info.coding, 0)


def Read(file: BinaryIO) -> Header:
    """Reads of an audio file what has to be read to know what it holds and that it is not cut.

    Raises:
      ValueError: if it is empty, cut short, or none of those that are read. The message is the
        reason.
    """
    if not stream.Size(file):
        raise ValueError('the file is empty (0 bytes)')
    check = _Find(file)
    if check is None:
        raise ValueError(_Refusal(stream.ReadAt(file, 0, _HEAD)))
    found = check(file)
    plain = file if found.is_whole else io.BytesIO(found.Of(stream.ReadAt(file, 0)))
    header = Header(libsndfile.Read(plain), found)
    if not _LOWEST <= header.rate <= _HIGHEST:
        raise ValueError(
            f'its header says {header.rate:,} Hz; {_LOWEST:,} to {_HIGHEST:,} are read'
        )
    if not header.num_samples:
        raise ValueError('it holds no samples')
    return header


def IsText(path: str) -> bool:
    """Whether a file is text, by its first bytes: a list of paths, say. A .gz file counts too."""
    with open(path, 'rb') as file:
        head = stream.ReadAt(file, 0, _HEAD)
        return _Find(file) is None and (_IsText(head) or head[:2] == _GZIP)


def _Find(file: BinaryIO) -> Optional[_Check]:
    """What looks at files of this kind; None for a kind that is not read."""
    head = stream.ReadAt(file, 0, _HEAD)
    for magic, check in _CHECKS.items():
        if head.startswith(magic):
            return check
    behind = mp3.BehindId3(head)
    if behind and stream.ReadAt(file, behind, 4) == flac.MAGIC:
        return lambda file: flac.Read(file, behind)
    return mp3.Read if mp3.Begins(head) else None


def _IsText(head: bytes) -> bool:
    return bool(head) and not _CONTROL.search(head)


def _Refusal(head: bytes) -> str:
    """Why a file is not read, by its first bytes."""
    for at, magic, name in _OTHERS:
        if head.startswith(magic, at):
            return f"{name} is not read; 'ffmpeg -i FILE FILE.flac' converts it"
    begins = f'it begins with {head[:12]!r}'
    if _IsText(head):
        return f'it is text, no audio: {begins}'
    return f'no audio file that is known: {begins}; {READ} are read'

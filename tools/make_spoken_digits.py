"""Makes the data of asr.SpokenDigits: strings of spoken digits, said by espeak-ng.

    apt-get install espeak-ng flac
    python -m lingvo_lite.tools.make_spoken_digits --out tasks/asr/spoken_digits

Strings of 1 to 7 digits ('three one four'), each said by a voice (an accent and a speaker), at a
speed, a pitch and a gap between words that are drawn with a fixed seed; so the same versions of
espeak-ng and flac write the same files. No speaker is in two of the three sets.
Pauses at both ends are cut. 8 kHz mono; the lower bits of the 16 are zero, which makes FLAC small:

    train.tsv, dev.tsv, test.tsv    manifests (inputs/speech/manifests.py), with the column `voice`
    train/0000.flac, test/...       the audio; that of dev lies in train, with which it was drawn
    SOURCE.txt                   how it was made
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fractions
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from lingvo_lite.inputs.speech import audio, manifests

DIGITS = 'zero one two three four five six seven eight nine'.split()
MOST_DIGITS = 7
RATE = 8000
_ACCENTS = ('en-us', 'en-gb', 'en-gb-scotland', 'en-gb-x-rp', 'en-gb-x-gbclan', 'en-029')
SPEAKERS = {
    'train': ('m1', 'm2', 'm3', 'm4', 'm6', 'm7', 'f1', 'f2', 'f4', 'f5', 'Annie', 'Alex'),
    'test': ('m5', 'm8', 'f3', 'linda'),
}
DEV_SPEAKERS = ('m7', 'f5')  # of those of train, kept out of it
_COUNTS = {'train': 1180, 'test': 260}
_SEEDS = {'train': 1, 'test': 2}
_WORDS_A_MINUTE = (190, 300)
_PITCH = (25, 75)  # of 0 to 99; 50 is the speaker's own
_GAP = (0, 3)  # between words, in units of 10 ms at the default speed
_BITS = 8  # that are kept of 16
_PEAK = 0.95
_SILENT = 0.02  # of the peak
_MARGIN_S = 0.03  # that is left before the first and behind the last sound
_MOST_BYTES = 6_000_000


Row = tuple[str, str, int, int, str, str]  # id, file, samples, sample_rate, voice, transcript


class Saying(NamedTuple):
    """What is said, and how.

    Attributes:
      digits: the words.
      voice: of espeak-ng.
      speed, pitch, gap: its options -s, -p and -g.
    """

    digits: Sequence[str]
    voice: str
    speed: int
    pitch: int
    gap: int


def Draw(split: str, count: int) -> list[Saying]:
    """The sayings of a split. Every length, digit, accent and speaker is about equally frequent."""
    draw = np.random.RandomState(_SEEDS[split])  # its numbers are the same in all versions of NumPy

    def _Between(limits: tuple[int, int]) -> int:
        return int(draw.randint(limits[0], limits[1] + 1))

    speakers = SPEAKERS[split]
    sayings = []
    for i in range(count):
        voice = f'{_ACCENTS[i % len(_ACCENTS)]}+{speakers[draw.randint(len(speakers))]}'
        digits = [DIGITS[d] for d in draw.randint(len(DIGITS), size=1 + i % MOST_DIGITS)]
        sayings.append(
            Saying(digits, voice, _Between(_WORDS_A_MINUTE), _Between(_PITCH), _Between(_GAP))
        )
    return sayings


def Divide(split: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each manifest: those of train without DEV_SPEAKERS, and dev; or all of test."""
    if split == 'test':
        return {split: list(rows)}
    divided: dict[str, list[Row]] = {split: [], 'dev': []}
    for row in rows:
        divided['dev' if row[4].split('+')[1] in DEV_SPEAKERS else split].append(row)
    return divided


def Trim(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Cuts silence at both ends and brings the peak to a fixed level. [samples] -> [samples].

    Raises:
      ValueError: if all of it is silent.
    """
    peak = np.abs(waveform).max(initial=0.0)
    if not peak:
        raise ValueError('espeak-ng said nothing')
    loud = np.flatnonzero(np.abs(waveform) > _SILENT * peak)
    margin = int(_MARGIN_S * rate)
    return waveform[max(0, loud[0] - margin) : loud[-1] + margin] * (_PEAK / peak)


def Quantize(waveform: np.ndarray) -> np.ndarray:
    """[samples] in [-1, 1] to int16 whose lower bits are zero."""
    levels = 1 << _BITS - 1  # on each side of zero
    return (np.clip(np.round(waveform * levels), -levels, levels - 1) * (32768 // levels)).astype(
        np.int16
    )


def Make(out: str, counts: Optional[dict[str, int]] = None) -> str:
    """Writes everything into `out`, replacing what the tool wrote there before.

    Returns:
      A line on each split.

    Raises:
      FileNotFoundError: if espeak-ng or flac is not installed.
      ValueError: if it would be more than 6 MB.
    """
    for command in ('espeak-ng', 'flac'):
        if not shutil.which(command):
            raise FileNotFoundError(f'{command} is not installed: apt-get install espeak-ng flac')
    os.makedirs(out, exist_ok=True)
    said = []
    total = 0
    with tempfile.TemporaryDirectory(dir=out) as work:
        for split, count in (counts or _COUNTS).items():
            lengths = _MakeSplit(work, split, Draw(split, count))
            size = _Size(work) - total
            total += size
            said.append(
                f'{split}: {count:,} strings, {sum(lengths) / RATE / 60:.1f} minutes, '
                f'{size:,} bytes'
            )
        with open(os.path.join(work, 'SOURCE.txt'), 'w', encoding='utf-8') as file:
            file.write(_Source(said))
        if _Size(work) > _MOST_BYTES:
            raise ValueError(f'{_Size(work):,} bytes are more than {_MOST_BYTES:,}: make fewer.')
        for name in os.listdir(work):
            old = os.path.join(out, name)
            if os.path.isdir(old):
                shutil.rmtree(old)
            os.replace(os.path.join(work, name), old)
    return '\n'.join(said)


def _MakeSplit(out: str, split: str, sayings: Sequence[Saying]) -> list[int]:
    """Writes the files and the manifest of a split; returns the numbers of samples."""
    os.mkdir(os.path.join(out, split))
    files = [f'{split}/{i:04d}.flac' for i in range(len(sayings))]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        lengths = list(pool.map(_Say, sayings, (os.path.join(out, file) for file in files)))
    columns = ('id', 'file', 'samples', 'sample_rate', 'voice', 'transcript')
    rows = [
        (f'{split}-{i:04d}', file, length, RATE, saying.voice, ' '.join(saying.digits))
        for i, (file, length, saying) in enumerate(zip(files, lengths, sayings))
    ]
    for name, own in Divide(split, rows).items():
        manifests.Write(os.path.join(out, f'{name}.tsv'), own, columns)
    return lengths


def _Say(saying: Saying, path: str) -> int:
    """Writes one FLAC file and returns its number of samples."""
    wav = path + '.wav'
    options = ['-v', saying.voice, '-s', saying.speed, '-p', saying.pitch, '-g', saying.gap]
    command = ['espeak-ng', *map(str, options), '-w', wav, ' '.join(saying.digits)]
    subprocess.run(command, check=True)
    try:
        with open(wav, 'rb') as file:
            own_rate, waveform = audio.Decode(file.read(), ' '.join(command))
    finally:
        os.unlink(wav)
    waveform = audio.Convert(waveform, fractions.Fraction(RATE, own_rate))
    samples = Quantize(Trim(waveform, RATE))
    form = ['--endian=little', '--sign=signed', '--channels=1', '--bps=16', f'--sample-rate={RATE}']
    subprocess.run(
        ['flac', '-s', '-8', '-e', '--no-padding', '--no-seektable', *form, '-o', path, '-'],
        input=samples.astype('<i2').tobytes(),
        check=True,
    )
    return len(samples)


def _Size(folder: str) -> int:
    return sum(
        os.path.getsize(os.path.join(parent, name))
        for parent, _, names in os.walk(folder)
        for name in names
    )


def _Source(said: Sequence[str]) -> str:
    versions = [
        subprocess.run([name, '--version'], capture_output=True, text=True, check=True).stdout
        for name in ('espeak-ng', 'flac')
    ]
    made = ', '.join(version.split('Data')[0].strip() for version in versions)
    return (
        'Spoken digits, made by tools/make_spoken_digits.py; no recording of a person.\n'
        f'{made}.\n'
        f'{RATE} Hz mono, {_BITS} bits. Speakers of train: {" ".join(SPEAKERS["train"])}, of which '
        f'{" ".join(DEV_SPEAKERS)} are dev; of test: {" ".join(SPEAKERS["test"])}.\n'
        + '\n'.join(said)
        + '\n'
    )


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """The command; returns the exit code: 2 for a mistake, told in one line."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # before TensorFlow is imported
    parser = argparse.ArgumentParser(
        prog='make_spoken_digits',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('--out', metavar='DIR', required=True, help='tasks/asr/spoken_digits')
    try:
        print(Make(parser.parse_args(argv).out))
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f'make_spoken_digits: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(Main())

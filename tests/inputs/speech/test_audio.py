"""Audio files: what is read and what is refused, by tensorflow-io and by libsndfile alone.

The MP3 files of mp3/ are sines of 440 Hz at -6 dB, encoded by ffmpeg; nothing here encodes MP3.
"""

import concurrent.futures
import fractions
import hashlib
import io
import os
import struct
import sys
import types
import wave

import numpy as np
import pytest

from lingvo_lite.inputs import source
from lingvo_lite.inputs.speech import audio, audio_headers, resampling, tfio_flac
from lingvo_lite.inputs.speech.formats import flac, mp3

MP3 = os.path.join(os.path.dirname(__file__), 'mp3')
pytestmark = pytest.mark.usefixtures('audio_decoder')
BITS = {8: np.uint8, 16: np.int16, 32: np.int32}


def Sine(hertz, rate, seconds, level=0.5):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def Wav(samples, rate, bits=16, tag=1, extra=b''):
    """A WAV file of [samples, channels], written without the code under test."""
    if bits == 24:
        body = (samples.astype('<i4') << 8).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    else:
        body = samples.tobytes()
    frame = samples.shape[1] * bits // 8
    form = struct.pack('<HHIIHH', tag, samples.shape[1], rate, rate * frame, frame, bits)
    chunks = b'WAVEfmt ' + struct.pack('<I', 16) + form + extra
    chunks += b'data' + struct.pack('<I', len(body)) + body
    return b'RIFF' + struct.pack('<I', len(chunks)) + chunks


def Refused(data, reason, **kwargs):
    with pytest.raises(source.BadRecordError, match=f'^some.audio: .*{reason}'):
        audio.Decode(data, 'some.audio', **kwargs)


@pytest.mark.parametrize('bits', [8, 16, 24, 32])
@pytest.mark.parametrize('channels', [1, 2])
def test_wav_of_integers(bits, channels):
    wide = Sine(440, 8000, 0.1)[:, None] * np.array([1.0, -0.5])[:channels]
    scale = 2 ** (bits - 1)
    whole = np.round(wide * scale).astype(np.int64)
    stored = (whole + 128 if bits == 8 else whole).astype(BITS.get(bits, np.int32))
    rate, waveform = audio.Decode(Wav(stored, 8000, bits), 'x')
    assert rate == 8000 and waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, (whole / scale).mean(axis=1), atol=1e-7)


def test_wav_of_floats_is_cut_at_full_scale():
    samples = np.array([[0.25], [-1.0], [1.5], [-3.0]], np.float32)
    _, waveform = audio.Decode(Wav(samples, 8000, 32, tag=3), 'x')
    np.testing.assert_array_equal(waveform, [0.25, -1, 1, -1])
    samples[1] = np.nan
    Refused(Wav(samples, 8000, 32, tag=3), 'not finite')


def test_wav_as_the_standard_library_writes_it():
    samples = np.arange(-50, 50, dtype=np.int16) * 300
    file = io.BytesIO()
    with wave.open(file, 'wb') as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(22050)
        writer.writeframes(samples.tobytes())
    rate, waveform = audio.Decode(file.getvalue(), 'x', num_samples=100)
    assert rate == 22050
    np.testing.assert_array_equal(waveform, samples.astype(np.float32) / 32768)
    assert audio.EncodeWav(samples, 22050) == file.getvalue()


def test_wav_with_other_chunks_or_from_a_pipe():
    samples = np.arange(100, dtype=np.int16)[:, None]
    odd = Wav(samples, 8000, extra=b'LIST' + struct.pack('<I', 3) + b'abc\0')
    piped = bytearray(Wav(samples, 8000))
    piped[4:8] = piped[40:44] = b'\xff' * 4
    for data in (odd, bytes(piped)):
        np.testing.assert_array_equal(audio.Decode(data, 'x')[1] * 32768, samples[:, 0])


@pytest.mark.parametrize('stored', ['float', 'int16'])
def test_flac_there_and_back(stored):
    waveform = Sine(300, 16000, 0.3, 0.9).astype(np.float32)
    if stored == 'int16':
        waveform = np.round(waveform * 32767).astype(np.int16)
    rate, back = audio.Decode(audio.EncodeFlac(waveform, 16000), 'x')
    assert rate == 16000 and len(back) == 4800
    wanted = waveform / 32768 if stored == 'int16' else waveform
    np.testing.assert_allclose(back, wanted, atol=0 if stored == 'int16' else 1e-4)


def test_flac_header_tells_what_its_samples_are():
    samples = np.round(Sine(300, 8000, 0.2) * 32767).astype(np.int16)
    header = audio_headers.Read(io.BytesIO(audio.EncodeFlac(samples, 8000)))
    assert (header.format, header.rate, header.channels) == ('flac', 8000, 1)
    assert (header.bits, header.num_samples) == (16, 1600)
    assert header.stream.md5 == hashlib.md5(samples.tobytes()).digest()


@pytest.mark.parametrize(
    ('name', 'rate', 'samples'),
    [
        ('xing_8k_mono.mp3', 8000, 4000),
        ('vbr_44k_stereo.mp3', 44100, 13230),
        ('plain_8k_mono.mp3', 8000, None),
    ],
)
def test_mp3(name, rate, samples):
    path = os.path.join(MP3, name)
    header = audio.ReadHeader(path)
    found = audio.ReadFile(path, rate)
    assert header.rate == rate and header.num_samples == len(found)
    assert samples is None or len(found) == samples
    middle = found[len(found) // 4 : -len(found) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(np.argmax(spectrum) * rate / len(middle) - 440) < rate / len(middle)
    assert 0.3 < np.abs(middle).max() < 0.7


@pytest.mark.parametrize('name', sorted(os.listdir(MP3)))
@pytest.mark.parametrize('share', [0.3, 0.5, 0.99])
def test_part_of_an_mp3_is_refused(name, share):
    with open(os.path.join(MP3, name), 'rb') as file:
        data = file.read()
    Refused(data[: int(len(data) * share)], 'cut short')


def test_an_mp3_that_ends_between_frames_is_refused():
    with open(os.path.join(MP3, 'xing_8k_mono.mp3'), 'rb') as file:
        data = file.read()
    size = mp3.FrameAt(data, mp3.BehindId3(data)).size
    assert size and not len(data) % size  # constant bit rate: all frames are of one size
    Refused(data[:-size], 'cut short: its header says')
    with open(os.path.join(MP3, 'plain_8k_mono.mp3'), 'rb') as file:
        plain = file.read()
    whole = audio_headers.Read(io.BytesIO(plain)).num_samples
    Refused(plain[:-size], f'its index says {whole:,}', num_samples=whole)  # it says nothing itself


@pytest.mark.parametrize('kind', ['flac', 'wav'])
@pytest.mark.parametrize('left', [1, 10, 30, 200, 0.5, -1])
def test_part_of_a_file_is_refused(kind, left):
    samples = (Sine(300, 8000, 0.5) * 32767).astype(np.int16)
    data = audio.EncodeFlac(samples, 8000) if kind == 'flac' else audio.EncodeWav(samples, 8000)
    left = int(len(data) * left) if isinstance(left, float) else left
    Refused(data[:left], 'cut short|begins with')


def test_a_flipped_byte_in_a_flac_is_noticed():
    noise = np.random.RandomState(0).randint(-9999, 9999, 8000).astype(np.int16)
    data = bytearray(audio.EncodeFlac(noise, 8000))
    data[len(data) // 2] ^= 0x10
    Refused(bytes(data), 'damaged')


def Unsigned(data):
    """A FLAC file without the MD5 of its samples, as encoders leave it that write to a pipe."""
    return data[:26] + bytes(16) + data[42:]


@pytest.mark.parametrize('kind', ['noise', 'sine', 'silence'])
def test_a_flac_without_md5_is_cut_or_whole_by_its_last_frame(kind):
    samples = {
        'noise': np.random.RandomState(0).randint(-32768, 32767, 40_000).astype(np.int16),
        'sine': np.round(Sine(300, 8000, 5) * 32767).astype(np.int16),
        'silence': np.zeros(40_000, np.int16),
    }[kind]
    data = Unsigned(audio.EncodeFlac(samples, 8000))
    np.testing.assert_array_equal(audio.Decode(data, 'x')[1] * 32768, samples)
    for lost in (1, 2, 3, 7, 100):
        Refused(data[:-lost], 'cut short or damaged', num_samples=40_000)
    Refused(data + b'\1', 'does not end with a whole FLAC frame')


class Counting(list):
    """A table that counts how often it is looked into."""

    looks = 0

    def __getitem__(self, index):
        self.looks += 1
        return super().__getitem__(index)


@pytest.mark.parametrize('body', ['frames', 'begins'])
def test_the_end_of_a_long_flac_that_is_cut_is_looked_at_once(monkeypatch, body):
    """Not once for each place where a frame may begin."""
    noise = np.random.RandomState(0).randint(-9999, 9999, 40_000).astype(np.int16)
    data = Unsigned(audio.EncodeFlac(noise, 8000))
    if body == 'frames':
        frames = data[data.index(b'\xff\xf8') :]
        long = data + frames * (4_000_000 // len(frames)) + frames[:-9]
    else:
        long = data + b'\xff\xf8' * 2_000_000
    table = Counting(flac._BACK)
    monkeypatch.setattr(flac, '_BACK', table)
    Refused(long, 'does not end with a whole FLAC frame')
    assert 1000 < table.looks <= 1 << 16


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', r'the file is empty \(0 bytes\)'),
        (b'hello, this is text', 'it is text, no audio: it begins with'),
        (
            b'\0\1\2\3' * 9,
            'no audio file that is known: it begins with.*FLAC, WAV, MP3, .* are read',
        ),
        (Wav(np.zeros([0, 1], np.int16), 8000), 'holds no samples'),
        (Wav(np.zeros([4, 1], np.uint8), 8000, 8, tag=77), 'libsndfile: '),
        (Wav(np.zeros([4, 1], np.int16), 0), 'libsndfile: '),
        (
            Wav(np.zeros([4, 1], np.int16), 500),
            'its header says 500 Hz; 1,000 to 1,000,000 are read',
        ),
    ],
)
def test_what_is_no_audio_is_refused(data, reason):
    Refused(data, reason)


def test_another_number_of_samples_than_the_index_says():
    Refused(audio.EncodeFlac(np.zeros(90, np.int16), 8000), '90 .* says 100', num_samples=100)


def test_files_are_named(tmp_path):
    missing, empty = tmp_path / 'none.flac', tmp_path / 'empty.wav'
    empty.write_bytes(b'')
    for function in (audio.ReadHeader, lambda path: audio.ReadFile(path, 8000)):
        with pytest.raises(source.BadRecordError, match='none.flac: No such file'):
            function(str(missing))
        with pytest.raises(source.BadRecordError, match='empty.wav: the file is empty'):
            function(str(empty))


def test_a_header_is_read_without_the_rest(tmp_path):
    path = tmp_path / 'long.wav'
    path.write_bytes(audio.EncodeWav(np.zeros(100_000, np.int16), 8000))
    assert audio.ReadHeader(str(path)).num_samples == 100_000
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(source.BadRecordError, match='long.wav: cut short'):
        audio.ReadHeader(str(path))


def test_what_does_not_load_is_named(monkeypatch):
    """libsndfile is needed; without tensorflow-io it does all of the work."""
    monkeypatch.setitem(sys.modules, 'soundfile', None)
    with pytest.raises(audio.NativePartError, match='soundfile, which decodes.*pip install'):
        audio.CheckNative()


def test_a_tensorflow_io_that_does_not_load_is_not_asked(monkeypatch):
    class Broken(types.ModuleType):
        @property
        def audio(self):
            raise NotImplementedError('unable to open file: libtensorflow_io.so: undefined symbol')

    flac_file = audio.EncodeFlac(np.arange(90, dtype=np.int16), 8000)
    monkeypatch.setitem(sys.modules, 'tensorflow_io', Broken('tensorflow_io'))
    tfio_flac._Library.cache_clear()
    try:
        audio.CheckNative()
        assert tfio_flac._Library() is None
        np.testing.assert_array_equal(audio.Decode(flac_file, 'x')[1] * 32768, np.arange(90))
    finally:
        tfio_flac._Library.cache_clear()


def test_threads_decode_at_the_same_time():
    files = [
        audio.EncodeFlac((Sine(100 + 9 * i, 8000, 0.2) * 32767).astype(np.int16), 8000)
        for i in range(30)
    ]
    alone = [audio.Decode(data, 'x')[1] for data in files]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: audio.Decode(data, 'x')[1], files))
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one, other)


def test_read_file_changes_rate_and_stays_within_full_scale(tmp_path):
    square = np.where(np.arange(800) // 20 % 2, 32767, -32768).astype(np.int16)
    path = tmp_path / 'square.flac'
    path.write_bytes(audio.EncodeFlac(square, 8000))
    found = audio.ReadFile(str(path), 16000)
    assert len(found) == 1600
    assert np.abs(resampling.Resample(square / np.float32(32768), fractions.Fraction(2))).max() > 1
    assert np.abs(found).max() == 1

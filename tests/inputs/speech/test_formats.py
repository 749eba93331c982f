"""Audio as it comes: every format against libsndfile, whole, from pipes, with junk, and cut.

All files are made here, by soundfile and struct.
"""

import io
import struct

import numpy as np
import pytest
import soundfile

from lingvo_lite.inputs import source
from lingvo_lite.inputs.speech import audio
from lingvo_lite.inputs.speech.formats import mp3

RATE = 16000
STEP, FLOAT = 2.0**-15, 2e-5
FORMATS = [
    ('WAV', 'PCM_U8'),
    ('WAV', 'PCM_16'),
    ('WAV', 'PCM_24'),
    ('WAV', 'PCM_32'),
    ('WAV', 'FLOAT'),
    ('WAV', 'DOUBLE'),
    ('WAV', 'ULAW'),
    ('WAV', 'ALAW'),
    ('WAV', 'MS_ADPCM'),
    ('WAVEX', 'PCM_16'),
    ('RF64', 'PCM_16'),
    ('RF64', 'PCM_24'),
    ('AIFF', 'PCM_16'),
    ('AIFF', 'PCM_24'),
    ('AIFF', 'FLOAT'),
    ('AU', 'PCM_16'),
    ('AU', 'ULAW'),
    ('AU', 'FLOAT'),
    ('NIST', 'PCM_16'),
    ('NIST', 'ULAW'),
    ('CAF', 'PCM_16'),
    ('CAF', 'ALAC_16'),
    ('CAF', 'FLOAT'),
    ('OGG', 'VORBIS'),
    ('OGG', 'OPUS'),
    ('MP3', 'MPEG_LAYER_III'),
]
FLAC = [('FLAC', 'PCM_S8'), ('FLAC', 'PCM_16'), ('FLAC', 'PCM_24')]
PIPED = [0, 0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]


def Sound(channels=1, seconds=1.0, rate=RATE):
    """[samples, channels]: something with a spectrum, within half of full scale."""
    noise = np.random.RandomState(0).uniform(-0.1, 0.1, [round(rate * seconds), channels])
    times = np.arange(len(noise))[:, None] / rate
    return noise + 0.4 * np.sin(2 * np.pi * 440 * times * np.arange(1, channels + 1))


def Made(kind, coding, channels=1, endian='FILE', **kwargs):
    file = io.BytesIO()
    sound = Sound(channels, **kwargs)
    rate = kwargs.get('rate', RATE)
    soundfile.write(file, sound, rate, format=kind, subtype=coding, endian=endian)
    return file.getvalue()


def Oracle(data):
    return soundfile.read(io.BytesIO(data), dtype='float32', always_2d=True)[0].mean(axis=1)


def Same(data, whole, atol=FLOAT):
    """`data` decodes to what libsndfile decodes `whole` to."""
    rate, waveform = audio.Decode(data, 'x')
    assert rate == soundfile.info(io.BytesIO(whole)).samplerate
    wanted = Oracle(whole)
    assert waveform.dtype == np.float32 and len(waveform) == len(wanted)
    np.testing.assert_allclose(waveform, wanted, atol=atol, rtol=0)


def Refused(data, reason):
    with pytest.raises(source.BadRecordError, match=f'^some.audio: .*{reason}') as raised:
        audio.Decode(data, 'some.audio')
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(('kind', 'coding'), FORMATS)
@pytest.mark.parametrize('channels', [1, 2])
def test_all_formats_but_flac(tmp_path, kind, coding, channels):
    Known(tmp_path, kind, coding, channels)


@pytest.mark.parametrize(('kind', 'coding'), FLAC)
@pytest.mark.parametrize('channels', [1, 2])
def test_flac(audio_decoder, tmp_path, kind, coding, channels):
    Known(tmp_path, kind, coding, channels)


def Known(tmp_path, kind, coding, channels):
    """A whole file has the samples and the header that libsndfile says."""
    data = Made(kind, coding, channels)
    Same(data, data, FLOAT if coding in ('FLOAT', 'DOUBLE', 'VORBIS', 'OPUS') else STEP)
    path = tmp_path / 'x.audio'
    path.write_bytes(data)
    header = audio.ReadHeader(str(path))
    assert (header.rate, header.channels) == (RATE, channels)
    assert header.num_samples == len(Oracle(data))


@pytest.mark.parametrize(
    ('kind', 'coding', 'endian'),
    [('WAV', 'PCM_16', 'BIG'), ('AU', 'PCM_16', 'LITTLE'), ('AIFF', 'PCM_16', 'LITTLE')],
)
def test_the_other_order_of_bytes(kind, coding, endian):
    data = Made(kind, coding, endian=endian)
    Same(data, data)


@pytest.mark.parametrize(('kind', 'coding'), [*FORMATS, *FLAC])
@pytest.mark.parametrize('left', [0.02, 0.5, 0.9, -1])
def test_part_of_a_file_is_refused(tmp_path, kind, coding, left):
    data = Made(kind, coding)
    left = (
        -20_000 if left == -1 and coding == 'ALAC_16' else left
    )  # tables stand behind the samples
    part = data[: int(len(data) * left) if isinstance(left, float) else left]
    Refused(part, 'cut short|no audio file that is known')
    if kind != 'FLAC':  # whose MD5 tells, once it is decoded
        (tmp_path / 'x.audio').write_bytes(part)
        with pytest.raises(source.BadRecordError, match='x.audio: .*cut short|no audio'):
            audio.ReadHeader(str(tmp_path / 'x.audio'))


@pytest.mark.parametrize('size', PIPED)
@pytest.mark.parametrize('whole_file', ['same', 'more', 'right'])
def test_wav_from_a_pipe(size, whole_file):
    whole = Made('WAV', 'PCM_16')
    at = whole.index(b'data') + 4
    riff = {'same': size, 'more': (size + at - 4) % 2**32, 'right': len(whole) - 8}[whole_file]
    data = b'RIFF' + struct.pack('<I', riff) + whole[8:at] + struct.pack('<I', size)
    Same(data + whole[at + 4 :], whole)
    Same(data + whole[at + 4 : -1], whole[:-2])  # the last sample is half there


@pytest.mark.parametrize('size', [1_000_000, 0x70000000, 0xF0000000])
def test_a_size_that_no_pipe_leaves_is_a_cut(size):
    whole = Made('WAV', 'PCM_16')
    at = whole.index(b'data') + 4
    Refused(whole[:at] + struct.pack('<I', size) + whole[at + 4 :], f'cut short.*{size:,} bytes')


def test_other_formats_from_a_pipe():
    au = Made('AU', 'PCM_16')
    for size in (0, 0xFFFFFFFF):
        Same(au[:8] + struct.pack('>I', size) + au[12:], au)
    aiff = Made('AIFF', 'PCM_16')
    at = aiff.index(b'SSND') + 4
    for size in (0, 0x7F000008):
        Same(aiff[:at] + struct.pack('>I', size) + aiff[at + 4 :], aiff)
    caf = Made('CAF', 'PCM_16')
    at = caf.index(b'data') + 4
    Same(caf[:at] + b'\xff' * 8 + caf[at + 8 :], caf)
    rf64 = Made('RF64', 'PCM_16')
    at = rf64.index(b'ds64') + 8
    Same(rf64[:at] + bytes(24) + rf64[at + 24 :], rf64)
    nist = Made('NIST', 'PCM_16')
    Same(nist.replace(b'sample_count -i 16000', b'samples_were -i 16000'), nist)


@pytest.mark.parametrize('samples', [5, 4096, 40_000, 150_000])
def test_flac_from_a_pipe(audio_decoder, samples):
    """Neither MD5 nor number of samples: the last frame tells."""
    whole = Made('FLAC', 'PCM_16', seconds=samples / RATE)
    piped = whole[:21] + bytes([whole[21] & 0xF0]) + bytes(4 + 16) + whole[42:]
    Same(piped, whole)
    for lost in (1, 5, 100):
        Refused(piped[:-lost], 'cut short')


@pytest.mark.parametrize(('rate', 'channels'), [(8000, 1), (16000, 1), (24000, 2), (44100, 2)])
class TestMp3:
    """Encoded by libsndfile's LAME, with a Xing header."""

    def Frames(self, channels, rate):
        """(whole, frames): the first frame is the Xing header."""
        whole = Made('MP3', 'MPEG_LAYER_III', channels, rate=rate)
        start = mp3.BehindId3(whole)
        sizes = [frame.size for frame in mp3._Frames(whole, start)]
        ends = np.cumsum([start, *sizes])
        return whole, [whole[a:b] for a, b in zip(ends, ends[1:])]

    def test_without_a_gapless_tag(self, channels, rate):
        _, frames = self.Frames(channels, rate)
        bare = b''.join(frames[1:])
        rate_found, waveform = audio.Decode(bare, 'x')
        samples = 1152 if rate >= 32000 else 576
        assert rate_found == rate and len(waveform) == samples * (len(frames) - 1)
        wanted = Oracle(bare)  # libsndfile guesses the length
        np.testing.assert_allclose(waveform[: len(wanted)], wanted, atol=FLOAT)

    def test_cut_at_a_frame(self, channels, rate):
        """Frames of the middle need bits of those in front, which are not there."""
        _, frames = self.Frames(channels, rate)
        part = b''.join(frames[6:-6])
        wanted = Oracle(part)
        waveform = audio.Decode(part, 'x')[1]
        assert len(wanted) <= len(waveform) == (1152 if rate >= 32000 else 576) * len(frames[6:-6])
        np.testing.assert_allclose(waveform[: len(wanted)], wanted, atol=FLOAT)

    def test_with_junk_in_front(self, channels, rate):
        whole, frames = self.Frames(channels, rate)
        rest = b''.join(frames)
        for junk in (bytes(1000), b'some text\n', b'\xff\xfb' * 50, bytes(range(256)) * 3):
            Same(junk + rest, whole)

    def test_with_a_tag_behind(self, channels, rate):
        whole, _ = self.Frames(channels, rate)
        id3v1 = b'TAG' + b'title'.ljust(125, b'\0')
        item = struct.pack('<II', 5, 0) + b'title\0hello'
        counts = struct.pack('<IIII', 2000, len(item) + 32, 1, 0) + bytes(8)
        footer = b'APETAGEX' + counts
        for tag in (id3v1, footer + item + footer, item + footer, item + footer + id3v1, bytes(99)):
            Same(whole + tag, whole)
        Refused(whole + b'something else', 'a damaged MP3 file: no frame begins')

    def test_with_more_frames_than_its_header_says(self, channels, rate):
        _, frames = self.Frames(channels, rate)
        waveform = audio.Decode(b''.join([*frames, *frames[1:]]), 'x')[1]
        assert len(waveform) == (1152 if rate >= 32000 else 576) * 2 * (len(frames) - 1)


def test_mp3_of_varying_bit_rate_without_a_header_is_read_to_its_end():
    """libsndfile alone stops where it guesses the end."""
    file = io.BytesIO()
    loud = np.concatenate([Sound(seconds=0.3), Sound(seconds=3.0) * 1e-4])
    soundfile.write(file, loud, RATE, format='MP3', compression_level=0.3, bitrate_mode='VARIABLE')
    data = file.getvalue()
    start = mp3.BehindId3(data)
    frames = list(mp3._Frames(data, start))
    assert len({frame.size for frame in frames}) > 3
    bare = data[start + frames[0].size :]
    assert len(audio.Decode(bare, 'x')[1]) == 576 * (len(frames) - 1)


@pytest.mark.parametrize('coding', ['VORBIS', 'OPUS'])
def test_damage_in_ogg_is_noticed(coding):
    data = Made('OGG', coding)
    for at in range(100, len(data), len(data) // 7):
        flipped = bytearray(data)
        flipped[at] ^= 4
        Refused(bytes(flipped), 'damaged|cut short')
    Refused(data + data, 'an Ogg file with 2 streams')
    last = data.rindex(b'OggS')
    Refused(data[:last], 'cut short: the last page of the Ogg file is missing')


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom', 'M4A or MP4 is not read.*ffmpeg'),
        (b'\0\0\0\x1cftypisom\0\0\2\0isomiso2mp41', 'M4A or MP4 is not read'),
        (b'\x1aE\xdf\xa3\x9fB\x86\x81\1', 'Matroska or WebM is not read'),
        (b'\xff\xf1\x60\x40\x40\x7f\xfc', 'AAC is not read'),
        ('Zw\u00f6lf J\u00e4ger\n'.encode(), "it is text, no audio: it begins with b'Zw"),
        ('Zw\u00f6lf J\u00e4ger\n'.encode('latin-1'), 'it is text, no audio'),
    ],
)
def test_what_is_no_audio_is_named(data, reason):
    Refused(data, reason)


def test_what_lies_beyond_full_scale_is_counted(caplog):
    wave = np.array([0.5, 1.5, -3.0, 1.0, 1.00001], np.float32)
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format='WAV', subtype='FLOAT')
    counts = []
    _, found = audio.Decode(file.getvalue(), 'x', clipped=counts.append)
    np.testing.assert_allclose(found, [0.5, 1, -1, 1, 1])
    assert counts == [2] and not caplog.records
    audio.Decode(file.getvalue(), 'loud.wav')
    assert 'loud.wav: 2 samples lie beyond full scale and are clipped.' in caplog.text

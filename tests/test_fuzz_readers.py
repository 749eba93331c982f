"""Damaged bytes in every reader: a documented error, or each record delivered or counted as bad.

Never another exception, never a hang, never a record that is neither delivered nor counted, and
never one that is delivered with other content where a checksum stands in its file.
"""

import gzip
import io
import os
import pathlib
import zipfile
from unittest import mock

import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st

from lingvo_lite.inputs import (
    data_files,
    examples,
    feed as feed_lib,
    records,
    source,
)
from lingvo_lite.inputs.speech import (
    audio,
    audio_headers,
    manifests,
    tfio_flac,
    transcribed,
    utterances,
)
from lingvo_lite.inputs.text import pairs, parallel, tokenizers
from lingvo_lite.testing import fuzz

RATE = 8000
NUM = 9
TEXTS = [(f'the old man x{"x" * i}', f'der Mann {i}\u00fc') for i in range(NUM)]
TONES = [(np.sin(np.arange(700 + 50 * i) * 0.1) * 9000).astype(np.int16) for i in range(NUM)]
MP3 = pathlib.Path(__file__).parent / 'inputs' / 'speech' / 'mp3'
MODEL_SIZE = 40


@pytest.fixture(scope='module', autouse=True)
def folder(tmp_path_factory):
    """Whole files of all kinds; tests work on damaged copies in sub/."""
    path = tmp_path_factory.mktemp('data')
    before = os.environ.get('LINGVO_LITE_CACHE')
    os.environ['LINGVO_LITE_CACHE'] = str(path / 'cache')
    data_files.SetDataDir(str(path / 'sub'))
    (path / 'sub').mkdir()
    _Files.path = path
    meta = {'tokenizer': tokenizers.ByteTokenizer.Params().Instantiate().Fingerprint()}
    rows = [(pairs.EncodePair(*p), [len(t.encode()) for t in p]) for p in TEXTS]
    records.WriteShards(rows, str(path / 'pairs'), NUM, 1, pairs.LENGTH_NAMES, meta)
    spoken = [
        utterances.Utterance(f'u{i}', audio.EncodeFlac(tone, RATE), f'a{i}', len(tone), RATE)
        for i, tone in enumerate(TONES)
    ]
    rows = [(utterances.Encode(u), utterances.Lengths(u)) for u in spoken]
    records.WriteShards(rows, str(path / 'spoken'), NUM, 1, utterances.LENGTH_NAMES)
    for i, tone in enumerate(TONES):
        (path / 'sub' / f'{i}.wav').write_bytes(audio.EncodeWav(tone, RATE))
    lines = [(f'{i}.wav', f'a{i}', len(tone), RATE) for i, tone in enumerate(TONES)]
    columns = ('file', 'transcript', 'samples', 'sample_rate')
    manifests.Write(str(path / 'all.tsv'), lines, columns)
    made = tokenizers.TrainSentencePiece([a for a, _ in TEXTS] * 3, MODEL_SIZE, 'bpe')
    (path / 'x.model').write_bytes(made)
    yield path
    data_files.SetDataDir(None)
    os.environ.pop('LINGVO_LITE_CACHE')
    if before is not None:
        os.environ['LINGVO_LITE_CACHE'] = before


class _Files:
    path: pathlib.Path


def Whole(name):
    return (_Files.path / name).read_bytes()


def Put(name, data):
    """Writes sub/`name`; its path."""
    path = _Files.path / 'sub' / name
    path.write_bytes(data)
    return str(path)


def Shard(name):
    return f'{name}-00000-of-00001.tfrecord'


def Delivered(params):
    """{id: the texts} of a whole evaluation; checks that what is not delivered is counted."""
    inputs = params.Set(max_bad_records=1000).Instantiate()
    found = {}
    with inputs.Batches(train=False) as feed:
        for batch in feed:
            for part in batch.replicas:
                for row, i in enumerate(part.id.tolist()):
                    assert (i == feed_lib.FILL) == (part.row_weight[row] == 0)
                    if i != feed_lib.FILL:
                        assert i not in found
                        found[i] = dict(inputs.Strings(i))
                        if 'waveform' in part.source:
                            count = part.source.num_samples[row]
                            found[i]['wave'] = part.source.waveform[row, :count]
    bad = inputs.BadIds()
    assert set(found) | bad == set(range(inputs.NumExamples())) and not set(found) & bad
    return found


def Pairs(**values):
    p = parallel.ParallelTextInput.Params().Set(batch_size=4, file_pattern=Shard('pairs'))
    return p.Set(**values)


def Spoken(**values):
    p = transcribed.SpeechInput.Params().Set(batch_size=4, sample_rate=RATE)
    return p.Set(**(values or {'file_pattern': Shard('spoken')}))


def SameAsWritten(name, found):
    for i, own in found.items():
        if name == 'pairs':
            assert (own['source'], own['target']) == TEXTS[i]
        else:
            assert (own['source'], own['target']) == (f'u{i}', f'a{i}')
            np.testing.assert_array_equal(own['wave'], TONES[i].astype(np.float32) / 32768)


@fuzz.Fuzz(25, 125, damage=fuzz.DAMAGE, name=st.sampled_from(['pairs', 'spoken']))
def test_damaged_tfrecord(damage, name):
    Put(Shard(name), fuzz.Damaged(Whole(Shard(name)), damage))
    Put(Shard(name) + data_files.SIDECAR, Whole(Shard(name) + data_files.SIDECAR))
    with fuzz.Documented(ValueError):
        SameAsWritten(name, Delivered(Pairs() if name == 'pairs' else Spoken()))


@fuzz.Fuzz(10, 60, damage=fuzz.DAMAGE)
def test_damaged_tfrecord_that_gets_a_sidecar(damage):
    path = Put('own.tfrecord', fuzz.Damaged(Whole(Shard('pairs')), damage))
    with fuzz.Documented(ValueError):
        records.WriteSidecar(path)
        held = pairs.RecordPairs([path])
        for i in range(len(held)):
            assert held.Get(i) in TEXTS


@fuzz.Fuzz(30, 150, damage=fuzz.DAMAGE, name=st.sampled_from(['pairs', 'spoken']))
def test_damaged_sidecar(damage, name):
    Put(Shard(name), Whole(Shard(name)))
    Put(
        Shard(name) + data_files.SIDECAR,
        fuzz.Damaged(Whole(Shard(name) + data_files.SIDECAR), damage),
    )
    with fuzz.Documented(ValueError):
        SameAsWritten(name, Delivered(Pairs() if name == 'pairs' else Spoken()))


NUMBERS = st.one_of(st.integers(-3, 60), st.integers(-(2**31), 2**31 - 1))


@fuzz.Fuzz(
    25,
    125,
    name=st.sampled_from(['pairs', 'spoken']),
    array=st.sampled_from(['offsets', 'sizes', 'checksums', 'lengths']),
    at=st.integers(0, NUM - 1),
    value=NUMBERS,
    kind=st.sampled_from(['keep', 'float64', 'int8', 'uint64', '<U5']),
)
def test_sidecar_with_other_numbers(name, array, at, value, kind):
    """The archive is whole, what it says is not so."""
    Put(Shard(name), Whole(Shard(name)))
    with np.load(io.BytesIO(Whole(Shard(name) + data_files.SIDECAR)), allow_pickle=False) as held:
        arrays = dict(held)
    arrays[array] = arrays[array].astype(np.int64)
    arrays[array][at] = value
    if kind != 'keep':
        arrays[array] = arrays[array].astype(kind)
    written = io.BytesIO()
    np.savez(written, **arrays)
    Put(Shard(name) + data_files.SIDECAR, written.getvalue())
    with fuzz.Documented(ValueError):
        SameAsWritten(name, Delivered(Pairs() if name == 'pairs' else Spoken()))


@fuzz.Fuzz(40, 200, damage=fuzz.DAMAGE)
def test_damaged_example(damage):
    with fuzz.Documented(ValueError):
        found = pairs.DecodePair(fuzz.Damaged(pairs.EncodePair(*TEXTS[3]), damage))
        assert all(isinstance(t, str) for t in found)


@fuzz.Fuzz(40, 200, payload=st.binary(max_size=60))
def test_any_bytes_as_an_example(payload):
    with fuzz.Documented(ValueError):
        examples.Decode(payload, {'a': int, 'b': bytes})


def _Audio():
    found = {'flac': audio.EncodeFlac(TONES[3], RATE), 'wav': audio.EncodeWav(TONES[3], RATE)}
    for kind, coding in (('OGG', 'VORBIS'), ('OGG', 'OPUS'), ('AIFF', 'PCM_24'), ('AU', 'ULAW'),
                         ('CAF', 'PCM_16'), ('NIST', 'PCM_16'), ('RF64', 'FLOAT')):  # fmt: skip
        file = io.BytesIO()
        soundfile.write(file, TONES[3], RATE, format=kind, subtype=coding)
        found[f'{kind} {coding}'] = file.getvalue()
    for path in sorted(MP3.glob('*.mp3')):
        found[path.name] = path.read_bytes()[:3000]
    return found


AUDIO = _Audio()


@fuzz.Fuzz(120, 800, damage=fuzz.DAMAGE, name=st.sampled_from(sorted(AUDIO)), alone=st.booleans())
def test_damaged_audio(damage, name, alone):
    """`alone`: whether libsndfile decodes FLAC too."""
    data = fuzz.Damaged(AUDIO[name], damage)
    path = Put('audio', data)
    with fuzz.Documented(source.BadRecordError):
        audio.ReadHeader(path)
    kinds = () if alone else tfio_flac.BITS
    with (
        fuzz.Documented(source.BadRecordError) as raised,
        mock.patch.object(tfio_flac, 'BITS', kinds),
    ):
        rate, wave = audio.Decode(data, 'audio')
        assert 1000 <= rate and len(wave) and wave.dtype == np.float32
        assert np.isfinite(wave).all() and np.abs(wave).max() <= 1
    assert all(str(error).startswith('audio: ') for error in raised)


MAGIC = [
    *(b'', b'fLaC', b'fLaC\0\0\0\x22', b'RIFF\0\0\0\0WAVEfmt ', b'\xff\xfb', b'ID3', b'OggS\0\2'),
    *(b'RF64\xff\xff\xff\xffWAVEds64', b'FORM\0\0\0\0AIFFCOMM', b'.snd', b'dns.', b'caff\0\1\0\0'),
    *(b'NIST_1A\n   1024\n', b'RIFX\0\0\0\0WAVEfmt '),
]


@fuzz.Fuzz(60, 300, data=st.binary(max_size=80), magic=st.sampled_from(MAGIC))
def test_any_bytes_as_a_header(data, magic):
    with fuzz.Documented(ValueError):
        header = audio_headers.Read(io.BytesIO(magic + data))
        assert header.rate > 0 and header.channels > 0


@pytest.mark.usefixtures('audio_decoder')
@pytest.mark.parametrize('lost', range(1, 60, 7))
def test_flac_without_its_end_is_refused_at_once(lost):
    """tensorflow-io alone would look for the last frame for ever."""
    data = AUDIO['flac']
    last = data.rfind(b'\xff\xf8')
    for damaged in (data[:last], data[: last + 1], data[:last] + bytes(lost), data[:-lost]):
        for unsigned in (damaged, damaged[:26] + bytes(16) + damaged[42:]):  # with and without MD5
            with pytest.raises(source.BadRecordError, match=r'x\.flac: .*damaged'):
                audio.Decode(unsigned, 'x.flac')
    unsigned = data[:26] + bytes(16) + data[42:]
    np.testing.assert_array_equal(audio.Decode(unsigned, 'x')[1], audio.Decode(data, 'x')[1])


WORDS = st.sampled_from(
    ['file', 'transcript', 'samples', 'sample_rate', 'id', '0.wav', '/', '..', '', '\t', '\r', '-1',
     '1e3', '9' * 40, '\ufeff', '\x00', '\u2028', '\n', '8000', 'none.wav', '~', '%s', '{}']
)  # fmt: skip


@fuzz.Fuzz(30, 150, damage=fuzz.DAMAGE, words=st.lists(WORDS, max_size=6), at=st.integers(0, 300))
def test_damaged_manifest(damage, words, at):
    data = Whole('all.tsv')
    data = data[:at] + ''.join(words).encode() + data[at:] if words else fuzz.Damaged(data, damage)
    Put('all.tsv', data)
    with fuzz.Documented(ValueError):
        Delivered(Spoken(manifest='all.tsv'))


@fuzz.Fuzz(15, 75, damage=fuzz.DAMAGE)
def test_damaged_audio_files_of_a_manifest_without_lengths(damage):
    rows = [(f'c{i}.wav', 'a') for i in range(3)]
    for i in range(3):
        data = audio.EncodeWav(TONES[i], RATE)
        Put(f'c{i}.wav', fuzz.Damaged(data, damage) if i == 1 else data)
    manifests.Write(str(_Files.path / 'sub' / 'c.tsv'), rows, ('file', 'transcript'))
    assert {0, 2} <= set(Delivered(Spoken(manifest='c.tsv')))


@fuzz.Fuzz(20, 100, damage=fuzz.DAMAGE, alpha=st.sampled_from([0.0, 0.3]))
def test_damaged_sentencepiece_model(damage, alpha):
    Put('x.model', fuzz.Damaged(Whole('x.model'), damage))
    p = tokenizers.SentencePieceTokenizer.Params()
    p.Set(vocab_size=MODEL_SIZE, model_file='x.model', sampling_alpha=alpha)
    with fuzz.Documented(ValueError):
        tokenizer = p.Instantiate()
        rows = tokenizer.Encode([TEXTS[2][0], '', '\u2028\U0001f600\u0131'])
        rows += tokenizer.Sample([TEXTS[1][0]], [7])
        assert all(0 <= i < MODEL_SIZE for row in rows for i in row)
        tokenizer.Decode([*rows, range(MODEL_SIZE)])


ODD = st.text(
    st.one_of(
        st.characters(blacklist_categories=['Cs']),
        st.sampled_from('\u2028\u2029\x85\x0b\x0c\x1c\ufeff\u200d\u0301\r\x00\ufffe\U0010ffff'),
    ),
    max_size=12,
)
LINE = st.one_of(ODD.map(lambda t: t.replace('\n', ' ').encode()), st.binary(max_size=6))
TOKENIZERS = {
    'bytes': lambda: tokenizers.ByteTokenizer.Params(),
    'characters': lambda: tokenizers.CharacterTokenizer.Params().Set(train_files=['t.a', 't.b']),
    'pieces': lambda: tokenizers.SentencePieceTokenizer.Params().Set(
        vocab_size=MODEL_SIZE, model_file='whole.model', sampling_alpha=0.5
    ),
}


@fuzz.Fuzz(
    25,
    125,
    lines=st.lists(st.tuples(LINE, LINE), min_size=1, max_size=5),
    end=st.booleans(),
    kind=st.sampled_from(sorted(TOKENIZERS)),
)
def test_any_lines(lines, end, kind):
    for side, name in enumerate(('t.a', 't.b')):
        column = [pair[side].replace(b'\n', b'') for pair in lines]
        Put(name, b'\n'.join(column) + (b'\n' if end or not column[-1] else b''))
    Put('whole.model', Whole('x.model'))
    p = parallel.ParallelTextInput.Params().Set(batch_size=2, source_file='t.a', target_file='t.b')
    with fuzz.Documented(ValueError):
        found = Delivered(p.Set(tokenizer=TOKENIZERS[kind]()))
        for i, pair in enumerate(lines):
            whole = all(_IsText(side.replace(b'\n', b'')) for side in pair)
            assert whole == (i in found)


def _IsText(data):
    try:
        data.decode('utf-8')
    except UnicodeDecodeError:
        return False
    return True


@fuzz.Fuzz(15, 75, damage=fuzz.DAMAGE)
def test_damaged_gz(damage):
    content = b''.join(a.encode() + b'\n' for a, _ in TEXTS)
    path = Put('x.gz', fuzz.Damaged(gzip.compress(content, mtime=0), damage))
    with fuzz.Documented(ValueError):
        lines = source.LineSource(path)
        for i in range(len(lines)):
            with fuzz.Documented(source.BadRecordError):
                lines.Get(i)


@fuzz.Fuzz(4, 60, damage=fuzz.DAMAGE)
def test_damaged_cache(damage):
    """What is damaged in the cache folder is made again."""
    for name in (Shard('pairs'), Shard('pairs') + data_files.SIDECAR):
        Put(name, Whole(name))
    p = Pairs(tokenizer=tokenizers.CharacterTokenizer.Params().Set(characters='abc'))
    wanted = Delivered(p)
    tables = list((_Files.path / 'cache' / 'tokens').glob('*.npz'))
    assert tables
    for table in tables:
        whole = table.read_bytes()
        table.write_bytes(fuzz.Damaged(whole, damage))
        try:
            assert Delivered(p) == wanted
        finally:
            table.write_bytes(whole)


def test_damage_reaches_what_it_should():
    """The fuzzing has teeth: some damage is refused, some files stay whole enough to be read."""
    data = AUDIO['wav']
    assert fuzz.Damaged(data, [('flip', -1, 1)]) != data
    assert fuzz.Damaged(data, [('cut', 3, 5)]) == data[:3] + data[8:]
    assert fuzz.Damaged(data, [('end', 9, None), ('insert', 0, b'x')]) == b'x' + data[:9]
    with pytest.raises(AssertionError), fuzz.Documented(ValueError):
        raise ValueError('two\nlines')
    with pytest.raises(KeyError), fuzz.Documented(ValueError):
        raise KeyError('another')
    assert zipfile.is_zipfile(io.BytesIO(Whole(Shard('pairs') + data_files.SIDECAR)))

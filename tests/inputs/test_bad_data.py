"""Bad data in every reader: what is said, what is counted, what is still served."""

import io
import itertools
import json
import logging
import os
import re
import shutil
import struct
import sys

import numpy as np
import pytest

from lingvo_lite.inputs import (
    cache,
    examples,
    feed as feed_lib,
    mixed_input,
    records,
    source,
)
from lingvo_lite.inputs.speech import audio, manifests, transcribed, utterances
from lingvo_lite.inputs.text import pairs, parallel, source_text, token_table, tokenizers

tf = pytest.importorskip('tensorflow')
RATE = 8000
TEXTS = [(f'the {"old " * (i % 5)}man {i}', f'der {"alte " * (i % 5)}Mann {i}') for i in range(20)]
TONES = [
    (np.sin(np.arange(800 + 40 * (i % 5)) * (0.1 + 0.01 * i)) * 9000).astype(np.int16)
    for i in range(10)
]


def Bytes(*texts):
    return [len(t.encode()) for t in texts]


def WriteLines(folder, some=None):
    for side, name in enumerate(('train.en', 'train.de')):
        (folder / name).write_text(''.join(pair[side] + '\n' for pair in some or TEXTS))


def WriteRecords(folder, payloads=None, lengths=None, name='train', more=None):
    payloads = payloads or [pairs.EncodePair(*pair) for pair in TEXTS]
    lengths = lengths or [Bytes(*pair) for pair in TEXTS]
    meta = {'tokenizer': tokenizers.ByteTokenizer.Params().Instantiate().Fingerprint()}
    meta.update(more or {})
    made = zip(payloads, lengths)
    return records.WriteShards(made, str(folder / name), len(payloads), 1, pairs.LENGTH_NAMES, meta)


def Text(kind, **values):
    p = parallel.ParallelTextInput.Params().Set(batch_size=3)
    if kind == 'lines':
        p.Set(source_file='train.en', target_file='train.de')
    else:
        p.Set(file_pattern='train-*.tfrecord')
    return p.Set(**values)


def WriteSpeech(folder, changed=None, lengths=None, name='speech'):
    """One shard of utterances; `changed` is {index: payload}, `lengths` {index: row}."""
    rows = []
    for i, tone in enumerate(TONES):
        one = utterances.Utterance(f'u{i}', audio.EncodeFlac(tone, RATE), 'ab', len(tone), RATE)
        payload = (changed or {}).get(i, utterances.Encode(one))
        rows.append((payload, (lengths or {}).get(i, utterances.Lengths(one))))
    prefix = str(folder / name)
    return records.WriteShards(iter(rows), prefix, len(rows), 1, utterances.LENGTH_NAMES)


def Speech(**values):
    p = transcribed.SpeechInput.Params().Set(
        file_pattern='speech-*', sample_rate=RATE, batch_size=3
    )
    return p.Set(**values)


def WriteFiles(folder, columns=('file', 'transcript', 'samples', 'sample_rate')):
    rows = []
    for i, tone in enumerate(TONES):
        (folder / f'{i}.wav').write_bytes(audio.EncodeWav(tone, RATE))
        row = {'file': f'{i}.wav', 'transcript': 'ab', 'samples': len(tone), 'sample_rate': RATE}
        rows.append([row[column] for column in columns])
    manifests.Write(str(folder / 'all.tsv'), rows, columns)


def Take(inputs, count=1000, **kwargs):
    with inputs.Batches(**kwargs) as feed:
        return list(itertools.islice(feed, count))


def Ids(batches):
    return sorted(
        int(i) for b in batches for part in b.replicas for i in part.id if i != feed_lib.FILL
    )


def Refused(params, **kwargs):
    with pytest.raises(source.BadRecordError) as error:
        Take(params.Instantiate(), **{'train': False, **kwargs})
    assert '\n' not in str(error.value)
    return str(error.value)


def Served(params, bad):
    """Serves all but `bad`, which are counted; the inputs."""
    inputs = params.Copy().Set(max_bad_records=len(bad)).Instantiate()
    batches = Take(inputs, train=False)
    assert Ids(batches) == sorted(set(range(inputs.NumExamples())) - set(bad))
    assert inputs.BadIds() == set(bad)
    return inputs


# Fields of an Example.

INT = examples.Encode({'source': 7, 'target': 'x'})
WRONG = [
    (INT, "field 'source' holds int64, bytes is wanted"),
    (examples.Encode({'source': 'x'}), "field 'target' is missing; it has 'source'"),
    (examples.Encode({}), "field 'source' is missing; it has none"),
    (examples.Encode({'source': b'\xff', 'target': 'x'}), "field 'source' is not UTF-8 .* byte 0"),
    (
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    'source': tf.train.Feature(bytes_list=tf.train.BytesList(value=[b'a', b'b'])),
                    'target': tf.train.Feature(bytes_list=tf.train.BytesList(value=[b'c'])),
                }
            )
        ).SerializeToString(),
        "field 'source' holds 2 values, 1 is wanted",
    ),
    (
        tf.train.Example(
            features=tf.train.Features(
                feature={'source': tf.train.Feature(float_list=tf.train.FloatList(value=[0.5]))}
            )
        ).SerializeToString(),
        "field 'source' holds float, bytes is wanted",
    ),
    (b'\x80\x80 no example', 'no tf.train.Example with source, target: '),
]


@pytest.mark.parametrize('number', range(len(WRONG)))
def test_an_example_with_other_fields(data_folder, number):
    payload, message = WRONG[number]
    payloads = [pairs.EncodePair(*pair) for pair in TEXTS]
    payloads[12] = payload
    offset = sum(len(p) + 16 for p in payloads[:12])
    WriteRecords(data_folder, payloads)
    assert re.search(
        rf'train-00000-of-00001.tfrecord, record 12 \(byte {offset:,}\): .*{message}.*'
        r'1 of 20 records skipped; more than input.max_bad_records=0, so stopping\.$',
        Refused(Text('records')),
    )
    Served(Text('records'), [12])


def test_an_utterance_with_other_fields(data_folder):
    WriteSpeech(data_folder, {3: examples.Encode({'id': 'u', 'audio': 5, 'transcript': 't'})})
    assert 'record 3 (byte' in Refused(Speech())
    assert "field 'audio' holds int64, bytes is wanted" in Refused(Speech())
    Served(Speech(), [3])


# Lengths that are not those of the index.


@pytest.mark.parametrize('tokenizer', ['byte', 'sampled'])
def test_a_text_100_times_longer_than_its_index_says(data_folder, tokenizer, caplog):
    long = ('word ' * 600, 'Wort')
    payloads = [pairs.EncodePair(*(long if i == 4 else pair)) for i, pair in enumerate(TEXTS)]
    WriteRecords(data_folder, payloads)
    p = Text('records')
    if tokenizer == 'byte':
        assert 'record 4 ' in Refused(p)
        assert 'its source has 2,999 tokens, which its index says are fewer than' in Refused(p)
    Served(p, [4])
    inputs = p.Set(max_bad_records=1).Instantiate()
    first = [b for b in Take(inputs, 9) if b.epoch == 0]
    assert Ids(first) == [i for i in range(20) if i != 4]


def test_a_text_100_times_longer_is_left_out_of_training_by_name(data_folder, caplog):
    some = [('word ' * 600, 'x') if i == 4 else pair for i, pair in enumerate(TEXTS)]
    WriteLines(data_folder, some)
    p = Text('lines', tokens_per_batch=400)
    first = [b for b in Take(p.Instantiate(), 30) if b.epoch == 0]
    assert Ids(first) == [i for i in range(20) if i != 4]
    assert '1 of 20 examples are not trained on' in caplog.text and 'line 5 ' in caplog.text
    assert Ids(Take(p.Instantiate(), train=False)) == list(range(20))


@pytest.mark.parametrize('index', ['longer', 'rate', 'characters'])
def test_an_utterance_that_is_not_what_its_index_says(data_folder, index):
    row = {'longer': (80000, RATE, 2), 'rate': (len(TONES[2]), 16000, 2), 'characters':
           (len(TONES[2]), RATE, 9)}[index]  # fmt: skip
    WriteSpeech(data_folder, lengths={2: row})
    said = {
        'longer': f'it has {len(TONES[2]):,} samples, its index says 80,000.',
        'rate': 'it has 8,000 sample_rate, its index says 16,000.',
        'characters': 'it has 2 characters, its index says 9.',
    }[index]
    assert said in Refused(Speech()) and 'record 2 (byte' in Refused(Speech())
    Served(Speech(), [2])


# Nothing in an example.


@pytest.mark.parametrize('row', [(0, RATE, 2), (800, 0, 2)])
def test_an_utterance_of_no_length(data_folder, row):
    WriteSpeech(data_folder, lengths={6: row})
    with pytest.raises(source.BadRecordError) as error:
        Speech().Instantiate()
    assert f'its index says {row[0]:,} samples at {row[1]:,} Hz. 1 of 10' in str(error.value)
    inputs = Served(Speech(), [6])
    first = [b for b in Take(inputs, 6) if b.epoch == 0]
    assert Ids(first) == [i for i in range(10) if i != 6]


def test_records_of_no_text(data_folder, caplog):
    some = [('', '') if i == 4 else pair for i, pair in enumerate(TEXTS)]
    WriteRecords(data_folder, [pairs.EncodePair(*p) for p in some], [Bytes(*p) for p in some])
    first = [b for b in Take(Text('records').Instantiate(), 9) if b.epoch == 0]
    assert Ids(first) == [i for i in range(20) if i != 4]
    assert '1 of 20 examples have an empty side and are not trained on' in caplog.text
    assert Ids(Take(Text('records').Instantiate(), train=False)) == list(range(20))


def test_a_record_of_no_bytes(data_folder):
    payloads = [pairs.EncodePair(*pair) for pair in TEXTS]
    payloads[0] = b''
    WriteRecords(data_folder, payloads)
    assert 'record 0 (byte 0): no tf.train.Example' in Refused(Text('records'))


# Sidecars.


def test_the_sidecar_of_another_file(data_folder):
    (path,) = WriteRecords(data_folder)
    turned = [pairs.EncodePair(*pair)[::-1] for pair in TEXTS]  # of the same sizes
    (other,) = WriteRecords(data_folder, turned, name='other')
    shutil.copy(records.SidecarPath(other), records.SidecarPath(path))
    assert 'record ' in Refused(Text('records')) and 'CRC does not match' in Refused(
        Text('records')
    )
    (short,) = WriteRecords(data_folder, [pairs.EncodePair('a', 'b')], [(1, 1)], name='short')
    shutil.copy(records.SidecarPath(short), records.SidecarPath(path))
    with pytest.raises(ValueError, match='has changed since its sidecar was written'):
        Text('records').Instantiate()


def Head(**changes):
    head = {'version': 1, 'file_size': 22, 'length_names': ['a'], 'meta': {}, **changes}
    return np.frombuffer(json.dumps(head).encode(), np.uint8)


SOUND = dict(
    head=Head(),
    offsets=np.array([0]),
    sizes=np.array([6], np.uint32),
    checksums=np.array([0], np.uint32),
    lengths=np.array([[3]], np.int32),
)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        (dict(lengths=np.array([[-1]], np.int32)), 'record 0 has a length below 0'),
        (dict(lengths=np.array([[0.5]])), 'its arrays do not fit each other'),
        (dict(lengths=np.array([3], np.int32)), 'its arrays do not fit each other'),
        (dict(sizes=np.array([6, 6], np.uint32)), 'its arrays do not fit each other'),
        (dict(offsets=np.array([7])), 'its records do not follow one another'),
        (dict(sizes=np.array([9], np.uint32)), 'its records end at byte 25'),
        (dict(head=Head(file_size='x')), 'its records end at byte 22'),
        (dict(head=Head(length_names=None)), 'NoneType'),
        (dict(head=Head(meta=[])), 'its header is no header'),
        (dict(head=np.frombuffer(b'[1]', np.uint8)), 'list indices'),
        (dict(head=np.frombuffer(b'{', np.uint8)), 'Expecting'),
        (dict(offsets=np.array([None])), 'Object arrays cannot be loaded'),
    ],
)
def test_a_sidecar_whose_parts_do_not_fit(tmp_path, changes, reason):
    path = str(tmp_path / 'x.tfrecord')
    with open(path, 'wb') as file:
        file.write(bytes(22))
    np.savez(records.SidecarPath(path), **SOUND)
    records.RecordSource([path])
    np.savez(records.SidecarPath(path), **{**SOUND, **changes})
    with pytest.raises(ValueError, match=rf'x.tfrecord.index.npz is damaged \(.*{reason}'):
        records.RecordSource([path])


# Files that change.


def test_a_record_file_that_shrinks_while_it_is_read(data_folder):
    (path,) = WriteRecords(data_folder)
    inputs = Text('records', max_bad_records=20).Instantiate()
    size = sum(len(pairs.EncodePair(*pair)) + 16 for pair in TEXTS[:11])
    os.truncate(path, size + 5)
    batches = Take(inputs, train=False)
    assert Ids(batches) == list(range(11)) and inputs.BadIds() == set(range(11, 20))
    with pytest.raises(source.BadRecordError, match=rf'record 11 \(byte {size}\): the file ends'):
        inputs.Strings(11)


def test_a_line_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / 'x.txt'
    path.write_text(''.join(f'line {i}\n' for i in range(5000)))
    lines = source.LineSource(str(path))
    os.truncate(path, 103)
    assert lines.Get(3) == 'line 3'
    for index in (14, 15, 4999):
        with pytest.raises(source.BadRecordError, match=rf'line {index + 1:,} .*the file ends'):
            lines.Get(index)


def test_a_line_file_that_is_written_over_while_it_is_read(tmp_path):
    path = tmp_path / 'x.txt'
    path.write_text('one\ntwo\nthree\n')
    lines = source.LineSource(str(path))
    with open(path, 'r+b') as file:
        file.write(b'onetwo\n')
    for index in (0, 1):
        with pytest.raises(
            source.BadRecordError, match=rf'line {index + 1} .*the file has changed'
        ):
            lines.Get(index)
    assert lines.Get(2) == 'three'


def test_a_disk_that_does_not_answer(tmp_path, monkeypatch):
    path = tmp_path / 'x.txt'
    path.write_text('one\n')
    lines = source.LineSource(str(path))

    def Fail(*args):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(os, 'pread', Fail)
    with pytest.raises(source.BadRecordError, match=r'x.txt, line 1 \(byte 0\): .*Input/output'):
        lines.Get(0)


@pytest.mark.parametrize('keeps', [True, False])
@pytest.mark.parametrize('fails', [1, 2])
def test_a_disk_that_does_not_answer_while_tokens_are_counted(
    data_folder, monkeypatch, keeps, fails
):
    """What is read at the second try is served; what is not is counted, whatever a third gives."""
    WriteLines(data_folder)
    monkeypatch.setattr(parallel.ParallelTextInput, '_keeps_counts', keeps)
    wanted = Take(Text('lines').Instantiate(), train=False)
    shutil.rmtree(os.path.join(os.environ['LINGVO_LITE_CACHE'], 'tokens'), ignore_errors=True)
    get, left = pairs.LinePairs.Get, [fails]

    def FailAtFirst(self, index):
        if index == 7 and left[0]:
            left[0] -= 1
            raise source.BadRecordError('train.en, line 8: it cannot be read: Stale file handle.')
        return get(self, index)

    monkeypatch.setattr(pairs.LinePairs, 'Get', FailAtFirst)
    if fails == 1:
        inputs = Text('lines').Instantiate()
        found = Take(inputs, train=False)
        assert not left[0] and not inputs.BadIds() and len(found) == len(wanted)
        for one, other in zip(found, wanted):
            for a, b in zip(one.replicas[0].Flatten(), other.replicas[0].Flatten()):
                np.testing.assert_array_equal(a, b)
    else:
        assert 'line 8: it cannot be read' in Refused(Text('lines'))
        left[0] = fails
        shutil.rmtree(os.path.join(os.environ['LINGVO_LITE_CACHE'], 'tokens'), ignore_errors=True)
        Served(Text('lines'), [7])
        Served(Text('lines'), [])  # nothing of it was kept


@pytest.mark.parametrize('kind', ['lines', 'records', 'speech', 'mixed', 'manifest', 'lengths'])
def test_data_that_changed_between_two_runs_are_refused(data_folder, kind):
    WriteLines(data_folder)
    WriteRecords(data_folder)
    WriteSpeech(data_folder)
    columns = ('file', 'transcript', 'samples', 'sample_rate')[: 2 if kind == 'lengths' else 4]
    WriteFiles(data_folder, columns)
    if kind in ('speech', 'manifest', 'lengths'):
        p = Speech() if kind == 'speech' else Speech(file_pattern='', manifest='all.tsv')
    else:
        p = Text('lines' if kind == 'mixed' else kind)
    if kind == 'mixed':
        p = mixed_input.MixedInput.Params().Set(inputs=[p, Text('records')], weights=[1, 1])
    state = json.loads(json.dumps(Take(p.Instantiate(), 2)[1].state))
    assert len(Take(p.Instantiate(), 3, start=state)) == 3
    # Of the same lengths: the order is the same, what is trained on is not.
    other = [(a.replace('man', 'dog'), b) for a, b in TEXTS]
    WriteLines(data_folder, other)
    for path in data_folder.glob('*.tfrecord'):
        path.unlink()
    WriteRecords(data_folder, [pairs.EncodePair(*pair) for pair in other])
    TONES[0][0] += 1
    WriteSpeech(data_folder)
    WriteFiles(data_folder, columns)
    with pytest.raises(ValueError, match='the data have changed since .*Bring the files back') as e:
        Take(p.Instantiate(), 3, start=state)
    assert {'lines': 'train.en | ', 'records': 'train-00000', 'speech': 'speech-00000', 'mixed':
            'train.de or '}.get(kind, 'all.tsv') in str(e.value)  # fmt: skip
    assert Take(p.Instantiate(), 3)[2].index == 2


def test_the_files_of_a_manifest_are_known_by_their_bytes_wherever_they_lie(
    data_folder, tmp_path_factory, monkeypatch
):
    def Fingerprint(folder=data_folder):
        return utterances.ManifestUtterances(str(folder / 'all.tsv')).Fingerprint()

    WriteFiles(data_folder)
    first = Fingerprint()
    os.utime(data_folder / '7.wav', (1, 1))
    assert Fingerprint() == first
    asked = []
    read = manifests._HashOrNone
    monkeypatch.setattr(manifests, '_HashOrNone', lambda path: asked.append(path) or read(path))
    assert Fingerprint() == first and not asked  # what lies as it lay is not read again
    copy = tmp_path_factory.mktemp('copy')
    shutil.copytree(data_folder, copy, dirs_exist_ok=True)
    assert Fingerprint(copy) == first and len(asked) == 10
    (data_folder / '7.wav').unlink()
    assert Fingerprint() != first
    WriteFiles(data_folder)
    assert Fingerprint() == first


def test_a_record_that_was_repaired_is_served_again(data_folder):
    (path,) = WriteRecords(data_folder)
    whole = open(path, 'rb').read()
    with open(path, 'r+b') as file:
        file.seek(40)
        file.write(b'\x00')
    characters = tokenizers.CharacterTokenizer.Params().Set(characters='abcdefgh ')
    p = Text('records', tokenizer=characters)
    Served(p, [0])
    with open(path, 'wb') as file:
        file.write(whole)
    Served(p, [])


@pytest.mark.parametrize('damage', ['cut', 'other', 'none'])
def test_a_damaged_file_of_the_cache_is_made_again(data_folder, cache_folder, damage):
    WriteLines(data_folder)
    p = Text('lines')
    wanted = Ids(Take(p.Instantiate(), train=False))
    (table,) = (cache_folder / 'tokens').glob('*.npz')
    if damage == 'cut':
        os.truncate(table, 90)
    elif damage == 'other':
        np.savez(table, counts=np.zeros((3, 2), np.int32))
    else:
        table.write_bytes(b'')
    assert Ids(Take(p.Instantiate(), train=False)) == wanted == list(range(20))
    assert token_table.np.load(table)['counts'].shape == (20, 2)


# Manifests.


@pytest.mark.parametrize('damage', ['gone', 'empty', 'text'])
@pytest.mark.parametrize('lengths', [True, False])
def test_a_bad_audio_file_of_a_manifest(data_folder, damage, lengths):
    columns = ('file', 'transcript', 'samples', 'sample_rate')[: 4 if lengths else 2]
    WriteFiles(data_folder, columns)
    if damage == 'gone':
        (data_folder / '7.wav').unlink()
    else:
        (data_folder / '7.wav').write_bytes({'empty': b'', 'text': b'hello, world'}[damage])
    p = Speech(file_pattern='', manifest='all.tsv')
    said = Refused(p)
    reason = {'gone': 'No data file', 'empty': 'the file is empty', 'text': 'it is text, no audio'}[
        damage
    ]
    assert '7.wav' in said and 'line 9' in said and reason in said and '1 of 10 records' in said
    Served(p, [7])
    (data_folder / '7.wav').write_bytes(audio.EncodeWav(TONES[7], RATE))
    Served(p, [])


@pytest.mark.parametrize('lengths', [True, False])
def test_an_audio_file_that_could_not_be_read_is_tried_again(data_folder, monkeypatch, lengths):
    """With the rights that it lacked it has the size and the time that it had before."""
    WriteFiles(data_folder, ('file', 'transcript', 'samples', 'sample_rate')[: 4 if lengths else 2])
    p = Speech(file_pattern='', manifest='all.tsv')

    def Deny(name, *args, **kwargs):
        if str(name).endswith('/7.wav'):
            raise PermissionError(13, 'Permission denied')
        return open(name, *args, **kwargs)

    for module in (audio, cache, manifests, utterances):
        monkeypatch.setattr(module, 'open', Deny, raising=False)
    for _ in range(2):
        said = Refused(p)
        assert '7.wav' in said and 'line 9' in said and 'Permission denied. ' in said
    Served(p, [7])
    denied = utterances.ManifestUtterances(str(data_folder / 'all.tsv')).Fingerprint()
    for module in (audio, cache, manifests, utterances):
        monkeypatch.delattr(module, 'open')
    Served(p, [])
    whole = utterances.ManifestUtterances(str(data_folder / 'all.tsv'))
    assert whole.Fingerprint() != denied
    # From here on it is known with the others.
    monkeypatch.setattr(manifests, '_Each', lambda files, ask: [ask(path) for path in files])
    for name in ('_LengthOrNone', '_HashOrNone'):
        monkeypatch.setattr(manifests, name, lambda path: pytest.fail(f'{path} is read again'))
    again = utterances.ManifestUtterances(str(data_folder / 'all.tsv'))
    assert again.Fingerprint() == whole.Fingerprint()


@pytest.mark.parametrize(
    ('line', 'reason'),
    [
        ('1_0', "samples must be an integer above 0, got '1_0'"),
        ('\u0661', 'samples must be an integer above 0'),
        ('9' * 30, 'samples must be an integer above 0'),
        ('-5', 'samples must be an integer above 0'),
    ],
)
def test_numbers_in_manifests(data_folder, line, reason):
    WriteFiles(data_folder)
    (data_folder / 'all.tsv').write_text(
        f'file\ttranscript\tsamples\tsample_rate\n0.wav\ta\t{line}\t8000\n'
    )
    with pytest.raises(ValueError, match=f'all.tsv, line 2: {reason}'):
        Speech(file_pattern='', manifest='all.tsv').Instantiate()
    (data_folder / 'all.tsv').write_text('file\tfile\ttranscript\n0.wav\t1.wav\ta\n')
    with pytest.raises(ValueError, match='all.tsv, line 1: the header names a column twice'):
        Speech(file_pattern='', manifest='all.tsv').Instantiate()


# One's own input.


def Windows(inputs, opened, size):
    """(ids of the stream that are served, bad ones) over all windows."""
    served = []
    for lines in opened.Windows(size):
        own = inputs.Instantiate(lines=lines)
        served += [lines.first + i for i in Ids(Take(own, train=False))]
    return served, own.BadIds()


def test_bad_lines_of_ones_own_count_over_all_windows(data_folder, monkeypatch, caplog):
    data = b'one\ntwo\nb\xff\nfour\nf\xfe\nsix\n'
    (data_folder / 'own.txt').write_bytes(data)
    for name in (str(data_folder / 'own.txt'), '-'):
        monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(data)))
        p = source_text.SourceTextInput.FromParallel(Text('lines', max_bad_records=2), name)
        assert Windows(p, source_text.SourceTextInput.Open(name), 2) == ([0, 1, 3, 5], {2, 4})
        monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(source.BadRecordError, match=r', line 5.*not UTF-8.*2 of 6 records'):
            Windows(p.Set(max_bad_records=1), source_text.SourceTextInput.Open(name), 2)


def test_bad_files_of_ones_own_count_over_all_windows(data_folder, caplog):
    WriteFiles(data_folder)
    for name in ('1.wav', '8.wav'):
        data = (data_folder / name).read_bytes()
        (data_folder / name).write_bytes(data[: len(data) // 2])
    flac = audio.EncodeFlac(TONES[5], RATE)
    (data_folder / '5.wav').write_bytes(flac[: len(flac) // 2])  # its head is whole
    listed = data_folder / 'list.txt'
    listed.write_text(''.join(f'{data_folder}/{i}.wav\n\n' for i in range(10)))
    p = transcribed.SpeechFilesInput.FromParallel(Speech(max_bad_records=3), str(listed))
    served = [i for i in range(10) if i not in (1, 5, 8)]
    assert Windows(p, transcribed.SpeechFilesInput.Open(str(listed)), 4) == (served, {1, 5, 8})
    assert Served(p, [1, 5, 8]).NumExamples() == 10
    with pytest.raises(source.BadRecordError, match='8.wav: cut short.*3 of 10 records skipped'):
        Windows(p.Set(max_bad_records=2), transcribed.SpeechFilesInput.Open(str(listed)), 4)


def test_a_window_of_bad_records_only(data_folder):
    lines = source.MemorySource([source.BadRecordError('x, line 1: bad.')], 'x')
    p = source_text.SourceTextInput.FromParallel(Text('lines', max_bad_records=1), 'x')
    assert Take(p.Instantiate(lines=lines), train=False) == []


def test_what_is_no_file(data_folder):
    with pytest.raises(ValueError, match='is no regular file'):
        source.LineSource(str(data_folder))
    os.mkfifo(data_folder / 'pipe')
    with pytest.raises(ValueError, match='pipe is no regular file'):
        source.LineSource(str(data_folder / 'pipe'))


# The count.


def test_bad_records_are_counted_in_batches_and_over_restarts(data_folder, caplog):
    payloads = [pairs.EncodePair(*pair) for pair in TEXTS]
    WriteRecords(data_folder, payloads)
    p = Text('records', max_bad_records=2, batch_size=2)
    whole = Take(p.Instantiate(), 12)
    bad = [int(whole[n].replicas[0].id[0]) for n in (2, 6)]
    for i in bad:
        payloads[i] = INT
    WriteRecords(data_folder, payloads, more={'damaged': bad})
    batches = Take(p.Instantiate(), 12)
    assert [i for b in batches if b.epoch == 0 for i in b.bad_ids] == bad
    counts = [b.num_bad for b in batches]
    met = set()
    for batch, count in zip(batches, counts):
        met |= set(batch.bad_ids)
        assert count == len(met) and batch.state.get('bad_records', []) == sorted(met)
        assert batch.num_examples - len(batch.bad_ids) == len(Ids([batch]))
    assert 0 in counts and counts[-1] == 2
    # A restarted run goes on counting; what it was told before is not told again.
    first = next(b for b in batches if b.num_bad == 1)
    state = json.loads(json.dumps(first.state))
    again = p.Instantiate()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        later = Take(again, 12 - first.index - 1, start=state)
    assert [b.num_bad for b in later] == counts[first.index + 1 :]
    assert [b.state for b in later] == [b.state for b in batches[first.index + 1 :]]
    assert f'record {bad[0]} ' not in caplog.text and f'record {bad[1]} ' in caplog.text
    with pytest.raises(source.BadRecordError, match='2 of 20 records skipped; more than .*=1'):
        Take(p.Copy().Set(max_bad_records=1).Instantiate(), 12, start=state)


def test_a_mixture_counts_for_each_of_its_inputs(data_folder):
    payloads = [pairs.EncodePair(*pair) for pair in TEXTS]
    payloads[3] = INT
    WriteRecords(data_folder, payloads)
    p = Text('records', max_bad_records=1)
    mixed = mixed_input.MixedInput.Params().Set(inputs=[p, p], weights=[1, 1])
    batches = Take(mixed.Instantiate(), 40)
    assert batches[-1].num_bad == 2 and batches[-1].state['bad_records'] == [3, 23]
    again = mixed.Instantiate()
    Take(again, 1, start=batches[-1].state)
    assert again.BadIds() == {3, 23}


def test_a_tfrecord_that_was_cut_into(tmp_path):
    """A length that a flipped bit makes huge does not make the reader wait or allocate."""
    path = str(tmp_path / 'x.tfrecord')
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b'hello')
    data = bytearray(open(path, 'rb').read())
    data[:8] = struct.pack('<Q', 1 << 60)
    with open(path, 'wb') as file:
        file.write(data)
    with pytest.raises(ValueError, match=r'record 0 \(byte 0\)'):
        records.WriteSidecar(path)

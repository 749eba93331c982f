"""Speech inputs: batches, lengths, augmentation, bad files; manifests and records."""

import io
import itertools
import logging
import re
import sys

import numpy as np
import pytest
import soundfile

from lingvo_lite import hyperparams
from lingvo_lite.inputs import feed as feed_lib, order, records, source
from lingvo_lite.inputs.speech import audio, manifests, perturbation, transcribed, utterances
from lingvo_lite.inputs.text import tokenizers

RATE = 8000
LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
WORDS = 'the old man and a young dog walk over small green hills'.split()


def Tone(i, seconds):
    """[samples] int16, different for every i."""
    time = np.arange(int(RATE * seconds)) / RATE
    return (np.sin(2 * np.pi * (200 + 10 * i) * time) * 9000 + i).astype(np.int16)


TONES = [Tone(i, 0.1 + 0.013 * (i * 7 % 24)) for i in range(24)]
TEXTS = [' '.join(WORDS[: 1 + i % 7]) for i in range(24)]


def WriteFiles(folder, columns=('id', 'file', 'transcript'), texts=TEXTS):
    (folder / 'clips').mkdir(exist_ok=True)
    rows = []
    for i, (tone, text) in enumerate(zip(TONES, texts)):
        name = f'clips/{i:02d}.' + ('wav' if i % 2 else 'flac')
        encode = audio.EncodeWav if i % 2 else audio.EncodeFlac
        (folder / name).write_bytes(encode(tone, RATE))
        row = {'id': f'u{i}', 'file': name, 'transcript': text}
        rows.append([{**row, 'samples': len(tone), 'sample_rate': RATE}[c] for c in columns])
    manifests.Write(str(folder / 'all.tsv'), rows, columns)


def WriteShards(folder, texts=TEXTS):
    made = []
    for i, (tone, text) in enumerate(zip(TONES, texts)):
        held = utterances.Utterance(f'u{i}', audio.EncodeFlac(tone, RATE), text, len(tone), RATE)
        made.append((utterances.Encode(held), utterances.Lengths(held)))
    prefix = str(folder / 'shards')
    return records.WriteShards(iter(made), prefix, 24, 2, utterances.LENGTH_NAMES)


def Params(**values):
    p = transcribed.SpeechInput.Params()
    p.Set(manifest='all.tsv', sample_rate=RATE, tokens_per_batch=200)
    p.tokenizer = tokenizers.CharacterTokenizer.Params().Set(characters=LETTERS)
    return p.Set(**values)


def Take(inputs, count=1000, **kwargs):
    with inputs.Batches(**kwargs) as feed:
        return list(itertools.islice(feed, count))


def Rows(batches):
    """{id: (waveform, labels)} without padding, whose form is checked."""
    found = {}
    for part in (part for batch in batches for part in batch.replicas):
        assert part.source.waveform.dtype == part.target.weights.dtype == np.float32
        assert part.source.num_samples.dtype == part.target.labels.dtype == np.int32
        for row, i in enumerate(part.id):
            n, m = part.source.num_samples[row], int(part.target.weights[row].sum())
            labels, ids = part.target.labels[row], part.target.ids[row]
            assert not part.source.waveform[row, n:].any()
            assert not labels[m:].any() and not ids[m:].any()
            np.testing.assert_array_equal(
                part.target.paddings[row], (np.arange(len(labels)) >= m).astype(np.float32)
            )
            np.testing.assert_array_equal(part.target.weights[row], 1 - part.target.paddings[row])
            if i == feed_lib.FILL:
                assert not n and not m and not part.row_weight[row]
                continue
            assert ids[0] == tokenizers.BOS_ID and ids[1:m].tolist() == labels[: m - 1].tolist()
            assert int(i) not in found
            found[int(i)] = part.source.waveform[row, :n], labels[:m].tolist()
    return found


def _Each(batches):
    return [Rows([batch]) for batch in batches]


def test_each_utterance_comes_as_it_is(data_folder):
    WriteFiles(data_folder)
    inputs = Params().Instantiate()
    batches = Take(inputs, train=False, replicas=2)
    found = Rows(batches)
    assert sorted(found) == list(range(24)) and len(batches) > 3
    for i, (waveform, labels) in found.items():
        np.testing.assert_array_equal(waveform, TONES[i].astype(np.float32) / 32768)
        np.testing.assert_array_equal(waveform, inputs.Waveform(i))
        assert labels == [*inputs.tokenizer.Encode([TEXTS[i]])[0], tokenizers.EOS_ID]
        assert inputs.Strings(i) == {'source': f'u{i}', 'target': TEXTS[i]}
    assert inputs.Vocabulary() == inputs.tokenizer.Fingerprint()


def test_the_budget_is_frames_with_padding(data_folder):
    WriteFiles(data_folder)
    for train in (True, False):
        batches = Take(Params().Instantiate(), 12, train=train)
        for batch in batches:
            part = batch.replicas[0]
            rows, samples = part.source.waveform.shape
            assert rows * samples <= 200 * RATE // 100
            longest = part.source.num_samples.max()
            assert samples == -(-longest // 640) * 640  # 8 frames of 80 samples
        assert max(len(batch.replicas[0].id) for batch in batches) > 3
    frames = sum(-(-len(tone) // 80) for tone in TONES)
    assert sum(batch.num_tokens for batch in batches) == frames
    bounds = Take(Params(bucket_upper_bound=[25, 50]).Instantiate(), train=False)
    assert {b.replicas[0].source.waveform.shape[1] for b in bounds} == {25 * 80, 50 * 80}


def test_records_and_manifests_give_the_same_batches(data_folder):
    WriteFiles(data_folder)
    WriteShards(data_folder)
    files = Params().Instantiate()
    shards = Params(manifest='', file_pattern='shards-*.tfrecord').Instantiate()
    for one, other in zip(Take(files, 10), Take(shards, 10)):
        assert one.state.pop('data') != other.state.pop('data') and one.state == other.state
        for a, b in zip(one.replicas[0].Flatten(), other.replicas[0].Flatten()):
            np.testing.assert_array_equal(a, b)
    assert shards.Strings(7) == files.Strings(7)
    assert shards.Where(13).startswith(
        str(data_folder / 'shards-00001-of-00002.tfrecord, record 1')
    )


def test_other_rates_are_brought_to_one(data_folder):
    WriteFiles(data_folder)
    inputs = Params(sample_rate=16000).Instantiate()
    for i, (waveform, _) in Rows(Take(inputs, train=False)).items():
        assert len(waveform) == 2 * len(TONES[i])
        inner = slice(400, -400)
        np.testing.assert_allclose(
            waveform[::2][inner], TONES[i].astype(np.float32)[inner] / 32768, atol=2e-3
        )


def test_transcripts_are_normalized(data_folder):
    texts = ['Mr. BROWN--aged 40', "  IT'S\u00a0he ", 'caf\u0065\u0301 Caf\u00c9', *TEXTS[3:]]
    WriteFiles(data_folder, texts=texts)
    inputs = Params().Instantiate()
    assert [inputs.Strings(i).target for i in range(3)] == ['mr brown aged', "it's he", 'caf caf']
    inputs = Params(characters=LETTERS + '\u00e9').Instantiate()
    assert inputs.Strings(2).target == 'caf\u00e9 caf\u00e9'
    inputs = Params(tokenizer=tokenizers.ByteTokenizer.Params(), lower_case=False).Instantiate()
    assert inputs.Strings(0).target == 'Mr. BROWN--aged 40'


@pytest.mark.parametrize('speeds', [[1.0], [0.5, 1.0, 1.1]])
def test_what_is_not_trained_on_is_counted_and_evaluated(data_folder, caplog, speeds):
    WriteFiles(data_folder, texts=['', *TEXTS[1:23], ''])
    p = Params(source_max_length=35, target_max_length=20, speeds=speeds)
    inputs = p.Instantiate()
    with caplog.at_level(logging.WARNING):
        batches = Take(inputs, 40)
    seen = {int(i) for batch in batches for i in batch.replicas[0].id}
    frames = [-(-len(tone) // 80) for tone in TONES]
    wanted = {i for i in range(1, 23) if frames[i] <= 35 and len(TEXTS[i]) + 1 <= 20}
    assert seen == wanted and len(wanted) < 20
    assert '2 of 24 utterances have an empty transcript and are not trained on' in caplog.text
    assert 'because the transcript is longer than 20.' in caplog.text
    assert 'because the source is longer than 35.' in caplog.text
    assert sorted(Rows(Take(inputs, train=False))) == list(range(24))
    assert inputs.Strings(23).target == ''


def test_speed_perturbation(data_folder):
    WriteFiles(data_folder)
    p = Params(speeds=[0.8, 1.0, 1.25], tokens_per_batch=400, random_seed=3)
    inputs = p.Instantiate()
    drawn = []
    for batch in Take(inputs, 30):
        part = batch.replicas[0]
        rows, samples = part.source.waveform.shape
        assert (
            rows * samples <= 400 * 80 and samples == -(-part.source.num_samples.max() // 640) * 640
        )
        for i, count, row in zip(part.id, part.source.num_samples, part.source.waveform):
            speed = len(TONES[i]) / count
            drawn.append((batch.epoch, int(i), round(speed, 2)))
            assert min(abs(speed - s) for s in p.speeds) < 0.01
            # The tone goes up with the speed.
            spectrum = np.abs(np.fft.rfft(row[:count] * np.hanning(count)))
            assert abs(np.argmax(spectrum[3:]) + 3 - (200 + 10 * i) * speed * count / RATE) < 1.5
    assert len({speed for _, _, speed in drawn}) >= 3
    by_id = {}
    for epoch, i, speed in drawn:
        by_id.setdefault(i, set()).add((epoch, speed))
    assert any(len({speed for _, speed in seen}) > 1 for seen in by_id.values())  # anew each epoch
    whole = Rows(Take(inputs, train=False))
    assert all(len(whole[i][0]) == len(TONES[i]) for i in range(24))


def test_draws_know_nothing_of_workers_or_interruptions(data_folder):
    WriteFiles(data_folder)
    p = Params(speeds=[0.9, 1.0, 1.1], noise_decibels=[10.0, 20.0], tokens_per_batch=500)
    batches = Take(p.Instantiate(), 10)
    wanted = _Each(batches)
    later = Take(p.Instantiate(), 5, start=batches[4].state)
    workers = [Take(p.Instantiate(), 10, num_workers=2, worker=w, replicas=2) for w in (0, 1)]
    for found in ([*wanted[:5], *_Each(later)], _Each(workers[0])):
        for one, other in zip(wanted, found):
            for i in other:
                np.testing.assert_array_equal(one[i][0], other[i][0])
    widths = [
        {p.source.waveform.shape[1] for b in pair for p in b.replicas} for pair in zip(*workers)
    ]
    assert all(len(width) == 1 for width in widths)
    for whole, *parts in zip(wanted, *workers):
        assert set(whole) == {i for part in parts for i in Rows([part])}


@pytest.mark.parametrize('decibels', [-5.0, 10.0, 30.0])
def test_noise_has_the_level_that_is_asked_for(decibels):
    signal = 0.1 * np.sin(np.arange(40_000) / 9).astype(np.float32)
    noisy = perturbation.AddNoise(signal, [decibels, decibels], 1, 2, 3)
    noise = noisy - signal
    ratio = 10 * np.log10(np.mean(signal**2) / np.mean(noise**2))
    assert abs(ratio - decibels) < 0.2
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    low, high = spectrum[100:10_000].mean(), spectrum[10_000:].mean()
    assert 0.9 < low / high < 1.1  # white
    np.testing.assert_array_equal(noisy, perturbation.AddNoise(signal, [decibels] * 2, 1, 2, 3))
    for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert (perturbation.AddNoise(signal, [decibels] * 2, *key) != noisy).any()


def test_noise_is_drawn_from_its_range_and_leaves_silence():
    signal = 0.1 * np.sin(np.arange(4000) / 9).astype(np.float32)
    levels = [
        10 * np.log10(np.mean(signal**2) / np.mean((noisy - signal) ** 2))
        for noisy in (perturbation.AddNoise(signal, [5.0, 25.0], 0, 0, i) for i in range(60))
    ]
    assert 4.5 < min(levels) < 8 and 22 < max(levels) < 25.5
    silence = np.zeros(100, np.float32)
    assert not perturbation.AddNoise(silence, [0.0, 0.0], 0, 0, 0).any()
    assert not len(perturbation.AddNoise(silence[:0], [0.0, 0.0], 0, 0, 0))


def test_speeds_are_equally_likely():
    drawn = [perturbation.Speed([0.9, 1.0, 1.1], 0, 5, i) for i in range(600)]
    counts = [drawn.count(speed) for speed in set(drawn)]
    assert len(counts) == 3 and min(counts) > 150


@pytest.mark.parametrize('damage', ['half', 'missing', 'empty', 'longer'])
def test_bad_files_are_counted_or_stop_the_input(data_folder, damage, caplog):
    columns = ('id', 'file', 'transcript', 'samples', 'sample_rate')
    WriteFiles(data_folder, columns)
    path = data_folder / 'clips' / '05.wav'
    data = path.read_bytes()
    if damage == 'missing':
        path.unlink()
    else:
        longer = audio.EncodeWav(np.zeros(9999, np.int16), RATE)
        path.write_bytes({'half': data[: len(data) // 2], 'empty': b'', 'longer': longer}[damage])
    reason = {
        'half': 'cut short',
        'missing': 'No data file',
        'empty': r'the file is empty \(0 bytes\)',
        'longer': 'it holds 9,999 samples, its index says',
    }[damage]
    with pytest.raises(source.BadRecordError, match=rf'clips/05.wav \(.*line 7\): {reason}.*stopp'):
        Take(Params().Instantiate(), train=False)
    with caplog.at_level(logging.WARNING):
        found = Rows(Take(Params(max_bad_records=1).Instantiate(), train=False))
    assert sorted(found) == [i for i in range(24) if i != 5]
    assert '1 of 24 records skipped' in caplog.text


def test_a_manifest_is_separated_by_tabs_and_line_feeds_alone(data_folder):
    texts = ['a\u2028b', 'c\u0085d', '\u00a0e', 'f\x1cg', '\x0bh \x0c']
    for i in range(len(texts)):
        (data_folder / f'{i}\u00a0.wav').write_bytes(audio.EncodeWav(TONES[i], RATE))
    rows = [f'{i}\u00a0.wav\t{text}' for i, text in enumerate(texts)]
    (data_folder / 'odd.tsv').write_bytes('\r\n'.join(['file\ttranscript', *rows]).encode())
    held = manifests.Manifest(str(data_folder / 'odd.tsv'))
    assert [entry.transcript for entry in held.entries] == texts
    assert [entry.samples for entry in held.entries] == [len(TONES[i]) for i in range(5)]


def test_clipped_utterances_are_counted_once_each(data_folder, caplog):
    WriteFiles(data_folder)
    rows = []
    for i in range(24):
        loud = TONES[i].astype(np.float32) / 32768 + (0.9 if i % 2 else 0.0)
        soundfile.write(data_folder / f'{i:02d}.wav', loud, RATE, subtype='FLOAT')
        rows.append((f'{i:02d}.wav', TEXTS[i]))
    manifests.Write(str(data_folder / 'all.tsv'), rows, ('file', 'transcript'))
    inputs = Params(num_batcher_threads=1).Instantiate()
    for _ in range(2):
        assert len(Rows(Take(inputs, train=False))) == 24
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and '1 of 24 examples so far' in said[0]
    assert '10 of 24 examples so far' in said[1]
    assert re.match(r'\d\d.wav .*: \d+ samples lie beyond full scale and are clipped', said[0])


def test_a_damaged_record_is_named(data_folder):
    paths = WriteShards(data_folder)
    with open(paths[1], 'r+b') as file:
        file.seek(300)
        file.write(b'xxxx')
    p = Params(manifest='', file_pattern='shards-*.tfrecord')
    with pytest.raises(source.BadRecordError, match='00001-of-00002.tfrecord, record 0 .*CRC'):
        Take(p.Instantiate(), train=False)
    records.WriteShards(iter([(b'hello', (8000, 8000, 3))]), str(data_folder / 'odd'), 1, 1,
                        utterances.LENGTH_NAMES)  # fmt: skip
    with pytest.raises(source.BadRecordError, match='odd-.*record 0 .*no tf.train.Example with'):
        Take(p.Set(file_pattern='odd-*.tfrecord').Instantiate(), train=False)
    records.WriteShards(iter([(b'hello', (3, 3))]), str(data_folder / 'text'), 1, 1, ('a', 'b'))
    with pytest.raises(
        ValueError, match=r"columns \('a', 'b'\); of utterances \('samples'.*prepare"
    ):
        p.Set(file_pattern='text-*.tfrecord').Instantiate()


@pytest.mark.parametrize(
    ('values', 'error'),
    [
        ({'manifest': ''}, 'set either file_pattern or manifest'),
        ({'file_pattern': 'x'}, 'set either file_pattern or manifest'),
        ({'sample_rate': 16050}, 'sample_rate=16050 must be a multiple of 100 hertz'),
        ({'speeds': []}, r'speeds=\[\] must be one number or more'),
        ({'speeds': [1.0, 0.0]}, r'speeds\[1\]=0.0 must be at least 0.1 and at most 10'),
        (
            {'noise_decibels': [10.0]},
            r'=\[10.0\] must be \[\] or \[lowest, highest\]',
        ),
        ({'noise_decibels': [20.0, 10.0]}, 'noise_decibels=.* must be'),
        ({'source_max_length': 0}, 'source_max_length=0 must be at least 1'),
        ({'target_max_length': 1}, 'target_max_length=1 must be at least 2'),
    ],
)
def test_params_that_do_not_fit(values, error):
    with pytest.raises(hyperparams.ConfigError, match=error):
        Params(**values).Instantiate()


def test_own_files(data_folder, monkeypatch):
    WriteFiles(data_folder)
    paths = [str(data_folder / 'clips' / name) for name in ('03.wav', '00.flac', '04.flac')]
    listed = data_folder / 'mine.txt'
    listed.write_text('\n'.join(paths) + '\n\n')
    one = transcribed.SpeechFilesInput.FromParallel(Params(batch_size=2), paths[0])
    assert one.batch_size == 2 and one.sample_rate == RATE
    several = transcribed.SpeechFilesInput.FromParallel(Params(), str(listed))
    assert one.Instantiate().NumExamples() == 1
    inputs = several.Instantiate()
    parts = [part for batch in Take(inputs, train=False) for part in batch.replicas]
    assert all('target' not in part for part in parts)
    for part in parts:
        for row, i in enumerate(part.id):
            found = part.source.waveform[row, : part.source.num_samples[row]]
            np.testing.assert_array_equal(found, inputs.Waveform(i))
            np.testing.assert_array_equal(found, TONES[[3, 0, 4][i]].astype(np.float32) / 32768)
            assert inputs.Strings(i) == {'source': paths[i]}
    for path, wanted in ((paths[0], paths[:1]), (str(listed), paths)):
        windows = list(transcribed.SpeechFilesInput.Open(path).Windows(2))
        assert [w.Get(i) for w in windows for i in range(len(w))] == wanted
        assert several.Instantiate(lines=windows[0]).NumExamples() == min(2, len(wanted))
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(paths[1].encode() + b'\n\n')))
    assert next(transcribed.SpeechFilesInput.Open('-').Windows(9)).Get(0) == paths[1]
    listed.write_text(paths[0] + '\nnone.wav\n')
    with pytest.raises(source.BadRecordError, match='none.wav: No such file'):
        several.Instantiate()


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('', 'is empty: it lists no audio file'),
        ('id\tfile\ttranscript\n', 'is empty: it lists no audio file'),
        (
            'path\ttext\na\tb\n',
            r'line 1: the header names .*file and transcript must be among them',
        ),
        ('file\ttranscript\nclips/00.flac\n', 'line 2: 1 values in 2 columns'),
        (
            'file\ttranscript\tsamples\tsample_rate\nclips/00.flac\ta\t0\t8000\n',
            "line 2: samples must be an integer above 0, got '0'",
        ),
        (
            'file\ttranscript\nclips/00.flac\ta\nclips/00.flac\tb\n',
            "line 3: the id '00' stands in line 2 too",
        ),
    ],
)
def test_manifests_that_do_not_fit(data_folder, text, error):
    WriteFiles(data_folder)
    (data_folder / 'all.tsv').write_text(text)
    with pytest.raises(ValueError, match=f'all.tsv.*{error}'):
        Params().Instantiate()


def test_lengths_are_read_once_and_again_when_a_file_changes(data_folder, monkeypatch):
    WriteFiles(data_folder)
    path = str(data_folder / 'all.tsv')
    first = manifests.Manifest(path).entries
    assert [(e.samples, e.sample_rate) for e in first] == [(len(t), RATE) for t in TONES]
    reads = []
    read = audio.ReadHeader
    monkeypatch.setattr(audio, 'ReadHeader', lambda p: reads.append(p) or read(p))
    assert manifests.Manifest(path).entries == first and not reads
    (data_folder / 'clips' / '03.wav').write_bytes(audio.EncodeWav(TONES[3][:99], RATE))
    assert manifests.Manifest(path).entries[3].samples == 99 and reads


def test_manifests_hold_no_tabs(tmp_path):
    with pytest.raises(ValueError, match='holds a tab'):
        manifests.Write(str(tmp_path / 'x.tsv'), [('a', 'b\tc')], ('file', 'transcript'))


def test_draws_of_augmentation_share_no_stream_with_the_order():
    ours = {perturbation._SPEED, perturbation._NOISE}
    assert not ours & {order.EXAMPLES, order.BATCHES, order.MIXTURE} and len(ours) == 2

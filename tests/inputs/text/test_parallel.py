"""Translation pairs from lines and records; every bad input with its error and nothing lost."""

import itertools
import json
import logging
import os

import numpy as np
import pytest

from lingvo_lite import hyperparams
from lingvo_lite.inputs import feed as feed_lib, records, source
from lingvo_lite.inputs.text import pairs, parallel, tokenizers

WORDS = 'the old man and a young dog walk over small green hills towards some quiet water'.split()
PAIRS = [
    (' '.join(WORDS[: 1 + i % 13]), ' '.join(reversed(WORDS[i % 5 : 2 + i % 11 + i % 5])))
    for i in range(60)
]


def WriteLines(folder, some=PAIRS, ending='\n'):
    for side, name in enumerate(('train.en', 'train.de')):
        lines = [pair[side].encode('utf-8', 'surrogateescape') for pair in some]
        (folder / name).write_bytes(b''.join(line + ending.encode() for line in lines))


def Params(**values):
    p = parallel.ParallelTextInput.Params()
    p.Set(source_file='train.en', target_file='train.de', tokens_per_batch=1000)
    return p.Set(**values)


def Bpe(**values):
    p = tokenizers.SentencePieceTokenizer.Params()
    return p.Set(vocab_size=60, model_type='bpe', train_files=['train.en', 'train.de'], **values)


def WriteShards(folder, tokenizer=None, some=PAIRS):
    tokenizer = tokenizer or tokenizers.ByteTokenizer.Params().Instantiate()
    written = (
        (pairs.EncodePair(*pair), [len(row) for row in tokenizer.Encode(pair)]) for pair in some
    )
    meta = {'tokenizer': tokenizer.Fingerprint()}
    prefix = str(folder / 'train')
    return records.WriteShards(written, prefix, len(some), 2, pairs.LENGTH_NAMES, meta)


def Take(inputs, count=1000, **kwargs):
    with inputs.Batches(**kwargs) as feed:
        return list(itertools.islice(feed, count))


def Examples(batches):
    """{id: (source ids, target ids, labels, weights)} without padding."""
    found = {}
    for part in (part for batch in batches for part in batch.replicas):
        for row, i in enumerate(part.id):
            if i == feed_lib.FILL:
                continue
            s, t = part.source, part.target
            n, m = int((1 - s.paddings[row]).sum()), int((1 - t.paddings[row]).sum())
            assert not s.ids[row, n:].any() and s.paddings[row, n:].all()
            assert not t.ids[row, m:].any() and not t.labels[row, m:].any()
            np.testing.assert_array_equal(t.weights[row], 1 - t.paddings[row])
            assert int(i) not in found
            found[int(i)] = tuple(
                x.tolist() for x in (s.ids[row, :n], t.ids[row, :m], t.labels[row, :m])
            )
    return found


def Expected(tokenizer, some=PAIRS):
    wanted = {}
    for i, pair in enumerate(some):
        left, right = tokenizer.Encode(pair)
        wanted[i] = ([*left, 2], [1, *right], [*right, 2])
    return wanted


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_each_pair_comes_as_its_ids(data_folder, kind):
    WriteLines(data_folder)
    p = Params() if kind == 'bytes' else Params(tokenizer=Bpe())
    inputs = p.Instantiate()
    assert inputs.NumExamples() == 60
    batches = Take(inputs, train=False)
    assert Examples(batches) == Expected(inputs.tokenizer)
    assert sum(batch.num_examples for batch in batches) == 60
    tokens = sum(len(s) + len(t) for s, t, _ in Examples(batches).values())
    assert sum(batch.num_tokens for batch in batches) == tokens
    for batch in batches:
        part = batch.replicas[0]
        assert part.source.ids.size + part.target.ids.size <= 1000
        assert part.source.ids.dtype == part.target.labels.dtype == np.int32
        assert part.source.paddings.dtype == part.row_weight.dtype == np.float32


def test_records_and_lines_give_the_same_batches(data_folder):
    WriteLines(data_folder)
    WriteShards(data_folder)
    lines = Params().Instantiate()
    shards = Params(source_file='', target_file='', file_pattern='train-*.tfrecord').Instantiate()
    for one, other in zip(Take(lines, 20), Take(shards, 20)):
        assert one.state.pop('data') != other.state.pop('data') and one.state == other.state
        for a, b in zip(one.replicas[0].Flatten(), other.replicas[0].Flatten()):
            np.testing.assert_array_equal(a, b)
    assert shards.Strings(7) == lines.Strings(7) == dict(zip(('source', 'target'), PAIRS[7]))


def test_lengths_in_sidecars_spare_the_scan_only_for_their_own_tokenizer(data_folder, cache_folder):
    WriteShards(data_folder)
    WriteLines(data_folder)
    p = Params(source_file='', target_file='', file_pattern='train-*.tfrecord')
    assert len(Examples(Take(p.Instantiate(), train=False))) == 60
    assert not (cache_folder / 'tokens').exists()
    inputs = p.Set(tokenizer=Bpe()).Instantiate()
    assert Examples(Take(inputs, train=False)) == Expected(inputs.tokenizer)
    assert (cache_folder / 'tokens').exists()


def test_ids_from_the_cache_are_those_encoded_anew(data_folder, monkeypatch):
    WriteLines(data_folder)
    first = Examples(Take(Params().Instantiate(), train=False))

    def Fail(self, texts):
        raise AssertionError('encoded again')

    monkeypatch.setattr(tokenizers.ByteTokenizer, 'Encode', Fail)
    assert Examples(Take(Params().Instantiate(), train=False)) == first


def test_large_corpora_keep_no_ids_and_give_the_same(data_folder, monkeypatch):
    WriteLines(data_folder)
    monkeypatch.setattr('lingvo_lite.inputs.text.token_table._KEPT_TOKENS', 100)
    inputs = Params().Instantiate()
    assert Examples(Take(inputs, train=False)) == Expected(inputs.tokenizer)


def test_changed_text_is_counted_anew(data_folder):
    WriteLines(data_folder)
    Take(Params().Instantiate(), train=False)
    WriteLines(data_folder, PAIRS[:5] + [('x', 'y z')])
    assert len(Examples(Take(Params().Instantiate(), train=False))) == 6


def test_training_goes_on_exactly_with_random_segmentation(data_folder):
    WriteLines(data_folder)
    p = Params(tokenizer=Bpe(sampling_alpha=0.3), tokens_per_batch=200)
    whole = Take(p.Instantiate(), 60)
    state = json.loads(json.dumps(whole[9].state))
    for wanted, got in zip(whole[10:], Take(p.Instantiate(), 50, start=state)):
        for a, b in zip(wanted.replicas[0].Flatten(), got.replicas[0].Flatten()):
            np.testing.assert_array_equal(a, b)


def test_random_segmentation_is_new_each_epoch_and_within_the_budget(data_folder):
    WriteLines(data_folder)
    inputs = Params(tokenizer=Bpe(sampling_alpha=0.3), tokens_per_batch=400).Instantiate()
    batches = Take(inputs, 60)
    epochs = [Examples([b for b in batches if b.epoch == e]) for e in (0, 1)]
    assert set(epochs[0]) == set(epochs[1]) == set(range(60))
    assert sum(epochs[0][i] != epochs[1][i] for i in range(60)) > 30
    for i, (left, _, right) in epochs[0].items():
        assert inputs.tokenizer.Decode([left, right]) == list(PAIRS[i])
    for batch in batches:
        part = batch.replicas[0]
        assert part.source.ids.size + part.target.ids.size <= 400
    assert Examples(Take(inputs, train=False)) == Expected(inputs.tokenizer)


def test_random_segmentation_does_not_depend_on_workers(data_folder):
    WriteLines(data_folder)
    p = Params(tokenizer=Bpe(sampling_alpha=0.3), tokens_per_batch=400)
    alone = Examples(Take(p.Instantiate(), 5))
    shared = {}
    for worker in range(2):
        part = p.Instantiate().Batches(num_workers=2, worker=worker, replicas=2)
        shared.update(Examples(itertools.islice(part, 5)))
        part.Close()
    assert shared == alone


def test_too_long_is_skipped_in_training_and_kept_in_evaluation(data_folder, caplog):
    WriteLines(data_folder)
    inputs = Params(source_max_length=40, target_max_length=30).Instantiate()
    fitting = {
        i
        for i, (left, right) in enumerate(PAIRS)
        if len(left.encode()) + 1 <= 40 and len(right.encode()) + 1 <= 30
    }
    first = [b for b in Take(inputs, 60) if b.epoch == 0]
    assert set(Examples(first)) == fitting and 0 < len(fitting) < 60
    assert len(Examples(Take(inputs, train=False))) == 60
    too_long = sum(len(left.encode()) + 1 > 40 for left, _ in PAIRS)
    assert f'{too_long} of 60 examples are not trained on, because the source is' in caplog.text


def test_empty_lines_are_counted_and_skipped_in_training_only(data_folder, caplog):
    some = [('a b', 'c'), ('', 'd'), ('e', '   '), ('f', 'g'), ('', '')]
    WriteLines(data_folder, some)
    inputs = Params().Instantiate()
    first = [b for b in Take(inputs, 4) if b.epoch == 0]
    assert set(Examples(first)) == {0, 3}
    assert '3 of 5 examples have an empty side and are not trained on' in caplog.text
    assert 'train.en, line 2' in caplog.text
    caplog.clear()
    held = Examples(Take(inputs, train=False))
    assert held == Expected(inputs.tokenizer, [(a, b.strip()) for a, b in some])
    assert held[4] == ([2], [1], [2])
    assert '3 of 5 examples have an empty side; they are kept' in caplog.text


def test_different_line_counts(data_folder):
    WriteLines(data_folder)
    (data_folder / 'train.de').write_text('eins\nzwei\n')
    with pytest.raises(ValueError) as error:
        Params().Instantiate()
    for part in ('train.en has 60 lines and', 'train.de 2', 'must be the translation'):
        assert part in str(error.value)


BAD = [*PAIRS[:20], ('gut', 'sch\udcf6n'), *PAIRS[20:30]]


def test_not_utf8_stops_by_default(data_folder):
    WriteLines(data_folder, BAD)
    inputs = Params().Instantiate()
    with pytest.raises(source.BadRecordError) as error:
        Take(inputs)
    offset = sum(len(pair[1].encode()) + 1 for pair in PAIRS[:20]) + 3
    assert f'train.de, line 21 (byte {offset:,}): not UTF-8' in str(error.value)
    assert '1 of 31 records skipped; more than input.max_bad_records=0' in str(error.value)
    with pytest.raises(source.BadRecordError):  # the second start finds the counts in the cache
        Take(Params().Instantiate(), train=False)


def test_not_utf8_is_skipped_where_allowed_and_nothing_else_is_lost(data_folder, caplog):
    WriteLines(data_folder, BAD)
    for train in (True, False):
        inputs = Params(max_bad_records=1).Instantiate()
        batches = [b for b in Take(inputs, 20, train=train) if b.epoch == 0]
        assert set(Examples(batches)) == set(range(31)) - {20}
    assert 'line 21' in caplog.text and '1 of 31 records skipped' in caplog.text


@pytest.mark.parametrize('name', ['train.en', 'train.de'])
def test_an_empty_file(data_folder, name):
    WriteLines(data_folder)
    (data_folder / name).write_bytes(b'')
    with pytest.raises(ValueError, match=rf'{name} is empty'):
        Params().Instantiate()


def test_a_truncated_tfrecord(data_folder):
    path = WriteShards(data_folder)[1]
    os.truncate(path, os.path.getsize(path) - 3)
    with pytest.raises(ValueError, match='00001-of-00002.tfrecord is cut short'):
        Params(source_file='', target_file='', file_pattern='train-*.tfrecord').Instantiate()


def test_a_damaged_record_costs_only_itself_where_allowed(data_folder):
    path = WriteShards(data_folder)[1]
    with open(path, 'r+b') as file:
        file.seek(14)
        file.write(b'\xff')
    p = Params(source_file='', target_file='', file_pattern='train-*.tfrecord')
    with pytest.raises(source.BadRecordError, match=r'record 0 \(byte 0\): CRC does not match'):
        Take(p.Instantiate(), train=False)
    allowed = p.Set(max_bad_records=1).Instantiate()
    assert set(Examples(Take(allowed, train=False))) == set(range(60)) - {30}


def test_records_of_another_kind(data_folder):
    written = ((b'\x01\x02 no example', [3, 3]) for _ in range(3))
    meta = {'tokenizer': tokenizers.ByteTokenizer.Params().Instantiate().Fingerprint()}
    records.WriteShards(written, str(data_folder / 'x'), 3, 1, pairs.LENGTH_NAMES, meta)
    p = Params(source_file='', target_file='', file_pattern='x-*.tfrecord')
    with pytest.raises(source.BadRecordError, match='record [0-2] .*: no tf.train.Example with'):
        Take(p.Instantiate())


def test_missing_files_and_who_makes_them(data_folder):
    with pytest.raises(FileNotFoundError, match='tools/prepare_wmt.py makes this file'):
        Params(prepared_by='tools/prepare_wmt.py').Instantiate()


@pytest.mark.parametrize(
    'values, message',
    [
        (dict(target_file=''), 'set source_file and target_file'),
        (dict(file_pattern='x'), 'set source_file and target_file'),
        (dict(source_file='', target_file=''), 'set source_file and target_file'),
        (dict(source_max_length=1), 'source_max_length=1 must be at least 2'),
        (dict(target_max_length=0), 'target_max_length=0 must be at least 2'),
    ],
)
def test_params_that_do_not_fit(values, message):
    with pytest.raises(hyperparams.ConfigError, match=message):
        Params(**values).Instantiate()


def test_strings_of_no_example(data_folder):
    WriteLines(data_folder)
    inputs = Params().Instantiate()
    for index in (-1, 60):
        with pytest.raises(IndexError):
            inputs.Strings(index)


def test_pairs_survive_being_a_record():
    pair = ('Ein \u2028 Tröpfchen', '')
    assert pairs.DecodePair(pairs.EncodePair(*pair)) == pair


def test_nothing_is_logged_about_clean_data(data_folder, caplog):
    WriteLines(data_folder)
    with caplog.at_level(logging.WARNING):
        Take(Params().Instantiate(), 3)
    assert not caplog.records

"""Several inputs in one: shares, ids, texts, going on."""

import itertools
import json

import numpy as np
import pytest

from lingvo_lite import hyperparams
from lingvo_lite.inputs import mixed_input
from lingvo_lite.inputs.text import parallel, tokenizers


def Params(folder, weights=(2, 1), **values):
    inner = []
    for name, count in (('a', 20), ('b', 7)):
        (folder / f'{name}.en').write_text(''.join(f'{name} {i}\n' for i in range(count)))
        (folder / f'{name}.de').write_text(''.join(f'{name * 2} {i}\n' for i in range(count)))
        p = parallel.ParallelTextInput.Params()
        inner.append(p.Set(source_file=f'{name}.en', target_file=f'{name}.de', batch_size=3))
    return mixed_input.MixedInput.Params().Set(inputs=inner, weights=list(weights), **values)


def Take(inputs, count, **kwargs):
    with inputs.Batches(**kwargs) as feed:
        return list(itertools.islice(feed, count))


def test_rows_texts_and_places_belong_together(data_folder):
    inputs = Params(data_folder).Instantiate()
    assert inputs.NumExamples() == 27
    for batch in Take(inputs, 20):
        part = batch.replicas[0]
        for i, row, padding in zip(part.id, part.source.ids, part.source.paddings):
            assert inputs.tokenizer.Decode([row[padding == 0]]) == [inputs.Strings(int(i)).source]
    assert inputs.Strings(21).target == 'bb 1' and 'b.en, line 2' in inputs.Where(21)


def test_shares_follow_the_weights(data_folder):
    batches = Take(Params(data_folder).Instantiate(), 600)
    share = np.mean([batch.replicas[0].id[0] < 20 for batch in batches])
    assert share == pytest.approx(2 / 3, abs=0.06)


@pytest.mark.parametrize('stop', [1, 13])
def test_going_on_equals_never_having_stopped(data_folder, stop):
    p = Params(data_folder)
    whole = Take(p.Instantiate(), 30)
    state = json.loads(json.dumps(whole[stop - 1].state))
    for wanted, got in zip(whole[stop:], Take(p.Instantiate(), 30 - stop, start=state)):
        assert (wanted.index, wanted.epoch, wanted.state) == (got.index, got.epoch, got.state)
        for a, b in zip(wanted.replicas[0].Flatten(), got.replicas[0].Flatten()):
            np.testing.assert_array_equal(a, b)


def test_workers_share_each_batch(data_folder):
    alone = Take(Params(data_folder).Instantiate(), 15)
    parts = [Take(Params(data_folder).Instantiate(), 15, num_workers=2, worker=w) for w in range(2)]
    for whole, left, right in zip(alone, *parts):
        ids = [*left.replicas[0].id, *right.replicas[0].id]
        assert sorted(i for i in ids if i >= 0) == sorted(whole.replicas[0].id)


def test_each_epoch_of_each_input_is_segmented_anew(data_folder):
    p = Params(data_folder, weights=(1, 5))
    for inner in p.inputs:
        inner.tokenizer = tokenizers.SentencePieceTokenizer.Params().Set(
            vocab_size=40, model_type='bpe', train_files=['a.en', 'b.en'], sampling_alpha=0.5
        )
        inner.Set(batch_size=7)
    seen = {}
    for batch in Take(p.Instantiate(), 40):
        part = batch.replicas[0]
        if part.id[0] >= 20:
            order = np.argsort(part.id)
            seen.setdefault(part.source.ids[order].tobytes(), []).append(batch.index)
    assert len(seen) > 10


def test_evaluation_is_refused(data_folder):
    with pytest.raises(ValueError, match='one by one'):
        Params(data_folder).Instantiate().Batches(train=False)


@pytest.mark.parametrize('weights', [(1,), (1, 0), ()])
def test_weights_that_do_not_fit(data_folder, weights):
    with pytest.raises(hyperparams.ConfigError, match='weights'):
        Params(data_folder, weights=weights).Instantiate()

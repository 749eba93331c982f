"""Whole experiments keep the promises of the plan: company, odd utterances, going on."""

from __future__ import annotations

import re
import types

import numpy as np
import pytest
import tensorflow as tf
import tiny_tasks

from lingvo_lite import registry, step
from lingvo_lite.inputs.text import tokenizers
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.runs.checkpoints import tensors
from lingvo_lite.testing import fake_data
from lingvo_lite.training import evaluation, learner

EXAMPLES = range(tiny_tasks.EXAMPLES)

# One of each kind of encoder and decoder; all others are slow.
HEARD = tiny_tasks.Marked(
    # M and L are S, only larger.
    [name for name in tiny_tasks.Names('asr') if not re.search('Conformer[ML]', name)],
    fast=[
        'asr.LibrispeechMini',  # dense blocks, CTC
        'asr.LibrispeechDeepSpeech2Medium',  # convolutions, GRU, row convolution, CTC
        'asr.LibrispeechConformerS',  # CTC
        'asr.Librispeech',  # convolutions, LSTMs in both directions, attention
        'asr.LibrispeechConformerSLas',  # attention
    ],
)


class Inputs:
    """An input whose tokens are words, and whose references are given."""

    def __init__(self, vocab_size, references):
        words = [f'w{n}' for n in range(vocab_size - tokenizers.NUM_SPECIAL)]
        self.tokenizer = tokenizers.WordTokenizer.Params().Set(words=words).Instantiate()
        self._references = references

    def Strings(self, index):
        return NestedMap(source=f'{index}.flac', target=self._references[index])


def OnOne(task, fn):
    return evaluation.OnReplicas(task, tf.distribute.get_strategy(), fn, 'test')


def Logits(task, predictions):
    return (
        predictions.logits
        if 'logits' in predictions
        else task.decoder.softmax.Logits(predictions.x)
    )


@pytest.fixture(params=HEARD, scope='module')
def heard(request):
    """A recognizer: its task, Batch(ids, pad), and the functions that tests share."""
    p = tiny_tasks.Quiet(tiny_tasks.Params(request.param))
    if 'max_ratio' in p.search:
        p.search.Set(max_ratio=0.0, max_steps=8)
    task = tiny_tasks.Awake(p)

    def Forward(batch):
        predictions = task.ComputePredictions(batch)
        loss = task.ComputeLoss(predictions, batch).per_example['loss']
        return NestedMap(logits=Logits(task, predictions), loss=loss, **Paddings(predictions))

    def Paddings(predictions):
        return {'paddings': predictions.paddings} if 'paddings' in predictions else {}

    rate = int(p.frontend.sample_rate)
    return types.SimpleNamespace(
        task=task,
        Batch=lambda ids, pad=0: tiny_tasks.Speech(ids, rate, pad),
        forward=OnOne(task, Forward),
        decoder=evaluation.Decoder(task, tf.distribute.get_strategy()),
    )


class TestTheBatchDoesNotMatter:
    def test_logits_and_losses(self, heard):
        together = heard.forward([heard.Batch(EXAMPLES)])[0]
        real = (
            together.paddings if 'paddings' in together else heard.Batch(EXAMPLES).target.paddings
        )
        assert np.ptp(together.logits, axis=-1).max() > 1
        for i in (0, 1, 2, *EXAMPLES[-3:]):
            length = int((real[i] < 0.5).sum())
            assert length >= 1
            wanted = together.logits[i, :length]
            for pad in (0, 417):
                alone = heard.forward([heard.Batch([i], pad)])[0]
                if 'paddings' in alone:
                    assert (alone.paddings[0] < 0.5).sum() == length
                np.testing.assert_allclose(alone.logits[0, :length], wanted, atol=1e-4, rtol=1e-4)
                np.testing.assert_allclose(alone.loss[0], together.loss[i], atol=1e-4, rtol=1e-4)
        assert heard.forward.num_traces == 1

    def test_hypotheses_times_and_error_rates(self, heard):
        def Decode(size):
            """All utterances, so many at a time."""
            for first in EXAMPLES[::size]:
                ids = EXAMPLES[first : first + size]
                out = heard.decoder.DecodeStep([heard.Batch(ids, pad=size % 3)])[0]
                out.id = np.array(ids)
                yield out

        def Score(decoded, references):
            """The records, and all error rates."""
            inputs = Inputs(tiny_tasks.VocabSize(heard.task.params), references)
            metrics = heard.task.CreateDecoderMetrics()
            process = heard.task.PostProcessDecodeOut
            done = [record for out in decoded for record in process(out, inputs, metrics)]
            return done, [metric.Summary() for metric in metrics.values()]

        decoded = list(Decode(32))
        blind, _ = Score(decoded, [''] * len(EXAMPLES))
        texts = [each['hypotheses'][0] for each in blind]
        assert len(set(texts)) > len(EXAMPLES) // 4
        # References that are near: a word is missing, another is added.
        references = [' '.join([*text.split()[1:], 'w0']) for text in texts]
        wanted, rates = Score(decoded, references)
        assert 0.1 < rates[0]['wer'] < 1
        for size in (1, 7):
            found, again = Score(Decode(size), references)
            assert again == rates, size
            for one, other in zip(found, wanted):
                assert Best(one) == Best(other), size
                score = other['scores'][0]
                assert one['scores'][0] == pytest.approx(score, abs=1e-4, rel=2e-5)
        assert heard.decoder.num_traces == 1


def Best(record):
    """A record without scores and what comes second."""
    return {**record, 'scores': None, 'hypotheses': record['hypotheses'][:1]}


class TestOddUtterances:
    """0 is one sample without words, 1 a frame, 2 silence, 4 is without words."""

    @pytest.mark.parametrize(
        'ids',
        [[0, 2, tiny_tasks.FILL, 1, 9], [0], [2, 3], [tiny_tasks.FILL, tiny_tasks.FILL]],
        ids=['mixed', 'a_sample', 'silence', 'nothing'],
    )
    def test_all_is_finite(self, heard, ids):
        batch = heard.Batch(ids).Transform(tf.constant)
        logits, out, gradients = Train(heard.task, batch)
        assert np.isfinite(logits).all()
        total, weight = out.terms['loss']
        assert np.isfinite(total) and np.isfinite(out.per_example['loss']).all()
        assert (weight > 0) == (total > 0) == (ids[0] != tiny_tasks.FILL)
        for path, gradient in gradients.items():
            assert np.isfinite(gradient).all(), path
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients.values()))
        assert (norm > 0) == (ids[0] != tiny_tasks.FILL)

    def test_a_text_that_does_not_fit_is_counted_and_left_out(self, heard):
        batch = heard.Batch([0, 7])
        for value in batch.target.Flatten():
            value[0] = value[1]  # three words in one sample
        _, out, _ = Train(heard.task, batch.Transform(tf.constant))
        total, weight = out.terms['loss']
        if 'too_long' in out.metrics:
            assert [float(x) for x in out.metrics['too_long']] == [1, 2]
            assert weight == 1 and total == out.per_example['loss'][1] > 0
        else:
            assert weight == 2 * (3 + 1) and np.isfinite(total)


def Train(task, batch):
    """(logits, loss, {path: gradient}); the moving averages stay."""
    before = {path: v.numpy() for path, v in task.AllVariables().items()}
    with step.Context(training=True), tf.GradientTape() as tape:
        predictions = task.ComputePredictions(batch)
        logits = Logits(task, predictions)
        out = task.ComputeLoss(predictions, batch)
    gradients = tape.gradient(out.terms['loss'][0], task.TrainableVariables())
    for path, variable in task.AllVariables().items():
        assert np.isfinite(variable).all(), path
        variable.assign(before[path])
    return logits, out, {k: tf.convert_to_tensor(g) for k, g in gradients.items()}


RESUMED = tiny_tasks.Marked(
    # The others draw nothing over activations; of mt, tests/e2e has it.
    [n for n in tiny_tasks.KINDS if n not in ('asr.LibrispeechMini', 'mt.NumbersEnDe')],
    fast=['asr.SpokenDigits', 'lm.LibrispeechChar'],
)


@pytest.mark.parametrize('name', RESUMED)
def test_going_on_equals_never_having_stopped(name, folder):
    """All that draws is on: dropout, SpecAugment, weight noise, speeds and noise of the input."""
    p = tiny_tasks.Params(name, **{'vn.global_vn': True, 'train.ema_decay': 0.9})
    p.train.Set(vn_std=0.01, vn_start_step=1)
    assert tiny_tasks.Quiet(p.Copy()) != p
    data = fake_data.Write(registry.Get(name), folder, count=12)['Train'].Set(batch_size=5)
    prefix = str(folder / 'ckpt-00000002')

    def Learner():
        return learner.Learner(p.Instantiate(), tf.distribute.get_strategy())

    def Steps(one, start):
        """Two steps; the state of the input behind them."""
        with data.Instantiate().Batches(start=start) as feed:
            for _ in range(2):
                batch = next(feed)
                assert one.TrainStep(batch.replicas).Read().finite
        return batch.state

    def Values(one):
        return {name: variable.numpy() for name, variable in one.State().items()}

    whole = Learner()
    state = Steps(whole, None)
    half = Values(whole)
    tensors.Save(prefix, half)
    Steps(whole, state)

    resumed = Learner()
    tensors.RestoreInto(prefix, resumed.State())
    Steps(resumed, state)
    for key, value in Values(whole).items():
        np.testing.assert_array_equal(resumed.State()[key], value, err_msg=key)
    same = [key for key, value in half.items() if np.array_equal(value, resumed.State()[key])]
    assert {key.rpartition('/')[2] for key in same} <= {'.skipped', '.skipped_in_a_row'}, same

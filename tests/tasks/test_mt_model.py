"""TransformerModel: nothing depends on the batch, and decoding scores what training computes."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.inputs.text import tokenizers
from lingvo_lite.layers import base, initializers
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.runs.checkpoints import tensors
from lingvo_lite.tasks.mt import model
from lingvo_lite.training import evaluation

VOCAB, DIM, EXAMPLES = 24, 16, 32
BOS, EOS = 1, 2


def Params(**settings):
    p = model.TransformerModel.Params()
    p.Set(vocab_size=VOCAB, model_dim=DIM, random_seed=3)
    for stack in (p.encoder, p.decoder):
        stack.Set(num_layers=2, num_heads=2, hidden_dim=32)
    # Far from uniform, so that hypotheses differ by source.
    p.params_init = initializers.WeightInit.Gaussian(0.8)
    p.search.Set(method='beam', beam_size=3, max_ratio=0.5, max_steps=4)
    return p.Set(**settings)


def Sentences():
    """(source, target) ids of all examples, without <s> and </s>."""
    draw = np.random.default_rng(0)
    return [
        tuple(draw.integers(4, VOCAB, draw.integers(1, 9)).tolist() for _ in range(2))
        for _ in range(EXAMPLES)
    ]


SENTENCES = Sentences()


def Batch(ids, pad=0):
    """The examples of these ids; `pad` positions more than the longest needs."""
    rows = [SENTENCES[i] for i in ids]
    times = [max(len(row[side]) for row in rows) + 1 + pad for side in (0, 1)]
    labels = [np.zeros([len(rows), time], np.int32) for time in times]
    paddings = [np.ones([len(rows), time], np.float32) for time in times]
    for n, row in enumerate(rows):
        for side in (0, 1):
            tokens = [*row[side], EOS]
            labels[side][n, : len(tokens)] = tokens
            paddings[side][n, : len(tokens)] = 0
    inputs = np.concatenate([np.full([len(rows), 1], BOS, np.int32), labels[1][:, :-1]], axis=1)
    return NestedMap(
        source=NestedMap(ids=labels[0], paddings=paddings[0]),
        target=NestedMap(
            ids=inputs, labels=labels[1], paddings=paddings[1], weights=1 - paddings[1]
        ),
        id=np.array(ids, np.int64),
        row_weight=np.ones([len(rows)], np.float32),
    )


def OnOne(task, fn):
    """`fn(batch)` in one graph for all shapes, outside of training."""
    return evaluation.OnReplicas(task, tf.distribute.get_strategy(), fn, 'test')


@pytest.fixture(scope='module')
def subject():
    """A model, its logits, losses and hypotheses."""
    task = Params().Instantiate()

    def Forward(batch):
        predictions = task.ComputePredictions(batch)
        return NestedMap(
            logits=task.softmax.Logits(predictions.x),
            loss=task.ComputeLoss(predictions, batch).per_example['loss'],
        )

    return types.SimpleNamespace(
        task=task,
        forward=OnOne(task, Forward),
        decoder=evaluation.Decoder(task, tf.distribute.get_strategy()),
    )


def LogProb(subjects, source, tokens):
    """log p(tokens </s> | source), the mean of the probabilities of some models, known target."""
    batch = Batch([source])
    closed = np.array([[*tokens, EOS]], np.int32)
    batch.target = NestedMap(
        ids=np.concatenate([[[BOS]], closed[:, :-1]], axis=1).astype(np.int32),
        labels=closed,
        paddings=np.zeros(closed.shape, np.float32),
        weights=np.ones(closed.shape, np.float32),
    )
    logits = [each.forward([batch])[0].logits[0].astype(np.float64) for each in subjects]
    shares = [np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in logits]
    mean = np.mean(shares, axis=0)
    return np.log(mean[np.arange(closed.shape[1]), closed[0]]).sum()


def test_logits_and_losses_do_not_depend_on_batch_and_padding(subject):
    together = subject.forward([Batch(range(EXAMPLES))])[0]
    for i in (0, 5, EXAMPLES - 1):
        length = len(SENTENCES[i][1]) + 1
        for pad in (0, 6):
            alone = subject.forward([Batch([i], pad)])[0]
            wanted = together.logits[i, :length]
            np.testing.assert_allclose(alone.logits[0, :length], wanted, atol=1e-4, rtol=1e-4)
            np.testing.assert_allclose(alone.loss[0], together.loss[i], atol=1e-4)
    assert subject.forward.num_traces == 1


def test_hypotheses_do_not_depend_on_batch_size(subject):
    def Decode(size):
        found = {}
        for first in range(0, EXAMPLES, size):
            ids = range(first, min(first + size, EXAMPLES))
            out = subject.decoder.DecodeStep([Batch(ids, pad=size % 3)])[0]
            for row, i in enumerate(ids):
                tokens = out.ids[row, 0, : out.lengths[row, 0]].tolist()
                found[i] = (tokens, out.scores[row, 0])
        return found

    wanted = Decode(32)
    assert len({tuple(tokens) for tokens, _ in wanted.values()}) > EXAMPLES // 2
    for size in (1, 7):
        for i, (tokens, score) in Decode(size).items():
            assert tokens == wanted[i][0], (size, i)
            assert score == pytest.approx(wanted[i][1], abs=1e-4)
    assert subject.decoder.num_traces == 1


def test_scores_are_the_probabilities_of_the_whole_translation(subject):
    out = subject.decoder.DecodeStep([Batch(range(6))])[0]
    for row in range(6):
        tokens = out.ids[row, 0, : out.lengths[row, 0]].tolist()
        wanted = LogProb([subject], row, tokens)
        assert out.scores[row, 0] == pytest.approx(wanted, abs=1e-4)


def test_an_ensemble_of_two_checkpoints_scores_by_the_mean_probability(subject, tmp_path):
    other = Params(random_seed=4).Instantiate()
    prefix = str(tmp_path / 'ckpt-00000001')
    tensors.Save(prefix, {path: v.numpy() for path, v in other.AllVariables().items()})
    second = Params().Instantiate()
    tensors.RestoreInto(prefix, second.AllVariables())

    def Forward(batch):
        return NestedMap(logits=second.softmax.Logits(second.ComputePredictions(batch).x))

    both = [subject, types.SimpleNamespace(forward=OnOne(second, Forward))]
    strategy = tf.distribute.get_strategy()
    ensemble = evaluation.Decoder(subject.task, strategy, others=[second])
    out = ensemble.DecodeStep([Batch(range(5))])[0]
    alone = subject.decoder.DecodeStep([Batch(range(5))])[0]
    for row in range(5):
        tokens = out.ids[row, 0, : out.lengths[row, 0]].tolist()
        wanted = LogProb(both, row, tokens)
        assert out.scores[row, 0] == pytest.approx(wanted, abs=1e-4)
        assert abs(wanted - LogProb([subject], row, tokens)) > 1e-2
    assert not np.allclose(out.scores, alone.scores, atol=1e-2)


def test_coverage_penalty_gets_attention_and_changes_scores():
    plain = evaluation.Decoder(Params().Instantiate(), tf.distribute.get_strategy())
    task = Params(**{'search.coverage_penalty': 0.5}).Instantiate()
    covering = evaluation.Decoder(task, tf.distribute.get_strategy())
    batch = Batch(range(4))
    assert 'attention' in covering.DecodeStep([batch])[0]
    first, second = (d.DecodeStep([batch])[0].scores for d in (plain, covering))
    # A penalty is the log of a number up to 1.
    assert (second <= first + 1e-4).all() and (second < first - 0.1).any()


def test_the_embedding_of_source_target_and_softmax_is_one():
    def Count(**settings):
        with base.ShapesOnly():
            task = Params(**settings).Instantiate()
        return task.NumParameters(), list(task.Weights())

    count, paths = Count()
    more, same_paths = Count(vocab_size=VOCAB + 8)
    assert more - count == 8 * DIM  # each of three tables would add as much
    assert paths == same_paths
    assert [p for p in paths if not p.startswith(('encoder/', 'decoder/'))] == ['embedding/table']


def test_dimensions_that_do_not_fit_name_the_place():
    with base.ShapesOnly(), pytest.raises(ValueError, match='num_heads=3 does not divide'):
        Params(**{'encoder.num_heads': 3}).Instantiate()


def test_the_picture_is_the_attention_to_the_source(subject):
    task, batch = subject.task, Batch(range(3))
    with step.Context(training=False):
        picture = task.Summaries(task.ComputePredictions(batch), batch).attention.numpy()
    assert picture.shape == (3, batch.target.ids.shape[1], batch.source.ids.shape[1])
    np.testing.assert_allclose(picture.sum(axis=-1), 1, atol=1e-5)
    assert (picture * batch.source.paddings[:, None] == 0).all()


class Strings:
    """An input that knows the text of its examples."""

    def __init__(self, *sides):
        self.tokenizer = tokenizers.ByteTokenizer.Params().Instantiate()
        self._sides = sides

    def Strings(self, index):
        texts = {7: ('two', 'zwei'), 3: ('one', 'eins')}
        return NestedMap(zip(self._sides, texts[index]))


def Decoded():
    """Two hypotheses of example 7, one and none of example 3."""
    inputs = Strings('source')
    texts = [['zwei', 'drei'], ['ein', '']]
    ids = np.full([2, 2, 6], EOS, np.int32)
    lengths = np.zeros([2, 2], np.int32)
    for row, hypotheses in enumerate(texts):
        for n, tokens in enumerate(inputs.tokenizer.Encode(hypotheses)):
            ids[row, n, : len(tokens)], lengths[row, n] = tokens, len(tokens)
    scores = np.array([[-0.5, -1.25], [-2.0, -np.inf]], np.float32)
    return NestedMap(id=np.array([7, 3]), ids=ids, lengths=lengths, scores=scores)


def test_records_and_metrics_of_what_was_decoded(subject):
    metrics = subject.task.CreateDecoderMetrics()
    inputs = Strings('source', 'target')
    found = subject.task.PostProcessDecodeOut(Decoded(), inputs, metrics)
    assert found == [
        {
            'id': 7,
            'source': 'two',
            'hypotheses': ['zwei', 'drei'],
            'scores': [-0.5, -1.25],
            'reference': 'zwei',
        },
        {
            'id': 3,
            'source': 'one',
            'hypotheses': ['ein'],
            'scores': [-2.0],
            'reference': 'eins',
        },
    ]
    assert 50 < metrics['chrf'].value < 100  # the best of each, against its reference


def test_records_of_ones_own_text_have_no_reference(subject):
    found = subject.task.PostProcessDecodeOut(Decoded(), Strings('source'), None)
    assert [sorted(record) for record in found] == [['hypotheses', 'id', 'scores', 'source']] * 2

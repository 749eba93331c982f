"""Softmax loss against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers import base, embedding, softmax

_DIM = 4
_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=[3, 5, _DIM]).astype(np.float32)
_WEIGHTS = np.array([[1, 1, 1, 1, 1], [1, 0.5, 0, 0, 0], [0] * 5], np.float32)


def _Layer(vocab_size=11, **kwargs):
    p = softmax.SoftmaxLoss.Params().Set(vocab_size=vocab_size, model_dim=_DIM, random_seed=1)
    layer = p.Set(**kwargs).Instantiate()
    layer.vars.w.assign(_RNG.normal(size=layer.vars.w.shape))
    return layer


def _LogProbs(logits):
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize('vocab_size', [11, 16])
@pytest.mark.parametrize('smoothing', [0.0, 0.1, 0.5])
def test_loss(inference_step, vocab_size, smoothing):
    layer = _Layer(vocab_size, label_smoothing=smoothing)
    log_probs = _LogProbs(_X @ layer.vars.w.numpy()[:, :vocab_size])
    labels = log_probs.argmax(axis=-1)
    labels[:, ::2] = (labels[:, ::2] + 1) % vocab_size
    out = layer(tf.constant(_X), tf.constant(labels), tf.constant(_WEIGHTS))

    target = np.full([3, 5, vocab_size], smoothing / vocab_size)
    at_label = (*np.indices(labels.shape), labels)
    target[at_label] += 1 - smoothing
    loss = -(target * log_probs).sum(axis=-1) * _WEIGHTS
    np.testing.assert_allclose(out.loss_sum, loss.sum(), rtol=1e-5)
    np.testing.assert_allclose(out.per_example_loss, loss.sum(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out.log_pplx_sum, -(log_probs[at_label] * _WEIGHTS).sum(), rtol=1e-5)
    correct = (log_probs.argmax(axis=-1) == labels) * _WEIGHTS
    assert out.correct_sum.numpy() == correct.sum() == 2.5
    assert out.weight_sum.numpy() == _WEIGHTS.sum()
    np.testing.assert_array_equal(out.per_example_weight, _WEIGHTS.sum(axis=1))


@pytest.mark.parametrize('vocab_size', [11, 16])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_gradient(vocab_size, smoothing):
    """p - q, times what comes from above; zero where there is no token."""
    logits = tf.constant(_RNG.normal(size=[6, 16]).astype(np.float32))
    labels = np.array([0, 3, 3, 7, 10, 1])
    upstream = tf.constant([1.0, 2, 0, -1, 0.5, 1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, log_pplx, correct = softmax.cross_entropy(
            logits, tf.constant(labels), vocab_size, smoothing
        )
    found = tape.gradient(loss, logits, upstream).numpy()
    wanted = np.exp(_LogProbs(logits.numpy()[:, :vocab_size])) - smoothing / vocab_size
    wanted[np.arange(6), labels] -= 1 - smoothing
    np.testing.assert_allclose(found[:, :vocab_size], wanted * upstream[:, None], atol=1e-6)
    assert np.all(found[:, vocab_size:] == 0)


def test_no_one_hot_and_no_second_softmax():
    @tf.function(autograph=False)
    def Run(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = softmax.cross_entropy(logits, labels, 16, 0.1)[0]
        return tape.gradient(loss, logits)

    specs = tf.TensorSpec([None, 16], tf.bfloat16), tf.TensorSpec([None], tf.int32)
    ops = [op.type for op in Run.get_concrete_function(*specs).graph.get_operations()]
    assert ops.count('Softmax') == 1
    assert not {'OneHot', 'Exp', 'LogSoftmax'} & set(ops)


@pytest.mark.parametrize('scale', [1e-3, 30.0, 1e4])
def test_large_and_small_logits(scale):
    logits = _RNG.normal(size=[8, 16]).astype(np.float32) * scale
    labels = _RNG.integers(0, 16, size=[8])
    loss, log_pplx, _ = softmax.cross_entropy(tf.constant(logits), tf.constant(labels), 16, 0.1)
    log_probs = _LogProbs(logits)
    wanted = -log_probs[np.arange(8), labels]
    np.testing.assert_allclose(log_pplx, wanted, rtol=1e-5, atol=1e-6)
    smoothed = 0.9 * wanted - 0.1 * log_probs.mean(axis=-1)
    np.testing.assert_allclose(loss, smoothed, rtol=1e-5)


def test_logits_are_float32_and_end_in_what_cannot_be(inference_step):
    layer = _Layer(fprop_dtype=tf.bfloat16)
    logits = layer.Logits(tf.constant(_X[0]))
    assert logits.dtype == tf.float32 and logits.shape == [5, 16]
    assert np.all(logits[:, 11:] == -1e9)
    np.testing.assert_allclose(logits[:, :11], _X[0] @ layer.vars.w.numpy()[:, :11], atol=0.1)


class _Tied(base.BaseLayer):
    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('vocab_size', 11, 'Of the softmax.')
        return p

    def __init__(self, params):
        super().__init__(params)
        sizes = {'vocab_size': 11, 'model_dim': _DIM}
        self.CreateChild('embedding', embedding.Embedding.Params().Set(**sizes))
        p = softmax.SoftmaxLoss.Params()
        p.Set(vocab_size=self.params.vocab_size, model_dim=_DIM)
        self.CreateChild('softmax', p, embedding=self.embedding)


def test_a_shared_embedding_is_the_weight(inference_step):
    layer = _Tied.Params().Instantiate()
    assert list(layer.AllVariables()) == ['embedding/table']
    table = layer.embedding.vars.table.numpy()
    wanted = (_X[0] @ table.T)[:, :11]
    np.testing.assert_allclose(layer.softmax.Logits(tf.constant(_X[0]))[:, :11], wanted, atol=1e-5)
    with base.Hoisted(layer):
        hoisted = layer.softmax.Logits(tf.constant(_X[0]))
    np.testing.assert_allclose(hoisted[:, :11], wanted, atol=1e-5)


def test_a_shared_embedding_gets_the_gradients_of_both_uses():
    layer = _Tied.Params().Instantiate()
    ids = tf.constant([[1, 2, 3]])

    def Gradient(first, second):
        with step.Context(training=True), tf.GradientTape() as tape:
            x = layer.embedding(ids)
            x = x if first else tf.stop_gradient(x)
            table = layer.embedding.vars.table
            context = step.Current()
            if not second:
                context.substitutes = {table.ref(): tf.stop_gradient(table)}
            loss = layer.softmax(x, ids + 1, tf.ones([1, 3])).loss_sum
        return tape.gradient(loss, table).numpy()

    both = Gradient(True, True)
    np.testing.assert_allclose(both, Gradient(True, False) + Gradient(False, True), atol=1e-6)
    assert np.all(both[:11] != 0) and np.all(both[11:] == 0)


def test_a_hoisted_product_needs_no_transpose():
    layer = _Tied.Params().Instantiate()

    def Body(i, x):
        return i + 1, x + layer.softmax.Logits(x)[:, :_DIM]

    @tf.function(autograph=False)
    def Run(x):
        with step.Context(training=False), base.Hoisted(layer):
            return tf.while_loop(lambda i, x: i < 3, Body, (tf.constant(0), x))[1]

    graph = Run.get_concrete_function(tf.TensorSpec([2, _DIM])).graph
    loop = next(op for op in graph.get_operations() if op.type in ('While', 'StatelessWhile'))
    body = graph._get_function(loop.get_attr('body').name).graph
    products = [op for op in body.get_operations() if op.type == 'MatMul']
    assert [op.get_attr('transpose_b') for op in products] == [False]
    assert not any(op.type in ('ReadVariableOp', 'Transpose') for op in body.get_operations())


def test_an_embedding_of_another_size_cannot_be_shared():
    with pytest.raises(
        hyperparams.ConfigError, match='vocab_size=12 is not that of the shared embedding, 11'
    ):
        _Tied.Params().Set(vocab_size=12).Instantiate()


@pytest.mark.parametrize('smoothing', [-0.1, 1.0])
def test_a_smoothing_that_cannot_be(smoothing):
    with pytest.raises(hyperparams.ConfigError, match='at least 0 and below 1'):
        _Layer(label_smoothing=smoothing)


def test_of_equal_logits_only_the_first_is_a_hit():
    """As a search takes it: all logits equal is one hit in vocab_size, not all."""
    labels = tf.range(5)
    _, _, correct = softmax.cross_entropy(tf.zeros([5, 8]), labels, 5, 0.0)
    np.testing.assert_array_equal(correct, [1, 0, 0, 0, 0])

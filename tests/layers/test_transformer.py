"""Transformer encoder and decoder. Padding, company and low precision: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers import attention, base, norm, transformer

_DIM = 8
_SIZES = {'model_dim': _DIM, 'num_heads': 2, 'hidden_dim': 12}
_RNG = np.random.default_rng(0)


def _Random(*shape):
    return tf.constant(_RNG.normal(size=shape).astype(np.float32))


def _Stack(cls, num_layers=2, **kwargs):
    p = cls.Params().Set(**_SIZES, num_layers=num_layers, random_seed=1)
    return p.Set(**kwargs).Instantiate()


@pytest.mark.parametrize('pre_norm', [False, True])
def test_encoder_layer(inference_step, pre_norm):
    p = transformer.TransformerEncoderLayer.Params().Set(**_SIZES, pre_norm=pre_norm)
    layer = p.Instantiate()
    x, mask = _Random(2, 3, _DIM), attention.padding_mask(tf.zeros([2, 3]))
    norm1, norm2 = layer.self_attention_norm, layer.feedforward_norm
    if pre_norm:
        y = x + layer.self_attention(norm1(x), mask)
        y = y + layer.feedforward(norm2(y))
    else:
        y = norm1(x + layer.self_attention(x, mask))
        y = norm2(y + layer.feedforward(y))
    np.testing.assert_allclose(layer(x, mask), y, atol=1e-6)


def test_decoder_layer_looks_at_the_source_between_the_two(inference_step):
    p = transformer.TransformerDecoderLayer.Params().Set(**_SIZES, pre_norm=False)
    layer = p.Instantiate()
    x, source = _Random(2, 3, _DIM), _Random(2, 4, _DIM)
    mask = attention.causal_mask(tf.zeros([2, 3]))
    source_mask = attention.padding_mask(tf.constant([[0.0, 0, 0, 0], [0, 0, 1, 1]]))
    y = layer.self_attention_norm(x + layer.self_attention(x, mask))
    memory = layer.cross_attention.Memory(source)
    y = layer.cross_attention_norm(y + layer.cross_attention(y, memory, source_mask))
    y = layer.feedforward_norm(y + layer.feedforward(y))
    np.testing.assert_allclose(layer(x, mask, source, source_mask), y, atol=1e-6)


@pytest.mark.parametrize('pre_norm', [False, True])
def test_only_a_pre_norm_stack_ends_in_a_norm(inference_step, pre_norm):
    encoder = _Stack(transformer.TransformerEncoder, pre_norm=pre_norm)
    assert hasattr(encoder, 'final_norm') == pre_norm
    y = encoder(_Random(1, 3, _DIM), tf.zeros([1, 3])).numpy()
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=-1), 1, atol=1e-2)


@pytest.mark.parametrize(
    'key', ['residual_dropout_prob', 'atten_dropout_prob', 'relu_dropout_prob']
)
@pytest.mark.parametrize('cls', [transformer.TransformerEncoder, transformer.TransformerDecoder])
def test_each_dropout_rate_arrives(training_step, key, cls):
    stack = _Stack(cls, **{key: 0.5})
    inputs = [_Random(2, 3, _DIM), tf.zeros([2, 3])] * (2 if 'Decoder' in cls.__name__ else 1)
    first, second = stack(*inputs), stack(*inputs)
    assert np.abs(first - second).max() > 1e-3
    without = _Stack(cls)
    np.testing.assert_array_equal(without(*inputs), without(*inputs))


def test_the_target_is_causal(inference_step):
    decoder = _Stack(transformer.TransformerDecoder)
    x, source = _Random(1, 4, _DIM), _Random(1, 3, _DIM)
    changed = tf.concat([x[:, :2], _Random(1, 2, _DIM)], axis=1)
    zeros = tf.zeros([1, 4]), tf.zeros([1, 3])
    first = decoder(x, zeros[0], source, zeros[1]).numpy()
    second = decoder(changed, zeros[0], source, zeros[1]).numpy()
    np.testing.assert_allclose(first[:, :2], second[:, :2], atol=1e-6)
    assert np.abs(first[:, 2:] - second[:, 2:]).max() > 0.1


@pytest.mark.parametrize('settings', [{}, {'layer.self_attention.rotary': True}])
def test_beams_that_change_places_equal_their_whole_sequences(inference_step, settings):
    decoder = _Stack(transformer.TransformerDecoder, **settings)
    batch, beams, times = 2, 3, 5
    source = _Random(batch, 4, _DIM)
    source_paddings = tf.constant([[0.0, 0, 0, 0], [0, 0, 1, 1]])
    rng = np.random.default_rng(2)

    state = decoder.InitStates(source, source_paddings)
    state.cache = tf.nest.map_structure(lambda c: tf.repeat(c, beams, axis=0), state.cache)
    history = np.zeros([batch * beams, 0, _DIM], np.float32)
    for _ in range(times):
        x = rng.normal(size=[batch * beams, _DIM]).astype(np.float32)
        history = np.concatenate([history, x[:, np.newaxis]], axis=1)
        y, state, probs = decoder.ExtendStep(tf.constant(x), state, return_attention=True)

        whole, attended = decoder(
            tf.constant(history),
            tf.zeros(history.shape[:2]),
            tf.repeat(source, beams, axis=0),
            tf.repeat(source_paddings, beams, axis=0),
            return_attention=True,
        )
        np.testing.assert_allclose(y, whole[:, -1], atol=1e-5)
        np.testing.assert_allclose(probs, attended[:, -1], atol=1e-6)

        parents = rng.integers(0, beams, size=[batch, beams])
        rows = (parents + np.arange(batch)[:, np.newaxis] * beams).reshape(-1)
        history = history[rows]
        state.cache = tf.nest.map_structure(lambda c, r=rows: tf.gather(c, r), state.cache)


def test_what_belongs_to_the_source_is_not_repeated_for_beams(inference_step):
    decoder = _Stack(transformer.TransformerDecoder)
    state = decoder.InitStates(_Random(2, 4, _DIM), tf.zeros([2, 4]))
    before = [id(leaf) for leaf in state.source.Flatten()]
    state.cache = tf.nest.map_structure(lambda c: tf.repeat(c, 3, axis=0), state.cache)
    _, state = decoder.ExtendStep(_Random(6, _DIM), state)
    assert [id(leaf) for leaf in state.source.Flatten()] == before
    assert {leaf.shape[0] for leaf in state.source.Flatten()} == {2}
    assert {tuple(leaf.shape[:3]) for leaf in state.cache.Flatten()} == {(6, 2, 1)}


def test_attention_sums_to_1_over_the_source(inference_step):
    decoder = _Stack(transformer.TransformerDecoder)
    paddings = tf.constant([[0.0, 0, 0, 0], [0, 0, 1, 1]])
    x = _Random(2, 3, _DIM)
    y, probs = decoder(x, tf.zeros([2, 3]), _Random(2, 4, _DIM), paddings, return_attention=True)
    assert y.shape == [2, 3, _DIM] and probs.shape == [2, 3, 4]
    np.testing.assert_allclose(tf.reduce_sum(probs, axis=-1), 1, atol=1e-6)
    assert np.all(probs[1, :, 2:] == 0)


def test_a_part_can_be_another_class():
    encoder = _Stack(transformer.TransformerEncoder, norm=norm.RmsNorm.Params())
    assert {type(x) for x in encoder.Descendants() if 'norm' in x.path} == {norm.RmsNorm}


@pytest.mark.parametrize(
    'key, value, decides',
    [
        ('layer.num_heads', 4, 'TransformerEncoder'),
        ('layer.pre_norm', False, 'TransformerEncoder'),
        ('layer.feedforward.relu_dropout_prob', 0.1, 'TransformerEncoderLayer'),
        ('layer.self_attention.atten_dropout_prob', 0.1, 'TransformerEncoderLayer'),
    ],
)
def test_a_value_that_the_parent_decides_is_an_error(key, value, decides):
    p = transformer.TransformerEncoder.Params().Set(**_SIZES, num_layers=1, **{key: value})
    name = key.rpartition('.')[2]
    wanted = f'{name}={value} has no effect: the {decides} around it decides. Set {name} there.'
    with pytest.raises(hyperparams.ConfigError, match=wanted), base.ShapesOnly():
        p.Instantiate()


def test_the_parameters_of_the_base_model():
    """Vaswani et al., table 3: 65 million, of them 37,000 * 512 in the embeddings."""
    sizes = {'model_dim': 512, 'num_heads': 8, 'hidden_dim': 2048, 'num_layers': 6}
    with base.ShapesOnly():
        encoder = transformer.TransformerEncoder.Params().Set(**sizes, pre_norm=False)
        decoder = transformer.TransformerDecoder.Params().Set(**sizes, pre_norm=False)
        count = encoder.Instantiate().NumParameters() + decoder.Instantiate().NumParameters()
    attention_, feed, norm_ = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512, 2 * 512
    assert count == 6 * (3 * attention_ + 2 * feed + 5 * norm_)
    assert round((count + 37000 * 512) / 1e6) == 63


class TestRemat:
    """Rematerialization changes memory, and nothing else."""

    RATES = {
        'residual_dropout_prob': 0.3,
        'atten_dropout_prob': 0.3,
        'relu_dropout_prob': 0.3,
    }

    def _Gradients(self, decoder, vn_std):
        rng = np.random.default_rng(3)
        x, source = (rng.normal(size=[2, n, _DIM]).astype(np.float32) for n in (3, 4))
        source = tf.constant(source)
        with step.Context(training=True, step=5, seed=1, vn_std=vn_std):
            with tf.GradientTape() as tape:
                tape.watch(source)
                y = decoder(tf.constant(x), tf.zeros([2, 3]), source, tf.zeros([2, 4]))
                # A draw behind the stack must not depend on what the backward pass drew.
                y = decoder.layers[0].residual_dropout(y)
                loss = tf.reduce_sum(y * tf.sin(tf.range(_DIM, dtype=tf.float32)))
            variables = decoder.TrainableVariables()
            gradients = tape.gradient(loss, [source, *variables.values()])
        return loss, dict(zip(['source', *variables], gradients))

    @pytest.mark.parametrize('vn_std', [None, 0.1])
    @pytest.mark.parametrize('graph', [False, True])
    def test_gradients_are_equal_with_dropout_on(self, graph, vn_std):
        results = []
        for remat in (False, True):
            decoder = _Stack(transformer.TransformerDecoder, 1, remat=remat, **self.RATES)
            run = tf.function(self._Gradients, autograph=False) if graph else self._Gradients
            results.append(run(decoder, vn_std))
        (loss, wanted), (other, found) = results
        np.testing.assert_allclose(other, loss, rtol=1e-5)
        for path, gradient in wanted.items():
            assert np.abs(gradient).max() > 0
            np.testing.assert_allclose(found[path], gradient, atol=1e-4, err_msg=path)

    def test_the_backward_pass_computes_the_layers_again(self):
        def Products(remat):
            encoder = _Stack(transformer.TransformerEncoder, remat=remat)

            @tf.function(autograph=False)
            def Run(x):
                with step.Context(training=True):
                    with tf.GradientTape() as tape:
                        loss = tf.reduce_sum(encoder(x, tf.zeros([2, 3])))
                    return tape.gradient(loss, list(encoder.TrainableVariables().values()))

            graph = Run.get_concrete_function(tf.TensorSpec([2, 3, _DIM])).graph
            return sum(op.type in ('MatMul', 'BatchMatMulV2') for op in graph.get_operations())

        # Each layer has 6 products: qkv, logits, context, output, up, down.
        assert Products(True) == Products(False) + 2 * 6

    def test_not_training_it_is_off(self, inference_step):
        encoder = _Stack(transformer.TransformerEncoder, remat=True)
        x = _Random(1, 2, _DIM)
        with tf.GradientTape() as tape:
            y = encoder(x, tf.zeros([1, 2]))
        assert tape.gradient(y, encoder.layers[0].feedforward.up.vars.w) is not None

    def test_replicas(self, two_replicas):
        x = np.random.default_rng(3).normal(size=[2, 3, _DIM]).astype(np.float32)
        results = []
        for remat in (False, True):
            with two_replicas.scope():
                encoder = _Stack(transformer.TransformerEncoder, 1, remat=remat, **self.RATES)
            results.append(_OnReplicas(two_replicas, encoder, tf.constant(x)))
        (first, second), (found, other) = results
        for wanted, gradients in ((first, found), (second, other)):
            for path, gradient in wanted.items():
                np.testing.assert_allclose(gradients[path], gradient, atol=1e-4, err_msg=path)
        path = 'layers_0/feedforward/up/w'
        assert np.abs(first[path] - second[path]).max() > 1e-3, 'replicas must draw differently'


def _OnReplicas(strategy, encoder, x):
    """{path: gradient} on each replica."""

    def Replica():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        variables = encoder.TrainableVariables()
        with step.Context(training=True, step=2, seed=1, replica=replica):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(encoder(x, tf.zeros(tf.shape(x)[:2])) ** 3)
            return dict(zip(variables, tape.gradient(loss, list(variables.values()))))

    gradients = tf.function(lambda: strategy.run(Replica), autograph=False)()
    local = strategy.experimental_local_results
    return [{k: local(v)[i].numpy() for k, v in gradients.items()} for i in range(2)]

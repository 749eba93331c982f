"""The recurrence: equal to a plain loop in all it computes, and cheaper in what it keeps."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.layers.recurrent import recurrence
from lingvo_lite.nested_map import NestedMap

TIME, BATCH, SIZE = 5, 3, 4
PADDINGS = np.array([[0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 1], [0, 1, 1]], np.float32)


def _Random(*shape):
    return tf.constant(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def _Cell(product, shared, x, state):
    """Uses all there is: two products, one inside of the other, shared tensors, a mask."""
    h = tf.tanh(x.x + product('u', state.h) + shared.bias)
    # A product of each example's own: [batch, 1, size] x [batch, size, size]
    looked = product('memory', h[:, tf.newaxis])[:, 0] * shared.scale
    h = tf.where(x.mask, h, product('out', looked))
    return NestedMap(y=h, looked=looked), NestedMap(h=h, total=state.total + looked)


def _Given():
    return NestedMap(
        matrices={
            'u': _Random(SIZE, SIZE),
            'out': _Random(SIZE, SIZE) * 0.5,
            'memory': _Random(BATCH, SIZE, SIZE),
        },
        shared=NestedMap(bias=_Random(SIZE), scale=_Random(BATCH, SIZE)),
        inputs=NestedMap(x=_Random(TIME, BATCH, SIZE), mask=_Random(TIME, BATCH, SIZE) > 0),
        state=NestedMap(h=_Random(BATCH, SIZE), total=_Random(BATCH, SIZE)),
    )


def _Run(given, **kwargs):
    """Outputs, last state, and the gradients of a function of both."""
    floats = [x for x in tf.nest.flatten(given) if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        outputs, state = recurrence.recur(_Cell, **given, **kwargs)
        parts = tf.nest.flatten((outputs, state))
        loss = tf.add_n([tf.reduce_sum(tf.sin(3.0 * x + n)) for n, x in enumerate(parts)])
    return parts, tape.gradient(loss, floats)


@pytest.mark.parametrize('graph', [False, True])
@pytest.mark.parametrize('paddings', [None, PADDINGS])
@pytest.mark.parametrize('reverse', [False, True])
def test_both_loops_are_equal(reverse, paddings, graph):
    """Outputs, last states, and the gradients of matrices, shared tensors, inputs and state."""
    given = _Given()
    results = []
    for plain in (True, False):

        def Run(given, plain=plain):
            return _Run(
                given,
                reverse=reverse,
                paddings=None if paddings is None else tf.constant(paddings),
                use_while_loop_based_unrolling=plain,
            )

        if graph:
            specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), given)
            specs.inputs = specs.inputs.Transform(
                lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype)
            )
            Run = tf.function(Run, input_signature=[specs], autograph=False)
        results.append(Run(given))
    for wanted, found in zip(*(tf.nest.flatten(r) for r in results)):
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize('plain', [True, False])
@pytest.mark.parametrize('reverse', [False, True])
def test_it_is_the_loop_over_time(reverse, plain):
    given = _Given()
    outputs, last = recurrence.recur(
        _Cell,
        **given,
        paddings=tf.constant(PADDINGS),
        reverse=reverse,
        use_while_loop_based_unrolling=plain,
    )
    state = given.state
    for t in reversed(range(TIME)) if reverse else range(TIME):
        y, new = _Cell(
            lambda name, a: tf.matmul(a, given.matrices[name]),
            given.shared,
            given.inputs.Transform(lambda x, t=t: x[t]),
            state,
        )
        real = (PADDINGS[t] == 0)[:, np.newaxis]
        state = NestedMap({k: tf.where(real, new[k], state[k]) for k in state})
        for name in y:
            np.testing.assert_allclose(outputs[name][t], np.where(real, y[name], 0), atol=1e-5)
    for name in state:
        np.testing.assert_allclose(last[name], state[name], atol=1e-5)
    # The last example is all padding.
    np.testing.assert_array_equal(last.h[2], given.state.h[2])


def test_bfloat16_gradients_are_summed_in_float32():
    """The gradient of a shared tensor is a sum over steps: 300 times 1 is 300, not 256."""
    shared = tf.constant(1.0, tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(shared)
        _, state = recurrence.recur(
            lambda product, shared, x, state: (state, state + tf.cast(shared, tf.float32)),
            {},
            shared,
            tf.zeros([300, 1]),
            tf.zeros([1]),
        )
    gradient = tape.gradient(state, shared)
    assert gradient.dtype == tf.bfloat16 and float(gradient) == 300


def _KeptPerStep(plain):
    """Bytes that the forward loop of an attention stores in each step, for the backward pass."""
    source, hidden = 50, 16
    keys = _Random(BATCH, source, hidden)

    def Cell(product, shared, x, state):
        q = product('query', state + x)
        energies = tf.reduce_sum(tf.tanh(shared + q[:, tf.newaxis]), axis=2)
        probs = tf.nn.softmax(energies)
        context = product('keys', probs[:, tf.newaxis])[:, 0]
        return context, context

    @tf.function(autograph=False)
    def Run(x):
        w = _Random(hidden, hidden)
        with tf.GradientTape() as tape:
            tape.watch([w, keys])
            y, _ = recurrence.recur(
                Cell,
                {'query': w, 'keys': keys},
                keys,
                x,
                tf.zeros([BATCH, hidden]),
                use_while_loop_based_unrolling=plain,
            )
            loss = tf.reduce_sum(y * y)
        return tape.gradient(loss, [w, keys])

    graph = Run.get_concrete_function(tf.TensorSpec([TIME, BATCH, hidden])).graph
    forward = [op for op in graph.get_operations() if op.type in ('While', 'StatelessWhile')][0]
    body = graph._get_function(forward.get_attr('body').name).graph
    kept = 0
    for op in body.get_operations():
        if op.type in ('TensorListPushBack', 'TensorListSetItem'):
            item = op.inputs[1 if op.type == 'TensorListPushBack' else 2]
            kept += item.shape.num_elements() * item.dtype.size
    return kept, BATCH * source * hidden * 4


def test_the_lean_loop_keeps_little():
    """It keeps states, outputs and products; a plain loop also the [batch, source, hidden]."""
    plain, attended = _KeptPerStep(True)
    lean, _ = _KeptPerStep(False)
    assert plain > attended
    assert lean < attended / 5

"""What was trained is gone when nobody holds it: task, learner and graphs."""

from __future__ import annotations

import gc
import weakref

import pytest
import tensorflow as tf

from lingvo_lite.layers import base
from lingvo_lite.training import evaluation, registered_gradients


@pytest.fixture
def curved(tiny):
    """A task class with gradients that TensorFlow registers: in the graph, and in a loop."""

    class Curved(tiny.TinyTask):
        graphs = []

        def ComputePredictions(self, batch):
            self.graphs.append(weakref.ref(tf.compat.v1.get_default_graph()))
            predictions = super().ComputePredictions(batch)
            # [batch, time]
            again = base.Remat(self.second, tf.tanh(self.first(batch.x)))[..., 0]
            predictions.y += Looped(again)
            return predictions

    return Curved


def Looped(x):
    """silu(silu(x))."""
    return tf.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, tf.nn.silu(x)), (0, x))[1]


def Alive(references):
    gc.collect()
    return [name for name, reference in references.items() if reference() is not None]


@pytest.mark.parametrize('replicas', [1, 2])
def test_a_learner_its_task_and_its_graphs(tiny, curved, replicas, request):
    strategy = request.getfixturevalue('two_replicas') if replicas == 2 else None
    p = curved.Params().Set(**{'train.optimizer': tiny.Params().train.optimizer})
    p.train.learning_rate = 0.1
    learner = tiny.Learner(p, strategy)
    learner.TrainStep([tiny.Batch()] * replicas).Read()
    decoder = evaluation.Decoder(learner.task, learner.strategy)
    decoder.DecodeStep([tiny.Batch()] * replicas)
    held = {'learner': learner, 'task': learner.task, 'decoder': decoder}
    references = {name: weakref.ref(each) for name, each in held.items()}
    assert len(curved.graphs) == 2 * replicas
    references.update({f'graph {i}': graph for i, graph in enumerate(curved.graphs)})
    assert Alive(references) == list(references)
    del learner, decoder, held
    assert Alive(references) == []


def test_an_evaluator_leaves_its_task_to_itself(tiny, curved):
    task = curved.Params().Instantiate()
    evaluator = evaluation.Evaluator(task, tf.distribute.get_strategy())
    evaluator.EvalStep([tiny.Batch()])
    references = {'evaluator': weakref.ref(evaluator), 'graph': curved.graphs[-1]}
    del evaluator
    assert Alive(references) == []


def test_only_what_is_registered_inside_is_forgotten():
    """A graph that was traced before can still be differentiated."""
    earlier, inside = tf.function(Looped), tf.function(Looped)
    x = tf.constant([0.5, -2.0])
    earlier.get_concrete_function(x)
    names = registered_gradients.Names()
    with registered_gradients.Forgotten():
        inside.get_concrete_function(x)
        assert registered_gradients.Names() > names
    assert registered_gradients.Names() == names
    found = []
    for function in (earlier, Looped):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.append(tape.gradient(y, x).numpy())
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    with pytest.raises(LookupError, match='No gradient defined'), tf.GradientTape() as tape:
        tape.watch(x)
        inside(x)


def test_the_private_name_is_still_there():
    """TensorFlow's registry and its names: without them nothing breaks, and nothing is freed."""
    before = registered_gradients.Names()
    tf.function(tf.nn.silu).get_concrete_function(tf.TensorSpec([2]))
    (new,) = registered_gradients.Names() - before
    registered_gradients.Forget([new])
    assert new not in registered_gradients.Names()

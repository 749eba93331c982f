"""What is known of one step of a recurrence before the loop."""

from __future__ import annotations

import pytest
import tensorflow as tf

from lingvo_lite.layers.recurrent import cell_step, recurrence


def test_a_cell_asks_for_each_product_once():
    def Twice(product, shared, x, state):
        return x, product('u', state) + product('u', x)

    def Never(product, shared, x, state):
        return x, state

    u, x = {'u': tf.eye(2)}, tf.zeros([1, 1, 2])
    with pytest.raises(ValueError, match="asks for the product 'u' twice in a step"):
        recurrence.recur(Twice, u, [], x, x[0])
    with pytest.raises(ValueError, match=r"makes the products \[\], and got matrices for \['u'\]"):
        recurrence.recur(Never, u, [], x, x[0])


def test_what_is_there_already_is_seen():
    """An output that is the state behind it, a factor that is a state, a gradient of an input."""

    def Cell(product, shared, x, state):
        after = tf.tanh(x + product('u', state) + product('w', tf.sin(shared)))
        return (after, 2.0 * after), after

    matrices = {'u': tf.eye(2), 'w': tf.eye(2)}
    one = cell_step.CellStep(Cell, matrices, tf.ones([1, 2]), tf.ones([3, 1, 2]), tf.ones([1, 2]))
    assert one.names == ['u', 'w']
    assert one.output_is == [0, None]
    assert one.state_of == {'u': 0, 'w': None}
    assert one.InputOf() == {'u': 0, 'w': 0}

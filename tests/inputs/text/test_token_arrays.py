"""Token ids as arrays: </s> behind, <s> in front, padding where there is nothing."""

import numpy as np
from hypothesis import given, strategies as st

from lingvo_lite.inputs.text import token_arrays, tokenizers

ROWS = st.lists(st.none() | st.lists(st.integers(4, 99), max_size=6), min_size=1, max_size=4)


@given(rows=ROWS, more=st.integers(1, 3))
def test_each_row_comes_back(rows, more):
    length = max(len(row or ()) for row in rows) + more
    made = token_arrays.Targets(rows, length)
    labels, paddings = token_arrays.Labels(rows, length)
    np.testing.assert_array_equal(made.labels, labels)
    np.testing.assert_array_equal(made.paddings, paddings)
    np.testing.assert_array_equal(made.weights, 1 - paddings)
    for i, row in enumerate(rows):
        real = 0 if row is None else len(row) + 1
        assert paddings[i].tolist() == [0.0] * real + [1.0] * (length - real)
        padding = [tokenizers.PAD_ID] * (length - real)
        said = [] if row is None else [*row, tokenizers.EOS_ID]
        read = [] if row is None else [tokenizers.BOS_ID, *row]
        assert labels[i].tolist() == said + padding
        assert made.ids[i].tolist() == read + padding


def test_kinds_of_numbers():
    made = token_arrays.Targets([np.array([7, 8], np.uint16)], 4)
    assert {name: made[name].dtype.name for name in made} == {
        'ids': 'int32',
        'labels': 'int32',
        'paddings': 'float32',
        'weights': 'float32',
    }

import os

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.runs.checkpoints import average, files, tensors


def Save(folder, step, **values):
    prefix = files.PrefixOf(str(folder), step)
    tensors.Save(prefix, {'.step': np.int64(step), **values})
    return prefix


def test_weights_are_averaged_and_what_cannot_be_trained_on_is_left_out(tmp_path):
    random = np.random.RandomState(0)
    weights = [random.randn(3, 4).astype(np.float32) for _ in range(3)]
    prefixes = [
        Save(
            tmp_path,
            10 * (3 - i),
            **{
                'enc/w': w,
                'enc/w/.ema': 2 * w,
                'enc/count': np.int32(i),
                'enc/w/.slot/m': w,
                '.updates': np.int64(i),
                '.input_state': b'{}',
            },
        )
        for i, w in enumerate(weights)
    ]

    result = average.Average(prefixes)

    mean = np.mean(np.asarray(weights, np.float64), axis=0).astype(np.float32)
    assert sorted(result) == ['.step', '.updates', 'enc/count', 'enc/w', 'enc/w/.ema']
    np.testing.assert_array_equal(result['enc/w'], mean)
    np.testing.assert_allclose(result['enc/w/.ema'], 2 * mean, rtol=1e-6)
    assert result['enc/w'].dtype == np.float32
    # Of the highest step, which is not the last one given.
    assert (result['.step'], result['.updates'], result['enc/count']) == (30, 0, 0)


def test_sums_lose_no_digits(tmp_path):
    """In float32, 1e8 + 1 - 1e8 is 0; in bfloat16, 1 + 1/256 is 1."""
    values = [1e8, 1.0, -1e8, 2.0]
    prefixes = [
        Save(tmp_path, i, w=np.float32([v]), h=tf.constant([1.0 + (i == 0) / 64], tf.bfloat16))
        for i, v in enumerate(values)
    ]
    result = average.Average(prefixes)
    np.testing.assert_array_equal(result['w'], [0.75])
    assert result['h'].dtype == tf.bfloat16.as_numpy_dtype


def test_an_average_stands_where_a_checkpoint_can(tmp_path):
    prefixes = [Save(tmp_path, i, w=np.float32([i, 0])) for i in (1, 2)]
    prefix = files.PrefixOf(str(tmp_path), 99)
    average.Write(prefixes, prefix)
    variable = tf.Variable([0.0, 0.0])
    tensors.RestoreInto(prefix, {'w': variable})
    np.testing.assert_array_equal(variable, [1.5, 0.0])
    np.testing.assert_array_equal(average.Average([prefix])['w'], [1.5, 0.0])


def test_checkpoints_of_two_models_have_no_average(tmp_path):
    first = Save(tmp_path, 1, w=np.zeros([2, 3], np.float32))
    second = Save(tmp_path, 2, w=np.zeros([2, 4], np.float32))
    with pytest.raises(tensors.MismatchError) as error:
        average.Average([first, second])
    assert '[2, 3]' in str(error.value) and '[2, 4]' in str(error.value)
    assert str(error.value).endswith(f'{second} is no checkpoint of the same model as {first}, '
                                     'so they have no average.')  # fmt: skip


def test_nothing_and_damage_are_errors(tmp_path):
    with pytest.raises(ValueError, match='no checkpoints to average'):
        average.Average([])
    prefix = Save(tmp_path, 1, w=np.zeros([200], np.float32))
    os.truncate(f'{prefix}.data-00000-of-00001', 100)
    with pytest.raises(tensors.CorruptError, match='ckpt-00000001 is damaged'):
        average.Average([prefix])

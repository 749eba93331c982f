"""The types that a task computes in, by the names of Keras' policies, which Keras layers get too.

Variables are float32 under every policy; `mixed_` names the type of the matrix products and
activations between them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

DTYPES = {
    'float32': tf.float32,
    'mixed_bfloat16': tf.bfloat16,
    'mixed_float16': tf.float16,
}


def Name(dtype: tf.DType) -> str:
    """The policy whose computation is of this type."""
    return next((name for name, each in DTYPES.items() if each == dtype), dtype.name)


@contextlib.contextmanager
def OfKeras(dtype: tf.DType) -> Iterator[None]:
    """Keras layers that are made inside have the policy of `dtype`, whatever the process has.

    The policy of the process (`keras.mixed_precision.set_dtype_policy`) is put back at the end.
    """
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(Name(dtype))
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)

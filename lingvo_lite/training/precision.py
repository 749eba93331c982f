"""Which type a task computes in, and why.

Variables, gradients, optimizer and losses are float32 under every policy (`dtype_policy`).
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import tensorflow as tf

from lingvo_lite import dtype_policy, hyperparams
from lingvo_lite.dtype_policy import DTYPES

# Flags of /proc/cpuinfo that mean bfloat16 products in hardware.
_BFLOAT16_FLAGS = ('amx_bf16', 'avx512_bf16')


class Resolved(NamedTuple):
    """What `Resolve` chose.

    Attributes:
      policy: 'float32', 'mixed_bfloat16' or 'mixed_float16'.
      dtype: the type of the computation.
      why: the reason, as a phrase for the log.
    """

    policy: str
    dtype: tf.DType
    why: str


def Resolve(task_params: Any) -> Resolved:
    """The precision that a task's Params ask for, with 'auto' decided for this machine.

    Args:
      task_params: Params of a task. `train.precision` decides; where it is 'auto' and
        `fprop_dtype` is set, that does.

    Raises:
      hyperparams.ConfigError: if the two contradict each other, or `fprop_dtype` is of a type that
        cannot be trained in.
    """
    asked = task_params.train.precision
    dtype = task_params.fprop_dtype
    if dtype is not None and dtype not in DTYPES.values():
        raise hyperparams.Fail(
            task_params,
            f'fprop_dtype is float32, bfloat16 or float16, got {dtype.name}.',
            key='fprop_dtype',
        )
    if asked != 'auto':
        if dtype is not None and dtype != DTYPES[asked]:
            raise hyperparams.Fail(
                task_params,
                f'train.precision={asked!r} contradicts fprop_dtype={dtype.name}. '
                'Set train.precision only.',
                key='fprop_dtype',
            )
        return Resolved(asked, DTYPES[asked], 'set by task.train.precision')
    if dtype is not None:
        return Resolved(dtype_policy.Name(dtype), dtype, 'set by task.fprop_dtype')
    policy, why = _ForThisMachine()
    return Resolved(policy, DTYPES[policy], why)


def Apply(task_params: Any) -> Resolved:
    """Resolves the precision and writes it into the Params, so that no 'auto' is left in them."""
    resolved = Resolve(task_params)
    task_params.train.precision = resolved.policy
    task_params.fprop_dtype = resolved.dtype
    return resolved


def _ForThisMachine() -> tuple[str, str]:
    """(policy, why) of the fastest precision that trains to the same result here."""
    gpus = tf.config.get_visible_devices('GPU')
    if gpus:
        return 'mixed_float16', f'auto: {len(gpus)} GPU found'
    if tf.config.get_visible_devices('TPU'):
        return 'mixed_bfloat16', 'auto: TPU found'
    flags = _CpuFlags()
    found = [flag for flag in _BFLOAT16_FLAGS if flag in flags]
    if not found:
        return 'float32', 'auto: no GPU, and the CPU has no bfloat16 products'
    if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0':
        return 'float32', f'auto: the CPU has {found[0]}, but TF_ENABLE_ONEDNN_OPTS=0 hides it'
    return 'mixed_bfloat16', f'auto: no GPU, and the CPU has {found[0]}'


def _CpuFlags(path: str = '/proc/cpuinfo') -> set[str]:
    """Flags of the first processor; none where the file does not exist (macOS)."""
    try:
        with open(path, encoding='utf-8') as file:
            match = re.search(r'^flags\s*:(.*)$', file.read(), re.MULTILINE)
    except OSError:
        return set()
    return set(match[1].split()) if match else set()

"""The step context: what a layer may know of the step it takes part in.

It is entered inside the function given to `strategy.run`, on each replica, around the forward pass
and `tape.gradient`:

    with step.Context(training=True, step=global_step, seed=p.random_seed, replica=replica_id):
        loss = ...

There is no default: a layer that asks outside of a context gets an error.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import zlib
from collections.abc import Mapping
from typing import Any, Callable, Optional, Union

import tensorflow as tf

_stacks = threading.local()

Observer = Callable[[str, Any], Any]


class Context:
    """Whether we train, which step it is, and where random draws come from.

    Attributes:
      training: Python bool.
      step: int64 scalar, the global batch number.
      seed: Python int, the run's random seed.
      micro_batch: Python int, the number of the micro-batch within the step.
      replica: int32 scalar, the number of the replica among all.
      vn_std: float32 scalar, standard deviation of variational noise; None for none.
      substitutes: {var.ref(): float32 value} that stand in for variables (their EMA, say).
      observer: called as observer(path, outputs) behind each layer's FProp; its result replaces
        the outputs. None for none.
      hoisted: what `layers.variables.Hoisted` read in front of a loop; None outside of one.
      recomputing: whether `layers.base.Remat` computes a layer for the second time, in which
        nothing may be counted again.
    """

    def __init__(
        self,
        training: bool,
        step: Union[int, tf.Tensor] = 0,
        seed: int = 0,
        micro_batch: int = 0,
        replica: Union[int, tf.Tensor] = 0,
        vn_std: Optional[tf.Tensor] = None,
        substitutes: Optional[Mapping[Any, tf.Tensor]] = None,
        observer: Optional[Observer] = None,
    ):
        self.training = training
        self.step = tf.cast(step, tf.int64)
        self.seed = seed
        self.micro_batch = micro_batch
        self.replica = tf.cast(replica, tf.int32)
        low = tf.cast(self.step & 0x7FFFFFFF, tf.int32)
        self._weight_key = tf.stack([low, 0])
        self._activation_key = tf.stack([low, self.replica])
        self.vn_std = vn_std
        self.substitutes = substitutes or {}
        self.observer = observer
        self.hoisted: Optional[dict[Any, tf.Tensor]] = None
        self.recomputing = False
        self._calls: dict[str, int] = {}

    def __enter__(self) -> Context:
        if not hasattr(_stacks, 'contexts'):
            _stacks.contexts = []
        _stacks.contexts.append(self)
        return self

    def __exit__(self, *args: Any) -> None:
        _stacks.contexts.pop()

    def NextCall(self, path: str) -> int:
        """How often `path` has drawn in this context so far."""
        count = self._calls.get(path, 0)
        self._calls[path] = count + 1
        return count

    def Repeatable(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """`compute`, for somebody who calls it again, with the same draws as the first time.

        From the second time on, `recomputing` is set, and draws behind it are what they would be
        without the repetition.
        """
        before = dict(self._calls)
        repeats = False

        def Compute(*args: Any) -> Any:
            nonlocal repeats
            after, outer = self._calls, self.recomputing
            self._calls = dict(before)
            self.recomputing = outer or repeats
            try:
                return compute(*args)
            finally:
                self.recomputing = outer
                if repeats:
                    self._calls = after
                repeats = True

        return Compute


def Current() -> Context:
    """The innermost context on this thread.

    Raises:
      RuntimeError: if there is none.
    """
    contexts = getattr(_stacks, 'contexts', None)
    if not contexts:
        raise RuntimeError(
            'A layer was called outside of a step context. Wrap the call: '
            '`with step.Context(training=False): layer(x)`.'
        )
    return contexts[-1]


def ActivationSeed(path: str, extra: Optional[Union[int, tf.Tensor]] = None) -> tf.Tensor:
    """Seed for one draw over activations (dropout, SpecAugment, zoneout).

    Key: (run's seed, step, micro-batch, replica, path, n-th call of this path in the step).

    Args:
      path: of the layer that draws.
      extra: int scalar to fold in, e.g. the time inside a loop; None for none.

    Returns:
      int32 [2], for tf.random.stateless_*.
    """
    context = Current()
    name = f'{path}#{context.NextCall(path)}#{context.micro_batch}'
    key = context._activation_key ^ _Mask(context.seed, name)
    return key if extra is None else _Fold(key, extra)


def WeightSeed(path: str) -> tf.Tensor:
    """Seed for one draw over weights: the same on all replicas and micro-batches. int32 [2]."""
    context = Current()
    return context._weight_key ^ _Mask(context.seed, path)


def InitSeed(path: str, seed: int) -> tuple[int, int]:
    """Seed of a variable's initial value: a function of the run's seed and its path alone."""
    return seed & 0x7FFFFFFF, _Hash(path)


def _Mask(seed: int, name: str) -> tf.Tensor:
    """62 random bits, int32 [2], from a run's seed and a name.

    Philox takes any two keys that differ as unrelated, so a key (step, replica) needs no mixing
    beyond the xor with these bits.
    """
    digest = hashlib.blake2b(f'{seed}/{name}'.encode(), digest_size=8).digest()
    high, low = struct.unpack('<II', digest)
    return tf.constant([high & 0x7FFFFFFF, low & 0x7FFFFFFF], tf.int32)


def _Hash(name: str) -> int:
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def _Fold(key: tf.Tensor, data: Union[int, tf.Tensor]) -> tf.Tensor:
    """Mixes `data` into a key by a round of multiplication and xor (wrapping int32)."""
    data = tf.cast(data, tf.int32)
    mixed = (key[0] ^ data) * tf.constant(0x2C1B3C6D, tf.int32) + key[1]
    mixed = (mixed ^ tf.bitwise.right_shift(mixed, 15)) * tf.constant(0x297A2D39, tf.int32)
    return tf.stack([mixed, key[1] ^ data * tf.constant(0x5BD1E995, tf.int32)])

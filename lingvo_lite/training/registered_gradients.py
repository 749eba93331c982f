"""What TensorFlow remembers of `tf.custom_gradient`, and when it can be forgotten.

Called in a graph, a function with a custom gradient (tf.nn.silu and tf.recompute_grad have one too)
registers it under a new name, for the rest of the process. The entry holds the graph, the graph
the variables, and with them stays what the device made of both: some 200 MB of each small
experiment that is trained and decoded in one process.

The entry is read when a tf.while_loop, a tf.cond or a tf.function inside the graph is
differentiated. A step has its gradients in its own trace: nobody differentiates it afterwards.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

# Private, and there is no public way: tf.RegisterGradient only adds.
from tensorflow.python.framework import ops

_PREFIX = 'CustomGradient-'
# What another thread registers meanwhile is not ours to forget.
_one_trace = threading.RLock()


@contextlib.contextmanager
def Forgotten() -> Iterator[None]:
    """Custom gradients registered inside are forgotten behind it. One thread at a time."""
    with _one_trace:
        before = Names()
        try:
            yield
        finally:
            Forget(Names() - before)


def Names() -> set[str]:
    """Those of all custom gradients that are registered."""
    return {name for name in _Entries() if name.startswith(_PREFIX)}


def Forget(names: Iterable[str]) -> None:
    """From here on no graph with these custom gradients can be differentiated any further."""
    for name in names:
        _Entries().pop(name, None)


def _Entries() -> dict[str, object]:
    registry = getattr(ops, 'gradient_registry', None)
    # Without them everything works, but for the memory; a test says so.
    return getattr(registry, '_registry', {})

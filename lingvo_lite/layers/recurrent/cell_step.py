"""One step of a recurrence: forward, backward, and what is known of it before the loop.

A cell is a function of one step; see `recurrence`. Tensors are flat lists here, in the order of
tf.nest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional, Union

import tensorflow as tf

Product = Callable[[str, tf.Tensor], tf.Tensor]
Cell = Callable[[Product, Any, Any, Any], tuple[Any, Any]]


def times(a: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """a: [..., m], w: [m, n] -> [..., n]; or [batch, k, m], [batch, m, n] -> [batch, k, n]."""
    if w.shape.rank == 3 or a.shape.rank == 2:
        return tf.matmul(a, w)
    # [..., m] -> [rows, m] -> [..., n]
    y = tf.matmul(tf.reshape(a, [-1, w.shape[0]]), w)
    y = tf.reshape(y, tf.concat([tf.shape(a)[:-1], [w.shape[1]]], axis=0))
    y.set_shape(a.shape[:-1] + [w.shape[1]])
    return y


class CellStep:
    """One step of a cell.

    Attributes:
      parts: the tensors of matrices, shared, inputs and state.
      names: of the products; where they are a list, in this order.
      outputs: TensorSpecs of the outputs.
      products: TensorSpecs of the products.
      output_is: for each output, which part of the state behind the step it is; None if none.
      state_of: {product: which part of the state is its left factor; None if none}.
    """

    def __init__(
        self, cell: Cell, matrices: dict[str, tf.Tensor], shared: Any, inputs: Any, state: Any
    ):
        """Looks at one step; the arguments are those of `recurrence.recur`.

        Raises:
          ValueError: if the cell leaves out a product.
        """
        self._cell = cell
        self._nests = (matrices, shared, inputs, state)
        self.parts = [[tf.convert_to_tensor(x) for x in tf.nest.flatten(n)] for n in self._nests]
        self.names = sorted(matrices)  # the order of tf.nest
        made: dict[str, tf.TensorSpec] = {}
        factors: dict[str, tf.Tensor] = {}
        with tf.Graph().as_default():
            weights = {k: _Stand(w) for k, w in zip(self.names, self.parts[0])}

            def Make(name: str, a: tf.Tensor) -> tf.Tensor:
                y = times(a, weights[name])
                made[name], factors[name] = tf.TensorSpec(y.shape, y.dtype), a
                return y

            shared, x, before = self._Stands()
            output, after = self._cell(
                _Once(Make), *map(tf.nest.pack_sequence_as, self._nests[1:], (shared, x, before))
            )
            outputs = tf.nest.flatten(output)
        if set(made) != set(self.names):
            raise ValueError(
                f'The cell makes the products {sorted(made)}, and got matrices for {self.names}.'
            )
        self._output = tf.nest.map_structure(lambda y: None, output)
        self.outputs = [tf.TensorSpec(y.shape, y.dtype) for y in outputs]
        self.products = [made[name] for name in self.names]
        after = tf.nest.flatten(after)
        self.output_is = [_Position(y, after) for y in outputs]
        self.state_of = {name: _Position(a, before) for name, a in factors.items()}

    def Forward(
        self, product: Product, shared: list, x: list, state: list, padded: Optional[tf.Tensor]
    ) -> tuple[list, list]:
        """The outputs, and the state behind the step; where `padded`, it stays as it was."""
        output, after = self._cell(
            _Once(product),
            tf.nest.pack_sequence_as(self._nests[1], shared),
            tf.nest.pack_sequence_as(self._nests[2], x),
            tf.nest.pack_sequence_as(self._nests[3], state),
        )
        tf.nest.assert_same_structure(self._nests[3], after)
        after = tf.nest.flatten(after)
        if padded is not None:
            after = [tf.where(fit(padded, old), old, new) for old, new in zip(state, after)]
        after = [shaped(new, old) for old, new in zip(state, after)]
        return tf.nest.flatten(output), after

    def Back(
        self,
        weights: Mapping[str, tf.Tensor],
        shared: list,
        x: list,
        before: list,
        products: list,
        d_after: list,
    ) -> tuple[list, list, list, dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The step computed again, and back.

        Args:
          weights: {name: matrix}.
          shared, x, before, products: what the step had.
          d_after: gradients of its outputs and of the state behind it.

        Returns:
          The gradients of `before`, and of the floats in `shared` and `x`; the left factor and the
          gradient of each product.
        """
        own = [tf.identity(s) for s in shared]
        known = dict(zip(self.names, products))
        left: dict[str, tf.Tensor] = {}
        right = {name: tf.zeros_like(z) for name, z in known.items()}

        def Known(name: str, a: tf.Tensor) -> tf.Tensor:
            left[name] = a

            @tf.custom_gradient
            def Linked(a: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
                def Gradient(d: tf.Tensor) -> tf.Tensor:
                    right[name] = d
                    return _TimesTransposed(d, weights[name])

                return tf.identity(known[name]), Gradient

            return Linked(a)

        both = floats(own), floats(x)
        sources = [*before, *both[0], *both[1]]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            outputs, after = self.Forward(Known, own, x, before, None)
        found = tape.gradient(
            [*outputs, *after],
            sources,
            output_gradients=d_after,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        found = iter([shaped(g, s) for g, s in zip(found, sources)])
        d_state, d_own, d_x = ([next(found) for _ in part] for part in (before, *both))
        return d_state, d_own, d_x, left, right

    def InputOf(self) -> dict[str, Optional[int]]:
        """{product: which float of the inputs has the same gradient, if one has}."""
        with tf.Graph().as_default():
            weights = {k: _Stand(w) for k, w in zip(self.names, self.parts[0])}
            products = [_Stand(spec) for spec in self.products]
            shared, x, before = self._Stands()
            d_after = [_Stand(spec) for spec in (*self.outputs, *before)]
            _, _, d_x, _, right = self.Back(weights, shared, x, before, products, d_after)
        return {name: _Position(d, d_x) for name, d in right.items()}

    def Pack(self, outputs: list, state: list) -> tuple[Any, Any]:
        """Both lists as the nests that the cell makes of them."""
        return (
            tf.nest.pack_sequence_as(self._output, outputs),
            tf.nest.pack_sequence_as(self._nests[3], state),
        )

    def _Stands(self) -> tuple[list, list, list]:
        """Placeholders for `shared`, and for one step's input and state."""
        _, shared, inputs, state = self.parts
        return (
            [_Stand(x) for x in shared],
            [_Stand(x, 1) for x in inputs],
            [_Stand(x) for x in state],
        )


def floats(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Those of a floating type."""
    return [x for x in tensors if x.dtype.is_floating]


def shaped(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """x, with what is known of the shape of `like`."""
    x.set_shape(like.shape)
    return x


def fit(mask: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """mask: [batch] or [time, batch], with axes of size 1 behind, up to the rank of x."""
    for _ in range(x.shape.rank - mask.shape.rank):
        mask = mask[..., tf.newaxis]
    return mask


def _Once(product: Product) -> Product:
    """A product that may be asked for once under each name."""
    seen: set[str] = set()

    def Checked(name: str, a: tf.Tensor) -> tf.Tensor:
        if name in seen:
            raise ValueError(f'The cell asks for the product {name!r} twice in a step.')
        seen.add(name)
        return product(name, a)

    return Checked


def _Stand(x: Union[tf.Tensor, tf.TensorSpec], skip: int = 0) -> tf.Tensor:
    """A placeholder for x, without its first axes."""
    return tf.compat.v1.placeholder(x.dtype, x.shape[skip:])


def _Position(x: tf.Tensor, among: Sequence[tf.Tensor]) -> Optional[int]:
    """Where this very tensor stands; None if it does not."""
    return next((i for i, other in enumerate(among) if other is x), None)


def _TimesTransposed(d: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """d: [..., n], w: [m, n] -> d w^T: [..., m]."""
    if w.shape.rank == 3 or d.shape.rank == 2:
        return tf.matmul(d, w, transpose_b=True)
    return times(d, tf.transpose(w))

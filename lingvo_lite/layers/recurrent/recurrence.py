"""A recurrence that reads its weights once and keeps little for its backward pass.

A cell is a function of one step:

    cell(product, shared, x, state) -> (output, next state)

where `product(name, a)` is a @ matrices[name]. Because products go through a name, the backward
loop need not add up the gradient of a weight step by step: it collects the factors, and one product
over all steps follows the loop. Everything else in a cell is cheap to compute and dear to keep (an
attention over 1,000 frames makes a [batch, 1000, hidden] at each step), so it is computed again.

What the backward pass keeps of a step is its state and its products. It can be differentiated once.

At small sizes the price of a step is the number of its operations, and a tensor that is written
into an array costs as much as a small product. So what is there already is not written again: an
output that is a part of the state, a factor that is one, or one that is the gradient of an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional, Union

import tensorflow as tf

Product = Callable[[str, tf.Tensor], tf.Tensor]
Cell = Callable[[Product, Any, Any, Any], tuple[Any, Any]]


def recur(
    cell: Cell,
    matrices: Mapping[str, tf.Tensor],
    shared: Any,
    inputs: Any,
    state: Any,
    paddings: Optional[tf.Tensor] = None,
    reverse: bool = False,
    use_while_loop_based_unrolling: bool = False,
) -> tuple[Any, Any]:
    """Runs a cell over time.

    Args:
      cell: see the module's docstring. It uses no tensors but those it is given, asks for each
        product once, and hands floats on as state.
      matrices: {name: [m, n]}, or [batch, m, n] for a product of each example's own.
      shared: nest of tensors that every step gets as they are: biases, what an attention sees.
      inputs: nest of [time, ...], of which a step gets a slice; time is at least 1.
      state: nest of [batch, ...], before the first step.
      paddings: [time, batch], 1.0 where there is no data: there the state stays as it is and the
        outputs are zeros. None for none.
      reverse: whether the last step comes first. Outputs stand where their inputs do.
      use_while_loop_based_unrolling: True for automatic gradients of the loop, which keep every
        intermediate value; False for ours. Both are equal up to rounding.

    Returns:
      The outputs, a nest of [time, batch, ...], and the state behind the last step.
    """
    loop = _Loop(cell, dict(matrices), shared, inputs, state, paddings, reverse)
    run = loop.Plain if use_while_loop_based_unrolling else loop.Lean
    outputs, state = run()
    if paddings is not None:
        outputs = tf.nest.map_structure(
            lambda y: tf.where(_Fit(loop.padded, y), tf.zeros([], y.dtype), y), outputs
        )
    return outputs, state


def times(a: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """a: [..., m], w: [m, n] -> [..., n]; or [batch, k, m], [batch, m, n] -> [batch, k, n]."""
    if w.shape.rank == 3 or a.shape.rank == 2:
        return tf.matmul(a, w)
    # [..., m] -> [rows, m] -> [..., n]
    y = tf.matmul(tf.reshape(a, [-1, w.shape[0]]), w)
    y = tf.reshape(y, tf.concat([tf.shape(a)[:-1], [w.shape[1]]], axis=0))
    y.set_shape(a.shape[:-1] + [w.shape[1]])
    return y


class _Loop:
    """The loops of one `recur`. All tensors are kept as flat lists."""

    def __init__(
        self,
        cell: Cell,
        matrices: dict[str, tf.Tensor],
        shared: Any,
        inputs: Any,
        state: Any,
        paddings: Optional[tf.Tensor],
        reverse: bool,
    ):
        self.padded = None if paddings is None else paddings > 0.5
        self._cell = cell
        self._nests = (matrices, shared, inputs, state)
        self._reverse = reverse
        tensors = [[tf.convert_to_tensor(x) for x in tf.nest.flatten(n)] for n in self._nests]
        self._names = sorted(matrices)  # the order of tf.nest
        self._matrices, self._shared, self._inputs, self._state = tensors
        self._time = tf.shape(self._inputs[0])[0]
        self._Probe()

    def Plain(self) -> tuple[Any, Any]:
        """tf.while_loop as it comes."""
        matrices = dict(zip(self._names, self._matrices))
        inputs = self._Arrays(self._inputs)
        padded = self._PaddedArray()

        def Body(n: tf.Tensor, state: list, arrays: list) -> tuple:
            t = self._Index(n)
            product = _Once(lambda name, a: times(a, matrices[name]))
            outputs, state = self._Step(
                product, self._shared, _Read(inputs, t), state, _ReadOne(padded, t)
            )
            return n + 1, state, _Write(arrays, t, outputs)

        start = (0, self._state, self._NewArrays(self._outputs))
        # XLA differentiates a loop only if it knows how long it gets.
        _, state, arrays = self._While(Body, start, maximum_iterations=self._time)
        return self._Pack([a.stack() for a in arrays], state)

    def Lean(self) -> tuple[Any, Any]:
        """The loop with the backward pass written by hand."""
        parts = (self._matrices, self._shared, self._inputs, self._state)
        floats = [x for part in parts for x in part if x.dtype.is_floating]

        @tf.custom_gradient
        def Run(
            *given: tf.Tensor,
        ) -> tuple[tuple[tf.Tensor, ...], Callable[..., list[tf.Tensor]]]:
            rest = iter(given)
            matrices, shared, inputs, state = (
                [next(rest) if x.dtype.is_floating else x for x in part] for part in parts
            )
            outputs, last, after, products = self._Forward(matrices, shared, inputs, state)

            def Gradient(*upstream: tf.Tensor) -> list[tf.Tensor]:
                before = [self._Shifted(first, rest) for first, rest in zip(state, after)]
                d_outputs = upstream[: len(outputs)]
                d_last = list(upstream[len(outputs) :])
                return self._Backward(matrices, shared, inputs, before, products, d_outputs, d_last)

            return (*outputs, *last), Gradient

        values = Run(*floats)
        count = len(self._outputs)
        return self._Pack(list(values[:count]), list(values[count:]))

    def _Forward(self, matrices: list, shared: list, inputs: list, state: list) -> tuple:
        """Outputs and last state; the states after each step and their products, [time, ...]."""
        weights = dict(zip(self._names, matrices))
        slices = self._Arrays(inputs)
        padded = self._PaddedArray()

        own = [i for i, j in enumerate(self._output_is) if j is None]

        def Body(n: tf.Tensor, state: list, outs: list, after: list, products: list) -> tuple:
            t = self._Index(n)
            made: dict[str, tf.Tensor] = {}

            def Make(name: str, a: tf.Tensor) -> tf.Tensor:
                made[name] = times(a, weights[name])
                return made[name]

            outputs, state = self._Step(
                _Once(Make), shared, _Read(slices, t), state, _ReadOne(padded, t)
            )
            outs = _Write(outs, t, [outputs[i] for i in own])
            after = _Write(after, t, state)
            return n + 1, state, outs, after, _Write(products, t, [made[k] for k in self._names])

        _, last, outs, after, products = self._While(
            Body,
            (
                0,
                state,
                self._NewArrays([self._outputs[i] for i in own]),
                self._NewArrays(state),
                self._NewArrays(self._products),
            ),
        )
        after = [a.stack() for a in after]
        rest = iter(outs)
        outputs = [next(rest).stack() if j is None else after[j] for j in self._output_is]
        return outputs, last, after, [a.stack() for a in products]

    def _Shifted(self, first: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """What stands before each step: [batch, ...] and [time, batch, ...] -> the latter."""
        if self._reverse:
            return tf.concat([after[1:], first[tf.newaxis]], axis=0)
        return tf.concat([first[tf.newaxis], after[:-1]], axis=0)

    def _Backward(
        self,
        matrices: list,
        shared: list,
        inputs: list,
        states: list,
        products: list,
        d_outputs: Sequence[tf.Tensor],
        d_last: list,
    ) -> list[tf.Tensor]:
        """The gradients of all that is of a floating type: matrices, shared, inputs, state."""
        weights = dict(zip(self._names, matrices))
        slices, states_, products_ = (self._Arrays(x) for x in (inputs, states, products))
        d_outs = self._Arrays(d_outputs)
        padded = self._PaddedArray()
        float_shared = _Floats(shared)
        float_inputs = _Floats(inputs)
        input_of = self._ProbeBack()
        specs = dict(zip(self._names, self._products))
        # [..., m], the left side of each product
        sides = {
            name: tf.TensorSpec(product.shape[:-1] + weights[name].shape[-2:-1], product.dtype)
            for name, product in specs.items()
        }
        own_left = [name for name in self._names if self._state_of[name] is None]
        own_right = [name for name in self._names if input_of[name] is None]

        def Body(
            n: tf.Tensor, d_state: list, d_shared: list, d_inputs: list, lefts: list, rights: list
        ) -> tuple:
            t = self._Index(self._time - 1 - n)
            # Where the state stays, so does its gradient.
            d_after, d_kept = _Parted(_ReadOne(padded, t), d_state)
            d_state, d_own, d_x, left, right = self._StepBack(
                weights,
                shared,
                _Read(slices, t),
                _Read(states_, t),
                _Read(products_, t),
                [*_Read(d_outs, t), *d_after],
            )
            if d_kept is not None:
                d_state = [d + kept for d, kept in zip(d_state, d_kept)]
            d_shared = [d + tf.cast(g, d.dtype) for d, g in zip(d_shared, d_own)]
            d_inputs = _Write(d_inputs, t, d_x)
            lefts = _Write(lefts, t, [left[name] for name in own_left])
            rights = _Write(rights, t, [right[name] for name in own_right])
            return n + 1, d_state, d_shared, d_inputs, lefts, rights

        _, d_state, d_shared, d_inputs, lefts, rights = self._While(
            Body,
            (
                0,
                d_last,
                [tf.zeros_like(s, tf.float32) for s in float_shared],
                self._NewArrays([tf.TensorSpec(x.shape[1:], x.dtype) for x in float_inputs]),
                self._NewArrays([sides[name] for name in own_left]),
                self._NewArrays([specs[name] for name in own_right]),
            ),
        )
        d_inputs = [_Shaped(a.stack(), x) for a, x in zip(d_inputs, float_inputs)]
        left = {name: states[j] for name, j in self._state_of.items() if j is not None}
        right = {name: d_inputs[i] for name, i in input_of.items() if i is not None}
        left.update({name: a.stack() for name, a in zip(own_left, lefts)})
        right.update({name: a.stack() for name, a in zip(own_right, rights)})
        return [
            *(_Shaped(_Outer(left[name], right[name], w), w) for name, w in weights.items()),
            *(tf.cast(d, s.dtype) for d, s in zip(d_shared, float_shared)),
            *d_inputs,
            *d_state,
        ]

    def _StepBack(
        self,
        weights: Mapping[str, tf.Tensor],
        shared: list,
        x: list,
        before: list,
        products: list,
        d_after: list,
    ) -> tuple[list, list, list, dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """One step computed again, and back.

        Args:
          weights: {name: matrix}.
          shared, x, before, products: what the step had.
          d_after: gradients of its outputs and of the state behind it.

        Returns:
          The gradients of `before`, and of the floats in `shared` and `x`; the left factor and the
          gradient of each product.
        """
        own = [tf.identity(s) for s in shared]
        known = dict(zip(self._names, products))
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

        floats = _Floats(own), _Floats(x)
        sources = [*before, *floats[0], *floats[1]]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            outputs, after = self._Step(_Once(Known), own, x, before, None)
        found = tape.gradient(
            [*outputs, *after],
            sources,
            output_gradients=d_after,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        found = iter([_Shaped(g, s) for g, s in zip(found, sources)])
        d_state, d_own, d_x = ([next(found) for _ in part] for part in (before, *floats))
        return d_state, d_own, d_x, left, right

    def _Step(
        self, product: Product, shared: list, x: list, state: list, padded: Optional[tf.Tensor]
    ) -> tuple[list, list]:
        """The cell over flat lists; where `padded`, the state stays."""
        output, after = self._cell(
            product,
            tf.nest.pack_sequence_as(self._nests[1], shared),
            tf.nest.pack_sequence_as(self._nests[2], x),
            tf.nest.pack_sequence_as(self._nests[3], state),
        )
        tf.nest.assert_same_structure(self._nests[3], after)
        after = tf.nest.flatten(after)
        if padded is not None:
            after = [tf.where(_Fit(padded, old), old, new) for old, new in zip(state, after)]
        after = [_Shaped(new, old) for old, new in zip(state, after)]
        return tf.nest.flatten(output), after

    def _Probe(self) -> None:
        """Looks at one step: what it returns, and what of that is there already.

        Raises:
          ValueError: if the cell leaves out a product.
        """
        made: dict[str, tf.TensorSpec] = {}
        factors: dict[str, tf.Tensor] = {}
        with tf.Graph().as_default():
            matrices = {k: _Stand(w) for k, w in zip(self._names, self._matrices)}

            def Make(name: str, a: tf.Tensor) -> tf.Tensor:
                y = times(a, matrices[name])
                made[name], factors[name] = tf.TensorSpec(y.shape, y.dtype), a
                return y

            shared, x, before = self._Stands()
            output, after = self._cell(
                _Once(Make), *map(tf.nest.pack_sequence_as, self._nests[1:], (shared, x, before))
            )
            outputs = tf.nest.flatten(output)
        if set(made) != set(self._names):
            raise ValueError(
                f'The cell makes the products {sorted(made)}, and got matrices for {self._names}.'
            )
        self._output = tf.nest.map_structure(lambda y: None, output)
        self._outputs = [tf.TensorSpec(y.shape, y.dtype) for y in outputs]
        self._products = [made[name] for name in self._names]
        after = tf.nest.flatten(after)
        self._output_is = [_Position(y, after) for y in outputs]
        self._state_of = {name: _Position(a, before) for name, a in factors.items()}

    def _ProbeBack(self) -> dict[str, Optional[int]]:
        """{product: which float of the inputs has the same gradient, if one has}."""
        with tf.Graph().as_default():
            weights = {k: _Stand(w) for k, w in zip(self._names, self._matrices)}
            products = [_Stand(spec) for spec in self._products]
            shared, x, before = self._Stands()
            d_after = [_Stand(spec) for spec in (*self._outputs, *before)]
            _, _, d_x, _, right = self._StepBack(weights, shared, x, before, products, d_after)
        return {name: _Position(d, d_x) for name, d in right.items()}

    def _Stands(self) -> tuple[list, list, list]:
        """Placeholders for `shared`, and for one step's input and state."""
        shared = [_Stand(x) for x in self._shared]
        inputs = [_Stand(x, 1) for x in self._inputs]
        return shared, inputs, [_Stand(x) for x in self._state]

    def _While(self, body: Callable[..., tuple], start: tuple, **kwargs: Any) -> tuple:
        return tf.while_loop(lambda n, *_: n < self._time, body, start, **kwargs)

    def _Index(self, n: tf.Tensor) -> tf.Tensor:
        return self._time - 1 - n if self._reverse else n

    def _Arrays(self, tensors: Sequence[tf.Tensor]) -> list[tf.TensorArray]:
        """[time, ...] tensors as arrays to read from."""
        return [
            tf.TensorArray(
                x.dtype, self._time, element_shape=x.shape[1:], clear_after_read=False
            ).unstack(x)
            for x in tensors
        ]

    def _PaddedArray(self) -> Optional[tf.TensorArray]:
        return None if self.padded is None else self._Arrays([self.padded])[0]

    def _NewArrays(self, specs: Sequence[tf.TensorSpec]) -> list[tf.TensorArray]:
        return [tf.TensorArray(s.dtype, self._time, element_shape=s.shape) for s in specs]

    def _Pack(self, outputs: list, state: list) -> tuple[Any, Any]:
        return (
            tf.nest.pack_sequence_as(self._output, outputs),
            tf.nest.pack_sequence_as(self._nests[3], state),
        )


def _Once(product: Product) -> Product:
    """A product that may be asked for once under each name."""
    seen: set[str] = set()

    def Checked(name: str, a: tf.Tensor) -> tf.Tensor:
        if name in seen:
            raise ValueError(f'The cell asks for the product {name!r} twice in a step.')
        seen.add(name)
        return product(name, a)

    return Checked


def _Read(arrays: Sequence[tf.TensorArray], t: tf.Tensor) -> list[tf.Tensor]:
    return [a.read(t) for a in arrays]


def _ReadOne(array: Optional[tf.TensorArray], t: tf.Tensor) -> Optional[tf.Tensor]:
    return None if array is None else array.read(t)


def _Write(arrays: Sequence[tf.TensorArray], t: tf.Tensor, values: Sequence[tf.Tensor]) -> list:
    return [a.write(t, value) for a, value in zip(arrays, values)]


def _Stand(x: Union[tf.Tensor, tf.TensorSpec], skip: int = 0) -> tf.Tensor:
    """A placeholder for x, without its first axes."""
    return tf.compat.v1.placeholder(x.dtype, x.shape[skip:])


def _Position(x: tf.Tensor, among: Sequence[tf.Tensor]) -> Optional[int]:
    """Where this very tensor stands; None if it does not."""
    return next((i for i, other in enumerate(among) if other is x), None)


def _Floats(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return [x for x in tensors if x.dtype.is_floating]


def _Shaped(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """x, with what is known of the shape of `like`."""
    x.set_shape(like.shape)
    return x


def _Fit(mask: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """mask: [batch] or [time, batch], with axes of size 1 behind, up to the rank of x."""
    for _ in range(x.shape.rank - mask.shape.rank):
        mask = mask[..., tf.newaxis]
    return mask


def _Parted(padded: Optional[tf.Tensor], gradients: list) -> tuple[list, Optional[list]]:
    """The gradients of what the cell made, and of what stayed: None if nothing did."""
    if padded is None:
        return gradients, None
    zero = [tf.zeros([], d.dtype) for d in gradients]
    made = [tf.where(_Fit(padded, d), z, d) for d, z in zip(gradients, zero)]
    return made, [tf.where(_Fit(padded, d), d, z) for d, z in zip(gradients, zero)]


def _TimesTransposed(d: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """d: [..., n], w: [m, n] -> d w^T: [..., m]."""
    if w.shape.rank == 3 or d.shape.rank == 2:
        return tf.matmul(d, w, transpose_b=True)
    return times(d, tf.transpose(w))


def _Outer(a: tf.Tensor, d: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """The gradient of w: the sum of a^T d over all steps and rows.

    Args:
      a: [time, ..., m], or [time, batch, k, m].
      d: [time, ..., n], or [time, batch, k, n].
      w: [m, n], or [batch, m, n].
    """
    if w.shape.rank == 2:
        a = tf.reshape(a, [-1, w.shape[0]])
        d = tf.reshape(d, [-1, w.shape[1]])
        return tf.matmul(a, d, transpose_a=True)

    def Rows(x: tf.Tensor) -> tf.Tensor:
        # [time, batch, k, size] -> [batch, time * k, size]
        shape = tf.shape(x)
        return tf.reshape(tf.transpose(x, [1, 0, 2, 3]), [shape[1], shape[0] * shape[2], shape[3]])

    return tf.matmul(Rows(a), Rows(d), transpose_a=True)

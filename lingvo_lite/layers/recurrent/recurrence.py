"""A recurrence that reads its weights once and keeps little for its backward pass.

A cell is a function of one step (`cell_step`):

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
from typing import Any, Callable, Optional

import tensorflow as tf

from lingvo_lite.layers.recurrent.cell_step import (
    Cell,
    CellStep,
    Product as Product,
    fit,
    floats,
    shaped,
    times,
)


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
    loop = _Loop(CellStep(cell, dict(matrices), shared, inputs, state), paddings, reverse)
    run = loop.Plain if use_while_loop_based_unrolling else loop.Lean
    outputs, state = run()
    if paddings is not None:
        outputs = tf.nest.map_structure(
            lambda y: tf.where(fit(loop.padded, y), tf.zeros([], y.dtype), y), outputs
        )
    return outputs, state


class _Loop:
    """The loops of one `recur`. All tensors are kept as flat lists."""

    def __init__(self, step: CellStep, paddings: Optional[tf.Tensor], reverse: bool):
        self.padded = None if paddings is None else paddings > 0.5
        self._step = step
        self._reverse = reverse
        self._time = tf.shape(step.parts[2][0])[0]

    def Plain(self) -> tuple[Any, Any]:
        """tf.while_loop as it comes."""
        step = self._step
        matrices, shared, inputs, state = step.parts
        weights = dict(zip(step.names, matrices))
        slices = self._Arrays(inputs)
        padded = self._PaddedArray()

        def Times(name: str, a: tf.Tensor) -> tf.Tensor:
            return times(a, weights[name])

        def Body(n: tf.Tensor, state: list, arrays: list) -> tuple:
            t = self._Index(n)
            outputs, state = step.Forward(
                Times, shared, _Read(slices, t), state, _ReadOne(padded, t)
            )
            return n + 1, state, _Write(arrays, t, outputs)

        start = (0, state, self._NewArrays(step.outputs))
        # XLA differentiates a loop only if it knows how long it gets.
        _, state, arrays = self._While(Body, start, maximum_iterations=self._time)
        return step.Pack([a.stack() for a in arrays], state)

    def Lean(self) -> tuple[Any, Any]:
        """The loop with the backward pass written by hand."""
        parts = self._step.parts

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

        values = Run(*[x for part in parts for x in floats(part)])
        count = len(self._step.outputs)
        return self._step.Pack(list(values[:count]), list(values[count:]))

    def _Forward(self, matrices: list, shared: list, inputs: list, state: list) -> tuple:
        """Outputs and last state; the states after each step and their products, [time, ...]."""
        step = self._step
        weights = dict(zip(step.names, matrices))
        slices = self._Arrays(inputs)
        padded = self._PaddedArray()
        own = [i for i, j in enumerate(step.output_is) if j is None]

        def Body(n: tf.Tensor, state: list, outs: list, after: list, products: list) -> tuple:
            t = self._Index(n)
            made: dict[str, tf.Tensor] = {}

            def Make(name: str, a: tf.Tensor) -> tf.Tensor:
                made[name] = times(a, weights[name])
                return made[name]

            outputs, state = step.Forward(
                Make, shared, _Read(slices, t), state, _ReadOne(padded, t)
            )
            outs = _Write(outs, t, [outputs[i] for i in own])
            after = _Write(after, t, state)
            return n + 1, state, outs, after, _Write(products, t, [made[k] for k in step.names])

        _, last, outs, after, products = self._While(
            Body,
            (
                0,
                state,
                self._NewArrays([step.outputs[i] for i in own]),
                self._NewArrays(state),
                self._NewArrays(step.products),
            ),
        )
        after = [a.stack() for a in after]
        rest = iter(outs)
        outputs = [next(rest).stack() if j is None else after[j] for j in step.output_is]
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
        step = self._step
        weights = dict(zip(step.names, matrices))
        slices, states_, products_ = (self._Arrays(x) for x in (inputs, states, products))
        d_outs = self._Arrays(d_outputs)
        padded = self._PaddedArray()
        float_shared = floats(shared)
        float_inputs = floats(inputs)
        input_of = step.InputOf()
        specs = dict(zip(step.names, step.products))
        # [..., m], the left side of each product
        sides = {
            name: tf.TensorSpec(product.shape[:-1] + weights[name].shape[-2:-1], product.dtype)
            for name, product in specs.items()
        }
        own_left = [name for name in step.names if step.state_of[name] is None]
        own_right = [name for name in step.names if input_of[name] is None]

        def Body(
            n: tf.Tensor, d_state: list, d_shared: list, d_inputs: list, lefts: list, rights: list
        ) -> tuple:
            t = self._Index(self._time - 1 - n)
            # Where the state stays, so does its gradient.
            d_after, d_kept = _Parted(_ReadOne(padded, t), d_state)
            d_state, d_own, d_x, left, right = step.Back(
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
        d_inputs = [shaped(a.stack(), x) for a, x in zip(d_inputs, float_inputs)]
        left = {name: states[j] for name, j in step.state_of.items() if j is not None}
        right = {name: d_inputs[i] for name, i in input_of.items() if i is not None}
        left.update({name: a.stack() for name, a in zip(own_left, lefts)})
        right.update({name: a.stack() for name, a in zip(own_right, rights)})
        return [
            *(shaped(_Outer(left[name], right[name], w), w) for name, w in weights.items()),
            *(tf.cast(d, s.dtype) for d, s in zip(d_shared, float_shared)),
            *d_inputs,
            *d_state,
        ]

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


def _Read(arrays: Sequence[tf.TensorArray], t: tf.Tensor) -> list[tf.Tensor]:
    return [a.read(t) for a in arrays]


def _ReadOne(array: Optional[tf.TensorArray], t: tf.Tensor) -> Optional[tf.Tensor]:
    return None if array is None else array.read(t)


def _Write(arrays: Sequence[tf.TensorArray], t: tf.Tensor, values: Sequence[tf.Tensor]) -> list:
    return [a.write(t, value) for a, value in zip(arrays, values)]


def _Parted(padded: Optional[tf.Tensor], gradients: list) -> tuple[list, Optional[list]]:
    """The gradients of what the cell made, and of what stayed: None if nothing did."""
    if padded is None:
        return gradients, None
    zero = [tf.zeros([], d.dtype) for d in gradients]
    made = [tf.where(fit(padded, d), z, d) for d, z in zip(gradients, zero)]
    return made, [tf.where(fit(padded, d), d, z) for d, z in zip(gradients, zero)]


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

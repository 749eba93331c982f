"""Recurrent networks over sequences: one direction, both, and stacks of them.

The product of the inputs with the cell's weights is made for all steps at once; the loop is
`recurrence.recur`. On a GPU, cuDNN's kernel stands in for both where it computes the same cell.
"""

from __future__ import annotations

from typing import Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base, dropout
from lingvo_lite.layers.recurrent import cells, cudnn, recurrence
from lingvo_lite.nested_map import NestedMap


class RNN(base.BaseLayer):
    """A cell run over time, from the first step on or, with `reverse`, from the last.

    x: [batch, time, input_dim] -> [batch, time, output_dim]; zeros at paddings, where the state
    stays as it is: what stands behind an example is nothing to it.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('cell', cells.LSTMCell.Params(), 'The cell.', bound=base.BaseLayer)
        p.Define('reverse', False, 'Whether time runs backward.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self.CreateChild('cell', self.params.cell)

    @property
    def output_dim(self) -> int:
        """Size of the output."""
        return self.cell.output_dim

    def FProp(
        self,
        x: tf.Tensor,
        paddings: Optional[tf.Tensor],
        state: Optional[NestedMap] = None,
        return_state: bool = False,
    ) -> Union[tf.Tensor, tuple[tf.Tensor, NestedMap]]:
        """Runs over whole sequences.

        Args:
          x: [batch, time, input_dim]; time is at least 1.
          paddings: [batch, time]; None for none, which is a little faster.
          state: before the first step; None for that of `InitStates`.
          return_state: whether to return the state behind the last step too.

        Returns:
          [batch, time, output_dim]; with return_state also the state.
        """
        # [batch, time, input_dim] -> [time, batch, input_dim]
        x = tf.transpose(x, [1, 0, 2])
        if state is None:
            state = self.InitStates(tf.shape(x)[1])
        run = self._Cudnn if self._FitsCudnn() else self._Loop
        ys, state = run(x, paddings, state)
        # [time, batch, output_dim] -> [batch, time, output_dim]
        ys = tf.transpose(ys, [1, 0, 2])
        return (ys, state) if return_state else ys

    def InitStates(self, batch: Union[int, tf.Tensor]) -> NestedMap:
        """The state before the first step; see the cell's."""
        return self.cell.InitStates(batch)

    def ExtendStep(self, x: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        """One step. x: [batch, input_dim] -> [batch, output_dim], and the next state."""
        return self.cell.FProp(x, state)

    def _Loop(
        self, x: tf.Tensor, paddings: Optional[tf.Tensor], state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap]:
        """x: [time, batch, input_dim] -> [time, batch, output_dim], and the last state."""
        time, batch = tf.unstack(tf.shape(x)[:2])
        return recurrence.recur(
            self.cell.Step,
            self.cell.Matrices(),
            self.cell.Shared(),
            NestedMap(x=self.cell.Project(x), **self.cell.Noise(time, batch)),
            state,
            None if paddings is None else tf.transpose(paddings),
            self.params.reverse,
            # Without a backward pass there is nothing to keep for it.
            use_while_loop_based_unrolling=not step.Current().training,
        )

    def _FitsCudnn(self) -> bool:
        return self.cell.cudnn_mode is not None and cudnn.available(self.cell.dtype)

    def _Cudnn(
        self, x: tf.Tensor, paddings: Optional[tf.Tensor], state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap]:
        """As `_Loop`. Paddings follow the data."""
        x = tf.cast(x, self.cell.dtype)
        time, batch = tf.unstack(tf.shape(x)[:2])
        lengths = tf.fill([batch], time)
        if paddings is not None:
            lengths = tf.cast(tf.reduce_sum(1.0 - paddings, axis=1), tf.int32)
        if self.params.reverse:
            x = tf.reverse_sequence(x, lengths, seq_axis=0, batch_axis=1)
        # An LSTM's output is m and its state c; a GRU has one state.
        output, other = ('m', 'c') if 'm' in state else ('h', 'h')
        before = state.Transform(lambda value: tf.cast(value, x.dtype))
        mode, buffer = self.cell.cudnn_mode, self.cell.CudnnBuffer()
        ys, h, c = cudnn.run(mode, buffer, x, before[output], before[other], lengths)
        if self.params.reverse:
            ys = tf.reverse_sequence(ys, lengths, seq_axis=0, batch_axis=1)
        after = {other: c, output: h}  # of a GRU, that is h
        return ys, NestedMap({k: tf.cast(after[k], state[k].dtype) for k in state})


class BidirectionalRNN(base.BaseLayer):
    """Two cells, one in each direction (Schuster and Paliwal, 1997).

    x: [batch, time, input_dim] -> [batch, time, 2 * output_dim of the cell]; zeros at paddings.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('cell', cells.LSTMCell.Params(), 'Each cell.', bound=base.BaseLayer)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        one = RNN.Params().Set(cell=self.params.cell)
        self.CreateChild('forward', one)
        self.CreateChild('backward', one.Copy().Set(reverse=True))

    @property
    def output_dim(self) -> int:
        """Size of the output."""
        return self.forward.output_dim + self.backward.output_dim

    def FProp(self, x: tf.Tensor, paddings: Optional[tf.Tensor]) -> tf.Tensor:
        """x: [batch, time, input_dim], paddings: [batch, time] -> [batch, time, output_dim]."""
        return tf.concat([self.forward(x, paddings), self.backward(x, paddings)], axis=2)


class _RNNStack(base.BaseLayer):
    """What stacks share."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Size of the input.', type=int)
        p.Define('num_layers', REQUIRED, 'Number of layers.', type=int)
        p.Define('cell', cells.LSTMCell.Params(), 'Each cell.', bound=base.BaseLayer)
        p.Define('dropout_prob', 0.0, 'Dropout rate between the layers.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateChild('dropout', dropout.Dropout.Params().Set(rate=p.dropout_prob))
        dim = p.input_dim
        layers = []
        for _ in range(p.num_layers):
            layer = self._Layer().Set(cell=p.cell.Copy().Set(input_dim=dim))
            layers.append(layer)
            with base.ShapesOnly():
                dim = layer.Copy().Set(name='shape').Instantiate().output_dim
        self.CreateChildren('layers', layers)

    @property
    def output_dim(self) -> int:
        """Size of the output."""
        return self.layers[-1].output_dim

    def FProp(self, x: tf.Tensor, paddings: Optional[tf.Tensor]) -> tf.Tensor:
        """x: [batch, time, input_dim], paddings: [batch, time] -> [batch, time, output_dim]."""
        for n, layer in enumerate(self.layers):
            x = layer(self.dropout(x) if n else x, paddings)
        return x

    def _Layer(self) -> hyperparams.InstantiableParams[base.BaseLayer]:
        """Params of a layer."""
        raise NotImplementedError


class StackedRNN(_RNNStack):
    """Layers of `RNN` over each other, in one direction: over whole sequences or step by step."""

    def InitStates(self, batch: Union[int, tf.Tensor]) -> NestedMap:
        """The states before the first step."""
        return NestedMap({f'layers_{n}': x.InitStates(batch) for n, x in enumerate(self.layers)})

    def ExtendStep(self, x: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        """One step. x: [batch, input_dim] -> [batch, output_dim], and the next state."""
        after = NestedMap()
        for n, layer in enumerate(self.layers):
            name = f'layers_{n}'
            x, after[name] = layer.ExtendStep(self.dropout(x) if n else x, state[name])
        return x, after

    def _Layer(self) -> hyperparams.InstantiableParams[RNN]:
        return RNN.Params()


class StackedBidirectionalRNN(_RNNStack):
    """Layers of `BidirectionalRNN` over each other: each sees both directions of the one below."""

    def _Layer(self) -> hyperparams.InstantiableParams[BidirectionalRNN]:
        return BidirectionalRNN.Params()

"""A recurrent language model (Mikolov et al., 2010; with LSTMs Sundermeyer et al., 2012)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams, layers, task
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.nested_map import NestedMap


class RnnLm(task.BaseTask):
    """p(y_t | y_<t) = softmax(w h_t), h = LSTM layers over the embeddings of <s> y_1 ... y_t-1.

    Step by step (`InitStates`, `ExtendStep`) it is what
    decoding/language_models/fusion_params.py takes.

    batch:
      target.ids: [batch, time], <s> and the tokens; target.labels: the tokens and </s>.
      target.paddings, target.weights: [batch, time].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        task.DefineTokens(p)
        p.Define('model_dim', REQUIRED, 'Size of the embeddings.', type=int)
        p.Define('embedding', layers.Embedding.Params(), 'Token embedding.')
        p.Define('rnn', layers.StackedRNN.Params(), 'The layers.')
        p.Define('dropout', layers.Dropout.Params(), 'On the embeddings, and before the softmax.')
        p.Define('softmax', layers.SoftmaxLoss.Params(), 'Output and loss.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        handed = layers.handed
        self.CreateChild('embedding', handed(p, 'embedding', 'vocab_size', 'model_dim'))
        self.CreateChild('rnn', handed(p, 'rnn', input_dim=p.model_dim))
        self.CreateChild('dropout', p.dropout)
        dim = self.rnn.output_dim
        self.CreateChild('softmax', handed(p, 'softmax', 'vocab_size', model_dim=dim))

    def ComputePredictions(self, batch: NestedMap) -> NestedMap:
        """x [batch, time, dim], from which each token is to be guessed."""
        x = self.dropout(self.embedding(batch.target.ids))
        return NestedMap(x=self.dropout(self.rnn(x, batch.target.paddings)))

    def ComputeLoss(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """Cross-entropy, a mean over tokens with </s>."""
        out = self.softmax(predictions.x, batch.target.labels, batch.target.weights)
        return task.TokenLoss(out)

    def InitStates(self, rows: Any) -> NestedMap:
        """The state of `rows` empty texts: tensors [rows, ...]."""
        return self.rnn.InitStates(rows)

    def ExtendStep(self, ids: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        """One token further.

        Args:
          ids: int32 [rows], the last token of each text; bos_id at first.
          state: from `InitStates` or the step before.

        Returns:
          Logits of the next token, float32 [rows, vocab_size padded to a multiple of 8], and the
          next state.
        """
        x = self.dropout(self.embedding(ids))
        x, state = self.rnn.ExtendStep(x, state)
        return self.softmax.Logits(self.dropout(x)), state


def Sizes(p: hyperparams.Params, model_dim: int, num_layers: int, cell_dim: int) -> Any:
    """RnnLm Params with these sizes."""
    p.model_dim = model_dim
    p.rnn.num_layers = num_layers
    p.rnn.cell.Set(cell_dim=cell_dim)
    return p

"""What the Transformer experiments of translation share."""

from __future__ import annotations

from typing import Any

from lingvo_lite import experiment, optim
from lingvo_lite.optim import schedules

from .. import model


class TransformerExperiment(experiment.BaseExperiment):
    """A Transformer, to be given a `Task` and datasets."""

    def Tiny(self) -> Any:
        p = self.Task()
        small = {'num_layers': 2, 'num_heads': 2, 'hidden_dim': 32}
        p.Set(vocab_size=64, model_dim=16)
        p.encoder.Set(**small)
        p.decoder.Set(**small)
        p.train.lr_schedule.model_dim = 16
        return p


def Model(vocab_size: int, dim: int, hidden: int, heads: int, layers: int, rate: float) -> Any:
    """TransformerModel Params of these sizes, with dropout where Vaswani et al. (2017) have it.

    That is on the embeddings and on what each part adds (section 5.4), not inside of the parts.
    """
    p = model.TransformerModel.Params()
    p.vocab_size = vocab_size
    p.model_dim = dim
    p.embedding.scale_sqrt_depth = True
    p.input_dropout.rate = rate
    for stack in (p.encoder, p.decoder):
        stack.Set(num_layers=layers, num_heads=heads, hidden_dim=hidden)
        stack.residual_dropout_prob = rate
    return p


def Train(p: Any, factor: float, warmup_steps: int) -> Any:
    """Task Params p, trained as in section 5.3: Adam, and a rate that rises and then falls.

    Args:
      p: of a TransformerModel.
      factor: of the learning rate; 1 in the paper.
      warmup_steps: in which the rate rises.
    """
    schedule = schedules.Transformer.Params()
    p.train.lr_schedule = schedule.Set(model_dim=p.model_dim, warmup_steps=warmup_steps)
    p.train.optimizer = optim.Adam.Params().Set(beta1=0.9, beta2=0.98, epsilon=1e-9)
    p.train.learning_rate = factor
    p.eval.best_metric = 'decode_dev/bleu'
    return p

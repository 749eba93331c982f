"""English number words to German ones."""

from __future__ import annotations

from typing import Any

from lingvo_lite import experiment, inputs, optim, registry
from lingvo_lite.optim import schedules

from .. import input as mt_input
from . import wmt


@registry.Register
class NumbersEnDe(experiment.BaseExperiment):
    """'two hundred and five plus seventeen' -> 'zweihundertfünf plus siebzehn'.

    The numbers of Dev and Test are not in Train.

    Measured: sacreBLEU 98.3, chrF 99.8 on Test at step 1,500, after three and a half minutes of
    `bash tools/quickstart.sh` on two cores of an AMD EPYC that also ran other work, in
    mixed_bfloat16 (auto). docs/precision.md has the scores of the other precisions.
      BLEU nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0
      chrF nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0
    """

    def Task(self) -> Any:
        p = wmt.Transformer(vocab_size=256, dim=128, hidden=256, heads=4, layers=2, rate=0.1)
        p.search.Set(method='beam', beam_size=4, length_normalization=0.6)
        p.train.learning_rate = 1.0
        p.train.lr_schedule = schedules.Transformer.Params().Set(model_dim=128, warmup_steps=400)
        p.train.optimizer = optim.Adam.Params().Set(beta1=0.9, beta2=0.98, epsilon=1e-9)
        p.train.max_steps = 1500
        p.train.save_interval_steps = 500
        p.eval.best_metric = 'decode_dev/bleu'
        p.eval.best_mode = 'max'
        return p

    def Tiny(self) -> Any:
        return wmt.Shrink(self.Task())

    def Train(self) -> Any:
        return self._Input('train').Set(tokens_per_batch=8192)

    def Dev(self) -> Any:
        return self._Input('dev')

    def Test(self) -> Any:
        return self._Input('test')

    def _Input(self, split: str) -> Any:
        p = mt_input.NumbersInput.Params()
        p.source_file = f'{mt_input.NUMBERS}/{split}.en'
        p.target_file = f'{mt_input.NUMBERS}/{split}.de'
        files = [f'{mt_input.NUMBERS}/train.{language}' for language in ('en', 'de')]
        p.tokenizer = inputs.SentencePieceTokenizer.Params().Set(
            vocab_size=self.Task().vocab_size, train_files=files
        )
        p.tokens_per_batch = 8192
        return p

"""Multi30k English-German: captions of pictures."""

from __future__ import annotations

from typing import Any

from lingvo_lite import inputs, registry

from . import transformer


@registry.Register
class Multi30kEnDe(transformer.TransformerExperiment):
    """A small Transformer on the 29,000 captions of Multi30k (Elliott et al., 2016, W16-3210).

    Data: multi30k/{train,val,test_2016_flickr}.{en,de}.gz under the data folder, as in the
    repository of Multi30k (data/task1/raw).

    Sizes as in Wu et al. (2021, 'Good for Misconceived Reasons'), Transformer-tiny, which is
    published at 41.0 lower-cased, tokenised BLEU4 on test_2016_flickr.

    Measured: sacreBLEU 40.2, chrF 64.2 on Test (40.6 and 63.5 on Dev) at step 8,000, after 50
    minutes on two cores of an AMD EPYC that also ran other work, in mixed_bfloat16 (auto):
      trainer --model=mt.Multi30kEnDe --logdir=RUN
      decoder --model=mt.Multi30kEnDe --logdir=RUN --dataset=Test
      BLEU nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0
      chrF nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0
    """

    def Task(self) -> Any:
        p = transformer.Model(vocab_size=6000, dim=128, hidden=256, heads=4, layers=4, rate=0.3)
        p.softmax.label_smoothing = 0.1
        p.search.Set(method='beam', beam_size=5, length_normalization=1.0)
        p.train.Set(max_steps=8000, save_interval_steps=500, save_max_to_keep=10, ema_decay=0.999)
        return transformer.Train(p, factor=2.5, warmup_steps=2000)

    def Train(self) -> Any:
        return self._Input('train').Set(tokens_per_batch=8192)

    def Dev(self) -> Any:
        return self._Input('val')

    def Test(self) -> Any:
        return self._Input('test_2016_flickr')

    def _Input(self, split: str) -> Any:
        p = inputs.ParallelTextInput.Params()
        p.source_file = f'multi30k/{split}.en'
        p.target_file = f'multi30k/{split}.de'
        p.prepared_by = "github.com/multi30k/dataset's folder data/task1/raw"
        p.tokenizer = inputs.SentencePieceTokenizer.Params().Set(
            vocab_size=self.Task().vocab_size,
            train_files=['multi30k/train.en', 'multi30k/train.de'],
        )
        p.tokens_per_batch = 8192
        p.bucket_upper_bound = list(range(4, 129, 2))  # one trace serves all shapes
        return p

"""WMT14 English-German."""

from __future__ import annotations

from typing import Any

from lingvo_lite import inputs, registry

from . import transformer


@registry.Register
class WmtEnDe(transformer.TransformerExperiment):
    """Transformer base (Vaswani et al., 2017, arXiv 1706.03762, table 3), 65 million parameters.

    Here 60.5 million: the vocabulary has 32,000 tokens, where the paper's has 37,000.

    Published: 27.3 tokenised BLEU on newstest2014 after 100,000 steps of about 25,000 source and
    25,000 target tokens; 26.4 sacreBLEU (OpenSeq2Seq's Transformer-base after 300,000 steps). Not
    trained here.

    Data: `tools/prepare_wmt.py` makes wmt_en_de/ in the data folder from the downloaded files.
    """

    def Task(self) -> Any:
        p = transformer.Model(vocab_size=32_000, dim=512, hidden=2048, heads=8, layers=6, rate=0.1)
        p.encoder.pre_norm = False
        p.decoder.pre_norm = False
        p.softmax.label_smoothing = 0.1
        p.search.Set(method='beam', beam_size=4, length_normalization=0.6)
        p.search.Set(max_ratio=1.0, max_steps=50)
        p.train.max_steps = 100_000
        return transformer.Train(p, factor=1.0, warmup_steps=4000)

    def Train(self) -> Any:
        p = self._Input('train')
        p.tokens_per_batch = 50_000
        p.source_max_length = 256
        p.target_max_length = 256
        return p

    def Dev(self) -> Any:
        return self._Input('newstest2013')

    def Test(self) -> Any:
        return self._Input('newstest2014')

    def _Input(self, name: str) -> Any:
        p = inputs.ParallelTextInput.Params()
        p.file_pattern = f'wmt_en_de/{name}-*.tfrecord'
        p.prepared_by = 'tools/prepare_wmt.py'
        p.tokenizer = inputs.SentencePieceTokenizer.Params().Set(
            vocab_size=self.Task().vocab_size, model_file='wmt_en_de/spm.model'
        )
        p.tokens_per_batch = 16_000
        p.bucket_upper_bound = [8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256]
        return p


@registry.Register
class WmtEnDeBig(WmtEnDe):
    """Transformer big (Vaswani et al., 2017, table 3): the same but wider, dropout 0.3.

    213 million parameters in the paper, 209.1 million here.

    Published: 28.4 tokenised BLEU on newstest2014 after 300,000 steps. Not trained here.
    """

    def Task(self) -> Any:
        p = super().Task()
        p.model_dim = p.train.lr_schedule.model_dim = 1024
        p.input_dropout.rate = 0.3
        for stack in (p.encoder, p.decoder):
            stack.Set(num_heads=16, hidden_dim=4096, residual_dropout_prob=0.3)
        p.train.max_steps = 300_000
        return p

"""Translation pairs."""

from __future__ import annotations

import numpy as np

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import data_files
from lingvo_lite.inputs.text import pairs, text_input


class ParallelTextInput(text_input.TextInput):
    """Translation pairs, from two line files or from TFRecord files with sidecars.

    Examples with an empty side are not trained on; in evaluation they are kept, so that scores
    cover the whole test set. Both are counted in the log.
    """

    side_names = pairs.LENGTH_NAMES

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('source_file', '', 'Line file, plain or .gz, relative to the data folder.')
        p.Define('target_file', '', 'Line file with the translations of the lines of source_file.')
        p.Define(
            'file_pattern',
            '',
            "Instead of both: TFRecord files, relative to the data folder: 'wmt/train-*.tfrecord'.",
        )
        p.Define('prepared_by', '', 'The command that makes the files, for the error without them.')
        p.Define(
            'target_max_length',
            None,
            'Longest target that is trained on, in tokens with </s>. Evaluation takes any.',
            type=int,
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if values do not fit."""
        super().Check(p)
        if bool(p.source_file) != bool(p.target_file) or bool(p.source_file) == bool(
            p.file_pattern
        ):
            raise hyperparams.Fail(
                p, 'set source_file and target_file, or instead of them file_pattern.'
            )

    def __init__(self, params: hyperparams.Params):
        if params.file_pattern:
            paths = data_files.FindDataFiles(params.file_pattern, params.prepared_by)
            super().__init__(params, pairs.RecordPairs(paths))
        else:
            names = (params.source_file, params.target_file)
            paths = [data_files.FindData(name, params.prepared_by) for name in names]
            super().__init__(params, pairs.LinePairs(*paths))

    def _PlainCounts(self) -> np.ndarray:
        """From the sidecars, if they were written with this tokenizer; otherwise counted here."""
        if isinstance(self._held, pairs.RecordPairs):
            held = self._held.records
            same = held.meta.get('tokenizer') == self.tokenizer.Fingerprint()
            if same and held.length_names == pairs.LENGTH_NAMES:
                return held.lengths
        return super()._PlainCounts()

"""Lines of text to be modelled.

    target.ids        int32 [b, t]     <s> tokens
    target.labels     int32 [b, t]     tokens </s>
    target.paddings   float32 [b, t]   1.0 where there is no token
    target.weights    float32 [b, t]   1 - paddings
    id, row_weight                     see pipeline.BaseInput

Every line is a text of its own.
"""

from __future__ import annotations

from lingvo_lite import hyperparams, inputs
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import cache


class LinesInput(inputs.SourceTextInput):
    """Lines of one file. Empty lines are not trained on; in evaluation they are kept."""

    side_names = ('target',)
    _keeps_counts = True

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Delete('source_file')
        p.Delete('source_max_length')
        p.Define('file', '', 'Line file, plain or .gz, relative to the data folder.')
        p.Define('prepared_by', '', 'What makes the file, for the error without it.')
        p.Define('lower_case', False, 'Whether the text is brought to lower case.')
        p.Define(
            'target_max_length',
            None,
            'Longest line that is trained on, in tokens with </s>. Evaluation takes any.',
            type=int,
        )
        return p

    def __init__(self, params: hyperparams.Params):
        """Opens the file.

        Raises:
          FileNotFoundError, ValueError: if it is missing or holds no line.
        """
        lines: inputs.Source = inputs.LineSource(inputs.FindData(params.file, params.prepared_by))
        super().__init__(params, _LowerCase(lines) if params.lower_case else lines)


class _LowerCase(inputs.Source):
    """Lines in lower case."""

    def __init__(self, lines: inputs.Source):
        self.name, self._lines = lines.name, lines

    def __len__(self) -> int:
        return len(self._lines)

    def Get(self, index: int) -> str:
        """Line `index`."""
        return self._lines.Get(index).lower()

    def Where(self, index: int) -> str:
        """File, line and byte."""
        return self._lines.Where(index)

    def Fingerprint(self) -> str:
        """A hash of the lines."""
        return cache.Key('lower case', self._lines.Fingerprint())

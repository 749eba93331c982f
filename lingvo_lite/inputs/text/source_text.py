"""Lines of one's own, to be translated."""

from __future__ import annotations

from typing import Optional

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import cache, own_input, source
from lingvo_lite.inputs.text import text_input


class SourceTextInput(own_input.OwnInput, text_input.TextInput):
    """Lines to translate, without references: what `decoder --input=FILE|-` reads.

    The lines are read to their end, unless they are given by windows (see `own_input.OwnInput`).
    """

    side_names = ('source',)
    _keeps_counts = False  # the text of a user is not kept behind his back

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('source_file', '', "Path of a line file, plain or .gz; '-' is standard input.")
        return p

    @classmethod
    def Open(cls, path: str) -> source.IterableSource:
        """The lines of a file, or of standard input if the path is '-', as they come."""
        return own_input.Stream(path, source.FileLines, iter)

    def __init__(self, params: hyperparams.Params, lines: Optional[source.Source] = None):
        """Opens the file, unless `lines` are given.

        Raises:
          FileNotFoundError, ValueError: if the file is missing or holds no line.
        """
        if lines is None and params.source_file == '-':
            lines = source.MemorySource(list(source.StandardInput()), 'standard input')
            if not len(lines):
                raise ValueError('standard input is empty: it holds no line.')
        elif lines is None:
            lines = source.LineSource(params.source_file)
        super().__init__(params, _SingleTexts(lines))


class _SingleTexts(source.Source):
    """Lines as examples of one text."""

    def __init__(self, lines: source.Source):
        self.name, self._lines = lines.name, lines
        self.first, self.bad_ids = lines.first, lines.bad_ids
        self.Where = lines.Where  # type: ignore[method-assign]

    def __len__(self) -> int:
        return len(self._lines)

    def Get(self, index: int) -> tuple[str, ...]:
        """The line, stripped."""
        return (self._lines.Get(index).strip(),)

    def Fingerprint(self) -> str:
        """A hash of the lines."""
        return cache.Key('single', self._lines.Fingerprint())

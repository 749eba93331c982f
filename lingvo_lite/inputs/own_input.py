"""What a user gives to a trained model: a file of one's own, or standard input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Callable, Union

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import pipeline, source

_Record = Union[str, source.BadRecordError]


class OwnInput(pipeline.BaseInput):
    """Reads the file `params.source_file`, which has no references, as a dataset reads its own.

    A stream is served by windows, by `Instantiate(lines=...)`:

        p = source_text.SourceTextInput.FromParallel(dataset, '-')
        for lines in p.cls.Open('-').Windows(1000):
            for batch in p.Instantiate(lines=lines).Batches(train=False): ...
    """

    @classmethod
    def FromParallel(
        cls, parallel: hyperparams.Params, source_file: str
    ) -> hyperparams.InstantiableParams[Self]:
        """Params that read `source_file` as an input of `parallel` Params reads its source."""
        return pipeline.ParamsLike(cls, parallel, source_file=source_file)

    @classmethod
    def Open(cls, path: str) -> source.IterableSource:
        """The records that `path` names, or standard input if it is '-', as they come."""
        raise NotImplementedError


def Stream(
    path: str,
    in_file: Callable[[str], Iterable[_Record]],
    in_lines: Callable[[Iterator[_Record]], Iterable[_Record]],
) -> source.IterableSource:
    """Records as they come.

    Args:
      path: of a file; '-' is standard input.
      in_file: the records that a path names.
      in_lines: the records that the lines of standard input hold.
    """
    if path == '-':
        return source.IterableSource(lambda: in_lines(source.StandardInput()), 'standard input')
    return source.IterableSource(lambda: in_file(path), path)

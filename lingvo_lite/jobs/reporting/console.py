"""What a job shows: log lines on stderr, and a progress bar where stderr is a terminal."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Optional


def SetUpLogging() -> None:
    """Sends all logs of this process to stderr in one form."""
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        handler = _StderrHandler()
        handler.setFormatter(_Formatter())
        root.addHandler(handler)
    for name in ('lingvo_lite', 'absl'):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger('tensorflow').propagate = False  # it has a handler of its own


class _StderrHandler(logging.Handler):
    """Writes to what sys.stderr is at that moment: rich puts the bar below what goes there."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = '' if record.levelno <= logging.INFO else f'{record.levelname}: '
        when = time.strftime('%H:%M:%S', time.localtime(record.created))
        return f'{when} {level}{record.getMessage()}'


class Progress:
    """Steps/s, tokens/s, loss and time left: a bar on a terminal, lines elsewhere.

    with console.Progress(start=100, end=1000) as progress:
        progress.Step(101)
        progress.Report(101, 'loss 3.2', tokens_per_second=11900.0, loss=3.2)
    """

    def __init__(self, start: int, end: Optional[int], log: logging.Logger):
        """Takes where the bar begins and ends.

        Args:
          start: steps that are done.
          end: steps in all; None if that is not known.
          log: gets the lines.
        """
        self._log = log
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = _Bar(start, end)

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar:
            self._bar.progress.stop()

    def Step(self, step: int) -> None:
        """A step is done. Cheap."""
        if self._bar:
            self._bar.progress.update(self._bar.task, completed=step)

    def Report(self, step: int, line: str, loss: float, tokens_per_second: float) -> None:
        """An interval is done. `line` is what is logged where there is no bar."""
        if self._bar is None:
            self._log.info('%s', line)
        else:
            shown = f'loss {loss:.4f}  {tokens_per_second:,.0f} tokens/s'
            self._bar.progress.update(self._bar.task, completed=step, numbers=shown)


class _Bar:
    def __init__(self, start: int, end: Optional[int]):
        import rich.console
        import rich.progress as parts

        self.progress = parts.Progress(
            parts.TextColumn('step {task.completed:,}' + (f'/{end:,}' if end else '')),
            parts.BarColumn(),
            _Speed(),
            parts.TextColumn('{task.fields[numbers]}'),
            parts.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
            refresh_per_second=2,
        )
        self.task = self.progress.add_task('', total=end, completed=start, numbers='')


def _Speed() -> Any:
    import rich.progress as parts

    class Speed(parts.ProgressColumn):
        """Steps/s over the last ones."""

        def render(self, task: Any) -> Any:
            speed = task.finished_speed or task.speed
            return parts.Text('' if speed is None else f'{speed:.2f} steps/s')

    return Speed()


def Duration(seconds: float) -> str:
    """'4 s', '3 min 20 s', '2 h 05 min', '3 d 4 h'."""
    whole = int(seconds + 0.5)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f'{days} d {hours} h'
    if hours:
        return f'{hours} h {minutes:02d} min'
    if minutes:
        return f'{minutes} min {whole % 60:02d} s'
    return f'{whole} s'

"""The log directory: all that the jobs of one run share.

RUN/  params.txt  params-00001000.txt  variables.txt  vocabulary.txt  tokens.json  command.json
  files/            tokenizers and what else decoding needs
  train/            ckpt-00001000.*  checkpoint  events.*  metrics.jsonl  FINISHED
  eval_dev/         events.*  metrics.jsonl
  decode_test/      events.*  metrics.jsonl  decoded-00001000.jsonl
  best/             the best checkpoint, score.json
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Sequence
from typing import Optional

from lingvo_lite import hyperparams, renamed
from lingvo_lite.runs import atomic, locks, provenance, resume, vocabulary

_log = logging.getLogger(__name__)

_REMOTE = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')


class RunDir:
    """One log directory. Making the object reads and writes nothing."""

    def __init__(self, path: str):
        """Args: path: the value of --logdir; a POSIX directory, which need not exist yet.

        Raises:
          hyperparams.ConfigError: if it is something else, such as gs://bucket/run.
        """
        remote = _REMOTE.match(path)
        if remote:
            raise hyperparams.ConfigError(
                f'--logdir={path}: {remote[1]}:// is no POSIX directory. The jobs of a run rely on '
                'renames, hard links and file locks, so give a directory that all of them have '
                'mounted.'
            )
        if not path:
            raise hyperparams.ConfigError('--logdir must name a directory, got an empty text.')
        self.path = os.path.abspath(os.path.expanduser(path))

    @property
    def train(self) -> str:
        """The trainer's folder, with the checkpoints."""
        return os.path.join(self.path, 'train')

    @property
    def best(self) -> str:
        """The folder of the best checkpoint."""
        return os.path.join(self.path, 'best')

    @property
    def files(self) -> str:
        """The folder of the files that the run owns; see `inputs.run_files`."""
        return os.path.join(self.path, 'files')

    @property
    def params_file(self) -> str:
        """The file that every job builds the task from."""
        return os.path.join(self.path, 'params.txt')

    def Folder(self, job: str, dataset: str) -> str:
        """The folder of a job for one dataset: ('eval', 'TestOther') -> RUN/eval_test_other.

        Raises:
          hyperparams.ConfigError: if the dataset's name is no identifier.
        """
        if not dataset.isidentifier():
            raise hyperparams.ConfigError(
                f'{dataset!r} is no name of a dataset. Use the name of the method that returns '
                'it, such as Dev.'
            )
        snake = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', dataset).lower()
        return os.path.join(self.path, f'{job}_{snake}')

    def Create(self, folder: Optional[str] = None) -> str:
        """Makes the log directory, or a folder in it, and makes sure that it can be written.

        Returns:
          The folder.

        Raises:
          hyperparams.ConfigError: if it cannot be written.
        """
        folder = folder or self.path
        probe = os.path.join(folder, f'{atomic.TEMPORARY}probe-{os.getpid()}')
        try:
            os.makedirs(folder, exist_ok=True)
            with open(probe, 'w', encoding='utf-8'):
                pass
            os.remove(probe)
        except FileExistsError:
            raise hyperparams.ConfigError(
                f'--logdir: {folder} is a file. Give a directory.'
            ) from None
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise hyperparams.ConfigError(
                f'--logdir: {folder} cannot be written ({reason}). Use a directory that this user '
                'may write to.'
            ) from None
        return folder

    def Lock(self, folder: str, job: str) -> locks.JobLock:
        """Creates a folder and takes its lock; see `locks.JobLock`."""
        return locks.JobLock(self.Create(folder), job)

    # Params.

    def HasParams(self) -> bool:
        """Whether a trainer has started here."""
        return os.path.exists(self.params_file)

    def ReadParams(self) -> str:
        """The text of params.txt, for `Params.FromText(text, source=run.params_file)`.

        Raises:
          hyperparams.ConfigError: if there is none, or it is no UTF-8.
        """
        try:
            with open(self.params_file, encoding='utf-8', newline='') as file:
                text = file.read()
        except FileNotFoundError:
            raise hyperparams.ConfigError(
                f'{self.path} holds no run: there is no params.txt. Start a trainer with this '
                '--logdir, or check its name.'
            ) from None
        except UnicodeDecodeError as error:
            raise hyperparams.ConfigError(
                f'{self.params_file} is not UTF-8: {error.reason} at byte {error.start:,}.'
            ) from None
        return renamed.PresentText(text, self.params_file)

    def Model(self) -> str:
        """The name of the run's experiment."""
        return resume.ModelOf(self.path, self.ReadParams())

    def WaitForParams(self, stop: threading.Event, poll_s: float = 1.0) -> bool:
        """Waits until a trainer has written params.txt; False if `stop` was set before that."""
        if not self.HasParams():
            _log.info('Waiting for a trainer to write %s.', self.params_file)
        while not self.HasParams():
            if stop.wait(poll_s):
                return False
        return True

    def CheckParams(self, params: hyperparams.Params) -> resume.Changes:
        """What a trainer with these params would change in the run; writes nothing.

        Raises:
          hyperparams.ConfigError: if it must not go on with this run.
        """
        if not self.HasParams():
            return resume.Changes([], [])
        return resume.Compare(self.path, self.ReadParams(), params)

    def WriteParams(self, params: hyperparams.Params, step: int) -> resume.Changes:
        """Makes these the params of the run, from `step` on, if they may be.

        params.txt always holds what is valid. After a change, params-<step>.txt says what holds
        from that step on (that of step 0: what the run began with).

        Args:
          params: the root Params, every `auto` resolved.
          step: the step that the trainer goes on from; 0 in a new run.

        Returns:
          The changes, which are logged too.

        Raises:
          hyperparams.ConfigError: if the trainer must not go on with this run.
        """
        text = params.ToText()
        if not self.HasParams():
            atomic.Write(self.params_file, text)
            return resume.Changes([], [])
        changes = self.CheckParams(params)
        for line in changes.changed:
            _log.info('%s: from step %d on, %s.', self.path, step, line)
        for line in changes.added:
            _log.info('%s: param added to the code since the run began: %s.', self.path, line)
        if text != self.ReadParams():
            first = self._NumberedParams(0)
            if not os.path.exists(first):
                atomic.Write(first, self.ReadParams())
            if step > 0:
                atomic.Write(self._NumberedParams(step), text)
            atomic.Write(self.params_file, text)
        return changes

    def _NumberedParams(self, step: int) -> str:
        return os.path.join(self.path, f'params-{step:08d}.txt')

    # What else is known about a run.

    def CheckVocabulary(self, fingerprint: str) -> None:
        """Checks that a tokenizer is the one that the run was trained with; writes nothing.

        Args:
          fingerprint: a hash of the tokenizer's content, '' for an input without one.

        Raises:
          hyperparams.ConfigError: if it is another one.
        """
        vocabulary.Check(self.path, fingerprint)

    def WriteVocabulary(self, words: vocabulary.Vocabulary) -> None:
        """Notes the vocabulary of a run that begins, for `CheckVocabulary` and `init_from`."""
        vocabulary.Write(self.path, words)

    def WriteVariables(self, table: str) -> None:
        """Writes variables.txt."""
        atomic.Write(os.path.join(self.path, 'variables.txt'), table.rstrip('\n') + '\n')

    def WriteCommand(self, argv: Sequence[str], folder: Optional[str] = None) -> None:
        """Adds this start to command.json: the trainer in RUN, others in their folder."""
        provenance.Record(os.path.join(folder or self.path, 'command.json'), argv)

    def MarkFinished(self, step: int) -> None:
        """Says that the checkpoint of `step` is the last. Call when it is on the disk."""
        atomic.WriteJson(self._finished_file, {'step': int(step)})

    def IsFinished(self) -> bool:
        """Whether training is done, so that no checkpoint will come after those there are."""
        return os.path.exists(self._finished_file)

    def ClearFinished(self) -> None:
        """Training goes on, for instance because max_steps was raised."""
        if self.IsFinished():
            os.remove(self._finished_file)

    @property
    def _finished_file(self) -> str:
        return os.path.join(self.train, 'FINISHED')

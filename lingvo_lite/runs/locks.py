"""One job for each folder of a run.

Two files: `lock`, held with fcntl for as long as the process lives (the kernel lets go of it when
the process dies, however it dies), and `lock.json`, which says who holds it and is touched every
few seconds. The kernel's lock decides between processes of one machine, and between machines where
the file system carries locks across. Where it does not, the heartbeat decides: a lock of another
host counts as held until its heartbeat is old.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from typing import Any, Optional

from lingvo_lite import hyperparams
from lingvo_lite.runs import atomic

_log = logging.getLogger(__name__)

_HEARTBEAT_S = 15.0
_STALE_S = 120.0
# fcntl locks belong to the process: a second one in the same process would succeed.
_held: set[str] = set()
_held_guard = threading.Lock()


class LockedError(hyperparams.ConfigError):
    """Another job works in the folder."""


class JobLock:
    """Holds a folder of a run: `with JobLock(folder, 'evaler Dev'): ...`."""

    def __init__(self, folder: str, job: str):
        """Takes the lock.

        Args:
          folder: an existing folder, e.g. RUN/eval_dev.
          job: what to call this process in the error that another one gets.

        Raises:
          LockedError: if a live job holds it.
          hyperparams.ConfigError: if the file system has no locks.
        """
        self._folder = os.path.realpath(folder)
        self._shown = folder
        self._record = {
            'job': job,
            'pid': os.getpid(),
            'host': socket.gethostname(),
            'since': time.strftime('%Y-%m-%d %H:%M:%S'),
            'token': os.urandom(8).hex(),
        }
        self._lost = ''
        self._stop = threading.Event()
        with _held_guard:
            if self._folder in _held:
                raise LockedError(self._Refusal(_ReadHolder(self._folder)))
            self._fd = self._TakeKernelLock()
            try:
                self._RefuseLiveHolderElsewhere()
                atomic.WriteJson(self._Path('lock.json'), self._record)
            except BaseException:
                os.close(self._fd)
                raise
            _held.add(self._folder)
        self._thread = threading.Thread(target=self._Beat, name='lock heartbeat', daemon=True)
        self._thread.start()

    def Check(self) -> None:
        """Raises LockedError if the lock is no longer this job's.

        Another host may have taken it over while this process slept, or the log directory was
        removed and another run was begun in it.
        """
        self._lost = self._lost or self._Lost()
        if self._lost:
            raise LockedError(self._lost)

    def Release(self) -> None:
        """Lets go of the folder. Calling it twice does no harm."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        with _held_guard:
            holder = _ReadHolder(self._folder)
            if holder and holder.get('token') == self._record['token']:
                os.remove(self._Path('lock.json'))
            # `lock` itself stays: removing it would let two processes lock two different files.
            os.close(self._fd)
            _held.discard(self._folder)

    def __enter__(self) -> JobLock:
        return self

    def __exit__(self, *_: Any) -> None:
        self.Release()

    def _Path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _TakeKernelLock(self) -> int:
        fd = os.open(self._Path('lock'), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise LockedError(self._Refusal(_ReadHolder(self._folder))) from None
            raise hyperparams.ConfigError(
                f'{self._shown}: its file system has no file locks ({error.strerror}), which keep '
                'two jobs from writing the same files. Use a --logdir on one that has.'
            ) from None
        return fd

    def _RefuseLiveHolderElsewhere(self) -> None:
        holder = _ReadHolder(self._folder)
        if holder is None:
            return
        who = _Who(holder)
        if holder.get('host') == self._record['host']:
            _log.warning('%s: taking over the lock of %s, which is gone.', self._shown, who)
            return
        age = self._HeartbeatAge()
        if 0 <= age < _STALE_S or (age < 0 and self._StillBeats(who)):
            raise LockedError(self._Refusal(holder))
        when = f'{age:.0f} s ago' if age >= 0 else 'before the clock was set back'
        _log.warning(
            '%s: taking over the lock of %s; its last sign of life was %s.',
            *(self._shown, who, when),
        )

    def _HeartbeatAge(self) -> float:
        """Seconds since the holder's heartbeat, both times taken by the file system's clock."""
        os.utime(self._fd)
        return os.fstat(self._fd).st_mtime - os.stat(self._Path('lock.json')).st_mtime

    def _StillBeats(self, who: str) -> bool:
        """Whether the holder goes on to touch its file: asked when its age means nothing."""
        wait = 2 * _HEARTBEAT_S
        _log.warning(
            '%s: the last sign of life of %s lies in the future, so the clock was set back. '
            'Looking for another one, for %.0f s.',
            *(self._shown, who, wait),
        )
        path = self._Path('lock.json')
        until = time.monotonic() + wait
        try:
            before = os.stat(path).st_mtime_ns
            while time.monotonic() < until:
                time.sleep(wait / 100)
                if os.stat(path).st_mtime_ns != before:
                    return True
        except FileNotFoundError:  # it has let go
            pass
        return False

    def _Refusal(self, holder: Optional[dict[str, Any]]) -> str:
        who = _Who(holder) if holder else 'another process that is just starting'
        return (
            f'{self._shown} is in use by {who}. Two jobs would overwrite each other: stop that '
            'one, or use another dataset or --logdir.'
        )

    def _Beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_S):
            try:
                self._lost = self._Lost()
                if self._lost:
                    return
                os.utime(self._Path('lock.json'))
            except OSError as error:  # a file server that restarts is no reason to stop
                _log.warning('%s: no heartbeat: %s.', self._shown, error)

    def _Lost(self) -> str:
        """Why the lock is no longer this job's; '' if it is."""
        holder = _ReadHolder(self._folder)
        if holder is not None and holder.get('token') == self._record['token']:
            return ''
        who = _Who(holder) if holder else 'someone who removed lock.json'
        return f'{self._shown}: the lock of this job was taken over by {who}.'


def _ReadHolder(folder: str) -> Optional[dict[str, Any]]:
    try:
        with open(os.path.join(folder, 'lock.json'), encoding='utf-8') as file:
            holder = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def _Who(holder: dict[str, Any]) -> str:
    return '{} (pid {} on {}, since {})'.format(
        *(holder.get(key, '?') for key in ('job', 'pid', 'host', 'since'))
    )

"""A disk that can be made full: a file system in memory, or a limit on the size of files."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Sequence

_MEGABYTES = 96
_NEARLY = 40_000  # bytes, so that some saves get half way


class Disk:
    """Where runs are.

    Attributes:
      folder: for them.
      kind: how it is made full, for people.
    """

    def __init__(self, folder: str):
        """Mounts a file system in memory there, if this user may."""
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        command = ['mount', '-t', 'tmpfs', '-o', f'size={_MEGABYTES}m', 'none', folder]
        mounted = subprocess.run(command, capture_output=True, check=False)
        self._is_mounted = mounted.returncode == 0
        self.kind = 'tmpfs' if self._is_mounted else 'RLIMIT_FSIZE (no right to mount a tmpfs)'
        self._ballast = os.path.join(folder, 'ballast')

    def Fill(self, pids: Sequence[int], draw: random.Random) -> None:
        """Makes it full, for these processes at least."""
        left = draw.randrange(_NEARLY)
        if not self._is_mounted:
            for pid in pids:
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (left, hard))
            return
        with open(self._ballast, 'wb', buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
            file.truncate(max(0, file.tell() - left))

    def Empty(self) -> None:
        """Makes room again; what had a limit keeps it."""
        if os.path.exists(self._ballast):
            os.remove(self._ballast)

    def Close(self) -> None:
        """Ends it, with all that is in it."""
        if self._is_mounted:
            subprocess.run(['umount', '-l', self.folder], capture_output=True, check=False)

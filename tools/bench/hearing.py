"""g: how fast features are made on one core. Run as a program, it measures and prints JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Optional

import numpy as np
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.layers.speech import frontend

from . import results, turns

_RATE = 16000
_PREEMPH, _WINDOW, _HOP, _FFT = 0.97, 400, 160, 512  # MelAsrFrontend's, in samples
_ONE_THREAD = {
    name: '1'
    for name in (
        'TF_NUM_INTEROP_THREADS',
        'TF_NUM_INTRAOP_THREADS',
        'OMP_NUM_THREADS',
        'OPENBLAS_NUM_THREADS',
        'MKL_NUM_THREADS',
        'NUMBA_NUM_THREADS',
    )
}


def our_features(waveforms: np.ndarray) -> Callable[[], np.ndarray]:
    """float32 [batch, samples] -> log-mel [batch, frames, 80], by MelAsrFrontend."""
    layer = frontend.MelAsrFrontend.Params().Set(name='frontend').Instantiate()

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None])])
    def run(x: tf.Tensor) -> tf.Tensor:
        with step.Context(training=False):
            return layer(x, tf.fill(tf.shape(x)[:1], tf.shape(x)[1]))[0]

    batch = tf.constant(waveforms)
    return lambda: run(batch).numpy()


def features_of_librosa(waveforms: np.ndarray) -> Optional[Callable[[], np.ndarray]]:
    """The same by librosa; None if it is not installed."""
    try:
        import librosa
    except ImportError:
        return None
    bands = librosa.filters.mel(
        sr=_RATE, n_fft=_FFT, n_mels=80, fmin=125, fmax=7600, htk=True, norm=None
    )
    # It centres a window in the transform.
    side = (_FFT - _WINDOW) // 2
    frames = -(-waveforms.shape[1] // _HOP)
    behind = (frames - 1) * _HOP + _FFT - side - waveforms.shape[1]

    def one(x: np.ndarray) -> np.ndarray:
        x = np.pad(librosa.effects.preemphasis(x, coef=_PREEMPH, zi=[0.0]), (side, behind))
        spectrum = librosa.stft(x, n_fft=_FFT, hop_length=_HOP, win_length=_WINDOW, center=False)
        return np.log(np.maximum(bands @ librosa.util.abs2(spectrum), 1e-10)).T

    # One by one: faster than all at once, which does not fit into caches.
    return lambda: np.stack([one(x) for x in waveforms])


def measure(quick: bool) -> dict[str, list[float]]:
    """Seconds of audio per second by each, called by turns in this process."""
    batch, seconds, rounds = (2, 0.5, 2) if quick else (16, 10, 15)
    waveforms = np.random.RandomState(0).normal(scale=0.1, size=[batch, int(_RATE * seconds)])
    waveforms = waveforms.astype(np.float32)
    functions = {'ours': our_features(waveforms)}
    theirs = features_of_librosa(waveforms)
    if theirs is not None:
        functions['librosa'] = theirs
        np.testing.assert_allclose(functions['ours'](), theirs(), atol=1e-3)
    taken = turns.in_turn(functions, rounds)
    return {name: (batch * seconds / each).tolist() for name, each in taken.items()}


def features_on_one_core(quick: bool) -> Iterator[results.Result]:
    """Seconds of audio per second that MelAsrFrontend hears on one core, and over librosa."""
    command = [sys.executable, '-m', 'lingvo_lite.tools.bench.hearing', *['--quick'] * quick]
    done = subprocess.run(
        command, env={**os.environ, **_ONE_THREAD}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f'{" ".join(command)} ended with {done.returncode}:\n{done.stderr}')
    heard = json.loads(done.stdout.splitlines()[-1])
    ours = heard['ours']
    missing = '' if 'librosa' in heard else "; librosa is not installed: pip install -e '.[test]'"
    note = f'seconds of 16 kHz audio per second on one core{missing}'
    yield results.from_pairs('g', ours, [1.0] * len(ours), note=note)
    if not missing:
        note = 'seconds of audio per second, ours / of librosa'
        yield results.from_pairs('g over librosa', ours, heard['librosa'], note=note)


def main() -> None:
    """The program: everything on one core, the result as a line of JSON."""
    if hasattr(os, 'sched_setaffinity'):  # not on macOS, where one thread must do
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    tf.config.set_visible_devices([], 'GPU')
    print(json.dumps(measure('--quick' in sys.argv[1:])))


if __name__ == '__main__':
    main()

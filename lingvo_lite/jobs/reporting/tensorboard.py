"""TensorBoard event files: scalars, texts, pictures, sounds.

An event file is a TFRecord file of Event protos. It is written here without `tf.summary`, because
that has no way to say from which step on older events are void (purge_step).
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf

_Event = tf.compat.v1.Event
_Summary = tf.compat.v1.Summary


class EventFile:
    """One events.out.tfevents.* file in a folder, made by the first write.

    Every method raises OSError if the disk is full, or cannot be written for another reason.
    """

    def __init__(self, folder: str, purge_step: Optional[int] = None):
        """Takes where to write.

        Args:
          folder: an existing one.
          purge_step: events of this step and later, in older files of the folder, are void: a
            restarted trainer will write these steps again. None to keep all.
        """
        self._folder = folder
        self._purge_step = purge_step
        self._writer: Any = None

    def Scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes the numbers among the values; texts go to the text tab."""
        made = []
        for name, value in values.items():
            if isinstance(value, str):
                made.append(_TextValue(name, value))
            elif value is not None:
                made.append(_Summary.Value(tag=name, simple_value=float(value)))
        self._Write(step, made)

    def Text(self, step: int, name: str, markdown: str) -> None:
        """Writes a text for the text tab, which renders Markdown."""
        self._Write(step, [_TextValue(name, markdown)])

    def Picture(self, step: int, name: str, png: bytes, height: int, width: int) -> None:
        """Writes a PNG for the image tab."""
        image = _Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self._Write(step, [_Summary.Value(tag=name, image=image)])

    def Sound(self, step: int, name: str, waveform: np.ndarray, sample_rate: int) -> None:
        """Writes a sound for the audio tab, as WAV of 16 bits.

        Args:
          step: of the checkpoint.
          name: its tag.
          waveform: float [samples], in [-1, 1].
          sample_rate: in hertz.
        """
        if not len(waveform):
            return  # TensorBoard has no sound of no length
        encoded = tf.audio.encode_wav(waveform[:, np.newaxis], sample_rate).numpy()
        sound = _Summary.Audio(
            sample_rate=float(sample_rate),
            num_channels=1,
            length_frames=len(waveform),
            encoded_audio_string=encoded,
            content_type='audio/wav',
        )
        self._Write(step, [_Summary.Value(tag=name, audio=sound)])

    def Flush(self) -> None:
        """Hands everything to the operating system."""
        if self._writer is not None:
            with _OfTheDisk():
                self._writer.flush()

    def Close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            with _OfTheDisk():
                self._writer.close()

    def _Write(self, step: int, values: list[Any]) -> None:
        if not values:
            return
        event = _Event(wall_time=time.time(), step=step, summary=_Summary(value=values))
        with _OfTheDisk():
            if self._writer is None:
                self._Open()
            self._writer.write(event.SerializeToString())

    def _Open(self) -> None:
        name = f'events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}'
        self._writer = tf.io.TFRecordWriter(os.path.join(self._folder, name))
        version = _Event(wall_time=time.time(), file_version='brain.Event:2')
        self._writer.write(version.SerializeToString())
        if self._purge_step is not None:
            start = _Event(
                wall_time=time.time(),
                step=self._purge_step,
                session_log=tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START),
            )
            self._writer.write(start.SerializeToString())


@contextlib.contextmanager
def _OfTheDisk() -> Iterator[None]:
    """Errors of TensorFlow's file system become those of Python; the text names the file."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def TranslationsTable(records: list[dict[str, Any]]) -> str:
    """A Markdown table of decoded records: source, reference, best hypothesis."""
    lines = ['| source | reference | hypothesis | score |', '|---|---|---|---|']
    for record in records:
        cells = [
            record.get('source', ''),
            record.get('reference', ''),
            (record.get('hypotheses') or [''])[0],
            f'{record["scores"][0]:.3f}' if record.get('scores') else '',
        ]
        lines.append('| ' + ' | '.join(str(c).replace('|', '\\|') for c in cells) + ' |')
    return '\n'.join(lines)


def Plot(matrix: np.ndarray, title: str) -> tuple[bytes, int, int]:
    """A matrix as a picture with axes.

    Args:
      matrix: [height, width], values in [0, 1].
      title: stands above it.

    Returns:
      (PNG, height, width).
    """
    from matplotlib import figure
    from matplotlib.backends import backend_agg

    drawing = figure.Figure(figsize=(6.0, 4.5), dpi=80, layout='tight')
    canvas = backend_agg.FigureCanvasAgg(drawing)
    axes = drawing.add_subplot()
    picture = axes.imshow(
        matrix, vmin=0.0, vmax=1.0, aspect='auto', interpolation='nearest', origin='upper'
    )
    axes.set_title(title, fontsize=8)
    drawing.colorbar(picture)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    width, height = canvas.get_width_height()
    return buffer.getvalue(), height, width


def _TextValue(name: str, text: str) -> Any:
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = 'text'
    tensor = tf.compat.v1.make_tensor_proto([text], dtype=tf.string, shape=[1])
    return _Summary.Value(tag=name, metadata=metadata, tensor=tensor)

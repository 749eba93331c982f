"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from lingvo_lite.jobs.reporting import tensorboard


def read(folder):
    reader = event_accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return reader


def test_scalars_and_texts_come_back(tmp_path):
    events = tensorboard.EventFile(str(tmp_path))
    events.Scalars(3, {'bleu': 38.5, 'bleu/signature': 'nrefs:1|case:mixed', 'nothing': None})
    events.Text(3, 'samples', '| a | b |')
    events.Close()
    reader = read(tmp_path)
    (scalar,) = reader.Scalars('bleu')
    assert (scalar.step, scalar.value) == (3, 38.5)
    assert reader.Tensors('bleu/signature')[0].tensor_proto.string_val == [b'nrefs:1|case:mixed']
    assert reader.Tensors('samples')[0].tensor_proto.string_val == [b'| a | b |']
    plugin = reader.SummaryMetadata('samples').plugin_data.plugin_name
    assert plugin == 'text'


def test_a_restart_voids_the_events_behind_it(tmp_path):
    first = tensorboard.EventFile(str(tmp_path))
    for step in (10, 20, 30):
        first.Scalars(step, {'loss': float(step)})
    first.Close()
    second = tensorboard.EventFile(str(tmp_path), purge_step=21)
    second.Scalars(30, {'loss': -1.0})
    second.Close()
    found = {event.step: event.value for event in read(tmp_path).Scalars('loss')}
    assert found == {10: 10.0, 20: 20.0, 30: -1.0}


def test_pictures_are_png(tmp_path):
    png, height, width = tensorboard.Plot(np.eye(4), 'attention')
    events = tensorboard.EventFile(str(tmp_path))
    events.Picture(5, 'attention/0', png, height, width)
    events.Close()
    (image,) = read(tmp_path).Images('attention/0')
    assert image.encoded_image_string.startswith(b'\x89PNG')
    assert (image.height, image.width) == (height, width)


def test_nothing_written_is_no_file(tmp_path):
    tensorboard.EventFile(str(tmp_path)).Close()
    assert not list(tmp_path.iterdir())


def test_a_bar_in_a_sentence_does_not_end_the_cell():
    records = [{'source': 'a|b', 'reference': 'c', 'hypotheses': ['d'], 'scores': [-0.5]}]
    assert tensorboard.TranslationsTable(records).split('\n')[-1] == '| a\\|b | c | d | -0.500 |'


@pytest.mark.parametrize('write', [tensorboard.EventFile.Flush, tensorboard.EventFile.Close])
def test_a_full_disk_is_an_error_of_the_disk(write, tmp_path, monkeypatch):
    real = tf.io.TFRecordWriter
    monkeypatch.setattr(tf.io, 'TFRecordWriter', lambda path: real('/dev/full'))
    events = tensorboard.EventFile(str(tmp_path))
    events.Scalars(1, {'loss': 1.0})
    with pytest.raises(OSError, match='/dev/full; No space left on device'):
        write(events)

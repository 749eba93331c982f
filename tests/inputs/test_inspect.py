"""What `lingvo_lite inspect-input` shows."""

import re

import numpy as np

from lingvo_lite.inputs import inspect
from lingvo_lite.inputs.speech import audio, manifests, transcribed
from lingvo_lite.inputs.text import parallel


def Make(folder):
    (folder / 'x.en').write_text('one\nthree three\ntwo\n')
    (folder / 'x.de').write_text('eins\ndrei drei drei\nzwei\n')
    p = parallel.ParallelTextInput.Params()
    return p.Set(source_file='x.en', target_file='x.de', batch_size=2).Instantiate()


def test_shows_texts_lengths_padding_and_the_longest(data_folder):
    shown = inspect.InspectBatches(Make(data_folder), num_batches=1, train=False)
    assert shown.startswith('3 examples\n')
    assert 'batch 0, epoch 0: 2 examples' in shown
    # With </s>: 'three three' 12 and 'two' 4 bytes, 'drei drei drei' 15 and 'zwei' 5; of 2 x 16.
    assert 'source: 2 x 16, padding 50.0%' in shown
    assert 'target: 2 x 16, padding 37.5%' in shown
    assert 'source text: three three' in shown and 'target back: drei drei drei' in shown
    assert re.search(r'longest: source 12, target 15 tokens, .*x\.en, line 2', shown)
    assert shown.index('longest: source 12') < shown.index('longest: source 4')


def test_says_when_there_are_no_more_batches(data_folder):
    shown = inspect.InspectBatches(Make(data_folder), num_batches=5, train=False)
    assert shown.count('batch ') == 2 and '(no more batches)' in shown


def test_shows_of_speech_the_id_the_file_its_length_and_the_transcript(data_folder):
    for name, samples in (('a', 12000), ('b', 4000)):
        wave = np.zeros(samples, np.float32)
        (data_folder / f'{name}.wav').write_bytes(audio.EncodeWav(wave, 8000))
    rows = [('u1', 'a.wav', 'Two One'), ('u2', 'b.wav', 'six')]
    manifests.Write(str(data_folder / 'all.tsv'), rows, ('id', 'file', 'transcript'))
    p = transcribed.SpeechInput.Params().Set(manifest='all.tsv', sample_rate=8000, batch_size=2)
    shown = inspect.InspectBatches(p.Instantiate(), num_batches=1, train=False)
    assert re.search(r'source: 2 x 12,160 samples, padding 34.2%', shown)
    assert re.search(
        r'example 0, a.wav .*\n    source: u1, 1.50 s\n    target text: two one', shown
    )

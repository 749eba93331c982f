"""What a user gives to be decoded: a path or standard input, read as a dataset is."""

import io
import sys

import pytest

from lingvo_lite.inputs import own_input
from lingvo_lite.inputs.speech import files, transcribed
from lingvo_lite.inputs.text import parallel, source_text, tokenizers


@pytest.mark.parametrize(
    'own, dataset',
    [
        (source_text.SourceTextInput, parallel.ParallelTextInput),
        (files.SpeechFilesInput, transcribed.SpeechInput),
    ],
)
def test_it_is_read_as_the_dataset_is(own, dataset):
    lent = dataset.Params().Set(batch_size=3, num_batcher_threads=5, max_bad_records=2)
    lent.tokenizer = tokenizers.CharacterTokenizer.Params().Set(characters='abc')
    p = own.FromParallel(lent, 'mine')
    assert p.cls is own and p.source_file == 'mine'
    assert (p.batch_size, p.num_batcher_threads, p.max_bad_records) == (3, 5, 2)
    assert p.tokenizer.characters == 'abc'


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'a\nb\n')))
    stream = own_input.Stream('-', pytest.fail, lambda lines: (line.upper() for line in lines))
    (window,) = stream.Windows(9)
    assert [window.Get(i) for i in range(len(window))] == ['A', 'B']
    assert window.Where(1) == 'standard input, record 1'


def test_all_else_is_a_path_that_is_opened_when_it_is_read():
    opened = []

    def InFile(path):
        opened.append(path)
        return ['a']

    stream = own_input.Stream('x/y', InFile, pytest.fail)
    assert not opened
    (window,) = stream.Windows(9)
    assert opened == ['x/y'] and window.Get(0) == 'a' and window.name == 'x/y'

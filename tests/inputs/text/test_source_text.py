"""Lines of one's own: a file, standard input, a stream by windows."""

import io
import sys

import pytest

from lingvo_lite.inputs.text import parallel, source_text


def Params(**values):
    return parallel.ParallelTextInput.Params().Set(tokens_per_batch=1000, **values)


def Take(inputs):
    with inputs.Batches(train=False) as feed:
        return list(feed)


def Own(folder, content, name='own.txt'):
    (folder / name).write_bytes(content)
    return source_text.SourceTextInput.FromParallel(Params(source_max_length=9), str(folder / name))


def test_lines_of_ones_own(data_folder, cache_folder):
    inputs = Own(data_folder, b'ein Hund\n\nzwei Hunde\r\n').Instantiate()
    batches = Take(inputs)
    part = batches[0].replicas[0]
    assert sorted(part) == ['id', 'row_weight', 'source']
    assert sorted(i for b in batches for i in b.replicas[0].id) == [0, 1, 2]
    assert [inputs.Strings(i).source for i in range(3)] == ['ein Hund', '', 'zwei Hunde']
    assert inputs.Strings(0).Get('target') is None
    assert not (cache_folder / 'tokens').exists()  # a user's text is not kept


def test_standard_input(data_folder, monkeypatch):
    data = io.TextIOWrapper(io.BytesIO('eins\nzwei ü\n'.encode()), encoding='ascii')
    monkeypatch.setattr(sys, 'stdin', data)
    inputs = source_text.SourceTextInput.FromParallel(Params(), '-').Instantiate()
    assert [inputs.Strings(i).source for i in range(inputs.NumExamples())] == ['eins', 'zwei ü']


@pytest.mark.parametrize(
    'data, message', [(b'', 'standard input is empty'), (b'a\n\xff\n', 'standard input, line 2')]
)
def test_bad_standard_input(data, message, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(ValueError, match=message):
        source_text.SourceTextInput.FromParallel(Params(), '-').Instantiate().Order(False)


def test_a_stream_by_windows(data_folder):
    p = Own(data_folder, b'one\ntwo\nthree\n')
    found = []
    for lines in source_text.SourceTextInput.Open(p.source_file).Windows(2):
        inputs = p.Instantiate(lines=lines)
        found.append([inputs.Strings(i).source for i in range(inputs.NumExamples())])
        assert len(Take(inputs)) == 1
    assert found == [['one', 'two'], ['three']]

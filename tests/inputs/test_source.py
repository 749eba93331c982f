"""Line files, memory, streams; the errors of each."""

import gzip

import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite.inputs import source


def Write(path, data):
    path.write_bytes(data)
    return str(path)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.text(st.characters(blacklist_categories=['Cs'])), min_size=1),
    end=st.booleans(),
)
def test_lines_come_back_whatever_they_hold(tmp_path_factory, lines, end):
    lines = [line.replace('\n', '').rstrip('\r').lstrip('\ufeff') for line in lines]
    if not end and not lines[-1]:
        end = True
    data = '\n'.join(lines) + ('\n' if end else '')
    path = tmp_path_factory.mktemp('lines') / 'x.txt'
    opened = source.LineSource(Write(path, data.encode('utf-8')))
    assert [opened.Get(i) for i in range(len(opened))] == lines


def test_only_newline_ends_a_line(tmp_path):
    path = Write(tmp_path / 'x.txt', '\ufeffa\u2028b\x0bc\rd\r\ne\n'.encode())
    opened = source.LineSource(path)
    assert [opened.Get(i) for i in range(len(opened))] == ['a\u2028b\x0bc\rd', 'e']


def test_gz_equals_plain_in_any_order(tmp_path, cache_folder):
    data = ''.join(f'Zeile {i} äöü\n' for i in range(1000)).encode()
    plain = source.LineSource(Write(tmp_path / 'x.txt', data))
    packed = source.LineSource(Write(tmp_path / 'x.txt.gz', gzip.compress(data)))
    for i in (999, 0, 500, 1):
        assert packed.Get(i) == plain.Get(i) == f'Zeile {i} äöü'
    assert packed.Fingerprint() == plain.Fingerprint()
    assert len(list((cache_folder / 'lines').glob('*.txt'))) == 1
    with pytest.raises(IndexError, match='1,000 lines, asked for number 1,000'):
        plain.Get(1000)


def test_a_changed_file_has_another_fingerprint(tmp_path):
    one = source.LineSource(Write(tmp_path / 'a', b'x\ny\n')).Fingerprint()
    assert one != source.LineSource(Write(tmp_path / 'b', b'x\nz\n')).Fingerprint()


def test_not_utf8_names_file_line_and_byte(tmp_path):
    opened = source.LineSource(Write(tmp_path / 'bad.de', b'gut\nsch\xf6n\nja\n'))
    with pytest.raises(
        source.BadRecordError, match=r'bad\.de, line 2 \(byte 7\): not UTF-8 .*0xf6'
    ):
        opened.Get(1)
    assert opened.Get(2) == 'ja'


@pytest.mark.parametrize('packed', [False, True])
def test_an_empty_file(tmp_path, packed):
    path = Write(tmp_path / 'none.en', gzip.compress(b'') if packed else b'')
    with pytest.raises(ValueError, match=r'none\.en is empty: it holds no line'):
        source.LineSource(path)


def test_a_gz_cut_short(tmp_path, cache_folder):
    data = gzip.compress(bytes(range(256)) * 1000)
    path = Write(tmp_path / 'cut.gz', data[: len(data) // 2])
    with pytest.raises(ValueError, match=r'cut\.gz is cut short or damaged'):
        source.LineSource(path)
    assert not list((cache_folder / 'lines').glob('*.txt'))
    assert not list((cache_folder / 'lines').glob('*.tmp'))


def test_bad_records_are_counted_once_and_stop_beyond_the_limit():
    bad = source.BadRecords(limit=2, total=28539)
    error = source.BadRecordError('train.tfrecord, record 1,812 (byte 99,120,440): bad CRC.')
    for index in (3, 3, 4, 4, 3):
        bad.Note(index, error)
    assert len(bad) == 2
    with pytest.raises(source.BadRecordError) as raised:
        bad.Note(5, error)
    assert str(raised.value) == (
        'train.tfrecord, record 1,812 (byte 99,120,440): bad CRC. 3 of 28,539 records skipped; '
        'more than input.max_bad_records=2, so stopping.'
    )


def test_a_stream_comes_in_windows_and_goes_on_at_one():
    stream = source.IterableSource(lambda: iter('abcde'), 'letters')
    contents = [[w.Get(i) for i in range(len(w))] for w in stream.Windows(2)]
    assert contents == [['a', 'b'], ['c', 'd'], ['e']]
    assert [w.Get(0) for w in stream.Windows(2, start=1)] == ['c', 'e']
    assert list(stream.Windows(2, start=3)) == []


def test_memory_fingerprint_sees_where_records_end():
    assert (
        source.MemorySource(['ab', 'c']).Fingerprint()
        != source.MemorySource(['a', 'bc']).Fingerprint()
    )


def test_a_stream_that_is_not_utf8_names_the_record(tmp_path):
    path = Write(tmp_path / 'x', b'a\n' * 9000 + b'\xff\n')
    stream = source.IterableSource(lambda: open(path, encoding='utf-8'), 'pipe')
    with pytest.raises(
        source.BadRecordError, match='pipe, record [0-9,]+ or soon after: not UTF-8 .* 0xff'
    ):
        list(stream.Windows(1000))

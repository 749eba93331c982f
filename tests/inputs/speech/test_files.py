"""Which files `decoder --input` reads where it is given no file."""

import gzip

import numpy as np
import pytest

from lingvo_lite.inputs.speech import audio, transcribed


@pytest.fixture
def talks(tmp_path):
    """A folder with audio in it and below it, and a file that is none."""
    (tmp_path / 'talks' / 'old').mkdir(parents=True)
    wave = np.zeros(80, np.float32)
    for name in ('b.WAV', 'a.wav', 'old/c.wav'):
        (tmp_path / 'talks' / name).write_bytes(audio.EncodeWav(wave, 8000))
    (tmp_path / 'talks' / 'old' / 'd.flac').write_bytes(audio.EncodeFlac(wave, 8000))
    (tmp_path / 'talks' / 'notes.txt').write_text('a.wav\n')
    return tmp_path / 'talks'


def Paths(path):
    return [
        w.Get(i)
        for w in transcribed.SpeechFilesInput.Open(str(path)).Windows(2)
        for i in range(len(w))
    ]


def test_a_folder_gives_its_audio_files_in_order(talks):
    names = ['a.wav', 'b.WAV', 'old/c.wav', 'old/d.flac']
    assert Paths(talks) == [str(talks / name) for name in names]


def test_what_is_left_out_of_a_folder_is_counted(talks, caplog):
    for name in ('a.OGG', 'old/b.aiff', 'c.sph'):
        (talks / name).write_bytes(b'')
    (talks / 'old' / 'talk.m4a').write_bytes(b'')
    assert len(Paths(talks)) == 7
    (said,) = (record.getMessage() for record in caplog.records)
    assert '2 of 9 files in' in said and f'First: {talks / "notes.txt"}.' in said
    caplog.clear()
    assert len(Paths(talks / '*.wav')) == 1 and not caplog.records


def test_what_is_neither_audio_nor_a_list_is_named(talks):
    """For `--input`, before anything is read."""
    wav, text, list_file = talks / 'a.wav', talks / 'notes.txt', talks / 'list.txt'
    list_file.write_text(f'none.wav\n{wav}\n')
    for good in (wav, list_file, talks, talks / '*.wav'):
        transcribed.CheckPaths(str(good))
    (talks / 'list.gz').write_bytes(gzip.compress(list_file.read_bytes()))
    transcribed.CheckPaths(str(talks / 'list.gz'))
    text.write_text('Guten Morgen.\nWie geht es?\n')
    with pytest.raises(ValueError, match="notes.txt is text, no audio, .*'Guten Morgen.'"):
        transcribed.CheckPaths(str(text))
    (talks / 'x.m4a').write_bytes(b'\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom')
    with pytest.raises(ValueError, match='x.m4a: M4A or MP4 is not read'):
        transcribed.CheckPaths(str(talks / 'x.m4a'))


def test_a_pattern_gives_what_matches(talks):
    assert Paths(talks / '*.wav') == [str(talks / 'a.wav')]
    assert Paths(talks / '**' / '*.wav') == [str(talks / 'a.wav'), str(talks / 'old' / 'c.wav')]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(talks):
    (talks / 'a.wav').rename(talks / '[1].wav')
    assert Paths(talks / '[1].wav') == [str(talks / '[1].wav')]


def test_nothing_is_an_error(talks):
    (talks / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'empty holds no file that ends in .flac, .wav'):
        transcribed.FindAudioFiles(str(talks / 'empty'))
    with pytest.raises(FileNotFoundError, match=r'there is no file .*\*.mp3'):
        transcribed.FindAudioFiles(str(talks / '*.mp3'))


def test_a_list_ends_its_lines_with_line_feeds_alone(talks):
    names = ['x\u2028y.wav', 'ends with a no-break space\u00a0', '\x85.wav']
    (talks / 'list.txt').write_bytes('\r\n'.join(['', *names, '']).encode())
    assert Paths(talks / 'list.txt') == names

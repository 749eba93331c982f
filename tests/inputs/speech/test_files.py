"""Which files `decoder --input` reads where it is given no file."""

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

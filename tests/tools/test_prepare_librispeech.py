"""tools/prepare_librispeech.py: from downloaded LibriSpeech to what SpeechInput reads."""

import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest

from lingvo_lite.inputs import data_files
from lingvo_lite.inputs.speech import audio, transcribed, utterances
from lingvo_lite.runs import locks
from lingvo_lite.tools import prepare_librispeech

RATE = 16000
CHAPTERS = {'19/198': 5, '26/495': 4, '27/123': 3}
IDS = [f'{chapter.replace("/", "-")}-{i:04d}' for chapter, n in CHAPTERS.items() for i in range(n)]


def Samples(name):
    seed = sum(map(ord, name))
    return np.random.RandomState(seed).randint(-9000, 9000, 800 + 10 * seed).astype(np.int16)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('LINGVO_LITE_DATA', raising=False)


@pytest.fixture
def corpus(tmp_path):
    """LibriSpeech/dev-clean with 12 utterances of noise."""
    root = tmp_path / 'LibriSpeech'
    for chapter, count in CHAPTERS.items():
        folder = root / 'dev-clean' / chapter
        folder.mkdir(parents=True)
        stem = chapter.replace('/', '-')
        names = [f'{stem}-{i:04d}' for i in range(count)]
        for name in names:
            (folder / f'{name}.flac').write_bytes(audio.EncodeFlac(Samples(name), RATE))
        lines = [f"{name} IT'S {name[-1]} OF {chapter[:2]}\n" for name in names]
        (folder / f'{stem}.trans.txt').write_text(''.join(lines))
    return root


def Run(out, *inputs):
    flags = [f'--out={out}', '--utterances_per_shard=5', '--allow_partial']
    return prepare_librispeech.Main([*map(str, inputs), *flags])


def Read(out, split='dev-clean'):
    held = utterances.RecordUtterances(sorted(glob.glob(f'{out}/{split}-*.tfrecord')))
    return [held.Get(i) for i in range(len(held))]


def Bytes(out):
    """{name: content} of the shards, sidecars and texts."""
    return {
        path.name: path.read_bytes()
        for path in sorted(pathlib.Path(out).iterdir())
        if '.tfrecord' in path.name or path.name.endswith('.txt')
    }


def Archive(corpus, path, split='dev-clean'):
    with tarfile.open(path, 'w:gz') as archive:
        archive.add(corpus / split, f'LibriSpeech/{split}')
    return path


def test_what_is_made(corpus, tmp_path, capsys):
    out = tmp_path / 'librispeech'
    assert Run(out, corpus) == 0
    found = Read(out)
    assert [u.id for u in found] == IDS
    for u in found:
        chapter = u.id.rpartition('-')[0].replace('-', '/', 1)
        assert u.audio == (corpus / 'dev-clean' / chapter / f'{u.id}.flac').read_bytes()
        assert u.transcript == f"IT'S {u.id[-1]} OF {u.id[:2]}"
        assert (u.samples, u.sample_rate) == (len(Samples(u.id)), RATE)
    assert len(glob.glob(f'{out}/*.tfrecord')) == 3
    lines = (out / 'dev-clean.txt').read_text().splitlines()
    assert lines == [u.transcript.lower() for u in found]
    hours = sum(u.samples for u in found) / RATE / 3600
    report = json.loads((out / 'prepare.json').read_text())['splits']['dev-clean']
    assert report == {'utterances': 12, 'hours': round(hours, 3), 'dropped': {}, 'shards': 3}
    assert f'dev-clean  12          {hours:.2f}   0        3' in capsys.readouterr().out


def test_the_input_reads_it(corpus, tmp_path):
    assert Run(tmp_path / 'librispeech', corpus) == 0
    data_files.SetDataDir(str(tmp_path))
    try:
        p = transcribed.SpeechInput.Params().Set(
            file_pattern='librispeech/dev-clean-*', batch_size=5
        )
        p.file_pattern = 'librispeech/dev-clean-*.tfrecord'
        inputs = p.Instantiate()
    finally:
        data_files.SetDataDir(None)
    with inputs.Batches(train=False) as feed:
        ids = [int(i) for batch in feed for i in batch.replicas[0].id]
    assert sorted(ids) == list(range(12))
    assert inputs.Strings(5) == {'source': '26-495-0000', 'target': "it's 0 of 26"}
    np.testing.assert_array_equal(inputs.Waveform(5) * 32768, Samples('26-495-0000'))


def test_archives_and_folders_give_the_same(corpus, tmp_path):
    assert Run(tmp_path / 'a', corpus / 'dev-clean') == 0
    # Members of the official archives are in no order; ours are made sorted.
    path = tmp_path / 'dev-clean.tar.gz'
    with tarfile.open(path, 'w:gz') as archive:
        for name in sorted((corpus / 'dev-clean').rglob('*.*')):
            archive.add(name, f'LibriSpeech/{name.relative_to(corpus)}')
    assert Run(tmp_path / 'b', path) == 0
    assert Bytes(tmp_path / 'a') == Bytes(tmp_path / 'b')


def test_transcripts_may_come_before_or_behind_the_audio(corpus, tmp_path):
    path = tmp_path / 'dev-clean.tar'
    files = sorted((corpus / 'dev-clean').rglob('*.flac'), reverse=True)
    texts = sorted((corpus / 'dev-clean').rglob('*.txt'))
    with tarfile.open(path, 'w') as archive:
        for name in [texts[0], *files, *texts[1:]]:
            archive.add(name, f'LibriSpeech/{name.relative_to(corpus)}')
    assert Run(tmp_path / 'out', path) == 0
    assert [u.id for u in Read(tmp_path / 'out')] == IDS[::-1]


def test_what_is_dropped_is_told(corpus, tmp_path, capsys):
    folder = corpus / 'dev-clean' / '19' / '198'
    half = (folder / '19-198-0001.flac').read_bytes()
    (folder / '19-198-0001.flac').write_bytes(half[: len(half) // 2])
    (folder / '19-198-0003.flac').unlink()
    texts = folder / '19-198.trans.txt'
    lines = texts.read_text().splitlines()
    texts.write_text('\n'.join([lines[0], lines[1], '19-198-0002', lines[3]]) + '\n')
    assert Run(tmp_path / 'out', corpus) == 0
    assert [u.id for u in Read(tmp_path / 'out')] == ['19-198-0000', *IDS[5:]]
    report = json.loads((tmp_path / 'out' / 'prepare.json').read_text())
    dropped = report['splits']['dev-clean']['dropped']
    assert list(dropped) == [f'19-198-000{i}' for i in (1, 2, 3, 4)]
    assert dropped.pop('19-198-0001').startswith('19-198-0001: cut short or damaged')
    assert list(dropped.values()) == ['empty transcript', 'no audio', 'no transcript']
    assert 'dropped of dev-clean: 19-198-0003: no audio' in capsys.readouterr().out


def test_what_unicode_calls_the_end_of_a_line_is_part_of_a_transcript(corpus, tmp_path):
    texts = corpus / 'dev-clean' / '19' / '198' / '19-198.trans.txt'
    lines = texts.read_text().split('\n')
    lines[0] = '19-198-0000 A\u0085B\u2028C\x1cD\u00a0'
    texts.write_bytes('\r\n'.join(lines).encode())
    assert Run(tmp_path / 'out', corpus) == 0
    held = {u.id: u.transcript for u in Read(tmp_path / 'out')}
    assert sorted(held) == sorted(IDS) and held['19-198-0000'] == 'A\u0085B\u2028C\x1cD\u00a0'


def test_a_corpus_that_is_not_whole_needs_a_flag(corpus, tmp_path, capsys):
    assert prepare_librispeech.Main([str(corpus), f'--out={tmp_path}/out']) == 2
    error = capsys.readouterr().err
    assert '12 utterances are fit for use, dev-clean has 2,703; 0 were dropped' in error
    assert '--allow_partial' in error and not glob.glob(f'{tmp_path}/out/*.tfrecord')
    (corpus / 'dev-clean').rename(corpus / 'my-own')
    assert prepare_librispeech.Main([str(corpus), f'--out={tmp_path}/out']) == 0
    assert len(Read(tmp_path / 'out', 'my-own')) == 12


def test_nothing_is_done_twice(corpus, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    assert Run(out, corpus) == 0
    before = {path: os.stat(path).st_mtime_ns for path in glob.glob(f'{out}/*.tfrecord*')}
    lost = sorted(before)[2]
    os.unlink(lost)
    monkeypatch.setattr(prepare_librispeech, '_Length', lambda *_: pytest.fail('decoded again'))
    assert Run(out, corpus) == 0
    assert os.path.exists(lost)
    for path in set(before) - {lost, f'{lost}.index.npz'}:
        assert os.stat(path).st_mtime_ns == before[path]
    assert [u.id for u in Read(out)] == IDS


def test_what_changed_is_made_again(corpus, tmp_path):
    out = tmp_path / 'out'
    assert Run(out, corpus) == 0
    shutil.rmtree(corpus / 'dev-clean' / '26')
    assert Run(out, corpus) == 0
    assert [u.id for u in Read(out)] == [name for name in IDS if not name.startswith('26')]
    assert len(glob.glob(f'{out}/*.tfrecord')) == 2  # none is left of the three


def test_several_splits(corpus, tmp_path):
    shutil.copytree(corpus / 'dev-clean', corpus / 'test-clean')
    out = tmp_path / 'out'
    assert Run(out, corpus / 'test-clean') == 0
    assert Run(out, Archive(corpus, tmp_path / 'dev-clean.tar.gz')) == 0
    assert len(Read(out)) == len(Read(out, 'test-clean')) == 12
    splits = json.loads((out / 'prepare.json').read_text())['splits']
    assert sorted(splits) == ['dev-clean', 'test-clean']


def test_inputs_that_do_not_fit(corpus, tmp_path, capsys):
    def Fails(error, *inputs):
        assert Run(tmp_path / 'out', *inputs) == 2
        assert error in capsys.readouterr().err

    Fails('There is no file or folder', tmp_path / 'none.tar.gz')
    Fails('holds no split of LibriSpeech', tmp_path)
    Fails('dev-clean is given twice', corpus, corpus / 'dev-clean')
    whole = Archive(corpus, tmp_path / 'dev-clean.tar.gz')
    other = tmp_path / 'test-clean.tar.gz'
    shutil.copy(whole, other)
    Fails('which is not of test-clean', other)
    whole.write_bytes(whole.read_bytes()[:-3000])
    Fails('dev-clean.tar.gz is cut short or damaged', whole)
    whole.write_bytes(b'no archive')
    Fails('dev-clean.tar.gz is cut short or damaged', whole)
    texts = corpus / 'dev-clean' / '26' / '495' / '26-495.trans.txt'
    texts.write_bytes(b'26-495-0000 \xff\n')
    Fails('26-495.trans.txt: not UTF-8', corpus)


def test_audio_without_transcripts_is_named(corpus, tmp_path, capsys):
    folder = corpus / 'test-other' / '7'
    folder.mkdir(parents=True)
    (folder / 'a.flac').write_bytes(b'x')
    assert Run(tmp_path / 'out', corpus) == 0
    assert 'test-other: audio without *.trans.txt, left out' in capsys.readouterr().err


def test_a_second_one_is_refused(corpus, tmp_path, capsys):
    out = tmp_path / 'out'
    out.mkdir()
    with locks.JobLock(str(out), 'prepare_librispeech'):
        assert Run(out, corpus) == 2
    assert str(out) in capsys.readouterr().err


@pytest.mark.slow
def test_killed_it_goes_on(corpus, tmp_path):
    for copy in range(60):
        shutil.copytree(corpus / 'dev-clean' / '19', corpus / 'dev-clean' / f'x{copy}')
        for path in (corpus / 'dev-clean' / f'x{copy}').rglob('*'):
            if path.is_file():
                text = path.read_bytes().replace(b'19-198', f'x{copy}-198'.encode())
                path.with_name(path.name.replace('19-198', f'x{copy}-198')).write_bytes(text)
                path.unlink()
    out = tmp_path / 'out'
    command = [sys.executable, '-m', 'lingvo_lite.tools.prepare_librispeech', str(corpus)]
    command += [f'--out={out}', '--utterances_per_shard=2', '--allow_partial']
    with subprocess.Popen(command) as process:
        while process.poll() is None and len(glob.glob(f'{out}/*.tfrecord')) < 20:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    early = {p: os.stat(p).st_mtime_ns for p in glob.glob(f'{out}/*.index.npz')}
    assert 0 < len(early) < 150
    subprocess.run(command, check=True)
    assert all(os.stat(p).st_mtime_ns == when for p, when in early.items())
    subprocess.run([*command[:-3], f'--out={tmp_path}/whole', *command[-2:]], check=True)
    assert Bytes(out) == Bytes(tmp_path / 'whole')


DATA = os.environ.get('LINGVO_LITE_DATA', '')


@pytest.mark.skipif(
    not os.path.isdir(os.path.join(DATA, 'librispeech-mini')),
    reason='LINGVO_LITE_DATA names no folder with librispeech-mini',
)
def test_real_librispeech(tmp_path, capsys):
    chapter = tmp_path / 'dev-clean' / '26' / '496'
    chapter.parent.mkdir(parents=True)
    chapter.symlink_to(os.path.join(DATA, 'librispeech-mini', 'train-clean-100', '26', '496'))
    assert Run(tmp_path / 'out', tmp_path / 'dev-clean') == 0
    assert 'dev-clean  27          0.10   0        6' in capsys.readouterr().out
    found = Read(tmp_path / 'out')
    assert found[0].id == '26-496-0000' and found[0].transcript.isupper()

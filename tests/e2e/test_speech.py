"""Speech from the command line: a language model in the search, and audio of one's own."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from tensorboard.backend.event_processing import event_accumulator

from lingvo_lite import cli
from lingvo_lite.inputs import data_files
from lingvo_lite.tasks import asr

pytestmark = pytest.mark.slow

CLIPS = os.path.join(os.path.dirname(asr.__file__), 'spoken_digits')
TINY = [
    *('--set=task.encoder.conv_channels=[4,4,4]', '--set=task.encoder.hidden_dim=16'),
    *('--set=task.encoder.rnn.cell.cell_dim=8', '--set=task.train.precision=float32'),
    *('--set=task.train.max_steps=3', '--set=task.train.ema_decay=0.0'),
    '--set=task.train.learning_rate=0.2',
]
BEAM = ['--set=task.search.method=beam', '--set=task.search.beam_size=4']
# Says 'seven', and hardly anything else.
SEVEN = '\\data\\\nngram 1=3\n\n\\1-grams:\n-99 <s>\n-1 </s>\n-0.1 seven\n\\end\\\n'


@pytest.fixture(scope='module', autouse=True)
def environment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('LINGVO_LITE_DATA', str(tmp_path_factory.mktemp('data')))
        patch.setenv('LINGVO_LITE_CACHE', str(tmp_path_factory.mktemp('cache')))
        patch.setenv('LINGVO_LITE_TRACEBACK', '')
        yield
    data_files.SetDataDir(None)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of asr.SpokenDigits that has learned to say something."""
    run = tmp_path_factory.mktemp('runs') / 'digits'
    assert cli.Trainer(['--model=asr.SpokenDigits', f'--logdir={run}', *TINY]) == 0
    return run


def decode(run, *flags):
    return cli.Decoder(['--model=asr.SpokenDigits', f'--logdir={run}', *flags])


def records(run, folder):
    (name,) = (name for name in os.listdir(run / folder) if name.startswith('decoded-'))
    with open(run / folder / name, encoding='utf-8') as file:
        return [json.loads(line) for line in file]


def clips(count):
    """The first audio files of Dev, in its order."""
    with open(os.path.join(CLIPS, 'dev.tsv'), encoding='utf-8') as file:
        header, *rows = (line.rstrip('\n').split('\t') for line in file)
    return [os.path.join(CLIPS, row[header.index('file')]) for row in rows[:count]]


@pytest.fixture(scope='module')
def plain(run):
    """What the run makes of Dev without a language model."""
    assert decode(run, '--dataset=Dev', '--once') == 0
    return records(run, 'decode_dev')


def test_a_language_model_changes_what_a_decoder_writes(run, plain, capsys):
    said = {word for record in plain for word in record['hypotheses'][0].split()}
    assert said and said != {'seven'}
    path = run / 'seven.arpa'
    path.write_text(SEVEN)
    lm = ['--set=task.fusion.lm=lingvo_lite.decoding.TokenNGram']
    lm += [f'--set=task.fusion.lm.file={path}', '--set=task.fusion.word_bonus=3.0']
    flags = ['--dataset=Dev', '--once', '--folder=fused']
    assert decode(run, *flags, *BEAM, *lm) == 0
    fused = records(run, 'fused')
    assert len(fused) == len(plain)
    heard = {word for record in fused for word in record['hypotheses'][0].split()}
    assert heard == {'seven'}
    for record in fused:
        assert [w['word'] for w in record['words']] == record['hypotheses'][0].split()
        times = [t for w in record['words'] for t in (w['start'], w['end'])]
        assert times == sorted(times)
    reader = event_accumulator.EventAccumulator(str(run / 'fused'))
    reader.Reload()
    with open(run / 'fused/metrics.jsonl', encoding='utf-8') as file:
        wer = json.loads(file.readlines()[-1])['wer']
    assert reader.Scalars('wer')[0].value == pytest.approx(wer)
    assert any(tag.startswith('audio/') for tag in reader.Tags()['audio'])

    capsys.readouterr()
    assert decode(run, *flags, *lm) == 2
    assert 'greedy search over CTC frames' in capsys.readouterr().err
    missing = ['--set=task.fusion.lm.file=none.arpa', '--folder=missing']
    assert decode(run, '--dataset=Dev', '--once', *BEAM, *lm, *missing) == 2
    error = capsys.readouterr().err
    last = error.rstrip().split('\n')[-1]
    assert last.startswith('decoder: ') and "No data file 'none.arpa'" in last


def test_audio_of_ones_own_is_heard_as_that_of_a_dataset(run, plain, tmp_path, capsys):
    folder = tmp_path / 'clips'
    folder.mkdir()
    own = clips(3)
    for n, clip in enumerate(own):
        shutil.copy(clip, folder / f'{n}.flac')
    wanted = [record['hypotheses'][0] for record in plain[:3]]
    (tmp_path / 'list.txt').write_text('\n'.join(own) + '\n')
    for given in (folder, folder / '*.flac', tmp_path / 'list.txt'):
        out = tmp_path / 'out.txt'
        assert decode(run, f'--input={given}', f'--output={out}', '--dataset=Dev') == 0
        assert out.read_text().split('\n')[:-1] == wanted
    capsys.readouterr()
    assert decode(run, f'--input={folder / "1.flac"}') == 0
    assert capsys.readouterr().out == wanted[1] + '\n'


@pytest.mark.parametrize('kind', ['missing', 'empty', 'noise', 'cut', 'folder', 'text', 'm4a'])
def test_what_cannot_be_heard_is_an_error_of_one_line(run, kind, tmp_path, capsys):
    path = tmp_path / f'{kind}.flac'
    data = open(clips(1)[0], 'rb').read()
    if kind == 'folder':
        path.mkdir()
    elif kind != 'missing':
        path.write_bytes(
            {
                'empty': b'',
                'noise': b'fLaC' + bytes(500),
                'cut': data[:1000],
                'text': b'Good morning.\nHow are you?\n',
                'm4a': b'\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom',
            }[kind]
        )
    out = tmp_path / 'out.txt'
    code = decode(run, f'--input={path}', f'--output={out}')
    assert code in (1, 2) and not out.exists()
    last = capsys.readouterr().err.rstrip().split('\n')[-1]
    assert last.startswith('decoder: ') and str(path) in last
    assert {'text': 'is text, no audio', 'm4a': 'M4A or MP4 is not read'}.get(kind, '') in last
    assert 'Traceback' not in last

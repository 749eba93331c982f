"""tools/prepare_wmt.py: from line files to what mt.WmtEnDe reads."""

import glob
import gzip
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import registry
from lingvo_lite.inputs import data_files, records
from lingvo_lite.inputs.text import pairs, tokenizers
from lingvo_lite.runs import locks
from lingvo_lite.testing import fake_data
from lingvo_lite.tools import prepare_wmt
from lingvo_lite.training import learner

TRAIN = [pair for pair in fake_data.SentencePairs(160, seed=1) if pair[0] != pair[1]]
DEV = [*fake_data.SentencePairs(9, seed=2), ('', 'na'), ('ka', 'ka'), ('ka', 'ka')]
TEST = fake_data.SentencePairs(11, seed=3)
VOCAB = 40


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def text(tmp_path):
    """The folder with the downloaded text."""
    folder = tmp_path / 'text'
    folder.mkdir()
    for name, made in (('one', TRAIN[:90]), ('two', TRAIN[90:]), ('dev', DEV), ('test', TEST)):
        for side, language in enumerate(('en', 'de')):
            fake_data.WriteLines(folder / f'{name}.{language}', [pair[side] for pair in made])
    return folder


def Flags(text, out, *more, train=('one', 'two')):
    """Flags of the command."""
    files = {name: f'{text}/{name}.en,{text}/{name}.de' for name in (*train, 'dev', 'test')}
    flags = [f'--dev={files["dev"]}', f'--test={files["test"]}', f'--out={out}']
    return ['--train', *(files[n] for n in train), *flags, f'--vocab_size={VOCAB}', *more]


def Read(out, name):
    """The pairs in the shards of a dataset."""
    read = pairs.RecordPairs(sorted(glob.glob(f'{out}/{name}-*.tfrecord')))
    return [read.Get(i) for i in range(len(read))]


def Bytes(out):
    """{name: content} of what was made, the lock left out."""
    return {
        path.name: path.read_bytes()
        for path in sorted(pathlib.Path(out).iterdir())
        if not path.name.startswith('lock') and path.name != 'prepare.json'
    }


def test_what_is_made(text, tmp_path, capsys):
    out = tmp_path / 'wmt_en_de'
    dirt = [('', 'na'), ('ka', 'ka'), TRAIN[3], ('ka ' * 300, 'lo ' * 300), ('ka', 'lo ' * 9)]
    for side, language in enumerate(('en', 'de')):
        lines = [f' {pair[side]} \x07' for pair in [*TRAIN[90:], *dirt]]
        with gzip.open(text / f'packed.{language}', 'wt', encoding='utf-8') as file:
            file.writelines(line + '\n' for line in lines)
    assert prepare_wmt.Main(Flags(text, out, '--shards=3', train=('one', 'packed'))) == 0
    said = capsys.readouterr()
    assert (
        f'{len(TRAIN) + 5} training pairs read, {len(TRAIN)} kept; dropped: empty side 1, '
        'source equals target 1, too long 1, length ratio 1, duplicate 1.' in said.out
    )
    assert 'writing train: ' in said.err
    assert Read(out, 'train') == TRAIN
    assert Read(out, 'newstest2013') == DEV
    assert Read(out, 'newstest2014') == TEST
    paths = sorted(glob.glob(f'{out}/train-*.tfrecord'))
    assert [os.path.basename(p) for p in paths][1:] == [
        'train-00001-of-00003.tfrecord',
        'train-00002-of-00003.tfrecord',
    ]
    opened = records.RecordSource(paths)
    p = tokenizers.SentencePieceTokenizer.Params()
    spm = p.Set(vocab_size=VOCAB, model_file=str(out / 'spm.model')).Instantiate()
    assert opened.meta['tokenizer'] == spm.Fingerprint()
    wanted = [[len(ids) for ids in spm.Encode(list(pair))] for pair in TRAIN]
    np.testing.assert_array_equal(opened.lengths, wanted)
    report = json.loads((out / 'prepare.json').read_text())
    assert report['pairs_dropped']['duplicate'] == 1
    assert report['made']['train'] == {
        'pairs': len(TRAIN),
        'source_tokens': sum(w[0] for w in wanted),
        'target_tokens': sum(w[1] for w in wanted),
        'shards': 3,
    }


def test_interrupted_it_goes_on_to_the_same_bytes(text, tmp_path, monkeypatch, capsys):
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    assert prepare_wmt.Main(Flags(text, whole, '--shards=4')) == 0
    write, left = records.ShardWriter.Write, len(TRAIN) // 2 + 5

    def Write(self, *args):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(records.ShardWriter, 'Write', Write)
        assert prepare_wmt.Main(Flags(text, out, '--shards=4')) == 130
    assert 'the same command goes on from here' in capsys.readouterr().err
    (out / 'train-00002-of-00004.tfrecord.99999.tmp').write_bytes(b'left by kill -9')
    there = {p: p.stat().st_mtime_ns for p in out.glob('train-*.tfrecord')}
    assert sorted(p.name for p in there) == [f'train-0000{i}-of-00004.tfrecord' for i in (0, 1)]
    encoded = []
    encode = tokenizers.SentencePieceTokenizer.Encode

    def Encode(self, texts):
        encoded.extend(texts)
        return encode(self, texts)

    def NoTraining(*args):
        raise AssertionError('The vocabulary is there.')

    monkeypatch.setattr(prepare_wmt, '_CHUNK', 8)
    monkeypatch.setattr(tokenizers.SentencePieceTokenizer, 'Encode', Encode)
    monkeypatch.setattr(tokenizers, 'TrainSentencePiece', NoTraining)
    assert prepare_wmt.Main(Flags(text, out, '--shards=4')) == 0
    assert Bytes(out) == Bytes(whole)
    assert {p: p.stat().st_mtime_ns for p in there} == there
    # Pairs of the shards that were kept are not encoded again.
    assert len(encoded) <= len(TRAIN) + 2 * 8 + 2 * (len(DEV) + len(TEST))


def test_other_settings_or_text_make_other_shards(text, tmp_path):
    out = tmp_path / 'out'
    assert prepare_wmt.Main(Flags(text, out, '--shards=3')) == 0
    assert prepare_wmt.Main(Flags(text, out, '--shards=2', '--max_words=3')) == 0
    fewer = [p for p in TRAIN if len(p[0].split()) <= 3]
    assert Read(out, 'train') == fewer  # those of the three shards are gone
    lines = (text / 'test.de').read_text().split('\n')
    (text / 'test.de').write_text('\n'.join(['sulo', *lines[1:]]))
    assert prepare_wmt.Main(Flags(text, out, '--shards=2', '--max_words=3')) == 0
    assert Read(out, 'newstest2014') == [(TEST[0][0], 'sulo'), *TEST[1:]]


def test_the_vocabulary_is_trained_on_a_sample_that_is_always_the_same(text, tmp_path, monkeypatch):
    used = []

    def Train(lines, vocab_size):
        used.append(list(lines))
        return TrainSentencePiece([side for pair in TRAIN for side in pair], vocab_size)

    TrainSentencePiece = tokenizers.TrainSentencePiece
    monkeypatch.setattr(tokenizers, 'TrainSentencePiece', Train)
    for out in ('a', 'b'):
        monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / f'cache-{out}'))
        assert prepare_wmt.Main(Flags(text, tmp_path / out, '--sample_pairs=30')) == 0
    assert used[0] == used[1] and len(used[0]) == 60
    sample = list(zip(used[0][::2], used[0][1::2]))
    assert [p for p in TRAIN if p in set(sample)] == sample  # pairs, none twice, from all over
    assert TRAIN.index(sample[-1]) > len(TRAIN) // 2


def Break(text, what):
    """Damages the text; returns what the error says."""
    if what == 'lines':
        with open(text / 'two.de', 'a') as file:
            file.write('ka\n')
        return f'two.en has {len(TRAIN) - 90} lines and {text}/two.de {len(TRAIN) - 89}.'
    if what == 'utf-8':
        lines = (text / 'one.de').read_bytes().split(b'\n')
        (text / 'one.de').write_bytes(b'\n'.join([*lines[:6], b'M\xfcller', *lines[7:]]))
        return 'one.de, line 7 (byte '
    if what == 'missing':
        os.unlink(text / 'dev.de')
        return f'There is no file {text}/dev.de.'
    if what == 'empty':
        (text / 'test.en').write_bytes(b'')
        return 'test.en is empty: it holds no line.'
    packed = gzip.compress((text / 'one.en').read_bytes())
    (text / 'one.en').write_bytes(packed[: len(packed) // 2])
    return 'one.en is cut short or damaged'


@pytest.mark.parametrize('what', ['lines', 'utf-8', 'missing', 'empty', 'cut short'])
def test_bad_text_is_one_line_and_exit_code_2(text, tmp_path, capsys, what):
    message = Break(text, what)
    assert prepare_wmt.Main(Flags(text, tmp_path / 'out')) == 2
    errors = [n for n in capsys.readouterr().err.split('\n') if n.startswith('prepare_wmt: ')]
    assert len(errors) == 1 and message in errors[0]
    assert not glob.glob(f'{tmp_path}/out/*.tfrecord')


def test_other_mistakes(text, tmp_path, capsys):
    out = tmp_path / 'out'
    os.rename(text / 'test.de', text / 'newstest2014-ref.de.sgm')
    flags = Flags(text, out)
    flags[flags.index(f'--test={text}/test.en,{text}/test.de')] = (
        f'--test={text}/test.en,{text}/newstest2014-ref.de.sgm'
    )
    assert prepare_wmt.Main(flags) == 2
    assert 'is SGML' in capsys.readouterr().err
    os.rename(text / 'newstest2014-ref.de.sgm', text / 'test.de')
    fake_data.WriteLines(text / 'one.de', [source for source, _ in TRAIN[:90]])
    assert prepare_wmt.Main(Flags(text, out, train=('one',))) == 2
    assert 'None of the 90 pairs is fit to train on: ' in capsys.readouterr().err
    assert prepare_wmt.Main([*Flags(text, out, train=('two',)), '--vocab_size=9000']) == 2
    assert 'Largest that works: ' in capsys.readouterr().err
    with locks.JobLock(str(out), 'prepare_wmt'):
        assert prepare_wmt.Main(Flags(text, out)) == 2
    for flag in ('--train=a', '--dev=a,b,c', '--shards=0'):
        with pytest.raises(SystemExit) as end:
            prepare_wmt.Main([*Flags(text, out), flag])
        assert end.value.code == 2


@pytest.mark.slow
def test_killed_and_started_again(text, tmp_path):
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    assert prepare_wmt.Main(Flags(text, whole, '--shards=40')) == 0
    command = [sys.executable, '-m', 'lingvo_lite.tools.prepare_wmt']
    command += Flags(text, out, '--shards=40')
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while len(list(out.glob('*.npz'))) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (out / 'prepare.json').exists()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert Bytes(out) == Bytes(whole)
    assert (out / 'prepare.json').exists()


@pytest.mark.slow
def test_multi30k_as_stand_in_and_a_training_step(tmp_path, monkeypatch):
    """The shards of a real corpus are what mt.WmtEnDe trains on."""
    folder = os.environ.get('LINGVO_LITE_DATA', '')
    multi30k = os.path.join(folder, 'multi30k')
    if not os.path.isfile(f'{multi30k}/train.en.gz'):
        pytest.skip('LINGVO_LITE_DATA has no multi30k.')
    flags = [
        f'--{flag}={multi30k}/{name}.en.gz,{multi30k}/{name}.de.gz'
        for flag, name in (('train', 'train'), ('dev', 'val'), ('test', 'test_2016_flickr'))
    ]
    out = f'--out={tmp_path}/wmt_en_de'
    assert prepare_wmt.Main([*flags, out, '--vocab_size=2000', '--shards=8']) == 0
    report = json.loads((tmp_path / 'wmt_en_de' / 'prepare.json').read_text())
    assert report['pairs_read'] == 29_000
    assert report['made']['train']['pairs'] + sum(report['pairs_dropped'].values()) == 29_000
    assert report['made']['newstest2013']['pairs'] == 1_014
    assert report['made']['newstest2014']['pairs'] == 1_000
    monkeypatch.setattr(data_files, '_data_dir', str(tmp_path))
    experiment = registry.Get('mt.WmtEnDe')()
    train = experiment.Train().Set(tokens_per_batch=2_000)
    train.tokenizer.vocab_size = 2_000
    task = experiment.Tiny().Set(vocab_size=2_000).Instantiate()
    one = learner.Learner(task, tf.distribute.get_strategy())
    inputs = train.Instantiate()
    with inputs.Batches() as feed:
        numbers = one.TrainStep(next(feed).replicas).Read()
    assert np.isfinite(numbers.loss) and numbers.updates == 1
    assert inputs._tables == {}, 'The lengths in the sidecars were not taken.'

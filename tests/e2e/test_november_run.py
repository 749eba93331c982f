"""Runs that began in November 2026, before public names and wings: they go on, and score as then.

november/ holds what that code wrote: log directories, without the event files, of
tiny_experiment.Digits (mt) and of asr.SpokenDigitsLas and asr.SpokenDigits made small (asr, ctc),
with the scores it found; and class_names.txt, the names that texts of its Params can hold.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import job_runs
import numpy as np
import pytest
import tiny_experiment

from lingvo_lite import cli, literals, registry, renamed
from lingvo_lite.runs import metrics_log
from lingvo_lite.runs.checkpoints import tensors

NOVEMBER = pathlib.Path(__file__).with_name('november')
MODELS = {
    'mt': 'tiny_experiment.Digits',
    'asr': 'asr.SpokenDigitsLas',
    'ctc': 'asr.SpokenDigits',
}
LAST = {'mt': 120, 'asr': 10, 'ctc': 10}
# Another CPU computes in another order.
CLOSE = {'rtol': 1e-4, 'atol': 1e-5}


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


@pytest.fixture
def run(kind, tmp_path, monkeypatch):
    """A copy of the run, and its data."""
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('LINGVO_LITE_DATA', str(tmp_path / 'data'))
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    tiny_experiment.WriteData(tmp_path / 'data')
    return shutil.copytree(NOVEMBER / kind, tmp_path / 'run')


def test_it_goes_on_as_it_did(kind, run, caplog):
    """From half of its steps to all of them, with the code of today."""
    last = LAST[kind]
    wanted = tensors.Restore(str(run / f'train/ckpt-{last:08d}'))
    job_runs.rewind(run, last // 2)
    flags = json.loads((NOVEMBER / kind / 'flags.json').read_text())
    assert cli.Trainer([f'--model={MODELS[kind]}', f'--logdir={run}', *flags]) == 0
    assert 'as they were called before' in caplog.text
    found = tensors.Restore(str(run / f'train/ckpt-{last:08d}'))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if np.asarray(value).dtype.kind == 'f':
            np.testing.assert_allclose(found[name], value, **CLOSE, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(('job', 'folder'), [(cli.Evaler, 'eval_dev'), (cli.Decoder, 'decode_dev')])
def test_it_is_scored_as_it_was(kind, run, job, folder):
    if not (run / folder).exists():
        pytest.skip('not scored then')
    before = metrics_log.Read(str(run / folder / 'metrics.jsonl'))[-1]
    (run / folder / 'metrics.jsonl').unlink()
    decoded = run / folder / f'decoded-{LAST[kind]:08d}.jsonl'
    hypotheses = decoded.read_text() if decoded.exists() else ''
    assert job([f'--model={MODELS[kind]}', f'--logdir={run}', '--dataset=Dev', '--once']) == 0
    after = metrics_log.Read(str(run / folder / 'metrics.jsonl'))[-1]
    assert after.keys() == before.keys()
    for name, value in before.items():
        if name != 'seconds' and not isinstance(value, str):
            assert after[name] == pytest.approx(value, rel=1e-3)
    if hypotheses:
        texts = [[json.loads(line)['hypotheses'] for line in t.splitlines()]
                 for t in (hypotheses, decoded.read_text())]  # fmt: skip
        same = sum(a == b for a, b in zip(*texts))
        assert same >= 0.98 * len(texts[0])


def test_a_score_folder_of_then_holds_no_other_kind_of_score(kind, run):
    """Its params.txt is compared by what its classes are called by now."""
    flags = [f'--model={MODELS[kind]}', f'--logdir={run}', '--dataset=Dev', '--once']
    assert cli.Evaler(flags) == 0


@pytest.mark.parametrize('name', (NOVEMBER / 'class_names.txt').read_text().split())
def test_every_name_of_then_is_understood(name):
    registry.List()  # imports the families, as --model does
    found = literals.FindClass(name)
    assert found.__name__ == name.rpartition('.')[2]
    assert literals.ClassName(found) == renamed.Present(name)

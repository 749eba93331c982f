import math
import subprocess
import sys

import numpy as np
import pytest

from lingvo_lite.runs import metrics_log


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'metrics.jsonl')


def Content(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def test_reads_back_what_was_appended(path):
    log = metrics_log.MetricsLog(path)
    log.Append(1, {'loss': np.float32(0.5), 'words': np.int64(7), 'signature': 'nrefs:1|grün'})
    log.Append(2, {'loss': 0.25, 'stopped': True, 'note': None})

    assert metrics_log.Read(path) == [
        {'step': 1, 'loss': 0.5, 'words': 7, 'signature': 'nrefs:1|grün'},
        {'step': 2, 'loss': 0.25, 'stopped': True, 'note': None},
    ]
    assert metrics_log.Steps(path) == {1, 2}


def test_numbers_that_json_has_not_are_texts_in_the_file_and_numbers_again_when_read(path):
    metrics_log.MetricsLog(path).Append(3, {'a': math.nan, 'b': math.inf, 'c': -math.inf})

    assert Content(path) == '{"step": 3, "a": "nan", "b": "inf", "c": "-inf"}\n'
    (record,) = metrics_log.Read(path)
    assert math.isnan(record['a'])
    assert (record['b'], record['c']) == (math.inf, -math.inf)


def test_no_file_is_no_lines(path):
    assert metrics_log.Read(path) == []
    assert metrics_log.MetricsLog(path).CutBackTo(0) == 0


@pytest.mark.parametrize('torn', ['{"step": 3, "lo', '{"step": 3, "loss": 1.0}', '\x00\x00'])
def test_a_torn_last_line_is_left_out_by_readers_and_dropped_by_the_next_writer(path, torn):
    metrics_log.MetricsLog(path).Append(2, {'loss': 1.0})
    with open(path, 'a', encoding='utf-8') as file:
        file.write(torn)

    assert metrics_log.Steps(path) == {2}
    metrics_log.MetricsLog(path).Append(4, {'loss': 0.5})
    assert [record['step'] for record in metrics_log.Read(path)] == [2, 4]


def test_cut_back_removes_what_came_after_the_restored_step(path):
    log = metrics_log.MetricsLog(path)
    for step in (10, 20, 30, 40):
        log.Append(step, {'loss': float(step)})
    before = Content(path)

    assert log.CutBackTo(20) == 2
    assert Content(path) == ''.join(before.splitlines(keepends=True)[:2])


def test_a_line_in_the_middle_that_is_no_record_is_an_error_with_its_number(path):
    with open(path, 'w', encoding='utf-8') as file:
        file.write('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r'metrics\.jsonl:2 is no record with a step: b.rubbish'):
        metrics_log.Read(path)
    with pytest.raises(ValueError, match=r'metrics\.jsonl:2'):
        metrics_log.MetricsLog(path)


def test_values_that_are_no_scalars_are_refused_and_nothing_is_written(path):
    log = metrics_log.MetricsLog(path)
    with pytest.raises(ValueError, match="Metric 'x' must be a scalar or a text, got list"):
        log.Append(1, {'x': [1, 2]})
    with pytest.raises(ValueError, match="cannot be called 'step'"):
        log.Append(1, {'step': 2})
    assert metrics_log.Read(path) == []


def test_a_line_is_fsynced_before_append_returns(path, monkeypatch):
    log = metrics_log.MetricsLog(path)
    seen = []
    monkeypatch.setattr('os.fsync', lambda fd: seen.append(Content(path)))
    log.Append(1, {'loss': 1.0})
    assert '{"step": 1, "loss": 1.0}\n' in seen


def test_a_line_that_finds_no_room_leaves_the_file_as_it_was(path):
    script = (
        'import resource, sys\n'
        'from lingvo_lite.runs import metrics_log\n'
        'log = metrics_log.MetricsLog(sys.argv[1])\n'
        'log.Append(1, {"loss": 0.5})\n'
        # The next line has room for its first bytes only.
        'resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))\n'
        'try:\n'
        '    log.Append(2, {"loss": 0.25})\n'
        'except OSError as error:\n'
        '    print(error)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (999, resource.RLIM_INFINITY))\n'
        'log.Append(3, {"loss": 0.125})\n'
    )
    command = [sys.executable, '-c', script, path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 'File too large' in text and path in text
    assert [line['step'] for line in metrics_log.Read(path)] == [1, 3]

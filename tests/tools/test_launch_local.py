"""A cluster of processes on this machine: what they are told, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from lingvo_lite.tools import launch_local

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def launched(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
    """The launcher as a process; dead at the end."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'lingvo_lite.tools.launch_local', *arguments],
        stdout=stdout,
        stderr=stderr,
        text=True,
        # What nohup, or a shell's &, has this process ignore would be ignored below too.
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in _STOPS],
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(*arguments):
    """(exit code, stdout, stderr) of a launcher."""
    with launched(*arguments) as process:
        out, error = process.communicate(timeout=60)
        return process.returncode, out, error


def worker(script):
    """A command: Python that knows `me`, its number, and `say`."""
    head = (
        'import json, os, signal, subprocess, sys, time\n'
        "me = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        'def say(text): print(text, flush=True)\n'
    )
    return ['--', sys.executable, '-S', '-c', head + script]


def lines_until(process, count):
    """The first `count` lines of stdout, sorted."""
    return sorted(process.stdout.readline().rstrip('\n') for _ in range(count))


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def gone(pids, seconds=20):
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_each_worker_gets_its_place_and_each_line_its_label():
    script = (
        "say(os.environ['TF_CONFIG'])\nprint('an error', file=sys.stderr)\nsys.stdout.write('end')"
    )
    code, out, error = run('-n', '3', *worker(script))
    assert code == 0
    assert sorted(error.splitlines()) == [f'[{n}] an error' for n in range(3)]
    configs = {}
    for line in out.splitlines():
        label, _, text = line.partition(' ')
        if text != 'end':
            configs[label] = json.loads(text)
    assert sorted(configs) == ['[0]', '[1]', '[2]'] and out.count('] end\n') == 3
    assert [configs[f'[{n}]']['task'] for n in range(3)] == [
        {'type': 'worker', 'index': n} for n in range(3)
    ]
    clusters = [config['cluster']['worker'] for config in configs.values()]
    assert clusters[0] == clusters[1] == clusters[2] and len(set(clusters[0])) == 3
    assert all(address.startswith('127.0.0.1:') for address in clusters[0])


def test_a_failed_worker_ends_the_others_and_its_code_is_the_launchers():
    script = (
        'if me == 1: sys.exit(7)\n'
        'signal.signal(signal.SIGTERM, lambda *_: (say("asked"), sys.exit(143)))\n'
        'say("here")\n'
        'time.sleep(60)'
    )
    code, out, error = run('-n', '3', '--grace=50', *worker('if me == 1: time.sleep(1)\n' + script))
    assert code == 7
    assert sorted(out.splitlines()) == ['[0] asked', '[0] here', '[2] asked', '[2] here']
    assert 'launch_local: worker 1 ended with exit code 7' in error


def test_who_does_not_end_is_killed_after_the_grace_time_with_all_that_it_started():
    script = (
        'if me == 1: time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)\n'
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        "say(subprocess.Popen(['sleep', '60']).pid)\n"
        'say(os.getpid())\n'
        'time.sleep(60)'
    )
    code, out, error = run('-n', '2', '--grace=0.3', *worker(script))
    assert code == 128 + 9
    assert 'killing what still runs after 0.3 s: worker 0' in error
    assert gone([int(line.split()[1]) for line in out.splitlines()])


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_signals_reach_all_workers_once_and_they_have_their_time(number, code):
    """The first to end does not cut the time of the last, as that may be saving."""
    script = (
        'def Stop(number, frame):\n'
        '    signal.signal(number, lambda *_: say("twice"))\n'
        '    say(f"signal {number}")\n'
        '    time.sleep(me)\n'
        '    say("saved")\n'
        '    sys.exit(128 + number)\n'
        'for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, Stop)\n'
        'say("ready")\n'
        'time.sleep(60)'
    )
    with launched('-n', '2', '--grace=0', *worker(script)) as process:
        assert lines_until(process, 2) == ['[0] ready', '[1] ready']
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    seen = code - 128
    assert sorted(out.splitlines()) == sorted(
        f'[{n}] {text}' for n in range(2) for text in (f'signal {seen}', 'saved')
    )
    assert process.returncode == code


@pytest.mark.parametrize('stuck', [1, 2])
@pytest.mark.parametrize(
    ('first', 'second', 'code'),
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGHUP, signal.SIGTERM, 143),
    ],
)
def test_a_second_signal_ends_workers_that_do_not_react(first, second, code, stuck):
    """As inside the constructor of TensorFlow's strategy; a worker that is not there yet stops."""
    script = (
        f'reaction = signal.SIG_IGN if me < {stuck} else lambda n, _: sys.exit(128 + n)\n'
        'for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, reaction)\n'
        "say(subprocess.Popen(['sleep', '60']).pid)\n"
        'say(os.getpid())\n'
        'time.sleep(60)'
    )
    with launched('-n', '2', '--grace=0', *worker(script)) as process:
        pids = [int(line.split()[1]) for line in lines_until(process, 4)]
        process.send_signal(first)
        assert 'once more ends at once' in process.stderr.readline()
        if stuck == 1:
            assert f'worker 1 ended with exit code {code}' in process.stderr.readline()
        process.send_signal(second)
        _, error = process.communicate(timeout=20)
        names = ', '.join(f'worker {n}' for n in range(stuck))
        assert (process.returncode, error) == (code, f'launch_local: killing at once: {names}\n')
        assert gone(pids)


def test_a_terminal_that_closes_and_says_so_twice_leaves_workers_their_time(tmp_path):
    script = (
        'def Stop(*_):\n'
        f'    open("{tmp_path}/" + str(me), "w").close()\n'
        '    time.sleep(0.5 + me)\n'
        '    print("x" * 200_000, flush=True)\n'
        f'    os.remove("{tmp_path}/" + str(me))\n'
        '    sys.exit(143)\n'
        'signal.signal(signal.SIGTERM, Stop)\n'
        'say("ready")\n'
        'time.sleep(60)'
    )
    ours, terminal = os.openpty()
    with launched('-n', '2', *worker(script), stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        with open(ours, 'rb', closefd=False) as lines:
            assert sorted(lines.readline() for _ in range(2)) == [
                b'[0] ready\r\n',
                b'[1] ready\r\n',
            ]
        os.close(ours)  # what is written to the terminal fails
        process.send_signal(signal.SIGHUP)
        while len(list(tmp_path.iterdir())) < 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=20) == 143
        assert not list(tmp_path.iterdir())


def test_a_worker_that_was_asked_to_stop_by_others_leaves_the_rest_their_time():
    """As when SIGTERM comes to one worker: all save then, and no second signal breaks that off."""
    script = (
        'signal.signal(signal.SIGTERM, lambda *_: sys.exit(99))\n'
        'time.sleep(me)\n'
        'sys.exit(143 if me == 0 else 0)'
    )
    code, _, error = run('-n', '2', '--grace=50', *worker(script))
    assert code == 143 and 'worker 1' not in error


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGQUIT])
def test_no_worker_outlives_the_launcher(number):
    script = (
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        "say(subprocess.Popen(['sleep', '60']).pid)\n"
        'say(os.getpid())\n'
        'time.sleep(60)'
    )
    with launched('-n', '2', *worker(script)) as process:
        pids = [int(line.split()[1]) for line in lines_until(process, 4)]
        assert len(set(pids)) == 4 and all(map(alive, pids))
        process.send_signal(number)
        process.wait(timeout=20)
        assert gone(pids)


def test_a_trainer_is_lingvo_lites_and_trains_with_several_workers():
    command = launch_local.WorkersCommand(['trainer', '--model=mt.NumbersEnDe', '--logdir=RUN'])
    assert command[1:4] == ['-m', 'lingvo_lite.cli', 'trainer']
    assert command[4:] == ['--model=mt.NumbersEnDe', '--logdir=RUN', '--strategy=multi_worker']
    for own in (['--strategy=one'], ['--strategy', 'one']):
        assert launch_local.WorkersCommand(['trainer', *own])[4:] == own


def test_gpus_are_shared_out():
    def Shares(workers, each, **environment):
        found = launch_local.Gpus(workers, each, environment)
        return found and [share['CUDA_VISIBLE_DEVICES'] for share in found]

    assert Shares(2, None) is None
    assert Shares(2, 2) == ['0,1', '2,3']
    assert Shares(2, 0, CUDA_VISIBLE_DEVICES='4') == ['', '']
    assert Shares(2, 1, CUDA_VISIBLE_DEVICES='7,5,3') == ['7', '5']
    with pytest.raises(ValueError, match='takes 4 GPUs, and CUDA_VISIBLE_DEVICES=1,2 has 2'):
        Shares(2, 2, CUDA_VISIBLE_DEVICES='1,2')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--', 'trainer'], 'required: -n'),
        (['-n', '0', '--', 'trainer'], "argument -n: invalid int >= 1 value: '0'"),
        (['-n', '2'], 'required: COMMAND'),
        (['-n', '2', '--grace=-1', '--', 'trainer'], 'invalid seconds >= 0'),
        (['-n', '2', '--', 'evaler', '--model=x'], 'evaler is one process'),
        (['-n', '2', '--', '--model=x'], 'begins with its name, not --model=x'),
        (['-n', '2', '--', 'no_such_program'], "there is no program 'no_such_program'"),
        (['-n', '2', 'trainer', '--model=x'], 'unrecognized arguments: --model=x'),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        launch_local.Main(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and message in error and error.count('\n') == 1


def test_free_ports_are_free():
    ports = launch_local.FreePorts(5)
    assert len(set(ports)) == 5 and min(ports) > 1024


def test_the_workers_of_a_cluster_differ_in_their_index():
    (first, second) = (json.loads(each['TF_CONFIG']) for each in launch_local.Cluster(2))
    addresses = first['cluster']['worker']
    assert len(set(addresses)) == 2
    assert all(re.fullmatch(r'127\.0\.0\.1:\d+', address) for address in addresses)
    assert first == {
        'cluster': {'worker': addresses},
        'task': {'type': 'worker', 'index': 0},
    }
    assert second == {**first, 'task': {'type': 'worker', 'index': 1}}

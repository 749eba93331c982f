"""Files appear in the cache whole, once, whoever asks."""

import hashlib
import os
import subprocess
import sys

import pytest

from lingvo_lite.inputs import cache


def test_made_once_and_then_found(cache_folder):
    calls = []

    def Write(path):
        calls.append(path)
        with open(path, 'w') as file:
            file.write('content')

    first, second = cache.Produce('kind/x', Write), cache.Produce('kind/x', Write)
    assert first == second == str(cache_folder / 'kind/x')
    assert len(calls) == 1 and calls[0] != first
    with open(first) as file:
        assert file.read() == 'content'


def test_a_failure_leaves_nothing_and_is_tried_again(cache_folder):
    def Fail(path):
        with open(path, 'w') as file:
            file.write('half')
        raise KeyError('stop')

    with pytest.raises(KeyError):
        cache.Produce('kind/x', Fail)
    assert [p for p in os.listdir(cache_folder / 'kind') if not p.endswith('.lock')] == []
    assert os.path.getsize(cache.Produce('kind/x', lambda path: open(path, 'w').close())) == 0


SCRIPT = """
import os, sys, time
from lingvo_lite.inputs import cache
def Write(path):
    with open(sys.argv[1], 'a') as log:
        log.write('made\\n')
    with open(path, 'w') as file:
        for _ in range(20):
            file.write('x')
            file.flush()
            time.sleep(0.01)
print(len(open(cache.Produce('kind/shared', Write)).read()))
"""


def test_two_processes_at_once_make_it_once(tmp_path):
    log = str(tmp_path / 'log')
    both = [
        subprocess.Popen([sys.executable, '-c', SCRIPT, log], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == ['20', '20']
    with open(log) as file:
        assert file.read() == 'made\n'


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'file'))
    with pytest.raises(OSError, match=r'cannot write to the cache folder .*LINGVO_LITE_CACHE'):
        cache.Produce('kind/x', lambda path: None)


def test_keys_tell_parts_apart():
    assert cache.Key('a', 'b') == cache.Key('a', 'b')
    assert len({cache.Key('a', 'b'), cache.Key('ab'), cache.Key('a', ['b'])}) == 3


def test_a_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    data = bytes(range(256)) * 9000  # more than is read at once
    (tmp_path / 'x').write_bytes(data)
    wanted = hashlib.blake2b(data, digest_size=12).hexdigest()
    assert cache.FileHash(str(tmp_path / 'x')) == wanted
    assert cache.FileHash(str(tmp_path / 'x'), hashlib.sha256()) == hashlib.sha256(data).hexdigest()

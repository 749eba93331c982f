"""What prepare tools share: exit codes, the folder, shards of lazy records, the report."""

import os

import pytest

import lingvo_lite
from lingvo_lite.inputs import records
from lingvo_lite.runs import locks
from lingvo_lite.tools import preparing


@pytest.mark.parametrize('mistake', [ValueError, OSError, ImportError])
def test_a_mistake_is_one_line_and_exit_code_2(mistake, capsys):
    def Prepare():
        raise mistake('no such text')

    assert preparing.Main('prepare_x', Prepare) == 2
    assert capsys.readouterr() == ('', 'prepare_x: no such text\n')


def test_what_is_stopped_says_how_to_go_on(capsys):
    def Prepare():
        raise KeyboardInterrupt

    assert preparing.Main('prepare_x', Prepare) == 130
    assert 'prepare_x: stopped; the same command goes on from here' in capsys.readouterr().err


def test_the_summary_is_printed(capsys):
    assert preparing.Main('prepare_x', lambda: '3 pairs.') == 0
    assert capsys.readouterr() == ('3 pairs.\n', '')


def test_a_folder_is_made_and_cleared_and_held(tmp_path):
    out = tmp_path / 'new' / 'folder'
    with preparing.Folder(str(out), 'prepare_x'):
        with pytest.raises(locks.LockedError), preparing.Folder(str(out), 'prepare_x'):
            pass
    (out / 'train.tfrecord.99.tmp').write_bytes(b'left by kill -9')
    with preparing.Folder(str(out), 'prepare_x'):
        assert not (out / 'train.tfrecord.99.tmp').exists()


def test_records_of_whole_shards_are_not_made_again(tmp_path):
    made = []

    def Make(i):
        made.append(i)
        return b'%d' % i, [i]

    def Write(shards):
        made.clear()
        lazy = [preparing.LazyRecord(lambda i=i: Make(i)) for i in range(6)]
        return preparing.WriteShards(lazy, str(tmp_path / 'train'), 6, shards, ['n'], {'of': 'x'})

    paths = Write(3)
    assert made == list(range(6))
    os.unlink(paths[1])
    assert Write(3) == paths and made == [2, 3]
    opened = records.RecordSource(Write(2))
    assert [opened.Get(i) for i in range(6)] == [b'%d' % i for i in range(6)]
    assert opened.lengths.tolist() == [[i] for i in range(6)]
    assert len(list(tmp_path.glob('*.tfrecord'))) == 2  # none is left of the three


def test_the_report_names_the_version_and_is_read_back(tmp_path):
    assert preparing.ReadReport(str(tmp_path)) == {}
    preparing.WriteReport(str(tmp_path), {'pairs': 3})
    assert preparing.ReadReport(str(tmp_path)) == {
        'lingvo_lite': lingvo_lite.__version__,
        'pairs': 3,
    }

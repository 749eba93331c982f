"""TFRecord files with sidecars: random access, checksums, damage, writing again."""

import os

import numpy as np
import pytest

from lingvo_lite.inputs import records, source

tf = pytest.importorskip('tensorflow')
NUM = 23


def Payload(i):
    return (b'record %d ' % i) * (i + 1)


def Records(count=NUM):
    return ((Payload(i), [i, 2 * i]) for i in range(count))


def Write(folder, shards=3, meta=None):
    prefix = os.path.join(str(folder), 'sub', 'train')
    return records.WriteShards(Records(), prefix, NUM, shards, ('source', 'target'), meta)


def Flip(path, at):
    with open(path, 'r+b') as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_any_record_in_any_order(tmp_path):
    paths = Write(tmp_path, meta={'tokenizer': 'abc'})
    assert [os.path.basename(p) for p in paths][0] == 'train-00000-of-00003.tfrecord'
    opened = records.RecordSource(paths)
    assert len(opened) == NUM
    for i in np.random.default_rng(0).permutation(NUM):
        assert opened.Get(int(i)) == Payload(i)
    assert opened.length_names == ('source', 'target')
    assert opened.lengths.tolist() == [[i, 2 * i] for i in range(NUM)]
    assert opened.meta['tokenizer'] == 'abc'


def test_tensorflow_reads_the_same_files(tmp_path):
    read = [r.numpy() for r in tf.data.TFRecordDataset(Write(tmp_path))]
    assert read == [Payload(i) for i in range(NUM)]


@pytest.mark.parametrize('at', [0, 20])
def test_a_flipped_bit_names_file_record_and_byte(tmp_path, at):
    path = Write(tmp_path, shards=1)[0]
    offset = sum(len(Payload(i)) + 16 for i in range(4))
    Flip(path, offset + at)
    opened = records.RecordSource([path])
    with pytest.raises(
        source.BadRecordError,
        match=rf'tfrecord, record 4 \(byte {offset:,}\): CRC does not match',
    ):
        opened.Get(4)
    assert opened.Get(5) == Payload(5)


def test_cut_short(tmp_path):
    path = Write(tmp_path, shards=1)[0]
    os.truncate(path, sum(len(Payload(i)) + 16 for i in range(9)) + 5)
    with pytest.raises(ValueError, match='is cut short: .* ends within record 9 of 23'):
        records.RecordSource([path])


def test_changed_after_the_sidecar(tmp_path):
    path = Write(tmp_path, shards=1)[0]
    with open(path, 'ab') as file:
        file.write(b'more')
    with pytest.raises(ValueError, match='has changed since its sidecar was written'):
        records.RecordSource([path])


def test_empty_and_missing(tmp_path):
    path = Write(tmp_path, shards=1)[0]
    os.unlink(records.SidecarPath(path))
    with pytest.raises(FileNotFoundError, match=r'no sidecar .*WriteSidecar\(path\)'):
        records.RecordSource([path])
    os.truncate(path, 0)
    with pytest.raises(ValueError, match='is empty'):
        records.RecordSource([path])
    with pytest.raises(ValueError, match='is empty'):
        records.WriteSidecar(path)
    os.unlink(path)
    with pytest.raises(FileNotFoundError, match='No TFRecord file'):
        records.RecordSource([path])


def test_damaged_sidecar(tmp_path):
    path = Write(tmp_path, shards=1)[0]
    os.truncate(records.SidecarPath(path), 100)
    with pytest.raises(ValueError, match=r'index\.npz is damaged'):
        records.RecordSource([path])


def test_sidecar_of_a_file_from_elsewhere(tmp_path):
    path = str(tmp_path / 'other.tfrecord')
    with tf.io.TFRecordWriter(path) as writer:
        for i in range(5):
            writer.write(Payload(i))
    records.WriteSidecar(path)
    opened = records.RecordSource([path])
    assert [opened.Get(i) for i in range(5)] == [Payload(i) for i in range(5)]
    assert opened.lengths.shape == (5, 0)
    Flip(path, 20)
    with pytest.raises(ValueError, match=r'record 0 \(byte 0\)'):
        records.WriteSidecar(path)


def test_shards_of_different_sets_do_not_mix(tmp_path):
    one = Write(tmp_path / 'a', meta={'tokenizer': 'x'})
    other = Write(tmp_path / 'b', meta={'tokenizer': 'y'})
    with pytest.raises(ValueError, match='does not belong to'):
        records.RecordSource([one[0], other[1]])


def test_whole_shards_are_kept_and_others_written_again(tmp_path):
    paths = Write(tmp_path, meta={'of': 'corpus 1'})
    kept = [os.stat(path).st_mtime_ns for path in paths]
    os.truncate(paths[1], 50)
    Write(tmp_path, meta={'of': 'corpus 1'})
    again = [os.stat(path).st_mtime_ns for path in paths]
    assert again[0] == kept[0] and again[2] == kept[2] and again[1] != kept[1]
    assert [records.RecordSource(paths).Get(i) for i in range(NUM)] == [
        Payload(i) for i in range(NUM)
    ]
    Write(tmp_path, meta={'of': 'corpus 2'})
    assert all(os.stat(path).st_mtime_ns != old for path, old in zip(paths, again))


def test_an_error_while_writing_leaves_nothing(tmp_path):
    path = str(tmp_path / 'x.tfrecord')
    with pytest.raises(ValueError, match='lengths for'):
        with records.ShardWriter(path, ('source',)) as writer:
            writer.Write(b'a', [1])
            writer.Write(b'b', [1, 2])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('count, text', [(NUM + 1, 'records end after'), (NUM - 1, 'more records')])
def test_a_wrong_count_is_an_error(tmp_path, count, text):
    with pytest.raises(ValueError, match=text):
        records.WriteShards(Records(), str(tmp_path / 'x'), count, 2, ('source', 'target'))


def test_shards_in_another_number_go_and_all_else_stays(tmp_path):
    def Write(name, shards):
        return records.WriteShards([(b'x', ())] * 3, str(tmp_path / name), 3, shards)

    others = [*Write('dev-other', 1), *Write('dev-00001-of-00002', 1)]
    Write('dev', 2)
    kept = Write('dev', 3)
    records.RemoveOtherShards(str(tmp_path / 'dev'), 3)
    wanted = {name for path in (*others, *kept) for name in (path, records.SidecarPath(path))}
    assert {str(path) for path in tmp_path.iterdir()} == wanted


def test_more_shards_than_records(tmp_path):
    with pytest.raises(ValueError, match='cannot fill 9 shards'):
        records.WriteShards(iter(()), str(tmp_path / 'x'), 3, 9)


def test_a_shard_that_is_missing_is_no_small_corpus(tmp_path):
    paths = Write(tmp_path)
    assert len(records.RecordSource(paths[:2])) < NUM  # a pattern for some of them
    for path in (paths[1], records.SidecarPath(paths[1])):
        os.remove(path)
    with pytest.raises(FileNotFoundError, match='train-00001-of-00003.* is missing, one of 3 '):
        records.RecordSource([paths[0], paths[2]])

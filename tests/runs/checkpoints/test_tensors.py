import os
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.runs.checkpoints import files as checkpoint_files, tensors


class Killed(BaseException):
    """Stands for the end of the process: nothing after it may touch the disk."""


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def Save(folder, step, value=None):
    """A small checkpoint; returns its prefix."""
    prefix = checkpoint_files.PrefixOf(folder, step)
    weights = np.full([2, 3], step if value is None else value, np.float32)
    tensors.Save(prefix, {'a/w': weights, 'a/b': np.zeros(3, np.float32), '.step': step})
    return prefix


def DataFile(prefix):
    return f'{prefix}.data-00000-of-00001'


def FlipByte(path, position):
    with open(path, 'r+b') as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def CutInHalf(path):
    os.truncate(path, os.path.getsize(path) // 2)


def Steps(folder):
    return [checkpoint.step for checkpoint in checkpoint_files.List(folder)]


# Round trip.


@pytest.mark.parametrize('name', ['lr[0.1]', 'a*', 'a?b', '{a,b}', 'back\\slash', 'new\nline', '~'])
def test_a_folder_may_have_any_name(tmp_path, name):
    """TensorFlow reads prefixes as patterns first."""
    (tmp_path / 'ab').mkdir()  # what some of the patterns would match
    folder = tmp_path / name
    folder.mkdir()
    prefix = f'{folder}/ckpt-00000001'
    tensors.Save(prefix, {'w': np.arange(3, dtype=np.float32)})
    assert list(tensors.Contents(prefix)) == ['w']
    np.testing.assert_array_equal(tensors.Restore(prefix)['w'], [0, 1, 2])
    tensors.Verify(prefix)


def test_everything_comes_back_bit_for_bit_with_its_type(folder):
    values = {
        'encoder/layers_0/w': np.random.RandomState(1).randn(3, 4).astype(np.float32),
        'encoder/layers_0/w/.slot/m': np.array([[np.nan, -0.0, np.inf]], np.float64),
        'half': tf.constant([1.5, 2.5], tf.bfloat16),
        'flag': True,
        'empty': np.zeros([0, 4], np.float32),
        '.step': np.int64(1 << 40),
        '.input_state': b'{"epoch": 3}\x00\xff',
        'variable': tf.Variable([1, 2], dtype=tf.int32),
    }
    prefix = checkpoint_files.PrefixOf(folder, 7)
    tensors.Save(prefix, values)

    found = tensors.Restore(prefix)

    assert sorted(found) == sorted(values)
    for name, value in values.items():
        value = value.numpy() if hasattr(value, 'numpy') else value
        np.testing.assert_array_equal(found[name], value, strict=isinstance(value, np.ndarray))
    assert found['.input_state'] == values['.input_state']
    assert tensors.Restore(prefix, ['flag']) == {'flag': True}
    # It is a standard file.
    reader = tf.train.load_checkpoint(prefix)
    np.testing.assert_array_equal(reader.get_tensor('variable'), [1, 2])


def test_contents_are_names_shapes_and_dtypes(folder):
    assert tensors.Contents(Save(folder, 3)) == {
        '.step': ((), tf.int32),
        'a/b': ((3,), tf.float32),
        'a/w': ((2, 3), tf.float32),
    }


def test_a_snapshot_does_not_follow_its_variable_or_array():
    variable, array = tf.Variable([1.0, 2.0]), np.ones(100, np.float32)
    snapshot = tensors.Snapshot({'v': variable, 'a': array})
    variable.assign_add([5.0, 5.0])
    variable.scatter_nd_update([[0]], [9.0])
    array[:] = 7
    np.testing.assert_array_equal(snapshot['v'], [1.0, 2.0])
    np.testing.assert_array_equal(snapshot['a'], np.ones(100))


def test_reading_in_chunks_gives_the_same(folder, monkeypatch):
    values = {f'v{i}': np.full([i, 10], i, np.float32) for i in range(7)}
    prefix = checkpoint_files.PrefixOf(folder, 1)
    tensors.Save(prefix, values)
    monkeypatch.setattr(tensors, '_CHUNK_BYTES', 100)
    for name, value in tensors.Restore(prefix).items():
        np.testing.assert_array_equal(value, values[name])


def test_saving_again_replaces_the_checkpoint(folder):
    Save(folder, 5, value=1.0)
    prefix = Save(folder, 5, value=2.0)
    assert tensors.Restore(prefix, ['a/w'])['a/w'][0, 0] == 2.0
    assert Steps(folder) == [5]


def test_what_is_not_there_is_named(folder):
    prefix = Save(folder, 5)
    with pytest.raises(KeyError, match='ckpt-00000005 has no a/x, a/y'):
        tensors.Restore(prefix, ['a/x', 'a/w', 'a/y'])
    with pytest.raises(FileNotFoundError, match='There is no checkpoint .*ckpt-00000006'):
        tensors.Restore(checkpoint_files.PrefixOf(folder, 6))


# Strictness.


def Variables(**shapes):
    return {name.replace('__', '/'): tf.Variable(tf.zeros(s)) for name, s in shapes.items()}


def test_restore_into_variables(folder):
    prefix = Save(folder, 3)
    variables = Variables(a__w=[2, 3], a__b=[3])
    tensors.RestoreInto(prefix, variables)
    np.testing.assert_array_equal(variables['a/w'], np.full([2, 3], 3.0))


def test_what_does_not_match_is_a_table_and_nothing_is_assigned(folder):
    prefix = Save(folder, 3)
    variables = Variables(a__w=[2, 4], a__b=[3], new=[1])
    variables['a/b'].assign(tf.ones([3]))
    with pytest.raises(tensors.MismatchError) as error:
        tensors.RestoreInto(prefix, variables)
    assert str(error.value) == (
        'variable  wanted shape  found shape\n'
        'a/w       [2, 4]        [2, 3]\n'
        'new       [1]           -\n'
        f'2 of 3 variables do not match {prefix}. '
        'To start from part of a checkpoint, use task.train.init_from.'
    )
    np.testing.assert_array_equal(variables['a/b'], np.ones(3))


def test_a_weight_that_the_model_has_not_is_a_mismatch(folder):
    prefix = Save(folder, 3)
    with pytest.raises(tensors.MismatchError, match=r'a/b +- +\[3\]\n1 of 2 variables does'):
        tensors.RestoreInto(prefix, Variables(a__w=[2, 3]))


def test_another_dtype_is_a_mismatch(folder):
    variables = Variables(a__w=[2, 3])
    variables['a/b'] = tf.Variable([0, 0, 0])
    with pytest.raises(tensors.MismatchError, match=r'a/b +\[3\] int32 +\[3\] float32'):
        tensors.RestoreInto(Save(folder, 3), variables)


def test_moving_averages_stand_for_their_variables(folder):
    prefix = checkpoint_files.PrefixOf(folder, 1)
    tensors.Save(prefix, {'w': [1.0], 'w/.ema': [0.5], 'w/.slot/m': [3.0]})
    variable = tf.Variable([0.0])
    tensors.RestoreInto(prefix, {tensors.EmaOf('w'): variable})
    np.testing.assert_array_equal(variable, [0.5])


def test_variables_of_a_strategy(folder):
    strategy = tf.distribute.MirroredStrategy(['CPU:0'])
    with strategy.scope():
        mirrored = tf.Variable([1.0, 2.0])
        moving_mean = tf.Variable(
            [3.0],
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )
    variables = {'w': mirrored, 'mean': moving_mean}
    prefix = checkpoint_files.PrefixOf(folder, 1)
    tensors.Save(prefix, variables)
    mirrored.assign([0.0, 0.0])
    moving_mean.assign([0.0])
    tensors.RestoreInto(prefix, variables)
    np.testing.assert_array_equal(mirrored.numpy(), [1.0, 2.0])
    np.testing.assert_array_equal(moving_mean.read_value(), [3.0])


# Damage.


@pytest.mark.parametrize('damage', ['flip', 'cut data', 'cut index', 'empty index', 'flip index'])
def test_damage_is_noticed_the_one_before_is_used_and_said_so(folder, damage, caplog):
    Save(folder, 10)
    prefix = Save(folder, 20)
    if damage == 'flip':
        FlipByte(DataFile(prefix), 6)
    elif damage == 'cut data':
        CutInHalf(DataFile(prefix))
    elif damage == 'cut index':
        CutInHalf(f'{prefix}.index')
    elif damage == 'empty index':
        os.truncate(f'{prefix}.index', 0)
    else:
        FlipByte(f'{prefix}.index', 20)

    with pytest.raises(tensors.CorruptError, match='ckpt-00000020 is damaged: '):
        tensors.Verify(prefix)
    variables = Variables(a__w=[2, 3], a__b=[3])

    def Restore(prefix):
        tensors.RestoreInto(prefix, variables)
        return int(tensors.Restore(prefix, ['.step'])['.step'])

    found, step = tensors.RestoreNewest(folder, Restore)

    assert (found.step, step) == (10, 10)
    np.testing.assert_array_equal(variables['a/w'], np.full([2, 3], 10.0))
    assert 'ckpt-00000020 is damaged' in caplog.text
    assert 'instead of ckpt-00000020, which is damaged' in caplog.text


def test_every_flipped_byte_of_the_data_is_noticed(folder):
    prefix = Save(folder, 20)
    for position in range(os.path.getsize(DataFile(prefix))):
        FlipByte(DataFile(prefix), position)
        with pytest.raises(tensors.CorruptError):
            tensors.Verify(prefix)
        FlipByte(DataFile(prefix), position)
    tensors.Verify(prefix)


def test_a_damaged_checkpoint_can_be_set_aside(folder):
    Save(folder, 10)
    CutInHalf(DataFile(Save(folder, 20)))
    tensors.RestoreNewest(folder, tensors.Restore, set_aside=True)
    assert Steps(folder) == [10]
    assert 'ckpt-00000020.index.damaged' in os.listdir(folder)
    Save(folder, 20)
    assert Steps(folder) == [10, 20]


def test_when_all_are_damaged_a_run_does_not_silently_start_again(folder):
    for step in (10, 20):
        CutInHalf(DataFile(Save(folder, step)))
    with pytest.raises(tensors.CorruptError, match='none of the 2 checkpoints in .* can be'):
        tensors.RestoreNewest(folder, tensors.Restore, set_aside=True)
    assert Steps(folder) == [10, 20]


def test_without_checkpoints_there_is_nothing_to_restore(folder):
    assert tensors.RestoreNewest(folder, tensors.Restore) is None
    assert tensors.RestoreNewest(f'{folder}/none', tensors.Restore) is None


def test_another_model_is_no_damage(folder):
    """Falling back to an older checkpoint would hide the mistake."""
    Save(folder, 10)
    Save(folder, 20)
    with pytest.raises(tensors.MismatchError, match='ckpt-00000020'):
        tensors.RestoreNewest(
            folder, lambda prefix: tensors.RestoreInto(prefix, Variables(other=[1]))
        )


# Listing.


def test_only_whole_checkpoints_are_listed_whatever_the_file_checkpoint_says(folder):
    for step in (10, 20, 30, 40):
        Save(folder, step)
    os.remove(DataFile(f'{folder}/ckpt-00000020'))
    os.remove(f'{folder}/ckpt-00000030.index')
    assert Steps(folder) == [10, 40]
    checkpoint_files.WriteState(folder)
    assert tf.train.latest_checkpoint(folder) == f'{folder}/ckpt-00000040'

    with open(f'{folder}/checkpoint', 'w') as file:
        file.write('model_checkpoint_path: "ckpt-99999999"\n')
    assert checkpoint_files.Latest(folder).step == 40
    os.remove(f'{folder}/checkpoint')
    assert checkpoint_files.Latest(folder).step == 40


def test_steps_beyond_eight_digits_sort_by_number(folder):
    for step in (99_999_999, 100_000_000):
        Save(folder, step)
    assert Steps(folder) == [99_999_999, 100_000_000]


# Crashes.


def CallsUntilKilled(monkeypatch, names, survive):
    """Lets `survive` calls of the functions through, then each one raises Killed."""
    calls = [0]

    def Patch(owner, name):
        real = getattr(owner, name)

        def Call(*args, **kwargs):
            calls[0] += 1
            if calls[0] > survive:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, Call)

    for owner, name in names:
        Patch(owner, name)
    return calls


@pytest.mark.parametrize('same_step', [False, True])
def test_killed_at_any_moment_what_is_listed_is_whole(tmp_path, monkeypatch, same_step):
    """Every call that changes or syncs a name on the disk is a moment."""
    moments = [(os, 'replace'), (os, 'fsync'), (os, 'remove'), (os, 'rmdir'), (os, 'unlink')]
    moments += [(checkpoint_files.shutil, 'rmtree'), (tf.raw_ops, 'SaveV2')]
    outcomes = set()
    for survive in range(100):
        folder = str(tmp_path / str(survive))
        os.mkdir(folder)
        Save(folder, 10)
        Save(folder, 20, value=1.0)
        target = 20 if same_step else 30
        with monkeypatch.context() as patch:
            calls = CallsUntilKilled(patch, moments, survive)
            try:
                Save(folder, target, value=2.0)
                checkpoint_files.WriteState(folder)
                checkpoint_files.Delete(checkpoint_files.PrefixOf(folder, 10))
                done = True
            except Killed:
                done = False
            total = calls[0]
        checkpoint_files.CleanUp(folder)
        found = {}
        for checkpoint in checkpoint_files.List(folder):
            found[checkpoint.step] = tensors.Restore(checkpoint.prefix)['a/w'][0, 0]
        # What was there stays; the new one is there with its own values or not at all.
        assert found.get(10) in ((None, 10.0) if target in found else (10.0,))
        assert found.get(20) in ((1.0, 2.0, None) if same_step else (1.0,))
        assert found.get(30) in (None, 2.0)
        whole = {f'ckpt-{step:08d}' for step in found}
        files = {name for name in os.listdir(folder) if name != 'checkpoint'}
        assert {name.split('.')[0] for name in files} == whole, files
        outcomes.add(tuple(sorted(found.items())))
        if done:
            break
    assert done, total
    assert len(outcomes) >= 3, 'before, after, and after with the old one deleted'


def test_a_write_that_fails_leaves_nothing_behind(folder, monkeypatch):
    Save(folder, 10)
    before = sorted(os.listdir(folder))

    def Full(*_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', Full)
        with pytest.raises(OSError, match='No space left'):
            Save(folder, 20)
    assert sorted(os.listdir(folder)) == before


# Copies.


def test_a_link_stays_when_the_checkpoint_is_deleted(tmp_path):
    source, own = str(tmp_path / 'train'), str(tmp_path / 'eval_dev')
    os.mkdir(source)
    prefix = Save(source, 10)
    copy = checkpoint_files.LinkOrCopy(prefix, own)
    assert os.path.samefile(DataFile(prefix), DataFile(copy))
    checkpoint_files.Delete(prefix)
    assert Steps(source) == []
    assert tensors.Restore(copy)['a/w'][0, 0] == 10.0


def test_where_there_are_no_hard_links_it_copies(tmp_path, monkeypatch):
    def NoLinks(*_):
        raise OSError(18, 'Invalid cross-device link')

    monkeypatch.setattr(os, 'link', NoLinks)
    prefix = Save(str(tmp_path), 10)
    copy = checkpoint_files.LinkOrCopy(prefix, str(tmp_path / 'own'))
    assert not os.path.samefile(DataFile(prefix), DataFile(copy))
    tensors.Verify(copy)


def test_a_checkpoint_deleted_while_it_is_linked_leaves_no_half(tmp_path, monkeypatch):
    own = str(tmp_path / 'own')
    prefix = Save(str(tmp_path), 10)
    link = os.link

    def LinkThenDelete(*args):
        link(*args)
        checkpoint_files.Delete(prefix)

    monkeypatch.setattr(os, 'link', LinkThenDelete)
    with pytest.raises(FileNotFoundError, match='ckpt-00000010 was deleted meanwhile'):
        checkpoint_files.LinkOrCopy(prefix, own)
    assert os.listdir(own) == []


def test_readers_beside_a_writer_that_deletes_see_only_whole_checkpoints(tmp_path):
    source, own = str(tmp_path / 'train'), str(tmp_path / 'own')
    os.mkdir(source)
    stop = threading.Event()
    step = [0]

    def WriteAndDelete():
        while not stop.is_set():
            step[0] += 1
            Save(source, step[0])
            checkpoint_files.Delete(checkpoint_files.PrefixOf(source, step[0] - 1))

    writer = threading.Thread(target=WriteAndDelete)
    writer.start()
    seen = 0
    end = time.time() + 1.0
    try:
        while time.time() < end:
            for checkpoint in checkpoint_files.List(source):
                try:
                    copy = checkpoint_files.LinkOrCopy(checkpoint.prefix, own)
                except FileNotFoundError:
                    continue
                assert tensors.Restore(copy)['a/w'][0, 0] == checkpoint.step
                seen += 1
    finally:
        stop.set()
        writer.join()
    assert seen > 3


def test_what_may_not_be_read_is_not_damaged(folder, monkeypatch):
    for step in (3, 4):
        Save(folder, step)

    def Refuse(*args):
        raise tf.errors.PermissionDeniedError(None, None, 'Permission denied')

    monkeypatch.setattr(tf.train, 'load_checkpoint', Refuse)
    with pytest.raises(OSError, match='ckpt-00000004 cannot be read: Permission denied'):
        tensors.RestoreNewest(folder, tensors.Contents, set_aside=True)
    monkeypatch.undo()
    assert tensors.RestoreNewest(folder, tensors.Contents)[0].step == 4

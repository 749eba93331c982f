import json
import os
import shutil
import threading

import numpy as np
import pytest

from lingvo_lite.runs import tables
from lingvo_lite.runs.checkpoints import best, files, lookup, tensors, watcher


def Save(folder, step):
    os.makedirs(folder, exist_ok=True)
    prefix = files.PrefixOf(folder, step)
    tensors.Save(prefix, {'w': np.full([2], step, np.float32)})
    return prefix


def Steps(folder):
    return [checkpoint.step for checkpoint in files.List(folder)]


@pytest.fixture
def train(tmp_path):
    return str(tmp_path / 'train')


@pytest.fixture
def own(tmp_path):
    return str(tmp_path / 'eval_dev')


def Follow(train, own, done=(), finished=True, stop=None):
    stop = stop or threading.Event()
    return watcher.Follow(train, own, lambda: done, lambda: finished, stop, poll_s=0.01)


# Following a trainer.


def test_newest_first_and_it_ends_after_the_last(train, own):
    for step in (1, 2, 3):
        Save(train, step)
    assert [checkpoint.step for checkpoint in Follow(train, own)] == [3, 2, 1]
    assert Steps(own) == []


def test_one_that_comes_meanwhile_is_next(train, own):
    Save(train, 1)
    Save(train, 2)
    follow = Follow(train, own)
    steps = [next(follow).step]
    Save(train, 3)
    assert steps + [checkpoint.step for checkpoint in follow] == [2, 3, 1]


def test_what_was_done_before_a_restart_is_not_done_again(train, own):
    for step in (1, 2, 3):
        Save(train, step)
    Save(own, 2)  # what a killed evaler was working on
    assert [checkpoint.step for checkpoint in Follow(train, own, done={3, 1})] == [2]
    assert Steps(own) == []


def test_the_copy_stays_while_it_is_worked_on(train, own):
    prefix = Save(train, 1)
    follow = Follow(train, own)
    checkpoint = next(follow)
    assert checkpoint.prefix == files.PrefixOf(own, 1)
    files.Delete(prefix)
    np.testing.assert_array_equal(tensors.Restore(checkpoint.prefix)['w'], [1.0, 1.0])
    assert list(follow) == []
    assert Steps(own) == []


def test_one_that_is_deleted_before_its_turn_is_left_out(train, own, monkeypatch):
    Save(train, 1)
    Save(train, 2)
    link = files.LinkOrCopy

    def DeletedFirst(prefix, folder):
        if prefix.endswith('2'):
            files.Delete(prefix)
        return link(prefix, folder)

    monkeypatch.setattr(files, 'LinkOrCopy', DeletedFirst)
    assert [checkpoint.step for checkpoint in Follow(train, own)] == [1]


def test_it_may_start_before_the_trainer_and_sees_the_last_checkpoint(train, own):
    """The last checkpoint and FINISHED come while the folder is being looked at."""
    finished = [False]
    looks = [0]

    def IsFinished():
        looks[0] += 1
        was = finished[0]
        if looks[0] == 3:
            Save(train, 7)
            finished[0] = True
        return was

    stop = threading.Event()
    follow = watcher.Follow(train, own, lambda: (), IsFinished, stop, poll_s=0.01)
    assert [checkpoint.step for checkpoint in follow] == [7]
    assert looks[0] > 3


def test_what_could_not_be_scored_comes_again_only_when_it_was_written_anew(train, own):
    prefix = Save(train, 1)
    done = set()
    finished = [False]
    follow = watcher.Follow(
        train, own, lambda: done, lambda: finished[0], threading.Event(), poll_s=0.01
    )
    assert next(follow).step == 1  # say that it was damaged: `done` does not have it
    os.utime(f'{prefix}.index', (1, 1))  # a trainer has written it anew
    assert next(follow).step == 1
    done.add(1)
    os.utime(f'{prefix}.index', (2, 2))
    finished[0] = True
    assert list(follow) == []


def test_it_does_not_wait_in_a_folder_that_was_removed(train, own):
    follow = Follow(train, own, finished=False)
    Save(train, 1)
    next(follow)
    shutil.rmtree(train)
    shutil.rmtree(own)
    with pytest.raises(FileNotFoundError, match='eval_dev was removed'):
        next(follow)


def test_the_end_of_a_training_that_was_removed_is_no_end(train, own):
    finished = [True, False]  # FINISHED goes with all the rest, just as this looks
    follow = watcher.Follow(train, own, tuple, lambda: finished.pop(0), threading.Event())
    with pytest.raises(FileNotFoundError, match='train was removed'):
        next(follow)


def test_stop_ends_the_waiting(train, own):
    stop = threading.Event()
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    assert list(Follow(train, own, finished=False, stop=stop)) == []
    timer.join()


# The best.


def Offer(keeper, folder, step, value):
    return keeper.Offer(Save(folder, step), step, value)


def Score(folder):
    with open(f'{folder}/score.json', encoding='utf-8') as file:
        return json.load(file)


def test_the_best_checkpoint_and_its_score_are_kept(train, tmp_path):
    folder = str(tmp_path / 'best')
    keeper = best.Best(folder, 'bleu', maximize=True)
    assert keeper.value is None
    assert Offer(keeper, train, 1, 20.0)
    assert Offer(keeper, train, 2, 30.0)
    assert not Offer(keeper, train, 3, 25.0)
    assert not Offer(keeper, train, 4, 30.0), 'a tie goes to the earlier step'
    assert not Offer(keeper, train, 5, float('nan'))
    assert (keeper.step, keeper.value) == (2, 30.0)
    assert Steps(folder) == [2]
    np.testing.assert_array_equal(tensors.Restore(f'{folder}/ckpt-00000002')['w'], [2.0, 2.0])
    assert Score(folder) == {
        'metric': 'bleu',
        'maximize': True,
        'best': [{'step': 2, 'value': 30.0}],
    }


def test_less_can_be_better_and_several_can_be_kept(train, tmp_path):
    folder = str(tmp_path / 'best')
    keeper = best.Best(folder, 'wer', maximize=False, keep=2)
    for step, value in [(1, 0.5), (2, 0.3), (3, 0.4), (4, 0.35)]:
        Offer(keeper, train, step, value)
    assert [checkpoint.step for checkpoint in best.ListBest(folder)] == [2, 4]
    assert Steps(folder) == [2, 4]


def test_a_restart_goes_on_from_the_score(train, tmp_path):
    folder = str(tmp_path / 'best')
    Offer(best.Best(folder, 'bleu', maximize=True), train, 1, 20.0)
    keeper = best.Best(folder, 'bleu', maximize=True)
    assert keeper.value == 20.0
    assert not Offer(keeper, train, 2, 10.0)
    assert keeper.Offer(files.PrefixOf(train, 1), 1, 20.0), 'offered again'
    assert Steps(folder) == [1]


def test_another_metric_starts_again(train, tmp_path, caplog):
    folder = str(tmp_path / 'best')
    Offer(best.Best(folder, 'bleu', maximize=True), train, 1, 20.0)
    keeper = best.Best(folder, 'loss', maximize=False)
    assert 'held the best by bleu; starting again with loss' in caplog.text
    assert Offer(keeper, train, 2, 99.0)
    assert Steps(folder) == [2]


@pytest.mark.parametrize('broken', ['link', 'replace', 'remove'])
def test_killed_while_it_takes_one_in_it_offers_again(train, tmp_path, monkeypatch, broken):
    class Killed(BaseException):
        pass

    def Kill(*_):
        raise Killed

    folder = str(tmp_path / 'best')
    keeper = best.Best(folder, 'bleu', maximize=True)
    Offer(keeper, train, 1, 20.0)
    prefix = Save(train, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, Kill)
        with pytest.raises(Killed):
            keeper.Offer(prefix, 2, 30.0)
    keeper = best.Best(folder, 'bleu', maximize=True)
    assert keeper.value in (20.0, 30.0), 'there is a best one at any moment'
    assert best.ListBest(folder)[0].step == keeper.step
    assert keeper.Offer(prefix, 2, 30.0)
    assert Steps(folder) == [2]
    assert best.ListBest(folder)[0].step == 2


# Choosing.


def test_a_checkpoint_can_be_named_in_many_ways(tmp_path, train):
    first, last = Save(train, 1), Save(train, 2)
    keeper = best.Best(str(tmp_path / 'best'), 'bleu', maximize=True, keep=2)
    keeper.Offer(first, 1, 30.0)
    keeper.Offer(last, 2, 20.0)
    assert lookup.Resolve(first) == first
    assert lookup.Resolve(f'{first}.index') == first
    assert lookup.Resolve(train) == last
    assert lookup.Resolve(str(tmp_path)) == last
    assert lookup.Resolve(str(tmp_path / 'best')) == str(tmp_path / 'best/ckpt-00000001')
    with pytest.raises(FileNotFoundError, match='There is no checkpoint at .*/none. Give a pre'):
        lookup.Resolve(str(tmp_path / 'none'))


def test_the_last_or_best_of_several(tmp_path, train):
    prefixes = [Save(train, step) for step in (1, 2, 3)]
    folder = str(tmp_path / 'best')
    keeper = best.Best(folder, 'bleu', maximize=True, keep=3)
    for prefix, step, value in zip(prefixes, (1, 2, 3), (20.0, 30.0, 10.0)):
        keeper.Offer(prefix, step, value)
    assert lookup.Last(train, 2) == prefixes[1:]
    assert lookup.Best(folder, 2) == [f'{folder}/ckpt-0000000{step}' for step in (2, 1)]
    with pytest.raises(FileNotFoundError, match='train has 3 checkpoints, 4 are wanted'):
        lookup.Last(train, 4)
    with pytest.raises(ValueError, match='At least 1'):
        lookup.Best(folder, 0)


def test_a_table_is_aligned_numbers_to_the_right():
    assert tables.Format(('name', 'size'), [('w', 10), ('encoder/b', 200)]) == (
        'name       size\n'
        'w            10\n'
        'encoder/b   200'
    )  # fmt: skip
    with pytest.raises(ValueError, match='A row has 1 cells, the header 2'):
        tables.Format(('a', 'b'), [('x',)])

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, task
from lingvo_lite.runs import vocabulary
from lingvo_lite.runs.checkpoints import files, init_from, tensors

_VALUES = {
    'encoder/w': np.full([2, 3], 1.0, np.float32),
    'encoder/w/.ema': np.full([2, 3], 1.5, np.float32),
    'encoder/w/.slot/m': np.full([2, 3], 9.0, np.float32),
    'decoder/w': np.full([3], 2.0, np.float32),
    '.step': np.int64(100),
}


@pytest.fixture
def prefix(tmp_path):
    prefix = files.PrefixOf(str(tmp_path), 100)
    tensors.Save(prefix, _VALUES)
    return prefix


def Variables(**shapes):
    return {name.replace('__', '/'): tf.Variable(tf.zeros(s)) for name, s in shapes.items()}


def Load(prefix, variables, **settings):
    train = task.TrainParams().Set(init_from=prefix)
    train.Set(**{f'init_from_{key}': value for key, value in settings.items()})
    return init_from.Load(train, variables)


def test_the_same_model_is_loaded_with_its_moving_averages(prefix):
    variables = Variables(encoder__w=[2, 3], decoder__w=[3])
    report = Load(prefix, variables)
    np.testing.assert_array_equal(variables['encoder/w'], _VALUES['encoder/w/.ema'])
    np.testing.assert_array_equal(variables['decoder/w'], _VALUES['decoder/w'])
    assert report.loaded == {'encoder/w': 'encoder/w/.ema', 'decoder/w': 'decoder/w'}
    assert (report.kept, report.unused) == ([], [])


def test_a_log_directory_stands_for_its_newest_checkpoint(prefix, tmp_path):
    (tmp_path / 'train').mkdir()
    tensors.Save(f'{tmp_path}/train/ckpt-00000200', {'x': [5.0]})
    (tmp_path / 'RUN').mkdir()
    (tmp_path / 'RUN/train').symlink_to(tmp_path / 'train')
    variables = Variables(x=[1])
    Load(str(tmp_path / 'RUN'), variables)
    np.testing.assert_array_equal(variables['x'], [5.0])


def test_rules_rename_and_the_first_match_counts(prefix):
    variables = Variables(model__enc__w=[2, 3], tied=[3])
    report = Load(
        prefix,
        variables,
        rules=[('model/enc/(.*)', r'encoder/\1'), ('.*', 'decoder/w')],
    )
    assert report.loaded == {'model/enc/w': 'encoder/w/.ema', 'tied': 'decoder/w'}
    np.testing.assert_array_equal(variables['tied'], _VALUES['decoder/w'])


def test_two_variables_may_come_from_one(prefix):
    variables = Variables(a=[3], b=[3])
    Load(prefix, variables, rules=[('a|b', 'decoder/w')])
    np.testing.assert_array_equal(variables['a'], variables['b'])


def test_an_empty_name_keeps_the_initial_value_even_if_the_shape_differs(prefix):
    variables = Variables(encoder__w=[2, 3], decoder__w=[7])
    report = Load(prefix, variables, rules=[('decoder/.*', '')])
    assert report.kept == ['decoder/w']
    assert report.unused == ['decoder/w']
    np.testing.assert_array_equal(variables['decoder/w'], np.zeros(7))


def test_missing_variables_must_be_allowed(prefix):
    variables = Variables(encoder__w=[2, 3], adapter__w=[4], adapter__b=[4])
    with pytest.raises(tensors.MismatchError) as error:
        Load(prefix, variables)
    text = str(error.value)
    assert 'adapter/w' in text and 'adapter/b' in text and 'encoder/w ' not in text
    assert f'2 of 3 variables do not match {prefix}.' in text
    np.testing.assert_array_equal(variables['encoder/w'], np.zeros([2, 3]))

    report = Load(prefix, variables, missing_ok=['adapter/.*'])
    assert report.kept == ['adapter/b', 'adapter/w']


def test_another_shape_is_an_error_even_where_missing_is_allowed(prefix):
    variables = Variables(encoder__w=[2, 4])
    with pytest.raises(tensors.MismatchError, match=r'\[2, 4\] +\[2, 3\] +DOES NOT FIT'):
        Load(prefix, variables, missing_ok=['encoder/.*'])


def test_floats_are_converted_but_integers_are_not_made_floats(tmp_path):
    tensors.Save(f'{tmp_path}/c', {'h': tf.constant([1.5], tf.float16), 'n': [3]})
    variables = Variables(h=[1])
    Load(f'{tmp_path}/c', variables)
    np.testing.assert_array_equal(variables['h'], [1.5])
    with pytest.raises(tensors.MismatchError, match=r'n +\[1\] float32 +\[1\] int32'):
        Load(f'{tmp_path}/c', Variables(n=[1]))


def test_a_rule_or_pattern_that_matches_nothing_is_a_mistake(prefix):
    variables = Variables(encoder__w=[2, 3], decoder__w=[3])
    for settings in ({'rules': [('encodr/.*', 'x')]}, {'missing_ok': ['encodr/.*']}):
        with pytest.raises(tensors.MismatchError, match="'encodr/.*' is the first match of no"):
            Load(prefix, variables, **settings)


@pytest.mark.parametrize(
    'settings, text',
    [
        ({'rules': ['a']}, r'init_from_rules\[0\]=.a. must be a pair \(regex, name\)'),
        ({'rules': [('(', 'x')]}, r"init_from_rules\[0\]: '\(' is no regular expression"),
        ({'rules': [('a', r'\1')]}, r'init_from_rules\[0\]: .* cannot replace .a.: invalid group'),
        ({'missing_ok': ['*']}, r"init_from_missing_ok\[0\]: '\*' is no regular expression"),
    ],
)
def test_bad_rules_are_found_before_anything_is_read(settings, text):
    with pytest.raises(hyperparams.ConfigError, match=text):
        Load('none', {}, **settings)


def test_the_table_says_what_became_of_everything(prefix, caplog):
    caplog.set_level('INFO')
    variables = Variables(encoder__w=[2, 3], adapter__w=[4])
    report = Load(prefix, variables, missing_ok=['adapter/.*'])
    rows = {line.split()[0]: line for line in report.table.split('\n')}
    assert rows['encoder/w'].endswith('loaded') and 'encoder/w/.ema' in rows['encoder/w']
    assert rows['adapter/w'].endswith('keeps its initial value')
    assert rows['-'].split()[1] == 'decoder/w' and rows['-'].endswith('unused')
    assert report.table.split('\n')[-1] == (
        f'From {prefix}: 1 of 2 variables loaded, 1 left as initialized; '
        'weights of the checkpoint that were not used: 1.'
    )
    assert all(line in caplog.text for line in report.table.split('\n'))


# Other tokens.


def Runs(tmp_path, mine, theirs, tokens=True):
    """A prefix in a run with `theirs`, and the vocabulary of a run with `mine`."""
    run = tmp_path / 'RUN'
    (run / 'train').mkdir(parents=True)
    table = np.arange(len(theirs), dtype=np.float32)[:, np.newaxis] + [10.0, 100.0]
    prefix = files.PrefixOf(str(run / 'train'), 7)
    tensors.Save(prefix, {'table': table, 'out/w': table.T.copy(), 'other': np.ones([2])})
    words = [
        vocabulary.Vocabulary('-'.join(each), each if tokens else ()) for each in (theirs, mine)
    ]
    vocabulary.Write(str(run), words[0])
    return prefix, words[1]


AXES = {'table': 0, 'out/w': 1}


def LoadTokens(prefix, words, variables, **settings):
    train = task.TrainParams().Set(init_from=prefix, **settings)
    return init_from.Load(train, variables, AXES, words)


def test_other_tokens_are_refused_with_what_to_do(tmp_path):
    prefix, words = Runs(tmp_path, ['<s>', 'a', 'b', 'd'], ['<s>', 'b', 'c', 'a'])
    variables = {'table': tf.Variable(tf.zeros([4, 2]))}
    with pytest.raises(hyperparams.ConfigError) as raised:
        LoadTokens(prefix, words, variables)
    assert 'their ids mean other tokens. 3 of 4 tokens are in both: ' in str(raised.value)
    assert 'init_from_tokens=by_text' in str(raised.value)
    np.testing.assert_array_equal(variables['table'], np.zeros([4, 2]))


def test_what_belongs_to_a_token_is_taken_by_its_text(tmp_path):
    """Also where the number of tokens differs, and rows are padded."""
    prefix, words = Runs(tmp_path, ['<s>', 'a', 'b', 'd', 'b2'], ['<s>', 'b', 'c', 'a'])
    variables = {
        'table': tf.Variable(-tf.ones([8, 2])),
        'out/w': tf.Variable(-tf.ones([2, 8])),
        'other': tf.Variable(tf.zeros([2])),
    }
    report = LoadTokens(prefix, words, variables, init_from_tokens='by_text')
    wanted = np.full([8, 2], -1.0)
    wanted[0], wanted[1], wanted[2] = [10, 100], [13, 103], [11, 101]
    np.testing.assert_array_equal(variables['table'], wanted)
    np.testing.assert_array_equal(variables['out/w'], wanted.T)
    np.testing.assert_array_equal(variables['other'], [1, 1])
    assert 'loaded by token' in report.table


def test_the_other_axis_must_fit(tmp_path):
    prefix, words = Runs(tmp_path, ['a'], ['b', 'a'])
    variables = {'table': tf.Variable(tf.zeros([1, 3]))}
    with pytest.raises(tensors.MismatchError, match='DOES NOT FIT'):
        LoadTokens(prefix, words, variables, init_from_tokens='by_text')


def test_other_tokens_do_not_matter_to_what_has_none(tmp_path):
    """An encoder that is taken from a run with another vocabulary; the rest starts as new."""
    prefix, words = Runs(tmp_path, ['a'], ['b', 'a'])
    variables = {'other': tf.Variable(tf.zeros([2])), 'table': tf.Variable(tf.zeros([1, 2]))}
    LoadTokens(prefix, words, variables, init_from_rules=[('table', '')])
    np.testing.assert_array_equal(variables['other'], [1, 1])


def test_tokens_that_nobody_has_written_down(tmp_path):
    prefix, words = Runs(tmp_path, ['a'], ['b'], tokens=False)
    variables = {'table': tf.Variable(tf.zeros([1, 2]))}
    with pytest.raises(hyperparams.ConfigError, match='is not known, so use one tokenizer'):
        LoadTokens(prefix, words, variables, init_from_tokens='by_text')


def test_one_vocabulary_is_loaded_as_it_is(tmp_path):
    prefix, words = Runs(tmp_path, ['b', 'a'], ['b', 'a'])
    variables = {'table': tf.Variable(tf.zeros([2, 2]))}
    LoadTokens(prefix, words, variables)
    np.testing.assert_array_equal(variables['table'], [[10, 100], [11, 101]])


def test_a_text_that_stands_for_several_ids_names_no_token():
    origins = vocabulary.SameTokens(['?', 'a', 'x', 'x'], ['a', '?', '?', 'x'])
    np.testing.assert_array_equal(origins, [-1, 0, -1, -1])

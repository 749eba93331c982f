"""Params: what can be defined and set, what is refused and how, and the text of it all."""

import copy
import enum
import inspect
import os
import pickle
import re
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite import hyperparams, literals
from lingvo_lite.hyperparams import REQUIRED, ConfigError, InstantiableParams, Params

HERE = __name__
FILE = os.path.relpath(__file__)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Layer:
    """What BaseLayer is to layers: the class that introduces Params()."""

    @classmethod
    def Params(cls):
        p = InstantiableParams(cls)
        p.Define('dim', REQUIRED, 'Width.', type=int)
        p.Define('scale', 1.0, 'Scale.')
        return p

    def __init__(self, params, extra=None):
        self.params = params
        self.extra = extra


class Conv(Layer):
    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('width', 3, 'Width of the kernel.')
        return p


class Stack(Layer):
    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('body', Layer.Params(), 'What is repeated.')
        p.Define('layers', [], 'The layers.', bound=Layer)
        p.Define('heads', {}, 'Heads by name.', bound=Layer)
        return p


class Checked(Layer):
    @classmethod
    def Check(cls, p):
        if p.dim % 8:
            raise hyperparams.Fail(p, f'dim={p.dim} is no multiple of 8.', key='dim')


class Broken(Layer):
    @classmethod
    def Params(cls):
        raise RuntimeError('no Params today')


class NotMine(Layer):
    @classmethod
    def Params(cls):
        return Layer.Params()


class Stranger:
    @classmethod
    def Params(cls):
        raise AssertionError('text called Params() of a class outside the bound')


class NoParams(Layer):
    Params = None


def _Train():
    p = Params()
    p.Define('learning_rate', 0.1, 'Factor of the schedule.')
    p.Define('max_steps', 100, 'Stop after this many steps.', resume='free')
    p.Define('precision', 'auto', 'Type of the computation.', choices=('auto', 'float32'))
    return p


def _Task():
    p = InstantiableParams(Stack)
    p.Define('encoder', Stack.Params(), 'The encoder.')
    p.Define('train', _Train(), 'Training.')
    p.Define('name', '', 'Name.')
    p.Define('seed', None, 'Seed.', type=int)
    p.Define('eval', _Train(), 'Evaluation.', resume='free')
    return p


def _Root():
    """As the root of a run: the task stands in it as a template."""
    p = Params().SetLabel('mt.Wmt')
    p.Define('task', None, 'The task.', type=Params, bound=Layer)
    p.Define('model', '', 'Name of the experiment.')
    return p


def _One(default, **rules):
    p = Params()
    p.Define('x', default, 'What is tested.', **rules)
    return p


def _Line():
    """file:line of the caller."""
    return f'{FILE}:{inspect.currentframe().f_back.f_lineno}'


# Defining.


@pytest.mark.parametrize(
    'name', ['Foo', '', '1a', 'a-b', 'a b', 'a.b', '_a', '__dict__', 'ä', None, 3, 'cls', 'lambda']
)
def test_names_that_are_refused(name):
    with pytest.raises(ConfigError, match=re.escape(repr(name))):
        Params().Define(name, 1, 'Text.')


@pytest.mark.parametrize(
    ('default', 'rules', 'said'),
    [
        (None, {}, 'a default of None needs type='),
        (REQUIRED, {}, 'a default of REQUIRED needs type='),
        (1, {'resume': 'maybe'}, "resume is 'fixed' or 'free'"),
        (1, {'type': str}, 'x expects str, got 1 (int)'),
        (True, {'type': int}, 'x expects int, got True (bool)'),
        (3, {'choices': (1, 2)}, 'x is one of 1, 2; got 3'),
        ('a', {'choices': 'abc'}, "choices is a list of values, got 'abc'"),
        ('a', {'choices': ('a', 1)}, 'x expects str, got 1 (int)'),
        (len, {}, 'a function cannot be written as text'),
        (object(), {}, 'cannot be written as text'),
        (None, {'type': list.append}, 'type is bool, int'),
        (None, {'type': set}, 'type is bool, int'),
        (None, {'type': 'int'}, 'type is bool, int'),
        (None, {'type': type}, 'needs bound='),
        (Layer, {}, 'needs bound='),
        (None, {'type': Params}, 'needs bound='),
        (REQUIRED, {'type': Params}, 'needs bound='),
        (None, {'type': Params, 'bound': 'Layer'}, "bound is a class, got 'Layer'"),
        ([Layer.Params()], {}, 'without bound='),
    ],
)
def test_definitions_that_are_refused(default, rules, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        Params().Define('x', default, 'Text.', **rules)


def test_a_description_is_needed_and_a_name_only_once():
    p = Params()
    with pytest.raises(ConfigError, match='x needs a description'):
        p.Define('x', 1, ' ')
    p.Define('x', 1, 'Text.')
    where = f'{FILE}:{inspect.currentframe().f_lineno - 1}'
    with pytest.raises(ConfigError, match=re.escape(f'x is already defined, at {where}')):
        p.Define('x', 2, 'Text.')
    assert p.x == 1


def test_the_place_of_a_mistake_is_outside_of_all_files_that_params_are_made_of():
    for name in ('lingvo_lite.hyperparams', 'lingvo_lite.configuration.tree'):
        inside = {'__name__': name}
        exec(compile('def Set(p):\n  p.x = "a"', f'{name}.py', 'exec'), inside)
        with pytest.raises(ConfigError) as caught:
            inside['Set'](_One(1))
        where = f'{FILE}:{inspect.currentframe().f_lineno - 1}'
        assert str(caught.value).endswith(f'Set at {where}.')


def test_the_type_is_that_of_the_default():
    np = pytest.importorskip('numpy')
    for default, kind in [
        (1, int),
        (True, bool),
        (0.5, float),
        ('', str),
        ((), tuple),
        ([], list),
        ({}, dict),
        (Color.RED, Color),
        (np.float64(0.5), float),
        (_One([1]).x, list),
        (Layer.Params(), Params),
        (_Train(), Params),
    ]:
        assert _One(default).Type('x') is kind


# Setting: types.


@pytest.mark.parametrize(
    ('default', 'value', 'kept'),
    [
        (0.5, 1, 1.0),
        ([1], (2, 3), [2, 3]),
        ((1,), [2, 3], (2, 3)),
        ('', 'text', 'text'),
        (Color.RED, Color.BLUE, Color.BLUE),
        ({}, {'a': [1, None]}, {'a': [1, None]}),
    ],
)
def test_values_that_fit(default, value, kept):
    p = _One(default)
    p.x = value
    assert p.x == kept
    assert type(p.x) in (type(kept), literals.FixedList, literals.FixedDict)


@pytest.mark.parametrize(
    ('default', 'value', 'said'),
    [
        (1, True, 'x expects int, got True (bool).'),
        (1, 1.0, 'x expects int, got 1.0 (float).'),
        (1, '1', "x expects int, got '1' (str)."),
        (1, None, 'x expects int, got None.'),
        (0.1, 'fast', "x expects float, got 'fast' (str)."),
        (0.1, True, 'x expects float, got True (bool).'),
        (True, 0, 'x expects bool, got 0 (int).'),
        (True, 'true', "x expects bool, got 'true' (str). Write True or False."),
        ('', 1, 'x expects str, got 1 (int).'),
        ('', Color.RED, 'x expects str, got enum('),
        (Color.RED, 1, 'x expects Color, got 1 (int).'),
        ([], 'ab', "x expects list, got 'ab' (str)."),
        ({}, [], 'x expects dict, got [] (list).'),
        (1, REQUIRED, 'x has a default'),
        (1, lambda: 1, 'a function cannot be written as text'),
        ([], [len], 'a function cannot be written as text'),
        ([], [Layer], 'without bound='),
        ([], [Layer.Params()], 'without bound='),
        ([], [_Train()], 'only Params of a class'),
        (1, _Train(), 'only Params of a class'),
    ],
)
def test_values_that_do_not_fit(default, value, said):
    p = _One(default)
    with pytest.raises(hyperparams.ParamTypeError) as caught:
        p.x = value
    assert said in str(caught.value)
    assert p.x == default


def test_none_where_the_default_is_none_and_only_there():
    p = _One(None, type=int)
    p.x = 3
    p.x = None
    assert p.x is None
    q = _One(REQUIRED, type=int)
    for value in (None, 3, None):
        if value is None:
            with pytest.raises(hyperparams.ParamTypeError, match='expects int, got None'):
                q.x = None
        else:
            q.x = value
    assert q.x == 3
    r = _One(1, type=object)
    r.x = None
    assert r.x is None


def test_a_param_without_default_can_go_back_to_required():
    p = _One(REQUIRED, type=int)
    p.x = 3
    p.x = REQUIRED
    assert p.Missing() == [('x', 'int')]


def test_choices():
    p = _One('a', choices=['a', 'b'])
    p.x = 'b'
    with pytest.raises(ConfigError, match=re.escape("x is one of 'a', 'b'; got 'c'.")):
        p.x = 'c'
    assert p.x == 'b'
    assert _One(None, type=str, choices=['a']).x is None


def test_object_takes_any_value():
    p = _One(None, type=object)
    for value in (1, 'a', [1], Color.RED, None):
        p.x = value
        assert p.x == value
        assert _One(None, type=object).FromText(p.ToText()) == p


def test_a_float_param_never_overflows_on_an_int():
    with pytest.raises(ConfigError, match='too long'):
        _One(0.1).x = 10**400


# Setting: paths and errors.


def test_unknown_key_names_the_node_and_its_own_nearest_names():
    p = _Root()
    p.task = _Task()
    with pytest.raises(ConfigError) as caught:
        p.Set(**{'task.encoder.layer': 4})
    line = f'{FILE}:{inspect.currentframe().f_lineno - 1}'
    assert str(caught.value) == (
        f"mt.Wmt: task.encoder has no param 'layer'. Did you mean 'layers'? (from {line})"
    )
    with pytest.raises(ConfigError, match="'learning_rate'"):
        p.Set(**{'task.train.learning_rat': 1.0})
    with pytest.raises(ConfigError, match='It has: body, dim, heads, layers, scale'):
        p.Get('task.encoder.zzz')


def test_short_names_get_a_suggestion():
    p = Params()
    p.Define('lr', 1.0, 'Rate.')
    with pytest.raises(ConfigError, match="Did you mean 'lr'"):
        p.lrr = 2.0


def test_wrong_type_says_what_is_expected_and_where_it_was_set():
    p = _Task()
    with pytest.raises(ConfigError) as caught:
        p.train.learning_rate = 'fast'
    line = f'{FILE}:{inspect.currentframe().f_lineno - 1}'
    assert str(caught.value) == (
        f"train.learning_rate expects float, got 'fast' (str). Set at {line}."
    )


def test_a_path_through_a_value_says_what_the_value_is():
    p = _Task()
    with pytest.raises(ConfigError, match="seed is None, so there is no 'seed.x' below it"):
        p.Get('seed.x')
    with pytest.raises(ConfigError, match='encoder.dim is REQUIRED, so there is no'):
        p.Get('encoder.dim.x')
    with pytest.raises(ConfigError, match="encoder has no param 'nope'"):
        p.Get('encoder.nope.x')


@pytest.mark.parametrize('path', ['', 'a..b', '.a', 'a[', 'a b', 'encoder.', 3, None])
def test_what_is_no_path(path):
    p = _Task()
    with pytest.raises(ConfigError):
        p.Get(path)
    with pytest.raises(ConfigError):
        p.SetFrom([(path, 1)], 'here')


def test_unknown_attributes_are_attribute_errors_too():
    p = _Task()
    assert not hasattr(p, 'nope')
    assert getattr(p, 'nope', 7) == 7
    with pytest.raises(AttributeError):
        p.nope  # noqa: B018


def test_set_is_atomic():
    p = _Task()
    before = p.ToText()
    sources = p.Source('name'), p.Source('train.max_steps')
    for bad in ({'seed': 'x'}, {'nope': 1}, {'encoder.body.nope': 1}, {'train.precision': 'x'}):
        with pytest.raises(ConfigError):
            p.Set(name='new', **{'train.max_steps': 7, 'encoder.body': Conv.Params()}, **bad)
        assert p.ToText() == before
        assert (p.Source('name'), p.Source('train.max_steps')) == sources


def test_set_reaches_into_a_part_that_the_same_call_swaps():
    p = Stack.Params()
    p.Set(**{'body': Conv.Params(), 'body.width': 5, 'body.dim': 2})
    assert (p.body.width, p.body.dim) == (5, 2)


def test_set_with_one_value_of_a_dict_named_twice_keeps_the_last_order():
    p = _Task()
    p.SetFrom([('name', 'a'), ('name', 'b')], 'here')
    assert p.name == 'b'


def test_atomic_undoes_everything_inside_on_any_error():
    p = _Task()
    p.encoder.layers = [Layer.Params()]
    before = p.ToText()
    with pytest.raises(KeyboardInterrupt), p.Atomic():
        p.encoder.layers[0].dim = 3
        p.encoder.layers = []
        p.train.max_steps = 3
        raise KeyboardInterrupt
    assert p.ToText() == before


def test_get_and_set_through_lists_and_dicts():
    p = Stack.Params().Set(
        layers=[Layer.Params().Set(dim=1), Conv.Params()],
        heads={'a.b': Layer.Params(), 3: Layer.Params()},
    )
    p.Set(**{'layers[1].width': 7, "heads['a.b'].dim": 4, 'heads[3].dim': 5})
    assert p.Get('layers[0].dim') == 1
    assert p.Get('layers[1].width') == 7 == p.layers[1].width
    assert p.heads['a.b'].dim == 4
    assert p.Get("heads['a.b']").dim == 4
    assert p.Get('layers[1]').cls is Conv
    assert 'layers[1].width : 7\n' in p.ToText()
    for path in ('layers[2].dim', 'layers[-1].dim', "heads['x'].dim", "layers['a'].dim"):
        with pytest.raises(ConfigError, match='There is no'):
            p.Get(path)
    with pytest.raises(ConfigError, match='set the whole container'):
        p.Set(**{'layers[0]': Layer.Params()})


def test_get_does_not_index_into_strings():
    with pytest.raises(ConfigError, match='There is no'):
        _One('text').Get('x[0]')


def test_delete():
    p = _Task()
    p.Delete('seed', 'encoder.scale')
    assert 'seed' not in p and 'scale' not in p.encoder
    with pytest.raises(ConfigError):
        p.Delete('name', 'nope')
    assert 'name' in p  # All or none.
    p.Define('seed', '', 'Another type.')
    with pytest.raises(ConfigError, match='Delete'):
        del p.seed


def test_private_state_cannot_be_set():
    p = _Task().Freeze()
    for name in ('_frozen', '_params', '_parent', 'cls', '__class__', '__dict__'):
        with pytest.raises(ConfigError):
            setattr(p, name, {})
    assert p.IsFrozen()


# Copies: nothing is shared.


def test_values_are_copied_in():
    items, mapping, part = [1], {'a': [1]}, Layer.Params()
    p = Stack.Params()
    p.Define('items', items, 'Items.')
    p.Define('mapping', {}, 'Mapping.')
    p.Set(mapping=mapping, body=part, layers=[part, part])
    items.append(2)
    mapping['a'].append(2)
    part.dim = 3
    assert p.items == [1]
    assert p.mapping == {'a': [1]}
    assert p.body.dim is REQUIRED
    p.layers[0].dim = 5
    assert p.layers[1].dim is REQUIRED


def test_two_users_of_one_part_do_not_alias():
    shared = Layer.Params().Set(dim=1)
    a, b = Stack.Params().Set(body=shared), Stack.Params().Set(body=shared)
    a.body.dim = 2
    assert (b.body.dim, shared.dim) == (1, 1)
    b.body = a.body
    b.body.dim = 3
    assert a.body.dim == 2


def test_containers_in_params_cannot_be_changed_in_place():
    p = _Task().encoder
    p.layers = [Layer.Params()]
    for change in (
        lambda: p.layers.append(1),
        lambda: p.layers.__setitem__(0, 1),
        lambda: p.heads.update(a=1),
        lambda: p.heads.setdefault('a', 1),
    ):
        with pytest.raises(TypeError, match='cannot be changed in place'):
            change()


def test_a_default_is_not_changed_by_what_is_set():
    p = Stack.Params()
    p.Set(**{'body.dim': 4, 'scale': 2.0})
    assert p.Default('body').dim is REQUIRED
    assert p.Default('scale') == 1.0
    assert p.Default('dim') is REQUIRED
    assert p.Default('layers') == []
    with pytest.raises(ConfigError):
        p.Default('body').dim = 3


@pytest.mark.parametrize('duplicate', [lambda p: p.Copy(), copy.copy, copy.deepcopy])
def test_copies_are_deep_and_equal(duplicate):
    p = _Task()
    p.encoder.layers = [Layer.Params()]
    q = duplicate(p)
    assert q == p and type(q) is type(p) and q.cls is p.cls
    assert q.Source('encoder.layers') == p.Source('encoder.layers')
    q.encoder.layers[0].dim = 1
    q.train.max_steps = 1
    assert p.encoder.layers[0].dim is REQUIRED
    assert p.train.max_steps == 100
    assert q != p


def test_a_copied_container_shares_no_params():
    p = Stack.Params().Set(layers=[Layer.Params()])
    again = copy.deepcopy(p.layers)
    again[0].dim = 9
    assert p.layers[0].dim is REQUIRED


def test_pickle():
    p = _Task()
    p.encoder.layers = [Conv.Params()]
    q = pickle.loads(pickle.dumps(p))
    assert q == p and q.encoder.dim is REQUIRED


def test_a_handle_stays_good_when_other_things_are_set():
    p = _Root()
    p.task = _Task()
    encoder = p.task.encoder
    p.FromText(p.ToText())
    p.task = p.task
    encoder.scale = 5.0
    assert p.task.encoder.scale == 5.0


# Freezing.


def test_freeze_is_deep():
    p = _Task()
    p.encoder.Set(layers=[Layer.Params()], heads={'a': [Layer.Params()]})
    nodes = [p, p.encoder, p.encoder.body, p.train, p.encoder.layers[0], p.encoder.heads['a'][0]]
    assert p.Freeze() is p
    before = p.ToText()
    for node in nodes:
        assert node.IsFrozen()
        for change in (
            lambda n: setattr(n, n.GetKeys()[0], n.Get(n.GetKeys()[0])),
            lambda n: n.Define('new', 1, 'Text.'),
            lambda n: n.Delete(n.GetKeys()[0]),
            lambda n: n.FromText(n.ToText()),
            lambda n: n.Set(**{n.GetKeys()[0]: 1}),
        ):
            with pytest.raises(hyperparams.FrozenError, match='frozen'):
                change(node)
    assert p.ToText() == before


def test_a_dotted_path_does_not_get_round_a_freeze():
    p = _Task()
    p.encoder.Freeze()
    with pytest.raises(hyperparams.FrozenError, match='encoder.body.dim cannot be set'):
        p.Set(**{'encoder.body.dim': 5})
    with pytest.raises(hyperparams.FrozenError):
        p.FromText('encoder.scale : 2.0')
    with pytest.raises(hyperparams.FrozenError):
        p.Delete('encoder.scale')
    p.name = 'still open'


def test_what_is_frozen_inside_an_open_tree_fails_the_whole_set():
    p = _Task()
    p.encoder.Freeze()
    with pytest.raises(hyperparams.FrozenError):
        p.Set(**{'name': 'new', 'encoder.scale': 2.0})
    assert p.name == ''


def test_the_copy_of_something_frozen_is_open():
    p = _Task()
    p.encoder.layers = [Layer.Params()]
    q = p.Freeze().Copy()
    q.encoder.body.dim = 3
    q.encoder.layers[0].dim = 3
    assert not q.IsFrozen() and p.encoder.body.dim is REQUIRED
    r = Stack.Params()
    r.body = p.encoder.body  # What is set is a copy, too.
    r.body.dim = 4


# Templates.


def test_a_part_is_swapped_class_and_all():
    p = Stack.Params()
    p.body = Conv.Params().Set(width=5)
    assert p.body.cls is Conv and p.body.width == 5
    assert f"body : params('{HERE}.Conv')\n" in p.ToText()


@pytest.mark.parametrize(
    ('value', 'said'),
    [
        (InstantiableParams(Color), 'Color is no subclass of'),
        (InstantiableParams(NoParams), 'has no Params()'),
        (_Train(), 'Params of a class are wanted'),
        (Layer, 'Use Layer.Params().'),
        ('Layer', 'body expects Params'),
        (None, 'body expects Params, got None'),
    ],
)
def test_what_does_not_fit_in_a_template(value, said):
    p = Stack.Params()
    with pytest.raises(ConfigError, match=re.escape(said)):
        p.body = value
    assert p.body.cls is Layer


def test_the_bound_of_a_template_is_the_base_class_that_introduced_params():
    p = Params()
    p.Define('part', Conv.Params(), 'A part.')
    p.part = Layer.Params()
    assert p.part.cls is Layer
    q = Params()
    q.Define('part', Conv.Params(), 'A part.', bound=Conv)
    with pytest.raises(ConfigError, match='Layer is no subclass of .*Conv'):
        q.part = Layer.Params()


def test_classes_as_values():
    p = _One(Layer, bound=Layer)
    p.x = Conv
    assert p.x is Conv
    assert p.ToText() == f"x : type('{HERE}.Conv')\n"
    assert _One(Layer, bound=Layer).FromText(p.ToText()) == p
    with pytest.raises(ConfigError, match='no subclass'):
        p.x = Color
    with pytest.raises(ConfigError, match='no subclass'):
        p.FromText("x : type('os.PathLike')")


def test_a_group_without_a_class_keeps_its_keys():
    """Text could not say what it defines."""
    p = _Task()
    p.train = _Train().Set(max_steps=7)
    assert p.train.max_steps == 7
    with pytest.raises(ConfigError, match='keep the keys of the default'):
        p.train = Params()
    with pytest.raises(ConfigError, match='without bound='):
        p.train = Layer.Params()
    other = _Train()
    other.Delete('max_steps')
    other.Define('max_steps', 1.0, 'Of another type.')
    with pytest.raises(ConfigError, match='keep the keys of the default'):
        p.train = other


# Building.


def test_instantiate_gives_a_frozen_copy():
    p = Layer.Params().Set(dim=3)
    layer = p.Instantiate(extra='e')
    assert type(layer) is Layer and layer.extra == 'e'
    assert layer.params == p and layer.params.IsFrozen() and not p.IsFrozen()
    p.dim = 4
    assert layer.params.dim == 3


def test_missing_values_are_named_all_at_once():
    p = _Root()
    p.task = Stack.Params()
    p.task.Define('num_heads', REQUIRED, 'Heads.', type=int)
    group = Params()
    group.Define('on', REQUIRED, 'A switch.', type=bool)
    p.task.Define('group', group, 'A group.')
    with pytest.raises(ConfigError) as caught:
        p.task.Instantiate()
    assert str(caught.value) == (
        '3 params must be set before mt.Wmt: task can be built: '
        'dim (int), group.on (bool), num_heads (int).'
    )
    with pytest.raises(ConfigError, match='^1 param must be set before Layer can be built: dim'):
        Layer.Params().Instantiate()


def test_what_is_missing_in_a_template_is_the_business_of_who_builds_it():
    p = Stack.Params().Set(dim=1)
    assert p.body.dim is REQUIRED
    p.Instantiate()


def test_check_is_called_before_anything_is_built():
    p = Stack.Params()
    p.body = Checked.Params().Set(dim=12)
    line = f'{FILE}:{inspect.currentframe().f_lineno - 1}'
    with pytest.raises(ConfigError) as caught:
        p.body.Instantiate()
    assert str(caught.value) == f'body: dim=12 is no multiple of 8. Set at {line}.'
    p.body.dim = 16
    p.body.Instantiate()


def test_a_copy_keeps_its_path_in_errors():
    p = _Root()
    p.task = _Task()
    body = p.task.encoder.body.Copy()
    assert body.Path() == 'mt.Wmt: task.encoder.body'
    assert body.Path('dim') == 'mt.Wmt: task.encoder.body.dim'
    q = Stack.Params().Set(body=body)
    assert q.body.Path('dim') == 'body.dim'
    assert p.task.encoder.Copy().body.Copy().Path() == 'mt.Wmt: task.encoder.body'


def test_fail():
    p = _Task()
    assert str(hyperparams.Fail(p.encoder.body, 'Bad.')) == 'encoder.body: Bad.'
    assert str(hyperparams.Fail(Params(), 'Bad.')) == 'Bad.'
    p.SetFrom([('encoder.scale', 2.0)], 'argument 1')
    error = hyperparams.Fail(p.encoder, 'Bad.', key='scale')
    assert str(error) == 'encoder: Bad. Set by argument 1.'


def test_instantiable_params_are_of_a_class():
    with pytest.raises(ConfigError, match='are of a class'):
        InstantiableParams('Layer')


# Asking.


def test_provenance_of_code_text_and_flags():
    p = _Task()
    assert p.Source('train.max_steps').startswith(f'{FILE}:')
    p.train.max_steps = 3
    assert p.Source('train.max_steps') == f'{FILE}:{inspect.currentframe().f_lineno - 1}'
    p.Set(**{'encoder.body.dim': 3})
    assert p.Source('encoder.body.dim') == f'{FILE}:{inspect.currentframe().f_lineno - 1}'
    p.FromText('# comment\n\nname : "n"\n', source='RUN/params.txt')
    assert p.Source('name') == 'RUN/params.txt:3'
    p.SetFrom([('seed', 3)], '--set, argument 2')
    assert p.Why('seed') == 'seed : 3\n  Seed.\n  set at --set, argument 2'
    assert p.Copy().Source('seed') == '--set, argument 2'
    p.encoder.layers = [Layer.Params()]
    p.encoder.layers[0].dim = 5
    assert p.Why('encoder.layers[0].dim').startswith('encoder.layers[0].dim : 5\n  Width.')
    assert p.Description('encoder.layers') == 'The layers.'


def test_a_source_outside_the_working_directory_is_absolute(tmp_path):
    file = tmp_path / 'recipe.py'
    file.write_text('def Change(p):\n    p.name = "x"\n')
    space = {}
    exec(compile(file.read_text(), str(file), 'exec'), space)
    p = _Task()
    space['Change'](p)
    assert p.Source('name') == f'{file}:2'


# Checks of values.


def _Ranges(**values):
    p = Params()
    p.Define('train', Params(), 'Training.')
    p.train.Define('low', 0.5, 'A number.')
    p.train.Define('high', None, 'A number, or none.', type=int)
    p.train.Define('many', [1, 2.5], 'Numbers.')
    p.train.Set(**values)
    return p.SetLabel('mt.Wmt')


def test_what_is_required_and_does_not_hold():
    p = _Ranges()
    hyperparams.Require(p.train, True, 'low', 'odd')
    with pytest.raises(
        ConfigError, match=r'^mt.Wmt: train: low=0.5 must be odd. Set at .*py:\d+.$'
    ):
        hyperparams.Require(p.train, False, 'low', 'odd')


@pytest.mark.parametrize(
    ('bounds', 'inside', 'outside', 'text'),
    [
        (dict(at_least=1), [1, 2], [0.99], 'at least 1'),
        (dict(above=0), [0.01], [0, -1], 'above 0'),
        (dict(at_most=1), [1, 0], [1.01], 'at most 1'),
        (dict(at_least=0, below=1), [0, 0.99], [-0.01, 1, float('nan')], 'at least 0 and below 1'),
        (dict(above=0.5, at_most=2), [0.51, 2], [0.5, 2.1], 'above 0.5 and at most 2'),
    ],
)
def test_ranges(bounds, inside, outside, text):
    for value in inside:
        hyperparams.RequireRange(_Ranges(low=value), 'train.low', **bounds)
    for value in outside:
        message = f'train.low={float(value)} must be {text}. Set at '
        with pytest.raises(ConfigError, match=re.escape(message)):
            hyperparams.RequireRange(_Ranges(low=value), 'train.low', **bounds)


def test_a_range_of_several_names_the_one_that_is_outside():
    keys = ('low', 'high', 'many')
    hyperparams.RequireRange(_Ranges().train, *keys, above=0)  # one of them is None
    with pytest.raises(ConfigError, match='train: high=0 must be above 0.'):
        hyperparams.RequireRange(_Ranges(high=0).train, *keys, above=0)
    for item, shown in ((-1, '-1'), ('x', "'x'")):
        with pytest.raises(ConfigError, match=rf'train: many\[1\]={shown} must be above 0.'):
            hyperparams.RequireRange(_Ranges(many=[1, item]).train, *keys, above=0)


def test_a_range_says_what_else_there_is_to_say():
    with pytest.raises(ConfigError, match=r'low=0.5 must be at least 1 \(None for all\)\. Set at'):
        hyperparams.RequireRange(_Ranges().train, 'low', at_least=1, note='None for all')


def test_resume_kind():
    p = _Root()
    p.task = _Task()
    assert p.ResumeKind('task.train.max_steps') == 'free'
    assert p.ResumeKind('task.train.learning_rate') == 'fixed'
    assert p.ResumeKind('task.eval') == 'free'
    assert p.ResumeKind('task.eval.learning_rate') == 'free'  # All below is free.
    assert p.ResumeKind('task.encoder.layers[0].dim') == 'fixed'
    assert p.ResumeKind('task.gone.dim') == 'fixed'


def test_keys_and_iteration():
    p = _Train()
    assert p.GetKeys() == ['learning_rate', 'max_steps', 'precision']
    assert list(p.IterParams()) == [
        ('learning_rate', 0.1),
        ('max_steps', 100),
        ('precision', 'auto'),
    ]
    assert 'max_steps' in p and 'max_step' not in p and 'max_steps' in dir(p)
    assert len(p) == 3 and bool(Params())


def test_visit_sees_each_line_of_the_text():
    p = _Task()
    p.encoder.layers = [Conv.Params()]
    seen = []
    p.Visit(lambda path, value: seen.append(path))
    assert seen == [line.split(' : ')[0] for line in p.ToText().splitlines()]
    assert 'encoder.layers[0].width' in seen


def test_equality():
    assert _Task() == _Task()
    assert _Task() != _Task().Set(name='x')
    assert Layer.Params() != Conv.Params()
    assert InstantiableParams(Layer) != InstantiableParams(Conv)
    assert Params() != {} and Params() != None  # noqa: E711
    assert _One(float('nan')) == _One(float('nan'))
    assert _One(0.0) != _One(-0.0)
    with pytest.raises(TypeError):
        hash(Params())


def test_text_diff():
    a, b = _Task(), _Task()
    assert a.TextDiff(b) == ''
    a.train.max_steps = 3
    b.encoder.body = Conv.Params()
    assert a.TextDiff(b).split('\n') == [
        f"encoder.body : params('{HERE}.Layer') -> params('{HERE}.Conv')",
        '+ encoder.body.width : 3',
        'train.max_steps : 3 -> 100',
    ]
    assert '- encoder.body.width : 3' in b.TextDiff(a)


# Text.


def test_text_is_sorted_lines():
    p = Stack.Params().Set(layers=[Layer.Params()], heads={})
    assert p.ToText() == textwrap.dedent(f"""\
        body : params('{HERE}.Layer')
        body.dim : REQUIRED
        body.scale : 1.0
        dim : REQUIRED
        heads : {{}}
        layers : [params('{HERE}.Layer')]
        layers[0].dim : REQUIRED
        layers[0].scale : 1.0
        scale : 1.0
        """)


def test_text_says_the_same_as_code_whatever_the_order_of_its_lines():
    p = Stack.Params()
    p.body = Stack.Params().Set(body=Conv.Params().Set(width=9), layers=[Conv.Params()])
    p.body.layers[0].width = 8
    lines = p.ToText().splitlines()
    for order in (lines, lines[::-1], sorted(lines, key=len), sorted(lines, key=len)[::-1]):
        assert Stack.Params().FromText('\n'.join(order)) == p


def test_text_sets_a_required_param_back():
    p = Stack.Params()
    q = Stack.Params()
    q.body.dim = 8
    assert q.FromText(p.ToText()) == p
    with pytest.raises(ConfigError, match='scale has a default'):
        q.FromText('scale : REQUIRED')


def test_what_text_does_not_mention_stays():
    p = Stack.Params()
    p.body.scale = 3.0
    p.layers = [Conv.Params().Set(width=5)]
    p.FromText(f"layers : [params('{HERE}.Conv'), params('{HERE}.Layer')]")
    p.FromText(f"body : params('{HERE}.Layer')\nbody.dim : 2")
    assert (p.body.scale, p.body.dim) == (3.0, 2)  # The class was no other.
    assert (p.layers[0].width, p.layers[1].cls) == (5, Layer)
    p.FromText(f"body : params('{HERE}.Conv')")
    assert (p.body.scale, p.body.dim) == (1.0, REQUIRED)  # It is another.


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('name', "'name' is not in the form key : value"),
        ('name = 3', "'name = 3' is not in the form key : value"),
        ('Name : 3', 'is not in the form'),
        ('nope : 3', "no param 'nope'"),
        ('name : 3', 'name expects str, got 3 (int). Set at file:1.'),
        ('name : fast', "name: 'fast' is no literal (a str stands in quotes). Set at file:1."),
        ('name :', "name: '' is no literal"),
        ('seed : 1e5', 'seed expects int, got 100000.0 (float)'),
        ('seed : 0\n\nseed : 0', 'file:3: seed was already given at file:1'),
        ('seed.x : 0', "seed is None, so there is no 'seed.x'"),
        ('encoder : None', 'encoder expects Params, got None'),
        ('encoder.layers[0].dim : 3', 'There is no encoder.layers[0]'),
        ("name : 'a\nb'", 'is no literal'),
        ('encoder : 3', 'encoder expects Params, got 3 (int)'),
        ("encoder : 'x'", "encoder expects Params, got 'x' (str)"),
        (f"name : params('{HERE}.Layer')", 'without bound='),
        (f"encoder : params('{HERE}.Stranger')", 'Stranger is no subclass of'),
        (f"encoder : params('{HERE}.Broken')", 'Broken.Params() fails: RuntimeError'),
        (f"encoder : params('{HERE}.NotMine')", 'does not return InstantiableParams(cls)'),
        (f"encoder : params('{HERE}.NoParams')", 'has no Params()'),
        (f"encoder : params('{HERE}.Nope')", f"module {HERE} has no class 'Nope'"),
        ("encoder : params('no.such.Layer')", 'is in no imported module'),
        ("encoder : params('subprocess.Popen')", 'Popen is no subclass of'),
        ("encoder : params('os.system')", "module os has no class 'system'"),
        ("encoder : type('os.system')", "module os has no class 'system'"),
        ("name : type('subprocess.Popen')", 'without bound='),
        ("name : os.system('true')", 'text is never executed'),
        ("name : __import__('os')", 'text is never executed'),
    ],
)
def test_text_that_is_refused_changes_nothing(text, said):
    p = _Task()
    before = p.ToText()
    good = 'train.max_steps : 7\n' if '\n' not in text else ''
    with pytest.raises(ConfigError) as caught:
        p.FromText(text + '\n' + good, source='file')
    assert said in str(caught.value)
    assert 'file:' in str(caught.value)
    assert p.ToText() == before
    assert 'file' not in p.Source('train.max_steps')


def test_text_calls_no_params_of_a_class_that_is_not_of_a_layer_even_where_anything_may_stand():
    p = _One([], bound=object)
    for name in ('subprocess.Popen', 'builtins.dict', f'{HERE}.Color'):
        with pytest.raises(ConfigError, match=re.escape('has no Params()')):
            p.FromText(f"x : [params('{name}')]")


def test_comments_blank_lines_and_line_ends():
    p = _Task().FromText('# Comment\r\n\r\n  seed: 3  \r\nname :\t"#x" # why\r\n')
    assert (p.seed, p.name) == (3, '#x')


# Each defect that lingvo's hyperparams have, seen in its text format and in its methods.


@pytest.mark.parametrize('text', ['b : 0', 'b :', "b : ''", 'b : false', 'b : no'])
def test_lingvo_a_bool_reads_as_true_from_anything(text):
    p = Params()
    p.Define('b', True, 'A switch.')
    with pytest.raises(ConfigError):
        p.FromText(text)
    assert p.FromText('b : False').b is False


def test_lingvo_none_accepts_a_value_from_text():
    p = _One(None, type=int).FromText('x : 3')
    assert p.x == 3


def test_lingvo_none_in_a_tuple_comes_back_as_a_string():
    p = _One((None, 'NoneType', 'None'))
    assert _One(()).FromText(p.ToText()).x == (None, 'NoneType', 'None')


@pytest.mark.parametrize(
    'value', ['[1]', '[a b]', "x'", '"x', "'", 'a\\', '1', 'None', '', '#', ' ']
)
def test_lingvo_a_string_comes_back_as_another_value(value):
    assert _One('').FromText(_One(value).ToText()).x == value


def test_lingvo_an_unterminated_string_is_dropped():
    with pytest.raises(ConfigError):
        _One('a').FromText("x : 'abc")


def test_lingvo_the_last_of_two_equal_keys_wins():
    p = Stack.Params().Set(heads={'a': Layer.Params()})
    with pytest.raises(ConfigError, match='was already given'):
        p.FromText("""heads['a'].dim : 1\nheads["a"].dim : 2""")


def test_lingvo_pairs_of_name_and_params_cannot_be_read_back():
    p = _One([], bound=Layer)
    p.x = [('inner1', Conv.Params().Set(dim=3)), ('inner2', Layer.Params())]
    again = _One([], bound=Layer).FromText(p.ToText())
    assert again == p
    assert again.x[0][0] == 'inner1' and again.x[0][1].dim == 3


def test_lingvo_lambdas_are_written_and_cannot_be_read():
    with pytest.raises(ConfigError, match='use a name with choices'):
        _One(None, type=object).x = lambda x: x


@pytest.mark.parametrize('empty', [[], (), {}])
def test_lingvo_empty_containers_are_left_out(empty):
    p = _One(empty)
    assert p.ToText() == f'x : {empty!r}\n'
    full = _One(type(empty)({1: 2} if isinstance(empty, dict) else [1]))
    assert full.FromText(p.ToText()) == p


def test_lingvo_the_type_is_guessed_from_the_old_value():
    p = _One(None, type=object)
    p.x = [1]
    assert p.FromText('x : 3').x == 3


# Round trip, over every kind of value.

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.text(st.characters(categories=['Cs', 'Cc', 'Zl', 'Zp', 'Po']), max_size=4),
    st.sampled_from([*Color, Layer, Conv, -0.0, 'REQUIRED', '{...}', "params('x')", '# x']),
)
LAYERS = st.deferred(
    lambda: st.one_of(
        st.builds(
            lambda cls, dim, scale: cls.Params().Set(scale=scale, **({'dim': dim} if dim else {})),
            st.sampled_from([Layer, Conv]),
            st.integers(0, 5),
            st.floats(),
        ),
        st.builds(
            lambda body, layers, heads: Stack.Params().Set(body=body, layers=layers, heads=heads),
            LAYERS,
            st.lists(LAYERS, max_size=2),
            st.dictionaries(st.one_of(st.text(max_size=4), st.integers(-9, 9)), LAYERS, max_size=2),
        ),
    )
)
ANYTHING = st.recursive(
    st.one_of(SCALARS, LAYERS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(-9, 9)), inner, max_size=2),
    ),
    max_leaves=5,
)


def _Any():
    p = Params()
    p.Define('anything', None, 'Anything.', type=object, bound=Layer)
    p.Define('part', Layer.Params().Set(dim=7), 'A part.')
    p.Define('text', '', 'Text.')
    return p


@settings(max_examples=100, deadline=None)
@given(ANYTHING, LAYERS, st.text())
def test_whatever_can_be_set_can_be_written_and_read_back(anything, part, text):
    p = _Any().Set(anything=anything, part=part, text=text)
    written = p.ToText()
    again = _Any().FromText(written)
    assert again == p
    assert again.ToText() == written
    assert again.TextDiff(p) == ''
    assert p.Copy() == p and p.Copy().ToText() == written
    assert p.FromText(written).ToText() == written  # Onto itself, too.


def test_the_property_above_covers_classes_enums_and_odd_floats():
    p = _Any().Set(
        anything=({'k': [Conv.Params(), Color.RED]}, float('nan'), -0.0, -float('inf'), Layer, None)
    )
    again = _Any().FromText(p.ToText())
    assert again.anything[0]['k'][0].cls is Conv
    assert again.anything[0]['k'][1] is Color.RED
    assert str(again.anything[1:4]) == '(nan, -0.0, -inf)'
    assert again.anything[4] is Layer


LINES = st.one_of(
    st.text(max_size=30),
    st.builds(
        '{}{}{}'.format,
        st.sampled_from(
            ['text', 'part', 'part.dim', 'part.scale', 'anything', 'anything[0].dim', 'x']
        ),
        st.sampled_from([' : ', ':', '=', ' : -', ' : ((']),
        st.one_of(
            st.text(max_size=10),
            st.sampled_from(
                ['1', '0.5', 'None', "''", 'REQUIRED', '[1]', f"params('{HERE}.Conv')"]
            ),
            st.text('()[]{}\'",:.-+ \\019eExjaNonetypeparams', max_size=20),
        ),
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=4).map('\n'.join))
def test_arbitrary_text_sets_all_or_nothing(text):
    p = _Any()
    before = p.ToText()
    try:
        p.FromText(text)
    except ConfigError:
        assert p.ToText() == before
    else:
        assert _Any().FromText(p.ToText()) == p


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text('ab.[]01\'"\\_', max_size=20)))
def test_arbitrary_paths_are_found_or_refused(path):
    p = _Any()
    for ask in (p.Get, p.Why, p.Source, p.Type, p.Default, p.Description, p.Copy().Delete):
        try:
            ask(path)
        except ConfigError:
            pass


def test_a_long_wrong_line_is_refused_at_once():
    with pytest.raises(ConfigError):
        _Any().FromText('a' * 20000 + '!')


# Floor 1.


def test_floor_one_imports_no_tensorflow():
    code = (
        'import sys\n'
        'from lingvo_lite import hyperparams, literals, nested_map, overrides, registry\n'
        'p = hyperparams.Params()\n'
        'p.Define("x", 0.5, "Text.")\n'
        'overrides.Apply(p, ["x=3"])\n'
        'p.FromText(p.ToText())\n'
        'heavy = [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "keras", "numpy")]\n'
        'assert not heavy, heavy\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.fixture(scope='module')
def tf():
    return pytest.importorskip('tensorflow')


def test_dtypes(tf):
    p = _One(None, type=tf.DType)
    for dtype in (tf.bfloat16, tf.int32, None):
        p.x = dtype
        assert p.x is dtype
        assert _One(None, type=tf.DType).FromText(p.ToText()).x is dtype
    assert p.Set(x=tf.float32).ToText() == "x : dtype('float32')\n"
    with pytest.raises(ConfigError, match=re.escape("x expects DType, got 'float32' (str)")):
        p.x = 'float32'


def test_tensors_are_refused(tf):
    p = _One(None, type=object)
    for value in (tf.constant(1.0), tf.Variable(1.0), tf.zeros([2]).numpy(), tf.nn.relu):
        with pytest.raises(ConfigError):
            p.x = value

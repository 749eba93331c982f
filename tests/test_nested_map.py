"""NestedMap: a dict with attributes whose traversal is that of tf.nest."""

import collections
import copy
import pickle

import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite.nested_map import NestedMap

Pair = collections.namedtuple('Pair', 'x y')
KEYS = st.sampled_from(['a', 'b', 'c', 'B', 'x1', '_y'])


def _Maps(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.dictionaries(KEYS, inner, max_size=3).map(NestedMap),
            st.dictionaries(KEYS, inner, max_size=2),
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=2).map(tuple),
            st.builds(Pair, inner, inner),
        ),
        max_leaves=8,
    )


TREES = st.dictionaries(KEYS, _Maps(st.one_of(st.integers(), st.none())), max_size=4).map(NestedMap)


def _Example():
    return NestedMap(b=NestedMap(c=[2, 3]), a=1, d=({'e': 4}, Pair(5, 6)))


def test_attributes_are_keys():
    m = NestedMap(a=1)
    m.b = 2
    m['c'] = 3
    assert (m.a, m['b'], m.c) == (1, 2, 3)
    del m.b
    assert dict(m) == {'a': 1, 'c': 3}
    assert 'a' in dir(m)


def test_a_missing_key_names_those_that_are_there():
    m = NestedMap(b=1, a=2)
    for ask in (lambda: m.ids, lambda: delattr(m, 'ids')):
        with pytest.raises(AttributeError, match="no 'ids' here; there are: a, b"):
            ask()
    with pytest.raises(KeyError):
        m['ids']


@pytest.mark.parametrize('key', ['a b', '', '1', 'a.b', 3, None, 'a-b'])
def test_keys_are_identifiers_however_they_come(key):
    m = NestedMap()
    for put in (
        lambda: NestedMap({key: 1}),
        lambda: m.__setitem__(key, 1),
        lambda: m.update({key: 1}),
        lambda: m.setdefault(key, 1),
        lambda: m.__ior__({key: 1}),
        lambda: NestedMap.fromkeys([key]),
    ):
        with pytest.raises(ValueError, match='keys are identifiers'):
            put()
    assert not m


@pytest.mark.parametrize('key', ['items', 'Flatten', 'values', 'pop', 'Get'])
def test_names_of_methods_are_no_keys(key):
    with pytest.raises(ValueError, match='is a method'):
        NestedMap({key: 1})
    with pytest.raises(ValueError, match='is a method'):
        setattr(NestedMap(), key, 1)


def test_flatten_is_sorted_and_names_each_leaf():
    assert _Example().FlattenItems() == [
        ('a', 1),
        ('b.c[0]', 2),
        ('b.c[1]', 3),
        ('d[0].e', 4),
        ('d[1][0]', 5),
        ('d[1][1]', 6),
    ]
    assert _Example().Flatten() == [1, 2, 3, 4, 5, 6]


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_pack_and_transform_keep_the_structure(tree):
    leaves = tree.Flatten()
    again = tree.Pack(leaves)
    assert again == tree and type(again) is NestedMap
    assert repr(again) == repr(tree)  # Types and order of keys, too.
    numbered = tree.Pack(range(len(leaves)))
    assert numbered.Flatten() == list(range(len(leaves)))
    assert [path for path, _ in numbered.FlattenItems()] == [p for p, _ in tree.FlattenItems()]
    assert tree.Transform(lambda v: [v]).FlattenItems() == [
        (f'{path}[0]', value) for path, value in tree.FlattenItems()
    ]
    seen = tree.TransformWithKey(lambda path, value: (path,))
    assert [value for _, value in seen.FlattenItems()] == [p for p, _ in tree.FlattenItems()]


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_get_follows_the_paths_of_flatten(tree):
    for path, value in tree.FlattenItems():
        assert tree.Get(path) is value


def test_get_of_what_is_not_there():
    m = _Example()
    for path in ('z', 'a.b', 'b.c[2]', 'b.c[0].d', 'a[0]'):
        assert m.Get(path) is None
        assert m.Get(path, 7) == 7
    with pytest.raises(ValueError, match='is no path'):
        m.Get('b.c[x]')


def test_pack_wants_as_many_values_as_leaves():
    with pytest.raises(ValueError, match='6 leaves to fill, got 2 values'):
        _Example().Pack([1, 2])


def test_filter_drops_leaves_and_what_they_leave_empty():
    m = NestedMap(a=1, b=NestedMap(c=2, d=NestedMap(e=1)), f=[1, 2], g=(1,))
    assert m.Filter(lambda v: v == 2) == {'b': {'c': 2}, 'f': [2]}
    assert m.Filter(lambda v: False) == {}
    assert isinstance(m.Filter(lambda v: False), NestedMap)
    assert m.FilterKeyVal(lambda path, v: path == 'b.d.e') == {'b': {'d': {'e': 1}}}


def test_none_is_a_leaf_like_any_other():
    m = NestedMap(a=None, b=[None, 1])
    assert m.Flatten() == [None, None, 1]
    assert m.Filter(lambda v: v is None) == {'a': None, 'b': [None]}


def test_filter_of_a_named_tuple_is_a_tuple():
    assert NestedMap(p=Pair(1, 2)).Filter(lambda v: v == 2) == {'p': (2,)}


def test_compatibility_is_equality_of_paths():
    assert NestedMap(a=1, b=[2]).IsCompatible({'b': [5], 'a': 7})
    assert not NestedMap(a=1).IsCompatible(NestedMap(a=1, b=2))
    assert not NestedMap(a=[1]).IsCompatible(NestedMap(a=1))
    assert not NestedMap(a=1).IsCompatible([1])


def test_copies():
    m = _Example()
    assert type(m.copy()) is NestedMap and m.copy() == m and m.copy().b is m.b
    for again in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert again == m and type(again) is NestedMap and again.b is not m.b


def test_debug_string():
    assert NestedMap(b=[1], a='x').DebugString() == 'a  x\nb[0]  1'


@pytest.fixture(scope='module')
def tf():
    return pytest.importorskip('tensorflow')


def test_tf_nest_sees_the_same_leaves_in_the_same_order(tf):
    @settings(max_examples=60, deadline=None)
    @given(TREES)
    def Check(tree):
        assert tf.nest.flatten(tree) == tree.Flatten()
        mapped = tf.nest.map_structure(lambda v: (v,), tree)
        assert type(mapped) is NestedMap
        assert mapped == tree.Transform(lambda v: (v,))

    Check()


def test_it_goes_in_and_out_of_a_tf_function(tf):
    @tf.function(autograph=False)
    def Double(m):
        assert type(m) is NestedMap and type(m.b) is NestedMap
        return m.Transform(lambda v: 2 * v)

    out = Double(NestedMap(a=tf.constant(1), b=NestedMap(c=tf.constant(2))))
    assert type(out) is NestedMap and int(out.b.c) == 4

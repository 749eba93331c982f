"""Values as text: what Format writes, Parse reads; and Parse reads nothing else."""

import collections
import copy
import enum
import math
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite import literals
from lingvo_lite.literals import LiteralError


class Color(enum.Enum):
    RED = 1
    ROT = 1  # An alias.
    BLUE = 'b'


class Level(enum.IntEnum):
    LOW = 1


class Mode(str, enum.Enum):
    FAST = 'fast'


class Flags(enum.Flag):
    A = 1
    B = 2


class Outer:
    class Inner:
        pass


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**255), 2**255),
    st.floats(),
    st.text(),
    st.text(st.characters(categories=['Cs', 'Cc', 'Zl', 'Po']), max_size=5),
    st.sampled_from(
        [*Color, *Level, *Mode, Outer, Outer.Inner, int, 'None', "it's", '"', '\\', '']
    ),
)
KEYS = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=4))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)


def _Refuse(leaf, at):
    raise LiteralError(f'{leaf!r} at {at} is a leaf')


def _Normalize(value, bound=object):
    return literals.Normalize(value, bound, _Refuse)


def _Same(a, b):
    """Equality that tells apart what == does not: 1, 1.0 and True; 0.0 and -0.0; list and tuple."""
    if isinstance(a, enum.Enum) or isinstance(b, enum.Enum):
        return a is b
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    for kind in (list, tuple):
        if isinstance(a, kind):
            return isinstance(b, kind) and len(a) == len(b) and all(map(_Same, a, b))
    if isinstance(a, dict):
        return (
            isinstance(b, dict)
            and all(map(_Same, a.keys(), b.keys()))
            and len(a) == len(b)
            and all(map(_Same, a.values(), b.values()))
        )
    return type(a) is type(b) and a == b


@settings(max_examples=400, deadline=None)
@given(VALUES)
def test_parse_reads_what_format_writes(value):
    kept = _Normalize(value)
    text = literals.Format(kept)
    assert '\n' not in text
    again = literals.Parse(text)
    assert _Same(kept, again)
    assert literals.Format(_Normalize(again)) == text


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_normalize_keeps_the_value(value):
    assert _Same(value, _Normalize(value))


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (float('nan'), "float('nan')"),
        (-float('inf'), "float('-inf')"),
        (-0.0, '-0.0'),
        (1e5, '100000.0'),
        ((1,), '(1,)'),
        ((), '()'),
        ([None, 'None'], "[None, 'None']"),
        ({'a': [1]}, "{'a': [1]}"),
        ('a\nb', r"'a\nb'"),
        (Outer.Inner, f"type('{__name__}.Outer.Inner')"),
        (Color.RED, f"enum('{__name__}.Color.RED')"),
        (Level.LOW, f"enum('{__name__}.Level.LOW')"),
    ],
)
def test_text_of_values(value, text):
    assert literals.Format(_Normalize(value)) == text
    assert _Same(literals.Parse(text), value)


def test_an_alias_of_an_enum_is_the_member():
    assert literals.Parse(f"enum('{__name__}.Color.ROT')") is Color.RED
    assert literals.Format(Color.ROT).endswith("Color.RED')")


@pytest.mark.parametrize(
    'text',
    [
        '',
        'fast',
        '1 +',
        '1 + 1',
        '1j',
        "b'x'",
        '...',
        '{1, 2}',
        "f'{1}'",
        '[x for x in y]',
        '{**{}}',
        '[*a]',
        '-True',
        "-'a'",
        'lambda: 1',
        '1e999',
        '{[1]: 2}',
        '{(1,): 2}',
        "{params('x.Y'): 2}",
        "{'a': 1, 'a': 2}",
        "float('1.5')",
        "float('infinity')",
        'float(1)',
        "type('os.system')",
        "type('os')",
        "type('')",
        "type('.')",
        "type('no.such.Class')",
        "type('subprocess.Popen', 1)",
        "enum('os.PathLike')",
        "enum('x')",
        f"enum('{__name__}.Color.GREEN')",
        f"enum('{__name__}.Color.__class__')",
        "exec('1')",
        "__import__('os')",
        "os.system('true')",
        '(lambda: 1)()',
        '"a".upper()',
        '\x00',
        '(' * 500 + ')' * 500,
        '-' * 5000 + '1',
        '9' * 10000 + 'x',
    ],
)
def test_refused_text(text):
    with pytest.raises(LiteralError):
        literals.Parse(text)


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text('()[]{}\'",:.-+ \\01eExjnabNone', max_size=30),
        st.builds(
            '{}({!r})'.format, st.sampled_from(['type', 'enum', 'dtype', 'float']), st.text()
        ),
    )
)
def test_arbitrary_text_is_a_value_or_a_literal_error(text):
    try:
        kept = _Normalize(literals.Parse(text))
    except LiteralError:
        return
    assert _Same(literals.Parse(literals.Format(kept)), kept)


def test_a_backslash_in_a_string_is_kept_without_a_warning(recwarn):
    assert literals.Parse(r"'\d+'") == r'\d+'
    assert not recwarn.list


def test_text_neither_imports_nor_executes():
    code = (
        'import sys\n'
        'from lingvo_lite import literals\n'
        'for text in ["type(\'wave.Wave_read\')", "params(\'wave.Wave_read\')",\n'
        '             "enum(\'wave.Wave_read.x\')", "dtype(\'wave\')", "__import__(\'wave\')"]:\n'
        '    try:\n'
        '        literals.FindClass(getattr(literals.Parse(text), "name", None) or "")\n'
        '    except literals.LiteralError:\n'
        '        continue\n'
        '    raise SystemExit(f"{text} was read")\n'
        'assert "wave" not in sys.modules\n'
        'assert "tensorflow" not in sys.modules\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


Point = collections.namedtuple('Point', 'x y')


def _Redefined():
    class Gone:
        pass

    Gone.__qualname__ = 'Gone'
    return Gone


@pytest.mark.parametrize(
    ('value', 'said'),
    [
        (lambda x: x, 'function'),
        (os.path.join, 'function'),
        (len, 'function'),
        (object(), 'is a leaf'),
        (b'x', 'is a leaf'),
        (1j, 'is a leaf'),
        ({1}, 'is a leaf'),
        (range(3), 'is a leaf'),
        (Point(1, 2), 'Point'),
        ({(1, 2): 3}, 'dict key'),
        ({Color.RED: 3}, 'dict key'),
        ([lambda: 1], 'function'),
        (Flags.A | Flags.B, 'combination'),
        (_Redefined(), 'is not what is found by that name'),
        (type(_Refuse), 'is not what is found'),
        pytest.param(10**5000, 'too long', id='huge'),
    ],
)
def test_values_without_text_are_refused(value, said):
    with pytest.raises(LiteralError, match=said):
        _Normalize(value)


def test_a_class_inside_a_function_is_refused():
    class Local:
        pass

    with pytest.raises(LiteralError, match='defined inside a function; move it to a module'):
        _Normalize(Local)


def test_classes_need_a_bound_that_they_fit():
    with pytest.raises(LiteralError, match='without bound='):
        literals.Normalize(Color, None, _Refuse)
    with pytest.raises(LiteralError, match='int is no subclass of builtins.str'):
        literals.Normalize(int, str, _Refuse)
    assert literals.Normalize(bool, int, _Refuse) is bool


def test_containers_nested_too_deep_or_into_themselves_are_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(LiteralError, match='nested'):
        _Normalize(loop)
    deep = 1
    for _ in range(31):
        deep = [deep]
    with pytest.raises(LiteralError, match='nested'):
        _Normalize(deep)
    assert _Same(literals.Parse(literals.Format(_Normalize(deep[0]))), deep[0])


def test_numbers_and_strings_of_numpy_become_plain():
    np = pytest.importorskip('numpy')
    assert type(_Normalize(np.float64(0.5))) is float
    assert type(_Normalize(np.str_('a'))) is str
    with pytest.raises(LiteralError):
        _Normalize(np.zeros(2))
    with pytest.raises(LiteralError):
        _Normalize(np.int64(2))


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c.append(1),
        lambda c: c.extend([1]),
        lambda c: c.insert(0, 1),
        lambda c: c.pop(),
        lambda c: c.clear(),
        lambda c: c.sort(),
        lambda c: c.reverse(),
        lambda c: c.remove(1),
        lambda c: c.update({'a': 1}),
        lambda c: c.setdefault('a', 1),
        lambda c: c.popitem(),
        lambda c: c.__setitem__(0, 1),
        lambda c: c.__delitem__(0),
        lambda c: c.__iadd__([1]),
        lambda c: c.__imul__(2),
        lambda c: c.__ior__({}),
    ],
)
@pytest.mark.parametrize('value', [[3, 1], {0: 3}])
def test_containers_change_as_a_whole_only(change, value):
    kept = _Normalize(value)
    with pytest.raises((TypeError, AttributeError)):
        change(kept)
    assert kept == value


def test_fixed_containers_copy_and_pickle():
    kept = _Normalize([{'a': [1]}])
    for again in (copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert again == kept
    assert type(kept + [1]) is list
    assert kept + [1] == [{'a': [1]}, 1]


@pytest.mark.parametrize(
    ('path', 'parts'),
    [
        ('a', (('a', ()),)),
        ('a.b_2', (('a', ()), ('b_2', ()))),
        ('a[0].b', (('a', (0,)), ('b', ()))),
        ("a['x.y']['it\\'s'][-3].b", (('a', ('x.y', "it's", -3)), ('b', ()))),
        ('a["x: ]["].b', (('a', ('x: ][',)), ('b', ()))),
    ],
)
def test_split_path(path, parts):
    assert literals.SplitPath(path) == parts


@pytest.mark.parametrize(
    'path',
    ['', '.', 'a.', '.a', 'a..b', 'A', 'a b', 'a[', 'a[]', 'a[x]', 'a[01]', 'a[0]b', '_a', None],
)
def test_what_is_no_path(path):
    with pytest.raises(LiteralError, match='is no path'):
        literals.SplitPath(path)


def test_a_long_text_that_is_no_path_is_refused_at_once():
    """The grammar must not backtrack through all ways to cut a name in pieces."""
    with pytest.raises(LiteralError):
        literals.SplitPath('a' * 5000 + '!')


@pytest.fixture(scope='module')
def tf():
    return pytest.importorskip('tensorflow')


def test_dtypes(tf):
    for dtype in (tf.float32, tf.bfloat16, tf.int64, tf.string, tf.bool, tf.complex64):
        text = literals.Format(_Normalize(dtype))
        assert text == f"dtype('{dtype.name}')"
        assert literals.Parse(text) is dtype


@pytest.mark.parametrize('name', ['keras', 'float', 'float32_ref', '', 'Variable', 'nope'])
def test_no_dtypes(tf, name):
    with pytest.raises(LiteralError, match='no dtype'):
        literals.Parse(f'dtype({name!r})')


def test_tensors_are_refused(tf):
    for value in (tf.constant(1.0), tf.Variable(1.0), tf.nn.relu):
        with pytest.raises(LiteralError):
            _Normalize(value)


def test_a_dtype_without_tensorflow_says_so():
    code = (
        'from lingvo_lite import literals\n'
        'try:\n'
        '    literals.Parse("dtype(\'float32\')")\n'
        'except literals.LiteralError as error:\n'
        '    print(error)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    assert 'cannot be read before TensorFlow is imported' in done.stdout

"""--set and --params_file: values are read by the declared type, all or none are set."""

import enum
import re

import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite import hyperparams, overrides
from lingvo_lite.hyperparams import REQUIRED, ConfigError, InstantiableParams, Params

HERE = __name__


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Layer:
    @classmethod
    def Params(cls):
        p = InstantiableParams(cls)
        p.Define('dim', 1, 'Width.')
        return p


class Conv(Layer):
    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('width', 3, 'Width of the kernel.')
        return p


def _Params():
    p = Params().SetLabel('mt.Wmt')
    p.Define('rate', 0.1, 'A float.')
    p.Define('steps', 10, 'An int.')
    p.Define('on', True, 'A bool.')
    p.Define('name', 'n', 'A str.')
    p.Define('note', None, 'A str or None.', type=str)
    p.Define('needed', REQUIRED, 'A str.', type=str)
    p.Define('dims', [1, 2], 'A list.')
    p.Define('table', {}, 'A dict.')
    p.Define('color', Color.RED, 'An enum.')
    p.Define('anything', None, 'Anything.', type=object)
    p.Define('kind', Layer, 'A class.', bound=Layer)
    p.Define('encoder', Layer.Params(), 'A template.')
    p.Define('decoder', None, 'A template or None.', type=Params, bound=Layer)
    p.Define('layers', [Layer.Params()], 'Templates.', bound=Layer)
    p.Define('heads', {'a=b': Layer.Params()}, 'Templates by name.', bound=Layer)
    return p


@pytest.mark.parametrize(
    ('setting', 'value'),
    [
        ('rate=3', 3.0),
        ('rate=-1e-3', -0.001),
        ("rate=float('inf')", float('inf')),
        ('steps=1_000', 1000),
        (' steps = 4 ', 4),
        ('on=False', False),
        ('name=', ''),
        ('name= a=b, "c" ', ' a=b, "c" '),
        ('name=3', '3'),
        ('name=None', 'None'),
        ('name=line\nline', 'line\nline'),
        ('note=None', None),
        ('note=3', '3'),
        ('needed=None', 'None'),
        ('dims=[3, 4]', [3, 4]),
        ('dims=(3,)', [3]),
        ("table={'a': [1, None]}", {'a': [1, None]}),
        ('color=BLUE', Color.BLUE),
        (f"color=enum('{HERE}.Color.BLUE')", Color.BLUE),
        ('anything=3', 3),
        ("anything='fast'", 'fast'),
        (f'kind={HERE}.Conv', Conv),
        (f"kind=type('{HERE}.Conv')", Conv),
        ('layers[0].dim=5', 5),
        ("heads['a=b'].dim=5", 5),
        ('decoder=None', None),
    ],
)
def test_values_are_read_by_the_declared_type(setting, value):
    p = _Params()
    overrides.Apply(p, [setting])
    got = p.Get(re.match(r'\s*([a-z]+(\[.*\])?(\.\w+)?)\s*=', setting)[1])
    assert got == value and isinstance(got, type(value))


@pytest.mark.parametrize(
    ('setting', 'text'),
    [
        ('rate=fast', "mt.Wmt: rate expects float, got 'fast' (str). Set by --set, argument 1."),
        ('steps=0.5', 'mt.Wmt: steps expects int, got 0.5 (float). Set by --set, argument 1.'),
        ('steps=', "mt.Wmt: steps expects int, got '' (str). Set by --set, argument 1."),
        ('steps=None', 'mt.Wmt: steps expects int, got None. Set by --set, argument 1.'),
        (
            'on=true',
            "mt.Wmt: on expects bool, got 'true' (str). Write True or False. "
            'Set by --set, argument 1.',
        ),
        ('on=1', 'mt.Wmt: on expects bool, got 1 (int). Write True'),
        ('dims=[3', "mt.Wmt: dims expects list, got '[3' (str). Set by --set, argument 1."),
        ('color=GREEN', "mt.Wmt: color expects Color, got 'GREEN' (str)."),
        ('anything=fast', "mt.Wmt: anything: 'fast' is no literal (a str stands in quotes)."),
        (
            'encoder.dims=3',
            "mt.Wmt: encoder has no param 'dims'. Did you mean 'dim'? (from --set, argument 1)",
        ),
        ('stepz=3', "mt.Wmt has no param 'stepz'. Did you mean 'steps'"),
        ('steps', "'steps' is not in the form key=value (from --set, argument 1)."),
        ('=3', "'=3' is not in the form key=value"),
        ('steps:3', "'steps:3' is not in the form key=value"),
        ('layers[0]=None', 'set the whole container'),
        ('layers[3].dim=1', 'There is no mt.Wmt: layers[3]. (from --set, argument 1)'),
        ('encoder=', "mt.Wmt: encoder expects Params, got '' (str)."),
        ('encoder=None', 'mt.Wmt: encoder expects Params, got None.'),
        ('encoder=3', 'mt.Wmt: encoder expects Params, got 3 (int).'),
        ('encoder=os.system', "mt.Wmt: encoder: module os has no class 'system'. Set by --set,"),
        ('encoder=subprocess.Popen', 'Popen is no subclass of'),
        ('encoder=no.such.Layer', "class 'no.such.Layer' is in no imported module"),
        ("encoder=params('os.system')", "module os has no class 'system'"),
        ("encoder=os.system('true')", 'text is never executed'),
        ('kind=subprocess.Popen', 'Popen is no subclass of'),
        ('kind=os.system', "module os has no class 'system'"),
        ("rate=__import__('os').getpid()", 'text is never executed'),
    ],
)
def test_errors_say_what_where_and_which_argument(setting, text):
    p = _Params()
    before = p.ToText()
    with pytest.raises(ConfigError) as caught:
        overrides.Apply(p, [setting])
    assert text in str(caught.value)
    assert p.ToText() == before


def test_a_class_is_swapped_and_its_params_set_after_it():
    p = _Params()
    overrides.Apply(p, [f'encoder={HERE}.Conv', 'encoder.width=7', f'decoder={HERE}.Layer'])
    assert p.encoder.cls is Conv and p.encoder.width == 7
    assert p.decoder.cls is Layer
    overrides.Apply(p, [f"layers=[params('{HERE}.Conv'), params('{HERE}.Layer')]"])
    assert [layer.cls for layer in p.layers] == [Conv, Layer]


def test_settings_are_applied_in_order_and_all_or_none():
    p = _Params()
    overrides.Apply(p, ['steps=1', 'steps=2'])
    assert p.steps == 2
    before, source = p.ToText(), p.Source('steps')
    with pytest.raises(ConfigError, match=r'\(from --set, argument 3\)'):
        overrides.Apply(p, ['steps=3', f'encoder={HERE}.Conv', 'nope=1', 'name=x'])
    assert (p.ToText(), p.Source('steps')) == (before, source)


def test_provenance():
    p = _Params()
    overrides.Apply(p, ['name=x', 'steps=3'])
    assert p.Source('steps') == '--set, argument 2'
    overrides.Apply(p, ['steps=3'], flag='--override', first=7)
    assert p.Source('steps') == '--override, argument 7'


def test_frozen_params_cannot_be_overridden():
    p = _Params().Freeze()
    with pytest.raises(hyperparams.FrozenError, match='Set by --set, argument 1'):
        overrides.Apply(p, ['steps=3'])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(),
            st.builds(
                '{}={}'.format,
                st.sampled_from([*_Params().GetKeys(), 'encoder.dim', 'layers[0].dim', 'nope']),
                st.one_of(st.text(), st.text('()[]{}\'",:.-+ \\019eExjaNonetypeparams')),
            ),
        ),
        max_size=3,
    )
)
def test_arbitrary_settings_set_all_or_nothing(given_settings):
    p = _Params()
    before = p.ToText()
    try:
        overrides.Apply(p, given_settings)
    except ConfigError:
        assert p.ToText() == before
    else:
        assert _Params().FromText(p.ToText()) == p


# --params_file.


def test_params_file(tmp_path):
    file = tmp_path / 'change.txt'
    file.write_text(f"# Mine.\nencoder.width : 5\nencoder : params('{HERE}.Conv')\nname : 'ä'\n")
    p = _Params()
    overrides.ApplyFile(p, str(file))
    assert (p.encoder.width, p.name) == (5, 'ä')
    assert p.Source('encoder.width') == f'{file}:2'


def test_what_one_configuration_writes_is_a_params_file_of_the_next(tmp_path):
    p = _Params()
    overrides.Apply(p, [f'encoder={HERE}.Conv', 'encoder.width=9', 'color=BLUE'])
    file = tmp_path / 'params.txt'
    file.write_text(p.ToText(), encoding='utf-8')
    q = _Params()
    overrides.ApplyFile(q, str(file))
    assert q == p


def test_a_missing_params_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=f'--params_file: there is no file {tmp_path}/nope.txt.'):
        overrides.ApplyFile(_Params(), str(tmp_path / 'nope.txt'))
    with pytest.raises(ConfigError, match='there is no file'):
        overrides.ApplyFile(_Params(), str(tmp_path))


def test_a_params_file_that_is_not_utf_8(tmp_path):
    file = tmp_path / 'latin.txt'
    file.write_bytes(b"name : '\xe4'\n")
    with pytest.raises(ConfigError, match=f'--params_file: {file} cannot be read'):
        overrides.ApplyFile(_Params(), str(file))


def test_a_bad_line_names_file_and_line_and_nothing_is_set(tmp_path):
    file = tmp_path / 'change.txt'
    file.write_text("name : 'new'\nsteps : 0.5\n")
    p = _Params()
    with pytest.raises(ConfigError) as caught:
        overrides.ApplyFile(p, str(file))
    assert str(caught.value) == (f'mt.Wmt: steps expects int, got 0.5 (float). Set at {file}:2.')
    assert p.name == 'n'


def test_dtypes_are_read_by_name():
    tf = pytest.importorskip('tensorflow')
    p = Params()
    p.Define('dtype', None, 'A dtype.', type=tf.DType)
    for text, value in [
        ('bfloat16', tf.bfloat16),
        ("dtype('float16')", tf.float16),
        ('None', None),
    ]:
        overrides.Apply(p, [f'dtype={text}'])
        assert p.dtype is value
    with pytest.raises(ConfigError, match="dtype: TensorFlow has no dtype 'keras'. Set by --set"):
        overrides.Apply(p, ['dtype=keras'])

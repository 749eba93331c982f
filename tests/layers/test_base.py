"""BaseLayer: creation, paths, inheritance, sharing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers import base, linear
from lingvo_lite.layers.initializers import WeightInit


def _Linear(**kwargs):
    return linear.Linear.Params().Set(input_dim=3, output_dim=2, **kwargs)


class _Statistics(base.BaseLayer):
    """Has a variable that is not trained."""

    def __init__(self, params):
        super().__init__(params)
        zero = WeightInit.Constant(0.0)
        self.CreateVariable('mean', base.Weight([3], init=zero, trainable=False))
        self.CreateVariable('scale', base.Weight([3], regularize=False))

    def FProp(self, x):
        return (x - self.theta.mean) * self.theta.scale


class _Parent(base.BaseLayer):
    """Children of every kind."""

    def __init__(self, params):
        super().__init__(params)
        self.CreateChild('first', _Linear())
        self.CreateChildren('more', [_Linear(use_bias=False), _Linear(random_seed=9)])
        self.CreateChild('statistics', _Statistics.Params())
        self.ShareChild('again', self.first)
        self.CreateVariable('gain', base.Weight([2]))

    def FProp(self, x):
        x = self.statistics(x)
        return (self.first(x) + self.again(x) + self.more[0](x)) * self.theta.gain


class TestCreation:
    def test_paths(self):
        layer = _Parent.Params().Instantiate()
        assert layer.path == ''
        assert layer.more[1].path == 'more_1'
        assert list(layer.AllVariables()) == [
            'first/b',
            'first/w',
            'gain',
            'more_0/w',
            'more_1/b',
            'more_1/w',
            'statistics/mean',
            'statistics/scale',
        ]

    def test_a_shared_child_is_counted_where_it_was_created(self):
        layer = _Parent.Params().Instantiate()
        assert layer.again is layer.first and layer.again.path == 'first'
        assert layer.NumParameters() == 8 + 6 + 8 + 3 + 2

    def test_kinds_of_variables(self):
        layer = _Parent.Params().Instantiate()
        everything = set(layer.AllVariables())
        assert set(layer.TrainableVariables()) == everything - {'statistics/mean'}
        unregularized = {'first/b', 'more_1/b', 'statistics/scale', 'statistics/mean'}
        assert layer.RegularizedPaths() == everything - unregularized
        assert not layer.statistics.vars.mean.trainable

    def test_names_of_tensorflow_variables_have_no_slash(self):
        for path, variable in _Parent.Params().Instantiate().AllVariables().items():
            assert variable.name == path.replace('/', '_') + ':0'

    def test_nothing_is_created_after_init(self):
        layer = _Parent.Params().Instantiate()
        for create in (
            lambda: layer.CreateChild('late', _Linear()),
            lambda: layer.CreateChildren('late', [_Linear()]),
            lambda: layer.CreateVariable('late', base.Weight([1])),
            lambda: layer.ShareChild('late', layer.first),
        ):
            with pytest.raises(RuntimeError, match="'late' is created after __init__"):
                create()

    def test_a_subclass_creates_more_in_its_own_init(self):
        class Child(_Parent):
            def __init__(self, params):
                super().__init__(params)
                self.CreateChild('last', _Linear())

        layer = Child.Params().Instantiate()
        assert 'last/w' in layer.AllVariables()
        with pytest.raises(RuntimeError):
            layer.CreateChild('late', _Linear())

    @pytest.mark.parametrize('many', [False, True])
    def test_a_layer_as_an_attribute_is_an_error(self, many):
        class Wrong(base.BaseLayer):
            def __init__(self, params):
                super().__init__(params)
                child = _Linear().Instantiate()
                self.child = [child] if many else child

        with pytest.raises(TypeError, match=r'Wrong.child: a layer is created with self.CreateChi'):
            Wrong.Params().Instantiate()

    @pytest.mark.parametrize('first', ['CreateChild', 'CreateVariable'])
    @pytest.mark.parametrize('second', ['CreateChild', 'CreateVariable'])
    def test_a_name_is_given_once(self, first, second):
        class Twice(base.BaseLayer):
            def __init__(self, params):
                super().__init__(params)
                for how in (first, second):
                    what = _Linear() if how == 'CreateChild' else base.Weight([1])
                    getattr(self, how)('same', what)

        with pytest.raises(ValueError, match="already has a 'same'"):
            Twice.Params().Instantiate()

    @pytest.mark.parametrize('name', ['Upper', 'a/b', 'a.b', '0', '_a', ''])
    def test_names_are_lower_case_identifiers(self, name):
        class Named(base.BaseLayer):
            def __init__(self, params):
                super().__init__(params)
                self.CreateVariable(name, base.Weight([1]))

        with pytest.raises(ValueError, match='is no name for'):
            Named.Params().Instantiate()

    def test_a_child_is_made_of_the_params_of_a_layer(self):
        class Wrong(base.BaseLayer):
            def __init__(self, params):
                super().__init__(params)
                self.CreateChild('child', hyperparams.Params())

        with pytest.raises(TypeError, match='child: Params of a layer are wanted'):
            Wrong.Params().Instantiate()

    def test_a_childs_missing_params_are_named_with_its_path(self):
        class Grandparent(base.BaseLayer):
            def __init__(self, params):
                super().__init__(params)
                self.CreateChild('child', linear.Linear.Params().Set(input_dim=1))

        wanted = r'1 param must be set before child can be built: output_dim \(int\)'
        with pytest.raises(hyperparams.ConfigError, match=wanted):
            Grandparent.Params().Instantiate()

    @pytest.mark.parametrize('shape', [[-1], [2, None], [1.5], [True]])
    def test_shapes_that_cannot_be(self, shape):
        with pytest.raises(hyperparams.ConfigError, match='cannot be'):
            base.Weight(shape)

    def test_a_child_takes_arguments_beside_its_params(self):
        class Taking(base.BaseLayer):
            def __init__(self, params, other):
                super().__init__(params)
                self.ShareChild('other', other)

        class Giving(base.BaseLayer):
            def __init__(self, params):
                super().__init__(params)
                self.CreateChild('a', _Linear())
                self.CreateChild('b', Taking.Params(), other=self.a)

        layer = Giving.Params().Instantiate()
        assert layer.b.other is layer.a

    def test_params_are_frozen(self):
        layer = _Linear().Instantiate()
        with pytest.raises(hyperparams.ConfigError):
            layer.params.use_bias = False


class TestInheritance:
    def test_children_take_what_they_do_not_set(self):
        init = WeightInit.Constant(0.5)
        p = _Parent.Params().Set(fprop_dtype=tf.bfloat16, params_init=init, random_seed=4)
        layer = p.Instantiate()
        assert layer.first.dtype == layer.more[0].dtype == tf.bfloat16
        assert np.all(layer.first.vars.w.numpy() == 0.5)
        assert layer.first.params.random_seed == 4
        assert layer.more[1].params.random_seed == 9

    def test_the_root_has_defaults(self):
        layer = _Parent.Params().Instantiate()
        assert layer.first.dtype == tf.float32
        assert np.abs(layer.first.vars.w.numpy()).max() <= np.sqrt(6 / 5)
        assert layer.first.vars.w.numpy().std() > 0

    def test_initial_values_depend_on_seed_and_path_alone(self):
        class Longer(base.BaseLayer):
            """Has a variable in front of the child that _Parent has too."""

            def __init__(self, params):
                super().__init__(params)
                self.CreateVariable('other', base.Weight([7]))
                self.CreateChild('first', _Linear())

        def Value(cls, seed):
            return cls.Params().Set(random_seed=seed).Instantiate().first.vars.w.numpy()

        np.testing.assert_array_equal(Value(Longer, 3), Value(_Parent, 3))
        assert not np.array_equal(Value(_Parent, 3), Value(_Parent, 4))

    def test_a_replica_strategy_gives_the_same_initial_values(self, two_replicas):
        with two_replicas.scope():
            mirrored = _Linear().Instantiate()
        np.testing.assert_array_equal(
            mirrored.vars.w.numpy(), _Linear().Instantiate().vars.w.numpy()
        )


class TestShapesOnly:
    def test_nothing_is_allocated(self):
        with base.ShapesOnly():
            layer = linear.Linear.Params().Set(input_dim=10**7, output_dim=10**7).Instantiate()
        assert layer.NumParameters() == 10**14 + 10**7
        assert layer.AllVariables() == {}
        with pytest.raises(AttributeError, match='built under ShapesOnly'):
            layer.vars.w  # noqa: B018

    def test_it_ends(self):
        with pytest.raises(KeyError), base.ShapesOnly():
            raise KeyError
        assert _Linear().Instantiate().AllVariables()


class TestFProp:
    def test_there_is_none_by_default(self, inference_step):
        with pytest.raises(NotImplementedError, match='BaseLayer has no FProp'):
            base.BaseLayer.Params().Instantiate()()

    def test_a_call_is_fprop(self, inference_step):
        layer = _Parent.Params().Instantiate()
        x = tf.ones([2, 3])
        np.testing.assert_array_equal(layer(x), layer.FProp(x))

    def test_the_observer_sees_all_layers_in_forward_order(self):
        layer = _Parent.Params().Instantiate()
        seen = []

        def Observe(path, outputs):
            seen.append(path)
            return outputs

        with step.Context(training=False, observer=Observe):
            layer(tf.ones([2, 3]))
        assert seen == ['statistics', 'first', 'first', 'more_0', '']

    def test_what_the_observer_returns_counts(self):
        layer = _Parent.Params().Instantiate()

        def Zero(path, outputs):
            return tf.zeros_like(outputs) if path == 'statistics' else outputs

        layer.first.vars.b.assign(tf.zeros([2]))
        with step.Context(training=False, observer=Zero):
            assert np.all(layer(tf.ones([2, 3])) == 0)

    def test_ops_are_named_after_their_layer(self):
        layer = _Parent.Params().Instantiate()

        @tf.function(autograph=False)
        def Run(x):
            with step.Context(training=False):
                return layer(x)

        graph = Run.get_concrete_function(tf.TensorSpec([2, 3])).graph
        names = [op.name for op in graph.get_operations() if op.type == 'MatMul']
        assert [name.split('/')[-2] for name in names] == ['first', 'first_1', 'more_0']

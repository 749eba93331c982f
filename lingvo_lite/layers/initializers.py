"""WeightInit: how a variable gets its first value.

    p.params_init = WeightInit.Xavier()

A variable's first value depends on the run's seed and the variable's path alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Callable

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import Self

_SQRT3 = math.sqrt(3.0)
_Draw = Callable[[list[int], float, tf.Tensor], tf.Tensor]  # of shape, scale and key


class WeightInit:
    """Makes Params of (method, scale). Each method documents its distribution.

    `fan_in` and `fan_out` are the sizes of the last two axes times the product of the others
    (the receptive field of a convolution); a vector counts as [size, 1] for fan_in.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of Xavier; the methods below set others."""
        p = hyperparams.InstantiableParams(cls)
        methods = sorted(_METHODS)
        p.Define('method', 'xavier', 'Distribution of the initial values.', choices=methods)
        p.Define('scale', 1.0, 'Its scale; see the method.')
        return p

    @classmethod
    def _Params(cls, method: str, scale: float) -> hyperparams.Params:
        p: hyperparams.Params = cls.Params().Set(method=method, scale=float(scale))
        return p

    @classmethod
    def Gaussian(cls, scale: float = 1.0) -> hyperparams.Params:
        """N(0, scale^2)."""
        return cls._Params('gaussian', scale)

    @classmethod
    def Uniform(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(-scale, scale)."""
        return cls._Params('uniform', scale)

    @classmethod
    def UniformPositive(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(0, scale)."""
        return cls._Params('uniform_positive', scale)

    @classmethod
    def Category(cls, num: int) -> hyperparams.Params:
        """Uniform over the whole numbers 0 .. num - 1."""
        return cls._Params('category', num)

    @classmethod
    def Constant(cls, scale: float = 0.0) -> hyperparams.Params:
        """The constant `scale`."""
        return cls._Params('constant', scale)

    @classmethod
    def Xavier(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(-a, a), a = scale * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
        return cls._Params('xavier', scale)

    @classmethod
    def XavierWithFixupParams(
        cls, scale: float = 1.0, depth: float = 1.0, layers_per_residual_block: float = 1.0
    ) -> hyperparams.Params:
        """Xavier scaled by depth^(-1 / (2 * layers_per_residual_block)) (arXiv 1901.09321)."""
        return cls._Params('xavier', scale * depth ** (-1.0 / (2 * layers_per_residual_block)))

    @classmethod
    def GeoMeanXavier(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(-a, a), a = scale * sqrt(3 / sqrt(fan_in * fan_out))."""
        return cls._Params('geo_mean_xavier', scale)

    @classmethod
    def TruncatedGaussian(cls, scale: float = 1.0) -> hyperparams.Params:
        """N(0, scale^2), drawn again beyond two standard deviations."""
        return cls._Params('truncated_gaussian', scale)

    @classmethod
    def GaussianSqrtDim(cls, scale: float = 1.0) -> hyperparams.Params:
        """N(0, scale^2 / dim0), dim0 the first axis."""
        return cls._Params('gaussian_sqrt_dim', scale)

    @classmethod
    def GaussianSqrtFanIn(cls, scale: float = 1.0) -> hyperparams.Params:
        """N(0, scale^2 / fan_in)."""
        return cls._Params('gaussian_sqrt_fanin', scale)

    @classmethod
    def GaussianSqrtFanOut(cls, scale: float = 1.0) -> hyperparams.Params:
        """N(0, scale^2 / fan_out)."""
        return cls._Params('gaussian_sqrt_fanout', scale)

    @classmethod
    def GaussianSqrtFanAvg(cls, scale: float = 1.0) -> hyperparams.Params:
        """N(0, 2 scale^2 / (fan_in + fan_out))."""
        return cls._Params('gaussian_sqrt_fanavg', scale)

    @classmethod
    def UniformSqrtDim(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(-a, a), a = scale / sqrt(dim0), dim0 the first axis."""
        return cls._Params('uniform_sqrt_dim', scale)

    @classmethod
    def UniformUnitScaling(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(-a, a), a = scale * sqrt(3 / size), size the product of all axes but the last."""
        return cls._Params('uniform_unit_scaling', scale)

    @classmethod
    def UniformUnitScalingFanAvg(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(-a, a), a = sqrt(6 scale / (fan_in + fan_out))."""
        return cls._Params('uniform_unit_scaling_fan_avg', scale)

    @classmethod
    def TruncatedGaussianSqrtDim(cls, scale: float = 1.0) -> hyperparams.Params:
        """Truncated N(0, scale^2 / dim0)."""
        return cls._Params('truncated_gaussian_sqrt_dim', scale)

    @classmethod
    def TruncatedGaussianSqrtFanIn(cls, scale: float = 1.0) -> hyperparams.Params:
        """Truncated N(0, scale^2 / fan_in)."""
        return cls._Params('truncated_gaussian_sqrt_fanin', scale)

    @classmethod
    def TruncatedGaussianSqrtFanOut(cls, scale: float = 1.0) -> hyperparams.Params:
        """Truncated N(0, scale^2 / fan_out)."""
        return cls._Params('truncated_gaussian_sqrt_fanout', scale)

    @classmethod
    def KaimingUniformFanInRelu(cls, scale: float = 1.0) -> hyperparams.Params:
        """U(-a, a), a = scale * sqrt(6 / fan_in) (arXiv 1502.01852)."""
        return cls._Params('kaiming_uniform_fanin_relu', scale)

    @classmethod
    def KaimingUniformFanInLeakyRelu(cls, scale: float = math.sqrt(5.0)) -> hyperparams.Params:
        """U(-a, a), a = sqrt(2 / (1 + scale^2)) * sqrt(3 / fan_in); `scale` is the slope."""
        return cls._Params('kaiming_uniform_fanin_leakyrelu', scale)

    @classmethod
    def ScaledDeltaOrthogonal(cls, scale: float = 1.0) -> hyperparams.Params:
        """An orthogonal matrix times scale at the centre of the kernel, zero elsewhere.

        (arXiv 1806.05393.) Needs fan_in <= fan_out of the last two axes.
        """
        return cls._Params('delta_orthogonal', scale)


def InitialValue(init: hyperparams.Params, shape: Sequence[int], path: str, seed: int) -> tf.Tensor:
    """The first value of the variable at `path`: float32 of `shape`."""
    shape = [int(n) for n in shape]
    keys = tf.constant(step.InitSeed(path, seed), tf.int32)
    return tf.cast(_METHODS[init.method](shape, init.scale, keys), tf.float32)


def Fans(shape: Sequence[int]) -> tuple[float, float]:
    """(fan_in, fan_out) of a variable of this shape."""
    if len(shape) < 1:
        return 1.0, 1.0
    if len(shape) == 1:
        return float(shape[0]), 1.0
    field = math.prod(shape[:-2])
    return float(shape[-2] * field), float(shape[-1] * field)


def _Normal(scale: Callable[[list[int]], float]) -> _Draw:
    def Draw(shape: list[int], factor: float, keys: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal(shape, keys) * factor * scale(shape)

    return Draw


def _Truncated(scale: Callable[[list[int]], float]) -> _Draw:
    def Draw(shape: list[int], factor: float, keys: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_truncated_normal(shape, keys) * factor * scale(shape)

    return Draw


def _Symmetric(limit: Callable[[list[int], float], float]) -> _Draw:
    def Draw(shape: list[int], factor: float, keys: tf.Tensor) -> tf.Tensor:
        a = limit(shape, factor)
        return tf.random.stateless_uniform(shape, keys, -a, a)

    return Draw


def _One(shape: list[int]) -> float:
    return 1.0


def _Dim0(shape: list[int]) -> float:
    return 1.0 / math.sqrt(shape[0] if shape else 1)


def _FanIn(shape: list[int]) -> float:
    return 1.0 / math.sqrt(Fans(shape)[0])


def _FanOut(shape: list[int]) -> float:
    return 1.0 / math.sqrt(Fans(shape)[1])


def _FanAvg(shape: list[int]) -> float:
    return math.sqrt(2.0 / sum(Fans(shape)))


def _DeltaOrthogonal(shape: list[int], scale: float, keys: tf.Tensor) -> tf.Tensor:
    if len(shape) < 2 or shape[-2] > shape[-1]:
        raise hyperparams.ConfigError(
            f'ScaledDeltaOrthogonal needs [..., in, out] with in <= out, got {shape}.'
        )
    draw = tf.random.stateless_normal([shape[-1], shape[-1]], keys)
    q, r = tf.linalg.qr(draw)
    q = q * tf.sign(tf.linalg.diag_part(r))
    center = [n // 2 for n in shape[:-2]]
    kernel = tf.zeros(shape)
    # [in, out] at the centre of the receptive field
    return tf.tensor_scatter_nd_update(
        tf.reshape(kernel, [-1, shape[-2], shape[-1]]),
        [[int(sum(c * math.prod(shape[i + 1 : -2]) for i, c in enumerate(center)))]],
        [q[: shape[-2]] * scale],
    ).numpy().reshape(shape)  # fmt: skip


_METHODS: dict[str, _Draw] = {
    'gaussian': _Normal(_One),
    'gaussian_sqrt_dim': _Normal(_Dim0),
    'gaussian_sqrt_fanin': _Normal(_FanIn),
    'gaussian_sqrt_fanout': _Normal(_FanOut),
    'gaussian_sqrt_fanavg': _Normal(_FanAvg),
    'truncated_gaussian': _Truncated(_One),
    'truncated_gaussian_sqrt_dim': _Truncated(_Dim0),
    'truncated_gaussian_sqrt_fanin': _Truncated(_FanIn),
    'truncated_gaussian_sqrt_fanout': _Truncated(_FanOut),
    'uniform': _Symmetric(lambda shape, scale: scale),
    'uniform_positive': lambda shape, scale, keys: tf.random.stateless_uniform(
        shape, keys, 0.0, scale
    ),
    'category': lambda shape, scale, keys: tf.random.stateless_uniform(
        shape, keys, 0, int(scale), tf.int32
    ),
    'constant': lambda shape, scale, keys: tf.fill(shape, scale),
    'xavier': _Symmetric(lambda shape, scale: scale * math.sqrt(6.0 / sum(Fans(shape)))),
    'geo_mean_xavier': _Symmetric(
        lambda shape, scale: scale * math.sqrt(3.0 / math.sqrt(math.prod(Fans(shape))))
    ),
    'uniform_sqrt_dim': _Symmetric(lambda shape, scale: scale * _Dim0(shape)),
    'uniform_unit_scaling': _Symmetric(
        lambda shape, scale: scale * _SQRT3 / math.sqrt(max(1, math.prod(shape[:-1])))
    ),
    'uniform_unit_scaling_fan_avg': _Symmetric(
        lambda shape, scale: math.sqrt(6.0 * scale / sum(Fans(shape)))
    ),
    'kaiming_uniform_fanin_relu': _Symmetric(
        lambda shape, scale: scale * math.sqrt(6.0) * _FanIn(shape)
    ),
    'kaiming_uniform_fanin_leakyrelu': _Symmetric(
        lambda shape, scale: math.sqrt(2.0 / (1.0 + scale**2)) * _SQRT3 * _FanIn(shape)
    ),
    'delta_orthogonal': _DeltaOrthogonal,
}

"""The choice of precision, and what it computes."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.optim import loss_scale_optimizer
from lingvo_lite.training import precision


@pytest.fixture
def machine(monkeypatch):
    """Sets what the machine seems to have."""

    def Set(gpus=0, flags=()):
        def Devices(kind):
            return ['GPU:0'] * gpus if kind == 'GPU' else []

        monkeypatch.setattr(tf.config, 'get_visible_devices', Devices)
        monkeypatch.setattr(precision, '_CpuFlags', lambda: set(flags))
        monkeypatch.delenv('TF_ENABLE_ONEDNN_OPTS', raising=False)

    return Set


@pytest.mark.parametrize(
    ('gpus', 'flags', 'policy', 'why'),
    [
        (1, ['amx_bf16'], 'mixed_float16', '1 GPU'),
        (0, ['avx2', 'avx512_bf16'], 'mixed_bfloat16', 'avx512_bf16'),
        (0, ['amx_bf16'], 'mixed_bfloat16', 'amx_bf16'),
        (0, ['avx512f'], 'float32', 'no bfloat16'),
    ],
)
def test_auto_takes_what_the_machine_is_good_at(tiny, machine, gpus, flags, policy, why):
    machine(gpus, flags)
    resolved = precision.Resolve(tiny.Params())
    assert resolved.policy == policy
    assert why in resolved.why


def test_auto_is_float32_where_onednn_is_off(tiny, machine, monkeypatch):
    machine(flags=['avx512_bf16'])
    monkeypatch.setenv('TF_ENABLE_ONEDNN_OPTS', '0')
    assert precision.Resolve(tiny.Params()).policy == 'float32'


def test_what_is_set_stays(tiny, machine):
    machine(gpus=1)
    p = tiny.Params(**{'train.precision': 'mixed_bfloat16'})
    assert precision.Resolve(p)[:2] == ('mixed_bfloat16', tf.bfloat16)
    assert precision.Resolve(tiny.Params(fprop_dtype=tf.bfloat16)).policy == 'mixed_bfloat16'


def test_apply_leaves_no_auto_and_can_be_repeated_elsewhere(tiny, machine):
    machine(flags=['avx512_bf16'])
    p = tiny.Params()
    precision.Apply(p)
    assert (p.train.precision, p.fprop_dtype) == ('mixed_bfloat16', tf.bfloat16)
    machine(gpus=1)
    assert precision.Apply(p).policy == 'mixed_bfloat16'


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            {'fprop_dtype': tf.float32, 'train.precision': 'mixed_float16'},
            "train.precision='mixed_float16' contradicts fprop_dtype=float32",
        ),
        ({'fprop_dtype': tf.float64}, 'is float32, bfloat16 or float16, got float64'),
    ],
)
def test_contradictions_are_errors(tiny, settings, message):
    with pytest.raises(hyperparams.ConfigError, match=message):
        precision.Resolve(tiny.Params(**settings))


def test_flags_are_read_from_cpuinfo(tmp_path):
    (tmp_path / 'cpuinfo').write_text('model name\t: X\nflags\t\t: fpu amx_bf16\n\nflags\t: fpu\n')
    assert precision._CpuFlags(str(tmp_path / 'cpuinfo')) == {'fpu', 'amx_bf16'}
    assert precision._CpuFlags(str(tmp_path / 'missing')) == set()


@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_lower_precision_is_close_to_float32(tiny, dtype):
    wide, narrow = tiny.Learner(tiny.Params()), tiny.Learner(tiny.Params(fprop_dtype=dtype))
    start = tiny.Values(wide.task.AllVariables())
    for seed in range(3):
        losses = [
            each.TrainStep([tiny.Batch(rows=8, seed=seed)]).Read().loss for each in (wide, narrow)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
    for path, variable in wide.task.AllVariables().items():
        assert narrow.task.AllVariables()[path].dtype == tf.float32
        moved = variable.numpy() - start[path]
        difference = narrow.task.AllVariables()[path].numpy() - variable.numpy()
        assert np.linalg.norm(difference) < 0.05 * np.linalg.norm(moved), path
    assert ('loss_scale' in narrow.TrainStep([tiny.Batch()]).Read()) == (dtype == tf.float16)


def test_mixed_float16_trains_by_a_loss_scale_optimizer(tiny, monkeypatch):
    called = collections.Counter()
    for name in ('scale_loss', 'unscale_gradients', 'apply'):
        method = getattr(loss_scale_optimizer.LossScaleOptimizer, name)

        def Counted(self, *args, method=method, name=name, **kwargs):
            called[name] += 1
            return method(self, *args, **kwargs)

        monkeypatch.setattr(loss_scale_optimizer.LossScaleOptimizer, name, Counted)
    p = tiny.Params(**{'train.accumulation': 2, 'train.loss_scale.initial_scale': 64.0})
    for dtype in (tf.float32, tf.bfloat16, tf.float16):
        learner = tiny.Learner(p.Copy().Set(fprop_dtype=dtype))
        assert learner.TrainStep([tiny.Batch()]).Read().finite
        if dtype != tf.float16:
            assert learner.loss_scale_optimizer is None and not called
    optimizer = learner.loss_scale_optimizer
    assert optimizer.inner_optimizers == [group.optimizer for group in learner.groups]
    assert optimizer.dynamic_scale is learner.State()['.loss_scale/scale']
    # A backward pass for each micro-batch and each weight of a term; one update.
    assert called['apply'] == 1 and called['scale_loss'] == 2 * called['unscale_gradients'] > 0


def test_logmax_is_told_the_largest_gradient(tiny):
    settings = {'fprop_dtype': tf.float16, 'train.loss_scale.method': 'logmax'}
    learner = tiny.Learner(tiny.Params(**settings, **{'train.loss_scale.initial_scale': 64.0}))
    before = tiny.Values(learner.task.AllVariables())
    learner.TrainStep([tiny.Batch()])
    after = tiny.Values(learner.task.AllVariables())
    # Plain gradient descent with rate 0.1: the largest change is 0.1 of the largest gradient.
    largest = max(np.abs(after[path] - before[path]).max() for path in before) / 0.1
    mean = learner.State()['.loss_scale/mean'].numpy() / (1 - 0.99)
    assert mean == pytest.approx(np.log2(largest), abs=1e-3)

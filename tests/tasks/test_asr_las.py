"""Listen, Attend and Spell: the published configuration, the decoder's loops, and its search."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers import base, initializers as py_utils
from lingvo_lite.layers.recurrent import attention as recurrent_attention, monotonic_attention
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import schedules as lr_schedule
from lingvo_lite.tasks.asr import decoder, encoder, model, recognizer

# As it was published for Lingvo, word for word.
PUBLISHED = """
p = model.AsrModel.Params()
p.name = 'librispeech'
# Initialize encoder params.
ep = p.encoder
# Data consists 240 dimensional frames (80 x 3 frames), which we re-interpret as individual 80 dimensional frames.
ep.input_shape = [None, None, 80, 1]
ep.lstm_cell_size = 1024
ep.num_lstm_layers = 4
ep.conv_filter_shapes = [(3, 3, 1, 32), (3, 3, 32, 32)]
ep.conv_filter_strides = [(2, 2), (2, 2)]
ep.cnn_tpl.params_init = py_utils.WeightInit.Gaussian(0.001)
# Disable conv LSTM layers.
ep.num_conv_lstm_layers = 0
# Initialize decoder params.
dp = p.decoder
dp.rnn_cell_dim = 1024
dp.rnn_layers = 2
dp.source_dim = 2048
# Use functional while based unrolling.
dp.use_while_loop_based_unrolling = False
tp = p.train
tp.learning_rate = 2.5e-4
tp.lr_schedule = lr_schedule.ContinuousLearningRateSchedule.Params().Set(start_step=50000, half_life_steps=100000, min=0.01)
# dev, devother, test, testother are evaluated completely, train summaries on 5000 examples.
p.eval.samples_per_summary = 5000
p.eval.decoder_samples_per_summary = 0
# Use variational weight noise to prevent overfitting.
p.vn.global_vn = True
p.train.vn_std = 0.075
p.train.vn_start_step = 20000
"""  # noqa: E501
IMPORTS = {'model': model, 'py_utils': py_utils, 'lr_schedule': lr_schedule}

SAMPLES = [3000, 1700, 0, 1]
TARGETS = [[1, 4, 5], [1, 6, 0], [1, 0, 0], [1, 0, 0]]
LABELS = [[4, 5, 2], [6, 2, 0], [0, 0, 0], [2, 0, 0]]
WEIGHTS = [[1.0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]]


def _Published():
    names = dict(IMPORTS)
    exec(PUBLISHED, names)
    return names['p']


def _Small(**kwargs):
    """The published configuration, made small."""
    p = _Published()
    p.random_seed = 3
    p.vn.global_vn = False
    p.encoder.Set(lstm_cell_size=6, num_lstm_layers=2)
    p.encoder.Set(conv_filter_shapes=[(3, 3, 1, 2), (3, 3, 2, 2)])
    p.encoder.cnn_tpl.params_init = py_utils.WeightInit.Xavier()
    p.decoder.Set(rnn_cell_dim=8, source_dim=12, vocab_size=11, emb_dim=4)
    p.decoder.attention.hidden_dim = 5
    return p.Set(**kwargs)


def _Batch(rows=slice(None), samples=3000):
    waveform = 0.1 * np.random.default_rng(0).normal(size=[len(SAMPLES), samples])
    tensor = {
        'waveform': (waveform, tf.float32),
        'num_samples': (SAMPLES, tf.int32),
        'ids': (TARGETS, tf.int32),
        'labels': (LABELS, tf.int32),
        'weights': (WEIGHTS, tf.float32),
    }
    made = {k: tf.constant(np.array(v)[rows], dtype) for k, (v, dtype) in tensor.items()}
    side = lambda *names: NestedMap({name: made[name] for name in names})  # noqa: E731
    return NestedMap(
        id=tf.range(len(SAMPLES))[rows],
        source=side('waveform', 'num_samples'),
        target=side('ids', 'labels', 'weights'),
    )


def _Awake(task):
    """Gives a model outputs that depend on its inputs, which that of its first values hardly do."""
    rng = np.random.default_rng(5)
    for path, variable in task.TrainableVariables().items():
        if path.startswith('decoder') or 'lstm' in path:
            variable.assign(rng.normal(size=variable.shape, scale=0.7))
    return task


@pytest.fixture(scope='module')
def small():
    return _Awake(_Small().Instantiate())


class TestPublished:
    def test_every_line_is_what_it_says(self):
        with base.ShapesOnly():
            task = _Published().Instantiate()
        weights = {path: tuple(w.shape) for path, w in task.Weights().items()}
        wanted = {
            'encoder/conv_0/conv/w': (3, 3, 1, 32),
            'encoder/conv_1/conv/w': (3, 3, 32, 32),
            # 80 frequencies, halved twice, times 32 channels
            'encoder/lstm_0/forward/cell/w': (640, 4096),
            'encoder/lstm_3/backward/cell/w': (2048, 4096),
            'encoder/proj_2/w': (2048, 2048),
            'decoder/rnn_0/w': (96 + 2048, 4096),
            'decoder/rnn_1/w': (1024 + 2048, 4096),
            'decoder/attention/w_source': (2048, 128),
            'decoder/softmax/w': (1024 + 2048, 96),
        }
        assert {path: weights.get(path) for path in wanted} == wanted
        assert not [path for path in weights if 'lstm_4' in path or 'conv_lstm' in path]
        assert not [path for path in weights if 'conv_2' in path or 'rnn_2' in path]
        init = task.Weights()['encoder/conv_0/conv/w'].init
        assert init is None and task.encoder.conv[0].conv.params.params_init == (
            py_utils.WeightInit.Gaussian(0.001)
        )
        assert task.decoder.params.use_while_loop_based_unrolling is False

    def test_the_schedule(self):
        p = _Published()
        schedule = p.train.lr_schedule.Instantiate()
        factors = [float(schedule.Value(n)) for n in (0, 50_000, 150_000, 10_000_000)]
        np.testing.assert_allclose(factors, [1.0, 1.0, 0.5, 0.01], rtol=1e-5)

    def test_the_text_of_its_params_can_be_read_back(self):
        p = _Published()
        text = p.ToText()
        assert model.AsrModel.Params().FromText(text) == p


class TestEncoder:
    def test_stacked_frames_become_frames_again(self):
        x = tf.reshape(tf.range(2 * 3 * 12.0), [2, 3, 12])
        paddings = tf.constant([[0.0, 0, 1], [0, 1, 1]])
        y, padded = encoder.unfold(x, paddings, 4, 1)
        np.testing.assert_array_equal(y[:, :, :, 0], tf.reshape(x, [2, 9, 4]))
        np.testing.assert_array_equal(padded, np.repeat(paddings, 3, axis=1))
        y, padded = encoder.unfold(x, paddings, 4, 3)
        np.testing.assert_array_equal(y[1, 2, :, 1], x[1, 2, 4:8])
        np.testing.assert_array_equal(padded, paddings)
        with pytest.raises(ValueError, match='12 features cannot be 5 frequencies x 1 channels'):
            encoder.unfold(x, paddings, 5, 1)

    def test_frames_are_divided_by_the_strides(self, small, inference_step):
        x, paddings = small.Encode(_Batch())
        # 3000, 1700 and 1 samples are 19, 11 and 1 frames; those are 5, 3 and 1.
        np.testing.assert_array_equal(tf.reduce_sum(1 - paddings, axis=1), [5, 3, 0, 1])
        assert x.shape[2] == small.encoder.output_dim == 12

    @pytest.mark.parametrize(
        ('settings', 'message'),
        [
            (
                {'conv_filter_shapes': [(3, 3, 3, 32), (3, 3, 16, 32)]},
                'takes 16 channels, and gets 32',
            ),
            ({'conv_filter_strides': [(2, 2)]}, '2 conv_filter_shapes need as many'),
            ({'input_shape': [80, 1]}, r'must be \[None, None, frequency, channels\]'),
            ({'num_lstm_layers': 0}, 'num_lstm_layers=0 must be at least 1'),
        ],
    )
    def test_sizes_that_do_not_fit(self, settings, message):
        with pytest.raises(hyperparams.ConfigError, match=message):
            encoder.AsrEncoder.Params().Set(**settings).Instantiate()

    def test_conv_lstms_run_in_both_directions(self):
        p = _Small(**{'encoder.num_conv_lstm_layers': 1})
        task = p.Instantiate()
        x = tf.constant(np.random.default_rng(0).normal(size=[1, 16, 80]).astype(np.float32))
        with step.Context(training=False):
            y, _ = task.encoder(x, tf.zeros([1, 16]))
            late, _ = task.encoder(x + tf.one_hot([15], 16)[:, :, tf.newaxis], tf.zeros([1, 16]))
        assert np.abs(y - late).max(axis=2)[0, 0] > 0
        paths = task.Weights()
        assert paths['encoder/conv_lstm_backward_0/u'].shape == [3, 2, 8]
        assert paths['encoder/conv_lstm_conv_0/conv/w'].shape == (3, 3, 4, 2)


ATTENTIONS = {
    'additive': recurrent_attention.AdditiveAttention.Params(),
    'dot': recurrent_attention.DotAttention.Params(),
    'location': recurrent_attention.LocationSensitiveAttention.Params(),
    'monotonic': monotonic_attention.MonotonicAttention.Params().Set(hard=False),
}


class TestDecoder:
    @pytest.mark.parametrize('kind', ATTENTIONS)
    def test_both_unrollings_are_equal(self, kind):
        """Outputs and the gradients of all variables, with draws of zoneout and dropout on."""
        results = []
        for plain in (True, False):
            p = decoder.AsrDecoder.Params().Set(
                rnn_cell_dim=6, rnn_layers=2, source_dim=5, vocab_size=11, emb_dim=4
            )
            p.Set(attention=ATTENTIONS[kind].Copy().Set(hidden_dim=5), random_seed=2)
            p.Set(use_while_loop_based_unrolling=plain, dropout_prob=0.25)
            p.rnn_cell_tpl.zoneout_prob = 0.25
            layer = p.Instantiate()
            source = tf.constant(np.random.default_rng(1).normal(size=[4, 7, 5]).astype('f'))
            paddings = 1.0 - tf.sequence_mask([7, 3, 0, 1], 7, tf.float32)
            variables = layer.TrainableVariables()

            @tf.function(autograph=False)
            def Run(layer=layer, source=source, paddings=paddings, variables=variables):
                batch = _Batch().target
                with step.Context(training=True, step=1, seed=1), tf.GradientTape() as tape:
                    tape.watch(source)
                    y = layer(batch.ids, source, paddings)
                    loss = layer.softmax(y, batch.labels, batch.weights).loss_sum
                return y, tape.gradient(loss, [source, variables])

            results.append(Run())
        (y, (d_source, d)), (lean_y, (lean_d_source, lean_d)) = results
        np.testing.assert_allclose(lean_y, y, atol=1e-5)
        np.testing.assert_allclose(lean_d_source, d_source, atol=1e-5)
        for path, gradient in d.items():
            assert np.abs(gradient).max() > 0, path
            np.testing.assert_allclose(lean_d[path], gradient, atol=1e-4, err_msg=path)

    def test_steps_are_the_whole(self, small, inference_step):
        batch = _Batch()
        encoded = small.Encode(batch)
        whole, attention = small.decoder(batch.target.ids, *encoded, return_attention=True)
        state = small.decoder.InitStates(*encoded)
        for t in range(3):
            y, state, probs = small.decoder.ExtendStep(batch.target.ids[:, t], state)
            np.testing.assert_allclose(y, whole[:, t], atol=1e-5)
            np.testing.assert_allclose(probs, attention[:, t], atol=1e-5)

    def test_a_token_depends_on_those_before_it_and_on_the_source(self, small, inference_step):
        batch = _Batch()
        x, paddings = small.Encode(batch)
        y = small.decoder(batch.target.ids, x, paddings)
        other = small.decoder(batch.target.ids + [[0, 1, 0]], x, paddings)
        np.testing.assert_array_equal(y[:, 0], other[:, 0])
        assert np.abs(y - other).max(axis=(0, 2))[1:].min() > 1e-3
        assert np.abs(y - small.decoder(batch.target.ids, 2 * x, paddings)).max() > 1e-3


def _Decode(task, batch):
    @tf.function(autograph=False)
    def Run():
        with step.Context(training=False):
            return task.Decode(batch)

    return Run()


class TestJointLoss:
    """Attention and CTC over one encoder (Kim et al., 2017)."""

    def test_it_is_both_in_their_shares(self, inference_step):
        task = _Awake(_Small(ctc_weight=0.3).Instantiate())
        batch = _Batch()
        out = task.ComputeLoss(task.ComputePredictions(batch), batch)
        encoded, paddings = task.Encode(batch)
        y = task.decoder(batch.target.ids, encoded, paddings)
        attention = task.decoder.softmax(y, batch.target.labels, batch.target.weights)
        # By TensorFlow's own loss: rows are 'x y', 'x', (fill), nothing; of 5, 3, 0 and 1 frames.
        logits = tf.transpose(task.ctc_logits(encoded), [1, 0, 2])
        labels, lengths = tf.constant([[4, 5], [6, 0], [0, 0], [0, 0]]), [2, 1, 0, 0]
        ctc = tf.nn.ctc_loss(labels, logits, lengths, [5, 3, 1, 1], blank_index=0).numpy()
        ctc[2] = 0  # no frame
        total, weight = out.terms['attention']
        np.testing.assert_allclose(total, 0.7 * attention.loss_sum, rtol=1e-5)
        assert float(weight) == 6
        total, weight = out.terms['ctc']
        np.testing.assert_allclose(total, 0.3 * ctc.sum(), rtol=1e-4)
        assert float(weight) == 6 and set(out.terms) == {'attention', 'ctc'}
        both = 0.7 * attention.per_example_loss + 0.3 * ctc
        np.testing.assert_allclose(out.per_example['loss'], both, rtol=1e-4)
        np.testing.assert_allclose(out.metrics['ctc_loss'][0], ctc.sum(), rtol=1e-4)
        np.testing.assert_allclose(out.metrics['log_pplx'][0], attention.log_pplx_sum, rtol=1e-5)
        assert [float(x) for x in out.metrics['too_long']] == [0.0, 3.0]

    def test_a_text_too_long_is_left_to_attention(self, inference_step):
        task = _Awake(_Small(ctc_weight=0.3).Instantiate())
        batch = _Batch()
        batch.source.num_samples = tf.constant([1, 1700, 0, 1])  # one frame for two tokens
        out = task.ComputeLoss(task.ComputePredictions(batch), batch)
        assert [float(x) for x in out.metrics['too_long']] == [1.0, 3.0]
        assert float(out.terms['ctc'][1]) == 3 and float(out.terms['attention'][1]) == 6
        assert np.isfinite(out.terms['ctc'][0])

    def test_both_train_the_encoder(self):
        task = _Awake(_Small(ctc_weight=0.5).Instantiate())
        variables, batch = task.TrainableVariables(), _Batch()
        with step.Context(training=True), tf.GradientTape(persistent=True) as tape:
            terms = task.ComputeLoss(task.ComputePredictions(batch), batch).terms
        for name in ('attention', 'ctc'):
            found = tape.gradient(terms[name][0], variables)
            reached = {k for k, v in found.items() if v is not None and np.abs(v).max() > 0}
            parts = {path.split('/')[0] for path in reached}
            assert parts == {'encoder', 'decoder' if name == 'attention' else 'ctc_logits'}

    def test_off_it_creates_nothing(self, small):
        assert not [path for path in small.AllVariables() if 'ctc' in path]
        assert 'ctc' not in small.Weights()

    @pytest.mark.parametrize('weight', [-0.1, 1.0])
    def test_a_share_is_less_than_all(self, weight):
        with pytest.raises(
            hyperparams.ConfigError, match='ctc_weight=.* must be at least 0 and below 1'
        ):
            _Small(ctc_weight=weight).Instantiate()


class TestModel:
    def test_a_fill_row_and_a_single_sample_are_finite(self, small):
        """Also in training, and for gradients; so is an empty text."""
        variables = small.TrainableVariables()
        before = {path: v.numpy() for path, v in small.AllVariables().items()}
        batch = _Batch()
        with step.Context(training=True), tf.GradientTape() as tape:
            out = small.ComputeLoss(small.ComputePredictions(batch), batch)
            loss, weight = out.terms['loss']
        assert float(weight) == 6 and np.isfinite(loss)
        for path, gradient in tape.gradient(loss, variables).items():
            assert np.isfinite(gradient).all(), path
        assert out.per_example['loss'].numpy()[2] == 0
        for path, variable in small.AllVariables().items():
            variable.assign(before[path])  # moving averages

    @pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
    def test_lower_precision_is_close(self, small, dtype):
        """The loss to 1%, and the direction of the gradient, through our backward pass."""
        low = _Awake(_Small(fprop_dtype=dtype).Instantiate())
        batch, results = _Batch(), []
        for task in (small, low):
            variables = {k: v for k, v in task.TrainableVariables().items() if 'decoder' in k}
            with step.Context(training=False):
                encoded = task.Encode(batch)
            with step.Context(training=True), tf.GradientTape() as tape:
                y = task.decoder(batch.target.ids, *encoded)
                out = task.decoder.softmax(y, batch.target.labels, batch.target.weights)
            found = tape.gradient(out.loss_sum, variables)
            flat = np.concatenate([np.ravel(g) for _, g in sorted(found.items())])
            results.append((float(out.loss_sum), flat / np.linalg.norm(flat)))
        (wanted, direction), (loss, other) = results
        assert loss == pytest.approx(wanted, rel=0.01)
        assert direction @ other > 0.99

    def test_an_example_alone_is_as_in_a_batch(self, small, inference_step):
        batch = _Batch()
        whole = small.ComputePredictions(batch).x
        for row, samples in enumerate(SAMPLES):
            if not samples:
                continue
            alone = _Batch(slice(row, row + 1))
            alone.source.waveform = alone.source.waveform[:, :samples]
            found = small.ComputePredictions(alone).x
            np.testing.assert_allclose(found[0], whole[row], atol=1e-4)

    @pytest.mark.parametrize('coverage', [0.0, 0.2])
    def test_hypotheses_do_not_depend_on_the_batch(self, coverage):
        p = _Small()
        p.search.Set(method='beam', beam_size=3, num_hyps=2, coverage_penalty=coverage)
        task = _Awake(p.Instantiate())
        together = _Decode(task, _Batch())
        assert together.lengths.shape == [4, 2]
        assert np.all(np.isneginf(together.scores[2]))
        assert len(np.unique(together.scores.numpy()[[0, 1, 3]])) == 6
        for row in (0, 1, 3):
            alone = _Decode(task, _Batch(slice(row, row + 1)))
            np.testing.assert_allclose(alone.scores[0], together.scores[row], atol=1e-4)
            length = int(together.lengths[row, 0])
            np.testing.assert_array_equal(alone.ids[0, 0, :length], together.ids[row, 0, :length])

    def test_an_ensemble_of_equals_is_one_of_them(self):
        p = _Small()
        tasks = [_Awake(p.Instantiate()) for _ in range(2)]
        batch = _Batch()

        @tf.function(autograph=False)
        def Run():
            with step.Context(training=False):
                return tasks[0].Decode(batch, tasks[1:])

        wanted, found = _Decode(tasks[0], batch), Run()
        np.testing.assert_array_equal(found.ids, wanted.ids)

    def test_records_and_error_rates(self, small):
        class Inputs:
            tokenizer = type(
                'Letters', (), {'Decode': lambda self, rows: [''.join(map(chr, r)) for r in rows]}
            )()

            def Strings(self, example):
                text = {0: 'a cat', 1: 'a dog'}.get(example)
                return NestedMap(source=f'{example}.flac', target=text)

        metrics = small.CreateDecoderMetrics()
        ids = [[list(b'a bat')], [list(b'a dog')], [list(b'what?')]]
        decoded = NestedMap(
            id=np.array([0, 1, 7]),
            ids=np.array(ids),
            lengths=np.array([[5], [5], [5]]),
            scores=np.array([[-1.0], [-0.5], [-np.inf]], np.float32),
        )
        records = small.PostProcessDecodeOut(decoded, Inputs(), metrics)
        assert records[0] == {
            'id': 0,
            'source': '0.flac',
            'reference': 'a cat',
            'hypotheses': ['a bat'],
            'scores': [-1.0],
            'wer_edits': {'hits': 1, 'substitutions': 1, 'deletions': 0, 'insertions': 0},
            'cer_edits': {'hits': 4, 'substitutions': 1, 'deletions': 0, 'insertions': 0},
        }
        assert records[2] == {'id': 7, 'source': '7.flac', 'hypotheses': [], 'scores': []}
        assert metrics['wer'].value == 0.25 and metrics['cer'].value == 0.1

    def test_pictures(self, small, inference_step):
        pictures = small.Summaries(NestedMap(), _Batch())
        assert pictures.attention.shape == [4, 3, 5]
        assert pictures.features.shape == [4, 80, 19]
        np.testing.assert_allclose(tf.reduce_sum(pictures.attention, axis=2)[0], 1.0, atol=1e-5)
        features = pictures.features.numpy()
        assert features.min() == 0 and features.max() == 1
        assert pictures.audio.num_samples.numpy().tolist() == SAMPLES
        np.testing.assert_array_equal(pictures.audio.sample_rate, [16000] * 4)
        np.testing.assert_array_equal(features[1, :, 11:], 0)

    def test_the_first_feature_is_at_the_bottom(self):
        x = tf.constant([[[0.0, 4.0], [1.0, 2.0], [9.0, 9.0]]])
        found = recognizer.picture(x, tf.constant([[0.0, 0, 1]]))
        np.testing.assert_array_equal(found, [[[1.0, 0.5, 0.0], [0.0, 0.25, 0.0]]])

    def test_the_decoder_must_fit_the_encoder(self):
        with pytest.raises(
            hyperparams.ConfigError, match='source_dim=10 is not what the encoder returns: 12'
        ):
            _Small(**{'decoder.source_dim': 10}).Instantiate()

"""A third-party package brings a family of its own: a layer, a task, an experiment.

It is installed with pip into an empty folder, and trained without any change to lingvo_lite.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

FILES = {
    'pyproject.toml': """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
    """,
    'setup.cfg': """
        [metadata]
        name = echo-plugin
        version = 1.0

        [options]
        packages =
            echo_plugin
            echo_plugin.recipes

        [options.entry_points]
        lingvo_lite.tasks =
            echo = echo_plugin.recipes
    """,
    'echo_plugin/__init__.py': '',
    'echo_plugin/model.py': '''
        """Predicts a token from the one before it."""

        import tensorflow as tf

        from lingvo_lite import task
        from lingvo_lite.hyperparams import REQUIRED
        from lingvo_lite.layers import base, embedding, softmax
        from lingvo_lite.nested_map import NestedMap


        class Gate(base.BaseLayer):
            """y = x * tanh(g)."""

            @classmethod
            def Params(cls):
                p = super().Params()
                p.Define('dim', REQUIRED, 'Size of the last axis.', type=int)
                return p

            def __init__(self, params):
                super().__init__(params)
                self.CreateVariable('g', base.Weight([1, self.params.dim]))

            def FProp(self, x):
                return x * tf.tanh(self.theta.g)


        class Wide(Gate):
            """y = x * tanh(s g)."""

            @classmethod
            def Params(cls):
                p = super().Params()
                p.Define('s', 1.0, 'Slope.')
                return p

            def FProp(self, x):
                return x * tf.tanh(self.params.s * self.theta.g)


        class Bigram(task.BaseTask):
            """p(y_t | y_t-1)."""

            @classmethod
            def Params(cls):
                p = super().Params()
                p.Define('dim', 8, 'Size of the vectors.')
                p.Define('vocab_size', REQUIRED, 'Number of tokens.', type=int)
                p.Define('embedding', embedding.Embedding.Params(), 'Vectors.')
                p.Define('gate', Gate.Params(), 'A layer of this package.')
                p.Define('softmax', softmax.SoftmaxLoss.Params(), 'Output.')
                return p

            def __init__(self, params):
                super().__init__(params)
                p = self.params
                dims = {'vocab_size': p.vocab_size, 'model_dim': p.dim}
                self.CreateChild('embedding', p.embedding.Copy().Set(**dims))
                self.CreateChild('gate', p.gate.Copy().Set(dim=p.dim))
                self.CreateChild('softmax', p.softmax.Copy().Set(**dims))

            def ComputePredictions(self, batch):
                return NestedMap(x=self.gate(self.embedding(batch.target.ids)))

            def ComputeLoss(self, predictions, batch):
                out = self.softmax(predictions.x, batch.target.labels, batch.target.weights)
                return NestedMap(terms={'loss': (out.loss_sum, out.weight_sum)})
    ''',
    'echo_plugin/recipes/__init__.py': '',
    'echo_plugin/recipes/abc.py': """
        from lingvo_lite import experiment, registry
        from lingvo_lite.inputs.text import parallel

        from echo_plugin import model


        @registry.Register
        class Abc(experiment.BaseExperiment):
            def Task(self):
                p = model.Bigram.Params().Set(vocab_size=264)
                p.train.Set(max_steps=60, save_interval_steps=30, summary_interval_steps=20)
                p.train.Set(learning_rate=0.1, precision='float32')
                return p

            def Tiny(self):
                return self.Task().Set(dim=4)

            def Train(self):
                p = parallel.ParallelTextInput.Params()
                return p.Set(source_file='abc.src', target_file='abc.tgt', tokens_per_batch=512)
    """,
}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The folder that the package was installed into."""
    source = tmp_path_factory.mktemp('source')
    for name, text in FILES.items():
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip())
    target = tmp_path_factory.mktemp('site')
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    flags = ['--no-deps', '--no-index', '--no-build-isolation', '--target', str(target)]
    subprocess.run([*pip, *flags, str(source)], check=True)
    return target


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    (folder / 'abc.src').write_text('x\n' * 64)
    (folder / 'abc.tgt').write_text('abcabcabc\n' * 64)
    return folder


def _Run(site, folder, *arguments):
    """The command, from an empty directory, with the package as if it were installed."""
    return subprocess.run(
        [sys.executable, '-m', 'lingvo_lite.cli', *arguments],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(site), 'TF_CPP_MIN_LOG_LEVEL': '3'},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _Losses(run):
    with open(run / 'train' / 'metrics.jsonl', encoding='utf-8') as file:
        return [json.loads(line)['loss'] for line in file]


def test_its_experiment_is_listed(site, tmp_path):
    done = _Run(site, tmp_path, 'list', 'echo')
    assert done.returncode == 0, done.stderr
    assert 'echo.Abc' in done.stdout.split()


def test_its_experiment_trains(site, data, tmp_path):
    run = tmp_path / 'RUN'
    done = _Run(
        site, tmp_path, 'trainer', '--model=echo.Abc', f'--logdir={run}', f'--data_dir={data}'
    )
    assert done.returncode == 0, done.stderr
    assert (run / 'train' / 'FINISHED').exists()
    losses = _Losses(run)
    assert losses[-1] < 0.7 * losses[0]
    text = (run / 'params.txt').read_text(encoding='utf-8')
    assert "model : 'echo.Abc'\n" in text
    assert "task.gate : params('echo_plugin.model.Gate')\n" in text


def test_its_layers_can_be_swapped_from_the_command_line(site, data, tmp_path):
    run = tmp_path / 'RUN'
    flags = ['--model=echo.Abc', f'--logdir={run}', f'--data_dir={data}']
    swap = ['--set=task.gate=echo_plugin.model.Wide', '--set=task.gate.s=3']
    done = _Run(site, tmp_path, 'trainer', *flags, *swap, '--set=task.train.max_steps=2')
    assert done.returncode == 0, done.stderr
    text = (run / 'params.txt').read_text(encoding='utf-8')
    assert "task.gate : params('echo_plugin.model.Wide')\n" in text
    assert 'task.gate.s : 3.0\n' in text


def test_a_mistake_in_it_is_one_line_and_exit_code_2(site, tmp_path):
    done = _Run(site, tmp_path, 'trainer', '--model=echo.Abd', '--logdir=RUN')
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "trainer: No experiment 'echo.Abd'. Nearest: echo.Abc. 'lingvo_lite list echo' shows all 1."
    )

"""A task that counts, in its variables, how often it was trained on each example.

--model=counting_experiment.Counting with this folder on PYTHONPATH, on the data of tiny_experiment.
What a checkpoint holds was trained on, whatever was read ahead or lost in between.
"""

import tensorflow as tf

from lingvo_lite import experiment, inputs, layers, optim, registry, task
from lingvo_lite.layers.initializers import WeightInit
from lingvo_lite.nested_map import NestedMap

NUM_EXAMPLES = 400  # tiny/train of tiny_experiment


class CountingTask(task.BaseTask):
    """`seen` is -(times trained on), by SGD with rate 1; `w` learns the length of the target."""

    def __init__(self, params):
        super().__init__(params)
        self.CreateVariable('seen', layers.Weight([NUM_EXAMPLES], init=WeightInit.Constant(0.0)))
        self.CreateVariable('w', layers.Weight([8]))

    def ComputePredictions(self, batch):
        real = batch.row_weight
        ids = tf.maximum(batch.id, 0)
        # The first bytes of the source, as what they are.
        codes = tf.cast(batch.source.ids[:, :1], tf.float32) / 8.0
        # [rows, 8]
        features = tf.sin(codes * tf.range(1.0, 9.0))
        length = tf.linalg.matvec(features, self.theta.w)
        return NestedMap(seen=real * tf.gather(self.theta.seen, ids), length=length)

    def ComputeLoss(self, predictions, batch):
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        wanted = tf.reduce_sum(batch.target.weights, axis=1) / 10.0
        error = tf.reduce_sum(batch.row_weight * (predictions.length - wanted) ** 2)
        rows = tf.reduce_sum(batch.row_weight)
        # All replicas together weigh 1: the gradient of `seen` is how often a batch has an id.
        seen = (tf.reduce_sum(predictions.seen), 1.0 / replicas)
        return NestedMap(terms={'seen': seen, 'error': (error, rows)})


@registry.Register
class Counting(experiment.BaseExperiment):
    """Saves every 10 steps."""

    def Task(self):
        p = CountingTask.Params()
        p.train.Set(optimizer=optim.SGD.Params(), learning_rate=1.0, precision='float32')
        p.train.Set(save_interval_steps=10, summary_interval_steps=5)
        return p.Set(loss_weights={'error': 0.05})

    def Tiny(self):
        return self.Task()

    def Train(self):
        p = inputs.ParallelTextInput.Params()
        p.Set(source_file='tiny/train.src', target_file='tiny/train.tgt')
        return p.Set(tokens_per_batch=600)

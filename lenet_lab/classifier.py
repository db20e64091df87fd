"""The rest of the lab's graph around a network: placeholders, loss, optimizer, accuracy, summaries."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from lenet_lab.compat import learning_rate, number_random_operations, scalar_summary, tf
from lenet_lab.paths import LabError


class Classifier(NamedTuple):
    """A graph, with the tensors and operations in it that one feeds and runs; see `build_classifier`.

    Examples
    --------
    >>> classifier.x
    <tf.Tensor 'inputs:0' shape=(?, 784) dtype=float32>
    """

    graph: tf.Graph
    graph_def: tf.GraphDef  # the graph when it was built, for TensorBoard
    x: tf.Tensor  # float32 [None, 784], placeholder `inputs`
    y_true: tf.Tensor  # float32 [None, 10], placeholder `labels`, one-hot
    y_true_cls: tf.Tensor  # int64 [None]
    keep_prob: tf.Tensor | None  # float32 scalar, 1 unless fed; None without dropout
    logits: tf.Tensor  # float32 [None, 10]
    y_pred: tf.Tensor  # float32 [None, 10], rows sum to 1
    y_pred_cls: tf.Tensor  # int64 [None]
    loss: tf.Tensor  # float32 scalar, mean cross-entropy in nats
    train_loss: tf.Tensor  # float32 scalar, what the optimizer minimizes: `loss` itself in the lab
    optimizer: tf.train.Optimizer
    opt_step: tf.Operation
    accuracy: tf.Tensor  # float32 scalar in [0, 1]
    summary: tf.Tensor  # string, the scalars `Loss` and `Accuracy`
    init_op: tf.Operation
    saver: tf.train.Saver

    def feed_dropout(self, keep_prob: float) -> dict[tf.Tensor, float]:
        """The feed for a keep_prob; empty for a network without dropout."""
        return {} if self.keep_prob is None else {self.keep_prob: keep_prob}

    def __repr__(self) -> str:
        return f"<Classifier with {self.optimizer.get_name()}, {len(self.graph_def.node)} nodes>"


def build_classifier(
    build: Callable[..., tf.Tensor],
    optimizer: tf.train.Optimizer,
    train_loss: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Classifier:
    """Build a network and the lab's graph around it, in a new `tf.Graph` (docs/lab.md, "Graph").

    Parameters
    ----------
    build : callable
        ``build(x)`` or ``build(x, keep_prob)`` takes the float32 images [None, 784] and returns the logits [None, 10].
        A `keep_prob` is a scalar tensor that is 1 (dropout off) unless it is fed.
    optimizer : tf.train.Optimizer
        For example ``tf.train.GradientDescentOptimizer(0.001)``.
    train_loss : callable, optional
        ``train_loss(loss)`` returns a scalar that the optimizer minimizes instead. The lab does not need it.

    Returns
    -------
    Classifier
        The graph and its tensors.

    Raises
    ------
    ValueError
        If the network, its `keep_prob` or the optimizer is not as described.

    Examples
    --------
    >>> classifier = build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001))
    >>> classifier.logits.shape.as_list()
    [None, 10]
    """
    if not isinstance(optimizer, tf.train.Optimizer):
        raise LabError(f"optimizer is {optimizer!r}, expected one of tf.train, such as tf.train.AdamOptimizer(0.001)")
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None, 784], name="inputs")
        y_true = tf.placeholder(tf.float32, [None, 10], name="labels")
        y_true_cls = tf.argmax(y_true, 1)
        keep_prob = tf.placeholder_with_default(1.0, [], name="keep_prob") if _has_keep_prob(build) else None

        with tf.name_scope("model"):
            logits = build(x) if keep_prob is None else build(x, keep_prob)
            if not isinstance(logits, tf.Tensor) or not logits.shape.is_compatible_with([None, 10]):
                raise LabError(f"the network returned {logits}, expected logits of shape (?, 10), one for each class")
            y_pred = tf.nn.softmax(logits)
            y_pred_cls = tf.argmax(y_pred, axis=1)

        with tf.name_scope("loss"):
            cross_entropy = tf.nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=y_true)
            loss = tf.reduce_mean(cross_entropy)

        minimized = loss if train_loss is None else train_loss(loss)
        with tf.name_scope("optim"):
            if learning_rate(optimizer) is None:
                tf.train.get_or_create_global_step()  # only schedules and dropout need a counter of steps
            opt_step = optimizer.minimize(minimized, global_step=tf.train.get_global_step())

        with tf.name_scope("accuracy"):
            correct_prediction = tf.equal(y_pred_cls, y_true_cls)
            accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))

        init_op = tf.global_variables_initializer()
        scalar_summary("Loss", loss)
        scalar_summary("Accuracy", accuracy)
        summary = tf.summary.merge_all()
        saver = tf.train.Saver()
        number_random_operations(graph)
    return Classifier(
        graph=graph, graph_def=graph.as_graph_def(add_shapes=True), x=x, y_true=y_true, y_true_cls=y_true_cls,
        keep_prob=keep_prob, logits=logits, y_pred=y_pred, y_pred_cls=y_pred_cls, loss=loss, train_loss=minimized,
        optimizer=optimizer, opt_step=opt_step, accuracy=accuracy, summary=summary, init_op=init_op, saver=saver,
    )  # fmt: skip


def _has_keep_prob(build: Callable[..., tf.Tensor]) -> bool:
    parameter = inspect.signature(build).parameters.get("keep_prob")
    default = None if parameter is None else parameter.default
    if default not in (None, inspect.Parameter.empty):
        raise LabError(f"keep_prob has the default {default}, so dropout stays on; expected build(x, keep_prob)")
    return default is not None

"""The rest of the lab's graph around a network: placeholders, loss, optimizer, accuracy, summaries."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from lenet_lab.compat import tf
from lenet_lab.optimizers import sharpness_aware


class Classifier(NamedTuple):
    """A graph and the tensors and operations in it that one feeds and runs."""

    graph: tf.Graph
    x: tf.Tensor  # float32 [None, 784], placeholder `inputs`
    x_train: tf.Tensor  # float32 [None, 784], what is trained on for `x`: itself, or deformed
    y_true: tf.Tensor  # float32 [None, 10], placeholder `labels`, one-hot
    y_true_cls: tf.Tensor  # int64 [None]
    keep_prob: tf.Tensor | None  # float32 scalar, 1 unless fed; None where there is no dropout
    logits: tf.Tensor  # float32 [None, 10]
    y_pred: tf.Tensor  # float32 [None, 10], rows sum to 1
    y_pred_cls: tf.Tensor  # int64 [None]
    loss: tf.Tensor  # float32 scalar, mean cross-entropy in nats
    optimizer: tf.train.Optimizer
    radius: float  # how far uphill of the variables their gradient is taken, 0 for where they are
    climb: tf.Operation | None  # takes them there; where there is one, it runs before every `opt_step`
    opt_step: tf.Operation
    accuracy: tf.Tensor  # float32 scalar in [0, 1]
    summary: tf.Tensor  # string, the scalars `Loss` and `Accuracy`
    init_op: tf.Operation
    saver: tf.train.Saver
    loops: dict[int, NamedTuple]  # by the number of shares; `lenet_lab.loop` fills it

    def fed_dropout(self, keep_prob: float) -> dict[tf.Tensor, float]:
        """What to feed for this chance of a feature to be kept; nothing where there is no dropout."""
        return {} if self.keep_prob is None else {self.keep_prob: keep_prob}


def build_classifier(
    build: Callable[..., tf.Tensor],
    optimizer: tf.train.Optimizer,
    deform: Callable[[tf.Tensor], tf.Tensor] | None = None,
    radius: float = 0.0,
) -> Classifier:
    """Build a network and the lab's graph around it, in a new `tf.Graph` (lab cells 2 to 13).

    Parameters
    ----------
    build : callable
        `build(x)` or `build(x, keep_prob)`: from the float32 images [None, 784]
        to the logits [None, 10]. Where it requires a `keep_prob`, the classifier
        has a tensor of that name which is 1, dropout off, unless it is fed.
    optimizer : tf.train.Optimizer
        Such as ``tf.train.GradientDescentOptimizer(0.001)``.
    deform : callable, optional
        From images [None, 784] to the images that are trained on in their
        place, such as `deform.deform`; nothing is measured on these.
    radius : float, default 0
        Above 0, the variables are trained as `optimizers.sharpness_aware` tells.

    Returns
    -------
    Classifier

    Raises
    ------
    ValueError
        If the logits' shape is not [None, 10].
    """
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None, 784], name="inputs")
        y_true = tf.placeholder(tf.float32, [None, 10], name="labels")
        y_true_cls = tf.argmax(y_true, 1)
        x_train = x
        if deform is not None:
            with tf.name_scope("deform"):
                x_train = deform(x)
        keep_prob = None
        if _requires_keep_prob(build):
            keep_prob = tf.placeholder_with_default(1.0, [], name="keep_prob")

        with tf.name_scope("model"):
            logits = build(x) if keep_prob is None else build(x, keep_prob)
            if not logits.shape.is_compatible_with([None, 10]):
                raise ValueError(f"logits have shape {logits.shape}, expected (?, 10): one per class")
            y_pred = tf.nn.softmax(logits)
            y_pred_cls = tf.argmax(y_pred, axis=1)

        with tf.name_scope("loss"):
            cross_entropy = tf.nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=y_true)
            loss = tf.reduce_mean(cross_entropy)

        with tf.name_scope("optim"):
            if learning_rate(optimizer) is None:
                tf.train.get_or_create_global_step()  # a schedule goes by it
            # Otherwise the step is counted only where something asked for it, as dropout does.
            global_step = tf.train.get_global_step()
            if radius:
                climb, opt_step = sharpness_aware(optimizer, loss, radius, global_step)
            else:
                climb, opt_step = None, optimizer.minimize(loss, global_step=global_step)

        with tf.name_scope("accuracy"):
            correct_prediction = tf.equal(y_pred_cls, y_true_cls)
            accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))

        init_op = tf.global_variables_initializer()
        scalar_summary("Loss", loss)
        scalar_summary("Accuracy", accuracy)
        return Classifier(
            graph=graph,
            x=x,
            x_train=x_train,
            y_true=y_true,
            y_true_cls=y_true_cls,
            keep_prob=keep_prob,
            logits=logits,
            y_pred=y_pred,
            y_pred_cls=y_pred_cls,
            loss=loss,
            optimizer=optimizer,
            radius=radius,
            climb=climb,
            opt_step=opt_step,
            accuracy=accuracy,
            summary=tf.summary.merge_all(),
            init_op=init_op,
            saver=tf.train.Saver(),
            loops={},
        )


def scalar_summary(tag: str, value: tf.Tensor) -> tf.Tensor:
    """`tf.summary.scalar` with the very tag it is given.

    `tf.summary.scalar` makes its tag from a name scope. Scope names must differ
    in more than case, so next to the scope `loss` the lab's tag `Loss` silently
    became `Loss_1`.
    """
    summary = tf.raw_ops.ScalarSummary(tags=tag, values=value, name=tag)
    tf.add_to_collection(tf.GraphKeys.SUMMARIES, summary)
    return summary


def learning_rate(optimizer: tf.train.Optimizer) -> float | None:
    """The rate that an optimizer was made with, or None if that is no number, as for a schedule."""
    rate = getattr(optimizer, "_learning_rate", getattr(optimizer, "_lr", None))  # by the optimizer's kind
    return rate if isinstance(rate, float) else None


def _requires_keep_prob(build: Callable[..., tf.Tensor]) -> bool:
    parameter = inspect.signature(build).parameters.get("keep_prob")
    return parameter is not None and parameter.default is inspect.Parameter.empty

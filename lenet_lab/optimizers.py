"""What a better training asks of an optimizer: a rate that goes by the step, weights that decay, flat minima."""

from collections.abc import Callable, Sequence

import numpy as np

from lenet_lab.compat import tf


def warm_up_and_cosine(rate: float, steps: int, warm_up: float = 0.05) -> Callable[[], tf.Tensor]:
    """A rate that rises from zero, then falls to zero as a cosine does (Loshchilov and Hutter, "SGDR", 2017).

    Parameters
    ----------
    rate : float
        The highest.
    steps : int
        Of the whole training.
    warm_up : float, default 0.05
        The share of the steps in which it rises.

    Returns
    -------
    callable
        For an optimizer in place of a number: ``tf.train.AdamOptimizer(warm_up_and_cosine(0.003, 4000))``.
    """
    rising = max(1.0, warm_up * steps)

    def rate_now() -> tf.Tensor:
        # Read afresh: the loop in the graph would read what was read outside of it once for all turns.
        step = tf.cast(tf.train.get_global_step().read_value(), tf.float32)
        fallen = tf.clip_by_value((step - rising) / (steps - rising), 0.0, 1.0)
        return rate * tf.minimum((step + 1) / rising, (1 + tf.cos(np.pi * fallen)) / 2)

    return rate_now


def rates_of(schedule: Callable[[], tf.Tensor], steps: int) -> np.ndarray:
    """What a schedule gives at each of so many training steps, to look at; float32 array [steps]."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        rate, at_next = schedule(), tf.assign_add(step, 1)
        session.run(step.initializer)
        rates = []
        for _ in range(steps):
            rates.append(session.run(rate))
            session.run(at_next)
        return np.array(rates)


class AdamWithDecay(tf.train.AdamOptimizer):
    """Adam that also shrinks every weight, in each step by the rate times `decay` of its size.

    Biases, of rank 1, are left out. The gradient has no part in it, else Adam would
    level it out (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).

    Parameters
    ----------
    learning_rate : float, tensor or callable
    decay : float
    """

    def __init__(self, learning_rate: float | tf.Tensor | Callable[[], tf.Tensor], decay: float):
        super().__init__(learning_rate)
        self._decay = decay

    def apply_gradients(self, grads_and_vars, global_step=None, name=None) -> tf.Operation:
        gradients, variables = zip(*grads_and_vars)
        share = self._decay * (self._lr() if callable(self._lr) else self._lr)
        with tf.control_dependencies(gradients):  # they are of the weights before
            shrunk = [tf.assign_sub(w, share * w.read_value()) for w in variables if w.shape.rank > 1]
        with tf.control_dependencies(shrunk):
            return super().apply_gradients(list(zip(gradients, variables)), global_step, name)


def uphill(values: Sequence[tf.Tensor], loss: tf.Tensor, radius: float) -> list[tf.Tensor]:
    """The values after a step of a length, all of them together, in the direction in which the loss rises most.

    Where the gradient is taken there, a training looks for places whose
    surroundings are low too, not for narrow pits: sharpness-aware minimization
    (Foret, Kleiner, Mobahi and Neyshabur, 2021, equations 2 and 3).

    Parameters
    ----------
    values : sequence of float32 tensors
    loss : float32 scalar tensor, computed from them
    radius : float
        The length of the step.
    """
    gradients = tf.gradients(loss, values)
    scale = radius / (tf.global_norm(gradients) + 1e-12)
    return [value + scale * gradient for value, gradient in zip(values, gradients)]


def sharpness_aware(
    optimizer: tf.train.Optimizer, loss: tf.Tensor, radius: float, global_step: tf.Variable | None
) -> tuple[tf.Operation, tf.Operation]:
    """Two operations in place of `optimizer.minimize`, to be run one after the other on the same batch.

    The first moves the trainable variables `uphill`. The second takes the gradient
    there, brings them back, and updates them.
    """
    trained = tf.trainable_variables()
    places = [tf.Variable(tf.zeros(variable.shape), trainable=False, name="place") for variable in trained]
    moved = uphill(trained, loss, radius)
    with tf.control_dependencies(moved):
        kept = [tf.assign(place, variable) for place, variable in zip(places, trained)]
    with tf.control_dependencies(kept):
        climb = tf.group(*(tf.assign(variable, value) for variable, value in zip(trained, moved)))
    gradients = optimizer.compute_gradients(loss)
    with tf.control_dependencies([gradient for gradient, _ in gradients]):
        back = [tf.assign(variable, place) for variable, place in zip(trained, places)]
    with tf.control_dependencies(back):
        return climb, optimizer.apply_gradients(gradients, global_step=global_step)

"""What a better training asks of an optimizer: a learning rate that changes with the step, weights that decay."""

from collections.abc import Callable

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
    """Adam on the loss plus decay / 2 times the sum of the squared weights, which keeps these small.

    Biases, of rank 1, are left out; the loss that is recorded is without it. (Krogh
    and Hertz, "A Simple Weight Decay Can Improve Generalization", 1992.)

    Parameters
    ----------
    learning_rate : float, tensor or callable
    decay : float
    """

    def __init__(self, learning_rate: float | tf.Tensor | Callable[[], tf.Tensor], decay: float):
        super().__init__(learning_rate)
        self._decay = decay

    def compute_gradients(self, *args, **kwargs) -> list[tuple[tf.Tensor, tf.Variable]]:
        gradients = super().compute_gradients(*args, **kwargs)
        return [(gradient + self._decay * w if w.shape.rank > 1 else gradient, w) for gradient, w in gradients]

"""Learning rates that change with the training step."""

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

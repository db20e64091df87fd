"""What better training asks of an optimizer: a learning rate schedule, weight decay, sharpness-aware steps."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lenet_lab.compat import learning_rate, tf
from lenet_lab.fast.copies import copy
from lenet_lab.paths import LabError

GradientsAndVariables = list[tuple[tf.Tensor | None, tf.Variable]]


def warm_up_and_cosine(rate: float, steps: int, warm_up: float = 0.05) -> Callable[[], tf.Tensor]:
    """A learning rate that rises from zero, then falls to zero along a cosine.

    After Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.

    Parameters
    ----------
    rate : float
        The highest rate.
    steps : int
        The number of steps in the whole training.
    warm_up : float, default 0.05
        The fraction of the steps in which the rate rises.

    Returns
    -------
    callable
        To be used as an optimizer's learning rate:
        ``tf.train.AdamOptimizer(warm_up_and_cosine(0.003, 4000))``.
    """
    rising = max(1.0, warm_up * steps)

    def rate_now() -> tf.Tensor:
        # A new read: the loop in the graph would use an old one's value in all its iterations.
        step = tf.cast(tf.train.get_global_step().read_value(), tf.float32)
        fallen = tf.clip_by_value((step - rising) / (steps - rising), 0.0, 1.0)
        return rate * tf.minimum((step + 1) / rising, (1 + tf.cos(np.pi * fallen)) / 2)

    return rate_now


def rates_of(schedule: Callable[[], tf.Tensor], steps: int) -> np.ndarray:
    """The learning rate in each of the first steps, to look at; float32 array [steps]."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        rate, next_step = schedule(), tf.assign_add(step, 1)
        session.run(step.initializer)
        rates = []
        for _ in range(steps):
            rates.append(session.run(rate))
            session.run(next_step)
        return np.array(rates)


class AdamW(tf.train.AdamOptimizer):
    """Adam with decoupled weight decay.

    After Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.

    Each step also multiplies every weight by 1 - learning rate x weight decay.
    Biases, which have rank 1, do not decay. The decay is not part of the
    gradient, because Adam would scale it away there.

    Parameters
    ----------
    learning_rate : float, tensor or callable
    weight_decay : float
    """

    def __init__(
        self,
        learning_rate: float | tf.Tensor | Callable[[], tf.Tensor],
        weight_decay: float,
    ):
        super().__init__(learning_rate)
        self._weight_decay = weight_decay

    def apply_gradients(
        self,
        grads_and_vars: GradientsAndVariables,
        global_step: tf.Variable | None = None,
        name: str | None = None,
    ) -> tf.Operation:
        gradients, variables = zip(*grads_and_vars)
        factor = self._weight_decay * (self._lr() if callable(self._lr) else self._lr)
        with tf.control_dependencies(gradients):  # they are those of the weights before the decay
            decaying = [w for w in variables if w.shape.rank > 1]
            decayed = [tf.assign_sub(w, factor * w.read_value()) for w in decaying]
        with tf.control_dependencies(decayed):
            return super().apply_gradients(list(zip(gradients, variables)), global_step, name)


class SharpnessAware(tf.train.Optimizer):
    """Sharpness-aware minimization around another optimizer.

    After Foret, Kleiner, Mobahi and Neyshabur, 2021.

    The gradient is taken at perturbed weights: one step of length `rho` up the
    gradient of the loss (the paper's equations 2 and 3). The optimizer then
    applies it to the weights as they are. So training prefers flat minima, where
    the loss stays low nearby. It costs two gradients in each step.

    Parameters
    ----------
    optimizer : tf.train.Optimizer
        The optimizer that applies the gradients.
    rho : float
        The length of the perturbation of all weights together, above 0.
    """

    def __init__(self, optimizer: tf.train.Optimizer, rho: float):
        super().__init__(use_locking=False, name=f"SharpnessAware{optimizer.get_name()}")
        self._optimizer = optimizer
        self._rho = rho
        self._lr = learning_rate(optimizer)

    def compute_gradients(
        self, loss: tf.Tensor, var_list: Sequence[tf.Variable] | None = None, **options: Any
    ) -> GradientsAndVariables:
        variables = var_list or tf.trainable_variables()
        if any(v.op.type == "VarHandleOp" for v in variables):
            raise LabError("SharpnessAware needs variables made without use_resource=True")
        weights = [v.value() if isinstance(v, tf.Variable) else v for v in variables]
        ascent = tf.gradients(loss, weights)
        scale = self._rho / (tf.global_norm(ascent) + 1e-12)
        perturbed = [w if g is None else w + scale * g for w, g in zip(weights, ascent)]
        (perturbed_loss,) = copy([loss], dict(zip(weights, perturbed)))
        gradients = self._optimizer.compute_gradients(perturbed_loss, perturbed)
        return [(gradient, variable) for (gradient, _), variable in zip(gradients, variables)]

    def apply_gradients(
        self,
        grads_and_vars: GradientsAndVariables,
        global_step: tf.Variable | None = None,
        name: str | None = None,
    ) -> tf.Operation:
        return self._optimizer.apply_gradients(grads_and_vars, global_step, name)

    def variables(self) -> list[tf.Variable]:
        return self._optimizer.variables()

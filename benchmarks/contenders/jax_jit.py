"""The same training in JAX: one jitted function updates on a batch and measures it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import worker


def prepare(images, labels, batch_size, model):
    rate = worker.LEARNING_RATE[model]
    network, optimizer = (lenet5, optax.adam(rate)) if model == "lenet5" else (softmax, optax.sgd(rate))
    parameters = initial(model, jax.random.key(0))
    images, labels = jnp.asarray(images), jnp.asarray(labels, jnp.int32)
    state = [parameters, optimizer.init(parameters)]

    def loss_and_logits(parameters, x, y):
        logits = network(parameters, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, slots, images, labels, batch):
        x, y = images[batch], labels[batch]
        gradients, _ = jax.grad(loss_and_logits, has_aux=True)(parameters, x, y)
        updates, slots = optimizer.update(gradients, slots)
        parameters = optax.apply_updates(parameters, updates)
        loss, logits = loss_and_logits(parameters, x, y)
        return parameters, slots, loss, (logits.argmax(1) == y).mean()

    def iterate(batch):
        *state[:], loss, accuracy = step(*state, images, labels, batch)
        return loss, accuracy

    def epoch():
        order = np.random.permutation(len(labels))
        starts = range(0, len(labels) - batch_size + 1, batch_size)
        losses, accuracies = zip(*[iterate(order[start : start + batch_size]) for start in starts])
        return np.array(losses), np.array(accuracies)

    jax.block_until_ready(iterate(np.arange(batch_size)))
    return epoch, None


def initial(model, key):
    shapes = [(784, 10)]
    if model == "lenet5":
        shapes = [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10)]
    scale = 0.1 if model == "lenet5" else 0.0
    keys = jax.random.split(key, len(shapes))
    return [
        (scale * jax.random.truncated_normal(k, -2, 2, shape), jnp.zeros(shape[-1])) for k, shape in zip(keys, shapes)
    ]


def softmax(parameters, x):
    ((weights, bias),) = parameters
    return x @ weights + bias


def lenet5(parameters, x):
    (w1, b1), (w2, b2), *full = parameters
    x = convolution(x.reshape(-1, 28, 28, 1), w1, b1, "SAME")
    x = convolution(x, w2, b2, "VALID").reshape(-1, 400)
    for number, (weights, bias) in enumerate(full, start=1):
        x = x @ weights + bias
        x = jax.nn.relu(x) if number < len(full) else x
    return x


def convolution(x, weights, bias, padding):
    x = jax.lax.conv_general_dilated(x, weights, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.lax.reduce_window(jax.nn.relu(x + bias), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


if __name__ == "__main__":
    worker.serve(prepare)

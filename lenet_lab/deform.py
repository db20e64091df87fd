"""Digits turned, sheared, scaled, shifted and bent at random, inside the graph: an image is never trained on twice.

After Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural
Networks Applied to Visual Document Analysis" (2003), section 2.
"""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import BSpline

from lenet_lab.compat import tf
from lenet_lab.models import draw_seed
from lenet_lab.runs import seed_random_operations

SIDE = 28
CENTRE = (SIDE - 1) / 2
PADDED = SIDE + 3  # one row of black before, two behind: an image sampled up to a pixel outside of it


class Strength(NamedTuple):
    """How far an image is deformed at most; of the bending, the standard deviation."""

    rotation: float = 10.0  # degrees
    shear: float = 0.1
    scale: float = 0.1  # of the size, in each direction for itself
    shift: float = 1.5  # pixels
    bend: float = 1.0  # pixels, that each knot of a grid over the image is displaced by
    knots: int = 7  # of that grid, in each direction


def deform(x: tf.Tensor, strength: Strength = Strength()) -> tf.Tensor:
    """Deform each image in its own way, by chance; in every training step in another way.

    The seed is a variable, as the dropout's, so that a training can be repeated
    and resumed.

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1], the ground 0.
    strength : Strength

    Returns
    -------
    float32 tensor [None, 784]
    """
    count, seed = tf.shape(x)[0], draw_seed()
    drawn = tf.random.stateless_uniform([count, 6], seed, minval=-1.0, maxval=1.0)
    rows, columns = _affine(drawn, strength)
    if strength.bend:
        knots = 2 * strength.knots**2
        bends = tf.random.stateless_normal([count, knots], seed + [1, 0], stddev=strength.bend)
        bent = _interpolate(tf.reshape(bends, [-1, strength.knots, strength.knots]), strength.knots)
        bent = tf.reshape(bent, [-1, 2, SIDE * SIDE])
        rows, columns = rows + bent[:, 0], columns + bent[:, 1]
    return _sample(x, rows, columns)


def deform_images(images: np.ndarray, strength: Strength = Strength(), seed: int = 1) -> np.ndarray:
    """Some images as one training step might see them, to look at; float32 arrays [count, 784]."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 784])
        deformed = deform(x, strength)
        seed_random_operations(graph, seed)
        session.run(tf.global_variables_initializer())
        return session.run(deformed, {x: images})


def _affine(drawn: tf.Tensor, strength: Strength) -> tuple[tf.Tensor, tf.Tensor]:
    """Where in its image each pixel is taken from, [count, 784] each; from six draws in [-1, 1] for each image."""
    angle, shear, tall, wide, down, right = (drawn[:, i, None] for i in range(6))
    angle = angle * strength.rotation * np.pi / 180
    row, column = (np.float32(place).reshape(1, -1) - CENTRE for place in np.mgrid[:SIDE, :SIDE])
    column = column + shear * strength.shear * row
    row, column = row * (1 + tall * strength.scale), column * (1 + wide * strength.scale)
    return (
        tf.cos(angle) * row - tf.sin(angle) * column + CENTRE + down * strength.shift,
        tf.sin(angle) * row + tf.cos(angle) * column + CENTRE + right * strength.shift,
    )


def _interpolate(values: tf.Tensor, knots: int) -> tf.Tensor:
    """Values on a grid [n, knots, knots] as smooth ones on all pixels, [n, 28, 28]: cubic splines."""
    places = np.linspace(0, knots - 3, SIDE)
    basis = BSpline.design_matrix(places, np.arange(-3, knots + 1), 3).toarray().astype(np.float32)
    rows = tf.reshape(tf.reshape(values, [-1, knots]) @ basis.T, [-1, knots, SIDE])
    both = tf.reshape(tf.transpose(rows, [0, 2, 1]), [-1, knots]) @ basis.T
    return tf.transpose(tf.reshape(both, [-1, SIDE, SIDE]), [0, 2, 1])


def _sample(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The images' values at places between pixels, from the four around each; black outside. All [count, 784]."""
    padded = tf.pad(tf.reshape(x, [-1, SIDE, SIDE]), [[0, 0], [1, 2], [1, 2]])
    rows, columns = (tf.clip_by_value(place, -1.0, float(SIDE)) for place in (rows, columns))
    above, left = tf.floor(rows), tf.floor(columns)
    first = tf.range(tf.shape(x)[0])[:, None] * PADDED**2  # where each image begins
    corner = first + tf.cast((above + 1) * PADDED + left + 1, tf.int32)
    values = tf.reshape(padded, [-1])
    around = [tf.gather(values, corner + step) for step in (0, 1, PADDED, PADDED + 1)]
    down, right = rows - above, columns - left
    upper = around[0] + (around[1] - around[0]) * right
    lower = around[2] + (around[3] - around[2]) * right
    return upper + (lower - upper) * down

"""Two steps of LeNet-5 in block form: the same values, except for rounding, from larger matrix products.

A processor multiplies matrices with some dozens of columns far better than it
convolves one image into six maps. So here 2x2 or 4x4 neighbouring outputs form
one row of a product. Blocks of inputs overlap less than the inputs of single
outputs do, which costs more multiplications (2.6 times as many in layer 1), but
less time.

How a filter becomes a matrix: along one line, `taps` says which pixel reaches
which output of a block through which tap of the filter. In two dimensions, pixel
(row, column) reaches an output through tap (t, u) if its row does so through t
and its column through u. So the matrix that spreads the taps over all pairs of
pixel and output is the product of two `taps`, one for rows and one for columns.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lenet_lab.compat import tf
from lenet_lab.fast.copies import COPIED_GRADIENTS

(BLOCK_GRADIENT,) = COPIED_GRADIENTS  # the name under which TensorFlow finds `_convolution_gradient`


class BlockForm(NamedTuple):
    """A tensor of a graph, and how to compute it on blocks from other tensors."""

    result: tf.Tensor
    inputs: list[tf.Tensor]
    compute: Callable[..., tf.Tensor]


def find_block_forms(operations: list[tf.Operation]) -> list[BlockForm]:
    """The parts of a network that can be computed on blocks.

    Parameters
    ----------
    operations : list of tf.Operation
        In the order in which they were made, which the result keeps.
    """
    found = []
    for op in operations:
        chain = _chain(op, ["MaxPool", "Relu", "AddV2", "Conv2D"])
        if chain and _fits(chain[-1], b"SAME", 4) and _is_2x2_pooling(op) and _adds_bias(chain[-2]):
            _, _, sum_, convolution = chain
            found.append(BlockForm(op.outputs[0], [*convolution.inputs, sum_.inputs[1]], convolve_relu_pool))
        elif op.type == "Conv2D" and _fits(op, b"VALID", 2):
            found.append(BlockForm(op.outputs[0], list(op.inputs), convolve))
    return found


def convolve_relu_pool(x: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Convolve one map with padding SAME, add the bias, apply ReLU and 2x2 max pooling.

    Each 4x4 block of outputs is one row of a matrix product. The maximum of each
    2x2 pool is taken before bias and ReLU, neither of which changes which value
    is the largest.

    Parameters
    ----------
    x : float32 tensor [n, rows, columns, 1]
        Rows and columns must be multiples of 4.
    weights : float32 tensor [5, 5, 1, maps]
    bias : float32 tensor [maps]

    Returns
    -------
    float32 tensor [n, rows / 2, columns / 2, maps]
    """
    rows, columns = (size // 4 for size in x.shape.as_list()[1:3])
    maps = weights.shape.as_list()[3]
    padded = tf.reshape(tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]]), [-1, rows + 1, 4, columns + 1, 4])
    blocks = tf.reshape(tf.transpose(padded, [0, 1, 3, 2, 4]), [-1, rows + 1, columns + 1, 16])
    patches = tf.concat([blocks[:, y : y + rows, x : x + columns] for y in (0, 1) for x in (0, 1)], axis=3)
    # Rows: b, c = block; i, j = pixel in it; p, q = output within a 2x2 pool; P, Q = pool; t, u = tap.
    line = taps(5, 4).reshape(2, 4, 2, 2, 5)
    spread = np.einsum("biPpt,cjQqu->bcijpqPQtu", line, line).reshape(64 * 16, 25)
    columns_of_weights = tf.reshape(tf.matmul(spread, tf.reshape(weights, [25, maps])), [64, 16 * maps])
    products = tf.matmul(tf.reshape(patches, [-1, 64]), columns_of_weights)
    largest = tf.nn.max_pool(tf.reshape(products, [-1, 2, 2, 4 * maps]), ksize=2, strides=2, padding="VALID")
    activations = tf.nn.relu(tf.reshape(largest, [-1, rows, columns, 4 * maps]) + tf.tile(bias, [4]))
    return tf.nn.depth_to_space(activations, 2)


def convolve(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Convolve with padding VALID, as `tf.nn.conv2d`; the gradient with respect to x is computed on 2x2 blocks.

    Parameters
    ----------
    x : float32 tensor [n, rows, columns, maps]
        Rows and columns must be even.
    weights : float32 tensor [5, 5, maps, new maps]

    Returns
    -------
    float32 tensor [n, rows - 4, columns - 4, new maps]
    """
    # The gradient is registered by name, not by `tf.custom_gradient`, so that copies of the operation have it too.
    with x.graph.gradient_override_map({"Conv2D": BLOCK_GRADIENT}):
        return tf.nn.conv2d(x, weights, strides=1, padding="VALID")


@tf.RegisterGradient(BLOCK_GRADIENT)
def _convolution_gradient(op: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients with respect to a convolution's input and its weights."""
    x, weights = op.inputs
    _, rows, columns, maps = x.shape.as_list()
    new_maps = weights.shape.as_list()[3]
    # b, c = block; i, j = pixel in it; p, q = output in its block; t, u = tap.
    line = taps(5, 2)
    spread = np.einsum("bipt,cjqu->bcijpqtu", line, line).reshape(36 * 4, 25)
    spread_weights = tf.matmul(spread, tf.reshape(weights, [25, maps * new_maps]))
    of_blocks = tf.transpose(tf.reshape(spread_weights, [36, 4, maps, new_maps]), [0, 2, 1, 3])
    shape = tf.stack([tf.shape(x)[0], rows // 2, columns // 2, 4 * maps])
    kernel = tf.reshape(of_blocks, [3, 3, 4 * maps, 4 * new_maps])
    of_x = tf.nn.conv2d_backprop_input(
        shape, kernel, tf.nn.space_to_depth(gradient, 2), strides=[1, 1, 1, 1], padding="VALID"
    )
    of_weights = tf.nn.conv2d_backprop_filter(
        x, [5, 5, maps, new_maps], gradient, strides=[1, 1, 1, 1], padding="VALID"
    )
    return tf.nn.depth_to_space(of_x, 2), of_weights


def taps(size: int, block: int) -> np.ndarray:
    """Along one line: which pixel reaches which output of a block, and through which tap of the filter.

    Returns
    -------
    float32 array [blocks, block, block, size] of zeros and ones
        The pixel's block, its place in that block, the output, the tap.
    """
    blocks = -(-(block + size - 1) // block)
    pixel = np.arange(blocks * block).reshape(blocks, block, 1, 1)
    return (pixel - np.arange(block)[:, None] == np.arange(size)).astype(np.float32)


def _chain(op: tf.Operation, types: list[str]) -> list[tf.Operation]:
    """Operations of these types, beginning with `op`, each followed by the one that makes its first input.

    Empty if there is no such chain.
    """
    chain = []
    for type_ in types:
        if op is None or op.type != type_:
            return []
        chain.append(op)
        op = op.inputs[0].op if op.inputs else None
    return chain


def _fits(convolution: tf.Operation, padding: bytes, block: int) -> bool:
    if convolution.outputs[0].dtype != tf.float32:
        return False
    x, weights = (tensor.shape for tensor in convolution.inputs)
    if x.rank != 4 or weights.rank != 4:
        return False
    x, weights = x.as_list(), weights.as_list()
    if None in x[1:] or weights[:2] != [5, 5]:
        return False
    return (
        convolution.get_attr("padding") == padding
        and convolution.get_attr("strides") == [1, 1, 1, 1] == convolution.get_attr("dilations")
        and convolution.get_attr("data_format") == b"NHWC"
        and x[1] % block == 0 == x[2] % block
        and (padding == b"VALID" or x[3] == 1)
    )


def _adds_bias(sum_: tf.Operation) -> bool:
    """Whether the second summand has one value for each map."""
    result, bias = sum_.outputs[0].shape, sum_.inputs[1].shape
    return bias.rank == 1 and bias.as_list() == result.as_list()[-1:]


def _is_2x2_pooling(op: tf.Operation) -> bool:
    return (
        op.get_attr("ksize") == [1, 2, 2, 1] == op.get_attr("strides")
        and op.get_attr("padding") == b"VALID"
        and op.get_attr("data_format") == b"NHWC"
    )

"""The networks: softmax regression, LeNet-5, and LeNet-5 with dropout."""

from lenet_lab.compat import tf


def weight_variable(shape: list[int], name: str) -> tf.Variable:
    """A float32 variable, from normal(0, 0.1) cut off at 0.2 (docs/lab.md, "Helper functions")."""
    return tf.Variable(tf.truncated_normal(shape, stddev=0.1), name=name)


def bias_variable(shape: list[int], name: str) -> tf.Variable:
    """A float32 variable for biases, initially zero (docs/lab.md, "Helper functions")."""
    return tf.Variable(tf.zeros(shape), name=name)


def step_seed() -> tf.Tensor:
    """A seed for each training step, int64 [2]: a number drawn once and the step, both of them in checkpoints."""
    first_seed = tf.random_uniform([], maxval=2**31 - 1, dtype=tf.int64)
    seed = tf.Variable(first_seed, trainable=False, name="seed")
    return tf.stack([seed, tf.train.get_or_create_global_step()])


def dropout(x: tf.Tensor, keep_prob: float | tf.Tensor) -> tf.Tensor:
    """`tf.nn.dropout` that a resumed run repeats exactly. It divides kept values by `keep_prob`."""
    return tf.nn.experimental.stateless_dropout(x, rate=1 - keep_prob, seed=step_seed())


def build_softmax_regression(x: tf.Tensor) -> tf.Tensor:
    """Build softmax regression: 7,850 parameters, initially zero (docs/lab.md, "Model").

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1].

    Returns
    -------
    float32 tensor [None, 10]
        The logits.

    Examples
    --------
    >>> count_parameters(build_classifier(build_softmax_regression, optimizer).graph)
    7850
    """
    with tf.name_scope(None):  # in the lab these two variables are outside every scope
        weights = tf.Variable(tf.zeros([784, 10]), name="weights")  # 784 x 10 = 7,840
        biases = tf.Variable(tf.zeros([10]), name="bias")  # 10
    return tf.matmul(x, weights) + biases


def build_lenet5(x: tf.Tensor, keep_prob: float | tf.Tensor | None = None) -> tf.Tensor:
    """Build LeNet-5 as the lab draws it: 61,706 parameters, ReLU, max pooling.

    After LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998), section
    II.B, which has tanh, trained average pooling and a sparse second convolution; docs/lab.md, "Question: LeNet-5".

        x 784 -> image 28x28x1 -> conv1 28x28x6 -> pool1 14x14x6
                               -> conv2 10x10x16 -> pool2 5x5x16
                               -> flat 400 -> 120 -> 84 -> logits 10

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1].
    keep_prob : float or float32 scalar tensor, optional
        If given, dropout comes before layer 3; see `build_lenet5_dropout`.

    Returns
    -------
    float32 tensor [None, 10]
        The logits.

    Examples
    --------
    >>> count_parameters(build_classifier(build_lenet5, optimizer).graph)
    61706
    """
    with tf.name_scope("reshape"):
        image = tf.reshape(x, [-1, 28, 28, 1])

    with tf.name_scope("lenet5"):
        with tf.name_scope("layer1"):  # 5x5x1x6 + 6 = 156 parameters
            weights = weight_variable([5, 5, 1, 6], "weights1")
            bias = bias_variable([6], "bias1")
            conv1 = tf.nn.relu(tf.nn.conv2d(image, weights, strides=1, padding="SAME") + bias)
            pool1 = tf.nn.max_pool(conv1, ksize=2, strides=2, padding="VALID")

        with tf.name_scope("layer2"):  # 5x5x6x16 + 16 = 2,416
            weights = weight_variable([5, 5, 6, 16], "weights2")
            bias = bias_variable([16], "bias2")
            conv2 = tf.nn.relu(tf.nn.conv2d(pool1, weights, strides=1, padding="VALID") + bias)
            pool2 = tf.nn.max_pool(conv2, ksize=2, strides=2, padding="VALID")

        with tf.name_scope("flatten"):
            flat = tf.reshape(pool2, [-1, 5 * 5 * 16])

        if keep_prob is not None:
            with tf.name_scope("dropout"):
                flat = dropout(flat, keep_prob)

        with tf.name_scope("layer3"):  # 400x120 + 120 = 48,120
            weights = weight_variable([400, 120], "weights3")
            bias = bias_variable([120], "bias3")
            full3 = tf.nn.relu(tf.matmul(flat, weights) + bias)

        with tf.name_scope("layer4"):  # 120x84 + 84 = 10,164
            weights = weight_variable([120, 84], "weights4")
            bias = bias_variable([84], "bias4")
            full4 = tf.nn.relu(tf.matmul(full3, weights) + bias)

        with tf.name_scope("layer5"):  # 84x10 + 10 = 850
            weights = weight_variable([84, 10], "weights5")
            bias = bias_variable([10], "bias5")
            return tf.matmul(full4, weights) + bias


def build_lenet5_dropout(x: tf.Tensor, keep_prob: float | tf.Tensor) -> tf.Tensor:
    """Build LeNet-5 with dropout before layer 3 (docs/lab.md, "Question: dropout").

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1].
    keep_prob : float or float32 scalar tensor
        The probability of keeping a feature in training (0.75 in the lab); 1 for evaluation.

    Returns
    -------
    float32 tensor [None, 10]
        The logits.

    Examples
    --------
    >>> build_classifier(build_lenet5_dropout, optimizer).keep_prob
    <tf.Tensor 'keep_prob:0' shape=() dtype=float32>
    """
    return build_lenet5(x, keep_prob)

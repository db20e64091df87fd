"""The same training by Keras `fit`: a `train_step` measures after its update, and a callback keeps the values."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf
import worker
from keras import layers


class Measured(keras.Model):
    """A model that logs the loss and the accuracy of each batch after the update on it."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        logits = self(x, training=False)
        accuracy = tf.reduce_mean(tf.cast(tf.argmax(logits, 1) == tf.cast(y, tf.int64), tf.float32))
        return {"loss": self.compute_loss(y=y, y_pred=logits), "accuracy": accuracy}


class Records(keras.callbacks.Callback):
    """A callback that keeps the loss and the accuracy of every batch."""

    def __init__(self):
        super().__init__()
        self.losses, self.accuracies = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])
        self.accuracies.append(logs["accuracy"])


def prepare(images, labels, batch_size, model):
    network = build(model)
    optimizer = keras.optimizers.Adam if model == "lenet5" else keras.optimizers.SGD
    network.compile(
        optimizer(worker.LEARNING_RATE[model]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=bool(os.environ.get("KERAS_JIT")),
    )
    whole = len(labels) // batch_size * batch_size  # as with the other contenders, only whole batches count

    def epoch():
        records = Records()
        network.fit(images[:whole], labels[:whole], batch_size, 1, verbose=0, shuffle=True, callbacks=[records])
        return [float(loss) for loss in records.losses], [float(accuracy) for accuracy in records.accuracies]

    network.fit(images[:batch_size], labels[:batch_size], batch_size, 1, verbose=0)
    return epoch, None


def build(model):
    x = inputs = keras.Input([784])
    if model == "softmax":
        return Measured(inputs, layers.Dense(10, kernel_initializer="zeros")(x))
    normal = {"kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.1)}
    x = layers.Reshape([28, 28, 1])(x)
    x = layers.MaxPool2D()(layers.Conv2D(6, 5, padding="same", activation="relu", **normal)(x))
    x = layers.MaxPool2D()(layers.Conv2D(16, 5, activation="relu", **normal)(x))
    x = layers.Flatten()(x)
    for units in (120, 84):
        x = layers.Dense(units, activation="relu", **normal)(x)
    return Measured(inputs, layers.Dense(10, **normal)(x))


if __name__ == "__main__":
    worker.serve(prepare)

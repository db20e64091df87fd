"""Training a run and measuring it: the loop, the accuracy, what is printed and recorded of them."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from tqdm import tqdm

from lenet_lab import watch
from lenet_lab.checkpoints import save_checkpoint, what_stays
from lenet_lab.classifier import learning_rate
from lenet_lab.compat import tf
from lenet_lab.inference import EVALUATION_BATCH, mistakes_among, parts, trace_inference
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.loop import can_loop, loop_for
from lenet_lab.runs import History, Run

IMAGES_PER_CALL = 2048  # images trained on in one `session.run`: a tenth of a second or two, so Ctrl-C stays alive


def optimize(
    run: Run,
    mnist: Datasets,
    epochs: int,
    batch_size: int,
    keep_prob: float = 0.75,
    fast: bool = True,
    checkpoint_every: int | None = None,
) -> History:
    """Train (lab cells 15 and 35).

    In each iteration the next batch updates the variables; then the loss and
    the accuracy of that batch, now with dropout off, become one event each. After
    each epoch the mean of those losses is printed, with the accuracy on all
    training and all validation images. The training set is shuffled anew before
    every epoch. Interrupted, it leaves the events written and the run usable; called
    again, it goes on.

    Parameters
    ----------
    run : Run
    mnist : Datasets
        With flat images and one-hot labels.
    epochs : int
        How many to add to those done before.
    batch_size : int
        From 1 to the size of the training set; what fills no batch waits for
        another epoch.
    keep_prob : float, default 0.75
        For a classifier with dropout: the chance of a feature to be kept.
    fast : bool, default True
        Run many iterations in one `session.run`, as `loop.build_loop` tells; the
        values are the same but for rounding. False runs the two calls of
        `iterate` for each batch.
    checkpoint_every : int, optional
        After so many epochs, and after the last, keep all that is needed to go
        on with `checkpoints.resume_run` should the process end. Without it,
        nothing is kept before `save_model`.

    Returns
    -------
    History
        Also kept as `run.history`.

    Raises
    ------
    ValueError
        If the data or a setting does not fit, before anything is changed.
    FloatingPointError
        If the loss becomes infinite or no number at all.
    OSError
        If events or a checkpoint can't be written.
    """
    _check(mnist, epochs, batch_size, keep_prob, checkpoint_every)
    run.batch_size = batch_size
    watch.write_data(run, mnist)
    settings = {"batch size": batch_size, "epochs": epochs}
    if run.classifier.keep_prob is not None:
        settings["keep_prob"] = keep_prob
    watch.write_settings(run, settings)
    try:
        run.flush()
        for left in reversed(range(epochs)):
            train_epoch(run, mnist.train, batch_size, keep_prob, fast)
            with interrupts_deferred():
                _end_epoch(run, mnist, iterations=mnist.train.num_examples // batch_size)
                if checkpoint_every and (run.epoch % checkpoint_every == 0 or not left):
                    save_checkpoint(run)
    except BaseException:
        with suppress(OSError):  # what happened first is told
            run.flush()
        raise
    return run.history


def train_epoch(run: Run, dataset: DataSet, batch_size: int, keep_prob: float = 0.75, fast: bool = True) -> None:
    """One pass over a data set, as `optimize` does it, nothing measured or printed at its end."""
    fast = fast and can_loop(run.classifier)
    train = iterate_in_graph if fast else iterate
    at_a_time = batches_at_a_time(batch_size) if fast else 1
    started = time.perf_counter()
    with tqdm(
        total=dataset.num_examples // batch_size, desc=f"epoch {run.epoch + 1}", unit="batch", leave=False
    ) as bar:
        for x_batches, y_batches in dataset.epoch(batch_size, run.rng, at_a_time):
            with interrupts_deferred():  # what the variables have learnt, the event file tells
                record(run, *train(run, x_batches, y_batches, keep_prob))
            bar.update(len(x_batches))
    run.history.seconds.append(time.perf_counter() - started)
    run.epoch += 1


def iterate(
    run: Run, x_batches: np.ndarray, y_batches: np.ndarray, keep_prob: float
) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Train on some batches, one after the other: the plain loop.

    Parameters
    ----------
    run : Run
    x_batches : float32 array [iterations, batch, 784]
    y_batches : float array [iterations, batch, 10]
    keep_prob : float

    Returns
    -------
    losses, accuracies, wall_times : sequences [iterations]
        Of each batch after its update; seconds since 1970.
    """
    c = run.classifier
    dropout = c.fed_dropout(keep_prob)
    records = []
    for x_batch, y_batch in zip(x_batches, y_batches):
        batch = {c.x: x_batch, c.y_true: y_batch}
        deformed = {} if c.x_train is c.x else {c.x: run.session.run(c.x_train, feed_dict=batch)}
        for step in (c.opt_step,) if c.climb is None else (c.climb, c.opt_step):
            run.session.run(step, feed_dict=batch | deformed | dropout)
        loss, accuracy = run.session.run([c.loss, c.accuracy], feed_dict=batch)
        records.append((float(loss), float(accuracy), time.time()))
    return tuple(zip(*records))


def iterate_in_graph(
    run: Run,
    x_batches: np.ndarray,
    y_batches: np.ndarray,
    keep_prob: float,
    options: tf.RunOptions | None = None,
    run_metadata: tf.RunMetadata | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `iterate` does, in one `session.run`, which also takes TensorFlow's options for a trace."""
    loop = loop_for(run.classifier, batch_size=x_batches.shape[1])
    feed = {loop.x: x_batches, loop.y_true: y_batches, loop.keep_prob: keep_prob}
    return run.session.run(loop.records, feed, options, run_metadata)


def evaluate(run: Run, dataset: DataSet) -> float:
    """The share of a data set's images that are classified rightly, dropout off."""
    return measure(run, dataset)[1]


def measure(run: Run, dataset: DataSet) -> tuple[float, float]:
    """Loss (nats) and accuracy on a whole data set, dropout off."""
    graph = run.classifier
    if can_loop(graph):
        graph = loop_for(graph, batch_size=min(dataset.num_examples, EVALUATION_BATCH)).measure
    images, labels = dataset.images, dataset.labels
    sums = np.zeros(2)
    for part in parts(len(images)):
        means = run.session.run([graph.loss, graph.accuracy], {graph.x: images[part], graph.y_true: labels[part]})
        sums += (part.stop - part.start) * np.array(means, np.float64)
    loss, accuracy = sums / len(images)
    return float(loss), float(accuracy)


def print_accuracy(run: Run, mnist: Datasets) -> None:
    """Print the accuracy on the test set, and trace how it was computed (lab cell 15).

    All test images pass in one `session.run` under FULL_TRACE; its memory and
    times go into the event file under `inference`, on later calls
    `inference_2` and so on. TensorBoard's graph page shows them. Of a trained
    network, filters and misread digits become images there. The accuracy is kept
    as `run.test_accuracy`.
    """
    watch.write_data(run, mnist)
    accuracy, probabilities, metadata = trace_inference(run, mnist.test)
    run.inference_traces += 1
    tag = "inference" if run.inference_traces == 1 else f"inference_{run.inference_traces}"
    run.writer.add_run_metadata(metadata, tag, run.step)
    run.test_accuracy = accuracy
    if run.epoch:
        watch.write_images(run, mistakes_among(mnist.test, probabilities))
    run.flush()
    print(f"Accuracy on test-set: {accuracy:.1%}")


def _check(mnist: Datasets, epochs: int, batch_size: int, keep_prob: float, checkpoint_every: int | None) -> None:
    if epochs < 0:
        raise ValueError(f"epochs is {epochs}, expected 0 or more")
    mnist.train.check_batch_size(batch_size)
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every is {checkpoint_every}, expected 1 or more epochs, or None")
    if not mnist.validation.num_examples:
        raise ValueError("the validation set is empty, expected an image or more: read the data with a validation_size")
    if not 0 < keep_prob <= 1:
        raise ValueError(f"keep_prob is {keep_prob}, expected above 0 and at most 1")
    if mnist.train.images.shape[1:] != (784,) or mnist.train.labels.shape[1:] != (10,):
        raise ValueError(
            f"images are {mnist.train.images.shape[1:]} and labels {mnist.train.labels.shape[1:]} each, "
            "expected (784,) and (10,): read the data with reshape=True and one_hot=True"
        )


def batches_at_a_time(batch_size: int) -> int:
    """How many batches `train_epoch` trains on in one `session.run`."""
    return max(1, min(64, IMAGES_PER_CALL // batch_size))


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():  # it reaches the main thread alone
        yield
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting and callable(before):
        before(*waiting[0])


def record(run: Run, losses: Sequence[float], accuracies: Sequence[float], wall_times: Sequence[float]) -> None:
    """Keep each iteration's loss and accuracy, as one event and in the history.

    Raises
    ------
    FloatingPointError
        At the first loss that is no finite number; those before are kept.
    """
    for loss, accuracy, wall_time in zip(losses, accuracies, wall_times):
        loss, accuracy = float(loss), float(accuracy)
        if not np.isfinite(loss):
            rate = learning_rate(run.classifier.optimizer)
            raise FloatingPointError(
                f"the loss became {loss} at step {run.step} (learning rate {rate or 'by a schedule'}); "
                f"try a smaller rate; {what_stays(run)}"
            )
        run.writer.add_event(tf.Event(wall_time=wall_time, step=run.step, summary=watch.summary(loss, accuracy)))
        run.history.step_loss.append(loss)
        run.history.step_accuracy.append(accuracy)
        run.step += 1


def _end_epoch(run: Run, mnist: Datasets, iterations: int) -> None:
    """Measure and print, after an epoch of so many iterations."""
    history = run.history
    history.loss.append(float(np.mean(history.step_loss[-iterations:])))
    history.train_accuracy.append(evaluate(run, mnist.train))
    validation_loss, validation_accuracy = measure(run, mnist.validation)
    history.validation_loss.append(validation_loss)
    history.validation_accuracy.append(validation_accuracy)
    watch.write_epoch(run, mnist)
    run.flush()
    print(f"Epoch:  {run.epoch:02d}   =====> Loss = {history.loss[-1]:.6f}")
    print(
        f"Epoch:  {run.epoch:02d}   =====> Training Acc: {history.train_accuracy[-1]:.1%}"
        f"   Validation Acc: {history.validation_accuracy[-1]:.1%}",
        flush=True,
    )

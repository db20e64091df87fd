"""Training a run: the loop, and what is measured and printed after each epoch."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lenet_lab.analysis import summaries
from lenet_lab.analysis.evaluation import measure
from lenet_lab.checkpoints import interrupts_deferred, save_checkpoint, what_stays
from lenet_lab.compat import tf
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.paths import LabError, whole_number
from lenet_lab.runs import History, Model, Run
from lenet_lab.sessions import ServerLostError


def iterate(
    run: Model,
    x_batches: np.ndarray,
    y_batches: np.ndarray,
    keep_prob: float,
) -> list[summaries.Record]:
    """The plain loop over batches, float [iterations, batch, 784] and [iterations, batch, 10]."""
    c = run.classifier
    dropout = c.feed_dropout(keep_prob)
    records = []
    for x_batch, y_batch in zip(x_batches, y_batches):
        batch = {c.x: x_batch, c.y_true: y_batch}
        run.session.run(c.opt_step, feed_dict=batch | dropout)
        loss, accuracy, summary = run.session.run([c.loss, c.accuracy, c.summary], feed_dict=batch)
        event = tf.Event(wall_time=time.time(), summary=tf.Summary.FromString(summary))
        records.append((float(loss), float(accuracy), event))
    return records


class Loop(NamedTuple):
    """A way to train on batches and to measure data sets."""

    iterate: Callable[[Model, np.ndarray, np.ndarray, float], Sequence[summaries.Record]]
    measure: Callable[[Model, DataSet], tuple[float, float]]
    batches_at_a_time: int  # how many batches one call of `iterate` gets


PLAIN = Loop(iterate, measure, batches_at_a_time=1)


def optimize(
    run: Run,
    mnist: Datasets,
    epochs: int,
    batch_size: int,
    keep_prob: float = 0.75,
    fast: bool = True,
    checkpoint_every: int | None = None,
) -> History:
    """Train (docs/lab.md, "Training loop" and "Question: training").

    An epoch shuffles the training set and goes through it in batches. Each batch updates the variables; then its loss
    and accuracy, with dropout off, go to the event file. Two lines are printed: the mean loss, and the accuracies on
    the whole training and validation sets. After Ctrl-C, the run keeps its variables and can be trained further,
    unless the end of a `with` block closes it.

    Parameters
    ----------
    run : Run
        An open run.
    mnist : Datasets
        With flat images and one-hot labels.
    epochs : int
        How many epochs to add to those already done.
    batch_size : int
        Images left over after the last full batch are not used in that epoch.
    keep_prob : float, default 0.75
        For a classifier with dropout: the probability of keeping a feature.
    fast : bool, default True
        Use `lenet_lab.fast`: the same values except for rounding. False uses `iterate`.
    checkpoint_every : int, optional
        Epochs between two checkpoints for `resume_run`; by default there are none.

    Returns
    -------
    History
        Also kept as ``run.history``.

    Raises
    ------
    ValueError
        If the data or a setting is invalid; nothing has changed then.
    FloatingPointError, OSError
        If the loss becomes infinite or not a number; if a file can't be written or a server is gone.

    Examples
    --------
    >>> history = optimize(run, mnist, epochs=1, batch_size=100)
    Epoch:  01   =====> Loss = 2.0...
    Epoch:  01   =====> Training Acc: ...%   Validation Acc: ...%
    """
    _check(mnist, epochs, batch_size, keep_prob, checkpoint_every)
    try:
        loop = choose_loop(run, mnist.train, batch_size, fast and epochs > 0)
        run.batch_size = int(batch_size)
        summaries.write_data(run, mnist)
        summaries.write_settings(run, epochs, keep_prob)
        run.flush()
        for epochs_left in reversed(range(epochs)):
            train_epoch(run, mnist.train, batch_size, keep_prob, loop)
            with interrupts_deferred():
                _end_epoch(run, mnist, loop, iterations=mnist.train.num_examples // batch_size)
                if checkpoint_every and (run.epoch % checkpoint_every == 0 or not epochs_left):
                    save_checkpoint(run)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to report
            run.flush()
        if isinstance(error, ServerLostError):
            raise ServerLostError(f"{error}; {what_stays(run)}") from error
        raise
    return run.history


def choose_loop(run: Run, dataset: DataSet, batch_size: int, fast: bool) -> Loop:
    """The fast loop if it is wanted and would train the same network, else the plain loop."""
    if fast:
        from lenet_lab.fast import fast_loop  # late: the lab can do without it

        return fast_loop(run, dataset, batch_size) or PLAIN
    return PLAIN


def train_epoch(run: Run, dataset: DataSet, batch_size: int, keep_prob: float, loop: Loop) -> None:
    """Train on each image of a data set once. Measure and print nothing."""
    started = time.perf_counter()
    batches = dataset.num_examples // batch_size
    with tqdm(total=batches, desc=f"epoch {run.epoch + 1}", unit="batch", leave=False) as bar:
        for x_batches, y_batches in dataset.epoch(batch_size, run.rng, loop.batches_at_a_time):
            with interrupts_deferred(once=bool(run.target)):  # every update must be recorded
                summaries.write_records(run, loop.iterate(run, x_batches, y_batches, keep_prob))
            bar.update(len(x_batches))
    run.history.seconds.append(time.perf_counter() - started)
    run.epoch += 1


def _end_epoch(run: Run, mnist: Datasets, loop: Loop, iterations: int) -> None:
    """Measure, record and print the results of an epoch."""
    history = run.history
    history.loss.append(float(np.mean(history.step_loss[-iterations:])))
    history.train_accuracy.append(loop.measure(run, mnist.train)[1])
    validation_loss, validation_accuracy = loop.measure(run, mnist.validation)
    history.validation_loss.append(validation_loss)
    history.validation_accuracy.append(validation_accuracy)
    summaries.write_epoch(run, mnist)
    run.flush()
    print(f"Epoch:  {run.epoch:02d}   =====> Loss = {history.loss[-1]:.6f}")
    print(
        f"Epoch:  {run.epoch:02d}   =====> Training Acc: {history.train_accuracy[-1]:.1%}"
        f"   Validation Acc: {validation_accuracy:.1%}",
        flush=True,
    )


def _check(mnist: Datasets, epochs: int, batch_size: int, keep_prob: float, checkpoint_every: int | None) -> None:
    mnist.train.check_batch_size(batch_size)
    mnist.train.check_form("the training set")
    mnist.validation.check_form("the validation set")
    whole_number("epochs", epochs, 0)
    if checkpoint_every is not None:
        whole_number("checkpoint_every", checkpoint_every, 1)
    if not 0 < keep_prob <= 1:
        raise LabError(f"keep_prob is {keep_prob}, expected more than 0 and at most 1")

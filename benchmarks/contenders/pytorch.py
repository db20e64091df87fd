"""The same training in PyTorch, eager (PYTORCH_COMPILE unset) or compiled."""

import os

import torch
import worker
from torch import nn
from torch.nn import functional


def prepare(images, labels, batch_size, model):
    images = torch.from_numpy(images).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(labels).long()
    if model == "lenet5":
        network = lenet5()
        optimizer = torch.optim.Adam(network.parameters(), lr=worker.LEARNING_RATE[model], fused=True)
    else:
        network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        nn.init.zeros_(network[1].weight)
        optimizer = torch.optim.SGD(network.parameters(), lr=worker.LEARNING_RATE[model])

    def loss_of(x, y):
        return functional.cross_entropy(network(x), y)

    def measures(x, y):
        logits = network(x)
        return functional.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()

    if os.environ.get("PYTORCH_COMPILE"):
        loss_of, measures = torch.compile(loss_of), torch.compile(measures)

    def step(batch):
        x, y = images[batch], labels[batch]
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, y).backward()
        optimizer.step()
        with torch.inference_mode():
            return measures(x, y)

    def epoch():
        order = torch.randperm(len(labels))
        records = [step(batch) for batch in order.split(batch_size) if len(batch) == batch_size]
        losses, accuracies = zip(*records)
        return torch.stack(losses).tolist(), torch.stack(accuracies).tolist()

    step(torch.arange(batch_size))
    return epoch, None


def lenet5():
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2)
        else:
            nn.init.zeros_(parameter)
    return network


if __name__ == "__main__":
    worker.serve(prepare)

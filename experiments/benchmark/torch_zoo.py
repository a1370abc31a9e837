"""The zoo's trainings in plain PyTorch, one run after another.

What a careful PyTorch user writes: tensors made once, the targets of a loss among them;
minibatches sliced an epoch at a time and without a data loader; losses of a whole batch
from PyTorch's own functions; one fused optimizer. Data, data order and initial
parameters come in as NumPy arrays, so that both libraries start equal. The caller
chooses the number of threads with ``torch.set_num_threads``.

Axes: E epochs, S steps an epoch, B examples a step, N examples in all, F features,
O outputs, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from l2d_jax.types import Dataset

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
"""Kernel ``[inputs, outputs]`` and bias ``[outputs]`` of each layer."""


class Known(NamedTuple):
    """What is known of N examples.

    Attributes:
      is_label: the label, one-hot, float ``[N, K]``.
      correct: whether the expert is right, float ``[N, 1]``, 0 or 1.
      kept_right: whether the classifier that is given is right, likewise; None where
        none is given.
    """

    is_label: Tensor
    correct: Tensor
    kept_right: Tensor | None = None


class Peer(NamedTuple):
    """A training.

    Attributes:
      num_outputs: O of K.
      targets: what its loss needs of the examples, made once, float ``[N, T]``.
      loss: of outputs ``[B, O]`` and their targets, the mean in nats, ``[]``.
      score: of outputs ``[N, O]``, by which an epoch is chosen, higher is better.
      after_classifier: whether a classifier is given to it.
    """

    num_outputs: Callable[[int], int]
    targets: Callable[[Known], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Known], Tensor]
    after_classifier: bool = False


# Losses. Targets of one network's K + 1 outputs are those of who would be right: the
# label, and the expert behind the classes.


def _who_is_right(known: Known) -> Tensor:
    return torch.cat([known.is_label, known.correct], 1)


def _one_vs_all(outputs: Tensor, targets: Tensor) -> Tensor:
    nll = F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
    return nll / len(outputs)


def _asymmetric_softmax(outputs: Tensor, targets: Tensor) -> Tensor:
    classes = outputs[:, :-1]
    best = classes.argmax(1, keepdim=True)
    others = classes.scatter(1, best, float("-inf")).logsumexp(1)
    return F.cross_entropy(
        classes, targets[:, :-1]
    ) + F.binary_cross_entropy_with_logits(outputs[:, -1] - others, targets[:, -1])


def _log_prob_right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of the label, or of label or deferral, ``[B]``."""
    right = outputs.masked_fill(targets == 0, float("-inf"))
    return right.logsumexp(1) - outputs.logsumexp(1)


def _realizable(outputs: Tensor, targets: Tensor) -> Tensor:
    return -2.0 * _log_prob_right(outputs, targets).mean()


def _rl2d(outputs: Tensor, targets: Tensor, q: float = 0.7) -> Tensor:
    return -torch.expm1(q * _log_prob_right(outputs, targets)).mean() / q


def _classifier(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(outputs, targets)
    return F.cross_entropy(outputs, targets)


# Scores.


def _accuracy(
    deferred: Tensor, kept_right: Tensor | None, correct: Tensor | None
) -> Tensor:
    assert kept_right is not None
    assert correct is not None
    return torch.where(deferred, correct[:, 0], kept_right[:, 0]).mean()


def is_right(class_scores: Tensor, is_label: Tensor) -> Tensor:
    """Whether the greatest score is the label's, float ``[N, 1]``, 0 or 1.

    One score is the logit of label 1 of two.
    """
    if class_scores.shape[1] == 1:
        return torch.where(class_scores > 0, is_label[:, 1:], is_label[:, :1])
    return is_label.gather(1, class_scores.argmax(1, keepdim=True))


def _team_accuracy(outputs: Tensor, known: Known) -> Tensor:
    classes = outputs[:, :-1]
    deferred = outputs[:, -1] > classes.amax(1)
    return _accuracy(deferred, is_right(classes, known.is_label), known.correct)


def _two_stage_accuracy(outputs: Tensor, known: Known) -> Tensor:
    return _accuracy(outputs[:, 0] > outputs[:, 1], known.kept_right, known.correct)


def _surrogate(loss: Callable[[Tensor, Tensor], Tensor]) -> Peer:
    return Peer(lambda k: k + 1, _who_is_right, loss, _team_accuracy)


def _labels(known: Known) -> Tensor:
    return known.is_label if known.is_label.shape[1] > 2 else known.is_label[:, 1:]


def _who_answers_right(known: Known) -> Tensor:
    assert known.kept_right is not None
    return torch.cat([known.correct, known.kept_right], 1)


PEERS = {
    "deferral": _surrogate(F.cross_entropy),
    "one_vs_all": _surrogate(_one_vs_all),
    "asymmetric_softmax": _surrogate(_asymmetric_softmax),
    "realizable": _surrogate(_realizable),
    "rl2d": _surrogate(_rl2d),
    "classifier": Peer(
        lambda k: 1 if k == 2 else k,
        _labels,
        _classifier,
        lambda outputs, known: -_classifier(outputs, _labels(known)),
    ),
    "expert_model": Peer(
        lambda k: 1,
        lambda known: known.correct,
        F.binary_cross_entropy_with_logits,
        lambda outputs, known: (
            -F.binary_cross_entropy_with_logits(outputs, known.correct)
        ),
    ),
    "two_stage": Peer(
        lambda k: 2,
        _who_answers_right,
        F.cross_entropy,
        _two_stage_accuracy,
        after_classifier=True,
    ),
}
"""By the names of `experiments.trainings.TRAININGS`."""


def apply(layers: Sequence[tuple[Tensor, Tensor]], inputs: Tensor) -> Tensor:
    """Outputs ``[B, O]`` of a network of sigmoid layers, or of a linear one."""
    *hidden, (kernel, bias) = layers
    for hidden_kernel, hidden_bias in hidden:
        inputs = torch.sigmoid(torch.addmm(hidden_bias, inputs, hidden_kernel))
    return torch.addmm(bias, inputs, kernel)


class Trained(NamedTuple):
    """A run, done.

    Attributes:
      layers: after the last epoch.
      best_layers: of the epoch with the best validation score, the first of equals.
      best_score: that score.
    """

    layers: list[tuple[Tensor, Tensor]]
    best_layers: list[tuple[Tensor, Tensor]]
    best_score: float


def train(
    peer: Peer,
    inputs: Tensor,
    known: Known,
    valid: Tensor,
    orders: Tensor,
    layers: Layers,
    learning_rate: float = 0.01,
) -> Trained:
    """Trains a run with Adam, validated after every epoch.

    Args:
      peer: what is trained, one of `PEERS`.
      inputs: of all examples, float ``[N, F]``.
      known: of the same.
      valid: rows that validate, int ``[V]``.
      orders: rows of every minibatch, int ``[E, S, B]``.
      layers: the network to start from.
      learning_rate: Adam's, > 0.
    """
    targets = peer.targets(known)
    held_inputs = inputs[valid]
    held = Known(
        known.is_label[valid],
        known.correct[valid],
        None if known.kept_right is None else known.kept_right[valid],
    )
    # A copy: what is trained may not write into the caller's arrays.
    net = [
        (
            torch.tensor(kernel, dtype=torch.float32, requires_grad=True),
            torch.tensor(bias, dtype=torch.float32, requires_grad=True),
        )
        for kernel, bias in layers
    ]
    params = [tensor for layer in net for tensor in layer]
    optimizer = torch.optim.Adam(params, lr=learning_rate, fused=True)
    best = [tensor.detach().clone() for tensor in params]
    best_score = float("-inf")
    for rows in orders:
        for batch, batch_targets in zip(inputs[rows], targets[rows], strict=True):
            optimizer.zero_grad(set_to_none=True)
            peer.loss(apply(net, batch), batch_targets).backward()
            optimizer.step()
        with torch.no_grad():
            score = peer.score(apply(net, held_inputs), held).item()
            if score > best_score:
                best_score = score
                for kept, tensor in zip(best, params, strict=True):
                    kept.copy_(tensor)
    pairs = list(zip(best[::2], best[1::2], strict=True))
    return Trained(
        [(kernel.detach(), bias.detach()) for kernel, bias in net], pairs, best_score
    )


def train_in_turn(
    names: Sequence[str],
    pool: Dataset,
    num_classes: int,
    valid: np.ndarray,
    orders: np.ndarray,
    layers: Mapping[str, Layers],
    learning_rate: float = 0.01,
) -> dict[str, Trained]:
    """One seed of several trainings, in the order of their names.

    Args:
      names: of `PEERS`; the classifier stands before what comes after it.
      pool: features ``[N, F]``, labels ``[N]`` and answers of one expert ``[N, 1]``.
      num_classes: K.
      valid: rows that validate, int ``[V]``.
      orders: rows of every minibatch, int ``[E, S, B]``, the same for all.
      layers: the networks to start from, by name.
      learning_rate: Adam's, > 0.
    """
    inputs = torch.tensor(pool.inputs, dtype=torch.float32)
    labels = torch.tensor(pool.labels, dtype=torch.int64)
    answers = torch.tensor(pool.expert_labels, dtype=torch.int64)
    known = Known(
        F.one_hot(labels, num_classes).float(), (answers == labels[:, None]).float()
    )
    held_rows = torch.tensor(valid, dtype=torch.int64)
    rows = torch.tensor(orders, dtype=torch.int64)
    done: dict[str, Trained] = {}
    for name in names:
        peer, told = PEERS[name], known
        if peer.after_classifier:
            scores = apply(done["classifier"].best_layers, inputs)
            told = known._replace(kept_right=is_right(scores, known.is_label))
        done[name] = train(
            peer, inputs, told, held_rows, rows, layers[name], learning_rate
        )
    return done

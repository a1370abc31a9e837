"""PyTorch peers of the training loops that the benchmark times.

Each peer is what a careful PyTorch user writes for a CPU: tensors prepared once,
minibatches by indexing and without a data loader, one fused optimizer, gradients set
to ``None``. ``*_sequential`` trains one run after another; ``*_stacked`` trains the
same runs as one network whose tensors carry a leading run axis. Data, data order and
initial parameters come in as NumPy arrays, so that both libraries start equal. The
caller chooses the number of threads with ``torch.set_num_threads``.

Axes: R runs, E epochs, S steps an epoch, B examples a step, N examples in all,
F features, H hidden units, O outputs, K classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2d_jax.types import Dataset


class MLPParams(NamedTuple):
    """Parameters of R networks with one hidden layer.

    Attributes:
      hidden_kernel: float ``[R, F, H]``.
      hidden_bias: float ``[R, H]``.
      output_kernel: float ``[R, H, O]``.
      output_bias: float ``[R, O]``.
    """

    hidden_kernel: np.ndarray
    hidden_bias: np.ndarray
    output_kernel: np.ndarray
    output_bias: np.ndarray


class SmallParams(NamedTuple):
    """Parameters of R deferring pairs of networks, O = 1 in both.

    Attributes:
      classifier: logit of label 1 from the features, F inputs.
      rejector: logit of deferral from the features and, last, the classifier's
        probability, F + 1 inputs.
    """

    classifier: MLPParams
    rejector: MLPParams


class SmallResult(NamedTuple):
    """Outcome of R runs of the small networks.

    Attributes:
      final_losses: validation loss after the last epoch, float ``[R]``, nats.
      best_losses: smallest validation loss after any epoch, float ``[R]``, nats.
      best_params: parameters at that epoch.
    """

    final_losses: np.ndarray
    best_losses: np.ndarray
    best_params: SmallParams


def xavier_params(
    seeds: Sequence[int], num_inputs: int, num_hidden: int, num_outputs: int
) -> MLPParams:
    """Draws Xavier-uniform kernels and zero biases, one network a seed.

    Args:
      seeds: one seed a run, R of them; a run's draw depends on its own seed only.
      num_inputs: F.
      num_hidden: H.
      num_outputs: O.

    Returns:
      The parameters, float32.
    """

    def kernel(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
        limit = np.sqrt(6.0 / (rows + columns))
        return generator.uniform(-limit, limit, (rows, columns)).astype(np.float32)

    generators = [np.random.default_rng(seed) for seed in seeds]
    return MLPParams(
        np.stack([kernel(g, num_inputs, num_hidden) for g in generators]),
        np.zeros((len(generators), num_hidden), np.float32),
        np.stack([kernel(g, num_hidden, num_outputs) for g in generators]),
        np.zeros((len(generators), num_outputs), np.float32),
    )


# Small networks: the deferring pair of Madras, Pitassi and Zemel, "Predict
# Responsibly", 2018, Eq. 8, with binary labels; and with the fairness of Eq. 12.

_TEMPERATURE = 0.5  # Of the Concrete sample, as in the authors' code.


class _SmallData(NamedTuple):
    inputs: Tensor  # [N, F]
    signs: Tensor  # [N], -1 for label 1 and +1 for label 0
    expert_nll: Tensor  # [N], nats


class _FairData(NamedTuple):
    expert_prob: Tensor  # [N], of label 1
    cells: Tensor  # [N, 2, 2], one-hot by label and group


def _small_data(data: Dataset, name: str) -> _SmallData:
    labels = np.asarray(data.labels)
    experts = np.asarray(data.expert_probs)
    if experts.ndim != 3 or experts.shape[1:] != (1, 2):
        raise ValueError(
            f"{name}.expert_probs must be probabilities [N, 1, 2] of one expert and "
            f"two classes, got shape {list(experts.shape)}."
        )
    # The expert is fixed, so its loss is a constant of the data.
    label_probs = experts[np.arange(len(labels)), 0, labels].astype(np.float64)
    expert_nll = -np.log(np.maximum(label_probs, 1e-12))
    return _SmallData(
        torch.tensor(np.asarray(data.inputs), dtype=torch.float32),
        torch.tensor(1.0 - 2.0 * labels, dtype=torch.float32),
        torch.tensor(expert_nll, dtype=torch.float32),
    )


def _fair_data(data: Dataset, name: str) -> _FairData:
    if data.groups is None:
        raise ValueError(
            f"{name}.groups is None; disparity needs the group of every row, 0 or 1."
        )
    binary = np.arange(2)
    is_label = np.asarray(data.labels)[:, None] == binary
    is_group = np.asarray(data.groups)[:, None] == binary
    return _FairData(
        torch.tensor(np.asarray(data.expert_probs)[:, 0, 1], dtype=torch.float32),
        torch.tensor(is_label[:, :, None] & is_group[:, None], dtype=torch.float32),
    )


def _contrasts(cells: Tensor) -> Tensor:
    """Weights whose product with probabilities ``[B]`` is the gap of each label.

    The gap of a label is half the difference of the groups' mean errors, up to its
    sign: an error is p or 1 - p, and the ones cancel. A label that a group lacks has no
    gap.

    Args:
      cells: one-hot labels and groups, ``[..., B, 2, 2]``.

    Returns:
      The weights, ``[..., B, 2]``.
    """
    counts = cells.sum(-3, keepdim=True)
    means = cells / counts.clamp(min=1)
    contrasts = 0.5 * (means[..., 0] - means[..., 1])
    return contrasts * (counts > 0).all(-1)


def _noise(shape: Sequence[int], uniforms: Tensor | None) -> Tensor:
    """Logistic noise over the temperature, drawn or of the given uniforms."""
    if uniforms is None:
        uniforms = torch.rand(shape)
    return torch.logit(uniforms).div_(_TEMPERATURE)


def _system_prob(
    prob: Tensor, defer_logit: Tensor, expert_prob: Tensor, noise: Tensor | None
) -> Tensor:
    """The system's probability of label 1; without noise, its expectation."""
    if noise is not None:
        defer_logit = torch.add(noise, defer_logit, alpha=1 / _TEMPERATURE)
    return torch.lerp(prob, expert_prob, torch.sigmoid(defer_logit))


def _check_runs(
    params: SmallParams,
    gammas: np.ndarray,
    orders: np.ndarray,
    alphas: np.ndarray | None,
    uniforms: np.ndarray | None,
) -> None:
    num_runs = params.classifier.hidden_kernel.shape[0]
    if np.shape(gammas) != (num_runs,):
        raise ValueError(
            f"gammas must give one cost for each of the {num_runs} runs in params, "
            f"got shape {list(np.shape(gammas))}."
        )
    if np.ndim(orders) != 3 or len(orders) == 0:
        raise ValueError(
            "orders must be row numbers [epochs, steps, batch] of at least one epoch, "
            f"got shape {list(np.shape(orders))}."
        )
    if alphas is not None and np.shape(alphas) != (num_runs,):
        raise ValueError(
            f"alphas must give one weight for each of the {num_runs} runs in params, "
            f"got shape {list(np.shape(alphas))}."
        )
    if uniforms is not None:
        if alphas is None:
            raise ValueError("uniforms are for the disparity; give alphas as well.")
        if np.shape(uniforms) != (num_runs, *np.shape(orders)):
            raise ValueError(
                "uniforms must be [runs, epochs, steps, batch], "
                f"{[num_runs, *np.shape(orders)]}, got {list(np.shape(uniforms))}."
            )


def _small_loss(batch: Sequence[Any], net: Sequence[Tensor], alpha: float) -> Tensor:
    """Mean deferral loss of one run, ``[]``.

    ``batch`` is inputs, signs and the expert's loss plus gamma; with disparity also the
    expert's probability, contrasts and noise, and only then alpha counts.
    """
    inputs, signs, expert_cost, *fair = batch
    c_kernel, c_bias, c_out, c_out_bias, r_kernel, r_bias, r_out, r_out_bias = net
    hidden = torch.sigmoid(torch.addmm(c_bias, inputs, c_kernel))
    logit = torch.addmm(c_out_bias, hidden, c_out)
    prob = torch.sigmoid(logit if fair else logit.detach())
    seen = torch.cat([inputs, prob.detach()], 1)
    hidden = torch.sigmoid(torch.addmm(r_bias, seen, r_kernel))
    defer_logit = torch.addmm(r_out_bias, hidden, r_out).squeeze(1)
    classifier_nll = F.softplus(signs * logit.squeeze(1))
    loss = torch.lerp(classifier_nll, expert_cost, torch.sigmoid(defer_logit)).mean()
    if not fair:
        return loss
    expert_prob, contrasts, noise = fair
    system = _system_prob(prob.squeeze(1), defer_logit, expert_prob, noise)
    return torch.add(loss, (system @ contrasts).abs().sum(), alpha=alpha)


def train_small_sequential(
    train: Dataset,
    valid: Dataset,
    orders: np.ndarray,
    gammas: np.ndarray,
    params: SmallParams,
    learning_rate: float = 0.01,
    alphas: np.ndarray | None = None,
    uniforms: np.ndarray | None = None,
) -> SmallResult:
    r"""Trains R small deferring pairs with Adam, one run after another.

    .. math:: (1 - \pi)\,\ell(y, \hat y) + \pi\,(\ell(y, \hat y_D) + \gamma)

    on average and, if there are alphas, :math:`\alpha` times the soft disparity of the
    system :math:`(1 - s)\,\hat y + s\,\hat y_D` between two groups in the minibatch,
    with s one binary Concrete sample of :math:`\pi` an example, at temperature 0.5. The
    validation loss has :math:`\pi` itself in place of s.

    Args:
      train: inputs ``[N, F]``, labels ``[N]`` in {0, 1}, expert probabilities
        ``[N, 1, 2]``; for disparity, groups ``[N]`` in {0, 1}.
      valid: the same of the validation rows.
      orders: rows of every minibatch, int ``[E, S, B]``, shared by the runs.
      gammas: cost of deferring in each run, float ``[R]``, nats.
      params: initial parameters.
      learning_rate: Adam's, > 0.
      alphas: weight of the disparity in each run, float ``[R]``; None has none.
      uniforms: what the samples s are made of, float ``[R, E, S, B]``, in (0, 1); None
        draws them.

    Returns:
      Losses and best parameters of the runs.

    Raises:
      ValueError: if the shapes of the arguments do not fit together, or groups or
        alphas are missing.
    """
    _check_runs(params, gammas, orders, alphas, uniforms)
    inputs, signs, expert_nll = _small_data(train, "train")
    held_inputs, held_signs, held_expert_nll = _small_data(valid, "valid")
    rows = torch.tensor(np.asarray(orders), dtype=torch.int64)
    if alphas is not None:
        fair, held_fair = _fair_data(train, "train"), _fair_data(valid, "valid")
    noise = None
    if uniforms is not None:
        noise = torch.tensor(np.asarray(uniforms), dtype=torch.float32)
    final_losses, best_losses, best_nets = [], [], []
    for run, gamma in enumerate(np.asarray(gammas).tolist()):
        net = [
            torch.tensor(array[run], dtype=torch.float32, requires_grad=True)
            for array in (*params.classifier, *params.rejector)
        ]
        optimizer = torch.optim.Adam(net, lr=learning_rate, fused=True)
        expert_cost = expert_nll + gamma
        held_batch = [held_inputs, held_signs, held_expert_nll + gamma]
        alpha = 0.0
        if alphas is not None:
            alpha = float(alphas[run])
            held_batch += [held_fair.expert_prob, _contrasts(held_fair.cells), None]
        loss, best_loss = float("inf"), float("inf")
        best_net = [tensor.detach().clone() for tensor in net]
        for epoch, epoch_rows in enumerate(rows):
            columns = [inputs[epoch_rows], signs[epoch_rows], expert_cost[epoch_rows]]
            if alphas is not None:
                given = None if noise is None else noise[run, epoch]
                columns += [
                    fair.expert_prob[epoch_rows],
                    _contrasts(fair.cells[epoch_rows]),
                    _noise(epoch_rows.shape, given),
                ]
            for batch in zip(*columns, strict=True):
                optimizer.zero_grad(set_to_none=True)
                _small_loss(batch, net, alpha).backward()
                optimizer.step()
            with torch.no_grad():
                loss = _small_loss(held_batch, net, alpha).item()
                if loss < best_loss:
                    best_loss = loss
                    for best, tensor in zip(best_net, net, strict=True):
                        best.copy_(tensor)
        final_losses.append(loss)
        best_losses.append(best_loss)
        best_nets.append([tensor.numpy(force=True) for tensor in best_net])
    stacked = [np.stack(arrays) for arrays in zip(*best_nets, strict=True)]
    return SmallResult(
        np.array(final_losses),
        np.array(best_losses),
        SmallParams(MLPParams(*stacked[:4]), MLPParams(*stacked[4:])),
    )


def _stack_small(params: SmallParams) -> list[Tensor]:
    """Lays the parameters out for `_stacked_small_losses`.

    The runs see the same rows, so their first layers are one matrix ``[R H, F]``
    times the transposed inputs: one large product in place of R small ones, measured
    3 x faster than ``baddbmm``. The rejector's column for the classifier's
    probability differs by run and is kept apart.
    """
    classifier, rejector = params

    def leaf(array: np.ndarray) -> Tensor:
        array = np.ascontiguousarray(array, np.float32)
        return torch.tensor(array, requires_grad=True)

    return [
        leaf(classifier.hidden_kernel.swapaxes(1, 2)),  # [R, H, F]
        leaf(classifier.hidden_bias[:, :, None]),  # [R, H, 1]
        leaf(classifier.output_kernel.swapaxes(1, 2)),  # [R, 1, H]
        leaf(classifier.output_bias),  # [R, 1]
        leaf(rejector.hidden_kernel[:, :-1].swapaxes(1, 2)),  # [R, H, F]
        leaf(rejector.hidden_kernel[:, -1, :, None]),  # [R, H, 1]
        leaf(rejector.hidden_bias[:, :, None]),  # [R, H, 1]
        leaf(rejector.output_kernel.swapaxes(1, 2)),  # [R, 1, H]
        leaf(rejector.output_bias),  # [R, 1]
    ]


def _unstack_small(net: Sequence[Tensor]) -> SmallParams:
    c_kernel, c_bias, c_out, c_out_bias, *rejector = [
        tensor.numpy(force=True) for tensor in net
    ]
    r_kernel, r_column, r_bias, r_out, r_out_bias = rejector
    return SmallParams(
        MLPParams(
            c_kernel.swapaxes(1, 2), c_bias[:, :, 0], c_out.swapaxes(1, 2), c_out_bias
        ),
        MLPParams(
            np.concatenate([r_kernel, r_column], 2).swapaxes(1, 2),
            r_bias[:, :, 0],
            r_out.swapaxes(1, 2),
            r_out_bias,
        ),
    )


def _stacked_small_losses(
    batch: Sequence[Any], gammas: Tensor, net: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Deferral losses of all runs on the same rows, ``[R, B]``.

    ``batch`` is inputs, signs and the expert's loss, ``net`` from `_stack_small`. With
    the expert's probability, contrasts and noise ``[R, B]`` in the batch as well, the
    second result is the signed gaps of both labels, ``[R, 2]``; it is a sum over the
    rows.
    """
    inputs, signs, expert_nll, *fair = batch
    c_kernel, c_bias, c_out, c_out_bias, *rejector = net
    r_kernel, r_column, r_bias, r_out, r_out_bias = rejector
    num_runs, num_hidden, _ = c_kernel.shape

    def first_layer(kernel: Tensor, bias: Tensor) -> Tensor:
        product = torch.addmm(
            bias.view(num_runs * num_hidden, 1), kernel.flatten(0, 1), inputs.t()
        )
        return product.view(num_runs, num_hidden, -1)

    def last_layer(kernel: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        # Batched matrices of fewer than 400 products each are multiplied in a plain
        # loop, measured 4 x slower than elementwise for 256 runs.
        if hidden[0].numel() < 400:
            return (kernel.transpose(1, 2) * hidden).sum(1) + bias
        return torch.bmm(kernel, hidden).squeeze(1) + bias

    hidden = torch.sigmoid(first_layer(c_kernel, c_bias))
    logit = last_layer(c_out, c_out_bias, hidden)
    prob = torch.sigmoid(logit if fair else logit.detach())
    seen = prob.detach()[:, None]
    hidden = torch.sigmoid(torch.addcmul(first_layer(r_kernel, r_bias), seen, r_column))
    defer_logit = last_layer(r_out, r_out_bias, hidden)
    losses = torch.lerp(
        F.softplus(signs * logit),
        expert_nll + gammas[:, None],
        torch.sigmoid(defer_logit),
    )
    if not fair:
        return losses, None
    expert_prob, contrasts, noise = fair
    # The gaps of all runs are one product, since the rows and their cells are shared.
    return losses, _system_prob(prob, defer_logit, expert_prob, noise) @ contrasts


def train_small_stacked(
    train: Dataset,
    valid: Dataset,
    orders: np.ndarray,
    gammas: np.ndarray,
    params: SmallParams,
    learning_rate: float = 0.01,
    alphas: np.ndarray | None = None,
    uniforms: np.ndarray | None = None,
) -> SmallResult:
    """Trains the runs of `train_small_sequential` together, stacked by hand.

    The loss is the sum of the runs' losses, so each run gets its own gradient; Adam is
    elementwise, so one optimizer serves them all. Arguments, result and errors are
    those of `train_small_sequential`.
    """
    _check_runs(params, gammas, orders, alphas, uniforms)
    train_tensors = _small_data(train, "train")
    costs = torch.tensor(np.asarray(gammas), dtype=torch.float32)
    net = _stack_small(params)
    optimizer = torch.optim.Adam(net, lr=learning_rate, fused=True)
    rows = torch.tensor(np.asarray(orders), dtype=torch.int64)
    num_valid = len(valid.labels)
    held_tensors: list[Any] = [*_small_data(valid, "valid")]
    if alphas is not None:
        fair, held_fair = _fair_data(train, "train"), _fair_data(valid, "valid")
        weights = torch.tensor(np.asarray(alphas), dtype=torch.float32)
        held_tensors += [held_fair.expert_prob, _contrasts(held_fair.cells)]
    noise = None
    if uniforms is not None:
        noise = torch.tensor(np.asarray(uniforms), dtype=torch.float32)
    # Validation by minibatches keeps the activations of many runs in the cache.
    held_batches = list(
        zip(*(t.split(rows.shape[2]) for t in held_tensors), strict=True)
    )
    if alphas is not None:
        held_batches = [(*batch, None) for batch in held_batches]
    best_net = [tensor.detach().clone() for tensor in net]
    best_losses = torch.full_like(costs, float("inf"))
    losses = best_losses
    for epoch, epoch_rows in enumerate(rows):
        columns: list[Any] = [t[epoch_rows] for t in train_tensors]
        if alphas is not None:
            # Drawn a step at a time, so that it is still in the cache when used.
            noises = (
                _noise(
                    (len(costs), rows.shape[2]),
                    None if noise is None else noise[:, epoch, step],
                )
                for step in range(rows.shape[1])
            )
            columns += [
                fair.expert_prob[epoch_rows],
                _contrasts(fair.cells[epoch_rows]),
                noises,
            ]
        for batch in zip(*columns, strict=True):
            optimizer.zero_grad(set_to_none=True)
            example_losses, gaps = _stacked_small_losses(batch, costs, net)
            loss = example_losses.mean(1).sum()
            if gaps is not None:
                loss = loss + weights @ gaps.abs().sum(1)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            losses = torch.zeros_like(costs)
            held_gaps = torch.zeros(len(costs), 2)
            for batch in held_batches:
                example_losses, gaps = _stacked_small_losses(batch, costs, net)
                losses += example_losses.sum(1)
                if gaps is not None:
                    held_gaps += gaps
            losses /= num_valid
            if alphas is not None:
                losses += weights * held_gaps.abs().sum(1)
            improved = losses < best_losses
            best_losses = torch.where(improved, losses, best_losses)
            for best, tensor in zip(best_net, net, strict=True):
                mask = improved.view(-1, *[1] * (tensor.ndim - 1))
                torch.where(mask, tensor, best, out=best)
    return SmallResult(
        losses.double().numpy(force=True),
        best_losses.double().numpy(force=True),
        _unstack_small(best_net),
    )


# Networks trained with the cross-entropy surrogate: digits and images.


def deferral_targets(data: Dataset, num_classes: int, alpha: float) -> np.ndarray:
    r"""Weights that turn a softmax cross-entropy into the deferral surrogate.

    .. math:: -c \log p_\bot - (\alpha c + 1 - c) \log p_y

    with c = 1 where the expert is right. The rows do not sum to 1.

    Args:
      data: labels ``[N]`` and answers of one expert, int ``[N, 1]``.
      num_classes: K.
      alpha: weight of the label where the expert is right, >= 0; 1 is the consistent
        surrogate.

    Returns:
      The weights, float32 ``[N, K + 1]``, deferral last.

    Raises:
      ValueError: if the expert's answers have another shape.

    References:
      Mozannar and Sontag, "Consistent Estimators for Learning to Defer", 2020.
    """
    labels = np.asarray(data.labels)
    answers = np.asarray(data.expert_labels)
    if answers.shape != (len(labels), 1):
        raise ValueError(
            f"data.expert_labels must be the answers [{len(labels)}, 1] of one expert, "
            f"got shape {list(answers.shape)}."
        )
    correct = answers[:, 0] == labels
    targets = np.zeros((len(labels), num_classes + 1), np.float32)
    targets[np.arange(len(labels)), labels] = np.where(correct, alpha, 1.0)
    targets[:, num_classes] = correct
    return targets


def _make_optimizer(
    name: str, params: Sequence[Tensor], learning_rate: float
) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(
            params, lr=learning_rate, momentum=0.9, nesterov=True, fused=True
        )
    if name == "adam":
        return torch.optim.Adam(params, lr=learning_rate, fused=True)
    raise ValueError(f"optimizer must be 'sgd' or 'adam', got {name!r}.")


def train_digits_sequential(
    inputs: np.ndarray,
    targets: np.ndarray,
    orders: np.ndarray,
    params: MLPParams,
    optimizer: str = "sgd",
    learning_rate: float = 0.1,
) -> np.ndarray:
    """Trains R networks of one ReLU layer on the surrogate, one after another.

    Args:
      inputs: features, float ``[N, F]``.
      targets: what `deferral_targets` gives, float ``[N, O]``.
      orders: rows of every minibatch of each run, int ``[R, E, S, B]``.
      params: initial parameters.
      optimizer: ``sgd`` (Nesterov momentum 0.9) or ``adam``.
      learning_rate: of that optimizer, > 0.

    Returns:
      Mean surrogate loss over all N rows after training, float ``[R]``, nats.

    Raises:
      ValueError: if ``optimizer`` is neither of the two.
    """
    features = torch.tensor(np.asarray(inputs), dtype=torch.float32)
    weights = torch.tensor(np.asarray(targets), dtype=torch.float32)

    def apply(rows: Tensor, net: Sequence[Tensor]) -> Tensor:
        kernel, bias, out_kernel, out_bias = net
        return torch.addmm(
            out_bias, torch.relu(torch.addmm(bias, rows, kernel)), out_kernel
        )

    final_losses = []
    for run, rows in enumerate(torch.tensor(np.asarray(orders), dtype=torch.int64)):
        net = [
            torch.tensor(array[run], dtype=torch.float32, requires_grad=True)
            for array in params
        ]
        updater = _make_optimizer(optimizer, net, learning_rate)
        for epoch_rows in rows:
            batches = zip(features[epoch_rows], weights[epoch_rows], strict=True)
            for batch, batch_weights in batches:
                updater.zero_grad(set_to_none=True)
                F.cross_entropy(apply(batch, net), batch_weights).backward()
                updater.step()
        with torch.no_grad():
            final_losses.append(F.cross_entropy(apply(features, net), weights).item())
    return np.array(final_losses)


def train_digits_stacked(
    inputs: np.ndarray,
    targets: np.ndarray,
    orders: np.ndarray,
    params: MLPParams,
    optimizer: str = "sgd",
    learning_rate: float = 0.1,
) -> np.ndarray:
    """Trains the runs of `train_digits_sequential` together, stacked by hand.

    Arguments, result and errors are those of `train_digits_sequential`. Every run has
    its own rows, so the layers are batched products.
    """
    features = torch.tensor(np.asarray(inputs), dtype=torch.float32)
    weights = torch.tensor(np.asarray(targets), dtype=torch.float32)
    net = [
        torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in params
    ]
    num_runs = len(net[0])
    updater = _make_optimizer(optimizer, net, learning_rate)

    def losses(rows: Tensor, rows_weights: Tensor) -> Tensor:
        kernel, bias, out_kernel, out_bias = net
        hidden = torch.relu(torch.baddbmm(bias[:, None], rows, kernel))
        logits = torch.baddbmm(out_bias[:, None], hidden, out_kernel)
        nll = F.cross_entropy(
            logits.flatten(0, 1), rows_weights.flatten(0, 1), reduction="none"
        )
        return nll.view(num_runs, -1).mean(1)

    all_rows = (
        torch.tensor(np.asarray(orders), dtype=torch.int64).flatten(1, 2).unbind(1)
    )
    for rows in all_rows:
        updater.zero_grad(set_to_none=True)
        losses(features[rows], weights[rows]).sum().backward()
        updater.step()
    with torch.no_grad():
        final_losses = losses(
            features.expand(num_runs, -1, -1), weights.expand(num_runs, -1, -1)
        )
    return final_losses.double().numpy(force=True)


class _WideBlock(nn.Module):
    """Pre-activation residual block; a change of shape shares the activation."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(num_in)
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or num_in != num_out:
            self.shortcut = nn.Conv2d(num_in, num_out, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        active = F.relu(self.norm1(inputs), inplace=True)
        kept = inputs if self.shortcut is None else self.shortcut(active)
        active = F.relu(self.norm2(self.conv1(active)), inplace=True)
        return kept + self.conv2(active)


class WideResNet(nn.Module):
    """Wide residual network for 32 x 32 images, WRN-depth-width.

    References:
      Zagoruyko and Komodakis, "Wide Residual Networks", 2016, Table 1.
    """

    def __init__(self, depth: int, width: int, num_outputs: int) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(
                f"depth must be 6 n + 4 with n >= 1 (10, 16, 22, 28, ...), got {depth}."
            )
        num_blocks = (depth - 4) // 6
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        num_in = 16
        for group, stride in enumerate((1, 2, 2)):
            num_out = 16 * width * 2**group
            for block in range(num_blocks):
                blocks.append(_WideBlock(num_in, num_out, stride if block == 0 else 1))
                num_in = num_out
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(num_in)
        self.head = nn.Linear(num_in, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0, "fan_out", "relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``[B, 3, S, S]`` to outputs ``[B, O]``."""
        features = F.relu(self.norm(self.blocks(self.stem(images))), inplace=True)
        return self.head(features.mean((2, 3)))


def make_wide_resnet(
    seed: int, depth: int, width: int, num_outputs: int, learning_rate: float = 0.1
) -> tuple[WideResNet, torch.optim.Optimizer]:
    """Builds a network in training mode and its optimizer, channels last.

    Args:
      seed: of the initial weights.
      depth: 6 n + 4 with n >= 1.
      width: multiple of the 16, 32 and 64 channels of the three groups, >= 1.
      num_outputs: K + 1, deferral last.
      learning_rate: of SGD with Nesterov momentum 0.9 and weight decay 5e-4, > 0.

    Returns:
      The network and the optimizer.

    Raises:
      ValueError: if no network has that depth.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WideResNet(depth, width, num_outputs)
    nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        fused=True,
    )
    return model, optimizer


def wide_resnet_step(
    model: WideResNet,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Does one training step on the surrogate.

    Args:
      model: network, changed in place.
      optimizer: its optimizer, changed in place.
      images: float32 ``[B, S, S, 3]``, channels last.
      targets: what `deferral_targets` gives, float32 ``[B, K + 1]``.
      dtype: of the computation; other than float32 it is PyTorch's autocast.

    Returns:
      Mean surrogate loss of the batch before the step, nats, ``[]``; a GPU is not
      waited for.
    """
    optimizer.zero_grad(set_to_none=True)
    mixed = dtype != torch.float32
    with torch.autocast(images.device.type, dtype, enabled=mixed):
        # A permuted view of channels-last memory is PyTorch's channels-last format.
        outputs = model(images.permute(0, 3, 1, 2))
        loss = F.cross_entropy(outputs, targets)
    loss.backward()
    optimizer.step()
    return loss.detach()

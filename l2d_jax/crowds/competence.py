r"""A Bayesian model of each annotator's competence in each category; ours.

Labels by vote or by agreement can lock on to a majority that is wrong: with a third of
annotators right about a category and the rest wrong most of the time, "they are right"
and "the others are" explain all answers equally well, with the labels exchanged. Only
the prior can tell these apart, and a contrast is enough: who is *thought better than
others* is probably better than chance, who is thought worse probably worse, and then
the answers of the worse are evidence as well, against what they say.

So dSim is read as contrast: the log-odds of an annotator's competence are, at first,

.. math:: \mathrm{logit}\, c_{iz} = \mathrm{logit}\, b + s\,
          [\mathrm{logit}\, w_{iz} - \mathrm{logit}\,(1 / m)]

with the allocation w that dSim makes, b the competence of an annotator of whom the
prior says nothing, and s how far it is trusted. Competence has a beta distribution for
each truth (sensitivity and specificity), is shrunk towards that of the annotator's
pool, and the pool's towards the prior: where few answers are known of a person, the
pool speaks, and where the prior is wrong of a person, their own answers soon do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jax.typing import ArrayLike

from l2d_jax._rounding import of_sum
from l2d_jax.crowds import allocation
from l2d_jax.crowds.allocation import Annotators, Crowd
from l2d_jax.types import Array

_MOST = 3.0  # Of a contrast, in nats: dSim of 0 or 1 is no certainty.
_SURE = 1e-6  # No competence is nearer to 0 or 1, where its log-odds would be infinite.


class Competence(NamedTuple):
    """Soft counts by annotator, category and truth, and what they start from.

    Attributes:
      right: answers that were right, float ``[M, Z, 2]``.
      wrong: answers that were not, ``[M, Z, 2]``.
      totals: of the truth in each category, float ``[Z, 2]``.
      prior: competence at first, float ``[M, Z]``, in (0, 1).
      members: pool of each annotator as rows of 0 and 1, float ``[M, M]``: who is in
        the same pool.
    """

    right: jax.Array
    wrong: jax.Array
    totals: jax.Array
    prior: jax.Array
    members: jax.Array


def prior_competence(
    similarity: Array, base: ArrayLike, trust: ArrayLike, least: ArrayLike
) -> jax.Array:
    """Competence before any answer.

    Args:
      similarity: dSim, float ``[M, Z]``, in [0, 1].
      base: b, of an annotator of whom the prior says no more than of others, in (0, 1).
      trust: s, how far the prior is trusted, >= 0.
      least: the least competence that the prior can say, in [0, base]. At 1/2 whom it
        does not suit is no help; below, they are evidence against what they say.

    Returns:
      Float ``[M, Z]``, in (0, 1).
    """
    similarity = jnp.asarray(similarity)
    count = similarity.shape[0]
    everyone = jnp.ones(count, bool)
    weights = jax.vmap(allocation.normalize, (1, None), 1)(similarity, everyone)
    contrast = logit(_unsure(weights)) - logit(_unsure(jnp.asarray(1.0 / count)))
    odds = logit(base) + trust * jnp.clip(contrast, -_MOST, _MOST)
    return jnp.maximum(_unsure(jax.nn.sigmoid(odds)), least)


def _unsure(prob: jax.Array) -> jax.Array:
    return jnp.clip(prob, _SURE, 1.0 - _SURE)


def make_crowd(
    base: float = 0.5,
    trust: float = 1.0,
    least: float = 0.0,
    pool_answers: float = 10.0,
    own_answers: float = 4.0,
) -> Crowd:
    """The model, learned as answers arrive.

    Args:
      base: see `prior_competence`. 1/2 lets people be worse than chance, as the paper's
        synthetic annotators are; real people are usually better.
      trust: see `prior_competence`.
      least: see `prior_competence`.
      pool_answers: answers that the prior counts as, about a pool, > 0.
      own_answers: answers that the pool counts as, about one of its members, > 0.
    """

    def init(annotators: Annotators) -> Competence:
        prior = prior_competence(annotators.similarity, base, trust, least)
        pools = jnp.asarray(annotators.pools)
        counts = jnp.zeros((*prior.shape, 2))
        members = (pools[:, None] == pools[None, :]).astype(jnp.float32)
        return Competence(counts, counts, jnp.ones((prior.shape[1], 2)), prior, members)

    def accuracy(state: Competence) -> jax.Array:
        """Posterior mean, float ``[M, Z, 2]``."""
        prior = state.prior[..., None]

        def over_pool(values: jax.Array) -> jax.Array:
            return jnp.tensordot(state.members, values, 1)

        right, wrong = over_pool(state.right), over_pool(state.wrong)
        size = jnp.sum(state.members, axis=1)[:, None, None]
        mean = over_pool(prior) / size
        pooled = (pool_answers * mean + right) / (pool_answers + right + wrong)
        pooled = _unsure(pooled)
        # The pool moves its members in log-odds, each from where the prior has them.
        expected = jax.nn.sigmoid(logit(prior) + logit(pooled) - logit(mean))
        own = own_answers * expected + state.right
        return _unsure(own / (own_answers + state.right + state.wrong))

    def posterior(
        state: Competence, categories: Array, answers: Array, consulted: jax.Array
    ) -> jax.Array:
        rates = accuracy(state)
        heard = jnp.asarray(consulted).astype(jnp.float32)
        ones = heard * (jnp.asarray(answers) == 1)
        # For answer 1: log(sensitivity / (1 - specificity)); for 0 likewise.
        when_one = jnp.log(rates[..., 1]) - jnp.log1p(-rates[..., 0])
        when_zero = jnp.log1p(-rates[..., 1]) - jnp.log(rates[..., 0])
        odds = jnp.log(state.totals[:, 1]) - jnp.log(state.totals[:, 0])
        by_category = ones @ when_one + (heard - ones) @ when_zero + odds
        num_categories = by_category.shape[1]
        allocation.check_answers(answers, consulted)
        allocation.check_categories(categories, num_categories)
        index = jnp.asarray(categories)[:, None]
        found = jnp.take_along_axis(by_category, index, axis=1)[:, 0]
        # What speaks for and against: where they cancel, rounding is left.
        evidence = ones @ jnp.abs(when_one) + (heard - ones) @ jnp.abs(when_zero)
        size = jnp.take_along_axis(evidence + jnp.abs(odds), index, axis=1)[:, 0]
        rounding = of_sum(heard.shape[1], found.dtype) * size
        exists = (index[:, 0] >= 0) & (index[:, 0] < num_categories)
        known = allocation.are_known(answers, consulted) & exists
        found = jnp.where(known, found, jnp.nan)
        return allocation.probability(found, rounding)

    def learn(
        state: Competence,
        categories: Array,
        answers: Array,
        consulted: jax.Array,
        probs: jax.Array,
    ) -> Competence:
        num_categories = state.totals.shape[0]
        heard = jnp.asarray(consulted).astype(jnp.float32)
        ones = heard * (jnp.asarray(answers) == 1)
        zeros = heard - ones
        of_category = jax.nn.one_hot(categories, num_categories)
        truth = jnp.stack([1.0 - probs, probs], axis=1)
        anyone = jnp.any(heard > 0, axis=1)[:, None]
        cells = (of_category[:, :, None] * truth[:, None, :]).reshape(len(probs), -1)
        shape = (heard.shape[1], num_categories, 2)
        when_one = (ones.T @ cells).reshape(shape)
        when_zero = (zeros.T @ cells).reshape(shape)
        right = jnp.stack([when_zero[..., 0], when_one[..., 1]], axis=-1)
        wrong = jnp.stack([when_one[..., 0], when_zero[..., 1]], axis=-1)
        return state._replace(
            right=state.right + right,
            wrong=state.wrong + wrong,
            totals=state.totals + jnp.sum(cells * anyone, axis=0).reshape(-1, 2),
        )

    def scores(state: Competence, explore: ArrayLike) -> jax.Array:
        share = state.totals / jnp.sum(state.totals, axis=1, keepdims=True)
        mean = jnp.sum(accuracy(state) * share, axis=-1)
        known = own_answers + jnp.sum(state.right + state.wrong, axis=-1)
        hopeful = mean + explore * jnp.sqrt(mean * (1.0 - mean) / (known + 1.0))
        return logit(jnp.clip(hopeful, 1e-4, 1.0 - 1e-4))

    return Crowd(init, posterior, learn, scores)

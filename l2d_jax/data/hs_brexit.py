"""HS-Brexit: hate speech as migrants to the United Kingdom and as others see it."""

import json
import os

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.annotated import Annotated, make_annotated
from l2d_jax.data.folder import DataError

_FILES = {
    "toxicity/hs_brexit/HS-Brexit_train.json": (
        "d204d83c7b1a73f037b3aff36aac61357c08a96f96292a37ac7655eb562d81fb"
    ),
    "toxicity/hs_brexit/HS-Brexit_dev.json": (
        "77c17f95985cbb6db47ffcda637e717a9074f2660e15b5c0c1f9006f50da60a7"
    ),
    "toxicity/hs_brexit/HS-Brexit_test.json": (
        "24e5e1615818ff6e3b96e50245cfe10636ef8ec0ea51f2c2a60acb68858fd195"
    ),
}
_REMEDY = (
    "take it out of data_post-competition.zip of github.com/Le-Wi-Di/le-wi-di.github.io"
)
_POOLS = ("target", "control")


def load_hs_brexit(data_dir: str | os.PathLike[str] | None = None) -> Annotated:
    """HS-Brexit: 1,120 tweets on Brexit, each judged by the same six people.

    An answer says whether a tweet is hate speech. Three of the people are Muslim
    immigrants in the United Kingdom, the target group, and three are others, the
    control group. There is no label from outside. The train, dev and test parts of the
    shared task are joined in this order. The tweets hold offensive language.

    Args:
      data_dir: folder that holds ``toxicity/hs_brexit/HS-Brexit_train.json``, and the
        same of dev and test; see `l2d_jax.data.folder.resolve_data_dir` for the
        default.

    Returns:
      The tweets, N = 1,120 and M = 6: one category, ``brexit``, to which the pool
      ``target`` is similar and the pool ``control`` is not. All labels are -1.

    Raises:
      DataError: the folder or a file is missing or damaged.

    References:
      Akhtar, Basile and Patti, "Whose Opinions Matter? Perspective-aware Models to
      Identify Opinions of Hate Speech Victims in Abusive Language Detection", 2021.
      Leonardelli et al., "SemEval-2023 Task 11: Learning With Disagreements", 2023.
    """
    texts: list[str] = []
    answers: list[tuple[int, str, str]] = []
    pools: dict[str, str] = {}
    for place, sha256 in _FILES.items():
        path = folder.find(data_dir, place, sha256, url=None, remedy=_REMEDY)
        for number, tweet in json.loads(path.read_text("utf-8")).items():
            people = tweet["annotators"].split(",")
            info = tweet["other_info"]
            for person, group, answer in zip(
                people,
                info["annotators group"].split(","),
                tweet["annotations"].split(","),
                strict=True,
            ):
                pool = info[group].removesuffix(" group")
                if pools.setdefault(person, pool) != pool or pool not in _POOLS:
                    raise DataError(
                        f"{path}, tweet {number}: annotator {person!r} is of the "
                        f"{info[group]!r}, and should be of the same group "
                        f"throughout, 'target group' or 'control group': {_REMEDY}"
                    )
                answers.append((len(texts), person, answer))
            texts.append(tweet["text"])
    return make_annotated(
        texts,
        items=[item for item, _, _ in answers],
        annotators=[person for _, person, _ in answers],
        answers=[answer for _, _, answer in answers],
        categories=np.zeros(len(texts), np.int32),
        category_names=("brexit",),
        annotator_names=tuple(pools),
        pools=[_POOLS.index(pool) for pool in pools.values()],
        pool_names=_POOLS,
        similarity=[[float(pool == "target")] for pool in pools.values()],
        source="HS-Brexit",
    )

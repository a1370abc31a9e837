"""Annotators with Attitudes: who finds which tweets offensive."""

import os

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.annotated import Annotated, make_annotated
from l2d_jax.data.answers import read_columns

_PLACE = "toxicity/annwithattitudes/largeScale.csv"
_SHA256 = "c1c28445e68872418f5b42bef082d38a4ac7d2200d15bb571dff9d9310b55015"
_URL = (
    "https://raw.githubusercontent.com/fionasguo/causal_fairness/"
    "daf22fb95dbc189e73a865f01e5cbb40f8d149ff/data/annWithAttitudes/largeScale.csv"
)
_REMEDY = "get it from github.com/fionasguo/causal_fairness"
_PROFILE = (
    "altruism",
    "empathy",
    "freeSpeech",
    "harmHateSpeech",
    "traditionalism",
    "lingPurism",
    "racism",
    "annotatorAge",
    "annotatorGender",
    "annotatorMinority",
    "annotatorPolitics",
    "annotatorRace",
)
_POST = ("postId", "tweet", "ogLabelToxic", "isAAE", "targetsBlackPeople")
_FLAGS = {"False": 0, "True": 1}
_CATEGORIES = ("neither", "aae", "targets_black", "both")
_POOLS = ("black", "white", "other")


def load_annwithattitudes(
    data_dir: str | os.PathLike[str] | None = None, *, threshold: int = 3
) -> Annotated:
    """Annotators with Attitudes: 3,456 ratings of 627 posts by 265 kinds of people.

    The large-scale part of the study. A rating says how offensive a post could be to
    anyone, from 1 (not at all) to 5; the outside label is the toxicity in the data sets
    that the posts are from. Each post has 3 to 6 ratings.

    The file has no identifier of the people. An annotator is therefore a profile, a
    combination of the seven attitudes and five demographic answers that come with each
    rating: two people alike in all of them are one, and somebody who once answered
    otherwise is two. One profile rated 7 posts twice; the first rating stays. Profiles
    are named in the order of their first rating.

    Downloaded where the folder lacks it. The posts hold offensive language.

    Args:
      data_dir: folder that holds ``toxicity/annwithattitudes/largeScale.csv``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.
      threshold: the lowest rating that counts as the answer 1, in [2, 5].

    Returns:
      The posts, N = 627 and M = 265. Categories tell whether a post is in
      African-American English (``aae``), targets Black people (``targets_black``),
      ``both`` or ``neither``. Pools are ``black``, ``white`` and ``other``, by the
      annotator's race. Black annotators are similar to each category, and the others
      to ``neither`` alone.

    Raises:
      DataError: the folder or the file is missing, damaged, or not to be had.
      ValueError: the threshold is not in [2, 5].

    References:
      Sap, Swayamdipta, Vianna, Zhou, Choi and Smith, "Annotators with Attitudes: How
      Annotator Beliefs And Identities Bias Toxic Language Detection", 2022.
    """
    if not 2 <= threshold <= 5:
        raise ValueError(f"threshold must be in [2, 5], not {threshold}")
    path = folder.find(data_dir, _PLACE, _SHA256, _URL, _REMEDY)
    with open(path, newline="", encoding="utf-8") as file:
        columns = read_columns(file, (*_POST, "toany", *_PROFILE), path)
    posts, texts, toxic, dialect, target, ratings, *profile = columns
    people = list(zip(*profile, strict=True))
    # Dictionaries keep the order in which things first appear.
    places = {person: place for place, person in enumerate(dict.fromkeys(people))}
    names = [f"profile_{place:03d}" for place in range(len(places))]
    items = {post: item for item, post in enumerate(dict.fromkeys(posts))}
    rows = [posts.index(post) for post in items]
    races = [person[-1] for person in places]
    black = np.array(races) == "black"
    similarity = np.repeat(black[:, np.newaxis], len(_CATEGORIES), axis=1)
    similarity[:, _CATEGORIES.index("neither")] = True
    return make_annotated(
        [texts[row] for row in rows],
        items=[items[post] for post in posts],
        annotators=[names[places[person]] for person in people],
        answers=[float(rating) >= threshold for rating in ratings],
        categories=[_FLAGS[dialect[row]] + 2 * _FLAGS[target[row]] for row in rows],
        category_names=_CATEGORIES,
        annotator_names=names,
        pools=[_POOLS.index(race if race in _POOLS else "other") for race in races],
        pool_names=_POOLS,
        similarity=similarity,
        source=path,
        labels=[_FLAGS[toxic[row]] for row in rows],
    )

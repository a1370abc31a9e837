"""A team on the disk: arrays in one file, all else in another, nothing pickled.

A folder holds ``policy.json`` (columns, classes, people, limits, versions, checksums),
``weights.safetensors``, ``evaluation.json`` where the team was judged, and
``policy.stablehlo``, the whole decision as a program that `jax.export` runs without
this library; see `export`.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import secrets
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import safetensors
import safetensors.numpy

from l2d_jax.decisions import allocate
from l2d_jax.policies.guarantees import Certificate, TeamCertificate
from l2d_jax.table import columns, nested, networks
from l2d_jax.table.consult import Consult
from l2d_jax.table.groups import ByGroup
from l2d_jax.table.methods import METHODS, Known
from l2d_jax.table.options import Options, prices_of
from l2d_jax.table.results import COLUMNS, Evaluation
from l2d_jax.table.team import Team, know, outputs, restrict
from l2d_jax.types import Array

FORMAT = 1
POLICY, WEIGHTS = "policy.json", "weights.safetensors"
PROGRAM, EVALUATION = "policy.stablehlo", "evaluation.json"
_PLATFORMS = ("cpu", "cuda", "tpu")


def save(
    team: Team,
    folder: str | os.PathLike,
    *,
    evaluation: Evaluation | None = None,
    made: dict[str, Any] | None = None,
) -> None:
    """Write a team into a new folder, whole or not at all.

    Args:
      team: from `l2d_jax.table.fitting.fit`.
      folder: which does not exist, or is empty.
      evaluation: of the team, for its report.
      made: what it was made of, as JSON knows it: command, checksum of the data, how
        to read a table.

    Raises:
      FileExistsError: the folder holds something.
      ValueError: some of the team's people are new to it.
    """
    if team.new:
        raise ValueError(
            f"{', '.join(team.new)} are new to the team, which is kept without them;"
            " fit it again with their answers"
        )
    folder = pathlib.Path(folder).absolute()
    require_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    temporary.mkdir()
    try:
        _write(temporary, team, evaluation, made or {})
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def require_new(folder: str | os.PathLike) -> None:
    """See that a folder can be written.

    Raises:
      FileExistsError: it holds something, or is a file.
    """
    folder = pathlib.Path(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder} exists; name a new folder, or remove it first")


def _write(
    folder: pathlib.Path,
    team: Team,
    evaluation: Evaluation | None,
    made: dict[str, Any],
) -> None:
    encoder, arrays = columns.to_arrays(team.encoder)
    weights = {f"encoder/{name}": value for name, value in arrays.items()}
    weights |= nested.flatten(team.params)
    whole = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(whole))
    (folder / PROGRAM).write_bytes(export(team))
    if evaluation is not None:
        _dump(_evaluation_to_json(evaluation), folder / EVALUATION)
    _dump(
        {
            "format": FORMAT,
            "encoder": encoder,
            "classes": team.classes,
            "people": team.people,
            "kind": team.kind,
            "method": team.method,
            "threshold": _number_to_json(team.threshold),
            "by_group": _by_group_to_json(team.by_group),
            "certificate": _certificate_to_json(team.certificate),
            "consult": None if team.consult is None else team.consult._asdict(),
            "candidates": _frame_to_json(team.candidates),
            "options": {**team.options._asdict(), "how": team.options.how._asdict()},
            "notes": team.notes,
            "program": {
                "file": PROGRAM,
                "inputs": [
                    "features float32 [b, D]",
                    "available bool [b, M]",
                    "threshold float32 [b], 0 but with a guarantee or by group",
                ],
                "outputs": [
                    "class_probs float32 [b, K]",
                    "right_probs float32 [b, M]",
                    "defer_score float32 [b, M]",
                    "allocation float32 [b, M + 1], the model last",
                ],
                "features": list(team.encoder.names),
            },
            "versions": versions(),
            "sha256": {
                name: _digest(folder / name)
                for name in (WEIGHTS, PROGRAM, EVALUATION)
                if (folder / name).exists()
            },
            "made": made,
        },
        folder / POLICY,
    )


def load(folder: str | os.PathLike) -> tuple[Team, dict[str, Any]]:
    """Read a team.

    Args:
      folder: from `save`.

    Returns:
      The team, and what it was made of.

    Raises:
      ValueError: there is no team, it is of another format, or a file was changed.
    """
    folder = pathlib.Path(folder)
    known = _read_policy(folder)
    _require_sound(folder, known)
    try:
        weights = safetensors.numpy.load_file(folder / WEIGHTS)
        arrays = {
            name.removeprefix("encoder/"): value
            for name, value in weights.items()
            if name.startswith("encoder/")
        }
        params = nested.unflatten(
            {n: v for n, v in weights.items() if not n.startswith("encoder/")}
        )
        options = dict(known["options"])
        how = networks.Training(**_as_tuples(options.pop("how")))
        sets = known.get("consult")
        team = Team(
            columns.from_arrays(known["encoder"], arrays),
            tuple(known["classes"]),
            tuple(known["people"]),
            known["kind"],
            {"networks": {}, **params},
            known["method"],
            float(known["threshold"]),
            _by_group_from_json(known["by_group"]),
            _certificate_from_json(known["certificate"]),
            None if sets is None else Consult(**_as_tuples(sets)),
            _frame_from_json(known["candidates"]),
            Options(**_as_tuples(options), how=how),
            tuple(known["notes"]),
        )
    except (KeyError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{folder / POLICY} is not as it was written ({error!r}); fit again"
        ) from error
    return team, _as_tuples(known["made"])


def load_evaluation(folder: str | os.PathLike) -> Evaluation:
    """Read what a team was judged to be worth.

    Raises:
      ValueError: it was not judged, or a file was changed.
    """
    folder = pathlib.Path(folder)
    known = _read_policy(folder)
    if EVALUATION not in known.get("sha256", {}):
        raise ValueError(f"{folder} holds no evaluation; judge it on cases of its own")
    _require_sound(folder, known)
    found = json.loads((folder / EVALUATION).read_text("utf-8"))
    for name in COLUMNS:
        # Those of a version before know of no sets, prices or dates.
        frame = _frame_from_json(found.get(name, {}))
        found[name] = frame.reindex(columns=frame.columns.union(COLUMNS[name], False))
    found["notes"] = tuple(found["notes"])
    found["how"] = tuple((what, value) for what, value in found["how"])
    error = found["calibration_error"]
    found["calibration_error"] = np.nan if error is None else error
    return Evaluation(**found)


def export(team: Team) -> bytes:
    """The team's decision on encoded cases as a serialized program of `jax.export`.

    Args:
      team: whose method, prices and threshold it has; budget and capacity are of a
        batch, and not in it.

    Returns:
      A program for CPU, GPU and TPU of features, float32 ``[b, D]``, whether each
      person can be asked, bool ``[b, M]``, and the threshold of each case, float32
      ``[b]`` (the team's, or that of its group), for any b. It gives class
      probabilities, chances of the people's being right, scores, and the allocation,
      the model last. Where several share an answer the threshold is of no account.
    """

    def decide(
        inputs: jax.Array, available: jax.Array, threshold: jax.Array
    ) -> tuple[Array, ...]:
        class_probs, found = know(team.kind, team.params, inputs)
        sizes = (len(team.classes), len(team.people))
        nets = team.params["networks"].get(team.method)
        out = outputs(team.method, sizes, team.options.how, nets, inputs, class_probs)
        prices = prices_of(team.options, team.people)
        known = Known(class_probs, found.prob, prices, team.options.ask, available)
        decision = restrict(team.method, known, out)
        allocation = decision.allocation
        if team.people and not METHODS[team.method].several:
            scores = jnp.where(available, decision.defer_score, -jnp.inf)
            allocation = jax.vmap(lambda row, cut: allocate(row[None], cut)[0])(
                scores, threshold
            )
        return (
            decision.class_probs,
            decision.expert_correct_prob,
            decision.defer_score,
            allocation,
        )

    (size,) = jax.export.symbolic_shape("b")
    width = len(team.encoder.names)
    if team.kind == "given":
        width += len(team.classes)
    exported = jax.export.export(jax.jit(decide), platforms=_PLATFORMS)(
        jax.ShapeDtypeStruct((size, width), jnp.float32),
        jax.ShapeDtypeStruct((size, len(team.people)), jnp.bool_),
        jax.ShapeDtypeStruct((size,), jnp.float32),
    )
    return bytes(exported.serialize())


def versions() -> dict[str, str]:
    """Of what a team is made with, by name."""
    names = ("l2d-jax", "jax", "numpy", "pandas", "scikit-learn")
    return {name: importlib.metadata.version(name) for name in names}


def _read_policy(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / POLICY
    if not path.is_file():
        raise ValueError(f"{folder} holds no {POLICY}; name a folder that fit has made")
    try:
        known = json.loads(path.read_text("utf-8"))
        found = known["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged; fit again") from error
    if found != FORMAT:
        raise ValueError(
            f"{path} is of format {found!r}, and this version reads {FORMAT}; read it"
            f" with l2d-jax {known.get('versions', {}).get('l2d-jax', '?')}, or fit"
            " again"
        )
    return known


def _require_sound(folder: pathlib.Path, known: dict[str, Any]) -> None:
    """See that every file of the folder is the one that was written.

    Raises:
      ValueError: one is missing or another.
    """
    digests = known.get("sha256", {})
    # Those that each policy has, and those that this one is said to have.
    for name in dict.fromkeys((WEIGHTS, PROGRAM, *digests)):
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; copy the whole folder, or fit again")
        if _digest(path) != digests.get(name):
            raise ValueError(
                f"{path} is not the file that {POLICY} tells of: its checksum is"
                " another; copy the folder again, or fit again"
            )


def _digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dump(value: Any, path: pathlib.Path) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", "utf-8")


def _as_tuples(value: Any) -> Any:
    """JSON's lists as tuples, however deep, so that they can be hashed."""
    if isinstance(value, dict):
        return {name: _as_tuples(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return tuple(_as_tuples(inner) for inner in value)
    return value


def _frame_to_json(frame: pd.DataFrame) -> dict[str, list]:
    return {
        str(name): [
            None if isinstance(value, float) and np.isnan(value) else value
            for value in frame[name].tolist()
        ]
        for name in frame
    }


def _frame_from_json(columns_of_frame: dict[str, list]) -> pd.DataFrame:
    frame = pd.DataFrame(columns_of_frame)
    for name, values in columns_of_frame.items():
        if any(value is None for value in values):
            frame[name] = [np.nan if value is None else value for value in values]
    return frame


def _number_to_json(value: float) -> float | str:
    # JSON knows no infinity.
    return value if np.isfinite(value) else repr(value)


def _certificate_to_json(
    found: Certificate | TeamCertificate | None,
) -> dict[str, Any] | None:
    if found is None:
        return None
    whose = "team" if isinstance(found, TeamCertificate) else "kept"
    threshold = _number_to_json(found.threshold)
    return {"of": whose, **found._asdict(), "threshold": threshold}


def _certificate_from_json(
    known: dict[str, Any] | None,
) -> Certificate | TeamCertificate | None:
    if known is None:
        return None
    values = {**known, "threshold": float(known["threshold"])}
    kind = {"team": TeamCertificate, "kept": Certificate}[values.pop("of", "kept")]
    return kind(**values)


def _by_group_to_json(found: ByGroup | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {**found._asdict(), "thresholds": [repr(t) for t in found.thresholds]}


def _by_group_from_json(known: dict[str, Any] | None) -> ByGroup | None:
    if known is None:
        return None
    thresholds = tuple(float(text) for text in known["thresholds"])
    return ByGroup(tuple(known["groups"]), thresholds, known["gap"])


def _evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    found: dict[str, Any] = evaluation._asdict()
    for name in COLUMNS:
        found[name] = _frame_to_json(found[name])
    if np.isnan(evaluation.calibration_error):
        found["calibration_error"] = None
    return found

"""The command ``l2d``: from a table to a policy, decisions and a report."""

import argparse
import hashlib
import io
import os
import pathlib
import re
import shlex
import signal
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from l2d_jax.table.cases import Cases
    from l2d_jax.table.evaluation import Record
    from l2d_jax.table.options import Options
    from l2d_jax.table.results import Evaluation
    from l2d_jax.table.team import Team

_STOPPED = "l2d: stopped; no file is half written"
_STOPPED_STATUS = 128 + signal.SIGINT
_UNITS = "units (rows, or what --split-by keeps together)"
_INTERVALS = (
    "Policies and model: 95 % corrected t intervals over the held-out parts (Nadeau and"
    " Bengio, 2003), never narrower than those of the others. People, groups and"
    f" predicted chances: Wilson intervals over {_UNITS}."
)


def run() -> NoReturn:
    """Run the command as a program, which Ctrl-C ends in one line.

    An exception would be lost in a callback of JAX's, and Python's own end, while
    compiled code still runs, may be a crash.
    """

    def stop(number: int, frame: Any) -> NoReturn:
        os.write(2, f"{_STOPPED}\n".encode())
        os._exit(_STOPPED_STATUS)

    signal.signal(signal.SIGINT, stop)
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the status is 0, or 2 with one line where the input is at fault.

    Args:
      argv: arguments; None are those of the process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is no reason to fail after the work.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    arguments.command = shlex.join(["l2d", *(sys.argv[1:] if argv is None else argv)])
    try:
        try:
            import l2d_jax.table.cases  # noqa: F401
        except ModuleNotFoundError as error:
            print(
                f"l2d: {error.name} is not installed; pip install 'l2d-jax[table]'",
                file=sys.stderr,
            )
            return 2
        arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has stopped reading, as head does; the rest goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        print(f"l2d: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(_STOPPED, file=sys.stderr)
        return _STOPPED_STATUS
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="l2d",
        description="Who should answer each case, a model or one of several people?",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="say what a table holds, and what is odd")
    _add_table(check, "cases")
    check.set_defaults(run=_check)

    fit = commands.add_parser("fit", help="fit a team to a table and judge it")
    _add_table(fit, "cases")
    _add_fit(fit)
    fit.set_defaults(run=_fit)

    apply = commands.add_parser("apply", help="decide on new cases")
    apply.add_argument("policy", type=pathlib.Path, help="folder that fit has made")
    apply.add_argument("cases", type=pathlib.Path, help="CSV of new cases")
    apply.add_argument("--answers", type=pathlib.Path, help="CSV: case, expert, answer")
    apply.add_argument(
        "--available",
        type=pathlib.Path,
        help="CSV of who can be asked: expert, and perhaps case, and capacity in place"
        " of that of fit",
    )
    apply.add_argument(
        "--new", type=_names, default=(), help="people the policy has not met, a,b"
    )
    apply.add_argument("--max-defer", type=float, help="share of the cases, in [0, 1]")
    _add_pairs(apply, "capacity", "cases that a person can answer, NAME=30; repeat")
    apply.add_argument(
        "--stream",
        type=int,
        metavar="CASES",
        help="decide on cases in the file's order, none by what comes later: --capacity"
        " and --max-defer are then of each so many cases, such as a day's",
    )
    apply.add_argument("--out", type=pathlib.Path, required=True, help="CSV to write")
    apply.set_defaults(run=_apply)

    report = commands.add_parser("report", help="write a page to read and to print")
    report.add_argument("policy", type=pathlib.Path, help="folder that fit has made")
    report.add_argument("--on", type=pathlib.Path, help="CSV of held-out cases")
    report.add_argument(
        "--answers", type=pathlib.Path, help="CSV: case, expert, answer"
    )
    report.add_argument("--out", type=pathlib.Path, required=True, help="HTML to write")
    report.set_defaults(run=_report)

    example = commands.add_parser("example", help="write a small table to try it on")
    example.add_argument("folder", type=pathlib.Path, help="new folder")
    example.set_defaults(run=_example)
    return parser


def _add_table(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(name, type=pathlib.Path, help="CSV, a row for each case")
    parser.add_argument("--id", type=_name, help="column that names the case")
    parser.add_argument(
        "--label",
        type=_name,
        required=True,
        help="column of what it was; blank, NA, N/A, #N/A, NaN or NULL is not known",
    )
    parser.add_argument(
        "--experts", type=_names, default=(), help="columns of people's answers, a,b,c"
    )
    parser.add_argument(
        "--answers", type=pathlib.Path, help="CSV instead: case, expert, answer"
    )
    parser.add_argument("--group", type=_name, help="column to compare groups by")
    parser.add_argument(
        "--split-by", type=_name, help="column never split, such as a patient"
    )
    parser.add_argument(
        "--text", type=_names, default=(), help="columns that are texts"
    )
    parser.add_argument(
        "--category",
        type=_names,
        default=(),
        help="columns of names that look like numbers",
    )
    parser.add_argument("--exclude", type=_names, default=(), help="columns left out")
    parser.add_argument(
        "--scores",
        type=_names,
        default=(),
        help="columns of a model's probabilities: one for each class, sorted (numbers"
        " by value), or of two classes one alone, of --positive or else the second",
    )
    parser.add_argument(
        "--positive",
        type=_name,
        help="class that sensitivity is about, and one column of --scores, of two",
    )
    parser.add_argument(
        "--cv", type=_cv, default=(5, 2), help="FOLDSxREPEATS of the evaluation: 5x2"
    )


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--methods",
        type=_names,
        default=("auto",),
        help="auto, all, or names: never,confidence,two_stage,softmax,one_vs_all,"
        "decoupled,panel",
    )
    parser.add_argument(
        "--max-defer", type=float, default=1.0, help="share of a batch, in [0, 1]"
    )
    _add_pairs(parser, "price", "errors that asking a person costs, NAME=0.05; repeat")
    _add_pairs(parser, "capacity", "cases a person can answer, NAME=30; repeat")
    parser.add_argument(
        "--ask", type=int, default=1, help="people asked about a case at most"
    )
    parser.add_argument(
        "--guarantee",
        type=_guarantee,
        metavar="'error<=0.05'",
        help="what the error among cases that the model keeps must be below, or with"
        " 'team error<=0.05' that of all cases, whoever answers; a third of the cases"
        " is held out for it",
    )
    parser.add_argument(
        "--fair",
        type=_fair,
        metavar="'equalized_odds<=0.05'",
        help="how far groups of the column --group may differ, by a threshold for each:"
        " equalized_odds, equal_opportunity, demographic_parity, equal_accuracy or"
        " deferral_rate",
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of it")
    parser.add_argument(
        "--consult",
        type=float,
        metavar="0.9",
        help="name for each case the smallest set of people that holds one who is right"
        " with this probability, over cases like these in which one of those who answer"
        " is; a third of the cases is held out for it. That nobody is right is told"
        " apart",
    )
    parser.add_argument(
        "--balanced", action="store_true", help="classes count alike in training"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        help="folder in which what is finished is kept, to go on from after a stop",
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="new folder")


def _add_pairs(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(
        f"--{name}",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=N",
        help=text,
    )


def _name(text: str) -> str:
    """A name as `l2d_jax.table.reading.read_table` reads it."""
    return unicodedata.normalize("NFC", text.strip())


def _names(text: str) -> tuple[str, ...]:
    return tuple(_name(name) for name in text.split(",") if name.strip())


def _pair(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        if not equals or not name:
            raise ValueError
        return _name(name), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=NUMBER, such as r1=0.05"
        ) from None


def _cv(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or int(found[1]) < 2 or int(found[2]) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FOLDSxREPEATS, such as 5x2, of two folds or more"
        )
    return int(found[1]), int(found[2])


def _guarantee(text: str) -> tuple[str, float]:
    """The field of the options, and its value."""
    found = re.fullmatch(r"\s*(team\s+)?error\s*<=?\s*([0-9.eE-]+)\s*", text)
    try:
        if found is None:
            raise ValueError
        return "max_team_error" if found[1] else "max_error", float(found[2])
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not 'error<=NUMBER', such as 'error<=0.05', or"
            " 'team error<=NUMBER'"
        ) from None


def _fair(text: str) -> tuple[str, float]:
    found = re.fullmatch(r"\s*(\w+)\s*<=?\s*([0-9.eE-]+)\s*", text)
    try:
        if found is None:
            raise ValueError
        return found[1], float(found[2])
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not 'CRITERION<=NUMBER', such as 'equalized_odds<=0.05'"
        ) from None


def _check(arguments: argparse.Namespace) -> None:
    from l2d_jax.table.check import check, describe

    cases, _ = _read(arguments)
    found = check(
        cases,
        text=arguments.text,
        category=arguments.category,
        num_folds=arguments.cv[0],
    )
    print(describe(found))


def _read(arguments: argparse.Namespace) -> "tuple[Cases, dict[str, Any]]":
    """The cases of a table, and how to read others like it."""
    from l2d_jax.table.cases import make_cases
    from l2d_jax.table.reading import read_table

    how = {
        name: getattr(arguments, name)
        for name in ("id", "label", "experts", "group", "split_by", "scores", "exclude")
    }
    answers = None if arguments.answers is None else read_table(arguments.answers)
    cases = make_cases(
        read_table(arguments.cases),
        answers=answers,
        positive=arguments.positive,
        **how,
    )
    planned = {"text": arguments.text, "category": arguments.category}
    return cases, {**how, **planned, "positive": arguments.positive}


def _options(arguments: argparse.Namespace) -> "Options":
    from l2d_jax.table.options import Options

    return Options(
        methods=arguments.methods,
        max_deferral=arguments.max_defer,
        prices=tuple(arguments.price),
        capacity=_whole(arguments.capacity),
        ask=arguments.ask,
        confidence=arguments.confidence,
        consult=arguments.consult,
        fair=arguments.fair,
        positive=arguments.positive,
        balanced=arguments.balanced,
        seed=arguments.seed,
        **dict([arguments.guarantee] if arguments.guarantee else []),
    )


def _whole(pairs: Sequence[tuple[str, float]]) -> tuple[tuple[str, int], ...]:
    for name, value in pairs:
        if not value.is_integer():
            raise ValueError(f"--capacity: {name}={value:g} is not a whole number")
    return tuple((name, int(value)) for name, value in pairs)


def _require_writable(path: pathlib.Path, *inputs: pathlib.Path | None) -> None:
    """See that a file or folder can be made, and is none that is read.

    Raises:
      ValueError: it is one of the inputs.
      OSError: the folder that it is to be in cannot be written, or made.
    """
    if any(given is not None and path.resolve() == given.resolve() for given in inputs):
        raise ValueError(f"--out: {path} is read; name another file to write")
    folder = path.absolute().parent
    while not folder.exists() and not folder.is_symlink():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{path} cannot be written: {folder}: {error.strerror}; name another place"
        ) from None


def _require_file(path: pathlib.Path, *inputs: pathlib.Path | None) -> None:
    """See that a file can be written, as `_require_writable`."""
    if path.is_dir():
        raise ValueError(f"--out: {path} is a folder; name a file to write")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--out: there is no folder {path.parent}; make it first")
    _require_writable(path, *inputs)


def _require_enough(cases: "Cases", num_folds: int, options: "Options") -> None:
    """See that every class has units for each part that is held out, and to fit to.

    Raises:
      ValueError: one has fewer.
    """
    from l2d_jax.table.fitting import HELD_OUT_FOR_PROMISES
    from l2d_jax.table.folds import shortage
    from l2d_jax.table.options import promises

    promise_folds = HELD_OUT_FOR_PROMISES if promises(options) else None
    for number, name in enumerate(cases.classes):
        count = len(set(cases.units[cases.labels == number].tolist()))
        why = shortage(count, num_folds, options.num_folds, promise_folds)
        if why:
            raise ValueError(
                f"class {name!r} is that of {count} units (rows, or what --split-by"
                f" keeps together), and by --cv {why}"
            )


def _fit(arguments: argparse.Namespace) -> None:
    from l2d_jax.data.folder import user_cache_dir
    from l2d_jax.engine import compiled
    from l2d_jax.table import evaluation, fitting, groups, storage
    from l2d_jax.table.cases import take
    from l2d_jax.table.columns import plan_columns, read_numbers, require_useful
    from l2d_jax.table.options import check_options

    compiled.keep(user_cache_dir() / "compiled")
    # All that can be refused is refused before the minutes of fitting.
    storage.require_new(arguments.out)
    _require_writable(arguments.out)
    if arguments.workdir is not None and arguments.workdir.exists():
        _require_writable(arguments.workdir / "policy")
    options = _options(arguments)
    cases, how = _read(arguments)
    check_options(options, cases.people)
    num_folds, num_repeats = arguments.cv
    labelled = take(cases, (cases.labels >= 0).nonzero()[0])
    _require_enough(labelled, num_folds, options)
    if options.fair is not None:
        # Who is held out has to be in what is fitted to as well.
        groups.require_cases(labelled, options, least=2)
    plan = plan_columns(labelled.features, arguments.text, arguments.category)
    require_useful(plan, labelled)
    features = read_numbers(plan, labelled.features)
    labelled = labelled._replace(features=features)
    with _Bar() as bar:
        team = fitting.fit(
            labelled,
            options,
            text=arguments.text,
            category=arguments.category,
            report=bar.part("fitting", 0.0, 0.2),
            checkpoint_dir=arguments.workdir and arguments.workdir / "policy",
        )
        record = evaluation.cross_validate(
            labelled,
            options,
            num_folds=num_folds,
            num_repeats=num_repeats,
            text=arguments.text,
            category=arguments.category,
            report=bar.part("judging", 0.2, 0.8),
            checkpoint_dir=arguments.workdir and arguments.workdir / "judging",
        )
    judged = _judge(
        arguments,
        arguments.cases,
        team,
        labelled,
        record,
        (*cases.notes, *team.notes),
        f"{arguments.label} of {arguments.cases.name}",
        f"{num_repeats} times {num_folds} parts held out in turn",
        _INTERVALS,
    )
    storage.save(
        team,
        arguments.out,
        evaluation=judged,
        made={
            "command": arguments.command,
            "sha256": _digest(arguments.cases),
            "table": how,
        },
    )
    print(judged.headline)
    print(_table(judged.parties))
    if not judged.consult.empty:
        print(_sets(judged.consult.iloc[0]))
    if team.certificate is not None:
        print(f"guarantee: {_guaranteed(team)}")
    for note in judged.notes:
        print(f"note: {note}")
    print(f"the policy is {team.method}; wrote {arguments.out}")


def _judge(
    arguments: argparse.Namespace,
    path: pathlib.Path,
    team: "Team",
    cases: "Cases",
    record: "Record",
    notes: Sequence[str],
    title: str,
    how: str,
    intervals: str,
) -> "Evaluation":
    """The tables of a report, with how they were made."""
    from l2d_jax.table import columns, evaluation, storage
    from l2d_jax.table.methods import METHODS

    label = METHODS[team.method].label
    return evaluation.tabulate(
        record,
        cases,
        title=title,
        chosen=team.method,
        options=team.options,
        features=columns.in_units(team.encoder, cases.features),
        notes=notes,
        how=(
            ("Command", arguments.command),
            ("Cases", f"{path.name}, sha256 {_digest(path)}"),
            ("Policy", f"{team.method}: {label}; the model: {team.kind}"),
            *([("Guarantee", _guaranteed(team))] if team.certificate else []),
            ("Evaluation", how),
            *(
                [("Methods chosen, in parts", evaluation.methods_of_parts(record))]
                if len(record.methods) > 1
                else []
            ),
            ("Intervals", intervals),
            ("Seed", str(team.options.seed)),
            *storage.versions().items(),
        ),
    )


def _digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _table(parties: Any) -> str:
    """Who is right how often, as text."""
    from l2d_jax.table.results import priced
    from l2d_jax.table.wording import interval, percent

    paid = ", prices paid" if priced(parties) else ""
    lines = [f"{'':48} accuracy  (95 %)         gain on the best alone{paid}"]
    for row in parties.itertuples():
        ends = f"({interval(row.accuracy_low, row.accuracy_high)})"
        mark = " *" if row.best_single else ""
        lines.append(
            f"{row.party[:46] + mark:48} {percent(row.accuracy):>7}  {ends:15}"
            f"  {_gain(row)}".rstrip()
        )
    return "\n".join([*lines[:40], "* the best single party"])


def _guaranteed(team: "Team") -> str:
    """What is guaranteed, and by what cases."""
    from l2d_jax.policies.guarantees import TeamCertificate

    found, confidence = team.certificate, team.options.confidence
    assert found is not None
    if isinstance(found, TeamCertificate):
        whose, count = "of the team", f"{found.num_cases} held-out cases"
    else:
        whose, count = "among kept cases", f"{found.num_kept} held-out cases kept"
    return (
        f"error {whose} below {100 * found.bound:.1f} % with confidence"
        f" {confidence:g}; of {count} {100 * found.error:.1f} % were wrong, and"
        f" {100 * found.coverage:.1f} % of all are kept"
    )


def _sets(row: Any) -> str:
    """How often sets of people hold one who is right, in a line."""
    from l2d_jax.table.wording import fixed, interval, percent

    ends = interval(row.covered_low, row.covered_high)
    return (
        f"sets of {fixed(row['size'], 2)} people hold one who is right in"
        f" {percent(row.covered)} ({ends}) of the cases in which somebody is"
    )


def _gain(row: Any) -> str:
    """Of a row that is not the best single party's, with its interval if it has one."""
    from l2d_jax.table.wording import UNKNOWN, fixed

    gain, low, high = (
        fixed(100 * value, 1, sign=True)
        for value in (row.gain, row.gain_low, row.gain_high)
    )
    if row.best_single or gain == UNKNOWN:
        return ""
    return f"{gain} (too few cases)" if low == UNKNOWN else f"{gain} ({low} to {high})"


def _load_cases(arguments: argparse.Namespace, path: pathlib.Path, label: bool) -> Any:
    """A team and cases for it."""
    from l2d_jax.table import storage
    from l2d_jax.table.cases import make_cases
    from l2d_jax.table.reading import read_table

    team, made = storage.load(arguments.policy)
    if "table" not in made:
        raise ValueError(
            f"{arguments.policy} does not say how to read a table, as it was not made"
            " by l2d fit; use it from Python"
        )
    if label and made.get("sha256") == _digest(path):
        raise ValueError(
            f"{path} is the very table that the policy was fitted to; give cases that"
            " it was not fitted to, or leave --on out for those that were held out"
        )
    how: dict[str, Any] = dict(made["table"])
    # The encoder knows what each column is.
    how = {name: how[name] for name in how if name not in ("text", "category")}
    frame = read_table(path)
    if not label:
        how["label"] = None
    answers = None if arguments.answers is None else read_table(arguments.answers)
    cases = make_cases(
        frame,
        answers=answers,
        classes=team.classes,
        people=team.people,
        **how,
    )
    return team, cases


def _apply(arguments: argparse.Namespace) -> None:
    import numpy as np

    from l2d_jax.table import output
    from l2d_jax.table.options import check_options, require_once
    from l2d_jax.table.reading import write_table
    from l2d_jax.table.team import decide, welcome

    _require_file(
        arguments.out, arguments.cases, arguments.answers, arguments.available
    )
    team, cases = _load_cases(arguments, arguments.cases, label=False)
    if arguments.new:
        team = welcome(team, arguments.new)
        more = ((0, 0), (0, len(arguments.new)))
        answers = np.pad(cases.answers, more, constant_values=-1)
        cases = cases._replace(people=team.people, answers=answers)
    options = team.options
    if arguments.max_defer is not None:
        options = options._replace(max_deferral=arguments.max_defer)
    require_once("capacity", arguments.capacity)
    capacity = dict(options.capacity) | dict(_whole(arguments.capacity))
    available = None
    if arguments.available is not None:
        available, places = _roster(arguments.available, team.people, cases)
        for name in sorted(places.keys() & dict(arguments.capacity).keys()):
            raise ValueError(
                f"{arguments.available} and --capacity both say how many cases {name}"
                " can answer; leave one out"
            )
        capacity |= places
    options = options._replace(capacity=tuple(capacity.items()))
    check_options(options, team.people)
    decided = decide(
        team, cases, available=available, options=options, period=arguments.stream
    )
    table = output.tabulate(team, cases, decided)
    write_table(table, arguments.out)
    for note in (*cases.notes, *decided.notes):
        print(f"note: {note}")
    asked = int((table.who != output.MODEL).sum())
    print(f"{asked} of {len(table)} cases are deferred; wrote {arguments.out}")


def _roster(
    path: pathlib.Path, people: Sequence[str], cases: "Cases"
) -> tuple[Any, dict[str, int]]:
    """Whom a roster lists: bool ``[N, M]``, and their capacity."""
    import numpy as np

    from l2d_jax.table.cases import text_of
    from l2d_jax.table.reading import read_table

    roster = read_table(path)
    if "expert" not in roster:
        raise ValueError(f"{path}: there is no column expert, of who can be asked")
    available = np.zeros((len(cases.ids), len(people)), bool)
    places: dict[str, int] = {}
    rows = {case: number for number, case in enumerate(cases.ids)}
    seen: set[tuple[str, str]] = set()
    for line in roster.to_dict("records"):
        person = text_of(line["expert"]) or ""
        if person not in people:
            raise ValueError(
                f"{path}: {person!r} is not one of the team's people; name them with"
                " --new, fit again with their answers, or leave them out"
            )
        where: Any = slice(None)
        case = ""
        if "case" in roster:
            case = text_of(line["case"]) or ""
            if case not in rows:
                raise ValueError(f"{path}: there is no case {case!r}")
            where = rows[case]
        if (person, case) in seen:
            of_case = f" for case {case!r}" if case else ""
            raise ValueError(f"{path} lists {person!r} twice{of_case}; keep one line")
        seen.add((person, case))
        available[where, people.index(person)] = True
        given = text_of(line.get("capacity"))
        if given is not None:
            if re.fullmatch("[0-9]+", given) is None:
                raise ValueError(
                    f"{path}: capacity of {person} must be a whole number, got"
                    f" {given!r}"
                )
            if places.setdefault(person, int(given)) != int(given):
                raise ValueError(
                    f"{path}: capacity of {person} is both {places[person]} and"
                    f" {given}; it is that of the batch, so keep one"
                )
    return available, places


def _silent(cases: "Cases", path: pathlib.Path) -> tuple[str, ...]:
    """A note of people whom a table to judge by holds no answer of.

    Args:
      cases: with labels.
      path: of the table.

    Raises:
      ValueError: it holds none of anybody's.
    """
    from l2d_jax.table.options import listed

    silent = [
        name
        for name, own in zip(cases.people, cases.answers.T, strict=True)
        if own.max() < 0
    ]
    if not silent:
        return ()
    if len(silent) == len(cases.people):
        raise ValueError(
            f"{path} holds no answer of {listed(silent)} to a labelled case, so that"
            " there is nothing to judge deferral by; give columns of their names, or"
            " --answers"
        )
    return (
        f"{path.name} holds no answer of {listed(silent)} to a labelled case: what the"
        " team gains by asking them is not seen. Is a column called otherwise?",
    )


def _report(arguments: argparse.Namespace) -> None:
    from l2d_jax.table import evaluation, storage
    from l2d_jax.table.cases import take
    from l2d_jax.table.report import render

    _require_file(arguments.out, arguments.on, arguments.answers)
    silent: tuple[str, ...] = ()
    if arguments.on is None:
        judged = storage.load_evaluation(arguments.policy)
    else:
        team, cases = _load_cases(arguments, arguments.on, label=True)
        known = take(cases, (cases.labels >= 0).nonzero()[0])
        if not len(known.ids):
            raise ValueError(f"{arguments.on} holds no label to judge by")
        silent = _silent(known, arguments.on)
        judged = _judge(
            arguments,
            arguments.on,
            team,
            known,
            evaluation.record_of(team, known),
            (*cases.notes, *silent, *team.notes),
            f"held-out cases of {arguments.on.name}",
            "cases that the policy was not fitted to, as one batch",
            f"95 % over {_UNITS}.",
        )
    from l2d_jax.table.reading import write_text

    write_text(render(judged), arguments.out)
    print(judged.headline)
    for note in silent:
        print(f"note: {note}")
    print(f"wrote {arguments.out}")


def _example(arguments: argparse.Namespace) -> None:
    from l2d_jax.table import example

    example.write(arguments.folder)
    folder = arguments.folder
    print(
        f"wrote {folder}; its readers are simulated, see {folder / 'README.txt'}. Try:"
    )
    columns = "--id case --label diagnosis --group site --positive malignant"
    experts = "--experts reader_1,reader_2,reader_3,trainee"
    print(f"  l2d check {folder}/cases.csv {columns} {experts}")
    print(f"  l2d fit {folder}/cases.csv {columns} {experts} --out {folder}/policy")
    print(f"  l2d apply {folder}/policy {folder}/new_cases.csv --out {folder}/new.csv")
    print(f"  l2d report {folder}/policy --out {folder}/report.html")


class _Bar:
    """A progress bar on standard error, of shares of the whole."""

    def __enter__(self) -> "_Bar":
        from tqdm import tqdm

        self._bar = tqdm(
            total=100,
            bar_format="{l_bar}{bar}| {elapsed}",
            leave=False,
            disable=not sys.stderr.isatty(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def part(self, name: str, first: float, size: float) -> Any:
        """A report of one part of the work."""

        def report(what: str, share: float) -> None:
            self._bar.set_description(f"{name}: {what}")
            self._bar.n = round(100 * (first + size * min(share, 1.0)))
            self._bar.refresh()

        return report

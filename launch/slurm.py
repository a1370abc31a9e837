"""An experiment on a Slurm cluster, whole or in shards, requeued until it is done.

  python -m launch.slurm submit --nodes=1 --time=60 --over=config.num_perfect \
      --shards=4 -- experiments.cifar --config=experiments/configs/digits.py \
      --workdir=runs/digits
  python -m launch.slurm status runs/digits
  python -m launch.slurm collect runs/digits

With ``--over`` an array job has a task for each shard, in ``WORKDIR/shards/NN``;
without it one job runs the whole experiment in ``WORKDIR``. A job that Slurm preempts,
or whose time is over, is requeued and goes on from its last checkpoint. Logs are in
``WORKDIR/launch``. Submitting the same command again goes on with what has failed.

Any parameter of submitit's Slurm executor is an option: ``--slurm-qos=low``,
``--slurm-array-parallelism=8``, ``--slurm-setup='["module load cuda"]'``; other options
of sbatch as ``--slurm-additional-parameters='{"reservation": "mine"}'``. Values are
JSON, or else plain text.
"""

import argparse
import json
import os
import pathlib
import subprocess
from collections.abc import Sequence
from typing import Any

from launch import commands, shards

LOGS = "launch"
ACTIVE = frozenset(
    {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"}
)
"""States of a job that Slurm has not done with."""
_PREFIX = "--slurm-"


def main(argv: Sequence[str]) -> int:
    """Run the launcher; returns its exit status."""
    options, command = commands.split_arguments(argv)
    if command is not None and options[:1] != ["submit"]:
        # With an experiment there is only one thing to do.
        options = ["submit", *options]
    name, rest = (options[0], options[1:]) if options else ("", [])
    if name == "submit":
        return submit(rest, command)
    if name in ("status", "collect"):
        return status(rest) if name == "status" else collect(rest)
    parser = commands.Parser("python -m launch.slurm", __doc__)
    parser.add_argument("what", choices=("submit", "status", "collect"))
    parser.parse_args(options)
    raise AssertionError("the parser takes nothing else")


def submit(options: Sequence[str], command: commands.Command | None) -> int:
    """Submit a job, or an array of them."""
    parser = commands.Parser("python -m launch.slurm submit", __doc__)
    parser.add_argument("--nodes", type=_positive, default=1, help="of each job")
    parser.add_argument(
        "--time", type=_positive, required=True, help="minutes, of each start of a job"
    )
    parser.add_argument("--partition")
    parser.add_argument("--gpus", type=_positive, help="of each node")
    parser.add_argument("--cpus", type=_positive, help="of each process")
    parser.add_argument("--processes-per-node", type=_positive, default=1)
    parser.add_argument("--over", help="config field with a tuple, to split")
    parser.add_argument("--shards", type=int, help="into how many; one a value if not")
    parser.add_argument(
        "--max-timeouts",
        type=int,
        default=100,
        help="how often a job whose time is over is requeued",
    )
    own = [option for option in options if not option.startswith(_PREFIX)]
    given = parser.parse_args(own)
    if command is None:
        raise commands.UserError("no experiment; give -- experiments.NAME ...")
    if given.shards is not None and given.over is None:
        raise commands.UserError(
            "--shards: say over which field, by --over=config.NAME"
        )
    workdir = command.workdir
    over = given.over.removeprefix("config.") if given.over is not None else None
    parts: tuple[tuple[Any, ...], ...] = ()
    if over is not None:
        parts = shards.split_field(command, over, given.shards)
    executor = make_executor(
        given,
        [option for option in options if option.startswith(_PREFIX)],
        workdir / LOGS,
        command.module.rpartition(".")[2],
    )
    record = shards.Record(
        (command.module, *command.arguments), over, parts, (), executor.parameters
    )
    _check_previous(record, workdir)
    commands.make_folder(workdir)

    experiments = [command.replace("workdir", str(workdir))]
    if over is not None:
        found = record.shards(workdir)
        experiments = [shards.shard_command(command, over, shard) for shard in found]
    if given.nodes * given.processes_per_node > 1:
        experiments = [one.add("--distributed") for one in experiments]
    record = record._replace(jobs=tuple(_submit(executor, experiments)))
    shards.write_record(record, workdir)
    print(
        f"Submitted {len(experiments)} job{'s' if len(experiments) > 1 else ''}:"
        f" {', '.join(record.jobs)}\nHow far: python -m launch.slurm status {workdir}"
    )
    if over is not None:
        print(f"At the end: python -m launch.slurm collect {workdir}")
    return 0


def make_executor(
    given: argparse.Namespace, extra: Sequence[str], folder: pathlib.Path, name: str
) -> Any:
    """The executor of submitit, with all options set.

    Args:
      given: the launcher's own options.
      extra: ``--slurm-OPTION=VALUE`` each.
      folder: for logs and what submitit keeps.
      name: of the job.

    Raises:
      UserError: an option is unknown to submitit, is given twice, or would be more
        than a line of the job's script; there is no Slurm.
    """
    try:
        import submitit
    except ImportError as error:
        raise commands.UserError(
            "submitit is not installed; pip install -e '.[slurm]'"
        ) from error
    parameters: dict[str, Any] = {
        "job_name": name,
        "nodes": given.nodes,
        "time": given.time,
        "ntasks_per_node": given.processes_per_node,
        # Slurm itself requeues when it preempts without a warning, or a node fails.
        "additional_parameters": {"requeue": True},
        # One process that dies takes the others of its job with it.
        "srun_args": ["--kill-on-bad-exit=1"],
    }
    if given.partition is not None:
        _require_lines("--partition", given.partition)
        parameters["partition"] = given.partition
    if given.gpus is not None:
        parameters["gpus_per_node"] = given.gpus
    if given.cpus is not None:
        parameters["cpus_per_task"] = given.cpus
        # Since 22.05 srun does not take it over from sbatch.
        parameters["srun_args"].append(f"--cpus-per-task={given.cpus}")
    try:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=given.max_timeouts)
    except RuntimeError as error:
        raise commands.UserError(
            "no srun here; submit from a machine of the Slurm cluster"
        ) from error
    except OSError as error:
        raise commands.UserError(
            f"--workdir {folder.parent}: {error.strerror}; choose a folder you can"
            " write to"
        ) from error
    for option in extra:
        flag, has_value, text = option.partition("=")
        key = flag.removeprefix(_PREFIX).replace("-", "_")
        if not has_value:
            raise commands.UserError(f"{flag}: give {flag}=VALUE")
        value = _parse_value(text)
        _require_lines(flag, value)
        try:
            # One by one, so that the complaint has one name.
            executor.update_parameters(**{key: value})
        except (TypeError, ValueError) as error:
            raise commands.UserError(
                f"{flag}: submitit has no Slurm option {key!r}, or not with the value"
                f" {text!r}; others go through --slurm-additional-parameters"
            ) from error
        before = parameters.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            parameters[key] = {**before, **value}
        elif isinstance(before, list) and isinstance(value, list):
            parameters[key] = [*before, *value]
        elif before is None or key == "job_name":
            parameters[key] = value
        else:
            raise commands.UserError(
                f"{flag}: has an option of its own here; see python -m launch.slurm"
                " submit --help"
            )
    executor.update_parameters(**parameters)
    return executor


def status(argv: Sequence[str]) -> int:
    """Print a line for each job."""
    parser = commands.Parser("python -m launch.slurm status", "How far the jobs are.")
    parser.add_argument("workdir", type=pathlib.Path, metavar="DIR")
    workdir = parser.parse_args(argv).workdir.absolute()
    record = shards.read_record(workdir)
    states = job_states(record.jobs)
    rows = [("shard", "job", "state", "rows", "values", "last line of the log")]
    found = record.shards(workdir)
    for index, job in enumerate(record.jobs):
        name, values, folder = found[index] if found else ("-", (), workdir)
        rows.append(
            (
                name,
                job,
                states[job],
                str(shards.count_rows(folder)),
                ",".join(map(str, values)) or "-",
                _last_line(workdir / LOGS, job),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())
    return 0


def collect(argv: Sequence[str]) -> int:
    """Merge the shards' tables."""
    parser = commands.Parser(
        "python -m launch.slurm collect", "Merge the tables of all shards."
    )
    parser.add_argument("workdir", type=pathlib.Path, metavar="DIR")
    parser.add_argument(
        "--partial", action="store_true", help="though some have no results yet"
    )
    given = parser.parse_args(argv)
    workdir = given.workdir.absolute()
    record = shards.read_record(workdir)
    if record.over is None:
        raise commands.UserError(
            f"{workdir} was submitted without --over; its tables are there already"
        )
    for name, num_rows in shards.collect(workdir, record, given.partial).items():
        print(f"{workdir / name}: {num_rows} rows")
    missing = shards.missing_shards(workdir, record)
    if missing:
        print(f"Partial, without {missing}")
    return 0


def job_states(jobs: Sequence[str]) -> dict[str, str]:
    """Slurm's state of each job, ``UNKNOWN`` of those that it has forgotten."""
    states = dict.fromkeys(jobs, "UNKNOWN")
    names = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    # The queue forgets a job minutes after its end; the accounts do not, where Slurm
    # keeps any.
    for words in (
        f"sacct --noheader --allocations --parsable2 --array --format=JobID,State"
        f" --jobs={names}",
        f"squeue --noheader --array --states=all --format=%i|%T --jobs={names}",
    ):
        try:
            told = subprocess.run(
                words.split(), capture_output=True, text=True, check=False
            )
        except OSError:
            continue
        for line in told.stdout.splitlines():
            job, _, state = line.partition("|")
            if job in states and state:
                states[job] = state.split()[0]
    return states


def _submit(executor: Any, experiments: Sequence[commands.Command]) -> list[str]:
    import submitit

    from launch import jobs

    made = []
    try:
        with executor.batch():
            for experiment in experiments:
                made.append(
                    executor.submit(jobs.ExperimentJob(experiment, os.getcwd()))
                )
    except (submitit.core.utils.FailedJobError, OSError) as error:
        lines = [line for line in str(error).splitlines() if "error:" in line]
        raise commands.UserError(
            f"Slurm refused: {' '.join(lines) or error}; sinfo lists the partitions"
        ) from error
    return [job.job_id for job in made]


def _check_previous(record: shards.Record, workdir: pathlib.Path) -> None:
    """See that the folder is free for a submission.

    Raises:
      UserError: it holds another one, or the same one that has not ended.
    """
    if not (workdir / shards.RECORD).exists():
        return
    previous = shards.read_record(workdir)
    if previous[:3] != record[:3]:
        raise commands.UserError(
            f"{workdir / shards.RECORD}: another command, --over or --shards was"
            " submitted for this folder; give the same or choose another --workdir"
        )
    active = [
        job for job, state in job_states(previous.jobs).items() if state in ACTIVE
    ]
    if active:
        raise commands.UserError(
            f"{workdir}: {', '.join(active)} of this sweep still run or wait; let them,"
            f" or scancel {' '.join(active)} first"
        )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _require_lines(flag: str, value: Any) -> None:
    """See that every text of an option is one line of the job's script, and no more.

    Raises:
      UserError: one is not; the rest of it would be run as a command.
    """
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for part in value:
            _require_lines(flag, part)
    elif isinstance(value, str) and not value.replace("\t", " ").isprintable():
        raise commands.UserError(
            f"{flag}: a job's script cannot hold {value!r}; give it without line breaks"
            " and control characters"
        )


def _last_line(folder: pathlib.Path, job: str) -> str:
    for suffix in ("err", "out"):
        # What programs tell of themselves goes to standard error; of the first task.
        path = folder / f"{job}_0_log.{suffix}"
        if path.exists():
            lines = path.read_text(errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return said[-1][:100]
    return "-"


if __name__ == "__main__":
    commands.run(main)

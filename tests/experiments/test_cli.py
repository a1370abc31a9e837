"""The command line: flags, work folders and what is wrong with them, in one line."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
from children import SERVER, Server, child_environment

from experiments.runtime.errors import ConfigError
from experiments.runtime.workdir import replacing, use_workdir, write_text
from l2d_jax.data import cifar10

pytestmark = pytest.mark.long

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "--config=experiments/configs/digits.py:smoke"
CIFAR10 = "--config=experiments/configs/cifar10.py:smoke"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    # A user's own cache could stand in for data that are not there.
    cache = str(tmp_path_factory.mktemp("cache"))
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env=child_environment() | {"XDG_CACHE_HOME": cache},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Server(process)
        process.stdin.close()


@pytest.fixture
def run_program(server, tmp_path):
    def run(*args, module="experiments.cifar"):
        err = tmp_path / "stderr.txt"
        server.start(module, args, err)
        return server.wait(), err.read_text()

    return run


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def workdir(tmp_path):
    """A work folder with earlier results."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "results.csv").write_text("earlier\n")
    (folder / "claims.csv").write_text("earlier\n")
    return folder


def check_refusal(outcome, *fragments):
    """One line on standard error that holds all of the fragments, and status 2."""
    status, err = outcome
    assert err.count("\n") == 1 and err.startswith("error: "), err
    for fragment in fragments:
        assert fragment in err, err
    assert "Traceback" not in err
    assert status == 2


@pytest.mark.parametrize(
    ("name", "value", "fragment"),
    [
        ("JAX_PLATFORMS", "foo", "JAX_PLATFORMS=foo: Unable to initialize backend"),
        ("JAX_NUM_CPU_DEVICES", "abc", 'Invalid value "abc" for JAX flag'),
        ("JAX_ENABLE_X64", "maybe", "environment 'JAX_ENABLE_X64'; set"),
        ("XLA_FLAGS", "--unknown", "XLA_FLAGS=--unknown: Unknown flag in XLA_FLAGS"),
        (
            "XLA_FLAGS",
            "--xla_cpu_multi_thread_eigen=maybe",
            "eigen=maybe: Couldn't interpret value maybe",
        ),
        ("XLA_FLAGS", "nowhere", 'XLA_FLAGS=nowhere: Could not open file "nowhere"'),
    ],
)
def test_an_environment_that_jax_cannot_use(tmp_path, name, value, fragment):
    command = [sys.executable, "-m", "experiments.cifar", DIGITS]
    found = subprocess.run(
        [*command, f"--workdir={tmp_path / 'w'}"],
        cwd=ROOT,
        env=child_environment() | {name: value},
        capture_output=True,
        text=True,
    )
    check_refusal((found.returncode, found.stderr), fragment)


@pytest.mark.parametrize(
    ("lines", "fragment"),
    [
        ("import nowhere_to_be_had", "No module named 'nowhere_to_be_had'"),
        ("print(undefined)", "NameError: name 'undefined' is not defined"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f():\n    f()\nf()", "RecursionError: maximum recursion depth"),
        ("def get_config():\n    raise RuntimeError('a\\nb')", "RuntimeError: a b"),
        ("def get_config(:", "invalid syntax"),
        (
            "from experiments.configs import digits\ndef get_config():\n"
            "    config = digits.get_config('smoke')\n    del config.methods\n"
            "    return config",
            "config has no field 'methods'",
        ),
    ],
)
def test_a_config_file_that_raises(run_program, tmp_path, lines, fragment):
    path = tmp_path / "mine.py"
    path.write_text(f"{lines}\n")
    check_refusal(
        run_program(f"--config={path}", f"--workdir={tmp_path / 'w'}"), fragment
    )


@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        ([DIGITS], ["--workdir is missing; give --workdir=DIR"]),
        ([DIGITS, "--workdir="], ["--workdir is missing; give --workdir=DIR"]),
        (["--workdir=W"], ["--config is missing; give --config=FILE.py"]),
        (
            ["--config=experiments/configs/digits.py:huge", "--workdir=W"],
            ["digits.py:huge", "scale must be smoke or paper or left out, got 'huge'"],
        ),
        (
            ["--config=nowhere.py", "--workdir=W"],
            ["No such file", "'nowhere.py'", "give the path of a config file"],
        ),
        (
            ["--config=experiments/configs", "--workdir=W"],
            ["Is a directory", "experiments/configs", "give the path of a config file"],
        ),
        (
            ["--config=pyproject.toml", "--workdir=W"],
            ["--config: pyproject.toml is no config file", "ends with .py"],
        ),
        (
            ["--config", "README.md:smoke", "--workdir=W"],
            ["--config: README.md is no config file", "ends with .py"],
        ),
        (["--config=experiments/tables.py", "--workdir=W"], ["get_config"]),
        ([DIGITS, "--workdir=W", "--wrkdir=W"], ["'wrkdir'", "Did you mean: workdir"]),
        ([DIGITS, "--workdir=W", "stray"], ["unknown argument 'stray'"]),
    ],
)
def test_bad_flags(run_program, args, fragments):
    check_refusal(run_program(*args), *fragments)
    assert not (ROOT / "W").exists()


HELD = ("TB of memory (", "and this machine has ", "; lower what is")


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ("nonsense=1", ["config has no field 'nonsense'", "file lists the fields"]),
        ("num_sedes=1", ["no field 'num_sedes'", 'Did you mean "num_seeds"']),
        ("model.depth=10", ["config has no field 'depth'"]),
        ("seed.x=1", ["config has no field", "seed.x"]),
        ("num_seeds=abc", ["--config.num_seeds=abc", "invalid literal"]),
        ("num_seeds=1.5", ["--config.num_seeds=1.5", "invalid literal"]),
        ("num_seeds", ["Missing value for flag --config.num_seeds"]),
        ("grid=3", ["--config.grid=3"]),
        (
            "grid={'alpha':(1.0,)}",
            ["grid.learning_rate is missing; add it to the config"],
        ),
        ("grid={'learning_rate':0.1}", ["grid.learning_rate must hold at least one"]),
        ("grid={'learning_rate':(0.1,),'x':1}", ["grid.x: no program knows this"]),
        ("model={'name':'mlp'}", ["model.hidden is missing, which mlp needs"]),
        ("grid.alpha=(1,2", ["--config.grid.alpha=(1,2"]),
        ("grid.learning_rate=(1e999,)", ["grid.learning_rate must be", "got inf"]),
        ("methods=magic", ["methods: there is no 'magic'", "experiments.methods"]),
        ("num_seeds=1000000000", ["error: num_seeds=1000000000: this takes", *HELD]),
        (
            "model.hidden=(1000000,1000000)",
            ["error: model.hidden=1000000: this takes about", "states 144 TB", *HELD],
        ),
        ("num_epochs=4000000000", ["num_epochs must", "31 bits, at most 2147"]),
        ("crop_padding=8", ["crop_padding 8 is more than", "choose one of at most 7"]),
        ("batch_size=5000", ["batch_size 5000 is larger than the 11", "at most 11"]),
    ],
)
def test_bad_config(run_program, workdir, setting, fragments):
    before = contents(workdir)
    outcome = run_program(DIGITS, f"--workdir={workdir}", f"--config.{setting}")
    check_refusal(outcome, *fragments)
    assert contents(workdir) == before


def test_a_list_that_is_given_twice(run_program, workdir):
    """Both would be joined, where the last is meant."""
    before = contents(workdir)
    outcome = run_program(
        DIGITS,
        f"--workdir={workdir}",
        "--config.num_perfect=(0,)",
        "--config.num_perfect=(5,)",
    )
    check_refusal(outcome, "--config.num_perfect is given twice", "(A,B)")
    assert contents(workdir) == before


def test_a_number_that_is_given_twice_is_the_last(run_program, workdir):
    outcome = run_program(
        DIGITS,
        f"--workdir={workdir}",
        "--config.valid_fraction=0.5",
        "--config.valid_fraction=0",
    )
    check_refusal(outcome, "valid_fraction 0.0 leaves")


def test_a_data_folder_that_is_not_there(run_program, workdir, tmp_path):
    before = contents(workdir)
    outcome = run_program(
        CIFAR10, f"--workdir={workdir}", f"--config.data_dir={tmp_path / 'no'}"
    )
    check_refusal(outcome, f"data_dir names {tmp_path / 'no'}", "--config.data_dir")
    assert contents(workdir) == before


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None,
    reason="TensorFlow would download and prepare the data",
)
def test_a_data_folder_without_the_data(run_program, workdir, tmp_path):
    before = contents(workdir)
    outcome = run_program(
        CIFAR10, f"--workdir={workdir}", f"--config.data_dir={tmp_path}"
    )
    place = tmp_path / "tensorflow_datasets"
    check_refusal(outcome, f"CIFAR-10 is not prepared in {place}", "--config.data_dir")
    assert contents(workdir) == before


def test_a_damaged_data_folder(run_program, workdir, tmp_path):
    before = contents(workdir)
    place = tmp_path / cifar10._PLACE
    place.mkdir(parents=True)
    (place / "dataset_info.json").write_text("{")
    outcome = run_program(
        CIFAR10, f"--workdir={workdir}", f"--config.data_dir={tmp_path}"
    )
    check_refusal(outcome, str(place), "is missing or damaged", "prepare CIFAR-10")
    assert contents(workdir) == before


@pytest.mark.parametrize(
    ("text", "fragment"),
    [("{", "config.json: not JSON"), ("", "not JSON"), ("[]", "all of it differs")],
)
def test_a_damaged_config_json(run_program, workdir, text, fragment):
    (workdir / "config.json").write_text(text)
    before = contents(workdir)
    outcome = run_program(DIGITS, f"--workdir={workdir}")
    check_refusal(outcome, str(workdir), fragment, "choose another --workdir")
    assert contents(workdir) == before


@pytest.mark.parametrize("name", ["checkpoints", "figures"])
def test_a_file_in_the_place_of_a_folder(run_program, workdir, name):
    (workdir / name).write_text("")
    before = contents(workdir)
    outcome = run_program(DIGITS, f"--workdir={workdir}")
    check_refusal(outcome, f"{workdir / name}: must be a folder, and is none; move it")
    assert contents(workdir) == before


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["curves.csv", "config.json", "origin.json"])
def test_a_folder_in_the_place_of_a_file(run_program, workdir, name, make):
    make(workdir / name)
    outcome = run_program(DIGITS, f"--workdir={workdir}")
    check_refusal(outcome, f"{workdir / name}: must be a file, and is none; move it")


def test_a_file_in_the_place_of_the_folder_of_a_part(run_program, workdir):
    (workdir / "digits").write_text("")
    outcome = run_program(
        "--config=experiments/configs/zoo.py:smoke",
        f"--workdir={workdir}",
        module="experiments.zoo",
    )
    check_refusal(outcome, f"{workdir / 'digits'}: File exists, where this program has")


def test_a_work_folder_that_cannot_be_made(run_program, workdir):
    under_a_file = workdir / "results.csv" / "below"
    outcome = run_program(DIGITS, f"--workdir={under_a_file}")
    check_refusal(outcome, f"workdir {under_a_file}", "choose a folder you can write")
    assert contents(workdir)["results.csv"] == b"earlier\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_a_work_folder_where_nobody_may_write(run_program):
    outcome = run_program(DIGITS, "--workdir=/proc/nope")
    check_refusal(outcome, "workdir /proc/nope", "choose a folder you can write to")


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ("run=mnist", ["run must be one of bias, ", ", got 'mnist'"]),
        ("results.digits=/nowhere", ["results.digits: there is no /nowhere/results"]),
        ("results.mnist=/nowhere", ["config has no field 'mnist'"]),
        ("tolerance=-1", ["tolerance must be a finite number in [0, 1], got -1"]),
    ],
)
@pytest.mark.parametrize("config", [[], ["--config=experiments/configs/claims.py"]])
def test_bad_config_of_the_claims(run_program, workdir, config, setting, fragments):
    before = contents(workdir)
    outcome = run_program(
        *config,
        f"--workdir={workdir}",
        f"--config.{setting}",
        module="experiments.claims",
    )
    check_refusal(outcome, *fragments)
    assert contents(workdir) == before


def test_the_home_folder_in_workdir(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with use_workdir("~/deep/er") as workdir:
        assert workdir == tmp_path / "deep" / "er" and workdir.is_dir()
    with (
        pytest.raises(ConfigError, match="workdir ~nobody-of-this-name/x"),
        use_workdir("~nobody-of-this-name/x"),
    ):
        pass


@pytest.fixture
def planted(tmp_path):
    """Puts a link to somebody else's file into a folder, and sees that it is whole."""
    outside = tmp_path / "outside.txt"
    outside.write_text("theirs")

    def plant(name):
        folder = tmp_path / "work"
        folder.mkdir()
        (folder / name).symlink_to(outside)
        return folder

    yield plant
    assert outside.read_text() == "theirs"


def test_a_link_in_place_of_a_temporary_file_is_not_followed(planted):
    # Also what a program that was killed has left.
    folder = planted("results.csv.0123456789abcdef.tmp")
    write_text(folder / "results.csv", "ours")
    assert (folder / "results.csv").read_text() == "ours"
    assert not (folder / "results.csv").is_symlink()
    assert [path.name for path in folder.iterdir()] == ["results.csv"]


def test_a_temporary_name_cannot_be_guessed(tmp_path):
    names = []
    for _ in range(2):
        with replacing(tmp_path / "results.csv") as temporary:
            names.append(temporary.name)
    assert names[0] != names[1]


def test_a_lock_that_is_a_link_is_refused(planted):
    folder = planted(".lock")
    with pytest.raises(ConfigError, match=f"workdir {folder}: "):
        with use_workdir(str(folder)):
            pass

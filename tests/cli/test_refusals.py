"""Whatever is given wrongly: exit code 2, one line on standard error, nothing left behind."""

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from cli.words import TINY_FLAGS, Outcome

HEAD = "user_id,item_id,timestamp\n"
GOOD = HEAD + "".join(f"u{u},i{(u * 7 + t * t) % 11},{t}\n" for u in range(12) for t in range(5))
SHORT = HEAD + "".join(f"u{u},i{u % 5},{t}\n" for u in range(6) for t in range(2))
THREE = HEAD + "".join(f"u{u},i{(u + t) % 5},{t}\n" for u in range(6) for t in range(3))
UNTIMED = "user_id,item_id\n" + "".join(f"u{u},i{(u + t) % 5}\n" for u in range(6) for t in range(5))


class Log(NamedTuple):
    """A log that cannot be used, the flags beside it, and what must be said."""

    name: str
    content: str | bytes
    says: str
    flags: str = ""


LOGS = {
    "empty": Log("log.csv", "", "the file is empty"),
    "header only": Log("log.csv", HEAD, "no events"),
    "no user column": Log("log.csv", "who,item_id\n1,2\n", "no column has a usual name for the user"),
    "told column missing": Log("log.csv", GOOD, "'buyer'", "--user-column buyer"),
    "told time missing": Log("log.csv", GOOD, "'when'", "--time-column when"),
    "null user": Log("log.csv", HEAD + ",i1,1\nu2,i2,2\n", "column 'user_id' (user) is empty in 1 rows"),
    "null item": Log("log.csv", HEAD + "u1,,1\nu2,i2,2\n", "column 'item_id' (item) is empty in 1 rows"),
    "null time": Log("log.csv", HEAD + "u1,i1,\nu2,i2,2\n", "column 'timestamp' (time) is empty in 1 rows"),
    "mixed ids": Log(
        "log.jsonl", '{"user":"a","item":2}\n{"user":7,"item":3}\n', "user ids in 'user' are mixed"
    ),
    "mixed times": Log("log.csv", HEAD + "u1,i1,3\nu2,i2,2024-01-01\n", "is not a number, but the first"),
    "time not finite": Log("log.csv", HEAD + "u1,i1,3.5\nu2,i2,nan\n", "is not finite"),
    "one user": Log("log.csv", HEAD + "u1,i1,1\nu1,i2,2\n", "only one user"),
    "one item": Log("log.csv", HEAD + "u1,i1,1\nu2,i1,2\n", "only one item"),
    "too short to test": Log("log.csv", SHORT, "case is left"),
    "too short to train": Log("log.csv", THREE, "no training sequence has two events"),
    "nothing left by k-core": Log("log.csv", GOOD, "nothing is left", "--min-user-events 100"),
    "broken parquet": Log("log.parquet", b"PAR1 nonsense", "cannot be read as parquet"),
    "cut gzip": Log("log.csv.gz", gzip.compress(GOOD.encode())[:-20], "cannot be read as csv"),
    "no gzip": Log("log.csv.gz", "not compressed", "--separator"),
    "ragged rows": Log("log.csv", HEAD + "u1,i1,1\nu2,i2,2,9\n", "cannot be read as csv"),
    "binary": Log("log.csv", HEAD.encode() + b"\xff\xfe,i,1\n", "cannot be read as csv"),
    "unknown suffix": Log("log.dat", GOOD, "does not tell the format"),
    "unknown format": Log("log.csv", GOOD, "data.format = 'excel'", "--format excel"),
    "long separator": Log("log.csv", GOOD, "data.separator = '::'", "--separator ::"),
    "wrong separator": Log("log.csv", GOOD, "(--separator)", "--separator ;"),
    "time split without times": Log("log.csv", UNTIMED, "time", "--split global_time"),
    "cutoff outside": Log("log.csv", GOOD, "test from 99", "--split global_time --set split.cutoff=99"),
    "cutoff no date": Log("log.csv", GOOD, "cutoff", "--split global_time --set split.cutoff=soon"),
    "unknown split": Log("log.csv", GOOD, "split.kind = 'half'", "--split half"),
}

SETTINGS = {
    "no such teacher": ("--teacher nowhere", "there is no run directory"),
    "soft share above one": ("--set recursion.soft_observed=1.5", "recursion.soft_observed = 1.5"),
    "no base": ("--set recursion.bases=0", "recursion.bases = 0"),
    "unknown key": ("--set training.learnin_rate=1", "did you mean 'training.learning_rate'?"),
    "unknown section": ("--set trainig.patience=3", "did you mean 'training.patience'?"),
    "section for a value": ("--set training=3", "is a section"),
    "no equals sign": ("--set training.patience", "write section.key=value"),
    "no name": ("--set =3", "write section.key=value"),
    "wrong type": ("--set model.dim=wide", "model.dim = 'wide'"),
    "fraction for a count": ("--set model.dim=8.5", "model.dim = 8.5"),
    "zero": ("--set model.dim=0", "greater than or equal to 1"),
    "too large": ("--set model.dropout=1", "less than 1"),
    "negative rounds": ("--rounds=-1", "recursion.rounds = -1"),
    "negative seed": ("--seed=-1", "seed = -1"),
    "heads do not divide": ("--set model.dim=9 --set model.num_heads=2", "num_heads"),
    "infinite rate": ("--set training.learning_rate=inf", "training.learning_rate = inf"),
    "nan rate": ("--set training.learning_rate=nan", "training.learning_rate"),
    "no machine holds it": ("--set model.dim=1000000000000", "out of memory: use a smaller model.dim"),
    "no integer holds it": ("--set model.dim=1000000000000000000000", "no computation holds"),
    "no float holds it": ("--set recursion.synthetic_weight=1e300", "no computation holds"),
    "divergence": ("--set training.learning_rate=1e30", "lower training.learning_rate"),
    "soft targets of a sampled loss": (
        "--set training.loss=bce --set recursion.soft_synthetic=.5",
        "soft_synthetic need 'softmax'",
    ),
    "rollouts shorter than the least": (
        "--set generation.min_length=8 --set generation.max_length=5",
        "generation.min_length = 8 is above generation.max_length = 5",
    ),
    "disagreement without dropout": (
        "--set acquisition.rule=disagreement --set model.dropout=0",
        "set model.dropout above 0",
    ),
    "a lone successor without dropout": (
        "--rounds 2 --set acquisition.rule=disagreement --set recursion.dropout_share=0 "
        "--set recursion.writers=newest --set recursion.bases=1 --set recursion.newcomers=0",
        "with recursion.dropout_share = 0 the model of round 1",
    ),
    "unknown choice": ("--set training.loss=hinge", "training.loss = 'hinge'"),
    "cap without rule": ("--set acquisition.cap=2", "cap"),
    "rule without cap": ("--set acquisition.rule=cap_per_source", "cap"),
    "unknown monitor": ("--set monitor=auc@10", "monitor = 'auc@10' is not measured"),
    "monitor without cutoff": ("--set monitor=ndcg@7", "evaluation.cutoffs"),
    "no cutoff": ("--set evaluation.cutoffs=[]", "evaluation.cutoffs"),
    "impossible world": ("--set simulation.num_topics=60", "simulation"),
    "unknown model": ("--model gpt", "model.name = 'gpt'"),
    "unknown device": ("--device tpu", "choose auto, cpu or cuda"),
    "unknown flag": ("--roundz 3", "--roundz"),
    "word for a number": ("--rounds many", "--rounds"),
}

CONFIGS = {
    "broken.toml": ("[model\ndim=3", "cannot be read"),
    "broken.json": ('{"model": ', "cannot be read"),
    "broken.yaml": ("model: [1, 2\n", "cannot be read"),
    "list.json": ("[1, 2]", "holds no table of settings"),
    "binary.toml": (b"\xff\xfe\x00", "cannot be read"),
    "unknown.toml": ("[modle]\ndim = 3\n", "did you mean 'model.dim'?"),
}


def tree(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def refused(outcome: Outcome, says: str) -> None:
    """One line that says so, exit code 2, nothing on standard output."""
    assert outcome.out == ""
    assert outcome.err.startswith("rsir: error: "), outcome
    assert outcome.err.count("\n") == 1, outcome.err
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.code == 2


@pytest.mark.parametrize("case", LOGS.values(), ids=LOGS)
@pytest.mark.parametrize("verb", ["run", "describe"])
def test_a_log(call: Callable[..., Outcome], tmp_path: Path, case: Log, verb: str) -> None:
    log = tmp_path / case.name
    log.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    before = tree(tmp_path)
    if verb == "describe" and case.says.startswith("no training sequence"):
        pytest.skip("such a log can be described")
    words = ["data", "describe"] if verb == "describe" else ["run", "--out", tmp_path / "runs" / "out"]
    refused(call(*words, log, *case.flags.split()), case.says)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("flags", "says"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting(call: Callable[..., Outcome], tmp_path: Path, flags: str, says: str) -> None:
    refused(call("run", "--quiet", "--out", tmp_path / "runs" / "out", *TINY_FLAGS, *flags.split()), says)
    assert not (tmp_path / "runs" / "out").exists()
    assert tree(tmp_path).keys() <= {"runs"}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_file(call: Callable[..., Outcome], tmp_path: Path, name: str) -> None:
    content, says = CONFIGS[name]
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(call("run", "--out", tmp_path / "out", "--config", file), says)
    refused(call("config", "show", "--config", file), says)
    assert list(tree(tmp_path)) == [name]


def test_no_config_file(call: Callable[..., Outcome], tmp_path: Path) -> None:
    refused(call("run", "--out", tmp_path / "out", "--config", tmp_path / "no.toml"), "does not exist")
    assert tree(tmp_path) == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("verb", ["run", "doctor"])
def test_no_cuda(call: Callable[..., Outcome], tmp_path: Path, verb: str) -> None:
    words = ["run", "--out", tmp_path / "out"] if verb == "run" else ["doctor"]
    refused(call(*words, "--device", "cuda"), "PyTorch sees no CUDA device")
    assert tree(tmp_path) == {}


PLACES = {
    "a file": (lambda folder: (folder / "out").write_text("x"), "is a file"),
    "in use": (lambda folder: _mkfile(folder / "out" / "other.txt"), "is not empty"),
    "a run": (lambda folder: _mkfile(folder / "out" / "data.json"), "go on with --resume"),
    "below a file": (lambda folder: (folder / "file").write_text("x"), "file is a file"),
}


def _mkfile(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("{}")


@pytest.mark.parametrize("name", PLACES)
def test_a_place_for_the_run(call: Callable[..., Outcome], tmp_path: Path, name: str) -> None:
    make, says = PLACES[name]
    make(tmp_path)
    before = tree(tmp_path)
    out = tmp_path / "file" / "out" if name == "below a file" else tmp_path / "out"
    refused(call("run", "--out", out, *TINY_FLAGS), says)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("act", ["replace", "rename"])
def test_a_system_that_refuses(
    call: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, act: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, act, refuse)
    refused(call("run", "--out", tmp_path / "runs" / "out", "--quiet", *TINY_FLAGS), os.strerror(number))
    assert [path for path in tree(tmp_path) if path != "runs"] == []


def test_a_file_size_limit(tmp_path: Path) -> None:
    """A disk that is full as far as this process can tell; a true process of its own."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
    start = "import sys; from rsir.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [
        sys.executable,
        "-c",
        limit + start,
        "run",
        "--quiet",
        "--out",
        str(tmp_path / "out"),
        *TINY_FLAGS,
    ]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    refused(Outcome(done.returncode, done.stdout, done.stderr), "File too large")
    assert tree(tmp_path) == {}


INSTALLED = {
    "rsir": [str(Path(sys.executable).with_name("rsir"))],
    "python -m rsir": [sys.executable, "-m", "rsir"],
}


@pytest.mark.parametrize("command", INSTALLED.values(), ids=INSTALLED)
def test_the_installed_command(tmp_path: Path, command: list[str]) -> None:
    words = [*command, "run", str(tmp_path / "no.csv"), "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    refused(Outcome(done.returncode, done.stdout, done.stderr), "no such file")
    assert tree(tmp_path) == {}


def test_resume_of_nothing(call: Callable[..., Outcome], tmp_path: Path) -> None:
    refused(call("run", "--resume", "--out", tmp_path / "out"), "there is no run directory")
    (tmp_path / "out").mkdir()
    refused(call("run", "--resume", "--out", tmp_path / "out"), "it has no data.json")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda run: (run / "config.toml").unlink(), "config.toml is missing"),
    "cut config": (lambda run: cut(run / "config.toml"), "config.toml"),
    "unknown key in config": (lambda run: replace(run / "config.toml", "dim =", "dmi ="), "'model.dmi'"),
    "cut data.json": (lambda run: cut(run / "data.json"), "data.json cannot be read"),
    "data.json a list": (lambda run: (run / "data.json").write_text("[]"), "has format None"),
    "later format": (lambda run: edit(run / "data.json", format=99), "has format 99; this rsir reads"),
    "no events": (lambda run: (run / "data" / "events.parquet").unlink(), "events.parquet is missing"),
    "cut events": (lambda run: cut(run / "data" / "events.parquet"), "corrupt log"),
    "cut users": (lambda run: cut(run / "data" / "users.parquet"), "corrupt log"),
    "another item file": (lambda run: _reverse(run / "data" / "items.parquet"), "are not of one log"),
    "cut interactions.json": (lambda run: cut(run / "data" / "interactions.json"), "corrupt log"),
    "no weights": (lambda run: (run / "rounds/0/model.safetensors").unlink(), "model.safetensors is missing"),
    "cut weights": (lambda run: cut(run / "rounds/0/model.safetensors"), "model.safetensors cannot be read"),
    "other width": (lambda run: replace(run / "config.toml", "dim = 8", "dim = 16"), "do not fit"),
    "cut round": (lambda run: cut(run / "rounds/0/round.json"), "round.json cannot be read"),
    "round a list": (lambda run: (run / "rounds/0/round.json").write_text("[]"), "round.json"),
    "round without figures": (lambda run: (run / "rounds/0/round.json").write_text("{}"), "round.json"),
    "cut status": (lambda run: cut(run / "status.json"), "status.json cannot be read"),
}


def _reverse(path: Path) -> None:
    import polars as pl

    pl.read_parquet(path).reverse().write_parquet(path)


@pytest.mark.parametrize("name", DAMAGE)
def test_resume_of_a_damaged_run(
    call: Callable[..., Outcome], tmp_path: Path, finished: Path, name: str
) -> None:
    damage, says = DAMAGE[name]
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "rounds" / "1")
    shutil.rmtree(run / "control")
    (run / "result.json").unlink()
    damage(run)
    refused(call("run", "--resume", "--out", run), says)
    assert not list(tmp_path.rglob("*.part"))


BROKEN_RESULT = {
    "cut result": (lambda run: cut(run / "result.json"), "result.json cannot be read"),
    "cut weights": (lambda run: [cut(p) for p in run.glob("rounds/*/model.safetensors")], "cannot be read"),
    "no rounds": (lambda run: shutil.rmtree(run / "rounds"), "round"),
    "other width": (lambda run: replace(run / "config.toml", "dim = 8", "dim = 16"), "do not fit"),
}


@pytest.mark.parametrize("verb", ["evaluate", "recommend", "generate"])
@pytest.mark.parametrize("name", BROKEN_RESULT)
def test_use_of_a_damaged_run(
    call: Callable[..., Outcome], tmp_path: Path, finished: Path, name: str, verb: str
) -> None:
    damage, says = BROKEN_RESULT[name]
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    damage(run)
    more = {"evaluate": [], "recommend": ["--all"], "generate": ["--out", tmp_path / "new" / "log.csv"]}[verb]
    refused(call(verb, run, *more), says)
    assert not (tmp_path / "new").exists()


USES = {
    "no run": ("evaluate {t}/none", "there is no run directory"),
    "no round": ("evaluate {r} --round 7", "no finished round 7"),
    "unknown split": ("evaluate {r} --split train", "choose valid or test"),
    "unknown seen policy": ("evaluate {r} --seen hide", "evaluation.seen = 'hide'"),
    "unknown user": ("recommend {r} --user u0x", "never occurred"),
    "unknown item": ("recommend {r} --history i01,i0x", "never occurred"),
    "empty history": ("recommend {r} --history=", "never occurred"),
    "nobody": ("recommend {r}", "one of --user, --history or --all"),
    "two questions": ("recommend {r} --all --user u01", "one of --user, --history or --all"),
    "n too large": ("recommend {r} --all -n 1000", "n = 1000"),
    "n zero": ("recommend {r} --all -n 0", "n = 0"),
    "recommend to excel": ("recommend {r} --all --out {t}/r.xlsx", "end it in .parquet, .csv, .jsonl"),
    "generate to excel": ("generate {r} --out {t}/r.xlsx", "end it in .parquet, .csv, .jsonl, .txt"),
    "generate to a folder": ("generate {r} --out {t}", "name"),
    "generate with another model": ("generate {r} --out {t}/l.csv --set model.dim=16", "means nothing here"),
    "generate impossibly": ("generate {r} --out {t}/l.csv --set generation.top_k=0", "generation.top_k = 0"),
    "generate without out": ("generate {r}", "--out"),
    "simulate to excel": ("data simulate --out {t}/r.xlsx", "end it in .parquet"),
    "simulate nobody": ("data simulate --out {t}/l.csv --users 0", "simulation.num_users = 0"),
    "unknown data set": ("data fetch amazon-beauti --out {t}/data", "amazon-beauty"),
    "resume with other rounds": ("run --resume --out {r} --rounds 7", "recursion.rounds = 1"),
    "resume with another seed": ("run --resume --out {r} --seed 7", "seed = 0"),
    "resume with another log": ("run {t}/good.csv --resume --out {r}", "is a run of another log"),
    "run without resume": ("run --out {r}", "go on with --resume"),
    "report of nothing": ("report {t}/none", "there is no run directory"),
    "unknown verb": ("runn", "runn"),
    "missing argument": ("evaluate", "RUN"),
}


@pytest.mark.parametrize(("line", "says"), USES.values(), ids=USES)
def test_a_use(call: Callable[..., Outcome], tmp_path: Path, finished: Path, line: str, says: str) -> None:
    (tmp_path / "good.csv").write_text(GOOD)
    before, run_before = tree(tmp_path), tree(finished)
    refused(call(*line.format(t=tmp_path, r=finished).split()), says)
    assert tree(tmp_path) == before
    assert tree(finished) == run_before


def test_a_log_behind_a_closed_door(call: Callable[..., Outcome], tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(GOOD)
    log.chmod(0)
    if os.access(log, os.R_OK):
        pytest.skip("this user may read everything")
    refused(call("run", log, "--out", tmp_path / "out"), "Permission denied")


@pytest.mark.parametrize("verb", ["simulate", "generate", "recommend"])
def test_a_full_disk_while_writing_a_file(
    call: Callable[..., Outcome], tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = {"simulate": ["data", "simulate", *TINY_FLAGS], "generate": ["generate", finished, "--quiet"]}
    monkeypatch.setattr(os, "replace", full)
    refused(
        call(*words.get(verb, ["recommend", finished, "--all"]), "--out", tmp_path / "log.csv"),
        f"{tmp_path / 'log.csv'} cannot be written: No space left on device",
    )
    assert tree(tmp_path) == {}


def test_a_bug_keeps_its_traceback(call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsir.cli.machine.environment", lambda _: {}["bug"])
    with pytest.raises(KeyError, match="bug"):
        call("doctor")

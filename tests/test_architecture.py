"""The rules of the house, read from the source; and every search space that comes with it."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

from lstmcls.config import VARIANTS
from lstmcls.dataset import TokenDataset
from lstmcls.fit import TrainingState, fit
from tune.space import load_space

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for name in ("lstmcls", "tune") for path in (ROOT / name).rglob("*.py"))
SPACES = sorted((ROOT / "search_spaces").rglob("*.yaml"))


def trees(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        if name.startswith(tuple(f"{folder}/" for folder in folders)):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """`import a.b` as a.b, `from a.b import c` as a.b.c; inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)


def breaches(source: str) -> list[str]:
    """What in `source` may run code that a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called, keywords = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
        last = called.split(".")[-1]
        if called in ("eval", "exec", "compile", "__import__"):
            found.append(called)
        elif called.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "marshal"):
            found += [called] * (last in ("load", "loads", "Unpickler"))
        elif called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"):
            found.append(called)
        elif called == "torch.load":
            only = keywords.get("weights_only")
            if not (isinstance(only, ast.Constant) and only.value is True):
                found.append(called)
        elif (
            last == "read_pickle"
            or (last == "load" and "allow_pickle" in keywords)
            or called in ("os.system", "os.popen")
            or "shell" in keywords
        ):
            found.append(called)
    return found


def test_there_are_sources() -> None:
    names = [name for name, _ in trees("lstmcls", "tune")]
    assert {"lstmcls/fit.py", "tune/search.py", "tune/space/reading.py"} <= set(names)


def test_the_classifier_knows_nothing_of_the_search() -> None:
    for name, tree in trees("lstmcls"):
        tops = {module.split(".")[0] for module in imported(tree)}
        assert not tops & {"ray", "optuna", "tune", "search_spaces"}, name


def test_the_driver_is_imported_by_nobody() -> None:
    """Under `python -m` it is `__main__`, and its twin tune.search another module."""
    for name, tree in trees("tune"):
        if name != "tune/__init__.py":
            assert not [m for m in imported(tree) if f"{m}.".startswith("tune.search.")], name


def test_the_driver_defines_functions_only() -> None:
    tree = ast.parse((ROOT / "tune" / "search.py").read_text(encoding="utf-8"))
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_imports_are_written_out() -> None:
    for name, tree in trees("lstmcls", "tune"):
        for module in imported(tree):
            assert not module.startswith("."), f"{name}: relative import"
            assert not module.endswith(".*"), f"{name}: {module}"


def test_rays_tune_is_not_taken_for_ours() -> None:
    for name, tree in trees("tune"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "ray":
                assert "tune" not in {alias.name for alias in node.names}, name


def test_no_file_runs_code() -> None:
    for path in SOURCES:
        assert breaches(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize(
    "line",
    [
        "eval(x)", "exec(x)", "pickle.load(f)", "pickle.loads(b)", "cloudpickle.loads(b)",
        "yaml.load(f)", "yaml.load(f, Loader=L)", "torch.load(f)",
        "torch.load(f, weights_only=False)", "torch.load(f, weights_only=x)",
        "pd.read_pickle(p)", "np.load(p, allow_pickle=True)", "os.system(x)",
        "subprocess.run(x, shell=True)",
    ],
)  # fmt: skip
def test_such_code_would_be_seen(line: str) -> None:
    assert len(breaches(f"def f():\n    return {line}")) == 1
    assert breaches("yaml.safe_load(f); torch.load(f, weights_only=True); np.load(p)") == []


def test_no_module_is_named_for_what_fits_nowhere_else() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "constants", "exceptions", "callbacks"}
    assert not vague & {path.stem for path in SOURCES}


# The search spaces.


@pytest.fixture(scope="module")
def rows() -> dict[str, TokenDataset]:
    """70 and 10 texts of 5 tokens."""
    draw = np.random.default_rng(0)

    def split(count: int) -> TokenDataset:
        return TokenDataset(
            draw.integers(1, 50, 5 * count).astype(np.int16),
            np.arange(count + 1, dtype=np.int64) * 5,
            (np.arange(count) % 2).astype(np.int32),
        )

    return {"train": split(70), "val": split(10)}


def test_there_are_search_spaces() -> None:
    assert {"full", "notebook", "ablation", "smoke"} <= {path.stem for path in SPACES}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_is_suggested_from_and_trained_a_report(
    path: Path, rows: dict[str, TokenDataset]
) -> None:
    space = load_space(str(path))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    grid = space.grid() if space.sampler.name == "grid" else []
    for point in (*space.enqueue, *grid[:: len(grid) // 6 + 1]):  # a step that meets every choice
        study.enqueue_trial(point)
    variants = set()
    for _ in range(max(3, len(study.get_trials()))):
        config = space.suggest(study.ask())
        variants.add(config.variant)
        state = TrainingState.create(config, vocab_size=50, num_classes=2)
        before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
        run = fit(state, rows["train"], rows["val"], pad_to=5,
                  metric=space.objective.metric, mode=space.objective.mode)  # fmt: skip
        report = next(run)
        run.close()
        assert 0 < report.epoch <= config.epochs
        assert np.isfinite(report.train_loss)
        assert state.best is report
        changed = [n for n, t in state.model.state_dict().items() if not torch.equal(t, before[n])]
        assert len(changed) > len(before) / 2
        json.dumps(dataclasses.asdict(config))
    if path.stem == "notebook":
        assert variants == set(VARIANTS)

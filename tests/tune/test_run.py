"""A run from Python: what is read of its folder, and the options of a search as keywords."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from fakes import a_report, asked, finished, in_memory, opened, small_space
from fold_runs import ran
from optuna.trial import TrialState

import tune
from lstmcls.cli import BadInput
from tune import load_run
from tune.confirmation.candidates import choose_candidates, confirmation_points
from tune.options import with_options
from tune.run_folder import RunFolder
from tune.search import arguments
from tune.space import load_space
from tune.study import CONFIRMATION, open_study, record_report
from tune.tables import write_tables

folder = pytest.fixture(in_memory)
SPACE = small_space()


@pytest.fixture
def run_folder(folder: Path) -> RunFolder:
    """A search that still runs: two trials ended, one runs, one confirmation run."""
    run = RunFolder(folder)
    run.space.write_text(SPACE.to_yaml(), encoding="utf-8")
    study = opened(run.journal, SPACE)
    finished(study, SPACE.suggest, [0.5, 0.75])
    finished(study, SPACE.suggest, [0.25], TrialState.PRUNED)
    trial, _ = asked(study, SPACE, None)
    record_report(study, trial, a_report(1, 0.625))
    confirmation = open_study(run.journal, CONFIRMATION, SPACE.objective)
    chosen = choose_candidates(SPACE, study)
    ran(confirmation, chosen, *confirmation_points(SPACE, chosen, 1)[:1])
    write_tables(run, [study, confirmation], SPACE.objective)
    return run


def test_what_a_run_holds(run_folder: RunFolder) -> None:
    before = run_folder.journal.read_bytes()
    run = load_run(str(run_folder.path))
    assert run.path == run_folder.path
    assert run.space == SPACE
    assert [trial.state.name for trial in run.study.trials] == ["COMPLETE", "PRUNED", "RUNNING"]
    assert run.study.best_value == 0.75
    for table, path in ((run.trials, run_folder.trials), (run.reports, run_folder.reports)):
        pd.testing.assert_frame_equal(table, pd.read_parquet(path), check_dtype=False)
    assert repr(run) == f"<Run {run.path}: 3 trials, best val_accuracy 0.7500 (trial 0)>"
    assert run_folder.journal.read_bytes() == before


def test_the_study_is_for_reading(run_folder: RunFolder) -> None:
    before = run_folder.journal.read_bytes()
    study = load_run(run_folder.path).study
    for write in (study.ask, lambda: study.set_user_attr("a", 1), lambda: study.tell(2, 0.5)):
        with pytest.raises(PermissionError, match="reading only"):
            write()
    assert run_folder.journal.read_bytes() == before


def test_the_winner(run_folder: RunFolder, trained: Path) -> None:
    run = load_run(run_folder.path)
    for ask in (lambda: run.best, run.classifier):
        with pytest.raises(BadInput, match="has no winner yet"):
            ask()
    shutil.copytree(trained, run_folder.best)
    shutil.copyfile(trained / "config.yaml", run_folder.best_config)
    assert run.best["optimizer"] == "adam"
    assert run.classifier().predict(["the box was lovely", "a broken phone"]) == ["pos", "neg"]


def test_a_run_that_has_not_begun(run_folder: RunFolder) -> None:
    run_folder.journal.write_bytes(b"")
    with pytest.raises(BadInput, match="nothing has run yet"):
        _ = load_run(run_folder.path).trials


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not the folder of a search"):
        load_run(tmp_path)


def test_figures(run_folder: RunFolder) -> None:
    figures = load_run(run_folder.path).figures()
    assert list(figures["optimization_history"].data[0].y) == [0.75]


def test_the_module_does_not_take_the_functions_name() -> None:
    module = importlib.import_module("tune.search")
    assert callable(module.main)
    assert tune.search is not module
    assert callable(tune.search)


def test_the_package_costs_nothing() -> None:
    code = "import sys, tune; print({'ray', 'torch', 'optuna', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_options_are_those_of_the_command_line(tmp_path: Path) -> None:
    args = arguments({"trials": 4, "out": "new", "set": {"lr": 0.1, "epochs": 2}})
    assert (args.trials, args.out, args.set) == (4, Path("new"), ["lr=0.1", "epochs=2"])
    space = with_options(small_space(), arguments({"objective": "val_loss"}), "small.yaml")
    assert (space.objective.metric, space.objective.mode) == ("val_loss", "min")
    assert (args.quiet, args.resume, args.space) == (False, None, None)
    assert arguments({"data": tmp_path}).data == str(tmp_path)


def test_a_variant_takes_the_place_of_the_switches_that_the_space_fixes() -> None:
    space = small_space(fixed={"epochs": 1, "dropout": 0.2, "max_pooling": True})
    found = with_options(space, arguments({"set": {"variant": "plain"}}), "--set")
    assert found.fixed == {"epochs": 1, "variant": "plain"}
    with pytest.raises(BadInput, match="--set variant: ablation searches bidirectional, dropout"):
        with_options(load_space("ablation"), arguments({"set": {"variant": "plain"}}), "ablation")


def test_a_searched_setting_that_is_set_is_searched_no_more() -> None:
    found = with_options(load_space("full"), arguments({"set": {"optimizer": "adam"}}), "full")
    names = {parameter.name: parameter for parameter in found.parameters}
    assert not {"optimizer", "lr_sgd", "momentum", "nesterov", "weight_decay"} & set(names)
    assert names["lr_adam"].when == {}
    assert found.enqueue[0]["lr_adam"] == 0.004  # the baseline is what it was
    assert [point["optimizer"] for point in load_space("full").enqueue] == ["adam", "adam", "sgd"]
    assert len(found.enqueue) == 2  # what was tuned for SGD would be another point
    momentum = with_options(load_space("full"), arguments({"set": {"momentum": 0.9}}), "full")
    nesterov = next(p for p in momentum.parameters if p.name == "nesterov")
    assert nesterov.when == {"optimizer": ("sgd",)}  # its parent's own condition


@pytest.mark.parametrize("name", ["full", "night", "notebook", "ablation"])
def test_any_setting_of_a_space_can_be_set(name: str) -> None:
    space = load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for parameter in space.parameters:
        if name == "full" and parameter.field == "dropout":
            continue  # the variant sets it
        value = list(parameter.values() or parameter.bounds())[-1]
        found = with_options(space, arguments({"set": {parameter.field: value}}), name)
        assert parameter.field not in {p.field for p in found.parameters}
        for _ in range(20):
            config = found.suggest(study.ask())
            assert getattr(config, parameter.field) == value


def test_a_switch_beside_a_searched_variant_is_refused() -> None:
    says = "--set dropout: full searches variant, which sets it; add --set variant=NAME"
    with pytest.raises(BadInput, match=says):
        with_options(load_space("full"), arguments({"set": {"dropout": 0.3}}), "full")
    both = {"set": {"dropout": 0.3, "variant": "improved"}}
    found = with_options(load_space("full"), arguments(both), "full")
    config = found.suggest(optuna.create_study().ask())
    assert (config.dropout, config.variant) == (0.3, "improved")


def test_a_later_first_report_moves_the_first_rung() -> None:
    found = with_options(load_space("full"), arguments({"set": {"first_report": 1}}), "full")
    assert found.asha is not None
    assert found.asha.grace_epochs == 1


def test_epochs_too_few_to_stop_early() -> None:
    assert (
        with_options(load_space("full"), arguments({"set": {"epochs": 0.1}}), "full").asha is None
    )


def test_faults_are_told_as_they_were_typed() -> None:
    typed = {
        "trials": "x", "minutes": -1, "gpus_per_trial": "al", "objective": "val_acc", "seed": 2**40,
    }  # fmt: skip
    with pytest.raises(BadInput) as fault:
        with_options(small_space(), arguments(typed), "small")
    assert [message.split(": ")[0] for message in fault.value.messages] == [
        "--objective", "--trials", "--minutes", "--gpus-per-trial", "--seed",
    ]  # fmt: skip
    with pytest.raises(BadInput) as fault:
        with_options(small_space(), arguments({"set": {"lr": "fast", "hiden_size": 8}}), "small")
    assert fault.value.messages == (
        "--set lr: expected a number, got 'fast'",
        "--set hiden_size: no such setting; did you mean 'hidden_size'?",
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trails": 4}, "trails: no such option of a search; did you mean 'trials'"),
        ({"space": {"spac": {}}}, "did you mean 'space'"),
        ({"space": "fulll"}, "did you mean 'full'"),
        ({"trials": 0}, "--trials: expected"),
        ({"resume": "none"}, "not the folder of a search"),
        ({"data": pd.DataFrame({"comment": ["a"], "label": [1]})}, "no text column"),
        ({"data": pd.DataFrame({"text": ["a", 1], "label": [0, 1]})}, "Parquet cannot hold"),
    ],
)
def test_bad_options_start_nothing(
    options: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as fault:
        tune.search(quiet=True, **options)
    assert says in str(fault.value)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {
        path.name for path in tmp_path.glob("results/prepared/frame-*.parquet")
    }


def test_a_resume_refuses_another_seed_also_where_it_is_0(run_folder: RunFolder) -> None:
    with pytest.raises(BadInput, match="--seed: a resumed search keeps"):
        tune.search(resume=run_folder.path, seed=0)

"""Every fault a search space file may have, as the line that reports it."""

# ruff: noqa: E501  (one fault a line: what is written, and what is said about it)

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import BASE, changed

from lstmcls.cli import BadInput
from tune.space import SearchSpace, load_space, parse_space


def faults_of(raw: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        parse_space(raw, "my.yaml")
    return caught.value.messages


# Faults: the section or parameter that is changed, and the line that is expected.

LR = {"float": [0.1, 1.0]}
SPACE_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"hiden_size": {"int": [1, 2]}}, "space.hiden_size: 'hiden_size' is no setting of the training; did you mean 'hidden_size'?"),
    ({"size": {"int": [1, 2], "field": "hiden_size"}}, "space.size.field: 'hiden_size' is no setting of the training; did you mean 'hidden_size'?"),
    ({"lr": {"float": [1, 2], "field": "momentum"}}, "space.lr.field: lr is itself a setting, so it cannot stand for momentum"),
    ({"my-lr": {**LR, "field": "weight_decay"}}, "space.my-lr: a name has letters, digits and _ only"),
    ({"seed": {"int": [1, 2]}}, "space.seed: the best seed is only the luckiest; seeds go with `sampler: grid`"),
    ({"report_every": {"float": [0.1, 1]}}, "space.report_every: report_every cannot be searched"),
    ({"layers": 2}, "space.layers: expected {float: [0.001, 0.1], log: true} or the like, got 2; one value is for `fixed`"),
    ({"layers": {}}, "space.layers: needs exactly one of categorical, int, float; it has none"),
    ({"layers": {"int": [1, 2], "float": [1, 2]}}, "space.layers: needs exactly one of categorical, int, float; it has int and float"),
    ({"layers": {"integer": [1, 2]}}, "space.layers.integer: no such key; did you mean 'int'?"),
    ({"layers": {"int": [1, 2], "lgo": True}}, "space.layers.lgo: no such key; did you mean 'log'?"),
    ({"layers": {"int": [1.5, 3]}}, "space.layers.int: expected a whole number, got 1.5"),
    ({"epochs": {"int": [1.5, 3]}}, "space.epochs.int: expected a whole number, got 1.5"),
    ({"layers": {"int": [True, 3]}}, "space.layers.int: expected a whole number, got True"),
    ({"warmup": {"float": "abc"}}, "space.warmup.float: expected two bounds, [low, high], got 'abc'"),
    ({"warmup": {"float": [0.1]}}, "space.warmup.float: expected two bounds, [low, high], got [0.1]"),
    ({"warmup": {"float": ["abc", 0.1]}}, "space.warmup.float: expected a number, got 'abc'"),
    ({"warmup": {"float": [0.5, 0.1]}}, "space.warmup.float: the low bound 0.5 is above the high bound 0.1"),
    ({"warmup": {"float": [-0.5, 0.1]}}, "space.warmup.float: expected at least 0 and below 1, got -0.5"),
    ({"warmup": {"float": [0.5, 1.0]}}, "space.warmup.float: expected at least 0 and below 1, got 1.0"),
    ({"layers": {"int": [1, 10**400]}}, "space.layers.int: expected at least 1 and at most 8, got 1"),
    ({"warmup": {"float": [0, 10**400]}}, "space.warmup.float: expected a number, got 1"),
    ({"clip_norm": {"float": [0, math.inf]}}, "space.clip_norm.float: expected at least 0, got inf"),
    ({"warmup": {"float": [0, 0.1], "log": True}}, "space.warmup.log: needs a low bound above 0, got 0"),
    ({"warmup": {"float": [0, 0.1], "log": "yes!"}}, "space.warmup.log: expected true or false, got 'yes!'"),
    ({"layers": {"int": [1, 3], "log": True, "step": 2}}, "space.layers.step: cannot go with log: true; remove one of the two"),
    ({"layers": {"int": [1, 3], "step": 0}}, "space.layers.step: expected a whole number of at least 1, got 0"),
    ({"layers": {"int": [1, 3], "step": 0.5}}, "space.layers.step: expected a whole number of at least 1, got 0.5"),
    ({"warmup": {"float": [0.1, 0.3], "step": -0.1}}, "space.warmup.step: expected a number above 0, got -0.1"),
    ({"warmup": {"float": [0.1, 0.3], "step": "x"}}, "space.warmup.step: expected a number above 0, got 'x'"),
    ({"layers": {"int": [1, 8], "step": 3}}, "space.layers.step: steps of 3 from 1 end at 7, not at 8"),
    ({"warmup": {"float": [0, 0.25], "step": 0.1}}, "space.warmup.step: steps of 0.1 from 0 end at 0.2, not at 0.25"),
    ({"clip_norm": {"float": [0, 1e30], "step": 1e-5}}, "space.clip_norm.step: makes more than 1000000000 values; use a larger one, or none"),
    ({"a\nb": {"int": [1, 2], "field": "layers"}}, "space.a b: a name has letters, digits and _ only"),
    ({"schedule": {"float": [0, 1]}}, "space.schedule.float: schedule needs categorical: [...]"),
    ({"zero_state": {"int": [0, 1]}}, "space.zero_state.int: zero_state needs categorical: [...]"),
    ({"variant": {"int": [0, 1]}}, "space.variant.int: variant needs categorical: [...]"),
    ({"layers": {"float": [1, 2]}}, "space.layers.float: layers needs int: [...]"),
    ({"layers": {"categorical": []}}, "space.layers.categorical: expected a list of at least one choice, got []"),
    ({"layers": {"categorical": 3}}, "space.layers.categorical: expected a list of at least one choice, got 3"),
    ({"layers": {"categorical": [1, 2, "1"]}}, "space.layers.categorical: '1' is listed twice"),
    ({"layers": {"categorical": [1, 2], "step": 1}}, "space.layers.step: only for int and float"),
    ({"layers": {"categorical": [1, 2], "log": True}}, "space.layers.log: only for int and float"),
    ({"schedule": {"categorical": ["cosin"]}}, "space.schedule.categorical: expected one of constant, cosine, one_cycle, got 'cosin'; did you mean 'cosine'?"),
    ({"variant": {"categorical": ["improve"]}}, "space.variant.categorical: expected one of plain, bidirectional, dropout, zero_state, max_pooling, improved, got 'improve'; did you mean 'improved'?"),
    ({"variant": {"categorical": [["improved"]]}}, "space.variant.categorical: expected one of plain"),
    ({"layers": {"int": [1, 2], "when": "sgd"}}, "space.layers.when: expected a mapping such as {optimizer: sgd}, got 'sgd'"),
    ({"layers": {"int": [1, 2], "when": {"optimiser": "sgd"}}}, "space.layers.when.optimiser: no such parameter; did you mean 'optimizer'?"),
    ({"layers": {"int": [1, 2], "when": {"layers": 1}}}, "space.layers.when: layers cannot depend on itself"),
    ({"layers": {"int": [1, 2], "when": {"optimizer": "adagrad"}}}, "space.layers.when.optimizer: 'adagrad' is outside the search: one of sgd, adam, adamw, rmsprop"),
    ({"layers": {"int": [1, 2], "when": {"hidden_size": 33}}}, "space.layers.when.hidden_size: 33 is outside the search: 32 to 256 in steps of 32"),
    ({"layers": {"int": [1, 2], "when": {"optimizer": []}}}, "space.layers.when.optimizer: expected at least one value of optimizer"),
    ({"layers": {"int": [1, 2], "when": {"lr_sgd": 0.1}}}, "space.layers.when.lr_sgd: lr_sgd has no single values to name; give it a step or choices"),
    ({"layers": {"int": [1, 2], "when": {"optimizer": "adam", "momentum": 0.9}}}, "space.layers.when: can never hold: its conditions want different values of optimizer"),
    ({"layers": {"int": [1, 2], "when": {"warmup": 0}}, "warmup": {"categorical": [0, 0.1], "when": {"layers": 1}}}, "space.layers.when: a cycle: layers -> warmup -> layers"),
    ({"lr": LR}, "space.lr: sets lr, as lr_sgd does, and both can be active at once"),
    ({"lr": {**LR, "when": {"optimizer": ["adamw", "rmsprop"]}}}, "space.lr: sets lr, as lr_adam does"),
    ({"lr": {**LR, "when": {"hidden_size": 32}}}, "space.lr: sets lr, as lr_sgd does"),
    ({"batch_size": {"int": [1, 2]}}, "fixed.batch_size: is also searched, by space.batch_size; keep one"),
    ({"rows": {"int": [1, 2], "field": "batch_size"}}, "fixed.batch_size: is also searched, by space.rows; keep one"),
    ({"nesterov": {"categorical": [True, False]}}, "nesterov=True can be suggested, but nesterov: needs optimizer sgd and momentum above 0"),
    ({"momentum": {"float": [0, 0.9], "step": 0.1, "when": {"optimizer": "sgd"}}, "nesterov": {"categorical": [True, False], "when": {"optimizer": "sgd"}}}, "space: optimizer=sgd, momentum=0.0, nesterov=True can be suggested, but"),
]  # fmt: skip


@pytest.mark.parametrize(("space", "expected"), SPACE_FAULTS, ids=[e for _, e in SPACE_FAULTS])
def test_a_fault_of_a_parameter(space: dict[str, Any], expected: str) -> None:
    found = faults_of(changed(space=space))
    assert any(line.startswith("my.yaml: ") and expected in line for line in found), found
    assert len(found) <= 3, found  # no cascade of follow-up faults


SECTION_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"spaces": {}}, "spaces: no such key; did you mean 'space'?"),
    ({"zzz": {}}, "zzz: no such key; known: space, fixed, enqueue"),
    ({"fixed": {"hiden_size": 3}}, "fixed.hiden_size: no such setting; did you mean 'hidden_size'?"),
    ({"fixed": {"epochs": 3}}, "fixed.epochs: is also searched, by space.epochs; keep one"),
    ({"fixed": {"lr": 0.1}}, "fixed.lr: is also searched, by space.lr_adam; keep one"),
    ({"fixed": {"layers": "many"}}, "fixed.layers: expected a whole number, got 'many'"),
    ({"fixed": {"layers": 9}}, "fixed.layers: expected at least 1 and at most 8, got 9"),
    ({"fixed": {"variant": "improve"}}, "fixed.variant: expected one of plain"),
    ({"fixed": [1]}, "fixed: expected a mapping such as {batch_size: 64}, got [1]"),
    ({"enqueue": {"epochs": 1}}, "enqueue: expected a list of points such as [{lr: 0.1}], got {'epochs': 1}"),
    ({"enqueue": [3]}, "enqueue[0]: expected a mapping such as {lr: 0.1}, got 3"),
    ({"enqueue": [{}, {"epochs": 9}]}, "enqueue[1].epochs: 9 is outside the search: 1 to 8 in steps of 1"),
    ({"enqueue": [{"epochs": 1.5}]}, "enqueue[0].epochs: expected a whole number, got 1.5"),
    ({"enqueue": [{"hidden_size": 33}]}, "enqueue[0].hidden_size: 33 is outside the search: 32 to 256 in steps of 32"),
    ({"enqueue": [{"optimizer": "sgd", "lr": 0.001}]}, "enqueue[0].lr: 0.001 is outside the search: 0.01 to 1.0"),
    ({"enqueue": [{"optimizer": "adagrad"}]}, "enqueue[0].optimizer: 'adagrad' is outside the search"),
    ({"enqueue": [{"epoch": 1}]}, "enqueue[0].epoch: no such parameter or setting; did you mean 'epochs'?"),
    ({"enqueue": [{"layers": 2}]}, "enqueue[0].layers: is not searched; add it to `space` or to `fixed`"),
    ({"enqueue": [{"batch_size": 32}]}, "enqueue[0].batch_size: 32 conflicts with `fixed`, which says 64"),
    ({"enqueue": [{"optimizer": "adam", "momentum": 0.9}]}, "enqueue[0].momentum: not used at this point, which would have to say: momentum when optimizer is sgd"),
    ({"enqueue": [{"lr": 0.1}]}, "enqueue[0].lr: not used at this point, which would have to say: lr_sgd when optimizer is sgd; or lr_adam when optimizer is adam or adamw"),
    ({"enqueue": [{"optimizer": "rmsprop", "lr": 0.1}]}, "enqueue[0].lr: not used at this point"),
    ({"enqueue": [{"optimizer": "sgd", "lr": 0.1, "lr_sgd": 0.1}]}, "enqueue[0].lr: is already given by lr_sgd"),
    ({"objective": {"metric": "val_acuracy"}}, "objective.metric: no trial reports 'val_acuracy'; did you mean 'val_accuracy'?"),
    ({"objective": {"metric": "zzz"}}, "objective.metric: no trial reports 'zzz'; known: val_loss"),
    ({"objective": {"mode": "maximum"}}, "objective.mode: expected min or max, got 'maximum'"),
    ({"objective": {"metrics": "val_f1"}}, "objective.metrics: no such key; did you mean 'metric'?"),
    ({"objective": [1]}, "objective: expected a mapping such as {metric: val_accuracy, mode: max}, got [1]"),
    ({"sampler": "tpee"}, "sampler.name: expected one of tpe, random, gp, cmaes, qmc, grid, got 'tpee'; did you mean 'tpe'?"),
    ({"sampler": {"name": ["tpe"]}}, "sampler.name: expected one of tpe"),
    ({"sampler": {"name": "random", "startup_trials": 5}}, "sampler.startup_trials: random has none; only for tpe, gp and cmaes"),
    ({"sampler": {"name": "tpe", "startup_trials": 0}}, "sampler.startup_trials: expected at least 1, got 0"),
    ({"sampler": {"nam": "tpe"}}, "sampler.nam: no such key; did you mean 'name'?"),
    ({"sampler": "grid"}, "space.lr_sgd: the sampler grid needs steps or choices, not float: [0.01, 1.0] without a step"),
    ({"asha": {"grace_epochs": 0}}, "asha.grace_epochs: expected above 0, got 0"),
    ({"asha": {"grace_epochs": 9}}, "asha.grace_epochs: 9 is above the largest number of epochs (8)"),
    ({"asha": {"grace_epochs": 0.1}}, "asha.grace_epochs: 0.1 is before the first report (0.25)"),
    ({"asha": {"grace_epochs": 0.5}, "fixed": {"report_every": 1, "first_report": 1}}, "asha.grace_epochs: 0.5 is before the first report (1)"),
    ({"asha": {"grace_epochs": "soon"}}, "asha.grace_epochs: expected a number, got 'soon'"),
    ({"asha": {"reduction_factor": 1}}, "asha.reduction_factor: expected above 1, got 1"),
    ({"asha": {"reduction": 2}}, "asha.reduction: no such key; did you mean 'reduction_factor'?"),
    ({"asha": 3}, "asha: expected a mapping such as {grace_epochs: 0.25} or off, got 3"),
    ({"budget": {"trials": 0}}, "budget.trials: expected at least 1, got 0"),
    ({"budget": {"trials": -1}}, "budget.trials: expected at least 1, got -1"),
    ({"budget": {"trials": 2.5}}, "budget.trials: expected a whole number, got 2.5"),
    ({"budget": {"trials": True}}, "budget.trials: expected a number, got True"),
    ({"budget": {"minutes": 0}}, "budget.minutes: expected above 0, got 0"),
    ({"budget": {"minutes": "ten"}}, "budget.minutes: expected a number, got 'ten'"),
    ({"budget": {"target": "x"}}, "budget.target: expected a number, got 'x'"),
    ({"budget": {"target": 90}}, "budget.target: val_accuracy is between 0 and 1, got 90"),
    ({"budget": {"trails": 3}}, "budget.trails: no such key; did you mean 'trials'?"),
    ({"resources": {"cpu": 0}}, "resources.cpu: expected above 0, got 0"),
    ({"resources": {"cpu": "all"}}, "resources.cpu: expected a number, got 'all'"),
    ({"resources": {"gpu": -1}}, "resources.gpu: expected at least 0, got -1"),
    ({"resources": {"gpu": "atuo"}}, "resources.gpu: expected auto or a number, got 'atuo'; did you mean 'auto'?"),
    ({"resources": {"gpu": 1.5}}, "resources.gpu: above 1 only whole GPUs can be given, got 1.5"),
    ({"resources": {"concurrency": 0}}, "resources.concurrency: expected at least 1, got 0"),
    ({"resources": {"concurrency": 1.5}}, "resources.concurrency: expected a whole number, got 1.5"),
    ({"resources": {"gpus": 1}}, "resources.gpus: no such key; did you mean 'gpu'?"),
    ({"confirm": {"top": -1}}, "confirm.top: expected at least 0, got -1"),
    ({"confirm": {"folds": 1}}, "confirm.folds: expected at least 2, got 1"),
    ({"confirm": {"best": 1}}, "confirm.best: no such key; known: top, folds"),
    ({"seed": -1}, "seed: expected at least 0, got -1"),
    ({"seed": 2**32}, "seed: expected at most 4294967295, got 4294967296"),
    ({"data": 3}, "data: expected a name, a file or a folder, got 3"),
    ({"data": " "}, "data: expected a name, a file or a folder, got ' '"),
    ({"fixed": {"nesterov": True}}, "fixed.nesterov: is also searched"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "expected"), SECTION_FAULTS, ids=[e for _, e in SECTION_FAULTS]
)
def test_a_fault_of_a_section(sections: dict[str, Any], expected: str) -> None:
    found = faults_of(changed(**sections))
    assert any(line.startswith(f"my.yaml: {expected}") for line in found), found
    assert len(found) <= 2, found


@pytest.mark.parametrize("empty", [None, {}])
def test_no_parameters(empty: Any) -> None:
    expected = "my.yaml: space: needs at least one parameter, such as lr:"
    assert faults_of({"space": empty})[0].startswith(expected)
    assert faults_of({"seed": 1})[0].startswith(expected)


def test_space_is_a_list() -> None:
    assert faults_of({"space": ["lr"]})[0].startswith("my.yaml: space: expected a mapping")


def test_a_fixed_rule_that_no_suggestion_can_meet() -> None:
    found = faults_of({"space": {"lr": LR}, "fixed": {"nesterov": True}})
    assert found == (
        "my.yaml: space: nesterov=True can be suggested, but "
        "nesterov: needs optimizer sgd and momentum above 0",
    )


def test_a_grid_can_be_too_large() -> None:
    sizes = {name: {"int": [1, 8192]} for name in ("hidden_size", "embedding_dim")}
    found = faults_of({"space": sizes, "sampler": "grid"})
    assert found == ("my.yaml: sampler.name: the grid has more than 10000 points; use another",)


def test_all_faults_are_reported_at_once() -> None:
    raw = changed(
        space={"layers": {"int": [3, 1]}, "hiden": {"int": [1, 2]}},
        fixed={"batchsize": 3},
        enqueue=[{"epochs": 99}, {"nothing_like_it": 1}],
        objective={"mode": "up"},
        sampler="tpee",
        asha={"reduction_factor": 0},
        budget={"trials": 0},
        resources={"cpu": 0},
        confirm={"folds": 0},
        seed="x",
        data=1,
        budgets={},
    )
    found = faults_of(raw)
    keys = [line.split(": ")[1] for line in found]
    assert sorted(keys) == sorted(
        [
            "budgets", "space.layers.int", "space.hiden", "fixed.batchsize", "enqueue[0].epochs",
            "enqueue[1].nothing_like_it", "objective.mode", "sampler.name",
            "asha.reduction_factor", "budget.trials", "resources.cpu", "confirm.folds", "seed",
            "data",
        ]
    )  # fmt: skip
    assert all(line.startswith("my.yaml: ") and "\n" not in line for line in found)


# Files.

FILE_FAULTS = [
    ("", "my.yaml: the file is empty"),
    ("# nothing\n", "my.yaml: the file is empty"),
    ("- a\n- b\n", "my.yaml: expected `key: value` lines, got a list"),
    ("text", "my.yaml: expected `key: value` lines, got 'text'"),
    ("space:\n  lr: {float: [1, 2\n  x: 3\n", "my.yaml: line 3: not valid YAML ("),
    ("space: {}\n\tseed: 1\n", "my.yaml: line 2: not valid YAML ("),
    ("seed: 2024-99-99\n", "my.yaml: not valid YAML (month must be in 1..12"),
    ("seed: !!python/object/apply:os.getcwd []\n", "my.yaml: line 1: not valid YAML ("),
    ("seed: 1\nspace: {lr: {float: [0.1, 1]}}\nseed: 2\n", "my.yaml: seed: given twice (lines 1 and 3)"),
    ("space:\n  lr: {float: [0.1, 1]}\n  lr: {float: [0.1, 1]}\n", "my.yaml: space.lr: given twice (lines 2 and 3)"),
    ("space:\n  lr: {float: [0.1, 1], float: [1, 2]}\n", "my.yaml: space.lr.float: given twice (lines 2 and 2)"),
    ("space: {lr: {float: [0.1, 1]}}\nenqueue:\n- {lr: 0.1, lr: 0.2}\n", "my.yaml: enqueue[0].lr: given twice"),
    ("a: &a {b: *a}\n", "my.yaml: a: no such key"),
    ("space: {lr: {float: [0.1, 1]}}\n---\nseed: 1\n", "my.yaml: line 2: not valid YAML ("),
    ("[" * 5000, "my.yaml: not valid YAML ("),
    ("seed: !!bool maybe\n", "my.yaml: not valid YAML ("),
    ("seed: !!timestamp x\n", "my.yaml: not valid YAML ("),
    ("seed: \x01", "my.yaml: not valid YAML ("),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FILE_FAULTS, ids=[e for _, e in FILE_FAULTS])
def test_a_fault_of_a_file(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        load_space("my.yaml")
    assert any(line.startswith(expected) for line in caught.value.messages), caught.value.messages
    assert all("\n" not in line for line in caught.value.messages)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(BadInput, match="not a text file in UTF-8"):
        load_space(str(path))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("space: {lr: {float: [0.1, 1]}}\n", encoding="utf-8-sig")
    assert load_space(str(path)).parameters[0].name == "lr"


def test_an_unknown_name() -> None:
    with pytest.raises(BadInput, match="notebok: no such file or search space; did you mean"):
        load_space("notebok")
    with pytest.raises(BadInput, match=r"elsewhere/zzz\.yaml: no such file .*known: ablation"):
        load_space("elsewhere/zzz.yaml")
    with pytest.raises(BadInput, match="no such file or search space"):
        load_space("../search_spaces/nothing")
    with pytest.raises(BadInput, match="no such file or search space"):
        load_space("")


def test_a_bare_name_with_and_without_its_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()  # a folder of that name is not the space
    assert load_space("full") == load_space("full.yaml")


# Whatever is written, the answer is a space or a BadInput.

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["", "sgd", "lr", "off", "1e-4", "nan", "inf", "-1", 10**400, "optimizer", "\n"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["float", "int", "when", "optimizer", "lr", "step", "x"])
            | st.integers(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


def every_place(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    return [path] * bool(path) + [p for key, item in items for p in every_place(item, (*path, key))]


WHOLE = {
    **BASE,
    "enqueue": [{"optimizer": "sgd", "lr": 0.1}],
    "objective": {"metric": "val_f1", "mode": "max"},
    "sampler": {"name": "tpe", "startup_trials": 3},
    "asha": {"grace_epochs": 0.5, "reduction_factor": 2},
    "budget": {"trials": 3, "minutes": 1, "target": 0.5},
    "resources": {"cpu": 1, "gpu": 0, "concurrency": 1},
    "confirm": {"top": 1, "folds": 2},
    "seed": 1,
    "data": "reviews",
}


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(every_place(WHOLE)), junk=JUNK)
def test_nothing_but_bad_input_is_raised(place: tuple[Any, ...], junk: Any) -> None:
    raw = copy.deepcopy(WHOLE)
    node: Any = raw
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = junk
    try:
        space = parse_space(raw, "my.yaml")
    except BadInput as fault:
        for line in fault.messages:
            if not line.startswith("my.yaml: ") or "\n" in line:
                raise
    else:
        assert isinstance(space, SearchSpace)
        assert parse_space(yaml.safe_load(space.to_yaml()), "again") == space

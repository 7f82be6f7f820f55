"""Search spaces: what a file may say, every fault it may have, and what is suggested from it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from spaces import BASE, changed, from_text

import tune.space
from lstmcls.cli import BadInput
from lstmcls.config import VARIANTS
from tune.space import (
    Asha,
    Budget,
    Confirm,
    Objective,
    Resources,
    Sampler,
    SearchSpace,
    load_space,
    parse_space,
)

optuna.logging.set_verbosity(optuna.logging.WARNING)

FILES = sorted(tune.space.SPACES.rglob("*.yaml"))


def random_params(space: SearchSpace, trials: int) -> list[tuple[Any, dict[str, Any]]]:
    """(what `suggest` made, Optuna's stored params) of random trials."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    made = []
    for _ in range(trials):
        trial = study.ask()
        made.append((space.suggest(trial), trial.params))
    return made


# What a file says.


def test_a_parameter_is_what_optuna_calls_it() -> None:
    space = parse_space(BASE, "my.yaml")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = {}
    for parameter in space.parameters:
        trial = study.ask()
        parameter.suggest(trial)
        found |= trial.distributions
    assert found["optimizer"] == CategoricalDistribution(("sgd", "adam", "adamw", "rmsprop"))
    assert found["lr_adam"] == FloatDistribution(1e-4, 0.02, log=True)
    assert found["hidden_size"] == IntDistribution(32, 256, step=32)
    assert found["epochs"] == IntDistribution(1, 8)
    by_name = {parameter.name: parameter for parameter in space.parameters}
    assert by_name["lr_adam"].when == {"optimizer": ("adam", "adamw")}
    assert by_name["lr_adam"].field == "lr"
    assert by_name["momentum"].choices == (0.0, 0.5, 0.9)


def test_defaults() -> None:
    space = parse_space({"space": {"lr": {"float": [0.1, 1]}}}, "my.yaml")
    assert space.objective == Objective("val_accuracy", "max")
    assert space.sampler == Sampler("tpe", 10)
    assert space.asha == Asha(0.25, 3)
    assert space.budget == Budget(50, None, None)
    assert space.resources == Resources(1, "auto", "auto")
    assert space.confirm == Confirm(3, 5)
    assert (space.seed, space.data, space.fixed, space.enqueue) == (0, None, {}, ())
    assert space.max_epochs == 3


def test_numbers_without_a_dot_are_numbers(tmp_path: Path) -> None:
    text = """
space: {lr: {float: [1e-4, 1e-2], log: true}, dropout: {float: [0, 5e-1], step: 1e-1}}
fixed: {weight_decay: 1e-3}
enqueue: [{lr: 1e-3}]
asha: {grace_epochs: 5e-1}
budget: {minutes: 1e1}
"""
    space = from_text(text, tmp_path)
    assert (space.parameters[0].low, space.parameters[0].high) == (1e-4, 1e-2)
    assert space.parameters[1].step == 0.1
    assert space.fixed == {"weight_decay": 1e-3}
    assert space.enqueue == ({"lr": 1e-3},)
    assert space.asha == Asha(0.5, 3)
    assert space.budget == Budget(None, 10, None)


@pytest.mark.parametrize("off", ["off", "false", "null", "~"])
def test_asha_off(off: str, tmp_path: Path) -> None:
    assert from_text(f"space: {{lr: {{float: [0.1, 1]}}}}\nasha: {off}\n", tmp_path).asha is None


def test_asha_by_default_waits_for_the_first_report_and_is_off_where_there_is_none() -> None:
    lr = {"lr": {"float": [0.1, 1]}}
    early = parse_space({"space": lr, "fixed": {"report_every": 1}}, "my.yaml")
    assert early.asha == Asha(0.25, 3)
    reports = {"report_every": 1, "first_report": 1}
    later = parse_space({"space": lr, "fixed": reports}, "my.yaml")
    assert later.asha == Asha(1, 3)
    never = parse_space({"space": lr, "fixed": {**reports, "epochs": 0.5}}, "my.yaml")
    assert never.asha is None


def test_the_seeds_of_an_earlier_version_say_nothing() -> None:
    space = parse_space(changed(confirm={"top": 2, "seeds": 3}), "my.yaml")
    assert space.confirm == Confirm(2, 5)
    assert "seeds" not in space.to_yaml()


def test_confirm_off() -> None:
    assert parse_space(changed(confirm=False), "my.yaml").confirm.top == 0
    assert parse_space(changed(confirm={"top": 0}), "my.yaml").confirm.top == 0


@pytest.mark.parametrize(
    ("name", "startup"),
    [("tpe", 10), ("random", None), ("gp", 10), ("cmaes", 1), ("qmc", None)],
)
def test_sampler_as_a_word_has_optunas_startup(name: str, startup: int | None) -> None:
    assert parse_space(changed(sampler=name), "my.yaml").sampler == Sampler(name, startup)


def test_sampler_startup() -> None:
    raw = changed(sampler={"name": "gp", "startup_trials": 5})
    assert parse_space(raw, "my.yaml").sampler == Sampler("gp", 5)


def test_objective_mode_follows_the_metric() -> None:
    assert parse_space(changed(objective={"metric": "val_loss"}), "x").objective.mode == "min"
    assert parse_space(changed(objective="val_f1"), "x").objective == Objective("val_f1", "max")


def test_objective_compares() -> None:
    highest, lowest = Objective("val_accuracy", "max"), Objective("val_loss", "min")
    assert (highest.direction, lowest.direction) == ("maximize", "minimize")
    assert highest.better(0.9, 0.8)
    assert not highest.better(0.8, 0.8)
    assert lowest.better(0.1, 0.2)
    for objective in (highest, lowest):
        assert objective.better(0.5, math.nan)
        assert not objective.better(math.nan, 0.5)
        assert not objective.better(math.nan, math.nan)


def test_replace() -> None:
    space = dataclasses.replace(parse_space(BASE, "x"), seed=7, budget=Budget(trials=3))
    assert (space.seed, space.budget.trials) == (7, 3)


# Conditions.


def test_parents_come_first_whatever_the_file_says() -> None:
    names = list(BASE["space"])
    backwards = {**BASE, "space": {name: BASE["space"][name] for name in reversed(names)}}
    ordered = [parameter.name for parameter in parse_space(backwards, "x").parameters]
    assert sorted(ordered) == sorted(names)
    assert ordered.index("optimizer") < ordered.index("momentum") < ordered.index("nesterov")


def test_suggest_asks_only_for_active_parameters() -> None:
    space = parse_space(BASE, "x")
    common = {"hidden_size": 64, "epochs": 2}
    adam = optuna.trial.FixedTrial({"optimizer": "adam", "lr_adam": 1e-3, **common})
    assert space.suggest(adam).lr == 1e-3
    assert set(adam.params) == {"optimizer", "lr_adam", *common}
    sgd = {"optimizer": "sgd", "lr_sgd": 0.5, "momentum": 0.9, "nesterov": True, **common}
    config = space.suggest(optuna.trial.FixedTrial(sgd))
    assert (config.lr, config.momentum, config.nesterov) == (0.5, 0.9, True)
    assert (config.batch_size, config.hidden_size, config.epochs) == (64, 64, 2)


def test_config_ignores_what_is_inactive() -> None:
    space = parse_space(BASE, "x")
    params = {"optimizer": "adam", "lr_adam": 1e-3, "hidden_size": 64, "epochs": 2}
    more = {**params, "lr_sgd": 0.5, "momentum": 0.9, "nesterov": True}
    assert space.config(more) == space.config(params)
    names = [parameter.name for parameter in space.active(more)]
    assert names == ["optimizer", "lr_adam", "hidden_size", "epochs"]


def test_config_names_what_is_missing() -> None:
    with pytest.raises(BadInput) as caught:
        parse_space(BASE, "x").config({"optimizer": "sgd", "hidden_size": 64})
    assert caught.value.messages == (
        "lr_sgd: missing from the point",
        "momentum: missing from the point",
        "epochs: missing from the point",
    )


def test_all_of_several_parents_must_hold() -> None:
    raw = {
        "space": {
            "layers": {"int": [1, 3]},
            "optimizer": {"categorical": ["sgd", "adam"]},
            "momentum": {"float": [0.5, 0.9], "when": {"optimizer": "sgd", "layers": [2, 3]}},
        }
    }
    space = parse_space(raw, "x")
    for layers, optimizer, active in [(2, "sgd", True), (1, "sgd", False), (2, "adam", False)]:
        names = {p.name for p in space.active({"layers": layers, "optimizer": optimizer})}
        assert ("momentum" in names) is active


def test_a_stepped_float_is_on_its_step_as_a_value_and_as_a_parent() -> None:
    raw = {
        "space": {
            "dropout": {"float": [0, 0.6], "step": 0.1},
            "layers": {"int": [1, 3], "when": {"dropout": 0.3}},
        }
    }
    space = parse_space(raw, "x")
    off_by_an_ulp = {"dropout": 0.1 + 0.2, "layers": 2}
    assert space.config(off_by_an_ulp).dropout == 0.3
    assert space.config(off_by_an_ulp).layers == 2
    values = {config.dropout for config, _ in random_params(space, 60)}
    assert values == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}


def test_variant_stands_for_four_switches_and_dropout_overrides_its_rate() -> None:
    raw = {
        "space": {
            "variant": {"categorical": list(VARIANTS)},
            "rate": {
                "float": [0.1, 0.4],
                "field": "dropout",
                "when": {"variant": ["dropout", "improved"]},
            },
        }
    }
    space = parse_space(raw, "x")
    assert space.config({"variant": "improved", "rate": 0.2}).dropout == 0.2
    assert space.config({"variant": "improved", "rate": 0.2}).variant == "improved"
    assert space.config({"variant": "max_pooling", "rate": 0.2}).dropout == 0
    for config, params in random_params(space, 30):
        assert config.variant == params["variant"]


def test_exclusive_through_an_inherited_condition() -> None:
    """lr_fast hangs on momentum, which hangs on sgd: never together with lr_adam."""
    lr_sgd = {"float": [0.1, 1], "field": "lr", "when": {"momentum": [0, 0.5]}}
    lr_fast = {"float": [0.01, 0.1], "field": "lr", "when": {"momentum": 0.9}}
    space = parse_space(changed(space={"lr_sgd": lr_sgd, "lr_fast": lr_fast}), "x")
    for config, params in random_params(space, 60):
        learning_rates = {"lr_sgd", "lr_adam", "lr_fast"} & params.keys()
        assert len(learning_rates) == (params["optimizer"] != "rmsprop")
        assert all(config.lr == params[name] for name in learning_rates)


# Enqueued points, the grid, the largest number of epochs.


def test_enqueued_points_are_in_parameter_names() -> None:
    points = [
        {"optimizer": "sgd", "lr": "1e-1", "momentum": 0, "batch_size": 64},
        {"lr": 1e-3, "optimizer": "adamw"},
        {"lr_adam": 1e-3, "optimizer": "adamw"},
        {"epochs": 4},
        {},
    ]
    assert parse_space(changed(enqueue=points), "x").enqueue == (
        {"optimizer": "sgd", "lr_sgd": 0.1, "momentum": 0.0},
        {"optimizer": "adamw", "lr_adam": 1e-3},
        {"optimizer": "adamw", "lr_adam": 1e-3},
        {"epochs": 4},
        {},
    )


def test_grid_of_a_conditional_space() -> None:
    raw = {
        "space": {
            "nesterov": {"categorical": [True, False], "when": {"momentum": 0.9}},
            "optimizer": {"categorical": ["sgd", "adam"]},
            "momentum": {"categorical": [0, 0.9], "when": {"optimizer": "sgd"}},
            "layers": {"int": [1, 2], "when": {"optimizer": "adam"}},
        },
        "sampler": "grid",
    }
    space = parse_space(raw, "x")
    assert space.grid() == [
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": False},
        {"optimizer": "adam", "layers": 1},
        {"optimizer": "adam", "layers": 2},
    ]
    assert space.budget.trials == 5


@pytest.mark.parametrize(
    ("budget", "trials"),
    [({}, 6), ({"minutes": 5}, 6), ({"trials": 4}, 4), ({"trials": 7}, 6), ({"target": 0.9}, 6)],
)
def test_a_search_of_a_grid_ends_with_its_last_point(budget: dict[str, Any], trials: int) -> None:
    raw = {"space": {"layers": {"int": [1, 6]}}, "sampler": "grid", "budget": budget}
    assert parse_space(raw, "x").budget.trials == trials


def test_grid_needs_finite_values() -> None:
    with pytest.raises(BadInput, match="lr_sgd, lr_adam without steps"):
        parse_space(BASE, "x").grid()


@pytest.mark.parametrize(
    ("space", "fixed", "largest"),
    [
        ({"epochs": {"int": [1, 8]}}, {}, 8),
        ({"epochs": {"categorical": [0.5, 2]}}, {}, 2),
        ({"lr": {"float": [0.1, 1]}}, {"epochs": 5}, 5),
        ({"layers": {"int": [1, 2]}, "epochs": {"int": [1, 2], "when": {"layers": 1}}}, {}, 3),
    ],
)
def test_max_epochs(space: dict[str, Any], fixed: dict[str, Any], largest: float) -> None:
    assert parse_space({"space": space, "fixed": fixed}, "x").max_epochs == largest


# The files that come with the product.


def test_there_are_files() -> None:
    assert {path.stem for path in FILES} == {"full", "night", "notebook", "ablation", "smoke"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_and_is_suggested_from(path: Path) -> None:
    space = load_space(str(path))
    assert space == load_space(path.stem)
    assert parse_space(yaml.safe_load(space.to_yaml()), "again") == space
    for config, params in random_params(space, 100):
        assert space.config(params) == config


def test_the_notebook_is_its_six_rows_both_ways_on_three_seeds() -> None:
    space = load_space("notebook")
    configs = [space.config(point) for point in space.grid()]
    found = [(config.seed, config.variant, config.padding) for config in configs]
    assert found == list(itertools.product(range(3), VARIANTS, ("counted", "masked")))
    assert space.budget.trials == 36
    assert space.asha is None
    assert space.confirm.top == 0
    for config in configs:
        assert (config.epochs, config.optimizer, config.momentum) == (1, "sgd", 0)
        assert (config.lr, config.batch_size, config.clip_norm) == (0.1, 64, 0)
        assert (config.embedding_dim, config.hidden_size) == (256, 256)
        assert (config.first_report, config.report_every) == (1, 1)
        assert config.switches() == VARIANTS[config.variant]


def test_the_ablation_is_all_sixteen_settings_on_one_seed_after_the_other() -> None:
    space = load_space("ablation")
    configs = [space.config(point) for point in space.grid()]
    assert [config.seed for config in configs] == [0] * 16 + [1] * 16 + [2] * 16
    for seed in range(3):
        settings_of = {tuple(c.switches().values()) for c in configs if c.seed == seed}
        assert len(settings_of) == 16
    assert space.budget.trials == 48
    assert space.asha is None
    assert space.confirm.top == 0


def test_full_starts_with_a_sound_default_and_searches_all_six() -> None:
    space = load_space("full")
    first = space.config(space.enqueue[0])
    assert (first.variant, first.optimizer, first.lr) == ("improved", "adam", 4e-3)
    assert space.parameters[0].choices == tuple(VARIANTS)
    for point in space.enqueue:
        space.config(point)  # complete


# Random spaces.

CHOICES = {
    "optimizer": ["sgd", "adam", "adamw", "rmsprop"],
    "schedule": ["constant", "cosine", "one_cycle"],
    "padding": ["masked", "counted"],
    "variant": list(VARIANTS),
    "zero_state": [True, False],
    "max_pooling": [True, False],
}
WHOLE = ["hidden_size", "embedding_dim", "layers", "batch_size", "epochs"]
NUMBERS = ["dropout", "warmup", "label_smoothing", "momentum"]


@st.composite
def ranges(draw: st.DrawFn, field: str) -> dict[str, Any]:
    if field in CHOICES:
        chosen = st.lists(st.sampled_from(CHOICES[field]), min_size=1, unique=True)
        return {"categorical": draw(chosen)}
    if field in WHOLE:
        low, step = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        bounds = [low, low + step * draw(st.integers(0, 2))]
        return {"int": bounds, **draw(st.sampled_from([{"step": step}, {"log": True}]))}
    step = draw(st.sampled_from([0.05, 0.1]))
    low = draw(st.sampled_from([0.05, 0.1, 0.3]))
    high = round(low + step * draw(st.integers(0, 5)), 2)
    option = draw(st.sampled_from([{"step": step}, {"log": True}, {}]))
    return {"float": [low, high], **option}


@st.composite
def values_of(draw: st.DrawFn, spec: dict[str, Any]) -> list[Any]:
    """Some of a parameter's values, for a `when`; none where it has no single ones."""
    if "categorical" in spec:
        every = spec["categorical"]
    elif "int" in spec:
        low, high = spec["int"]
        every = list(range(low, high + 1, spec.get("step", 1)))
    elif "step" in spec:
        low, high = spec["float"]
        every = [
            round(low + k * spec["step"], 2) for k in range(round((high - low) / spec["step"]) + 1)
        ]
    else:
        return []
    return draw(st.lists(st.sampled_from(every), min_size=1, max_size=3, unique=True))


@st.composite
def spaces(draw: st.DrawFn, *, stepped: bool = False) -> dict[str, Any]:
    """A valid file: nested conditions, two learning rates that exclude each other."""
    fields = draw(
        st.lists(st.sampled_from([*CHOICES, *WHOLE, *NUMBERS]), min_size=1, max_size=7, unique=True)
    )
    space: dict[str, Any] = {}
    chain: dict[str, list[Any]] = {}  # each parent's allowed values, the same for every child
    for field in fields:
        spec = draw(ranges(field))
        if stepped:
            spec.pop("log", None)
            if "float" in spec:
                spec.setdefault("step", 0.05)
        for parent in draw(st.lists(st.sampled_from([*space, None]), max_size=2, unique=True)):
            if parent is None:
                continue
            allowed = chain.setdefault(parent, draw(values_of(space[parent])))
            if allowed:
                spec.setdefault("when", {})[parent] = allowed
        space[field] = spec
    if len(space.get("optimizer", {}).get("categorical", [])) > 1 and not stepped:
        first, *others = space["optimizer"]["categorical"]
        space["lr_first"] = {"float": [0.1, 1.0], "field": "lr", "when": {"optimizer": first}}
        space["lr_others"] = {
            "float": ["1e-4", 1e-2],
            "log": True,
            "field": "lr",
            "when": {"optimizer": others},
        }
    shuffled = draw(st.permutations(list(space)))
    return {
        "space": {name: space[name] for name in shuffled},
        "fixed": {"clip_norm": draw(st.floats(0, 10)), "weight_decay": "1e-5"},
        "seed": draw(st.integers(0, 2**32 - 1)),
        "objective": {"metric": draw(st.sampled_from(["val_loss", "val_f1"]))},
        "sampler": "grid" if stepped else draw(st.sampled_from(["tpe", "gp", "random"])),
        "budget": draw(st.sampled_from([{}, {"trials": 3}, {"minutes": 0.5, "target": 0.25}])),
        "data": draw(st.none() | st.text("abc/数据.: #", min_size=1).filter(str.strip)),
    }


@settings(max_examples=60, deadline=None)
@given(raw=spaces())
def test_a_random_space_is_read_back_equal(raw: dict[str, Any]) -> None:
    space = parse_space(yaml.safe_load(yaml.safe_dump(raw, sort_keys=False)), "x")
    again = parse_space(yaml.safe_load(space.to_yaml()), "again")
    assert again == space
    assert again.to_yaml() == space.to_yaml()


@settings(max_examples=40, deadline=None)
@given(raw=spaces())
def test_suggestions_from_a_random_space_are_configs_that_can_be_had_again(
    raw: dict[str, Any],
) -> None:
    space = parse_space(raw, "x")
    made = random_params(space, 10)
    for config, params in made:
        assert space.config(params) == config
        assert [p.name for p in space.active(params)] == list(params)
    # Any suggestion may be enqueued, and means the same then.
    enqueued = parse_space({**raw, "enqueue": [params for _, params in made]}, "x").enqueue
    assert [space.config(point) for point in enqueued] == [config for config, _ in made]


@settings(max_examples=40, deadline=None)
@given(raw=spaces(stepped=True))
def test_the_grid_of_a_random_space_is_distinct_and_valid(raw: dict[str, Any]) -> None:
    try:
        space = parse_space(raw, "x")
    except BadInput as fault:
        if "the grid has more than" not in str(fault):
            raise
        return
    grid = space.grid()
    assert len({tuple(point.items()) for point in grid}) == len(grid) > 0
    assert grid == space.grid()
    for point in grid[:200]:
        space.config(point)
        assert [p.name for p in space.active(point)] == list(point)
        assert all(p.contains(point[p.name]) for p in space.active(point))
    for _, params in random_params(space, 5):
        snapped = {p.name: p.snap(params[p.name]) for p in space.active(params)}
        assert snapped in grid

"""TrainConfig: limits, types as files give them, variants, and faults told all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmcls.cli import BadInput
from lstmcls.config import FIELDS, VARIANTS, TrainConfig, coerce, config_from, load_config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("hidden_size", 0),
        ("layers", 9),
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("momentum", 1),
        ("clip_norm", -1),
        ("report_every", 0),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_values_outside_the_limits(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=f"^{name}: expected (at least|above) "):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("dropout", 0), ("dropout", 0.99), ("layers", 8), ("clip_norm", 0), ("seed", 2**63 - 1)],
)
def test_values_at_the_limits(name: str, value: Any) -> None:
    assert getattr(TrainConfig(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("lr", "1e-4", 1e-4),
        ("epochs", 2, 2.0),
        ("hidden_size", "64", 64),
        ("hidden_size", 64.0, 64),
        ("zero_state", "false", False),
        ("zero_state", "Yes", True),
        ("seed", str(2**60 + 1), 2**60 + 1),
    ],
)
def test_values_take_the_declared_type(name: str, value: Any, wanted: Any) -> None:
    found = coerce(name, value)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden_size", 64.5, "hidden_size: expected a whole number, got 64.5"),
        ("hidden_size", True, "hidden_size: expected a whole number, got True"),
        ("lr", "fast", "lr: expected a number, got 'fast'"),
        ("lr", None, "lr: expected a number, got None"),
        ("lr", True, "lr: expected a number, got True"),
        ("lr", 10**400, "lr: expected a number, got 1000"),
        ("seed", "1e400", "seed: expected a whole number, got '1e400'"),
        ("zero_state", 2, "zero_state: expected true or false, got 2"),
        ("optimizer", "adamm", "did you mean 'adam'?"),
        ("padding", ["masked"], "padding: expected one of masked, counted"),
    ],
)
def test_wrong_types(name: str, value: Any, message: str) -> None:
    with pytest.raises(BadInput) as fault:
        coerce(name, value)
    assert message in str(fault.value)


def test_yaml_reads_1e_4_as_text_and_it_still_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("lr: 1e-4\n")
    assert yaml.safe_load(path.read_text()) == {"lr": "1e-4"}
    assert load_config(path).lr == 1e-4


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(BadInput, match="nesterov"):
        TrainConfig(nesterov=True)
    with pytest.raises(BadInput, match="nesterov"):
        TrainConfig(nesterov=True, optimizer="sgd")
    assert TrainConfig(nesterov=True, optimizer="sgd", momentum=0.9).nesterov


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_its_four_switches(name: str) -> None:
    config = config_from({"variant": name})
    assert config.switches() == VARIANTS[name]
    assert config.variant == name


def test_a_switch_beside_a_variant_wins() -> None:
    config = config_from({"variant": "improved", "dropout": 0.2, "bidirectional": "false"})
    assert (config.bidirectional, config.dropout, config.max_pooling) == (False, 0.2, True)
    assert config.variant == "custom"
    assert config_from({"variant": "improved", "dropout": 0.2}).variant == "improved"


def test_a_setting_in_full_is_known_by_its_initials() -> None:
    with pytest.raises(BadInput, match="learning_rate: no such setting; did you mean 'lr'"):
        config_from({"learning_rate": 0.1})


def test_all_faults_at_once_with_the_nearest_names() -> None:
    with pytest.raises(BadInput) as fault:
        config_from({"hiden_size": 3, "variant": "improve", "lr": "x", "layers": 0})
    assert sorted(fault.value.messages) == [
        "hiden_size: no such setting; did you mean 'hidden_size'?",
        "layers: expected at least 1 and at most 8, got 0",
        "lr: expected a number, got 'x'",
        "variant: expected one of plain, bidirectional, dropout, zero_state, max_pooling, "
        "improved, got 'improve'; did you mean 'improved'?",
    ]


@pytest.mark.parametrize("variant", [["plain"], {"plain": 1}, 3])
def test_a_variant_of_another_type_is_a_fault(variant: Any) -> None:
    with pytest.raises(BadInput, match="variant: expected one of"):
        config_from({"variant": variant})


def _values(name: str) -> st.SearchStrategy[Any]:
    spec = FIELDS[name]
    if choices := spec.metadata.get("choices"):
        return st.sampled_from(choices)
    if spec.type == "bool":
        return st.booleans()
    low, high = spec.metadata["low"], min(spec.metadata["high"], 1e6)
    if spec.type == "int":
        return st.integers(low, int(high))
    return st.floats(
        low,
        high,
        exclude_min=spec.metadata["low_open"],
        exclude_max=spec.metadata["high_open"],
    )


@settings(max_examples=50, deadline=None)
@given(st.fixed_dictionaries({n: _values(n) for n in FIELDS if n != "nesterov"}))
def test_yaml_round_trip(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    config = TrainConfig(**fields)
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config
    assert config_from(config.to_dict()) == config


def test_settings_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("lr: 0.1\nhidden_size: 32\n")
    config = load_config(path, ["lr=0.5", "variant=plain"])
    assert (config.lr, config.hidden_size, config.variant) == (0.5, 32, "plain")


def test_a_variant_takes_the_place_of_all_four_switches_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(TrainConfig().to_yaml(), encoding="utf-8")
    assert load_config(path, ["variant=plain"]).variant == "plain"
    assert load_config(path, ["variant=plain", "max_pooling=true"]).variant == "max_pooling"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", "expected lines of `setting: value`"),
        (b"a: [\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"lr: -1\n", "lr: expected above 0"),
        (b"lr: 2001-99-99\n", "not valid YAML"),  # a date that there is not
        (b"[" * 5000, "not valid YAML"),
        (b"lr: !!bool maybe\n", "not valid YAML"),
        (b"lr: !!timestamp x\n", "not valid YAML"),
        (b"lr: !!int ''\n", "not valid YAML"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput) as fault:
        load_config(path)
    assert message in str(fault.value)
    assert str(path) in str(fault.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_settings_without_a_value() -> None:
    with pytest.raises(BadInput, match="expected key=value"):
        load_config(None, ["lr"])

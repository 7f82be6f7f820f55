"""The model card of an artifact: README.md, for people who find the folder later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lstmcls.config import TrainConfig, variant_title
from lstmcls.expectations import (
    confirmed_candidates,
    expectations,
    interval_text,
    linear_verdict,
    looks,
    shown,
)
from lstmcls.metrics import METRICS

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_TITLES = {"roc_auc": "ROC AUC", "f1": "F1"}


def model_card(
    name: str, config: TrainConfig, labels: Sequence[str], metrics: Mapping[str, Any]
) -> str:
    """The card's Markdown; `metrics` as in an artifact's metrics.json."""
    data = metrics.get("data", {})
    parts = [
        f"# {escaped(name)}",
        f"An LSTM text classifier (variant: {escaped(variant_title(config.variant))}) that assigns "
        f"a text to one of {len(labels)} classes: {', '.join(escaped(label) for label in labels)}. "
        "PyTorch weights in safetensors format; nothing in this folder runs code when loaded.",
        *_expected(metrics),
        "## How to use",
        "```\n"
        'python -m lstmcls.predict PATH_TO_THIS_FOLDER "some text"\n'
        "python -m lstmcls.predict PATH_TO_THIS_FOLDER --file texts.csv --out labels.csv\n"
        "python -m lstmcls.evaluate PATH_TO_THIS_FOLDER labelled.csv\n"
        "```",
        *_size(metrics),
        *_kept(metrics),
        *_tested(metrics),
        *_confirmed(metrics),
        *_validated(metrics),
        *_linear(metrics),
        *_per_class(metrics.get("per_class")),
        "## Data",
        _table(("property", "value"), _flat(data, without={"labels", "sources", "format"})),
        *_sources(data.get("sources")),
        "## Hyperparameters",
        _table(("setting", "value"), config.to_dict().items()),
        *_training(metrics),
        "## Limits",
        f"- Only the first {escaped(metrics.get('max_length'))} tokens of a text are read.\n"
        "- Every text gets one of the classes above, also one that fits none of them.\n"
        "- Texts unlike the training data (other language, subject or time) may be classified "
        "badly, with a high probability all the same.\n"
        "- What is unjust or one-sided in the training data is likely so in the predictions.",
    ]
    return "\n\n".join(parts) + "\n"


def onnx_section(config: TrainConfig, max_characters: int = 0, ensemble: bool = False) -> str:
    """What the card of a folder with model.onnx says besides: how to run it without PyTorch.

    `max_characters`: that a linear model in it reads of a text; 0: there is none.
    """
    feeds = '"input_ids": ids, "lengths": lengths'
    lines = [
        "import numpy as np, onnxruntime, tokenizers",
        'tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")',
        'texts = ["some text", "more text"]',
        "def padded(rows):",
        "    lengths = np.array([len(row) for row in rows])",
        "    longest = max(lengths)",
        "    return np.array([list(row) + [0] * (longest - len(row)) for row in rows]), lengths",
        "rows = [tokenizer.encode(text).ids or [1] for text in texts]  # 1: unknown",
        "ids, lengths = padded(rows)",
    ]
    if max_characters:
        lines += [
            "def characters(text):  # as UTF-16, normalized, with a space at both ends",
            "    words = tokenizer.normalizer.normalize_str(text).split()",
            f"    read = f\" {{' '.join(words)}} \"[:{max_characters}]",
            '    return np.frombuffer(read.encode("utf-16-le"), "<u2").astype(np.int64)',
            "character_ids, character_lengths = padded([characters(text) for text in texts])",
        ]
        feeds += ', "character_ids": character_ids, "character_lengths": character_lengths'
    if not config.zero_state and not ensemble:
        sizes = f"{config.layers}, {1 + config.bidirectional}, 2, len(rows), {config.hidden_size}"
        lines.append(f"states = np.zeros(({sizes}), np.float32)  # or N(0, 1), as in training")
        feeds += ', "initial_states": states'
    lines += [
        'session = onnxruntime.InferenceSession("model.onnx")',
        f"probabilities = session.run(None, {{{feeds}}})[0]  # [texts, classes]",
    ]
    parts = ["## Without PyTorch", "`model.onnx` runs in ONNX Runtime; from inside this folder:"]
    return "\n\n".join([*parts, "\n".join(["```python", *lines, "```"])]) + "\n"


def escaped(value: Any) -> str:
    """`value` as text that Markdown shows as it is, on one line."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _expected(metrics: Mapping[str, Any]) -> list[str]:
    lines = expectations(metrics)
    return ["## What to expect", "\n".join(f"- {escaped(line)}" for line in lines)] if lines else []


def _tested(metrics: Mapping[str, Any]) -> list[str]:
    test = metrics.get("test")
    if not test:
        return []
    level = f"{metrics['level']:.0%}"
    parts = [
        "## Metrics on the test split",
        f"{test['rows']:,} texts, {looks(test)}, when everything had been chosen.",
        _metrics(test),
        f"{level} interval of the accuracy: {interval_text(test['accuracy_interval'])}."
        + _calibrated(test),
    ]
    if "difference" in test:
        parts[-1] += (
            f" The search's baseline reaches {shown(test['baseline_accuracy'])} on the same "
            f"texts; the difference is {test['difference']:+.4f}, {level} interval "
            f"{interval_text(test['difference_interval'], '+')}, paired by text. The interval "
            "covers the choice of the texts, not the seeds of the two trainings."
        )
    return parts


def _calibrated(test: Mapping[str, Any]) -> str:
    if "calibration_error" not in test:  # of an earlier version
        return ""
    return (
        " The probability of the predicted class is off by "
        f"{shown(test['calibration_error'])} on average (expected calibration error, "
        f"15 bins of equally many texts); Brier score {shown(test['brier'])}."
    )


def _linear(metrics: Mapping[str, Any]) -> list[str]:
    linear = metrics.get("linear")
    if not linear:
        return []
    said = (
        "For comparison, TF-IDF of n-grams with logistic regression on the same split: accuracy "
        f"{shown(linear['accuracy'])}, F1 {shown(linear['f1'])}."
    )
    if test := linear.get("test"):
        said += (
            f" On the test split: accuracy {shown(test['accuracy'])}; this model's minus that: "
            f"{test['difference']:+.4f}, {metrics['level']:.0%} interval "
            f"{interval_text(test['difference_interval'], '+')}, paired by text: "
            f"{linear_verdict(test)}."
        )
    return [said]


def _confirmed(metrics: Mapping[str, Any]) -> list[str]:
    candidates = confirmed_candidates(metrics)
    if not candidates:
        return []
    level = f"{metrics['level']:.0%}"
    rows = [
        (
            f"trial {c['trial']}" + ", this model's" * (c is candidates[0])
            + ", the baseline" * c["baseline"],
            shown(c["value"]),
            interval_text(c["interval"]),
            c["runs"],
        )
        for c in candidates
    ]  # fmt: skip
    return [
        "## Confirmation",
        "The best settings of the search were trained again, with seeds that it had not used: by "
        "cross-validation, or before that was there, on the same split. "
        f"{escaped(metrics['objective'])} of single networks on rows that they were not trained "
        "on:",
        _table(("settings of", "value", f"{level} interval", "runs"), rows),
    ]


def _size(metrics: Mapping[str, Any]) -> list[str]:
    """Of an ensemble: of how much it is made, and what a prediction takes."""
    found, test = metrics.get("out_of_fold"), metrics.get("test") or {}
    if not found or "networks" not in found:
        return []
    text = f"{found['networks']} networks, {found['bytes'] / 2**20:.1f} MB of weights in all."
    if rate := test.get("texts_per_second"):
        threads = metrics.get("threads")
        where = f"a {metrics.get('device')} and {threads} thread{'s' * (threads != 1)}"
        text += f" The test texts took {1000 / rate:.2g} ms each on {where}."
    return [text + " `python -m tune.export RUN --to DIR --members N` keeps fewer networks."]


def _kept(metrics: Mapping[str, Any]) -> list[str]:
    if "networks_kept" not in metrics:
        return []
    return [
        f"This copy has {metrics['networks_kept']} of the {metrics['networks_judged']} networks of "
        "the winner. The figures below are those of all of them: expect a little less."
    ]


def _validated(metrics: Mapping[str, Any]) -> list[str]:
    if rows := metrics.get("trained_on"):
        return [
            "## Metrics",
            f"Not judged: this one network was trained on all {rows:,} rows. "
            "`python -m lstmcls.evaluate` on labelled texts that it was not trained on tells.",
        ]
    if found := metrics.get("out_of_fold"):
        return [
            "## Metrics out of fold",
            _metrics(found),
            f"{found['rows']:,} texts, each judged by networks that were not trained on it, "
            f"{found['folds']} folds; single networks, where the model averages several: expect a "
            "little more of it. Precision, recall and F1 are macro averages.",
            *_members(found),
        ]
    return [
        "## Metrics on the validation split",
        _metrics(metrics.get("val", {})),
        "The best report of the training was chosen by these figures, so they are a little "
        f"better than those to expect on new texts. {_per_class_note(metrics)}",
    ]


def _members(found: Mapping[str, Any]) -> list[str]:
    before, members = found["networks_alone"], found["members"]
    named = ", ".join(
        f"{'the linear model' if name == 'linear' else f'networks of trial {name}'} {weight:.2f}"
        for name, weight in members.items()
    )
    said = (
        "The members' log-probabilities are weighted and added; weights, which make up for over- "
        f"and underconfidence too: {named}. They were fitted out of fold. Before and after: "
        f"calibration error {shown(before['calibration_error'])} and "
        f"{shown(found['calibration_error'])}, Brier score {shown(before['brier'])} and "
        f"{shown(found['brier'])}, accuracy {shown(before['accuracy'])} and "
        f"{shown(found['accuracy'])}."
    )
    if without := found.get("without_offsets"):
        said += (
            " An offset for each class raises the macro F1, and makes the probabilities those of "
            f"that aim; without and with: F1 {shown(without['f1'])} and {shown(found['f1'])}, "
            f"accuracy {shown(without['accuracy'])} and {shown(found['accuracy'])}."
        )
    return [said]


def _metrics(values: Mapping[str, Any]) -> str:
    known = [name for name in METRICS if name in values]
    rows = [(_TITLES.get(name, name), shown(values[name])) for name in known]
    return _table(("metric", "value"), rows)


def _per_class_note(metrics: Mapping[str, Any]) -> str:
    macro = "Precision, recall and F1 are macro averages."
    if metrics.get("epoch") is None:
        return macro
    return f"{macro} They were reached after {escaped(metrics['epoch'])} epochs."


def _per_class(table: Mapping[str, Mapping[str, float]] | None) -> list[str]:
    if not table:
        return []
    columns = ("precision", "recall", "f1")
    rows = [
        (name, *(shown(row.get(column)) for column in columns), int(row.get("support") or 0))
        for name, row in table.items()
    ]
    return [_table(("class", "precision", "recall", "F1", "texts"), rows)]


def _sources(sources: Any) -> list[str]:
    if not isinstance(sources, list) or not sources:
        return []
    rows = [source if isinstance(source, Mapping) else {"name": source} for source in sources]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return ["Sources:", _table(columns, [[row.get(key, "") for key in columns] for row in rows])]


def _training(metrics: Mapping[str, Any]) -> list[str]:
    kept = {
        key: value
        for key, value in metrics.items()
        if isinstance(value, str | int | float) and key not in ("format", "max_length", "level")
    }
    return ["## Training", _table(("property", "value"), kept.items())] if kept else []


def _flat(mapping: Mapping[str, Any], without: set[str], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in mapping.items():
        if key in without:
            continue
        if isinstance(value, Mapping):
            rows += _flat(value, set(), f"{prefix}{key} / ".replace("_", " "))
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            name = key if prefix.startswith("classes") else key.replace("_", " ")  # a label stays
            rows.append((f"{prefix}{name}", shown))
    return rows


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header)]
    shown = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    shown += ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows]
    return "\n".join(shown)

"""A session's confirmation, whose runs have all ended: what it chooses, judges and writes.

Ray is real, for the linear model; networks are untrained, and what they say is written by hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import ray
from fakes import Told, asked, finished, in_memory, small_space
from fold_runs import ran
from optuna.trial import TrialState

from lstmcls.artifact import load_artifact, read_metrics
from lstmcls.config import load_config
from lstmcls.dataset import Prepared, joined
from lstmcls.ensemble import Ensemble, log_probabilities
from lstmcls.folds import Folds, divide
from lstmcls.linear import STRENGTHS, fit_linear
from lstmcls.metrics import METRICS, classification_metrics
from lstmcls.model import LSTMClassifier
from tune.checkpoints import Checkpoints, load_held_out, trial_folder
from tune.confirmation import linear_folds
from tune.confirmation.bag import Bag
from tune.confirmation.candidates import BEHIND, drop, point
from tune.confirmation.confirmation import Confirmation, seconds_on_all_rows
from tune.confirmation.linear_folds import PendingLinear
from tune.data import search_folds
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.session import Outcome, Session
from tune.store import Store
from tune.study import CONFIRMATION, SEARCH, enqueue, open_study
from tune.winner import Winner

folder = pytest.fixture(in_memory)
# Both are used up: neither study is asked for more.
BUDGET = {"trials": 3, "minutes": 1e-9}
FOLDS = 3
BASELINE = {"optimizer": "adam", "lr": 0.01, "hidden_size": 8}
SHARE = Share(1, 0, 1)


@pytest.fixture(scope="module", autouse=True)
def a_cluster() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


class Ended:
    """A run whose search has ended, with two trials better than the baseline, trial 0."""

    def __init__(self, folder: Path, prepared: Prepared, **sections: Any) -> None:
        self.run, self.prepared = RunFolder(folder), prepared
        fixed = {"epochs": 2, "report_every": 1, "first_report": 1, "embedding_dim": 4}
        settings = {"confirm": {"top": 2, "folds": FOLDS}, "budget": BUDGET, "fixed": fixed}
        self.space = small_space(**{**settings, "enqueue": [BASELINE], **sections})
        self.run.space.write_text(self.space.to_yaml(), encoding="utf-8")
        self.search = open_study(self.run.journal, SEARCH, self.space.objective)
        enqueue(self.search, self.space.enqueue)
        for values in ([0.4, 0.5], [0.6, 0.75], [0.7, 0.8]):
            finished(self.search, self.space.suggest, values)
        self.study = open_study(self.run.journal, CONFIRMATION, self.space.objective)
        self.notes: list[str] = []
        self.confirmation = self.begun()

    def begun(self, seconds: float | None = None, *, over: bool = False) -> Confirmation:
        found = Confirmation(
            self.run,
            self.space,
            self.prepared,
            search_folds(self.prepared, self.space.seed),
            self.search,
            self.study,
            SHARE,
            self.notes.append,
        )
        assert found.begin(seconds, over=over)
        return found

    def fold_runs(self, better: int, runs: int = 3 * FOLDS) -> None:
        """The first runs in the queue end; networks of trial `better` are right, others on 70 %."""
        self.confirmation.enqueue()
        for _ in range(runs):
            self.fold_run(better)

    def fold_run(self, better: int) -> None:
        candidates = self.confirmation.candidates
        trial = ran(self.study, candidates)
        at = point(trial)
        candidate = next(c for c in candidates if c.trial == at["candidate"])
        config = dataclasses.replace(candidate.final, seed=at["seed"])
        model = LSTMClassifier(config, self.prepared.vocab_size, 2).eval()
        held_out = self.confirmation.folds.held_out(at["fold"])
        logs = log_probabilities(model, held_out, self.prepared.max_length)
        right = np.random.default_rng(trial.number).random(len(logs)) < 0.7
        right |= candidate.trial == better
        logs[np.arange(len(logs)), np.where(right, held_out.labels, 1 - held_out.labels)] += 2
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        place = trial_folder(self.run.checkpoints, CONFIRMATION, trial.number)
        place.make(parents=True)
        kept = Checkpoints(place)
        test = self.confirmation.folds.test(at["fold"])
        kept.save_held_out(logs, log_probabilities(model, test, self.prepared.max_length))
        kept.save_weights(1, model.state_dict(), None)

    def of_search(self, number: int) -> None:
        """The weights of a trial of the search, as its worker leaves them."""
        config = self.space.config(self.search.get_trials()[number].params)
        model = LSTMClassifier(config, self.prepared.vocab_size, 2)
        place = trial_folder(self.run.checkpoints, SEARCH, number)
        place.make(parents=True)
        Checkpoints(place).save_weights(2, model.state_dict(), None)

    def place(self, number: int) -> Path:
        return Path(str(trial_folder(self.run.checkpoints, CONFIRMATION, number)))

    def conduct(self) -> tuple[Outcome, list[str]]:
        """What the next session makes of it, whose minutes are over, and what it says."""
        display = Told(self.space)
        session = Session(self.run, self.space, self.prepared, SHARE, display, ())
        return session.conduct(), display.notes


@pytest.fixture
def ended(folder: Path, prepared: Prepared) -> Ended:
    return Ended(folder, prepared)


def test_all_rows_but_the_test_are_divided_anew(ended: Ended, prepared: Prepared) -> None:
    confirmation = ended.confirmation
    train, val = prepared.splits["train"], prepared.splits["val"]
    test = prepared.splits["test"]
    assert confirmation.folds.size == len(train) + len(val) + len(test)
    folds = confirmation.folds
    assert sum(len(folds.held_out(f)) for f in range(FOLDS)) == len(train) + len(val)
    assert sum(len(folds.test(f)) for f in range(FOLDS)) == len(test)
    assert [c.trial for c in confirmation.candidates] == [2, 1, 0]
    assert [c.baseline for c in confirmation.candidates] == [False, False, True]
    assert confirmation.tokens_only().rows.characters is None
    assert confirmation.enqueue() == set()
    assert len(ended.study.get_trials()) == 3 * FOLDS


def test_a_short_time_is_for_fewer_candidates(ended: Ended) -> None:
    few = ended.begun(seconds=11.0)
    assert [c.trial for c in few.candidates] == [2]
    assert ended.notes == [
        "confirmation: 1 of 3 candidates begin, on 3 folds: the minutes suffice for no more"
    ]


def test_who_has_begun_stays_however_short_the_time(ended: Ended) -> None:
    ended.fold_runs(better=2, runs=2)
    assert [c.trial for c in ended.begun(seconds=11.0).candidates] == [2, 1]
    assert [c.trial for c in ended.begun(seconds=0.0, over=True).candidates] == [2, 1, 0]


def test_who_can_be_confirmed_in_time_begins(folder: Path, prepared: Prepared) -> None:
    ended = Ended(folder, prepared, confirm={"top": 4, "folds": FOLDS})
    quick = finished(ended.search, ended.space.suggest, [0.65, 0.6])  # the best after one epoch
    assert [c.trial for c in ended.begun().candidates] == [2, 1, quick.number, 0]
    # Three folds of two epochs take 13.5 s, of one epoch 11.8 s.
    assert ended.begun(seconds=12.5).candidates[0].trial == quick.number
    assert "trial 2 takes too long to be confirmed in the minutes left" in ended.notes
    assert ended.begun(seconds=11.0).candidates[0].trial == 2  # none can: the best


def test_the_winner_of_the_folds_is_exported_with_its_figures(ended: Ended) -> None:
    """Not the best of the search: trial 1 is right where its networks were not trained."""
    ended.fold_runs(better=1)
    outcome, notes = ended.conduct()
    assert isinstance(outcome.winner, Bag)
    assert outcome.winner.trial == 1
    assert outcome.candidates[0]["trial"] == 1
    assert {c["folds"] for c in outcome.candidates} == {FOLDS}
    assert "confirmation: the minutes are over; more --minutes resume it" in notes
    artifact = load_artifact(ended.run.best)
    metrics = artifact.metrics
    assert isinstance(artifact.model, Ensemble)
    assert metrics["trial"] == 1
    chosen_by = ended.confirmation.folds.size - len(ended.prepared.splits["test"])
    assert metrics["out_of_fold"]["rows"] == chosen_by
    assert metrics["confirmation"][0]["trial"] == 1
    assert load_config(ended.run.best_config) == artifact.config
    assert artifact.config.seed == 1000
    test, tested = ended.prepared.splits["test"], outcome.winner.tested
    assert tested is not None
    assert sorted(tested.rows) == list(range(len(test)))
    assert list(test.labels[tested.rows]) == list(tested.labels)
    found = classification_metrics(tested.ours, tested.labels)
    assert {name: metrics["test"][name] for name in METRICS} == pytest.approx(found, abs=1e-4)
    assert metrics["out_of_fold"]["trained_on_test"]
    for name in METRICS:
        low, high = metrics["test"][f"{name}_interval"]
        assert low <= metrics["test"][name] <= high
    assert metrics["test"]["looks"] == 1
    assert metrics["test"]["rows"] == len(test)
    assert -1 <= metrics["test"]["difference"] <= 1
    linear = metrics["linear"]
    assert linear["rows"] == chosen_by
    assert linear["strength"] in STRENGTHS
    assert -1 <= linear["test"]["difference"] <= 1


def test_test_rows_choose_nothing(ended: Ended) -> None:
    """Whatever is said of them, the same winner and the same weights come out."""
    ended.fold_runs(better=1)
    first, _ = ended.conduct()
    for trial in ended.study.get_trials():
        place = ended.place(trial.number)
        logs, test = load_held_out(Store(str(place.parent)) / place.name)
        Checkpoints(Store(str(place.parent)) / place.name).save_held_out(logs, test[::-1, ::-1])
    second, _ = ended.conduct()
    assert isinstance(first.winner, Bag)
    assert isinstance(second.winner, Bag)
    assert first.test != second.test
    assert first.winner.trial == second.winner.trial
    assert first.winner.ensemble.members == second.winner.ensemble.members
    assert first.winner.figures == second.winner.figures


def test_an_official_test_set_judges_what_is_exported(folder: Path, prepared: Prepared) -> None:
    official = dataclasses.replace(prepared, info={**prepared.info, "split": [0.9, 0.1]})
    ended = Ended(folder, official)
    ended.fold_runs(better=1)
    ended.conduct()
    artifact, test = load_artifact(ended.run.best), prepared.splits["test"]
    found = classification_metrics(artifact.row_probabilities(test), test.labels)
    metrics = artifact.metrics
    assert {name: metrics["test"][name] for name in METRICS} == pytest.approx(found, abs=1e-4)
    assert not metrics["out_of_fold"]["trained_on_test"]
    assert metrics["out_of_fold"]["rows"] == ended.confirmation.folds.size == 360


def test_another_session_that_finds_nothing_new_writes_the_same(ended: Ended) -> None:
    ended.fold_runs(better=1)
    ended.conduct()
    before = read_metrics(ended.run.best)
    ended.conduct()
    after = read_metrics(ended.run.best)
    for metrics in (before, after):
        del metrics["test"]["texts_per_second"]
    assert after == before


def test_a_run_whose_files_are_lost_is_left_out(ended: Ended) -> None:
    ended.fold_runs(better=2)
    lost = {int(point(t)["candidate"]): t.number for t in ended.study.get_trials()[:3]}
    (ended.place(lost[2]) / "held-out.safetensors").unlink()
    (ended.place(lost[1]) / "best-000001.safetensors").unlink()
    outcome, notes = ended.conduct()
    assert isinstance(outcome.winner, Bag)
    assert outcome.winner.trial == 2
    assert list(outcome.winner.candidate.runs) == [1, 2]
    folds = {c["trial"]: c["folds"] for c in outcome.candidates}
    assert folds == {2: 2, 1: 2, 0: 3}
    said = "\n".join(notes)
    assert f"what run {lost[2]} of the confirmation said cannot be read" in said
    assert f"the weights of run {lost[1]} of the confirmation cannot be read" in said


def test_a_candidate_that_lost_all_gives_way_to_the_next(ended: Ended) -> None:
    ended.fold_runs(better=2)
    for trial in ended.study.get_trials():
        if point(trial)["candidate"] == 2:
            (ended.place(trial.number) / "best-000001.safetensors").unlink()
    outcome, _ = ended.conduct()
    assert isinstance(outcome.winner, Bag)
    assert outcome.winner.trial != 2
    assert outcome.unconfirmed == [2]


def test_one_fold_confirms_nothing(ended: Ended) -> None:
    ended.fold_runs(better=2, runs=3)
    ended.of_search(2)
    outcome, notes = ended.conduct()
    assert isinstance(outcome.winner, Winner)
    assert outcome.winner.trial == 2
    assert "confirmation" not in read_metrics(ended.run.best)
    assert outcome.test is None
    assert "the winner is written" in notes


def test_a_bettered_baseline_alone_confirms_nothing(ended: Ended) -> None:
    """Its rivals failed on every fold."""
    ended.confirmation.enqueue()
    for _ in range(2):
        why = "diverged: the loss is nan"
        ran(ended.study, ended.confirmation.candidates, state=TrialState.FAIL, why=why)
    for number in (1, 2):
        drop(ended.study, number, TrialState.FAIL, "another fold failed")
    for _ in range(FOLDS):
        ended.fold_run(better=0)
    ended.of_search(2)
    outcome, _ = ended.conduct()
    assert isinstance(outcome.winner, Winner)
    assert outcome.winner.trial == 2


def test_who_left_the_race_is_named_and_not_exported(ended: Ended) -> None:
    ended.fold_runs(better=1, runs=6)
    drop(ended.study, 2, TrialState.PRUNED, f"{BEHIND} after 2 folds")
    for _ in range(2):
        ended.fold_run(better=1)
    outcome, _ = ended.conduct()
    left = {c["trial"]: (c["folds"], c["left"]) for c in outcome.candidates}
    assert left == {1: (3, ""), 0: (3, ""), 2: (2, "clearly behind after 2 folds")}
    metrics = read_metrics(ended.run.best)
    assert "2" not in metrics["out_of_fold"]["members"]


def test_a_former_winner_gives_way_only_to_what_is_better(ended: Ended) -> None:
    ended.fold_runs(better=1)
    ended.conduct()
    for values in ([0.85, 0.9], [0.85, 0.95]):
        finished(ended.search, ended.space.suggest, values)
    ended.confirmation = ended.begun()
    assert [c.trial for c in ended.confirmation.candidates] == [4, 3, 1, 0]
    ended.confirmation.enqueue()
    for _ in range(2 * FOLDS):
        ended.fold_run(better=1)
    outcome, _ = ended.conduct()
    assert outcome.winner is not None
    assert outcome.winner.trial == 1
    assert read_metrics(ended.run.best)["test"]["looks"] == 1


def test_a_linear_model_that_fails_does_not_cost_the_winner(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended.fold_runs(better=1)
    monkeypatch.setattr(linear_folds, "_losses", _raises)
    outcome, notes = ended.conduct()
    assert isinstance(outcome.winner, Bag)
    assert outcome.linear == {}
    assert any("the linear model is left out: " in note for note in notes)


def _raises(*_: object) -> None:
    raise ValueError("no")


def test_a_baseline_that_won_the_race_is_exported_and_compared_with_nothing(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no figure of a former session: its rivals ran, and were behind."""
    ended.fold_runs(better=0, runs=6)
    for number in (1, 2):
        drop(ended.study, number, TrialState.PRUNED, f"{BEHIND} after 2 folds")
    ended.fold_run(better=0)
    outcome, _ = ended.conduct()
    assert isinstance(outcome.winner, Bag)
    assert outcome.winner.trial == 0
    assert outcome.test is not None
    blended = len(read_metrics(ended.run.best)["out_of_fold"]["members"]) > 1
    assert ("difference" in outcome.test) == blended
    monkeypatch.setattr(linear_folds, "_losses", _raises)
    alone, _ = ended.conduct()
    assert alone.test is not None
    assert "difference" not in alone.test


# The linear model on folds.


@pytest.fixture(scope="module")
def folds(prepared: Prepared) -> Folds:
    return divide(joined([prepared.splits["train"], prepared.splits["val"]]), FOLDS, seed=0)


def test_it_says_of_each_fold_what_a_model_without_it_says(folds: Folds) -> None:
    pending = PendingLinear(folds, FOLDS, 2, 1.0, 2, None)
    assert pending.enough
    found, whole = pending.result()
    assert found.strength in STRENGTHS
    for fold in range(FOLDS):
        held_out = folds.held_out(fold)
        alone = fit_linear(folds.train(fold), 2, found.strength).logits(held_out)
        np.testing.assert_allclose(found.logs([fold]), alone, rtol=0, atol=1e-4)
    both = found.logs([2, 0])
    np.testing.assert_array_equal(both, np.concatenate([found.logs([2]), found.logs([0])]))
    rows = folds.rows.between(0, folds.size)
    expected = fit_linear(rows, 2, found.strength).logits(rows)
    np.testing.assert_allclose(whole.logits(rows), expected, rtol=0, atol=1e-4)


def test_its_strength_is_that_of_the_least_loss_on_the_first_fold(folds: Folds) -> None:
    strength = PendingLinear(folds, FOLDS, 2, 1.0, 2, None).strength
    held_out = folds.held_out(0)
    losses = {
        each: classification_metrics(
            np.exp(fit_linear(folds.train(0), 2, each).logits(held_out)), held_out.labels
        )["loss"]
        for each in STRENGTHS
    }
    assert losses[strength] == pytest.approx(min(losses.values()), abs=1e-4)


def test_where_there_is_no_time_there_is_no_linear_model(folds: Folds) -> None:
    assert not PendingLinear(folds, FOLDS, 2, 1.0, 2, 1e-6).enough


def test_nothing_is_confirmed_without_a_trial(folder: Path, prepared: Prepared) -> None:
    space = small_space()
    run = RunFolder(folder)
    studies: list[optuna.Study] = [
        open_study(run.journal, name, space.objective) for name in (SEARCH, CONFIRMATION)
    ]
    rows = search_folds(prepared, 0)
    confirmation = Confirmation(run, space, prepared, rows, *studies, SHARE, print)
    assert not confirmation.begin(None, over=False)
    trial, _ = asked(studies[0], space, None)  # it has not reported
    assert seconds_on_all_rows(space, studies[0].trials[trial.number], rows, prepared) == 0


def test_the_strength_is_chosen_by_rows_of_all_classes(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a file lists one class after the other, and not all rows are taken."""
    pool = joined([prepared.splits["train"], prepared.splits["val"]])
    by_class = pool.chosen(np.argsort(pool.labels, kind="stable"))
    monkeypatch.setattr(linear_folds, "CHOOSING", 60)
    folds = divide(by_class, 3, 0)
    assert len(set(folds.train(0).labels[:60])) == 1
    losses, _ = linear_folds._losses(folds, 2, STRENGTHS)
    assert min(losses.values()) < 0.6  # of a coin 0.69

"""A run whose steps take long for few rows is shown like any other."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from ml.backends import get_backend
from ml.dataset import build_dataset, encode_text
from node.training import loop
from node.training.loop import Schedule, Watch, train
from node.training.metrics import StepRecord, make_run_record
from node.training.plan import fit_spec, make_plan
from node.training.run_directory import open_run
from node.training.show import make_plain
from tests.support.models import TINY_SPECS

STEPS = 3
STEP_S = 1_000_000
"""Two readings of the clock lie as far apart: a step of a batch of one, of a very large model."""


def test_a_speed_that_is_almost_nothing_is_no_division_by_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = fit_spec(replace(TINY_SPECS["decoder-tied"], batch=1, heldout=1), STEPS)
    plan = make_plan(spec, build_dataset(encode_text(bytes(range(64, 128)) * 200), 1), get_backend("reference"))
    readings = count(0, STEP_S)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(readings)))
    speeds, show = list[float](), make_plain(make_run_record(plan))

    def on_record(record: object) -> None:
        show(record)  # type: ignore[arg-type]  # a record of any kind
        if isinstance(record, StepRecord):
            speeds.append(record.rows_per_second * STEP_S)

    with open_run(tmp_path, plan, is_resuming=False) as run:
        train(plan, plan.make_runner(), run, Schedule(0, 0, 0), Watch(on_record, lambda: False))
    rows = spec.model.context  # type: ignore[union-attr]  # of a decoder
    assert speeds == pytest.approx([rows] * STEPS)
    assert f"step      {STEPS}  loss" in capsys.readouterr().out

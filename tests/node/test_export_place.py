"""Where an exported model may come to lie."""

from pathlib import Path

import pytest

from node.models import ModelError
from node.models.export import export_model
from tests.node.test_model_export import SCORE, make_state


def test_the_current_folder_is_no_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"exists: found \., expected nothing there"):
        export_model(make_state("mlp"), Path(), SCORE, has_moments=True)
    assert list(tmp_path.iterdir()) == []

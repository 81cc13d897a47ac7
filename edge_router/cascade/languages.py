"""Which language a text is in, as far as letters and the commonest words tell without doubt."""

import re
from collections import Counter

FEWEST_LETTERS = 8  # fewer say nothing about a script
FEWEST_WORDS = 6  # fewer say nothing about a language of Latin letters
CHARACTERS_READ = 600
CLEAR_SHARE = 0.8  # of the letters, for a script
SPOKEN_SHARE = 0.22  # of the words, for a language's commonest ones
UNSPOKEN_SHARE = 0.05

_BLOCK = 128  # code points; scripts begin and end at multiples of it, near enough
_SCRIPTS = (
    ("Latin", 0x0000, 0x0280),
    ("Greek", 0x0380, 0x0400),
    ("Cyrillic", 0x0400, 0x0530),
    ("Hebrew", 0x0580, 0x0600),
    ("Arabic", 0x0600, 0x0780),
    ("Devanagari", 0x0900, 0x0980),
    ("Bengali", 0x0980, 0x0A00),
    ("Tamil", 0x0B80, 0x0C00),
    ("Thai", 0x0E00, 0x0E80),
    ("Latin", 0x1E00, 0x1F00),
    ("Han", 0x3000, 0x3100),  # with kana: Japanese mixes them
    ("Han", 0x3400, 0xA000),
    ("Hangul", 0xAC00, 0xD7B0),
)
_SCRIPT_OF_BLOCK = {
    block: script for script, first, end in _SCRIPTS for block in range(first // _BLOCK, -(-end // _BLOCK))
}
_COMMONEST = {
    "English": "the of and to in is you that it for was on are with as be this have from or by what how why can not do",
    "French": "le la les des est et une du dans que qui pour pas sur au avec sont plus par ce cette comment je vous",
    "German": "der die das und ist nicht ein eine zu den mit von auf für im wie des sich dem was auch ich sie werden",
    "Spanish": "el los las que y una por con para del es en como se lo su más pero qué cómo son está cuál",
    "Italian": "il lo gli che è di un una per con non del della sono come si più nel alla anche cosa qual",
    "Portuguese": "o os as que é um uma para com não do da em por mais como são no na se qual você",
    "Dutch": "de het een en van is dat op te zijn met voor niet aan er wat hoe ook om deze wordt bij",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _COMMONEST.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_language)
_WORD = re.compile(r"[^\W\d_]+")


def script_of(text: str, *, at_least: int = FEWEST_LETTERS) -> str | None:
    """The script of nearly all letters; None when there are too few, or no script has a clear share."""
    letters = [character for character in text[:CHARACTERS_READ] if character.isalpha()]
    if len(letters) < at_least:
        return None
    counts: Counter[str] = Counter()
    for block, count in Counter([ord(letter) // _BLOCK for letter in letters]).items():
        counts[_SCRIPT_OF_BLOCK.get(block, "")] += count
    script, count = counts.most_common(1)[0]
    return script if script and count >= CLEAR_SHARE * len(letters) else None


def differ(question: str, answer: str) -> bool:
    """Whether the answer is in another language than the question, beyond doubt. Few letters: no."""
    asked, answered = script_of(question), script_of(answer, at_least=2 * FEWEST_LETTERS)
    if asked is None or answered is None:
        return False
    if asked != answered:
        return True
    return asked == "Latin" and _latin_differ(question, answer)


def _latin_differ(question: str, answer: str) -> bool:
    spoken, heard = _shares(question), _shares(answer)
    if not spoken or not heard:
        return False
    asked, answered = max(spoken, key=spoken.__getitem__), max(heard, key=heard.__getitem__)
    return (
        asked != answered
        and spoken[asked] >= SPOKEN_SHARE
        and heard[answered] >= SPOKEN_SHARE
        and spoken[answered] <= UNSPOKEN_SHARE
        and heard[asked] <= UNSPOKEN_SHARE
    )


def _shares(text: str) -> dict[str, float]:
    """Language -> the share of words that are among its commonest; empty when there are too few words."""
    words = _WORD.findall(text[:CHARACTERS_READ].lower())
    if len(words) < FEWEST_WORDS:
        return {}
    counts = dict.fromkeys(_COMMONEST, 0)
    for word in words:
        for language in _LANGUAGES_OF.get(word, ()):
            counts[language] += 1
    return {language: count / len(words) for language, count in counts.items()}

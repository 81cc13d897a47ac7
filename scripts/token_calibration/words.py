"""Which of a tokenizer's tokens the estimate knows as words, and how they are written down."""

from collections.abc import Collection, Iterator, Sequence

ARABIC_LETTERS = frozenset("ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي")
LONGEST = 6  # of East Asian words; longer tokens are advertisements
LINE = 100


def arabic_words(tokens: Sequence[str]) -> list[str]:
    """Some begin with a space."""
    return [token for token in tokens if len(token) > 1 and set(token.removeprefix(" ")) <= ARABIC_LETTERS]


def east_asian_words(tokens: Sequence[str], dictionary: Collection[str], japanese: str) -> list[str]:
    """Those with Japanese letters; of the others the ones of a dictionary of Chinese, or that a Japanese text has: what
    is left are names of casinos.
    """
    return [
        token
        for token in tokens
        if _is_east_asian(token) and (_has_kana(token) or token in dictionary or token in japanese)
    ]


def _is_east_asian(token: str) -> bool:
    return 2 <= len(token) <= LONGEST and all(
        "\u3040" <= each <= "\u30ff" or "\u4e00" <= each <= "\u9fff" for each in token
    )


def _has_kana(token: str) -> bool:
    return min(token) <= "\u30ff"


def front_coded(words: Sequence[str]) -> Iterator[str]:
    """In lines that a diff can show."""
    line, before = "", ""
    for word in sorted(words):
        shared = 0
        while shared < min(len(word), len(before), 9) and word[shared] == before[shared]:
            shared += 1
        line += f"{shared}{word[shared:]}"
        before = word
        if len(line) >= LINE:
            yield line
            line = ""
    if line:
        yield line

"""Where case and white space may carry the meaning: code, quotations and indented lines."""

import re

# What opens code or a quotation, and what follows until it closes; one that never closes goes on to the end.
_QUOTED = {
    "`": r"(?:``.*?(?:```|\Z)|[^`]*(?:`|\Z))",
    '"': r'[^"]*(?:"|\Z)',
    "[“„]": r"[^”“]*(?:[”“]|\Z)",
    "«": r"[^»]*(?:»|\Z)",
}
_AFTER_OPENING = "|".join(f"(?<={opening}){rest}" for opening, rest in _QUOTED.items())
_WHOLE = "|".join(f"{opening}{rest}" for opening, rest in _QUOTED.items())

# An apostrophe inside a word opens no quotation; an indented line goes on to the end of what it opens. The first
# character of all branches stands before them, so that the search skips all others.
EXACT = re.compile(
    rf"""[`"“„«'\n](?:{_AFTER_OPENING}"""
    r"""|(?<=')(?<!\w')[^'\n]*'(?!\w)"""
    rf"""|(?<=\n)(?:[ ]{{2,}}|\t)(?:[^\n`"“„«]+|{_WHOLE})*)""",
    re.DOTALL,
)

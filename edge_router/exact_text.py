"""Where case and white space may carry the meaning: code, quotations and indented lines."""

import re

# An apostrophe inside a word opens no quotation; a quotation or a fence that never closes goes on to the end, also one
# that an indented line opens. The first character of all branches stands before them, so that the search skips all
# others.
EXACT = re.compile(
    r"""[`"“„«'\n](?:
        (?<=`)(?: ``.*?(?:```|\Z) | [^`]*(?:`|\Z) )
      | (?<=")[^"]*(?:"|\Z)
      | (?<=[“„])[^”“]*(?:[”“]|\Z)
      | (?<=«)[^»]*(?:»|\Z)
      | (?<=')(?<!\w')[^'\n]*'(?!\w)
      | (?<=\n)(?:[ ]{2,}|\t)(?:
            [^\n`"“„«]+
          | ```.*?(?:```|\Z) | `[^`]*(?:`|\Z) | "[^"]*(?:"|\Z) | [“„][^”“]*(?:[”“]|\Z) | «[^»]*(?:»|\Z)
        )*
    )""",
    re.DOTALL | re.VERBOSE,
)

"""What the verifier looks for, in a question and in an answer whose apostrophes are straight."""

import re

MARKS = str.maketrans({"’": "'", "ʼ": "'", "“": '"', "”": '"', "_": " ", "*": None, "#": None})
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
WORD = re.compile(r"\w+")
ITEM = re.compile(r"^[ \t]{0,3}(?:\*\*)?(\d{1,3})[.)]", re.MULTILINE)

_CANT = (
    r"(?:i|we)(?: can(?:'t|not| not)| could(?:n't| not)| won't| will not"
    r"|(?: am|'m| are|'re) (?:not able|unable|not allowed) to)"
)
_HELP = (
    r"(?:\w+ly )?(?:help(?! but)|assist|provide|answer|fulfill?|comply|complete|do (?:that|this)|generate|create"
    r"|produce|discuss|access|browse|engage|continue|support|share|offer|respond|process|view)\b"
)
REFUSAL = re.compile(
    r"(?:(?:(?:i'm|i am) (?:\w+ )?sorry|sorry|apologies|my apologies|unfortunately|i apologi[sz]e)\b[^.!?]{0,80}?\b)?"
    rf"{_CANT} {_HELP}",
    re.IGNORECASE,
)
GOES_ON = re.compile(r"\b(?:but|however|that said|instead|here)\b", re.IGNORECASE)
BOILERPLATE = re.compile(
    r"\bas an? (?:\w+ ){0,2}(?:AI|artificial intelligence|language model)\b"
    r"|\bI(?:'m| am) (?:just |only )?an? (?:\w+ )?(?:AI|language model)\b"
    r"|\bmy (?:knowledge cut-?off|training data)\b",
    re.IGNORECASE,
)
_UNSURE = (
    r"(?:i'm|i am) (?:really |quite |honestly )?(?:not (?:entirely |completely |quite |really |too )?(?:sure|certain)\b"
    r"|unsure\b)"
    r"|i (?:do not|don't|really don't) (?:actually )?(?:know\b|have (?:enough |any |the |sufficient )?information\b)"
    r"|i have no (?:idea|information)\b|i could(?:n't| not) find (?:any )?information\b"
)
UNCERTAIN = re.compile(rf"(?:(?:hmm|well|sorry|unfortunately|honestly)\W+)?(?:{_UNSURE})", re.IGNORECASE)
GIVES_UP = re.compile(rf"\b(?:{_UNSURE})", re.IGNORECASE)

# Of a question: the answer may then hold anybody's words.
QUOTES = re.compile(
    r"\b(?:translat|rewrite|rephrase|paraphras|e-?mail|letter|message|reply to|respond to|story|poem|song|lyrics|dialog"
    r"|script|essay|speech|roleplay|role-play|pretend|act as|quote|summari[sz]e|proofread|correct the|sentence|apolog"
    r"|refus|decline|phrase|say)\w*",
    re.IGNORECASE,
)
ABOUT_THE_MODEL = re.compile(
    r"\b(?:A\.?I|artificial intelligence|language models?|LLMs?|chat-?bots?|(?:chat)?gpt|assistant|robots?"
    r"|training data|(?:are|do|did|have|were|would) you|your)\b",
    re.IGNORECASE,
)
OTHER_LANGUAGE = re.compile(
    r"\b(?:translat|traduc|traduis|übersetz|vertaal|перев[ео]д|language|langue|sprache|idioma|lingua"
    r"|english|french|german|spanish|italian|portuguese|dutch|russian|chinese|mandarin|cantonese|japanese|korean"
    r"|arabic|hindi|hebrew|greek|turkish|polish|latin|swedish|thai|vietnamese|ukrainian|bengali|tamil|persian|urdu"
    r"|anglais|français|allemand|espagnol|englisch|französisch|deutsch|spanisch|inglés|francés|alemán|español|inglese"
    r"|francese|tedesco|inglês|francês|alemão|engels|frans|duits|английск|русск|немецк|французск)\w*"
    r"|翻[译譯訳]|[英中日法德俄汉漢韩韓][文语語]|번역|영어|한국어|일본어|중국어|अनुवाद|अंग्रेज|हिंदी|हिन्दी"
    r"|ترجم|الإنجليزية|العربية|תרגם|אנגלית|μετ[αά]φρ|αγγλικ|แปล|ภาษา",
    re.IGNORECASE,
)
MAY_REPEAT = re.compile(
    r"\b(?:repeat|times|again|lyrics|song|chant|poem|rhyme|pattern|rows?|table|csv|sequence|mantra|chorus)\w*",
    re.IGNORECASE,
)
ONE_WORD = re.compile(
    r"\b(?:in|with|using) (?:just |only |exactly )?(?:one|a single|1) word(?=\s*[.:!?,]|\s*$|\s*\n)"
    r"|\bone[- ]word (?:answer|reply|response)\b",
    re.IGNORECASE,
)
MORE_THAN_FORM = re.compile(r"\b(?:then|explain|and (?:why|give|say)|each|every|per)\b", re.IGNORECASE)
_YES_OR_NO = r"(?:yes or no|yes/no|true or false|true/false)"
YES_NO = re.compile(
    rf"\b(?:answer|reply|respond|say)\b[^.?!\n]{{0,30}}\b{_YES_OR_NO}\b|\({_YES_OR_NO}\)|\b{_YES_OR_NO}\s*[?:]",
    re.IGNORECASE,
)
YES_NO_SAID = re.compile(r"\b(?:yes|no|true|false|correct|incorrect|right|wrong|not|never|indeed)\b", re.IGNORECASE)
NUMBER = re.compile(
    r"\b(?:only|just) (?:(?:with|give|give me|output|return|the|a|single) ){0,3}(?:number|integer|digit)s?\b"
    r"|\b(?:answer|reply|respond) with (?:(?:only|just|a|the|single) ){1,3}(?:number|integer)\b",
    re.IGNORECASE,
)
NUMBER_SAID = re.compile(
    r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty"
    r"|sixty|seventy|eighty|ninety|hundred|thousand|million|none|half|dozen|infinit\w*|[ivxlc]+)\b|[½¼¾π∞]",
    re.IGNORECASE,
)
CODE_ONLY = re.compile(
    r"\b(?:only|just) (?:(?:give|give me|output|return|the|write|show) ){0,2}(?:source )?code\b|\bcode only\b",
    re.IGNORECASE,
)
CODE_SIGN = re.compile(r"[(){}\[\]=<>;:/$]|^\s{2,}\S", re.MULTILINE)
JSON_ASKED = re.compile(
    r"\b(?:return|respond|reply|answer|output|give)\b[^.?!\n]{0,30}"
    r"\b(?:as|in|with|valid|only|a) (?:valid |only |a )?JSON\b",
    re.IGNORECASE,
)
_WORDS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
COUNTS = {word: count for count, word in enumerate(_WORDS.split(), start=2)}
LIST_OF = re.compile(
    r"\b(?:list|name|give|suggest|provide|write|recommend|generate) (?:(?:me|the|us|exactly|at least|top) ){0,2}"
    rf"({'|'.join(COUNTS)}|[2-9]|1\d|20)\b"
    r"(?!\s(?:or|to|words|sentences|paragraphs|lines|letters|characters|pages|minutes)|[-–.,/%:])",
    re.IGNORECASE,
)
OPEN_END = re.compile(
    r"[,(\[–]$|\b(?:the|a|an|of|and|or|with|which|because|such as|for example|your|their)$", re.IGNORECASE
)

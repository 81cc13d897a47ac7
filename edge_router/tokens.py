"""Token estimate without a vocabulary: about four Latin letters, or one ideograph, make a token."""

CHARACTERS_PER_TOKEN = 4.0  # English prose with GPT-style vocabularies; replaced by a calibrated estimate later


def estimate_tokens(text: str) -> int:
    """At least 1 for text that is not empty. Marked as an estimate wherever it is shown."""
    if text.isascii():
        return -(-len(text) // 4)
    wide = sum(1 for character in text if character >= "\u2e80")
    return max(1, round((len(text) - wide) / CHARACTERS_PER_TOKEN + wide))

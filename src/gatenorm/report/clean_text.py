"""Text from other people's files, made harmless to show."""

import unicodedata

# Control, format and surrogate characters and line separators; of them only line ends, tabs and joiners may stay.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_KEPT = "\n\t\u200d"


def clean(text: str) -> str:
    """The text with control characters replaced, those that change the writing direction included."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in _KEPT or unicodedata.category(c) not in _INVISIBLE else "\ufffd" for c in text)

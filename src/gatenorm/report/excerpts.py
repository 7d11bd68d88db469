"""Parts of texts that models read and wrote, on one line and cut between words."""


def beginning(text: str, most: int) -> str:
    """The first words of a text, at most so many characters with the ellipsis."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    cut = line[: most - 1]
    return (cut.rpartition(" ")[0] or cut[:-1]) + " …"


def ending(text: str, most: int) -> str:
    """The last words of a text, at most so many characters with the ellipsis."""
    return beginning(text[::-1], most)[::-1]

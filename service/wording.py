"""Words of others, made fit for people: a trainer's message becomes a sentence."""


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop; a path or the name of a setting at its head stays as it is."""
    text = text.strip()
    first = text.split(maxsplit=1)[0] if text else ""
    if first.rstrip(",:;").isalpha():
        text = text[0].upper() + text[1:]
    return text if not text or text[-1] in ".!?…" else text + "."

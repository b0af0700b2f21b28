"""Plain text: a file is one document."""

from collections.abc import Iterator

from trainer.data.sources.files import SourceFile
from trainer.errors import UserError

_BOM = "\ufeff"


def documents(file: SourceFile, text_field: str) -> Iterator[str]:
    """The file's text without a byte-order mark; `text_field` says nothing here."""
    with file.stream() as stream:
        content = stream.read()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        cut = "ends inside a character, so it was cut short" if error.reason == "unexpected end of data" else None
        wrong = cut or f"is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}"
        raise UserError(f"{file} {wrong}; convert it, or leave it out") from error
    del content  # of a large file, as large as the text
    yield text.removeprefix(_BOM)

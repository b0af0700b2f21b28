"""The settings of one config.json, with transformers' defaults behind them, and what is wrong with them."""

from collections.abc import Mapping
from typing import Any

from trainer.errors import UserError
from trainer.huggingface.architectures import ARCHITECTURES, FAMILY_OF
from vishwamai.contract.config.model import Family


class Settings:
    """Reads keys of a config.json and gathers complaints, so that all are told at once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Raises UserError when no family of ours has the document's model_type."""
        model_type = document.get("model_type")
        if not isinstance(model_type, str) or model_type not in FAMILY_OF:
            raise UserError(
                f"config.json: model_type is {model_type!r}, which is not supported; supported are "
                f"{', '.join(sorted(FAMILY_OF))}"
            )
        self.family: Family = FAMILY_OF[model_type]
        self.architecture = ARCHITECTURES[self.family]
        self.problems: list[str] = []
        self._values: dict[str, Any] = {**self.architecture.defaults, **self._of_text(document)}

    @staticmethod
    def _of_text(document: Mapping[str, Any]) -> Mapping[str, Any]:
        """A model with images has a section for its text part, and says itself what is tied."""
        if document["model_type"] != "gemma3":
            return document
        text = document.get("text_config")
        if not isinstance(text, dict):
            raise UserError("config.json: model_type is 'gemma3', and there is no text_config")
        outer = {key: document[key] for key in ("tie_word_embeddings", "quantization_config") if key in document}
        return {**text, **outer}

    def get(self, key: str, otherwise: Any = None) -> Any:
        """The value of a key, a default, or `otherwise`."""
        return self._values.get(key, otherwise)

    def gives(self, key: str) -> bool:
        """Whether the key is there, null or not."""
        return key in self._values

    def number(self, key: str, otherwise: float | None = None) -> float | None:
        """A key's number; None when it is null."""
        return self.as_number(key, self.get(key, otherwise))

    def as_number(self, name: str, value: Any) -> float | None:
        """`value` as a float; anything but a number or null is a problem."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problem(f"{name} is {value!r}, and must be a number")
            return None
        return float(value)

    def integer(self, key: str) -> int | None:
        """A key's whole number; None when it is null."""
        value = self.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            self.problem(f"{key} is {value!r}, and must be a whole number")
            return None
        return value

    def problem(self, text: str) -> None:
        """Notes what is wrong."""
        self.problems.append(text)

    def raise_problems(self) -> None:
        """Raises UserError with every problem noted."""
        if self.problems:
            raise UserError("config.json cannot be used: " + "; ".join(self.problems))

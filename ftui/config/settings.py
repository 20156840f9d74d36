"""What all classes of settings share: numbers as people and YAML write them, and mistakes in sentences, each with its path."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ftui.errors import UserError


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}.")
    return value


def _whole(value: object) -> object:
    """3.0 and "1e3" are whole; what is not is left for pydantic to explain."""
    try:
        number = float(_number(value))  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return value
    except ValueError:
        return _number(value)
    return int(number) if number.is_integer() else value


# YAML 1.1 reads 2e-4 as a string and yes as true; text boxes give text.
Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Checked = TypeVar("Checked", bound=BaseModel)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def checked(model: type[Checked], values: dict[str, Any]) -> Checked:
    """Settings of class `model` from `values`. UserError names every mistake at once, each with its path."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(" · ".join(sentences(model, error))) from None


def sentences(model: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence a mistake, each with its path: `training.learning_rate: must be greater than 0, not -1.`"""
    return [_sentence(model, mistake) for mistake in error.errors()]


def _sentence(model: type[BaseModel], mistake: Any) -> str:
    path = ".".join(str(part) for part in mistake["loc"]) or "config"
    if mistake["type"] == "missing":
        return f"{path}: is missing."
    if mistake["type"] == "extra_forbidden":
        return f"{path}: there is no such key.{_closest(model, mistake['loc'])}"
    if mistake["type"] in PARSED:
        return f"{path}: must be {PARSED[mistake['type']]}, not {mistake['input']!r}."
    reason = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if mistake["type"] == "value_error":
        return f"{path}: {reason}" if mistake["loc"] else reason
    given = mistake["input"]
    return f"{path}: must be {reason}, not {given!r}." if not isinstance(given, dict) else f"{path}: must be {reason}."


PARSED = {
    "float_parsing": "a number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "model_type": "a section with keys of its own",
}


def _closest(model: type[BaseModel], location: tuple[Any, ...]) -> str:
    """“Did you mean …?” from the fields of the settings class at `location`."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return ""
        model = field.annotation
    close = get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known keys: {', '.join(model.model_fields)}."

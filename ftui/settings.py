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


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _whole(value: object) -> object:
    """3.0 and "1e3" are whole; what is not is left for pydantic to explain."""
    try:
        number = float(_number(value))
    except (TypeError, OverflowError):
        return value
    except ValueError:
        return _number(value)
    return int(number) if number.is_integer() else value


# YAML 1.1 reads 2e-4 as a string and yes as true; text boxes give text.
Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
OptionalText = Annotated[str | None, BeforeValidator(_blank_is_none)]
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
    mistakes: dict[tuple[Any, ...], list[Any]] = {}
    for mistake in error.errors():
        mistakes.setdefault(_place(model, mistake["loc"]), []).append(mistake)
    return [
        _sentence(model, place, found)
        for place, found in mistakes.items()
        if not any(len(place) < len(deeper) and deeper[: len(place)] == place for deeper in mistakes)
    ]


def _place(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where it stands in the config: pydantic also names each kind that the value might have been of."""
    section: type[BaseModel] | None = model
    place = []
    for part in location:
        if section or isinstance(part, int):
            place.append(part)
            section = _section(section, part)
    return tuple(place)


def _section(model: type[BaseModel] | None, part: Any) -> type[BaseModel] | None:
    """The settings class of a field, where it is a section of its own."""
    field = model.model_fields.get(str(part)) if model else None
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _sentence(model: type[BaseModel], place: tuple[Any, ...], found: list[Any]) -> str:
    """`found` holds several mistakes where a value might be of several kinds and is of none."""
    path, mistake = ".".join(map(str, place)) or "config", found[0]
    if mistake["type"] == "missing":
        return f"{path}: is missing."
    if mistake["type"] == "extra_forbidden":
        return f"{path}: there is no such key.{_closest(model, place)}"
    if mistake["type"] == "value_error":
        reason = mistake["msg"].removeprefix("Value error, ")
        return f"{path}: {reason}" if place else reason
    reason, given = " or ".join(map(_wanted, found)), mistake["input"]
    return f"{path}: must be {reason}." if isinstance(given, dict) else f"{path}: must be {reason}, not {given!r}."


def _wanted(mistake: Any) -> str:
    return PARSED.get(mistake["type"]) or mistake["msg"].removeprefix("Input should be ")


PARSED = {
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "model_type": "a section with keys of its own",
}


def _closest(model: type[BaseModel], place: tuple[Any, ...]) -> str:
    """“Did you mean …?” from the fields of the settings class at `place`."""
    for part in place[:-1]:
        section = _section(model, part)
        if section is None:
            return ""
        model = section
    close = get_close_matches(str(place[-1]), model.model_fields, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known keys: {', '.join(model.model_fields)}."

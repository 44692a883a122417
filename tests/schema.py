"""A validator for the few words of JSON Schema that ours use; an unknown word fails, so that none is passed over."""

from __future__ import annotations

from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list, tuple), "string": (str,), "number": (int, float), "integer": (int,),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
SILENT = {"$schema", "title", "$defs", "description", "default", "format", "examples"}


def problems(schema: dict[str, Any], value: Any, at: str = "$") -> list[str]:
    """What is wrong with the value, each with its place."""
    found: list[str] = []
    for word, want in schema.items():
        if word == "type":
            kinds = [want] if isinstance(want, str) else want
            fits = any(isinstance(value, TYPES[k]) and (k == "boolean" or not isinstance(value, bool)) for k in kinds)
            found += [] if fits else [f"{at} is no {want}: {value!r}"]
        elif word == "const":
            found += [] if value == want else [f"{at} is not {want!r}: {value!r}"]
        elif word == "enum":
            found += [] if value in want else [f"{at} is none of {want}: {value!r}"]
        elif word == "required":
            found += [f"{at}.{name} is missing" for name in want if isinstance(value, dict) and name not in value]
        elif word == "properties":
            for name, one in want.items():
                if isinstance(value, dict) and name in value:
                    found += problems(one, value[name], f"{at}.{name}")
        elif word == "additionalProperties":
            if want is False and isinstance(value, dict):
                found += [f"{at}.{name} is unknown" for name in value if name not in schema.get("properties", {})]
        elif word == "items":
            for index, one in enumerate(value if isinstance(value, (list, tuple)) else ()):
                found += problems(want, one, f"{at}[{index}]")
        elif word == "anyOf":
            tried = [problems(one, value, at) for one in want]
            found += [] if any(not one for one in tried) else [f"{at} fits none of {len(want)}: {tried}"]
        elif word == "allOf":
            for one in want:
                found += problems(one, value, at)
        elif word == "if":
            if not problems(want, value, at):
                found += problems(schema.get("then", {}), value, at)
        elif word in ("minimum", "maximum"):
            if isinstance(value, (int, float)) and (value < want if word == "minimum" else value > want):
                found.append(f"{at} is out of bounds: {value!r}")
        elif word not in SILENT | {"then"}:
            raise AssertionError(f"the validator does not know {word!r}")
    return found

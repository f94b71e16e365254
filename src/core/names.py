"""Check names that become one path component."""

from src.core.errors import UserError

_LONGEST = 255  # bytes


def path_part(name: object, what: str) -> str:
    """Check that a name can be used as exactly one file or folder name.

    Args:
        name: The name, such as the `name` of a study; a number, such as `2024` in a yaml, counts as text.
        what: Its role, for the message.

    Returns:
        The name itself.

    Raises:
        UserError: If it is not text, is empty, begins with a dot or a dash, contains a slash, a backslash or a
            character that cannot be printed, has a space at an end, or is longer than 255 bytes.
    """
    if isinstance(name, int | float) and not isinstance(name, bool):
        name = str(name)
    fault = _fault(name)
    if fault is None:
        return str(name)
    shown = repr(name)
    shown = shown if len(shown) <= 80 else f"{shown[:60]}… ({len(shown)} characters)"
    raise UserError(
        f"{what}: expected one folder name, found {shown}, which {fault}; use letters, digits, '-', '_' and '.'"
    )


def _fault(name: object) -> str | None:
    if not isinstance(name, str):
        return "is empty" if name is None else f"is of type {type(name).__name__}"
    if not name.strip():
        return "is empty"
    if name[0] in ".-":
        return f"begins with {name[0]!r}"
    if "/" in name or "\\" in name:
        return "contains a slash or a backslash"
    if not name.isprintable() or name != name.strip():
        return "contains a character that cannot be printed, or a space at an end"
    if len(name.encode()) > _LONGEST:
        return f"is longer than {_LONGEST} bytes"
    return None

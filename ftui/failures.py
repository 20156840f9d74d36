"""What a failure of the work or of a library means, in words for a person who can do something about it."""

from __future__ import annotations

import errno
from pathlib import Path

from ftui.device import POISONED, is_out_of_memory, is_poisoned
from ftui.errors import UserError


def explain_failure(error: BaseException) -> str:
    """What a person can do about a failure of the work."""
    return (
        known_failure(error)
        or f"This is a fault in ftui or one of its libraries: {type(error).__name__}: {str(error)[:300]}. The log of this run has the details."
    )


def known_failure(error: BaseException) -> str | None:
    """The same for what is no fault of a program; None for what is one."""
    if isinstance(error, UserError):
        return str(error)
    if is_poisoned(error):
        return POISONED
    if is_disk_full(error):
        return "The disk is full. What was saved before is kept; free some space and start again."
    if is_out_of_memory(error):
        return "Memory ran out. Rehearse the run to see what makes it fit: usually a shorter max_length or a smaller model."
    if isinstance(error, OSError) and error.strerror:
        of = f" of {Path(error.filename).name}" if isinstance(error.filename, str) else ""
        return f"The system says “{error.strerror}”{of}. Make sure that there is room and that the folder of runs can be written to, then start again."
    return None


def is_disk_full(error: BaseException) -> bool:
    """Python says it by number; safetensors and torch, which write by themselves, in words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if any(text in str(error) for text in ("No space left on device", "Disk quota exceeded", "file write failed")):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_disk_full(cause)


def first_line(error: BaseException) -> str:
    """What a library says of its failure, as a piece of a sentence; what kind of failure it is where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""The one error that ftui raises on purpose."""


class UserError(Exception):
    """Something that the person in front of ftui can put right; its text is shown to that person as it stands.

    The text is one or two plain sentences: what is wrong, where (file, row, column, key), and what to do about it.
    It names files as the person named them, never where they lie on this machine, and holds no token and no stack trace.
    The page shows it as a notice; the terminal prints it as one line and leaves with code 2.

    Everything else that is raised is a bug of ftui, and is meant to look like one.
    """

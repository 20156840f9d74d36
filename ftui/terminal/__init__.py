"""The larger commands of the terminal, a file each: what it takes, what it does, and what it prints.

Nothing heavy is imported before a command runs, so that help comes at once.
"""

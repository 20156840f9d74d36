"""ftui: pick a base model, map columns, see what is learned, train, prove it, merge and chat, on one page.

A file imports only from floors below its own; `tests/test_architecture.py` reads the line and holds the code against it.
"""

FLOORS = """
app > __main__ > terminal > web > doorway > ui > background > loop, check > card > backup, proof, rehearse > train, evaluate, merge, chat > plan, doctor, shapes
> examples, history, replies > runs > config > encoding, models, dataset, template > failures, ranks > device, attention, hub, settings > errors
"""

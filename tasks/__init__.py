"""The built-in task families, installed as lingvo_lite.tasks."""

if __name__ != 'lingvo_lite.tasks':
    raise ImportError(
        f'This folder was imported as {__name__!r}, which would make a second copy of every class. '
        "Import it as 'lingvo_lite.tasks' (from a clone: pip install -e .)."
    )

"""Pages of ``python src/zoo.py page=<name>``: each a module here, or of a paper (its card's ``pages``), with ``show``.

The keyword arguments of ``show``, all text, are the page's options.
"""

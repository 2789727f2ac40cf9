"""An issue's text in the tracker's own form: what a task says is data in it, and the event ID travels with it.

``markdown`` for trackers that read Markdown; ``adf``, ``wiki`` and ``textile`` for those with a markup of their own,
each made of the tree that ``parsing`` reads.
"""

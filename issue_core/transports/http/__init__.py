"""``issue serve``: TaskSpecs over HTTP, on the standard library's server.

``server`` takes connections and bounds them, ``wire`` reads one request off a connection, ``routes`` says what answers
it, ``intake`` takes what is posted, ``answers`` is what goes back.
"""

"""Entropy coding of tokens with probabilities that are integers derived from integers.

``range_coder`` turns symbols into bytes, ``tables`` weights into slots; ``raw``, ``static`` and
``adaptive`` are the profiles 0, 1 and 2 of a token file; ``prior`` holds what ships with a model
and ``calibrate`` makes it.
"""

"""Token files and codecs: pictures to bytes and back.

Nothing is imported here, so that the parser of token files (:mod:`tessella.codecs.container`) can
be used without torch. Import from the modules: :mod:`~tessella.codecs.token_codec` (tokens to bytes
and back), :mod:`~tessella.codecs.files` (files on disk), :mod:`~tessella.codecs.shard` (many
pictures in one file), :mod:`~tessella.codecs.named` (any codec by name), and
:mod:`~tessella.codecs.size_search` (at a number of bytes).
"""

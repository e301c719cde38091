"""What can go wrong with the engines, each a sentence for the person who started them."""


class EmbeddedError(Exception):
    """The engines, their folder or their port cannot be used; the message says why and what to do."""


class FolderInUseError(EmbeddedError):
    """Another process of ours works in this data folder."""

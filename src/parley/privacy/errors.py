"""What can be wrong with a wish about a person."""

from parley.core.errors import NotFound, Unavailable


class PersonNotFound(NotFound):
    """There is nobody of this id or address, and never was."""

    code, message = "person_not_found", "There is no such person."


class SharedNotErased(Unavailable):
    """The database holds nothing any more, Redis could not be asked."""

    code = "shared_not_erased"
    message = "Erased from the database, but Redis cannot be reached: what it holds ends within two days. Repeat this."

"""Compares the schema that is with the schema that is needed. Changes nothing."""

from dataclasses import dataclass

from parley.core.database import Database
from parley.core.migrations import needed_revision, present_revision

EMPTY = "nothing"


@dataclass(frozen=True, slots=True)
class Schema:
    """Two revisions; None for an empty database."""

    present: str | None
    needed: str

    @property
    def is_behind(self) -> bool:
        return self.present is None or self.present < self.needed

    @property
    def is_ahead(self) -> bool:
        return self.present is not None and self.present > self.needed

    def __str__(self) -> str:
        if self.is_behind:
            return f"the schema is at {self.present or EMPTY}, this version needs {self.needed}"
        if self.is_ahead:
            return f"the schema is at {self.present}, newer than the {self.needed} of this version"
        return f"the schema is at {self.present}, as this version needs it"


async def compare_schema(database: Database) -> Schema:
    """Look at the database; raise DatabaseUnavailable when it is away."""
    return Schema(await present_revision(database), needed_revision())

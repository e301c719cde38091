"""What every table is made of: the one metadata, names for constraints, ids and times."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, MetaData, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from parley.core.ids import new_id

# Named, so that a migration can find what it changes on every machine.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The declarative base of all packages."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012  # SQLAlchemy's own hook


class Identified:
    """A time-ordered id, made by us."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)


class Timestamped:
    """When the row came to be, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

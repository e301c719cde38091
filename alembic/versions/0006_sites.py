"""Sites that carry the widget, and the people their servers name."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "sites",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("secret_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("origins", postgresql.ARRAY(sa.String(255)), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sites")),
        sa.UniqueConstraint("key", name=op.f("uq_sites_key")),
    )
    op.add_column("users", sa.Column("site_id", sa.Uuid(), nullable=True))
    op.add_column("users", sa.Column("external_id", sa.String(255), nullable=True))
    op.add_column("users", sa.Column("contact_email", sa.String(254), nullable=True))
    op.create_foreign_key(op.f("fk_users_site_id_sites"), "users", "sites", ["site_id"], ["id"])
    op.create_unique_constraint(op.f("uq_users_site_id_external_id"), "users", ["site_id", "external_id"])
    op.create_check_constraint(
        op.f("ck_users_site_with_external_id"), "users", "(site_id IS NULL) = (external_id IS NULL)"
    )
    op.create_check_constraint(op.f("ck_users_site_or_account"), "users", "site_id IS NULL OR email IS NULL")


def downgrade() -> None:
    # Without their site they are guests, as whoever has no e-mail address was before.
    for column in ("contact_email", "external_id", "site_id"):
        op.drop_column("users", column)
    op.drop_table("sites")

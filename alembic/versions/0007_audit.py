"""The audit trail names the right somebody used, can be searched, and is append only."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# Against mistakes and statements slipped in; whoever owns the table can take it away.
GUARD = """
CREATE FUNCTION audit_log_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('parley.audit', true) IS DISTINCT FROM 'removal' THEN
        RAISE EXCEPTION 'audit_log is append only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.add_column("audit_log", sa.Column("actor_role", sa.String(16), nullable=True))
    for column in ("actor_id", "subject_id"):
        op.drop_index(op.f(f"ix_audit_log_{column}"), "audit_log")
    for column in ("actor_id", "subject_id", "action"):
        op.create_index(op.f(f"ix_audit_log_{column}_id"), "audit_log", [column, "id"])
    op.execute(GUARD)
    op.execute(
        "CREATE TRIGGER audit_log_rows BEFORE UPDATE OR DELETE ON audit_log"
        " FOR EACH ROW EXECUTE FUNCTION audit_log_guard()"
    )
    op.execute(
        "CREATE TRIGGER audit_log_whole BEFORE TRUNCATE ON audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_log_guard()"
    )


def downgrade() -> None:
    for trigger in ("audit_log_whole", "audit_log_rows"):
        op.execute(f"DROP TRIGGER {trigger} ON audit_log")
    op.execute("DROP FUNCTION audit_log_guard()")
    for column in ("action", "subject_id", "actor_id"):
        op.drop_index(op.f(f"ix_audit_log_{column}_id"), "audit_log")
    for column in ("actor_id", "subject_id"):
        op.create_index(op.f(f"ix_audit_log_{column}"), "audit_log", [column])
    op.drop_column("audit_log", "actor_role")

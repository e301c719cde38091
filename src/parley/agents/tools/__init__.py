"""What a model may call: functions with a schema, run with the rights of the user who asked."""

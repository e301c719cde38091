"""The parts that know no domain."""

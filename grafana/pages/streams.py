"""The dashboard of the streams."""

from grafana.panels import Dashboard, Panel, increase, number, or_none, quantile, quantiles, rate, total

STREAMS = Dashboard(
    "streams",
    "streams",
    "Replies: how many, how fast, how they end.",
    {
        "Now": [
            number("Live replies", "Being written now.", "none", total("chat_live_replies")),
            number("Replies", "Ended, a second.", "ops", rate("chat_turns_total")),
            number(
                "First token, p95",
                "Of the last 5 minutes, on all machines.",
                "s",
                "parley:first_token_seconds:p95_rate5m",
                warn=2.5,
                bad=5,
            ),
            number(
                "Torn texts",
                "Whose length or SHA-256 was not what their end says, in the time shown. Must be 0.",
                "none",
                increase("chat_integrity_mismatches_total"),
                bad=1,
            ),
            number(
                "Torn texts seen by the probe",
                "The same, as the synthetic conversation found them.",
                "none",
                "sum(increase(probe_integrity_mismatches_total[$__range]))",
                bad=1,
            ),
            number("Takeovers", "In the time shown.", "none", increase("chat_takeovers_total"), warn=1),
        ],
        "Speed": [
            Panel(
                "First token",
                "From a reply's first claim to its first text.",
                "s",
                quantiles("chat_time_to_first_token_seconds"),
                warn=2.5,
                bad=5,
            ),
            Panel("Between tokens", "Between two pieces of one reply.", "s", quantiles("chat_inter_token_seconds")),
            Panel("Whole replies", "From the claim to the end.", "s", quantiles("chat_turn_duration_seconds")),
            Panel(
                "Stop",
                "From the writer's being told to the stored end. Promised: p99 within 250 ms.",
                "s",
                quantiles("chat_stop_latency_seconds"),
                bad=0.25,
            ),
        ],
        "Ends": [
            Panel(
                "Replies by outcome",
                "A second.",
                "ops",
                {"{{outcome}}": rate("chat_turns_total", "outcome")},
                is_stacked=True,
            ),
            Panel(
                "Why replies fail",
                "A second, by code.",
                "ops",
                {"{{code}}": or_none(rate("chat_turn_failures_total", "code"), "code")},
                is_stacked=True,
            ),
            Panel(
                "Begun anew",
                "Replies a second: after a worker's death, handed over by one that drains, or on another model.",
                "ops",
                {"{{reason}}": rate("chat_restarts_total", "reason"), "takeovers": rate("chat_takeovers_total")},
            ),
            Panel("Live replies", "By machine.", "none", {"{{instance}}": total("chat_live_replies", "instance")}),
            Panel(
                "Duplicates refused",
                "Questions a second that were known by their client_id: retries that did no harm.",
                "ops",
                {"duplicates": rate("chat_duplicates_refused_total")},
            ),
            Panel(
                "Handed to people",
                "Conversations an hour, by who wanted it.",
                "none",
                {"{{reason}}": increase("chat_handoffs_total", "reason", "1h")},
            ),
        ],
        "Tools": [
            Panel(
                "Tool calls",
                "A second, by tool and how they went.",
                "ops",
                {"{{tool}}: {{outcome}}": rate("chat_tool_calls_total", "tool, outcome")},
            ),
            Panel(
                "Tool calls, p95",
                "By tool.",
                "s",
                {"{{tool}}": quantile(0.95, "chat_tool_call_duration_seconds", "tool")},
            ),
        ],
    },
)

"""The dashboard of the sockets."""

from grafana.panels import Dashboard, Panel, increase, number, or_none, quantile, quantiles, rate, total

SOCKETS = Dashboard(
    "sockets",
    "sockets",
    "Viewers: how they come, stay, come back and go.",
    {
        "Now": [
            number("Sockets", "WebSockets that are open.", "none", total("chat_ws_connections")),
            number("Event streams", "SSE answers that are open.", "none", total("http_streams_open")),
            number("Viewers", "On both transports.", "none", total("chat_viewers")),
            number("Joins", "A second.", "ops", rate("chat_joins_total")),
            number(
                "Slow viewers dropped", "In the time shown.", "none", increase("chat_slow_consumer_drops_total"), warn=1
            ),
            number(
                "Sockets refused",
                "In the time shown.",
                "none",
                increase("chat_ws_refused_total") + " or vector(0)",
                warn=1,
            ),
        ],
        "Come and stay": [
            Panel(
                "Viewers by transport",
                "Now.",
                "none",
                {"{{transport}}": total("chat_viewers", "transport")},
                is_stacked=True,
            ),
            Panel("Joins", "A second, by transport.", "ops", {"{{transport}}": rate("chat_joins_total", "transport")}),
            Panel(
                "Joins, p95",
                "Until a viewer has its place and its first state.",
                "s",
                {"{{transport}}": quantile(0.95, "chat_join_duration_seconds", "transport")},
                warn=0.5,
                bad=1,
            ),
            Panel("Sockets", "By machine.", "none", {"{{instance}}": total("chat_ws_connections", "instance")}),
            Panel(
                "Sockets accepted and refused",
                "A second, refused ones by status.",
                "ops",
                {
                    "accepted": rate("chat_ws_accepted_total"),
                    "refused: {{status}}": or_none(rate("chat_ws_refused_total", "status"), "status"),
                },
            ),
            Panel(
                "Tickets not checked",
                "A second: accepted while Redis could not say whether they were used before.",
                "ops",
                {"tickets": rate("tickets_accepted_unchecked_total")},
                bad=0.01,
            ),
        ],
        "Come back and go": [
            Panel(
                "Sockets closed",
                "A second, by code: 1012 deploys, 1013 slow, 4401 tokens at their end, 4408 silence.",
                "ops",
                {"{{code}}": or_none(rate("chat_ws_closed_total", "code"), "code")},
                is_stacked=True,
            ),
            Panel(
                "Cursors brought",
                "A second: continued where they were, begun anew (reset), or refused.",
                "ops",
                {"{{result}}": rate("chat_resumes_total", "result")},
                is_stacked=True,
            ),
            Panel(
                "Missed meanwhile",
                "Changes that a resumed viewer had to be told.",
                "none",
                quantiles("chat_resume_gap"),
                bad=200,
            ),
            Panel(
                "Slow viewers dropped",
                "A second. One here and there is a train in a tunnel; many are a network in trouble.",
                "ops",
                {"drops": rate("chat_slow_consumer_drops_total")},
            ),
        ],
    },
)

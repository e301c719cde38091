"""The dashboard of the stores."""

from grafana.panels import Dashboard, Panel, quantiles, rate, select, total

STORES = Dashboard(
    "stores",
    "stores",
    "Redis and PostgreSQL, as the workers see them.",
    {
        "Redis": [
            Panel(
                "Pub/sub heartbeat",
                "How long ago the deafest worker heard itself, by machine. From 10 s on it misses tokens of others.",
                "s",
                {"{{instance}}": total("redis_pubsub_heartbeat_age_seconds", "instance", "max")},
                warn=3,
                bad=10,
            ),
            Panel(
                "Appends",
                "One round of all live replies of a worker.",
                "s",
                quantiles("redis_append_duration_seconds"),
                bad=0.1,
            ),
            Panel(
                "Append errors",
                "A second; Redis did not confirm, so the same is sent again.",
                "ops",
                {"{{instance}}": rate("redis_append_errors_total", "instance")},
                bad=0.01,
            ),
        ],
        "PostgreSQL": [
            Panel(
                "Connections",
                "Of the workers' pools, beside the most they may open.",
                "none",
                {"{{state}}": total("db_pool_connections", "state"), "limit": total("db_pool_limit")},
            ),
            Panel(
                "Pools in use",
                "Share of the limit, by machine.",
                "percentunit",
                {
                    "{{instance}}": "sum by (instance) ("
                    + select("db_pool_connections", 'state="used"')
                    + f") / {total('db_pool_limit', 'instance')}"
                },
                warn=0.7,
                bad=0.9,
            ),
            Panel(
                "Waited in vain",
                "Requests a second that found no free connection in time and got a 503.",
                "ops",
                {"{{instance}}": rate("db_pool_timeouts_total", "instance")},
                bad=0.01,
            ),
        ],
    },
)

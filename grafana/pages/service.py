"""The dashboard of the service."""

from grafana.panels import QUICK_HANDLERS, Dashboard, Panel, increase, number, or_none, quantile, rate, total

SERVICE = Dashboard(
    "service",
    "service",
    "Start here: is it well, and if not, which part is it. The other dashboards have the parts.",
    {
        "Is it well?": [
            number(
                "Last good probe",
                "How long ago the synthetic conversation went well. It runs each minute.",
                "s",
                "time() - max(probe_last_success_timestamp_seconds)",
                warn=120,
                bad=180,
            ),
            number(
                "Replies that fail",
                "Share of the last 5 minutes. The objective allows 0.5%.",
                "percentunit",
                "parley:replies_failed:ratio_rate5m",
                warn=0.005,
                bad=0.072,
            ),
            number(
                "Replies that begin late",
                "Share of the last 5 minutes whose first text took longer than 5 s. The objective allows 1%.",
                "percentunit",
                "parley:replies_late:ratio_rate5m",
                warn=0.01,
                bad=0.144,
            ),
            number(
                "Questions refused",
                "Share of questions and viewers turned away for load in the last 5 minutes.",
                "percentunit",
                "parley:questions_refused:ratio_rate5m",
                warn=0.001,
                bad=0.05,
            ),
            number(
                "Requests that end with 5xx",
                "Share of the last 5 minutes, health checks apart.",
                "percentunit",
                "parley:http_errors:ratio_rate5m",
                warn=0.01,
                bad=0.05,
            ),
            number("Workers", "Workers that run, on all machines.", "none", total("app_workers")),
            Panel(
                "Alerts that fire",
                "By name; each has a page in prometheus/runbooks.",
                "none",
                {
                    "{{alertname}} {{severity}}": or_none(
                        'count by (alertname, severity) (ALERTS{alertstate="firing", severity!="none"})', "alertname"
                    )
                },
                is_stacked=True,
                width=12,
            ),
            Panel(
                "Error budgets being spent",
                "Shares of replies over an hour and over three days, beside what is allowed: 0.5% failed, 1% late.",
                "percentunit",
                {
                    "failed, 1 h": "parley:replies_failed:ratio_rate1h",
                    "failed, 3 d": "parley:replies_failed:ratio_rate3d",
                    "late, 1 h": "parley:replies_late:ratio_rate1h",
                    "late, 3 d": "parley:replies_late:ratio_rate3d",
                },
                warn=0.005,
                bad=0.01,
                width=12,
            ),
        ],
        "Traffic": [
            Panel(
                "Requests by status",
                "A second. 503 with Retry-After is how overload is refused.",
                "reqps",
                {"{{status}}": rate("http_requests_total", "status")},
                is_stacked=True,
            ),
            Panel(
                "Slowest routes, p95",
                "Streams and answers that are waited for apart.",
                "s",
                {
                    "{{method}} {{handler}}": "topk(5, "
                    + quantile(0.95, "http_request_duration_seconds", "method, handler", QUICK_HANDLERS)
                    + " > 0)",
                    "all": "parley:http_seconds:p95_rate5m",
                },
                warn=0.5,
                bad=1,
            ),
            Panel(
                "Routes that fail",
                "5xx a second, by route.",
                "reqps",
                {"{{handler}}": or_none(rate("http_requests_total", "handler", 'status="5xx"'), "handler")},
            ),
            Panel(
                "Refused for load",
                "Questions and viewers a second, by reason: see the runbook of ParleyQuestionsRefused.",
                "ops",
                {"{{reason}}": rate("chat_admission_refused_total", "reason")},
            ),
            Panel(
                "Limits hit",
                "Requests a second that got 429, by limit.",
                "ops",
                {"{{limit}}": rate("chat_limits_hit_total", "limit")},
            ),
            Panel(
                "Probe",
                "Means of the synthetic conversation; where it fails nothing is drawn.",
                "s",
                {
                    "first token": "sum(rate(probe_first_token_seconds_sum[10m]))"
                    " / sum(rate(probe_first_token_seconds_count[10m]))",
                    "whole conversation": "sum(rate(probe_conversation_duration_seconds_sum[10m]))"
                    " / sum(rate(probe_conversation_duration_seconds_count[10m]))",
                },
            ),
        ],
        "Workers": [
            Panel(
                "Event loop lag",
                "The worst of the last 10 s, by machine. From 0.25 s on new questions are refused.",
                "s",
                {"{{instance}}": total("event_loop_lag_seconds", "instance", "max")},
                warn=0.1,
                bad=0.25,
            ),
            Panel(
                "Loops held",
                "Times in 15 minutes that something held a loop so long that the log names it.",
                "none",
                {"{{instance}}": increase("event_loop_blocked_total", "instance", "15m")},
                bad=1,
            ),
            Panel(
                "Workers",
                "By machine; a dip is a worker that died and came back.",
                "none",
                {"{{instance}}": total("app_workers", "instance")},
            ),
            Panel(
                "Memory of the workers",
                "Resident, by machine.",
                "bytes",
                {"{{instance}}": total("app_resident_memory_bytes", "instance")},
            ),
            Panel("Background tasks", "By machine.", "none", {"{{instance}}": total("app_tasks", "instance")}),
            Panel(
                "Log lines dropped",
                "A second: nobody read them in time, or the disk is full.",
                "ops",
                {"{{instance}}": rate("log_lines_dropped_total", "instance")},
                bad=0.01,
            ),
            Panel(
                "Versions",
                "Machines by what they run; two at a time during a deploy.",
                "none",
                {"{{version}}, Python {{python}}": total("app_info", "version, python", "count")},
                is_stacked=True,
            ),
            Panel(
                "Audit trail",
                "Entries a second, by action.",
                "ops",
                {"{{action}}": or_none(rate("audit_events_total", "action"), "action")},
            ),
        ],
    },
)

"""The dashboard of the model and cost."""

from grafana.panels import Dashboard, Panel, increase, number, or_none, quantile, rate, select, total

MODEL = Dashboard(
    "model",
    "model and cost",
    "Calls of models: how fast, how they fail, what they cost.",
    {
        "Now": [
            number("Calls", "A second, all models.", "ops", rate("llm_requests_total")),
            number(
                "Calls that fail",
                "Share in the time shown.",
                "percentunit",
                f"({increase('llm_errors_total')} or vector(0)) / ({increase('llm_requests_total')} > 0) or vector(0)",
                warn=0.01,
                bad=0.1,
            ),
            number(
                "Breakers open",
                "Models that are left alone, now.",
                "none",
                f"count(max by (model) ({select('llm_circuit_state')}) == 2) or vector(0)",
                bad=1,
            ),
            number(
                "Cost",
                "US dollars in the time shown, of models with a known price.",
                "currencyUSD",
                increase("llm_cost_usd_total"),
            ),
            number(
                "Cost of a reply",
                "US dollars, mean of the time shown.",
                "currencyUSD",
                f"{increase('llm_cost_usd_total')} / ({increase('chat_turns_total')} > 0) or vector(0)",
            ),
            number(
                "Budgets used up",
                "Calls refused or cut in the time shown.",
                "none",
                increase("llm_budget_exhausted_total"),
                warn=1,
                bad=20,
            ),
        ],
        "Calls": [
            Panel(
                "Calls by model",
                "A second, with how they went.",
                "ops",
                {"{{model}}: {{outcome}}": rate("llm_requests_total", "model, outcome")},
                is_stacked=True,
            ),
            Panel(
                "First token, p95",
                "From the call to the provider's first token: what of the wait is the model's.",
                "s",
                {"{{model}}": quantile(0.95, "llm_time_to_first_token_seconds", "model")},
                warn=2.5,
                bad=5,
            ),
            Panel(
                "Whole calls, p95",
                "To their end.",
                "s",
                {"{{model}}": quantile(0.95, "llm_request_duration_seconds", "model")},
            ),
            Panel(
                "Errors",
                "A second, by model and name.",
                "ops",
                {"{{model}} {{error}}": or_none(rate("llm_errors_total", "model, error"), "error")},
                is_stacked=True,
            ),
            Panel(
                "Retries and fallbacks",
                "A second: repeated on the same model, begun by another one.",
                "ops",
                {
                    "{{model}}: retries": or_none(rate("llm_retries_total", "model"), "model"),
                    "{{model}}: fallbacks": or_none(rate("llm_fallbacks_total", "model"), "model"),
                },
            ),
            Panel(
                "Breakers",
                "The worst of all workers, by model.",
                "none",
                {"{{model}}": total("llm_circuit_state", "model", "max")},
                warn=1,
                bad=2,
                names={0: "closed", 1: "half open", 2: "open"},
            ),
        ],
        "Tokens and money": [
            Panel(
                "Tokens",
                "A second, by model and kind. Cached ones are part of the input.",
                "ops",
                {"{{model}}: {{kind}}": rate("llm_tokens_total", "model, kind")},
            ),
            Panel(
                "Cost an hour",
                "US dollars, at the pace of the last minutes.",
                "currencyUSD",
                {"{{model}}": "3600 * " + rate("llm_cost_usd_total", "model")},
                is_stacked=True,
            ),
            Panel(
                "Budgets used up",
                "Calls an hour, by whose budget.",
                "none",
                {"{{scope}}": increase("llm_budget_exhausted_total", "scope", "1h")},
                bad=20,
            ),
        ],
    },
)

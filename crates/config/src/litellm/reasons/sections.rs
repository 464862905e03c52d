//! Sections of the proxy's own: the router, the library, the server, and what else stands at the top of the file.

use super::{BYTE_FOR_BYTE, IN_THE_CLIENT, Table, look};
use crate::litellm::notes::Reason;

const RETRIES: Reason = (
    "failures are judged each by whose fault it is (the request's, the key's, the account's, the provider's), and \
     retried where that helps; LiteLLM counts attempts, and stops while healthy keys remain",
    "[retry] attempts_max bounds the attempts of one request (32), budget_ratio those of all",
);
const REDIS: Reason = (
    "limits and budgets are kept in this process, exactly, and need no shared store",
    "run one keymux, which uses all cores; several would each count for themselves",
);
const CACHE: Reason =
    ("answers are not cached", "put a cache in front, or use the provider's prompt caching");
const CALLBACKS: Reason = (
    "there are no callbacks",
    "[traces] sends a span for each request to an OTLP endpoint, such as Langfuse's, Prometheus reads \
     /metrics on the admin listener, and the ledger keeps a row of each request",
);
const VERBOSE: Reason = ("the level of the log is one setting", "[log] level = \"debug\"");
const ALERTS: Reason = (
    "what is told, when and how often is not set in the same words",
    "`events`, `severity`, `gather` and `remind` of a [[webhook]] (docs/webhooks.md)",
);
const KEYS: Reason = (
    "client keys have no defaults: each says its own limits and budget",
    "`keymux clients add` with --budget, --rpm and so on, or [[client]] and [[team]] (docs/clients.md)",
);
const LOGIN: Reason = (
    "callers present a key; there is no other way to sign in",
    "let a proxy in front check tokens, or give each caller a client key (docs/clients.md)",
);
const GUARDRAILS: Reason =
    ("keymux does not read what prompts and answers say", "put the check in front of it or into the client");
const CONTENT: Reason = (
    "an error that is the request's own fault (too long, against a content policy) goes back to the caller, and nobody \
     else is asked",
    "let the client choose the other model on such an error",
);
const SPEND_LOG: Reason = (
    "a request's row in the ledger holds no prompt and no answer",
    "[ledger] rows_days and hours_days say how long rows are kept",
);

const ROUTER: Table = &[
    (&["num_retries", "retry_after", "retry_policy", "model_group_retry_policy", "max_retries"], RETRIES),
    (
        &["disable_cooldowns", "allowed_fails_policy"],
        (
            "how failures count depends on whose fault they are, and is not set by kind",
            "[breaker] says when a key rests",
        ),
    ),
    (
        &["enable_pre_call_checks", "enable_pre_call_check", "optional_pre_call_checks"],
        (
            "requests are not measured against a context window before they go out; limits are always kept, and \
         conversations stay where their prompt is cached",
            "nothing is needed",
        ),
    ),
    (&["context_window_fallbacks", "content_policy_fallbacks"], CONTENT),
    (
        &["enable_tag_filtering", "tag_filtering_match_any", "tag_routing_prefix"],
        ("requests are not routed by tags", "give each kind of caller a [[client]] or a route of its own"),
    ),
    (
        &[
            "redis_host",
            "redis_port",
            "redis_password",
            "redis_url",
            "redis_db",
            "redis_ssl",
            "redis_username",
            "cache_kwargs",
        ],
        REDIS,
    ),
    (&["cache_responses", "caching_groups", "client_ttl"], CACHE),
    (&["routing_strategy_args"], ("the strategies have nothing to set", "nothing is needed")),
    (&["routing_groups"], ("a strategy is a route's or everyone's", "`strategy` in [[route]]")),
    (&["max_fallbacks"], ("every tier of a route may be tried", "take tiers out of the route")),
    (&["default_litellm_params"], (BYTE_FOR_BYTE, IN_THE_CLIENT)),
    (
        &["default_priority", "polling_interval"],
        (
            "a request waits by the class of its client, and no queue is polled",
            "`priority` in [[client]], or the header x-keymux-priority",
        ),
    ),
    (
        &["provider_budget_config"],
        (
            "money is bounded by client, team or account",
            "limits = [{ usd = 100, per = \"1d\", shape = \"window\" }] in a provider is for each of its accounts",
        ),
    ),
    (&["debug_level", "set_verbose"], VERBOSE),
    (&["alerting_config"], ALERTS),
    (&["assistants_config", "search_tools", "guardrail_list"], GUARDRAILS),
    (
        &["ignore_invalid_deployments"],
        (
            "a configuration with a mistake in it is refused whole, with every mistake named",
            "`keymux check` before it is put into force",
        ),
    ),
    (
        &[
            "deployment_affinity_ttl_seconds",
            "model_group_affinity_config",
            "weights",
            "router_general_settings",
        ],
        (
            "conversations stay where their prompt is cached by themselves, unless that key is full",
            "nothing is needed",
        ),
    ),
];

/// Why this entry of `router_settings` was not carried over, or of `litellm_settings`, which takes most of them, too.
pub(in crate::litellm) fn of_router(name: &str) -> Option<Reason> {
    look(ROUTER, name)
}

const LITELLM: Table = &[
    (
        &["drop_params", "modify_params", "additional_drop_params"],
        (
            BYTE_FOR_BYTE,
            "send only what the model takes; a parameter that it refuses comes back as its own 400",
        ),
    ),
    (&["cache", "cache_params", "enable_redis_auth_cache"], CACHE),
    (
        &[
            "callbacks",
            "success_callback",
            "failure_callback",
            "service_callbacks",
            "turn_off_message_logging",
            "redact_user_api_key_info",
            "langfuse_default_tags",
            "redact_messages_in_exceptions",
            "log_raw_request_response",
            "prometheus_initialize_budget_metrics",
            "custom_prometheus_metadata_labels",
            "datadog_params",
        ],
        CALLBACKS,
    ),
    (&["set_verbose"], VERBOSE),
    (
        &[
            "default_key_generate_params",
            "upperbound_key_generate_params",
            "key_generation_settings",
            "default_team_settings",
            "default_internal_user_params",
            "max_internal_user_budget",
            "internal_user_budget_duration",
            "default_team_params",
            "max_end_user_budget",
            "default_max_internal_user_budget",
            "max_user_budget",
            "enable_key_alias_format_validation",
        ],
        KEYS,
    ),
    (&["guardrails", "enable_json_schema_validation"], GUARDRAILS),
    (
        &["force_ipv4", "ssl_verify", "ssl_certificate", "aclient_session"],
        (
            "connections to providers are made by keymux's own client",
            "[server] ca_file for authorities of your own, proxy and no_proxy for proxies",
        ),
    ),
    (
        &["enable_preview_features", "telemetry", "suppress_debug_info", "mcp_aliases"],
        ("nothing here depends on it", "nothing is needed"),
    ),
    (
        &["public_model_groups", "public_model_groups_links"],
        ("GET /v1/models lists what a caller may use", "`models` in [[client]]"),
    ),
];

/// Why this entry of `litellm_settings` was not carried over.
pub(in crate::litellm) fn of_litellm(name: &str) -> Option<Reason> {
    look(LITELLM, name).or_else(|| of_router(name))
}

const GENERAL: Table = &[
    (
        &["database_url"],
        (
            "LiteLLM's database is not read: client keys and what was spent stand in it, in tables of its own",
            "the ledger is a file by default; for PostgreSQL make an empty database and write [ledger] database = \
         \"env:KEYMUX_DATABASE_URL\". Keys in use can move: the column `token` of \"LiteLLM_VerificationToken\" is \
         the key's SHA-256, and a [[client]] takes it as secret = \"sha256:…\" (docs/import-litellm.md)",
        ),
    ),
    (
        &[
            "database_connection_pool_limit",
            "database_connection_timeout",
            "store_model_in_db",
            "supported_db_objects",
            "disable_prisma_schema_update",
            "proxy_batch_write_at",
            "use_redis_transaction_buffer",
            "database_type",
            "database_args",
            "database_connection_pool_timeout",
        ],
        (
            "the ledger has a writer and tables of its own; models stand in this file alone",
            "nothing is needed",
        ),
    ),
    (
        &[
            "store_prompts_in_spend_logs",
            "disable_spend_logs",
            "disable_spend_updates",
            "maximum_spend_logs_retention_interval",
            "disable_error_logs",
        ],
        SPEND_LOG,
    ),
    (
        &["global_max_parallel_requests"],
        (
            "requests at once are bounded for each key, account, client and team, not for all together",
            "`concurrent` in [[client]] or [[team]], or [server] connections_max",
        ),
    ),
    (
        &[
            "custom_auth",
            "custom_key_generate",
            "enable_jwt_auth",
            "litellm_jwtauth",
            "enable_oauth2_auth",
            "allow_user_auth",
            "enable_oauth2_proxy_auth",
            "oauth2_config_mappings",
            "custom_sso",
            "litellm_key_header_name",
            "ui_access_mode",
            "service_account_settings",
            "default_team_disabled",
            "custom_ui_sso_sign_in_handler",
        ],
        LOGIN,
    ),
    (
        &[
            "alerting_threshold",
            "alert_types",
            "alerting_args",
            "alert_to_webhook_url",
            "spend_report_frequency",
        ],
        ALERTS,
    ),
    (
        &["background_health_checks", "health_check_interval", "health_check_details", "health_check_model"],
        (
            "a key's health is learned from the answers it gives; a resting key is tried with one request",
            "nothing is needed",
        ),
    ),
    (
        &["allowed_routes", "admin_only_routes", "public_routes", "allowed_ips", "use_x_forwarded_for"],
        (
            "who may call is said by keys, not by paths or addresses",
            "[[client]] says what each may do; a firewall or a proxy in front bounds addresses",
        ),
    ),
    (
        &[
            "key_management_system",
            "key_management_settings",
            "use_azure_key_vault",
            "use_google_kms",
            "secret_manager",
        ],
        (
            "no key store is asked",
            "secret = \"cmd:program argument\" takes what a program prints, \"file:/path\" what is mounted",
        ),
    ),
    (
        &["completion_model", "embedding_model", "image_generation_model", "moderation_model"],
        ("a request names its model", "add a [[route]] of the name that clients use"),
    ),
    (&["infer_model_from_keys"], ("models are not looked for in the environment", "nothing is needed")),
    (
        &["pass_through_endpoints", "use_client_credentials_pass_through_routes"],
        (
            "only the endpoints of the dialects are served, so that no path goes past limits and budgets",
            "call such an API without a gateway",
        ),
    ),
    (
        &[
            "forward_client_headers_to_llm_api",
            "forward_openai_org_id",
            "add_user_information_to_llm_headers",
        ],
        ("which headers cross is fixed (docs/clients.md), so that none leaks", "`headers` in [[provider]]"),
    ),
    (
        &["allow_client_side_credentials"],
        ("keys come from the configuration alone", "make each of them a key here"),
    ),
    (
        &["max_response_size_mb"],
        ("answers are passed on as they come, whatever their size", "nothing is needed"),
    ),
    (
        &[
            "proxy_budget_rescheduler_min_time",
            "proxy_budget_rescheduler_max_time",
            "disable_reset_budget",
            "proxy_batch_polling_interval",
            "user_api_key_cache_ttl",
            "disable_adding_master_key_hash_to_db",
            "disable_master_key_return",
            "disable_responses_id_security",
            "disable_retry_on_max_parallel_request_limit_error",
            "litellm_license",
            "user_mcp_management_mode",
            "enforced_params",
            "enforce_user_param",
            "reject_clientside_metadata_tags",
        ],
        ("nothing here depends on it", "nothing is needed"),
    ),
    (&["default_key_generate_params", "upperbound_key_generate_params", "key_generation_settings"], KEYS),
];

/// Why this entry of `general_settings` was not carried over.
pub(in crate::litellm) fn of_general(name: &str) -> Option<Reason> {
    look(GENERAL, name)
}

const TOP: Table = &[
    (&["callback_settings"], CALLBACKS),
    (&["guardrails", "prompts", "policies"], GUARDRAILS),
    (
        &["mcp_servers", "mcp_tools", "agent_list", "search_tools", "vector_store_registry"],
        ("keymux passes requests on to models and to nothing else", "let the client speak with it"),
    ),
    (
        &["assistant_settings", "files_settings", "finetune_settings", "batch_settings"],
        (
            "files, batches, assistants and fine-tuning are not served",
            "call the provider without a gateway; `keymux batch` takes files made for OpenAI's Batch API",
        ),
    ),
    (&["default_vertex_config"], ("Vertex AI is not spoken", "use the preset gemini with an API key")),
    (&["litellm_jwtauth", "sso_settings", "ui_settings"], LOGIN),
];

/// Why this section at the top of the file was not carried over.
pub(in crate::litellm) fn of_top(name: &str) -> Option<Reason> {
    look(TOP, name)
}

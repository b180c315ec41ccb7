# The environment of the tasks.

locals {
  managed_environment = {
    ROWFLEET_BUCKET                     = var.data.bucket
    ROWFLEET_TABLE                      = var.data.table
    ROWFLEET_PREFIX                     = var.prefix
    ROWFLEET_TTL_DAYS                   = tostring(var.data.ttl_days)
    ROWFLEET_DRAIN_TIMEOUT_S            = tostring(var.stop_timeout_s - 20)
    ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S = tostring(var.data.rows_visibility_timeout_s)
    ROWFLEET_SPLIT__MAX_MESSAGE_BYTES   = tostring(var.data.max_message_bytes)
    ROWFLEET_INGEST__MAX_RECEIVES       = tostring(var.data.max_receives)
    ROWFLEET_ROWS__MAX_RECEIVES         = tostring(var.data.max_receives)
    ROWFLEET_RESULTS__MAX_RECEIVES      = tostring(var.data.max_receives)
    ROWFLEET_HEALTH__HOST               = "127.0.0.1" # the health check runs inside the container
    ROWFLEET_HEALTH__PORT               = "8080"
    ROWFLEET_LOG_FORMAT                 = "json"
  }

  # For all tasks: the splitter notes in a batch who is told, and the sweeper tells them.
  events_environment = {
    for name, value in {
      ROWFLEET_EVENTS__WEBHOOK_URL    = var.events.webhook_url
      ROWFLEET_EVENTS__WEBHOOK_SECRET = local.secret_arn == null ? null : "${local.secret_of}:${local.secret_arn}"
      ROWFLEET_EVENTS__EVENT_BUS      = var.events.event_bus
      ROWFLEET_EVENTS__TOPIC_ARN      = var.events.topic_arn
      ROWFLEET_EVENTS__KINDS          = var.events.kinds == null ? null : join(",", var.events.kinds)
      ROWFLEET_EVENTS__ALLOW_PRIVATE  = var.events.allow_private ? "true" : null
    } : name => value if value != null
  }

  # ECS answers on the task itself: credentials, metadata and task protection are never asked for through the proxy.
  no_proxy = concat(["169.254.170.2", "169.254.169.254", "localhost", "127.0.0.1"], try(var.proxy.no_proxy, []))
  proxy_environment = var.proxy == null ? {} : {
    HTTPS_PROXY = var.proxy.url
    HTTP_PROXY  = var.proxy.url
    NO_PROXY    = join(",", local.no_proxy)
  }
  # HTTP agents and the webhook take the proxy from the environment only if the service is told to.
  proxy_settings = var.proxy == null ? {} : { ROWFLEET_HTTP__PROXY = "environment" }

  common_environment = merge(
    local.proxy_settings,
    { for name, value in var.settings : "ROWFLEET_${name}" => value },
    local.managed_environment,
    local.events_environment,
    local.proxy_environment,
    { AWS_REGION = local.region },
  )

  # Variables that a mapping must not set: the tasks themselves would get another region or other credentials.
  refused_variables = ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]

  role_environment = {
    splitter   = { ROWFLEET_MAPPINGS = "${var.data.config_url}/mappings", ROWFLEET_SCHEMAS = "${var.data.config_url}/schemas" }
    worker     = var.agent_environment
    aggregator = {}
    sweeper    = {}
  }
  environment = {
    for name, service in local.planned : name => merge(concat([local.common_environment], [for role in service.roles : local.role_environment[role]])...)
  }
}

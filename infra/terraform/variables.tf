# -- names -----------------------------------------------------------------------------------------------

variable "prefix" {
  description = "Begins the name of everything; queues are {prefix}-ingest, {prefix}-rows, {prefix}-aggregate. One per deployment in an account and region."
  type        = string
  default     = "rowfleet"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.prefix))
    error_message = "prefix has to be 3 to 20 characters: small letters, digits and hyphens, beginning with a letter and not ending with a hyphen (it becomes part of bucket and role names)."
  }
}

variable "bucket_name" {
  description = "Name of the bucket, unique among all of AWS. Null: {prefix}-{account}-{region}."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name has to be 3 to 63 characters: small letters, digits and hyphens, without a hyphen at either end (dots break TLS names)."
  }
}

variable "table_name" {
  description = "Name of the DynamoDB table. Null: {prefix}-results."
  type        = string
  default     = null

  validation {
    condition     = var.table_name == null || can(regex("^[a-zA-Z0-9_.-]{3,255}$", var.table_name))
    error_message = "table_name has to be 3 to 255 characters: letters, digits, underscore, hyphen and dot."
  }
}

variable "tags" {
  description = "Tags on everything, beside application and deployment."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && length(key) <= 128])
    error_message = "tags: keys have at most 128 characters and do not begin with aws:, which AWS keeps for itself."
  }
}

# -- image and tasks -------------------------------------------------------------------------------------

variable "image" {
  description = "Container image with tag or digest, e.g. {repository_url}:0.5.0. Null: all resources are created and nothing runs, so that the first image can be pushed to the new repository."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^[^\\s:@]+(:[0-9]+/[^\\s:@]+)?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$", var.image))
    error_message = "image has to name a tag or a digest, such as repository:0.5.0 or repository@sha256:…; without one a restart could run another version."
  }

  validation {
    condition     = var.image == null || !endswith(coalesce(var.image, "-"), ":latest")
    error_message = "image must not be :latest: tasks started at different times would run different versions."
  }
}

variable "image_repository_arns" {
  description = "ECR repositories that tasks may pull from, beside the one of this module; for an image in another registry of ECR."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.image_repository_arns : can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/[^*]+$", arn))])
    error_message = "image_repository_arns have to be full ARNs of ECR repositories, without a wildcard."
  }
}

variable "architecture" {
  description = "Processor architecture of the tasks: X86_64, or ARM64 (a fifth cheaper). The image has to be built for it."
  type        = string
  default     = "X86_64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "architecture has to be X86_64 or ARM64."
  }
}

variable "splitter" {
  description = "Tasks that read sources and send rows: cpu (1024 = 1 vCPU), memory (MiB) and how many. One is enough for most; 0 pauses the start of runs."
  type = object({
    cpu    = optional(number, 256)
    memory = optional(number, 512)
    tasks  = optional(number, 1)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.splitter.tasks >= 0 && var.splitter.tasks <= 100 && floor(var.splitter.tasks) == var.splitter.tasks
    error_message = "splitter.tasks has to be a whole number from 0 to 100."
  }

  validation {
    condition     = can(local.fargate_memory[tostring(var.splitter.cpu)]) && contains(try(local.fargate_memory[tostring(var.splitter.cpu)], []), var.splitter.memory)
    error_message = "splitter: Fargate has no task of this cpu and memory; cpu 256 takes 512, 1024 or 2048 MiB, cpu 512 takes 1024 to 4096, cpu 1024 takes 2048 to 8192, cpu 2048 takes 4096 to 16384, cpu 4096 takes 8192 to 30720 (steps of 1024)."
  }
}

variable "worker" {
  description = "Tasks that call agents: cpu (1024 = 1 vCPU) and memory (MiB); min_tasks and max_tasks (the same: a fleet of fixed size, no autoscaling); backlog_per_task, the number of unfinished rows for each task; spot_percent, the part on Fargate Spot (a reclaimed task drains, and its rows go to others)."
  type = object({
    cpu              = optional(number, 512)
    memory           = optional(number, 1024)
    min_tasks        = optional(number, 0)
    max_tasks        = optional(number, 10)
    backlog_per_task = optional(number, 500)
    spot_percent     = optional(number, 70)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.worker.min_tasks >= 0 && var.worker.min_tasks <= var.worker.max_tasks && var.worker.max_tasks >= 1 && var.worker.max_tasks <= 1000
    error_message = "worker: 0 <= min_tasks <= max_tasks, and max_tasks from 1 to 1000."
  }

  validation {
    condition     = floor(var.worker.min_tasks) == var.worker.min_tasks && floor(var.worker.max_tasks) == var.worker.max_tasks
    error_message = "worker: min_tasks and max_tasks have to be whole numbers."
  }

  validation {
    condition     = var.worker.backlog_per_task >= 1
    error_message = "worker.backlog_per_task has to be at least 1 row."
  }

  validation {
    condition     = var.worker.spot_percent >= 0 && var.worker.spot_percent <= 100 && floor(var.worker.spot_percent) == var.worker.spot_percent
    error_message = "worker.spot_percent has to be a whole number from 0 to 100."
  }

  validation {
    condition     = can(local.fargate_memory[tostring(var.worker.cpu)]) && contains(try(local.fargate_memory[tostring(var.worker.cpu)], []), var.worker.memory)
    error_message = "worker: Fargate has no task of this cpu and memory; cpu 256 takes 512, 1024 or 2048 MiB, cpu 512 takes 1024 to 4096, cpu 1024 takes 2048 to 8192, cpu 2048 takes 4096 to 16384, cpu 4096 takes 8192 to 30720 (steps of 1024)."
  }
}

variable "aggregator" {
  description = "Tasks that write results and sweep stuck batches: cpu (1024 = 1 vCPU), memory (MiB) and how many. At least one: without it runs would never end."
  type = object({
    cpu    = optional(number, 256)
    memory = optional(number, 512)
    tasks  = optional(number, 1)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.aggregator.tasks >= 1 && var.aggregator.tasks <= 100 && floor(var.aggregator.tasks) == var.aggregator.tasks
    error_message = "aggregator.tasks has to be a whole number from 1 to 100: without an aggregator runs would never end."
  }

  validation {
    condition     = can(local.fargate_memory[tostring(var.aggregator.cpu)]) && contains(try(local.fargate_memory[tostring(var.aggregator.cpu)], []), var.aggregator.memory)
    error_message = "aggregator: Fargate has no task of this cpu and memory; cpu 256 takes 512, 1024 or 2048 MiB, cpu 512 takes 1024 to 4096, cpu 1024 takes 2048 to 8192, cpu 2048 takes 4096 to 16384, cpu 4096 takes 8192 to 30720 (steps of 1024)."
  }
}

variable "stop_timeout_s" {
  description = "Seconds from SIGTERM to SIGKILL; the service drains in 20 s less. ECS allows at most 120."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.stop_timeout_s >= 30 && var.stop_timeout_s <= 120
    error_message = "stop_timeout_s has to be from 30 to 120: Fargate kills after 120 s at the latest, and a drain needs time."
  }
}

variable "settings" {
  description = "Further settings of the service by the name that follows ROWFLEET_, e.g. { WORKER__MAX_INFLIGHT_ROWS = \"200\" }; `rowfleet settings` lists them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^[A-Z][A-Z0-9_]*$", name)) && !startswith(name, "ROWFLEET_")])
    error_message = "settings: names are capital letters, digits and underscores, without the ROWFLEET_ in front."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), local.managed_settings)) == 0
    error_message = "settings: BUCKET, TABLE, PREFIX, MAPPINGS, SCHEMAS, TTL_DAYS, DRAIN_TIMEOUT_S, ROWS__VISIBILITY_TIMEOUT_S, SPLIT__MAX_MESSAGE_BYTES, INGEST__MAX_RECEIVES, ROWS__MAX_RECEIVES, RESULTS__MAX_RECEIVES, HEALTH__HOST, HEALTH__PORT, LOG_FORMAT, EVENTS__WEBHOOK_URL, EVENTS__WEBHOOK_SECRET, EVENTS__EVENT_BUS, EVENTS__TOPIC_ARN, EVENTS__KINDS and EVENTS__ALLOW_PRIVATE follow from other variables of this module; leave them out."
  }
}

# -- agents ----------------------------------------------------------------------------------------------

variable "agent_environment" {
  description = "Variables that mappings refer to as $${NAME}, such as an agent's URL. Not for secrets: they can be read in the task definition."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.agent_environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && !startswith(name, "ROWFLEET_")])
    error_message = "agent_environment: names are letters, digits and underscores, and not ROWFLEET_…, which goes into settings."
  }
}

variable "agent_secrets" {
  description = "Variables that mappings refer to as $${NAME}, whose value is the ARN of a Secrets Manager secret (with :key:: behind it for one field of a JSON secret) or of an SSM parameter. Terraform never sees the secret."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.agent_secrets) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && !startswith(name, "ROWFLEET_")])
    error_message = "agent_secrets: names are letters, digits and underscores, and not ROWFLEET_…."
  }

  validation {
    condition     = alltrue([for arn in values(var.agent_secrets) : can(regex("^arn:[a-z-]+:(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*]+|ssm:[a-z0-9-]+:[0-9]{12}:parameter/[^*]+)$", arn))])
    error_message = "agent_secrets: each value has to be the ARN of a Secrets Manager secret or an SSM parameter, not the secret itself."
  }

  validation {
    condition     = length(setintersection(keys(var.agent_secrets), keys(var.agent_environment))) == 0
    error_message = "agent_secrets and agent_environment name the same variable; ECS takes each name once."
  }
}

variable "agent_policy_statements" {
  description = "Further permissions of workers, for agents inside AWS, e.g. { actions = [\"lambda:InvokeFunction\"], resources = [ARN] }."
  type = list(object({
    actions   = list(string)
    resources = list(string)
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for action in flatten(var.agent_policy_statements[*].actions) : can(regex("^[a-z0-9-]+:[A-Za-z0-9]+$", action))])
    error_message = "agent_policy_statements: each action has to be one action such as lambda:InvokeFunction, without a wildcard."
  }

  validation {
    condition     = alltrue([for arn in flatten(var.agent_policy_statements[*].resources) : can(regex("^arn:[^:]+:[a-z0-9-]+:", arn))])
    error_message = "agent_policy_statements: each resource has to be an ARN; \"*\" would be everything in the account."
  }

  validation {
    condition     = alltrue([for statement in var.agent_policy_statements : length(statement.actions) > 0 && length(statement.resources) > 0])
    error_message = "agent_policy_statements: each statement names at least one action and one resource."
  }
}

variable "source_bucket_arns" {
  description = "Other buckets in this account whose CSV files jobs may name as their source."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.source_bucket_arns : can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", arn))])
    error_message = "source_bucket_arns have to be ARNs of buckets, such as arn:aws:s3:::my-bucket, without a key."
  }
}

variable "output_prefixes" {
  description = "Where in the bucket results may be written; a job that names another output fails."
  type        = list(string)
  default     = ["results/"]
  nullable    = false

  validation {
    condition     = contains(var.output_prefixes, "results/") && alltrue([for prefix in var.output_prefixes : can(regex("^[^*?/][^*?]*/$", prefix))])
    error_message = "output_prefixes have to contain results/, and each ends with a slash, without a slash in front or wildcards."
  }

  validation {
    condition     = alltrue([for prefix in var.output_prefixes : !startswith(prefix, "incoming/") && !startswith(prefix, "config/")])
    error_message = "output_prefixes must not lie under incoming/ (every result would start a run) or config/."
  }
}

# -- configuration ---------------------------------------------------------------------------------------

variable "mappings_dir" {
  description = "Local folder whose *.yaml and *.yml are uploaded to config/mappings/. Null: none; copy them there yourself."
  type        = string
  default     = null

  validation {
    condition     = var.mappings_dir == null || length(try(fileset(coalesce(var.mappings_dir, "."), "*.{yaml,yml}"), [])) > 0
    error_message = "mappings_dir has no *.yaml or *.yml in it; name the folder with the mappings, or null."
  }
}

variable "schemas_dir" {
  description = "Local folder whose *.yaml and *.yml are uploaded to config/schemas/. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.schemas_dir == null || length(try(fileset(coalesce(var.schemas_dir, "."), "*.{yaml,yml}"), [])) > 0
    error_message = "schemas_dir has no *.yaml or *.yml in it; name the folder with the schemas, or null."
  }
}

# -- data ------------------------------------------------------------------------------------------------

variable "kms_key_arn" {
  description = "KMS key for bucket, table and logs. Null: keys that AWS owns, at no cost. Queues always use SQS's own. The key's policy has to let CloudWatch Logs of this region use it."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn has to be the ARN of a key (…:key/…), not an alias or an id."
  }
}

variable "ttl_days" {
  description = "Days that batches and rows stay in the table; longer than the longest run."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.ttl_days >= 1 && var.ttl_days <= 3650 && floor(var.ttl_days) == var.ttl_days
    error_message = "ttl_days has to be a whole number from 1 to 3650."
  }
}

variable "expire_days" {
  description = "Days after which S3 deletes objects: work (large payloads, more than ttl_days; null: one day more), old_versions (versions that were replaced or deleted), and incoming, sources and results (null: never)."
  type = object({
    work         = optional(number)
    old_versions = optional(number, 30)
    incoming     = optional(number)
    sources      = optional(number)
    results      = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for days in values(var.expire_days) : days == null || try(days >= 1 && floor(days) == days, false)])
    error_message = "expire_days: each has to be a whole number of days from 1, or null for never."
  }

  validation {
    condition     = var.expire_days.work == null || try(var.expire_days.work > var.ttl_days, false)
    error_message = "expire_days.work has to be more than ttl_days: rows of the table refer to objects under work/."
  }

  validation {
    condition     = alltrue([for days in [var.expire_days.incoming, var.expire_days.sources] : days == null || try(days >= var.ttl_days, false)])
    error_message = "expire_days.incoming and expire_days.sources have to be at least ttl_days: a run reads its source until it ends."
  }
}

variable "protect_data" {
  description = "Keeps table and bucket from being destroyed while they hold data. Set it to false, apply, and then destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "rows_visibility_timeout_s" {
  description = "Seconds that a received row is hidden; extended while it is held. Null: 60, or 30 more than the longest agent time-out of the mappings."
  type        = number
  default     = null

  validation {
    condition     = var.rows_visibility_timeout_s == null || try(var.rows_visibility_timeout_s >= 10 && var.rows_visibility_timeout_s <= 43200, false)
    error_message = "rows_visibility_timeout_s has to be from 10 to 43200 (SQS: at most 12 hours)."
  }
}

variable "max_receives" {
  description = "Deliveries of a message before it goes to the dead-letter queue."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_receives >= 3 && var.max_receives <= 1000
    error_message = "max_receives has to be from 3 to 1000: below 3, two reclaimed Spot tasks would cost a row."
  }
}

# -- network ---------------------------------------------------------------------------------------------

variable "network" {
  description = "Network of the tasks. public: a VPC of its own, public addresses, no inbound connections, costs nothing at rest. nat: a VPC of its own, private subnets behind a NAT gateway. isolated: a VPC of its own without the internet, for agents inside AWS. existing: your VPC."
  type        = string
  default     = "public"
  nullable    = false

  validation {
    condition     = contains(["public", "nat", "isolated", "existing"], var.network)
    error_message = "network has to be public, nat, isolated or existing."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that this module creates."
  type        = string
  default     = "10.60.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 22, false)
    error_message = "vpc_cidr has to be an IPv4 range from /16 to /22, such as 10.60.0.0/16."
  }
}

variable "existing_vpc" {
  description = "With network = existing: its id, the subnets for the tasks, and whether tasks need a public address there. They have to reach SQS, DynamoDB, S3, ECR, CloudWatch Logs and the agents."
  type = object({
    vpc_id           = string
    subnet_ids       = list(string)
    assign_public_ip = optional(bool, false)
  })
  default = null

  validation {
    condition     = (var.network == "existing") == (var.existing_vpc != null)
    error_message = "existing_vpc belongs to network = existing: give both or neither."
  }

  validation {
    condition     = var.existing_vpc == null || try(can(regex("^vpc-[0-9a-f]+$", var.existing_vpc.vpc_id)) && length(var.existing_vpc.subnet_ids) > 0 && alltrue([for id in var.existing_vpc.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))]), false)
    error_message = "existing_vpc needs a vpc_id such as vpc-0abc and at least one of subnet_ids such as subnet-0abc."
  }
}

variable "interface_endpoints" {
  description = "With network = isolated: further AWS services that agents live in, e.g. lambda, bedrock-runtime, bedrock-agentcore. Each costs by the hour in each of two zones."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.interface_endpoints) == 0 || var.network == "isolated"
    error_message = "interface_endpoints belong to network = isolated; the other networks reach AWS without them."
  }

  validation {
    condition     = alltrue([for name in var.interface_endpoints : can(regex("^[a-z0-9][a-z0-9.-]*$", name))])
    error_message = "interface_endpoints: names of services as in com.amazonaws.{region}.NAME, such as lambda or bedrock-runtime."
  }
}

variable "agent_ports" {
  description = "TCP ports that tasks may connect to on any address, for agents. 443 is always open, for AWS."
  type        = set(number)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for port in var.agent_ports : port >= 1 && port <= 65535 && floor(port) == port && port != 443])
    error_message = "agent_ports have to be whole numbers from 1 to 65535, without 443, which is open anyway."
  }
}

# -- watching --------------------------------------------------------------------------------------------

variable "alarm_email" {
  description = "Address that alarms are mailed to, once its owner confirmed the subscription. Null: none; subscribe to the topic yourself."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email has to be an e-mail address."
  }
}

variable "oldest_message_alarm_s" {
  description = "Age of the oldest waiting message that is an alarm, by queue. Rows of a big batch wait long by design: set it above your longest run."
  type = object({
    ingest    = optional(number, 900)
    rows      = optional(number, 21600)
    aggregate = optional(number, 900)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for seconds in values(var.oldest_message_alarm_s) : seconds >= 60 && seconds <= 345600])
    error_message = "oldest_message_alarm_s: each has to be from 60 to 345600 seconds (messages are kept 4 days)."
  }
}

variable "log_retention_days" {
  description = "Days after which logs are deleted."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days has to be one that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "events" {
  description = "Who is told when runs start, pause and end: a webhook (webhook_secret_arn: where its signing secret lies in Secrets Manager or SSM; allow_private: it may be in your own network), an EventBridge bus (name or ARN), an SNS topic; kinds: which events, null for all. task_tokens: answer Step Functions tasks that wait for runs."
  type = object({
    webhook_url        = optional(string)
    webhook_secret_arn = optional(string)
    event_bus          = optional(string)
    topic_arn          = optional(string)
    kinds              = optional(list(string))
    allow_private      = optional(bool, false)
    task_tokens        = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = (var.events.webhook_url == null) == (var.events.webhook_secret_arn == null)
    error_message = "events: webhook_url and webhook_secret_arn belong together, since events are never sent unsigned."
  }

  validation {
    condition     = var.events.webhook_url == null || can(regex("^https?://[^/@\\s]+(/\\S*)?$", var.events.webhook_url)) && (startswith(coalesce(var.events.webhook_url, "-"), "https://") || var.events.allow_private)
    error_message = "events.webhook_url has to be an address https://… without a user; http:// needs allow_private."
  }

  validation {
    condition     = var.events.webhook_secret_arn == null || can(regex("^arn:[a-z-]+:(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*]+|ssm:[a-z0-9-]+:[0-9]{12}:parameter/[^*]+)$", var.events.webhook_secret_arn))
    error_message = "events.webhook_secret_arn has to be the ARN of a Secrets Manager secret or an SSM parameter, not the secret itself."
  }

  validation {
    condition     = var.events.event_bus == null || can(regex("^(arn:[a-z-]+:events:[a-z0-9-]+:[0-9]{12}:event-bus/)?[A-Za-z0-9_./-]{1,256}$", var.events.event_bus))
    error_message = "events.event_bus has to be the name or the ARN of an event bus."
  }

  validation {
    condition     = var.events.topic_arn == null || can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$", var.events.topic_arn))
    error_message = "events.topic_arn has to be the ARN of a standard SNS topic."
  }

  validation {
    condition     = var.events.kinds == null || try(length(var.events.kinds) > 0 && length(setsubtract(var.events.kinds, ["started", "sample_ready", "paused", "resumed", "budget", "completed", "cancelled", "failed"])) == 0, false)
    error_message = "events.kinds has to be null or some of started, sample_ready, paused, resumed, budget, completed, cancelled, failed."
  }
}

variable "state_machine" {
  description = "Create a Step Functions state machine {prefix}-run, which starts a run, waits for it by a task token and goes on with its manifest."
  type        = bool
  default     = false
  nullable    = false
}

variable "dashboard" {
  description = "Create a CloudWatch dashboard (the first three of an account are free)."
  type        = bool
  default     = true
  nullable    = false
}

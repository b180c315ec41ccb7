# Each description ends with the cost of a change. "Rolling deployment" is explained in the README: new tasks start
# first, old ones drain, and rows that they hold go to others.

# -- names -----------------------------------------------------------------------------------------------

variable "prefix" {
  description = "Begins the name of everything. Change: all is made anew; let the runs end first."
  type        = string
  default     = "rowfleet"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.prefix))
    error_message = "prefix has to be 3 to 20 characters: small letters, digits and hyphens, beginning with a letter and not ending with a hyphen (it becomes part of role names)."
  }
}

variable "tags" {
  description = "Tags on everything, beside application and deployment. Change: rolling deployment."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : !startswith(lower(key), "aws:") && length(key) >= 1 && length(key) <= 128 && length(value) <= 256])
    error_message = "tags: keys have 1 to 128 characters and do not begin with aws:, which AWS keeps for itself; values have at most 256."
  }

  validation {
    condition     = length(var.tags) <= 48
    error_message = "tags: AWS takes 50 on a resource, and two are the module's own; give at most 48."
  }
}

# -- the other modules -----------------------------------------------------------------------------------

variable "data" {
  description = "Bucket, table and queues, as the module data has them in its outputs: queue_arns and queue_urls by ingest, rows, aggregate and each with -dlq. Change of a name: rolling deployment; batches in the old table and queues stay there."
  type = object({
    bucket                    = string
    bucket_arn                = string
    table                     = string
    table_arn                 = string
    queue_arns                = map(string)
    queue_urls                = map(string)
    config_url                = string
    rows_visibility_timeout_s = number
    max_message_bytes         = number
    max_receives              = number
    ttl_days                  = number
  })
  nullable = false

  validation {
    condition     = alltrue([for map in [var.data.queue_arns, var.data.queue_urls] : toset(keys(map)) == toset(["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"])])
    error_message = "data: queue_arns and queue_urls have to name ingest, rows, aggregate, ingest-dlq, rows-dlq and aggregate-dlq."
  }

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", var.data.bucket_arn)) && can(regex("^arn:[a-z-]+:dynamodb:[a-z0-9-]+:[0-9]{12}:table/[A-Za-z0-9_.-]+$", var.data.table_arn)) && alltrue([for arn in values(var.data.queue_arns) : can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", arn))])
    error_message = "data: bucket_arn, table_arn and queue_arns have to be the ARNs of a bucket, a table and queues."
  }

  validation {
    condition     = can(regex("^s3://[a-z0-9.-]+(/[^/]+)*$", var.data.config_url))
    error_message = "data.config_url has to be the folder of mappings/ and schemas/, such as s3://my-bucket/config, without a slash at the end."
  }

  validation {
    condition     = var.data.rows_visibility_timeout_s >= 10 && var.data.rows_visibility_timeout_s <= 43200 && var.data.max_message_bytes >= 65536 && var.data.max_message_bytes <= 1048576 && var.data.max_receives >= 1 && var.data.ttl_days >= 1
    error_message = "data: rows_visibility_timeout_s is from 10 to 43200, max_message_bytes from 65536 to 1048576, max_receives and ttl_days at least 1."
  }
}

variable "network" {
  description = "Subnets and security groups of the tasks, as the module network has them in its outputs. Tasks have to reach SQS, DynamoDB, S3, ECR, CloudWatch Logs and the agents. Change: rolling deployment."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
    assign_public_ip   = bool
  })
  nullable = false

  validation {
    condition     = length(var.network.subnet_ids) >= 1 && length(var.network.subnet_ids) <= 16 && alltrue([for id in var.network.subnet_ids : can(regex("^subnet-[0-9a-z]+$", id))])
    error_message = "network.subnet_ids has to name 1 to 16 subnets such as subnet-0abc."
  }

  validation {
    condition     = length(var.network.security_group_ids) >= 1 && length(var.network.security_group_ids) <= 5 && alltrue([for id in var.network.security_group_ids : can(regex("^sg-[0-9a-z]+$", id))])
    error_message = "network.security_group_ids has to name 1 to 5 security groups such as sg-0abc: without one ECS takes the VPC's default group."
  }
}

# -- image -----------------------------------------------------------------------------------------------

variable "image" {
  description = "Container image with tag or digest, e.g. {repository_url}:0.1.0. Null: nothing runs, so that the first image can be pushed to the new repository. With scaling = scaler it has to lie in ECR in this region, as the image of one architecture (Lambda takes no multi-platform index). Change: rolling deployment; to null: all tasks drain and stop, rows wait."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^[^\\s:@]+(:[0-9]+/[^\\s:@]+)?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$", var.image))
    error_message = "image has to name a tag or a digest, such as repository:0.1.0 or repository@sha256:…; without one a restart could run another version."
  }

  validation {
    condition     = var.image == null || !endswith(coalesce(var.image, "-"), ":latest")
    error_message = "image must not be :latest: tasks started at different times would run different versions."
  }
}

variable "repository" {
  description = "Repository of the image. create: make one in ECR, named name (null: prefix); else arn is an existing one in ECR, or null for another registry. credentials_secret_arn: secret with username and password of a private registry outside ECR. pull_through_cache_arns: ECR repositories that ECR may fill from upstream (…:repository/cache/*). keep_images: only images without a tag expire, beyond this number, and of each of expire_tag_prefixes; no other tag ever expires, so no version that runs. force_delete: may be destroyed with images in it. Change of name, or of create to false: the repository is made anew or destroyed, and running tasks cannot be restarted until the image is pushed again; else none."
  type = object({
    create                  = optional(bool, true)
    name                    = optional(string)
    arn                     = optional(string)
    credentials_secret_arn  = optional(string)
    pull_through_cache_arns = optional(list(string), [])
    keep_images             = optional(number, 20)
    expire_tag_prefixes     = optional(list(string), [])
    force_delete            = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = !var.repository.create || var.repository.arn == null
    error_message = "repository: arn names an existing repository; set create to false, or leave arn out."
  }

  validation {
    condition     = var.repository.name == null || can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", var.repository.name))
    error_message = "repository.name has to be small letters and digits, with single . _ / or - between them."
  }

  validation {
    condition     = alltrue([for arn in compact([var.repository.arn]) : can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/[^*]+$", arn))])
    error_message = "repository.arn has to be the ARN of an ECR repository, without a wildcard."
  }

  validation {
    condition     = alltrue([for arn in compact([var.repository.credentials_secret_arn]) : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*]+$", arn))])
    error_message = "repository.credentials_secret_arn has to be the ARN of a Secrets Manager secret, not the credentials themselves."
  }

  validation {
    condition     = alltrue([for arn in var.repository.pull_through_cache_arns : can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/[^*]+(/\\*)?$", arn))])
    error_message = "repository.pull_through_cache_arns have to be ARNs of ECR repositories; only the part behind the cache's prefix may be a wildcard, as in …:repository/docker-hub/*."
  }

  validation {
    condition     = var.repository.keep_images >= 1 && var.repository.keep_images <= 1000 && floor(var.repository.keep_images) == var.repository.keep_images
    error_message = "repository.keep_images has to be a whole number from 1 to 1000."
  }

  validation {
    condition     = alltrue([for prefix in var.repository.expire_tag_prefixes : can(regex("^[A-Za-z_][A-Za-z0-9_.-]*$", prefix))]) && length(var.repository.expire_tag_prefixes) <= 20
    error_message = "repository.expire_tag_prefixes: at most 20, each beginning with a letter (release tags begin with a digit and have to stay), such as dev-."
  }
}

variable "image_repository_arns" {
  description = "Further ECR repositories that tasks may pull from. Change: none for running rows."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.image_repository_arns : can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/[^*]+$", arn))])
    error_message = "image_repository_arns have to be full ARNs of ECR repositories, without a wildcard."
  }
}

variable "architecture" {
  description = "Processor architecture of tasks and scaler: ARM64 (a fifth cheaper) or X86_64. The image has to be built for it. Change: rolling deployment; together with an image of the new architecture."
  type        = string
  default     = "ARM64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "architecture has to be X86_64 or ARM64."
  }
}

# -- services ----------------------------------------------------------------------------------------------

variable "control" {
  description = "The small service that plays splitter, aggregator and sweeper, except the roles with a service of their own: cpu (1024 = 1 vCPU), memory (MiB), tasks. min_tasks: kept running also at rest; null: 0 with scaling = scaler, which starts it at the first drop, and tasks with alarms. Change of cpu or memory: rolling deployment; of numbers: none, busy tasks drain."
  type = object({
    cpu       = optional(number, 256)
    memory    = optional(number, 512)
    tasks     = optional(number, 1)
    min_tasks = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.control.tasks >= 1 && var.control.tasks <= 100 && floor(var.control.tasks) == var.control.tasks
    error_message = "control.tasks has to be a whole number from 1 to 100: without it runs would neither start nor end."
  }

  validation {
    condition     = var.control.min_tasks == null || try(var.control.min_tasks >= 0 && var.control.min_tasks <= var.control.tasks && floor(var.control.min_tasks) == var.control.min_tasks, false)
    error_message = "control.min_tasks has to be null or a whole number from 0 to control.tasks."
  }

  validation {
    condition     = var.scaling == "scaler" || var.control.min_tasks == null || var.control.min_tasks == var.control.tasks
    error_message = "control.min_tasks below control.tasks needs scaling = \"scaler\": alarms scale only workers."
  }

  validation {
    condition     = contains(try(local.fargate_memory[tostring(var.control.cpu)], []), var.control.memory)
    error_message = "control: Fargate has no task of this cpu and memory; cpu 256 takes 512, 1024 or 2048 MiB, cpu 512 takes 1024 to 4096, cpu 1024 takes 2048 to 8192, cpu 2048 takes 4096 to 16384, cpu 4096 takes 8192 to 30720 (steps of 1024)."
  }
}

variable "splitter" {
  description = "A service of its own for the splitter, for deployments that read many large files at once: cpu (1024 = 1 vCPU), memory (MiB) and tasks; 0 pauses the start of runs. Null: control plays it. Change from or to null: the role moves by a rolling deployment of control; of cpu or memory: rolling deployment; of tasks: none."
  type = object({
    cpu    = optional(number, 256)
    memory = optional(number, 512)
    tasks  = optional(number, 1)
  })
  default = null

  validation {
    condition     = var.splitter == null || try(var.splitter.tasks >= 0 && var.splitter.tasks <= 100 && floor(var.splitter.tasks) == var.splitter.tasks, false)
    error_message = "splitter.tasks has to be a whole number from 0 to 100."
  }

  validation {
    condition     = var.splitter == null || try(contains(local.fargate_memory[tostring(var.splitter.cpu)], var.splitter.memory), false)
    error_message = "splitter: Fargate has no task of this cpu and memory; cpu 256 takes 512, 1024 or 2048 MiB, cpu 512 takes 1024 to 4096, cpu 1024 takes 2048 to 8192, cpu 2048 takes 4096 to 16384, cpu 4096 takes 8192 to 30720 (steps of 1024)."
  }
}

variable "aggregator" {
  description = "A service of its own for aggregator and sweeper: cpu (1024 = 1 vCPU), memory (MiB) and tasks, at least one. Null: control plays them. Change from or to null: the roles move by a rolling deployment of control; of cpu or memory: rolling deployment; of tasks: none."
  type = object({
    cpu    = optional(number, 256)
    memory = optional(number, 512)
    tasks  = optional(number, 1)
  })
  default = null

  validation {
    condition     = var.aggregator == null || try(var.aggregator.tasks >= 1 && var.aggregator.tasks <= 100 && floor(var.aggregator.tasks) == var.aggregator.tasks, false)
    error_message = "aggregator.tasks has to be a whole number from 1 to 100: without an aggregator runs would never end."
  }

  validation {
    condition     = var.aggregator == null || try(contains(local.fargate_memory[tostring(var.aggregator.cpu)], var.aggregator.memory), false)
    error_message = "aggregator: Fargate has no task of this cpu and memory; cpu 256 takes 512, 1024 or 2048 MiB, cpu 512 takes 1024 to 4096, cpu 1024 takes 2048 to 8192, cpu 2048 takes 4096 to 16384, cpu 4096 takes 8192 to 30720 (steps of 1024)."
  }
}

variable "worker" {
  description = "Tasks that call agents: cpu (1024 = 1 vCPU) and memory (MiB); min_tasks and max_tasks (the same: a fleet of fixed size); backlog_per_task, the number of unfinished rows for each task; spot_percent, the part on Fargate Spot (a reclaimed task drains, and its rows go to others); on_demand_base, the number of tasks that are never on Spot, e.g. 1. Change of cpu, memory, spot_percent or on_demand_base: rolling deployment; of numbers: none, busy tasks drain."
  type = object({
    cpu              = optional(number, 512)
    memory           = optional(number, 1024)
    min_tasks        = optional(number, 0)
    max_tasks        = optional(number, 10)
    backlog_per_task = optional(number, 500)
    spot_percent     = optional(number, 70)
    on_demand_base   = optional(number, 0)
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
    condition     = var.worker.backlog_per_task >= 1 && floor(var.worker.backlog_per_task) == var.worker.backlog_per_task
    error_message = "worker.backlog_per_task has to be a whole number of rows, at least 1."
  }

  validation {
    condition     = var.worker.spot_percent >= 0 && var.worker.spot_percent <= 100 && floor(var.worker.spot_percent) == var.worker.spot_percent
    error_message = "worker.spot_percent has to be a whole number from 0 to 100."
  }

  validation {
    condition     = var.worker.on_demand_base >= 0 && var.worker.on_demand_base <= 1000 && floor(var.worker.on_demand_base) == var.worker.on_demand_base
    error_message = "worker.on_demand_base has to be a whole number from 0 to 1000."
  }

  validation {
    condition     = contains(try(local.fargate_memory[tostring(var.worker.cpu)], []), var.worker.memory)
    error_message = "worker: Fargate has no task of this cpu and memory; cpu 256 takes 512, 1024 or 2048 MiB, cpu 512 takes 1024 to 4096, cpu 1024 takes 2048 to 8192, cpu 2048 takes 4096 to 16384, cpu 4096 takes 8192 to 30720 (steps of 1024)."
  }
}

variable "stop_timeout_s" {
  description = "Seconds from SIGTERM to SIGKILL; the service drains in 20 s less. ECS allows at most 120. Change: rolling deployment."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.stop_timeout_s >= 30 && var.stop_timeout_s <= 120
    error_message = "stop_timeout_s has to be from 30 to 120: Fargate kills after 120 s at the latest, and a drain needs time."
  }
}

variable "wait_for_steady_state" {
  description = "An apply waits until all services run the new version, for up to 75 minutes while busy tasks end, and fails if one does not. A service of 0 tasks is steady at once, whatever its version. Change: none for running rows."
  type        = bool
  default     = false
  nullable    = false
}

variable "settings" {
  description = "Further settings of the service by the name that follows ROWFLEET_, e.g. { WORKER__MAX_INFLIGHT_ROWS = \"200\" }; `rowfleet settings` lists them. Change: rolling deployment."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.settings), concat(local.known_settings, local.managed_settings))) == 0
    error_message = "settings: ${join(", ", setsubtract(keys(var.settings), concat(local.known_settings, local.managed_settings)))}: the service has no setting of this name, and every task would end at its start. Names are in capital letters without ROWFLEET_, and `rowfleet settings` lists them."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), local.managed_settings)) == 0
    error_message = "settings: ${join(", ", setintersection(keys(var.settings), local.managed_settings))}: follows from other variables of this module; leave it out."
  }
}

# -- agents ----------------------------------------------------------------------------------------------

variable "agent_environment" {
  description = "Variables that mappings refer to as $${NAME}, such as an agent's URL. Not for secrets: they can be read in the task definition. Change: rolling deployment of the workers."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.agent_environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && !startswith(name, "ROWFLEET_") && !contains(local.refused_variables, name)])
    error_message = "agent_environment: names are letters, digits and underscores, and neither ROWFLEET_…, which goes into settings, nor AWS_REGION, AWS_DEFAULT_REGION, AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN, which would change region or credentials of the tasks themselves."
  }

  validation {
    condition     = var.proxy == null || length(setintersection(["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"], [for name in keys(var.agent_environment) : upper(name)])) == 0
    error_message = "agent_environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY follow from the variable proxy; leave them out."
  }
}

variable "agent_secrets" {
  description = "Variables that mappings refer to as $${NAME}, whose value is the ARN of a Secrets Manager secret (with :key:: behind it for one field of a JSON secret) or of an SSM parameter. Terraform never sees the secret. Change: rolling deployment of the workers; a new value of a secret reaches only tasks that start after it."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.agent_secrets) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && !startswith(name, "ROWFLEET_") && !contains(local.refused_variables, name)])
    error_message = "agent_secrets: names are letters, digits and underscores, and neither ROWFLEET_… nor one of those that set the region or the credentials of the tasks (AWS_ACCESS_KEY_ID)."
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

# -- permissions -------------------------------------------------------------------------------------------

variable "agent_policy_statements" {
  description = "Further permissions of workers, for agents inside AWS, e.g. { actions = [\"lambda:InvokeFunction\"], resources = [ARN] }. Change: none for running rows; a permission that is taken away fails calls."
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

variable "policy_statements" {
  description = "Further permissions by role: splitter, worker or aggregator (with the sweeper), whichever service plays it; for example kms:Decrypt of one role only. Change: none for running rows; a permission that is taken away fails calls."
  type = map(list(object({
    actions   = list(string)
    resources = list(string)
  })))
  default  = {}
  nullable = false

  validation {
    condition     = length(setsubtract(keys(var.policy_statements), ["splitter", "worker", "aggregator"])) == 0
    error_message = "policy_statements: keys are splitter, worker and aggregator; the service control has the statements of the roles that it plays."
  }

  validation {
    condition     = alltrue([for statement in flatten(values(var.policy_statements)) : length(statement.actions) > 0 && length(statement.resources) > 0 && alltrue([for action in statement.actions : can(regex("^[a-z0-9-]+:[A-Za-z0-9]+$", action))])])
    error_message = "policy_statements: each statement names at least one action such as s3:GetObject, without a wildcard, and one resource."
  }

  validation {
    condition     = alltrue([for arn in flatten([for statement in flatten(values(var.policy_statements)) : statement.resources]) : can(regex("^arn:[^:]+:[a-z0-9-]+:", arn))])
    error_message = "policy_statements: each resource has to be an ARN; \"*\" would be everything in the account."
  }
}

variable "mapping_policy_statements" {
  description = "Further permissions of workers by the mapping that needs them, as agent_policy_statements; the mapping's name is in the statement's id. A worker serves all mappings, so each may use them. Change: none for running rows; a permission that is taken away fails calls."
  type = map(list(object({
    actions   = list(string)
    resources = list(string)
  })))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.mapping_policy_statements) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", name))]) && length(distinct([for name in keys(var.mapping_policy_statements) : lower(replace(name, "/[^A-Za-z0-9]/", ""))])) == length(var.mapping_policy_statements)
    error_message = "mapping_policy_statements: keys are names of mappings (letters, digits, dot, underscore, hyphen) that differ in more than . _ and - (an id of a statement has only letters and digits)."
  }

  validation {
    condition     = alltrue([for statement in flatten(values(var.mapping_policy_statements)) : length(statement.actions) > 0 && length(statement.resources) > 0 && alltrue([for action in statement.actions : can(regex("^[a-z0-9-]+:[A-Za-z0-9]+$", action))])])
    error_message = "mapping_policy_statements: each statement names at least one action such as lambda:InvokeFunction, without a wildcard, and one resource."
  }

  validation {
    condition     = alltrue([for arn in flatten([for statement in flatten(values(var.mapping_policy_statements)) : statement.resources]) : can(regex("^arn:[^:]+:[a-z0-9-]+:", arn))])
    error_message = "mapping_policy_statements: each resource has to be an ARN; \"*\" would be everything in the account."
  }
}

variable "source_bucket_arns" {
  description = "Other buckets in this account whose CSV files jobs may name as their source. Change: none; a run whose bucket is taken away fails."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.source_bucket_arns : can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", arn))])
    error_message = "source_bucket_arns have to be ARNs of buckets, such as arn:aws:s3:::my-bucket, without a key."
  }
}

variable "output_prefixes" {
  description = "Where in the bucket results may be written; a job that names another output fails. Change: none; a run whose output is taken away fails at its end."
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

variable "kms_key_arn" {
  description = "KMS key of bucket, table and logs, which all roles may use. Null: keys that AWS owns. The key's policy has to let CloudWatch Logs of this region use it. Change: none for running rows."
  type        = string
  default     = null

  validation {
    condition     = alltrue([for arn in compact([var.kms_key_arn]) : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "kms_key_arn has to be the ARN of a key (…:key/…), not an alias or an id."
  }
}

variable "secret_kms_key_arns" {
  description = "KMS keys that encrypt secrets and parameters (agent_secrets, credentials of a registry, the signing secret of events): the roles that read them may decrypt with these keys. Change: none for running rows."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.secret_kms_key_arns : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "secret_kms_key_arns have to be ARNs of keys (…:key/…), not aliases or ids."
  }
}

variable "source_kms_key_arns" {
  description = "KMS keys of source_bucket_arns: the tasks may decrypt with them. Change: none; a run whose key is taken away fails."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.source_kms_key_arns : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "source_kms_key_arns have to be ARNs of keys (…:key/…), not aliases or ids."
  }
}

variable "iam" {
  description = "How roles are made: path and permissions_boundary_arn of all; managed_policy_arns, further policies by worker, control, splitter, aggregator, execution or scaler. execution_role_arn, scaler_role_arn and task_role_arns (by service): existing roles in the place of the module's own; give them the statements of the output policies. create_execution_role, create_scaler_role: false if the ARN is not known at plan. Change of path: roles are made anew, a rolling deployment; of a role: rolling deployment; else none."
  type = object({
    path                     = optional(string, "/")
    permissions_boundary_arn = optional(string)
    execution_role_arn       = optional(string)
    create_execution_role    = optional(bool)
    task_role_arns           = optional(map(string), {})
    scaler_role_arn          = optional(string)
    create_scaler_role       = optional(bool)
    managed_policy_arns      = optional(map(list(string)), {})
  })
  default  = {}
  nullable = false

  validation {
    condition     = can(regex("^/([!-~]+/)?$", var.iam.path)) && length(var.iam.path) <= 512
    error_message = "iam.path has to begin and end with a slash, such as /teams/data/."
  }

  validation {
    condition     = alltrue([for arn in compact([var.iam.permissions_boundary_arn]) : can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", arn))])
    error_message = "iam.permissions_boundary_arn has to be the ARN of a managed policy."
  }

  validation {
    condition     = alltrue([for arn in compact(concat([var.iam.execution_role_arn, var.iam.scaler_role_arn], values(var.iam.task_role_arns))) : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/.+$", arn))])
    error_message = "iam: execution_role_arn, scaler_role_arn and task_role_arns have to be ARNs of roles."
  }

  validation {
    condition     = length(setsubtract(keys(var.iam.task_role_arns), ["worker", "control", "splitter", "aggregator"])) == 0
    error_message = "iam.task_role_arns: keys are the services worker, control, splitter and aggregator."
  }

  validation {
    condition     = length(setsubtract(keys(var.iam.managed_policy_arns), ["worker", "control", "splitter", "aggregator", "execution", "scaler"])) == 0 && alltrue([for arn in flatten(values(var.iam.managed_policy_arns)) : can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", arn))])
    error_message = "iam.managed_policy_arns: keys are worker, control, splitter, aggregator, execution and scaler, and values lists of ARNs of managed policies."
  }

  validation {
    condition     = length(setintersection(keys(var.iam.managed_policy_arns), keys(var.iam.task_role_arns))) == 0
    error_message = "iam: managed_policy_arns and task_role_arns name the same service; attach policies to an existing role where it is made."
  }

  validation {
    condition = alltrue([
      for name, is_own in {
        execution = coalesce(var.iam.create_execution_role, var.iam.execution_role_arn == null)
        scaler    = coalesce(var.iam.create_scaler_role, var.iam.scaler_role_arn == null)
      } : is_own || !contains(keys(var.iam.managed_policy_arns), name)
    ])
    error_message = "iam: managed_policy_arns name a role that is an existing one (execution_role_arn, scaler_role_arn); attach policies to it where it is made."
  }

  validation {
    condition     = (var.iam.create_execution_role != false || var.iam.execution_role_arn != null) && (var.iam.create_scaler_role != false || var.scaling != "scaler" || var.iam.scaler_role_arn != null)
    error_message = "iam: create_execution_role = false needs execution_role_arn, and create_scaler_role = false needs scaler_role_arn."
  }
}

# -- cluster, logs, proxy ------------------------------------------------------------------------------------

variable "cluster_arn" {
  description = "An existing ECS cluster with the capacity providers FARGATE and FARGATE_SPOT; its services are named {prefix}-worker etc. Null: a cluster is made. Change: services are made anew; all tasks drain and stop, then new ones start, and rows wait in between."
  type        = string
  default     = null

  validation {
    condition     = alltrue([for arn in compact([var.cluster_arn]) : can(regex("^arn:[a-z-]+:ecs:[a-z0-9-]+:[0-9]{12}:cluster/[A-Za-z0-9_-]+$", arn))])
    error_message = "cluster_arn has to be the ARN of an ECS cluster, …:cluster/NAME."
  }
}

variable "create_cluster" {
  description = "Null: a cluster is made if cluster_arn is null. False: none is made, for a cluster_arn that is not known at plan. Change: as cluster_arn."
  type        = bool
  default     = null

  validation {
    condition     = var.create_cluster == null || var.create_cluster == (var.cluster_arn == null)
    error_message = "create_cluster = false needs cluster_arn, and create_cluster = true excludes it."
  }
}

variable "log_group_name" {
  description = "An existing log group, which sets its own retention and key. Null: /rowfleet/{prefix} is made. Change: rolling deployment; from null: the group that was made is destroyed with its logs."
  type        = string
  default     = null

  validation {
    condition     = alltrue([for name in compact([var.log_group_name]) : can(regex("^[A-Za-z0-9_./#-]{1,512}$", name))])
    error_message = "log_group_name has to be the name of a log group (letters, digits and . _ / # -), not its ARN."
  }
}

variable "log_retention_days" {
  description = "Days after which logs are deleted. Change: none for running rows."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days has to be one that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "logs" {
  description = "Delivery of logs to CloudWatch. mode non-blocking: lines wait in a buffer, and are lost when it is full; blocking: a task stops working when CloudWatch takes no logs. buffer: its size in the task's memory. Change: rolling deployment."
  type = object({
    mode   = optional(string, "non-blocking")
    buffer = optional(string, "25m")
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["non-blocking", "blocking"], var.logs.mode)
    error_message = "logs.mode has to be non-blocking or blocking."
  }

  validation {
    condition     = can(regex("^[1-9][0-9]{0,2}m$", var.logs.buffer))
    error_message = "logs.buffer has to be a size in MiB such as 25m."
  }
}

variable "proxy" {
  description = "HTTP proxy for all calls of the tasks, to AWS and to agents: HTTPS_PROXY, HTTP_PROXY, NO_PROXY. no_proxy: hosts and domains that are reached directly, such as .amazonaws.com in a VPC with endpoints; the addresses of ECS on the task itself are always in it. ECS pulls images, writes logs and reads agent_secrets without the proxy; so does the scaler, which runs outside the VPC. Null: none. Change: rolling deployment."
  type = object({
    url      = string
    no_proxy = optional(list(string), [])
  })
  default = null

  validation {
    condition     = var.proxy == null || can(regex("^https?://[^/@\\s]+(:[0-9]+)?/?$", var.proxy.url))
    error_message = "proxy.url has to be an address such as http://proxy.example:3128, without a user: everybody who sees the task definition could read its password."
  }

  validation {
    condition     = var.proxy == null || alltrue([for host in try(var.proxy.no_proxy, []) : can(regex("^\\.?[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)*(:[0-9]+)?$", host))])
    error_message = "proxy.no_proxy: hosts, domains such as .example.com, or single addresses; ranges and wildcards are not understood."
  }
}

# -- scaling -------------------------------------------------------------------------------------------------

variable "scaling" {
  description = "scaler: a Lambda with the same image sets the sizes of all services once a minute, from and to zero. alarms: workers only, by CloudWatch alarms and Application Auto Scaling; control keeps running. Change: none; between the two, services keep their size until the next decision."
  type        = string
  default     = "scaler"
  nullable    = false

  validation {
    condition     = contains(["scaler", "alarms"], var.scaling)
    error_message = "scaling has to be scaler or alarms."
  }

  validation {
    condition     = var.scaling != "scaler" || var.image == null || can(regex("^[0-9]{12}\\.dkr\\.ecr[a-z-]*\\.${local.region}\\.", var.image))
    error_message = "scaling = \"scaler\" runs the image as a Lambda function, which takes images only from ECR in its own region: push the image to the repository of this module, or set scaling = \"alarms\"."
  }
}

variable "scaler" {
  description = "Decisions of the scaler: idle_minutes without work before a service goes to its minimum; cooldown_s without need of its tasks before a service gets fewer. memory of the function in MiB. reserved_concurrency: null, as a new account has no concurrency to reserve (ten in all); 1 where it has. Change: none for running rows."
  type = object({
    idle_minutes         = optional(number, 10)
    cooldown_s           = optional(number, 300)
    memory               = optional(number, 256)
    reserved_concurrency = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.scaler.idle_minutes >= 1 && var.scaler.idle_minutes <= 1440 && var.scaler.cooldown_s >= 1 && var.scaler.cooldown_s <= 3600
    error_message = "scaler: idle_minutes is from 1 to 1440, cooldown_s from 1 to 3600."
  }

  validation {
    condition     = var.scaler.memory >= 128 && var.scaler.memory <= 3008 && floor(var.scaler.memory) == var.scaler.memory
    error_message = "scaler.memory has to be a whole number from 128 to 3008 MiB."
  }

  validation {
    condition     = var.scaler.reserved_concurrency == null || try(var.scaler.reserved_concurrency >= 1 && floor(var.scaler.reserved_concurrency) == var.scaler.reserved_concurrency, false)
    error_message = "scaler.reserved_concurrency has to be null or a whole number from 1 (0 would stop the scaler)."
  }
}

# -- events --------------------------------------------------------------------------------------------------

variable "events" {
  description = "Who is told when runs start, pause and end: a webhook (webhook_secret_arn: where its signing secret lies in Secrets Manager or SSM; allow_private: it may be in your own network), an EventBridge bus (name or ARN), an SNS topic; kinds: which events, null for all. task_tokens: answer Step Functions tasks that wait for runs. endpoints: services that an isolated network reaches for it, out of events, sns and states; null: follows from the others, which have to be known at plan then. Change: rolling deployment; runs that were started before tell those who were named then."
  type = object({
    webhook_url        = optional(string)
    webhook_secret_arn = optional(string)
    event_bus          = optional(string)
    topic_arn          = optional(string)
    kinds              = optional(list(string))
    allow_private      = optional(bool, false)
    task_tokens        = optional(bool, false)
    endpoints          = optional(set(string))
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

  validation {
    condition     = var.events.endpoints == null || try(length(setsubtract(var.events.endpoints, ["events", "sns", "states"])) == 0, false)
    error_message = "events.endpoints has to be null or some of events, sns, states."
  }
}

variable "state_machine" {
  description = "Create a Step Functions state machine {prefix}-run, which starts a run, waits for it by a task token and goes on with its manifest. Change to false: executions that wait are stopped, their runs go on."
  type        = bool
  default     = false
  nullable    = false
}

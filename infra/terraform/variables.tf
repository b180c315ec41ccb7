# Descriptions and types are those of the modules that the variables are passed to, where they are validated as well.
# Only variables that this module uses itself are validated here.

# -- names -----------------------------------------------------------------------------------------------------------

variable "prefix" {
  description = "Begins the name of everything; queues are {prefix}-ingest, {prefix}-rows, {prefix}-aggregate. One per deployment in an account and region. A change makes queues and table anew: rows in progress are lost."
  type        = string
  default     = "rowfleet"
  nullable    = false
}

variable "tags" {
  description = "Tags on everything but the uploaded mappings and schemas (S3 allows ten on an object), beside application and deployment."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "parts" {
  description = "Modules to make: data, network, fleet, observability. Left out: data, for a configuration that takes existing_data from another one; network, with existing_vpc and security_group_ids; fleet and with it observability, for data only. To leave out data or network later destroys what it made."
  type        = set(string)
  default     = ["data", "network", "fleet", "observability"]
  nullable    = false

  validation {
    condition     = length(var.parts) > 0 && length(setsubtract(var.parts, ["data", "network", "fleet", "observability"])) == 0
    error_message = "parts has to be some of data, network, fleet and observability."
  }

  validation {
    condition     = contains(var.parts, "data") || contains(var.parts, "fleet")
    error_message = "parts has to contain data or fleet: the others serve these two."
  }

  validation {
    condition     = contains(var.parts, "network") || !contains(var.parts, "fleet") || (var.network == "existing" && length(var.security_group_ids) > 0)
    error_message = "parts: a fleet without network needs network = existing, existing_vpc and security_group_ids."
  }

  validation {
    condition     = !contains(var.parts, "observability") || contains(var.parts, "fleet")
    error_message = "parts: observability watches the fleet; leave it out as well."
  }
}

# -- image and tasks -------------------------------------------------------------------------------------------------

variable "image" {
  description = "Container image with tag or digest, e.g. {repository_url}:0.1.0. Null: nothing runs, so that the first image can be pushed to the new repository. With scaling = scaler it has to lie in ECR in this region, as the image of one architecture (Lambda takes no multi-platform index). Change: rolling deployment; to null: all tasks drain and stop, rows wait."
  type        = string
  default     = null
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
}

variable "image_repository_arns" {
  description = "Further ECR repositories that tasks may pull from. Change: none for running rows."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "architecture" {
  description = "Processor architecture of tasks and scaler: ARM64 (a fifth cheaper) or X86_64. The image has to be built for it. Change: rolling deployment; together with an image of the new architecture."
  type        = string
  default     = "ARM64"
  nullable    = false
}

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
}

variable "splitter" {
  description = "A service of its own for the splitter, for deployments that read many large files at once: cpu (1024 = 1 vCPU), memory (MiB) and tasks; 0 pauses the start of runs. Null: control plays it. Change from or to null: the role moves by a rolling deployment of control; of cpu or memory: rolling deployment; of tasks: none."
  type = object({
    cpu    = optional(number, 256)
    memory = optional(number, 512)
    tasks  = optional(number, 1)
  })
  default = null
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
}

variable "aggregator" {
  description = "A service of its own for aggregator and sweeper: cpu (1024 = 1 vCPU), memory (MiB) and tasks, at least one. Null: control plays them. Change from or to null: the roles move by a rolling deployment of control; of cpu or memory: rolling deployment; of tasks: none."
  type = object({
    cpu    = optional(number, 256)
    memory = optional(number, 512)
    tasks  = optional(number, 1)
  })
  default = null
}

variable "stop_timeout_s" {
  description = "Seconds from SIGTERM to SIGKILL; the service drains in 20 s less. ECS allows at most 120. Change: rolling deployment."
  type        = number
  default     = 120
  nullable    = false
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
}

variable "scaling" {
  description = "scaler: a Lambda with the same image sets the sizes of all services once a minute, from and to zero. alarms: workers only, by CloudWatch alarms and Application Auto Scaling; control keeps running. Change: none; between the two, services keep their size until the next decision."
  type        = string
  default     = "scaler"
  nullable    = false
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
}

# -- agents ----------------------------------------------------------------------------------------------------------

variable "agent_environment" {
  description = "Variables that mappings refer to as $${NAME}, such as an agent's URL. Not for secrets: they can be read in the task definition. Change: rolling deployment of the workers."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "agent_secrets" {
  description = "Variables that mappings refer to as $${NAME}, whose value is the ARN of a Secrets Manager secret (with :key:: behind it for one field of a JSON secret) or of an SSM parameter. Terraform never sees the secret. Change: rolling deployment of the workers; a new value of a secret reaches only tasks that start after it."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "agent_policy_statements" {
  description = "Further permissions of workers, for agents inside AWS, e.g. { actions = [\"lambda:InvokeFunction\"], resources = [ARN] }. Change: none for running rows; a permission that is taken away fails calls."
  type = list(object({
    actions   = list(string)
    resources = list(string)
  }))
  default  = []
  nullable = false
}

variable "policy_statements" {
  description = "Further permissions by role: splitter, worker or aggregator (with the sweeper), whichever service plays it; for example kms:Decrypt of one role only. Change: none for running rows; a permission that is taken away fails calls."
  type = map(list(object({
    actions   = list(string)
    resources = list(string)
  })))
  default  = {}
  nullable = false
}

variable "mapping_policy_statements" {
  description = "Further permissions of workers by the mapping that needs them, as agent_policy_statements; the mapping's name is in the statement's id. A worker serves all mappings, so each may use them. Change: none for running rows; a permission that is taken away fails calls."
  type = map(list(object({
    actions   = list(string)
    resources = list(string)
  })))
  default  = {}
  nullable = false
}

variable "source_bucket_arns" {
  description = "Other buckets in this account whose CSV files jobs may name as their source. Change: none; a run whose bucket is taken away fails."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "output_prefixes" {
  description = "Where in the bucket results may be written; a job that names another output fails. Change: none; a run whose output is taken away fails at its end."
  type        = list(string)
  default     = ["results/"]
  nullable    = false
}

variable "proxy" {
  description = "HTTP proxy for all calls of the tasks, to AWS and to agents: HTTPS_PROXY, HTTP_PROXY, NO_PROXY. no_proxy: hosts and domains that are reached directly, such as .amazonaws.com in a VPC with endpoints; the addresses of ECS on the task itself are always in it. ECS pulls images, writes logs and reads agent_secrets without the proxy; so does the scaler, which runs outside the VPC. Null: none. Change: rolling deployment."
  type = object({
    url      = string
    no_proxy = optional(list(string), [])
  })
  default = null

  validation {
    condition = (
      var.proxy == null || !contains(var.parts, "network") || length(var.security_group_ids) > 0 || !can(regex("^https?://", var.proxy.url)) ||
      contains(setunion([443], var.agent_ports), try(tonumber(regex(":([0-9]+)/?$", var.proxy.url)[0]), startswith(var.proxy.url, "https:") ? 443 : 80, 443))
    )
    error_message = "proxy: the security group of this module does not let tasks connect to the proxy's port; add it to agent_ports, or bring security_group_ids."
  }
}

# -- configuration ---------------------------------------------------------------------------------------------------

variable "mappings_dir" {
  description = "Local folder whose *.yaml and *.yml are uploaded to config/mappings/. Null: none; copy them there yourself. A run in progress keeps the mapping that it started with."
  type        = string
  default     = null
}

variable "schemas_dir" {
  description = "Local folder whose *.yaml and *.yml are uploaded to config/schemas/. Null: none."
  type        = string
  default     = null
}

# -- data ------------------------------------------------------------------------------------------------------------

variable "existing_data" {
  description = "With parts without data: the output data of the configuration that made it; give kms_key_arn again if that has one. Change of a name in it: rolling deployment; batches in the old table and queues stay there."
  type = object({
    bucket                    = string
    bucket_arn                = string
    table                     = string
    table_arn                 = string
    queue_arns                = map(string)
    queue_urls                = map(string)
    queue_names               = map(string)
    config_url                = string
    rows_visibility_timeout_s = number
    max_message_bytes         = number
    max_receives              = number
    ttl_days                  = number
    cli_environment           = map(string)
  })
  default = null

  validation {
    condition     = (var.existing_data != null) == !contains(var.parts, "data")
    error_message = "existing_data takes the place of the part data: give existing_data and leave data out of parts, or neither."
  }
}

variable "bucket_name" {
  description = "Name of the bucket that is made, unique among all of AWS. Null: {prefix}-{account}-{region}. A change makes a new, empty bucket: runs in progress lose their sources."
  type        = string
  default     = null
}

variable "existing_bucket" {
  description = "Name of a bucket of yours in this account and region, known when Terraform plans. No bucket, encryption, policy, versioning or lifecycle is made then; an EventBridge rule tells the ingest queue of new files under incoming/, so the bucket has to send its events to EventBridge. Null: a bucket is made. A change moves the deployment to the other bucket: runs in progress lose their sources."
  type        = string
  default     = null
}

variable "table_name" {
  description = "Name of the DynamoDB table. Null: {prefix}-results. A change makes a new, empty table: all batches are lost."
  type        = string
  default     = null
}

variable "table_throughput" {
  description = "Units a second of the table, which is on demand. max_read_units and max_write_units bound its cost: beyond them DynamoDB throttles and rows wait; null: the account's limit (-1 takes a limit away again). warm_read_units and warm_write_units are what a new table serves at once, from 12000 and 4000 up, for a single fee; AWS never lowers them. Terraform does not set them: the output warm_throughput_command does, run once."
  type = object({
    max_read_units   = optional(number)
    max_write_units  = optional(number)
    warm_read_units  = optional(number)
    warm_write_units = optional(number)
  })
  default  = {}
  nullable = false
}

variable "point_in_time_recovery" {
  description = "The table can be restored to any second of the last 35 days, for a price by its size. False: it cannot."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "KMS key of bucket, table and logs, which all roles may use. Null: keys that AWS owns. The key's policy has to let CloudWatch Logs of this region use it. Change: none for running rows."
  type        = string
  default     = null
}

variable "secret_kms_key_arns" {
  description = "KMS keys that encrypt secrets and parameters (agent_secrets, credentials of a registry, the signing secret of events): the roles that read them may decrypt with these keys. Change: none for running rows."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "source_kms_key_arns" {
  description = "KMS keys of source_bucket_arns: the tasks may decrypt with them. Change: none; a run whose key is taken away fails."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "ttl_days" {
  description = "Days that batches and rows stay in the table; longer than the longest run. A change concerns what is written from then on."
  type        = number
  default     = 7
  nullable    = false
}

variable "expire_days" {
  description = "Days after which S3 deletes objects: work (large payloads, more than ttl_days; null: one day more), old_versions (versions that were replaced or deleted), and incoming, sources and results (null: never). With existing_bucket the rules are yours, and work only says what `rowfleet setup --check` expects."
  type = object({
    work         = optional(number)
    old_versions = optional(number, 30)
    incoming     = optional(number)
    sources      = optional(number)
    results      = optional(number)
  })
  default  = {}
  nullable = false
}

variable "protect_data" {
  description = "Keeps table and bucket from being destroyed while they hold data. Set it to false, apply, and then destroy. An existing_bucket is never destroyed."
  type        = bool
  default     = true
  nullable    = false
}

variable "rows_visibility_timeout_s" {
  description = "Seconds that a received row is hidden; extended while it is held. Null: 60, or 30 more than the longest agent time-out of the mappings."
  type        = number
  default     = null
}

variable "max_receives" {
  description = "Deliveries of a message before it goes to the dead-letter queue. Rows that were delivered more often than a lower number go there at once."
  type        = number
  default     = 5
  nullable    = false
}

variable "max_message_bytes" {
  description = "Largest message of the queues; the message of a larger row has only its place in the source, which workers read from S3. More than 262144 needs version 6.8 of the AWS provider or newer. Lower it only while nothing runs: until tasks have the new limit, the queue refuses their messages, and they send them again."
  type        = number
  default     = 262144
  nullable    = false
}

# -- network ---------------------------------------------------------------------------------------------------------

variable "network" {
  description = "Network of the tasks. public: a VPC of its own, public addresses, no inbound connections, costs nothing at rest. nat: a VPC of its own, private subnets behind a NAT gateway. isolated: a VPC of its own without the internet, for agents inside AWS. existing: your VPC. A change starts new tasks in the new network before the old one goes; rows of tasks that still drain then are delivered again."
  type        = string
  default     = "public"
  nullable    = false
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that this module creates. A change creates another VPC, with another address of its NAT gateway, and moves the tasks there as a change of network does."
  type        = string
  default     = "10.60.0.0/16"
  nullable    = false
}

variable "availability_zones" {
  description = "Names of two to six availability zones for the VPC that this module creates; leave out those without Fargate. Empty: the first two by name. A change moves the tasks of zones that are left out; the NAT gateway is in the first by name, and gets another address with another first zone. An existing VPC has its own."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "existing_vpc" {
  description = "With network = existing: its id, the subnets for the tasks, and whether tasks need a public address there. They have to reach SQS, DynamoDB, S3, ECR, CloudWatch Logs, ECS and the agents."
  type = object({
    vpc_id           = string
    subnet_ids       = list(string)
    assign_public_ip = optional(bool, false)
  })
  default = null
}

variable "security_group_ids" {
  description = "Security groups of yours for the tasks; none is created then. They have to allow HTTPS to AWS and the way to the agents, and nothing inbound. A change replaces the tasks, which drain first."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "agent_ports" {
  description = "TCP ports that tasks may connect to, for agents, at the addresses of egress. 443 is always open, for AWS."
  type        = set(number)
  default     = []
  nullable    = false
}

variable "egress" {
  description = "Addresses that tasks may connect to, on 443 and agent_ports: IPv4 and IPv6 ranges and prefix lists; dns: also on port 53 (UDP and TCP), which only name servers other than the VPC's own need. S3, DynamoDB and endpoints of a VPC of this module are open in any case; SQS, ECR and Logs have to be among the addresses unless they have endpoints."
  type = object({
    cidr_blocks      = optional(list(string), ["0.0.0.0/0"])
    ipv6_cidr_blocks = optional(list(string), [])
    prefix_list_ids  = optional(list(string), [])
    dns              = optional(bool, true)
  })
  default  = {}
  nullable = false
}

variable "interface_endpoints" {
  description = "With network = isolated: further AWS services that agents live in, e.g. lambda, bedrock-runtime, bedrock-agentcore. Each costs by the hour in each zone. Change: none for other calls; a service that is taken away is not reached any more."
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

variable "secret_stores" {
  description = "With network = isolated and agent_secrets or a webhook: where the secrets lie, secretsmanager, ssm or both; each gets an interface endpoint. Secrets of the same configuration have no ARN yet that would tell."
  type        = set(string)
  default     = ["secretsmanager"]
  nullable    = false

  validation {
    condition     = length(setsubtract(var.secret_stores, ["secretsmanager", "ssm"])) == 0
    error_message = "secret_stores has to be some of secretsmanager and ssm."
  }

  validation {
    condition     = var.network != "isolated" || alltrue([for arn in values(var.agent_secrets) : try(contains(var.secret_stores, split(":", arn)[2]), true)])
    error_message = "secret_stores has to name the service of each ARN in agent_secrets (secretsmanager or ssm): without its endpoint, tasks in an isolated network cannot start."
  }
}

variable "endpoint_policies" {
  description = "Policy of an endpoint as JSON, by its service (s3, dynamodb or one of endpoint_services); null for AWS's own, which allows everything. Without an entry: requests of principals of this account, and for s3 also the layers of images in ECR. Agents that are called under a role of another account, and objects in S3 that another account has signed a URL for, need an entry."
  type        = map(string)
  default     = {}
  nullable    = false
}

# -- cluster and roles -----------------------------------------------------------------------------------------------

variable "cluster_arn" {
  description = "An existing ECS cluster with the capacity providers FARGATE and FARGATE_SPOT; its services are named {prefix}-worker etc. Null: a cluster is made. Change: services are made anew; all tasks drain and stop, then new ones start, and rows wait in between."
  type        = string
  default     = null
}

variable "create_cluster" {
  description = "Null: a cluster is made if cluster_arn is null. False: none is made, for a cluster_arn that is not known at plan. Change: as cluster_arn."
  type        = bool
  default     = null
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
}

# -- watching --------------------------------------------------------------------------------------------------------

variable "alarms" {
  description = "Create the alarms, the rule on failed tasks and, without topic_arn, their topic. false: none of them."
  type        = bool
  default     = true
  nullable    = false
}

variable "topic_arn" {
  description = "SNS topic of yours that alarms and failed tasks go to; its policy has to contain topic_policy_json, and its key must not be alias/aws/sns, which CloudWatch and EventBridge cannot use. Null: one is created."
  type        = string
  default     = null
}

variable "create_topic" {
  description = "Create the topic. Null: if topic_arn is null. Say false for a topic of the same configuration, whose ARN is not known before its first apply."
  type        = bool
  default     = null
}

variable "alarm_email" {
  description = "Address that alarms are mailed to, once its owner confirmed the subscription. Null: none; subscribe to the topic yourself."
  type        = string
  default     = null
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
}

variable "not_running_minutes" {
  description = "Minutes in which messages wait and no task of their service runs, after which that is an alarm; longer than a start of tasks from zero."
  type        = number
  default     = 10
  nullable    = false
}

variable "throttled_minutes" {
  description = "Minutes in which AWS throttled a call of the services, among five more, that are an alarm. Now and then is usual: calls are repeated."
  type        = number
  default     = 15
  nullable    = false
}

variable "log_group_name" {
  description = "An existing log group, which sets its own retention and key. Null: /rowfleet/{prefix} is made. Change: rolling deployment; from null: the group that was made is destroyed with its logs."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "Days after which logs are deleted. Change: none for running rows."
  type        = number
  default     = 30
  nullable    = false
}

variable "logs" {
  description = "Delivery of logs to CloudWatch. mode non-blocking: lines wait in a buffer, and are lost when it is full; blocking: a task stops working when CloudWatch takes no logs. buffer: its size in the task's memory. Change: rolling deployment."
  type = object({
    mode   = optional(string, "non-blocking")
    buffer = optional(string, "25m")
  })
  default  = {}
  nullable = false
}

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
}

variable "state_machine" {
  description = "Create a Step Functions state machine {prefix}-run, which starts a run, waits for it by a task token and goes on with its manifest. Change to false: executions that wait are stopped, their runs go on."
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

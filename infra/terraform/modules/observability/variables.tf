variable "prefix" {
  description = "Begins the name of every alarm, of the topic, the rule and the dashboard; the value of the metrics' dimension service."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.prefix))
    error_message = "prefix has to be 3 to 20 characters: small letters, digits and hyphens, beginning with a letter and not ending with a hyphen."
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

# -- watched ---------------------------------------------------------------------------------------------

variable "queue_names" {
  description = "Names of the queues by ingest, rows and aggregate; others, such as the dead-letter queues, may be there and are not watched."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(setsubtract(["ingest", "rows", "aggregate"], keys(var.queue_names))) == 0
    error_message = "queue_names has to name ingest, rows and aggregate; pass on queue_names of the data module."
  }
}

variable "cluster" {
  description = "Name of the ECS cluster that the services are in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.cluster))
    error_message = "cluster has to be the name of an ECS cluster, not its ARN."
  }
}

variable "services" {
  description = "ECS services by name: the roles that a service plays, and metric_role, the value of the metrics' dimension role (its roles, sorted and joined with +). Empty: nothing runs yet, and only queues are watched."
  type = map(object({
    roles       = set(string)
    metric_role = string
  }))
  nullable = false

  validation {
    condition     = alltrue([for service in values(var.services) : length(service.roles) > 0 && length(setsubtract(service.roles, ["splitter", "worker", "aggregator", "sweeper"])) == 0])
    error_message = "services: the roles of each have to be some of splitter, worker, aggregator and sweeper."
  }

  validation {
    condition     = alltrue([for service in values(var.services) : service.metric_role == join("+", sort(service.roles))])
    error_message = "services: metric_role has to be the service's roles, sorted and joined with +, such as aggregator+splitter+sweeper; tasks write their metrics under that name."
  }
}

variable "scaling" {
  description = "Who sets the number of tasks. scaler: a Lambda function, and everything may be at zero at rest, so that no alarm asks for a task without work. alarms: autoscaling of workers; the other services always run."
  type        = string
  default     = "scaler"
  nullable    = false

  validation {
    condition     = contains(["scaler", "alarms"], var.scaling)
    error_message = "scaling has to be scaler or alarms."
  }
}

variable "scaler_function" {
  description = "With scaling = scaler: name of the scaler's Lambda function. Null: none, as long as there are no services."
  type        = string
  default     = null

  validation {
    condition     = var.scaling != "scaler" || length(var.services) == 0 || var.scaler_function != null
    error_message = "scaler_function has to name the Lambda function of the scaler while scaling = scaler: if it stops, no task starts."
  }

  validation {
    condition     = var.scaler_function == null || can(regex("^[A-Za-z0-9_-]{1,64}$", var.scaler_function))
    error_message = "scaler_function has to be the name of a Lambda function, not its ARN."
  }
}

variable "min_tasks" {
  description = "Worker tasks that always run: with 1 or more, an alarm tells when none does, also without messages."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_tasks >= 0 && var.min_tasks <= 1000 && floor(var.min_tasks) == var.min_tasks
    error_message = "min_tasks has to be a whole number from 0 to 1000."
  }
}

# -- told ------------------------------------------------------------------------------------------------

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

  validation {
    condition     = var.topic_arn == null || can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$", var.topic_arn))
    error_message = "topic_arn has to be the ARN of a standard SNS topic."
  }
}

variable "create_topic" {
  description = "Create the topic. Null: if topic_arn is null. Say false for a topic of the same configuration, whose ARN is not known before its first apply."
  type        = bool
  default     = null

  validation {
    condition     = var.create_topic == null || var.create_topic == (var.topic_arn == null)
    error_message = "create_topic has to be true without topic_arn and false with it; leave it out unless the topic is of the same configuration."
  }
}

variable "alarm_email" {
  description = "Address that alarms are mailed to, once its owner confirmed the subscription. Null: none; subscribe to the topic yourself."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email has to be an e-mail address."
  }
}

# -- thresholds ------------------------------------------------------------------------------------------

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

variable "not_running_minutes" {
  description = "Minutes in which messages wait and no task of their service runs, after which that is an alarm; longer than a start of tasks from zero."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.not_running_minutes >= 5 && var.not_running_minutes <= 120 && floor(var.not_running_minutes) == var.not_running_minutes
    error_message = "not_running_minutes has to be a whole number from 5 to 120: a start from zero takes up to five minutes."
  }
}

variable "throttled_minutes" {
  description = "Minutes in which AWS throttled a call of the services, among five more, that are an alarm. Now and then is usual: calls are repeated."
  type        = number
  default     = 15
  nullable    = false

  validation {
    condition     = var.throttled_minutes >= 5 && var.throttled_minutes <= 120 && floor(var.throttled_minutes) == var.throttled_minutes
    error_message = "throttled_minutes has to be a whole number from 5 to 120."
  }
}

variable "dashboard" {
  description = "Create a CloudWatch dashboard (the first three of an account are free)."
  type        = bool
  default     = true
  nullable    = false
}

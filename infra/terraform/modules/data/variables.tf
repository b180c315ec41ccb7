# -- names -----------------------------------------------------------------------------------------------

variable "prefix" {
  description = "Begins the name of everything; queues are {prefix}-ingest, {prefix}-rows, {prefix}-aggregate. One per deployment in an account and region. A change makes queues and table anew: rows in progress are lost."
  type        = string
  default     = "rowfleet"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.prefix))
    error_message = "prefix has to be 3 to 20 characters: small letters, digits and hyphens, beginning with a letter and not ending with a hyphen (it becomes part of bucket and role names)."
  }
}

variable "tags" {
  description = "Tags on everything but the uploaded mappings and schemas (S3 allows ten on an object), beside application and deployment."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && length(key) <= 128])
    error_message = "tags: keys have at most 128 characters and do not begin with aws:, which AWS keeps for itself."
  }

  validation {
    condition     = length(setunion(keys(var.tags), ["application", "deployment"])) <= 50
    error_message = "tags: AWS allows 50 on a resource, application and deployment included; leave some out."
  }
}

# -- bucket ----------------------------------------------------------------------------------------------

variable "bucket_name" {
  description = "Name of the bucket that is made, unique among all of AWS. Null: {prefix}-{account}-{region}. A change makes a new, empty bucket: runs in progress lose their sources."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name has to be 3 to 63 characters: small letters, digits and hyphens, without a hyphen at either end (dots break TLS names)."
  }
}

variable "existing_bucket" {
  description = "Name of a bucket of yours in this account and region, known when Terraform plans. No bucket, encryption, policy, versioning or lifecycle is made then; an EventBridge rule tells the ingest queue of new files under incoming/, so the bucket has to send its events to EventBridge. Null: a bucket is made. A change moves the deployment to the other bucket: runs in progress lose their sources."
  type        = string
  default     = null

  validation {
    condition     = var.existing_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.existing_bucket))
    error_message = "existing_bucket has to be the name of a bucket: 3 to 63 small letters, digits, hyphens and dots, not an ARN or an address s3://…."
  }

  validation {
    condition     = var.existing_bucket == null || var.bucket_name == null
    error_message = "existing_bucket and bucket_name exclude each other: bucket_name is the name of a bucket that is made; leave one of them out."
  }
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
  description = "Keeps table and bucket from being destroyed while they hold data. Set it to false, apply, and then destroy. An existing_bucket is never destroyed."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "KMS key for table and bucket, not for an existing_bucket. Null: keys that AWS owns, at no cost. Queues always use SQS's own."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn has to be the ARN of a key (…:key/…), not an alias or an id."
  }
}

# -- table -----------------------------------------------------------------------------------------------

variable "table_name" {
  description = "Name of the DynamoDB table. Null: {prefix}-results. A change makes a new, empty table: all batches are lost."
  type        = string
  default     = null

  validation {
    condition     = var.table_name == null || can(regex("^[a-zA-Z0-9_.-]{3,255}$", var.table_name))
    error_message = "table_name has to be 3 to 255 characters: letters, digits, underscore, hyphen and dot."
  }
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

  validation {
    condition     = alltrue([for units in values(var.table_throughput) : units == null || try(floor(units) == units, false)])
    error_message = "table_throughput: units a second are whole numbers."
  }

  validation {
    condition     = alltrue([for units in [var.table_throughput.max_read_units, var.table_throughput.max_write_units] : units == null || try(units >= 1000 || units == -1, false)])
    error_message = "table_throughput.max_read_units and max_write_units have to be at least 1000, or -1 for no limit: one commit of 99 rows takes 200 units and more."
  }

  validation {
    condition     = var.table_throughput.warm_read_units == null || try(var.table_throughput.warm_read_units >= 12000, false)
    error_message = "table_throughput.warm_read_units has to be at least 12000, which every table on demand serves from the start."
  }

  validation {
    condition     = var.table_throughput.warm_write_units == null || try(var.table_throughput.warm_write_units >= 4000, false)
    error_message = "table_throughput.warm_write_units has to be at least 4000, which every table on demand serves from the start."
  }

  validation {
    condition = alltrue([
      for units in [
        [var.table_throughput.warm_read_units, var.table_throughput.max_read_units],
        [var.table_throughput.warm_write_units, var.table_throughput.max_write_units],
      ] : units[0] == null || units[1] == null || units[1] == -1 || try(units[0] <= units[1], false)
    ])
    error_message = "table_throughput: warm units must not exceed the maximum; raise max_read_units or max_write_units, or leave them out."
  }
}

variable "point_in_time_recovery" {
  description = "The table can be restored to any second of the last 35 days, for a price by its size. False: it cannot."
  type        = bool
  default     = true
  nullable    = false
}

variable "ttl_days" {
  description = "Days that batches and rows stay in the table; longer than the longest run. A change concerns what is written from then on."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.ttl_days >= 1 && var.ttl_days <= 3650 && floor(var.ttl_days) == var.ttl_days
    error_message = "ttl_days has to be a whole number from 1 to 3650."
  }
}

# -- queues ----------------------------------------------------------------------------------------------

variable "rows_visibility_timeout_s" {
  description = "Seconds that a received row is hidden; extended while it is held. Null: 60, or 30 more than the longest agent time-out of the mappings."
  type        = number
  default     = null

  validation {
    condition     = var.rows_visibility_timeout_s == null || try(var.rows_visibility_timeout_s >= 10 && var.rows_visibility_timeout_s <= 43200 && floor(var.rows_visibility_timeout_s) == var.rows_visibility_timeout_s, false)
    error_message = "rows_visibility_timeout_s has to be a whole number from 10 to 43200 (SQS: at most 12 hours)."
  }
}

variable "max_receives" {
  description = "Deliveries of a message before it goes to the dead-letter queue. Rows that were delivered more often than a lower number go there at once."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_receives >= 3 && var.max_receives <= 1000 && floor(var.max_receives) == var.max_receives
    error_message = "max_receives has to be a whole number from 3 to 1000: below 3, two reclaimed Spot tasks would cost a row."
  }
}

variable "max_message_bytes" {
  description = "Largest message of the queues; the message of a larger row has only its place in the source, which workers read from S3. More than 262144 needs version 6.8 of the AWS provider or newer. Lower it only while nothing runs: until tasks have the new limit, the queue refuses their messages, and they send them again."
  type        = number
  default     = 262144
  nullable    = false

  validation {
    condition     = var.max_message_bytes >= 65536 && var.max_message_bytes <= 1048576 && floor(var.max_message_bytes) == var.max_message_bytes
    error_message = "max_message_bytes has to be a whole number from 65536 to 1048576 (SQS: at most 1 MiB)."
  }
}

# -- configuration ---------------------------------------------------------------------------------------

variable "mappings_dir" {
  description = "Local folder whose *.yaml and *.yml are uploaded to config/mappings/. Null: none; copy them there yourself. A run in progress keeps the mapping that it started with."
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

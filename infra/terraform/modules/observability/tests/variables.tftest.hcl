# Every variable refuses wrong values at plan time and accepts right ones. A run lists all variables that must fail.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  prefix          = "rowfleet"
  queue_names     = { ingest = "rowfleet-ingest", rows = "rowfleet-rows", aggregate = "rowfleet-aggregate" }
  cluster         = "rowfleet"
  scaler_function = "rowfleet-scaler"
  services = {
    worker  = { roles = ["worker"], metric_role = "worker" }
    control = { roles = ["splitter", "aggregator", "sweeper"], metric_role = "aggregator+splitter+sweeper" }
  }
}

run "first_bad_value_of_each" {
  command = plan

  variables {
    prefix                 = "Rowfleet"
    tags                   = { "aws:owner" = "me" }
    queue_names            = { ingest = "rowfleet-ingest", rows = "rowfleet-rows" }
    cluster                = "arn:aws:ecs:eu-central-1:123456789012:cluster/rowfleet"
    services               = { worker = { roles = ["agent"], metric_role = "agent" } }
    min_tasks              = -1
    topic_arn              = "my-topic"
    alarm_email            = "nobody"
    oldest_message_alarm_s = { rows = 10 }
    not_running_minutes    = 4
    throttled_minutes      = 1
  }

  expect_failures = [
    var.prefix, var.tags, var.queue_names, var.cluster, var.services, var.min_tasks, var.topic_arn,
    var.alarm_email, var.oldest_message_alarm_s, var.not_running_minutes, var.throttled_minutes,
  ]
}

run "second_bad_value_of_each" {
  command = plan

  variables {
    prefix                 = "ends-with-"
    services               = { control = { roles = ["splitter", "sweeper"], metric_role = "control" } }
    scaling                = "manual"
    min_tasks              = 0.5
    topic_arn              = "arn:aws:sns:eu-central-1:123456789012:told.fifo"
    alarm_email            = "a b@example.com"
    oldest_message_alarm_s = { ingest = 345601 }
    not_running_minutes    = 7.5
    throttled_minutes      = 121
  }

  expect_failures = [
    var.prefix, var.services, var.scaling, var.min_tasks, var.topic_arn, var.alarm_email, var.oldest_message_alarm_s,
    var.not_running_minutes, var.throttled_minutes,
  ]
}

run "scaler_without_a_function" {
  command = plan

  variables {
    scaler_function = null
  }

  expect_failures = [var.scaler_function]
}

run "scaler_by_its_arn" {
  command = plan

  variables {
    scaler_function = "arn:aws:lambda:eu-central-1:123456789012:function:rowfleet-scaler"
  }

  expect_failures = [var.scaler_function]
}

run "service_without_roles" {
  command = plan

  variables {
    services = { worker = { roles = [], metric_role = "" } }
  }

  expect_failures = [var.services]
}

run "topic_that_is_named_and_created" {
  command = plan

  variables {
    topic_arn    = "arn:aws:sns:eu-central-1:123456789012:ops"
    create_topic = true
  }

  expect_failures = [var.create_topic]
}

run "topic_that_is_neither_named_nor_created" {
  command = plan

  variables {
    create_topic = false
  }

  expect_failures = [var.create_topic]
}

run "good_values_of_each" {
  command = plan

  variables {
    prefix                 = "my-rows-2"
    tags                   = { team = "data" }
    queue_names            = { ingest = "a", rows = "b", aggregate = "c", rows-dlq = "d" }
    cluster                = "Shared_1"
    services               = { worker = { roles = ["worker"], metric_role = "worker" }, aggregator = { roles = ["sweeper", "aggregator"], metric_role = "aggregator+sweeper" } }
    scaling                = "alarms"
    scaler_function        = null
    min_tasks              = 2
    alarms                 = true
    topic_arn              = "arn:aws:sns:eu-central-1:123456789012:ops"
    create_topic           = false
    alarm_email            = "ops@example.com"
    oldest_message_alarm_s = { ingest = 60, rows = 345600 }
    not_running_minutes    = 120
    throttled_minutes      = 5
    dashboard              = false
  }
}

run "good_values_before_anything_runs" {
  command = plan

  variables {
    services        = {}
    scaler_function = null
  }
}

run "values_that_are_not_known_yet" {
  command = plan

  module {
    source = "./tests/unknown"
  }
}

# An upgrade from a version without submodules keeps the resources. The two small services become one, control, which
# is new; splitter and aggregator end with their roles.

# -- data

moved {
  from = aws_s3_bucket.data
  to   = module.data[0].aws_s3_bucket.data[0]
}

moved {
  from = aws_s3_bucket_versioning.data
  to   = module.data[0].aws_s3_bucket_versioning.data[0]
}

moved {
  from = aws_s3_bucket_server_side_encryption_configuration.data
  to   = module.data[0].aws_s3_bucket_server_side_encryption_configuration.data[0]
}

moved {
  from = aws_s3_bucket_ownership_controls.data
  to   = module.data[0].aws_s3_bucket_ownership_controls.data[0]
}

moved {
  from = aws_s3_bucket_public_access_block.data
  to   = module.data[0].aws_s3_bucket_public_access_block.data[0]
}

moved {
  from = aws_s3_bucket_policy.data
  to   = module.data[0].aws_s3_bucket_policy.data[0]
}

moved {
  from = aws_s3_bucket_lifecycle_configuration.data
  to   = module.data[0].aws_s3_bucket_lifecycle_configuration.data[0]
}

moved {
  from = aws_s3_bucket_notification.incoming
  to   = module.data[0].aws_s3_bucket_notification.incoming[0]
}

moved {
  from = aws_s3_object.config
  to   = module.data[0].aws_s3_object.config
}

moved {
  from = aws_sqs_queue.main
  to   = module.data[0].aws_sqs_queue.main
}

moved {
  from = aws_sqs_queue.dead_letters
  to   = module.data[0].aws_sqs_queue.dead_letters
}

moved {
  from = aws_sqs_queue_policy.main
  to   = module.data[0].aws_sqs_queue_policy.main
}

moved {
  from = aws_sqs_queue_redrive_allow_policy.dead_letters
  to   = module.data[0].aws_sqs_queue_redrive_allow_policy.dead_letters
}

moved {
  from = aws_dynamodb_table.results
  to   = module.data[0].aws_dynamodb_table.results
}

# -- network

moved {
  from = aws_vpc.own
  to   = module.network[0].aws_vpc.own
}

moved {
  from = aws_default_security_group.own
  to   = module.network[0].aws_default_security_group.own
}

moved {
  from = aws_internet_gateway.own
  to   = module.network[0].aws_internet_gateway.own
}

moved {
  from = aws_subnet.public
  to   = module.network[0].aws_subnet.public
}

moved {
  from = aws_subnet.private
  to   = module.network[0].aws_subnet.private
}

moved {
  from = aws_route_table.public
  to   = module.network[0].aws_route_table.public
}

moved {
  from = aws_route_table.private
  to   = module.network[0].aws_route_table.private
}

moved {
  from = aws_route.internet
  to   = module.network[0].aws_route.internet
}

moved {
  from = aws_route.nat
  to   = module.network[0].aws_route.nat
}

moved {
  from = aws_route_table_association.public
  to   = module.network[0].aws_route_table_association.public
}

moved {
  from = aws_route_table_association.private
  to   = module.network[0].aws_route_table_association.private
}

moved {
  from = aws_eip.nat
  to   = module.network[0].aws_eip.nat
}

moved {
  from = aws_nat_gateway.own
  to   = module.network[0].aws_nat_gateway.own
}

moved {
  from = aws_vpc_endpoint.gateway
  to   = module.network[0].aws_vpc_endpoint.gateway
}

moved {
  from = aws_vpc_endpoint.interface
  to   = module.network[0].aws_vpc_endpoint.interface
}

moved {
  from = aws_security_group.tasks
  to   = module.network[0].aws_security_group.tasks[0]
}

moved {
  from = aws_security_group.endpoints
  to   = module.network[0].aws_security_group.endpoints
}

moved {
  from = aws_vpc_security_group_ingress_rule.endpoints
  to   = module.network[0].aws_vpc_security_group_ingress_rule.endpoints
}

moved {
  from = aws_vpc_security_group_egress_rule.tasks
  to   = module.network[0].aws_vpc_security_group_egress_rule.tasks
}

# -- fleet

# Terraform takes one source for each target: a fleet of fixed size first gets the address of a scaled one.
moved {
  from = aws_ecs_service.fixed["worker"]
  to   = aws_ecs_service.scaled["worker"]
}

moved {
  from = aws_ecs_service.scaled["worker"]
  to   = module.fleet[0].aws_ecs_service.service["worker"]
}

moved {
  from = aws_appautoscaling_target.worker[0]
  to   = module.fleet[0].aws_appautoscaling_target.service["worker"]
}

moved {
  from = aws_appautoscaling_policy.track[0]
  to   = module.fleet[0].aws_appautoscaling_policy.track["worker"]
}

moved {
  from = aws_appautoscaling_policy.wake[0]
  to   = module.fleet[0].aws_appautoscaling_policy.wake["worker"]
}

moved {
  from = aws_appautoscaling_policy.sleep[0]
  to   = module.fleet[0].aws_appautoscaling_policy.sleep["worker"]
}

moved {
  from = aws_cloudwatch_metric_alarm.scaling
  to   = module.fleet[0].aws_cloudwatch_metric_alarm.scaling
}

moved {
  from = aws_ecs_task_definition.service
  to   = module.fleet[0].aws_ecs_task_definition.service
}

moved {
  from = aws_iam_role.task
  to   = module.fleet[0].aws_iam_role.task
}

moved {
  from = aws_iam_role_policy.task
  to   = module.fleet[0].aws_iam_role_policy.task
}

moved {
  from = aws_iam_role.state_machine
  to   = module.fleet[0].aws_iam_role.state_machine
}

moved {
  from = aws_iam_role_policy.state_machine
  to   = module.fleet[0].aws_iam_role_policy.state_machine
}

moved {
  from = aws_sfn_state_machine.run
  to   = module.fleet[0].aws_sfn_state_machine.run
}

moved {
  from = aws_ecs_cluster.main
  to   = module.fleet[0].aws_ecs_cluster.main[0]
}

moved {
  from = aws_ecs_cluster_capacity_providers.main
  to   = module.fleet[0].aws_ecs_cluster_capacity_providers.main[0]
}

moved {
  from = aws_cloudwatch_log_group.service
  to   = module.fleet[0].aws_cloudwatch_log_group.service[0]
}

moved {
  from = aws_iam_role.execution
  to   = module.fleet[0].aws_iam_role.execution[0]
}

moved {
  from = aws_iam_role_policy.execution
  to   = module.fleet[0].aws_iam_role_policy.execution[0]
}

moved {
  from = aws_ecr_repository.image
  to   = module.fleet[0].aws_ecr_repository.image[0]
}

moved {
  from = aws_ecr_lifecycle_policy.image
  to   = module.fleet[0].aws_ecr_lifecycle_policy.image[0]
}

# -- observability

moved {
  from = aws_cloudwatch_metric_alarm.watch
  to   = module.observability[0].aws_cloudwatch_metric_alarm.watch
}

moved {
  from = aws_cloudwatch_dashboard.main
  to   = module.observability[0].aws_cloudwatch_dashboard.main
}

moved {
  from = aws_sns_topic_subscription.email
  to   = module.observability[0].aws_sns_topic_subscription.email
}

moved {
  from = aws_sns_topic.alarms
  to   = module.observability[0].aws_sns_topic.alarms[0]
}

moved {
  from = aws_sns_topic_policy.alarms
  to   = module.observability[0].aws_sns_topic_policy.alarms[0]
}

# Two ways on which S3 tells the ingest queue of a dropped file. A bucket of this module notifies the queue. An existing
# bucket may have notifications of others, which S3 keeps in one configuration: there an EventBridge rule does it.

# S3 sends a test message before it accepts the notification, so the queue's policy must exist. It has no filter_suffix,
# which S3 compares by case: the splitter decides which files are tables, and logs why another file starts no run.
resource "aws_s3_bucket_notification" "incoming" {
  count = local.own_bucket ? 1 : 0

  bucket = aws_s3_bucket.data[0].id

  queue {
    id            = "rowfleet-ingest"
    queue_arn     = aws_sqs_queue.main["ingest"].arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "incoming/"
  }

  depends_on = [aws_sqs_queue_policy.main]
}

resource "aws_cloudwatch_event_rule" "incoming" {
  count = local.own_bucket ? 0 : 1

  name        = local.incoming_rule
  description = "Files under incoming/ of ${local.bucket_name} start runs of rowfleet."
  tags        = local.tags

  event_pattern = jsonencode({
    source        = ["aws.s3"]
    "detail-type" = ["Object Created"]
    detail = {
      bucket = { name = [local.bucket_name] }
      object = { key = [{ prefix = "incoming/" }] }
    }
  })
}

# Without a transformer, so that the queue gets the event as S3 wrote it.
resource "aws_cloudwatch_event_target" "incoming" {
  count = local.own_bucket ? 0 : 1

  rule      = aws_cloudwatch_event_rule.incoming[0].name
  target_id = "rowfleet-ingest"
  arn       = aws_sqs_queue.main["ingest"].arn

  # EventBridge tries for a day; an event that it could not deliver until then is a dead letter like others.
  dead_letter_config {
    arn = aws_sqs_queue.dead_letters["ingest"].arn
  }

  depends_on = [aws_sqs_queue_policy.main]
}

# Variables of this module itself refuse wrong values; the modules' own tests try the others.

mock_provider "aws" {
  source = "./tests/mocks"
}

run "unknown_part" {
  command = plan

  variables {
    parts               = ["data", "monitoring"]
    interface_endpoints = ["lambda"]
    secret_stores       = ["vault"]
  }

  expect_failures = [var.parts, var.interface_endpoints, var.secret_stores]
}

run "only_helpers" {
  command = plan

  variables {
    parts = ["network"]
  }

  expect_failures = [var.parts]
}

run "a_fleet_without_a_network" {
  command = plan

  variables {
    parts = ["data", "fleet"]
  }

  expect_failures = [var.parts]
}

run "alarms_on_nothing" {
  command = plan

  variables {
    parts = ["data", "observability"]
  }

  expect_failures = [var.parts]
}

run "endpoints_that_are_no_service" {
  command = plan

  variables {
    network             = "isolated"
    interface_endpoints = ["com.amazonaws.x.Lambda"]
  }

  expect_failures = [var.interface_endpoints]
}

run "a_store_without_an_endpoint" {
  command = plan

  variables {
    network       = "isolated"
    agent_secrets = { TOKEN = "arn:aws:ssm:eu-central-1:123456789012:parameter/token" }
  }

  expect_failures = [var.secret_stores]
}

run "data_twice" {
  command = plan

  variables {
    parts = ["fleet", "network"]
  }

  expect_failures = [var.existing_data]
}

run "a_proxy_behind_a_closed_port" {
  command = plan

  variables {
    proxy = { url = "http://proxy.example:3128" }
  }

  expect_failures = [var.proxy]
}

run "a_proxy_without_a_port" {
  command = plan

  variables {
    proxy       = { url = "http://proxy.example" }
    agent_ports = [3128]
  }

  expect_failures = [var.proxy]
}

run "a_proxy_behind_an_open_port" {
  command = plan

  variables {
    proxy       = { url = "http://proxy.example:3128/" }
    agent_ports = [3128]
  }

  assert {
    condition     = output.cluster == "rowfleet"
    error_message = "a proxy whose port is open is refused"
  }
}

environment  = "prod"
max_tasks    = 50
spot_percent = 70
agent_url    = "https://agent.example.com/"
alarm_email  = "on-call@example.com"

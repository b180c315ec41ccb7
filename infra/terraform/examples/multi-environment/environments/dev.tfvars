environment  = "dev"
max_tasks    = 2
spot_percent = 100
agent_url    = "https://agent.dev.example.com/"

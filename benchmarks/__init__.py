"""What Saefari costs: time by stages, memory, payloads, and SAEDashboard beside it."""

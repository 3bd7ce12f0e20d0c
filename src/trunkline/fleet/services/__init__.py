"""Services as people already have them: compose files, ECS parameters, task definitions."""

"""Where others reach the model: an OpenAI-compatible server, a web page, tools for agents."""

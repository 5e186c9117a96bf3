"""Serving: an OpenAI-compatible server, a web page and MCP tools."""

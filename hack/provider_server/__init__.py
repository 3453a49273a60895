"""A server that answers as the Gemini API and OpenAI's are documented to, with faults on demand, for tests and demos.

`python -m hack.provider_server` runs it; process.FakeGemini starts it as a program and sets its faults.
"""

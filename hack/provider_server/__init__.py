"""A server that answers as the Gemini API is documented to, with faults on demand, for tests and demos with the real SDK.

`python -m hack.provider_server` runs it; process.FakeGemini starts it as a program and sets its faults.
"""

"""How the API server is reached: where it is, which certificates are trusted, and as whom requests are sent.

`kubeconfig` and `pod` read the files, `exec_plugin` runs a program that a kubeconfig names, `credentials` keeps what is in
force and reads it again when it has changed, and `session` applies it to each request.
"""

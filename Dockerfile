# The operator's image, for linux/amd64 and linux/arm64:
#   docker build --tag embedding-operator:dev .
# Both stages use the same base image, because the virtual environment needs the same Python in both. Another base image needs python3
# (3.11 or newer) with venv.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG UV_VERSION=0.13.9
# For builds behind a proxy with its own certificate authority: --build-arg PIP_CERT=… --build-arg SSL_CERT_FILE=…
ARG PIP_CERT
ARG SSL_CERT_FILE
ENV UV_PYTHON=python3 \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/embedding-operator \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir "uv==${UV_VERSION}"
WORKDIR /build
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN /opt/uv/bin/uv sync --quiet --locked --no-default-groups --all-extras --no-install-project
COPY operator operator
COPY plugin plugin
COPY worker worker
RUN /opt/uv/bin/uv sync --quiet --locked --no-default-groups --all-extras --no-editable
COPY hack/release/trim.py ./
# Removes modules that are never imported, and compiles the others, because the root file system is read-only at run time.
RUN /opt/embedding-operator/bin/python trim.py

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="embedding-operator" \
      org.opencontainers.image.description="Keeps the vector embeddings of PostgreSQL tables fresh" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/yellowbook-dev/embedding-operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/embedding-operator /opt/embedding-operator
ENV PATH=/opt/embedding-operator/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=embedding-operator
# kopf needs a user name, which it takes from the variable USER, because /etc/passwd has no entry for the user below or for the one that
# OpenShift chooses. The user is a number, so that the kubelet can check that it is not root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["embedding-operator"]
CMD ["run"]
